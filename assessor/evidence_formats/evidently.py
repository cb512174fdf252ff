"""Results of Evidently as JSON: reports and test suites up to 0.6, reports with tests from 0.7."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from assessor.evidence_formats.reading import MOST, Document, Format, Reading, Row, day_of, leaves
from assessor.model import EvidenceType
from assessor.prefill.statements import mappings, member, scalar

NAMES = frozenset({"metric_name", "metric_id"})


def _recognises(document: Document) -> bool:
    metrics, tests = mappings(document.get("metrics") or []), mappings(document.get("tests") or [])
    if tests and member(document, "summary", "all_passed") is not None:  # a test suite up to 0.6
        return True
    return bool(metrics) and all(_is_metric(item) for item in metrics)


def _is_metric(item: Mapping[str, object]) -> bool:
    return {"metric", "result"} <= item.keys() or ("value" in item and not item.keys().isdisjoint(NAMES))


def _read(document: Document, name: str) -> Reading:
    tests = [
        Row(scalar(item.get("name")), scalar(item.get("description")), scalar(item.get("status")))
        for item in mappings(document.get("tests") or [])
    ]
    values = islice(_values(mappings(document.get("metrics") or [])), MOST)
    return Reading(
        format="Evidently result",
        type=EvidenceType.TEST_REPORT,
        tool="Evidently",
        version=scalar(document.get("version")),
        made=day_of(document.get("timestamp")),
        findings=(*tests, *values),
    )


def _values(metrics: list[Mapping[str, object]]) -> Iterator[Row]:
    """Single values of all metrics; those inside a metric with the path to them, but no points of its plots."""
    for item in metrics:
        name = scalar(item.get("metric_name")) or scalar(item.get("metric_id")) or scalar(item.get("metric"))
        yield from leaves(item.get("value", item.get("result")), name, lists=False)


FORMAT = Format(_recognises, _read)
