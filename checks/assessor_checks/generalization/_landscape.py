"""The mean loss as a function of all parameters: values, gradients, per-row losses, streamed over rows in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from assessor.contract import NotApplicable, Subject, Task, halved, remark_batches
from assessor_checks._inputs import chosen_rows
from assessor_checks._losses import per_sample_loss

CHUNK_BYTES = {"cpu": 2**24}  # what a chunk's graph, and products at once, may keep; on a CPU it fits the cache
CHUNK_BYTES_DEVICE = 2**28
_LEAST_ROWS = 4  # rows of a chunk, however large

PerSample = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
T = TypeVar("T")


class _Outputs(torch.nn.Module):
    """The subject's logits as a module, so that its parameters can be replaced for one call."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model = subject.module
        self._logits = subject.logits

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._logits(inputs)


class Landscape:
    """The mean loss over some rows as a function of a module's parameters, given as one flat vector.

    The module itself is never changed: parameters are replaced for the length of a call, buffers stay.

    Attributes:
        weights: (P,) the module's own parameters, detached.
        names: Their names, in the vector's order.
        inputs: (n, ...).
        labels: (n,).
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: PerSample,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        *,
        names: tuple[str, ...] | None = None,
    ) -> None:
        """Take the parameters named, or all trainable ones.

        Args:
            module: In eval mode.
            loss: Outputs and labels to (n,) losses, differentiable in the outputs.
            inputs: (n, ...) on the module's device.
            labels: (n,).
            names: Parameters to move; None takes all trainable floating-point ones.

        Raises:
            NotApplicable: There are no such parameters, or too coarse a number format.
        """
        found = _parameters(module, names)
        self.module, self.loss, self.inputs, self.labels = module, loss, inputs, labels
        self.names = tuple(found)
        self._shapes = [(parameter.shape, parameter.dtype) for parameter in found.values()]
        self._sizes = [parameter.numel() for parameter in found.values()]
        self.weights = torch.cat([parameter.detach().flatten() for parameter in found.values()])
        self._most: int | None = None  # rows of a chunk, once memory ran out

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return len(self.weights)

    def named(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """A flat vector (P,) as the module's parameters by name."""
        pieces = zip(self.names, self._shapes, weights.split(self._sizes), strict=True)
        return {name: piece.view(shape).to(dtype) for name, (shape, dtype), piece in pieces}

    def outputs(self, weights: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The module's outputs with other parameters (P,), differentiable in them."""
        found: torch.Tensor = torch.func.functional_call(self.module, self.named(weights), (inputs,))
        return found

    def row_losses(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(rows,) losses with other parameters (P,), differentiable in them."""
        return self.loss(self.outputs(weights, inputs), labels)

    def losses(self, weights: torch.Tensor) -> torch.Tensor:
        """(n,) float64 loss of every row with parameters (P,)."""
        return self.in_room(lambda: self._losses(weights))

    @torch.no_grad()
    def _losses(self, weights: torch.Tensor) -> torch.Tensor:
        rows = self.chunk_rows
        chunks = zip(self.inputs.split(rows), self.labels.split(rows), strict=True)
        return torch.cat([self.row_losses(weights, x, y).double() for x, y in chunks])

    def gradient(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss (float64 scalar) and its gradient (P,) at other parameters."""
        return self.in_room(lambda: self._gradient(weights))

    def _gradient(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.zeros((), dtype=torch.float64, device=weights.device)
        gradient = torch.zeros_like(weights)
        at = weights.detach().requires_grad_(True)
        for x, y in zip(self.inputs.split(self.chunk_rows), self.labels.split(self.chunk_rows), strict=True):
            with torch.enable_grad():
                loss = self.row_losses(at, x, y).sum()
                gradient += torch.autograd.grad(loss, at)[0]
            total += loss.detach()
        return total / self.n, gradient / self.n

    def slope(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(P,) gradient of the mean loss over these rows, itself differentiable in `weights`.

        Raises:
            NotApplicable: The loss cannot be differentiated.
        """
        with torch.enable_grad(), twice_differentiable(self.module), differentiation():
            loss = self.row_losses(weights, inputs, labels).mean()
            return torch.autograd.grad(loss, weights, create_graph=True)[0]

    @property
    def chunk_rows(self) -> int:
        """Rows worked on at once, so that what a backward pass keeps of them stays small."""
        budget = CHUNK_BYTES.get(self.weights.device.type, CHUNK_BYTES_DEVICE)
        return self._most or max(_LEAST_ROWS, budget // self.row_bytes)

    def in_room(self, compute: Callable[[], T]) -> T:
        """`compute()`; where the device runs out of memory, again on chunks half as large.

        Args:
            compute: Works on `chunk_rows` rows at once.

        Returns:
            What it gave.

        Raises:
            OutOfMemoryError: A single row is too much for the device.
        """
        smaller = 0
        while True:
            try:
                found = compute()
            except torch.OutOfMemoryError as full:
                self._most = smaller = halved(min(self.n, self.chunk_rows), full)
            else:
                if smaller:
                    remark_batches(smaller)
                return found

    @cached_property
    def row_bytes(self) -> int:
        """Bytes that the graph of `slope` keeps for each row: four rows' less two rows' (one is a special case)."""
        return max(1, (self._kept_bytes(4) - self._kept_bytes(2)) // 2)

    def _kept_bytes(self, rows: int) -> int:
        at = self.weights.clone().requires_grad_(True)
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        x = self.inputs[:1].expand(rows, *self.inputs.shape[1:]).contiguous()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.slope(at, x, self.labels[:1].expand(rows))
        return sum(seen.values())


def landscape(subject: Subject, split: str, most: int, seed: int) -> Landscape:
    """The loss of a subject over at most `most` rows of a split, chosen by the seed.

    Raises:
        NotApplicable: No rows, no finite outputs, or layers that make a row's loss depend on chance or other rows.
    """
    require_deterministic(subject.module)
    everything, targets = subject.tensors(split)
    if not len(targets):
        raise NotApplicable(f"the {split} split has no rows")
    rows = torch.from_numpy(chosen_rows(len(targets), most, seed)).to(everything.device)
    found = Landscape(_Outputs(subject), exact_loss(subject.task), everything[rows], targets[rows])
    losses = found.losses(found.weights)
    if bad := int((~losses.isfinite()).sum()):
        raise NotApplicable(f"the model's loss is not finite for {bad} of {found.n} rows of the {split} split")
    return found


def exact_loss(task: Task) -> PerSample:
    """The task's loss, in float64 from outputs of any precision.

    Where the model is certain, 1 - p is lost in float32, and with it the gradient and the curvature.
    """
    return lambda outputs, labels: per_sample_loss(task, outputs.double(), labels)


def require_deterministic(module: torch.nn.Module) -> None:
    """Refuse a module whose loss is no mean of one number a row.

    Raises:
        NotApplicable: A dropout or normalisation layer is in train mode or uses the statistics of the batch.
    """
    norms = torch.nn.modules.batchnorm._BatchNorm
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, norms | torch.nn.modules.dropout._DropoutNd):
            raise NotApplicable(f"layer '{name}' is in train mode; the model must be in eval mode")
        if isinstance(layer, norms) and layer.running_mean is None:
            raise NotApplicable(f"layer '{name}' normalises by the batch it is given, so that no row has its own loss")


def _parameters(module: torch.nn.Module, names: tuple[str, ...] | None) -> Mapping[str, torch.Tensor]:
    """Those named, or all that are trainable; where none is marked so (a frozen copy), all."""
    every = {name: p for name, p in module.named_parameters() if p.is_floating_point()}
    if names is None:
        found = {name: p for name, p in every.items() if p.requires_grad} or every
    else:
        if missing := [name for name in names if name not in every]:
            raise NotApplicable(f"parameter '{missing[0]}': the model has no floating-point parameter of this name")
        found = {name: every[name] for name in names}
    if not found:
        raise NotApplicable("the model has no floating-point parameters")
    coarse = sorted({str(p.dtype) for p in found.values() if p.element_size() < 4})
    if coarse:
        raise NotApplicable(f"the parameters are {coarse[0]}; curvature needs at least torch.float32")
    return found


@contextmanager
def differentiation() -> Iterator[None]:
    """Turns what torch says of a model it cannot differentiate into the outcome's sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as fault:
        raise NotApplicable(
            f"the model's loss cannot be differentiated: {str(fault).splitlines()[0]}; use generalization.gap, which "
            "needs no gradients"
        ) from fault


@contextmanager
def twice_differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Kernels that can be differentiated twice and in forward mode: attention, encoders and recurrent layers."""
    fast = torch.backends.mha.get_fastpath_enabled()
    recurrent = any(isinstance(layer, torch.nn.RNNBase) for layer in module.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
