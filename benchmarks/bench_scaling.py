"""Runs of checks by one and by two workers, in turn: seconds and ratios, for processes and for Ray.

(a) All checks of the demonstration with their own parameters; (b) one check that is spread, on a larger network and
more rows: the disturbances of robustness.robust_flatness. The start of the workers and the loading of the model are
included, and results have to be equal. One thread of torch.
Run: python benchmarks/bench_scaling.py [REPEATS]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from assessor.assessment import Measurement, Place
from assessor.engine import Job
from assessor.executors import Executor, executor_of
from assessor.model import TargetSpec
from assessor.project import Project
from assessor.registry import load_checks

DEMO = Path(__file__).parents[1] / "demo"
SYSTEM = """
import numpy as np, torch

def rows(seed, n):
    x = np.random.default_rng(seed).normal(size=(n, 64)).astype("float32")
    return x, x[:, :10].argmax(1)

def test(): return rows(1, 2000)
def train(): return rows(2, 2000)

def model():
    torch.manual_seed(0)
    width = [64, 512, 512, 10]
    layers = [layer for a, b in zip(width, width[1:]) for layer in (torch.nn.Linear(a, b), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers[:-1])
"""
LARGE = {
    "task": "multiclass",
    "model": {"load": "system:model"},
    "data": {name: {"load": f"system:{name}"} for name in ("train", "test")},
}


def demo(room: Path) -> tuple[Path, TargetSpec, list[Job]]:
    """All checks that measure something of the demonstration, but for the one that measures time."""
    target = Project(DEMO).configuration().target
    assert target
    jobs = [Job(check, check.params(), None, 0, ()) for check in load_checks().values() if check.info.repeatable]
    return DEMO, target, jobs


def spread(room: Path) -> tuple[Path, TargetSpec, list[Job]]:
    """Twelve disturbances of a network of some 300,000 weights."""
    (room / "system.py").write_text(SYSTEM)
    check = load_checks()["robustness.robust_flatness"]
    params = check.params(max_samples=2000, steps=10, directions=6, worst_starts=6)
    return room, TargetSpec.model_validate(LARGE), [Job(check, params, None, 0, ())]


def timed(work: tuple[Path, TargetSpec, list[Job]], room: Path, executor: Executor) -> tuple[float, list[object]]:
    """Seconds of a run, and what it measured."""
    folder, target, jobs = work
    place = Place(folder, room / "kept", dict, lambda run: None)
    begun = time.perf_counter()
    runs = Measurement(place, target, device="cpu", fresh=True, executor=executor).run(jobs, [])
    return time.perf_counter() - begun, [(run.check, run.outcome, run.metrics) for run in runs]


def compared(name: str, work: Callable[[Path], tuple[Path, TargetSpec, list[Job]]], executor: str, repeats: int) -> str:
    """One line of the table."""
    taken: dict[int, list[float]] = {1: [], 2: []}
    found = []
    with tempfile.TemporaryDirectory() as room:
        what = work(Path(room))
        for _ in range(repeats):
            for workers, seconds in taken.items():  # in turn, so that other work on the machine meets both
                second, measured = timed(what, Path(room), executor_of(executor, workers))
                seconds.append(second)
                found.append(measured)
    assert all(measured == found[0] for measured in found)
    one, two = (statistics.median(seconds) for seconds in taken.values())
    ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(taken[1], taken[2], strict=True))
    return f"| {name} | {executor} | {one:.1f} s | {two:.1f} s | {ratios} |"


def main() -> None:
    """Print a table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{os.cpu_count()} cores, median of {repeats}, equal results demanded")
    print("| what | executor | 1 worker | 2 workers | ratios |\n|---|---|---|---|---|")
    for name, work in (("all checks of the demonstration", demo), ("one spread check", spread)):
        for executor in ("local", *(["ray"] if find_spec("ray") else [])):
            print(compared(name, work, executor, repeats), flush=True)


if __name__ == "__main__":
    main()
