"""What columns must hold, looked at part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor.errors import UsageError, nearest
from assessor.model import ColumnSpec
from assessor.subjects.tables import Table


class _Fault(NamedTuple):
    """Rows that break one expectation: how many, the first, and its value."""

    rows: int
    first: int
    value: str


def refuse_unexpected(table: Table, expected: Mapping[str, ColumnSpec]) -> None:
    """Refuse a table whose columns do not hold what they must.

    Raises:
        UsageError: Some do not, or are not there; names how many rows and the first of each.
    """
    for name in expected:
        if name not in table.columns:
            told = f"{nearest(name, table.columns)}; columns: {', '.join(table.columns)}"
            raise UsageError(f"{table.where}: expect: no column '{name}'{told}")
    found: dict[tuple[str, str], _Fault] = {}
    first = 0
    for part in table.parts(list(expected)) if expected else ():
        for name, spec in expected.items():
            for what, bad in _broken(part[name], spec):
                if bad.any():
                    row = int(np.flatnonzero(bad)[0])
                    before = found.get((name, what), _Fault(0, first + row, str(part[name].iloc[row])))
                    found[name, what] = before._replace(rows=before.rows + int(bad.sum()))
        first += len(part)
    if found:
        all_told = [
            f"column '{name}': {fault.rows} of {table.rows} rows {what} (first: row {fault.first}, '{fault.value}')"
            for (name, what), fault in found.items()
        ]
        raise UsageError(f"{table.where}: {'; '.join(all_told)}; mend the data, or what is expected of them")


def _broken(column: pd.Series, spec: ColumnSpec) -> Iterator[tuple[str, np.ndarray]]:
    """By expectation, which rows break it."""
    missing = column.isna().to_numpy()
    if spec.missing == "never":
        yield "are missing", missing
    values = _numbers(column)
    if spec.type in {"integer", "number"}:
        bad = np.isnan(values) if spec.type == "number" else ~(np.floor(values) == values)
        yield ("are no number" if spec.type == "number" else "are no whole number"), bad & ~missing
    if spec.type == "boolean":
        yield "are neither true nor false", _others(column, bool) & ~missing
    if spec.type == "text":
        yield "are no text", _others(column, str) & ~missing
    if spec.min is not None:
        yield f"are less than {spec.min:g}", values < spec.min
    if spec.max is not None:
        yield f"are greater than {spec.max:g}", values > spec.max
    if spec.allowed is not None:
        allowed = {_text(value) for value in spec.allowed}
        places, distinct = pd.factorize(column)
        known = np.array([*(_text(value) in allowed for value in distinct), True])
        yield "are none of the values allowed", ~known[places]


def _numbers(column: pd.Series) -> np.ndarray:
    """(n,) float64, NaN where a value is no number; booleans are none."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan)
    found: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return found


def _others(column: pd.Series, kind: type) -> np.ndarray:
    """(n,) whether a value is of another kind."""
    places, distinct = pd.factorize(column)
    same = np.array([*(isinstance(value, kind | np.bool_ if kind is bool else kind) for value in distinct), True])
    return ~same[places]


def _text(value: object) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]
