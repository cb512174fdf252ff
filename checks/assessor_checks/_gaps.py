"""Gaps between groups with intervals that hold their level, and permutation tests of parity.

The largest of many differences is never negative, and a bootstrap of it excludes zero under exact parity in every
sample, so it is no test. Hence signed pairwise differences with simultaneous limits. In 400 to 2000 simulations of
exact parity (2 to 8 groups of 20 to 1200 rows, rates 0.05 to 0.95) the lower end left zero in 0 to 6.3 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from assessor_checks._groups import Groups
from assessor_checks._rates import Rate

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "demographic_parity_difference": ("selection_rate",),
    "demographic_parity_ratio": ("selection_rate",),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "accuracy_difference": ("accuracy",),
}
_DRAWS = 10_000  # normal draws behind a critical value; its Monte Carlo error is about 0.02
_FEWEST_DRAWS = 2_000
_WORK = 80_000_000  # pairs x draws that are worth their time, about a second
_RATIO_BOUND = 1e9  # ratios are searched between 1 / bound and bound


class Gap(NamedTuple):
    """The worst gap over all pairs, its interval and the critical value behind the lower end."""

    value: float
    low: float
    high: float
    critical: float


class PairRow(NamedTuple):
    """Two groups and their signed difference with a simultaneous interval."""

    rate: str
    first: int
    second: int
    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """All that is known of one metric.

    Attributes:
        name: One of `COMPONENTS`.
        rates: The rates behind it.
        gap: Value and interval.
        pairs: All pairs of groups, the largest difference first.
        tests: Attribute, p-value of parity in it, the same after Holm.
        p_value: The smallest p-value after Holm.
        n: Rows that count in any group that is compared.
        unjudged: Attributes (or the intersection) in which some rate has no two groups to compare.
    """

    name: str
    rates: tuple[Rate, ...]
    gap: Gap
    pairs: tuple[PairRow, ...]
    tests: tuple[tuple[str, float, float], ...]
    p_value: float
    n: int
    unjudged: tuple[str, ...]


def compare(
    name: str, groups: Groups, rates: Mapping[str, Rate], confidence: float, permutations: int, rng: np.random.Generator
) -> Comparison | None:
    """One metric over all attributes and their intersection.

    Args:
        name: One of `COMPONENTS`.
        groups: The groups.
        rates: As from `count_rates`.
        confidence: Coverage of the interval.
        permutations: Permutations behind each p-value.
        rng: Source of all draws.

    Returns:
        The comparison, or None where a rate has no pair of groups, or a ratio only zeros.
    """
    chosen = tuple(rates[part] for part in COMPONENTS[name])
    if any(len(rate.first) == 0 for rate in chosen):
        return None
    gap: Gap | None
    gap, pairs = difference_gap(groups.members, chosen, confidence, rng)
    if name == "demographic_parity_ratio":
        gap = ratio_gap(chosen[0], confidence, gap.critical)
    if gap is None:
        return None
    families = np.array(groups.attributes)
    p_values = {x: permutation_p(chosen, families == x, permutations, rng) for x in groups.families}
    tested = {family: p for family, p in p_values.items() if p is not None}
    adjusted = holm(list(tested.values()))
    return Comparison(
        name=name,
        rates=chosen,
        gap=gap,
        pairs=tuple(pairs),
        tests=tuple((family, p, q) for (family, p), q in zip(tested.items(), adjusted, strict=True)),
        p_value=min(adjusted),
        n=sum(_rows_compared(groups.members, rate) for rate in chosen),
        unjudged=tuple(x for x in groups.families if any(x not in families[rate.first] for rate in chosen)),
    )


def _rows_compared(members: np.ndarray, rate: Rate) -> int:
    return int(rate.cells[members[_compared(rate)].any(axis=0)].sum())


def _compared(rate: Rate) -> np.ndarray:
    """Indices of the groups that are in any pair, ascending."""
    return np.unique(np.concatenate([rate.first, rate.second]))


def wilson_limits(hits: np.ndarray, trials: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits of many shares at critical value z; trials at least 1."""
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = np.where(hits == 0, 0.0, np.clip(centre - half, 0.0, share))
    return low, np.where(hits == trials, 1.0, np.clip(centre + half, share, 1.0))


def differences(rate: Rate, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed differences first minus second of all pairs, with Newcombe's hybrid score limits.

    Newcombe 1998, Statistics in Medicine 17:873, method 10; for G groups, z is the simultaneous critical value.

    Args:
        rate: Counts and pairs.
        z: Critical value, 1.96 for one pair at 95 %.

    Returns:
        Difference, low and high, (P,) each.
    """
    judged = np.maximum(rate.trials, 1)
    share = rate.hits / judged
    low, high = wilson_limits(rate.hits, judged, z)
    down, up = share - low, high - share
    i, j = rate.first, rate.second
    value = share[i] - share[j]
    return value, value - np.hypot(down[i], up[j]), value + np.hypot(up[i], down[j])


def critical_value(members: np.ndarray, rates: Sequence[Rate], confidence: float, rng: np.random.Generator) -> float:
    """The z at which the intervals of all pairs of all these rates hold together.

    Quantile of max |t| over pairs, by simulating the normal limit of the finest cells' counts. Groups that share rows
    (an attribute and the intersection) are correlated as their rows are; variances are those of each group, with
    two successes and two failures added. The rates have disjoint denominators and are drawn independently.

    Args:
        members: (G, S) as in `Groups`.
        rates: Rates whose pairs must hold together; at least one pair in all.
        confidence: Wanted joint coverage.
        rng: Source of the draws.

    Returns:
        Critical value, never under that of a single pair.
    """
    single = float(ndtri((1 + confidence) / 2))
    pairs = sum(len(rate.first) for rate in rates)
    if pairs == 1:
        return single
    draws = int(np.clip(_WORK // max(pairs, members.shape[1]), _FEWEST_DRAWS, _DRAWS))
    return max(single, float(np.quantile(_largest_t(members, rates, draws, rng), confidence)))


def _largest_t(members: np.ndarray, rates: Sequence[Rate], draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,) max |t| over the pairs of all rates under parity."""
    largest = np.zeros(draws)
    for rate in rates:
        compared = _compared(rate)
        inside = members[compared]
        used = inside.any(axis=0)
        trials = rate.trials[compared]
        smoothed = (rate.hits[compared] + 2) / (trials + 4)
        spread = np.sqrt(smoothed * (1 - smoothed))
        cells = rng.standard_normal((int(used.sum()), draws)) * np.sqrt(rate.cells[used])[:, None]
        noise = (inside[:, used].astype(np.float64) @ cells) * (spread / trials)[:, None]
        error = spread / np.sqrt(trials)
        for i, j in zip(*np.searchsorted(compared, (rate.first, rate.second)), strict=True):
            np.maximum(largest, np.abs(noise[i] - noise[j]) / np.hypot(error[i], error[j]), out=largest)
    return largest


def difference_gap(
    members: np.ndarray, rates: Sequence[Rate], confidence: float, rng: np.random.Generator
) -> tuple[Gap, list[PairRow]]:
    """The largest absolute difference over all pairs of groups (and rates), with an honest interval.

    Low is the largest lower limit of |difference| among simultaneous intervals: it exceeds the true worst gap, and
    under parity exceeds 0, in at most 1 - confidence of samples. High is the largest upper limit among the
    unadjusted intervals: it must cover the truly worst pair only, which is one fixed pair, so no adjustment is due
    (Berger 1982, Technometrics 24:295, intersection-union). Both ends are asymptotic; see the simulations in tests.

    Args:
        members: (G, S) as in `Groups`.
        rates: Rates to take the worst over, with at least one pair in all.
        confidence: Wanted coverage.
        rng: Source of the critical value's draws.

    Returns:
        The gap, and all pairs with simultaneous intervals, largest absolute difference first.
    """
    critical = critical_value(members, rates, confidence, rng)
    rows: list[PairRow] = []
    high = 0.0
    for rate in rates:
        value, below, above = differences(rate, critical)
        _, single_below, single_above = differences(rate, float(ndtri((1 + confidence) / 2)))
        high = max([high, *np.maximum(np.abs(single_below), np.abs(single_above)).tolist()])
        columns = (rate.first, rate.second, value, below, above)
        rows += [PairRow(rate.name, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    rows.sort(key=lambda row: -abs(row.value))
    low = max(0.0, *(max(row.low, -row.high) for row in rows))
    return Gap(abs(rows[0].value), low, min(1.0, high), critical), rows


def ratio_gap(rate: Rate, confidence: float, critical: float) -> Gap | None:
    """The smallest ratio of a rate between two groups of the same attribute, with an honest interval.

    Limits of each ratio are Koopman's score limits (Koopman 1984, Biometrics 40:513). High is the smallest upper
    limit at the simultaneous critical value, at most 1; low the smallest unadjusted lower limit (as in
    `difference_gap`, with the roles exchanged).

    Args:
        rate: Counts and at least one pair.
        confidence: Wanted coverage.
        critical: As from `critical_value` for this rate.

    Returns:
        The gap, or None where the rate is 0 in all groups that are compared.
    """
    i, j = np.concatenate([rate.first, rate.second]), np.concatenate([rate.second, rate.first])
    share = rate.hits / np.maximum(rate.trials, 1)
    defined = share[j] > 0
    if not defined.any():
        return None
    value = float((share[i][defined] / share[j][defined]).min())
    counts = (rate.hits[i], rate.trials[i], rate.hits[j], rate.trials[j])
    low = float(_ratio_limit(*counts, float(ndtri((1 + confidence) / 2))).min())
    high = float(_ratio_limit(*counts, -critical).min())
    return Gap(value, min(low, value), max(min(1.0, high), value), critical)


def _ratio_limit(x: np.ndarray, n: np.ndarray, y: np.ndarray, m: np.ndarray, z: float) -> np.ndarray:
    """(P,) the ratio at which the score statistic of (x / n) / (y / m) equals z: a lower limit for z > 0."""
    low, high = np.full(len(x), -np.log(_RATIO_BOUND)), np.full(len(x), np.log(_RATIO_BOUND))
    for _ in range(60):
        middle = (low + high) / 2
        above = _ratio_score(x, n, y, m, np.exp(middle)) > z
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where((z > 0) & (x == 0), 0.0, np.where((z < 0) & (y == 0), _RATIO_BOUND, np.exp(low)))


def _ratio_score(x: np.ndarray, n: np.ndarray, y: np.ndarray, m: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Score statistic of the hypothesis that the first share is `ratio` times the second; it falls in `ratio`."""
    a, b, c = (n + m) * ratio, ratio * (n + y) + m + x, x + y
    second = 2 * c / (b + np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)))
    first = np.minimum(second * ratio, 1.0)
    variance = first * (1 - first) / n + ratio**2 * second * (1 - second) / m
    return np.asarray((x / n - ratio * y / m) / np.sqrt(np.maximum(variance, 1e-300)))


def permutation_p(rates: Sequence[Rate], pick: np.ndarray, permutations: int, rng: np.random.Generator) -> float | None:
    """P-value of equal rates in the groups picked, by permuting outcomes across groups (exact at any size).

    The statistic is the largest |z| with pooled variance over pairs and rates. Permuting n outcomes of which K are
    hits leaves group counts that are multivariate hypergeometric, so counts are drawn and no rows are shuffled.

    Args:
        rates: Rates tested together; each is permuted within its own denominator (true positive rate: rows with a
            positive label; false positive rate: rows with a negative one).
        pick: (G,) bool, the groups of one attribute.
        permutations: Number of permutations.
        rng: Source of the permutations.

    Returns:
        (1 + number at least as extreme) / (1 + permutations), or None where no pair can be compared.
    """
    observed, drawn = 0.0, np.zeros(permutations)
    compared = False
    for rate in rates:
        chosen = _compared(rate)
        chosen = chosen[pick[chosen]]
        if len(chosen) < 2:
            continue
        compared = True
        hits, trials = rate.hits[chosen], rate.trials[chosen]
        counts = rng.multivariate_hypergeometric(trials, int(hits.sum()), size=permutations)
        observed = max(observed, float(_largest_z(hits[None], trials)[0]))
        np.maximum(drawn, _largest_z(counts, trials), out=drawn)
    if not compared:
        return None
    return float((1 + (drawn >= observed - 1e-9).sum()) / (1 + permutations))


def _largest_z(hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """(R,) largest |z| with pooled variance over all pairs of groups, for hits (R, G) and trials (G,)."""
    pooled = hits[0].sum() / trials.sum()
    largest = np.zeros(len(hits))
    if pooled in {0.0, 1.0}:
        return largest
    share = np.ascontiguousarray((hits / trials).T) / np.sqrt(pooled * (1 - pooled))
    for i, j in zip(*np.triu_indices(len(trials), k=1), strict=True):
        np.maximum(largest, np.abs(share[i] - share[j]) / np.sqrt(1 / trials[i] + 1 / trials[j]), out=largest)
    return largest


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values adjusted for their number (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def all_tests(found: Mapping[str, Comparison]) -> list[tuple[str, str, float, float, float]]:
    """Tests of several metrics together.

    Args:
        found: Comparisons by metric.

    Returns:
        Metric, attribute, p-value, after Holm over attributes, after Holm over metrics and attributes; difference and
        ratio of one rate are the same test, which counts once.
    """
    tests = {(COMPONENTS[name], test[0]): test[1] for name, item in found.items() for test in item.tests}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    return [(name, *test, adjusted[COMPONENTS[name], test[0]]) for name, item in found.items() for test in item.tests]


def resampled_gaps(item: Comparison, groups: Groups, resampled: Mapping[str, np.ndarray]) -> np.ndarray:
    """The metric in every resample of the rows, over the groups that are compared.

    Args:
        item: Which metric, and which groups.
        groups: The groups.
        resampled: (R, G) by rate, as from `resampled_rates`.

    Returns:
        (R,) largest differences, or smallest ratios; NaN where a group has no rows that could count.
    """
    families, found = np.array(groups.attributes), []
    for rate in item.rates:
        compared = _compared(rate)
        for family in dict.fromkeys(families[compared].tolist()):
            values = resampled[rate.name][:, compared[families[compared] == family]]
            low, high = values.min(axis=1), values.max(axis=1)
            ratio = item.name == "demographic_parity_ratio"
            found.append(np.divide(low, high, where=high > 0, out=np.full(len(low), np.nan)) if ratio else high - low)
    worst = np.fmin if item.name == "demographic_parity_ratio" else np.fmax
    return np.asarray(worst.reduce(found))
