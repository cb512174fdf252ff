"""Outcomes upward: never averaged, and nothing unanswered or unmeasured counts as good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assessor.judgement import DimensionState, ResidualRisk, judge_assessment
from assessor.model import Answer, Aspect, Catalog, CheckRun, Status

Make = Callable[..., Any]


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
