"""How many labels are probably wrong, and which: by models that did not learn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
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
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.data._label_noise import Noise

_LEAST = 50  # rows
_FEW = 10  # rows of a label, and of the others, under which nothing is said of how well a model knows it
_MATRIX = 12  # classes up to which the whole joint is shown
_PAIRS = 50
QUANTILES = 101
INFO = CheckInfo(
    id="data.label_noise",
    version="2",
    title="Labels that are probably wrong",
    measures=(
        "The share of labels that are probably wrong, estimated by confident learning: for training labels from models "
        "trained anew without the rows they judge, for test labels from the assessed model itself."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.PROBABILITIES}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "Rows that are merely hard, because classes overlap, are counted as wrong too: with right labels the estimate "
        "is not 0 but up to the error of the judging model. It is a reason to look, not a finding.",
        "Labels that are wrong in the same way for the same kind of row are learned as right and go unseen.",
        "With a weak or badly calibrated model the estimate says more of the model than of the labels.",
        "The interval covers the sampling of rows only, not the method's own error.",
        "Test labels are judged by the model under test; where it was tuned on them, they look better than they are.",
    ),
    remedy=(
        "Have the listed rows labelled again by two people who do not see the old label; where they confirm many "
        "errors, check the labelling instruction for the pairs of classes in the table, and a random sample besides."
    ),
    source=(
        "Northcutt, Jiang, Chuang 2021 (arXiv 1911.00068), equations 1 to 3; Paul, Ganguli, Dziugaite 2021 "
        "(arXiv 2107.07075; EL2N); Korn and Graubard 1998"
    ),
    requirements=("RE-R-SC-ME-01",),
    instead=("data.quality",),
    spreads=True,
)


class LabelNoiseParams(Params):
    """What the user may set."""

    splits: tuple[Literal["train", "test"], ...] | None = Field(
        default=None,
        min_length=1,
        description="Splits whose labels to look at; when not given all that can be, training first",
    )
    folds: int = Field(
        default=5, ge=2, le=20, description="Parts of the training data, each judged by a model without it"
    )
    replicates: int = Field(default=200, ge=50, le=10_000, description="Resamples behind the interval")
    listed: int = Field(default=50, ge=0, le=1000, description="Suspicious rows listed in each split")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


class _Judged(NamedTuple):
    """Labels of one split beside the probabilities that judge them."""

    split: str
    labels: np.ndarray
    scores: np.ndarray
    noise: Noise


def measure(subject: Subject, params: LabelNoiseParams, seed: int) -> Result:
    """Estimated share of wrong labels, pairs of classes that are mixed up, rows to look at.

    Args:
        subject: A classifier with probabilities; training labels need a way to train it anew.
        params: Splits, folds, resamples.
        seed: Seed of folds, trainings and resamples.

    Returns:
        Noise rate and share of suspicious rows by split; tables of pairs and rows, the distribution of EL2N.

    Raises:
        NotApplicable: There are too few rows, one class only, scores that are not finite, or no way to judge the split.
    """
    able = Need.REFIT in subject.offers
    wanted = params.splits or (("train", "test") if able else ("test",))
    if "train" in wanted and not able:
        raise NotApplicable(
            "training labels need a way to train the model anew (target.model.train); set splits to test to judge the "
            "labels of the test split"
        )
    judged = [_judged(subject, name, params, seed) for name in dict.fromkeys(wanted)]
    doubts = {found.split: _doubts(found, subject.classes) for found in judged}
    first = judged[0].split
    return Result(
        metrics=tuple(
            metric
            for found in judged
            for metric in _metrics(found, params, seed, primary=found.split == first, sound=not doubts[found.split])
        ),
        series=tuple(_quantiles(found) for found in judged),
        tables=tuple(table for found in judged for table in _tables(found, subject.classes, params)),
        remarks=(
            *(text for found in judged for text in _remarks(found, subject.classes, params)),
            *(text for found in judged[1:] for text in doubts[found.split]),
        ),
        doubt=" ".join(doubts[first]) or None,
    )


def _judged(subject: Subject, name: str, params: LabelNoiseParams, seed: int) -> _Judged:
    import numpy as np

    from assessor_checks._probabilities import improper
    from assessor_checks.data import _label_noise

    labels = subject.splits[name].labels
    if len(labels) < _LEAST:
        raise NotApplicable(f"the {name} split has {len(labels)} rows; estimating wrong labels takes {_LEAST}")
    if (labels == labels[0]).all():
        raise NotApplicable(f"all labels of the {name} split are {subject.classes[int(labels[0])]}")
    scores = _label_noise.held_out_scores(subject, params.folds, seed) if name == "train" else subject.scores(name)
    if bad := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise NotApplicable(f"the model's scores are not finite for {bad} of {len(labels)} rows of the {name} split")
    if bad := int(improper(scores).sum()):
        raise NotApplicable(
            f"the model's scores are no probabilities that sum to 1 for {bad} of {len(labels)} rows of the {name} split"
        )
    return _Judged(name, labels, scores, _label_noise.confident_learning(labels, scores))


def _metrics(found: _Judged, params: LabelNoiseParams, seed: int, *, primary: bool, sound: bool) -> list[Metric]:
    """Metrics of one split; without intervals, so that no target is judged, where the model is no judge."""
    import math

    from assessor_checks._intervals import Estimate, clopper_pearson
    from assessor_checks.data._label_noise import rate_interval
    from assessor_checks.data._representation import metric

    n, c = len(found.labels), params.confidence
    rate = rate_interval(found.labels, found.scores, seed, params.replicates, c)
    count = clopper_pearson(int(_suspects(found).sum()), n, c)
    if not sound:
        rate, count = (Estimate(x.value, -math.inf, math.inf) for x in (rate, count))
    source = f"{params.folds}-fold cross-validation" if found.split == "train" else "the assessed model"
    return [
        metric(
            f"noise_rate_{found.split}",
            rate,
            n,
            f"confident learning on probabilities from {source}; bootstrap variance, Clopper-Pearson at the effective "
            f"number of rows",
            confidence=c,
            primary=primary,
        ),
        metric(
            f"suspicious_share_{found.split}",
            count,
            n,
            "rows confidently counted in another class than their label; Clopper-Pearson",
            confidence=c,
        ),
    ]


def _suspects(found: _Judged) -> np.ndarray:
    flags: np.ndarray = (found.noise.likely >= 0) & (found.noise.likely != found.labels)
    return flags


def _tables(found: _Judged, classes: tuple[str, ...], params: LabelNoiseParams) -> list[Table]:
    import numpy as np

    from assessor_checks.data._label_noise import el2n, margin

    noise, tables = found.noise, []
    if len(classes) <= _MATRIX:
        rows = tuple((name, *row) for name, row in zip(classes, noise.joint.tolist(), strict=True))
        title = f"Estimated shares of given label (row) and true class (column), {found.split} split"
        tables.append(Table(name=f"joint_{found.split}", title=title, columns=("given label", *classes), rows=rows))
    off = noise.joint * (1 - np.eye(len(classes)))
    order = [divmod(int(cell), len(classes)) for cell in np.argsort(-off, axis=None, kind="stable")[:_PAIRS]]
    pairs: list[tuple[Cell, ...]] = [
        (classes[i], classes[j], int(noise.counts[i, j]), float(off[i, j])) for i, j in order if off[i, j] > 0
    ]
    columns = ("given label", "likely class", "rows", "estimated share of all rows")
    title = f"Labels that may be mixed up, {found.split} split, the most frequent first"
    tables.append(Table(name=f"pairs_{found.split}", title=title, columns=columns, rows=tuple(pairs)))
    margins, scores = margin(found.labels, found.scores), el2n(found.labels, found.scores)
    suspects = np.flatnonzero(_suspects(found))
    listed = suspects[np.argsort(margins[suspects], kind="stable")][: params.listed]
    rows_listed: list[tuple[Cell, ...]] = [
        (int(row), classes[found.labels[row]], classes[noise.likely[row]], float(margins[row]), float(scores[row]))
        for row in listed
    ]
    title = f"Rows to look at, {found.split} split, the most suspicious first ({len(listed)} of {len(suspects)})"
    shown = ("row", "given label", "likely class", "margin", "EL2N")
    return [*tables, Table(name=f"rows_{found.split}", title=title, columns=shown, rows=tuple(rows_listed))]


def _quantiles(found: _Judged) -> Series:
    import numpy as np

    from assessor_checks.data._label_noise import el2n

    shares = np.linspace(0, 1, QUANTILES)
    values = np.quantile(el2n(found.labels, found.scores), shares)
    columns = {"share": tuple(shares.tolist()), "el2n": tuple(values.tolist())}
    return Series(name=f"el2n_{found.split}", title=f"EL2N score by row, sorted, {found.split} split", columns=columns)


def _remarks(found: _Judged, classes: tuple[str, ...], params: LabelNoiseParams) -> list[str]:
    import numpy as np

    counts = np.bincount(found.labels, minlength=len(classes))
    right = float((found.scores.argmax(axis=1) == found.labels).mean())
    said = [
        f"The probabilities that judge the {found.split} labels agree with {right:.1%} of them, always choosing the "
        f"most frequent label with {counts.max() / counts.sum():.1%}."
    ]
    least = 2 * params.folds
    if few := [name for name, count in zip(classes, counts, strict=True) if 0 < count < least]:
        said.append(f"Labels with fewer than {least} rows can hardly be judged: {', '.join(few[:10])}.")
    return said


def _doubts(found: _Judged, classes: tuple[str, ...]) -> list[str]:
    """Why the estimate for this split must not be judged."""
    import numpy as np

    from assessor_checks._performance import roc_auc

    said, blind = [], []
    for index, name in enumerate(classes):
        own = found.labels == index
        if (
            _FEW <= int(own.sum()) <= len(own) - _FEW
            and roc_auc(found.scores[own, index], found.scores[~own, index]).low <= 0.5
        ):
            blind.append(name)
    if blind:
        said.append(
            f"The model that judges the {found.split} labels cannot tell these from the rest: {', '.join(blind[:10])}."
        )
    if np.isin(found.scores, (0, 1)).all():
        said.append(
            f"All probabilities for the {found.split} split are 0 or 1, so every mistake of the model counts as a "
            f"wrong label."
        )
    return said


def plot(result: Result, axes: Axes) -> None:
    """Sorted EL2N scores: a steep end are rows whose labels disagree with a model that is sure."""
    for series, style in zip(result.series, ("-", "--"), strict=False):
        columns = series.arrays
        label = series.name.removeprefix("el2n_")
        axes.plot(columns["share"], columns["el2n"], style, color="black", label=label)
    axes.set_xlabel("share of rows")
    axes.set_ylabel("EL2N (0 certain of the label, 1.41 certain of another)")
    axes.legend(frameon=False)


def rows(subject: Subject, params: LabelNoiseParams) -> int | None:
    """Every test row once; unknown where models are trained anew, for the labels of the train split."""
    if Need.REFIT in subject.offers and "train" in (params.splits or ("train",)):
        return None
    return used(subject, "test")


CHECK = Check(info=INFO, params=LabelNoiseParams, measure=measure, plot=plot, rows=rows)
