"""Where a finding of the gate stands: the line that a person would mend, in assessor.yaml, policy, answers or audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from assessor import yamlfile
from assessor.canonical import sha256_hex
from assessor.contract import Frozen
from assessor.errors import ConfigurationError
from assessor.git import git
from assessor.model import Policy

CONFIGURATION = "assessor.yaml"


class Place(Frozen):
    """A line of a file, its path relative to the root of the repository or, without one, to the assessment folder."""

    file: str
    line: int


class PolicyFile(Frozen):
    """Where the policy was read, and the digest of that file."""

    file: str
    sha256: str


def read_policy(path: Path) -> Policy:
    """A policy from a file of its own.

    Args:
        path: YAML with the fields of `policy` in assessor.yaml.

    Returns:
        The policy.

    Raises:
        ConfigurationError: It is empty or has faults.
    """
    document = yamlfile.read(path)
    if document.data is None:
        raise ConfigurationError(f"{path}:1 found an empty file, wanted a policy such as  fail_on: [fail]")
    return yamlfile.validate(document, Policy)


@dataclass(frozen=True)
class Places:
    """Finds lines in the files of one assessment.

    Attributes:
        folder: The assessment folder.
        policy: File of a policy of its own, or None where it is in assessor.yaml.
    """

    folder: Path
    policy: Path | None = None
    _read: dict[Path, yamlfile.Document] = field(default_factory=dict)

    @cached_property
    def prefix(self) -> str:
        """Path of the assessment folder in its repository, with a slash at its end; empty at the root or without."""
        return git(self.folder, "rev-parse", "--show-prefix") or ""

    @property
    def policy_file(self) -> PolicyFile:
        """Where the policy was read."""
        path = self.policy or self.folder / CONFIGURATION
        return PolicyFile(file=self._shown(path), sha256=sha256_hex(path.read_bytes()))

    def target(self, check: str) -> Place:
        """Where the target of a check is set; else its parameters; else the first line."""
        return self._line(self.folder / CONFIGURATION, ("targets", check), ("checks", check))

    def answer(self, area: str, requirement: str) -> Place:
        """Where a requirement is answered; without an answer the file where it would be, or what asks for it."""
        path = self.folder / "answers" / f"{area}.yaml"
        return self._line(path, (requirement,)) if path.is_file() else self.rule("answers")

    def audit(self, area: str, requirement: str) -> Place:
        """Where a requirement is judged by the auditor."""
        return self._line(self.folder / "audit" / f"{area}.yaml", (requirement,))

    def waiver(self, name: str) -> Place:
        """Where something is waived."""
        start = () if self.policy else ("policy",)
        path = self.policy or self.folder / CONFIGURATION
        data = self._document(path).data
        waivers = (data if self.policy else data.get("policy") or {}).get("waivers") or []
        numbers = [number for number, waiver in enumerate(waivers) if waiver["id"] == name]
        return self._line(path, *((*start, "waivers", number) for number in numbers), (*start, "waivers"))

    def rule(self, name: str) -> Place:
        """Where a rule of the policy is set."""
        start = () if self.policy else ("policy",)
        return self._line(self.policy or self.folder / CONFIGURATION, (*start, name), start)

    def _line(self, path: Path, *wanted: yamlfile.Loc) -> Place:
        """The first of some paths that the file has."""
        lines = self._document(path).lines if path.is_file() else {}
        line = next((lines[loc] for loc in wanted if loc in lines), 1)
        return Place(file=self._shown(path), line=line)

    def _document(self, path: Path) -> yamlfile.Document:
        if path not in self._read:
            self._read[path] = yamlfile.read(path)
        return self._read[path]

    def _shown(self, path: Path) -> str:
        """Relative to the repository; else to the assessment folder; else the path as it was given."""
        found = path.resolve()
        root = next((root for root in self._roots if found.is_relative_to(root)), None)
        return path.as_posix() if root is None else found.relative_to(root).as_posix()

    @cached_property
    def _roots(self) -> tuple[Path, ...]:
        top = git(self.folder, "rev-parse", "--show-toplevel")
        return (Path(top or self.folder).resolve(), self.folder.resolve())
