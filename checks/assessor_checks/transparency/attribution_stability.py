"""Stability of explanations: do rows that are all but the same get the same explanation?"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Bounds,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Result,
    Series,
    Subject,
    Task,
    progress,
    spread,
)
from assessor_checks._attribution_method import STOCHASTIC, AttributionParams, Method
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._explained import Model, Parts, Rows
    from assessor_checks._inputs import Room
    from assessor_checks.transparency._attributions import Attributions

QUANTILES = 101
INFO = CheckInfo(
    id="transparency.attribution_stability",
    version="1",
    title="Stability of explanations under small changes of the input",
    measures=(
        "Every row is compared with copies of itself that differ by a small random noise and get the same answer. The "
        "primary value is the rank correlation between the explanation of the row and those of its copies: 1 when the "
        "parts keep their order, about 0 when the order is another one each time."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset(Task),
    limits=(
        "Stable explanations need not be right: one that is the same for every input is perfectly stable. Read it "
        "beside transparency.attribution_faithfulness and transparency.model_randomization.",
        "Copies are drawn at random; a change made on purpose to turn the explanation can do far more.",
        "Where the model itself changes quickly, a faithful explanation must change too.",
        "The explanations are made here, by the named method on the assessed model; explanations that the system shows "
        "its users are measured only if they are made in the same way.",
        "The interval covers the sampling of rows only.",
    ),
    remedy=(
        "Average the explanation over noisy copies (SmoothGrad), take more steps or samples, explain larger patches or "
        "groups of features that belong together, or smooth the model itself (regularisation, adversarial training)."
    ),
    source=(
        "Max-sensitivity: Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, arXiv 1901.09392, by random search; "
        "rank correlation and shared first parts between near inputs of the same answer: Ghorbani, Abid, Zou 2019, "
        "arXiv 1710.10547; BCa bootstrap (Efron 1987) over rows"
    ),
    requirements=("TR-R-EX-ME-04", "TR-R-UA-ME-05"),
    instead=("transparency.surrogate_fidelity",),
    spreads=True,
)


class StabilityParams(AttributionParams):
    """Parameters of transparency.attribution_stability."""

    radius: float = Field(
        default=0.05,
        gt=0,
        description="Largest change of a feature in a copy, in standard deviations of each feature over the train "
        "split (test split without one). Columns of at most two values are held fixed.",
    )
    copies: int = Field(default=10, ge=1, le=10_000, description="Copies of each row.")
    first: int = Field(default=5, ge=1, description="Number of most important parts compared; half of all at most.")
    frozen: tuple[str, ...] = Field(default=(), description="Columns to hold fixed: names or '#3'.")
    bounds: Bounds | None = Field(default=None, description="Least and greatest valid feature value.")


class _Found(NamedTuple):
    """(n,) each; NaN for rows without a copy that counts."""

    correlation: np.ndarray
    worst: np.ndarray
    first: np.ndarray
    sensitivity: np.ndarray
    seeds: np.ndarray | None
    changed: int  # copies that get another answer
    constant: int  # copies whose correlation is undefined, since all parts count the same


def measure(subject: Subject, params: StabilityParams, seed: int) -> Result:
    """Rank correlation, shared first parts and max-sensitivity between rows and their copies; between seeds.

    Args:
        subject: Any model that answers new inputs with scores.
        params: Method, size of the noise.
        seed: Seed of rows, noise, method and bootstrap.

    Returns:
        Metrics, the correlations of the rows, right and wrong answers apart.

    Raises:
        NotApplicable: The rows cannot be explained or moved, or no copy keeps its answer.
    """
    from assessor_checks import _inputs as inputs
    from assessor_checks.transparency import _attributions as attributions

    method = params.method_for(subject)
    model = attributions.model_of(subject, params.explained)
    rows = attributions.rows_of(subject, params, seed)
    room = inputs.room(subject, scale="feature_std", frozen=params.frozen, bounds=params.bounds)
    parts = attributions.parts_of(rows.x.shape[1:], params.patch)
    if parts.count < 2:
        raise NotApplicable(attributions.too_few(rows, 2))
    found = _compared(subject, model, rows, parts, method, room, params, seed)
    known = _known(found.correlation)
    if known < 2:
        raise NotApplicable(_nothing(found, known, len(rows.x), params))
    tables = (
        (attributions.by_answer(subject, rows, found.correlation, "rank correlation", seed),)
        if subject.task.is_classification
        else ()
    )
    return Result(
        metrics=_metrics(found, method, params, _first(params, parts), seed),
        series=(_series(found),),
        tables=tables,
        remarks=(
            attributions.told(subject, rows, parts, method, params),
            *room.remarks,
            *_remarks(found, len(rows.x), known, params),
        ),
    )


def _nothing(found: _Found, known: int, rows: int, params: StabilityParams) -> str:
    """Why too few rows have copies to compare with."""
    if 2 * found.constant > rows * params.copies:
        return (
            f"all parts count the same in the explanations of {found.constant} of {rows * params.copies} copies, so "
            "there is no order to compare: the model's output hardly depends on its inputs; "
            "transparency.attribution_faithfulness shows whether it does"
        )
    return (
        f"only {known} of {rows} rows have a copy with the same answer and an explanation to compare; set a smaller "
        "radius"
    )


def _compared(
    subject: Subject,
    model: Model,
    rows: Rows,
    parts: Parts,
    method: Method,
    room: Room,
    params: StabilityParams,
    seed: int,
) -> _Found:
    """Explanations of rows and copies; methods that draw use the same numbers for a row and all its copies."""
    import numpy as np

    from assessor_checks.transparency import _attributions as attributions
    from assessor_checks.transparency._similarity import spearman

    here = attributions.attribute(model, rows, parts, method, params, seed)
    work = partial(_copied, subject, here, rows, parts, room, params, seed)
    same, correlation, first, sensitivity = map(np.stack, zip(*spread(work, range(params.copies)), strict=True))
    undefined = same & np.isnan(correlation)
    counted = same & ~undefined
    correlation, first = (np.where(counted, each, np.nan) for each in (correlation, first))
    sensitivity = np.where(same, sensitivity, np.nan)
    seeds = None
    if method in STOCHASTIC or params.replacement == "marginal":
        again = attributions.redrawn(subject, rows, params, seed + 1)
        seeds = spearman(here.scores, attributions.attribute(model, again, parts, method, params, seed + 1).scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without a copy that counts stay NaN
        return _Found(
            correlation=np.nanmean(correlation, axis=0),
            worst=np.nanmin(correlation, axis=0),
            first=np.nanmean(first, axis=0),
            sensitivity=np.nanmax(sensitivity, axis=0),
            seeds=seeds,
            changed=int((~same).sum()),
            constant=int(undefined.sum()),
        )


def _copied(
    subject: Subject,
    here: Attributions,
    rows: Rows,
    parts: Parts,
    room: Room,
    params: StabilityParams,
    seed: int,
    copy: int,
) -> tuple[np.ndarray, ...]:
    """Of a noisy copy of every row (n,): whether it gets the same answer, and how its explanation compares."""
    from assessor_checks.transparency import _attributions as attributions
    from assessor_checks.transparency._similarity import shared_first, spearman

    moved = _moved(rows, room, params, seed, copy)
    same = _same(subject, moved, rows)
    model, method = attributions.model_of(subject, params.explained), params.method_for(subject)
    there = attributions.attribute(model, rows._replace(x=moved), parts, method, params, seed)
    progress("noisy copies explained", copy + 1, params.copies)
    shared = shared_first(here.scores, there.scores, _first(params, parts))
    return same, spearman(here.scores, there.scores), shared, _change(here, there)


def _first(params: StabilityParams, parts: Parts) -> int:
    """How many most important parts are compared: of all parts the share would always be 1."""
    return min(params.first, max(1, parts.count // 2))


def _moved(rows: Rows, room: Room, params: StabilityParams, seed: int, copy: int) -> np.ndarray:
    import numpy as np

    rng = np.random.default_rng([seed, 8, copy])
    noise = rng.uniform(-params.radius, params.radius, size=rows.x.shape) * room.scale
    found: np.ndarray = np.clip(rows.x + noise, room.low, room.high).astype(rows.x.dtype)
    return found


def _same(subject: Subject, moved: np.ndarray, rows: Rows) -> np.ndarray:
    """(n,) whether a copy gets the row's answer; always for regression, where any noise changes it a little."""
    import numpy as np

    from assessor_checks.transparency._attributions import answers

    if not subject.task.is_classification:
        return np.ones(len(moved), dtype=bool)
    found: np.ndarray = answers(subject, moved) == rows.classes
    return found


def _change(here: Attributions, there: Attributions) -> np.ndarray:
    """(n,) length of the change of the attributions, as a share of their own length."""
    import numpy as np

    length = np.linalg.norm(here.scores, axis=1)
    moved = np.linalg.norm(there.scores - here.scores, axis=1)
    found: np.ndarray = np.divide(moved, length, out=np.full(len(length), np.nan), where=length > 0)
    return found


def _metrics(found: _Found, method: Method, params: StabilityParams, first: int, seed: int) -> tuple[Metric, ...]:
    from assessor_checks.transparency._attributions import row_metric

    how = f"{method}, noise up to {params.radius:g} standard deviations, {params.copies} copies a row, seed {seed}"
    kept = f"share of the {first} most important parts that stay among them; {how}"
    most = f"greatest change of the attributions as a share of their length, a lower bound by random search; {how}"
    mean, worst = f"Spearman, mean over copies; {how}", f"Spearman, least of the copies; {how}"
    metrics = [
        row_metric("rank_correlation", found.correlation, Better.HIGHER, mean, seed, primary=True),
        row_metric("rank_correlation_worst", found.worst, Better.HIGHER, worst, seed),
        row_metric("first_parts_kept", found.first, Better.HIGHER, kept, seed),
    ]
    if _known(found.sensitivity) > 1:
        metrics.append(row_metric("max_sensitivity", found.sensitivity, Better.LOWER, most, seed))
    if found.seeds is not None and _known(found.seeds) > 1:
        told = f"Spearman between two seeds of the method (and of drawn replacements), the row unchanged; {how}"
        metrics.append(row_metric("seed_rank_correlation", found.seeds, Better.HIGHER, told, seed))
    return tuple(metrics)


def _known(values: np.ndarray) -> int:
    import numpy as np

    return int(np.isfinite(values).sum())


def _series(found: _Found) -> Series:
    import numpy as np

    shares = np.linspace(0, 1, QUANTILES)
    columns = {"share": shares} | {
        name: np.nanquantile(values, shares) for name, values in (("mean", found.correlation), ("worst", found.worst))
    }
    return Series(
        name="correlations",
        title="Rank correlation of each row with its copies, sorted",
        columns={name: tuple(values.tolist()) for name, values in columns.items()},
    )


def _remarks(found: _Found, rows: int, known: int, params: StabilityParams) -> tuple[str, ...]:
    remarks = []
    if found.changed:
        remarks.append(
            f"{found.changed} of {rows * params.copies} copies got another answer than their row and were left out."
        )
    if found.constant:
        remarks.append(f"{found.constant} copies have no order to compare: all parts count the same in an explanation.")
    if known < rows:
        remarks.append(f"{rows - known} of {rows} rows have no copy left and were left out.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Sorted rank correlations of the rows: mean over the copies, and the worst copy."""
    columns = result.series[0].arrays
    for name, style in (("mean", "-"), ("worst", "--")):
        axes.plot(columns["share"], columns[name], style, color="black", label=f"{name} of the copies")
    axes.set_ylim(min(0.0, *columns["worst"]), 1)
    axes.set_xlabel("share of rows")
    axes.set_ylabel("rank correlation with copies")
    axes.legend(frameon=False)


def rows(subject: Subject, params: StabilityParams) -> int:
    """An explanation of every used row and each of its copies, whose answers are asked too."""
    from assessor_checks.transparency._attributions import asked_for

    drawn = params.replacement == "marginal" or params.method_for(subject) in STOCHASTIC
    each = asked_for(subject, params) * (1 + params.copies + drawn) + 1 + params.copies
    return used(subject, "test", params.max_samples) * each


CHECK = Check(info=INFO, params=StabilityParams, measure=measure, plot=plot, rows=rows)
