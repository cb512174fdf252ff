"""Single random changes of a point that is answered otherwise than its row, meant to bring it nearer to the row.

Each kind takes changes (k, f), in units of each feature, with their lengths (k,), and gives new ones to try. Features
put back and made smaller are those of the pointwise attack (Schott et al. 2019, arXiv 1805.09190), noise is that of
the boundary attack (Brendel, Rauber, Bethge 2018, arXiv 1712.04248); changes are mixed with those of other rows, since
rows often fall to the same features (Cascioli et al. 2024, arXiv 2402.08586).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import numpy as np


class Norm(StrEnum):
    """How the length of a change is measured."""

    L2 = "l2"
    LINF = "linf"

    def size(self, changes: np.ndarray) -> np.ndarray:
        """(k,) lengths of changes (k, f): Euclidean, or the largest change of a feature.

        >>> Norm.L2.size(np.array([[3.0, -4.0]])), Norm.LINF.size(np.array([[3.0, -4.0]]))
        (array([5.]), array([4.]))
        """
        found: np.ndarray = np.linalg.norm(changes, axis=1) if self is Norm.L2 else np.abs(changes).max(axis=1)
        return found

    def cut(self, changes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Changes (k, f) brought to lengths (k,): rescaled, or every feature clipped.

        >>> Norm.L2.cut(np.array([[3.0, -4.0]]), np.array([2.5]))
        array([[ 1.5, -2. ]])
        >>> Norm.LINF.cut(np.array([[3.0, -4.0]]), np.array([3.5]))
        array([[ 3. , -3.5]])
        """
        if self is Norm.LINF:
            found: np.ndarray = np.clip(changes, -sizes[:, None], sizes[:, None])
            return found
        scaled: np.ndarray = changes * (sizes / np.maximum(self.size(changes), 1e-300))[:, None]
        return scaled


class Nudging(NamedTuple):
    """What all kinds use.

    Attributes:
        rng: All randomness.
        norm: Length of a change.
        others: (c, f) changes of all rows, to take features from.
    """

    rng: np.random.Generator
    norm: Norm
    others: np.ndarray


def put_back(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """One to three changed features get their old values."""
    return np.where(_few(with_.rng, change != 0, 3), 0.0, change)


def shrink(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """One changed feature, a large one more likely, is changed less."""
    return np.where(_few(with_.rng, np.abs(change), 1), change * with_.rng.random((len(change), 1)), change)


def exchange(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """One changed feature gets its old value, another is changed instead, by no more than the length allows."""
    rng, norm, k = with_.rng, with_.norm, len(change)
    back = _few(rng, change != 0, 1)
    room = np.abs(np.where(back, change, 0.0)).sum(axis=1) * rng.random(k) if norm is Norm.L2 else size
    moved = np.where(back, 0.0, change)
    moved[np.arange(k), rng.integers(change.shape[1], size=k)] += room * rng.choice([-1.0, 1.0], size=k)
    return norm.cut(moved, np.minimum(norm.size(moved), 0.999 * size))


def shake(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Noise on all features, a hundredth of the length up to all of it, then nearer."""
    noise = with_.rng.standard_normal(change.shape)
    length = size * 10 ** with_.rng.uniform(-2, 0, size=len(size))
    return _nearer(with_, change + with_.norm.cut(noise, length), size)


def mix(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Some features changed as those of another row, then nearer."""
    other = with_.others[with_.rng.integers(len(with_.others), size=len(change))]
    return _nearer(with_, np.where(_some(with_.rng, change.shape), other, change), size)


def grow(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Some features changed four times as much, then nearer, so that the others are changed less."""
    return _nearer(with_, np.where(_some(with_.rng, change.shape), 4 * change, change), size)


Nudge = Callable[[Nudging, np.ndarray, np.ndarray], np.ndarray]
NUDGES: tuple[Nudge, ...] = (put_back, shrink, exchange, shake, mix, grow)


def _nearer(with_: Nudging, change: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Cut to a length shorter by a thousandth to a third."""
    return with_.norm.cut(change, size * (1 - 10 ** with_.rng.uniform(-3, -0.5, size=len(size))))


def _some(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Bool (k, f): a random share of the features of each row."""
    found: np.ndarray = rng.random(shape) < rng.random((shape[0], 1))
    return found


def _few(rng: np.random.Generator, weights: np.ndarray, most: int) -> np.ndarray:
    """Bool (k, f): one to `most` features of each row that have a positive weight, heavier ones more likely."""
    keys = rng.random(weights.shape) * weights
    most = min(most, weights.shape[1])
    largest = np.sort(np.partition(keys, -most, axis=1)[:, -most:], axis=1)
    least = largest[np.arange(len(keys)), rng.integers(most, size=len(keys))]
    found: np.ndarray = (keys >= least[:, None]) & (keys > 0)
    return found
