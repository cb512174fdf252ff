"""Results of Evidently as JSON: reports and test suites up to 0.6; from 0.7 reports with tests, and whole snapshots.

A snapshot, as `Snapshot.dumps` writes it, is `SnapshotModel` in `evidently.core.serialization`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from assessor.evidence_formats.reading import MOST, Document, Format, Reading, Row, day_of, leaves
from assessor.model import EvidenceType
from assessor.prefill.statements import mappings, member, scalar, scalars

NAMES = frozenset({"metric_name", "metric_id"})
SNAPSHOT = frozenset({"timestamp", "metric_results", "top_level_metrics", "tests_widgets"})
VALUES = ("value", "values", "count", "share", "mean", "std", "counts", "shares")


def _recognises(document: Document) -> bool:
    metrics, tests = mappings(document.get("metrics") or []), mappings(document.get("tests") or [])
    if tests and member(document, "summary", "all_passed") is not None:  # a test suite up to 0.6
        return True
    return _is_snapshot(document) or (bool(metrics) and all(_is_metric(item) for item in metrics))


def _is_snapshot(document: Document) -> bool:
    return document.keys() >= SNAPSHOT and isinstance(document["metric_results"], Mapping)


def _is_metric(item: Mapping[str, object]) -> bool:
    return {"metric", "result"} <= item.keys() or ("value" in item and not item.keys().isdisjoint(NAMES))


def _read(document: Document, name: str) -> Reading:
    snapshot = list(_results(document)) if _is_snapshot(document) else []
    tests = mappings(document.get("tests") or [])
    tests += [test for result in snapshot for test in mappings(result.get("tests") or [])]
    told = [Row(*(scalar(item.get(key)) for key in ("name", "description", "status"))) for item in tests]
    values = _snapshot_values(snapshot) if snapshot else _values(mappings(document.get("metrics") or []))
    return Reading(
        format="Evidently snapshot" if _is_snapshot(document) else "Evidently result",
        type=EvidenceType.TEST_REPORT,
        tool="Evidently",
        version=scalar(document.get("version")),
        made=day_of(document.get("timestamp")),
        subject=scalar(document.get("name")),
        findings=(*told, *islice(values, MOST)),
    )


def _values(metrics: list[Mapping[str, object]]) -> Iterator[Row]:
    """Single values of all metrics; those inside a metric with the path to them, but no points of its plots."""
    for item in metrics:
        name = scalar(item.get("metric_name")) or scalar(item.get("metric_id")) or scalar(item.get("metric"))
        yield from leaves(item.get("value", item.get("result")), name, lists=False)


def _results(document: Document) -> Iterator[Mapping[str, object]]:
    """Results of a snapshot that were asked for, without those that were only needed for them."""
    for name in dict.fromkeys(scalars(document["top_level_metrics"])):
        yield from mappings(member(document, "metric_results", name))


def _snapshot_values(results: Iterable[Mapping[str, object]]) -> Iterator[Row]:
    for result in results:
        for key in VALUES:
            name = scalar(result.get("display_name"))
            yield from leaves(_bare(result.get(key)), name if key == "value" else f"{name}.{key}", lists=False)


def _bare(value: object) -> object:
    """A value without what a snapshot keeps beside it for drawing: of a result its value, by label too."""
    if not isinstance(value, Mapping):
        return value
    return value["value"] if "value" in value else {key: member(item, "value") for key, item in value.items()}


FORMAT = Format(_recognises, _read)
