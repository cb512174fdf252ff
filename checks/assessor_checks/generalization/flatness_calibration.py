"""Calibration of flatness: what generalization gap the model's flatness stands for, read off a family of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
    Table,
    Task,
)
from assessor_checks._costs import GRADIENT, used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.generalization._gap_prediction import Family, Findings, Line
    from assessor_checks.generalization._reference_models import Assessed, Fit, Recipe

FEWEST = 8  # reference models below which a line with its scatter says too little
MATCHED = (0.001, 0.1)  # training losses, as compared with loss_target, that are matched by themselves
FIT_POINTS = 41
MARKERS = "os^Dv"
INFO = CheckInfo(
    id="generalization.flatness_calibration",
    version="1",
    title="What the flatness says about the generalization gap",
    measures=(
        "Reference models of the same architecture are trained on the same data with other seeds, batch sizes, "
        "learning rates and shares of wrong labels, all to the same training loss. From their relative flatness and "
        "their gap between test and training data, the gap of the assessed model is predicted from its flatness, and "
        "shown beside the gap that is measured."
    ),
    unit="nats",
    needs=frozenset({Need.TRAIN, Need.TEST, Need.GRADIENTS, Need.ARCHITECTURE}),
    tasks=frozenset(Task),
    limits=(
        "A model that was trained in another way than the reference models need not follow their line.",
        "All gaps are measured on one test split; the gap to data from the field of use is not predicted.",
        "Flatness may only tell wrong labels from right ones: read the rank correlation among models with the same "
        "label noise beside the overall one.",
        "The prediction interval assumes that the models scatter evenly and normally around the line.",
        "Only the last linear layer is measured, without its bias.",
    ),
    remedy=(
        "Train again with a penalty on the curvature of a layer (FAM), or with sharpness-aware minimisation, "
        "with fewer wrong labels, or with more data; then compare predicted and measured gap with the former model."
    ),
    remedy_code="""
# FAM, https://arxiv.org/abs/2307.02337: a penalty on the curvature of one layer
from assessor_checks.fam import FAM

fam = FAM(model, "fc2", weight=1e-2)  # a layer below the last one
for x, y in batches:
    loss = criterion(model(x), y)
    loss = loss + fam(loss)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
""",
    source=(
        "Petzka et al., NeurIPS 2021, arXiv 2001.00939 (measure, and correlation study of section 5); Jiang et al., "
        "ICLR 2020, arXiv 1912.02178, section 4 (models stopped at one loss, Kendall's tau); FAM: arXiv 2307.02337"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("generalization.gap",),
    spreads=True,
)


class FlatnessCalibrationParams(Params):
    """Parameters of generalization.flatness_calibration."""

    models: int = Field(default=24, ge=FEWEST, le=1000, description="Number of reference models to train.")
    max_epochs: int = Field(default=300, ge=1, description="Most passes over the training data for each of them.")
    loss_target: float | None = Field(
        default=None,
        gt=0,
        description="Mean training loss (nats; for regression the share of unexplained variance) at which a reference "
        "model is done; None: that of the assessed model, if it lies between 0.001 and 0.1.",
    )
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.001, 0.003, 0.01), min_length=1, description="Learning rates to vary over."
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(16, 32, 64, 128), min_length=1, description="Batch sizes (rows) to vary over."
    )
    label_noise: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        default=(0.0, 0.1, 0.2), min_length=1, description="Shares of training rows given a wrong label, to vary over."
    )
    optimiser: Literal["adamw", "sgd"] = Field(default="adamw", description="AdamW, or SGD with momentum 0.9.")
    weight_decay: float = Field(default=0.0, ge=0, description="The optimiser's weight decay.")
    gap: Literal["loss", "accuracy"] = Field(
        default="loss", description="Gap to predict: test loss minus training loss, or training minus test accuracy."
    )


def measure(subject: Subject, params: FlatnessCalibrationParams, seed: int) -> Result:
    """Train the reference models, fit their gap on the logarithm of their flatness, predict the assessed model's gap.

    Args:
        subject: A PyTorch module with training data and a way to build it untrained.
        params: Design of the family.
        seed: Seed of the design, of the models and of the intervals.

    Returns:
        Predicted and measured gap, rank correlations, the family as table and series.

    Raises:
        NotApplicable: The last layer cannot be measured, `build` gives another architecture or a trained model, or
            too few reference models reached the training loss.
    """
    from assessor_checks.generalization import _gap_prediction
    from assessor_checks.generalization import _reference_models as reference

    if params.gap == "accuracy" and not subject.task.is_classification:
        raise NotApplicable("a regression has no accuracy; set gap: loss")
    assessed, unit = reference.assess(subject)
    target = params.loss_target or min(max(assessed.loss, MATCHED[0]), MATCHED[1])
    schedule = reference.Schedule(params.optimiser, params.weight_decay, params.max_epochs, target * unit)
    recipes = reference.design(
        params.models,
        learning_rates=params.learning_rates,
        batch_sizes=params.batch_sizes,
        label_noise=params.label_noise,
        seed=seed,
    )
    fits, starts = reference.train_family(subject, recipes, schedule)
    family = _family(recipes, fits, params, target)
    found = _gap_prediction.read_off(family, assessed.flatness, seed)
    measured = _measured_gap(assessed, params.gap, seed)
    same_start = ("All reference models start from the same weights: target.model.build sets a seed of its own.",)
    return Result(
        metrics=_metrics(subject.task, params.gap, assessed, family, found, measured, seed),
        series=_series(family, found.line, assessed.flatness, measured.value),
        tables=(_table(recipes, fits, params.gap),),
        remarks=(
            *_remarks(params, target, family, found),
            _comparison(found.predicted, measured.value),
            *(same_start if starts == 1 else ()),
        ),
        doubt=" ".join(
            _gap_prediction.doubts_about(found, family, kappa=assessed.flatness, loss=assessed.loss, target=target)
        )
        or None,
    )


def _gap_of(fit: Fit, kind: str) -> float | None:
    """Gap of a reference model; None when it did not reach the target."""
    name = "loss" if kind == "loss" else "error"
    train, test = fit[f"train_{name}"], fit[f"test_{name}"]
    return None if train is None or test is None else test - train


def _family(recipes: tuple[Recipe, ...], fits: list[Fit], params: FlatnessCalibrationParams, target: float) -> Family:
    import numpy as np

    from assessor_checks.generalization import _gap_prediction

    rows = [
        (fit["kappa"], gap, recipe.label_noise)
        for recipe, fit in zip(recipes, fits, strict=True)
        if fit["kappa"] and (gap := _gap_of(fit, params.gap)) is not None
    ]
    if len(rows) < FEWEST:
        raise NotApplicable(
            f"only {len(rows)} of {len(fits)} reference models reached a training loss of {target:.3g} within "
            f"{params.max_epochs} passes, and {FEWEST} are needed: allow more passes, or try other learning rates"
        )
    family = _gap_prediction.Family(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))
    if np.ptp(family.kappa) == 0:
        raise NotApplicable("all reference models are equally flat, so that nothing can be read off their flatness")
    return family


def _measured_gap(assessed: Assessed, kind: str, seed: int) -> Estimate:
    from assessor_checks._intervals import bootstrap_mean, wilson
    from assessor_checks.generalization import _gap_prediction

    train, test = assessed.train, assessed.test
    if kind == "loss" or train.correct is None or test.correct is None:
        return _gap_prediction.difference(bootstrap_mean(test.losses, seed + 1), bootstrap_mean(train.losses, seed))
    shares = [wilson(int(side.correct.sum()), len(side.correct)) for side in (train, test) if side.correct is not None]
    return _gap_prediction.difference(*shares)


def _metrics(
    task: Task, kind: str, assessed: Assessed, family: Family, found: Findings, measured: Estimate, seed: int
) -> tuple[Metric, ...]:
    from assessor_checks._intervals import bootstrap_mean, wilson

    models, flatter = len(family.kappa), int((family.kappa < assessed.flatness).sum())
    nats = INFO.unit if task.is_classification else "squared units of the target"
    unit = nats if kind == "loss" else "1"
    how = "mean loss on test minus on training data; 95 % MOVER from BCa bootstraps"
    if kind == "accuracy":
        how = "accuracy on training minus on test data; 95 % Newcombe hybrid score interval (1998, method 10)"
    return (
        _metric(
            "predicted_gap",
            found.predicted,
            models,
            "least squares of the gap on the logarithm of relative flatness over the reference models; 95 % prediction "
            "interval for one more model (Student's t)",
            unit=unit,
            better=Better.LOWER,
        ),
        _metric("measured_gap", measured, len(assessed.test.losses), how, unit=unit, better=Better.LOWER),
        *_ranks(found, models),
        _metric(
            "relative_flatness",
            bootstrap_mean(assessed.kappa, seed),
            len(assessed.kappa),
            "of the assessed model, normalise=neuron, closed form in float64; 95 % BCa bootstrap over training rows",
            unit=nats,
            better=Better.LOWER,
        ),
        _metric(
            "flatness_percentile",
            wilson(flatter, models),
            models,
            "share of the reference models that are flatter than the assessed model; 95 % Wilson score interval",
        ),
    )


def _ranks(found: Findings, models: int) -> tuple[Metric, ...]:
    overall = _metric(
        "kendall_tau",
        found.tau,
        models,
        f"Kendall's tau of relative flatness and gap over {found.rank.pairs} pairs of reference models; 95 % interval "
        f"of Fieller, Hartley and Pearson (1957); p = {found.rank.p:.2g} by permutation",
    )
    if found.same is None:
        return (overall,)
    within = Metric(
        name="kendall_tau_same_noise",
        value=found.same.tau,
        n=models,
        better=Better.NONE,
        method=f"Kendall's tau over the {found.same.pairs} pairs of reference models with the same label noise; "
        f"p = {found.same.p:.2g} by permutation; no interval",
    )
    return overall, within


def _metric(
    name: str, value: Estimate, n: int, method: str, *, unit: str = "1", better: Better = Better.NONE
) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name,
        value=value.value,
        low=value.low,
        high=value.high,
        confidence=CONFIDENCE,
        unit=unit,
        n=n,
        better=better,
        method=method,
        primary=name == "predicted_gap",
    )


def _remarks(params: FlatnessCalibrationParams, target: float, family: Family, found: Findings) -> tuple[str, ...]:
    reached = len(family.kappa)
    return (
        f"{reached} of {params.models} reference models reached a training loss of {target:.3g} within "
        f"{params.max_epochs} passes and are compared; the others are left out.",
        "The gaps of all models are measured on the same test split. A reference model trained with wrong labels has "
        "its training loss on the labels it was shown and its test loss on the true ones.",
        f"Left out one by one, {found.inside} of {reached} reference models lie inside the interval predicted from "
        "the others.",
    )


def _comparison(predicted: Estimate, measured: float) -> str:
    if measured > predicted.high:
        return "The measured gap lies above the predicted interval: the model generalizes worse than its flatness says."
    if measured < predicted.low:
        return (
            "The measured gap lies below the predicted interval: the model generalizes better than its flatness says."
        )
    return "The measured gap lies inside the predicted interval."


def _table(recipes: tuple[Recipe, ...], fits: list[Fit], kind: str) -> Table:
    rows = tuple(
        (
            "target missed" if fit["epochs"] is None else "target reached",
            recipe.seed,
            recipe.batch_size,
            recipe.learning_rate,
            recipe.label_noise,
            fit["epochs"],
            fit["train_loss"],
            fit["kappa"],
            _gap_of(fit, kind),
        )
        for recipe, fit in zip(recipes, fits, strict=True)
    )
    columns = (
        *("status", "random_seed", "batch_size", "learning_rate", "label_noise", "training_passes"),
        *("training_loss", "relative_flatness", "measured_gap"),
    )
    return Table(name="reference_models", title="Reference models", columns=columns, rows=rows)


def _series(family: Family, line: Line, kappa: float, measured: float) -> tuple[Series, ...]:
    import numpy as np

    low, high = min(kappa, float(family.kappa.min())), max(kappa, float(family.kappa.max()))
    grid = np.linspace(np.log(low), np.log(high), FIT_POINTS)
    fit = [line.at(float(x)) for x in grid]

    def columns(**values: np.ndarray | list[float]) -> dict[str, tuple[float, ...]]:
        return {name: tuple(map(float, column)) for name, column in values.items()}

    return (
        Series(
            name="family",
            title="Reference models",
            columns=columns(relative_flatness=family.kappa, gap=family.gap, label_noise=family.noise),
        ),
        Series(
            name="fit",
            title="Predicted gap with its prediction interval",
            columns=columns(
                relative_flatness=np.exp(grid),
                gap=[point.value for point in fit],
                low=[point.low for point in fit],
                high=[point.high for point in fit],
            ),
        ),
        Series(name="assessed", title="Assessed model", columns=columns(relative_flatness=[kappa], gap=[measured])),
    )


def plot(result: Result, axes: Axes) -> None:
    """Gap over flatness: the reference models by label noise, the line with its band, the assessed model."""
    family, fit, assessed = (series.arrays for series in result.series)
    points = list(zip(family["relative_flatness"], family["gap"], family["label_noise"], strict=True))
    axes.fill_between(fit["relative_flatness"], fit["low"], fit["high"], color="0.9", lw=0, label="95 % prediction")
    axes.plot(fit["relative_flatness"], fit["gap"], color="0.4", linestyle="--")
    for position, level in enumerate(sorted(set(family["label_noise"].tolist()))):
        marker = MARKERS[position % len(MARKERS)]
        chosen = [(kappa, gap) for kappa, gap, noise in points if noise == level]
        axes.plot(*zip(*chosen, strict=True), marker, color="0.35", ms=4, label=f"label noise {level:g}")
    axes.plot(*assessed.values(), "*", color="black", ms=13, label="assessed model")
    axes.set_xscale("log")
    flatness, gap = result.metric("relative_flatness"), result.metric("measured_gap")
    axes.set_xlabel(f"relative flatness ({flatness.unit}; lower is flatter)")
    axes.set_ylabel("accuracy gap" if gap.unit == "1" else f"loss gap ({gap.unit})")
    axes.legend(frameon=False)


def rows(subject: Subject, params: FlatnessCalibrationParams) -> int:
    """All passes of all reference models over the train split, each with its loss; fewer where they are done."""
    train, test = used(subject, "train"), used(subject, "test")
    return params.models * (params.max_epochs * (GRADIENT + 1) * train + train + test) + train + test


CHECK = Check(info=INFO, params=FlatnessCalibrationParams, measure=measure, plot=plot, rows=rows)
