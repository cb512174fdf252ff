"""fairness.counterfactual_flip: by hand, columns of all codings, planted use of an attribute, refused inputs."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.model import Status, Target
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import judge
from assessor_checks.fairness._flips import find_attribute
from assessor_checks.fairness.counterfactual_flip import CHECK, CounterfactualFlipParams

matplotlib.use("Agg")
SELDOM = Target(metric="flip_rate", interval=(None, 0.1), because="a test")


class Rule:
    """A classifier or regression by a function of the features."""

    def __init__(self, function, *, regression=False):
        self.function = function
        self.regression = regression
        self.classes_ = np.array(["no", "yes"])
        if not regression:
            self.predict_proba = lambda x: np.stack([1 - function(x), function(x)], axis=1)

    def predict(self, features):
        found = self.function(features)
        return found if self.regression else self.classes_[(found > 0.5).astype(int)]


def subject(model, features, names, attributes, *, task=Task.BINARY, classes=("no", "yes"), labels=None):
    features = np.asarray(features, dtype=float)
    split = Split(
        name="test",
        labels=np.zeros(len(features), dtype=float if task is Task.REGRESSION else np.int64)
        if labels is None
        else labels,
        sha256="test",
        features=features,
        feature_names=names,
        attributes=None if attributes is None else pd.DataFrame(attributes),
    )
    return SklearnSubject(model, task, () if task is Task.REGRESSION else classes, {"test": split})


def run(of, seed=0, **params):
    return CHECK.measure(of, CounterfactualFlipParams(**params), seed)


def table(result):
    (found,) = result.tables
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


ROWS = [[0, 0.2], [0, 0.4], [0, 0.8], [1, 0.2], [1, 0.4], [1, 0.8]]
SEX = {"sex": ["f", "f", "f", "m", "m", "m"]}


def test_by_hand():
    # Score income + 0.3 sex, so that of incomes 0.2, 0.4, 0.8 only the middle one changes sides at 0.5.
    model = Rule(lambda x: np.clip(x[:, 1] + 0.3 * x[:, 0], 0, 1))
    result = run(subject(model, ROWS, ("sex", "income"), SEX))
    flip = result.metric("flip_rate")
    assert (flip.value, flip.n, flip.primary) == (pytest.approx(2 / 6), 6, True)
    assert flip.low == pytest.approx(0.0433, abs=1e-4)  # Clopper-Pearson of 2 in 6
    assert flip.high == pytest.approx(0.7772, abs=1e-4)
    assert result.metric("mean_score_change").value == pytest.approx((0.3 + 0.3 + 0.2) / 3)
    up, down = sorted(table(result), key=lambda row: -row["mean change"])
    assert (up["from"], up["to"], up["rows"]) == ("sex = 0", "sex = 1", 3)
    assert up["share changed"] == pytest.approx(1 / 3)
    assert up["mean change"] == pytest.approx(0.8 / 3) == -down["mean change"]
    assert up["mean change low"] <= up["mean change"] <= up["mean change high"]
    assert result.remarks == ("'sex' is flipped among: sex = 0, sex = 1.",)
    assert result.doubt is None


def test_a_model_that_does_not_look_never_changes():
    result = run(subject(Rule(lambda x: x[:, 1]), ROWS, ("sex", "income"), SEX))
    assert result.metric("flip_rate").value == 0
    assert result.metric("mean_score_change").value == result.metric("mean_score_change").high == 0


def trained(use, n=400, model=None):
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.integers(0, 2, n), rng.standard_normal((n, 2))])
    pull = features[:, 1] + use * (features[:, 0] - 0.5)
    labels = np.where(rng.random(n) < 1 / (1 + np.exp(-3 * pull)), "yes", "no")
    return subject((model or LogisticRegression()).fit(features, labels), features, ("sex", "income", "debt"),
                   {"sex": features[:, 0]})  # fmt: skip


def test_planted_use_fails_and_its_clean_twin_passes():
    assert judge(run(trained(1.5)), SELDOM).status is Status.FAIL
    assert judge(run(trained(0.0)), SELDOM).status is Status.PASS


def test_hard_predictions_have_a_flip_rate_only():
    result = run(trained(1.5, model=RidgeClassifier()))
    assert [m.name for m in result.metrics] == ["flip_rate"]
    assert result.metric("flip_rate").low > 0.1


def test_regression():
    model = Rule(lambda x: 10 * x[:, 1] + 3 * x[:, 0], regression=True)
    result = run(subject(model, ROWS, ("sex", "income"), SEX, task=Task.REGRESSION))
    (metric,) = result.metrics
    assert (metric.name, metric.primary, metric.unit) == ("mean_value_change", True, "units of the target")
    assert metric.value == pytest.approx(3)
    assert sorted(row["mean change"] for row in table(result)) == pytest.approx([-3, 3])
    fitted = LinearRegression().fit(ROWS, [1.0, 2, 3, 4, 5, 6])
    assert (
        run(subject(fitted, ROWS, ("sex", "income"), SEX, task=Task.REGRESSION)).metric("mean_value_change").value > 0
    )


def test_columns_for_each_value():
    # Land b or c, a dropped: 0.2, 0.3 and 0 on top of the income.
    features = [[0, 0, 0.4], [1, 0, 0.4], [0, 1, 0.4], [0, 1, 0.9]]
    model = Rule(lambda x: np.clip(x[:, 2] + 0.2 * x[:, 0] + 0.3 * x[:, 1], 0, 1))
    of = subject(model, features, ("land_b", "land_c", "income"), {"land": list("abcc")})
    result = run(of)
    assert result.remarks == ("'land' is flipped among: land_b, land_c, none of land_b, land_c.",)
    assert result.metric("flip_rate").value == pytest.approx(3 / 4)
    changes = {(row["from"], row["to"]): row["mean change"] for row in table(result)}
    assert changes["none of land_b, land_c", "land_c"] == pytest.approx(0.3)
    assert changes["land_b", "land_c"] == pytest.approx(0.1)
    assert changes["land_c", "land_b"] == pytest.approx((-0.1 - 0) / 2)


@pytest.mark.parametrize(
    ("names", "features", "columns", "values"),
    [
        (("sex", "x"), [[0, 1], [1, 1]], [0], [[0], [1]]),
        (("x", "sex=f", "sex=m"), [[5, 1, 0], [5, 0, 1]], [1, 2], [[1, 0], [0, 1]]),
        (("sex_m",), [[0], [1]], [0], [[1], [0]]),
        (("sex_score", "x"), [[0.4, 1], [0.9, 1]], None, None),  # no 0 and 1: not a value of the attribute
        (("sex_f", "sex_m"), [[1, 1], [0, 1]], None, None),  # two values at once
        (("sexton", "x"), [[0, 1], [1, 1]], None, None),
    ],
)
def test_finding_an_attribute(names, features, columns, values):
    found = find_attribute("sex", names, np.array(features, dtype=float))
    if columns is None:
        assert found is None
    else:
        assert found.columns.tolist() == columns
        assert found.values.tolist() == values
        for row, own in enumerate(found.own):
            assert found.values[own].tolist() == np.array(features)[row, columns].tolist()


def test_a_quantity_is_set_to_some_of_its_values():
    ages = np.arange(20.0, 70.0)
    model = Rule(lambda x: x[:, 0] / 100)
    result = run(subject(model, np.column_stack([ages, ages]), ("age", "x"), {"age": ages}))
    assert {row["from"] for row in table(result)} == {"its own value"}
    assert len({row["to"] for row in table(result)}) == 5
    assert result.metric("mean_score_change").value > 0.2


def test_missing_values_are_not_flipped():
    rows = [[np.nan, 0.4], *ROWS]
    model = Rule(lambda x: np.clip(x[:, 1] + 0.3 * np.nan_to_num(x[:, 0]), 0, 1))
    result = run(subject(model, rows, ("sex", "income"), {"sex": [None, *SEX["sex"]]}))
    assert result.metric("flip_rate").n == 6
    assert "1 rows have no value of 'sex' and are not flipped." in result.remarks


def test_other_attributes_are_named_and_samples_told():
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (100, 2))
    of = subject(
        Rule(lambda x: 0.2 + 0.5 * x[:, 0]), features, ("sex", "x"), {"sex": features[:, 0], "race": ["w"] * 100}
    )
    result = run(of, rows=40)
    assert "'race' is not among the features, so it cannot be flipped." in result.remarks
    assert "A random sample of 40 of 100 rows was flipped." in result.remarks
    assert result.metric("flip_rate").n == 40


def test_a_model_that_changes_its_mind_is_doubted():
    class Moody(Rule):
        calls = 0

        def predict(self, features):
            self.calls += 1
            return np.where(np.arange(len(features)) % 2 == self.calls % 2, "yes", "no")

    result = run(subject(Moody(lambda x: x[:, 1]), ROWS, ("sex", "income"), SEX))
    assert result.doubt == (
        "Asked again, the model gives another prediction for 6 of 6 unchanged rows, so changes cannot be put down to "
        "the attribute."
    )
    assert judge(result, SELDOM).status is Status.INCONCLUSIVE


BY_INCOME = Rule(lambda x: x[:, 1])


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(BY_INCOME, ROWS, ("a", "b"), SEX), {}, r"'sex' is not among the features.*Use fairness\.distance_cov"),
        (
            subject(BY_INCOME, [[1, 0.3]] * 3, ("sex", "b"), {"sex": ["f"] * 3}),
            {},
            "'sex' has the same value in all rows",
        ),
        (subject(BY_INCOME, ROWS, ("sex", "b"), SEX), {"attributes": ("age",)}, "no sensitive column 'age'"),
        (subject(BY_INCOME, ROWS, ("sex", "b"), SEX), {"positive": "maybe"}, "no class 'maybe'"),
        (subject(BY_INCOME, np.zeros((4, 2, 2)), (), {"sex": list("ffmm")}), {}, "no table of features"),
        (subject(BY_INCOME, np.zeros((0, 2)), ("sex", "b"), {"sex": []}), {}, "no table of features with rows"),
        (
            subject(Rule(lambda x: x[:, 1] + np.nan), ROWS, ("sex", "b"), SEX),
            {},
            "the model gives no finite output for 6 of 6 rows",
        ),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_a_table_of_predictions_cannot_be_asked():
    split = Split(name="test", labels=np.zeros(6, np.int64), sha256="t", features=np.array(ROWS),
                  feature_names=("sex", "income"), attributes=pd.DataFrame(SEX))  # fmt: skip
    of = PredictionsSubject(Task.BINARY, ("no", "yes"), {"test": split}, {"test": np.zeros(6, np.int64)}, {})
    assert not CHECK.info.needs <= of.offers  # the engine says so by itself
    with pytest.raises(NotApplicable, match="only a table of predictions is at hand"):
        run(of)


def test_one_row():
    result = run(subject(Rule(lambda x: x[:, 0]), [[0, 1.0], [1, 1.0]], ("sex", "x"), {"sex": ["f", "m"]}), rows=20)
    assert result.metric("flip_rate").value == 1
    assert table(result)[0]["mean change low"] is None


def test_same_seed_same_bytes():
    assert run(trained(0.3), 3).model_dump_json() == run(trained(0.3), 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(trained(0.5)), axes)
    assert axes.get_ylabel() == "flip"
    assert len(axes.get_yticklabels()) == 2
