"""Outcomes upward: never averaged, and nothing unanswered or unmeasured counts as good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assessor.applicability import Scope
from assessor.judgement import CONCLUSIONS, Facts, ResidualRisk, judge_assessment, judge_overall, rank
from assessor.model import (
    Answer,
    Aspect,
    Audit,
    AuditSummary,
    Catalog,
    CheckRun,
    Configuration,
    DimensionState,
    OverallState,
    RequirementState,
    Status,
    Verdict,
)

Make = Callable[..., Any]
AT = "2026-11-21T10:00:00Z"


def answer(value: str = "fulfilled", by: str = "Ada", at: str = AT, **fields: Any) -> Answer:
    return Answer.model_validate({"value": value, "because": "x", "by": by, "at": at, **fields})


def audit(value: str = "fulfilled", **fields: Any) -> Audit:
    data = {"value": value, "because": "x", "by": "Bob", "at": AT, "answer_at": AT, "assurance": "re_performed"}
    return Audit.model_validate({**data, "deviation": "a gap", **fields})


def need(level: str) -> dict[str, Any]:
    return {"protection_needs": {"fairness": {"level": level, "because": "no people"}}}


# --- the whole catalog: one dimension --------------------------------------------------------------------------------


@pytest.fixture
def state(catalog: Catalog, configure: Make) -> Callable[..., DimensionState]:
    """The state of the dimension FN: all answered fulfilled, but for the changes."""

    def judged(
        changes: dict[str, str | None] | None = None,
        *runs: CheckRun,
        audits: dict[str, Audit] | None = None,
        **configuration: Any,
    ) -> DimensionState:
        values = {item.id: "fulfilled" for item in catalog.requirements} | (changes or {})
        answers = {name: answer(value) for name, value in values.items() if value is not None}
        scope = Scope(catalog, configure(**configuration), answers)
        states = judge_assessment(Facts(scope, {run.check: run for run in runs}, audits or {}))
        assert [found.id for found in states] == ["PF", "FN", "AC", "TR", "RE", "S", "DP", "AT"]
        return states[1]

    return judged


def nothing(catalog: Catalog) -> dict[str, str | None]:
    return dict.fromkeys((item.id for item in catalog.requirements), None)


def area(found: DimensionState, name: str) -> str:
    return next(one.sentence for one in found.areas if one.id == name)


def of(found: DimensionState, name: str) -> RequirementState:
    return next(one for area in found.areas for one in area.requirements if one.id == name)


TEST, SUMMARY, CRITERION, MEASURE = "FN-R-FN-ME-05", "FN-R-FN-OA", "FN-R-FN-CR-01", "FN-R-FN-ME-03"


def test_all_fulfilled(state: Callable[..., DimensionState]) -> None:
    found = state()
    assert (found.ceiling, found.ceiling_because) == (
        "negligible",
        "every requirement is answered and nothing deviates",
    )
    assert {one.sentence for one in found.areas} == {"no deviation"}
    assert (found.answered, found.total, found.left_out, found.audited, found.tests_measured) == (23, 23, 0, 0, 0)


def test_nothing_answered(state: Callable[..., DimensionState], catalog: Catalog) -> None:
    found = state(nothing(catalog))
    assert (found.answered, found.ceiling) == (0, None)
    assert found.ceiling_because == "6 criteria and overall assessments are unanswered, FN-R-FN-CR-01 first"
    assert {one.sentence for one in found.areas} == {"not assessed"}


def test_open_criteria_leave_the_ceiling_open(state: Callable[..., DimensionState]) -> None:
    found = state({"FN-R-CD-CR-02": None})
    assert (found.ceiling, found.ceiling_because) == (
        None,
        "1 criterion or overall assessment is unanswered: FN-R-CD-CR-02",
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
    found = state({MEASURE: value})
    assert (found.ceiling, found.ceiling_because) == (ResidualRisk.ACCEPTABLE, because)
    assert area(found, "FN-R-FN") == sentence


def test_not_applicable_is_an_answer_and_no_deviation(state: Callable[..., DimensionState]) -> None:
    assert state({MEASURE: "not_applicable"}).ceiling is ResidualRisk.NEGLIGIBLE


def test_what_falls_short_in_a_criterion_is_named(state: Callable[..., DimensionState]) -> None:
    found = state({CRITERION: "partly", MEASURE: "partly"})
    risk = next(one for one in found.areas if one.id == "FN-R-FN")
    assert (risk.deviations, risk.unmet, risk.open) == ((CRITERION, MEASURE), (CRITERION,), ())


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
    targets = {"trial.share": {"interval": [0.9, None], "because": "x"}}
    found = state({}, make_run(requirements=(TEST,)), targets=targets)
    assert (found.ceiling, found.ceiling_because) == ("acceptable", "1 check without a clear result")


def test_a_failing_check_contradicts_fulfilled(state: Callable[..., DimensionState], make_run: Make) -> None:
    run = make_run(status="fail", requirements=(TEST, SUMMARY), sentence="share 0.5 lies outside")
    found = state({}, run)
    sentence = "Ada answered {} “fulfilled”, but trial.share measured: share 0.5 lies outside"
    assert [(one.requirement, one.check, one.slot.auditor, one.sentence) for one in found.contradictions] == [
        (TEST, "trial.share", False, sentence.format(TEST)),
        (SUMMARY, "trial.share", False, sentence.format(SUMMARY)),
    ]
    assert (found.ceiling, found.ceiling_because) == (
        "unacceptable",
        "2 contradictions between statements and measurements must be settled first",
    )
    assert area(found, "FN-R-FN") == "2 deviations"
    assert found.tests_measured == 1


def test_both_slots_can_contradict_a_measurement(state: Callable[..., DimensionState], make_run: Make) -> None:
    run = make_run(status="fail", requirements=(TEST,))
    both = state({}, run, audits={TEST: audit()}).contradictions
    assert [(one.slot.by, one.slot.auditor) for one in both] == [("Ada", False), ("Bob", True)]
    one = state({TEST: "partly"}, run, audits={TEST: audit("not_applicable")}).contradictions
    assert [(item.slot.by, item.slot.auditor) for item in one] == [("Bob", True)]
    assert "“not applicable”" in one[0].sentence
    # an auditor who sees the gap does not settle what the developer still says
    assert len(state({}, run, audits={TEST: audit("not_fulfilled")}).contradictions) == 1


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
    found = state({}, **need("low"))
    assert (found.skipped, found.need, found.need_because, found.ceiling) == (True, "low", "no people", None)
    assert found.ceiling_because == "the protection need is low, so this dimension is not assessed"
    assert (found.total, found.left_out) == (1, 22)
    assert area(found, "FN-R-FN") == "does not concern this system"


def test_a_failure_in_a_skipped_dimension_is_still_told(
    state: Callable[..., DimensionState], make_run: Make, catalog: Catalog
) -> None:
    found = state(nothing(catalog), make_run(status="fail", requirements=(TEST,)), **need("low"))
    assert area(found, "FN-R-FN") == "1 deviation"
    assert len(state({}, make_run(status="fail", requirements=(TEST,)), **need("low")).contradictions) == 1


def test_no_need_is_not_a_low_one(state: Callable[..., DimensionState]) -> None:
    found = state()
    assert (found.need, found.skipped) == (None, False)


def test_profile_and_judgement_carry_no_risk(catalog: Catalog, configure: Make) -> None:
    states = judge_assessment(Facts(Scope(catalog, configure(), {})))
    for found in (states[0], states[-1]):
        assert (found.ceiling, found.rating, found.second_wanted) == (None, None, False)
        assert found.ceiling_because.startswith("not rated")


def test_what_is_stated_is_shown(catalog: Catalog, configure: Make) -> None:
    answers = {"FN-S": answer("partly", replies={"residual_risk": "acceptable"})}
    states = judge_assessment(Facts(Scope(catalog, configure(), answers)))
    assert [found.stated for found in states] == [None, "acceptable", *[None] * 6]


def test_tests_wanted_are_those_demanded_without_condition(catalog: Catalog, configure: Make) -> None:
    states = judge_assessment(Facts(Scope(catalog, configure(), {})))
    assert {found.id: found.tests_wanted for found in states}["FN"] == 4
    assert sum(found.tests_wanted for found in states) == sum(
        item.wants_test and "Te" not in item.conditional for item in catalog.requirements
    )


# --- slots, audits, evidence -----------------------------------------------------------------------------------------

LADDER = ("not_fulfilled", "partly", "fulfilled", "not_applicable")


@pytest.mark.parametrize(("said", "found"), list(product([None, *LADDER], repeat=2)))
def test_what_stands_is_the_worse_of_both(
    state: Callable[..., DimensionState], said: str | None, found: str | None
) -> None:
    judged = of(state({MEASURE: said}, audits={MEASURE: audit(found)} if found else {}), MEASURE)
    stated = [word for word in (said, found) if word]
    wanted = min(stated, key=LADDER.index) if stated else "not_assessed"
    assert (judged.self_verdict, judged.auditor_verdict, judged.standing) == (
        said or "not_assessed",
        found or "not_assessed",
        wanted,
    )
    assert judged.disagree == (len(set(stated)) == 2)
    assert judged.assurance == ("re_performed" if found else "self_declared")


@pytest.mark.parametrize(
    ("answered", "judged", "outdated"),
    [
        (None, {}, True),  # the answer that was judged is gone
        (None, {"answer_at": None}, False),
        (AT, {}, False),
        ("2026-11-21T11:00:00+01:00", {}, False),
        ("2026-11-21T10:00:01Z", {}, True),
        ("2026-11-21T09:00:00Z", {}, True),  # another answer, whatever its clock said
        ("2026-11-21T10:00:01Z", {"answer_at": None}, True),  # given after an audit of nothing
        ("2026-11-21T09:59:59Z", {"answer_at": None}, False),
    ],
)
def test_an_answer_changed_after_its_audit_outdates_it(
    tiny_catalog: Catalog, configure: Make, answered: str | None, judged: dict[str, Any], outdated: bool
) -> None:
    answers = {"FN-R-FN-ME-01": answer(at=answered)} if answered else {}
    facts = Facts(Scope(tiny_catalog, configure(), answers), audits={"FN-R-FN-ME-01": audit(**judged)})
    assert of(judge_assessment(facts)[1], "FN-R-FN-ME-01").outdated is outdated


def test_an_outdated_audit_is_at_best_acceptable(state: Callable[..., DimensionState]) -> None:
    old = audit(answer_at="2026-11-20T10:00:00Z")
    found = state({}, audits={"FN-S": old})
    assert (found.ceiling, found.ceiling_because) == ("acceptable", "1 answer changed after its audit")


def evidence(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"name": name, "sha256": (name * 64)[:64], **fields}


@pytest.mark.parametrize(
    ("item", "aged"),
    [
        ({"collected": "2026-10-23"}, []),  # the tiny catalog lets a report be 30 days old
        ({"collected": "2026-10-21"}, ["a"]),
        ({"collected": "2026-10-21", "document": "report"}, ["a"]),
        ({"collected": "2026-10-21", "document": "another"}, []),
        ({}, []),  # as old as the answer
    ],
)
def test_evidence_ages_from_the_day_it_was_made(
    tiny_catalog: Catalog, configure: Make, item: dict[str, Any], aged: list[str]
) -> None:
    answers = {"FN-S": answer(evidence=[evidence(**item)])}
    facts = Facts(Scope(tiny_catalog, configure(), answers), today=date(2026, 11, 22))
    found = judge_assessment(facts)[1]
    assert list(of(found, "FN-S").evidence.aged) == aged
    assert (found.evidence_attached, found.evidence_aged) == (1, len(aged))
    assert of(judge_assessment(replace(facts, today=date.max))[1], "FN-S").evidence.aged == ()


def test_evidence_is_expected_of_a_claim_and_shared_by_what_is_the_same(tiny_catalog: Catalog, configure: Make) -> None:
    answers = {
        "FN-S": answer(evidence=[evidence(), evidence("b")]),
        "AT": answer(same_as="FN-S", evidence=[evidence()]),
        "FN-P": answer("partly"),
        "FN-R-FN-OA": answer("not_applicable"),
    }
    states = judge_assessment(Facts(Scope(tiny_catalog, configure(), answers)))
    found = {one.id: one.evidence for state in states for area in state.areas for one in area.requirements}
    assert (found["AT"].attached, found["AT"].expected) == (2, False)
    assert (found["FN-P"].attached, found["FN-P"].expected) == (0, True)
    assert (found["FN-R-FN-OA"].expected, found["FN-R-FN-RI-01"].expected) == (False, False)
    assert (states[1].evidence_wanted, states[1].evidence_attached) == (2, 1)


def test_a_pack_whose_area_is_called_like_an_aspect(tiny: Any, configure: Make) -> None:
    from assessor.criteria import load_catalog

    catalog = load_catalog(tiny, packs=["X-TRY"])
    facts = Facts(Scope(catalog, configure(), {"X-TRY-R-ME-OA": answer()}))
    found = next(one for one in judge_assessment(facts) if one.id == "X-TRY")
    assert (found.ceiling, found.ceiling_because) == ("acceptable", "1 measure unanswered")


# --- the whole -------------------------------------------------------------------------------------------------------


def summary(
    risk: str | None = None, *, second: bool = False, trade_off: bool = False, stated: str = ""
) -> AuditSummary:
    rating = {"residual_risk": risk, "because": "x", "by": "Bob", "at": AT}
    if second:
        rating["second"] = {"by": "Cy", "at": AT}
    accepted = {"between": ["FN", "RE"], "what": "x", "because": "x", "accepted_by": "Cy", "at": AT}
    conclusion = {"trustworthy": stated, "because": "x", "by": "Bob", "at": AT}
    return AuditSummary.model_validate(
        {
            "dimensions": {"FN": rating} if risk else {},
            "trade_offs": {"T1": accepted} if trade_off else {},
            "conclusion": conclusion if stated else None,
        }
    )


@pytest.fixture
def overall(tiny_catalog: Catalog, configure: Make) -> Callable[..., OverallState]:
    """The whole over the tiny catalog, all answered fulfilled but for the changes, after the auditor's summary."""

    def judged(said: AuditSummary, *runs: CheckRun, level: str | None = "medium", **changes: Answer) -> OverallState:
        answers = {item.id: answer() for item in tiny_catalog.requirements}
        answers |= {name.replace("_", "-"): change for name, change in changes.items()}
        configuration = configure(**(need(level) if level else {}))
        facts = Facts(Scope(tiny_catalog, configuration, answers), {run.check: run for run in runs}, {}, said)
        return judge_overall(judge_assessment(facts), facts)

    return judged


NEGLIGIBLE, ACCEPTABLE, UNACCEPTABLE = "negligible", "acceptable", "unacceptable"


@pytest.mark.parametrize(
    ("said", "level", "allowed", "because"),
    [
        ({"risk": NEGLIGIBLE}, "medium", "yes", ()),
        ({"risk": NEGLIGIBLE, "second": True}, "high", "yes", ()),
        (
            {"risk": NEGLIGIBLE},
            "high",
            "with conditions",
            ("Fairness: the need is high and a second person has not agreed",),
        ),
        ({"risk": ACCEPTABLE}, "medium", "with conditions", ("Fairness: residual risk acceptable, not negligible",)),
        ({"risk": NEGLIGIBLE, "trade_off": True}, "medium", "with conditions", None),
        (
            {"risk": UNACCEPTABLE},
            "medium",
            "no",
            ("Fairness: residual risk unacceptable, and no trade-off accepts it",),
        ),
        (
            {"risk": UNACCEPTABLE, "trade_off": True},
            "medium",
            "with conditions",
            ("Fairness: unacceptable, accepted as a trade-off",),
        ),
        ({}, "medium", None, ("Fairness: nobody rated the residual risk",)),
        ({"risk": NEGLIGIBLE}, None, None, ("Fairness: its protection need is undecided",)),
        ({}, "low", "yes", ()),
    ],
)
def test_what_may_be_concluded(
    overall: Callable[..., OverallState],
    said: dict[str, Any],
    level: str | None,
    allowed: str | None,
    because: tuple[str, ...] | None,
) -> None:
    found = overall(summary(**said), level=level)
    assert found.allowed == allowed
    assert because is None or found.because == because


def test_a_rating_above_its_ceiling_does_not_stand(overall: Callable[..., OverallState]) -> None:
    found = overall(summary(NEGLIGIBLE), FN_R_FN_CR_01=answer("partly"))
    assert (found.allowed, found.because) == (
        None,
        ("Fairness: stated better than the acceptable that the findings allow",),
    )


def test_the_developer_rates_where_no_auditor_did(overall: Callable[..., OverallState]) -> None:
    stated = answer(replies={"residual_risk": "acceptable"})
    assert overall(summary(), FN_S=stated).allowed == "with conditions"
    assert overall(summary(UNACCEPTABLE), FN_S=stated).allowed == "no"


@pytest.mark.parametrize("level", ["low", "medium"])
def test_an_open_contradiction_forbids_a_yes(overall: Callable[..., OverallState], make_run: Make, level: str) -> None:
    run = make_run(status="fail", requirements=("FN-R-FN-ME-01",))
    found = overall(summary(NEGLIGIBLE, trade_off=True), run, level=level)
    assert (found.allowed, found.because) == ("no", ("Fairness: a contradiction is open",))


@pytest.mark.parametrize(("stated", "risk"), list(product(CONCLUSIONS, [NEGLIGIBLE, ACCEPTABLE, UNACCEPTABLE, None])))
def test_a_conclusion_stands_if_the_findings_allow_it(
    overall: Callable[..., OverallState], stated: str, risk: str | None
) -> None:
    found = overall(summary(risk, stated=stated))
    best = {NEGLIGIBLE: "yes", ACCEPTABLE: "with conditions", UNACCEPTABLE: "no", None: "no"}[risk]
    assert found.stated == stated
    assert bool(found.fault) == (CONCLUSIONS.index(stated) > CONCLUSIONS.index(best))


# --- properties: any verdicts in both slots, any results, profile, need and rating ------------------------------------

REQUIREMENTS = (
    "PF-T-FA-01",
    "FN-P",
    "FN-R-FN-RI-01",
    "FN-R-FN-CR-01",
    "FN-R-FN-CR-02",
    "FN-R-FN-ME-01",
    "FN-R-FN-ME-02",
    "FN-R-FN-OA",
    "FN-S",
    "AT",
)
CRITERIA = ("FN-R-FN-CR-01", "FN-R-FN-CR-02")
CHECKS = ("trial.share", "trial.other", "trial.third")


@dataclass(frozen=True)
class World:
    """All that an assessment of the tiny catalog says."""

    said: dict[str, str | None]
    found: dict[str, str | None]
    checks: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    learns: str | None = None
    level: str | None = "medium"
    rated: str | None = None
    stated: str | None = None
    second: bool = False
    trade_off: bool = False


SLOT = st.fixed_dictionaries(dict.fromkeys(REQUIREMENTS, st.none() | st.sampled_from(LADDER)))
GOOD = st.fixed_dictionaries(dict.fromkeys(REQUIREMENTS, st.sampled_from(["fulfilled", "fulfilled", "partly", None])))
BOUND = st.lists(st.sampled_from(REQUIREMENTS), unique=True, max_size=2).map(tuple)
RISKS = st.none() | st.sampled_from([NEGLIGIBLE, ACCEPTABLE, UNACCEPTABLE])
WORLDS = st.builds(
    World,
    said=SLOT | GOOD,
    found=SLOT | st.just(dict.fromkeys(REQUIREMENTS)),
    checks=st.dictionaries(
        st.sampled_from(CHECKS), st.tuples(st.sampled_from([*Status, "pass", "pass"]), BOUND), max_size=2
    ),
    learns=st.sampled_from([None, "never", "at times"]),
    level=st.sampled_from([None, "low", "medium", "high"]),
    rated=RISKS,
    stated=RISKS,
    second=st.booleans(),
    trade_off=st.booleans(),
)
ALLOWED = ("no", None, "with conditions", "yes")


@pytest.fixture(scope="module")
def judge(tiny_catalog: Catalog, configure: Make, make_run: Make) -> Callable[..., tuple[DimensionState, OverallState]]:
    """The dimension of the tiny catalog, and the whole."""
    configurations: dict[str | None, Configuration] = {
        level: configure(**(need(level) if level else {})) for level in (None, "low", "medium", "high")
    }
    runs = {
        (check, status, bound): make_run(check=check, status=status, requirements=bound)
        for check in CHECKS
        for status in Status
        for bound in [(), *((name,) for name in REQUIREMENTS)]
    }

    def run(check: str, status: str, bound: tuple[str, ...]) -> CheckRun:
        known = runs.get((check, Status(status), bound))
        return known or make_run(check=check, status=status, requirements=bound)

    def judged(world: World) -> tuple[DimensionState, OverallState]:
        replies = {
            "PF-T-FA-01": {"learns": world.learns} if world.learns else {},
            "FN-S": {"residual_risk": world.stated} if world.stated else {},
        }
        answers = {name: answer(value, replies=replies.get(name, {})) for name, value in world.said.items() if value}
        audits = {
            name: audit(value, answer_at=AT if name in answers else None)
            for name, value in world.found.items()
            if value
        }
        facts = Facts(
            Scope(tiny_catalog, configurations[world.level], answers),
            {check: run(check, status, bound) for check, (status, bound) in world.checks.items()},
            audits,
            summary(world.rated, second=world.second, trade_off=world.trade_off),
        )
        states = judge_assessment(facts)
        return states[1], judge_overall(states, facts)

    return judged


Judge = Callable[[World], tuple[DimensionState, OverallState]]
few = settings(max_examples=120, deadline=None)


def never_better(judge: Judge, before: World, after: World) -> None:
    """Neither the ceiling nor the conclusion that is allowed went up."""
    (one, whole), (other, changed) = judge(before), judge(after)
    assert rank(other.ceiling) <= rank(one.ceiling)
    assert ALLOWED.index(changed.allowed) <= ALLOWED.index(whole.allowed)


def standing(world: World, name: str) -> str | None:
    stated = [word for word in (world.said[name], world.found[name]) if word]
    return min(stated, key=LADDER.index) if stated else None


def contradicted(world: World) -> set[tuple[str, str, str]]:
    """Slots that claim what a check refutes."""
    return {
        (check, name, slot)
        for check, (status, bound) in world.checks.items()
        for name in bound
        for slot in ("said", "found")
        if status == "fail" and getattr(world, slot)[name] in {"fulfilled", "not_applicable"}
    }


def applies(world: World, name: str) -> bool:
    learns = world.learns if world.said["PF-T-FA-01"] else None
    return world.level != "low" and (name != "FN-R-FN-CR-02" or learns != "never")


@given(WORLDS)
@few
def test_nothing_outweighs_one_open_criterion(judge: Judge, world: World) -> None:
    found, whole = judge(world)
    criteria = [standing(world, name) for name in CRITERIA if applies(world, name)]
    if None in criteria:
        assert found.ceiling in ({ResidualRisk.UNACCEPTABLE} if found.contradictions else {None})
        assert whole.allowed != "yes"
    if {None, "partly", "not_fulfilled"} & set(criteria):
        assert found.ceiling is not ResidualRisk.NEGLIGIBLE
    if found.ceiling is ResidualRisk.NEGLIGIBLE:
        assert set(criteria) <= {"fulfilled", "not_applicable"}


@given(WORLDS, BOUND)
@few
def test_a_failing_check_never_helps(judge: Judge, world: World, bound: tuple[str, ...]) -> None:
    assume("trial.share" not in world.checks)
    never_better(judge, world, replace(world, checks={**world.checks, "trial.share": ("fail", bound)}))


@given(WORLDS, st.sampled_from(CHECKS))
@few
def test_a_result_that_turns_bad_never_helps(judge: Judge, world: World, check: str) -> None:
    assume(check in world.checks)
    status, bound = world.checks[check]
    worse = replace(world, checks={**world.checks, check: ("fail", bound)})
    never_better(judge, world, worse)
    if status in {"pass", "measured"}:
        never_better(judge, world, replace(world, checks={**world.checks, check: ("inconclusive", bound)}))


@given(WORLDS, st.sampled_from(REQUIREMENTS), st.sampled_from(["said", "found"]), st.data())
@few
def test_a_worse_verdict_never_helps(judge: Judge, world: World, name: str, slot: str, data: st.DataObject) -> None:
    before = getattr(world, slot)
    assume(before[name] in {"fulfilled", "partly"})
    worse = data.draw(st.sampled_from(LADDER[: LADDER.index(before[name])]))
    after = replace(world, **{slot: {**before, name: worse}})
    if contradicted(world) == contradicted(after):
        never_better(judge, world, after)
    elif name.startswith("FN-R"):  # owning up to what was measured settles the contradiction and leaves the deviation
        found, whole = judge(after)
        assert rank(found.ceiling) <= rank(ResidualRisk.ACCEPTABLE)
        assert whole.allowed != "yes" or world.level == "low"


@given(WORLDS, st.sampled_from(REQUIREMENTS))
@few
def test_nothing_unanswered_counts(judge: Judge, world: World, name: str) -> None:
    assume(world.said[name] in {"fulfilled", "not_applicable"} and world.found[name] is None)
    after = replace(world, said={**world.said, name: None})
    assume(name not in {"PF-T-FA-01", "FN-S"} or not (world.learns or world.stated))
    if contradicted(world) == contradicted(after):
        never_better(judge, world, after)
    if name.startswith("FN"):
        before, left = judge(world)[0], judge(after)[0]
        assert left.answered == before.answered - of(before, name).applies


@given(WORLDS)
@few
def test_results_answer_nothing(judge: Judge, world: World) -> None:
    empty = dict.fromkeys(REQUIREMENTS)
    found, whole = judge(replace(world, said=empty, found=empty))
    assert found.ceiling is None
    assert (found.answered, found.audited, found.contradictions) == (0, 0, ())
    assert "no deviation" not in {one.sentence for one in found.areas}
    if world.level != "low":
        assert whole.allowed in {None, "no", "with conditions"}
        assert whole.allowed != "with conditions" or (world.rated == "unacceptable" and world.trade_off)


@given(WORLDS)
@few
def test_no_deviation_is_said_only_when_all_is_fulfilled(judge: Judge, world: World) -> None:
    found, _ = judge(world)
    for one in found.areas:
        concerned = [item for item in one.requirements if item.applies]
        fine = all(
            item.standing is Verdict.FULFILLED or (item.standing is Verdict.NOT_APPLICABLE and item.id not in CRITERIA)
            for item in concerned
        )
        failed = any(Status.FAIL in item.checks.values() for item in one.requirements)
        assert (one.sentence == "no deviation") == (bool(concerned) and fine and not failed and not one.open)
        assert set(one.open) == {item.id for item in concerned if item.standing is Verdict.NOT_ASSESSED}
        short = {item.id for item in concerned if item.standing in {Verdict.PARTLY, Verdict.NOT_FULFILLED}}
        assert set(one.deviations) == short | {
            item.id for item in one.requirements if Status.FAIL in item.checks.values()
        }
        assert set(one.unmet) == set(one.deviations) & set(CRITERIA)


@given(WORLDS, st.sampled_from(REQUIREMENTS), st.sampled_from(LADDER))
@few
def test_an_auditor_raises_nothing_that_the_developer_said(judge: Judge, world: World, name: str, verdict: str) -> None:
    assume(world.said[name] is not None and world.found[name] is None)
    after = replace(world, found={**world.found, name: verdict})
    never_better(judge, world, after)
    if name.startswith("FN"):
        assert LADDER.index(of(judge(after)[0], name).standing) <= LADDER.index(str(world.said[name]))


@given(WORLDS)
@few
def test_a_rating_above_the_ceiling_never_stands(judge: Judge, world: World) -> None:
    found, whole = judge(world)
    if found.rating is not None and not found.skipped:
        assert bool(found.rating.fault) == (rank(found.rating.risk) > rank(found.ceiling))
        assert not found.rating.fault or whole.allowed in {None, "no"}
    assert found.ceiling_because
    assert whole.allowed == "yes" or whole.because


def test_ceilings_are_ordered() -> None:
    order = [ResidualRisk.UNACCEPTABLE, None, ResidualRisk.ACCEPTABLE, ResidualRisk.NEGLIGIBLE]
    assert sorted(order, key=rank) == order


def test_every_aspect_of_the_tiny_catalog(tiny_catalog: Catalog) -> None:
    assert tuple(item.id for item in tiny_catalog.requirements) == REQUIREMENTS
    assert {item.aspect for item in tiny_catalog.requirements} == set(Aspect)


def test_a_criterion_stated_not_applicable_is_no_fulfilled_one(catalog: Catalog, configure: Make) -> None:
    values = {item.id: "fulfilled" for item in catalog.requirements} | {"FN-R-FN-CR-01": "not_applicable"}
    answers = {name: answer(value) for name, value in values.items()}
    found = judge_assessment(Facts(Scope(catalog, configure(), answers)))[1]
    area = next(one for one in found.areas if one.id == "FN-R-FN")
    assert area.set_aside == ("FN-R-FN-CR-01",)
    assert area.sentence == "no deviation, 1 criterion stated not applicable"
    assert (found.ceiling, found.ceiling_because) == ("acceptable", "1 criterion stated not applicable")
