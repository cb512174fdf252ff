"""The weights of a module and what flows through them: found by running it, streamed over rows.

A layer is a weight W (d, m) applied as z_t = W phi_t + b at one or more positions t of a sample: once in a linear
layer on feature vectors, at every token or patch in attention projections, embeddings and convolutions.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from assessor.contract import Inputs, NotApplicable, batch_rows, halved, remark_batches

BATCH = 4096  # rows a forward pass at most; bounds memory, changes no number
_ENTRIES = 2**26  # entries of features and logits that a forward pass may give at once
_FEW = 8  # rows that are run to look at what the module does
_KEPT = 2**28  # bytes of activations kept between passes; beyond that the model runs again
_KEPT_OF_FILE = 2**26  # the same where the inputs themselves are too many to be held

_UNSTEADY = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm)
_LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Embedding)


class Kind(StrEnum):
    """How a weight is used, which decides how its flatness is got."""

    LINEAR = "linear"
    CONVOLUTION = "convolution"
    EMBEDDING = "embedding"
    PARAMETER = "parameter"  # no layer of its own, or used more than once: measured through the parameter itself


class Site(NamedTuple):
    """A weight that can be measured.

    Attributes:
        name: Name of the layer, or of the parameter for `Kind.PARAMETER`.
        kind: How it is used.
        layer: The module that holds it.
        weight: The weight itself.
    """

    name: str
    kind: Kind
    layer: torch.nn.Module
    weight: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs d and inputs m of the weight as a matrix (of one group of a convolution)."""
        d, m = len(self.weight), self.weight[0].numel()
        return (m, d) if self.kind is Kind.EMBEDDING else (d // int(getattr(self.layer, "groups", 1)), m)

    @property
    def frozen(self) -> bool:
        """Whether training was told to leave it alone."""
        return not self.weight.requires_grad


class LastLayer(NamedTuple):
    """The last linear layer on some data: features (n, m), weight (d, m), bias (d,) or None, logits (n, d)."""

    name: str
    features: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    logits: torch.Tensor


class Activations:
    """Features (rows, m) and logits (rows, d) of the last linear layer, chunk by chunk, as often as wanted.

    The first pass runs the model. What it gave is kept while it fits into `keep` bytes; where it does not, the model
    runs again, so that memory does not grow with the number of rows.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Inputs,
        *,
        batch: int | None = None,
        keep: int | None = None,
    ) -> None:
        """Find the layer.

        Args:
            module: In eval mode.
            inputs: (n, ...) on the module's device, in the module's dtype.
            batch: Rows a forward pass; None chooses by size.
            keep: Bytes that may be kept; None: less where the inputs stay in a file.

        Raises:
            NotApplicable: There is no such layer; the message says why.
        """
        if not len(inputs):
            raise NotApplicable("there are no rows to run the model on")
        refuse_unsteady(module, inputs)
        self.name, self.layer = _find_last_linear(module, inputs[:1])
        self.n = len(inputs)
        self._module, self._inputs = module, inputs
        usual = min(BATCH, max(1, _ENTRIES // sum(self.layer.weight.shape)))
        self._batch = batch or batch_rows(usual, self.n, "forward")
        self._room = keep if keep is not None else _KEPT if isinstance(inputs, torch.Tensor) else _KEPT_OF_FILE
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._checked = False

    @property
    def weight(self) -> torch.Tensor:
        """(d, m), detached."""
        return self.layer.weight.detach()

    @property
    def whole(self) -> bool:
        """Whether all rows were kept, so that another pass does not run the model."""
        return sum(len(phi) for phi, _ in self._kept) == self.n

    def gives_the_output(self) -> bool:
        """True, once the first rows have shown it.

        Raises:
            NotApplicable: The module's output is not the layer's; the message says so.
        """
        with torch.no_grad():
            (_, z), out = _recorded(self._module, self.layer, self._inputs[:_FEW])
        if not bool(((out.reshape(z.shape) == z) | z.isnan()).all()):
            raise NotApplicable(_not_the_output(self.name))
        return True

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Chunk by chunk.

        Yields:
            Features and logits of the next rows.

        Raises:
            NotApplicable: The module's output is not the layer's, on some row.
        """
        yield from self._kept
        rows = sum(len(phi) for phi, _ in self._kept)
        same = torch.ones((), dtype=torch.bool, device=self.weight.device)
        contiguous, smaller = True, False
        while rows < self.n:
            try:
                with torch.no_grad():
                    (phi, z), out = _recorded(self._module, self.layer, self._inputs[rows : rows + self._batch])
            except torch.OutOfMemoryError as full:
                self._batch = halved(min(self._batch, self.n - rows), full)
                smaller = True
                continue
            rows += len(phi)
            same &= ((out.reshape(z.shape) == z) | z.isnan()).all()
            size = phi.nbytes + z.nbytes
            if contiguous and size <= self._room:
                self._room -= size
                self._kept.append((phi, z))
            else:
                contiguous = False
            yield phi, z
        if smaller:
            remark_batches(self._batch)
        if not self._checked and not same:
            raise NotApplicable(_not_the_output(self.name))
        self._checked = True


def last_linear(module: torch.nn.Module, inputs: torch.Tensor, *, batch: int | None = None) -> LastLayer:
    """The linear layer whose output is the module's output, with its features and logits for all inputs, kept whole.

    It is the `torch.nn.Linear` that runs last; the module's output must be its output, value for value, on every
    row (reshaping and inactive dropout may follow, a softmax may not), and it must run once a pass on (n, m) inputs.

    Args:
        module: In eval mode.
        inputs: (n, ...) on the module's device, in the module's dtype.
        batch: Rows a forward pass.

    Returns:
        The layer; its features (n, m) are kept whole.

    Raises:
        NotApplicable: There is no such layer; the message says why.
    """
    found = Activations(module, inputs, batch=batch, keep=0)
    features, logits = zip(*found, strict=True)
    bias = None if found.layer.bias is None else found.layer.bias.detach()
    return LastLayer(found.name, torch.cat(features), found.weight, bias, torch.cat(logits))


def find_sites(
    module: torch.nn.Module, row: torch.Tensor, outputs_of: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Site]:
    """All weights with at least two dimensions that take part in the outputs, by name, in the order they run.

    Linear, convolution and embedding layers that run once a pass stand for themselves. Weights that are used more
    than once (tied or repeated layers) or outside such a layer (packed attention projections, recurrent weights) are
    measured as parameters, all their uses together.

    Args:
        module: In eval mode.
        row: (1, ...) inputs.
        outputs_of: The model's outputs for inputs; runs `module`.

    Returns:
        Sites by name.
    """
    layers = {name: found for name, found in module.named_modules() if isinstance(found, _LAYERS)}
    ran: list[str] = []

    def hook_for(name: str) -> Callable[..., None]:
        return lambda _layer, args, _out: ran.append(name) if len(args[0]) == len(row) else None

    handles = [layer.register_forward_hook(hook_for(name)) for name, layer in layers.items()]
    try:
        used = _used(module, row, outputs_of)
    finally:
        for handle in handles:
            handle.remove()
    owners: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    sites, held = {}, set()
    for name in dict.fromkeys(ran):
        layer = layers[name]
        if ran.count(name) == 1 and len(owners.get(id(layer.weight), [name])) == 1:
            sites[name] = Site(name, _kind(layer), layer, layer.weight)
            held.add(id(layer.weight))
    for names in owners.values():
        holder, _, attribute = names[0].rpartition(".")
        parameter = module.get_parameter(names[0])
        if id(parameter) not in held and parameter.ndim > 1 and names[0] in used and "parametrizations" not in holder:
            short = holder if attribute == "weight" else names[0]
            sites[short] = Site(names[0], Kind.PARAMETER, module.get_submodule(holder), parameter)
    return sites


def choose_site(sites: Mapping[str, Site], wanted: str) -> Site:
    """The site of that name.

    Raises:
        NotApplicable: There is none; the nearest names are given.
    """
    found = sites.get(wanted) or next((site for site in sites.values() if site.name == wanted), None)
    if found is None:
        near = difflib.get_close_matches(wanted, sites, n=3, cutoff=0.3) or list(sites)[:8]
        raise NotApplicable(
            f"no layer '{wanted}' with a weight that takes part in the outputs; nearest names: {', '.join(near)}"
        )
    return found


def same_architecture(one: torch.nn.Module, other: torch.nn.Module) -> str:
    """The first difference between two modules' parameters and buffers, in words; empty where there is none."""
    shapes, others = (
        {name: tuple(value.shape) for name, value in module.state_dict().items()} for module in (one, other)
    )
    for name, shape in shapes.items():
        if name not in others:
            return f"it has no '{name}'"
        if others[name] != shape:
            return f"its '{name}' has shape {others[name]}, here {shape}"
    more = [name for name in others if name not in shapes]
    return f"it has '{more[0]}' besides" if more else ""


@torch.no_grad()
def refuse_unsteady(module: torch.nn.Module, inputs: Inputs) -> None:
    """Refuse a module whose outputs change from pass to pass: its numbers would be another model's every time.

    Args:
        module: Put into eval mode.
        inputs: (n, ...), of which a few rows are run twice.

    Raises:
        NotApplicable: Some dropout or normalisation layer trains, or two passes differ.
    """
    for name, part in module.named_modules():
        if part.training and isinstance(part, _UNSTEADY):
            raise NotApplicable(
                f"layer '{name}' ({type(part).__name__}) is in train mode although the model was put into eval mode; "
                "a module that overrides train() cannot be measured"
            )
    one, two = (module(inputs[:_FEW]) for _ in range(2))
    if isinstance(one, torch.Tensor) and not torch.allclose(one.float(), two.float(), rtol=1e-2, equal_nan=True):
        raise NotApplicable(
            "the model gives different outputs for the same inputs, as active dropout does: it cannot be measured"
        )


def saturated_rows(logits: torch.Tensor) -> int:
    """Rows whose largest softmax probability is exactly 1 in the logits' own dtype ("softmax collapse").

    There a loss computed in that dtype has gradient 0: training stood still (Prieto et al. 2025).
    """
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return int((logits.softmax(dim=1).amax(dim=1) == 1).sum())


@contextmanager
def twice_differentiable(module: torch.nn.Module) -> Iterator[None]:
    """While inside, the module has second derivatives and at least single precision.

    Fused attention has no second derivative, so the plain one takes its place. Half-precision weights are held as
    float32, which represents them exactly; afterwards they are what they were, bit for bit.
    """
    tensors = [*module.parameters(), *module.buffers()]
    before = [tensor.data for tensor in tensors]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.element_size() < 4:
                tensor.data = tensor.data.float()
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data


def _kind(layer: torch.nn.Module) -> Kind:
    if isinstance(layer, torch.nn.Linear):
        return Kind.LINEAR
    return Kind.EMBEDDING if isinstance(layer, torch.nn.Embedding) else Kind.CONVOLUTION


def _used(
    module: torch.nn.Module, row: torch.Tensor, outputs_of: Callable[[torch.Tensor], torch.Tensor]
) -> Sequence[str]:
    """Names of the floating parameters that the outputs depend on."""
    named = {name: p for name, p in module.named_parameters() if p.is_floating_point()}
    before = {name: p.requires_grad for name, p in named.items()}
    try:
        for p in named.values():
            p.requires_grad_(True)
        total = outputs_of(row).sum()
        if not total.requires_grad:
            return []
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    finally:
        for name, p in named.items():
            p.requires_grad_(before[name])
    return [name for name, gradient in zip(named, found, strict=True) if gradient is not None]


@torch.no_grad()
def _find_last_linear(module: torch.nn.Module, row: torch.Tensor) -> tuple[str, torch.nn.Linear]:
    """Name and layer, from one row run with a hook on every linear layer."""
    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)}
    ran: list[tuple[str, torch.Size]] = []

    def hook_for(name: str) -> Callable[..., None]:
        return lambda _layer, args, _out: ran.append((name, args[0].shape))

    handles = [layer.register_forward_hook(hook_for(name)) for name, layer in linear.items()]
    try:
        module(row)
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise NotApplicable(_no_linear(module))
    name, shape = ran[-1]
    if len(shape) != 2:
        raise NotApplicable(f"layer '{name}' takes inputs of shape {tuple(shape)}, wanted one feature vector a row")
    if (times := sum(other == name for other, _ in ran)) > 1:
        raise NotApplicable(f"layer '{name}' runs {times} times in a forward pass; the closed form needs one use")
    return name, linear[name]


def _no_linear(module: torch.nn.Module) -> str:
    quantised = [name for name, part in module.named_modules() if "quantized" in type(part).__module__]
    if quantised:
        return (
            f"the model has no torch.nn.Linear layer that runs in its forward pass; layer '{quantised[0]}' is "
            "quantised, and a loss has no derivatives in whole numbers: give the model before quantisation"
        )
    return "the model has no torch.nn.Linear layer that runs in its forward pass"


def _recorded(
    module: torch.nn.Module, layer: torch.nn.Linear, chunk: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Input and output of the layer, and the module's output; copies, so that in-place operations do no harm."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = layer.register_forward_hook(
        lambda _layer, args, out: seen.append((args[0].detach().clone(), out.detach().clone()))
    )
    try:
        out = module(chunk)
    finally:
        handle.remove()
    if not isinstance(out, torch.Tensor) or out.numel() != seen[0][1].numel():
        raise NotApplicable(_not_the_output("the last"))
    return seen[0], out


def _not_the_output(name: str) -> str:
    return (
        f"the model's output is not the output of its last linear layer ('{name}'); the closed form needs logits "
        "straight from a torch.nn.Linear: give the model without what follows it (a softmax, say)"
    )
