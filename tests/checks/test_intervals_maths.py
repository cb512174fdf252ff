"""Intervals: ratios of paired means; quantiles, by hand and their coverage."""

import numpy as np
import pytest
from scipy.stats import binom, expon

from assessor_checks._intervals import bootstrap_mean, bootstrap_ratio, quantile


def pairs(rng, n):
    """Skewed values whose means are 3 and 2, dependent within a pair."""
    shared = rng.exponential(1.0, n)
    return 2 * shared + rng.exponential(1.0, n), shared + rng.exponential(1.0, n)


def test_proportional_pairs_have_a_point_for_an_interval():
    under = np.array([1.0, 2.0, 5.0])
    assert bootstrap_ratio(3 * under, under, 0) == pytest.approx((3.0, 3.0, 3.0))


def test_ratio_of_two_pairs_by_hand():
    # Resamples of (1, 2) and (3, 2): ratios 1/2, 4/4 and 3/2 with shares 1/4, 1/2, 1/4; the ends are the extremes.
    assert bootstrap_ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0]), 0) == pytest.approx((1.0, 0.5, 1.5))


def test_coverage_of_the_ratio():
    rng, hits = np.random.default_rng(0), 0
    for seed in range(300):
        found = bootstrap_ratio(*pairs(rng, 60), seed, replicates=500)
        hits += found.low <= 1.5 <= found.high
    assert 0.91 <= hits / 300 <= 0.99  # 95 % aimed at; four standard errors of 300 trials are 5 points


@pytest.mark.slow
def test_many_pairs_take_the_delta_method_and_agree_with_the_bootstrap(monkeypatch):
    over, under = pairs(np.random.default_rng(1), 5000)
    drawn = bootstrap_ratio(over, under, 0)
    monkeypatch.setattr("assessor_checks._intervals._MANY", 5000)
    delta = bootstrap_ratio(over, under, 0)
    assert delta.value == drawn.value
    assert delta.high - delta.low == pytest.approx(drawn.high - drawn.low, rel=0.1)


@pytest.mark.parametrize(("over", "under"), [([1.0], [1.0]), ([1.0, 2.0], [0.0, 0.0]), ([-1.0, 0.5], [1.0, 1.0])])
def test_refusals(over, under):
    with pytest.raises(ValueError, match="at least two pairs and positive means"):
        bootstrap_ratio(np.array(over), np.array(under), 0)


def test_mean_is_as_before():
    found = bootstrap_mean(np.array([1.0, 2.0, 4.0, 9.0]), 0)
    assert (found.value, found.low, found.high) == pytest.approx((4.0, 1.75, 7.75))


@pytest.mark.parametrize("skew", [0.3, 1.0])
def test_many_values_take_the_analytic_form_and_agree_with_the_bootstrap(monkeypatch, skew):
    values = np.random.default_rng(2).lognormal(0, skew, 2000)
    analytic = bootstrap_mean(values, 0)
    monkeypatch.setattr("assessor_checks._intervals._ANALYTIC", 10_000)
    drawn = bootstrap_mean(values, 0, replicates=20_000)
    width = drawn.high - drawn.low
    assert analytic.value == drawn.value
    assert analytic.low == pytest.approx(drawn.low, abs=0.02 * width)  # 20 000 draws place an end within 1 %
    assert analytic.high == pytest.approx(drawn.high, abs=0.02 * width)
    assert analytic.high - analytic.value > analytic.value - analytic.low  # the skew is kept


def test_ranks_by_hand():
    # n = 10: P(B <= 1) = 11 / 1024 = 0.0107 <= 0.025 < P(B <= 2), so from the 2nd to the 9th value
    assert quantile(np.arange(10.0), 0.5) == (4.5, 1.0, 8.0)
    assert quantile(np.arange(11.0), 0.5).value == 5.0


def test_too_few_for_an_end():
    assert quantile(np.arange(5.0), 0.5) == (2.0, -np.inf, np.inf)
    assert quantile(np.array([3.0]), 0.95) == (3.0, -np.inf, np.inf)
    # the 95 % quantile has an upper end from n with 0.95^n <= 0.025 on: n = 72
    assert np.isinf(quantile(np.arange(71.0), 0.95).high)
    assert quantile(np.arange(72.0), 0.95).high == 71.0


def test_infinite_values_are_values():
    values = np.array([1.0, 2.0, np.inf, np.inf, np.inf])
    assert quantile(values, 0.5).value == np.inf


@pytest.mark.parametrize(("n", "share"), [(15, 0.5), (40, 0.5), (100, 0.95), (30, 0.2)])
def test_covers_a_skewed_distribution(n, share):
    rng, runs = np.random.default_rng(0), 1000
    true = expon.ppf(share)
    held = sum(low <= true <= high for _, low, high in (quantile(rng.exponential(size=n), share) for _ in range(runs)))
    assert held >= binom.ppf(1e-4, runs, 0.95)  # exact intervals cover at least 95 %
