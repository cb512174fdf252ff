"""The assessment folder: assessor.yaml, answers and results read, checked and written."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue, RootModel, ValidationError

from assessor import yamlfile
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Params
from assessor.errors import ConfigurationError, IntegrityError, UsageError, nearest
from assessor.folder import Folder
from assessor.model import Answer, Answers, Catalog, CheckRun, Configuration, EvidenceRef

CONFIGURATION = "assessor.yaml"
INDEX = "results/index.json"

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
        for folder in (here, *here.parents):
            if (folder / CONFIGURATION).is_file():
                return cls(folder)
        raise UsageError(
            f"no {CONFIGURATION} in {here} or above it; name the folder with --project, or start with  assessor init"
        )

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
        named += [(waiver["id"], ("policy", "waivers", index, "id")) for index, waiver in enumerate(waivers)]
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
        for path in sorted((self.folder / "answers").glob("*.yaml")):
            found |= self._answers_of(path, catalog)
        order = {requirement.id: position for position, requirement in enumerate(catalog.requirements)}
        return dict(sorted(found.items(), key=lambda item: order[item[0]]))

    def _answers_of(self, path: Path, catalog: Catalog) -> dict[str, Answer]:
        document = yamlfile.read(path, f"answers/{path.name}")
        if document.data is None:
            return {}
        answers = yamlfile.validate(document, Answers).root
        for name, answer in answers.items():
            where = f"{document.name}:{document.lines[(name,)]} {name}"
            requirement = catalog.by_id.get(name)
            if requirement is None:
                raise ConfigurationError(f"{where}: no requirement '{name}'{nearest(name, catalog.by_id)}")
            if requirement.id != name:
                raise ConfigurationError(f"{where}: this requirement is called '{requirement.id}' here; use that name")
            if requirement.area != path.stem:
                raise ConfigurationError(f"{where}: belongs into answers/{requirement.area}.yaml")
            for question in answer.replies:
                if requirement.question(question) is None:
                    known = [known.id for known in requirement.questions]
                    raise ConfigurationError(f"{where} replies: no question '{question}'; known: {', '.join(known)}")
        return dict(answers)

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

    def save_answer(self, requirement: str, area: str, answer: Answer, *, evidence: Mapping[str, bytes]) -> None:
        """Write one answer, with new evidence files, leaving the rest of its file as it is.

        Args:
            requirement: Requirement id.
            area: Its area.
            answer: The answer.
            evidence: Content by name of the files to add.
        """
        name = f"answers/{area}.yaml"
        with self.lock():
            path = self.folder / name
            text = yamlfile.decoded(path.read_bytes(), name) if path.is_file() else ""
            data = _plain_answer(answer)
            files = {name: yamlfile.set_key(text, requirement, data, name).encode()}
            for file_name, content in evidence.items():
                files[f"evidence/{sha256_hex(content)}/{file_name}"] = content
            self.commit(files, actor=answer.by, action=f"answer {requirement}", because=answer.because)

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


def evidence_ref(name: str, content: bytes) -> EvidenceRef:
    """How an answer names a piece of evidence."""
    return EvidenceRef(name=name, sha256=sha256_hex(content))


def current_user() -> str:
    """Name of the user of this process, for the ledger."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def now() -> datetime:
    """The time, to the second, with zone."""
    return datetime.now(UTC).replace(microsecond=0)


def _plain_answer(answer: Answer) -> dict[str, JsonValue]:
    """As a person would write it: no empty members, time as YAML's own."""
    data: dict[str, Any] = answer.model_dump(mode="json", exclude_defaults=True)
    return data
