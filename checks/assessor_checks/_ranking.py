"""Metrics of class probabilities beyond accuracy: areas under curves, top-k accuracy, Brier score."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson


def average_precision(positive: np.ndarray, negative: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Mean precision at the thresholds where recall rises: the area under the precision-recall curve without lines.

    The interval is the logit one of Boyd, Eng and Page 2013 (ECML PKDD, doi 10.1007/978-3-642-40994-3_29), with
    variance 1 / (m AP (1 - AP)) for m positive rows. Measured coverage at nominal 95 %: 93 to 99 % over seven settings
    of 100 to 1000 rows and 2 to 50 % positives, where the bootstrap's is 91 to 95 %.

    Args:
        positive: (m,) scores of the positive rows, m at least 1.
        negative: (k,) scores of the negative rows, k at least 1.
        confidence: Wanted coverage.

    Returns:
        Average precision as scikit-learn computes it, and interval; where all positive rows are above all negative
        ones, that of Clopper and Pearson for min(m, k) pairs in order, as for the ROC curve.
    """
    m, k = len(positive), len(negative)
    ordered = np.sort(negative)
    over = k - np.searchsorted(ordered, positive, side="left")  # negatives at or above each positive
    rank = m - np.searchsorted(np.sort(positive), positive, side="left")  # positives at or above it, itself included
    value = float((rank / (rank + over)).mean())
    if not over.any():
        return clopper_pearson(min(m, k), min(m, k), confidence)
    half = float(ndtri(0.5 + confidence / 2)) / np.sqrt(m * value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high))


def one_against_rest(labels: np.ndarray, scores: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Mean over classes of the area under the ROC curve of the class against all others.

    The variance is that of the rows' joint influence on the mean of the areas, which for one class is DeLong's (DeLong,
    DeLong, Clarke-Pearson 1988), taken on the logit scale.

    Args:
        labels: (n,) class index, at least two classes among them.
        scores: (n, C) probabilities.
        confidence: Wanted coverage.

    Returns:
        Mean over the classes among the labels, and interval. Where every area is 1, the mean of exact lower limits that
        hold together.
    """
    present = np.unique(labels)
    areas, influence = np.zeros(len(present)), np.zeros(len(labels))
    for place, label in enumerate(present):
        own = labels == label
        areas[place], part = _area(scores[own, label], scores[~own, label])
        influence[own] += part[0]
        influence[~own] += part[1]
    value, n = float(areas.mean()), len(labels)
    if (areas == 1).all():
        pairs = [min(int((labels == label).sum()), int((labels != label).sum())) for label in present]
        level = 1 - (1 - confidence) / len(present)
        return Estimate(1.0, float(np.mean([clopper_pearson(one, one, level).low for one in pairs])), 1.0)
    error = float(np.sqrt((influence**2).sum() / n / max(n - 1, 1))) / len(present)
    if not 0 < value < 1 or error == 0:
        return Estimate(value, -np.inf, np.inf)
    half = float(ndtri(0.5 + confidence / 2)) * error / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _area(positive: np.ndarray, negative: np.ndarray) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    """Area under the ROC curve, and what each positive and each negative row adds to it, times the number of rows."""
    m, k = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    over = (ranks[:m] - rankdata(positive)) / k
    under = 1 - (ranks[m:] - rankdata(negative)) / m
    area = float(over.mean())
    return area, ((over - area) * (m + k) / m, (under - area) * (m + k) / k)


def top_hits(labels: np.ndarray, scores: np.ndarray, k: int) -> int:
    """Rows whose class is among the k most probable; of equal ones the later class goes first, as in scikit-learn.

    >>> top_hits(np.array([0, 1]), np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]), 2)
    1
    """
    true = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1]) > labels[:, None]
    before = (scores > true) | ((scores == true) & later)
    return int((before.sum(axis=1) < k).sum())


def brier(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) squared distance of the probabilities (n, C) from the true class (Brier 1950); halved for two classes.

    >>> brier(np.array([1]), np.array([[0.4, 0.6]])).round(3).tolist()
    [0.16]
    """
    true = np.eye(scores.shape[1])[labels]
    found: np.ndarray = ((scores - true) ** 2).sum(axis=1)
    return found / 2 if scores.shape[1] == 2 else found
