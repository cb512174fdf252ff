"""What every layer of a module gives for the rows of a design, recorded within bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from assessor.contract import NotApplicable, batch_rows, halved, remark_batches
from assessor_checks.generalization._signal_designs import Design

BATCH = 1024  # rows a forward pass
MEMORY = 2**31  # bytes of activations kept at once
_OUTPUT = "output"  # of a model that ends in no module of its own
_SAME = (  # modules whose output is their input
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
    torch.nn.Identity,
    torch.nn.Flatten,
    torch.nn.Unflatten,
)


class Layer(NamedTuple):
    """What one layer gave.

    Attributes:
        name: As the module calls it; with "#2" for its second use in one pass.
        kind: Name of its class.
        groups: By value of the parameter, (K_g, p) activations, flattened, on CPU.
    """

    name: str
    kind: str
    groups: tuple[torch.Tensor, ...]

    @property
    def width(self) -> int:
        """Numbers a row."""
        return self.groups[0].shape[1]


@torch.no_grad()
def record(
    module: torch.nn.Module, inputs: torch.Tensor, design: Design, *, memory: int = MEMORY
) -> tuple[list[Layer], tuple[str, ...]]:
    """Activations of the input, of every innermost module and of the output, from one pass over the design's rows.

    Args:
        module: In eval mode.
        inputs: (n, ...) on the module's device.
        design: Which rows, by value.
        memory: Most bytes kept of the layers between input and output.

    Returns:
        The layers in the order they run, "input" first and the output last; and names of the widest, which are left
        out where all together would need more memory.

    Raises:
        NotApplicable: The outputs are not one row for each row of the input.
    """
    order = torch.from_numpy(np.concatenate(design.rows)).to(inputs.device)
    heard = _probe(module, inputs[order[:2]])
    sizes = [len(rows) for rows in design.rows]
    kept = _affordable(heard, len(order), memory)
    chunks = list(_in_chunks(module, inputs[order], kept))
    parts = {name: [chunk[name] for chunk in chunks] for name in ("", *kept)}
    layers = [Layer("input", "", torch.cat(parts.pop("")).split(sizes))]
    layers += [Layer(name, heard[name].kind, torch.cat(parts.pop(name)).split(sizes)) for name in kept]
    return layers, tuple(name for name in heard if name not in kept)


def _in_chunks(
    module: torch.nn.Module, inputs: torch.Tensor, wanted: Sequence[str]
) -> Iterator[dict[str, torch.Tensor]]:
    """What is heard from chunks of rows, half as large where the device runs out of memory; inputs as ""."""
    start, size = 0, (usual := batch_rows(BATCH, len(inputs), "forward"))
    while start < len(inputs):
        chunk = inputs[start : start + size]
        found = {"": _flat(chunk)}

        def keep(name: str, _: torch.nn.Module, out: torch.Tensor, found: dict[str, torch.Tensor] = found) -> None:
            if name in wanted:
                found[name] = _flat(out)

        try:
            with _listening(module, keep):
                out = module(chunk)
        except torch.OutOfMemoryError as full:
            size = halved(len(chunk), full)
            continue
        if _OUTPUT in wanted:
            found[_OUTPUT] = _flat(out)
        start += size
        yield found
    if size < usual:
        remark_batches(size)


class _Heard(NamedTuple):
    kind: str
    rows: torch.Tensor


def _probe(module: torch.nn.Module, rows: torch.Tensor) -> dict[str, _Heard]:
    """What is heard from a few rows, in order; last what gives the module's output, or the output by itself."""
    heard: dict[str, _Heard] = {}

    def keep(name: str, layer: torch.nn.Module, out: torch.Tensor) -> None:
        heard[name] = _Heard(type(layer).__name__, _flat(out))

    with _listening(module, keep):
        out = module(rows)
    if not isinstance(out, torch.Tensor) or out.ndim == 0 or len(out) != len(rows):
        raise NotApplicable("the model's output is not one row for each row of the input")
    if not heard or not _same(next(reversed(heard.values())).rows, _flat(out)):
        heard[_OUTPUT] = _Heard("", _flat(out))
    return heard


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b.to(a.dtype), rtol=0, atol=0, equal_nan=True)


def _affordable(heard: Mapping[str, _Heard], rows: int, room: int) -> list[str]:
    """Names in order, without the widest where all together would need more room; never without the output."""
    *inner, output = heard
    chosen = {output}
    for name in sorted(inner, key=lambda name: heard[name].rows.nbytes):
        room -= heard[name].rows.nbytes // len(heard[name].rows) * rows
        if room >= 0:
            chosen.add(name)
    return [name for name in heard if name in chosen]


@contextmanager
def _listening(module: torch.nn.Module, hear: Callable[[str, torch.nn.Module, torch.Tensor], None]) -> Iterator[None]:
    """Tell `hear` the name, the module and the output of every innermost module that runs and changes something."""
    calls: dict[str, int] = {}

    def hook_for(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(layer: torch.nn.Module, args: Any, out: Any) -> None:
            first = out[0] if isinstance(out, tuple | list) and out else out
            if not isinstance(first, torch.Tensor) or not first.is_floating_point() or first.ndim == 0:
                return
            calls[name] = calls.get(name, 0) + 1
            hear(name if calls[name] == 1 else f"{name}#{calls[name]}", layer, first)

        return hook

    handles = [part.register_forward_hook(hook_for(name or "model")) for name, part in _innermost(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _innermost(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, part in module.named_modules():
        if "parametrizations" in name.split(".") or isinstance(part, _SAME):
            continue
        if all(child == "parametrizations" for child, _ in part.named_children()):
            yield name, part


def _flat(rows: torch.Tensor) -> torch.Tensor:
    """(n, p) copy on CPU, so that operations in place change nothing."""
    found = rows.detach().reshape(len(rows), -1)
    return found.to("cpu", found.dtype if found.dtype in {torch.float32, torch.float64} else torch.float32, copy=True)
