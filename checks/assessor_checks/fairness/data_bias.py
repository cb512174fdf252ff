"""Do the data themselves treat groups differently: in labels, in missing values, in features that give them away?"""

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
    Split,
    Subject,
    Table,
    Task,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    from assessor_checks._gaps import Comparison
    from assessor_checks._groups import Groups
    from assessor_checks.fairness._data_bias import Missing, Proxy
    from assessor_checks.fairness._mean_gaps import MeanComparison

INFO = CheckInfo(
    id="fairness.data_bias",
    version="1",
    title="Differences between groups in the data",
    measures=(
        "Before any model: how far groups lie apart in their labels (share of the favourable class, or mean of the "
        "target), how large the smallest group is, whether values are missing more often in some groups, and which "
        "features depend on a sensitive attribute so strongly that they stand in for it."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.SENSITIVE}),
    tasks=frozenset(Task),
    limits=(
        "A difference in labels may be real or come from how people were labelled or selected; the data cannot tell.",
        "No difference in the data does not keep a model from making one.",
        "Features are looked at one by one; several together may give an attribute away though none does alone.",
        "How groups should be represented depends on the field of use; see data.representation.",
        "Attributes that were not recorded are not looked at.",
    ),
    remedy=(
        "Find out how labels, selection and gaps came about; collect more data of small groups, relabel, fill gaps at "
        "their source; leave out or transform features that stand in for an attribute where they are not needed."
    ),
    source=(
        "Newcombe 1998, Stat. Med. 17:873, method 10; Westfall and Young 1993 (permutation max-T); Holm 1979; "
        "proxies by distance correlation: Székely, Rizzo, Bakirov 2007, Annals of Statistics 35:2769, with the "
        "chi-square test of Shen, Panda, Vogelstein 2022, arXiv 1912.12150; kinds of bias: Suresh and Guttag 2021, "
        "arXiv 1901.10002"
    ),
    requirements=("FN-R-FN-ME-01",),
    instead=("fairness.individual_consistency",),
)
_SHOWN = 100
_DRAWN = 12  # of the strongest proxies
_MOST_MISSING = 50  # features with missing values that are tested


class DataBiasParams(Params):
    """What the user may set."""

    split: Literal["auto", "train", "test"] = Field(
        default="auto", description="Data looked at; auto takes the train split where it has sensitive attributes"
    )
    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive columns to look at; all when not given"
    )
    intersections: bool = Field(default=True, description="Also compare the full intersection of the attributes")
    positive: str | None = Field(
        default=None, description="Class that is the favourable label; a binary task's last class when not given"
    )
    minimum_group: int = Field(default=20, ge=5, description="Fewest rows of a group that is judged")
    permutations: int = Field(default=2000, ge=99, le=1_000_000, description="Permutations behind a p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: DataBiasParams, seed: int) -> Result:
    """Gaps between groups in labels and missing values, the smallest group, and features that stand in for attributes.

    Args:
        subject: With sensitive attributes; the model itself is not used.
        params: What the user set.
        seed: Seed of critical values and permutations.

    Returns:
        The gap in labels, the share of the smallest group, the strongest proxy, the gap in missing values, a p-value.

    Raises:
        NotApplicable: No two groups can be compared, or the split has no sensitive attributes.
    """
    import numpy as np

    from assessor_checks import _groups
    from assessor_checks._gaps import holm
    from assessor_checks.fairness._data_bias import proxies_of
    from assessor_checks.fairness._refusal import too_few_groups

    split, attributes = _split(subject, params)
    frame, unfit = _groups.comparable(attributes, params.attributes)
    groups = _groups.find_groups(frame, intersections=params.intersections)
    labels, said = _labels(subject, split, groups, params, seed)
    if labels is None:
        why = too_few_groups(groups, params.minimum_group)
        raise NotApplicable(
            f"no two groups of one attribute have {params.minimum_group} rows or more in the {split.name} split. "
            f"{' '.join([*unfit, why])}"
        )
    missing, how_missing = _missing(split, groups, params, np.random.default_rng([seed, 1]))
    proxies, how_proxies = proxies_of(
        subject, split, attributes, tuple(params.attributes or map(str, attributes.columns)),
        confidence=params.confidence, seed=seed,
    )  # fmt: skip
    tests = [("label", *test[:2]) for test in labels.tests]
    tests += [(f"missing {test[0]}", *test[1:3]) for test in missing.tests] if missing else []
    adjusted = holm([p for *_, p in tests])
    unjudged = [name for name in labels.unjudged if name in frame.columns]
    short = [f"Fewer than two groups have enough rows in: {', '.join(unjudged)}."] if unjudged else []
    return Result(
        metrics=(
            _label_metric(subject, labels, groups, params),
            _smallest(groups, tuple(frame.columns), params),
            *_proxy_metrics(proxies, params),
            *_missing_metrics(missing, labels.n, params),
            Metric(
                name="data_parity_p_value",
                value=min(adjusted),
                n=labels.n,
                better=Better.HIGHER,
                method=f"smallest of {len(tests)} permutation p-values of labels and of missing values "
                f"({params.permutations} permutations across groups), by attribute, after Holm; large values do not "
                "prove parity",
            ),
        ),
        tables=_tables(subject, split, groups, labels, missing, proxies, [(*t, q) for t, q in zip(
            tests, adjusted, strict=True)], params),
        remarks=(
            f"Looked at: the {split.name} split with {split.n} rows.",
            said,
            *unfit,
            *_groups.too_small(groups, params.minimum_group),
            *how_missing,
            *how_proxies,
        ),
        doubt=" ".join([*unfit, *short]) or None,
    )  # fmt: skip


def _split(subject: Subject, params: DataBiasParams) -> tuple[Split, pd.DataFrame]:
    names = ("train", "test") if params.split == "auto" else (params.split,)
    for name in names:
        split = subject.splits.get(name)
        if split is not None and split.n and split.attributes is not None:
            return split, split.attributes
    raise NotApplicable(f"there are no rows with sensitive attributes in: {', '.join(names)}")


def _labels(
    subject: Subject, split: Split, groups: Groups, params: DataBiasParams, seed: int
) -> tuple[Comparison | MeanComparison | None, str]:
    """Labels compared between groups, and a sentence on what is compared."""
    import numpy as np

    from assessor_checks import _gaps, _rates
    from assessor_checks.fairness import _mean_gaps

    rng = np.random.default_rng([seed, 0])
    if subject.task is Task.REGRESSION:
        found = _mean_gaps.compare_means(
            "label", groups, split.labels, minimum=params.minimum_group, confidence=params.confidence,
            permutations=params.permutations, rng=rng,
        )  # fmt: skip
        return found, f"The target's standard deviation is {float(split.labels.std()):.4g}."
    positive = _rates.favourable(subject.task, subject.classes, params.positive, needed=True)
    rates = _rates.count_rates(groups, split.labels, split.labels, positive=positive, minimum=params.minimum_group)
    compared = _gaps.compare(
        "demographic_parity_difference", groups, rates, params.confidence, params.permutations, rng
    )
    return compared, f"Favourable label: class '{subject.classes[positive]}'."


def _missing(
    split: Split, groups: Groups, params: DataBiasParams, rng: np.random.Generator
) -> tuple[Missing | None, list[str]]:
    """Missing values compared between groups, and a sentence on them."""
    import numpy as np

    from assessor_checks.fairness._data_bias import missing_values, name_of

    if split.features is None or split.features.ndim != 2:
        return None, ["There is no table of features, so missing values and proxies are not looked at."]
    gone = np.isnan(split.features) if split.features.dtype.kind == "f" else np.zeros(split.features.shape, dtype=bool)
    counts = gone.sum(axis=0)
    columns = np.argsort(-counts, kind="stable")[: min(_MOST_MISSING, int((counts > 0).sum()))]
    if not len(columns):
        return None, ["No value of a feature is missing."]
    found = missing_values(
        groups, gone[:, columns], [name_of(split, column) for column in columns], minimum=params.minimum_group,
        confidence=params.confidence, permutations=params.permutations, rng=rng,
    )  # fmt: skip
    return found, [f"Features with missing values: {int((counts > 0).sum())}; tested: {len(columns)}."]


def _label_metric(
    subject: Subject, labels: Comparison | MeanComparison, groups: Groups, params: DataBiasParams
) -> Metric:
    regression = subject.task is Task.REGRESSION
    return Metric(
        name="label_mean_difference" if regression else "label_rate_difference",
        value=labels.gap.value,
        low=labels.gap.low,
        high=labels.gap.high,
        confidence=params.confidence,
        unit="units of the target" if regression else "1",
        n=labels.n,
        better=Better.LOWER,
        method=(
            f"largest absolute difference over {len(labels.pairs)} pairs of groups of the same attribute "
            f"({', '.join(groups.families)}) in the "
            f"{'mean of the target; Welch' if regression else 'share of the favourable label; Newcombe score'} limits, "
            f"the end nearer parity simultaneous over all pairs (max-|t|, {labels.gap.critical:.2f}), the far end "
            "unadjusted (intersection-union)"
        ),
        primary=True,
    )


def _smallest(groups: Groups, attributes: tuple[str, ...], params: DataBiasParams) -> Metric:
    import numpy as np

    from assessor_checks._intervals import clopper_pearson

    alone = np.isin(groups.attributes, attributes)
    sizes = (groups.members @ np.bincount(groups.cells, minlength=groups.members.shape[1]))[alone]
    value, low, high = clopper_pearson(int(sizes.min()), len(groups.cells), params.confidence)
    return Metric(
        name="smallest_group_share",
        value=value,
        low=low,
        high=high,
        confidence=params.confidence,
        n=len(groups.cells),
        better=Better.HIGHER,
        method="share of rows of the smallest group of any one attribute; Clopper-Pearson, not adjusted for the choice",
    )


def _proxy_metrics(proxies: list[Proxy], params: DataBiasParams) -> tuple[Metric, ...]:
    if not proxies:
        return ()
    value = proxies[0].estimate.value
    return (
        Metric(
            name="strongest_proxy",
            value=value,
            low=min(value, max(proxy.adjusted_low for proxy in proxies)),
            high=max(proxy.estimate.high for proxy in proxies),
            confidence=params.confidence,
            n=max(proxy.n for proxy in proxies),
            better=Better.LOWER,
            method=(
                f"largest distance correlation (bias-corrected) between a feature and a sensitive attribute, over "
                f"{len(proxies)} pairs; low end from limits adjusted for their number (Bonferroni) and 0 unless the "
                "chi-square test of distance correlation rejects, high end unadjusted (intersection-union)"
            ),
        ),
    )


def _missing_metrics(missing: Missing | None, n: int, params: DataBiasParams) -> tuple[Metric, ...]:
    if missing is None:
        return ()
    return (
        Metric(
            name="missingness_difference",
            value=missing.gap.value,
            low=missing.gap.low,
            high=missing.gap.high,
            confidence=params.confidence,
            n=n,
            better=Better.LOWER,
            method=(
                f"largest absolute difference in the share of missing values of one feature, over {len(missing.pairs)} "
                "pairs of groups and features; Newcombe score limits, the end nearer parity simultaneous over all "
                f"(max-|t|, z = {missing.gap.critical:.2f}), the far end unadjusted (intersection-union)"
            ),
        ),
    )


def _tables(
    subject: Subject,
    split: Split,
    groups: Groups,
    labels: Comparison | MeanComparison,
    missing: Missing | None,
    proxies: list[Proxy],
    tests: list[tuple[str, str, float, float]],
    params: DataBiasParams,
) -> tuple[Table, ...]:
    from assessor_checks.fairness._data_bias import missing_table, proxy_table

    tables = [
        _group_table(subject, split, groups, params),
        Table(
            name="label_pairs",
            title=f"Differences of labels first minus second, largest first, simultaneous {params.confidence:.0%} "
            "intervals",
            columns=("attribute", "first", "second", "difference", "low", "high"),
            rows=tuple(
                (groups.attributes[x.first], groups.names[x.first], groups.names[x.second], *x[3:])
                for x in labels.pairs[:_SHOWN]
            ),
        ),
        Table(
            name="parity_tests",
            title="Permutation tests of parity in the data",
            columns=("compared", "attribute", "p_value", "p_holm"),
            rows=tuple(tests[:_SHOWN]),
        ),
    ]
    if proxies:
        tables.append(proxy_table(proxies[:_SHOWN], params.confidence))
    if missing:
        tables.append(missing_table(missing, groups, params.confidence, most=_SHOWN))
    return tuple(tables)


def _group_table(subject: Subject, split: Split, groups: Groups, params: DataBiasParams) -> Table:
    """Size and labels of every group."""
    from assessor_checks import _rates
    from assessor_checks._intervals import wilson

    regression = subject.task is Task.REGRESSION
    positive = -1 if regression else _rates.favourable(subject.task, subject.classes, params.positive, needed=True)
    rows: list[tuple[Cell, ...]] = []
    for index, (attribute, name) in enumerate(zip(groups.attributes, groups.names, strict=True)):
        inside = groups.members[index][groups.cells]
        n, own = int(inside.sum()), split.labels[inside]
        label: tuple[float | None, ...] = (None,) * 3
        if n >= params.minimum_group:
            hits = int((own == positive).sum())
            label = (float(own.mean()), None, None) if regression else wilson(hits, n, params.confidence)
        status = "judged" if n >= params.minimum_group else "insufficient data"
        rows.append((attribute, name, n, n / split.n, status, *label))
    return Table(
        name="groups",
        title=f"Size and {'mean target' if regression else 'share of the favourable label'} of every group",
        columns=("attribute", "group", "n", "share", "status", "label", "low", "high"),
        rows=tuple(rows),
    )


def plot(result: Result, axes: Axes) -> None:
    """The strongest proxies: dependence of features on the attributes beside that on the label.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    from matplotlib.figure import Figure

    table = next((table for table in result.tables if table.name == "proxies"), None)
    if table is None:
        rows = [dict(zip(result.tables[0].columns, row, strict=True)) for row in result.tables[0].rows]
        rows = [row for row in rows if row["label"] is not None]
        axes.plot([float(row["label"] or 0) for row in rows], range(len(rows)), "o", color="black")
        axes.set_yticks(range(len(rows)), [f"{row['group']} (n = {row['n']})" for row in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="label: share of the favourable class, or mean", ylabel="group")
        return
    shown = [dict(zip(table.columns, row, strict=True)) for row in table.rows[:_DRAWN]]
    for place, row in enumerate(shown):
        axes.plot([float(row["low"] or 0), float(row["high"] or 0)], [place] * 2, "-", color="0.4", linewidth=1)
        first = place == 0
        axes.plot([float(row["with the attribute"] or 0)], [place], "o", color="black",
                  label="with the attribute" if first else None)  # fmt: skip
        if row["with the label"] is not None:
            axes.plot([float(row["with the label"])], [place], "x", color="0.4",
                      label="with the label" if first else None)  # fmt: skip
    axes.set_yticks(range(len(shown)), [f"{row['feature']}, {row['attribute']}" for row in shown])
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5), xlabel="distance correlation", ylabel="feature, attribute")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    if isinstance(axes.figure, Figure):
        axes.figure.set_figheight(max(2.2, 1.0 + 0.2 * len(shown)))


CHECK = Check(info=INFO, params=DataBiasParams, measure=measure, plot=plot)
