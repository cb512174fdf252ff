"""Traces of training rows: searched objects, drops and permutation tests by hand."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import mannwhitneyu
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from assessor_checks.privacy import _memorisation as maths


def data(n=80, d=4):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    return x, (x[:, 0] > 0).astype(int), rng.standard_normal((n, d))


@pytest.mark.parametrize(
    ("model", "share"),
    [
        (KNeighborsClassifier(3), 1.0),
        (KNeighborsClassifier(3, algorithm="ball_tree"), 1.0),
        (make_pipeline(StandardScaler(), KNeighborsClassifier(3)), 1.0),
        (make_pipeline(StandardScaler(), PCA(2), "passthrough", KNeighborsClassifier(3)), 1.0),
        (GaussianProcessRegressor(), 1.0),
        (make_pipeline(ColumnTransformer([("all", StandardScaler(), [0, 1, 2, 3])]), KNeighborsClassifier()), 1.0),
        (LogisticRegression(), 0.0),
        (RandomForestClassifier(5), 0.0),
    ],
)
def test_rows_in_estimators(model, share):
    x, y, others = data()
    model.fit(x, y)
    found = maths.held(model, x)
    assert found.rows.mean() == share
    assert bool(found.where) == (share > 0)
    assert not maths.held(model, others).rows.any()


def test_support_vectors_are_some_rows():
    x, y, _ = data()
    model = SVC().fit(x, y)
    assert np.flatnonzero(maths.held(model, x).rows).tolist() == sorted(model.support_.tolist())
    assert maths.held(model, x).where == ("support_vectors_",)


def test_rows_deep_inside_and_in_odd_places():
    x, y, _ = data()
    bag = BaggingClassifier(KNeighborsClassifier(1), n_estimators=5, max_samples=0.5, random_state=0).fit(x, y)
    assert 0.8 < maths.held(bag, x).rows.mean() < 1

    class Model:
        pass

    model = Model()
    model.inner = {"a": [x[:3].T, csr_array(x[3:5])], "self": model, "more": np.array([x[5:6], None], dtype=object)}
    found = maths.held(model, x)
    assert np.flatnonzero(found.rows).tolist() == [0, 1, 2, 3, 4, 5]
    assert found.where == ("inner['a'][0]", "inner['a'][1]", "inner['more'][0]")


def test_rows_in_tensors_by_name():
    x = np.random.default_rng(0).random((10, 2, 3))
    weights = {"layer.weight": np.zeros((4, 6)), "prototypes": x[[7, 2]].astype(np.float32)}
    found = maths.held(weights, x)
    assert np.flatnonzero(found.rows).tolist() == [2, 7]
    assert found.where == ("prototypes",)


def test_spread_leaves_switches_alone():
    x = np.array([[0.0, 1, 5], [1, 2, 5], [1, 3, 5]])
    assert maths.spread_of(x) == pytest.approx([0, np.std([1, 2, 3]), 0])


def test_drops_by_hand():
    # two classes; a spike of log odds 2 at the first row only
    rows, labels, told = np.array([[0.0], [1.0], [2.0]]), np.array([1, 1, 0]), []

    def ask(x):
        odds = np.where(x[:, 0] == 0, 2.0, 1.0)
        p = 1 / (1 + np.exp(-odds))
        return np.stack([1 - p, p], axis=1)

    found = maths.drops(ask, rows, labels, np.array([0.1]), 3, np.random.default_rng(0), told.append)
    assert found == pytest.approx([1, 0, 0])
    assert told == [0, 1, 2]


def test_drops_of_a_regression_and_of_lost_rows():
    def ask(x):
        return np.where(x[:, 0] > 5, np.nan, np.where(x[:, 0] == 1, 1.0, 3.0))

    rows = np.array([[1.0], [2.0], [9.0]])
    found = maths.drops(ask, rows, np.array([0.0, 0, 0]), np.array([0.01]), 2, np.random.default_rng(0), lambda _: None)
    assert found[:2] == pytest.approx([np.log(3), 0])
    assert np.isnan(found[2])


def test_permutation_p_value_is_exact():
    high, low = np.array([3.0, 4.5, 2.5]), np.array([1.0, 3.5, 2.0, 0.5])
    both = np.concatenate([high, low])
    ranks = both.argsort().argsort() + 1
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, 3)]
    exact = np.mean([one >= ranks[:3].sum() for one in sums])
    assert maths.rank_p_value(high, low, 0, 20_000) == pytest.approx(exact, abs=0.01)
    assert exact == pytest.approx(mannwhitneyu(high, low, alternative="greater", method="exact").pvalue)


def test_permutation_test_holds_its_level_with_ties(monkeypatch):
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found.append(maths.rank_p_value(rng.integers(0, 4, 20), rng.integers(0, 4, 15), seed, 99))
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 4 * 0.0154
    whole = maths.rank_p_value(np.arange(9.0), np.arange(7.0), 3, 500)
    monkeypatch.setattr(maths, "_HELD", 40)
    assert maths.rank_p_value(np.arange(9.0), np.arange(7.0), 3, 500) == whole


def test_closest_rows():
    train = np.array([[0.0, 0], [10, 1], [20, 2]])
    found = maths.closest(np.array([[10.0, 1], [19, 2]]), train, 0.1)
    assert found.row.tolist() == [1, 2]
    assert found.distance == pytest.approx([0, 1 / train[:, 0].std() / np.sqrt(2)])
    x = np.random.default_rng(0).random((6, 8, 8))
    pictures = maths.closest(np.stack([2 * x[3] + 1, x[0][::-1]]), x, 0.1)
    assert pictures.row.tolist() == [3, -1]
    assert pictures.distance[0] == pytest.approx(0, abs=1e-7)
    assert np.isinf(pictures.distance[1])
