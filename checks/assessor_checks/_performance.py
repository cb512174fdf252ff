"""Metrics of performance with intervals, from arrays of labels, predictions and scores."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from assessor.contract import Cell, Series, Table
from assessor_checks import _confusion, _ranking, _residuals
from assessor_checks._intervals import CONFIDENCE, REPLICATES, Estimate, bootstrap_mean, clopper_pearson

TINY = sys.float_info.min  # least positive normal float; log of it is -708
QUANTILES = 101
NO_PROBABILITIES = "the subject gives no probabilities"
TOP = 5  # classes among which the true one counts as found, where there are more
_BOOTSTRAP = "95 % bias-corrected bootstrap over the cells of the confusion matrix"
METHODS = {
    "accuracy": "share of right rows; 95 % Clopper-Pearson",
    "balanced_accuracy": f"mean recall over the classes among the labels; {_BOOTSTRAP}",
    "f1": "2 TP / (2 TP + FP + FN); 95 % Clopper-Pearson for TP / (TP + FP + FN), transformed",
    "f1_macro": f"mean F1 over classes that are true or predicted; {_BOOTSTRAP}",
    "precision_macro": f"mean precision over classes that are true or predicted, 0 if never predicted; {_BOOTSTRAP}",
    "recall_macro": f"mean recall over classes that are true or predicted, 0 if never true; {_BOOTSTRAP}",
    "cohen_kappa": f"agreement beyond that of independent labels with the same frequencies; {_BOOTSTRAP}",
    "precision": "share of right rows among those predicted positive; 95 % Clopper-Pearson",
    "recall": "share of right rows among those truly positive; 95 % Clopper-Pearson",
    "roc_auc": "area under the ROC curve; 95 % DeLong on the logit scale, Clopper-Pearson over pairs at 0 and 1",
    "average_precision": "mean precision where recall rises; 95 % logit interval (Boyd, Eng, Page)",
    "roc_auc_ovr": "mean area under the ROC curve of each class among the labels against all others; 95 % from the "
    "rows' influence, on the logit scale",
    "top_5_accuracy": "share of rows whose class is among the five most probable; 95 % Clopper-Pearson",
    "brier_score": "mean squared distance of the probabilities from the true class, halved for two classes; "
    "95 % BCa bootstrap",
    "log_loss": "mean -ln of the true class's probability, clipped at machine tiny; 95 % BCa bootstrap",
    "matthews_corrcoef": f"correlation of true and predicted class, 0 if one is constant; {_BOOTSTRAP}",
    "majority_accuracy": "share of the most frequent class among the labels; 95 % Clopper-Pearson",
    "rmse": "root of the mean squared error; root of the 95 % BCa bootstrap interval of that mean",
    "mae": "mean absolute error; 95 % BCa bootstrap",
    "r2": "1 - squared errors / squares around the mean; 95 % bias-corrected bootstrap over rows, normal from 50 000",
    "median_absolute_error": "median of the absolute errors; 95 % between order statistics",
    "mape": "mean of absolute error over absolute target; 95 % BCa bootstrap",
    "mean_error": "mean of predicted minus true; 95 % BCa bootstrap",
    "explained_variance": "1 - variance of the errors / variance of the target; 95 % bias-corrected bootstrap over "
    "rows, normal from 50 000",
    "spearman": "correlation of the ranks; 95 % Bonett-Wright on Fisher's scale",
    "baseline_rmse": "rmse of always predicting the mean target of the train split, or of the test split without one; "
    "root of the 95 % BCa bootstrap interval of its square",
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


def precision_macro(counts: _confusion.Margins) -> np.ndarray:
    """Mean precision over classes that are true or predicted, 0 for those never predicted; (...)."""
    return _mean_share(counts, counts.predicted)


def recall_macro(counts: _confusion.Margins) -> np.ndarray:
    """Mean recall over classes that are true or predicted, 0 for those never true; (...)."""
    return _mean_share(counts, counts.true)


def _mean_share(counts: _confusion.Margins, of: np.ndarray) -> np.ndarray:
    there = (counts.true + counts.predicted) > 0
    return np.asarray((counts.right / np.where(of > 0, of, 1)).sum(axis=-1) / there.sum(axis=-1))


def kappa(counts: _confusion.Margins) -> np.ndarray:
    """Cohen's kappa (Cohen 1960), NaN where true and predicted are the same single class; (...)."""
    right, true, predicted = (np.asarray(part, dtype=np.float64) for part in counts)
    total = true.sum(axis=-1)
    chance = (true * predicted).sum(axis=-1)
    room = total**2 - chance
    return np.asarray(np.where(room > 0, (total * right.sum(axis=-1) - chance) / np.where(room > 0, room, 1), np.nan))


_FROM_CONFUSION = {
    "balanced_accuracy": _confusion.balanced_accuracy,
    "f1_macro": _confusion.f1_macro,
    "precision_macro": precision_macro,
    "recall_macro": recall_macro,
    "matthews_corrcoef": _confusion.matthews,
    "cohen_kappa": kappa,
}


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
        Findings: precision, recall, f1, roc_auc, average_precision.
    """
    findings = Findings({}, {})
    right, true, predicted, n = int(matrix[at, at]), int(matrix[at].sum()), int(matrix[:, at].sum()), len(labels)
    for name, rows, verb in (("precision", predicted, "predicted"), ("recall", true, "truly")):
        if rows:
            findings.found[name] = Found(clopper_pearson(right, rows), rows)
        else:
            findings.missing[name] = f"no row is {verb} {classes[at]}"
    if not 0 < true < n:
        findings.missing.update(dict.fromkeys(("f1", "roc_auc", "average_precision"), only_class(matrix, classes)))
        return findings
    findings.found["f1"] = Found(_confusion.f1(right, predicted - right, true - right), n)
    if scores is None:
        findings.missing.update(dict.fromkeys(("roc_auc", "average_precision"), NO_PROBABILITIES))
        return findings
    sides = scores[labels == at], scores[labels != at]
    findings.found["roc_auc"] = Found(roc_auc(*sides), n)
    findings.found["average_precision"] = Found(_ranking.average_precision(*sides), n)
    return findings


def of_scores(labels: np.ndarray, scores: np.ndarray, seed: int, replicates: int = REPLICATES) -> tuple[Findings, int]:
    """Metrics of class probabilities, whatever the number of classes.

    Args:
        labels: (n,) class index.
        scores: (n, C) probabilities.
        seed: Seed of the bootstraps.
        replicates: Number of resamples.

    Returns:
        Findings: log_loss and brier_score; with three classes or more roc_auc_ovr; with more than five top_5_accuracy.
        And how many rows had to be clipped for the log loss.
    """
    n, width = scores.shape
    loss, clipped = log_loss(labels, scores, seed, replicates)
    findings = Findings({"log_loss": loss}, {})
    findings.found["brier_score"] = mean(_ranking.brier(labels, scores), seed, replicates)
    if width > 2 and (labels != labels[0]).any():
        findings.found["roc_auc_ovr"] = Found(_ranking.one_against_rest(labels, scores), n)
    elif width > 2:
        findings.missing["roc_auc_ovr"] = "all test labels are the same"
    if width > TOP:
        findings.found["top_5_accuracy"] = Found(clopper_pearson(_ranking.top_hits(labels, scores, TOP), n), n)
    return findings, clipped


def log_loss(labels: np.ndarray, scores: np.ndarray, seed: int, replicates: int = REPLICATES) -> tuple[Found, int]:
    """Mean negative logarithm of the true class's probability (n, C), and how many rows had to be clipped."""
    true = scores[np.arange(len(labels)), labels]
    return mean(-np.log(np.maximum(true, TINY)), seed, replicates), int((true < TINY).sum())


def of_values(
    true: np.ndarray, predicted: np.ndarray, seed: int, replicates: int = REPLICATES, *, centre: float | None = None
) -> Findings:
    """Metrics of a regression.

    Args:
        true: (n,) target.
        predicted: (n,) predicted values.
        seed: Seed of the bootstraps.
        replicates: Number of resamples.
        centre: What a baseline always predicts; the mean of `true` when not given.

    Returns:
        Findings; what needs a target that varies or is never 0 may be missing.
    """
    n, errors = len(true), true - predicted
    found = {"rmse": _root(errors, seed, replicates), "mae": mean(np.abs(errors), seed, replicates)}
    found["median_absolute_error"] = Found(_residuals.median_error(np.abs(errors)), n)
    found["mean_error"] = mean(-errors, seed, replicates)
    found["baseline_rmse"] = _root(true - (true.mean() if centre is None else centre), seed, replicates)
    missing = {}
    if zeros := int((true == 0).sum()):
        missing["mape"] = f"the target is 0 in {zeros} rows"
    elif np.isfinite(shares := _residuals.relative(true, errors)).all() and np.isfinite(shares.mean()):
        found["mape"] = mean(shares, seed, replicates)
    else:
        missing["mape"] = "the target is almost 0 in some rows"
    if (true == true[0]).all():
        constant = f"the target is {true[0]:.4g} in every row"
        return Findings(found, {**missing, **dict.fromkeys(("r2", "explained_variance", "spearman"), constant)})
    found["r2"] = Found(r2(true, predicted, seed, replicates), n)
    found["explained_variance"] = Found(_residuals.explained(true, errors, seed, replicates, centre=True), n)
    if (predicted == predicted[0]).all():
        missing["spearman"] = f"the prediction is {predicted[0]:.4g} in every row"
    else:
        found["spearman"] = Found(_residuals.spearman(true, predicted), n)
    return Findings(found, missing)


def _root(errors: np.ndarray, seed: int, replicates: int) -> Found:
    """Root of the mean square, and the roots of its interval's ends."""
    squares = mean(errors**2, seed, replicates)
    ends = (float(np.sqrt(max(end, 0.0))) if np.isfinite(end) else end for end in squares.estimate)
    return Found(Estimate(*ends), squares.n)


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

    Args:
        true: (n,) target, not constant.
        predicted: (n,) predicted values.
        seed: Seed of the resampling.
        replicates: Number of resamples.

    Returns:
        R2 and interval, see `_residuals.explained`.
    """
    return _residuals.explained(true, true - predicted, seed, replicates, centre=False)


def tables(matrix: np.ndarray, classes: tuple[str, ...]) -> tuple[Table, ...]:
    """Each class by itself with recall, precision and F1, and the confusion matrix unless too large for a page."""
    by_class, *rest = _confusion.tables(matrix, classes)
    rows: list[tuple[Cell, ...]] = []
    for at, row in enumerate(by_class.rows):
        right, true, predicted = int(matrix[at, at]), int(matrix[at].sum()), int(matrix[:, at].sum())
        either = true + predicted > 0
        rows.append((*row, *(_confusion.f1(right, predicted - right, true - right) if either else (None,) * 3)))
    columns = (*by_class.columns, "f1", "f1 low", "f1 high")
    return (by_class.model_copy(update={"columns": columns, "rows": tuple(rows)}), *rest)
