"""Accuracy when inputs are corrupted as in the field: fifteen corruptions of pictures, eight of tables."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

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
    kept,
    progress,
    spread,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from pydantic import JsonValue

    from assessor_checks._intervals import Estimate
    from assessor_checks.robustness._corrupting import Plan

_Size = Annotated[int, Field(ge=1)]
INFO = CheckInfo(
    id="robustness.corruption_accuracy",
    version="1",
    title="Accuracy on corrupted inputs",
    measures=(
        "The share of right answers on inputs that are corrupted as in the field, at five severities: noise, blur, "
        "weather and digital faults for pictures; missing values, wrong units and signs, outliers, rounding, swapped "
        "and stuck columns for tables. The primary value is the mean over all of them, beside the worst one."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "The corruptions are computed; recordings of real ones may hurt more or less, and other kinds are not tried.",
        "Corruptions happen by chance: nobody looks for the worst one, as an attacker would.",
        "The mean is not divided by the errors of a reference model, as published results for ImageNet are; it "
        "compares models on the same data with the same parameters only.",
        "A mean over kinds and severities is no forecast of the field, where some occur more often than others; see "
        "the table for each of them.",
        "A strong corruption may hide what the right answer rests on, so that nobody could give it.",
        "Wrong units and signs make sense for columns in their own units, and least for values already standardised.",
    ),
    remedy=(
        "Look in the table for the corruption that costs most and is likely in the field; add such inputs to the "
        "training data (for pictures AugMix or other augmentations, but not the tested corruptions alone), check "
        "inputs for plausibility and completeness before they reach the model, and measure again."
    ),
    source=(
        "Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3.1 and the authors' code for ImageNet-C, "
        "Tiny ImageNet-C and CIFAR-10-C (levels); intervals: BCa bootstrap over rows (Efron 1987), Clopper and "
        "Pearson 1934; worst of many: Berger 1982, Technometrics 24:295"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
    spreads=True,
)


class CorruptionParams(Params):
    """Parameters of robustness.corruption_accuracy."""

    corruptions: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Names of the corruptions; all of the kind of input when not given."
    )
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        default=(1, 2, 3, 4, 5), min_length=1, description="Severities from 1 to 5."
    )
    image_shape: tuple[_Size, _Size, _Size] | None = Field(
        default=None, description="Channels, height and width of the picture that a flat row holds."
    )
    layout: Literal["auto", "channels_first", "channels_last"] = Field(
        default="auto", description="Where the channels of a picture stand; auto: first, unless only the last fit."
    )
    value_range: Bounds = Field(
        default=(0.0, 1.0), description="Least and greatest value that a picture may hold, such as 0 and 255."
    )
    missing: Literal["median", "nan"] = Field(
        default="median", description="What stands in a missing cell: the column's median over the train split, or NaN."
    )
    frozen: tuple[str, ...] = Field(default=(), description="Columns that nothing happens to: names or '#3'.")
    max_samples: int = Field(default=500, ge=1, description="Rows used at most, chosen by the seed.")


def measure(subject: Subject, params: CorruptionParams, seed: int) -> Result:
    """Mean accuracy over corruptions and severities, the worst of them, the drop, and each by itself.

    Args:
        subject: Any classifier that answers new inputs.
        params: Corruptions, severities, how inputs are to be read.
        seed: Seed of the rows' choice, of all corruptions and of the bootstrap.

    Returns:
        Metrics, the curve over severities and the table of corruptions by severity.

    Raises:
        NotApplicable: The inputs are no pictures in the stated range and no table of numbers, a corruption is unknown,
            or a missing value is more than the model takes.
    """
    import numpy as np

    from assessor_checks import _inputs

    features = _inputs.float_features(subject)
    rows = _inputs.chosen_rows(len(features), params.max_samples, seed)
    plan = _plan(subject, features, params, seed)
    x, labels = features[rows], subject.splits["test"].labels[rows]
    severities = tuple(sorted(set(params.severities)))
    clean = (subject.query(x) == labels).astype(np.float64)
    kinds = list(enumerate(itertools.product(plan.names, severities)))
    found = spread(partial(_answers, subject, plan, x, labels, params, seed, len(kinds)), kinds)
    right = np.stack(found).reshape(len(plan.names), len(severities), len(rows))
    return Result(
        metrics=_metrics(plan.names, clean, right, seed),
        series=(_curve(severities, clean, right, seed),),
        tables=(_table(plan.names, severities, right, seed),),
        remarks=(
            *plan.remarks,
            f"{len(rows)} of {len(features)} test rows, {(right[..., 0].size + 1) * len(rows)} answers asked.",
        ),
    )


def _plan(subject: Subject, features: np.ndarray, params: CorruptionParams, seed: int) -> Plan:
    from assessor_checks.robustness import _corrupting

    if features.ndim == 2 and params.image_shape is None:
        return _corrupting.of_tables(
            subject, features, params.corruptions, frozen=params.frozen, as_nan=params.missing == "nan", seed=seed
        )
    if params.frozen:
        raise NotApplicable(f"frozen: found {list(params.frozen)}, but the inputs are pictures without columns")
    return _corrupting.of_pictures(
        features,
        params.corruptions,
        device=subject.device,
        form=_corrupting.form_of(features, params.image_shape, params.layout),
        value_range=params.value_range,
    )


def _answers(
    subject: Subject,
    plan: Plan,
    x: np.ndarray,
    labels: np.ndarray,
    params: CorruptionParams,
    seed: int,
    total: int,
    kind: tuple[int, tuple[str, int]],
) -> np.ndarray:
    """(n,) 1 where the row is classified rightly under a corruption, named with its severity and its place."""
    import numpy as np

    place, (name, severity) = kind
    progress(f"{name} {severity}", place, total)

    def ask() -> list[int]:
        found: list[int] = []
        for start in range(0, len(x), plan.rows):
            chunk = slice(start, start + plan.rows)
            moved = plan.corrupt(x[chunk], name, severity, (seed, *name.encode(), severity, start))
            found += (_asked(subject, moved, params) == labels[chunk]).astype(int).tolist()
        return found

    key: JsonValue = {"corruption": name, "severity": severity, "seed": seed, "params": params.model_dump(mode="json")}
    return np.array(kept(key, lambda: list(ask())), dtype=np.float64)


def _asked(subject: Subject, rows: np.ndarray, params: CorruptionParams) -> np.ndarray:
    import numpy as np

    if params.missing == "median" or not np.isnan(rows).any():
        return subject.query(rows)
    try:
        return subject.query(rows)
    except ValueError as fault:
        told = str(fault).partition("\n")[0]
        raise NotApplicable(f"the model takes no missing values ({told}); set missing to median") from fault


def _metrics(names: tuple[str, ...], clean: np.ndarray, right: np.ndarray, seed: int) -> tuple[Metric, ...]:
    from assessor_checks._intervals import clopper_pearson
    from assessor_checks.robustness._paired import mean_drop, mean_share, relative_drop

    n, shares = len(clean), right.mean(axis=(0, 1))
    cells = right[..., 0].size
    many = f"mean over {len(names)} corruptions, {cells} with severities, not normalised by a reference model"
    boot = "95 % BCa bootstrap over rows, Clopper-Pearson where fewer than 10 rows differ"
    worst = (
        f"least accuracy of {cells} corruptions and severities; 95 % Clopper-Pearson, the upper end for all of them "
        "together (Bonferroni)"
    )
    as_is, drop = clopper_pearson(int(clean.sum()), n), mean_drop(clean - shares, seed)
    found = [
        _metric("corruption_accuracy", mean_share(shares, seed), n, Better.HIGHER, f"{many}; {boot}", primary=True),
        _metric("worst_corruption_accuracy", _worst(right), n, Better.HIGHER, worst),
        _metric("clean_accuracy", as_is, n, Better.HIGHER, "the same rows as they are; 95 % Clopper-Pearson"),
        _metric("accuracy_drop", drop, n, Better.LOWER, f"clean minus corrupted, paired; {boot}"),
    ]
    if clean.any():
        lost = relative_drop(clean, shares, seed)
        found.append(_metric("relative_drop", lost, n, Better.LOWER, f"accuracy drop over clean accuracy; {boot}"))
    for name, one in zip(names, right, strict=True):
        estimate = mean_share(one.mean(axis=0), seed)
        found.append(
            _metric(f"{name}_accuracy", estimate, n, Better.HIGHER, "mean over severities, else as corruption_accuracy")
        )
    return tuple(found)


def _worst(right: np.ndarray) -> Estimate:
    """Least accuracy over all cells: its interval holds for the truly worst one, whichever that is."""
    from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson

    n, counts = right.shape[-1], right.sum(axis=-1).ravel()
    together = 1 - (1 - CONFIDENCE) / len(counts)
    least = int(counts.min())
    return Estimate(least / n, clopper_pearson(least, n).low, clopper_pearson(least, n, together).high)


def _metric(name: str, estimate: Estimate, n: int, better: Better, method: str, *, primary: bool = False) -> Metric:
    import math

    from assessor_checks._intervals import CONFIDENCE

    known = math.isfinite(estimate.low)
    return Metric(
        name=name,
        value=estimate.value,
        low=estimate.low if known else None,
        high=estimate.high if known else None,
        confidence=CONFIDENCE if known else None,
        n=n,
        better=better,
        method=method,
        primary=primary,
    )


def _curve(severities: tuple[int, ...], clean: np.ndarray, right: np.ndarray, seed: int) -> Series:
    from assessor_checks._intervals import clopper_pearson
    from assessor_checks.robustness._paired import mean_share

    means = [mean_share(right[:, column].mean(axis=0), seed) for column in range(len(severities))]
    estimates = [clopper_pearson(int(clean.sum()), len(clean)), *means]
    columns = dict(zip(("accuracy", "low", "high"), zip(*estimates, strict=True), strict=True))
    worst = (float(clean.mean()), *right.mean(axis=-1).min(axis=0).tolist())
    return Series(
        name="curve",
        title="Accuracy by severity, mean and worst over corruptions",
        columns={"severity": (0.0, *map(float, severities)), **columns, "worst": worst},
    )


def _table(names: tuple[str, ...], severities: tuple[int, ...], right: np.ndarray, seed: int) -> Table:
    from assessor_checks.robustness._paired import mean_share

    rows = [
        (name, *one.mean(axis=-1).tolist(), *mean_share(one.mean(axis=0), seed))
        for name, one in zip(names, right, strict=True)
    ]
    columns = ("corruption", *(f"severity {severity}" for severity in severities), "mean", "low", "high")
    rows.sort(key=lambda row: row[-3])
    title = "Accuracy by corruption and severity, the least mean first"
    return Table(name="corruptions", title=title, columns=columns, rows=tuple(rows))


def plot(result: Result, axes: Axes) -> None:
    """Accuracy by severity: mean over corruptions with its interval, and the worst corruption."""
    columns = result.series[0].arrays
    axes.fill_between(columns["severity"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["severity"], columns["accuracy"], "o-", color="black", label="mean")
    axes.plot(columns["severity"], columns["worst"], "s--", color="0.4", label="worst corruption")
    axes.set_ylim(0, 1)
    axes.set_xlabel("severity (0: as they are)")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False)


def rows(subject: Subject, params: CorruptionParams) -> int:
    """Every used row once as it is, and once for each corruption and severity."""
    from assessor_checks.robustness import _image_corruptions as images
    from assessor_checks.robustness import _table_corruptions as tables

    features = subject.splits["test"].features
    table = features is not None and features.ndim == 2 and params.image_shape is None
    kinds = params.corruptions or (tables.CORRUPTIONS if table else images.CORRUPTIONS)
    return used(subject, "test", params.max_samples) * (1 + len(kinds) * len(set(params.severities)))


CHECK = Check(info=INFO, params=CorruptionParams, measure=measure, plot=plot, rows=rows)
