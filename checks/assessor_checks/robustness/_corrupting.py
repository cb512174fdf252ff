"""How the rows of a subject are corrupted: read as pictures or as a table, corrupted, and written back as they were."""

from __future__ import annotations

import difflib
import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from assessor.contract import NotApplicable, Subject
from assessor_checks import _inputs
from assessor_checks.robustness import _table_corruptions as tables

ENTRIES = 2**22  # values of corrupted inputs held at once
FLAT = 64  # columns without names, from which on a row may be a flat picture
SMALL = 32  # pixels a side, below which blurs reach over less than a pixel
_CHANNELS = frozenset({1, 3, 4})  # grey, colour, colour with opacity


class Plan(NamedTuple):
    """What is done to rows.

    Attributes:
        names: Corruptions in order.
        corrupt: Rows (n, ...) as the model takes them, name, severity and seed to the corrupted rows.
        rows: Rows that are corrupted at once; fixes what is drawn for them.
        remarks: What a reader must know of this.
    """

    names: tuple[str, ...]
    corrupt: Callable[[np.ndarray, str, int, Sequence[int]], np.ndarray]
    rows: int
    remarks: tuple[str, ...]


class Form(NamedTuple):
    """How a row is a picture.

    Attributes:
        shape: Channels, height, width.
        order: Which of them each axis of a row is, flat rows taken apart.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Rows (n, ...) as (n, C, H, W)."""
        apart = x.reshape(len(x), *(self.shape[axis] for axis in self.order))
        return apart.transpose(0, *(1 + self.order.index(axis) for axis in range(3)))

    def rows(self, pictures: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Pictures (n, C, H, W) as rows of the shape and dtype of `like`."""
        found: np.ndarray = pictures.transpose(0, *(1 + axis for axis in self.order)).reshape(like.shape)
        return found.astype(like.dtype)


def form_of(features: np.ndarray, image_shape: tuple[int, int, int] | None, layout: str) -> Form:
    """How the rows are pictures.

    Args:
        features: (n, H, W), (n, C, H, W), (n, H, W, C), or flat (n, C H W) with `image_shape`.
        image_shape: Channels, height and width of flat rows.
        layout: "channels_first", "channels_last", or "auto": first, unless only the last axis may be channels.

    Returns:
        The form.

    Raises:
        NotApplicable: The shapes do not go together.
    """
    shape, last = features.shape[1:], layout == "channels_last"
    if image_shape is not None:
        if len(shape) != 1 or shape[0] != math.prod(image_shape):
            raise NotApplicable(f"image_shape {image_shape} does not go with inputs of shape {shape}")
        return Form(image_shape, (1, 2, 0) if last else (0, 1, 2))
    if len(shape) == 2:
        return Form((1, *shape), (0, 1, 2))
    if len(shape) != 3:
        raise NotApplicable(f"inputs of shape {shape} are neither pictures nor rows of a table")
    if last or (layout == "auto" and shape[2] in _CHANNELS and shape[0] not in _CHANNELS):
        return Form((shape[2], shape[0], shape[1]), (1, 2, 0))
    return Form((shape[0], shape[1], shape[2]), (0, 1, 2))


def of_pictures(
    features: np.ndarray,
    wanted: tuple[str, ...] | None,
    *,
    device: str,
    form: Form,
    value_range: tuple[float, float],
) -> Plan:
    """Plan for pictures.

    Args:
        features: (n, ...) all rows.
        wanted: Names of corruptions, or all.
        device: Where they are corrupted.
        form: How a row is a picture.
        value_range: Least and greatest value that a picture may hold.

    Returns:
        The plan.

    Raises:
        NotApplicable: A name is unknown, pictures are too small or leave the range, or PyTorch is missing.
    """
    if importlib.util.find_spec("torch") is None:
        raise NotApplicable("pictures are corrupted with PyTorch, which is missing: pip install 'ai-assessor[torch]'")
    from assessor_checks.robustness import _image_corruptions as images

    channels, height, width = form.shape
    low, high = value_range
    _refuse_range(features, low, high)
    if min(height, width) < images.LEAST:
        raise NotApplicable(f"pictures of {height} x {width} pixels are too small, wanted at least 8 x 8")

    size = images.reference(height, width)
    names = chosen(wanted, tuple(images.CORRUPTIONS))
    remarks = [
        f"Each row is taken as a picture: channels {channels}, pixels {height} x {width}.",
        f"Levels are those published for pictures of {size} x {size} pixels; lengths go with the shorter side.",
    ]
    if "frost" in names:
        remarks.append("Frost is computed, since the photographs of the original are not at hand.")
    if min(height, width) < SMALL:
        remarks.append("On pictures this small blurs reach over less than a pixel and do little.")
    corrupt = partial(_corrupted_pictures, form, value_range, device)
    return Plan(names, corrupt, max(1, ENTRIES // features[0].size), tuple(remarks))


def _corrupted_pictures(
    form: Form,
    value_range: tuple[float, float],
    device: str,
    x: np.ndarray,
    name: str,
    severity: int,
    seed: Sequence[int],
) -> np.ndarray:
    import torch

    from assessor_checks.robustness import _image_corruptions as images

    low, high = value_range
    unit = np.ascontiguousarray((form.pictures(x) - low) / (high - low), dtype=np.float32)
    moved = images.corrupted(torch.from_numpy(unit).to(device).clamp(0, 1), name, severity, seed)
    return form.rows(low + (high - low) * moved.cpu().numpy(), x)


def _refuse_range(features: np.ndarray, low: float, high: float) -> None:
    finite = np.isfinite(features)
    if not finite.all():
        bad = int((~finite).reshape(len(features), -1).any(axis=1).sum())
        raise NotApplicable(f"{bad} of {len(features)} test rows hold values that are missing or infinite")
    least, greatest = float(features.min()), float(features.max())
    slack = 1e-4 * (high - low)
    if least < low - slack or greatest > high + slack:
        raise NotApplicable(
            f"the pictures hold values from {least:.4g} to {greatest:.4g}, wanted {low:g} to {high:g}; set value_range "
            "to the least and greatest value that a picture may hold, such as [0, 255]; where pictures are normalised "
            "by mean and standard deviation, make that the first step of the model and give it the pictures before it"
        )


def of_tables(
    subject: Subject,
    features: np.ndarray,
    wanted: tuple[str, ...] | None,
    *,
    frozen: tuple[str, ...],
    as_nan: bool,
    seed: int,
) -> Plan:
    """Plan for tables; columns are described by the train split, or by the test split where there is no other.

    Args:
        subject: Whose columns they are.
        features: (n, d) all rows.
        wanted: Names of corruptions, or all.
        frozen: Columns that nothing happens to.
        as_nan: Whether a missing cell holds NaN instead of the column's median.
        seed: Fixes which row a stuck sensor shows.

    Returns:
        The plan.

    Raises:
        NotApplicable: A name or a column is unknown, values are infinite, or no column is left.
    """
    own = _inputs.room(subject, scale="absolute", frozen=frozen, bounds=None)
    split = subject.splits.get("train", subject.splits["test"])
    reference = np.asarray(features if split.features is None else split.features, dtype=np.float64)
    if np.isinf(features).any() or np.isinf(reference).any():
        raise NotApplicable("some features are infinite, so nothing can be said of their spread")
    columns = tables.columns_of(
        reference, _inputs.feature_std(reference), own.scale == 0, _measured(subject, frozen, features), (seed, 0)
    )
    asked = chosen(wanted, tuple(tables.CORRUPTIONS))
    few = {name for name in asked if int(tables.eligible(name, columns).sum()) < tables.least_columns(name)}
    names = tuple(name for name in asked if name not in few)
    if not names:
        raise NotApplicable(f"no column is left for: {', '.join(asked)}")

    remarks = [
        *own.remarks,
        f"Columns are described by their median and standard deviation over the {split.name} split.",
        f"{int(columns.measured.sum())} of {features.shape[1]} columns take more than two values and count as measured "
        "quantities; the others can only be missing, swapped or stuck.",
    ]
    if not subject.splits["test"].feature_names and features.shape[1] >= FLAT:
        remarks.append("The rows are taken as a table; where they hold pictures, set image_shape.")
    if few:
        remarks.append(f"Left out, since too few columns are of that kind: {', '.join(sorted(few))}.")
    corrupt = partial(_corrupted_tables, columns, np.nan if as_nan else None)
    return Plan(names, corrupt, max(1, ENTRIES // features.shape[1]), tuple(remarks))


def _corrupted_tables(
    columns: tables.Columns, missing: float | None, x: np.ndarray, name: str, severity: int, seed: Sequence[int]
) -> np.ndarray:
    found = tables.corrupted(x.astype(np.float64), columns, name, severity, seed, missing=missing)
    return found.astype(x.dtype)


def _measured(subject: Subject, frozen: tuple[str, ...], features: np.ndarray) -> np.ndarray:
    """Columns with more than two values that are not held fixed."""
    try:
        found: np.ndarray = _inputs.room(subject, scale="feature_std", frozen=frozen, bounds=None).scale > 0
    except NotApplicable:
        return np.zeros(features.shape[1], dtype=bool)
    return found


def chosen(wanted: tuple[str, ...] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The known names that are wanted, in their order; all without a wish.

    Raises:
        NotApplicable: A name is not known; the message gives the nearest.
    """
    for name in wanted or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            if near:
                raise NotApplicable(f"corruptions: no '{name}' for this kind of input; did you mean '{near[0]}'?")
            raise NotApplicable(f"corruptions: no '{name}' for this kind of input; wanted some of {', '.join(known)}")
    return tuple(name for name in known if wanted is None or name in wanted)
