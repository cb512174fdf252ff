"""Norms of the weights and margins of the outputs: what the literature takes for a network's capacity."""

from __future__ import annotations

import math
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
from assessor_checks._costs import GRADIENT, used

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.axes import Axes

    from assessor_checks.generalization._landscape import Landscape
    from assessor_checks.generalization._norms import Layer

SHARE = 0.1  # quantile of the margins that stands for them (Jiang et al. 2020, section 4)
POINTS = 200  # most points of the plotted distribution
INFO = CheckInfo(
    id="generalization.norm_measures",
    version="1",
    title="Norms of the weights and margins of the outputs",
    measures=(
        "How strongly the model's predictions react when all weights grow together (Fisher-Rao norm), how far ahead "
        "the true class is (margin), and how large the weights are as layers and along paths (spectral, Frobenius "
        "and path norm). Smaller norms and larger margins appear in bounds on the generalization gap."
    ),
    unit="nats",
    needs=frozenset({Need.TEST, Need.GRADIENTS}),
    tasks=frozenset(Task),
    limits=(
        "There is no absolute threshold: compare models of one architecture on the same data.",
        "In a large study many norms failed to follow the generalization gap, and the product of spectral norms went "
        "against it (Jiang et al. 2020); read them beside measured gaps.",
        "The Fisher-Rao norm is small for a confident model, also for a confidently wrong one.",
        "The product of spectral norms bounds the network's slope only where its layers form a chain.",
        "Spectral and Frobenius norms change when the units of a ReLU network are rescaled; Fisher-Rao norm, path "
        "norm and margins do not.",
        "Intervals show the sampling of rows, not the variation between training runs.",
    ),
    remedy=(
        "Weight decay, spectral normalisation or a smaller network lower the norms; more or augmented data and label "
        "checks raise the low end of the margins. Compare with the former model on the same data."
    ),
    source=(
        "Fisher-Rao norm: Liang, Poggio, Rakhlin, Stokes 2019, arXiv 1711.01530, section 3. Margins: Bartlett, Foster, "
        "Telgarsky 2017, arXiv 1706.08498. Path norm: Neyshabur et al. 2015, arXiv 1506.02617. All: Jiang et al. 2020, "
        "arXiv 1912.02178, (31), (32), (42), (44)"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("generalization.gap",),
)


class NormMeasuresParams(Params):
    """Parameters of generalization.norm_measures."""

    split: Literal["train", "test"] = Field(default="train", description="Data for Fisher-Rao norm and margins.")
    rows: int = Field(default=10_000, ge=1, description="Rows used at most, chosen by the seed.")


def measure(subject: Subject, params: NormMeasuresParams, seed: int) -> Result:
    """Fisher-Rao norm, margins, and norms of layers, weights and paths.

    Args:
        subject: A PyTorch module with data.
        params: Split, rows.
        seed: Seed of the rows' choice and of the bootstrap.

    Returns:
        Metrics, norms by layer, the distribution over rows.

    Raises:
        NotApplicable: The split is missing or empty, the loss is not finite or has no gradient.
    """
    import torch

    from assessor_checks.generalization import _landscape, _norms

    if params.split not in subject.splits:
        raise NotApplicable(f"there is no {params.split} split")
    land = _landscape.landscape(subject, params.split, params.rows, seed)
    outputs, slopes = land.in_room(lambda: _norms.derivative_along_weights(land))
    own = _norms.fisher_rao(subject.task, outputs, slopes)
    labelled = _norms.empirical_fisher_rao(subject.task, outputs, slopes, land.labels)
    if not bool(torch.isfinite(own + labelled).all()):
        raise NotApplicable(f"the outputs' derivatives are not finite on {land.n} rows of {params.split}")
    unit = INFO.unit if subject.task.is_classification else "squared units of the target"
    layers = _norms.layer_norms(subject.module, land.inputs[:1])
    log_product = _log_product(layers)
    metrics = [
        _mean("fisher_rao_norm", own, unit, seed, "labels from the model's own predictions, exact over them", True),
        _mean("fisher_rao_norm_empirical", labelled, unit, seed, "labels as given", False),
    ]
    rows = own
    if subject.task.is_classification:
        rows = _norms.margins(outputs, land.labels)
        metrics += _margins(rows.cpu().numpy(), log_product)
    metrics += _of_weights(subject, land, log_product)
    path = _norms.path_norm(subject.module, land.inputs[:1])
    if isinstance(path, float):
        how = "root of the sum over all paths of the product of squared weights, biases and stored statistics included"
        metrics.append(_plain("path_norm", path, land, how))
    return Result(
        metrics=tuple(metrics),
        series=(_distribution(rows.cpu().numpy(), subject.task),),
        tables=(_table(layers),) if layers else (),
        remarks=_remarks(subject, land, layers, params, log_product, path),
    )


def _mean(name: str, values: torch.Tensor, unit: str, seed: int, which: str, primary: bool) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, bootstrap_mean

    found = values.cpu().numpy()
    estimate = bootstrap_mean(found, seed) if len(found) > 1 else None
    how = "95 % BCa bootstrap over rows" if estimate else "no interval from one row"
    return Metric(
        name=name,
        value=estimate.value if estimate else float(found[0]),
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        confidence=CONFIDENCE if estimate else None,
        unit=unit,
        n=len(found),
        better=Better.LOWER,
        method=f"<w, F w>, the squared norm of the weights w by the Fisher information F; {which}; {how}",
        primary=primary,
    )


def _log_product(layers: list[Layer]) -> float | None:
    """Natural logarithm of the product of all spectral norms; None without layers or with a zero one."""
    if not layers or any(layer.spectral <= 0 for layer in layers):
        return None
    return math.fsum(math.log(layer.spectral) for layer in layers)


def _margins(margins: np.ndarray, log_product: float | None) -> list[Metric]:
    """The low end of the margins, as it is and divided by the product of spectral norms."""
    from assessor_checks._intervals import CONFIDENCE
    from assessor_checks.generalization._norms import quantile

    found = quantile(margins, SHARE)
    known = found.low is not None and found.high is not None
    how = f"true logit minus the greatest other, {SHARE:.0%} quantile over rows"
    interval = "95 % interval from order statistics" if known else "too few rows for an interval"
    scales = {"margin": (1.0, how)}
    if log_product is not None and log_product < 700:
        scales["normalised_margin"] = (math.exp(-log_product), f"{how}; divided by the product of spectral norms")
    return [
        Metric(
            name=name,
            value=scale * found.value,
            low=scale * found.low if known and found.low is not None else None,
            high=scale * found.high if known and found.high is not None else None,
            confidence=CONFIDENCE if known else None,
            n=len(margins),
            better=Better.HIGHER,
            method=f"{method}; {interval}",
        )
        for name, (scale, method) in scales.items()
    ]


def _of_weights(subject: Subject, land: Landscape, log_product: float | None) -> list[Metric]:
    metrics = []
    if log_product is not None:
        how = (
            "natural logarithm of the product of the layers' spectral norms; convolutions as maps on inputs of the "
            "size they get, by Lanczos"
        )
        metrics.append(_plain("log_spectral_norm_product", log_product, land, how))
    norm = math.sqrt(sum(float(p.detach().double().square().sum()) for p in subject.module.parameters()))
    return [*metrics, _plain("frobenius_norm", norm, land, "root of the sum of all squared parameters")]


def _plain(name: str, value: float, land: Landscape, method: str) -> Metric:
    return Metric(name=name, value=value, n=land.n, better=Better.LOWER, method=f"{method}; a property of the weights")


def _table(layers: list[Layer]) -> Table:
    rows = tuple(
        (
            layer.name,
            layer.kind,
            layer.spectral,
            layer.error,
            layer.frobenius,
            (layer.frobenius / layer.spectral) ** 2 if layer.kind == "linear" and layer.spectral else None,
        )
        for layer in layers
    )
    columns = ("layer", "kind", "spectral norm", "numerical error", "Frobenius norm", "stable rank")
    return Table(name="layers", title="Norms of the layers, in the order they run", columns=columns, rows=rows)


def _distribution(values: np.ndarray, task: Task) -> Series:
    import numpy as np

    shares = np.linspace(0, 1, min(POINTS, len(values)))
    columns = {"share": tuple(shares.tolist()), "value": tuple(np.quantile(values, shares).tolist())}
    if task.is_classification:
        return Series(name="margins", title="Margin by row, sorted", columns=columns)
    return Series(name="fisher_rao", title="Share of a row in the Fisher-Rao norm, sorted", columns=columns)


def _remarks(
    subject: Subject,
    land: Landscape,
    layers: list[Layer],
    params: NormMeasuresParams,
    log_product: float | None,
    path: float | str,
) -> tuple[str, ...]:
    every = sum(p.numel() for p in subject.module.parameters())
    remarks = [
        f"{land.n} of {subject.splits[params.split].n} rows of the {params.split} split; {land.parameters} parameters."
    ]
    if rest := every - sum(layer.weights for layer in layers):
        remarks.append(
            f"{rest} of {every} parameters are in layers that are neither linear, convolution nor batch "
            "normalisation; the product of spectral norms leaves them out."
        )
    if layers and log_product is None:
        remarks.append(
            "A layer's weights are all 0, so the product of spectral norms is 0 and no margin is normalised."
        )
    if isinstance(path, str):
        remarks.append(f"There is no path norm of this network: {path}.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Sorted margins: below 0 the prediction is wrong."""
    series = result.series[0]
    axes.plot(series.arrays["share"], series.arrays["value"], color="black")
    axes.set_xlabel("share of rows")
    if series.name == "margins":
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.axhline(result.metric("margin").value, color="0.4", linestyle="--", label=f"{SHARE:.0%} quantile")
        axes.set_ylabel("margin of a row (true logit minus the greatest other)")
        axes.legend(frameon=False)
    else:
        axes.set_ylabel(f"share in the Fisher-Rao norm ({result.metric('fisher_rao_norm').unit})")


def rows(subject: Subject, params: NormMeasuresParams) -> int:
    """The losses of every used row, and a derivative by two backward passes."""
    return used(subject, params.split, params.rows) * (1 + 2 * GRADIENT)


CHECK = Check(info=INFO, params=NormMeasuresParams, measure=measure, plot=plot, rows=rows)
