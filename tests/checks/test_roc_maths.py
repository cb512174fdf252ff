"""Areas and shares against scikit-learn, slow ways and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import average_precision_score, roc_auc_score

from assessor_checks.robustness._roc import (
    auroc,
    average_precision,
    average_precision_interval,
    passing_share,
)


def draw(n, m, shift=1.0, seed=0, digits=2):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n).round(digits), rng.normal(0, 1, m).round(digits)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), m=st.integers(2, 60), seed=st.integers(0, 999), digits=st.integers(0, 3))
def test_areas_are_those_of_sklearn(n, m, seed, digits):
    high, low = draw(n, m, seed=seed, digits=digits)
    labels, scores = np.repeat([1, 0], [n, m]), np.concatenate([high, low])
    assert auroc(high, low).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    weights = np.repeat([1 / n, 1 / m], [n, m])
    assert average_precision(high, low) == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights), abs=1e-12
    )


def slow_delong(high, low):
    wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    return np.sqrt(wins.mean(axis=1).var(ddof=1) / len(high) + wins.mean(axis=0).var(ddof=1) / len(low))


def test_delong_is_the_slow_one_and_near_the_bootstrap():
    high, low = draw(150, 100)
    area, least, most = auroc(high, low)
    half = 1.959964 * slow_delong(high, low) / (area * (1 - area))
    assert np.log(most / (1 - most)) - np.log(area / (1 - area)) == pytest.approx(half, rel=1e-6)
    rng = np.random.default_rng(1)
    drawn = [auroc(rng.choice(high, 150), rng.choice(low, 100)).value for _ in range(2000)]
    # bootstrap of 2000: its ends are off by about 3 % of the width
    assert (least, most) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.1 * (most - least))


@pytest.mark.parametrize(("n", "m", "shift"), [(30, 40, 1.0), (100, 50, 2.5), (25, 25, 0.0), (20, 20, 3.5)])
def test_intervals_of_the_area_cover(n, m, shift):
    # asymptotic: 95 % aimed at, 92 % asked for at these sizes; the last case is wholly apart every other time
    true, runs = norm.cdf(shift / np.sqrt(2)), 500
    found = [auroc(*draw(n, m, shift, seed, digits=9)) for seed in range(runs)]
    held = sum(low <= true <= high for _, low, high in found)
    assert held >= binom.ppf(0.001, runs, 0.93)


def test_wholly_apart_is_still_uncertain():
    # Newcombe 2006: at area 1 the low end solves (1 - t)^2 = z^2 V(t)
    area, low, high = auroc(np.arange(10.0) + 100, np.arange(10.0))
    assert (area, high) == (1.0, 1.0)
    spread = 1 + 9 * ((1 - low) / (2 - low) + low / (1 + low))
    assert (1 - low) ** 2 == pytest.approx(1.959964**2 * low * (1 - low) * spread / 100, rel=1e-4)
    assert auroc(np.arange(10.0), np.arange(10.0) + 100)[:2] == (0.0, 0.0)
    one = auroc(np.array([2.0]), np.array([1.0]))
    assert (one.value, one.high) == (1.0, 1.0)
    assert one.low < 0.5


def test_equal_scores_are_a_coin():
    area, low, high = auroc(np.zeros(20), np.zeros(30))
    assert area == 0.5
    assert low < 0.4
    assert high > 0.6


def test_passing_share_by_hand_and_its_coverage():
    # of 0..99 95 % lie at or below 94; 3 of the 4 others do so too
    assert passing_share(np.array([10.0, 94.0, 20.0, 95.0]), np.arange(100.0), 0.95).value == 0.75
    true, runs = norm.cdf(norm.ppf(0.95) - 2), 300
    found = [passing_share(*draw(60, 80, 2.0, seed, digits=9), 0.95) for seed in range(runs)]
    assert sum(low <= true <= high for _, low, high in found) >= binom.ppf(0.001, runs, 0.95)
    few = passing_share(np.zeros(5), np.arange(10.0), 0.95)
    assert (few.value, few.high) == (1.0, 1.0)


def test_average_precision_interval():
    high, low = draw(80, 60)
    found = average_precision_interval(high, low, 0)
    assert found is not None
    assert found.low < found.value < found.high
    assert found == average_precision_interval(high, low, 0)
    rng = np.random.default_rng(5)
    slow = [average_precision(rng.choice(high, 80), rng.choice(low, 60)) for _ in range(1000)]
    assert found[1:] == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.15 * (found.high - found.low))
    assert average_precision_interval(high + 100, low, 0) is None
