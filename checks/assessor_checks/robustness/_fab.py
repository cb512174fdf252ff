"""FAB: the nearest misclassified point, by projection onto the linearised boundary within the allowed range.

Source: Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack" (ICML, arXiv
1907.02044), algorithm 1 with sections 3.1 to 3.4; targeted as in arXiv 2003.01690: the boundary to one other class at
a time, which needs one backward pass a step. All lengths are in radii of the ball, so that 1 is its surface.

Instead of the paper's final bisection, a point found outside the ball is drawn back to its surface and judged there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from assessor.contract import in_batches, progress
from assessor_checks._balls import Ball, length_of, level
from assessor_checks._pgd import COMPACT_EVERY, ROWS, Attack, Goal, Logits, Tally, likeliest_wrong, look

BACK_MOST = 0.1  # greatest weight of the original row (alpha_max of the paper)
OVERSHOOT = 1.05  # beyond the linearised boundary (eta)
BACKWARD = 0.9  # a misclassified point is drawn back to this share of its distance (beta)
_TINY = 1e-30  # below every length that matters


class Space(NamedTuple):
    """Rows as offsets from themselves in radii, one row of m numbers each; a feature held fixed has none.

    Attributes:
        clean: (n, ...) the rows.
        low: (n, m) least offsets, at most 0.
        high: (n, m) greatest offsets, at least 0.
        ball: Where rows may be moved; of its box only radius and bounds count here.
    """

    clean: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    ball: Ball

    @staticmethod
    def around(inputs: torch.Tensor, ball: Ball) -> Space:
        """The space of these rows (n, ...)."""
        ends = ((end - inputs) * ball.box.per_radius for end in (ball.box.low, ball.box.high))
        low, high = (end.nan_to_num(0.0, torch.inf, -torch.inf).flatten(1) for end in ends)
        return Space(inputs, low.clamp_max(0.0), high.clamp_min(0.0), ball)

    def rows(self, keep: torch.Tensor) -> Space:
        """That of some rows."""
        clean, low, high = (part.index_select(0, keep) for part in (self.clean, self.low, self.high))
        return Space(clean, low, high, self.ball)

    def point(self, offset: torch.Tensor) -> torch.Tensor:
        """(n, ...) inputs at these offsets (n, m), within the bounds to the last digit."""
        box = self.ball.box
        moved = torch.addcmul(self.clean, offset.reshape(self.clean.shape), box.radius)
        return torch.where(box.radius == 0, self.clean, torch.clamp(moved, box.low, box.high))

    def length(self, offset: torch.Tensor) -> torch.Tensor:
        """(n,) lengths of offsets in the ball's norm."""
        return offset.abs().amax(dim=1) if self.ball.norm == "linf" else length_of(offset)


class _Work(NamedTuple):
    """State of the rows at work.

    Attributes:
        space: Where they may be moved.
        goal: The difference of logits to the other class.
        offset: (n, m) where they are.
        nearest: (n,) length of the shortest misclassified offset, infinite if there is none yet.
        best: (n, m) that offset.
    """

    space: Space
    goal: Goal
    offset: torch.Tensor
    nearest: torch.Tensor
    best: torch.Tensor

    @staticmethod
    def begun(space: Space, goal: Goal) -> _Work:
        zero = torch.zeros_like(space.clean).flatten(1)
        return _Work(space, goal, zero, torch.full_like(zero[:, 0], torch.inf), zero)

    def rows(self, keep: torch.Tensor) -> _Work:
        rest = (part.index_select(0, keep) for part in self[2:])
        return _Work(self.space.rows(keep), self.goal.rows(keep), *rest)


def onto_plane(offset: torch.Tensor, normal: torch.Tensor, missing: torch.Tensor, space: Space) -> torch.Tensor:
    """(n, m) shortest move within the ends after which normal . move = missing; as far as they allow where none is.

    With signs such that normal . move must grow: for "linf" every feature moves by the same l, for "l2" by
    l |normal_i|, each until its end (sections 3.1 and supplement of arXiv 1907.02044).

    Args:
        offset: (n, m) where the move begins.
        normal: (n, m) gradient of the linearised difference of logits.
        missing: (n, 1) its wanted change.
        space: The ends.

    Returns:
        The moves.
    """
    way = normal * missing.sign()
    room = torch.where(way > 0, space.high - offset, offset - space.low).clamp_min(0.0)
    steep = way.abs()
    if space.ball.norm == "linf":
        far = torch.minimum(level(steep, room, missing.abs()), room)
        return way.sign() * far
    caps = torch.where(steep > 0, room / steep, 0.0)
    return way * torch.minimum(level(way.square(), caps, missing.abs()), caps)


def fab(
    logits_of: Logits, inputs: torch.Tensor, labels: torch.Tensor, ball: Ball, *, steps: int, targets: int
) -> tuple[Attack, torch.Tensor]:
    """Head for the boundaries to the likeliest wrong classes, one after the other, from the clean row.

    Rows whose nearest misclassified point lies within the ball are fooled, and left out from then on.

    Args:
        logits_of: The model.
        inputs: (n, ...) clean rows.
        labels: (n,) true classes, each the model's answer at its row.
        ball: Where rows may be moved.
        steps: Steps a target, each of two passes.
        targets: Number of wrong classes tried.

    Returns:
        What was found, and (n,) the shortest distance at which a row was misclassified, in radii; infinite if never.
    """
    found = Attack.begun(inputs)
    nearest = torch.full((len(inputs),), torch.inf, dtype=inputs.dtype, device=inputs.device)
    if not len(inputs):
        return found, nearest
    aims = likeliest_wrong(logits_of, inputs, labels, targets)
    found.model_rows += len(inputs)
    for done, aim in enumerate(aims.unbind(1)):
        progress("FAB, classes headed for", done, aims.shape[1])
        pool = found.standing.nonzero().squeeze(1)
        if not len(pool):
            break

        def some(rows: torch.Tensor, aim: torch.Tensor = aim) -> torch.Tensor:
            work = _Work.begun(Space.around(inputs[rows], ball), Goal(labels[rows], aim[rows], "margin"))
            tally, distance = _approach(logits_of, work, steps)
            nearest[rows] = torch.minimum(nearest[rows], distance)
            found.model_rows += tally.model_rows
            return tally.close()

        marks = in_batches(some, pool, size=ROWS, work="backward")
        found.mark(pool, marks)
    return found, nearest


def _approach(logits_of: Logits, work: _Work, steps: int) -> tuple[Tally, torch.Tensor]:
    """Algorithm 1 for one other class a row: the marks and (n,) the shortest distance found."""
    tally, nearest = Tally(work.space.clean), work.nearest.clone()
    rows = torch.arange(len(nearest), device=nearest.device)
    for step in range(steps):
        work = _stepped(logits_of, work, tally)
        nearest[rows] = work.nearest
        if step % COMPACT_EVERY == COMPACT_EVERY - 1 and (keep := tally.survivors()) is not None:
            rows, work = rows[keep], work.rows(keep)
            if not len(keep):
                return tally, nearest
    back = work.best / _wide(work.nearest.clamp_min(1.0))
    work = _judged(logits_of, work, back, tally)
    nearest[rows] = work.nearest
    return tally, nearest


def _stepped(logits_of: Logits, work: _Work, tally: Tally) -> _Work:
    """One step: towards the linearised boundary from here and from the clean row, a little beyond, and judged."""
    space, offset = work.space, work.offset
    logits, value, gradient = look(logits_of, space.point(offset), work.goal)
    tally.note(logits, work.goal.labels, gradient, within=space.length(offset) <= 1)
    normal = (gradient * space.ball.box.radius).flatten(1).nan_to_num(0.0, 0.0, 0.0)
    short = -_wide(value)
    here = onto_plane(offset, normal, short, space)
    home = onto_plane(torch.zeros_like(offset), normal, short + (normal * offset).sum(1, keepdim=True), space)
    lengths = space.length(here), space.length(home)
    share = _wide(lengths[0] / (lengths[0] + lengths[1]).clamp_min(_TINY)).clamp_max(BACK_MOST)
    moved = torch.lerp(offset + OVERSHOOT * here, OVERSHOOT * home, share)
    return _judged(logits_of, work, torch.clamp(moved, space.low, space.high), tally)


@torch.no_grad()
def _judged(logits_of: Logits, work: _Work, offset: torch.Tensor, tally: Tally) -> _Work:
    """The work at a new offset; where that is misclassified, part of the way back."""
    length = work.space.length(offset)
    wrong = tally.note(logits_of(work.space.point(offset)), work.goal.labels, within=length <= 1)
    nearer = wrong & (length < work.nearest)
    return work._replace(
        offset=torch.where(_wide(wrong), BACKWARD * offset, offset),
        nearest=torch.where(nearer, length, work.nearest),
        best=torch.where(_wide(nearer), offset, work.best),
    )


def _wide(per_row: torch.Tensor) -> torch.Tensor:
    return per_row[:, None]
