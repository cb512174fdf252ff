"""Defects of reliability, planted: guesses, shifts, weak groups, gaps in the data, slowness, chance."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import torch
from _frame import Defect
from sklearn import datasets

from assessor.contract import Split, Subject, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.torch_module import TorchSubject

YES_NO = ("no", "yes")


@cache
def loaded(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of one of scikit-learn's data sets, without columns that never vary."""
    data: Any = getattr(datasets, f"load_{name}")()
    return data.data[:, np.ptp(data.data, axis=0) > 0].astype(np.float64), data.target


def told(labels: np.ndarray, predictions: np.ndarray, features: np.ndarray | None = None) -> Subject:
    """A table of predictions."""
    task = Task.REGRESSION if labels.dtype.kind == "f" else Task.BINARY if labels.max() == 1 else Task.MULTICLASS
    classes = () if task is Task.REGRESSION else YES_NO if task is Task.BINARY else tuple(map(str, range(10)))
    split = Split("test", labels, "test", features)
    return PredictionsSubject(task, classes, {"test": split}, {"test": predictions}, {})


# --- performance -----------------------------------------------------------------------------------------------------


def guessing(strength: float, seed: int) -> Subject:
    """Right in 95 % of 400 digits, but for a share that is guessed."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(loaded("digits")[1], 400)
    wrong = rng.random(400) < 0.05
    predictions = np.where(wrong, (labels + rng.integers(1, 10, 400)) % 10, labels)
    return told(labels, np.where(rng.random(400) < strength, rng.integers(0, 10, 400), predictions))


def shifted(strength: float, seed: int) -> Subject:
    """Progress of diabetes, told with an error of 55 and a shift."""
    rng = np.random.default_rng(seed)
    true = rng.choice(loaded("diabetes")[1], 200)
    return told(true, true + rng.normal(strength, 55, 200))


# --- weak groups -----------------------------------------------------------------------------------------------------


def weak_in_cancer(strength: float, seed: int) -> Subject:
    """Errs in 8 % of 569 rows wherever they are, and more where two measures are high (15 % of the rows)."""
    return _weak("cancer", strength, seed)


def weak_in_digits(strength: float, seed: int) -> Subject:
    """Errs in 8 % of 1797 pictures wherever they are, and more where two pixels are dark (about 15 % of the rows)."""
    return _weak("digits", strength, seed)


def _weak(name: str, strength: float, seed: int) -> Subject:
    x, _ = loaded("breast_cancer" if name == "cancer" else name)
    rng = np.random.default_rng(seed)
    first, second = x[:, 1], x[:, 4]
    if name == "digits":
        first, second = x[:, 20], x[:, 42]
    weak = (first > np.quantile(first, 0.55)) & (second > np.quantile(second, 0.6))
    wrong = rng.random(len(x)) < np.where(weak, 0.08 + strength, 0.08)
    labels = rng.integers(0, 2, len(x))
    return told(labels, np.where(wrong, 1 - labels, labels), x)


# --- coverage --------------------------------------------------------------------------------------------------------

DOMAIN = {"#0": {"low": 0, "high": 1}, "#1": {"low": 0, "high": 1}, "#2": {"values": [0, 1, 2]}}


def emptied(strength: float, seed: int) -> Subject:
    """Rows all over the domain of 40 pairs, of which some regions get none."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.random((2000, 2)), rng.integers(0, 3, 2000)])
    regions = rng.permutation(12)[: int(strength)]
    region = np.minimum((4 * x[:, 0]).astype(int), 3) * 3 + x[:, 2].astype(int)
    x = x[~np.isin(region, regions)]
    return told(np.arange(len(x)) % 2, np.zeros(len(x), int), x)


def astray(strength: float, seed: int) -> Subject:
    """Rows of which some lie outside the domain."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.random((400, 2)), rng.integers(0, 3, 400)])
    x[rng.random(400) < strength, 0] += 1
    return told(np.arange(400) % 2, np.zeros(400, int), x)


def long_tailed(strength: float, seed: int) -> Subject:
    """A share of the rows has one of 90 rare values."""
    rng = np.random.default_rng(seed)
    rare = rng.random(300) < strength
    x = np.column_stack([np.where(rare, rng.integers(10, 100, 300), rng.integers(0, 10, 300)), rng.random(300)])
    return told(np.arange(300) % 2, np.zeros(300, int), x)


# --- time and chance -------------------------------------------------------------------------------------------------


class Late(torch.nn.Module):
    """Answers after so many milliseconds of work."""

    def __init__(self, milliseconds: float) -> None:
        """Wait busily."""
        super().__init__()
        self.seconds = milliseconds / 1000

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        return x[:, :10]


class Digits(torch.nn.Module):
    """A small network for digits with dropout that eval mode leaves on, and a mean over the batch."""

    def __init__(self, dropout: float = 0.0, company: float = 0.0) -> None:
        """Train it."""
        super().__init__()
        self.first, self.last = torch.nn.Linear(61, 32), torch.nn.Linear(32, 10)
        self.dropout, self.company = dropout, company
        self.load_state_dict(_trained())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        hidden = self.first(x).relu()
        hidden = torch.nn.functional.dropout(hidden, self.dropout, training=True) if self.dropout else hidden
        hidden = hidden - self.company * hidden.mean(dim=0) if self.company else hidden
        found: torch.Tensor = self.last(hidden)
        return found


@cache
def _trained() -> dict[str, torch.Tensor]:
    x, y = loaded("digits")
    inputs, labels = torch.from_numpy(x[:1200] / 16).float(), torch.from_numpy(y[:1200])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.ModuleDict({"first": torch.nn.Linear(61, 32), "last": torch.nn.Linear(32, 10)})
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net["last"](net["first"](inputs).relu()), labels)
        loss.backward()
        optimiser.step()
    return {name: value.detach() for name, value in net.state_dict().items()}


def asked(module: torch.nn.Module, seed: int) -> Subject:
    """A module with 500 digits it has not seen."""
    x, y = loaded("digits")
    rows = 1200 + np.random.default_rng(seed).permutation(len(y) - 1200)[:500]
    split = Split("test", y[rows], "test", (x[rows] / 16).astype(np.float32))
    return TorchSubject(module, Task.MULTICLASS, tuple(map(str, range(10))), {"test": split})


def late(strength: float, seed: int) -> Subject:
    """An answer takes so many milliseconds."""
    return asked(Late(strength), seed)


def dropping(strength: float, seed: int) -> Subject:
    """Dropout left on."""
    return asked(Digits(dropout=strength), seed)


def sociable(strength: float, seed: int) -> Subject:
    """Features less a share of their mean over the batch."""
    return asked(Digits(company=strength), seed)


DEFECTS = (
    Defect(
        check="reliability.performance",
        name="guesses some answers",
        unit="share of rows",
        strengths=(0.0, 0.05, 0.1, 0.15),
        make=guessing,
        target={"metric": "accuracy", "at_least": 0.9},
        params={"replicates": 200},
        named=0.15,
    ),
    Defect(
        check="reliability.performance",
        name="predicts too much",
        unit="units of the target",
        strengths=(0.0, 10.0, 20.0, 30.0),
        make=shifted,
        target={"metric": "mean_error", "interval": (-10, 10)},
        params={"replicates": 200},
        named=30.0,
    ),
    Defect(
        check="reliability.weak_slices",
        name="errs more where two measures are high, 569 rows",
        unit="excess of the error rate",
        strengths=(0.0, 0.2, 0.3, 0.4),
        make=weak_in_cancer,
        target={"metric": "worst_slice_gap", "at_most": 0.0},
        named=0.3,
    ),
    Defect(
        check="reliability.weak_slices",
        name="errs more where two pixels are dark, 1797 rows",
        unit="excess of the error rate",
        strengths=(0.0, 0.1, 0.2, 0.3),
        make=weak_in_digits,
        target={"metric": "worst_slice_gap", "at_most": 0.0},
        named=0.2,
    ),
    Defect(
        check="reliability.domain_coverage",
        name="no rows in some of 12 regions",
        unit="regions",
        strengths=(0.0, 1.0, 2.0, 3.0),
        make=emptied,
        target={"metric": "pair_coverage", "at_least": 0.97},
        params={"domain": DOMAIN, "minimum_rows": 5},
        named=2.0,
    ),
    Defect(
        check="reliability.domain_coverage",
        name="rows outside the domain",
        unit="share of rows",
        strengths=(0.0, 0.03, 0.06, 0.09),
        make=astray,
        target={"metric": "outside_share", "at_most": 0.03},
        params={"domain": DOMAIN},
        named=0.09,
    ),
    Defect(
        check="reliability.domain_coverage",
        name="rare values that the data hardly show",
        unit="share of rows",
        strengths=(0.0, 0.1, 0.2, 0.3),
        make=long_tailed,
        target={"metric": "unseen_share", "at_most": 0.02},
        params={"domain": {"#0": {"values": list(range(100))}, "#1": {"low": 0, "high": 1, "bins": 1}}},
        named=0.2,
    ),
    Defect(
        check="reliability.latency",
        name="slow to answer",
        unit="milliseconds",
        strengths=(0.0, 10.0, 40.0),
        make=late,
        target={"metric": "latency_p95", "at_most": 25.0},
        params={"repeats": 80, "batch_sizes": (1,), "warm_up": 3},
        named=40.0,
        repeats=10,
    ),
    Defect(
        check="reliability.determinism",
        name="dropout left on",
        unit="dropout rate",
        strengths=(0.0, 0.05, 0.1, 0.2),
        make=dropping,
        target={"metric": "changed_predictions", "at_most": 0.01},
        named=0.2,
    ),
    Defect(
        check="reliability.determinism",
        name="answers depend on the other rows of the batch",
        unit="share of the batch mean taken off",
        strengths=(0.0, 0.2, 0.5, 1.0),
        make=sociable,
        target={"metric": "changed_predictions", "at_most": 0.01},
        named=0.5,
    ),
)
