"""How far features can move when inputs move: a sound bound on the Lipschitz constant from inputs to features.

Lengths are Euclidean on both sides. The bound is the product of the layers' bounds, for a model whose forward pass is
proven to be a plain chain of layers: it is traced symbolically (`torch.fx`), every step must be one of those below and
take nothing but the step before, and the chain must give the features of some rows value for value. Anything else
(a skip connection, attention, a softmax, layer normalisation) has no bound here, and the reason is said.

- Affine steps (linear, convolution, average pooling, batch normalisation in eval mode) in a row are taken together as
  one matrix, its spectral norm exact, where that matrix is small. Else each has its own bound:
  - linear: spectral norm of the weight; beyond 1024 outputs and inputs by Gram iteration (Delattre, Barthelemy,
    Araujo, Allauzen 2023, arXiv 2305.16173): sigma_max(A)^2 <= ||(A A^T)^k||_F^(1/k), an upper bound for every k.
  - convolution: with zero padding its matrix is part of the one that wraps around a torus of input + kernel - 1
    positions, whose spectral norm is the largest one of the kernel's Fourier coefficients (out, in) over the
    frequencies. Striding leaves out rows. The same with circular padding on a torus of the input's size. For every
    convolution also sqrt(largest absolute row sum x largest absolute column sum) (Schur), at the actual input size.
  - average pooling: Schur, which needs its row and column sums only.
- ReLU, tanh, ...: the largest slope. Maximum pooling: sqrt of the number of windows that share an input.

Power iteration would estimate a spectral norm from below and is not used here. The numbers of the weights are taken as
they are, in float64; rounding inside the model's own arithmetic is not covered.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple

import torch
import torch.fx
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from assessor_checks._layers import last_linear

_INFLATE = 1 + 1e-9  # far above the rounding errors of the eigenvalues in float64
_EIGEN = 1024  # matrices whose smaller side is at most this get exact eigenvalues
_ENTRIES = 2**22  # entries of a matrix formed for a chain of affine steps, and of Fourier coefficients held at once
_WIDTH = 4096  # inputs up to which such a matrix is formed at all
_COLUMNS = 256  # of its columns formed at once
_GRAM_STEPS = 4  # squarings: the bound is at most rank^(1/64) too large
_PROBES = 8  # rows on which the chain must give the features value for value

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_AVERAGES = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)

_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Flatten, nn.Unflatten, *_DROPOUTS, nn.Linear, *_CONVOLUTIONS, *_AVERAGES, *_NORMS, *_MAXIMA,
)  # fmt: skip
_SLOPES: dict[type[nn.Module], Callable[[nn.Module], float]] = {
    nn.ReLU: lambda _: 1.0,
    nn.ReLU6: lambda _: 1.0,
    nn.Hardtanh: lambda _: 1.0,
    nn.Tanh: lambda _: 1.0,
    nn.Sigmoid: lambda _: 0.25,
    nn.SiLU: lambda _: 1.1,  # largest slope 1.09984
    nn.GELU: lambda _: 1.13,  # Phi(sqrt 2) + sqrt 2 phi(sqrt 2) = 1.12890; with the tanh form 1.12900
    nn.LeakyReLU: lambda layer: max(1.0, abs(float(layer.negative_slope))),  # type: ignore[arg-type]
    nn.ELU: lambda layer: max(1.0, abs(float(layer.alpha))),  # type: ignore[arg-type]
}
_FUNCTIONS: dict[object, type[nn.Module]] = {
    torch.relu: nn.ReLU, nn.functional.relu: nn.ReLU, "relu": nn.ReLU,
    torch.tanh: nn.Tanh, "tanh": nn.Tanh,
    torch.sigmoid: nn.Sigmoid, "sigmoid": nn.Sigmoid,
    nn.functional.gelu: nn.GELU, nn.functional.silu: nn.SiLU, nn.functional.leaky_relu: nn.LeakyReLU,
    nn.functional.max_pool2d: nn.MaxPool2d, nn.functional.avg_pool2d: nn.AvgPool2d,
    nn.functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}  # fmt: skip
_POSITIONS = 5  # arguments up to which these functions and layers count them alike


class Step(NamedTuple):
    """A layer or a chain of affine layers, with the bound on how much it lengthens a change."""

    name: str
    kind: str
    bound: float


class Bound(NamedTuple):
    """A sound bound, or the reason why there is none.

    Attributes:
        value: Product of the steps' bounds, or None.
        steps: What it is made of.
        reason: Why there is no bound, or None.
    """

    value: float | None
    steps: tuple[Step, ...]
    reason: str | None


class _NoChain(Exception):  # noqa: N818 - not an error: the reason why there is no bound
    """Its message says why the forward pass is no plain chain of known layers."""


def sound_bound(module: nn.Module, inputs: torch.Tensor, scale: torch.Tensor | None = None) -> Bound:
    """Upper bound of ||phi(x + s d) - phi(x)|| / ||d|| over all x and d, phi the input of the last linear layer.

    Args:
        module: In eval mode; its output is that of its last linear layer.
        inputs: (n, ...) rows of the shape that the bound is for; a few are run.
        scale: (...) the factors s by which a change of unit length is multiplied, entry by entry; None: ones.

    Returns:
        The bound and its parts, or the reason why there is none.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> net[0].weight.data = 3 * torch.eye(2)
    >>> round(sound_bound(net, torch.ones(1, 2)).value, 6)
    3.0
    """
    rows = inputs[:_PROBES]
    try:
        layer = last_linear(module, rows)
        chain = _chain(module, layer.name)
        shapes = _followed(chain, rows, layer.features)
        steps = tuple(_bounds(chain, shapes, scale))
    except _NoChain as found:
        return Bound(None, (), str(found))
    return Bound(math.prod(step.bound for step in steps), steps, None)


def local_estimate(
    module: nn.Module, inputs: torch.Tensor, scale: torch.Tensor | None = None, *, iterations: int = 20
) -> float:
    """Largest spectral norm of the Jacobian d phi / d x (times scale) found at the given rows.

    Power iteration for all rows at once, J J^T applied by two backward passes. It is an estimate from below, at these
    points only: other points may be steeper. No certificate may use it.

    Args:
        module: In eval mode.
        inputs: (n, ...) all run at once: give a few dozen.
        scale: As for `sound_bound`.
        iterations: Of the power method.

    Returns:
        The estimate.
    """
    name = last_linear(module, inputs[:1]).name
    held: list[torch.Tensor] = []
    x = inputs.detach().clone().requires_grad_(True)
    handle = module.get_submodule(name).register_forward_pre_hook(lambda _layer, args: held.append(args[0]))
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            module(x.clone())
    finally:
        handle.remove()
    phi, factor = held[0], torch.ones_like(x) if scale is None else scale.to(x).expand_as(x)
    if not phi.requires_grad:
        return 0.0
    u = torch.randn(phi.shape, generator=torch.Generator().manual_seed(0)).to(phi)
    dummy = torch.zeros_like(phi, requires_grad=True)
    (backward,) = torch.autograd.grad(phi, x, dummy, create_graph=True, allow_unused=True)
    if backward is None:
        return 0.0
    norms = u.new_zeros(len(u))
    for _ in range(iterations):
        u = u / _length(u).clamp_min(torch.finfo(u.dtype).tiny)
        (v,) = torch.autograd.grad(phi, x, u, retain_graph=True)
        v = factor * v
        norms = _length(v).flatten()
        (u,) = torch.autograd.grad(backward, dummy, factor * v, retain_graph=True)
    return float(norms.max())


def _length(rows: torch.Tensor) -> torch.Tensor:
    """(n, 1, ...) lengths of rows (n, ...)."""
    flat: torch.Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return flat.reshape(-1, *[1] * (rows.ndim - 1))


# --- is it a chain? ---------------------------------------------------------------------------------------------------


def _chain(module: nn.Module, last: str) -> list[tuple[str, nn.Module]]:
    """Steps from the inputs to the features of layer `last`, by name, in order."""
    if not last:
        return []  # the model is that layer
    _refuse_changed(module)
    try:
        graph = torch.fx.Tracer().trace(module)
    except Exception as fault:  # the model's own code runs here and may raise anything
        raise _NoChain(f"the model's forward pass cannot be traced ({type(fault).__name__})") from fault
    nodes = [node for node in graph.nodes if node.op == "call_module" and node.target == last]
    if len(nodes) != 1:
        raise _NoChain(f"the last linear layer '{last}' does not show in the trace of the model's forward pass")
    chain: list[tuple[str, nn.Module]] = []
    node = _before(nodes[0])
    while node.op != "placeholder":
        chain.append((str(node.target) if node.op == "call_module" else node.name, _step(node, module)))
        node = _before(node)
    return chain[::-1]


def _before(node: torch.fx.Node) -> torch.fx.Node:
    """The one node whose value this one takes; sizes for a reshape apart."""
    values = [found for found in node.all_input_nodes if not _is_size(found)]
    if len(values) != 1 or not node.args or node.args[0] is not values[0]:
        raise _NoChain(f"step '{node.name}' takes something else than the step before it")
    return values[0]


def _is_size(node: torch.fx.Node) -> bool:
    if node.op == "call_method":
        return node.target == "size"
    named = node.op == "call_function" and getattr(node.target, "__name__", "") in {"getattr", "getitem"}
    if not named or not node.args or not isinstance(source := node.args[0], torch.fx.Node):
        return False
    return node.args[1:] == ("shape",) or _is_size(source)


def _step(node: torch.fx.Node, module: nn.Module) -> nn.Module:
    """The known layer that does what this node does."""
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        known: tuple[type[nn.Module], ...] = (*_LAYERS, *_SLOPES)
        if not any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in known):
            raise _NoChain(f"layer '{node.target}' ({type(layer).__name__}) has no known bound")
        if len(node.args) != 1 or node.kwargs:
            raise _NoChain(f"layer '{node.target}' takes more than the step before it")
        if isinstance(layer, _NORMS) and layer.running_mean is None:
            raise _NoChain(f"layer '{node.target}' normalises by the rows of the batch")
        return layer
    rest = node.args[1:]
    if node.target is nn.functional.dropout and not node.kwargs.get("training", True):
        return nn.Identity()
    if node.target in {torch.flatten, "flatten"} and (rest[:1] or (node.kwargs.get("start_dim"),)) == (1,):
        return nn.Flatten()
    if node.target in {"view", "reshape"} and not node.kwargs:
        return _Reshaped(rest[0] if len(rest) == 1 and isinstance(rest[0], tuple) else rest, node.name)
    kind = _FUNCTIONS.get(node.target)
    plain = not any(isinstance(value, torch.fx.Node) for value in (*rest, *node.kwargs.values()))
    if kind is None or not plain or len(node.args) > _POSITIONS:
        raise _NoChain(f"step '{node.name}' has no known bound")
    return kind(*rest, **node.kwargs)


class _Reshaped(nn.Module):
    """A reshape that keeps the rows apart."""

    def __init__(self, sizes: tuple[object, ...], name: str) -> None:
        super().__init__()
        self._sizes = [size for size in sizes[1:] if isinstance(size, int)]
        if len(self._sizes) < len(sizes) - 1:
            raise _NoChain(f"step '{name}' reshapes by what it finds at run time")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), *self._sizes)


_SAME = (nn.Identity, nn.Flatten, nn.Unflatten, _Reshaped, *_DROPOUTS)
_AFFINE = (nn.Linear, *_CONVOLUTIONS, *_AVERAGES, *_NORMS, *_SAME)


def _refuse_changed(module: nn.Module) -> None:
    """A hook or a replaced forward may change what a layer gives, and no trace shows it."""
    for name, layer in module.named_modules():
        if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
            raise _NoChain(f"layer '{name}' has a hook or another forward, which may change what it gives")


def _followed(chain: list[tuple[str, nn.Module]], rows: torch.Tensor, features: torch.Tensor) -> list[torch.Size]:
    """Shape of a row before each step; the chain run on the rows must give their features value for value."""
    shapes, x = [], rows.clone()
    with torch.no_grad():
        for name, layer in chain:
            shapes.append(x.shape[1:])
            if isinstance(layer, _CONVOLUTIONS) and x.ndim != len(layer.kernel_size) + 2:
                raise _NoChain(f"layer '{name}' takes its rows for channels")
            found = layer(x)
            if not isinstance(found, torch.Tensor) or len(found) != len(rows):
                raise _NoChain(f"step '{name}' does not give one tensor with a row for every row")
            x = found
    if x.shape != features.shape or not torch.equal(x, features):
        raise _NoChain("the model's layers, run one after the other, do not give its features")
    return shapes


# --- bounds of steps --------------------------------------------------------------------------------------------------


def _bounds(chain: list[tuple[str, nn.Module]], shapes: list[torch.Size], scale: torch.Tensor | None) -> Iterator[Step]:
    """Bounds of the steps, affine steps in a row taken as one where their matrix is small."""
    placed = list(zip(chain, shapes, strict=True))
    if scale is not None and not (placed and isinstance(placed[0][0][1], _AFFINE)):
        yield Step("inputs", "scale", float(scale.abs().max()))
        scale = None
    for affine, group in groupby(placed, key=lambda item: isinstance(item[0][1], _AFFINE)):
        steps = list(group)
        layers = [layer for (_, layer), _ in steps]
        if affine and (found := _as_one_matrix(layers, steps[0][1], scale)) is not None:
            name = steps[0][0][0] if len(steps) == 1 else f"{steps[0][0][0]} to {steps[-1][0][0]}"
            yield Step(name, " + ".join(type(layer).__name__.lstrip("_") for layer in layers), found)
        else:
            if scale is not None:
                yield Step("inputs", "scale", float(scale.abs().max()))
            for (name, layer), shape in steps:
                yield Step(name, type(layer).__name__.lstrip("_"), _bound(layer, shape))
        scale = None


def _bound(layer: nn.Module, shape: torch.Size) -> float:
    """Bound of a single step on rows of this shape."""
    for kind, slope in _SLOPES.items():
        if isinstance(layer, kind):
            return slope(layer)
    if isinstance(layer, _MAXIMA):
        return _shared_windows(layer)
    if isinstance(layer, nn.Linear):
        return _spectral_norm(layer.weight.detach().double())
    if isinstance(layer, _CONVOLUTIONS):
        return min(_schur(layer, shape), _fourier(layer, shape))
    if isinstance(layer, _AVERAGES):
        return _schur(layer, shape)
    if isinstance(layer, _NORMS):
        return _normalised(layer)
    return 1.0


def _as_one_matrix(layers: list[nn.Module], shape: torch.Size, scale: torch.Tensor | None) -> float | None:
    """Spectral norm of a chain of affine steps, or None where the matrix would be too large."""
    if all(isinstance(layer, _SAME) for layer in layers):
        return 1.0 if scale is None else float(scale.abs().max())
    width = shape.numel()
    if width > _WIDTH:
        return None
    own = nn.Sequential(*map(copy.deepcopy, layers)).double()
    device = next((found.device for found in own.parameters()), torch.device("cpu"))
    with torch.no_grad():
        shift = own(torch.zeros(1, *shape, dtype=torch.float64, device=device)).flatten(1)
        if shift.numel() * width > _ENTRIES or min(shift.numel(), width) > _EIGEN:
            return None
        inputs = torch.eye(width, dtype=torch.float64, device=device)
        if scale is not None:
            inputs = inputs * scale.to(inputs).flatten()
        columns = [own(part.reshape(len(part), *shape)).flatten(1) - shift for part in inputs.split(_COLUMNS)]
    return _spectral_norm(torch.cat(columns))


def _spectral_norm(matrices: torch.Tensor) -> float:
    """Upper bound, tight to 1e-9 up to size 1024, of the largest singular value of (..., d, m)."""
    a = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mH
    gram = a @ a.mH
    if a.shape[-2] <= _EIGEN:
        top = torch.linalg.eigvalsh(gram)[..., -1].max().clamp_min(0.0)
        return math.sqrt(float(top)) * _INFLATE
    logarithm = torch.zeros(gram.shape[:-2], dtype=torch.float64, device=gram.device)
    for _ in range(_GRAM_STEPS):
        size = torch.linalg.matrix_norm(gram).clamp_min(torch.finfo(torch.float64).tiny)
        gram = gram / size[..., None, None]
        gram = gram @ gram
        logarithm = 2 * (logarithm + size.log())
    logarithm = (logarithm + torch.linalg.matrix_norm(gram).log()) / 2 ** (_GRAM_STEPS + 1)
    return math.exp(float(logarithm.max())) * _INFLATE


def _schur(layer: nn.Module, shape: torch.Size) -> float:
    """Square root of (||M||_1 ||M||_inf) of a linear step, from one pass of its absolute values and one backward."""
    device = layer.weight.device if isinstance(layer, _CONVOLUTIONS) else None
    ones = torch.ones(1, *shape, dtype=torch.float64, device=device, requires_grad=True)
    with torch.enable_grad():
        if isinstance(layer, _CONVOLUTIONS):
            rows = layer._conv_forward(ones, layer.weight.detach().double().abs(), None)
        else:
            rows = layer(ones).abs()
        (columns,) = torch.autograd.grad(rows.sum(), ones)
    return math.sqrt(float(rows.detach().max()) * float(columns.max())) * _INFLATE


def _fourier(layer: nn.Module, shape: torch.Size) -> float:
    """Largest singular value of the kernel's Fourier coefficients over the frequencies of a torus, inf where unfit."""
    assert isinstance(layer, _CONVOLUTIONS)
    sizes = shape[-len(layer.kernel_size) :]
    spans = [step * (taps - 1) for taps, step in zip(layer.kernel_size, layer.dilation, strict=True)]
    if layer.padding_mode == "zeros":
        torus = [size + span for size, span in zip(sizes, spans, strict=True)]
    elif layer.padding_mode == "circular" and _turns_once(layer, spans):
        torus = list(sizes)
    else:
        return math.inf
    groups = layer.groups
    weight = layer.weight.detach().double()
    kernel = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).to(torch.complex128)
    phases = _phases(layer, torus, weight.device)
    rows = max(1, _ENTRIES // weight[..., 0].numel())
    return max(_spectral_norm(torch.einsum("ft,goit->fgoi", part, kernel)) for part in phases.split(rows))


def _turns_once(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, spans: list[int]) -> bool:
    """Whether a circular padding gives no output position twice."""
    if isinstance(layer.padding, str):
        return True
    return all(2 * padding <= span for padding, span in zip(layer.padding, spans, strict=True))


def _phases(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, torus: list[int], device: torch.device) -> torch.Tensor:
    """(F, T) complex phases exp(-2 pi i <f, t>) of T taps at F frequencies; the other half are their conjugates."""
    counts = [*torus[:-1], torus[-1] // 2 + 1]
    axes = [torch.arange(count, dtype=torch.float64) / size for count, size in zip(counts, torus, strict=True)]
    places = [
        torch.arange(taps, dtype=torch.float64) * step
        for taps, step in zip(layer.kernel_size, layer.dilation, strict=True)
    ]
    frequencies, taps = torch.cartesian_prod(*axes), torch.cartesian_prod(*places)
    turns = frequencies.reshape(-1, len(torus)) @ taps.reshape(-1, len(torus)).mT
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns).to(device)


def _normalised(layer: nn.Module) -> float:
    """Largest factor of a batch normalisation in eval mode."""
    assert isinstance(layer, _NORMS)
    assert layer.running_var is not None
    factor = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.weight is not None:
        factor = factor * layer.weight.detach().double().abs()
    return float(factor.max()) * _INFLATE


def _shared_windows(layer: nn.Module) -> float:
    """Square root of the most windows of a maximum pooling that one input falls into."""
    assert isinstance(layer, _MAXIMA)
    dimensions = next(count for count, kind in enumerate(_MAXIMA, 1) if isinstance(layer, kind))

    def each(value: int | tuple[int, ...]) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * dimensions

    sides = zip(each(layer.kernel_size), each(layer.stride), each(layer.dilation), strict=True)
    return math.sqrt(math.prod(math.ceil(size / stride) if step == 1 else size for size, stride, step in sides))
