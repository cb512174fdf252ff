"""The same person with another value of one attribute: which features hold it, which values it has, and the swap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_VALUES = 10  # distinct numbers that are all tried; beyond it the quantiles below
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
_JOINTS = ("_", "=", ".", ":", " ", "-", "__")


class Attribute(NamedTuple):
    """A sensitive attribute as it stands among the features.

    Attributes:
        name: Its name.
        columns: (c,) its features: one with values, or one for each value (0 or 1 each).
        names: (v,) names of the values.
        values: (v, c) what the features hold for each value.
        own: (n,) value of each row, -1 where it is missing, and in all rows of a quantity with too many values to try.
        flippable: (n,) rows that have a value at all.
    """

    name: str
    columns: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    own: np.ndarray
    flippable: np.ndarray

    def flipped(self, features: np.ndarray, value: int) -> np.ndarray:
        """A copy of features (n, d) in which all rows have this value."""
        found = features.copy()
        found[:, self.columns] = self.values[value]
        return found


def find_attribute(name: str, feature_names: Sequence[str], features: np.ndarray) -> Attribute | None:
    """A sensitive attribute among the features: a feature of that name, or features for each of its values.

    The second are features named after attribute and value ("sex_f", "sex=f") that hold only 0 and 1 and of which at
    most one is 1 in a row; where none is, as with a dropped first column, that is a value of its own.

    Args:
        name: Of the attribute.
        feature_names: (d,) names of the features.
        features: (n, d) numbers.

    Returns:
        The attribute, or None where no feature holds it.
    """
    if name in feature_names:
        return _of_column(name, list(feature_names).index(name), features)
    starts = tuple(f"{name}{joint}" for joint in _JOINTS)
    columns = np.array([index for index, other in enumerate(feature_names) if other.startswith(starts)], dtype=np.int64)
    block = features[:, columns]
    if not len(columns) or not np.isin(block, (0, 1)).all() or (block.sum(axis=1) > 1).any():
        return None
    names = [str(feature_names[index]) for index in columns.tolist()]
    values = np.eye(len(columns))
    own = np.where(block.any(axis=1), block.argmax(axis=1), len(columns))
    if (own == len(columns)).any():
        names, values = [*names, f"none of {', '.join(names)}"], np.vstack([values, np.zeros(len(columns))])
    return Attribute(name, columns, tuple(names), values, own, np.ones(len(features), dtype=bool))


def _of_column(name: str, column: int, features: np.ndarray) -> Attribute:
    there = np.asarray(features[:, column])
    finite = np.isfinite(there)
    values, own = np.unique(there[finite]), np.full(len(there), -1)
    if len(values) > MAX_VALUES:
        values = np.unique(np.quantile(there[finite], QUANTILES, method="inverted_cdf"))
    else:
        own[finite] = np.searchsorted(values, there[finite])
    names = tuple(f"{name} = {value:g}" for value in values.tolist())
    return Attribute(name, np.array([column]), names, values[:, None], own, finite)
