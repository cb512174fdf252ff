"""The last linear layer of a module: found by running it, with its features and logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from assessor.contract import NotApplicable

BATCH = 4096  # rows a forward pass; bounds memory, changes no number


class LastLayer(NamedTuple):
    """The last linear layer on some data: features (n, m), weight (d, m), bias (d,) or None, logits (n, d)."""

    name: str
    features: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    logits: torch.Tensor


@torch.no_grad()
def last_linear(module: torch.nn.Module, inputs: torch.Tensor, *, batch: int = BATCH) -> LastLayer:
    """The linear layer whose output is the module's output, with its features and logits for all inputs.

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
    if not len(inputs):
        raise NotApplicable("there are no rows to run the model on")
    name, layer = _find_last_linear(module, inputs[:1])
    features, logits = [], []
    same = torch.ones((), dtype=torch.bool, device=inputs.device)
    for chunk in inputs.split(batch):
        (phi, z), out = _recorded(module, layer, chunk)
        features.append(phi)
        logits.append(z)
        same &= (out.reshape(z.shape) == z).all() | ~torch.isfinite(z).all()
    if not same:
        raise NotApplicable(_not_the_output(name))
    bias = None if layer.bias is None else layer.bias.detach()
    return LastLayer(name, torch.cat(features), layer.weight.detach(), bias, torch.cat(logits))


def saturated_rows(logits: torch.Tensor) -> int:
    """Rows whose largest softmax probability is exactly 1 in the logits' own dtype ("softmax collapse").

    There a loss computed in that dtype has gradient 0: training stood still (Prieto et al. 2025).
    """
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return int((logits.softmax(dim=1).amax(dim=1) == 1).sum())


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
        raise NotApplicable("the model has no torch.nn.Linear layer that runs in its forward pass")
    name, shape = ran[-1]
    if len(shape) != 2:
        raise NotApplicable(f"layer '{name}' takes inputs of shape {tuple(shape)}, wanted one feature vector a row")
    if (times := sum(other == name for other, _ in ran)) > 1:
        raise NotApplicable(f"layer '{name}' runs {times} times in a forward pass; the closed form needs one use")
    return name, linear[name]


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
