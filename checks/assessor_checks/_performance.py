"""Metrics of performance with intervals, from arrays of labels, predictions and scores."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from assessor.contract import Series
from assessor_checks import _confusion
from assessor_checks._intervals import CONFIDENCE, REPLICATES, Estimate, bootstrap_mean, clopper_pearson

TINY = sys.float_info.min  # least positive normal float; log of it is -708
QUANTILES = 101
NO_PROBABILITIES = "the subject gives no probabilities"
_MANY = 50_000  # rows from which R2 is taken as normal, as bootstrap_mean does for a mean
_CHUNK = 4_000_000  # entries of a resampling held at once
_FROM_CONFUSION = {
    "balanced_accuracy": _confusion.balanced_accuracy,
    "f1_macro": _confusion.f1_macro,
    "matthews_corrcoef": _confusion.matthews,
}
_BOOTSTRAP = "95 % bias-corrected bootstrap over the cells of the confusion matrix"
METHODS = {
    "accuracy": "share of right rows; 95 % Clopper-Pearson",
    "balanced_accuracy": f"mean recall over the classes among the labels; {_BOOTSTRAP}",
    "f1": "2 TP / (2 TP + FP + FN); 95 % Clopper-Pearson for TP / (TP + FP + FN), transformed",
    "f1_macro": f"mean F1 over classes that are true or predicted; {_BOOTSTRAP}",
    "precision": "share of right rows among those predicted positive; 95 % Clopper-Pearson",
    "recall": "share of right rows among those truly positive; 95 % Clopper-Pearson",
    "roc_auc": "area under the ROC curve; 95 % DeLong on the logit scale, Clopper-Pearson over pairs at 0 and 1",
    "log_loss": "mean -ln of the true class's probability, clipped at machine tiny; 95 % BCa bootstrap",
    "matthews_corrcoef": f"correlation of true and predicted class, 0 if one is constant; {_BOOTSTRAP}",
    "majority_accuracy": "share of the most frequent class among the labels; 95 % Clopper-Pearson",
    "rmse": "root of the mean squared error; root of the 95 % BCa bootstrap interval of that mean",
    "mae": "mean absolute error; 95 % BCa bootstrap",
    "r2": "1 - squared errors / squares around the mean; 95 % bias-corrected bootstrap over rows, normal from 50 000",
}


class Found(NamedTuple):
    """A metric and how many rows are behind it; an endless interval means that none can be given."""

    estimate: Estimate
    n: int


class Findings(NamedTuple):
    """Metrics by name, and why others cannot be computed."""

    found: dict[str, Found]
    missing: dict[str, str]

    def __or__(self, other: Findings) -> Findings:
        """Both together."""
        return Findings(self.found | other.found, self.missing | other.missing)


def of_classes(matrix: np.ndarray, classes: tuple[str, ...], seed: int, replicates: int = REPLICATES) -> Findings:
    """Metrics of any confusion matrix, and the accuracy of always predicting the most frequent class.

    Args:
        matrix: (C, C) counts, true class by row.
        classes: Class names, for reasons.
        seed: Seed of the bootstrap.
        replicates: Number of resamples.

    Returns:
        Findings; with one class among the labels only the accuracies.
    """
    n, most = int(matrix.sum()), int(matrix.sum(axis=1).max())
    found = {"accuracy": Found(clopper_pearson(int(matrix.trace()), n), n)}
    found["majority_accuracy"] = Found(clopper_pearson(most, n), n)
    if most == n:
        return Findings(found, dict.fromkeys(_FROM_CONFUSION, only_class(matrix, classes)))
    drawn = _confusion.resampled_margins(matrix, seed, replicates)
    for name, statistic in _FROM_CONFUSION.items():
        found[name] = Found(_confusion.from_confusion(matrix, drawn, statistic), n)
    return Findings(found, {})


def only_class(matrix: np.ndarray, classes: tuple[str, ...]) -> str:
    """Reason why a metric needs more than the most frequent class."""
    return f"all test labels are {classes[int(matrix.sum(axis=1).argmax())]}"


def of_positive(
    matrix: np.ndarray, classes: tuple[str, ...], at: int, labels: np.ndarray, scores: np.ndarray | None
) -> Findings:
    """Metrics of the positive class of a binary task.

    Args:
        matrix: (2, 2) counts, true class by row.
        classes: Class names, for reasons.
        at: Index of the positive class.
        labels: (n,) class index.
        scores: (n,) probability of the positive class, or None.

    Returns:
        Findings: precision, recall, f1, roc_auc.
    """
    findings = Findings({}, {})
    right, true, predicted, n = int(matrix[at, at]), int(matrix[at].sum()), int(matrix[:, at].sum()), len(labels)
    for name, rows, verb in (("precision", predicted, "predicted"), ("recall", true, "truly")):
        if rows:
            findings.found[name] = Found(clopper_pearson(right, rows), rows)
        else:
            findings.missing[name] = f"no row is {verb} {classes[at]}"
    if not 0 < true < n:
        findings.missing.update(dict.fromkeys(("f1", "roc_auc"), only_class(matrix, classes)))
        return findings
    findings.found["f1"] = Found(_confusion.f1(right, predicted - right, true - right), n)
    if scores is None:
        findings.missing["roc_auc"] = NO_PROBABILITIES
    else:
        findings.found["roc_auc"] = Found(roc_auc(scores[labels == at], scores[labels != at]), n)
    return findings


def log_loss(labels: np.ndarray, scores: np.ndarray, seed: int, replicates: int = REPLICATES) -> tuple[Found, int]:
    """Mean negative logarithm of the true class's probability (n, C), and how many rows had to be clipped."""
    true = scores[np.arange(len(labels)), labels]
    return mean(-np.log(np.maximum(true, TINY)), seed, replicates), int((true < TINY).sum())


def of_values(true: np.ndarray, predicted: np.ndarray, seed: int, replicates: int = REPLICATES) -> Findings:
    """Metrics of a regression: rmse, mae, r2.

    Args:
        true: (n,) target.
        predicted: (n,) predicted values.
        seed: Seed of the bootstraps.
        replicates: Number of resamples.

    Returns:
        Findings; r2 is missing where the target is constant.
    """
    n, squares = len(true), mean((predicted - true) ** 2, seed, replicates).estimate
    ends = (float(np.sqrt(max(end, 0.0))) if np.isfinite(end) else end for end in squares)
    found = {"rmse": Found(Estimate(*ends), n), "mae": mean(np.abs(predicted - true), seed, replicates)}
    if (true == true[0]).all():
        return Findings(found, {"r2": f"the target is {true[0]:.4g} in every row"})
    return Findings({**found, "r2": Found(r2(true, predicted, seed, replicates), n)}, {})


def mean(values: np.ndarray, seed: int, replicates: int = REPLICATES) -> Found:
    """Mean with its bootstrap interval; an endless one from a single row."""
    if len(values) < 2:
        return Found(Estimate(float(values[0]), -np.inf, np.inf), 1)
    return Found(bootstrap_mean(values, seed, replicates=replicates), len(values))


def quantiles(true: np.ndarray, predicted: np.ndarray) -> Series:
    """Quantiles of both, for a plot of one against the other."""
    shares = np.linspace(0, 1, QUANTILES)
    sides = {"share": shares, "true": np.quantile(true, shares), "predicted": np.quantile(predicted, shares)}
    columns = {name: tuple(values.tolist()) for name, values in sides.items()}
    return Series(name="quantiles", title="Quantiles of true and predicted values", columns=columns)


def delong(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve and its variance, in O(n log n).

    DeLong, DeLong and Clarke-Pearson 1988, with midranks as in Sun and Xu 2014.

    Args:
        positive: (m,) scores of the positive rows.
        negative: (k,) scores of the negative rows.

    Returns:
        Area (ties count one half) and variance; the variance is NaN when m or k is 1.
    """
    m, k = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    over = (ranks[:m] - rankdata(positive)) / k  # share of negatives under each positive
    under = 1 - (ranks[m:] - rankdata(negative)) / m  # share of positives over each negative
    if min(m, k) < 2:
        return float(over.mean()), float("nan")
    return float(over.mean()), float(over.var(ddof=1) / m + under.var(ddof=1) / k)


def roc_auc(positive: np.ndarray, negative: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Area under the ROC curve with DeLong's interval on the logit scale (Pepe 2003).

    At area 1 or 0 the variance is 0. Then min(m, k) disjoint pairs of a positive and a negative row are all ordered
    alike, and Clopper-Pearson for these independent pairs gives the interval; it is wide, and exact.

    Args:
        positive: (m,) scores of the positive rows, m at least 1.
        negative: (k,) scores of the negative rows, k at least 1.
        confidence: Wanted coverage.

    Returns:
        Area and interval, an endless one when m or k is 1 and the area is neither 0 nor 1.
    """
    area, variance = delong(positive, negative)
    if positive.min() > negative.max() or positive.max() < negative.min():
        pairs = min(len(positive), len(negative))
        return clopper_pearson(pairs if area > 0.5 else 0, pairs, confidence)
    if not np.isfinite(variance):
        return Estimate(area, -np.inf, np.inf)
    half = float(ndtri(0.5 + confidence / 2)) * np.sqrt(variance) / (area * (1 - area))
    low, high = expit(logit(area) + np.array([-half, half]))
    return Estimate(area, min(float(low), area), max(float(high), area))


def r2(true: np.ndarray, predicted: np.ndarray, seed: int, replicates: int = REPLICATES) -> Estimate:
    """R2 = 1 - sum of squared errors / sum of squares around the mean, with an interval over rows.

    Bias-corrected bootstrap of rows; from 50 000 rows on the normal interval from the linearised ratio instead.

    Args:
        true: (n,) target, not constant.
        predicted: (n,) predicted values.
        seed: Seed of the resampling.
        replicates: Number of resamples; those in which the target is constant are left out.

    Returns:
        R2 and interval.
    """
    n, errors, centred = len(true), (true - predicted) ** 2, true - true.mean()
    value = float(1 - errors.sum() / (centred**2).sum())
    if n >= _MANY:
        influence = ((1 - value) * centred**2 - errors) / (centred**2).mean()
        half = float(ndtri(0.5 + CONFIDENCE / 2) * influence.std(ddof=1) / np.sqrt(n))
        return Estimate(value, value - half, value + half)
    rng, step, found = np.random.default_rng(seed), max(1, _CHUNK // n), []
    for start in range(0, replicates, step):
        rows = rng.integers(0, n, size=(min(step, replicates - start), n))
        some = centred[rows]
        spread = ((some - some.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        known = (some != some[:, :1]).any(axis=1)
        found.append(np.where(known, 1 - errors[rows].sum(axis=1) / np.where(known, spread, 1), np.nan))
    return _confusion.bias_corrected(np.concatenate(found), value)
