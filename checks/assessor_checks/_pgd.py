"""Projected gradient descent against a classifier's inputs, in an L-infinity ball.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, "Towards Deep Learning Models Resistant to Adversarial
Attacks" (arXiv 1706.06083), section 2.1: x <- project(x + step * sign(grad_x loss)). An attack proves rows
non-robust and never proves a row robust: the share of rows left standing is an upper bound on robust accuracy.

Inputs are (n, ...), labels (n,) int64, all on one device; `logits_of` maps inputs to (n, C), differentiably.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from assessor.contract import NotApplicable

ROWS = 1024  # rows attacked at once; bounds memory
STEP_RATIO = 2.5  # step = 2.5 radius / steps, so that every point of the ball can be reached (Madry et al.)
_COMPACT_EVERY = 8  # steps between removals of fooled rows, each of which waits for the device

Logits = Callable[[torch.Tensor], torch.Tensor]


class Box(NamedTuple):
    """Where a row may be moved: within `radius` of itself and within [low, high]; each of a feature's shape.

    A feature of radius 0 is never moved, whatever its bounds.
    """

    radius: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def around(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper ends (n, ...) for these rows."""
        held = self.radius == 0
        low = torch.maximum(inputs - self.radius, self.low)
        high = torch.minimum(inputs + self.radius, self.high)
        return torch.where(held, inputs, low), torch.where(held, inputs, high)


@dataclass
class Attack:
    """What an attack found on n rows.

    Attributes:
        standing: (n,) bool, rows no tried point of which is misclassified.
        broken: (n,) bool, rows where a logit or a gradient was NaN or infinite on the way.
        flat: (n,) bool, rows whose gradient at the clean point is exactly 0 in every feature that may move.
        model_rows: Rows put through the model, with or without a backward pass.
    """

    standing: torch.Tensor
    broken: torch.Tensor
    flat: torch.Tensor
    model_rows: int = field(default=0)


def pgd(
    logits_of: Logits,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    box: Box,
    *,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Attack:
    """Attack every row until a point in its box is misclassified or the budget is spent.

    The first start is the clean point, the others are uniform in the box. Every point on the way counts, the clean
    one included. Fooled rows are dropped between starts and every 8 steps. More starts with the same seed never
    leave more rows standing.

    Args:
        logits_of: The model.
        inputs: (n, ...) clean rows.
        labels: (n,) true classes.
        box: Where rows may be moved.
        steps: Gradient steps a start.
        restarts: Starts.
        generator: Random numbers, on the inputs' device.

    Returns:
        What was found.

    Raises:
        NotApplicable: The logits do not depend differentiably on the inputs.
    """
    state = torch.zeros(3, len(inputs), dtype=torch.bool, device=inputs.device)
    found = Attack(~state[0], state[1], state[2])
    for start in range(restarts):
        pool = found.standing.nonzero().squeeze(1)
        for rows in pool.split(ROWS) if len(pool) else ():
            _ascend(logits_of, inputs[rows], labels[rows], rows, box, found, steps, generator if start else None)
    return found


def _ascend(
    logits_of: Logits,
    x: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
    box: Box,
    found: Attack,
    steps: int,
    generator: torch.Generator | None,
) -> None:
    """One start on some rows; marks what it finds in `found`. Without a generator it starts at the clean point."""
    low, high = box.around(x)
    if generator is not None:
        noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = torch.lerp(low, high, noise).clamp(low, high)
    stride = box.radius * (STEP_RATIO / steps)
    for step in range(steps):
        wrong, gradient, broken = _look(logits_of, x, labels, found)
        found.standing[rows] &= ~wrong
        found.broken[rows] |= broken
        if step == 0 and generator is None:
            found.flat[rows] = ~((gradient != 0) & (box.radius > 0)).flatten(1).any(dim=1)
        x = torch.clamp(x + stride * gradient.sign().nan_to_num(0.0), low, high)
        if step % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            keep = found.standing[rows].nonzero().squeeze(1)
            if not len(keep):
                return
            if len(keep) < len(rows):
                x, labels, rows, low, high = x[keep], labels[keep], rows[keep], low[keep], high[keep]
    with torch.no_grad():
        wrong, broken = _judge(logits_of(x), labels)
    found.standing[rows] &= ~wrong
    found.broken[rows] |= broken
    found.model_rows += len(x)


def _look(
    logits_of: Logits, x: torch.Tensor, labels: torch.Tensor, found: Attack
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n,) misclassified, (n, ...) gradient of the objective, (n,) broken at these points."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_of(x)
        if not logits.requires_grad:
            raise NotApplicable("the model's outputs do not depend differentiably on its inputs")
        (gradient,) = torch.autograd.grad(objective(logits, labels).sum(), x, materialize_grads=True, allow_unused=True)
    found.model_rows += len(x)
    wrong, broken = _judge(logits.detach(), labels)
    return wrong, gradient, broken | ~gradient.isfinite().flatten(1).all(dim=1)


def objective(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n,) log-odds against the true class: logsumexp of the other logits minus the true one.

    Its gradient in z is that of the cross-entropy divided by 1 - p_y > 0, so the steps' signs are the same; but it
    does not vanish where the softmax saturates, a common cause of masked gradients.

    >>> objective(torch.tensor([[0.0, 60.0]]), torch.tensor([1])).item()
    -60.0
    """
    true = labels[:, None]
    return logits.scatter(1, true, -torch.inf).logsumexp(dim=1) - logits.gather(1, true).squeeze(1)


def _judge(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) misclassified and (n,) not finite; a row whose logits are not finite is not called misclassified."""
    broken = ~logits.isfinite().all(dim=1)
    return (logits.argmax(dim=1) != labels) & ~broken, broken


class Siege:
    """Attacks one after the other on the same rows: a row once fooled is not attacked again.

    Attributes:
        rows: Number of rows at the start.
        standing: (k,) indices of the rows no attack has fooled yet.
        broken: (n,) bool, see `Attack`.
        flat: (n,) bool, see `Attack`; from the first attack.
        model_rows: Rows put through the model so far.
    """

    def __init__(
        self, logits_of: Logits, inputs: torch.Tensor, labels: torch.Tensor, *, steps: int, generator: torch.Generator
    ) -> None:
        """Begin with every row standing.

        Args:
            logits_of: The model.
            inputs: (n, ...) clean rows.
            labels: (n,) true classes.
            steps: Gradient steps a start.
            generator: Random numbers, on the inputs' device.
        """
        self._logits_of, self._inputs, self._labels = logits_of, inputs, labels
        self._steps, self._generator = steps, generator
        self.rows = len(labels)
        self.standing = torch.arange(len(labels), device=labels.device)
        self.broken = torch.zeros_like(labels, dtype=torch.bool)
        self.flat: torch.Tensor = self.broken[:0]
        self.model_rows = 0

    def attack(self, box: Box, *, restarts: int) -> int:
        """Number of rows standing after `pgd` in this box."""
        alive = self.standing
        found = pgd(
            self._logits_of,
            self._inputs[alive],
            self._labels[alive],
            box,
            steps=self._steps,
            restarts=restarts,
            generator=self._generator,
        )
        self.broken[alive] |= found.broken
        self.flat = self.flat if self.model_rows else found.flat
        return self._keep(found.standing, found.model_rows)

    def random_corners(self, box: Box, *, draws: int) -> int:
        """Number of rows standing after a search at random corners of the box."""
        x, y = self._inputs[self.standing], self._labels[self.standing]
        fooled = random_corners(self._logits_of, x, y, box, draws=draws, generator=self._generator)
        return self._keep(~fooled, draws * len(y))

    def _keep(self, which: torch.Tensor, model_rows: int) -> int:
        self.standing = self.standing[which]
        self.model_rows += model_rows
        return len(self.standing)


@torch.no_grad()
def random_corners(
    logits_of: Logits,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    box: Box,
    *,
    draws: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """(n,) bool: rows misclassified at one of `draws` random corners of their box, found without any gradient.

    Where this finds rows that a gradient attack left standing, the gradients mislead (Athalye, Carlini, Wagner
    2018, arXiv 1802.00420, section 3.1).
    """
    fooled = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    for rows in torch.arange(len(inputs), device=inputs.device).split(ROWS):
        low, high = box.around(inputs[rows])
        for _ in range(draws):
            coin = torch.rand(low.shape, generator=generator, device=low.device) < 0.5
            wrong, _ = _judge(logits_of(torch.where(coin, low, high)), labels[rows])
            fooled[rows] |= wrong
    return fooled
