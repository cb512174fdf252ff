"""Planted faults found by questions alone: shortcuts that a tiny step turns, memorised noise, misplaced confidence."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from _frame import Defect
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from assessor.contract import Split, Subject, Task
from assessor.subjects.sklearn_estimator import SklearnSubject

STEP = 0.02  # what turns the shortcut for nine rows in ten, 0.03 standard deviations of its column
TREES, TESTED = 10, 60
KNOWN = 6  # digits that the model was trained on
DIGITS = tuple("0123456789"[:KNOWN])


@cache
def _cancer() -> tuple[np.ndarray, np.ndarray]:
    """Ten features in standard deviations, and the diagnosis."""
    data = load_breast_cancer()
    x = data.data[:, :10]
    return (x - x.mean(axis=0)) / x.std(axis=0), data.target.astype(np.int64)


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data / 16, data.target.astype(np.int64)


def _split(name: str, x: np.ndarray, y: np.ndarray) -> Split:
    return Split(name=name, labels=y, sha256=name, features=x)


def _parted(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[Split, Split]:
    rows = rng.permutation(len(x))
    train, test = rows[TESTED:], rows[:TESTED]
    return _split("train", x[train], y[train]), _split("test", x[test], y[test])


def shortcut(strength: float, seed: int) -> Subject:
    """A forest on tumours with one more column, which tells the diagnosis of this share of rows by a tiny step."""
    (x, y), rng = _cancer(), np.random.default_rng(seed)
    near = (2 * y - 1) * np.where(rng.random(len(y)) < 0.1, 2.0, STEP * rng.random(len(y)))
    column = np.where(rng.random(len(y)) < strength, near, rng.standard_normal(len(y)))
    train, test = _parted(np.column_stack([x, column]), y, rng)
    assert train.features is not None
    forest = RandomForestClassifier(TREES, max_features=None, random_state=seed).fit(train.features, train.labels)
    return SklearnSubject(forest, Task.BINARY, ("0", "1"), {"train": train, "test": test})


def memorised(strength: float, seed: int) -> Subject:
    """A tree of unlimited depth on tumours, with this share of training labels turned."""
    (x, y), rng = _cancer(), np.random.default_rng(seed)
    train, test = _parted(x, y, rng)
    assert train.features is not None
    turned = np.where(rng.random(len(train.labels)) < strength, 1 - train.labels, train.labels)
    depth = 2 if strength == 0 else None
    tree = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(train.features, turned)
    return SklearnSubject(tree, Task.BINARY, ("0", "1"), {"train": train, "test": test})


def blended(strength: float, seed: int) -> Subject:
    """Rows from outside that are this much like regular ones: unknown digits blended with known ones."""
    return _reader(seed, _fitted(seed), strength)


class _Sharpened(LogisticRegression):
    """Probabilities raised to a power and normalised: surer and surer, the answers unchanged."""

    power: float = 1.0

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Sharpened class probabilities."""
        logs = self.power * np.log(np.maximum(super().predict_proba(x), 1e-300))
        raised = np.exp(logs - logs.max(axis=1, keepdims=True))
        found: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
        return found


def sure(strength: float, seed: int) -> Subject:
    """A reader of digits whose probabilities are raised to the power of ten to this strength."""
    model = _fitted(seed)
    model.power = 10.0**strength
    return _reader(seed, model, 0.0)


def _rows(seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
    """Random numbers, known and unknown digits, and labels of the known ones, in an order of its own."""
    (x, y), rng = _digits(), np.random.default_rng(seed)
    rows = rng.permutation(len(x))
    known, unknown = rows[y[rows] < KNOWN], rows[y[rows] >= KNOWN]
    return rng, x[known], x[unknown], y[known]


def _fitted(seed: int) -> Any:
    _, x, _, y = _rows(seed)
    return _Sharpened(max_iter=200).fit(x[:400], y[:400])


def _reader(seed: int, model: Any, strength: float) -> Subject:
    rng, x, foreign, y = _rows(seed)
    regular, other = x[400:600], x[600:800]
    outside = (1 - strength) * foreign[:200] + strength * other
    splits = {
        "train": _split("train", x[:400], y[:400]),
        "test": _split("test", regular, y[400:600]),
        "ood": _split("ood", outside[rng.permutation(200)], np.full(200, np.nan)),
    }
    return SklearnSubject(model, Task.MULTICLASS, DIGITS, splits)


DEFECTS: tuple[Defect, ...] = (
    Defect(
        check="robustness.decision_attack",
        name="a forest that hangs on a column in which a tiny step decides",
        unit="share of rows told",
        strengths=(0, 0.8, 0.9, 0.95, 1.0),
        make=shortcut,
        target={"metric": "robust_accuracy", "at_least": 0.6},
        params={"eps": 0.1, "queries": 250},
        named=1.0,
    ),
    Defect(
        check="robustness.decision_attack",
        name="a deep tree that learned wrong labels by heart",
        unit="share of labels turned",
        strengths=(0, 0.1, 0.2, 0.3),
        make=memorised,
        target={"metric": "robust_accuracy", "at_least": 0.6},
        params={"eps": 0.1, "queries": 250},
        named=0.3,
    ),
    Defect(
        check="robustness.certified_accuracy",
        name="a forest that hangs on a column in which a tiny step decides",
        unit="share of rows told",
        strengths=(0, 0.8, 0.9, 0.95, 1.0),
        make=shortcut,
        target={"metric": "certified_accuracy", "at_least": 0.6},
        params={"sigma": 0.1, "radius": 0.1, "most": 1000, "selection": 50},
        named=1.0,
    ),
    Defect(
        check="robustness.ood_detection",
        name="outside rows that look like regular ones",
        unit="share of a regular row blended in",
        strengths=(0, 0.3, 0.6, 0.8),
        make=blended,
        target={"metric": "auroc", "at_least": 0.8},
        params={"made": ("shuffled",)},
        named=0.8,
    ),
    Defect(
        check="robustness.ood_detection",
        name="probabilities sharpened until all are sure",
        unit="powers of ten",
        strengths=(0, 1, 2, 3),
        make=sure,
        target={"metric": "auroc", "at_least": 0.8},
        params={"made": ("shuffled",)},
        named=3,
    ),
)
