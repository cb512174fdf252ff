"""Gradient attacks on a classifier's inputs: what is climbed, from which starts, and projected gradient descent.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, "Towards Deep Learning Models Resistant to Adversarial
Attacks" (arXiv 1706.06083), section 2.1: x <- project(x + step * steepest direction of the loss). An attack proves
rows non-robust and never proves a row robust: the share of rows left standing is an upper bound on robust accuracy.

Inputs are (n, ...), labels (n,) int64, all on one device; `logits_of` maps inputs to (n, C), differentiably.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import torch

from assessor.contract import NotApplicable, in_batches, progress
from assessor_checks._balls import FAR, NEAR, Ball, Box, Neighbourhood
from assessor_checks._mixed import Claims, Mixed

ROWS = 1024  # rows attacked at once; bounds memory
STEP_RATIO = 2.5  # step = 2.5 radius / steps, so that every point of the ball can be reached (Madry et al.)
COMPACT_EVERY = 4  # steps between removals of fooled rows, each of which waits for the device
_WORTH = 0.95  # share still standing from which a removal costs more than it saves

__all__ = [
    "ROWS",
    "STEP_RATIO",
    "Attack",
    "Box",
    "Climb",
    "Goal",
    "Logits",
    "Loss",
    "Plan",
    "Tally",
    "ascend",
    "campaign",
    "dlr",
    "likeliest_wrong",
    "look",
    "mixed",
    "objective",
]  # with Box, which lives beside the balls

Logits = Callable[[torch.Tensor], torch.Tensor]
Loss = Literal["ce", "dlr", "margin"]


class Goal(NamedTuple):
    """What an attack climbs.

    Attributes:
        labels: (n,) true classes.
        targets: (n,) classes to be reached, or None for any other than the true one.
        loss: "ce" is the log-odds that order points as the cross-entropy does; "dlr" the difference of logits ratio;
            "margin" the largest wrong logit, or the target's, minus the true one.
    """

    labels: torch.Tensor
    targets: torch.Tensor | None = None
    loss: Loss = "ce"

    def rows(self, keep: torch.Tensor) -> Goal:
        """That of some rows."""
        return Goal(self.labels[keep], None if self.targets is None else self.targets[keep], self.loss)

    def climbed(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,) how far up a row is, and (n, C) the gradient of that in the logits but for a positive factor a row.

        For "margin" it is the very gradient. Written out because autograd takes longer than a small network.
        """
        true = self.labels[:, None]
        if self.loss == "dlr":
            return _dlr_climbed(logits, true, None if self.targets is None else self.targets[:, None])
        if self.loss == "margin":
            others = logits.scatter(1, true, -torch.inf)
            aim = others.argmax(dim=1, keepdim=True) if self.targets is None else self.targets[:, None]
            slope = torch.zeros_like(logits).scatter_(1, aim, 1.0).scatter_(1, true, -1.0)
            return (logits.gather(1, aim) - logits.gather(1, true)).squeeze(1), slope
        if self.targets is None:
            return _odds_climbed(logits, true)
        value, slope = _odds_climbed(logits, self.targets[:, None])
        return value.neg_(), slope.neg_()


def objective(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n,) log-odds against the true class: logsumexp of the other logits minus the true one.

    Its gradient in z is that of the cross-entropy divided by 1 - p_y > 0, so the steps' signs are the same; but it
    does not vanish where the softmax saturates, a common cause of masked gradients.

    >>> objective(torch.tensor([[0.0, 60.0]]), torch.tensor([1])).item()
    -60.0
    """
    true = labels[:, None]
    return logits.scatter(1, true, -torch.inf).logsumexp(dim=1) - logits.gather(1, true).squeeze(1)


def _odds_climbed(logits: torch.Tensor, true: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`objective` and its gradient times the sum of exp(z_i - max z) over the other classes, and `_strong`."""
    others = logits.scatter(1, true, -torch.inf)
    top = others.amax(dim=1, keepdim=True)
    weights = others.sub_(top).exp_()
    total = weights.sum(dim=1, keepdim=True)
    slope = weights.scatter_(1, true, -total).mul_(_strong(logits))
    return top.add_(total.log_()).sub_(logits.gather(1, true)).squeeze(1), slope


def _strong(logits: torch.Tensor) -> float:
    """A factor for slopes with which squares of faint gradients do not underflow."""
    return math.sqrt(math.sqrt(torch.finfo(logits.dtype).max))


def dlr(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """(n,) difference of logits ratio (Croce and Hein 2020, arXiv 2003.01690, eq. 6; towards a target eq. 7).

    (max of the other logits - z_y) / (z_1st - z_3rd), towards t (z_t - z_y) / (z_1st - (z_3rd + z_4th) / 2); with
    three classes there is no fourth, and the third takes its place. Positive where a row is misclassified; unlike the
    cross-entropy it does not change when logits are shifted or scaled.

    Args:
        logits: (n, C) with C at least 3.
        labels: (n,) true classes.
        targets: (n,) classes to be reached, or None.

    Returns:
        The ratio.

    Raises:
        NotApplicable: There are fewer than three classes.

    >>> dlr(torch.tensor([[4.0, 3.0, 2.0]]), torch.tensor([0])).item()
    -0.5
    """
    return _dlr_climbed(logits, labels[:, None], None if targets is None else targets[:, None])[0]


def _dlr_climbed(
    logits: torch.Tensor, true: torch.Tensor, aim: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`dlr` and its gradient times the ratio's denominator, and `_strong`."""
    if logits.shape[1] < 3:
        raise NotApplicable("the DLR loss divides by a third logit and there are two classes; use loss: ce")
    top, order = logits.topk(min(4, logits.shape[1]), dim=1)
    low, lows = (top[:, 2:3], order[:, 2:3]) if aim is None else (top[:, 2:].mean(1, keepdim=True), order[:, 2:])
    if aim is None:
        aim = torch.where(order[:, :1] == true, order[:, 1:2], order[:, :1])
    value = (logits.gather(1, aim) - logits.gather(1, true)) / (top[:, :1] - low + 1e-12)
    slope = torch.zeros_like(logits).scatter_(1, aim, 1.0).scatter_(1, true, -1.0)
    slope.scatter_add_(1, order[:, :1], -value).scatter_add_(1, lows, (value / lows.shape[1]).expand(lows.shape))
    return value.squeeze(1), slope.mul_(_strong(logits))


@dataclass
class Attack:
    """What an attack found on n rows.

    Attributes:
        standing: (n,) bool, rows no tried point of which is misclassified.
        broken: (n,) bool, rows where a logit or a gradient was NaN or infinite on the way.
        flat: (n,) bool, rows whose gradient at the first point tried is exactly 0 in every feature that may move.
        model_rows: Rows put through the model, with or without a backward pass.
    """

    standing: torch.Tensor
    broken: torch.Tensor
    flat: torch.Tensor
    model_rows: int = field(default=0)

    @staticmethod
    def begun(inputs: torch.Tensor) -> Attack:
        """Nothing found yet: all rows stand."""
        marks = torch.zeros(3, len(inputs), dtype=torch.bool, device=inputs.device)
        return Attack(~marks[0], marks[1], marks[2])

    def mark(self, rows: torch.Tensor, marks: torch.Tensor) -> None:
        """Note (k, 3) standing, broken, flat of some rows (k,)."""
        self.standing[rows] &= marks[:, 0]
        self.broken[rows] |= marks[:, 1]
        self.flat[rows] |= marks[:, 2]


def look(logits_of: Logits, x: torch.Tensor, goal: Goal) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n, C) logits, (n,) value of the goal, (n, ...) its gradient in the inputs but for a positive factor a row.

    Raises:
        NotApplicable: The logits do not depend differentiably on the inputs.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_of(x)
    if not logits.requires_grad:
        raise NotApplicable("the model's outputs do not depend differentiably on its inputs")
    found = logits.detach()
    value, slope = goal.climbed(found)
    (gradient,) = torch.autograd.grad(logits, x, grad_outputs=slope, materialize_grads=True, allow_unused=True)
    return found, value, gradient


class Tally:
    """Marks of the rows of one batch while fooled ones are taken out of the work.

    Attributes:
        marks: (n, 3) standing, broken, flat; up to date after `close`.
        model_rows: Rows put through the model.
    """

    def __init__(self, inputs: torch.Tensor, logits_of: Logits | None = None) -> None:
        """Begin with all rows (n, ...) standing and at work; what `Mixed` logits claim is confirmed first."""
        n, device = len(inputs), inputs.device
        self.marks = torch.zeros(n, 3, dtype=torch.bool, device=device)
        self.marks[:, 0] = True
        self.model_rows = 0
        self._rows = torch.arange(n, device=device)
        self._alive = self.marks[:, 0].clone()
        self._wide = torch.promote_types(inputs.dtype, torch.float32)  # half precision would overflow
        self._sums = torch.zeros(n, dtype=self._wide, device=device)  # of all seen: not finite where anything was not
        self._claims = Claims(inputs, logits_of.full) if isinstance(logits_of, Mixed) else None

    def note(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        gradient: torch.Tensor | None = None,
        within: torch.Tensor | None = None,
        points: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Note what one pass of the rows at work showed.

        Args:
            logits: (k, C).
            labels: (k,) true classes.
            gradient: (k, ...) if there was a backward pass.
            within: (k,) bool, points that lie where a row may be moved; all if None.
            points: (k, ...) what was passed; only a search by `Mixed` needs them.

        Returns:
            (k,) bool, misclassified points; never one whose logits are not finite.
        """
        sums = logits.sum(dim=1, dtype=self._wide)
        wrong = logits.argmax(dim=1) != labels
        wrong &= (sums - sums) == 0  # false for NaN and infinity, and cheaper than isfinite
        fooled = wrong if within is None else wrong & within
        if self._claims is None or points is None:
            self._alive &= ~fooled
        else:
            self._claims.note(fooled, points, labels)
        self._sums += sums
        if gradient is not None:
            self._sums += gradient.flatten(1).sum(dim=1, dtype=self._wide)
        self.model_rows += len(logits)
        return wrong

    def note_flat(self, gradient: torch.Tensor, ball: Ball) -> None:
        """Mark rows whose first gradient is 0 wherever they may move."""
        self.marks[:, 2] = ~((gradient != 0) & (ball.box.radius > 0)).flatten(1).any(dim=1)

    def survivors(self) -> torch.Tensor | None:
        """Positions of the rows that stand among those at work, which they are from now on; None while few fell."""
        self._settle()
        keep = self._alive.nonzero().squeeze(1)
        if len(keep) > _WORTH * len(self._rows):
            return None
        self.close()
        self._rows, self._alive, self._sums = self._rows[keep], self._alive[keep], self._sums[keep]
        if self._claims is not None:
            self._claims.keep(keep)
        return keep

    def close(self) -> torch.Tensor:
        """The marks (n, 3), brought up to date."""
        self._settle()
        self.marks[self._rows, 0] = self._alive
        self.marks[self._rows, 1] = ~self._sums.isfinite()
        return self.marks

    def _settle(self) -> None:
        if self._claims is not None:
            fallen, looked_at = self._claims.confirmed(self._alive)
            self._alive[fallen] = False
            self.model_rows += looked_at


Climb = Callable[[Logits, torch.Tensor, Neighbourhood, Goal, int], Tally]
"""Climbs from a start (n, ...) within its neighbourhoods in so many steps."""


def mixed(climb: Climb) -> Climb:
    """The climb in mixed precision; a row falls only where the model in full precision gets a point of it wrong."""
    return partial(_climbed, climb)


def _climbed(climb: Climb, logits_of: Logits, x: torch.Tensor, near: Neighbourhood, goal: Goal, steps: int) -> Tally:
    return climb(Mixed(logits_of), x, near, goal, steps)


def ascend(logits_of: Logits, x: torch.Tensor, near: Neighbourhood, goal: Goal, steps: int) -> Tally:
    """Steps of one size, each projected back; every point on the way counts."""
    tally, size = Tally(x, logits_of), STEP_RATIO / steps
    rounds = NEAR if size <= 0.1 else FAR
    gone = 0.0 if x is near.clean else 1.0  # from the clean row, in radii, at most
    for step in range(steps):
        logits, _, gradient = look(logits_of, x, goal)
        tally.note(logits, goal.labels, gradient, points=x)
        if step == 0:
            tally.note_flat(gradient, near.ball)
        gone += size
        x = near.inside(near.stepped(x, gradient, size), rounds if gone > 1 else 0)
        if step % COMPACT_EVERY == COMPACT_EVERY - 1 and (keep := tally.survivors()) is not None:
            if not len(keep):
                return tally
            x, near, goal = x.index_select(0, keep), near.rows(keep), goal.rows(keep)
    with torch.no_grad():
        tally.note(logits_of(x), goal.labels, points=x)
    return tally


class Plan(NamedTuple):
    """How rows are attacked.

    Attributes:
        climb: `ascend`, or that of another attack.
        steps: Steps a start.
        restarts: Starts, for each loss and target.
        losses: What is climbed, one after the other.
        targets: So many of the likeliest wrong classes are headed for, one after the other; 0 heads for any.
        clean_start: Whether the first start is the clean point; the others are uniform in the ball.
        name: Of the attack, for those who wait for it.
    """

    climb: Climb
    steps: int
    restarts: int = 1
    losses: tuple[Loss, ...] = ("ce",)
    targets: int = 0
    clean_start: bool = True
    name: str = "PGD"


def campaign(
    logits_of: Logits,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    ball: Ball,
    plan: Plan,
    generator: torch.Generator,
) -> Attack:
    """Climb from several starts, perhaps towards several classes, until a row is misclassified or the budget is spent.

    Rows once fooled are left out, which is valid for models that answer the same each time. More starts with the same
    seed never leave more rows standing.

    Args:
        logits_of: The model.
        inputs: (n, ...) clean rows.
        labels: (n,) true classes.
        ball: Where rows may be moved.
        plan: The attack and its budget.
        generator: Random numbers, on the inputs' device.

    Returns:
        What was found.
    """
    found = Attack.begun(inputs)
    aims: Sequence[torch.Tensor | None] = (None,)
    if plan.targets and len(inputs):
        aims = likeliest_wrong(logits_of, inputs, labels, plan.targets).unbind(1)
        found.model_rows += len(inputs)
    turns = list(itertools.product(range(plan.restarts), plan.losses, aims))
    for done, (start, loss, aim) in enumerate(turns):
        progress(f"{plan.name}, starts", done, len(turns))
        pool = found.standing.nonzero().squeeze(1)
        if not len(pool):
            break
        at_clean = plan.clean_start and start == 0

        goal = Goal(labels, aim, loss)

        def some(rows: torch.Tensor, goal: Goal = goal, at_clean: bool = at_clean) -> torch.Tensor:
            near = ball.near(inputs[rows])
            x = near.clean if at_clean else near.random(generator)
            tally = plan.climb(logits_of, x, near, goal.rows(rows), plan.steps)
            found.model_rows += tally.model_rows
            return tally.close()

        marks = in_batches(some, pool, size=ROWS, work="backward")
        if done:
            marks[:, 2] = False  # flat is said of the first point
        found.mark(pool, marks)
    return found


@torch.no_grad()
def likeliest_wrong(logits_of: Logits, inputs: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """(n, k) wrong classes of the largest logits at the clean rows, largest first; k is `count` or all there are."""
    logits = in_batches(logits_of, inputs, size=ROWS, work="forward")
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices
