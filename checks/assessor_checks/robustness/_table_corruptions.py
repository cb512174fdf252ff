"""What goes wrong with the columns of a table in the field, at five graded shares of its cells or columns.

Cells are missing, in the wrong unit, without their sign, far off or too coarse; columns are swapped or stuck. Every row
is hit by itself, so rows stay independent of each other given the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

SEVERITIES = 5
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)  # of the cells, or of each row's columns
STEPS = (0.1, 0.25, 0.5, 1.0, 2.0)  # standard deviations between neighbouring values that rounding leaves
FAR = 10.0  # standard deviations of an outlier from the median
INCH = 2.54


class Columns(NamedTuple):
    """What is known of the d columns, all (d,).

    Attributes:
        median: Middle value over the reference rows, missing ones left out.
        spread: Standard deviation over the reference rows.
        stuck: What a stuck sensor shows: the value of one reference row.
        open: Whether anything may happen to the column.
        measured: Whether it is a quantity, so that it has a unit, a sign and a spread.
    """

    median: np.ndarray
    spread: np.ndarray
    stuck: np.ndarray
    open: np.ndarray
    measured: np.ndarray


def columns_of(
    reference: np.ndarray, spread: np.ndarray, held: np.ndarray, measured: np.ndarray, seed: Sequence[int]
) -> Columns:
    """Columns from reference rows.

    Args:
        reference: (m, d) usually the training rows; NaN is a missing value.
        spread: (d,) their standard deviations.
        held: (d,) columns that nothing happens to.
        measured: (d,) columns that are quantities.
        seed: Fixes which row a stuck sensor shows.

    Returns:
        The columns; one without a single value gets 0.
    """
    known = reference[:, ~np.isnan(reference).all(axis=0)]
    median = np.zeros(reference.shape[1])
    median[~np.isnan(reference).all(axis=0)] = np.nanmedian(known, axis=0)
    stuck = reference[np.random.default_rng(seed).integers(len(reference))]
    return Columns(median, spread, np.where(np.isnan(stuck), median, stuck), ~held, measured & ~held)


def corrupted(
    x: np.ndarray, columns: Columns, name: str, severity: int, seed: Sequence[int], *, missing: float | None = None
) -> np.ndarray:
    """Rows with one kind of fault.

    Args:
        x: (n, d) float64.
        columns: What is known of the columns.
        name: One of `CORRUPTIONS`.
        severity: From 1 to 5.
        seed: Whole numbers that fix which cells are hit.
        missing: What stands in a missing cell instead of the column's median.

    Returns:
        (n, d) float64; cells that are missing already stay so, except under "missing" and "stuck_sensor".
    """
    if missing is not None:
        columns = columns._replace(median=np.full_like(columns.median, missing))
    return CORRUPTIONS[name](x, columns, severity - 1, np.random.default_rng(seed))


def least_columns(name: str) -> int:
    """How many columns a fault needs."""
    return 2 if name == "swapped_columns" else 1


def eligible(name: str, columns: Columns) -> np.ndarray:
    """(d,) columns that a fault may happen to."""
    return columns.open if name in _ANY_COLUMN else columns.measured


def _missing(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    return np.where(_cells(x, columns.open, level, rng), columns.median, x)


def _thousand(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    return _scaled(x, columns, level, rng, 1000.0)


def _inch(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    return _scaled(x, columns, level, rng, INCH)


def _scaled(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator, factor: float) -> np.ndarray:
    hit = _cells(x, columns.measured, level, rng)
    return np.where(hit, np.where(rng.random(x.shape) < 0.5, x * factor, x / factor), x)


def _sign(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    return np.where(_cells(x, columns.measured, level, rng), -x, x)


def _outliers(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    hit = _cells(x, columns.measured, level, rng)
    away = np.where(rng.random(x.shape) < 0.5, FAR, -FAR) * columns.spread
    return np.where(hit & ~np.isnan(x), columns.median + away, x)


def _rounding(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    step = STEPS[level] * columns.spread
    steady = ~columns.measured | (step == 0)
    return np.where(steady, x, np.round(x / np.where(steady, 1.0, step)) * step)


def _swapped(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    """In every row some columns hold each other's values, moved on by one."""
    picked = _picked(len(x), columns.open, level, rng, least=2)
    found, rows = x.copy(), np.arange(len(x))[:, None]
    found[rows, picked] = x[rows, np.roll(picked, 1, axis=1)]
    return found


def _stuck(x: np.ndarray, columns: Columns, level: int, rng: np.random.Generator) -> np.ndarray:
    picked = _picked(len(x), columns.open, level, rng, least=1)
    found = x.copy()
    found[np.arange(len(x))[:, None], picked] = columns.stuck[picked]
    return found


def _cells(x: np.ndarray, which: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """(n, d) cells hit, each by itself, among the columns of that kind."""
    found: np.ndarray = (rng.random(x.shape) < SHARES[level]) & which
    return found


def _picked(n: int, which: np.ndarray, level: int, rng: np.random.Generator, least: int) -> np.ndarray:
    """(n, k) different columns of that kind for every row, in random order."""
    where = np.flatnonzero(which)
    count = max(least, round(SHARES[level] * len(where)))
    found: np.ndarray = where[rng.random((n, len(where))).argsort(axis=1)[:, :count]]
    return found


_ANY_COLUMN = ("missing", "swapped_columns", "stuck_sensor")
CORRUPTIONS: Mapping[str, Callable[[np.ndarray, Columns, int, np.random.Generator], np.ndarray]] = {
    "missing": _missing,
    "unit_thousand": _thousand,
    "unit_inch": _inch,
    "sign_error": _sign,
    "outliers": _outliers,
    "rounding": _rounding,
    "swapped_columns": _swapped,
    "stuck_sensor": _stuck,
}
