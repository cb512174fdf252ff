"""Runs of checks by one and by two workers, in turn: seconds and ratios, for processes and for Ray.

(a) All checks of the demonstration with their own parameters; (b) one check that is spread, on a larger network and
more rows: the disturbances of robustness.robust_flatness, few of them and many. Each run is a process of its own, as a
user's is, so that its start, that of its workers, and the loading of the model are included; results have to be equal.
One thread of torch.
Run: python benchmarks/bench_scaling.py [REPEATS]
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from assessor.assessment import Measurement, Place
from assessor.engine import Job
from assessor.executors import executor_of
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
    folder = room / "demo"  # outside of any repository, whose revision would be among the results
    shutil.copytree(DEMO, folder)
    target = Project(folder).configuration().target
    assert target
    jobs = [Job(check, check.params(), None, 0, ()) for check in load_checks().values() if check.info.repeatable]
    return folder, target, jobs


def spread(room: Path, times: int = 6) -> tuple[Path, TargetSpec, list[Job]]:
    """Disturbances of a network of some 300,000 weights: so many at random, and as many of the worst."""
    (room / "system.py").write_text(SYSTEM)
    check = load_checks()["robustness.robust_flatness"]
    params = check.params(max_samples=2000, steps=10, directions=times, worst_starts=times)
    return room, TargetSpec.model_validate(LARGE), [Job(check, params, None, 0, ())]


def spread_long(room: Path) -> tuple[Path, TargetSpec, list[Job]]:
    """Four times as many."""
    return spread(room, 24)


WORK = {
    "all checks of the demonstration": demo,
    "one spread check, 12 pieces": spread,
    "one spread check, 48 pieces": spread_long,
}


def measured(what: str, executor: str, workers: int) -> str:
    """A run in this process: what it measured, as JSON."""
    with tempfile.TemporaryDirectory() as room:
        folder, target, jobs = WORK[what](Path(room))
        place = Place(folder, Path(room) / "kept", dict, lambda run: None)
        found = Measurement(place, target, device="cpu", fresh=True, executor=executor_of(executor, workers))
        volatile = {"started", "seconds", "peak_memory_bytes"}
        return json.dumps([run.model_dump(mode="json", exclude=volatile) for run in found.run(jobs, [])])


def timed(what: str, executor: str, workers: int) -> tuple[float, str]:
    """Seconds of a run in a process of its own, and what it measured."""
    command = [sys.executable, __file__, "--one", what, executor, str(workers)]
    begun = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    return time.perf_counter() - begun, done.stdout.splitlines()[-1].decode()


def compared(what: str, executor: str, repeats: int) -> str:
    """One line of the table."""
    taken: dict[int, list[float]] = {1: [], 2: []}
    found = set()
    for _ in range(repeats):
        for workers, seconds in taken.items():  # in turn, so that other work on the machine meets both
            second, result = timed(what, executor, workers)
            seconds.append(second)
            found.add(result)
    assert len(found) == 1, "results differ"
    one, two = (statistics.median(seconds) for seconds in taken.values())
    ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(taken[1], taken[2], strict=True))
    return f"| {what} | {executor} | {one:.1f} s | {two:.1f} s | {ratios} |"


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["--one"]:
        print(measured(sys.argv[2], sys.argv[3], int(sys.argv[4])))
        return
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{os.cpu_count()} cores, median of {repeats}, equal results demanded")
    print("| what | executor | 1 worker | 2 workers | ratios |\n|---|---|---|---|---|")
    for executor in ("local", *(["ray"] if find_spec("ray") else [])):
        for what in WORK:
            print(compared(what, executor, repeats), flush=True)


if __name__ == "__main__":
    main()
