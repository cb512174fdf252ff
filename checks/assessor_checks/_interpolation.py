"""Losses of the networks between two networks: whole, layer by layer, and what the ends foretell.

Sources: linear mode connectivity and its barrier, Frankle, Dziugaite, Roy, Carbin 2020 (arXiv 1912.05671) and
Entezari, Sedghi, Saukh, Neyshabur 2022 (arXiv 2110.06296); layer by layer and cumulative, Adilova,
Andriushchenko, Kamp, Fischer, Jaggi 2024 (arXiv 2307.06966); barrier from distance and curvature, Singh, Adilova,
Kamp, Fischer, Schoelkopf, Hofmann 2024 (arXiv 2406.16300); statistics recomputed, Jordan et al. 2023
(arXiv 2211.08403); Fisher-weighted average, Matena and Raffel 2022 (arXiv 2111.09832).

A state maps names to tensors: the floating-point parameters and buffers of a module. Modules themselves are never
changed: states are lent to them for a pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from assessor.contract import NotApplicable, Subject, halved, in_batches, remark_batches
from assessor_checks import _layers
from assessor_checks._losses import per_sample_loss

REPLICATES = 1000
T = TypeVar("T")
ROWS = 1024  # rows a forward pass
_STACKED = 2**26  # entries of states or of per-sample gradients held at once
_CHUNK = 8_000_000  # entries of a bootstrap's draws held at once

State = Mapping[str, torch.Tensor]


class Line(NamedTuple):
    """Networks from `start` to `end`: both hold only the names that move, everything else is as in `base`."""

    base: State
    start: State
    end: State

    def at(self, alpha: float) -> State:
        """The state (1 - alpha) start + alpha end; exactly start at 0 and end at 1."""
        moved = {name: (1 - alpha) * value + alpha * self.end[name] for name, value in self.start.items()}
        return {**self.base, **moved}


class Point(NamedTuple):
    """One network on n rows: (n,) float64 losses, and (n,) bool whether right; None for regression."""

    losses: torch.Tensor
    right: torch.Tensor | None


class Ends(NamedTuple):
    """Mean loss, and its first and second derivative along the line (by alpha), at alpha = 0 and at alpha = 1."""

    loss: tuple[float, float]
    slope: tuple[float, float]
    curvature: tuple[float, float]


def state_of(module: torch.nn.Module) -> State:
    """Floating-point parameters and buffers, detached, not copied; tied ones once."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: value.detach() for name, value in tensors.items() if value.is_floating_point()}


def layers_of(module: torch.nn.Module, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Names of a state by layer: what one module holds itself belongs together (weight, bias, running statistics).

    Layers come in the order in which the module registers them, as in its `state_dict`. A layer without parameters
    is none; the module's own parameters stand under "(root)".

    Args:
        module: Whose names they are.
        names: Names of a state.

    Returns:
        Names by layer.
    """
    order = {name: position for position, name in enumerate(module.state_dict(keep_vars=True))}
    parameters = {name for name, _ in module.named_parameters()}
    layers: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: order.get(name, len(order))):
        layers.setdefault(name.rpartition(".")[0] or "(root)", []).append(name)
    return {layer: tuple(held) for layer, held in layers.items() if parameters & set(held)}


def line(a: State, b: State, names: Collection[str] | None = None, base: State | None = None) -> Line:
    """The line from a to b in the named parts, those that are equal in both left out; the rest as in `base`.

    Args:
        a: State at alpha = 0.
        b: State at alpha = 1.
        names: Parts that move; None for all.
        base: All other parts; None for a.

    Returns:
        The line.
    """
    moving = [name for name in a if (names is None or name in names) and not torch.equal(a[name], b[name])]
    return Line(a if base is None else base, {name: a[name] for name in moving}, {name: b[name] for name in moving})


def distance(a: State, b: State, names: Iterable[str]) -> float:
    """Euclidean distance of two states in the named parts, float64."""
    squares = [(b[name].double() - a[name].double()).square().sum() for name in names]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def normalisations(module: torch.nn.Module) -> dict[str, _BatchNorm]:
    """Batch normalisation layers that keep running statistics, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


class Value(NamedTuple):
    """A number, and the same from resampled rows (R,), or None where there are none."""

    value: float
    drawn: np.ndarray | None


class Curve(NamedTuple):
    """Mean losses (G,) at the points of a line, and the same from resampled rows (R, G), None for one row."""

    means: np.ndarray
    drawn: np.ndarray | None


class Landscape:
    """The loss on some rows, as a function of the state of a subject's module.

    With rows to refresh from, every network gets batch normalisation statistics of its own before it is run, those
    of these rows (the mean over equal chunks, as momentum=None gives it): the statistics of a mean of two networks
    are not the mean of their statistics. What a state says of them is then of no effect.
    """

    def __init__(
        self, subject: Subject, inputs: torch.Tensor, labels: torch.Tensor, *, refresh: torch.Tensor | None = None
    ) -> None:
        """Lay it out.

        Args:
            subject: A PyTorch module and its task.
            inputs: (n, ...) rows, as the module takes them.
            labels: (n,).
            refresh: At least two rows to recompute statistics from, or None to leave them as the state says.
        """
        self.task, self.inputs, self.labels = subject.task, inputs, labels
        self._outputs, self._refresh = _Outputs(subject), refresh
        self._scratch = None if refresh is None else _training_norms(subject.module)
        self._batches = True
        self._most: int | None = None  # rows of a chunk, once memory ran out

    @property
    def _rows(self) -> int:
        return self._most or ROWS

    def _in_room(self, compute: Callable[[], T]) -> T:
        """`compute()`, which takes `_rows` rows at once; where the device has no room for them, half as many."""
        smaller = 0
        while True:
            try:
                found = compute()
            except torch.OutOfMemoryError as full:
                self._most = smaller = halved(self._rows, full)
            else:
                if smaller:
                    remark_batches(smaller)
                return found

    def outputs(self, state: State, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs (n, C) or (n,) of the network of this state, differentiable in the state."""
        found: torch.Tensor = functional_call(self._outputs, _renamed(state), (inputs,))
        return found

    @torch.no_grad()
    def at(self, state: State) -> Point:
        """Losses and hits of one network."""
        state = self.refreshed(state)
        outputs = in_batches(lambda chunk: self.outputs(state, chunk), self.inputs, size=ROWS, work="forward")
        right = outputs.argmax(dim=1) == self.labels if self.task.is_classification else None
        return Point(per_sample_loss(self.task, outputs.double(), self.labels), right)

    @torch.no_grad()
    def gives(self, state: State, outputs: torch.Tensor) -> bool:
        """Whether a network gives these outputs (k, ...) on the first k rows, up to rounding (sqrt of dtype's eps)."""
        limit = torch.finfo(outputs.dtype).eps ** 0.5 * outputs.abs().max()
        found = in_batches(
            lambda chunk: self.outputs(state, chunk), self.inputs[: len(outputs)], size=ROWS, work="forward"
        )
        return bool(((found - outputs).abs() <= limit).all())

    @torch.no_grad()
    def along(self, path: Line, alphas: Iterable[float]) -> torch.Tensor:
        """(G, n) float64 losses of the networks at these points of a line.

        Off the CPU, states without convolutions are run many at a time; elsewhere that is slower than one by one.
        """
        alphas = tuple(alphas)
        if not path.start:
            return self.at(path.base).losses.expand(len(alphas), -1)
        size = sum(value.numel() for value in path.start.values())
        flat = self.inputs.device.type != "cpu" and all(value.ndim <= 2 for value in path.start.values())
        together = max(1, min(len(alphas), _STACKED // size)) if flat and self._scratch is None else 1
        parts = [self._batch(path, alphas[at : at + together]) for at in range(0, len(alphas), together)]
        return torch.cat(parts)

    def _batch(self, path: Line, alphas: tuple[float, ...]) -> torch.Tensor:
        """(G, n) losses, all points in one pass over the rows where the module allows it."""
        if len(alphas) > 1 and self._batches:
            moving = [path.at(alpha) for alpha in alphas]
            stacked = {name: torch.stack([state[name] for state in moving]) for name in path.start}
            try:
                run = vmap(lambda moved, x: self.outputs({**path.base, **moved}, x), in_dims=(0, None))
                outputs = self._in_room(
                    lambda: torch.cat(
                        [run(stacked, chunk) for chunk in self.inputs.split(max(1, self._rows // len(alphas)))], dim=1
                    )
                )
                labels = self.labels.repeat(len(alphas))
                return per_sample_loss(self.task, outputs.flatten(0, 1).double(), labels).reshape(len(alphas), -1)
            except RuntimeError:  # some modules cannot be batched over their parameters; one by one gives the same
                self._batches = False
        return torch.stack([self.at(path.at(alpha)).losses for alpha in alphas])

    @torch.no_grad()
    def refreshed(self, state: State) -> State:
        """The state with its running statistics recomputed, where there are rows to refresh from."""
        if self._scratch is None or self._refresh is None:
            return state
        scratch, rows = self._scratch, self._refresh
        return self._in_room(lambda: self._refreshed(scratch, rows, state))

    def _refreshed(self, scratch: torch.nn.Module, rows: torch.Tensor, state: State) -> State:
        norms = normalisations(scratch)
        fresh = dict(state)
        for name in norms:
            for buffer in ("running_mean", "running_var"):
                fresh[f"{name}.{buffer}"] = torch.zeros_like(state[f"{name}.{buffer}"])
        for seen, chunk in enumerate(rows.tensor_split(-(-len(rows) // self._rows)), start=1):
            for norm in norms.values():
                norm.momentum = 1 / seen
            functional_call(scratch, fresh, (chunk,))
        return fresh

    def expansion(self, path: Line) -> Ends:
        """Mean loss and its first two derivatives along the line at both ends, by differentiating twice by alpha.

        The second derivative is d^T H d for the step d of the line, got through one Hessian-vector product a chunk.
        Refreshed statistics are held fixed at those of the end. Running statistics have no gradients, so that they
        must not move (`Line.start`).

        Args:
            path: The line.

        Returns:
            Values at both ends.

        Raises:
            RuntimeError: The module cannot be differentiated, or not twice.
        """
        (loss_a, slope_a, bend_a), (loss_b, slope_b, bend_b) = self._in_room(lambda: self._expansion(path)).tolist()
        return Ends((loss_a, loss_b), (slope_a, slope_b), (bend_a, bend_b))

    def _expansion(self, path: Line) -> torch.Tensor:
        """(2, 3) mean loss, slope and curvature at both ends."""
        found = torch.zeros(2, 3, dtype=torch.float64, device=self.inputs.device)
        step = {name: path.end[name] - value for name, value in path.start.items()}
        with _layers.twice_differentiable(self._outputs):
            for end, alpha in enumerate((0.0, 1.0)):
                state = self.refreshed(path.at(alpha))
                for x, y in zip(self.inputs.split(self._rows), self.labels.split(self._rows), strict=True):
                    found[end] += self._derivatives(state, step, x, y) / len(self.inputs)
        return found

    def _derivatives(self, state: State, step: State, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(3,) sum of the losses at `state` and of their first and second derivative along `step`."""
        t = torch.zeros((), dtype=torch.float64, device=x.device, requires_grad=True)
        moved = {name: state[name] + t.to(value.dtype) * value for name, value in step.items()}
        loss = per_sample_loss(self.task, self.outputs({**state, **moved}, x).double(), y).sum()
        slope = curvature = torch.zeros_like(t)
        if step:
            (slope,) = torch.autograd.grad(loss, t, create_graph=True)
        if slope.requires_grad:
            (curvature,) = torch.autograd.grad(slope, t)  # unused, it would hide a missing second derivative as 0
        return torch.stack([loss, slope, curvature]).detach()

    def fisher(self, state: State, names: Iterable[str]) -> State:
        """Diagonal of the empirical Fisher information in the named parameters, on this landscape's rows.

        The mean over rows of the squared gradient of the row's loss (Matena and Raffel 2022, with the given label in
        place of the expectation over labels); running statistics are held fixed.

        Args:
            state: The network.
            names: Parameters.

        Returns:
            Information by name, of the parameter's shape and dtype.
        """
        state = self.refreshed(state)
        chosen = {name: state[name] for name in names}
        return self._in_room(lambda: self._fisher(state, chosen))

    def _fisher(self, state: State, chosen: State) -> State:
        total = {name: torch.zeros_like(value) for name, value in chosen.items()}
        rows = max(1, min(self._rows, _STACKED // max(1, sum(value.numel() for value in chosen.values()))))
        for x, y in zip(self.inputs.split(rows), self.labels.split(rows), strict=True):
            for name, squares in self._squared_gradients(state, chosen, x, y).items():
                total[name] += squares / len(self.inputs)
        return total

    def _squared_gradients(self, state: State, chosen: State, x: torch.Tensor, y: torch.Tensor) -> State:
        """Sum over rows of the squared gradients of their losses, all rows at once where the module allows it."""

        def loss(moved: State, row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return per_sample_loss(self.task, self.outputs({**state, **moved}, row[None]), label[None])[0]

        if self._batches:
            try:
                found: State = vmap(grad(loss), in_dims=(None, 0, 0))(chosen, x, y)
                return {name: value.square().sum(dim=0) for name, value in found.items()}
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # some modules cannot be batched; one by one gives the same
                self._batches = False
        total = {name: torch.zeros_like(value) for name, value in chosen.items()}
        moved = {name: value.clone().requires_grad_() for name, value in chosen.items()}
        for row, label in zip(x, y, strict=True):
            with torch.enable_grad():
                own = loss(moved, row, label)
            slopes = torch.autograd.grad(own, list(moved.values()), allow_unused=True, materialize_grads=True)
            for name, slope in zip(moved, slopes, strict=True):
                total[name] += slope.square()
        return total


@dataclass(frozen=True)
class Pair:
    """Two networks on some rows, and what moves between them.

    Attributes:
        land: The loss on n rows.
        a: State of the first network.
        b: State of the second.
        names: What moves.
        alphas: (G,) points of every line, G odd: the middle one is the average.
        seed: Seed of the resampled rows, the same rows for all lines.
    """

    land: Landscape
    a: State
    b: State
    names: tuple[str, ...]
    alphas: np.ndarray
    seed: int

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.land.labels)

    def curve(self, end: State) -> Curve:
        """The way from the first network to `end`.

        Args:
            end: State of the last point: the second network, its units renumbered perhaps.

        Returns:
            Losses on the way.
        """
        return self._curve(self._losses(line(self.a, end, self.names)))

    def barrier(self, curve: Curve) -> Value:
        """Highest rise of a curve above the straight line between its ends, the ends themselves included."""
        drawn = None if curve.drawn is None else excess(curve.drawn, self.alphas).max(axis=1)
        return Value(float(excess(curve.means, self.alphas).max()), drawn)

    def layer(self, names: Collection[str], base: State) -> tuple[Value, Value]:
        """One layer moved from the first network's to the second's, everything else as in `base`.

        Args:
            names: The layer's parts.
            base: State of the first or of the second network.

        Returns:
            Loss of the layer averaged less the mean loss of both networks ("is averaging safe?"); and the highest
            rise between the ends of the layer's own line, kept to swapped, below 0 where the loss only dips ("is
            there a hump?").
        """
        found = self._curve(np.concatenate([self._losses(line(self.a, self.b, names, base)), self._ends]))
        rows = found.means[None] if found.drawn is None else np.concatenate([found.means[None], found.drawn])
        averaged = rows[:, len(self.alphas) // 2] - rows[:, -2:].mean(axis=1)
        hump = excess(rows[:, :-2], self.alphas)[:, 1:-1].max(axis=1)
        first, second = (Value(float(one[0]), None if found.drawn is None else one[1:]) for one in (averaged, hump))
        return first, second

    def averaged(self, names: Collection[str], base: State) -> float:
        """Mean loss with these parts averaged, everything else as in `base`, less the mean loss of both networks."""
        middle = self.land.at(line(self.a, self.b, names, base).at(0.5)).losses
        return float(middle.mean()) - float(self._ends.mean())

    @cached_property
    def _ends(self) -> np.ndarray:
        return torch.stack([self.land.at(state).losses for state in (self.a, self.b)]).cpu().numpy()

    def _losses(self, path: Line) -> np.ndarray:
        losses = self.land.along(path, self.alphas.tolist())
        if bad := int((~losses.isfinite()).any(dim=0).sum()):
            raise NotApplicable(
                f"a network between the model and the baseline has no finite loss on {bad} of {self.n} test rows"
            )
        found: np.ndarray = losses.cpu().numpy()
        return found

    def _curve(self, losses: np.ndarray) -> Curve:
        drawn = resampled_means(losses, self.seed, replicates=REPLICATES) if self.n > 1 else None
        return Curve(losses.mean(axis=1), drawn)


def fisher_average(a: State, b: State, weight_a: State, weight_b: State) -> State:
    """Average of two states, every number weighted by its Fisher information (Matena and Raffel 2022).

    Where neither network has information, and where no weight is given, it is the plain average.

    Args:
        a: First state.
        b: Second state.
        weight_a: Information of the first, by name.
        weight_b: Information of the second.

    Returns:
        The average.
    """
    merged = {}
    for name, one in a.items():
        share = torch.full_like(one, 0.5)
        if name in weight_a:
            total = weight_a[name] + weight_b[name]
            share = torch.where(total > 0, weight_a[name] / torch.where(total > 0, total, 1.0), share)
        merged[name] = share * one + (1 - share) * b[name]
    return merged


def excess(means: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """How far the mean losses (..., G) lie above the straight line between their ends, by alpha (G,).

    >>> excess(np.array([1.0, 4.0, 3.0]), np.array([0.0, 0.5, 1.0]))
    array([0., 2., 0.])
    """
    start = means[..., :1]
    found: np.ndarray = (means - start) - alphas * (means[..., -1:] - start)  # exactly 0 at both ends
    return found


def predicted_excess(ends: Ends, alphas: np.ndarray) -> np.ndarray:
    """What the ends foretell of `excess`: each end's second-order expansion, weighted by nearness.

    With the expansions q_A(a) = L_A + a s_A + a^2 c_A / 2 and q_B(a) = L_B - (1 - a) s_B + (1 - a)^2 c_B / 2, the
    curve (1 - a) q_A + a q_B less the straight line is a (1 - a) (s_A - s_B + (a c_A + (1 - a) c_B) / 2). It is exact
    for a quadratic loss and 0 at both ends; between two minima, where the slopes are 0, it is (c_A + c_B) / 16 in the
    middle: distance squared times mean curvature over 8, the quantities that Singh et al. 2024 name.

    Args:
        ends: Losses and derivatives along the line.
        alphas: (G,) in [0, 1].

    Returns:
        (G,) foretold rise above the straight line.
    """
    (slope_a, slope_b), (bend_a, bend_b) = ends.slope, ends.curvature
    found: np.ndarray = alphas * (1 - alphas) * (slope_a - slope_b + (alphas * bend_a + (1 - alphas) * bend_b) / 2)
    return found


def resampled_means(losses: np.ndarray, seed: int, *, replicates: int) -> np.ndarray:
    """(R, G) mean losses of resampled rows; the same rows for every network and every call with this seed.

    Args:
        losses: (G, n).
        seed: Seed of the draws.
        replicates: R.

    Returns:
        The means.
    """
    n = losses.shape[1]
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    parts = []
    for start in range(0, replicates, step):
        count = min(step, replicates - start)
        drawn = generator.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        parts.append(times @ losses.T / n)
    return np.concatenate(parts)


class _Outputs(torch.nn.Module):
    """A subject's logits as a module's outputs, so that states can be lent to it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.module = subject.module
        self._logits = subject.logits

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._logits(inputs)


def _renamed(state: State) -> dict[str, torch.Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


def _training_norms(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose batch normalisation layers, and nothing else, are in train mode."""
    scratch = copy.deepcopy(module)
    for norm in normalisations(scratch).values():
        norm.train()
    return scratch
