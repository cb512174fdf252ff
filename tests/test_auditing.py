"""The auditor's slot: its own files, its own words; ratings under a ceiling, by two people where the need is high."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assessor import auditing
from assessor.answering import save_settings as save_answers
from assessor.assessment import Assessment
from assessor.auditing import Judgement, accept, agree, conclude, due, rate, save, save_settings, to_rate
from assessor.errors import UsageError
from assessor.model import Answer, Catalog, ResidualRisk, Verdict
from assessor.project import Project

Make = Callable[..., Any]
OTHERS = ("autonomy", "transparency", "safety", "data_protection")
LOW, MEDIUM, HIGH = ({"level": level, "because": "so"} for level in ("low", "medium", "high"))


def answer(hour: int = 10, **fields: Any) -> Answer:
    return Answer.model_validate(
        {"value": "fulfilled", "because": "x", "by": "Ada", "at": f"2026-11-21T{hour}:00:00Z", **fields}
    )


def answered(project: Project, name: str, **fields: Any) -> None:
    project.save_answer(name, name.removesuffix("-OA"), answer(**fields), evidence={})


def audit(project: Project, *settings: str, because: str = "seen", **said: Any) -> list[str]:
    return save_settings(project, settings, Judgement(because, **said), by="Bob")


def refused(project: Project, call: Callable[[], Any]) -> str:
    """What is told, after seeing that nothing was saved."""
    before = project.ledger_bytes()
    with pytest.raises(UsageError) as caught:
        call()
    assert project.ledger_bytes() == before
    return str(caught.value)


def content(project: Project, folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project.folder / folder).glob("*")}


# --- slots -----------------------------------------------------------------------------------------------------------


def test_a_verdict_is_saved_with_all_that_is_said(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    answered(project, "FN-S")
    told = audit(
        project,
        "FN-S=partly",
        "FN-S.probe=I looked",
        deviation="no signature",
        assurance="re-performed",
        objectives=("a",),
        comment="soon",
    )
    assert told == ["FN-S partly"]
    found = project.audits(catalog)["FN-S"]
    assert found.model_dump(exclude={"at"}) == {
        "value": "partly",
        "because": "seen",
        "assurance": "re_performed",
        "deviation": "no signature",
        "objectives": ("a",),
        "replies": {"probe": "I looked"},
        "comment": "soon",
        "answer_at": answer().at,
        "by": "Bob",
    }


def test_neither_slot_touches_the_other(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    for item in ("FN-S=partly", "FN-R-FN-OA=fulfilled"):
        save_answers(project, catalog, [item], because="x", by="Ada", evidence=())
    answers = content(project, "answers")
    audit(project, "FN-S=fulfilled", "FN-P=not applicable")
    rate(project, "FN", ResidualRisk.ACCEPTABLE, because="x", by="Bob")
    assert content(project, "answers") == answers
    audits = content(project, "audit")
    save_answers(project, catalog, ["FN-S=fulfilled", "FN-S.reason=y"], because="z", by="Ada", evidence=())
    save_answers(project, catalog, ["FN-P=fulfilled"], because="z", by="Ada", evidence=())
    assert content(project, "audit") == audits
    assert set(audits) == {"FN-S.yaml", "FN-P.yaml", "summary.yaml"}


def test_a_verdict_without_an_answer_rests_on_nothing_but_words(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    audit(project, "FN-S=fulfilled")
    found = project.audits(catalog)["FN-S"]
    assert (found.assurance, found.answer_at) == ("self_declared", None)
    answered(project, "FN-P")
    audit(project, "FN-P=fulfilled")
    assert project.audits(catalog)["FN-P"].assurance == "document_reviewed"


@pytest.mark.parametrize(
    ("settings", "said", "told"),
    [
        (["FN-S"], {}, "--set: found 'FN-S', wanted ID=VERDICT or DIMENSION=RISK"),
        (["FN-X=partly"], {}, "--set: no requirement or dimension 'FN-X'; did you mean 'FN-S'?"),
        (["FN-P=fulfilled", "FN-S=good"], {}, "found 'good', wanted one of: fulfilled, partly, not fulfilled, not"),
        (["FN-P=fulfilled", "FN=good"], {}, "found 'good', wanted one of: negligible, acceptable, unacceptable"),
        (["FN-P=fulfilled", "FN-S=partly"], {}, "FN-S: what falls short is missing, give  --deviation TEXT"),
        (["FN-P=fulfilled"], {"because": ""}, "--set FN-P: the reason is missing, give  --because TEXT"),
        (["FN=acceptable"], {"because": " "}, "--set FN: the reason is missing, give  --because TEXT"),
        (["FN-S=partly"], {"deviation": "x", "objectives": ("z",)}, "FN-S: no objective 'z'; known: a, b, c"),
        (["FN-S=fulfilled"], {"assurance": "sure"}, "--assurance: found 'sure', wanted one of: self_declared,"),
        (["FN-S.reason=x"], {}, "--set: FN-S has no question 'reason'; known: probe"),
        (["FN-S.probe=x"], {}, "--set FN-S: its verdict is missing, give  --set FN-S=fulfilled"),
        (["FN-S.probe= "], {}, "found an empty reply, wanted some text"),
        (["FN.probe=x"], {}, "--set: no requirement or dimension 'FN'"),
        (["AT=acceptable"], {}, "found 'acceptable', wanted one of: fulfilled, "),
    ],
)
def test_what_is_refused_saves_nothing(make_folder: Make, settings: list[str], said: dict[str, Any], told: str) -> None:
    project = make_folder()
    assert refused(project, lambda: audit(project, *settings, **said)).startswith(told)


def test_a_rating_that_does_not_fit_saves_no_verdict_either(make_folder: Make) -> None:
    project = make_folder()
    audit(project, "FN-S=fulfilled")
    told = refused(project, lambda: audit(project, "FN-S.probe=x", "FN=acceptable", because=""))
    assert told == "--set FN: the reason is missing, give  --because TEXT"


def test_a_reply_of_the_auditor_leaves_the_verdict_as_it_was(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    answered(project, "FN-S")
    said = {"deviation": "gap", "assurance": "re_performed", "objectives": ("a",), "comment": "soon"}
    audit(project, "FN-S=partly", **said)
    before = project.audits(catalog)["FN-S"]
    answered(project, "FN-S", hour=12)
    audit(project, "FN-S.probe=I looked", because="")
    after = project.audits(catalog)["FN-S"]
    assert after.model_dump(exclude={"at", "replies"}) == before.model_dump(exclude={"at", "replies"})
    assert after.replies == {"probe": "I looked"}


def test_another_verdict_starts_anew(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    audit(project, "FN-S=partly", "FN-S.probe=I looked", deviation="gap", assurance="re_performed", objectives=("a",))
    told = refused(project, lambda: audit(project, "FN-S=fulfilled", because=""))
    assert told == "--set FN-S: the reason is missing, give  --because TEXT"
    audit(project, "FN-S=fulfilled", because="closed")
    found = project.audits(catalog)["FN-S"]
    assert (found.because, found.deviation, found.objectives, found.assurance) == ("closed", "", (), "self_declared")
    assert found.replies == {"probe": "I looked"}


def test_a_terminal_saves_the_same(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    answered(project, "FN-S")
    found, requirement = Assessment.read(project), catalog.by_id["FN-S"]
    save(project, found, requirement, Verdict.FULFILLED, Judgement("seen", replies={"probe": "yes"}), by="Bob")
    assert project.audits(catalog)["FN-S"].answer_at == answer().at
    judged = Judgement("seen", replies={"probe": ("a", "b")})
    told = refused(project, lambda: save(project, found, requirement, Verdict.FULFILLED, judged, by="Bob"))
    assert told == "FN-S.probe: found '('a', 'b')', wanted some text"


def test_what_was_seen_is_what_was_judged(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    answered(project, "FN-S")
    found = Assessment.read(project)
    answered(project, "FN-S", hour=12)  # while the auditor was thinking
    save(project, found, catalog.by_id["FN-S"], Verdict.FULFILLED, Judgement("seen"), by="Bob")
    assert [item.id for item in due(Assessment.read(project), "FN")][-1] == "FN-S"


# --- what is due -----------------------------------------------------------------------------------------------------


def test_due_is_what_is_not_judged_or_was_answered_anew(make_folder: Make) -> None:
    project = make_folder(protection_needs={"safety": LOW})

    def waiting(which: str | None = None) -> list[str]:
        return [item.id for item in due(Assessment.read(project), which)]

    assert "FN-S" in waiting()
    assert waiting("S") == ["S-P"]
    answered(project, "FN-S")
    audit(project, "FN-S=fulfilled")
    assert "FN-S" not in waiting("FN")
    assert waiting("FN-S") == ["FN-S"]
    answered(project, "FN-S", hour=12)
    assert "FN-S" in waiting("FN")
    audit(project, "FN-S=fulfilled")
    assert "FN-S" not in waiting("FN")


def test_contradictions_come_first(make_folder: Make, make_run: Make) -> None:
    project = make_folder()
    answered(project, "RE-R-SC-OA")
    project.save_run(make_run(status="fail", requirements=("RE-R-SC-OA",)))
    assert due(Assessment.read(project))[0].id == "RE-R-SC-OA"


def test_a_dimension_is_rated_when_all_of_it_is_judged(make_folder: Make) -> None:
    project = make_folder(protection_needs={"safety": LOW})

    def waiting() -> list[str]:
        return [head.id for head in to_rate(Assessment.read(project))]

    assert waiting() == []
    concerned = [item.id for item in Assessment.read(project).scope.applicable() if item.dimension == "FN"]
    audit(project, *(f"{name}=fulfilled" for name in concerned))
    assert waiting() == ["FN"]
    assert to_rate(Assessment.read(project), "AC") == ()
    rate(project, "FN", ResidualRisk.NEGLIGIBLE, because="x", by="Bob")
    assert waiting() == []


# --- ratings ---------------------------------------------------------------------------------------------------------


def test_a_rating_is_told_against_its_ceiling(make_folder: Make) -> None:
    project = make_folder(protection_needs={"fairness": MEDIUM})
    told = rate(project, "FN", ResidualRisk.NEGLIGIBLE, because="looks fine", by="Bob")
    assert told.startswith("FN negligible  (stated better than the nothing that the findings allow: ")
    assert rate(project, "FN", ResidualRisk.UNACCEPTABLE, because="x", by="Bob") == "FN unacceptable"
    assert project.audit_summary().dimensions["FN"].residual_risk == "unacceptable"


def test_a_high_need_wants_a_second_person(make_folder: Make) -> None:
    project = make_folder(protection_needs={"fairness": HIGH})
    told = rate(project, "FN", ResidualRisk.UNACCEPTABLE, because="x", by="Bob")
    assert told.endswith("(the need is high: a second person agrees with  assessor audit --second FN --by NAME)")
    for name in ("Bob", " bob ", "BOB"):
        told = refused(project, lambda name=name: agree(project, "FN", by=name))
        assert told == f"second.by: found '{name.strip()}' twice, wanted two people"
    assert "at least 1 character" in refused(project, lambda: agree(project, "FN", by=" "))
    told = refused(project, lambda: agree(project, "AC", by="Cy"))
    assert told == "--second: no rating of 'AC'; rated: FN"
    assert agree(project, "FN", by="Cy") == "FN unacceptable: Bob, Cy"
    assert project.audit_summary().dimensions["FN"].second.by == "Cy"
    assert not Assessment.read(project).states[1].second_wanted
    rate(project, "FN", ResidualRisk.ACCEPTABLE, because="y", by="Cy")
    assert project.audit_summary().dimensions["FN"].second is None  # another rating, another agreement


def test_a_rating_needs_its_reason(make_folder: Make) -> None:
    project = make_folder()
    told = refused(project, lambda: rate(project, "FN", ResidualRisk.ACCEPTABLE, because=" ", by="Bob"))
    assert told == "--set FN: the reason is missing, give  --because TEXT"
    told = refused(project, lambda: rate(project, "FN", ResidualRisk.ACCEPTABLE, because="x", by=""))
    assert told == "by: String should have at least 1 character"


# --- trade-offs and conclusion ---------------------------------------------------------------------------------------


def test_a_trade_off_names_who_gives_and_who_answers(make_folder: Make) -> None:
    project = make_folder()
    said = {"what": "accuracy", "because": "cannot be avoided", "by": "Cy"}
    assert accept(project, "T1=RE, FN", **said) == "T1: RE < FN, Cy"
    assert accept(project, " T2 =AC,FN,DP", **said) == "T2: AC < FN < DP, Cy"
    found = project.audit_summary().trade_offs
    assert {name: item.between for name, item in found.items()} == {"T1": ("RE", "FN"), "T2": ("AC", "FN", "DP")}
    states = {state.id: state for state in Assessment.read(project).states}
    assert list(states["RE"].trade_offs) == ["T1"]
    assert list(states["FN"].trade_offs) == []


@pytest.mark.parametrize(
    ("text", "said", "told"),
    [
        ("T1", {}, "--trade-off: found 'T1', wanted NAME=GIVES,GAINS such as T1=RE,FN"),
        ("T1=RE", {}, "--trade-off: found 'T1=RE', wanted NAME=GIVES,GAINS such as T1=RE,FN"),
        ("=RE,FN", {}, "--trade-off: found '=RE,FN', wanted NAME=GIVES,GAINS such as T1=RE,FN"),
        ("T 1=RE,FN", {}, "--trade-off: found 'T 1=RE,FN', wanted NAME=GIVES,GAINS such as T1=RE,FN"),
        ("T1=RE,RE", {}, "--trade-off: found 'T1=RE,RE', wanted NAME=GIVES,GAINS such as T1=RE,FN"),
        ("T1=RE,XX", {}, "--trade-off: no dimension 'XX'; known: FN, AC, TR, RE, S, DP"),
        ("T1=RE,AT", {}, "--trade-off: no dimension 'AT'; known: FN, AC, TR, RE, S, DP"),
        ("T1=RE,FN", {"what": ""}, "--trade-off: give  --what TEXT  and  --because TEXT"),
        ("T1=RE,FN", {"because": ""}, "--trade-off: give  --what TEXT  and  --because TEXT"),
        ("T1=RE,FN", {"by": ""}, "accepted_by: String should have at least 1 character"),
    ],
)
def test_trade_offs_that_are_none(make_folder: Make, text: str, said: dict[str, str], told: str) -> None:
    project = make_folder()
    given = {"what": "accuracy", "because": "cannot be avoided", "by": "Cy", **said}
    assert refused(project, lambda: accept(project, text, **given)) == told


def test_the_conclusion_is_told_against_the_findings(make_folder: Make) -> None:
    project = make_folder()
    told = conclude(project, "yes", because="all is well", conditions="", by="Bob")
    assert told.startswith("trustworthy: yes  (stated better than the findings allow: ")
    assert Assessment.read(project).overall.stated == "yes"
    assert conclude(project, "no", because="open gaps", conditions="", by="Bob") == "trustworthy: no"
    statement = project.audit_summary().conclusion
    assert statement is not None
    assert (statement.trustworthy, statement.because, statement.by) == ("no", "open gaps", "Bob")


@pytest.mark.parametrize(
    ("word", "because", "conditions", "told"),
    [
        ("perhaps", "x", "", "found 'perhaps', wanted one of: yes, with conditions, no"),
        ("no", "", "", "--conclude: the reason is missing, give  --because TEXT"),
        ("with", "x", "", "--conclude: the conditions are missing, give  --conditions TEXT"),
    ],
)
def test_conclusions_that_are_none(make_folder: Make, word: str, because: str, conditions: str, told: str) -> None:
    project = make_folder()
    call = lambda: conclude(project, word, because=because, conditions=conditions, by="Bob")  # noqa: E731
    assert refused(project, call) == told


def test_a_whole_audit_ends_in_yes(make_folder: Make) -> None:
    """Small needs all around but for reliability, which is never skipped: everything fulfilled, judged and rated."""
    needs = {**dict.fromkeys((*OTHERS, "fairness"), LOW), "reliability": MEDIUM}
    project = make_folder(protection_needs=needs)
    concerned = [item.id for item in Assessment.read(project).scope.applicable()]
    audit(project, *(f"{name}=fulfilled" for name in concerned))
    assert rate(project, "RE", ResidualRisk.NEGLIGIBLE, because="x", by="Bob") == "RE negligible"
    assert conclude(project, "yes", because="x", conditions="", by="Bob") == "trustworthy: yes"
    found = Assessment.read(project)
    assert (found.overall.allowed, found.overall.fault) == ("yes", "")
    name = next(item for item in concerned if "-CR-" in item)
    auditing.save_settings(project, [f"{name}=partly"], Judgement("x", deviation="a gap"), by="Bob")
    found = Assessment.read(project)
    assert (found.overall.allowed, found.overall.fault) == (None, "stated better than the findings allow")


def test_two_auditors_lose_nothing(make_folder: Make) -> None:
    project, other = make_folder(), None
    other = Project(project.folder)
    rate(project, "FN", ResidualRisk.ACCEPTABLE, because="x", by="Bob")
    rate(other, "AC", ResidualRisk.ACCEPTABLE, because="x", by="Cy")
    accept(project, "T1=RE,FN", what="x", because="y", by="Bob")
    assert set(project.audit_summary().dimensions) == {"FN", "AC"}
    actors = [line for line in project.ledger_bytes().decode().splitlines() if "rate " in line]
    assert len(actors) == 2
