"""Coverage of combinations by counting, and the probability of the unseen against the truth by simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks.reliability import _coverage as coverage
from assessor_checks.reliability._coverage import OUTSIDE


def test_cells_of_a_range_hold_their_upper_end():
    age = coverage.in_range("age", 0, 10, 5)
    assert age.cells == ("0 to 2", "2 to 4", "4 to 6", "6 to 8", "8 to 10")
    column = pd.Series([0.0, 2.0, 2.1, 10.0, -0.1, 10.1, np.nan])
    assert age.codes(column).tolist() == [0, 0, 1, 4, OUTSIDE, OUTSIDE, OUTSIDE]


def test_cells_of_values():
    site = coverage.of_values("site", ("A", "B", 3.0))
    assert site.codes(pd.Series(["B", "A", "C", None])).tolist() == [1, 0, OUTSIDE, OUTSIDE]
    assert coverage.of_values("n", (1.0, 2)).codes(pd.Series([2.0, 1.0, 3.0, np.nan])).tolist() == [1, 0, -1, -1]
    assert coverage.of_values("b", ("False", "True")).codes(pd.Series([True, False])).tolist() == [1, 0]


def test_learned_features():
    many = coverage.learned("x", pd.Series(np.arange(101.0)), 4)
    assert many.cells == ("0 to 25", "25 to 50", "50 to 75", "75 to 100")
    assert np.bincount(many.codes(pd.Series(np.arange(101.0)))).tolist() == [26, 25, 25, 25]
    few = coverage.learned("k", pd.Series([1.0, 2.0, np.nan, 2.0]), 4)
    assert (few.cells, few.edges) == (("1", "2"), ())
    assert coverage.learned("one", pd.Series([5.0] * 9), 4) is None
    assert coverage.learned("id", pd.Series([f"r{i}" for i in range(200)]), 4) is None
    assert coverage.learned("inf", pd.Series([np.inf, *np.arange(20.0)]), 4).edges == (0, 4, 9, 14, 19)
    skewed = coverage.learned("s", pd.Series(np.r_[np.zeros(90), np.arange(1.0, 31)]), 4)
    assert len(skewed.cells) == len(set(skewed.cells)) < 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
def test_counts_are_those_of_looking_at_every_combination(seed, strength, minimum):
    rng = np.random.default_rng(seed)
    sizes = [2, 3, 2, 4]
    codes = np.stack([rng.integers(-1, size, 25) for size in sizes], axis=1)
    others = np.stack([rng.integers(-1, size, 40) for size in sizes], axis=1)
    ruled = [{0: 1, 3: 2}]
    found = coverage.combinations(sizes, codes, strength, impossible=ruled, others=others)
    part = total = known = both = 0
    for chosen in itertools.combinations(range(4), strength):
        for cells in itertools.product(*(range(sizes[feature]) for feature in chosen)):
            where = dict(zip(chosen, cells, strict=True))
            if where.get(0) == 1 and where.get(3) == 2:
                continue
            rows = int((codes[:, chosen] == cells).all(axis=1).sum())
            there = bool((others[:, chosen] == cells).all(axis=1).any())
            total += 1
            part += rows >= minimum
            known += there
            both += there and rows >= minimum
    assert coverage.covered(found, minimum) == (part, total)
    assert coverage.covered_of_others(found, minimum) == (both, known)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([4, 9, 16]))
def test_rows_alone_are_found_by_leaving_each_out(seed, strength, n):
    rng = np.random.default_rng(seed)
    sizes = [3, 4, 3]
    codes = np.stack([rng.integers(-1, size, n) for size in sizes], axis=1)

    def shown(rows):
        return {
            (chosen, tuple(row[list(chosen)]))
            for chosen in itertools.combinations(range(3), strength)
            for row in rows
            if (row[list(chosen)] >= 0).all()
        }

    def new(row, rows):
        return bool(shown([row]) - shown(rows))

    alone = [new(codes[i], np.delete(codes, i, axis=0)) for i in range(n)]
    leaving = sum(
        not alone[j] and new(codes[j], np.delete(codes, [i, j], axis=0)) for i, j in itertools.permutations(range(n), 2)
    )
    found = coverage.unseen(coverage.combinations(sizes, codes, strength), codes)
    assert found.alone == sum(alone)
    assert found.estimate.value == sum(alone) / n
    centre = (sum(alone) + 1) / (n + 2)
    half = 1.959963984540054 * np.sqrt((sum(alone) + 1) * (1 - sum(alone) / (n + 1)) + leaving) / n
    assert found.estimate.high == pytest.approx(min(1, max(found.estimate.value, centre + half)))


@pytest.mark.parametrize(("n", "sizes", "strength"), [(60, [30], 1), (200, [5] * 6, 2), (150, [4] * 5, 3)])
def test_probability_of_the_unseen_covers_the_truth(n, sizes, strength):
    """150 samples with values of falling probability; the truth from 4000 further rows: 4 errors below 95 % is 88 %."""
    rng = np.random.default_rng(0)
    shares = [0.6 ** np.arange(size) for size in sizes]

    def draw(count):
        return np.stack([rng.choice(len(p), size=count, p=p / p.sum()) for p in shares], axis=1)

    held, errors = 0, []
    for _ in range(150):
        codes, later = draw(n), draw(4000)
        found = coverage.unseen(coverage.combinations(sizes, codes, strength), codes).estimate
        counts = coverage.combinations(sizes, codes, strength, others=later)
        new = np.zeros(4000, bool)
        for one in counts:
            flat = np.ravel_multi_index(tuple(later[:, list(one.features)].T), one.shape)
            new |= one.rows[flat] == 0
        held += found.low <= new.mean() <= found.high
        errors.append(found.value - new.mean())
    assert held >= 0.88 * 150
    assert abs(np.mean(errors)) < 4 * np.std(errors) / 150**0.5 + 1 / n  # of n rows for n - 1: at most 1 / n too many


def test_nothing_alone_leaves_room_for_the_unseen():
    codes = np.repeat(np.arange(2), 50)[:, None]
    found = coverage.unseen(coverage.combinations([2], codes, 1), codes)
    assert (found.alone, found.estimate.value, found.estimate.low) == (0, 0, 0)
    assert found.estimate.high == pytest.approx(1 / 102 + 1.96 * np.sqrt(1) / 100, abs=1e-4)


def test_gaps_are_in_order():
    codes = np.array([[0, 0], [0, 1], [0, 0], [1, 0]])
    others = np.array([[1, 1], [1, 1], [0, 2]])
    found = coverage.combinations([2, 3], codes, 2, others=others)
    first, second, third = coverage.gaps(found, codes, 1, 9)
    assert (first.cells, first.rows, first.others, first.expected) == ((1, 1), 0, 2, 4 * 0.25 * 0.25)
    assert (second.cells, second.others) == ((0, 2), 1)
    assert (third.cells, third.others, third.expected) == ((1, 2), 0, 0)
    assert len(coverage.gaps(found, codes, 2, 3)) == 3
