"""Ranks, shared first parts and structural similarity against scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from assessor_checks.transparency._similarity import ranks, shared_first, spearman, ssim


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 5), parts=st.integers(2, 12), values=st.integers(1, 20))
def test_ranks_equal_scipy_with_and_without_ties(seed, rows, parts, values):
    a = np.random.default_rng(seed).integers(0, values, size=(rows, parts)).astype(float)
    assert ranks(a) == pytest.approx(rankdata(a, axis=1) - 1)


def test_spearman_equals_scipy_and_a_constant_row_has_none():
    a, b = np.random.default_rng(0).integers(0, 6, size=(2, 5, 9)).astype(float)
    assert spearman(a, b) == pytest.approx([spearmanr(*pair).statistic for pair in zip(a, b, strict=True)])
    a[1] = 3.0
    assert np.isnan(spearman(a, b)).tolist() == [False, True, False, False, False]
    assert spearman(a[:1], -a[:1]) == pytest.approx([-1.0])


def test_shared_first_counts_the_greatest():
    a = np.array([[5.0, 4.0, 3.0, 2.0, 1.0]])
    assert shared_first(a, a, 3).tolist() == [1.0]
    assert shared_first(a, -a, 2).tolist() == [0.0]
    assert shared_first(a, -a, 3).tolist() == [pytest.approx(1 / 3)]
    assert shared_first(a, -a, 9).tolist() == [1.0]


def slow_ssim(a, b):
    """Window by window, as in Wang et al. 2004, equation 13."""
    a, b = ((each - each.min()) / np.ptp(each) for each in (a, b))
    found = []
    for top in range(a.shape[0] - 6):
        for left in range(a.shape[1] - 6):
            x, y = (each[top : top + 7, left : left + 7].ravel() for each in (a, b))
            cov = np.cov(x, y)
            light = (2 * x.mean() * y.mean() + 1e-4) / (x.mean() ** 2 + y.mean() ** 2 + 1e-4)
            found.append(light * (2 * cov[0, 1] + 9e-4) / (cov[0, 0] + cov[1, 1] + 9e-4))
    return np.mean(found)


def test_ssim_equals_the_slow_way():
    a, b = np.random.default_rng(0).random((2, 3, 9, 11))
    assert ssim(a, b) == pytest.approx([slow_ssim(*pair) for pair in zip(a, b, strict=True)])
    assert ssim(a, 5 * a + 2) == pytest.approx([1.0, 1.0, 1.0])
    assert (ssim(a, -a) < 0).all()
    assert np.isnan(ssim(a, np.ones_like(a))).all()
    assert ssim(a[:, :4, :4], a[:, :4, :4]) == pytest.approx(1.0)
