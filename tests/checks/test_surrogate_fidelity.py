"""transparency.surrogate_fidelity end to end."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks.transparency.surrogate_fidelity import CHECK, SurrogateParams

matplotlib.use("Agg")


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x), feature_names=names)


def table(n=600, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, 6))
    return x, (x[:, 0] > 0.3).astype(np.int64)


class Rule(ClassifierMixin, BaseEstimator):
    """One threshold, and on a share of the rows the parity of the other signs."""

    def __init__(self, share=0.0):
        self.share = share

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        knotted = np.modf(np.abs(100 * x[:, 5]))[0] < self.share
        return np.where(knotted, (x[:, 1:5] > 0).sum(axis=1) % 2, x[:, 0] > 0.3).astype(np.int64)


def subject(estimator=None, x=None, y=None, names=(), task=Task.BINARY, classes=("0", "1")):
    x, y = table() if x is None else (x, y)
    half = len(x) // 2
    fitted = (Rule() if estimator is None else estimator).fit(x[:half], y[:half])
    splits = {"train": split("train", x[:half], y[:half], names), "test": split("test", x[half:], y[half:], names)}
    return SklearnSubject(fitted, task, classes, splits)


def run(of=None, seed=0, **params):
    return CHECK.measure(of or subject(), SurrogateParams(**params), seed)


def test_reports_everything_of_a_rule_that_a_tree_can_follow():
    result = run(subject(names=("income", *"abcde")))
    assert [metric.name for metric in result.metrics] == [
        "fidelity",
        "fidelity_beyond_majority",
        "kappa",
        "accuracy_given_up",
    ]
    fidelity = result.metric("fidelity")
    assert fidelity.primary
    assert fidelity.n == 300
    assert fidelity.value > 0.98
    assert fidelity.high <= 1
    assert result.metric("kappa").value > 0.95
    assert result.metric("fidelity_beyond_majority").low > 0.2
    assert abs(result.metric("accuracy_given_up").value) < 0.02
    rules, by_class, by_answer = result.tables
    assert len(rules.rows) == 2
    assert rules.rows[0][0].startswith("income <= 0.")
    assert [row[1] for row in rules.rows] == ["0", "1"]
    assert sum(row[2] for row in rules.rows) == pytest.approx(1)
    assert [row[0] for row in by_class.rows] == ["0", "1"]
    assert [row[:2] for row in by_answer.rows] == [("right", 300), ("wrong", 0)]
    assert result.series[0].columns["size"] == (2, 4, 8, 16, 32)
    assert result.remarks == ("The imitation has size 2 and not 8: nothing is gained by more.",)
    assert result.doubt is None
    CHECK.plot(result, Figure().subplots())


def test_a_model_that_no_small_tree_follows_falls_and_its_twin_does_not():
    plain, knotted = (run(subject(Rule(share))) for share in (0.0, 0.6))
    assert knotted.metric("fidelity").high < 0.85 < plain.metric("fidelity").low
    assert knotted.metric("kappa").high < plain.metric("kappa").low
    assert len(knotted.tables[0].rows) == 8


def test_linear_models_of_few_features():
    result = run(subject(names=tuple("abcdef")), kind="linear", size=2, sizes=(2, 4))
    assert result.metric("fidelity").value > 0.9
    weights = result.tables[0]
    assert weights.name == "weights"
    assert weights.rows[0][0] == "a"
    assert weights.rows[0][1] > 1
    assert len(weights.rows) == 2


def test_regression_reports_the_variance_reproduced():
    x, _ = table()
    y = np.where(x[:, 0] > 0, 3.0, 0.0) + 0.1 * x[:, 1]
    forest = RandomForestRegressor(5, random_state=0)
    result = run(subject(forest, x, y, task=Task.REGRESSION, classes=()))
    assert [metric.name for metric in result.metrics] == ["fidelity", "squared_error_added"]
    assert 0.9 < result.metric("fidelity").low < result.metric("fidelity").value < 1
    assert result.metric("squared_error_added").unit == "squared units of the target"
    assert result.tables[0].rows[0][3] is None
    line = run(
        subject(LinearRegression(), x, 2 * x[:, 0] - x[:, 3], task=Task.REGRESSION, classes=()),
        kind="linear",
        size=2,
        sizes=(2,),
    )
    assert line.metric("fidelity").value == pytest.approx(1)
    assert [row[0] for row in line.tables[0].rows] == ["#0", "#3"]


def test_fidelity_by_hand():
    # The tree can only answer by the sign of the column: it misses the model's answer at 3 of 30 test rows.
    x = np.concatenate([np.linspace(-1, -0.1, 30), np.linspace(0.1, 1, 30)])[:, None]
    answers = (x[:, 0] > 0).astype(np.int64)
    test = np.concatenate([np.full(13, -0.5), np.full(17, 0.5)])[:, None]
    said = np.concatenate([np.zeros(12), np.ones(17), np.zeros(1)]).astype(np.int64)
    said[3] = 1
    splits = {"train": split("train", x, answers), "test": split("test", test, said)}
    of = PredictionsSubject(Task.BINARY, ("no", "yes"), splits, {"train": answers, "test": said}, {})
    result = run(of)
    wrong = int(((test[:, 0] > 0) != said).sum())
    assert result.metric("fidelity").value == pytest.approx(1 - wrong / 30)
    assert result.metric("accuracy_given_up").value == pytest.approx(wrong / 30)
    assert result.metric("fidelity_beyond_majority").value == pytest.approx(1 - wrong / 30 - (said == 0).mean())


def test_missing_values_and_pictures_are_told():
    x, y = table()
    x[:5, 2] = np.nan
    result = run(subject(DecisionTreeClassifier(random_state=0), x, y))
    assert "Features are missing in 5 train rows" in result.remarks[-1]
    with pytest.raises(NotApplicable, match="which a linear model cannot use; set kind: tree"):
        run(subject(DecisionTreeClassifier(random_state=0), x, y), kind="linear")
    pictures = np.random.default_rng(0).random((80, 1, 4, 4))
    answers = (pictures.mean(axis=(1, 2, 3)) > 0.5).astype(np.int64)
    splits = {
        name: split(name, pictures[part], answers[part])
        for name, part in (("train", slice(40)), ("test", slice(40, 80)))
    }
    of = PredictionsSubject(Task.BINARY, ("no", "yes"), splits, {"train": answers[:40], "test": answers[40:]}, {})
    assert run(of).remarks[-1].startswith("The inputs are no table")


def test_same_seed_same_bytes():
    assert run(subject(Rule(0.5)), seed=3).model_dump_json() == run(subject(Rule(0.5)), seed=3).model_dump_json()


def test_not_applicable_says_why():
    x, y = table()
    with pytest.raises(NotApplicable, match="test rows: found 10, wanted at least 30"):
        run(subject(x=x[:20], y=y[:20]))
    with pytest.raises(NotApplicable, match="the same answer for all train rows"):
        run(subject(x=-np.abs(x), y=y))
    wide = x.copy()
    wide[3, 0] = 1e300
    splits = {name: split(name, wide, y) for name in ("train", "test")}
    huge = PredictionsSubject(Task.BINARY, ("no", "yes"), splits, {"train": y, "test": y}, {})
    with pytest.raises(NotApplicable, match=r"infinite or beyond 3\.4e38 in 1 of 600 rows of the train split"):
        run(huge)
    none = {name: Split(name=name, labels=y, sha256=name) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="the train split has no numeric features"):
        run(PredictionsSubject(Task.BINARY, ("no", "yes"), none, {"train": y, "test": y}, {}))
    empty = {name: split(name, x[:0], y[:0]) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="the train split has no rows"):
        run(PredictionsSubject(Task.BINARY, ("no", "yes"), empty, {"train": y[:0], "test": y[:0]}, {}))
    values = np.where(np.arange(600) % 7, 1.0, np.nan)
    splits = {name: split(name, x, x[:, 0]) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="not finite for 86 of 600 rows of the train split"):
        run(PredictionsSubject(Task.REGRESSION, (), splits, {"train": values, "test": values}, {}))
    with pytest.raises(NotApplicable, match="every feature is constant over the train split"):
        run(
            PredictionsSubject(
                Task.BINARY,
                ("no", "yes"),
                {name: split(name, np.ones((600, 2)), y) for name in ("train", "test")},
                {"train": y, "test": y},
                {},
            ),
            kind="linear",
        )
    flat = {"train": split("train", x, x[:, 0]), "test": split("test", x, x[:, 0])}
    with pytest.raises(NotApplicable, match="the same answer for all test rows"):
        run(PredictionsSubject(Task.REGRESSION, (), flat, {"train": x[:, 0], "test": np.ones(600)}, {}))
