"""Parts of the data and how many of their rows are covered: by class, size, value, group of persons, and in a slab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor_checks._groups import find_groups, uncut
from assessor_checks.uncertainty._conformal import worst_slab


class Family(NamedTuple):
    """Parts of one kind, those without rows left out.

    Attributes:
        metric: Name of the metric for the least covered one.
        kind: What parts them, in words.
        names: (G,) name of each part.
        hits: (G,) covered rows.
        trials: (G,) rows.
    """

    metric: str
    kind: str
    names: tuple[str, ...]
    hits: np.ndarray
    trials: np.ndarray


def by_number(
    metric: str, kind: str, part: np.ndarray, covered: np.ndarray, names: Sequence[str] | None = None
) -> Family:
    """Parts by a whole number from 0 on.

    Args:
        metric: Name of the metric.
        kind: What parts them.
        part: (m,) number of each row's part.
        covered: (m,) whether the row is covered.
        names: Of the parts; else their numbers.

    Returns:
        The parts that have rows.
    """
    trials = np.bincount(part)
    hits, there = np.bincount(part[covered], minlength=len(trials)), np.flatnonzero(trials)
    return Family(
        metric, kind, tuple(names[i] if names else str(i) for i in there.tolist()), hits[there], trials[there]
    )


def by_value(metric: str, kind: str, values: np.ndarray, covered: np.ndarray, parts: int) -> Family:
    """Parts of about equal size by a value; equal values stay together.

    Args:
        metric: Name of the metric.
        kind: What parts them.
        values: (m,) finite, m at least 1.
        covered: (m,) whether the row is covered.
        parts: Wanted number of parts.

    Returns:
        The parts, named by their limits.
    """
    edges = np.unique(np.quantile(values, np.arange(1, parts) / parts, method="inverted_cdf"))
    ends = np.concatenate([[values.min()], edges, [values.max()]])
    names = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(ends.tolist())]
    return by_number(metric, kind, np.searchsorted(edges, values, side="left"), covered, names)


def by_group(metric: str, kind: str, attributes: pd.DataFrame, covered: np.ndarray) -> Iterator[Family]:
    """Groups of every attribute and their intersections.

    Args:
        metric: Name of the metric.
        kind: What parts them.
        attributes: (m, k); columns with too many values for groups are left out.
        covered: (m,) whether the row is covered.

    Yields:
        One family, or none where no attribute makes groups.
    """
    kept = [index for index in range(attributes.shape[1]) if not uncut(attributes.iloc[:, index])]
    if not kept:
        return
    groups = find_groups(attributes.iloc[:, kept])
    members = groups.members[:, groups.cells]
    names = tuple(f"{family}: {name}" for family, name in zip(groups.attributes, groups.names, strict=True))
    yield Family(metric, kind, names, (members & covered).sum(axis=1), members.sum(axis=1))


def in_slab(
    metric: str, kind: str, features: np.ndarray, names: Sequence[str], covered: np.ndarray, share: float,
    fewest: int, seed: int,
) -> Iterator[Family]:  # fmt: skip
    """The least covered slab of feature space, counted on rows that were not searched.

    Args:
        metric: Name of the metric.
        kind: What parts them.
        features: (m, ...).
        names: Of the features, or empty.
        covered: (m,) whether the row is covered.
        share: Least share of rows in it.
        fewest: Least number of searched rows in it.
        seed: Of the search.

    Yields:
        One family of one part, or none where features are no finite numbers, or nothing was found.
    """
    if features.dtype.kind not in "biuf" or not np.isfinite(features).all():
        return
    points = features.reshape(len(features), -1).astype(np.float64)
    slab = worst_slab(points, covered, share, fewest, seed)
    if slab is None or not slab.trials:
        return
    name = "a mixture of features"
    if slab.feature is not None:
        ends = sorted((slab.low / slab.direction[slab.feature], slab.high / slab.direction[slab.feature]))
        name = f"{names[slab.feature] if names else f'#{slab.feature}'}: {ends[0]:.4g} to {ends[1]:.4g}"
    yield Family(metric, kind, (name,), np.array([slab.hits]), np.array([slab.trials]))
