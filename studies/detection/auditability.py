"""Planted into systems: draws at each loading or training, models that differ, an untold training, loose parts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _frame import Defect
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from assessor.contract import Origin, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject

TRAIN = 300


class Jittered(ClassifierMixin, BaseEstimator):
    """Logistic regression whose weights get a little noise from the global generator when it is fitted."""

    def __init__(self, noise: float = 0.0) -> None:
        """Keep the noise, in standard deviations of the weights."""
        self.noise = noise

    def fit(self, x: np.ndarray, y: np.ndarray) -> Jittered:
        """Fit, then disturb."""
        self.model_ = LogisticRegression().fit(x, y)
        self.classes_ = self.model_.classes_
        spread = self.noise * self.model_.coef_.std()
        self.model_.coef_ = self.model_.coef_ + spread * np.random.standard_normal(self.model_.coef_.shape)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Classes."""
        found: np.ndarray = self.model_.predict(x)
        return found

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Probabilities."""
        found: np.ndarray = self.model_.predict_proba(x)
        return found


class Partial(ClassifierMixin, BaseEstimator):
    """A tree that is shown a share of the rows, which its seed draws."""

    def __init__(self, left_out: float = 0.0, random_state: int = 0) -> None:
        """Keep the share that is left out."""
        self.left_out = left_out
        self.random_state = random_state

    def fit(self, x: np.ndarray, y: np.ndarray) -> Partial:
        """Fit on some rows."""
        rows = np.random.default_rng(self.random_state).permutation(len(y))[round(self.left_out * len(y)) :]
        self.model_ = DecisionTreeClassifier(min_samples_leaf=5, random_state=0).fit(x[rows], y[rows])
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Classes."""
        found: np.ndarray = self.predict_proba(x).argmax(axis=1)
        return found

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Probabilities."""
        found: np.ndarray = self.model_.predict_proba(x)
        return found if found.shape[1] == 2 else np.column_stack([1 - found[:, 0], found[:, 0]])


@cache
def cancer() -> tuple[np.ndarray, np.ndarray]:
    """Features, scaled, and labels of the breast cancer data."""
    data: Any = load_breast_cancer()
    return StandardScaler().fit_transform(data.data), data.target.astype(np.int64)


def halves(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for testing."""
    order = np.random.default_rng(seed).permutation(len(cancer()[1]))
    return order[:TRAIN], order[TRAIN:]


def split(name: str, rows: np.ndarray) -> Split:
    """These rows with their digest."""
    x, y = cancer()
    digest = hashlib.sha256(x[rows].tobytes() + y[rows].tobytes()).hexdigest()
    return Split(name=name, labels=y[rows], sha256=digest, features=x[rows])


def loading(model: Any, seed: int, *, exchanged: float = 0.0, flipped: float = 0.0) -> SklearnSubject:
    """A subject that is trained and loaded anew at each loading, by the same function.

    Args:
        model: An estimator; it is fitted at each loading.
        seed: Of the split.
        exchanged: Share of test rows that the global generator draws anew at each loading.
        flipped: Share of training labels that are wrong when the assessed model is trained, and only then.
    """
    train, test = halves(seed)
    x, y = cancer()

    def load() -> SklearnSubject:
        rows, labels = test.copy(), y[train].copy()
        lost = round(exchanged * len(rows))
        rows[:lost] = np.random.choice(test[lost:], lost)
        wrong = np.random.default_rng(seed).permutation(len(train))[: round(flipped * len(train))]
        labels[wrong] = 1 - labels[wrong]
        splits = {"train": split("train", train), "test": split("test", rows)}
        return SklearnSubject(model.fit(x[train], labels), Task.BINARY, ("0", "1"), splits, origin=Origin(reload=load))

    return load()


def drawn_weights(strength: float, seed: int) -> SklearnSubject:
    """Weights disturbed at each loading."""
    return loading(Jittered(strength), seed)


def drawn_rows(strength: float, seed: int) -> SklearnSubject:
    """Test rows drawn at each loading."""
    return loading(LogisticRegression(), seed, exchanged=strength)


def unstable(strength: float, seed: int) -> SklearnSubject:
    """A tree that sees a part of the rows, another one for each seed."""
    return loading(Partial(strength, random_state=seed), seed)


def untold(strength: float, seed: int) -> SklearnSubject:
    """A model trained on other labels than those it is said to be trained on."""
    return loading(Partial(0.1, random_state=seed), seed, flipped=strength)


def loose(strength: float, seed: int) -> SklearnSubject:
    """A system of which so many parts, drawn by the seed, are not fixed."""
    lost = set(np.random.default_rng(seed).permutation(5)[: int(strength)].tolist())
    train, test = halves(seed)
    x, y = cancer()
    splits = {"train": split("train", train), "test": split("test", test)}
    if 0 in lost:
        del splits["train"]
    origin = Origin(
        files={} if 1 in lost else {"model.pkl": Path("model.pkl")},
        dependencies={"requirements.txt": "numpy\n" if 2 in lost else "numpy==2.0.0\n"},
        revision=None if 3 in lost else "a" * 40,
        modified=None if 3 in lost else 4 in lost,
    )
    return SklearnSubject(LogisticRegression().fit(x[train], y[train]), Task.BINARY, ("0", "1"), splits, origin=origin)


DEFECTS = (
    Defect(
        check="auditability.reproducibility",
        name="weights drawn anew at each loading",
        unit="noise, in standard deviations of the weights",
        strengths=(0, 0.003, 0.03, 0.3),
        make=drawn_weights,
        target={"metric": "prediction_agreement", "at_least": 1},
        params={"refits": 0},
        named=0.3,
    ),
    Defect(
        check="auditability.reproducibility",
        name="test rows drawn anew at each loading",
        unit="share of rows",
        strengths=(0, 0.01, 0.1),
        make=drawn_rows,
        target={"metric": "changed_digests", "at_most": 0},
        params={"refits": 0},
        named=0.01,
    ),
    Defect(
        check="auditability.reproducibility",
        name="training takes no notice of its seed",
        unit="noise, in standard deviations of the weights",
        strengths=(0, 0.0001, 0.01),
        make=drawn_weights,
        target={"metric": "training_score_difference", "at_most": 0},
        params={"refits": 3},
        named=0.0001,
    ),
    Defect(
        check="auditability.reproducibility",
        name="models of different seeds differ",
        unit="share of training rows that a seed leaves out",
        strengths=(0, 0.1, 0.5, 0.9),
        make=unstable,
        target={"metric": "churn", "at_most": 0.02},
        params={"refits": 10},
        named=0.5,
    ),
    Defect(
        check="auditability.reproducibility",
        name="the assessed model was trained on other labels than is said",
        unit="share of labels",
        strengths=(0, 0.1, 0.3, 0.5),
        make=untold,
        target={"metric": "churn_from_assessed", "at_most": 0.1},
        named=0.3,
    ),
    Defect(
        check="auditability.provenance",
        name="parts that may change unseen",
        unit="parts",
        strengths=(0, 1, 2, 3),
        make=loose,
        target={"metric": "fixed_share", "at_least": 1},
        named=1,
    ),
)
