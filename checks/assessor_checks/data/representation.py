"""Does every class and group have its wanted share of the data, and enough rows to learn from or to test on?"""

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
    Params,
    Result,
    Subject,
    Table,
    Task,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.data._representation import Cells, Columns, Group

_MOST_CELLS = 20_000
_SHOWN = 60
INFO = CheckInfo(
    id="data.representation",
    version="1",
    title="Representation of classes and groups in the data",
    measures=(
        "The share of every class and group in the training and test data over the share it should have, the group "
        "with the fewest rows, and how many combinations of groups and classes have enough rows; the worst counts."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "The shares are only as good as the wanted shares that were declared; without them groups are compared with "
        "equal shares, which may not be what the field of use looks like.",
        "A group with its full share may still be represented by untypical or wrongly labelled rows.",
        "Only recorded attributes are seen, and only values that were declared or occur can be missed.",
        "Intervals take the rows as independent; several rows of one person make them too narrow.",
        "With few rows a lack stays unseen: the remarks say from which ratio on it would show.",
    ),
    remedy=(
        "Collect more rows of the groups and combinations at the top of the table, from the place where they occur; "
        "weighting or copying rows makes shares right but adds no information, see effective_sample_share."
    ),
    source=(
        "Clopper and Pearson 1934; Berger 1982, Technometrics 24:295 (smallest of many); Kish 1965 (effective sample "
        "size); Hope 1968, JRSS B 30:582 (simulated exact test); Holm 1979"
    ),
    requirements=("RE-R-SC-ME-02", "RE-R-SC-ME-05", "FN-R-FN-ME-01", "FN-R-FN-ME-05"),
)


def _adds_up(shares: Mapping[str, float]) -> Mapping[str, float]:
    if sum(shares.values()) > 1 + 1e-6:
        raise ValueError(f"the wanted shares sum to {sum(shares.values()):.4g}, wanted at most 1")
    return shares


Shares = Annotated[Mapping[str, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1), AfterValidator(_adds_up)]


class RepresentationParams(Params):
    """What the user may set."""

    reference: Mapping[str, Shares] = Field(
        default_factory=dict, description="Wanted share of each value, by sensitive attribute"
    )
    classes: Shares | None = Field(default=None, description="Wanted share of each class")
    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive columns to look at; all when not given"
    )
    splits: tuple[Literal["train", "test"], ...] | None = Field(
        default=None, min_length=1, description="Splits to look at; train and test when not given"
    )
    enough: int = Field(default=30, ge=1, description="Fewest rows with which a combination of groups is covered")
    impossible: tuple[Mapping[str, str], ...] = Field(
        default=(), description="Combinations that do not occur, as attribute: value; the class is called 'label'"
    )
    simulations: int = Field(default=9999, ge=99, le=1_000_000, description="Simulated data sets behind a p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: RepresentationParams, seed: int) -> Result:
    """Ratios to wanted shares, counts of groups and coverage of combinations, the worst over all splits.

    Args:
        subject: With classes, sensitive attributes or both.
        params: Wanted shares, attributes, splits, what is enough.
        seed: Seed of the simulated test.

    Returns:
        Six metrics (fewer where combinations cannot be counted), a table of groups and one of uncovered combinations.

    Raises:
        NotApplicable: There are no groups to look at, or a parameter names what is not there.
    """
    from assessor_checks.data import _representation as maths

    splits = dict.fromkeys(params.splits or [name for name in ("train", "test") if name in subject.splits])
    strict = bool(params.attributes) or not (params.reference or params.classes)
    columns = maths.columns_of(subject, list(splits), params.attributes, params.reference, strict=strict)
    if not columns.domain:
        raise NotApplicable("there are neither classes nor sensitive attributes whose shares could be looked at")
    declared = {**params.reference, **({maths.LABEL: params.classes} if params.classes else {})}
    wanted = maths.wanted_shares(columns, declared)
    groups = maths.counted(columns, wanted)
    judged = [group for group in groups if group.wanted is not None]
    if not judged:
        raise NotApplicable(" ".join([*columns.doubts, *wanted.alone]))
    cells, uncounted = _cells(columns, params)
    return Result(
        metrics=(
            *_ratios(judged, params),
            *_sizes(groups, judged),
            *_covered(cells, params),
            _tested(judged, params, seed),
        ),
        tables=(_table(groups, params), *_gaps(cells, list(columns.domain), params)),
        remarks=(*columns.remarks, *wanted.remarks, *uncounted, *_power(judged, params)),
        doubt=" ".join([*columns.doubts, *wanted.alone]) or None,
    )


def _cells(columns: Columns, params: RepresentationParams) -> tuple[dict[str, Cells], list[str]]:
    """Rows in every combination of groups, by split, or why they are not counted."""
    import math

    from assessor_checks.data import _representation as maths

    domain = list(columns.domain.items())
    if math.prod(len(groups) for _, groups in domain) > _MOST_CELLS:
        return {}, [f"Combinations are not counted: there are more than {_MOST_CELLS}; name fewer attributes."]
    if any(name not in own for own in columns.values.values() for name, _ in domain):
        return {}, ["Combinations are not counted, since not every split records all attributes."]
    for rule in params.impossible:
        for name, value in rule.items():
            if name not in columns.domain or value not in columns.domain[name]:
                raise NotApplicable(f"impossible: no value '{value}' of '{name}'")

    def impossible(place: tuple[str, ...]) -> bool:
        named = dict(zip(columns.domain, place, strict=True))
        return any(all(named[name] == value for name, value in rule.items()) for rule in params.impossible)

    groups = [names for _, names in domain]
    return {
        split: maths.count_cells([own[name] for name, _ in domain], groups, impossible)
        for split, own in columns.values.items()
    }, []


def _ratios(judged: list[Group], params: RepresentationParams) -> list[Metric]:
    from assessor_checks.data import _representation as maths

    def interval(index: int, confidence: float) -> Estimate:
        group = judged[index]
        assert group.wanted is not None
        return maths.ratio(group.hits, group.n, group.wanted, confidence)

    metrics = []
    for name, largest in (("smallest_ratio", False), ("largest_ratio", True)):
        found = maths.extreme(interval, len(judged), largest=largest, confidence=params.confidence)
        metrics.append(
            Metric(
                name=name,
                value=found.value,
                low=found.low,
                high=found.high,
                confidence=params.confidence,
                n=min(group.n for group in judged),
                better=Better.NONE if largest else Better.HIGHER,
                method=(
                    f"share over wanted share, the {'largest' if largest else 'smallest'} of {len(judged)}; "
                    "Clopper-Pearson, the end nearer the other groups simultaneous (Bonferroni), the other plain"
                ),
                primary=not largest,
            )
        )
    return metrics


def _exact(name: str, value: float, n: int, method: str, unit: str = "1") -> Metric:
    """A count of the rows at hand: nothing is estimated, so the interval is the value itself."""
    return Metric(
        name=name, value=value, low=value, high=value, unit=unit, n=n, better=Better.HIGHER, method=f"{method}; exact"
    )


def _sizes(groups: list[Group], judged: list[Group]) -> list[Metric]:
    import numpy as np

    from assessor_checks.data._representation import effective_size

    effective = []
    for split, name in dict.fromkeys((group.split, group.attribute) for group in judged):
        own = [group for group in judged if (group.split, group.attribute) == (split, name)]
        size = effective_size(np.array([x.hits for x in own]), np.array([x.wanted for x in own], dtype=np.float64))
        effective.append(size / own[0].n)
    n = min(group.n for group in groups)
    return [
        _exact(
            "smallest_group_rows", min(x.hits for x in groups), n, "rows of the smallest group of any split", "rows"
        ),
        _exact(
            "effective_sample_share",
            min(effective),
            n,
            "Kish's effective number of rows after weighting to the wanted shares, over the rows; the worst attribute",
        ),
    ]


def _covered(cells: dict[str, Cells], params: RepresentationParams) -> list[Metric]:
    shares = [
        (float((found.counts >= params.enough).mean()), len(found.names)) for found in cells.values() if found.names
    ]
    if not shares:
        return []
    value, count = min(shares)
    method = f"share of the combinations of groups with at least {params.enough} rows, the worst split"
    return [_exact("covered_cells", value, count, method)]


def _tested(judged: list[Group], params: RepresentationParams, seed: int) -> Metric:
    import numpy as np

    from assessor_checks._gaps import holm
    from assessor_checks.data._representation import multinomial_p

    p_values: list[float] = []
    for split, name in dict.fromkeys((group.split, group.attribute) for group in judged):
        own = [group for group in judged if (group.split, group.attribute) == (split, name)]
        counts, shares = np.array([x.hits for x in own]), np.array([x.wanted for x in own], dtype=np.float64)
        p_values.append(multinomial_p(counts, own[0].n, shares, params.simulations, seed + len(p_values)))
    return Metric(
        name="shares_p_value",
        value=min(holm(p_values)),
        n=min(group.n for group in judged),
        better=Better.HIGHER,
        method=(
            f"exact multinomial test of the wanted shares by {params.simulations} simulations, the smallest of "
            f"{len(p_values)} after Holm; with many rows small differences are significant too"
        ),
    )


def _power(judged: list[Group], params: RepresentationParams) -> list[str]:
    from assessor_checks.data._representation import POWER, detectable_ratio

    hardest = min(judged, key=lambda group: (group.wanted or 0) * group.n)
    assert hardest.wanted is not None
    ratio = detectable_ratio(hardest.wanted, hardest.n, len(judged), params.confidence)
    if not ratio:
        return [
            f"With {hardest.n} rows in the {hardest.split} split not even the complete lack of '{hardest.name}' "
            f"({hardest.attribute}) would show reliably (power {POWER:.0%})."
        ]
    return [
        f"With {hardest.n} rows in the {hardest.split} split a lack of '{hardest.name}' ({hardest.attribute}) shows "
        f"reliably (power {POWER:.0%}) when its ratio is {ratio:.2f} or less."
    ]


def _table(groups: list[Group], params: RepresentationParams) -> Table:
    """All groups, the one with the least ratio first; those that are only counted last."""
    from assessor_checks.data._representation import ratio, share

    rows: list[tuple[Cell, ...]] = []
    for group in sorted(groups, key=lambda x: (x.wanted is None, x.hits / x.n / (x.wanted or 1), x.hits)):
        found = share(group.hits, group.n, params.confidence)
        compared = ratio(group.hits, group.n, group.wanted, params.confidence) if group.wanted else (None,) * 3
        rows.append((group.split, group.attribute, group.name, group.hits, *found, group.wanted, *compared))
    title = f"Groups with {params.confidence:.0%} Clopper-Pearson intervals, the least ratio first"
    columns = (
        "split",
        "attribute",
        "group",
        "rows",
        "share",
        "low",
        "high",
        "wanted share",
        "ratio",
        "ratio low",
        "ratio high",
    )
    return Table(name="groups", title=title, columns=columns, rows=tuple(rows))


def _gaps(cells: dict[str, Cells], attributes: list[str], params: RepresentationParams) -> list[Table]:
    """Combinations with too few rows, emptiest first."""
    rows: list[tuple[Cell, ...]] = sorted(
        (int(count), split, *name)
        for split, found in cells.items()
        for name, count in zip(found.names, found.counts, strict=True)
        if count < params.enough
    )
    if not rows:
        return []
    title = f"Combinations with fewer than {params.enough} rows ({min(len(rows), _SHOWN)} of {len(rows)})"
    return [Table(name="uncovered", title=title, columns=("rows", "split", *attributes), rows=tuple(rows[:_SHOWN]))]


def plot(result: Result, axes: Axes) -> None:
    """Ratio to the wanted share with its interval, one line a group, the wanted ratio as a dashed line."""
    from matplotlib.figure import Figure

    rows = [row for row in result.tables[0].rows if row[8] is not None][:_SHOWN]
    for place, row in enumerate(rows):
        value, low, high = (float(cell) for cell in row[8:11] if cell is not None and not isinstance(cell, str))
        axes.plot([low, high], [place, place], color="0.6")
        axes.plot([value], [place], "o" if row[0] == "train" else "s", color="black")
    axes.axvline(1, linestyle="--", color="0.4")
    axes.set_yticks(range(len(rows)), [f"{row[1]}: {row[2]} ({row[0]})" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("share over wanted share, with interval")
    axes.set_ylabel("group and split")
    if isinstance(axes.figure, Figure):
        axes.figure.set_figheight(max(2.2, 0.6 + 0.15 * len(rows)))


CHECK = Check(info=INFO, params=RepresentationParams, measure=measure, plot=plot)
