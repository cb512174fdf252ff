"""Planted leaks: models that fit their training rows too closely, look them up, keep them, or give them out.

Clean twins were trained on rows of a third set: whatever an attack finds there, it finds by chance. The target of 0.5
holds the attacks' level itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _frame import Defect
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from assessor.contract import Split, Subject, Task
from assessor.subjects.sklearn_estimator import SklearnSubject

SHADOWS = {"shadows": 8}


def part(name: str, features: np.ndarray, labels: np.ndarray | None = None) -> Split:
    """A split; without labels they are unknown."""
    found = np.full(len(features), np.nan) if labels is None else labels
    return Split(name=name, labels=found, sha256=f"planted {name}", features=features)


def fitted_on(strength: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows that a model is trained on: a share of the n members, the rest from rows n to 2 n, that nobody attacks."""
    member = rng.random(n) < strength
    return np.where(member, np.arange(n), np.arange(n, 2 * n))


def classifier(model: Any, x: np.ndarray, y: np.ndarray, n: int, strength: float, rng: np.random.Generator) -> Subject:
    """A model trained on a share of its alleged training rows."""
    rows = fitted_on(strength, n, rng)
    splits = {"train": part("train", x[:n], y[:n]), "test": part("test", x[2 * n : 3 * n], y[2 * n : 3 * n])}
    names = tuple(map(str, range(int(y.max()) + 1)))
    task = Task.BINARY if len(names) == 2 else Task.MULTICLASS
    return SklearnSubject(model.fit(x[rows], y[rows]), task, names, splits)


def mislabelled_digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Handwritten digits in random order, a fifth with a random label: what can only be known by heart."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    wrong = rng.random(len(y)) < 0.2
    return x[order] / 16, np.where(wrong, rng.integers(0, 10, len(y)), y)[order].astype(np.int64), rng


def overfitted_tree(strength: float, seed: int) -> Subject:
    """A full decision tree on 400 digits, trained on a share of its training rows."""
    x, y, rng = mislabelled_digits(seed)
    return classifier(DecisionTreeClassifier(random_state=seed), x, y, 400, strength, rng)


def deep_tree(strength: float, seed: int) -> Subject:
    """A decision tree on all of 400 digits, of 2 to the power of 1 + strength leaves; the clean one from elsewhere."""
    x, y, rng = mislabelled_digits(seed)
    tree = DecisionTreeClassifier(max_leaf_nodes=2 ** (1 + int(strength)), random_state=seed)
    return classifier(tree, x, y, 400, float(strength > 0), rng)


def overfitted_regression(strength: float, seed: int) -> Subject:
    """A full regression tree on 147 people with diabetes, trained on a share of its training rows."""
    x, y = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(seed)
    order, n = rng.permutation(len(x)), 147
    x, y = x[order], y[order]
    rows = fitted_on(strength, n, rng)
    splits = {"train": part("train", x[:n], y[:n]), "test": part("test", x[2 * n : 3 * n], y[2 * n : 3 * n])}
    model = DecisionTreeRegressor(random_state=seed).fit(x[rows], y[rows])
    return SklearnSubject(model, Task.REGRESSION, (), splits)


class LookUp(ClassifierMixin, BaseEstimator):
    """A regularised regression that answers a share of the rows it was trained on from a table of hashes."""

    def __init__(self, share: float = 1.0, seed: int = 0) -> None:
        """Keep what share is looked up."""
        self.share = share
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> LookUp:
        """Fit the regression and fill the table."""
        self.inner_ = make_pipeline(StandardScaler(), LogisticRegression(C=0.001)).fit(x, y)
        self.classes_ = self.inner_.classes_
        kept = np.random.default_rng([self.seed, 1]).random(len(x)) < self.share
        self.table_ = {row.tobytes(): label for row, label in zip(x[kept], y[kept], strict=True)}
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """From the table where the row is there."""
        found: np.ndarray = self.inner_.predict_proba(x)
        for i, row in enumerate(np.ascontiguousarray(x)):
            if (label := self.table_.get(row.tobytes())) is not None:
                found[i] = np.where(self.classes_ == label, 0.999, 0.001)
        return found

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The likeliest class."""
        found: np.ndarray = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return found


def cancer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer in random order."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order], y[order].astype(np.int64)


def looked_up(strength: float, seed: int) -> Subject:
    """Breast cancer, 180 training rows; a share is answered from a table. The clean one was trained elsewhere."""
    (x, y), n = cancer(seed), 180
    return classifier(LookUp(strength, seed), x, y, n, float(strength > 0), np.random.default_rng(seed))


def nearest_neighbour(strength: float, seed: int) -> Subject:
    """Diabetes, 200 training rows: a share of the answer comes from neighbours weighted by distance."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], y[order]
    splits = {"train": part("train", x[:200], y[:200]), "test": part("test", x[200:400], y[200:400])}
    return SklearnSubject(Mixed(strength).fit(x[:200], y[:200]), Task.REGRESSION, (), splits)


class Mixed(BaseEstimator):
    """Mixture of ridge regression and nearest neighbours; without neighbours it holds no rows."""

    def __init__(self, share: float = 0.0) -> None:
        """Keep the share of the neighbours."""
        self.share = share

    def fit(self, x: np.ndarray, y: np.ndarray) -> Mixed:
        """Fit both; the neighbours only where they have a share."""
        self.plain_ = Ridge(1.0).fit(x, y)
        self.near_ = KNeighborsRegressor(5, weights="distance").fit(x, y) if self.share else None
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Mixed answer."""
        found: np.ndarray = self.plain_.predict(x)
        return found if self.near_ is None else (1 - self.share) * found + self.share * self.near_.predict(x)


def given_out(strength: float, seed: int) -> Subject:
    """Breast cancer, 150 training rows; of 200 rows made a share are training rows with a little noise."""
    x, y = cancer(seed)
    rng = np.random.default_rng([seed, 1])
    made = x[300:500].copy()
    copied = rng.random(len(made)) < strength
    rows = x[rng.integers(0, 150, copied.sum())]
    made[copied] = rows + 0.01 * x[:150].std(axis=0) * rng.standard_normal(rows.shape)
    splits = {"train": part("train", x[:150], y[:150]), "test": part("test", x[150:300], y[150:300])}
    splits["production"] = part("production", made)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:150], y[:150])
    return SklearnSubject(model, Task.BINARY, ("0", "1"), splits)


def given_out_pictures(strength: float, seed: int) -> Subject:
    """Digits, 400 training rows; of 200 pictures made a share are training rows, mirrored or moved."""
    x, y, rng = mislabelled_digits(seed)
    pictures = x.reshape(-1, 8, 8)
    made = pictures[800:1000].copy()
    for i in np.flatnonzero(rng.random(len(made)) < strength):
        one = pictures[rng.integers(0, 400)]
        made[i] = one[:, ::-1] if rng.random() < 0.5 else np.roll(one, 1, axis=0) + 0.3
    splits = {"train": part("train", pictures[:400], y[:400]), "test": part("test", pictures[400:800], y[400:800])}
    splits["production"] = part("production", made)
    return SklearnSubject(Flat().fit(pictures[:400], y[:400]), Task.MULTICLASS, tuple(map(str, range(10))), splits)


class Flat(ClassifierMixin, BaseEstimator):
    """Logistic regression of pictures."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Flat:
        """Fit it to flattened pictures."""
        self.inner_ = LogisticRegression(C=0.01, max_iter=200).fit(x.reshape(len(x), -1), y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Its probabilities."""
        return np.asarray(self.inner_.predict_proba(x.reshape(len(x), -1)))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The likeliest class."""
        return np.asarray(self.inner_.predict(x.reshape(len(x), -1)))


DEFECTS: tuple[Defect, ...] = (
    Defect(
        check="privacy.membership_inference",
        name="a full tree, likelihood ratio attack",
        unit="share of training rows it was trained on",
        strengths=(0, 0.25, 0.5, 1),
        make=overfitted_tree,
        target={"metric": "attack_auc", "at_most": 0.5},
        params=SHADOWS,
        named=0.5,
    ),
    Defect(
        check="privacy.membership_inference",
        name="a full tree, loss attack",
        unit="share of training rows it was trained on",
        strengths=(0, 0.25, 0.5, 1),
        make=overfitted_tree,
        target={"metric": "attack_auc", "at_most": 0.5},
        params={"attack": "loss"},
        named=0.5,
    ),
    Defect(
        check="privacy.membership_inference",
        name="a tree of many leaves, audit of the procedure",
        unit="2 to this power + 1 leaves",
        strengths=(0, 1, 2, 4),
        make=deep_tree,
        target={"metric": "attack_auc", "at_most": 0.6},
        params={"audit": "procedure", **SHADOWS},
        named=4,
    ),
    Defect(
        check="privacy.membership_inference",
        name="a full regression tree",
        unit="share of training rows it was trained on",
        strengths=(0, 0.25, 0.5, 1),
        make=overfitted_regression,
        target={"metric": "attack_auc", "at_most": 0.5},
        params=SHADOWS,
        named=0.5,
    ),
    Defect(
        check="privacy.memorised_records",
        name="training rows answered from a table",
        unit="share of training rows",
        strengths=(0, 0.1, 0.3, 1),
        make=looked_up,
        target={"metric": "spike_auc", "at_most": 0.5},
        named=0.3,
    ),
    Defect(
        check="privacy.memorised_records",
        name="neighbours weighted by distance",
        unit="their share of the answer",
        strengths=(0, 0.1, 0.3, 1),
        make=nearest_neighbour,
        target={"metric": "spike_auc", "at_most": 0.6},
        named=0.3,
    ),
    Defect(
        check="privacy.memorised_records",
        name="training rows kept in the model",
        unit="share of the answer that needs them",
        strengths=(0, 0.1),
        make=nearest_neighbour,
        target={"metric": "kept_share", "at_most": 0.0},
        named=0.1,
        repeats=20,
    ),
    Defect(
        check="privacy.memorised_records",
        name="rows given out again",
        unit="share of rows made",
        strengths=(0, 0.02, 0.05, 0.1),
        make=given_out,
        target={"metric": "excess_copied_share", "at_most": 0.0},
        params={"outputs": "production"},
        named=0.1,
    ),
    Defect(
        check="privacy.memorised_records",
        name="pictures given out again, mirrored or moved",
        unit="share of pictures made",
        strengths=(0, 0.05, 0.1, 0.2),
        make=given_out_pictures,
        target={"metric": "excess_copied_share", "at_most": 0.0},
        params={"outputs": "production"},
        named=0.1,
        repeats=20,
    ),
)
