"""What changed between two editions of a catalog, and what that does to answers given under the earlier one.

Editions are compared as plain data, since an earlier one may be of an older schema that the model no longer takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from assessor import yamlfile
from assessor.contract import Frozen
from assessor.criteria import load_catalog
from assessor.errors import ConfigurationError, UsageError
from assessor.messages import _
from assessor.model import Catalog

Plain = Mapping[str, Any]


class Edition(NamedTuple):
    """One edition of a catalog as plain data."""

    id: str
    version: str
    requirements: Mapping[str, Plain]


class What(StrEnum):
    """What happened to a requirement."""

    ADDED = "added"
    CHANGED = "changed"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


class Fate(StrEnum):
    """What becomes of an answer, mildest first."""

    STAYS = "stays"
    LOOK = "look"
    INCOMPLETE = "incomplete"
    AGAIN = "again"
    MOVED = "moved"
    ENDS = "ends"
    NEW = "new"


class Change(Frozen):
    """What changed in one requirement.

    Attributes:
        id: The requirement.
        title: Its title in the later edition that has it.
        what: What happened to it.
        fields: Names of the fields that differ.
        moved_to: Ids that took its place.
        answers: What becomes of an answer to it.
        because: Why, one sentence each.
    """

    id: str
    title: str
    what: What
    fields: tuple[str, ...] = ()
    moved_to: tuple[str, ...] = ()
    answers: Fate
    because: tuple[str, ...] = ()


# --- reading ---------------------------------------------------------------------------------------------------------

_REQUIREMENT: Plain = {
    "aliases": [],
    "state": "active",
    "replaced_by": [],
    "lifecycle": None,
    "conditional": [],
    "guidance": None,
    "objectives": [],
    "applicability": None,
    "params": [],
    "questions": [],
    "evidence": [],
    "refers_to": [],
    "checks": [],
    "no_check_because": None,
}
_QUESTION: Plain = {
    "options": [],
    "labels": {},
    "columns": [],
    "unit": None,
    "role": "developer",
    "show_if": None,
    "fact": None,
    "label": None,
    "objectives": [],
    "prefill": [],
}
_PARAM: Plain = {"options": [], "labels": {}, "unit": None, "check": None}
_EVIDENCE: Plain = {"document": None, "max_age_days": None}


def read_edition(folder: Path | None) -> Edition:
    """An edition from its folder, of whatever schema version, packs included.

    Args:
        folder: Holds catalog.yaml; None for the installed catalog.

    Returns:
        The edition.

    Raises:
        UsageError: There is no catalog.
        ConfigurationError: A file is no YAML of a catalog at all.
    """
    if folder is None:
        return edition_of(load_catalog(packs=load_catalog().head.packs))
    if not (folder / "catalog.yaml").is_file():
        raise UsageError(_("{folder}: no catalog.yaml here; wanted the folder of a catalog", folder=folder))
    head = yamlfile.read(folder / "catalog.yaml").data
    try:
        dimensions = [(dimension["id"], dimension["areas"]) for dimension in head["dimensions"]]
        for path in sorted(folder.glob("packs/*/pack.yaml")):
            dimension = yamlfile.read(path).data["dimension"]
            dimensions.append((f"packs/{path.parent.name}", dimension["areas"]))
        found: dict[str, Plain] = {}
        for place, areas in dimensions:
            for area in areas:
                for item in yamlfile.read(folder / place / f"{area['id']}.yaml").data["requirements"]:
                    found[item["id"]] = _filled(item)
        return Edition(str(head["id"]), str(head["version"]), found)
    except (KeyError, TypeError, AttributeError) as fault:
        raise ConfigurationError(
            _("{folder}: not readable as a catalog: {fault}", folder=folder, fault=fault)
        ) from fault


def edition_of(catalog: Catalog) -> Edition:
    """A loaded catalog as an edition."""
    requirements = {item.id: item.model_dump(mode="json") for item in catalog.requirements}
    return Edition(catalog.head.id, catalog.head.version, requirements)


def _filled(item: Plain) -> Plain:
    """A requirement as it stands in a file, with what may be left out."""
    found = {**_REQUIREMENT, **_stripped(item)}
    parts = {"questions": _QUESTION, "params": _PARAM, "evidence": _EVIDENCE}
    whole = {name: [{**missing, **part} for part in found[name]] for name, missing in parts.items()}
    return {**found, **whole, "provenance": {"sources": [], **found["provenance"]}}


def _stripped(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return {key: _stripped(item) for key, item in value.items()}
    return [_stripped(item) for item in value] if isinstance(value, list) else value


# --- comparing -------------------------------------------------------------------------------------------------------


class _Effect(NamedTuple):
    fate: Fate
    sentence: str


def compare(before: Edition, after: Edition) -> tuple[Change, ...]:
    """What changed.

    Args:
        before: The earlier edition.
        after: The later one.

    Returns:
        One change a requirement that differs: those that are gone or changed in the earlier order, then the new ones.
    """
    renamed = {alias: name for name, item in after.requirements.items() for alias in item["aliases"]}
    found = []
    for name, item in before.requirements.items():
        later = after.requirements.get(name)
        if item["state"] != "active" or (later is None and name in renamed):
            if later is None and name in renamed:
                found.append(_replaced(name, after.requirements[renamed[name]]["title"], (renamed[name],)))
        elif later is None or later["state"] != "active":
            replaced_by = tuple(later["replaced_by"]) if later else ()
            title = (later or item)["title"]
            found.append(_replaced(name, title, replaced_by) if replaced_by else _withdrawn(name, title))
        elif (change := _changed(name, item, later)) is not None:
            found.append(change)
    known = {name for name, item in before.requirements.items() if item["state"] == "active"}
    for name, item in after.requirements.items():
        if name not in known and item["state"] == "active" and not known & set(item["aliases"]):
            found.append(
                Change(id=name, title=item["title"], what=What.ADDED, answers=Fate.NEW, because=(_("to be answered"),))
            )
    return tuple(found)


def _replaced(name: str, title: str, moved_to: tuple[str, ...]) -> Change:
    because = _("moved to {ids}", ids=", ".join(moved_to))
    return Change(id=name, title=title, what=What.REPLACED, moved_to=moved_to, answers=Fate.MOVED, because=(because,))


def _withdrawn(name: str, title: str) -> Change:
    because = _("no longer asked, and nothing took its place")
    return Change(id=name, title=title, what=What.WITHDRAWN, answers=Fate.ENDS, because=(because,))


_FIELDS = (
    "title", "statement", "guidance", "objectives", "questions", "params", "evidence", "applicability", "kinds",
    "conditional", "checks", "no_check_because", "refers_to", "aspect", "lifecycle", "aliases", "provenance",
)  # fmt: skip


def _changed(name: str, before: Plain, after: Plain) -> Change | None:
    fields = tuple(field for field in _FIELDS if before.get(field) != after.get(field))
    if not fields:
        return None
    effects = list(_effects(before, after, fields))
    fate = max((effect.fate for effect in effects), key=list(Fate).index, default=Fate.STAYS)
    return Change(
        id=name,
        title=after["title"],
        what=What.CHANGED,
        fields=fields,
        answers=fate,
        because=tuple(effect.sentence for effect in effects),
    )


def _effects(before: Plain, after: Plain, fields: Sequence[str]) -> Iterator[_Effect]:
    if "questions" in fields:
        yield from _question_effects(_by_id(before["questions"]), _by_id(after["questions"]))
    if "params" in fields:
        yield from _param_effects(_by_id(before["params"]), _by_id(after["params"]))
    if "statement" in fields:
        yield _Effect(Fate.LOOK, _("the statement reads differently"))
    if "objectives" in fields:
        yield _Effect(Fate.LOOK, _("other objectives are established"))
    if "applicability" in fields:
        condition = after["applicability"]
        said = _("asked only when {condition}", condition=condition) if condition else _("now always asked")
        yield _Effect(Fate.LOOK, said)
    for kind in after["kinds"]:
        if kind not in before["kinds"]:
            yield _Effect(Fate.INCOMPLETE, _("now demands {kind} too", kind=kind))
    for check in after["checks"]:
        if check not in before["checks"]:
            yield _Effect(Fate.STAYS, _("measured by {check} too", check=check))
    if "evidence" in fields:
        yield _Effect(Fate.STAYS, _("other evidence is expected"))


def _by_id(parts: Sequence[Plain]) -> dict[str, Plain]:
    return {part["id"]: part for part in parts}


def _question_effects(before: Mapping[str, Plain], after: Mapping[str, Plain]) -> Iterator[_Effect]:
    """Questions to the developer decide on the answer; those to the auditor only ask for another look."""
    for name, question in before.items():
        if name not in after or after[name]["role"] != question["role"]:
            yield _weighed(question, Fate.AGAIN, _("question {name} went", name=name))
    for name, question in after.items():
        earlier = before.get(name)
        if earlier is None or earlier["role"] != question["role"]:
            yield _weighed(question, Fate.INCOMPLETE, _("question {name} is new", name=name))
            continue
        if earlier["type"] != question["type"]:
            said = _("question {name} takes {form} instead of {earlier}", name=name, form=question["type"],
                     earlier=earlier["type"])  # fmt: skip
            yield _weighed(question, Fate.AGAIN, said)
            continue
        for field in ("options", "columns"):
            if gone := [word for word in earlier[field] if word not in question[field]]:
                said = _("question {name} lost {words}", name=name, words=", ".join(gone))
                yield _weighed(question, Fate.AGAIN, said)
            elif earlier[field] != question[field]:
                yield _weighed(question, Fate.LOOK, _("question {name} takes more words", name=name))
        if earlier["unit"] != question["unit"]:
            yield _weighed(question, Fate.AGAIN, _("question {name} is in another unit", name=name))
        if earlier["text"] != question["text"]:
            yield _weighed(question, Fate.LOOK, _("question {name} reads differently", name=name))
        if earlier["show_if"] != question["show_if"]:
            yield _weighed(question, Fate.LOOK, _("question {name} is asked under another condition", name=name))


def _weighed(question: Plain, fate: Fate, sentence: str) -> _Effect:
    if question["role"] == "auditor":
        return _Effect(Fate.STAYS, _("auditor: {sentence}", sentence=sentence))
    return _Effect(fate, sentence)


def _param_effects(before: Mapping[str, Plain], after: Mapping[str, Plain]) -> Iterator[_Effect]:
    for name in before:
        if name not in after:
            yield _Effect(Fate.AGAIN, _("target {name} went", name=name))
    for name, param in after.items():
        earlier = before.get(name)
        if earlier is None:
            yield _Effect(Fate.INCOMPLETE, _("target {name} is new", name=name))
        elif any(earlier[field] != param[field] for field in ("type", "unit")) or set(earlier["options"]) - set(
            param["options"]
        ):
            yield _Effect(Fate.AGAIN, _("target {name} is of another form", name=name))
        elif earlier["label"] != param["label"]:
            yield _Effect(Fate.LOOK, _("target {name} reads differently", name=name))


def told(change: Change) -> str:
    """What becomes of answers, in one sentence.

    >>> told(Change(id="A", title="a", what=What.CHANGED, answers=Fate.AGAIN, because=("question q2 went",)))
    'answer again: question q2 went'
    """
    said = {
        Fate.STAYS: _("answers stay"),
        Fate.LOOK: _("answers stay, look again"),
        Fate.INCOMPLETE: _("answers stay, complete them"),
        Fate.AGAIN: _("answer again"),
        Fate.MOVED: "",
        Fate.ENDS: "",
        Fate.NEW: "",
    }[change.answers]
    because = "; ".join(change.because)
    return f"{said}: {because}" if said and because else said or because
