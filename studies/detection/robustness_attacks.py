"""Planted defects for the checks that attack a model's inputs.

Digits: networks trained on inputs attacked less hard than those they meet. Margins: a linear model on rows of which a
known share lies nearer to its boundary than the attack reaches, so that the robust accuracy is known; the clean twin
lies exactly on the target, where an honest check may fail one time in forty at most.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from _frame import Defect
from sklearn.datasets import load_digits

from assessor.contract import Split, Task
from assessor.subjects.torch_module import TorchSubject

TRAINED, FULL = 1200, 0.15  # rows trained on; largest change of a pixel in the attack of the training
ROWS, FEATURES, EPS, SHARE = 300, 20, 0.1, 0.1  # of the margins: share of rows within reach in the clean twin


def half_trained(strength: float, seed: int) -> TorchSubject:
    """A small network for digits, trained by attacks of (1 - strength) times the full size."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.data))
    x, y = (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.int64)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(
                torch.randn(value.shape, generator=generator) / 8 if value.ndim == 2 else torch.zeros(len(value))
            )
    _train(net, torch.from_numpy(x[:TRAINED]), torch.from_numpy(y[:TRAINED]), FULL * (1 - strength))
    test = Split(name="test", labels=y[TRAINED:], sha256=f"digits {seed}", features=x[TRAINED:])
    return TorchSubject(net, Task.MULTICLASS, tuple(map(str, range(10))), {"test": test})


def _train(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, size: float) -> None:
    """Adam on all rows at once, each moved by one signed gradient step of this size."""
    loss, optimiser = torch.nn.functional.cross_entropy, torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(120):
        probe = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(net(probe), y), probe)
        optimiser.zero_grad()
        loss(net((x + size * gradient.sign()).clamp(0, 1)), y).backward()
        optimiser.step()


def near_boundary(strength: float, seed: int, order: float = 1.0) -> TorchSubject:
    """A linear model that is right everywhere; each row is within reach of the attack with 0.1 + strength.

    Args:
        strength: What is added to the share of rows within reach.
        seed: Of weights and rows.
        order: Of the norm dual to the attack's: 1 for L-infinity, 2 for L2.

    Returns:
        The subject.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(FEATURES)
    x, sign = rng.standard_normal((ROWS, FEATURES)), rng.choice([-1.0, 1.0], ROWS)
    reach = np.where(rng.random(ROWS) < SHARE + strength, rng.uniform(0, 0.9, ROWS), rng.uniform(1.1, 3, ROWS))
    margin = sign * reach * EPS * np.linalg.norm(w, order)
    x += np.outer(margin - x @ w, w) / (w @ w)  # now w x is the margin
    net = torch.nn.Linear(FEATURES, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(w)[None])
        net.bias.zero_()
    test = Split(name="test", labels=(sign > 0).astype(np.int64), sha256=f"margins {seed}", features=x)
    return TorchSubject(net, Task.BINARY, ("left", "right"), {"test": test})


DEFECTS: tuple[Defect, ...] = (
    Defect(
        check="robustness.pgd_accuracy",
        name="digits: trained on attacks weaker than those it meets",
        unit="share of the attack left out of training",
        strengths=(0.0, 0.5, 0.75, 1.0),
        make=half_trained,
        target={"metric": "robust_accuracy", "at_least": 0.65},
        params={"eps": 0.1, "bounds": (0.0, 1.0), "max_samples": 300},
        named=1.0,
    ),
    Defect(
        check="robustness.pgd_accuracy",
        name="more rows near the boundary than the target allows",
        unit="added share of rows within reach",
        strengths=(0.0, 0.05, 0.1, 0.2),
        make=near_boundary,
        target={"metric": "robust_accuracy", "at_least": 1 - SHARE},
        params={"eps": EPS},
        named=0.1,
    ),
    Defect(
        check="robustness.pgd_accuracy",
        name="more rows near the boundary, by Euclidean distance and APGD",
        unit="added share of rows within reach",
        strengths=(0.0, 0.05, 0.1, 0.2),
        make=partial(near_boundary, order=2.0),
        target={"metric": "robust_accuracy", "at_least": 1 - SHARE},
        params={"eps": EPS, "norm": "l2", "method": "apgd", "restarts": 2},
        named=0.1,
    ),
    Defect(
        check="robustness.autoattack",
        name="digits: trained on attacks weaker than those it meets, small budget",
        unit="share of the attack left out of training",
        strengths=(0.0, 0.5, 0.75, 1.0),
        make=half_trained,
        target={"metric": "robust_accuracy", "at_least": 0.55},
        params={
            "eps": 0.5, "norm": "l2", "bounds": (0.0, 1.0), "max_samples": 150, "steps": 20, "targets": 3,
            "queries": 200,
        },
        named=1.0,
    ),
    Defect(
        check="robustness.autoattack",
        name="more rows near the boundary than the target allows, small budget",
        unit="added share of rows within reach",
        strengths=(0.0, 0.05, 0.1, 0.2),
        make=near_boundary,
        target={"metric": "robust_accuracy", "at_least": 1 - SHARE},
        params={"eps": EPS, "steps": 20, "queries": 200},
        named=0.1,
    ),
)  # fmt: skip
