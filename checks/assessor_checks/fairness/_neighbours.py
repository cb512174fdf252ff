"""Nearest neighbours by brute force in blocks, and how alike a model treats rows that are alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from assessor.contract import progress

_HELD = 8_000_000  # distances held at once
_SPARE = 8  # neighbours looked at beyond those wanted, since fast squared distances are rounded


class Neighbours(NamedTuple):
    """The k nearest other rows of each row, nearest first.

    Attributes:
        rows: (n, k) their indices.
        distances: (n, k) root mean square difference over the features.
    """

    rows: np.ndarray
    distances: np.ndarray


def nearest(points: np.ndarray, k: int, *, held: int = _HELD) -> Neighbours:
    """The k nearest other rows of every row, exactly; of rows equally far those with the lower index.

    Args:
        points: (n, d) finite, scaled so that Euclidean distance means something; n above k.
        k: Neighbours wanted.
        held: Distances held at once; changes no value.

    Returns:
        The neighbours, with distances divided by the root of d.
    """
    n, d = points.shape
    norms, step = (points**2).sum(axis=1), max(1, held // n)
    wanted = min(n - 1, k + _SPARE)
    found, far = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    for start in range(0, n, step):
        progress("neighbours", start, n)
        some = points[start : start + step]
        squares = norms - 2 * (some @ points.T)  # but for each row's own norm, which orders nothing
        own = np.arange(len(some))
        squares[own, start + own] = np.inf
        near = np.sort(np.argpartition(squares, wanted - 1, axis=1)[:, :wanted], axis=1)
        exact = ((points[near] - some[:, None]) ** 2).sum(axis=2)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        found[start : start + step] = np.take_along_axis(near, order, axis=1)
        far[start : start + step] = np.sqrt(np.take_along_axis(exact, order, axis=1) / max(d, 1))
    return Neighbours(found, far)


class Deviation(NamedTuple):
    """How far outputs lie from those of their neighbours.

    Attributes:
        rows: (n,) of each row: share of neighbours of another class, or |value - mean of the neighbours' values|.
        mean: Over rows.
        error: Standard error of the mean.
    """

    rows: np.ndarray
    mean: float
    error: float


def deviation(outputs: np.ndarray, neighbours: np.ndarray, *, classes: bool) -> Deviation:
    """Mean deviation of outputs from those of the k nearest rows, with its jackknife standard error.

    Rows are no independent terms: each is a neighbour of others. So each row is left out in turn; rows that had it as a
    neighbour take the next nearest one instead, which is why k + 1 neighbours are wanted. The jackknife's variance errs
    upwards (Efron and Stein 1981, Annals of Statistics 9:586). Resampling rows would make each its own neighbour.

    Args:
        outputs: (n,) class index or value.
        neighbours: (n, k + 1) rows, nearest first.
        classes: Whether outputs are classes.

    Returns:
        Deviations, mean and standard error.
    """
    n, k = len(outputs), neighbours.shape[1] - 1
    said = outputs[neighbours]
    if classes:
        different = (said != outputs[:, None]).astype(np.float64)
        rows = different[:, :k].mean(axis=1)
        without = rows[:, None] + (different[:, k:] - different[:, :k]) / k
    else:
        sums = said[:, :k].sum(axis=1)
        rows = np.abs(outputs - sums / k)
        without = np.abs(outputs[:, None] - (sums[:, None] - said[:, :k] + said[:, k:]) / k)
    change = np.zeros(n)
    np.add.at(change, neighbours[:, :k].ravel(), (without - rows[:, None]).ravel())
    left_out = (rows.sum() - rows + change) / (n - 1)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return Deviation(rows, float(rows.mean()), float(error))


def chance_deviation(outputs: np.ndarray, k: int, *, classes: bool, seed: int, draws: int = 20) -> float:
    """Mean deviation if outputs were dealt to the rows at random: exact for classes, drawn for values.

    Args:
        outputs: (n,) class index or value.
        k: Neighbours.
        classes: Whether outputs are classes.
        seed: Of the draws.
        draws: Times that every row is given random neighbours.

    Returns:
        The mean.
    """
    n = len(outputs)
    if classes:
        counts = np.unique(outputs, return_counts=True)[1].astype(np.float64)
        return float(1 - (counts * (counts - 1)).sum() / (n * (n - 1)))
    rng = np.random.default_rng(seed)
    found = [
        np.abs(outputs - outputs[rng.integers(1, n, size=(n, k)) + np.arange(n)[:, None] - n].mean(axis=1)).mean()
        for _ in range(draws)
    ]
    return float(np.mean(found))


def steepest(scores: np.ndarray, neighbours: Neighbours) -> tuple[np.ndarray, int]:
    """Largest change of the scores for one unit of distance, from each row to its neighbours.

    Args:
        scores: (n, C) scores or (n, 1) values; their change is half the sum of absolute changes, for values the change.
        neighbours: k nearest rows.

    Returns:
        (m,) ratios of the rows that have a neighbour at a distance, and the number of rows with a neighbour at no
        distance at all that is scored otherwise.
    """
    change = np.abs(scores[neighbours.rows] - scores[:, None]).sum(axis=2) / (2 if scores.shape[1] > 1 else 1)
    apart = neighbours.distances > 0
    ratio = np.divide(change, neighbours.distances, where=apart, out=np.full(change.shape, -1.0)).max(axis=1)
    return ratio[ratio >= 0], int(((change > 1e-9) & ~apart).any(axis=1).sum())
