"""Tables of columns: a csv or parquet file or a DataFrame, read whole or in parts that do not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from assessor.errors import UsageError

PART = 2**18  # rows of a part


@dataclass(frozen=True, eq=False)
class Table:
    """Where columns come from; nothing but their names and number is held.

    Attributes:
        where: How messages call it, such as "target.data.test (patients.parquet)".
        columns: Names of all columns.
        rows: Number of rows.
        whole: Gives the named columns, all rows.
        parts: Gives the named columns in parts of rows, in order.
    """

    where: str
    columns: tuple[str, ...]
    rows: int
    whole: Callable[[Sequence[str]], pd.DataFrame]
    parts: Callable[[Sequence[str]], Iterator[pd.DataFrame]]


def table_of_frame(frame: pd.DataFrame, where: str) -> Table:
    """A table that is in memory already; it is one part."""
    frame = frame.rename(columns=str)

    def chosen(names: Sequence[str]) -> pd.DataFrame:
        return frame[list(names)].reset_index(drop=True)

    return Table(where, tuple(frame.columns), len(frame), chosen, lambda names: iter([chosen(names)]))


def table_of_file(path: Path, field: str, where: str) -> Table:
    """A file as a table: parquet in parts, csv read whole.

    Args:
        path: The file.
        field: The configuration field that names it.
        where: How messages call the table.

    Returns:
        The table.

    Raises:
        UsageError: No such file, another format, or not readable.
    """
    if not _is_parquet(path):
        return table_of_frame(read_table(path, field), where)
    _refuse_missing(path, field)
    with _reading(path, field):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            names, rows = tuple(file.schema_arrow.names), file.metadata.num_rows

    def whole(chosen: Sequence[str]) -> pd.DataFrame:
        with _reading(path, field):
            return pd.read_parquet(path, columns=list(chosen)).reset_index(drop=True)

    def parts(chosen: Sequence[str]) -> Iterator[pd.DataFrame]:
        with _reading(path, field):
            yield from _parquet_parts(path, list(chosen))

    return Table(where, names, rows, whole, parts)


def _parquet_parts(path: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type) and field.name in columns]
    with ParquetFile(path, read_dictionary=texts, buffer_size=2**20) as file:
        for batch in file.iter_batches(batch_size=PART, columns=columns):
            yield batch.to_pandas().reset_index(drop=True)


def read_table(path: Path, field: str) -> pd.DataFrame:
    """A csv or parquet file, whole.

    Raises:
        UsageError: No such file, another format, or not readable.
    """
    _refuse_missing(path, field)
    with _reading(path, field):
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path)
        if _is_parquet(path):
            return pd.read_parquet(path)
    raise UsageError(f"{field}: found {path.name}, wanted a .csv or .parquet file")


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"}


def _refuse_missing(path: Path, field: str) -> None:
    if not path.is_file():
        raise UsageError(f"{field}: no file {path}")


@contextmanager
def _reading(path: Path, field: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, pd.errors.ParserError, UnicodeDecodeError) as fault:
        raise UsageError(f"{field}: cannot read {path}: {fault}") from fault
    except ImportError as fault:
        raise UsageError(f"{field}: reading parquet needs pyarrow: pip install pyarrow") from fault
