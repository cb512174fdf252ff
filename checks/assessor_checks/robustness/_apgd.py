"""APGD: projected gradient ascent with momentum that halves its step where it makes no headway and needs no tuning.

Source: Croce, Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks" (ICML, arXiv 2003.01690), algorithm 1 and sections 3.1 to 3.3. The step begins at twice the radius; at the
checkpoints it is halved, and the climb goes on from the best point so far, where (1) at most 75 % of the steps since
the last checkpoint raised the loss or (2) the step was not halved there and the best loss is what it was.

The cross-entropy is log(1 + e^v) of the log-odds v that `_pgd.Goal` climbs: both rise at the same points and have the
same steepest directions, so the climb is the same, and it goes on where the cross-entropy has no gradient left.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from assessor_checks._balls import Neighbourhood, column
from assessor_checks._pgd import COMPACT_EVERY, Goal, Logits, Tally, look

MOMENTUM = 0.75  # share of the new step; the rest repeats the last move (alpha of the paper)
FIRST_STEP = 2.0  # in radii
RISES = 0.75  # share of rising steps up to which a step is halved (rho of the paper)


def checkpoints(steps: int) -> tuple[int, ...]:
    """Steps after which the step size is looked at: 22 % of the budget, then ever shorter stretches, at least 6 %.

    Section 3.1, p_1 = 0.22 and p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), rounded down as the authors' code does.

    >>> checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)
    """
    stretch, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, at = [], stretch
    while at <= steps:
        found.append(at)
        stretch = max(stretch - less, least)
        at += stretch
    return tuple(found)


class _Climber(NamedTuple):
    """State of the rows at work, each (n, ...) or (n,)."""

    x: torch.Tensor
    before: torch.Tensor
    gradient: torch.Tensor
    value: torch.Tensor
    best: torch.Tensor
    best_gradient: torch.Tensor
    best_value: torch.Tensor
    size: torch.Tensor
    rises: torch.Tensor
    halved: torch.Tensor
    checked_value: torch.Tensor

    def rows(self, keep: torch.Tensor) -> _Climber:
        return _Climber(*(part.index_select(0, keep) for part in self))

    def moved(self, x: torch.Tensor, gradient: torch.Tensor, value: torch.Tensor) -> _Climber:
        """After one step to x."""
        better = value > self.best_value
        wide = column(better, x)
        return self._replace(
            x=x,
            before=self.x,
            gradient=gradient,
            value=value,
            best=torch.where(wide, x, self.best),
            best_gradient=torch.where(wide, gradient, self.best_gradient),
            best_value=torch.where(better, value, self.best_value),
            rises=self.rises + (value > self.value),
        )

    def checked(self, stretch: int) -> _Climber:
        """After a checkpoint: steps halved where there was no headway, and back to the best point there."""
        stuck = ~self.halved & (self.best_value <= self.checked_value)
        halved = (self.rises <= RISES * stretch) | stuck
        wide = column(halved, self.x)
        return self._replace(
            x=torch.where(wide, self.best, self.x),
            gradient=torch.where(wide, self.best_gradient, self.gradient),
            size=torch.where(halved, self.size / 2, self.size),
            rises=torch.zeros_like(self.rises),
            halved=halved,
            checked_value=self.best_value,
        )


def climb(logits_of: Logits, x: torch.Tensor, near: Neighbourhood, goal: Goal, steps: int) -> Tally:
    """Ascent for `_pgd.campaign`; every point on the way counts.

    Args:
        logits_of: The model.
        x: (n, ...) where to start, within the neighbourhoods.
        near: Where the rows may be moved.
        goal: What is climbed.
        steps: Gradient steps.

    Returns:
        What was found.
    """
    tally, due = Tally(x, logits_of), checkpoints(steps)
    logits, value, gradient = look(logits_of, x, goal)
    tally.note(logits, goal.labels, gradient, points=x)
    tally.note_flat(gradient, near.ball)
    at, last = _begun(x, gradient, value), 0
    for step in range(steps):
        aimed = near.inside(near.stepped(at.x, at.gradient, at.size))
        if step:
            aimed = aimed.mul_(MOMENTUM).add_(at.x, alpha=2 - 2 * MOMENTUM).sub_(at.before, alpha=1 - MOMENTUM)
            aimed = near.inside(aimed)
        logits, value, gradient = look(logits_of, aimed, goal)
        tally.note(logits, goal.labels, gradient, points=aimed)
        at = at.moved(aimed, gradient, value)
        if step + 1 in due:
            at, last = at.checked(step + 1 - last), step + 1
        if step % COMPACT_EVERY == 0 and (keep := tally.survivors()) is not None:
            if not len(keep):
                break
            at, near, goal = at.rows(keep), near.rows(keep), goal.rows(keep)
    return tally


def _begun(x: torch.Tensor, gradient: torch.Tensor, value: torch.Tensor) -> _Climber:
    return _Climber(
        x=x,
        before=x,
        gradient=gradient,
        value=value,
        best=x,
        best_gradient=gradient,
        best_value=value,
        size=torch.full_like(value, FIRST_STEP),
        rises=torch.zeros_like(value),
        halved=torch.ones_like(value, dtype=torch.bool),
        checked_value=value,
    )
