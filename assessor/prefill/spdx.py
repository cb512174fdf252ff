"""What an SPDX 3.0 document says of AI packages and data sets, as JSON-LD.

Field names: https://spdx.github.io/spdx-spec/v3.0.1/, profiles AI and Dataset.
"""

from __future__ import annotations

from collections.abc import Mapping

from assessor.errors import UsageError
from assessor.messages import _
from assessor.prefill.statements import (
    Facts,
    Statements,
    bullets,
    labelled,
    listed,
    mappings,
    row,
    scalar,
    scalars,
)

MOST = 25  # packages, data sets and linked elements that are looked at; no key keeps as many statements

Element = Mapping[str, object]

PROSE: Mapping[str, str] = {
    "ai_informationAboutApplication": "context",
    "ai_limitation": "limitations",
    "ai_modelDataPreprocessing": "preprocessing",
    "ai_modelExplainability": "explainability",
    "ai_informationAboutTraining": "hyperparameters",
}
"""Fields of an AI package that are prose, and their keys."""
USED_FOR = {"trainedOn": "training_data", "testedOn": "evaluation_data"}
UNITS = {"kilowattHour": "kWh", "megajoule": "MJ"}


def found_in_spdx(document: Mapping[str, object], name: str) -> Facts:
    """Statements of an SPDX document.

    Args:
        document: The parsed JSON.
        name: How origins and messages call the file.

    Returns:
        Statements by key.

    Raises:
        UsageError: It is SPDX of another version.
    """
    version = _version(document)
    if not version.startswith("3.0"):
        raise UsageError(
            _("{name}: found SPDX {version}, wanted SPDX 3.0 as JSON-LD", name=name, version=version or "?")
        )
    elements = mappings(document.get("@graph")) or [document]
    graph = _Graph(elements)
    found = Statements(_("SPDX document {name}", name=name))
    for element in [item for item in elements if item.get("type") == "ai_AIPackage"][:MOST]:
        _package(element, graph, found)
    for element in [item for item in elements if item.get("type") == "dataset_DatasetPackage"][:MOST]:
        _dataset(element, graph, found)
    return found.facts


def _version(document: Mapping[str, object]) -> str:
    if isinstance(document.get("spdxVersion"), str):  # SPDX 2 as JSON
        return scalar(document["spdxVersion"]).removeprefix("SPDX-")
    contexts = [text for text in scalars(document.get("@context")) if "spdx.org/rdf/" in text]
    return contexts[0].partition("spdx.org/rdf/")[2].partition("/")[0] if contexts else ""


class _Graph:
    """Elements by their identifiers, and what relationships say of them."""

    def __init__(self, elements: list[Element]) -> None:
        self._by_id = {scalar(item.get("spdxId") or item.get("@id")): item for item in elements}
        self.links: dict[tuple[str, str], list[str]] = {}
        for item in elements:
            if scalar(item.get("type")) in {"Relationship", "LifecycleScopedRelationship"}:
                kind, start = scalar(item.get("relationshipType")), scalar(item.get("from"))
                self.links.setdefault((start, kind), []).extend(scalars(item.get("to")))
                for end in scalars(item.get("to")):
                    self.links.setdefault((end, f"{kind}, inverse"), []).append(start)

    def resolved(self, value: object) -> list[Element]:
        """Elements, given whole or by their identifiers."""
        named = [self._by_id[text] for text in scalars(value) if text in self._by_id]
        return [*mappings(value), *named][:MOST]

    def linked(self, element: Element, kind: str) -> list[Element]:
        """Elements that a relationship leads to."""
        return self.resolved(self.links.get((scalar(element.get("spdxId")), kind), [])[:MOST])


def _label(element: Element) -> str:
    return " ".join(scalars(element.get("name")) + scalars(element.get("software_packageVersion")))


def _pairs(value: object, graph: _Graph) -> list[tuple[str, str]]:
    return [(scalar(item.get("key")), scalar(item.get("value"))) for item in graph.resolved(value)]


def _licences(element: Element, graph: _Graph) -> list[str]:
    found = []
    for kind in ("hasConcludedLicense", "hasDeclaredLicense"):
        for licence in graph.linked(element, kind):
            found += scalars(licence.get("simplelicensing_licenseExpression")) or scalars(licence.get("name"))
    return list(dict.fromkeys(found))


def _shared(element: Element, graph: _Graph, place: str, found: Statements) -> None:
    """What models and data sets both say."""
    licences = _licences(element, graph)
    found.add("licence", f"{_label(element)}: {listed(licences)}" if licences else "", place)
    found.add("contact", listed([_label(item) for item in graph.resolved(element.get("suppliedBy"))]), place)
    digests = [
        f"{_label(element)}, {scalar(item.get('algorithm'))} {scalar(item.get('hashValue'))}"
        for item in graph.resolved(element.get("verifiedUsing"))
        if scalar(item.get("hashValue"))
    ]
    found.add("source_revision", bullets(digests), place)


def _package(element: Element, graph: _Graph, found: Statements) -> None:
    label = _label(element)
    place = _("model {name}", name=label)

    def add(key: str, text: str) -> None:
        found.add(key, text, place)

    domain = labelled({_("domain"): listed(scalars(element.get("ai_domain")))})
    add("purpose", scalar(element.get("description")) or scalar(element.get("summary")) or domain)
    add("architecture", labelled({label or _("model"): listed(scalars(element.get("ai_typeOfModel")))}))
    add(
        "metrics",
        "\n".join(row(key, _("overall"), value) for key, value in _pairs(element.get("ai_metric"), graph) if value),
    )
    settings = _pairs(element.get("ai_hyperparameter"), graph)
    settings += [
        (_("decision threshold for {name}", name=key), value)
        for key, value in _pairs(element.get("ai_metricDecisionThreshold"), graph)
    ]
    add("hyperparameters", bullets(labelled({key: value}) for key, value in settings))
    for field, key in PROSE.items():
        texts = scalars(element.get(field))
        add(key, bullets(texts) if len(texts) > 1 else "".join(texts))
    add("energy", bullets(_energy(element, graph)))
    add("sensitive_data", _sensitive(label, element.get("ai_useSensitivePersonalInformation")))
    add("release", label if element.get("software_packageVersion") else "")
    add("dependencies", listed([_label(item) for item in graph.linked(element, "dependsOn")]))
    _shared(element, graph, place, found)


def _sensitive(label: str, value: object) -> str:
    said = scalar(value)
    return labelled({_("{name}, sensitive personal information", name=label): said}) if said else ""


def _energy(element: Element, graph: _Graph) -> list[str]:
    stages = {
        "ai_trainingEnergyConsumption": _("training"),
        "ai_finetuningEnergyConsumption": _("fine-tuning"),
        "ai_inferenceEnergyConsumption": _("inference"),
    }
    found = []
    for consumption in graph.resolved(element.get("ai_energyConsumption")):
        for field, stage in stages.items():
            for item in graph.resolved(consumption.get(field)):
                unit = scalar(item.get("ai_energyUnit"))
                found.append(
                    labelled({stage: f"{scalar(item.get('ai_energyQuantity'))} {UNITS.get(unit, unit)}".strip()})
                )
    return found


def _dataset(element: Element, graph: _Graph, found: Statements) -> None:
    place = _("data {name}", name=_label(element))
    about = {
        _("data set"): _label(element),
        _("kind"): listed(scalars(element.get("dataset_datasetType"))),
        _("contents"): scalar(element.get("description")),
        _("collected"): scalar(element.get("dataset_dataCollectionProcess")),
        _("size"): scalar(element.get("dataset_datasetSize")),
        _("noise"): scalar(element.get("dataset_datasetNoise")),
        _("intended use"): scalar(element.get("dataset_intendedUse")),
    }
    own = scalar(element.get("spdxId"))
    keys = [key for kind, key in USED_FOR.items() if (own, f"{kind}, inverse") in graph.links]
    for key in keys or ["training_data"]:
        found.add(key, labelled(about), place)
    found.add("preprocessing", bullets(scalars(element.get("dataset_dataPreprocessing"))), place)
    found.add("fairness", bullets(scalars(element.get("dataset_knownBias"))), place)
    anonymised = labelled({_("anonymised by"): listed(scalars(element.get("dataset_anonymizationMethodUsed")))})
    sensitive = _sensitive(_label(element), element.get("dataset_hasSensitivePersonalInformation"))
    found.add("sensitive_data", "; ".join(text for text in (sensitive, anonymised) if text), place)
    _shared(element, graph, place, found)
