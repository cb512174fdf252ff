"""Sharpness: how much the loss rises when the model's parameters are moved a little, at worst and on average."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

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
    Task,
)
from assessor_checks._costs import GRADIENT, used

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from assessor_checks.generalization._hessian import Crossed
    from assessor_checks.generalization._landscape import Landscape
    from assessor_checks.generalization._sharpness import Tolerated, Worst

POINTS = 21  # of the plotted lines
LINES = 5  # random directions plotted beside the worst one
TRIED = 20  # sizes of noise that are tried until one is borne, about
INFO = CheckInfo(
    id="generalization.sharpness",
    version="1",
    title="Rise of the loss when the parameters are moved",
    measures=(
        "How much the mean loss rises at the worst point of a small ball around the model's parameters, how much it "
        "rises on average under random noise on them, and how much noise it bears before it rises by a set amount. "
        "The adaptive numbers move every parameter in proportion to its own size."
    ),
    unit="nats",
    needs=frozenset({Need.TEST, Need.GRADIENTS}),
    tasks=frozenset(Task),
    limits=(
        "The worst case is a lower bound: a stronger search may find a greater rise.",
        "Only the adaptive numbers stay the same when the layers of a ReLU network are rescaled.",
        "There is no absolute threshold: compare models of one architecture on the same data with the same sizes. In "
        "large studies sharpness follows training settings more closely than generalization (Andriushchenko 2023).",
        "Confidence alone makes the loss flat: a confidently wrong model can bear much noise.",
        "The worst case has no interval; the others cover the choice of rows and of noise, not a new training run.",
        "Statistics that normalisation layers have stored are not moved.",
    ),
    remedy=(
        "Train with sharpness-aware minimisation (SAM, ASAM), weight averaging, smaller batches or a larger learning "
        "rate; then measure again with the same sizes on the same data."
    ),
    source=(
        "Foret et al. 2021, arXiv 2010.01412 (SAM); Kwon et al. 2021, arXiv 2102.11600 (ASAM); Andriushchenko et al. "
        "2023, arXiv 2302.07011, section 2; Jiang et al. 2020, arXiv 1912.02178, (53) and (61)"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("generalization.gap",),
)


class SharpnessParams(Params):
    """Parameters of generalization.sharpness."""

    split: Literal["train", "test"] = Field(default="train", description="Data whose mean loss is measured.")
    rows: int = Field(default=1000, ge=1, description="Rows used at most, chosen by the seed.")
    rho: float = Field(default=0.05, gt=0, description="Radius of the plain ball: length of the change of all weights.")
    rho_adaptive: float = Field(
        default=0.5, gt=0, description="Radius of the adaptive ball: length of the relative changes of all weights."
    )
    sigma: float = Field(default=0.01, gt=0, description="Standard deviation of the plain noise on every weight.")
    sigma_adaptive: float = Field(
        default=0.1, gt=0, description="Standard deviation of the adaptive noise, as a share of every weight's size."
    )
    steps: int = Field(default=20, ge=1, le=10_000, description="Gradients a start of the search for the worst case.")
    restarts: int = Field(default=3, ge=1, le=1000, description="Starts: the model itself, then random ones.")
    draws: int = Field(default=10, ge=2, le=10_000, description="Random directions, each taken with both signs.")
    target_rise: float = Field(
        default=0.1,
        gt=0,
        description="Average rise of the loss up to which noise counts as borne: nats, or for regression a share of "
        "half the targets' variance.",
    )


class _Found(NamedTuple):
    """What was measured with one scale."""

    worst: Worst
    average: Crossed
    noise: Tolerated


def measure(subject: Subject, params: SharpnessParams, seed: int) -> Result:
    """Worst-case and average-case sharpness and PAC-Bayes flatness, adaptive and plain.

    Args:
        subject: A PyTorch module with data.
        params: Split, rows, sizes, effort.
        seed: Seed of rows, starts and noise.

    Returns:
        Metrics and the loss along some lines.

    Raises:
        NotApplicable: The split is missing or empty, the loss is not finite or has no gradient.
    """
    import torch

    from assessor_checks.generalization import _landscape

    if params.split not in subject.splits:
        raise NotApplicable(f"there is no {params.split} split")
    land = _landscape.landscape(subject, params.split, params.rows, seed)
    target = params.target_rise
    if not subject.task.is_classification:
        target *= float(land.labels.double().var(correction=0)) / 2
    size = land.weights.abs()
    adaptive = _measured(land, size, params.rho_adaptive, params.sigma_adaptive, target, params, seed)
    plain = _measured(land, torch.ones_like(size), params.rho, params.sigma, target, params, seed)
    unit = INFO.unit if subject.task.is_classification else "squared units of the target"
    return Result(
        metrics=(*_metrics(land, adaptive, unit, params, "_adaptive"), *_metrics(land, plain, unit, params, "")),
        series=(_lines(land, adaptive.worst.point, params.rho_adaptive, seed),),
        remarks=_remarks(subject, land, adaptive, plain, params),
        doubt=_doubt(adaptive.worst.broken + plain.worst.broken),
    )


def _measured(
    land: Landscape, scale: torch.Tensor, rho: float, sigma: float, target: float, params: SharpnessParams, seed: int
) -> _Found:
    import torch

    from assessor_checks.generalization import _sharpness

    generator = torch.Generator().manual_seed(seed)
    worst = _sharpness.worst_case(land, scale, rho, steps=params.steps, restarts=params.restarts, generator=generator)
    if worst.broken and not worst.rise:
        raise NotApplicable(
            f"the loss is NaN or infinite at {worst.broken} points of the ball of radius {rho:g} around the model and "
            "rises at none of the others tried; make the ball smaller"
        )
    average = _sharpness.average_case(land, scale, sigma, draws=params.draws, seed=seed)
    if not math.isfinite(average.value):
        raise NotApplicable(f"the loss is not finite under noise of size {sigma:g} on the parameters")
    noise = _sharpness.Tolerated(None, None, None)
    if target > 0:
        noise = _sharpness.tolerated_noise(land, scale, target, draws=params.draws, seed=seed)
    return _Found(worst, average, noise)


def _metrics(land: Landscape, found: _Found, unit: str, params: SharpnessParams, kind: str) -> list[Metric]:
    """The numbers of one scale, the worst case of the adaptive one being primary."""
    from assessor_checks._intervals import CONFIDENCE

    if kind:
        ball = f"relative change of all weights of length at most {params.rho_adaptive:g}"
        noise = f"normal noise of standard deviation {params.sigma_adaptive:g} times the weight"
    else:
        ball = f"change of all weights of length at most {params.rho:g}"
        noise = f"normal noise of standard deviation {params.sigma:g} on every weight"
    how = (
        f"lower bound of the greatest rise; {ball}; projected gradient ascent, {params.steps} steps, "
        f"{params.restarts} starts; no interval"
    )
    metrics = [_lone(f"worst_case_sharpness{kind}", found.worst.rise, unit, land.n, how, primary=bool(kind))]
    if math.isfinite(found.worst.first_order):
        how = f"rise after the single step along the gradient that sharpness-aware training takes; {ball}; no interval"
        metrics.append(_lone(f"first_order_sharpness{kind}", found.worst.first_order, unit, land.n, how))
    metrics.append(
        Metric(
            name=f"average_case_sharpness{kind}",
            value=found.average.value,
            low=found.average.low,
            high=found.average.high,
            confidence=None if found.average.low is None else CONFIDENCE,
            unit=unit,
            n=land.n,
            better=Better.LOWER,
            method=f"mean rise; {noise}; {params.draws} directions with both signs; 95 % t interval over rows and "
            "directions",
        )
    )
    return metrics if found.noise.sigma is None else [*metrics, _flatness(land, found.noise, params, kind)]


def _lone(name: str, value: float, unit: str, n: int, method: str, *, primary: bool = False) -> Metric:
    return Metric(name=name, value=value, unit=unit, n=n, better=Better.LOWER, method=method, primary=primary)


def _flatness(land: Landscape, noise: Tolerated, params: SharpnessParams, kind: str) -> Metric:
    """1 / sigma^2; an end of the interval that no noise reaches is 0."""
    from assessor_checks._intervals import CONFIDENCE

    assert noise.sigma is not None
    known = noise.low is not None
    if kind:
        sigma = f"1 / sigma^2 of the greatest noise, sigma {noise.sigma:.4g} times the weight"
    else:
        sigma = f"1 / sigma^2 of the greatest noise, sigma {noise.sigma:.4g} on every weight"
    return Metric(
        name=f"pac_bayes_flatness{kind}",
        value=noise.sigma**-2,
        low=(0.0 if noise.high is None else noise.high**-2) if known else None,
        high=noise.low**-2 if noise.low is not None else None,
        confidence=CONFIDENCE if known else None,
        n=land.n,
        better=Better.LOWER,
        method=f"{sigma}; it raises the mean loss by {params.target_rise:g}; 95 % interval over rows and directions: "
        "where the rise is not told apart from that",
    )


def _lines(land: Landscape, worst: torch.Tensor, radius: float, seed: int) -> Series:
    """Loss along the worst adaptive direction and along random ones of the same length, both ways."""
    import numpy as np
    import torch

    from assessor_checks.generalization import _sharpness

    size = land.weights.abs()
    generator = torch.Generator().manual_seed(seed)
    others = [size * _sharpness.on_sphere(size, radius, generator) for _ in range(LINES)]
    shares = np.linspace(-1, 1, POINTS)

    def along(step: torch.Tensor) -> list[float]:
        return [float(land.losses(land.weights + float(share) * step).mean()) for share in shares]

    columns = {"worst": np.array(along(worst)), "random": np.mean([along(step) for step in others], axis=0)}
    return Series(
        name="lines",
        title=f"Mean loss along the worst direction found and {LINES} random ones",
        columns={
            "length": tuple((radius * shares).tolist()),
            **{
                name: tuple(value if np.isfinite(value) else None for value in values.tolist())
                for name, values in columns.items()
            },
        },
    )


def _remarks(
    subject: Subject, land: Landscape, adaptive: _Found, plain: _Found, params: SharpnessParams
) -> tuple[str, ...]:
    loss = "cross-entropy" if subject.task.is_classification else "half the squared error"
    remarks = [
        f"{land.n} of {subject.splits[params.split].n} rows of the {params.split} split; {loss} as a function of "
        f"{land.parameters} parameters."
    ]
    if zeros := int((land.weights == 0).sum()):
        remarks.append(f"{zeros} parameters are exactly 0; in proportion to their size they cannot be moved.")
    share = adaptive.worst.first_order / adaptive.worst.rise if adaptive.worst.rise > 0 else 1.0
    if 0 <= share < 0.5:
        remarks.append(
            f"The single step along the gradient finds only {share:.0%} of the adaptive worst case: the loss curves "
            "strongly within the ball."
        )
    if None in (adaptive.noise.sigma, plain.noise.sigma):
        remarks.append("No noise that was tried raises the loss by the set amount, so there is no PAC-Bayes flatness.")
    return tuple(remarks)


def _doubt(broken: int) -> str | None:
    if not broken:
        return None
    return (
        f"The loss was NaN or infinite at {broken} of the points tried in the search for the worst case, so the worst "
        "case may have no bound."
    )


def plot(result: Result, axes: Axes) -> None:
    """The loss as a valley: along the worst direction found, and along random ones."""
    columns = result.series[0].arrays
    axes.plot(columns["length"], columns["worst"], "-", color="black", label="worst direction found")
    axes.plot(columns["length"], columns["random"], "--", color="0.4", label="mean of random directions")
    axes.set_xlabel("length of the relative change of all weights")
    axes.set_ylabel(f"mean loss ({result.metric('worst_case_sharpness').unit})")
    axes.legend(frameon=False)


def rows(subject: Subject, params: SharpnessParams) -> int:
    """For both scales the search for the worst case and the draws at every noise tried, then the plotted lines."""
    search = GRADIENT * (1 + params.restarts * (params.steps + 1))
    drawn = (1 + 2 * params.draws) * (1 + TRIED)
    return used(subject, params.split, params.rows) * (2 * (search + drawn) + POINTS * (1 + LINES))


CHECK = Check(info=INFO, params=SharpnessParams, measure=measure, plot=plot, rows=rows)
