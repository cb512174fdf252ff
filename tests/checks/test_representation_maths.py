"""Intervals for clumped rows, of the largest of many, effective sizes, the exact multinomial test, cells."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks._intervals import Estimate, clopper_pearson
from assessor_checks.data import _representation as maths


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 25), st.floats(0.6, 0.99))
def test_share_of_whole_numbers_is_clopper_pearson(hits, confidence):
    assert maths.share(hits, 25, confidence) == pytest.approx(clopper_pearson(hits, 25, confidence))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_without_clumps_the_interval_is_clopper_pearson(hits):
    found = maths.clumped_share(np.array(hits), np.arange(len(hits)))
    assert found == pytest.approx(clopper_pearson(sum(hits), len(hits)))


def test_rows_of_clumps_that_agree_count_as_one():
    # 30 clumps of 4 equal rows are 30 rows: same ends as for 30, but for the t quantiles (1 %).
    hits = np.arange(30) < 6
    found = maths.clumped_share(np.repeat(hits, 4), np.repeat(np.arange(30), 4))
    alone = clopper_pearson(6, 30)
    assert found.value == alone.value
    assert found == pytest.approx(alone, abs=0.02)
    assert found.high - found.low > clopper_pearson(24, 120).high - clopper_pearson(24, 120).low


def test_clumps_without_a_hit_count_once_each_and_one_clump_has_no_interval():
    found = maths.clumped_share(np.zeros(60, bool), np.repeat(np.arange(20), 3))
    assert found == pytest.approx(clopper_pearson(0, 20))
    assert maths.clumped_share(np.array([True, False]), np.zeros(2)) == Estimate(0.5, -math.inf, math.inf)


def test_clumped_interval_covers():
    # 60 persons with 1 + Poisson(2) rows each, all alike with probability 0.3: 95 % of 400, give or take 4.4 (2 se).
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        sizes = 1 + rng.poisson(2, 60)
        found = maths.clumped_share(np.repeat(rng.random(60) < 0.3, sizes), np.repeat(np.arange(60), sizes))
        held += found.low <= 0.3 <= found.high
    assert held >= 370


def test_extreme_by_hand():
    table = {(0, 0.95): Estimate(0.2, 0.1, 0.3), (1, 0.95): Estimate(0.25, 0.05, 0.28)}
    table |= {(0, 0.975): Estimate(0.2, 0.08, 0.32), (1, 0.975): Estimate(0.25, 0.02, 0.3)}

    def interval(index, confidence):
        return table[index, round(confidence, 3)]

    assert maths.extreme(interval, 2, largest=True) == Estimate(0.25, 0.08, 0.3)
    assert maths.extreme(interval, 2, largest=False) == Estimate(0.2, 0.05, 0.3)


def test_interval_of_the_largest_covers_where_the_plain_one_does_not():
    # Ten shares of 0.1 from 100 rows: the largest lies near 0.15. Plain intervals of the largest exclude 0.1 too often.
    rng, held, plain = np.random.default_rng(1), 0, 0
    for _ in range(300):
        counts = rng.binomial(100, 0.1, 10).tolist()
        found = maths.extreme(lambda i, c, counts=counts: clopper_pearson(counts[i], 100, c), 10, largest=True)
        held += found.low <= 0.1 <= found.high
        plain += clopper_pearson(max(counts), 100).low <= 0.1
    assert held >= 285
    assert plain < held


def test_effective_size_by_hand():
    # Weights 0.5 / 0.9 on 90 rows and 5 on 10: sum 100, squares 90 * 0.3086 + 10 * 25 = 277.8; 100^2 / 277.8 = 36.
    assert maths.effective_size(np.array([90, 10]), np.array([0.5, 0.5])) == pytest.approx(36)
    assert maths.effective_size(np.array([30, 70]), np.array([0.3, 0.7])) == pytest.approx(100)
    assert maths.effective_size(np.array([0, 100]), np.array([0.5, 0.5])) == 0.0


def test_multinomial_p_against_all_outcomes():
    counts, n, shares = np.array([4, 1, 1]), 6, np.array([0.2, 0.5, 0.3])

    def statistic(seen):
        return sum((k - n * p) ** 2 / (n * p) for k, p in zip(seen, shares, strict=True))

    exact = 0.0
    for seen in itertools.product(range(n + 1), repeat=3):
        if sum(seen) == n and statistic(seen) >= statistic(counts) - 1e-9:
            chance = math.factorial(n)
            for k, p in zip(seen, shares, strict=True):
                chance *= p**k / math.factorial(k)
            exact += chance
    found = maths.multinomial_p(counts, n, shares, 20_000, seed=0)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_multinomial_p_counts_the_rest_and_bears_no_rows():
    assert maths.multinomial_p(np.array([0]), 0, np.array([0.5]), 99, 0) == 1.0
    assert maths.multinomial_p(np.array([10]), 100, np.array([0.5]), 999, 0) == 0.001
    assert maths.multinomial_p(np.array([50]), 100, np.array([0.5]), 999, 0) > 0.9


def test_detectable_ratio_is_what_simulation_detects():
    # A group wanted at 0.2 in 400 rows; at the ratio given its interval (2 groups) lies under 1 in about 80 %.
    ratio = maths.detectable_ratio(0.2, 400, 2)
    drawn = np.random.default_rng(0).binomial(400, 0.2 * ratio, 300).tolist()
    seen = np.mean([clopper_pearson(k, 400, 0.975).high < 0.2 for k in drawn])
    assert 0.7 <= seen <= 0.95
    assert maths.detectable_ratio(0.01, 20, 5) == 0.0


def test_cells_are_counted_empty_ones_too():
    columns = [["a", "a", "b", "c"], ["x", "y", "x", "x"]]
    cells = maths.count_cells(columns, [["a", "b"], ["x", "y"]], lambda place: place == ("b", "y"))
    assert cells.names == (("a", "x"), ("a", "y"), ("b", "x"))
    assert cells.counts.tolist() == [1, 1, 1]
    assert cells.outside == 1
