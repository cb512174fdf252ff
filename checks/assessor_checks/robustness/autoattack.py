"""Accuracy under the standard ensemble of attacks: APGD-CE, APGD-T, FAB-T and Square, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from assessor.contract import Bounds, Check, CheckInfo, Need, Params, Result, Series, Subject, Task, kept, progress

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._balls import Ball
    from assessor_checks._pgd import Attack, Plan
    from assessor_checks.robustness._masking import Signs
    from assessor_checks.robustness._siege import Case

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
    mixed=True,
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
    bounds: Bounds | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows attacked at most, chosen by the seed.")
    precision: Literal["full", "mixed"] = Field(
        default="full",
        description="mixed: gradients are followed in bfloat16, which is faster on a GPU; a row counts as fooled only "
        "where full precision confirms it.",
    )


class _Attacker(NamedTuple):
    """What all members share."""

    subject: Subject
    params: AutoAttackParams
    case: Case
    seed: int

    @property
    def ball(self) -> Ball:
        from assessor_checks.robustness._siege import ball

        return ball(self.case, self.params.eps, self.params.norm)

    @property
    def plan(self) -> Plan:
        """APGD-CE."""
        from assessor_checks import _pgd
        from assessor_checks.robustness import _apgd

        climb = _pgd.mixed(_apgd.climb) if self.params.precision == "mixed" else _apgd.climb
        return _pgd.Plan(climb, self.params.steps, clean_start=False, name=MEMBERS[0])

    @property
    def most_rows(self) -> int:
        """Rows put through the model if none falls."""
        return most_rows(len(self.case.siege.labels), self.case.rows.classes, self.params)

    def generator(self, place: int) -> torch.Generator:
        """Random numbers of a member of its own, so that a run that goes on draws the same."""
        import torch

        return torch.Generator(self.case.siege.inputs.device).manual_seed(self.seed * (len(MEMBERS) + 1) + place)


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
    from assessor_checks.robustness import _masking, _siege

    case = _siege.begun(subject, params, seed)
    attacker = _Attacker(subject, params, case, seed)
    after, classes = _besieged(attacker), case.rows.classes
    last = attacker.generator(len(MEMBERS))
    signs = _siege.signs(case, subject.logits, attacker.ball, attacker.plan, params.bounds, last)
    how = (
        f"upper bound: {_siege.NORMS[params.norm]} AutoAttack, eps {params.eps:g} ({params.scale}), {params.steps} "
        f"steps, {min(params.targets, classes - 1)} targets, {params.queries} queries, seed {seed}; 95 % "
        "Clopper-Pearson, sampling of rows only"
    )
    shown = _siege.shown([len(case.siege.labels), *after], len(case.rows.labels))
    columns = {"attack": tuple(range(len(MEMBERS) + 1)), **shown}  # 0 is before the first
    return Result(
        metrics=_siege.shares(case, after[-1], how),
        series=(Series(name="after", title="Robust accuracy after each attack", columns=columns),),
        tables=(_siege.by_class(case, subject.classes), _siege.stage_table(case.siege), _masking.table(signs)),
        remarks=(*case.room.remarks, *_remarks(attacker, signs)),
        outcomes=_siege.outcomes(case, subject),
        doubt=_siege.doubt(subject, case, params, signs),
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


def _besieged(attacker: _Attacker) -> list[int]:
    """Rows standing after each member; what a member found is kept for a run that goes on."""
    after = []
    for place, (name, member) in enumerate(_members(attacker).items()):
        progress(f"AutoAttack, at most {attacker.most_rows} rows through the model: attacks", place, len(MEMBERS))
        key = [name, attacker.params.model_dump(mode="json"), attacker.seed]

        def found(
            x: torch.Tensor, y: torch.Tensor, key: Any = key, place: int = place, member: _Member = member
        ) -> Attack:
            return _restored(kept(key, lambda: _plain(member(x, y, attacker.generator(place)))), x)

        after.append(attacker.case.siege.attack(name, found))
    return after


_Member = Callable[["torch.Tensor", "torch.Tensor", "torch.Generator"], "Attack"]


def _members(attacker: _Attacker) -> Mapping[str, _Member]:
    """The four attacks by name; with two classes APGD-T climbs the margin, for the DLR loss needs a third logit."""
    from assessor_checks._pgd import Loss, campaign
    from assessor_checks.robustness import _fab, _square

    logits_of, params, ball, first = attacker.subject.logits, attacker.params, attacker.ball, attacker.plan
    loss: Loss = "dlr" if attacker.case.rows.classes > 2 else "margin"
    aimed = first._replace(losses=(loss,), targets=params.targets, name=MEMBERS[1])
    found: tuple[_Member, ...] = (
        lambda x, y, generator: campaign(logits_of, x, y, ball, first, generator),
        lambda x, y, generator: campaign(logits_of, x, y, ball, aimed, generator),
        lambda x, y, _: _fab.fab(logits_of, x, y, ball, steps=params.steps, targets=params.targets)[0],
        lambda x, y, generator: _square.square(logits_of, x, y, ball, queries=params.queries, generator=generator),
    )
    return dict(zip(MEMBERS, found, strict=True))


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


def _remarks(attacker: _Attacker, signs: Signs) -> tuple[str, ...]:
    from assessor_checks.robustness import _siege

    case, classes = attacker.case, attacker.case.rows.classes
    passed = sum(stage.model_rows for stage in case.siege.stages)
    n, available = len(case.rows.labels), len(case.rows.everything)
    remarks = [
        f"{n} of {available} test rows; the attacks put {passed} rows through the model, of {attacker.most_rows} if "
        "no row had fallen. Each attack was tried on the rows that the ones before it had left standing.",
        _siege.unit_remark(case, attacker.params.bounds),
    ]
    remarks += _siege.precision_remark(attacker.params.precision)
    if classes == 2:
        remarks.append(
            "With two classes the DLR loss of APGD-T is not defined; it climbed the difference of the two logits "
            "instead, from another start than APGD-CE."
        )
    if classes == 3:
        remarks.append("With three classes the DLR loss of APGD-T has no fourth logit; the third took its place.")
    if not signs.rows:
        remarks.append("No row is classified rightly before the attack, so there is nothing to attack.")
    if case.room.held:
        remarks.append("Not tried, since features are held fixed: an attack with the whole range of the data allowed.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Robust accuracy after each attack, with its interval."""
    columns = result.series[0].arrays
    places: Any = columns["attack"]
    value, low, high = (columns[name] for name in ("robust_accuracy", "low", "high"))
    axes.fill_between(places, low, high, color="0.85", step="mid")
    axes.plot(places, value, "o-", color="black", drawstyle="steps-mid")
    axes.set_xticks(places, ["none", *MEMBERS])
    axes.set_ylim(0, 1)
    axes.set_xlabel("after the attack")
    axes.set_ylabel("robust accuracy (upper bound)")


def rows(subject: Subject, params: AutoAttackParams) -> int:
    """APGD, APGD-T and FAB-T by gradients, and the queries of Square, for every row; less where rows fall early."""
    heads = min(params.targets, max(1, len(subject.classes) - 1))
    return min(subject.splits["test"].n, params.max_samples) * (3 * params.steps * (1 + 2 * heads) + params.queries)


CHECK = Check(info=INFO, params=AutoAttackParams, measure=measure, plot=plot, rows=rows)
