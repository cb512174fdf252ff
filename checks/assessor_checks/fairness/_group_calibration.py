"""Does a probability mean the same for every group: at the same score, does the event come true as often?

Rows are compared within bins of the score, as strata (Mantel and Haenszel 1959; the difference of risks with Cochran's
weights, Greenland and Robins 1985, Biometrics 41:55). What is compared is event minus score, so that groups with other
scores within one bin do not look different: for a calibrated model that is 0 on average everywhere. Tests shuffle these
residuals among the rows of a bin, which keeps the score's distribution in each group as it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from assessor.contract import progress
from assessor_checks._gaps import Gap, PairRow, holm
from assessor_checks._groups import Groups, pairs_of

_HELD = 4_000_000  # entries of shuffled residuals held at once


class CalibrationComparison(NamedTuple):
    """Differences of calibration between groups.

    Attributes:
        gap: Largest absolute difference over pairs, interval and critical value.
        pairs: All pairs, largest first: how much more often the event comes true in the first at the same score.
        tests: Attribute, p-value of equal calibration on average, p-value of equal calibration curves.
        adjusted: The p-values after Holm, in the same order, averages first.
        n: Rows of the groups that are compared.
        unjudged: Attributes (or intersections) without two groups to compare.
    """

    gap: Gap
    pairs: tuple[PairRow, ...]
    tests: tuple[tuple[str, float, float], ...]
    adjusted: tuple[float, ...]
    n: int
    unjudged: tuple[str, ...]


class _Design(NamedTuple):
    """What shuffling does not change: B bins, G groups, P pairs of groups that meet in some bin.

    Attributes:
        n: (B, G) rows.
        variance: (B,) of the residuals.
        first: (P,) first group of each pair.
        second: (P,) second group.
        weights: (B, P) Cochran's weights n m / (n + m).
        error: (P,) standard error of each difference.
        families: Attributes with a pair.
        groups: For each of them its groups that are compared.
        inside: For each of them which pairs are its own.
    """

    n: np.ndarray
    variance: np.ndarray
    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray
    error: np.ndarray
    families: tuple[str, ...]
    groups: tuple[np.ndarray, ...]
    inside: tuple[np.ndarray, ...]


def compare_calibration(
    groups: Groups,
    residuals: np.ndarray,
    index: np.ndarray,
    *,
    minimum: int,
    confidence: float,
    permutations: int,
    rng: np.random.Generator,
) -> CalibrationComparison | None:
    """Differences of calibration between all pairs of groups of one attribute, with tests.

    The limits are normal, with the residuals' variance of each bin; the end nearer 0 is simultaneous over all pairs (by
    the largest |difference| in standard errors of the shuffled residuals), and 0 unless a test rejects.

    Args:
        groups: The groups, with the rows' cells.
        residuals: (n,) event (0 or 1) minus score.
        index: (n,) bin of each row by score, no number left out.
        minimum: Fewest rows of a group that is compared.
        confidence: Coverage of the interval.
        permutations: Permutations behind the p-values and the critical value.
        rng: Source of the permutations.

    Returns:
        The comparison, or None where no two groups can be compared.
    """
    design = _design(groups, residuals, index, minimum)
    if design is None:
        return None
    members = groups.members.astype(np.float64).T
    observed = _sums(residuals, groups.cells, index, len(members))[None] @ members
    value, curves = _differences(design, observed)[0], _curves(design, observed)
    scaled = np.array([np.abs(value / design.error)[inside].max() for inside in design.inside])
    reached, largest = np.zeros((2, len(scaled))), []
    step = max(1, _HELD // len(residuals))
    for start in range(0, permutations, step):
        progress("permutations", start, permutations)
        count = min(step, permutations - start)
        drawn = _shuffled_sums(residuals, groups.cells, index, len(members), count, rng) @ members
        t = np.abs(_differences(design, drawn) / design.error)
        largest.append(t.max(axis=1))
        maxima = np.stack([t[:, inside].max(axis=1) for inside in design.inside], axis=1)
        reached += [(maxima >= scaled - 1e-9).sum(axis=0), (_curves(design, drawn) >= curves * (1 - 1e-9)).sum(axis=0)]
    p_values = (1 + reached) / (1 + permutations)
    adjusted = holm(p_values.ravel().tolist())
    critical = max(_single(confidence), float(np.quantile(np.concatenate(largest), confidence)))
    compared = np.unique(np.concatenate([design.first, design.second]))
    return CalibrationComparison(
        gap=_gap(design, value, critical, confidence, rejected=min(adjusted) <= 1 - confidence),
        pairs=_pair_rows(design, value, critical),
        tests=tuple((x, *p_values[:, place].tolist()) for place, x in enumerate(design.families)),
        adjusted=adjusted,
        n=int(np.isin(groups.cells, np.flatnonzero(groups.members[compared].any(axis=0))).sum()),
        unjudged=tuple(x for x in groups.families if x not in design.families),
    )


def _single(confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2))


def _gap(design: _Design, value: np.ndarray, critical: float, confidence: float, *, rejected: bool) -> Gap:
    low = float((np.abs(value) - critical * design.error).max())
    high = float((np.abs(value) + _single(confidence) * design.error).max())
    return Gap(float(np.abs(value).max()), max(0.0, low) if rejected else 0.0, min(1.0, high), critical)


def _pair_rows(design: _Design, value: np.ndarray, critical: float) -> tuple[PairRow, ...]:
    reach = critical * design.error
    order = np.argsort(-np.abs(value), kind="stable")
    columns = (design.first, design.second, value, value - reach, value + reach)
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    return tuple(PairRow("calibration", *row) for row in rows)


def _design(groups: Groups, residuals: np.ndarray, index: np.ndarray, minimum: int) -> _Design | None:
    """Rows, weights and errors; None where no two groups of an attribute have enough rows and meet in a bin."""
    cells, bins = groups.members.shape[1], int(index.max()) + 1
    table = np.bincount(index * cells + groups.cells, minlength=bins * cells).reshape(bins, cells)
    n = table @ groups.members.astype(np.float64).T
    first, second = pairs_of(groups.attributes, n.sum(axis=0) >= minimum)
    together = n[:, first] + n[:, second]
    weights = np.divide(n[:, first] * n[:, second], together, where=together > 0, out=np.zeros_like(together))
    rows = np.bincount(index)
    mean = np.bincount(index, residuals) / rows
    variance = np.bincount(index, (residuals - mean[index]) ** 2) / np.maximum(rows - 1, 1)
    met = (weights.sum(axis=0) > 0) & ((weights * variance[:, None]).sum(axis=0) > 0)
    if not met.any():
        return None
    first, second, weights = first[met], second[met], weights[:, met]
    families = np.array(groups.attributes)
    names = tuple(x for x in groups.families if x in families[first])
    compared = np.unique(np.concatenate([first, second]))
    return _Design(
        n=n,
        variance=variance,
        first=first,
        second=second,
        weights=weights,
        error=np.sqrt((weights * variance[:, None]).sum(axis=0)) / weights.sum(axis=0),
        families=names,
        groups=tuple(compared[families[compared] == x] for x in names),
        inside=tuple(families[first] == x for x in names),
    )


def _sums(residuals: np.ndarray, cells: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """(B, S) sum of residuals by bin and finest cell."""
    bins = int(index.max()) + 1
    return np.bincount(index * size + cells, residuals, minlength=bins * size).reshape(bins, size)


def _shuffled_sums(
    residuals: np.ndarray, cells: np.ndarray, index: np.ndarray, size: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(count, B, S) the same with residuals shuffled among the rows of each bin."""
    found = np.zeros((count, int(index.max()) + 1, size))
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(found.shape[1] + 1))
    for bin_, (start, end) in enumerate(pairwise(starts.tolist())):
        rows = order[start:end]
        here, codes = np.unique(cells[rows], return_inverse=True)
        indicator = (codes[:, None] == np.arange(len(here))).astype(np.float64)
        found[:, bin_, here] = rng.permuted(np.tile(residuals[rows], (count, 1)), axis=1) @ indicator
    return found


def _differences(design: _Design, sums: np.ndarray) -> np.ndarray:
    """(R, P) weighted differences of mean residuals, from sums (R, B, G)."""
    mean = np.divide(sums, design.n, where=design.n > 0, out=np.zeros_like(sums))
    apart = mean[:, :, design.first] - mean[:, :, design.second]
    return np.asarray((apart * design.weights).sum(axis=1) / design.weights.sum(axis=0))


def _curves(design: _Design, sums: np.ndarray) -> np.ndarray:
    """(R, F) how far the groups' residuals stray from the bins' means, as chi-square over bins and groups."""
    found = []
    for chosen in design.groups:
        n, own = design.n[:, chosen], sums[:, :, chosen]
        rows = n.sum(axis=1, keepdims=True)
        mean = np.divide(own.sum(axis=2, keepdims=True), rows, where=rows > 0, out=np.zeros((*own.shape[:2], 1)))
        over = (own - n * mean) ** 2
        under = n * design.variance[:, None]
        found.append(np.divide(over, under, where=under > 0, out=np.zeros_like(over)).sum(axis=(1, 2)))
    return np.stack(found, axis=1)
