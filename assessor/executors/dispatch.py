"""Which worker does what: checks and pieces of them, for processes of this machine and for those of a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from assessor.contract import Subject
from assessor.engine import Job
from assessor.errors import UsageError
from assessor.executors.work import RETRIES, Piece, Task, Told, died, opened, pieces_of
from assessor.keeping import Store
from assessor.model import CheckRun

Message = tuple[Any, ...]
"""What it is about, and what there is to say.

To a worker: a "job", an "item" of a check's work, or what the items of its own check gave ("spread"). From a worker:
that it has loaded what is measured ("here"), the "run" of its check, its check's "spread" into pieces, what an "item"
gave, how far it is ("part"), or a "fault" that ends all."""


class Crew(Protocol):
    """Worker processes somewhere, each of which does `attend`."""

    def begin(self, number: int) -> int:
        """A new worker in a place from 0; gives its name, that no other ever had."""
        ...

    def send(self, worker: int, message: Message) -> None:
        """A message to a worker; nothing happens where it has died."""
        ...

    def heard(self) -> Sequence[tuple[int, Message | None]]:
        """Waits for messages; None is the last of a worker that has died."""
        ...

    def stop(self, busy: set[int]) -> None:
        """Ends all workers, and what some of them are doing."""
        ...


@dataclass(eq=False)
class _Worker:
    """A worker as its dispatcher sees it.

    Attributes:
        name: What its crew calls it.
        number: Of its place, from 0.
        here: Whether it can do something.
        job: The check it runs.
        item: The piece of its own or another's check that it does.
        gathered: What the pieces of its check gave, while it waits for them.
    """

    name: int
    number: int
    here: bool = False
    job: Job | None = None
    item: _Item | None = None
    gathered: list[bytes | None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it has nothing to do, or only what others do for it."""
        return self.here and self.item is None and (self.job is None or self.gathered is not None)


class _Item(NamedTuple):
    """A piece of the work of a worker's check."""

    owner: _Worker
    number: int
    piece: Piece


@dataclass
class Dispatcher:
    """A crew at work; a worker that dies is replaced, and what it did begun again.

    Attributes:
        crew: The workers.
        size: How many there are to be.
        told: Told how far each check is.
    """

    crew: Crew
    size: int
    told: Told
    workers: dict[int, _Worker] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    items: deque[_Item] = field(default_factory=deque)

    def runs(self, jobs: Sequence[Job]) -> Generator[CheckRun]:
        """Run them all.

        Yields:
            Each run as soon as it is there.

        Raises:
            UsageError: The subject cannot be loaded, or what one check does has killed its worker again and again.
        """
        if not any(job.check.info.spreads for job in jobs):
            self.size = min(self.size, len(jobs))
        waiting = deque(jobs)
        try:
            while waiting or any(worker.job for worker in self.workers.values()):
                self._give_out(waiting)
                for name, message in self.crew.heard():
                    if message is None:
                        self._replace(self.workers.pop(name), waiting)
                    elif name in self.workers:
                        yield from self._understood(self.workers[name], *message)
        finally:
            self.crew.stop({name for name, worker in self.workers.items() if worker.job or worker.item})

    def _give_out(self, waiting: deque[Job]) -> None:
        for number in sorted(set(range(self.size)) - {worker.number for worker in self.workers.values()}):
            name = self.crew.begin(number)
            self.workers[name] = _Worker(name, number)
        for worker in self.workers.values():
            if worker.waits and self.items:
                worker.item = self.items.popleft()
                self.crew.send(worker.name, ("item", worker.item.piece))
            elif worker.waits and worker.job is None and waiting:
                worker.job = waiting.popleft()
                self.crew.send(worker.name, ("job", worker.job))
                self.told(worker.job.check.id, "", 0, 0)

    def _understood(self, worker: _Worker, what: str, *values: Any) -> Generator[CheckRun]:
        if what == "here":
            worker.here = True
        elif what == "run":
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
            self.crew.send(owner.name, ("spread", owner.gathered))
            owner.gathered = None

    def _replace(self, dead: _Worker, waiting: deque[Job]) -> None:
        dead.gathered = None
        self.items = deque(item for item in self.items if item.owner is not dead)
        if not dead.here:
            self._died("", died_loading())
        if dead.item is not None and dead.item.owner is not dead and dead.item.owner.gathered is not None:
            assert dead.item.owner.job is not None
            self._died(dead.item.owner.job.check.id)
            self.items.appendleft(dead.item)
        if dead.job is not None:
            self._died(dead.job.check.id)
            waiting.appendleft(dead.job)

    def _died(self, check: str, fault: UsageError | None = None) -> None:
        self.deaths[check] = self.deaths.get(check, 0) + 1
        if self.deaths[check] > RETRIES:
            raise fault or died(check)


def died_loading() -> UsageError:
    """The fault of workers that die before they can do anything."""
    return UsageError(
        f"{RETRIES + 1} worker processes died while they loaded model and data, perhaps for lack of memory: run again "
        "with fewer --jobs"
    )


def attend(
    task: Task, subject: Subject, store: Store, send: Callable[[Message], None], received: Callable[[], Message]
) -> None:
    """All that a worker does: what comes, until an EOFError comes instead."""

    def told(*part: Any) -> None:
        send(("part", *part))

    def do_piece(piece: Piece) -> None:
        send(("item", task.done(piece, subject, store, told)))

    def spread(job: Job, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        send(("spread", pieces_of(job, work, items, subject)))
        while (message := received())[0] == "item":
            do_piece(message[1])
        return [opened(content, subject) for content in message[1]]

    send(("here",))
    while True:
        try:
            what, value = received()
        except EOFError:
            return
        if what == "item":
            do_piece(value)
        else:
            send(("run", task.run(value, subject, store, told, partial(spread, value))))
