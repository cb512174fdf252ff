"""Relative flatness of any layer, per sample, through the Hessian of the loss in the layer's output.

For z_t = W phi_t + b at positions t of a sample (one position in a linear layer on feature vectors), with
Hz[t, t'] (d, d) the blocks of the Hessian of that sample's loss in all its z,

    kappa_i = sum_{t,t'} <phi_t, phi_t'> Tr(W^T Hz[t, t'] W) = E_v <v, Hz v>,   E v v^T = (Phi Phi^T) x (W W^T),

which is sum_{s,t} <w_s, w_t> Tr(H_st) of Petzka et al. 2021 (arXiv 2001.00939) for a layer whose weights are shared
over positions. With factors W W^T = U U^T and Phi Phi^T = F F^T the products U_k x F_b, at most
min(d, m) min(T, m) of them, give it exactly: one Hessian-vector product each, for all samples at once, since samples
do not meet. Beyond a bound on their number, random products v = U S T^T F^T / sqrt(J) with independent signs S, T
drawn for every sample are unbiased and cost the same one Hessian-vector product; their error averages out over samples.
Neither the Hessian (dm, dm) nor Hz is ever formed. The bias is not part of W.

A weight that is used more than once has no single z. It is measured through the parameter itself, all uses together:
kappa = E_R <W R, H[W R]> with independent signs R (m, m), for blocks of samples.

A grouped convolution is taken as one layer a group, added up. An embedding is the layer W = E^T on one-hot tokens,
with the rows of E that occur in the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import torch

from assessor.contract import halved, remark_batches
from assessor_checks._flatness import feature_scale, inverse_scale
from assessor_checks._layers import Kind, Site, twice_differentiable
from assessor_checks._spectrum import top_eigenvalues

NEURONS_UP_TO = 2  # times min(d, m): up to here one product a neuron is spent, which gives the neurons' values too
_RANK = 8  # columns of the signs S and T: more make the estimate steadier and cost memory, not time
_ENTRIES = 2**22  # entries of features and outputs of these rows
_BLOCKS = 64  # of samples, where per-sample values are not to be had
_MOMENTS = 2**28  # entries of the neurons' (m, m) moments

T = TypeVar("T")
LossOf = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Curved(NamedTuple):
    """What was found about one layer.

    Attributes:
        kappa: (n,) float64 relative flatness of every sample, or its unbiased estimate. With `blocks`, of blocks of
            samples instead, scaled so that their mean is the mean over samples.
        error: Standard error of their mean that comes from the random directions; None where the value is exact.
        blocks: Whether kappa is by blocks; then the error is common to them, and an interval over them lacks it.
        neurons: (d,) float64 ||w_s||^2 Tr(H_ss) of every neuron, or None.
        maximum: sum_s ||w_s||^2 lambda_max(H_ss), or None.
        products: Hessian-vector products spent on every row.
    """

    kappa: torch.Tensor
    error: float | None
    blocks: bool
    neurons: torch.Tensor | None
    maximum: float | None
    products: int


class Layout(NamedTuple):
    """A layer's use as z = W phi at positions, for some rows.

    Attributes:
        features: (n, g, T, m) float, one group unless a convolution has several.
        to_output: (n, g, T, d) -> the shape of the layer's output.
    """

    features: torch.Tensor
    to_output: Callable[[torch.Tensor], torch.Tensor]


class Problem(NamedTuple):
    """What is differentiated.

    Attributes:
        module: In eval mode.
        inputs: (n, ...) on its device.
        labels: (n,).
        loss_of: Inputs and labels of some rows to their (rows,) losses; runs `module`.
        most: Rows put through it at once, copies for several directions included.
    """

    module: torch.nn.Module
    inputs: torch.Tensor
    labels: torch.Tensor
    loss_of: LossOf
    most: int = 1024

    def chunks(self, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs, in single precision at least, and labels of some rows at a time."""
        for start in range(0, len(self.labels), rows):
            x = self.inputs[start : start + rows]
            half = x.is_floating_point() and x.element_size() < 4
            yield x.float() if half else x, self.labels[start : start + rows]


class Budget(NamedTuple):
    """What a measurement may cost.

    Attributes:
        exact: Most Hessian-vector products a row that are spent on an exact value.
        probes: Hessian-vector products a row for an estimate, at least 2.
        seed: Seed of the random directions.
        maximum: Whether the eigenvalues of the neurons' blocks are computed where they can be.
    """

    exact: int = 512
    probes: int = 16
    seed: int = 0
    maximum: bool = True


def layer_scale(site: Site, problem: Problem) -> torch.Tensor:
    """(g, m) float64 standard deviation of each feature of a layer over rows and positions, 0 where constant.

    Ones for an embedding, whose features are one-hot, and for a parameter, whose features are not known.
    """
    groups = int(getattr(site.layer, "groups", 1))
    if site.kind in {Kind.EMBEDDING, Kind.PARAMETER}:
        return torch.ones(groups, site.shape[1], dtype=torch.float64, device=problem.inputs.device)

    def scale(problem: Problem) -> torch.Tensor:
        chunks = problem.chunks(problem.most)
        layouts = (_layout(site, *_output(site, partial(problem.loss_of, x, y))) for x, y in chunks)
        return feature_scale(layout.features.transpose(1, 2).flatten(0, 1).flatten(1) for layout in layouts)

    with twice_differentiable(problem.module), torch.no_grad():
        return _in_room(problem, scale).reshape(groups, -1)


def layer_curvature(
    site: Site,
    problem: Problem,
    *,
    scale: torch.Tensor | None = None,
    budget: Budget = Budget(),  # noqa: B008
) -> Curved:
    """Relative flatness of a layer on some data.

    Args:
        site: The layer; it runs in the module's forward pass.
        problem: Module, data and loss.
        scale: (g, m) from `layer_scale` to measure with features divided and weights multiplied by it; None: as is.
        budget: What it may cost.

    Returns:
        Per-sample values in the unit of the loss.
    """
    with twice_differentiable(problem.module):
        if site.kind is Kind.PARAMETER:
            return _in_room(problem, lambda problem: _through_parameter(site, problem, budget))
        return _in_room(problem, lambda problem: _through_output(site, problem, scale, budget))


def _in_room(problem: Problem, compute: Callable[[Problem], T]) -> T:
    """`compute(problem)`; where the device runs out of memory, again with half as many rows at once."""
    room = problem
    while True:
        try:
            found = compute(room)
        except torch.OutOfMemoryError as full:
            room = room._replace(most=halved(room.most, full))
        else:
            if room.most < problem.most:
                remark_batches(room.most)
            return found


# --- through the layer's output --------------------------------------------------------------------------------------


def _through_output(site: Site, problem: Problem, scale: torch.Tensor | None, budget: Budget) -> Curved:
    x, y = next(problem.chunks(1))
    groups, positions, width = _layout(site, *_output(site, partial(problem.loss_of, x, y))).features.shape[1:]
    work = _Work(
        site=site,
        weights=_weights(site, problem, scale),
        inverse=None if scale is None or site.kind is Kind.EMBEDDING else inverse_scale(scale),
        loss_of=problem.loss_of,
        generator=torch.Generator(x.device).manual_seed(budget.seed),
        most=problem.most,
    )
    d, m = work.weights.shape[1:]
    rows = max(1, min(problem.most, _ENTRIES // (2 * groups * positions * (width + d))))
    if positions == groups == 1 and d <= min(budget.exact, NEURONS_UP_TO * m):
        return _by_neuron(work, problem, rows, room=_MOMENTS if budget.maximum else 0)
    count = groups * min(d, m) * min(positions, width)
    if count <= budget.exact:
        parts = [work.exact(x, y, count) for x, y in problem.chunks(rows)]
        return Curved(torch.cat(parts), None, False, None, None, count)
    means, variances = zip(*(work.estimated(x, y, budget.probes) for x, y in problem.chunks(rows)), strict=True)
    error = float(torch.cat(variances).sum().div(budget.probes).sqrt()) / len(problem.labels)
    return Curved(torch.cat(means), error, False, None, None, budget.probes)


class _Work(NamedTuple):
    """One layer, ready to be measured on chunks of rows."""

    site: Site
    weights: torch.Tensor  # (g, d, m)
    inverse: torch.Tensor | None  # (g, m)
    loss_of: LossOf
    generator: torch.Generator
    most: int

    def features(self, layout: Layout) -> torch.Tensor:
        """(n, g, T, m) as measured."""
        if self.inverse is None:
            return layout.features
        return layout.features * self.inverse[:, None, :].to(layout.features.dtype)

    def exact(self, inputs: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
        """(n,) exact values, `count` products."""
        copies = max(1, min(count, self.most // len(inputs)))
        tail = _Tail(self.site, inputs, labels, self.loss_of, copies)
        left = _factor(self.weights)  # (g, d, r)
        right = _factor(self.features(tail.layout))  # (n, g, T, b)
        total = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
        pairs = [(g, k, b) for g in range(left.shape[0]) for k in range(left.shape[2]) for b in range(right.shape[3])]
        for start in range(0, len(pairs), copies):
            some = pairs[start : start + copies]
            some += some[:1] * (copies - len(some))
            v = torch.zeros(copies, *right.shape[:3], left.shape[1], dtype=right.dtype, device=right.device)
            for position, (g, k, b) in enumerate(some):
                v[position, :, g] = right[:, g, :, b, None] * left[g, :, k].to(right.dtype)
            found = tail.quadratic(v)
            total += found[: min(copies, len(pairs) - start)].sum(dim=0)
        return total

    def estimated(self, inputs: torch.Tensor, labels: torch.Tensor, probes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,) means over probes and (n,) variances of one probe."""
        copies = max(1, min(probes, self.most // len(inputs)))
        tail = _Tail(self.site, inputs, labels, self.loss_of, copies)
        phi, left = self.features(tail.layout), _factor(self.weights)
        left = left.to(phi.dtype)
        found = []
        for start in range(0, probes, copies):
            v = torch.stack([self._random(phi, left) for _ in range(copies)])
            found.append(tail.quadratic(v)[: probes - start])
        values = torch.cat(found)
        return values.mean(dim=0), values.var(dim=0)

    def _random(self, phi: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """(n, g, T, d) directions v = Phi T (U S)^T / sqrt(J)."""
        n, groups, _, width = phi.shape
        s = _signs((n, groups, left.shape[2], _RANK), self.generator, phi)
        t = _signs((n, groups, width, _RANK), self.generator, phi)
        return (phi @ t) @ (left @ s).mT / math.sqrt(_RANK)


def _by_neuron(work: _Work, problem: Problem, rows: int, room: int) -> Curved:
    """One position: a product for every neuron gives the trace and the diagonal of Hz, hence the neurons' values."""
    weight = work.weights[0].double()
    d = len(weight)
    gram, squares = weight @ weight.mT, weight.square().sum(dim=1)
    kappa, kept = [], []
    neurons = torch.zeros(d, dtype=torch.float64, device=weight.device)
    for x, y in problem.chunks(rows):
        copies = max(1, min(d, work.most // len(x)))
        tail = _Tail(work.site, x, y, work.loss_of, copies)
        phi = work.features(tail.layout)[:, 0, 0]
        norms = phi.double().square().sum(dim=1)
        traces, diagonal = torch.zeros_like(norms), torch.empty(len(x), d, dtype=torch.float64, device=weight.device)
        for start in range(0, d, copies):
            index = torch.arange(start, start + copies, device=weight.device).clamp_max(d - 1)
            v = torch.nn.functional.one_hot(index, d).to(phi.dtype)[:, None].expand(-1, len(x), -1)
            hz = tail.product(v[:, :, None, None, :]).double()[: d - start]  # (directions, n, d)
            used = index[: len(hz)]
            traces += torch.einsum("knd,kd->n", hz, gram[used])
            diagonal[:, used] = hz.gather(2, used[:, None, None].expand(-1, len(x), 1)).squeeze(2).mT
        kappa.append(norms * traces)
        neurons += norms @ diagonal
        room -= phi.numel() + diagonal.numel()
        if room >= 0:
            kept.append((phi, diagonal))
    maximum = float(squares @ top_eigenvalues(kept, lambda c: c).values) if room >= 0 else None
    return Curved(torch.cat(kappa), None, False, neurons / len(problem.labels) * squares, maximum, d)


class _Tail:
    """Hessian of the per-sample losses of some rows in one layer's output, as an operator on directions."""

    def __init__(self, site: Site, inputs: torch.Tensor, labels: torch.Tensor, loss_of: LossOf, copies: int) -> None:
        """Run forward and backward once, on `copies` copies of the rows, one for each direction at a time."""
        self._n, self._copies = len(inputs), copies
        tiled = inputs.repeat(copies, *[1] * (inputs.ndim - 1))
        phi, out, losses = _output(site, lambda: loss_of(tiled, labels.repeat(copies)), leaf=True)
        self.layout = _layout(site, phi[: self._n], out[: self._n], losses)
        self._tiled_output = _layout(site, phi, out, losses).to_output
        self._leaf = out
        total = losses.double().sum()
        found = (
            torch.autograd.grad(total, out, create_graph=True, allow_unused=True)[0] if total.requires_grad else None
        )
        self._gradient = found if found is not None and found.requires_grad else None  # else the loss is linear in z

    def product(self, v: torch.Tensor) -> torch.Tensor:
        """Directions (copies, n, g, T, d) to Hz v, flattened to (copies, n, g T d) for one position and group."""
        if self._gradient is None:
            return torch.zeros_like(v).flatten(2)
        direction = self._tiled_output(v.flatten(0, 1)).to(self._leaf.dtype)
        (found,) = torch.autograd.grad(self._gradient, self._leaf, direction, retain_graph=True, materialize_grads=True)
        return found.reshape(self._copies, self._n, -1)

    def quadratic(self, v: torch.Tensor) -> torch.Tensor:
        """Directions (copies, n, g, T, d) to (copies, n) float64 <v, Hz v>."""
        direction = self._tiled_output(v.flatten(0, 1)).reshape(self._copies, self._n, -1)
        return (direction.double() * self.product(v).double()).sum(dim=2)


def _output(
    site: Site, run: Callable[[], object], *, leaf: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Input and output of the layer while `run` runs, and what that gave; with `leaf` the output starts the graph."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def hook(_layer: torch.nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor | None:
        phi = args[0].detach()
        if not leaf:
            seen.append((phi, out.detach()))
            return None
        start = out.detach().requires_grad_()
        seen.append((phi.clone(), start))
        return start.clone()  # in-place operations that follow do not touch the leaf

    handle = site.layer.register_forward_hook(hook)
    try:
        found = run()
    finally:
        handle.remove()
    assert isinstance(found, torch.Tensor)
    return *seen[0], found


def _layout(site: Site, phi: torch.Tensor, out: torch.Tensor, _found: object = None) -> Layout:
    """Features by position, and the way back from (n, g, T, d) to the output's shape."""
    if isinstance(site.layer, torch.nn.Linear):
        features = phi.reshape(len(phi), 1, -1, phi.shape[-1])
        return Layout(features, lambda v: v.reshape(len(v), *out.shape[1:]))
    if isinstance(site.layer, torch.nn.Embedding):
        tokens = phi.reshape(len(phi), -1)
        first = (tokens[:, :, None] == tokens[:, None, :]).int().argmax(dim=2)
        features = torch.nn.functional.one_hot(first, tokens.shape[1]).to(out.dtype)[:, None]
        return Layout(features, lambda v: v.reshape(len(v), *out.shape[1:]))
    assert isinstance(site.layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d)
    return Layout(_patches(site.layer, phi), lambda v: v.transpose(2, 3).reshape(len(v), *out.shape[1:]))


def _patches(layer: torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """(n, g, T, m) what the kernel sees at every position, in the order of its weights."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = torch.nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        x = x.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    axes = len(layer.kernel_size)
    x = x.flatten(2 + axes).flatten(2, 1 + axes)  # (n, in, T, k)
    n, channels, positions, kernel = x.shape
    x = x.reshape(n, layer.groups, channels // layer.groups, positions, kernel)
    return x.permute(0, 1, 3, 2, 4).reshape(n, layer.groups, positions, -1)


def _weights(site: Site, problem: Problem, scale: torch.Tensor | None) -> torch.Tensor:
    """(g, d, m) weights as measured; of an embedding the rows of tokens that occur."""
    weight = site.weight.detach()
    if site.kind is Kind.EMBEDDING:
        with torch.no_grad():
            tokens = [
                _output(site, partial(problem.loss_of, x, y))[0].unique() for x, y in problem.chunks(problem.most)
            ]
        found: torch.Tensor = weight[torch.cat(tokens).unique()].mT[None]
        return found
    groups = int(getattr(site.layer, "groups", 1))
    found = weight.flatten(1).reshape(groups, len(weight) // groups, -1)
    return found if scale is None else found * scale[:, None, :].to(found.dtype)


def _factor(matrix: torch.Tensor) -> torch.Tensor:
    """F (..., a, min(a, b)) with F F^T = A A^T for A (..., a, b): A itself, or from an eigendecomposition."""
    if matrix.shape[-1] <= matrix.shape[-2]:
        return matrix
    wide = matrix.double()
    values, vectors = torch.linalg.eigh(wide @ wide.mT)
    found: torch.Tensor = vectors * values.clamp_min(0.0).sqrt()[..., None, :]
    return found.to(matrix.dtype)


# --- through the parameter -------------------------------------------------------------------------------------------


def _through_parameter(site: Site, problem: Problem, budget: Budget) -> Curved:
    weight = site.weight.detach()
    matrix, n = weight.flatten(1), len(problem.labels)
    left, width = _factor(matrix), matrix.shape[1]
    count = left.shape[1] * width
    generator = torch.Generator(weight.device).manual_seed(budget.seed)
    exact = count <= budget.exact
    directions = _basis(left, width) if exact else _random_products(matrix, budget.probes, generator)
    blocks = min(n, _BLOCKS)
    rows = -(-n // blocks)
    blocks = -(-n // rows)
    sums = torch.zeros(count if exact else budget.probes, blocks, dtype=torch.float64, device=weight.device)
    for position, direction in enumerate(directions):
        v = direction.reshape(weight.shape)
        for block, (x, y) in enumerate(problem.chunks(rows)):
            sums[position, block] = sum(
                _quadratic(site, problem.module, partial(problem.loss_of, a, b), v)
                for a, b in zip(x.split(problem.most), y.split(problem.most), strict=True)
            )
    values = sums * (blocks / n)  # their mean over blocks is the mean over samples
    if exact:
        return Curved(values.sum(dim=0), None, True, None, None, count)
    error = float(values.mean(dim=1).std()) / math.sqrt(budget.probes)
    return Curved(values.mean(dim=0), error, True, None, None, budget.probes)


def _basis(left: torch.Tensor, width: int) -> Iterator[torch.Tensor]:
    """U_k e_b^T for all k and b: their quadratic forms add up to kappa."""
    for k in range(left.shape[1]):
        for b in range(width):
            v = left.new_zeros(left.shape[0], width)
            v[:, b] = left[:, k]
            yield v


def _random_products(matrix: torch.Tensor, probes: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """W R with independent signs R (m, m)."""
    for _ in range(probes):
        yield matrix @ _signs((matrix.shape[1], matrix.shape[1]), generator, matrix)


def _quadratic(site: Site, module: torch.nn.Module, run: Callable[[], torch.Tensor], v: torch.Tensor) -> torch.Tensor:
    """<v, H v> of the summed losses, one double backward pass.

    Per-sample values would need third derivatives or forward mode over forward mode; in torch 2.13 both are wrong
    for layer normalisation, whose saved mean and scale they take for constants.
    """
    weight = site.weight.detach().clone().requires_grad_()
    losses = torch.func.functional_call(_Holder(module, run), {f"module.{site.name}": weight}, ())
    (gradient,) = torch.autograd.grad(losses.double().sum(), weight, create_graph=True, materialize_grads=True)
    slope = (gradient * v).sum()
    if not slope.requires_grad:  # the loss is linear in this weight
        return torch.zeros((), dtype=torch.float64, device=v.device)
    (product,) = torch.autograd.grad(slope, weight, materialize_grads=True)
    return (product.double() * v.double()).sum()


class _Holder(torch.nn.Module):
    """Losses as a module's forward pass, so that a parameter of the model can be replaced for one call."""

    def __init__(self, module: torch.nn.Module, run: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        self.module, self._run = module, run
        self.training = False

    def forward(self) -> torch.Tensor:
        return self._run()


def _signs(shape: tuple[int, ...], generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    drawn = torch.randint(0, 2, shape, generator=generator, device=like.device)
    return drawn.to(like.dtype) * 2 - 1
