"""Intervals for shares and means: the ones that keep their coverage where the usual ones do not.

At nominal 95 % and n = 20, p = 0.05, the percentile bootstrap covers 64 %, Wilson 93 %, Clopper-Pearson 99 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, betaincinv, ndtr, ndtri

CONFIDENCE = 0.95
REPLICATES = 2000
_ANALYTIC = 2_000  # values from which an analytic form of the bootstrap is as good as drawing
_MANY = 50_000  # pairs from which a ratio is normal enough on the logarithmic scale
_CHUNK = 8_000_000  # entries of a bootstrap index matrix held at once


class Estimate(NamedTuple):
    """A value with the interval around it."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Exact binomial interval of a share (Clopper and Pearson 1934): coverage is never under `confidence`.

    Args:
        successes: Number of successes, 0 to n.
        n: Number of trials, at least 1.
        confidence: Wanted coverage.

    Returns:
        Share and interval.

    Raises:
        ValueError: n is below 1 or successes outside 0 to n.

    >>> clopper_pearson(0, 10)
    Estimate(value=0.0, low=0.0, high=0.308...)
    """
    _check_counts(successes, n)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Estimate(successes / n, low, high)


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Score interval of a share (Wilson 1927): coverage is `confidence` on average, also at small n.

    Args:
        successes: Number of successes, 0 to n.
        n: Number of trials, at least 1.
        confidence: Wanted coverage.

    Returns:
        Share and interval.

    Raises:
        ValueError: n is below 1 or successes outside 0 to n.
    """
    _check_counts(successes, n)
    z = float(ndtri(1 - (1 - confidence) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high)


def bootstrap_mean(
    values: np.ndarray, seed: int, *, confidence: float = CONFIDENCE, replicates: int = REPLICATES
) -> Estimate:
    """Bias-corrected and accelerated bootstrap interval of a mean (Efron 1987, BCa); skewed values are its point.

    From 2 000 values on its analytic form takes its place (ABC, DiCiccio and Efron 1992): for a mean the ends are
    mean + se w / (1 - a w)^2 with w = a -+ z and the acceleration a of BCa. It agrees with BCa to the bootstrap's own
    noise and costs one pass instead of `replicates`.

    Args:
        values: (n,) one value a sample.
        seed: Seed of the resampling.
        confidence: Wanted coverage.
        replicates: Number of resamples.

    Returns:
        Mean and interval; the interval is the point itself when all values are equal.

    Raises:
        ValueError: Fewer than two values: no interval can be given.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n < 2:
        raise ValueError("an interval of a mean needs at least two values")
    mean = float(values.mean())
    if np.ptp(values) == 0.0:
        return Estimate(mean, mean, mean)
    if n >= _ANALYTIC:
        return _abc(mean, values - mean, confidence)
    means = _resampled_means(values[:, None], replicates, np.random.default_rng(seed))[:, 0]
    return _bca(mean, means, values - mean, confidence)


def _abc(mean: float, centred: np.ndarray, confidence: float) -> Estimate:
    """ABC interval of a mean from the deviations; for a linear statistic the bias correction is the acceleration."""
    squares = float((centred**2).sum())
    acceleration = float((centred**3).sum()) / (6 * squares**1.5)
    w = ndtri(np.array([(1 - confidence) / 2, 1 - (1 - confidence) / 2])) + acceleration
    low, high = mean + np.sqrt(squares) / len(centred) * w / (1 - acceleration * w) ** 2
    return Estimate(mean, float(min(low, mean)), float(max(high, mean)))


def bootstrap_ratio(
    over: np.ndarray, under: np.ndarray, seed: int, *, confidence: float = CONFIDENCE, replicates: int = REPLICATES
) -> Estimate:
    """BCa bootstrap interval of mean(over) / mean(under), both measured on the same samples.

    Samples are drawn in pairs. On the scale of the logarithm, where a ratio is nearer to normal; from 50 000 pairs on
    by the delta method there.

    Args:
        over: (n,) values above the line.
        under: (n,) values below it.
        seed: Seed of the resampling.
        confidence: Wanted coverage.
        replicates: Number of resamples.

    Returns:
        Ratio and interval.

    Raises:
        ValueError: Fewer than two pairs, or a mean that is not positive.
    """
    values = np.stack([over, under], axis=1).astype(np.float64)
    means = values.mean(axis=0)
    if len(values) < 2 or not (means > 0).all():
        raise ValueError("an interval of a ratio needs at least two pairs and positive means")
    point, influence = float(np.log(means[0] / means[1])), values[:, 0] / means[0] - values[:, 1] / means[1]
    if np.abs(influence).max() <= 1e-12:  # proportional: every resample has the same ratio, to rounding
        return Estimate(*(float(np.exp(point)),) * 3)
    if len(values) >= _MANY:
        half = float(ndtri(1 - (1 - confidence) / 2) * influence.std(ddof=1) / np.sqrt(len(values)))
        return Estimate(*(float(np.exp(end)) for end in (point, point - half, point + half)))
    drawn = _resampled_means(values, replicates, np.random.default_rng(seed))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(drawn[:, 0] / drawn[:, 1])
    found = _bca(point, logs[np.isfinite(logs)], influence, confidence)
    return Estimate(*(float(np.exp(end)) for end in found))


def _bca(point: float, replicates: np.ndarray, influence: np.ndarray, confidence: float) -> Estimate:
    """Interval from bootstrap replicates and the samples' influence on the estimate (Efron 1987)."""
    count = len(replicates)
    below = float((replicates < point).mean() + 0.5 * (replicates == point).mean())
    bias = float(ndtri(np.clip(below, 0.5 / count, 1 - 0.5 / count)))
    acceleration = float((influence**3).sum() / (6 * (influence**2).sum() ** 1.5))
    z = ndtri(np.array([(1 - confidence) / 2, 1 - (1 - confidence) / 2])) + bias
    low, high = np.quantile(replicates, ndtr(bias + z / (1 - acceleration * z)))
    return Estimate(point, float(min(low, point)), float(max(high, point)))


def _resampled_means(values: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """(replicates, k) means of (n, k) values over rows drawn with replacement."""
    n = len(values)
    rows = max(1, _CHUNK // n)
    parts = [
        values[rng.integers(0, n, size=(min(rows, replicates - start), n))].mean(axis=1)
        for start in range(0, replicates, rows)
    ]
    return np.concatenate(parts)


def _check_counts(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"found {successes} successes in {n} trials")


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
