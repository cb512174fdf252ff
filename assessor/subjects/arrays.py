"""numpy's files, .npz and .npy: numbers and texts, never pickled objects, copied to a temporary file and mapped."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from assessor.errors import UsageError
from assessor.subjects.readers import reading, refuse_missing
from assessor.subjects.spool import HELD, Scratch
from assessor.subjects.tables import Table, rows_a_part, table_of_parts

FEATURES, LABELS = "X", "y"
"""What the arrays of features and labels are called."""
KINDS = "biufSU"
_READ = 2**22  # bytes at a time
_MEMBERS = 1000


def is_arrays(path: Path) -> bool:
    """Whether a file's name says that numpy wrote it."""
    return path.suffix.lower() in {".npz", ".npy"}


def read_arrays(path: Path, field: str, where: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of a .npy is called "X".

    Args:
        path: The file.
        field: The configuration field that names it.
        where: How messages call it.

    Returns:
        Arrays, all with the same number of rows; large ones stay in a file.

    Raises:
        UsageError: No such file, not readable, or something else than rows of numbers and texts.
    """
    refuse_missing(path, field)
    with reading(path, field):
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                found = {FEATURES: _array(stream, path.stat().st_size, path.name, where)}
        else:
            found = _members(path, where)
    if not found:
        raise UsageError(f"{where}: no arrays")
    rows = {name: len(array) for name, array in found.items()}
    if len(set(rows.values())) > 1:
        raise UsageError(f"{where}: arrays differ in rows: {', '.join(f'{name} {n}' for name, n in rows.items())}")
    return found


def table_of_arrays(arrays: dict[str, np.ndarray], where: str) -> Table:
    """Arrays of one number or text a row, as columns."""
    wide = [name for name, array in arrays.items() if array.ndim > 1]
    if wide:
        raise UsageError(f"{where}: '{wide[0]}' has several numbers a row; call the features {FEATURES}")
    rows = len(next(iter(arrays.values())))

    def parts(names: Sequence[str]) -> list[pd.DataFrame]:
        size = rows_a_part(sum(arrays[name].itemsize for name in names))
        return [pd.DataFrame({n: arrays[n][start : start + size] for n in names}) for start in range(0, rows, size)]

    return table_of_parts(where, tuple(arrays), rows, lambda names: iter(parts(names)))


def _members(path: Path, where: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS or len({one.filename for one in members}) < len(members):
                raise ValueError("its arrays repeat, or are too many")
            for one in members:
                with archive.open(one) as stream:
                    found[one.filename.removesuffix(".npy")] = _array(stream, one.file_size, one.filename, where)
    except zipfile.BadZipFile as fault:
        raise ValueError(f"{fault}; wanted what numpy.savez wrote") from fault
    return found


def _array(stream: IO[bytes], size: int, name: str, where: str) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    head = _Counted(stream)
    shape, fortran, dtype = read(head)
    if dtype.kind not in KINDS or dtype.hasobject:
        raise UsageError(
            f"{where}: array '{name}' holds {dtype}, wanted numbers or texts; Python objects are not read, since that "
            "runs code"
        )
    length = math.prod(shape) * dtype.itemsize
    if not shape or size != head.read_so_far + np.lib.format.MAGIC_LEN + length:
        raise ValueError(f"array '{name}' of shape {shape} and type {dtype} does not fit its {size} bytes")
    if length <= HELD:
        content = _exactly(stream, length)
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    file = Scratch(where)
    file.write(b"", more=length)
    for start in range(0, length, _READ):
        file.write(_exactly(stream, min(_READ, length - start)))
    return file.array(dtype, shape, fortran=fortran)


class _Counted:
    """A stream that counts what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.read_so_far = 0

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(size)
        self.read_so_far += len(found)
        return found


def _exactly(stream: IO[bytes], length: int) -> bytes:
    parts = []
    while length and (part := stream.read(min(length, _READ))):
        parts.append(part)
        length -= len(part)
    if length:
        raise ValueError("it ends too early")
    return b"".join(parts)
