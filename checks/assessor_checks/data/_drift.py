"""Sizes of the difference between two samples, column by column, with what chance alone would give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, kolmogorov

from assessor.contract import progress
from assessor_checks._gaps import holm
from assessor_checks._intervals import CONFIDENCE, Estimate, wilson

FEW = 20  # distinct values up to which counts are compared instead of cumulative curves
_EXPECTED = 5  # rows expected in a cell of a chi-squared test
_BINS = 10  # of the stability index
_DRAWS = 2000
_CONDITION = 100.0  # of a confusion matrix beyond which it is not solved


class Shift(NamedTuple):
    """How far one column moved from the first sample to the second.

    Attributes:
        name: The column.
        n: Known values in the first sample.
        m: Known values in the second.
        distance: Kolmogorov-Smirnov distance: largest difference in the share of rows at or below a value, 0 to 1.
        stability: Population stability index over tenths of the first sample; chance alone gives about 9 (1/n + 1/m).
        move: Wasserstein distance in standard deviations of the first sample; None where it is not finite.
        p_value: Of no difference: Kolmogorov-Smirnov, or chi-squared for at most 20 distinct values.
        adjusted: The same after Holm over all columns.
    """

    name: str
    n: int
    m: int
    distance: float
    stability: float
    move: float | None
    p_value: float
    adjusted: float


def shifts(a: np.ndarray, b: np.ndarray, names: Sequence[str]) -> list[Shift]:
    """Compare two samples column by column; missing values are a column of their own.

    Args:
        a: (n, d) numbers, NaN where missing.
        b: (m, d) likewise.
        names: (d,) of the columns.

    Returns:
        Columns that vary, the farthest first.
    """
    found: list[Shift] = []
    for index, name in enumerate(names):
        progress("comparing columns", index, len(names))
        left, right = a[:, index].astype(np.float64), b[:, index].astype(np.float64)
        gone = np.isnan(left), np.isnan(right)
        if gone[0].any() or gone[1].any():
            found.append(_shift(f"{name} (missing)", gone[0].astype(np.float64), gone[1].astype(np.float64)))
        left, right = left[~gone[0]], right[~gone[1]]
        if len(left) and len(right) and (left.min() < left.max() or right.min() < right.max() or left[0] != right[0]):
            found.append(_shift(name, left, right))
    adjusted = holm([shift.p_value for shift in found])
    found = [shift._replace(adjusted=p) for shift, p in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda shift: -shift.distance)


def _shift(name: str, a: np.ndarray, b: np.ndarray) -> Shift:
    distance = ks_distance(a, b)
    values, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    if len(values) <= FEW:
        codes = codes.reshape(-1)
        counts = [np.bincount(x, minlength=len(values)) for x in (codes[: len(a)], codes[len(a) :])]
        p_value = counts_p(counts[0], counts[1])
    else:
        p_value = ks_p(distance, len(a), len(b))
    return Shift(name, len(a), len(b), distance, stability_index(a, b), moved(a, b), p_value, p_value)


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference between the cumulative curves of two samples; ties are counted together.

    >>> ks_distance(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    values = np.unique(np.concatenate([a, b]))
    curves = (np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (a, b))
    return float(np.abs(next(curves) - next(curves)).max())


def ks_p(distance: float, n: int, m: int) -> float:
    """P-value of a Kolmogorov-Smirnov distance: the limit with Stephens' correction (1970); too large under ties."""
    size = np.sqrt(n * m / (n + m))
    return float(kolmogorov((size + 0.12 + 0.11 / size) * distance))


def ks_interval(distance: float, n: int, m: int, confidence: float = CONFIDENCE) -> Estimate:
    """Interval of the true distance that holds at any size (Dvoretzky-Kiefer-Wolfowitz with Massart's constant, 1990).

    Each sample's curve lies within sqrt(ln(4 / alpha) / (2 n)) of the true one with probability 1 - alpha / 2.
    """
    reach = float(np.sqrt(np.log(4 / (1 - confidence)) / 2) * (1 / np.sqrt(n) + 1 / np.sqrt(m)))
    return Estimate(distance, max(0.0, distance - reach), min(1.0, distance + reach))


def counts_p(a: np.ndarray, b: np.ndarray) -> float:
    """P-value of equal shares: chi-squared, rare values put together until 5 rows are expected in every cell.

    Args:
        a: (k,) counts in the first sample.
        b: (k,) in the second.

    Returns:
        The p-value; 1 where only one cell is left.
    """
    total = a + b
    fewest = total * min(a.sum(), b.sum()) / max(1, total.sum())
    order = np.argsort(fewest, kind="stable")
    sizes = np.cumsum(fewest[order])
    merged = int(np.searchsorted(sizes, _EXPECTED)) + 1 if fewest[order[0]] < _EXPECTED else 0
    cells = [np.append(x[order[merged:]], x[order[:merged]].sum() if merged else []) for x in (a, b)]
    kept = (cells[0] + cells[1]) > 0
    table = np.stack([cells[0][kept], cells[1][kept]]).astype(np.float64)
    if table.shape[1] < 2:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chdtrc(table.shape[1] - 1, ((table - expected) ** 2 / expected).sum()))


def stability_index(a: np.ndarray, b: np.ndarray) -> float:
    """Population stability index: sum of (q - p) ln(q / p) over tenths of the first sample, half a row added to all."""
    edges = np.unique(np.quantile(a, np.arange(1, _BINS) / _BINS, method="inverted_cdf"))
    counts = (np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1) + 0.5 for x in (a, b))
    p, q = (x / x.sum() for x in counts)
    return float(((q - p) * np.log(q / p)).sum())


def moved(a: np.ndarray, b: np.ndarray) -> float | None:
    """Wasserstein distance (area between the cumulative curves) over the standard deviation of the first sample."""
    values = np.unique(np.concatenate([a, b]))
    scale = float(a.std()) if np.isfinite(values).all() else 0.0
    if scale <= 1e-12 * float(np.abs(values).max(initial=1.0)):
        return None
    curves = (np.searchsorted(np.sort(x), values[:-1], side="right") / len(x) for x in (a, b))
    return float((np.abs(next(curves) - next(curves)) * np.diff(values)).sum()) / scale


def share_change(hits: tuple[int, int], rows: tuple[int, int], confidence: float = CONFIDENCE) -> Estimate:
    """Absolute difference of two shares; Newcombe's interval (1998, method 10) of the difference, folded at 0."""
    first, second = (wilson(k, n, confidence) for k, n in zip(hits, rows, strict=True))
    value = second.value - first.value
    low = value - float(np.hypot(second.value - second.low, first.high - first.value))
    high = value + float(np.hypot(second.high - second.value, first.value - first.low))
    return Estimate(abs(value), max(0.0, low, -high), max(abs(low), abs(high)))


def shifted_shares(confusion: np.ndarray, predicted: np.ndarray, seed: int) -> list[Estimate] | None:
    """Shares of the true classes in new data, when nothing but these shares changed (Lipton, Wang, Smola 2018, BBSE).

    Solves P(predicted i, true j) w_j = P'(predicted i); the share of j is w_j times the old one, negative ones taken as
    0 and all scaled to sum to 1. arXiv 1802.03916, section 3.

    Args:
        confusion: (C, C) counts by true class (row) and predicted class in labelled data the model did not learn from.
        predicted: (C,) counts of predicted classes in the new data.
        seed: Of the bootstrap of both.

    Returns:
        Share of each class with a 95 % percentile interval; None where predictions do not tell the classes apart.
    """
    if np.linalg.cond(confusion / max(1, confusion.sum())) > _CONDITION or predicted.sum() == 0:
        return None
    rng, classes = np.random.default_rng(seed), len(predicted)
    value = _solved(confusion[None] / confusion.sum(), predicted[None] / predicted.sum())[0]
    n, m = int(confusion.sum()), int(predicted.sum())
    tables = rng.multinomial(n, confusion.reshape(-1) / n, size=_DRAWS).reshape(-1, classes, classes) / n
    news = rng.multinomial(m, predicted / m, size=_DRAWS) / m
    sound = np.linalg.cond(tables) < 1e6
    if not sound.any():
        return None
    drawn = _solved(tables[sound], news[sound])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return [
        Estimate(float(x), min(float(a), float(x)), max(float(b), float(x)))
        for x, a, b in zip(value, low, high, strict=True)
    ]


def _solved(tables: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(B, C) shares from (B, C, C) joint shares by true and predicted class and (B, C) predicted shares."""
    weights = np.linalg.solve(np.swapaxes(tables, 1, 2), predicted[..., None])[..., 0]
    shares = np.maximum(weights, 0) * tables.sum(axis=2)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
