"""The uncanny valley: what a gradient attack that does not stop at the flip sees of the loss surface on its way.

Source: Walter, Adilova, Vreeken, Kamp, "The Uncanny Valley: Exploring Adversarial Robustness from a Flatness
Perspective" (arXiv 2405.16918): along the path of an iterative attack the relative sharpness of the last layer rises
until the label flips, then falls into a flat region where the label stays wrong.

At every step t the row's features phi, logits z and class probabilities p at the point reached give

    kappa_t = ||phi||^2 Var_p(w)   (relative flatness of the last layer for that one row; labels do not enter)

Inputs are (n, ...), labels (n,) int64, on one device. Rows are worked on in chunks; of the path only (steps + 1, n)
losses, kappas and answers are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch

from assessor.contract import in_batches
from assessor_checks import _flatness as flatness
from assessor_checks._layers import last_linear
from assessor_checks._pgd import ROWS, STEP_RATIO, Box, objective

ENTRIES = 2**21  # steps x rows kept at most
_QUARTERS = (0.25, 0.5, 0.75)

Norm = Literal["linf", "l2"]


class Path(NamedTuple):
    """What was seen at the points of the attack, the clean row first.

    Attributes:
        loss: (steps + 1, n) float64 cross-entropy in nats.
        kappa: (steps + 1, n) float64 relative flatness of the row, in nats; low means flat.
        wrong: (steps + 1, n) bool, misclassified there.
        confidence: (n,) float64 probability of the predicted class at the last point.
        broken: (n,) bool, rows where an output or a gradient was NaN or infinite on the way; their numbers are void.
        flat: (n,) bool, rows whose gradient at the clean point is exactly 0 in every feature that may move.
    """

    loss: np.ndarray
    kappa: np.ndarray
    wrong: np.ndarray
    confidence: np.ndarray
    broken: np.ndarray
    flat: np.ndarray


class Summary(NamedTuple):
    """Of a path's sound rows.

    Attributes:
        rise: (n,) peak of kappa over its start, rows in order; NaN where kappa starts at 0.
        flipped: (n,) bool, misclassified at the last point.
        left: (n,) bool, misclassified on the way but not at the last point.
        flip: (n,) int64 first step at which the row is misclassified, -1 where it never is.
        peak: (n,) int64 first step at which kappa is largest.
        flatter: (n,) bool, kappa at the last point below that at the clean point.
    """

    rise: np.ndarray
    flipped: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    peak: np.ndarray
    flatter: np.ndarray


def trace(
    module: torch.nn.Module,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    box: Box,
    *,
    steps: int,
    norm: Norm,
    report: Callable[[int], None] = lambda done: None,
) -> Path:
    """Follow projected gradient ascent from the clean rows, all steps, whatever happens to the label.

    The step is 2.5 radius / steps along the gradient's sign (linf) or its direction (l2, lengths in units of the box's
    radii). The objective's gradient points as that of the cross-entropy and does not vanish where that saturates.

    Args:
        module: In eval mode; its last linear layer gives the logits.
        logits_of: Inputs to (n, C) logits, differentiably.
        inputs: (n, ...) clean rows.
        labels: (n,) true classes.
        box: Largest change of every feature (linf) or the unit in which a change has length at most 1 (l2).
        steps: Steps of the attack.
        norm: Shape of the ball.
        report: Told how many rows are done.

    Returns:
        The path.

    Raises:
        NotApplicable: No last linear layer gives the logits.
    """
    parts: list[tuple[np.ndarray, ...]] = []

    def follow(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        parts.append(_follow(module, logits_of, x, y, box, steps, norm))
        report(sum(len(part[-1]) for part in parts))
        return y

    in_batches(follow, inputs, labels, size=ROWS, work="backward")
    return Path(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


def summarise(path: Path) -> Summary:
    """When rows flip, when kappa peaks, how high, and how they end; broken rows must have been taken out."""
    start, rise = path.kappa[0], relative(path.kappa).max(axis=0)
    ever = path.wrong.any(axis=0)
    flip = np.where(ever, path.wrong.argmax(axis=0), -1)
    flipped = path.wrong[-1]
    return Summary(rise, flipped, ever & ~flipped, flip, path.kappa.argmax(axis=0), path.kappa[-1] < start)


def relative(kappa: np.ndarray) -> np.ndarray:
    """(steps + 1, n) kappa over its start, NaN in rows where that is 0."""
    return np.where(kappa[0] > 0, kappa / np.where(kappa[0] > 0, kappa[0], 1.0), np.nan)


def without(path: Path, rows: np.ndarray) -> Path:
    """The path with some rows (n,) bool taken out."""
    return Path(*(np.asarray(part)[..., ~rows] for part in path))


def quartiles(values: np.ndarray) -> dict[str, tuple[float | None, ...]]:
    """Quartiles over rows of (points, n) values, NaN left out; None at points where nothing is left."""
    found = np.full((len(_QUARTERS), len(values)), np.nan)
    some = ~np.isnan(values).all(axis=1)
    found[:, some] = np.nanquantile(values[some], _QUARTERS, axis=1)
    names = ("low_quartile", "median", "high_quartile")
    return {name: _without_nan(row) for name, row in zip(names, found, strict=True)}


def aligned(values: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Values (steps + 1, n) shifted so that every row's flip lies at the same place.

    Args:
        values: By step and row.
        flip: (n,) step of each row's flip.

    Returns:
        (2 steps + 1, n): row index `steps` is the flip itself, NaN where a path does not reach.
    """
    steps = len(values) - 1
    place = np.arange(-steps, steps + 1)[:, None] + flip
    inside = (place >= 0) & (place <= steps)
    found = np.take_along_axis(values, np.clip(place, 0, steps), axis=0)
    return np.where(inside, found, np.nan)


def _without_nan(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _follow(
    module: torch.nn.Module,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    box: Box,
    steps: int,
    norm: Norm,
) -> tuple[np.ndarray, ...]:
    """Path of one chunk; everything stays on the device until its end."""
    clean, seen = x, [_seen(module, x, y)]
    broken = flat = torch.zeros_like(y, dtype=torch.bool)
    for step in range(steps):
        gradient = _gradient(logits_of, x, y)
        broken = broken | ~gradient.isfinite().flatten(1).all(dim=1)
        if step == 0:
            flat = ~((gradient != 0) & (box.radius > 0)).flatten(1).any(dim=1)
        x = _stepped(x, clean, gradient.nan_to_num(0.0, 0.0, 0.0), box, STEP_RATIO / steps, norm)
        seen.append(_seen(module, x, y))
    loss, kappa, wrong, confidence = map(torch.stack, zip(*seen, strict=True))
    broken = broken | ~(loss.isfinite() & kappa.isfinite()).all(dim=0)
    return tuple(part.cpu().numpy() for part in (loss, kappa, wrong, confidence[-1], broken, flat))


def _seen(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Loss, kappa, misclassified, probability of the predicted class; (n,) each."""
    layer = last_linear(module, x)
    binary = layer.logits.shape[1] == 1
    kind = flatness.Loss.SIGMOID if binary else flatness.Loss.SOFTMAX
    logits = torch.cat([torch.zeros_like(layer.logits), layer.logits], dim=1) if binary else layer.logits
    loss = flatness.per_sample_loss(kind, layer.logits, y)
    kappa = flatness.per_sample_trace(kind, layer.features, layer.weight, layer.logits)
    return loss, kappa, logits.argmax(dim=1) != y, logits.double().softmax(dim=1).amax(dim=1)


def _gradient(logits_of: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        total = objective(logits_of(x), y).sum()
        (gradient,) = torch.autograd.grad(total, x, materialize_grads=True, allow_unused=True)
    return gradient


def _stepped(
    x: torch.Tensor, clean: torch.Tensor, gradient: torch.Tensor, box: Box, stride: float, norm: Norm
) -> torch.Tensor:
    """The next point, inside the ball and the bounds."""
    if norm == "linf":
        low, high = box.around(clean)
        return torch.clamp(x + stride * box.radius * gradient.sign(), low, high)
    scaled = box.radius * gradient
    tiny = torch.finfo(x.dtype).tiny
    scaled = scaled / _largest(scaled).clamp_min(tiny)  # first by its largest entry, so that no square underflows
    way = torch.where(box.radius > 0, (x - clean) / box.radius, 0.0) + stride * scaled / _length(scaled).clamp_min(tiny)
    way = way / _length(way).clamp_min(1.0)
    low, high = (torch.where(box.radius > 0, end, clean) for end in (box.low, box.high))
    return torch.clamp(clean + box.radius * way, low, high)


def _length(rows: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return found.reshape(-1, *[1] * (rows.ndim - 1))


def _largest(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (rows.ndim - 1))
