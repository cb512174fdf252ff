"""Do the data cover the domain: the values of its features, their combinations, and nothing outside it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Cell,
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
from assessor_checks.reliability._domain import Range, Values

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.reliability._coverage import Combination, Feature

GAPS = 30  # empty regions that are named
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # rows per combination, for the curve
_KINDS = {1: "value", 2: "pair", 3: "triple"}
_EXACT = "exact count: a fact of these rows"
INFO = CheckInfo(
    id="reliability.domain_coverage",
    version="1",
    title="Coverage of the application domain",
    measures=(
        "The share of the domain's regions that the test rows show: each feature's range is cut into a few cells, and "
        "all pairs of cells (or single cells, or triples) are counted. Beside it the share of rows outside the domain, "
        "and how likely the next row shows a combination that no row has shown yet."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Only features that are recorded count; what makes situations different and is in no column is not covered by "
        "a full count.",
        "A region counts as covered from the number of rows that minimum_rows names, whatever they look like; it says "
        "nothing of how well the model does there.",
        "Without a declared domain the training data stand for it, so what they lack is not missed.",
        "Combinations that cannot occur count as gaps unless they are named under impossible.",
        "The estimate of what the next row may show takes rows as independent draws from the field of use.",
    ),
    remedy=(
        "Collect or record cases for the gaps named in the table, those first that occur in the training data or are "
        "likely in the field; name combinations that cannot occur; exclude from use what stays without cases."
    ),
    source=(
        "Kuhn, Kacker, Lei 2012, NISTIR 7878, doi 10.6028/NIST.IR.7878 (t-way coverage); Good 1953, Biometrika 40:237 "
        "and Esty 1983, Ann. Statist. 11:905 (probability of the unseen); Clopper and Pearson 1934"
    ),
    requirements=("RE-R-SC-ME-02", "RE-R-SC-ME-05", "RE-R-SC-OA"),
)


class DomainCoverageParams(Params):
    """What the user may set."""

    domain: Mapping[str, Range | Values] | None = Field(
        default=None,
        min_length=1,
        description="The domain by column: {age: {low: 18, high: 90}, site: {values: [A, B]}}; the training data's "
        "values when not given.",
    )
    columns: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Columns that count; those of the domain, or all, when not given."
    )
    strength: int = Field(default=2, ge=1, le=3, description="Features in a combination: 1 single values, 2 pairs.")
    bins: int = Field(default=4, ge=2, le=50, description="Cells of a number.")
    minimum_rows: int = Field(default=1, ge=1, description="Rows from which a combination counts as covered.")
    impossible: tuple[Mapping[str, str | float], ...] = Field(
        default=(), description="Combinations that cannot occur: [{material: aluminium, light: dim}]."
    )
    split: Literal["test", "train"] = Field(default="test", description="The data whose coverage is measured.")


class _Counted(NamedTuple):
    features: list[Feature]
    codes: np.ndarray
    by_strength: dict[int, list[Combination]]
    remarks: tuple[str, ...]


def measure(subject: Subject, params: DomainCoverageParams, seed: int) -> Result:
    """Coverage of combinations, rows outside the domain, and what is still to come.

    Args:
        subject: Its rows have columns.
        params: Domain and how it is cut.
        seed: Not used; nothing is drawn.

    Returns:
        Metrics, the curve over the rows required, and tables of features and of gaps.

    Raises:
        NotApplicable: There are no columns, no domain, or a name or value is unknown.
    """
    from assessor_checks.reliability import _coverage

    counted = _counted(subject, params)
    found = counted.by_strength[params.strength]
    metrics = [
        _exact(f"{_KINDS[strength]}_coverage", *_coverage.covered(one, params.minimum_rows),
               f"share of the domain's {_KINDS[strength]}s with at least {params.minimum_rows} rows; {_EXACT}",
               primary=strength == params.strength)
        for strength, one in sorted(counted.by_strength.items(), reverse=True)
    ]  # fmt: skip
    metrics += _chances(counted, found, params)
    if found[0].others is not None and params.split != "train":
        metrics.append(
            _exact("train_coverage", *_coverage.covered_of_others(found, params.minimum_rows),
                   f"share of the {_KINDS[params.strength]}s in the training data that the test rows show; {_EXACT}")
        )  # fmt: skip
    curve = [(rows, covered / total) for rows in ROWS for covered, total in [_coverage.covered(found, rows)]]
    columns = {"rows": tuple(float(rows) for rows, _ in curve), "coverage": tuple(share for _, share in curve)}
    return Result(
        metrics=tuple(metrics),
        series=(Series(name="curve", title="Coverage by the rows a combination needs", columns=columns),),
        tables=(_features_table(counted, params), _gaps_table(counted, params)),
        remarks=(*counted.remarks, *_remarks(counted, params)),
    )


def _counted(subject: Subject, params: DomainCoverageParams) -> _Counted:
    """Cells of all rows and counts of their combinations."""
    import math

    import numpy as np

    from assessor_checks.reliability import _columns, _coverage, _domain

    if params.split not in subject.splits:
        raise NotApplicable(f"there is no {params.split} split (target.data.{params.split})")
    table = _columns.table_of(subject.splits[params.split])
    train = subject.splits.get("train")
    known = None if train is None else _columns.table_of(train)
    if table is None:
        raise NotApplicable(
            "there are no columns to tell regions by: the inputs are no table, and no attributes were named; give what "
            "is known of each row (target.data.test sensitive: [...])"
        )
    if not len(table):
        raise NotApplicable(f"the {params.split} split has no rows")
    features, remarks = _domain.features_of(params.domain, params.columns, params.bins, table, known)
    if len(features) < params.strength:
        raise NotApplicable(
            f"{len(features)} columns have a domain, wanted at least {params.strength} for {_KINDS[params.strength]}s; "
            "declare them in domain, or name more columns that vary in the training data"
        )
    if (sets := math.comb(len(features), params.strength)) > _coverage.MOST:
        raise NotApplicable(f"{sets} sets of {params.strength} columns are too many; name those that matter in columns")
    codes = np.stack([feature.codes(table[feature.name]) for feature in features], axis=1)
    others = None
    if known is not None and all(feature.name in known.columns for feature in features):
        others = np.stack([feature.codes(known[feature.name]) for feature in features], axis=1)
    ruled = [_domain.ruled_out(one, features) for one in params.impossible]
    by_strength = {
        strength: _coverage.combinations(
            [len(feature.cells) for feature in features], codes, strength, impossible=ruled, others=others
        )
        for strength in range(1, params.strength + 1)
    }
    return _Counted(features, codes, by_strength, tuple(remarks))


def _exact(name: str, part: int, total: int, method: str, *, primary: bool = False) -> Metric:
    """A share of a finite count, whose interval is the value: nothing is sampled."""
    value = part / total if total else 0.0
    return Metric(
        name=name, value=value, low=value, high=value, n=total, better=Better.HIGHER, method=method, primary=primary
    )


def _chances(counted: _Counted, found: list[Combination], params: DomainCoverageParams) -> list[Metric]:
    """Rows outside the domain, and the probability that the next row shows something new."""
    from assessor_checks._intervals import CONFIDENCE, clopper_pearson
    from assessor_checks.reliability import _coverage

    n = len(counted.codes)
    away = clopper_pearson(int((counted.codes == _coverage.OUTSIDE).any(axis=1).sum()), n)
    new = _coverage.unseen(found, counted.codes)
    return [
        Metric(
            name="outside_share", value=away.value, low=away.low, high=away.high, confidence=CONFIDENCE, n=n,
            better=Better.LOWER, method="share of rows with values missing or outside the domain; 95 % Clopper-Pearson",
        ),
        Metric(
            name="unseen_share", value=new.estimate.value, low=new.estimate.low, high=new.estimate.high,
            confidence=CONFIDENCE, n=n, better=Better.LOWER,
            method=f"probability that the next row shows a {_KINDS[params.strength]} of the domain that no row shows: "
            f"share of rows with one of their own (Good-Turing, leaving rows out), {new.alone} rows; 95 % by a normal "
            "limit as Esty's",
        ),
    ]  # fmt: skip


def _features_table(counted: _Counted, params: DomainCoverageParams) -> Table:
    from assessor_checks.reliability import _coverage

    rows: list[tuple[Cell, ...]] = []
    for place, (feature, one) in enumerate(zip(counted.features, counted.by_strength[1], strict=True)):
        least = int(one.rows.argmin())
        outside = int((counted.codes[:, place] == _coverage.OUTSIDE).sum())
        enough = int((one.rows >= params.minimum_rows).sum())
        rows.append((feature.name, len(feature.cells), enough, outside, feature.cells[least], int(one.rows[least])))
    columns = ("feature", "cells", "covered", "rows outside", "emptiest cell", "rows in it")
    return Table(name="features", title="Each feature by itself", columns=columns, rows=tuple(rows))


def _gaps_table(counted: _Counted, params: DomainCoverageParams) -> Table:
    from assessor_checks.reliability import _coverage

    found = _coverage.gaps(counted.by_strength[params.strength], counted.codes, params.minimum_rows, GAPS)
    rows = tuple(
        (
            ", ".join(
                f"{counted.features[feature].name}: {counted.features[feature].cells[cell]}"
                for feature, cell in zip(gap.features, gap.cells, strict=True)
            ),
            gap.rows,
            gap.others,
            round(gap.expected, 2),
        )
        for gap in found
    )
    columns = ("region", "rows", "rows in training", "rows if independent")
    title = (
        f"Regions with fewer than {params.minimum_rows} rows, those first that the training data show (at most {GAPS})"
    )
    return Table(name="gaps", title=title, columns=columns, rows=rows)


def _remarks(counted: _Counted, params: DomainCoverageParams) -> tuple[str, ...]:
    from assessor_checks.reliability import _coverage

    found = counted.by_strength[params.strength]
    part, total = _coverage.covered(found, params.minimum_rows)
    rows, missing = len(counted.codes), total - part
    remarks = [
        f"{rows} rows of the {params.split} split, {len(counted.features)} features, {total} combinations of "
        f"{params.strength}; {missing} of them have fewer than {params.minimum_rows} rows."
        if params.minimum_rows > 1
        else f"{rows} rows of the {params.split} split, {len(counted.features)} features, {total} combinations of "
        f"{params.strength}; {missing} of them have no row."
    ]
    ruled = sum(int((~one.possible).sum()) for one in found)
    if params.impossible:
        there = sum(int(one.rows[~one.possible].sum()) for one in found)
        remarks.append(f"{ruled} combinations do not count, since they are named as impossible.")
        if there:
            remarks.append(f"Combinations named as impossible occur {there} times in the data; look at them again.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Coverage by the number of rows that a combination needs."""
    columns = result.series[0].arrays
    axes.plot(columns["rows"], columns["coverage"], "o-", color="black")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("rows a combination needs to count")
    axes.set_ylabel("share of combinations covered")


CHECK = Check(info=INFO, params=DomainCoverageParams, measure=measure, plot=plot)
