"""Accuracy under Gaussian noise on the inputs; needs no gradients, so it measures any model that can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

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
    Task,
    Weakness,
    progress,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._inputs import Room
    from assessor_checks._intervals import Estimate

ENTRIES = 2**22  # noisy feature values held at once
INFO = CheckInfo(
    id="robustness.noise_accuracy",
    version="2",
    title="Accuracy under Gaussian noise",
    measures=(
        "The share of right answers when independent Gaussian noise is added to every feature, averaged over several "
        "draws of the noise, at several levels; the primary value is that at the largest level."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "Random noise is a weak opponent: a model that bears it may fall to a small change chosen on purpose.",
        "Independent Gaussian noise is rarely how inputs go wrong in the field (blur, drift, missing values).",
        "Noise may carry a row over the true boundary between classes, so that a changed answer is right.",
        "Levels in standard deviations treat rare and common features alike.",
    ),
    remedy=(
        "Augment the training data with noise of the size expected in the field, regularise, smooth the predictions "
        "over several noisy copies, or check inputs for plausibility before they reach the model."
    ),
    source=(
        "Gaussian noise as among the corruptions of Hendrycks and Dietterich 2019, arXiv 1903.12261, at stated levels "
        "instead of their five severities; BCa bootstrap (Efron 1987) over rows, whose draws are averaged first; "
        "Clopper and Pearson 1934 near 0 and 1"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
)


class NoiseParams(Params):
    """Parameters of robustness.noise_accuracy."""

    levels: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.05, 0.1, 0.2), min_length=1, description="Standard deviations of the noise, in the unit of scale."
    )
    scale: Literal["absolute", "feature_std"] = Field(
        default="feature_std",
        description="Unit of the levels: the features' own, or each feature's standard deviation over the train "
        "split (test split without one); the latter holds columns of at most two values fixed.",
    )
    bounds: Bounds | None = Field(default=None, description="Noisy values are clipped to this range.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns that get no noise: names or '#3'.")
    draws: int = Field(default=10, ge=1, le=10_000, description="Draws of the noise for every row.")
    max_samples: int = Field(default=1000, ge=1, description="Rows used at most, chosen by the seed.")


class _Outcome(NamedTuple):
    clean: np.ndarray  # (n,) 1 where the clean row is classified rightly
    noisy: np.ndarray  # (levels, n) share of draws classified rightly


def measure(subject: Subject, params: NoiseParams, seed: int) -> Result:
    """Accuracy at the largest level, clean accuracy, the drop between them, and the curve over levels.

    Args:
        subject: Any classifier that answers new inputs.
        params: Levels, draws, what may be changed.
        seed: Seed of the rows' choice, of the noise and of the bootstrap.

    Returns:
        Metrics and the curve.

    Raises:
        NotApplicable: The inputs cannot be perturbed, or the model gives NaN.
    """
    from assessor_checks import _inputs as inputs
    from assessor_checks._intervals import clopper_pearson
    from assessor_checks.robustness._paired import mean_drop, mean_share
    from assessor_checks.robustness._reach import unit_doubt

    room = inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    levels = tuple(sorted(set(params.levels)))
    found = _ask(subject, params, levels, seed, room)
    n, worst = len(found.clean), found.noisy[-1]
    how = (
        f"noise of {levels[-1]:g} ({params.scale}), {params.draws} draws a row, seed {seed}; "
        "95 % BCa bootstrap over rows, Clopper-Pearson where fewer than 10 rows differ"
    )
    metrics = (
        _metric("noise_accuracy", mean_share(worst, seed), n, Better.HIGHER, how, primary=True),
        _metric(
            "clean_accuracy",
            clopper_pearson(int(found.clean.sum()), n),
            n,
            Better.HIGHER,
            "the same rows without noise; 95 % Clopper-Pearson",
        ),
        _metric(
            "accuracy_drop", mean_drop(found.clean - worst, seed), n, Better.LOWER, f"clean minus noisy, paired; {how}"
        ),
    )
    estimates = [clopper_pearson(int(found.clean.sum()), n), *(mean_share(row, seed) for row in found.noisy)]
    columns = zip(*estimates, strict=True)
    curve = dict(zip(("accuracy", "low", "high"), map(tuple, columns), strict=True))
    available = subject.splits["test"].n
    return Result(
        metrics=metrics,
        series=(Series(name="curve", title="Accuracy by level of noise", columns={"level": (0.0, *levels), **curve}),),
        remarks=(*room.remarks, f"{n} of {available} test rows, {params.draws * len(levels) * n + n} answers asked."),
        doubt=unit_doubt(subject, room.scale, levels[-1], params.scale),
    )


def _ask(subject: Subject, params: NoiseParams, levels: tuple[float, ...], seed: int, room: Room) -> _Outcome:
    """Correctness of clean and noisy rows; every level uses the same draws, so that levels compare like with like."""
    import numpy as np

    from assessor_checks import _inputs as inputs

    features = inputs.float_features(subject)
    if Need.PROBABILITIES in subject.offers:
        bad = int((~np.isfinite(subject.scores("test"))).any(axis=1).sum())
        if bad:
            raise NotApplicable(f"the model's scores are not finite for {bad} of {len(features)} test rows")
    rows = inputs.chosen_rows(len(features), params.max_samples, seed)
    x, labels = features[rows], subject.splits["test"].labels[rows]
    rng = np.random.default_rng([seed, 1])  # a stream of its own beside that of the rows
    noisy = np.empty((len(levels), len(rows)))
    size = max(1, ENTRIES // max(1, params.draws * x[0].size))
    for start in range(0, len(rows), size):
        progress("noisy rows", start, len(rows))
        block, wanted = x[start : start + size], labels[start : start + size]
        noise = rng.standard_normal((params.draws, *block.shape), dtype=np.float64) * room.scale
        for position, level in enumerate(levels):
            moved = np.clip(block + level * noise, room.low, room.high).astype(x.dtype)
            answers = subject.query(moved.reshape(-1, *x.shape[1:])).reshape(params.draws, -1)
            noisy[position, start : start + size] = (answers == wanted).mean(axis=0)
    return _Outcome((subject.query(x) == labels).astype(np.float64), noisy)


def _metric(name: str, estimate: Estimate, n: int, better: Better, method: str, *, primary: bool = False) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    value, low, high = estimate
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


def plot(result: Result, axes: Axes) -> None:
    """Accuracy by level of noise, with its interval."""
    columns = result.series[0].arrays
    axes.fill_between(columns["level"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["level"], columns["accuracy"], "o-", color="black")
    axes.set_ylim(0, 1)
    axes.set_xlabel("standard deviation of the noise")
    axes.set_ylabel("accuracy")


def weakness(subject: Subject, params: NoiseParams, seed: int) -> Weakness:
    """Noisy rows that the model gets wrong although it gets the clean ones right, at the largest level.

    Args:
        subject: What was measured.
        params: As it was measured.
        seed: Of the rows' choice and of the noise.

    Returns:
        At most fifty.
    """
    import numpy as np

    from assessor_checks import _inputs as inputs
    from assessor_checks.robustness import _fooled

    room = inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    features, level = inputs.float_features(subject), max(params.levels)
    rows = inputs.chosen_rows(len(features), params.max_samples, seed)
    x, labels = features[rows], subject.splits["test"].labels[rows]
    rng = np.random.default_rng([seed, 2])

    def found() -> Iterator[tuple[np.ndarray, object]]:
        for place in np.flatnonzero(subject.query(x) == labels):
            noise = rng.standard_normal((params.draws, *x.shape[1:])) * room.scale
            moved = np.clip(x[place] + level * noise, room.low, room.high).astype(x.dtype)
            wrong = np.flatnonzero(subject.query(moved) != labels[place])
            if len(wrong):
                yield moved[wrong[0]], labels[place]

    return _fooled.weakness(found(), f"Gaussian noise of {level:g} ({params.scale})")


def rows(subject: Subject, params: NoiseParams) -> int:
    """Every used row once as it is, and for each level as often as noise is drawn."""
    return min(subject.splits["test"].n, params.max_samples) * (1 + len(params.levels) * params.draws)


CHECK = Check(info=INFO, params=NoiseParams, measure=measure, plot=plot, weakness=weakness, rows=rows)
