"""What concerns a system: low needs skip, conditions decide, and what is not known yet is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.applicability import Applicability, Scope
from assessor.model import Answer, Aspect, Catalog, Configuration, Role, State

Make = Callable[..., Any]
PROFILE = "PF-T-FA-01"
NEEDS = ("fairness", "autonomy", "transparency", "reliability", "safety", "data_protection")


def answer(value: str = "fulfilled", **fields: Any) -> Answer:
    return Answer.model_validate({"value": value, "because": "x", "by": "Ada", "at": "2026-11-21T10:00:00Z", **fields})


def need(level: str) -> dict[str, str]:
    return {"level": level, "because": "it is so"}


@pytest.fixture
def scope(tiny_catalog: Catalog, configure: Make) -> Callable[..., Scope]:
    """Makes a scope over the tiny catalog: replies to the profile, need of fairness, answers by id."""

    def make(level: str | None = None, answers: dict[str, Answer] | None = None, **replies: Any) -> Scope:
        needs = {"protection_needs": {"fairness": need(level)}} if level else {}
        given_ = {PROFILE: answer(replies=replies)} if replies else {}
        return Scope(tiny_catalog, configure(**needs), {**given_, **(answers or {})})

    return make


def asked(found: Scope) -> set[str]:
    return {item.id for item in found.applicable()}


def of(found: Scope, name: str) -> Applicability:
    return found.of(found.catalog.by_id[name])


def test_what_is_not_known_is_asked(scope: Callable[..., Scope], tiny_catalog: Catalog) -> None:
    found = scope()
    assert asked(found) == {item.id for item in tiny_catalog.requirements}
    assert of(found, "FN-R-FN-CR-02") == Applicability(applies=True, because="learns: not known yet", known=False)
    assert of(found, "FN-R-FN-CR-01") == Applicability(applies=True)
    assert of(found, "FN-R-FN-ME-02").because == "protection need FN: not known yet; uses: not known yet"


def test_conditions_say_what_decided_them(scope: Callable[..., Scope]) -> None:
    found = scope("medium", learns="never", uses=("text", "image"))
    assert of(found, "FN-R-FN-CR-02") == Applicability(applies=False, because="learns: never")
    assert of(found, "FN-R-FN-ME-02") == Applicability(applies=True, because="uses: text, image")
    high = scope("high", uses=("none",))
    assert of(high, "FN-R-FN-ME-02") == Applicability(applies=True, because="protection need FN: high")
    medium = scope("medium", uses=("none",))
    assert of(medium, "FN-R-FN-ME-02") == Applicability(applies=False, because="protection need FN: medium; uses: none")


def test_a_low_need_skips_all_but_its_own_analysis(scope: Callable[..., Scope]) -> None:
    found = scope("low", learns="at times")
    assert asked(found) == {PROFILE, "FN-P", "AT"}
    assert of(found, "FN-R-FN-CR-02") == Applicability(applies=False, because="the protection need is low: it is so")


def test_what_is_withdrawn_is_never_asked(scope: Callable[..., Scope]) -> None:
    found = scope("high")
    old = found.catalog.by_id["FN-R-FN-OA"].model_copy(update={"state": State.WITHDRAWN})
    assert found.of(old) == Applicability(applies=False, because="withdrawn from the catalog")


def test_questions_by_role_and_condition(scope: Callable[..., Scope], tiny_catalog: Catalog) -> None:
    profile = tiny_catalog.by_id[PROFILE]

    def names(found: Scope, role: Role = Role.DEVELOPER) -> list[str]:
        return [question.id for question in found.questions(profile, role)]

    assert names(scope()) == names(scope(learns="at times")) == ["learns", "uses", "when"]
    assert names(scope(learns="never")) == ["learns", "uses"]
    assert names(scope(), Role.AUDITOR) == ["probe"]


def test_a_draft_counts_over_the_answer(scope: Callable[..., Scope]) -> None:
    saved = scope(learns="never")
    drafted = Scope(saved.catalog, saved.configuration, saved.answers, {PROFILE: {"learns": "at times"}})
    assert of(saved, "FN-R-FN-CR-02").applies is False
    assert of(drafted, "FN-R-FN-CR-02").applies is True
    assert drafted.facts == {"learning": "at times"}


def test_replies_of_a_same_answer_only_to_questions_of_the_same_form(scope: Callable[..., Scope]) -> None:
    other = answer(replies={"q1": "said there"})
    found = scope(answers={"FN-R-FN-OA": other, "FN-R-FN-CR-01": answer(same_as="FN-R-FN-OA")})
    assert found.replies("FN-R-FN-CR-01") == {"q1": "said there"}
    own = scope(answers={"FN-R-FN-OA": other, "AT": answer(same_as="FN-R-FN-OA", replies={"q1": "own"})})
    assert own.replies("AT") == {"q1": "own"}
    text = answer(replies={"reason": "why", "residual_risk": "acceptable"})
    assert scope(answers={"FN-S": text, "AT": answer(same_as="FN-S")}).replies("AT") == {}
    assert scope(answers={"AT": answer(same_as="FN-S")}).replies("AT") == {}


def test_conditions_on_replies_and_answers(tiny_catalog: Catalog, configure: Make) -> None:
    base = tiny_catalog.by_id["FN-R-FN-OA"]
    replied = base.model_copy(update={"applicability": "reply('FN-S.residual_risk') == 'acceptable'"})
    waits = base.model_copy(update={"applicability": "answered('FN-S')"})
    empty = Scope(tiny_catalog, configure(), {})
    said = Scope(tiny_catalog, configure(), {"FN-S": answer(replies={"residual_risk": "acceptable"})})
    assert empty.of(replied) == Applicability(applies=True, because="FN-S.residual_risk: not known yet", known=False)
    assert said.of(replied) == Applicability(applies=True, because="FN-S.residual_risk: acceptable")
    assert empty.of(waits) == Applicability(applies=False, because="FN-S: not answered")
    assert said.of(waits) == Applicability(applies=True, because="FN-S: answered")


def test_an_alias_names_the_same_requirement(tiny_catalog: Catalog, configure: Make) -> None:
    items = [
        item.model_copy(update={"aliases": ("FN-S-old",)}) if item.id == "FN-S" else item
        for item in tiny_catalog.requirements
    ]
    catalog = Catalog(head=tiny_catalog.head, requirements=tuple(items), sha256=tiny_catalog.sha256)
    waits = catalog.by_id["AT"].model_copy(
        update={"applicability": "answered('FN-S-old') and reply('FN-S-old.reason') == 'x'"}
    )
    answers = {"FN-S": answer(replies={"reason": "x"})}
    assert Scope(catalog, configure(), answers).of(waits).applies is True
    assert Scope(catalog, configure(), {}).of(waits).applies is False


@given(st.lists(st.sampled_from([None, "low", "medium", "high"]), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_pack_needs_what_the_highest_of_all_dimensions_needs(levels: list[str | None]) -> None:
    levels[3] = "medium" if levels[3] == "low" else levels[3]  # reliability
    needs = {name: need(level) for name, level in zip(NEEDS, levels, strict=True) if level}
    data = {"format": 1, "catalog": {"version": "1.0.0"}, "system": {"name": "a", "version": "1"}}
    found = Configuration.model_validate({**data, "protection_needs": needs}).protection_needs.of("X-TRY")
    if "high" in levels:
        assert found is not None
        assert found.level == "high"
    elif None in levels:
        assert found is None
    else:
        assert found is not None
        assert found.level == max(filter(None, levels), key=["low", "medium", "high"].index)


@given(
    st.fixed_dictionaries(
        {},
        optional={"learns": st.sampled_from(["never", "at times"]), "uses": st.sampled_from([("none",), ("image",)])},
    ),
    st.fixed_dictionaries(
        {},
        optional={"learns": st.sampled_from(["never", "at times"]), "uses": st.sampled_from([("none",), ("image",)])},
    ),
)
@settings(max_examples=40, deadline=None)
def test_more_replies_never_bring_back_what_was_left_out(
    tiny_catalog: Catalog, configure: Make, first: dict[str, Any], more: dict[str, Any]
) -> None:
    before = Scope(tiny_catalog, configure(), {PROFILE: answer(replies=first)})
    after = Scope(tiny_catalog, configure(), {PROFILE: answer(replies={**more, **first})})
    assert asked(after) <= asked(before)


def test_no_requirement_of_the_profile_or_a_need_is_ever_conditional(catalog: Catalog) -> None:
    for item in catalog.requirements:
        if item.aspect in {Aspect.PROFILE, Aspect.PROTECTION}:
            assert item.condition is None
