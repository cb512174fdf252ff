"""Would the same person get another answer with another value of a sensitive attribute?"""

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
    Subject,
    Table,
    Task,
    progress,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.fairness._flips import Attribute

INFO = CheckInfo(
    id="fairness.counterfactual_flip",
    version="2",
    title="Change of the output when a sensitive attribute is flipped",
    measures=(
        "Each row is given to the model again with every other value of a sensitive attribute that is among the "
        "features, all else unchanged: the share of rows whose prediction changes for some value, and how much the "
        "score or the predicted value moves."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.SENSITIVE, Need.QUERY}),
    tasks=frozenset(Task),
    limits=(
        "No change does not show fairness: features that stand in for the attribute (proxies) stay as they are; "
        "fairness.distance_covariance looks at what reaches the output through them.",
        "Nothing that would follow from the other value in the world changes along, so this is no counterfactual in "
        "the sense of causal models.",
        "A flipped row may describe a person who does not exist; the model was never trained for it.",
        "Only attributes that are features can be flipped, each by itself.",
    ),
    remedy=(
        "Train without the attribute and measure again, together with fairness.distance_covariance; if the law or the "
        "purpose asks for it as an input, document why and for whom the output changes."
    ),
    source=(
        "Galhotra, Brun, Meliou 2017, Fairness testing (arXiv 1709.03221), section 3.2 (causal discrimination score); "
        "for what it is not: Kusner, Loftus, Russell, Silva 2017 (arXiv 1703.06856), definition 5"
    ),
    requirements=("FN-R-FN-ME-05",),
    instead=(
        "fairness.distance_covariance",
        "fairness.individual_consistency",
    ),
)
_SHOWN = 100
_ROUNDING = 0.001  # share of rows at the very threshold that batches of another size may turn


class CounterfactualFlipParams(Params):
    """What the user may set."""

    attributes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Sensitive attributes to flip; all that are features when not given"
    )
    positive: str | None = Field(
        default=None, description="Class whose score is looked at; a binary task's last class when not given"
    )
    rows: int = Field(default=10_000, ge=20, le=10_000_000, description="Most rows that are flipped; drawn at random")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals")


class _Outputs(NamedTuple):
    """Predictions (n,) and scores (n, C) or values (n, 1), None where the model gives hard predictions only."""

    predicted: np.ndarray
    scores: np.ndarray | None


class _Moved(NamedTuple):
    """Over all flips of all attributes: rows that were flipped, those that change, and the largest move of each row.

    Attributes:
        flipped: (n,) rows with at least one flip.
        changed: (n,) rows whose prediction changes for some flip.
        largest: (n,) largest move of the scores, half the sum of absolute changes, or of the predicted value.
        rows: Of the table of flips.
    """

    flipped: np.ndarray
    changed: np.ndarray
    largest: np.ndarray
    rows: list[tuple[Cell, ...]]


def measure(subject: Subject, params: CounterfactualFlipParams, seed: int) -> Result:
    """Share of rows that change, mean move of the output, and both for each pair of values.

    Args:
        subject: A model that can be asked, with a table of features.
        params: What the user set.
        seed: Seed of the sample of rows and of the bootstrap.

    Returns:
        For a classification the flip rate, and the mean change of score or value.

    Raises:
        NotApplicable: No sensitive attribute is among the features, or none has two values.
    """
    from assessor_checks._inputs import chosen_rows

    features = subject.splits["test"].features
    if features is None or features.ndim != 2 or len(features) == 0:
        raise NotApplicable(
            "the inputs are no table of features with rows, so no attribute can be flipped in them; use "
            "fairness.distance_covariance"
        )
    kept = chosen_rows(len(features), params.rows, seed)
    found, remarks = _attributes(subject, features[kept], params)
    before = _asked(subject, features[kept], params)
    moved = _flipped(subject, features[kept], before, found, params, seed)
    if len(kept) < len(features):
        remarks.append(f"A random sample of {len(kept)} of {len(features)} rows was flipped.")
    unstable = _unstable(before.predicted, subject.predictions("test")[kept], subject.task)
    return Result(
        metrics=_metrics(subject, before, moved, params, seed),
        tables=(
            Table(
                name="flips",
                title="What changes from one value to another, largest mean change first",
                columns=("attribute", "from", "to", "rows", "share changed", "low", "high", "mean change",
                         "mean change low", "mean change high"),
                rows=tuple(moved.rows[:_SHOWN]),
            ),
        ),
        remarks=tuple(remarks),
        doubt=(
            f"Asked again, the model gives another prediction for {unstable} of {len(kept)} unchanged rows, so changes "
            "cannot be put down to the attribute." if unstable > _ROUNDING * len(kept) else None
        ),
    )  # fmt: skip


def _unstable(again: np.ndarray, first: np.ndarray, task: Task) -> int:
    """Rows for which the model says something else when asked once more."""
    import numpy as np

    if task.is_classification:
        return int((again != first).sum())
    return int((np.abs(again - first) > 1e-5 * max(1e-12, float(np.abs(first).max()))).sum())


def _attributes(
    subject: Subject, features: np.ndarray, params: CounterfactualFlipParams
) -> tuple[list[Attribute], list[str]]:
    """The sensitive attributes that are features, and sentences on them and the others."""
    from assessor_checks.fairness._flips import find_attribute

    split = subject.splits["test"]
    assert split.attributes is not None
    known = [str(name) for name in split.attributes.columns]
    for name in params.attributes or ():
        if name not in known:
            raise NotApplicable(f"attributes: no sensitive column '{name}'; found {known}")
    found, sentences = [], []
    for name in params.attributes or known:
        attribute = find_attribute(name, split.feature_names, features)
        if attribute is None:
            sentences.append(f"'{name}' is not among the features, so it cannot be flipped.")
        elif len(attribute.values) < 2:
            sentences.append(f"'{name}' has the same value in all rows, so there is nothing to flip it to.")
        else:
            found.append(attribute)
            sentences.append(f"'{name}' is flipped among: {', '.join(attribute.names)}.")
            if missing := int((~attribute.flippable).sum()):
                sentences.append(f"{missing} rows have no value of '{name}' and are not flipped.")
    if not found:
        raise NotApplicable(
            f"{' '.join(sentences) or 'no sensitive attribute was named'} Use fairness.distance_covariance, which "
            "needs no flip and sees proxies too"
        )
    return found, sentences


def _asked(subject: Subject, features: np.ndarray, params: CounterfactualFlipParams) -> _Outputs:
    """What the model says of these rows."""
    import numpy as np

    if params.positive is not None and params.positive not in subject.classes:
        raise NotApplicable(f"positive: no class '{params.positive}'; wanted one of {list(subject.classes)}")
    predicted = subject.query(features)
    if subject.task is Task.REGRESSION:
        scores = np.asarray(predicted, dtype=np.float64)[:, None]
    elif Need.PROBABILITIES not in subject.offers:
        return _Outputs(predicted, None)
    else:
        scores = subject.query_scores(features)
    if wrong := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise NotApplicable(f"the model gives no finite output for {wrong} of {len(features)} rows, flipped or not")
    return _Outputs(predicted, scores)


def _flipped(
    subject: Subject,
    features: np.ndarray,
    before: _Outputs,
    attributes: list[Attribute],
    params: CounterfactualFlipParams,
    seed: int,
) -> _Moved:
    """Every row with every other value of every attribute."""
    import numpy as np

    n = len(features)
    flipped, changed, largest = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), np.zeros(n)
    rows: list[tuple[Cell, ...]] = []
    total, done = sum(len(attribute.values) for attribute in attributes), 0
    for attribute in attributes:
        for value in range(len(attribute.values)):
            progress("flips", done, total)
            done += 1
            others = attribute.flippable & (attribute.own != value)
            if not others.any():
                continue
            after = _asked(subject, attribute.flipped(features[others], value), params)
            different = after.predicted != before.predicted[others]
            flipped |= others
            changed[others] |= different
            step = np.zeros(int(others.sum()))
            if after.scores is not None and before.scores is not None:
                moves = after.scores - before.scores[others]
                size = np.abs(moves).sum(axis=1) / (1 if subject.task is Task.REGRESSION else 2)
                largest[others] = np.maximum(largest[others], size)
                step = moves[:, _looked_at(subject, params)]
            rows += _pairs(attribute, value, attribute.own[others], different, step, params, seed)
    return _Moved(flipped, changed, largest, sorted(rows, key=lambda row: -abs(float(row[7] or 0.0))))


def _looked_at(subject: Subject, params: CounterfactualFlipParams) -> int:
    """Column of the scores whose signed change is told."""
    return subject.classes.index(params.positive) if params.positive is not None else -1


def _pairs(
    attribute: Attribute,
    value: int,
    own: np.ndarray,
    different: np.ndarray,
    moves: np.ndarray,
    params: CounterfactualFlipParams,
    seed: int,
) -> list[tuple[Cell, ...]]:
    """A row of the table for each value that rows come from."""
    import numpy as np

    from assessor_checks._intervals import bootstrap_mean, clopper_pearson

    rows: list[tuple[Cell, ...]] = []
    for origin in np.unique(own).tolist():
        some = own == origin
        n = int(some.sum())
        share = clopper_pearson(int(different[some].sum()), n, params.confidence)
        mean = bootstrap_mean(moves[some], seed, confidence=params.confidence)[1:] if n > 1 else (None, None)
        name = attribute.names[origin] if origin >= 0 else "its own value"
        rows.append((attribute.name, name, attribute.names[value], n, *share, float(moves[some].mean()), *mean))
    return rows


def _metrics(
    subject: Subject, before: _Outputs, moved: _Moved, params: CounterfactualFlipParams, seed: int
) -> tuple[Metric, ...]:
    from assessor_checks._intervals import bootstrap_mean, clopper_pearson

    n, regression = int(moved.flipped.sum()), subject.task is Task.REGRESSION
    found = []
    if not regression:
        value, low, high = clopper_pearson(int(moved.changed[moved.flipped].sum()), n, params.confidence)
        found.append(
            Metric(
                name="flip_rate",
                value=value,
                low=low,
                high=high,
                confidence=params.confidence,
                n=n,
                better=Better.LOWER,
                method="share of rows whose predicted class changes for at least one other value of one attribute; "
                "Clopper-Pearson",
                primary=True,
            )
        )
    if before.scores is not None:
        sizes = moved.largest[moved.flipped]
        ends = bootstrap_mean(sizes, seed, confidence=params.confidence)[1:] if n > 1 else None
        found.append(
            Metric(
                name="mean_value_change" if regression else "mean_score_change",
                value=float(sizes.mean()),
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
                confidence=params.confidence if ends else None,
                unit="units of the target" if regression else "1",
                n=n,
                better=Better.LOWER,
                method=(
                    f"mean over rows of the largest "
                    f"{'absolute change of the predicted value' if regression else 'total variation of the scores'} "
                    f"over all flips; {'BCa bootstrap over rows' if ends else 'no interval from one row'}"
                ),
                primary=regression,
            )
        )
    return tuple(found)


def plot(result: Result, axes: Axes) -> None:
    """Mean change of the output with its interval for the flips that move it most.

    Args:
        result: What `measure` gave.
        axes: Axes to draw on.
    """
    columns = result.tables[0].columns
    rows = [dict(zip(columns, row, strict=True)) for row in result.tables[0].rows][:20]
    axes.axvline(0, linestyle="--", color="0.6")
    for place, row in enumerate(rows):
        value = float(row["mean change"] or 0)
        if row["mean change low"] is not None:
            ends = [float(row["mean change low"] or 0), float(row["mean change high"] or 0)]
            axes.plot(ends, [place] * 2, "-", color="0.4", linewidth=1)
        axes.plot([value], [place], "o", color="black")
    axes.set_yticks(range(len(rows)), [f"{row['from']} to {row['to']}" for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="mean change of score or value, with interval", ylabel="flip")


def rows(subject: Subject, params: CounterfactualFlipParams) -> int:
    """Every used row as it is and with every other value of every attribute; with scores where there are some."""
    split = subject.splits["test"]
    names = [name for name in split.sensitive if name in (params.attributes or split.sensitive)]
    values = 0 if split.attributes is None else int((split.attributes[names].nunique() - 1).sum())
    scored = subject.task.is_classification and Need.PROBABILITIES in subject.offers
    return split.n + used(subject, "test", params.rows) * (1 + values) * (1 + scored)


CHECK = Check(info=INFO, params=CounterfactualFlipParams, measure=measure, plot=plot, rows=rows)
