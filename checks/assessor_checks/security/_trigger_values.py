"""The few feature values that turn the rows of a table into a class, found by asking the model.

The table's counterpart of a patch (Wang et al. 2019, Neural Cleanse, IEEE S&P): a greedy search over features and
values that occur in the data, one feature after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from assessor.contract import Cell, NotApplicable, Scores, progress
from assessor_checks.security._trigger import Triggers

_ENTRIES = 2**22  # entries of changed rows held at once


class Sets(NamedTuple):
    """Feature values that turn rows into a class, in the order in which they were chosen.

    Attributes:
        features: (s,) column of each.
        values: (s,) value that it is set to.
        turned: (n, s) bool, which rows are in the class with the first 1, 2, ... of them set.
    """

    features: np.ndarray
    values: np.ndarray
    turned: np.ndarray

    def needed(self) -> np.ndarray:
        """(n,) how many features had to be set for each row; one more than were tried where none sufficed."""
        ever = self.turned.any(axis=1)
        found: np.ndarray = np.where(ever, self.turned.argmax(axis=1), self.turned.shape[1]) + 1.0
        return found


def candidates(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(m,) columns and (m,) values to try: quantiles of each column that occur in it, its extremes among them."""
    columns, values = [], []
    for column in range(features.shape[1]):
        known = features[:, column][np.isfinite(features[:, column])]
        if not len(known):
            continue
        tried = np.unique(np.quantile(known, np.linspace(0, 1, count), method="nearest"))
        columns.append(np.full(len(tried), column))
        values.append(tried)
    return np.concatenate(columns), np.concatenate(values)


def search(
    scores: Scores,
    rows: np.ndarray,
    unseen: np.ndarray,
    tried: tuple[np.ndarray, np.ndarray],
    target: int,
    *,
    most: int,
    goal: float,
) -> Sets:
    """Greedily, feature values that raise the mean score of a class most on some rows, judged on unseen ones.

    Args:
        scores: Features (n, d) to class probabilities (n, C).
        rows: (n, d) rows not in the class, to choose by.
        unseen: (m, d) rows not in the class, to judge by.
        tried: Columns and values, see `candidates`.
        target: The class.
        most: Features at most.
        goal: Share of `rows` turned at which the search ends.

    Returns:
        The choice; `turned` is of the unseen rows.
    """
    columns, values = tried
    now, judged = rows.copy(), unseen.copy()
    chosen: list[int] = []
    turned: list[np.ndarray] = []
    while len(chosen) < min(most, len(np.unique(columns))):
        free = np.flatnonzero(~np.isin(columns, columns[chosen]))
        means = np.concatenate([_means(scores, now, columns, values, part, target) for part in _split(free, now)])
        best = int(free[means.argmax()])
        chosen.append(best)
        for each in (now, judged):
            each[:, columns[best]] = values[best]
        turned.append(_asked(scores, judged).argmax(axis=1) == target)
        if (_asked(scores, now).argmax(axis=1) == target).mean() >= goal:
            break
    return Sets(columns[chosen], values[chosen], np.stack(turned, axis=1))


def _split(free: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(free, min(len(free), -(-len(free) * rows.size // _ENTRIES)))


def _means(
    scores: Scores, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, part: np.ndarray, target: int
) -> np.ndarray:
    """(k,) mean score of the class with each of some candidates set."""
    changed = np.broadcast_to(rows, (len(part), *rows.shape)).copy()
    changed[np.arange(len(part)), :, columns[part]] = values[part, None]
    wanted = _asked(scores, changed.reshape(-1, rows.shape[1]))[:, target]
    found: np.ndarray = wanted.reshape(len(part), -1).mean(axis=1)
    return found


def _asked(scores: Scores, rows: np.ndarray) -> np.ndarray:
    found = np.asarray(scores(rows))
    if bad := int((~np.isfinite(found)).any(axis=1).sum()):
        raise NotApplicable(f"the model gives no finite scores for {bad} of {len(found)} rows with changed features")
    return found


def search_all(
    scores: Scores,
    rows: np.ndarray,
    tried: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
    *,
    classes: int,
    most: int,
    goal: float,
) -> Triggers:
    """`search` for every class; the first half of the rows chooses, the second judges.

    Args:
        scores: The model.
        rows: (n, d).
        tried: Columns and values.
        names: (d,) of the columns.
        classes: Number of classes.
        most: Features at most.
        goal: Share turned at which a search ends.

    Returns:
        What was found; no size where either half lacks a row outside the class.
    """
    predicted, half = _asked(scores, rows).argmax(axis=1), len(rows) // 2
    found: list[Sets | None] = []
    for target in range(classes):
        outside = predicted != target
        choose, judge = rows[:half][outside[:half]], rows[half:][outside[half:]]
        both = len(choose) > 0 and len(judge) > 0
        found.append(search(scores, choose, judge, tried, target, most=most, goal=goal) if both else None)
        progress("classes searched for a trigger", target + 1, classes)
    return Triggers(
        sizes=[None if one is None else float(one.needed().mean()) for one in found],
        turned=[0 if one is None else int(one.turned[:, -1].sum()) for one in found],
        unseen=[0 if one is None else len(one.turned) for one in found],
        parts=[[] if one is None else _parts(one, names) for one in found],
    )


def _parts(one: Sets, names: Sequence[str]) -> list[list[Cell]]:
    found: list[list[Cell]] = []
    for column, value in zip(one.features.tolist(), one.values.tolist(), strict=True):
        found.append([names[int(column)], None, value])
    return found
