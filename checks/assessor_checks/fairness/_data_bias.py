"""What the data themselves hold against groups: features that stand in for an attribute, values missing unequally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from assessor.contract import Split, Subject, Table, Task, progress
from assessor_checks._gaps import Gap, PairRow, difference_gap, holm, permutation_p
from assessor_checks._groups import Groups, group_values, is_numeric, pairs_of, uncut
from assessor_checks._intervals import Estimate
from assessor_checks._rates import Rate
from assessor_checks.fairness import _dependence
from assessor_checks.fairness._flips import find_attribute

_FEWEST = 20  # rows with a value behind a dependence
_PAIR_ROWS = 5_000  # rows where all pairs must be visited


class Proxy(NamedTuple):
    """A feature and a sensitive attribute.

    Attributes:
        feature: Name of the feature.
        attribute: Name of the attribute.
        n: Rows with a value of both.
        estimate: Distance correlation with its own interval.
        adjusted_low: Lower end adjusted for the number of pairs (Bonferroni).
        p_value: Of independence, by the chi-square test.
        p_holm: The same after Holm over all pairs.
        label: Distance correlation of the feature with the label; None where it cannot be had.
    """

    feature: str
    attribute: str
    n: int
    estimate: Estimate
    adjusted_low: float
    p_value: float
    p_holm: float
    label: float | None


def chi_square_p(square: float, n: int) -> float:
    """P-value of independence from the bias-corrected squared distance correlation, without permutations.

    Shen, Panda, Vogelstein 2022, J. Comput. Graph. Stat. 31:254 (arXiv 1912.12150): n times it plus 1 is, in the upper
    tail under independence, at most as large as a chi-square with one degree of freedom; so the p-value errs upwards.

    >>> chi_square_p(0.0, 100) > 0.3, chi_square_p(0.1, 100) < 0.001
    (True, True)
    """
    return float(chdtrc(1, max(0.0, n * square + 1)))


def feature_columns(features: np.ndarray, names: Sequence[str], left_out: set[int]) -> list[_dependence.Column]:
    """Features (n, d) as numbers, infinite ones as missing; constant ones and those left out are no columns."""
    found = []
    for index, (name, values) in enumerate(zip(names, features.T, strict=True)):
        finite = values[np.isfinite(values)]
        if index not in left_out and len(finite) and finite.min() < finite.max():
            found.append(_dependence.Column(name, np.where(np.isfinite(values), values, np.nan), True))
    return found


def attribute_columns(attributes: pd.DataFrame, names: Sequence[str]) -> list[_dependence.Column]:
    """Sensitive attributes as numbers or groups; identifiers and constant ones are no columns."""
    found = []
    for name in names:
        column = attributes[name]
        if is_numeric(column) and uncut(column):
            found.append(_dependence.Column(name, column.to_numpy(dtype=np.float64, na_value=np.nan), True))
        elif not uncut(column) and column.nunique(dropna=False) > 1:
            found.append(_dependence.Column(name, group_values(column)[0], False))
    return found


def proxies(
    features: Sequence[_dependence.Column],
    attributes: Sequence[_dependence.Column],
    label: _dependence.Column,
    *,
    confidence: float,
    seed: int,
) -> list[Proxy]:
    """How strongly each feature depends on each attribute, and on the label.

    Args:
        features: Numbers, NaN where missing; none constant.
        attributes: Numbers (NaN where missing) or groups.
        label: Class index or number.
        confidence: Coverage of the intervals.
        seed: Of the sample of rows where all pairs must be visited.

    Returns:
        All pairs with enough rows, the strongest first.
    """
    pairs = [(feature, attribute) for feature in features for attribute in attributes]
    tail = 1 - confidence
    found, of_label = [], {x.name: _square(x, label, seed) for x in features}
    for done, (feature, attribute) in enumerate(pairs):
        progress("proxies", done, len(pairs))
        measured = _square(feature, attribute, seed)
        if measured is None:
            continue
        square, rows, sides = measured
        p_value = chi_square_p(square, rows)
        variance = _dependence.direction_variance([sides], square)
        ends = [_dependence.interval(square, variance, rows, p_value, 1 - tail / share) for share in (1, len(pairs))]
        said = of_label[feature.name]
        own = None if said is None else float(np.sqrt(np.clip(said[0], 0, 1)))
        found.append(Proxy(feature.name, attribute.name, rows, ends[0], ends[1].low, p_value, p_value, own))
    adjusted = holm([proxy.p_value for proxy in found])
    found = [proxy._replace(p_holm=p) for proxy, p in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda proxy: -proxy.estimate.value)


def proxy_table(found: Sequence[Proxy], confidence: float) -> Table:
    """Features that depend on an attribute, with intervals, beside their dependence on the label."""
    names = ("feature", "attribute", "rows", "with the attribute", "low", "high", "p_value", "p_holm", "with the label")
    return Table(
        name="proxies",
        title="Features that depend on a sensitive attribute, strongest first: distance correlations, "
        f"{confidence:.0%} intervals",
        columns=names,
        rows=tuple((x.feature, x.attribute, x.n, *x.estimate, x.p_value, x.p_holm, x.label) for x in found),
    )


def _square(
    feature: _dependence.Column, other: _dependence.Column, seed: int
) -> tuple[float, int, tuple[_dependence.Side, _dependence.Side]] | None:
    """Bias-corrected squared distance correlation over the rows with both values; None where there are too few."""
    rows = np.isfinite(feature.values) & np.isfinite(other.values)
    one, two = (column._replace(values=column.values[rows]) for column in (feature, other))
    if rows.sum() < _FEWEST or (one.values == one.values[0]).all() or (two.values == two.values[0]).all():
        return None
    attributes = _dependence.Attributes([two])
    sums, n = _dependence.dependence(one, attributes, pair_rows=_PAIR_ROWS, seed=seed)
    return sums.corrected, n, (_dependence.side(_dependence.Attributes([one])), _dependence.side(attributes))


class Missing(NamedTuple):
    """Values missing unequally often.

    Attributes:
        gap: Largest difference of the share of missing values between two groups, over features and pairs.
        pairs: All pairs of groups for every feature (as `rate`), largest first.
        tests: Feature, attribute, p-value, after Holm.
    """

    gap: Gap
    pairs: tuple[PairRow, ...]
    tests: tuple[tuple[str, str, float, float], ...]


def missing_values(
    groups: Groups,
    gone: np.ndarray,
    names: Sequence[str],
    *,
    minimum: int,
    confidence: float,
    permutations: int,
    rng: np.random.Generator,
) -> Missing | None:
    """Whether features are missing more often in some groups.

    Args:
        groups: The groups, with the rows' cells.
        gone: (n, d) bool, which values are missing; every column has some.
        names: (d,) of the features.
        minimum: Fewest rows of a group that is compared.
        confidence: Coverage of the interval.
        permutations: Permutations behind each p-value.
        rng: Source of all draws.

    Returns:
        Differences and tests; None where no two groups can be compared.
    """
    cells = np.bincount(groups.cells, minlength=groups.members.shape[1])
    trials = groups.members @ cells
    first, second = pairs_of(groups.attributes, trials >= minimum)
    if len(first) == 0 or not len(names):
        return None
    rates = []
    for name, column in zip(names, gone.T, strict=True):
        hits = groups.members @ np.bincount(groups.cells[column], minlength=len(cells))
        rates.append(Rate(name, hits, trials, cells, first, second))
    gap, pairs = difference_gap(groups.members, rates, confidence, rng)
    families = np.array(groups.attributes)
    found = [
        (rate.name, family, p)
        for rate in rates
        for family in groups.families
        if (p := permutation_p([rate], families == family, permutations, rng)) is not None
    ]
    adjusted = holm([p for *_, p in found])
    tests = tuple((*test, q) for test, q in zip(found, adjusted, strict=True))
    return Missing(gap, tuple(pairs), tests)


def missing_table(found: Missing, groups: Groups, confidence: float, *, most: int) -> Table:
    """Differences of the share of missing values, the largest first, at most so many."""
    return Table(
        name="missing",
        title="Share of missing values, first minus second group, largest first, simultaneous "
        f"{confidence:.0%} intervals",
        columns=("feature", "attribute", "first", "second", "difference", "low", "high"),
        rows=tuple(
            (name, groups.attributes[i], groups.names[i], groups.names[j], *more)
            for name, i, j, *more in found.pairs[:most]
        ),
    )


def name_of(split: Split, column: int) -> str:
    """Name of a feature, or its number."""
    return split.feature_names[column] if split.feature_names else f"#{column}"


def proxies_of(
    subject: Subject, split: Split, attributes: pd.DataFrame, wanted: Sequence[str], *, confidence: float, seed: int
) -> tuple[list[Proxy], list[str]]:
    """Dependence of every feature on every attribute; features that are the attribute itself are named and left out.

    Args:
        subject: Whose task tells what the labels are.
        split: With features.
        attributes: (n, k) the sensitive ones.
        wanted: Names of those that are looked at.
        confidence: Coverage of the intervals.
        seed: Of the sample of rows for pairs.

    Returns:
        The proxies, the strongest first, and sentences.
    """
    if split.features is None or split.features.ndim != 2:
        return [], []
    features, own, sentences = np.asarray(split.features, dtype=np.float64), set[int](), []
    for name in wanted:
        attribute = find_attribute(name, split.feature_names, features)
        if attribute is not None:
            own |= set(attribute.columns.tolist())
            sentences.append(f"'{name}' is itself among the features; that is not counted as a proxy.")
    names = [name_of(split, column) for column in range(features.shape[1])]
    columns = feature_columns(features, names, own)
    others = attribute_columns(attributes.rename(columns=str), wanted)
    label = _dependence.Column("label", split.labels, subject.task is Task.REGRESSION)
    return proxies(columns, others, label, confidence=confidence, seed=seed), sentences
