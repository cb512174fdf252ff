"""How well a model that a person can read imitates the assessed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

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
from assessor_checks._costs import of_train_and_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.transparency._surrogate import Surrogate

FEW = 30  # test rows; fewer are refused
SHOWN = 16  # rules in the table at most
INFO = CheckInfo(
    id="transparency.surrogate_fidelity",
    version="1",
    title="Fidelity of a small model that imitates the assessed one",
    measures=(
        "A small decision tree (or a linear model of few features) learns the model's answers on the train split. The "
        "primary value is how often it gives the model's answer on unseen test rows; for regression the share of the "
        "answers' variance that it reproduces. The tree's rules are shown."
    ),
    unit="1",
    needs=frozenset({Need.TRAIN, Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "The imitation shows what the model answers on data like these, not by which way it gets there: another set of "
        "rules may imitate it as well.",
        "Where it disagrees with the model its rules explain nothing; read the agreement on wrong answers apart.",
        "High agreement is easy where one class is given nearly always: read the value beyond the most common answer.",
        "Rules over single pixels or many leaves are no explanation for people, whatever their fidelity.",
        "Data unlike the train and test split may be answered quite otherwise by model and imitation.",
    ),
    remedy=(
        "If a small tree imitates the model well and is as accurate, use it instead. If not, explain single answers by "
        "other means, or imitate the model separately on parts of the data."
    ),
    source=(
        "Craven and Shavlik 1996 (NIPS 8), fidelity of extracted trees; features of the linear model: Tropp, Gilbert, "
        "Strauss 2006, algorithm 3.1; kappa: Cohen 1960; Clopper-Pearson, and BCa bootstrap (Efron 1987) over rows"
    ),
    requirements=("TR-R-EX-ME-04", "TR-R-UA-ME-02"),
)


class SurrogateParams(Params):
    """Parameters of transparency.surrogate_fidelity."""

    kind: Literal["tree", "linear"] = Field(
        default="tree", description="A decision tree, or a linear (for classes logistic) model of few features."
    )
    size: int = Field(default=8, ge=2, le=1000, description="Leaves of the tree or features of the linear model.")
    sizes: tuple[Annotated[int, Field(ge=2, le=1000)], ...] = Field(
        default=(2, 4, 8, 16, 32), description="Sizes for the curve beside it."
    )


class _Answers(NamedTuple):
    """Features (n, d), what the model answers (n,), and the true labels (n,)."""

    features: np.ndarray
    model: np.ndarray
    labels: np.ndarray


def measure(subject: Subject, params: SurrogateParams, seed: int) -> Result:
    """Fidelity on test rows, beyond the most common answer, over sizes, and what accuracy the imitation gives up.

    Args:
        subject: Any model with answers on train and test rows whose features are known.
        params: Kind and size.
        seed: Seed of the tree's choices among equal splits and of the bootstrap.

    Returns:
        Metrics, the curve over sizes, the rules or weights, agreement by class and by right and wrong answers.

    Raises:
        NotApplicable: No numeric features, too few test rows, or the model always answers the same.
    """
    import numpy as np

    train, test = (_answers(subject, name) for name in ("train", "test"))
    if len(test.model) < FEW:
        raise NotApplicable(f"test rows: found {len(test.model)}, wanted at least {FEW}")
    if (train.model == train.model[0]).all():
        raise NotApplicable("the model gives the same answer for all train rows, so there is nothing to imitate")
    fitted = _fitted(subject, train, test, params, seed)
    chosen = fitted[params.size]
    classes = subject.task.is_classification
    metrics = (_class_metrics if classes else _value_metrics)(train, test, chosen, params, seed)
    said = chosen.answers(test.features)
    apart = (_by_class(subject, test, said), _by_answer(test, said)) if classes else ()
    curve = {size: _fidelity(classes, test.model, one.answers(test.features), seed) for size, one in fitted.items()}
    names = subject.splits["test"].feature_names or tuple(f"#{column}" for column in range(test.features.shape[1]))
    shown = _rules(subject, chosen, names, test) if params.kind == "tree" else _weights(chosen, names)
    return Result(
        metrics=metrics,
        series=(_series(curve, params),),
        tables=(shown, *apart),
        remarks=_remarks(subject, chosen, params, int(np.isnan(train.features).any(axis=1).sum())),
    )


def _answers(subject: Subject, name: str) -> _Answers:
    import numpy as np

    split = subject.splits[name]
    if split.features is None or split.features.dtype.kind not in "fiub":
        raise NotApplicable(f"the {name} split has no numeric features that a small model could learn from")
    if not split.n:
        raise NotApplicable(f"the {name} split has no rows")
    model = subject.predictions(name)
    if bad := int((~np.isfinite(model)).sum()):
        raise NotApplicable(f"the model's answers are not finite for {bad} of {split.n} rows of the {name} split")
    features = split.features.reshape(split.n, -1).astype(np.float64)
    large = (np.abs(features) > np.finfo(np.float32).max).any(axis=1)  # NaN is not: a tree can use missing values
    if large.any():
        raise NotApplicable(
            f"features are infinite or beyond 3.4e38 in {int(large.sum())} of {split.n} rows of the {name} split, more "
            "than a small model can take; correct these values or leave these rows out"
        )
    return _Answers(features, model, split.labels)


def _fitted(
    subject: Subject, train: _Answers, test: _Answers, params: SurrogateParams, seed: int
) -> dict[int, Surrogate]:
    """Imitations by the size asked for."""
    import numpy as np

    from assessor_checks.transparency import _surrogate

    classes, sizes = subject.task.is_classification, sorted({params.size, *params.sizes})
    if params.kind == "tree":
        return {size: _surrogate.tree(train.features, train.model, size, classes=classes, seed=seed) for size in sizes}
    if not np.isfinite(train.features).all() or not np.isfinite(test.features).all():
        raise NotApplicable("features are missing for some rows, which a linear model cannot use; set kind: tree")
    order = _surrogate.pursuit(train.features, train.model, sizes[-1], classes=classes)
    if not len(order):
        raise NotApplicable("every feature is constant over the train split")
    return {size: _surrogate.linear(train.features, train.model, order, size, classes=classes) for size in sizes}


def _fidelity(classes: bool, model: np.ndarray, said: np.ndarray, seed: int) -> Estimate:
    """Share of agreement; for values the share of variance reproduced (R squared)."""
    import numpy as np

    from assessor_checks._intervals import Estimate, bootstrap_ratio, clopper_pearson

    if classes:
        return clopper_pearson(int((model == said).sum()), len(model))
    left, spread = (model - said) ** 2, (model - model.mean()) ** 2
    if not spread.any():
        raise NotApplicable("the model gives the same answer for all test rows, so there is nothing to imitate")
    if not left.any():
        return Estimate(1.0, 1.0, 1.0)
    value, low, high = bootstrap_ratio(left, spread, seed)
    return Estimate(1 - value, 1 - high, 1 - low) if np.isfinite(value) else Estimate(0.0, 0.0, 0.0)


def _class_metrics(
    train: _Answers, test: _Answers, chosen: Surrogate, params: SurrogateParams, seed: int
) -> tuple[Metric, ...]:
    import numpy as np

    from assessor_checks._intervals import bootstrap_mean
    from assessor_checks.transparency._surrogate import kappa

    said, n = chosen.answers(test.features), len(test.model)
    agree = (said == test.model).astype(np.float64)
    names, counts = np.unique(train.model, return_counts=True)
    common = (test.model == names[counts.argmax()]).astype(np.float64)
    lost = (test.model == test.labels).astype(np.float64) - (said == test.labels)
    how = f"{params.kind} of size {chosen.size}, fitted on the train split"
    metrics = [
        _metric(
            "fidelity",
            _fidelity(True, test.model, said, seed),
            n,
            Better.HIGHER,
            f"share of test rows with the model's answer; {how}; 95 % Clopper-Pearson",
            primary=True,
        ),
        _metric(
            "fidelity_beyond_majority",
            bootstrap_mean(agree - common, seed),
            n,
            Better.HIGHER,
            f"minus the share that the most common answer alone would reach, paired; {how}; 95 % BCa bootstrap",
        ),
        _metric(
            "accuracy_given_up",
            bootstrap_mean(lost, seed),
            n,
            Better.LOWER,
            f"accuracy of the model minus that of the imitation, paired; {how}; 95 % BCa bootstrap",
        ),
    ]
    agreement = kappa(test.model, said)
    if np.isfinite(agreement.value):
        told = f"Cohen's kappa; {how}; 95 % Clopper-Pearson, agreement by chance as observed"
        metrics.insert(2, _metric("kappa", agreement, n, Better.HIGHER, told))
    return tuple(metrics)


def _value_metrics(
    train: _Answers, test: _Answers, chosen: Surrogate, params: SurrogateParams, seed: int
) -> tuple[Metric, ...]:
    from assessor_checks._intervals import bootstrap_mean

    said, n = chosen.answers(test.features), len(test.model)
    how = f"{params.kind} of size {chosen.size}, fitted on the train split; 95 % BCa bootstrap"
    worse = (said - test.labels) ** 2 - (test.model - test.labels) ** 2
    return (
        _metric(
            "fidelity",
            _fidelity(False, test.model, said, seed),
            n,
            Better.HIGHER,
            f"R squared: share of the answers' variance over the test rows that is reproduced; {how}",
            primary=True,
        ),
        _metric(
            "squared_error_added",
            bootstrap_mean(worse, seed),
            n,
            Better.LOWER,
            f"mean squared error of the imitation minus that of the model, paired; {how}",
            unit="squared units of the target",
        ),
    )


def _metric(
    name: str,
    estimate: Estimate,
    n: int,
    better: Better,
    method: str,
    *,
    unit: str = "1",
    primary: bool = False,
) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    value, low, high = estimate
    return Metric(
        name=name,
        value=value,
        low=low,
        high=high,
        confidence=CONFIDENCE,
        unit=unit,
        n=n,
        better=better,
        method=method,
        primary=primary,
    )


def _rules(subject: Subject, chosen: Surrogate, names: tuple[str, ...], test: _Answers) -> Table:
    """The tree's leaves, largest first."""
    from assessor_checks.transparency._surrogate import rules

    classes = subject.task.is_classification
    lines = []
    for rule in rules(chosen, names, test.features, test.model)[:SHOWN]:
        answer = subject.classes[int(rule.answer)] if classes else rule.answer
        lines.append((rule.conditions, answer, rule.share, rule.agreement if classes else None))
    columns = ("if", "answer", "share of test rows", "share of them with the model's answer")
    return Table(name="rules", title="Rules of the imitation", columns=columns, rows=tuple(lines))


def _weights(chosen: Surrogate, names: tuple[str, ...]) -> Table:
    """Features of the linear model in the order of choice, with their greatest weight on one standard deviation."""
    import numpy as np

    weights = np.atleast_2d(chosen.fitted[-1].coef_)
    greatest = weights[np.abs(weights).argmax(axis=0), np.arange(weights.shape[1])]
    lines = tuple((names[column], float(weight)) for column, weight in zip(chosen.columns, greatest, strict=True))
    columns = ("feature", "weight per standard deviation (of several classes the greatest)")
    return Table(name="weights", title="Features of the imitation", columns=columns, rows=lines)


def _by_class(subject: Subject, test: _Answers, said: np.ndarray) -> Table:
    agree, lines = said == test.model, []
    for index, name in enumerate(subject.classes):
        lines.append((name, *_counted(agree[test.model == index])))
    lines.sort(key=lambda line: 1.0 if line[2] is None else line[2])
    columns = ("answer of the model", "rows", "share with the same answer", "low", "high")
    title = "Agreement by the model's answer, the least first"
    return Table(name="by_class", title=title, columns=columns, rows=tuple(lines))


def _by_answer(test: _Answers, said: np.ndarray) -> Table:
    agree, right = said == test.model, test.model == test.labels
    lines = tuple((name, *_counted(agree[which])) for name, which in (("right", right), ("wrong", ~right)))
    columns = ("answer of the model", "rows", "share with the same answer", "low", "high")
    return Table(name="by_answer", title="Right and wrong answers apart", columns=columns, rows=lines)


def _counted(agree: np.ndarray) -> tuple[int | float | None, ...]:
    from assessor_checks._intervals import clopper_pearson

    return (len(agree), *clopper_pearson(int(agree.sum()), len(agree))) if len(agree) else (0, None, None, None)


def _series(curve: dict[int, Estimate], params: SurrogateParams) -> Series:
    columns = dict(zip(("fidelity", "low", "high"), zip(*curve.values(), strict=True), strict=True))
    title = "Fidelity by leaves of the tree" if params.kind == "tree" else "Fidelity by features of the linear model"
    return Series(name="sizes", title=title, columns={"size": tuple(map(float, curve)), **columns})


def _remarks(subject: Subject, chosen: Surrogate, params: SurrogateParams, missing: int) -> tuple[str, ...]:
    remarks = []
    if chosen.size < params.size:
        remarks.append(f"The imitation has size {chosen.size} and not {params.size}: nothing is gained by more.")
    if params.kind == "tree" and chosen.size > SHOWN:
        remarks.append(f"The {SHOWN} rules for most rows are shown, of {chosen.size}.")
    if missing:
        remarks.append(f"Features are missing in {missing} train rows; the rules do not show which way these go.")
    features = subject.splits["test"].features
    if features is not None and features.ndim > 2:
        remarks.append("The inputs are no table: rules over single pixels or entries explain little to people.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Fidelity by size of the imitation."""
    columns = result.series[0].arrays
    axes.fill_between(columns["size"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["size"], columns["fidelity"], "o-", color="black")
    axes.set_xscale("log", base=2)
    axes.set_xticks(columns["size"], [f"{size:g}" for size in columns["size"]], minor=False)
    axes.set_ylim(min(0.0, *columns["low"]), 1)
    axes.set_xlabel("size: leaves of the tree, or features of the linear model")
    axes.set_ylabel("fidelity on test rows")


CHECK = Check(info=INFO, params=SurrogateParams, measure=measure, plot=plot, rows=of_train_and_test)
