"""Is the model still bad at what an earlier one was found to be bad at?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from assessor.contract import (
    REGRESSION_CHECK,
    Better,
    Check,
    CheckInfo,
    Condition,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Subject,
    Table,
    Task,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.reliability._frozen import Measured

INFO = CheckInfo(
    id=REGRESSION_CHECK,
    version="1",
    title="Weaknesses that were found before",
    measures=(
        "How the model does on every weakness that 'assessor check freeze' kept: the error in a weak group of the test "
        "rows, the difference of a rate between a group and all others, or the error on kept inputs that an earlier "
        "model got wrong. The value is the worst of them."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Only what was frozen is looked at; a model may have learnt these cases and fail on others of the same kind.",
        "Kept adversarial inputs were made against an earlier model; to withstand them shows no robustness.",
        "Kept inputs are a sample of nothing: the number holds for these very inputs and has no sampling error.",
        "Where frozen inputs took part in the training, a good value shows no more than that they were learnt.",
    ),
    remedy=(
        "Look at the worst case in the table: collect training data of that kind, correct labels, or exclude it from "
        "use. Do not train on the frozen inputs themselves; freeze others of the same kind where that was done."
    ),
    source=(
        "Regression testing of models: Ribeiro, Wu, Guestrin, Singh 2020, arXiv 2005.04118; intervals: Clopper and "
        "Pearson 1934, Efron 1987, Newcombe 1998 (Stat. Med. 17:873, method 10); the worst of several: Berger 1982"
    ),
    requirements=("RE-R-SC-ME-04",),
)

_SHOWN = 20
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]


class FrozenCase(Params):
    """One weakness."""

    told: str = Field(description="What it is, in one sentence.")
    where: tuple[Condition, ...] = Field(default=(), description="Conditions that tell a group of test rows.")
    compared: Literal["selection_rate", "true_positive_rate", "false_positive_rate", "accuracy"] | None = Field(
        default=None, description="Rate of the group that is held against all other rows."
    )
    positive: str | None = Field(default=None, description="Class that is the favourable decision.")
    inputs: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 of a file of inputs in frozen/."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> FrozenCase:
        if bool(self.where) == (self.inputs is not None):
            raise ValueError("wanted one of where and inputs")
        if self.compared is not None and self.inputs is not None:
            raise ValueError("compared: goes with where, found inputs")
        return self


class FrozenWeaknessParams(Params):
    """Parameters of reliability.frozen_weakness."""

    cases: Mapping[Name, FrozenCase] = Field(
        default_factory=dict, max_length=1000, description="Weaknesses by name; assessor check freeze adds one."
    )


def measure(subject: Subject, params: FrozenWeaknessParams, seed: int) -> Result:
    """The worst of all frozen cases, and each.

    Args:
        subject: Any subject; frozen inputs need the model itself.
        params: The cases.
        seed: Of bootstraps.

    Returns:
        A number a case.

    Raises:
        NotApplicable: Nothing was frozen, or a case cannot be measured: then none counts as good.
    """
    if not params.cases:
        raise NotApplicable("nothing was frozen; assessor check freeze keeps a weakness that a check found")
    found = {}
    for name, case in params.cases.items():
        try:
            found[name] = _measured(subject, case, seed, len(params.cases))
        except NotApplicable as reason:
            raise NotApplicable(f"case {name}: {reason}") from reason
    unit = "1" if subject.task.is_classification else "units of the label"
    worst = max(found, key=lambda name: found[name].value)
    overall = found[worst]._replace(
        low=max(one.low for one in found.values()),
        high=max(one.high for one in found.values()),
        method=f"largest of {len(found)} cases, here {worst}; lower end for all cases together, upper end by itself",
    )
    rows = tuple((name, params.cases[name].told, one.n, one.value, one.low, one.high) for name, one in found.items())
    return Result(
        metrics=(
            _metric("worst_case", overall, unit, primary=True),
            *(_metric(f"case_{name}", one, unit) for name, one in found.items()),
        ),
        tables=(
            Table(
                name="cases",
                title="Frozen weaknesses",
                columns=("case", "what", "rows", "value", "low", "high"),
                rows=rows,
            ),
        ),
    )


def _metric(name: str, one: Measured, unit: str, *, primary: bool = False) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name,
        value=one.value,
        low=one.low,
        high=one.high,
        confidence=CONFIDENCE,
        unit=unit,
        n=one.n,
        better=Better.LOWER,
        method=one.method,
        primary=primary,
    )


def _measured(subject: Subject, case: FrozenCase, seed: int, cases: int) -> Measured:
    from assessor_checks.reliability import _columns, _frozen

    if case.inputs is not None:
        if Need.QUERY not in subject.offers or subject.origin.folder is None:
            raise NotApplicable("frozen inputs need the model itself, to ask it")
        return _frozen.of_inputs(_frozen.answers_for(subject, _frozen.read_inputs(subject.origin.folder, case.inputs)))
    split = subject.splits["test"]
    table = _columns.table_of(split)
    if table is None:
        raise NotApplicable("there are no columns to tell the group by")
    met = _frozen.rows_where(case.where, table)
    predictions = subject.predictions("test")
    if case.compared is None:
        shares = subject.task.is_classification
        errors = predictions != split.labels if shares else abs(predictions - split.labels)
        return _frozen.of_group(errors.astype(float), met, seed, cases, shares=shares)
    hits, counted = _rate(subject, case, predictions)
    return _frozen.of_rate(hits, counted, met, cases, case.compared)


def _rate(subject: Subject, case: FrozenCase, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool hits and (n,) bool rows that count, of the rate that a case compares."""
    import numpy as np

    labels = subject.splits["test"].labels
    if not subject.task.is_classification:
        raise NotApplicable(f"{case.compared} is a rate of decisions, and this is a {subject.task} task")
    everybody = np.ones(len(labels), dtype=bool)
    if case.compared == "accuracy":
        return predictions == labels, everybody
    if case.positive not in subject.classes:
        raise NotApplicable(f"positive: no class '{case.positive}'; found {', '.join(subject.classes)}")
    positive = subject.classes.index(case.positive)
    counted = {
        "selection_rate": everybody,
        "true_positive_rate": labels == positive,
        "false_positive_rate": labels != positive,
    }[case.compared or ""]
    return predictions == positive, counted


def plot(result: Result, axes: Axes) -> None:
    """Every case with its interval, the worst first."""
    cases = [metric for metric in result.metrics if not metric.primary]
    worst = sorted(cases, key=lambda metric: -metric.value)[:_SHOWN]
    for place, metric in enumerate(worst):
        low, high = metric.low or 0.0, metric.high or 0.0
        axes.plot([low, high], [place, place], "-", color="0.5", linewidth=1)
        axes.plot([metric.value], [place], "o", color="black")
    axes.set_yticks(range(len(worst)), [metric.name.removeprefix("case_") for metric in worst], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("error, or difference of a rate")
    axes.set_ylabel("frozen case")


CHECK = Check(info=INFO, params=FrozenWeaknessParams, measure=measure, plot=plot, rows=of_test)
