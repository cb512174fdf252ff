"""Accuracy under the standard ensemble of attacks: APGD-CE, APGD-T, FAB-T and Square, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from assessor.contract import Check, CheckInfo, Need, Params, Result, Series, Subject, Task, kept, progress

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._balls import Ball
    from assessor_checks._inputs import Room
    from assessor_checks._masking import Signs
    from assessor_checks._pgd import Attack
    from assessor_checks._siege import Rows, Siege

COMPARED = 200  # rows on which a short and a long climb are compared
MEMBERS = ("APGD-CE", "APGD-T", "FAB-T", "Square")
INFO = CheckInfo(
    id="robustness.autoattack",
    version="1",
    title="Accuracy under the standard ensemble of attacks (AutoAttack)",
    measures=(
        "The share of test rows that are classified rightly at every point that four attacks try within a given "
        "distance of the row: two gradient attacks that set their own steps, one that seeks the nearest boundary, and "
        "a random search without gradients. It is an upper bound on the robust accuracy, and the number that public "
        "leaderboards compare."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "An attack proves no robustness: one made for this model may fool rows that stand here. Only a certificate "
        "bounds the robust accuracy from below.",
        "Only changes of single inputs within the stated distance are tried; no rotations, patches, corruptions, "
        "poisoning or attacks on the rest of the system.",
        "Models that randomise their answers, mask their gradients or optimise something for every answer look better "
        "than they are; the doubt of the result names signs of it, and silence is no proof.",
        "The interval covers the sampling of rows only, not the weakness of the attacks.",
        "With other budgets than the defaults the number cannot be compared with published ones.",
    ),
    remedy=(
        "Train on attacked inputs (adversarial training, Madry et al. 2018; TRADES), restrict what an attacker can "
        "change, reject inputs far from the data; then measure again with the same distance. Where the random search "
        "fooled rows that the gradient attacks left standing, look for what masks the gradients first."
    ),
    source=(
        "Croce and Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, ICML 2020, arXiv 2003.01690, section 5 (standard version); FAB: arXiv 1907.02044; Square: "
        "Andriushchenko et al. 2020, arXiv 1912.00049; interval: Clopper and Pearson 1934"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
)


class AutoAttackParams(Params):
    """Parameters of robustness.autoattack; the budgets are those of the standard version."""

    eps: float = Field(default=0.1, gt=0, description="Largest distance of a changed row, in the unit of scale.")
    norm: Literal["linf", "l2"] = Field(
        default="linf", description="Distance: largest change of a feature, or Euclidean length of all changes."
    )
    scale: Literal["absolute", "feature_std"] = Field(
        default="absolute",
        description="Unit of eps: the features' own, or each feature's standard deviation over the train split "
        "(test split without one); the latter holds columns of at most two values fixed.",
    )
    steps: int = Field(default=100, ge=1, le=10_000, description="Steps of APGD and of FAB, for each target.")
    targets: int = Field(default=9, ge=1, le=1000, description="Likeliest wrong classes APGD-T and FAB-T head for.")
    queries: int = Field(default=5000, ge=1, le=1_000_000, description="Points that Square tries for a row.")
    bounds: tuple[float, float] | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows attacked at most, chosen by the seed.")


class _Case(NamedTuple):
    """What all members share."""

    subject: Subject
    params: AutoAttackParams
    rows: Rows
    siege: Siege
    room: Room
    seed: int

    @property
    def ball(self) -> Ball:
        from assessor_checks._siege import ball

        return ball(self.room, self.params.eps, self.params.norm, self.siege.inputs)

    def generator(self, place: int) -> torch.Generator:
        """Random numbers of a member of its own, so that a run that goes on draws the same."""
        import torch

        return torch.Generator(self.siege.inputs.device).manual_seed(self.seed * len(MEMBERS) + place)


def measure(subject: Subject, params: AutoAttackParams, seed: int) -> Result:
    """Robust accuracy with its interval, what each attack broke, and signs of masked gradients.

    Args:
        subject: A PyTorch classifier.
        params: Distance, budget, what may be changed.
        seed: Seed of the rows' choice and of the attacks.

    Returns:
        Metrics, the accuracy after each attack, and tables of the classes, the attacks and the sanity checks.

    Raises:
        NotApplicable: The inputs cannot be perturbed, or the model gives no finite logits or no gradients.
    """
    from assessor_checks import _inputs, _masking, _siege

    room = _inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    rows = _siege.rows_of(subject, params.max_samples, seed)
    siege = _siege.Siege(rows.chosen[rows.right], rows.labels[rows.right])
    case = _Case(subject, params, rows, siege, room, seed)
    after = _besieged(case)
    signs = _signs(case)
    n, correct = len(rows.labels), len(siege.labels)
    how = (
        f"upper bound: {_siege.NORMS[params.norm]} AutoAttack, eps {params.eps:g} ({params.scale}), {params.steps} "
        f"steps, {min(params.targets, rows.classes - 1)} targets, {params.queries} queries, seed {seed}; 95 % "
        "Clopper-Pearson, sampling of rows only"
    )
    return Result(
        metrics=_siege.shares(n, correct, after[-1], how),
        series=(_steps([correct, *after], n),),
        tables=(
            _siege.by_class(rows, siege, subject.classes),
            _siege.stage_table(siege),
            _masking.table(signs),
        ),
        remarks=(*room.remarks, *_remarks(case, signs)),
        doubt=_masking.doubt(signs),
    )


def most_rows(n: int, classes: int, params: AutoAttackParams) -> int:
    """Rows that the four attacks put through the model at most, if no row falls.

    Args:
        n: Rows attacked.
        classes: Of the model.
        params: The budgets.

    Returns:
        That number.
    """
    targets = min(params.targets, classes - 1)
    climb = params.steps + 1
    fab = 2 * params.steps + 1
    return n * (climb + 1 + targets * climb + 1 + targets * fab + 1 + params.queries)


def _besieged(case: _Case) -> list[int]:
    """Rows standing after each member; what a member found is kept for a run that goes on."""
    params, siege = case.params, case.siege
    most, after = most_rows(len(siege.labels), case.rows.classes, params), []
    for place, (name, member) in enumerate(_members(case).items()):
        progress(f"AutoAttack, at most {most} rows through the model: attacks", place, len(MEMBERS))
        key = [name, params.model_dump(mode="json"), case.seed]

        def found(
            x: torch.Tensor, y: torch.Tensor, key: Any = key, place: int = place, member: _Member = member
        ) -> Attack:
            return _restored(kept(key, lambda: _plain(member(x, y, case.generator(place)))), x)

        after.append(siege.attack(name, found))
    return after


_Member = Callable[["torch.Tensor", "torch.Tensor", "torch.Generator"], "Attack"]


def _members(case: _Case) -> Mapping[str, _Member]:
    """The four attacks by name; with two classes APGD-T climbs the margin, for the DLR loss needs a third logit."""
    from assessor_checks import _apgd, _fab, _square
    from assessor_checks._pgd import Loss, Plan, campaign

    logits_of, params, ball = case.subject.logits, case.params, case.ball
    loss: Loss = "dlr" if case.rows.classes > 2 else "margin"
    first = Plan(_apgd.climb, params.steps, clean_start=False, name="APGD-CE")
    aimed = first._replace(loss=loss, targets=params.targets, name="APGD-T")
    return {
        "APGD-CE": lambda x, y, generator: campaign(logits_of, x, y, ball, first, generator),
        "APGD-T": lambda x, y, generator: campaign(logits_of, x, y, ball, aimed, generator),
        "FAB-T": lambda x, y, _: _fab.fab(logits_of, x, y, ball, steps=params.steps, targets=params.targets)[0],
        "Square": lambda x, y, generator: _square.square(
            logits_of, x, y, ball, queries=params.queries, generator=generator
        ),
    }


def _plain(found: Attack) -> Any:
    """What was found as plain data."""
    marks = (found.standing, found.broken, found.flat)
    return [*(mark.nonzero().squeeze(1).tolist() for mark in marks), found.model_rows]


def _restored(plain: Any, inputs: torch.Tensor) -> Attack:
    from assessor_checks._pgd import Attack

    found = Attack.begun(inputs)
    found.standing[:] = False
    for mark, indices in zip((found.standing, found.broken, found.flat), plain[:3], strict=True):
        mark[indices] = True
    found.model_rows = plain[3]
    return found


def _signs(case: _Case) -> Signs:
    from assessor_checks import _apgd, _masking, _pgd, _siege

    siege, params, logits_of = case.siege, case.params, case.subject.logits
    if not len(siege.labels):
        return _masking.Signs(rows=0, standing=0, unsteady=0, broken=0, flat=0, still=0)
    x, y, alive, generator = siege.inputs, siege.labels, siege.standing, case.generator(len(MEMBERS) - 1)
    plan, unfooled = _pgd.Plan(_apgd.climb, params.steps, 2, clean_start=False, name="sanity checks"), None
    if not case.room.held:
        whole = _siege.whole_range(case.rows.everything, params.bounds)
        unfooled = int(_pgd.campaign(logits_of, x[alive], y[alive], whole, plan, generator).standing.sum())
    return _masking.Signs(
        rows=len(y),
        standing=len(alive),
        unsteady=int(_masking.unsteady(logits_of, x).sum()),
        broken=int(siege.broken.sum()),
        flat=int(siege.flat[alive].sum()),
        still=int(_masking.still(logits_of, x[alive], case.ball, generator).sum()),
        blind=siege.stages[-1].fooled,
        lost=_masking.lost_by_steps(logits_of, x[:COMPARED], y[:COMPARED], case.ball, plan),
        lost_of=len(y[:COMPARED]),
        unfooled=unfooled,
    )


def _steps(counts: list[int], n: int) -> Series:
    """Robust accuracy after each attack; 0 is before the first."""
    from assessor_checks._intervals import clopper_pearson

    columns = zip(*(clopper_pearson(count, n) for count in counts), strict=True)
    named = dict(zip(("robust_accuracy", "low", "high"), columns, strict=True))
    return Series(name="after", title="Robust accuracy after each attack", columns={"attack": (0, 1, 2, 3, 4), **named})


def _remarks(case: _Case, signs: Signs) -> tuple[str, ...]:
    from assessor_checks import _siege

    rows, params = case.rows, case.params
    passed = sum(stage.model_rows for stage in case.siege.stages)
    remarks = [
        f"{len(rows.labels)} of {len(rows.everything)} test rows; the attacks put {passed} rows through the model, of "
        f"{most_rows(len(case.siege.labels), rows.classes, params)} if no row had fallen. Each attack was tried on the "
        "rows that the ones before it had left standing.",
        _siege.unit_remark(rows, case.room, params.bounds),
    ]
    if rows.classes == 2:
        remarks.append(
            "With two classes the DLR loss of APGD-T is not defined; it climbed the difference of the two logits "
            "instead, from another start than APGD-CE."
        )
    if rows.classes == 3:
        remarks.append("With three classes the DLR loss of APGD-T has no fourth logit; the third took its place.")
    if not signs.rows:
        remarks.append("No row is classified rightly before the attack, so there is nothing to attack.")
    if case.room.held:
        remarks.append("Not tried, since features are held fixed: an attack with the whole range of the data allowed.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Robust accuracy after each attack, with its interval."""
    columns = result.series[0].columns
    places: Any = columns["attack"]
    value, low, high = (columns[name] for name in ("robust_accuracy", "low", "high"))
    axes.fill_between(places, low, high, color="0.85", step="mid")  # type: ignore[arg-type]
    axes.plot(places, value, "o-", color="black", drawstyle="steps-mid")  # type: ignore[arg-type]
    axes.set_xticks(places, ["none", *MEMBERS])
    axes.set_ylim(0, 1)
    axes.set_xlabel("after the attack")
    axes.set_ylabel("robust accuracy (upper bound)")


CHECK = Check(info=INFO, params=AutoAttackParams, measure=measure, plot=plot)
