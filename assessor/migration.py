"""An assessment from the catalog version it follows to the installed one. Nothing that somebody said is lost.

Verdicts, reasons and evidence stay. A reply that has no question any more, or no longer fits it, moves into the
reason, marked as an earlier reply. An answer to a withdrawn requirement moves to what replaced it, and evidence then
serves that; what has no place left is set aside in a file of its own, `answers/withdrawn.yaml.txt`, which nothing
reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from assessor import yamlfile
from assessor.catalog_diff import Edition
from assessor.contract import Frozen
from assessor.errors import UsageError
from assessor.messages import _
from assessor.model import Answer, Answers, Audit, Audits, Catalog, Register, Requirement
from assessor.project import CONFIGURATION, EVIDENCE, SUMMARY, Project, current_user
from assessor.succession import Adapted, Rules, merged

ASIDE = "withdrawn.yaml.txt"


class Step(Frozen):
    """What becomes of one answer or audit, or of a requirement that the register of evidence names.

    Attributes:
        folder: answers, audit or evidence.
        id: The requirement it was given for.
        to: Ids it now stands under; empty when it was set aside.
        notes: What was moved into its reason, and why; of evidence the names of the files.
        unanswered: Questions without a condition that have no reply there, as `<requirement>.<question>`.
    """

    folder: str
    id: str
    to: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """kept, changed, moved or set aside."""
        if not self.to:
            return "set aside"
        return "moved" if self.to != (self.id,) else "changed" if self.notes else "kept"


class Plan(NamedTuple):
    """What a migration will do.

    Attributes:
        before: Version the assessment follows.
        after: Version that is installed.
        steps: One an answer or audit.
        files: New contents by relative path; empty when there is nothing to do.
    """

    before: str
    after: str
    steps: tuple[Step, ...]
    files: Mapping[str, bytes]


def migrate(
    project: Project, catalog: Catalog, earlier: Edition | None = None, *, by: str = "", dry_run: bool = False
) -> Plan:
    """Bring an assessment to the installed catalog, in one recorded step.

    Args:
        project: The folder.
        catalog: The installed one, in English, with the packs that the assessment switched on.
        earlier: The edition it follows, where it is at hand: then replies to unchanged questions need no mark.
        by: Who does it; default the user of this process.
        dry_run: Only say what would be done.

    Returns:
        What was done.

    Raises:
        UsageError: It follows another catalog or a later version, or `earlier` is not the edition it follows.
        ConfigurationError: A file has faults.
    """
    with project.lock():
        plan = planned(project, catalog, earlier)
        if plan.files and not dry_run:
            counts = [f"{sum(step.what == what for step in plan.steps)} {what}" for what in _WORDS]
            project.commit(
                plan.files,
                actor=by or current_user(),
                action=f"migrate {plan.before} to {plan.after}",
                because=", ".join(counts),
            )
    return plan


_WORDS = ("kept", "changed", "moved", "set aside")


def planned(project: Project, catalog: Catalog, earlier: Edition | None = None) -> Plan:
    """What a migration would do.

    Args:
        project: The folder.
        catalog: The installed one.
        earlier: The edition it follows, if at hand.

    Returns:
        The plan.

    Raises:
        UsageError: See `migrate`.
    """
    followed = project.configuration().catalog
    before, after = followed.version, catalog.head.version
    if followed.id != catalog.head.id:
        raise UsageError(
            _(
                "assessor.yaml catalog.id: found '{found}', installed is '{wanted}'; there is no way between catalogs",
                found=followed.id,
                wanted=catalog.head.id,
            )
        )
    if _number(before) > _number(after):
        raise UsageError(
            _(
                "assessor.yaml catalog.version: found {found}, later than the installed {wanted}; update the program",
                found=before,
                wanted=after,
            )
        )
    if earlier is not None and (earlier.id, earlier.version) != (followed.id, before):
        found = f"{earlier.id} {earlier.version}"
        raise UsageError(_("--from: found {found}, wanted {wanted}", found=found, wanted=f"{followed.id} {before}"))
    if before == after:
        return Plan(before, after, (), {})
    rules = Rules(catalog, before, earlier)
    answers = _folder(project, "answers", Answers, rules, rules.answer)
    audits = _folder(project, "audit", Audits, rules, rules.audit)
    path = project.folder / CONFIGURATION
    text = yamlfile.set_entry(
        yamlfile.decoded(path.read_bytes(), CONFIGURATION), "catalog", "version", after, CONFIGURATION
    )
    register = _register(project, rules)
    files = {**answers.files, **audits.files, **register.files, CONFIGURATION: text.encode()}
    return Plan(before, after, (*answers.steps, *audits.steps, *register.steps), files)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


# --- files -----------------------------------------------------------------------------------------------------------


class _Moved(NamedTuple):
    files: dict[str, bytes]
    steps: list[Step]


def _folder(
    project: Project,
    folder: str,
    model: type[Answers] | type[Audits],
    rules: Rules,
    adapt: Callable[[str, Any, Requirement, Sequence[str]], Adapted],
) -> _Moved:
    """All entries of answers/ or audit/ brought to the installed catalog; refused where one stands twice."""
    texts: dict[str, str] = {}
    homes: dict[str, tuple[str, Any]] = {}
    for path in sorted((project.folder / folder).glob("*.yaml")):
        name = f"{folder}/{path.name}"
        if name == SUMMARY:
            continue
        texts[name] = yamlfile.decoded(path.read_bytes(), name)
        document = yamlfile.parse(texts[name], name)
        entries = {} if document.data is None else yamlfile.validate(document, model).root
        for key, entry in entries.items():
            if key in homes:
                raise UsageError(
                    _(
                        "{file}:{line} {key}: stands in {other} too; keep one",
                        file=name,
                        line=document.lines[(key,)],
                        key=key,
                        other=homes[key][0],
                    )
                )
            homes[key] = (name, entry)
    steps: list[Step] = []
    wanted: dict[str, Any] = {}
    aside: dict[str, Any] = {}
    for name, (_file, entry) in sorted(homes.items(), key=lambda item: rules.order(item[0])):
        places = rules.places(name)
        if not places:
            aside[name] = entry
            steps.append(Step(folder=folder, id=name, to=()))
            continue
        ids = tuple(place.id for place in places)
        notes: dict[str, None] = {}
        for place in places:
            adapted = adapt(name, entry, place, ids)
            notes |= dict.fromkeys(adapted.notes)
            met = wanted.get(place.id)
            wanted[place.id] = adapted.entry if met is None else merged(met, adapted.entry, name)
        missing = [text for place in places for text in _unanswered(place, wanted[place.id])]
        steps.append(Step(folder=folder, id=name, to=ids, notes=tuple(notes), unanswered=tuple(missing)))
    return _Moved(_rewritten(project, folder, texts, homes, _Fate(wanted, aside), rules), steps)


def _unanswered(requirement: Requirement, entry: Answer | Audit) -> Iterator[str]:
    if isinstance(entry, Answer) and not entry.same_as:
        for question in requirement.for_developer:
            if question.show_if is None and question.id not in entry.replies:
                yield f"{requirement.id}.{question.id}"


class _Fate(NamedTuple):
    """What stands where in the end.

    Attributes:
        wanted: Entries by the id they now stand under.
        aside: Entries without a place, by their old id.
    """

    wanted: Mapping[str, Any]
    aside: Mapping[str, Any]


def _rewritten(
    project: Project,
    folder: str,
    texts: Mapping[str, str],
    homes: Mapping[str, tuple[str, Any]],
    fate: _Fate,
    rules: Rules,
) -> dict[str, bytes]:
    """Files that change: entries that stay as they are keep their text, comments and place."""
    changed = dict(texts)
    places = {name: f"{folder}/{rules.catalog.by_id[name].area}.yaml" for name in fate.wanted}
    for name, (file, _entry) in homes.items():
        if places.get(name) != file:
            changed[file] = without_key(changed[file], name, file)
    for name, entry in fate.wanted.items():
        file = places[name]
        if homes.get(name) != (file, entry):
            changed[file] = yamlfile.set_key(changed.get(file, ""), name, _plain(entry), file)
    if fate.aside:
        changed |= _set_aside(project, folder, {name: _plain(entry) for name, entry in fate.aside.items()}, rules)
    return {name: text.encode() for name, text in changed.items() if text != texts.get(name)}


def _set_aside(project: Project, folder: str, entries: Mapping[str, Any], rules: Rules) -> dict[str, str]:
    """The file of what has no place any more, with these entries; nothing reads it."""
    file = f"{folder}/{ASIDE}"
    path = project.folder / file
    text = yamlfile.decoded(path.read_bytes(), file) if path.is_file() else ""
    kept = yamlfile.parse(text, file).data or {}
    for name, entry in entries.items():
        key = name if name not in kept else f"{name} ({rules.before})"
        text = yamlfile.set_key(text, key, entry, file)
    return {file: text}


def _register(project: Project, rules: Rules) -> _Moved:
    """The register with its requirements under their present ids; those that have no place are set aside."""
    path = project.folder / EVIDENCE
    text = yamlfile.decoded(path.read_bytes(), EVIDENCE) if path.is_file() else ""
    document = yamlfile.parse(text, EVIDENCE)
    register = {} if document.data is None else yamlfile.validate(document, Register).root
    served: dict[str, dict[str, str]] = {}
    changed = text
    for digest, item in register.items():
        ids = tuple(dict.fromkeys(place.id for name in item.requirements for place in rules.places(name)))
        if ids != item.requirements:
            changed = yamlfile.set_entry(changed, digest, "requirements", list(ids), EVIDENCE)
        for name in item.requirements:
            served.setdefault(name, {})[digest] = item.name
    places = {name: tuple(place.id for place in rules.places(name)) for name in sorted(served, key=rules.order)}
    steps = [
        Step(folder="evidence", id=name, to=ids, notes=tuple(served[name].values()))
        for name, ids in places.items()
        if ids != (name,)
    ]
    files = {EVIDENCE: changed} if changed != text else {}
    if aside := {name: served[name] for name, ids in places.items() if not ids}:
        files |= _set_aside(project, "evidence", aside, rules)
    return _Moved({name: content.encode() for name, content in files.items()}, steps)


def _plain(entry: Answer | Audit) -> dict[str, Any]:
    data: dict[str, Any] = entry.model_dump(mode="json", exclude_defaults=True)
    return data


def without_key(text: str, key: str, name: str) -> str:
    """The text without one top-level key; every other line, comments too, stays as it is.

    Args:
        text: A YAML mapping that has the key.
        key: Top-level key.
        name: File name for messages.

    Returns:
        The new text; written anew, without comments, where the lines cannot be told apart.
    """
    document = yamlfile.parse(text, name)
    rest = {other: value for other, value in document.data.items() if other != key}
    lines = text.splitlines(keepends=True)
    start = document.lines[(key,)] - 1
    following = [line - 1 for path, line in document.lines.items() if len(path) == 1 and line - 1 > start]
    end = min(following, default=len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    shorter = "".join([*lines[:start], *lines[end:]])
    try:
        fits = (yamlfile.parse(shorter, name).data or {}) == rest
    except UsageError:
        fits = False
    return shorter if fits else yamlfile.dump(rest) if rest else ""
