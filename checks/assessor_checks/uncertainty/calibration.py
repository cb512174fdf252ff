"""Calibration: do the model's probabilities come true as often as they say, on the test split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

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
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._calibration import Bins

ENOUGH = 50  # rows below which even two bins have intervals wider than any useful target
PER_BIN = 20  # rows a bin holds on average at the least
ENOUGH_TO_FIT = 200  # rows from which a temperature is fitted on one half and tried on the other
MOST_CELLS = 4_000_000  # probabilities a temperature is fitted on
MOST_CLASSES = 100  # classes judged one by one
MOST_JUDGED = 20_000_000  # their probabilities in all
COLUMNS = ("rows", "mean confidence", "accuracy", "low", "high", "band low", "band high")
CLASSES = "Calibration of each class's probability, the class against all others; p is of chance alone"
BINS = (
    "Bins of confidence: how often it came true, with 95 % Wilson interval, and the band in which that lies in 95 % of "
    "cases if the model is calibrated"
)
INTERVAL = (
    "95 % interval of the true binned error by inverting a parametric resampling test along the bins' Wilson "
    "intervals; low end 0 unless consistency resampling rejects calibration at 2.5 %; high end at least the plain "
    "error and the normal upper bound for the bins merged into four"
)
DEBIASED = (
    "the error at which half of the redrawn plain errors lie above the observed one (bias of chance gaps removed)"
)
INFO = CheckInfo(
    id="uncertainty.calibration",
    version="2",
    title="Calibration of the model's probabilities",
    measures=(
        "How far the probabilities the model states are from how often they come true on the test split: the "
        "expected calibration error, mean of |accuracy - confidence| over bins of confidence, weighted by rows. "
        "Beside it the same class by class, the Brier score with its parts, the log loss, and tests of whether chance "
        "alone explains the error."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Calibrated is not accurate: a model that always states the base rate is perfectly calibrated and useless.",
        "The error is an average over the test split; subgroups and single classes may be far off in both directions.",
        "The value depends on the bins: errors of opposite sign within one bin cancel, so it bounds the unbinned "
        "error from below; compare only values got with the same bins.",
        "The plain error is above 0 even for a perfectly calibrated model, the more so with few rows and many bins.",
        "It holds for data like the test split; under a shift of the data calibration is usually the first to go.",
    ),
    remedy=(
        "Fit temperature scaling, Platt scaling or, with a thousand rows or more, isotonic regression on held-out data "
        "that are neither training nor test data, and measure again; read the reliability curve for where it errs. A "
        "remark tells which temperature fits one half of the test rows and what it does to the other half."
    ),
    remedy_code=(
        "logits = torch.log(torch.tensor(scores_held_out).clamp_min(1e-12))\n"
        "log_t = torch.zeros(1, requires_grad=True)\n"
        "fit = torch.optim.LBFGS([log_t], max_iter=100)\n"
        "def loss():\n"
        "    fit.zero_grad()\n"
        "    value = torch.nn.functional.cross_entropy(logits / log_t.exp(), labels_held_out)\n"
        "    value.backward()\n"
        "    return value\n"
        "fit.step(loss)  # then divide the model's logits by log_t.exp() before the softmax"
    ),
    source=(
        "Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al., ICML 2017, arXiv:1706.04599, equation 3. Bias: Kumar, "
        "Liang and Ma, NeurIPS 2019, arXiv:1909.10155, section 4; Roelofs et al., AISTATS 2022, arXiv:2012.08668. Test "
        "and bands: Bröcker and Smith, Weather and Forecasting 22 (2007) 651. Classwise: Kull et al., NeurIPS 2019, "
        "arXiv:1910.12656. Interval: test inversion, Carpenter, J. R. Statist. Soc. B 61 (1999) 159. Decomposition: "
        "Murphy, J. Appl. Meteorology 12 (1973) 595; Stephenson, Coelho and Jolliffe, Weather and Forecasting 23 "
        "(2008) 752; without bias: Ferro and Fricker, Q. J. R. Meteorol. Soc. 138 (2012) 1954"
    ),
    requirements=("RE-R-UE-ME-04", "RE-R-UE-OA"),
)


class CalibrationParams(Params):
    """Parameters of uncertainty.calibration.

    Attributes:
        bins: Wanted number of bins; fewer are used where a bin would hold under 20 rows on average.
        binning: Equally filled or equally wide bins.
        kind: The probability that is judged: that of the most probable class, or (binary) of the positive class.
        replicates: Number of resamples of each test and interval.
    """

    bins: int = Field(default=15, ge=2, le=100)
    binning: Literal["equal_mass", "equal_width"] = "equal_mass"
    kind: Literal["top_label", "positive"] = "top_label"
    replicates: int = Field(default=1000, ge=100, le=20_000)


class _Rows(NamedTuple):
    """Scores (n, C), labels (n,), and for the judged event its probability and whether it came (n,)."""

    scores: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    events: np.ndarray


def measure(subject: Subject, params: CalibrationParams, seed: int) -> Result:
    """Calibration error with its interval, proper scores, tests of calibration, bins and decomposition.

    Args:
        subject: Any classifier with probabilities.
        params: Bins and which probability is judged.
        seed: Seed of every resampling.

    Returns:
        Seven metrics, two more and a table of classes where there are more than two, the reliability curve.

    Raises:
        NotApplicable: No rows, scores that are no probabilities, a regression, or kind "positive" with more than two
            classes.
    """
    from assessor_checks import _calibration

    rows = _rows(subject, params.kind)
    wanted = max(1, min(params.bins, len(rows.labels) // PER_BIN))
    index = getattr(_calibration, params.binning)(rows.confidence, wanted)
    bins = _calibration.summarise(rows.confidence, rows.events, index)
    counts = _calibration.redrawn(rows.confidence, index, seed, params.replicates)
    columns: dict[str, tuple[float, ...]] = dict(zip(COLUMNS, _columns(bins, counts), strict=True))
    by_class = _by_class(subject, rows, params, wanted, seed)
    few = len(rows.labels) < ENOUGH
    return Result(
        metrics=(*_errors(bins, counts, params, seed), *by_class[0], *_scores(rows, params, seed)),
        series=(Series(name="reliability", title="Reliability curve", columns=columns),),
        tables=(
            _decomposition(rows, index, params.kind),
            Table(name="bins", title=BINS, columns=COLUMNS, rows=tuple(zip(*columns.values(), strict=True))),
            *by_class[1],
        ),
        remarks=(*_remarks(subject, rows, params, wanted, len(bins.n)), *_temperature(rows, params, wanted, seed)),
        doubt=f"{len(rows.labels)} rows are too few to judge calibration; {ENOUGH} are needed." if few else None,
    )


def _rows(subject: Subject, kind: str) -> _Rows:
    import numpy as np

    from assessor_checks._probabilities import improper

    if not subject.task.is_classification:
        raise NotApplicable(
            "a regression states no probabilities; use uncertainty.conformal_coverage, which measures how wide "
            "intervals around its predictions must be"
        )
    if Need.PROBABILITIES not in subject.offers:
        raise NotApplicable("the model gives decisions without probabilities; use reliability.performance")
    labels = subject.splits["test"].labels
    if not len(labels):
        raise NotApplicable("the test split has no rows")
    if kind == "positive" and subject.task is not Task.BINARY:
        raise NotApplicable("kind 'positive' needs two classes; take kind 'top_label' for more")
    scores = np.asarray(subject.scores("test"), dtype=np.float64)
    where = f"of {len(labels)} rows of the test split"
    if bad := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise NotApplicable(f"the model's scores are not finite for {bad} {where}")
    if bad := int(improper(scores).sum()):
        raise NotApplicable(f"the model's scores are no probabilities that sum to 1 for {bad} {where}")
    chosen = np.full(len(labels), 1) if kind == "positive" else scores.argmax(axis=1)
    confidence = scores[np.arange(len(labels)), chosen]
    return _Rows(scores, labels, confidence, (chosen == labels).astype(np.float64))


def _errors(bins: Bins, counts: np.ndarray, params: CalibrationParams, seed: int) -> tuple[Metric, ...]:
    from assessor_checks import _calibration

    plain, n = _calibration.ece(bins), int(bins.n.sum())
    p = _calibration.p_value(bins, counts)
    value, *ends = _calibration.true_ece(bins, p, seed, params.replicates)
    rms, *rms_ends = _calibration.rms_error(bins)
    filled = params.binning == "equal_mass"
    how = f"{len(bins.n)} {'equal-mass' if filled else 'equal-width'} bins of {_judged(params.kind)}"
    drawn = f"{INTERVAL}; {params.replicates} resamples"
    test = f"{params.replicates} redrawings of the labels from the model's own probabilities"
    return (
        _metric("ece", plain, ends, n, Better.LOWER, f"plain expected calibration error, {how}; {drawn}"),
        _metric("ece_debiased", value, ends, n, Better.LOWER, f"{DEBIASED}, {how}; interval of ece: {drawn}"),
        _metric("rms_calibration_error", rms, rms_ends, n, Better.LOWER, f"root mean square gap of bins, debiased "
                f"(Kumar et al. 2019), {how}; 95 % normal interval of its square"),
        _metric("calibration_p_value", p, [], n, Better.HIGHER, f"share of {test} (consistency resampling) with at "
                f"least the observed ece, {how}; no interval"),
    )  # fmt: skip


def _by_class(
    subject: Subject, rows: _Rows, params: CalibrationParams, wanted: int, seed: int
) -> tuple[tuple[Metric, ...], tuple[Table, ...]]:
    """Calibration of each class's probability; nothing for two classes, whose probabilities are one number."""
    from assessor_checks import _calibration
    from assessor_checks._gaps import holm
    from assessor_checks.uncertainty import _classwise

    n, classes = rows.scores.shape
    if classes == 2 or _too_many(n, classes):
        return (), ()
    binning = getattr(_calibration, params.binning)
    found = _classwise.classwise(rows.scores, rows.labels, binning, wanted, seed, params.replicates)
    adjusted = holm(found.p_values.tolist())
    counts = [int((rows.labels == c).sum()) for c in range(classes)]
    cells = tuple(zip(subject.classes, counts, found.errors.tolist(), found.gaps.tolist(), found.p_values.tolist(),
                      adjusted, strict=True))  # fmt: skip
    columns = ("class", "rows of the class", "calibration error", "mean probability minus share", "p", "p (Holm)")
    drawn = f"{found.redrawings} redrawings of all labels from the model's own probabilities"
    how = f"mean over {classes} classes of each class's own ece, the class against all others; ends are the means of "
    return (
        _metric("classwise_ece", found.mean, found.ends, n, Better.LOWER, f"{how}the classes' 95 % ends as for ece"),
        _metric("classwise_p_value", found.p_joint, [], n, Better.HIGHER, f"share of {drawn} with at least the "
                "observed classwise_ece; no interval"),
    ), (Table(name="classes", title=CLASSES, columns=columns, rows=cells),)  # fmt: skip


def _too_many(n: int, classes: int) -> bool:
    return classes > MOST_CLASSES or n * classes > MOST_JUDGED


def _scores(rows: _Rows, params: CalibrationParams, seed: int) -> tuple[Metric, ...]:
    import numpy as np

    from assessor_checks._intervals import bootstrap_mean

    labels, scores = rows.labels, rows.scores
    if scores.shape[1] == 2:
        brier, form = (scores[:, 1] - labels) ** 2, "mean of (p - y)^2 of the positive class, from 0 to 1"
    else:
        brier = ((scores - np.eye(scores.shape[1])[labels]) ** 2).sum(axis=1)
        form = "mean over rows of the sum over classes of (p - y)^2, from 0 to 2"
    loss = -np.log(np.maximum(scores[np.arange(len(labels)), labels], _tiny()))
    sign = f"mean of {_judged(params.kind)} minus whether it came true; above 0 is over-confident"
    metrics = []
    for name, values, how, better, unit in (
        ("brier", brier, form, Better.LOWER, "1"),
        ("nll", loss, "mean negative log of the true class's probability", Better.LOWER, "nats"),
        ("confidence_minus_accuracy", rows.confidence - rows.events, sign, Better.NONE, "1"),
    ):
        ends = bootstrap_mean(values, seed, replicates=params.replicates)[1:] if len(values) > 1 else ()
        known = "95 % BCa bootstrap over rows, normal from 50 000 rows on" if ends else "no interval from one row"
        metrics.append(_metric(name, float(values.mean()), ends, len(labels), better, f"{how}; {known}", unit))
    return tuple(metrics)


def _metric(
    name: str, value: float, ends: Sequence[float], n: int, better: Better, method: str, unit: str = "1"
) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    low, high, level = (*ends, CONFIDENCE) if ends else (None, None, None)
    return Metric(
        name=name, value=value, low=low, high=high, confidence=level, unit=unit, n=n, better=better, method=method,
        primary=name == "ece",
    )  # fmt: skip


def _judged(kind: str) -> str:
    return f"the {'positive' if kind == 'positive' else 'most probable'} class's probability"


def _tiny() -> float:
    import sys

    return sys.float_info.min


def _remarks(subject: Subject, rows: _Rows, params: CalibrationParams, wanted: int, used: int) -> tuple[str, ...]:
    import numpy as np

    n, found = len(rows.labels), []
    if wanted < params.bins:
        found.append(f"{wanted} instead of {params.bins} bins, so that {n} rows give {PER_BIN} a bin on average.")
    if used < wanted:
        why = "equal confidences stay in one bin" if params.binning == "equal_mass" else "the others hold no row"
        found.append(f"{used} of {wanted} bins are used: {why}.")
    if clipped := int((rows.scores[np.arange(n), rows.labels] < _tiny()).sum()):
        found.append(f"{clipped} rows give the true class probability 0; taken as {_tiny():.3g} in nll.")
    other = int((subject.predictions("test") != rows.scores.argmax(axis=1)).sum())
    if other and params.kind == "top_label":
        found.append(f"In {other} rows the prediction is not the most probable class, whose probability is judged.")
    if _too_many(n, classes := rows.scores.shape[1]):
        found.append(f"{n} rows of {classes} classes are too many to judge class by class.")
    return tuple(found)


def _temperature(rows: _Rows, params: CalibrationParams, wanted: int, seed: int) -> tuple[str, ...]:
    """What temperature scaling would do, fitted on one half of the rows and tried on the other."""
    import numpy as np

    from assessor_checks import _calibration
    from assessor_checks.uncertainty import _classwise

    n, classes = rows.scores.shape
    if n < ENOUGH_TO_FIT:
        return ()
    order = np.random.default_rng([seed, 4]).permutation(n)
    fitted, tried = order[: min(n // 2, max(ENOUGH_TO_FIT // 2, MOST_CELLS // classes))], order[n // 2 :]
    logs = np.log(np.maximum(rows.scores, _tiny()))
    temperature = _classwise.best_temperature(logs[fitted], rows.labels[fitted])
    if temperature is None:
        return ("No temperature between 0.01 and 100 fits the probabilities of one half of the rows best.",)
    chosen = np.full(n, 1) if params.kind == "positive" else rows.scores.argmax(axis=1)
    figures = []
    for scores in (rows.scores[tried], _classwise.tempered(logs[tried], temperature)):
        confidence = scores[np.arange(len(tried)), chosen[tried]]
        index = getattr(_calibration, params.binning)(confidence, wanted)
        error = _calibration.ece(_calibration.summarise(confidence, rows.events[tried], index))
        own = scores[np.arange(len(tried)), rows.labels[tried]]
        figures.append((error, float(-np.log(np.maximum(own, _tiny())).mean())))
    (before, loss_before), (after, loss_after) = figures
    return (
        f"A temperature of {temperature:.3g}, fitted on {len(fitted)} rows, changes the calibration error of "
        f"{len(tried)} others from {before:.3g} to {after:.3g} and their log loss from {loss_before:.3g} to "
        f"{loss_after:.3g}; above 1 it makes the model less sure of itself, below 1 more.",
    )


def _columns(bins: Bins, counts: np.ndarray) -> tuple[tuple[float, ...], ...]:
    from assessor_checks._calibration import consistency_band
    from assessor_checks._intervals import wilson

    shares = [wilson(round(share * n), n) for n, share in zip(bins.n.tolist(), bins.accuracy.tolist(), strict=True)]
    band = (tuple(end.tolist()) for end in consistency_band(bins, counts))
    return (tuple(bins.n.tolist()), tuple(bins.confidence.tolist()), *zip(*shares, strict=True), *band)


def _decomposition(rows: _Rows, index: np.ndarray, kind: str) -> Table:
    from assessor_checks._calibration import corrected, decompose, summarise

    parts = decompose(rows.confidence, rows.events, index)
    total = float(((rows.confidence - rows.events) ** 2).mean())
    without = corrected(summarise(rows.confidence, rows.events, index)) if len(rows.events) > 1 else (None,) * 3
    meanings = (
        "gap between confidence and accuracy; 0 is best",
        "how far accuracy differs between bins; subtracted, more is better",
        "of the event itself, whatever the model",
        "of confidence within bins",
        "of confidence with the event within bins; subtracted twice",
        "the sum of the above with their signs",
    )
    cells = tuple(zip((*parts._fields[:3], "within-bin spread", "within-bin covariance", "Brier score"),
                      (*parts, total), (*without, None, None, None), meanings, strict=True))  # fmt: skip
    title = f"Brier score of {_judged(kind)} as the forecast of one event, decomposed (Murphy)"
    columns = ("part", "value", "without the bias of few rows", "meaning")
    return Table(name="decomposition", title=title, columns=columns, rows=cells)


def plot(result: Result, axes: Axes) -> None:
    """Accuracy over confidence by bin with Wilson bars on the band of a calibrated model; bigger points: more rows."""
    columns = result.series[0].columns
    most = max(n or 0.0 for n in columns["rows"])
    axes.plot([0, 1], [0, 1], "--", color="0.5", linewidth=1)
    for place, row in enumerate(zip(*(columns[name] for name in COLUMNS), strict=True)):
        n, confidence, accuracy, low, high, band_low, band_high = (float(cell or 0.0) for cell in row)
        shade = f"{0.7 * (1 - n / most):.3f}"
        axes.plot([confidence, confidence], [band_low, band_high], "-", color="0.85", linewidth=5, zorder=1,
                  label=None if place else "where a calibrated model lies")  # fmt: skip
        axes.plot([confidence, confidence], [low, high], "-", color=shade, linewidth=1)
        axes.plot([confidence], [accuracy], "o", color=shade, markersize=3 + 4 * (n / most) ** 0.5,
                  label=None if place else "this model")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that came true")
    axes.legend(loc="upper left", frameon=False)


CHECK = Check(info=INFO, params=CalibrationParams, measure=measure, plot=plot, rows=of_test)
