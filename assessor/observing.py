"""What a run tells machines while it is under way: lines of JSON, profiles, OpenTelemetry spans.

All are off until asked for: a handler on the logger "assessor", a folder for profiles, a process in which
OpenTelemetry is loaded (`opentelemetry-instrument assessor check run`).

Workers write none of it. What happens there is sent to the process that asked, which logs it, makes the spans and
writes the profiles, wherever checks are run.
"""

from __future__ import annotations

import cProfile
import json
import logging
import marshal
import multiprocessing
import os
import platform
import pstats
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from assessor.contract import Lent
from assessor.errors import UsageError
from assessor.model import CheckRun

LOGGER = logging.getLogger("assessor")
SLOWEST = 5


# --- what happens in a worker ----------------------------------------------------------------------------------------


class Happened(NamedTuple):
    """Something that happened while a check was run, perhaps in another process.

    Attributes:
        name: What, as it is logged.
        began: When, in seconds since 1970.
        ended: When it was over.
        fields: Numbers and names that go with it.
        files: Files that came of it, by name.
    """

    name: str
    began: float
    ended: float
    fields: Mapping[str, Any] = {}
    files: Mapping[str, bytes] = {}


Tell = Callable[[Happened], object]

BEGUN, KEPT = "check begun", "part kept"


def is_watched() -> bool:
    """Whether anybody in this process wants to know what happens."""
    return LOGGER.isEnabledFor(logging.INFO) or _tracer() is not None


def begun() -> Happened:
    """A check begins in this process."""
    now = time.time()
    return Happened(BEGUN, now, now, worker())


def worker() -> dict[str, Any]:
    """This process, in words and numbers."""
    return {"worker": multiprocessing.current_process().name, "pid": os.getpid(), "node": platform.node()}


def watched(lent: Lent, tell: Tell) -> Lent:
    """What a measurement is lent, which tells of parts that are kept or found, and of batches other than asked for.

    Args:
        lent: What it is lent.
        tell: Told what happens.

    Returns:
        The same, telling.
    """
    reached: dict[str, Any] = {}
    missing: dict[str, float] = {}

    def happened(name: str, began: float, **fields: Any) -> None:
        tell(Happened(name, began, time.time(), {**reached, **fields, **worker()}))

    def progress(what: str, done: int, total: int) -> None:
        reached.update(part=what, done=done, total=total)
        lent.progress(what, done, total)

    def find(key: JsonValue) -> JsonValue:
        looked, found = time.time(), lent.find(key)
        if found is None:
            missing[repr(key)] = time.time()
        else:
            happened("part found", looked)
        return found

    def keep(key: JsonValue, value: JsonValue) -> None:
        lent.keep(key, value)
        happened(KEPT, missing.pop(repr(key), time.time()))

    def note(what: str, rows: int) -> None:
        happened(what, time.time(), rows=rows)

    return replace(lent, progress=progress, find=find, keep=keep, note=note)


@contextmanager
def profiled(name: str, tell: Tell | None) -> Iterator[None]:
    """Tell a profile of what is done meanwhile: of Python's functions, and of torch's operations where it is loaded.

    Args:
        name: The check.
        tell: Told the files; None for no profile.
    """
    if tell is None:
        yield
        return
    from assessor.tracing import traced

    profile, began, trace = cProfile.Profile(), time.time(), list[bytes]()
    try:
        with traced(trace):
            profile.enable()
            yield
    finally:
        profile.disable()
        profile.create_stats()
        of_functions, of_operations = (path.name for path in profiles(Path(), name))
        files = {of_functions: marshal.dumps(profile.stats), **({of_operations: trace[0]} if trace else {})}
        tell(Happened("check profiled", began, time.time(), worker(), files))


# --- what is made of it where the run was asked for ------------------------------------------------------------------


@dataclass
class Watch:
    """Logs what happens, makes spans of it, writes files.

    Attributes:
        folder: Where files go; None for nowhere.
    """

    folder: Path | None = None
    _parts: dict[str, list[Happened]] = field(default_factory=dict)
    _workers: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def seen(self, check: str, what: Happened) -> None:
        """Something happened."""
        if what.files and self.folder is not None:
            profiles(self.folder, check)[1].unlink(missing_ok=True)  # an earlier run's, where this one has none
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, content in what.files.items():
                (self.folder / Path(name).name).write_bytes(content)
        if what.name == BEGUN:
            self._workers[check], self._parts[check] = what.fields, []
        if what.name == KEPT:
            self._parts.setdefault(check, []).append(what)
        seconds = {} if what.ended == what.began else {"seconds": round(what.ended - what.began, 6)}
        event(what.name, what.ended, check=check, **seconds, **what.fields)

    def finished(self, run: CheckRun, *, stored: bool = False) -> None:
        """Log a check and give it its span, with one for each of its parts.

        Args:
            run: The check's run.
            stored: Whether it was there already.
        """
        event(
            "check stored" if stored else "check finished",
            check=run.check,
            status=str(run.outcome.status),
            seconds=run.seconds,
            peak_memory_bytes=run.peak_memory_bytes,
            device=run.environment.device,
            threads=run.environment.threads,
            key=run.key,
            **self._workers.pop(run.check, {}),
        )
        parts, tracer = self._parts.pop(run.check, []), _tracer()
        if tracer is not None and not stored:
            _spans(tracer, run, parts)


def event(name: str, at: float | None = None, **fields: object) -> None:
    """Log what happened, with its numbers as fields.

    Args:
        name: What.
        at: When, in seconds since 1970; None for now.
        **fields: What goes with it.
    """
    LOGGER.info(name, extra={"assessor": fields, "happened": at})


def spanned(name: str) -> AbstractContextManager[object]:
    """A span around what is done meanwhile; none where OpenTelemetry is not loaded."""
    tracer = _tracer()
    found: AbstractContextManager[object] = nullcontext() if tracer is None else tracer.start_as_current_span(name)
    return found


def _spans(tracer: Any, run: CheckRun, parts: list[Happened]) -> None:
    """A span of the check, and its parts' in it, by the times at which they were wherever they were."""
    from opentelemetry import trace

    end = run.started + timedelta(seconds=run.seconds)
    span = tracer.start_span(run.check, start_time=_nanoseconds(run.started.timestamp()))
    span.set_attribute("assessor.status", str(run.outcome.status))
    span.set_attribute("assessor.peak_memory_bytes", run.peak_memory_bytes)
    span.set_attribute("assessor.device", run.environment.device)
    within = trace.set_span_in_context(span)
    for part in parts:
        name = str(part.fields.get("part", "part"))
        own = tracer.start_span(name, context=within, start_time=_nanoseconds(part.began))
        for key, value in part.fields.items():
            own.set_attribute(f"assessor.{key}", value)
        own.end(end_time=_nanoseconds(part.ended))
    span.end(end_time=_nanoseconds(end.timestamp()))


def _tracer() -> Any:
    trace = sys.modules.get("opentelemetry.trace")
    return trace.get_tracer("assessor") if trace is not None else None


def _nanoseconds(moment: float) -> int:
    return int(moment * 1e6) * 1000


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment: float = getattr(record, "happened", None) or record.created
        told = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
        fields: dict[str, Any] = getattr(record, "assessor", {})
        return json.dumps({"time": told, "event": record.getMessage(), **fields})


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Append lines of JSON to a file meanwhile.

    Args:
        path: The file; None for nowhere.

    Raises:
        UsageError: It cannot be written.
    """
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as fault:
        raise UsageError(f"--log-json: cannot write {path}: {fault}") from fault
    handler.setFormatter(JsonLines())
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        handler.close()


def profiles(folder: Path, check: str) -> tuple[Path, Path]:
    """Where the profiles of a check are: of Python's functions, and of torch's operations."""
    return folder / f"{check}.prof", folder / f"{check}.trace.json.gz"


def slowest(path: Path) -> list[tuple[float, str]]:
    """Seconds in the functions of a profile that took most by themselves, and where they are."""
    stats: Any = pstats.Stats(str(path))
    rows = sorted(((row[2], where) for where, row in stats.stats.items()), reverse=True)[:SLOWEST]
    return [(seconds, f"{Path(file).name}:{line} {function}") for seconds, (file, line, function) in rows]
