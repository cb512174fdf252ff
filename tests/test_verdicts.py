"""Judging: interval against target, and how outcomes travel upward. Nothing unmeasured ever counts as good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.contract import Better, Metric, Result
from assessor.model import Answer, Aspect, Catalog, CheckRun, JudgedTarget, Status, Target
from assessor.verdicts import DimensionState, ResidualRisk, judge, judge_assessment, judged_against

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


# --- upward ----------------------------------------------------------------------------------------------------------


def answer(value: str = "fulfilled", **replies: str) -> Answer:
    data = {"value": value, "because": "x", "by": "Ada", "at": "2026-11-21T10:00:00Z", "replies": replies}
    return Answer.model_validate(data)


@pytest.fixture
def state(catalog: Catalog, configure: Make) -> Callable[..., DimensionState]:
    """The state of the dimension FN: all answered fulfilled, but for the changes."""

    def judged(changes: dict[str, str | None] | None = None, *runs: CheckRun, **configuration: Any) -> DimensionState:
        values = {item.id: "fulfilled" for item in catalog.requirements} | (changes or {})
        answers = {name: answer(value) for name, value in values.items() if value is not None}
        states = judge_assessment(catalog, configure(**configuration), answers, {run.check: run for run in runs})
        assert [found.id for found in states] == ["PF", "FN", "AC", "TR", "RE", "S", "DP", "AT"]
        return states[1]

    return judged


def nothing(catalog: Catalog, *aspects: Aspect) -> dict[str, str | None]:
    return {item.id: None for item in catalog.requirements if not aspects or item.aspect in aspects}


def area(found: DimensionState, name: str) -> str:
    return next(state.sentence for state in found.areas if state.id == name)


TEST, SUMMARY = "FN-R-FN-ME-05", "FN-R-FN-OA"


def test_all_fulfilled(state: Callable[..., DimensionState]) -> None:
    found = state()
    assert (found.ceiling, found.ceiling_because) == (
        "negligible",
        "every requirement is answered and nothing deviates",
    )
    assert {one.sentence for one in found.areas} == {"no deviation"}
    assert (found.answered, found.total, found.tests_measured) == (24 - 1, 23, 0)


def test_nothing_answered(state: Callable[..., DimensionState], catalog: Catalog) -> None:
    found = state(nothing(catalog))
    assert (found.answered, found.ceiling) == (0, None)
    assert found.ceiling_because == "6 criteria and overall assessments are unanswered, FN-R-FN-CR-01 first"
    assert {one.sentence for one in found.areas} == {"not assessed"}


def test_open_criteria_leave_the_ceiling_open(state: Callable[..., DimensionState]) -> None:
    found = state({"FN-R-CD-CR-02": None})
    assert (found.ceiling, found.ceiling_because) == (
        None,
        "1 criterion and overall assessments are unanswered, FN-R-CD-CR-02 first",
    )
    assert area(found, "FN-R-CD") == "no deviation so far, 1 of 8 requirements open"


@pytest.mark.parametrize(
    ("value", "because", "sentence"),
    [
        (None, "1 measure unanswered", "no deviation so far, 1 of 13 requirements open"),
        ("partly", "1 deviation", "1 deviation"),
        ("not_fulfilled", "1 deviation", "1 deviation"),
    ],
)
def test_deviations_and_open_measures_are_at_best_acceptable(
    state: Callable[..., DimensionState], value: str | None, because: str, sentence: str
) -> None:
    found = state({"FN-R-FN-ME-03": value})
    assert (found.ceiling, found.ceiling_because) == (ResidualRisk.ACCEPTABLE, because)
    assert area(found, "FN-R-FN") == sentence


def test_not_applicable_is_an_answer_and_no_deviation(state: Callable[..., DimensionState]) -> None:
    assert state({"FN-R-FN-ME-03": "not_applicable"}).ceiling is ResidualRisk.NEGLIGIBLE


@pytest.mark.parametrize("status", ["inconclusive", "error"])
def test_an_unclear_check_is_at_best_acceptable(
    state: Callable[..., DimensionState], make_run: Make, status: str
) -> None:
    found = state({}, make_run(status=status, requirements=(TEST,)))
    assert (found.ceiling, found.ceiling_because) == ("acceptable", "1 check without a clear result")
    assert found.statuses == {Status(status): 1}


def test_a_result_judged_against_another_target_is_unclear(
    state: Callable[..., DimensionState], make_run: Make
) -> None:
    found = state(
        {}, make_run(requirements=(TEST,)), targets={"trial.share": {"interval": [0.9, None], "because": "x"}}
    )
    assert (found.ceiling, found.ceiling_because) == ("acceptable", "1 check without a clear result")


def test_a_failing_check_contradicts_fulfilled(state: Callable[..., DimensionState], make_run: Make) -> None:
    run = make_run(status="fail", requirements=(TEST, SUMMARY), sentence="share 0.5 lies outside")
    found = state({}, run)
    sentence = "Ada answered {} “fulfilled”, but trial.share measured: share 0.5 lies outside"
    assert [(one.requirement, one.check, one.sentence) for one in found.contradictions] == [
        (TEST, "trial.share", sentence.format(TEST)),
        (SUMMARY, "trial.share", sentence.format(SUMMARY)),
    ]
    assert (found.ceiling, found.ceiling_because) == (
        "unacceptable",
        "2 contradictions between answers and measurements must be settled first",
    )
    assert area(found, "FN-R-FN") == "2 deviations"
    assert found.tests_measured == 1


@pytest.mark.parametrize("value", ["partly", "not_fulfilled", None])
def test_a_failing_check_is_a_deviation_whatever_is_answered(
    state: Callable[..., DimensionState], make_run: Make, value: str | None
) -> None:
    found = state({TEST: value}, make_run(status="fail", requirements=(TEST,)))
    assert found.contradictions == ()
    assert found.ceiling is ResidualRisk.ACCEPTABLE
    assert area(found, "FN-R-FN").startswith("1 deviation")


def test_an_area_nobody_answered_can_still_fail(
    state: Callable[..., DimensionState], make_run: Make, catalog: Catalog
) -> None:
    found = state(nothing(catalog), make_run(status="fail", requirements=(TEST,)))
    assert area(found, "FN-R-FN") == "not answered, 1 failed by measurement"


@pytest.mark.parametrize("status", ["pass", "inconclusive", "measured", "not_applicable", "error"])
def test_only_a_failure_contradicts(state: Callable[..., DimensionState], make_run: Make, status: str) -> None:
    found = state({}, make_run(status=status, requirements=(TEST,)))
    assert found.contradictions == ()
    assert found.tests_measured == (status in {"pass", "inconclusive", "measured"})


def test_a_dimension_of_low_need_is_skipped(state: Callable[..., DimensionState]) -> None:
    found = state({}, protection_needs={"fairness": {"level": "low", "because": "no people"}})
    assert (found.skipped, found.need, found.need_because, found.ceiling) == (True, "low", "no people", None)
    assert found.ceiling_because == "the protection need is low, so this dimension is not assessed"


def test_no_need_is_not_a_low_one(state: Callable[..., DimensionState]) -> None:
    found = state()
    assert (found.need, found.skipped) == (None, False)


def test_profile_and_judgement_carry_no_risk(catalog: Catalog, configure: Make) -> None:
    states = judge_assessment(catalog, configure(), {}, {})
    for found in (states[0], states[-1]):
        assert found.ceiling is None
        assert found.ceiling_because.startswith("not rated")


def test_what_is_stated_is_shown(catalog: Catalog, configure: Make) -> None:
    answers = {"FN-S": answer("partly", residual_risk="acceptable")}
    states = judge_assessment(catalog, configure(), answers, {})
    assert [found.stated for found in states] == [None, "acceptable", *[None] * 6]


def test_tests_wanted_are_those_demanded_without_condition(catalog: Catalog, configure: Make) -> None:
    states = judge_assessment(catalog, configure(), {}, {})
    assert {found.id: found.tests_wanted for found in states}["FN"] == 4
    assert sum(found.tests_wanted for found in states) == sum(
        item.wants_test and item.id != "TR-R-EX-ME-07" for item in catalog.requirements
    )
