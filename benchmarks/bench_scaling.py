"""Runs of checks by one and by two workers, in turn: seconds and ratios, for processes and for Ray.

Eight checks of the same kind on one model, each about as long as SECONDS; the start of the workers and the loading of
the model are included, and told apart by a second line for runs four times as long. One thread of torch.
Run: python benchmarks/bench_scaling.py
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from executing import SYSTEM, TARGET

from assessor.assessment import Measurement, Place
from assessor.engine import Job
from assessor.executors import Executor, executor_of
from assessor.model import TargetSpec
from assessor.registry import load_checks

CHECK, COPIES, REPEATS = "robustness.pgd_accuracy", 8, 3
RESTARTS = (20, 80)


def timed(folder: Path, executor: Executor, restarts: int) -> tuple[float, list[object]]:
    """Seconds of a run, and what it measured."""
    place = Place(folder, folder / "kept", dict, lambda run: None)
    check = load_checks()[CHECK]
    jobs = []
    for seed in range(COPIES):
        copy = replace(check, info=check.info.model_copy(update={"id": f"{CHECK}_{seed}"}))
        jobs.append(Job(copy, check.params(restarts=restarts), None, seed, ()))
    begun = time.perf_counter()
    target = TargetSpec.model_validate(TARGET)
    runs = Measurement(place, target, fresh=True, executor=executor).run(jobs, [])
    return time.perf_counter() - begun, [run.metrics for run in runs]


def main() -> None:
    """Print a table."""
    names = ["local", *(["ray"] if find_spec("ray") else [])]
    with tempfile.TemporaryDirectory() as room:
        (Path(room) / "system.py").write_text(SYSTEM)
        print(f"{COPIES} checks, {os.cpu_count()} cores, median of {REPEATS}, equal results demanded")
        for restarts in RESTARTS:
            for name in names:
                taken: dict[int, list[float]] = {1: [], 2: []}
                found = []
                for _ in range(REPEATS):
                    for workers, seconds in taken.items():  # in turn, so that other work on the machine meets both
                        second, metrics = timed(Path(room), executor_of(name, workers), restarts)
                        seconds.append(second)
                        found.append(metrics)
                assert all(metrics == found[0] for metrics in found)
                one, two = (statistics.median(seconds) for seconds in taken.values())
                ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(taken[1], taken[2], strict=True))
                print(f"{name:5} {restarts:3} restarts: 1 worker {one:6.2f} s, 2 workers {two:6.2f} s, ratios {ratios}")


if __name__ == "__main__":
    main()
