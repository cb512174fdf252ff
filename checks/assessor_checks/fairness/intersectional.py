"""Is any subgroup, by one sensitive attribute or several together, treated differently from everybody else?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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
    Subject,
    Table,
    Task,
    Weakness,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assessor_checks._groups import Groups
    from assessor_checks._rates import Rate
    from assessor_checks.fairness._subgroups import Subgroups

INFO = CheckInfo(
    id="fairness.intersectional",
    version="2",
    title="Fairness for subgroups of several attributes",
    measures=(
        "How far the rate of any subgroup (women; women over 50; women over 50 of one region) lies from the rate of "
        "all other people: favourable decisions, hits among those who deserve one, false alarms, or right predictions. "
        "All subgroups of up to three attributes are looked at together; the worst one counts."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.SENSITIVE}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "Subgroups under the minimum size are named and not judged; their shrunken rates say more about the other "
        "groups than about them.",
        "The more subgroups, the larger a gap must be to stand out; the smallest gap that would show is stated.",
        "Shrunken rates lean towards the average and so understate a small group that truly differs.",
        "A subgroup is held against all others, not against the one that fares best; see fairness.group_metrics.",
        "The observed labels may be biased themselves; equal error rates against biased labels are not fair.",
    ),
    remedy=(
        "Look up the worst subgroup in the table; collect more data of it, look for what the model uses in its place, "
        "retrain with weights or with constraints for subgroups, and measure again on fresh data."
    ),
    source=(
        "Kearns, Neel, Roth, Wu 2018 (arXiv 1711.05144), definitions 2.1 and 2.2; Westfall and Young 1993 (permutation "
        "max-T); Newcombe 1998, Stat. Med. 17:873, method 10; Holm 1979; shrinkage: Efron and Morris 1975, "
        "J. Am. Stat. Assoc. 70:311, for shares by a beta-binomial model"
    ),
    requirements=("FN-R-FN-ME-05", "FN-R-FN-OA"),
    instead=(
        "fairness.regression_parity",
        "fairness.individual_consistency",
    ),
)
_SHOWN, _NAMED = 200, 10


class IntersectionalParams(Params):
    """What the user may set."""

    rate: Literal["selection_rate", "true_positive_rate", "false_positive_rate", "accuracy"] = Field(
        default="selection_rate", description="Rate that is compared"
    )
    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="Sensitive columns to combine; all when not given"
    )
    depth: int = Field(default=3, ge=1, le=3, description="Most attributes that make up one subgroup")
    minimum_group: int = Field(default=20, ge=5, description="Fewest rows behind a rate that is judged")
    positive: str | None = Field(
        default=None, description="Class that is the favourable decision; a binary task's last class when not given"
    )
    permutations: int = Field(default=2000, ge=99, le=1_000_000, description="Permutations behind a p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: IntersectionalParams, seed: int) -> Result:
    """Gaps of all subgroups to all other rows, with simultaneous intervals, a max-T test and shrunken rates.

    Args:
        subject: Classifier with at least two sensitive attributes.
        params: What the user set.
        seed: Seed of critical value and permutations.

    Returns:
        The worst gap, the worst one weighted by size, the worst shrunken one, and the p-value of parity.

    Raises:
        NotApplicable: Fewer than two attributes, no subgroup with enough rows, or a parameter names what is not there.
    """
    import numpy as np

    from assessor_checks import _rates
    from assessor_checks.fairness import _subgroups
    from assessor_checks.fairness._refusal import advice

    positive = _rates.favourable(subject.task, subject.classes, params.positive, needed=params.rate != "accuracy")
    counted = _rates.tally(subject.parts("test"), params.attributes, positive=positive)
    unfit = counted.unfit
    if len(counted.attributes) < 2:
        raise NotApplicable(
            "only one sensitive attribute can be compared, so there is nothing to combine; use fairness.group_metrics"
            f"{'. ' + ' '.join(unfit) if unfit else ''}"
        )
    groups, outcomes = _rates.tallied_groups(counted, depth=params.depth)
    rate = _rates.rates_of(groups, outcomes, minimum=params.minimum_group)[params.rate]
    found = _subgroups.compare_subgroups(
        groups,
        rate,
        minimum=params.minimum_group,
        confidence=params.confidence,
        permutations=params.permutations,
        rng=np.random.default_rng(seed),
    )
    short = _short(groups, rate, params)
    if found is None:
        raise NotApplicable(
            f"no subgroup has at least {params.minimum_group} rows behind {params.rate}. "
            f"{' '.join([*unfit, *short, advice()])}"
        )
    depths = np.array([_depth(name) for name in groups.attributes])
    alone = (
        []
        if (depths[found.group] > 1).any()
        else ["No combination of attributes has enough rows, so only single attributes were judged."]
    )
    rows, shrunken = _rows(groups, rate, found, params)
    return Result(
        metrics=_metrics(groups, found, shrunken, params, int(rate.cells.sum())),
        tables=(
            Table(
                name="subgroups",
                title=f"Subgroups beside all others, largest gap first, {params.confidence:.0%} intervals (of gaps "
                "simultaneous, of shrunken rates credible)",
                columns=("attributes", "subgroup", "n", "status", "rate", "low", "high", "shrunken",
                         "shrunken low", "shrunken high", "gap", "gap low", "gap high", "p_max_t", "p_holm"),
                rows=rows[:_SHOWN],
            ),
        ),
        remarks=(
            *([] if params.rate == "accuracy" else
              [f"Favourable decision: predicted class '{subject.classes[positive]}'."]),
            *unfit,
            *short,
            *alone,
            _power_sentence(groups, rate, found, params),
        ),
        doubt=" ".join([*unfit, *alone]) or None,
    )  # fmt: skip


def _depth(attributes: str) -> int:
    from assessor_checks._groups import JOINT

    return attributes.count(JOINT) + 1


def _short(groups: Groups, rate: Rate, params: IntersectionalParams) -> list[str]:
    """Names the subgroups with too few rows, those of fewest attributes first."""
    import numpy as np

    small = np.flatnonzero(rate.trials < params.minimum_group)
    listed = [f"{groups.attributes[i]}: {groups.names[i]} ({rate.trials[i]})" for i in small]
    more = len(listed) - _NAMED
    if not listed:
        return []
    return [
        f"Insufficient data, not judged (fewer than {params.minimum_group} rows behind {params.rate}): "
        f"{', '.join(listed[:_NAMED])}{f' and {more} more' if more > 0 else ''}."
    ]


def _power_sentence(groups: Groups, rate: Rate, found: Subgroups, params: IntersectionalParams) -> str:
    import numpy as np

    from assessor_checks.fairness._power import POWER, detectable_difference

    total = int(rate.cells.sum())
    share = float((found.rate * found.share)[0] + (found.rest * (1 - found.share))[0])
    sizes = rate.trials[found.group]
    place = int(sizes.argmin())
    n, group = int(sizes[place]), found.group[place]
    seen = detectable_difference(share, n, total - n, found.critical)
    size = f"about {seen:.2f}" if np.isfinite(seen) else "1"
    return (
        f"{len(found.group)} subgroups are judged together. With these sizes a gap in {params.rate} under {size} "
        f"cannot be seen reliably (power under {POWER:.0%}) in the smallest of them ({groups.attributes[group]}: "
        f"{groups.names[group]}, n = {n})."
    )


def _rows(
    groups: Groups, rate: Rate, found: Subgroups, params: IntersectionalParams
) -> tuple[tuple[tuple[Cell, ...], ...], float | None]:
    """Rows of the table, judged subgroups first, and the largest shrunken gap to everybody's rate."""
    import numpy as np

    from assessor_checks._intervals import wilson
    from assessor_checks.fairness._subgroups import shrunken

    families = np.array(groups.attributes)
    pulled = np.full((len(families), 3), np.nan)
    for family in groups.families:
        own = families == family
        if (fit := shrunken(rate.hits[own], rate.trials[own], params.confidence)) is not None:
            pulled[own] = np.stack([fit.rate, fit.low, fit.high], axis=1)
    judged = {int(group): place for place, group in enumerate(found.group)}
    order = [int(found.group[place]) for place in np.argsort(-np.abs(found.gap), kind="stable")]
    rows: list[tuple[Cell, ...]] = []
    for group in [*order, *(index for index in range(len(families)) if index not in judged)]:
        hits, n = int(rate.hits[group]), int(rate.trials[group])
        own = wilson(hits, n, params.confidence) if group in judged else (None,) * 3
        status = "judged" if group in judged else "insufficient data" if n < params.minimum_group else "all rows"
        soft = [float(value) if np.isfinite(value) else None for value in pulled[group]]
        gap: tuple[float | None, ...] = (None,) * 5
        if group in judged:
            place = judged[group]
            columns = (found.gap, found.low, found.high, found.p_max_t, found.p_holm)
            gap = tuple(float(column[place]) for column in columns)
        rows.append((groups.attributes[group], groups.names[group], n, status, *own, *soft, *gap))
    overall = float((found.rate * found.share)[0] + (found.rest * (1 - found.share))[0])
    known = pulled[found.group, 0]
    known = known[np.isfinite(known)]
    return tuple(rows), float(np.abs(known - overall).max()) if len(known) else None


def _metrics(
    groups: Groups, found: Subgroups, shrunken: float | None, params: IntersectionalParams, n: int
) -> tuple[Metric, ...]:
    import numpy as np

    p_value = float(found.p_max_t.min())
    seen = p_value <= 1 - params.confidence
    how = (
        f"{len(found.group)} subgroups of up to {min(params.depth, len(groups.families))} attributes; Newcombe score "
        f"limits, the end nearer 0 simultaneous over all subgroups (max-|t|, z = {found.critical:.2f}) and 0 unless "
        "the permutation max-T test rejects parity, the far end unadjusted (intersection-union)"
    )
    weight = found.share * (1 - found.share)
    metrics = []
    for name, scale, said in (
        ("worst_subgroup_gap", np.ones(len(weight)), f"largest |{params.rate} of a subgroup - of all other rows|"),
        ("weighted_subgroup_gap", weight, f"largest share of rows times |{params.rate} of a subgroup - of all rows|"),
    ):
        near = np.maximum(np.maximum(found.low, -found.high), 0) * scale
        far = np.maximum(np.abs(found.single_low), np.abs(found.single_high)) * scale
        value = float((np.abs(found.gap) * scale).max())
        metrics.append(
            Metric(
                name=name,
                value=value,
                low=min(value, float(near.max())) if seen else 0.0,
                high=max(value, float(far.max())),
                confidence=params.confidence,
                n=n,
                better=Better.LOWER,
                method=f"{said} over {how}",
                primary=name == "worst_subgroup_gap",
            )
        )
    if shrunken is not None:
        metrics.append(
            Metric(
                name="shrunken_subgroup_gap",
                value=shrunken,
                n=n,
                better=Better.LOWER,
                method=(
                    f"largest |shrunken {params.rate} of a judged subgroup - rate of all rows|; rates of each set of "
                    "attributes pulled towards their mean as far as chance explains their spread (beta-binomial "
                    "empirical Bayes); no interval"
                ),
            )
        )
    metrics.append(
        Metric(
            name="subgroup_parity_p_value",
            value=p_value,
            n=n,
            better=Better.HIGHER,
            method=(
                f"permutation max-T test over {len(found.group)} subgroups ({params.permutations} permutations of the "
                "outcomes among the rows that could count; pooled variance); large values do not prove parity"
            ),
        )
    )
    return tuple(metrics)


def plot(result: Result, axes: Axes) -> None:
    """Raw and shrunken rate of the subgroups with the largest gaps, raw ones with their Wilson interval.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    from matplotlib.figure import Figure

    table = result.tables[0]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    rows = [row for row in rows if row["status"] == "judged"][:20]
    for place, row in enumerate(rows):
        axes.plot([float(row["low"] or 0), float(row["high"] or 0)], [place] * 2, "-", color="0.4", linewidth=1)
        axes.plot([float(row["rate"] or 0)], [place], "o", color="black", label="raw" if place == 0 else None)
        if row["shrunken"] is not None:
            axes.plot([float(row["shrunken"])], [place], "x", color="0.4")
    axes.plot([], [], "x", color="0.4", label="shrunken")
    axes.set_yticks(range(len(rows)), [f"{row['attributes']}: {row['subgroup']} (n = {row['n']})" for row in rows])
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -2.2), xlabel="rate of the subgroup, with interval", ylabel="subgroup")
    axes.legend(loc="upper center", ncols=2, frameon=False)
    if isinstance(axes.figure, Figure):
        axes.figure.set_figheight(max(2.2, 1.0 + 0.25 * len(rows)))


def weakness(subject: Subject, params: IntersectionalParams, seed: int) -> Weakness:
    """The subgroup whose rate lies farthest from that of all other people.

    Args:
        subject: What was measured.
        params: As it was measured.
        seed: As it was measured.

    Returns:
        The subgroup and the rate.
    """
    from assessor_checks._groups import conditions_of
    from assessor_checks._rates import favourable

    table = measure(subject, params, seed).tables[0]
    worst = dict(zip(table.columns, table.rows[0], strict=True))
    where = conditions_of(str(worst["attributes"]), str(worst["subgroup"]))
    positive = favourable(subject.task, subject.classes, params.positive, needed=params.rate != "accuracy")
    group = " and ".join(condition.told for condition in where)
    told = f"{group}: {params.rate} differs by {worst['gap']:.3g} from that of all other rows"
    chosen = None if params.rate == "accuracy" else subject.classes[positive]
    return Weakness(told=told, where=where, compared=params.rate, positive=chosen)


CHECK = Check(info=INFO, params=IntersectionalParams, measure=measure, plot=plot, weakness=weakness, rows=of_test)
