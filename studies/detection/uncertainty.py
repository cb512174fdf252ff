"""Planted faults of uncertainty: probabilities too sure, sets that miss the truth, confidence that says nothing.

Targets at the clean twin's own value hold the checks' level itself; others are as users would set them.
"""

from __future__ import annotations

import numpy as np
from _frame import Defect
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assessor.contract import Split, Subject, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks.uncertainty._classwise import best_temperature

QUICK = {"replicates": 300}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows that sum to 1."""
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def table(labels: np.ndarray, scores: np.ndarray) -> Subject:
    """A classifier known by its probabilities."""
    classes = tuple(f"c{i}" for i in range(scores.shape[1]))
    split = Split(name="test", labels=labels.astype(np.int64), sha256="planted")
    task = Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    return PredictionsSubject(task, classes, {"test": split}, {"test": scores.argmax(axis=1)}, {"test": scores})


def values(labels: np.ndarray, predicted: np.ndarray, features: np.ndarray) -> Subject:
    """A regression known by its predictions."""
    split = Split(name="test", labels=labels, sha256="planted", features=features)
    return PredictionsSubject(Task.REGRESSION, (), {"test": split}, {"test": predicted}, {})


def drawn(rng: np.random.Generator, scores: np.ndarray) -> np.ndarray:
    """Classes drawn from probabilities (n, C)."""
    return np.asarray((scores.cumsum(axis=1) < rng.random((len(scores), 1))).sum(axis=1))


def too_sure(strength: float, seed: int) -> Subject:
    """Three classes, n = 1000; the logits are 1 + strength times what is true."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((1000, 3))
    return table(drawn(rng, softmax(logits)), softmax((1 + strength) * logits))


def one_class_off(strength: float, seed: int) -> Subject:
    """Five classes, n = 1500; the last one's logit is too high, which the most probable class hardly shows."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((1500, 5)) + np.array([1.5, 1, 0.5, 0, -1])
    return table(drawn(rng, softmax(logits)), softmax(logits + strength * np.array([0, 0, 0, 0, 1])))


def sharpened_digits(strength: float, seed: int) -> Subject:
    """Handwritten digits, a regression from 120 of them; its logits are stretched after temperature scaling."""
    x, y = load_digits(return_X_y=True)
    parts = np.split(np.random.default_rng(seed).permutation(len(x)), [120, 620])
    model = LogisticRegression(C=0.3, max_iter=300).fit(x[parts[0]] / 16, y[parts[0]])
    right = best_temperature(np.log(model.predict_proba(x[parts[1]] / 16)), y[parts[1]])
    assert right is not None
    stretch = (1 + strength) / right
    model.coef_, model.intercept_ = stretch * model.coef_, stretch * model.intercept_
    split = Split(name="test", labels=y[parts[2]].astype(np.int64), sha256="planted", features=x[parts[2]] / 16)
    return SklearnSubject(model, Task.MULTICLASS, tuple(map(str, range(10))), {"test": split})


def noisy_corner(strength: float, seed: int) -> Subject:
    """A regression, n = 2000; its errors are 1 + strength times larger in a sixth of the field."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2000, 4))
    noise = rng.standard_normal(2000) * np.where(x[:, 2] > 1, 1 + strength, 1)
    return values(x[:, 0] + noise, x[:, 0], x)


def neglected_class(strength: float, seed: int) -> Subject:
    """Four classes, n = 1600; the logit of one of them is lowered, so that sets leave it out."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 1600)
    logits = 3 * np.eye(4)[labels] + 1.5 * rng.standard_normal((1600, 4))
    return table(labels, softmax(logits - strength * np.eye(4)[3]))


def growing_errors(strength: float, seed: int) -> Subject:
    """A regression, n = 600 in order of time; errors grow to 1 + strength times their size."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(600) * np.linspace(1, 1 + strength, 600)
    return values(noise, np.zeros(600), np.arange(600.0)[:, None])


def blind_confidence(strength: float, seed: int) -> Subject:
    """Two classes, n = 1000, a fifth of them wrong; with strength 1 confidence says nothing of it."""
    rng = np.random.default_rng(seed)
    sure = 0.5 + 0.5 * rng.beta(2, 1, 1000)
    known = rng.random(1000) < 1.2 * (1 - sure)
    wrong = np.where(rng.random(1000) < strength, rng.random(1000) < 0.2, known)
    return table(wrong.astype(int), np.stack([sure, 1 - sure], axis=1))


def confident_mistakes(strength: float, seed: int) -> Subject:
    """Two classes, n = 1000; a share of rows is decided wrongly with the greatest confidence."""
    rng = np.random.default_rng(seed)
    sure = 0.5 + 0.49 * rng.beta(2, 1, 1000)
    wrong = rng.random(1000) < 0.8 * (1 - sure)
    planted = rng.random(1000) < strength
    return table((wrong | planted).astype(int), np.where(planted, 0.999, sure)[:, None] * [1, -1] + [0, 1])


DEFECTS: tuple[Defect, ...] = (
    Defect(
        check="uncertainty.calibration",
        name="logits stretched: the model is too sure",
        unit="share by which logits are stretched",
        strengths=(0, 0.25, 0.5, 1),
        make=too_sure,
        target={"metric": "ece", "at_most": 0.0},
        params=QUICK,
        named=0.5,
    ),
    Defect(
        check="uncertainty.calibration",
        name="logits of handwritten digits stretched",
        unit="share by which logits are stretched",
        strengths=(0, 0.5, 1, 2),
        make=sharpened_digits,
        target={"metric": "ece", "at_most": 0.03},
        params={"replicates": 200},
        named=1,
    ),
    Defect(
        check="uncertainty.calibration",
        name="one rare class stated too often",
        unit="logits",
        strengths=(0, 0.5, 1, 1.5),
        make=one_class_off,
        target={"metric": "classwise_ece", "at_most": 0.0},
        params={"replicates": 200},
        named=1,
    ),
    Defect(
        check="uncertainty.conformal_coverage",
        name="errors larger in a corner of the field",
        unit="share by which errors are larger",
        strengths=(0, 1, 2, 4),
        make=noisy_corner,
        target={"metric": "worst_slab_coverage", "at_least": 0.8},
        named=2,
    ),
    Defect(
        check="uncertainty.conformal_coverage",
        name="a class that sets leave out",
        unit="logits",
        strengths=(0, 1, 2, 3),
        make=neglected_class,
        target={"metric": "worst_class_coverage", "at_least": 0.8},
        named=3,
    ),
    Defect(
        check="uncertainty.conformal_coverage",
        name="errors grow over time",
        unit="share by which errors grow",
        strengths=(0, 0.5, 1, 2),
        make=growing_errors,
        target={"metric": "coverage", "at_least": 0.85},
        params={"order": "in_order"},
        named=1,
    ),
    Defect(
        check="uncertainty.selective_risk",
        name="confidence says nothing of errors",
        unit="share of rows",
        strengths=(0, 0.5, 0.75, 1),
        make=blind_confidence,
        target={"metric": "rejection_ratio", "at_least": 0.3},
        named=1,
    ),
    Defect(
        check="uncertainty.selective_risk",
        name="mistakes of the greatest confidence",
        unit="share of rows",
        strengths=(0, 0.02, 0.05, 0.1),
        make=confident_mistakes,
        target={"metric": "excess_aurc", "at_most": 0.12},
        named=0.05,
    ),
)
