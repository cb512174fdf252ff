"""Metrics of a regression beyond squared and absolute error, with intervals."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from assessor_checks._confusion import bias_corrected
from assessor_checks._intervals import CONFIDENCE, Estimate
from assessor_checks._timing import quantile

_MANY = 50_000  # rows from which a ratio of variances is taken as normal
_CHUNK = 4_000_000  # entries of a resampling held at once


def median_error(errors: np.ndarray) -> Estimate:
    """Median of absolute errors (n,) with the exact interval between order statistics."""
    _, low, high = quantile(errors, 0.5)
    value = float(np.median(errors))
    return Estimate(value, min(low, value), max(high, value)) if np.isfinite(high) else Estimate(value, -np.inf, np.inf)


def explained(true: np.ndarray, errors: np.ndarray, seed: int, replicates: int, *, centre: bool) -> Estimate:
    """1 - squared errors / squares of the target around its mean, with an interval over rows.

    Bias-corrected bootstrap of rows; from 50 000 rows on the normal interval from the linearised ratio instead.

    Args:
        true: (n,) target, not constant.
        errors: (n,) true minus predicted.
        seed: Seed of the resampling.
        replicates: Number of resamples; those in which the target is constant are left out.
        centre: Whether the errors' mean is taken off first, so that a constant shift does not count (explained
            variance), or not (R2).

    Returns:
        Value and interval.
    """
    n, centred = len(true), true - true.mean()
    left = errors - errors.mean() if centre else errors
    value = float(1 - (left**2).sum() / (centred**2).sum())
    if n >= _MANY:
        influence = ((1 - value) * centred**2 - left**2) / (centred**2).mean()
        half = float(ndtri(0.5 + CONFIDENCE / 2) * influence.std(ddof=1) / np.sqrt(n))
        return Estimate(value, value - half, value + half)
    rng, step, found = np.random.default_rng(seed), max(1, _CHUNK // n), []
    for start in range(0, replicates, step):
        rows = rng.integers(0, n, size=(min(step, replicates - start), n))
        some, wrong = centred[rows], left[rows]
        spread = ((some - some.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        if centre:
            wrong = wrong - wrong.mean(axis=1, keepdims=True)
        known = (some != some[:, :1]).any(axis=1)
        found.append(np.where(known, 1 - (wrong**2).sum(axis=1) / np.where(known, spread, 1), np.nan))
    return bias_corrected(np.concatenate(found), value)


def spearman(true: np.ndarray, predicted: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Rank correlation with the interval of Bonett and Wright 2000 (Psychometrika 65:23) on Fisher's scale.

    The standard error there is sqrt((1 + r^2 / 2) / (n - 3)). At r = 1 or -1, where the scale has no end, the inner end
    is that of the next smaller correlation, with two neighbours exchanged.

    Args:
        true: (n,) not constant.
        predicted: (n,) not constant.
        confidence: Wanted coverage.

    Returns:
        Correlation and interval, an endless one below four rows.
    """
    n = len(true)
    ranks = [rankdata(values) - (n + 1) / 2 for values in (true, predicted)]
    value = float((ranks[0] * ranks[1]).sum() / np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    if n < 4:
        return Estimate(value, -np.inf, np.inf)
    inner = (
        float(np.clip(value, -1, 1)) if abs(value) < 1 - 1e-12 else float(np.sign(value)) * (1 - 12 / (n * (n * n - 1)))
    )
    half = float(ndtri(0.5 + confidence / 2)) * np.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(inner) + np.array([-half, half]))
    low, high = (-1.0 if inner != value < 0 else float(low)), (1.0 if inner != value > 0 else float(high))
    return Estimate(value, min(low, value), max(high, value))


def relative(true: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """(n,) absolute errors over the absolute target, which must not be 0 anywhere; infinite where that overflows."""
    with np.errstate(over="ignore"):
        found: np.ndarray = np.abs(errors / true)
    return found
