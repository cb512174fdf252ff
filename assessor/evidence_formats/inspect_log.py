"""Logs of Inspect, the UK AI Security Institute's evaluations, as JSON; `inspect_archive` reads those in `.eval`.

Fields: https://inspect.aisi.org.uk/eval-logs.html and `inspect_ai.log.EvalLog`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assessor.evidence_formats.reading import Document, Format, Reading, Row, day_of, shown
from assessor.model import EvidenceType
from assessor.prefill.statements import mappings, member, scalar


def _recognises(document: Document) -> bool:
    return (
        isinstance(document.get("status"), str)
        and isinstance(document.get("version"), int)
        and all(isinstance(member(document, "eval", key), str) for key in ("task", "model"))
    )


def _read(document: Document, name: str) -> Reading:
    model, task = (scalar(member(document, "eval", key)) for key in ("model", "task"))
    return Reading(
        format="Inspect eval log",
        type=EvidenceType.TEST_REPORT,
        tool="Inspect",
        version=scalar(member(document, "eval", "packages", "inspect_ai")),
        made=day_of(member(document, "eval", "created")),
        subject=f"{model}, {task}",
        findings=tuple(_findings(document)),
    )


def _findings(document: Document) -> Iterator[Row]:
    results, status = document.get("results"), scalar(document.get("status"))
    done, total = (shown(member(results, f"{part}_samples")) for part in ("completed", "total"))
    yield Row("samples", f"{done} / {total}" if total else "", status)
    if document.get("error"):
        yield Row("error", scalar(member(document, "error", "message")), "error")
    for score in mappings(member(results, "scores")):
        scorer, metrics = scalar(score.get("name")), score.get("metrics")
        for key, metric in metrics.items() if isinstance(metrics, Mapping) else ():
            yield Row(f"{scorer} {scalar(member(metric, 'name')) or key}", shown(member(metric, "value")))


FORMAT = Format(_recognises, _read)
