"""The classifier two-sample test: its level, its power, its interval, and its parts against plain ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from assessor_checks.data import _two_sample as maths


def samples(seed, n=60, m=40, d=4, shift=0.0):
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((m, d))
    b[:, 0] += shift
    return rng.standard_normal((n, d)), b


@pytest.mark.slow
def test_level_and_coverage_without_a_difference():
    # 100 draws: 5 p-values under 0.05, give or take 7 (3 se); intervals hold 0.5 in 95, at least 88.
    level, held = 0, 0
    for seed in range(100):
        found = maths.separation(*samples(seed), seed, permutations=99)
        level += found.p_value <= 0.05
        held += found.area.low <= 0.5 <= found.area.high
    assert level <= 12
    assert held >= 88


def test_one_moved_column_is_found():
    found = maths.separation(*samples(0, 300, 200, 10, shift=1.0), 0)
    best = norm.cdf(1 / np.sqrt(2))  # of the best classifier
    assert best - 0.08 <= found.area.value <= best + 0.05
    assert found.area.low > 0.6
    assert found.p_value == 1 / 200


@pytest.mark.parametrize("kind", ["spread", "correlation", "missing", "mixture"])
def test_other_differences_are_found(kind):
    rng = np.random.default_rng(0)
    n, m = (1200, 1000) if kind == "mixture" else (400, 300)  # mean and spread are the same: that takes more rows
    a, b = rng.standard_normal((n, 4)), rng.standard_normal((m, 4))
    if kind == "spread":
        b[:, 0] *= 2
    elif kind == "correlation":
        b[:, 1] = 0.8 * b[:, 0] + 0.6 * b[:, 1]
    elif kind == "missing":
        b[rng.random(m) < 0.4, 2] = np.nan
    else:
        b[:, 3] = 0.2 * b[:, 3] + np.where(rng.random(m) < 0.5, 0.98, -0.98)
    found = maths.separation(a, b, 0, permutations=99)
    assert found.p_value == 0.01
    assert found.area.low > 0.5


def test_many_columns_are_projected():
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((200, 3))
    mixing = rng.standard_normal((3, 300))
    a = hidden[:120] @ mixing + 0.1 * rng.standard_normal((120, 300))
    b = (hidden[120:] + np.array([2, 0, 0])) @ mixing + 0.1 * rng.standard_normal((80, 300))
    assert maths.separation(a, b, 0, permutations=99).area.low > 0.8  # 0.92 is the best
    same = hidden[120:] @ mixing + 0.1 * rng.standard_normal((80, 300))
    assert maths.separation(a, same, 0, permutations=99).area.low < 0.5


def test_nothing_varies():
    found = maths.separation(np.ones((30, 2)), np.ones((20, 2)), 0, permutations=99)
    assert found.area.value == 0.5
    assert found.p_value == 1.0


def test_normal_scores_by_hand():
    rows = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [2.0, 5.0]])
    found = maths.normal_scores(rows)
    assert found.shape == (4, 2)  # the constant column is gone, the missing value has a column
    quantiles = norm.ppf((rankdata([1, 3, 2]) - 0.5) / 3)
    column = np.array([quantiles[0], quantiles[1], 0, quantiles[2]])
    assert found[:, 0] == pytest.approx(column / column.std())
    assert found[:, 1] == pytest.approx((np.array([0, 0, 1, 0]) - 0.25) / np.sqrt(3 / 16))


def test_principal_against_the_whole_decomposition():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 8, 5)) * np.linspace(3, 0.1, 40).reshape(8, 5)
    found = maths.principal(rows, 3, rng)
    flat = rows.reshape(200, -1)
    u, s, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    for index in range(3):
        assert abs(np.corrcoef(found[:, index], u[:, index])[0, 1]) > 0.95  # variances fall slowly: the hard case
        assert found[:, index].std() == pytest.approx((u * s)[:, index].std(), rel=0.02)
    assert maths.principal(rows[:6], 50, rng).shape == (6, 6)


def test_principal_in_portions(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((50, 7))
    whole = maths.principal(rows, 3, np.random.default_rng(1))
    monkeypatch.setattr(maths, "_HELD", 70)
    assert maths.principal(rows, 3, np.random.default_rng(1)) == pytest.approx(whole)


def test_discriminant_is_ridge_regression_at_the_wanted_freedom():
    rng = np.random.default_rng(0)
    rows, labels = rng.standard_normal((100, 6)), rng.random((100, 3)) < 0.4
    values = np.linalg.eigvalsh(rows.T @ rows)
    penalty = maths._penalty(values, 4.0)
    assert (values / (values + penalty)).sum() == pytest.approx(4.0)
    for n in (100, 4):  # the second has fewer rows than columns
        found = maths._discriminant(rows[:n], labels[:n], rows[50:55])
        penalty = maths._penalty(np.linalg.eigvalsh(rows[:n].T @ rows[:n]), n / maths._FREEDOM)
        wanted = Ridge(penalty, fit_intercept=False).fit(rows[:n], labels[:n] - labels[:n].mean(axis=0))
        assert found == pytest.approx(wanted.predict(rows[50:55]), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_areas_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 5, (12, 4)).astype(float), rng.random((12, 4)) < 0.5
    areas, pairs = maths._areas(scores, labels)
    for index in range(4):
        ones = labels[:, index].sum()
        assert pairs[index] == ones * (12 - ones)
        if pairs[index]:
            assert areas[index] == pytest.approx(roc_auc_score(labels[:, index], scores[:, index]))


@pytest.mark.slow
def test_interval_covers_a_real_difference():
    # The mean area over 60 draws is what each interval should hold: 57 of 60, at least 52.
    found = [maths.separation(*samples(seed, 120, 80, 3, shift=1.0), seed, permutations=99).area for seed in range(60)]
    centre = np.mean([area.value for area in found])
    assert sum(area.low <= centre <= area.high for area in found) >= 52


def test_same_seed_same_numbers():
    assert maths.separation(*samples(1), 5, permutations=99) == maths.separation(*samples(1), 5, permutations=99)
