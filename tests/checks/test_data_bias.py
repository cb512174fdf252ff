"""fairness.data_bias: labels, gaps and proxies by hand, planted bias and clean twins, level, refused inputs."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from assessor.contract import NotApplicable, Split, Task
from assessor.model import Status, Target
from assessor.subjects.predictions import PredictionsSubject
from assessor.verdicts import judge
from assessor_checks.fairness import _data_bias
from assessor_checks.fairness import _distance_covariance as dcov
from assessor_checks.fairness._dependence import Column
from assessor_checks.fairness.data_bias import CHECK, DataBiasParams

matplotlib.use("Agg")
NAMES = ("income", "height", "debt")


def split(name, labels, attributes, features=None, names=NAMES, *, regression=False):
    return Split(
        name=name,
        labels=np.asarray(labels, dtype=float if regression else np.int64),
        sha256=name,
        features=features,
        feature_names=names if features is not None else (),
        attributes=None if attributes is None else pd.DataFrame(attributes),
    )


def subject(*splits, task=Task.BINARY, classes=("no", "yes")):
    found = {one.name: one for one in splits}
    said = {name: one.labels for name, one in found.items()}
    return PredictionsSubject(task, () if task is Task.REGRESSION else classes, found, said, {})


def run(of, seed=0, **params):
    return CHECK.measure(of, DataBiasParams(**{"permutations": 199, **params}), seed)


def table(result, name):
    found = next(x for x in result.tables if x.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def people(seed=0, n=400, labels=0.0, gaps=0.0, tall=0.0, name="test"):
    """Men's labels are favourable more often, their incomes missing more often, and they are taller, as planted."""
    rng = np.random.default_rng(seed)
    man = rng.random(n) < 0.5
    features = rng.standard_normal((n, 3))
    features[:, 1] += tall * man
    features[rng.random(n) < 0.05 + gaps * man, 0] = np.nan
    favourable = rng.random(n) < 0.3 + labels * man
    return split(name, favourable, {"sex": np.where(man, "m", "f")}, features)


def test_labels_by_hand():
    # Favourable labels: 30 of 60 and 15 of 60; Newcombe's interval of the one pair.
    labels = [1] * 30 + [0] * 30 + [1] * 15 + [0] * 45
    result = run(subject(split("test", labels, {"site": ["a"] * 60 + ["b"] * 60})))
    metric = result.metric("label_rate_difference")
    assert (metric.value, metric.primary) == (pytest.approx(0.25), True)
    assert (metric.low, metric.high) == pytest.approx((0.0768, 0.4035), abs=5e-5)
    assert [m.name for m in result.metrics] == ["label_rate_difference", "smallest_group_share", "data_parity_p_value"]
    assert result.metric("smallest_group_share").value == 0.5
    exact = stats.fisher_exact([[30, 30], [15, 45]]).pvalue
    assert result.metric("data_parity_p_value").value == pytest.approx(exact, abs=0.01)
    first = table(result, "groups")[0]
    assert (first["group"], first["n"], first["share"], first["label"]) == ("a", 60, 0.5, 0.5)
    assert result.remarks == (
        "Looked at: the test split with 120 rows.",
        "Favourable label: class 'yes'.",
        "There is no table of features, so missing values and proxies are not looked at.",
    )
    assert result.doubt is None


def test_gaps_and_proxies_of_the_whole_outcome():
    of = people(gaps=0.2, tall=1.0)
    result = run(subject(of))
    assert [m.name for m in result.metrics] == [
        "label_rate_difference", "smallest_group_share", "strongest_proxy", "missingness_difference",
        "data_parity_p_value",
    ]  # fmt: skip
    man = of.attributes["sex"].to_numpy() == "m"
    gone = np.isnan(of.features[:, 0])
    missing = result.metric("missingness_difference")
    assert missing.value == pytest.approx(abs(gone[man].mean() - gone[~man].mean()))
    assert 0 < missing.low < missing.value < missing.high
    (row,) = table(result, "missing")
    assert (row["feature"], row["first"], row["second"]) == ("income", "f", "m")
    rows = table(result, "proxies")
    assert (rows[0]["feature"], rows[0]["attribute"], rows[0]["rows"]) == ("height", "sex", 400)
    exact = dcov.of_values_and_cells(of.features[:, 1], man.astype(int), 1.0 - np.eye(2))
    assert rows[0]["with the attribute"] == pytest.approx(np.sqrt(exact.corrected))
    assert result.metric("strongest_proxy").value == rows[0]["with the attribute"]
    assert {row["feature"]: row["rows"] for row in rows}["income"] == (~gone).sum()
    assert "Features with missing values: 1; tested: 1." in result.remarks
    assert {row["compared"] for row in table(result, "parity_tests")} == {"label", "missing income"}


@pytest.mark.parametrize(
    ("metric", "planted", "most"),
    [("label_rate_difference", {"labels": 0.3}, 0.05), ("missingness_difference", {"gaps": 0.25}, 0.05),
     ("strongest_proxy", {"tall": 1.5}, 0.2)],
)  # fmt: skip
def test_planted_bias_fails_and_its_clean_twin_does_not(metric, planted, most):
    target = Target(metric=metric, interval=(None, most), because="a test")
    assert judge(run(subject(people(**planted))), target).status is Status.FAIL
    clean = run(subject(people()))
    assert judge(clean, target).status is not Status.FAIL
    assert clean.metric(metric).low == 0


def test_the_train_split_is_taken_where_it_has_attributes():
    both = subject(people(), people(1, n=300, name="train"))
    assert run(both).remarks[0] == "Looked at: the train split with 300 rows."
    assert run(both, split="test").remarks[0] == "Looked at: the test split with 400 rows."
    without = subject(people(), split("train", [0, 1], None))
    assert run(without).remarks[0] == "Looked at: the test split with 400 rows."
    with pytest.raises(NotApplicable, match="no rows with sensitive attributes in: train"):
        run(without, split="train")


def test_regression():
    rng = np.random.default_rng(0)
    sex = np.repeat(["f", "m"], 100)
    values = rng.standard_normal(200) + 0.8 * (sex == "m")
    result = run(subject(split("test", values, {"sex": sex}, regression=True), task=Task.REGRESSION))
    metric = result.metric("label_mean_difference")
    found = stats.ttest_ind(values[100:], values[:100], equal_var=False)
    assert metric.value == pytest.approx(values[100:].mean() - values[:100].mean())
    assert metric.high == pytest.approx(found.confidence_interval().high)
    assert metric.low > 0.2
    assert table(result, "groups")[0]["label"] == pytest.approx(values[:100].mean())
    assert result.remarks[1] == f"The target's standard deviation is {values.std():.4g}."


def test_the_attribute_itself_is_no_proxy():
    of = people()
    features = np.column_stack([of.features, of.attributes["sex"] == "m"]).astype(float)
    result = run(subject(split("test", of.labels, of.attributes, features, (*NAMES, "sex"))))
    assert "'sex' is itself among the features; that is not counted as a proxy." in result.remarks
    assert "sex" not in {row["feature"] for row in table(result, "proxies")}


def test_quantities_have_proxies_but_no_groups():
    of = people()
    age = np.random.default_rng(5).uniform(20, 70, 400)
    features = np.column_stack([of.features[:, 1:], age + 5 * np.random.default_rng(6).standard_normal(400)])
    result = run(
        subject(split("test", of.labels, {"sex": of.attributes["sex"], "age": age}, features, ("a", "b", "years")))
    )
    assert result.doubt == "'age' is not judged: it has 400 distinct values; cut it into groups first."
    assert (table(result, "proxies")[0]["feature"], table(result, "proxies")[0]["attribute"]) == ("years", "age")
    assert result.metric("strongest_proxy").low > 0.8


def test_small_groups():
    of = people()
    land = np.where(np.arange(400) < 8, "y", "x")
    result = run(subject(split("test", of.labels, {"sex": of.attributes["sex"], "land": land})))
    assert result.doubt == "Fewer than two groups have enough rows in: land."
    assert any("land: y (8)" in remark for remark in result.remarks)
    assert result.metric("smallest_group_share").value == 8 / 400  # of an attribute, not of an intersection


@pytest.mark.slow
def test_chi_square_test_holds_its_level():
    # Shen, Panda, Vogelstein 2022: valid, so a little under 5 %.
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        feature = Column("x", rng.exponential(size=80), is_number=True)
        group = Column("g", rng.choice(3, 80, p=[0.6, 0.3, 0.1]), is_number=False)
        square, n, _ = _data_bias._square(feature, group, 0)
        p_values.append(_data_bias.chi_square_p(square, n))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.072  # 5 % and two standard errors of 400
    assert np.mean(np.array(p_values) <= 0.05) > 0.01


@pytest.mark.slow
def test_no_false_alarm_of_labels_and_gaps():
    alarms = np.zeros(3)
    for seed in range(60):
        result = run(subject(people(seed, n=200)), seed, permutations=99)
        alarms += [
            result.metric("label_rate_difference").low > 0,
            result.metric("missingness_difference").low > 0,
            result.metric("strongest_proxy").low > 0,
        ]
    assert (alarms / 60 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)).all()


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(split("test", [0], None)), {}, "no rows with sensitive attributes in: train, test"),
        (subject(split("test", [], {"sex": []})), {}, "no rows with sensitive attributes in: train, test"),
        (subject(split("test", [0], {"sex": ["f"]})), {}, "no two groups of one attribute have 20 rows or more in"),
        (subject(split("test", [0] * 50, {"sex": ["f"] * 50})), {}, "All rows have the same value of: sex"),
        (subject(split("test", [0] * 50, {"age": range(50)})), {}, r"Use fairness\.distance_covariance"),
        (subject(people()), {"attributes": ("age",)}, "no sensitive column 'age'"),
        (subject(people()), {"positive": "maybe"}, "no class 'maybe'"),
        (
            subject(people(), task=Task.MULTICLASS, classes=("a", "b", "c")),
            {},
            "which class is the favourable decision",
        ),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_features_that_say_nothing_are_left_out():
    of = people()
    features = np.column_stack([np.ones(400), np.full(400, np.nan), np.where(np.arange(400) < 3, 1.0, np.nan)])
    result = run(subject(split("test", of.labels, of.attributes, features)))
    assert "strongest_proxy" not in [m.name for m in result.metrics]
    assert "Features with missing values: 2; tested: 2." in result.remarks


def test_same_seed_same_bytes():
    of = subject(people(gaps=0.1))
    assert run(of, 3).model_dump_json() == run(of, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(people())), axes)
    assert axes.get_xlabel() == "distance correlation"
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(split("test", people().labels, people().attributes))), axes)
    assert axes.get_ylabel() == "group"
