"""What torch does while a check is run, as a trace that browsers draw (chrome://tracing, ui.perfetto.dev)."""

from __future__ import annotations

import gzip
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 0.5  # of a check that are traced: tiny operations come to some 80 MB a second
MOST = 100 * 2**20  # bytes of a trace before it is packed; a larger one is left out


@contextmanager
def traced(found: list[bytes]) -> Iterator[None]:
    """Trace the first half second of what is done meanwhile, and put the trace into `found`.

    Nothing is put there where torch is not loaded or does nothing, or off the main thread, where a trace could not be
    ended in time.

    Args:
        found: Gets the trace, packed by gzip.
    """
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it prints when it begins and ends
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profile, running = torch.profiler.profile(activities=activities), [True]

    def stop(*_: Any) -> None:
        if running:
            running.clear()
            profile.stop()

    before = signal.signal(signal.SIGALRM, stop)
    profile.start()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop()
        found.extend(_packed(profile))


def _packed(profile: Any) -> Iterator[bytes]:
    """The trace; none where torch did nothing, or too much."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        content = path.read_bytes() if path.stat().st_size <= MOST else b""
        if b'"cpu_op"' in content:
            yield gzip.compress(content, 1)
