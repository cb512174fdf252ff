"""Calibration of all classes' probabilities: class by class, jointly tested, and by one temperature for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from assessor_checks._calibration import TAIL, Bins, ece, p_value, summarise, true_ece

_CHUNK = 4_000_000  # numbers of an intermediate matrix held at once
_WIDEST = 4.6  # logarithm: temperatures from 1/100 to 100
_HALVINGS = 30
_WORK = 2000  # redrawings of all classes' intervals together
_DRAWS = 2e8  # drawn labels in all; more rows get fewer redrawings


class Classwise(NamedTuple):
    """Calibration of each class's probability, the class against all others.

    Attributes:
        errors: (C,) plain expected calibration error of each class.
        gaps: (C,) mean probability minus share of rows of the class.
        p_values: (C,) of each class by itself.
        ends: Of the mean of the errors: the means of the ends of the classes' 95 % intervals (`true_ece`), which cover
            more than 95 % unless all classes err together; the low one 0 unless `p_joint` is at most 2.5 %.
        p_joint: Of the mean of the errors: whether the probabilities of all classes together may be right.
        redrawings: Number behind the p-values.
    """

    errors: np.ndarray
    gaps: np.ndarray
    p_values: np.ndarray
    ends: tuple[float, float]
    p_joint: float
    redrawings: int

    @property
    def mean(self) -> float:
        """Classwise calibration error: mean of the classes' errors (Kull et al. 2019, arXiv:1910.12656, eq. 2)."""
        return float(self.errors.mean())


def classwise(
    scores: np.ndarray, labels: np.ndarray, binning: Callable[[np.ndarray, int], np.ndarray], wanted: int,
    seed: int, replicates: int,
) -> Classwise:  # fmt: skip
    """Calibration error of every class, and an exact Monte Carlo test of all at once.

    Labels are drawn anew from the model's own probabilities (consistency resampling, Bröcker and Smith 2007; for all
    classes at once Vaicenavicius et al. 2019, arXiv:1902.06977, section 5), and the errors computed as for the data.

    Args:
        scores: (n, C) probabilities, n at least 1.
        labels: (n,) class.
        binning: `equal_mass` or `equal_width` of `_calibration`.
        wanted: Wanted number of bins.
        seed: Seed of the redrawing.
        replicates: Number of redrawings at most.

    Returns:
        Errors and p-values.
    """
    n, classes = scores.shape
    index = np.stack([binning(scores[:, c], wanted) for c in range(classes)], axis=1)
    bins = [summarise(scores[:, c], (labels == c).astype(float), index[:, c]) for c in range(classes)]
    width = int(index.max()) + 1
    place = index + width * np.arange(classes)  # (n, C) bin of all classes' bins, where an event of the class falls
    replicates = max(199, min(replicates, int(_DRAWS / n)))
    drawn = _redrawn(scores, place, classes * width, seed, replicates).reshape(replicates, classes, width)
    errors = np.array([ece(one) for one in bins])
    joint = np.stack([_errors(one, drawn[:, c]) for c, one in enumerate(bins)], axis=1).mean(axis=1)
    each = np.array([p_value(one, drawn[:, c, : len(one.n)]) for c, one in enumerate(bins)])
    together = (1 + int((joint >= errors.mean() - 1e-12).sum())) / (1 + replicates)
    fewer = max(100, min(replicates, _WORK // classes))
    low, high = zip(
        *(true_ece(one, p, seed, fewer)[1:] for one, p in zip(bins, each.tolist(), strict=True)), strict=True
    )
    return Classwise(
        errors=errors,
        gaps=scores.mean(axis=0) - np.bincount(labels, minlength=classes) / n,
        p_values=each,
        ends=(0.0 if together > TAIL else float(np.mean(low)), float(np.mean(high))),
        p_joint=together,
        redrawings=replicates,
    )


def _redrawn(scores: np.ndarray, place: np.ndarray, places: int, seed: int, replicates: int) -> np.ndarray:
    """(R, places) number of rows whose label, drawn from its probabilities, falls there."""
    n, classes = scores.shape
    cumulated = np.cumsum(scores, axis=1)
    steps = (np.minimum(cumulated / cumulated[:, -1:], 1) + np.arange(n)[:, None]).ravel()
    rng = np.random.default_rng([seed, 3])
    rows = max(1, _CHUNK // n)
    parts = []
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        drawn = np.searchsorted(steps, rng.random((count, n)) + np.arange(n), side="right")
        label = np.minimum(drawn - classes * np.arange(n), classes - 1)
        there = place[np.arange(n), label] + places * np.arange(count)[:, None]
        parts.append(np.bincount(there.ravel(), minlength=count * places).reshape(count, places))
    return np.concatenate(parts)


def _errors(bins: Bins, counts: np.ndarray) -> np.ndarray:
    """Plain calibration error (R,) of redrawn counts."""
    gaps: np.ndarray = np.abs(counts[:, : len(bins.n)] - bins.n * bins.confidence).sum(axis=1) / bins.n.sum()
    return gaps


def best_temperature(logs: np.ndarray, labels: np.ndarray) -> float | None:
    """The temperature that fits the probabilities best: T with the least log loss of softmax(log p / T).

    Guo et al. 2017 (arXiv:1706.04599), section 4.2. The loss is convex in 1 / T, so its slope is halved until it is 0.

    Args:
        logs: (n, C) logarithms of the probabilities, finite, n at least 1.
        labels: (n,) class.

    Returns:
        T; None where none between 1/100 and 100 is best: every row is right, or the probabilities say nothing.
    """
    own = float(logs[np.arange(len(labels)), labels].mean())

    def slope(log_t: float) -> float:  # of the loss in 1 / T; falls with T
        return float((tempered(logs, float(np.exp(log_t))) * logs).sum(axis=1).mean()) - own

    low, high = -_WIDEST, _WIDEST
    if slope(low) <= 0 or slope(high) >= 0:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def tempered(logs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, C) after their logarithms (n, C) are divided by the temperature."""
    scaled = logs / temperature
    found = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return result
