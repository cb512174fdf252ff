"""Groups of people and their rates: who belongs to which group, and how often a model chooses, hits and errs there.

Every rate (selection rate, true and false positive rate, accuracy) is a binomial share of a group, so that all
comparisons in `_gaps` need counts by group and no rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor_checks._intervals import wilson

MISSING = "(missing)"
JOINT = " × "
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
_NAMED = 10  # groups that a sentence names before it says how many more there are
MAX_VALUES = 10  # distinct numbers an attribute may have and still be groups
MAX_TEXTS = 100  # distinct texts


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


class Rate(NamedTuple):
    """A rate by group, with the pairs of groups that may be compared.

    Attributes:
        name: One of `RATES`.
        hits: (G,) rows of the group that count.
        trials: (G,) rows of the group that could count.
        cells: (S,) the same denominators by finest cell.
        first: (P,) index of the first group of each pair; pairs lie within one attribute.
        second: (P,) index of the second.
    """

    name: str
    hits: np.ndarray
    trials: np.ndarray
    cells: np.ndarray
    first: np.ndarray
    second: np.ndarray


def group_values(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and names of the groups of one attribute; missing values are a group of their own, the last.

    Args:
        column: Any dtype; whole numbers stored as floats are named as integers.

    Returns:
        Codes and names, numbers in their order, everything else in order of its text.
    """
    values = column.to_numpy(dtype=object)
    missing = column.isna().to_numpy(dtype=bool)
    texts = np.array([MISSING if gone else _text(value) for value, gone in zip(values, missing, strict=True)])
    numeric = _is_numeric(column)
    found = sorted(set(texts.tolist()), key=lambda text: _order(text, numeric=numeric))
    position = {text: code for code, text in enumerate(found)}
    return np.array([position[text] for text in texts.tolist()], dtype=np.int64), tuple(found)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _order(text: str, *, numeric: bool) -> tuple[bool, float, str]:
    return text == MISSING, float(text) if numeric and text != MISSING else 0.0, text


def _is_numeric(column: pd.Series) -> bool:
    """Whether the values are numbers, also when stored as objects, as a table made of mixed arrays has them."""
    dtype = column.dropna().infer_objects().dtype
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def uncut(column: pd.Series) -> bool:
    """Whether an attribute is a quantity or an identifier rather than groups: more distinct values than groups have."""
    return int(column.nunique()) > (MAX_VALUES if _is_numeric(column) else MAX_TEXTS)


def find_groups(attributes: pd.DataFrame, *, intersections: bool = True) -> Groups:
    """Groups of each attribute and, for two or more attributes, of their full intersection.

    Args:
        attributes: (n, k) one column an attribute, n and k at least 1.
        intersections: Whether the intersection is a family of its own.

    Returns:
        The groups that occur, with the finest cells that make them up.
    """
    coded = [group_values(attributes.iloc[:, index]) for index in range(attributes.shape[1])]
    codes = np.stack([code for code, _ in coded], axis=1)
    present, cells = np.unique(codes, axis=0, return_inverse=True)
    labels: list[tuple[str, str]] = []
    members: list[np.ndarray] = []
    for index, (_, names) in enumerate(coded):
        for code, name in enumerate(names):
            labels.append((str(attributes.columns[index]), name))
            members.append(present[:, index] == code)
    if intersections and len(coded) > 1:
        family = JOINT.join(map(str, attributes.columns))
        for row, combination in enumerate(present):
            labels.append((family, JOINT.join(coded[i][1][code] for i, code in enumerate(combination))))
            members.append(np.arange(len(present)) == row)
    return Groups(tuple(a for a, _ in labels), tuple(b for _, b in labels), np.stack(members), cells.reshape(-1))


def count_rates(
    groups: Groups, labels: np.ndarray, predictions: np.ndarray, *, positive: int, minimum: int
) -> dict[str, Rate]:
    """All rates by group, with the pairs whose denominators both reach the minimum.

    Args:
        groups: The groups.
        labels: (n,) class index.
        predictions: (n,) class index.
        positive: Class whose prediction is the decision looked at; the other classes count as one.
        minimum: Smallest denominator that is judged; at least 1.

    Returns:
        Rate by name; accuracy counts all classes, the others one class against the rest.
    """
    is_positive, chosen = labels == positive, predictions == positive
    everyone = np.ones(len(labels), dtype=bool)
    outcomes = {
        "selection_rate": (chosen, everyone),
        "true_positive_rate": (chosen & is_positive, is_positive),
        "false_positive_rate": (chosen & ~is_positive, ~is_positive),
        "accuracy": (labels == predictions, everyone),
    }
    cell_count = groups.members.shape[1]
    rates = {}
    for name, (hit, trial) in outcomes.items():
        hits = np.bincount(groups.cells[hit], minlength=cell_count)
        trials = np.bincount(groups.cells[trial], minlength=cell_count)
        by_group = _sums(groups.members, trials)
        first, second = _pairs(groups.attributes, by_group >= minimum)
        rates[name] = Rate(name, _sums(groups.members, hits), by_group, trials, first, second)
    return rates


def _sums(members: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(G,) sums of counts (S,) over the cells of each group; group by group, since members as integers are large."""
    return np.array([counts[cells].sum() for cells in members])


def _pairs(attributes: Sequence[str], judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of judged groups of the same attribute."""
    index = np.flatnonzero(judged)  # first, since pairs of all groups of an identifier would fill the memory
    family = np.unique(np.array(attributes), return_inverse=True)[1].reshape(-1)[index]
    first, second = np.triu_indices(len(index), k=1)
    keep = family[first] == family[second]
    return index[first[keep]], index[second[keep]]


def group_rows(
    groups: Groups, rates: Mapping[str, Rate], *, minimum: int, confidence: float
) -> tuple[tuple[str | int | float | None, ...], ...]:
    """Rows of the table of groups: attribute, group, n, status, then value, low, high of each of `RATES`.

    Args:
        groups: The groups.
        rates: As from `count_rates`.
        minimum: Denominators below it give no rate, and a status that says so.
        confidence: Coverage of each Wilson interval by itself.

    Returns:
        One row a group.
    """
    rows = []
    for index, (attribute, name) in enumerate(zip(groups.attributes, groups.names, strict=True)):
        numbers: list[float | None] = []
        short = [rate for rate in RATES if rates[rate].trials[index] < minimum]
        for rate in RATES:
            hits, trials = int(rates[rate].hits[index]), int(rates[rate].trials[index])
            numbers += [None, None, None] if rate in short else wilson(hits, trials, confidence)
        if "selection_rate" in short:
            status = "insufficient data"
        else:
            status = f"insufficient data: {', '.join(short)}" if short else "judged"
        rows.append((attribute, name, int(rates["selection_rate"].trials[index]), status, *numbers))
    return tuple(rows)


def shortfalls(groups: Groups, rates: Mapping[str, Rate], *, minimum: int) -> list[str]:
    """Sentences that name the groups, and the rates of groups, that have too few rows to be judged.

    Args:
        groups: The groups.
        rates: As from `count_rates`.
        minimum: Smallest denominator that is judged.

    Returns:
        At most one sentence a rate; groups named in an earlier one are left out of the later ones.
    """
    sentences, named = [], np.zeros(len(groups.names), dtype=bool)
    for rate, rows in (
        ("selection_rate", "rows"),
        ("true_positive_rate", "rows with the positive label"),
        ("false_positive_rate", "rows with a negative label"),
    ):
        short = (rates[rate].trials < minimum) & ~named
        if rate == "selection_rate":
            named |= short
        if short.any():
            listed = [
                f"{groups.attributes[i]}: {groups.names[i]} ({rates[rate].trials[i]})" for i in np.flatnonzero(short)
            ]
            what = "Insufficient data, not judged" if rate == "selection_rate" else f"Insufficient data for {rate}"
            more = len(listed) - _NAMED
            sentences.append(
                f"{what} (fewer than {minimum} {rows}): {', '.join(listed[:_NAMED])}"
                f"{f' and {more} more' if more > 0 else ''}."
            )
    return sentences
