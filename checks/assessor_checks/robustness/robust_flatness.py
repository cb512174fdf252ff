"""Flatness of the adversarial loss: how much it rises when the model's weights are disturbed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
    kept,
    progress,
    spread,
)
from assessor_checks._costs import GRADIENT, used

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.axes import Axes
    from pydantic import JsonValue

    from assessor_checks._inputs import Room
    from assessor_checks.robustness._robust_flatness import Attack, Parameters, Surface

FEW = 5  # directions below which a t interval says little
STILL_SHARE = 0.5  # more rows than this whose loss no attack raises: masked
INFO = CheckInfo(
    id="robustness.robust_flatness",
    version="1",
    title="Flatness of the adversarial loss",
    measures=(
        "How much the mean cross-entropy on attacked test rows rises when the weights are disturbed and the rows are "
        "attacked anew: on average over random disturbances of a given relative size (primary), and at the worst "
        "disturbance found in a much smaller ball. A low rise means a flat adversarial loss, which goes with "
        "robustness that carries over to new data."
    ),
    unit="nats",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "There is no absolute threshold: compare models of the same architecture on the same rows with the same eps.",
        "A flat adversarial loss may be flat and high: read robust_loss beside it.",
        "All maxima are searched by gradient attacks: the adversarial loss is a lower bound, and a larger rise than "
        "the worst one found may exist; masked gradients make both look better.",
        "The interval of the average covers the choice of disturbances only, not that of the rows.",
        "That flatness goes with robust generalisation was seen in experiments; it is no proof for this model.",
    ),
    remedy=(
        "Train adversarially with weights disturbed in training (adversarial weight perturbation), weight decay, label "
        "smoothing or early stopping on the adversarial loss; then measure again with the same settings."
    ),
    source=(
        "Stutz, Hein, Schiele: Relating Adversarially Robust Generalization to Flat Minima, ICCV 2021, arXiv "
        "2104.04448, average- and worst-case flatness of the robust loss; settings of the authors' public code"
    ),
    requirements=("RE-R-RO-ME-04", "RE-R-RO-ME-05"),
    spreads=True,
)


class RobustFlatnessParams(Params):
    """Parameters of robustness.robust_flatness."""

    eps: float = Field(
        default=0.1, ge=0, description="Largest change of a feature, in the unit that scale names; 0 attacks no inputs."
    )
    scale: Literal["absolute", "feature_std"] = Field(
        default="absolute",
        description="Unit of eps: the features' own, or each feature's standard deviation over the train split "
        "(test split without one); the latter holds columns of at most two values fixed.",
    )
    steps: int = Field(default=20, ge=1, le=10_000, description="Gradient steps a start, on inputs and on weights.")
    restarts: int = Field(default=1, ge=1, le=1000, description="Random starts of the attack on the inputs.")
    bounds: Bounds | None = Field(default=None, description="Least and greatest valid feature value.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=1000, ge=1, description="Rows used at most, chosen by the seed.")
    average_size: float = Field(
        default=0.5, gt=0, description="Length of random disturbances over that of each weight tensor."
    )
    directions: int = Field(default=10, ge=2, le=1000, description="Random disturbances for the average.")
    worst_size: float = Field(
        default=0.003, gt=0, description="Greatest length of the worst disturbance over that of each weight tensor."
    )
    worst_starts: int = Field(default=10, ge=0, le=1000, description="Searches for the worst disturbance; 0 for none.")


class _Run(NamedTuple):
    clean: np.ndarray  # (n,) losses
    robust: np.ndarray  # (n,) losses under attack
    average: np.ndarray  # (directions,) rise of the mean robust loss
    average_clean: np.ndarray  # (directions,) rise of the mean clean loss
    worst: np.ndarray  # (worst_starts,) rise found, at least 0
    moved: int  # parameter tensors that were disturbed


def measure(subject: Subject, params: RobustFlatnessParams, seed: int) -> Result:
    """Average- and worst-case rise of the adversarial loss in the weights.

    Args:
        subject: A PyTorch classifier.
        params: Attack on the inputs, size and number of the disturbances.
        seed: Seed of the rows' choice, of all starts and of the disturbances.

    Returns:
        Metrics and the rise by disturbance.

    Raises:
        NotApplicable: The inputs cannot be perturbed, no weight can be, or the losses are not finite.
    """
    from assessor_checks import _inputs as inputs
    from assessor_checks import _layers as layers
    from assessor_checks.robustness._reach import joined, unit_doubt
    from assessor_checks.robustness._siege import refuse_without_gradients

    refuse_without_gradients(subject)
    room = inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=params.bounds)
    layers.refuse_unsteady(subject.module, subject.tensors("test")[0])
    run = _search(subject, params, seed, room)
    return Result(
        metrics=_metrics(run, params, seed),
        series=(_rises(run),),
        remarks=(*room.remarks, *_remarks(run, subject.splits["test"].n)),
        doubt=joined(unit_doubt(subject, room.scale, params.eps, params.scale), _doubt(run, params.eps)),
    )


def _search(subject: Subject, params: RobustFlatnessParams, seed: int, room: Room) -> _Run:
    import numpy as np
    import torch

    from assessor_checks import _inputs
    from assessor_checks._pgd import Box
    from assessor_checks.robustness._robust_flatness import Attack, Surface

    everything, labels = subject.tensors("test")
    rows = torch.from_numpy(_inputs.chosen_rows(len(labels), params.max_samples, seed)).to(everything.device)
    surface = Surface(subject, everything[rows], labels[rows])
    ends = (params.eps * room.scale, room.low, room.high)
    box = Box(*(torch.from_numpy(end).to(everything.device, everything.dtype) for end in ends))
    attack = Attack(box, params.steps, params.restarts)
    clean = _finite(surface.clean_loss(surface.parameters))
    robust = _finite(_robust(surface, surface.parameters, attack, seed))
    found = spread(partial(_disturbed, surface, attack, params, seed), range(params.directions + params.worst_starts))
    average, worst = (
        np.array(part, dtype=np.float64) for part in (found[: params.directions], found[params.directions :])
    )
    return _Run(
        clean=clean,
        robust=robust,
        average=average[:, 0] - robust.mean(),
        average_clean=average[:, 1] - clean.mean(),
        worst=np.maximum(worst - robust.mean(), 0.0),
        moved=len(surface.parameters),
    )


def _finite(losses: torch.Tensor) -> np.ndarray:
    if bad := int((~losses.isfinite()).sum()):
        raise NotApplicable(f"the loss is not finite for {bad} of {len(losses)} rows, at or near them")
    found: np.ndarray = losses.cpu().numpy()
    return found


def _generator(surface: Surface, *seeds: int) -> torch.Generator:
    import numpy as np
    import torch

    mixed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(surface.inputs.device).manual_seed(mixed)


def _robust(surface: Surface, parameters: Parameters, attack: Attack, seed: int) -> torch.Tensor:
    """Losses under attack; the starts are the same for all parameters, so that only the parameters differ."""
    return surface.robust_loss(parameters, attack, _generator(surface, seed, 0))


def _disturbed(surface: Surface, attack: Attack, params: RobustFlatnessParams, seed: int, number: int) -> Any:
    """What `_average` gives for the first numbers, and `_worst` for those after them."""
    random = number < params.directions
    what, find, index = ("average", _average, number) if random else ("worst", _worst, number - params.directions)
    key: JsonValue = {"seed": seed, "params": params.model_dump(mode="json")}
    progress("disturbances", number, params.directions + params.worst_starts)
    return kept([key, what, index], partial(find, surface, attack, params, seed, index))


def _average(surface: Surface, attack: Attack, params: RobustFlatnessParams, seed: int, index: int) -> JsonValue:
    """Mean losses with and without attack at one random disturbance."""
    shift = surface.direction(params.average_size, _generator(surface, seed, 1, index))
    parameters = surface.moved(shift)
    robust = _finite(_robust(surface, parameters, attack, seed))
    return [float(robust.mean()), float(_finite(surface.clean_loss(parameters)).mean())]


def _worst(surface: Surface, attack: Attack, params: RobustFlatnessParams, seed: int, index: int) -> JsonValue:
    """Largest mean loss found from one start, the rows attacked anew at its end."""
    found, reached = surface.ascend(attack, params.worst_size, _generator(surface, seed, 2, index))
    return max(reached, float(_finite(_robust(surface, found, attack, seed)).mean()))


def _metrics(run: _Run, params: RobustFlatnessParams, seed: int) -> tuple[Metric, ...]:
    from assessor_checks._intervals import bootstrap_mean

    n = len(run.clean)
    attack = f"L-infinity PGD, eps {params.eps:g} ({params.scale}), {params.steps} steps, {params.restarts} starts"
    how = (
        f"{params.directions} random disturbances of {params.average_size:g} of each weight tensor's length, seed "
        f"{seed}; 95 % t interval over disturbances, rows fixed"
    )
    metrics = [
        _metric("average_robust_flatness", float(run.average.mean()), _t(run.average), n, f"{attack}; {how}"),
        _metric(
            "average_clean_flatness", float(run.average_clean.mean()), _t(run.average_clean), n, f"no attack; {how}"
        ),
    ]
    if len(run.worst):
        within = (
            f"largest rise found within {params.worst_size:g} of each weight tensor's length, weights and inputs "
            f"searched jointly, {params.worst_starts} starts; a lower bound of the largest there is; no interval"
        )
        metrics.append(_metric("worst_robust_flatness", float(run.worst.max()), None, n, f"{attack}; {within}"))
    for name, losses, what in (("robust_loss", run.robust, attack), ("clean_loss", run.clean, "no attack")):
        found = bootstrap_mean(losses, seed) if n > 1 else None
        ends = (found.low, found.high) if found else None
        metrics.append(_metric(name, float(losses.mean()), ends, n, f"{what}; 95 % BCa bootstrap over rows"))
    return tuple(metrics)


def _t(values: np.ndarray) -> tuple[float, float]:
    """Ends of the t interval of the mean of independent draws."""
    from scipy.special import stdtrit

    from assessor_checks._intervals import CONFIDENCE

    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()) - half, float(values.mean()) + half


def _metric(name: str, value: float, ends: tuple[float, float] | None, n: int, method: str) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name,
        value=value,
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        confidence=CONFIDENCE if ends else None,
        unit=INFO.unit,
        n=n,
        better=Better.LOWER,
        method=method,
        primary=name == "average_robust_flatness",
    )


def _rises(run: _Run) -> Series:
    """Rises by disturbance, random ones in order of the adversarial rise."""
    order = run.average.argsort()
    return Series(
        name="rises",
        title="Rise of the mean loss by random disturbance",
        columns={
            "disturbance": tuple(range(1, len(order) + 1)),
            "attacked": tuple(run.average[order].tolist()),
            "clean": tuple(run.average_clean[order].tolist()),
        },
    )


def _remarks(run: _Run, available: int) -> tuple[str, ...]:
    remarks = [
        f"{len(run.clean)} of {available} test rows; {run.moved} weight tensors disturbed, those of normalisation "
        "layers left alone. The rows were attacked anew at every disturbance, from the same starts."
    ]
    if len(run.worst):
        remarks.append(
            "The worst disturbance was searched in a ball much smaller than the random ones, so the two rises do not "
            "compare; a search with more starts may find a larger one."
        )
    return tuple(remarks)


def _doubt(run: _Run, eps: float) -> str | None:
    found = []
    if len(run.average) < FEW:
        found.append(f"only {len(run.average)} disturbances were drawn")
    still = int((run.robust <= run.clean).sum())
    if eps > 0 and still > STILL_SHARE * len(run.clean):
        found.append(f"the attack did not raise the loss of {still} of {len(run.clean)} rows, as with masked gradients")
    return f"The numbers show little: {'; '.join(found)}." if found else None


def plot(result: Result, axes: Axes) -> None:
    """Rise of the loss at every random disturbance, with and without attack, and the worst one found."""
    columns = result.series[0].arrays
    axes.plot(columns["disturbance"], columns["attacked"], "o-", color="black", label="attacked rows")
    axes.plot(columns["disturbance"], columns["clean"], "s--", color="0.4", label="clean rows")
    worst = [metric.value for metric in result.metrics if metric.name == "worst_robust_flatness"]
    for value in worst:
        axes.axhline(value, color="black", linestyle=":", label="worst found in the small ball, attacked")
    axes.set_xlabel("random disturbance of the weights, sorted")
    axes.set_ylabel("rise of the mean loss (nats)")
    axes.legend(frameon=False)


def rows(subject: Subject, params: RobustFlatnessParams) -> int:
    """An attack on every used row for the model and each disturbance, and the ascent to the worst ones."""
    attack = params.restarts * (GRADIENT * params.steps + 1) + 1
    disturbed = params.directions + params.worst_starts
    ascents = params.worst_starts * GRADIENT * params.steps
    return used(subject, "test", params.max_samples) * ((1 + disturbed) * attack + disturbed + ascents)


CHECK = Check(info=INFO, params=RobustFlatnessParams, measure=measure, plot=plot, rows=rows)
