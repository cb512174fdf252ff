"""Do decisions and errors differ between groups of people, by how much, and is that more than chance?"""

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
    from collections.abc import Mapping, Sequence

    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._gaps import Comparison
    from assessor_checks._groups import Groups
    from assessor_checks._rates import Rate

INFO = CheckInfo(
    id="fairness.group_metrics",
    version="2",
    title="Group fairness",
    measures=(
        "How far the rate of favourable decisions, the true and false positive rates and the accuracy lie apart "
        "between groups, for each sensitive attribute and for their intersection; the worst pair of groups counts."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.SENSITIVE}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "The observed labels may be biased themselves; equal error rates against biased labels are not fair.",
        "Parity on these attributes says nothing of attributes that were not recorded.",
        "The metrics conflict: with unequal base rates parity in one rules out parity in another.",
        "Groups under the minimum size are not judged, and gaps below the detectable size stated here go unseen.",
        "The test set is a sample: intervals speak of the population it was drawn from, not of other populations.",
        "The value is the largest of many differences and so tends to exceed the true one; the interval allows for it.",
        "Rows are taken as independent; several rows of one person make the intervals too narrow.",
    ),
    remedy=(
        "Look up the worst pair in the table of pairs; collect more data of that group, check how its labels came "
        "about, retrain with reweighting or a fairness constraint, or set the decision threshold after a review of the "
        "costs for each group; then measure again on fresh data."
    ),
    source=(
        "Hardt, Price, Srebro 2016 (arXiv 1610.02413), Definition 2.1 (equalized odds) and 2.2 (equal opportunity); "
        "Newcombe 1998, Stat. Med. 17:873, method 10; Berger 1982, Technometrics 24:295; Koopman 1984, "
        "Biometrics 40:513; Westfall and Young 1993 (permutation max-T); Holm 1979"
    ),
    requirements=("FN-R-FN-ME-05", "FN-R-FN-OA"),
    instead=(
        "fairness.regression_parity",
        "fairness.individual_consistency",
    ),
)

_EXCHANGED = {
    "demographic_parity_difference": "predictions permuted across groups",
    "demographic_parity_ratio": "predictions permuted across groups",
    "equal_opportunity_difference": "predictions permuted across groups among rows with the positive label",
    "equalized_odds_difference": "predictions permuted across groups within rows of positive and of negative label",
    "accuracy_difference": "rows' correctness permuted across groups",
}
_PAIRS_SHOWN = 100
_DRAWN = 20  # groups in the plot


class GroupMetricsParams(Params):
    """What the user may set."""

    metric: Literal[
        "demographic_parity_difference",
        "equalized_odds_difference",
        "equal_opportunity_difference",
        "accuracy_difference",
        "demographic_parity_ratio",
    ] = Field(default="equalized_odds_difference", description="Metric that a target without a name means")
    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive columns to compare; all when not given"
    )
    intersections: bool = Field(default=True, description="Also compare the full intersection of the attributes")
    minimum_group: int = Field(default=20, ge=2, description="Fewest rows behind a rate that is judged")
    positive: str | None = Field(
        default=None, description="Class that is the favourable decision; a binary task's last class when not given"
    )
    bootstrap: int = Field(default=1000, ge=100, le=100_000, description="Resamples behind the percentile bootstrap")
    permutations: int = Field(default=2000, ge=99, le=1_000_000, description="Permutations behind a p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: GroupMetricsParams, seed: int) -> Result:
    """Gaps between groups with intervals, permutation tests, and what the group sizes could show.

    Args:
        subject: Classifier with sensitive attributes.
        params: What the user set.
        seed: Seed of critical values and permutations.

    Returns:
        Those of the five gaps that can be computed, and the p-value of parity in the chosen one.

    Raises:
        NotApplicable: No two groups can be compared on the chosen metric, or a parameter names what is not there.
    """
    import numpy as np

    from assessor_checks import _gaps, _rates
    from assessor_checks.fairness import _power
    from assessor_checks.fairness._refusal import one_group

    needed = params.metric != "accuracy_difference"
    positive = _rates.favourable(subject.task, subject.classes, params.positive, needed=needed)
    counted = _rates.tally(subject.parts("test"), params.attributes, positive=positive)
    groups, outcomes = _rates.tallied_groups(counted, intersections=params.intersections)
    rates = _rates.rates_of(groups, outcomes, minimum=params.minimum_group)
    found: dict[str, Comparison] = {}
    for name, parts in _gaps.COMPONENTS.items():
        rng = np.random.default_rng([seed, *map(_rates.RATES.index, parts)])
        comparison = _gaps.compare(name, groups, rates, params.confidence, params.permutations, rng)
        if comparison is not None:
            found[name] = comparison
    short = _rates.shortfalls(groups, rates, minimum=params.minimum_group)
    if params.metric not in found:
        raise NotApplicable(_why_not([*counted.unfit, *one_group(groups), *short], list(found), params))
    lost = [name for name in _gaps.COMPONENTS if name not in found]
    remarks = (
        f"Favourable decision: predicted class '{subject.classes[positive]}'.",
        *counted.unfit,
        *short,
        *([f"Not computed, too few rows or the rate is 0 in all groups: {', '.join(lost)}."] if lost else []),
    )
    chosen = found[params.metric]
    partial = {name: text for name, item in found.items() if (text := _shortage(item, counted.attributes))}
    doubts = [*counted.unfit, *([partial.pop(params.metric)] if params.metric in partial else [])]
    return Result(
        metrics=(
            *(_metric(item, groups, params, judged=item.name not in partial) for item in found.values()),
            _parity(chosen, params),
            _all_parity(found, params),
        ),
        tables=(*_tables(groups, rates, found, params), _bootstrap(groups, outcomes, found, params, seed)),
        remarks=(
            *remarks,
            *(f"{text} So it has no interval." for text in partial.values()),
            *(_power.power_sentence(rate, groups, chosen.gap.critical) for rate in chosen.rates),
        ),
        doubt=" ".join(doubts) or None,
    )


def _why_not(reasons: Sequence[str], others: Sequence[str], params: GroupMetricsParams) -> str:
    """Why the chosen metric cannot be computed, and what can be done."""
    from assessor_checks.fairness._refusal import advice

    said = (
        f"no two groups of one attribute can be compared on {params.metric} with at least {params.minimum_group} rows "
        f"behind each rate. {' '.join(reasons)}"
    )
    if params.metric == "demographic_parity_ratio" and "demographic_parity_difference" in others:
        return (
            "nobody gets the favourable decision in any group, so that there is no ratio; set metric to "
            "demographic_parity_difference"
        )
    if others:
        return f"{said} The rows suffice for other metrics: {', '.join(others)}."
    return f"{said} {advice()}"


def _metric(item: Comparison, groups: Groups, params: GroupMetricsParams, *, judged: bool) -> Metric:
    """The metric; without an interval, so that no target is judged, where an attribute could not be compared."""
    ratio = item.name == "demographic_parity_ratio"
    return Metric(
        name=item.name,
        value=item.gap.value,
        low=item.gap.low if judged else None,
        high=item.gap.high if judged else None,
        confidence=params.confidence if judged else None,
        n=item.n,
        better=Better.HIGHER if ratio else Better.LOWER,
        method=(
            f"{'smallest ratio' if ratio else 'largest absolute difference'} over {len(item.pairs)} pairs of groups "
            f"of the same attribute ({', '.join(groups.families)}) "
            f"in {' and '.join(rate.name for rate in item.rates)}; "
            f"{'Koopman' if ratio else 'Newcombe'} score limits, "
            f"the end nearer parity simultaneous over all pairs (max-|t|, z = {item.gap.critical:.2f}), "
            "the far end unadjusted (intersection-union)"
        ),
        primary=item.name == params.metric,
    )


def _parity(chosen: Comparison, params: GroupMetricsParams) -> Metric:
    return Metric(
        name="parity_p_value",
        value=chosen.p_value,
        n=chosen.n,
        better=Better.HIGHER,
        method=(
            f"permutation max-T test of {chosen.name} ({params.permutations} permutations, {_EXCHANGED[chosen.name]}; "
            "pooled variance), smallest p-value after Holm over attributes; large values do not prove parity"
        ),
    )


def _all_parity(found: Mapping[str, Comparison], params: GroupMetricsParams) -> Metric:
    from assessor_checks._gaps import COMPONENTS, all_tests

    tests = all_tests(found)
    different = {(COMPONENTS[name], attribute) for name, attribute, *_ in tests}
    return Metric(
        name="all_parity_p_value",
        value=min(adjusted for *_, adjusted in tests),
        n=max(item.n for item in found.values()),
        better=Better.HIGHER,
        method=(
            f"the smallest of {len(different)} p-values, of all metrics and attributes, after Holm; each from a "
            f"permutation max-T test ({params.permutations} permutations); large values do not prove parity"
        ),
    )


def _tables(
    groups: Groups, rates: Mapping[str, Rate], found: Mapping[str, Comparison], params: GroupMetricsParams
) -> tuple[Table, ...]:
    from assessor_checks import _gaps, _rates
    from assessor_checks.fairness import _power

    pairs = found[params.metric].pairs[:_PAIRS_SHOWN]
    columns = [f"{rate}{end}" for rate in _rates.RATES for end in ("", "_low", "_high")]
    return (
        Table(
            name="groups",
            title=f"Rates by group with {params.confidence:.0%} Wilson intervals",
            columns=("attribute", "group", "n", "status", *columns),
            rows=_rates.group_rows(groups, rates, minimum=params.minimum_group, confidence=params.confidence),
        ),
        Table(
            name="pairs",
            title=f"Differences first minus second, largest first, simultaneous {params.confidence:.0%} intervals",
            columns=("attribute", "first", "second", "rate", "difference", "low", "high"),
            rows=tuple(
                (
                    groups.attributes[x.first],
                    groups.names[x.first],
                    groups.names[x.second],
                    x.rate,
                    x.value,
                    x.low,
                    x.high,
                )
                for x in pairs
            ),
        ),
        Table(
            name="parity_tests",
            title="Permutation tests of parity",
            columns=("metric", "attribute", "p_value", "p_holm", "p_holm_all"),
            rows=tuple(_gaps.all_tests(found)),
        ),
        Table(
            name="power",
            title=f"Smallest gap that the smallest groups would show in {_power.POWER:.0%} of samples",
            columns=("rate", "attribute", "first", "rows of first", "second", "rows of second", "gap"),
            rows=tuple(
                row
                for rate in {rate.name: (rate, item) for item in found.values() for rate in item.rates}.values()
                for row in _power.power_rows(rate[0], groups, rate[1].gap.critical)
            ),
        ),
    )


def _bootstrap(
    groups: Groups, outcomes: np.ndarray, found: Mapping[str, Comparison], params: GroupMetricsParams, seed: int
) -> Table:
    import numpy as np

    from assessor_checks import _gaps, _rates

    resampled = _rates.resampled_rates(groups, outcomes, params.bootstrap, np.random.default_rng([seed, 0]))
    ends = ((1 - params.confidence) / 2, (1 + params.confidence) / 2)
    rows = []
    for name, item in found.items():
        values = _gaps.resampled_gaps(item, groups, resampled)
        low, high = np.quantile(values[np.isfinite(values)], ends).tolist()
        rows.append((name, item.gap.value, low, high))
    return Table(
        name="bootstrap",
        title=(
            f"For comparison with other tools: {params.confidence:.0%} percentile bootstrap of rows "
            f"({params.bootstrap} resamples). Its low end is above 0 even under parity, so it tests nothing"
        ),
        columns=("metric", "value", "low", "high"),
        rows=tuple(rows),
    )


def _shortage(item: Comparison, attributes: Sequence[str]) -> str:
    """Nothing unmeasured may pass: names the attributes without two judged groups, empty where there are none."""
    unjudged = [name for name in item.unjudged if name in attributes]
    return f"Fewer than two groups have enough rows for {item.name} in: {', '.join(unjudged)}." if unjudged else ""


def plot(result: Result, axes: Axes) -> None:
    """Dots with intervals: selection rate, true and false positive rate of every judged group.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    from matplotlib.figure import Figure

    table = next(table for table in result.tables if table.name == "groups")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    rows = [row for row in rows if row["selection_rate"] is not None][:_DRAWN]
    styles = (
        ("selection_rate", "o", "black"),
        ("true_positive_rate", "s", "0.4"),
        ("false_positive_rate", "^", "0.65"),
    )
    for offset, (rate, marker, shade) in zip((-0.22, 0.0, 0.22), styles, strict=True):
        points = [
            (place + offset, float(row[rate]), float(row[f"{rate}_low"]), float(row[f"{rate}_high"]))  # type: ignore[arg-type]
            for place, row in enumerate(rows)
            if row[rate] is not None
        ]
        if points:
            places, values, lows, highs = zip(*points, strict=True)
            errors = [
                [v - low for v, low in zip(values, lows, strict=True)],
                [h - v for v, h in zip(values, highs, strict=True)],
            ]
            label = rate.replace("_", " ")
            axes.errorbar(values, places, xerr=errors, fmt=marker, color=shade, capsize=2, markersize=5, label=label)
    axes.set_yticks(range(len(rows)), [f"{row['group']} (n = {row['n']})" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Share of the group, with interval")
    axes.set_ylabel("Group")
    if rows:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    if isinstance(axes.figure, Figure):
        axes.figure.set_figheight(max(2.2, 1.0 + 0.25 * len(rows)))


def weakness(subject: Subject, params: GroupMetricsParams, seed: int) -> Weakness:
    """The smaller group of the worst pair, to be held against all other people.

    Args:
        subject: What was measured.
        params: As it was measured.
        seed: As it was measured.

    Returns:
        The group and the rate.

    Raises:
        NotApplicable: No two groups can be compared.
    """
    import numpy as np

    from assessor_checks import _gaps, _rates
    from assessor_checks._groups import conditions_of

    needed = params.metric != "accuracy_difference"
    positive = _rates.favourable(subject.task, subject.classes, params.positive, needed=needed)
    counted = _rates.tally(subject.parts("test"), params.attributes, positive=positive)
    groups, outcomes = _rates.tallied_groups(counted, intersections=params.intersections)
    rates = _rates.rates_of(groups, outcomes, minimum=params.minimum_group)
    rng = np.random.default_rng([seed, *map(_rates.RATES.index, _gaps.COMPONENTS[params.metric])])
    found = _gaps.compare(params.metric, groups, rates, params.confidence, params.permutations, rng)
    if found is None:
        raise NotApplicable("no two groups can be compared, so there is none to freeze")
    pair = found.pairs[0]
    sizes = rates[pair.rate].trials
    group, other = sorted((pair.first, pair.second), key=lambda place: int(sizes[place]))  # the smaller one of the two
    where = conditions_of(groups.attributes[group], groups.names[group])
    told = f"{' and '.join(condition.told for condition in where)}: {pair.rate} beside {groups.names[other]}"
    chosen = subject.classes[positive] if needed else None
    return Weakness(told=told, where=where, compared=pair.rate, positive=chosen)


CHECK = Check(info=INFO, params=GroupMetricsParams, measure=measure, plot=plot, weakness=weakness, rows=of_test)
