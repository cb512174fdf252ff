"""uncertainty.conformal_coverage: by hand, planted weak parts and their clean twins, refusals."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget, Status
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import judge
from assessor_checks.uncertainty.conformal_coverage import CHECK, ConformalCoverageParams

matplotlib.use("Agg")


def run(subject, seed=0, **params):
    return CHECK.measure(subject, ConformalCoverageParams(**params), seed)


def values(labels, predicted, features=None, attributes=None, name="test"):
    """A regression known by its predictions; with features they may be searched for slabs."""
    split = Split(name=name, labels=np.asarray(labels, float), sha256="0", features=features, attributes=attributes)
    return PredictionsSubject(Task.REGRESSION, (), {name: split}, {name: np.asarray(predicted, float)}, {})


def classes(labels, scores):
    split = Split(name="test", labels=np.asarray(labels, np.int64), sha256="0")
    task = Task.BINARY if scores.shape[1] == 2 else Task.MULTICLASS
    names = tuple(f"c{i}" for i in range(scores.shape[1]))
    return PredictionsSubject(task, names, {"test": split}, {"test": scores.argmax(axis=1)}, {"test": scores})


def noisy(n, spread, seed=0):
    """A right regression whose noise is `spread` times larger where the first feature is above 1."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    noise = rng.standard_normal(n) * np.where(x[:, 0] > 1, spread, 1)
    sex = np.where(x[:, 0] > 1, "f", "m")
    return values(x[:, 1] + noise, x[:, 1], x, pd.DataFrame({"sex": sex}))


def test_by_hand_in_order():
    errors = np.concatenate([np.arange(1.0, 100), np.repeat([90.0, 90.5], [80, 19])])
    result = run(values(errors, np.zeros(198)), alpha=0.1, order="in_order")
    assert result.metric("interval_width").value == 180
    assert result.metric("coverage").value == pytest.approx(80 / 99)
    assert result.metric("undercoverage_p_value").value < 0.05
    assert [m.name for m in result.metrics] == ["coverage", "undercoverage_p_value", "interval_width", "width_ratio"]
    assert result.remarks == ()


def test_classes_by_hand():
    # the true class has probability 0.6 or 0.3 of three; at alpha 0.2 the limit is 0.7: both classes of 0.3 and above
    scores = np.tile([[0.6, 0.3, 0.1]], (400, 1))
    labels = np.arange(400) % 10 >= 7
    result = run(classes(labels, scores), alpha=0.2)
    assert result.metric("coverage").value == 1
    assert result.metric("mean_set_size").value == 2
    assert result.metric("mean_set_size").low == 2
    assert result.metric("single_class_share").value == 0
    assert result.metric("worst_class_coverage").value == 1
    table = {row[:2]: row[2:4] for row in result.tables[0].rows}
    assert set(table) == {("class", "c0"), ("class", "c1"), ("classes in the set", "2")}
    assert sum(n for (kind, _), (n, _) in table.items() if kind == "class") == 200
    assert result.remarks[0].startswith("Calibration and judged rows are random halves")
    assert result.remarks[1] == (
        "198 of 200 calibration scores repeat another one; equal scores can only raise the coverage above the promise."
    )


def test_coverage_is_as_promised_on_average():
    for method in ("lac", "aps"):
        reached = []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            p = rng.dirichlet(np.ones(4), 200)
            labels = (p.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1)
            reached.append(run(classes(labels, p), seed, method=method).metric("coverage").value)
        expected = 91 / 101  # rank 91 of 100 calibration rows
        assert np.mean(reached) == pytest.approx(expected, abs=4 * np.std(reached) / np.sqrt(60))


def test_aps_is_larger_and_fairer_between_hard_and_easy_rows():
    rng = np.random.default_rng(0)
    hard = rng.random(4000) < 0.3
    p = np.where(hard[:, None], rng.dirichlet(np.full(6, 5.0), 4000), rng.dirichlet([60, 1, 1, 1, 1, 1], 4000))
    labels = (p.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    lac, aps = run(classes(labels, p)), run(classes(labels, p), method="aps")
    assert lac.metric("mean_set_size").high < aps.metric("mean_set_size").low


def test_planted_weak_corner_and_its_clean_twin():
    target = JudgedTarget(metric="worst_slab_coverage", interval=(0.75, None), because="test", source="test")
    bad, good = run(noisy(4000, 4.0)), run(noisy(4000, 1.0))
    assert judge(bad, target).status is Status.FAIL
    assert judge(good, target).status is Status.PASS
    assert bad.metric("coverage").value == pytest.approx(0.9, abs=0.03)
    assert bad.metric("worst_group_coverage").high < 0.75 < good.metric("worst_group_coverage").low
    (slab,) = [row for row in bad.tables[0].rows if row[0] == "slab"]
    assert slab[1].startswith("#0: ")


def test_learned_on_training_rows_of_an_overfitted_model():
    x, y = load_diabetes(return_X_y=True)
    splits = {
        "train": Split(name="train", labels=y[:250], sha256="0", features=x[:250]),
        "test": Split(name="test", labels=y[250:], sha256="1", features=x[250:]),
    }
    for depth, low in ((None, True), (2, False)):
        model = DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x[:250], y[:250])
        result = run(SklearnSubject(model, Task.REGRESSION, (), splits), calibration="train")
        assert (result.metric("undercoverage_p_value").value < 0.001) == low
        assert "The size was learned on rows the model was trained on" in result.remarks[0]


def test_real_classifier_is_measured_whole():
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(x[:500] / 16, y[:500])
    split = Split(name="test", labels=y[500:].astype(np.int64), sha256="0", features=x[500:] / 16)
    subject = SklearnSubject(model, Task.MULTICLASS, tuple(map(str, range(10))), {"test": split})
    result = run(subject)
    assert [m.name for m in result.metrics] == [
        "coverage",
        "undercoverage_p_value",
        "mean_set_size",
        "single_class_share",
        "worst_class_coverage",
        "worst_slab_coverage",
    ]
    sizes = {row[1]: row[2] for row in result.tables[0].rows if row[0] == "classes in the set"}
    assert sum(sizes.values()) == 649
    assert max(sizes, key=sizes.get) == "1"
    assert result.metric("coverage").value == pytest.approx(0.9, abs=0.05)
    assert result.metric("worst_class_coverage").value < 0.9
    assert result.doubt is None
    columns = result.series[0].columns
    assert list(columns) == ["promised", "reached", "low", "high", "size"]
    assert list(columns["size"]) == sorted(columns["size"])


def test_drift_shows_in_order():
    rng = np.random.default_rng(0)
    drifting = values(rng.standard_normal(1000) * np.linspace(1, 3, 1000), np.zeros(1000))
    assert run(drifting, order="in_order").metric("undercoverage_p_value").value < 1e-6
    assert run(drifting).metric("undercoverage_p_value").value > 0.01


def production(labels):
    rng = np.random.default_rng(0)
    splits, predicted = {}, {}
    for name, y in (("test", rng.standard_normal(200)), ("production", labels)):
        splits[name] = Split(name=name, labels=np.asarray(y, float), sha256=name)
        predicted[name] = np.zeros(len(y))
    return PredictionsSubject(Task.REGRESSION, (), splits, predicted, {})


def test_rows_met_in_use():
    wide = production(3 * np.random.default_rng(1).standard_normal(300))
    result = run(wide, judged="production")
    assert result.metric("coverage").n == 300
    assert result.metric("interval_width").n == 200
    assert result.metric("coverage").high < 0.7
    with pytest.raises(NotApplicable, match="labels are unknown for 1 of 60 rows of the production split"):
        run(production([np.nan] + [0.0] * 59), judged="production")
    with pytest.raises(NotApplicable, match="needs rows of the production split"):
        run(values(np.zeros(50), np.zeros(50)), judged="production")


def test_few_judged_rows_are_doubtful():
    result = run(values(np.zeros(40), np.arange(40.0)))
    assert result.doubt == "20 judged rows are too few to judge coverage; 50 are needed."
    assert result.remarks[-1] == "5 parts of fewer than 30 rows are listed and not judged."


def test_constant_labels_and_no_errors():
    result = run(values(np.ones(200), np.ones(200)))
    assert result.metric("coverage").value == 1
    assert result.metric("interval_width").value == 0
    assert "width_ratio" not in [m.name for m in result.metrics]


def test_refused():
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        run(values([], []))
    with pytest.raises(NotApplicable, match="0 calibration rows are too few to promise"):
        run(values([1.0], [1.0]))
    with pytest.raises(NotApplicable, match="outputs are not finite for 1 of 30 rows"):
        run(values(np.ones(30), [np.nan] + [1.0] * 29))
    with pytest.raises(NotApplicable, match="no probabilities that sum to 1 for 30 of 30"):
        run(classes(np.zeros(30), np.full((30, 2), 0.4)))
    with pytest.raises(NotApplicable, match="none of the model's classes for 30 of 30 rows"):
        run(classes(np.full(30, 5), np.full((30, 2), 0.5)))
    split = Split(name="test", labels=np.zeros(30, np.int64), sha256="0")
    with pytest.raises(NotApplicable, match="decisions without probabilities"):
        run(PredictionsSubject(Task.BINARY, ("a", "b"), {"test": split}, {"test": np.zeros(30, int)}, {}))
    for wrong in ({"alpha": 0}, {"alpha": 0.6}, {"method": "x"}, {"order": "in_order", "calibration": "train"}):
        with pytest.raises(ValidationError):
            ConformalCoverageParams(**wrong)


def test_same_seed_same_bytes():
    first, second, other = (run(noisy(300, 2.0), seed).model_dump_json() for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_plot_draws():
    axes = Figure().add_subplot()
    result = run(noisy(300, 2.0))
    CHECK.plot(result, axes)
    assert axes.get_xlabel() == "coverage promised"
    assert len(axes.lines) == 1 + 2 * len(result.series[0].columns["promised"])
