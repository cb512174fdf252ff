"""Where a search without gradients may move rows: units, valid values, whole numbers; and rows to begin at."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from assessor.contract import Subject
from assessor_checks._hopskipjump import Reach
from assessor_checks._inputs import Room, Scale, chosen_rows, float_features, room

_KNOWN = 2000  # rows to begin at, at most

Unit = Literal["feature_std", "feature_range", "absolute"]


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
    pool = test if train is None else np.concatenate([train.astype(test.dtype), test])
    flat = pool.reshape(len(pool), -1).astype(np.float64)
    low, high = np.fmin.reduce(flat), np.fmax.reduce(flat)
    kept = ((flat == np.rint(flat)) | np.isnan(flat)).all(axis=0) & whole
    unit = around.scale.reshape(-1)
    if scale == "feature_range":
        seen = flat if train is None else flat[: len(train)]
        unit = np.where(unit > 0, np.fmax.reduce(seen) - np.fmin.reduce(seen), 0.0)
    if bounds is not None:
        low, high = np.full_like(low, bounds[0]), np.full_like(high, bounds[1])
    reach = Reach(np.where(high > low, unit, 0.0), low, high, kept)
    complete = np.flatnonzero(np.isfinite(flat).all(axis=1))
    known = pool[complete[chosen_rows(len(complete), _KNOWN, seed)]]
    remarks = (*_of_the_room(around, scale), *_of_the_values(reach, bounds))
    return Surroundings(reach, known, remarks)


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
