"""Groups of people: who belongs to which group, by one sensitive attribute or by several together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor.contract import Condition, NotApplicable

MISSING = "(missing)"
JOINT = " × "
MAX_VALUES = 10  # distinct numbers an attribute may have and still be groups
MAX_TEXTS = 100  # distinct texts
_MOST_MEMBERS = 50_000_000  # groups x finest cells that are held as a matrix
_NAMED = 10  # groups that a sentence names before it says how many more there are


class Groups(NamedTuple):
    """Groups of every attribute, and of their intersection, one below the other.

    Attributes:
        attributes: (G,) attribute, or joined names for the intersection, of each group.
        names: (G,) name of each group.
        members: (G, S) bool, which finest cells (intersections of all attributes) make up a group.
        cells: (n,) finest cell of each row.
    """

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    members: np.ndarray
    cells: np.ndarray

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the attributes, the intersection last."""
        return tuple(dict.fromkeys(self.attributes))


def conditions_of(attributes: str, name: str) -> tuple[Condition, ...]:
    """What tells a group of one attribute or of several.

    Raises:
        NotApplicable: A value holds the sign that joins several.

    >>> [condition.told for condition in conditions_of("sex × age", "f × 2")]
    ['sex = f', 'age = 2']
    """
    columns, values = attributes.split(JOINT), name.split(JOINT)
    if len(columns) != len(values):
        raise NotApplicable(f"the group '{name}' of '{attributes}' cannot be told by its values")
    return tuple(
        Condition(column=column, missing=True) if value == MISSING else Condition(column=column, equals=value)
        for column, value in zip(columns, values, strict=True)
    )


def group_values(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and names of the groups of one attribute; missing values are a group of their own, the last.

    Args:
        column: Any dtype; whole numbers stored as floats are named as integers.

    Returns:
        Codes and names, numbers in their order, everything else in order of its text.
    """
    codes, values = pd.factorize(column)
    texts = [*map(text_of, values), MISSING]
    codes = np.where(codes < 0, len(values), codes)
    numeric, present = is_numeric(column), {texts[code] for code in np.unique(codes).tolist()}
    found = sorted(present, key=lambda text: place_of(text, numeric=numeric))
    position = {text: code for code, text in enumerate(found)}
    places = np.array([position.get(text, -1) for text in texts], dtype=np.int64)
    return places[codes], tuple(found)


def text_of(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def place_of(text: str, *, numeric: bool) -> tuple[bool, float, str]:
    return text == MISSING, float(text) if numeric and text != MISSING else 0.0, text


def is_numeric(column: pd.Series) -> bool:
    """Whether the values are numbers, also when stored as objects, as a table made of mixed arrays has them."""
    dtype = column.dropna().infer_objects().dtype
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def uncut(column: pd.Series) -> bool:
    """Whether an attribute is a quantity or an identifier rather than groups: more distinct values than groups have."""
    return int(column.nunique()) > (MAX_VALUES if is_numeric(column) else MAX_TEXTS)


def comparable(attributes: pd.DataFrame, wanted: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """The sensitive attributes to compare, and a sentence on each that is a quantity or an identifier.

    Args:
        attributes: (n, k) all that there are.
        wanted: Names; None for all.

    Returns:
        The columns that have few enough values to be groups, and the sentences on the others.

    Raises:
        NotApplicable: A name is not there, or no column is left.
    """
    attributes = attributes.rename(columns=str)
    names = chosen(list(attributes.columns), wanted)
    too_many = [name for name in names if uncut(attributes[name])]
    unfit = [not_judged(name, str(attributes[name].nunique())) for name in too_many]
    kept = [name for name in names if name not in too_many]
    refuse_none(kept, unfit)
    return attributes[kept], unfit


def chosen(names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The wanted attributes, or all.

    Raises:
        NotApplicable: A wanted one is not there.
    """
    for name in wanted or ():
        if name not in names:
            raise NotApplicable(f"attributes: no sensitive column '{name}'; found {list(names)}")
    return list(names) if wanted is None else list(dict.fromkeys(wanted))


def not_judged(name: str, values: str) -> str:
    """Why an attribute with so many values is not judged."""
    return f"'{name}' is not judged: it has {values} distinct values; cut it into groups first."


def refuse_none(kept: Sequence[str], unfit: Sequence[str]) -> None:
    """Refuse to compare where no attribute is left.

    Raises:
        NotApplicable: None is; says what to use instead.
    """
    if not kept:
        raise NotApplicable(
            f"{' '.join(unfit)} Use fairness.distance_covariance, which takes quantities as they are"
            if unfit
            else "no sensitive attribute was named"
        )


def find_groups(attributes: pd.DataFrame, *, intersections: bool = True, depth: int | None = None) -> Groups:
    """Groups of each attribute and of intersections.

    Args:
        attributes: (n, k) one column an attribute, n and k at least 1.
        intersections: Whether the full intersection of all attributes is a family of its own; without `depth`.
        depth: Instead, all intersections of up to so many attributes.

    Returns:
        The groups that occur, with the finest cells that make them up.
    """
    coded = [group_values(attributes.iloc[:, index]) for index in range(attributes.shape[1])]
    present, cells = combined([code for code, _ in coded])
    families = families_of(len(coded), intersections=intersections, depth=depth)
    return named_groups(tuple(map(str, attributes.columns)), [names for _, names in coded], present, families, cells)


def combined(codes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The combinations of codes that occur (S, k), in order, and which of them each row has (n,)."""
    cells = codes[0]
    for more in codes[1:]:
        cells = np.unique(cells * (int(more.max(initial=0)) + 1) + more, return_inverse=True)[1]
    _, rows, cells = np.unique(cells, return_index=True, return_inverse=True)
    return np.stack([code[rows] for code in codes], axis=1), cells


def families_of(attributes: int, *, intersections: bool, depth: int | None) -> list[tuple[int, ...]]:
    """Which attributes are taken together."""
    if depth is not None:
        sizes = range(1, min(depth, attributes) + 1)
        return [chosen for size in sizes for chosen in combinations(range(attributes), size)]
    alone: list[tuple[int, ...]] = [(index,) for index in range(attributes)]
    return [*alone, tuple(range(attributes))] if intersections and attributes > 1 else alone


def named_groups(
    attributes: tuple[str, ...],
    names: Sequence[Sequence[str]],
    present: np.ndarray,
    families: Sequence[tuple[int, ...]],
    cells: np.ndarray,
) -> Groups:
    """Groups of all families, from the finest cells that occur.

    Raises:
        NotApplicable: There are too many of them to hold in memory.
    """
    parts = [np.unique(present[:, family], axis=0, return_inverse=True) for family in families]
    count = sum(len(found) for found, _ in parts)
    if count * len(present) > _MOST_MEMBERS:
        raise NotApplicable(
            f"the attributes have {len(present)} combinations of values, too many to compare; name fewer attributes, "
            "or cut them into fewer groups"
        )
    labels: list[tuple[str, str]] = []
    members: list[np.ndarray] = []
    for family, (found, group) in zip(families, parts, strict=True):
        title = JOINT.join(attributes[index] for index in family)
        for code, values in enumerate(found):
            name = JOINT.join(str(names[index][value]) for index, value in zip(family, values, strict=True))
            labels.append((title, name))
            members.append(group.reshape(-1) == code)
    return Groups(tuple(a for a, _ in labels), tuple(b for _, b in labels), np.stack(members), cells)


def too_small(groups: Groups, minimum: int) -> list[str]:
    """A sentence that names the groups with fewer rows than the minimum; none where there are no such groups.

    Args:
        groups: With the rows' cells.
        minimum: Fewest rows of a group that is judged.

    Returns:
        One sentence or none.
    """
    sizes = groups.members @ np.bincount(groups.cells, minlength=groups.members.shape[1])
    listed = [f"{groups.attributes[i]}: {groups.names[i]} ({sizes[i]})" for i in np.flatnonzero(sizes < minimum)]
    more = len(listed) - _NAMED
    if not listed:
        return []
    return [
        f"Insufficient data, not judged (fewer than {minimum} rows): {', '.join(listed[:_NAMED])}"
        f"{f' and {more} more' if more > 0 else ''}."
    ]


def pairs_of(attributes: Sequence[str], judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of judged groups of the same attribute."""
    index = np.flatnonzero(judged)  # first, since pairs of all groups of an identifier would fill the memory
    family = np.unique(np.array(attributes), return_inverse=True)[1].reshape(-1)[index]
    first, second = np.triu_indices(len(index), k=1)
    keep = family[first] == family[second]
    return index[first[keep]], index[second[keep]]
