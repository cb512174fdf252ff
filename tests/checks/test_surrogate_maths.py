"""Small models that imitate: exact cases, rules that say what the tree does, kappa."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp
from sklearn.metrics import cohen_kappa_score

from assessor_checks.transparency import _surrogate as surrogate


def features(n=400, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_a_tree_is_recovered_with_its_rules():
    x = features()
    y = np.where(x[:, 1] > 0.25, 2, np.where(x[:, 3] > -0.5, 1, 0))
    found = surrogate.tree(x, y, 8, classes=True, seed=0)
    assert found.size == 3
    assert (found.answers(x) == y).all()
    rules = surrogate.rules(found, tuple("abcde"), x, y)
    assert [rule.answer for rule in rules] == [2, 1, 0] or sorted(rule.answer for rule in rules) == [0, 1, 2]
    assert sum(rule.share for rule in rules) == pytest.approx(1)
    assert all(rule.agreement == 1 for rule in rules)
    words = {rule.answer: rule.conditions for rule in rules}
    assert words[2].startswith("b > 0.2")
    assert set(words[0].split(" and ")) == {words[1].split(" and ")[0], words[0].split(" and ")[1]}
    assert words[1].split(" and ")[1].startswith("d > -0.")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), leaves=st.integers(2, 12))
def test_rules_say_what_the_tree_does(seed, leaves):
    x = features(120, 3, seed)
    y = (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)
    found = surrogate.tree(x, y, leaves, classes=True, seed=0)
    covered = np.zeros(len(x), dtype=int)
    for rule in surrogate.rules(found, ("a", "b", "c"), x, y):
        inside = np.ones(len(x), dtype=bool)
        for condition in rule.conditions.split(" and "):
            inside &= holds(condition, dict(zip("abc", x.T, strict=True)))
        covered += inside
        assert (found.answers(x)[inside] == rule.answer).mean() > 0.97  # thresholds are shown with four digits
    assert (covered == 1).mean() > 0.97


def holds(condition, columns):
    words = condition.split(" ")
    if len(words) == 5:
        return (float(words[0]) < columns[words[2]]) & (columns[words[2]] <= float(words[4]))
    name, sign, value = words
    return columns[name] <= float(value) if sign == "<=" else columns[name] > float(value)


def test_pursuit_equals_orthogonal_matching_pursuit_and_leaves_constants_out():
    x = features()
    x[:, 2] = 7.0
    y = 3 * x[:, 4] - 2 * x[:, 0] + 0.5 * x[:, 1] + 0.01 * features(seed=1)[:, 0]
    assert surrogate.pursuit(x, y, 3, classes=False).tolist() == [4, 0, 1]
    for size in (1, 2, 3):
        standard = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
        theirs = np.flatnonzero(orthogonal_mp(standard, y - y.mean(), n_nonzero_coefs=size))
        assert sorted(surrogate.pursuit(x, y, size, classes=False)) == theirs.tolist()
    assert len(surrogate.pursuit(x, y, 99, classes=False)) == 4
    assert len(surrogate.pursuit(np.ones((5, 2)), np.arange(5.0), 3, classes=False)) == 0


def test_linear_models_of_few_features():
    x = features()
    y = (x[:, 3] - x[:, 1] > 0).astype(int)
    order = surrogate.pursuit(x, y, 5, classes=True)
    assert set(order[:2].tolist()) == {1, 3}
    two = surrogate.linear(x, y, order, 2, classes=True)
    assert (two.size, (two.answers(x) == y).mean()) == (2, pytest.approx(1, abs=0.01))
    line = surrogate.linear(x, 2 * x[:, 1] + 5, np.array([1]), 1, classes=False)
    assert line.answers(x) == pytest.approx(2 * x[:, 1] + 5)


def test_kappa_equals_sklearn_and_covers():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 200)
    b = np.where(rng.random(200) < 0.7, a, rng.integers(0, 3, 200))
    found = surrogate.kappa(a, b)
    assert found.value == pytest.approx(cohen_kappa_score(a, b))
    assert found.low < found.value < found.high
    same = surrogate.kappa(a, a)
    assert (same.value, same.high) == (1, 1)
    assert same.low < 1  # 200 rows that agree prove no perfect agreement
    assert np.isnan(surrogate.kappa(np.zeros(5, int), np.zeros(5, int)).value)


def test_kappa_covers_about_95_percent():
    # Agreement by chance is taken as observed, so coverage is not exact: 500 draws of 100 rows, true kappa 0.6.
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        a = rng.integers(0, 2, 100)
        b = np.where(rng.random(100) < 0.2, 1 - a, a)
        found = surrogate.kappa(a, b)
        inside += found.low <= 0.6 <= found.high
    assert inside / 500 >= 0.93


def test_missing_values_and_regression_trees():
    x = features()
    x[:50, 0] = np.nan
    found = surrogate.tree(x, np.nan_to_num(x[:, 0], nan=9.0), 4, classes=False, seed=0)
    assert found.answers(x[:50]) == pytest.approx(9.0)
    assert len(surrogate.rules(found, tuple("abcde"), x, x[:, 1])) == 4
