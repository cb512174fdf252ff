"""Outputs for sets of parts kept while the others are replaced, and the attributions that are made from them.

Sources: occlusion, Zeiler and Fergus 2014 (arXiv 1311.2901); sampling of Shapley values, Castro, Gomez, Tejada 2009
and Strumbelj and Kononenko 2014, orders in opposite pairs as in Mitchell et al. 2022 (arXiv 2104.12199).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from assessor.contract import progress
from assessor_checks._explained import Parts, Rows, Values

ENTRIES = 2**23  # entries of blended inputs held at once


def occlusion(values: Values, rows: Rows, parts: Parts) -> np.ndarray:
    """(n, K) fall of the output when one player is replaced, mean over the baselines."""
    kept = ~np.eye(parts.count, dtype=bool)

    def all_but_one(chunk: slice) -> np.ndarray:
        return np.broadcast_to(kept, (len(rows.numbers[chunk]), *kept.shape))

    without = coalitions(values, rows, parts, all_but_one, what="parts occluded")
    found: np.ndarray = values(rows.x, rows.classes)[:, None] - without
    return found


def coalitions(
    values: Values, rows: Rows, parts: Parts, kept: Callable[[slice], np.ndarray], *, what: str = ""
) -> np.ndarray:
    """(n, m) the output where only some players keep their own value, mean over the baselines.

    Args:
        values: What is explained.
        rows: Rows, classes, baselines.
        parts: Players.
        kept: Gives (c, m, K) bool, m sets of players a row, for c of the rows; asked for few rows at once.
        what: What to call this in the progress display; nothing is shown without.

    Returns:
        The outputs.
    """
    n, sets = len(rows.x), kept(slice(0, 1)).shape[1]
    found = np.empty((n, sets))
    size = max(1, ENTRIES // (sets * max(rows.x[0].size, parts.count)))
    for start in range(0, n, size):
        chunk = slice(start, start + size)
        found[chunk] = _asked(values, rows.some(chunk), parts, kept(chunk))
        if what:
            progress(what, min(start + size, n), n)
    return found


def _asked(values: Values, rows: Rows, parts: Parts, kept: np.ndarray) -> np.ndarray:
    """(c, m) outputs for sets of players kept (c, m, K), a bounded number at once."""
    count, sets, players = kept.shape
    flags, row = kept.reshape(-1, players), np.repeat(np.arange(count), sets)
    found = np.zeros(len(row))
    for pairs in np.array_split(np.arange(len(row)), min(len(row), -(-len(row) * rows.x[0].size // ENTRIES))):
        which = row[pairs]
        for base in rows.baselines:
            found[pairs] += values(parts.blended(rows.x[which], base[which], flags[pairs]), rows.classes[which])
    return (found / len(rows.baselines)).reshape(count, sets)


def shapley_sampling(values: Values, rows: Rows, parts: Parts, orders: int, seed: int) -> np.ndarray:
    """(n, K) unbiased estimates of Shapley values: mean gain of a player that joins in a random order.

    Orders come in pairs, one the reverse of the other, which takes the linear part of the error away. Every order
    goes from a baseline of the row to the row itself, so that the estimates add up exactly.

    Args:
        values: What is explained.
        rows: Rows, classes, baselines; one baseline a pair of orders, in turn.
        parts: Players.
        orders: Orders a row.
        seed: Of the orders.

    Returns:
        The estimates.
    """
    total = np.zeros((len(rows.x), parts.count))
    places = np.stack([_places(parts.count, orders, seed, number) for number in rows.numbers])
    joined = np.arange(parts.count + 1)[:, None]
    for order in range(orders):
        place = places[:, order]
        base = rows.baselines[order // 2 % len(rows.baselines)]

        def path(chunk: slice, place: np.ndarray = place) -> np.ndarray:
            return place[chunk, None, :] < joined

        along = coalitions(values, rows._replace(baselines=base[None]), parts, path)
        total += np.take_along_axis(np.diff(along, axis=1), place, axis=1)
        progress("orders of features tried", order + 1, orders)
    return total / orders


def _places(players: int, orders: int, seed: int, number: int) -> np.ndarray:
    """(orders, K) place of each player in each order; every second order is the one before reversed."""
    rng = np.random.default_rng([seed, 3, number])
    drawn = [rng.permutation(players) for _ in range(-(-orders // 2))]
    return np.stack([place for one in drawn for place in (one, players - 1 - one)][:orders])
