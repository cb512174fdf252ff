"""What is asked next, what is known of it already, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.applicability import Scope
from assessor.errors import UsageError
from assessor.model import Answer, Aspect, Catalog, Known, Param, Question, QuestionType
from assessor.questionnaire import (
    SECONDS,
    SECONDS_DRAFT,
    SECONDS_PARAM,
    drafts,
    due,
    effort,
    most_unblocking,
    offered_evidence,
    param_is_set,
    select,
    split_setting,
)

Make = Callable[..., Any]
LOW = {"safety": {"level": "low", "because": "nothing moves"}}
TARGET = {"trial.share": {"interval": [0, 1], "because": "x"}}


def answer(**fields: Any) -> Answer:
    return Answer.model_validate({"value": "partly", "because": "x", "by": "y", "at": "2026-11-21T10:00:00Z", **fields})


@pytest.fixture
def scope(catalog: Catalog, configure: Make) -> Callable[..., Scope]:
    """Makes a scope over the whole catalog; keywords are keys of assessor.yaml."""
    return lambda answers=None, **changes: Scope(catalog, configure(**changes), answers or {})


@pytest.fixture
def tiny_scope(tiny_catalog: Catalog, configure: Make) -> Callable[..., Scope]:
    """Makes a scope over the tiny catalog."""
    return lambda answers=None, **changes: Scope(tiny_catalog, configure(**changes), answers or {})


def ids(found: tuple[Any, ...]) -> list[str]:
    return [item.id for item in found]


# --- what is due -----------------------------------------------------------------------------------------------------


def test_what_decides_comes_first_and_what_looks_back_last(scope: Make, catalog: Catalog) -> None:
    found = due(scope())
    assert sorted(ids(found)) == sorted(ids(catalog.requirements))
    aspects = [item.aspect for item in found]
    assert aspects[:11] == [Aspect.PROFILE] * 5 + [Aspect.PROTECTION] * 6
    assert aspects[-7:] == [Aspect.SUMMARY] * 6 + [Aspect.JUDGEMENT]
    ends = {Aspect.PROFILE, Aspect.PROTECTION, Aspect.SUMMARY, Aspect.JUDGEMENT}
    assert list(found[11:-7]) == [item for item in catalog.requirements if item.aspect not in ends]


def test_what_is_answered_is_not_due(scope: Make) -> None:
    found = ids(due(scope({"FN-P": answer(), "FN-S": answer()})))
    assert len(found) == 238
    assert not {"FN-P", "FN-S"} & set(found)


def test_a_dimension_of_low_need_is_left_out_but_for_its_need(scope: Make) -> None:
    assert ids(due(scope(protection_needs=LOW), "S")) == ["S-P"]
    assert len(due(scope(protection_needs=LOW))) == 240 - 49


def test_what_does_not_concern_the_system_is_not_due(tiny_scope: Make) -> None:
    found = tiny_scope({"PF-T-FA-01": answer(replies={"learns": "never", "uses": ("none",)})})
    assert "FN-R-FN-CR-02" not in ids(due(found))
    assert "FN-R-FN-ME-02" in ids(due(found))


def test_a_named_requirement_is_asked_again(scope: Make) -> None:
    assert ids(due(scope({"S-S": answer()}, protection_needs=LOW), "S-S")) == ["S-S"]
    assert ids(due(scope(), "PF-T-FA-*")) == ["PF-T-FA-a"]


def test_areas_and_dimensions_are_selected(catalog: Catalog) -> None:
    assert len(select(catalog, "FN-R-FN")) == 13
    assert len(select(catalog, "FN")) == 23
    assert select(catalog, None) == catalog.requirements


@pytest.mark.parametrize(("name", "hint"), [("FN-R-FM", "; did you mean 'FN-R-FN'?"), ("nothing like it", "")])
def test_an_unknown_name(scope: Make, name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        due(scope(), name)
    assert str(caught.value) == f"no requirement, area or dimension '{name}'{hint}"


def test_what_most_wait_for_comes_first(tiny_scope: Make) -> None:
    found = ids(most_unblocking(tiny_scope()))
    # the profile decides CR-02 and ME-02, the need ME-02; CR-01 is what ME-01 refers to
    assert found == [
        "PF-T-FA-01",
        "FN-P",
        "FN-R-FN-CR-01",
        "FN-R-FN-RI-01",
        "FN-R-FN-CR-02",
        "FN-R-FN-ME-01",
        "FN-R-FN-ME-02",
        "FN-R-FN-OA",
        "FN-S",
        "AT",
    ]
    assert ids(most_unblocking(tiny_scope(), "FN-R-FN"))[0] == "FN-R-FN-CR-01"


@given(st.sets(st.integers(0, 239)))
@settings(max_examples=10, deadline=None)
def test_both_orders_ask_the_same(catalog: Catalog, configure: Make, answered: set[int]) -> None:
    found = Scope(catalog, configure(), {catalog.requirements[index].id: answer() for index in answered})
    waiting = due(found)
    assert sorted(ids(most_unblocking(found))) == sorted(ids(waiting))
    assert len(waiting) == len(found.applicable()) - sum(
        catalog.requirements[index] in found.applicable() for index in answered
    )


# --- what is known already -------------------------------------------------------------------------------------------


def a_question(kind: str = "text", **fields: Any) -> Question:
    return Question(id="q", type=QuestionType(kind), text="What?", **fields)


def test_a_reply_to_an_earlier_question_is_a_draft_where_it_fits(tiny_scope: Make) -> None:
    found = tiny_scope({"FN-S": answer(replies={"residual_risk": "acceptable", "reason": "small"})})
    source = {"prefill": ("answer:FN-S.residual_risk",)}
    risks = ("negligible", "acceptable", "unacceptable")
    same, other = a_question("choice", options=risks, **source), a_question("choice", options=("yes", "no"), **source)
    assert list(drafts(same, found, {}, {})) == [("acceptable", "said in FN-S")]
    assert list(drafts(other, found, {}, {})) == []
    assert list(drafts(same, tiny_scope(), {}, {})) == []
    assert list(drafts(a_question(prefill=("answer:FN-S.reason",)), found, {}, {})) == [("small", "said in FN-S")]


def test_a_result_is_a_draft_in_two_sentences(tiny_scope: Make, make_run: Make) -> None:
    run = make_run(sentence="share 0.5 lies inside the target")
    asked = a_question(prefill=("result:trial.other", "result:trial.share"))
    assert list(drafts(asked, tiny_scope(), {"trial.share": run}, {})) == [
        ("share 0.5 lies inside the target. share 0.5 [0.4, 0.6]", "measured by trial.share")
    ]


def test_the_best_source_comes_first(tiny_scope: Make) -> None:
    found = tiny_scope({"FN-S": answer(replies={"reason": "said"})})
    known = {"purpose": (Known(value="found", origin="README.md"),)}
    asked = a_question(prefill=("known:purpose", "answer:FN-S.reason"))
    assert [draft.value for draft in drafts(asked, found, {}, known)] == ["found", "said"]


def test_evidence_is_offered_where_its_document_is_expected(tiny_scope: Make) -> None:
    report = {"name": "a.pdf", "sha256": "a" * 64, "document": "report"}
    other = {"name": "b.pdf", "sha256": "b" * 64}
    found = tiny_scope({"FN-S": answer(evidence=[report, other]), "AT": answer(evidence=[report])})
    requirement = found.catalog.by_id["FN-P"]
    assert [(offer.evidence.name, offer.given_for) for offer in offered_evidence(requirement, found)] == [
        ("a.pdf", "FN-S")
    ]
    mine = offered_evidence(found.catalog.by_id["FN-S"], found)
    assert [offer.given_for for offer in mine] == ["AT"]


# --- how long it takes -----------------------------------------------------------------------------------------------


def test_effort_is_a_sum_over_requirements(scope: Make, catalog: Catalog) -> None:
    found = scope()
    parts = [effort([item], found, {}, {}) for item in catalog.by_area["FN-R-CD"]]
    whole = effort(catalog.by_area["FN-R-CD"], found, {}, {})
    for name in ("requirements", "questions", "drafted", "seconds"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    assert effort(catalog.by_area["FN-R-CD"], found, {}, {}, pace=2).seconds == 2 * whole.seconds
    assert effort([], found, {}, {}).seconds == 0


def test_effort_of_questions_and_targets(tiny_scope: Make) -> None:
    found = tiny_scope()
    need = effort([found.catalog.by_id["FN-P"]], found, {}, {})
    assert (need.questions, need.seconds) == (4, 4 * SECONDS[QuestionType.CHOICE])
    criterion = [found.catalog.by_id["FN-R-FN-CR-01"]]
    open_, set_ = (effort(criterion, one, {}, {}) for one in (found, tiny_scope(targets=TARGET)))
    assert (open_.questions, open_.seconds - set_.seconds) == (2, SECONDS_PARAM)


def test_what_is_drafted_takes_less_time(tiny_scope: Make) -> None:
    summary = [tiny_scope().catalog.by_id["FN-S"]]
    said = tiny_scope({"FN-R-FN-OA": answer(replies={"q1": "small"})})
    without, with_ = effort(summary, tiny_scope(), {}, {}), effort(summary, said, {}, {})
    assert (without.drafted, with_.drafted) == (0, 1)
    assert without.seconds - with_.seconds == SECONDS[QuestionType.TEXT] - SECONDS_DRAFT


def test_what_is_not_put_takes_no_time(tiny_scope: Make) -> None:
    learns, never = ({"PF-T-FA-01": answer(replies={"learns": word})} for word in ("at times", "never"))
    asked = [
        effort([found.catalog.by_id["PF-T-FA-01"]], found, {}, {}).questions
        for found in (tiny_scope(learns), tiny_scope(never))
    ]
    assert asked == [3, 2]


def test_every_form_of_question_has_its_time() -> None:
    assert set(SECONDS) == set(QuestionType)


def test_a_target_in_the_configuration_is_set(tiny_scope: Make) -> None:
    found = tiny_scope()
    bound, free = found.catalog.by_id["FN-R-FN-CR-01"].params[0], found.catalog.by_id["FN-R-FN-CR-02"].params[0]
    assert not param_is_set(bound, found)
    assert param_is_set(bound, tiny_scope(targets=TARGET))
    assert not param_is_set(free, tiny_scope(targets=TARGET))


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_split(catalog: Catalog) -> None:
    requirement, question, value = split_setting("FN-S.residual_risk=a=b", catalog)
    assert isinstance(question, Question)
    assert (requirement.id, question.id, value) == ("FN-S", "residual_risk", "a=b")
    _, param, _ = split_setting("FN-R-CD-CR-01.days=30", catalog)
    assert isinstance(param, Param)
    assert param.id == "days"
    assert split_setting("PF-T-FA-*=partly", catalog) == (catalog.by_id["PF-T-FA-a"], None, "partly")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("FN-S", "--set: found 'FN-S', wanted ID=VALUE or ID.QUESTION=TEXT"),
        ("FN-X=partly", "--set: no requirement 'FN-X'; did you mean 'FN-S'?"),
        ("FN-S.risk=x", "--set: FN-S has no question 'risk'; known: residual_risk, reason, side_effects"),
        ("FN-S.probe=x", "--set: FN-S has no question 'probe'; known: residual_risk, reason, side_effects"),
    ],
)
def test_settings_that_are_none(catalog: Catalog, setting: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_setting(setting, catalog)
    assert str(caught.value) == told
