"""fairness.distance_covariance: all kinds of output and attribute, planted dependence, clean twins, refused inputs."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from assessor.contract import NotApplicable, Split, Task
from assessor.model import Status, Target
from assessor.subjects.predictions import PredictionsSubject
from assessor.verdicts import judge
from assessor_checks.fairness import _distance_covariance as dcov
from assessor_checks.fairness.distance_covariance import CHECK, DistanceCovarianceParams

matplotlib.use("Agg")
NONE = Target(metric="distance_correlation", interval=(0, 0.1), because="a test")


def subject(attributes, labels, scores=None, predictions=None, *, task=Task.BINARY, classes=("no", "yes")):
    frame = None if attributes is None else pd.DataFrame(attributes)
    regression = task is Task.REGRESSION
    split = Split(
        name="test",
        labels=np.asarray(labels, dtype=float if regression else np.int64),
        sha256="test",
        attributes=frame,
    )
    both = None
    if scores is not None:
        both = np.stack([1 - np.asarray(scores), scores], axis=1) if np.ndim(scores) == 1 else np.asarray(scores)
        predictions = both.argmax(axis=1) if predictions is None else predictions
    said = {"test": np.asarray(predictions)}
    return PredictionsSubject(
        task, () if regression else classes, {"test": split}, said, {"test": both} if both is not None else {}
    )


def run(of, seed=0, **params):
    return CHECK.measure(of, DistanceCovarianceParams(**{"permutations": 199, **params}), seed)


def table(result):
    (found,) = result.tables
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def people(seed=0, n=400, shift=0.0):
    """Scores that follow age, in a bend, by `shift`; sex has nothing to do with them."""
    rng = np.random.default_rng(seed)
    age, sex = rng.uniform(20, 70, n), rng.choice(["f", "m"], n)
    scores = 1 / (1 + np.exp(-rng.standard_normal(n) - shift * (np.abs(age - 45) / 12.5 - 1)))
    return subject({"age": age, "sex": sex}, rng.integers(0, 2, n), scores)


def test_the_whole_outcome():
    of = people(shift=1.0)
    result = run(of)
    assert [m.name for m in result.metrics] == [
        "distance_correlation", "joint_distance_correlation", "independence_p_value",
    ]  # fmt: skip
    assert [m.primary for m in result.metrics] == [True, False, False]
    rows = table(result)
    assert [(row["attributes"], row["together"], row["rows"]) for row in rows] == [
        ("age", "alone", 400), ("sex", "alone", 400), ("age × sex", "concatenated", 400), ("age × sex", "joint", 400),
    ]  # fmt: skip
    age = of.splits["test"].attributes["age"].to_numpy()
    exact = dcov.of_values(of.scores("test")[:, 1], age)
    assert rows[0]["plain distance correlation"] == pytest.approx(exact.plain)
    assert rows[0]["distance covariance"] == pytest.approx(exact.covariance)
    assert rows[0]["distance correlation"] == pytest.approx(np.sqrt(exact.corrected))
    worst = result.metric("distance_correlation")
    assert worst.value == max(row["distance correlation"] for row in rows[:3])
    assert worst.low <= worst.value <= worst.high == max(row["high"] for row in rows[:3])
    assert result.metric("independence_p_value").value == min(row["p_holm"] for row in rows) == 4 / 200
    assert result.doubt is None
    assert result.remarks == (
        "Output looked at: score of class 'yes'.",
        "With 400 rows a distance correlation under about 0.17 cannot be seen reliably (power under 80%), even between "
        "a yes or no attribute and a yes or no decision; finer ones need more.",
    )


def test_planted_dependence_fails_and_its_clean_twin_does_not():
    planted, clean = run(people(shift=2.0)), run(people())
    assert judge(planted, NONE).status is Status.FAIL
    assert judge(clean, NONE).status in {Status.PASS, Status.INCONCLUSIVE}
    assert clean.metric("distance_correlation").low == 0
    assert clean.metric("independence_p_value").value > 0.05


def test_exclusive_or_shows_in_what_is_taken_together():
    a, b = np.repeat([0, 0, 1, 1], 100), np.repeat([0, 1, 0, 1], 100)
    of = subject({"a": a, "b": b}, a ^ b, predictions=a ^ b)
    rows = table(run(of))
    assert [row["p_value"] > 0.05 for row in rows] == [True, True, False, False]
    assert rows[3]["distance correlation"] > rows[2]["distance correlation"] > 0.3


@pytest.mark.parametrize(
    ("params", "said", "number"),
    [({}, "score of class 'yes'", True), ({"output": "prediction"}, "predicted class", False),
     ({"positive": "no"}, "score of class 'no'", True)],
)  # fmt: skip
def test_which_output_is_looked_at(params, said, number):
    of = people(shift=1.0)
    result = run(of, **params)
    assert result.remarks[0] == f"Output looked at: {said}."
    age = of.splits["test"].attributes["age"].to_numpy()
    if number:
        exact = dcov.of_values(of.scores("test")[:, 1], age)
    else:
        exact = dcov.of_values_and_cells(age, of.predictions("test"), 1.0 - np.eye(2))
    assert table(result)[0]["plain distance correlation"] == pytest.approx(exact.plain)


def test_multiclass_takes_the_predicted_class_and_regression_the_value():
    rng = np.random.default_rng(0)
    sex, labels = rng.choice(["f", "m"], 300), rng.integers(0, 3, 300)
    scores = rng.dirichlet([1, 1, 1], 300)
    classes = ("a", "b", "c")
    many = subject({"sex": sex}, labels, scores, task=Task.MULTICLASS, classes=classes)
    assert run(many).remarks[0] == "Output looked at: predicted class."
    assert run(many, positive="b").remarks[0] == "Output looked at: score of class 'b'."
    values = subject({"sex": sex}, labels, predictions=labels + 1.0 * (sex == "f"), task=Task.REGRESSION)
    result = run(values)
    assert result.remarks[0] == "Output looked at: predicted value."
    assert result.metric("distance_correlation").low > 0.1
    with pytest.raises(NotApplicable, match=r"use fairness\.regression_parity, which compares the errors of groups"):
        run(values, given="label")


def test_given_the_label_only_what_is_beyond_it_counts():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 800)
    sex = (rng.random(800) < 0.3 + 0.4 * labels).astype(int)
    scores = 1 / (1 + np.exp(-(2 * labels - 1 + rng.standard_normal(800))))
    of = subject({"sex": sex}, labels, scores)
    assert run(of).metric("independence_p_value").value == 1 / 200
    within = run(of, given="label")
    assert within.metric("independence_p_value").value > 0.05
    assert within.metric("distance_correlation").low == 0
    few = subject({"sex": sex}, np.where(np.arange(800) < 790, 0, 1), scores)
    assert "Left out: true class 'yes' with 10 rows, fewer than 20." in run(few, given="label").remarks


def test_missing_and_unfit_attributes_are_named():
    rng = np.random.default_rng(0)
    age = np.where(np.arange(300) < 10, np.nan, rng.uniform(20, 70, 300))
    sex = np.where(np.arange(300) < 20, None, rng.choice(["f", "m"], 300))
    of = subject(
        {"age": age, "sex": sex, "name": [f"p{i}" for i in range(300)], "land": ["x"] * 300},
        rng.integers(0, 2, 300), rng.random(300),
    )  # fmt: skip
    result = run(of)
    assert result.doubt == (
        "'name' is not judged: it has 300 distinct texts; cut it into groups first. "
        "'land' is not judged: it has the same value in all rows."
    )
    assert "10 rows without a finite value of every quantity are left out." in result.remarks
    assert {row["rows"] for row in table(result)} == {290}
    assert judge(result, NONE).status is Status.INCONCLUSIVE
    assert run(of, attributes=("sex",)).doubt is None


def test_a_sample_of_pairs_is_told():
    rng = np.random.default_rng(0)
    ages = {"age": rng.uniform(20, 70, 700), "years": rng.uniform(0, 30, 700)}
    result = run(subject(ages, rng.integers(0, 2, 700), rng.random(700)), pair_rows=150, permutations=99)
    assert "age × years together: distances of a random sample of 150 of 700 rows." in result.remarks
    assert [row["rows"] for row in table(result)] == [700, 700, 150, 150]


SEX = {"sex": ["f", "m"] * 20}


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(None, [0, 1], [0.1, 0.9]), {}, "no rows with sensitive attributes"),
        (subject({"sex": []}, [], np.empty((0, 2))), {}, "no rows with sensitive attributes"),
        (subject({"sex": ["f"] * 30}, [1] * 30, [0.9] * 30), {}, "same value in all rows. Name sensitive attributes"),
        (subject({"sex": ["f"]}, [1], [0.9]), {}, "1 rows can be compared, too few"),
        (subject({"sex": ["f", "m"]}, [1, 0], [0.9, 0.1]), {}, "2 rows can be compared, too few"),
        (subject(SEX, [0] * 40, [0.5] * 40), {}, "score of class 'yes' is the same in all 40 rows"),
        (subject(SEX, [0] * 40, [np.nan] * 40), {}, "not finite for 40 of 40 rows"),
        (subject(SEX, [0] * 40, [0.5] * 40), {"attributes": ("age",)}, r"no sensitive column 'age'; found \['sex'\]"),
        (subject(SEX, [0] * 40, [0.5] * 40), {"positive": "maybe"}, "no class 'maybe'"),
        (subject(SEX, [0] * 40, predictions=[0, 1] * 20), {"output": "score"}, "set output to prediction"),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_same_seed_same_bytes():
    of = people(shift=0.3, n=150)
    first, again, other = (run(of, seed, attributes=("age",)).model_dump_json() for seed in (3, 3, 4))
    assert first == again != other


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(people()), axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "age", "sex", "age × sex (concatenated)", "age × sex (joint)",
    ]  # fmt: skip
    assert axes.get_xlabel() == "distance correlation, with interval"
