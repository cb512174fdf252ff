"""What all formats give, and the small steps they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import NamedTuple

from assessor.model import EvidenceType, ToolFinding
from assessor.prefill.statements import Facts, scalar, short

Document = Mapping[str, object]

LONGEST_NAME, LONGEST_VALUE, LONGEST_OUTCOME = 160, 240, 60  # characters
MOST = 10_000  # findings that are looked at
DEEPEST = 6  # levels of nesting in which numbers are looked for
GOOD = frozenset({"", "pass", "passed", "success", "ok", "no issue"})


class Row(NamedTuple):
    """One finding as the file tells it."""

    name: str
    value: str = ""
    outcome: str = ""


class Reading(NamedTuple):
    """What a file says of itself.

    Attributes:
        format: Its format.
        type: What form of evidence it is.
        tool: What wrote it.
        version: The tool's version.
        made: When.
        subject: What it is about.
        findings: What it found.
    """

    format: str
    type: EvidenceType
    tool: str = ""
    version: str = ""
    made: date | None = None
    subject: str = ""
    findings: tuple[Row, ...] = ()


class Format(NamedTuple):
    """A format in JSON.

    Attributes:
        recognises: Whether a document has its marks.
        read: What such a document says.
    """

    recognises: Callable[[Document], bool]
    read: Callable[[Document, str], Reading]


def shortened(rows: Iterable[Row]) -> tuple[ToolFinding, ...]:
    """Findings in lines of limited length without what a screen would obey, those that are not good in front."""
    found: list[ToolFinding] = []
    for row in rows:
        name = short(row.name, LONGEST_NAME)
        if name and len(found) < MOST:
            value, outcome = short(row.value, LONGEST_VALUE), short(row.outcome, LONGEST_OUTCOME)
            found.append(ToolFinding(name=name, value=value, outcome=outcome))
    return tuple(sorted(found, key=lambda item: item.outcome.lower() in GOOD))


def shown(value: object) -> str:
    """A single value as text, numbers to six digits; empty for a list, a mapping or nothing.

    >>> shown(0.12345678), shown(True), shown([1])
    ('0.123457', 'yes', '')
    """
    return f"{value:.6g}" if isinstance(value, float) else scalar(value)


def day_of(value: object) -> date | None:
    """The day of a moment in ISO 8601; None where there is none.

    >>> day_of("2024-11-05T13:31:45-05:00"), day_of("yesterday")
    (datetime.date(2024, 11, 5), None)
    """
    try:
        return datetime.fromisoformat(scalar(value)).date()
    except ValueError:
        return None


def leaves(value: object, name: str = "", *, lists: bool = True, depth: int = 0) -> Iterator[Row]:
    """Single values inside mappings and lists, each with the path to it.

    Args:
        value: Where to look.
        name: Path to it.
        lists: Whether to look into lists.
        depth: How deep it lies.

    Yields:
        A row a value.

    >>> [tuple(row) for row in leaves({"a": {"b": 1, "c": [2, None]}})]
    [('a.b', '1', ''), ('a.c.0', '2', '')]
    """
    if isinstance(value, list | Mapping):
        inside = value.items() if isinstance(value, Mapping) else enumerate(value) if lists else ()
        for key, item in inside if depth < DEEPEST else ():
            yield from leaves(item, f"{name}.{key}" if name else str(key), lists=lists, depth=depth + 1)
    elif text := shown(value):
        yield Row(name, text)


def stated(facts: Facts) -> tuple[Row, ...]:
    """Statements that `prefill` found in a card or bill of materials: metrics line by line, then the others."""
    rows = []
    for item in facts.get("metrics", ()):
        for line in item.value.splitlines():
            *name, value = line.split(" | ")
            rows.append(Row(", ".join(name), value) if name else Row("metrics", value))
    rows += [
        Row(key.replace("_", " "), statements[0].value)
        for key, statements in facts.items()
        if key != "metrics" and statements
    ]
    return tuple(rows)
