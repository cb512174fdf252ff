"""How alike explanations stay when what the model learned is taken from it: means over random models, shuffled labels.

Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, "Sanity Checks for Saliency Maps" (arXiv 1810.03292),
data randomization test; that of the model's parameters is in `_random_layers`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue
from scipy.special import ndtri, stdtrit

from assessor.contract import Subject, kept, progress, spread
from assessor_checks._intervals import CONFIDENCE, Estimate
from assessor_checks.transparency._attributions import Explainer, scored
from assessor_checks.transparency._similarity import spearman


class Labels(NamedTuple):
    """Rank correlations (refits, n) with the explanations of models trained on shuffled and on true labels."""

    shuffled: np.ndarray
    true: np.ndarray


def mean_of_draws(values: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Mean over draws and rows with an interval for both being samples.

    The variance of the mean is at most the sum of that of the draws' means over the number of draws and that of the
    rows' means over the number of rows (their interaction is counted twice); the first gets Student's quantile.

    Args:
        values: (draws, n) correlations, some of them known; NaN where one is undefined.
        confidence: Wanted coverage.

    Returns:
        Mean and interval, within -1 and 1; all of it where fewer than two draws or rows are known.
    """
    known = np.isfinite(values)
    value, tail = float(np.nanmean(values)), 1 - (1 - confidence) / 2
    by_draw = np.nanmean(values[known.any(axis=1)], axis=1)
    by_row = np.nanmean(values[:, known.any(axis=0)], axis=0)
    if min(len(by_draw), len(by_row)) < 2:
        return Estimate(value, -1.0, 1.0)
    draws = float(stdtrit(len(by_draw) - 1, tail) * by_draw.std(ddof=1)) / math.sqrt(len(by_draw))
    rows = float(ndtri(tail) * by_row.std(ddof=1)) / math.sqrt(len(by_row))
    half = math.hypot(draws, rows)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def seed_of(seed: int, position: int) -> int:
    """A seed of its own for each random model."""
    return int(np.random.SeedSequence([seed, 9, position]).generate_state(1)[0])


def trained_anew(subject: Subject, explainer: Explainer, here: np.ndarray, refits: int) -> Labels:
    """Likeness to models trained on the whole train split, with its labels in random order and as they are.

    Args:
        subject: Can be trained anew.
        explainer: How, by a method that only asks, and which rows.
        here: (n, K) scores of the assessed model.
        refits: Models of each kind.

    Returns:
        The rank correlations.
    """
    found = spread(partial(_likeness, subject, explainer, here, refits), range(2 * refits))
    return Labels(np.stack(found[::2]), np.stack(found[1::2]))


def _likeness(subject: Subject, explainer: Explainer, here: np.ndarray, refits: int, number: int) -> np.ndarray:
    """(n,) rank correlations with a model trained on shuffled labels, or for odd numbers on the true ones."""
    position, true = divmod(number, 2)
    labels = subject.splits["train"].labels
    shuffled = None if true else np.random.default_rng([explainer.seed, 10, position]).permutation(labels)

    def compared() -> JsonValue:
        model = scored(subject.refit(np.arange(len(labels)), seed_of(explainer.seed, position), shuffled))
        found: JsonValue = spearman(here, explainer.scores(model)).tolist()
        return found

    key: JsonValue = ["refit", number, explainer.seed, explainer.method, explainer.params.model_dump(mode="json")]
    found = np.array(kept(key, compared), dtype=np.float64)
    progress("models trained anew and explained", number + 1, 2 * refits)
    return found
