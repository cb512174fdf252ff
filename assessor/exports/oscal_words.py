"""What all our OSCAL documents share: version, namespace, identifiers, properties, metadata.

OSCAL (NIST) says catalogs, plans and results of assessments in JSON. What it has no word for stands in properties of
our own namespace, so that other tools can read the documents and ours can read them back without loss. Identifiers are
derived from what they name (UUID version 5), so that the same thing has the same identifier in every export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

Node = dict[str, Any]
"""An OSCAL object: plain data, to be written as JSON."""

OSCAL_VERSION = "1.2.1"
NS = "https://ai-assessor.example/ns/oscal"  # a reserved domain (RFC 2606): nobody else can own it
METHOD_NS = "http://csrc.nist.gov/ns/rmf"  # where NIST's own catalogs put the method of an assessment part
CATALOG, PROFILE = "catalog.json", "profile.json"
PLAN, RESULTS = "assessment-plan.json", "assessment-results.json"

_ROOT = uuid5(NAMESPACE_URL, NS)
_LINE = re.compile(r"\S(?:[^\n\r\u2028\u2029]*\S)?")
_SEE_REMARKS = "see remarks"


def uid(*path: str) -> str:
    """The UUID of something by its path of names: the same path gives the same UUID, on every machine.

    >>> uid("a", "b") == uid("a", "b") != uid("ab")
    True
    """
    return str(uuid5(_ROOT, "\n".join(path)))


def filled(**fields: Any) -> Node:
    """An object without empty members, which OSCAL forbids; `_` in a name stands for `-`, a last `_` for nothing."""
    return {
        name.removesuffix("_").replace("_", "-"): value for name, value in fields.items() if value not in (None, "", [])
    }


def prop(name: str, value: object, *, remarks: str = "", class_: str = "", group: str = "", ns: str = NS) -> Node:
    """A property in our namespace; a value that is no single line stands in its remarks.

    Args:
        name: What it says.
        value: A text or number that is not empty.
        remarks: A text beside it, for a value of a single line.
        class_: A token that tells it from others of its name.
        group: A token that it shares with what belongs to it.
        ns: Another namespace; empty for OSCAL's own.

    Returns:
        The property.
    """
    text = str(value)
    if not _LINE.fullmatch(text):
        text, remarks = _SEE_REMARKS, text
    return filled(name=name, ns=ns, value=text, class_=class_, group=group, remarks=remarks)


def props(name: str, values: Iterable[object]) -> list[Node]:
    """One property a value, in order."""
    return [prop(name, value) for value in values]


def optional(**values: object) -> list[Node]:
    """Properties of what is there; `_` in a name stands for `-`."""
    return [prop(name.replace("_", "-"), value) for name, value in values.items() if value not in (None, "")]


class Said:
    """Reads the properties of an object back."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        """Take its properties of our namespace.

        Args:
            node: The object.
        """
        self._props = [item for item in node.get("props", ()) if item.get("ns") == NS]

    def all(self, name: str) -> list[str]:
        """Values of all properties of that name, in order."""
        return [self._value(item) for item in self._props if item["name"] == name]

    def one(self, name: str) -> str | None:
        """Value of the property of that name, or None."""
        return next(iter(self.all(name)), None)

    def labels(self, name: str) -> Iterator[tuple[str, str]]:
        """Value and remarks of the properties of that name that have both."""
        for item in self._props:
            if item["name"] == name and "remarks" in item and item["value"] != _SEE_REMARKS:
                yield item["value"], item["remarks"]

    @staticmethod
    def _value(item: Mapping[str, Any]) -> str:
        found: str = item["remarks"] if item["value"] == _SEE_REMARKS and "remarks" in item else item["value"]
        return found


def line(text: str) -> str:
    """A text in one line, as titles are."""
    return " ".join(text.split())


def whole_title(text: str, name: str = "title") -> list[Node]:
    """The property that holds a title whole, where it is more than one line."""
    return [] if line(text) == text else [prop(name, text)]


def token(text: str) -> str:
    """A name as OSCAL allows it for classes, groups and identifiers.

    >>> token("expected calibration error"), token("95 %")
    ('expected-calibration-error', '_95--')
    """
    found = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    return found if re.match(r"[A-Za-z_]", found) else f"_{found}"


def moment(value: datetime) -> str:
    """A time as OSCAL writes it, in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def method_part(identifier: str, method: str, parts: Sequence[Node]) -> Node:
    """How an assessor finds out: a part with its method, EXAMINE or TEST."""
    return filled(
        id=identifier,
        name="assessment-method",
        props=[prop("method", method, ns=METHOD_NS)],
        parts=list(parts),
    )


def metadata(title: str, version: str, modified: datetime, **more: Any) -> Node:
    """The metadata of a document.

    Args:
        title: Of the document.
        version: Of its content.
        modified: When its content changed.
        **more: Further members, `_` for `-`.

    Returns:
        The object.
    """
    return {
        "title": line(title),
        "last-modified": moment(modified),
        "version": line(version),
        "oscal-version": OSCAL_VERSION,
        **filled(**more),
    }
