"""Accuracy under a gradient attack: projected gradient ascent in an L-infinity or L2 ball."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from assessor.contract import Bounds, Check, CheckInfo, Need, Params, Result, Series, Subject, Task, Weakness

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._balls import Ball
    from assessor_checks._pgd import Loss, Plan
    from assessor_checks.robustness._masking import Signs
    from assessor_checks.robustness._siege import Case

QUERIES = 300  # of the search without gradients, as a sanity check
INFO = CheckInfo(
    id="robustness.pgd_accuracy",
    version="2",
    title="Accuracy under a projected gradient attack",
    measures=(
        "The share of test rows that are classified rightly at every point that a gradient attack tries within a "
        "given distance of the row (largest change of any feature, or Euclidean length of all changes). It is an upper "
        "bound on the robust accuracy."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "An attack proves no robustness: a stronger one may fool rows that stand here (robustness.autoattack is one). "
        "Only a certificate bounds the robust accuracy from below.",
        "Only changes of single inputs within the stated distance are tried; no rotations, patches, corruptions, "
        "poisoning or attacks on the rest of the system.",
        "Models that randomise their answers or mask their gradients look better than they are; the doubt of the "
        "result names signs of it, and silence is no proof.",
        "The interval covers the sampling of rows only, not the weakness of the attack.",
    ),
    remedy=(
        "Train on attacked inputs (adversarial training, Madry et al. 2018; TRADES), restrict what an attacker can "
        "change, reject inputs far from the data; then measure again with the same distance and more restarts."
    ),
    source=(
        "Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks, "
        "ICLR 2018, arXiv 1706.06083, section 2.1; method apgd and loss dlr: Croce and Hein 2020, arXiv 2003.01690, "
        "algorithm 1 and eq. 6 and 7; signs of masking: Athalye, Carlini, Wagner 2018, arXiv 1802.00420, section 3.1; "
        "interval: Clopper and Pearson 1934"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
    mixed=True,
)


class PgdParams(Params):
    """Parameters of robustness.pgd_accuracy."""

    eps: float = Field(default=0.1, gt=0, description="Largest distance of a changed row, in the unit of scale.")
    norm: Literal["linf", "l2"] = Field(
        default="linf", description="Distance: largest change of a feature, or Euclidean length of all changes."
    )
    scale: Literal["absolute", "feature_std"] = Field(
        default="absolute",
        description="Unit of eps: the features' own, or each feature's standard deviation over the train split "
        "(test split without one); the latter holds columns of at most two values fixed.",
    )
    method: Literal["pgd", "apgd"] = Field(
        default="pgd", description="Steps of 2.5 eps / steps, or steps that halve themselves, with momentum."
    )
    loss: Literal["both", "ce", "dlr"] = Field(
        default="both",
        description="What is climbed: cross-entropy, difference of logits ratio (from three classes on), or first one "
        "and then the other; with two classes both is ce, for there they are the same.",
    )
    targets: int = Field(
        default=0, ge=0, le=1000, description="Likeliest wrong classes headed for in turn, each start; 0: any class."
    )
    steps: int = Field(default=40, ge=1, le=10_000, description="Gradient steps a start.")
    restarts: int = Field(
        default=3, ge=1, le=1000, description="Starts for each loss and target: the clean point, then random ones."
    )
    curve: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        default=(0.25, 0.5, 0.75),
        max_length=100,
        description="More sizes of the ball, in eps; from the clean point only.",
    )
    bounds: Bounds | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows attacked at most, chosen by the seed.")
    precision: Literal["full", "mixed"] = Field(
        default="full",
        description="mixed: gradients are followed in bfloat16, which is faster on a GPU; a row counts as fooled only "
        "where full precision confirms it.",
    )


def measure(subject: Subject, params: PgdParams, seed: int) -> Result:
    """Robust accuracy with its interval, its curve over the ball's size, and signs of masked gradients.

    Args:
        subject: A PyTorch classifier.
        params: Distance, budget, what may be changed.
        seed: Seed of the rows' choice and of the random starts.

    Returns:
        Metrics, the curve, and tables of the classes, the attacks and the sanity checks.

    Raises:
        NotApplicable: The inputs cannot be perturbed, or the model gives no finite logits or no gradients.
    """
    import torch

    from assessor_checks.robustness import _masking, _siege

    case = _siege.begun(subject, params, seed)
    generator = torch.Generator(case.siege.inputs.device).manual_seed(seed)
    attacker = _Attacker(subject, params, case, generator)
    n, correct = len(case.rows.labels), len(case.siege.labels)
    standing = attacker.up_to_eps()
    metrics = _siege.shares(case, standing[1.0], _how(params, seed, case.rows.classes))
    classes, signs = _siege.by_class(case, subject.classes), attacker.signs()
    outcomes = _siege.outcomes(case, subject)
    standing |= attacker.from_clean(size for size in params.curve if size > 1)
    sizes = tuple(params.eps * size for size in (0.0, *standing))
    columns = {"eps": sizes, **_siege.shown([correct, *standing.values()], n)}
    return Result(
        metrics=metrics,
        series=(Series(name="curve", title="Robust accuracy by size of the ball", columns=columns),),
        tables=(classes, _siege.stage_table(case.siege), _masking.table(signs)),
        remarks=(*case.room.remarks, *_remarks(params, case, signs)),
        outcomes=outcomes,
        doubt=_siege.doubt(subject, case, params, signs),
    )


def _how(params: PgdParams, seed: int, classes: int) -> str:
    from assessor_checks.robustness._siege import NORMS

    norm, method = NORMS[params.norm], params.method.upper()
    losses = " + ".join(loss.upper() for loss in _losses(params, classes))
    if params.targets:
        return (
            f"upper bound: {norm} {method} on {losses}, eps {params.eps:g} ({params.scale}), {params.steps} steps, "
            f"{params.restarts} starts towards each of {min(params.targets, classes - 1)} wrong classes, seed {seed}; "
            "95 % Clopper-Pearson, sampling of rows only"
        )
    return (
        f"upper bound: {norm} {method} on {losses}, eps {params.eps:g} ({params.scale}), {params.steps} steps, "
        f"{params.restarts} starts, seed {seed}; 95 % Clopper-Pearson, sampling of rows only"
    )


def _losses(params: PgdParams, classes: int) -> tuple[Loss, ...]:
    if params.loss == "both":
        return ("ce", "dlr") if classes > 2 else ("ce",)
    return (params.loss,)


class _Attacker(NamedTuple):
    """Puts a siege's rows to the attack that was asked for."""

    subject: Subject
    params: PgdParams
    case: Case
    generator: torch.Generator

    def plan(self, restarts: int) -> Plan:
        from assessor_checks import _pgd
        from assessor_checks.robustness import _apgd

        climb = _pgd.ascend if self.params.method == "pgd" else _apgd.climb
        return _pgd.Plan(
            climb=_pgd.mixed(climb) if self.params.precision == "mixed" else climb,
            steps=self.params.steps,
            restarts=restarts,
            losses=_losses(self.params, self.case.rows.classes),
            targets=self.params.targets,
            name=self.params.method.upper(),
        )

    def ball(self, size: float) -> Ball:
        from assessor_checks.robustness._siege import ball

        return ball(self.case, self.params.eps * size, self.params.norm)

    def attack(self, size: float, restarts: int) -> int:
        """Rows standing after the gradient attack in the ball of this size, in eps."""
        from assessor_checks._pgd import campaign

        logits_of, near, plan = self.subject.logits, self.ball(size), self.plan(restarts)
        method = partial(campaign, logits_of, ball=near, plan=plan, generator=self.generator)
        return self.case.siege.attack(f"{plan.name}, eps {self.params.eps * size:g}", method)

    def from_clean(self, sizes: Iterable[float]) -> dict[float, int]:
        """Rows standing by size, from the clean points only."""
        return {size: self.attack(size, 1) for size in sorted(set(sizes))}

    def up_to_eps(self) -> dict[float, int]:
        """Rows standing by size of the ball, up to eps, where a search without gradients comes last."""
        from assessor_checks.robustness._square import square

        found = self.from_clean(size for size in self.params.curve if size < 1)
        self.attack(1.0, self.params.restarts)
        search = partial(square, self.subject.logits, ball=self.ball(1.0), queries=QUERIES, generator=self.generator)
        found[1.0] = self.case.siege.attack(f"search without gradients, eps {self.params.eps:g}", search)
        return found

    def signs(self) -> Signs:
        from assessor_checks.robustness._siege import signs

        plan, bounds = self.plan(2), self.params.bounds
        return signs(self.case, self.subject.logits, self.ball(1.0), plan, bounds, self.generator)


def _remarks(params: PgdParams, case: Case, signs: Signs) -> tuple[str, ...]:
    from assessor_checks.robustness import _siege

    passed = sum(stage.model_rows for stage in case.siege.stages)
    n, available = len(case.rows.labels), len(case.rows.everything)
    remarks = [
        f"{n} of {available} test rows; the attacks put {passed} rows through the model. Balls other than that of eps "
        "were attacked from the clean points only; a row fooled in a smaller ball counts in every larger one.",
        _siege.unit_remark(case, params.bounds),
    ]
    remarks += _siege.precision_remark(params.precision)
    if not signs.rows:
        remarks.append("No row is classified rightly before the attack, so there is nothing to attack.")
    if signs.blind:
        remarks.append(f"{signs.blind} rows were fooled by the search without gradients only; they count as fooled.")
    if case.room.held:
        remarks.append("Not tried, since features are held fixed: an attack with the whole range of the data allowed.")
    elif signs.unfooled is not None:
        remarks.append(
            f"Sanity check: with the whole range of the data allowed, {signs.unfooled} of {signs.rows} rows still "
            "stand."
        )
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Robust accuracy by size of the ball, with its interval."""
    columns = result.series[0].arrays
    axes.fill_between(columns["eps"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["eps"], columns["robust_accuracy"], "o-", color="black")
    axes.set_ylim(0, 1)
    axes.set_xlabel("largest distance of a changed row (eps)")
    axes.set_ylabel("robust accuracy (upper bound)")


def weakness(subject: Subject, params: PgdParams, seed: int) -> Weakness:
    """Inputs within eps of test rows that the model gets wrong, made by the same attack.

    Args:
        subject: What was measured.
        params: As it was measured.
        seed: As it was measured.

    Returns:
        At most fifty.
    """
    import torch

    from assessor_checks._pgd import campaign
    from assessor_checks.robustness import _fooled, _siege

    params = params.model_copy(update={"precision": "full"})  # every point on the way may be kept
    case = _siege.begun(subject, params, seed)
    generator = torch.Generator(case.siege.inputs.device).manual_seed(seed)
    attacker = _Attacker(subject, params, case, generator)
    attack = partial(campaign, ball=attacker.ball(1.0), plan=attacker.plan(params.restarts), generator=generator)
    found = _fooled.by_gradients(subject.logits, case.siege.inputs, case.siege.labels, attack)
    return _fooled.weakness(found, f"{params.method.upper()}, {params.norm}, eps {params.eps:g} ({params.scale})")


def rows(subject: Subject, params: PgdParams) -> int:
    """Steps by gradients for each start, loss and size of the ball, and the queries, for every row."""
    losses = 2 if params.loss == "both" and len(subject.classes) > 2 else 1
    heads = max(1, min(params.targets, len(subject.classes) - 1))
    starts = (params.restarts + len(params.curve)) * losses * heads
    return min(subject.splits["test"].n, params.max_samples) * (3 * params.steps * starts + QUERIES)


CHECK = Check(info=INFO, params=PgdParams, measure=measure, plot=plot, weakness=weakness, rows=rows)
