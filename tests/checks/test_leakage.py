"""data.leakage end to end: planted leaks against their clean twin, coarse data, groups, pictures, refusals."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import judge
from assessor_checks.data.leakage import CHECK, LeakageParams

matplotlib.use("Agg")


def subject(x, y, other, wanted, attributes=(None, None), names=()):
    model = KNeighborsClassifier(1) if y.dtype.kind == "i" else LinearRegression()
    flat = x.reshape(len(x), -1)
    model.fit(flat if x.ndim == 2 else np.zeros((len(y), 1)), y)
    classes = tuple(map(str, model.classes_)) if y.dtype.kind == "i" else ()
    task = Task.REGRESSION if not classes else Task.MULTICLASS if len(classes) > 2 else Task.BINARY
    splits = {
        "train": Split("train", y, "a", x, names, attributes[0]),
        "test": Split("test", wanted, "b", other, names, attributes[1]),
    }
    return SklearnSubject(model, task, classes, splits)


def cancer():
    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.data[order] / data.data.std(axis=0), data.target[order].astype(np.int64)
    return x[:380], y[:380], x[380:].copy(), y[380:].copy()


def run(found, seed=0, **params):
    return CHECK.measure(found, LeakageParams(**params), seed)


def verdict(result, metric, at_most):
    return judge(result, JudgedTarget(metric=metric, interval=(None, at_most), because="plan", source="test")).status


@pytest.mark.parametrize(("copies", "noise", "status"), [(0, 0, "pass"), (30, 0, "fail"), (30, 0.002, "fail")])
def test_planted_twins_fail_and_the_clean_twin_passes(copies, noise, status):
    x, y, other, wanted = cancer()
    rng = np.random.default_rng(1)
    other[:copies] = x[:copies] + noise * rng.standard_normal((copies, 30))
    wanted[:copies] = np.where(np.arange(copies) < 20, y[:copies], 1 - y[:copies])
    result = run(subject(x, y, other, wanted))
    assert verdict(result, None, 0.05) == status
    share = result.metric("twin_share")
    assert share.primary
    assert share.value == copies / len(wanted)
    assert result.metric("exact_twin_share").value == (0 if noise else copies / len(wanted))
    if copies:
        assert "Of 30 test rows with a twin in training 20 have a twin with the same label." in result.remarks
        inflation = result.metric("accuracy_inflation")
        right = result.tables[0].rows
        assert len(right) == 30
        assert right[0][:2] == (right[0][0], right[0][0])  # row i of the test is row i of training
        assert inflation.low < inflation.value < inflation.high
    else:
        assert "accuracy_inflation" not in [metric.name for metric in result.metrics]
        assert result.remarks == ()


@pytest.mark.parametrize(("share", "status"), [(0.0, "pass"), (1.0, "fail")])
def test_a_column_that_holds_the_label(share, status):
    data = load_digits()
    rng = np.random.default_rng(0)
    y = data.target.astype(np.int64)
    column = np.where(rng.random(len(y)) < share, y, rng.permutation(y)) + 0.01 * rng.standard_normal(len(y))
    x = np.column_stack([data.data[:, 20:30], column])
    names = (*map(str, range(10)), "late")
    result = run(subject(x[:1200], y[:1200], x[1200:], y[1200:], names=names))
    assert verdict(result, "best_single_feature", 0.9) == status
    features = next(table for table in result.tables if table.name == "features")
    assert (features.rows[0][1] == "late") == bool(share)
    suspect = (
        "These predict the label almost by themselves (score surely above 0.95): late. That may be a leak or a good "
        "feature: is it known before the label is?"
    )
    assert (suspect in result.remarks) == bool(share)


def test_regression_has_r2_and_an_error_in_units():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(300, 3)), rng.normal(size=(100, 3))
    y, wanted = x[:, 0] + 0.1 * rng.normal(size=300), other[:, 0] + 0.1 * rng.normal(size=100)
    other[:10], wanted[:10] = x[:10], y[:10]
    result = run(subject(x, y, other, wanted))
    assert result.metric("best_single_feature").value > 0.9
    assert result.metric("error_inflation").unit == "units of the target"
    assert result.metric("best_single_feature").method.startswith("R2 of the best of 3 single features")


def test_coarse_inputs_are_not_judged():
    rng = np.random.default_rng(0)
    x, other = rng.integers(0, 3, (200, 2)), rng.integers(0, 3, (80, 2))
    result = run(subject(x, rng.integers(0, 2, 200), other, rng.integers(0, 2, 80)))
    assert verdict(result, None, 0.05) == "inconclusive"
    assert result.metric("twin_share").low is None
    assert any("twins show no leak then, and their share is not judged" in remark for remark in result.remarks)
    assert result.metric("best_single_feature").low is not None
    assert result.doubt is None


def test_every_row_a_twin():
    x, y, *_ = cancer()
    result = run(subject(x, y, x.copy(), y.copy()))
    assert result.metric("twin_share").value == 1
    assert "Every test row has a twin in training, so nothing is left to measure the performance on." in result.remarks


def test_groups_in_both_splits():
    x, y, other, wanted = cancer()
    people = np.arange(len(y)) // 2, 1000 + np.arange(len(wanted)) // 2
    people[1][:40] -= 1000
    frames = tuple(pd.DataFrame({"person": column}) for column in people)
    overlap = run(subject(x, y, other, wanted, frames), group="person").metric("group_overlap_share")
    assert overlap.value == 40 / 189
    alone = run(subject(x, y, other, wanted, frames)).metrics
    assert "group_overlap_share" not in [metric.name for metric in alone]
    # 95 persons of two rows say less than 189 rows.
    assert overlap.high - overlap.low > 0.15
    with pytest.raises(NotApplicable, match="group: the train split has no sensitive column 'person'"):
        run(subject(x, y, other, wanted), group="person")


def test_sorted_rows_are_told():
    x, y, other, wanted = cancer()
    order = np.argsort(y, kind="stable")
    result = run(subject(x[order], y[order], other, wanted))
    assert result.metric("row_order_agreement").low > 0.9
    assert result.metric("row_order_p_value").value < 1e-10
    table = next(table for table in result.tables if table.name == "features")
    assert table.rows[0][1] == "(position of the row)"
    assert result.metric("best_single_feature").value < 1


def test_pictures():
    data = load_digits()
    images, y = data.images, data.target.astype(np.int64)
    other = images[1200:].copy()
    other[:30] = np.roll(images[:30], 1, axis=1) + 2
    splits = {"train": Split("train", y[:1200], "a", images[:1200]), "test": Split("test", y[1200:], "b", other)}
    found = _Fixed(splits, y[1200:])
    result = run(found)
    assert result.metric("twin_share").value == pytest.approx(30 / 597)
    assert result.metric("exact_twin_share").value == 0
    assert "The inputs are no table, so single features were not scored." in result.remarks


class _Fixed(PredictionsSubject):
    """Predictions beside features."""

    def __init__(self, splits, predicted, task=Task.MULTICLASS, classes=tuple("0123456789")):
        super().__init__(task, classes, splits, {"test": predicted}, {})


def test_small_classes_and_few_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), np.repeat([0, 1, 2], [30, 25, 5])
    result = run(subject(x, y, x + 1, y))
    assert "Too small to score features by (fewer than 10 training rows): 2." in result.remarks
    assert result.metric("best_single_feature").low is not None
    few = run(subject(x[:20], y[:20] * 0 + np.arange(20) % 2, x + 1, y % 2))
    assert "Single features were not scored: that takes 50 training rows and two labels." in few.remarks
    one = run(subject(x[:1], np.array([0]), x[1:2], np.array([0])))
    assert one.metric("twin_share").value == 0


def test_refused():
    x, y, other, wanted = cancer()
    with pytest.raises(NotApplicable, match="rows of the two splits differ in shape"):
        run(_Fixed({"train": Split("train", y, "a", x), "test": Split("test", wanted, "b", other[:, :5])}, wanted))
    with pytest.raises(NotApplicable, match="the train split has no features"):
        run(_Fixed({"train": Split("train", y, "a"), "test": Split("test", wanted, "b", other)}, wanted))


def test_same_seed_same_bytes():
    found = subject(*cancer())
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(*cancer())), axes)
    assert axes.get_ylabel() == "feature"
    assert len(axes.get_yticklabels()) == 20
