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

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate

QUANTILES = 101
HOW_LOSS = "mean loss on test minus on train, probabilities clipped at machine tiny; 95 % MOVER from BCa bootstraps"
INFO = CheckInfo(
    id="generalization.gap",
    version="1",
    title="Generalization gap between training and test data",
    measures=(
        "The mean loss on the test split minus the mean loss on the train split (cross-entropy; squared error for "
        "regression), and for classification the accuracy on the train split minus that on the test split."
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
)


class GapParams(Params):
    """Parameters of generalization.gap: none."""


class _Side(NamedTuple):
    loss: np.ndarray
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
        NotApplicable: Only hard predictions are known, so there is no loss; or a split is empty or a score is NaN.
    """
    sides = {name: _side(subject, name) for name in ("train", "test")}
    train, test = sides["train"], sides["test"]
    means = {name: _mean(side.loss, seed + position) for position, (name, side) in enumerate(sides.items())}
    unit = INFO.unit if subject.task.is_classification else "squared units of the target"
    metrics = [_metric("loss_gap", _minus(means["test"], means["train"]), unit, len(test.loss), HOW_LOSS)]
    shares: dict[str, Estimate] = {}
    if train.correct is not None and test.correct is not None:
        shares = {name: _share(side) for name, side in sides.items()}
        gap = _minus(shares["train"], shares["test"])
        how = "accuracy on train minus on test; 95 % Newcombe hybrid score interval (1998, method 10)"
        metrics.append(_metric("accuracy_gap", gap, "1", len(test.loss), how))
    same = subject.splits["train"].sha256 == subject.splits["test"].sha256
    return Result(
        metrics=tuple(metrics),
        series=(_quantiles(sides),),
        tables=(_table(sides, means, shares),),
        remarks=tuple(
            f"{side.clipped} rows of {name} give the true class probability 0; taken as {_tiny():.3g}."
            for name, side in sides.items()
            if side.clipped
        ),
        doubt="The train and the test split are the same data, so there is nothing to compare." if same else None,
    )


def _side(subject: Subject, name: str) -> _Side:
    import numpy as np

    labels, scores = subject.splits[name].labels, np.asarray(subject.scores(name), dtype=np.float64)
    if not len(labels):
        raise NotApplicable(f"the {name} split has no rows")
    if bad := int((~np.isfinite(scores.reshape(len(labels), -1))).any(axis=1).sum()):
        raise NotApplicable(f"the model's scores are not finite for {bad} of {len(labels)} rows of the {name} split")
    if not subject.task.is_classification:
        return _Side((scores - labels) ** 2, None, 0)
    true = scores[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(true, _tiny()))
    return _Side(loss, subject.predictions(name) == labels, int((true < _tiny()).sum()))


def _tiny() -> float:
    import sys

    return sys.float_info.min


def _mean(values: np.ndarray, seed: int) -> Estimate:
    """Mean with its bootstrap interval; an endless one from a single row."""
    from assessor_checks._intervals import Estimate, bootstrap_mean

    return bootstrap_mean(values, seed) if len(values) > 1 else Estimate(float(values[0]), -math.inf, math.inf)


def _share(side: _Side) -> Estimate:
    from assessor_checks._intervals import wilson

    assert side.correct is not None
    return wilson(int(side.correct.sum()), len(side.correct))


def _minus(a: Estimate, b: Estimate) -> Estimate:
    """Interval of a - b from both intervals (MOVER): their arms on the sides that matter, added in squares.

    Zou and Donner 2008; with Wilson intervals this is Newcombe's method 10.
    """
    from assessor_checks._intervals import Estimate

    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Estimate(value, low, value + math.hypot(a.high - a.value, b.value - b.low))


def _metric(name: str, gap: Estimate, unit: str, n: int, method: str) -> Metric:
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
        primary=name == "loss_gap",
    )


def _table(sides: dict[str, _Side], means: dict[str, Estimate], shares: dict[str, Estimate]) -> Table:
    rows = []
    for name, side in sides.items():
        mean, share = means[name], shares.get(name)
        ends = (mean.low, mean.high) if len(side.loss) > 1 else (None, None)
        rows.append((name, len(side.loss), mean.value, *ends, *(share or (None, None, None))))
    columns = ("split", "rows", "mean loss", "low", "high", "accuracy", "accuracy low", "accuracy high")
    return Table(name="splits", title="Both splits", columns=columns, rows=tuple(rows))


def _quantiles(sides: dict[str, _Side]) -> Series:
    import numpy as np

    shares = np.linspace(0, 1, QUANTILES)
    columns = {name: tuple(np.quantile(side.loss, shares).tolist()) for name, side in sides.items()}
    return Series(name="losses", title="Loss by sample, sorted", columns={"share": tuple(shares.tolist()), **columns})


def plot(result: Result, axes: Axes) -> None:
    """Sorted losses of both splits; the gap is the area between the curves."""
    columns = result.series[0].columns
    for name, style in (("train", "--"), ("test", "-")):
        axes.plot(columns["share"], columns[name], style, color="black", label=name)  # type: ignore[arg-type]
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_xlabel("share of samples")
    axes.set_ylabel(f"loss of a sample ({result.metric('loss_gap').unit})")
    axes.legend(frameon=False)


CHECK = Check(info=INFO, params=GapParams, measure=measure, plot=plot)
