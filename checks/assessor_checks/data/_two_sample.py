"""Do two samples of rows come from one source? A classifier that tells them apart, tested by permutation.

Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests" (arXiv 1610.06545); Kim, Ramdas, Singh, Wasserman
2021, Annals of Statistics 49:411. The classifier is a ridge discriminant on normal scores of the columns, their
squares and products and random Fourier features (Rahimi and Recht 2007): shifts of single columns, of spreads, of
correlations and of any other pattern. It has a closed form, so that every permutation can repeat the whole training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from assessor_checks._intervals import CONFIDENCE, Estimate
from assessor_checks._performance import delong

FOLDS = 5
PERMUTATIONS = 199
_HELD = 8_000_000  # numbers of a portion of rows
_WAVES = 200  # random Fourier features
_COLUMNS = 100  # of a table beyond which it is projected
_PAIRED = 16  # columns up to which products of two are looked at
_WEIGHTS = (0.7, 0.7, 0.5)  # of squares, products and waves beside the columns themselves
_FREEDOM = 20  # rows an effective degree of freedom of the discriminant


class Separation(NamedTuple):
    """How well two samples can be told apart.

    Attributes:
        area: Held-out area under the ROC curve with its interval; 0.5 is no difference.
        p_value: Of no difference, by permutation.
        spread: Standard deviation of the area when there is no difference.
    """

    area: Estimate
    p_value: float
    spread: float


def separation(
    a: np.ndarray, b: np.ndarray, seed: int, *, permutations: int = PERMUTATIONS, confidence: float = CONFIDENCE
) -> Separation:
    """Area under the ROC curve of a classifier that tells the samples apart, on rows it did not learn from.

    Folds are drawn without looking at the samples, areas taken within folds and averaged with their numbers of pairs
    as weights. The permutation test trains anew on every permutation, so its level is exact at any size. The interval
    is on the logit scale with DeLong's variance, summed over folds and raised by the factor by which the variance of
    the permutations exceeds that of independent folds.
    The area is that of this classifier: a lower bound, but for chance, of what the best one could do.

    Args:
        a: (n, d) numbers, NaN where missing; n at least 10.
        b: (m, d) likewise.
        seed: Of folds, random features and permutations.
        permutations: Their number.
        confidence: Wanted coverage.

    Returns:
        Area, p-value, spread without a difference.
    """
    rng = np.random.default_rng(seed)
    rows = features(np.concatenate([a, b]).astype(np.float64), rng)
    labels = np.arange(len(rows)) >= len(a)
    drawn = np.stack([labels, *(rng.permutation(labels) for _ in range(permutations))], axis=1)
    fold = rng.permutation(len(rows)) % FOLDS
    total, weights, variance, plain = np.zeros(permutations + 1), np.zeros(permutations + 1), 0.0, 0.0
    for index in range(FOLDS):
        out = fold == index
        scores = _discriminant(rows[~out], drawn[~out], rows[out])
        areas, pairs = _areas(scores, drawn[out])
        total += areas * pairs
        weights += pairs
        variance += float(pairs[0]) ** 2 * _delong_variance(scores[:, 0], drawn[out, 0])
        plain += float(pairs[0]) * (int(out.sum()) + 1) / 12  # the same without a difference (Mann and Whitney 1947)
    areas = total / weights
    spread = float(areas[1:].std(ddof=1))
    inflation = max(1.0, spread * float(weights[0] / np.sqrt(plain)))
    error = inflation * float(np.sqrt(variance) / weights[0])
    p_value = (1 + int((areas[1:] >= areas[0]).sum())) / (1 + permutations)
    return Separation(_interval(float(areas[0]), error, confidence), p_value, spread)


def _interval(area: float, error: float, confidence: float) -> Estimate:
    inside = float(np.clip(area, 1e-4, 1 - 1e-4))
    half = float(ndtri(0.5 + confidence / 2)) * error / max(inside * (1 - inside), error)
    low, high = expit(logit(inside) + np.array([-half, half]))
    return Estimate(area, min(float(low), area), max(float(high), area))


def features(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Columns that a linear discriminant sees differences of all kinds in.

    Args:
        rows: (n, d) both samples together, NaN where missing.
        rng: Of the random directions.

    Returns:
        (n, k) centred columns: normal scores, squares, products, waves; they depend on the rows only, not on the
        sample each belongs to.
    """
    scores = normal_scores(rows)
    weight = np.ones(scores.shape[1])
    if scores.shape[1] > _COLUMNS:  # half whitened: small components count less, but do count
        scores = principal(scores, _COLUMNS, rng)
        spread = np.maximum(scores.std(axis=0), 1e-12)
        scores, weight = scores / spread, np.sqrt(spread / spread.mean())
    n, d = scores.shape
    scaled = scores * weight
    sample = scaled[rng.permutation(n)[:500]]
    half = len(sample) // 2
    width = float(np.sqrt(np.median(((sample[:half] - sample[half : 2 * half]) ** 2).sum(axis=1)))) or 1.0
    waves = np.cos(scaled @ (rng.standard_normal((d, _WAVES)) / width) + rng.uniform(0, 2 * np.pi, _WAVES))
    i, j = np.triu_indices(d if d <= _PAIRED else 0, k=1)
    squares = (scores**2 - 1) / np.sqrt(2) * weight
    blocks = (squares, scores[:, i] * scores[:, j], waves * np.sqrt(2 * max(1, d) / _WAVES))
    parts = (part * block for part, block in zip(_WEIGHTS, blocks, strict=True))
    joined = np.concatenate([scaled, *parts], axis=1)
    return np.asarray(joined - joined.mean(axis=0))


def normal_scores(rows: np.ndarray) -> np.ndarray:
    """Each column's ranks as quantiles of the standard normal; a missing value is 0 and has a column of its own.

    Args:
        rows: (n, d), NaN where missing.

    Returns:
        (n, k) columns that vary, standardised.
    """
    missing = np.isnan(rows)
    columns = []
    for index in range(rows.shape[1]):
        known = ~missing[:, index]
        column = np.zeros(len(rows))
        if known.any():
            ranks = rankdata(rows[known, index])
            column[known] = ndtri((ranks - 0.5) / known.sum())
        columns += [column, missing[:, index].astype(np.float64)] if not known.all() else [column]
    found = np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))
    found -= found.mean(axis=0)
    spread = found.std(axis=0)
    varies = spread > 1e-9
    return np.asarray(found[:, varies] / spread[varies])


def principal(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Projections on the directions of greatest variance, by random sketches (Halko, Martinsson, Tropp 2011).

    Args:
        rows: (n, ...) finite numbers; worked on in portions, so that memory is bounded.
        count: Number of directions.
        rng: Of the sketch.

    Returns:
        (n, k) projections, k at most `count`, the greatest variance first.
    """
    n, d = len(rows), int(np.prod(rows.shape[1:]))
    parts = [slice(start, start + max(1, _HELD // d)) for start in range(0, n, max(1, _HELD // d))]
    mean = np.sum([_flat(rows[part]).sum(axis=0) for part in parts], axis=0) / n
    sketch = rng.standard_normal((d, min(count + 10, n, d)))
    along = np.zeros((n, sketch.shape[1]))
    for _ in range(3):
        along = np.linalg.qr(np.concatenate([(_flat(rows[part]) - mean) @ sketch for part in parts]))[0]
        sketch = np.zeros_like(sketch)
        for part in parts:
            sketch += (_flat(rows[part]) - mean).T @ along[part]
    u, s, _ = np.linalg.svd(sketch.T, full_matrices=False)
    return np.asarray((along @ u * s)[:, :count])


def _flat(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows.reshape(len(rows), -1).astype(np.float64)
    return found


def _discriminant(rows: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m, B) scores of other rows (m, k) by ridge regressions on B labellings (n, B) of rows (n, k) at once."""
    centred = labels - labels.mean(axis=0)
    dual = len(rows) < rows.shape[1]  # the same regression, solved in the smaller dimension
    gram = rows @ rows.T if dual else rows.T @ rows
    penalty = _penalty(np.linalg.eigvalsh(gram), len(rows) / _FREEDOM)
    solved = cho_solve(cho_factor(gram + penalty * np.eye(len(gram))), centred if dual else rows.T @ centred)
    return np.asarray(others @ (rows.T @ solved if dual else solved))


def _penalty(values: np.ndarray, freedom: float) -> float:
    """The ridge penalty at which sum(v / (v + penalty)) is the wanted number of degrees of freedom, by bisection."""
    values = np.maximum(values, 0)
    low, high = (
        np.log(max(1e-9 * float(values.max(initial=0.0)), 1e-300)),
        np.log(max(float(values.sum()), 1e-300) * 10),
    )
    for _ in range(40):
        middle = (low + high) / 2
        found = float((values / (values + np.exp(middle))).sum())
        low, high = (middle, high) if found > freedom else (low, middle)
    return float(np.exp(high))


def _areas(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) areas and numbers of pairs, for scores (m, B) and labels (m, B) bool; 0 where there are no pairs."""
    ranks = rankdata(scores, axis=0)
    ones = labels.sum(axis=0)
    pairs = ones * (len(labels) - ones)
    above = (ranks * labels).sum(axis=0) - ones * (ones + 1) / 2
    return np.divide(above, pairs, out=np.zeros(len(ones)), where=pairs > 0), pairs.astype(np.float64)


def _delong_variance(scores: np.ndarray, labels: np.ndarray) -> float:
    if min(labels.sum(), (~labels).sum()) < 2:
        return 0.25
    return delong(scores[labels], scores[~labels])[1]
