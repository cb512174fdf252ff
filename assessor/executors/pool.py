"""Checks in processes beside this one, each with the subject loaded once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from assessor.engine import Job
from assessor.errors import UsageError
from assessor.executors.work import RETRIES, Piece, Task, Told, Work, died, opened, pieces_of
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
    """A worker process as its owner sees it.

    Attributes:
        process: The process.
        pipe: To and from it.
        number: Of its place in the pool, from 0.
        job: The check it runs.
        item: The piece of its own or another's check that it does.
        gathered: What the pieces of its check gave, while it waits for them.
    """

    process: BaseProcess
    pipe: Connection
    number: int
    job: Job | None = None
    item: _Item | None = None
    gathered: list[bytes | None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it has nothing to do, or only what others do for it."""
        return self.item is None and (self.job is None or self.gathered is not None)


class _Item(NamedTuple):
    """A piece of the work of a worker's check."""

    owner: _Worker
    number: int
    piece: Piece


@dataclass
class _Running:
    """A pool at work."""

    task: Task
    size: int
    told: Told
    workers: list[_Worker] = field(default_factory=list)
    deaths: dict[str, int] = field(default_factory=dict)
    items: deque[_Item] = field(default_factory=deque)

    def runs(self, jobs: list[Job]) -> Generator[CheckRun]:
        waiting = deque(jobs)
        try:
            while waiting or any(worker.job for worker in self.workers):
                self._give_out(waiting)
                yield from self._finished(waiting)
        finally:
            self._stop()

    def _give_out(self, waiting: deque[Job]) -> None:
        wanted = len(waiting) + len(self.items) + sum(not worker.waits for worker in self.workers)
        while len(self.workers) < min(self.size, wanted):
            self.workers.append(self._started())
        for worker in self.workers:
            with suppress(OSError):  # it has died; noticed where it is waited for
                if worker.waits and self.items:
                    worker.item = self.items.popleft()
                    worker.pipe.send(("item", worker.item.piece))
                elif worker.job is None and worker.item is None and waiting:
                    worker.job = waiting.popleft()
                    worker.pipe.send(("job", worker.job))
                    self.told(worker.job.check.id, "", 0, 0)

    def _started(self) -> _Worker:
        number = min(set(range(self.size)) - {worker.number for worker in self.workers})  # that of one that died
        own, other = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(self.task, other), name=f"assessor-worker-{number}"
        )
        with _seeing_one_gpu(number) if self.task.any_gpu else nullcontext():
            process.start()
        other.close()  # so that the worker's death is the end of the stream
        return _Worker(process, own, number)

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
            elif what == "spread":
                worker.gathered = list[bytes | None]([None] * len(values[0]))
                self.items.extend(_Item(worker, number, piece) for number, piece in enumerate(values[0]))
            elif what == "item":
                self._gather(worker, values[0])
            elif what == "part":
                self.told(*values)
            else:
                raise UsageError(values[0])

    def _gather(self, worker: _Worker, result: bytes) -> None:
        assert worker.item is not None
        owner, number, _ = worker.item
        worker.item = None
        if owner.gathered is None:  # it has died meanwhile
            return
        owner.gathered[number] = result
        if None not in owner.gathered:
            with suppress(OSError):
                owner.pipe.send(("spread", owner.gathered))
            owner.gathered = None

    def _replace(self, dead: _Worker, waiting: deque[Job]) -> None:
        self.workers.remove(dead)
        _end(dead)
        dead.gathered = None
        self.items = deque(item for item in self.items if item.owner is not dead)
        if dead.item is not None and dead.item.owner is not dead and dead.item.owner.gathered is not None:
            self._died(dead.item.owner.job)
            self.items.appendleft(dead.item)
        if dead.job is not None:
            self._died(dead.job)
            waiting.appendleft(dead.job)

    def _died(self, job: Job | None) -> None:
        assert job is not None
        name = job.check.id
        self.deaths[name] = self.deaths.get(name, 0) + 1
        if self.deaths[name] > RETRIES:
            raise died(name)

    def _stop(self) -> None:
        for worker in self.workers:
            if (
                worker.job is not None or worker.item is not None
            ):  # the others end by themselves when their pipe is closed
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
    chosen = gpu_of(number, before, _gpus())
    if chosen is not None:
        os.environ[name] = chosen
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        else:
            os.environ.pop(name, None)


def gpu_of(number: int, named: str | None, count: int) -> str | None:
    """The one GPU that a worker sees, as CUDA_VISIBLE_DEVICES names it.

    Args:
        number: The worker's place in the pool, from 0.
        named: What CUDA_VISIBLE_DEVICES is, perhaps UUIDs; None where it is not set.
        count: How many GPUs there are where it is not.

    Returns:
        Its name; None where there are not several, so that nothing is to be chosen.
    """
    names = [str(index) for index in range(count)] if named is None else [name.strip() for name in named.split(",")]
    if "-1" in names:
        names = names[: names.index("-1")]  # CUDA sees those before it only
    return names[number % len(names)] if len(names) > 1 else None


def _gpus() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch is not None else 0


def serve(task: Task, pipe: Connection) -> None:
    """Run checks as they come through a pipe, until it is closed: all that a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the owner to handle: it ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def told(*part: Any) -> None:
        pipe.send(("part", *part))

    def do_piece(piece: Piece) -> None:
        pipe.send(("item", task.done(piece, subject, store, told)))

    def spread(job: Job, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        pipe.send(("spread", pieces_of(job, work, items, subject)))
        while (message := pipe.recv())[0] == "item":
            do_piece(message[1])
        return [opened(content, subject) for content in message[1]]

    try:
        subject, store = task.loaded(), Folder(task.parts)
    except UsageError as fault:
        pipe.send(("fault", str(fault)))
        return
    while True:
        try:
            what, *values = pipe.recv()
        except EOFError:
            return
        if what == "item":
            do_piece(values[0])
        else:
            pipe.send(("run", task.run(values[0], subject, store, told, partial(spread, values[0]))))


def _die_with_parent() -> None:
    """A worker whose owner was killed measures for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
