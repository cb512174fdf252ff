"""Membership attacks against plain loops, closed forms and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from assessor_checks.privacy import _membership as maths

rng_strategy = st.integers(0, 10_000).map(np.random.default_rng)


def test_signal_by_hand_and_without_cancellation():
    outputs = np.array([[0.7, 0.2, 0.1], [1e-20, 1.0, 0.0], [0.0, 0.0, 1.0]])
    labels = np.array([0, 1, 1])
    found = maths.signal(outputs, labels, 1e-12)
    assert found == pytest.approx([math.log(0.7 / 0.3), -math.log(1e-12), math.log(1e-12)])
    assert maths.signal(outputs, labels, 1e-30)[1] == pytest.approx(-math.log(1e-20))
    assert maths.signal(np.array([1.0, 5.0]), np.array([3.0, 5.0]), 0.5) == pytest.approx([-math.log(2), math.log(2)])


def test_floor_is_half_the_least_distance_from_an_end():
    forest = np.array([[0.99, 0.01], [1.0, 0.0], [0.5, 0.5]])
    assert maths.floor_of(forest, np.array([0, 0, 1])) == pytest.approx(1e-3)  # capped: 0.005
    forest[0] = 0.999, 0.001
    assert maths.floor_of(forest, np.array([0, 0, 1])) == pytest.approx(5e-4)
    assert maths.floor_of(np.eye(2), np.array([0, 1])) == 1e-3
    assert maths.floor_of(np.array([1.0, 2, 2.001]), np.array([1.0, 3, 2])) == pytest.approx(5e-4)
    assert maths.floor_of(np.zeros(3), np.zeros(3)) == 1e-3
    assert maths.floor_of(np.array([[1 - 1e-15, 1e-15]]), np.array([0])) == 1e-12


@given(rng_strategy, st.integers(1, 40), st.sampled_from([4, 6, 16]))
@settings(max_examples=30, deadline=None)
def test_halves_are_balanced_by_row(rng, n, models):
    found = maths.halves(n, models, rng)
    assert found.shape == (models, n)
    assert (found.sum(axis=0) == models // 2).all()


@pytest.mark.parametrize("models", [8, 80])
def test_likelihood_ratios_against_a_plain_loop(models):
    rng = np.random.default_rng(0)
    signals, target = rng.standard_normal((models, 30)), rng.standard_normal(30)
    inside = maths.halves(30, models, rng)
    offline, online = maths.offline(signals, target, ~inside), maths.online(signals, target, inside)
    sides = {side: [signals[:, i][inside[:, i] == side] for i in range(30)] for side in (True, False)}
    shared = {side: math.sqrt(np.mean([part.var(ddof=1) for part in parts])) for side, parts in sides.items()}
    for i in range(30):
        spread = {side: part[i].std(ddof=1) if models == 80 else shared[side] for side, part in sides.items()}
        mean = {side: part[i].mean() for side, part in sides.items()}
        assert offline[i] == pytest.approx((target[i] - mean[False]) / spread[False])
        ratio = norm.logpdf(target[i], mean[True], spread[True]) - norm.logpdf(target[i], mean[False], spread[False])
        assert online[i] == pytest.approx(ratio)


def test_ranks_by_class():
    found = maths.ranks_by_class(np.array([1.0, 5, 5, 2, 9]), np.array([0, 0, 0, 1, 1]))
    assert found == pytest.approx([1 / 6, 4 / 6, 4 / 6, 1 / 4, 3 / 4])


@given(rng_strategy, st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_roc_against_scikit_learn(rng, n, m):
    members, others = rng.random(n).round(1) + 0.1, rng.random(m).round(1)
    false, true = maths.roc(members, others)
    scores, truth = np.concatenate([members, others]), np.repeat([1, 0], [n, m])
    theirs = roc_curve(truth, scores, drop_intermediate=False)
    assert false == pytest.approx(theirs[0])
    assert true == pytest.approx(theirs[1])
    assert np.trapezoid(true, false) == pytest.approx(roc_auc_score(truth, scores))


@pytest.mark.parametrize(
    ("n", "m", "rate", "shift"), [(500, 1000, 0.01, 0.0), (500, 1000, 0.01, 1.5), (300, 400, 0.05, 1.0)]
)
def test_rate_at_covers_the_true_rate(n, m, rate, shift):
    true, hits, values = 1 - ndtr(ndtri(1 - rate) - shift), 0, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = maths.rate_at(rng.standard_normal(n) + shift, rng.standard_normal(m), rate)
        assert 0 <= found.low <= found.value <= found.high <= 1
        hits += found.low <= true <= found.high
        values.append(found.value)
    assert hits >= 186  # 190 wanted, standard deviation 3.1
    assert np.mean(values) == pytest.approx(true, abs=5 * np.std(values) / math.sqrt(200) + 0.003)


def test_rate_is_refused_where_too_few_others_are_above():
    assert maths.rate_at(np.zeros(50), np.zeros(999), 0.01) is None
    assert maths.rate_at(np.zeros(50), np.zeros(1000), 0.01).value == pytest.approx(0.01)  # ties: guessing
    found = maths.rate_at(np.ones(50), np.zeros(1000), 0.01)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 50))


def test_advantage_of_guessing_is_zero_and_covers():
    found = [maths.advantage(*np.random.default_rng(seed).standard_normal((2, 300)), seed) for seed in range(300)]
    assert sum(one.low <= 0 <= one.high for one in found) >= 276  # 285 wanted, standard deviation 3.8
    assert abs(np.mean([one.value for one in found])) < 0.01
    known = maths.advantage(np.ones(100), np.zeros(100), 0)
    assert known.value == known.high == 1
    shifted = maths.advantage(np.arange(1000.0) + 500, np.arange(1000.0), 0)
    assert shifted.value == pytest.approx(0.5, abs=0.05)


def test_inputs_alone():
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        alarms += maths.inputs_alone(rng.standard_normal((200, 4)), rng.standard_normal((150, 4)), seed).low > 0.5
    assert alarms <= 2  # 0.15 expected at 0.25 %
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1000, 4))
    assert maths.inputs_alone(a, b + np.array([1.5, 0, 0, 0]), 0).low > 0.7
    assert maths.inputs_alone(a, 2 * b, 0).low > 0.7  # spread alone
    wide = rng.standard_normal((2, 600, 50))
    wide[1, :, :5] += 1
    assert maths.inputs_alone(wide[0], wide[1], 0).low > 0.7
    assert maths.inputs_alone(np.ones((50, 3)), np.ones((40, 3)), 0).value == 0.5
