"""Are people who are alike treated alike?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    Series,
    Subject,
    Table,
    Task,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.fairness._neighbours import Deviation, Neighbours

INFO = CheckInfo(
    id="fairness.individual_consistency",
    version="1",
    title="Like treatment of like cases",
    measures=(
        "For each row the nearest other rows by their features, sensitive attributes left out: the share of them that "
        "get the same decision (consistency), against the share if decisions were dealt at random; and how steeply "
        "the score changes between neighbours."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Who counts as alike is the distance chosen here: all features but the sensitive ones, in standard deviations, "
        "with equal weights, unless features are named. Another distance gives another value.",
        "A model that treats everybody the same is perfectly consistent and may be useless.",
        "Features that stand in for a sensitive attribute still tell people apart.",
        "With many features neighbours are far away, and with few rows too; the remark says how far.",
        "Decisions near the model's threshold must differ between some neighbours; 1 is out of reach for most models.",
    ),
    remedy=(
        "Look at the rows with the lowest consistency; smooth the model (regularise, average models), leave out "
        "features that should not matter, and have people who know the field say which cases are alike."
    ),
    source=(
        "Zemel, Wu, Swersky, Pitassi, Dwork 2013 (ICML), section 5.2 (consistency); Dwork, Hardt, Pitassi, Reingold, "
        "Zemel 2012 (arXiv 1104.3913), definition 2.1 (Lipschitz condition); jackknife: Efron and Stein 1981, "
        "Annals of Statistics 9:586"
    ),
    requirements=("FN-R-FN-ME-05",),
)
_QUANTILES = (0.5, 0.9, 0.95, 0.99)
_FEWEST = 50  # rows


class IndividualConsistencyParams(Params):
    """What the user may set."""

    neighbours: int = Field(default=5, ge=1, le=100, description="Nearest rows that each row is compared with")
    features: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Features that make rows alike; all but the sensitive ones if not given"
    )
    rows: int = Field(default=5_000, ge=50, le=200_000, description="Most rows looked at; drawn at random")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


class _Alike(NamedTuple):
    """Points (n, d) in standard deviations of the rows that are looked at, and sentences on how."""

    rows: np.ndarray
    points: np.ndarray
    remarks: list[str]


def measure(subject: Subject, params: IndividualConsistencyParams, seed: int) -> Result:
    """Consistency of decisions among nearest rows, its value by chance, and how steeply scores change.

    Args:
        subject: Any model with a table of features.
        params: What the user set.
        seed: Seed of the sample of rows.

    Returns:
        For a classification the consistency, its gain over chance, and a quantile of the steepness of scores.

    Raises:
        NotApplicable: No table of features, too few rows, no feature left, or outputs that are not finite.
    """
    import numpy as np

    from assessor_checks.fairness import _neighbours as maths

    alike = _points(subject, params, seed)
    classes, k = subject.task.is_classification, params.neighbours
    outputs, labels = subject.predictions("test")[alike.rows], subject.splits["test"].labels[alike.rows]
    if not np.isfinite(outputs).all():
        raise NotApplicable(f"the predicted value is not finite for {int((~np.isfinite(outputs)).sum())} rows")
    if (outputs == outputs[0]).all():
        raise NotApplicable(
            f"the prediction is the same for all {len(outputs)} rows, so consistency says nothing of the model"
        )
    found = maths.nearest(alike.points, k + 1)
    deviation = maths.deviation(outputs, found.rows, classes=classes)
    chance = maths.chance_deviation(outputs, k, classes=classes, seed=seed)
    of_labels = maths.deviation(labels, found.rows, classes=classes)
    near = maths.Neighbours(found.rows[:, :k], found.distances[:, :k])
    metrics, table, series = _steepness(subject, alike.rows, near, params)
    said = "same class as" if classes else "mean absolute difference from"
    return Result(
        metrics=(*_consistency(subject, deviation, chance, params), *metrics),
        series=series,
        tables=(
            Table(
                name="consistency",
                title="What is compared with the nearest rows: predictions, the same by chance, and the true labels",
                columns=("of", f"{said} the nearest rows"),
                rows=tuple(
                    (name, 1 - value if classes else value)
                    for name, value in (
                        ("predictions", deviation.mean),
                        ("predictions dealt at random", chance),
                        ("true labels", of_labels.mean),
                    )
                ),
            ),
            *table,
        ),
        remarks=(
            *alike.remarks,
            f"The nearest {k} rows lie at a distance of {float(np.median(near.distances)):.2f} in the median "
            "(root mean square over the features, in standard deviations); rows drawn at random lie at about 1.41.",
        ),
    )


def _points(subject: Subject, params: IndividualConsistencyParams, seed: int) -> _Alike:
    """The rows and features that are looked at, scaled."""
    import numpy as np

    from assessor_checks._inputs import chosen_rows, feature_std

    split = subject.splits["test"]
    if split.features is None or split.features.ndim != 2:
        raise NotApplicable(
            "the inputs are no table of features, so nobody can say which rows are alike; use fairness.group_metrics"
        )
    features = np.asarray(split.features, dtype=np.float64)
    if split.n < max(_FEWEST, params.neighbours + 2):
        wanted = max(_FEWEST, params.neighbours + 2)
        raise NotApplicable(f"{split.n} rows are too few to look for rows that are alike; {wanted} are needed")
    if wrong := int((~np.isfinite(features)).any(axis=1).sum()):
        raise NotApplicable(
            f"{wrong} of {split.n} rows have features that are missing or infinite, so they have no distance"
        )
    used, remarks = _used(subject, features, params)
    reference = subject.splits.get("train", split)
    known = reference.features if reference.features is not None else features
    scale = feature_std(np.asarray(known, dtype=np.float64))[used]
    if not (scale > 0).any():
        raise NotApplicable("every feature that is used is constant, so all rows are alike")
    rows = chosen_rows(split.n, params.rows, seed)
    if len(rows) < split.n:
        remarks.append(f"A random sample of {len(rows)} of {split.n} rows is looked at.")
    points = features[np.ix_(rows, used[scale > 0])] / scale[scale > 0]
    return _Alike(rows, points - points.mean(axis=0), remarks)


def _used(subject: Subject, features: np.ndarray, params: IndividualConsistencyParams) -> tuple[np.ndarray, list[str]]:
    """Columns that make rows alike, and a sentence on them."""
    import numpy as np

    from assessor_checks.fairness._flips import find_attribute

    split = subject.splits["test"]
    names = split.feature_names
    if params.features is not None:
        for name in params.features:
            if name not in names:
                raise NotApplicable(f"features: no feature '{name}'; found {list(names)}")
        used = np.array([names.index(name) for name in dict.fromkeys(params.features)])
        return used, [f"Rows are alike by: {', '.join(names[index] for index in used)}."]
    left_out: set[int] = set()
    for name in map(str, split.attributes.columns) if split.attributes is not None else ():
        attribute = find_attribute(name, names, features)
        left_out |= set(attribute.columns.tolist()) if attribute else set()
    used = np.array([index for index in range(features.shape[1]) if index not in left_out], dtype=np.int64)
    if not len(used):
        raise NotApplicable("all features are sensitive attributes, so nothing is left by which rows could be alike")
    names_left_out = ", ".join(names[index] for index in sorted(left_out))
    return used, [
        f"Rows are alike by {len(used)} of {features.shape[1]} features, in standard deviations, with equal weights"
        f"{f'; left out as sensitive: {names_left_out}' if left_out else ''}."
    ]


def _consistency(
    subject: Subject, found: Deviation, chance: float, params: IndividualConsistencyParams
) -> tuple[Metric, ...]:
    """Consistency and its gain over chance."""
    classes, n = subject.task.is_classification, len(found.rows)
    low, high = _ends(found, params, classes=classes)
    how = f"{params.neighbours} nearest other rows; jackknife over rows, normal limits"
    gain = Metric(
        name="consistency_gain",
        value=1 - found.mean / chance,
        low=1 - high / chance,
        high=1 - low / chance,
        confidence=params.confidence,
        n=n,
        better=Better.HIGHER,
        method=(
            f"1 - {'share of different decisions' if classes else 'mean absolute difference'} among nearest rows / "
            f"the same with predictions dealt at random ({chance:.4g}, taken as known); {how}"
        ),
        primary=not classes,
    )
    if not classes:
        return (gain,)
    consistency = Metric(
        name="consistency",
        value=1 - found.mean,
        low=1 - high,
        high=1 - low,
        confidence=params.confidence,
        n=n,
        better=Better.HIGHER,
        method=f"mean share of the nearest rows with the same predicted class; {how}",
        primary=True,
    )
    return consistency, gain


def _ends(found: Deviation, params: IndividualConsistencyParams, *, classes: bool) -> tuple[float, float]:
    """Limits of the mean deviation."""
    from scipy.special import ndtri

    from assessor_checks._intervals import clopper_pearson

    if classes and found.mean == 0:  # no jackknife without a difference: disjoint neighbourhoods are independent
        return 0.0, clopper_pearson(0, max(1, len(found.rows) // (params.neighbours + 1)), params.confidence).high
    half = float(ndtri((1 + params.confidence) / 2)) * found.error
    return max(0.0, found.mean - half), min(1.0, found.mean + half) if classes else found.mean + half


def _steepness(
    subject: Subject, rows: np.ndarray, near: Neighbours, params: IndividualConsistencyParams
) -> tuple[tuple[Metric, ...], tuple[Table, ...], tuple[Series, ...]]:
    """Quantiles of the largest change of the score for one unit of distance."""
    import numpy as np

    from assessor_checks.fairness._neighbours import steepest

    if subject.task.is_classification and Need.PROBABILITIES not in subject.offers:
        return (), (), ()
    scores = np.asarray(subject.scores("test"), dtype=np.float64)[rows].reshape(len(rows), -1)
    if not np.isfinite(scores).all():
        raise NotApplicable(f"the scores are not finite for {int((~np.isfinite(scores)).any(axis=1).sum())} rows")
    ratios, identical = steepest(scores, near)
    twins = Metric(
        name="identical_rows_scored_differently",
        value=identical / len(rows),
        n=len(rows),
        better=Better.LOWER,
        method="share of rows with a nearest row at distance 0, by these features, that is scored otherwise",
    )
    if not len(ratios):
        return (twins,), (), ()
    found = [(share, *_quantile(np.sort(ratios), share, params.confidence)) for share in _QUANTILES]
    unit = "score" if subject.task.is_classification else "units of the target"
    steep = Metric(
        name="lipschitz_q95",
        value=found[2][1],
        low=found[2][2],
        high=found[2][3],
        confidence=params.confidence if found[2][2] is not None else None,
        unit=f"{unit} per standard deviation",
        n=len(ratios),
        better=Better.LOWER,
        method=(
            "95 % quantile over rows of the largest change of the score to a nearest row divided by the distance; "
            "limits from order statistics, rows taken as independent"
        ),
    )
    table = Table(
        name="steepness",
        title=f"Largest change of the score to a nearest row, per standard deviation: quantiles over rows, "
        f"{params.confidence:.0%} intervals",
        columns=("share of rows", "change", "low", "high"),
        rows=tuple(found),
    )
    shares = np.linspace(0, 1, 101)
    series = Series(
        name="steepness",
        title="Steepness of the score by share of rows",
        columns={"share": tuple(shares.tolist()), "change": tuple(np.quantile(ratios, shares).tolist())},
    )
    return (steep, twins) if identical else (steep,), (table,), (series,)


def _quantile(ordered: np.ndarray, share: float, confidence: float) -> tuple[float, float | None, float | None]:
    """A quantile with limits from order statistics; None where there are too few values."""
    import numpy as np
    from scipy.special import bdtr

    n = len(ordered)
    below = bdtr(np.arange(n), n, share)  # probability that at most so many values lie under the quantile
    low, high = int((below <= (1 - confidence) / 2).sum()) - 1, int((below < (1 + confidence) / 2).sum())
    value = float(np.quantile(ordered, share, method="inverted_cdf"))
    if low < 0 or high >= n:
        return value, None, None
    return value, float(ordered[low]), float(ordered[high])


def plot(result: Result, axes: Axes) -> None:
    """How steeply scores change between nearest rows; without scores the consistency beside chance and labels.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    if result.series:
        columns = result.series[0].columns
        shares = [float(value or 0) for value in columns["share"]]
        axes.plot(shares, [float(value or 0) for value in columns["change"]], "-", color="black")
        axes.set(xlabel="share of rows", ylabel="largest change of the score per standard deviation", xlim=(0, 1))
        return
    names, values = zip(*((str(row[0]), float(row[1] or 0)) for row in result.tables[0].rows), strict=True)
    axes.barh(range(len(names)), values, color=["0.2", "0.7", "0.5"])
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=result.tables[0].columns[1])


CHECK = Check(info=INFO, params=IndividualConsistencyParams, measure=measure, plot=plot, rows=of_test)
