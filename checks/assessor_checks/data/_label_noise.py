"""Labels that look wrong to a model which did not learn from them: confident learning and the EL2N score.

Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (arXiv 1911.00068);
Paul, Ganguli, Dziugaite 2021, "Deep Learning on a Data Diet" (arXiv 2107.07075).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pydantic import JsonValue

from assessor.contract import NotApplicable, Subject, kept, progress, spread
from assessor_checks._intervals import CONFIDENCE, Estimate
from assessor_checks.data._representation import numbers, share
from assessor_checks.data._single_features import folds

_SLACK = 1e-6  # a probability this little under its threshold reaches it; rounding must not decide
_WORK = 20_000_000  # probabilities looked at by all resamples together, beyond which there are fewer resamples
_FEWEST = 50


class Noise(NamedTuple):
    """What confident learning says of a set of labels.

    Attributes:
        thresholds: (C,) mean probability of a class among the rows that bear its label, equation 2; NaN without rows.
        likely: (n,) int64 class that each row is confidently counted in; -1 where it is in none.
        counts: (C, C) rows by given label and likely class, the confident joint of equation 1.
        joint: (C, C) estimated shares of all rows by given label and true class, equation 3; sums to 1.
        rate: Estimated share of wrong labels: the joint off its diagonal.
    """

    thresholds: np.ndarray
    likely: np.ndarray
    counts: np.ndarray
    joint: np.ndarray
    rate: float


def confident_learning(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Noise:
    """Estimate which labels are wrong from probabilities by a model that did not learn from these rows.

    A row counts as truly of class j when its probability of j reaches the mean probability of j among the rows
    labelled j; of several such classes the most probable one. Equation 3 scales the counts of each given label to the
    rows that bear it. A label none of whose rows is counted anywhere is taken to be right.

    Args:
        labels: (n,) class index.
        scores: (n, C) probabilities.
        weights: (n,) how often each row counts, for resampling; 1 when not given.

    Returns:
        The estimate.
    """
    n, classes = scores.shape
    weight = np.ones(n) if weights is None else weights
    rows = np.bincount(labels, weights=weight, minlength=classes)
    own = np.bincount(labels, weights=weight * scores[np.arange(n), labels], minlength=classes)
    thresholds = np.divide(own, rows, out=np.full(classes, np.nan), where=rows > 0)
    reached = scores >= np.nan_to_num(thresholds, nan=np.inf) - _SLACK
    likely = np.where(reached, scores, -1.0).argmax(axis=1)
    likely[~reached.any(axis=1)] = -1
    sure = likely >= 0
    cells = np.bincount(labels[sure] * classes + likely[sure], weights=weight[sure], minlength=classes**2)
    counts = cells.reshape(classes, classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.eye(classes), where=totals > 0)
    joint = shares * (rows / rows.sum())[:, None]
    return Noise(thresholds, likely, counts, joint, float(max(0.0, 1 - joint.trace())))


def rate_interval(
    labels: np.ndarray, scores: np.ndarray, seed: int, replicates: int = 200, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimated share of wrong labels with an interval for the sampling of rows, the model held fixed.

    The bootstrap over rows gives the variance (thresholds are taken anew in every resample); Clopper-Pearson at the
    number of rows whose share would have that variance gives the ends, which stay sound when few labels or none look
    wrong. It says nothing of the estimate's bias: rows that are merely hard are counted as wrong.

    Args:
        labels: (n,) class index.
        scores: (n, C) held-out probabilities.
        seed: Of the resampling.
        replicates: Resamples; fewer, at least 50, for large data.
        confidence: Wanted coverage.

    Returns:
        Estimate and interval.
    """
    found = confident_learning(labels, scores)
    sure = float((found.likely >= 0).sum())
    if not 0 < found.rate < 1:
        return share(found.rate * max(1.0, sure), max(1.0, sure), confidence)
    rng, n = np.random.default_rng(seed), len(labels)
    count = int(np.clip(_WORK // scores.size, _FEWEST, replicates))
    rates = []
    for index in range(count):
        progress("resampling", index, count)
        drawn = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        rates.append(confident_learning(labels, scores, drawn).rate)
    variance = float(np.var(rates, ddof=1))
    trials = min(float(n), found.rate * (1 - found.rate) / variance) if variance > 0 else sure
    return share(found.rate * trials, trials, confidence)


def el2n(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) Euclidean distance of the probabilities from the label's corner, from 0 to sqrt(2).

    Paul et al. take it early in training and on average over several; here it is taken of a model that did not learn
    from the row.

    >>> el2n(np.array([0]), np.array([[0.0, 1.0]])).round(3).tolist()
    [1.414]
    """
    errors = scores.copy()
    errors[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.sqrt((errors**2).sum(axis=1)))


def margin(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) probability of the label minus the largest of another class: how sure a model is that it is right."""
    others = scores.copy()
    own = others[np.arange(len(labels)), labels].copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(own - others.max(axis=1))


def held_out_scores(subject: Subject, count: int, seed: int) -> np.ndarray:
    """Probabilities of every training row by a model trained anew without it: cross-validation.

    Args:
        subject: That can be trained anew.
        count: Number of folds; classes are spread evenly over them.
        seed: Of folds and trainings.

    Returns:
        (n, C) probabilities.

    Raises:
        NotApplicable: A newly trained model gives no finite probabilities of the right shape.
    """
    split = subject.splits["train"]
    scores = np.empty((len(numbers(split)), len(subject.classes)))
    fold = folds(split.labels, count, seed)
    for index, found in enumerate(spread(partial(_held_out, subject, fold, count, seed), range(count))):
        scores[fold == index] = found
    return scores


def _held_out(subject: Subject, fold: np.ndarray, count: int, seed: int, index: int) -> Any:
    """Probabilities of the rows of one fold, by a model trained on the others."""

    def predicted() -> JsonValue:
        out, classes = np.flatnonzero(fold == index), len(subject.classes)
        features = numbers(subject.splits["train"])[out]
        found = np.asarray(subject.refit(np.flatnonzero(fold != index), seed + index)(features), dtype=np.float64)
        if found.shape != (len(out), classes):
            raise NotApplicable(f"the model trained anew gave scores of shape {found.shape}, wanted one a class")
        if not np.isfinite(found).all():
            raise NotApplicable("the model trained anew gave scores that are not finite")
        rows: JsonValue = found.tolist()
        return rows

    progress("training anew", index, count)
    return kept(["held out", index, count, seed], predicted)
