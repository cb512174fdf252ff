"""fairness.calibration_by_group: by hand, planted miscalibration, clean twins, level, coverage, refused inputs."""

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
from assessor_checks import _calibration, _groups
from assessor_checks.fairness._group_calibration import compare_calibration
from assessor_checks.fairness.calibration_by_group import CHECK, CalibrationByGroupParams

matplotlib.use("Agg")
NONE = Target(metric="calibration_difference", interval=(None, 0.03), because="a test")


def subject(attributes, labels, scores, *, task=Task.BINARY, classes=("no", "yes")):
    frame = None if attributes is None else pd.DataFrame(attributes)
    split = Split(name="test", labels=np.asarray(labels, dtype=np.int64), sha256="test", attributes=frame)
    both = np.asarray(scores, dtype=float)
    both = np.stack([1 - both, both], axis=1) if both.ndim == 1 else both
    return PredictionsSubject(task, classes, {"test": split}, {"test": both.argmax(1)}, {"test": both})


def run(of, seed=0, **params):
    return CHECK.measure(of, CalibrationByGroupParams(**{"permutations": 199, "replicates": 100, **params}), seed)


def table(result, name):
    found = next(x for x in result.tables if x.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def drawn(seed=0, n=1000, more=0.0, truth=lambda p: p):
    """Two groups with other scores; in b the event comes more often by `more`."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], n)
    scores = 1 / (1 + np.exp(-(rng.standard_normal(n) + 1.0 * (group == "b"))))
    came = rng.random(n) < np.clip(truth(scores) + more * (group == "b"), 0, 1)
    return subject({"site": group}, came, scores)


def groups(names):
    return _groups.find_groups(pd.DataFrame({"g": names}))


def test_by_hand():
    # One score, so one bin: a comes true in 30 of 60, b in 54 of 60; Cochran's weights leave the plain difference.
    labels = [1] * 30 + [0] * 30 + [1] * 54 + [0] * 6
    result = run(subject({"site": ["a"] * 60 + ["b"] * 60}, labels, [0.7] * 120))
    metric = result.metric("calibration_difference")
    assert metric.value == pytest.approx(0.4)
    variance = 0.7 * 0.3 * 120 / 119
    half = 1.959964 * np.sqrt(variance * (1 / 60 + 1 / 60))
    assert metric.high == pytest.approx(0.4 + half, abs=1e-6)
    assert 0 < metric.low <= 0.4 - half + 1e-6
    assert [m.name for m in result.metrics] == [
        "calibration_difference",
        "worst_group_ece",
        "calibration_parity_p_value",
    ]
    assert [m.primary for m in result.metrics] == [True, False, False]
    assert result.metric("calibration_parity_p_value").value == pytest.approx(2 / 200)
    first, second = table(result, "groups")
    assert (first["mean score"], first["share"], first["share - score"]) == pytest.approx((0.7, 0.5, -0.2))
    assert second["calibration error"] == pytest.approx(0.2, abs=0.03)
    assert table(result, "pairs")[0]["difference"] == pytest.approx(-0.4)
    assert result.remarks[0] == "Event: the true class is 'yes'."
    assert result.doubt is None


def test_weights_over_bins_by_hand():
    # Bin 0: a 2 rows of mean residual .5, b 4 of -.25; bin 1: a 6 of 0, b 2 of .5. Weights 8/6 and 12/8.
    names = ["a"] * 2 + ["b"] * 4 + ["a"] * 6 + ["b"] * 2
    index = np.repeat([0, 1], [6, 8])
    residuals = np.array([1, 0, -1, 0, 0, 0, 1, -1, 0, 0, 1, -1, 1, 0], dtype=float)
    found = compare_calibration(
        groups(names), residuals, index, minimum=2, confidence=0.95, permutations=99, rng=np.random.default_rng(0)
    )
    weights = np.array([2 * 4 / 6, 6 * 2 / 8])
    assert found.pairs[0].value == pytest.approx((weights @ [0.75, -0.5]) / weights.sum())
    spread = np.array([residuals[index == b].var(ddof=1) for b in (0, 1)])
    error = np.sqrt(weights @ spread) / weights.sum()
    assert found.pairs[0].high - found.pairs[0].value == pytest.approx(found.gap.critical * error)


def test_planted_miscalibration_fails_and_its_clean_twin_does_not():
    planted, clean = run(drawn(more=0.15)), run(drawn())
    assert judge(planted, NONE).status is Status.FAIL
    assert judge(clean, NONE).status is not Status.FAIL
    assert clean.metric("calibration_difference").low == 0
    assert clean.metric("calibration_parity_p_value").value > 0.05
    assert clean.metric("worst_group_ece").low == 0


def test_crossing_curves_show_in_the_curve_only():
    rng = np.random.default_rng(0)
    group, scores = rng.integers(0, 2, 3000), rng.uniform(0.05, 0.95, 3000)
    came = rng.random(3000) < np.where(group == 1, scores + 0.3 * (1 - 2 * scores), scores)
    result = run(subject({"g": group}, came, scores))
    tests = {row["compared"]: row["p_value"] for row in table(result, "parity_tests")}
    assert tests["average"] > 0.05
    assert tests["curve"] == 1 / 200
    assert result.metric("worst_group_ece").low > 0.05


def test_multiclass_judges_the_predicted_class_unless_one_is_named():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], 600)
    labels = (rng.random(600)[:, None] > scores.cumsum(1)).sum(1)
    of = subject({"site": rng.choice(["a", "b"], 600)}, labels, scores, task=Task.MULTICLASS, classes=("x", "y", "z"))
    result = run(of)
    assert result.remarks[0] == "Event: the most probable class is the true one."
    assert table(result, "groups")[0]["mean score"] > 0.5
    assert run(of, positive="x").remarks[0] == "Event: the true class is 'x'."


def test_small_groups_and_quantities():
    of = drawn()
    frame = of.splits["test"].attributes.assign(land=np.where(np.arange(1000) < 30, "y", "x"), age=np.arange(1000))
    result = run(subject(frame, of.splits["test"].labels, of.scores("test")))
    assert result.doubt == (
        "'age' is not judged: it has 1000 distinct values; cut it into groups first. "
        "Fewer than two groups can be compared in: land."
    )
    assert any("land: y (30)" in remark for remark in result.remarks)
    status = {row["group"]: row["status"] for row in table(result, "groups")}
    assert (status["x"], status["y"]) == ("judged", "insufficient data")


def test_groups_without_a_common_score_cannot_be_compared():
    scores = np.concatenate([np.full(100, 0.1), np.full(100, 0.9)])
    came = np.random.default_rng(0).random(200) < scores
    with pytest.raises(NotApplicable, match="have rows with similar scores"):
        run(subject({"site": ["a"] * 100 + ["b"] * 100}, came, scores))


@pytest.mark.slow
@pytest.mark.parametrize("truth", [lambda p: p, lambda p: p**1.5])  # calibrated, and wrong alike in all groups
def test_level_where_scores_differ(truth):
    alarms = np.zeros(2)
    for seed in range(200):
        of = drawn(seed, 600, truth=truth)
        scores, labels = of.scores("test")[:, 1], of.splits["test"].labels
        found = compare_calibration(
            groups(of.splits["test"].attributes["site"]), labels - scores, _calibration.equal_mass(scores, 30),
            minimum=50, confidence=0.95, permutations=99, rng=np.random.default_rng(seed),
        )  # fmt: skip
        alarms += [min(found.adjusted) <= 0.05, found.gap.low > 0]
    assert (alarms / 200 <= 0.081).all()  # 5 % and two standard errors of 200


def test_coverage():
    held = np.zeros(2)
    for seed in range(150):
        rng = np.random.default_rng(seed)
        group, scores = rng.integers(0, 2, 500), rng.uniform(0.1, 0.8, 500)
        residuals = (rng.random(500) < scores + 0.12 * group) - scores
        found = compare_calibration(
            groups(group), residuals, _calibration.equal_mass(scores, 25), minimum=50, confidence=0.95,
            permutations=99, rng=rng,
        )  # fmt: skip
        held += [found.gap.low <= 0.12, found.gap.high >= 0.12]
    assert (held / 150 >= 0.975 - 2.5 * np.sqrt(0.025 * 0.975 / 150)).all()


HALF = {"site": ["a", "b"] * 60}


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(None, [0], [0.5]), {}, "no rows with sensitive attributes"),
        (subject({"site": []}, [], np.empty((0, 2))), {}, "no rows with sensitive attributes"),
        (subject({"site": ["a"]}, [1], [0.5]), {}, "have 50 rows or more. All rows have the same value of: site."),
        (subject({"site": ["a"] * 30 + ["b"] * 60}, [1] * 90, [0.5] * 90), {}, r"site: a \(30\)\. Take more rows"),
        (subject(HALF, [0] * 120, [np.nan] * 120), {}, "no probabilities that sum to 1 for 120 of 120 rows"),
        (subject(HALF, [0] * 120, [1.5] * 120), {}, "no probabilities that sum to 1 for 120 of 120 rows"),
        (subject(HALF, [0] * 120, [0.5] * 120), {"positive": "maybe"}, "no class 'maybe'"),
        # nothing ever comes: no variance to judge by
        (subject(HALF, [0] * 120, [0.5] * 120), {}, "some came true and some did not; use fairness.group_metrics"),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_same_seed_same_bytes():
    of = drawn(n=300)
    assert run(of, 3).model_dump_json() == run(of, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(drawn()), axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert axes.get_ylabel() == "share that came true"
