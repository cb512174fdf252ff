"""How well a score tells two groups of rows apart: areas under curves and shares at a threshold, with intervals.

`high` (n,) are the scores of rows that should score high, `low` (m,) those of the others; ties count a half.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, logit, ndtri

from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson, quantile
from assessor_checks._performance import delong

REPLICATES = 1000
_ENTRIES = 2**22  # bootstrap weights held at once
_HALVINGS = 60


def auroc(high: np.ndarray, low: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Area under the ROC curve: the probability that a row of `high` scores above one of `low`.

    The interval is DeLong's (DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44, 837) on the scale of the logit, which
    keeps it within 0 and 1. Where that has no width (groups wholly apart) it is Newcombe's method 5 (2006, Statistics
    in Medicine 25, 559): the areas at which the area found lies within the normal quantile of its standard error.

    Args:
        high: (n,) scores, n at least 1.
        low: (m,) scores, m at least 1.
        confidence: Wanted coverage.

    Returns:
        Area and interval.

    >>> auroc(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0])).value
    0.9166666666666666
    """
    (area, variance), n, m = delong(high, low), len(high), len(low)
    z = float(ndtri(1 - (1 - confidence) / 2))
    if variance > 0 and 0 < area < 1:
        half = z * math.sqrt(variance) / (area * (1 - area))
        return Estimate(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))
    return Estimate(area, _newcombe(area, n, m, z, 0.0), _newcombe(area, n, m, z, 1.0))


def _newcombe(area: float, n: int, m: int, z: float, end: float) -> float:
    """The area between `area` and `end` at which z standard errors (Newcombe 2006, V2 of method 4) reach back."""
    more = (n + m) / 2 - 1

    def reached(theta: float) -> bool:
        spread = 1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - area) ** 2 <= z * z * theta * (1 - theta) * spread / (n * m)

    inner, outer = area, end
    if area == end:
        return end
    for _ in range(_HALVINGS):
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if reached(middle) else (inner, middle)
    return outer


def passing_share(high: np.ndarray, low: np.ndarray, kept: float, confidence: float = CONFIDENCE) -> Estimate:
    """Share of rows of `high` that pass at the threshold which `kept` of the rows of `low` pass.

    The interval adds two errors (Bonferroni): that of the threshold, by order statistics, and that of the share there,
    Clopper and Pearson's. It covers at least as often as said.

    Args:
        high: (n,) scores, n at least 1.
        low: (m,) scores, m at least 1.
        kept: Share of `low` that lies at or below the threshold.
        confidence: Wanted coverage.

    Returns:
        Share and interval.

    >>> passing_share(np.array([1.0, 5.0, 6.0, 7.0]), np.arange(5.0), 0.8).value
    0.25
    """
    each = 1 - (1 - confidence) / 2
    threshold, n = quantile(low, kept, each), len(high)
    counts = [int((high <= end).sum()) for end in threshold]
    return Estimate(
        counts[0] / n,
        clopper_pearson(counts[1], n, each).low,
        clopper_pearson(counts[2], n, each).high,
    )


def average_precision(high: np.ndarray, low: np.ndarray) -> float:
    """Area under precision over recall, as if both groups were equally frequent.

    Args:
        high: (n,) scores of the rows to be found, n at least 1.
        low: (m,) scores, m at least 1.

    Returns:
        Sum over thresholds of the step in recall times the precision there.

    >>> average_precision(np.array([3.0, 1.0]), np.array([2.0, 0.0])).__round__(4)
    0.8333
    """
    return float(_precisions(high, low, np.ones((1, len(high))), np.ones((1, len(low))))[0])


def average_precision_interval(
    high: np.ndarray, low: np.ndarray, seed: int, confidence: float = CONFIDENCE
) -> Estimate | None:
    """`average_precision` with a percentile bootstrap interval, each group resampled; None where it has no width."""
    rng, tail = np.random.default_rng(seed), (1 - confidence) / 2
    n, m = len(high), len(low)
    size = max(1, _ENTRIES // (n + m))
    drawn = []
    for start in range(0, REPLICATES, size):
        count = min(size, REPLICATES - start)
        weights = (rng.multinomial(k, np.full(k, 1 / k), size=count).astype(np.float64) for k in (n, m))
        drawn.append(_precisions(high, low, *weights))
    ends = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    value = average_precision(high, low)
    if ends[0] == ends[1]:
        return None
    return Estimate(value, float(min(ends[0], value)), float(max(ends[1], value)))


def _precisions(high: np.ndarray, low: np.ndarray, of_high: np.ndarray, of_low: np.ndarray) -> np.ndarray:
    """(r,) average precision of r weightings (r, n) and (r, m) of the rows."""
    scores = np.concatenate([high, low])
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each run of equal scores
    high_first = np.concatenate([of_high, np.zeros_like(of_low)], axis=1)[:, order]
    low_first = np.concatenate([np.zeros_like(of_high), of_low], axis=1)[:, order]
    recall = high_first.cumsum(axis=1)[:, last] / of_high.sum(axis=1, keepdims=True)
    false = low_first.cumsum(axis=1)[:, last] / of_low.sum(axis=1, keepdims=True)
    precision = recall / np.maximum(recall + false, 1e-300)
    found: np.ndarray = (np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1)
    return found
