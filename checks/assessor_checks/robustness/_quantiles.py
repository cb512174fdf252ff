"""Quantiles with intervals that hold for every distribution."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtr

from assessor_checks._intervals import CONFIDENCE, Estimate


def quantile(values: np.ndarray, share: float, confidence: float = CONFIDENCE) -> Estimate:
    """The quantile of a share, with an interval between two of the values (order statistics).

    The number of values below the true quantile is binomial, so the interval covers it at least as often as
    `confidence` says, whatever the distribution (Conover 1999, section 3.2; Thompson 1936).

    Args:
        values: (n,) independent values, perhaps infinite, n at least 1.
        share: Of the distribution below, between 0 and 1.
        confidence: Wanted coverage.

    Returns:
        The value that the share (rounded up) of the values do not exceed, the mean of both middle values for a half;
        an end is infinite where n is too small for one.

    >>> quantile(np.arange(10.0), 0.5)
    Estimate(value=4.5, low=1.0, high=8.0)
    >>> quantile(np.arange(5.0), 0.5)
    Estimate(value=2.0, low=-inf, high=inf)
    """
    ordered, n = np.sort(values), len(values)
    up_to = bdtr(np.arange(n), n, share)  # P(at most k values below)
    tail = (1 - confidence) / 2
    below = int((up_to <= tail).sum())  # ranks that surely lie below; the interval starts at the last of them
    above = int(np.searchsorted(up_to, 1 - tail))  # P(at most `above` below) reaches 1 - tail: rank above + 1 ends it
    value = float(np.median(ordered)) if share == 0.5 else float(ordered[max(0, math.ceil(share * n) - 1)])
    low = float(ordered[below - 1]) if below else -math.inf
    high = float(ordered[above]) if above < n else math.inf
    return Estimate(value, low, high)
