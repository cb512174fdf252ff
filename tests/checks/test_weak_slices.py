"""reliability.weak_slices end to end: planted groups, clean twins, what is refused."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.reliability.weak_slices import CHECK, WeakSlicesParams

matplotlib.use("Agg")


def rows(n=800, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(40, 10, n), rng.normal(0, 1, n), rng.integers(0, 3, n)])


def subject(x, wrong=None, *, scores=None, attributes=None, values=None, names=("age", "dose", "site")):
    """A classifier that errs in the rows named, or a regression with the errors named."""
    n = len(wrong if values is None else values)
    labels = np.arange(n) % 2 if values is None else np.zeros(n)
    predictions = labels ^ wrong.astype(int) if values is None else values
    found = Split("test", labels, "0", features=x, feature_names=names, attributes=attributes)
    stored = {} if scores is None else {"test": np.stack([1 - scores, scores], axis=1)}
    task = Task.BINARY if values is None else Task.REGRESSION
    classes = ("no", "yes") if values is None else ()
    return PredictionsSubject(task, classes, {"test": found}, {"test": predictions}, stored)


def planted(seed=0, n=800, inside=0.45):
    x = rows(n, seed)
    weak = (x[:, 0] > 47) & (x[:, 2] == 1)
    return x, np.random.default_rng(seed).random(n) < np.where(weak, inside, 0.08)


def run(found, seed=0, **params):
    return CHECK.measure(found, WeakSlicesParams(**params), seed)


def test_planted_group_fails_and_its_clean_twin_does_not():
    x, wrong = planted(n=1600)
    result = run(subject(x, wrong))
    gap = result.metric("worst_slice_gap")
    assert gap.primary
    assert gap.low > 0.05
    assert gap.low < 0.37 < gap.high
    assert result.metric("weak_slices").low >= 1
    assert result.metric("smallest_p_value").value < 0.001
    first = dict(zip(result.tables[0].columns, result.tables[0].rows[0], strict=True))
    assert "site = 1" in first["group"]
    assert "age" in first["group"]
    assert first["confirmed"] is True
    clean = run(subject(*planted(n=1600, inside=0.08)))
    assert clean.metric("worst_slice_gap").low <= 0
    assert clean.metric("weak_slices").value == 0


def test_tells_everything():
    x, wrong = planted()
    result = run(subject(x, wrong))
    assert [metric.name for metric in result.metrics] == [
        "worst_slice_gap",
        "weak_slices",
        "smallest_p_value",
        "mean_loss",
    ]
    assert result.metric("mean_loss").low == clopper_pearson(int(wrong.sum()), 800).low
    assert {metric.better for metric in result.metrics if metric.name != "smallest_p_value"} == {Better.LOWER}
    tests = len(result.tables[0].rows)
    slices = result.metric("weak_slices")
    assert (slices.low, slices.high, slices.unit) == (slices.value, tests, "groups")
    assert slices.value == sum(row[-1] for row in result.tables[0].rows)
    assert result.remarks[0].startswith(tuple("123456789"))
    assert f"groups of 19 conditions were searched in each half of 800 rows; {tests} were tested" in result.remarks[0]
    assert result.remarks[1].startswith("In a group of a tenth of the rows an excess of 0.")
    assert result.remarks[2].startswith("Clearest weak group: ")
    (power,) = result.tables[1:]
    assert [row[:2] for row in power.rows] == [(0.05, 20), (0.1, 40), (0.2, 80), (0.5, 200)]
    assert [row[2] for row in power.rows] == sorted((row[2] for row in power.rows), reverse=True)


def test_groups_by_attributes_alone_and_by_chosen_columns():
    x, wrong = planted(n=1600)
    attributes = pd.DataFrame({"site": x[:, 2].astype(int).astype(str), "person": [f"p{i}" for i in range(1600)]})
    pictures = subject(np.zeros((1600, 1, 2, 2)), wrong, attributes=attributes)
    result = run(pictures, depth=1)
    assert result.remarks[:2] == (
        "The inputs are no table, so groups are told by the attributes alone.",
        "Not cut into groups, too many different values: person.",
    )
    assert {row[0] for row in result.tables[0].rows} <= {"site = 0", "site = 1", "site = 2"}
    both = run(subject(x, wrong, attributes=attributes[["site"]]), columns=("site", "age"))
    assert not any("dose" in row[0] for row in both.tables[0].rows)
    unnamed = run(subject(x, wrong, names=()), columns=("#2",), depth=1)
    assert unnamed.tables[0].rows[0][0] == "#2 = 1"


@pytest.mark.slow
def test_losses():
    x, wrong = planted(n=1600)
    labels = np.arange(1600) % 2
    sure = np.where(wrong, 0.1, 0.9)
    scores = np.where(labels == 1, sure, 1 - sure)
    result = run(subject(x, wrong, scores=scores), loss="log_loss")
    assert result.metric("mean_loss").unit == "nats"
    assert result.metric("mean_loss").value == pytest.approx(-np.log(sure).mean())
    assert result.metric("worst_slice_gap").low > 0
    errors = np.where((x[:, 0] > 47) & (x[:, 2] == 1), 3.0, 1.0) * np.random.default_rng(0).standard_normal(1600)
    regression = run(subject(x, values=errors))
    assert regression.metric("mean_loss").value == pytest.approx(np.abs(errors).mean())
    assert regression.metric("worst_slice_gap").unit == "units of the target"
    assert regression.metric("worst_slice_gap").low > 0.3
    squared = run(subject(x, values=errors), loss="squared_error", permutations=999)
    assert squared.metric("worst_slice_gap").unit == "squared units of the target"
    with pytest.raises(NotApplicable, match=r"log_loss needs class probabilities.*use the loss error"):
        run(subject(x, wrong), loss="log_loss")
    with pytest.raises(NotApplicable, match="the loss error does not go with a regression task"):
        run(subject(x, values=errors), loss="error")


def test_no_errors_at_all():
    result = run(subject(rows(200), np.zeros(200, bool)))
    gap = result.metric("worst_slice_gap")
    assert (gap.value, gap.low, gap.high) == (0, 0, clopper_pearson(0, 20).high)
    assert result.remarks == ("All 200 rows are answered rightly, so no group is worse than another.",)
    assert run(subject(rows(200), np.ones(200, bool))).remarks == (
        "All 200 rows are answered wrongly, so no group is worse than another.",
    )


def test_missing_values_are_a_group():
    x, _ = planted(n=1600)
    gone = np.random.default_rng(1).random(1600) < 0.2
    x[gone, 1] = np.nan
    wrong = np.random.default_rng(2).random(1600) < np.where(gone, 0.4, 0.05)
    result = run(subject(x, wrong), depth=1)
    assert result.tables[0].rows[0][0] == "dose is missing"
    assert result.metric("worst_slice_gap").low > 0.1


def test_same_seed_same_bytes():
    x, wrong = planted(300)
    found = subject(x, wrong)
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()
    assert run(found, 3).model_dump_json() != run(found, 4).model_dump_json()


def test_refused():
    x, wrong = planted()
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(x[:0], wrong[:0]))
    for few in (1, 30):
        with pytest.raises(NotApplicable, match=f"{few} test rows are too few, wanted at least 80"):
            run(subject(x[:few], np.arange(few) % 2 == 1))
    with pytest.raises(NotApplicable, match="no columns to tell groups by"):
        run(subject(None, wrong))
    with pytest.raises(NotApplicable, match="columns: no column 'weight'; found age, dose, site"):
        run(subject(x, wrong), columns=("weight",))
    with pytest.raises(NotApplicable, match="at least 20 rows"):
        run(subject(np.ones((800, 3)), wrong))  # constant columns
    with pytest.raises(NotApplicable, match="the loss is not finite for 1 of 800 rows"):
        run(subject(x, values=np.r_[np.nan, np.zeros(799)]))
    with pytest.raises(NotApplicable, match="at least 20 rows"):
        run(subject(x, values=np.ones(800)))  # every error the same
    for bad in ({"depth": 4}, {"minimum_rows": 1}, {"loss": "f1"}, {"columns": ()}):
        with pytest.raises(ValidationError):
            WeakSlicesParams(**bad)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(*planted())), axes)
    assert axes.get_xlabel() == "excess of the mean loss over the other rows"
    assert len(axes.get_yticklabels()) > 3
    CHECK.plot(run(subject(rows(200), np.zeros(200, bool))), Figure().add_subplot())
