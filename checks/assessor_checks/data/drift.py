"""Do the data differ from those they are measured against: test from training, rows met in use from test?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    Split,
    Subject,
    Table,
    Task,
    progress,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.data._drift import Shift
    from assessor_checks.data._two_sample import Separation

_LEAST = 20  # rows a split
_COMPONENTS = 50  # that pictures are projected on
_SHOWN = 50
_WIDE = 4000  # numbers a row beyond which it is projected as pictures are
INFO = CheckInfo(
    id="data.drift",
    version="1",
    title="Drift between data sets",
    measures=(
        "How well a classifier can tell the rows of two data sets apart (area under the ROC curve on rows held out: "
        "0.5 is no difference), how far single features, labels and the model's outputs moved, each with its test: "
        "training against test data, and test data against rows met in use where there are some."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Significance is not size: with many rows a harmless difference is significant, with few a grave one is not. "
        "Judge the size by its interval; the remarks say which size could have been seen.",
        "The classifier is one of many: it finds a lower bound of the difference, and may miss patterns that are rare "
        "or involve many features at once.",
        "Drift of the inputs does not show that the model fails on them, nor does their constancy show that it does "
        "not: how labels depend on inputs can change unseen (concept drift).",
        "Rows are taken as independent; neighbouring frames or readings make every difference look significant.",
        "The model's outputs are compared between test data and rows met in use only: on its own training data it is "
        "more certain without any drift.",
        "Pictures are compared by their main components; a small change in a corner may be in none of them.",
    ),
    remedy=(
        "Look up the features that moved most and find out why: another source, season, unit or pre-processing; mend "
        "the pipeline or retrain with recent data, and measure the performance anew on labelled rows from use."
    ),
    source=(
        "Lopez-Paz and Oquab 2017 (arXiv 1610.06545); Kim et al. 2021, Ann. Stat. 49:411 (classifier two-sample "
        "tests); Massart 1990 (interval of the Kolmogorov-Smirnov distance); Stephens 1970; Newcombe 1998; Holm 1979; "
        "Lipton, Wang, Smola 2018 (arXiv 1802.03916, shares of labels)"
    ),
    requirements=("RE-R-SC-ME-01", "RE-R-SC-ME-02", "RE-R-CD-ME-03"),
)


class DriftParams(Params):
    """What the user may set."""

    rows: int = Field(default=5000, ge=_LEAST, le=50_000, description="Rows of each split at most for the classifier")
    permutations: int = Field(default=199, ge=99, le=10_000, description="Permutations behind the classifier's p-value")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


class _Pair(NamedTuple):
    """Two splits that are compared: how well they separate, and how far each column moved."""

    old: Split
    new: Split
    separation: Separation
    shifts: list[Shift]
    components: bool


def measure(subject: Subject, params: DriftParams, seed: int) -> Result:
    """Separation, shifts of features, labels and outputs for each pair of splits.

    Args:
        subject: With features of the test split and of the train or the production split.
        params: Rows, permutations.
        seed: Seed of sampling, folds, random features and permutations.

    Returns:
        Four to seven metrics a pair, named by the newer split; tables of features, labels and outputs.

    Raises:
        NotApplicable: There is nothing to compare with, or too few rows, or they differ in shape.
    """
    names = [pair for pair in (("train", "test"), ("test", "production")) if {*pair} <= set(subject.splits)]
    if not names:
        raise NotApplicable("needs training data (target.data.train) or rows met in use (target.data.production)")
    pairs = [_compared(subject.splits[old], subject.splits[new], params, seed) for old, new in names]
    last = pairs[-1]
    found = [_of_labels(subject, pair, params) for pair in pairs] + [
        _of_outputs(subject, pair, params, seed) for pair in pairs
    ]
    return Result(
        metrics=(
            *(metric for pair in pairs for metric in _of_features(pair, params, primary=pair is last)),
            *(metric for metrics, _ in found for metric in metrics),
        ),
        series=tuple(_curve(pair) for pair in pairs),
        tables=(*(_table(pair) for pair in pairs), *(table for _, tables in found for table in tables)),
        remarks=tuple(text for pair in pairs for text in _remarks(pair, params)),
    )


def _compared(old: Split, new: Split, params: DriftParams, seed: int) -> _Pair:
    import numpy as np

    from assessor_checks._inputs import chosen_rows
    from assessor_checks.data import _drift, _two_sample
    from assessor_checks.data._representation import numbers

    a, b = numbers(old), numbers(new)
    if a.shape[1:] != b.shape[1:]:
        raise NotApplicable(f"rows of {old.name} and {new.name} differ in shape, so they cannot be compared")
    for split in (old, new):
        if split.n < _LEAST:
            raise NotApplicable(f"the {split.name} split has {split.n} rows; comparing data sets takes {_LEAST}")
    components = a.ndim != 2 or a.shape[1] > _WIDE
    some = [x[chosen_rows(len(x), params.rows, seed)] for x in (a, b)]
    names = new.feature_names or tuple(f"#{index}" for index in range(a[0].size))
    if components:
        joined = np.concatenate(some)
        if not np.isfinite(joined.reshape(len(joined), -1)).all():
            raise NotApplicable(
                f"inputs of {old.name} or {new.name} are missing or infinite, so they cannot be projected"
            )
        joined = _two_sample.principal(joined, _COMPONENTS, np.random.default_rng(seed))
        some = [joined[: len(some[0])], joined[len(some[0]) :]]
        a, b = some
        names = tuple(f"component {index + 1}" for index in range(joined.shape[1]))
    shifts = _drift.shifts(a, b, names)
    if not shifts:
        raise NotApplicable(f"no column of {old.name} and {new.name} varies, so there is nothing to compare")
    progress(f"telling {old.name} and {new.name} apart", 0, 1)
    apart = _two_sample.separation(
        some[0], some[1], seed, permutations=params.permutations, confidence=params.confidence
    )
    return _Pair(old, new, apart, shifts, components)


def _of_features(pair: _Pair, params: DriftParams, *, primary: bool) -> list[Metric]:
    from assessor_checks.data._representation import extreme, metric

    name, shifts = pair.new.name, pair.shifts
    n, apart = min(pair.old.n, pair.new.n), pair.separation
    metrics = [
        metric(
            f"joint_auc_{name}",
            apart.area,
            n,
            "area under the ROC curve of a classifier that tells the data sets apart, 5 folds held out; DeLong on the "
            "logit scale",
            confidence=params.confidence,
            primary=primary,
        ),
        Metric(
            name=f"joint_p_value_{name}",
            value=apart.p_value,
            n=n,
            better=Better.HIGHER,
            method=f"the same classifier trained anew on each of {params.permutations} permutations",
        ),
    ]
    found = extreme(lambda i, c: _interval(shifts[i], c), len(shifts), largest=True, confidence=params.confidence)
    return [
        *metrics,
        metric(
            f"largest_feature_shift_{name}",
            found,
            n,
            f"largest Kolmogorov-Smirnov distance of {len(shifts)} columns; Dvoretzky-Kiefer-Wolfowitz, the lower end "
            f"simultaneous (Bonferroni)",
            confidence=params.confidence,
        ),
        Metric(
            name=f"feature_p_value_{name}",
            value=min(shift.adjusted for shift in shifts),
            n=n,
            better=Better.HIGHER,
            method="smallest p-value of a column after Holm: Kolmogorov-Smirnov, chi-squared for few values",
        ),
    ]


def _interval(shift: Shift, confidence: float) -> Estimate:
    from assessor_checks.data._drift import ks_interval

    return ks_interval(shift.distance, shift.n, shift.m, confidence)


def _of_labels(subject: Subject, pair: _Pair, params: DriftParams) -> tuple[list[Metric], list[Table]]:
    """How far the labels moved, where both splits have them."""
    import numpy as np

    from assessor_checks.data import _drift
    from assessor_checks.data._representation import metric

    old, new, name = pair.old.labels, pair.new.labels, pair.new.name
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return [], []
    if subject.task.is_classification:
        return _shares(
            f"label_change_{name}", "label", old.astype(np.int64), new.astype(np.int64), subject.classes, params
        )
    distance, n = _drift.ks_distance(old, new), min(len(old), len(new))
    found, method = _drift.ks_interval(distance, len(old), len(new), params.confidence), "Dvoretzky-Kiefer-Wolfowitz"
    return [
        metric(
            f"label_change_{name}",
            found,
            n,
            f"Kolmogorov-Smirnov distance of the targets; {method}",
            confidence=params.confidence,
        ),
        _p(f"label_p_value_{name}", _drift.ks_p(distance, len(old), len(new)), n, "Kolmogorov-Smirnov test"),
    ], []


def _p(name: str, value: float, n: int, method: str) -> Metric:
    return Metric(name=name, value=value, n=n, better=Better.HIGHER, method=method)


def _shares(
    name: str, what: str, old: np.ndarray, new: np.ndarray, classes: tuple[str, ...], params: DriftParams
) -> tuple[list[Metric], list[Table]]:
    """Largest change of a class's share, among labels or among predictions."""
    import numpy as np

    from assessor_checks.data import _drift
    from assessor_checks.data._representation import extreme, metric

    counts = [np.bincount(x, minlength=len(classes)) for x in (old, new)]
    rows = (len(old), len(new))

    def change(index: int, confidence: float) -> Estimate:
        return _drift.share_change((int(counts[0][index]), int(counts[1][index])), rows, confidence)

    found = extreme(change, len(classes), largest=True, confidence=params.confidence)
    method = f"largest change of a class's share; Newcombe, the lower end simultaneous over {len(classes)} classes"
    p_name = name.replace("change", "p_value")
    cells: list[tuple[Cell, ...]] = [
        (label, int(a), int(b), a / rows[0], b / rows[1], (b / rows[1]) - (a / rows[0]))
        for label, a, b in zip(classes, counts[0].tolist(), counts[1].tolist(), strict=True)
    ]
    cells.sort(key=lambda row: -abs(float(row[5] or 0)))
    columns = (what, "rows before", "rows after", "share before", "share after", "change")
    title = f"Shares of each {what}, the largest change first"
    return [
        metric(name, found, min(rows), method, confidence=params.confidence),
        _p(p_name, _drift.counts_p(counts[0], counts[1]), min(rows), "chi-squared test of equal shares"),
    ], [Table(name=name, title=title, columns=columns, rows=tuple(cells[:_SHOWN]))]


def _of_outputs(subject: Subject, pair: _Pair, params: DriftParams, seed: int) -> tuple[list[Metric], list[Table]]:
    """How far the model's outputs moved from test data to rows met in use, and which labels that would mean."""
    import numpy as np

    from assessor_checks._confusion import confusion
    from assessor_checks.data import _drift
    from assessor_checks.data._representation import metric

    if pair.old.name == "train":
        return [], []
    old, new = (subject.predictions(split.name) for split in (pair.old, pair.new))
    if not subject.task.is_classification:
        distance, n = _drift.ks_distance(old, new), min(len(old), len(new))
        found = _drift.ks_interval(distance, len(old), len(new), params.confidence)
        method = "Kolmogorov-Smirnov distance of the predictions; Dvoretzky-Kiefer-Wolfowitz"
        return [
            metric("output_change_production", found, n, method, confidence=params.confidence),
            _p("output_p_value_production", _drift.ks_p(distance, len(old), len(new)), n, "Kolmogorov-Smirnov test"),
        ], []
    metrics, tables = _shares("output_change_production", "prediction", old, new, subject.classes, params)
    table = confusion(pair.old.labels, old, len(subject.classes))
    shares = _drift.shifted_shares(table, np.bincount(new, minlength=len(subject.classes)), seed)
    if shares is not None:
        rows = tuple((label, *share) for label, share in zip(subject.classes, shares, strict=True))
        title = "Shares of the true classes among rows met in use, if nothing but these shares changed (95 % bootstrap)"
        tables.append(Table(name="labels_in_use", title=title, columns=("class", "share", "low", "high"), rows=rows))
    return metrics, tables


def _table(pair: _Pair) -> Table:
    rows = tuple(
        (x.name, x.distance, x.stability, x.move, x.p_value, x.adjusted, x.n, x.m) for x in pair.shifts[:_SHOWN]
    )
    columns = (
        *("column", "Kolmogorov-Smirnov distance", "stability index", "Wasserstein distance (deviations)", "p-value"),
        *("p-value (Holm)", "rows before", "rows after"),
    )
    title = f"Columns from {pair.old.name} to {pair.new.name}, the farthest first ({len(rows)} of {len(pair.shifts)})"
    return Table(name=f"features_{pair.new.name}", title=title, columns=columns, rows=rows)


def _curve(pair: _Pair) -> Series:
    """Distances of all columns in falling order, beside what the largest of them reaches by chance."""
    import numpy as np

    distances = tuple(shift.distance for shift in pair.shifts)
    alone = [np.sqrt(np.log(2 * max(1, len(distances)) / 0.05) / 2 * (1 / x.n + 1 / x.m)) for x in pair.shifts]
    title = f"Distances of columns, {pair.old.name} to {pair.new.name}"
    columns = {"rank": tuple(range(1, len(distances) + 1)), "distance": distances, "chance": tuple(map(float, alone))}
    return Series(name=f"distances_{pair.new.name}", title=title, columns=columns)


def _remarks(pair: _Pair, params: DriftParams) -> list[str]:
    from scipy.special import ndtri

    from assessor_checks.data._representation import POWER

    old, new = pair.old.name, pair.new.name
    seen = 0.5 + float(ndtri(0.95) + ndtri(POWER)) * pair.separation.spread
    moved = sum(shift.adjusted <= 0.05 for shift in pair.shifts)
    said = [
        f"From {old} to {new}: a joint_auc below about {seen:.2f} could not be told from no difference with this many "
        f"rows (power under {POWER:.0%}).",
        f"From {old} to {new}: {moved} of {len(pair.shifts)} columns moved by more than chance (Holm, 5 %).",
    ]
    if pair.components:
        said.append(f"Inputs of {old} and {new} were compared by their {len(pair.shifts)} main components.")
    if max(pair.old.n, pair.new.n) > params.rows:
        said.append(f"The classifier saw at most {params.rows} rows each of {old} and {new}.")
    return said


def plot(result: Result, axes: Axes) -> None:
    """Distances of the columns in falling order; the dashed line is what chance gives the largest of them."""
    for series, style in zip(result.series, ("o", "s"), strict=False):
        columns, name = series.arrays, series.name.removeprefix("distances_")
        axes.plot(columns["rank"], columns["distance"], style, color="black", markersize=3, label=name)
        axes.plot(columns["rank"], columns["chance"], "--" if style == "o" else ":", color="0.5")
    axes.set_ylim(0, 1)
    axes.set_xlabel("columns, sorted")
    axes.set_ylabel("Kolmogorov-Smirnov distance; chance dashed")
    axes.legend(frameon=False)


def rows(subject: Subject, params: DriftParams) -> int:
    """Every test row and every row met in use once; nothing without the latter."""
    return used(subject, "test") + used(subject, "production") if "production" in subject.splits else 0


CHECK = Check(info=INFO, params=DriftParams, measure=measure, plot=plot, rows=rows)
