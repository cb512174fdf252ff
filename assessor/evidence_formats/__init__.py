"""Results of other tools as evidence: recognised by their own marks, told in their own words, judged by nobody here.

One module a format. Each says by what marks it knows its format, and gives what the file says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from assessor.canonical import sha256_hex
from assessor.evidence_formats import (
    ai_verify,
    cyclonedx,
    deepchecks,
    evidently,
    giskard,
    inspect_archive,
    inspect_log,
    junit,
    model_card,
    spdx,
)
from assessor.evidence_formats.reading import Format, Reading, shortened
from assessor.model import Imported
from assessor.prefill.json_text import json_object

__all__ = ["LARGEST", "RESULTS", "Reading", "imported", "is_too_large", "read"]

LARGEST: Mapping[str, int] = {
    **{"json": 10_000_000, "jsonld": 10_000_000, "xml": 5_000_000, "md": 500_000},
    "eval": 50_000_000,  # of which only the header is unpacked
}
"""Bytes by ending of what is looked at: each takes a second at most, whatever is in it. Larger files are only kept."""
RESULTS = (".json", ".jsonld", ".xml", ".eval")
"""Endings of files that are likely to be another tool's results."""
MOST_FINDINGS = 20  # what a reader of the report takes in; all of them stand in the file

JSON_FORMATS: tuple[Format, ...] = (
    cyclonedx.FORMAT,
    spdx.FORMAT,
    ai_verify.FORMAT,
    inspect_log.FORMAT,
    deepchecks.FORMAT,
    evidently.FORMAT,
    giskard.FORMAT,
)


def read(content: bytes, name: str) -> Reading | None:
    """What a file says of itself, where it is of a known format.

    Args:
        content: The file.
        name: Its name; its ending says what is tried, and messages call it so.

    Returns:
        What it says; None where no format knows its marks.

    Raises:
        UsageError: It has the marks of a format, or the ending of JSON, and cannot be read.
    """
    ending = name.lower().rpartition(".")[2]
    if len(content) > LARGEST.get(ending, 0):
        return None
    if ending in {"json", "jsonld"}:
        document = json_object(content, name)
        known = (form for form in JSON_FORMATS if form.recognises(document))
        form = next(known, None)
        return form.read(document, name) if form else None
    if ending == "xml":
        return junit.read(content, name)
    if ending == "eval":
        return inspect_archive.read(content, name, LARGEST["json"])
    if ending == "md" and model_card.recognises(content, name):
        return model_card.read(content, name)
    return None


def is_too_large(name: str, size: int) -> bool:
    """Whether a file is kept without being looked at, although its ending is one of those that are.

    >>> is_too_large("log.json", 20_000_000), is_too_large("scan.pdf", 20_000_000)
    (True, False)
    """
    return size > LARGEST.get(name.lower().rpartition(".")[2], size)


def imported(content: bytes, found: Reading) -> Imported:
    """What a file says of itself, as the register keeps it.

    Args:
        content: The file.
        found: What was read in it.

    Returns:
        Its provenance with the first of its findings.
    """
    findings = shortened(found.findings)
    return Imported(
        format=found.format,
        tool=found.tool,
        version=found.version,
        made=found.made,
        subject=found.subject,
        source=sha256_hex(content),
        findings=findings[:MOST_FINDINGS],
        total=len(findings),
    )
