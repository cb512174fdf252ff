"""The catalog as an OSCAL catalog: dimensions and areas as groups, requirements as controls.

requirement         control, its id unchanged
statement, guidance parts of these names; the three texts of the guidance are parts of it
objective           part `assessment-objective`, id `<requirement>.<letter>`: what findings speak of
evidence            part of an `assessment-method`: TEST for test reports, else EXAMINE
question            part `question` in our namespace
param               param; the catalog sets no value, so it has a constraint and a guideline and none
refers_to           link `related`; replaced_by: link `moved-to`
document, source    resources in the back matter
all else            properties in our namespace
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from assessor.exports.oscal_words import (
    NS,
    Node,
    filled,
    line,
    metadata,
    method_part,
    optional,
    prop,
    props,
    uid,
    whole_title,
)
from assessor.messages import _
from assessor.model import (
    AreaHead,
    Catalog,
    DimensionHead,
    EvidenceType,
    ExpectedEvidence,
    Kind,
    Param,
    Question,
    Requirement,
    State,
)


def catalog_to_oscal(catalog: Catalog, modified: datetime) -> Node:
    """The catalog as an OSCAL document.

    Args:
        catalog: In any language.
        modified: What the document states as the time of its last change.

    Returns:
        The document; `catalog_from_oscal` reads it back.
    """
    head = catalog.head
    return {
        "catalog": filled(
            uuid=uid(head.id, head.version, catalog.language, "catalog"),
            metadata=metadata(
                head.title,
                head.version,
                modified,
                document_ids=[{"identifier": head.id}],
                props=[
                    *optional(schema=head.schema_, language=catalog.language, sha256=catalog.sha256),
                    *whole_title(head.title),
                    *props("pack", head.packs),
                ],
                links=[{"href": f"#{_source_id(catalog)}", "rel": "reference"}],
                remarks=head.source.note,
            ),
            groups=[_dimension(dimension, catalog) for dimension in head.dimensions],
            back_matter={"resources": [_source(catalog), *_documents(catalog)]},
        )
    }


def dimension_group(dimension: str) -> str:
    """Group id of a dimension; dimensions, areas and requirements share names, ids must not."""
    return f"dimension-{dimension}"


def area_group(area: str) -> str:
    """Group id of an area."""
    return f"area-{area}"


def param_id(requirement: str, param: str) -> str:
    """Id of a param, unique in the catalog."""
    return f"{requirement}.param.{param}"


def objective_id(requirement: str, objective: str) -> str:
    """Id of an objective, which findings speak of."""
    return f"{requirement}.{objective}"


def statement_id(requirement: str) -> str:
    """Id of a requirement's statement."""
    return f"{requirement}.statement"


def document_uuid(catalog: Catalog, document: str) -> str:
    """UUID of a document that serves as evidence."""
    return uid(catalog.head.id, catalog.head.version, "document", document)


def _source_id(catalog: Catalog) -> str:
    return uid(catalog.head.id, catalog.head.version, "source")


def _source(catalog: Catalog) -> Node:
    source = catalog.head.source
    return filled(
        uuid=_source_id(catalog),
        title=line(source.title),
        description=source.note,
        props=[
            prop("resource", "source"),
            *optional(publisher=source.publisher, edition=source.edition, url=source.url),
            *whole_title(source.title),
        ],
        rlinks=[{"href": source.url}],
    )


def _documents(catalog: Catalog) -> list[Node]:
    return [
        filled(
            uuid=document_uuid(catalog, item.id),
            title=line(item.title),
            props=[prop("resource", "document"), prop("document-id", item.id), *whole_title(item.title)],
        )
        for item in catalog.head.documents
    ]


def _dimension(dimension: DimensionHead, catalog: Catalog) -> Node:
    return filled(
        id=dimension_group(dimension.id),
        class_="dimension",
        title=line(dimension.title),
        props=[*optional(lowest_need=dimension.lowest_need), *whole_title(dimension.title)],
        groups=[_area(area, catalog) for area in dimension.areas],
    )


def _area(area: AreaHead, catalog: Catalog) -> Node:
    return filled(
        id=area_group(area.id),
        class_="area",
        title=line(area.title),
        props=[*optional(kind=area.kind), *whole_title(area.title)],
        controls=[_control(item, catalog) for item in catalog.requirements if item.area == area.id],
    )


def _control(item: Requirement, catalog: Catalog) -> Node:
    withdrawn = [prop("status", "withdrawn", ns="")] if item.state is State.WITHDRAWN else []
    return filled(
        id=item.id,
        class_="requirement",
        title=line(item.title),
        params=[_param(item, param) for param in item.params],
        props=[
            prop("label", item.id, ns=""),
            *withdrawn,
            *props("alias", item.aliases),
            *optional(state=item.state, aspect=item.aspect, lifecycle=item.lifecycle),
            *props("kind", item.kinds),
            *props("conditional", item.conditional),
            *optional(applicability=item.applicability),
            *props("check", item.checks),
            *optional(provenance=item.provenance.status),
            *props("provenance-source", item.provenance.sources),
            *whole_title(item.title),
        ],
        links=[
            *(_link(name, "related", catalog) for name in item.refers_to),
            *(_link(name, "moved-to", catalog) for name in item.replaced_by),
        ],
        parts=[
            {"id": statement_id(item.id), "name": "statement", "prose": item.statement},
            _guidance(item),
            *(
                {"id": objective_id(item.id, objective.id), "name": "assessment-objective", "prose": objective.text}
                for objective in item.objectives
            ),
            *_methods(item, catalog),
            *(_question(item, question) for question in item.questions),
        ],
    )


def _link(name: str, rel: str, catalog: Catalog) -> Node:
    """A link to a control; where the text names it by an alias, the alias stands beside."""
    known = catalog.by_id.get(name)
    target = known.id if known else name
    return filled(href=f"#{target}", rel=rel, text=name if name != target else None)


def _guidance(item: Requirement) -> Node:
    guidance = item.guidance
    return {
        "id": f"{item.id}.guidance",
        "name": "guidance",
        "parts": [
            {"name": "do", "ns": NS, "prose": guidance.do},
            {"name": "example", "ns": NS, "prose": guidance.example},
            *({"name": "mistake", "ns": NS, "prose": text} for text in guidance.mistakes),
        ],
    }


def _methods(item: Requirement, catalog: Catalog) -> list[Node]:
    """How the evidence is looked at: tests where a test is demanded, examination of all else."""
    by_test = [item.wants_test and expected.type is EvidenceType.TEST_REPORT for expected in item.evidence]
    if not set(item.kinds) - {Kind.TEST}:
        by_test = [True] * len(item.evidence)
    objects: dict[bool, list[Node]] = {False: [], True: []}
    for position, expected in enumerate(item.evidence):
        objects[by_test[position]].append(_evidence(item, position + 1, expected, catalog))
    found = []
    for test, name in ((False, "examine"), (True, "test")):
        parts = []
        if objects[test]:
            parts.append({"name": "assessment-objects", "parts": objects[test]})
        if test and item.no_check_because:
            parts.append({"name": "no-check-because", "ns": NS, "prose": item.no_check_because})
        if parts or (item.wants_test if test else bool(set(item.kinds) - {Kind.TEST})):
            found.append(method_part(f"{item.id}.{name}", name.upper(), parts))
    return found


def _evidence(item: Requirement, position: int, expected: ExpectedEvidence, catalog: Catalog) -> Node:
    document = expected.document
    return filled(
        id=f"{item.id}.evidence.{position}",
        name="evidence",
        ns=NS,
        class_=expected.type,
        props=optional(document=document, max_age_days=expected.max_age_days),
        prose=expected.what,
        links=[{"href": f"#{document_uuid(catalog, document)}", "rel": "reference"}] if document else None,
    )


def _question(item: Requirement, question: Question) -> Node:
    return filled(
        id=f"{item.id}.question.{question.id}",
        name="question",
        ns=NS,
        class_=question.role,
        props=[
            prop("type", question.type),
            *props("option", question.options),
            *props("column", question.columns),
            *_labels(question.labels),
            *optional(unit=question.unit, show_if=question.show_if, fact=question.fact, label=question.label),
            *props("objective", question.objectives),
            *props("prefill", question.prefill),
        ],
        prose=question.text,
    )


def _labels(labels: Mapping[str, str]) -> list[Node]:
    """Stored words and how they are shown in another language."""
    return [prop("translation", word, remarks=shown) for word, shown in labels.items()]


def _param(item: Requirement, param: Param) -> Node:
    return filled(
        id=param_id(item.id, param.id),
        class_=param.type,
        props=[
            *optional(unit=param.unit, check=param.check),
            *(props("option", param.options) if any(line(word) != word for word in param.options) else ()),
            *_labels(param.labels),
            *whole_title(param.label),
        ],
        label=line(param.label),
        constraints=[{"description": _constraint(param)}],
        guidelines=[{"prose": _("Set by the developer before anything is measured, with the reason for it.")}],
        select={"how-many": "one", "choice": [line(word) for word in param.options]} if param.options else None,
    )


def _constraint(param: Param) -> str:
    """What may be set. The catalog sets no threshold."""
    unit = param.unit if param.unit not in {None, "1"} else ""
    said = {
        "interval": _("An interval of which one end may be open"),
        "number": _("A number"),
        "choice": _("One of the choices"),
        "text": _("A text"),
    }[param.type.value]
    return f"{said} ({unit})" if unit else said
