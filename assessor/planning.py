"""What a run would do and how long it would take, before it is begun."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum

from assessor.assessment import Measurement, is_current
from assessor.contract import Frozen, Need, Subject
from assessor.engine import Job, key_of, refusal
from assessor.executors import workers_of
from assessor.model import CheckRun

TIMED_ROWS = 256
TIMED_CALLS = 3


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
        by: What the expectation is from: "last run", "model calls", or nothing.
        memory_bytes: The most its last run held; None without one.
    """

    check: str
    state: State
    seconds: float | None = None
    by: str = ""
    memory_bytes: int | None = None


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
        """The most the workers hold together, by the largest of earlier runs; None without one."""
        held = sorted((item.memory_bytes for item in self.due if item.memory_bytes is not None), reverse=True)
        return sum(held[: self.workers or 1]) or None


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
    subject, record = measurement.loaded()
    stored = measurement.place.stored()
    rows, seconds = _timed(subject)
    per_row = seconds / rows if rows else None
    planned = []
    for job in jobs:
        run = stored.get(job.check.id)
        if run is not None and not measurement.fresh and is_current(run, key_of(job, record, subject.device)):
            planned.append(Planned(check=job.check.id, state=State.MEASURED, seconds=0))
        elif not _before_loading(job) and refusal(job.check, subject):
            planned.append(Planned(check=job.check.id, state=State.REFUSED, seconds=0))
        else:
            planned.append(_due(job, subject, run, per_row))
    return Plan(
        device=subject.device,
        workers=workers_of(measurement.executor),
        batch_rows=rows,
        batch_seconds=seconds,
        checks=tuple(planned),
    )


def _before_loading(job: Job) -> bool:
    return bool(job.check.info.needs) and job.check.info.needs <= {Need.FILES, Need.DEPENDENCIES}


def _due(job: Job, subject: Subject, last: CheckRun | None, per_row: float | None) -> Planned:
    if last is not None and last.metrics and last.params == job.params.model_dump(mode="json"):
        seconds = round(last.seconds * _growth(last, subject), 3)
        memory = last.peak_memory_bytes
        return Planned(check=job.check.id, state=State.DUE, seconds=seconds, by="last run", memory_bytes=memory)
    if job.check.rows is not None and per_row is not None:
        seconds = round(job.check.rows(subject, job.params) * per_row, 3)
        return Planned(check=job.check.id, state=State.DUE, seconds=seconds, by="model calls")
    return Planned(check=job.check.id, state=State.DUE)


def _growth(last: CheckRun, subject: Subject) -> float:
    """How many times as many rows there are now as in the last run, over all splits."""
    before: Mapping[str, int] = {name: split.n for name, split in last.subject.data.items()}
    there = [name for name in subject.splits if name in before]
    was = sum(before[name] for name in there)
    return sum(subject.splits[name].n for name in there) / was if was else 1.0


def _timed(subject: Subject) -> tuple[int, float]:
    """Rows of one batch and the least seconds that the model took for it in a few calls."""
    features = subject.splits["test"].features
    if features is None or Need.QUERY not in subject.offers:
        return 0, 0.0
    batch, taken = features[:TIMED_ROWS], []
    for _ in range(TIMED_CALLS):
        begun = time.perf_counter()
        subject.query(batch)
        taken.append(time.perf_counter() - begun)
    return len(batch), min(taken)
