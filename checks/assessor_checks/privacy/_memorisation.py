"""Traces of single training rows: kept inside the model, answered unlike their surroundings, or given out again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from assessor_checks._near_duplicates import column_scale, nearest, picture_pairs, same_rows, scaled
from assessor_checks.privacy._membership import floor_of, signal

_DEPTH = 12  # of nested objects that are searched
_DENSE = 50_000_000  # numbers of a sparse matrix that is written out to be searched
_HELD = 4_000_000  # numbers ranked at once


class Held(NamedTuple):
    """Rows that a model holds.

    Attributes:
        rows: (n,) bool, which of the rows asked about are there, bit by bit in single precision.
        where: Names of the attributes they were found in.
    """

    rows: np.ndarray
    where: tuple[str, ...]


def held(model: Any, rows: np.ndarray) -> Held:
    """Which rows a model object holds: nearest neighbours, support vectors, prototypes, buffers.

    Looks through attributes, lists and mappings for arrays as wide as a row, also one transposed. For a scikit-learn
    pipeline the rows are compared as they come to each step.

    Args:
        model: A fitted estimator, or a mapping of a module's names to its tensors as arrays.
        rows: (n, ...) finite numbers as the model takes them.

    Returns:
        The rows that are there.
    """
    found, where = np.zeros(len(rows), dtype=bool), []
    arrays = list(_arrays(model, "", set(), 0))
    for form in _forms(model, rows):
        own = _single(form.reshape(len(form), -1))
        for name, array in arrays:
            for table in _tables(array, own.shape[1]):
                own_codes, there = same_rows(own, _single(table))
                hit = np.isin(own_codes, there)
                if hit.any():
                    found |= hit
                    where.append(name)
    return Held(found, tuple(dict.fromkeys(where)))


def _single(rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def _forms(model: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows as given, and as they leave each step of a pipeline but the last."""
    yield rows
    for _, step in getattr(model, "steps", [])[:-1]:
        if step in {None, "passthrough"}:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of columns without names
                made: Any = step.transform(rows)
        except (AttributeError, TypeError, ValueError):  # wants a table with names, or another kind of rows
            return
        rows = np.asarray(made.toarray() if hasattr(made, "toarray") else made)
        if rows.dtype.kind not in "biuf":
            return
        yield rows


def _arrays(value: Any, name: str, seen: set[int], depth: int) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays of numbers inside an object, with the names that lead to them."""
    dense: Any = getattr(value, "toarray", None)
    if depth > _DEPTH or id(value) in seen or isinstance(value, str | bytes | int | float | type(None)):
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        yield name, value
    elif type(value).__name__ in {"KDTree", "BallTree"} and hasattr(value, "data"):
        yield f"{name}.data", np.asarray(value.data)
    elif dense is not None and hasattr(value, "nnz"):
        if np.prod(value.shape) <= _DENSE:
            yield name, np.asarray(dense())
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _arrays(inner, f"{name}[{key!r}]" if name else str(key), seen, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset) or (isinstance(value, np.ndarray) and value.dtype == object):
        for position, inner in enumerate(value):
            yield from _arrays(inner, f"{name}[{position}]", seen, depth + 1)
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | FunctionType | MethodType):
        for key, inner in vars(value).items():
            yield from _arrays(inner, f"{name}.{key}" if name else key, seen, depth + 1)


def _tables(array: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """The array as rows of a width, also of its transpose."""
    if array.ndim >= 2 and array.size and array[0].size == width:
        yield array.reshape(len(array), width)
    if array.ndim == 2 and len(array) == width and array.shape[1] != width:
        yield array.T


def spread_of(rows: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature (d,); 0 where a feature has at most two values and must not be moved.

    Args:
        rows: (n, d).

    Returns:
        Standard deviations.
    """
    many = np.array([len(np.unique(column)) > 2 for column in rows.T], dtype=bool)
    found: np.ndarray = np.where(many, rows.astype(np.float64).std(axis=0), 0.0)
    return found


def drops(
    ask: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, labels: np.ndarray, move: np.ndarray, copies: int,
    rng: np.random.Generator, progress: Callable[[int], None],
) -> np.ndarray:  # fmt: skip
    """How much better the model does on a row than on the same row moved a little.

    Args:
        ask: Rows (n, ...) to scores (n, C) or (n,).
        rows: (n, ...) floating numbers.
        labels: (n,) class or value.
        move: (d,) standard deviation of the movement of each feature, 0 for none.
        copies: Moved copies of each row.
        rng: Randomness of the movements.
        progress: Told how many copies are done.

    Returns:
        (n,) signal on the row minus its mean over the copies; NaN where the outputs are not finite.
    """

    def finite(outputs: np.ndarray) -> np.ndarray:
        return np.asarray(np.isfinite(outputs.reshape(len(rows), -1)).all(axis=1))

    def signals(outputs: np.ndarray) -> np.ndarray:
        found = np.full(len(rows), np.nan)
        usable = finite(outputs)
        found[usable] = signal(outputs[usable], labels[usable], floor)
        return found

    there = ask(rows)
    usable = finite(there)
    floor = floor_of(there[usable], labels[usable]) if usable.any() else 1.0
    around = np.zeros(len(rows))
    for done in range(copies):
        progress(done)
        step = rng.standard_normal((len(rows), len(move))) * move
        around += signals(ask((rows + step.reshape(rows.shape)).astype(rows.dtype)))
    return signals(there) - around / copies


def rank_p_value(high: np.ndarray, low: np.ndarray, seed: int, permutations: int) -> float:
    """How often a random division of the values puts those of the first group as high as they are, or higher.

    A permutation test of the rank sum; exact at any size where nothing tells the groups apart.

    Args:
        high: (n,) values expected to be higher.
        low: (m,) the others.
        seed: Seed of the divisions.
        permutations: Number of divisions.

    Returns:
        (1 + number at least as high) / (1 + permutations).
    """
    values = np.concatenate([high, low])
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    observed, n = ranks[: len(high)].sum(), len(ranks)
    rng, step = np.random.default_rng([seed, 9]), max(1, _HELD // n)
    reached = 0
    for start in range(0, permutations, step):
        drawn = rng.permuted(np.tile(ranks, (min(step, permutations - start), 1)), axis=1)[:, : len(high)]
        reached += int((drawn.sum(axis=1) >= observed - 1e-9).sum())
    return (1 + reached) / (1 + permutations)


class Closest(NamedTuple):
    """How close rows come to training rows.

    Attributes:
        distance: (n,) distance to the nearest training row; infinite where a picture has none within the tolerance.
        row: (n,) that training row; -1 where there is none.
    """

    distance: np.ndarray
    row: np.ndarray


def closest(rows: np.ndarray, train: np.ndarray, tolerance: float) -> Closest:
    """Nearest training row of each row.

    For a table the root mean square difference of the columns in units of their standard deviation over the training
    rows; for pictures the distance of `picture_pairs`, which forgives brightness, contrast, mirroring and a pixel.

    Args:
        rows: (n, d), (n, H, W) or (n, C, H, W) finite numbers.
        train: (m, ...) likewise, m at least 1.
        tolerance: Of a near duplicate; pictures farther apart are not compared.

    Returns:
        Distances and rows.
    """
    if rows.ndim == 2:
        scale = column_scale(train)
        found = nearest(scaled(rows, scale), scaled(train, scale))
        return Closest(found.distance, found.row)
    pairs = picture_pairs(rows, train, tolerance)
    order = np.lexsort((pairs.distance, pairs.first))
    first, where = np.unique(pairs.first[order], return_index=True)
    distance, row = np.full(len(rows), np.inf), np.full(len(rows), -1, np.int64)
    distance[first], row[first] = pairs.distance[order][where], pairs.second[order][where]
    return Closest(distance, row)
