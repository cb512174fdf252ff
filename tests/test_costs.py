"""What checks say of how many rows they ask a model for, against how many they do ask for.

Rows are counted by matrix products: those of one forward pass of a row count once, whether made in a forward pass, in
a backward pass or in one of second derivatives. So a check's own products count too; where these are more than the
model's, only its forward passes are counted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from assessor.contract import NotApplicable, Origin, Split, Task
from assessor.engine import fixed_randomness, refusal
from assessor.registry import load_checks
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject

FEATURES, HIDDEN = 6, 32
SIZES = {"test": 160, "train": 200, "design": 100, "ood": 50, "production": 60}
EARLY: Mapping[str, float] = {
    "robustness.certified_accuracy": 20,
    "security.backdoor_trigger": 10,
}
"""Checks that stop as soon as a row or a class is decided: how many times too high what they say may be here."""
OWN = {"generalization.fisher_flow", "generalization.neural_collapse"}
"""Checks whose own products are many more than the model's."""
UNKNOWN = {
    "reliability.latency": "asks for as long as its parameter says",
}
"""Checks that ask the model and do not say how often, and why."""
SILENT = {
    "auditability.provenance": "reads files and digests",
    "data.quality": "reads the data",
    "data.representation": "reads the data",
    "fairness.data_bias": "reads labels and attributes",
    "reliability.domain_coverage": "reads the data",
    "security.dependencies": "reads files",
    "security.model_file": "reads files",
}
"""Checks that never ask the model."""
PARAMS: Mapping[str, dict[str, Any]] = {
    "fairness.group_metrics": {"positive": "c", "minimum_group": 5},
    "fairness.intersectional": {"positive": "c"},
    "generalization.flatness_calibration": {"models": 8, "max_epochs": 5, "loss_target": 1e-6},
    "generalization.hessian_spectrum": {"steps": 10, "probes": 10},
    "generalization.sharpness": {"draws": 4},
    "robustness.autoattack": {"steps": 10, "queries": 200},
    "robustness.certified_accuracy": {"most": 1000, "radius": 0.1},
    "robustness.decision_attack": {"queries": 100},
    "robustness.pgd_accuracy": {"steps": 10},
    "robustness.robust_flatness": {"steps": 5},
    "transparency.attribution_stability": {"steps": 10, "copies": 4},
    "transparency.attribution_faithfulness": {"steps": 10},
    "transparency.model_randomization": {"steps": 10, "models": 3},
    "reliability.frozen_weakness": {"cases": {"one": {"told": "a case", "where": [{"column": "c0", "above": 0.0}]}}},
}
ASKED = sorted(name for name, check in load_checks().items() if check.rows is not None)


def build() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, 3),
    )


PRODUCTS = 2 * (FEATURES * HIDDEN + HIDDEN * HIDDEN + HIDDEN * 3)
"""Multiplications and additions of a row's forward pass."""


def split(name: str, n: int, seed: int, task: Task) -> Split:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, FEATURES)).astype(np.float32)
    x[:, 5] = rng.integers(0, 2, n)
    x[:, 4] = rng.integers(0, 2, n)
    labels = (x[:, :3] + 0.4 * rng.normal(size=(n, 3))).argmax(axis=1)
    if name == "design":
        labels = np.repeat(np.linspace(0, 1, n // 20), 20)
        x = (0.2 * x + labels[:, None]).astype(np.float32)
    if name in {"ood", "production"}:
        x, labels = x + np.float32(3.0 * (name == "ood")), np.full(n, np.nan)
    if task is Task.REGRESSION:
        labels = x[:, 0].astype(np.float64)
    attributes = pd.DataFrame({f"c{k}": np.where(x[:, k] > 0.5, "f", "m") for k in (4, 5)})
    return Split(name, labels, name, features=x, feature_names=tuple(f"c{k}" for k in range(6)), attributes=attributes)


@cache
def fitted(task: Task, seed: int) -> torch.nn.Module:
    """A module trained a little."""
    data = split("train", SIZES["train"], 1, task)
    x, y = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build() if task.is_classification else torch.nn.Sequential(build(), torch.nn.Linear(3, 1))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        out = module(x)
        loss = torch.nn.functional.cross_entropy(out, y) if task.is_classification else (out[:, 0] - y).square().mean()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad()
    return module


def subject(task: Task = Task.MULTICLASS) -> TorchSubject:
    """All that a subject can offer but a way to train it anew: what that asks for nobody knows."""
    splits = {name: split(name, n, seed, task) for seed, (name, n) in enumerate(SIZES.items())}
    classes = ("a", "b", "c") if task.is_classification else ()
    first, second = (copy.deepcopy(fitted(task, seed)) for seed in range(2))
    baseline = TorchSubject(second, task, classes, splits)
    found = TorchSubject(first, task, classes, splits, baseline=baseline, build=build)
    found.origin = Origin(reload=lambda: found)
    return found


class Products(TorchDispatchMode):
    """Counts what matrix products take, whatever makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def asked(name: str, some: TorchSubject, params: Mapping[str, Any] | None = None, each: float = PRODUCTS) -> float:
    """Rows that the check asked for, of so many products each."""
    check, products, passed = load_checks()[name], Products(), [0]
    given = check.params(**PARAMS.get(name, {}) if params is None else params)
    if name in OWN:
        some.module.register_forward_hook(lambda module, inputs, out: passed.append(len(inputs[0])))
    lost = (
        (NotApplicable,) if name == "generalization.flatness_calibration" else ()
    )  # its models are trained too little
    with products, fixed_randomness(0), suppress(*lost):
        check.measure(some, given, 0)
    return sum(passed) if name in OWN else products.total / each


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_what_is_said_is_what_is_asked_within_a_factor_of_two(name: str) -> None:
    """More may be said where a check stops early; at most twice as much may be asked."""
    check = load_checks()[name]
    some = subject(Task.REGRESSION if Task.MULTICLASS not in check.info.tasks else Task.MULTICLASS)
    assert check.rows is not None
    said = check.rows(some, check.params(**PARAMS.get(name, {})))
    assert said
    assert said / EARLY.get(name, 2) <= asked(name, some) <= 2 * said


PICTURES: Mapping[str, dict[str, Any]] = {
    "robustness.corruption_accuracy": {},
    "robustness.noise_accuracy": {},
    "robustness.pgd_accuracy": {"steps": 5},
    "security.backdoor_trigger": {"steps": 30},
    "transparency.attribution_faithfulness": {"patch": 3, "steps": 10},
    "transparency.attribution_stability": {"patch": 3, "method": "shapley_sampling", "copies": 2, "max_samples": 20},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_the_same_of_pictures(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pictures = (0.5 * rng.random((60, 1, 12, 12))).astype(np.float32)
    for number, label in enumerate(labels):
        pictures[number, 0, 4 * label : 4 * label + 4] += 0.4
    split = Split("test", labels, "test", features=pictures)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(200, 3))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.from_numpy(pictures)), torch.from_numpy(labels)).backward()
        optimiser.step()
    some = TorchSubject(net, Task.MULTICLASS, ("a", "b", "c"), {"test": split, "train": split})
    with Products() as products:
        some.query(pictures)
    check = load_checks()[name]
    assert check.rows is not None
    said = check.rows(some, check.params(**PICTURES[name]))
    assert said
    assert said / 2 <= asked(name, some, PICTURES[name], products.total / len(pictures)) <= 2 * said


def test_every_check_says_or_has_a_reason_not_to() -> None:
    assert set(load_checks()) == {*ASKED, *UNKNOWN, *SILENT}
    assert not set(ASKED) & {*UNKNOWN, *SILENT}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SILENT))
def test_checks_that_say_nothing_ask_nothing(name: str) -> None:
    check, some = load_checks()[name], subject()
    if not check.info.needs <= some.offers:
        return
    params = {"positive": "c"} if name == "fairness.data_bias" else {}
    with Products() as products, fixed_randomness(0):
        check.measure(some, check.params(**params), 0)
    assert products.total == 0


class Asked(LogisticRegression):
    """Counts the rows that it is asked for."""

    count = 0

    def predict(self, X: np.ndarray) -> Any:
        self.count += len(X)
        return super().predict(X)

    def predict_proba(self, X: np.ndarray) -> Any:
        self.count += len(X)
        return super().predict_proba(X)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_the_same_of_a_model_without_gradients(name: str) -> None:
    check = load_checks()[name]
    splits = {part: split(part, n, seed, Task.MULTICLASS) for seed, (part, n) in enumerate(SIZES.items())}
    model = Asked().fit(splits["train"].features, np.array(["a", "b", "c"])[splits["train"].labels])
    some, params = SklearnSubject(model, Task.MULTICLASS, ("a", "b", "c"), splits), check.params(**PARAMS.get(name, {}))
    assert check.rows is not None
    if refusal(check, some) or (said := check.rows(some, params)) is None:
        return
    try:
        with fixed_randomness(0):
            check.measure(some, params, 0)
    except NotApplicable:
        return
    assert said / EARLY.get(name, 2) <= model.count <= 2 * said
