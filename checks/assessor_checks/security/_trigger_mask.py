"""The smallest patch that turns rows into a class: trigger inversion by gradients, all classes at once.

Source: Wang, Yao, Shan, Li, Viswanath, Zheng, Zhao 2019, "Neural Cleanse" (IEEE Symposium on Security and Privacy),
section IV: a mask m and a pattern p minimise loss(class, f((1 - m) x + m p)) + lambda |m|_1, lambda rising while
the patch works and falling while it does not. The module is only run, never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from assessor.contract import Cell, NotApplicable, Subject, in_batches, progress
from assessor_checks._gradient_attributions import answers
from assessor_checks.security._trigger import Triggers

BATCH = 32  # rows a class and step, as in Wang et al.
RATE = 0.2  # of Adam; twice theirs, with a fifth of their steps
BETAS = (0.5, 0.9)  # of Adam, theirs
LAMBDA = 0.03  # at the start; it soon finds its level
FACTOR = 1.05  # of lambda a step
SHOWN = 10  # entries of a patch that are told
_MEMORY = 0.8  # of the running share of rows turned
_ENTRIES = 2**23  # entries of patched rows held at once

Logits = Callable[[torch.Tensor], torch.Tensor]


class Room(NamedTuple):
    """Least and greatest value that a pattern may have, of an input's shape."""

    low: torch.Tensor
    high: torch.Tensor


class Patches(NamedTuple):
    """A patch for each of k classes.

    Attributes:
        mask: (k, ...) from 0 to 1, how much of an entry is replaced; channels share it, of which there is one here.
        pattern: (k, ...) values put in.
        found: (k,) bool, whether the patch turned the wanted share of rows while it was sought.
    """

    mask: torch.Tensor
    pattern: torch.Tensor
    found: torch.Tensor

    @property
    def sizes(self) -> torch.Tensor:
        """(k,) share of the input that is replaced."""
        return self.mask.flatten(1).mean(dim=1)

    def on(self, x: torch.Tensor, position: int) -> torch.Tensor:
        """Rows x (n, ...) with one of the patches."""
        return x + self.mask[position] * (self.pattern[position] - x)


def search_all(
    subject: Subject, rows: np.ndarray, bounds: tuple[float, float] | None, *, steps: int, goal: float, seed: int
) -> Triggers:
    """A patch for every class; the first half of the rows seeks it, the second judges it.

    Args:
        subject: A PyTorch classifier.
        rows: (n,) positions in the test split.
        bounds: Least and greatest value in a patch, or None for those in the test split.
        steps: Of the search.
        goal: Share of rows a patch must turn.
        seed: Of starts and batches.

    Returns:
        What was found.

    Raises:
        NotApplicable: All rows are of one class for the model, or something is not finite.
    """
    everything, _ = subject.tensors("test")
    x = everything[torch.from_numpy(rows).to(everything.device)]
    half, predicted = len(x) // 2, torch.from_numpy(answers(subject, x)).to(x.device)
    for part in (predicted[:half], predicted[half:]):
        if bool((part == part[0]).all()):
            raise NotApplicable("the model gives one class to all rows of a half, so none can be turned into it")
    classes, room = torch.arange(len(subject.classes), device=x.device), _room(everything, bounds)
    found = invert(subject.logits, x[:half], predicted[:half], classes, room, steps=steps, goal=goal, seed=seed)
    if not bool(found.mask.isfinite().all()):
        raise NotApplicable("the model's outputs or gradients are not finite on the way to a patch")
    outside = [x[half:][predicted[half:] != target] for target in range(len(classes))]
    return Triggers(
        sizes=[size if ok else None for size, ok in zip(found.sizes.tolist(), found.found.tolist(), strict=True)],
        turned=[
            int((answers(subject, found.on(others, target)) == target).sum()) for target, others in enumerate(outside)
        ],
        unseen=[len(others) for others in outside],
        parts=[_entries(*patch) for patch in zip(found.mask, found.pattern, strict=True)],
    )


def _room(x: torch.Tensor, bounds: tuple[float, float] | None) -> Room:
    """Bounds of a pattern: those given, or the least and greatest value in the data; of each column in a table."""
    if bounds is not None:
        return Room(torch.full_like(x[0], bounds[0]), torch.full_like(x[0], bounds[1]))
    if x.ndim == 2:
        return Room(x.amin(dim=0), x.amax(dim=0))
    return Room(x.min().expand_as(x[0]), x.max().expand_as(x[0]))


def _entries(mask: torch.Tensor, pattern: torch.Tensor) -> list[list[Cell]]:
    """Where the mask is strongest, first: place, weight, value (mean over channels)."""
    weight, value = mask.double().cpu().numpy(), pattern.double().cpu().numpy()
    if weight.shape != value.shape:
        value = value.mean(axis=0, keepdims=True)
    order = (-weight).argsort(axis=None, kind="stable")[:SHOWN].tolist()
    return [
        [_place(position, weight.shape), float(weight.flat[position]), float(value.flat[position])]
        for position in order
    ]


def _place(position: int, shape: tuple[int, ...]) -> str:
    """Row and column of an entry of a picture, or its number in a table."""
    return ", ".join(str(int(part)) for part in np.unravel_index(position, shape)[-2:])


def invert(
    logits_of: Logits,
    x: torch.Tensor,
    predicted: torch.Tensor,
    classes: torch.Tensor,
    room: Room,
    *,
    steps: int,
    goal: float,
    seed: int,
) -> Patches:
    """A small patch for each class that turns rows of other classes into it.

    Args:
        logits_of: The model, (n, ...) to (n, C).
        x: (n, ...) rows; three dimensions a row are channels, height and width, and channels share the mask.
        predicted: (n,) what the model says of them without a patch.
        classes: (k,) classes sought; for each, some row must be predicted otherwise.
        room: Values a pattern may have.
        steps: Of Adam.
        goal: Share of rows a patch must turn.
        seed: Of starts and batches.

    Returns:
        The smallest patch of each class that reached the goal on its way, else the last one.
    """
    flat = x[0].numel()
    done = 0

    def some(chosen: torch.Tensor) -> torch.Tensor:
        nonlocal done
        search = _Search(logits_of, x, predicted, chosen, room, goal, seed)
        for step in range(steps):
            search.step()
            progress("steps towards patches", done * steps + (step + 1) * len(chosen), steps * len(classes))
        done += len(chosen)
        return search.best()

    together = in_batches(some, classes, size=max(1, _ENTRIES // (BATCH * flat)))
    shape, held = x.shape[1:], _mask_shape(x)
    size = torch.Size(held).numel()
    return Patches(together[:, :size].reshape(-1, *held), together[:, size:-1].reshape(-1, *shape), together[:, -1] > 0)


def _mask_shape(x: torch.Tensor) -> tuple[int, ...]:
    return (1, *x.shape[2:]) if x.ndim == 4 else tuple(x.shape[1:])


class _Search:
    """Masks and patterns of some classes on their way, and the best so far."""

    def __init__(
        self,
        logits_of: Logits,
        x: torch.Tensor,
        predicted: torch.Tensor,
        classes: torch.Tensor,
        room: Room,
        goal: float,
        seed: int,
    ) -> None:
        self._logits_of, self._x, self._classes, self._room, self._goal = logits_of, x, classes, room, goal
        self._generator = torch.Generator(x.device).manual_seed(seed)
        self._others = (predicted[None] != classes[:, None]).double()
        count = len(classes)
        self._free = [
            torch.randn((count, *shape), generator=self._generator, device=x.device, dtype=x.dtype).requires_grad_(True)
            for shape in (_mask_shape(x), x.shape[1:])
        ]
        self._adam = torch.optim.Adam(self._free, lr=RATE, betas=BETAS)
        self._weight = torch.full((count,), LAMBDA, device=x.device, dtype=x.dtype)
        self._turned = torch.zeros(count, device=x.device, dtype=x.dtype)
        self._kept = torch.cat([self._patches().detach(), torch.zeros_like(self._weight)[:, None]], dim=1)
        self._size = torch.full_like(self._weight, torch.inf)

    def _patches(self) -> torch.Tensor:
        mask, pattern = (free.sigmoid() for free in self._free)
        return torch.cat([mask.flatten(1), torch.lerp(self._room.low, self._room.high, pattern).flatten(1)], dim=1)

    def step(self) -> None:
        """One step of Adam on a batch of rows for each class; no row of the class itself is among them."""
        x = self._x[torch.multinomial(self._others, BATCH, replacement=True, generator=self._generator)]
        mask, pattern = (free.sigmoid() for free in self._free)
        values = torch.lerp(self._room.low, self._room.high, pattern)
        patched = x + mask[:, None] * (values[:, None] - x)
        logits = self._logits_of(patched.flatten(0, 1)).unflatten(0, x.shape[:2])
        wanted = self._classes[:, None].expand(x.shape[:2])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        size = mask.flatten(1).sum(dim=1)
        total = (loss.view(x.shape[:2]).mean(dim=1) + self._weight * size).sum()
        for free, gradient in zip(self._free, torch.autograd.grad(total, self._free), strict=True):
            free.grad = gradient
        self._note((logits.argmax(dim=2) == wanted).to(x.dtype).mean(dim=1), size.detach())
        self._adam.step()

    @torch.no_grad()
    def _note(self, share: torch.Tensor, size: torch.Tensor) -> None:
        """Keep the smallest patches that work, and set how much size counts from now on."""
        self._turned = _MEMORY * self._turned + (1 - _MEMORY) * share
        works = self._turned >= self._goal
        better = works & (share >= self._goal) & (size < self._size)
        self._size = torch.where(better, size, self._size)
        now = torch.cat([self._patches(), torch.ones_like(size)[:, None]], dim=1)
        self._kept = torch.where(better[:, None], now, self._kept)
        self._weight *= torch.where(works, FACTOR, 1 / FACTOR)

    def best(self) -> torch.Tensor:
        """(k, mask + pattern + 1) masks, patterns, and 1 where one reached the goal."""
        return self._kept
