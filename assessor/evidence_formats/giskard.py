"""Results of Giskard 2, as `to_json` of a scan or a test suite writes them; they name neither version nor subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assessor.evidence_formats.reading import Document, Format, Reading, Row, shown
from assessor.model import EvidenceType
from assessor.prefill.statements import scalar, scalars

LEVELS = frozenset({"major", "medium", "minor"})
OUTCOMES = frozenset({"Passed", "Failed"})


def _recognises(document: Document) -> bool:
    return bool(document) and (_is_scan(document) or _is_suite(document))


def _is_scan(document: Document) -> bool:
    """Issues by detector and level."""
    return all(
        name.endswith("Detector") and isinstance(issues, Mapping) and issues.keys() <= LEVELS
        for name, issues in document.items()
    )


def _is_suite(document: Document) -> bool:
    """Result and metric by test."""
    return all(
        isinstance(item, Mapping) and {"result", "metric_value"} == item.keys() and scalar(item["result"]) in OUTCOMES
        for item in document.values()
    )


def _read(document: Document, name: str) -> Reading:
    rows = _issues(document) if _is_scan(document) else _tests(document)
    return Reading(format="Giskard result", type=EvidenceType.TEST_REPORT, tool="Giskard", findings=tuple(rows))


def _issues(document: Document) -> Iterator[Row]:
    for name, issues in document.items():
        detector = name.removesuffix("Detector")
        if not isinstance(issues, Mapping) or not issues:
            yield Row(detector, "", "no issue")
            continue
        for level, texts in issues.items():
            yield from (Row(detector, text, scalar(level)) for text in scalars(texts))


def _tests(document: Document) -> Iterator[Row]:
    for name, item in document.items():
        if isinstance(item, Mapping):
            yield Row(name, shown(item["metric_value"]), scalar(item["result"]))


FORMAT = Format(_recognises, _read)
