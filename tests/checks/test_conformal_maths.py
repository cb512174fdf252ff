"""Conformal prediction against closed forms, plain loops and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from assessor_checks.uncertainty import _conformal as maths
from assessor_checks.uncertainty import _coverage_parts as parts

rng_strategy = st.integers(0, 10_000).map(np.random.default_rng)


@given(st.integers(1, 300), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.3, 0.45]))
def test_rank_and_least_rows_agree(n, alpha):
    assert (maths.rank_of(n, alpha) <= n) == (n >= maths.least_rows(alpha))
    assert maths.rank_of(n, alpha) / (n + 1) >= 1 - alpha - 1e-12
    assert (maths.rank_of(n, alpha) - 1) / (n + 1) < 1 - alpha


def test_limit_by_hand():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0, 8.0, 6.0])
    assert maths.limit(scores, 0.1) == 9
    assert maths.limit(scores, 0.2) == 8
    assert maths.limit(scores[:8], 0.1) == math.inf


@given(rng_strategy, st.integers(2, 6), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_scores_of_classes_against_a_plain_loop(rng, classes, n):
    p = rng.dirichlet(np.ones(classes), n)
    u = rng.random(n)
    found = maths.aps_scores(p, u)
    for i in range(n):
        for c in range(classes):
            likelier = sum(p[i, k] for k in range(classes) if p[i, k] > p[i, c])
            assert found[i, c] == pytest.approx(likelier + u[i] * p[i, c])
    assert np.array_equal(maths.lac_scores(p), 1 - p)


def test_coverage_follows_its_law():
    # exact for a continuous score: the mean is rank / (n + 1), and the number of covered rows is beta-binomial
    rng, n, m, alpha = np.random.default_rng(0), 30, 50, 0.1
    counts = np.array([(rng.random(m) <= maths.limit(rng.random(n), alpha)).sum() for _ in range(4000)])
    k = maths.rank_of(n, alpha)
    law = betabinom(m, k, n + 1 - k)
    assert counts.mean() == pytest.approx(law.mean(), abs=4 * law.std() / math.sqrt(4000))
    for covered in (30, 40, 45, 50):
        assert maths.p_of_undercoverage(covered, m, n, alpha) == pytest.approx(law.cdf(covered), abs=1e-10)
    p_values = np.array([maths.p_of_undercoverage(int(c), m, n, alpha) for c in counts])
    assert (p_values <= 0.05).mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_ties_only_raise_the_p_value():
    rng, n, m = np.random.default_rng(0), 40, 60
    small = 0
    for _ in range(1000):
        limit = maths.limit(rng.random(n).round(1), 0.1)
        small += maths.p_of_undercoverage(int((rng.random(m).round(1) <= limit).sum()), m, n, 0.1) <= 0.05
    assert small <= 50


@pytest.mark.parametrize(("n", "alpha"), [(50, 0.1), (200, 0.1), (60, 0.3)])
def test_interval_of_the_limit_covers_the_quantile(n, alpha):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = maths.limit_interval(rng.random(n), alpha)
        hits += low <= 1 - alpha <= high
    assert hits >= 940
    assert maths.limit_interval(rng.random(12), 0.1) is None


def test_least_covered_part_allows_for_the_search():
    rng, hits = np.random.default_rng(0), 0
    true = np.array([0.9, 0.85, 0.95, 0.8, 0.9])
    trials = np.array([40, 100, 60, 50, 200])
    for _ in range(1000):
        _, found = maths.least_covered(rng.binomial(trials, true), trials)
        assert found.low <= found.value <= found.high
        hits += found.low <= true.min() <= found.high
    assert hits >= 950


def test_worst_slab_is_found_and_counted_on_other_rows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 5)) * [1, 10, 1, 0.1, 1]
    inside = (x[:, 1] > 5) & (x[:, 1] < 15)
    covered = rng.random(4000) < np.where(inside, 0.5, 0.95)
    slab = maths.worst_slab(x, covered, 0.1, 1, 0)
    assert slab.feature == 1
    assert slab.trials > 150
    assert slab.hits / slab.trials == pytest.approx(0.5, abs=0.12)
    limits = sorted((slab.low / slab.direction[1], slab.high / slab.direction[1]))
    assert 4 < limits[0] < limits[1] < 16
    mixed = rng.random(4000) < np.where(x[:, 0] + x[:, 2] > 1.5, 0.5, 0.95)
    slab = maths.worst_slab(x, mixed, 0.1, 1, 0)
    assert slab.hits / slab.trials < 0.7


def test_slab_of_a_right_model_is_unbiased():
    # searched and counted on different rows, so the count is a plain binomial
    hits = trials = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        slab = maths.worst_slab(rng.standard_normal((200, 3)), rng.random(200) < 0.9, 0.1, 20, seed)
        hits, trials = hits + slab.hits, trials + slab.trials
    assert hits / trials == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / trials))


def test_window_against_a_plain_loop():
    rng = np.random.default_rng(0)
    projected, covered = rng.standard_normal((40, 3)), rng.random(40) < 0.7
    found = maths._least_covered_window(projected, covered, 8)
    least = 1.0
    for direction in range(3):
        order = np.argsort(projected[:, direction])
        for length in (8, 10, 12, 16):
            for start in range(41 - length):
                least = min(least, covered[order[start : start + length]].mean())
    assert found[0] == pytest.approx(least)


def test_nowhere_to_search():
    assert maths.worst_slab(np.ones((100, 3)), np.ones(100, bool), 0.1, 1, 0) is None
    assert maths.worst_slab(np.arange(3.0)[:, None], np.ones(3, bool), 0.1, 1, 0) is None
    assert maths.worst_slab(np.arange(40.0)[:, None], np.arange(40) > 5, 0.1, 1, 0).feature == 0


def test_width_ratio():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(2000)
    found = maths.width_ratio(y, y + 0.5 * rng.standard_normal(2000), 0.1, 0)
    assert found.value == pytest.approx(0.5, abs=0.05)
    assert found.low < 0.5 < found.high
    assert maths.width_ratio(np.ones(20), np.zeros(20), 0.1, 0) is None


def test_parts():
    covered = np.array([True, False, True, True, False, True])
    family = parts.by_number("m", "class", np.array([0, 0, 2, 2, 2, 0]), covered, ("a", "b", "c"))
    assert family.names == ("a", "c")
    assert family.hits.tolist() == [2, 2]
    assert family.trials.tolist() == [3, 3]
    family = parts.by_value("m", "value", np.array([1.0, 1, 1, 2, 3, 9]), covered, 3)
    assert family.names == ("1 to 1", "1 to 2", "2 to 9")
    assert family.trials.tolist() == [3, 1, 2]
    assert parts.by_value("m", "value", np.ones(6), covered, 5).trials.tolist() == [6]
    table = pd.DataFrame({"sex": list("fmfmfm"), "id": [f"p{i}" for i in range(6)], "age": [1.5, 2, 3, 4, 5, 6]})
    (family,) = parts.by_group("m", "group", table[["sex"]], covered)
    assert family.names == ("sex: f", "sex: m")
    assert family.hits.tolist() == [2, 2]
    wide = pd.DataFrame({"id": [f"p{i}" for i in range(200)]})
    assert list(parts.by_group("m", "group", wide, np.ones(200, bool))) == []
    assert list(parts.in_slab("m", "slab", np.full((6, 2), np.nan), (), covered, 0.1, 1, 0)) == []
    x = np.stack([np.zeros(400), np.arange(400.0)], axis=1)
    (family,) = parts.in_slab("m", "slab", x, ("a", "b"), np.arange(400) < 300, 0.1, 1, 0)
    assert family.names[0].startswith("b: 3")
    assert family.hits.tolist() == [0]
