"""Generalization gap: how much worse the model does on the test split than on the data it was trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

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
    Table,
    Task,
)
from assessor_checks._costs import of_train_and_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate

QUANTILES = 101
ENOUGH = 20  # rows; with fewer a bootstrap interval misses the truth far too often
HOW_LOSS = "mean loss on test minus on train, probabilities clipped at machine tiny; 95 % MOVER from BCa bootstraps"
HOW_ACCURACY = "accuracy on train minus on test; 95 % Newcombe hybrid score interval (1998, method 10)"
INFO = CheckInfo(
    id="generalization.gap",
    version="2",
    title="Generalization gap between training and test data",
    measures=(
        "The mean loss on the test split minus the mean loss on the train split (cross-entropy; squared error for "
        "regression), and for classification the accuracy on the train split minus that on the test split, which is "
        "all there is of a model that gives decisions without probabilities."
    ),
    unit="nats",
    needs=frozenset({Need.TRAIN, Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "A small gap does not show that the model is good: it may be equally bad on both splits.",
        "The test split must be independent of training; a leak between the splits closes the gap.",
        "Both splits may come from one source; the gap to data from the field of use can be larger.",
        "The cross-entropy is dominated by a few confidently wrong rows; read the accuracy gap beside it.",
    ),
    remedy=(
        "Regularise or stop earlier, augment or collect training data, use a smaller model; first look for rows "
        "with label errors among those of highest test loss, and for groups the training data lack."
    ),
    source=(
        "Difference of two independent means: Zou and Donner, Statistics in Medicine 27 (2008) 1693 (MOVER); "
        "of two shares: Newcombe, Statistics in Medicine 17 (1998) 873, method 10"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("reliability.performance",),
)


class GapParams(Params):
    """Parameters of generalization.gap: none."""


class _Side(NamedTuple):
    """Rows of a split: whether each is right (None for regression), its loss (None without probabilities)."""

    n: int
    loss: np.ndarray | None
    correct: np.ndarray | None
    clipped: int


def measure(subject: Subject, params: GapParams, seed: int) -> Result:
    """Gap of loss and of accuracy with intervals for a difference of independent means.

    Args:
        subject: Any subject with a train and a test split.
        params: None are used.
        seed: Seed of the bootstrap.

    Returns:
        Both gaps, a table with both splits, the losses' distributions.

    Raises:
        NotApplicable: A split is empty or a score is NaN or no probability.
    """
    sides = {name: _side(subject, name) for name in ("train", "test")}
    n = sides["test"].n
    means = {
        name: _mean(side.loss, seed + at) for at, (name, side) in enumerate(sides.items()) if side.loss is not None
    }
    shares = {name: _share(side.correct) for name, side in sides.items() if side.correct is not None}
    metrics = []
    if means:
        unit = INFO.unit if subject.task.is_classification else "squared units of the target"
        metrics.append(_metric("loss_gap", _minus(means["test"], means["train"]), unit, n, HOW_LOSS, primary=True))
    if shares:
        gap = _minus(shares["train"], shares["test"])
        metrics.append(_metric("accuracy_gap", gap, "1", n, HOW_ACCURACY, primary=not means))
    return Result(
        metrics=tuple(metrics),
        series=_quantiles(sides),
        tables=(_table(sides, means, shares),),
        remarks=_remarks(sides),
        doubt=_doubt(subject, sides),
    )


def _remarks(sides: dict[str, _Side]) -> tuple[str, ...]:
    if sides["test"].loss is None:
        return ("The model gives decisions without probabilities, so only accuracies are compared.",)
    return tuple(
        f"{side.clipped} rows of {name} give the true class probability 0; taken as {_tiny():.3g}."
        for name, side in sides.items()
        if side.clipped
    )


def _doubt(subject: Subject, sides: dict[str, _Side]) -> str | None:
    if subject.splits["train"].sha256 == subject.splits["test"].sha256:
        return "The train and the test split are the same data, so there is nothing to compare."
    least = min(sides, key=lambda name: sides[name].n)
    if sides[least].n < ENOUGH and sides[least].loss is not None:
        return f"{sides[least].n} {least} rows are too few for the interval, which is too narrow below {ENOUGH}."
    return None


def _side(subject: Subject, name: str) -> _Side:
    import numpy as np

    from assessor_checks._probabilities import improper

    labels, n = subject.splits[name].labels, subject.splits[name].n
    if not n:
        raise NotApplicable(f"the {name} split has no rows")
    if subject.task.is_classification and Need.PROBABILITIES not in subject.offers:
        return _Side(n, None, subject.predictions(name) == labels, 0)
    scores = np.asarray(subject.scores(name), dtype=np.float64)
    if bad := int((~np.isfinite(scores.reshape(len(labels), -1))).any(axis=1).sum()):
        raise NotApplicable(f"the model's scores are not finite for {bad} of {len(labels)} rows of the {name} split")
    if not subject.task.is_classification:
        return _Side(n, (scores - labels) ** 2, None, 0)
    if bad := int(improper(scores).sum()):
        raise NotApplicable(
            f"the model's scores are no probabilities that sum to 1 for {bad} of {n} rows of the {name} split"
        )
    true = scores[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(true, _tiny()))
    return _Side(n, loss, subject.predictions(name) == labels, int((true < _tiny()).sum()))


def _tiny() -> float:
    import sys

    return sys.float_info.min


def _mean(values: np.ndarray, seed: int) -> Estimate:
    """Mean with its bootstrap interval; an endless one from a single row."""
    from assessor_checks._intervals import Estimate, bootstrap_mean

    return bootstrap_mean(values, seed) if len(values) > 1 else Estimate(float(values[0]), -math.inf, math.inf)


def _share(correct: np.ndarray) -> Estimate:
    from assessor_checks._intervals import wilson

    return wilson(int(correct.sum()), len(correct))


def _minus(a: Estimate, b: Estimate) -> Estimate:
    """Interval of a - b from both intervals (MOVER): their arms on the sides that matter, added in squares.

    Zou and Donner 2008; with Wilson intervals this is Newcombe's method 10.
    """
    from assessor_checks._intervals import Estimate

    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Estimate(value, low, value + math.hypot(a.high - a.value, b.value - b.low))


def _metric(name: str, gap: Estimate, unit: str, n: int, method: str, *, primary: bool) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    known = math.isfinite(gap.low)
    return Metric(
        name=name,
        value=gap.value,
        low=gap.low if known else None,
        high=gap.high if known else None,
        confidence=CONFIDENCE if known else None,
        unit=unit,
        n=n,
        better=Better.LOWER,
        method=method if known else f"{method}; no interval from one row",
        primary=primary,
    )


def _table(sides: dict[str, _Side], means: dict[str, Estimate], shares: dict[str, Estimate]) -> Table:
    rows = []
    for name, side in sides.items():
        mean, share = means.get(name), shares.get(name)
        loss = (None,) * 3 if mean is None else tuple(mean) if side.n > 1 else (mean.value, None, None)
        rows.append((name, side.n, *loss, *(share or (None,) * 3)))
    columns = ("split", "rows", "mean loss", "low", "high", "accuracy", "accuracy low", "accuracy high")
    return Table(name="splits", title="Both splits", columns=columns, rows=tuple(rows))


def _quantiles(sides: dict[str, _Side]) -> tuple[Series, ...]:
    import numpy as np

    losses = {name: side.loss for name, side in sides.items() if side.loss is not None}
    if not losses:
        return ()
    shares = np.linspace(0, 1, QUANTILES)
    columns = {name: tuple(np.quantile(loss, shares).tolist()) for name, loss in losses.items()}
    found = {"share": tuple(shares.tolist()), **columns}
    return (Series(name="losses", title="Loss by sample, sorted", columns=found),)


def plot(result: Result, axes: Axes) -> None:
    """Sorted losses of both splits; the gap is the area between the curves. Without losses both accuracies."""
    if not result.series:
        _plot_accuracies(result, axes)
        return
    columns = result.series[0].arrays
    for name, style in (("train", "--"), ("test", "-")):
        axes.plot(columns["share"], columns[name], style, color="black", label=name)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_xlabel("share of samples")
    axes.set_ylabel(f"loss of a sample ({result.metric('loss_gap').unit})")
    axes.legend(frameon=False)


def _plot_accuracies(result: Result, axes: Axes) -> None:
    for place, (*_, value, low, high) in enumerate(result.tables[0].rows):
        axes.plot([low, high], [place, place], color="0.6")  # type: ignore[arg-type]
        axes.plot([value], [place], "o", color="black")  # type: ignore[arg-type]
    axes.set_yticks(range(2), [str(row[0]) for row in result.tables[0].rows])
    axes.set_ylim(-0.5, 1.5)
    axes.set_xlabel("accuracy, with interval")


CHECK = Check(info=INFO, params=GapParams, measure=measure, plot=plot, rows=of_train_and_test)
