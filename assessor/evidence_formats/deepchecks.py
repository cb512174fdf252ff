"""Results of Deepchecks: a suite or one check, as `to_json` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assessor.evidence_formats.reading import Document, Format, Reading, Row, shown
from assessor.model import EvidenceType
from assessor.prefill.statements import mappings, member, scalar


def _recognises(document: Document) -> bool:
    kind = document.get("type")
    if kind == "SuiteResult":
        return isinstance(document.get("results"), list)
    return kind in ("CheckResult", "CheckFailure") and isinstance(document.get("check"), Mapping)


def _read(document: Document, name: str) -> Reading:
    results = mappings(document.get("results")) if document.get("type") == "SuiteResult" else [document]
    return Reading(
        format="Deepchecks result",
        type=EvidenceType.TEST_REPORT,
        tool="Deepchecks",
        subject=scalar(document.get("name")) or scalar(member(document, "check", "name")),
        findings=tuple(row for result in results for row in _findings(result)),
    )


def _findings(result: Mapping[str, object]) -> Iterator[Row]:
    """A line a condition; without one the check's value, or why it was not run."""
    title = scalar(result.get("header")) or scalar(member(result, "check", "name"))
    if result.get("type") == "CheckFailure":
        yield Row(title, scalar(result.get("exception")), "not run")
        return
    conditions = mappings(result.get("conditions_results"))
    for condition in conditions:
        told = (scalar(condition.get(key)) for key in ("Condition", "More Info", "Status"))
        demand, more, status = told
        yield Row(f"{title}: {demand}" if demand else title, more, status)
    if not conditions:
        yield Row(title, shown(result.get("value")))


FORMAT = Format(_recognises, _read)
