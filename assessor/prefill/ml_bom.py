"""What a machine-learning bill of materials says: CycloneDX 1.5 to 1.7 (ECMA-424), as JSON.

Field names: https://cyclonedx.org/docs/1.6/json/#components_items_modelCard.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping

from assessor.errors import UsageError
from assessor.messages import _, plural
from assessor.prefill.statements import (
    Facts,
    Statements,
    bullets,
    labelled,
    listed,
    mappings,
    member,
    row,
    scalar,
    scalars,
)

VERSIONS = ("1.5", "1.6", "1.7")
MODEL = "machine-learning-model"
LIBRARIES = frozenset({"library", "framework"})
MOST = 25  # models, data sets, and data sets of a model that are looked at; no key keeps as many statements
PARTS = frozenset({MODEL, "application", "container", "platform", "operating-system", "device", "firmware"})
_HYPERPARAMETER = re.compile(r"hyper.?param", re.IGNORECASE)

Entry = Mapping[str, object]


def found_in_ml_bom(document: Mapping[str, object], name: str) -> Facts:
    """Statements of a bill of materials.

    Args:
        document: The parsed JSON.
        name: How origins and messages call the file.

    Returns:
        Statements by key.

    Raises:
        UsageError: Its version is not supported.
    """
    version = scalar(document.get("specVersion"))
    if version not in VERSIONS:
        raise UsageError(
            _(
                "{name}: found CycloneDX {version}, wanted {wanted}",
                name=name,
                version=version or "?",
                wanted=", ".join(VERSIONS),
            )
        )
    found = Statements(_("bill of materials {name}", name=name))
    components = list(_components(document))
    references = {scalar(entry.get("bom-ref")): entry for entry in components if entry.get("bom-ref")}
    for entry in [item for item in components if _type(item) == MODEL][:MOST]:
        _model(entry, references, found)
    for entry in [item for item in components if _type(item) == "data"][:MOST]:
        _data(entry, found)
    _whole(document, components, found)
    return found.facts


def _components(document: Mapping[str, object]) -> Iterator[Entry]:
    """All components, the described one first, those inside others after them."""
    waiting = deque([*mappings(member(document, "metadata", "component")), *mappings(document.get("components"))])
    while waiting:
        entry = waiting.popleft()
        yield entry
        waiting += mappings(entry.get("components"))


def _type(entry: Entry) -> str:
    return scalar(entry.get("type"))


def _label(entry: Entry) -> str:
    return " ".join(text for text in (scalar(entry.get("name")), scalar(entry.get("version"))) if text)


def _licences(entry: Entry) -> str:
    found = []
    for item in mappings(entry.get("licenses")):
        licence = item.get("license")
        found += scalars(item.get("expression")) or scalars(member(licence, "id")) or scalars(member(licence, "name"))
    return ", ".join(dict.fromkeys(found))


def _supplier(entry: Entry) -> str:
    for field in ("supplier", "manufacturer", "publisher", "author", "group"):
        value = entry.get(field)
        if name := scalar(member(value, "name") if isinstance(value, Mapping) else value):
            return name
    return ""


# --- a model ----------------------------------------------------------------------------------------------------------


def _model(entry: Entry, references: Mapping[str, Entry], found: Statements) -> None:
    card, label = entry.get("modelCard"), _label(entry)
    parameters, considered = member(card, "modelParameters"), member(card, "considerations")
    place = _("model {name}", name=label)

    def add(key: str, text: str) -> None:
        found.add(key, text, place)

    add("purpose", bullets(scalars(member(considered, "useCases"))))
    add("purpose", scalar(entry.get("description")))
    add("users", bullets(scalars(member(considered, "users"))))
    add("limitations", bullets(_texts(considered, "technicalLimitations", "performanceTradeoffs")))
    add("architecture", _architecture(label, parameters))
    formats = [(_("input"), member(parameters, "inputs")), (_("output"), member(parameters, "outputs"))]
    add("inputs_outputs", bullets(f"{side}: {text}" for side, value in formats for text in _formats(value)))
    add("metrics", "\n".join(_metrics(card)))
    for dataset in mappings(member(parameters, "datasets"))[:MOST]:
        _dataset(references.get(scalar(dataset.get("ref")), dataset), place, found)
    add("fairness", bullets(map(_fairness, mappings(member(considered, "fairnessAssessments")))))
    add("ethics", bullets(map(_ethics, mappings(member(considered, "ethicalConsiderations")))))
    consumed = mappings(member(considered, "environmentalConsiderations", "energyConsumptions"))
    add("energy", bullets(map(_energy, consumed)))
    add("carbon", bullets(map(_carbon, consumed)))
    add("hyperparameters", bullets([*_hyperparameters(entry), *_hyperparameters(card)]))
    _origins(entry, label, place, found)


def _texts(value: object, *names: str) -> list[str]:
    return [text for name in names for text in scalars(member(value, name))]


def _formats(value: object) -> list[str]:
    return [text for item in mappings(value) for text in scalars(item.get("format"))]


def _architecture(label: str, parameters: object) -> str:
    said = {
        _("family"): scalar(member(parameters, "architectureFamily")),
        _("architecture"): scalar(member(parameters, "modelArchitecture")),
        _("learning"): scalar(member(parameters, "approach", "type")),
        _("task"): scalar(member(parameters, "task")),
    }
    return labelled({_("model"): label, **said}) if any(said.values()) else ""


def _metrics(card: object) -> Iterator[str]:
    """Rows `metric | part of the data | value with interval`."""
    for metric in mappings(member(card, "quantitativeAnalysis", "performanceMetrics")):
        value = scalar(metric.get("value"))
        low, high = (scalar(member(metric, "confidenceInterval", end)) for end in ("lowerBound", "upperBound"))
        interval = f" [{low}, {high}]" if low and high else ""
        if value:
            yield row(scalar(metric.get("type")), scalar(metric.get("slice")) or _("overall"), value + interval)


def _fairness(entry: Entry) -> str:
    return labelled(
        {
            _("group at risk"): scalar(entry.get("groupAtRisk")),
            _("harms"): scalar(entry.get("harms")),
            _("benefits"): scalar(entry.get("benefits")),
            _("mitigation"): scalar(entry.get("mitigationStrategy")),
        }
    )


def _ethics(entry: Entry) -> str:
    name, mitigation = scalar(entry.get("name")), scalar(entry.get("mitigationStrategy"))
    return f"{name} ({_('mitigation')}: {mitigation})" if name and mitigation else name or mitigation


def _amount(value: object) -> str:
    number, unit = scalar(member(value, "value")), scalar(member(value, "unit"))
    return f"{number} {unit}".strip() if number else ""


def _energy(entry: Entry) -> str:
    amount = _amount(entry.get("activityEnergyCost"))
    providers = mappings(entry.get("energyProviders"))
    sources = [f"{scalar(item.get('name'))} ({scalar(item.get('energySource'))})" for item in providers]
    return (
        labelled({scalar(entry.get("activity")) or _("energy"): amount, _("source"): listed(sources)}) if amount else ""
    )


def _carbon(entry: Entry) -> str:
    amount = _amount(entry.get("co2CostEquivalent"))
    offset = _amount(entry.get("co2CostOffset"))
    return labelled({scalar(entry.get("activity")) or _("emissions"): amount, _("offset"): offset}) if amount else ""


def _hyperparameters(value: object) -> Iterator[str]:
    for item in mappings(member(value, "properties")):
        if _HYPERPARAMETER.search(scalar(item.get("name"))):
            yield labelled({scalar(item.get("name")): scalar(item.get("value"))})


def _origins(entry: Entry, label: str, place: str, found: Statements) -> None:
    """Licence, supplier, version, digests and what the model was made from."""
    licences = _licences(entry)
    found.add("licence", f"{label}: {licences}" if licences else "", place)
    found.add("contact", _supplier(entry), place)
    found.add("release", label if entry.get("version") else "", place)
    digests = [
        f"{label}, {scalar(item.get('alg'))} {scalar(item.get('content'))}"
        for item in mappings(entry.get("hashes"))
        if scalar(item.get("content"))
    ]
    commits = [
        " ".join(scalars(item.get("uid")) + scalars(item.get("url")))
        for item in mappings(member(entry, "pedigree", "commits"))
    ]
    found.add("source_revision", bullets([*digests, *commits]), place)
    ancestors = [item for item in mappings(member(entry, "pedigree", "ancestors")) if _label(item)]
    found.add("base_model", "\n".join(row(_label(item), _supplier(item), _licences(item)) for item in ancestors), place)


# --- data -------------------------------------------------------------------------------------------------------------


def _data(entry: Entry, found: Statements) -> None:
    place = _("data {name}", name=_label(entry))
    _dataset(entry, place, found)
    licences = _licences(entry)
    found.add("licence", f"{_label(entry)}: {licences}" if licences else "", place)


def _dataset(entry: Entry, place: str, found: Statements) -> None:
    """One data set, as a component of type data or inside a model card."""
    parts = mappings(entry.get("data"))[:MOST] or [entry]
    for part in parts:
        name = scalar(part.get("name")) or _label(entry)
        sensitive = listed(scalars(part.get("sensitiveData")))
        about = {
            _("contents"): scalar(part.get("description")) or scalar(entry.get("description")),
            _("classification"): scalar(part.get("classification")),
            _("sensitive data"): sensitive,
            _("held by"): ", ".join(_governors(part.get("governance"))),
            _("from"): scalar(member(part, "contents", "url")),
        }
        if name:
            found.add("training_data", labelled({_("data set"): name, **about}), place)
            found.add("sensitive_data", labelled({name: sensitive}), place)


def _governors(value: object) -> list[str]:
    people = [item for role in ("owners", "stewards", "custodians") for item in mappings(member(value, role))]
    names = (scalar(member(item, kind, "name")) for item in people for kind in ("organization", "contact"))
    return list(dict.fromkeys(name for name in names if name))


# --- the whole --------------------------------------------------------------------------------------------------------


def _whole(document: Mapping[str, object], components: list[Entry], found: Statements) -> None:
    """What the file says of the system: its parts, its libraries, the component it describes."""
    parts = [entry for entry in components if _type(entry) in PARTS and _label(entry)]
    rows = [
        row(
            _label(entry),
            scalar(entry.get("description")) or scalar(member(entry, "modelCard", "modelParameters", "task")),
            _("AI") if _type(entry) == MODEL else _("conventional"),
            _supplier(entry),
        )
        for entry in parts
    ]
    for service in mappings(document.get("services")):
        if _label(service):
            maker = scalar(member(service, "provider", "name"))
            rows.append(row(_label(service), scalar(service.get("description")), _("service"), maker))
    found.add("components", "\n".join(rows))
    libraries = [_label(entry) for entry in components if _type(entry) in LIBRARIES and _label(entry)]
    if libraries:
        listing = plural("{n} library: {names}", "{n} libraries: {names}", len(libraries), names=listed(libraries))
        found.add("dependencies", listing)
    for entry in mappings(member(document, "metadata", "component")):
        if _type(entry) != MODEL:
            found.add("purpose", scalar(entry.get("description")), _label(entry))
            _origins(entry, _label(entry), _label(entry), found)
