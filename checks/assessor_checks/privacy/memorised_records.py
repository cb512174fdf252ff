"""Memorised records: training rows kept in the model, answered unlike their surroundings, or given out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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

ENOUGH = 50  # rows of either kind below which a share or an area cannot be judged
SHIFTED = 0.52  # inputs that tell the splits apart better than this by the low end of their interval are a shift
PERMUTATIONS = 2000
LISTED = 10
QUANTILES = 101
LOGIT = "95 % DeLong interval on the logit scale"
INFO = CheckInfo(
    id="privacy.memorised_records",
    version="1",
    title="Training records kept, recognised or given out",
    measures=(
        "Three traces of single training rows. Spikes: whether the model does better on a training row than on the "
        "same row moved a little, compared with test rows. Kept rows: whether the model object holds training rows as "
        "they are. Copies: whether rows that the system made or gave out lie as near to training rows as no test row "
        "does."
    ),
    unit="1",
    needs=frozenset({Need.TRAIN, Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "What is not found may still be memorised: a model can hold records in a coded form, and give out parts of "
        "them that no distance over whole rows notices.",
        "A spike shows that training rows are treated apart, not that an outsider can read them; without a training "
        "row in hand nobody sees its spike.",
        "Rows that are common by nature (few columns, many repeats) are given out without being memorised; the excess "
        "over test rows allows for that, as long as test rows come from the same source as training rows.",
        "Copies are looked for in the rows handed over only; typical outputs show less than outputs that were "
        "provoked.",
        "Pictures that are turned, cropped or moved by more than a pixel, and texts in other words, are not found.",
    ),
    remedy=(
        "Kept rows: take a model that does not store them, or protect its file like the data. Spikes: regularise, drop "
        "repeated rows, train with differential privacy. Copies: remove repeated rows before training, filter outputs "
        "that lie too near to a training row, and measure again with provoked outputs."
    ),
    source=(
        "Own test on each row's surroundings, its drop compared by rank (Mann and Whitney 1947) with permutation "
        "p-value (Phipson and Smyth 2010, arXiv:1603.05766); curvature at training rows: Garg, Ravikumar and Roy 2024, "
        "arXiv:2307.05831; copies against a holdout: Platzer and Reutterer 2021, arXiv:2104.00635; extraction: Carlini "
        "et al. 2021, arXiv:2012.07805, and 2023, arXiv:2301.13188"
    ),
    requirements=("DP-R-PD-ME-07", "DP-R-PD-OA-02"),
)


class MemorisedRecordsParams(Params):
    """Parameters of privacy.memorised_records."""

    jitter: float = Field(
        default=0.05, gt=0, le=1, description="How far rows are moved, in standard deviations of each feature."
    )
    copies: int = Field(default=8, ge=1, le=1000, description="Moved copies of each row.")
    max_rows: int = Field(default=1000, ge=50, le=100_000, description="Training rows, and test rows, moved at most.")
    outputs: Literal["none", "production", "ood"] = Field(
        default="none", description="Split that holds rows the system made or gave out itself, to look for copies in."
    )
    tolerance: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Largest distance of a copy: root mean square difference of the columns in standard deviations "
        "of the training rows; for pictures of the brightness of its pixels after contrast is made equal.",
    )


class _Part(NamedTuple):
    """One of the three traces: its metrics, tables, data to plot and what must be said."""

    metrics: tuple[Metric, ...] = ()
    series: tuple[Series, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    doubt: str | None = None


def measure(subject: Subject, params: MemorisedRecordsParams, seed: int) -> Result:
    """Spikes at training rows, rows kept in the model, and copies among its outputs, as far as each can be looked for.

    Args:
        subject: With training and test rows; at the best with the model itself.
        params: Movement, tolerance, and where outputs are.
        seed: Seed of choice, movements and permutations.

    Returns:
        Metrics of the traces that could be looked for, tables and data to plot.

    Raises:
        NotApplicable: Features are not known as numbers, or none of the traces can be looked for.
    """
    train, test = (_features(subject, name) for name in ("train", "test"))
    parts = []
    if params.outputs != "none":
        parts.append(_copies(train, test, _features(subject, params.outputs), params))
    parts += [_spikes(subject, train, test, params, seed), _kept(subject, train, test)]
    metrics = [metric for part in parts for metric in part.metrics]
    remarks = tuple(remark for part in parts for remark in part.remarks)
    if not metrics:
        raise NotApplicable(" ".join(remarks))
    first = metrics[0].model_copy(update={"primary": True})
    return Result(
        metrics=(first, *metrics[1:]),
        series=tuple(one for part in parts for one in part.series),
        tables=tuple(one for part in parts for one in part.tables),
        remarks=remarks,
        doubt=next((part.doubt for part in parts if part.doubt), None),
    )


def _features(subject: Subject, name: str) -> np.ndarray:
    import numpy as np

    if name not in subject.splits:
        raise NotApplicable(f"needs rows of the {name} split (target.data.{name})")
    found = subject.splits[name].features
    if found is None or found.dtype.kind not in "biuf":
        raise NotApplicable(f"the features of the {name} split are not known as numbers")
    if len(found) < 2:
        raise NotApplicable(f"the {name} split has {len(found)} rows, wanted 2 at the least")
    if bad := int((~np.isfinite(found.reshape(len(found), -1))).any(axis=1).sum()):
        raise NotApplicable(f"features are not finite for {bad} of {len(found)} rows of the {name} split")
    return found


def _spikes(subject: Subject, train: np.ndarray, test: np.ndarray, params: MemorisedRecordsParams, seed: int) -> _Part:
    """Drops at training rows compared with those at test rows that are no copies of training rows."""
    import numpy as np

    from assessor_checks._near_duplicates import shared
    from assessor_checks._selective import auroc
    from assessor_checks.privacy import _memorisation as maths
    from assessor_checks.privacy._membership import inputs_alone

    if Need.QUERY not in subject.offers or (
        subject.task.is_classification and Need.PROBABILITIES not in subject.offers
    ):
        return _Part(remarks=("Spikes were not looked for: that takes the model itself, with probabilities.",))
    move = params.jitter * maths.spread_of(train.reshape(len(train), -1))
    if not move.any():
        return _Part(
            remarks=("Spikes were not looked for: no feature has more than two values, so none can be moved.",)
        )
    fresh = np.setdiff1d(np.arange(len(test)), shared(test, train).first)
    if not len(fresh):
        return _Part(remarks=("Spikes were not looked for: every test row is a copy of a training row.",))
    rng = np.random.default_rng([seed, 0])
    sides = [(name, rows, np.sort(rng.permutation(places)[: params.max_rows])) for name, rows, places in
             (("train", train, np.arange(len(train))), ("test", test, fresh))]  # fmt: skip
    rows = np.concatenate([rows[at] for _, rows, at in sides])
    labels = np.concatenate([np.asarray(subject.splits[name].labels)[at] for name, _, at in sides])
    floating = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
    found = maths.drops(
        subject.query_scores, floating, labels, move, params.copies, rng,
        lambda done: progress("moved copies", done, params.copies),
    )  # fmt: skip
    n = len(sides[0][2])
    own, others = (part[np.isfinite(part)] for part in (found[:n], found[n:]))
    lost = len(found) - len(own) - len(others)
    if not len(own) or not len(others):
        return _Part(remarks=("Spikes were not looked for: the model gives no finite outputs near these rows.",))
    area = auroc(own, others)
    shift = inputs_alone(rows[:n].reshape(n, -1), rows[n:].reshape(len(rows) - n, -1), seed)
    return _Part(
        metrics=_spike_metrics(own, others, area, params, seed),
        series=(_drop_quantiles(own, others),),
        remarks=(f"{lost} rows were left out, as the model gives no finite outputs near them.",) if lost else (),
        doubt=_doubt(len(own), len(others), area, shift),
    )


def _spike_metrics(
    own: np.ndarray, others: np.ndarray, area: Estimate, params: MemorisedRecordsParams, seed: int
) -> tuple[Metric, ...]:
    from assessor_checks.privacy._memorisation import rank_p_value

    how = (
        f"chance that the model falls off more around a training row than around a test row, over {params.copies} "
        f"copies moved by {params.jitter:g} standard deviations; 0.5 is no difference; {LOGIT}"
    )
    p = rank_p_value(own, others, seed, PERMUTATIONS)
    test = f"permutation test of the ranks, {PERMUTATIONS} divisions; small means that training rows stand out"
    return (
        _metric("spike_auc", area, len(own), how),
        Metric(name="spike_p_value", value=p, n=len(own), better=Better.HIGHER, method=test),
    )


def _doubt(own: int, others: int, area: Estimate, shift: Estimate) -> str | None:
    if min(own, others) < ENOUGH:
        return f"{own} training rows and {others} test rows are too few to compare; {ENOUGH} of each are needed."
    if shift.low > SHIFTED and area.low <= shift.high:
        return (
            f"Training and test rows differ: without the model a classifier of the inputs tells them apart with an "
            f"area of {shift.value:.3g}, so that their surroundings may differ too."
        )
    return None


def _drop_quantiles(own: np.ndarray, others: np.ndarray) -> Series:
    import numpy as np

    shares = np.linspace(0, 1, QUANTILES)
    columns = {name: np.quantile(part, shares) for name, part in (("train", own), ("test", others))}
    title = "How much the model falls off around a row, sorted"
    return Series(
        name="drops",
        title=title,
        columns={"share": tuple(shares.tolist()), **{name: tuple(x.tolist()) for name, x in columns.items()}},
    )


def _kept(subject: Subject, train: np.ndarray, test: np.ndarray) -> _Part:
    """Training rows inside the model object, and how many test rows are there, which only chance can put there."""
    from assessor_checks._near_duplicates import shared
    from assessor_checks.privacy._memorisation import held

    model = _model(subject)
    if model is None:
        return _Part(remarks=("Kept rows were not looked for: the model object is not at hand.",))
    found = held(model, train)
    chance = held(model, test)
    copied = len(set(shared(test, train).first.tolist()))
    n, count = len(train), int(found.rows.sum())
    metric = Metric(
        name="kept_share", value=count / n, low=count / n, high=count / n, confidence=0.95, n=n, better=Better.LOWER,
        method="share of training rows that are in the model bit by bit (single precision); counted, so its ends are "
        "the value",
    )  # fmt: skip
    remarks = []
    if found.where:
        places = ", ".join(found.where[:3])
        remarks.append(f"{count} of {n} training rows lie in the model as they are, in {places}.")
    if (by_chance := int(chance.rows.sum())) > copied:
        remarks.append(
            f"{by_chance} of {len(test)} test rows lie there too, {copied} of them copies of training rows: rows that "
            "are that common are found by chance."
        )
    return _Part(metrics=(metric,), remarks=tuple(remarks))


def _model(subject: Subject) -> Any:
    """The model as an object that can be searched: a module's tensors by name, or an estimator."""
    if Need.GRADIENTS in subject.offers:
        state = subject.module.state_dict()
        return {name: value.detach().cpu().double().numpy() for name, value in state.items()}
    return getattr(subject, "estimator", getattr(subject, "_estimator", None))


def _copies(train: np.ndarray, test: np.ndarray, outputs: np.ndarray, params: MemorisedRecordsParams) -> _Part:
    """Near duplicates of training rows among the outputs, compared with those among test rows."""
    import numpy as np

    from assessor_checks._intervals import Estimate, wilson
    from assessor_checks._selective import auroc
    from assessor_checks.privacy._memorisation import closest

    if outputs.shape[1:] != train.shape[1:]:
        raise NotApplicable(f"rows of the {params.outputs} split have another shape than training rows")
    if train.ndim > 2 and train.ndim not in {3, 4}:
        train, test, outputs = (rows.reshape(len(rows), -1) for rows in (train, test, outputs))
    made, real = (closest(rows, train, params.tolerance) for rows in (outputs, test))
    hits = [int((part.distance <= params.tolerance).sum()) for part in (made, real)]
    share, base = wilson(hits[0], len(outputs)), wilson(hits[1], len(test))
    value = share.value - base.value
    excess = Estimate(
        value,
        value - float(np.hypot(share.value - share.low, base.high - base.value)),
        value + float(np.hypot(share.high - share.value, base.value - base.low)),
    )
    near = f"within {params.tolerance:g} of a training row"
    metrics = [
        _metric("excess_copied_share", excess, len(outputs), f"share of rows made by the system {near} minus that of "
                "test rows; 95 % Newcombe interval"),
        _metric("copied_share", share, len(outputs), f"share of rows made by the system {near}; 95 % Wilson interval"),
    ]  # fmt: skip
    if train.ndim == 2:
        how = "chance that a row made by the system lies nearer to its nearest training row than a test row to its; 0.5"
        area = auroc(real.distance, made.distance)
        metrics.append(_metric("closeness_auc", area, len(outputs), f"{how} is no difference; {LOGIT}"))
    first = np.argsort(made.distance, kind="stable")[:LISTED]
    cells = tuple((int(i), int(made.row[i]), float(made.distance[i])) for i in first if np.isfinite(made.distance[i]))
    columns = ("row made, from 0", "training row, from 0", "distance")
    few = min(len(outputs), len(test)) < ENOUGH
    return _Part(
        metrics=tuple(metrics),
        tables=(
            Table(name="closest", title="Rows made that are nearest to training rows", columns=columns, rows=cells),
        ),
        remarks=(f"{hits[1]} of {len(test)} test rows lie {params.tolerance:g} or less from a training row.",),
        doubt=f"{len(outputs)} rows made and {len(test)} test rows are too few; {ENOUGH} of each are needed."
        if few
        else None,
    )


def _metric(name: str, found: Estimate, n: int, method: str) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name, value=found.value, low=found.low, high=found.high, confidence=CONFIDENCE, n=n, better=Better.LOWER,
        method=method,
    )  # fmt: skip


def plot(result: Result, axes: Axes) -> None:
    """Sorted drops around training and test rows; apart means that the model knows its training rows."""
    if not result.series:
        axes.set_axis_off()
        return
    columns = result.series[0].columns
    for name, style in (("train", "-"), ("test", "--")):
        x, y = ([float(cell or 0.0) for cell in columns[column]] for column in ("share", name))
        axes.plot(x, y, style, color="black", label=f"{name} rows")
    if max(abs(end) for end in axes.get_ylim()) > 1:
        axes.set_yscale("symlog", linthresh=0.1)
    axes.set_xlabel("share of rows")
    axes.set_ylabel("fall of the log odds (or log error) around a row")
    axes.legend(frameon=False)


def rows(subject: Subject, params: MemorisedRecordsParams) -> int:
    """Every used row of both splits, and its moved copies."""
    return (1 + params.copies) * sum(used(subject, name, params.max_rows) for name in ("train", "test"))


CHECK = Check(info=INFO, params=MemorisedRecordsParams, measure=measure, plot=plot, rows=rows)
