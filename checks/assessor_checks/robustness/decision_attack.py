"""Accuracy under an attack that sees answers only: for models without gradients, such as trees, and all others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Bounds,
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
    Task,
    Weakness,
    kept,
    progress,
    spread,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from pydantic import JsonValue

    from assessor_checks.robustness._hopskipjump import Found, Search
    from assessor_checks.robustness._reach import Surroundings

POINTS = 41  # of the curve over distances
FAILED_SHARE = 0.05  # more right rows than this without any adversarial point: the search failed, not the attack
UNITS = {"feature_std": "standard deviations", "feature_range": "ranges of the feature", "absolute": "feature units"}
NORMS = {"linf": "largest change of a feature", "l2": "Euclidean length of all changes"}
INFO = CheckInfo(
    id="robustness.decision_attack",
    version="1",
    title="Accuracy under an attack by questions alone",
    measures=(
        "For each test row the smallest change found that makes the answer wrong, by an attack that sees nothing but "
        "the answers. The robust accuracy at a distance is the share of rows that are right and for which no such "
        "change within that distance was found. It is an upper bound: a better search may find more."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "An attack proves no robustness: rows for which this search found nothing near may fall to another one or to "
        "more questions. Where the model gives gradients, robustness.autoattack and robustness.pgd_accuracy are "
        "stronger.",
        "Features are moved independently of each other; a changed row may be one that never occurs, or one whose "
        "right answer has changed with it.",
        "Columns that encode categories must be named under frozen unless they take two values only; others are "
        "treated as quantities.",
        "Distances depend on the scale of the features; in standard deviations rare and common features count alike.",
        "The interval covers the sampling of rows only, not the weakness of the search.",
    ),
    remedy=(
        "Look at the nearest changed rows: which features do they move? Train on such rows with their right labels, "
        "use fewer or coarser features, average more trees or limit their depth, restrict what an attacker can "
        "change, limit the number of questions one user may ask; then measure again with the same budget."
    ),
    source=(
        "Chen, Jordan, Wainwright: HopSkipJumpAttack, IEEE S&P 2020, arXiv 1904.02144, algorithm 2; with starts at "
        "rows of other classes, successive halving among them and moves of single features; interval: Clopper and "
        "Pearson 1934, of the median by order statistics"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
    spreads=True,
)


class DecisionAttackParams(Params):
    """Parameters of robustness.decision_attack."""

    norm: Literal["linf", "l2"] = Field(
        default="linf", description="Distance: largest change of a feature, or Euclidean length of all changes."
    )
    eps: float = Field(default=0.25, gt=0, description="Distance of the robust accuracy, in the unit of scale.")
    scale: Literal["feature_std", "feature_range", "absolute"] = Field(
        default="feature_std",
        description="Unit of distances: each feature's standard deviation or its range over the train split (test "
        "split without one), which both hold columns of at most two values fixed; or the features' own units.",
    )
    queries: int = Field(default=2000, ge=1, le=1_000_000, description="Questions a row: the attack's budget.")
    whole: Literal["kept", "ignored"] = Field(
        default="kept", description="Whether columns of whole numbers get whole numbers only."
    )
    bounds: Bounds | None = Field(
        default=None,
        description="Least and greatest valid feature value; without it those of each feature in the data.",
    )
    frozen: tuple[str, ...] = Field(default=(), description="Columns the attacker cannot change: names or '#3'.")
    max_samples: int = Field(default=500, ge=1, description="Rows attacked at most, chosen by the seed.")


class _Rows(NamedTuple):
    """The rows used, flat, in the data's own dtype."""

    right: np.ndarray  # (k, d) rows answered rightly
    labels: np.ndarray  # (k,)
    n: int  # rows asked
    left_out: int  # rows with missing values
    unsteady: int  # rows answered differently when asked again
    places: np.ndarray  # (n,) where the rows asked stand in the split
    is_right: np.ndarray  # (n,) bool


def measure(subject: Subject, params: DecisionAttackParams, seed: int) -> Result:
    """Robust accuracy with its interval, its curves over distance and questions, and where the search failed.

    Args:
        subject: Any classifier that answers new inputs.
        params: Distance, budget, what may be changed.
        seed: Seed of the rows' choice and of the search.

    Returns:
        Metrics and curves.

    Raises:
        NotApplicable: The inputs cannot be changed, or no row is complete.
    """
    from assessor_checks.robustness._reach import joined, surroundings, unit_doubt

    rows = _rows(subject, params, seed)
    around = surroundings(
        subject,
        seed,
        scale=params.scale,
        frozen=params.frozen,
        bounds=params.bounds,
        whole=params.whole == "kept",
    )
    search = _search(subject, params, around)
    found = _attacked(search, rows, params, seed)
    how = (
        f"upper bound: HopSkipJump and moves of single features, {params.norm} distance, {params.queries} questions a "
        f"row, seed {seed}; 95 % Clopper-Pearson, sampling of rows only"
    )
    standing, right = int((found.distance > params.eps).sum()), len(rows.right)
    metrics = [
        _share("robust_accuracy", standing, rows.n, Better.HIGHER, f"eps {params.eps:g}; {how}", primary=True),
        _share("clean_accuracy", right, rows.n, Better.HIGHER, "the same rows; 95 % Clopper-Pearson"),
    ]
    if right:
        how_failed = f"rows right before for which no wrong answer was found at any distance; {how}"
        metrics.extend(_median(found.distance, UNITS[params.scale]))
        metrics.append(_share("failed_share", found.failed, right, Better.NONE, how_failed))
    return Result(
        metrics=tuple(metrics),
        series=(_by_distance(found, rows.n, params.eps), _by_questions(found, rows.n, params.eps, search.checkpoints)),
        remarks=(*_remarks(subject, params, rows, found, search), *around.remarks),
        outcomes=_outcomes(subject, rows, found.distance > params.eps),
        doubt=joined(unit_doubt(subject, around.reach.unit, params.eps, params.scale), _doubt(rows, found)),
    )


def _outcomes(subject: Subject, rows: _Rows, standing: np.ndarray) -> tuple[Outcomes, ...]:
    stands = rows.is_right.copy()
    stands[rows.is_right] = standing
    return Outcomes.of("robust_accuracy", stands, subject.splits["test"], rows.places)


def _rows(subject: Subject, params: DecisionAttackParams, seed: int) -> _Rows:
    import numpy as np

    from assessor_checks import _inputs as inputs

    features = inputs.float_features(subject)
    chosen = inputs.chosen_rows(len(features), params.max_samples, seed)
    x, labels = features[chosen], subject.splits["test"].labels[chosen]
    whole = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if not whole.any():
        raise NotApplicable(f"every one of {len(x)} test rows has missing values, so no row can be changed")
    x, labels = x[whole], labels[whole]
    answers = subject.query(x)
    right = answers == labels
    unsteady = int((subject.query(x) != answers).sum())
    flat, left_out = x.reshape(len(x), -1), int((~whole).sum())
    return _Rows(flat[right], labels[right], len(x), left_out, unsteady, chosen[whole], right)


def _search(subject: Subject, params: DecisionAttackParams, around: Surroundings) -> Search:
    from assessor_checks.robustness._hopskipjump import Search
    from assessor_checks.robustness._nudges import Norm

    steps = {params.queries * eighth // 8 for eighth in range(1, 9)}
    return Search(
        decide=partial(_asked, subject, around.known.shape[1:]),
        reach=around.reach,
        known=around.known.reshape(len(around.known), -1),
        answers=subject.query(around.known),
        norm=Norm(params.norm),
        queries=params.queries,
        checkpoints=tuple(sorted(steps - {0})),
    )


def _asked(subject: Subject, shape: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    return subject.query(x.reshape(len(x), *shape))


def _attacked(search: Search, rows: _Rows, params: DecisionAttackParams, seed: int) -> Found:
    """The search on blocks of rows, each kept for a run that goes on."""
    from assessor_checks.robustness import _hopskipjump

    size = _hopskipjump.rows_at_once(search)
    starts = range(0, max(1, len(rows.right)), size)
    parts = spread(partial(_block, search, rows, params, seed, size), starts)
    return _hopskipjump.Found.joined(parts, len(search.checkpoints))


def _block(search: Search, rows: _Rows, params: DecisionAttackParams, seed: int, size: int, start: int) -> JsonValue:
    """What the search finds for some of the rows, as plain data."""
    import numpy as np

    from assessor_checks.robustness import _hopskipjump

    def compute() -> JsonValue:
        rng, some = np.random.default_rng([seed, 1, start]), slice(start, start + size)
        return _hopskipjump.smallest_changes(search, rows.right[some], rows.labels[some], rng).plain()

    progress("rows attacked", start, len(rows.right))
    return kept(["block", start, seed, params.model_dump(mode="json")], compute)


def _share(name: str, count: int, n: int, better: Better, method: str, *, primary: bool = False) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, clopper_pearson

    value, low, high = clopper_pearson(count, n)
    return Metric(
        name=name,
        value=value,
        low=low,
        high=high,
        confidence=CONFIDENCE,
        n=n,
        better=better,
        method=method,
        primary=primary,
    )


def _median(distance: np.ndarray, unit: str) -> list[Metric]:
    """Median of the smallest changes found; nothing where it is endless."""
    from assessor_checks._intervals import CONFIDENCE, quantile

    value, low, high = quantile(distance, 0.5)
    if math.isinf(value):
        return []
    known = math.isfinite(low) and math.isfinite(high)
    metric = Metric(
        name="median_distance",
        value=value,
        low=low if known else None,
        high=high if known else None,
        confidence=CONFIDENCE if known else None,
        unit=unit,
        n=len(distance),
        better=Better.HIGHER,
        method="smallest change found of rows right before; 95 % by order statistics, none with too few such rows",
    )
    return [metric]


def _by_distance(found: Found, n: int, eps: float) -> Series:
    import numpy as np

    from assessor_checks._intervals import clopper_pearson

    finite = found.distance[np.isfinite(found.distance)]
    farthest = max(2 * eps, float(np.quantile(finite, 0.95)) if len(finite) else 0.0)
    sizes = np.unique(np.concatenate([np.linspace(0, farthest, POINTS), [eps]]))
    estimates = [clopper_pearson(int((found.distance > size).sum()), n) for size in sizes]
    columns = dict(zip(("robust_accuracy", "low", "high"), zip(*estimates, strict=True), strict=True))
    title = "Robust accuracy by distance"
    return Series(name="curve", title=title, columns={"eps": tuple(sizes.tolist()), **columns})


def _by_questions(found: Found, n: int, eps: float, checkpoints: tuple[int, ...]) -> Series:
    import numpy as np

    standing = (found.by_queries > eps).sum(axis=0) / n
    medians = [float(np.median(column)) if len(column) else math.inf for column in found.by_queries.T]
    columns = {
        "questions": tuple(map(float, checkpoints)),
        "robust_accuracy": tuple(standing.tolist()),
        "median_distance": tuple(median if math.isfinite(median) else None for median in medians),
    }
    return Series(name="questions", title="What more questions found", columns=columns)


def _remarks(
    subject: Subject, params: DecisionAttackParams, rows: _Rows, found: Found, search: Search
) -> tuple[str, ...]:
    import numpy as np

    asked = int(found.queries.sum()) + 2 * rows.n + len(search.known)
    remarks = [
        f"{rows.n} of {subject.splits['test'].n} test rows; {asked} rows put through the model, of which "
        f"{len(search.known)} known rows to start from. Distance: {NORMS[params.norm]}, in {UNITS[params.scale]}."
    ]
    if rows.left_out:
        remarks.append(f"{rows.left_out} rows with missing values were left out.")
    if not len(rows.right):
        remarks.append("No row is answered rightly before the attack, so there is nothing to attack.")
        return tuple(remarks)
    if found.failed:
        remarks.append(f"For {found.failed} of {len(rows.right)} rows no wrong answer was found at any distance.")
    touched = found.changed[np.isfinite(found.distance)]
    if len(touched):
        remarks.append(f"Half of the changed rows differ in at most {int(np.median(touched))} features.")
    if len(search.checkpoints) == 8:
        half, whole_budget = ((found.by_queries[:, place] > params.eps).sum() / rows.n for place in (3, 7))
        remarks.append(
            f"With half of the questions the robust accuracy would have been {half:.3g} instead of {whole_budget:.3g}; "
            "where these differ much, more questions will find more."
        )
    return tuple(remarks)


def _doubt(rows: _Rows, found: Found) -> str | None:
    """Signs that the search failed rather than the model held."""
    if rows.unsteady:
        return (
            f"The model answers {rows.unsteady} of {rows.n} rows otherwise when asked again, which misleads a search."
        )
    if found.unanswered.any():
        return f"The model gave no answer (NaN or infinite outputs) to {int(found.unanswered.sum())} changed rows."
    if found.failed > FAILED_SHARE * len(rows.right):
        return (
            f"The search found no wrong answer at any distance for {found.failed} of {len(rows.right)} rows, so their "
            "standing says little: the model may give one answer only, or too few features may change."
        )
    return None


def plot(result: Result, axes: Axes) -> None:
    """Robust accuracy by distance, with its interval."""
    columns = result.series[0].arrays
    axes.fill_between(columns["eps"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["eps"], columns["robust_accuracy"], color="black")
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.set_xlabel("distance within which the attacker may move a row")
    axes.set_ylabel("robust accuracy (upper bound)")


def weakness(subject: Subject, params: DecisionAttackParams, seed: int) -> Weakness:
    """The nearest changed rows that the model gets wrong, within eps of test rows that it gets right.

    Args:
        subject: What was measured.
        params: As it was measured.
        seed: As it was measured.

    Returns:
        At most fifty.
    """
    import numpy as np

    from assessor_checks.robustness import _fooled, _hopskipjump
    from assessor_checks.robustness._reach import surroundings

    rows = _rows(subject, params, seed)
    whole = params.whole == "kept"
    around = surroundings(subject, seed, scale=params.scale, frozen=params.frozen, bounds=params.bounds, whole=whole)
    search = _search(subject, params, around)

    def found() -> Iterator[tuple[np.ndarray, object]]:
        for place, label in enumerate(rows.labels[: _fooled.TRIED]):
            row, wrong = rows.right[place], list[np.ndarray]()

            def decide(x: np.ndarray, label: int = label, wrong: list[np.ndarray] = wrong) -> np.ndarray:
                answers = search.decide(x)
                wrong.extend(np.array(x[(answers != label) & (answers >= 0)]))
                return answers

            rng = np.random.default_rng([seed, 2, place])
            watched = search._replace(decide=decide)
            _hopskipjump.smallest_changes(watched, row[None], rows.labels[place : place + 1], rng)
            if not wrong:
                continue
            lengths = _lengths(np.stack(wrong), row, around.reach.unit, params.norm)
            if lengths.min() <= params.eps:
                yield wrong[int(lengths.argmin())].reshape(around.known.shape[1:]), label

    return _fooled.weakness(found(), f"search by answers, {params.norm}, within {params.eps:g} ({params.scale})")


def _lengths(points: np.ndarray, row: np.ndarray, unit: np.ndarray, norm: str) -> np.ndarray:
    """(k,) length of the changes from a row to points, in units, over the features that may change."""
    import numpy as np

    free = unit > 0
    change = (points[:, free].astype(np.float64) - row[free].astype(np.float64)) / unit[free]
    found = np.abs(change).max(axis=1) if norm == "linf" else np.linalg.norm(change, axis=1)
    return np.asarray(found, dtype=np.float64)


def rows(subject: Subject, params: DecisionAttackParams) -> int:
    """The questions of every used row, and each twice as it is; fewer where rows fall early."""
    return used(subject, "test", params.max_samples) * (2 + params.queries)


CHECK = Check(info=INFO, params=DecisionAttackParams, measure=measure, plot=plot, weakness=weakness, rows=rows)
