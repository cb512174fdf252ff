"""Reproducibility: whether model, data and predictions come out the same when loaded again, and when trained again."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, JsonValue

from assessor.contract import (
    Better,
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
    kept,
    progress,
    spread,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.auditability._reproduction import Comparison

INFO = CheckInfo(
    id="auditability.reproducibility",
    version="1",
    title="Reproducibility of model, data and predictions",
    measures=(
        "Loads model and data again from scratch, each time with other seeds of the global random generators, and "
        "compares digests and the predictions for the test rows. Where a way to train is known, it also trains twice "
        "with one seed, and several times with different seeds, and gives the share of rows whose prediction changes."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.RELOAD}),
    tasks=frozenset(Task),
    limits=(
        "All is loaded in the same process on the same machine; another machine, another version of a library or "
        "another number of threads may give other numbers.",
        "Predictions are compared on the test rows; other rows may differ where these do not.",
        "Predictions that are the same each time are not therefore right.",
        "What changes only now and then can be missed in a few repetitions.",
        "For how much models of different seeds differ, the training data stay the same; new data would change more. "
        "With 5 models trained anew a churn of 0.09 was told from a target of 0.02 in 60 % of trials, with 10 in 97 %.",
    ),
    remedy=(
        "Store the trained model and load that, rather than training or drawing while loading. Give every random "
        "generator a fixed seed, draw no split while loading, put the model in eval mode, and let torch choose "
        "deterministic algorithms. Where models of different seeds differ much, average several of them."
    ),
    remedy_code=(
        "torch.manual_seed(0)\n"
        "numpy.random.seed(0)\n"
        "random.seed(0)\n"
        "torch.use_deterministic_algorithms(True)\n"
        "model.eval()"
    ),
    source=(
        "Milani Fard, Cormier, Canini, Gupta, NeurIPS 2016, equation 1 (churn); Pineau et al., JMLR 22 (2021) 164 "
        "(reproducibility); ISO/IEC TS 4213:2022"
    ),
    requirements=("TR-R-AU-ME-05", "TR-R-AU-ME-04"),
    instead=(
        "auditability.provenance",
        "reliability.determinism",
    ),
    spreads=True,
)


class ReproducibilityParams(Params):
    """What the user may set."""

    reloads: int = Field(default=2, ge=1, le=20, description="How often all is loaded again, each with another seed.")
    refits: int = Field(
        default=5,
        ge=0,
        le=50,
        description="Models trained with different seeds, where a way to train is known; 0 leaves training out, else "
        "at least 3.",
    )
    tolerance: float = Field(
        default=0.0, ge=0, description="For values: predictions that differ by no more count as the same."
    )


class _Reload(NamedTuple):
    """One loading: what was compared, the digests that differ."""

    seed: int
    outputs: Comparison
    changed: tuple[str, ...]
    digests: int


class _Retrained(NamedTuple):
    """Training again: two models of one seed side by side, several seeds together, and beside the assessed model."""

    twice: Comparison
    churn: Estimate
    assessed: Estimate
    models: int


def measure(subject: Subject, params: ReproducibilityParams, seed: int) -> Result:
    """Agreement of predictions, digests that change, churn.

    Args:
        subject: A subject that can be loaded again.
        params: How often, and what counts as the same.
        seed: First of the seeds given to generators and trainings.

    Returns:
        Exact shares over the test rows for loading again, churn with an interval for training again.

    Raises:
        NotApplicable: The test split is empty or has no inputs, or too few models are wanted.
    """
    from assessor_checks.auditability._reproduction import compare

    if 0 < params.refits < 3:
        raise NotApplicable(f"refits is {params.refits}; how much models differ needs at least 3, and 0 leaves it out")
    if not subject.splits["test"].n:
        raise NotApplicable("the test split has no rows")
    outputs = _outputs(subject, subject)
    steps = params.reloads + (params.refits + 1 if Need.REFIT in subject.offers and params.refits else 0)
    reloads = []
    for number in range(params.reloads):
        reloads.append(_reload(subject, outputs, seed + 1 + number, params.tolerance))
        progress("loaded again", number + 1, steps)
    again = _outputs(subject, subject)
    same = compare(outputs[0], again[0], _pair(outputs[1], again[1]), params.tolerance)
    trained, lost = None, ""
    if steps > params.reloads:
        try:
            trained = _retrained(subject, params, seed, steps)
        except NotApplicable as reason:
            lost = str(reason)
    metrics = [*_of_loading(subject, reloads, same), *_of_training(subject, trained)]
    return Result(
        metrics=tuple(metrics),
        tables=(_table(reloads, same, trained),),
        remarks=tuple(_remarks(reloads, same, trained, lost, refit=Need.REFIT in subject.offers)),
    )


def _outputs(subject: Subject, data: Subject) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions and, where it gives some, scores for the test rows of `data`, computed now."""
    features = data.splits["test"].features
    if features is None:
        raise NotApplicable("the test split has no inputs that the model could be asked for again")
    try:
        scores = subject.query_scores(features)
    except NotApplicable:
        scores = None
    return subject.query(features), scores


def _reload(subject: Subject, outputs: tuple[np.ndarray, np.ndarray | None], seed: int, tolerance: float) -> _Reload:
    from assessor_checks.auditability._reproduction import compare, global_seed

    assert subject.origin.reload is not None
    with global_seed(seed):
        other = subject.origin.reload()
        found = _outputs(other, subject)
    mine, theirs = _digests(subject), _digests(other)
    known = [name for name in mine if mine[name] is not None or theirs.get(name) is not None]
    changed = tuple(name for name in known if mine[name] != theirs.get(name))
    comparison = compare(outputs[0], found[0], _pair(outputs[1], found[1]), tolerance)
    return _Reload(seed, comparison, changed, len(known))


def _digests(subject: Subject) -> dict[str, str | None]:
    """Digests of the model and of every split."""
    return {
        "model": getattr(subject, "sha256", None),
        **{f"{name} data": split.sha256 for name, split in sorted(subject.splits.items())},
    }


def _pair(first: np.ndarray | None, second: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    return None if first is None or second is None else (first, second)


# --- training again --------------------------------------------------------------------------------------------------


def _retrained(subject: Subject, params: ReproducibilityParams, seed: int, steps: int) -> _Retrained:
    import numpy as np

    from assessor_checks.auditability._reproduction import Comparison, churn, churn_from

    classes = subject.task.is_classification
    twice, *others = spread(partial(_trained, subject, params, seed, steps), range(params.refits))
    found = np.array([twice["predictions"], *others], dtype=np.float64)
    own = _decided(np.asarray(subject.scores("test"), dtype=np.float64), classes=classes)
    return _Retrained(
        Comparison(**{name: twice[name] for name in Comparison._fields}),
        churn(found, classes=classes),
        churn_from(own, found, classes=classes),
        len(found),
    )


def _trained(subject: Subject, params: ReproducibilityParams, seed: int, steps: int, number: int) -> Any:
    """Predictions of a model with its own seed; of the first, what training it twice in one process gives."""
    if number:
        found = kept(["refit", seed + number], partial(_refit, subject, seed + number))
    else:
        found = kept(["twice", seed, params.tolerance], partial(_twice, subject, seed, params.tolerance))
    progress("trained again", params.reloads + 2 + number, steps)
    return found


def _twice(subject: Subject, seed: int, tolerance: float) -> JsonValue:
    """What training twice with one seed gives: the comparison, and the first one's predictions."""
    from assessor_checks.auditability._reproduction import compare

    first, second = (_scores(subject, seed) for _ in range(2))
    one, other = (_decided(scores, classes=subject.task.is_classification) for scores in (first, second))
    return {**compare(one, other, (first, second), tolerance)._asdict(), "predictions": one.tolist()}


def _refit(subject: Subject, seed: int) -> JsonValue:
    found: JsonValue = _decided(_scores(subject, seed), classes=subject.task.is_classification).tolist()
    return found


def _scores(subject: Subject, seed: int) -> np.ndarray:
    """Scores for the test rows of a model newly trained on all training rows."""
    import numpy as np

    features = subject.splits["test"].features
    assert features is not None
    found = np.asarray(subject.refit(np.arange(subject.splits["train"].n), seed)(features), dtype=np.float64)
    if not np.isfinite(found).all():
        raise NotApplicable(f"a model trained with the seed {seed} gives outputs that are not finite")
    return found


def _decided(scores: np.ndarray, *, classes: bool) -> np.ndarray:
    found: np.ndarray = scores.argmax(axis=1) if classes else scores.reshape(len(scores))
    return found


# --- what is reported ------------------------------------------------------------------------------------------------


def _of_loading(subject: Subject, reloads: list[_Reload], same: Comparison) -> list[Metric]:
    n, times = same.n, len(reloads)
    compared = [*(one.outputs for one in reloads), same]
    agreeing = n - max(one.different for one in compared)
    found = [
        _exact(
            "prediction_agreement",
            agreeing / n,
            n,
            Better.HIGHER,
            f"share of the test rows with the same prediction, in the worst of {times} loadings and of asking twice; "
            "counted, so that both ends are the value",
            primary=True,
        )
    ]
    largest = [one.largest for one in compared if one.largest is not None]
    if len(largest) == len(compared):
        unit = "1" if subject.task.is_classification else "units of the target"
        how = f"largest absolute difference of a score over the test rows and {times} loadings; both ends are the value"
        found.append(_exact("largest_score_difference", max(largest), n, Better.LOWER, how, unit=unit))
    changed = len({name for one in reloads for name in one.changed})
    how = f"digests of the model and of the splits that differ in any of {times} loadings; both ends are the value"
    digests = max(one.digests for one in reloads)
    found.append(_exact("changed_digests", changed, digests, Better.LOWER, how, unit="digests"))
    return found


def _exact(
    name: str, value: float, n: int, better: Better, how: str, *, unit: str = "1", primary: bool = False
) -> Metric:
    return Metric(
        name=name, value=value, low=value, high=value, unit=unit, n=n, better=better, method=how, primary=primary
    )


def _of_training(subject: Subject, trained: _Retrained | None) -> list[Metric]:
    from assessor_checks._intervals import CONFIDENCE

    if trained is None:
        return []
    classes, n = subject.task.is_classification, trained.twice.n
    agreement = (n - trained.twice.different) / n
    how = "share of the test rows with the same prediction after training twice with one seed; both ends are the value"
    unit = "1" if classes else "units of the target"
    found = [_exact("training_agreement", agreement, n, Better.HIGHER, how)]
    how = "largest absolute difference of a score after training twice with one seed; both ends are the value"
    found.append(_exact("training_score_difference", trained.twice.largest or 0.0, n, Better.LOWER, how, unit=unit))
    names = ("churn", "churn_from_assessed") if classes else ("mean_change", "mean_change_from_assessed")
    of = (
        f"two of {trained.models} models trained with different seeds",
        f"the assessed model and each of {trained.models} models trained anew",
    )
    what = "share of the test rows on which the predictions differ" if classes else "mean absolute difference"
    for name, pair, estimate in zip(names, of, (trained.churn, trained.assessed), strict=True):
        known = math.isfinite(estimate.high)
        found.append(
            Metric(
                name=name,
                value=estimate.value,
                low=estimate.low if known else None,
                high=estimate.high if known else None,
                confidence=CONFIDENCE if known else None,
                unit=unit,
                n=n,
                better=Better.LOWER,
                method=f"{what} between {pair}; 95 % interval for new models (jackknife, t) and new rows together",
            )
        )
    return found


def _table(reloads: list[_Reload], same: Comparison, trained: _Retrained | None) -> Table:
    rows: list[tuple[str | int | float | None, ...]] = [("asked twice", None, same.different, same.largest, None)]
    for one in reloads:
        changed = ", ".join(one.changed) or "none"
        rows.append(("loaded again", one.seed, one.outputs.different, one.outputs.largest, changed))
    if trained is not None:
        rows.append(("trained twice", None, trained.twice.different, trained.twice.largest, None))
    columns = ("what", "seed", "rows that differ", "largest difference of a score", "digests that differ")
    title = f"Predictions for {same.n} test rows beside those of the first time"
    return Table(name="repetitions", title=title, columns=columns, rows=tuple(rows))


def _remarks(
    reloads: list[_Reload], same: Comparison, trained: _Retrained | None, lost: str, *, refit: bool
) -> list[str]:
    found = []
    if same.different:
        found.append(f"Asked twice for the same rows, the model gives other predictions for {same.different} of them.")
    changed = sorted({name for one in reloads for name in one.changed})
    if changed:
        found.append(f"Loaded again, these are not the same as before: {', '.join(changed)}.")
    if trained is None and not refit:
        found.append("Nobody said how the model is trained, so training was not repeated.")
    if lost:
        found.append(f"Nothing is said of training again: {lost}.")
    if trained is not None and (trained.twice.different or trained.twice.largest):
        found.append(
            f"Trained twice with the same seed, the models differ on {trained.twice.different} of {trained.twice.n} "
            f"rows, and in a score by up to {trained.twice.largest:.3g}: something in training takes no notice of the "
            "seed."
        )
    if trained is not None and trained.assessed.low > trained.churn.high:
        found.append(
            "The assessed model differs from newly trained ones more than these do from each other: it may have been "
            "trained in another way, or on other data, than is said."
        )
    return found


def plot(result: Result, axes: Axes) -> None:
    """Share of rows with the same prediction: loaded again, trained with one seed, trained with another."""
    shares = {"loaded again": result.metric("prediction_agreement").value}
    known = {metric.name: metric for metric in result.metrics}
    if "training_agreement" in known:
        shares["trained, same seed"] = known["training_agreement"].value
    arms = [[0.0] * len(shares), [0.0] * len(shares)]
    for name, label in (("churn", "trained, other seed"), ("churn_from_assessed", "assessed and trained")):
        if name in known and known[name].low is not None and known[name].high is not None:
            metric = known[name]
            shares[label] = 1 - metric.value
            arms[0].append(float(metric.high or 0) - metric.value)
            arms[1].append(metric.value - float(metric.low or 0))
    axes.barh(list(shares), list(shares.values()), xerr=arms, color="0.8", edgecolor="black", capsize=3)
    axes.margins(y=1 / len(shares))  # a single bar shall not fill the picture
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of test rows with the same prediction")


def rows(subject: Subject, params: ReproducibilityParams) -> int | None:
    """Predictions and scores of every test row, twice here and once a reload; unknown where models are trained anew."""
    if params.refits and Need.REFIT in subject.offers:
        return None
    return 2 * used(subject, "test") * (2 + params.reloads)


CHECK = Check(info=INFO, params=ReproducibilityParams, measure=measure, plot=plot, rows=rows)
