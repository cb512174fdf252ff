"""Relative flatness of the last linear layer: how strongly the loss curves, measured against the weights' size."""

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

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._flatness import Loss
    from assessor_checks._layers import LastLayer

QUANTILES = 200  # most points of the plotted distribution
INFO = CheckInfo(
    id="generalization.relative_flatness",
    version="1",
    title="Relative flatness of the last layer",
    measures=(
        "The trace of the loss's Hessian in the weights of the last linear layer, each block weighted by the inner "
        "product of the neurons' weight vectors, so that rescaling the network does not change it. "
        "Low means flat: small changes of the features change the loss little."
    ),
    unit="nats",
    needs=frozenset({Need.TRAIN, Need.TEST, Need.GRADIENTS}),
    tasks=frozenset(Task),
    limits=(
        "There is no absolute threshold: compare only models of the same architecture on the same data.",
        "Confidence alone makes the loss flat: a confidently wrong prediction is flat too.",
        "The theory needs a near minimum of the training loss, training data that represent the field of use, and "
        "labels that are locally constant; only the first is measured here.",
        "Only the last linear layer is measured, without its bias; earlier layers may be sharp.",
        "The interval shows the sampling of rows, not the variation between training runs.",
    ),
    remedy=(
        "Train to a flatter minimum (sharpness-aware minimisation, a flatness penalty, smaller batches or a larger "
        "learning rate, weight decay on the last layer) and compare with the former model on the same data."
    ),
    source=(
        "Petzka, Kamp, Adilova, Sminchisescu, Boley: Relative Flatness and Generalization, NeurIPS 2021, "
        "arXiv 2001.00939, definition of relative flatness (trace; maximum as in the authors' code)"
    ),
    requirements=("RE-R-SC-ME-03", "RE-R-RO-ME-04"),
)


class RelativeFlatnessParams(Params):
    """Parameters of generalization.relative_flatness."""

    layer: str | None = Field(default=None, description="Layer to measure; None or the last linear layer's name.")
    normalise: Literal["neuron", "none"] = Field(
        default="neuron",
        description="Primary value: features divided by their standard deviation as the authors do, or as they are.",
    )
    split: Literal["train", "test"] = Field(default="train", description="Data whose curvature is measured.")
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


def measure(subject: Subject, params: RelativeFlatnessParams, seed: int) -> Result:
    """Relative flatness with a bootstrap interval over samples, both normalisations, and the training loss.

    Args:
        subject: A PyTorch module with training data.
        params: Layer, normalisation, split.
        seed: Seed of the bootstrap.

    Returns:
        Metrics, distribution over samples, mean by predicted class.

    Raises:
        NotApplicable: No last linear layer gives the logits, or they are not finite.
    """
    from assessor_checks import _flatness as flatness

    layer = _last_layer(subject, params.split, params.layer)
    loss = _loss(subject.task, layer)
    ways = _ways(layer, params.normalise)
    chosen = ways.pop(params.normalise)
    kappa = _kappa(loss, chosen, layer.logits, params.weight_decay)
    losses, unexplained = _training_loss(subject, layer, loss, params.split)
    most = flatness.max_flatness(loss, *chosen, layer.logits)
    unit = INFO.unit if subject.task.is_classification else "squared units of the target"
    how = (
        f"normalise={params.normalise}, closed form in float64; 95 % BCa bootstrap over rows, normalisation held fixed"
    )
    metrics = (
        _mean("relative_flatness", kappa, seed, unit, how, primary=True),
        *(
            _mean(
                "relative_flatness_unnormalised" if name == "none" else "relative_flatness_normalised",
                _kappa(loss, way, layer.logits, params.weight_decay),
                seed,
                unit,
                f"normalise={name}, else as relative_flatness",
            )
            for name, way in ways.items()
        ),
        Metric(
            name="relative_flatness_max",
            value=most.value + flatness.weight_decay_max(chosen[1], params.weight_decay),
            unit=unit,
            n=len(kappa),
            better=Better.LOWER,
            method=f"sum of ||w_s||^2 lambda_max(H_ss), normalise={params.normalise}; numerical error at most "
            f"{most.error:.1e}; no interval",
        ),
        _mean("training_loss", losses, seed, unit, f"mean {loss} on the train split; 95 % BCa bootstrap over rows"),
    )
    return Result(
        metrics=metrics,
        series=(_distribution(kappa),),
        tables=_by_class(subject, layer, kappa),
        remarks=_remarks(layer, loss, params, len(kappa)),
        doubt=_doubt(unexplained, params.max_training_loss, subject.task),
    )


def _last_layer(subject: Subject, split: str, wanted: str | None) -> LastLayer:
    import torch

    from assessor_checks import _layers as layers

    layer = layers.last_linear(subject.module, subject.tensors(split)[0])
    if wanted not in (None, layer.name):
        raise NotApplicable(
            f"layer '{wanted}': only the last linear layer can be measured so far, which is '{layer.name}'"
        )
    for what, values in (("features", layer.features), ("logits", layer.logits)):
        if bad := int((~torch.isfinite(values)).any(dim=1).sum()):
            raise NotApplicable(f"the last layer's {what} are not finite for {bad} of {len(values)} rows of {split}")
    return layer


def _ways(layer: LastLayer, wanted: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Features and weight by normalisation; constant features alone cannot be normalised."""
    from assessor_checks import _flatness as flatness

    ways = {"none": (layer.features, layer.weight)}
    if bool((layer.features != layer.features[0]).any()):
        ways["neuron"] = flatness.normalise_neurons(layer.features, layer.weight)
    elif wanted == "neuron":
        raise NotApplicable(
            f"every feature of layer '{layer.name}' is constant over these {len(layer.features)} rows, so that none "
            "can be normalised; give more rows, or set normalise: none"
        )
    return ways


def _loss(task: Task, layer: LastLayer) -> Loss:
    from assessor_checks._flatness import Loss

    if not task.is_classification:
        return Loss.SQUARED
    return Loss.SIGMOID if layer.logits.shape[1] == 1 else Loss.SOFTMAX


def _kappa(loss: Loss, way: tuple[torch.Tensor, torch.Tensor], logits: torch.Tensor, decay: float) -> np.ndarray:
    """(n,) kappa_i, the weight decay's share added to each."""
    from assessor_checks import _flatness as flatness

    kappa = flatness.per_sample_trace(loss, *way, logits) + flatness.weight_decay_trace(way[1], decay)
    found: np.ndarray = kappa.cpu().numpy()
    return found


def _training_loss(subject: Subject, layer: LastLayer, loss: Loss, split: str) -> tuple[np.ndarray, float]:
    """(n,) losses on the train split, and what is compared with max_training_loss."""
    from assessor_checks import _flatness as flatness
    from assessor_checks import _layers as layers

    inputs, labels = subject.tensors("train")
    logits = (layer if split == "train" else layers.last_linear(subject.module, inputs)).logits
    losses = flatness.per_sample_loss(loss, logits, labels).cpu().numpy()
    if subject.task.is_classification:
        return losses, float(losses.mean())
    variance = float(labels.double().var(correction=0))
    return losses, float(2 * losses.mean() / variance) if variance > 0 else float(losses.any())


def _mean(name: str, values: np.ndarray, seed: int, unit: str, method: str, *, primary: bool = False) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, bootstrap_mean

    value, low, high = bootstrap_mean(values, seed) if len(values) > 1 else (float(values[0]), None, None)
    return Metric(
        name=name,
        value=value,
        low=low,
        high=high,
        confidence=None if low is None else CONFIDENCE,
        unit=unit,
        n=len(values),
        better=Better.LOWER,
        method=method if len(values) > 1 else f"{method}; no interval from one row",
        primary=primary,
    )


def _distribution(kappa: np.ndarray) -> Series:
    import numpy as np

    shares = np.linspace(0, 1, min(QUANTILES, len(kappa)))
    return Series(
        name="per_sample",
        title="Relative flatness by sample, sorted",
        columns={"share": tuple(shares.tolist()), "kappa": tuple(np.quantile(kappa, shares).tolist())},
    )


def _by_class(subject: Subject, layer: LastLayer, kappa: np.ndarray) -> tuple[Table, ...]:
    """Mean by predicted class: labels do not enter."""
    if not subject.task.is_classification:
        return ()
    logits = layer.logits
    predicted = (logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(dim=1)).cpu().numpy()
    rows = []
    for index, name in enumerate(subject.classes):
        found = kappa[predicted == index]
        rows.append((name, len(found), float(found.mean()) if len(found) else None))
    columns = ("predicted class", "rows", "mean relative flatness")
    return (Table(name="by_class", title="Relative flatness by predicted class", columns=columns, rows=tuple(rows)),)


def _remarks(layer: LastLayer, loss: Loss, params: RelativeFlatnessParams, n: int) -> tuple[str, ...]:
    from assessor_checks import _flatness as flatness
    from assessor_checks import _layers as layers

    outputs, width = layer.weight.shape
    constant = int((layer.features == layer.features[0]).all(dim=0).sum())
    remarks = [
        f"Layer '{layer.name}': {width} features, {outputs} outputs, loss {loss}; {n} rows of the {params.split} split."
    ]
    if constant:
        remarks.append(
            f"{constant} of {width} features are constant over these rows; they act as a bias and are left out."
        )
    if loss is not flatness.Loss.SQUARED and (collapsed := layers.saturated_rows(layer.logits)):
        remarks.append(
            f"Softmax collapse: for {collapsed} of {n} rows the largest probability is exactly 1 in "
            f"{layer.logits.dtype}; training in that precision got no gradient from them."
        )
    if params.weight_decay:
        remarks.append(
            f"The loss includes {params.weight_decay} ||W||^2 on the weights as measured (after any normalisation): "
            "2 alpha m sum ||w_s||^2 in the trace, 2 alpha sum ||w_s||^2 in the maximum."
        )
    return tuple(remarks)


def _doubt(found: float, limit: float, task: Task) -> str | None:
    if found <= limit:
        return None
    what = (
        "mean training loss" if task.is_classification else "share of the training targets' variance left unexplained"
    )
    return (
        f"The {what} is {found:.3g}, above {limit:g}: the model is not near a minimum of the training loss, "
        "where relative flatness says something about generalization."
    )


def plot(result: Result, axes: Axes) -> None:
    """Sorted kappa of the samples; a few samples often carry the whole value."""
    columns = result.series[0].columns
    axes.plot(columns["share"], columns["kappa"], color="black")  # type: ignore[arg-type]
    axes.axhline(result.metric("relative_flatness").value, color="0.4", linestyle="--", label="mean")
    values = [value for value in columns["kappa"] if value is not None]
    if max(values) > 100 * sorted(values)[len(values) // 2]:
        axes.set_yscale("symlog", linthresh=max(1e-12, 1e-6 * result.metric("relative_flatness").value))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of samples")
    axes.set_ylabel(f"relative flatness of a sample ({result.metric('relative_flatness').unit})")
    axes.legend(frameon=False)


CHECK = Check(info=INFO, params=RelativeFlatnessParams, measure=measure, plot=plot)
