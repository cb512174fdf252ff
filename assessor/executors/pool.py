"""Checks in processes beside this one, each with the subject loaded once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from assessor.engine import Job
from assessor.errors import UsageError
from assessor.executors.work import RETRIES, Task, Told, Work, died
from assessor.keeping import Folder
from assessor.model import CheckRun

STOPPED_AFTER = 5.0  # seconds that a worker has to end before it is killed


@dataclass(frozen=True)
class Pool:
    """So many worker processes on this machine; one that dies is replaced and its check begun again.

    Attributes:
        jobs: How many checks are run at a time.
    """

    jobs: int

    def runs(self, work: Work, told: Told) -> Generator[CheckRun]:
        """Each run as soon as it is there, in no order; at last, one after another, what measures time."""
        side_by_side, alone = work.divided()
        if side_by_side:
            yield from _Running(work.task, self.jobs, told).runs(side_by_side)
        yield from work.here(alone, told)


@dataclass(eq=False)
class _Worker:
    """A worker process as its owner sees it."""

    process: BaseProcess
    pipe: Connection
    job: Job | None = None


@dataclass
class _Running:
    """A pool at work."""

    task: Task
    size: int
    told: Told
    workers: list[_Worker] = field(default_factory=list)
    deaths: dict[str, int] = field(default_factory=dict)

    def runs(self, jobs: list[Job]) -> Generator[CheckRun]:
        waiting = deque(jobs)
        try:
            while waiting or any(worker.job for worker in self.workers):
                self._give_out(waiting)
                yield from self._finished(waiting)
        finally:
            self._stop()

    def _give_out(self, waiting: deque[Job]) -> None:
        while waiting and len(self.workers) < self.size and all(worker.job for worker in self.workers):
            self.workers.append(self._started(len(self.workers)))
        for worker in self.workers:
            if waiting and worker.job is None:
                worker.job = waiting.popleft()
                try:
                    worker.pipe.send(worker.job)
                except OSError:  # it has died; noticed where it is waited for
                    continue
                self.told(worker.job.check.id, "", 0, 0)

    def _started(self, number: int) -> _Worker:
        own, other = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(self.task, other), name=f"assessor-worker-{number}"
        )
        with _seeing_one_gpu(number) if self.task.any_gpu else nullcontext():
            process.start()
        other.close()  # so that the worker's death is the end of the stream
        return _Worker(process, own)

    def _finished(self, waiting: deque[Job]) -> Generator[CheckRun]:
        ready = set(connection.wait([worker.pipe for worker in self.workers]))
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                what, *values = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker, waiting)
                continue
            if what == "run":
                worker.job = None
                yield values[0]
            elif what == "part":
                self.told(*values)
            else:
                raise UsageError(values[0])

    def _replace(self, dead: _Worker, waiting: deque[Job]) -> None:
        self.workers.remove(dead)
        _end(dead)
        if dead.job is not None:
            name = dead.job.check.id
            self.deaths[name] = self.deaths.get(name, 0) + 1
            if self.deaths[name] > RETRIES:
                raise died(name)
            waiting.appendleft(dead.job)

    def _stop(self) -> None:
        for worker in self.workers:
            if worker.job is not None:  # the others end by themselves when their pipe is closed
                worker.process.terminate()
        for worker in self.workers:
            _end(worker)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join(STOPPED_AFTER)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.process.close()


@contextmanager
def _seeing_one_gpu(number: int) -> Iterator[None]:
    """Where several GPUs are there, processes started meanwhile see one each, in turn."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    visible = before.split(",") if before else [str(index) for index in range(_gpus())]
    if len(visible) > 1:
        os.environ[name] = visible[number % len(visible)]
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        else:
            os.environ.pop(name, None)


def _gpus() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch is not None else 0


def serve(task: Task, pipe: Connection) -> None:
    """Run checks as they come through a pipe, until it is closed: all that a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the owner to handle: it ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def told(*part: Any) -> None:
        pipe.send(("part", *part))

    try:
        subject, store = task.loaded(), Folder(task.parts)
    except UsageError as fault:
        pipe.send(("fault", str(fault)))
        return
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        pipe.send(("run", task.run(job, subject, store, told)))


def _die_with_parent() -> None:
    """A worker whose owner was killed measures for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
