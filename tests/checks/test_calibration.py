"""uncertainty.calibration: solved by hand, slow and foreign oracles, measured coverage, planted over-confidence."""

import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import ValidationError
from scipy.stats import binom
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor_checks import _calibration as maths
from assessor_checks.uncertainty import _classwise as classes
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
    squares = (0.15**2 - 0.75 * 0.25 / 39 + 0.2**2 - 0.7 * 0.3 / 39) / 2
    assert result.metric("rms_calibration_error").value == pytest.approx(math.sqrt(squares))
    assert [metric.name for metric in result.metrics] == [
        "ece",
        "ece_debiased",
        "rms_calibration_error",
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
    assert bins.rows[0][3:5] == pytest.approx((0.5981, 0.8581), abs=5e-5)  # Wilson of 30 in 40
    assert bins.rows[0][5:] == pytest.approx((0.45, 0.75), abs=0.051)  # binomial quantiles of 40 at 0.6: 18 and 30
    parts = dict(row[:2] for row in decomposition.rows)
    assert parts["reliability"] == pytest.approx((0.15**2 + 0.2**2) / 2)
    assert parts["resolution"] == pytest.approx(0.025**2)
    assert parts["uncertainty"] == pytest.approx(0.725 * 0.275)
    assert parts["within-bin spread"] == pytest.approx(0)
    assert parts["Brier score"] == pytest.approx(18.4 / 80)
    without = {row[0]: row[2] for row in decomposition.rows}
    chance = (0.75 * 0.25 + 0.7 * 0.3) / 39 / 2
    assert without["reliability"] == pytest.approx(parts["reliability"] - chance)
    assert without["resolution"] == pytest.approx(parts["resolution"] - chance + parts["uncertainty"] / 79)
    assert without["uncertainty"] == pytest.approx(parts["uncertainty"] * 80 / 79)
    assert without["Brier score"] is None


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


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_interval_covers_the_true_error(world):
    # 40 simulations of 1000 rows in 15 bins; at a coverage of 0.95 under 34 hits come once in 300 suites.
    everyone = 0.6 + 0.4 * np.random.default_rng(1).beta(2, 1.5, 100_000)
    hits = zeros = above = 0
    for seed in range(40):
        rng = np.random.default_rng([3, seed])
        p = 0.6 + 0.4 * rng.beta(2, 1.5, 1000)
        events = (rng.random(1000) < WORLDS[world](p)).astype(float)
        index = maths.equal_mass(p, 15)
        bins = maths.summarise(p, events, index)
        p_value = maths.p_value(bins, maths.redrawn(p, index, seed, 100))
        found = maths.true_ece(bins, p_value, seed, 60)
        edges = [p[index == number].min() for number in range(1, 15)]
        gaps = WORLDS[world](everyone) - everyone
        true = np.abs(np.bincount(np.searchsorted(edges, everyone, side="right"), gaps)).sum() / len(everyone)
        assert 0 <= found.low <= found.value <= maths.ece(bins) <= found.high <= 1
        hits += found.low - 1e-9 <= true <= found.high
        zeros += found.low == 0
        above += found.low > 0.03
    assert hits >= 34
    if world == "calibrated":
        assert zeros >= 36
    if world.startswith("over-confident"):
        assert above >= 38


def test_p_value_is_uniform_or_more_under_calibration():
    rng, small = np.random.default_rng(0), 0
    for seed in range(200):
        p = rng.random(100)
        events = (rng.random(100) < p).astype(float)
        index = maths.equal_mass(p, 5)
        small += maths.p_value(maths.summarise(p, events, index), maths.redrawn(p, index, seed, 99)) <= 0.05
    assert small <= 20  # 10 expected, standard deviation 3.1


def test_redrawing_in_chunks_does_not_change_the_counts():
    p = np.random.default_rng(0).random(100)
    index = maths.equal_mass(p, 5)
    whole = maths.redrawn(p, index, 0, 300)
    assert whole.shape == (300, 5)
    assert whole.mean(axis=0) == pytest.approx(np.bincount(index, p), abs=0.5)
    assert np.array_equal(maths.redrawn(p, index, 0, 300, held=700), whole)


def test_band_is_that_of_the_binomial():
    p = np.repeat([0.2, 0.6], 50)
    index = maths.equal_mass(p, 2)
    bins = maths.summarise(p, np.zeros(100), index)
    low, high = maths.consistency_band(bins, maths.redrawn(p, index, 0, 5000))
    exact = [binom.ppf([0.025, 0.975], 50, share) / 50 for share in (0.2, 0.6)]
    assert np.abs(np.stack([low, high], axis=1) - exact).max() <= 0.02  # one row of 50 of simulation noise


def test_bias_of_few_rows_is_removed():
    # 4 bins of about 20 calibrated rows: the plain parts are off by the chance of few rows, the others hit on average
    plain, without, squares = [], [], []
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        index = rng.integers(0, 4, 80)
        p = np.array([0.2, 0.4, 0.6, 0.8])[index]
        events = (rng.random(80) < p).astype(float)
        bins = maths.summarise(p, events, index)
        parts = maths.decompose(p, events, index)
        plain.append(parts[:3])
        without.append(maths.corrected(bins))
        gap, noise = (bins.accuracy - bins.confidence) ** 2, bins.accuracy * (1 - bins.accuracy) / (bins.n - 1)
        squares.append((bins.n * (gap - noise)).sum() / 80)
        assert maths.rms_error(bins).value ** 2 == pytest.approx(max(0, squares[-1]), abs=1e-12)
    true = (0.0, 0.05, 0.25)
    error = np.std(without, axis=0) / math.sqrt(2000)
    assert (np.abs(np.mean(without, axis=0) - true) < 4 * error).all()
    assert np.mean(plain, axis=0)[0] == pytest.approx(0.2 / 20, abs=0.001)
    assert abs(np.mean(squares)) < 4 * np.std(squares) / math.sqrt(2000)


def test_reliability_curve_equals_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    p = rng.random(400)
    labels = (rng.random(400) < p).astype(int)
    bins = maths.summarise(p, labels.astype(float), maths.equal_width(p, 10))
    share, mean = calibration_curve(labels, p, n_bins=10)
    assert bins.accuracy == pytest.approx(share)
    assert bins.confidence == pytest.approx(mean)


def test_classwise_error_against_a_plain_loop_and_its_joint_test():
    rng = np.random.default_rng(4)
    logits = 1.5 * rng.standard_normal((400, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    scores = softmax(2 * logits)
    found = classes.classwise(scores, labels, maths.equal_mass, 8, 0, 300)
    for c in range(3):
        index = maths.equal_mass(scores[:, c], 8)
        bins = maths.summarise(scores[:, c], (labels == c).astype(float), index)
        assert found.errors[c] == pytest.approx(maths.ece(bins))
        assert found.gaps[c] == pytest.approx(scores[:, c].mean() - (labels == c).mean())
    assert found.mean == pytest.approx(found.errors.mean())
    assert found.p_joint == pytest.approx(1 / 301)
    assert found.ends[0] > 0
    right = classes.classwise(softmax(logits), labels, maths.equal_mass, 8, 0, 300)
    assert right.p_joint > 0.05
    assert right.ends[0] == 0
    assert right.ends[1] < found.ends[1]


def test_redrawn_labels_follow_the_probabilities(monkeypatch):
    scores = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    place = np.arange(6).reshape(2, 3)
    whole = classes._redrawn(scores, place, 6, 0, 4000)
    assert whole.sum() == 8000
    assert whole.mean(axis=0) == pytest.approx([0.2, 0.5, 0.3, 1, 0, 0], abs=0.03)
    monkeypatch.setattr(classes, "_CHUNK", 7)
    assert np.array_equal(classes._redrawn(scores, place, 6, 0, 4000), whole)


def test_three_classes_get_metrics_and_a_table_by_class():
    rng = np.random.default_rng(4)
    logits = 1.5 * rng.standard_normal((400, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    result = run(stored(labels, softmax(2 * logits)))
    assert [metric.name for metric in result.metrics][4:6] == ["classwise_ece", "classwise_p_value"]
    table = result.tables[2]
    assert [row[:2] for row in table.rows] == [(f"c{i}", int((labels == i).sum())) for i in range(3)]
    assert result.metric("classwise_ece").value == pytest.approx(np.mean([row[2] for row in table.rows]))
    assert result.metric("classwise_p_value").value == pytest.approx(1 / 201)
    assert "class against all others" in result.metric("classwise_ece").method
    assert not [metric for metric in run(two_bins()).metrics if metric.name.startswith("classwise")]


def test_very_many_classes_are_not_judged_one_by_one():
    scores = np.full((60, 101), 0.5 / 100)
    scores[:, 0] = 0.5
    result = run(stored(np.zeros(60), scores))
    assert "60 rows of 101 classes are too many to judge class by class." in result.remarks
    assert len(result.tables) == 2


def test_best_temperature_is_the_planted_one_and_the_minimum():
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((4000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    logs = np.log(softmax(3 * logits))
    found = classes.best_temperature(logs, labels)
    assert found == pytest.approx(3, rel=0.05)

    def loss(temperature):
        return log_loss(labels, classes.tempered(logs, temperature))

    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))
    assert classes.best_temperature(logs, logs.argmax(axis=1)) is None
    assert classes.best_temperature(np.full((5, 2), math.log(0.5)), np.zeros(5, int)) is None


def test_temperature_is_told():
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((2000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    (told,) = run(stored(labels, softmax(3 * logits))).remarks
    numbers = [float(word.strip(",;")) for word in told.split() if word.strip(",;").replace(".", "").isdigit()]
    assert numbers[0] == pytest.approx(3, rel=0.1)
    assert numbers[1:3] == [1000, 1000]
    assert numbers[3] > 0.1 > numbers[4]
    assert numbers[5] > numbers[6]
    perfect = run(stored(labels, np.eye(3)[labels] * 0.7 + 0.1))
    assert perfect.remarks[-1].startswith("No temperature between 0.01 and 100")


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
    result = run(stored(np.arange(160) % 4 > 0, np.full(160, 0.75)))
    assert result.metric("ece").value == pytest.approx(0, abs=1e-12)
    assert result.metric("ece").low == 0
    assert len(result.tables[1].rows) == 1
    assert result.remarks == (
        "8 instead of 15 bins, so that 160 rows give 20 a bin on average.",
        "1 of 8 bins are used: equal confidences stay in one bin.",
    )


def test_remarks():
    n = 100
    labels = np.zeros(n, dtype=int)
    labels[0] = 1
    result = run(stored(labels, np.zeros(n), hard=np.arange(n) < 3), binning="equal_width", bins=10)
    assert result.remarks == (
        "5 instead of 10 bins, so that 100 rows give 20 a bin on average.",
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
    assert run(stored([1] * 49, [0.9] * 49)).doubt == "49 rows are too few to judge calibration; 50 are needed."
    result = run(stored([1], [0.8]))
    assert result.metric("ece").value == pytest.approx(0.2)
    assert result.metric("brier").low is None
    assert "no interval from one row" in result.metric("brier").method
    assert result.doubt is not None


def test_refused():
    split = Split(name="test", labels=np.zeros(3), sha256="0")
    with pytest.raises(NotApplicable, match="a regression states no probabilities"):
        run(PredictionsSubject(Task.REGRESSION, (), {"test": split}, {"test": np.zeros(3)}, {}))
    split = Split(name="test", labels=np.zeros(3, dtype=np.int64), sha256="0")
    with pytest.raises(NotApplicable, match="decisions without probabilities"):
        run(PredictionsSubject(Task.BINARY, ("a", "b"), {"test": split}, {"test": np.zeros(3, int)}, {}))
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
    assert len(axes.lines) == 1 + 2 * 3
    assert not axes.get_title()
