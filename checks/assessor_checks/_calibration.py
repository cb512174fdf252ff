"""Calibration of probabilities of one event: bins, expected calibration error with an honest interval, decomposition.

Per row there is a `confidence` p, the probability the model gives the event, and the event o in {0, 1}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from assessor_checks._intervals import CONFIDENCE, Estimate

TAIL = (1 - CONFIDENCE) / 2
_CHUNK = 4_000_000  # entries of a matrix of redrawn events held at once
_FIRM = 2  # with 0 the low end covers 83 % where a fifth of 50 bins err and n = 1000, with 2 it covers 94 %
_SAME = 1e-12  # errors closer than this are rounding apart, not different
_MERGED = 4  # neighbouring parts of the confidence range that err in one direction, as most models do
_STEPS = 14  # halvings of a bracket 7 standard errors wide: far below the simulation's own noise
_FAR = 64.0  # standard errors; the redrawn error is below the observed one long before


class Bins(NamedTuple):
    """Non-empty bins in order of confidence: rows, mean confidence and share of events, each (B,)."""

    n: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class TrueEce(NamedTuple):
    """Binned calibration error with the plug-in bias removed, and the interval of the true one."""

    value: float
    low: float
    high: float


class Decomposition(NamedTuple):
    """Parts of a Brier score: it is `reliability - resolution + uncertainty + spread - 2 * covariance`."""

    reliability: float
    resolution: float
    uncertainty: float
    spread: float
    covariance: float


def equal_mass(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each row, bins being equally filled; equal confidences stay together, so there may be fewer bins.

    Args:
        confidence: (n,) in [0, 1], n at least 1.
        bins: Wanted number of bins.

    Returns:
        (n,) int64 from 0 on, no number left out.

    >>> equal_mass(np.array([0.9, 0.2, 0.8, 0.1]), 2).tolist()
    [1, 0, 1, 0]
    """
    edges = np.sort(confidence)[np.arange(1, bins) * len(confidence) // bins]
    return _dense(np.searchsorted(np.unique(edges), confidence, side="right"))


def equal_width(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each row, bins being equally wide, closed on the right as in Guo et al. 2017; empty ones are dropped.

    Args:
        confidence: (n,) in [0, 1].
        bins: Number of bins on [0, 1].

    Returns:
        (n,) int64 from 0 on, no number left out.
    """
    return _dense(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left"))


def _dense(index: np.ndarray) -> np.ndarray:
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def summarise(confidence: np.ndarray, events: np.ndarray, index: np.ndarray) -> Bins:
    """Bins from rows.

    Args:
        confidence: (n,) in [0, 1].
        events: (n,) 0 or 1.
        index: (n,) bin of each row.

    Returns:
        Rows, mean confidence and share of events by bin.
    """
    n = np.bincount(index)
    return Bins(n, np.bincount(index, confidence) / n, np.bincount(index, events) / n)


def ece(bins: Bins) -> float:
    """Expected calibration error, plain: mean over rows of |share of events - mean confidence| of their bin.

    Naeini et al. 2015; Guo et al. 2017 (arXiv:1706.04599), equation 3. Biased upwards where the model is well
    calibrated: chance gaps do not cancel (Kumar et al. 2019, arXiv:1909.10155; Roelofs et al. 2022, arXiv:2012.08668).

    Args:
        bins: The bins.

    Returns:
        Error in [0, 1].
    """
    return float((bins.n * np.abs(bins.accuracy - bins.confidence)).sum() / bins.n.sum())


def rms_error(bins: Bins) -> Estimate:
    """Root mean square calibration error of the bins, freed of the bias of chance gaps.

    Kumar, Liang and Ma 2019 (arXiv:1909.10155), section 4, the debiased estimator: the mean over
    rows of gap^2 - v / (n - 1), gap the difference of share of events s and confidence, v = s (1 - s). Its square is
    unbiased given the bins, and normal for the interval, with variance sum of w^2 (4 gap^2 v / n + 2 (v / n)^2), w the
    share of rows, plus that of the mean of gap^2 over rows.

    Measured coverage of the true value, 1000 simulations each, n = 1000 and 15 bins / n = 200 and 10 bins: 100 / 100 %
    calibrated, 94 / 95 % over-confident by 0.1, 95 / 94 % by 0.3, 94 / 96 % wrong by 0.25 in the upper fifth.

    Args:
        bins: The bins; those of one row count as without gap.

    Returns:
        Error and 95 % interval, cut off at 0.
    """
    weight, gap = bins.n / bins.n.sum(), (bins.accuracy - bins.confidence) ** 2
    noise = np.where(bins.n > 1, bins.accuracy * (1 - bins.accuracy) / np.maximum(bins.n - 1, 1), gap)
    square = float((weight * (gap - noise)).sum())
    # the Wilson centre, so that a bin in which all or nothing came true is not taken for certain
    share = (bins.accuracy * bins.n + 2) / (bins.n + 4)
    chance = share * (1 - share) / bins.n
    real = np.maximum(gap - chance, 0)
    variance = (weight**2 * (4 * real * chance + 2 * chance**2)).sum()
    variance += ((weight * real**2).sum() - (weight * real).sum() ** 2) / bins.n.sum()
    half = float(ndtri(1 - TAIL) * np.sqrt(variance))
    return Estimate(*(float(np.sqrt(max(0.0, end))) for end in (square, square - half, square + half)))


def redrawn(confidence: np.ndarray, index: np.ndarray, seed: int, replicates: int, *, held: int = _CHUNK) -> np.ndarray:
    """Events by bin when they are drawn anew from the model's own probabilities: consistency resampling.

    Bröcker and Smith 2007. What `p_value` and `consistency_band` are made from.

    Args:
        confidence: (n,) in [0, 1].
        index: (n,) bin of each row.
        seed: Seed of the redrawing.
        replicates: Number of redrawings R.
        held: Entries of the redrawn events in memory at once; changes no value.

    Returns:
        (R, B) int64 number of events.
    """
    order = np.argsort(index, kind="stable")
    ordered, starts = confidence[order], np.searchsorted(index[order], np.arange(index.max() + 1))
    rng = np.random.default_rng([seed, 0])
    rows = max(1, held // len(ordered))
    return np.concatenate([
        np.add.reduceat(
            rng.random((min(rows, replicates - start), len(ordered))) < ordered, starts, axis=1, dtype=np.int64
        )
        for start in range(0, replicates, rows)
    ])  # fmt: skip


def p_value(bins: Bins, counts: np.ndarray) -> float:
    """How often redrawn events give at least the observed calibration error.

    An exact Monte Carlo test: under perfect calibration the value is below any level at most that often, whatever n
    and bins.

    Args:
        bins: The bins.
        counts: (R, B) of `redrawn`.

    Returns:
        (1 + number at least as large) / (1 + R).
    """
    errors = np.abs(counts - bins.n * bins.confidence).sum(axis=1) / bins.n.sum()
    return (1 + int((errors >= ece(bins) - _SAME).sum())) / (1 + len(counts))


def consistency_band(bins: Bins, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the share of events of each bin lies in 95 % of cases if the model is calibrated.

    Bröcker and Smith 2007, section 3, the bars on the diagonal of a reliability diagram; for each bin by itself.

    Args:
        bins: The bins.
        counts: (R, B) of `redrawn`.

    Returns:
        Low and high ends (B,).
    """
    low, high = np.quantile(counts, [TAIL, 1 - TAIL], axis=0, method="inverted_cdf") / bins.n
    return low, high


def true_ece(bins: Bins, p: float, seed: int, replicates: int) -> TrueEce:
    """Estimate freed of bias and 95 % interval of the true binned error, by inverting a test (Carpenter 1999).

    The percentile bootstrap adds the plug-in error's bias once more and can never reach 0. Here every bin's share of
    events moves along its Wilson interval by one common z: towards the confidence for z < 0, where it stops, and
    away from it for z > 0. For each z rows per bin (multinomial) and events (binomial) are redrawn. The estimate is
    the error at which half of the redrawn plug-in errors lie above the observed one; the ends are those with 2.5 %
    and 97.5 % above. For the low end small gaps go first: one error in few bins is the hard case there. It is 0
    unless consistency resampling rejects perfect calibration at 2.5 %. The high end is at least the plug-in error and
    the normal upper bound for the bins merged into four, which the bias does not touch.

    Measured coverage of the true error, 1000 simulations each, n = 1000 and 15 bins / n = 200 and 10 bins:
    98 / 98 % calibrated, 97 / 98 % over-confident by 0.1, 95 / 95 % by 0.3, 97 / 96 % wrong by 0.25 in the upper fifth.

    Args:
        bins: The bins.
        p: Of `p_value`.
        seed: Seed of the redrawing.
        replicates: Number of redrawings at each z.

    Returns:
        Estimate and interval; low <= value <= plug-in error <= high.
    """
    total, observed = int(bins.n.sum()), ece(bins)
    rows = np.random.default_rng([seed, 1]).multinomial(total, bins.n / total, size=replicates)

    def above(z: float, firm: int) -> float:
        rng = np.random.default_rng([seed, 2])  # the same draws at every z, so that the level is all but monotone
        drawn = np.abs(rng.binomial(rows, moved(bins, z, firm)) - rows * bins.confidence).sum(axis=1) / total
        return float((drawn > observed + _SAME).mean() + 0.5 * (np.abs(drawn - observed) <= _SAME).mean())

    def error_at(level: float, firm: int) -> float:
        z = _root(lambda z: above(z, firm), level)
        return ece(bins._replace(accuracy=moved(bins, z, firm)))

    low, value, high = error_at(TAIL, _FIRM), error_at(0.5, 0), error_at(1 - TAIL, 0)
    low = 0.0 if p > TAIL else min(low, observed)
    high = max(high, observed, _merged_bound(bins))
    return TrueEce(float(np.clip(value, low, observed)), low, high)


def moved(bins: Bins, z: float, firm: int = 0) -> np.ndarray:
    """Shares of events (B,) after moving each along its Wilson interval, so that each gap shrinks or grows.

    Args:
        bins: The bins.
        z: Standard errors; below 0 towards the confidence and no further, above 0 to the end farther from it.
        firm: Even power of |z| / (a gap's own standard errors) by which gaps larger than |z| are spared for z < 0.

    Returns:
        Shares in [0, 1].
    """
    n, confidence, share = bins
    gap, over = np.abs(share - confidence), np.where(share >= confidence, 1.0, -1.0)
    if z > 0:
        away, across = _wilson_end(share, n, z * over), _wilson_end(share, n, -z * over)
        farther: np.ndarray = np.where(np.abs(away - confidence) >= np.abs(across - confidence), away, across)
        return farther
    variance = np.maximum(np.maximum(confidence * (1 - confidence), share * (1 - share)), 1 / n)
    errors = np.maximum(gap / np.sqrt(variance / n), 1e-3)
    near = _wilson_end(share, n, z * (z / errors) ** firm * over)
    nearer: np.ndarray = np.where(over > 0, np.maximum(near, confidence), np.minimum(near, confidence))
    return nearer


def _wilson_end(share: np.ndarray, n: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Upper end of Wilson's interval for z > 0, the lower for z < 0."""
    root = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    end: np.ndarray = np.clip((share + z * z / (2 * n) + root) / (1 + z * z / n), 0, 1)
    return end


def _root(above: Callable[[float], float], level: float) -> float:
    """The z at which `above`, which rises with z, crosses `level`; the bracket's end when it never does."""
    low, high = -4.0, 3.0
    while above(low) > level and low > -_FAR:
        low, high = 2 * low, low
    while above(high) < level and high < 6:
        low, high = high, high + 1
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) < level else (low, middle)
    return (low + high) / 2


def _merged_bound(bins: Bins) -> float:
    """Normal upper bound of the error of the bins merged into four; valid for them, as a plug-in error errs upwards."""
    part = np.arange(len(bins.n)) * _MERGED // max(len(bins.n), _MERGED)
    total, gap = bins.n.sum(), bins.accuracy - bins.confidence
    nets = np.bincount(part, bins.n * gap)
    signed = gap * np.sign(nets)[part]
    mean = float(np.abs(nets).sum() / total)
    square = float((bins.n * (bins.accuracy * (1 - bins.accuracy) + signed**2)).sum() / total)
    return min(1.0, mean + float(ndtri(1 - TAIL) * np.sqrt(max(square - mean**2, 0.0) / total)))


def decompose(confidence: np.ndarray, events: np.ndarray, index: np.ndarray) -> Decomposition:
    """Murphy's decomposition of the mean of (confidence - event)^2, with the two terms that binning adds.

    Murphy 1973; within-bin spread and covariance from Stephenson, Coelho and Jolliffe 2008, which make it exact.

    Args:
        confidence: (n,) in [0, 1].
        events: (n,) 0 or 1.
        index: (n,) bin of each row.

    Returns:
        The five parts.
    """
    bins, rate, total = summarise(confidence, events, index), float(events.mean()), len(events)
    inside, surprise = confidence - bins.confidence[index], events - bins.accuracy[index]
    return Decomposition(
        reliability=float((bins.n * (bins.accuracy - bins.confidence) ** 2).sum() / total),
        resolution=float((bins.n * (bins.accuracy - rate) ** 2).sum() / total),
        uncertainty=rate * (1 - rate),
        spread=float((inside**2).mean()),
        covariance=float((inside * surprise).mean()),
    )


def corrected(bins: Bins) -> tuple[float, float, float]:
    """Reliability, resolution and uncertainty of the Brier score without the bias of few rows.

    Ferro and Fricker 2012, Q. J. R. Meteorol. Soc. 138, 1954. A bin's share of events strays by
    chance, which looks like bad reliability and good resolution. The sum reliability - resolution + uncertainty stays.

    Args:
        bins: The bins, two rows at least in all; a bin of one row has no correction.

    Returns:
        The three parts; unlike the plain ones they may lie below 0.
    """
    total, rate = int(bins.n.sum()), float((bins.n * bins.accuracy).sum() / bins.n.sum())
    spread = bins.accuracy * (1 - bins.accuracy) / np.maximum(bins.n - 1, 1)
    chance, base = float((bins.n * spread).sum()) / total, rate * (1 - rate)
    reliability = float((bins.n * (bins.accuracy - bins.confidence) ** 2).sum()) / total - chance
    resolution = float((bins.n * (bins.accuracy - rate) ** 2).sum()) / total - chance + base / (total - 1)
    return reliability, resolution, base * total / (total - 1)
