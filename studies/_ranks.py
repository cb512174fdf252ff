"""Rank correlations and paired differences of the studies, with their intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

REPLICATES = 4000


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Value and interval to two decimals."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Taus(NamedTuple):
    """Kendall's tau of several measures with one target: `value` (k,), and the same from resampled models (R, k)."""

    value: np.ndarray
    drawn: np.ndarray

    def of(self, index: int) -> Estimate:
        """One measure's tau with its percentile interval."""
        return _percentile(self.value[index], self.drawn[:, index])

    def difference(self, one: int, other: int) -> Estimate:
        """By how much one measure's tau is above another's on the same models."""
        return _percentile(self.value[one] - self.value[other], self.drawn[:, one] - self.drawn[:, other])


def taus(measures: np.ndarray, target: np.ndarray, seed: int = 0) -> Taus:
    """Kendall's tau-a of each measure with a target, and a bootstrap over models.

    A model drawn twice is no pair with itself: with w_i the times that model i is drawn,
    tau = sum_{i<j} w_i w_j s_ij / sum_{i<j} w_i w_j, s_ij = 1 for a pair in the same order, -1 in the opposite one.

    Args:
        measures: (n, k), all finite.
        target: (n,).
        seed: Seed of the resampling.

    Returns:
        The correlations; resamples of one model alone are left out.

    Raises:
        ValueError: Fewer than two models.

    >>> [float(tau) for tau in taus(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), np.array([0.0, 1.0, 2.0])).value]
    [1.0, -1.0]
    """
    n = len(target)
    if n < 2:
        raise ValueError(f"found {n} models, wanted at least two to rank")
    rng = np.random.default_rng(seed)
    times = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES)])
    times = times[(times > 0).sum(axis=1) > 1]
    pairs = times.sum(axis=1) ** 2 - (times**2).sum(axis=1)
    order = np.sign(target[:, None] - target)
    found = [((times @ (np.sign(one[:, None] - one) * order)) * times).sum(axis=1) for one in measures.T]
    all_taus = np.stack(found, axis=1) / pairs[:, None]
    return Taus(all_taus[0], all_taus[1:])


def granulated(measure: np.ndarray, target: np.ndarray, settings: np.ndarray, which: int) -> tuple[float, int]:
    """Kendall's tau over the pairs of models that differ in one hyperparameter alone, and how many pairs.

    Jiang et al. 2020 (arXiv 1912.02178, section 4) average the tau of groups of equal size; groups are of unequal
    size here, as models that do not converge are left out, and every pair counts the same.

    Args:
        measure: (n,).
        target: (n,).
        settings: (n, h) values of the hyperparameters.
        which: The one that may differ.

    Returns:
        tau, NaN without pairs, and their number.
    """
    others = np.delete(settings, which, axis=1)
    alone = (others[:, None] == others).all(axis=2) & (settings[:, None, which] != settings[:, which])
    count = int(alone.sum())
    signs = np.sign(measure[:, None] - measure) * np.sign(target[:, None] - target)
    return (float(signs[alone].sum()) / count if count else math.nan), count // 2


def mean(values: np.ndarray) -> Estimate:
    """Mean of independent values, one a seed, with its t interval; infinite for fewer than two."""
    n, centre = len(values), float(np.mean(values))
    half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(centre, centre - half, centre + half)


def _percentile(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))
