"""The gate: every exit code, and that nothing unmeasured ever opens it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.gate import GateDecision, decide
from assessor.model import Answer, Catalog, CheckRun, Configuration, JudgedTarget, Status

Make = Callable[..., Any]
TODAY = date(2026, 11, 21)
TARGET = {"interval": [0.4, 0.6], "because": "so"}
TARGETS = {"targets": {"trial.share": TARGET}}
KEPT = JudgedTarget(metric=None, interval=(0.4, 0.6), because="so", source="assessor.yaml:9")
WAIVER = {"id": "trial.share", "because": "known", "by": "Ada", "until": "2026-11-21"}


@pytest.fixture
def gate(catalog: Catalog, configure: Make) -> Callable[..., GateDecision]:
    """Decides over some runs; keywords are keys of assessor.yaml."""

    def decided(*runs: CheckRun, answers: dict[str, Answer] | None = None, **changes: Any) -> GateDecision:
        found = {run.check: run for run in runs}
        return decide(configure(**changes), catalog, answers or {}, found, today=TODAY)

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
    assert [finding.model_dump() for finding in found.blocking] == [
        {"id": "trial.share", "status": "fail", "sentence": "lies outside"}
    ]


@pytest.mark.parametrize("status", ["inconclusive", "not_applicable", "error", "measured"])
def test_a_target_without_a_verdict_cannot_be_judged(gate: Make, make_run: Make, status: str) -> None:
    other = make_run(check="trial.other", status="measured")
    found = gate(make_run(status=status, target=KEPT), other, **TARGETS)
    assert (found.exit_code, told(found.incomplete)) == (3, [("trial.share", status)])
    assert found.sentence == "closed: 1 cannot be judged"
    ignoring = gate(make_run(status=status, target=KEPT), other, **TARGETS, policy={"incomplete": "ignore"})
    assert (ignoring.exit_code, told(ignoring.incomplete)) == (0, [("trial.share", status)])


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
    assert (found.exit_code, found.sentence) == (0, "open, 1 failing and not forbidden")
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
    assert gate(make_run(status="fail", target=KEPT), **TARGETS, policy={"waivers": waivers}).exit_code == 1


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
    if found.exit_code == 0:
        assert not failing
        assert any(run.metrics for run in runs.values())
        assert incomplete == "ignore" or all(runs[name].outcome.status is Status.PASS for name in wanted)
    assert (found.exit_code == 1) == bool(failing)
