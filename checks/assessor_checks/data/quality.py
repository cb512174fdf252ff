"""Faults that the data themselves show: missing values and codes for them, copies, conflicting labels, odd columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from assessor.contract import (
    Better,
    Cell,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Number,
    Params,
    Result,
    Subject,
    Table,
    Task,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.data._quality import Column, Look

_SHOWN = 60
_COARSE = 0.01  # share of repeated rows after shuffling from which copies are ordinary
INFO = CheckInfo(
    id="data.quality",
    version="2",
    title="Faults visible in the data",
    measures=(
        "The share of rows that are missing a value, hold an infinite value, a code such as -999 for a missing value "
        "or a value outside its declared range, repeat another row, or have the same inputs as a row with another "
        "label; in the training and in the test data, of which the worse counts. Outliers, constant columns and "
        "small classes are shown without counting them as faults."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Only faults that numbers show are seen: a plausible value can be wrong, and so can a label without a rival.",
        "The data are looked at as the model takes them: what was imputed, dropped or encoded before is not seen.",
        "Codes are suspected when they stand apart and repeat; a code among ordinary values, such as 0, goes unseen. "
        "Name known codes in missing_codes.",
        "An outlier may be the most important row there is; outliers are counted, never called wrong.",
        "Rows may repeat honestly where inputs are coarse; then they are not counted, and the remarks say so.",
        "The interval speaks of the source the rows were drawn from; for the rows at hand the share is exact.",
    ),
    remedy=(
        "Look up the columns and rows in the tables; correct them at the source, declare codes as missing and impute "
        "them the way the system does in use, drop copies before splitting the data, and have conflicting labels "
        "judged again by two people."
    ),
    source=(
        "ISO/IEC 5259-2:2024 (completeness, consistency, uniqueness); Tukey 1977; Iglewicz and Hoaglin 1993 "
        "(outliers); Korn and Graubard 1998, Survey Methodology 24:193 (interval for rows in clumps)"
    ),
    requirements=("RE-R-SC-ME-01",),
)

_Fault = Literal["missing", "infinite", "code", "out_of_range", "duplicate", "conflict"]
_FAULTS: tuple[_Fault, ...] = ("missing", "infinite", "code", "out_of_range", "duplicate", "conflict")
_METHODS: dict[str, str] = {
    "affected": "rows with at least one of the faults that count",
    "missing": "rows with a missing value",
    "infinite": "rows with an infinite value",
    "code": "rows with a value that is, or looks like, a code for a missing one",
    "out_of_range": "rows with a value outside the range declared for its column",
    "duplicate": "rows that repeat an earlier row of their split, label included",
    "conflict": "rows with the same inputs as another row and another label",
    "outlier": "rows with a value more than 3.5 robust standard deviations from its column's median",
}
_INTERVAL = (
    "Clopper-Pearson at the effective number of rows (Korn and Graubard: rows with the same inputs count together), "
    "the lower end simultaneous over the splits"
)


def _ordered(ends: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = ends
    if low is not None and high is not None and low > high:
        raise ValueError(f"the least possible value {low} lies above the greatest {high}")
    return ends


Range = Annotated[tuple[Number | None, Number | None], AfterValidator(_ordered)]


class QualityParams(Params):
    """What the user may set."""

    counted: tuple[_Fault, ...] = Field(default=_FAULTS, min_length=1, description="Faults that affected_share counts")
    missing_codes: tuple[Number, ...] = Field(default=(), description="Values that stand for a missing one, anywhere")
    ranges: Mapping[str, Range] = Field(
        default_factory=dict, description="Least and greatest possible value, by column; null for no end"
    )
    near_constant: float = Field(
        default=0.99, gt=0.5, le=1, description="Share of one value from which a column is called nearly constant"
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: QualityParams, seed: int) -> Result:
    """Shares of rows with faults, the worse split counting, and tables of splits, columns, classes and attributes.

    Args:
        subject: With features.
        params: What counts, known codes and ranges.
        seed: Seed of the shuffling that tells how many copies coarse data have by themselves.

    Returns:
        A share by fault, the least possible error, odd columns; up to four tables.

    Raises:
        NotApplicable: There are no features or no rows, or a range is declared for a column that there is not.
    """
    looks = [_look(subject, name, params, seed) for name in ("train", "test") if name in subject.splits]
    shown = (*_FAULTS[: 3 + bool(params.ranges)], "duplicate", "conflict", "outlier")
    return Result(
        metrics=(
            *(_share(looks, fault, params) for fault in ("affected", *dict.fromkeys(shown))),
            _floor(subject, looks, params, seed),
            *_constant(looks, params),
        ),
        tables=(_by_split(looks), *_by_column(looks), *_by_class(subject), *_by_attribute(subject)),
        remarks=tuple(text for look in looks for text in _remarks(subject, look, params)),
    )


def _look(subject: Subject, name: str, params: QualityParams, seed: int) -> Look:
    import numpy as np

    from assessor_checks.data import _quality
    from assessor_checks.data._representation import numbers

    split = subject.splits[name]
    features = numbers(split)
    names = split.feature_names or tuple(f"#{index}" for index in range(features[0].size))
    table = features.ndim == 2
    if unknown := sorted(set(params.ranges) - set(names if table else ())):
        raise NotApplicable(f"ranges: no column '{unknown[0]}' in the {name} split")
    look = _quality.look(
        features, split.labels, names, codes=params.missing_codes, ranges=params.ranges, seed=seed, split=name
    )
    counted = set(params.counted) - ({"duplicate", "conflict"} if look.chance >= _COARSE else set())
    counted -= set() if subject.task.is_classification else {"conflict"}
    affected = np.any([np.zeros(look.n, dtype=bool), *(look.flags[fault] for fault in sorted(counted))], axis=0)
    return look._replace(flags={"affected": affected, **look.flags})


def _share(looks: list[Look], fault: str, params: QualityParams) -> Metric:
    """Share of rows with the fault in the split where it is larger."""
    from assessor_checks.data._representation import clumped_share, extreme, metric

    def interval(index: int, confidence: float) -> Estimate:
        return clumped_share(looks[index].flags[fault], looks[index].copies.clumps, confidence)

    found = extreme(interval, len(looks), largest=True, confidence=params.confidence)
    n = max(looks, key=lambda look: (float(look.flags[fault].mean()), -look.n)).n
    return metric(
        f"{fault}_share",
        found,
        n,
        f"{_METHODS[fault]}, in the worse split; {_INTERVAL}",
        confidence=params.confidence,
        better=Better.NONE if fault == "outlier" else Better.LOWER,
        primary=fault == "affected",
    )


def _floor(subject: Subject, looks: list[Look], params: QualityParams, seed: int) -> Metric:
    """Least error that the conflicting labels leave to any model, in the split where it is larger."""
    import numpy as np

    from assessor_checks._intervals import Estimate, bootstrap_ratio
    from assessor_checks.data import _quality
    from assessor_checks.data._representation import clumped_share, extreme, metric

    def interval(index: int, confidence: float) -> Estimate:
        clumps = looks[index].copies.clumps
        if subject.task.is_classification:
            return clumped_share(looks[index].copies.minority, clumps, confidence)
        squares = np.bincount(clumps, weights=_quality.least_error(clumps, subject.splits[looks[index].split].labels))
        if squares.sum() <= 0 or len(squares) < 2:
            return Estimate(float(squares.sum()) / len(clumps), -np.inf, np.inf)
        return bootstrap_ratio(squares, np.bincount(clumps), seed, confidence=confidence)

    found = extreme(interval, len(looks), largest=True, confidence=params.confidence)
    at = max(range(len(looks)), key=lambda index: (interval(index, params.confidence).value, -looks[index].n))
    n = looks[at].n
    if subject.task.is_classification:
        method = "share of rows that any function of the inputs gets wrong, since rows with the same inputs disagree"
        return metric(
            "error_floor", found, n, f"{method}, in the worse split; {_INTERVAL}", confidence=params.confidence
        )
    method = (
        "least mean squared error of any function of the inputs, in the worse split; bootstrap over distinct inputs"
    )
    unit = "squared units of the target"
    return metric("error_floor", found, n, method, confidence=params.confidence, unit=unit)


def _constant(looks: list[Look], params: QualityParams) -> list[Metric]:
    """How many columns say nothing, or next to nothing."""
    counts = [sum(_idle(column, params) for column in look.columns) for look in looks if look.columns and look.n > 1]
    if not counts:
        return []
    value = float(max(counts))
    return [
        Metric(
            name="constant_columns",
            value=value,
            low=value,
            high=value,
            unit="columns",
            n=max(look.n for look in looks),
            better=Better.LOWER,
            method=f"columns of which at least {params.near_constant:.3g} of the rows hold one value; exact",
        )
    ]


def _idle(column: Column, params: QualityParams) -> bool:
    return column.top >= params.near_constant or column.kind in {"empty", "constant"}


def _by_split(looks: list[Look]) -> Table:
    faults = ("affected", *_FAULTS, "outlier")
    rows: list[tuple[Cell, ...]] = [
        (look.split, look.n, *(int(look.flags[fault].sum()) for fault in faults)) for look in looks
    ]
    return Table(
        name="splits", title="Rows with a fault, by split", columns=("split", "rows", *faults), rows=tuple(rows)
    )


def _by_column(looks: list[Look]) -> list[Table]:
    """Columns, those with most faults first."""
    rows: list[tuple[Cell, ...]] = []
    for look in looks:
        for name, column in zip(look.names, look.columns, strict=False):
            codes = ", ".join(f"{value:.6g} ({count})" for value, count in column.codes)
            faults = column.missing + column.infinite + sum(count for _, count in column.codes)
            rows.append(
                (
                    faults,
                    look.split,
                    name,
                    column.kind,
                    column.distinct,
                    column.top,
                    column.missing,
                    column.infinite,
                    codes,
                    column.far,
                    column.beyond,
                )
            )
    rows.sort(key=lambda row: -int(row[0] or 0))
    if not rows:
        return []
    columns = (
        *("split", "column", "values", "distinct", "share of the most frequent", "missing", "infinite"),
        *("suspected codes (rows)", "beyond 3.5 robust deviations", "beyond Tukey's fences"),
    )
    title = f"Columns, those with most faults first ({min(_SHOWN, len(rows))} of {len(rows)})"
    return [Table(name="columns", title=title, columns=columns, rows=tuple(row[1:] for row in rows[:_SHOWN]))]


def _by_class(subject: Subject) -> list[Table]:
    import numpy as np

    if not subject.task.is_classification:
        return []
    rows = []
    for name in ("train", "test"):
        if name in subject.splits:
            counts = np.bincount(subject.splits[name].labels, minlength=len(subject.classes))
            rows += [
                (name, *pair, pair[1] / subject.splits[name].n)
                for pair in zip(subject.classes, counts.tolist(), strict=True)
            ]
    rows.sort(key=lambda row: row[2])
    title = f"Classes, the smallest first ({min(_SHOWN, len(rows))} of {len(rows)})"
    return [Table(name="classes", title=title, columns=("split", "class", "rows", "share"), rows=tuple(rows[:_SHOWN]))]


def _by_attribute(subject: Subject) -> list[Table]:
    """What the sensitive attributes miss; other columns may only hold numbers."""
    from assessor_checks.data._quality import written_missing

    rows: list[tuple[Cell, ...]] = []
    for name in ("train", "test"):
        frame = subject.splits[name].attributes if name in subject.splits else None
        if frame is not None:
            rows += [(name, str(attribute), *written_missing(frame[attribute])) for attribute in frame.columns]
    if not rows:
        return []
    columns = ("split", "attribute", "missing", "written as missing", "numbers and texts mixed")
    return [Table(name="attributes", title="Sensitive attributes", columns=columns, rows=tuple(rows))]


def _remarks(subject: Subject, look: Look, params: QualityParams) -> list[str]:
    """What a reader of the numbers of one split must know."""
    from assessor_checks.data._quality import same_columns

    said, names = [], dict(zip(look.names, look.columns, strict=False))
    if not look.columns:
        said.append(f"The inputs of the {look.split} split are no table: their numbers were not looked at one by one.")
    coded = [(name, *code) for name, column in names.items() for code in column.codes]
    said += [
        f"In the {look.split} split '{name}' holds {value:.6g} in {count} rows, which looks like a code for a missing "
        f"value."
        for name, value, count in coded[:5]
    ]
    if len(coded) > 5:
        said.append(f"{len(coded) - 5} more suspected codes of the {look.split} split are in the table of columns.")
    if look.n > 1 and (idle := [name for name, column in names.items() if _idle(column, params)]):
        said.append(f"Constant or nearly constant in the {look.split} split: {_listed(idle)}.")
    features = subject.splits[look.split].features
    if look.columns and features is not None and (same := same_columns(features)):
        listed = _listed([f"{look.names[j]} ({look.names[i]})" for i, j in same])
        said.append(f"Columns of the {look.split} split that equal another in every row: {listed}.")
    if few := [name for name, column in names.items() if column.kind == "few whole numbers"]:
        said.append(
            f"Few whole numbers in the {look.split} split: {_listed(few)}. If they are codes of categories, their "
            f"order and distances mean nothing."
        )
    if look.chance >= _COARSE:
        said.append(
            f"The inputs of the {look.split} split are coarse: {look.chance:.1%} of the rows would repeat another if "
            f"columns were independent, so repeated rows and conflicting labels are shown and not counted as faults."
        )
    if subject.task.is_classification and look.copies.minority.any():
        most = 1 - float(look.copies.minority.mean())
        said.append(
            f"In the {look.split} split {int(look.copies.conflicts.sum())} rows share their inputs with a row of "
            f"another label, so no model can be right in more than {most:.2%} of its rows."
        )
    return said


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) if len(names) <= 10 else f"{', '.join(names[:10])} and {len(names) - 10} more"


def plot(result: Result, axes: Axes) -> None:
    """Share of rows by fault with its interval."""
    shares = [metric for metric in result.metrics if metric.name.endswith("_share")]
    for place, metric in enumerate(shares):
        if metric.low is not None and metric.high is not None:
            axes.plot([metric.low, metric.high], [place, place], color="0.6")
        axes.plot([metric.value], [place], "o", color="black")
    axes.set_yticks(range(len(shares)), [metric.name.removesuffix("_share").replace("_", " ") for metric in shares])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("share of rows in the worse split, with interval")
    axes.set_ylabel("fault")


CHECK = Check(info=INFO, params=QualityParams, measure=measure, plot=plot)
