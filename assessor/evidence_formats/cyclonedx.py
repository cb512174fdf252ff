"""Bills of materials of CycloneDX 1.5 to 1.7, those of models in front; read by `prefill`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assessor.evidence_formats.reading import Document, Format, Reading, day_of, stated
from assessor.model import EvidenceType
from assessor.prefill.ml_bom import MODEL, found_in_ml_bom
from assessor.prefill.statements import listed, mappings, member, scalar


def _recognises(document: Document) -> bool:
    return document.get("bomFormat") == "CycloneDX"


def _read(document: Document, name: str) -> Reading:
    facts = found_in_ml_bom(document, name)
    tools = list(_tools(member(document, "metadata", "tools")))
    models = [_label(item) for item in mappings(document.get("components")) if item.get("type") == MODEL]
    subject = [_label(item) for item in mappings(member(document, "metadata", "component"))]
    return Reading(
        format=f"CycloneDX {scalar(document.get('specVersion'))}",
        type=EvidenceType.DOCUMENT,
        tool=_label(tools[0], "name") if tools else "",
        version=_label(tools[0], "version") if tools else "",
        made=day_of(member(document, "metadata", "timestamp")),
        subject=listed([text for text in (*subject, *models) if text]),
        findings=stated(facts),
    )


def _tools(value: object) -> Iterator[Mapping[str, object]]:
    """Tools as a list, as up to 1.4, or as components and services."""
    yield from mappings(value) if isinstance(value, list) else ()
    for part in ("components", "services"):
        yield from mappings(member(value, part))


def _label(item: Mapping[str, object], *fields: str) -> str:
    return " ".join(text for field in fields or ("name", "version") if (text := scalar(item.get(field))))


FORMAT = Format(_recognises, _read)
