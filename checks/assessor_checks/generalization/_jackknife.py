"""Values that were each left out in turn: estimate, ratio of two and their intervals."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from assessor_checks._intervals import CONFIDENCE, Estimate


def jackknife(values: np.ndarray) -> Estimate:
    """Interval of a statistic from its values with each fold left out: delete-a-group jackknife, Student's t.

    Wolter 2007, "Introduction to Variance Estimation", section 4.2. A bootstrap over repeats is not used: rows drawn
    twice make the covariance look narrower than it is, and the interval misses the truth (at 20 dimensions and 40
    repeats it held the true information in 3 % of trials, the jackknife in 98 %).

    Args:
        values: (1 + folds,) the statistic, then with each fold left out.

    Returns:
        The statistic and its interval.
    """
    half = _quantile(len(values) - 1) * math.sqrt(_covariance(values, values))
    return Estimate(float(values[0]), float(values[0]) - half, float(values[0]) + half)


def ratio(above: np.ndarray, below: np.ndarray) -> Estimate | None:
    """Ratio of two statistics with Fieller's interval (1954), from the same folds left out of both.

    Args:
        above: (1 + folds,) as for `jackknife`.
        below: (1 + folds,).

    Returns:
        Ratio and interval; None where the divisor cannot be told from 0, so that no finite interval exists.
    """
    t2 = _quantile(len(above) - 1) ** 2 / float(below[0]) ** 2 if below[0] > 0 else math.inf
    over, under, both = _covariance(above, above), _covariance(below, below), _covariance(above, below)
    if not t2 * under < 1:
        return None
    value, room = float(above[0] / below[0]), 1 - t2 * under
    inside = over - 2 * value * both + value**2 * under - t2 * (over * under - both**2)
    centre, half = (value - t2 * both) / room, math.sqrt(t2 * max(0.0, inside)) / room
    return Estimate(value, min(value, centre - half), max(value, centre + half))


def _quantile(folds: int) -> float:
    return float(stdtrit(folds - 1, 1 - (1 - CONFIDENCE) / 2))


def _covariance(a: np.ndarray, b: np.ndarray) -> float:
    folds = len(a) - 1
    return float((folds - 1) / folds * ((a[1:] - a[1:].mean()) * (b[1:] - b[1:].mean())).sum())
