"""Accuracy under a gradient attack: projected gradient descent in an L-infinity ball."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Series,
    Subject,
    Task,
)

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._inputs import Room
    from assessor_checks._pgd import Box

FRACTIONS = (0.25, 0.5, 0.75)  # smaller balls of the curve, one start each
CORNERS = 20  # random corners tried without a gradient
FLAT_SHARE = 0.5  # more rows without any gradient than this: masked
MISSED_SHARE = 0.01  # more standing rows than this fooled by random corners: the attack is too weak
UNFOOLED_SHARE = 0.1  # more rows than this standing with the whole range allowed: masked
INFO = CheckInfo(
    id="robustness.pgd_accuracy",
    version="1",
    title="Accuracy under a projected gradient attack",
    measures=(
        "The share of test rows that are classified rightly at every point that a gradient attack tries within a "
        "given distance of the row (largest change of any feature). It is an upper bound on the robust accuracy."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.GRADIENTS}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "An attack proves no robustness: a stronger one may fool rows that stand here. Only a certificate bounds it "
        "from below.",
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
        "ICLR 2018, arXiv 1706.06083, section 2.1; signs of masking: Athalye, Carlini, Wagner 2018, "
        "arXiv 1802.00420, section 3.1; interval: Clopper and Pearson 1934"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
)


class PgdParams(Params):
    """Parameters of robustness.pgd_accuracy."""

    eps: float = Field(default=0.1, gt=0, description="Largest change of a feature, in the unit that scale names.")
    scale: Literal["absolute", "feature_std"] = Field(
        default="absolute",
        description="Unit of eps: the features' own, or each feature's standard deviation over the train split "
        "(test split without one); the latter holds columns of at most two values fixed.",
    )
    steps: int = Field(default=40, ge=1, le=10_000, description="Gradient steps a start, each 2.5 eps / steps.")
    restarts: int = Field(default=5, ge=1, le=1000, description="Starts: the clean point, then random ones.")
    bounds: tuple[float, float] | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows attacked at most, chosen by the seed.")


class _Run(NamedTuple):
    n: int
    correct: int
    standing: tuple[int, ...]  # of n, at each of FRACTIONS and at eps
    model_rows: int
    flat: int
    broken: int
    missed: int
    unfooled: int | None  # of the correct rows, with the whole range allowed; None where not tried


def measure(subject: Subject, params: PgdParams, seed: int) -> Result:
    """Robust accuracy with its interval, its curve over the ball's size, and signs of masked gradients.

    Args:
        subject: A PyTorch classifier.
        params: Distance, budget, what may be changed.
        seed: Seed of the rows' choice and of the random starts.

    Returns:
        Metrics and the curve.

    Raises:
        NotApplicable: The inputs cannot be perturbed, or the model gives no finite logits or no gradients.
    """
    from assessor_checks import _inputs as inputs

    room = inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    run = _attack(subject, params, seed, room)
    how = (
        f"upper bound: L-infinity PGD, eps {params.eps:g} ({params.scale}), {params.steps} steps, "
        f"{params.restarts} starts, seed {seed}; 95 % Clopper-Pearson, sampling of rows only"
    )
    metrics = [
        _share("robust_accuracy", run.standing[-1], run.n, Better.HIGHER, how, primary=True),
        _share("clean_accuracy", run.correct, run.n, Better.HIGHER, "the same rows; 95 % Clopper-Pearson"),
    ]
    if run.correct:
        fooled = run.correct - run.standing[-1]
        metrics.append(_share("attack_success_rate", fooled, run.correct, Better.LOWER, f"of rows right before; {how}"))
    return Result(
        metrics=tuple(metrics),
        series=(_curve(run, params.eps),),
        remarks=(*room.remarks, *_remarks(run, subject.splits["test"].n)),
        doubt=_doubt(run),
    )


def _attack(subject: Subject, params: PgdParams, seed: int, room: Room) -> _Run:
    """Growing balls around the rows that still stand, then what a gradient-free and a boundless attack find."""
    import torch

    from assessor_checks import _inputs, _pgd

    everything, labels = subject.tensors("test")
    rows = torch.from_numpy(_inputs.chosen_rows(len(labels), params.max_samples, seed)).to(everything.device)
    right = _clean_correct(subject, everything[rows], labels[rows])
    siege = _pgd.Siege(
        subject.logits,
        everything[rows][right],
        labels[rows][right],
        steps=params.steps,
        generator=torch.Generator(everything.device).manual_seed(seed),
    )
    standing = [siege.attack(_box(room, params.eps * fraction, everything), restarts=1) for fraction in FRACTIONS]
    ball = _box(room, params.eps, everything)
    by_gradient = siege.attack(ball, restarts=params.restarts)
    standing.append(siege.random_corners(ball, draws=CORNERS))
    whole = None if room.held else siege.attack(_whole_range(everything, params.bounds), restarts=2)
    return _Run(
        n=len(rows),
        correct=siege.rows,
        standing=tuple(standing),
        model_rows=len(rows) + siege.model_rows,
        flat=int(siege.flat.sum()),
        broken=int(siege.broken.sum()),
        missed=by_gradient - standing[-1],
        unfooled=whole,
    )


def _clean_correct(subject: Subject, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    import torch

    from assessor_checks._pgd import ROWS

    with torch.no_grad():
        logits = torch.cat([subject.logits(chunk) for chunk in x.split(ROWS)])
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise NotApplicable(f"the model's outputs are not finite for {bad} of {len(x)} test rows")
    return logits.argmax(dim=1) == y


def _box(room: Room, eps: float, like: torch.Tensor) -> Box:
    import torch

    from assessor_checks._pgd import Box

    ends = (eps * room.scale, room.low, room.high)
    return Box(*(torch.from_numpy(end).to(like.device, like.dtype) for end in ends))


def _whole_range(x: torch.Tensor, bounds: tuple[float, float] | None) -> Box:
    """Every value between the bounds, or between the least and the greatest of each feature in the data."""
    import torch

    from assessor_checks._pgd import Box

    low, high = x.amin(dim=0), x.amax(dim=0)
    if bounds is not None:
        low, high = torch.full_like(low, bounds[0]), torch.full_like(high, bounds[1])
    return Box(high - low, low, high)


def _share(name: str, count: int, n: int, better: Better, method: str, *, primary: bool = False) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, clopper_pearson

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


def _curve(run: _Run, eps: float) -> Series:
    from assessor_checks._intervals import clopper_pearson

    counts = (run.correct, *run.standing)
    columns = zip(*(clopper_pearson(count, run.n) for count in counts), strict=True)
    sizes = tuple(eps * fraction for fraction in (0.0, *FRACTIONS, 1.0))
    named = dict(zip(("robust_accuracy", "low", "high"), columns, strict=True))
    return Series(name="curve", title="Robust accuracy by size of the ball", columns={"eps": sizes, **named})


def _remarks(run: _Run, available: int) -> tuple[str, ...]:
    remarks = [
        f"{run.n} of {available} test rows; {run.model_rows} rows put through the model. The smaller balls of the "
        "curve had one start each; a row fooled in a smaller ball counts in every larger one."
    ]
    if not run.correct:
        remarks.append("No row is classified rightly before the attack, so there is nothing to attack.")
    if run.missed:
        remarks.append(f"{run.missed} rows were fooled by random corners of the ball only; they count as fooled.")
    if run.unfooled is not None:
        remarks.append(
            f"Sanity check: with the whole range of the data allowed, {run.unfooled} of {run.correct} rows still stand."
        )
    else:
        remarks.append("Not tried, since features are held fixed: an attack with the whole range of the data allowed.")
    return tuple(remarks)


def _doubt(run: _Run) -> str | None:
    """Signs that the attack failed rather than the model held (Athalye, Carlini, Wagner 2018, section 3.1)."""
    found = []
    if run.broken:
        found.append(f"the model gave NaN or infinite outputs or gradients on the way for {run.broken} rows")
    if run.flat > FLAT_SHARE * run.correct:
        found.append(f"the gradient is exactly 0 for {run.flat} of {run.correct} rows")
    if run.missed > MISSED_SHARE * (run.standing[-1] + run.missed):
        found.append(f"random search fooled {run.missed} rows that the gradient attack had left standing")
    if run.unfooled is not None and run.unfooled > UNFOOLED_SHARE * run.correct:
        found.append(f"even with the whole range of the data allowed, {run.unfooled} of {run.correct} rows stand")
    return f"The gradients may be masked, so the attack shows little: {'; '.join(found)}." if found else None


def plot(result: Result, axes: Axes) -> None:
    """Robust accuracy by size of the ball, with its interval."""
    columns = result.series[0].columns
    axes.fill_between(columns["eps"], columns["low"], columns["high"], color="0.85")  # type: ignore[arg-type]
    axes.plot(columns["eps"], columns["robust_accuracy"], "o-", color="black")  # type: ignore[arg-type]
    axes.set_ylim(0, 1)
    axes.set_xlabel("largest change of a feature (eps)")
    axes.set_ylabel("robust accuracy (upper bound)")


CHECK = Check(info=INFO, params=PgdParams, measure=measure, plot=plot)
