"""Rows that are the same, or all but the same: within one set and between two, in tables and in pictures.

The same rows are found by hashing. Near duplicates are found exactly too: whatever lies within the tolerance is listed.
Two rows that are close stay close when both are projected on a few orthonormal directions, so a k-d tree over those
gives all candidates, which are then compared in full. Memory is bounded in the number of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

MOST = 1_000_000  # pairs kept at most
_HELD = 4_000_000  # numbers of an intermediate matrix held at once
_DIRECTIONS = 8  # projections that the tree searches: k-d trees gain nothing beyond some ten (Friedman et al. 1977)
_SAMPLE = 512  # rows that the projections are made from
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


class Nearest(NamedTuple):
    """The nearest `row` of the other set (n,), int64, and its `distance` (n,), float64."""

    row: np.ndarray
    distance: np.ndarray


def same_rows(*sets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Number of the group of identical rows that each row belongs to, counted through all sets together.

    Rows are hashed (BLAKE2b, 128 bits). NaN equals NaN and -0.0 equals 0.0.

    Args:
        *sets: (n, ...) numbers or booleans each, of one shape but for n.

    Returns:
        (n,) int64 by set, from 0 on in the order of first appearance.

    Raises:
        ValueError: The sets' rows differ in shape.

    >>> [codes.tolist() for codes in same_rows(np.array([[1, 2], [3, 4], [1, 2]]), np.array([[3, 4], [5, 6]]))]
    [[0, 1, 0], [1, 2]]
    """
    if len({x.shape[1:] for x in sets}) > 1:
        raise ValueError(f"rows differ in shape: {[x.shape[1:] for x in sets]}")
    dtype, seen = np.result_type(*sets), dict[bytes, int]()
    return tuple(
        np.fromiter((seen.setdefault(digest, len(seen)) for digest in _digests(x, dtype)), np.int64, len(x))
        for x in sets
    )


def _digests(x: np.ndarray, dtype: np.dtype) -> Iterator[bytes]:
    """One digest a row, equal for equal rows."""
    width = max(1, int(np.prod(x.shape[1:])))
    for start in range(0, len(x), max(1, _HELD // width)):
        rows = x[start : start + max(1, _HELD // width)].astype(dtype).reshape(-1, width)
        if rows.dtype.kind == "f":
            rows = np.where(np.isnan(rows), rows.dtype.type(np.nan), rows + rows.dtype.type(0))  # one NaN, one zero
        yield from (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)


def repeated(x: np.ndarray) -> Pairs:
    """Every row that repeats an earlier one, paired with the first of its kind.

    Args:
        x: (n, ...) numbers.

    Returns:
        At most n - 1 pairs at distance 0, `first` the earlier row; n minus their number are the distinct rows.
    """
    return _in_order(*_stars(same_rows(x)[0]))


def _stars(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of a group and each later one (p,), (p,)."""
    firsts = np.unique(codes, return_index=True)[1][codes] if len(codes) else codes
    later = np.flatnonzero(firsts != np.arange(len(codes)))
    return firsts[later], later


def shared(a: np.ndarray, b: np.ndarray) -> Pairs:
    """Every row of `a` that occurs in `b`, paired with its first occurrence there.

    Args:
        a: (n, ...) numbers.
        b: (m, ...) numbers.

    Returns:
        At most n pairs at distance 0.
    """
    here, there = same_rows(a, b)
    known, where = np.unique(there, return_index=True)
    rows = np.flatnonzero(np.isin(here, known))
    return _in_order(rows, where[np.searchsorted(known, here[rows])])


def column_scale(x: np.ndarray) -> np.ndarray:
    """Standard deviation of each column over the rows, the unit of the distances here; 1 where a column is constant.

    Args:
        x: (n, d) finite numbers, the reference: usually the train split.

    Returns:
        (d,) float64, above 0.
    """
    values = x.astype(np.float64)
    spread = values.std(axis=0) if len(values) else np.zeros(x.shape[1])
    rounding = 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    return np.where(spread > rounding, spread, 1.0)


def scaled(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Rows as points whose Euclidean distance is the root mean square difference of the columns in units of `scale`.

    Args:
        x: (n, d) finite numbers.
        scale: (d,) of `column_scale`.

    Returns:
        (n, d) float64.

    Raises:
        ValueError: Values are not finite; distances to them mean nothing.
    """
    points: np.ndarray = x.astype(np.float64) / scale / np.sqrt(max(1, x.shape[1]))
    if not np.isfinite(points).all():
        raise ValueError("distances need finite values")
    return points


def near_pairs(a: np.ndarray, b: np.ndarray, tolerance: float, *, most: int = MOST) -> Pairs:
    """All pairs of a row of `a` and a row of `b` whose Euclidean distance is at most `tolerance`.

    For tables pass both through `scaled`, with one scale: the tolerance then is a share of a standard deviation, the
    same for any number of columns.

    Args:
        a: (n, d) finite.
        b: (m, d) finite.
        tolerance: Largest distance of a near duplicate, at least 0.
        most: Pairs kept at most; the rest is lost and `complete` is False.

    Returns:
        The pairs with exact distances.

    >>> near_pairs(np.array([[0.0, 0.0], [9.0, 9.0]]), np.array([[0.0, 0.1], [5.0, 5.0]]), 0.2)[:3]
    (array([0]), array([0]), array([0.1]))
    """
    if not len(a) or not len(b):
        return _in_order(np.empty(0, np.int64), np.empty(0, np.int64))
    return _search(a, b, tolerance, most, within=False)


def near_pairs_within(x: np.ndarray, tolerance: float, *, most: int = MOST) -> Pairs:
    """Near duplicates within one set: every row that repeats an earlier one, and all close pairs of distinct rows.

    A row that occurs k times gives k - 1 pairs with its first occurrence, not k (k - 1) / 2, and only the first
    occurrence is paired with other rows. `clusters` puts them all together.

    Args:
        x: (n, d) finite; see `near_pairs`.
        tolerance: Largest distance of a near duplicate, at least 0.
        most: Pairs of distinct rows kept at most.

    Returns:
        The pairs with exact distances, `first` the earlier row.
    """
    if not len(x):
        return repeated(x)
    codes = same_rows(x)[0]
    kept = np.unique(codes, return_index=True)[1]
    near = _search(x[kept], x[kept], tolerance, most, within=True)
    first, second = _stars(codes)
    ends = np.sort(np.stack([kept[near.first], kept[near.second]]), axis=0)
    return _in_order(
        np.concatenate([first, ends[0]]),
        np.concatenate([second, ends[1]]),
        np.concatenate([np.zeros(len(first)), near.distance]),
        complete=near.complete,
    )


def clusters(n: int, pairs: Pairs) -> np.ndarray:
    """Cluster of each row when pairs are linked and links are followed (single linkage).

    Args:
        n: Number of rows.
        pairs: Of one set.

    Returns:
        (n,) int64 cluster number; n minus the number of clusters is how many rows could be dropped.
    """
    links = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), shape=(n, n))
    found: np.ndarray = connected_components(links, directed=False)[1].astype(np.int64)
    return found


def nearest(a: np.ndarray, b: np.ndarray | None = None) -> Nearest:
    """The nearest row of `b` for every row of `a`, or with one set the nearest other row.

    By k-d tree up to eight columns, else by products in blocks of bounded size.

    Args:
        a: (n, d) finite.
        b: (m, d) finite, m at least 1; None for `a` itself, of at least two rows.

    Returns:
        Index into `b` and exact Euclidean distance; of equally near rows any one.

    Raises:
        ValueError: There is no other row.
    """
    alone = b is None
    b = a if b is None else b
    if len(b) < 1 + alone:
        raise ValueError("there is no other row")
    if a.shape[1] <= _DIRECTIONS:
        ranked = np.asarray(KDTree(b).query(a, k=1 + alone)[1], np.int64).reshape(len(a), 1 + alone)
        found = ranked[:, 0]
        if alone:  # of identical rows either may come first
            found = np.where(found == np.arange(len(a)), ranked[:, 1], found)
    else:
        found = _nearest_by_products(a, b, alone=alone)
    return Nearest(found, _distances(a, b, np.arange(len(a)), found))


def _nearest_by_products(a: np.ndarray, b: np.ndarray, *, alone: bool) -> np.ndarray:
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    squares, best, found = (b * b).sum(axis=1), np.full(len(a), np.inf), np.zeros(len(a), np.int64)
    side = int(_HELD**0.5)
    for top in range(0, len(a), side):
        rows = slice(top, top + side)
        for left in range(0, len(b), side):
            gaps = squares[left : left + side] - 2 * (a[rows] @ b[left : left + side].T)
            if alone and top == left:
                np.fill_diagonal(gaps, np.inf)
            index = gaps.argmin(axis=1)
            least = gaps[np.arange(len(gaps)), index]
            nearer = least < best[rows]
            best[rows] = np.where(nearer, least, best[rows])
            found[rows] = np.where(nearer, index + left, found[rows])
    return found


def _search(a: np.ndarray, b: np.ndarray, tolerance: float, most: int, *, within: bool) -> Pairs:
    """Pairs at most `tolerance` apart; within one set only those of a row with a later one."""
    directions = _directions(b)
    low_a, tree = a @ directions, KDTree(b @ directions)
    radius = tolerance * (1 + _SLACK) + _SLACK * float(np.abs(low_a).max(initial=0.0))
    counts = tree.query_ball_point(low_a, radius, return_length=True)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    room = most
    for rows in _portions(counts, max(1, _HELD // a.shape[1])):
        found = tree.query_ball_point(low_a[rows], radius)
        first = np.repeat(rows, counts[rows])
        second = np.concatenate([np.asarray(row, np.int64) for row in found])
        if within:
            first, second = first[second > first], second[second > first]
        distance = _distances(a, b, first, second)
        close = np.flatnonzero(distance <= tolerance)
        parts.append((first[close[:room]], second[close[:room]], distance[close[:room]]))
        if len(close) > room:
            return _in_order(*map(np.concatenate, zip(*parts, strict=True)), complete=False)
        room -= len(close)
    return _in_order(*map(np.concatenate, zip(*parts, strict=True)))


def _directions(x: np.ndarray) -> np.ndarray:
    """(d, k) orthonormal directions along which rows differ much: one subspace iteration on a sample of rows."""
    rng = np.random.default_rng(0)
    d = x.shape[1]
    if d <= _DIRECTIONS:
        return np.eye(d)
    sample = x[np.sort(rng.permutation(len(x))[:_SAMPLE])]
    sample = sample - sample.mean(axis=0)
    found = sample.T @ (sample @ rng.standard_normal((d, _DIRECTIONS)))
    found /= max(float(np.abs(found).max()), np.finfo(float).tiny)
    return np.linalg.qr(found + 1e-9 * rng.standard_normal(found.shape))[0]  # full rank also where x has less


def _portions(counts: np.ndarray, held: int) -> Iterator[np.ndarray]:
    """Successive rows whose counts sum to about `held`."""
    number = np.cumsum(counts) // held
    yield from np.split(np.arange(len(counts)), np.flatnonzero(np.diff(number)) + 1)


def _distances(a: np.ndarray, b: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances (p,) of pairs of rows, without cancellation."""
    step = max(1, _HELD // max(1, a.shape[1]))
    parts = [
        np.sqrt(((a[first[i : i + step]] - b[second[i : i + step]]) ** 2).sum(axis=1))
        for i in range(0, len(first), step)
    ]
    return np.concatenate([np.empty(0), *parts])


def _in_order(
    first: np.ndarray, second: np.ndarray, distance: np.ndarray | None = None, *, complete: bool = True
) -> Pairs:
    order = np.lexsort((second, first))
    gaps = np.zeros(len(first)) if distance is None else distance[order]
    return Pairs(first[order].astype(np.int64), second[order].astype(np.int64), gaps, complete)


def picture_pairs(
    a: np.ndarray,
    b: np.ndarray | None,
    tolerance: float,
    *,
    shift: int = 1,
    mirror: bool = True,
    most: int = MOST,
) -> Pairs:
    """Pictures that are the same but for brightness, contrast, a small shift, mirroring and a little noise.

    The middle of a picture of `b`, without a border of `shift` pixels, is compared with all windows of that size in
    a picture of `a`, and in its mirror image. Every window is centred and scaled to standard deviation 1 over all its
    pixels and channels; the distance is the least root mean square difference, from 0 to 2. It is sqrt(2 - 2 r), r the
    correlation: 0.1 is a correlation of 0.995. Rotations, crops and larger shifts are not found. Windows of one colour
    match nothing; `repeated` and `shared` find those.

    Args:
        a: (n, C, H, W) or (n, H, W) finite numbers.
        b: (m, C, H, W) or (m, H, W) likewise; None for pairs within `a`.
        tolerance: Largest distance of a near duplicate.
        shift: Pixels a picture may be moved by in each direction; lowered for pictures too small for it.
        mirror: Whether left and right may be swapped.
        most: Pairs kept at most in each comparison.

    Returns:
        Each pair once with its least distance; within one set `first` is the earlier row.

    Raises:
        ValueError: Not pictures, or values are not finite.
    """
    there = a if b is None else b
    if a.ndim not in {3, 4} or a.shape[1:] != there.shape[1:]:
        raise ValueError(f"found shapes {a.shape} and {there.shape}, wanted two of (n, H, W) or (n, C, H, W)")
    if not (np.isfinite(a).all() and np.isfinite(there).all()):
        raise ValueError("distances need finite values")
    shift = max(0, min(shift, (min(a.shape[-2:]) - 2) // 2))
    target, known_there = _standardised(_window(there, shift, shift, shift))
    best: list[Pairs] = []
    for image in (a, a[..., ::-1]) if mirror else (a,):
        for down in range(2 * shift + 1):
            for right in range(2 * shift + 1):
                source, known = _standardised(_window(image, shift, down, right))
                found = near_pairs(source[known], target[known_there], tolerance, most=most)
                first, second = np.flatnonzero(known)[found.first], np.flatnonzero(known_there)[found.second]
                if b is None:
                    distinct = first != second
                    ends = np.sort(np.stack([first, second])[:, distinct], axis=0)
                    first, second, found = ends[0], ends[1], found._replace(distance=found.distance[distinct])
                best.append(Pairs(first, second, found.distance, found.complete))
    return _least(best)


def _window(x: np.ndarray, shift: int, down: int, right: int) -> np.ndarray:
    height, width = x.shape[-2] - 2 * shift, x.shape[-1] - 2 * shift
    return x[..., down : down + height, right : right + width]


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) centred and scaled so that Euclidean distance is root mean square difference, and which vary (n,)."""
    rows = x.reshape(len(x), -1).astype(np.float64)
    magnitude = np.abs(rows).max(axis=1, initial=0.0)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((rows**2).mean(axis=1))
    varies = length > 1e-6 * np.maximum(magnitude, np.finfo(float).tiny)
    rows /= np.where(varies, length, 1.0)[:, None] * np.sqrt(max(1, rows.shape[1]))
    return rows, varies


def _least(several: list[Pairs]) -> Pairs:
    """Each pair once, at its least distance."""
    first, second, distance = (np.concatenate([part[i] for part in several]) for i in range(3))
    order = np.lexsort((distance, second, first))
    first, second, distance = first[order], second[order], distance[order]
    new = np.ones(len(first), dtype=bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return Pairs(first[new], second[new], distance[new], all(part.complete for part in several))
