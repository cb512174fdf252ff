"""Confident learning by hand, against a plain loop, and on planted noise; EL2N, margins, held-out scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.data import _label_noise as maths
from assessor_checks.data._single_features import folds


def test_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    of_class_1 = np.array([0.1, 0.2, 0.9, 0.4, 0.9, 0.5])
    found = maths.confident_learning(labels, np.stack([1 - of_class_1, of_class_1], axis=1))
    # Thresholds: mean of 0.9, 0.8, 0.1, 0.6 is 0.6; of 0.9, 0.5 is 0.7. Row 2 counts in class 1, row 5 in none.
    assert found.thresholds == pytest.approx([0.6, 0.7])
    assert found.likely.tolist() == [0, 0, 1, 0, 1, -1]
    assert found.counts.tolist() == [[3, 1], [0, 1]]
    assert found.joint == pytest.approx(np.array([[4 / 6 * 3 / 4, 4 / 6 / 4], [0, 2 / 6]]))
    assert found.rate == pytest.approx(1 / 6)


def plain(labels, scores):
    """Equations 1 to 3 of arXiv 1911.00068 as they stand."""
    n, classes = scores.shape
    thresholds = [scores[labels == j, j].mean() for j in range(classes)]
    counts = np.zeros((classes, classes))
    for i in range(n):
        sure = [j for j in range(classes) if scores[i, j] >= thresholds[j] - 1e-6]
        if sure:
            counts[labels[i], max(sure, key=lambda j, i=i: scores[i, j])] += 1
    joint = np.zeros((classes, classes))
    for i in range(classes):
        row = counts[i] / counts[i].sum() if counts[i].sum() else np.eye(classes)[i]
        joint[i] = row * (labels == i).sum()
    return counts, joint / n


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_against_a_plain_loop(seed, classes):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 30)])
    scores = rng.dirichlet(np.ones(classes), len(labels)).round(2)
    scores /= scores.sum(axis=1, keepdims=True)
    found, (counts, joint) = maths.confident_learning(labels, scores), plain(labels, scores)
    assert (found.counts == counts).all()
    assert found.joint == pytest.approx(joint)
    assert found.joint.sum() == pytest.approx(1)


def test_as_cleanlab_counts():
    # cleanlab 2.9.0 on these numbers: compute_confident_joint(calibrate=False); estimate_joint, which rounds to rows.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    scores = rng.dirichlet(np.ones(3), 40)
    scores[np.arange(40), labels] += 0.3
    scores = (scores / 1.3).round(3)
    scores /= scores.sum(axis=1, keepdims=True)
    found = maths.confident_learning(labels, scores)
    assert found.counts.tolist() == [[6, 3, 2], [4, 7, 1], [2, 1, 5]]
    rounded = np.array([[0.2, 0.1, 0.05], [0.1, 0.2, 0.025], [0.075, 0.05, 0.2]])
    assert found.joint == pytest.approx(rounded, abs=1 / 40)


def test_weights_are_repeated_rows():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 50), rng.dirichlet(np.ones(3), 50)
    weights = rng.integers(0, 3, 50)
    found = maths.confident_learning(labels, scores, weights.astype(float))
    again = maths.confident_learning(np.repeat(labels, weights), np.repeat(scores, weights, axis=0))
    assert found.joint == pytest.approx(again.joint)


def noisy(n, noise, rng):
    """Two classes a perfect model knows (0.95 sure) and labels of which a share is wrong."""
    true = rng.integers(0, 2, n)
    labels = np.where(rng.random(n) < noise, 1 - true, true)
    of_class_1 = np.where(true == 1, 0.95, 0.05) + 0.04 * (rng.random(n) - 0.5)
    return labels, np.stack([1 - of_class_1, of_class_1], axis=1)


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_planted_noise_is_recovered_and_covered(noise):
    # With a perfect model the estimate is unbiased; 95 % of 60 intervals is 57, 3 standard errors below are 52.
    rng, rates, held = np.random.default_rng(0), [], 0
    for seed in range(60):
        labels, scores = noisy(300, noise, rng)
        found = maths.rate_interval(labels, scores, seed, replicates=50)
        rates.append(found.value)
        held += found.low <= noise <= found.high
    assert np.mean(rates) == pytest.approx(noise, abs=4 * np.std(rates) / np.sqrt(60))
    assert held >= 52


def test_no_noise_is_not_certain():
    labels, scores = noisy(200, 0.0, np.random.default_rng(0))
    sure = int((maths.confident_learning(labels, scores).likely >= 0).sum())
    assert maths.rate_interval(labels, scores, 0) == clopper_pearson(0, sure)


def test_el2n_and_margin_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    assert maths.el2n(np.array([0, 0]), scores) == pytest.approx([np.sqrt(0.09 + 0.04 + 0.01), np.sqrt(2)])
    assert maths.margin(np.array([0, 1]), scores) == pytest.approx([0.5, -1.0])


def cancer(n=200):
    data = load_breast_cancer()
    x, y = data.data[:n], data.target[:n].astype(np.int64)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    splits = {name: Split(name, y, name, x) for name in ("train", "test")}
    return SklearnSubject(model, Task.BINARY, ("0", "1"), splits), model, x, y


def test_held_out_scores_are_cross_validation():
    subject, model, x, y = cancer()
    fold = folds(y, 4, 7)
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(4)]
    wanted = cross_val_predict(model, x, y, cv=parts, method="predict_proba")
    assert maths.held_out_scores(subject, 4, 7) == pytest.approx(wanted)


def test_a_stopped_run_goes_on_where_it_was():
    subject = cancer(100)[0]
    store, told = {}, []
    lent = Lent(
        lambda what, done, total: told.append((what, done, total)),
        lambda key: store.get(str(key)),
        lambda key, value: store.__setitem__(str(key), value),
    )
    with lending(lent):
        first = maths.held_out_scores(subject, 3, 0)
        subject.refit = None  # any further training would raise
        again = maths.held_out_scores(subject, 3, 0)
    assert (first == again).all()
    assert told[:3] == [("training anew", k, 3) for k in range(3)]


def test_faulty_trainings_are_refused():
    subject = cancer(60)[0]
    subject.refit = lambda rows, seed: lambda x: np.full((len(x), 3), 0.5)
    with pytest.raises(NotApplicable, match=r"scores of shape \(20, 3\), wanted one a class"):
        maths.held_out_scores(subject, 3, 0)
    subject.refit = lambda rows, seed: lambda x: np.full((len(x), 2), np.nan)
    with pytest.raises(NotApplicable, match="scores that are not finite"):
        maths.held_out_scores(subject, 3, 0)
