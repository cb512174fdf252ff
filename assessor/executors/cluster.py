"""Checks on a Ray cluster, on this machine or others, with model and data placed there once."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from assessor.contract import Subject
from assessor.engine import Job
from assessor.errors import MissingExtra, UsageError
from assessor.executors.dispatch import Dispatcher, Message, attend
from assessor.executors.work import Task, Told, Work, cores
from assessor.keeping import Folder
from assessor.model import CheckRun

DRIVER = 0  # the name of the process that asks; workers are numbered from 1
PATIENCE = 20.0  # seconds that one waits for a message before one asks again
STORE_BYTES = 200 * 2**20  # of a cluster that is started for one run; more where model and data need it
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Cluster:
    """Workers on a cluster for a whole run; one whose process or node dies is replaced, and each check is stored once.

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
    crew = _Remotes(task, subject, most)
    try:
        yield from Dispatcher(crew, most or crew.room(), told).runs(jobs)
    except _ray().exceptions.RayActorError as fault:
        raise UsageError(
            "the process of the Ray cluster where messages lie has died; finished checks are kept: run again"
        ) from fault


class _Remotes:
    """Workers on a cluster, each a task that lasts as long as the run; they and this process write to the desk."""

    def __init__(self, task: Task, subject: Subject, most: int | None) -> None:
        ray = _ray()

        self._store = Folder(task.parts)
        kept = {} if task.fresh else {path.name: path.read_bytes() for path in sorted(task.parts.glob("*.json"))}
        desk = ray.remote(num_cpus=0, max_task_retries=-1, **_beside_driver())(Desk).remote(kept)
        self._line = _Line(desk, DRIVER)
        placed = _placed(task, subject)
        given = ray.put(replace(task, fresh=False))  # on the desk is nothing but what this run may find
        self._given = [given, placed]
        self._share = _gpu_share(task, most)
        self._begin = ray.remote(num_cpus=1, num_gpus=self._share, max_retries=0)(serve)
        self._there: dict[Any, int] = {}
        self._begun = 0
        self._come: Any = None

    def room(self) -> int:
        """How many workers fit."""
        there = _ray().cluster_resources()
        found = there.get("GPU", 0) / self._share if self._share else there.get("CPU", 1)
        return max(1, int(found))

    def begin(self, number: int) -> int:
        """A new task."""
        self._begun += 1
        reference = self._begin.options(name=f"assessor-worker-{number}").remote(
            self._given, self._line.desk, self._begun
        )
        self._there[reference] = self._begun
        return self._begun

    def send(self, worker: int, message: Message) -> None:
        """By way of the desk."""
        self._line.send(worker, message)

    def heard(self) -> Sequence[tuple[int, Message | None]]:
        """What lies on the desk, and at last who has died; before that, all they had said, so nothing is done again."""
        ray = _ray()

        self._come = self._come or self._line.asked()
        done, _ = ray.wait([self._come, *self._there], num_returns=1)
        said: list[tuple[int, Message]] = []
        if self._come in done:
            said += self._line.taken(self._come)
            self._come = None
        dead = [reference for reference in done if reference in self._there]
        if dead:
            said += self._line.taken(self._line.asked(patience=0))
        found = [(name, message) for name, message in said if self._is_for_us(message)]
        return [*found, *((self._lost(reference), None) for reference in dead)]

    def _is_for_us(self, message: Message) -> bool:
        if message[0] == "kept":
            self._store.write(*message[1:])
            return False
        return True

    def _lost(self, reference: Any) -> int:
        """The worker whose task has ended, which it does not by itself."""
        ray = _ray()

        name = self._there.pop(reference)
        with suppress(ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
            ray.get(reference)
        return name

    def stop(self, busy: set[int]) -> None:
        """All of them, whatever they do."""
        del busy
        ray = _ray()

        for reference in self._there:
            with suppress(Exception):
                ray.cancel(reference, force=True)
        with suppress(Exception):
            ray.get([self._line.desk.close.remote(), *([self._come] if self._come else [])], timeout=PATIENCE)
            ray.kill(self._line.desk)


def _beside_driver() -> dict[str, Any]:
    """Where the desk stands: on the node this process is connected to, which outlives the others."""
    node = _ray().get_runtime_context().get_node_id()
    affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    return {"scheduling_strategy": affinity(node_id=node, soft=False)}


def _gpu_share(task: Task, most: int | None) -> float:
    """Which part of a GPU a worker is given."""
    return share_of_gpu(_ray().cluster_resources().get("GPU", 0), most) if task.device.startswith("cuda") else 0


def share_of_gpu(there: float, most: int | None) -> float:
    """Which part of a GPU a worker is given so that as many fit as are wanted.

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
    """Where workers and the driver leave messages for each other, and where parts lie that checks keep.

    One process without work of its own. What is asked of it may be asked again where the network fails, so messages are
    numbered by who sends them, and are given out by number until the next ones are asked for.
    """

    def __init__(self, kept: dict[str, bytes]) -> None:
        """With the parts that the driver has on disk."""
        self._kept = kept
        self._boxes: dict[int, list[tuple[int, Message]]] = {}
        self._gone: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._come: dict[int, asyncio.Event] = {}

    async def read(self, name: str) -> bytes | None:
        """A part."""
        return self._kept.get(name)

    async def close(self) -> None:
        """Nobody waits any longer."""
        for come in self._come.values():
            come.set()

    async def send(self, sender: int, number: int, receiver: int, message: Message) -> None:
        """Leave a message; one of a number that was there is the same once more."""
        if number <= self._last.get(sender, 0):
            return
        self._last[sender] = number
        if message[0] == "kept":
            self._kept[message[1]] = message[2]
        self._boxes.setdefault(receiver, []).append((sender, message))
        self._come.setdefault(receiver, asyncio.Event()).set()

    async def taken(self, receiver: int, seen: int, patience: float) -> tuple[int, list[tuple[int, Message]]]:
        """How many messages are gone, and those since, in order and with their senders.

        Args:
            receiver: Whose.
            seen: How many it has; those are thrown away.
            patience: Seconds to wait for one.
        """
        box, come = self._boxes.setdefault(receiver, []), self._come.setdefault(receiver, asyncio.Event())
        del box[: max(0, seen - self._gone.get(receiver, 0))]
        self._gone[receiver] = max(seen, self._gone.get(receiver, 0))
        if not box:
            come.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(come.wait(), patience)
        return self._gone[receiver], list(box)


class _Line:
    """One's own side of the desk."""

    def __init__(self, desk: Any, name: int) -> None:
        self.desk = desk
        self._name = name
        self._sent = self._seen = 0

    def send(self, receiver: int, message: Message) -> None:
        """Returns when it lies there, but for how far a check is."""
        self._sent += 1
        left = self.desk.send.remote(self._name, self._sent, receiver, message)
        if message[0] != "part" or len(message) > len(("part", "check", "what", "done", "total")):
            _ray().get(left)

    def asked(self, patience: float = PATIENCE) -> Any:
        """A reference to what there is to be taken."""
        return self.desk.taken.remote(self._name, self._seen, patience)

    def taken(self, asked: Any) -> list[tuple[int, Message]]:
        """What was asked for and has not been taken yet; waits for it."""
        gone, messages = _ray().get(asked)
        found: list[tuple[int, Message]] = messages[self._seen - gone :]
        self._seen += len(found)
        return found


# --- a worker's side -------------------------------------------------------------------------------------------------


class _WorkersLine(_Line):
    """What a worker does with the desk."""

    def __init__(self, desk: Any, name: int) -> None:
        super().__init__(desk, name)
        self._come: deque[Message] = deque()
        self._work: tuple[Any, bytes] = None, b""

    def tell(self, message: Message) -> None:
        """A message to the driver; what all pieces of a check have in common is placed once."""
        if message[0] == "spread":
            work = _ray().put(message[1][0].work)
            message = ("spread", [piece._replace(work=work) for piece in message[1]])
        self.send(DRIVER, message)

    def received(self) -> Message:
        """The next message, with the work of a piece that is known by now or fetched."""
        ray = _ray()

        while True:
            while not self._come:
                self._come.extend(message for _, message in self.taken(self.asked()))
            what, value = self._come.popleft()
            if what != "item":
                return what, value
            try:
                return what, value._replace(work=self._fetched(value.work))
            except ray.exceptions.ObjectLostError:
                self.send(DRIVER, ("item", b""))  # who wanted it has died

    def _fetched(self, reference: Any) -> bytes:
        if self._work[0] != reference:
            self._work = reference, _ray().get(reference)
        return self._work[1]

    def read(self, name: str) -> bytes | None:
        """A part that was kept."""
        found: bytes | None = _ray().get(self.desk.read.remote(name))
        return found

    def write(self, name: str, content: bytes) -> None:
        """Keep a part; returns when it lies there, so that a worker that dies after it has lost nothing."""
        self.send(DRIVER, ("kept", name, content))


def serve(given: list[Any], desk: Any, name: int) -> None:
    """All that a worker does, until it is stopped.

    Args:
        given: References to the task and to the subject, which is None where each worker loads it.
        desk: Where messages lie.
        name: The worker's.
    """
    ray = _ray()
    from assessor.subjects import importable

    worker = _WorkersLine(desk, name)
    try:
        task: Task = ray.get(given[0])
        with importable(task.folder):
            subject = task.loaded() if given[1] is None else ray.get(given[1])
        task.set_threads()
        attend(task, subject, worker, worker.tell, worker.received)
    except UsageError as fault:
        worker.tell(("fault", str(fault)))
