"""Results of Giskard; they name neither version nor subject.

Of Giskard 2 what `to_json` of a scan or a test suite writes; of Giskard 3, in which scans are suites too, what
`model_dump_json` of a suite or a scenario writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assessor.evidence_formats.reading import Document, Format, Reading, Row, shown
from assessor.model import EvidenceType
from assessor.prefill.statements import mappings, member, scalar, scalars

LEVELS = frozenset({"major", "medium", "minor"})
OUTCOMES = frozenset({"Passed", "Failed"})
SUITE = frozenset({"results", "duration_ms", "passed_count", "failed_count", "errored_count", "skipped_count"})
SCENARIO = frozenset({"scenario_name", "steps", "duration_ms", "status"})


def _recognises(document: Document) -> bool:
    return bool(document) and (_is_scan(document) or _is_suite(document) or bool(_scenarios(document)))


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


def _scenarios(document: Document) -> list[Mapping[str, object]]:
    """Scenarios of Giskard 3: those of a suite, or one alone; none where any lacks its marks."""
    found = mappings(document["results"]) if document.keys() >= SUITE else [document]
    return found if all(item.keys() >= SCENARIO for item in found) else []


def _read(document: Document, name: str) -> Reading:
    scenarios = _scenarios(document)
    rows = _checks(scenarios) if scenarios else _issues(document) if _is_scan(document) else _tests(document)
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


def _checks(scenarios: list[Mapping[str, object]]) -> Iterator[Row]:
    """A line a scenario, and one for each step that broke off and each check that did not pass."""
    for scenario in scenarios:
        title, steps = scalar(scenario["scenario_name"]), mappings(scenario["steps"])
        results = [result for step in steps for result in mappings(step.get("results"))]
        yield Row(title, f"checks: {len(results)}", scalar(scenario["status"]))
        for error in (error for step in steps for error in mappings(step.get("error"))):
            yield Row(title, scalar(error.get("message")), scalar(error.get("exception_type")) or "error")
        for result in results:
            if (status := scalar(result.get("status"))) != "pass":
                told = (scalar(member(result, "details", key)) for key in ("check_name", "check_kind"))
                yield Row(f"{title}: {next(filter(None, told), '')}", scalar(result.get("message")), status)


FORMAT = Format(_recognises, _read)
