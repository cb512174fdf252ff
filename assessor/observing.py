"""What a run tells machines while it is under way: lines of JSON, profiles, OpenTelemetry spans.

All are off until asked for: a handler on the logger "assessor", a folder for profiles, a process in which
OpenTelemetry is loaded (`opentelemetry-instrument assessor check run`).
"""

from __future__ import annotations

import cProfile
import json
import logging
import pstats
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assessor.errors import UsageError
from assessor.model import CheckRun

LOGGER = logging.getLogger("assessor")
SLOWEST = 5


def event(name: str, **fields: object) -> None:
    """Log what happened, with its numbers as fields."""
    LOGGER.info(name, extra={"assessor": fields})


def finished(run: CheckRun, *, stored: bool = False) -> None:
    """Log a check and give it its span.

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
    )
    tracer = _tracer()
    if tracer is not None and not stored:
        end = run.started + timedelta(seconds=run.seconds)
        span = tracer.start_span(run.check, start_time=_nanoseconds(run.started))
        span.set_attribute("assessor.status", str(run.outcome.status))
        span.set_attribute("assessor.peak_memory_bytes", run.peak_memory_bytes)
        span.set_attribute("assessor.device", run.environment.device)
        span.end(end_time=_nanoseconds(end))


def spanned(name: str) -> AbstractContextManager[object]:
    """A span around what is done meanwhile; none where OpenTelemetry is not loaded."""
    tracer = _tracer()
    found: AbstractContextManager[object] = nullcontext() if tracer is None else tracer.start_as_current_span(name)
    return found


def _tracer() -> Any:
    trace = sys.modules.get("opentelemetry.trace")
    return trace.get_tracer("assessor") if trace is not None else None


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1000


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        fields: dict[str, Any] = getattr(record, "assessor", {})
        return json.dumps({"time": time, "event": record.getMessage(), **fields})


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


@contextmanager
def profiled(folder: Path | None, name: str) -> Iterator[None]:
    """Write a profile of what is done meanwhile to `folder/name.prof`; nothing without a folder."""
    if folder is None:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        folder.mkdir(parents=True, exist_ok=True)
        profile.dump_stats(folder / f"{name}.prof")


def slowest(path: Path) -> list[tuple[float, str]]:
    """Seconds in the functions of a profile that took most by themselves, and where they are."""
    stats: Any = pstats.Stats(str(path))
    rows = sorted(((row[2], where) for where, row in stats.stats.items()), reverse=True)[:SLOWEST]
    return [(seconds, f"{Path(file).name}:{line} {function}") for seconds, (file, line, function) in rows]
