"""Planted faults of explanations: gradients that lie, tremble or show the input; models that no small tree follows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from _frame import Defect
from sklearn.base import BaseEstimator, ClassifierMixin

from assessor.contract import Split, Subject, Task

DIGITS = tuple("0123456789")
RIPPLE = 200.0  # waves of the trembling input per unit of a pixel, over 2 pi


class _Backward(torch.autograd.Function):
    """The input itself; its gradient is what a function makes of the true one."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.change(gradients[0], *ctx.saved_tensors), None


class _Front(torch.nn.Module):
    """Something before a network; parameters of its own it has none."""

    def __init__(self, before: Callable[[torch.Tensor], torch.Tensor], net: torch.nn.Module) -> None:
        super().__init__()
        self.before, self.net = before, net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of the network."""
        found: torch.Tensor = self.net(self.before(x))
        return found


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, *[1] * (x.ndim - 1))


def lying(strength: float, seed: int) -> Subject:
    """Gradients turned towards one fixed random picture; the outputs are untouched."""
    wrong = _unit(torch.randn(1, 64, generator=torch.Generator().manual_seed(seed)))

    def change(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        length = gradient.norm(dim=1, keepdim=True)
        return (1 - strength) * gradient + strength * length * wrong

    return _digits(partial(_changed, change=change), seed)


def trembling(strength: float, seed: int) -> Subject:
    """A ripple on every pixel, far too fine to change an output and steep enough to turn gradients."""
    return _digits(lambda x: x + strength * torch.sin(RIPPLE * x) / RIPPLE, seed)


def showing_the_input(strength: float, seed: int) -> Subject:
    """Gradients turned towards the picture itself, as guided backpropagation does on images."""

    def change(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (1 - strength) * _unit(gradient) + strength * _unit(x)

    return _digits(partial(_changed, change=change), seed)


def _changed(x: torch.Tensor, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = _Backward.apply(x, change)
    return found


def _digits(before: Callable[[torch.Tensor], torch.Tensor], seed: int) -> Subject:
    """A network on handwritten digits with something before it."""
    from assessor.subjects.torch_module import TorchSubject

    images, labels = _pictures()
    rows = np.random.default_rng(seed).permutation(len(labels))
    parts = {"train": rows[:1200], "test": rows[1200:]}
    splits = {
        name: Split(name=name, labels=labels[some], sha256=name, features=images[some]) for name, some in parts.items()
    }
    net = _trained(images[parts["train"]], labels[parts["train"]], seed)
    return TorchSubject(_Front(before, net), Task.MULTICLASS, DIGITS, splits)


@cache
def _pictures() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int64)


def _trained(x: np.ndarray, y: np.ndarray, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(6):
        for batch in torch.randperm(len(labels)).split(64):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            adam.step()
    return net


class Stubborn(ClassifierMixin, BaseEstimator):
    """A forest of which a share of the answer is a rule that no training changes."""

    def __init__(self, share: float = 0.0, random_state: int | None = None) -> None:
        """Keep both.

        Args:
            share: Of the rule in the probabilities.
            random_state: Of the forest.
        """
        self.share, self.random_state = share, random_state

    def fit(self, x: np.ndarray, y: np.ndarray) -> Stubborn:
        """Fit the forest; the rule takes no notice."""
        from sklearn.ensemble import RandomForestClassifier

        self.forest_ = RandomForestClassifier(10, random_state=self.random_state).fit(x, y)
        self.classes_ = self.forest_.classes_
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Mean of rule and forest."""
        rule = 1 / (1 + np.exp(-(x - _middle()) @ _slope()))
        found: np.ndarray = self.share * np.stack([1 - rule, rule], axis=1)
        return found + (1 - self.share) * self.forest_.predict_proba(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The likelier class."""
        found: np.ndarray = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return found


@cache
def _cells() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    found: Any = load_breast_cancer()
    return found.data, found.target.astype(np.int64)


@cache
def _middle() -> np.ndarray:
    found: np.ndarray = _cells()[0].mean(axis=0)
    return found


@cache
def _slope() -> np.ndarray:
    """Of the rule: some weight on every feature."""
    x, _ = _cells()
    found: np.ndarray = np.random.default_rng(0).standard_normal(x.shape[1]) / x.std(axis=0)
    return found


def stubborn(strength: float, seed: int) -> Subject:
    """A model that can be trained anew, with a part that ignores the labels."""
    x, y = _cells()
    return _estimator(Stubborn(strength, seed), x, y, 340, seed)


class Knotted(ClassifierMixin, BaseEstimator):
    """Answers by one threshold, but on a share of the rows by the parity of six signs."""

    def __init__(self, share: float = 0.0) -> None:
        """Keep it.

        Args:
            share: Of rows answered by parity.
        """
        self.share = share

    def fit(self, x: np.ndarray, y: np.ndarray) -> Knotted:
        """Nothing is learned."""
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """0 or 1."""
        knotted = np.modf(np.abs(100 * x[:, 7]))[0] < self.share
        found: np.ndarray = np.where(knotted, (x[:, 1:7] > 0).sum(axis=1) % 2, x[:, 0] > 0).astype(np.int64)
        return found


def knotted(strength: float, seed: int) -> Subject:
    """A model that a small tree can follow on the remaining rows only."""
    x = np.random.default_rng(seed).standard_normal((900, 8))
    return _estimator(Knotted(strength), x, (x[:, 0] > 0).astype(np.int64), 500, seed)


def _estimator(estimator: Any, x: np.ndarray, y: np.ndarray, count: int, seed: int) -> Subject:
    """An estimator of two classes fitted on the first rows of a random order."""
    from assessor.subjects.sklearn_estimator import SklearnSubject

    rows = np.random.default_rng([seed, 1]).permutation(len(y))
    parts = {"train": rows[:count], "test": rows[count:]}
    splits = {name: Split(name=name, labels=y[some], sha256=name, features=x[some]) for name, some in parts.items()}
    fitted = estimator.fit(x[parts["train"]], y[parts["train"]])
    return SklearnSubject(fitted, Task.BINARY, ("0", "1"), splits)


DEFECTS: tuple[Defect, ...] = (
    Defect(
        check="transparency.attribution_faithfulness",
        name="gradients turned towards a random picture",
        unit="share of the gradient",
        strengths=(0.0, 0.5, 0.8, 1.0),
        make=lying,
        target={"metric": "gain_over_random", "at_least": 0.3},
        params={"steps": 10, "max_samples": 100, "orders": 2},
        named=0.8,
    ),
    Defect(
        check="transparency.attribution_stability",
        name="gradients that tremble",
        unit="height of the ripple's slope",
        strengths=(0.0, 0.25, 0.5, 1.0),
        make=trembling,
        target={"metric": "rank_correlation", "at_least": 0.9},
        params={"method": "gradient", "max_samples": 100},
        named=1.0,
    ),
    Defect(
        check="transparency.model_randomization",
        name="gradients that show the input",
        unit="share of the gradient",
        strengths=(0.0, 0.25, 0.5, 0.75),
        make=showing_the_input,
        target={"metric": "rank_correlation", "at_most": 0.2},
        params={"method": "gradient"},
        named=0.5,
    ),
    Defect(
        check="transparency.model_randomization",
        name="answers that no labels change",
        unit="share of the answer",
        strengths=(0.0, 0.25, 0.5, 1.0),
        make=stubborn,
        target={"metric": "rank_correlation_shuffled_labels", "at_most": 0.3},
        params={"method": "occlusion", "max_samples": 40},
        named=0.5,
    ),
    Defect(
        check="transparency.surrogate_fidelity",
        name="answers by the parity of six signs",
        unit="share of rows",
        strengths=(0.0, 0.25, 0.5, 0.75),
        make=knotted,
        target={"metric": "fidelity", "at_least": 0.85},
        named=0.5,
    ),
)
