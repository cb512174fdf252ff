"""Distances between samples and their tests against SciPy and scikit-learn; intervals; shares of labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assessor_checks._intervals import wilson
from assessor_checks.data import _drift as maths


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_distance_is_scipys_ties_included(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, rng.integers(1, 30)).astype(float), rng.integers(0, 6, rng.integers(1, 30)).astype(float)
    assert maths.ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (100, 50), (400, 700)])
def test_p_value_is_near_the_exact_one(n, m):
    # Stephens' correction against SciPy's exact p-values: within 0.02, and within a tenth below 0.05.
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=n), rng.normal(size=m) + rng.uniform(0, 1.5 / np.sqrt(min(n, m)) * 2)
        exact = stats.ks_2samp(a, b, method="exact").pvalue
        found = maths.ks_p(maths.ks_distance(a, b), n, m)
        assert found == pytest.approx(exact, abs=0.02 if exact > 0.05 else 0.1 * exact + 0.003)


def test_interval_covers():
    # Normal curves a standard deviation apart: distance 0.383. The bound holds at any size, so nearly always.
    true, rng = 2 * stats.norm.cdf(0.5) - 1, np.random.default_rng(0)
    for _ in range(100):
        distance = maths.ks_distance(rng.normal(size=80), rng.normal(1, 1, 60))
        found = maths.ks_interval(distance, 80, 60)
        assert found.low <= true <= found.high
    reach = np.sqrt(np.log(80) / 2) * (1 / np.sqrt(80) + 1 / np.sqrt(60))  # 4 / 0.05 = 80
    assert maths.ks_interval(0.5, 80, 60).low == pytest.approx(0.5 - reach)
    assert maths.ks_interval(0.01, 80, 60).low == 0.0


def test_counts_against_scipy_and_rare_values_are_merged():
    a, b = np.array([30, 20, 50]), np.array([25, 35, 20])
    assert maths.counts_p(a, b) == pytest.approx(stats.chi2_contingency([a, b], correction=False).pvalue)
    rare = maths.counts_p(np.append(a, [1, 1, 1, 8]), np.append(b, [0, 1, 1, 0]))
    # Expected in the smaller sample: 0.4, 0.9, 0.9 and 3.5 rows sum to 5.7: one cell of 11 and 2.
    merged = [np.append(a, 11), np.append(b, 2)]
    assert rare == pytest.approx(stats.chi2_contingency(merged, correction=False).pvalue)
    assert maths.counts_p(np.array([3, 0]), np.array([2, 1])) == 1.0


def test_level_of_counts():
    rng, shares = np.random.default_rng(0), np.array([0.4, 0.3, 0.2, 0.05, 0.03, 0.02])
    level = sum(maths.counts_p(rng.multinomial(80, shares), rng.multinomial(60, shares)) <= 0.05 for _ in range(600))
    assert level <= 46  # 30 give or take 16 (3 se)


def test_move_is_scipys_wasserstein_distance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(1, 2, 40)
    assert maths.moved(a, b) == pytest.approx(stats.wasserstein_distance(a, b) / a.std())
    assert maths.moved(np.ones(3), b) is None
    assert maths.moved(a, np.append(b, np.inf)) is None


def test_stability_index_by_hand_and_by_chance():
    a = np.arange(20.0)
    b = np.concatenate([np.zeros(10), np.full(10, 19.0)])
    p = np.full(10, 2.5 / 25)
    q = np.array([10.5, *[0.5] * 8, 10.5]) / 25
    assert maths.stability_index(a, b) == pytest.approx(((q - p) * np.log(q / p)).sum())
    rng = np.random.default_rng(0)
    drawn = [maths.stability_index(rng.normal(size=500), rng.normal(size=400)) for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(9 * (1 / 500 + 1 / 400), rel=0.1)


def test_shifts_rank_columns_and_correct_for_their_number():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 4)), rng.normal(size=(100, 4))
    b[:, 2] += 1
    a[:, 3] = b[:, 3] = 7
    b[:30, 0] = np.nan
    found = maths.shifts(a, b, ("w", "x", "y", "z"))
    assert [shift.name for shift in found[:2]] == ["y", "w (missing)"]
    assert {shift.name for shift in found} == {"w", "w (missing)", "x", "y"}  # z does not vary
    missing = found[1]
    assert (missing.distance, missing.n, missing.m) == (pytest.approx(0.3), 200, 100)
    assert missing.p_value == pytest.approx(stats.chi2_contingency([[200, 0], [70, 30]], correction=False).pvalue)
    assert next(shift for shift in found if shift.name == "w").m == 70
    smallest = min(found, key=lambda shift: shift.p_value)
    assert smallest.adjusted == pytest.approx(4 * smallest.p_value)
    assert maths.shifts(np.ones((5, 1)), np.ones((4, 1)), ("z",)) == []
    only = maths.shifts(np.full((5, 1), np.nan), np.ones((4, 1)), ("z",))
    assert [shift.name for shift in only] == ["z (missing)"]


def test_share_change_by_hand():
    found = maths.share_change((30, 10), (100, 80))
    first, second = wilson(30, 100), wilson(10, 80)
    assert found.value == pytest.approx(0.175)
    assert found.low == pytest.approx(0.175 - np.hypot(first.value - first.low, second.high - second.value))
    assert maths.share_change((30, 30), (100, 100)).low == 0.0
    assert maths.share_change((10, 30), (80, 100)) == pytest.approx(found)


@pytest.mark.slow
def test_shares_of_labels_are_recovered():
    # Predictions right with 80 to 90 %; shares go from 0.3, 0.4, 0.3 to 0.6, 0.1, 0.3. 95 % of 100, at least 88.
    confusion = np.array([[0.8, 0.1, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]])
    old, new, rng, held = np.array([0.3, 0.4, 0.3]), np.array([0.6, 0.1, 0.3]), np.random.default_rng(0), 0
    exact = maths.shifted_shares(np.round(1e6 * old[:, None] * confusion), np.round(1e6 * new @ confusion), 0)
    assert [share.value for share in exact] == pytest.approx(new, abs=1e-5)
    for seed in range(100):
        table = rng.multinomial(900, (old[:, None] * confusion).ravel()).reshape(3, 3)
        found = maths.shifted_shares(table, rng.multinomial(600, new @ confusion), seed)
        held += found[0].low <= 0.6 <= found[0].high
    assert held >= 88
    assert maths.shifted_shares(np.full((2, 2), 25), np.array([5, 5]), 0) is None
    assert maths.shifted_shares(np.diag([5, 0]), np.array([5, 5]), 0) is None
