"""uncertainty.calibration: solved by hand, slow and foreign oracles, measured coverage, planted over-confidence."""

import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.metrics import brier_score_loss, log_loss

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor_checks import _calibration as maths
from assessor_checks.uncertainty.calibration import CHECK, CalibrationParams

matplotlib.use("Agg")


def stored(labels, scores, task=None, hard=None):
    """A table of predictions: labels (n,) and scores (n, C), or (n,) of the positive class."""
    scores = np.asarray(scores, dtype=float)
    if scores.ndim == 1:
        scores = np.stack([1 - scores, scores], axis=1)
    split = Split(name="test", labels=np.asarray(labels, dtype=np.int64), sha256="0")
    task = task or (Task.BINARY if scores.shape[1] == 2 else Task.MULTICLASS)
    classes = tuple(f"c{i}" for i in range(scores.shape[1]))
    found = np.asarray(hard) if hard is not None else np.nan_to_num(scores).argmax(axis=1)
    return PredictionsSubject(task, classes, {"test": split}, {"test": found}, {"test": scores})


def run(subject, seed=0, **params):
    return CHECK.measure(subject, CalibrationParams(**{"replicates": 200, **params}), seed)


def two_bins():
    """40 rows at 0.6 of which 30 come true, 40 at 0.9 of which 28 do."""
    confidence = np.repeat([0.6, 0.9], 40)
    labels = np.concatenate([np.arange(40) < 30, np.arange(40) < 28]).astype(int)
    return stored(labels, confidence)


def softmax(logits):
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def test_by_hand():
    result = run(two_bins(), bins=2)
    assert result.metric("ece").value == pytest.approx(0.5 * 0.15 + 0.5 * 0.20)
    assert result.metric("ece").primary
    assert result.metric("brier").value == pytest.approx((30 * 0.16 + 10 * 0.36 + 28 * 0.01 + 12 * 0.81) / 80)
    loss = -(30 * math.log(0.6) + 10 * math.log(0.4) + 28 * math.log(0.9) + 12 * math.log(0.1)) / 80
    assert result.metric("nll").value == pytest.approx(loss)
    assert result.metric("nll").unit == "nats"
    assert result.metric("confidence_minus_accuracy").value == pytest.approx(0.75 - 58 / 80)
    assert result.metric("confidence_minus_accuracy").better is Better.NONE
    assert result.metric("calibration_p_value").better is Better.HIGHER
    assert result.metric("calibration_p_value").low is None
    assert result.remarks == ()
    assert result.doubt is None
    assert [metric.name for metric in result.metrics] == [
        "ece",
        "ece_debiased",
        "calibration_p_value",
        "brier",
        "nll",
        "confidence_minus_accuracy",
    ]


def test_bins_and_decomposition_by_hand():
    decomposition, bins = run(two_bins(), bins=2).tables
    assert [row[:3] for row in bins.rows] == [
        (40, pytest.approx(0.6), pytest.approx(0.75)),
        (40, pytest.approx(0.9), pytest.approx(0.7)),
    ]
    assert bins.rows[0][3:] == pytest.approx((0.5981, 0.8581), abs=5e-5)  # Wilson of 30 in 40
    parts = dict(row[:2] for row in decomposition.rows)
    assert parts["reliability"] == pytest.approx((0.15**2 + 0.2**2) / 2)
    assert parts["resolution"] == pytest.approx(0.025**2)
    assert parts["uncertainty"] == pytest.approx(0.725 * 0.275)
    assert parts["within-bin spread"] == pytest.approx(0)
    assert parts["Brier score"] == pytest.approx(18.4 / 80)


rows_strategy = st.integers(0, 10_000).map(np.random.default_rng)


@given(rows_strategy, st.integers(1, 200), st.integers(1, 12), st.sampled_from(["equal_mass", "equal_width"]))
@settings(max_examples=60, deadline=None)
def test_error_and_decomposition_against_a_plain_loop(rng, n, wanted, binning):
    confidence = rng.random(n).round(int(rng.integers(1, 4)))  # rounding makes ties
    events = (rng.random(n) < 0.6).astype(float)
    index = getattr(maths, binning)(confidence, wanted)
    error = 0.0
    for number in range(index.max() + 1):
        inside = [row for row in range(n) if index[row] == number]
        assert inside
        error += abs(sum(events[row] - confidence[row] for row in inside)) / n
    assert maths.ece(maths.summarise(confidence, events, index)) == pytest.approx(error)
    parts = maths.decompose(confidence, events, index)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.spread - 2 * parts.covariance
    assert total == pytest.approx(((confidence - events) ** 2).mean(), abs=1e-12)
    order = np.argsort(confidence, kind="stable")
    assert (np.diff(index[order]) >= 0).all()
    assert all(len(set(index[confidence == value])) == 1 for value in confidence)


def test_equal_width_is_closed_on_the_right():
    assert maths.equal_width(np.array([0.0, 0.5, 0.500001, 1.0]), 2).tolist() == [0, 0, 1, 1]


def test_equal_mass_splits_evenly_without_ties():
    assert np.bincount(maths.equal_mass(np.random.default_rng(0).random(100), 15)).tolist() == [
        100 * (i + 1) // 15 - 100 * i // 15 for i in range(15)
    ]


def test_scores_against_scikit_learn():
    rng = np.random.default_rng(0)
    p, labels = rng.random(300), rng.integers(0, 2, 300)
    result = run(stored(labels, p))
    assert result.metric("brier").value == pytest.approx(brier_score_loss(labels, p))
    assert result.metric("nll").value == pytest.approx(log_loss(labels, p))
    scores, labels = softmax(rng.standard_normal((300, 4))), rng.integers(0, 4, 300)
    result = run(stored(labels, scores))
    assert result.metric("brier").value == pytest.approx(brier_score_loss(labels, scores, scale_by_half=False))
    assert result.metric("nll").value == pytest.approx(log_loss(labels, scores))
    assert "sum over classes" in result.metric("brier").method


# name: probability the model states, and what it is in truth
WORLDS = {
    "calibrated": lambda p: p,
    "over-confident by 0.1": lambda p: p - 0.1,
    "over-confident by 0.3": lambda p: p - 0.3,
    "wrong by 0.25 in the upper fifth": lambda p: np.where(p > 0.92, p - 0.25, p),
}


@pytest.mark.parametrize("world", WORLDS)
def test_interval_covers_the_true_error(world):
    # 60 simulations of 1000 rows in 15 bins; at a coverage of 0.95 under 52 hits come once in 200 suites.
    everyone = 0.6 + 0.4 * np.random.default_rng(1).beta(2, 1.5, 100_000)
    hits = zeros = above = 0
    for seed in range(60):
        rng = np.random.default_rng([3, seed])
        p = 0.6 + 0.4 * rng.beta(2, 1.5, 1000)
        events = (rng.random(1000) < WORLDS[world](p)).astype(float)
        index = maths.equal_mass(p, 15)
        bins = maths.summarise(p, events, index)
        p_value = maths.consistency_p_value(p, index, maths.ece(bins), seed, 100)
        found = maths.true_ece(bins, p_value, seed, 60)
        edges = [p[index == number].min() for number in range(1, 15)]
        gaps = WORLDS[world](everyone) - everyone
        true = np.abs(np.bincount(np.searchsorted(edges, everyone, side="right"), gaps)).sum() / len(everyone)
        assert 0 <= found.low <= found.value <= maths.ece(bins) <= found.high <= 1
        hits += found.low - 1e-9 <= true <= found.high
        zeros += found.low == 0
        above += found.low > 0.03
    assert hits >= 52
    if world == "calibrated":
        assert zeros >= 55
    if world.startswith("over-confident"):
        assert above >= 57


def test_p_value_is_uniform_or_more_under_calibration():
    rng, small = np.random.default_rng(0), 0
    for seed in range(200):
        p = rng.random(100)
        events = (rng.random(100) < p).astype(float)
        index = maths.equal_mass(p, 5)
        observed = maths.ece(maths.summarise(p, events, index))
        small += maths.consistency_p_value(p, index, observed, seed, 99) <= 0.05
    assert small <= 20  # 10 expected, standard deviation 3.1


def test_redrawing_in_chunks_does_not_change_the_value():
    p = np.random.default_rng(0).random(100)
    index = maths.equal_mass(p, 5)
    whole = maths.consistency_p_value(p, index, 0.06, 0, 300)
    assert 0 < whole < 1
    assert maths.consistency_p_value(p, index, 0.06, 0, 300, held=700) == whole


@given(rows_strategy, st.floats(-8, 8), st.sampled_from([0, 2]))
@settings(max_examples=60, deadline=None)
def test_moving_shares_raises_the_error_with_z(rng, z, firm):
    n = rng.integers(1, 60, 6)
    bins = maths.Bins(n, rng.random(6).round(1), rng.integers(0, n + 1) / n)
    errors = [maths.ece(bins._replace(accuracy=maths.moved(bins, at, firm))) for at in (z, z + 0.5)]
    assert errors[0] <= errors[1] + 1e-12
    assert maths.moved(bins, 0.0, firm) == pytest.approx(bins.accuracy)


def test_over_confident_model_and_its_temperature_corrected_twin():
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((2000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    sharp, right = run(stored(labels, softmax(3 * logits))), run(stored(labels, softmax(logits)))
    target = 0.07
    assert sharp.metric("ece").low > target
    assert sharp.metric("confidence_minus_accuracy").low > 0.1
    assert sharp.metric("calibration_p_value").value == pytest.approx(1 / 201)
    assert right.metric("ece").high < target
    assert right.metric("ece").low == 0
    assert right.metric("calibration_p_value").value > 0.05
    assert right.metric("nll").value < sharp.metric("nll").value
    for result in (sharp, right):
        plain, debiased = result.metric("ece"), result.metric("ece_debiased")
        assert (plain.low, plain.high, plain.confidence) == (debiased.low, debiased.high, 0.95)
        assert debiased.value <= plain.value


def test_positive_kind_judges_the_positive_class():
    labels = np.concatenate([np.arange(50) < 5, np.arange(50) < 40]).astype(int)
    subject = stored(labels, np.repeat([0.1, 0.9], 50))
    result = run(subject, kind="positive", bins=2)
    assert result.metric("ece").value == pytest.approx(0.05)
    assert result.metric("confidence_minus_accuracy").value == pytest.approx(0.5 - 0.45)
    assert "positive class" in result.metric("ece").method
    assert run(subject, bins=2, binning="equal_width").metric("ece").value == pytest.approx(0.05)


def test_equal_confidences_share_one_bin():
    result = run(stored(np.arange(400) % 4 > 0, np.full(400, 0.75)))
    assert result.metric("ece").value == pytest.approx(0, abs=1e-12)
    assert result.metric("ece").low == 0
    assert len(result.tables[1].rows) == 1
    assert result.remarks == ("1 of 15 bins are used: equal confidences stay in one bin.",)


def test_remarks():
    n = 100
    labels = np.zeros(n, dtype=int)
    labels[0] = 1
    result = run(stored(labels, np.zeros(n), hard=np.arange(n) < 3), binning="equal_width", bins=10)
    assert result.remarks == (
        "5 instead of 10 bins, for 20 rows a bin on average at 100 rows.",
        "1 of 5 bins are used: the others hold no row.",
        "1 rows give the true class probability 0; taken as 2.23e-308 in nll.",
        "In 3 rows the prediction is not the most probable class, whose probability is judged.",
    )
    assert result.metric("nll").value == pytest.approx(708.396 / n, rel=1e-5)
    assert result.metric("calibration_p_value").value == pytest.approx(1 / 201)


def test_one_class_only():
    result = run(stored(np.ones(200), np.linspace(0.6, 1, 200)))
    assert result.metric("ece").value == pytest.approx(0.2)
    assert result.tables[0].rows[2][1] == 0  # uncertainty


def test_few_rows_are_doubtful():
    assert run(stored([1] * 49, [0.9] * 49)).doubt == "49 rows are too few rows to judge calibration; 50 are needed."
    result = run(stored([1], [0.8]))
    assert result.metric("ece").value == pytest.approx(0.2)
    assert result.metric("brier").low is None
    assert "no interval from one row" in result.metric("brier").method
    assert result.doubt is not None


def test_refused():
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        run(stored([], np.empty((0, 2))))
    with pytest.raises(NotApplicable, match="scores are not finite for 1 of 3 rows of the test split"):
        run(stored([0, 1, 1], [0.1, math.nan, 0.2]))
    with pytest.raises(NotApplicable, match="no probabilities that sum to 1 for 2 of 3 rows of the test split"):
        run(stored([0, 1, 1], [[0.5, 0.4], [0.5, 0.5], [-0.1, 1.1]]))
    with pytest.raises(NotApplicable, match="kind 'positive' needs two classes"):
        run(stored([0], [[0.2, 0.3, 0.5]]), kind="positive")
    for wrong in ({"bins": 1}, {"bins": 101}, {"replicates": 10}, {"binning": "other"}, {"extra": 1}):
        with pytest.raises(ValidationError):
            CalibrationParams(**wrong)


def test_same_seed_same_bytes():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 300), rng.random(300)
    first, second, other = (run(stored(labels, p), seed).model_dump_json() for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(two_bins(), bins=2), axes)
    assert axes.get_xlabel() == "confidence"
    assert axes.get_ylabel() == "share that came true"
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    assert len(axes.lines) == 1 + 2 * 2
    assert not axes.get_title()
