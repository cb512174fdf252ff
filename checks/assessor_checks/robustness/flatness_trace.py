"""Flatness along an attack that does not stop when the label flips: the uncanny valley."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Bounds,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Series,
    Subject,
    Table,
    Task,
    in_batches,
    progress,
)
from assessor_checks._costs import GRADIENT, used

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._inputs import Room
    from assessor_checks._intervals import Estimate
    from assessor_checks.robustness._valley import Path, Summary

NEAR = 1  # steps around the flip within which a peak counts as near it
FEW = 10  # flipped rows below which the shares say nothing
FLAT_SHARE = 0.5  # more rows without any gradient than this: masked
SEEN = 0.9  # share of the flipped rows that a point around the flip needs: fewer would be other rows, not other steps
INFO = CheckInfo(
    id="robustness.flatness_trace",
    version="1",
    title="Flatness along an attack (uncanny valley)",
    measures=(
        "How sharply the loss curves in the last layer's weights (relative flatness, row by row) at every step of a "
        "gradient attack that goes on after the label has flipped. The primary value is the share of flipped rows that "
        "end flatter than they began: there neither flatness nor confidence shows that anything is wrong."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "It describes the loss surface and is no measure of robustness: a model that the attack never flips cannot be "
        "measured here, and robustness.pgd_accuracy counts how many rows flip.",
        "Confidence alone makes the surface flat, so a flat end mostly says that the model is sure of the wrong class.",
        "One attack from one start: other attacks reach other places, and where each path ends depends on eps and "
        "steps. Compare only runs with the same ones.",
        "Only the last linear layer is measured, without its bias; earlier layers may be sharp.",
    ),
    remedy=(
        "Do not rely on confidence or flatness to notice attacked inputs. Adversarial training moves the peak "
        "outwards; a small bound on the model's slope (robustness.flatness_certificate) limits what an attack reaches."
    ),
    source=(
        "Walter, Adilova, Vreeken, Kamp: The Uncanny Valley, arXiv 2405.16918; relative flatness of a row: Petzka et "
        "al., NeurIPS 2021, arXiv 2001.00939; attack: Madry et al. 2018, arXiv 1706.06083, section 2.1"
    ),
    requirements=("RE-R-RO-ME-04", "RE-R-RO-ME-05"),
)


class FlatnessTraceParams(Params):
    """Parameters of robustness.flatness_trace."""

    eps: float = Field(default=0.1, gt=0, description="Largest change, in the unit that scale names; see norm.")
    norm: Literal["linf", "l2"] = Field(
        default="linf",
        description="What eps limits: the change of each feature, or the Euclidean length of all changes together.",
    )
    scale: Literal["absolute", "feature_std"] = Field(
        default="absolute",
        description="Unit of eps: the features' own, or each feature's standard deviation over the train split "
        "(test split without one); the latter holds columns of at most two values fixed.",
    )
    steps: int = Field(default=40, ge=2, le=10_000, description="Gradient steps, each 2.5 eps / steps; all are taken.")
    bounds: Bounds | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows attacked at most, chosen by the seed.")
    confident: float = Field(
        default=0.9, gt=0, lt=1, description="Probability of the wrong class from which it counts as confident."
    )


class _Run(NamedTuple):
    path: Path  # of the rows that were right at first, without the broken ones
    summary: Summary
    chosen: int
    broken: int


def measure(subject: Subject, params: FlatnessTraceParams, seed: int) -> Result:
    """Share of flipped rows that end flatter, height and place of the peak, and the curves.

    Args:
        subject: A PyTorch classifier.
        params: Distance, steps, what may be changed.
        seed: Seed of the rows' choice.

    Returns:
        Metrics, curves by step and around the flip.

    Raises:
        NotApplicable: No last linear layer gives the logits, no row is right at first, or none flips.
    """
    from assessor_checks import _inputs as inputs
    from assessor_checks.robustness._reach import joined, unit_doubt
    from assessor_checks.robustness._siege import refuse_without_gradients

    refuse_without_gradients(subject)
    room = inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    run = _attack(subject, params, seed, room)
    if not run.summary.flipped.any():
        raise NotApplicable(
            f"none of the {len(run.summary.flip)} attacked rows ends misclassified within eps {params.eps:g}, so there "
            "is no flip to look at; raise eps or steps"
        )
    return Result(
        metrics=_metrics(run, params),
        series=(_by_step(run), _at_flip(run)),
        tables=(_places(run),),
        remarks=(*room.remarks, *_remarks(run, subject.splits["test"].n)),
        doubt=joined(unit_doubt(subject, room.scale, params.eps, params.scale), _doubt(run)),
    )


def _attack(subject: Subject, params: FlatnessTraceParams, seed: int, room: Room) -> _Run:
    import torch

    from assessor_checks import _inputs
    from assessor_checks._pgd import Box
    from assessor_checks.robustness import _valley

    everything, labels = subject.tensors("test")
    most = max(1, min(params.max_samples, _valley.ENTRIES // (params.steps + 1)))
    rows = torch.from_numpy(_inputs.chosen_rows(len(labels), most, seed)).to(everything.device)
    x, y = everything[rows], labels[rows]
    right = _right(subject, x, y)
    x, y = x[right], y[right]
    if not len(y):
        raise NotApplicable(f"none of {len(rows)} test rows is classified rightly, so there is nothing to attack")
    ends = (params.eps * room.scale, room.low, room.high)
    path = _valley.trace(
        subject.module,
        subject.logits,
        x,
        y,
        Box(*(torch.from_numpy(end).to(x.device, x.dtype) for end in ends)),
        steps=params.steps,
        norm=params.norm,
        report=lambda done: progress("attacked rows", done, len(y)),
    )
    sound = _valley.without(path, path.broken)
    if not sound.loss.shape[1]:
        raise NotApplicable(f"the model gives NaN or infinite outputs or gradients on the way for all {len(y)} rows")
    return _Run(sound, _valley.summarise(sound), len(rows), int(path.broken.sum()))


def _right(subject: Subject, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    import torch

    from assessor_checks._pgd import ROWS

    with torch.no_grad():
        logits = in_batches(subject.logits, x, size=ROWS, work="forward")
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise NotApplicable(f"the model's outputs are not finite for {bad} of {len(x)} test rows")
    return logits.argmax(dim=1) == y


def _metrics(run: _Run, params: FlatnessTraceParams) -> tuple[Metric, ...]:
    import numpy as np

    from assessor_checks._intervals import clopper_pearson
    from assessor_checks.robustness._certificate import median

    seen, flipped = run.summary, run.summary.flipped
    late = (seen.peak - seen.flip)[flipped]
    n, of = len(late), "of the rows that end misclassified"
    ball = f"{params.norm} PGD, eps {params.eps:g} ({params.scale}), {params.steps} steps from the clean row"
    shares = {
        "ends_flatter": (seen.flatter[flipped], n, Better.LOWER, f"{of}; {ball}"),
        "confidently_wrong": (
            run.path.confidence[flipped] >= params.confident,
            n,
            Better.LOWER,
            f"{of}, those with probability {params.confident:g} or more for the wrong class",
        ),
        "flipped_share": (
            flipped,
            len(flipped),
            Better.LOWER,
            f"of the rows right before, those that end wrong; {ball}",
        ),
        "peak_near_flip": (
            np.abs(late) <= NEAR,
            n,
            Better.NONE,
            f"{of}, those whose sharpest step is at most {NEAR} from the first wrong one",
        ),
    }
    rise = seen.rise[~np.isnan(seen.rise)]
    medians = (
        ("flip_to_peak", late, "steps", f"median {of}: sharpest step minus first wrong step"),
        (
            "peak_height",
            rise,
            "1",
            "median over attacked rows: largest relative flatness on the way over that at first",
        ),
    )
    return (
        *(
            _metric(name, (found := clopper_pearson(int(hits.sum()), count)).value, found, count, better, how)
            for name, (hits, count, better, how) in shares.items()
        ),
        *(
            _metric(name, value, median(values), len(values), Better.NONE, how, unit)
            for name, values, unit, how in medians
            if len(values) and np.isfinite(value := float(np.median(values)))
        ),
    )


def _metric(
    name: str, value: float, found: Estimate | None, n: int, better: Better, how: str, unit: str | None = None
) -> Metric:
    """A share with its Clopper-Pearson interval, or with a unit a median with its interval of order statistics."""
    from assessor_checks._intervals import CONFIDENCE

    interval = "Clopper-Pearson" if unit is None else "interval of order statistics"
    return Metric(
        name=name,
        value=value,
        low=found.low if found else None,
        high=found.high if found else None,
        confidence=CONFIDENCE if found else None,
        unit=unit or "1",
        n=n,
        better=better,
        method=f"{how}; 95 % {interval}" if found else f"{how}; no interval from so few rows",
        primary=name == "ends_flatter",
    )


def _by_step(run: _Run) -> Series:
    from assessor_checks.robustness._valley import quartiles, relative

    columns: dict[str, tuple[float | None, ...]] = {"step": tuple(range(len(run.path.loss)))}
    for name, values in (("flatness", relative(run.path.kappa)), ("loss", run.path.loss)):
        columns |= {f"{name}_{which}": column for which, column in quartiles(values).items()}
    columns["wrong"] = tuple(run.path.wrong.mean(axis=1).tolist())
    return Series(name="by_step", title="Relative flatness over its start, and loss, by step", columns=columns)


def _at_flip(run: _Run) -> Series:
    import numpy as np

    from assessor_checks.robustness._valley import aligned, quartiles, relative

    flipped = run.summary.flipped
    shifted = aligned(relative(run.path.kappa)[:, flipped], run.summary.flip[flipped])
    counts = (~np.isnan(shifted)).sum(axis=1)
    kept = counts >= max(1.0, SEEN * flipped.sum())
    after = np.arange(len(shifted)) - len(shifted) // 2
    columns = {"steps_after_flip": tuple(after[kept].tolist()), **quartiles(shifted[kept])}
    columns["rows"] = tuple(counts[kept].tolist())
    return Series(name="at_flip", title="Relative flatness over its start, by steps after the flip", columns=columns)


def _places(run: _Run) -> Table:
    late = (run.summary.peak - run.summary.flip)[run.summary.flipped]
    counts = ((late < -NEAR).sum(), (abs(late) <= NEAR).sum(), (late > NEAR).sum())
    rows = tuple(zip(("before the flip", "at the flip", "after the flip"), map(int, counts), strict=True))
    return Table(name="peaks", title="Where rows are sharpest", columns=("sharpest", "rows"), rows=rows)


def _remarks(run: _Run, available: int) -> tuple[str, ...]:
    import numpy as np

    found = run.summary
    remarks = [
        f"{run.chosen} of {available} test rows; {len(found.flip)} of them classified rightly and attacked, of which "
        f"{int(found.flipped.sum())} end misclassified.",
    ]
    if left := int(found.left.sum()):
        remarks.append(f"Rows misclassified on the way but not at the end: {left}. They do not count as flipped.")
    if still := int(np.isnan(found.rise).sum()):
        remarks.append(
            f"Rows that start with a relative flatness of exactly 0, since the model is certain: {still}. They are "
            "left out of everything that is taken relative to the start."
        )
    return tuple(remarks)


def _doubt(run: _Run) -> str | None:
    count = int(run.summary.flipped.sum())
    found = []
    if run.broken:
        found.append(f"the model gave NaN or infinite outputs or gradients on the way for {run.broken} rows")
    if run.path.flat.mean() > FLAT_SHARE:
        found.append(f"the gradient is exactly 0 for {int(run.path.flat.sum())} of {len(run.path.flat)} rows")
    if count < FEW:
        found.append(f"too few rows end misclassified ({count})")
    return f"The attack shows little: {'; '.join(found)}." if found else None


def plot(result: Result, axes: Axes) -> None:
    """Median and quartiles around the flip; dashed, all attacked rows by step, half of them flipped at 0."""
    steps, around = ({name: _drawn(column) for name, column in series.columns.items()} for series in result.series)
    half = next(
        step for step, share in zip(steps["step"], steps["wrong"], strict=True) if share >= steps["wrong"][-1] / 2
    )
    axes.fill_between(around["steps_after_flip"], around["low_quartile"], around["high_quartile"], color="0.85")
    axes.plot(around["steps_after_flip"], around["median"], color="black", label="flipped rows, by their flip")
    shifted = [step - half for step in steps["step"]]
    axes.plot(shifted, steps["flatness_median"], "--", color="0.4", label="all attacked rows, by step")
    axes.axvline(0, color="black", linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("steps after the flip (dotted)")
    axes.set_ylabel("relative flatness over its start (high: sharp)")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)  # above: curves are everywhere


def _drawn(column: tuple[float | None, ...]) -> list[float]:
    return [float("nan") if value is None else value for value in column]


def rows(subject: Subject, params: FlatnessTraceParams) -> int:
    """Every used row once, then a gradient a step."""
    return used(subject, "test", params.max_samples) * (1 + GRADIENT * (params.steps + 1))


CHECK = Check(info=INFO, params=FlatnessTraceParams, measure=measure, plot=plot, rows=rows)
