"""How well the model's own scores tell rows of the field of use from rows outside it."""

from __future__ import annotations

from collections.abc import Mapping
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
    progress,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate

LEAST = 20  # rows on either side, at least
KEPT = 0.95  # share of regular rows that pass at the threshold
TWINS_SHARE = 0.1  # more outside rows than this that are regular rows as well: they are not outside
POINTS = 101  # of the ROC curve
GIVEN = "given"
SETS = {
    GIVEN: "rows from outside",
    "shuffled": "rows with shuffled features",
    "gaussian": "rows of Gaussian noise",
    "uniform": "rows of uniform noise",
    "stretched": "stretched rows",
}
INFO = CheckInfo(
    id="robustness.ood_detection",
    version="1",
    title="Telling rows from outside the field of use",
    measures=(
        "How well a score of the model, such as its confidence, separates test rows from rows outside the field of "
        "use: the probability that a row from outside looks more foreign than a test row (AUROC). It is measured on "
        "the user's own outside rows, or else on the hardest of several kinds of made ones."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "It holds for the outside rows used and for no others. Made rows (noise, shuffled features) are easier to "
        "notice than what comes up in use, such as another sensor, another population or another language.",
        "Made rows may happen to look like regular ones, above all where there are few features.",
        "A score that separates well still needs a threshold, someone who sets it, and a reaction that was tried.",
        "It says nothing of mistakes on rows inside the field of use; see uncertainty.selective_risk for these.",
    ),
    remedy=(
        "Collect rows from outside and name them under target.data.ood; use the score that separates best in the "
        "table; watch the inputs as well as the outputs; train with outside rows (outlier exposure) or several "
        "models whose disagreement is watched; hand conspicuous rows to a person."
    ),
    source=(
        "Maximum probability: Hendrycks and Gimpel 2017, arXiv 1610.02136; energy: Liu et al. 2020, arXiv 2010.03759; "
        "Mahalanobis: Lee et al. 2018, arXiv 1807.03888; nearest neighbours: Sun et al. 2022, arXiv 2204.06507; "
        "intervals: DeLong et al. 1988, Newcombe 2006"
    ),
    requirements=("RE-R-IM-ME-04", "RE-R-IM-ME-08", "RE-R-IM-OA"),
)


class OodDetectionParams(Params):
    """Parameters of robustness.ood_detection."""

    score: Literal["max_probability", "entropy", "energy", "mahalanobis", "knn_features", "knn_inputs"] = Field(
        default="max_probability",
        description="Score that the metrics are of; the table compares all. max_probability and entropy need class "
        "probabilities, energy logits, mahalanobis and knn_features a PyTorch module and a train split, knn_inputs a "
        "train split (it watches the inputs and asks no model).",
    )
    made: tuple[Literal["shuffled", "gaussian", "uniform", "stretched"], ...] = Field(
        default=("shuffled", "gaussian", "uniform", "stretched"),
        min_length=1,
        description="Made outside rows: features shuffled among the rows, noise like each feature's mean and standard "
        "deviation, noise over each feature's range, rows three times as far from the mean.",
    )
    neighbour: int = Field(default=10, ge=1, le=1000, description="Neighbour whose distance counts for knn scores.")
    max_samples: int = Field(default=1000, ge=20, description="Rows of each kind at most, chosen by the seed.")


class _Scored(NamedTuple):
    """Scores of regular rows and of each outside set, by name of the score; and what was noticed."""

    inside: Mapping[str, np.ndarray]
    outside: Mapping[str, Mapping[str, np.ndarray]]
    remarks: tuple[str, ...]
    twins: float  # share of the given outside rows that are test or training rows as well


def measure(subject: Subject, params: OodDetectionParams, seed: int) -> Result:
    """AUROC of the chosen score on the outside rows given, or on the hardest made ones, and a table of all.

    Args:
        subject: A classifier that gives probabilities for new inputs.
        params: Score, kinds of made rows, neighbours.
        seed: Seed of the rows' choice, of the made rows and of the bootstrap.

    Returns:
        Metrics, the ROC curve and the table.

    Raises:
        NotApplicable: No probabilities or features, the score cannot be had, too few rows, or outputs not finite.
    """
    from assessor_checks._intervals import CONFIDENCE
    from assessor_checks.robustness import _roc

    if Need.PROBABILITIES not in subject.offers:
        raise NotApplicable(
            "the model gives no class probabilities, so it has no score to look at; data.drift compares inputs alone"
        )
    found = _scored(subject, params, seed)
    if params.score not in found.inside:
        raise NotApplicable(
            f"the score '{params.score}' cannot be had of this model and data; there are {', '.join(found.inside)}"
        )
    judged = [GIVEN] if GIVEN in found.outside else list(found.outside)
    each = 1 - (1 - CONFIDENCE) / len(judged)
    inside = found.inside[params.score]
    areas = {name: _roc.auroc(found.outside[name][params.score], inside, each) for name in judged}
    worst = min(areas, key=lambda name: areas[name].value)
    return Result(
        metrics=_metrics(found, areas, worst, params, seed),
        series=(_curve(found.outside[worst][params.score], inside),),
        tables=(_table(found, worst),),
        remarks=(*_remarks(found, worst, params), *found.remarks),
        doubt=_doubt(found),
    )


def _scored(subject: Subject, params: OodDetectionParams, seed: int) -> _Scored:
    import numpy as np

    from assessor_checks import _inputs
    from assessor_checks.robustness import _ood

    regular = _ood.complete(_inputs.float_features(subject))
    rows = regular[_inputs.chosen_rows(len(regular), params.max_samples, seed)]
    if len(rows) < LEAST:
        raise NotApplicable(f"found {len(rows)} complete test rows, wanted at least {LEAST}")
    reference = _ood.training_rows(subject, rows.dtype, seed)
    scores, deep = _ood.scorer(subject, reference, min(params.neighbour, len(reference[0]) if reference else 1))
    remarks = []
    if reference is None:
        remarks.append("There is no train split, so scores by distance to training rows are missing.")
    elif Need.GRADIENTS in subject.offers and not deep:
        remarks.append("The model's last layer gives no features, so distances at its features are missing.")
    inside = _ood.finite(scores(rows))
    if lost := len(rows) - _rows_of(inside):
        raise NotApplicable(f"the model's outputs are not finite for {lost} of {len(rows)} test rows")
    given = _ood.given_rows(subject, rows, params.max_samples, seed)
    if given is not None and len(given) < LEAST:
        raise NotApplicable(f"found {len(given)} complete rows from outside, wanted at least {LEAST}")
    rng = np.random.default_rng([seed, 1])
    made = {str(kind): _ood.made_rows(kind, rows, rng) for kind in dict.fromkeys(params.made)}
    sets, outside = made if given is None else {GIVEN: given, **made}, {}
    for done, (name, some) in enumerate(sets.items()):
        progress("outside rows scored, sets", done, len(sets))
        outside[name] = _ood.finite(scores(some))
        if (count := _rows_of(outside[name])) < LEAST:
            raise NotApplicable(
                f"the model gives finite outputs for {count} of {len(some)} {SETS[name]}, wanted at least {LEAST}"
            )
        if count < len(some):
            remarks.append(f"{len(some) - count} of {len(some)} {SETS[name]} were left out: outputs not finite.")
    return _Scored(inside, outside, tuple(remarks), 0.0 if given is None else _ood.twins(subject, given))


def _rows_of(scores: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(scores.values())))


def _metrics(
    found: _Scored, areas: Mapping[str, Estimate], worst: str, params: OodDetectionParams, seed: int
) -> tuple[Metric, ...]:
    from assessor_checks._intervals import CONFIDENCE, Estimate
    from assessor_checks.robustness import _roc

    outside, inside = found.outside[worst][params.score], found.inside[params.score]
    ends = (min(area.low for area in areas.values()), min(area.high for area in areas.values()))
    together = (
        "" if len(areas) == 1 else f", lowest of {len(areas)} kinds of rows, intervals of all together (Bonferroni)"
    )
    precision = _roc.average_precision(outside, inside)
    drawn = _roc.average_precision_interval(outside, inside, seed)
    how = f"score {params.score}, {SETS[worst]} against test rows"
    rows = (
        (
            "auroc",
            Estimate(areas[worst].value, *ends),
            Better.HIGHER,
            f"{how}{together}; 95 % DeLong on the logit scale, Newcombe's method 5 where the scores do not overlap",
        ),
        (
            "fpr_at_95_tpr",
            _roc.passing_share(outside, inside, KEPT),
            Better.LOWER,
            f"share of outside rows that pass where 95 % of test rows pass; {how}; 95 % from order statistics and "
            "Clopper-Pearson together",
        ),
        (
            "aupr",
            drawn or Estimate(precision, precision, precision),
            Better.HIGHER,
            f"area under precision and recall of finding outside rows, as if half of all rows were; {how}; 95 % "
            "percentile bootstrap, none where the scores do not overlap",
        ),
    )
    known = {"aupr": drawn is not None}
    return tuple(
        Metric(
            name=name,
            value=value.value,
            low=value.low if known.get(name, True) else None,
            high=value.high if known.get(name, True) else None,
            confidence=CONFIDENCE if known.get(name, True) else None,
            n=len(outside),
            better=better,
            method=method,
            primary=name == "auroc",
        )
        for name, value, better, method in rows
    )


def _curve(outside: np.ndarray, inside: np.ndarray) -> Series:
    """The ROC curve at a hundred thresholds."""
    import numpy as np

    thresholds = np.quantile(inside, np.linspace(1, 0, POINTS), method="higher")
    alarms = (inside[:, None] > thresholds).mean(axis=0)
    noticed = (outside[:, None] > thresholds).mean(axis=0)
    columns = {"false_alarms": (0.0, *alarms.tolist(), 1.0), "noticed": (0.0, *noticed.tolist(), 1.0)}
    return Series(name="roc", title="Outside rows noticed by share of false alarms", columns=columns)


def _table(found: _Scored, worst: str) -> Table:
    """Every score on every set, that of the metrics first, with DeLong's interval for each by itself."""
    from assessor_checks.robustness import _roc

    rows = []
    for name in sorted(found.outside, key=lambda name: name != worst):
        for score, outside in found.outside[name].items():
            area, inside = _roc.auroc(outside, found.inside[score]), found.inside[score]
            passing = _roc.passing_share(outside, inside, KEPT).value
            rows.append((SETS[name], len(outside), score, *area, passing, _roc.average_precision(outside, inside)))
    columns = ("outside rows", "number", "score", "AUROC", "low", "high", "FPR at 95 % TPR", "AUPR")
    return Table(name="scores", title="All scores on all outside rows", columns=columns, rows=tuple(rows))


def _remarks(found: _Scored, worst: str, params: OodDetectionParams) -> tuple[str, ...]:
    from assessor_checks.robustness import _roc

    area = {score: _roc.auroc(outside, found.inside[score]).value for score, outside in found.outside[worst].items()}
    best = max(area, key=lambda score: area[score])
    remarks = [f"{_rows_of(found.inside)} test rows and {_rows_of(found.outside[worst])} {SETS[worst]}."]
    if worst != GIVEN:
        remarks.append(
            "No rows from outside the field of use were given (target.data.ood), so rows were made. They show what is "
            "easy to notice at best; whether rows that come up in use are noticed they do not show."
        )
    if area[best] > area[params.score]:
        remarks.append(
            f"Of all scores '{best}' separates these rows best, with an AUROC of {area[best]:.3g} against "
            f"{area[params.score]:.3g} for '{params.score}'; chosen afterwards, so somewhat too good."
        )
    if found.twins:
        remarks.append(f"{found.twins:.1%} of the rows from outside are found among the train or test rows as well.")
    return tuple(remarks)


def _doubt(found: _Scored) -> str | None:
    if found.twins > TWINS_SHARE:
        return (
            f"{found.twins:.1%} of the rows from outside are found among the train or test rows as well, so they are "
            "not from outside."
        )
    return None


def plot(result: Result, axes: Axes) -> None:
    """The ROC curve, and what guessing would give."""
    columns = result.series[0].arrays
    axes.plot((0, 1), (0, 1), ":", color="0.6")
    axes.plot(columns["false_alarms"], columns["noticed"], color="black")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("share of regular rows taken for foreign")
    axes.set_ylabel("share of outside rows noticed")


def rows(subject: Subject, params: OodDetectionParams) -> int:
    """Test rows, given rows and made rows, for probabilities, and of a module for logits and features."""
    asked = 3 if Need.GRADIENTS in subject.offers else 1
    test, given = (used(subject, name, params.max_samples) for name in ("test", "ood"))
    return asked * (test * (1 + len(set(params.made))) + given) + (used(subject, "train") if asked > 1 else 0)


CHECK = Check(info=INFO, params=OodDetectionParams, measure=measure, plot=plot, rows=rows)
