"""The assessment folder: assessor.yaml, answers and results read, checked and written."""

from __future__ import annotations

import getpass
import mimetypes
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue, RootModel, ValidationError

from assessor import yamlfile
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Params
from assessor.errors import ConfigurationError, IntegrityError, UsageError, nearest
from assessor.folder import Folder
from assessor.model import (
    REQUIREMENT_ID,
    Answer,
    Answers,
    Audit,
    Audits,
    AuditSummary,
    Catalog,
    CheckRun,
    Configuration,
    Evidence,
    EvidenceRef,
    Known,
    KnownFacts,
    Register,
    Reply,
    Requirement,
    Role,
)
from assessor.replies import normalised, param_fault, reply_fault

CONFIGURATION = "assessor.yaml"
INDEX = "results/index.json"
SUMMARY = "audit/summary.yaml"
KNOWN = "prefill.yaml"
EVIDENCE = "evidence.yaml"
NOT_HANDED_ON = ".gitignore"

MORE_KINDS = {
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}
"""Kinds of file that Python does not know by their suffix."""

ParamsModel = TypeVar("ParamsModel", bound=Params)


class _Index(RootModel[dict[str, str]]):
    """results/index.json: the current run of every check."""


class Project(Folder):
    """One assessment folder: its files as the words of the domain."""

    def __init__(self, folder: Path, *, new: bool = False) -> None:
        """Open a folder that holds assessor.yaml and finish what a killed process left.

        Args:
            folder: The folder.
            new: Whether assessor.yaml is still to come.

        Raises:
            UsageError: It holds no assessor.yaml.
        """
        super().__init__(folder)
        if not new and not (folder / CONFIGURATION).is_file():
            raise UsageError(f"{folder}: no {CONFIGURATION} here; start an assessment with  assessor init {folder}")

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project in `start`, or for None in the nearest parent of the working folder.

        Args:
            start: The folder itself.

        Returns:
            The project.

        Raises:
            UsageError: There is none.
        """
        if start is not None:
            return cls(start)
        here = Path.cwd()
        found = cls.around(here)
        if found is None:
            raise UsageError(
                f"no {CONFIGURATION} in {here} or above it; name the folder with --project, or start with  assessor "
                "init"
            )
        return found

    @classmethod
    def around(cls, here: Path) -> Project | None:
        """The project in a folder or the nearest one above it, or None."""
        folders = (folder for folder in (here, *here.parents) if (folder / CONFIGURATION).is_file())
        nearest_one = next(folders, None)
        return None if nearest_one is None else cls(nearest_one)

    @classmethod
    def create(cls, folder: Path, files: Mapping[str, bytes], *, actor: str, action: str) -> Project:
        """A new assessment in an empty or new folder.

        Args:
            folder: Where.
            files: Contents by relative path, assessor.yaml among them.
            actor: Who.
            action: What, for the ledger.

        Returns:
            The project.

        Raises:
            UsageError: There is an assessment already.
        """
        project = cls(folder, new=True)
        if (folder / CONFIGURATION).exists():
            raise UsageError(f"{folder / CONFIGURATION} exists; an assessment is never overwritten")
        project.commit(files, actor=actor, action=action)
        return cls(folder)

    # --- reading -----------------------------------------------------------------------------------------------------

    def configuration(self) -> Configuration:
        """assessor.yaml.

        Raises:
            ConfigurationError: It has faults.
        """
        document = yamlfile.read(self.folder / CONFIGURATION, CONFIGURATION)
        if document.data is None:
            raise ConfigurationError(f"{CONFIGURATION}:1 found an empty file; see  assessor init")
        return yamlfile.validate(document, Configuration)

    def check_ids_known(self, known: list[str]) -> None:
        """Refuse check ids in assessor.yaml that no installed check has.

        Args:
            known: Ids of all installed checks.

        Raises:
            ConfigurationError: One line an unknown id.
        """
        document = yamlfile.read(self.folder / CONFIGURATION, CONFIGURATION)
        named: list[tuple[str, tuple[str | int, ...]]] = [
            (check, (section, check)) for section in ("targets", "checks") for check in document.data.get(section) or {}
        ]
        waivers = (document.data.get("policy") or {}).get("waivers") or []
        named += [
            (waiver["id"], ("policy", "waivers", index, "id"))
            for index, waiver in enumerate(waivers)
            if not REQUIREMENT_ID.match(waiver["id"])
        ]
        faults = [
            f"{CONFIGURATION}:{document.lines[path]} {'.'.join(map(str, path))}: "
            f"no check '{check}'{nearest(check, known)}; see  assessor check list"
            for check, path in named
            if check not in known
        ]
        if faults:
            raise ConfigurationError("\n".join(faults))

    def check_params(self, check: str, model: type[ParamsModel]) -> ParamsModel:
        """Parameters of a check, from `checks` of assessor.yaml or by default.

        Args:
            check: Check id.
            model: The check's parameters class.

        Returns:
            The parameters.

        Raises:
            ConfigurationError: They do not fit, told with file and line.
        """
        document = yamlfile.read(self.folder / CONFIGURATION, CONFIGURATION)
        if not (document.data.get("checks") or {}).get(check):
            return model()
        return yamlfile.validate(document.section("checks", check), model)

    def target_source(self, check: str) -> str:
        """Where the target of a check is set, as file:line."""
        document = yamlfile.read(self.folder / CONFIGURATION, CONFIGURATION)
        return f"{CONFIGURATION}:{document.lines.get(('targets', check), 1)}"

    def answers(self, catalog: Catalog) -> dict[str, Answer]:
        """All answers by requirement id, in the catalog's order.

        Args:
            catalog: Its ids are the only ones that may be answered.

        Returns:
            The answers.

        Raises:
            ConfigurationError: A file has faults or answers something the catalog does not ask.
        """
        found: dict[str, Answer] = {}
        for document, area in self._documents("answers"):
            for name, answer in yamlfile.validate(document, Answers).root.items():
                requirement, where = self._placed(document, name, area, catalog)
                found[name] = checked_answer(requirement, answer, catalog, where)
        return _in_order(found, catalog)

    def audits(self, catalog: Catalog) -> dict[str, Audit]:
        """The auditor's verdicts by requirement id, in the catalog's order.

        Args:
            catalog: Its ids are the only ones that may be judged.

        Returns:
            The verdicts.

        Raises:
            ConfigurationError: A file has faults or judges something the catalog does not have.
        """
        found: dict[str, Audit] = {}
        for document, area in self._documents("audit"):
            if document.name == SUMMARY:
                continue
            for name, audit in yamlfile.validate(document, Audits).root.items():
                requirement, where = self._placed(document, name, area, catalog)
                if stray := set(audit.objectives) - {objective.id for objective in requirement.objectives}:
                    raise ConfigurationError(f"{where} objectives: no objective '{min(stray)}'")
                replies = checked_replies(requirement, audit.replies, where, Role.AUDITOR)
                found[name] = audit.model_copy(update={"replies": replies})
        return _in_order(found, catalog)

    def _documents(self, section: str) -> Iterator[tuple[yamlfile.Document, str]]:
        """The YAML files of a section that hold something, each with the area it is named after."""
        for path in sorted((self.folder / section).glob("*.yaml")):
            document = yamlfile.read(path, f"{section}/{path.name}")
            if document.data is not None:
                yield document, path.stem

    def audit_summary(self) -> AuditSummary:
        """The auditor's ratings, trade-offs and conclusion.

        Raises:
            ConfigurationError: The file has faults.
        """
        path = self.folder / SUMMARY
        document = yamlfile.read(path, SUMMARY) if path.is_file() else None
        return (
            AuditSummary() if document is None or document.data is None else yamlfile.validate(document, AuditSummary)
        )

    def known(self) -> dict[str, tuple[Known, ...]]:
        """What was found in model cards, bills of materials and the repository, by key.

        Raises:
            ConfigurationError: The file has faults.
        """
        path = self.folder / KNOWN
        document = yamlfile.read(path, KNOWN) if path.is_file() else None
        return {} if document is None or document.data is None else dict(yamlfile.validate(document, KnownFacts).root)

    def evidence(self, catalog: Catalog) -> dict[str, Evidence]:
        """The register of evidence by digest; what only answers name is not in it.

        Args:
            catalog: Its ids are the only ones that evidence may serve.

        Returns:
            The register, with ids as the catalog calls them.

        Raises:
            ConfigurationError: The file has faults or names something the catalog does not have.
        """
        found = {}
        for digest, item in self._register().items():
            for index, name in enumerate(item.requirements):
                if name not in catalog.by_id:
                    lines = yamlfile.read(self.folder / EVIDENCE, EVIDENCE).lines
                    where = f"{EVIDENCE}:{lines[digest, 'requirements', index]} {digest} requirements"
                    raise ConfigurationError(f"{where}: no requirement '{name}'{nearest(name, catalog.by_id)}")
            served = dict.fromkeys(catalog.by_id[name].id for name in item.requirements)
            found[digest] = item.model_copy(update={"requirements": tuple(served)})
        return found

    def _register(self) -> Mapping[str, Evidence]:
        path = self.folder / EVIDENCE
        document = yamlfile.read(path, EVIDENCE) if path.is_file() else None
        return {} if document is None or document.data is None else yamlfile.validate(document, Register).root

    def withheld(self) -> frozenset[str]:
        """Paths of evidence whose content is not handed on, and may be missing from a copy."""
        try:
            register = self._register()
        except ConfigurationError:  # told wherever the register is read; until then nothing may be missing
            return frozenset()
        return frozenset(self._relative(digest, item) for digest, item in register.items() if item.withheld)

    def evidence_path(self, digest: str, item: Evidence | EvidenceRef) -> Path:
        """Where the content of a piece of evidence lies."""
        return self.folder / self._relative(digest, item)

    def _relative(self, digest: str, item: Evidence | EvidenceRef) -> str:
        return f"evidence/{digest}/{item.name}"

    def _placed(self, document: yamlfile.Document, name: str, area: str, catalog: Catalog) -> tuple[Requirement, str]:
        """The requirement that an entry names, and where the entry stands."""
        where = f"{document.name}:{document.lines[(name,)]} {name}"
        requirement = catalog.by_id.get(name)
        if requirement is None:
            raise ConfigurationError(f"{where}: no requirement '{name}'{nearest(name, catalog.by_id)}")
        if requirement.id != name:
            raise ConfigurationError(f"{where}: this requirement is called '{requirement.id}' here; use that name")
        if requirement.area != area:
            folder = document.name.partition("/")[0]
            raise ConfigurationError(f"{where}: belongs into {folder}/{requirement.area}.yaml")
        return requirement, where

    def runs(self) -> dict[str, CheckRun]:
        """The current result of every check that has one, by check id.

        Raises:
            IntegrityError: A result is missing or not readable.
        """
        return {check: self.run(check, run_id) for check, run_id in sorted(self._index().items())}

    def run(self, check: str, run_id: str) -> CheckRun:
        """One stored result.

        Raises:
            IntegrityError: It is missing or not readable.
        """
        path = self.folder / "results" / check / f"{run_id}.json"
        try:
            return CheckRun.model_validate_json(path.read_bytes())
        except OSError as fault:
            raise IntegrityError(f"{path}: the index names this result, but it cannot be read") from fault
        except ValidationError as fault:
            raise IntegrityError(f"{path}: not readable as a result: {fault.errors()[0]['msg']}") from fault

    def run_ids(self) -> dict[str, str]:
        """Id of the current run of every check."""
        return dict(self._index())

    def _index(self) -> dict[str, str]:
        path = self.folder / INDEX
        if not path.is_file():
            return {}
        try:
            return _Index.model_validate_json(path.read_bytes()).root
        except ValidationError as fault:
            raise IntegrityError(f"{path}: not readable: {fault.errors()[0]['msg']}") from fault

    # --- writing -----------------------------------------------------------------------------------------------------

    def save_answer(
        self,
        requirement: str,
        area: str,
        answer: Answer,
        *,
        evidence: Mapping[str, bytes],
        settings: Sequence[tuple[str, str, Any]] = (),
    ) -> None:
        """Write one answer, with new evidence files, leaving the rest of its file as it is.

        Args:
            requirement: Requirement id.
            area: Its area.
            answer: The answer.
            evidence: Content by name of the files to add.
            settings: Section, key and value of what it decides in assessor.yaml: targets and protection needs.

        Raises:
            ConfigurationError: assessor.yaml would not be valid with it; then nothing is written.
        """
        with self.lock():
            answer, shown = self._with_shown(answer, evidence)
            files = self._with_entry(f"answers/{area}.yaml", requirement, _plain(answer)) | shown
            if settings:
                files[CONFIGURATION] = self._with_settings(settings)
            self.commit(files, actor=answer.by, action=f"answer {requirement}", because=answer.because)

    def _with_shown(self, answer: Answer, contents: Mapping[str, bytes]) -> tuple[Answer, dict[str, bytes]]:
        """The answer with its evidence as the register calls it, and the files that new evidence makes."""
        register = self._register()
        answer = answer.model_copy(update={"evidence": tuple(_as_registered(answer.evidence, register))})
        named = {item.sha256: item for item in answer.evidence}
        files, new = {}, {}
        for name, content in contents.items():
            digest = sha256_hex(content)
            item, known = named.get(digest) or evidence_ref(name, content), register.get(digest)
            if known is None or known.uri is None:  # what is kept elsewhere stays there
                files[self._relative(digest, item)] = content
            if known is None:
                said = {"document": item.document, "collected": item.collected, "by": answer.by, "at": answer.at}
                new[digest] = evidence_item(item.name, len(content), **said)
        return answer, files | (self._with_evidence(new) if new else {})

    def save_evidence(
        self,
        items: Mapping[str, Evidence],
        contents: Mapping[str, bytes],
        *,
        actor: str,
        action: str,
        because: str = "",
    ) -> None:
        """Write items of the register, with the content of new ones, leaving the rest of the register as it is.

        Args:
            items: By digest.
            contents: By digest; each is copied once.
            actor: Who.
            action: What, for the ledger.
            because: Why.
        """
        with self.lock():
            files = self._with_evidence(items)
            for digest, content in contents.items():
                files[self._relative(digest, items[digest])] = content
            self.commit(files, actor=actor, action=action, because=because)

    def _with_evidence(self, items: Mapping[str, Evidence]) -> dict[str, bytes]:
        """The register with these items, and the list of what git must not hand on where that changes."""
        path = self.folder / EVIDENCE
        text = yamlfile.decoded(path.read_bytes(), EVIDENCE) if path.is_file() else ""
        for digest, item in items.items():
            text = yamlfile.set_key(text, digest, _plain_item(item), EVIDENCE)
        register = yamlfile.validate(yamlfile.parse(text, EVIDENCE), Register).root
        return {EVIDENCE: text.encode(), **self._with_hidden(register)}

    def _with_hidden(self, register: Mapping[str, Evidence]) -> dict[str, bytes]:
        """The list of what git leaves out, where it changes: the folders of evidence that is withheld, and no other."""
        path = self.folder / NOT_HANDED_ON
        known = path.read_bytes() if path.is_file() else b""
        lines = {f"/evidence/{digest}/".encode(): bool(item.withheld) for digest, item in register.items()}
        kept = [line for line in known.splitlines() if lines.get(line, True)]
        new = [line for line, withheld in lines.items() if withheld and line not in kept]
        content = b"".join(line + b"\n" for line in (*kept, *new))
        return {} if content == known else {NOT_HANDED_ON: content}

    def save_audit(self, requirement: str, area: str, audit: Audit, *, actor: str | None = None) -> None:
        """Write the auditor's verdict on one requirement.

        Args:
            requirement: Requirement id.
            area: Its area.
            audit: The verdict.
            actor: Who changes it; default who judged.
        """
        with self.lock():
            files = self._with_entry(f"audit/{area}.yaml", requirement, _plain(audit))
            self.commit(files, actor=actor or audit.by, action=f"audit {requirement}", because=audit.because)

    def save_summary(self, summary: AuditSummary, *, actor: str, action: str, because: str) -> None:
        """Write the auditor's ratings, trade-offs and conclusion.

        Args:
            summary: All of them.
            actor: Who changed them.
            action: What, for the ledger.
            because: Why.
        """
        with self.lock():
            path = self.folder / SUMMARY
            text = yamlfile.decoded(path.read_bytes(), SUMMARY) if path.is_file() else ""
            known = yamlfile.parse(text, SUMMARY).data or {}
            for key, value in _plain(summary).items():
                if known.get(key) != value:
                    text = yamlfile.set_key(text, key, value, SUMMARY)
            self.commit({SUMMARY: text.encode()}, actor=actor, action=action, because=because)

    def save_known(self, known: Mapping[str, Sequence[Known]], *, actor: str, because: str) -> None:
        """Write what was found in files, in place of what was found before.

        Args:
            known: Statements by key.
            actor: Who looked.
            because: Where.
        """
        data = {key: [item.model_dump(mode="json") for item in found] for key, found in known.items()}
        self.commit({KNOWN: yamlfile.dump(data).encode()}, actor=actor, action="prefill", because=because)

    def _with_entry(self, name: str, key: str, data: Mapping[str, Any]) -> dict[str, bytes]:
        path = self.folder / name
        text = yamlfile.decoded(path.read_bytes(), name) if path.is_file() else ""
        return {name: yamlfile.set_key(text, key, data, name).encode()}

    def _with_settings(self, settings: Sequence[tuple[str, str, Any]]) -> bytes:
        text = yamlfile.decoded((self.folder / CONFIGURATION).read_bytes(), CONFIGURATION)
        for section, key, value in settings:
            text = yamlfile.set_entry(text, section, key, value, CONFIGURATION)
        yamlfile.validate(yamlfile.parse(text, CONFIGURATION), Configuration)
        return text.encode()

    def save_run(self, run: CheckRun, *, actor: str | None = None) -> str:
        """Write one result and make it the current one.

        Args:
            run: The result.
            actor: Who ran it; default the user of this process.

        Returns:
            Its run id.

        Raises:
            IntegrityError: There is a result of this id already; results never change.
        """
        run_id = f"{run.started.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{run.key[:8]}"
        name = f"results/{run.check}/{run_id}.json"
        with self.lock():
            if (self.folder / name).exists():
                raise IntegrityError(f"{self.folder / name} exists; a result is never overwritten")
            index = {**self._index(), run.check: run_id}
            files = {name: canonical_json(run), INDEX: canonical_json(index) + b"\n"}
            self.commit(files, actor=actor or current_user(), action=f"check run {run.check}")
        return run_id


def evidence_ref(name: str, content: bytes, document: str | None = None, collected: date | None = None) -> EvidenceRef:
    """How an answer names a piece of evidence."""
    return EvidenceRef(name=name, sha256=sha256_hex(content), document=document, collected=collected)


def _as_registered(references: Sequence[EvidenceRef], register: Mapping[str, Evidence]) -> Iterator[EvidenceRef]:
    """References by the names that the register knows, so that one content lies in one place."""
    for item in references:
        known = register.get(item.sha256)
        yield item.model_copy(update={"name": known.name}) if known else item


def evidence_item(name: str, size: int, **details: Any) -> Evidence:
    """An item of the register; what kind of file it is, is told from its name."""
    return Evidence(name=name, size=size, media_type=media_type(name), **details)


def media_type(name: str) -> str:
    """Kind of a file by its name, the same on every machine.

    >>> media_type("scan.PDF"), media_type("weights.bin2")
    ('application/pdf', 'application/octet-stream')
    """
    kinds = mimetypes.MimeTypes()  # an instance knows Python's own table and not the machine's
    for suffix, kind in MORE_KINDS.items():
        kinds.add_type(kind, suffix)
    return kinds.guess_type(name.lower())[0] or "application/octet-stream"


def current_user() -> str:
    """Name of the user of this process, for the ledger."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def now() -> datetime:
    """The time, to the second, with zone."""
    return datetime.now(UTC).replace(microsecond=0)


def _plain(entry: Answer | Audit | AuditSummary) -> dict[str, JsonValue]:
    """As a person would write it: no empty members, time as YAML's own."""
    data: dict[str, Any] = entry.model_dump(mode="json", exclude_defaults=True)
    return data


def _plain_item(item: Evidence) -> dict[str, JsonValue]:
    """As a person would write it, but with its form and who may see it, for these are looked for."""
    data: dict[str, Any] = item.model_dump(mode="json", exclude_defaults=True)
    shown = {"type": item.type.value, "classification": item.classification.value}
    return {**{key: data.pop(key) for key in ("name", "media_type", "size")}, **shown, **data}


_Entry = TypeVar("_Entry", Answer, Audit)


def _in_order(found: dict[str, _Entry], catalog: Catalog) -> dict[str, _Entry]:
    order = {requirement.id: position for position, requirement in enumerate(catalog.requirements)}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def checked_answer(requirement: Requirement, answer: Answer, catalog: Catalog, where: str) -> Answer:
    """An answer whose parts belong to its requirement, its replies in their one form.

    Args:
        requirement: What is answered.
        answer: The answer.
        catalog: Which requirements there are.
        where: Where the answer stands, for messages.

    Returns:
        The answer.

    Raises:
        ConfigurationError: A part does not belong to the requirement or does not fit.
    """
    replies = checked_replies(requirement, answer.replies, where, Role.DEVELOPER)
    for name, value in answer.params.items():
        param = requirement.param(name)
        if param is None:
            known = ", ".join(param.id for param in requirement.params) or "none"
            raise ConfigurationError(f"{where} params: no param '{name}'; known: {known}")
        if fault := param_fault(param, value.value):
            raise ConfigurationError(f"{where} params.{name}: {fault}")
    if answer.same_as and answer.same_as not in catalog.by_id:
        hint = nearest(answer.same_as, catalog.by_id)
        raise ConfigurationError(f"{where} same_as: no requirement '{answer.same_as}'{hint}")
    if answer.same_as == requirement.id:
        raise ConfigurationError(f"{where} same_as: found the requirement itself, wanted another one")
    return answer.model_copy(update={"replies": replies})


def checked_replies(requirement: Requirement, replies: Mapping[str, Reply], where: str, role: Role) -> dict[str, Reply]:
    """Replies in their one form.

    Args:
        requirement: What is replied to.
        replies: By question id.
        where: Where they stand, for messages.
        role: Whose they are.

    Returns:
        The replies.

    Raises:
        ConfigurationError: One does not belong to the requirement or its slot, or does not fit its question.
    """
    checked = {}
    for name, reply in replies.items():
        question = requirement.question(name)
        if question is None or question.role is not role:
            known = ", ".join(item.id for item in requirement.questions if item.role is role) or "none"
            raise ConfigurationError(f"{where} replies: no question '{name}'; known: {known}")
        if fault := reply_fault(question, reply):
            raise ConfigurationError(f"{where} replies.{name}: {fault}")
        checked[name] = normalised(question, reply)
    return checked
