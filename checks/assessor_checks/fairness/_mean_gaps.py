"""Differences of means between groups, with intervals that hold their level together, and permutation tests.

What `_gaps` is for shares, for values of any kind: signed pairwise differences with Welch's standard error,
simultaneous limits by simulation (as Games and Howell 1976, but for whichever pairs are compared), and a permutation
test of the largest studentised difference, which at large n keeps its level also where the groups' variances differ
(Janssen 1997; Chung and Romano 2013, Annals of Statistics 41:484).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from assessor.contract import progress
from assessor_checks._gaps import Gap, PairRow, holm
from assessor_checks._groups import Groups, pairs_of

_DRAWS = 10_000  # draws behind a critical value; its Monte Carlo error is about 0.02
_WORK = 80_000_000  # pairs x draws that are worth their time
_FEWEST_DRAWS = 2_000
_HELD = 2_000_000  # entries of shuffled values held at once


class Moments(NamedTuple):
    """Mean and variance of a value by group, with the pairs of groups that may be compared.

    Attributes:
        name: What the value is.
        n: (G,) rows.
        mean: (G,) mean, 0 where there are no rows.
        variance: (G,) variance with divisor n - 1, 0 where there are fewer than two rows.
        cells: (S,) rows by finest cell.
        first: (P,) index of the first group of each pair; pairs lie within one attribute.
        second: (P,) index of the second.
    """

    name: str
    n: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    cells: np.ndarray
    first: np.ndarray
    second: np.ndarray


class MeanComparison(NamedTuple):
    """The worst difference of a mean over all pairs of groups.

    Attributes:
        name: What the value is.
        gap: Value, interval and critical value.
        pairs: All pairs, the largest difference first, with simultaneous limits.
        tests: Attribute, p-value of equal distributions in it, the same after Holm.
        p_value: The smallest after Holm.
        n: Rows of the groups that are compared.
        unjudged: Attributes (or intersections) without two groups to compare.
    """

    name: str
    gap: Gap
    pairs: tuple[PairRow, ...]
    tests: tuple[tuple[str, float, float], ...]
    p_value: float
    n: int
    unjudged: tuple[str, ...]


def moments(name: str, groups: Groups, values: np.ndarray, *, minimum: int) -> Moments:
    """Mean and variance by group; pairs are those in which both groups reach the minimum.

    Args:
        name: What the value is.
        groups: The groups, with the rows' cells.
        values: (n,) finite.
        minimum: Fewest rows of a group that is compared, at least 2.

    Returns:
        The moments.
    """
    size, centre = groups.members.shape[1], float(values.mean())
    shifted = values - centre  # so that the squares lose no digits
    members = groups.members.astype(np.float64)
    cells = np.bincount(groups.cells, minlength=size)
    n = members @ cells
    sums = members @ np.bincount(groups.cells, shifted, minlength=size)
    mean = np.divide(sums, n, where=n > 0, out=np.zeros(len(n)))
    squares = np.array(
        [
            np.bincount(groups.cells, (shifted - mean[index]) ** 2, minlength=size)[inside].sum()
            for index, inside in enumerate(groups.members)
        ]
    )
    variance = np.divide(squares, n - 1, where=n > 1, out=np.zeros(len(n)))
    first, second = pairs_of(groups.attributes, n >= minimum)
    return Moments(name, n.astype(np.int64), mean + np.where(n > 0, centre, 0), variance, cells, first, second)


def compare_means(
    name: str,
    groups: Groups,
    values: np.ndarray,
    *,
    minimum: int,
    confidence: float,
    permutations: int,
    rng: np.random.Generator,
) -> MeanComparison | None:
    """The worst difference of means between groups of one attribute, with interval and tests.

    Args:
        name: What the value is.
        groups: The groups, with the rows' cells.
        values: (n,) finite.
        minimum: Fewest rows of a group that is compared, at least 2.
        confidence: Coverage of the interval.
        permutations: Permutations behind each p-value.
        rng: Source of all draws.

    Returns:
        The comparison, or None where no two groups can be compared.
    """
    found = moments(name, groups, values, minimum=minimum)
    if len(found.first) == 0:
        return None
    gap, pairs = mean_gap(groups, found, confidence, rng)
    families = np.array(groups.attributes)
    compared = np.unique(np.concatenate([found.first, found.second]))
    judged = [x for x in groups.families if x in families[found.first]]
    p_values = {x: shuffled_p(groups, compared[families[compared] == x], values, permutations, rng) for x in judged}
    adjusted = holm(list(p_values.values()))
    if min(adjusted) > 1 - confidence:  # with small groups and skewed values the test keeps its level, the limits less
        gap = gap._replace(low=0.0)
    return MeanComparison(
        name=name,
        gap=gap,
        pairs=pairs,
        tests=tuple((family, p, q) for (family, p), q in zip(p_values.items(), adjusted, strict=True)),
        p_value=min(adjusted),
        n=int(found.cells[groups.members[compared].any(axis=0)].sum()),
        unjudged=tuple(x for x in groups.families if x not in judged),
    )


def mean_gap(
    groups: Groups, found: Moments, confidence: float, rng: np.random.Generator
) -> tuple[Gap, tuple[PairRow, ...]]:
    """The largest absolute difference of means, with an interval as in `_gaps.difference_gap`.

    Args:
        groups: The groups.
        found: With at least one pair.
        confidence: Wanted coverage.
        rng: Source of the critical value's draws.

    Returns:
        The gap, and all pairs with simultaneous intervals, largest absolute difference first.
    """
    i, j = found.first, found.second
    value, error = found.mean[i] - found.mean[j], _error(found)
    single = stdtrit(_freedom(found), (1 + confidence) / 2)
    critical = critical_value(groups, found, confidence, rng)
    reach = np.maximum(critical, single) * error
    order = np.argsort(-np.abs(value), kind="stable")
    columns = (i, j, value, value - reach, value + reach)
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    low = max(0.0, float((np.abs(value) - reach).max()))
    high = float((np.abs(value) + single * error).max())
    return Gap(float(np.abs(value).max()), low, high, critical), tuple(PairRow(found.name, *row) for row in rows)


def _error(found: Moments) -> np.ndarray:
    """(P,) Welch's standard error of each difference."""
    share = found.variance / np.maximum(found.n, 1)
    return np.asarray(np.sqrt(share[found.first] + share[found.second]))


def _freedom(found: Moments) -> np.ndarray:
    """(P,) degrees of freedom (Satterthwaite); 1 where neither group varies."""
    share = found.variance / np.maximum(found.n, 1)
    own = share**2 / np.maximum(found.n - 1, 1)
    over, under = (share[found.first] + share[found.second]) ** 2, own[found.first] + own[found.second]
    return np.asarray(np.divide(over, under, where=under > 0, out=np.ones(len(over))))


def critical_value(groups: Groups, found: Moments, confidence: float, rng: np.random.Generator) -> float:
    """The t at which the intervals of all pairs hold together.

    Quantile of max |t| over pairs, by simulating normal sums of the finest cells' rows and chi-square variances of the
    groups. Groups that share rows are correlated as their rows are.

    Args:
        groups: The groups.
        found: With at least one pair.
        confidence: Wanted joint coverage.
        rng: Source of the draws.

    Returns:
        Critical value; for a single pair near that of Welch's test.
    """
    compared = np.unique(np.concatenate([found.first, found.second]))
    inside = groups.members[compared]
    used = inside.any(axis=0)
    draws = int(np.clip(_WORK // max(len(found.first), int(used.sum())), _FEWEST_DRAWS, _DRAWS))
    n, spread = found.n[compared], np.sqrt(found.variance[compared])
    cells = rng.standard_normal((int(used.sum()), draws)) * np.sqrt(found.cells[used])[:, None]
    noise = (inside[:, used].astype(np.float64) @ cells) * (spread / n)[:, None]
    errors = (spread**2 / n)[:, None] * rng.chisquare(n - 1, (draws, len(n))).T / (n - 1)[:, None]
    largest = np.zeros(draws)
    for i, j in zip(*np.searchsorted(compared, (found.first, found.second)), strict=True):
        under = np.sqrt(errors[i] + errors[j])
        np.maximum(largest, np.divide(np.abs(noise[i] - noise[j]), under, where=under > 0, out=under), out=largest)
    return float(np.quantile(largest, confidence))


def shuffled_p(
    groups: Groups, picked: np.ndarray, values: np.ndarray, permutations: int, rng: np.random.Generator
) -> float:
    """P-value of equal distributions in disjoint groups: largest studentised difference, values shuffled.

    Args:
        groups: The groups, with the rows' cells.
        picked: Indices of at least two disjoint groups.
        values: (n,) finite.
        permutations: Number of permutations.
        rng: Source of the permutations.

    Returns:
        (1 + number at least as extreme) / (1 + permutations).
    """
    code = np.full(groups.members.shape[1], -1)
    for index, group in enumerate(picked):
        code[groups.members[group]] = index
    codes = code[groups.cells]
    values, codes = values[codes >= 0], codes[codes >= 0]
    if (values == values[0]).all():
        return 1.0
    values = (values - values.mean()) / values.std()
    indicator = (codes[:, None] == np.arange(len(picked))).astype(np.float64)
    counts = indicator.sum(axis=0)
    observed = _largest_studentised(values[None], indicator, counts)[0]
    step, reached = max(1, _HELD // len(values)), 0
    for start in range(0, permutations, step):
        progress("permutations", start, permutations)
        drawn = rng.permuted(np.tile(values, (min(step, permutations - start), 1)), axis=1)
        reached += int((_largest_studentised(drawn, indicator, counts) >= observed * (1 - 1e-9)).sum())
    return (1 + reached) / (1 + permutations)


def _largest_studentised(values: np.ndarray, indicator: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R,) largest |Welch t| over pairs of groups, for values (R, n)."""
    mean = values @ indicator / counts
    share = np.maximum((values**2) @ indicator / counts - mean**2, 1e-12) / np.maximum(counts - 1, 1)
    largest = np.zeros(len(values))
    for i, j in zip(*np.triu_indices(len(counts), k=1), strict=True):
        np.maximum(largest, np.abs(mean[:, i] - mean[:, j]) / np.sqrt(share[:, i] + share[:, j]), out=largest)
    return largest
