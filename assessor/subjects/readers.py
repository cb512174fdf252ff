"""Files of columns as tables, one reader a format: csv, parquet, Arrow, and the folders of Hugging Face's datasets."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from assessor.errors import UsageError
from assessor.subjects.extras import require
from assessor.subjects.tables import Table, rows_a_part, table_of_frame, table_of_parts

LINE = 2**24  # bytes of a line of csv at most
UNPACKED, RATIO = 2**30, 300  # a file that unpacks to more than this, and to so many times its size, is refused
TOO_FAR = f"it unpacks to more than {RATIO} times its size; unpack it yourself if that is right"
FILES = ".csv, .csv.gz, .parquet, .arrow, .feather, .npz or .npy"


def table_of_file(path: Path, field: str, where: str, *, texts: Collection[str] = ()) -> Table:
    """A file as a table.

    Args:
        path: The file.
        field: The configuration field that names it.
        where: How messages call the table.
        texts: Columns of a csv that are texts, whatever they look like.

    Returns:
        The table.

    Raises:
        UsageError: No such file, another format, or not readable.
    """
    refuse_missing(path, field)
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return _csv_table(path, field, where, texts)
    if name.endswith((".parquet", ".pq")):
        return _parquet_table(path, field, where)
    if name.endswith((".arrow", ".feather")):
        return _arrow_table([path], field, where)
    raise UsageError(f"{field}: found {path.name}, wanted a {FILES} file")


def refuse_missing(path: Path, field: str) -> None:
    """Refuse a file that is not there.

    Raises:
        UsageError: It is not.
    """
    if not path.is_file():
        raise UsageError(f"{field}: no file {path}")


@contextmanager
def reading(path: Path, field: str) -> Iterator[None]:
    """Tell what libraries raise in our words.

    Raises:
        UsageError: A library could not read the file.
    """
    try:
        yield
    except UsageError:
        raise
    except (ValueError, OSError, EOFError, LookupError, TypeError, MemoryError, OverflowError, RuntimeError, zlib.error,
            pd.errors.ParserError) as fault:  # fmt: skip
        raise UsageError(f"{field}: cannot read {path}: {fault}") from fault


def _most(path: Path) -> int:
    """Bytes that a packed file may hold."""
    return max(UNPACKED, RATIO * path.stat().st_size)


# --- csv -------------------------------------------------------------------------------------------------------------


class _Checked(io.RawIOBase):
    """Bytes of a csv: lines of bounded length, and no more of them than a file of this size can hold."""

    def __init__(self, stream: Any, most: float) -> None:
        self._stream, self._most, self._read, self._line = stream, most, 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found: bytes = self._stream.read(len(buffer))
        if b"\0" in found:
            raise ValueError("found binary data, wanted text")
        self._read += len(found)
        last = found.rfind(b"\n")
        self._line = self._line + len(found) if last < 0 else len(found) - last - 1
        if self._line > LINE:
            raise ValueError(f"a line is longer than {LINE} bytes")
        if self._read > self._most:
            raise ValueError(TOO_FAR)
        buffer[: len(found)] = found
        return len(found)


def _csv_parts(path: Path, rows: int, **options: Any) -> Iterator[pd.DataFrame]:
    packed = path.name.lower().endswith(".gz")
    most = _most(path) if packed else float("inf")
    with gzip.open(path) if packed else path.open("rb") as file, io.BufferedReader(_Checked(file, most)) as text:
        yield from pd.read_csv(text, chunksize=rows, low_memory=False, **options)


_WIDER = (("int64", {"natural"}), ("uint64", {"natural"}), ("float64", {"natural", "int64", "uint64"}))
"""Kinds of numbers, and those whose numbers they hold too."""


class _Kind(NamedTuple):
    """What a column of csv holds: "boolean", "natural", "int64", "uint64", "float64", "str"; None for nothing yet."""

    kind: str | None
    missing: bool

    def merged(self, other: _Kind) -> _Kind:
        kinds, missing = {self.kind, other.kind} - {None}, self.missing or other.missing
        if len(kinds) < 2:
            return _Kind(next(iter(kinds), None), missing)
        for wider, narrow in _WIDER:
            if kinds <= {wider, *narrow}:
                return _Kind(wider, missing)
        return _Kind("str", missing)

    @property
    def dtype(self) -> str:
        if self.kind in {"natural", "int64", "uint64"}:
            return "float64" if self.missing else self.kind.replace("natural", "int64")
        return "bool" if self.kind == "boolean" and not self.missing else self.kind or "float64"


def _kind(column: pd.Series) -> _Kind:
    missing = bool(column.isna().any())
    if missing and bool(column.isna().all()):
        return _Kind(None, True)
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        return _Kind("natural" if dtype.kind == "i" and column.min() >= 0 else str(dtype), missing)
    return _Kind("boolean" if pd.api.types.infer_dtype(column, skipna=True) == "boolean" else "str", missing)


def _csv_table(path: Path, field: str, where: str, texts: Collection[str]) -> Table:
    """Types are those of all rows: a first pass finds them, unless there is one part only."""
    stated = dict.fromkeys(texts, "str")
    with reading(path, field):
        header = next(iter(_csv_parts(path, 1, nrows=0)), pd.DataFrame())
        size = rows_a_part(16 * len(header.columns))
        found: dict[str, _Kind] = {}
        rows, first = 0, None
        for part in _csv_parts(path, size, dtype=stated):
            first = part if rows == 0 else None
            rows += len(part)
            for name in part.columns:
                found[str(name)] = _kind(part[name]).merged(found.get(str(name), _Kind(None, False)))
    if first is not None:
        return table_of_frame(first, where)
    types = {name: kind.dtype for name, kind in found.items()} | stated

    def parts(chosen: Sequence[str]) -> Iterator[pd.DataFrame]:
        with reading(path, field):
            for part in _csv_parts(path, size, usecols=list(chosen), dtype={name: types[name] for name in chosen}):
                yield part[list(chosen)].reset_index(drop=True)

    return table_of_parts(where, tuple(found) or tuple(map(str, header.columns)), rows, parts)


# --- parquet and Arrow -----------------------------------------------------------------------------------------------


def _parquet_table(path: Path, field: str, where: str) -> Table:
    require("pyarrow", "parquet", field)
    with reading(path, field):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            names, rows = tuple(file.schema_arrow.names), file.metadata.num_rows
            groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
        if unpacked > _most(path):
            raise ValueError(TOO_FAR)
        held = unpacked / max(1, rows)

    def whole(chosen: Sequence[str]) -> pd.DataFrame:
        with reading(path, field):
            return pd.read_parquet(path, columns=list(chosen)).reset_index(drop=True)

    def parts(chosen: Sequence[str]) -> Iterator[pd.DataFrame]:
        with reading(path, field):
            yield from _parquet_parts(path, list(chosen), rows_a_part(max(held, 8 * len(chosen))))

    return Table(where, names, rows, whole, parts)


def _parquet_parts(path: Path, columns: list[str], size: int) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type) and field.name in columns]
    # Unless told not to, pyarrow reads whole row groups before it gives a batch, and keeps them.
    with ParquetFile(path, read_dictionary=texts, pre_buffer=False, buffer_size=2**16) as file:
        for batch in file.iter_batches(batch_size=size, columns=columns):
            yield batch.to_pandas()[columns]


def _arrow_table(files: Sequence[Path], field: str, where: str) -> Table:
    """Files of record batches, one after another; a batch is looked at where it lies, or unpacked alone."""
    require("pyarrow", "parquet", field)
    names: tuple[str, ...] = ()
    rows = 0
    for path in files:
        with reading(path, field):
            for batch in _batches(path):
                rows += batch.num_rows
                names = names or tuple(batch.schema.names)
            names = names or tuple(_opened(path).schema.names)

    def parts(chosen: Sequence[str]) -> Iterator[pd.DataFrame]:
        for path in files:
            with reading(path, field):
                for batch in _batches(path):
                    some = batch.select(list(chosen))
                    size = rows_a_part(max(some.nbytes / max(1, len(some)), 8 * len(chosen)))
                    for start in range(0, len(some), size):
                        yield some.slice(start, size).to_pandas()

    return table_of_parts(where, names, rows, parts)


def _opened(path: Path) -> Any:
    import pyarrow as pa

    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"FEA1"):
        raise ValueError("found Feather version 1; write it anew with pandas.DataFrame.to_feather")
    if magic.startswith(b"ARROW1"):
        return pa.ipc.open_file(pa.memory_map(str(path)))
    if magic.startswith(b"\xff\xff\xff\xff"):
        return pa.ipc.open_stream(pa.memory_map(str(path)))
    raise ValueError("found no Arrow file (it starts with neither ARROW1 nor a message)")


def _batches(path: Path) -> Iterator[Any]:
    """Record batches, each looked through: a spoiled one would lead out of memory."""
    found = _opened(path)
    batches = found
    if hasattr(found, "num_record_batches"):
        batches = (found.get_batch(place) for place in range(found.num_record_batches))
    for batch in batches:
        batch.validate(full=True)
        yield batch


# --- datasets --------------------------------------------------------------------------------------------------------


def table_of_dataset(folder: Path, field: str, where: str) -> Table:
    """A folder that `datasets.Dataset.save_to_disk` wrote: its Arrow files alone are read, no script and no program.

    Args:
        folder: The folder.
        field: The configuration field that names it.
        where: How messages call the table.

    Returns:
        The table.

    Raises:
        UsageError: It is no such folder, or names files outside.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(one.name for one in folder.iterdir() if one.is_dir()))
        raise UsageError(f"{field}: {folder} holds several data sets; name the folder of one: {splits}")
    state = folder / "state.json"
    if not state.is_file():
        raise UsageError(f"{field}: no state.json in {folder}; wanted a folder that Dataset.save_to_disk wrote")
    with reading(state, field):
        said = json.loads(state.read_text("utf-8"))
        names = [str(one["filename"]) for one in said["_data_files"]]
    if said.get("_indices_data_files"):
        raise UsageError(f"{field}: {folder}: its rows are chosen by an index; save it anew with save_to_disk")
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.resolve().parent != folder.resolve():
            raise UsageError(f"{field}: {state} names '{name}', wanted a file in that folder")
    if not names:
        raise UsageError(f"{where}: the table has no rows")
    return _arrow_table([folder / name for name in names], field, where)
