"""Faithfulness of explanations: does the output follow the parts that the explanation names?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Result,
    Series,
    Subject,
    Task,
)
from assessor_checks._attribution_method import COMPLETE, SLOPES, AttributionParams, Method
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._explained import Model, Parts, Rows
    from assessor_checks.transparency._faithfulness import Curves

GAP = 0.1  # of the mean difference in output; attributions that should add up and miss by more are not what they claim
INFO = CheckInfo(
    id="transparency.attribution_faithfulness",
    version="1",
    title="Faithfulness of explanations to the model",
    measures=(
        "Explanations rank the parts of an input by how much they speak for the model's answer. Parts are put into an "
        "empty input, and taken out of the full one, in this order; the output should rise and fall faster than in a "
        "random order. The primary value is by how much, on average over both curves."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset(Task),
    limits=(
        "The explanations are made here, by the named method on the assessed model; explanations that the system shows "
        "its users are measured only if they are made in the same way.",
        "Inputs with parts replaced may look like nothing the model was trained on, and its output there may mean "
        "little; repeat with another replacement before relying on small differences.",
        "A faithful explanation need not be understandable, nor show that the model is right: look at wrong answers "
        "apart.",
        "An order tells which parts matter together, one after the other; interactions between parts are not shown.",
        "The interval covers the sampling of rows only.",
    ),
    remedy=(
        "Use another method (integrated gradients with more steps, Shapley values) or larger patches, compare "
        "replacements, and show no explanations for kinds of input on which they are no better than a random order."
    ),
    source=(
        "Petsiuk, Das, Saenko 2018 (RISE), arXiv 1806.07421, section 4; Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, "
        "arXiv 1901.09392, equation 1; Sundararajan, Taly, Yan 2017, arXiv 1703.01365, proposition 1; BCa bootstrap "
        "(Efron 1987) over rows"
    ),
    requirements=("TR-R-EX-ME-04", "TR-R-UA-ME-05"),
    instead=("transparency.surrogate_fidelity",),
)


class FaithfulnessParams(AttributionParams):
    """Parameters of transparency.attribution_faithfulness."""

    points: int = Field(default=20, ge=2, le=1000, description="Points of the curves, at most one a part.")
    orders: int = Field(default=5, ge=1, le=1000, description="Random orders a row to compare with.")
    sets: int = Field(default=50, ge=2, le=100_000, description="Random sets of parts a row for the infidelity.")


class _Found(NamedTuple):
    curves: Curves
    random: np.ndarray  # (n, s) insertion in random order
    gain: np.ndarray  # (n,) half of insertion minus deletion area
    by_size: np.ndarray  # (n,) the same where parts are ordered by their distance from the replacement
    infidelity: np.ndarray
    unexplained: np.ndarray
    gap: np.ndarray | None  # (n,) completeness gap
    difference: np.ndarray  # (n,) output minus that of the replaced input


def measure(subject: Subject, params: FaithfulnessParams, seed: int) -> Result:
    """Insertion and deletion against random order and against the inputs' own size, infidelity, completeness.

    Args:
        subject: Any model that answers new inputs with scores.
        params: Method, replacement, curves.
        seed: Seed of rows, orders, sets and of the bootstrap.

    Returns:
        Metrics, the three curves, right and wrong answers apart.

    Raises:
        NotApplicable: The rows cannot be explained.
    """
    from assessor_checks.transparency import _attributions as attributions

    method = params.method_for(subject)
    model = attributions.model_of(subject, params.explained)
    rows = attributions.rows_of(subject, params, seed)
    parts = attributions.parts_of(rows.x.shape[1:], params.patch)
    if parts.count < 2:
        raise NotApplicable(attributions.too_few(rows, 2))
    found = _measured(model, rows, parts, method, params, seed)
    tables = (
        (attributions.by_answer(subject, rows, found.gain, "gain over random", seed),)
        if subject.task.is_classification
        else ()
    )
    return Result(
        metrics=_metrics(subject, found, method, params, seed),
        series=(_series(found),),
        tables=tables,
        remarks=(attributions.told(subject, rows, parts, method, params), *_remarks(found)),
        doubt=_doubt(found),
    )


def _measured(model: Model, rows: Rows, parts: Parts, method: Method, params: FaithfulnessParams, seed: int) -> _Found:
    import numpy as np

    from assessor_checks.transparency import _attributions as attributions
    from assessor_checks.transparency import _faithfulness as faithfulness

    scores, change = attributions.attribute(model, rows, parts, method, params, seed)
    rng = np.random.default_rng([seed, 5])
    curves = faithfulness.curves(model.values, rows, parts, faithfulness.places(scores, rng), params.points)
    size = attributions.size_of_difference(rows, parts)
    plain = faithfulness.curves(model.values, rows, parts, faithfulness.places(size, rng), params.points)
    random = [
        faithfulness.curves(model.values, rows, parts, rng.random(size.shape).argsort(axis=1), params.points).insertion
        for _ in range(params.orders)
    ]
    difference = curves.insertion[:, -1] - curves.insertion[:, 0]
    sign = np.where(difference < 0, -1.0, 1.0)  # what says only how much a part matters cannot say in which direction
    fall = faithfulness.infidelity(model.values, rows, parts, change, sets=params.sets, seed=seed)
    return _Found(
        curves=curves,
        random=np.mean(random, axis=0),
        gain=curves.gain * (sign if method in SLOPES else 1.0),
        by_size=plain.gain * sign,
        infidelity=fall.squared_error,
        unexplained=fall.unexplained[np.isfinite(fall.unexplained)],
        gap=np.abs(change.sum(axis=1) - difference) if method in COMPLETE else None,
        difference=difference,
    )


def _metrics(
    subject: Subject, found: _Found, method: Method, params: FaithfulnessParams, seed: int
) -> tuple[Metric, ...]:
    from assessor_checks.transparency._attributions import row_metric
    from assessor_checks.transparency._faithfulness import area

    unit, shares = _unit(subject, params), found.curves.shares
    how = f"{method}, replacement {params.replacement}, seed {seed}"
    gain = f"half of insertion minus deletion area, 0 on average in random order; {how}"
    insertion, deletion = area(shares, found.curves.insertion), area(shares, found.curves.deletion)
    beyond = found.gain - found.by_size
    metrics = [
        row_metric("gain_over_random", found.gain, Better.HIGHER, gain, seed, unit=unit, primary=True),
        row_metric(
            "gain_over_input_size",
            beyond,
            Better.HIGHER,
            f"the gain minus that of the order by distance from the replacement, paired; {how}",
            seed,
            unit=unit,
        ),
        row_metric("insertion_area", insertion, Better.HIGHER, how, seed, unit=unit),
        row_metric("deletion_area", deletion, Better.LOWER, how, seed, unit=unit),
        row_metric("infidelity", found.infidelity, Better.LOWER, how, seed, unit=_squared(unit)),
    ]
    if len(found.unexplained) > 1:
        told = f"share of the mean squared fall of the output left when attributions are scaled at best; {how}"
        metrics.append(row_metric("unexplained_change", found.unexplained, Better.LOWER, told, seed))
    if found.gap is not None:
        told = f"distance of the attributions' sum from the output's difference; {how}"
        metrics.append(row_metric("completeness_gap", found.gap, Better.LOWER, told, seed, unit=unit))
    return tuple(metrics)


def _unit(subject: Subject, params: AttributionParams) -> str:
    if not subject.task.is_classification:
        return "units of the target"
    return {"probability": "1", "log_odds": "nats", "logit": "logits"}[params.explained]


def _squared(unit: str) -> str:
    return {"1": "1", "nats": "squared nats", "logits": "squared logits"}.get(unit, "squared units of the target")


def _series(found: _Found) -> Series:
    curves = {"insertion": found.curves.insertion, "deletion": found.curves.deletion, "random": found.random}
    columns = {"share": found.curves.shares} | {name: curve.mean(axis=0) for name, curve in curves.items()}
    return Series(
        name="curves",
        title="Output while parts are put in (insertion) or taken out (deletion)",
        columns={name: tuple(values.tolist()) for name, values in columns.items()},
    )


def _remarks(found: _Found) -> tuple[str, ...]:
    import numpy as np

    remarks = []
    if constant := len(found.gain) - len(found.unexplained):
        remarks.append(f"For {constant} rows the output does not change, whatever is replaced.")
    if found.gap is not None:
        gap, whole = float(found.gap.mean()), float(np.abs(found.difference).mean())
        if gap > GAP * whole:
            remarks.append(
                f"The attributions should add up to the output's difference, {whole:.3g} on average, and miss it by "
                f"{gap:.3g}: either they need more steps, or the model's gradients are not those of its output."
            )
    return tuple(remarks)


def _doubt(found: _Found) -> str | None:
    if len(found.unexplained):
        return None
    return "The output does not change for any row, whatever is replaced, so no explanation can be judged."


def plot(result: Result, axes: Axes) -> None:
    """The three curves; the wider the gap around the random order, the more faithful."""
    columns = result.series[0].arrays
    for name, style in (("insertion", "-"), ("random", ":"), ("deletion", "--")):
        axes.plot(columns["share"], columns[name], style, color="black", label=name)
    axes.set_xlabel("share of the parts put in or taken out")
    axes.set_ylabel("mean explained output")
    axes.legend(frameon=False)


def rows(subject: Subject, params: FaithfulnessParams) -> int:
    """An explanation of every used row, two curves for each order of its parts, and sets of parts."""
    from assessor_checks.transparency._attributions import asked_for, players

    curves = 2 * (2 + params.orders) * (min(params.points, players(subject, params)) + 1)
    bases = params.draws if params.replacement == "marginal" else 1
    each = asked_for(subject, params) + bases * (curves + params.sets) + 2
    return used(subject, "test", params.max_samples) * each


CHECK = Check(info=INFO, params=FaithfulnessParams, measure=measure, plot=plot, rows=rows)
