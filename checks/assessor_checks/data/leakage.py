"""Does the test share with training what it must not: rows, groups, or a feature that already holds the answer?"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    progress,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assessor_checks.data._leakage import Twins
    from assessor_checks.data._single_features import Feature

_SHOWN = 50
_DRAWN = 20  # features in the plot
_CHANCE = 0.01  # share of rows with a twin by chance from which twins show no leak
_LEAST = 50  # rows under which features are not scored
INFO = CheckInfo(
    id="data.leakage",
    version="1",
    title="Leakage between training and test data",
    measures=(
        "The share of test rows that training has already seen, exactly or all but so, and what these rows add to the "
        "measured performance; how well each single feature predicts the label by itself; whether the order of the "
        "rows tells their label; and the share of test rows whose group (person, device) also occurs in training."
    ),
    unit="1",
    needs=frozenset({Need.TRAIN, Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "A feature that nearly determines the label may be a leak or simply a good feature: ask whether its value is "
        "known before the label is, and whether it would exist without it.",
        "A leak through several features together, none of which tells much by itself, is not seen.",
        "Leakage through time (training on rows later than those tested) is out of reach: rows carry no dates here.",
        "Pre-processing fitted on the test data, and choices made by looking at it, leave no trace in the data.",
        "Near twins are those within the tolerance; a rotated, cropped or heavily changed copy is missed.",
        "Groups are compared only when group names the column that identifies them.",
        "An absence of twins does not show independence: rows of one person may all differ.",
    ),
    remedy=(
        "Split by what links the rows (person, device, day) after dropping copies, then train and measure again; leave "
        "out features that arise together with the label or after it; shuffle rows before they are split or batched."
    ),
    source=(
        "Kapoor and Narayanan 2023, Patterns 4:100804 (kinds of leakage); DeLong et al. 1988 and LeDell et al. 2015, "
        "EJS 9:1583 (area under the ROC curve, averaged over folds); Wald and Wolfowitz 1940 (runs); "
        "Korn and Graubard 1998; Holm 1979"
    ),
    requirements=("RE-R-SC-ME-01", "RE-R-SC-ME-05", "FN-R-FN-ME-05"),
    instead=("data.quality",),
)


class LeakageParams(Params):
    """What the user may set."""

    tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Largest distance of near twins in tables: root mean square difference in standard deviations",
    )
    picture_tolerance: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Largest distance of near twins among pictures: 0.1 is a correlation of 0.995",
    )
    group: str | None = Field(
        default=None, description="Sensitive column that says which rows belong together, such as a person's number"
    )
    suspect_from: float = Field(
        default=0.95, gt=0.5, lt=1, description="Score of a single feature above which it is listed as suspect"
    )
    rows: int = Field(default=20_000, ge=_LEAST, description="Training rows at most by which features are scored")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


def measure(subject: Subject, params: LeakageParams, seed: int) -> Result:
    """Twins and what they add, scores of single features, order of the rows, groups in both splits.

    Args:
        subject: With features of the train and the test split.
        params: Tolerances, column of groups, suspicion.
        seed: Seed of the folds, the rows that are scored and the shuffling.

    Returns:
        Share of test rows with a twin, and what of the rest can be measured; tables of twins, features and order.

    Raises:
        NotApplicable: There are no features, splits are empty or of different shapes, or the group is not recorded.
    """
    from assessor_checks.data._representation import numbers

    train, test = subject.splits["train"], subject.splits["test"]
    if numbers(train).shape[1:] != numbers(test).shape[1:]:
        raise NotApplicable("the rows of the two splits differ in shape, so they cannot be compared")
    twins = _twins(train, test, params, seed)
    features, said = _features(subject, train, params, seed)
    orders, order = _order(subject, params)
    return Result(
        metrics=(
            *_twin_shares(twins, test, params),
            *_best(features, min(train.n, params.rows), params, subject),
            *_inflation(subject, twins, params),
            *_groups(train, test, params),
            *orders,
        ),
        tables=(*_twin_table(twins), *_feature_table(features, params), *order),
        remarks=(*_remarks(twins, test, features, params), *said),
    )


def _twins(train: Split, test: Split, params: LeakageParams, seed: int) -> Twins:
    from assessor_checks.data import _leakage

    assert train.features is not None
    assert test.features is not None
    progress("looking for twins", 0, 1)
    tolerance = params.picture_tolerance if _leakage.are_pictures(train.features) else params.tolerance
    return _leakage.twins(train.features, test.features, (train.labels, test.labels), tolerance, seed)


def _twin_shares(twins: Twins, test: Split, params: LeakageParams) -> list[Metric]:
    """Shares of test rows; without an interval, so that no target is judged, where twins show no leak."""
    import math

    from assessor_checks._intervals import Estimate
    from assessor_checks._near_duplicates import same_rows
    from assessor_checks.data._representation import clumped_share, metric

    assert test.features is not None
    clumps, shown = same_rows(test.features)[0], twins.complete and twins.chance < _CHANCE
    metrics = []
    for name, flags, method in (
        ("twin_share", twins.close, "test rows with the same or nearly the same features as a training row"),
        ("exact_twin_share", twins.exact, "test rows with exactly the features of a training row"),
    ):
        found = clumped_share(flags, clumps, params.confidence)
        found = found if shown else Estimate(found.value, -math.inf, math.inf)
        how = f"{method}; Clopper-Pearson at the effective number of rows (Korn and Graubard: copies count together)"
        primary = name == "twin_share"
        metrics.append(metric(name, found, test.n, how, confidence=params.confidence, primary=primary))
    return metrics


def _inflation(subject: Subject, twins: Twins, params: LeakageParams) -> list[Metric]:
    """What the rows with twins add to the performance measured on the test split."""
    import numpy as np

    from assessor_checks.data import _leakage
    from assessor_checks.data._representation import metric

    labels, predictions = subject.splits["test"].labels, subject.predictions("test")
    alone = int((~twins.close).sum())
    if not twins.close.any() or alone < 2 or not np.isfinite(np.asarray(predictions, dtype=np.float64)).all():
        return []
    if subject.task.is_classification:
        found = _leakage.share_inflation(predictions == labels, twins.close, params.confidence)
        method = "accuracy on all test rows minus accuracy on those without a twin; Newcombe's interval (method 10)"
        return [metric("accuracy_inflation", found, len(labels), method, confidence=params.confidence)]
    found = _leakage.error_inflation(np.abs(predictions - labels), twins.close, params.confidence)
    method = "mean absolute error on test rows without a twin minus that on all; normal interval, linearised"
    unit = "units of the target"
    return [metric("error_inflation", found, len(labels), method, confidence=params.confidence, unit=unit)]


def _groups(train: Split, test: Split, params: LeakageParams) -> list[Metric]:
    """Share of test rows whose group also occurs in training."""
    import numpy as np

    from assessor_checks.data._representation import clumped_share, metric

    if params.group is None:
        return []
    columns = []
    for split in (train, test):
        frame = None if split.attributes is None else split.attributes.rename(columns=str)
        if frame is None or params.group not in frame.columns:
            raise NotApplicable(f"group: the {split.name} split has no sensitive column '{params.group}'")
        columns.append(frame[params.group].astype(str).to_numpy())
    clumps = np.unique(columns[1], return_inverse=True)[1].reshape(-1)
    found = clumped_share(np.isin(columns[1], columns[0]), clumps, params.confidence)
    method = "test rows whose group also occurs in training; Clopper-Pearson at the effective number of rows"
    return [metric("group_overlap_share", found, test.n, method, confidence=params.confidence)]


def _features(subject: Subject, train: Split, params: LeakageParams, seed: int) -> tuple[list[Feature], list[str]]:
    """Score of every single feature of a table, best first, and what was left out."""
    from assessor_checks._inputs import chosen_rows
    from assessor_checks.data import _single_features as maths
    from assessor_checks.data._representation import numbers

    if numbers(train).ndim != 2:
        return [], ["The inputs are no table, so single features were not scored."]
    rows, said = chosen_rows(train.n, params.rows, seed), []
    labels = train.labels[rows]
    if subject.task.is_classification:
        kept, small = maths.large_classes(labels, len(subject.classes))
        rows, labels = rows[kept], labels[kept]
        if small:
            listed = ", ".join(subject.classes[index] for index in small[:10])
            said = [f"Too small to score features by (fewer than {2 * maths.FOLDS} training rows): {listed}."]
    if len(rows) < _LEAST or (labels == labels[0]).all():
        return [], [*said, f"Single features were not scored: that takes {_LEAST} training rows and two labels."]
    names = train.feature_names or tuple(f"#{index}" for index in range(numbers(train).shape[1]))
    bound, classify = params.suspect_from, subject.task.is_classification
    return maths.features(numbers(train)[rows], rows, labels, names, classify=classify, bound=bound, seed=seed), said


def _best(features: list[Feature], n: int, params: LeakageParams, subject: Subject) -> list[Metric]:
    """The score of the best single feature; the position of the row is none."""
    from assessor_checks.data._representation import extreme, metric
    from assessor_checks.data._single_features import score_interval

    own = [feature.score for feature in features if not feature.is_position]
    if not own:
        return []
    found = extreme(lambda i, c: score_interval(own[i], c), len(own), largest=True, confidence=params.confidence)
    what = "mean area under the ROC curve, class against rest," if subject.task.is_classification else "R2"
    method = (
        f"{what} of the best of {len(own)} single features, predicted from up to 32 bins on 5 folds held out; DeLong "
        f"on the logit scale (R2: normal), the lower end simultaneous (Bonferroni)"
    )
    return [metric("best_single_feature", found, n, method, confidence=params.confidence)]


def _order(subject: Subject, params: LeakageParams) -> tuple[list[Metric], list[Table]]:
    """Whether the order of the rows tells their label, in the split where it does more so."""
    from assessor_checks._gaps import holm
    from assessor_checks.data._leakage import row_order
    from assessor_checks.data._representation import metric
    from assessor_checks.data._single_features import quarters

    found = {}
    for name in ("train", "test"):
        labels = subject.splits[name].labels
        order = row_order(labels if subject.task.is_classification else quarters(labels), params.confidence)
        if order is not None:
            found[name] = order
    if not found:
        return [], []
    worst = max(found, key=lambda name: abs(found[name].agreement.value))
    n = subject.splits[worst].n
    how = "how much more often neighbouring rows agree in their label than shuffled ones, in the split where it is more"
    how = f"{how}; Clopper-Pearson for dependent pairs"
    p_method = (
        "runs test for several labels, two-sided, the smallest of the splits after Holm; files sorted by label are "
        "common, and harmless where rows are shuffled before use"
    )
    agreement, p_value = found[worst].agreement, min(holm([order.p_value for order in found.values()]))
    metrics = [
        metric("row_order_agreement", agreement, n, how, confidence=params.confidence, better=Better.NONE),
        Metric(name="row_order_p_value", value=p_value, n=n, better=Better.NONE, method=p_method),
    ]
    rows = tuple((name, *order.agreement, order.p_value) for name, order in found.items())
    columns = ("split", "agreement beyond chance", "low", "high", "p-value")
    return metrics, [Table(name="order", title="Do neighbouring rows have the same label?", columns=columns, rows=rows)]


def _twin_table(twins: Twins) -> list[Table]:
    """Pairs, the nearest first, by row number only."""
    import numpy as np

    order = np.lexsort((twins.second, twins.distance))
    order = order[np.unique(twins.second[order], return_index=True)[1]]  # the nearest twin of each test row
    order = order[np.argsort(twins.distance[order], kind="stable")][:_SHOWN]
    if not len(order):
        return []
    rows: list[tuple[Cell, ...]] = [
        (int(twins.second[i]), int(twins.first[i]), float(twins.distance[i]), bool(twins.agrees[twins.second[i]]))
        for i in order
    ]
    title = f"Test rows with a twin in training, the nearest first ({len(rows)} of {int(twins.close.sum())})"
    return [
        Table(
            name="twins", title=title, columns=("test row", "training row", "distance", "same label"), rows=tuple(rows)
        )
    ]


def _feature_table(features: list[Feature], params: LeakageParams) -> list[Table]:
    from assessor_checks.data._single_features import score_interval

    if not features:
        return []
    rows = tuple(
        (rank, feature.name, *score_interval(feature.score, params.confidence), feature.p_value)
        for rank, feature in enumerate(features[:_SHOWN], start=1)
    )
    columns = ("rank", "feature", "score", "low", "high", f"p-value of a score up to {params.suspect_from:g} (Holm)")
    title = f"What single features tell of the label, the best first ({len(rows)} of {len(features)})"
    return [Table(name="features", title=title, columns=columns, rows=rows)]


def _remarks(twins: Twins, test: Split, features: list[Feature], params: LeakageParams) -> list[str]:
    """What a reader of the twins and of the scores must know."""
    count, said = int(twins.close.sum()), []
    if count:
        agreeing = int((twins.agrees & twins.close).sum())
        said.append(f"Of {count} test rows with a twin in training {agreeing} have a twin with the same label.")
    if count == test.n:
        said.append("Every test row has a twin in training, so nothing is left to measure the performance on.")
    if not twins.complete:
        said.append("There are too many near twins to list, so their share is a lower bound and is not judged.")
    if twins.chance >= _CHANCE:
        said.append(
            f"The inputs are so coarse that {twins.chance:.1%} of the test rows would have a twin in training by "
            f"chance; twins show no leak then, and their share is not judged."
        )
    if suspects := [feature.name for feature in features if feature.p_value <= 0.05]:
        said.append(
            f"These predict the label almost by themselves (score surely above {params.suspect_from:g}): "
            f"{', '.join(suspects[:10])}. That may be a leak or a good feature: is it known before the label is?"
        )
    return said


def plot(result: Result, axes: Axes) -> None:
    """Scores of the best single features with intervals; without features the shares of rows with a twin."""
    tables = [table for table in result.tables if table.name == "features"]
    if not tables:
        _plot_twins(result, axes)
        return
    rows = tables[0].rows[:_DRAWN]
    for place, row in enumerate(rows):
        value, low, high = (float(cell) for cell in row[2:5] if isinstance(cell, float | int))
        axes.plot([low, high], [place, place], color="0.6")
        axes.plot([value], [place], "o", color="black")
    axes.set_yticks(range(len(rows)), [str(row[1]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("what the feature tells of the label by itself, with interval")
    axes.set_ylabel("feature")


def _plot_twins(result: Result, axes: Axes) -> None:
    shares = [metric for metric in result.metrics if metric.name in {"twin_share", "exact_twin_share"}]
    for place, metric in enumerate(shares):
        if metric.low is not None and metric.high is not None:
            axes.plot([metric.low, metric.high], [place, place], color="0.6")
        axes.plot([metric.value], [place], "o", color="black")
    axes.set_yticks(range(len(shares)), [metric.name.replace("_", " ") for metric in shares])
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of test rows, with interval")


CHECK = Check(info=INFO, params=LeakageParams, measure=measure, plot=plot, rows=of_test)
