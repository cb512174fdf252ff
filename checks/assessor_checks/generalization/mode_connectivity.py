"""Linear mode connectivity: does the loss rise on the way from the model's parameters to those of its baseline."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import Field, JsonValue

from assessor.contract import (
    Better,
    Cell,
    Check,
    CheckInfo,
    Metric,
    Need,
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
from assessor_checks._costs import GRADIENT, PRODUCT, used

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._interpolation import Curve, Ends, Landscape, Pair, State, Value

ENOUGH = 20  # rows below which the bootstrap's intervals are too narrow to be judged
BOOTSTRAP = "95 % percentile bootstrap over rows, the same rows for all networks, widened to hold the value"
HIGHEST = f"highest rise on the grid; {BOOTSTRAP}"
PLACE = "where the highest rise is, 0 the model and 1 the baseline; a point of the grid, no interval"
MATCHED = "after weight matching, a local optimum"
AVERAGED = f"highest over layers of one layer averaged, against the mean of both ends; {BOOTSTRAP}"
HUMP = f"highest over layers of the rise on the layer's own line, kept to swapped, below 0 a dip; {BOOTSTRAP}"
FORETOLD = "second-order expansions at both ends, weighted by nearness; exact for a quadratic loss; no interval"
DISTANCE = "Euclidean distance of all that is moved; no interval"
INFO = CheckInfo(
    id="generalization.mode_connectivity",
    version="1",
    title="Loss barrier between the model and its baseline",
    measures=(
        "How far the mean test loss rises above the straight line between both ends when all parameters are moved "
        "evenly from those of the model to those of the baseline: 0 means that the networks between them are as good "
        "as the two. The same after renumbering the baseline's hidden units to match, for every layer alone, for the "
        "first and the last layers together, and for ways of averaging the two."
    ),
    unit="nats",
    needs=frozenset({Need.TEST, Need.GRADIENTS, Need.BASELINE}),
    tasks=frozenset(Task),
    limits=(
        "No barrier does not mean that both decide alike: compare their decisions, and repeat the other checks on a "
        "retrained model.",
        "A barrier does not mean that the networks are unlike: networks that compute the same with renumbered units "
        "have one, and curved ways around it nearly always exist.",
        "Renumbering is searched step by step and may miss the best one, so the barrier after it is an upper bound.",
        "Only the points of the grid are tried; the loss may rise higher between them.",
        "The foretold barrier is for ranking pairs: it may be several times too low, or twice too high.",
        "The interval shows the sampling of test rows, not the variation between training runs.",
    ),
    remedy=(
        "A barrier is no fault of either model. Do not average these two: average after renumbering, average only the "
        "layers that bear it, or retrain from the assessed model's parameters; treat the new model as a new one."
    ),
    source=(
        "Barrier: Entezari et al. 2022, arXiv 2110.06296; by layer: Adilova, Andriushchenko, Kamp, Fischer, Jaggi, "
        "ICLR 2024, arXiv 2307.06966; renumbering: Ainsworth, Hayase, Srinivasa 2023, arXiv 2209.04836, algorithm 1; "
        "distance and curvature: Singh, Adilova, Kamp, Fischer, Schoelkopf, Hofmann 2024, arXiv 2406.16300; averages: "
        "Matena and Raffel 2022, arXiv 2111.09832; statistics: Jordan et al. 2023, arXiv 2211.08403"
    ),
    requirements=("RE-R-CD-ME-02",),
    instead=("generalization.gap",),
    spreads=True,
)


class ModeConnectivityParams(Params):
    """Parameters of generalization.mode_connectivity."""

    steps: int = Field(default=10, ge=10, le=200, multiple_of=2, description="Equal steps from model to baseline.")
    align: bool = Field(default=True, description="Also renumber the baseline's hidden units to match the model's.")
    layers: bool = Field(default=True, description="Also move single layers and groups of layers; the longest part.")
    recompute_batchnorm: bool = Field(
        default=True, description="Give every network batch normalisation statistics of its own, from train rows."
    )
    max_samples: int = Field(
        default=1000, ge=1, description="Test rows at most, and train rows for statistics and weights, by the seed."
    )


class _Layer(NamedTuple):
    """A layer moved, the others as in one network: its average against both ends, and the rise on its own line."""

    name: str
    others: str
    averaged: Value
    hump: Value


def measure(subject: Subject, params: ModeConnectivityParams, seed: int) -> Result:
    """Barrier before and after alignment, by layer and foretold from the ends, and averages of the two networks.

    Args:
        subject: A PyTorch module with a baseline of the same architecture.
        params: Grid, parts, rows.
        seed: Seed of the rows' choice, the bootstrap and the order of the alignment.

    Returns:
        Metrics, the curve, tables by layer, by group of layers, of averages and of the ends.

    Raises:
        NotApplicable: The architectures differ, or a network on the way gives no finite loss.
    """
    from assessor_checks import _interpolation as paths
    from assessor_checks.generalization import _two_networks as networks

    pair, fit, remarks = networks.pair_of(
        subject, steps=params.steps, most=params.max_samples, recompute=params.recompute_batchnorm, seed=seed
    )
    renumbered, said = networks.renumbered(subject, pair) if params.align else (None, ())
    whole = pair.curve(pair.b)
    aligned = None if renumbered is None else pair.curve(renumbered)
    ends, lost = networks.expansion(subject, pair)
    foretold = None if ends is None else paths.predicted_excess(ends, pair.alphas)
    distances = [paths.distance(pair.a, end, pair.names) for end in (pair.b, renumbered) if end is not None]
    layers = paths.layers_of(subject.module, pair.names) if params.layers else {}
    found = _by_layer(pair, layers, params)
    grouped = (_layer_table(found), _cumulative(pair, layers)) if params.layers else ()
    return Result(
        metrics=tuple(_metrics(subject.task, pair, (whole, aligned), found, foretold, distances[0])),
        series=(_series(pair, whole, aligned, foretold),),
        tables=(*grouped, _averages(subject, pair, fit, renumbered), *_ends(ends, distances[0])),
        remarks=(*remarks, *said, *lost, *_remarks(pair, whole, distances)),
        doubt=_doubt(subject.task, pair, whole),
    )


def _by_layer(pair: Pair, layers: dict[str, tuple[str, ...]], params: ModeConnectivityParams) -> tuple[_Layer, ...]:
    """Every layer alone, with the others of the model, then with those of the baseline."""
    import numpy as np

    from assessor_checks._interpolation import Value

    sides = list(itertools.product(layers, ("model", "baseline")))
    found = []
    for (name, others), rows in zip(sides, spread(partial(_side, pair, layers, params), sides), strict=True):
        values = [Value(row[0], None if len(row) == 1 else np.array(row[1:])) for row in rows]
        found.append(_Layer(name, others, *values))
    return tuple(found)


def _side(pair: Pair, layers: dict[str, tuple[str, ...]], params: ModeConnectivityParams, side: tuple[str, str]) -> Any:
    """Both values of a layer with the others of one network, each before its replicates."""
    name, others = side

    def values() -> JsonValue:
        found = pair.layer(layers[name], pair.a if others == "model" else pair.b)
        return [[one.value, *([] if one.drawn is None else one.drawn.tolist())] for one in found]

    found = kept([name, others, pair.seed, params.model_dump(mode="json")], values)
    if others == "baseline":
        progress("layers", list(layers).index(name) + 1, len(layers))
    return found


def _metrics(
    task: Task,
    pair: Pair,
    curves: tuple[Curve, Curve | None],
    layers: tuple[_Layer, ...],
    foretold: np.ndarray | None,
    distance: float,
) -> Iterator[Metric]:
    from assessor_checks._interpolation import Value, excess

    whole, aligned = curves
    unit, none = INFO.unit if task.is_classification else "squared units of the target", Better.NONE
    yield _metric("barrier", pair.barrier(whole), unit, pair.n, HIGHEST, primary=True)
    if _rises(pair, whole):
        place = Value(float(pair.alphas[excess(whole.means, pair.alphas).argmax()]), None)
        yield _metric("barrier_location", place, "1", pair.n, PLACE, better=none)
    if aligned is not None:
        yield _metric("barrier_aligned", pair.barrier(aligned), unit, pair.n, f"{MATCHED}; {HIGHEST}")
    if layers:
        yield _metric("worst_layer_barrier", _worst([one.averaged for one in layers]), unit, pair.n, AVERAGED)
        yield _metric("worst_layer_hump", _worst([one.hump for one in layers]), unit, pair.n, HUMP)
    if foretold is not None:
        rise = Value(float(foretold.max()) + 0.0, None)  # + 0.0: no negative zero
        yield _metric("predicted_barrier", rise, unit, pair.n, FORETOLD, better=none)
    yield _metric("distance", Value(distance, None), "units of the parameters", pair.n, DISTANCE, better=none)


def _metric(
    name: str,
    found: Value,
    unit: str,
    n: int,
    method: str,
    *,
    better: Better = Better.LOWER,
    primary: bool = False,
) -> Metric:
    """A metric; its interval is the middle of the replicates, widened to hold the value."""
    import numpy as np

    from assessor_checks._intervals import CONFIDENCE

    low = high = None
    if found.drawn is not None:
        ends = np.quantile(found.drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
        low, high = min(ends[0], found.value), max(ends[1], found.value)
    return Metric(
        name=name,
        value=found.value,
        low=low,
        high=high,
        confidence=None if low is None else CONFIDENCE,
        unit=unit,
        n=n,
        better=better,
        method=method if n > 1 else f"{method}; no interval from one row",
        primary=primary,
    )


def _worst(values: list[Value]) -> Value:
    """The highest of several values, with the highest of every replicate."""
    import numpy as np

    from assessor_checks._interpolation import Value

    drawn = [one.drawn for one in values if one.drawn is not None]
    return Value(max(one.value for one in values), np.max(drawn, axis=0) if drawn else None)


def _rises(pair: Pair, curve: Curve) -> bool:
    """Whether a curve rises above the straight line by more than rounding in the networks' precision."""
    import torch

    eps = max(torch.finfo(value.dtype).eps for value in pair.a.values())
    return pair.barrier(curve).value > 10 * eps * float(curve.means.max())


def _series(pair: Pair, whole: Curve, aligned: Curve | None, foretold: np.ndarray | None) -> Series:
    """Mean losses on the way, the straight line between the ends, and what the ends foretell."""
    import numpy as np

    from assessor_checks._interpolation import excess

    line = whole.means - excess(whole.means, pair.alphas)
    columns = {"share": pair.alphas, "loss": whole.means, "straight": line}
    if foretold is not None:
        columns["foretold"] = line + foretold
    if whole.drawn is not None:
        low, high = np.quantile(whole.drawn, [0.025, 0.975], axis=0)
        columns |= {"low": np.minimum(low, whole.means), "high": np.maximum(high, whole.means)}
    if aligned is not None:
        columns["aligned"] = aligned.means
    title = "Mean test loss on the way from the model (0) to the baseline (1)"
    return Series(name="curve", title=title, columns={name: tuple(one.tolist()) for name, one in columns.items()})


def _layer_table(layers: tuple[_Layer, ...]) -> Table:
    rows = tuple((one.name, one.others, one.averaged.value, one.hump.value) for one in layers)
    columns = ("layer", "other layers of", "averaged, against the mean of both", "highest rise on its own line")
    title = "Single layers moved; below 0 the loss dips"
    return Table(name="layers", title=title, columns=columns, rows=rows)


def _cumulative(pair: Pair, layers: dict[str, tuple[str, ...]]) -> Table:
    """The first and the last layers averaged, the others as in the model, then as in the baseline."""
    held, total = list(layers.values()), len(layers)
    groups = [("first", count, held[:count]) for count in range(1, total + 1)]
    groups += [("last", count, held[total - count :]) for count in range(1, total)]
    names = [{name for layer in group for name in layer} for *_, group in groups]
    found = spread(partial(_averaged, pair, len(groups)), list(enumerate(names)))
    rows: list[tuple[Cell, ...]] = [
        (which, count, *both) for (which, count, _), both in zip(groups, found, strict=True)
    ]
    columns = ("end", "layers averaged", "other layers of the model", "other layers of the baseline")
    title = "First and last layers averaged together: loss against the mean of both ends"
    return Table(name="cumulative", title=title, columns=columns, rows=tuple(rows))


def _averaged(pair: Pair, total: int, group: tuple[int, set[str]]) -> tuple[float, ...]:
    """Loss with some parts averaged, the others of the model and of the baseline."""
    position, names = group
    found = tuple(pair.averaged(names, base) for base in (pair.a, pair.b))
    progress("groups of layers", position + 1, total)
    return found


def _averages(subject: Subject, pair: Pair, fit: Landscape, renumbered: State | None) -> Table:
    """The ends, and plain and Fisher-weighted averages before and after alignment."""
    from assessor_checks import _interpolation as paths

    learned = [name for name, _ in subject.module.named_parameters() if name in pair.a]
    weights = fit.fisher(pair.a, learned)
    states: dict[str, State] = {"model": pair.a, "baseline": pair.b}
    for plain, weighted, end in (
        ("plain average", "Fisher-weighted average", pair.b),
        ("plain average after alignment", "Fisher-weighted average after alignment", renumbered),
    ):
        if end is not None:
            states[plain] = paths.line(pair.a, end, pair.names).at(0.5)
            states[weighted] = paths.fisher_average(pair.a, end, weights, fit.fisher(end, learned))
    points = {name: pair.land.at(state) for name, state in states.items()}
    losses = {name: float(point.losses.mean()) for name, point in points.items()}
    both = (losses["model"] + losses["baseline"]) / 2
    rows: list[tuple[Cell, ...]] = [
        (name, losses[name], losses[name] - both, None if point.right is None else float(point.right.double().mean()))
        for name, point in points.items()
    ]
    columns = ("network", "mean loss", "against the mean of both", "accuracy")
    width = 4 if subject.task.is_classification else 3
    title = "Averages of the two networks"
    return Table(name="averages", title=title, columns=columns[:width], rows=tuple(row[:width] for row in rows))


def _ends(ends: Ends | None, distance: float) -> tuple[Table, ...]:
    """Slope and curvature by unit of distance."""
    if ends is None:
        return ()
    unit = distance or 1.0
    rows = tuple(
        (name, ends.loss[end], ends.slope[end] / unit, ends.curvature[end] / unit**2)
        for end, name in enumerate(("model", "baseline"))
    )
    columns = ("network", "mean loss", "slope", "curvature")
    title = "The ends of the line: slope and curvature towards the baseline, by unit of distance"
    return (Table(name="ends", title=title, columns=columns, rows=rows),)


def _remarks(pair: Pair, whole: Curve, distances: list[float]) -> tuple[str, ...]:
    import torch

    remarks = []
    if same := sum(torch.equal(pair.a[name], pair.b[name]) for name in pair.names):
        remarks.append(f"{same} of {len(pair.names)} tensors are the same in both networks.")
    if not _rises(pair, whole):
        remarks.append("No network of the grid lies above the straight line between the ends, so no place is given.")
    if len(distances) > 1:
        remarks.append(f"Distance of the parameters: {distances[0]:.4g}, after alignment {distances[1]:.4g}.")
    return tuple(remarks)


def _doubt(task: Task, pair: Pair, whole: Curve) -> str | None:
    """Networks that know nothing have no barrier between them."""
    import torch

    if pair.n < ENOUGH:
        return f"{pair.n} test rows are too few for the interval, which is too narrow below {ENOUGH}."
    labels = pair.land.labels
    if task.is_classification:
        shares = torch.bincount(labels).double() / len(labels)
        guess = float(torch.special.entr(shares).sum())
    else:
        guess = float(labels.double().var(correction=0)) / 2
    if guess <= 0:
        return "All test labels are the same, so that they do not show whether the networks have learned anything."
    for name, loss in (("model", whole.means[0]), ("baseline", whole.means[-1])):
        if loss >= guess:
            return (
                f"The {name}'s loss is {loss:.3g}, no better than the {guess:.3g} of always stating what is usual; "
                "between networks that have learned nothing the lack of a barrier means nothing."
            )
    return None


def plot(result: Result, axes: Axes) -> None:
    """Mean loss on the way from the model to the baseline, before and after alignment."""
    columns = cast("dict[str, tuple[float, ...]]", result.series[0].columns)
    share = columns["share"]
    if "low" in columns:
        axes.fill_between(share, columns["low"], columns["high"], color="0.85")
    axes.plot(share, columns["loss"], "o-", color="black", markersize=3, label="as they are")
    if "aligned" in columns:
        axes.plot(share, columns["aligned"], "s--", color="0.35", markersize=3, label="aligned")
    axes.plot(share, columns["straight"], ":", color="0.5", label="straight line")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("from the model (0) to the baseline (1)")
    axes.set_ylabel(f"mean test loss ({result.metric('barrier').unit})")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def rows(subject: Subject, params: ModeConnectivityParams) -> int:
    """Every used row at every point of every line, at averages and for derivatives; train rows for weights."""
    from assessor_checks import _interpolation as paths

    points, layers = params.steps + 1, 0
    if params.layers:
        layers = len(paths.layers_of(subject.module, paths.state_of(subject.module)))
    networks = points * (1 + params.align) + layers * (2 * points + 4) + 6
    test, train = (used(subject, name, params.max_samples) for name in ("test", "train"))
    refreshed = train if params.recompute_batchnorm and paths.normalisations(subject.module) else 0
    return networks * (test + refreshed) + 2 * PRODUCT * test + 3 * GRADIENT * (train or test)


CHECK = Check(info=INFO, params=ModeConnectivityParams, measure=measure, plot=plot, rows=rows)
