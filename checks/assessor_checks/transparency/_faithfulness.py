"""Whether explanations follow the model: what happens to its output when the parts they name are taken away.

Sources: insertion and deletion, Petsiuk, Das, Saenko 2018 (RISE, arXiv 1806.07421), section 4; infidelity, Yeh,
Hsieh, Suggala, Inouye, Ravikumar 2019 (arXiv 1901.09392), equation 1, with random sets of parts replaced by their
baseline.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from assessor_checks._explained import Parts, Rows, Values
from assessor_checks.transparency._coalitions import coalitions

_NO_CHANGE = 1e-6  # of the output; falls below this are rounding of float32 models


class Curves(NamedTuple):
    """Outputs while parts are taken away or put in.

    Attributes:
        shares: (s,) share of the parts moved so far, from 0 to 1.
        deletion: (n, s) output while the first parts of an order are replaced first.
        insertion: (n, s) output while the first parts are put in first, starting from the baseline.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def gain(self) -> np.ndarray:
        """(n,) half of the insertion minus the deletion area; 0 on average for an order that says nothing.

        Deletion in one order is insertion in the opposite one read backwards, so that in random order both have the
        same area on average, whatever the model.
        """
        found: np.ndarray = (area(self.shares, self.insertion) - area(self.shares, self.deletion)) / 2
        return found


class Infidelity(NamedTuple):
    """How far attributions are from the changes they foretell; (n,) each, float64.

    Attributes:
        squared_error: Mean over random sets of (sum of the set's attributions - fall of the output)^2.
        unexplained: Share of the falls' mean square that is left when the attributions are scaled as well as
            possible, from 0 to 1; NaN where the output never changes.
    """

    squared_error: np.ndarray
    unexplained: np.ndarray


def places(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, K) place of each part when the most important comes first; ties in random order.

    Ties broken by position would turn an explanation that says nothing into an order of its own.
    """
    random = rng.random(scores.shape).argsort(axis=1)
    shuffled = np.take_along_axis(-scores, random, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(random, shuffled, axis=1).argsort(axis=1)


def curves(values: Values, rows: Rows, parts: Parts, place: np.ndarray, points: int) -> Curves:
    """Insertion and deletion in a given order.

    Args:
        values: What is explained.
        rows: Rows, classes, baselines.
        parts: Players.
        place: (n, K) place of each in the order.
        points: Points of a curve after the first, at most one a part.

    Returns:
        The curves.
    """
    counts = np.unique(np.rint(np.linspace(0, parts.count, min(points, parts.count) + 1)).astype(np.int64))

    def inserted(order: np.ndarray) -> np.ndarray:
        return coalitions(
            values, rows, parts, lambda chunk: order[chunk, None, :] < counts[:, None], what="parts put in, taken out"
        )

    return Curves(counts / parts.count, inserted(parts.count - 1 - place)[:, ::-1], inserted(place))


def area(shares: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """(n,) area under curves (n, s) over shares (s,), by trapezoids.

    >>> area(np.array([0.0, 0.5, 1.0]), np.array([[1.0, 1.0, 0.0]]))
    array([0.75])
    """
    found: np.ndarray = np.trapezoid(curve, shares, axis=1)
    return found


def infidelity(values: Values, rows: Rows, parts: Parts, change: np.ndarray, *, sets: int, seed: int) -> Infidelity:
    """Infidelity over random sets of parts, of uniform size from 1 to all of them.

    Args:
        values: What is explained.
        rows: Rows, classes, baselines.
        parts: Players.
        change: (n, K) by how much the output should fall for each part.
        sets: Random sets a row.
        seed: Of the sets.

    Returns:
        Both forms of it.
    """
    whole = values(rows.x, rows.classes)[:, None]

    def kept(chunk: slice) -> np.ndarray:
        return ~np.stack([_set(parts.count, sets, seed, number) for number in rows.numbers[chunk]])

    falls = whole - coalitions(values, rows, parts, kept, what="random sets of parts replaced")
    told = np.stack([change[row] @ ~kept(slice(row, row + 1))[0].T for row in range(len(change))])
    product, wanted, said = ((a * b).mean(axis=1) for a, b in ((told, falls), (falls, falls), (told, told)))
    explained = np.divide(product**2, wanted * said, out=np.zeros(len(wanted)), where=wanted * said > 0)
    unexplained = np.where(wanted > (_NO_CHANGE * whole[:, 0]) ** 2, 1 - np.clip(explained, 0, 1), np.nan)
    return Infidelity(((told - falls) ** 2).mean(axis=1), unexplained)


def _set(players: int, sets: int, seed: int, number: int) -> np.ndarray:
    """(sets, K) bool random parts of the row of this number, 1 to K of them, every number equally often."""
    rng = np.random.default_rng([seed, 6, number])
    return rng.random((sets, players)).argsort(axis=1) < rng.integers(1, players + 1, size=(sets, 1))
