"""The demo: a whole assessment of a small real system, from training to the verified report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from assessor import yamlfile
from assessor.assessment import followed_catalog
from assessor.canonical import sha256_hex
from assessor.errors import UsageError
from assessor.model import Answer, Answers, Catalog
from assessor.project import Project, now
from assessor.subjects.loading import call_user

SYSTEMS = ("diabetes", "digits")
DEVELOPER = "Demo developer"
PASSPHRASE = "demo"  # noqa: S105 - a key that is thrown away with the demo and proves nothing


@dataclass(frozen=True)
class DemoFolder:
    """What `prepare` made."""

    project: Project
    answers: int


def prepare(folder: Path, system: str, say: Callable[[str], None]) -> DemoFolder:
    """Put a demo system into an empty folder: code, trained model, answers with their evidence.

    Args:
        folder: New or empty.
        system: One of `SYSTEMS`.
        say: Told what is done.

    Returns:
        The folder as a project.

    Raises:
        UsageError: The folder is not empty, or there is no such system.
    """
    if system not in SYSTEMS:
        raise UsageError(f"--system: found '{system}', wanted one of {', '.join(SYSTEMS)}")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; the demo wants an empty or new folder")
    with as_file(files("assessor.templates") / "demo" / system) as source:
        contents = {"assessor.yaml": (source / "assessor.yaml").read_bytes()}
        contents |= {"system.py": (source / "system.py").read_bytes(), ".gitignore": b".assessor/\nkeys/*.p12\n"}
        project = Project.create(folder, contents, actor=DEVELOPER, action=f"demo {system}")
        say("training the model")
        call_user("system:fit", folder.resolve(), field="demo")
        say("answering the questionnaire")
        count = _answer(project, source, followed_catalog(project.configuration()))
    return DemoFolder(project, count)


def _answer(project: Project, source: Path, catalog: Catalog) -> int:
    """The demo developer's answers, one change an area."""
    given = yamlfile.read(source / "answers.yaml", "answers.yaml").data
    by_area: dict[str, dict[str, Any]] = {}
    for name, answer in given.items():
        by_area.setdefault(catalog.by_id[name].area, {})[name] = answer
    for area, answers in by_area.items():
        contents: dict[str, bytes] = {}
        finished = {name: _finish(answer, source, contents) for name, answer in answers.items()}
        text = yamlfile.dump(Answers(finished).model_dump(mode="json", exclude_defaults=True))
        contents[f"answers/{area}.yaml"] = text.encode()
        project.commit(contents, actor=DEVELOPER, action=f"answer {area}")
    return len(given)


def _finish(given: dict[str, Any], source: Path, contents: dict[str, bytes]) -> Answer:
    """An answer with person, time and the digests of its evidence, whose content joins `contents`."""
    evidence = []
    for name in given.get("evidence", []):
        content = (source / "evidence" / name).read_bytes()
        digest = sha256_hex(content)
        contents[f"evidence/{digest}/{name}"] = content
        evidence.append({"name": name, "sha256": digest})
    return Answer.model_validate({**given, "evidence": evidence, "by": DEVELOPER, "at": now()})
