"""Performance on the test split: the usual metrics of the task, each with an interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Outcomes,
    Params,
    Result,
    Series,
    Subject,
    Table,
    Task,
    Weakness,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._performance import Findings, Found

INFO = CheckInfo(
    id="reliability.performance",
    version="3",
    title="Performance on the test data",
    measures=(
        "How well the predictions on the test split agree with its labels: accuracy and its relatives for a "
        "classification, root mean squared error and its relatives for a regression, each with a 95 % interval."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "A good value holds for data like the test split; it says nothing of data that differ from it.",
        "The rows are taken as independent; repeated persons, series or images make the intervals too narrow.",
        "A class with few rows adds little visible doubt to bootstrapped means; see its own interval in the table.",
        "An average hides groups and situations in which the model fails; see the classes and the group checks.",
        "Where one class is frequent a high accuracy needs no skill; compare with majority_accuracy.",
        "Labels are taken as true; wrong labels shift every metric, and repeated use of a test split flatters it.",
    ),
    remedy=(
        "Look in the confusion matrix or among the largest residuals for what is mistaken, check the labels of these "
        "rows, and add training data or features there; measure again on test data that were not used to choose."
    ),
    source=(
        "ISO/IEC TS 4213:2022 (metrics of classification); Clopper and Pearson 1934; Efron 1981 and 1987 (BC and BCa "
        "bootstrap); DeLong, DeLong, Clarke-Pearson 1988, with Sun and Xu 2014 (area under the ROC curve); "
        "Lam, Gopal, Qian 2023, arXiv 2309.14621 (F1); Gorodkin 2004 (Matthews correlation); Cohen 1960 (kappa); "
        "Brier 1950; Boyd, Eng, Page 2013, doi 10.1007/978-3-642-40994-3_29 (average precision); Bonett and Wright "
        "2000, Psychometrika 65:23 (rank correlation)"
    ),
    requirements=("RE-R-SC-ME-05", "RE-R-SC-OA"),
)

_Name = Literal[
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "precision",
    "precision_macro",
    "recall",
    "recall_macro",
    "roc_auc",
    "roc_auc_ovr",
    "average_precision",
    "top_5_accuracy",
    "log_loss",
    "brier_score",
    "matthews_corrcoef",
    "cohen_kappa",
    "rmse",
    "mae",
    "median_absolute_error",
    "mape",
    "mean_error",
    "r2",
    "explained_variance",
    "spearman",
]
_IN_UNITS = ("rmse", "mae", "median_absolute_error", "mean_error", "baseline_rmse")
_REGRESSION = (*_IN_UNITS, "mape", "r2", "explained_variance", "spearman")
_BINARY = ("f1", "precision", "recall", "roc_auc", "average_precision")
_LOWER = ("log_loss", "brier_score", "rmse", "mae", "median_absolute_error", "mape")
_TOO_FEW = {
    "roc_auc_ovr": "it is for three classes or more; use roc_auc",
    "top_5_accuracy": "it is for more than five classes; use accuracy",
}
_RESAMPLED_FROM = 20  # rows; with fewer a bootstrap misses the truth far too often
_FROZEN = 100  # wrong rows that are kept at most
_NEITHER = ("majority_accuracy", "baseline_rmse", "mean_error")
_UNITS = {"log_loss": "nats", **dict.fromkeys(_IN_UNITS, "units of the target")}


class PerformanceParams(Params):
    """What the user may set."""

    metric: _Name | None = Field(
        default=None, description="The primary metric; by default accuracy, for a regression rmse."
    )
    positive: str | None = Field(default=None, description="Positive class of a binary task; by default the last.")
    replicates: int = Field(default=2000, ge=200, le=100_000, description="Resamples of a bootstrap.")


def measure(subject: Subject, params: PerformanceParams, seed: int) -> Result:
    """All metrics of the task with intervals, the chosen one primary.

    Args:
        subject: Any subject.
        params: Primary metric, positive class, resamples.
        seed: Seed of the bootstraps.

    Returns:
        Metrics; for a classification the classes, the confusion matrix and the accuracy of the most frequent class,
        for a regression the quantiles of true and predicted values.

    Raises:
        NotApplicable: The chosen metric cannot be computed, a parameter does not fit the task, the split is empty, or
            a prediction or score is not finite.
    """
    chosen = _chosen(subject, params)
    _refuse_unusable(subject)
    findings, remarks = (_classification if subject.task.is_classification else _regression)(subject, params, seed)
    if chosen not in findings.found:
        reason = findings.missing.get(chosen) or _TOO_FEW[chosen]
        raise NotApplicable(f"{chosen} cannot be computed: {reason}")
    tables, series = _shown(subject)
    return Result(
        metrics=tuple(_metric(name, found, primary=name == chosen) for name, found in findings.found.items()),
        series=series,
        tables=tables,
        remarks=(*remarks, *(f"{name} is left out: {reason}." for name, reason in findings.missing.items())),
        outcomes=_outcomes(subject),
    )


def _outcomes(subject: Subject) -> tuple[Outcomes, ...]:
    if not subject.task.is_classification:
        return ()
    split = subject.splits["test"]
    return Outcomes.of("accuracy", subject.predictions("test") == split.labels, split)


def _chosen(subject: Subject, params: PerformanceParams) -> str:
    """Name of the primary metric, once it and the positive class are known to fit the task."""
    classifies, binary = subject.task.is_classification, subject.task is Task.BINARY
    chosen = params.metric or ("accuracy" if classifies else "rmse")
    if classifies == (chosen in _REGRESSION):
        kind = "regression" if classifies else "classification"
        raise NotApplicable(f"{chosen} is a metric of {kind}; the task of this model is {subject.task}")
    if classifies and not binary and chosen in _BINARY:
        raise NotApplicable(f"{chosen} is for binary tasks; this model has {len(subject.classes)} classes")
    if params.positive is not None and not binary:
        raise NotApplicable(f"a positive class ({params.positive}) is for binary tasks; this one is {subject.task}")
    if params.positive is not None and params.positive not in subject.classes:
        raise NotApplicable(f"positive: no class '{params.positive}'; wanted one of {list(subject.classes)}")
    return chosen


def _refuse_unusable(subject: Subject) -> None:
    import numpy as np

    n = subject.splits["test"].n
    if not n:
        raise NotApplicable("the test split has no rows")
    if subject.task.is_classification:
        for name, values in (("labels", subject.splits["test"].labels), ("predictions", subject.predictions("test"))):
            if bad := int(((values < 0) | (values >= len(subject.classes))).sum()):
                raise NotApplicable(f"the {name} are none of the {len(subject.classes)} classes for {bad} of {n} rows")
    outputs = {"predictions": subject.predictions("test")}
    if Need.PROBABILITIES in subject.offers:
        outputs["scores"] = subject.scores("test")
    for name, values in outputs.items():
        finite = np.isfinite(np.asarray(values, dtype=np.float64).reshape(n, -1)).all(axis=1)
        if bad := int((~finite).sum()):
            raise NotApplicable(f"the {name} are not finite for {bad} of {n} rows of the test split")


def _shown(subject: Subject) -> tuple[tuple[Table, ...], tuple[Series, ...]]:
    from assessor_checks import _performance

    if not subject.task.is_classification:
        return (), (_performance.quantiles(subject.splits["test"].labels, subject.predictions("test")),)
    return _performance.tables(_matrix(subject), subject.classes), ()


def _matrix(subject: Subject) -> np.ndarray:
    from assessor_checks._confusion import confusion

    return confusion(subject.splits["test"].labels, subject.predictions("test"), len(subject.classes))


def _classification(subject: Subject, params: PerformanceParams, seed: int) -> tuple[Findings, list[str]]:
    from assessor_checks import _performance as maths

    matrix, labels, classes = _matrix(subject), subject.splits["test"].labels, subject.classes
    scores, unused = _probabilities(subject)
    findings = maths.of_classes(matrix, classes, seed, params.replicates)
    rows = matrix.sum(axis=1)
    most, share = classes[int(rows.argmax())], rows.max() / len(labels)
    remarks = [f"Always predicting {most} would be right in {share:.1%} of the rows.", *unused]
    if subject.task is Task.BINARY:
        at = classes.index(params.positive) if params.positive is not None else 1
        findings |= maths.of_positive(matrix, classes, at, labels, None if scores is None else scores[:, at])
        remarks.append(f"The positive class is {classes[at]}.")
    if scores is None:
        names = ["log_loss", "brier_score"]
        names += ["roc_auc_ovr"] if len(classes) > 2 else []
        names += ["top_5_accuracy"] if len(classes) > maths.TOP else []
        return findings | maths.Findings({}, dict.fromkeys(names, maths.NO_PROBABILITIES)), remarks
    of_scores, clipped = maths.of_scores(labels, scores, seed, params.replicates)
    if clipped:
        remarks.append(f"{clipped} rows give the true class probability 0; taken as {maths.TINY:.3g}.")
    return findings | of_scores, remarks


def _probabilities(subject: Subject) -> tuple[np.ndarray | None, list[str]]:
    """The scores, or None and why they are not used where they are no probabilities."""
    from assessor_checks._probabilities import improper

    if Need.PROBABILITIES not in subject.offers:
        return None, []
    scores = subject.scores("test")
    if bad := int(improper(scores).sum()):
        return None, [f"Scores are not used: they are no probabilities that sum to 1 for {bad} of {len(scores)} rows."]
    return scores, []


def _regression(subject: Subject, params: PerformanceParams, seed: int) -> tuple[Findings, list[str]]:
    from assessor_checks._performance import of_values

    true, train = subject.splits["test"].labels, subject.splits.get("train")
    centre = float(train.labels.mean()) if train is not None and train.n else None
    findings = of_values(true, subject.predictions("test"), seed, params.replicates, centre=centre)
    return findings, [f"The target's standard deviation is {true.std():.4g}: the rmse of always predicting its mean."]


def _metric(name: str, found: Found, *, primary: bool) -> Metric:
    from assessor_checks._intervals import CONFIDENCE
    from assessor_checks._performance import METHODS

    estimate, n = found
    known = math.isfinite(estimate.low) and (n >= _RESAMPLED_FROM or "bootstrap" not in METHODS[name])
    better = Better.NONE if name in _NEITHER else Better.LOWER if name in _LOWER else Better.HIGHER
    return Metric(
        name=name,
        value=estimate.value,
        low=estimate.low if known else None,
        high=estimate.high if known else None,
        confidence=CONFIDENCE if known else None,
        unit=_UNITS.get(name, "1"),
        n=n,
        better=better,
        method=METHODS[name] if known else f"{METHODS[name]}; too few rows for an interval",
        primary=primary,
    )


def plot(result: Result, axes: Axes) -> None:
    """Confusion matrix shaded by share of the true class; for many classes sorted recalls; else quantiles."""
    if result.series:
        (quantiles,) = result.series
        true, predicted = quantiles.arrays["true"], quantiles.arrays["predicted"]
        axes.axline((true[0], true[0]), slope=1, linestyle="--", color="0.6")
        axes.plot(predicted, true, ".", color="black")
        axes.set(xlabel="predicted (quantile)", ylabel="true (quantile)")
        return
    by_class, *confusion = result.tables
    if confusion:
        _plot_confusion(confusion[0], axes)
    else:
        recalls = sorted(row[3] for row in by_class.rows if isinstance(row[3], float))
        axes.plot(range(1, len(recalls) + 1), recalls, ".", color="black")
        axes.set(xlabel="classes, sorted", ylabel="recall")


def _plot_confusion(table: Table, axes: Axes) -> None:
    import numpy as np

    counts = np.array([row[1:] for row in table.rows], dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    edges = np.arange(len(counts) + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap="Greys", vmin=0, vmax=1, edgecolors="0.6", linewidth=0.4)  # no raster
    axes.invert_yaxis()
    axes.set_aspect("equal")
    for (row, column), count in np.ndenumerate(counts):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=shade, fontsize="small")
    names = table.columns[1:]
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 5 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")


def weakness(subject: Subject, params: PerformanceParams, seed: int) -> Weakness:
    """Test rows that the model gets wrong; for a regression those of the largest errors.

    Args:
        subject: What was measured.
        params: Not used: the rows are the same for every metric.
        seed: Chooses among many.

    Returns:
        At most a hundred rows.

    Raises:
        NotApplicable: There are no inputs to keep, or none is wrong.
    """
    import numpy as np

    split, predictions = subject.splits["test"], subject.predictions("test")
    if split.features is None:
        raise NotApplicable("a table of predictions has no inputs to keep; freeze a weak group instead")
    if subject.task.is_classification:
        wrong = np.flatnonzero(predictions != split.labels)
        rows = np.sort(np.random.default_rng(seed).permutation(wrong)[:_FROZEN])
    else:
        rows = np.sort(
            np.argsort(-np.abs(predictions - split.labels), kind="stable")[: max(1, split.n // 20)][:_FROZEN]
        )
    if not len(rows):
        raise NotApplicable("no test row is answered wrongly, so there is none to freeze")
    told = f"{len(rows)} rows of the test split that were answered wrongly"
    return Weakness(told=told, features=split.features[rows], labels=split.labels[rows])


CHECK = Check(info=INFO, params=PerformanceParams, measure=measure, plot=plot, weakness=weakness, rows=of_test)
