"""Random samples of rows in which every row has the same chance to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from assessor.contract import Sample
from assessor.errors import UsageError, nearest
from assessor.model import SampleSpec
from assessor.subjects.tables import Table, together


def drawn_rows(spec: SampleSpec, rows: int, strata: np.ndarray | None) -> np.ndarray:
    """Positions of the rows in the sample, in order.

    Stratified: rows are put in order by stratum, at random within each, and every (rows / n)-th is taken from a random
    start on (systematic sampling with fractional interval, Cochran 1977, section 8.6). So each row is in the sample
    with probability n / rows, whatever its stratum, and of a stratum with a share p of the rows n p are, rounded up or
    down. Means over the sample are unbiased without weights, and intervals that take it for a simple one are on the
    wide side.

    Args:
        spec: How to draw; n is less than `rows`.
        rows: How many there are.
        strata: (rows,) number of each row's stratum, from 0; None for a simple sample.

    Returns:
        (n,) positions.

    >>> drawn_rows(SampleSpec(n=3), 10, None).tolist()
    [5, 6, 9]
    """
    rng = np.random.default_rng(spec.seed)
    if strata is None:
        return np.sort(rng.choice(rows, spec.n, replace=False, shuffle=False))
    step = rows / spec.n
    ranks = np.minimum(np.floor((rng.random() + np.arange(spec.n)) * step), rows - 1)
    sizes = np.bincount(strata)
    wanted = np.diff(np.searchsorted(ranks, np.concatenate([[0], np.cumsum(sizes)])))
    found = [
        np.flatnonzero(strata == stratum)[rng.choice(size, number, replace=False, shuffle=False)]
        for stratum, (size, number) in enumerate(zip(sizes, wanted, strict=True))
        if number
    ]
    return np.sort(np.concatenate(found))


def sample_of(spec: SampleSpec, rows: int, strata: int) -> Sample:
    """What readers must know of the draw."""
    return Sample(of=rows, design=spec.design, by=spec.by, strata=strata, seed=spec.seed)


def numbered(parts: Iterator[pd.Series]) -> tuple[np.ndarray, int]:
    """Strata of values: numbers in the order of the values as texts, a missing one counting as a value.

    Args:
        parts: The values.

    Returns:
        (rows,) numbers, and how many there are.
    """
    known: dict[str, int] = {}
    codes = []
    for part in parts:
        places, distinct = pd.factorize(part, use_na_sentinel=False)
        own = [known.setdefault(_text(value), len(known)) for value in distinct]
        codes.append(np.array(own, dtype=np.int32)[places])
    order = np.empty(len(known), dtype=np.int32)
    order[[known[text] for text in sorted(known)]] = np.arange(len(known))
    return order[np.concatenate(codes)], len(known)


def _text(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]


def sampled(table: Table, spec: SampleSpec | None) -> Table:
    """Some rows of a table.

    Args:
        table: All rows.
        spec: How to draw; None for all.

    Returns:
        The table of those rows, in their order.

    Raises:
        UsageError: There is no column of strata by that name.
    """
    if spec is None or spec.n >= table.rows:
        return table
    strata, count = None, 0
    if spec.by is not None:
        if spec.by not in table.columns:
            told = f"{nearest(spec.by, table.columns)}; columns: {', '.join(table.columns)}"
            raise UsageError(f"{table.where}: sample.by: no column '{spec.by}'{told}")
        strata, count = numbered(part[spec.by] for part in table.parts([spec.by]))
    chosen = drawn_rows(spec, table.rows, strata)

    def parts(names: Sequence[str]) -> Iterator[pd.DataFrame]:
        first = 0
        for part in table.parts(names):
            low, high = np.searchsorted(chosen, [first, first + len(part)])
            if high > low:
                yield part.iloc[chosen[low:high] - first].reset_index(drop=True)
            first += len(part)

    drawn = sample_of(spec, table.rows, count)
    return replace(table, rows=spec.n, parts=parts, whole=together(parts), sample=drawn)
