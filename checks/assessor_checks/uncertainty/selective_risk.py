"""Selective risk: how many errors are left when the least confident cases are handed over to people."""

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
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks._selective import Area

ENOUGH = 50  # rows below which no order of confidences can be told from another
ERRORS = 10  # errors below which the normal intervals cover less than 90 % in simulations
LEVELS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1)
POINTS = 200  # of the curve that is drawn
LOG = "95 % infinitesimal jackknife on the scale of the logarithm"
BOUND = "95 % bound for any order, from the Clopper-Pearson interval of the error rate, as there are few errors"
INFO = CheckInfo(
    id="uncertainty.selective_risk",
    version="2",
    title="Errors left when unsure cases are handed over",
    measures=(
        "Test rows are sorted by the model's confidence. For every share of accepted rows the error rate among them is "
        "counted; the mean of these rates is the area under the risk-coverage curve. It is compared with the best "
        "order, in which all errors come last, and with a random one."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "It shows whether confidence sorts right from wrong on data like the test split; on foreign inputs a model can "
        "be confidently wrong.",
        "The area falls with the error rate too; to compare models of different accuracy take excess_aurc or "
        "rejection_ratio.",
        "All errors cost the same here, and a case that is handed over costs nothing and is then decided rightly.",
        "A good order of confidences says nothing about their size: that is uncertainty.calibration.",
        "The interval at a coverage holds for the threshold found on these rows; a threshold in use needs data of its "
        "own.",
        "Thresholds by group are not looked at: handing over may fall on some groups more than on others.",
    ),
    remedy=(
        "Calibrate by class or train an ensemble, whose disagreement is a better confidence; look at the confident "
        "errors of the table first, they are often wrong labels or missing groups; choose the threshold in use on "
        "held-out data with the cost of an error and of handing over."
    ),
    source=(
        "El-Yaniv and Wiener, JMLR 11 (2010) 1605; Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206 (AURC and "
        "excess AURC); rejection ratio: Malinin, Mlodozeniec and Gales 2020, arXiv:1905.00076; AUROC: DeLong, DeLong "
        "and Clarke-Pearson, Biometrics 44 (1988) 837"
    ),
    requirements=("RE-R-UE-ME-04", "RE-R-UE-OA"),
)


class SelectiveRiskParams(Params):
    """Parameters of uncertainty.selective_risk."""

    coverage: float = Field(default=0.8, gt=0, le=1, description="Share of cases the model decides by itself.")
    confidence: Literal["max_probability", "margin", "entropy"] = Field(
        default="max_probability",
        description="What sorts the cases: the largest probability, its distance to the second largest, or the "
        "entropy of all, smallest first.",
    )


class _Rows(NamedTuple):
    """Confidence (n,) and whether the decision is wrong (n,), 0 or 1."""

    confidence: np.ndarray
    errors: np.ndarray


def measure(subject: Subject, params: SelectiveRiskParams, seed: int) -> Result:
    """Risk-coverage curve, its area, excess and ratio, and the risk at a coverage.

    Args:
        subject: Any classifier with probabilities.
        params: Coverage and what sorts the cases.
        seed: None is used: nothing is drawn.

    Returns:
        Metrics, a table of levels, the curve beside the best and a random one.

    Raises:
        NotApplicable: No rows, no probabilities, or a regression.
    """
    rows = _rows(subject, params.confidence)
    n, errors = len(rows.errors), int(rows.errors.sum())
    return Result(
        metrics=(*_areas(rows, params.confidence), *_order(rows), *_risks(rows, params.coverage)),
        series=(_curve(rows),),
        tables=(_levels(rows),),
        remarks=_remarks(rows, errors, n),
        doubt=f"{n} rows are too few to judge an order of confidences; {ENOUGH} are needed." if n < ENOUGH else None,
    )


def _rows(subject: Subject, kind: str) -> _Rows:
    import numpy as np

    from assessor_checks._probabilities import improper

    if not subject.task.is_classification:
        raise NotApplicable(
            "a regression states no confidence to sort its cases by; use uncertainty.conformal_coverage, which "
            "measures how wide intervals around its predictions must be"
        )
    if Need.PROBABILITIES not in subject.offers:
        raise NotApplicable("the model gives decisions without probabilities; use reliability.performance")
    labels = subject.splits["test"].labels
    if not (n := len(labels)):
        raise NotApplicable("the test split has no rows")
    scores = np.asarray(subject.scores("test"), dtype=np.float64)
    if bad := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise NotApplicable(f"the model's scores are not finite for {bad} of {n} rows of the test split")
    if bad := int(improper(scores).sum()):
        raise NotApplicable(
            f"the model's scores are no probabilities that sum to 1 for {bad} of {n} rows of the test split"
        )
    return _Rows(_confidence(scores, kind), (subject.predictions("test") != labels).astype(np.float64))


def _confidence(scores: np.ndarray, kind: str) -> np.ndarray:
    import numpy as np
    from scipy.special import xlogy

    if kind == "entropy":
        found: np.ndarray = xlogy(scores, scores).sum(axis=1)
        return found
    ranked = np.sort(scores, axis=1)
    return ranked[:, -1] - ranked[:, -2] if kind == "margin" else ranked[:, -1]


def _areas(rows: _Rows, kind: str) -> tuple[Metric, ...]:
    from assessor_checks import _selective

    n, wrong = len(rows.errors), int(rows.errors.sum())
    area, excess = _selective.aurc(*rows), _selective.excess_aurc(*rows)
    how = f"mean error rate over all shares of accepted rows, sorted by {kind.replace('_', ' ')}"
    above = "aurc minus that of the best order of the same errors"
    few = wrong < ERRORS or excess.value <= 0
    known = BOUND if few else LOG
    return (
        _metric("aurc", _bounded(area, wrong, n) if few else area.positive_interval(), n, f"{how}; {known}"),
        _metric("excess_aurc", _bounded(excess, wrong, n) if few else excess.positive_interval(), n,
                f"{above}; {known}"),
    )  # fmt: skip


def _bounded(area: Area, wrong: int, n: int) -> Estimate:
    """From 0 to the largest area that any order could have at the highest likely error rate."""
    from assessor_checks._intervals import Estimate, clopper_pearson
    from assessor_checks._selective import worst_area

    return Estimate(area.value, 0.0, max(area.value, worst_area(clopper_pearson(wrong, n).high)))


def _order(rows: _Rows) -> tuple[Metric, ...]:
    """How well confidence sorts right from wrong, where there are enough of both to tell."""
    from assessor_checks import _selective
    from assessor_checks._intervals import Estimate

    wrong, n = int(rows.errors.sum()), len(rows.errors)
    if min(wrong, n - wrong) < ERRORS:
        return ()
    right = rows.errors == 0
    ratio = _selective.rejection_ratio(*rows)
    interval = Estimate(*(round(end, 12) for end in _selective.ratio_interval(ratio, wrong)))  # 0, not 5e-16
    found = _selective.auroc(rows.confidence[right], rows.confidence[~right])
    part = "share of the gain of the best order that is reached: 1 best, 0 random"
    chance = "chance that a right decision is more confident than a wrong one; 0.5 is guessing"
    return (
        _metric("rejection_ratio", interval, n, f"{part}; {LOG} of what is missing to 1", Better.HIGHER),
        _metric("error_auroc", found, n, f"{chance}; 95 % DeLong interval on the logit scale", Better.HIGHER),
    )


def _risks(rows: _Rows, coverage: float) -> tuple[Metric, ...]:
    from assessor_checks._intervals import clopper_pearson
    from assessor_checks._selective import level

    n, at = len(rows.errors), level(*rows, coverage)
    exact = "95 % Clopper-Pearson"
    how = f"error rate of the {at.accepted} rows of confidence {at.threshold:.4g} or more, the least that keep"
    return (
        _metric("risk_at_coverage", clopper_pearson(at.errors, at.accepted), at.accepted,
                f"{how} a share of {coverage:g}; {exact}"),
        _metric("risk", clopper_pearson(int(rows.errors.sum()), n), n, f"error rate of all rows; {exact}"),
    )  # fmt: skip


def _metric(name: str, found: Estimate, n: int, method: str, better: Better = Better.LOWER) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name, value=found.value, low=found.low, high=found.high, confidence=CONFIDENCE, n=n, better=better,
        method=method, primary=name == "aurc",
    )  # fmt: skip


def _levels(rows: _Rows) -> Table:
    from assessor_checks._intervals import clopper_pearson
    from assessor_checks._selective import level

    cells = []
    for share in LEVELS:
        at = level(*rows, share)
        found = clopper_pearson(at.errors, at.accepted)
        cells.append((share, at.accepted / len(rows.errors), at.threshold, at.accepted, at.errors, *found))
    columns = ("share wanted", "share accepted", "least confidence", "rows", "errors", "error rate", "low", "high")
    title = "Errors among the rows that are accepted, by the share accepted"
    return Table(name="levels", title=title, columns=columns, rows=tuple(cells))


def _curve(rows: _Rows) -> Series:
    import numpy as np

    from assessor_checks import _selective

    n, wrong = len(rows.errors), int(rows.errors.sum())
    at = np.unique(np.linspace(0, n - 1, POINTS).round().astype(int))
    columns = {
        "coverage": (at + 1) / n,
        "risk": _selective.curve(*rows)[at],
        "best": _selective.oracle(wrong, n)[at],
        "random": np.full(len(at), wrong / n),
    }
    title = "Error rate of the accepted rows by their share"
    return Series(name="curve", title=title, columns={name: tuple(map(float, x)) for name, x in columns.items()})


def _remarks(rows: _Rows, errors: int, n: int) -> tuple[str, ...]:
    import numpy as np

    remarks = []
    if min(errors, n - errors) < ERRORS:
        remarks.append(
            f"{errors} of {n} decisions are wrong; {ERRORS} right and {ERRORS} wrong ones are needed to say how well "
            "confidence sorts them."
        )
    values = len(np.unique(rows.confidence))
    if values == 1 < n:
        remarks.append("The confidence is the same in all rows, so that it sorts nothing.")
    elif values < n // 2:
        remarks.append(f"There are {values} different confidences for {n} rows; equal ones count as in random order.")
    top = rows.confidence == rows.confidence.max()
    if sure := int(rows.errors[top].sum()):
        remarks.append(f"{sure} of the {int(top.sum())} rows of the very highest confidence are decided wrongly.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Error rate over the share of accepted rows, beside the best order and a random one."""
    columns = result.series[0].columns
    for name, style, shade in (("risk", "-", "0"), ("best", "--", "0.3"), ("random", ":", "0.5")):
        x, y = ([float(cell or 0.0) for cell in columns[column]] for column in ("coverage", name))
        axes.plot(x, y, style, color=shade, label="this model" if name == "risk" else f"{name} order")
    axes.set_xlabel("share of rows accepted")
    axes.set_ylabel("error rate of the accepted rows")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)


CHECK = Check(info=INFO, params=SelectiveRiskParams, measure=measure, plot=plot, rows=of_test)
