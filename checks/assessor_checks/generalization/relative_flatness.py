"""Relative flatness: how strongly the loss curves in a layer's weights, measured against the weights' size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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
from assessor_checks._costs import GRADIENT, PRODUCT, used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.generalization._curvature import Budget
    from assessor_checks.generalization._layer_flatness import LayerFlatness

QUANTILES = 200  # most points of the plotted distribution
INFO = CheckInfo(
    id="generalization.relative_flatness",
    version="2",
    title="Relative flatness of the loss",
    measures=(
        "How strongly the loss curves when the weights of a layer change (the last linear layer unless another is "
        "named), measured against the size of these weights, so that rescaling the network does not change it: the "
        "trace of the loss's Hessian, weighted by the inner products of the neurons' weights. Low means flat: small "
        "changes of the features change the loss little."
    ),
    unit="nats",
    needs=frozenset({Need.TRAIN, Need.TEST, Need.GRADIENTS}),
    tasks=frozenset(Task),
    limits=(
        "There is no absolute threshold: compare only models of the same architecture on the same data, or set a "
        "target for the ratio to a baseline.",
        "Compare models that were trained in one way: optimiser and batch size shift the value as much as wrong labels "
        "do, and the gap less. Over such a mixture it ranked the gap with Kendall's tau 0.65, but hardly at all among "
        "networks with equally many wrong labels that were stopped early (studies/README.md).",
        "Confidence alone makes the loss flat: a confidently wrong prediction is flat too.",
        "The theory needs a near minimum of the training loss, training data that represent the field of use, and "
        "labels that are locally constant; only the first is measured here.",
        "The theory speaks of one layer at a time, without its bias; another layer may be sharp.",
        "The interval shows the sampling of rows, not the variation between training runs.",
    ),
    remedy=(
        "Train to a flatter minimum (a flatness penalty such as FAM, sharpness-aware minimisation, smaller batches or "
        "a larger learning rate, weight decay on the last layer) and compare with the former model on the same data."
    ),
    remedy_code=(
        "from assessor_checks.fam import FAM\n"
        "\n"
        'with FAM(model, "name.of.a.hidden.layer", weight=0.01) as fam:\n'
        "    for x, y in loader:\n"
        "        loss = criterion(model(x), y)\n"
        "        (loss + fam(loss)).backward()\n"
        "        optimizer.step()\n"
        "        optimizer.zero_grad()\n"
    ),
    source=(
        "Petzka, Kamp, Adilova, Sminchisescu, Boley: Relative Flatness and Generalization, NeurIPS 2021, "
        "arXiv 2001.00939, definition of relative flatness (trace; maximum as in the authors' code); by neuron: "
        "Petzka, Adilova, Kamp, Sminchisescu 2019, arXiv 1912.00058"
    ),
    requirements=("RE-R-SC-ME-03", "RE-R-RO-ME-04"),
    instead=("generalization.gap",),
    spreads=True,
)


class RelativeFlatnessParams(Params):
    """Parameters of generalization.relative_flatness."""

    layer: str | None = Field(
        default=None, description="Layer to measure, by its name in the module; None: the last linear layer."
    )
    normalise: Literal["neuron", "none"] = Field(
        default="neuron",
        description="Primary value: features divided by their standard deviation as the authors do, or as they are.",
    )
    split: Literal["train", "test"] = Field(default="train", description="Data whose curvature is measured.")
    loss: Literal["cross_entropy", "squared_error"] | None = Field(
        default=None,
        description="Loss the model was trained with; None: cross_entropy for classes, squared_error for regression. "
        "Another loss has another curvature and cannot be measured.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing in training; its least loss is taken off."
    )
    max_training_loss: float = Field(
        default=0.1,
        gt=0,
        description="Above this mean training loss (nats; for regression the share of unexplained variance) "
        "the model is not near a minimum and the result is doubtful.",
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="alpha of a penalty alpha ||W||^2 on the measured weights, counted as part of the loss "
        "(half of PyTorch's weight_decay).",
    )
    profile: bool = Field(default=True, description="Measure every other layer too, for a table.")
    profile_rows: int = Field(default=500, ge=2, description="Most rows for that table, drawn by the seed.")
    maximum: bool = Field(
        default=True, description="Compute the maximum variant too; takes an eigenvalue for every output."
    )
    exact: int = Field(
        default=512, ge=0, description="Most Hessian-vector products a row for an exact value of a hidden layer."
    )
    probes: int = Field(
        default=16, ge=2, description="Random directions a row where the exact value would cost more products."
    )


def measure(subject: Subject, params: RelativeFlatnessParams, seed: int) -> Result:
    """Relative flatness with a bootstrap interval over samples, both normalisations, and the training loss.

    Args:
        subject: A PyTorch module with training data; with a baseline the ratio to it is measured too.
        params: Layer, normalisation, split.
        seed: Seed of the bootstrap, of random directions and of the rows of the table.

    Returns:
        Metrics, distribution over samples, mean by predicted class, a table by layer.

    Raises:
        NotApplicable: The layer or the loss cannot be measured, or values are not finite.
    """
    from assessor_checks.generalization._curvature import Budget
    from assessor_checks.generalization._layer_flatness import layer_table, measure_layer, training_losses

    _check_loss(params.loss, subject.task)
    budget = Budget(params.exact, params.probes, seed, params.maximum)
    found = measure_layer(subject, params.layer, params.split, params.normalise, budget, params.label_smoothing)
    losses = found.losses if params.split == "train" and found.losses is not None else None
    losses = training_losses(subject, params.label_smoothing) if losses is None else losses
    unit = INFO.unit if subject.task.is_classification else "squared units of the target"
    ratio, why_not = _ratio(subject, params, found, budget)
    metrics = (
        *_values(found, params, seed, unit),
        _mean("training_loss", losses, seed, unit, "mean loss on the train split; 95 % BCa bootstrap over rows"),
        *ratio,
    )
    by_layer, lost = layer_table(
        subject, params.split, params.normalise, params.label_smoothing, budget=budget,
        most=params.profile_rows if params.profile else 0,
    )  # fmt: skip
    return Result(
        metrics=metrics,
        series=(_distribution(found.kappa),),
        tables=(*_by_class(subject, found), *by_layer),
        remarks=(*_remarks(found, params, subject), *why_not, *lost),
        doubt=_doubt(subject, losses, params),
    )


def _check_loss(loss: str | None, task: Task) -> None:
    wanted = "cross_entropy" if task.is_classification else "squared_error"
    if loss not in {None, wanted}:
        raise NotApplicable(f"loss {loss} with a {task} task is not covered; covered is {wanted}")


def _values(found: LayerFlatness, params: RelativeFlatnessParams, seed: int, unit: str) -> tuple[Metric, ...]:
    """The metrics of the layer itself."""
    from assessor_checks import _flatness as flatness

    trace = flatness.weight_decay_trace(found.weight, params.weight_decay)
    how = f"normalise={params.normalise}, {_how(found)}; 95 % BCa bootstrap over rows, normalisation held fixed"
    metrics = [_mean("relative_flatness", found.kappa + trace, seed, unit, how, found, primary=True)]
    if found.other is not None:
        plain = params.normalise == "neuron"
        name = "relative_flatness_unnormalised" if plain else "relative_flatness_normalised"
        way = "none" if plain else "neuron"
        other = found.other + flatness.weight_decay_trace(found.other_weight, params.weight_decay)
        metrics.append(_mean(name, other, seed, unit, f"normalise={way}, else as relative_flatness"))
    if found.maximum is not None:
        metrics.append(
            Metric(
                name="relative_flatness_max",
                value=found.maximum.value + flatness.weight_decay_max(found.weight, params.weight_decay),
                unit=unit,
                n=len(found.kappa),
                better=Better.LOWER,
                method=f"sum of ||w_s||^2 lambda_max(H_ss), normalise={params.normalise}; numerical error at most "
                f"{found.maximum.error:.1e}; no interval",
            )
        )
    if found.neurons is not None:
        metrics.append(
            Metric(
                name="neuron_flatness",
                value=found.neurons + trace,
                unit=unit,
                n=len(found.kappa),
                better=Better.LOWER,
                method=f"sum over neurons of ||w_s||^2 Tr(H_ss), normalise={params.normalise}; no interval",
            )
        )
    return tuple(metrics)


def _how(found: LayerFlatness) -> str:
    if found.closed is not None:
        return "closed form in float64"
    if found.error is None:
        return f"exact, {found.products} Hessian-vector products a row"
    return f"unbiased estimate from {found.products} random directions, their standard error {found.error:.2g}"


def _mean(
    name: str,
    values: np.ndarray,
    seed: int,
    unit: str,
    method: str,
    found: LayerFlatness | None = None,
    *,
    primary: bool = False,
) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, bootstrap_mean

    estimate: Estimate | None
    if found is not None:
        estimate = found._replace(kappa=values).interval(seed)
    else:
        estimate = bootstrap_mean(values, seed) if len(values) > 1 else None
    return Metric(
        name=name,
        value=float(values.mean()),
        low=None if estimate is None else estimate.low,
        high=None if estimate is None else estimate.high,
        confidence=None if estimate is None else CONFIDENCE,
        unit=unit,
        n=len(values),
        better=Better.LOWER,
        method=method if estimate is not None else f"{method}; no interval from one row",
        primary=primary,
    )


def _ratio(
    subject: Subject, params: RelativeFlatnessParams, found: LayerFlatness, budget: Budget
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """The ratio to the baseline, or why there is none."""
    from assessor_checks._intervals import CONFIDENCE, bootstrap_ratio
    from assessor_checks._layers import same_architecture
    from assessor_checks.generalization._layer_flatness import measure_layer

    if Need.BASELINE not in subject.offers:
        return (), ()
    if difference := same_architecture(subject.module, subject.baseline.module):
        return (), (f"No ratio to the baseline: it is of another architecture ({difference}).",)
    cheaper = budget._replace(maximum=False)
    there = measure_layer(subject.baseline, found.name, params.split, params.normalise, cheaper, params.label_smoothing)
    if len(found.kappa) < 2 or not there.kappa.mean() > 0 or not found.kappa.mean() > 0:
        return (), ("No ratio to the baseline: it takes two rows at least and two positive values.",)
    ratio = bootstrap_ratio(found.kappa, there.kappa, budget.seed)
    metric = Metric(
        name="flatness_ratio",
        value=ratio.value,
        low=ratio.low,
        high=ratio.high,
        confidence=CONFIDENCE,
        n=len(found.kappa),
        better=Better.LOWER,
        method=f"relative flatness divided by the baseline's, {there.kappa.mean():.4g}; same layer and rows, without "
        "weight decay; 95 % BCa bootstrap over pairs of rows",
    )
    return (metric,), ()


def _distribution(kappa: np.ndarray) -> Series:
    import numpy as np

    shares = np.linspace(0, 1, min(QUANTILES, len(kappa)))
    return Series(
        name="per_sample",
        title="Relative flatness by sample, sorted",
        columns={"share": tuple(shares.tolist()), "kappa": tuple(np.quantile(kappa, shares).tolist())},
    )


def _by_class(subject: Subject, found: LayerFlatness) -> tuple[Table, ...]:
    """Mean by predicted class: labels do not enter."""
    if found.predicted is None:
        return ()
    rows = []
    for index, name in enumerate(subject.classes):
        kappa = found.kappa[found.predicted == index]
        rows.append((name, len(kappa), float(kappa.mean()) if len(kappa) else None))
    columns = ("predicted class", "rows", "mean relative flatness")
    return (Table(name="by_class", title="Relative flatness by predicted class", columns=columns, rows=tuple(rows)),)


def _remarks(found: LayerFlatness, params: RelativeFlatnessParams, subject: Subject) -> tuple[str, ...]:
    n = subject.splits[params.split].n
    outputs, width = found.shape
    remarks = [
        f"Layer '{found.name}': {width} features, {outputs} outputs, loss {found.closed}; "
        f"{n} rows of the {params.split} split."
        if found.closed is not None
        else f"Layer '{found.name}': {width} features, {outputs} outputs; {n} rows of the {params.split} split."
    ]
    if found.blocks:
        remarks.append(
            "This weight is used more than once, or outside a layer of its own: all its uses are measured together, "
            "without normalisation, and the distribution is over blocks of rows."
        )
    if found.constant:
        remarks.append(
            f"{found.constant} of {width} features are constant over these rows; they act as a bias and are left out."
        )
    if found.frozen:
        remarks.append(
            f"Layer '{found.name}' was frozen (its weights ask for no gradient): training cannot have flattened it."
        )
    if found.saturated:
        remarks.append(
            f"Softmax collapse: for {found.saturated} of {n} rows the largest probability is exactly 1 in the "
            "precision of the model; training in that precision got no gradient from them."
        )
    if params.maximum and found.closed is not None and found.maximum is None:
        remarks.append(
            "The features of these rows do not fit the memory set aside for them, so that the maximum was not computed."
        )
    if params.weight_decay:
        remarks.append(
            f"The loss includes {params.weight_decay} ||W||^2 on the weights as measured (after any normalisation): "
            "2 alpha m sum ||w_s||^2 in the trace, 2 alpha sum ||w_s||^2 in the maximum."
        )
    return tuple(remarks)


def _doubt(subject: Subject, losses: np.ndarray, params: RelativeFlatnessParams) -> str | None:
    """Whether the model is too far from a minimum of its training loss for the theory to speak."""
    from assessor_checks._losses import least_loss

    limit = params.max_training_loss
    if subject.task.is_classification:
        found = float(losses.mean()) - least_loss(len(subject.classes), params.label_smoothing)
        what = "mean training loss"
    else:
        variance = float(subject.splits["train"].labels.var())
        found = float(2 * losses.mean() / variance) if variance > 0 else float(losses.any())
        what = "share of the training targets' variance left unexplained"
    if found <= limit:
        return None
    return (
        f"The {what} is {found:.3g}, above {limit:g}: the model is not near a minimum of the training loss, "
        "where relative flatness says something about generalization."
    )


def plot(result: Result, axes: Axes) -> None:
    """Sorted kappa of the samples; a few samples often carry the whole value."""
    columns = result.series[0].arrays
    axes.plot(columns["share"], columns["kappa"], color="black")
    axes.axhline(result.metric("relative_flatness").value, color="0.4", linestyle="--", label="mean")
    values = columns["kappa"]
    if values.max() > 100 * values[len(values) // 2]:
        axes.set_yscale("symlog", linthresh=max(1e-12, 1e-6 * abs(result.metric("relative_flatness").value)))
    if values.min() >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("share of samples")
    axes.set_ylabel(f"relative flatness of a sample ({result.metric('relative_flatness').unit})")
    axes.legend(frameon=False)


def rows(subject: Subject, params: RelativeFlatnessParams) -> int | None:
    """A few passes for the last layer, and products for each layer of the table; unknown for another layer named.

    A product goes only through what follows the layer, counted here by its share of the parameters.
    """
    if params.layer is not None:
        return None
    layers = [p for p in subject.module.parameters() if p.ndim > 1]
    left = every = sum(p.numel() for p in layers)
    products = 0.0
    for weight in layers:
        inputs = weight[0].numel()
        exact = min(len(weight), inputs) * (inputs if weight.ndim > 2 else 1)  # of a convolution at many positions
        left -= weight.numel()
        products += (exact if exact <= params.exact else params.probes) * left / every
    models = 1 + (Need.BASELINE in subject.offers)
    profiled = used(subject, params.split, params.profile_rows) if params.profile else 0
    passes = models * GRADIENT * used(subject, params.split) + used(subject, "train")
    return passes + int(profiled * (PRODUCT * products + GRADIENT * len(layers)))


CHECK = Check(info=INFO, params=RelativeFlatnessParams, measure=measure, plot=plot, rows=rows)
