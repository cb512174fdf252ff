"""Checks on a GPU beside the CPU of the same machine: seconds, rows a second, and the batches that were found by trial.

Prints a table in Markdown with the machine, to be committed in docs/gpu.md; where PyTorch sees no GPU it says so and
ends. A row is one that a check asks the model for, a gradient counting three times, at most (`Check.rows`).
Run: python benchmarks/bench_gpu.py
"""

from __future__ import annotations

import copy
import platform
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from assessor.batches import rows_by_trial
from assessor.contract import Lent, Split, Task, collecting, lending
from assessor.keeping import Folder
from assessor.registry import load_checks
from assessor.subjects.torch_module import TorchSubject

MIXED = {"precision": "mixed"}
CASES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("reliability.performance", {}),
    ("robustness.noise_accuracy", {"levels": (0.05,)}),
    ("robustness.pgd_accuracy", {"eps": 0.02, "steps": 20, "restarts": 2}),
    ("robustness.pgd_accuracy", {"eps": 0.02, "steps": 20, "restarts": 2, **MIXED}),
    ("robustness.autoattack", {"eps": 0.02, "steps": 20, "queries": 200, "targets": 2}),
    ("robustness.autoattack", {"eps": 0.02, "steps": 20, "queries": 200, "targets": 2, **MIXED}),
    ("robustness.certified_accuracy", {"sigma": 0.05, "radius": 0.05, "most": 2000, "max_samples": 100}),
    ("robustness.ood_detection", {}),
    ("generalization.relative_flatness", {"profile": False}),
    ("generalization.hessian_spectrum", {"rows": 500}),
    ("generalization.sharpness", {"rows": 1000}),
    ("transparency.attribution_faithfulness", {"max_samples": 50}),
)
TRIED = re.compile(r"on batches of (\d+) rows")


class Size(NamedTuple):
    """How large the systems are.

    Attributes:
        rows: Of each split.
        width: Of the networks' hidden layers, and channels.
        side: Of the pictures.
    """

    rows: int = 2000
    width: int = 32
    side: int = 32


def table(size: Size) -> tuple[nn.Module, tuple[int, ...]]:
    """A network of rows of numbers, and what a row looks like."""
    wide = 8 * size.width
    return nn.Sequential(nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 10)), (64,)


def pictures(size: Size) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolutional network."""
    net = nn.Sequential(
        nn.Conv2d(3, size.width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(size.width, 2 * size.width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(2 * size.width, 4 * size.width, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * size.width, 10),
    )  # fmt: skip
    return net, (3, size.side, size.side)


SYSTEMS = {"table": table, "pictures": pictures}


class System(NamedTuple):
    """An untrained network and data whose labels are its own answers, one in ten changed: speed needs no more."""

    net: nn.Module
    splits: Mapping[str, Split]

    def on(self, device: str) -> TorchSubject:
        """A subject that has computed nothing yet."""
        classes = tuple("0123456789")
        return TorchSubject(copy.deepcopy(self.net), Task.MULTICLASS, classes, self.splits, device=device)


def system(kind: str, size: Size) -> System:
    """One of the two."""
    torch.manual_seed(0)
    net, shape = SYSTEMS[kind](size)
    rng, splits = np.random.default_rng(0), {}
    for name in ("train", "test"):
        x = rng.random((size.rows, *shape), dtype=np.float32)
        with torch.no_grad():
            y = torch.cat([net(part).argmax(1) for part in torch.from_numpy(x).split(256)]).numpy()
        y = np.where(rng.random(len(y)) < 0.1, rng.integers(0, 10, len(y)), y)
        splits[name] = Split(name, y, name, features=x)
    return System(net, splits)


class Timed(NamedTuple):
    """One check on one device: seconds, and the batches that were found, or what went wrong."""

    seconds: float
    batches: str


def timed(check: str, params: Mapping[str, Any], subject: TorchSubject, folder: Path) -> Timed:
    """One run, with batches by trial where the device is a GPU; what was found is kept in the folder."""
    found = load_checks()[check]
    rows = rows_by_trial(subject, subject.sha256, Folder(folder))
    lent = Lent(lambda *_: None, find=lambda _: None, keep=lambda *_: None, rows=rows)
    given, before = found.params(**params), time.perf_counter()
    try:
        with lending(lent), collecting() as remarks:
            found.measure(subject, given, 0)
    except Exception as fault:  # noqa: BLE001 - the table says it
        return Timed(float("nan"), f"{type(fault).__name__}: {str(fault)[:60]}")
    return Timed(time.perf_counter() - before, ", ".join(dict.fromkeys(TRIED.findall(" ".join(remarks)))))


def lines(kind: str, size: Size, here: str, there: str) -> Iterator[str]:
    """The rows of the table for one system, as they come; the second device is warmed up by a run before."""
    made = system(kind, size)
    with TemporaryDirectory() as folder:
        for check, params in CASES:
            found = load_checks()[check]
            asked = found.rows(made.on(here), found.params(**params)) if found.rows else None
            slow, _, fast = (timed(check, params, made.on(device), Path(folder)) for device in (here, there, there))
            name = f"{check}, mixed" if MIXED.items() <= params.items() else check
            speed = f"{asked / fast.seconds:,.0f}" if asked else ""
            yield (
                f"| {kind} | {name} | {slow.seconds:.2f} | {fast.seconds:.2f} | {slow.seconds / fast.seconds:.1f} "
                f"| {speed} | {fast.batches} |"
            )


def machine() -> str:
    """What was measured on."""
    gpu = torch.cuda.get_device_properties(0)
    return (
        f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB; {platform.processor() or platform.machine()}, "
        f"{torch.get_num_threads()} threads; Python {platform.python_version()}, torch {torch.__version__}"
    )


def main() -> None:
    """Print the table."""
    if not torch.cuda.is_available():
        print("bench_gpu: PyTorch sees no GPU here, so there is nothing to measure")
        return
    print(f"{machine()}\n")
    print("| system | check | CPU, s | GPU, s | ratio | rows a second on the GPU | batches found |")
    print("|---|---|---|---|---|---|---|")
    for kind in SYSTEMS:
        for line in lines(kind, Size(), "cpu", "cuda"):
            print(line, flush=True)


if __name__ == "__main__":
    main()
