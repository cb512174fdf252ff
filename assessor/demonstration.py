"""The demo: a whole assessment of a small real system, from training to the verified report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import distribution, version
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assessor import yamlfile
from assessor.criteria import followed_catalog
from assessor.errors import UsageError
from assessor.evidence import Details, add
from assessor.messages import SOURCE, _, language
from assessor.model import Answer, Answers, Audit, Audits, AuditSummary, Catalog, EvidenceRef
from assessor.project import SUMMARY, Project, now
from assessor.subjects.loading import call_user

SYSTEMS = ("diabetes", "digits")
DEVELOPER, AUDITOR = "Demo developer", "Demo auditor"
PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "torch")
PASSPHRASE = "demo"  # noqa: S105 - a key that is thrown away with the demo and proves nothing


@dataclass(frozen=True)
class DemoFolder:
    """What `prepare` made."""

    project: Project
    answers: int
    audits: int


def prepare(folder: Path, system: str, say: Callable[[str], None]) -> DemoFolder:
    """Put a demo system into an empty folder: code, trained model, answers with evidence, an auditor's verdicts.

    Texts are in the language in use.

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
        raise UsageError(_("--system: found '{text}', wanted one of {wanted}", text=system, wanted=", ".join(SYSTEMS)))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(_("{folder} is not empty; the demo wants an empty or new folder", folder=folder))
    with as_file(files("assessor.templates") / "demo" / system) as source:
        contents = {"assessor.yaml": _text(source, "assessor.yaml").read_bytes()}
        contents |= {"system.py": (source / "system.py").read_bytes(), ".gitignore": b".assessor/\nkeys/*.p12\n"}
        contents |= {"requirements.txt": _pins()}
        project = Project.create(folder, contents, actor=_(DEVELOPER), action=f"demo {system}")
        say(_("training the model"))
        call_user("system:fit", folder.resolve(), field="demo")
        say(_("answering the questionnaire"))
        catalog = followed_catalog(project.configuration())
        evidence = _collect(project, source / "evidence", catalog)
        answers = _answer(project, source, catalog, evidence)
        audits = _audit(project, source, catalog)
    return DemoFolder(project, answers, audits)


def _pins() -> bytes:
    """The packages that the demo's system runs on, in the versions that are installed."""
    return "".join(f"{name}=={version(name)}\n" for name in PACKAGES).encode()


def _text(source: Path, name: str) -> Path:
    """A file of the demo in the language in use: `answers.yaml`, or `answers.de.yaml` in German."""
    path = Path(name)
    there = source / f"{path.stem}.{language()}{path.suffix}"
    return there if language() != SOURCE and there.is_file() else source / name


def _collect(project: Project, source: Path, catalog: Catalog) -> dict[str, EvidenceRef]:
    """Add the demo's evidence as `assessor evidence add` would; how answers name each piece, by its file name."""
    found = {}
    for name, given in yamlfile.read(_text(source, "evidence.yaml"), "evidence.yaml").data.items():
        requirements, days, installed = (given.pop(key, None) for key in ("requirements", "holds_days", "installed"))
        given["expires"] = now().date() + timedelta(days) if days else None
        with TemporaryDirectory() as folder:
            path = Path(folder, name)
            if installed:
                path, given["uri"] = _installed(*installed)
            else:
                path.write_bytes(_text(source, name).read_bytes())
            details = Details.model_validate(given)
            (item,) = add(project, catalog, [path], requirements=requirements, details=details, by=_(DEVELOPER))
        found[name] = item.evidence.reference(item.sha256)
    return found


def _installed(package: str, inside: str) -> tuple[Path, str]:
    """A file of an installed package, and its address: a package URL."""
    return Path(str(distribution(package).locate_file(inside))), f"pkg:pypi/{package}@{version(package)}#{inside}"


def _answer(project: Project, source: Path, catalog: Catalog, evidence: Mapping[str, EvidenceRef]) -> int:
    """The demo developer's answers, one change an area."""
    given = yamlfile.read(_text(source, "answers.yaml"), "answers.yaml").data
    for area, answers in _by_area(given, catalog).items():
        finished = {name: _finish(answer, evidence) for name, answer in answers.items()}
        text = yamlfile.dump(Answers(finished).model_dump(mode="json", exclude_defaults=True))
        project.commit({f"answers/{area}.yaml": text.encode()}, actor=_(DEVELOPER), action=f"answer {area}")
    return len(given)


def _by_area(given: dict[str, Any], catalog: Catalog) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, entry in given.items():
        found.setdefault(catalog.by_id[name].area, {})[name] = entry
    return found


def _finish(given: dict[str, Any], evidence: Mapping[str, EvidenceRef]) -> Answer:
    """An answer with person, time and the digests of its evidence."""
    named = tuple(evidence[name] for name in given.get("evidence", []))
    return Answer.model_validate({**given, "evidence": named, "by": _(DEVELOPER), "at": now()})


def _audit(project: Project, source: Path, catalog: Catalog) -> int:
    """The demo auditor's verdicts and summary, in the auditor's slot."""
    given = yamlfile.read(_text(source, "audit.yaml"), "audit.yaml").data
    answers, by, at = project.answers(catalog), _(AUDITOR), now()
    for area, audits in _by_area(given["requirements"], catalog).items():
        finished = {
            name: Audit.model_validate({**audit, "answer_at": answers[name].at, "by": by, "at": at})
            for name, audit in audits.items()
        }
        text = yamlfile.dump(Audits(finished).model_dump(mode="json", exclude_defaults=True))
        project.commit({f"audit/{area}.yaml": text.encode()}, actor=by, action=f"audit {area}")
    stamp = {"by": by, "at": at}
    summary = AuditSummary.model_validate(
        {
            "dimensions": {name: {**rating, **stamp} for name, rating in given.get("dimensions", {}).items()},
            "trade_offs": {
                name: {**item, "accepted_by": by, "at": at} for name, item in given.get("trade_offs", {}).items()
            },
            "conclusion": {**given["conclusion"], **stamp} if "conclusion" in given else None,
        }
    )
    text = yamlfile.dump(summary.model_dump(mode="json", exclude_defaults=True))
    project.commit({SUMMARY: text.encode()}, actor=by, action="audit summary")
    return len(given["requirements"])
