"""Brittleness, planted: models that know only what looks like their training data, and one that trusts one column."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from _frame import Defect
from sklearn import datasets
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import Split, Subject, Task
from assessor.subjects.sklearn_estimator import SklearnSubject

TRAINED = 1000


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, 8 x 8 pixels in [0, 1]."""
    data: Any = datasets.load_digits()
    return data.data / 16, data.target


@cache
def cancer() -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer, 30 measured columns."""
    data: Any = datasets.load_breast_cancer()
    return data.data, data.target


class Nearest(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The nearest training row's class; 0 where none is near enough."""

    def __init__(self, reach: float = np.inf) -> None:
        """Answer up to this distance."""
        self.reach = reach

    def fit(self, x: np.ndarray, y: np.ndarray) -> Nearest:
        """Keep the rows."""
        self.x_, self.y_, self.classes_ = x, y, np.unique(y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class of each row."""
        squares = (x**2).sum(axis=1)[:, None] - 2 * x @ self.x_.T + (self.x_**2).sum(axis=1)
        nearest = squares.argmin(axis=1)
        near = squares[np.arange(len(x)), nearest] <= self.reach**2
        return np.where(near, self.y_[nearest], 0)


class OneColumn(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Mixes the odds from all columns with those from a single one."""

    def __init__(self, share: float = 0.0) -> None:
        """Take this share of the odds from the one column."""
        self.share = share

    def fit(self, x: np.ndarray, y: np.ndarray) -> OneColumn:
        """Fit both."""
        self.whole_ = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(x, y)
        self.one_ = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:, [27]], y)
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class of each row."""
        odds = (1 - self.share) * self.whole_.decision_function(x)
        return (odds + self.share * self.one_.decision_function(x[:, [27]]) > 0).astype(int)


def subject(model: Any, data: tuple[np.ndarray, np.ndarray], trained: int, seed: int) -> Subject:
    """A model on these data, split anew."""
    x, y = data
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:trained], order[trained:]
    model.fit(x[train], y[train])
    splits = {"train": Split("train", y[train], "train", x[train]), "test": Split("test", y[test], "test", x[test])}
    task = Task.BINARY if len(model.classes_) == 2 else Task.MULTICLASS
    return SklearnSubject(model, task, tuple(map(str, model.classes_)), splits)


def narrow(strength: float, seed: int) -> Subject:
    """Digits by the nearest neighbour, who gives up beyond a distance; clean digits lie within 1.1 to 1.8."""
    return subject(Nearest(np.inf if strength == 0 else 1 / strength), digits(), TRAINED, seed)


def trusting(strength: float, seed: int) -> Subject:
    """Cancer by all columns and by one of them."""
    return subject(OneColumn(strength), cancer(), 300, seed)


DEFECTS = (
    Defect(
        check="robustness.corruption_accuracy",
        name="answers only what is near its training pictures",
        unit="1 / distance",
        strengths=(0.0, 0.4, 0.5, 0.6),
        make=narrow,
        target={"metric": "corruption_accuracy", "at_least": 0.85},
        params={"image_shape": (1, 8, 8), "severities": (1, 3, 5), "max_samples": 200},
        named=0.6,
    ),
    Defect(
        check="robustness.corruption_accuracy",
        name="answers only what is near: the worst corruption tells first",
        unit="1 / distance",
        strengths=(0.0, 0.4, 0.5, 0.6),
        make=narrow,
        target={"metric": "worst_corruption_accuracy", "at_least": 0.22},
        params={"image_shape": (1, 8, 8), "severities": (1, 3, 5), "max_samples": 200},
        named=0.5,
    ),
    Defect(
        check="robustness.corruption_accuracy",
        name="trusts one column of thirty",
        unit="share of the odds",
        strengths=(0.0, 0.5, 0.8, 1.0),
        make=trusting,
        target={"metric": "accuracy_drop", "at_most": 0.04},
        params={"corruptions": ("missing",)},
        named=1.0,
    ),
    Defect(
        check="robustness.noise_accuracy",
        name="answers only what is near its training pictures",
        unit="1 / distance",
        strengths=(0.0, 0.4, 0.5, 0.6),
        make=narrow,
        target={"metric": "noise_accuracy", "at_least": 0.9},
        params={"scale": "absolute", "levels": (0.1, 0.15), "draws": 5, "max_samples": 200},
        named=0.6,
    ),
)
