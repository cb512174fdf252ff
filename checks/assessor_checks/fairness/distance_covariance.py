"""Does what the model says depend on sensitive attributes of any kind, alone or together, in any form?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

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
    progress,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.fairness._dependence import Column, Together
    from assessor_checks.fairness._distance_covariance import Dependence

INFO = CheckInfo(
    id="fairness.distance_covariance",
    version="1",
    title="Dependence of the output on sensitive attributes",
    measures=(
        "How strongly the model's score or prediction depends on sensitive attributes, in any form: attributes that "
        "are groups (sex) or quantities (age), each alone and all together. The distance correlation is 0 where there "
        "is no dependence and 1 where one is an exact straight function of the other."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.SENSITIVE}),
    tasks=frozenset(Task),
    limits=(
        "It shows that there is a dependence, not who is put at a disadvantage; see fairness.group_metrics for that.",
        "A dependence can have good reasons (unequal needs); with given = label only the dependence among rows of the "
        "same label counts, and the labels may be biased themselves.",
        "It is 0 only without any dependence, but a weak one needs many rows to show; the remark says how many.",
        "Attributes that were not recorded are not looked at.",
        "Several quantities together are compared pair by pair on a sample of the rows (pair_rows).",
    ),
    remedy=(
        "Look which attribute, or which combination, has the largest value; look for its proxies among the features "
        "(fairness.data_bias lists them); retrain with a penalty on the distance covariance, or decide and document "
        "why the dependence is justified."
    ),
    source=(
        "Székely, Rizzo, Bakirov 2007, Annals of Statistics 35:2769, definition 4; Huo and Székely 2016, Technometrics "
        "58:435 (O(n log n)); Székely and Rizzo 2014, Annals of Statistics 42:2382 (bias correction); several "
        "attributes: Lee, Antonio, Avanzi, Marchi, Zhou 2025, arXiv 2509.08163, and Chakraborty and Zhang 2019, "
        "J. Am. Stat. Assoc. 114:1638"
    ),
    requirements=("FN-R-FN-ME-05",),
    instead=("fairness.individual_consistency",),
)
_FEWEST = 20  # rows
_METHOD = "root of the bias-corrected squared distance correlation, 0 where that is negative"


class DistanceCovarianceParams(Params):
    """What the user may set."""

    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive columns to look at; all when not given"
    )
    output: Literal["auto", "score", "prediction"] = Field(
        default="auto", description="Output looked at: the score where there is one, else the prediction"
    )
    positive: str | None = Field(
        default=None, description="Class whose score is looked at; a binary task's last class when not given"
    )
    given: Literal["nothing", "label"] = Field(
        default="nothing", description="With label, rows are compared within each true class (as equalized odds does)"
    )
    pair_rows: int = Field(
        default=5_000, ge=100, le=200_000, description="Rows used where all pairs must be visited; drawn at random"
    )
    permutations: int = Field(default=999, ge=99, le=100_000, description="Permutations behind a p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


class _Found(NamedTuple):
    """One set of attributes: how it is put together, plain and corrected value, interval, adjusted low end, p-value."""

    names: str
    together: Together | None
    covariance: float
    plain: float
    estimate: Estimate
    adjusted_low: float
    p_value: float
    n: int


def measure(subject: Subject, params: DistanceCovarianceParams, seed: int) -> Result:
    """Distance correlation of the output with each attribute and with all together.

    Args:
        subject: Any model with sensitive attributes.
        params: What the user set.
        seed: Seed of permutations and of the sample of rows for pairs.

    Returns:
        The largest distance correlation, the joint one of several attributes, and a p-value of independence.

    Raises:
        NotApplicable: Too few rows, an output that does not vary, no attribute that does, or a parameter that does not
            fit.
    """
    from assessor_checks._gaps import holm
    from assessor_checks.fairness._dependence import POWER, detectable

    split = subject.splits["test"]
    if split.attributes is None or split.n == 0:
        raise NotApplicable("the test split has no rows with sensitive attributes")
    output, said = _output(subject, params)
    if split.n < _FEWEST:
        raise NotApplicable(f"{split.n} rows can be compared, too few to judge dependence; {_FEWEST} are needed")
    columns, unfit, rows = _columns(split.attributes, params)
    strata, left_out = _strata(subject, params, rows)
    output = output._replace(values=output.values[strata >= 0])
    columns = [column._replace(values=column.values[strata >= 0]) for column in columns]
    n = int((strata >= 0).sum())
    if n < _FEWEST:
        raise NotApplicable(f"{n} rows can be compared, too few to judge dependence; {_FEWEST} are needed")
    if (output.values == output.values[0]).all():
        raise NotApplicable(f"the {said} is the same in all {n} rows, so there is no dependence to measure")
    found = _measured(output, columns, strata[strata >= 0], params, seed)
    adjusted = holm([item.p_value for item in found])
    largest = [item for item in found if item.together != "joint"]
    smallest = detectable(n, (1 - params.confidence) / len(found))
    remarks = (
        f"Output looked at: {said}.",
        *unfit,
        *left_out,
        *([f"{len(rows) - int(rows.sum())} rows without a finite value of every quantity are left out."]
          if not rows.all() else []),
        *dict.fromkeys(f"{item.names} together: distances of a random sample of {item.n} of {n} rows."
                       for item in found if item.n < n),
        f"With {n} rows a distance correlation under about {smallest:.2f} cannot be seen reliably (power under "
        f"{POWER:.0%}), even between a yes or no attribute and a yes or no decision; finer ones need more.",
    )  # fmt: skip
    return Result(
        metrics=(
            _largest(largest, params),
            *(_alone(item, params) for item in found if item.together == "joint"),
            Metric(
                name="independence_p_value",
                value=min(adjusted),
                n=n,
                better=Better.HIGHER,
                method=f"smallest of {len(found)} permutation p-values ({params.permutations} permutations of the "
                f"output{' within each true class' if params.given == 'label' else ''}, quantities rounded to "
                "quantiles) after Holm; large values do not prove independence",
            ),
        ),
        tables=(_table(found, adjusted, params),),
        remarks=remarks,
        doubt=" ".join(unfit) or None,
    )


def _output(subject: Subject, params: DistanceCovarianceParams) -> tuple[Column, str]:
    """What the model says of each row, and what that is in words."""
    import numpy as np

    from assessor_checks.fairness._dependence import Column

    if params.positive is not None and params.positive not in subject.classes:
        raise NotApplicable(f"positive: no class '{params.positive}'; wanted one of {list(subject.classes)}")
    if subject.task is Task.REGRESSION:
        values, said = subject.predictions("test"), "predicted value"
    else:
        chosen = params.positive or (subject.classes[-1] if subject.task is Task.BINARY else None)
        scored = Need.PROBABILITIES in subject.offers and chosen is not None
        if params.output == "score" and not scored:
            raise NotApplicable(
                "output is set to score, but the model gives no probabilities or positive names no class; set output "
                "to prediction"
            )
        if params.output == "prediction" or not scored:
            return Column("output", np.asarray(subject.predictions("test")), False), "predicted class"
        values = subject.scores("test")[:, subject.classes.index(str(chosen))]
        said = f"score of class '{chosen}'"
    if wrong := int((~np.isfinite(values)).sum()):
        raise NotApplicable(f"the {said} is not finite for {wrong} of {len(values)} rows of the test split")
    return Column("output", np.asarray(values, dtype=np.float64), True), said


def _columns(attributes: pd.DataFrame, params: DistanceCovarianceParams) -> tuple[list[Column], list[str], np.ndarray]:
    """Attributes as numbers or groups, sentences on those that are neither, and which rows have a value of all."""
    import numpy as np

    from assessor_checks import _groups
    from assessor_checks.fairness._dependence import Column

    attributes = attributes.rename(columns=str)
    names = list(attributes.columns) if params.attributes is None else list(dict.fromkeys(params.attributes))
    rows, unfit, found = np.ones(len(attributes), dtype=bool), [], []
    for name in names:
        if name not in attributes.columns:
            raise NotApplicable(f"attributes: no sensitive column '{name}'; found {list(attributes.columns)}")
        column = attributes[name]
        number = _groups.is_numeric(column) and _groups.uncut(column)
        if column.nunique(dropna=False) < 2:
            unfit.append(f"'{name}' is not judged: it has the same value in all rows.")
        elif number:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            rows &= np.isfinite(values)
            found.append(Column(name, values, True))
        elif _groups.uncut(column):
            unfit.append(f"'{name}' is not judged: it has {column.nunique()} distinct texts; cut it into groups first.")
        else:
            found.append(Column(name, _groups.group_values(column)[0], False))
    if not found:
        raise NotApplicable(
            f"{' '.join(unfit)} Name sensitive attributes in which the rows differ"
            if unfit
            else "no sensitive attribute was named"
        )
    return found, unfit, rows


def _strata(subject: Subject, params: DistanceCovarianceParams, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(n,) stratum of each row, -1 for rows that are left out, and sentences on true classes that are too small."""
    import numpy as np

    if params.given == "nothing":
        return np.where(rows, 0, -1), []
    if subject.task is Task.REGRESSION:
        raise NotApplicable(
            "given is set to label, but a regression has no true classes; use fairness.regression_parity, which "
            "compares the errors of groups"
        )
    labels = np.where(rows, subject.splits["test"].labels, -1)
    sentences = []
    for index, name in enumerate(subject.classes):
        if 0 < (size := int((labels == index).sum())) < _FEWEST:
            sentences.append(f"Left out: true class '{name}' with {size} rows, fewer than {_FEWEST}.")
            labels[labels == index] = -1
    return labels, sentences


def _measured(
    output: Column, columns: list[Column], strata: np.ndarray, params: DistanceCovarianceParams, seed: int
) -> list[_Found]:
    """Each attribute alone, then all together in both ways."""
    import numpy as np

    from assessor_checks.fairness import _dependence as maths

    sets: list[tuple[list[Column], Together | None]] = [([column], None) for column in columns]
    if len(columns) > 1:
        sets.append((columns, "concatenated"))
        sets.append((columns, "joint"))
    parts: list[list[tuple[Dependence, int]]] = [[] for _ in sets]
    sides = []
    for stratum in np.unique(strata):
        inside = strata == stratum
        said = output._replace(values=output.values[inside])
        others = []
        for index, (chosen, together) in enumerate(sets):
            progress("distances", index, len(sets))
            attributes = maths.Attributes(
                [column._replace(values=column.values[inside]) for column in chosen], together or "concatenated"
            )
            parts[index].append(maths.dependence(said, attributes, pair_rows=params.pair_rows, seed=seed))
            others.append(maths.side(attributes))
        sides.append((maths.side(maths.Attributes([said])), others))
    tests = maths.p_values(sides, params.permutations, np.random.default_rng(seed))
    found = []
    for index, ((chosen, together), p_value) in enumerate(zip(sets, tests, strict=True)):
        sums = [part for part, _ in parts[index]]
        n, square = sum(rows for _, rows in parts[index]), maths.corrected(sums)
        variance = maths.direction_variance([(one, others[index]) for one, others in sides], square)
        ends = [
            maths.interval(square, variance, n, p_value, 1 - (1 - params.confidence) / share)
            for share in (1, len(sets))
        ]
        covariance, plain = maths.uncorrected(sums)
        names = " × ".join(column.name for column in chosen)
        found.append(_Found(names, together, covariance, plain, ends[0], ends[1].low, p_value, n))
    return found


def _largest(found: list[_Found], params: DistanceCovarianceParams) -> Metric:
    return Metric(
        name="distance_correlation",
        value=max(item.estimate.value for item in found),
        low=min(max(item.adjusted_low for item in found), max(item.estimate.value for item in found)),
        high=max(item.estimate.high for item in found),
        confidence=params.confidence,
        n=max(item.n for item in found),
        better=Better.LOWER,
        method=(
            f"{_METHOD}; largest of {len(found)} sets of attributes ({', '.join(item.names for item in found)}); "
            "low end from limits adjusted for their number (Bonferroni) and 0 unless the permutation test rejects "
            "independence, high end unadjusted (intersection-union)"
        ),
        primary=True,
    )


def _alone(item: _Found, params: DistanceCovarianceParams) -> Metric:
    return Metric(
        name="joint_distance_correlation",
        value=item.estimate.value,
        low=item.estimate.low,
        high=item.estimate.high,
        confidence=params.confidence,
        n=item.n,
        better=Better.LOWER,
        method=(
            f"{_METHOD}; of the output with all attributes and all their combinations (part of joint distance "
            "covariance that holds the output, c = 1, each attribute scaled by its distance standard deviation); low "
            "end 0 unless the permutation test rejects independence"
        ),
    )


def _table(found: list[_Found], adjusted: tuple[float, ...], params: DistanceCovarianceParams) -> Table:
    return Table(
        name="dependence",
        title=f"Dependence of the output on each attribute and on all together, {params.confidence:.0%} intervals",
        columns=("attributes", "together", "rows", "distance covariance", "plain distance correlation",
                 "distance correlation", "low", "high", "p_value", "p_holm"),
        rows=tuple(
            (item.names, item.together or "alone", item.n, item.covariance, item.plain, *item.estimate, item.p_value, p)
            for item, p in zip(found, adjusted, strict=True)
        ),
    )  # fmt: skip


def plot(result: Result, axes: Axes) -> None:
    """Distance correlation with interval, a line for each set of attributes.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    rows = [dict(zip(result.tables[0].columns, row, strict=True)) for row in result.tables[0].rows]
    for place, row in enumerate(rows):
        low, value, high = (float(row[name] or 0.0) for name in ("low", "distance correlation", "high"))
        axes.plot([low, high], [place, place], "-", color="0.4", linewidth=1)
        axes.plot([value], [place], "o" if row["together"] == "alone" else "s", color="black")
    names = [
        f"{row['attributes']}{'' if row['together'] == 'alone' else ' (' + str(row['together']) + ')'}" for row in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1), xlabel="distance correlation, with interval")
    axes.set_ylabel("sensitive attributes")


CHECK = Check(info=INFO, params=DistanceCovarianceParams, measure=measure, plot=plot, rows=of_test)
