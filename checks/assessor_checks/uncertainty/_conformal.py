"""Split conformal prediction: sets and intervals that hold the truth at a promised rate, and where they do not.

Rows of a calibration set give scores of how badly a label fits the model's output; the promised share of them sets the
limit. Vovk, Gammerman and Shafer 2005; Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094; Angelopoulos and Bates 2023,
arXiv:2107.07511.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, betaln, gammaln

from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson

_SLAB_LENGTHS = (1.0, 1.25, 1.5, 2.0)  # of the least share: a longer slab holds one of these that is no better covered
_DIRECTIONS = 300  # random directions that slabs are searched along, beside the features themselves
_CLEARLY = 0.05  # a mixture of features must be less covered by this to be preferred to a feature that has a name
_REPLICATES = 500
_AXES = 300  # features that are tried one by one at most
_HELD = 4_000_000  # numbers of an intermediate matrix held at once


class Slab(NamedTuple):
    """Rows between two limits along a direction, found on some rows and counted on others.

    Attributes:
        direction: (d,) of unit length.
        low: Lower limit of the projection.
        high: Upper limit.
        hits: Covered rows inside, of those not searched.
        trials: Rows inside, of those not searched.
    """

    direction: np.ndarray
    low: float
    high: float
    hits: int
    trials: int

    @property
    def feature(self) -> int | None:
        """Number of the feature whose values are limited; None for a mixture of features."""
        found = np.flatnonzero(self.direction)
        return int(found[0]) if len(found) == 1 else None


def rank_of(n: int, alpha: float) -> int:
    """Rank of the calibration score that is the limit: ceil((n + 1)(1 - alpha)), counted from 1; above n there is none.

    >>> rank_of(9, 0.1), rank_of(8, 0.1)
    (9, 9)
    """
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)  # 10 * 0.9 is a little above 9


def least_rows(alpha: float) -> int:
    """Fewest calibration rows with a finite limit.

    >>> least_rows(0.1), least_rows(0.05)
    (9, 19)
    """
    return math.ceil((1 - alpha) / alpha - 1e-9)


def limit(scores: np.ndarray, alpha: float) -> float:
    """Limit that a new score does not exceed with probability 1 - alpha or a little more; Lei et al. 2018, (3).

    Args:
        scores: (n,) of the calibration rows.
        alpha: Promised share of errors, between 0 and 1.

    Returns:
        The limit; infinite where the rows are too few.
    """
    rank = rank_of(len(scores), alpha)
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])


def width_ratio(labels: np.ndarray, outputs: np.ndarray, alpha: float, seed: int) -> Estimate | None:
    """Width of the intervals around the outputs divided by that of intervals around the median label.

    Args:
        labels: (n,) of the calibration rows.
        outputs: (n,) predicted values.
        alpha: Promised share of errors.
        seed: Seed of the bootstrap.

    Returns:
        Ratio with its 95 % percentile bootstrap interval over rows; None where the labels do not vary.
    """
    rank, n = min(rank_of(len(labels), alpha), len(labels)) - 1, len(labels)

    def ratios(rows: np.ndarray) -> np.ndarray:
        y, f = labels[rows], outputs[rows]
        over = np.partition(np.abs(y - f), rank, axis=-1)[..., rank]
        under = np.partition(np.abs(y - np.median(y, axis=-1, keepdims=True)), rank, axis=-1)[..., rank]
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = over / under
        return found

    value = float(ratios(np.arange(n)))
    if not math.isfinite(value):
        return None
    rng, rows = np.random.default_rng([seed, 4]), max(1, _HELD // n)
    drawn = np.concatenate([
        ratios(rng.integers(0, n, (min(rows, _REPLICATES - start), n))) for start in range(0, _REPLICATES, rows)
    ])  # fmt: skip
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))


def limit_interval(scores: np.ndarray, alpha: float) -> tuple[float, float] | None:
    """95 % interval of the limit for endless calibration data, free of assumptions on the scores.

    The number of scores below a quantile is binomial, so two order statistics enclose it (Conover 1999, section 3.2).

    Args:
        scores: (n,) of the calibration rows.
        alpha: Promised share of errors.

    Returns:
        Both ends, or None where the rows are too few for one.
    """
    n, ordered, tail = len(scores), np.sort(scores), (1 - CONFIDENCE) / 2
    ranks = np.arange(1, n + 1)
    below = betaincinv(ranks, n + 1 - ranks, 1 - tail) <= 1 - alpha  # surely not above the quantile
    above = betaincinv(ranks, n + 1 - ranks, tail) >= 1 - alpha
    if not below.any() or not above.any():
        return None
    return float(ordered[np.flatnonzero(below)[-1]]), float(ordered[np.flatnonzero(above)[0]])


def lac_scores(probabilities: np.ndarray) -> np.ndarray:
    """1 - p of every class: the smallest sets on average (LAC; Sadinle, Lei and Wasserman 2019, arXiv:1609.00451).

    Args:
        probabilities: (n, C).

    Returns:
        (n, C) in [0, 1].
    """
    return 1 - probabilities


def aps_scores(probabilities: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Probability of all likelier classes plus a random part of the class's own (APS): sets that follow difficulty.

    Romano, Sesia and Candes 2020 (arXiv:2006.02544), equations 5 to 7; without the random part the sets are too large.

    Args:
        probabilities: (n, C).
        u: (n,) uniform in [0, 1].

    Returns:
        (n, C) in [0, 1]; of equally likely classes the first counts as likelier.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    found = np.cumsum(ranked, axis=1) - ranked * (1 - u[:, None])
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, found, axis=1)
    return scores


def p_of_undercoverage(covered: int, m: int, n: int, alpha: float) -> float:
    """Probability of so few covered rows or fewer if calibration rows and judged rows come from one source.

    Without ties the number of covered rows is beta-binomial with parameters k and n + 1 - k, k the rank of the limit
    (Vovk 2012, arXiv:1209.2673, proposition 2a); with ties it is larger, so that the test holds its level.

    Args:
        covered: Covered rows.
        m: Judged rows.
        n: Calibration rows, enough for a finite limit.
        alpha: Promised share of errors.

    Returns:
        The p-value.
    """
    k = rank_of(n, alpha)
    j = np.arange(covered + 1)
    choose = gammaln(m + 1) - gammaln(j + 1) - gammaln(m - j + 1)
    found = np.exp(choose + betaln(j + k, m - j + n + 1 - k) - betaln(k, n + 1 - k)).sum()
    return float(min(1.0, found))


def least_covered(hits: np.ndarray, trials: np.ndarray) -> tuple[int, Estimate]:
    """The part with the lowest coverage, and an interval that allows for having looked for it.

    Clopper-Pearson intervals of all G parts at 1 - 0.05 / G cover all true values at once with 95 %, and then the least
    true value lies between the least low and the least high end.

    Args:
        hits: (G,) covered rows of each part.
        trials: (G,) rows of each part, at least 1.

    Returns:
        Position of the part, and lowest observed coverage with its interval.
    """
    level = 1 - (1 - CONFIDENCE) / len(hits)
    found = [clopper_pearson(h, t, level) for h, t in zip(hits.tolist(), trials.tolist(), strict=True)]
    worst = int(np.argmin(hits / trials))
    low, high = min(one.low for one in found), min(one.high for one in found)
    return worst, Estimate(found[worst].value, min(low, found[worst].value), max(high, found[worst].value))


def worst_slab(features: np.ndarray, covered: np.ndarray, share: float, fewest: int, seed: int) -> Slab | None:
    """Slab of feature space with low coverage: searched on half of the rows, counted on the other half.

    Cauchois, Gupta and Duchi 2021 (arXiv:2004.10181), section 4; split as in Romano, Sesia and Candes 2020. Searched
    along each feature and along random directions, for slabs that hold at least `share` of the rows.

    Args:
        features: (m, d) finite.
        covered: (m,) whether the row's set holds the truth.
        share: Least share of rows in a slab.
        fewest: Least number of searched rows in a slab; about as many are counted.
        seed: Seed of halves and directions.

    Returns:
        The slab; None where no feature varies, or where a slab would hold all rows of a half.
    """
    rng = np.random.default_rng([seed, 1])
    spread = features.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1e-300, np.abs(features).max(axis=0))
    order = rng.permutation(len(features))
    searched, counted = order[: len(order) // 2], order[len(order) // 2 :]
    least = max(math.ceil(share * len(searched)), fewest)
    if not varies.any() or least < 1 or least >= len(searched):
        return None
    scale, best = np.where(varies, spread, np.inf), (math.inf, np.zeros(0), 0.0, 0.0)
    for tried, better in zip(_directions(varies, rng), (0.0, _CLEARLY), strict=True):
        directions = tried / scale / np.linalg.norm(tried / scale, axis=1, keepdims=True)
        for start in range(0, len(directions), step := max(1, _HELD // max(features.shape))):
            some = directions[start : start + step]
            found = _least_covered_window(features[searched] @ some.T, covered[searched], least)
            if found[0] < best[0] - better:
                best = (found[0], some[found[1]], found[2], found[3])
    _, direction, low, high = best
    projected = features[counted] @ direction
    inside = (projected >= low) & (projected <= high)
    return Slab(direction, low, high, int(covered[counted][inside].sum()), int(inside.sum()))


def _directions(varies: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The features themselves and random mixtures of them, (D, d) each."""
    places = np.flatnonzero(varies)
    axes = np.zeros((min(len(places), _AXES), len(varies)))
    axes[np.arange(len(axes)), np.sort(rng.permutation(places)[: len(axes)])] = 1
    mixed = rng.standard_normal((_DIRECTIONS if len(places) > 1 else 0, len(varies)))
    return axes, mixed * varies


def _least_covered_window(projected: np.ndarray, covered: np.ndarray, least: int) -> tuple[float, int, float, float]:
    """Coverage, direction and limits of the least covered run of at least `least` rows along any direction."""
    order = np.argsort(projected, axis=0, kind="stable")
    ordered = np.take_along_axis(projected, order, axis=0)
    sums = np.concatenate([np.zeros((1, order.shape[1])), np.cumsum(covered[order], axis=0, dtype=np.float64)])
    best = (math.inf, 0, 0.0, 0.0)
    for length in sorted({min(math.ceil(least * factor), len(covered) - 1) for factor in _SLAB_LENGTHS}):
        means = (sums[length:] - sums[:-length]) / length
        start, direction = np.unravel_index(int(means.argmin()), means.shape)
        if means[start, direction] < best[0]:
            ends = ordered[start, direction], ordered[start + length - 1, direction]
            best = (float(means[start, direction]), int(direction), float(ends[0]), float(ends[1]))
    return best
