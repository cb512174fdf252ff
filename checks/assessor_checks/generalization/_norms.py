"""Norms of a network's weights and margins of its outputs: measures of capacity from the literature.

- Fisher-Rao norm <w, F w>, F the Fisher information of the model's own predictive distribution (Liang, Poggio,
  Rakhlin, Stokes 2019, arXiv 1711.01530, section 3; they write it as a squared norm). With the outputs' derivative
  along the weights z' = d f(x; (1 + t) w) / dt, <w, grad log p(y)> = z'_y - E_p z', hence exactly, over all classes,
  <w, F w> = mean_i Var_{p_i}(z'_i). For a network without biases and L layers z' = L z, their Theorem 3.1. With y as
  labelled instead of drawn from the model it is the empirical one.
- Margin z_y - max_{s != y} z_s; divided by the product of the layers' spectral norms it does not grow with the scale
  of the weights (Bartlett, Foster, Telgarsky 2017, arXiv 1706.08498; Jiang et al. 2020, arXiv 1912.02178, (31)).
- Spectral norm of a layer as the linear map it is on the inputs it gets. Convolutions: Lanczos on A^T A, A the
  convolution at the input's size, not the reshaped kernel. Batch normalisation: its largest factor.
- Path norm: root of the sum over all paths from inputs to outputs of the product of the squared weights (Neyshabur,
  Salakhutdinov, Srebro 2015, arXiv 1506.02617), as a pass of ones through the network with squared weights. A bias is
  a weight from a constant input; batch normalisation is an affine layer; average pooling has the weights 1 / k;
  maximum pooling takes the maximum, as in Neyshabur's code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import fx, nn

from assessor.contract import Task
from assessor_checks.generalization._lanczos import lanczos, top_ritz
from assessor_checks.generalization._landscape import Landscape, twice_differentiable

STEPS = 200  # most Lanczos steps for a layer's spectral norm
TOLERANCE = 1e-5  # share of the squared spectral norm at which they stop
_DIRECT = 1024  # linear layers whose smaller side is at most this are decomposed whole
_BASIS = 2**27  # float64 entries of a Lanczos basis
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def derivative_along_weights(land: Landscape) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs z and their derivative along the weights, d f(x; (1 + t) w) / dt at t = 0, both (n, C) or (n,).

    By two backward passes: the gradient is linear in what it is pulled back from.
    """
    outputs, slopes = [], []
    at = land.weights.clone().requires_grad_(True)
    for x in land.inputs.split(land.chunk_rows):
        with torch.enable_grad(), twice_differentiable(land.module):
            z = land.outputs(at, x)
            pulled = torch.zeros_like(z, requires_grad=True)
            (gradient,) = torch.autograd.grad(z, at, pulled, create_graph=True)
            (slope,) = torch.autograd.grad(gradient, pulled, land.weights)
        outputs.append(z.detach())
        slopes.append(slope)
    return torch.cat(outputs), torch.cat(slopes)


def fisher_rao(task: Task, outputs: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """(n,) float64 shares of every row in <w, F w>, exact over the model's own distribution.

    Args:
        task: What the model does; a regression's distribution is normal with variance 1 around its output.
        outputs: (n, C) logits or (n,) values.
        slopes: Of the same shape: their derivative along the weights.

    Returns:
        Their mean is <w, F w>, in nats.

    >>> fisher_rao(Task.MULTICLASS, torch.zeros(1, 2), torch.tensor([[0.0, 2.0]])).item()
    1.0
    """
    z, along = outputs.double(), slopes.double()
    if not task.is_classification:
        return along.square()
    p = z.softmax(dim=1)
    centred = along - along.gather(1, z.argmax(dim=1, keepdim=True))  # no cancellation where one class dominates
    centred = centred - (p * centred).sum(dim=1, keepdim=True)
    return (p * centred.square()).sum(dim=1)


def empirical_fisher_rao(task: Task, outputs: torch.Tensor, slopes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n,) float64 squares of <w, grad loss> of every row with its own label."""
    z, along = outputs.double(), slopes.double()
    if not task.is_classification:
        return ((z - labels) * along).square()
    return ((z.softmax(dim=1) * along).sum(dim=1) - along.gather(1, labels[:, None]).squeeze(1)).square()


def margins(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n,) float64 logit of the true class minus the greatest other logit.

    >>> margins(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1])).item()
    2.0
    """
    z, true = outputs.double(), labels[:, None]
    return z.gather(1, true).squeeze(1) - z.scatter(1, true, -torch.inf).amax(dim=1)


class Quantile(NamedTuple):
    """A quantile with its distribution-free interval; an end is None where too few values lie beyond."""

    value: float
    low: float | None
    high: float | None


def quantile(values: np.ndarray, share: float, confidence: float = 0.95) -> Quantile:
    """Quantile and interval between order statistics: the number of values below is binomial (Thompson 1936).

    >>> quantile(np.arange(1.0, 101.0), 0.5)
    Quantile(value=50.5, low=40.0, high=61.0)
    """
    ordered, n, tail = np.sort(values), len(values), (1 - confidence) / 2
    low = int(binom.ppf(tail, n, share)) - 1  # P(fewer than low + 1 values lie below) <= tail
    high = int(binom.ppf(1 - tail, n, share))
    return Quantile(
        float(np.quantile(ordered, share)),
        float(ordered[low]) if low >= 0 else None,
        float(ordered[high]) if high < n else None,
    )


class Layer(NamedTuple):
    """A layer's norms.

    Attributes:
        name: In the module.
        kind: "linear", "convolution" or "batch normalisation".
        spectral: Spectral norm of the layer without bias on the inputs it gets.
        error: A singular value lies within this distance of the spectral norm.
        frobenius: Frobenius norm of the weight.
        weights: Number of weights and biases.
    """

    name: str
    kind: str
    spectral: float
    error: float
    frobenius: float
    weights: int


@torch.no_grad()
def layer_norms(module: nn.Module, row: torch.Tensor) -> list[Layer]:
    """Norms of every linear, convolution and batch normalisation layer that runs, in order.

    Args:
        module: In eval mode.
        row: (1, ...) an input.

    Returns:
        The layers; a layer that runs several times is there once.
    """
    shapes: dict[nn.Module, torch.Size] = {}
    known = {layer: name for name, layer in module.named_modules() if _kind(layer)}

    def note(layer: nn.Module, args: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        shapes.setdefault(layer, args[0].shape)

    handles = [layer.register_forward_hook(note) for layer in known]
    try:
        module(row)
    finally:
        for handle in handles:
            handle.remove()
    return [_norms_of(known[layer], layer, shape) for layer, shape in shapes.items()]


def _kind(layer: nn.Module) -> str | None:
    if type(layer) is nn.Linear:
        return "linear"
    if type(layer) in _CONVOLUTIONS:
        return "convolution"
    return "batch normalisation" if type(layer) in _NORMS else None


def _norms_of(name: str, layer: Any, shape: torch.Size) -> Layer:
    kind = _kind(layer)
    assert kind is not None
    count = sum(p.numel() for p in layer.parameters())
    if kind == "batch normalisation":
        factor, _ = _affine(layer)
        return Layer(name, kind, float(factor.abs().max()), 0.0, float(factor.norm()), count)
    weight = layer.weight.double()
    frobenius = float(weight.norm())
    if kind == "linear" and min(weight.shape) <= _DIRECT:
        return Layer(name, kind, float(torch.linalg.matrix_norm(weight, 2)), 0.0, frobenius, count)

    def apply(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x @ weight.mT if kind == "linear" else layer._conv_forward(x, weight, None)
        return out

    return Layer(name, kind, *_largest_singular(apply, torch.Size((1, *shape[1:])), weight.device), frobenius, count)


def _largest_singular(
    apply: Callable[[torch.Tensor], torch.Tensor], shape: torch.Size, device: torch.device
) -> tuple[float, float]:
    """Largest singular value found of a linear map on (1, ...) inputs, and a distance within which one lies."""

    def twice(flat: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = flat.view(shape).requires_grad_(True)
            out = apply(x)
            return torch.autograd.grad(out, x, out.detach())[0].flatten()[None]

    size = shape.numel()
    start = torch.randn(1, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    krylov = lanczos(twice, start, max(2, min(STEPS, _BASIS // size)), tolerance=TOLERANCE)
    squared, residual = top_ritz(krylov, 0)
    top = math.sqrt(max(squared, 0.0))
    return top, math.sqrt(top**2 + residual) - top


def _affine(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and shift of every channel of a batch normalisation in eval mode, float64."""
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    factor = scale if layer.weight is None else layer.weight.double() * scale
    shift = -factor * layer.running_mean.double()
    return factor, shift if layer.bias is None else shift + layer.bias.double()


def path_norm(module: nn.Module, row: torch.Tensor) -> float | str:
    """Path norm, or why there is none: the network must be made of the layers below only.

    Args:
        module: In eval mode.
        row: (1, ...) an input.

    Returns:
        The norm, summed over all outputs, or the reason.

    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 2.0]])), net[2].weight.fill_(3.0)
    >>> round(path_norm(net, torch.zeros(1, 2)) ** 2, 9)  # 1 * 9 + 4 * 9
    45.0
    """
    try:
        graph = fx.symbolic_trace(nn.Sequential(module))  # one layer alone would be taken apart
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as fault:
        return f"its forward pass cannot be followed ({type(fault).__name__})"
    try:
        with torch.no_grad():
            total = float(_Squared(graph).run(torch.ones_like(row, dtype=torch.float64)).sum())
    except _Unknown as found:
        return str(found)
    return math.sqrt(total) if math.isfinite(total) else "it is larger than any number held in float64"


class _Unknown(Exception):  # noqa: N818 - not an error: the reason why there is no path norm
    """Its message names the step that is no layer with paths."""


class _Squared(fx.Interpreter):
    """Runs a network with every weight squared."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # messages stay what they are

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer: Any = self.fetch_attr(target)
        rule = next((rule for kinds, rule in _RULES if type(layer) in kinds), None)
        if rule is None or len(args) != 1 or kwargs:
            raise _Unknown(f"it contains {type(layer).__name__}")
        return rule(layer, args[0])

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is nn.functional.dropout and kwargs.get("training") is False:
            return args[0]
        added = target in _SUMS and not kwargs and all(isinstance(arg, torch.Tensor) for arg in args)
        if not added and target not in _FUNCTIONS:
            raise _Unknown(f"it contains {getattr(target, '__name__', target)}")
        return super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target not in _METHODS:
            raise _Unknown(f"it contains {target}")
        return super().call_method(target, args, kwargs)

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise _Unknown(f"it uses '{target.removeprefix('0.')}' outside of a layer")


def _square(parameter: torch.Tensor | None) -> torch.Tensor | None:
    return None if parameter is None else parameter.double().square()


def _batch_norm(layer: Any, x: torch.Tensor) -> torch.Tensor:
    factor, shift = (part.square().view(-1, *(1,) * (x.ndim - 2)) for part in _affine(layer))
    return factor * x + shift


def _average(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Average pooling with its k weights 1 / k squared."""
    out: torch.Tensor = layer(x)
    if type(layer) in _ADAPTIVE:
        pairs = list(zip(x.shape[2:], out.shape[2:], strict=True))
        if any(before % after for before, after in pairs):
            raise _Unknown(f"it contains {type(layer).__name__} with windows of unequal size")
        return out / math.prod(before // after for before, after in pairs)
    padded = layer.padding if isinstance(layer.padding, int) else any(layer.padding)
    if layer.ceil_mode or (padded and not layer.count_include_pad) or getattr(layer, "divisor_override", None):
        raise _Unknown(f"it contains {type(layer).__name__} with windows of unequal size")
    dimensions = x.ndim - 2
    sizes = (layer.kernel_size,) * dimensions if isinstance(layer.kernel_size, int) else layer.kernel_size
    return out / math.prod(sizes)


_ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_PLAIN = (
    nn.ReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_RULES: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any, torch.Tensor], torch.Tensor]], ...] = (
    ((nn.Linear,), lambda layer, x: nn.functional.linear(x, _square(layer.weight), _square(layer.bias))),  # type: ignore[arg-type]
    (_CONVOLUTIONS, lambda layer, x: layer._conv_forward(x, _square(layer.weight), _square(layer.bias))),
    (_NORMS, _batch_norm),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, *_ADAPTIVE), _average),
    (_PLAIN, lambda layer, x: layer(x)),
)
_SUMS = (operator.add, operator.iadd, torch.add)
_FUNCTIONS = (
    torch.relu,
    nn.functional.relu,
    torch.flatten,
    torch.cat,
    nn.functional.max_pool2d,
    getattr,
    operator.getitem,
)
_METHODS = ("relu", "view", "reshape", "flatten", "size", "squeeze", "unsqueeze", "contiguous", "permute", "transpose")
