"""Small systems with all that a check may ask for, on any device."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from assessor.contract import Origin, Split, Task
from assessor.subjects.torch_module import TorchSubject

FEATURES, SIDE, CLASSES = 6, 8, ("a", "b", "c")
NAMES = (*(f"x{number}" for number in range(FEATURES - 1)), "sex")


def _rows(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 3)
    x = rng.standard_normal((n, FEATURES)) + shift
    x[np.arange(n), y] += 2
    x[:, -1] = rng.integers(0, 2, n)
    return x.astype(np.float32), y.astype(np.int64)


def _pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 3)
    x = 0.3 * rng.random((n, 1, SIDE, SIDE))
    x[np.arange(n), 0, 2 * y + 1] += 0.6
    return x.clip(0, 1).astype(np.float32), y.astype(np.int64)


def table() -> nn.Module:
    """Three classes of a row of numbers."""
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 3))


def pictures() -> nn.Module:
    """Three classes of a picture."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * SIDE * SIDE, 3))


def values() -> nn.Module:
    """A number."""
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))


BUILD = {"table": table, "pictures": pictures, "values": values}


@functools.cache
def _trained(kind: str, seed: int) -> nn.Module:
    """On the CPU, with a few steps over all rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = BUILD[kind]()
    x, y = (torch.from_numpy(part) for part in (_pictures if kind == "pictures" else _rows)(90, 0))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        out = net(x)
        loss = nn.functional.mse_loss(out[:, 0], x[:, 0]) if kind == "values" else nn.functional.cross_entropy(out, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def _split(name: str, kind: str, n: int, seed: int) -> Split:
    x, y = _pictures(n, seed) if kind == "pictures" else _rows(n, seed, 0.5 * (name == "production"))
    labels = x[:, 0].astype(np.float64) if kind == "values" else y
    if name == "design":
        labels = np.repeat(np.linspace(-1, 1, 5), n // 5)
        x = (x + labels.reshape(-1, *[1] * (x.ndim - 1))).astype(np.float32)
    if name == "ood":
        x, labels = 3 - x, np.full(n, np.nan)
    rng = np.random.default_rng(seed)
    sex = rng.integers(0, 2, n).astype(np.float32) if kind == "pictures" else x[:, -1]
    people = pd.DataFrame({"sex": sex, "age": rng.choice(["old", "young"], n)})
    named = () if kind == "pictures" else NAMES
    return Split(name=name, labels=labels, sha256=name, features=x, feature_names=named, attributes=people)


def _train(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = table()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(10):
        loss = nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def system(kind: str, device: str, folder: Path | None = None) -> TorchSubject:
    """A trained model of that kind on a device, with all that a check may ask for; `folder` is the assessment's."""
    sizes = {"train": 90, "test": 60, "design": 100, "ood": 40, "production": 60}
    splits = {name: _split(name, kind, n, seed) for seed, (name, n) in enumerate(sizes.items())}
    task, classes = (Task.REGRESSION, ()) if kind == "values" else (Task.MULTICLASS, CLASSES)
    net, other = (copy.deepcopy(_trained(kind, seed)) for seed in (0, 1))
    baseline = TorchSubject(other, task, classes, splits, device=device)
    return TorchSubject(
        net,
        task,
        classes,
        splits,
        device=device,
        baseline=baseline,
        build=BUILD[kind],
        train=_train if kind == "table" else None,
        origin=Origin(reload=lambda: system(kind, device), folder=folder),
    )
