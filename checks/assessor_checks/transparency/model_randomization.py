"""Sanity check of explanations: do they change when the model forgets what it learned?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from assessor.contract import (
    Better,
    Cell,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Result,
    Series,
    Subject,
    Table,
    Task,
)
from assessor_checks._attribution_method import BY_QUERY, AttributionParams, Method
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.transparency._random_layers import Layers
    from assessor_checks.transparency._randomization import Labels

SHOWN = 3  # names of layers in a line of the table
INFO = CheckInfo(
    id="transparency.model_randomization",
    version="1",
    title="Sanity check: explanations depend on the trained model",
    measures=(
        "The layers of the model are made random, from the output downwards and each alone, and the same rows are "
        "explained again. The primary value is the rank correlation between the explanations of the trained model and "
        "those of the wholly random one; near 0 they show the model, near 1 only the input. Models without layers are "
        "trained anew on shuffled labels instead."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset(Task),
    limits=(
        "An explanation that changes need not be right; read transparency.attribution_faithfulness beside it.",
        "Methods that multiply by the input keep some likeness because the input stays the same; the correlation with "
        "the mere size of the input shows how much of it.",
        "Layers count in the order in which the module registers them, which need not be the order of computation.",
        "Shuffled labels tell little where the model cannot learn them: its answers then hardly depend on the input.",
        "The explanations are made here, by the named method on the assessed model; explanations that the system shows "
        "its users are measured only if they are made in the same way.",
    ),
    remedy=(
        "Use another method, such as gradients, integrated gradients or Shapley values; discard methods that change "
        "how gradients flow back (guided backpropagation), and divide out the input where its size dominates."
    ),
    source=(
        "Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, arXiv 1810.03292, tests by randomised "
        "parameters and by randomised labels; structural "
        "similarity: Wang, Bovik, Sheikh, Simoncelli 2004, equation 13; interval: Student's t over random models and "
        "normal over rows, their variances added"
    ),
    requirements=("TR-R-EX-ME-03",),
    instead=("transparency.surrogate_fidelity",),
    spreads=True,
)


class RandomizationParams(AttributionParams):
    """Parameters of transparency.model_randomization."""

    max_samples: int = Field(default=50, ge=2, description="Test rows explained at most, chosen by the seed.")
    models: int = Field(default=10, ge=2, le=1000, description="Random models, each drawn anew.")
    stages: int = Field(default=8, ge=1, le=1000, description="Groups that layers are put into at most.")
    refits: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="Models trained on shuffled labels and as many on the true ones, where the model can be trained "
        "anew and the method only asks it; 0 for none, else at least 2.",
    )


def measure(subject: Subject, params: RandomizationParams, seed: int) -> Result:
    """Similarity of explanations before and after the model, or its labels, are made random.

    Args:
        subject: A PyTorch module, or a model that can be trained anew.
        params: Method, number of random models.
        seed: Seed of rows, random models and of methods that draw.

    Returns:
        Metrics, the cascade, a table by stage.

    Raises:
        NotApplicable: The model has no layers to reach and cannot be trained anew, or the rows cannot be explained.
    """
    from assessor_checks.transparency import _attributions as attributions
    from assessor_checks.transparency._similarity import spearman

    method, model = params.method_for(subject), attributions.model_of(subject, params.explained)
    by_layers = Need.GRADIENTS in subject.offers
    by_labels = (
        Need.REFIT in subject.offers
        and params.refits > 1
        and method in {*BY_QUERY, "lime"}
        and params.explained == "probability"
    )
    if not by_layers and not by_labels:
        raise NotApplicable(
            "the model has no layers that could be made random, and it is not trained anew (that needs "
            "target.data.train, a method that only asks the model, and refits of at least 2); "
            "transparency.attribution_faithfulness shows whether explanations follow the model"
        )
    rows = attributions.rows_of(subject, params, seed)
    parts = attributions.parts_of(rows.x.shape[1:], params.patch)
    if parts.count < 3:
        raise NotApplicable(attributions.too_few(rows, 3))
    explainer = attributions.Explainer(rows, parts, method, params, seed)
    here = explainer.scores(model)
    layers: Layers | None = None
    labels: Labels | None = None
    if by_layers:
        from assessor_checks.transparency import _random_layers

        layers = _random_layers.randomised(subject, explainer, here, models=params.models, stages=params.stages)
    if by_labels:
        from assessor_checks.transparency import _randomization

        labels = _randomization.trained_anew(subject, explainer, here, params.refits)
    size = spearman(abs(here), attributions.size_of_difference(rows, parts))
    return Result(
        metrics=_metrics(layers, labels, size, method, params, seed),
        series=(_series(layers),) if layers else (),
        tables=(_table(layers),) if layers else (),
        remarks=(attributions.told(subject, rows, parts, method, params), *_remarks(layers)),
    )


def _metrics(
    layers: Layers | None,
    labels: Labels | None,
    size: np.ndarray,
    method: Method,
    params: RandomizationParams,
    seed: int,
) -> tuple[Metric, ...]:
    import numpy as np

    from assessor_checks.transparency._attributions import row_metric

    how = f"{method}, seed {seed}; 95 % interval, t over models and normal over rows"
    metrics = []
    if layers:
        all_random = f"{params.models} models with all layers random; {how}"
        told = f"Spearman, {all_random}"
        metrics.append(_metric("rank_correlation", layers.cascading[-1], Better.LOWER, told, primary=True))
        told = f"Spearman of absolute values, {all_random}"
        metrics.append(_metric("absolute_rank_correlation", layers.absolute[-1], Better.LOWER, told))
        if layers.pictures is not None:
            told = f"structural similarity of absolute values, {all_random}"
            metrics.append(_metric("structural_similarity", layers.pictures, Better.LOWER, told))
    if labels:
        first = layers is None
        told = f"Spearman, {params.refits} models trained on shuffled labels; {how}"
        metrics.append(_metric("rank_correlation_shuffled_labels", labels.shuffled, Better.LOWER, told, primary=first))
        told = f"Spearman, {params.refits} models trained anew on the true labels, to compare with; {how}"
        metrics.append(_metric("rank_correlation_true_labels", labels.true, Better.HIGHER, told))
    if np.isfinite(size).sum() > 1:
        told = f"Spearman of absolute attributions with the distance of each part from its replacement; {method}"
        metrics.append(row_metric("rank_correlation_with_input", size, Better.LOWER, told, seed))
    return tuple(metrics)


def _metric(name: str, values: np.ndarray, better: Better, method: str, *, primary: bool = False) -> Metric:
    """Mean over random models and rows."""
    import numpy as np

    from assessor_checks._intervals import CONFIDENCE
    from assessor_checks.transparency._randomization import mean_of_draws

    n = int(np.isfinite(values).any(axis=0).sum())
    if n < 2:
        raise NotApplicable(
            f"explanations give all parts the same importance, before or after randomising, so {name} is undefined; "
            "transparency.attribution_faithfulness shows whether the output depends on the inputs at all"
        )
    value, low, high = mean_of_draws(values)
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


def _ends(values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Mean and interval, or nothing where no correlation is defined."""
    import numpy as np

    from assessor_checks.transparency._randomization import mean_of_draws

    return mean_of_draws(values) if np.isfinite(values).any() else (None, None, None)


def _series(layers: Layers) -> Series:
    means = [(1.0, 1.0, 1.0), *(_ends(values) for values in layers.cascading)]
    stages = tuple(float(stage) for stage in range(len(means)))
    columns = dict(zip(("rank_correlation", "low", "high"), zip(*means, strict=True), strict=True))
    title = "Likeness to the trained model's explanations, layers made random from the output downwards"
    return Series(name="cascade", title=title, columns={"stages": stages, **columns})


def _table(layers: Layers) -> Table:
    """One line a stage; names of its first layers."""
    lines: list[tuple[Cell, ...]] = []
    for stage, names in enumerate(layers.stages):
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        means = (_ends(kind[stage])[0] for kind in (layers.cascading, layers.absolute, layers.alone))
        lines.append((stage + 1, shown, *means))
    columns = ("stage", "layers", "rank correlation, down to here", "of absolute values", "these layers alone")
    return Table(name="by_layer", title="Layers made random", columns=columns, rows=tuple(lines))


def _remarks(layers: Layers | None) -> tuple[str, ...]:
    if layers is None:
        return ("The model has no layers to reach, so it was trained anew on shuffled labels.",)
    if not layers.shuffled:
        return ()
    shown = ", ".join(layers.shuffled[:SHOWN])
    return (
        f"{len(layers.shuffled)} layers do not say how they are initialised, so their own entries were shuffled "
        f"instead, among them: {shown}.",
    )


def plot(result: Result, axes: Axes) -> None:
    """Likeness over the stages made random."""
    if not result.series:
        return
    columns = {
        name: [float("nan") if value is None else value for value in values]
        for name, values in result.series[0].columns.items()
    }
    axes.fill_between(columns["stages"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["stages"], columns["rank_correlation"], "o-", color="black")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_ylim(min(-0.2, *(low for low in result.series[0].columns["low"] if low is not None)), 1.05)
    axes.set_xticks(columns["stages"])
    axes.set_xlabel("groups of layers made random, from the output downwards")
    axes.set_ylabel("rank correlation of explanations")


def rows(subject: Subject, params: RandomizationParams) -> int | None:
    """An explanation of every used row by the model and by each random one; unknown where models are trained anew."""
    from assessor_checks.transparency._attributions import asked_for

    by_asking = params.method_for(subject) in {*BY_QUERY, "lime"} and params.explained == "probability"
    if Need.GRADIENTS not in subject.offers or (by_asking and params.refits > 1 and Need.REFIT in subject.offers):
        return None
    from assessor_checks.transparency._random_layers import stages_of

    models = params.models * (2 * len(stages_of(subject.module, params.stages)) - 1)
    return used(subject, "test", params.max_samples) * (1 + asked_for(subject, params) * (1 + models))


CHECK = Check(info=INFO, params=RandomizationParams, measure=measure, plot=plot, rows=rows)
