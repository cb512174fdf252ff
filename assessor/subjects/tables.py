"""Tables of columns, read in parts that do not grow with their source."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from assessor.contract import Sample
from assessor.errors import UsageError, nearest
from assessor.subjects.spool import Scratch, let_go

PART = 2**18  # most rows of a part
_PART_BYTES = 2**23  # bytes of a part, about


@dataclass(frozen=True, eq=False)
class Table:
    """Where columns come from; nothing but their names and number is held.

    Attributes:
        where: How messages call it, such as "target.data.test (patients.parquet)".
        columns: Names of all columns.
        rows: Number of rows.
        whole: Gives the named columns, all rows.
        parts: Gives the named columns in parts of rows, in order, the same at every call.
        label: Column of labels unless another is named.
        features: Columns of features unless others are named; None for all others.
        sample: How its rows were drawn from more; None for all rows.
    """

    where: str
    columns: tuple[str, ...]
    rows: int
    whole: Callable[[Sequence[str]], pd.DataFrame]
    parts: Callable[[Sequence[str]], Iterator[pd.DataFrame]]
    label: str | None = None
    features: tuple[str, ...] | None = None
    sample: Sample | None = None


def table_of_frame(frame: pd.DataFrame, where: str) -> Table:
    """A table that is in memory already; it is one part."""
    frame = frame.rename(columns=str)

    def chosen(names: Sequence[str]) -> pd.DataFrame:
        return frame[list(names)].reset_index(drop=True)

    return Table(where, tuple(frame.columns), len(frame), chosen, lambda names: iter([chosen(names)]))


def table_of_parts(
    where: str, columns: Sequence[str], rows: int, parts: Callable[[Sequence[str]], Iterator[pd.DataFrame]]
) -> Table:
    """A table that is read in parts; all rows are the parts together."""
    return Table(where, tuple(columns), rows, together(parts), parts)


def table_of_stream(frames: Iterator[pd.DataFrame], where: str) -> Table:
    """A table of rows that come once only: kept in a temporary file of our own.

    Args:
        frames: Parts of rows, at least one, all with the same columns.
        where: How messages call the table.

    Returns:
        The table.
    """
    file, rows = Scratch(where), 0
    columns: tuple[str, ...] = ()
    for frame in frames:
        file.write(pickle.dumps(frame, protocol=5))
        rows, columns = rows + len(frame), tuple(map(str, frame.columns))
    kept = file.content()

    def parts(names: Sequence[str]) -> Iterator[pd.DataFrame]:
        at = 0
        while at < len(kept):
            kept.seek(at)
            frame: pd.DataFrame = pickle.load(kept)  # noqa: S301 - written above, and nobody else has the file
            at = kept.tell()
            let_go(kept)
            yield frame[list(names)]

    return table_of_parts(where, columns, rows, parts)


def together(
    parts: Callable[[Sequence[str]], Iterator[pd.DataFrame]],
) -> Callable[[Sequence[str]], pd.DataFrame]:
    """Function that gives all rows of the named columns."""
    return lambda names: joined(list(parts(names)))


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of several, one below the other."""
    return pd.concat([plain(frame) for frame in frames], ignore_index=True)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts as themselves where a reader gives them as numbered categories, which differ from part to part."""
    coded = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    return frame.astype({name: frame[name].cat.categories.dtype for name in coded}) if coded else frame


def rows_a_part(row_bytes: float) -> int:
    """How many rows of that size to read at once."""
    return max(1, min(PART, int(_PART_BYTES / max(1.0, row_bytes))))


def renamed(table: Table, names: Mapping[str, str]) -> Table:
    """The table with columns called by our names.

    Args:
        table: As it is.
        names: Our name to its name.

    Returns:
        The table.

    Raises:
        UsageError: It has no such column, or another one by our name.
    """
    if not names:
        return table
    for column in names.values():
        if column not in table.columns:
            told = f"{nearest(column, table.columns)}; columns: {', '.join(table.columns)}"
            raise UsageError(f"{table.where}: columns: no column '{column}'{told}")
    ours = {theirs: name for name, theirs in names.items()}
    columns = tuple(ours.get(name, name) for name in table.columns)
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise UsageError(f"{table.where}: columns: two columns would be called '{twice}'")

    def parts(wanted: Sequence[str]) -> Iterator[pd.DataFrame]:
        return (part.rename(columns=ours) for part in table.parts([names.get(name, name) for name in wanted]))

    def whole(wanted: Sequence[str]) -> pd.DataFrame:
        return table.whole([names.get(name, name) for name in wanted]).rename(columns=ours)

    return replace(table, columns=columns, parts=parts, whole=whole, label=ours.get(table.label or "", table.label))
