"""Metrics of a confusion matrix with intervals: balanced accuracy, F1, Matthews correlation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from assessor.contract import Cell, Table
from assessor_checks._intervals import CONFIDENCE, REPLICATES, Estimate, clopper_pearson

MOST_CLASSES = 20  # a larger confusion matrix cannot be read on a page
_CHUNK = 4_000_000  # entries of a resampling held at once


class Margins(NamedTuple):
    """What class metrics need of a confusion matrix; arrays (..., C) of counts or shares."""

    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C, C), true class by row, predicted class by column.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def margins(matrix: np.ndarray) -> Margins:
    """Diagonal, row sums and column sums of a confusion matrix (C, C)."""
    return Margins(matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0))


def balanced_accuracy(counts: Margins) -> np.ndarray:
    """Mean recall over the classes that occur among the labels (Brodersen and others 2010); (...)."""
    there = counts.true > 0
    return np.asarray(np.divide(counts.right, np.where(there, counts.true, 1)).sum(axis=-1) / there.sum(axis=-1))


def f1_macro(counts: Margins) -> np.ndarray:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), classes neither true nor predicted left out; (...)."""
    either = counts.true + counts.predicted
    return np.asarray((2 * counts.right / np.where(either > 0, either, 1)).sum(axis=-1) / (either > 0).sum(axis=-1))


def matthews(counts: Margins) -> np.ndarray:
    """Correlation of true and predicted class (Gorodkin 2004); 0 where one of them is constant; (...)."""
    right, true, predicted = (np.asarray(part, dtype=np.float64) for part in counts)
    total = true.sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    top = right.sum(axis=-1) * total - (true * predicted).sum(axis=-1)
    return np.asarray(np.where(spread > 0, top / np.sqrt(np.where(spread > 0, spread, 1)), 0.0))


def resampled_margins(matrix: np.ndarray, seed: int, replicates: int = REPLICATES) -> Margins:
    """Margins (replicates, C) of confusion matrices drawn from the multinomial with the observed shares.

    Same as drawing rows with replacement, at a cost that grows with the occupied cells and not with the rows.
    """
    rng = np.random.default_rng(seed)
    n, size = int(matrix.sum()), len(matrix)
    rows, columns = np.nonzero(matrix)
    cells, ones = np.arange(len(rows)), np.ones(len(rows), dtype=np.int64)
    by_row = csr_array((ones, (cells, rows)), shape=(len(rows), size))
    by_column = csr_array((ones, (cells, columns)), shape=(len(rows), size))
    on_diagonal = csr_array(((rows == columns).astype(np.int64), (cells, rows)), shape=(len(rows), size))
    step = max(1, _CHUNK // max(len(rows), size))
    parts = []
    for start in range(0, replicates, step):
        draws = rng.multinomial(n, matrix[rows, columns] / n, size=min(step, replicates - start))
        parts.append((draws @ on_diagonal, draws @ by_row, draws @ by_column))
    return Margins(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def from_confusion(matrix: np.ndarray, drawn: Margins, statistic: Callable[[Margins], np.ndarray]) -> Estimate:
    """Bias-corrected bootstrap interval of a metric of the confusion matrix.

    Without a single error every replicate is perfect and the bootstrap knows no doubt. The lower end is then the
    metric at the least accuracy that Clopper-Pearson allows, errors spread by the products of class frequencies.

    Args:
        matrix: (C, C) counts, true class by row, at least two classes among the labels.
        drawn: `resampled_margins` of the matrix.
        statistic: Metric of margins.

    Returns:
        Metric and interval.
    """
    value = float(statistic(margins(matrix)))
    n, shares = int(matrix.sum()), matrix.diagonal() / matrix.sum()
    if matrix.trace() < n:
        return bias_corrected(statistic(drawn), value)
    least = clopper_pearson(n, n).low
    errors = np.outer(shares, shares) * (1 - np.eye(len(shares)))
    worst = least * np.diag(shares) + (1 - least) * errors / errors.sum()
    return Estimate(value, float(statistic(margins(worst))), value)


def bias_corrected(replicates: np.ndarray, value: float, confidence: float = CONFIDENCE) -> Estimate:
    """Bias-corrected percentile interval (Efron 1981) of bootstrap replicates, NaN among them left out."""
    found = np.sort(replicates[np.isfinite(replicates)])
    if not len(found):
        return Estimate(value, -np.inf, np.inf)
    below = float((found < value).mean() + 0.5 * (found == value).mean())
    bias = float(ndtri(np.clip(below, 0.5 / len(found), 1 - 0.5 / len(found))))
    z = float(ndtri(0.5 + confidence / 2))
    low, high = np.quantile(found, ndtr(2 * bias + np.array([-z, z])))
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def f1(right: int, false_positives: int, false_negatives: int) -> Estimate:
    """F1 = 2 TP / (2 TP + FP + FN) with an exact interval.

    Given the TP + FP + FN rows that are not true negatives, TP is binomial with share J, and F1 = 2 J / (1 + J) grows
    with J: the ends are those of Clopper-Pearson for J (Lam, Gopal, Qian 2023, arXiv 2309.14621). Unlike the bootstrap
    it keeps its coverage at any size and does not shrink to a point when there is no error.

    >>> f1(3, 1, 1)
    Estimate(value=0.75, low=0.25..., high=0.97...)
    """
    wrong = false_positives + false_negatives
    share = clopper_pearson(right, right + wrong)
    return Estimate(2 * right / (2 * right + wrong), *(2 * end / (1 + end) for end in share[1:]))


def tables(matrix: np.ndarray, classes: tuple[str, ...]) -> tuple[Table, ...]:
    """Each class by itself, and the confusion matrix unless it is too large for a page."""
    by_class = class_table(matrix, classes)
    return (by_class,) if len(classes) > MOST_CLASSES else (by_class, confusion_table(matrix, classes))


def class_table(matrix: np.ndarray, classes: tuple[str, ...]) -> Table:
    """Recall and precision of each class with Clopper-Pearson intervals; None where no row counts."""
    rows: list[tuple[Cell, ...]] = []
    for at, name in enumerate(classes):
        right, true, predicted = int(matrix[at, at]), int(matrix[at].sum()), int(matrix[:, at].sum())
        recall, precision = (tuple(clopper_pearson(right, of)) if of else (None,) * 3 for of in (true, predicted))
        rows.append((name, true, predicted, *recall, *precision))
    ends = [f"{share}{end}" for share in ("recall", "precision") for end in ("", " low", " high")]
    columns = ("class", "rows", "predicted", *ends)
    return Table(name="classes", title="Each class", columns=columns, rows=tuple(rows))


def confusion_table(matrix: np.ndarray, classes: tuple[str, ...]) -> Table:
    """Counts, a row for each true and a column for each predicted class."""
    title = "Confusion matrix: a row for each true class, a column for each predicted class"
    rows: list[tuple[Cell, ...]] = [(name, *row.tolist()) for name, row in zip(classes, matrix, strict=True)]
    return Table(name="confusion", title=title, columns=("true \\ predicted", *classes), rows=tuple(rows))
