"""Conformal coverage: how large sets and intervals around outputs must be, and where they fail to hold the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, model_validator

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
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.uncertainty._coverage_parts import Family
    from assessor_checks.uncertainty._sides import Side

ENOUGH = 50  # judged rows below which an interval of the coverage is wider than 0.15 even at 95 %
PART = 30  # rows of a class, group, stratum or slab that are judged; fewer are only listed
SEARCHED = 45  # searched rows that a slab holds at least; under 30 are then counted in it in one of 70 cases
STRATA = 5  # parts of about equal size that predicted values are cut into
LEVELS = tuple(round(0.5 + 0.025 * step, 3) for step in range(20))
EXACT = "95 % Clopper-Pearson given the calibration rows"
SLAB = "worst_slab_coverage"
PARTS = "Coverage by part of the data"
INFO = CheckInfo(
    id="uncertainty.conformal_coverage",
    version="1",
    title="Coverage and size of conformal sets and intervals",
    measures=(
        "From calibration rows it is learned how large a set of classes (or an interval around a predicted value) must "
        "be to hold the truth in a promised share of cases. On other rows it is counted how often it does, overall and "
        "in classes, groups and corners of the data, and how large the sets are."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "Where calibration and judged rows are halves of one split, drawn at random, the overall coverage is right by "
        "construction whatever the model; only the size and the weakest parts then speak about the model.",
        "The promise holds on average over rows from the same source, not for a single case, and not after a shift "
        "of the data.",
        "The intervals judged are made here from the model's outputs; intervals that the system shows to its users are "
        "not looked at.",
        "Only the parts looked at are judged; coverage may be low in others. A slab that was searched for is a lower "
        "bound on what can be found.",
        "Intervals around predicted values are equally wide everywhere, so that they are too narrow where errors are "
        "large; a model that predicts its own spread can do better.",
    ),
    remedy=(
        "Large sets: improve the model or its probabilities. Weak parts: calibrate by class or group (Mondrian "
        "conformal prediction), use adaptive scores (method aps, conformalised quantile regression), collect data "
        "there. Coverage below the promise: calibrate on data of the present source, never on training data."
    ),
    source=(
        "Lei et al., J. Am. Stat. Assoc. 113 (2018) 1094, theorem 2.2; LAC: Sadinle, Lei and Wasserman 2019, "
        "arXiv:1609.00451; APS: Romano, Sesia and Candes 2020, arXiv:2006.02544; law of the coverage: Vovk 2012, "
        "arXiv:1209.2673; slabs: Cauchois, Gupta and Duchi 2021, arXiv:2004.10181; strata by size: Angelopoulos et al. "
        "2021, arXiv:2009.14193"
    ),
    requirements=("RE-R-UE-ME-04", "RE-R-UE-OA"),
)


class ConformalCoverageParams(Params):
    """Parameters of uncertainty.conformal_coverage."""

    alpha: float = Field(default=0.1, gt=0, lt=0.5, description="Promised share of cases whose set misses the truth.")
    method: Literal["lac", "aps"] = Field(
        default="lac",
        description="Scores of classes: lac gives the smallest sets on average, aps larger ones that follow the "
        "difficulty of a case. A regression takes the size of the error.",
    )
    calibration: Literal["test", "train"] = Field(
        default="test", description="Where the size is learned: half of the test split, or the train split."
    )
    judged: Literal["test", "production"] = Field(
        default="test", description="Rows that are judged: those of the test split left, or those met in use."
    )
    order: Literal["random", "in_order"] = Field(
        default="random",
        description="Which half of the test split calibrates: a random one, or the first, which shows a drift of rows "
        "that are in order of time.",
    )

    slab_share: float = Field(
        default=0.15,
        ge=0.01,
        le=0.5,
        description="Least share of the judged rows in the slab of feature space that is searched for low coverage.",
    )

    @model_validator(mode="after")
    def _parted(self) -> ConformalCoverageParams:
        if self.order == "in_order" and (self.calibration, self.judged) != ("test", "test"):
            raise ValueError("order in_order parts the test split, so both calibration and judged must be test")
        return self


class _Found(NamedTuple):
    """Scores of the true labels on both sides, of all classes of the judged rows, and the limit."""

    calibration: np.ndarray
    judged: np.ndarray
    classes: np.ndarray | None
    limit: float

    @property
    def covered(self) -> np.ndarray:
        found: np.ndarray = self.judged <= self.limit
        return found


def measure(subject: Subject, params: ConformalCoverageParams, seed: int) -> Result:
    """Coverage and size of conformal sets, overall and in the weakest parts.

    Args:
        subject: Any classifier with probabilities, or any regression.
        params: Promise, scores, where to calibrate and judge.
        seed: Seed of halves, random scores and directions.

    Returns:
        Metrics, a table of parts, coverage by promised level.

    Raises:
        NotApplicable: Rows, labels or probabilities are missing or not finite, or too few for the promise.
    """
    calibration, judged = _sides(subject, params, seed)
    found = _scored(subject, calibration, judged, params, seed)
    families = tuple(_families(subject, judged, found, params, seed))
    n, m = len(calibration.labels), len(judged.labels)
    few = m < ENOUGH
    return Result(
        metrics=(
            *_overall(found, params.alpha, n, m),
            *(_set_sizes(found, seed) if subject.task.is_classification else _widths(calibration, found, params, seed)),
            *(metric for family in families for metric in _worst(family)),
        ),
        series=(_curve(found),),
        tables=(_table(families),),
        remarks=_remarks(params, found, families, judged),
        outcomes=Outcomes.of("coverage", found.covered, subject.splits[judged.split], judged.rows),
        doubt=f"{m} judged rows are too few to judge coverage; {ENOUGH} are needed." if few else None,
    )


def _sides(subject: Subject, params: ConformalCoverageParams, seed: int) -> tuple[Side, Side]:
    import numpy as np

    from assessor_checks.uncertainty._conformal import least_rows
    from assessor_checks.uncertainty._sides import side_of

    if subject.task.is_classification and Need.PROBABILITIES not in subject.offers:
        raise NotApplicable("the model gives decisions without probabilities; use reliability.performance")
    calibration, judged = (side_of(subject, name) for name in (params.calibration, params.judged))
    if params.calibration == params.judged:
        n = len(judged.labels)
        order = np.arange(n) if params.order == "in_order" else np.random.default_rng([seed, 0]).permutation(n)
        calibration, judged = judged.at(np.sort(order[: n // 2])), judged.at(np.sort(order[n // 2 :]))
    if len(calibration.labels) < (least := least_rows(params.alpha)):
        raise NotApplicable(
            f"{len(calibration.labels)} calibration rows are too few to promise {1 - params.alpha:g}; "
            f"{least} are needed at the least"
        )
    return calibration, judged


def _scored(subject: Subject, calibration: Side, judged: Side, params: ConformalCoverageParams, seed: int) -> _Found:
    import numpy as np

    from assessor_checks.uncertainty import _conformal

    if not subject.task.is_classification:
        here, there = (np.abs(side.outputs - side.labels) for side in (calibration, judged))
        return _Found(here, there, None, _conformal.limit(here, params.alpha))
    every = []
    for position, side in enumerate((calibration, judged)):
        u = np.random.default_rng([seed, 2 + position]).random(len(side.labels))
        aps = params.method == "aps"
        every.append(_conformal.aps_scores(side.outputs, u) if aps else _conformal.lac_scores(side.outputs))
    here, there = (
        scores[np.arange(len(scores)), side.labels] for scores, side in zip(every, (calibration, judged), strict=True)
    )
    return _Found(here, there, every[1], _conformal.limit(here, params.alpha))


def _overall(found: _Found, alpha: float, n: int, m: int) -> tuple[Metric, ...]:
    from assessor_checks._intervals import clopper_pearson
    from assessor_checks.uncertainty._conformal import p_of_undercoverage

    covered = int(found.covered.sum())
    how = f"share of {m} rows whose set holds the truth; promised {1 - alpha:g}, learned on {n} rows"
    p = p_of_undercoverage(covered, m, n, alpha)
    test = "chance of so little coverage or less if all rows come from one source (beta-binomial); no interval"
    return (
        _metric("coverage", clopper_pearson(covered, m), m, Better.HIGHER, f"{how}; {EXACT}"),
        Metric(name="undercoverage_p_value", value=p, n=m, better=Better.HIGHER, method=test),
    )


def _set_sizes(found: _Found, seed: int) -> tuple[Metric, ...]:
    from assessor_checks._intervals import bootstrap_mean, clopper_pearson

    size, m = _size(found).astype(float), len(found.judged)
    mean = bootstrap_mean(size, seed) if m > 1 else float(size.mean())
    how = "mean number of classes in a set; 95 % BCa bootstrap over rows"
    one = clopper_pearson(int((size == 1).sum()), m)
    return (
        _metric("mean_set_size", mean, m, Better.LOWER, how, "classes"),
        _metric("single_class_share", one, m, Better.HIGHER, f"share of sets of just one class; {EXACT}"),
    )


def _size(found: _Found) -> np.ndarray:
    assert found.classes is not None
    size: np.ndarray = (found.classes <= found.limit).sum(axis=1)
    return size


def _widths(calibration: Side, found: _Found, params: ConformalCoverageParams, seed: int) -> tuple[Metric, ...]:
    from assessor_checks._intervals import Estimate
    from assessor_checks.uncertainty._conformal import limit_interval, width_ratio

    n, width = len(found.calibration), 2 * found.limit
    ends = limit_interval(found.calibration, params.alpha)
    both = width if ends is None else Estimate(width, min(width, 2 * ends[0]), max(width, 2 * ends[1]))
    how = "width of every interval, twice the limit of the error; 95 % interval from two ordered errors (binomial)"
    metrics = [_metric("interval_width", both, n, Better.LOWER, how, "units of the target")]
    ratio = width_ratio(calibration.labels, calibration.outputs, params.alpha, seed)
    if ratio is not None:
        how = "interval_width divided by the width of intervals around the median label, as if nothing were known; 95 %"
        metrics.append(_metric("width_ratio", ratio, n, Better.LOWER, f"{how} percentile bootstrap over rows"))
    return tuple(metrics)


def _metric(name: str, found: Estimate | float, n: int, better: Better, method: str, unit: str = "1") -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    value, low, high = (found, None, None) if isinstance(found, float | int) else found
    return Metric(
        name=name, value=value, low=low, high=high, confidence=None if low is None else CONFIDENCE, unit=unit, n=n,
        better=better, method=method, primary=name == "coverage",
    )  # fmt: skip


def _families(
    subject: Subject, judged: Side, found: _Found, params: ConformalCoverageParams, seed: int
) -> Iterator[Family]:
    """The ways to part the judged rows: class, size or value, groups of persons, a slab that was searched for."""
    from assessor_checks.uncertainty import _coverage_parts as parts

    covered, split = found.covered, subject.splits[judged.split]
    if subject.task.is_classification:
        yield parts.by_number("worst_class_coverage", "class", judged.labels, covered, subject.classes)
        yield parts.by_number("worst_size_coverage", "classes in the set", _size(found), covered)
    else:
        yield parts.by_value("worst_prediction_coverage", "predicted value", judged.outputs, covered, STRATA)
    if split.attributes is not None:
        yield from parts.by_group("worst_group_coverage", "group", split.attributes.iloc[judged.rows], covered)
    if split.features is not None:
        features = split.features[judged.rows]
        yield from parts.in_slab(
            SLAB, "slab", features, split.feature_names, covered, params.slab_share, SEARCHED, seed
        )


def _worst(family: Family) -> Iterator[Metric]:
    """Coverage of the least covered part, if there are parts to compare."""
    from assessor_checks.uncertainty._conformal import least_covered

    enough = family.trials >= PART
    if enough.sum() < (1 if family.metric == SLAB else 2):
        return
    hits, trials = family.hits[enough], family.trials[enough]
    worst, estimate = least_covered(hits, trials)
    how = (
        f"coverage of the least covered of {len(trials)} parts; 95 % Clopper-Pearson for all parts at once (Bonferroni)"
    )
    if family.metric == SLAB:
        how = f"coverage in the slab that was least covered on other rows; {EXACT}"
    yield _metric(family.metric, estimate, int(trials[worst]), Better.HIGHER, how)


def _table(families: tuple[Family, ...]) -> Table:
    from assessor_checks._intervals import clopper_pearson

    rows = tuple(
        (family.kind, name, int(trials), *clopper_pearson(int(hits), int(trials)))
        for family in families
        for name, hits, trials in zip(family.names, family.hits, family.trials, strict=True)
    )
    columns = ("kind", "part", "rows", "coverage", "low", "high")
    return Table(name="parts", title=PARTS, columns=columns, rows=rows)


def _curve(found: _Found) -> Series:
    """Reached coverage and mean size by promised level, with Wilson intervals."""
    import math

    from assessor_checks._intervals import wilson
    from assessor_checks.uncertainty._conformal import limit

    rows = []
    for level in LEVELS:
        end = limit(found.calibration, 1 - level)
        if math.isinf(end):
            continue
        reached = wilson(int((found.judged <= end).sum()), len(found.judged))
        size = 2 * end if found.classes is None else float((found.classes <= end).sum(axis=1).mean())
        rows.append((level, *reached, size))
    columns = ("promised", "reached", "low", "high", "size")
    return Series(
        name="levels",
        title="Coverage reached, and mean size of a set, by the coverage promised",
        columns=dict(zip(columns, zip(*rows, strict=True), strict=True)),
    )


def _remarks(
    params: ConformalCoverageParams, found: _Found, families: tuple[Family, ...], judged: Side
) -> tuple[str, ...]:
    import numpy as np

    remarks = []
    if params.calibration == params.judged and params.order == "random":
        remarks.append(
            "Calibration and judged rows are random halves of the test split: overall coverage is right by "
            "construction; read the size of the sets and the weakest parts."
        )
    if params.calibration == "train":
        remarks.append(
            "The size was learned on rows the model was trained on; coverage below the promise shows that its errors "
            "there are smaller than on new rows."
        )
    if small := sum(
        int((family.trials < PART).sum()) for family in families if family.metric == SLAB or len(family.trials) > 1
    ):
        remarks.append(f"{small} parts of fewer than {PART} rows are listed and not judged.")
    if found.classes is not None and (empty := int((_size(found) == 0).sum())):
        remarks.append(f"{empty} of {len(judged.labels)} sets are empty: no class seems to fit these rows.")
    if tied := len(found.calibration) - len(np.unique(found.calibration)):
        remarks.append(
            f"{tied} of {len(found.calibration)} calibration scores repeat another one; equal scores can only raise "
            "the coverage above the promise."
        )
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Reached over promised coverage with 95 % bars; on the diagonal the promise is kept."""
    columns = result.series[0].columns
    axes.plot([0.5, 1], [0.5, 1], "--", color="0.5", linewidth=1, label="as promised")
    for row in zip(columns["promised"], columns["reached"], columns["low"], columns["high"], strict=True):
        x, y, low, high = (float(cell or 0.0) for cell in row)
        axes.plot([x, x], [low, high], color="0.6", linewidth=1)
        axes.plot([x], [y], "o", color="black", markersize=3)
    axes.set_xlabel("coverage promised")
    axes.set_ylabel("share of rows whose set holds the truth")
    axes.legend(frameon=False)


def rows(subject: Subject, params: ConformalCoverageParams) -> int:
    """Every row of the splits once."""
    return sum(used(subject, name) for name in {params.calibration, params.judged})


CHECK = Check(info=INFO, params=ConformalCoverageParams, measure=measure, plot=plot, rows=rows)
