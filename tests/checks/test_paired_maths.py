"""Shares and drops over rows: coverage near 0 and 1, where a bootstrap fails, and in the middle."""

import numpy as np
import pytest

from assessor_checks._intervals import bootstrap_mean, clopper_pearson
from assessor_checks.robustness._paired import mean_drop, mean_share, relative_drop


def test_few_rows_that_differ_take_the_exact_interval():
    shares = np.ones(200)
    shares[:2] = [0.0, 0.5]
    found = mean_share(shares, 0)
    assert found.value == shares.mean()
    assert found.low == clopper_pearson(198, 200).low
    assert found.high == pytest.approx(bootstrap_mean(shares, 0).high)
    upside = mean_share(1 - shares, 0)
    assert (upside.low, upside.high) == pytest.approx((1 - found.high, 1 - found.low), abs=0.003)
    assert mean_share(np.ones(7), 0) == (1.0, clopper_pearson(7, 7).low, 1.0)
    assert mean_share(np.array([0.5]), 0).low < 0.5 < mean_share(np.array([0.5]), 0).high
    even = mean_share(np.full(40, 0.25), 0)
    assert even == (0.25, *clopper_pearson(10, 40)[1:])


def test_many_rows_that_differ_take_the_bootstrap():
    shares = np.random.default_rng(0).random(100)
    assert mean_share(shares, 3) == bootstrap_mean(shares, 3)
    assert mean_drop(shares - 0.3, 3) == bootstrap_mean(shares - 0.3, 3)


def test_drop():
    same = mean_drop(np.zeros(50), 0)
    assert same == (0.0, -clopper_pearson(0, 50).high, clopper_pearson(0, 50).high)
    few = np.zeros(50)
    few[:3] = [1.0, 0.5, -0.2]
    found = mean_drop(few, 0)
    assert found.low <= -clopper_pearson(1, 50).high
    assert found.high >= clopper_pearson(2, 50).high
    assert mean_drop(np.array([1.0]), 0).high == 1.0


def test_relative_drop():
    rng = np.random.default_rng(1)
    before = (rng.random(300) < 0.9).astype(float)
    after = before * rng.choice([0.5, 1.0], 300)
    found = relative_drop(before, after, 0)
    assert found.value == pytest.approx(1 - after.mean() / before.mean())
    assert found.low < 0.25 < found.high
    none = relative_drop(before, before, 0)
    assert none.value == 0
    assert none.low < 0 < none.high
    assert relative_drop(before, 0 * before, 0).low == -np.inf


@pytest.mark.slow
@pytest.mark.parametrize("right", [0.99, 0.9])
def test_intervals_cover(right):
    """Rows are right in a share Beta distributed around `right`; 200 samples of 60 rows."""
    rng = np.random.default_rng(2)
    held = {"share": 0, "drop": 0, "relative": 0}
    hard = 0.4 if right == 0.99 else 0.2
    for seed in range(200):
        difficult = rng.random(60) < (1 - right) / hard * 2  # few rows that go wrong in about half of the cells
        clean = np.where(difficult, rng.random(60) < 1 - hard, True).astype(float)
        shares = np.where(difficult, rng.binomial(20, 0.5, 60) / 20, 1.0)
        p = (1 - right) / hard * 2
        truth, before = 1 - 0.5 * p, 1 - hard * p
        found = mean_share(shares, seed)
        held["share"] += found.low <= truth <= found.high
        drop = mean_drop(clean - shares, seed)
        held["drop"] += drop.low <= before - truth <= drop.high
        part = relative_drop(clean, shares, seed)
        held["relative"] += part.low <= 1 - truth / before <= part.high
    assert min(held.values()) >= 0.91 * 200
