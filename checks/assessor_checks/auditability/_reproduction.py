"""Does the same come out again: comparison of outputs, and how much models of different seeds disagree (churn).

Churn, the share of rows on which two classifiers differ: Milani Fard, Cormier, Canini, Gupta, NeurIPS 2016, equation 1.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from assessor_checks._intervals import CONFIDENCE, Estimate


class Comparison(NamedTuple):
    """Outputs of a second model beside those of the first, on the same rows.

    Attributes:
        n: Rows.
        different: Rows whose prediction differs.
        largest: Largest absolute difference of a score; None where no scores are known; a score that is a number in one
            and none in the other counts as a different prediction and is left out here.
    """

    n: int
    different: int
    largest: float | None


def compare(
    first: np.ndarray, second: np.ndarray, scores: tuple[np.ndarray, np.ndarray] | None, tolerance: float = 0.0
) -> Comparison:
    """Compare predictions, and scores where both are known.

    Args:
        first: (n,) predictions.
        second: (n,) predictions of the other.
        scores: (n, ...) scores of both.
        tolerance: Predicted values that differ by no more count as the same; for classes 0.

    Returns:
        Counts and the largest difference.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    same = (first == second) | (np.abs(first - second) <= tolerance) | (np.isnan(first) & np.isnan(second))
    largest = None
    if scores is not None:
        a, b = (np.asarray(one, dtype=np.float64).reshape(len(first), -1) for one in scores)
        known = np.isfinite(a) & np.isfinite(b)
        same &= (np.isfinite(a) == np.isfinite(b)).all(axis=1)
        largest = float(np.abs(a - b)[known].max(initial=0.0))
    return Comparison(len(first), int((~same).sum()), largest)


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators for a while: does anything depend on them?"""
    state, python_state = np.random.get_state(), random.getstate()
    torch = sys.modules.get("torch")
    with ExitStack() as stack:
        if torch is not None:
            stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
            torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
            random.setstate(python_state)


def churn(predictions: np.ndarray, *, classes: bool, confidence: float = CONFIDENCE) -> Estimate:
    """Mean disagreement of two of these models on a row like these, with an interval for new models and new rows.

    Models and rows are both drawn: the models' part of the interval is that of a U-statistic by the jackknife over
    models with Student's t, the rows' part a score interval of the mean (normal for values); the arms are added in
    squares.

    Args:
        predictions: (k, n) of k models trained alike but for their seed, on n rows.
        classes: Whether they are classes, which are the same or not; else the absolute difference counts.
        confidence: Wanted coverage.

    Returns:
        Share of rows, or mean difference in the units of the values.

    Raises:
        ValueError: Fewer than three models.
    """
    k = len(predictions)
    if k < 3:
        raise ValueError(f"an interval for churn needs three models, found {k}")
    pairs, rows = np.zeros((k, k)), np.zeros(predictions.shape[1])
    for one in range(k):
        for other in range(one):
            apart = _apart(predictions[one], predictions[other], classes=classes)
            pairs[one, other] = pairs[other, one] = apart.mean()
            rows += apart / (k * (k - 1) / 2)
    value = pairs.sum() / (k * (k - 1))
    left_out = (pairs.sum() - 2 * pairs.sum(axis=1)) / ((k - 1) * (k - 2))
    error = np.sqrt((k - 1) / k * ((left_out - left_out.mean()) ** 2).sum())
    return _joined(rows, error, k - 1, value, classes=classes, confidence=confidence)


def churn_from(
    assessed: np.ndarray, predictions: np.ndarray, *, classes: bool, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean disagreement of one model with others trained alike, with an interval for new ones of those and new rows.

    Args:
        assessed: (n,) predictions of the one.
        predictions: (k, n) of the others.
        classes: Whether they are classes; else the absolute difference counts.
        confidence: Wanted coverage.

    Returns:
        Share of rows, or mean difference in the units of the values.

    Raises:
        ValueError: Fewer than two others.
    """
    k = len(predictions)
    if k < 2:
        raise ValueError(f"an interval needs two models, found {k}")
    apart = np.stack([_apart(one, assessed, classes=classes) for one in predictions])
    means = apart.mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(k)
    return _joined(apart.mean(axis=0), error, k - 1, means.mean(), classes=classes, confidence=confidence)


def _apart(one: np.ndarray, other: np.ndarray, *, classes: bool) -> np.ndarray:
    found: np.ndarray = (one != other).astype(np.float64) if classes else np.abs(one - other)
    return found


def _joined(
    rows: np.ndarray, error: float, freedom: int, value: float, *, classes: bool, confidence: float
) -> Estimate:
    """Interval from the spread over rows and the standard error over models."""
    n, tail = len(rows), 1 - (1 - confidence) / 2
    z, models = float(ndtri(tail)), float(stdtrit(freedom, tail)) * float(error)
    if classes:  # score interval of a mean in [0, 1]: no mean of such values spreads more than a share
        centre = (value + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * float(np.sqrt(value * (1 - value) / n + z * z / (4 * n * n)))
        low, high = min(value, centre - half), max(value, centre + half)
    else:
        half = z * float(rows.std(ddof=1) / np.sqrt(n)) if n > 1 else np.inf
        low, high = value - half, value + half
    low = max(0.0, value - float(np.hypot(value - low, models)))
    high = value + float(np.hypot(high - value, models))
    return Estimate(float(value), low, min(1.0, high) if classes else high)
