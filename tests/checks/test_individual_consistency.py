"""fairness.individual_consistency: against scikit-learn, by hand, planted noise, clean twin, coverage, refused."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.neighbors import NearestNeighbors

from assessor.contract import NotApplicable, Split, Task
from assessor.model import Status, Target
from assessor.subjects.predictions import PredictionsSubject
from assessor.verdicts import judge
from assessor_checks.fairness import _neighbours as maths
from assessor_checks.fairness import individual_consistency
from assessor_checks.fairness.individual_consistency import CHECK, IndividualConsistencyParams

matplotlib.use("Agg")
NAMES = tuple(f"x{i}" for i in range(30))


def subject(features, labels, scores=None, predictions=None, *, task=Task.BINARY, names=None, attributes=None):
    regression = task is Task.REGRESSION
    split = Split(
        name="test",
        labels=np.asarray(labels, dtype=float if regression else np.int64),
        sha256="test",
        features=None if features is None else np.asarray(features),
        feature_names=names or (),
        attributes=attributes,
    )
    both = {} if scores is None else {"test": np.stack([1 - np.asarray(scores), scores], axis=1)}
    said = (np.asarray(scores) > 0.5).astype(np.int64) if predictions is None else np.asarray(predictions)
    return PredictionsSubject(task, () if regression else ("no", "yes"), {"test": split}, {"test": said}, both)


def run(of, seed=0, **params):
    return CHECK.measure(of, IndividualConsistencyParams(**params), seed)


def cancer(turned=0.0, seed=0, **more):
    features, labels = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(labels)) < turned, 1 - labels, labels)
    return subject(features, labels, predictions=said, names=NAMES, **more)


def test_against_scikit_learn():
    features, labels = load_breast_cancer(return_X_y=True)
    result = run(cancer(), neighbours=7)
    points = features / features.std(axis=0)
    found = NearestNeighbors(n_neighbors=8).fit(points).kneighbors(points, return_distance=False)[:, 1:]
    consistency = result.metric("consistency")
    # Zemel et al. 2013: 1 - mean |y - mean of the neighbours' y|, which for two classes is the share that agrees.
    assert consistency.value == pytest.approx(1 - np.abs(labels - labels[found].mean(axis=1)).mean())
    assert consistency.low < consistency.value < consistency.high < 1
    counts = np.bincount(labels)
    chance = (counts * (counts - 1)).sum() / (569 * 568)
    assert result.metric("consistency_gain").value == pytest.approx(1 - (1 - consistency.value) / (1 - chance))
    assert [m.name for m in result.metrics] == ["consistency", "consistency_gain"]
    rows = dict(result.tables[0].rows)
    assert rows["predictions dealt at random"] == pytest.approx(chance)
    assert rows["true labels"] == pytest.approx(consistency.value)
    assert result.remarks[0] == "Rows are alike by 30 of 30 features, in standard deviations, with equal weights."
    assert result.doubt is None


def test_four_rows_by_hand():
    # On a line 0, 1, 3, 7 each row's nearest are 1, 0, 1, 3; classes 0 0 1 1.
    found = maths.nearest(np.array([[0.0], [1.0], [3.0], [7.0]]), 2)
    assert found.rows.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found.distances.tolist() == [[1, 3], [1, 2], [2, 3], [4, 6]]
    classes = maths.deviation(np.array([0, 0, 1, 1]), found.rows, classes=True)
    assert classes.rows.tolist() == [0, 0, 1, 0]
    values = maths.deviation(np.array([0.0, 2.0, 4.0, 9.0]), found.rows, classes=False)
    assert values.rows.tolist() == [2, 2, 2, 5]


@pytest.mark.parametrize("classes", [True, False])
def test_jackknife_leaves_each_row_out(classes):
    rng = np.random.default_rng(0)
    points, k = rng.standard_normal((40, 3)), 4
    outputs = rng.integers(0, 3, 40) if classes else rng.standard_normal(40)
    found = maths.deviation(outputs, maths.nearest(points, k + 1).rows, classes=classes)
    left = []
    for row in range(40):
        others = np.delete(np.arange(40), row)
        near = maths.nearest(points[others], k + 1).rows
        left.append(maths.deviation(outputs[others], near, classes=classes).mean)
    assert found.error == pytest.approx(np.sqrt(39 / 40 * ((np.array(left) - np.mean(left)) ** 2).sum()))


@pytest.mark.parametrize("held", [1, 500, 10**7])
def test_neighbours_are_exact_at_any_block_size(held):
    points = np.random.default_rng(0).standard_normal((200, 6)) + 1000  # far from 0: fast distances lose digits
    found = maths.nearest(points, 5, held=held)
    slow = np.sqrt(((points[:, None] - points) ** 2).mean(axis=2))
    np.fill_diagonal(slow, np.inf)
    assert (found.rows == np.argsort(slow, axis=1, kind="stable")[:, :5]).all()
    assert found.distances == pytest.approx(np.sort(slow, axis=1)[:, :5])


def test_chance_of_values_is_what_shuffling_gives():
    rng = np.random.default_rng(0)
    values, near = rng.exponential(size=400), maths.nearest(rng.standard_normal((400, 2)), 6).rows
    shuffled = [maths.deviation(rng.permutation(values), near, classes=False).mean for _ in range(60)]
    found = maths.chance_deviation(values, 5, classes=False, seed=0)
    assert found == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / np.sqrt(20))


def test_planted_noise_fails_and_its_clean_twin_passes():
    target = Target(metric="consistency", interval=(0.85, None), because="a test")
    assert judge(run(cancer(0.2)), target).status is Status.FAIL
    assert judge(run(cancer()), target).status is Status.PASS


@pytest.mark.parametrize("kind", ["plain", "noisy", "random"])
def test_interval_covers(kind):
    values, held = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        points = rng.standard_normal((150, 3))
        pull = {"plain": points[:, 0], "noisy": points[:, 0] + 0.5 * rng.standard_normal(150)}
        outputs = (pull.get(kind, rng.standard_normal(150)) > 0).astype(int)
        found = maths.deviation(outputs, maths.nearest(points, 6).rows, classes=True)
        values.append(found.mean)
        held.append(found.error)
    true = np.mean(values)
    covered = np.abs(np.array(values) - true) <= 1.96 * np.array(held)
    assert covered.mean() >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 150)


def test_steepness_by_hand():
    # Scores 0.1 a step on a line of unit steps, spread s: 0.1 s a standard deviation, whatever the neighbour.
    line = np.arange(60.0)[:, None]
    result = run(subject(line, [0, 1] * 30, scores=0.2 + 0.01 * line[:, 0]), neighbours=2)
    metric = result.metric("lipschitz_q95")
    assert metric.value == pytest.approx(0.01 * line.std())
    assert metric.unit == "score per standard deviation"
    assert (metric.low, metric.high) == (None, None)  # 60 rows say little of the last twentieth
    median = result.tables[1].rows[0]
    assert median[1] == pytest.approx(median[2]) == pytest.approx(median[3])


def test_limits_of_quantiles_are_those_of_order_statistics():
    ordered = np.arange(1000.0)
    value, low, high = individual_consistency._quantile(ordered, 0.9, 0.95)
    assert value == 899
    # The value k is the order statistic k + 1: above the quantile where at most k of 1000 lie below it.
    assert stats.binom.cdf(low, 1000, 0.9) <= 0.025 < stats.binom.cdf(low + 1, 1000, 0.9)
    assert stats.binom.cdf(high, 1000, 0.9) >= 0.975 > stats.binom.cdf(high - 1, 1000, 0.9)


def test_identical_rows_scored_differently_are_counted():
    features = np.repeat(np.arange(30.0), 2)[:, None]
    scores = np.tile([0.3, 0.3], 30)
    scores[1] = 0.4
    result = run(subject(features, [0, 1] * 30, scores=scores, predictions=[0, 1] * 30), neighbours=1)
    assert result.metric("identical_rows_scored_differently").value == pytest.approx(2 / 60)


def test_sensitive_features_are_left_out():
    features = np.column_stack([np.arange(60.0), np.tile([0.0, 1000.0], 30)])
    labels = (np.arange(60) > 29).astype(int)
    known = {"names": ("income", "sex"), "attributes": pd.DataFrame({"sex": np.tile(["f", "m"], 30)})}
    result = run(subject(features, labels, predictions=labels, **known))
    assert result.remarks[0] == (
        "Rows are alike by 1 of 2 features, in standard deviations, with equal weights; left out as sensitive: sex."
    )
    assert result.metric("consistency").value > 0.9
    by_sex = run(subject(features, labels, predictions=labels, **known), features=("sex",))
    assert by_sex.remarks[0] == "Rows are alike by: sex."
    assert by_sex.metric("consistency").value < 0.9


def test_full_consistency_has_an_interval():
    features = np.concatenate([np.arange(50.0), 1000 + np.arange(50.0)])[:, None]
    labels = np.repeat([0, 1], 50)
    metric = run(subject(features, labels, predictions=labels)).metric("consistency")
    assert metric.value == metric.high == 1
    assert metric.low == pytest.approx(0.025 ** (1 / 16))  # Clopper-Pearson of 16 disjoint neighbourhoods of 6


def test_regression():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 2))
    said = features @ [1.0, 2.0]
    result = run(subject(features, said, predictions=said, task=Task.REGRESSION))
    gain = result.metric("consistency_gain")
    assert gain.primary
    assert 0.6 < gain.low < gain.value < gain.high < 1
    # One standard deviation in both features moves the prediction by at most |(1, 2)| times the root of 2.
    assert result.metric("lipschitz_q95").value < np.sqrt(5 * 2) * 1.1
    assert result.metric("lipschitz_q95").unit == "units of the target per standard deviation"
    noise = run(subject(features, said, predictions=rng.standard_normal(200), task=Task.REGRESSION))
    assert noise.metric("consistency_gain").low < 0 < noise.metric("consistency_gain").high


def test_a_sample_of_rows_is_told():
    result = run(cancer(), rows=200)
    assert "A random sample of 200 of 569 rows is looked at." in result.remarks
    assert result.metric("consistency").n == 200


PLAIN = np.arange(100.0).reshape(50, 2)


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(None, [0, 1], predictions=[0, 1]), {}, r"no table of features.*use fairness\.group_metrics"),
        (subject(np.zeros((60, 2, 2)), [0] * 60, predictions=[0, 1] * 30), {}, "no table of features"),
        (subject(PLAIN[:1], [0], predictions=[0]), {}, "1 rows are too few to look for rows that are alike; 50"),
        (subject(PLAIN[:0], [], predictions=[]), {}, "0 rows are too few"),
        (subject(PLAIN, [0] * 50, predictions=[0, 1] * 25), {"neighbours": 60}, "50 rows are too few .* 62 are needed"),
        (
            subject(PLAIN + np.nan, [0] * 50, predictions=[0, 1] * 25),
            {},
            "50 of 50 rows have features that are missing",
        ),
        (subject(PLAIN, [0] * 50, predictions=[1] * 50), {}, "the prediction is the same for all 50 rows"),
        (subject(PLAIN * 0, [0] * 50, predictions=[0, 1] * 25), {}, "every feature that is used is constant"),
        (subject(PLAIN, [0] * 50, predictions=[0, 1] * 25, names=("a", "b")), {"features": ("c",)}, "no feature 'c'"),
        (subject(PLAIN, [0] * 50, predictions=[np.nan] * 50, task=Task.REGRESSION), {}, "not finite for 50 rows"),
        (
            subject(
                PLAIN[:, :1], [0] * 50, predictions=[0, 1] * 25, names=("s",), attributes=pd.DataFrame({"s": [1] * 50})
            ),
            {},
            "all features are sensitive attributes",
        ),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_same_seed_same_bytes():
    assert run(cancer(), 3, rows=300).model_dump_json() == run(cancer(), 3, rows=300).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(cancer()), axes)
    assert axes.get_xlabel() == "same class as the nearest rows"
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(PLAIN, [0, 1] * 25, scores=PLAIN[:, 0] / 100)), axes)
    assert axes.get_xlabel() == "share of rows"
