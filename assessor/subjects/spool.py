"""Rows of numbers that are too many to be held: written to a temporary file, mapped, read slice by slice."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap

import numpy as np

from assessor.errors import UsageError

HELD = 2**26  # bytes of a split's features that are held in memory; more go to a file
SLICE = 2**23  # bytes of features in memory at once where they are in a file
SPARED = 2**28  # bytes of the disk that are left free
_SCATTERED = 4  # rows read at once that lie anywhere in the file
_EVEN = 4096  # rows: slices are whole batches of a model, so that neither changes a number


class Scratch:
    """A temporary file without a name, where TMPDIR says, that ends with this object."""

    def __init__(self, where: str) -> None:
        """Start empty.

        Args:
            where: How messages call what is in it.
        """
        self._where = where
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when this object ends
        weakref.finalize(self, self._file.close)

    def write(self, content: memoryview | bytes, *, more: int = 0) -> None:
        """Write at the end.

        Args:
            content: Bytes.
            more: Bytes that will follow.

        Raises:
            UsageError: The disk is too full.
        """
        free = shutil.disk_usage(tempfile.gettempdir()).free - SPARED
        if len(content) + more > free:
            raise UsageError(
                f"{self._where}: needs {(len(content) + more) / 2**20:,.0f} MiB more in the folder of temporary files "
                f"({tempfile.gettempdir()}), which has {max(0, free) / 2**20:,.0f}; free some, or name another folder "
                "in the environment variable TMPDIR"
            )
        self._file.write(content)

    def content(self) -> mmap:
        """All bytes, at least one, to be read like a file; they stay when this object ends."""
        self._file.flush()
        return mmap(self._file.fileno(), 0, access=ACCESS_READ)

    def array(self, dtype: np.dtype, shape: tuple[int, ...], *, fortran: bool = False) -> np.ndarray:
        """All bytes as an array that is read where it is looked at; it stays when this object ends."""
        self._file.flush()
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        return np.memmap(self._file, dtype=dtype, mode="r", shape=shape, order="F" if fortran else "C")


class Spool:
    """Rows that are added part by part, and are an array in the end."""

    def __init__(self, where: str) -> None:
        """Start empty.

        Args:
            where: How messages call the rows.
        """
        self._where = where
        self._parts: list[np.ndarray] = []
        self._like: np.ndarray | None = None
        self._rows = self._bytes = 0
        self._file: Scratch | None = None

    def add(self, rows: np.ndarray) -> None:
        """Add the next rows (n, ...).

        Raises:
            UsageError: They differ in shape or type from those before, or the disk is too full.
        """
        self._like = rows[:0] if self._like is None else self._like
        if rows.shape[1:] != self._like.shape[1:] or rows.dtype != self._like.dtype:
            found, wanted = (f"{one.dtype} {one.shape[1:]}" for one in (rows, self._like))
            raise UsageError(f"{self._where}: row {self._rows} and those after it are {found}, those before {wanted}")
        self._rows += len(rows)
        self._bytes += rows.nbytes
        self._parts.append(rows)
        if self._file is None and self._bytes > HELD:
            self._file = Scratch(self._where)
        if self._file is not None:
            for part in self._parts:
                self._file.write(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
            self._parts = []

    def array(self) -> np.ndarray:
        """All rows: in memory where they are few, else in a file that goes with the array."""
        if self._file is not None:
            assert self._like is not None
            return self._file.array(self._like.dtype, (self._rows, *self._like.shape[1:]))
        found: np.ndarray = np.concatenate(self._parts) if len(self._parts) > 1 else self._parts[0]
        return found


def is_mapped(rows: np.ndarray) -> bool:
    """Whether they are in a file."""
    return isinstance(rows, np.memmap)


def in_slices(rows: np.ndarray) -> Iterator[slice]:
    """Slices to read rows by, one after another: all at once where they are in memory.

    Of a file, what one slice brought into memory is given back before the next.

    Yields:
        The slices.
    """
    if not is_mapped(rows):
        yield slice(0, len(rows))
        return
    size = max(1, SLICE // max(1, rows[:1].nbytes))
    size = size // _EVEN * _EVEN or size
    for start in range(0, len(rows), size):
        yield slice(start, start + size)
        give_back(rows)


def taken(rows: np.ndarray, chosen: slice | np.ndarray) -> np.ndarray:
    """A slice of the rows, or those at some positions, as a copy in memory; of a file nothing else stays there."""
    if not is_mapped(rows):
        return rows[chosen]
    if isinstance(chosen, slice):
        found = np.array(rows[chosen])
        give_back(rows)
        return found
    found = np.empty((len(chosen), *rows.shape[1:]), rows.dtype)
    for start in range(0, len(chosen), _SCATTERED):  # a system may bring in megabytes around each
        found[start : start + _SCATTERED] = rows[chosen[start : start + _SCATTERED]]
        give_back(rows)
    return found


def give_back(rows: np.ndarray) -> None:
    """Let go of what was read of a file; it is read again when it is looked at again."""
    if isinstance(rows.base, mmap):
        let_go(rows.base)


def let_go(content: mmap) -> None:
    """As `give_back`, for a file's bytes."""
    if hasattr(content, "madvise"):  # not on Windows
        from mmap import MADV_DONTNEED

        content.madvise(MADV_DONTNEED)
