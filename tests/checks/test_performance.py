"""reliability.performance: sklearn and slow ways as oracles, planted defects, coverage, refused inputs."""

import json
import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import ValidationError
from scipy import stats
from sklearn import metrics as oracle

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor_checks import _confusion, _performance, _ranking, _residuals
from assessor_checks.reliability.performance import CHECK, PerformanceParams

matplotlib.use("Agg")


def table(labels, predictions=None, scores=None, classes=("no", "yes"), task=None):
    """A table of predictions; scores (n,) of the last class or (n, C)."""
    labels = np.asarray(labels)
    task = task or (Task.BINARY if len(classes) == 2 else Task.MULTICLASS)
    stored = {}
    if scores is not None:
        scores = np.asarray(scores, dtype=float)
        stored["test"] = np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores
    hard = stored["test"].argmax(axis=1) if predictions is None else np.asarray(predictions)
    return PredictionsSubject(task, tuple(classes), {"test": Split("test", labels, "0")}, {"test": hard}, stored)


def values(true, predicted):
    """A regression's table."""
    return table(np.asarray(true, float), np.asarray(predicted, float), classes=(), task=Task.REGRESSION)


def run(subject, seed=0, **params):
    return CHECK.measure(subject, PerformanceParams(**{"replicates": 200, **params}), seed)


def found(result):
    return {metric.name: metric.value for metric in result.metrics}


def interval(result, name):
    metric = result.metric(name)
    return metric.low, metric.high


# Point values: sklearn, and by hand


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=40), st.integers(0, 1))
def test_binary_values_are_those_of_sklearn(rows, positive):
    y, p = np.array([row[0] for row in rows]), np.array([0.02 + row[1] * 0.047 for row in rows])
    hard = (p > 0.5).astype(int)
    got = found(run(table(y, hard, p), positive=("no", "yes")[positive]))
    wanted = {"accuracy": oracle.accuracy_score(y, hard), "log_loss": oracle.log_loss(y, p, labels=[0, 1])}
    wanted["brier_score"] = oracle.brier_score_loss(y, p, labels=[0, 1])
    wanted["majority_accuracy"] = max(y.mean(), 1 - y.mean())
    if (hard == positive).any():
        wanted["precision"] = oracle.precision_score(y, hard, pos_label=positive, zero_division=0)
    if (y == positive).any():
        wanted["recall"] = oracle.recall_score(y, hard, pos_label=positive)
    if len(set(y)) == 2:
        wanted["f1"] = oracle.f1_score(y, hard, pos_label=positive)
        wanted["f1_macro"] = oracle.f1_score(y, hard, average="macro", zero_division=0)
        wanted["balanced_accuracy"] = oracle.balanced_accuracy_score(y, hard)
        wanted["roc_auc"] = oracle.roc_auc_score(y, p)
        wanted["matthews_corrcoef"] = oracle.matthews_corrcoef(y, hard)
        wanted["cohen_kappa"] = oracle.cohen_kappa_score(y, hard)
        wanted["precision_macro"] = oracle.precision_score(y, hard, average="macro", zero_division=0)
        wanted["recall_macro"] = oracle.recall_score(y, hard, average="macro", zero_division=0)
        sided = p if positive else 1 - p
        wanted["average_precision"] = oracle.average_precision_score(y == positive, sided)
    assert got == pytest.approx(wanted, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_multiclass_values_are_those_of_sklearn(rows):
    y, hard = np.array(rows).T
    if len(set(y)) < 2:
        return
    result = run(table(y, hard, classes="abcd"))
    got = found(result)
    assert set(got) == {
        "accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "matthews_corrcoef",
        "cohen_kappa", "majority_accuracy",
    }  # fmt: skip
    seen = sorted(set(y) | set(hard))
    right = [oracle.recall_score(y, hard, labels=[c], average=None)[0] for c in sorted(set(y))]
    assert got["accuracy"] == pytest.approx(oracle.accuracy_score(y, hard))
    assert got["balanced_accuracy"] == pytest.approx(np.mean(right))
    assert got["f1_macro"] == pytest.approx(oracle.f1_score(y, hard, labels=seen, average="macro", zero_division=0))
    assert got["matthews_corrcoef"] == pytest.approx(oracle.matthews_corrcoef(y, hard), abs=1e-12)
    assert got["cohen_kappa"] == pytest.approx(oracle.cohen_kappa_score(y, hard), abs=1e-12)
    for name, score in (("precision_macro", oracle.precision_score), ("recall_macro", oracle.recall_score)):
        assert got[name] == pytest.approx(score(y, hard, labels=seen, average="macro", zero_division=0))
    by_class = oracle.f1_score(y, hard, labels=range(4), average=None, zero_division=0)
    for row, wanted in zip(result.tables[0].rows, by_class, strict=True):
        assert row[9] == (None if row[1] + row[2] == 0 else pytest.approx(wanted))
    assert result.tables[1].rows == tuple(
        (name, *row)
        for name, row in zip("abcd", oracle.confusion_matrix(y, hard, labels=range(4)).tolist(), strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-99, 99), st.floats(-99, 99)), min_size=2, max_size=30))
def test_regression_values_are_those_of_sklearn(rows):
    y, p = np.round(np.array(rows), 2).T
    got = found(run(values(y, p)))
    wanted = {"rmse": oracle.root_mean_squared_error(y, p), "mae": oracle.mean_absolute_error(y, p)}
    wanted["median_absolute_error"] = oracle.median_absolute_error(y, p)
    wanted["mean_error"] = (p - y).mean()
    wanted["baseline_rmse"] = y.std()
    if (y != 0).all():
        wanted["mape"] = oracle.mean_absolute_percentage_error(y, p)
    if len(set(y)) > 1:
        wanted["r2"] = oracle.r2_score(y, p)
        wanted["explained_variance"] = oracle.explained_variance_score(y, p)
        if len(set(p)) > 1:
            wanted["spearman"] = stats.spearmanr(y, p).statistic
    assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def probabilities(n, width, seed=0):
    """Labels, each class among them, and probabilities that know something of them; some ties."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(width), rng.integers(0, width, n - width)]
    logits = rng.standard_normal((n, width)).round(1) + 1.5 * np.eye(width)[labels]
    raised = np.exp(logits)
    return labels, raised / raised.sum(axis=1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(st.integers(8, 60), st.integers(3, 8), st.integers(0, 1000))
def test_probabilities_of_many_classes_are_scored_as_by_sklearn(n, width, seed):
    y, p = probabilities(max(n, width + 2), width, seed)
    got = found(run(table(y, scores=p, classes="abcdefgh"[:width])))
    assert got["roc_auc_ovr"] == pytest.approx(oracle.roc_auc_score(y, p, multi_class="ovr"))
    assert got["brier_score"] == pytest.approx(oracle.brier_score_loss(y, p))
    assert got["log_loss"] == pytest.approx(oracle.log_loss(y, p))
    if width > 5:
        assert got["top_5_accuracy"] == pytest.approx(oracle.top_k_accuracy_score(y, p, k=5))
    else:
        assert "top_5_accuracy" not in got


def test_binary_by_hand():
    # TP 3, FN 1, FP 2, TN 4
    y, hard = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    result = run(table(y, hard, classes=("healthy", "ill")), metric="f1")
    got = found(result)
    assert got["accuracy"] == 0.7
    assert got["precision"] == 0.6
    assert got["recall"] == 0.75
    assert got["f1"] == pytest.approx(6 / 9)
    assert got["balanced_accuracy"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert got["matthews_corrcoef"] == pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))
    assert got["cohen_kappa"] == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert got["precision_macro"] == pytest.approx((4 / 5 + 3 / 5) / 2)
    assert [metric.name for metric in result.metrics if metric.primary] == ["f1"]
    assert interval(result, "accuracy") == pytest.approx((0.34755, 0.93326), abs=1e-5)  # binom.test(7, 10)
    assert (result.metric("precision").n, result.metric("recall").n) == (5, 4)
    share = result.metric("majority_accuracy")
    assert (share.value, share.better) == (0.6, Better.NONE)
    assert result.remarks == (
        "Always predicting healthy would be right in 60.0% of the rows.",
        "The positive class is ill.",
        "roc_auc is left out: the subject gives no probabilities.",
        "average_precision is left out: the subject gives no probabilities.",
        "log_loss is left out: the subject gives no probabilities.",
        "brier_score is left out: the subject gives no probabilities.",
    )
    by_class, confusion = result.tables
    assert [row[:4] for row in by_class.rows] == [("healthy", 6, 5, 4 / 6), ("ill", 4, 5, 0.75)]
    assert confusion.columns == ("true \\ predicted", "healthy", "ill")
    assert confusion.rows == (("healthy", 4, 2), ("ill", 1, 3))
    known = [metric for metric in result.metrics if metric.low is not None]
    assert all(metric.low <= metric.value <= metric.high for metric in known)
    assert {metric.name for metric in known} == {"accuracy", "majority_accuracy", "precision", "recall", "f1"}
    assert result.metric("cohen_kappa").method.endswith("; too few rows for an interval")


def test_scores_that_are_no_probabilities_are_not_used():
    result = run(table([0, 1, 1, 0], [0, 1, 0, 0], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.9], [1.2, -0.2]]))
    assert result.metric("accuracy").value == 0.75
    assert "Scores are not used: they are no probabilities that sum to 1 for 2 of 4 rows." in result.remarks
    assert not {"log_loss", "brier_score", "roc_auc"} & set(found(result))


def test_regression_by_hand():
    result = run(values([1, 2, 3, 6], [1, 3, 3, 4]))
    wanted = {"rmse": math.sqrt(5 / 4), "mae": 3 / 4, "r2": 1 - 5 / 14, "median_absolute_error": 0.5}
    wanted |= {"mean_error": -1 / 4, "mape": (1 / 2 + 1 / 3) / 4, "explained_variance": 1 - (5 - 1 / 4) / 14}
    wanted |= {"baseline_rmse": math.sqrt(14 / 4), "spearman": 4.5 / math.sqrt(5 * 4.5)}
    assert found(result) == pytest.approx(wanted)
    assert result.metric("mean_error").better is result.metric("baseline_rmse").better is Better.NONE
    rmse = result.metric("rmse")
    assert (rmse.primary, rmse.unit, rmse.better) == (True, "units of the target", Better.LOWER)
    assert result.remarks == ("The target's standard deviation is 1.871: the rmse of always predicting its mean.",)
    columns = result.series[0].columns
    assert (columns["true"][0], columns["true"][50], columns["predicted"][-1]) == (1, 2.5, 4)


def test_probability_zero_is_clipped_and_said():
    result = run(table([1, 0], scores=[0.0, 0.5]), metric="log_loss")
    assert result.metric("log_loss").value == pytest.approx((-math.log(2.2250738585072014e-308) + math.log(2)) / 2)
    assert "1 rows give the true class probability 0; taken as 2.23e-308." in result.remarks


# Intervals


def slow_delong(x, y):
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    return psi.mean(), psi.mean(axis=1).var(ddof=1) / len(x) + psi.mean(axis=0).var(ddof=1) / len(y)


scores_of_a_class = st.lists(st.integers(0, 9), min_size=2, max_size=15).map(lambda found: np.array(found, float))


@settings(max_examples=50, deadline=None)
@given(scores_of_a_class, scores_of_a_class)
def test_delong_is_the_pairwise_computation(x, y):
    assert _performance.delong(x, y) == pytest.approx(slow_delong(x, y), abs=1e-12)
    area = _performance.roc_auc(x, y)
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_roc_auc_interval_is_delong_on_the_logit_scale():
    x, y = np.array([0.9, 0.8, 0.4, 0.7]), np.array([0.1, 0.5, 0.3])
    area, variance = slow_delong(x, y)
    half = 1.959963984540054 * math.sqrt(variance) / (area * (1 - area))
    ends = [1 / (1 + math.exp(-math.log(area / (1 - area)) - sign * half)) for sign in (-1, 1)]
    assert _performance.roc_auc(x, y) == pytest.approx((area, *ends))


def test_perfect_predictions_do_not_claim_certainty():
    y = np.repeat([0, 1], 10)
    result = run(table(y, scores=np.where(y, 0.9, 0.2)))
    for name in (
        "accuracy", "balanced_accuracy", "f1", "f1_macro", "roc_auc", "matthews_corrcoef", "cohen_kappa",
        "precision_macro", "recall_macro", "average_precision",
    ):  # fmt: skip
        low, high = interval(result, name)
        assert 0.4 < low < 0.86, name
        assert high == result.metric(name).value == pytest.approx(1)
    # 10 disjoint pairs, all ordered: Clopper-Pearson's lower end is 0.025 ** (1 / 10)
    assert interval(result, "roc_auc")[0] == pytest.approx(0.025**0.1)
    assert interval(result, "balanced_accuracy")[0] == pytest.approx(0.025 ** (1 / 20))  # equal classes: as accuracy


def test_resampled_margins_are_those_of_resampled_rows():
    matrix = np.array([[20, 5, 0], [3, 30, 2], [0, 4, 1]])
    drawn = _confusion.resampled_margins(matrix, 0, 4000)
    assert (drawn.true.sum(axis=1) == 65).all()
    assert (drawn.right <= np.minimum(drawn.true, drawn.predicted)).all()
    # Standard error of a mean of counts over 4000 draws is at most 0.064.
    for got, wanted in zip(drawn, _confusion.margins(matrix), strict=True):
        assert got.mean(axis=0) == pytest.approx(wanted, abs=0.3)
    rng, labels = np.random.default_rng(1), np.repeat(np.arange(9), matrix.ravel())
    slow = [np.bincount(rng.choice(labels, 65), minlength=9).reshape(3, 3) for _ in range(1500)]
    for statistic in (_confusion.balanced_accuracy, _confusion.f1_macro, _confusion.matthews):
        by_rows = [float(statistic(_confusion.margins(one))) for one in slow]
        assert statistic(drawn).std() == pytest.approx(np.std(by_rows), rel=0.1)


def test_intervals_cover_the_truth():
    # n = 60 rows of a known confusion matrix; shares (TN, FP, FN, TP)
    shares, n, times = np.array([[0.5, 0.1], [0.08, 0.32]]), 60, 400
    truth = _confusion.margins(shares)
    statistics = {"balanced": _confusion.balanced_accuracy, "macro": _confusion.f1_macro, "mcc": _confusion.matthews}
    held = dict.fromkeys(["accuracy", "f1", *statistics], 0)
    rng = np.random.default_rng(0)
    for seed in range(times):
        matrix = rng.multinomial(n, shares.ravel()).reshape(2, 2)
        accuracy = _performance.clopper_pearson(int(matrix.trace()), n)
        held["accuracy"] += accuracy.low <= 0.82 <= accuracy.high
        f1 = _confusion.f1(int(matrix[1, 1]), int(matrix[0, 1]), int(matrix[1, 0]))
        held["f1"] += f1.low <= 0.64 / 0.82 <= f1.high
        drawn = _confusion.resampled_margins(matrix, seed, 400)
        for name, statistic in statistics.items():
            got = _confusion.from_confusion(matrix, drawn, statistic)
            held[name] += got.low <= float(statistic(truth)) <= got.high
    assert held["accuracy"] >= 0.93 * times
    assert held["f1"] >= 0.93 * times  # exact: never under 95 % in the long run
    assert min(held.values()) >= 0.90 * times


def test_roc_auc_and_r2_cover_the_truth():
    rng, held = np.random.default_rng(0), {"roc_auc": 0, "r2": 0}
    area = 0.5 * (1 + math.erf(1.5 / 2))  # unit normals 1.5 apart: P(X > Y) = Phi(1.5 / sqrt 2)
    for seed in range(300):
        auc = _performance.roc_auc(rng.normal(1.5, 1, 25), rng.normal(0, 1, 35))
        held["roc_auc"] += auc.low <= area <= auc.high
        x = rng.standard_normal(60)
        r2 = _performance.r2(x + rng.normal(0, 0.5, 60), x, seed, 300)
        held["r2"] += r2.low <= 0.8 <= r2.high
    assert held["roc_auc"] >= 0.92 * 300
    assert held["r2"] >= 0.88 * 300


def test_average_precision_and_the_mean_area_cover_the_truth():
    rng = np.random.default_rng(0)

    def draw(n):
        labels = rng.integers(0, 3, n)
        return labels, rng.standard_normal((n, 3)) + 1.2 * np.eye(3)[labels]

    y, s = draw(200_000)
    areas = np.mean([_performance.delong(s[y == c, c], s[y != c, c])[0] for c in range(3)])
    precision = _ranking.average_precision(s[y == 0, 0], s[y != 0, 0]).value
    held = {"average_precision": 0, "roc_auc_ovr": 0}
    for _ in range(300):
        y, s = draw(90)
        one = _ranking.average_precision(s[y == 0, 0], s[y != 0, 0])
        held["average_precision"] += one.low <= precision <= one.high
        all_of_them = _ranking.one_against_rest(y, s)
        held["roc_auc_ovr"] += all_of_them.low <= areas <= all_of_them.high
    assert min(held.values()) >= 0.92 * 300


def test_mean_area_of_two_classes_is_delongs():
    rng = np.random.default_rng(1)
    y = np.arange(80) % 2
    sure = 1 / (1 + np.exp(-rng.standard_normal(80) - 1.5 * y))
    p = np.stack([1 - sure, sure], axis=1)
    both = _ranking.one_against_rest(y, p)
    one = _performance.roc_auc(p[y == 1, 1], p[y == 0, 1])
    assert both.value == pytest.approx(one.value)
    assert both.high - both.low == pytest.approx(one.high - one.low, rel=0.05)  # n - 1 for m and k - 1


def test_perfect_order_of_many_classes_does_not_claim_certainty():
    y = np.arange(40) % 4
    found = _ranking.one_against_rest(y, 0.7 * np.eye(4)[y] + 0.1)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx((0.05 / 4 / 2) ** (1 / 10))  # 10 pairs a class, four intervals together
    assert _ranking.average_precision(np.array([3.0, 2.0]), np.array([1.0])).low == pytest.approx(0.025)


def test_rank_correlation_and_median_cover_the_truth():
    rng, held = np.random.default_rng(0), {"spearman": 0, "median": 0, "explained": 0}
    rho = 6 / math.pi * math.asin(0.8 / 2)  # of a normal pair with correlation 0.8
    for seed in range(300):
        x = rng.standard_normal(50)
        y = 0.8 * x + 0.6 * rng.standard_normal(50)
        one = _residuals.spearman(x, y)
        held["spearman"] += one.low <= rho <= one.high
        two = _residuals.median_error(np.abs(x))
        held["median"] += two.low <= stats.norm.ppf(0.75) <= two.high
        three = _residuals.explained(y, y - 0.8 * x + 7, seed, 300, centre=True)  # a shift costs nothing
        held["explained"] += three.low <= 0.64 <= three.high
    assert held["spearman"] >= 0.92 * 300
    assert held["median"] >= 0.93 * 300
    assert held["explained"] >= 0.88 * 300


def test_perfect_ranks_do_not_claim_certainty():
    up = _residuals.spearman(np.arange(10.0), np.arange(10.0) ** 3)
    assert up.value == pytest.approx(1)
    assert 0.9 < up.low < 0.99
    assert up.high == pytest.approx(1)
    down = _residuals.spearman(np.arange(10.0), -np.arange(10.0))
    assert (down.low, down.high) == pytest.approx((-up.high, -up.low))
    assert _residuals.spearman(np.arange(3.0), np.arange(3.0)).low == -np.inf


def test_baseline_predicts_the_mean_of_the_training_targets():
    subject = values([1, 2, 3], [1, 2, 3])
    subject.splits["train"] = Split("train", np.array([5.0, 7.0]), "1")
    assert run(subject).metric("baseline_rmse").value == pytest.approx(math.sqrt((25 + 16 + 9) / 3))


def test_r2_of_many_rows_takes_the_normal_interval():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50_000)
    y = x + rng.normal(0, 0.5, 50_000)
    fast = _performance.r2(y, x, 0)
    resampled = [oracle.r2_score(y[rows], x[rows]) for rows in rng.integers(0, 50_000, (200, 50_000))]
    assert (fast.high - fast.low) / 2 / 1.96 == pytest.approx(np.std(resampled), rel=0.15)


# Planted defects


def test_planted_defect_lies_outside_the_target_and_its_clean_twin_inside():
    # Target: balanced accuracy and f1 at least 0.8. The defect: the model ignores half of the ill.
    y = np.repeat([0, 1], [300, 100])
    clean, sick = y.copy(), y.copy()
    clean[::40] ^= 1
    sick[300:350] = 0
    for name in ("balanced_accuracy", "f1", "recall"):
        assert run(table(y, clean), metric=name).metric(name).low >= 0.8
        assert run(table(y, sick), metric=name).metric(name).high < 0.8
    assert run(table(y, sick)).metric("accuracy").low >= 0.8  # what accuracy hides


def test_planted_shift_of_a_regression_lies_outside_the_target():
    rng = np.random.default_rng(0)
    y = rng.normal(0, 3, 200)
    good = y + rng.normal(0, 0.5, 200)
    assert run(values(y, good)).metric("rmse").high <= 0.8
    assert run(values(y, good + 1)).metric("rmse").low > 0.8


# Edges


def test_one_class_leaves_out_what_needs_two():
    result = run(table([1, 1, 1], scores=[0.9, 0.8, 0.3]))
    assert set(found(result)) == {"accuracy", "precision", "recall", "log_loss", "brier_score", "majority_accuracy"}
    for name in ("balanced_accuracy", "f1_macro", "matthews_corrcoef", "cohen_kappa", "f1", "roc_auc"):
        assert f"{name} is left out: all test labels are yes." in result.remarks
    assert result.tables[0].rows[0][3:6] == (None, None, None)
    with pytest.raises(NotApplicable, match=r"^roc_auc cannot be computed: all test labels are yes$"):
        run(table([1, 1, 1], scores=[0.9, 0.8, 0.3]), metric="roc_auc")


def test_no_row_predicted_positive_has_no_precision():
    result = run(table([0, 1, 0], [0, 0, 0]))
    assert "precision is left out: no row is predicted yes." in result.remarks
    assert found(result)["matthews_corrcoef"] == 0
    with pytest.raises(NotApplicable, match="recall cannot be computed: no row is truly yes"):
        run(table([0, 0], [0, 1]), metric="recall")


def test_one_positive_row_has_no_interval_of_the_area():
    result = run(table([1, 0, 0], scores=[0.5, 0.4, 0.6]))
    assert (result.metric("roc_auc").value, *interval(result, "roc_auc")) == (0.5, None, None)
    assert result.metric("roc_auc").method.endswith("too few rows for an interval")


def test_one_row():
    result = run(table([1], scores=[0.8]))
    assert interval(result, "accuracy") == pytest.approx((0.025, 1))
    assert result.metric("log_loss").value == pytest.approx(-math.log(0.8))
    assert interval(result, "log_loss") == (None, None)
    assert result.metric("log_loss").confidence is None
    regression = run(values([2.0], [2.5]))
    assert found(regression) == {
        "rmse": 0.5, "mae": 0.5, "median_absolute_error": 0.5, "mean_error": 0.5, "mape": 0.25, "baseline_rmse": 0.0,
    }  # fmt: skip
    assert {interval(regression, metric.name) for metric in regression.metrics} == {(None, None)}
    assert "r2 is left out: the target is 2 in every row." in regression.remarks


@pytest.mark.parametrize(
    ("subject", "params", "reason"),
    [
        (table([0, 1], [0, 1]), {"metric": "rmse"}, "rmse is a metric of regression; the task of this model is binary"),
        (values([1], [1]), {"metric": "f1"}, "f1 is a metric of classification; the task of this model is regression"),
        (table([0, 1], [0, 1], classes="abc"), {"metric": "f1"}, "f1 is for binary tasks; this model has 3 classes"),
        (values([1], [1]), {"positive": "a"}, r"a positive class \(a\) is for binary tasks; this one is regression"),
        (table([0, 1], [0, 1]), {"positive": "maybe"}, r"positive: no class 'maybe'; wanted one of \['no', 'yes'\]"),
        (
            table([0, 1], [0, 1]),
            {"metric": "log_loss"},
            "log_loss cannot be computed: the subject gives no probabilities",
        ),
        (
            table([0, 1], [0, 1]),
            {"metric": "roc_auc"},
            "roc_auc cannot be computed: the subject gives no probabilities",
        ),
        (values([1, 1], [1, 2]), {"metric": "r2"}, "r2 cannot be computed: the target is 1 in every row"),
        (
            table([0, 1, 1], [0, 1, 1], [0.1, math.nan, math.inf]),
            {},
            "the scores are not finite for 2 of 3 rows of the test split",
        ),
        (values([1, 2], [math.nan, 1]), {}, "the predictions are not finite for 1 of 2 rows of the test split"),
        (values([], []), {}, "the test split has no rows"),
        (
            table([0, 1], [0, 1], [0.1, 0.9]),
            {"metric": "roc_auc_ovr"},
            "roc_auc_ovr cannot be computed: it is for three classes or more; use roc_auc",
        ),
        (
            table([0, 1, 2], [0, 1, 2], classes="abc"),
            {"metric": "top_5_accuracy"},
            "top_5_accuracy cannot be computed: it is for more than five classes; use accuracy",
        ),
        (values([0, 1], [1, 2]), {"metric": "mape"}, "mape cannot be computed: the target is 0 in 1 rows"),
        (
            values([1e-310, 1], [1, 2]),
            {"metric": "mape"},
            "mape cannot be computed: the target is almost 0 in some rows",
        ),
        (
            values([1, 2], [3, 3]),
            {"metric": "spearman"},
            "spearman cannot be computed: the prediction is 3 in every row",
        ),
        (table([0, 2], [0, 1]), {}, "the labels are none of the 2 classes for 1 of 2 rows"),
        (table([0, 1], [0, -1]), {}, "the predictions are none of the 2 classes for 1 of 2 rows"),
    ],
)
def test_refused(subject, params, reason):
    with pytest.raises(NotApplicable, match=f"^{reason}$"):
        run(subject, **params)


@pytest.mark.parametrize("params", [{"metric": "auc"}, {"replicates": 10}, {"positiv": "yes"}])
def test_refused_params(params):
    with pytest.raises(ValidationError):
        PerformanceParams(**params)


def test_positive_class_by_name():
    y, hard = [1, 1, 1, 0], [1, 1, 0, 0]
    scores = [0.9, 0.8, 0.3, 0.4]
    first = run(table(y, hard, scores), positive="no")
    assert found(first)["recall"] == 1
    assert found(first)["precision"] == 0.5
    assert found(first)["roc_auc"] == found(run(table(y, hard, scores)))["roc_auc"]
    assert "The positive class is no." in first.remarks


@pytest.mark.parametrize(
    "make", [lambda: table([0, 1, 1, 0, 1], scores=[0.2, 0.7, 0.4, 0.6, 0.9]), lambda: values([1, 2, 4], [1, 3, 3])]
)
def test_same_seed_same_bytes(make):
    first = run(make(), 5).model_dump_json()
    assert first == run(make(), 5).model_dump_json()
    json.loads(first)


# Plots


def test_plot_of_a_confusion_matrix():
    axes = Figure().add_subplot()
    CHECK.plot(run(table([0, 1, 1, 0], [0, 1, 0, 0], classes=("true", "false"))), axes)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "")
    assert [text.get_text() for text in axes.texts] == ["2", "0", "1", "1"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["true", "false"]


def test_plot_of_many_classes_and_of_a_regression():
    names = [f"class {i}" for i in range(21)]
    result = run(table(np.arange(21), np.arange(21), classes=names))
    assert [table.name for table in result.tables] == ["classes"]
    axes = Figure().add_subplot()
    CHECK.plot(result, axes)
    assert axes.get_ylabel() == "recall"
    axes = Figure().add_subplot()
    CHECK.plot(run(values([1, 2, 4], [1, 3, 3])), axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted (quantile)", "true (quantile)")
