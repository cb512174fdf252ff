"""Cells, one measurement each, kept as JSON lines while they are made: a stopped study goes on where it was.

A cell is found again by a digest of all that its number depends on: the sources of the check and of the area module
with all of ours that they import, the defect's parameters, the versions of the numerical packages. Targets, repeats and
the named strength are left out of it: they may change without a new measurement.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from _frame import Defect, Measured, defects_of, measured, one_thread

from assessor.contract import Metric
from assessor.model import Status

CHECKS = Path(__file__).parents[2] / "checks"
JUDGING = ("name", "unit", "strengths", "target", "named", "repeats", "nominal")
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch")
AHEAD = 4  # cells a process that wait for it, so that it never waits for one


class Cell(NamedTuple):
    """What is measured: the defect at a position of an area module, at a strength, from a seed."""

    area: Path
    position: int
    strength: float
    seed: int

    @property
    def defect(self) -> Defect:
        """The planted defect."""
        return defects_of(self.area)[self.position]

    @property
    def key(self) -> str:
        """Digest of all that the number depends on."""
        defect = self.defect
        parts = [
            source_digest(self.area, defect.check),
            defect.check,
            defect.name,
            json.dumps(defect.params, sort_keys=True, default=str),
            repr(float(self.strength)),
            str(self.seed),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


class Kept:
    """The cells in a folder, one file a check; several processes and runs may add to it."""

    def __init__(self, folder: Path) -> None:
        """Read what is there.

        Args:
            folder: Made with the first cell.
        """
        self._folder = folder
        self._found: dict[str, Measured] = {}
        for path in sorted(folder.glob("*.jsonl")):
            self._found |= dict(_read(path))

    def __contains__(self, cell: Cell) -> bool:
        return cell.key in self._found

    def __getitem__(self, cell: Cell) -> Measured:
        return self._found[cell.key]

    def add(self, cell: Cell, found: Measured) -> None:
        """Keep a measurement, at once; a crash only until the end of this run."""
        self._found[cell.key] = found
        if found.refused is Status.ERROR:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{cell.defect.check}.jsonl"
        text = json.dumps({"key": cell.key, **_written(found)}) + "\n"
        with path.open("ab+") as file:
            if file.tell() and _last_byte(file) != b"\n":  # the run before this one was killed while it wrote
                text = "\n" + text
            file.write(text.encode())


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    found: bytes = file.read(1)
    return found


def _written(found: Measured) -> dict[str, Any]:
    metrics = [metric.model_dump(mode="json") for metric in found.metrics]
    return {**found._asdict(), "metrics": metrics}


def _read(path: Path) -> Iterator[tuple[str, Measured]]:
    for line in path.read_text("utf-8").splitlines():
        try:
            raw = json.loads(line)
            metrics = tuple(Metric.model_validate(metric) for metric in raw["metrics"])
            refused = None if raw["refused"] is None else Status(raw["refused"])
            yield raw["key"], Measured(metrics, raw["doubt"], refused, raw["sentence"], raw["seconds"])
        except (ValueError, KeyError, TypeError):  # half a line: that cell is measured again
            continue


# --- measuring -------------------------------------------------------------------------------------------------------


def measure_all(cells: list[Cell], jobs: int) -> Iterator[tuple[Cell, Measured]]:
    """Measure cells, in this process or in several.

    Args:
        cells: In the order to begin with.
        jobs: Processes.

    Yields:
        Each cell as it is ready.
    """
    if jobs == 1:
        with one_thread():
            for cell in cells:
                yield cell, measure(cell)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # the new processes read it
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(sys.path,)) as pool:
        waiting: dict[Future[Measured], Cell] = {}
        left = iter(cells)
        try:
            while True:
                while len(waiting) < AHEAD * jobs and (cell := next(left, None)) is not None:
                    waiting[pool.submit(measure, cell)] = cell
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def measure(cell: Cell) -> Measured:
    """What the engine says to this cell."""
    return measured(cell.defect, cell.strength, cell.seed)


def _prepare(path: list[str]) -> None:
    """Make a new process one of ours: same modules, one thread, stopped by the first one and not left behind by it."""
    import torch

    sys.path[:] = path
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


# --- digests ---------------------------------------------------------------------------------------------------------


@cache
def source_digest(area: Path, check: str) -> str:
    """Digest of the check's and the area module's sources with all of ours that they import, and of the packages."""
    sha = hashlib.sha256()
    seen: dict[Path, None] = {}
    _follow(CHECKS / "assessor_checks" / f"{check.replace('.', '/')}.py", seen)
    _follow(area, seen)
    for path in seen:
        sha.update(f"{path.name}\n{ast.dump(_measuring_only(ast.parse(path.read_text('utf-8'))))}\n".encode())
    sha.update(json.dumps([importlib.metadata.version(package) for package in PACKAGES]).encode())
    return sha.hexdigest()


def _follow(path: Path, seen: dict[Path, None]) -> None:
    """Add a source file and all that it imports from `assessor_checks` or from its own folder."""
    if path in seen or not path.is_file() or path.name in {"_frame.py", "__init__.py"}:
        return
    seen[path] = None
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            for root in (CHECKS, path.parent, path.parent.parent):
                _follow(root / f"{name.replace('.', '/')}.py", seen)


class _Judging(ast.NodeTransformer):
    """Takes out of a source what only judges."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "Defect":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in JUDGING]
        return node


def _measuring_only(tree: ast.Module) -> ast.AST:
    found: ast.AST = _Judging().visit(tree)
    return found
