"""Are predicted quantities equally right, and equally distributed, for different groups of people?"""

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
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._groups import Groups
    from assessor_checks.fairness._distribution_gaps import DistributionComparison
    from assessor_checks.fairness._mean_gaps import MeanComparison

INFO = CheckInfo(
    id="fairness.regression_parity",
    version="1",
    title="Group fairness of predicted quantities",
    measures=(
        "How far groups lie apart in the mean error (who is predicted too high or too low), in the mean absolute error "
        "(for whom the model is less exact) and in the distribution of the predictions; for each sensitive attribute "
        "and their intersection the worst pair of groups counts."
    ),
    unit="units of the target",
    needs=frozenset({Need.TEST, Need.SENSITIVE}),
    tasks=frozenset({Task.REGRESSION}),
    limits=(
        "The observed target may be biased itself; equal errors against a biased target are not fair.",
        "Different predictions for groups may be right; only the errors say whether they are.",
        "Equal means hide unequal spreads and unequal errors for low and high values; see the distances of "
        "distributions and the table of groups.",
        "Groups under the minimum size are not judged, and gaps below the detectable size stated here go unseen.",
        "The value is the largest of many differences and so tends to exceed the true one; the interval allows for it.",
    ),
    remedy=(
        "Look up the worst pair in the table of pairs; collect more data of that group, look for features that mean "
        "something else there, retrain with weights or a fairness constraint; then measure again on fresh data."
    ),
    source=(
        "Agarwal, Dudík, Wu 2019 (arXiv 1905.12843), sections 2 and 3 (statistical parity as Kolmogorov distance, "
        "bounded group loss); Games and Howell 1976, J. Educ. Statistics 1:113; Westfall and Young 1993 "
        "(permutation max-T); Massart 1990, Annals of Probability 18:1269; Holm 1979"
    ),
    requirements=("FN-R-FN-ME-05", "FN-R-FN-OA"),
    instead=(
        "fairness.group_metrics",
        "fairness.individual_consistency",
    ),
)
_PAIRS_SHOWN = 100
_MEANS = {
    "mean_error_difference": "mean error (prediction minus true value)",
    "mae_difference": "mean absolute error",
}


class RegressionParityParams(Params):
    """What the user may set."""

    metric: Literal["mean_error_difference", "mae_difference", "prediction_kolmogorov_distance"] = Field(
        default="mean_error_difference", description="Metric that a target without a name means"
    )
    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive columns to compare; all when not given"
    )
    intersections: bool = Field(default=True, description="Also compare the full intersection of the attributes")
    minimum_group: int = Field(default=20, ge=5, description="Fewest rows of a group that is judged")
    permutations: int = Field(default=999, ge=99, le=100_000, description="Permutations behind a p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: RegressionParityParams, seed: int) -> Result:
    """Gaps between groups in errors and predictions, with intervals and permutation tests.

    Args:
        subject: Regression with sensitive attributes.
        params: What the user set.
        seed: Seed of critical values and permutations.

    Returns:
        Four metrics, and the p-value of parity in the chosen one and in all.

    Raises:
        NotApplicable: No two groups can be compared, or values are not finite.
    """
    import numpy as np

    from assessor_checks import _groups
    from assessor_checks._gaps import holm
    from assessor_checks.fairness import _distribution_gaps, _mean_gaps
    from assessor_checks.fairness._refusal import too_few_groups

    split = subject.splits["test"]
    if split.attributes is None or split.n == 0:
        raise NotApplicable("the test split has no rows with sensitive attributes")
    predicted = np.asarray(subject.predictions("test"), dtype=np.float64)
    if wrong := int((~np.isfinite(predicted) | ~np.isfinite(split.labels)).sum()):
        raise NotApplicable(f"prediction or true value is not finite for {wrong} of {split.n} rows of the test split")
    frame, unfit = _groups.comparable(split.attributes, params.attributes)
    groups = _groups.find_groups(frame, intersections=params.intersections)
    errors = predicted - split.labels
    means = {
        name: _mean_gaps.compare_means(
            name,
            groups,
            values,
            minimum=params.minimum_group,
            confidence=params.confidence,
            permutations=params.permutations,
            rng=np.random.default_rng([seed, index]),
        )
        for index, (name, values) in enumerate(zip(_MEANS, (errors, np.abs(errors)), strict=True))
    }
    spread = _distribution_gaps.compare_distributions(
        groups,
        predicted,
        minimum=params.minimum_group,
        confidence=params.confidence,
        permutations=params.permutations,
        rng=np.random.default_rng([seed, 2]),
    )
    short = _groups.too_small(groups, params.minimum_group)
    if spread is None:
        why = too_few_groups(groups, params.minimum_group)
        raise NotApplicable(
            f"no two groups of one attribute have {params.minimum_group} rows or more. {' '.join([*unfit, why])}"
        )
    found = {name: item for name, item in means.items() if item is not None}
    tests = [(name, *test) for name, item in found.items() for test in item.tests]
    tests += [("prediction_kolmogorov_distance", *test) for test in spread.tests]
    adjusted = holm([test[2] for test in tests])
    unjudged = [name for name in spread.unjudged if name in frame.columns]
    missing = [f"Fewer than two groups have enough rows in: {', '.join(unjudged)}."] if unjudged else []
    return Result(
        metrics=(
            *(_mean_metric(item, groups, params) for item in found.values()),
            *_distribution_metrics(spread, params),
            *_p_values(tests, adjusted, params, spread.n),
        ),
        tables=_tables(groups, predicted, split.labels, found, spread, list(zip(tests, adjusted, strict=True)), params),
        remarks=(
            *unfit,
            *short,
            *(_power_sentence(groups, values, found[name], name, params) for name, values in
              zip(_MEANS, (errors, np.abs(errors)), strict=True)),
        ),
        doubt=" ".join([*unfit, *missing]) or None,
    )  # fmt: skip


def _power_sentence(
    groups: Groups, values: np.ndarray, item: MeanComparison, name: str, params: RegressionParityParams
) -> str:
    """Which differences the smallest pair of groups could show."""
    import numpy as np

    from assessor_checks.fairness._power import POWER, detectable_shift

    sizes = groups.members @ np.bincount(groups.cells, minlength=groups.members.shape[1])
    worst = max(item.pairs, key=lambda pair: 1 / sizes[pair.first] + 1 / sizes[pair.second])
    n, m = int(sizes[worst.first]), int(sizes[worst.second])
    gap = detectable_shift(n, m, item.gap.critical) * float(values.std())
    names = f"{groups.attributes[worst.first]}: {groups.names[worst.first]} and {groups.names[worst.second]}"
    return (
        f"With these group sizes a {name} under about {gap:.3g} cannot be seen reliably (power under {POWER:.0%}) "
        f"between the smallest groups compared ({names}, n = {n} and {m})."
    )


def _mean_metric(item: MeanComparison, groups: Groups, params: RegressionParityParams) -> Metric:
    return Metric(
        name=item.name,
        value=item.gap.value,
        low=item.gap.low,
        high=item.gap.high,
        confidence=params.confidence,
        unit=INFO.unit,
        n=item.n,
        better=Better.LOWER,
        method=(
            f"largest absolute difference over {len(item.pairs)} pairs of groups of the same attribute "
            f"({', '.join(groups.families)}) in the {_MEANS[item.name]}; Welch limits, the end nearer parity "
            f"simultaneous over all pairs (max-|t|, t = {item.gap.critical:.2f}) and 0 unless the permutation test "
            "rejects parity, the far end unadjusted (intersection-union)"
        ),
        primary=item.name == params.metric,
    )


def _distribution_metrics(spread: DistributionComparison, params: RegressionParityParams) -> tuple[Metric, Metric]:
    return (
        Metric(
            name="prediction_kolmogorov_distance",
            value=spread.kolmogorov,
            low=spread.low,
            high=spread.high,
            confidence=params.confidence,
            n=spread.n,
            better=Better.LOWER,
            method=(
                f"largest difference between two groups in the share of predictions under any one value, over "
                f"{len(spread.pairs)} pairs; limits from Dvoretzky-Kiefer-Wolfowitz bands, all groups' together for "
                "the low end"
            ),
            primary=params.metric == "prediction_kolmogorov_distance",
        ),
        Metric(
            name="prediction_wasserstein_distance",
            value=spread.wasserstein,
            unit=INFO.unit,
            n=spread.n,
            better=Better.LOWER,
            method=(
                f"mean distance by which predictions of one group must be moved to be distributed as those of the "
                f"other, largest over {len(spread.pairs)} pairs; above 0 also under parity, no interval"
            ),
        ),
    )


def _p_values(
    tests: list[tuple[str, str, float, float]], adjusted: tuple[float, ...], params: RegressionParityParams, n: int
) -> tuple[Metric, Metric]:
    how = f"{params.permutations} permutations of the values across groups"
    return (
        Metric(
            name="parity_p_value",
            value=min(test[3] for test in tests if test[0] == params.metric),
            n=n,
            better=Better.HIGHER,
            method=f"permutation max-T test of {params.metric} ({how}), smallest p-value after Holm over attributes; "
            "large values do not prove parity",
        ),
        Metric(
            name="all_parity_p_value",
            value=min(adjusted),
            n=n,
            better=Better.HIGHER,
            method=f"the smallest of {len(tests)} p-values, of all metrics and attributes, after Holm; each from a "
            f"permutation max-T test ({how}); large values do not prove parity",
        ),
    )


def _tables(
    groups: Groups,
    predicted: np.ndarray,
    labels: np.ndarray,
    found: Mapping[str, MeanComparison],
    spread: DistributionComparison,
    tests: list[tuple[tuple[str, str, float, float], float]],
    params: RegressionParityParams,
) -> tuple[Table, ...]:
    pairs = [pair for item in found.values() for pair in item.pairs[:_PAIRS_SHOWN]]
    return (
        _group_table(groups, predicted, labels, params),
        Table(
            name="pairs",
            title=f"Differences first minus second, largest first, simultaneous {params.confidence:.0%} intervals",
            columns=("attribute", "first", "second", "metric", "difference", "low", "high"),
            rows=tuple(
                (groups.attributes[x.first], groups.names[x.first], groups.names[x.second], x.rate, *x[3:])
                for x in pairs
            ),
        ),
        Table(
            name="distributions",
            title="Distances between the distributions of predictions, largest first",
            columns=("attribute", "first", "second", "Kolmogorov distance", "Wasserstein distance"),
            rows=tuple(
                (groups.attributes[x.first], groups.names[x.first], groups.names[x.second], *x[2:])
                for x in spread.pairs[:_PAIRS_SHOWN]
            ),
        ),
        Table(
            name="parity_tests",
            title="Permutation tests of parity",
            columns=("metric", "attribute", "p_value", "p_holm", "p_holm_all"),
            rows=tuple((*test, everywhere) for test, everywhere in tests),
        ),
    )


def _group_table(groups: Groups, predicted: np.ndarray, labels: np.ndarray, params: RegressionParityParams) -> Table:
    import numpy as np
    from scipy.special import stdtrit

    rows: list[tuple[Cell, ...]] = []
    for index, (attribute, name) in enumerate(zip(groups.attributes, groups.names, strict=True)):
        inside = groups.members[index][groups.cells]
        n, errors = int(inside.sum()), (predicted - labels)[inside]
        if n < params.minimum_group:
            rows.append((attribute, name, n, "insufficient data", *(None,) * 6))
            continue
        half = float(stdtrit(n - 1, (1 + params.confidence) / 2) * errors.std(ddof=1) / np.sqrt(n))
        mean = float(errors.mean())
        others = (np.abs(errors).mean(), predicted[inside].mean(), labels[inside].mean())
        rows.append((attribute, name, n, "judged", mean, mean - half, mean + half, *map(float, others)))
    return Table(
        name="groups",
        title=f"Errors (prediction minus true value) by group with {params.confidence:.0%} t intervals",
        columns=("attribute", "group", "n", "status", "mean error", "low", "high", "mean absolute error",
                 "mean prediction", "mean true value"),
        rows=tuple(rows),
    )  # fmt: skip


def plot(result: Result, axes: Axes) -> None:
    """Mean error of every judged group with its interval.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    table = result.tables[0]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    rows = [row for row in rows if row["mean error"] is not None]
    axes.axvline(0, linestyle="--", color="0.6")
    for place, row in enumerate(rows):
        low, value, high = (float(row[name] or 0.0) for name in ("low", "mean error", "high"))
        axes.plot([low, high], [place, place], "-", color="0.4", linewidth=1)
        axes.plot([value], [place], "o", color="black")
    axes.set_yticks(range(len(rows)), [f"{row['group']} (n = {row['n']})" for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="mean error, prediction minus true value", ylabel="group")


CHECK = Check(info=INFO, params=RegressionParityParams, measure=measure, plot=plot, rows=of_test)
