"""Evidence: added to the register, withheld and released, and looked at again against its digests and dates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from assessor.canonical import sha256_hex
from assessor.contract import Frozen
from assessor.errors import UsageError, nearest
from assessor.evidence_files import measured, read_plain, refuse_name
from assessor.evidence_formats import LARGEST as READABLE
from assessor.evidence_formats import Reading, imported, read
from assessor.messages import _
from assessor.model import Answer, Catalog, Classification, Evidence, EvidenceRef, EvidenceType
from assessor.project import Project, evidence_item, now

SHORTEST_DIGEST = 6  # signs of a digest that may stand for the whole

Standing = Literal["intact", "missing", "changed", "elsewhere", "withheld", "expired", "orphaned"]
BROKEN: tuple[Standing, ...] = ("missing", "changed")


class Details(Frozen):
    """What is said of evidence when it is added; what is left out stays as it was, or is told from the file.

    Attributes:
        type: Its form.
        title: What it is.
        document: Which document of the catalog's list it is.
        owner: Who answers for it.
        classification: Who may see it.
        collected: Day it was made or obtained.
        expires: Last day it holds.
        withheld: Why its content is not handed on.
        uri: Where the content lies, for what is not copied.
    """

    type: EvidenceType | None = None
    title: str | None = None
    document: str | None = None
    owner: str | None = None
    classification: Classification | None = None
    collected: date | None = None
    expires: date | None = None
    withheld: str | None = None
    uri: str | None = None


class Item(NamedTuple):
    """A piece of evidence with its digest."""

    sha256: str
    evidence: Evidence


class Found(NamedTuple):
    """What looking at one piece of evidence found.

    Attributes:
        id: Its digest.
        name: Its file's name.
        standing: How it stands.
        sentence: The same for people.
    """

    id: str
    name: str
    standing: Standing
    sentence: str


# --- adding ----------------------------------------------------------------------------------------------------------


def add(
    project: Project,
    catalog: Catalog,
    paths: Sequence[Path],
    *,
    requirements: Sequence[str],
    details: Details,
    by: str,
    plain: bool = False,
) -> list[Item]:
    """Put files into the register, and their content into the folder unless it is kept elsewhere.

    A file that is registered already keeps its name and gains requirements and details.

    Args:
        project: The folder.
        catalog: The requirements.
        paths: The files.
        requirements: Ids that all of them serve.
        details: What is said of all of them.
        by: Who adds them.
        plain: Whether to read nothing from them, be they of a known format or not.

    Returns:
        The items as they are now.

    Raises:
        UsageError: A file, an id or a detail is not fit; then nothing is added.
    """
    served = [_requirement(name, catalog) for name in requirements]
    if details.document is not None and catalog.document(details.document) is None:
        known_ids = [item.id for item in catalog.head.documents]
        raise UsageError(
            _("--document: found '{text}', wanted one of: {wanted}", text=details.document, wanted=", ".join(known_ids))
        )
    if details.uri is not None and len(paths) > 1:
        raise UsageError(_("--reference: found {n} files, wanted one: an address leads to one file", n=len(paths)))
    register = project.evidence(catalog)
    items: dict[str, Evidence] = {}
    contents: dict[str, bytes] = {}
    for path in paths:
        found = _read(path, referenced=details.uri is not None)
        digest = found.sha256
        known, new = items.get(digest) or register.get(digest), _new(path, found, by, plain=plain)
        item = known.model_copy(update={"provenance": known.provenance or new.provenance}) if known else new
        items[digest] = _described(item, details, served, str(path))
        if details.uri is None and found.content is not None and not _is_intact(project, digest, item):
            contents[digest] = found.content
    told = ", ".join(item.name for item in items.values())
    project.save_evidence(
        items, contents, actor=by, action=f"evidence add {told}", because=_("for {ids}", ids=", ".join(served))
    )
    return [Item(digest, item) for digest, item in items.items()]


def _requirement(name: str, catalog: Catalog) -> str:
    found = catalog.by_id.get(name)
    if found is None:
        raise UsageError(_("--for: no requirement '{name}'", name=name) + nearest(name, catalog.by_id))
    return found.id


class _Content(NamedTuple):
    """A file as it was read; no content where it is kept elsewhere and is not small."""

    sha256: str
    size: int
    content: bytes | None


def _read(path: Path, *, referenced: bool) -> _Content:
    if referenced and path.is_file() and path.stat().st_size > max(READABLE.values()):
        refuse_name(path, str(path))
        return _Content(*measured(path, str(path)), None)
    content = read_plain(path, str(path))
    return _Content(sha256_hex(content), len(content), content)


def _new(path: Path, found: _Content, by: str, *, plain: bool) -> Evidence:
    """An item for a file that is not registered yet, with what the file says of itself."""
    today = now().date()
    item = evidence_item(path.name, found.size, by=by, at=now(), collected=today)
    said = None if plain or found.content is None else _said(found.content, path)
    if said is None or found.content is None:
        return item
    report = imported(found.content, said)
    collected = min(report.made or today, today)
    return item.model_copy(update={"type": said.type, "provenance": report, "collected": collected})


def _said(content: bytes, path: Path) -> Reading | None:
    try:
        return read(content, path.name)
    except UsageError as fault:
        hint = _("to keep the file without reading it, add  --plain")
        raise UsageError(f"{fault}\n{hint}") from fault


def _is_intact(project: Project, digest: str, item: Evidence | EvidenceRef) -> bool:
    try:
        return measured(project.evidence_path(digest, item), item.name).sha256 == digest
    except UsageError:
        return False


def _described(item: Evidence, details: Details, served: Iterable[str], shown: str) -> Evidence:
    """An item with what is said of it, checked as if it had been read from the register."""
    said: dict[str, Any] = details.model_dump(exclude_none=True)
    said["requirements"] = tuple(dict.fromkeys([*item.requirements, *served]))
    return _changed(item, said | (_silenced(item) if details.withheld else {}), shown)


def _silenced(item: Evidence) -> dict[str, Any]:
    """The change that takes what an import told of the content out of the register."""
    if item.provenance is None:
        return {}
    return {"provenance": item.provenance.model_copy(update={"findings": ()}).model_dump()}


def _changed(item: Evidence, changes: Mapping[str, Any], shown: str) -> Evidence:
    try:
        return Evidence.model_validate({**item.model_dump(), **changes})
    except ValidationError as faults:
        told = [f"{fault['loc'][0]}: found {fault['input']!r}: {fault['msg']}" for fault in faults.errors()]
        raise UsageError(f"{shown}: {'; '.join(told)}") from faults


# --- withholding -----------------------------------------------------------------------------------------------------


def withhold(project: Project, catalog: Catalog, which: str, *, because: str, by: str) -> Item:
    """Mark that the content of a piece of evidence is not handed on; its digest stays for all to see.

    What an import told of the content leaves the register with it.

    Args:
        project: The folder.
        catalog: The requirements.
        which: Name, or the beginning of the digest.
        because: Why.
        by: Who says so.

    Returns:
        The item as it is now.

    Raises:
        UsageError: There is no such evidence, or the reason is missing.
    """
    if not because.strip():
        raise UsageError(_("--because: found nothing, wanted the reason why the content is not handed on"))
    item = find(project.evidence(catalog), which)
    changes = {"withheld": because, **_silenced(item.evidence)}
    return _saved(project, item, changes, by=by, action="withhold", because=because)


def release(project: Project, catalog: Catalog, which: str, *, by: str) -> Item:
    """Take a mark back that the content of a piece of evidence is not handed on.

    Args:
        project: The folder.
        catalog: The requirements.
        which: Name, or the beginning of the digest.
        by: Who says so.

    Returns:
        The item as it is now.

    Raises:
        UsageError: There is no such evidence, it is not withheld, or its content is not here.
    """
    item = find(project.evidence(catalog), which)
    if not item.evidence.withheld:
        raise UsageError(_("{name} is not withheld", name=item.evidence.name))
    if item.evidence.uri is None and not _is_intact(project, item.sha256, item.evidence):
        raise UsageError(
            _(
                "{name}: its content is not in this folder; add the file again with  assessor evidence add",
                name=item.evidence.name,
            )
        )
    changes = {"withheld": "", **_told_again(project, item)}
    return _saved(project, item, changes, by=by, action="release", because="")


def _told_again(project: Project, item: Item) -> dict[str, Any]:
    """What an import told of the content, read anew where the content is here."""
    path = project.evidence_path(item.sha256, item.evidence)
    if item.evidence.provenance is None or not path.is_file():
        return {}
    content = path.read_bytes()
    said = read(content, path.name)
    return {"provenance": imported(content, said).model_dump()} if said else {}


def _saved(project: Project, item: Item, changes: Mapping[str, Any], *, by: str, action: str, because: str) -> Item:
    changed = _changed(item.evidence, changes, item.evidence.name)
    project.save_evidence(
        {item.sha256: changed}, {}, actor=by, action=f"evidence {action} {changed.name}", because=because
    )
    return Item(item.sha256, changed)


def find(register: Mapping[str, Evidence], which: str) -> Item:
    """A piece of evidence by its name or the beginning of its digest.

    Args:
        register: By digest.
        which: Name or digest.

    Returns:
        The item.

    Raises:
        UsageError: None is called so, or several are.
    """
    by_digest = len(which) >= SHORTEST_DIGEST
    matches = [
        Item(digest, item)
        for digest, item in register.items()
        if item.name == which or (by_digest and digest.startswith(which.lower()))
    ]
    if not matches:
        names = [item.name for item in register.values()]
        raise UsageError(_("no evidence '{which}' in evidence.yaml", which=which) + nearest(which, names))
    if len(matches) > 1:
        digests = ", ".join(match.sha256[:16] for match in matches)
        raise UsageError(_("'{which}' may be {digests}; give the digest", which=which, digests=digests))
    return matches[0]


def is_here(project: Project, register: Mapping[str, Evidence], reference: EvidenceRef) -> bool:
    """Whether a piece of evidence that somebody names is there with its digest, or known to be withheld or elsewhere.

    Args:
        project: The folder.
        register: By digest.
        reference: As it was named.

    Returns:
        Whether an answer may name it.
    """
    known = register.get(reference.sha256)
    return _looked_at(project, reference.sha256, known or reference, known).standing not in BROKEN


# --- looking again ---------------------------------------------------------------------------------------------------


def serves(register: Mapping[str, Evidence], answers: Mapping[str, Answer]) -> dict[str, tuple[str, ...]]:
    """Requirements that each piece of evidence serves, by its own word and by answers that name it.

    Args:
        register: By digest.
        answers: By requirement id.

    Returns:
        Ids by digest.
    """
    found: dict[str, dict[str, None]] = {digest: dict.fromkeys(item.requirements) for digest, item in register.items()}
    for name, answer in answers.items():
        for reference in answer.evidence:
            found.setdefault(reference.sha256, {})[name] = None
    return {digest: tuple(names) for digest, names in found.items()}


def check(project: Project, catalog: Catalog, today: date) -> Iterator[Found]:
    """Look at all evidence: that which the register or an answer names, and what lies there unnamed.

    Args:
        project: The folder.
        catalog: The requirements.
        today: Day at which evidence may be expired.

    Yields:
        How each piece stands; one that is expired twice.

    Raises:
        ConfigurationError: The register or an answer has faults.
    """
    yield from look(project, project.evidence(catalog), project.answers(catalog), today)


def look(
    project: Project, register: Mapping[str, Evidence], answers: Mapping[str, Answer], today: date
) -> Iterator[Found]:
    """The same, where register and answers were read already."""
    named: dict[tuple[str, str], Evidence | EvidenceRef] = {
        (digest, item.name): item for digest, item in register.items()
    }
    for answer in answers.values():
        for reference in answer.evidence:
            named.setdefault((reference.sha256, reference.name), reference)
    for (digest, name), item in named.items():
        known = register.get(digest)
        yield _looked_at(project, digest, item, known)
        if known is not None and known.name == name and known.is_expired(today):
            yield Found(digest, name, "expired", f"{name} expired on {known.expires}: whether it still holds is open.")
    for path in sorted((project.folder / "evidence").glob("*/*")):
        if (path.parent.name, path.name) not in named:
            where = path.relative_to(project.folder).as_posix()
            yield Found(
                path.parent.name, path.name, "orphaned", f"{where} is named by no answer and not in evidence.yaml."
            )


def _looked_at(project: Project, digest: str, item: Evidence | EvidenceRef, known: Evidence | None) -> Found:
    """How one piece stands: its content against its digest, where it is here."""
    name, path = item.name, project.evidence_path(digest, item)
    if not path.is_symlink() and not path.exists():
        if known is not None and known.withheld:
            sentence = f"{name} is withheld: {known.withheld}. Its SHA-256 is {digest}."
            return Found(digest, name, "withheld", sentence)
        if known is not None and known.uri is not None:
            return Found(digest, name, "elsewhere", f"{name} lies at {known.uri}, which is not looked at.")
        return Found(digest, name, "missing", f"{name} is gone: evidence/{digest}/ does not hold it.")
    if not _is_intact(project, digest, item):
        return Found(digest, name, "changed", f"{name} was changed: it does not have the SHA-256 it was added with.")
    if known is not None and known.size != path.stat().st_size:
        sentence = f"{name} is intact, but evidence.yaml gives it {known.size} bytes and it has {path.stat().st_size}."
        return Found(digest, name, "changed", sentence)
    if known is not None and known.withheld:
        sentence = f"{name} is here and has its digest; it is not handed on: {known.withheld}."
        return Found(digest, name, "withheld", sentence)
    return Found(digest, name, "intact", f"{name} has its digest.")
