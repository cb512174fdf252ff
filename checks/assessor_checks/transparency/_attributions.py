"""Attributions: how much each part of an input made the model say what it said.

The parts ("players") are the features of a table or the patches of an image over all its channels. Models are asked
for one number a row, the explained one: the probability of a class, for instance. What stands for an absent part is a
baseline; with several baselines a row, every number is the mean over them. Methods that only ask the model are in
`_coalitions`, those by gradients in `_gradient_attributions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from assessor.contract import Better, Metric, Need, NotApplicable, Subject, Table
from assessor_checks import _inputs
from assessor_checks._attribution_method import BY_CAPTUM, BY_QUERY, SLOPES, AttributionParams, Explained, Method
from assessor_checks._costs import GRADIENT
from assessor_checks._explained import Model, Parts, Rows, finite
from assessor_checks._intervals import CONFIDENCE, bootstrap_mean

MOST = 4096  # parts of an input, where each is asked about
FEW = 10  # rows; a mean over fewer gets no interval
_BLUR = 8  # an image's side is this many standard deviations of the blur


class Attributions(NamedTuple):
    """What a method says of n rows.

    Attributes:
        scores: (n, K) how much a player matters; negative where it speaks against the output. Never negative for
            gradients as such, which say how sensitive the output is.
        change: (n, K) by how much the output should fall when this player alone is replaced.
    """

    scores: np.ndarray
    change: np.ndarray


def model_of(subject: Subject, explained: Explained) -> Model:
    """The explained number of a subject.

    Raises:
        NotApplicable: The model gives only hard predictions, or only a PyTorch module has that output.
    """
    if Need.GRADIENTS in subject.offers:
        from assessor_checks._gradient_attributions import net_of

        return net_of(subject, subject.logits, explained).model
    if subject.task.is_classification and Need.PROBABILITIES not in subject.offers:
        raise NotApplicable(
            "the model gives classes without probabilities, so there is no number to explain; "
            "transparency.surrogate_fidelity needs only its answers"
        )
    if subject.task.is_classification and explained != "probability":
        raise NotApplicable(f"explained: {explained} needs a PyTorch module; set explained: probability")
    return scored(subject.query_scores)


def scored(scores: Callable[[np.ndarray], np.ndarray]) -> Model:
    """The explained number of a function that gives class probabilities or predicted values."""

    def values(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        found = np.asarray(scores(x), dtype=np.float64)
        return finite(found if found.ndim == 1 else found[np.arange(len(found)), classes])

    return Model(values)


def rows_of(subject: Subject, params: AttributionParams, seed: int) -> Rows:
    """Test rows to explain, with the class that the model predicts and what stands for absent features.

    Raises:
        NotApplicable: The features are no numbers, fewer than two rows, or a blur was asked for without images.
    """
    features = _inputs.float_features(subject)
    numbers = _inputs.chosen_rows(len(features), params.max_samples, seed)
    if len(numbers) < 2:
        raise NotApplicable("the test split has a single row, wanted at least two to explain")
    x = features[numbers]
    classes = answers(subject, x) if subject.task.is_classification else np.zeros(len(x), dtype=np.int64)
    reference = _reference(subject, features)
    spread = _inputs.feature_std(reference)
    if features.ndim > 2:
        spread = np.full_like(spread, reference.std(dtype=np.float64))
    return Rows(x, classes, _baselines(reference, x, params, seed), numbers, spread)


def answers(subject: Subject, x: np.ndarray) -> np.ndarray:
    """(n,) what the model says of rows x (n, ...).

    Raises:
        NotApplicable: Some outputs of a PyTorch module are not finite.
    """
    if Need.GRADIENTS not in subject.offers:
        return subject.query(x)
    from assessor_checks import _gradient_attributions

    return _gradient_attributions.answers(subject, x)


def too_few(rows: Rows, least: int) -> str:
    """Why inputs of fewer parts than `least` are not explained."""
    if rows.x.ndim > 2:
        return f"inputs have fewer than {least} parts, so their order shows nothing; set a smaller patch"
    return (
        f"inputs have fewer than {least} features, so their order shows nothing; transparency.surrogate_fidelity shows "
        "what the model answers by rules"
    )


def redrawn(subject: Subject, rows: Rows, params: AttributionParams, seed: int) -> Rows:
    """The same rows with baselines by another seed, where these are drawn."""
    reference = _reference(subject, _inputs.float_features(subject))
    return rows._replace(baselines=_baselines(reference, rows.x, params, seed))


def _baselines(reference: np.ndarray, x: np.ndarray, params: AttributionParams, seed: int) -> np.ndarray:
    """(k, n, ...) stand-ins for rows x (n, ...), made from reference rows; k is 1 unless they are drawn."""
    if params.replacement == "marginal":
        drawn = np.random.default_rng([seed, 2]).integers(0, len(reference), size=(params.draws, len(x)))
        return reference[drawn].astype(x.dtype)
    if params.replacement == "blur":
        return _blurred(x)[None]
    if params.replacement == "zero":
        return np.zeros_like(x)[None]
    mean = np.nanmean(reference, axis=0, dtype=np.float64).astype(x.dtype)
    return np.broadcast_to(mean, x.shape)[None]


def _reference(subject: Subject, test: np.ndarray) -> np.ndarray:
    train = subject.splits.get("train")
    return test if train is None or train.features is None or not len(train.features) else train.features


def _blurred(images: np.ndarray) -> np.ndarray:
    """Images (n, ..., H, W) smoothed by a Gaussian of an eighth of their sides; its weights sum to 1 at the edges."""
    if images.ndim < 3:
        raise NotApplicable("replacement: blur needs images and the inputs are a table; set replacement: mean")
    made = images.astype(np.float64)
    for axis in (-2, -1):
        side = images.shape[axis]
        place = np.arange(side)
        weights = np.exp(-0.5 * ((place[:, None] - place) / (side / _BLUR)) ** 2)
        weights /= weights.sum(axis=1, keepdims=True)
        made = np.moveaxis(np.moveaxis(made, axis, -1) @ weights.T, -1, axis)
    return made.astype(images.dtype)


def told(subject: Subject, rows: Rows, parts: Parts, method: Method, params: AttributionParams) -> str:
    """What was explained and how, for a report."""
    n, available = len(rows.x), subject.splits["test"].n
    if not subject.task.is_classification:
        return (
            f"{n} of {available} test rows were explained by {method}, {parts.count} parts each. Explained is the "
            f"predicted value; absent parts were replaced by: {params.replacement}."
        )
    return (
        f"{n} of {available} test rows were explained by {method}, {parts.count} parts each. Explained is the "
        f"{params.explained} of the predicted class; absent parts were replaced by: {params.replacement}."
    )


def by_answer(subject: Subject, rows: Rows, values: np.ndarray, what: str, seed: int) -> Table:
    """Mean of values (n,) where the model is right and where it errs, NaN left out; for classification."""
    right = rows.classes == subject.splits["test"].labels[rows.numbers]
    lines: list[tuple[str | int | float | None, ...]] = []
    for name, which in (("right", right), ("wrong", ~right)):
        some = values[which & np.isfinite(values)]
        ends = bootstrap_mean(some, seed)[1:] if len(some) >= FEW else (None, None)
        lines.append((name, len(some), float(some.mean()) if len(some) else None, *ends))
    columns = ("answer of the model", "rows", what, "low", "high")
    return Table(name="by_answer", title="Right and wrong answers apart", columns=columns, rows=tuple(lines))


def row_metric(
    name: str, values: np.ndarray, better: Better, method: str, seed: int, *, unit: str = "1", primary: bool = False
) -> Metric:
    """Mean of values (n,) over the rows, NaN left out, with its bootstrap interval."""
    known = values[np.isfinite(values)]
    value, low, high = bootstrap_mean(known, seed)
    return Metric(
        name=name,
        value=value,
        low=low,
        high=high,
        confidence=CONFIDENCE,
        unit=unit,
        n=len(known),
        better=better,
        method=f"{method}; 95 % BCa bootstrap over rows",
        primary=primary,
    )


def parts_of(shape: tuple[int, ...], patch: int) -> Parts:
    """Players of inputs of this shape: columns of a table, or patches of an image (H, W) or (C, H, W).

    Args:
        shape: Of one input.
        patch: Side of a patch; those at the right and lower edge may be smaller.

    Returns:
        The players.

    >>> parts_of((2, 4, 4), 2).of[1]
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [2, 2, 3, 3],
           [2, 2, 3, 3]])
    """
    if len(shape) not in {2, 3}:
        count = int(np.prod(shape))
        return Parts(np.arange(count).reshape(shape), count)
    height, width = shape[-2:]
    across = -(-width // patch)
    grid = (np.arange(height) // patch)[:, None] * across + np.arange(width) // patch
    return Parts(np.broadcast_to(grid, shape), int(grid[-1, -1]) + 1)


def players(subject: Subject, params: AttributionParams) -> int:
    """Number of parts that test rows are divided into."""
    features = subject.splits["test"].features
    return 0 if features is None else parts_of(features.shape[1:], params.patch).count


def asked_for(subject: Subject, params: AttributionParams) -> int:
    """How many rows the model is asked for to explain one, a gradient counting three times."""
    method, bases = params.method_for(subject), params.draws if params.replacement == "marginal" else 1
    return {
        "gradient": GRADIENT,
        "gradient_x_input": GRADIENT * bases,
        "integrated_gradients": GRADIENT * params.steps * bases,
        "smoothgrad": GRADIENT * params.samples,
        "occlusion": 1 + players(subject, params) * bases,
        "shapley_sampling": (1 + players(subject, params)) * params.samples,
        "deep_lift": 2 * GRADIENT * bases,
        "lime": params.samples,
    }[method]


def attribute(
    model: Model, rows: Rows, parts: Parts, method: Method, params: AttributionParams, seed: int
) -> Attributions:
    """Attributions of every row.

    Args:
        model: What is explained.
        rows: Rows, classes, baselines.
        parts: Players.
        method: See `AttributionParams.method_for`.
        params: Settings of the methods.
        seed: Of the methods that draw; a row's numbers depend on the seed and its number alone.

    Returns:
        The attributions.

    Raises:
        NotApplicable: The model gives no finite outputs or attributions, or captum is missing.
    """
    if method in {"occlusion", "shapley_sampling", "lime"} and parts.count > MOST:
        raise NotApplicable(
            f"{method} asks the model about every part of an input, and there are {parts.count}, more than {MOST}; set "
            "a larger patch, or a method by gradients"
        )
    if method in BY_QUERY:
        from assessor_checks.transparency import _coalitions

        if method == "occlusion":
            found = _coalitions.occlusion(model.values, rows, parts)
        else:
            found = _coalitions.shapley_sampling(model.values, rows, parts, params.samples, seed)
    elif method in BY_CAPTUM:
        from assessor_checks.transparency import _captum

        found = _captum.attribute(model, rows, parts, method, params, seed)
    else:
        return _from_slopes(model, rows, parts, method, params, seed)
    return Attributions(*(_sound(found),) * 2)


class Explainer(NamedTuple):
    """All that stays the same when several models are explained."""

    rows: Rows
    parts: Parts
    method: Method
    params: AttributionParams
    seed: int

    def scores(self, model: Model) -> np.ndarray:
        """(n, K) how much each part matters to a model."""
        return attribute(model, *self).scores


def _from_slopes(
    model: Model, rows: Rows, parts: Parts, method: Method, params: AttributionParams, seed: int
) -> Attributions:
    from assessor_checks import _gradient_attributions as gradients

    assert model.net is not None
    entries = gradients.entries(model.net, rows, method, params, seed)
    if method not in SLOPES:
        return Attributions(*(_sound(parts.sums(entries)),) * 2)
    away = rows.x - rows.baselines.mean(axis=0, dtype=np.float64)
    return Attributions(_sound(parts.sums(np.abs(entries))), parts.sums(entries * away))


def _sound(scores: np.ndarray) -> np.ndarray:
    if bad := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise NotApplicable(f"the attributions are not finite for {bad} of {len(scores)} rows")
    return scores


def size_of_difference(rows: Rows, parts: Parts) -> np.ndarray:
    """(n, K) how far each player is from what stands for it: the explanation that knows nothing of the model."""
    return parts.sums(np.abs(np.nan_to_num(rows.x - rows.baselines.mean(axis=0, dtype=np.float64))))
