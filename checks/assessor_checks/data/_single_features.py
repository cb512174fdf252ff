"""How well single features predict the label by themselves: areas under the ROC curve, or R2, on rows held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from assessor.contract import progress
from assessor_checks._gaps import holm
from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson

FOLDS = 5
BINS = 32
_WIDE = 20  # times the median gap between neighbouring values; by chance the widest of 100 is some 7 times


class Score(NamedTuple):
    """How well something predicts the label by itself.

    Attributes:
        value: Mean area under the ROC curve of the classes against the rest, or R2, on rows held out.
        error: Its standard error; 0 where all rows are in order.
        pairs: Disjoint pairs of rows of different classes behind it; 0 for R2.
    """

    value: float
    error: float
    pairs: int


def bins(values: np.ndarray, most: int = BINS) -> np.ndarray:
    """Bin of each value, found without looking at labels: every value its own bin, or else about equal numbers.

    Edges between bins of equal numbers are moved by at most half a bin, to a gap far wider than the others there:
    values that come in clusters are not torn apart.

    Args:
        values: (n,) numbers; missing ones have a bin of their own, and infinite ones the outermost.
        most: Bins at most, besides the one of missing values.

    Returns:
        (n,) int64 bin from 0 on.

    >>> bins(np.array([5.0, np.nan, 1.0, 5.0])).tolist()
    [1, 2, 0, 1]
    """
    known = ~np.isnan(values)
    found, codes = np.unique(values[known], return_inverse=True)
    if len(found) > most:
        codes = np.searchsorted(_edges(np.sort(values[known]), most), values[known], side="left")
    coded = np.full(len(values), int(codes.max(initial=-1)) + 1, dtype=np.int64)
    coded[known] = codes.reshape(-1)
    return coded


def _edges(ordered: np.ndarray, most: int) -> np.ndarray:
    """Last value of each bin but the highest, from (n,) ordered values of which more than `most` differ."""
    inside = np.clip(ordered, np.finfo(np.float64).min / 4, np.finfo(np.float64).max / 4)  # gaps must be finite
    gaps, middles = np.diff(inside), np.round(np.arange(0.5, most, 0.5) * len(ordered) / most).astype(np.int64) - 1
    places = []
    for start, middle, end in zip(middles[0::2], middles[1::2], middles[2::2], strict=False):
        window = gaps[start + 1 : end + 1]
        wide = len(window) > 0 and window.max() > _WIDE * np.median(window)
        places.append(start + 1 + int(window.argmax()) if wide else middle)
    return np.unique(ordered[places])


def folds(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(n,) fold of each row: random, every class (or quarter of the targets) spread evenly over the folds."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % count
    return found


def class_score(codes: np.ndarray, labels: np.ndarray, fold: np.ndarray, classes: int) -> Score:
    """Mean AUC of each class against the rest, predicted from a bin alone, on folds held out.

    The score of a row is the share of the class among the other folds' rows of its bin (one pseudo-row at the overall
    share). Areas are taken within folds and averaged; the variance is the sum of the folds' variances from the rows'
    influence (DeLong et al. 1988; LeDell, Petersen, van der Laan 2015 for averages over folds).

    Args:
        codes: (n,) bin.
        labels: (n,) class index; every class has a row and a rival in each fold.
        fold: (n,) fold.
        classes: Number of classes.

    Returns:
        The score.
    """
    count, width = int(fold.max()) + 1, int(codes.max()) + 1
    seen = np.bincount((fold * width + codes) * classes + labels, minlength=count * width * classes)
    table = seen.reshape(count, width, classes).astype(np.float64)
    rest = table.sum(axis=0) - table
    prior = rest.sum(axis=1, keepdims=True) / rest.sum(axis=(1, 2), keepdims=True)
    scores = (rest + prior) / (rest.sum(axis=2, keepdims=True) + 1)
    values, variances, others = [], [], table.sum(axis=2, keepdims=True) - table
    for own, rival, score in zip(table, others, scores, strict=True):
        value, variance = _mean_area(own, rival, score)
        values.append(value)
        variances.append(variance)
    pairs = int(np.minimum(table.sum(axis=(0, 1)), others.sum(axis=(0, 1))).min())
    return Score(float(np.mean(values)), float(np.sqrt(np.sum(variances))) / count, pairs)


def _mean_area(own: np.ndarray, rival: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Mean area over classes and its variance, from (bins, classes) counts of the class and the rest, and scores."""
    above = (score[:, None] > score[None]) + 0.5 * (score[:, None] == score[None])
    total, rivals = own.sum(axis=0), rival.sum(axis=0)
    under = np.einsum("abc,bc->ac", above, rival) / rivals  # share of rivals that a row of the class is above
    over = np.einsum("abc,ac->bc", above, own) / total
    area = (own * under).sum(axis=0) / total
    as_own, as_rival = (under - area) / total, (over - area) / rivals
    influence = as_rival.sum(axis=1, keepdims=True) - as_rival + as_own  # of a row of each bin and class
    n, classes = float(total.sum()), len(area)
    return float(area.mean()), float((own * influence**2).sum()) / classes**2 * n / max(1.0, n - 1)


def value_score(codes: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> Score:
    """R2 of predicting the target by the mean of its bin in the other folds (one pseudo-row at the overall mean).

    Args:
        codes: (n,) bin.
        targets: (n,) target, not constant.
        fold: (n,) fold.

    Returns:
        The score, with the standard error of the linearised ratio.
    """
    count, width = int(fold.max()) + 1, int(codes.max()) + 1
    cell = fold * width + codes
    sums = np.bincount(cell, weights=targets, minlength=count * width).reshape(count, width)
    rows = np.bincount(cell, minlength=count * width).reshape(count, width)
    sums, rows = sums.sum(axis=0) - sums, rows.sum(axis=0) - rows
    mean = sums.sum(axis=1, keepdims=True) / rows.sum(axis=1, keepdims=True)
    errors = (targets - ((sums + mean) / (rows + 1))[fold, codes]) ** 2
    spread = (targets - targets.mean()) ** 2
    value = 1 - float(errors.sum() / spread.sum())
    influence = ((1 - value) * spread - errors) / spread.mean()
    return Score(value, float(influence.std(ddof=1) / np.sqrt(len(targets))), 0)


def score_interval(score: Score, confidence: float = CONFIDENCE) -> Estimate:
    """Interval of a score: on the logit scale for an area, normal for R2.

    Args:
        score: The score.
        confidence: Wanted coverage.

    Returns:
        Value and interval; Clopper-Pearson over disjoint pairs where all rows are in order.
    """
    z, value = float(ndtri(0.5 + confidence / 2)), score.value
    if not score.pairs:
        return Estimate(value, value - z * score.error, min(1.0, value + z * score.error))
    if value in {0.0, 1.0} or score.error <= 0:
        return clopper_pearson(round(value * score.pairs), score.pairs, confidence)
    low, high = expit(logit(value) + z * score.error / (value * (1 - value)) * np.array([-1, 1]))
    return Estimate(value, min(float(low), value), max(float(high), value))


def above_p(score: Score, bound: float) -> float:
    """One-sided p-value of a score at or under a bound, by the same normal form as the interval.

    Where all rows are in order it is the chance that all disjoint pairs are, were the area at the bound.
    """
    if score.error <= 0:
        return bound**score.pairs if score.value >= 1 else float(score.value <= bound)
    if not score.pairs:
        return float(ndtr((bound - score.value) / score.error))
    return float(ndtr((logit(bound) - logit(score.value)) * score.value * (1 - score.value) / score.error))


class Feature(NamedTuple):
    """A feature by itself: its score, and the p-value (Holm) of a score up to the bound."""

    name: str
    score: Score
    p_value: float
    is_position: bool


def large_classes(labels: np.ndarray, classes: int) -> tuple[np.ndarray, list[int]]:
    """Rows of classes that every fold can hold twice, and the classes with rows but too few of them."""
    counts = np.bincount(labels, minlength=classes)
    large = counts >= 2 * FOLDS
    return np.flatnonzero(large[labels]), np.flatnonzero((counts > 0) & ~large).tolist()


def quarters(targets: np.ndarray) -> np.ndarray:
    """(n,) quarter of its distribution that each target lies in, from 0 to 3."""
    return np.searchsorted(np.quantile(targets, [0.25, 0.5, 0.75]), targets)


def features(
    table: np.ndarray,
    positions: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    *,
    classify: bool,
    bound: float,
    seed: int,
) -> list[Feature]:
    """Score every column, and the position of the row, by itself.

    Args:
        table: (n, d) numbers.
        positions: (n,) where the rows stand in their file.
        labels: (n,) class index, every class in 10 rows or more; or targets, not constant.
        names: (d,) of the columns.
        classify: Whether labels are classes.
        bound: Score that the p-values are for.
        seed: Of the folds.

    Returns:
        The features, the best first.
    """
    labels = np.unique(labels, return_inverse=True)[1].reshape(-1) if classify else labels
    fold = folds(labels if classify else quarters(labels), FOLDS, seed)
    scores = []
    for index in range(len(names) + 1):
        progress("scoring features", index, len(names) + 1)
        codes = bins((table[:, index] if index < len(names) else positions).astype(np.float64))
        classes = int(labels.max()) + 1 if classify else 0
        scores.append(class_score(codes, labels, fold, classes) if classify else value_score(codes, labels, fold))
    p_values = holm([above_p(score, bound) for score in scores])
    parts = zip([*names, "(position of the row)"], scores, p_values, strict=True)
    found = [Feature(*part, is_position=index == len(names)) for index, part in enumerate(parts)]
    return sorted(found, key=lambda feature: -feature.score.value)
