"""Distance covariance: one number for any kind of dependence between two quantities, groups or lists of both.

Székely, Rizzo and Bakirov 2007, Annals of Statistics 35:2769 (definition 4, V-statistic); Székely and Rizzo 2014,
Annals of Statistics 42:2382 (U-centring: the mean under independence is exactly 0). For two numbers a row in
O(n log n) (Huo and Székely 2016, Technometrics 58:435; ties as in Chaudhuri and Hu 2019, arXiv 1810.11332), for numbers
and G groups in O(n G), for tables of groups from the counts, else all pairs in blocks of bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_BLOCK = 4_000_000  # entries of a block of distances held at once

Block = Callable[[slice], np.ndarray]
"""Gives the distances (r, n) of some rows to all rows."""


class Sums(NamedTuple):
    """What distance covariance needs of two symmetric distance matrices a and b with zero diagonals.

    Attributes:
        n: Rows.
        product: Sum over all pairs of a b.
        rows: Sum over rows of (row sum of a) (row sum of b).
        total_a: Sum of a.
        total_b: Sum of b.
    """

    n: int
    product: float
    rows: float
    total_a: float
    total_b: float

    @property
    def biased(self) -> float:
        """Squared distance covariance, V-statistic; above 0 even under independence."""
        n = self.n
        return self.product / n**2 - 2 * self.rows / n**3 + self.total_a * self.total_b / n**4

    @property
    def unbiased(self) -> float:
        """Squared distance covariance by U-centring (Székely and Rizzo 2014, proposition 1); n at least 4.

        Written out: the sum of the products of the U-centred matrices over n (n - 3).
        """
        n = self.n
        centred = self.product - 2 * self.rows / (n - 2) + self.total_a * self.total_b / ((n - 1) * (n - 2))
        return centred / (n * (n - 3))


class Dependence(NamedTuple):
    """Sums of two sides with each other and with themselves."""

    both: Sums
    first: Sums
    second: Sums

    @property
    def covariance(self) -> float:
        """Distance covariance, the root of the V-statistic, in the root of the product of both units."""
        return float(np.sqrt(max(self.both.biased, 0.0)))

    @property
    def plain(self) -> float:
        """Distance correlation in [0, 1] from V-statistics; above 0 even under independence."""
        spread = self.first.biased * self.second.biased
        return float(np.sqrt(max(self.both.biased, 0.0) / np.sqrt(spread))) if spread > 0 else 0.0

    @property
    def corrected(self) -> float:
        """Bias-corrected squared distance correlation: 0 on average under independence, so half the time below it."""
        spread = self.first.unbiased * self.second.unbiased
        return self.both.unbiased / float(np.sqrt(spread)) if spread > 0 else 0.0


# --- sums, exactly ---------------------------------------------------------------------------------------------------


def of_values(x: np.ndarray, y: np.ndarray) -> Dependence:
    """Two numbers a row, distances |x - x'| and |y - y'|, in O(n log n) time and O(n) memory.

    Args:
        x: (n,) finite.
        y: (n,) finite.

    Returns:
        The sums.
    """
    x, y = (np.asarray(side, dtype=np.float64) - np.mean(side) for side in (x, y))
    rows_x, rows_y = row_sums(x), row_sums(y)
    both = Sums(len(x), _sum_of_products(x, y), float(rows_x @ rows_y), float(rows_x.sum()), float(rows_y.sum()))
    return Dependence(both, _own_values(x, rows_x), _own_values(y, rows_y))


def of_values_and_cells(x: np.ndarray, cells: np.ndarray, distance: np.ndarray) -> Dependence:
    """A number and a cell a row, in O(n G) time and O(n + G^2) memory.

    Args:
        x: (n,) finite.
        cells: (n,) index of a cell.
        distance: (G, G) between cells.

    Returns:
        The sums; first is x.
    """
    order = np.argsort(x, kind="stable")
    x, cells = np.asarray(x, dtype=np.float64)[order] - np.mean(x), cells[order]
    counts, rows_x = np.bincount(cells, minlength=len(distance)), row_sums(x)
    product = 0.0
    for cell in np.flatnonzero(counts):  # sum over i of |x_i - x_j| over the rows j of this cell, by cumulative sums
        inside = cells == cell
        before, values = np.cumsum(inside), np.cumsum(np.where(inside, x, 0.0))
        to_cell = x * (2 * before - before[-1]) + values[-1] - 2 * values
        product += float(np.bincount(cells, to_cell, minlength=len(distance)) @ distance[cell])
    own = of_table(np.diag(counts), distance, distance).first
    rows_cells = distance @ counts
    both = Sums(len(x), product, float(rows_x @ rows_cells[cells]), float(rows_x.sum()), own.total_a)
    return Dependence(both, _own_values(x, rows_x), own)


def of_table(table: np.ndarray, first: np.ndarray, second: np.ndarray) -> Dependence:
    """Cells on both sides, from the counts alone.

    Args:
        table: (A, B) rows in each pair of cells.
        first: (A, A) distances.
        second: (B, B) distances.

    Returns:
        The sums.
    """
    n, counts = int(table.sum()), (table.sum(axis=1), table.sum(axis=0))
    rows = (first @ counts[0], second @ counts[1])
    totals = tuple(float(side @ count) for side, count in zip(rows, counts, strict=True))
    both = Sums(n, float(((first @ table @ second) * table).sum()), float(rows[0] @ table @ rows[1]), *totals)
    own = (
        Sums(n, float(count @ distance**2 @ count), float(count @ row**2), total, total)
        for distance, count, row, total in zip((first, second), counts, rows, totals, strict=True)
    )
    return Dependence(both, *own)


def of_blocks(first: Block, second: Block, n: int, *, held: int = _BLOCK) -> Dependence:
    """Any distances, all pairs in O(n^2) time, a block of rows at a time.

    Args:
        first: Gives distances of some rows to all.
        second: The same of the other side.
        n: Rows.
        held: Entries of a block; changes no value but rounding.

    Returns:
        The sums.
    """
    step = max(1, held // n)
    products, rows = np.zeros(3), np.zeros((2, n))
    for start in range(0, n, step):
        some = slice(start, min(n, start + step))
        a, b = first(some), second(some)
        products += [np.vdot(a, b), np.vdot(a, a), np.vdot(b, b)]
        rows[:, some] = a.sum(axis=1), b.sum(axis=1)
    total_a, total_b = (float(side) for side in rows.sum(axis=1))
    return Dependence(
        Sums(n, float(products[0]), float(rows[0] @ rows[1]), total_a, total_b),
        Sums(n, float(products[1]), float(rows[0] @ rows[0]), total_a, total_a),
        Sums(n, float(products[2]), float(rows[1] @ rows[1]), total_b, total_b),
    )


def _own_values(x: np.ndarray, rows: np.ndarray) -> Sums:
    """Sums of |x - x'| with itself; x is centred, so that the squares lose no digits."""
    n, total = len(x), float(rows.sum())
    return Sums(n, 2 * n * float(x @ x) - 2 * float(x.sum()) ** 2, float(rows @ rows), total, total)


def row_sums(x: np.ndarray) -> np.ndarray:
    """(n,) sum over j of |x_i - x_j|."""
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    before = np.concatenate([[0.0], np.cumsum(ordered)])
    places = np.arange(len(x))
    sums = np.empty(len(x))
    sums[order] = ordered * (2 * places + 1 - len(x)) + before[-1] - before[:-1] - before[1:]
    return sums


def _sum_of_products(x: np.ndarray, y: np.ndarray) -> float:
    """Sum over all pairs of |x_i - x_j| |y_i - y_j|.

    With rows in order of x it is 4 D - 2 (n sum xy - sum x sum y), where D sums (x_i - x_j)(y_i - y_j) over pairs in
    which j comes first and y_j < y_i. D is found by merge sort on y: at each level right halves meet left halves.
    """
    order = np.argsort(x, kind="stable")
    x, y, n = x[order], y[order], len(x)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(y, kind="stable")] = np.arange(n)
    places, width, total = np.arange(n), 1, 0.0
    while width < n:
        places = places[np.argsort((places // (2 * width)) * n + rank[places], kind="stable")]
        left, mine, other = (places // width) % 2 == 0, x[places], y[places]
        start = np.arange(n) // (2 * width) * (2 * width)  # of each row's block
        sums = []
        for values in (1.0, mine, other, mine * other):
            below = np.concatenate([[0.0], np.cumsum(np.where(left, values, 0.0))])
            sums.append(below[1:] - below[start])
        met = sums[0] * mine * other - sums[1] * other - sums[2] * mine + sums[3]
        total += float(met[~left].sum())
        width *= 2
    return 4 * total - 2 * (n * float(x @ y) - float(x.sum()) * float(y.sum()))
