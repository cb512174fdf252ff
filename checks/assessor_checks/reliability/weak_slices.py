"""Are there groups of inputs on which the model is clearly worse, searched for in one half and tested in the other?"""

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
    Subject,
    Table,
    Task,
    Weakness,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    from assessor_checks.reliability._halves import Candidate, Search

SHARES = (0.05, 0.1, 0.2, 0.5)  # of the rows, for which the detectable excess is stated
LEVEL = 0.05  # a group is confirmed where its p-value after Holm is at most this
_SHOWN = 15
INFO = CheckInfo(
    id="reliability.weak_slices",
    version="1",
    title="Weak groups of inputs",
    measures=(
        "Groups of rows, told by up to three conditions on features and attributes (such as 'age > 60 and site = B'), "
        "in which the model errs more than elsewhere. They are searched for in one half of the test rows and tested "
        "in the other half, both ways. The value is the largest excess of the error among the groups tested."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Only groups told by the columns at hand are searched; weaknesses that no column shows stay hidden.",
        "Finding none proves nothing: excesses below the detectable size stated here go unseen, above all in small "
        "groups, since each half has only half of the rows.",
        "Numbers are cut at their quantiles; a weak range within a bin is diluted by the rest of it.",
        "A weak group may be hard for everybody, or its labels may be wrong; the excess says nothing of the cause.",
        "The value is the largest of several differences and so tends to exceed the true one; the lower end of the "
        "interval allows for it. The upper end speaks of the groups tested, not of all that were searched.",
    ),
    remedy=(
        "Look at the errors in each confirmed group: check its labels, collect more training data of that kind, add a "
        "feature that separates them, or exclude the group from use; then search again on fresh test data."
    ),
    source=(
        "Chung, Kraska, Polyzotis, Tae, Whang 2019, arXiv 1807.06068 (search over conjunctions); Cox 1975, "
        "Biometrika 62:441 (testing in the half of the data that was not searched); Fisher's exact test or permutation "
        "test; Holm 1979; Newcombe 1998, Stat. Med. 17:873; Berger 1982, Technometrics 24:295"
    ),
    requirements=("RE-R-SC-ME-04", "RE-R-SC-ME-05"),
)


class WeakSlicesParams(Params):
    """What the user may set."""

    loss: Literal["error", "log_loss", "absolute_error", "squared_error"] | None = Field(
        default=None, description="What is compared; by default error, for a regression absolute_error."
    )
    columns: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Features and attributes that groups are made of; all when not given."
    )
    depth: int = Field(default=2, ge=1, le=3, description="Most conditions that a group is told by.")
    bins: int = Field(default=4, ge=2, le=20, description="Quantile bins of a number with more than ten values.")
    minimum_rows: int = Field(default=20, ge=5, description="Fewest rows of a group in each half.")
    candidates: int = Field(default=10, ge=1, le=100, description="Groups that each half puts to the test.")
    permutations: int = Field(
        default=9999, ge=999, le=1_000_000, description="Permutations behind a p-value of losses other than the error."
    )


def measure(subject: Subject, params: WeakSlicesParams, seed: int) -> Result:
    """The largest excess, how many groups are confirmed, and all that were tested.

    Args:
        subject: Any subject whose test rows have columns.
        params: Loss, columns, how groups are made.
        seed: Seed of the split into halves and of the permutations.

    Returns:
        Metrics, the tested groups and the detectable excess.

    Raises:
        NotApplicable: There are no columns, or too few rows for any group, or the loss does not fit the task.
    """
    import numpy as np

    loss = _loss_name(subject, params)
    losses = _losses(subject, loss)
    if len(losses) < (fewest := 4 * params.minimum_rows):
        raise NotApplicable(
            f"{len(losses)} test rows are too few, wanted at least {fewest}: a group and the rest need "
            f"{params.minimum_rows} rows each in both halves"
        )
    table, remarks = _columns(subject, params)
    if loss == "error" and np.ptp(losses) == 0.0:
        return _without_difference(losses, params)
    search = _search(table, losses, params, seed)
    if not search.found:
        raise NotApplicable(
            f"no group has at least {params.minimum_rows} rows inside and outside in each half of {len(losses)} rows "
            "and a worse mean loss than the rest; give more rows or set minimum_rows lower"
        )
    confirmed = [one for one in search.found if one.p_holm <= LEVEL]
    if search.conditions.skipped:
        remarks += (f"Not cut into groups, too many different values: {', '.join(search.conditions.skipped)}.",)
    return Result(
        metrics=_metrics(search, losses, confirmed, loss),
        tables=(_slices_table(search), _power_table(search, loss, params.minimum_rows)),
        remarks=(*remarks, *_remarks(search, len(losses), confirmed)),
    )


def _search(table: pd.DataFrame, losses: np.ndarray, params: WeakSlicesParams, seed: int) -> Search:
    from assessor_checks.reliability import _halves

    return _halves.both_ways(
        table,
        losses,
        seed,
        depth=params.depth,
        bins=params.bins,
        least=params.minimum_rows,
        most=params.candidates,
        permutations=params.permutations,
    )


def _loss_name(subject: Subject, params: WeakSlicesParams) -> str:
    classifies = subject.task.is_classification
    loss = params.loss or ("error" if classifies else "absolute_error")
    if classifies is not (loss in {"error", "log_loss"}):
        raise NotApplicable(f"the loss {loss} does not go with a {subject.task} task")
    if loss == "log_loss" and Need.PROBABILITIES not in subject.offers:
        raise NotApplicable("log_loss needs class probabilities, which the subject does not give; use the loss error")
    return loss


def _losses(subject: Subject, loss: str) -> np.ndarray:
    """(n,) loss of every test row."""
    import numpy as np

    labels, predictions = subject.splits["test"].labels, subject.predictions("test")
    if not len(labels):
        raise NotApplicable("the test split has no rows")
    if loss == "error":
        return np.asarray(predictions != labels, dtype=np.float64)
    if loss == "log_loss":
        true = subject.scores("test")[np.arange(len(labels)), labels]
        found = -np.log(np.maximum(true, np.finfo(np.float64).tiny))
    else:
        found = np.abs(predictions - labels) if loss == "absolute_error" else (predictions - labels) ** 2
    if bad := int((~np.isfinite(found)).sum()):
        raise NotApplicable(f"the loss is not finite for {bad} of {len(found)} rows of the test split")
    return np.asarray(found, dtype=np.float64)


def _columns(subject: Subject, params: WeakSlicesParams) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Features and attributes of the test rows as one table."""
    from assessor_checks.reliability import _columns

    split = subject.splits["test"]
    table = _columns.table_of(split)
    if table is None:
        raise NotApplicable(
            "there are no columns to tell groups by: the inputs are no table, and no attributes were named; give what "
            "is known of each row (target.data.test sensitive: [...])"
        )
    remarks: tuple[str, ...] = ()
    if split.features is not None and split.features.ndim != 2:
        remarks = ("The inputs are no table, so groups are told by the attributes alone.",)
    if params.columns is None:
        return table, remarks
    _columns.refuse_unknown("columns", params.columns, table)
    return table[list(dict.fromkeys(params.columns))], remarks


def _metrics(search: Search, losses: np.ndarray, confirmed: list[Candidate], loss: str) -> tuple[Metric, ...]:
    from assessor_checks._intervals import CONFIDENCE
    from assessor_checks.reliability._halves import worst

    n, tests = len(losses), len(search.found)
    gap = worst(search.found)
    test = "Fisher's exact test" if loss == "error" else "permutation test"
    limits = "Newcombe limits from Clopper-Pearson" if loss == "error" else "Welch limits"
    return (
        Metric(
            name="worst_slice_gap", value=gap.value, low=gap.low, high=gap.high, confidence=CONFIDENCE, n=n,
            unit=_unit(loss), better=Better.LOWER, primary=True,
            method=f"largest of {tests} differences of the mean {loss} inside and outside a group, each in the half "
            f"that did not pick it; {limits}, the lower end for all groups together, the upper one for each by itself",
        ),
        Metric(
            name="weak_slices", value=len(confirmed), low=len(confirmed), high=tests, confidence=CONFIDENCE, n=n,
            unit="groups", better=Better.LOWER,
            method=f"groups with a p-value of at most {LEVEL} after Holm ({test}, one-sided) out of {tests} tested: at "
            "least so many are worse; the upper end is the number tested, since no test proves a group good",
        ),
        Metric(
            name="smallest_p_value", value=min(one.p_holm for one in search.found), n=n, better=Better.HIGHER,
            method=f"{test} of the held-out half, after Holm, doubled for two halves; a large value proves nothing",
        ),
        _overall(losses, loss),
    )  # fmt: skip


def _overall(losses: np.ndarray, loss: str) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, bootstrap_mean, clopper_pearson

    n = len(losses)
    exact = loss == "error"
    value, low, high = clopper_pearson(int(losses.sum()), n) if exact else bootstrap_mean(losses, 0)
    return Metric(
        name="mean_loss", value=value, low=low, high=high, confidence=CONFIDENCE, n=n, unit=_unit(loss),
        better=Better.LOWER, method=f"mean {loss} of all rows; 95 % {'Clopper-Pearson' if exact else 'BCa bootstrap'}",
    )  # fmt: skip


def _unit(loss: str) -> str:
    units = {"error": "1", "log_loss": "nats", "absolute_error": "units of the target"}
    return units.get(loss, "squared units of the target")


def _without_difference(losses: np.ndarray, params: WeakSlicesParams) -> Result:
    """All rows are right, or all wrong: no group differs, and how much an unseen row may differ."""
    from assessor_checks._intervals import CONFIDENCE, clopper_pearson

    least = params.minimum_rows
    high = clopper_pearson(0, least).high
    gap = Metric(
        name="worst_slice_gap", value=0.0, low=0.0, high=high, confidence=CONFIDENCE, n=len(losses),
        better=Better.LOWER, primary=True,
        method=f"no differences; the upper end is that of Clopper-Pearson for a group of {least} rows without an error",
    )  # fmt: skip
    remark = f"All {len(losses)} rows are answered rightly, so no group is worse than another."
    if losses.any():
        remark = f"All {len(losses)} rows are answered wrongly, so no group is worse than another."
    return Result(metrics=(gap, _overall(losses, "error")), remarks=(remark,))


def _slices_table(search: Search) -> Table:
    names = search.conditions.names
    rows = [
        (
            " and ".join(names[part].text for part in one.parts),
            int(search.conditions.members[:, one.parts].all(axis=1).sum()),
            one.rows,
            one.inside,
            one.outside,
            one.gap,
            one.low,
            one.high,
            one.p_value,
            one.p_holm,
            one.p_holm <= LEVEL,
        )
        for one in search.found
    ]
    columns = ("group", "rows in all", "rows tested", "inside", "outside", "excess", "low", "high", "p_value", "p_holm",
               "confirmed")  # fmt: skip
    title = "Groups put to the test, in the half of the rows that did not pick them, the clearest first"
    return Table(name="slices", title=title, columns=columns, rows=tuple(rows))


def _power_table(search: Search, loss: str, least: int) -> Table:
    from assessor_checks.reliability._halves import detectable

    held, tests = search.held, len(search.found)
    sizes = [(share, round(share * len(held))) for share in SHARES]
    rows = tuple((share, size, detectable(held, share, tests)) for share, size in sizes if size >= least)
    title = f"Excess of the mean {loss} that the test finds with 80 %, by size of the group"
    return Table(name="power", title=title, columns=("share of rows", "rows tested", "detectable excess"), rows=rows)


def _remarks(search: Search, n: int, confirmed: list[Candidate]) -> tuple[str, ...]:
    from assessor_checks.reliability._halves import detectable

    tests = len(search.found)
    least = detectable(search.held, 0.1, tests)
    found = [
        f"{search.searched} groups of {len(search.conditions.names)} conditions were searched in each half of {n} "
        f"rows; {tests} were tested in the other half, {len(confirmed)} of them confirmed.",
        f"In a group of a tenth of the rows an excess of {least:.3g} would be found with 80 %; smaller ones may go "
        "unseen.",
    ]
    if confirmed:
        one = confirmed[0]
        words = " and ".join(search.conditions.names[part].text for part in one.parts)
        found.append(
            f"Clearest weak group: {words}. Its mean loss is {one.inside:.3g}, that of the other rows "
            f"{one.outside:.3g}."
        )
    return tuple(found)


def plot(result: Result, axes: Axes) -> None:
    """Excess of each tested group with its limits; filled where it is confirmed."""
    table = next((table for table in result.tables if table.name == "slices"), None)
    rows = [] if table is None else [dict(zip(table.columns, row, strict=True)) for row in table.rows[:_SHOWN]]
    for place, row in enumerate(rows):
        low, gap, high = (float(row[name]) for name in ("low", "excess", "high"))  # type: ignore[arg-type]
        axes.plot([low, high], [place, place], "-", color="0.5", linewidth=1)
        axes.plot([gap], [place], "o", color="black", markerfacecolor="black" if row["confirmed"] else "white")
    axes.axvline(0, linestyle="--", color="0.6", linewidth=1)
    axes.set_yticks(range(len(rows)), [str(row["group"]) for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("excess of the mean loss over the other rows")
    axes.set_ylabel("group")


def weakness(subject: Subject, params: WeakSlicesParams, seed: int) -> Weakness:
    """The clearest group, as conditions on its columns.

    Args:
        subject: What was measured.
        params: As it was measured.
        seed: As it was measured.

    Returns:
        The group.

    Raises:
        NotApplicable: No group was tested.
    """
    loss = _loss_name(subject, params)
    search = _search(_columns(subject, params)[0], _losses(subject, loss), params, seed)
    if not search.found:
        raise NotApplicable("no group was found, so there is none to freeze")
    worst = search.found[0]
    where = tuple(search.conditions.names[part].rule for part in worst.parts)
    group = " and ".join(rule.told for rule in where)
    told = f"{group}: mean {loss} {worst.inside:.3g} inside and {worst.outside:.3g} outside, p = {worst.p_holm:.2g}"
    return Weakness(told=told, where=where)


CHECK = Check(info=INFO, params=WeakSlicesParams, measure=measure, plot=plot, weakness=weakness, rows=of_test)
