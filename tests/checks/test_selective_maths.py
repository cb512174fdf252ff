"""Selective prediction against plain loops, closed forms, scikit-learn and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from assessor_checks import _selective as maths

rng_strategy = st.integers(0, 10_000).map(np.random.default_rng)


def drawn(rng, n, digits=1):
    return rng.random(n).round(digits), (rng.random(n) < 0.4).astype(float)


def test_by_hand():
    confidence, errors = np.array([0.6, 0.9, 0.8, 0.7]), np.array([1.0, 0, 1, 0])
    assert maths.curve(confidence, errors) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert maths.aurc(confidence, errors).value == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert maths.oracle(2, 4) == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert maths.excess_aurc(confidence, errors).value == pytest.approx(1 / 8)
    possible = 1 / 2 - (1 / 3 + 1 / 2) / 4
    assert maths.rejection_ratio(confidence, errors).value == pytest.approx((1 / 2 - 1 / 3) / possible)
    assert maths.level(confidence, errors, 0.5) == maths.Level(0.8, 2, 1)
    assert maths.level(confidence, errors, 0.51) == maths.Level(0.7, 3, 1)


@given(rng_strategy, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_ties_count_as_in_random_order(rng, n):
    confidence, errors = drawn(rng, n)
    expected = np.zeros(n)
    order = np.argsort(-confidence, kind="stable")
    for k in range(1, n + 1):
        sure = 0.0
        for value in set(confidence.tolist()):
            members = [i for i in order if confidence[i] == value]
            before = sum(confidence > value)
            taken = min(max(k - before, 0), len(members))
            sure += taken * errors[members].mean()
        expected[k - 1] = sure / k
    assert maths.curve(confidence, errors) == pytest.approx(expected)


@given(rng_strategy, st.integers(3, 30))
@settings(max_examples=40, deadline=None)
def test_influence_is_the_derivative_by_weights(rng, n):
    confidence, errors = np.sort(rng.random(n))[::-1], (rng.random(n) < 0.5).astype(float)
    errors[:2] = 0, 1

    def areas(weights):
        accepted, wrong = np.cumsum(weights), np.cumsum(weights * errors)
        return (weights * wrong / accepted).sum() / weights.sum()

    for found in (maths.aurc(confidence, errors),):
        for row in range(n):
            step = np.zeros(n)
            step[row] = 1e-5
            slope = (areas(1 + step) - areas(1 - step)) / 2e-5
            assert found.influence[row] / n == pytest.approx(slope, abs=1e-6)
        assert found.influence.sum() == pytest.approx(0, abs=1e-9)


@given(rng_strategy, st.integers(3, 60), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_bounds_hold(rng, n, digits):
    confidence, errors = drawn(rng, n, digits)
    errors[:2] = 0, 1
    area, rate = maths.aurc(confidence, errors).value, errors.mean()
    assert maths.oracle(int(errors.sum()), n).mean() <= area + 1e-12
    assert area <= maths.worst_area(rate) + 1 / n
    assert maths.excess_aurc(confidence, errors).value >= 0
    assert maths.aurc(-errors, errors).value == pytest.approx(maths.oracle(int(errors.sum()), n).mean(), rel=0.6)
    assert maths.aurc(np.zeros(n), errors).value == pytest.approx(rate)
    assert maths.rejection_ratio(np.zeros(n), errors).value == pytest.approx(0, abs=1e-9)
    for found in (maths.excess_aurc(confidence, errors), maths.rejection_ratio(confidence, errors)):
        assert found.influence.sum() == pytest.approx(0, abs=1e-6)


def test_best_and_worst_order():
    errors = np.concatenate([np.zeros(60), np.ones(40)])
    best = maths.rejection_ratio(-np.arange(100.0), errors)
    assert best.value == pytest.approx(1)
    assert maths.ratio_interval(best, 40) == pytest.approx((1, 0.025 ** (1 / 40), 1))
    assert maths.aurc(-np.arange(100.0), errors).value == pytest.approx(0.4 + 0.6 * np.log(0.6), abs=0.005)
    assert maths.aurc(np.arange(100.0), errors).value == pytest.approx(maths.worst_area(0.4), abs=0.005)
    assert maths.worst_area(0.0) == 0


@given(rng_strategy, st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_auroc_against_scikit_learn(rng, n, m):
    high, low = rng.random(n).round(1) + 0.1, rng.random(m).round(1)
    found = maths.auroc(high, low)
    truth = np.concatenate([np.ones(n), np.zeros(m)])
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([high, low])))
    assert 0 <= found.low <= found.value <= found.high <= 1
    swapped = maths.auroc(low, high)
    assert swapped.low == pytest.approx(1 - found.high, abs=1e-9)


def worlds(rng, n):
    confidence = rng.random(n)
    return confidence, (rng.random(n) < 0.5 * (1 - confidence) ** 2 + 0.02).astype(float)


@pytest.mark.parametrize("name", ["aurc", "excess_aurc", "rejection_ratio", "auroc"])
def test_intervals_cover(name):
    def found(confidence, errors):
        if name == "auroc":
            return maths.auroc(confidence[errors == 0], confidence[errors == 1])
        area = getattr(maths, name)(confidence, errors)
        return maths.ratio_interval(area, 1) if name == "rejection_ratio" else area.positive_interval()

    true = found(*worlds(np.random.default_rng(1), 400_000)).value
    intervals = [found(*worlds(np.random.default_rng([2, seed]), 500)) for seed in range(300)]
    hits = sum(one.low <= true <= one.high for one in intervals)
    assert hits >= 270  # 285 wanted, standard deviation 3.8; measured 93 to 96 % over 600 simulations


def test_wholly_apart_groups_have_an_interval():
    found = maths.auroc(np.arange(10, 20.0), np.arange(10.0))
    assert found.value == found.high == 1
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert maths.auroc(np.arange(100, 200.0), np.arange(100.0)).low > found.low
    one = maths.auroc(np.ones(1), np.zeros(1))
    assert one.low < 0.5 < one.high
