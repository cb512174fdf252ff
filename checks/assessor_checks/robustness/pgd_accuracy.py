"""Accuracy under a gradient attack: projected gradient ascent in an L-infinity or L2 ball."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from assessor.contract import Check, CheckInfo, Need, Params, Result, Subject, Task

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._inputs import Room
    from assessor_checks._masking import Signs
    from assessor_checks._pgd import Plan
    from assessor_checks._siege import Rows, Siege

QUERIES = 100  # of the search without gradients, as a sanity check
COMPARED = 200  # rows on which a short and a long climb are compared
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
    loss: Literal["ce", "dlr"] = Field(
        default="ce", description="What is climbed: cross-entropy, or difference of logits ratio (three classes on)."
    )
    targets: int = Field(
        default=0, ge=0, le=1000, description="Likeliest wrong classes headed for in turn, each start; 0: any class."
    )
    steps: int = Field(default=40, ge=1, le=10_000, description="Gradient steps a start.")
    restarts: int = Field(default=5, ge=1, le=1000, description="Starts: the clean point, then random ones.")
    curve: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        default=(0.25, 0.5, 0.75), max_length=100, description="More sizes of the ball, in eps; one start each."
    )
    bounds: tuple[float, float] | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows attacked at most, chosen by the seed.")


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

    from assessor_checks import _inputs, _masking, _siege

    room = _inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    rows = _siege.rows_of(subject, params.max_samples, seed)
    siege = _siege.Siege(rows.chosen[rows.right], rows.labels[rows.right])
    generator = torch.Generator(rows.chosen.device).manual_seed(seed)
    how, n, correct = _how(params, seed, rows.classes), len(rows.labels), len(siege.labels)
    standing = _besieged(subject, params, siege, room, generator)
    tables = [_siege.by_class(rows, siege, subject.classes)]
    metrics = _siege.shares(n, correct, standing[1.0], how)
    signs = _signs(subject, params, rows, siege, room, generator)
    standing |= _curve(subject, params, siege, room, generator, [size for size in params.curve if size > 1])
    return Result(
        metrics=metrics,
        series=(_siege.curve([params.eps * size for size in (0.0, *standing)], [correct, *standing.values()], n),),
        tables=(*tables, _siege.stage_table(siege), _masking.table(signs)),
        remarks=(*room.remarks, *_remarks(params, rows, siege, room, signs)),
        doubt=_masking.doubt(signs),
    )


def _how(params: PgdParams, seed: int, classes: int) -> str:
    from assessor_checks._siege import NORMS

    norm, method, loss = NORMS[params.norm], params.method.upper(), params.loss.upper()
    if params.targets:
        return (
            f"upper bound: {norm} {method} on the {loss} loss, eps {params.eps:g} ({params.scale}), {params.steps} "
            f"steps, {params.restarts} starts towards each of {min(params.targets, classes - 1)} wrong classes, "
            f"seed {seed}; 95 % Clopper-Pearson, sampling of rows only"
        )
    return (
        f"upper bound: {norm} {method} on the {loss} loss, eps {params.eps:g} ({params.scale}), {params.steps} steps, "
        f"{params.restarts} starts, seed {seed}; 95 % Clopper-Pearson, sampling of rows only"
    )


def _plan(params: PgdParams, restarts: int) -> Plan:
    """The attack as asked for."""
    from assessor_checks import _apgd, _pgd

    return _pgd.Plan(
        climb=_pgd.ascend if params.method == "pgd" else _apgd.climb,
        steps=params.steps,
        restarts=restarts,
        loss=params.loss,
        targets=params.targets,
        name=params.method.upper(),
    )


def _besieged(
    subject: Subject, params: PgdParams, siege: Siege, room: Room, generator: torch.Generator
) -> dict[float, int]:
    """Rows standing by size of the ball, growing up to eps, where a search without gradients comes last."""
    from assessor_checks._pgd import campaign
    from assessor_checks._siege import ball
    from assessor_checks._square import square

    found = _curve(subject, params, siege, room, generator, [size for size in params.curve if size < 1])
    largest = ball(room, params.eps, params.norm, siege.inputs)
    attack = partial(campaign, subject.logits, ball=largest, plan=_plan(params, params.restarts), generator=generator)
    siege.attack(f"{params.method.upper()}, eps {params.eps:g}", attack)
    search = partial(square, subject.logits, ball=largest, queries=QUERIES, generator=generator)
    found[1.0] = siege.attack(f"search without gradients, eps {params.eps:g}", search)
    return found


def _curve(
    subject: Subject, params: PgdParams, siege: Siege, room: Room, generator: torch.Generator, sizes: Sequence[float]
) -> dict[float, int]:
    """Rows standing by size of the ball, in eps, one start each."""
    from assessor_checks._pgd import campaign
    from assessor_checks._siege import ball

    found = {}
    for size in sorted(set(sizes)):
        near = ball(room, params.eps * size, params.norm, siege.inputs)
        attack = partial(campaign, subject.logits, ball=near, plan=_plan(params, 1), generator=generator)
        found[size] = siege.attack(f"{params.method.upper()}, eps {params.eps * size:g}", attack)
    return found


def _signs(
    subject: Subject, params: PgdParams, rows: Rows, siege: Siege, room: Room, generator: torch.Generator
) -> Signs:
    from assessor_checks import _masking, _pgd, _siege

    if not len(siege.labels):
        return _masking.Signs(rows=0, standing=0, unsteady=0, broken=0, flat=0, still=0)
    near, alive, last = _siege.ball(room, params.eps, params.norm, siege.inputs), siege.standing, siege.stages[-1]
    x, y, plan = siege.inputs, siege.labels, _plan(params, 2)
    unfooled = None
    if not room.held:
        whole = _siege.whole_range(rows.everything, params.bounds)
        unfooled = int(_pgd.campaign(subject.logits, x[alive], y[alive], whole, plan, generator).standing.sum())
    return _masking.Signs(
        rows=len(y),
        standing=len(alive),
        unsteady=int(_masking.unsteady(subject.logits, x).sum()),
        broken=int(siege.broken.sum()),
        flat=int(siege.flat[alive].sum()),
        still=int(_masking.still(subject.logits, x[alive], near, generator).sum()),
        blind=last.fooled,
        lost=_masking.lost_by_steps(subject.logits, x[:COMPARED], y[:COMPARED], near, plan),
        lost_of=len(y[:COMPARED]),
        unfooled=unfooled,
    )


def _remarks(params: PgdParams, rows: Rows, siege: Siege, room: Room, signs: Signs) -> tuple[str, ...]:
    from assessor_checks import _siege

    passed = sum(stage.model_rows for stage in siege.stages)
    remarks = [
        f"{len(rows.labels)} of {len(rows.everything)} test rows; the attacks put {passed} rows through the model. "
        "Balls other than that of eps had one start each; a row fooled in a smaller ball counts in every larger one.",
        _siege.unit_remark(rows, room, params.bounds),
    ]
    if not signs.rows:
        remarks.append("No row is classified rightly before the attack, so there is nothing to attack.")
    if signs.blind:
        remarks.append(f"{signs.blind} rows were fooled by the search without gradients only; they count as fooled.")
    if room.held:
        remarks.append("Not tried, since features are held fixed: an attack with the whole range of the data allowed.")
    elif signs.unfooled is not None:
        remarks.append(
            f"Sanity check: with the whole range of the data allowed, {signs.unfooled} of {signs.rows} rows still "
            "stand."
        )
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Robust accuracy by size of the ball, with its interval."""
    columns = result.series[0].columns
    axes.fill_between(columns["eps"], columns["low"], columns["high"], color="0.85")  # type: ignore[arg-type]
    axes.plot(columns["eps"], columns["robust_accuracy"], "o-", color="black")  # type: ignore[arg-type]
    axes.set_ylim(0, 1)
    axes.set_xlabel("largest distance of a changed row (eps)")
    axes.set_ylabel("robust accuracy (upper bound)")


CHECK = Check(info=INFO, params=PgdParams, measure=measure, plot=plot)
