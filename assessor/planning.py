"""What a run would do, how long it would take and what it would hold, before it is begun."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from assessor.assessment import Measurement, is_current
from assessor.contract import Frozen, Need, NotApplicable, Subject
from assessor.engine import Job, fixed_randomness, key_of, refusal
from assessor.executors import workers_of
from assessor.footprint import Peak
from assessor.model import CheckRun, SubjectRecord

TIMED_ROWS = (1, 1, 4, 16, 64, 256, 256, 256)
TIMED_SECONDS = 0.2  # after so long no more rows are tried


class State(StrEnum):
    """What a run would do with a check."""

    DUE = "due"
    MEASURED = "measured"
    REFUSED = "not applicable"


class Planned(Frozen):
    """One check of a plan.

    Attributes:
        check: Its id.
        state: What would be done.
        seconds: How long it is expected to take; None where nothing is known, 0 where nothing is done.
        by: What the expectation is from: "last run", "model calls" (the model's share alone), or nothing.
        memory_bytes: The most that the process holds meanwhile; None where nothing is known.
        memory_by: What that is from: "last run", "model and data" (at least so much), or nothing.
    """

    check: str
    state: State
    seconds: float | None = None
    by: str = ""
    memory_bytes: int | None = None
    memory_by: str = ""


class Batch(Frozen):
    """What asking the model for some rows took.

    Attributes:
        rows: How many; 0 where the model cannot be asked.
        seconds: How long it took.
        memory_bytes: The most that was held meanwhile, model and data included.
    """

    rows: int = 0
    seconds: float = 0.0
    memory_bytes: int = 0


class Plan(Frozen):
    """What a run would do.

    Attributes:
        device: Where the model is run.
        workers: Checks at a time; None for as many as a cluster has room for.
        batch_rows: Rows of the batch that was timed; 0 where the model cannot be asked.
        batch_seconds: How long the model took for it.
        checks: Every wanted check, in order.
    """

    device: str
    workers: int | None
    batch_rows: int
    batch_seconds: float
    checks: tuple[Planned, ...]

    @property
    def due(self) -> tuple[Planned, ...]:
        """What would be run."""
        return tuple(item for item in self.checks if item.state is State.DUE)

    @property
    def measured(self) -> int:
        """Checks that need not be run."""
        return sum(item.state is State.MEASURED for item in self.checks)

    @property
    def unknown(self) -> int:
        """Checks of unknown length."""
        return sum(item.seconds is None for item in self.due)

    @property
    def seconds(self) -> float:
        """How long those of known length take together, side by side where there are several workers."""
        known = [item.seconds for item in self.due if item.seconds is not None]
        return max([sum(known) / (self.workers or 1), *known], default=0.0)

    @property
    def memory_bytes(self) -> int | None:
        """The most the workers hold together; None where nothing is known of any check."""
        held = sorted((item.memory_bytes for item in self.due if item.memory_bytes is not None), reverse=True)
        return sum(held[: self.workers or 1]) or None

    @property
    def memory_is_least(self) -> bool:
        """Whether it may well be more, for some checks have not been run yet."""
        return any(item.memory_by != "last run" for item in self.due)


def plan(measurement: Measurement, jobs: Sequence[Job]) -> Plan:
    """What `measurement` would do with `jobs`; the model is loaded and asked for one batch, nothing is stored.

    Args:
        measurement: The measurement.
        jobs: What is wanted.

    Returns:
        The plan.

    Raises:
        UsageError: Model or data do not fit.
    """
    return plan_of(measurement, *measurement.loaded(), jobs)


def plan_of(measurement: Measurement, subject: Subject, record: SubjectRecord, jobs: Sequence[Job]) -> Plan:
    """The same where the subject is loaded already.

    Args:
        measurement: The measurement.
        subject: What is measured.
        record: Its digests.
        jobs: What is wanted.

    Returns:
        The plan.
    """
    stored, batch, planned = measurement.place.stored(), _timed(subject), []
    for job in jobs:
        run = stored.get(job.check.id)
        if run is not None and not measurement.fresh and is_current(run, key_of(job, record, subject.device)):
            planned.append(Planned(check=job.check.id, state=State.MEASURED, seconds=0))
        elif not _before_loading(job) and refusal(job.check, subject):
            planned.append(Planned(check=job.check.id, state=State.REFUSED, seconds=0))
        else:
            planned.append(_due(job, subject, run, batch))
    return Plan(
        device=subject.device,
        workers=workers_of(measurement.executor),
        batch_rows=batch.rows,
        batch_seconds=batch.seconds,
        checks=tuple(planned),
    )


def _before_loading(job: Job) -> bool:
    return bool(job.check.info.needs) and job.check.info.needs <= {Need.FILES, Need.DEPENDENCIES}


def _due(job: Job, subject: Subject, last: CheckRun | None, batch: Batch) -> Planned:
    found = Planned(check=job.check.id, state=State.DUE)
    if last is not None and last.metrics and last.params == job.params.model_dump(mode="json"):
        seconds, memory = round(last.seconds * _growth(last, subject), 3), last.peak_memory_bytes
        told = {"seconds": seconds, "by": "last run", "memory_bytes": memory, "memory_by": "last run"}
        return found.model_copy(update=told)
    rows = _asked_for(job, subject)
    if rows is None or not batch.rows:
        return found
    seconds = round(rows * batch.seconds / batch.rows, 3)
    memory = batch.memory_bytes + _added(subject)
    told = {"seconds": seconds, "by": "model calls", "memory_bytes": memory, "memory_by": "model and data"}
    return found.model_copy(update=told)


def _asked_for(job: Job, subject: Subject) -> int | None:
    try:
        return job.check.rows(subject, job.params) if job.check.rows else None
    except NotApplicable:  # told when it is run
        return None


def _added(subject: Subject) -> int:
    """What a check holds beside what is held already, roughly: the largest split once more, a gradient by weights."""
    features = [split.features for split in subject.splits.values()]
    rows = max((part.nbytes for part in features if part is not None and not isinstance(part, np.memmap)), default=0)
    if Need.GRADIENTS not in subject.offers:
        return rows
    return rows + sum(part.numel() * part.element_size() for part in subject.module.parameters())


def _growth(last: CheckRun, subject: Subject) -> float:
    """How many times as many rows there are now as in the last run, over all splits."""
    before: Mapping[str, int] = {name: split.n for name, split in last.subject.data.items()}
    there = [name for name in subject.splits if name in before]
    was = sum(before[name] for name in there)
    return sum(subject.splits[name].n for name in there) / was if was else 1.0


def _timed(subject: Subject) -> Batch:
    """What asking for as many rows as take little time takes; nothing where the model raises: its checks will tell."""
    features = subject.splits["test"].features
    if features is None or not len(features) or Need.QUERY not in subject.offers:
        return Batch()
    peak = Peak.begun(subject.device)
    try:
        with fixed_randomness(0):
            found = _largest(subject, features)
    except Exception:  # noqa: BLE001 - users' models raise anything
        return Batch()
    return found.model_copy(update={"memory_bytes": peak.size})


def _largest(subject: Subject, features: np.ndarray) -> Batch:
    """The largest batch tried and the least time it took; one row comes twice, for the first call takes longer."""
    found, begun = Batch(), time.perf_counter()
    for rows in TIMED_ROWS:
        batch, start = features[:rows], time.perf_counter()
        subject.query(batch)
        taken = time.perf_counter() - start
        if len(batch) > found.rows or taken < found.seconds:
            found = Batch(rows=len(batch), seconds=taken)
        if time.perf_counter() - begun > TIMED_SECONDS:
            break
    return found
