"""Permutations of hidden units that bring one network's weights near another's without changing what it computes.

Source: Ainsworth, Hayase, Srinivasa 2023, "Git Re-Basin: Merging Models modulo Permutation Symmetries"
(arXiv 2209.04836), section 3.2 and algorithm 1 (weight matching).

The units of a layer may be renumbered if whatever reads them renumbers its inputs alike. Which axes of which tensors
belong together is found by tracing the module with torch.fx, for what is built of linear and convolution layers,
batch normalisation, functions of single numbers, pooling, flattening and sums (residual connections).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import fx, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

State = Mapping[str, torch.Tensor]
Permutations = dict[int, np.ndarray]  # by group: unit i of the aligned network is unit p[i] of the original

SWEEPS = 100  # over all groups, at most; each step only ever raises the agreement
_ALIKE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.Tanhshrink, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Flatten, nn.Softmax, nn.LogSoftmax),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
"""Modules whose outputs are renumbered as their inputs are."""
_ALIKE_NAMES = frozenset(
    """
    relu relu_ relu6 leaky_relu elu selu celu gelu silu mish softplus tanh tanh_ sigmoid sigmoid_ logsigmoid
    hardtanh hardswish hardsigmoid softsign dropout dropout2d contiguous flatten view reshape mean squeeze softmax
    log_softmax max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d boolean_dispatch
""".split()  # noqa: SIM905 - forty quoted names read worse
)
"""Functions and methods of the same kind, by name; torch calls max pooling boolean_dispatch."""
_JOINING = frozenset({"add", "add_", "iadd", "sub", "mul", "mul_", "imul"})
"""Functions and methods of two values whose units must be renumbered alike."""


class UnalignableError(Exception):
    """The module's hidden units cannot be renumbered here; the message is a sentence for the reader."""


class Axis(NamedTuple):
    """An axis of a tensor of the state whose entries are a group's units, `block` entries a unit."""

    name: str
    axis: int
    block: int = 1


class Groups(NamedTuple):
    """Hidden units that are renumbered together.

    Attributes:
        sizes: Number of units by group.
        axes: Where the group's units stand, by group.
    """

    sizes: dict[int, int]
    axes: dict[int, list[Axis]]


def groups_of(module: nn.Module) -> Groups:
    """The groups of hidden units of a module, found by tracing it.

    Args:
        module: In eval mode.

    Returns:
        Groups; inputs and outputs of the whole module belong to none.

    Raises:
        UnalignableError: The module cannot be traced, or does something to its units that is not understood.
    """
    try:
        whole = nn.Sequential(module)  # so that a module that is one layer is traced as one
        graph = fx.Tracer().trace(whole)
    except Exception as fault:  # tracing runs the user's code on stand-ins, which may raise anything
        raise UnalignableError(
            f"Units were not aligned: the model's forward pass cannot be traced ({type(fault).__name__})."
        ) from fault
    found = _Discovery(whole).walk(graph)
    if not found.sizes:
        raise UnalignableError("Units were not aligned: the model has no hidden units that could be renumbered.")
    return found


def aligned(module: nn.Module, a: State, b: State, inputs: torch.Tensor, *, seed: int) -> tuple[State, int, int]:
    """State b with its hidden units renumbered to match a's: found, matched, and checked to compute the same.

    Args:
        module: The architecture, in eval mode.
        a: State to come near to.
        b: State to renumber.
        inputs: Rows on which the renumbered network must give the same outputs.
        seed: Seed of the order of matching.

    Returns:
        The renumbered state, how many units have another number, and how many there are.

    Raises:
        UnalignableError: The module's units cannot be renumbered here; the message says why.
    """
    groups = groups_of(module)
    parameters = [name for name, _ in module.named_parameters()]
    found = weight_matching(groups, a, b, seed=seed, parameters=parameters)
    state = permuted(groups, b, found)
    if not same_function(module, b, state, inputs):
        raise UnalignableError(
            "Units were not aligned: renumbered as far as understood, the baseline gives other outputs."
        )
    moved = sum(int((order != np.arange(len(order))).sum()) for order in found.values())
    return state, moved, sum(groups.sizes.values())


def weight_matching(groups: Groups, a: State, b: State, *, seed: int, parameters: Iterable[str]) -> Permutations:
    """Permutations of b's units that raise the inner product of its parameters with a's, group after group.

    Each step solves a linear assignment for one group with the others held fixed, in an order drawn anew for every
    sweep, until a sweep changes nothing: a local optimum (the problem itself is NP-hard).

    Args:
        groups: What may be renumbered.
        a: State to come near to.
        b: State to renumber.
        seed: Seed of the order.
        parameters: Names that count; running statistics do not.

    Returns:
        A permutation by group.
    """
    wanted = set(parameters)
    sides = ({name: t.double().cpu().numpy() for name, t in state.items() if name in wanted} for state in (a, b))
    ours, theirs = sides
    found = {group: np.arange(size) for group, size in groups.sizes.items()}
    generator = np.random.default_rng(seed)
    for _ in range(SWEEPS):
        moved = False
        for group in generator.permutation(sorted(found)).tolist():
            gain = _agreement(groups, group, ours, theirs, found)
            _, best = linear_sum_assignment(gain, maximize=True)
            units = np.arange(len(best))
            before, after = gain[units, found[group]].sum(), gain[units, best].sum()
            if after > before + 1e-12 * np.abs(gain).sum():
                found[group], moved = best, True
        if not moved:
            break
    return found


def permuted(groups: Groups, state: State, permutations: Permutations) -> dict[str, torch.Tensor]:
    """The state with its units renumbered: the same function of the inputs.

    Args:
        groups: What is renumbered.
        state: Parameters and running statistics.
        permutations: By group.

    Returns:
        A new state.
    """
    moved = dict(state)
    for group, axes in groups.axes.items():
        for axis in axes:
            value = moved[axis.name]
            index = torch.from_numpy(_index(permutations[group], axis.block)).to(value.device)
            moved[axis.name] = value.index_select(axis.axis, index)
    return moved


def same_function(module: nn.Module, state: State, other: State, inputs: torch.Tensor) -> bool:
    """Whether both states of a module give the same outputs on these rows, up to rounding (sqrt of the dtype's eps)."""
    with torch.no_grad():
        one, two = (functional_call(module, dict(each), (inputs,)) for each in (state, other))
    limit = torch.finfo(one.dtype).eps ** 0.5 * one.abs().max()
    return bool(((one - two).abs() <= limit).all())


def _agreement(
    groups: Groups, group: int, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], found: Permutations
) -> np.ndarray:
    """(units, units) inner products of a's unit with b's unit, b's other axes renumbered as found."""
    size = groups.sizes[group]
    total = np.zeros((size, size))
    for place in groups.axes[group]:
        if place.name not in ours:
            continue
        value = theirs[place.name]
        for other, axes in groups.axes.items():
            for axis in axes:
                if axis.name == place.name and axis.axis != place.axis:
                    value = value.take(_index(found[other], axis.block), axis=axis.axis)
        one, two = (np.moveaxis(side, place.axis, 0).reshape(size, -1) for side in (ours[place.name], value))
        total += one @ two.T
    return total


def _index(permutation: np.ndarray, block: int) -> np.ndarray:
    found: np.ndarray = (permutation[:, None] * block + np.arange(block)).ravel()
    return found


class _Discovery:
    """Walks a traced graph and joins the axes that must be renumbered together.

    Every value has one group of units, group 0 being the fixed ones. What is wrongly joined here changes the outputs
    of the renumbered network, which `same_function` notices.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        tensors = (*module.named_parameters(), *module.named_buffers())
        self._names = {id(value): name.removeprefix("0.") for name, value in tensors}
        self._sizes, self._parents = [0], [0]
        self._places: dict[tuple[str, int], tuple[int, int]] = {}  # (tensor, axis) to (group, block)
        self._groups: dict[fx.Node, int] = {}  # no entry for what is no tensor

    def walk(self, graph: fx.Graph) -> Groups:
        """Groups of the whole graph."""
        for node in graph.nodes:
            if node.op == "placeholder":
                self._groups[node] = 0
            elif node.op == "output":
                for group in self._read(node):
                    self._join(group, 0)
            elif node.op == "call_module":
                self._groups[node] = self._through(str(node.target), *self._read(node))
            elif node.op == "get_attr":
                raise _unknown(str(node.target))
            elif groups := self._read(node):
                self._call(node, groups)
        axes: dict[int, list[Axis]] = {}
        for (name, axis), (group, block) in self._places.items():
            if root := self._root(group):
                axes.setdefault(root, []).append(Axis(name, axis, block))
        return Groups({root: self._sizes[root] for root in axes}, axes)

    def _read(self, node: fx.Node) -> list[int]:
        return [self._groups[source] for source in node.all_input_nodes if source in self._groups]

    def _through(self, name: str, group: int, *more: int) -> int:
        """Group of a module's output, given that of its input."""
        layer = self._module.get_submodule(name)
        if more or (isinstance(layer, _ConvNd) and layer.transposed):
            raise _unknown(name.removeprefix("0."))
        if isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and layer.groups == 1):
            self._place(layer, "weight", 1, group)
            out = self._place(layer, "weight", 0, self._new(len(layer.weight)))
            return self._place(layer, "bias", 0, out)
        depthwise = isinstance(layer, _ConvNd) and layer.groups == layer.in_channels == layer.out_channels
        norm = isinstance(layer, (_NormBase, nn.LayerNorm, nn.PReLU)) or getattr(layer, "num_groups", 0) == 1
        if depthwise or norm:
            for held in ("weight", "bias", "running_mean", "running_var"):
                self._place(layer, held, 0, group)
        elif not isinstance(layer, _ALIKE):
            raise _unknown(name.removeprefix("0."))
        return group

    def _call(self, node: fx.Node, groups: list[int]) -> None:
        """Group of a function's or method's output; none for a size."""
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        if name == "size" or (name == "getattr" and node.args[1] == "shape"):
            return
        if name not in _ALIKE_NAMES | _JOINING or (len(groups) > 1 and name not in _JOINING):
            raise _unknown(name)
        for group in groups:
            self._join(group, groups[0])
        self._groups[node] = groups[0]

    def _new(self, size: int) -> int:
        self._sizes.append(size)
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def _place(self, layer: nn.Module, held: str, axis: int, group: int) -> int:
        """Note that this axis holds the group's units, or join it with the group noted before; the group."""
        value = getattr(layer, held, None)
        if value is None or (value.numel() == 1 and held == "weight" and isinstance(layer, nn.PReLU)):
            return group
        if (name := self._names.get(id(value))) is None:
            raise _unknown(f"a computed {held}")
        size = self._sizes[self._root(group)]
        if size and value.shape[axis] % size:
            raise _unknown(name)
        before, _ = self._places.setdefault((name, axis), (group, value.shape[axis] // size if size else 1))
        self._join(before, group)
        return group

    def _join(self, one: int, other: int) -> None:
        low, high = sorted((self._root(one), self._root(other)))
        if low and self._sizes[low] != self._sizes[high]:
            raise UnalignableError("Units were not aligned: layers of different widths are added.")
        self._parents[high] = low

    def _root(self, group: int) -> int:
        while self._parents[group] != group:
            group = self._parents[group]
        return group


def _unknown(what: str) -> UnalignableError:
    return UnalignableError(f"Units were not aligned: '{what}' does something to them that is not followed here.")
