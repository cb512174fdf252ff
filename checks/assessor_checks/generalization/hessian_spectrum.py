"""Hessian of the loss in the model's parameters: trace, outer eigenvalues and spectral density."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, JsonValue

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
    kept,
)
from assessor_checks._costs import PRODUCT, used

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.axes import Axes

    from assessor_checks.generalization._hessian import Crossed, Hessian, Outer
    from assessor_checks.generalization._landscape import Landscape

EXACT = 1024  # parameters up to which the whole Hessian costs little more than its estimates
STARTS = 5  # Lanczos runs behind the density
POINTS = 400  # of the density's curve
WIDTH = 0.01  # standard deviation of the smoothing, as a share of the eigenvalues' range
SADDLE = 0.1  # a negative eigenvalue of more than this share of the largest: no minimum
INFO = CheckInfo(
    id="generalization.hessian_spectrum",
    version="1",
    title="Curvature of the loss in the model's parameters",
    measures=(
        "The trace, the largest eigenvalues and the most negative eigenvalue of the Hessian of the mean loss in the "
        "model's parameters, and how all eigenvalues are distributed. Large values mean that the loss rises steeply "
        "when the parameters change a little."
    ),
    unit="nats",
    needs=frozenset({Need.TEST, Need.GRADIENTS}),
    tasks=frozenset(Task),
    limits=(
        "Not invariant: rescaling the layers of a ReLU network changes these numbers and not what it computes "
        "(Dinh et al. 2017). That is why relative flatness exists; compare only models trained in the same way.",
        "There is no absolute threshold, and a small value alone does not show that the model generalizes.",
        "Confidence alone makes the loss flat: a confidently wrong model can have a small Hessian.",
        "Kinks of the loss (ReLU, max pooling) have no second derivative and are not seen.",
        "The trace's interval covers the choice of rows and of random directions, not a new training run; the "
        "eigenvalues have no interval for the choice of rows.",
    ),
    remedy=(
        "Train to a flatter minimum (sharpness-aware minimisation, smaller batches, a larger learning rate) and "
        "compare with the former model on the same data; look at relative flatness beside it."
    ),
    source=(
        "Trace: Hutchinson 1989; Meyer, Musco, Musco, Woodruff 2021, arXiv 2010.09649 (Hutch++). Density: Ghorbani, "
        "Krishnan, Xiao 2019, arXiv 1901.10159. Rescaling: Dinh, Pascanu, Bengio, Bengio 2017, arXiv 1703.04933"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("generalization.gap",),
)


class HessianSpectrumParams(Params):
    """Parameters of generalization.hessian_spectrum."""

    split: Literal["train", "test"] = Field(default="train", description="Data whose mean loss is measured.")
    rows: int = Field(default=1000, ge=1, description="Rows used at most, chosen by the seed.")
    probes: int = Field(default=30, ge=2, le=10_000, description="Random directions for what is left of the trace.")
    top: int = Field(default=5, ge=1, le=50, description="Number of largest eigenvalues listed.")
    steps: int = Field(
        default=40,
        ge=2,
        le=500,
        description="Lanczos steps: more give more eigenvalues, sharper; as many copies of the parameters are held.",
    )


class _Spectrum(NamedTuple):
    trace: Crossed
    outer: Outer
    measures: list[tuple[np.ndarray, np.ndarray]]
    exact: bool


def measure(subject: Subject, params: HessianSpectrumParams, seed: int) -> Result:
    """Trace with its interval, outer eigenvalues with residuals, density.

    Args:
        subject: A PyTorch module with data.
        params: Split, rows, effort.
        seed: Seed of rows, directions and starts.

    Returns:
        Metrics, the density's curve, a table of eigenvalues.

    Raises:
        NotApplicable: The split is missing or empty, or the loss or its derivatives are not finite or contradictory.
    """
    from assessor_checks.generalization import _hessian, _landscape

    if params.split not in subject.splits:
        raise NotApplicable(f"there is no {params.split} split")
    land = _landscape.landscape(subject, params.split, params.rows, seed)
    if _hessian.asymmetry(land) > _hessian.SKEWED:
        raise NotApplicable(
            "the second derivatives that PyTorch gives for this model contradict each other, as known of weight "
            "normalisation; take such parametrizations out of the model first"
        )

    def spectrum() -> _Spectrum:
        hessian = _hessian.Hessian(land, groups=_hessian.GROUPS, seed=seed)
        return _exact(hessian, params) if land.parameters <= EXACT else _estimated(hessian, params, seed)

    found = land.in_room(spectrum)
    if not math.isfinite(found.trace.value):
        raise NotApplicable(f"second derivatives of the loss are not finite on {land.n} rows of {params.split}")
    unit = INFO.unit if subject.task.is_classification else "squared units of the target"
    return Result(
        metrics=_metrics(land, found, unit, params, seed),
        series=(_curve(found, land.parameters, params),),
        tables=(_table(found),),
        remarks=_remarks(subject, land, found, params),
        doubt=_doubt(found.outer),
    )


def _exact(hessian: Hessian, params: HessianSpectrumParams) -> _Spectrum:
    """Everything from the whole matrix."""
    import numpy as np

    from assessor_checks.generalization import _hessian

    matrix, forms = _hessian.full_matrix(hessian)
    if not bool(matrix.isfinite().all()):
        raise NotApplicable("second derivatives of the loss are not finite")
    values, outer = _hessian.outer_of(matrix, params.top)
    size = hessian.parameters
    measures = [(values.cpu().numpy(), np.full(size, 1 / size))]
    return _Spectrum(_hessian.crossed_mean(hessian.shares, forms, forms[:, :0]), outer, measures, exact=True)


def _estimated(hessian: Hessian, params: HessianSpectrumParams, seed: int) -> _Spectrum:
    """One Lanczos run for eigenvalues and trace, some more for the density, random directions for the trace's rest."""
    import torch

    from assessor_checks.generalization import _hessian, _lanczos

    generator = torch.Generator().manual_seed(seed)
    starts = torch.randn(STARTS, hessian.parameters, generator=generator).to(hessian.shares.device, hessian.dtype)
    krylov, taken = _hessian.krylov_space(hessian, starts[:1], params.steps)
    if not bool(krylov.diagonal.isfinite().all()):
        raise NotApplicable("second derivatives of the loss are not finite")
    outer = _hessian.outer(hessian, krylov, params.top)
    basis = krylov.basis[0, : krylov.steps[0]]
    drawn = _hessian.drawn_forms(hessian, basis, params.probes, generator)
    measures = [*_lanczos.quadrature(krylov)]
    del krylov, basis
    block = _hessian.together(hessian.parameters, params.steps)
    for first in range(1, STARTS, block):
        measures += _runs(hessian, starts[first : first + block], first, params, seed)
    return _Spectrum(_hessian.crossed_mean(hessian.shares, taken, drawn), outer, measures, exact=False)


def _runs(
    hessian: Hessian, starts: torch.Tensor, first: int, params: HessianSpectrumParams, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Nodes and weights from some more starts, kept for a later run."""
    import numpy as np

    from assessor_checks.generalization import _hessian, _lanczos

    def compute() -> JsonValue:
        krylov, _ = _hessian.krylov_space(hessian, starts, params.steps)
        return [[nodes.tolist(), weights.tolist()] for nodes, weights in _lanczos.quadrature(krylov)]

    found: Any = kept(["density", params.model_dump(mode="json"), seed, first, len(starts)], compute)
    return [(np.array(nodes), np.array(weights)) for nodes, weights in found]


def _metrics(
    land: Landscape, found: _Spectrum, unit: str, params: HessianSpectrumParams, seed: int
) -> tuple[Metric, ...]:
    if found.exact:
        how = (
            f"exact for these rows, all {land.parameters} directions taken; 95 % t interval from the spread over ten "
            "random groups of rows"
        )
    else:
        how = (
            f"{params.steps} Lanczos directions taken exactly, the rest from {params.probes} random ones (Hutch++), "
            f"standard error {found.trace.draws_error:.2g}; 95 % t interval from the spread over directions and over "
            "ten random groups of rows"
        )
    mean = f"the trace divided by the number of parameters, {land.parameters}"
    return (
        _of_trace("hessian_trace", found.trace, 1.0, how, land.n, unit, primary=True),
        _eigenvalue("top_eigenvalue", found, 0, land.n, unit, params.steps),
        _eigenvalue("smallest_eigenvalue", found, -1, land.n, unit, params.steps),
        _of_trace("mean_eigenvalue", found.trace, 1 / land.parameters, mean, land.n, unit),
        _mean_loss(land, unit, seed),
    )


def _of_trace(
    name: str, trace: Crossed, factor: float, method: str, n: int, unit: str, *, primary: bool = False
) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name,
        value=factor * trace.value,
        low=None if trace.low is None else factor * trace.low,
        high=None if trace.high is None else factor * trace.high,
        confidence=None if trace.low is None else CONFIDENCE,
        unit=unit,
        n=n,
        better=Better.LOWER,
        method=method if n > 1 else f"{method}; one row shows nothing of the spread over rows",
        primary=primary,
    )


def _eigenvalue(name: str, found: _Spectrum, index: int, n: int, unit: str, steps: int) -> Metric:
    residual = float(found.outer.residuals[index])
    if found.exact:
        method = f"from the whole matrix, numerical error at most {residual:.1e}; no interval for the choice of rows"
    else:
        method = (
            f"from {steps} Lanczos steps, which may miss a more extreme one; an eigenvalue lies within {residual:.1e}; "
            "no interval for the choice of rows"
        )
    better = Better.LOWER if index == 0 else Better.NONE
    return Metric(name=name, value=float(found.outer.values[index]), unit=unit, n=n, better=better, method=method)


def _mean_loss(land: Landscape, unit: str, seed: int) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, bootstrap_mean

    losses = land.losses(land.weights).cpu().numpy()
    mean = bootstrap_mean(losses, seed) if land.n > 1 else None
    return Metric(
        name="mean_loss",
        value=mean.value if mean else float(losses[0]),
        low=mean.low if mean else None,
        high=mean.high if mean else None,
        confidence=CONFIDENCE if mean else None,
        unit=unit,
        n=land.n,
        better=Better.LOWER,
        method="mean loss of the same rows; 95 % BCa bootstrap over rows" if mean else "loss of the one row",
    )


def _table(found: _Spectrum) -> Table:
    values, residuals = found.outer.values.tolist(), found.outer.residuals.tolist()
    total = found.trace.value
    rows = [
        (str(rank) if rank < len(values) else "smallest", value, residual, value / total if total > 0 else None)
        for rank, (value, residual) in enumerate(zip(values, residuals, strict=True), start=1)
    ]
    columns = ("rank", "eigenvalue", "residual", "share of the trace")
    return Table(
        name="eigenvalues", title="Largest eigenvalues and the smallest one", columns=columns, rows=tuple(rows)
    )


def _curve(found: _Spectrum, parameters: int, params: HessianSpectrumParams) -> Series:
    """The density; nothing where it is under a tenth of what a single eigenvalue gives."""
    import numpy as np

    from assessor_checks.generalization import _lanczos

    grid, curve = _lanczos.density(found.measures, points=POINTS, width=WIDTH)
    step = grid[1] - grid[0]
    sigma = step * (POINTS - 1) * WIDTH / (1 + 8 * WIDTH)
    least = 0.1 / (parameters * sigma * np.sqrt(2 * np.pi))
    how = "all eigenvalues" if found.exact else f"{STARTS} random starts of {params.steps} Lanczos steps"
    return Series(
        name="density",
        title=f"Density of the eigenvalues: {how}, smoothed over {WIDTH:.0%} of their range",
        columns={
            "eigenvalue": tuple(grid.tolist()),
            "density": tuple(float(value) if value >= least else None for value in curve),
        },
    )


def _remarks(subject: Subject, land: Landscape, found: _Spectrum, params: HessianSpectrumParams) -> tuple[str, ...]:
    every = sum(p.numel() for p in subject.module.parameters() if p.is_floating_point())
    loss = "cross-entropy" if subject.task.is_classification else "half the squared error"
    remarks = [
        f"{land.n} of {subject.splits[params.split].n} rows of the {params.split} split; {loss} as a function of "
        f"{land.parameters} parameters."
    ]
    if land.parameters < every:
        remarks.append(f"{every - land.parameters} parameters are marked as not trainable and were held fixed.")
    ratio = float(-found.outer.values[-1] / found.outer.values[0]) if found.outer.values[0] > 0 else 0.0
    if 0 < ratio <= SADDLE:
        remarks.append(
            f"The most negative eigenvalue is {ratio:.1%} of the largest in size: the loss hardly curves downwards, as "
            "near a minimum."
        )
    return tuple(remarks)


def _doubt(outer: Outer) -> str | None:
    top, least = float(outer.values[0]), float(outer.values[-1])
    if least >= -SADDLE * max(top, 0.0):
        return None
    return (
        f"The most negative eigenvalue, {least:.3g}, is not small beside the largest, {top:.3g}: the model is at no "
        "minimum of this loss, where its curvature would say something about generalization."
    )


def plot(result: Result, axes: Axes) -> None:
    """Density of the eigenvalues, the count on a logarithmic axis: a bulk near 0 and single eigenvalues far out."""
    columns = result.series[0].arrays
    axes.plot(columns["eigenvalue"], columns["density"], color="black")
    axes.set_yscale("log")
    axes.axvline(0, color="0.6", linewidth=0.8)
    outer = [float(row[1]) for row in result.tables[0].rows if row[1] is not None]
    axes.plot(outer, [0.02] * len(outer), "|", color="0.4", transform=axes.get_xaxis_transform())
    axes.set_xlabel(f"eigenvalue ({result.metric('top_eigenvalue').unit}); ticks: the outer ones")
    axes.set_ylabel("density of eigenvalues")


def rows(subject: Subject, params: HessianSpectrumParams) -> int:
    """A product for every parameter, or for every step and direction of the estimates."""
    every = sum(p.numel() for p in subject.module.parameters() if p.is_floating_point() and p.requires_grad)
    estimated = STARTS * min(params.steps, every) + params.probes + params.top + 1
    return used(subject, params.split, params.rows) * (2 + PRODUCT * (every if every <= EXACT else estimated))


CHECK = Check(info=INFO, params=HessianSpectrumParams, measure=measure, plot=plot, rows=rows)
