"""One assessment as a whole: read from its folder, measured, judged. What every command starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assessor import __version__, ledger
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Check
from assessor.criteria import load_catalog
from assessor.engine import Job, is_same, key_of, rejudge, run_job, subject_record
from assessor.errors import UsageError
from assessor.judgement import Contradiction, DimensionState, judge_assessment
from assessor.model import Answer, Catalog, CheckRun, Configuration, JudgedTarget, Status, TargetSpec
from assessor.project import Project, now
from assessor.registry import find_check, load_checks
from assessor.verdicts import judged_against

Step = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Assessment:
    """Everything an assessment folder says, and what follows from it.

    Attributes:
        configuration: assessor.yaml.
        catalog: The catalog it follows.
        answers: Answers by requirement id.
        runs: Current results by check id.
        run_ids: Their run ids.
        states: Judgement by dimension.
        ledger_head: Hash of the ledger's last line.
        ledger_size: Number of its lines.
    """

    configuration: Configuration
    catalog: Catalog
    answers: Mapping[str, Answer]
    runs: Mapping[str, CheckRun]
    run_ids: Mapping[str, str]
    states: tuple[DimensionState, ...]
    ledger_head: str
    ledger_size: int

    @classmethod
    def read(cls, project: Project) -> Assessment:
        """Read a folder.

        Args:
            project: The folder.

        Returns:
            The assessment.

        Raises:
            ConfigurationError: A file has faults.
            IntegrityError: A result is missing or the ledger is not readable.
        """
        configuration = project.configuration()
        catalog = followed_catalog(configuration)
        answers, runs = project.answers(catalog), project.runs()
        chain = project.ledger_bytes()
        return cls(
            configuration=configuration,
            catalog=catalog,
            answers=answers,
            runs=runs,
            run_ids=project.run_ids(),
            states=judge_assessment(catalog, configuration, answers, runs),
            ledger_head=ledger.head(chain),
            ledger_size=chain.count(b"\n"),
        )

    @property
    def contradictions(self) -> tuple[Contradiction, ...]:
        """All contradictions, in the catalog's order."""
        return tuple(found for state in self.states for found in state.contradictions)

    @property
    def outdated(self) -> tuple[str, ...]:
        """Checks whose target was changed after they were judged."""
        targets = self.configuration.targets
        return tuple(check for check, run in self.runs.items() if not judged_against(run, targets.get(check)))

    def record(self) -> dict[str, Any]:
        """The machine-readable whole, as it is put into reports: plain data, canonical as JSON."""
        return {
            "format": 1,
            "tool": {"name": "ai-assessor", "version": __version__},
            "created": now().isoformat().replace("+00:00", "Z"),
            "catalog": {
                "id": self.catalog.head.id,
                "version": self.catalog.head.version,
                "sha256": self.catalog.sha256,
            },
            "configuration": self.configuration.model_dump(mode="json"),
            "answers": {name: answer.model_dump(mode="json") for name, answer in self.answers.items()},
            "results": {
                check: {"run": self.run_ids[check], "sha256": sha256_hex(canonical_json(run)), "result": _plain(run)}
                for check, run in self.runs.items()
            },
            "judgement": [state.model_dump(mode="json") for state in self.states],
            "ledger": {"size": self.ledger_size, "head": self.ledger_head},
        }


def _plain(run: CheckRun) -> dict[str, Any]:
    return run.model_dump(mode="json")


def followed_catalog(configuration: Configuration) -> Catalog:
    """The installed catalog, if it is the one the assessment follows.

    Raises:
        UsageError: It is another one, or another version.
    """
    catalog, wanted = load_catalog(), configuration.catalog
    if (wanted.id, wanted.version) != (catalog.head.id, catalog.head.version):
        raise UsageError(
            f"assessor.yaml catalog: the assessment follows {wanted.id} {wanted.version}, installed is "
            f"{catalog.head.id} {catalog.head.version}"
        )
    return catalog


def measure(
    project: Project,
    ids: Sequence[str] = (),
    *,
    device: str | None = None,
    seed: int | None = None,
    fresh: bool = False,
    step: Step = lambda what, done, total: None,
) -> list[CheckRun]:
    """Run checks and keep each result as soon as it is there.

    Args:
        project: The folder.
        ids: Which checks; default all that are not switched off.
        device: Overrides target.device.
        seed: Overrides target.seed.
        fresh: Measure again what is already measured.
        step: Told what is done next, how many are done, of how many.

    Returns:
        The current run of every wanted check, in order of id.

    Raises:
        UsageError: Configuration, model or data do not fit.
    """
    configuration = project.configuration()
    checks = load_checks()
    project.check_ids_known(list(checks))
    catalog = followed_catalog(configuration)
    if configuration.target is None:
        raise UsageError("assessor.yaml: no target: say what is to be measured; see  assessor init")
    wanted = [find_check(name, checks) for name in ids] or [
        check for name, check in checks.items() if configuration.checks.get(name) is not False
    ]
    chosen_seed = configuration.target.seed if seed is None else seed
    jobs = [_job(check, project, configuration, catalog, chosen_seed) for check in wanted]
    return _run_jobs(jobs, project, configuration.target, device=device, fresh=fresh, step=step)


def _run_jobs(
    jobs: list[Job], project: Project, target: TargetSpec, *, device: str | None, fresh: bool, step: Step
) -> list[CheckRun]:
    from assessor.subjects import importable, load_subject

    step("loading model and data", 0, len(jobs))
    subject, kind, model_sha256 = load_subject(target, project.folder.resolve(), device=device)
    record = subject_record(subject, kind, model_sha256)
    stored = project.runs()
    runs = []
    for position, job in enumerate(jobs):
        step(job.check.id, position, len(jobs))
        run = stored.get(job.check.id)
        kept = run is not None and run.key == key_of(job, record, subject.device) and run.outcome.status != Status.ERROR
        if run is None or not kept or fresh:
            with importable(project.folder.resolve()):  # a model may import when it is called
                run = run_job(job, subject, record)
            project.save_run(run)
        elif not is_same(run, job):
            run = rejudge(run, job)
            project.save_run(run)
        runs.append(run)
    step("done", len(jobs), len(jobs))
    return runs


def _job(check: Check, project: Project, configuration: Configuration, catalog: Catalog, seed: int) -> Job:
    target = configuration.targets.get(check.id)
    judged = JudgedTarget(**target.model_dump(), source=project.target_source(check.id)) if target else None
    bound = {item.id for item in catalog.requirements if check.id in item.checks}
    return Job(
        check=check,
        params=project.check_params(check.id, check.params),
        target=judged,
        seed=seed,
        requirements=tuple(sorted(bound | set(check.info.requirements))),
    )


def init_files(name: str) -> dict[str, bytes]:
    """Contents of a new assessment folder."""
    from importlib.resources import files

    text = (files("assessor.templates") / "project" / "assessor.yaml").read_text("utf-8")
    return {
        "assessor.yaml": text.replace("{{ name }}", name).encode(),
        ".gitignore": b".assessor/\nkeys/*.p12\n",
    }


def folder_name(folder: Path) -> str:
    """A name for the system, from its folder."""
    return folder.resolve().name or "my system"
