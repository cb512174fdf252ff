"""Does a predicted probability mean the same for every group of people?"""

from __future__ import annotations

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
    progress,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._calibration import TrueEce
    from assessor_checks._groups import Groups
    from assessor_checks.fairness._group_calibration import CalibrationComparison

INFO = CheckInfo(
    id="fairness.calibration_by_group",
    version="1",
    title="Calibration of probabilities for groups",
    measures=(
        "How much more often the predicted event comes true in one group than in another at the same predicted "
        "probability, for each sensitive attribute and their intersection; beside it the calibration error of each "
        "group. The worst pair of groups counts."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.PROBABILITIES, Need.SENSITIVE}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "Equal calibration allows very different rates of favourable decisions and of errors; see "
        "fairness.group_metrics. With unequal base rates not all of them can be equal.",
        "The difference is an average over scores: groups whose curves cross can differ by 0 on average; the test of "
        "the curves and the calibration error of each group show that.",
        "The observed labels may be biased themselves, then calibration against them is not fair.",
        "Groups under the minimum size are not judged.",
        "Where groups have very different scores, few rows can be compared at the same score.",
    ),
    remedy=(
        "Look up the worst pair and the curves; recalibrate on held-out data that hold enough rows of each group, with "
        "the attribute as an input if the law permits it, or find what makes the same score mean less in one group "
        "(labels, missing features); then measure again on fresh data."
    ),
    source=(
        "Chouldechova 2017 (arXiv 1610.07524), definition 2.1 (calibration within groups); Mantel-Haenszel difference: "
        "Greenland and Robins 1985, Biometrics 41:55; calibration error: see uncertainty.calibration; Westfall and "
        "Young 1993 (permutation max-T); Holm 1979"
    ),
    requirements=("FN-R-FN-ME-05",),
    instead=(
        "fairness.group_metrics",
        "fairness.regression_parity",
        "fairness.individual_consistency",
    ),
)
_PER_BIN = 20  # rows a bin holds on average at the least
_ECE_BINS = 15
_PAIRS_SHOWN = 100
_COLUMNS = ("group", "rows", "score", "share", "low", "high")


class CalibrationByGroupParams(Params):
    """What the user may set."""

    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive columns to compare; all when not given"
    )
    intersections: bool = Field(default=True, description="Also compare the full intersection of the attributes")
    positive: str | None = Field(
        default=None,
        description="Class whose probability is judged; when not given the last one of two, else the predicted class",
    )
    bins: int = Field(default=50, ge=2, le=200, description="Bins of the score in which groups are compared")
    minimum_group: int = Field(default=50, ge=20, description="Fewest rows of a group that is judged")
    permutations: int = Field(default=999, ge=99, le=100_000, description="Permutations behind a p-value")
    replicates: int = Field(default=300, ge=100, le=20_000, description="Resamples behind a group's calibration error")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals of differences")


class _Event(NamedTuple):
    """What is predicted, in words, with its probability and whether it came, (n,) each."""

    said: str
    scores: np.ndarray
    came: np.ndarray


def measure(subject: Subject, params: CalibrationByGroupParams, seed: int) -> Result:
    """Differences of calibration between groups and the calibration error of each.

    Args:
        subject: Classifier with probabilities and sensitive attributes.
        params: What the user set.
        seed: Seed of permutations and resamples.

    Returns:
        The largest difference at equal score, the worst group's calibration error, and a p-value of equal calibration.

    Raises:
        NotApplicable: No two groups can be compared, or scores are no probabilities.
    """
    import numpy as np

    from assessor_checks import _calibration, _groups
    from assessor_checks.fairness._group_calibration import compare_calibration
    from assessor_checks.fairness._refusal import too_few_groups

    split = subject.splits["test"]
    if split.attributes is None or split.n == 0:
        raise NotApplicable("the test split has no rows with sensitive attributes")
    event = _event(subject, params)
    frame, unfit = _groups.comparable(split.attributes, params.attributes)
    groups = _groups.find_groups(frame, intersections=params.intersections)
    index = _calibration.equal_mass(event.scores, max(1, min(params.bins, split.n // _PER_BIN)))
    found = compare_calibration(
        groups,
        event.came - event.scores,
        index,
        minimum=params.minimum_group,
        confidence=params.confidence,
        permutations=params.permutations,
        rng=np.random.default_rng(seed),
    )
    short = _groups.too_small(groups, params.minimum_group)
    if found is None:
        if why := too_few_groups(groups, params.minimum_group):
            raise NotApplicable(
                f"no two groups of one attribute have {params.minimum_group} rows or more. {' '.join([*unfit, why])}"
            )
        raise NotApplicable(
            f"no two groups of one attribute with at least {params.minimum_group} rows each have rows with similar "
            "scores of which some came true and some did not; use fairness.group_metrics"
        )
    errors = _errors(groups, event, params, seed)
    unjudged = [name for name in found.unjudged if name in frame.columns]
    missing = [f"Fewer than two groups can be compared in: {', '.join(unjudged)}."] if unjudged else []
    return Result(
        metrics=_metrics(groups, found, errors, params, int(index.max()) + 1),
        series=(_curves(groups, event, params),),
        tables=_tables(groups, event, found, errors, params),
        remarks=(
            f"Event: {event.said}.",
            *unfit,
            *short,
            _power_sentence(groups, event, found),
        ),
        doubt=" ".join([*unfit, *missing]) or None,
    )


def _event(subject: Subject, params: CalibrationByGroupParams) -> _Event:
    import numpy as np

    from assessor_checks._probabilities import improper

    labels, scores = subject.splits["test"].labels, np.asarray(subject.scores("test"), dtype=np.float64)
    if bad := int(improper(scores).sum()):
        raise NotApplicable(
            f"the model's scores are no probabilities that sum to 1 for {bad} of {len(labels)} rows of the test split"
        )
    if params.positive is not None and params.positive not in subject.classes:
        raise NotApplicable(f"positive: no class '{params.positive}'; wanted one of {list(subject.classes)}")
    if params.positive is None and subject.task is Task.MULTICLASS:
        chosen = scores.argmax(axis=1)
        came = (chosen == labels).astype(np.float64)
        return _Event("the most probable class is the true one", scores[np.arange(len(labels)), chosen], came)
    name = params.positive or subject.classes[-1]
    at = subject.classes.index(name)
    return _Event(f"the true class is '{name}'", scores[:, at], (labels == at).astype(np.float64))


def _rows_of(groups: Groups, minimum: int) -> list[tuple[int, np.ndarray]]:
    """Each group that is judged, with its rows (n,) bool."""
    found = [(group, groups.members[group][groups.cells]) for group in range(len(groups.names))]
    return [(group, rows) for group, rows in found if int(rows.sum()) >= minimum]


def _errors(groups: Groups, event: _Event, params: CalibrationByGroupParams, seed: int) -> dict[int, TrueEce]:
    """Calibration error of every judged group, freed of the bias of few rows."""
    from assessor_checks import _calibration

    found = {}
    judged = _rows_of(groups, params.minimum_group)
    for done, (group, rows) in enumerate(judged):
        progress("groups", done, len(judged))
        scores, came = event.scores[rows], event.came[rows]
        index = _calibration.equal_mass(scores, max(1, min(_ECE_BINS, len(scores) // _PER_BIN)))
        bins = _calibration.summarise(scores, came, index)
        p_value = _calibration.p_value(bins, _calibration.redrawn(scores, index, seed, params.replicates))
        found[group] = _calibration.true_ece(bins, p_value, seed, params.replicates)
    return found


def _metrics(
    groups: Groups,
    found: CalibrationComparison,
    errors: dict[int, TrueEce],
    params: CalibrationByGroupParams,
    bins: int,
) -> tuple[Metric, ...]:
    worst = max(errors.values(), key=lambda error: error.value)
    return (
        Metric(
            name="calibration_difference",
            value=found.gap.value,
            low=found.gap.low,
            high=found.gap.high,
            confidence=params.confidence,
            n=found.n,
            better=Better.LOWER,
            method=(
                f"largest absolute difference over {len(found.pairs)} pairs of groups of the same attribute "
                f"({', '.join(groups.families)}) in event minus score within {bins} bins of the score "
                f"(Mantel-Haenszel weights); normal limits, the end nearer parity simultaneous over all pairs "
                f"(max-|t|, t = {found.gap.critical:.2f}) and 0 unless a permutation test rejects parity, the far end "
                "unadjusted (intersection-union)"
            ),
            primary=True,
        ),
        Metric(
            name="worst_group_ece",
            value=worst.value,
            low=min(worst.value, max(error.low for error in errors.values())),
            high=max(error.high for error in errors.values()),
            confidence=0.95,
            n=found.n,
            better=Better.LOWER,
            method=(
                f"largest expected calibration error over {len(errors)} groups, bias of chance gaps removed "
                f"(equal-mass bins, at most {_ECE_BINS}); 95 % interval of each group by inverting a resampling test "
                f"({params.replicates} resamples), the largest ends; the low one is not adjusted for the number of "
                "groups"
            ),
        ),
        Metric(
            name="calibration_parity_p_value",
            value=min(found.adjusted),
            n=found.n,
            better=Better.HIGHER,
            method=(
                f"smallest of {len(found.adjusted)} permutation p-values after Holm, for each attribute of the average "
                f"difference and of the curves ({params.permutations} permutations of event minus score within bins); "
                "large values do not prove equal calibration"
            ),
        ),
    )


def _power_sentence(groups: Groups, event: _Event, found: CalibrationComparison) -> str:
    """Which differences the widest pair of groups could show."""
    from scipy.special import ndtri

    from assessor_checks.fairness._power import POWER

    worst = max(found.pairs, key=lambda pair: pair.high - pair.low)
    error = (worst.high - worst.low) / (2 * found.gap.critical)
    seen = min(1.0, (found.gap.critical + float(ndtri(POWER))) * error)
    names = f"{groups.attributes[worst.first]}: {groups.names[worst.first]} and {groups.names[worst.second]}"
    return (
        f"With these groups a difference under about {seen:.2f} cannot be seen reliably (power under {POWER:.0%}) in "
        f"the pair that overlaps least ({names})."
    )


def _curves(groups: Groups, event: _Event, params: CalibrationByGroupParams) -> Series:
    """Share that came true by bin of the score, for the judged groups of the first attribute."""
    from assessor_checks import _calibration
    from assessor_checks._intervals import wilson

    columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
    for group, rows in _rows_of(groups, params.minimum_group):
        if groups.attributes[group] != groups.attributes[0]:
            continue
        scores = event.scores[rows]
        index = _calibration.equal_mass(scores, max(1, min(10, len(scores) // _PER_BIN)))
        for n, score, share in zip(*(x.tolist() for x in _calibration.summarise(scores, event.came[rows], index)),
                                   strict=True):  # fmt: skip
            values = (group, n, score, *wilson(round(share * n), n, params.confidence))
            for name, value in zip(_COLUMNS, values, strict=True):
                columns[name].append(float(value))
    return Series(
        name="reliability",
        title=f"Reliability curves by {groups.attributes[0]}",
        columns={name: tuple(values) for name, values in columns.items()},
    )


def _tables(
    groups: Groups,
    event: _Event,
    found: CalibrationComparison,
    errors: dict[int, TrueEce],
    params: CalibrationByGroupParams,
) -> tuple[Table, ...]:
    rows: list[tuple[Cell, ...]] = []
    for group, (attribute, name) in enumerate(zip(groups.attributes, groups.names, strict=True)):
        inside = groups.members[group][groups.cells]
        n = int(inside.sum())
        if group not in errors:
            rows.append((attribute, name, n, "insufficient data", *(None,) * 6))
            continue
        score, share = float(event.scores[inside].mean()), float(event.came[inside].mean())
        rows.append((attribute, name, n, "judged", score, share, share - score, *errors[group]))
    names = range(len(found.tests))
    return (
        Table(
            name="groups",
            title="Mean score, share that came true and calibration error (95 % interval) of each group",
            columns=("attribute", "group", "n", "status", "mean score", "share", "share - score", "calibration error",
                     "low", "high"),
            rows=tuple(rows),
        ),
        Table(
            name="pairs",
            title="How much more often the event comes true in the first group at the same score, largest first, "
            f"simultaneous {params.confidence:.0%} intervals",
            columns=("attribute", "first", "second", "difference", "low", "high"),
            rows=tuple(
                (groups.attributes[x.first], groups.names[x.first], groups.names[x.second], *x[3:])
                for x in found.pairs[:_PAIRS_SHOWN]
            ),
        ),
        Table(
            name="parity_tests",
            title="Permutation tests of equal calibration",
            columns=("attribute", "compared", "p_value", "p_holm"),
            rows=tuple(
                (found.tests[at][0], what, found.tests[at][1 + kind], found.adjusted[kind * len(names) + at])
                for at in names
                for kind, what in enumerate(("average", "curve"))
            ),
        ),
    )  # fmt: skip


def plot(result: Result, axes: Axes) -> None:
    """Reliability curves of the groups of the first attribute.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    columns = result.series[0].columns
    rows = list(zip(*(columns[name] for name in _COLUMNS), strict=True))
    names = [str(row[1]) for row in result.tables[0].rows]
    axes.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    styles: list[tuple[Literal["o", "s", "^", "D"], str]] = [("o", "black"), ("s", "0.45"), ("^", "0.65"), ("D", "0.3")]
    for place, group in enumerate(dict.fromkeys(row[0] for row in rows)):
        marker, shade = styles[place % len(styles)]
        own = [tuple(float(cell or 0.0) for cell in row) for row in rows if row[0] == group]
        for _, _, score, _, low, high in own:
            axes.plot([score, score], [low, high], "-", color=shade, linewidth=0.8)
        axes.plot([row[2] for row in own], [row[3] for row in own], marker=marker, color=shade, linewidth=1,
                  label=names[int(group or 0)])  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share that came true")
    axes.legend(loc="upper left", frameon=False)


CHECK = Check(info=INFO, params=CalibrationByGroupParams, measure=measure, plot=plot, rows=of_test)
