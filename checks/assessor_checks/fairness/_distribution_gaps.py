"""How far the distributions of a value lie apart between groups: Kolmogorov and Wasserstein distances, with tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from assessor.contract import progress
from assessor_checks._gaps import holm
from assessor_checks._groups import Groups, pairs_of

BINS = 512  # quantiles that values are rounded to where rows are shuffled; the distances themselves are not rounded
_TOLD = 50  # permutations between two signs of life


class DistributionPair(NamedTuple):
    """Two groups and how far their distributions lie apart: largest difference of shares, and area between them."""

    first: int
    second: int
    kolmogorov: float
    wasserstein: float


class DistributionComparison(NamedTuple):
    """The worst pair of groups.

    Attributes:
        kolmogorov: Largest Kolmogorov distance, in [0, 1].
        low: Lower end of its interval.
        high: Upper end.
        wasserstein: Largest Wasserstein distance, in units of the value.
        pairs: All pairs, the largest Kolmogorov distance first.
        tests: Attribute, p-value of equal distributions in it, the same after Holm.
        p_value: The smallest after Holm.
        n: Rows of the groups that are compared.
        unjudged: Attributes (or intersections) without two groups to compare.
    """

    kolmogorov: float
    low: float
    high: float
    wasserstein: float
    pairs: tuple[DistributionPair, ...]
    tests: tuple[tuple[str, float, float], ...]
    p_value: float
    n: int
    unjudged: tuple[str, ...]


def compare_distributions(
    groups: Groups,
    values: np.ndarray,
    *,
    minimum: int,
    confidence: float,
    permutations: int,
    rng: np.random.Generator,
) -> DistributionComparison | None:
    """Distances between the distributions of all pairs of groups of one attribute.

    The interval of the largest Kolmogorov distance comes from bands around each distribution (Dvoretzky, Kiefer and
    Wolfowitz 1956, with the constant of Massart 1990): for the low end all groups' bands hold together, for the high
    end the two of a pair, which is enough, since it must cover the truly worst pair only. It holds at any size and is
    wider than need be.

    Args:
        groups: The groups, with the rows' cells.
        values: (n,) finite.
        minimum: Fewest rows of a group that is compared.
        confidence: Coverage of the interval.
        permutations: Permutations behind each p-value.
        rng: Source of the permutations.

    Returns:
        The comparison, or None where no two groups can be compared.
    """
    cells = np.bincount(groups.cells, minlength=groups.members.shape[1])
    counts = groups.members.astype(np.float64) @ cells
    first, second = pairs_of(groups.attributes, counts >= minimum)
    if len(first) == 0:
        return None
    compared = np.unique(np.concatenate([first, second]))
    families = np.array(groups.attributes)
    judged = [x for x in groups.families if x in families[first]]
    pairs, p_values = [], {}
    for family in judged:
        own = compared[families[compared] == family]
        codes = _codes(groups, own)
        pairs += _distances(values[codes >= 0], codes[codes >= 0], own)
        p_values[family] = _shuffled_p(values[codes >= 0], codes[codes >= 0], permutations, rng)
    adjusted = holm(list(p_values.values()))
    pairs.sort(key=lambda pair: -pair.kolmogorov)
    low, high = (
        [
            pair.kolmogorov + sign * (_band(counts, pair.first, error) + _band(counts, pair.second, error))
            for pair in pairs
        ]
        for sign, error in ((-1, (1 - confidence) / len(compared)), (1, (1 - confidence) / 2))
    )
    return DistributionComparison(
        kolmogorov=pairs[0].kolmogorov,
        low=max(0.0, *low),
        high=min(1.0, max(high)),
        wasserstein=max(pair.wasserstein for pair in pairs),
        pairs=tuple(pairs),
        tests=tuple((family, p, q) for (family, p), q in zip(p_values.items(), adjusted, strict=True)),
        p_value=min(adjusted),
        n=int(cells[groups.members[compared].any(axis=0)].sum()),
        unjudged=tuple(x for x in groups.families if x not in judged),
    )


def _band(counts: np.ndarray, group: int, error: float) -> float:
    """Half width of a band that holds a whole distribution function of a group but with probability `error`."""
    return float(np.sqrt(np.log(2 / error) / (2 * counts[group])))


def _codes(groups: Groups, picked: np.ndarray) -> np.ndarray:
    """(n,) place of each row's group among the picked, disjoint ones, -1 for rows of none."""
    code = np.full(groups.members.shape[1], -1)
    for index, group in enumerate(picked):
        code[groups.members[group]] = index
    return np.asarray(code[groups.cells])


def _distances(values: np.ndarray, codes: np.ndarray, picked: np.ndarray) -> list[DistributionPair]:
    """Exact distances of all pairs of groups."""
    found, places = np.unique(values, return_inverse=True)
    gaps = np.diff(found, append=found[-1])
    shares = np.stack(
        [
            np.cumsum(np.bincount(places[codes == c], minlength=len(found))) / (codes == c).sum()
            for c in np.unique(codes)
        ]
    )
    return [
        DistributionPair(int(picked[i]), int(picked[j]), float(apart.max()), float(apart @ gaps))
        for i, j in zip(*np.triu_indices(len(picked), k=1), strict=True)
        for apart in [np.abs(shares[i] - shares[j])]
    ]


def _shuffled_p(values: np.ndarray, codes: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
    """P-value of equal distributions: largest Kolmogorov statistic over pairs, groups shuffled among rows."""
    edges = np.sort(values)[np.arange(1, BINS) * len(values) // BINS]
    places = np.unique(np.searchsorted(np.unique(edges), values, side="right"), return_inverse=True)[1]
    counts = np.bincount(codes)
    first, second = np.triu_indices(len(counts), k=1)
    weight = np.sqrt(counts[first] * counts[second] / (counts[first] + counts[second]))

    def largest(order: np.ndarray) -> float:
        size = len(counts)
        table = np.bincount(places * size + order, minlength=(int(places.max()) + 1) * size).reshape(-1, size)
        shares = np.cumsum(table, axis=0) / counts
        return float((np.abs(shares[:, first] - shares[:, second]).max(axis=0) * weight).max())

    observed, reached = largest(codes), 0
    for done in range(permutations):
        if done % _TOLD == 0:
            progress("permutations", done, permutations)
        reached += largest(rng.permutation(codes)) >= observed - 1e-9
    return (1 + reached) / (1 + permutations)
