"""Twins of rows, what they add, and the order of rows."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from assessor_checks._intervals import wilson
from assessor_checks.data import _leakage as maths


def twins(train, test, tolerance=0.01, labels=None):
    labels = labels or (np.zeros(len(train)), np.zeros(len(test)))
    return maths.twins(train, test, labels, tolerance, 0)


def test_twins_by_hand():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(100, 3))
    test = rng.normal(size=(5, 3))
    test[0] = train[7]
    test[1] = train[8] + 0.005 * train.std(axis=0)  # 0.005 deviations in every column
    test[2] = train[9] + 0.02 * train.std(axis=0)
    found = twins(train, test, labels=(np.arange(100), np.array([7, 0, 9, 1, 2])))
    assert found.exact.tolist() == [True, False, False, False, False]
    assert found.close.tolist() == [True, True, False, False, False]
    assert found.agrees.tolist() == [True, False, False, False, False]
    assert set(zip(found.second.tolist(), found.first.tolist(), strict=True)) == {(0, 7), (1, 8)}
    assert found.distance.max() == pytest.approx(0.005)
    assert (found.chance, found.complete, found.pictures) == (0.0, True, False)
    assert twins(train, test, tolerance=0.03).close.tolist() == [True, True, True, False, False]


def test_constant_columns_do_not_dilute_the_distance():
    rng = np.random.default_rng(0)
    train = np.column_stack([rng.normal(size=50), np.ones((50, 99))])
    test = train[:1] + np.eye(1, 100) * 0.05
    assert not twins(train, test).close.any()
    assert twins(np.ones((5, 2)), np.ones((3, 2))).exact.all()


def test_missing_values_match_exactly_only():
    train = np.array([[np.nan, 1.0], [2.0, 3.0], [4.0, 9.0]])
    found = twins(train, np.array([[np.nan, 1.0], [np.nan, 1.0001], [np.inf, 3.0]]))
    assert found.close.tolist() == [True, False, False]


def test_coarse_rows_have_twins_by_chance():
    rng = np.random.default_rng(0)
    found = twins(rng.integers(0, 3, (300, 2)), rng.integers(0, 3, (100, 2)))
    assert found.chance > 0.9


def test_pictures_are_compared_as_pictures():
    data = load_digits()
    moved = np.roll(data.images[:3], 1, axis=2) * 1.2 + 1
    found = twins(data.images[:500], np.concatenate([moved, data.images[1000:1050]]), tolerance=0.1)
    assert found.pictures
    assert found.close[:3].all()
    assert not found.close[3:].any()
    assert not found.exact.any()


def test_share_inflation_by_hand():
    right = np.array([True] * 9 + [False] + [True] * 25 + [False] * 15)
    close = np.arange(50) < 10
    found = maths.share_inflation(right, close)
    assert found.value == pytest.approx(right.mean() - right[~close].mean())
    seen, new = wilson(9, 10), wilson(25, 40)
    down = np.hypot(seen.value - seen.low, new.high - new.value)
    assert found.low == pytest.approx(0.2 * (seen.value - new.value - down))
    assert found.low < found.value < found.high
    every = maths.share_inflation(np.ones(50, bool), close)
    assert every.low < 0 < every.high  # no error was seen, which does not mean that there is none


def test_error_inflation_by_hand_and_its_coverage():
    errors = np.array([0.0, 0.0, 1.0, 3.0])
    found = maths.error_inflation(errors, np.array([True, True, False, False]))
    assert found.value == pytest.approx(2 - 1)
    # Errors of 1 with twins (half the rows) and 2 without: 0.5. 95 % of 300 is 285; 3 standard errors are 11.
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        close = rng.random(200) < 0.5
        found = maths.error_inflation(rng.exponential(np.where(close, 1, 2)), close)
        held += found.low <= 0.5 <= found.high
    assert held >= 274


def test_row_order_against_shuffling():
    groups = np.repeat([0, 1, 2], [30, 20, 10])
    rng = np.random.default_rng(0)
    some = rng.permutation(groups)
    seen = (some[1:] == some[:-1]).sum()
    shuffled = rng.permuted(np.tile(groups, (4000, 1)), axis=1)
    drawn = (shuffled[:, 1:] == shuffled[:, :-1]).sum(axis=1)
    order = maths.row_order(some)
    two_sided = np.mean(np.abs(drawn - drawn.mean()) >= abs(seen - drawn.mean()))
    assert order.p_value == pytest.approx(two_sided, abs=0.12)  # a whole number against a smooth curve
    expected = (30 * 29 + 20 * 19 + 10 * 9) / (60 * 59)
    assert order.agreement.value == pytest.approx((seen / 59 - expected) / (1 - expected))


def test_sorted_and_alternating_rows():
    sorted_rows = maths.row_order(np.repeat([0, 1], 50))
    assert sorted_rows.agreement.low > 0.85
    assert sorted_rows.p_value < 1e-10
    assert maths.row_order(np.arange(100) % 2).agreement.high < -0.85
    assert maths.row_order(np.arange(10) % 2) is None
    assert maths.row_order(np.zeros(100)) is None


def test_level_and_coverage_of_row_order():
    # Shuffled: 5 % of 600 p-values under 0.05, 30 give or take 16 (3 se). Sticky rows: true agreement 0.7.
    rng, level, held = np.random.default_rng(0), 0, 0
    for _ in range(600):
        level += maths.row_order(rng.integers(0, 3, 150)).p_value <= 0.05
    for _ in range(100):
        fresh = rng.random(300) >= 0.7
        fresh[0] = True
        rows = rng.integers(0, 2, 300)[np.maximum.accumulate(np.where(fresh, np.arange(300), 0))]
        found = maths.row_order(rows).agreement
        held += found.low <= 0.7 <= found.high
    assert level <= 46
    assert held >= 88
