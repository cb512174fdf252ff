"""Judging one check: interval against target. Nothing unmeasured ever counts as a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.contract import Better, Metric, Result
from assessor.model import JudgedTarget, Status, Target
from assessor.verdicts import judge, judged_against

Make = Callable[..., Any]


def metric(low: float | None = 0.4, high: float | None = 0.6, *, name: str = "share", primary: bool = True) -> Metric:
    value = 0.5 if low is None or high is None else (low + high) / 2
    return Metric(name=name, value=value, low=low, high=high, n=20, better=Better.HIGHER, method="m", primary=primary)


def target(low: float | None, high: float | None, name: str | None = None) -> Target:
    return Target(metric=name, interval=(low, high), because="so")


@pytest.mark.parametrize(
    ("interval", "wanted", "status", "sentence"),
    [
        ((0.4, 0.6), (0.3, 0.7), "pass", "share 0.5 [0.4, 0.6] lies inside the target of 0.3 to 0.7"),
        ((0.4, 0.6), (0.4, 0.6), "pass", "share 0.5 [0.4, 0.6] lies inside the target of 0.4 to 0.6"),
        ((0.4, 0.6), (0.4, None), "pass", "share 0.5 [0.4, 0.6] lies inside the target of at least 0.4"),
        ((0.4, 0.6), (None, 0.6), "pass", "share 0.5 [0.4, 0.6] lies inside the target of at most 0.6"),
        ((0.5, 0.5), (0.5, 0.5), "pass", "share 0.5 [0.5, 0.5] lies inside the target of 0.5 to 0.5"),
        ((0.4, 0.6), (0.7, None), "fail", "share 0.5 [0.4, 0.6] lies outside the target of at least 0.7"),
        ((0.4, 0.6), (None, 0.3), "fail", "share 0.5 [0.4, 0.6] lies outside the target of at most 0.3"),
        ((0.4, 0.6), (0.7, 0.8), "fail", "share 0.5 [0.4, 0.6] lies outside the target of 0.7 to 0.8"),
        (
            (0.4, 0.6),
            (0.6, None),
            "inconclusive",
            "share 0.5 [0.4, 0.6] lies across the target of at least 0.6: 20 samples cannot tell",
        ),
        (
            (0.4, 0.6),
            (None, 0.4),
            "inconclusive",
            "share 0.5 [0.4, 0.6] lies across the target of at most 0.4: 20 samples cannot tell",
        ),
        (
            (0.4, 0.6),
            (0.45, 0.55),
            "inconclusive",
            "share 0.5 [0.4, 0.6] lies across the target of 0.45 to 0.55: 20 samples cannot tell",
        ),
        (
            (0.4, 0.6),
            (0.5, None),
            "inconclusive",
            "share 0.5 [0.4, 0.6] lies across the target of at least 0.5: 20 samples cannot tell",
        ),
        (
            (None, None),
            (0.3, 0.7),
            "inconclusive",
            "share 0.5 against the target of 0.3 to 0.7: n = 20 gives no interval",
        ),
    ],
)
def test_interval_against_target(
    interval: tuple[float | None, float | None], wanted: tuple[float | None, float | None], status: str, sentence: str
) -> None:
    outcome = judge(Result(metrics=(metric(*interval),)), target(*wanted))
    assert (outcome.status, outcome.sentence) == (status, sentence)


def test_without_a_target_it_is_measured_and_never_passed() -> None:
    outcome = judge(Result(metrics=(metric(name="a", primary=False), metric())), None)
    assert (outcome.status, outcome.sentence) == (Status.MEASURED, "share 0.5 [0.4, 0.6]; no target was set")


def test_doubt_goes_before_every_verdict() -> None:
    doubted = Result(metrics=(metric(),), doubt="it did not converge")
    for wanted in (target(0, 1), target(0.9, None)):
        outcome = judge(doubted, wanted)
        assert (outcome.status, outcome.sentence) == (
            Status.INCONCLUSIVE,
            "share 0.5 [0.4, 0.6]. Not judged: it did not converge",
        )
    assert judge(doubted, None).sentence == "share 0.5 [0.4, 0.6]; no target was set. it did not converge"


def test_the_named_metric_is_meant_else_the_primary_else_the_first() -> None:
    first, primary = metric(0.1, 0.2, name="first", primary=False), metric()
    both = Result(metrics=(first, primary))
    assert judge(both, target(0.4, 0.6)).status is Status.PASS
    assert judge(both, target(0.1, 0.2, "first")).status is Status.PASS
    assert judge(both, target(0.4, 0.6, "first")).status is Status.FAIL
    assert judge(Result(metrics=(first,)), target(0.1, 0.2)).status is Status.PASS


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("shore", "the target names a metric 'shore'; did you mean 'share'?"),
        ("zzz", "the target names a metric 'zzz'; measured were share"),
    ],
)
def test_a_metric_that_was_not_measured_is_an_error(name: str, sentence: str) -> None:
    outcome = judge(Result(metrics=(metric(),)), target(0, 1, name))
    assert (outcome.status, outcome.sentence) == (Status.ERROR, sentence)


ENDS = st.floats(-2, 2) | st.sampled_from([0.0, 0.5, 1.0])
PAIRS = st.tuples(ENDS, ENDS).map(sorted)
OPEN = PAIRS.flatmap(lambda ends: st.sampled_from([(ends[0], None), (None, ends[1]), tuple(ends)]))


@given(PAIRS | st.just([None, None]), OPEN, st.none() | st.just("doubt"))
def test_only_an_interval_inside_passes_and_only_one_outside_fails(
    found: list[float | None], wanted: tuple[float | None, float | None], doubt: str | None
) -> None:
    status = judge(Result(metrics=(metric(*found),), doubt=doubt), target(*wanted)).status
    low, high = found
    if doubt or low is None or high is None:
        assert status is Status.INCONCLUSIVE
        return
    above = wanted[0] is None or low >= wanted[0]
    below = wanted[1] is None or high <= wanted[1]
    apart = (wanted[0] is not None and high < wanted[0]) or (wanted[1] is not None and low > wanted[1])
    assert (status is Status.PASS) == (above and below)
    assert (status is Status.FAIL) == apart


def test_judged_against(make_run: Make) -> None:
    kept = JudgedTarget(metric=None, interval=(0, 1), because="so", source="assessor.yaml:9")
    run = make_run(target=kept)
    assert judged_against(run, target(0, 1))
    assert judged_against(make_run(), None)
    for other in (target(0, 0.9), target(0, None), target(0, 1, "share"), Target(interval=(0, 1), because="x"), None):
        assert not judged_against(run, other)
    assert not judged_against(make_run(), target(0, 1))
