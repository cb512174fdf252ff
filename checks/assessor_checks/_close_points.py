"""Pairs of points that lie close together: candidates by a k-d tree over a few projections, then compared in full.

Two points that are close stay close when both are projected on orthonormal directions, so no pair is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

HELD = 4_000_000  # numbers of an intermediate matrix held at once
CANDIDATES = 200_000  # pairs whose whole distances are taken at once
DIRECTIONS = 8  # projections that the tree searches: k-d trees gain nothing beyond some ten (Friedman et al. 1977)
SAMPLE = 512  # points that the projections are made from
_SLACK = 1e-9  # relative; rounding must not lose a candidate, and all are compared in full


class Pairs(NamedTuple):
    """Pairs of rows in order of `first`, then `second`.

    Attributes:
        first: (p,) int64 row of the first set.
        second: (p,) int64 row of the second set, or a later row of the same set.
        distance: (p,) float64 distance, at most the tolerance; 0 for the same row.
        complete: False where there are more pairs than were kept.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    complete: bool = True


def search(
    low: np.ndarray,
    tree: KDTree,
    tolerance: float,
    most: int,
    whole: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    within: bool,
) -> Pairs:
    """Pairs at most `tolerance` apart; within one set only those of a row with a later one.

    Args:
        low: (n, k) projected rows of the first set, n at least 1.
        tree: Projected rows of the second.
        tolerance: Largest distance.
        most: Pairs kept at most.
        whole: Distances (p,) of pairs of rows, first (p,) and second (p,).
        within: Whether both sets are one.

    Returns:
        The pairs.
    """
    radius = tolerance * (1 + _SLACK) + _SLACK * float(np.abs(low).max(initial=0.0))
    counts = np.asarray(tree.query_ball_point(low, radius, return_length=True))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    room = most
    for rows in _portions(counts, CANDIDATES):
        found = tree.query_ball_point(low[rows], radius)
        first = np.repeat(rows, counts[rows])
        second = np.concatenate([np.asarray(row, np.int64) for row in found])
        if within:
            first, second = first[second > first], second[second > first]
        distance = whole(first, second)
        close = np.flatnonzero(distance <= tolerance)
        parts.append((first[close[:room]], second[close[:room]], distance[close[:room]]))
        if len(close) > room:
            return in_order(*map(np.concatenate, zip(*parts, strict=True)), complete=False)
        room -= len(close)
    return in_order(*map(np.concatenate, zip(*parts, strict=True)))


def main_directions(x: np.ndarray) -> np.ndarray:
    """(d, k) orthonormal directions along which rows differ much: one subspace iteration on a sample of rows."""
    rng = np.random.default_rng(0)
    d = x.shape[1]
    if d <= DIRECTIONS:
        return np.eye(d)
    sample = x[np.sort(rng.permutation(len(x))[:SAMPLE])]
    sample = sample - sample.mean(axis=0)
    found = sample.T @ (sample @ rng.standard_normal((d, DIRECTIONS)))
    found /= max(float(np.abs(found).max()), np.finfo(float).tiny)
    return np.linalg.qr(found + 1e-9 * rng.standard_normal(found.shape))[0]  # full rank also where x has less


def _portions(counts: np.ndarray, held: int) -> Iterator[np.ndarray]:
    """Successive rows whose counts sum to about `held`."""
    number = np.cumsum(counts) // held
    yield from np.split(np.arange(len(counts)), np.flatnonzero(np.diff(number)) + 1)


def distances(a: np.ndarray, b: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances (p,) of pairs of rows, without cancellation."""
    step = max(1, HELD // max(1, a.shape[1]))
    parts = [
        np.sqrt(((a[first[i : i + step]] - b[second[i : i + step]]) ** 2).sum(axis=1))
        for i in range(0, len(first), step)
    ]
    return np.concatenate([np.empty(0), *parts])


def in_order(
    first: np.ndarray, second: np.ndarray, distance: np.ndarray | None = None, *, complete: bool = True
) -> Pairs:
    order = np.lexsort((second, first))
    gaps = np.zeros(len(first)) if distance is None else distance[order]
    return Pairs(first[order].astype(np.int64), second[order].astype(np.int64), gaps, complete)
