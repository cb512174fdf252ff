"""Defects of data, planted: codes, copies, contradictions, leaks, wrong labels, drift, missing groups."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from _frame import Defect
from sklearn import datasets
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import Split, Subject, Task
from assessor.subjects.sklearn_estimator import SklearnSubject

LOADERS = {
    "cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
    "wine": datasets.load_wine,
}


@cache
def loaded(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of one of scikit-learn's data sets, without the columns of digits that never vary."""
    data: Any = LOADERS[name]()
    varies = np.ptp(data.data, axis=0) > 0
    labels = data.target.astype(np.float64 if name == "diabetes" else np.int64)
    return data.data[:, varies].astype(np.float64), labels


def parts(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train features and labels, test features and labels: two thirds and one third of the rows, drawn anew."""
    x, y = loaded(name)
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[: len(y) * 2 // 3], order[len(y) * 2 // 3 :]
    return x[train].copy(), y[train].copy(), x[test].copy(), y[test].copy()


def subject(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    fitted: bool = False,
    attributes: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> Subject:
    """A model on these data: a logistic regression, or one that looks at nothing where only data are checked."""
    (x, y), (other, wanted) = train, test
    classify = y.dtype.kind == "i"
    model: Any = DummyClassifier() if classify else DummyRegressor()
    if fitted:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(np.zeros((len(y), 1)) if not fitted else x, y)
    classes = tuple(map(str, model.classes_)) if classify else ()
    task = (Task.BINARY if len(classes) == 2 else Task.MULTICLASS) if classify else Task.REGRESSION
    frames = attributes or (None, None)
    splits = {
        "train": Split("train", y, "train", x, attributes=frames[0]),
        "test": Split("test", wanted, "test", other, attributes=frames[1]),
    }
    return SklearnSubject(model, task, classes, splits)


def some(count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows, each with this probability."""
    return np.flatnonzero(rng.random(count) < share)


# --- quality ---------------------------------------------------------------------------------------------------------


def coded(strength: float, seed: int) -> Subject:
    """-999 in one of ten columns of a row."""
    return _spoilt(strength, seed, -999.0)


def missing(strength: float, seed: int) -> Subject:
    """Nothing in one of ten columns of a row."""
    return _spoilt(strength, seed, np.nan)


def _spoilt(strength: float, seed: int, value: float) -> Subject:
    x, y, other, wanted = parts("cancer", seed)
    rng = np.random.default_rng([seed, 1])
    rows = some(len(x), strength, rng)
    x[rows, rng.integers(0, 10, len(rows))] = value
    return subject((x, y), (other, wanted))


def copied(strength: float, seed: int) -> Subject:
    """Training rows that repeat another one; the share is that of the rows afterwards."""
    x, y, other, wanted = parts("digits", seed)
    rng = np.random.default_rng([seed, 1])
    rows = rng.choice(len(x), size=rng.binomial(len(x), strength / (1 - strength)))
    order = rng.permutation(len(x) + len(rows))
    return subject((np.concatenate([x, x[rows]])[order], np.concatenate([y, y[rows]])[order]), (other, wanted))


def contradicted(strength: float, seed: int) -> Subject:
    """Training rows, of which a share is there a second time with another label; the floor is a share of all rows."""
    x, y, other, wanted = parts("digits", seed)
    rng = np.random.default_rng([seed, 1])
    rows = rng.permutation(len(x))[: rng.binomial(len(x), strength / (1 - strength))]
    changed = (y[rows] + rng.integers(1, 10, len(rows))) % 10
    return subject((np.concatenate([x, x[rows]]), np.concatenate([y, changed])), (other, wanted))


# --- leakage ---------------------------------------------------------------------------------------------------------


def overlapping(strength: float, seed: int) -> Subject:
    """Test rows replaced by training rows."""
    return _twins(strength, seed, 0.0)


def nearly_overlapping(strength: float, seed: int) -> Subject:
    """Test rows replaced by training rows with noise of half a hundredth of a standard deviation."""
    return _twins(strength, seed, 0.005)


def _twins(strength: float, seed: int, noise: float) -> Subject:
    x, y, other, wanted = parts("cancer", seed)
    rng = np.random.default_rng([seed, 1])
    rows = some(len(other), strength, rng)
    source = rng.choice(len(x), size=len(rows), replace=False)
    other[rows] = x[source] + noise * x.std(axis=0) * rng.standard_normal((len(rows), x.shape[1]))
    wanted[rows] = y[source]
    return subject((x, y), (other, wanted), fitted=True)


def shifted_pictures(strength: float, seed: int) -> Subject:
    """Test pictures replaced by training pictures, brighter and moved by a pixel."""
    data: Any = datasets.load_digits()
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(data.target))
    train, test = order[:1200], order[1200:]
    pictures, labels = data.images[test].copy(), data.target[test].astype(np.int64).copy()
    rows = some(len(test), strength, rng)
    source = rng.choice(1200, size=len(rows), replace=False)
    pictures[rows] = 1.1 * np.roll(data.images[train][source], 1, axis=2) + 0.5
    labels[rows] = data.target[train][source]
    return subject((data.images[train], data.target[train].astype(np.int64)), (pictures, labels))


def telling(strength: float, seed: int) -> Subject:
    """One more column that is the label in a share of the rows, else drawn at random, with a little noise."""
    return _telling("digits", strength, seed)


def telling_value(strength: float, seed: int) -> Subject:
    """One more column that is the target in a share of the rows, else another row's target."""
    return _telling("diabetes", strength, seed)


def _telling(name: str, strength: float, seed: int) -> Subject:
    x, y, other, wanted = parts(name, seed)
    rng = np.random.default_rng([seed, 1])

    def column(labels: np.ndarray) -> np.ndarray:
        found = np.where(rng.random(len(labels)) < strength, labels, rng.permutation(labels))
        return found + 0.01 * rng.standard_normal(len(labels))

    joined = (np.column_stack([x, column(y)]), np.column_stack([other, column(wanted)]))
    return subject((joined[0], y), (joined[1], wanted))


def same_persons(strength: float, seed: int) -> Subject:
    """Test rows of persons who are in the training data too; every person has three rows."""
    x, y, other, wanted = parts("cancer", seed)
    rng = np.random.default_rng([seed, 1])
    persons = np.arange(len(y)) // 3
    people = 10_000 + np.arange(len(wanted)) // 3
    chosen = np.unique(people)[some(len(np.unique(people)), strength, rng)]
    people = np.where(np.isin(people, chosen), people - 10_000, people)
    frames = (pd.DataFrame({"person": persons}), pd.DataFrame({"person": people}))
    return subject((x, y), (other, wanted), attributes=frames)


# --- label noise -----------------------------------------------------------------------------------------------------


def mislabelled(name: str) -> Callable[[float, int], Subject]:
    """Training labels changed to another class at random."""

    def make(strength: float, seed: int) -> Subject:
        x, y, other, wanted = parts(name, seed)
        return subject((x, _changed(y, strength, seed)), (other, wanted), fitted=True)

    return make


def mislabelled_test(strength: float, seed: int) -> Subject:
    """Test labels changed to another class at random."""
    x, y, other, wanted = parts("digits", seed)
    return subject((x, y), (other, _changed(wanted, strength, seed)), fitted=True)


def _changed(labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    rng, classes = np.random.default_rng([seed, 1]), int(labels.max()) + 1
    rows = some(len(labels), strength, rng)
    found = labels.copy()
    found[rows] = (found[rows] + rng.integers(1, classes, len(rows))) % classes
    return found


# --- drift -----------------------------------------------------------------------------------------------------------


def moved_column(strength: float, seed: int) -> Subject:
    """One test column moved by so many standard deviations, as a changed unit or sensor would."""
    x, y, other, wanted = parts("cancer", seed)
    other[:, 1] += strength * x[:, 1].std()
    return subject((x, y), (other, wanted))


def mixed_in(strength: float, seed: int) -> Subject:
    """Test rows from another source: every column moved by one standard deviation, up or down."""
    x, y, other, wanted = parts("cancer", seed)
    rng = np.random.default_rng([seed, 1])
    rows = some(len(other), strength, rng)
    other[rows] += x.std(axis=0) * np.where(np.arange(x.shape[1]) % 2, 1, -1)
    return subject((x, y), (other, wanted))


def turned_apart(strength: float, seed: int) -> Subject:
    """Two columns of five that are independent in training and correlated in the test; none moves by itself."""
    rng = np.random.default_rng([seed, 1])
    x, other = rng.standard_normal((800, 5)), rng.standard_normal((400, 5))
    other[:, 1] = strength * other[:, 0] + np.sqrt(1 - strength**2) * other[:, 1]
    return subject((x, rng.integers(0, 2, 800)), (other, rng.integers(0, 2, 400)))


def other_labels(strength: float, seed: int) -> Subject:
    """A share of the test rows of one class replaced by rows of the other."""
    x, y, other, wanted = parts("cancer", seed)
    rng = np.random.default_rng([seed, 1])
    ones, zeros = np.flatnonzero(wanted == 1), np.flatnonzero(wanted == 0)
    rows = ones[some(len(ones), strength, rng)]
    source = rng.choice(zeros, size=len(rows))
    other[rows], wanted[rows] = other[source], 0
    return subject((x, y), (other, wanted))


# --- representation --------------------------------------------------------------------------------------------------


def thinned(strength: float, seed: int) -> Subject:
    """People over 60, who should be a quarter of the rows, left out with this probability."""
    x, y, other, wanted = parts("cancer", seed)
    rng = np.random.default_rng([seed, 1])
    frames = []
    for count in (len(y), len(wanted)):
        left = 0.25 * (1 - strength)
        old = rng.random(count) < left / (0.75 + left)
        frames.append(pd.DataFrame({"age": np.where(old, "over 60", "up to 60")}))
    return subject((x, y), (other, wanted), attributes=(frames[0], frames[1]))


DEFECTS: tuple[Defect, ...] = (
    Defect(
        "data.quality",
        "-999 written for a missing value",
        "share of training rows",
        (0, 0.01, 0.02, 0.05, 0.1),
        coded,
        {"metric": "affected_share", "at_most": 0.02},
        named=0.1,
    ),
    Defect(
        "data.quality",
        "values missing",
        "share of training rows",
        (0, 0.01, 0.02, 0.05, 0.1),
        missing,
        {"metric": "missing_share", "at_most": 0.02},
        named=0.1,
    ),
    Defect(
        "data.quality",
        "rows copied within training",
        "share of training rows",
        (0, 0.01, 0.02, 0.05, 0.1),
        copied,
        {"metric": "duplicate_share", "at_most": 0.02},
        named=0.05,
    ),
    Defect(
        "data.quality",
        "same inputs, other labels",
        "least error",
        (0, 0.01, 0.02, 0.05, 0.1),
        contradicted,
        {"metric": "error_floor", "at_most": 0.02},
        named=0.05,
    ),
    Defect(
        "data.leakage",
        "test rows that training has seen",
        "share of test rows",
        (0, 0.02, 0.05, 0.1, 0.2),
        overlapping,
        {"metric": "twin_share", "at_most": 0.02},
        named=0.1,
    ),
    Defect(
        "data.leakage",
        "test rows that training has all but seen",
        "share of test rows",
        (0, 0.02, 0.05, 0.1, 0.2),
        nearly_overlapping,
        {"metric": "twin_share", "at_most": 0.02},
        named=0.1,
    ),
    Defect(
        "data.leakage",
        "pictures that training has seen, moved and brighter",
        "share of test rows",
        (0, 0.02, 0.05, 0.1, 0.2),
        shifted_pictures,
        {"metric": "twin_share", "at_most": 0.02},
        named=0.1,
    ),
    Defect(
        "data.leakage",
        "a column that holds the class",
        "share of rows where it does",
        (0, 0.5, 0.8, 0.9, 1),
        telling,
        {"metric": "best_single_feature", "at_most": 0.9},
        named=0.9,
    ),
    Defect(
        "data.leakage",
        "a column that holds the target",
        "share of rows where it does",
        (0, 0.5, 0.9, 0.99, 1),
        telling_value,
        {"metric": "best_single_feature", "at_most": 0.8},
        named=0.99,
    ),
    Defect(
        "data.leakage",
        "persons in training and test",
        "share of test persons",
        (0, 0.02, 0.05, 0.1, 0.2),
        same_persons,
        {"metric": "group_overlap_share", "at_most": 0.02},
        params={"group": "person"},
        named=0.2,
    ),
    Defect(
        "data.label_noise",
        "training labels wrong, two classes",
        "share of training rows",
        (0, 0.02, 0.05, 0.1, 0.2),
        mislabelled("cancer"),
        {"metric": "noise_rate_train", "at_most": 0.04},
        params={"splits": ("train",)},
        named=0.1,
    ),
    Defect(
        "data.label_noise",
        "training labels wrong, ten classes",
        "share of training rows",
        (0, 0.02, 0.05, 0.1, 0.2),
        mislabelled("digits"),
        {"metric": "noise_rate_train", "at_most": 0.04},
        params={"splits": ("train",)},
        named=0.1,
    ),
    Defect(
        "data.label_noise",
        "test labels wrong, ten classes",
        "share of test rows",
        (0, 0.02, 0.05, 0.1, 0.2),
        mislabelled_test,
        {"metric": "noise_rate_test", "at_most": 0.04},
        params={"splits": ("test",)},
        named=0.1,
    ),
    Defect(
        "data.drift",
        "one column of 30 moved",
        "standard deviations",
        (0, 0.25, 0.5, 1, 2),
        moved_column,
        {"metric": "largest_feature_shift_test", "at_most": 0.1},
        named=1,
    ),
    Defect(
        "data.drift",
        "one column of 30 moved, seen jointly",
        "standard deviations",
        (0, 0.25, 0.5, 1, 2),
        moved_column,
        {"metric": "joint_auc_test", "at_most": 0.6},
        named=1,
    ),
    Defect(
        "data.drift",
        "test rows from another source",
        "share of test rows",
        (0, 0.1, 0.25, 0.5, 0.75),
        mixed_in,
        {"metric": "joint_auc_test", "at_most": 0.6},
        named=0.5,
    ),
    Defect(
        "data.drift",
        "two columns correlated that were not",
        "correlation",
        (0, 0.25, 0.5, 0.75, 0.95),
        turned_apart,
        {"metric": "joint_auc_test", "at_most": 0.6},
        named=0.75,
    ),
    Defect(
        "data.drift",
        "another mix of classes",
        "share of a class replaced",
        (0, 0.1, 0.25, 0.5, 0.75),
        other_labels,
        {"metric": "label_change_test", "at_most": 0.1},
        named=0.5,
    ),
    Defect(
        "data.representation",
        "a group left out",
        "share of the group",
        (0, 0.25, 0.5, 0.75, 1),
        thinned,
        {"metric": "smallest_ratio", "at_least": 0.8},
        params={"reference": {"age": {"over 60": 0.25, "up to 60": 0.75}}},
        named=0.75,
    ),
)
