"""Shares of groups in data: which there are, honest intervals when rows come in clumps, and of the least of many.

A share that is the smallest or largest of many needs another interval than one that was named beforehand, and rows
that repeat each other say less than as many rows that do not. Both are dealt with here, for all checks of data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from assessor.contract import Better, Metric, NotApplicable, Split, Subject
from assessor_checks import _groups
from assessor_checks._intervals import CONFIDENCE, Estimate

LABEL = "label"
POWER = 0.8
_HELD = 4_000_000  # simulated counts held at once


def share(hits: float, n: float, confidence: float = CONFIDENCE) -> Estimate:
    """Clopper-Pearson interval of a share of n trials, where n may be an effective size and no whole number.

    Args:
        hits: From 0 to n.
        n: Above 0.
        confidence: Wanted coverage.

    Returns:
        Share and interval.

    >>> share(0, 10)
    Estimate(value=0.0, low=0.0, high=0.308...)
    """
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    value = min(max(hits / n, 0.0), 1.0)
    return Estimate(value, min(low, value), max(high, value))


def clumped_share(hits: np.ndarray, clumps: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Share of rows that count, when rows of a clump (copies of one input, one person) count together.

    Clopper-Pearson at the effective number of rows (Korn and Graubard 1998, Survey Methodology 24:193): the number of
    independent rows that would give the variance seen between clumps (linearised ratio), lowered by the ratio of t
    quantiles for few clumps. Without clumps it is the plain Clopper-Pearson interval. Where no row counts, or all do,
    every clump counts as one row.

    Args:
        hits: (n,) bool, n at least 1.
        clumps: (n,) number of the clump of each row.
        confidence: Wanted coverage.

    Returns:
        Share and interval; an endless one for a single clump of several rows.
    """
    n, value = len(hits), float(hits.mean())
    codes = np.unique(clumps, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(codes)
    count = len(sizes)
    if count == n:
        return share(int(hits.sum()), n, confidence)
    if count == 1:
        return Estimate(value, -np.inf, np.inf)
    if value in {0.0, 1.0}:
        return share(value * count, count, confidence)
    totals = np.bincount(codes, weights=hits)
    variance = float(((totals - value * sizes) ** 2).sum()) / n**2 * count / (count - 1) * (n - 1) / n
    upper = 0.5 + confidence / 2
    shrunk = float(stdtrit(n - 1, upper) / stdtrit(count - 1, upper)) ** 2
    effective = min(float(n), value * (1 - value) / variance * shrunk) if variance > 0 else float(n)
    found = share(value * effective, effective, confidence)
    return found._replace(value=value, low=min(found.low, value), high=max(found.high, value))


def extreme(
    interval: Callable[[int, float], Estimate], count: int, *, largest: bool, confidence: float = CONFIDENCE
) -> Estimate:
    """The largest (or smallest) of several estimates, with an interval that knows it was picked.

    For the largest: low is the greatest lower limit among intervals that hold together (Bonferroni); high is the
    greatest upper limit at the plain confidence, since only the truly largest has to lie under it (Berger 1982,
    Technometrics 24:295, intersection-union). For the smallest the other way round.

    Args:
        interval: Number of an estimate and a confidence to the estimate with its interval.
        count: How many there are, at least 1.
        largest: Whether the largest is wanted.
        confidence: Wanted coverage.

    Returns:
        Value and interval.
    """
    together = [interval(index, 1 - (1 - confidence) / count) for index in range(count)]
    alone = [interval(index, confidence) for index in range(count)]
    pick, lows, highs = (max, together, alone) if largest else (min, alone, together)
    return Estimate(pick(x.value for x in alone), pick(x.low for x in lows), pick(x.high for x in highs))


def ratio(hits: int, n: int, wanted_share: float, confidence: float = CONFIDENCE) -> Estimate:
    """Share of a group over its wanted share, with Clopper-Pearson's interval divided alike.

    >>> ratio(10, 100, 0.1).value
    1.0
    """
    return Estimate(*(end / wanted_share for end in share(hits, n, confidence)))


def effective_size(counts: np.ndarray, shares: np.ndarray) -> float:
    """Rows that remain in effect when rows are weighted so that groups get their wanted shares (Kish 1965).

    (sum of weights)^2 / sum of squared weights, with weights wanted share / share found.

    Args:
        counts: (G,) rows by group.
        shares: (G,) wanted shares, above 0.

    Returns:
        Effective number of rows; 0 where a wanted group is missing.

    >>> effective_size(np.array([90, 10]), np.array([0.5, 0.5]))
    36.0
    """
    if (counts == 0).any():
        return 0.0
    return float(shares.sum() ** 2 / (shares**2 / counts).sum())


def multinomial_p(counts: np.ndarray, n: int, shares: np.ndarray, simulations: int, seed: int) -> float:
    """P-value of these counts if rows came with the wanted shares: Pearson's statistic against simulated counts.

    Exact at any size (Hope 1968): (1 + number at least as extreme) / (1 + simulations).

    Args:
        counts: (G,) rows by group.
        n: All rows; those in none of the groups are one more group.
        shares: (G,) wanted shares, summing to at most 1.
        simulations: Number of simulated data sets.
        seed: Of the simulation.

    Returns:
        The p-value.
    """
    rest = max(0.0, 1 - float(shares.sum()))
    probabilities = np.append(shares, rest) if rest > 1e-9 else shares / shares.sum()
    seen = np.append(counts, n - counts.sum()) if rest > 1e-9 else counts
    total = int(seen.sum())
    if total == 0:
        return 1.0
    expected = total * probabilities
    observed = float(((seen - expected) ** 2 / expected).sum())
    rng, extremes, step = np.random.default_rng(seed), 0, max(1, _HELD // len(expected))
    for start in range(0, simulations, step):
        drawn = rng.multinomial(total, probabilities, size=min(step, simulations - start))
        extremes += int((((drawn - expected) ** 2 / expected).sum(axis=1) >= observed * (1 - 1e-12)).sum())
    return (1 + extremes) / (1 + simulations)


def detectable_ratio(wanted_share: float, n: int, groups: int, confidence: float = CONFIDENCE) -> float:
    """The ratio to its wanted share below which a group's lack shows with power `POWER`; normal approximation.

    Args:
        wanted_share: Of the group.
        n: Rows.
        groups: Groups whose intervals must hold together.
        confidence: Wanted coverage.

    Returns:
        A ratio from 0 to 1; 0 where even a missing group might not show.
    """
    z = float(ndtri(1 - (1 - confidence) / (2 * groups)) + ndtri(POWER))
    return max(0.0, 1 - z * float(np.sqrt((1 - wanted_share) / (wanted_share * n))))


class Cells(NamedTuple):
    """All combinations of groups that could occur.

    Attributes:
        names: (K,) one name an attribute each.
        counts: (K,) rows.
        outside: Rows in no such combination.
    """

    names: tuple[tuple[str, ...], ...]
    counts: np.ndarray
    outside: int


def count_cells(
    columns: Sequence[Sequence[str]], domain: Sequence[Sequence[str]], impossible: Callable[[tuple[str, ...]], bool]
) -> Cells:
    """Rows in every combination of the domain's groups, empty ones too.

    Args:
        columns: Group names of the n rows, by attribute.
        domain: Groups that may occur, by attribute.
        impossible: Whether a combination cannot occur and is left out.

    Returns:
        Combinations in order with their counts.
    """
    shape = tuple(map(len, domain))
    positions = [{name: index for index, name in enumerate(names)} for names in domain]
    codes = np.array(
        [[where.get(name, -1) for name in column] for where, column in zip(positions, columns, strict=True)]
    )
    inside = (codes >= 0).all(axis=0)
    flat = np.ravel_multi_index(tuple(codes[:, inside]), shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape)))
    names: list[tuple[str, ...]] = list(product(*domain))
    kept = np.array([not impossible(name) for name in names], dtype=bool)
    outside = int((~inside).sum()) + int(counts[~kept].sum())
    return Cells(tuple(name for name, keep in zip(names, kept, strict=True) if keep), counts[kept], outside)


def metric(
    name: str,
    found: Estimate,
    n: int,
    method: str,
    *,
    confidence: float = CONFIDENCE,
    unit: str = "1",
    better: Better = Better.LOWER,
    primary: bool = False,
) -> Metric:
    """A metric from an estimate; an endless interval is none, and a verdict is then not possible."""
    known = bool(np.isfinite(found.low) and np.isfinite(found.high))
    return Metric(
        name=name,
        value=found.value,
        low=found.low if known else None,
        high=found.high if known else None,
        confidence=confidence if known else None,
        unit=unit,
        n=n,
        better=better,
        method=method,
        primary=primary,
    )


def numbers(split: Split) -> np.ndarray:
    """Features (n, ...) of a split that can be looked at as numbers.

    Raises:
        NotApplicable: There are none, no rows, or they are no numbers.
    """
    if split.features is None:
        raise NotApplicable(
            f"the {split.name} split has no features, only predictions; use data.representation for classes and groups"
        )
    if not split.n:
        raise NotApplicable(f"the {split.name} split has no rows")
    if split.features.dtype.kind not in "fiub":
        raise NotApplicable(f"the inputs are of type {split.features.dtype}, wanted numbers")
    return split.features


class Columns(NamedTuple):
    """Groups of all rows.

    Attributes:
        values: Group of every row, by split and attribute; the class is the attribute "label".
        domain: Groups there may be, by attribute: declared ones, classes, and those found.
        remarks: Sentences on what is left out.
        doubts: The same, where it should have been looked at.
    """

    values: dict[str, dict[str, list[str]]]
    domain: dict[str, list[str]]
    remarks: list[str]
    doubts: list[str]


def columns_of(
    subject: Subject,
    splits: Sequence[str],
    attributes: Sequence[str] | None,
    reference: Mapping[str, Mapping[str, float]],
    *,
    strict: bool,
) -> Columns:
    """Classes and sensitive attributes of some splits as groups.

    Args:
        subject: Whose splits they are.
        splits: Their names.
        attributes: Attributes to look at; None for all that are recorded or have wanted shares.
        reference: Wanted share by group, by attribute.
        strict: Whether an attribute with too many values to be groups is a reason for doubt.

    Returns:
        The groups.

    Raises:
        NotApplicable: A split is missing or empty, or no split records an attribute that was named.
    """
    classes = {LABEL: list(subject.classes)} if subject.task.is_classification else {}
    columns = Columns({}, classes, [], [])
    for name in splits:
        if name not in subject.splits or not subject.splits[name].n:
            raise NotApplicable(f"there is no {name} split, or it has no rows")
        split = subject.splits[name]
        own = columns.values.setdefault(name, {})
        if subject.task.is_classification:
            own[LABEL] = [subject.classes[label] for label in split.labels]
        frame = None if split.attributes is None else split.attributes.rename(columns=str)
        recorded = [] if frame is None else list(frame.columns)
        for attribute in dict.fromkeys(attributes or [*recorded, *reference]):
            if frame is None or attribute not in recorded:
                columns.doubts.append(f"The {name} split does not record '{attribute}', so it is not looked at there.")
            elif attribute not in reference and _groups.uncut(frame[attribute]):
                (columns.doubts if strict else columns.remarks).append(
                    f"'{attribute}' is not looked at in the {name} split: it has {frame[attribute].nunique()} distinct "
                    f"values; cut it into groups first."
                )
            else:
                codes, names = _groups.group_values(frame[attribute])
                own[attribute] = [names[code] for code in codes]
                domain = columns.domain.setdefault(attribute, list(reference.get(attribute, ())))
                domain.extend(x for x in names if x not in domain)
    for attribute in [*(attributes or ()), *reference]:
        if attribute not in columns.domain:
            raise NotApplicable(f"no split records the attribute '{attribute}' so that its groups could be counted")
    return columns


class Wanted(NamedTuple):
    """Wanted shares by attribute and group, with sentences: remarks, and why some attributes cannot be compared."""

    shares: dict[str, dict[str, float]]
    remarks: list[str]
    alone: list[str]


def wanted_shares(columns: Columns, declared: Mapping[str, Mapping[str, float]]) -> Wanted:
    """Wanted shares as declared; where nothing is declared at all, equal ones for the groups of every attribute.

    Args:
        columns: Groups of all rows.
        declared: Wanted share by group, by attribute; the class is the attribute "label".

    Returns:
        Shares and sentences.

    Raises:
        NotApplicable: Shares were declared for classes that there are not.
    """
    for name in declared.get(LABEL, ()):
        if name not in columns.domain.get(LABEL, ()):
            raise NotApplicable(f"wanted shares were declared for '{name}', which is no class")
    wanted = Wanted({}, [], [])
    for name, groups in columns.domain.items():
        if name in declared:
            wanted.shares[name] = dict(declared[name])
            if rest := [x for x in groups if x not in declared[name]]:
                wanted.remarks.append(f"Values of '{name}' without a wanted share: {', '.join(rest[:10])}.")
        elif declared:
            wanted.remarks.append(f"No wanted shares were declared for '{name}': its groups are counted, not compared.")
        elif len(groups) < 2:
            wanted.alone.append(f"'{name}' has the same value in every row, and no wanted shares were declared for it.")
        else:
            wanted.shares[name] = dict.fromkeys(groups, 1 / len(groups))
            wanted.remarks.append(
                f"No wanted shares were declared for '{name}': its {len(groups)} groups are compared with equal shares."
            )
    return wanted


class Group(NamedTuple):
    """Rows of one group of one attribute in one split of n rows, beside its wanted share (None: not compared)."""

    split: str
    attribute: str
    name: str
    hits: int
    n: int
    wanted: float | None


def counted(columns: Columns, wanted: Wanted) -> list[Group]:
    """Rows of every group in every split that records its attribute.

    Args:
        columns: Groups of all rows.
        wanted: Wanted shares.

    Returns:
        One entry a split, attribute and group.
    """
    return [
        Group(split, name, group, count[group], len(values), wanted.shares.get(name, {}).get(group))
        for split, own in columns.values.items()
        for name, values in own.items()
        for count in (Counter(values),)
        for group in columns.domain[name]
    ]
