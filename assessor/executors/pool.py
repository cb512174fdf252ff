"""Checks in processes beside this one, each with the subject loaded once."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from assessor.errors import UsageError
from assessor.executors.dispatch import Dispatcher, Message, attend
from assessor.executors.work import Task, Told, Work
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
            yield from Dispatcher(_Processes(work.task), self.jobs, told).runs(side_by_side)
        yield from work.here(alone, told)


class _Process(NamedTuple):
    """A worker process, and the pipe to and from it."""

    process: BaseProcess
    pipe: Connection


class _Processes:
    """Workers on this machine."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._begun = 0
        self._there: dict[int, _Process] = {}

    def begin(self, number: int) -> int:
        """A new process."""
        context = multiprocessing.get_context("spawn")
        own, other = context.Pipe()
        process = context.Process(target=serve, args=(self._task, other), name=f"assessor-worker-{number}")
        with _seeing_one_gpu(number) if self._task.any_gpu else nullcontext():
            process.start()
        other.close()  # so that the worker's death is the end of the stream
        self._begun += 1
        self._there[self._begun] = _Process(process, own)
        return self._begun

    def send(self, worker: int, message: Message) -> None:
        """Through its pipe."""
        with suppress(OSError, KeyError):  # it has died; noticed where it is waited for
            self._there[worker].pipe.send(message)

    def heard(self) -> Sequence[tuple[int, Message | None]]:
        """One message of each that has said something."""
        ready = set(connection.wait([worker.pipe for worker in self._there.values()]))
        return [(name, self._message(name)) for name, worker in list(self._there.items()) if worker.pipe in ready]

    def _message(self, name: int) -> Message | None:
        try:
            message: Message = self._there[name].pipe.recv()
        except (EOFError, OSError):
            _end(self._there.pop(name))
            return None
        return message

    def stop(self, busy: set[int]) -> None:
        """All of them are told before one is waited for."""
        for name, worker in self._there.items():
            if name in busy:  # the others end by themselves when their pipe is closed
                worker.process.terminate()
            worker.pipe.close()
        for worker in self._there.values():
            _end(worker)


def _end(worker: _Process) -> None:
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
    """All that a worker process does: checks as they come through a pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the owner to handle: it ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        attend(task, task.loaded(), Folder(task.parts), pipe.send, pipe.recv)
    except UsageError as fault:
        pipe.send(("fault", str(fault)))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # to take down all modules one after another lasts longer than many a check


def _die_with_parent() -> None:
    """A worker whose owner was killed measures for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
