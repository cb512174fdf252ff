"""Information that a test must not share with training: twins of rows, what they add, and the order of rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from assessor_checks import _near_duplicates as near
from assessor_checks._intervals import CONFIDENCE, Estimate, wilson
from assessor_checks.data._representation import share

_SMALLEST_SIDE = 4  # pixels; smaller inputs are taken as tables of numbers


class Twins(NamedTuple):
    """Rows of the second set that have a twin in the first.

    Attributes:
        exact: (m,) bool, the very same features.
        close: (m,) bool, the same or nearly the same.
        agrees: (m,) bool, a twin has the same label.
        first: (p,) row of the first set, by pair.
        second: (p,) row of the second set, by pair.
        distance: (p,) distance of the pair.
        chance: Share of rows that have a twin when every column of the first set is shuffled by itself.
        complete: False where there were more pairs than were kept.
        pictures: Whether rows were compared as pictures.
    """

    exact: np.ndarray
    close: np.ndarray
    agrees: np.ndarray
    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    chance: float
    complete: bool
    pictures: bool


def are_pictures(features: np.ndarray) -> bool:
    """Whether (n, ...) inputs have the shape of pictures: (n, H, W) or (n, C, H, W) with sides of 4 pixels or more."""
    return features.ndim in {3, 4} and min(features.shape[-2:]) >= _SMALLEST_SIDE


def twins(
    train: np.ndarray, test: np.ndarray, labels: tuple[np.ndarray, np.ndarray], tolerance: float, seed: int
) -> Twins:
    """Find the test rows that training has seen, exactly or all but so.

    Args:
        train: (n, ...) numbers.
        test: (m, ...) numbers of the same shape.
        labels: Labels of both, (n,) and (m,).
        tolerance: Largest distance of near twins: for pictures as `picture_pairs` has it, else the root mean square
            difference of the columns that vary, in standard deviations over the train rows.
        seed: Of the shuffling behind `chance`.

    Returns:
        Flags by test row and the pairs. Rows with missing or infinite values are compared exactly only.
    """
    same, pictures = near.shared(test, train), are_pictures(train)
    finite = [np.isfinite(x.reshape(len(x), -1)).all(axis=1) for x in (train, test)]
    kept = [np.flatnonzero(rows) for rows in finite]
    chance, found = 0.0, None
    if len(kept[0]) and len(kept[1]) and pictures:
        found = near.picture_pairs(train[kept[0]], test[kept[1]], tolerance)
    elif len(kept[0]) and len(kept[1]):
        a, b = _points(train[kept[0]], test[kept[1]])
        if a.shape[1]:
            found = near.near_pairs(a, b, tolerance)
            mixed = np.random.default_rng(seed).permuted(a, axis=0)
            chance = len(np.unique(near.near_pairs(mixed, b, tolerance).second)) / len(test)
    first, second, distance = same.second, same.first, same.distance
    if found is not None:
        first, second = np.append(first, kept[0][found.first]), np.append(second, kept[1][found.second])
        distance = np.append(distance, found.distance)
    return Twins(
        exact=_marked(same.first, len(test)),
        close=_marked(second, len(test)),
        agrees=_marked(second[labels[0][first] == labels[1][second]], len(test)),
        first=first,
        second=second,
        distance=distance,
        chance=chance,
        complete=found is None or found.complete,
        pictures=pictures,
    )


def _points(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in standard deviations, without the columns that never vary."""
    a, b = train.reshape(len(train), -1).astype(np.float64), test.reshape(len(test), -1).astype(np.float64)
    varies = (np.ptp(a, axis=0) > 0) | (a[0] != b).any(axis=0)
    a, b = a[:, varies], b[:, varies]
    scale = near.column_scale(a)
    return near.scaled(a, scale), near.scaled(b, scale)


def _marked(rows: np.ndarray, n: int) -> np.ndarray:
    flags = np.zeros(n, dtype=bool)
    flags[rows] = True
    return flags


def share_inflation(right: np.ndarray, close: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Share of right rows minus the same without the rows that have twins: what the twins add to the accuracy.

    It is the share of rows with twins times the difference in accuracy between rows with and without; the interval is
    Newcombe's for that difference (1998, Statistics in Medicine 17:873, method 10), given which rows have twins.

    Args:
        right: (m,) bool.
        close: (m,) bool, rows with twins; some but not all.
        confidence: Wanted coverage.

    Returns:
        Difference and interval.
    """
    seen = wilson(int(right[close].sum()), int(close.sum()), confidence)
    new = wilson(int(right[~close].sum()), int((~close).sum()), confidence)
    difference, part = seen.value - new.value, float(close.mean())
    down = float(np.hypot(seen.value - seen.low, new.high - new.value))
    up = float(np.hypot(seen.high - seen.value, new.value - new.low))
    return Estimate(part * difference, part * (difference - down), part * (difference + up))


def error_inflation(errors: np.ndarray, close: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Mean error without the rows that have twins, minus the mean error of all: what the twins hide.

    Args:
        errors: (m,) error of each row.
        close: (m,) bool, rows with twins; at least two rows without.
        confidence: Wanted coverage.

    Returns:
        Difference with the normal interval of its linearised form.
    """
    alone = ~close
    value = float(errors[alone].mean() - errors.mean())
    influence = np.where(alone, errors - errors[alone].mean(), 0.0) / alone.mean() - (errors - errors.mean())
    half = float(ndtri(0.5 + confidence / 2) * np.sqrt((influence**2).sum()) / len(errors))
    return Estimate(value, value - half, value + half)


class Order(NamedTuple):
    """How much more often neighbouring rows agree than shuffled ones would, from 0 (not more) to 1 (always), and p."""

    agreement: Estimate
    p_value: float


def row_order(groups: np.ndarray, confidence: float = CONFIDENCE) -> Order | None:
    """Whether the order of the rows tells their label: agreement of neighbours beyond chance.

    (s - e) / (1 - e), s the share of neighbours with the same label, e its mean over all orders. The p-value is that
    of the runs test for several kinds (Wald and Wolfowitz 1940; Mood 1940), two-sided, normal. The interval is
    Clopper-Pearson for s at the number of independent pairs that has the variance of s, estimated with a Bartlett
    window of n^(1/3) rows (Newey and West 1987).

    Args:
        groups: (n,) label, or quarter of the targets, in the order of the rows.
        confidence: Wanted coverage.

    Returns:
        Agreement and p-value; None for fewer than 20 rows or a single label.
    """
    n = len(groups)
    counts = np.bincount(np.unique(groups, return_inverse=True)[1].reshape(-1)).astype(np.float64)
    if n < 20 or len(counts) < 2:
        return None
    same = groups[1:] == groups[:-1]
    expected = float((counts * (counts - 1)).sum()) / (n * (n - 1))
    squares, cubes = float((counts**2).sum()), float((counts**3).sum())
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    z = (float(same.sum()) - expected * (n - 1)) / np.sqrt(variance) if variance > 0 else 0.0
    found = share(*_effective(same), confidence)
    ends = ((end - expected) / (1 - expected) for end in found._replace(value=float(same.mean())))
    return Order(Estimate(*ends), float(2 * ndtr(-abs(z))))


def _effective(same: np.ndarray) -> tuple[float, float]:
    """Hits and trials of an independent sample that would have the variance of the mean of this series."""
    n, mean = len(same), float(same.mean())
    centred, width = same - mean, int(np.ceil(len(same) ** (1 / 3)))
    products = [float((centred[lag:] * centred[: n - lag]).sum()) / n for lag in range(width + 1)]
    total = products[0] + 2 * sum((1 - lag / (width + 1)) * products[lag] for lag in range(1, width + 1))
    trials = min(float(n), n * products[0] / total) if total > 0 and products[0] > 0 else float(n)
    return mean * trials, trials
