"""Checks for tests of executors, in a module that worker processes can import too."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Subject,
    Task,
    kept,
    progress,
    remark,
    spread,
)

PARTS = 6
SYSTEM = """
import numpy as np, torch

def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))

def rows(seed, n):
    x = np.random.default_rng(seed).normal(size=(n, 4)).astype("float32")
    return x, x[:, :3].argmax(1)

def test(): return rows(1, 60)
def train(): return rows(2, 90)

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = model()
    def forward(self, x): return self.inner(x) * 2

def estimator():
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression().fit(*train())

def other(): return torch.nn.Sequential(torch.nn.Linear(4, 3))  # new numbers at each call
"""
TARGET: dict[str, Any] = {
    "task": "multiclass",
    "classes": ["0", "1", "2"],
    "model": {"load": "system:Own"},
    "data": {"train": {"load": "system:train"}, "test": {"load": "system:test"}},
    "device": "cpu",
}
TABLE: dict[str, Any] = {
    "task": "binary",
    "model": {"predictions": "table.csv"},
    "data": {"test": {"label": "y", "prediction": "p"}},
    "device": "cpu",
}
"""A system whose workers need no torch: they begin faster."""


class RoomParams(Params):
    """Where a check leaves traces, and how it behaves."""

    room: str = ""
    pause: float = 0.0
    deaths: int = 0
    meet: float = 0.0


def measure(subject: Subject, params: RoomParams, seed: int) -> Result:
    """Six parts that are kept, each noted with its process; dies at the fourth as often as it should."""
    values: list[Any] = []
    for k in range(PARTS):
        progress("parts", k, PARTS)
        values.append(kept([k, seed], partial(part, subject, params, seed, k)))
    mean = float(np.mean(values))
    return Result(metrics=(Metric(name="mean", value=mean, n=PARTS, better=Better.NONE, method="made up"),))


def part(subject: Subject, params: RoomParams, seed: int, k: int) -> float:
    room = Path(params.room)
    note = room / f"{seed}-{k}-{os.getpid()}"
    note.touch()
    time.sleep(params.pause)
    limit = time.monotonic() + params.meet
    while time.monotonic() < limit and len({file.name.split("-")[2] for file in room.glob(f"{seed}-*")}) < 2:
        time.sleep(0.02)  # until another process has begun a part too
    if k == 3 and len(list(room.glob("death-*"))) < params.deaths:
        (room / f"death-{time.time_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float(np.random.default_rng([seed, k]).random() + subject.predictions("test").mean() / 3)


def check(name: str = "trial.parts", **changes: Any) -> Check:
    info: dict[str, Any] = {
        "id": name,
        "version": "1",
        "title": "Parts",
        "measures": "Nothing",
        "unit": "1",
        "needs": {Need.TEST},
        "tasks": set(Task),
        "limits": ("It is made up",),
        "remedy": "None",
        "source": "None",
        "requirements": ("RE-R-SC-ME-05",),
    }
    return Check(CheckInfo(**{**info, **changes}), RoomParams, measure)


def measure_spread(subject: Subject, params: RoomParams, seed: int) -> Result:
    """Six parts by as many workers as there are."""
    values = spread(partial(spread_part, subject, params, seed), range(PARTS))
    mean = float(np.mean(values))
    return Result(metrics=(Metric(name="mean", value=mean, n=PARTS, better=Better.NONE, method="made up"),))


def spread_part(subject: Subject, params: RoomParams, seed: int, k: int) -> Any:
    progress("parts", k, PARTS)
    remark("said by each")
    if k == 4 and seed == 9:
        raise NotApplicable("not this one")
    return kept([k, seed], partial(part, subject, params, seed, k))


def spreading(name: str = "trial.spread") -> Check:
    return replace(check(name, spreads=True), measure=measure_spread)


TRAINED = """
import os, time
from pathlib import Path
import numpy as np
from sklearn.linear_model import LogisticRegression

ROOM = Path(__file__).parent / "room"

def rows(seed, n):
    x = np.random.default_rng(seed).normal(size=(n, 4)).astype("float32")
    return x, x[:, :3].argmax(1)

def test(): return rows(1, 60)
def train(): return rows(2, 90)

class Noted(LogisticRegression):
    def fit(self, x, y):
        if ROOM.is_dir():
            (ROOM / f"{os.getpid()}-{time.time_ns()}").touch()
            time.sleep(0.1)
        return super().fit(x, y)

def model(): return Noted().fit(*train())
"""
"""A system whose model notes, where there is a folder for it, by which process it is trained anew."""
TRAINED_TARGET: dict[str, Any] = {**TARGET, "model": {"load": "system:model"}}
TRAINING = ("auditability.reproducibility", "data.label_noise", "privacy.membership_inference")
"""Checks that train it."""
