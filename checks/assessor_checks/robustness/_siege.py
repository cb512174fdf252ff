"""What attacks on one test split share: the rows, the balls, who still stands, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from assessor.contract import Better, Metric, Need, NotApplicable, Outcomes, Subject, Table, in_batches
from assessor_checks._balls import Ball, Box, Norm
from assessor_checks._inputs import Room, Scale, chosen_rows, room
from assessor_checks._intervals import CONFIDENCE, clopper_pearson
from assessor_checks._pgd import ROWS, Attack, Logits, Plan, campaign
from assessor_checks.robustness import _masking
from assessor_checks.robustness._masking import Signs, lost_by_steps, refuse_batch_statistics, still, unsteady
from assessor_checks.robustness._reach import joined, unit_doubt

COMPARED = 200  # rows on which a short and a long climb are compared
NORMS = {"linf": "L-infinity", "l2": "L2"}


class Attacked(Protocol):
    """Parameters that every check by attacks has."""

    @property
    def eps(self) -> float:
        """Largest distance of a changed row."""
        ...

    @property
    def scale(self) -> Scale:
        """Unit of eps."""
        ...

    @property
    def frozen(self) -> tuple[str, ...]:
        """Columns the attacker cannot change."""
        ...

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Least and greatest valid feature value."""
        ...

    @property
    def max_samples(self) -> int:
        """Rows attacked at most."""
        ...


class Rows(NamedTuple):
    """The rows that count.

    Attributes:
        everything: (N, ...) the whole test split.
        chosen: (n, ...) rows taken from it.
        labels: (n,) their classes.
        right: (n,) bool, classified rightly before any attack.
        places: (n,) where they stand in the split.
        classes: Number of the model's classes.
    """

    everything: torch.Tensor
    chosen: torch.Tensor
    labels: torch.Tensor
    right: torch.Tensor
    places: np.ndarray
    classes: int


def rows_of(subject: Subject, most: int, seed: int) -> Rows:
    """Rows of the test split, chosen by the seed, and which of them the model gets right.

    Raises:
        NotApplicable: No gradients, an answer that depends on the batch, or outputs that are not finite.
    """
    refuse_without_gradients(subject)
    everything, labels = subject.tensors("test")
    places = chosen_rows(len(labels), most, seed)
    taken = torch.from_numpy(places).to(everything.device)
    chosen, labels = everything[taken], labels[taken]
    with torch.no_grad():
        logits = in_batches(subject.logits, chosen, size=ROWS, work="forward")
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise NotApplicable(f"the model's outputs are not finite for {bad} of {len(chosen)} test rows")
    return Rows(everything, chosen, labels, logits.argmax(dim=1) == labels, places, logits.shape[1])


def refuse_without_gradients(subject: Subject) -> None:
    """Refuse a subject whose outputs cannot be differentiated by its inputs, row by row.

    Raises:
        NotApplicable: It is no PyTorch module, answers depend on the batch, or outputs are cut off from inputs.
    """
    if Need.GRADIENTS not in subject.offers:
        raise NotApplicable(
            "the model is no PyTorch module, so it gives no gradients to follow; use robustness.decision_attack, "
            "which asks for answers only"
        )
    refuse_batch_statistics(subject.module)
    row = subject.tensors("test")[0][:1]
    if not row.is_floating_point():
        return  # told by those who look at the inputs
    with torch.enable_grad():
        out = subject.logits(row.detach().requires_grad_(True))
    if not out.requires_grad:
        raise NotApplicable(
            "the model's outputs do not depend differentiably on its inputs, so there is no gradient to follow; use "
            "robustness.decision_attack, which asks for answers only"
        )


def ball(case: Case, eps: float, norm: Norm) -> Ball:
    """The ball of radius eps, in the room's units, within its bounds."""
    like = case.siege.inputs
    ends = (eps * case.room.scale, case.room.low, case.room.high)
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


class Case(NamedTuple):
    """Rows under siege, and how far each feature may be moved.

    Attributes:
        rows: All rows that count.
        siege: Of those that the model gets right.
        room: Units, bounds and features held fixed.
    """

    rows: Rows
    siege: Siege
    room: Room


def begun(subject: Subject, params: Attacked, seed: int) -> Case:
    """The rows and their siege before the first attack.

    Raises:
        NotApplicable: The inputs cannot be perturbed, or the model gives no finite logits or no gradients.
    """
    found = room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    rows = rows_of(subject, params.max_samples, seed)
    return Case(rows, Siege(rows.chosen[rows.right], rows.labels[rows.right]), found)


def signs(
    case: Case,
    logits_of: Logits,
    near: Ball,
    plan: Plan,
    bounds: tuple[float, float] | None,
    generator: torch.Generator,
) -> Signs:
    """Sanity checks of a siege whose last attack asked for no gradients.

    Args:
        case: Rows and siege.
        logits_of: The model.
        near: The ball of the attacks.
        plan: The gradient attack, of which the sanity checks use two starts.
        bounds: Least and greatest valid feature value.
        generator: Random numbers, on the rows' device.

    Returns:
        What was seen.
    """
    siege, alive = case.siege, case.siege.standing
    x, y = siege.inputs, siege.labels
    if not len(y):
        return Signs(rows=0, standing=0, unsteady=0, broken=0, flat=0, still=0)
    plan, unfooled = plan._replace(restarts=2, name="sanity checks"), None
    whole = whole_range(case.rows.everything, bounds)
    if not case.room.held and bool((whole.box.radius > 0).any()):
        unfooled = int(campaign(logits_of, x[alive], y[alive], whole, plan, generator).standing.sum())
    return Signs(
        rows=len(y),
        standing=len(alive),
        unsteady=int(unsteady(logits_of, x).sum()),
        broken=int(siege.broken.sum()),
        flat=int(siege.flat[alive].sum()),
        still=int(still(logits_of, x[alive], near, generator).sum()),
        blind=siege.stages[-1].fooled,
        lost=lost_by_steps(logits_of, x[:COMPARED], y[:COMPARED], near, plan),
        lost_of=len(y[:COMPARED]),
        unfooled=unfooled,
    )


def doubt(subject: Subject, case: Case, params: Attacked, found: Signs) -> str | None:
    """Why the numbers must not be judged, or None: a distance in the wrong unit, or an attack that failed."""
    return joined(unit_doubt(subject, case.room.scale, params.eps, params.scale), _masking.doubt(found))


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


def shares(case: Case, standing: int, how: str) -> tuple[Metric, ...]:
    """Robust accuracy, clean accuracy and, where a row was attacked, the share of attacks that succeeded."""
    n, correct = len(case.rows.labels), len(case.siege.labels)
    found = [
        share("robust_accuracy", standing, n, Better.HIGHER, how, primary=True),
        share("clean_accuracy", correct, n, Better.HIGHER, "the same rows; 95 % Clopper-Pearson"),
    ]
    if correct:
        fooled = correct - standing
        found.append(share("attack_success_rate", fooled, correct, Better.LOWER, f"of rows right before; {how}"))
    return tuple(found)


def outcomes(case: Case, subject: Subject) -> tuple[Outcomes, ...]:
    """Which rows stand after the last attack."""
    return Outcomes.of("robust_accuracy", _standing(case), subject.splits["test"], case.rows.places)


def _standing(case: Case) -> np.ndarray:
    """(n,) bool, rows that are right and that no attack has fooled."""
    stands = np.zeros(len(case.rows.labels), dtype=bool)
    stands[np.flatnonzero(case.rows.right.cpu().numpy())[case.siege.standing.cpu().numpy()]] = True
    return stands


def by_class(case: Case, classes: Sequence[str]) -> Table:
    """Clean and robust accuracy of every class that occurs, with the interval of the latter; the least robust first."""
    labels, right, stands = case.rows.labels.cpu().numpy(), case.rows.right.cpu().numpy(), _standing(case)
    lines = []
    for index in sorted(np.unique(labels), key=lambda index: float(stands[labels == index].mean())):
        mine = labels == index
        n = int(mine.sum())
        robust = clopper_pearson(int(stands[mine].sum()), n)
        lines.append((classes[index], n, float(right[mine].mean()), *robust))
    return Table(
        name="classes",
        title="Robust accuracy by class, the least first",
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


def shown(counts: Sequence[int], n: int) -> dict[str, tuple[float, ...]]:
    """Columns of a series: robust accuracy with its interval, from counts of standing rows."""
    columns = zip(*(clopper_pearson(count, n) for count in counts), strict=True)
    return dict(zip(("robust_accuracy", "low", "high"), columns, strict=True))


def precision_remark(precision: str) -> list[str]:
    """Where gradients were followed in bfloat16."""
    if precision == "full":
        return []
    return [
        "Gradients were followed in mixed precision (bfloat16); every row that counts as fooled was confirmed in full "
        "precision."
    ]


def unit_remark(case: Case, bounds: tuple[float, float] | None) -> str:
    """The data's range, beside which eps is to be read, and to what range moved values are kept."""
    everything = case.rows.everything
    free = torch.from_numpy(np.broadcast_to(case.room.scale > 0, everything.shape[1:]).copy())
    moved = everything.flatten(1)[:, free.flatten().to(everything.device)]
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
