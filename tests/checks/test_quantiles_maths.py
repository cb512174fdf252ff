"""Quantiles with intervals for every distribution: their coverage, and the ranks by hand."""

import numpy as np
import pytest
from scipy.stats import binom, expon

from assessor_checks.robustness._quantiles import quantile


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
