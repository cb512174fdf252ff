"""Planted unfairness: gaps between groups, in combinations of attributes only, in calibration, errors and data.

Targets of 0 hold the checks' level itself: on a clean twin any alarm is false. Others are as users would set them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from _frame import Defect
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import Split, Subject, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject

BASE = 0.3  # rate of favourable decisions of a clean twin
QUICK = {"permutations": 199}


def table(
    attributes: dict[str, np.ndarray],
    labels: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray | None = None,
) -> Subject:
    """A table of predictions; of a regression where labels are no whole numbers."""
    regression = labels.dtype.kind == "f"
    split = Split(name="test", labels=labels, sha256="planted", attributes=pd.DataFrame(attributes))
    both = {} if scores is None else {"test": np.stack([1 - scores, scores], axis=1)}
    task, classes = (Task.REGRESSION, ()) if regression else (Task.BINARY, ("no", "yes"))
    return PredictionsSubject(task, classes, {"test": split}, {"test": predicted}, both)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return np.asarray(1 / (1 + np.exp(-values)))


def fewer_hits(strength: float, seed: int) -> Subject:
    """Four uneven groups, n = 1200; the second largest is found less often among those who deserve it."""
    rng = np.random.default_rng(seed)
    group, labels = rng.choice(4, 1200, p=[0.4, 0.3, 0.2, 0.1]), rng.integers(0, 2, 1200)
    rate = np.where(labels == 1, 0.8 - strength * (group == 1), 0.2)
    return table({"site": group}, labels, (rng.random(1200) < rate).astype(np.int64))


def fewer_favours(strength: float, seed: int) -> Subject:
    """Two attributes, n = 1000; women get fewer favourable decisions."""
    rng = np.random.default_rng(seed)
    sex, age = rng.choice(["f", "m"], 1000), rng.choice(["old", "young"], 1000, p=[0.3, 0.7])
    chosen = rng.random(1000) < BASE + strength * (sex == "m")
    return table({"sex": sex, "age": age}, rng.integers(0, 2, 1000), chosen.astype(np.int64))


def one_combination(strength: float, seed: int) -> Subject:
    """Three attributes, n = 2000; one in eight combinations is chosen more often, single attributes hardly show it."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.integers(0, 2, (3, 2000))
    chosen = rng.random(2000) < BASE + strength * (a & b & c)
    return table({"sex": a, "age": b, "origin": c}, rng.integers(0, 2, 2000), chosen.astype(np.int64))


def bent_by_age(strength: float, seed: int) -> Subject:
    """Of 600 rows: scores of the youngest and the oldest differ from those in between, without any straight trend."""
    rng = np.random.default_rng(seed)
    age, noise = rng.uniform(20, 70, 600), rng.standard_normal(600)
    scores = sigmoid(noise + strength * 3 * (np.abs(age - 45) / 25 - 0.5))
    return table({"age": age}, rng.integers(0, 2, 600), (scores > 0.5).astype(np.int64), scores)


def exclusive_or(strength: float, seed: int) -> Subject:
    """Of 600 rows: scores are higher where exactly one of two attributes holds: neither alone shows anything."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, (2, 600))
    scores = sigmoid(rng.standard_normal(600) + strength * (a ^ b))
    return table({"sex": a, "origin": b}, rng.integers(0, 2, 600), (scores > 0.5).astype(np.int64), scores)


def moody(strength: float, seed: int) -> Subject:
    """Breast cancer data; so many decisions of a sound model are turned round at random."""
    features, labels = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    train, test = order[:200], order[200:]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[train], labels[train])
    said = model.predict(features[test])
    said = np.where(rng.random(len(said)) < strength, 1 - said, said)
    split = Split(name="test", labels=labels[test].astype(np.int64), sha256="planted", features=features[test])
    return PredictionsSubject(Task.BINARY, ("0", "1"), {"test": split}, {"test": said}, {})


def trained_on_sex(strength: float, seed: int) -> Subject:
    """Of 600 rows: a model trained on labels that depend on sex, with sex among its features."""
    rng = np.random.default_rng(seed)
    features = np.column_stack([rng.integers(0, 2, 1200), rng.standard_normal((1200, 3))])
    pull = features[:, 1] + features[:, 2] + strength * 2 * (features[:, 0] - 0.5)
    labels = (rng.random(1200) < sigmoid(2 * pull)).astype(np.int64)
    model = LogisticRegression().fit(features[:600], labels[:600])
    split = Split(
        name="test",
        labels=labels[600:],
        sha256="planted",
        features=features[600:],
        feature_names=("sex", "income", "years", "debt"),
        attributes=pd.DataFrame({"sex": features[600:, 0].astype(int)}),
    )
    return SklearnSubject(model, Task.BINARY, ("0", "1"), {"test": split})


def biased_data(labels_turned: float, gaps: float, shift: float, seed: int) -> Subject:
    """Breast cancer data with a made-up attribute; in its second group labels, gaps or a feature are changed."""
    features, labels = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(seed)
    second = rng.random(len(labels)) < 0.4
    labels = np.where(second & (rng.random(len(labels)) < labels_turned), 0, labels).astype(np.int64)
    features = features / features.std(axis=0)
    features[:, 0] += shift * second
    features[rng.random(len(labels)) < 0.05 + gaps * second, 1] = np.nan
    split = Split(
        name="test",
        labels=labels,
        sha256="planted",
        features=features[:, :6],
        feature_names=tuple("abcdef"),
        attributes=pd.DataFrame({"site": np.where(second, "b", "a")}),
    )
    return PredictionsSubject(Task.BINARY, ("0", "1"), {"test": split}, {"test": labels}, {})


def turned_labels(strength: float, seed: int) -> Subject:
    """So many favourable labels of one group are turned."""
    return biased_data(strength, 0.0, 0.0, seed)


def gone_values(strength: float, seed: int) -> Subject:
    """So many more values of a feature are missing in one group."""
    return biased_data(0.0, strength, 0.0, seed)


def given_away(strength: float, seed: int) -> Subject:
    """A feature shifted by so many standard deviations in one group."""
    return biased_data(0.0, 0.0, strength, seed)


def other_meaning(strength: float, seed: int) -> Subject:
    """Of 1500 rows, three groups with other scores: in the second the event comes more often than the score says."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, 1500, p=[0.5, 0.35, 0.15])
    scores = sigmoid(rng.standard_normal(1500) + 0.7 * (group - 1))
    came = rng.random(1500) < np.clip(scores + strength * (group == 1), 0, 1)
    return table({"site": group}, came.astype(np.int64), (scores > 0.5).astype(np.int64), scores)


def crossing_curves(strength: float, seed: int) -> Subject:
    """Of 1500 rows: in one group low scores are too low and high ones too high, so that on average nothing differs."""
    rng = np.random.default_rng(seed)
    group, scores = rng.integers(0, 2, 1500), rng.uniform(0.05, 0.95, 1500)
    came = rng.random(1500) < np.where(group == 1, scores + strength * (1 - 2 * scores), scores)
    return table({"site": group}, came.astype(np.int64), (scores > 0.5).astype(np.int64), scores)


def predicted_low(strength: float, seed: int) -> Subject:
    """Diabetes data; one of three made-up groups is predicted too low by so many standard deviations of the target."""
    features, target = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(seed)
    group, order = rng.choice(3, len(target), p=[0.5, 0.3, 0.2]), rng.permutation(len(target))
    said = np.empty(len(target))
    for train, test in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        said[test] = LinearRegression().fit(features[train], target[train]).predict(features[test])
    return table({"site": group}, target, said - strength * target.std() * (group == 1))


def less_exact(strength: float, seed: int) -> Subject:
    """Of 600 rows: errors of one of two groups are larger by this share, heavy tails included."""
    rng = np.random.default_rng(seed)
    group, target = rng.integers(0, 2, 600), rng.standard_normal(600) * 10
    return table({"sex": group}, target, target + rng.laplace(size=600) * (1 + strength * group))


def at_most(metric: str, value: float) -> dict[str, Any]:
    """A target."""
    return {"metric": metric, "at_most": value}


DEFECTS: tuple[Defect, ...] = (
    Defect(
        "fairness.group_metrics", "one of four groups found less often (true positive rate)", "difference of rates",
        (0.0, 0.1, 0.2, 0.3), fewer_hits, at_most("equalized_odds_difference", 0.0), QUICK, named=0.2, repeats=100,
    ),
    Defect(
        "fairness.group_metrics", "women chosen less often", "difference of rates",
        (0.0, 0.05, 0.15, 0.25), fewer_favours, at_most("demographic_parity_difference", 0.05),
        {**QUICK, "metric": "demographic_parity_difference"}, named=0.25, repeats=60,
    ),
    Defect(
        "fairness.intersectional", "one of eight combinations chosen more often", "difference of rates",
        (0.0, 0.1, 0.15, 0.2), one_combination, at_most("worst_subgroup_gap", 0.0), QUICK, named=0.2, repeats=100,
    ),
    Defect(
        "fairness.distance_covariance", "score bent by age, no straight trend", "standard deviations of the logit",
        (0.0, 0.2, 0.4, 0.6), bent_by_age, at_most("distance_correlation", 0.0), QUICK, named=0.4, repeats=100,
    ),
    Defect(
        "fairness.distance_covariance", "score higher where one of two attributes holds", "shift of the logit",
        (0.0, 0.2, 0.4, 0.6), exclusive_or, at_most("joint_distance_correlation", 0.0), QUICK, named=0.4, repeats=100,
    ),
    Defect(
        "fairness.individual_consistency", "decisions turned round at random (breast cancer)", "share of rows",
        (0.0, 0.02, 0.05, 0.1, 0.15), moody, {"metric": "consistency", "at_least": 0.85}, named=0.15, repeats=40,
    ),
    Defect(
        "fairness.counterfactual_flip", "labels of the training data depend on sex", "shift of the logit",
        (0.0, 0.1, 0.2, 0.4), trained_on_sex, at_most("flip_rate", 0.1), named=0.4, repeats=40,
    ),
    Defect(
        "fairness.data_bias", "favourable labels of one group turned (breast cancer)", "share of its labels",
        (0.0, 0.1, 0.2, 0.3), turned_labels, at_most("label_rate_difference", 0.0), QUICK, named=0.3, repeats=60,
    ),
    Defect(
        "fairness.data_bias", "values missing more often in one group (breast cancer)", "difference of shares",
        (0.0, 0.05, 0.1, 0.15), gone_values, at_most("missingness_difference", 0.0), QUICK, named=0.15, repeats=60,
    ),
    Defect(
        "fairness.data_bias", "a feature that gives a group away (breast cancer)", "standard deviations",
        (0.0, 0.25, 0.5, 1.0), given_away, at_most("strongest_proxy", 0.15), QUICK, named=1.0, repeats=60,
    ),
    Defect(
        "fairness.calibration_by_group", "event comes more often in one of three groups at equal score",
        "difference of shares", (0.0, 0.05, 0.1, 0.15), other_meaning, at_most("calibration_difference", 0.0), QUICK,
        named=0.1, repeats=100,
    ),
    Defect(
        "fairness.calibration_by_group", "curves of two groups cross", "largest difference of shares",
        (0.0, 0.1, 0.2, 0.3), crossing_curves, at_most("worst_group_ece", 0.05), QUICK, named=0.3, repeats=60,
    ),
    Defect(
        "fairness.regression_parity", "one of three groups predicted too low (diabetes)",
        "standard deviations of the target", (0.0, 0.1, 0.2, 0.4), predicted_low,
        at_most("mean_error_difference", 0.0), QUICK, named=0.4, repeats=100,
    ),
    Defect(
        "fairness.regression_parity", "one of two groups predicted less exactly", "larger mean absolute error, share",
        (0.0, 0.2, 0.4, 0.8), less_exact, at_most("mae_difference", 0.0), QUICK, named=0.4, repeats=100,
    ),
)  # fmt: skip
