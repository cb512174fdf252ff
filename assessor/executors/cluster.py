"""Checks on a Ray cluster, on this machine or others, with model and data placed there once."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from assessor.contract import Subject
from assessor.engine import Job
from assessor.errors import MissingExtra, UsageError
from assessor.executors.work import RETRIES, Piece, Task, Told, Work, cores, died, opened, pieces_of
from assessor.keeping import Folder
from assessor.model import CheckRun

LOOKED_AFTER = 0.2  # seconds between two looks at what workers tell
STORE_BYTES = 200 * 2**20  # of a cluster that is started for one run; more where model and data need it
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Cluster:
    """Tasks on a cluster; Ray begins one anew whose worker or node died, and each check is stored once.

    Attributes:
        address: "ray://HOST:PORT" or "HOST:PORT" of a cluster that is there; None for one on this machine, which ends
            with the run.
        jobs: How many checks are run at a time; None for as many as there is room for.
    """

    address: str | None = None
    jobs: int | None = None

    def runs(self, work: Work, told: Told) -> Generator[CheckRun]:
        """Each run as soon as it is there, in no order; at last, one after another here, what measures time.

        Yields:
            Runs.

        Raises:
            MissingExtra: Ray is not installed.
        """
        if find_spec("ray") is None:
            raise MissingExtra("--executor ray", "ray")
        side_by_side, alone = work.divided()
        if side_by_side:
            with self._connected():
                yield from _run_all(work.task, work.subject, side_by_side, told, self.jobs)
        yield from work.here(alone, told)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Join the cluster, or start one; one that this process is connected to already is used and stays."""
        ray = _ray()

        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        here: dict[str, Any] = {"num_cpus": self.jobs or cores(), "object_store_memory": STORE_BYTES}
        try:
            ray.init(
                self.address or "local",  # even where another cluster runs on this machine
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": _environment()},
                **(here if self.address is None else {}),
            )
        except (ConnectionError, ImportError, RuntimeError, ValueError) as fault:
            raise UsageError(f"--executor {self.address or 'ray'}: cannot be reached: {fault}") from fault
        try:
            yield
        finally:
            ray.shutdown()


def _environment() -> Mapping[str, str]:
    """What makes a worker count as this process does: Ray alone would give it one thread."""
    threads = {name: os.environ[name] for name in THREADS if name in os.environ}
    return {"OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "PASSIVE", **threads}


def _ray() -> Any:
    """Ray, whose own types are of little help."""
    return import_module("ray")


# --- the driver's side -----------------------------------------------------------------------------------------------


def _run_all(task: Task, subject: Subject, jobs: list[Job], told: Told, most: int | None) -> Generator[CheckRun]:
    ray = _ray()

    store = Folder(task.parts)
    kept = {} if task.fresh else {path.name: path.read_bytes() for path in sorted(task.parts.glob("*.json"))}
    desk = ray.remote(num_cpus=0, max_task_retries=RETRIES, **_beside_driver())(Desk).remote(kept)
    placed = _placed(task, subject)
    given = ray.put(replace(task, fresh=False))  # on the desk is nothing but what this run may find
    remote = ray.remote(num_cpus=1, num_gpus=_gpu_share(task, most), max_retries=RETRIES)(measured)
    waiting = list(reversed(jobs))
    running: dict[Any, Job] = {}
    try:
        while waiting or running:
            while waiting and (most is None or len(running) < most):
                job = waiting.pop()
                running[remote.remote([given, placed], job, desk)] = job
            done, _ = ray.wait(list(running), timeout=LOOKED_AFTER)
            for what in ray.get(desk.taken.remote()):
                if what[0] == "kept":
                    store.write(*what[1:])
                elif what[1] in {job.check.id for job in running.values()}:
                    told(*what[1:])
            for reference in done:
                yield _result(reference, running.pop(reference))
    finally:
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference, force=True)
        with suppress(Exception):
            ray.kill(desk)


def _result(reference: Any, job: Job) -> CheckRun:
    ray = _ray()

    try:
        run: CheckRun = ray.get(reference)
    except _deaths() as fault:
        raise died(job.check.id) from fault
    except ray.exceptions.RayTaskError as fault:
        if isinstance(fault.cause, UsageError):
            raise UsageError(str(fault.cause)) from fault
        raise
    return run


def _deaths() -> tuple[type[BaseException], ...]:
    """What Ray says of work whose workers died as often as they may."""
    said = _ray().exceptions
    return said.WorkerCrashedError, said.NodeDiedError, said.OutOfMemoryError


def _beside_driver() -> dict[str, Any]:
    """Where the desk stands: on the node this process is connected to, which outlives the others."""
    node = _ray().get_runtime_context().get_node_id()
    affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    return {"scheduling_strategy": affinity(node_id=node, soft=True)}


def _gpu_share(task: Task, most: int | None) -> float:
    """Which part of a GPU a check is given."""
    return share_of_gpu(_ray().cluster_resources().get("GPU", 0), most) if task.device.startswith("cuda") else 0


def share_of_gpu(there: float, most: int | None) -> float:
    """Which part of a GPU a check is given so that as many fit as are to run at a time.

    >>> [share_of_gpu(2, most) for most in (None, 1, 2, 3, 4, 5)]
    [1.0, 1.0, 1.0, 0.5, 0.5, 0.3333333333333333]
    """
    return 1 / max(1, math.ceil(most / there)) if most and there else 1.0


def _placed(task: Task, subject: Subject) -> Any:
    """The subject in the object store, with the code of its own folder; None where it cannot be taken along.

    One on a GPU, and one that is asked in a process or over a network, is loaded by each worker instead.
    """
    ray = _ray()

    if task.device != "cpu":
        return None
    own = [module for module in list(sys.modules.values()) if _lies_in(task.folder, module)]
    for module in own:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        return ray.put(subject)
    except ray.exceptions.ObjectStoreFullError:
        return None
    except (TypeError, AttributeError, ValueError, RuntimeError, NotImplementedError) as fault:
        del fault  # what it said is about how Python packs objects
        return None
    finally:
        for module in own:
            ray.cloudpickle.unregister_pickle_by_value(module)


def _lies_in(folder: Path, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder) and module.__name__ in sys.modules


class Desk:
    """Where workers leave parts and messages for the driver, and find parts; one process without work of its own."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        """With the parts that the driver has on disk."""
        self._kept = kept
        self._left: list[tuple[Any, ...]] = []

    def read(self, name: str) -> bytes | None:
        """A part."""
        return self._kept.get(name)

    def write(self, name: str, content: bytes) -> None:
        """Keep a part."""
        self._kept[name] = content
        self._left.append(("kept", name, content))

    def tell(self, *part: Any) -> None:
        """How far a check is."""
        self._left.append(("part", *part))

    def taken(self) -> list[tuple[Any, ...]]:
        """What was left since the last call, in order."""
        left, self._left = self._left, []
        return left


# --- a worker's side -------------------------------------------------------------------------------------------------

_held: dict[str, tuple[Task, Subject]] = {}
"""What this worker process has measured last, by the name of what was placed: the next check finds it."""


@dataclass(frozen=True)
class _Remote:
    """The desk as a store."""

    desk: Any

    def read(self, name: str) -> bytes | None:
        ray = _ray()

        found: bytes | None = ray.get(self.desk.read.remote(name))
        return found

    def write(self, name: str, content: bytes) -> None:
        """Returns when it lies there, so that a worker that dies after it has lost nothing."""
        ray = _ray()

        ray.get(self.desk.write.remote(name, content))


def measured(given: list[Any], job: Job, desk: Any) -> CheckRun:
    """One check, in a worker.

    Args:
        given: References to the task and to the subject, which is None where each worker loads it.
        job: The check.
        desk: Where parts are kept and progress is told.

    Returns:
        The run.
    """
    task, subject = _subject(given)
    desk.tell.remote(job.check.id, "", 0, 0)

    def told(*part: Any) -> None:
        _tell(desk, *part)

    lost: list[BaseException] = []

    def spread(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        ray = _ray()
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(piece_done)
        pieces = pieces_of(job, work, items, subject)
        what = ray.put(pieces[0].work)  # sent to a node once
        waited_for = [remote.remote(given, job, desk, what, piece.item) for piece in pieces]
        try:
            contents = ray.get(waited_for)  # meanwhile its core is given to a piece
        except _deaths() as fault:
            lost.append(fault)
            raise
        return [opened(content, subject) for content in contents]

    run = task.run(job, subject, _Remote(desk), told, spread if _spreads(task) else None)
    return _refuse_lost(run, lost)


def _tell(desk: Any, *part: Any) -> None:
    """Leave a message; what happened is waited for, so that it lies there before the check's result does."""
    left = desk.tell.remote(*part)
    if len(part) > len(("check", "what", "done", "total")):
        _ray().get(left)


def _refuse_lost(run: CheckRun, lost: list[BaseException]) -> CheckRun:
    if lost:
        raise died(run.check) from lost[0]
    return run


def _spreads(task: Task) -> bool:
    """Whether a check hands out pieces: not on a GPU, which it would not give back while they wait for one."""
    return not task.device.startswith("cuda")


def piece_done(given: list[Any], job: Job, desk: Any, work: bytes, item: bytes) -> bytes:
    """A piece of a check's work, in a worker."""
    task, subject = _subject(given)

    def told(*part: Any) -> None:
        _tell(desk, *part)

    return task.done(Piece(job, work, item), subject, _Remote(desk), told)


def _subject(given: list[Any]) -> tuple[Task, Subject]:
    ray = _ray()

    name = given[0].hex()
    if name not in _held:
        from assessor.subjects import importable

        task: Task = ray.get(given[0])
        with importable(task.folder):
            subject = task.loaded() if given[1] is None else ray.get(given[1])
        task.set_threads()
        _held.clear()
        _held[name] = (task, subject)
    return _held[name]
