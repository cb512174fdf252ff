"""generalization.gap: solved by hand, planted overfitting against its clean twin, refused inputs."""

import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.tree import DecisionTreeClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks.generalization import gap
from assessor_checks.generalization.gap import CHECK, GapParams

matplotlib.use("Agg")


def split(name, y, x=None, sha256=None):
    return Split(name=name, labels=np.asarray(y), sha256=sha256 or name, features=x)


def stored(train, test, task=Task.BINARY, **more):
    """A table of predictions; each side is (labels, scores)."""
    sides = {"train": train, "test": test}
    scores = {name: np.asarray(side[1], dtype=float) for name, side in sides.items()}
    hard = scores if task is Task.REGRESSION else {name: found.argmax(axis=1) for name, found in scores.items()}
    splits = {name: split(name, side[0], **more) for name, side in sides.items()}
    return PredictionsSubject(task, () if task is Task.REGRESSION else ("no", "yes"), splits, hard, scores)


def run(subject, seed=0):
    return CHECK.measure(subject, GapParams(), seed)


def pair(p):
    return [1 - p, p]


def test_by_hand():
    train = [1, 1, 0, 0], [pair(0.5), pair(0.9), pair(0.2), pair(0.1)]
    test = [1, 0, 1], [pair(0.8), pair(0.6), pair(0.25)]
    result = run(stored(train, test))
    before = -(math.log(0.5) + math.log(0.9) + math.log(0.8) + math.log(0.9)) / 4
    after = -(math.log(0.8) + math.log(0.4) + math.log(0.25)) / 3
    loss = result.metric("loss_gap")
    assert loss.value == pytest.approx(after - before)
    assert loss.primary
    assert loss.unit == "nats"
    assert loss.low < loss.value < loss.high
    assert result.metric("accuracy_gap").value == pytest.approx(3 / 4 - 1 / 3)
    assert result.doubt == "3 test rows are too few for the interval, which is too narrow below 20."
    assert result.remarks == ()
    (table,) = result.tables
    assert [(row[0], row[1]) for row in table.rows] == [("train", 4), ("test", 3)]
    assert [row[2] for row in table.rows] == pytest.approx([before, after])


def test_newcombe_method_10_as_published():
    # Newcombe 1998, table II, row (a): 56/70 - 48/80 = 0.2 with limits 0.0524 and 0.3339.
    from assessor_checks._intervals import wilson

    found = gap._minus(wilson(56, 70), wilson(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.integers(0, 30), st.integers(0, 30))
def test_difference_of_shares_stays_within_bounds(a, b):
    from assessor_checks._intervals import wilson

    found = gap._minus(wilson(a, 30), wilson(b, 30))
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_interval_of_the_loss_gap_covers():
    # Exponential losses with means 1 and 1.5: the 95 % interval should hold 0.5 in most of 60 repetitions.
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(60):
        losses = rng.exponential(1.0, 40), rng.exponential(1.5, 50)
        found = gap._minus(gap._mean(losses[1], seed), gap._mean(losses[0], seed + 1))
        held += found.low <= 0.5 <= found.high
    assert held >= 50


def noisy_labels(n=600):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3))
    y = ((x[:, 0] > 0) ^ (rng.random(n) < 0.25)).astype(np.int64)
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]


@pytest.mark.parametrize(
    ("estimator", "overfits"), [(DecisionTreeClassifier(random_state=0), True), (LogisticRegression(), False)]
)
def test_memorising_model_shows_a_gap_and_its_plain_twin_does_not(estimator, overfits):
    x, y, other, wanted = noisy_labels()
    splits = {"train": split("train", y, x), "test": split("test", wanted, other)}
    result = run(SklearnSubject(estimator.fit(x, y), Task.BINARY, ("0", "1"), splits))
    for name in ("loss_gap", "accuracy_gap"):
        assert (result.metric(name).low > 0) == overfits
    assert any("probability 0" in remark for remark in result.remarks) == overfits  # leaves are certain


def test_regression():
    x, y = np.arange(6.0)[:, None], np.arange(6.0)
    splits = {"train": split("train", y, x), "test": split("test", y + np.array([1, -1, 1, -1, 1, -2.0]), x)}
    result = run(SklearnSubject(LinearRegression().fit(x, y), Task.REGRESSION, (), splits))
    assert [m.name for m in result.metrics] == ["loss_gap"]
    assert result.metrics[0].value == pytest.approx(9 / 6)
    assert result.metrics[0].unit == "squared units of the target"
    assert result.tables[0].rows[0][5:] == (None, None, None)


def test_one_row_has_no_interval_of_the_loss():
    result = run(stored(([1], [pair(0.9)]), ([0, 1], [pair(0.2), pair(0.3)])))
    assert result.metric("loss_gap").low is None
    assert result.metric("accuracy_gap").low is not None
    assert "no interval" in result.metric("loss_gap").method


def test_the_same_data_twice_is_doubtful():
    side = [1, 0], [pair(0.9), pair(0.2)]
    assert run(stored(side, side, sha256="same")).doubt == (
        "The train and the test split are the same data, so there is nothing to compare."
    )


def test_same_seed_same_bytes():
    sides = ([1, 0, 1], [pair(0.9), pair(0.2), pair(0.7)]), ([0, 1], [pair(0.2), pair(0.3)])
    assert run(stored(*sides), 5).model_dump_json() == run(stored(*sides), 5).model_dump_json()


def test_refused():
    good = [1, 0], [pair(0.9), pair(0.2)]
    with pytest.raises(NotApplicable, match="scores are not finite for 1 of 2 rows of the test split"):
        run(stored(good, ([1, 0], [pair(0.9), pair(math.nan)])))
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        run(stored(good, (np.empty(0, np.int64), np.empty((0, 2)))))
    with pytest.raises(NotApplicable, match="no probabilities that sum to 1 for 1 of 2 rows of the train split"):
        run(stored(([1, 0], [pair(0.9), [0.5, 0.9]]), good))


def test_decisions_alone_give_the_accuracy_gap():
    x, y, *_ = noisy_labels()
    splits = {name: split(name, y, x) for name in ("train", "test")}
    model = RidgeClassifier().fit(x, y)
    result = run(SklearnSubject(model, Task.BINARY, ("0", "1"), splits))
    (metric,) = result.metrics
    assert (metric.name, metric.primary, metric.value) == ("accuracy_gap", True, 0)
    assert result.remarks == ("The model gives decisions without probabilities, so only accuracies are compared.",)
    assert result.series == ()
    right = float((model.predict(x) == y).mean())
    assert [row[2:6] for row in result.tables[0].rows] == [(None, None, None, right)] * 2
    axes = Figure().add_subplot()
    CHECK.plot(result, axes)
    assert axes.get_xlabel() == "accuracy, with interval"


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(stored(([1, 0], [pair(0.9), pair(0.2)]), ([1, 0], [pair(0.8), pair(0.4)]))), axes)
    assert axes.get_ylabel() == "loss of a sample (nats)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "test"]
