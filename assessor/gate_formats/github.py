"""GitHub Actions: annotations as workflow commands, and the summary of the step.

GitHub shows ten errors, ten warnings and ten notices a step, so the worst come first.
"""

from __future__ import annotations

from collections.abc import Mapping

from assessor.gate_formats.notices import GateReport, Level, Notice
from assessor.gate_formats.text import closing

COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}
MESSAGE = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY = {**MESSAGE, ":": "%3A", ",": "%2C"}


def written(report: GateReport) -> str:
    """As workflow commands, a line a finding that asks for attention, then the decision."""
    commands = [_command(item) for item in report.shown]
    return "\n".join([*commands, *closing(report)]) + "\n"


def _command(item: Notice) -> str:
    finding = item.finding
    properties = {
        "file": item.place.file,
        "line": str(item.place.line),
        "title": f"{finding.id}: {item.group.told}",
    }
    told = ",".join(f"{name}={_escaped(value, PROPERTY)}" for name, value in properties.items())
    return f"::{COMMANDS[item.level]} {told}::{_escaped(f'{finding.status}: {finding.sentence}', MESSAGE)}"


def _escaped(text: str, table: Mapping[str, str]) -> str:
    r"""Text as a workflow command holds it.

    >>> _escaped("a:b,c%\n", PROPERTY)
    'a%3Ab%2Cc%25%0A'
    """
    return text.translate({ord(sign): code for sign, code in table.items()})
