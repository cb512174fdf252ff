"""Statements: clean text of others under the keys that questions look for, each with its origin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from assessor.messages import _
from assessor.model import Known

Facts = dict[str, list[Known]]

KEYS = (
    "purpose",
    "context",
    "users",
    "out_of_scope",
    "limitations",
    "inputs_outputs",
    "components",
    "architecture",
    "base_model",
    "training_data",
    "preprocessing",
    "evaluation_data",
    "metrics",
    "hyperparameters",
    "licence",
    "contact",
    "fairness",
    "ethics",
    "explainability",
    "energy",
    "carbon",
    "source_revision",
    "release",
    "dependencies",
    "monitoring",
    "sensitive_data",
    "change_history",
)
"""All keys, in the order they are shown."""

MOST_STATEMENTS = 20  # of one key; only the first becomes a draft, the others are there to be read
LONGEST = 3000  # characters of a statement: what a person can still check before confirming it
LONGEST_NAME = 120
MOST_LISTED = 60

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, halves of surrogate pairs, and marks that turn or hide text on a screen."""
_SAYS_NOTHING = frozenset(
    (
        *(
            "",
            "more information needed",
            "optional",
            "other",
            "unknown",
            "unspecified",
            "not specified",
            "not available",
        ),
        *("todo", "to do", "tbd", "tba", "to be determined", "to be done", "to be added", "coming soon", "xxx"),
        *("n/a", "na", "nil", "none", "null", "noassertion", "no assertion"),
    )
)


def clean(text: str) -> str:
    r"""Text without what a screen cannot show or would obey, without blank lines, cut where it becomes too long.

    >>> clean("a\x1b[31m \r\n\n\u202eb  ")
    'a[31m\nb'
    """
    shown = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text)).replace("\t", " ")
    lines = (line.rstrip() for line in shown.split("\n"))
    return _cut("\n".join(line for line in lines if line).strip(), LONGEST)


def short(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Text in one line of limited length.

    >>> short("one\n two three", 9)
    'one two …'
    """
    return _cut(" ".join(clean(text).split()), longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    kept = text[: longest - 2]
    at = max(kept.rfind(" "), kept.rfind("\n"))
    return (kept[:at] if at > longest // 2 else kept).rstrip() + " …"


def says_nothing(text: str) -> bool:
    """Whether a text only holds a place, as templates of model cards do.

    >>> says_nothing("[More Information Needed]"), says_nothing("**TBD**"), says_nothing("none are known")
    (True, True, False)
    """
    return len(text) < 200 and " ".join(text.strip(" \n\t[](){}<>*_`.:…-–—?").casefold().split()) in _SAYS_NOTHING


class Statements:
    """Collects what one source says."""

    def __init__(self, source: str) -> None:
        """Start empty.

        Args:
            source: What is read, as an origin begins.
        """
        self._source = source
        self._found: Facts = {}

    def add(self, key: str, text: str, place: str = "") -> None:
        """Take one statement in, unless it says nothing or was said before.

        Args:
            key: One of `KEYS`.
            text: What is said.
            place: Where in the source.
        """
        value = clean(text)
        held = self._found.setdefault(key, [])
        if (
            value
            and not says_nothing(value)
            and len(held) < MOST_STATEMENTS
            and all(value != item.value for item in held)
        ):
            held.append(Known(value=value, origin=f"{self._source}, {short(place)}" if place else self._source))

    @property
    def facts(self) -> Facts:
        """All statements by key, in the order of `KEYS`."""
        return {key: self._found[key] for key in KEYS if self._found.get(key)}


def merged(sources: Iterable[Mapping[str, Sequence[Known]]]) -> Facts:
    """Statements of several sources, those of the first in front, none twice.

    Args:
        sources: Statements by key.

    Returns:
        Statements by key, in the order of `KEYS`.
    """
    found: Facts = {}
    for source in sources:
        for key, statements in source.items():
            held = found.setdefault(key, [])
            held += [item for item in statements if all(item.value != known.value for known in held)]
    return {key: found[key] for key in KEYS if found.get(key)}


# --- texts out of data of unknown form -------------------------------------------------------------------------------


def scalar(value: object) -> str:
    """A single value as text; empty for a list, a mapping or nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        text = clean(value)
        return "" if says_nothing(text) else text
    try:
        return str(value) if isinstance(value, int | float | date) else ""
    except ValueError:  # an integer with more digits than Python writes out
        return ""


def scalars(value: object) -> list[str]:
    """The texts of a value or of a list of them."""
    found = [scalar(item) for item in value] if isinstance(value, list) else [scalar(value)]
    return [text for text in found if text]


def mappings(value: object) -> list[Mapping[str, object]]:
    """The mappings in a list, or a mapping alone, or none."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, Mapping)]


def member(value: object, *path: str) -> object:
    """What lies at a path of mappings; None where it ends before."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


# --- forms of a statement ---------------------------------------------------------------------------------------------


def bullets(items: Iterable[str]) -> str:
    """One item a line, as a list; a table takes each as a row."""
    return "\n".join(f"- {' '.join(item.split())}" for item in items if item.strip())


def row(*cells: str) -> str:
    """Cells of one table row, empty ones at the end left out.

    >>> row("accuracy", "p(y|x)", "")
    'accuracy | p(y/x)'
    """
    return " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells).rstrip(" |")


def labelled(parts: Mapping[str, str]) -> str:
    """`label: text; label: text` of those parts that say something."""
    return "; ".join(f"{label}: {short(text, 500)}" for label, text in parts.items() if text)


def listed(items: Sequence[str]) -> str:
    """Items with commas, and how many more there are."""
    rest = len(items) - MOST_LISTED
    shown = ", ".join(short(item, 80) for item in items[:MOST_LISTED])
    return shown if rest <= 0 else _("{shown} and {n} more", shown=shown, n=rest)
