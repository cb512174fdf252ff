"""Quantiles between order statistics, and timing with a clock that a test holds."""

import math

import numpy as np
import pytest
from scipy import stats

from assessor_checks import _timing as timing


def test_interval_is_that_of_the_binomial():
    values = np.arange(1.0, 501.0)
    for share in (0.5, 0.95, 0.99):
        found = timing.quantile(values, share)
        inside = stats.binom(500, share)
        # the interval from the l-th to the u-th value holds the quantile when l to u - 1 values lie below it
        assert inside.cdf(found.high - 1) - inside.cdf(found.low - 1) >= 0.95
        assert inside.cdf(found.high - 2) - inside.cdf(found.low) < 0.95  # no shorter one on both sides
        assert found.value == math.ceil(500 * share)
    again = timing.quantile(np.random.default_rng(0).permutation(values), 0.5)
    assert again == timing.quantile(values, 0.5)


def test_scipy_has_the_same_interval_of_the_median():
    values = np.random.default_rng(0).exponential(size=200)
    wanted = stats.quantile_test(values, p=0.95).confidence_interval(0.95)
    found = timing.quantile(values, 0.95)
    assert found.low == wanted.low
    assert found.high == wanted.high


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_interval_covers(share):
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        found = timing.quantile(rng.exponential(size=120), share)
        held += found.low <= -math.log(1 - share) <= found.high
    assert held >= 0.93 * 400


def test_too_few_values_have_no_end():
    assert timing.quantile(np.array([3.0]), 0.5) == (3.0, 0.0, math.inf)
    assert timing.quantile(np.arange(366.0), 0.99).high == math.inf
    assert timing.quantile(np.arange(370.0), 0.99).high == 369.0


class Clock:
    """Goes on by what a call takes, and by nothing else."""

    def __init__(self, takes):
        self.now, self.calls, self.takes = 0.0, [], takes

    def __call__(self):
        return self.now

    def call(self, number):
        self.calls.append(number)
        self.now += self.takes(len(self.calls))


def test_durations_leave_the_warm_up_out():
    clock = Clock(lambda count: 100.0 if count <= 3 else 0.5)
    found = timing.durations(clock.call, 4, warm_up=3, seconds=60, clock=clock)
    assert found.tolist() == [0.5] * 4
    assert clock.calls == [0, 1, 2, 0, 1, 2, 3]


def test_durations_stop_when_time_runs_out_but_not_before_some_are_timed():
    clock = Clock(lambda count: 1.0)
    assert len(timing.durations(clock.call, 1000, warm_up=0, seconds=30.5, clock=clock)) == 31
    assert len(timing.durations(clock.call, 1000, warm_up=0, seconds=2, clock=clock)) == timing.FEWEST
    assert len(timing.durations(clock.call, 5, warm_up=0, seconds=2, clock=clock)) == 5


def test_unsteadiness():
    quiet = 1 + 0.01 * np.random.default_rng(0).standard_normal(500)
    assert timing.unsteadiness(quiet) < 0.01
    slowed = np.where(np.arange(500) < 250, 1.0, 2.0)
    medians = np.repeat([1.0, 2.0], 5)
    assert timing.unsteadiness(slowed) == pytest.approx(medians.std(ddof=1) / 1.5)
    rare = np.ones(500)
    rare[::50] = 100  # pauses, no drift
    assert timing.unsteadiness(rare) == 0
    assert timing.unsteadiness(np.ones(5)) == 0
