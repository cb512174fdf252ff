"""data.quality end to end: planted faults against their clean twin, coarse data, pictures, refusals."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.datasets import load_breast_cancer
from sklearn.dummy import DummyClassifier, DummyRegressor

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import judge
from assessor_checks._intervals import clopper_pearson
from assessor_checks.data.quality import CHECK, QualityParams

matplotlib.use("Agg")


def subject(x, y, other=None, names=(), attributes=None):
    """Train and test split; the test split is clean noise of the same shape unless given as (x, y)."""
    x, y = np.asarray(x), np.asarray(y)
    classify = y.dtype.kind == "i"
    rng = np.random.default_rng(9)
    clean = (rng.normal(size=(40, *x.shape[1:])), np.resize(y, 40))
    there, wanted = clean if other is None else other
    model = (DummyClassifier() if classify else DummyRegressor()).fit(np.zeros((len(y), 1)), y)
    classes = tuple(map(str, model.classes_)) if classify else ()
    task = (Task.MULTICLASS if len(classes) > 2 else Task.BINARY) if classify else Task.REGRESSION
    splits = {
        "train": Split("train", y, "a", x, tuple(names), attributes),
        "test": Split("test", wanted, "b", there, tuple(names)),
    }
    return SklearnSubject(model, task, classes, splits)


def noise(n=100, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, 2, n)


def run(found, seed=0, **params):
    return CHECK.measure(found, QualityParams(**params), seed)


def test_all_faults_by_hand():
    x, y = noise()
    x[0, 0], x[1, 1], x[2:4, 2], x[4, 0] = np.nan, np.inf, -999, 50
    x[5], y[5] = x[6], y[6]  # a copy
    x[7], y[7] = x[8], 1 - y[8]  # a conflict
    result = run(subject(x, y, names=("a", "b", "c")), ranges={"a": (-10, 10)})
    shares = {metric.name: metric.value for metric in result.metrics}
    assert shares == {
        "affected_share": 0.08,  # rows 0 to 4, the later of 5 and 6, and both 7 and 8
        "missing_share": 0.01,
        "infinite_share": 0.01,
        "code_share": 0.02,
        "out_of_range_share": 0.01,
        "duplicate_share": 0.01,
        "conflict_share": 0.02,
        "outlier_share": pytest.approx(shares["outlier_share"]),
        "error_floor": 0.01,
        "constant_columns": 0,
    }
    assert result.metric("affected_share").primary
    # 98 distinct inputs; the interval of the worse of two splits: its low at 97.5 %, its high at 95 %.
    assert result.metric("missing_share").low == pytest.approx(clopper_pearson(1, 100, 0.975).low, abs=2e-4)
    assert result.metric("missing_share").high >= clopper_pearson(1, 100).high - 2e-4
    assert "In the train split 'c' holds -999 in 2 rows, which looks like a code for a missing value." in result.remarks
    assert (
        "In the train split 2 rows share their inputs with a row of another label, so no model can be right in more "
        "than 99.00% of its rows." in result.remarks
    )
    tables = {table.name: table for table in result.tables}
    assert tables["splits"].rows[0] == ("train", 100, 8, 1, 1, 2, 1, 1, 2, int(100 * shares["outlier_share"] + 0.5))
    assert tables["columns"].rows[0][:2] == ("train", "c")
    assert tables["columns"].rows[0][7] == "-999 (2)"
    assert sum(row[2] for row in tables["classes"].rows) == 140


@pytest.mark.parametrize(("spoilt", "status"), [(0, "pass"), (40, "fail")])
def test_planted_codes_fail_and_the_clean_twin_passes(spoilt, status):
    data = load_breast_cancer()
    x = data.data[:400].copy()
    x[:spoilt, 3] = -999
    rest = (data.data[400:], data.target[400:].astype(np.int64))
    result = run(subject(x, data.target[:400].astype(np.int64), rest))
    target = JudgedTarget(metric=None, interval=(None, 0.03), because="plan", source="test")
    assert judge(result, target).status == status


def test_the_worse_split_counts():
    x, y = noise()
    bad = x.copy()
    bad[:30, 1] = np.nan
    result = run(subject(x, y, (bad[:60], y[:60])))
    assert result.metric("missing_share").value == 0.5
    assert result.metric("missing_share").n == 60


def test_only_what_is_counted_counts():
    x, y = noise()
    x[:10, 0] = np.nan
    x[20:25, 1] = 7777.0
    assert run(subject(x, y), counted=["infinite"]).metric("affected_share").value == 0
    result = run(subject(x, y), counted=["code"], missing_codes=[7777.0])
    assert result.metric("affected_share").value == 0.05


def test_ranges_may_have_one_end():
    x, y = noise()
    x[:5, 0], x[5:7, 0] = 100, -100
    assert run(subject(x, y, names="abc"), ranges={"a": (None, 10)}).metric("out_of_range_share").value == 0.05
    assert run(subject(x, y, names="abc"), ranges={"a": (-10, 10)}).metric("out_of_range_share").value == 0.07
    with pytest.raises(ValidationError, match=r"the least possible value 2\.0 lies above the greatest 1\.0"):
        QualityParams(ranges={"a": (2, 1)})


def test_coarse_rows_repeat_without_fault():
    rng = np.random.default_rng(0)
    result = run(subject(rng.integers(0, 3, (90, 2)), rng.integers(0, 2, 90)))
    assert result.metric("affected_share").value == 0
    assert result.metric("duplicate_share").value > 0.5
    assert result.metric("error_floor").value > 0.2
    assert any(remark.startswith("The inputs of the train split are coarse") for remark in result.remarks)
    assert "Few whole numbers in the train split: #0, #1." in " ".join(result.remarks)


def test_regression_floor_is_the_variance_within_inputs():
    x = np.concatenate([np.arange(30.0), np.arange(30.0)])[:, None]
    y = np.concatenate([np.zeros(30), np.full(30, 2.0)])
    result = run(subject(x, y, (np.arange(100.0, 120.0)[:, None], np.zeros(20))))
    floor = result.metric("error_floor")
    assert floor.value == 1.0
    assert floor.unit == "squared units of the target"
    assert result.metric("conflict_share").value == 1.0
    assert result.metric("affected_share").value == 0.0  # repeated measurements may differ
    assert run(subject(*noise()[:1], np.zeros(100))).metric("error_floor").low is None


def test_constant_and_nearly_constant_columns():
    x, y = noise(200, 4)
    x[:, 0], x[1:, 1], x[:, 3] = 5, 0, x[:, 2]
    result = run(subject(x, y, names=("w", "x", "y", "z")))
    assert result.metric("constant_columns").value == 2
    assert "Constant or nearly constant in the train split: w, x." in result.remarks
    assert "Columns of the train split that equal another in every row: z (y)." in result.remarks
    assert run(subject(x, y), near_constant=1).metric("constant_columns").value == 1


def test_pictures_are_not_looked_at_by_column():
    rng = np.random.default_rng(0)
    x = rng.random((50, 6, 6))
    x[3] = x[4]
    x[5, 0, 0] = np.nan
    result = run(subject(x, np.arange(50) % 2))
    assert result.metric("missing_share").value == 0.02
    assert [metric.name for metric in result.metrics][-1] == "error_floor"
    assert [table.name for table in result.tables] == ["splits", "classes"]
    assert (
        result.remarks[0] == "The inputs of the train split are no table: their numbers were not looked at one by one."
    )


def test_attributes_are_looked_at():
    x, y = noise(4)
    frame = pd.DataFrame({"sex": ["f", None, "?", "m"]})
    result = run(subject(x, y, attributes=frame))
    assert result.tables[-1].rows == (("train", "sex", 1, 1, False),)


def test_one_row_and_refusals():
    result = run(subject([[1.0]], np.array([0]), (np.array([[2.0]]), np.array([0]))))
    assert result.metric("affected_share").high == clopper_pearson(0, 1).high
    assert not any(metric.name == "constant_columns" for metric in result.metrics)  # one row cannot vary
    assert not any("Constant" in remark for remark in result.remarks)
    uneven = run(subject(*noise(), (np.zeros((1, 3)), np.array([0]))))
    assert (uneven.metric("affected_share").n, uneven.metric("error_floor").n) == (1, 1)  # as wide as one row makes it
    x, y = noise()
    with pytest.raises(NotApplicable, match="ranges: no column 'z' in the train split"):
        run(subject(x, y), ranges={"z": (0, 1)})
    with pytest.raises(NotApplicable, match="the inputs are of type <U1, wanted numbers"):
        run(subject(np.array([["a"], ["b"]]), np.array([0, 1]), (np.array([["a"]]), np.array([0]))))
    with pytest.raises(NotApplicable, match="the train split has no rows"):
        run(_empty())
    splits = {"test": Split("test", y, "b")}
    with pytest.raises(NotApplicable, match=r"no features, only predictions; use data\.representation"):
        run(PredictionsSubject(Task.BINARY, ("0", "1"), splits, {"test": y}, {}))


def _empty():
    found = subject(*noise())
    return SklearnSubject(
        DummyClassifier().fit([[0], [0]], [0, 1]),
        Task.BINARY,
        ("0", "1"),
        {"train": Split("train", np.empty(0, np.int64), "a", np.empty((0, 3))), "test": found.splits["test"]},
    )


def test_same_seed_same_bytes():
    found = subject(*noise())
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(*noise())), axes)
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["affected", "missing"]
