"""SPDX 3.0 with the profiles AI and Dataset, as JSON-LD; read by `prefill`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assessor.evidence_formats.reading import Document, Format, Reading, day_of, stated
from assessor.model import EvidenceType
from assessor.prefill.spdx import found_in_spdx
from assessor.prefill.statements import listed, mappings, scalar, scalars

SUBJECTS = ("ai_AIPackage", "dataset_DatasetPackage")


def _recognises(document: Document) -> bool:
    return "spdxVersion" in document or any("spdx.org/" in text for text in scalars(document.get("@context")))


def _read(document: Document, name: str) -> Reading:
    facts = found_in_spdx(document, name)
    elements = mappings(document.get("@graph"))
    creation = next(_of_type(elements, "CreationInfo"), {})
    makers = {*scalars(creation.get("createdUsing"))}
    tools = [_label(item) for item in _of_type(elements, "Tool") if not makers or scalar(item.get("spdxId")) in makers]
    return Reading(
        format=f"SPDX {scalar(creation.get('specVersion')) or '3.0'}",
        type=EvidenceType.DOCUMENT,
        tool=listed(tools),
        made=day_of(creation.get("created")),
        subject=listed([_label(item) for kind in SUBJECTS for item in _of_type(elements, kind)]),
        findings=stated(facts),
    )


def _of_type(elements: list[Mapping[str, object]], kind: str) -> Iterator[Mapping[str, object]]:
    return (item for item in elements if item.get("type") == kind)


def _label(item: Mapping[str, object]) -> str:
    return " ".join(scalars(item.get("name")) + scalars(item.get("software_packageVersion")))


FORMAT = Format(_recognises, _read)
