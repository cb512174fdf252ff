"""What is run, and how it is run in one process."""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from assessor.batches import rows_by_trial
from assessor.contract import Lent, NotApplicable, Subject, collecting, lending, remark
from assessor.engine import Job, fixed_randomness, run_job, scope_of, subject_record
from assessor.errors import UsageError
from assessor.keeping import Folder, Store, lent_from
from assessor.model import CheckRun, SubjectRecord, TargetSpec
from assessor.observing import Happened, begun, profiled, watched

RETRIES = 3
"""How often a check is begun again after its worker died, before the run ends."""


def torch_threads() -> int | None:
    """Threads of torch in this process; None where it is not loaded."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else None


@dataclass(frozen=True)
class Task:
    """What every worker must know to run checks on one subject.

    Attributes:
        target: What is measured, as assessor.yaml says.
        folder: Where its names are looked up.
        device: Torch's name of the device.
        any_gpu: Whether another GPU does as well as the one of `device`.
        trust: Whether the user vouches for files that may run code.
        record: Digests of what is measured.
        parts: Folder for parts of checks that were stopped.
        fresh: Whether to find no part that an earlier run has kept.
        profile: Whether a profile of each check is wanted.
        watched: Whether somebody wants to know what happens meanwhile.
        threads: Torch's threads: sums depend on their number, so every worker has as many as the process that asks.
    """

    target: TargetSpec
    folder: Path
    device: str
    trust: bool
    record: SubjectRecord
    parts: Path
    any_gpu: bool = False
    fresh: bool = False
    profile: bool = False
    watched: bool = False
    threads: int | None = field(default_factory=torch_threads)

    def loaded(self) -> Subject:
        """The subject, loaded in this process.

        Raises:
            UsageError: It is not the one that was asked for.
        """
        from assessor.subjects import load_subject

        subject, kind, model_sha256 = load_subject(self.target, self.folder, device=self.device, trust=self.trust)
        self.set_threads()
        record = subject_record(subject, kind, model_sha256)
        if record.model_copy(update={"trusted": self.record.trusted}) != self.record:
            raise UsageError(
                "model or data are not the same when they are loaded once more, so that several workers would measure "
                "different things; make loading repeatable (fix its seeds), or run without --jobs and --executor"
            )
        return subject

    def set_threads(self) -> None:
        """As many threads of torch here as where the task comes from."""
        torch = sys.modules.get("torch")
        if torch is not None and self.threads and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def run(self, job: Job, subject: Subject, store: Store, told: Told, spread: Spread | None = None) -> CheckRun:
        """One check, with its parts kept in `store`; `spread` hands pieces of its work to other workers."""
        from assessor.subjects import importable

        tell, imports = _telling(told, job), importable(self.folder)  # a model may import when it is called
        if self.watched:
            tell(begun())
        lent = replace(self._lent(job, subject, store, told), spread=spread)
        with imports, lending(lent), profiled(job.check.id, tell if self.profile else None):
            return run_job(job, subject, self.record)

    def done(self, piece: Piece, subject: Subject, store: Store, told: Told) -> bytes:
        """What a piece of a check's work gives, packed as `opened` takes it."""
        from assessor.subjects import importable

        job, lent = piece.job, self._lent(piece.job, subject, store, told)
        with importable(self.folder), lending(lent), fixed_randomness(job.seed), collecting() as remarks:
            try:
                work, item = _unpacked_work(piece.work, cast("Any", subject)), _Unpickler(piece.item, subject).load()
                return _packed((True, work(item), remarks), subject)
            except Exception as fault:  # noqa: BLE001 - raised again where the check runs
                return _packed_fault(fault, remarks, subject)

    def _lent(self, job: Job, subject: Subject, store: Store, told: Told) -> Lent:
        scope = scope_of(job, self.record, subject.device)
        lent = lent_from(store, scope, partial(told, job.check.id), fresh=self.fresh)
        lent = replace(lent, rows=rows_by_trial(subject, self.record.model_sha256, store))
        return watched(lent, _telling(told, job)) if self.watched else lent


def _telling(told: Told, job: Job) -> Callable[[Happened], None]:
    """Tells what happens while a check is run."""
    return lambda happened: told(job.check.id, "", 0, 0, happened)


Spread = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


class Piece(NamedTuple):
    """A piece of a check's work on its way to another worker.

    Attributes:
        job: The check.
        work: What is done, packed: the same for all its pieces, so that a worker opens it once.
        item: What it is done for, packed.
    """

    job: Job
    work: bytes
    item: bytes


def pieces_of(job: Job, work: Callable[[Any], Any], items: Sequence[Any], subject: Subject) -> list[Piece]:
    """A check's work for each item, for other workers."""
    what = _packed(work, subject)
    return [Piece(job, what, _packed(item, subject)) for item in items]


def _own(subject: Subject) -> dict[str, object]:
    """What every worker has itself, by the name that is sent for it; a module must stay the one its subject asks."""
    found: dict[str, object] = {"subject": subject}
    with suppress(NotApplicable):
        found["module"] = subject.module
    with suppress(NotApplicable):
        found |= {"baseline": subject.baseline, "baseline module": subject.baseline.module}
    return found


class _Pickler(pickle.Pickler):
    """Packs values for another worker, which has the subject already."""

    def __init__(self, stream: io.BytesIO, subject: Subject) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = {id(value): name for name, value in _own(subject).items()}

    def persistent_id(self, obj: object) -> str | None:
        """What the other worker has is sent as a name."""
        return self._names.get(id(obj))


class _Unpickler(pickle.Unpickler):  # noqa: S301 - of this run's own workers
    """Opens what another worker of the same run packed."""

    def __init__(self, content: bytes, subject: Subject) -> None:
        super().__init__(io.BytesIO(content))
        self._own = _own(subject)

    def persistent_load(self, pid: Any) -> object:
        """This worker's own subject or module."""
        return self._own[pid]


@lru_cache(maxsize=1)
def _unpacked_work(content: bytes, subject: Subject) -> Callable[[Any], Any]:
    found: Callable[[Any], Any] = _Unpickler(content, subject).load()
    return found


def _packed(value: object, subject: Subject) -> bytes:
    """A value for another worker, without the subject."""
    stream = io.BytesIO()
    _Pickler(stream, subject).dump(value)
    return stream.getvalue()


def _packed_fault(fault: Exception, remarks: list[str], subject: Subject) -> bytes:
    try:
        content = _packed((False, fault, remarks), subject)
        _Unpickler(content, subject).load()
    except Exception:  # noqa: BLE001 - some exceptions cannot be sent
        return _packed((False, RuntimeError(f"{type(fault).__name__}: {fault}"), remarks), subject)
    return content


def opened(content: bytes, subject: Subject) -> Any:
    """What a piece gave; its remarks are made here, and what it raised is raised here."""
    good, value, remarks = _Unpickler(content, subject).load()
    for text in remarks:
        remark(text)
    if not good:
        raise value
    return value


@dataclass(frozen=True)
class Work:
    """Checks to run on one subject, which is loaded in this process."""

    task: Task
    subject: Subject
    jobs: Sequence[Job]

    def here(self, jobs: Sequence[Job], told: Told) -> Generator[CheckRun]:
        """Some of them one after another in this process."""
        for job in jobs:
            told(job.check.id, "", 0, 0)
            yield self.task.run(job, self.subject, Folder(self.task.parts), told)

    def divided(self) -> tuple[list[Job], list[Job]]:
        """What can be run side by side, and what measures time and so is run alone."""
        return [job for job in self.jobs if job.check.info.repeatable], [
            job for job in self.jobs if not job.check.info.repeatable
        ]


class Told(Protocol):
    """Told how far a check is."""

    def __call__(self, check: str, what: str, done: int, total: int, happened: Happened | None = None, /) -> None:
        """Which check, which part is done next, how many are done, of how many; no part when the check begins.

        What happened, for who watches, comes without any of that.
        """


class Executor(Protocol):
    """Runs checks somewhere."""

    def runs(self, work: Work, told: Told) -> Generator[CheckRun]:
        """Each run as soon as it is there, every check once; closing the iterator stops what still runs.

        Raises:
            UsageError: It cannot be run there.
        """
        ...


@dataclass(frozen=True)
class Serial:
    """One after another in this process."""

    def runs(self, work: Work, told: Told) -> Generator[CheckRun]:
        """Each run as soon as it is there."""
        return work.here(work.jobs, told)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def died(check: str) -> UsageError:
    """The fault of a check whose workers die again and again."""
    return UsageError(
        f"{check}: its worker process died {RETRIES + 1} times, perhaps for lack of memory; finished checks are kept: "
        f"run again with fewer --jobs, or leave it out with  checks: {{{check}: false}}  in assessor.yaml"
    )
