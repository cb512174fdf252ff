"""Durations of repeated calls: measuring, quantiles with exact intervals, signs of a noisy machine."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import bdtr

from assessor_checks._intervals import CONFIDENCE, Estimate

BLOCKS = 10  # parts of a run whose medians are compared
FEWEST = 20  # calls that are timed however long they take


def durations(
    call: Callable[[int], object], repeats: int, *, warm_up: int, seconds: float, clock: Callable[[], float]
) -> np.ndarray:
    """Seconds that each call took.

    Args:
        call: Takes the number of the call; returns when its work is done.
        repeats: Calls that are timed, fewer when time runs out.
        warm_up: Calls before them that are not timed.
        seconds: Time after which no further call is started, once `FEWEST` (or `repeats`) are timed.
        clock: Gives the time in seconds.

    Returns:
        (k,) durations in the order of the calls.
    """
    for number in range(warm_up):
        call(number)
    found: list[float] = []
    start = clock()
    for number in range(repeats):
        before = clock()
        call(number)
        after = clock()
        found.append(after - before)
        if after - start > seconds and len(found) >= min(FEWEST, repeats):
            break
    return np.array(found)


def quantile(values: np.ndarray, share: float, confidence: float = CONFIDENCE) -> Estimate:
    """A quantile with its distribution-free interval between order statistics (David and Nagaraja 2003, section 7.1).

    The number of values below the true quantile is binomial. So the interval holds for any distribution, exactly or
    more, where values are independent draws from it.

    Args:
        values: (n,) not negative, n at least 1.
        share: Of the values that lie at or below the quantile, between 0 and 1.
        confidence: Wanted coverage.

    Returns:
        The least value with at least that share at or below it; its interval, whose upper end is infinite where the
        values are too few to bound it, and whose lower end is then 0.

    >>> quantile(np.arange(1.0, 101.0), 0.5)
    Estimate(value=50.0, low=40.0, high=61.0)
    """
    ordered = np.sort(values)
    n, tail = len(ordered), (1 - confidence) / 2
    below = bdtr(np.arange(n), n, share)  # chance that at most so many values lie below
    low = int((below <= tail).sum())  # 0: no value is low enough
    high = int((1 - below > tail).sum()) + 1  # n + 1: none is high enough
    return Estimate(
        float(ordered[max(0, math.ceil(n * share - 1e-9) - 1)]),
        float(ordered[low - 1]) if low else 0.0,
        float(ordered[high - 1]) if high <= n else math.inf,
    )


def unsteadiness(values: np.ndarray) -> float:
    """Coefficient of variation of the medians of `BLOCKS` consecutive parts of a run: 0 on a quiet machine.

    Args:
        values: (n,) positive durations in their order.

    Returns:
        Standard deviation of the medians over their mean; 0 with fewer than two values a part.
    """
    if len(values) < 2 * BLOCKS:
        return 0.0
    medians = np.array([np.median(part) for part in np.array_split(values, BLOCKS)])
    return float(medians.std(ddof=1) / medians.mean()) if medians.mean() > 0 else 0.0
