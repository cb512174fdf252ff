"""The gate: every exit code, and that nothing unmeasured ever opens it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.comparison import Change, NumberChange
from assessor.contract import Better, Metric
from assessor.gate import Beside, GateDecision, decide, told_days
from assessor.model import Answer, Audit, Catalog, CheckRun, Configuration, Contradiction, JudgedTarget, Slot, Status

Make = Callable[..., Any]
ALL = ["fail", "inconclusive", "error"]
TODAY = date(2026, 11, 21)
TARGET = {"interval": [0.4, 0.6], "because": "so"}
TARGETS = {"targets": {"trial.share": TARGET}}
KEPT = JudgedTarget(metric=None, interval=(0.4, 0.6), because="so", source="assessor.yaml:9")
WAIVER = {"id": "trial.share", "because": "known", "by": "Ada", "until": "2026-11-21"}


@pytest.fixture
def gate(catalog: Catalog, configure: Make) -> Callable[..., GateDecision]:
    """Decides over some runs; keywords are keys of assessor.yaml."""

    def decided(
        *runs: CheckRun, answers: dict[str, Answer] | None = None, beside: Beside | None = None, **changes: Any
    ) -> GateDecision:
        found = {run.check: run for run in runs}
        return decide(configure(**changes), catalog, answers or {}, found, today=TODAY, beside=beside)

    return decided


def told(found: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [(finding.id, finding.status) for finding in found]


def test_open(gate: Make, make_run: Make) -> None:
    found = gate(make_run(target=KEPT), make_run(check="trial.free", status="measured"), **TARGETS)
    assert (found.exit_code, found.sentence) == (0, "open")
    assert found.passed == ("trial.share",)
    assert told(found.not_judged) == [("trial.free", "measured")]
    assert found.blocking == found.incomplete == found.waived == found.tolerated == ()


def test_a_failure_closes(gate: Make, make_run: Make) -> None:
    found = gate(make_run(status="fail", target=KEPT, sentence="lies outside"), **TARGETS)
    assert (found.exit_code, found.sentence) == (1, "closed: 1 forbidden by the policy")
    (finding,) = found.blocking
    assert (finding.id, finding.status, finding.sentence, finding.stops) == (
        "trial.share",
        "fail",
        "lies outside",
        True,
    )


@pytest.mark.parametrize("status", ["inconclusive", "not_applicable", "error", "measured"])
def test_a_target_without_a_verdict_cannot_be_judged(gate: Make, make_run: Make, status: str) -> None:
    other = make_run(check="trial.other", status="measured")
    found = gate(make_run(status=status, target=KEPT), other, **TARGETS)
    assert (found.exit_code, told(found.incomplete)) == (3, [("trial.share", status)])
    assert found.sentence == "closed: 1 cannot be judged"
    ignoring = gate(make_run(status=status, target=KEPT), other, **TARGETS, policy={"incomplete": "ignore"})
    crashed = status == "error"
    assert (ignoring.exit_code, told(ignoring.incomplete)) == (3 if crashed else 0, [("trial.share", status)])
    assert ignoring.incomplete[0].stops is crashed


@pytest.mark.parametrize(
    ("status", "code"), [("inconclusive", 0), ("not_applicable", 0), ("measured", 0), ("error", 3)]
)
def test_without_a_target_only_a_crash_matters(gate: Make, make_run: Make, status: str, code: int) -> None:
    assert gate(make_run(status=status), make_run(check="trial.other", status="measured")).exit_code == code


def test_a_target_without_a_result(gate: Make, make_run: Make) -> None:
    found = gate(make_run(check="trial.other", status="measured"), **TARGETS)
    assert (found.exit_code, told(found.incomplete)) == (3, [("trial.share", "missing")])


def test_a_changed_target_is_outdated(gate: Make, make_run: Make) -> None:
    for run in (make_run(target=None), make_run(status="fail", target=KEPT.model_copy(update={"because": "x"}))):
        found = gate(run, **TARGETS)
        assert (found.exit_code, told(found.incomplete)) == (3, [("trial.share", "outdated")])
    assert told(gate(make_run(target=KEPT)).incomplete) == [("trial.share", "outdated")]


def test_what_is_forbidden_goes_before_what_is_missing(gate: Make, make_run: Make) -> None:
    targets = {"targets": {"trial.share": TARGET, "trial.other": TARGET}}
    found = gate(make_run(status="fail", target=KEPT), **targets)
    assert (found.exit_code, told(found.blocking), told(found.incomplete)) == (
        1,
        [("trial.share", "fail")],
        [("trial.other", "missing")],
    )


@pytest.mark.parametrize("status", ["inconclusive", "error"])
def test_a_policy_may_forbid_more(gate: Make, make_run: Make, status: str) -> None:
    found = gate(make_run(status=status, target=KEPT), **TARGETS, policy={"fail_on": ["fail", status]})
    assert (found.exit_code, told(found.blocking)) == (1, [("trial.share", status)])


def test_a_failure_that_is_not_forbidden_is_never_called_passed(gate: Make, make_run: Make) -> None:
    found = gate(make_run(status="fail", target=KEPT), **TARGETS, policy={"fail_on": []})
    assert (found.exit_code, found.sentence) == (0, "open, 1 found and not forbidden")
    assert (told(found.tolerated), found.passed) == ([("trial.share", "fail")], ())


def test_a_waiver_lets_through_until_its_day_is_over(gate: Make, make_run: Make) -> None:
    run = make_run(status="fail", target=KEPT)
    found = gate(run, **TARGETS, policy={"waivers": [WAIVER]})
    assert (found.exit_code, found.sentence) == (0, "open, 1 waived")
    assert found.waived[0].sentence == "a sentence; waived: known (Ada, until 2026-11-21)"
    late = gate(run, **TARGETS, policy={"waivers": [{**WAIVER, "until": "2026-11-20"}]})
    assert (late.exit_code, late.waived) == (1, ())
    assert late.blocking[0].sentence == "a sentence; waiver expired: known (Ada, until 2026-11-20)"


def test_a_waiver_waives_no_lack(gate: Make, make_run: Make) -> None:
    found = gate(make_run(check="trial.other", status="measured"), **TARGETS, policy={"waivers": [WAIVER]})
    assert found.exit_code == 3


def test_a_waiver_of_another_check_waives_nothing(gate: Make, make_run: Make) -> None:
    waivers = [{**WAIVER, "id": "trial.other"}]
    found = gate(make_run(status="fail", target=KEPT), **TARGETS, policy={"waivers": waivers})
    assert (found.exit_code, told(found.stale)) == (1, [("trial.other", "stale")])
    assert found.stale[0].sentence.startswith("this waiver waives nothing, remove it: known")


def test_a_check_that_is_off_is_not_looked_at(gate: Make, make_run: Make) -> None:
    run, other = make_run(status="fail", target=KEPT), make_run(check="trial.other", status="measured")
    found = gate(run, other, **TARGETS, checks={"trial.share": False})
    assert (found.exit_code, found.passed) == (0, ())
    assert told(found.not_judged) == [("trial.other", "measured")]


@pytest.mark.parametrize("incomplete", ["error", "ignore"])
def test_nothing_measured_never_opens(gate: Make, make_run: Make, incomplete: str) -> None:
    policy = {"incomplete": incomplete, "fail_on": []}
    for runs, changes in (
        ((), {}),
        ((), TARGETS),
        ((make_run(),), {"checks": {"trial.share": False}}),
        ((make_run(status="not_applicable"),), {}),
        ((make_run(status="error"),), {}),
    ):
        found = gate(*runs, **changes, policy=policy)
        assert found.exit_code == 3
        assert ("results", "missing") in told(found.incomplete)


ANSWER = Answer.model_validate({"value": "partly", "because": "x", "by": "y", "at": "2026-11-21T10:00:00Z"})


# S has 10 criteria and 50 requirements, of which its protection need is asked even when it is low; FN-P is answered.
@pytest.mark.parametrize(("wanted", "count"), [("none", 0), ("criteria", 38 - 10), ("all", 240 - 49 - 1)])
def test_answers_that_the_policy_asks_for(gate: Make, make_run: Make, wanted: str, count: int) -> None:
    low = {"safety": {"level": "low", "because": "nothing moves"}}
    policy = {"answers": wanted}
    found = gate(make_run(status="measured"), answers={"FN-P": ANSWER}, protection_needs=low, policy=policy)
    assert len(found.incomplete) == count
    assert found.exit_code == (3 if count else 0)
    assert {finding.status for finding in found.incomplete} <= {"unanswered"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a.a", "a.b", "a.c"]), st.sampled_from(list(Status)), st.booleans()),
        unique_by=lambda one: one[0],
    ),
    st.sets(st.sampled_from(["a.a", "a.b", "a.c"])),
    st.sampled_from(["error", "ignore"]),
)
def test_an_open_gate_has_seen_no_failure_and_something_measured(
    make_run: Make,
    configure: Make,
    catalog: Catalog,
    drawn: list[tuple[str, Status, bool]],
    wanted: set[str],
    incomplete: str,
) -> None:
    configuration: Configuration = configure(
        targets=dict.fromkeys(sorted(wanted), TARGET), policy={"incomplete": incomplete}
    )
    runs = {name: make_run(check=name, status=status, target=KEPT if kept else None) for name, status, kept in drawn}
    found = decide(configuration, catalog, {}, runs, today=TODAY)
    fresh = {name for name, _, kept in drawn if kept == (name in wanted)}
    failing = {name for name, status, _ in drawn if status is Status.FAIL} & fresh
    assert found.enforced_code == found.exit_code
    if found.exit_code == 0:
        assert not failing
        assert any(run.metrics for run in runs.values())
        assert not any(status is Status.ERROR for _, status, _ in drawn)
        assert wanted <= runs.keys()
        assert incomplete == "ignore" or all(runs[name].outcome.status is Status.PASS for name in wanted)
    assert (found.exit_code == 1) == bool(failing)


# --- what never opens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("incomplete", ["error", "ignore"])
@pytest.mark.parametrize("fail_on", [[], ["fail"], ["error"], ALL])
@pytest.mark.parametrize("waived", [False, True])
def test_every_combination_of_policy_and_outcome(
    gate: Make, make_run: Make, mode: str, incomplete: str, fail_on: list[str], waived: bool
) -> None:
    """The exit code by a table that is written down anew: 3 where nothing can be judged at all, in every policy."""
    policy = {"mode": mode, "incomplete": incomplete, "fail_on": fail_on, "waivers": [WAIVER] if waived else []}
    other = make_run(check="trial.other", status="measured")
    old = KEPT.model_copy(update={"because": "other"})
    cases = {
        "missing": (),
        "outdated": (make_run(target=old),),
        "outdated error": (make_run(status="error", target=old),),
        **{status.value: (make_run(status=status, target=KEPT),) for status in Status},
    }
    for name, runs in cases.items():
        found = gate(*runs, other, **TARGETS, policy=policy)
        hard = name in {"missing", "outdated", "outdated error", "error"}
        soft = name in {"inconclusive", "not_applicable", "measured"}
        blocked = name.removeprefix("outdated ") in fail_on and not (waived and name in {"fail", "inconclusive"})
        lacking = soft and not blocked and incomplete == "error"
        lacking &= not (waived and name in {"inconclusive", "not_applicable"})
        enforced = 1 if blocked else 3 if hard or lacking else 0
        assert found.enforced_code == enforced, name
        assert found.exit_code == (enforced if mode == "enforce" else 3 if hard else 0), name
        if name == "error":
            assert found.exit_code


def test_observing_says_what_enforcing_would(gate: Make, make_run: Make) -> None:
    run = make_run(status="fail", target=KEPT)
    found = gate(run, **TARGETS, policy={"mode": "observe"})
    assert (found.exit_code, found.enforced_code) == (0, 1)
    assert found.sentence == "closed: 1 forbidden by the policy"
    assert gate(policy={"mode": "observe"}).exit_code == 3


# --- rules by dimension and need -------------------------------------------------------------------------------------


FAIR = {"requirements": ("FN-R-FN-ME-05",)}


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({}, 0),
        ({"dimensions": {"fairness": {"fail_on": ["inconclusive"]}}}, 1),
        ({"dimensions": {"safety": {"fail_on": ["inconclusive"]}}}, 0),
        ({"needs": {"high": {"fail_on": ["inconclusive"]}}}, 1),
        ({"needs": {"medium": {"fail_on": ["inconclusive"]}}}, 0),
        ({"dimensions": {"fairness": {"fail_on": []}}, "needs": {"high": {"fail_on": ["inconclusive"]}}}, 1),
    ],
)
def test_the_strictest_of_general_need_and_dimension_counts(
    gate: Make, make_run: Make, rules: dict[str, Any], code: int
) -> None:
    needs = {"fairness": {"level": "high", "because": "it is about people"}}
    run = make_run(status="inconclusive", target=KEPT, **FAIR)
    policy = {"incomplete": "ignore", **rules}
    assert gate(run, **TARGETS, protection_needs=needs, policy=policy).exit_code == code


def test_answers_are_asked_by_dimension(gate: Make, make_run: Make, catalog: Catalog) -> None:
    run = make_run(status="measured")
    fairness = [item for item in catalog.requirements if item.dimension == "FN"]
    found = gate(run, policy={"dimensions": {"fairness": {"answers": "all"}}})
    assert {finding.id for finding in found.incomplete} <= {item.id for item in fairness}
    assert len(found.incomplete) > 10
    more = gate(run, policy={"answers": "criteria", "dimensions": {"fairness": {"answers": "all"}}})
    assert {finding.id for finding in found.incomplete} < {finding.id for finding in more.incomplete}


def test_a_check_belongs_to_the_dimensions_that_the_catalog_binds_it_to(gate: Make, make_run: Make) -> None:
    targets = {"targets": {"fairness.group_metrics": TARGET}}
    run = make_run(check="fairness.group_metrics", status="inconclusive", target=KEPT)
    policy = {"dimensions": {"fairness": {"fail_on": ["inconclusive"]}}}
    assert gate(run, **targets, policy=policy).exit_code == 1


# --- statements, deviations, waivers ---------------------------------------------------------------------------------


SLOT = Slot(by="Ada", auditor=False)
CONTRADICTION = Contradiction(requirement="FN-R-FN-ME-05", check="a.b", slot=SLOT, sentence="cannot both be right")
DEVIATION = Audit.model_validate(
    {
        "value": "partly",
        "because": "x",
        "by": "y",
        "at": "2026-11-21T10:00:00Z",
        "deviation": "no one looked",
        "assurance": "self_declared",
    }
)


def test_contradictions_and_deviations_block_where_the_policy_says(gate: Make, make_run: Make) -> None:
    beside = Beside(contradictions=[CONTRADICTION], audits={"FN-R-FN-ME-05": DEVIATION})
    run = make_run(status="measured")
    shown = gate(run, beside=beside)
    assert (shown.exit_code, told(shown.tolerated)) == (0, [("FN-R-FN-ME-05", "contradiction")])
    for policy, word in (
        ({"contradictions": "block"}, "contradiction"),
        ({"deviations": "block", "contradictions": "show"}, "deviation"),
    ):
        found = gate(run, beside=beside, policy=policy)
        assert (found.exit_code, told(found.blocking)) == (1, [("FN-R-FN-ME-05", word)])
        waiver = {**WAIVER, "id": "FN-R-FN-ME-05", "covers": [word]}
        accepted = gate(run, beside=beside, policy={**policy, "waivers": [waiver]})
        assert (accepted.exit_code, told(accepted.waived)) == (0, [("FN-R-FN-ME-05", word)])
    assert told(gate(run, beside=beside, policy={"deviations": "show"}).tolerated)[-1] == ("FN-R-FN-ME-05", "deviation")


def test_what_a_waiver_covers(gate: Make, make_run: Make) -> None:
    run, policy = make_run(status="inconclusive", target=KEPT), {"fail_on": ["fail", "inconclusive"]}
    narrow = gate(run, **TARGETS, policy={**policy, "waivers": [{**WAIVER, "covers": ["fail"]}]})
    assert (narrow.exit_code, told(narrow.stale)) == (1, [("trial.share", "stale")])
    wide = gate(run, **TARGETS, policy={**policy, "waivers": [WAIVER]})
    assert (wide.exit_code, wide.waived[0].days_left) == (0, 0)
    with pytest.raises(ValueError, match="error"):
        gate(run, policy={"waivers": [{**WAIVER, "covers": ["error"]}]})
    with pytest.raises(ValueError, match=r"two for one finding: trial.share \(fail\)"):
        gate(run, policy={"waivers": [{**WAIVER, "covers": ["fail"]}, {**WAIVER, "covers": ["fail", "worse"]}]})


@pytest.mark.parametrize("incomplete", ["error", "ignore"])
def test_an_expired_waiver_of_a_lack_fails_too(gate: Make, make_run: Make, incomplete: str) -> None:
    run, late = make_run(status="inconclusive", target=KEPT), {**WAIVER, "until": "2026-11-20"}
    found = gate(run, **TARGETS, policy={"incomplete": incomplete, "waivers": [late]})
    assert (found.exit_code, found.blocking[0].days_left) == (1, -1)
    assert "waiver expired" in found.blocking[0].sentence


def test_an_unanswered_requirement_can_be_waived(gate: Make, make_run: Make) -> None:
    policy = {"dimensions": {"fairness": {"answers": "criteria"}}}
    missing = gate(make_run(status="measured"), policy=policy).incomplete
    waivers = [{**WAIVER, "id": finding.id} for finding in missing]
    found = gate(make_run(status="measured"), policy={**policy, "waivers": waivers})
    assert (found.exit_code, len(found.waived)) == (0, len(missing))
    assert found.counts["waived"] == len(missing) > 0


def test_days_that_are_left() -> None:
    assert [told_days(days) for days in (2, 1, 0, -1)] == ["2 days left", "1 day left", "0 days left", "over"]


# --- a baseline ------------------------------------------------------------------------------------------------------


def changed(change: Change, **changes: Any) -> NumberChange:
    sides = [
        Metric(name="share", value=value, low=value, high=value, n=9, better=Better.HIGHER, method="made up")
        for value in (0.9, 0.5)
    ]
    fields: dict[str, Any] = {
        "check": "trial.share", "metric": "share", "unit": "1", "before": sides[0], "after": sides[1],
        "difference": -0.4, "low": -0.5, "high": -0.3, "p_value": 0.001, "p_holm": 0.002, "change": change,
        "because": "",
    }  # fmt: skip
    return NumberChange(**{**fields, **changes})


def test_what_got_worse_blocks(gate: Make, make_run: Make) -> None:
    run, beside = make_run(status="measured"), Beside(changes=[changed(Change.WORSE, tolerance=0.1)])
    found = gate(run, beside=beside)
    assert (found.exit_code, told(found.blocking)) == (1, [("trial.share", "worse")])
    assert found.blocking[0].sentence == (
        "share was 0.9 [0.9, 0.9] and is 0.5 [0.5, 0.5], difference -0.4 [-0.5, -0.3], tolerated 0.1, "
        "p = 0.002 (two samples)"
    )
    shown = gate(run, beside=beside, policy={"baseline": {"block": "nothing"}})
    assert (shown.exit_code, told(shown.tolerated)) == (0, [("trial.share", "worse")])
    usual = gate(run, beside=beside, policy={"waivers": [WAIVER]})
    assert (usual.exit_code, told(usual.stale)) == (
        1,
        [("trial.share", "stale")],
    )  # an accepted failure is no regression
    assert gate(run, beside=beside, policy={"waivers": [{**WAIVER, "covers": ["worse"]}]}).exit_code == 0


@pytest.mark.parametrize("change", [Change.BETTER, Change.NOT_SHOWN, Change.SAME, Change.CHANGED])
def test_other_changes_do_not(gate: Make, make_run: Make, change: Change) -> None:
    assert gate(make_run(status="measured"), beside=Beside(changes=[changed(change)])).exit_code == 0


def test_what_cannot_be_compared_is_incomplete(gate: Make, make_run: Make) -> None:
    run = make_run(status="measured")
    for beside, status in (
        (Beside(lost=["trial.gone"]), "went"),
        (Beside(changes=[changed(Change.NOT_COMPARABLE, because="other units", p_value=None)]), "not_comparable"),
        (Beside(changes=[changed(Change.NOT_SHOWN, low=None, high=None, p_value=None, p_holm=None)]), "not_comparable"),
    ):
        found = gate(run, beside=beside)
        assert (found.exit_code, found.incomplete[0].status) == (3, status)
        assert gate(run, beside=beside, policy={"incomplete": "ignore"}).exit_code == 0
        assert gate(run, beside=beside, policy={"baseline": {"block": "nothing"}}).exit_code == 0
    within = changed(Change.NOT_SHOWN, low=None, high=None, p_value=None, p_holm=None, tolerance=0.5)
    assert gate(run, beside=Beside(changes=[within])).exit_code == 0
