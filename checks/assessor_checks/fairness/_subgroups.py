"""Every subgroup against all others: simultaneous limits, permutation max-T, exact p-values, shrunken rates.

Subgroups overlap (women, women over 50), so they are not compared with each other: each is held against the rows
outside it. Kearns, Neel, Roth, Wu 2018 (arXiv 1711.05144) weigh the difference from everybody's rate by the subgroup's
share of rows; that is share x (1 - share) x the difference used here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, betaln, expit, gammaln, logit, ndtri

from assessor_checks._gaps import holm, wilson_limits
from assessor_checks._groups import Groups
from assessor_checks._rates import Rate

_DRAWS = 10_000  # normal draws behind a critical value; its Monte Carlo error is about 0.02
_FEWEST_DRAWS = 2_000
_WORK = 80_000_000  # groups or cells x draws that are worth their time
_HELD = 20_000_000  # permuted counts held at once
_FEWEST_SHRUNK = 3  # groups from which a spread between groups can be told from chance at all
_MOST_PRECISION = 1e6  # prior rows at which shrunken rates are all but equal


class Subgroups(NamedTuple):
    """Rates of subgroups beside those of all other rows; index g of groups that are judged.

    Attributes:
        group: (J,) position of each judged subgroup among all groups.
        share: (J,) share of the rows that could count.
        rate: (J,) rate of the subgroup.
        rest: (J,) rate of all other rows.
        low: (J,) simultaneous lower limit of rate - rest.
        high: (J,) simultaneous upper limit.
        single_low: (J,) the same, each subgroup by itself.
        single_high: (J,)
        p_max_t: (J,) permutation p-value of parity, adjusted for all subgroups by the maximum.
        p_holm: (J,) exact p-value (hypergeometric), adjusted by Holm.
        critical: Critical value of the simultaneous limits.
    """

    group: np.ndarray
    share: np.ndarray
    rate: np.ndarray
    rest: np.ndarray
    low: np.ndarray
    high: np.ndarray
    single_low: np.ndarray
    single_high: np.ndarray
    p_max_t: np.ndarray
    p_holm: np.ndarray
    critical: float

    @property
    def gap(self) -> np.ndarray:
        """(J,) rate minus rate of all other rows."""
        return np.asarray(self.rate - self.rest)


def compare_subgroups(
    groups: Groups, rate: Rate, *, minimum: int, confidence: float, permutations: int, rng: np.random.Generator
) -> Subgroups | None:
    """Each subgroup with enough rows, and enough rows outside it, against all others.

    Args:
        groups: Groups of all depths.
        rate: Counts by group and cell.
        minimum: Fewest rows that could count, inside and outside.
        confidence: Joint coverage of the simultaneous limits.
        permutations: Permutations of the max-T test.
        rng: Source of critical value and permutations.

    Returns:
        What was found; None where no subgroup is judged.
    """
    hits, trials, total = rate.hits, rate.trials, int(rate.cells.sum())
    index = np.flatnonzero((trials >= minimum) & (total - trials >= minimum))
    if not len(index):
        return None
    all_hits = _all_hits(groups, rate)
    members, inside = groups.members[index], (hits[index], trials[index])
    outside = (all_hits - inside[0], total - inside[1])
    critical = _critical(members, rate.cells, inside, outside, confidence, rng)
    single = float(ndtri((1 + confidence) / 2))
    (low, high), (single_low, single_high) = (_newcombe(inside, outside, z) for z in (critical, single))
    exact = [_hypergeometric_p(int(h), int(n), all_hits, total) for h, n in zip(*inside, strict=True)]
    return Subgroups(
        group=index,
        share=inside[1] / total,
        rate=inside[0] / inside[1],
        rest=outside[0] / outside[1],
        low=low,
        high=high,
        single_low=single_low,
        single_high=single_high,
        p_max_t=_max_t(members, rate.cells, *inside, all_hits, permutations, rng),
        p_holm=np.array(holm(exact)),
        critical=critical,
    )


def _all_hits(groups: Groups, rate: Rate) -> int:
    """Hits over all rows: those of one attribute's groups together."""
    first = np.array(groups.attributes) == groups.attributes[0]
    return int(rate.hits[first].sum())


def _newcombe(
    inside: tuple[np.ndarray, np.ndarray], outside: tuple[np.ndarray, np.ndarray], z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Newcombe's hybrid score limits (1998, method 10) of rate inside minus rate outside."""
    (share, low, high), (other, below, above) = (
        (hits / trials, *wilson_limits(hits, trials, z)) for hits, trials in (inside, outside)
    )
    gap = share - other
    return gap - np.hypot(share - low, above - other), gap + np.hypot(high - share, other - below)


def _critical(
    members: np.ndarray,
    cells: np.ndarray,
    inside: tuple[np.ndarray, np.ndarray],
    outside: tuple[np.ndarray, np.ndarray],
    confidence: float,
    rng: np.random.Generator,
) -> float:
    """The z at which the limits of all subgroups hold together, by simulating the normal limit of the cells' counts.

    As in `_gaps.critical_value`: subgroups that share rows are correlated as their rows are.
    """
    single = float(ndtri((1 + confidence) / 2))
    draws = int(np.clip(_WORK // max(members.shape), _FEWEST_DRAWS, _DRAWS))
    noise = rng.standard_normal((len(cells), draws)) * np.sqrt(cells)[:, None]
    ours = members.astype(np.float64) @ noise
    largest = np.zeros(draws)
    spreads = [np.sqrt((h + 2) / (n + 4) * (1 - (h + 2) / (n + 4))) for h, n in (inside, outside)]
    everything = noise.sum(axis=0)
    for row, n, m, spread, other in zip(ours, inside[1], outside[1], *spreads, strict=True):
        away = row * (spread / n) - (everything - row) * (other / m)
        np.maximum(largest, np.abs(away) / np.hypot(spread / np.sqrt(n), other / np.sqrt(m)), out=largest)
    return max(single, float(np.quantile(largest, confidence)))


def _max_t(
    members: np.ndarray,
    cells: np.ndarray,
    hits: np.ndarray,
    trials: np.ndarray,
    all_hits: int,
    permutations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(J,) share of permutations in which the largest |z| of any subgroup reaches this one's (Westfall and Young 1993).

    Permuting outcomes among rows leaves the hits of the finest cells multivariate hypergeometric.
    """
    total = int(cells.sum())
    expected = trials * all_hits / total
    scale = np.sqrt(np.maximum(all_hits / total * (1 - all_hits / total) * trials * (total - trials) / total, 1e-300))
    observed = np.abs(hits - expected) / scale
    if all_hits in {0, total}:
        return np.ones(len(hits))
    reached, step = np.zeros(len(hits)), max(1, _HELD // max(members.shape))
    inside = members.T.astype(np.float64)
    for start in range(0, permutations, step):
        drawn = rng.multivariate_hypergeometric(cells, all_hits, size=min(step, permutations - start)) @ inside
        largest = (np.abs(drawn - expected) / scale).max(axis=1)
        reached += (largest[:, None] >= observed - 1e-9).sum(axis=0)
    return np.asarray((1 + reached) / (1 + permutations))


def _hypergeometric_p(hits: int, n: int, all_hits: int, total: int) -> float:
    """Fisher's exact two-sided p-value: n of `total` rows hold a number of all hits that is no more probable."""
    possible = np.arange(max(0, n + all_hits - total), min(n, all_hits) + 1)
    logs = -(gammaln(possible + 1) + gammaln(all_hits - possible + 1))
    logs -= gammaln(n - possible + 1) + gammaln(total - all_hits - n + possible + 1)
    weight = np.exp(logs - logs.max())
    rarer = logs <= logs[hits - possible[0]] + 1e-7
    return float(min(1.0, weight[rarer].sum() / weight.sum()))


# --- shrinkage -------------------------------------------------------------------------------------------------------


class Shrunken(NamedTuple):
    """Rates pulled towards their common mean as far as chance explains their spread; (G,) each.

    Attributes:
        rate: Posterior mean.
        low: Lower end of the credible interval.
        high: Upper end.
        precision: Prior rows: how many rows a group needs until its own rate counts half.
    """

    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    precision: float


def shrunken(hits: np.ndarray, trials: np.ndarray, confidence: float) -> Shrunken | None:
    """Empirical Bayes rates of groups of one family: beta prior fitted by maximum likelihood (beta-binomial).

    Partial pooling as in Efron and Morris 1975, J. Am. Stat. Assoc. 70:311, for shares. The credible intervals take
    the fitted prior as known, so they are a little narrow where there are few groups.

    Args:
        hits: (G,) rows that count.
        trials: (G,) rows that could count; groups without any get the prior's mean.
        confidence: Of the credible intervals.

    Returns:
        Rates and intervals; None with fewer than three groups that have rows, or where all or no rows count.
    """
    from scipy.optimize import minimize

    there = trials > 0
    if there.sum() < _FEWEST_SHRUNK or hits.sum() in {0, trials.sum()}:
        return None

    def loss(point: np.ndarray) -> float:
        mean, rows = expit(point[0]), np.exp(point[1])
        a, b = mean * rows, (1 - mean) * rows
        return -float((betaln(a + hits[there], b + (trials - hits)[there]) - betaln(a, b)).sum())

    middle = float(logit(hits.sum() / trials.sum()))
    bounds = [(middle - 5, middle + 5), (0.0, np.log(_MOST_PRECISION))]
    fits = [minimize(loss, [middle, start], bounds=bounds) for start in (np.log(10.0), np.log(1000.0))]
    best = min(fits, key=lambda fit: float(fit.fun))
    mean, rows = float(expit(best.x[0])), float(np.exp(best.x[1]))
    a, b = mean * rows + hits, (1 - mean) * rows + trials - hits
    tail = (1 - confidence) / 2
    return Shrunken(a / (a + b), betaincinv(a, b, tail), betaincinv(a, b, 1 - tail), rows)
