"""data.drift end to end: planted drift against its clean twin, rows met in use, pictures, refusals."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import judge
from assessor_checks.data.drift import CHECK, DriftParams

matplotlib.use("Agg")


def parts():
    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.data[order], data.target[order].astype(np.int64)


def subject(test=None, production=None, labels=None, train=True):
    x, y = parts()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:300], y[:300])
    splits = {"test": Split("test", y[300:], "b", x[300:] if test is None else test, tuple(map(str, range(30))))}
    if train:
        splits = {"train": Split("train", y[:300], "a", x[:300]), **splits}
    if production is not None:
        known = np.full(len(production), np.nan) if labels is None else labels
        splits["production"] = Split("production", known, "c", production, tuple(map(str, range(30))))
    return SklearnSubject(model, Task.BINARY, ("0", "1"), splits)


def run(found, seed=0, **params):
    return CHECK.measure(found, DriftParams(**{"permutations": 99, **params}), seed)


def verdict(result, metric, at_most):
    return judge(result, JudgedTarget(metric=metric, interval=(None, at_most), because="plan", source="test")).status


def test_no_drift_passes():
    result = run(subject())
    assert verdict(result, None, 0.6) == "pass"
    assert result.metric("joint_auc_test").primary
    assert result.metric("joint_p_value_test").value > 0.05
    assert result.metric("feature_p_value_test").value > 0.05
    assert result.metric("label_change_test").low == 0
    assert [metric.name for metric in result.metrics] == [
        "joint_auc_test",
        "joint_p_value_test",
        "largest_feature_shift_test",
        "feature_p_value_test",
        "label_change_test",
        "label_p_value_test",
    ]
    assert "From train to test: 0 of 30 columns moved by more than chance (Holm, 5 %)." in result.remarks
    assert result.remarks[0].startswith("From train to test: a joint_auc below about 0.5")


def test_a_moved_column_fails():
    x, _ = parts()
    moved = x[300:].copy()
    moved[:, 4] += 1.5 * x[:, 4].std()
    result = run(subject(moved))
    assert verdict(result, None, 0.6) == "fail"
    assert verdict(result, "largest_feature_shift_test", 0.2) == "fail"
    assert result.metric("joint_p_value_test").value == 0.01
    assert result.tables[0].rows[0][0] == "4"
    assert result.tables[0].rows[0][3] == pytest.approx(1.5, abs=0.2)
    assert "From train to test: 1 of 30 columns moved by more than chance (Holm, 5 %)." in result.remarks


def test_rows_met_in_use_are_compared_with_the_test():
    x, y = parts()
    ones = x[300:][y[300:] == 1]
    result = run(subject(production=np.concatenate([ones, x[300:][y[300:] == 0][:20]])))
    assert result.metric("joint_auc_production").primary
    assert not result.metric("joint_auc_test").primary
    change = result.metric("output_change_production")
    assert change.low > 0.1
    names = [metric.name for metric in result.metrics]
    assert "label_change_production" not in names  # nobody knows them
    shares = {row[0]: row[1:] for table in result.tables if table.name == "labels_in_use" for row in table.rows}
    true = len(ones) / (len(ones) + 20)
    assert shares["1"][1] <= true <= shares["1"][2]
    known = run(subject(production=ones, labels=np.ones(len(ones), np.int64)))
    assert known.metric("label_change_production").value == pytest.approx((y[300:] == 0).mean())


def test_without_training_data_rows_met_in_use_suffice():
    x, _ = parts()
    result = run(subject(production=x[:200], train=False))
    assert {metric.name.rsplit("_", 1)[1] for metric in result.metrics} == {"production"}


def test_regression():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(100, 2)), rng.normal(1, 1, (80, 2))
    y, wanted = x.sum(axis=1), other.sum(axis=1)
    model = LinearRegression().fit(x, y)
    splits = {
        "train": Split("train", y, "a", x),
        "test": Split("test", wanted, "b", other),
        "production": Split("production", np.full(100, np.nan), "c", x),
    }
    result = run(SklearnSubject(model, Task.REGRESSION, (), splits))
    assert result.metric("label_change_test").low > 0.1
    assert result.metric("output_change_production").low > 0.1
    assert result.metric("output_p_value_production").value < 1e-6


class _Pictures(PredictionsSubject):
    """Pictures with predictions that do not matter."""

    def __init__(self, splits):
        labels = {name: split.labels for name, split in splits.items()}
        super().__init__(Task.MULTICLASS, tuple("0123456789"), splits, labels, {})


def test_pictures_are_compared_by_components():
    data = load_digits()
    images, y = data.images, data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(y))
    first, second = order[:500], order[500:800]
    same = {
        "train": Split("train", y[first], "a", images[first]),
        "test": Split("test", y[second], "b", images[second]),
    }
    clean = run(_Pictures(same))
    assert verdict(clean, None, 0.6) == "pass"
    assert "Inputs of train and test were compared by their 50 main components." in clean.remarks
    noisy = images[second] + np.random.default_rng(1).normal(0, 3, images[second].shape)
    drifted = run(_Pictures({**same, "test": Split("test", y[second], "b", noisy)}))
    assert verdict(drifted, None, 0.6) == "fail"
    lost = images[second].copy()
    lost[0, 0, 0] = np.nan
    with pytest.raises(NotApplicable, match="missing or infinite, so they cannot be projected"):
        run(_Pictures({**same, "test": Split("test", y[second], "b", lost)}))


def test_missing_and_infinite_values_are_borne():
    x, _ = parts()
    holed = x[300:].copy()
    holed[:80, 3], holed[0, 5] = np.nan, np.inf
    found = subject(holed)
    result = run(found)
    assert result.tables[0].rows[0][0] == "3 (missing)"
    assert result.metric("joint_auc_test").low > 0.5


def test_many_rows_are_sampled_for_the_classifier():
    result = run(subject(), rows=100)
    assert "The classifier saw at most 100 rows each of train and test." in result.remarks
    assert result.tables[0].rows[0][6:] == (300, 269)


def test_refused():
    x, y = parts()
    with pytest.raises(NotApplicable, match="needs training data"):
        run(subject(train=False))
    with pytest.raises(NotApplicable, match="rows of train and test differ in shape"):
        run(subject(x[300:, :7]))
    few = {"train": Split("train", y[:5], "a", x[:5]), "test": Split("test", y, "b", x)}
    with pytest.raises(NotApplicable, match="the train split has 5 rows; comparing data sets takes 20"):
        run(_Pictures(few))
    flat = {name: Split(name, y[:50], name, np.ones((50, 2))) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="no column of train and test varies"):
        run(_Pictures(flat))
    bare = {name: Split(name, y[:50], name) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="the train split has no features"):
        run(_Pictures(bare))


def test_same_seed_same_bytes():
    found = subject()
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()


def test_plot_draws():
    x, _ = parts()
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(production=x[:100])), axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["test", "production"]
