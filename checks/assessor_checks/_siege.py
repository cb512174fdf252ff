"""What attacks on one test split share: the rows, the balls, who still stands, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from assessor.contract import Better, Metric, Need, NotApplicable, Series, Subject, Table, in_batches
from assessor_checks._balls import Ball, Box, Norm
from assessor_checks._inputs import Room, chosen_rows
from assessor_checks._intervals import CONFIDENCE, clopper_pearson
from assessor_checks._masking import refuse_batch_statistics
from assessor_checks._pgd import ROWS, Attack

NORMS = {"linf": "L-infinity", "l2": "L2"}


class Rows(NamedTuple):
    """The rows that count.

    Attributes:
        everything: (N, ...) the whole test split.
        chosen: (n, ...) rows taken from it.
        labels: (n,) their classes.
        right: (n,) bool, classified rightly before any attack.
        classes: Number of the model's classes.
    """

    everything: torch.Tensor
    chosen: torch.Tensor
    labels: torch.Tensor
    right: torch.Tensor
    classes: int


def rows_of(subject: Subject, most: int, seed: int) -> Rows:
    """Rows of the test split, chosen by the seed, and which of them the model gets right.

    Raises:
        NotApplicable: No gradients, an answer that depends on the batch, or outputs that are not finite.
    """
    if Need.GRADIENTS not in subject.offers:
        raise NotApplicable(
            "the model is no PyTorch module, so it gives no gradients to follow; use robustness.decision_attack, "
            "which asks for answers only"
        )
    refuse_batch_statistics(subject.module)
    everything, labels = subject.tensors("test")
    taken = torch.from_numpy(chosen_rows(len(labels), most, seed)).to(everything.device)
    chosen, labels = everything[taken], labels[taken]
    with torch.no_grad():
        logits = in_batches(subject.logits, chosen, size=ROWS)
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise NotApplicable(f"the model's outputs are not finite for {bad} of {len(chosen)} test rows")
    return Rows(everything, chosen, labels, logits.argmax(dim=1) == labels, logits.shape[1])


def ball(room: Room, eps: float, norm: Norm, like: torch.Tensor) -> Ball:
    """The ball of radius eps, in the room's units, within the room's bounds."""
    ends = (eps * room.scale, room.low, room.high)
    return Ball(Box(*(torch.from_numpy(np.asarray(end)).to(like.device, like.dtype) for end in ends)), norm)


def whole_range(x: torch.Tensor, bounds: tuple[float, float] | None) -> Ball:
    """Every value between the bounds, or between the least and the greatest of each feature in the data."""
    low, high = x.amin(dim=0), x.amax(dim=0)
    if bounds is not None:
        low, high = torch.full_like(low, bounds[0]), torch.full_like(high, bounds[1])
    return Ball(Box(high - low, low, high))


class Stage(NamedTuple):
    """One attack of a siege: on how many rows, how many it fooled, how many met NaN, and its cost in model rows."""

    name: str
    attacked: int
    fooled: int
    broken: int
    model_rows: int


class Siege:
    """Attacks one after the other on the same rows: a row once fooled is not attacked again.

    Attributes:
        standing: (k,) indices of the rows no attack has fooled yet.
        broken: (n,) bool, rows where an output or a gradient was not finite.
        flat: (n,) bool, rows whose gradient was exactly 0 at the first point of the first attack.
        stages: What each attack did.
    """

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Begin with every row (n, ...) standing.

        Args:
            inputs: Rows that the model gets right.
            labels: (n,) their classes.
        """
        self.inputs, self.labels = inputs, labels
        self.standing = torch.arange(len(labels), device=labels.device)
        self.broken = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        self.flat = torch.zeros_like(self.broken)
        self.stages: list[Stage] = []

    def attack(self, name: str, method: Callable[[torch.Tensor, torch.Tensor], Attack]) -> int:
        """Number of rows standing after an attack on those that still did.

        Args:
            name: Of the attack, for the table.
            method: Takes rows and labels.

        Returns:
            That number.
        """
        alive = self.standing
        found = method(self.inputs[alive], self.labels[alive]) if len(alive) else Attack.begun(self.inputs[:0])
        self.broken[alive] |= found.broken
        if not self.stages:
            self.flat[alive] = found.flat
        self.standing = alive[found.standing]
        fooled = len(alive) - len(self.standing)
        self.stages.append(Stage(name, len(alive), fooled, int(found.broken.sum()), found.model_rows))
        return len(self.standing)


def share(name: str, count: int, n: int, better: Better, method: str, *, primary: bool = False) -> Metric:
    """A share of rows with its Clopper-Pearson interval."""
    value, low, high = clopper_pearson(count, n)
    return Metric(
        name=name,
        value=value,
        low=low,
        high=high,
        confidence=CONFIDENCE,
        n=n,
        better=better,
        method=method,
        primary=primary,
    )


def shares(n: int, correct: int, standing: int, how: str) -> tuple[Metric, ...]:
    """Robust accuracy, clean accuracy and, where a row was attacked, the share of attacks that succeeded."""
    found = [
        share("robust_accuracy", standing, n, Better.HIGHER, how, primary=True),
        share("clean_accuracy", correct, n, Better.HIGHER, "the same rows; 95 % Clopper-Pearson"),
    ]
    if correct:
        fooled = correct - standing
        found.append(share("attack_success_rate", fooled, correct, Better.LOWER, f"of rows right before; {how}"))
    return tuple(found)


def by_class(rows: Rows, siege: Siege, classes: Sequence[str]) -> Table:
    """Clean and robust accuracy of every class that occurs, with the interval of the latter."""
    labels = rows.labels.cpu().numpy()
    right = rows.right.cpu().numpy()
    stands = np.zeros(len(labels), dtype=bool)
    stands[np.flatnonzero(right)[siege.standing.cpu().numpy()]] = True
    lines = []
    for index in np.unique(labels):
        mine = labels == index
        n = int(mine.sum())
        robust = clopper_pearson(int(stands[mine].sum()), n)
        lines.append((classes[index], n, float(right[mine].mean()), *robust))
    return Table(
        name="classes",
        title="Robust accuracy by class",
        columns=("class", "rows", "clean accuracy", "robust accuracy", "low", "high"),
        rows=tuple(lines),
    )


def stage_table(siege: Siege) -> Table:
    """Every attack with the rows it was tried on, fooled and did not fool."""
    return Table(
        name="attacks",
        title="Attacks in their order, each on the rows that still stood",
        columns=(
            "attack",
            "rows attacked",
            "fooled",
            "not fooled",
            "met NaN or infinity",
            "rows put through the model",
        ),
        rows=tuple((s.name, s.attacked, s.fooled, s.attacked - s.fooled, s.broken, s.model_rows) for s in siege.stages),
    )


def curve(sizes: Sequence[float], counts: Sequence[int], n: int) -> Series:
    """Robust accuracy by size of the ball."""
    columns = zip(*(clopper_pearson(count, n) for count in counts), strict=True)
    named = dict(zip(("robust_accuracy", "low", "high"), columns, strict=True))
    return Series(name="curve", title="Robust accuracy by size of the ball", columns={"eps": tuple(sizes), **named})


def unit_remark(rows: Rows, room: Room, bounds: tuple[float, float] | None) -> str:
    """The data's range, beside which eps is to be read, and to what range moved values are kept."""
    free = torch.from_numpy(np.broadcast_to(room.scale > 0, rows.everything.shape[1:]).copy())
    moved = rows.everything.flatten(1)[:, free.flatten().to(rows.everything.device)]
    low, high = float(moved.min()), float(moved.max())
    if bounds is None:
        return (
            f"The features that may move range from {low:g} to {high:g} in the test rows; moved values are not kept to "
            "a range, since no bounds are given."
        )
    return (
        f"The features that may move range from {low:g} to {high:g} in the test rows; moved values are kept between "
        f"{bounds[0]:g} and {bounds[1]:g}."
    )
