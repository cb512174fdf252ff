"""Scores of single features: against scikit-learn and DeLong, bins that know nothing of labels, p-values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import r2_score, roc_auc_score

from assessor_checks._performance import delong
from assessor_checks.data import _single_features as maths
from assessor_checks.data._single_features import Score


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=200), st.integers(2, 12))
def test_bins_keep_order_and_equal_values_together(values, most):
    values = np.array(values, dtype=float)
    codes = maths.bins(values, most)
    assert codes.min() >= 0
    assert len(np.unique(codes)) <= max(most, 1)
    order = np.argsort(values, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    for value in np.unique(values):
        assert len(set(codes[values == value].tolist())) == 1


def test_bins_have_about_equal_numbers_and_do_not_tear_clusters():
    rng = np.random.default_rng(0)
    counts = np.bincount(maths.bins(rng.normal(size=3200), 32))
    assert len(counts) == 32
    assert counts.min() >= 90
    assert counts.max() <= 110
    labels = rng.random(500) < 0.3
    codes = maths.bins(labels + 0.01 * rng.standard_normal(500))
    assert not set(codes[labels].tolist()) & set(codes[~labels].tolist())


def test_missing_and_infinite_values_have_bins():
    values = np.concatenate([np.arange(100.0), [np.nan, np.inf, -np.inf]])
    codes = maths.bins(values)
    assert codes[100] == codes.max()
    assert (np.bincount(codes)[codes[100]], codes[102]) == (1, 0)
    assert codes[101] == codes[99]
    assert maths.bins(np.array([np.nan, np.nan])).tolist() == [0, 0]


def plain(codes, labels, fold, classes):
    """The same by loops and scikit-learn."""
    values = []
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        for c in range(classes):
            prior = (labels[train] == c).mean()
            scores = [
                ((labels[train & (codes == code)] == c).sum() + prior) / ((train & (codes == code)).sum() + 1)
                for code in codes[test]
            ]
            values.append(roc_auc_score(labels[test] == c, scores))
    return np.mean(values)


def test_class_score_against_loops():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    codes = maths.bins(labels + rng.normal(size=150), 8)
    fold = maths.folds(labels, 5, 0)
    assert maths.class_score(codes, labels, fold, 3).value == pytest.approx(plain(codes, labels, fold, 3))


def test_error_of_two_classes_is_delongs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    codes = maths.bins(labels + rng.normal(size=400))
    fold = maths.folds(labels, 5, 0)
    variances = []
    for k in range(5):
        train, test = fold != k, fold == k
        prior = labels[train].mean()
        scores = np.array(
            [(labels[train & (codes == c)].sum() + prior) / ((train & (codes == c)).sum() + 1) for c in codes[test]]
        )
        variances.append(delong(scores[labels[test] == 1], scores[labels[test] == 0])[1])
    found = maths.class_score(codes, labels, fold, 2)
    # Divisors n where DeLong has n - 1: within folds of some 40 rows a class that is 1 % of the error.
    assert found.error == pytest.approx(np.sqrt(np.sum(variances)) / 5, rel=0.02)


def test_value_score_against_scikit_learn():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=200)
    codes, fold = maths.bins(targets + rng.normal(size=200), 6), rng.integers(0, 5, 200)
    predicted = np.empty(200)
    for k in range(5):
        train = fold != k
        for i in np.flatnonzero(~train):
            same = train & (codes == codes[i])
            predicted[i] = (targets[same].sum() + targets[train].mean()) / (same.sum() + 1)
    assert maths.value_score(codes, targets, fold).value == pytest.approx(r2_score(targets, predicted))


def test_a_useless_feature_scores_nothing_and_a_telling_one_all():
    rng = np.random.default_rng(0)
    labels, fold = np.arange(400) % 2, maths.folds(np.arange(400) % 2, 5, 0)
    blind = [maths.class_score(maths.bins(rng.normal(size=400)), labels, fold, 2).value for _ in range(100)]
    assert np.mean(blind) == pytest.approx(0.5, abs=4 * np.std(blind) / 10)
    telling = maths.class_score(maths.bins(labels.astype(float)), labels, fold, 2)
    assert telling == Score(1.0, 0.0, 200)
    assert maths.score_interval(telling).low == pytest.approx(0.025 ** (1 / 200))
    assert maths.above_p(telling, 0.95) == pytest.approx(0.95**200)


def test_folds_spread_classes():
    labels = np.repeat([0, 1, 2], [50, 25, 10])
    fold = maths.folds(labels, 5, 1)
    table = np.array([np.bincount(fold[labels == c], minlength=5) for c in range(3)])
    assert table.tolist() == [[10] * 5, [5] * 5, [2] * 5]


def test_intervals_and_p_values_agree():
    score = Score(0.9, 0.02, 100)
    low = maths.score_interval(score, 0.9).low  # one-sided 95 %
    assert maths.above_p(score, low) == pytest.approx(0.05)
    flat = Score(0.5, 0.1, 0)
    assert maths.score_interval(flat) == pytest.approx((0.5, 0.5 - 1.96 * 0.1, 0.5 + 1.96 * 0.1), abs=1e-4)
    assert maths.above_p(flat, 0.5) == pytest.approx(0.5)
    assert maths.above_p(flat, 0.6) == pytest.approx(norm.sf(-1))


def test_features_are_ranked_and_position_is_told_apart():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)  # sorted: the position of a row tells its label
    table = np.column_stack([rng.normal(size=120), labels + rng.normal(size=120)])
    found = maths.features(table, np.arange(120), labels, ("noise", "signal"), classify=True, bound=0.9, seed=0)
    assert [feature.name for feature in found] == ["(position of the row)", "signal", "noise"]
    assert [feature.is_position for feature in found] == [True, False, False]
    assert found[0].score.value > 0.99
    assert maths.large_classes(np.array([0] * 10 + [1] * 9 + [3]), 4)[1] == [1, 3]
    assert maths.quarters(np.arange(8.0)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
