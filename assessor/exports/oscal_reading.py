"""An OSCAL catalog that we wrote, back to a `Catalog`, and a `Catalog` to the YAML files it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assessor import yamlfile
from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import ConfigurationError, UsageError
from assessor.exports.oscal_words import NS, Node, Said
from assessor.messages import SOURCE
from assessor.model import Catalog, CatalogHead, Pack, Requirement


def read_oscal(path: Path) -> Catalog:
    """The catalog in a file; see `catalog_from_oscal`.

    Raises:
        UsageError: It cannot be read, or is no JSON.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        raise UsageError(f"{path}: cannot read it as JSON: {fault}") from fault
    return catalog_from_oscal(document, path.name)


def catalog_from_oscal(document: Mapping[str, Any], name: str = "catalog.json") -> Catalog:
    """The catalog that an OSCAL document of ours holds.

    Args:
        document: What `catalog_to_oscal` gave, as plain data.
        name: How messages call it.

    Returns:
        The catalog, equal to the exported one in all but `sha256`, which is the digest of the document.

    Raises:
        ConfigurationError: It is no OSCAL catalog, lacks what ours have, or holds a translation: those are made from
            the English texts and cannot stand for them.
    """
    try:
        root = document["catalog"]
        language = Said(root["metadata"]).one("language")
        if language != SOURCE:
            raise ConfigurationError(f"{name}: found a catalog in the language {language}, wanted it in {SOURCE}")
        return Catalog(
            head=CatalogHead.model_validate(_head(root)),
            requirements=tuple(
                Requirement.model_validate(_requirement(control))
                for dimension in root["groups"]
                for area in dimension.get("groups", ())
                for control in area.get("controls", ())
            ),
            sha256=sha256_hex(canonical_json(dict(document))),
        )
    except (LookupError, TypeError, AttributeError, StopIteration) as fault:
        raise ConfigurationError(f"{name}: not readable as an OSCAL catalog of ours: {fault!r} is missing") from fault
    except ValidationError as faults:
        told = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults.errors(include_url=False)]
        raise ConfigurationError("\n".join(f"{name}: {line}" for line in told)) from faults
    except (ValueError, RecursionError) as fault:  # a position that is no number, or what no JSON holds
        raise ConfigurationError(f"{name}: not readable as an OSCAL catalog of ours: {fault}") from fault


def _head(root: Mapping[str, Any]) -> Node:
    metadata, said = root["metadata"], Said(root["metadata"])
    resources = root["back-matter"]["resources"]
    source = next(item for item in resources if Said(item).one("resource") == "source")
    return {
        "schema": said.one("schema"),
        "id": metadata["document-ids"][0]["identifier"],
        "version": metadata["version"],
        "title": _title(metadata),
        "source": {
            "title": _title(source),
            "note": source["description"],
            **_given(source, "publisher", "edition", "url"),
        },
        "documents": [
            {"id": Said(item).one("document-id"), "title": _title(item)}
            for item in resources
            if Said(item).one("resource") == "document"
        ],
        "dimensions": [_dimension(group) for group in root["groups"]],
        "packs": said.all("pack"),
    }


def _dimension(group: Mapping[str, Any]) -> Node:
    return {
        "id": group["id"].removeprefix("dimension-"),
        "title": _title(group),
        "lowest_need": Said(group).one("lowest-need"),
        "areas": [
            {"id": area["id"].removeprefix("area-"), "kind": Said(area).one("kind"), "title": _title(area)}
            for area in group.get("groups", ())
        ],
    }


def _title(node: Mapping[str, Any], field: str = "title") -> str:
    return str(Said(node).one("title") or node[field])


def _given(node: Mapping[str, Any], *names: str) -> Node:
    """Single properties that are there, under the names of our model."""
    said = Said(node)
    found = {name.replace("-", "_"): said.one(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _requirement(control: Mapping[str, Any]) -> Node:
    said, parts = Said(control), control["parts"]
    return {
        "id": control["id"],
        "aliases": said.all("alias"),
        "replaced_by": _links(control, "moved-to"),
        "kinds": said.all("kind"),
        "conditional": said.all("conditional"),
        "title": _title(control),
        "statement": _named(parts, "statement")[0]["prose"],
        "guidance": _guidance(_named(parts, "guidance")[0]),
        "objectives": [
            {"id": part["id"].rpartition(".")[2], "text": part["prose"]}
            for part in _named(parts, "assessment-objective")
        ],
        "params": [_param(param) for param in control.get("params", ())],
        "questions": [_question(part) for part in _named(parts, "question")],
        "evidence": [_evidence(part) for part in sorted(_objects(parts), key=_position)],
        "refers_to": _links(control, "related"),
        "checks": said.all("check"),
        "no_check_because": next((part["prose"] for part in _within_methods(parts, "no-check-because")), None),
        "provenance": {"status": said.one("provenance"), "sources": said.all("provenance-source")},
        **_given(control, "state", "aspect", "lifecycle", "applicability"),
    }


def _named(parts: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [part for part in parts if part["name"] == name]


def _links(control: Mapping[str, Any], rel: str) -> list[str]:
    return [link.get("text") or link["href"][1:] for link in control.get("links", ()) if link.get("rel") == rel]


def _guidance(part: Mapping[str, Any]) -> Node:
    parts = part["parts"]
    return {
        "do": _named(parts, "do")[0]["prose"],
        "example": _named(parts, "example")[0]["prose"],
        "mistakes": [item["prose"] for item in _named(parts, "mistake")],
    }


def _within_methods(parts: Iterable[Mapping[str, Any]], name: str) -> Iterator[Mapping[str, Any]]:
    for method in _named(parts, "assessment-method"):
        yield from _named(method.get("parts", ()), name)


def _objects(parts: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for objects in _within_methods(parts, "assessment-objects"):
        yield from (part for part in objects["parts"] if part.get("ns") == NS)


def _position(part: Mapping[str, Any]) -> int:
    return int(part["id"].rpartition(".")[2])


def _evidence(part: Mapping[str, Any]) -> Node:
    return {"type": part["class"], "what": part["prose"], **_given(part, "document", "max-age-days")}


def _question(part: Mapping[str, Any]) -> Node:
    said = Said(part)
    return {
        "id": _after(part["id"], ".question."),
        "type": said.one("type"),
        "text": part["prose"],
        "options": said.all("option"),
        "labels": dict(said.labels("translation")),
        "columns": said.all("column"),
        "role": part["class"],
        "objectives": said.all("objective"),
        "prefill": said.all("prefill"),
        **_given(part, "unit", "show-if", "fact", "label"),
    }


def _param(param: Mapping[str, Any]) -> Node:
    said = Said(param)
    return {
        "id": _after(param["id"], ".param."),
        "type": param["class"],
        "label": _title(param, "label"),
        "options": said.all("option") or param.get("select", {}).get("choice", []),
        "labels": dict(said.labels("translation")),
        **_given(param, "unit", "check"),
    }


def _after(identifier: str, mark: str) -> str:
    return identifier.partition(mark)[2]


# --- to files --------------------------------------------------------------------------------------------------------


def to_yaml(catalog: Catalog) -> dict[str, bytes]:
    """The files of a catalog folder; `load_catalog` reads an equal catalog from them.

    Args:
        catalog: In English: other languages stand in files of their own beside it.

    Returns:
        Content by relative path. A pack's own version and note are no part of a `Catalog`, so they are the catalog's.
    """
    head = catalog.head
    base = head.model_copy(update={"dimensions": tuple(item for item in head.dimensions if not item.is_pack)})
    files = {"catalog.yaml": base.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
    for dimension in head.dimensions:
        folder = f"packs/{dimension.id}" if dimension.is_pack else dimension.id
        if dimension.is_pack:
            pack = Pack(
                schema="aic-pack/1", id=dimension.id, version=head.version, note=head.title, dimension=dimension
            )
            files[f"{folder}/pack.yaml"] = pack.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for area in dimension.areas:
            files[f"{folder}/{area.id}.yaml"] = {
                "area": area.id,
                "requirements": [_plain(item) for item in catalog.requirements if item.area == area.id],
            }
    return {name: yamlfile.dump(data).encode() for name, data in files.items()}


def _plain(item: Requirement) -> Node:
    """As a person would write it: no empty members."""
    data: Node = item.model_dump(mode="json", exclude_defaults=True)
    return data
