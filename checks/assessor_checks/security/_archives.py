"""Archives and compressed files, read in memory and up to a bound, as forgivingly as the readers they are meant for."""

from __future__ import annotations

import io
import mmap
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from assessor_checks.security._model_formats import FormatError
from assessor_checks.security._pickle_machine import Bytes

MEMBERS = 100_000  # members of an archive that are read
PIECE = 1 << 20  # bytes that are unpacked at once
UNFIT = (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, ValueError, OSError, EOFError, struct.error)


class View:
    """A stretch of a file, as bytes."""

    def __init__(self, data: Bytes, start: int, size: int) -> None:
        """Keep the place.

        Args:
            data: The file.
            start: Where the stretch begins.
            size: Its bytes; no more than are there.
        """
        self._data, self._start = data, start
        self._size = max(0, min(size, len(data) - start))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: slice) -> bytes:
        start, stop, _ = index.indices(self._size)
        return self._data[self._start + start : self._start + max(start, stop)]

    def find(self, sub: bytes, start: int) -> int:
        """Where some bytes come next, or -1."""
        found = self._data.find(sub, self._start + start)
        return found - self._start if 0 <= found <= self._start + self._size - len(sub) else -1


class Member(NamedTuple):
    """A member of an archive.

    Attributes:
        name: Its path.
        packed: Its contents as they stand there.
        method: How a zip archive packs it.
        is_hidden: Whether it is marked as encrypted.
    """

    name: str
    packed: Bytes
    method: int = zipfile.ZIP_STORED
    is_hidden: bool = False


def ends_as_zip(data: Bytes) -> bool:
    """Whether the directory of a zip archive stands at the end: readers find one behind anything."""
    return b"PK\x05\x06" in data[max(0, len(data) - 65_557) :]


def zip_members(data: Bytes) -> tuple[list[Member], bool]:
    """Members of a zip archive, by the directory at its end, as all readers go; and whether that could be read.

    Checksums, and names in front of the contents, are not looked at, since not all readers do. Without a readable
    directory the members are found by what stands in front of their contents.

    Raises:
        FormatError: A member is not where the directory says, or there is none.
    """
    try:
        with zipfile.ZipFile(_file(data)) as archive:
            infos = archive.infolist()
    except UNFIT:
        infos = []
    if not infos:
        return _without_directory(data), False
    found = []
    for info in infos:
        if info.is_dir() and not info.compress_size:
            continue
        local = data[info.header_offset : info.header_offset + 30]
        if len(local) < 30 or local[:4] != b"PK\x03\x04":
            raise FormatError(f"its member {_shown(info.filename)} is not where its directory says")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
        view = View(data, start, info.compress_size)
        found.append(Member(_shown(info.filename), view, info.compress_type, bool(info.flag_bits & 1)))
    return found, True


def _without_directory(data: Bytes) -> list[Member]:
    found: list[Member] = []
    position = data.find(b"PK\x03\x04", 0)
    while position >= 0 and len(local := data[position : position + 30]) == 30 and len(found) < MEMBERS:
        flags, method = struct.unpack("<HH", local[6:10])
        size, _full, name, extra = struct.unpack("<IIHH", local[18:30])
        start = position + 30 + name + extra
        following = data.find(b"PK\x03\x04", start)
        length = size or (following if following >= 0 else len(data)) - start
        title = data[position + 30 : position + 30 + name].decode("utf-8", "backslashreplace")
        found.append(Member(_shown(title), View(data, start, length), method, bool(flags & 1)))
        position = following
    if not found:
        raise FormatError("it has no members")
    return found


def tar_members(data: Bytes) -> Iterator[Member | str]:
    """Files in a tar archive; of links and devices only the name."""
    with tarfile.open(fileobj=_file(data), mode="r:") as archive:
        for _, member in zip(range(MEMBERS), archive, strict=False):
            if member.isfile():
                yield Member(_shown(member.name), View(data, member.offset_data, member.size))
            elif not member.isdir():
                yield _shown(member.name)


def unpacked(packed: Bytes, make: Callable[[], Any], most: int) -> Iterator[bytes]:
    """Contents piece by piece; streams that follow one another are one, and what follows that is no stream is left out.

    Args:
        packed: A compressed file.
        make: Makes a decompressor of the standard library.
        most: Bytes after which it ends.

    Yields:
        Pieces.

    Raises:
        EOFError: It ends in the middle of a stream.
    """
    machine, position, waiting, done, streams = make(), 0, b"", 0, 0
    while done < most:
        if not waiting and position < len(packed):
            waiting = packed[position : position + PIECE]
            position += len(waiting)
        try:
            made = machine.decompress(waiting, min(PIECE, most - done))
        except Exception:  # each kind has errors of its own
            if streams:
                return
            raise
        waiting = machine.unused_data if machine.eof else getattr(machine, "unconsumed_tail", b"")
        done += len(made)
        yield made
        if machine.eof:
            streams += 1
            if not waiting and position >= len(packed):
                return
            machine = make()
        elif not made and not waiting and position >= len(packed):
            if streams:
                return
            raise EOFError("it ends in the middle")


def _file(data: Bytes) -> Any:
    """As a file to read from, without a copy of what is on disk."""
    if isinstance(data, mmap.mmap):
        data.seek(0)
        return data
    return io.BytesIO(data[:])


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()[:200]
