"""Where a search without gradients may move rows: units, valid values, whole numbers; and rows to begin at."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from assessor.contract import Subject
from assessor_checks._inputs import Room, Scale, chosen_rows, float_features, room
from assessor_checks.robustness._hopskipjump import Reach

SMALL_SHARE = 0.001  # of a feature's range: 0.26 of 255, where the smallest changes studied in pictures are about 0.5
_KNOWN = 2000  # rows to begin at, at most
_ENTRIES = 2**25  # values of them, at most
_ROWS = 1024  # rows looked at in one go; bounds memory

Unit = Literal["feature_std", "feature_range", "absolute"]


def unit_doubt(subject: Subject, unit: np.ndarray, size: float, scale: Unit) -> str | None:
    """Why a change of this size is likely meant in another unit than that of the data, or None.

    Args:
        subject: Its test split has features.
        unit: Length of a unit of each feature, 0 where it is held fixed.
        size: Of a change, in the unit of `scale`.
        scale: Only the features' own unit can be mistaken.

    Returns:
        The reason.
    """
    if scale != "absolute" or size == 0:
        return None
    features = float_features(subject)
    ranges = np.fmax.reduce(features, axis=0) - np.fmin.reduce(features, axis=0)
    ranges = ranges[(unit.reshape(ranges.shape) > 0) & (ranges > 0)]
    if not len(ranges) or size >= SMALL_SHARE * (usual := float(np.median(ranges))):
        return None
    return (
        f"A change of {size:g} is less than a thousandth of the range of a feature in the test rows (half of them have "
        f"a range of {usual:.3g} or more), so that next to nothing was changed: was it meant for data in another unit, "
        "such as pictures in [0, 1]? Give it in the unit of the data, or set scale: feature_std."
    )


def joined(*reasons: str | None) -> str | None:
    """Those reasons that there are, one sentence after the other."""
    return " ".join(filter(None, reasons)) or None


class Surroundings(NamedTuple):
    """What is known around the test rows.

    Attributes:
        reach: How rows may be changed.
        known: (m, ...) complete rows of the train and the test split.
        remarks: What a reader must know of this.
    """

    reach: Reach
    known: np.ndarray
    remarks: tuple[str, ...]


def surroundings(
    subject: Subject,
    seed: int,
    *,
    scale: Unit,
    frozen: tuple[str, ...],
    bounds: tuple[float, float] | None,
    whole: bool,
) -> Surroundings:
    """Reach of every feature of the test split, and rows seen.

    Args:
        subject: Its test split has features.
        seed: Chooses the known rows where there are many.
        scale: Unit of a change; a standard deviation or a range is that over the train split, or over the test split
            where there is no other. Both hold columns of at most two values fixed.
        frozen: Columns to hold fixed, by name or as "#3" counted from 0.
        bounds: Least and greatest valid value of every feature; None takes each feature's own in the data.
        whole: Whether features that are whole numbers throughout the data stay so.

    Returns:
        Both, with remarks.

    Raises:
        NotApplicable: No floating-point features, an unknown column, data outside the bounds, nothing to change.
    """
    coarse: Scale = "absolute" if scale == "absolute" else "feature_std"
    around = room(subject, scale=coarse, frozen=frozen, bounds=bounds)
    test = float_features(subject)
    train = subject.splits["train"].features if "train" in subject.splits else None
    values = [_values(part) for part in (train, test) if part is not None]
    low, high = (np.stack(ends) for ends in zip(*((one.low, one.high) for one in values), strict=True))
    unit = around.scale.reshape(-1)
    if scale == "feature_range":
        unit = np.where(unit > 0, high[0] - low[0], 0.0)
    low, high = np.fmin.reduce(low), np.fmax.reduce(high)
    if bounds is not None:
        low, high = np.full_like(low, bounds[0]), np.full_like(high, bounds[1])
    kept = np.logical_and.reduce([one.whole for one in values]) & whole
    reach = Reach(np.where(high > low, unit, 0.0), low, high, kept)
    remarks = (*_of_the_room(around, scale), *_of_the_values(reach, bounds))
    return Surroundings(reach, _known(test, train, values, seed), remarks)


class _Values(NamedTuple):
    """What values a split's features take, (d,) each, and the indices of its complete rows."""

    low: np.ndarray
    high: np.ndarray
    whole: np.ndarray
    complete: np.ndarray


def _values(features: np.ndarray) -> _Values:
    """Least and greatest of each feature, whether all are whole numbers; missing values left out; in blocks."""
    flat = features.reshape(len(features), -1)
    whole, complete = np.ones(flat.shape[1], dtype=bool), np.ones(len(flat), dtype=bool)
    for start in range(0, len(flat), _ROWS):
        block = flat[start : start + _ROWS].astype(np.float64)
        whole &= ((block == np.rint(block)) | np.isnan(block)).all(axis=0)
        complete[start : start + _ROWS] = np.isfinite(block).all(axis=1)
    low, high = np.fmin.reduce(flat), np.fmax.reduce(flat)
    return _Values(low.astype(np.float64), high.astype(np.float64), whole, np.flatnonzero(complete))


def _known(test: np.ndarray, train: np.ndarray | None, values: list[_Values], seed: int) -> np.ndarray:
    """Complete rows of both splits in the test split's dtype, as many as fit, chosen by the seed."""
    first = values[0].complete if train is not None else np.empty(0, dtype=np.int64)
    last = values[-1].complete
    most = int(np.clip(_ENTRIES // max(1, test[0].size), 1, _KNOWN))
    chosen = chosen_rows(len(first) + len(last), most, seed)
    rows = [test[last[chosen[chosen >= len(first)] - len(first)]]]
    if train is not None:
        rows.insert(0, train[first[chosen[chosen < len(first)]]].astype(test.dtype))
    return np.concatenate(rows)


def _of_the_room(around: Room, scale: Unit) -> tuple[str, ...]:
    if scale != "feature_range":
        return around.remarks
    return (
        "Distances are in ranges (greatest less least value) of each feature over the train split, or over the test "
        "split where there is no other.",
        *(remark for remark in around.remarks if not remark.startswith("Perturbations are in")),
    )


def _of_the_values(reach: Reach, bounds: tuple[float, float] | None) -> tuple[str, ...]:
    remarks = []
    if whole := int((reach.whole & (reach.unit > 0)).sum()):
        remarks.append(f"{whole} features hold whole numbers only; changed rows keep to whole numbers there.")
    if bounds is None:
        remarks.append("Each feature stays between its least and its greatest value in the data.")
    return tuple(remarks)
