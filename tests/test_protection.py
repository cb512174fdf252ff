"""Protection needs: every combination of replies against the rule, written down a second time as a table."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from assessor.model import Answer, Catalog, Level
from assessor.protection import SCENARIOS, data_protection_level, decided, level_of

LEVELS = ("low", "medium", "high")
FIVE = ("FN", "AC", "TR", "RE", "S")

PERSONAL = ("none", "not sensitive", "sensitive")
DISCLOSURE = (None, "negligible", "limited", "serious")
LICENSED = (None, "negligible", "breach of contract")
BUSINESS = (None, "negligible", "medium damage", "severe damage")


@pytest.mark.parametrize("dimension", FIVE)
def test_the_highest_scenario_decides(dimension: str) -> None:
    for damages in product(LEVELS, repeat=4):
        found = level_of(dimension, dict(zip(SCENARIOS, damages, strict=True)), {})
        assert found is not None
        level, why = found
        wanted = "high" if "high" in damages else "medium" if "medium" in damages else "low"
        if dimension == "RE" and wanted == "low":
            assert (level, why) == (Level.MEDIUM, "reliability is never below medium")
        else:
            names = [name for name, damage in zip(SCENARIOS, damages, strict=True) if damage == wanted]
            assert (level, why) == (wanted, f"highest damage: {', '.join(names)}")


@pytest.mark.parametrize("missing", SCENARIOS)
def test_nothing_is_decided_while_a_scenario_is_missing(missing: str) -> None:
    assert level_of("FN", {name: "high" for name in SCENARIOS if name != missing}, {}) is None


def rule(personal: str, licensed: str, business: str, said: dict[str, str | None]) -> str | None:
    """The catalog's rule for data protection, by what can be lost: worst first."""
    losses = {
        ("none", None): "low",
        **{("not sensitive", reply): "high" if reply == "serious" else "medium" for reply in DISCLOSURE[1:]},
        **{("sensitive", reply): "high" for reply in DISCLOSURE[1:]},
    }
    licences = {("no", None): "low", ("yes", "negligible"): "medium", ("yes", "breach of contract"): "high"}
    secrets = {
        ("no", None): "low",
        ("yes", "negligible"): "low",
        ("yes", "medium damage"): "medium",
        ("yes", "severe damage"): "high",
    }
    found = [
        losses.get((personal, said["disclosure"] if personal != "none" else None)),
        licences.get((licensed, said["licensed"] if licensed == "yes" else None)),
        secrets.get((business, said["business"] if business == "yes" else None)),
    ]
    return None if None in found else max(map(str, found), key=LEVELS.index)


def test_data_protection_by_every_combination() -> None:
    seen = []
    for personal, licensed, business in product(PERSONAL, ("no", "yes"), ("no", "yes")):
        facts = {"personal_data": personal, "licensed_data": licensed, "confidential_data": business}
        for replies in product(DISCLOSURE, LICENSED, BUSINESS):
            said = dict(zip(("disclosure", "licensed", "business"), replies, strict=True))
            given = {name: reply for name, reply in said.items() if reply is not None}
            found = data_protection_level(given, facts)
            assert (found[0].value if found else None) == rule(personal, licensed, business, said), (facts, said)
            assert level_of("DP", given, facts) == found
            assert found is None or found[1]
            seen.append(found and found[0])
    assert {None, Level.LOW, Level.MEDIUM, Level.HIGH} == set(seen)


@pytest.mark.parametrize("missing", ["personal_data", "licensed_data", "confidential_data"])
def test_nothing_is_decided_without_the_profile(missing: str) -> None:
    facts = {"personal_data": "sensitive", "licensed_data": "no", "confidential_data": "no"}
    replies = {"disclosure": "serious"}
    assert data_protection_level(replies, facts) is not None
    assert data_protection_level(replies, {name: fact for name, fact in facts.items() if name != missing}) is None


@pytest.mark.parametrize(
    ("facts", "replies", "told"),
    [
        (("sensitive", "no", "no"), {"disclosure": "serious"}, "sensitive personal data, serious consequence of"),
        (("not sensitive", "yes", "no"), {"disclosure": "limited", "licensed": "negligible"}, "personal data, "),
        (("none", "no", "yes"), {"business": "medium damage"}, "business data of medium damage"),
        (("none", "no", "yes"), {"business": "severe damage"}, "disclosure severely harms the organisation"),
        (("none", "yes", "no"), {"licensed": "breach of contract"}, "disclosure breaches a contract"),
        (("none", "no", "no"), {}, "no personal or licensed data, and disclosure does negligible harm"),
        (("none", "no", "no"), {"disclosure": "serious", "business": "severe damage"}, "no personal or licensed"),
    ],
)  # fmt: skip
def test_what_decided_is_told(facts: tuple[str, str, str], replies: dict[str, Any], told: str) -> None:
    found = data_protection_level(
        replies, dict(zip(("personal_data", "licensed_data", "confidential_data"), facts, strict=True))
    )
    assert found is not None
    assert found[1].startswith(told)


def test_the_catalog_asks_what_the_rule_needs(catalog: Catalog) -> None:
    for code in FIVE:
        requirement = catalog.by_id[f"{code}-P"]
        for name in SCENARIOS:
            question = requirement.question(name)
            assert question is not None
            assert question.options == LEVELS
    for name, fact, options in (
        ("disclosure", "personal_data", DISCLOSURE),
        ("licensed", "licensed_data", LICENSED),
        ("business", "confidential_data", BUSINESS),
    ):
        question = catalog.by_id["DP-P"].question(name)
        assert question is not None
        assert question.options == options[1:]
        assert question.show_if in {f"profile.{fact} != 'none'", f"profile.{fact} == 'yes'"}
        assert set(catalog.facts[fact].choices) in (set(PERSONAL), {"yes", "no"})


def test_levels_of_all_answered_analyses() -> None:
    answer = Answer.model_validate(
        {
            "value": "fulfilled",
            "because": "x",
            "by": "Ada",
            "at": "2026-11-21T10:00:00Z",
            "replies": dict.fromkeys(SCENARIOS, "low"),
        }
    )
    found = decided({"FN-P": answer, "RE-P": answer, "DP-P": answer, "FN-S": answer}, {})
    assert {code: level for code, (level, _why) in found.items()} == {"FN": Level.LOW, "RE": Level.MEDIUM}
