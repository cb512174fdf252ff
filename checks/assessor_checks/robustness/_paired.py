"""Mean share of right answers over rows, and how far it drops, with intervals that stay honest near 0 and 1.

A bootstrap sees only what it was given: where (almost) no row errs, it claims to know that none ever will. With fewer
than ten rows that differ from the others the ends are those of Clopper and Pearson for how many such rows there are.
"""

from __future__ import annotations

import numpy as np

from assessor_checks._intervals import Estimate, bootstrap_mean, bootstrap_ratio, clopper_pearson

FEW = 10  # rows that differ from the rest, below which a bootstrap of them is not believed


def mean_share(shares: np.ndarray, seed: int) -> Estimate:
    """Mean of the rows' shares of right answers.

    A row's share lies in [0, 1], so the mean is at least the frequency of rows that are wholly right and at most that
    of rows that are not wholly wrong; with few rows of the other kind the exact interval of that frequency is taken.

    Args:
        shares: (n,) in [0, 1], n at least 1.
        seed: Seed of the bootstrap.

    Returns:
        Mean and 95 % interval.

    >>> mean_share(np.ones(20), 0).low == clopper_pearson(20, 20).low
    True
    """
    n, value = len(shares), float(shares.mean())
    whole, none = int((shares == 1).sum()), int((shares == 0).sum())
    low, high = bootstrap_mean(shares, seed)[1:] if n > 1 and np.ptp(shares) > 0 else (value, value)
    if n - whole < FEW:
        low = min(low, clopper_pearson(whole, n).low)
    if n - none < FEW:
        high = max(high, clopper_pearson(n - none, n).high)
    if low == high:  # every row has the same share, neither 0 nor 1
        low, high = clopper_pearson(round(value * n), n)[1:]
    return Estimate(value, min(low, value), max(high, value))


def mean_drop(differences: np.ndarray, seed: int) -> Estimate:
    """Mean of the rows' drops, each in [-1, 1].

    The mean is at most the frequency of rows that drop, and at least minus that of rows that rise.

    Args:
        differences: (n,) share before minus share after, n at least 1.
        seed: Seed of the bootstrap.

    Returns:
        Mean and 95 % interval.
    """
    n, value = len(differences), float(differences.mean())
    drops, rises = int((differences > 0).sum()), int((differences < 0).sum())
    if n < 2 or np.ptp(differences) == 0:
        unseen = clopper_pearson(0, n).high
        return Estimate(value, max(-1.0, value - unseen), min(1.0, value + unseen))
    low, high = bootstrap_mean(differences, seed)[1:]
    if drops + rises < FEW:
        low, high = min(low, -clopper_pearson(rises, n).high), max(high, clopper_pearson(drops, n).high)
    return Estimate(value, low, high)


def relative_drop(before: np.ndarray, after: np.ndarray, seed: int) -> Estimate:
    """1 - mean(after) / mean(before): which part of the right answers is lost.

    Args:
        before: (n,) shares of right answers, not all 0.
        after: (n,) the same rows afterwards.
        seed: Seed of the bootstrap.

    Returns:
        Value and 95 % interval; an endless interval where no answer is right afterwards.
    """
    value = 1 - float(after.mean() / before.mean())
    if not after.any():
        return Estimate(value, -np.inf, np.inf)
    if int((before != after).sum()) >= FEW:
        low, high = (1 - end for end in bootstrap_ratio(after, before, seed)[:0:-1])
        return Estimate(value, min(low, value), max(high, value))
    drop, share = mean_drop(before - after, seed), mean_share(before, seed)
    least = max(share.low, 1 / len(before))
    low = drop.low / (least if drop.low < 0 else share.high)
    return Estimate(value, min(low, value), max(drop.high / least, value))
