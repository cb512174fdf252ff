"""What is asked next, and which replies are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.model import Answer, Aspect, Catalog, Question, QuestionType, Verdict
from assessor.questionnaire import ANSWERS, checked_reply, checked_verdict, due, in_scope, select, split_setting

Make = Callable[..., Any]
LOW = {"safety": {"level": "low", "because": "nothing moves"}}
ANSWER = Answer.model_validate({"value": "partly", "because": "x", "by": "y", "at": "2026-11-21T10:00:00Z"})
YES_NO = Question(id="q", type=QuestionType.YES_NO, text="Is it?")
CHOICE = Question(id="q", type=QuestionType.CHOICE, text="Which?", options=("low", "medium", "long, and more"))
TEXT = Question(id="q", type=QuestionType.TEXT, text="What?")


def test_profile_and_protection_needs_come_first(catalog: Catalog, configure: Make) -> None:
    found = due(catalog, configure(), {})
    assert len(found) == 240
    assert [item.aspect for item in found[:11]] == [Aspect.PROFILE] * 5 + [Aspect.PROTECTION] * 6
    rest = [item for item in catalog.requirements if item.aspect not in {Aspect.PROFILE, Aspect.PROTECTION}]
    assert list(found[11:]) == rest


def test_what_is_answered_is_not_due(catalog: Catalog, configure: Make) -> None:
    found = due(catalog, configure(), {"FN-P": ANSWER, "FN-S": ANSWER})
    assert len(found) == 238
    assert not {"FN-P", "FN-S"} & {item.id for item in found}


def test_a_dimension_of_low_need_is_left_out_but_for_its_need(catalog: Catalog, configure: Make) -> None:
    configuration = configure(protection_needs=LOW)
    assert [item.id for item in due(catalog, configuration, {}, "S")] == ["S-P"]
    assert not in_scope(catalog.by_id["S-R-FS-OA"], configuration)
    assert in_scope(catalog.by_id["FN-S"], configuration)
    assert len(due(catalog, configuration, {})) == 240 - 49


def test_a_named_requirement_is_asked_again(catalog: Catalog, configure: Make) -> None:
    asked = due(catalog, configure(protection_needs=LOW), {"S-S": ANSWER}, "S-S")
    assert [item.id for item in asked] == ["S-S"]
    assert [item.id for item in due(catalog, configure(), {}, "PF-T-FA-*")] == ["PF-T-FA-a"]


def test_areas_and_dimensions_are_selected(catalog: Catalog) -> None:
    assert len(select(catalog, "FN-R-FN")) == 13
    assert len(select(catalog, "FN")) == 23
    assert select(catalog, None) == catalog.requirements


@pytest.mark.parametrize(("name", "hint"), [("FN-R-FM", "; did you mean 'FN-R-FN'?"), ("nothing like it", "")])
def test_an_unknown_name(catalog: Catalog, configure: Make, name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        due(catalog, configure(), {}, name)
    assert str(caught.value) == f"no requirement, area or dimension '{name}'{hint}"


@pytest.mark.parametrize(
    ("question", "reply", "kept"),
    [
        (TEXT, "  some text \n", "some text"),
        (YES_NO, "yes", "yes"),
        (YES_NO, "N", "no"),
        (YES_NO, "1", "yes"),
        (CHOICE, "2", "medium"),
        (CHOICE, "MED", "medium"),
        (CHOICE, "long, and more", "long, and more"),
        (CHOICE, "lo", None),
        (CHOICE, "4", None),
        (CHOICE, "0", None),
        (CHOICE, "²", None),
        (CHOICE, "high", None),
        (YES_NO, "perhaps", None),
        (TEXT, "  ", None),
        (YES_NO, "", None),
    ],
)
def test_replies(question: Question, reply: str, kept: str | None) -> None:
    if kept is not None:
        assert checked_reply(question, reply) == kept
        return
    with pytest.raises(UsageError) as caught:
        checked_reply(question, reply)
    wanted = f"one of: {', '.join(question.choices)}" if reply.strip() else "some text"
    found = f"'{reply}'" if reply.strip() else "an empty reply"
    assert str(caught.value) == f"found {found}, wanted {wanted}"


def test_every_choice_of_the_catalog_stands_for_itself(catalog: Catalog) -> None:
    for item in catalog.requirements:
        for question in item.questions:
            assert [checked_reply(question, choice) for choice in question.choices] == list(question.choices)
            numbers = map(str, range(1, len(question.choices) + 1))
            assert [checked_reply(question, number) for number in numbers] == list(question.choices)


@given(st.sampled_from([YES_NO, CHOICE, TEXT]), st.text(max_size=5))
def test_a_reply_is_one_of_the_choices_or_refused(question: Question, reply: str) -> None:
    try:
        kept = checked_reply(question, reply)
    except UsageError:
        return
    assert kept in question.choices if question.choices else kept == reply.strip() != ""


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("fulfilled", Verdict.FULFILLED),
        (" Not applicable ", Verdict.NOT_APPLICABLE),
        ("not_f", Verdict.NOT_FULFILLED),
        ("p", Verdict.PARTLY),
        ("3", Verdict.NOT_FULFILLED),
        *[(str(verdict), verdict) for verdict in ANSWERS],
    ],
)
def test_verdicts(reply: str, verdict: Verdict) -> None:
    assert checked_verdict(reply) is verdict


@pytest.mark.parametrize("reply", ["", "not", "5", "³", "not_assessed", "good"])
def test_no_verdict(reply: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_verdict(reply)
    assert str(caught.value) == f"found '{reply}', wanted one of: fulfilled, partly, not_fulfilled, not_applicable"


def test_settings_are_split(catalog: Catalog) -> None:
    requirement, question, value = split_setting("FN-S.residual_risk=a=b", catalog)
    assert (requirement.id, question and question.id, value) == ("FN-S", "residual_risk", "a=b")
    assert split_setting("PF-T-FA-*=partly", catalog) == (catalog.by_id["PF-T-FA-a"], None, "partly")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("FN-S", "--set: found 'FN-S', wanted ID=VALUE or ID.QUESTION=TEXT"),
        ("FN-X=partly", "--set: no requirement 'FN-X'; did you mean 'FN-S'?"),
        ("FN-S.risk=x", "--set: FN-S has no question 'risk'; known: residual_risk, reason, side_effects"),
    ],
)
def test_settings_that_are_none(catalog: Catalog, setting: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_setting(setting, catalog)
    assert str(caught.value) == told
