"""data.representation: shares by hand, a group left out against its clean twin, refusals."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget
from assessor.subjects.predictions import PredictionsSubject
from assessor.verdicts import judge
from assessor_checks._intervals import clopper_pearson
from assessor_checks.data.representation import CHECK, RepresentationParams

matplotlib.use("Agg")


def subject(labels, task=Task.BINARY, classes=("no", "yes"), **attributes):
    """Both splits hold the same rows; keywords are attributes, or one frame a split under `frames`."""
    labels = np.asarray(labels)
    frames = attributes.pop("frames", None)
    frame = pd.DataFrame(attributes) if attributes else None
    splits = {
        name: Split(name, labels, name, attributes=frames[name] if frames else frame) for name in ("train", "test")
    }
    return PredictionsSubject(task, classes, splits, dict.fromkeys(splits, labels), {})


def run(found, seed=0, **params):
    return CHECK.measure(found, RepresentationParams(**params), seed)


def test_by_hand():
    sex = np.repeat(["f", "m", "f", "m"], [10, 30, 20, 40])
    labels = np.repeat([0, 0, 1, 1], [10, 30, 20, 40])
    result = run(subject(labels, sex=sex), reference={"sex": {"f": 0.5, "m": 0.5}}, enough=20)
    smallest = result.metric("smallest_ratio")
    assert smallest.primary
    assert smallest.value == pytest.approx(0.6)
    # Four ratios (two groups, two splits): upper end at 1 - 0.05 / 4, lower end plain.
    assert smallest.high == pytest.approx(2 * clopper_pearson(30, 100, 1 - 0.05 / 4).high)
    assert smallest.low == pytest.approx(2 * clopper_pearson(30, 100).low)
    assert result.metric("largest_ratio").value == pytest.approx(1.4)
    assert result.metric("smallest_group_rows").value == 30
    assert result.metric("smallest_group_rows").low == result.metric("smallest_group_rows").high == 30
    assert result.metric("covered_cells").value == 0.75
    assert result.metric("effective_sample_share").value == pytest.approx(1 / (0.25 / 0.3 + 0.25 / 0.7))
    assert result.metric("shares_p_value").value <= 0.001  # 6.3e-5 (binomial, 30 of 100 or farther) twice, after Holm
    groups, uncovered = result.tables
    assert groups.rows[0][:4] == ("train", "sex", "f", 30)
    assert groups.rows[-1][8] is None  # the classes are counted only
    assert [row for row in uncovered.rows if row[1] == "train"] == [(10, "train", "no", "f")]
    assert result.remarks == (
        "No wanted shares were declared for 'label': its groups are counted, not compared.",
        "With 100 rows in the train split a lack of 'f' (sex) shows reliably (power 80%) when its ratio is 0.67 or "
        "less.",
    )
    assert result.doubt is None


@pytest.mark.parametrize(("share", "status"), [(0.25, "pass"), (0.1, "fail")])
def test_group_left_out_fails_and_its_twin_passes(share, status):
    rng = np.random.default_rng(0)
    age = np.where(rng.random(2000) < share, "old", "young")
    result = run(subject(rng.integers(0, 2, 2000), age=age), reference={"age": {"old": 0.25, "young": 0.75}})
    target = JudgedTarget(metric="smallest_ratio", interval=(0.8, None), because="law", source="test")
    assert judge(result, target).status == status


def test_missing_group_has_ratio_and_effective_size_0():
    result = run(subject([0, 1] * 50, sex=["m"] * 100), reference={"sex": {"f": 0.5, "m": 0.5}})
    assert result.metric("smallest_ratio").value == 0
    assert result.metric("smallest_ratio").high < 0.2
    assert result.metric("effective_sample_share").value == 0
    assert result.metric("smallest_group_rows").value == 0
    assert result.metric("covered_cells").value == 0.5


def test_classes_without_declared_shares_are_compared_with_equal_ones():
    result = run(subject([0] * 90 + [1] * 10))
    assert result.metric("smallest_ratio").value == pytest.approx(0.2)
    assert "No wanted shares were declared for 'label': its 2 groups are compared with equal shares." in result.remarks
    assert run(subject([0] * 90 + [1] * 10), classes={"no": 0.9, "yes": 0.1}).metric("smallest_ratio").value == 1


def test_impossible_combinations_are_left_out():
    values = {"a": ["x"] * 60 + ["y"] * 40, "b": ["u"] * 30 + ["v"] * 30 + ["u"] * 40}
    plain = run(subject([0.0] * 100, Task.REGRESSION, (), **values))
    less = run(subject([0.0] * 100, Task.REGRESSION, (), **values), impossible=[{"a": "y", "b": "v"}])
    assert plain.metric("covered_cells").value == 0.75
    assert less.metric("covered_cells").value == 1


def test_nothing_unmeasured_passes():
    frames = {"train": pd.DataFrame({"sex": ["f", "m"] * 20}), "test": None}
    result = run(subject([0, 1] * 20, frames=frames), reference={"sex": {"f": 0.5, "m": 0.5}})
    assert result.doubt == "The test split does not record 'sex', so it is not looked at there."
    assert "Combinations are not counted, since not every split records all attributes." in result.remarks
    one = run(subject([0, 1] * 20, sex=["f"] * 40))
    assert one.doubt == "'sex' has the same value in every row, and no wanted shares were declared for it."
    many = run(subject([0, 1] * 20, person=np.arange(40)))
    assert many.doubt is not None
    assert "'person' is not looked at in the train split: it has 40 distinct values" in many.doubt
    assert run(subject([0, 1] * 20, person=np.arange(40)), classes={"no": 0.5, "yes": 0.5}).doubt is None


def test_values_without_a_wanted_share_are_told():
    result = run(subject([0, 1] * 20, sex=["f", "m", "x", "f"] * 10), reference={"sex": {"f": 0.5, "m": 0.4}})
    assert "Values of 'sex' without a wanted share: x." in result.remarks
    assert result.metric("smallest_ratio").value == pytest.approx(0.625)


def test_one_row():
    result = run(subject([0]), splits=["test"])
    assert result.metric("smallest_ratio").value == 0
    assert result.metric("smallest_ratio").high == pytest.approx(2 * clopper_pearson(0, 1, 0.975).high)
    assert any("With 1 rows in the test split not even the complete lack of" in remark for remark in result.remarks)


def test_refused():
    with pytest.raises(NotApplicable, match="neither classes nor sensitive attributes"):
        run(subject([0.5, 1.0], Task.REGRESSION, ()))
    with pytest.raises(NotApplicable, match="there is no train split, or it has no rows"):
        run(subject(np.empty(0, np.int64)))
    with pytest.raises(NotApplicable, match="no split records the attribute 'age'"):
        run(subject([0, 1], sex=["f", "m"]), attributes=["age"])
    with pytest.raises(NotApplicable, match="declared for 'maybe', which is no class"):
        run(subject([0, 1]), classes={"maybe": 0.5})
    with pytest.raises(NotApplicable, match="impossible: no value 'z' of 'sex'"):
        run(subject([0, 1], sex=["f", "m"]), impossible=[{"sex": "z"}])
    with pytest.raises(NotApplicable, match="'sex' has the same value in every row"):
        run(subject([0.5, 1.0], Task.REGRESSION, (), sex=["f", "f"]))
    with pytest.raises(ValidationError, match=r"wanted shares sum to 1\.2"):
        RepresentationParams(classes={"a": 0.6, "b": 0.6})


def test_same_seed_same_bytes():
    found = subject([0, 1, 1] * 20, sex=["f", "m", "m"] * 20)
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject([0, 1, 1] * 20)), axes)
    assert axes.get_xlabel() == "share over wanted share, with interval"
    assert axes.get_yticklabels()[0].get_text() == "label: no (train)"
