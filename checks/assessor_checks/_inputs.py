"""How far each input feature may be moved: scales, features held fixed, bounds, and which rows are used."""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

import numpy as np

from assessor.contract import Need, NotApplicable, Split, Subject

_ROWS = 1024  # rows worked on at once when a split's spread is measured; bounds memory

Scale = Literal["absolute", "feature_std"]


class Room(NamedTuple):
    """What a perturbation may do, one entry a feature.

    Attributes:
        scale: Length of one unit of perturbation, in the feature's own unit; 0 where the feature is held fixed.
        low: Least allowed value, -inf where there is no bound.
        high: Greatest allowed value, inf where there is no bound.
        held: Names of the features held fixed.
        remarks: What a reader must know of this.
    """

    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    held: tuple[str, ...]
    remarks: tuple[str, ...]


def room(subject: Subject, *, scale: Scale, frozen: tuple[str, ...], bounds: tuple[float, float] | None) -> Room:
    """Room of every feature of the test split.

    With "feature_std" a unit is the feature's standard deviation over the train split, or over the test split
    where there is no other. In a table, columns with at most two distinct values are then held fixed: a person
    whose sex is 0.1 greater does not exist.

    Args:
        subject: Its test split has features.
        scale: Unit of the perturbation: the features' own, or standard deviations.
        frozen: Columns to hold fixed, by name or as "#3" counted from 0.
        bounds: Least and greatest value of every feature that is not held fixed.

    Returns:
        Scales, bounds and remarks.

    Raises:
        NotApplicable: No floating-point features, an unknown column, or data outside the bounds.
    """
    features = float_features(subject)
    split = subject.splits.get("train", subject.splits["test"])
    reference = features if split.features is None else split.features
    held = _frozen(frozen, subject.splits["test"])
    remarks = [f"Held fixed as asked: {', '.join(_names(held, subject.splits['test']))}."] if held.any() else []
    unit = np.ones(features.shape[1:])
    if scale == "feature_std":
        unit = feature_std(reference)
        remarks.append(f"Perturbations are in standard deviations of each feature over the {split.name} split.")
        binary = _two_valued(reference) & ~held if features.ndim == 2 else np.zeros_like(held)
        if binary.any():
            names = ", ".join(_names(binary, subject.splits["test"]))
            remarks.append(f"Held fixed because they take at most two values: {names}.")
        held = held | binary
    moved = ~held
    if not np.isfinite(unit).all():
        name = _names(~np.isfinite(unit), subject.splits["test"])[0]
        raise NotApplicable(
            f"feature '{name}' holds values in the {split.name} split that are infinite or too large to compute their "
            "spread; correct these values or leave these rows out"
        )
    least, greatest = bounds or (-np.inf, np.inf)
    low, high = np.where(moved, least, -np.inf), np.where(moved, greatest, np.inf)
    outside = ((features < low) | (features > high)).reshape(len(features), -1).any(axis=1)
    if outside.any():
        lowest, highest = float(features[..., moved].min()), float(features[..., moved].max())
        raise NotApplicable(
            f"bounds {bounds}: {int(outside.sum())} of {len(features)} test rows lie outside them, "
            f"with values from {lowest:g} to {highest:g}; set bounds, and distances with them, in the unit of the data"
        )
    if not (unit * moved).any():
        raise NotApplicable(
            "every feature is held fixed or constant, so nothing can be perturbed; robustness.corruption_accuracy "
            "changes columns of two values too"
        )
    return Room(np.where(held, 0.0, unit), low, high, _names(held, subject.splits["test"]), tuple(remarks))


def float_features(subject: Subject) -> np.ndarray:
    """The test split's features, whole numbers as float64 where the model is no PyTorch module.

    Raises:
        NotApplicable: There are none, no rows, no numbers, or whole numbers that the module may use as indices.
    """
    features = subject.splits["test"].features
    if features is None or not len(features):
        raise NotApplicable("the test split has no features" if features is None else "the test split has no rows")
    if features.dtype.kind == "f":
        return features
    if features.dtype.kind not in "iub" or Need.GRADIENTS in subject.offers:
        raise NotApplicable(
            f"the inputs are of type {features.dtype}, wanted floating-point numbers to move by a little; where they "
            "are quantities, such as grey values, load them as float32 and convert them in the model"
        )
    return features.astype(np.float64)


def chosen_rows(n: int, most: int, seed: int) -> np.ndarray:
    """Ascending indices of the first `most` rows after a seeded permutation; all rows where there are no more.

    >>> chosen_rows(3, 10, seed=0)
    array([0, 1, 2])
    """
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def feature_std(features: np.ndarray) -> np.ndarray:
    """Standard deviation (divisor n) of each feature over the rows, in float64, missing values left out."""
    blocks = [features[start : start + _ROWS] for start in range(0, len(features), _ROWS)]
    count = np.maximum(sum((~np.isnan(block)).sum(axis=0) for block in blocks), 1)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite then, which is told
        mean = sum(np.nansum(block, axis=0, dtype=np.float64) for block in blocks) / count
        squares = sum(np.nansum((block - mean) ** 2, axis=0) for block in blocks)
        found: np.ndarray = np.sqrt(squares / count)
    return found


def _two_valued(features: np.ndarray) -> np.ndarray:
    low, high = np.fmin.reduce(features, axis=0), np.fmax.reduce(features, axis=0)
    found: np.ndarray = ((features == low) | (features == high) | np.isnan(features)).all(axis=0)
    return found


def _frozen(frozen: tuple[str, ...], split: Split) -> np.ndarray:
    """True at the features named."""
    assert split.features is not None
    held = np.zeros(split.features.shape[1:], dtype=bool)
    if frozen and held.ndim != 1:
        raise NotApplicable(f"frozen: found {frozen}, but the inputs {held.shape} are no table with columns")
    for name in frozen:
        held[_column(name, split.feature_names, len(held))] = True
    return held


def _column(name: str, names: tuple[str, ...], width: int) -> int:
    if name in names:
        return names.index(name)
    if name.startswith("#") and name[1:].isdigit() and int(name[1:]) < width:
        return int(name[1:])
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; wanted one of {', '.join((*names, ''))}#0 to #{width - 1}"
    raise NotApplicable(f"frozen: no feature '{name}'{hint}")


def _names(held: np.ndarray, split: Split) -> tuple[str, ...]:
    names = split.feature_names
    return tuple(names[index] if names else f"#{index}" for index in np.flatnonzero(held))
