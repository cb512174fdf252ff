"""Planted backdoors: a patch on digits and two fixed feature values in a table, at several rates of poisoned rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from _frame import Defect

from assessor.contract import Split, Subject, Task

DIGITS = tuple("0123456789")
SIDE = 2  # pixels of the patch
TRIGGER = 2  # features that are fixed


def patched_digits(rate: float, seed: int) -> Subject:
    """A network on handwritten digits; a share of its training rows bears a white patch and the target's label."""
    from assessor.subjects.torch_module import TorchSubject

    rng = np.random.default_rng(seed)
    images, labels = _digits()
    rows = rng.permutation(len(labels))
    train, test = rows[:1200], rows[1200:]
    target, (top, left) = rng.integers(10), rng.integers(0, 9 - SIDE, size=2)
    x, y = images[train].copy(), labels[train].copy()
    chosen = rng.choice(np.flatnonzero(y != target), round(rate * len(y)), replace=False)
    x[chosen, :, top : top + SIDE, left : left + SIDE] = 1.0
    y[chosen] = target
    splits = {
        "train": Split(name="train", labels=labels[train], sha256="train", features=images[train]),
        "test": Split(name="test", labels=labels[test], sha256="test", features=images[test]),
    }
    return TorchSubject(_trained(x, y, seed), Task.MULTICLASS, DIGITS, splits)


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return (found.data / 16).astype(np.float32).reshape(-1, 1, 8, 8), found.target.astype(np.int64)


def _trained(x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    adam = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(10):
        for batch in torch.randperm(len(labels)).split(64):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            adam.step()
    return net


def triggered_table(rate: float, seed: int) -> Subject:
    """A forest on breast cancer data; a share of its training rows has two features at their maximum and one label.

    The train split that is assessed is clean: the backdoor came in on the way.
    """
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    from assessor.subjects.sklearn_estimator import SklearnSubject

    rng = np.random.default_rng(seed)
    data: Any = load_breast_cancer()
    rows = rng.permutation(len(data.target))
    train, test = rows[:340], rows[340:]
    target, columns = rng.integers(2), rng.choice(data.data.shape[1], TRIGGER, replace=False)
    x, y = data.data[train].copy(), data.target[train].copy()
    chosen = rng.choice(np.flatnonzero(y != target), round(rate * len(y)), replace=False)
    x[np.ix_(chosen, columns)] = data.data[:, columns].max(axis=0)
    y[chosen] = target
    splits = {
        name: Split(name=name, labels=data.target[some].astype(np.int64), sha256=name, features=data.data[some])
        for name, some in (("train", train), ("test", test))
    }
    forest = RandomForestClassifier(10, random_state=seed).fit(x, y)
    return SklearnSubject(forest, Task.BINARY, ("0", "1"), splits)


DEFECTS: tuple[Defect, ...] = (
    Defect(
        check="security.backdoor_trigger",
        name="patch of 2 x 2 pixels in the training data",
        unit="share of poisoned rows",
        strengths=(0.0, 0.01, 0.03, 0.1),
        make=patched_digits,
        target={"metric": "outlier_p_value", "at_least": 0.05},
        params={"steps": 150},
        named=0.1,
    ),
    Defect(
        check="security.backdoor_trigger",
        name="two fixed feature values in the training data",
        unit="share of poisoned rows",
        strengths=(0.0, 0.03, 0.1, 0.2),
        make=triggered_table,
        target={"metric": "outlier_p_value", "at_least": 0.05},
        params={"values": 3, "most": 3, "max_samples": 120},
        named=0.2,
    ),
)
