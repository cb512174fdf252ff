"""Data and small networks of the studies: scikit-learn's handwritten digits, trained in seconds on one core."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from assessor.contract import Split, Task
from assessor.subjects.torch_module import TorchSubject

CLASSES = tuple("0123456789")
Step = Callable[[torch.Tensor, torch.Tensor], None]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Data(NamedTuple):
    """Training rows x (n, ...) in [0, 1] with labels y (n,), and test rows."""

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def digits(train: int, *, images: bool = False) -> Data:
    """The first `train` of 1797 digits of 8 x 8 pixels in a fixed random order, and all others to test on.

    Args:
        train: Training rows.
        images: Whether rows are (1, 8, 8) instead of (64,).

    Returns:
        float32 in [0, 1].
    """
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = torch.from_numpy(pixels[order] / 16).float(), torch.from_numpy(labels[order])
    x = x.reshape(-1, 1, 8, 8) if images else x
    return Data(x[:train], y[:train], x[train:], y[train:])


def mlp(*widths: int, seed: int) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cnn(seed: int) -> nn.Sequential:
    """Two small convolutions with pooling and one linear layer for (1, 8, 8) images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        second = (nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(32, 10))


def batches(n: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Rows of one batch after the other, without end, in a new order every epoch.

    Args:
        n: Rows there are.
        size: Rows of a batch; the last one of an epoch may be smaller.
        seed: Seed of the orders.

    Yields:
        Row indices.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).split(size)


def train(step: Step, x: torch.Tensor, y: torch.Tensor, *, batch: int, steps: int, seed: int) -> None:
    """Take a number of steps, each on one batch."""
    for rows in itertools.islice(batches(len(y), batch, seed), steps):
        step(x[rows], y[rows])


def descend(optimiser: torch.optim.Optimizer, loss: Loss) -> Step:
    """One step of an optimiser down a batch's loss."""

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss(x, y).backward()
        optimiser.step()

    return step


def cross_entropy(net: nn.Module) -> Loss:
    """Mean cross-entropy of a network on a batch, in nats."""
    return lambda x, y: nn.functional.cross_entropy(net(x), y)


class Scores(NamedTuple):
    """Mean cross-entropy in nats and share of right answers."""

    loss: float
    accuracy: float


@torch.no_grad()
def scores(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Scores:
    """Loss, in float64, and accuracy on some rows."""
    z = net(x)
    loss = nn.functional.cross_entropy(z.double(), y)
    return Scores(float(loss), float((z.argmax(dim=1) == y).double().mean()))


def subject(net: nn.Module, data: Data, *, baseline: nn.Module | None = None) -> TorchSubject:
    """A network with its data as the checks take it."""
    parts = {"train": (data.x, data.y), "test": (data.x_test, data.y_test)}
    splits = {
        name: Split(name=name, labels=y.numpy(), sha256=name, features=x.numpy()) for name, (x, y) in parts.items()
    }
    other = None if baseline is None else TorchSubject(baseline, Task.MULTICLASS, CLASSES, splits)
    return TorchSubject(net, Task.MULTICLASS, CLASSES, splits, baseline=other)


def rescaled(net: nn.Sequential, factors: list[torch.Tensor]) -> nn.Sequential:
    """A network that computes the same with other weights: every hidden neuron multiplied, its readers dividing.

    Args:
        net: Linear and convolution layers, with nothing between them but ReLU, max pooling and flattening.
        factors: For every hidden layer (neurons,), all above 0.

    Returns:
        A copy.
    """
    twin = copy.deepcopy(net)
    layers = [layer for layer in twin if isinstance(layer, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for (here, there), factor in zip(itertools.pairwise(layers), factors, strict=True):
            assert here.bias is not None
            here.weight.mul_(factor.reshape(-1, *[1] * (here.weight.ndim - 1)))
            here.bias.mul_(factor)
            spread = factor.repeat_interleave(there.weight.shape[1] // len(factor))
            there.weight.div_(spread.reshape(1, -1, *[1] * (there.weight.ndim - 2)))
    return twin


def hidden_sizes(net: nn.Sequential) -> list[int]:
    """Neurons, or channels, of every hidden layer."""
    return [len(layer.weight) for layer in net if isinstance(layer, nn.Linear | nn.Conv2d)][:-1]
