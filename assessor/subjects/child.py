"""A model in a process of its own: opened there, asked from here; see `assessor.sealed` for the other side.

What comes back is numbers, and checked as such: a child that was taken over can give wrong answers and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assessor.errors import UsageError
from assessor.footprint import count_child, forget_child
from assessor.frames import receive, send

LOAD_SECONDS, ANSWER_SECONDS = 300.0, 600.0
MEMORY = 16 * 2**30  # bytes of address space; libraries take some of it without using it
BATCH = 1 << 24  # bytes of rows a question
KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""What the child gets of the environment: no secrets."""


class ChildError(Exception):
    """The child said what went wrong, or broke off."""


class Child:
    """A model that is asked in a process of its own.

    Attributes:
        about: What its file says of itself; see `assessor.opened`.
        confinement: What keeps it from everything else; see `assessor.confinement`.
    """

    def __init__(
        self,
        form: str,
        path: Path,
        *,
        options: Mapping[str, Any],
        readable: Iterable[Path] = (),
        lenient: bool = False,
        seconds: float = ANSWER_SECONDS,
        memory: int = MEMORY,
    ) -> None:
        """Start it and open the model there.

        Args:
            form: Format of the file, as assessor.yaml calls it.
            path: The file.
            options: For the opener.
            readable: Other files that it may read.
            lenient: Open it even where the kernel cannot keep it from the network.
            seconds: Time for an answer.
            memory: Bytes of address space.

        Raises:
            ChildError: It cannot be opened.
            UsageError: This machine cannot confine a process.
        """
        self._seconds, self._lock = seconds, threading.Lock()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "assessor.sealed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
        )
        count_child(self._process.pid)
        self._ended = weakref.finalize(self, _end, self._process)
        order = {
            "format": form,
            "path": str(path.resolve()),
            "options": dict(options),
            "readable": [str(one.resolve()) for one in (path, *readable)],
            "memory": memory,
            "lenient": lenient,
        }
        self.about, _array = self._exchange(order, None, LOAD_SECONDS)
        if self.about.pop("unconfined", False):
            raise UsageError(
                "this machine cannot keep a process from the network (no network namespaces, no seccomp), so the model "
                "was not opened; measure it on Linux 4.14 or newer, or, if you trust the file, add --trust"
            )
        self.confinement = tuple(map(str, self.about.pop("confinement", ())))

    def ask(self, rows: np.ndarray) -> np.ndarray:
        """The model's own outputs for rows.

        Args:
            rows: (n, ...) numbers.

        Returns:
            (n,) or (n, k) float64.

        Raises:
            ChildError: It raised, took too long, broke off, or gave something else.
            TypeError: The rows are no numbers.
        """
        if rows.dtype.kind not in "biuf":
            raise TypeError(f"the model takes numbers, found inputs of type {rows.dtype}")
        size = max(1, BATCH // max(1, rows[:1].nbytes))
        parts = [self._answer(rows[start : start + size]) for start in range(0, max(1, len(rows)), size)]
        if len({part.shape[1:] for part in parts}) > 1:
            raise ChildError(f"outputs differ in shape: {sorted({part.shape[1:] for part in parts})}")
        return np.concatenate(parts)

    def close(self) -> None:
        """End it."""
        self._ended()

    def _answer(self, rows: np.ndarray) -> np.ndarray:
        _head, found = self._exchange({}, rows, self._seconds)
        if found is None or found.dtype != np.float64:
            raise ChildError("the model's process gave no numbers")
        if found.ndim == 0 or found.ndim > 2 or len(found) != len(rows):
            raise ChildError(f"{len(rows)} rows gave outputs of shape {found.shape}, wanted one a row")
        return found

    def _exchange(
        self, head: dict[str, Any], rows: np.ndarray | None, seconds: float
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        process, late = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def stop() -> None:
            late.set()
            process.kill()

        with self._lock:
            timer = threading.Timer(seconds, stop)
            timer.start()
            try:
                send(process.stdin, head, rows)
                answer, found = receive(process.stdout)
            except (EOFError, OSError) as fault:
                raise ChildError(_why(process, seconds if late.is_set() else None)) from fault
            except (ValueError, TypeError, KeyError) as fault:
                process.kill()
                raise ChildError(f"the model's process gave no answer that can be read: {fault}") from fault
            finally:
                timer.cancel()
        if "fault" in answer:
            raise ChildError(str(answer["fault"])[:2000])
        return answer, found


def _why(process: subprocess.Popen[bytes], late: float | None) -> str:
    if late is not None:
        return f"no answer within {late:g} seconds"
    code = process.wait()
    return f"its process broke off ({f'signal {-code}' if code < 0 else f'exit code {code}'})"


def _end(process: subprocess.Popen[bytes]) -> None:
    forget_child(process.pid)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # what was not sent any more
                continue
