"""One assessment as a whole: read from its folder, measured, judged. What every command starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from assessor import __version__, ledger
from assessor.applicability import Scope
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Check, Need, Subject
from assessor.criteria import followed_catalog
from assessor.engine import Job, is_same, key_of, rejudge, subject_record
from assessor.errors import UsageError
from assessor.executors import Executor, Serial, Task, Work
from assessor.judgement import Facts, judge_assessment, judge_overall
from assessor.messages import SOURCE, language, speaking
from assessor.model import (
    Answer,
    Audit,
    AuditSummary,
    Catalog,
    CheckRun,
    Configuration,
    Contradiction,
    DimensionState,
    Evidence,
    JudgedTarget,
    Known,
    OverallState,
    Status,
    SubjectRecord,
    TargetSpec,
)
from assessor.observing import Happened, Watch, is_watched
from assessor.project import Project, now
from assessor.registry import find_check, load_checks
from assessor.verdicts import judged_against


class Step(Protocol):
    """Told how far a measurement is."""

    def __call__(self, what: str, done: int, total: int, part: str = "") -> None:
        """What is done next, how many are done, of how many; with `part` of the parts of a long check."""


def _silent(what: str, done: int, total: int, part: str = "") -> None:
    """Tell nobody."""


HERE = Serial()
Before = Callable[[Subject, SubjectRecord, Sequence[Job]], None]
"""Told what is about to be run: the loaded subject, its digests, and what is wanted."""


@dataclass(frozen=True)
class Assessment:
    """Everything an assessment folder says, and what follows from it.

    Attributes:
        configuration: assessor.yaml.
        catalog: The catalog it follows, in the language in use.
        answers: Answers by requirement id.
        audits: The auditor's verdicts by requirement id.
        summary: The auditor's ratings, trade-offs and conclusion.
        known: What was found in files, by key.
        runs: Current results by check id.
        run_ids: Their run ids.
        ledger_head: Hash of the ledger's last line.
        ledger_size: Number of its lines.
        ledger_root: Root of the Merkle tree over them.
        today: Day at which the age of evidence is counted.
        evidence: The register of evidence, by digest.
    """

    configuration: Configuration
    catalog: Catalog
    answers: Mapping[str, Answer]
    audits: Mapping[str, Audit]
    summary: AuditSummary
    known: Mapping[str, Sequence[Known]]
    runs: Mapping[str, CheckRun]
    run_ids: Mapping[str, str]
    ledger_head: str
    ledger_size: int
    ledger_root: str
    today: date
    evidence: Mapping[str, Evidence] = field(default_factory=dict)

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
        tree = ledger.tree_head(project.ledger_bytes())
        return cls(
            configuration=configuration,
            catalog=catalog,
            answers=project.answers(catalog),
            audits=project.audits(catalog),
            summary=project.audit_summary(),
            known=project.known(),
            evidence=project.evidence(catalog),
            runs=project.runs(),
            run_ids=project.run_ids(),
            ledger_head=tree.head,
            ledger_size=tree.size,
            ledger_root=tree.root,
            today=now().date(),
        )

    @cached_property
    def scope(self) -> Scope:
        """What conditions are decided on."""
        return Scope(self.catalog, self.configuration, self.answers, evidence=self.evidence)

    @cached_property
    def facts(self) -> Facts:
        """All that is judged on."""
        return Facts(self.scope, self.runs, self.audits, self.summary, self.today)

    @cached_property
    def states(self) -> tuple[DimensionState, ...]:
        """Judgement by dimension, in the language in use."""
        return judge_assessment(self.facts)

    @cached_property
    def overall(self) -> OverallState:
        """Judgement of the whole."""
        return judge_overall(self.states, self.facts)

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
        """The machine-readable whole, as it is put into reports: plain data in English, canonical as JSON."""
        with speaking(SOURCE):
            catalog = followed_catalog(self.configuration)
            facts = replace(self.facts, scope=replace(self.scope, catalog=catalog))
            states = judge_assessment(facts)
            overall = judge_overall(states, facts)
        return {
            "format": 1,
            "tool": {"name": "ai-assessor", "version": __version__},
            "created": now().isoformat().replace("+00:00", "Z"),
            "catalog": {
                "id": catalog.head.id,
                "version": catalog.head.version,
                "packs": list(self.configuration.catalog.packs),
                "sha256": catalog.sha256,
            },
            "configuration": self.configuration.model_dump(mode="json"),
            "answers": {name: answer.model_dump(mode="json") for name, answer in self.answers.items()},
            "audit": {name: audit.model_dump(mode="json") for name, audit in self.audits.items()},
            "audit_summary": self.summary.model_dump(mode="json"),
            "evidence": {digest: item.model_dump(mode="json") for digest, item in self.evidence.items()},
            "results": {
                check: {"run": self.run_ids[check], "sha256": sha256_hex(canonical_json(run)), "result": _plain(run)}
                for check, run in self.runs.items()
            },
            "judgement": [state.model_dump(mode="json") for state in states],
            "overall": overall.model_dump(mode="json"),
            "ledger": {"size": self.ledger_size, "root": self.ledger_root, "head": self.ledger_head},
        }


def _plain(run: CheckRun) -> dict[str, Any]:
    return run.model_dump(mode="json")


def measure(
    project: Project,
    ids: Sequence[str] = (),
    *,
    device: str | None = None,
    seed: int | None = None,
    fresh: bool = False,
    trust: bool = False,
    step: Step = _silent,
    executor: Executor = HERE,
) -> list[CheckRun]:
    """Run checks and keep each result as soon as it is there.

    Args:
        project: The folder.
        ids: Which checks; default all that are not switched off.
        device: Overrides target.device.
        seed: Overrides target.seed.
        fresh: Measure again what is already measured.
        trust: Load the model even where its files or their format can run code.
        step: Told how far it is.
        executor: Where checks are run.

    Returns:
        The current run of every wanted check, in order of id.

    Raises:
        UsageError: Configuration, model or data do not fit.
    """
    measurement, jobs, guarding = planned(
        project, ids, device=device, seed=seed, fresh=fresh, trust=trust, step=step, executor=executor
    )
    return measurement.run(jobs, guarding)


def planned(
    project: Project,
    ids: Sequence[str] = (),
    *,
    device: str | None = None,
    seed: int | None = None,
    fresh: bool = False,
    trust: bool = False,
    step: Step = _silent,
    executor: Executor = HERE,
) -> tuple[Measurement, list[Job], list[Job]]:
    """The measurement that `measure` makes, what is wanted of it, and what is run before the model is loaded.

    Raises:
        UsageError: The configuration does not fit.
    """
    configuration = project.configuration()
    checks = load_checks()
    project.check_ids_known(list(checks))
    catalog = followed_catalog(configuration, SOURCE)
    if configuration.target is None:
        raise UsageError("assessor.yaml: no target: say what is to be measured; see  assessor init")
    wanted = [find_check(name, checks) for name in ids] or [
        check for name, check in checks.items() if configuration.checks.get(name) is not False
    ]
    chosen_seed = configuration.target.seed if seed is None else seed
    guards = [check for check in guards_of(checks) if configuration.checks.get(check.id) is not False]
    jobs, guarding = (
        [_job(check, project, configuration, catalog, chosen_seed) for check in some]
        for some in (wanted, guards if configuration.target.model_files else [])
    )
    place = Place(project.folder.resolve(), project.folder / ".assessor" / "kept", project.runs, project.save_run)
    return Measurement(place, configuration.target, device, fresh, trust, step, executor), jobs, guarding


def guards_of(checks: Mapping[str, Check]) -> list[Check]:
    """The checks that look at the model's files before they are loaded."""
    return [check for check in checks.values() if check.info.needs == {Need.FILES}]


@dataclass(frozen=True)
class Place:
    """Where a measurement finds the system and keeps what it measured.

    Attributes:
        folder: Where relative paths and modules are looked up.
        parts: Folder for parts of checks that were stopped.
        stored: Gives the results that are there, by check id.
        save: Stores a result.
    """

    folder: Path
    parts: Path
    stored: Callable[[], Mapping[str, CheckRun]]
    save: Callable[[CheckRun], object]


@dataclass(frozen=True)
class Measurement:
    """One measurement of a system.

    Attributes:
        place: Where the system is and results go.
        target: What is measured.
        device: Overrides the target's.
        fresh: Measure again what is already measured.
        trust: Load the model even where its files or their format can run code.
        step: Told how far it is.
        executor: Where checks are run on the loaded model.
        profile: Folder for a profile of each check; None for none.
        before: Told what is about to be run on the loaded model.
    """

    place: Place
    target: TargetSpec
    device: str | None = None
    fresh: bool = False
    trust: bool = False
    step: Step = _silent
    executor: Executor = HERE
    profile: Path | None = None
    before: Before | None = None

    def run(self, jobs: list[Job], guarding: list[Job]) -> list[CheckRun]:
        """First what needs no more than files; the model is loaded after that, and only when it is needed.

        Args:
            jobs: What is wanted.
            guarding: What is run before the model is loaded, wanted or not.

        Returns:
            The runs of what is wanted.
        """
        from assessor.subjects import BEFORE_LOADING, load_files

        runs: dict[str, CheckRun] = {}
        watch = Watch(self.profile)
        first = [job for job in jobs if job.check.info.needs and job.check.info.needs <= BEFORE_LOADING]
        rest = [job for job in jobs if job not in first]
        asked = {job.check.id for job in jobs}
        before = first + [job for job in guarding if rest and job.check.id not in asked]
        if before:
            files = load_files(self.target, self.place.folder)
            display = _Display(self.step, len(jobs), watch=watch)
            runs |= self._of(files, subject_record(files, "files", None), before, HERE, display)
        if rest:
            overridden = self._refuse_danger(runs.values())
            self.step("loading model and data", len(first), len(jobs))
            subject, record = self.loaded()
            record = record.model_copy(update={"trusted": record.trusted or overridden})
            if self.before is not None:
                self.before(subject, record, rest)
            display = _Display(self.step, len(jobs), len(first), watch=watch)
            runs |= self._of(subject, record, rest, self.executor, display)
        self.step("done", len(jobs), len(jobs))
        return [runs[job.check.id] for job in jobs]

    def loaded(self) -> tuple[Subject, SubjectRecord]:
        """Model and data, and their digests.

        Raises:
            UsageError: They do not fit.
        """
        from assessor.subjects import load_subject

        subject, kind, model_sha256 = load_subject(self.target, self.place.folder, device=self.device, trust=self.trust)
        return subject, subject_record(subject, kind, model_sha256)

    def _refuse_danger(self, runs: Iterable[CheckRun]) -> bool:
        """Whether the model is loaded in spite of what its files hold."""
        dangerous = [run for run in runs if run.danger]
        for run in dangerous:
            if not self.trust:
                raise UsageError(
                    f"{run.check}: {run.danger} The model was not loaded and nothing else was measured. Look into its "
                    "files; to load it all the same, add --trust"
                )
        return bool(dangerous)

    def _of(
        self, subject: Subject, record: SubjectRecord, jobs: list[Job], executor: Executor, display: _Display
    ) -> dict[str, CheckRun]:
        """The runs by check id: stored ones as they are or judged anew, the others measured and stored."""
        stored, runs, due = self.place.stored(), {}, []
        for job in jobs:
            run = stored.get(job.check.id)
            if run is None or self.fresh or not is_current(run, key_of(job, record, subject.device)):
                due.append(job)
                continue
            if not is_same(run, job) or self._kept(run) is not run:
                run = self._kept(rejudge(run, job))
                self.place.save(run)
            runs[job.check.id] = run
            display.watch.finished(run, stored=True)
            display.finished(job.check.id)
        due.sort(
            key=lambda job: -_seconds(stored.get(job.check.id))
        )  # the longest first: none is waited for at the end
        with closing(executor.runs(Work(self._task(subject, record), subject, due), display.told)) as done:
            for run in map(self._kept, done):
                self.place.save(run)
                runs[run.check] = run
                display.watch.finished(run)
                display.finished(run.check)
        return runs

    def _kept(self, run: CheckRun) -> CheckRun:
        """The run as it is kept: without outcomes of single rows where these are not wanted."""
        if self.target.row_outcomes or not run.outcomes:
            return run
        return run.model_copy(update={"outcomes": ()})

    def _task(self, subject: Subject, record: SubjectRecord) -> Task:
        chosen = self.device or self.target.device
        return Task(
            target=self.target,
            folder=self.place.folder,
            device=subject.device,
            any_gpu=chosen in {"auto", "cuda"},
            trust=self.trust,
            record=record,
            parts=self.place.parts,
            fresh=self.fresh,
            profile=self.profile is not None,
            watched=is_watched(),
        )


def is_current(run: CheckRun, key: str) -> bool:
    """Whether a stored run is a measurement of that key, which need not be made again."""
    return run.key == key and run.outcome.status is not Status.ERROR


def _seconds(run: CheckRun | None) -> float:
    return 0.0 if run is None else run.seconds


@dataclass
class _Display:
    """What runs at the moment, told to one display whichever worker runs it."""

    step: Step
    total: int
    done: int = 0
    running: dict[str, None] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)

    def told(self, check: str, what: str, done: int, total: int, happened: Happened | None = None, /) -> None:
        """A check begins, or comes to another of its parts; or something happened, for who watches."""
        if happened is not None:
            self.watch.seen(check, happened)
            return
        self.running[check] = None
        if what:
            self.step(check, done, total, part=what)
        else:
            self.step(", ".join(self.running), self.done, self.total)

    def finished(self, check: str) -> None:
        """A check is done."""
        self.running.pop(check, None)
        self.done += 1
        if self.running:
            self.step(", ".join(self.running), self.done, self.total)


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
    """Contents of a new assessment folder, with comments in the language in use."""
    from importlib.resources import files

    template = "assessor.yaml" if language() == SOURCE else f"assessor.{language()}.yaml"
    text = (files("assessor.templates") / "project" / template).read_text("utf-8")
    return {
        "assessor.yaml": text.replace("{{ name }}", name).encode(),
        ".gitignore": b".assessor/\nkeys/*.p12\n",
    }


def folder_name(folder: Path) -> str:
    """A name for the system, from its folder."""
    return folder.resolve().name or "my system"
