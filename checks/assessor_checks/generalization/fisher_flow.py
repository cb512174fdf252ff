"""Fisher information flow: how much of what the inputs tell about a parameter reaches each layer and the output."""

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
    progress,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.generalization._flow import Loss, Row
    from assessor_checks.generalization._signal_designs import Design, Plan

HOW = "bias-corrected, mean over the parameter's values; 95 % delete-a-group jackknife over repeats"
HOW_LEARNED = "small non-linear reading trained on half of the repeats and judged on the other; 95 % jackknife"
HOW_LOSS = (
    "greatest information from one layer on minus the greatest from the next layer on, as share of the input's; "
    "layers chosen by the data; 95 % Fieller from a delete-a-group jackknife"
)
UNIT = "per unit²"
SAME = 1e-3  # rounding apart, an invertible layer keeps its input's information
COARSE = 2.0  # steps of more standard errors than this are told
COPIES = 0.1  # more rows than this that repeat another one exactly: the repeats are not independent
INFO = CheckInfo(
    id="generalization.fisher_flow",
    version="1",
    title="Fisher information flow through the layers",
    measures=(
        "How finely a known parameter (an angle, a contrast, a dose, or the target itself) can be told from repeated "
        "noisy inputs, from each layer's activations and from the output: the linear Fisher information, and the share "
        "of the input's information that is left at each layer. For regression also the squared error against the "
        "least that any unbiased estimate from these inputs can have (Cramer-Rao bound)."
    ),
    unit="1",
    needs=frozenset({Need.DESIGN, Need.GRADIENTS}),
    tasks=frozenset(Task),
    limits=(
        "Only information about the one parameter of the design split is followed; what is lost may matter little for "
        "another one, and a classifier should lose what does not tell its classes apart.",
        "Linear information is a lower bound of the whole information. It may rise through a non-linear layer, which "
        "then makes readable what was there before; only the whole information can never rise. A share above 1 is "
        "therefore possible.",
        "It holds for the noise and the values of the design split; other noise gives other numbers.",
        "An error below the Cramer-Rao bound on training data is a sign of overfitting only if the training inputs "
        "have the design's noise; estimates that shrink towards the middle may pass the bound without any, and so may "
        "good ones where the inputs tell more than a linear reading finds (then set tighten).",
        "The interval shows the sampling of repeats, not the choice of the values nor the training run.",
    ),
    remedy=(
        "Widen or bypass the layer where most is lost (more units, less pooling, a residual path), or train longer; if "
        "the training error lies below the bound, stop earlier, regularise, or train on more repeats."
    ),
    source=(
        "Weimar, Rachbauer, Starshynov, Faccio, Adilova, Bouchet, Rotter: Fisher information flow in artificial neural "
        "networks, 2025, arXiv 2509.02407; bias correction: Kanitscheider, Coen-Cagli, Kohn, Pouget, PLoS Comput Biol "
        "11(6), 2015, e1004218, equation 2; ratio: Fieller 1954"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("generalization.gap",),
)


class FisherFlowParams(Params):
    """Parameters of generalization.fisher_flow."""

    parameter: Literal["target", "other"] = Field(
        default="target",
        description="Regression: whether the design's parameter is what the model predicts, so that its error can be "
        "compared with the Cramer-Rao bound, or another one.",
    )
    reach: int | None = Field(
        default=None,
        ge=1,
        description="Neighbouring values on a side over which slopes are taken; more give narrower intervals and a "
        "coarser picture. None: an eighth of the steps between the values, at least one.",
    )
    max_repeats: int = Field(default=1000, ge=20, le=100_000, description="Repeats used of each value at most.")
    max_dimensions: int = Field(
        default=1024,
        ge=1,
        le=2048,
        description="Layers with more numbers than this are bounded from below by linear readings learned on half of "
        "the repeats.",
    )
    tighten: bool = Field(
        default=False,
        description="Also train a small non-linear reading of each layer on half of the repeats, for a bound closer to "
        "the whole information; the Cramer-Rao bound uses the input's where it is greater.",
    )


def measure(subject: Subject, params: FisherFlowParams, seed: int) -> Result:
    """Linear Fisher information of input, layers and output, and the share of the input's that is left.

    Args:
        subject: A PyTorch module with a design split.
        params: What the parameter is, and limits.
        seed: Seed of the repeats' choice and order, and of the learned readings.

    Returns:
        Metrics, a table by layer, information by layer and by value of the parameter.

    Raises:
        NotApplicable: Too few values or repeats, no noise, values that are not finite, or no information to follow.
    """
    from assessor_checks.generalization import _error_bounds, _flow, _signal_designs
    from assessor_checks.generalization import _fisher as fisher

    design = _signal_designs.design_of(subject.splits["design"].labels, most=params.max_repeats, seed=seed)
    layers, left_out = _flow.layers_of(subject, design)
    plan = _signal_designs.plan_of(design, params.reach)
    if params.tighten and design.repeats[0] < fisher.LEAST_LEARNED:
        raise NotApplicable(
            f"tighten wants at least {fisher.LEAST_LEARNED} repeats of each value, found {design.repeats[0]}"
        )
    rows = []
    for done, layer in enumerate(layers):
        progress("information by layer", done, len(layers))
        rows.append(_flow.row_of(layer, plan, most=params.max_dimensions, tighten=params.tighten, seed=seed))
    share, loss = _flow.shares(rows)
    aimed = not subject.task.is_classification and params.parameter == "target"
    ratios = _error_bounds.error_ratios(subject, design, plan, rows, seed) if aimed else []
    n = sum(map(len, design.rows))
    metrics = (
        _metric(
            "transmission_output",
            share,
            n,
            f"ratio of the means over the values, Fieller; {HOW}",
            better=Better.HIGHER,
            primary=True,
        ),
        _information("information_input", rows[0].mean, n, Better.NONE, HOW),
        _information("information_output", rows[-1].mean, n, Better.HIGHER, HOW),
        *([] if loss is None else [_metric("largest_loss", loss.share, n, HOW_LOSS, better=Better.LOWER)]),
        *_learned(rows, n),
        *(_metric(*ratio) for ratio in ratios),
    )
    return Result(
        metrics=metrics,
        series=(_by_layer(rows), _by_value(rows, plan)),
        tables=(_table(rows),),
        remarks=(
            *_facts(rows, design, params, left_out),
            *_findings(rows, design, share, loss),
            *(_error_bounds.about_errors(ratios, trained=Need.TRAIN in subject.offers) if aimed else []),
        ),
        doubt=_doubt(rows[0], design),
    )


def _learned(rows: list[Row], n: int) -> tuple[Metric, ...]:
    from assessor_checks.generalization import _jackknife

    first, last = rows[0].learned, rows[-1].learned
    if first is None or last is None:
        return ()
    above, below = last.mean(axis=0), first.mean(axis=0)
    metrics = [
        _information("information_input_learned", below, n // 2, Better.NONE, HOW_LEARNED),
        _information("information_output_learned", above, n // 2, Better.HIGHER, HOW_LEARNED),
    ]
    if (share := _jackknife.ratio(above, below)) is not None:
        metrics.append(_metric("transmission_output_learned", share, n // 2, HOW_LEARNED, better=Better.HIGHER))
    return tuple(metrics)


def _information(name: str, values: np.ndarray, n: int, better: Better, method: str) -> Metric:
    from assessor_checks.generalization._jackknife import jackknife

    return _metric(name, jackknife(values), n, method, better=better, unit=UNIT)


def _metric(
    name: str,
    found: Estimate,
    n: int,
    method: str,
    *,
    better: Better = Better.NONE,
    unit: str = "1",
    primary: bool = False,
) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name,
        value=found.value,
        low=found.low,
        high=found.high,
        confidence=CONFIDENCE,
        unit=unit,
        n=n,
        better=better,
        method=method,
        primary=primary,
    )


def _table(rows: list[Row]) -> Table:
    from assessor_checks.generalization import _jackknife

    cells = []
    for row in rows:
        found = None if row.read is None else _jackknife.jackknife(row.mean)
        share = None if row.read is None else float(row.mean[0] / rows[0].mean[0])
        learned = None if row.learned is None else float(row.learned[:, 0].mean())
        rank, bounded = (None, None) if row.read is None else (row.read.rank, row.read.bounded)
        kind = row.layer.kind or None
        cells.append((row.layer.name, kind, row.layer.width, rank, *(found or [None] * 3), share, bounded, learned))
    columns = (
        "layer",
        "kind",
        "numbers",
        "directions that vary",
        "information",
        "low",
        "high",
        "share of the input's",
        "lower bound only",
        "by a learned reading",
    )
    return Table(name="layers", title="Information by layer", columns=columns, rows=tuple(cells))


def _by_layer(rows: list[Row]) -> Series:
    """Quartiles over the values of the parameter, one entry a layer."""
    import numpy as np

    columns: dict[str, tuple[float | None, ...]] = {"layer": tuple(map(float, range(len(rows))))}
    for name, share in (("low_quartile", 0.25), ("median", 0.5), ("high_quartile", 0.75)):
        columns[name] = tuple(row.read and float(np.quantile(row.read.values[:, 0], share)) for row in rows)
    return Series(name="by_layer", title="Information by layer, over the values of the parameter", columns=columns)


def _by_value(rows: list[Row], plan: Plan) -> Series:
    columns = {"parameter": tuple(stencil.at for stencil in plan.local)}
    for name, row in (("input", rows[0]), ("output", rows[-1])):
        assert row.read is not None
        columns[name] = tuple(row.read.values[:, 0].tolist())
    return Series(name="by_value", title="Information by value of the parameter", columns=columns)


def _facts(rows: list[Row], design: Design, params: FisherFlowParams, left_out: tuple[str, ...]) -> list[str]:
    fewest, most = design.repeats
    remarks = [
        f"{len(design.theta)} values of the parameter from {design.theta[0]:g} to {design.theta[-1]:g}, at least "
        f"{fewest} and at most {most} repeats of each; {len(rows)} layers, input and output included."
    ]
    if design.dropped_rows:
        remarks.append(
            f"{design.dropped_rows} rows of the design split are not used: {design.dropped_values} values have too few "
            f"repeats, and of each value at most {params.max_repeats} repeats are used."
        )
    if names := ", ".join(row.layer.name for row in rows if row.read is not None and row.read.bounded):
        remarks.append(
            f"Lower bounds only, by linear readings learned on half of the repeats, because the layer has too many "
            f"numbers for so few repeats or more than max_dimensions: {names}."
        )
    if names := ", ".join(row.layer.name for row in rows if row.read is None):
        remarks.append(f"Not measured, because the parameter changes numbers that carry no noise there: {names}.")
    if left_out:
        remarks.append(
            f"Not measured, because of their size or because of numbers that are not finite: {', '.join(left_out)}."
        )
    return remarks


def _findings(rows: list[Row], design: Design, share: Estimate, loss: Loss | None) -> list[str]:
    import numpy as np

    from assessor_checks.generalization import _jackknife

    remarks = [
        f"A linear reading of the output tells the parameter with {share.value:.0%} of the information that a linear "
        "reading of the input has."
    ]
    if loss is None or loss.share.low <= 0:
        remarks.append("No loss between two layers can be told from chance.")
    else:
        remarks.append(
            f"The largest loss that no later layer makes good is between '{loss.before}' and '{loss.after}': "
            f"{loss.share.value:.0%} of the input's information."
        )
    risen = [
        row.layer.name
        for row in rows[1:]
        if row.read is not None
        and (found := _jackknife.ratio(row.mean, rows[0].mean)) is not None
        and found.low > 1 + SAME
    ]
    if risen:
        remarks.append(
            f"More linear information than at the input is found at: {', '.join(risen)}. Nothing was added: these "
            "layers make readable what a linear reading of the input misses, or the input could be read in part only."
        )
    width = float(np.median(np.diff(design.theta)) * max(0.0, float(rows[0].mean[0])) ** 0.5)
    if width > COARSE:
        remarks.append(
            f"Neighbouring values lie {width:.1f} standard errors of a single input apart, so that the derivative is "
            "taken over a wide step; values closer together show the information more locally."
        )
    return remarks


def _doubt(first: Row, design: Design) -> str | None:
    doubts = []
    if first.read is not None and first.read.bounded:
        doubts.append(
            f"The input has {first.layer.width} numbers, and from {design.repeats[0]} repeats of a value its "
            "information could only be bounded from below, so that the shares may be too high: give at least "
            f"{first.layer.width // 2 + 2} repeats of each value, and max_dimensions as high as the input is wide."
        )
    n = sum(map(len, design.rows))
    copies = n - len({hash(row.numpy().tobytes()) for rows in first.layer.groups for row in rows})
    if copies > COPIES * n:
        doubts.append(
            f"{copies} of {n} rows of the design split repeat another row exactly, so that the repeats are "
            "not independent and the information is overstated."
        )
    return " ".join(doubts) or None


def plot(result: Result, axes: Axes) -> None:
    """Information by layer: median over the values of the parameter, with the middle half."""
    import numpy as np

    columns = result.series[0].arrays
    known = ~np.isnan(columns["median"])
    places, low, middle, high = (columns[name][known] for name in ("layer", "low_quartile", "median", "high_quartile"))
    axes.fill_between(places, low, high, color="0.85", label="middle half of the values")
    axes.plot(places, middle, "o-", color="black", label="median")
    names = [str(row[0]) for row in result.tables[0].rows]
    every = max(1, len(names) // 20)
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=45, ha="right")
    axes.set_ylim(bottom=min(0.0, *low))
    axes.set_xlabel("layer")
    axes.set_ylabel("information (1 / parameter squared)")
    axes.legend(frameon=False)


def rows(subject: Subject, params: FisherFlowParams) -> int:
    """Every row of the design split once; what is made of the layers takes longer."""
    return used(subject, "design")


CHECK = Check(info=INFO, params=FisherFlowParams, measure=measure, plot=plot, rows=rows)
