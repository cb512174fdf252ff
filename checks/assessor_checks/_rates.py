"""How often a model chooses, hits and errs in each group of people.

Every rate (selection rate, true and false positive rate, accuracy) is a binomial share of a group, so that all
comparisons in `_gaps` need counts by group and no rows. `tally` counts rows that come in parts, in the memory of one
part; what it gives is the same as from all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor.contract import NotApplicable, Part, Task
from assessor_checks._groups import (
    MAX_TEXTS,
    MAX_VALUES,
    Groups,
    chosen,
    combined,
    families_of,
    group_values,
    is_numeric,
    named_groups,
    not_judged,
    pairs_of,
    place_of,
    refuse_none,
)
from assessor_checks._intervals import wilson

RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
OUTCOMES = ("true positive", "false negative", "false positive", "true negative", "another class taken for another")
_HITS = {"selection_rate": (0, 2), "true_positive_rate": (0,), "false_positive_rate": (2,), "accuracy": (0, 3)}
_TRIALS = {
    "selection_rate": (0, 1, 2, 3, 4),
    "true_positive_rate": (0, 1),
    "false_positive_rate": (2, 3, 4),
    "accuracy": (0, 1, 2, 3, 4),
}
"""Which of the outcomes count for each rate."""
_COUNTED = 10_000  # distinct values of an attribute that are still counted
_HELD = 8_000_000  # resampled counts held at once
_NAMED = 10  # groups that a sentence names before it says how many more there are


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


class Tally(NamedTuple):
    """Rows counted by combination of attribute values.

    Attributes:
        attributes: (k,) names of those that have few enough values to be groups.
        numeric: (k,) whether an attribute's values are numbers.
        counts: By the values in words (k,): (5,) rows of each of `OUTCOMES`.
        unfit: A sentence on each attribute that is a quantity or an identifier, and so not counted by.
    """

    attributes: tuple[str, ...]
    numeric: tuple[bool, ...]
    counts: Mapping[tuple[str, ...], np.ndarray]
    unfit: list[str]


def favourable(task: Task, classes: tuple[str, ...], positive: str | None, *, needed: bool) -> int:
    """Index of the class that is the favourable decision; the last one when none is named.

    Args:
        task: Binary or multiclass.
        classes: Names of the classes.
        positive: Name the user set, or None.
        needed: Whether the choice matters, so that more than two classes must not be guessed at.

    Returns:
        The index.

    Raises:
        NotApplicable: No such class, or it must be named.
    """
    if positive is None:
        if task is Task.MULTICLASS and needed:
            raise NotApplicable(f"which class is the favourable decision? Set positive to one of {list(classes)}")
        return len(classes) - 1
    if positive not in classes:
        raise NotApplicable(f"positive: no class '{positive}'; wanted one of {list(classes)}")
    return classes.index(positive)


def tally(parts: Iterable[Part], wanted: Sequence[str] | None = None, *, positive: int) -> Tally:
    """Count rows that come in parts, in the memory of one part; the parts make no difference.

    Args:
        parts: The rows, with attributes.
        wanted: Attributes to compare; None for all.
        positive: Class whose prediction is the decision looked at.

    Returns:
        Counts of all parts.

    Raises:
        NotApplicable: There are no rows with attributes, a wanted attribute is not there, or none has few enough
            values to be groups.
    """
    columns: dict[str, _Column] = {}
    counts: dict[tuple[str, ...], np.ndarray] = {}
    for part in parts:
        if part.attributes is None or len(part.labels) == 0:
            continue
        frame = part.attributes.rename(columns=str)
        if not columns:
            columns = {name: _Column(set(), set()) for name in chosen(list(frame.columns), wanted)}
        for name, column in columns.items():
            column.note(frame[name])
        coded = [
            (np.zeros(len(frame), dtype=np.int64), ("",)) if column.too_many else group_values(frame[name])
            for name, column in columns.items()
        ]
        present, cells = combined([code for code, _ in coded])
        outcomes = count_outcomes(cells, part.labels, part.predictions, positive=positive)
        for values, found in zip(present, outcomes, strict=True):
            key = tuple(names[value] for (_, names), value in zip(coded, values, strict=True))
            counts[key] = found + counts.get(key, 0)
    if not columns:
        raise NotApplicable("the test split has no rows with sensitive attributes")
    unfit = [not_judged(name, column.said) for name, column in columns.items() if column.uncut]
    kept = [name for name, column in columns.items() if not column.uncut]
    refuse_none(kept, unfit)
    places = [place for place, column in enumerate(columns.values()) if not column.uncut]
    fewer: dict[tuple[str, ...], np.ndarray] = {}
    for key, found in counts.items():
        short = tuple(key[place] for place in places)
        fewer[short] = found + fewer.get(short, 0)
    return Tally(tuple(kept), tuple(columns[name].numeric for name in kept), fewer, unfit)


class _Column(NamedTuple):
    """What is known so far of an attribute: its values, and whether they are numbers, by part."""

    values: set[object]
    numbers: set[bool]

    def note(self, column: pd.Series) -> None:
        if not (present := column.dropna()).empty:
            self.numbers.add(is_numeric(present))
            if len(self.values) <= _COUNTED:
                self.values.update(present.unique())

    @property
    def numeric(self) -> bool:
        return self.numbers == {True}

    @property
    def too_many(self) -> bool:
        """More values than any kind of attribute may have, so that there is no need to count by them."""
        return len(self.values) > max(MAX_TEXTS, MAX_VALUES)

    @property
    def uncut(self) -> bool:
        return len(self.values) > (MAX_VALUES if self.numeric else MAX_TEXTS)

    @property
    def said(self) -> str:
        return str(len(self.values)) if len(self.values) <= _COUNTED else f"more than {_COUNTED}"


def tallied_groups(
    counted: Tally, *, intersections: bool = True, depth: int | None = None
) -> tuple[Groups, np.ndarray]:
    """Groups and outcomes (S, 5) of a tally, as `find_groups` and `count_outcomes` give them from all rows at once.

    Args:
        counted: At least one row.
        intersections: As in `find_groups`.
        depth: As in `find_groups`.

    Returns:
        The groups, without the rows' cells, and the outcomes of the finest cells.
    """
    names = [
        sorted({key[index] for key in counted.counts}, key=partial(place_of, numeric=numeric))
        for index, numeric in enumerate(counted.numeric)
    ]
    coded = {tuple(n.index(v) for n, v in zip(names, key, strict=True)): c for key, c in counted.counts.items()}
    present = sorted(coded)
    families = families_of(len(names), intersections=intersections, depth=depth)
    groups = named_groups(counted.attributes, names, np.array(present), families, np.empty(0, dtype=np.int64))
    return groups, np.stack([coded[key] for key in present])


def count_outcomes(cells: np.ndarray, labels: np.ndarray, predictions: np.ndarray, *, positive: int) -> np.ndarray:
    """(S, 5) rows of each of `OUTCOMES` in each finest cell.

    Args:
        cells: (n,) finest cell of each row, no number left out.
        labels: (n,) class index.
        predictions: (n,) class index.
        positive: Class whose prediction is the decision looked at; the other classes count as one, but for accuracy.

    Returns:
        Counts; all rates of `RATES` follow from them.
    """
    is_positive, chosen = labels == positive, predictions == positive
    outcome = np.where(is_positive, np.where(chosen, 0, 1), np.where(chosen, 2, np.where(labels == predictions, 3, 4)))
    size = len(OUTCOMES)
    counts = np.bincount(cells * size + outcome, minlength=(int(cells.max(initial=-1)) + 1) * size)
    return counts.reshape(-1, size)


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
    outcomes = count_outcomes(groups.cells, labels, predictions, positive=positive)
    return rates_of(groups, outcomes, minimum=minimum)


def rates_of(groups: Groups, outcomes: np.ndarray, *, minimum: int) -> dict[str, Rate]:
    """All rates by group from the outcomes (S, 5) of the finest cells; see `count_rates`."""
    rates = {}
    for name in RATES:
        hits, trials = (outcomes[:, which[name]].sum(axis=1) for which in (_HITS, _TRIALS))
        by_group = _sums(groups.members, trials)
        first, second = pairs_of(groups.attributes, by_group >= minimum)
        rates[name] = Rate(name, _sums(groups.members, hits), by_group, trials, first, second)
    return rates


def resampled_rates(
    groups: Groups, outcomes: np.ndarray, replicates: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Rates (replicates, G) of rows drawn with replacement, NaN where a group has no row that could count.

    Drawing n rows with replacement gives counts that are multinomial with the observed shares, so that the cost grows
    with the cells and not with the rows.

    Args:
        groups: The groups.
        outcomes: (S, 5) of the finest cells.
        replicates: Number of resamples.
        rng: Source of the draws.

    Returns:
        Rates by name.
    """
    n, there, members = int(outcomes.sum()), np.flatnonzero(outcomes), groups.members.astype(np.float64)
    found = {name: np.empty((replicates, len(members))) for name in RATES}
    step = max(1, _HELD // (outcomes.size + members.shape[0] * len(OUTCOMES)))
    for start in range(0, replicates, step):
        drawn = np.zeros((min(step, replicates - start), outcomes.size))
        drawn[:, there] = rng.multinomial(n, outcomes.ravel()[there] / n, size=len(drawn))
        by_group = members @ drawn.reshape(-1, *outcomes.shape)
        with np.errstate(invalid="ignore"):
            for name, values in found.items():
                hits, trials = (by_group[..., which[name]].sum(axis=-1) for which in (_HITS, _TRIALS))
                values[start : start + step] = hits / trials
    return found


def _sums(members: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(G,) sums of counts (S,) over the cells of each group; group by group, since members as integers are large."""
    return np.array([counts[cells].sum() for cells in members])


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
