"""Protection needs: from damage scenarios to low, medium or high, one analysis a dimension."""

from __future__ import annotations

from collections.abc import Mapping

from assessor.messages import _
from assessor.model import DIMENSION_NAMES, Answer, Level, Reply

SCENARIOS = ("material", "bodily", "immaterial", "indirect")
NAMES = {code: name for name, code in DIMENSION_NAMES.items()}


def level_of(dimension: str, replies: Mapping[str, Reply], facts: Mapping[str, Reply]) -> tuple[Level, str] | None:
    """The protection need that the replies to an analysis lead to.

    For five dimensions it is the highest damage among the four scenarios (after IT-Grundschutz, as the catalog does);
    reliability is never below medium, since the catalog never skips it. Data protection follows a rule of its own:
    `data_protection_level`.

    Args:
        dimension: Catalog id of the dimension.
        replies: To the questions of its protection need, by question id.
        facts: Of the AI profile.

    Returns:
        Level and what decided it; None while replies are missing.
    """
    if dimension == "DP":
        return data_protection_level(replies, facts)
    if not all(scenario in replies for scenario in SCENARIOS):
        return None
    levels = {scenario: Level(str(replies[scenario])) for scenario in SCENARIOS}
    highest = max(levels.values(), key=lambda level: level.rank)
    if dimension == "RE" and highest is Level.LOW:
        return Level.MEDIUM, _("reliability is never below medium")
    names = ", ".join(_(scenario) for scenario, level in levels.items() if level is highest)
    return highest, _("highest damage: {names}", names=names)


def data_protection_level(replies: Mapping[str, Reply], facts: Mapping[str, Reply]) -> tuple[Level, str] | None:
    """The catalog's rule for data protection, in full.

    High if any of: sensitive personal data; serious consequence of its disclosure; disclosure of licensed data that
    breaches a contract; disclosure of business data with severe damage. Medium if none of these and any of: personal
    data that is not sensitive; licensed data of negligible consequence; business data of medium damage. Low if no
    personal and no licensed data are asked for, processed or stored and the effect of disclosure is negligible.

    Args:
        replies: disclosure, licensed and business, where they were asked.
        facts: personal_data, licensed_data and confidential_data of the AI profile.

    Returns:
        Level and what decided it; None while something is missing.
    """
    if not {"personal_data", "licensed_data", "confidential_data"} <= facts.keys():
        return None
    asked = {
        "disclosure": facts["personal_data"] != "none",
        "licensed": facts["licensed_data"] == "yes",
        "business": facts["confidential_data"] == "yes",
    }
    if any(wanted and name not in replies for name, wanted in asked.items()):
        return None
    said = {name: replies[name] for name, wanted in asked.items() if wanted}
    high = [
        _("sensitive personal data") if facts["personal_data"] == "sensitive" else "",
        _("serious consequence of disclosure") if said.get("disclosure") == "serious" else "",
        _("disclosure breaches a contract") if said.get("licensed") == "breach of contract" else "",
        _("disclosure severely harms the organisation") if said.get("business") == "severe damage" else "",
    ]
    medium = [
        _("personal data") if asked["disclosure"] else "",
        _("licensed data") if asked["licensed"] else "",
        _("business data of medium damage") if said.get("business") == "medium damage" else "",
    ]
    for level, reasons in ((Level.HIGH, high), (Level.MEDIUM, medium)):
        if found := [reason for reason in reasons if reason]:
            return level, ", ".join(found)
    return Level.LOW, _("no personal or licensed data, and disclosure does negligible harm")


def decided(answers: Mapping[str, Answer], facts: Mapping[str, Reply]) -> dict[str, tuple[Level, str]]:
    """By dimension, the levels that the answered analyses lead to."""
    found = {code: level_of(code, answers[f"{code}-P"].replies, facts) for code in NAMES if f"{code}-P" in answers}
    return {code: level for code, level in found.items() if level is not None}
