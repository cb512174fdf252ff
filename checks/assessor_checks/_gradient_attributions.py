"""Attributions from a network's gradients: the gradient itself, times input, integrated, smoothed.

Sources: gradient, Simonyan, Vedaldi, Zisserman 2014 (arXiv 1312.6034); gradient times input, Shrikumar et al. 2017
(arXiv 1605.01713), here times the difference from the baseline; integrated gradients, Sundararajan, Taly, Yan 2017
(arXiv 1703.01365), equation 1, by Gauss-Legendre quadrature; SmoothGrad, Smilkov et al. 2017 (arXiv 1706.03825).
Modules are only run, never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from assessor.contract import NotApplicable, Subject, in_batches, progress
from assessor_checks._attribution_method import AttributionParams, Explained, Method
from assessor_checks._explained import Model, Rows, finite
from assessor_checks._pgd import objective

BATCH = 4096  # rows put through the network at once, at most
_ENTRIES = 2**23  # entries of inputs put through it at once, at most

Logits = Callable[[torch.Tensor], torch.Tensor]


class Net(NamedTuple):
    """A differentiable model: (n, ...) inputs on `device` in `dtype` to (n, C) logits or (n,) values.

    `module` is what the logits come from, perhaps run with other parameters than its own.
    """

    logits: Logits
    explained: Explained
    device: str
    dtype: torch.dtype
    module: torch.nn.Module

    @property
    def model(self) -> Model:
        """The explained number, differentiable."""
        return Model(self._values, self)

    def inputs(self, x: np.ndarray) -> torch.Tensor:
        """Rows as the network takes them."""
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device, self.dtype)

    def number(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(n,) the explained number, differentiable in x; log-odds are log p - log(1 - p), whatever the logits' scale.

        Probabilities are in float64, so that their gradients do not vanish before 1 - p reaches 1e-16.
        """
        logits = self.logits(x)
        if logits.ndim == 1:
            return logits
        if self.explained == "log_odds":
            return -objective(logits, classes)
        found = logits.double().softmax(dim=1) if self.explained == "probability" else logits
        return found.gather(1, classes[:, None]).squeeze(1)

    def slopes(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(n, ...) gradient of the explained number by the inputs.

        Raises:
            NotApplicable: There is none.
        """

        def one(chunk: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            chunk = chunk.detach().requires_grad_(True)
            with torch.enable_grad():
                number = self.number(chunk, wanted)
                if not number.requires_grad:
                    raise NotApplicable(
                        "the model's outputs do not depend differentiably on its inputs; set method: shapley_sampling "
                        "or occlusion, which only ask the model"
                    )
                (found,) = torch.autograd.grad(number.sum(), chunk, allow_unused=True, materialize_grads=True)
            return found.detach()

        return in_batches(one, x, classes, size=batch_of(x), work="backward")

    @torch.no_grad()
    def _values(self, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        wanted = torch.from_numpy(classes).to(self.device)
        inputs = self.inputs(x)
        found = in_batches(self.number, inputs, wanted, size=batch_of(inputs), work="forward")
        return finite(found.double().cpu().numpy())


def batch_of(x: torch.Tensor) -> int:
    """Rows of this size that are put through at once."""
    return max(1, min(BATCH, _ENTRIES // max(1, x[0].numel())))


class Held(torch.nn.Module):
    """Logits as a module that holds the explained one, so that its parameters and activations are found from here."""

    def __init__(self, module: torch.nn.Module, logits: Logits) -> None:
        """Hold both.

        Args:
            module: What the logits come from.
            logits: Runs the module.
        """
        super().__init__()
        self.module = module
        self._outputs = partial(logits)  # a module in here would be held twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        return self._outputs(x)


def net_of(subject: Subject, logits: Logits, explained: Explained) -> Net:
    """The explained number of logits that take the same inputs as the subject."""
    inputs, _ = subject.tensors("test")
    return Net(logits, explained, subject.device, inputs.dtype, subject.module)


def answers(subject: Subject, x: np.ndarray | torch.Tensor) -> np.ndarray:
    """(n,) classes that the module gives rows x (n, ...), or values.

    Raises:
        NotApplicable: Some outputs are not finite.
    """
    inputs, _ = subject.tensors("test")
    rows = torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x
    with torch.no_grad():
        out = in_batches(subject.logits, rows.to(inputs.device, inputs.dtype), size=batch_of(inputs), work="forward")
    finite(out.double().flatten(1).sum(dim=1).cpu().numpy() if out.ndim > 1 else out.double().cpu().numpy())
    found: np.ndarray = (out.argmax(dim=1) if out.ndim > 1 else out.double()).cpu().numpy()
    return found


def entries(net: Net, rows: Rows, method: Method, params: AttributionParams, seed: int) -> np.ndarray:
    """(n, ...) float64 attribution of every entry of every row.

    Args:
        net: What is explained.
        rows: Rows, classes, baselines.
        method: gradient, gradient_x_input, integrated_gradients or smoothgrad.
        params: Their settings.
        seed: Of the noise.

    Returns:
        The attributions.
    """
    x, classes = net.inputs(rows.x), torch.from_numpy(rows.classes).to(net.device)
    if method == "gradient":
        found = net.slopes(x, classes)
    elif method == "smoothgrad":
        found = smoothgrad(net, x, classes, _noise(net, rows, params, seed))
    else:
        bases = [net.inputs(base) for base in rows.baselines]
        points = params.steps if method == "integrated_gradients" else 0
        found = torch.stack([integrated_gradients(net, x, base, classes, points) for base in bases]).mean(dim=0)
    return found.double().cpu().numpy()


def integrated_gradients(
    net: Net, x: torch.Tensor, base: torch.Tensor, classes: torch.Tensor, points: int
) -> torch.Tensor:
    """(x - base) times the mean gradient on the straight line from base to x (Sundararajan et al. 2017, equation 1).

    Args:
        net: What is explained.
        x: (n, ...) rows.
        base: (n, ...) where the lines start.
        classes: (n,) whose output is explained.
        points: Gauss-Legendre nodes, exact for polynomials of degree 2 points - 1 in the position on the line; 0
            takes the gradient at x alone, which gives gradient times input.

    Returns:
        (n, ...) attributions; their sum over a row is the output's difference between its ends, to the quadrature.
    """
    if not points:
        return (x - base) * net.slopes(x, classes)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = torch.zeros_like(x)
    for done, (node, weight) in enumerate(zip(nodes.tolist(), weights.tolist(), strict=True), start=1):
        total += weight / 2 * net.slopes(torch.lerp(base, x, (node + 1) / 2), classes)
        progress("points on the path of the gradients", done, points)
    return (x - base) * total


def smoothgrad(net: Net, x: torch.Tensor, classes: torch.Tensor, noise: Iterator[torch.Tensor]) -> torch.Tensor:
    """(n, ...) mean gradient at noisy copies of the rows (Smilkov et al. 2017)."""
    total, count = torch.zeros_like(x), 0
    for drawn in noise:
        total += net.slopes(x + drawn, classes)
        count += 1
    return total / count


def _noise(net: Net, rows: Rows, params: AttributionParams, seed: int) -> Iterator[torch.Tensor]:
    """Gaussian noise (n, ...), one draw a copy; a row's depends on the seed and its number alone."""
    generators = [np.random.default_rng([seed, 4, number]) for number in rows.numbers]
    shape, scale = rows.x.shape[1:], params.noise * rows.spread
    for copy in range(params.samples):
        drawn = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in generators])
        yield net.inputs(scale * drawn)
        progress("noisy copies", copy + 1, params.samples)
