"""Codes, outliers, copies and conflicts, each by hand or against a plain loop."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from assessor_checks.data import _quality as maths


def codes(values):
    return [value for value, _ in maths.column(np.asarray(values, dtype=float))[0].codes]


def spread(n=500, seed=0):
    return np.random.default_rng(seed).normal(45, 15, n).round()


@pytest.mark.parametrize("code", [-999.0, -99.0, -1.0, 999.0, 9999.0, 1e20, 9.969209968386869e36])
@pytest.mark.parametrize(
    "values",
    [
        spread().clip(18, 95),
        np.random.default_rng(1).normal(32, 7, 500).clip(15, 60),
        np.random.default_rng(1).integers(1, 6, 500),
    ],
    ids=["age", "measured", "answers"],
)
def test_codes_are_suspected(values, code):
    values = np.array(values, dtype=float)
    values[:5] = code
    assert codes(values) == [code]


def test_two_codes_on_one_side_and_a_spike_that_is_no_usual_code():
    values = spread().clip(18, 95)
    values[:4], values[4:12] = 998, 999
    assert codes(values) == [999.0, 998.0]
    values[:6] = 888
    assert codes(values) == [999.0, 888.0]
    measured = np.random.default_rng(0).normal(100, 5, 500)
    measured[:10] = 0
    assert codes(measured) == [0.0]


def test_honest_columns_hold_no_codes():
    # 14 kinds of column, 60 draws each: none may be suspected.
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        n = int(rng.integers(60, 1500))
        found += [
            *map(codes, (rng.normal(size=n), rng.lognormal(0, 1.5, n), np.round(rng.lognormal(3, 1, n)))),
            *map(codes, (rng.poisson(2, n), rng.poisson(30, n), rng.standard_t(2, n), rng.geometric(0.3, n))),
            *map(codes, (rng.negative_binomial(1, 0.05, n), rng.integers(0, 2, n), rng.integers(0, 100, n))),
            *map(codes, (rng.choice([0, 0, 0, 0, 1, 5, 20], n), rng.integers(1, 6, n), rng.normal(size=n).clip(-2, 2))),
            codes(np.where(rng.random(n) < 0.9, 0, rng.lognormal(8, 1, n).round())),
        ]
    assert [item for item in found if item] == []


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine])
def test_real_data_hold_no_codes(load):
    table = load().data
    assert [index for index in range(table.shape[1]) if codes(table[:, index])] == []


def test_outliers_by_hand():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 100])
    far, beyond = maths.outliers(values, np.ones(10, bool))
    # Median 5.5, MAD 2.5: 0.6745 * 94.5 / 2.5 = 25 > 3.5; quartiles 3.25 and 7.75, fence 7.75 + 6.75 = 14.5.
    assert far.tolist() == beyond.tolist() == [False] * 9 + [True]
    assert maths.outliers(np.array([1.0, 1, 1, 5]), np.ones(4, bool)) == (None, pytest.approx([False] * 3 + [True]))
    assert maths.outliers(np.array([1.0, 1, 1, 1, 5]), np.ones(5, bool)) == (None, None)
    assert maths.outliers(np.array([np.nan]), np.zeros(1, bool)) == (None, None)


def test_column_by_hand():
    column, far = maths.column(np.array([np.nan, np.inf, 1.0, 1.0, 2.0, 7.0]), codes=[7.0])
    assert (column.missing, column.infinite, column.distinct) == (1, 1, 2)
    assert column.top == pytest.approx(2 / 6)
    assert column.kind == "two values"
    assert not far.any()
    kinds = {"empty": [np.nan], "constant": [3, 3], "few whole numbers": [1, 2, 3], "continuous": [1, 2, 2.5]}
    for kind, values in kinds.items():
        assert maths.column(np.array(values, dtype=float))[0].kind == kind
    assert maths.column(np.arange(30.0))[0].kind == "whole numbers"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=25))
def test_copies_against_a_plain_loop(rows):
    features, labels = np.array([[x] for x, _ in rows], dtype=float), np.array([y for _, y in rows])
    found = maths.copies(features, labels)
    by_input = {x: [y for other, y in rows if other == x] for x, _ in rows}
    assert found.repeats.tolist() == [row in rows[:index] for index, row in enumerate(rows)]
    assert found.conflicts.tolist() == [len(set(by_input[x])) > 1 for x, _ in rows]
    least = sum(len(group) - max(map(group.count, group)) for group in by_input.values())
    assert found.minority.sum() == least
    means = {x: np.mean(group) for x, group in by_input.items()}
    errors = [(y - means[x]) ** 2 for x, y in rows]
    assert maths.least_error(found.clumps, labels.astype(float)) == pytest.approx(errors)


def test_chance_repeats():
    rng = np.random.default_rng(0)
    assert maths.chance_repeats(rng.normal(size=(300, 3)), 0) == 0
    coarse = rng.integers(0, 2, (300, 2))
    assert maths.chance_repeats(coarse, 0) == pytest.approx(1 - 4 / 300)


def test_written_missing():
    assert maths.written_missing(pd.Series(["a", None, "n/a", " ", "b"], dtype=object)) == (1, 2, False)
    assert maths.written_missing(pd.Series([1, "a", math.nan], dtype=object)) == (1, 0, True)
    assert maths.written_missing(pd.Series([1, "?", 2], dtype=object)) == (0, 1, False)
    assert maths.written_missing(pd.Series([1.0, 2.0])) == (0, 0, False)


def test_equal_columns_and_codes_known_from_another_column():
    rng = np.random.default_rng(0)
    table = rng.normal(50, 5, (100, 4))
    table[:, 2] = table[:, 0]
    assert maths.same_columns(table) == [(0, 2)]
    assert maths.same_columns(np.ones((5, 2))) == []
    assert maths.same_columns(np.array([[True, True], [False, False]])) == [(0, 1)]
    table[:3, 1], table[4, 3] = -999, -999  # one row is not enough by itself
    found = maths.look(table, np.arange(100) % 2, tuple("abcd"), split="train", ranges={})
    assert [column.codes for column in found.columns] == [(), ((-999.0, 3),), (), ((-999.0, 1),)]
    assert np.flatnonzero(found.flags["code"]).tolist() == [0, 1, 2, 4]
    alone = maths.look(table[:, 3:], np.arange(100) % 2, ("d",), split="train", ranges={})
    assert alone.columns[0].codes == ()
