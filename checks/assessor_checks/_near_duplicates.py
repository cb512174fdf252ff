"""Rows that are the same, or all but the same: within one set and between two, in tables and in pictures.

The same rows are found by hashing. Near duplicates are found exactly too: whatever lies within the tolerance is listed.
Two rows that are close stay close when both are projected on a few orthonormal directions, so a k-d tree over those
gives all candidates, which are then compared in full. Memory is bounded in the number of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from assessor_checks._close_points import DIRECTIONS, HELD, SAMPLE, Pairs, distances, in_order, main_directions, search

MOST = 1_000_000  # pairs kept at most


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
    for start in range(0, len(x), max(1, HELD // width)):
        rows = x[start : start + max(1, HELD // width)].astype(dtype).reshape(-1, width)
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
    return in_order(*_stars(same_rows(x)[0]))


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
    return in_order(rows, where[np.searchsorted(known, here[rows])])


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
        return in_order(np.empty(0, np.int64), np.empty(0, np.int64))
    return _near(a, b, tolerance, most, within=False)


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
    near = _near(x[kept], x[kept], tolerance, most, within=True)
    first, second = _stars(codes)
    ends = np.sort(np.stack([kept[near.first], kept[near.second]]), axis=0)
    return in_order(
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
    if a.shape[1] <= DIRECTIONS:
        ranked = np.asarray(KDTree(b).query(a, k=1 + alone)[1], np.int64).reshape(len(a), 1 + alone)
        found = ranked[:, 0]
        if alone:  # of identical rows either may come first
            found = np.where(found == np.arange(len(a)), ranked[:, 1], found)
    else:
        found = _nearest_by_products(a, b, alone=alone)
    return Nearest(found, distances(a, b, np.arange(len(a)), found))


def _nearest_by_products(a: np.ndarray, b: np.ndarray, *, alone: bool) -> np.ndarray:
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    squares, best, found = (b * b).sum(axis=1), np.full(len(a), np.inf), np.zeros(len(a), np.int64)
    side = int(HELD**0.5)
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


def _near(a: np.ndarray, b: np.ndarray, tolerance: float, most: int, *, within: bool) -> Pairs:
    along = main_directions(b)
    tree, whole = KDTree(b @ along), partial(distances, a, b)
    return search(a @ along, tree, tolerance, most, whole, within=within)


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
    middle = _Windows(there, shift, shift, shift)
    along = main_directions(middle.whole(np.sort(np.random.default_rng(0).permutation(len(there))[:SAMPLE])))
    target, low = middle.projected(along)
    if not len(target):
        return in_order(target, target)
    tree, best = KDTree(low), []
    for image in (a, a[..., ::-1]) if mirror else (a,):
        for down, right in product(range(2 * shift + 1), repeat=2):
            windows = _Windows(image, shift, down, right)
            source, low = windows.projected(along)
            if len(source):
                whole = partial(_picture_distances, windows, middle, source, target)
                found = search(low, tree, tolerance, most, whole, within=False)
                best.append(_of_rows(found, source, target, within=b is None))
    return _least(best) if best else in_order(target[:0], target[:0])


class _Windows(NamedTuple):
    """Windows of pictures at one place, `shift` pixels smaller on every side."""

    pictures: np.ndarray
    shift: int
    down: int
    right: int

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """Windows of some pictures (r, d), each of mean 0 and length 1; 0 where it is of one colour."""
        height, width = (size - 2 * self.shift for size in self.pictures.shape[-2:])
        found = self.pictures[rows][..., self.down : self.down + height, self.right : self.right + width]
        found = found.reshape(len(rows), -1).astype(np.float64)
        magnitude = np.abs(found).max(axis=1, initial=0.0)
        found -= found.mean(axis=1, keepdims=True)
        length = np.sqrt((found**2).sum(axis=1))
        varies = length > 1e-6 * np.sqrt(max(1, found.shape[1])) * np.maximum(magnitude, np.finfo(float).tiny)
        scaled: np.ndarray = found * np.where(varies, 1 / np.where(varies, length, 1.0), 0.0)[:, None]
        return scaled

    def projected(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of windows that are not of one colour (r,), and their projections (r, k)."""
        step = max(1, HELD // max(1, len(directions)))
        rows, low = [np.empty(0, np.int64)], [np.empty((0, directions.shape[1]))]
        for start in range(0, len(self.pictures), step):
            some = np.arange(start, min(start + step, len(self.pictures)))
            windows = self.whole(some)
            varies = windows.any(axis=1)
            rows.append(some[varies])
            low.append(windows[varies] @ directions)
        return np.concatenate(rows), np.concatenate(low)


def _picture_distances(
    a: _Windows, b: _Windows, rows_a: np.ndarray, rows_b: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Distances of pairs of windows, in portions."""
    step = max(1, HELD // max(1, int(np.prod(a.pictures.shape[1:]))))
    parts = [
        np.sqrt(((a.whole(rows_a[first[i : i + step]]) - b.whole(rows_b[second[i : i + step]])) ** 2).sum(axis=1))
        for i in range(0, len(first), step)
    ]
    return np.concatenate([np.empty(0), *parts])


def _of_rows(found: Pairs, source: np.ndarray, target: np.ndarray, *, within: bool) -> Pairs:
    """Pairs of places in two lists as pairs of rows; within one set each once, the earlier row first."""
    first, second = source[found.first], target[found.second]
    if not within:
        return Pairs(first, second, found.distance, found.complete)
    distinct = first != second
    ends = np.sort(np.stack([first, second])[:, distinct], axis=0)
    return Pairs(ends[0], ends[1], found.distance[distinct], found.complete)


def _least(several: list[Pairs]) -> Pairs:
    """Each pair once, at its least distance."""
    first, second, distance = (np.concatenate([part[i] for part in several]) for i in range(3))
    order = np.lexsort((distance, second, first))
    first, second, distance = first[order], second[order], distance[order]
    new = np.ones(len(first), dtype=bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return Pairs(first[new], second[new], distance[new], all(part.complete for part in several))
