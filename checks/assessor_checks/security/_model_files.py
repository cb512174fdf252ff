"""Looks into model files without loading them: pickles, archives of pickles, and formats that are none.

Formats are told by content, not by name. Archives are unpacked in memory up to a bound. A part that cannot be read is a
finding of its own: nothing can be said of it.
"""

from __future__ import annotations

import ast
import bz2
import io
import lzma
import mmap
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from assessor_checks.security._archives import UNFIT, Member, View, ends_as_zip, tar_members, unpacked, zip_members
from assessor_checks.security._known_imports import Standing, standing
from assessor_checks.security._model_formats import (
    Finding,
    FormatError,
    configuration,
    gguf,
    hdf5,
    like_safetensors,
    onnx,
    safetensors,
    tensorflow,
    torchscript,
)
from assessor_checks.security._pickle_machine import Bytes
from assessor_checks.security._pickles import Followed, follow, starts_like_pickle
from assessor_checks.security._ubjson import starts_like_ubjson, ubjson

UNPACKED = 1 << 30  # bytes of one file that are unpacked
RATIO = 100  # times the size of a file that it may unpack to, if that is more than
SMALL = 1 << 26  # bytes
JSON = 1 << 26  # bytes of a JSON text that are read
CODE = 1 << 22  # bytes of a TorchScript source that are read
MEMORY = 1 << 28  # bytes that unpacking xz may take besides its output
PARTS = 100_000  # parts of one file that are looked into
DEPTH = 6  # archives in archives
PICKLED = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".sav")  # loaded as pickles, whatever they are
BLOCK = 4096  # bytes that tell whether numbers only look packed; readers unpack more at a time
HEAD = 1 << 16  # bytes that tell whether a file is text
PACKED = {
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"ZF": "an old compression of joblib's",
}
NATIVE = {b"\x7fELF": "ELF", b"MZ": "Windows", b"\xcf\xfa\xed\xfe": "macOS", b"\xca\xfe\xba\xbe": "macOS or Java"}


class Found(NamedTuple):
    """A finding and the part of the file that it is in."""

    part: str
    standing: Standing
    what: str


class Look(NamedTuple):
    """What looking into one file gave.

    Attributes:
        format: What it is, in words.
        size: Bytes.
        parts: Parts looked into, the file itself among them.
        pickles: Pickles that end properly.
        known: Different imports that are known as harmless.
        found: All else.
    """

    format: str
    size: int
    parts: int
    pickles: int
    known: int
    found: tuple[Found, ...]


def look_into(path: Path, *, most: int = UNPACKED) -> Look:
    """Look into a file.

    Args:
        path: The file.
        most: Bytes that are unpacked at most.

    Returns:
        Its format and findings.

    Raises:
        OSError: It cannot be opened.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if not size:
            return Look("empty", 0, 1, 0, 0, (Found("", Standing.UNREADABLE, "it is empty"),))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return look_at(data, path.name, most=most)


def look_at(data: Bytes, name: str, *, most: int = UNPACKED) -> Look:
    """Look at the contents of a file of that name; see `look_into`."""
    looker = _Looker(name, min(most, max(SMALL, RATIO * len(data))))
    kind = looker.look(data, "", 0)
    found = tuple(looker.found)
    return Look(kind, len(data), looker.parts, looker.pickles, len(looker.known), found)


class _Looker:
    """Looks into one file and all its parts."""

    def __init__(self, name: str, most: int) -> None:
        self.parts = 0
        self.pickles = 0
        self.known: set[str] = set()
        self.found: dict[Found, None] = {}
        self._name = name.lower()
        self._left = most

    def look(self, data: Bytes, part: str, depth: int, *, storage: bool = False) -> str:
        """Look at a file or a part of one.

        Args:
            data: Its contents.
            part: Its name within the file.
            depth: How many archives it lies in.
            storage: Whether it is one of those numbers without any header that torch keeps in its archives.

        Returns:
            Its format in words.
        """
        self.parts += 1
        if self.parts > PARTS or depth > DEPTH:
            return self._unreadable(part, "there are too many parts in parts")
        head = data[:16]
        kind = None if storage and _only_looks_packed(data[:BLOCK]) else self._by_head(head, data, part, depth)
        behind = not storage and head[:2] != b"PK" and ends_as_zip(data)
        if kind is None and (storage or behind):
            self._suspect(data, part)
            kind = "numbers" if storage else "bytes"
        elif kind is None:
            kind = self._by_content(data, part, depth)
        if behind:
            self._trying("zip archive", _Looker._zip, data, part, depth)
            kind += ", with a zip archive behind"
        return kind

    def _by_head(self, head: bytes, data: Bytes, part: str, depth: int) -> str | None:
        if not head:
            return "empty"
        if starts_like_pickle(head):
            return self._pickle(data, part, depth)
        if like_safetensors(data):
            return self._trying("safetensors", _format(safetensors), data, part, depth)
        for start, (kind, act) in _HEADS.items():
            if head.startswith(start):
                return self._trying(kind, act, data, part, depth)
        if bytes(data[257:262]) == b"ustar":
            return self._trying("tar archive", _Looker._tar, data, part, depth)
        return None

    def _trying(self, kind: str, act: Callable[..., None], data: Bytes, part: str, depth: int) -> str:
        try:
            act(self, data, part, depth)
        except (FormatError, *UNFIT) as fault:
            self._unreadable(part, f"{kind}: {fault}")
        return kind

    def _by_content(self, data: Bytes, part: str, depth: int) -> str:
        """Formats that do not announce themselves, pickles of the first protocols among them."""
        name = part.lower() or self._name
        if name.endswith(PICKLED):
            return self._pickle(data, part, depth)
        followed = follow(data)
        if (followed.pickles and followed.end >= len(data) - 1) or _dangerous_among(followed):
            self._report(followed, part)
            return "pickle"
        if _is_text(data[:HEAD]):
            return self._text(data, part)
        if starts_like_ubjson(data):
            return self._trying("UBJSON", _format(ubjson), data, part, depth)
        if name.endswith(".pb"):
            self._add(part, tensorflow(data))
            return "TensorFlow graph"
        try:
            self._add(part, onnx(data))
        except FormatError as fault:
            if name.endswith(".onnx"):
                return self._unreadable(part, f"ONNX: {fault}")
            return self._unreadable(part, "its format is not known")
        return "ONNX"

    def _text(self, data: Bytes, part: str) -> str:
        if data[:1] not in {b"{", b"["}:
            return "text"
        if len(data) > JSON and all(data.find(sign, 0) < 0 for sign in (b"class_name", b"__class__", b"\\u")):
            return "JSON"  # trees or tables, for instance, that name no class
        if len(data) > JSON:
            return self._unreadable(part, "JSON: it is larger than what is read here")
        try:
            self._add(part, configuration(data[:]))
        except FormatError:
            return "text"
        return "JSON"

    # findings

    def _add(self, part: str, findings: list[Finding]) -> None:
        self.found |= {Found(part, one.standing, one.what): None for one in findings}

    def _unreadable(self, part: str, why: str) -> str:
        self.found[Found(part, Standing.UNREADABLE, why)] = None
        return "unknown"

    def _pickle(self, data: Bytes, part: str, depth: int) -> str:
        followed = follow(data)
        self._report(followed, part)
        for number, blob in enumerate(followed.nested, start=1):
            inner = f"{part} bytes {number}".strip()
            if starts_like_pickle(blob):
                self._suspect(blob, inner)
            else:
                self.look(blob, inner, depth + 1, storage=True)
        return "pickle"

    def _report(self, followed: Followed, part: str) -> None:
        self.pickles += followed.pickles
        for one in followed.imports:
            known = Standing.DANGEROUS if one.is_computed else standing(*one)
            if known is Standing.KNOWN:
                self.known.add(str(one))
            else:
                self.found[Found(part, known, str(one))] = None
        for one in followed.otherwise:
            if standing(*one) is Standing.DANGEROUS:
                self.found[Found(part, Standing.DANGEROUS, f"{one} (if loaded by pickle instead of joblib)")] = None
        for fault in followed.faults:
            self._unreadable(part, f"pickle: {fault}")

    def _suspect(self, data: Bytes, part: str) -> None:
        """What may be numbers or text: only a whole pickle, or a dangerous import, is worth a word."""
        followed = follow(data)
        whole = followed.pickles and (starts_like_pickle(data[:2]) or followed.end == len(data))
        if (whole and followed.imports) or _dangerous_among(followed):
            self._report(followed, part)

    # archives

    def _zip(self, data: Bytes, part: str, depth: int) -> None:
        members, whole = zip_members(data)
        if not whole:
            self._unreadable(part, "zip archive: its directory cannot be read")
        torch = any(member.name.endswith(("data.pkl", "/version", "archive_format")) for member in members)
        for member in members:
            inner = f"{part}/{member.name}".lstrip("/")
            if member.is_hidden:
                self._unreadable(inner, "it is marked as encrypted")
            contents = self._member(member, inner)
            if contents is None:
                continue
            storage = torch and "data" in member.name.split("/")[:-1] and not member.name.endswith(_HEADED)
            self.look(contents, inner, depth + 1, storage=storage)
            if "/code/" in f"/{member.name}":
                self._add(inner, torchscript(contents[:CODE]))

    def _member(self, member: Member, part: str) -> Bytes | None:
        if member.method == zipfile.ZIP_STORED:
            return member.packed
        if member.method != zipfile.ZIP_DEFLATED:
            self._unreadable(part, f"zip archive: it is packed by method {member.method}, which is not unpacked here")
            return None
        return self._unpack(member.packed, part, lambda: zlib.decompressobj(-zlib.MAX_WBITS))

    def _tar(self, data: Bytes, part: str, depth: int) -> None:
        for member in tar_members(data):
            if isinstance(member, str):
                self._unreadable(f"{part}/{member}".lstrip("/"), "tar archive: it is a link or a device")
            else:
                self.look(member.packed, f"{part}/{member.name}".lstrip("/"), depth + 1)

    def _packed(self, data: Bytes, part: str, depth: int, make: Callable[[], Any]) -> None:
        contents = self._unpack(data, part, make)
        if contents is not None:
            self.look(contents, part, depth + 1)

    def _unpack(self, packed: Bytes, part: str, make: Callable[[], Any]) -> bytes | None:
        """The contents; None, and a finding, where there are none."""
        made = io.BytesIO()
        try:
            for piece in unpacked(packed, make, self._left):
                made.write(piece)
                self._left -= len(piece)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as fault:
            self._unreadable(part, f"it cannot be unpacked: {fault}")
        if self._left <= 0:
            self._unreadable(part, "it is larger than what is unpacked here")
        return made.getvalue() or None

    # arrays

    def _array(self, data: Bytes, part: str, depth: int) -> None:
        """A numpy array: of objects it is a pickle behind a header."""
        start = 10 if data[6:7] == b"\x01" else 12
        size = int.from_bytes(data[8:start], "little")
        if size > HEAD or start + size > len(data):
            raise FormatError("its header is longer than any header of an array is")
        try:
            header = ast.literal_eval(data[start : start + size].decode("latin-1").strip())
            kind = header["descr"]
        except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as fault:
            raise FormatError("its header cannot be read") from fault
        if "O" in re.sub(r"'[^']*'\s*,\s*(?=['\[(])", "", repr(kind)):  # without the names of fields
            self._report(follow(data, start + size), part)
        else:
            self._suspect(View(data, start + size, len(data) - start - size), part)


_HEADED = (".pkl", ".pt", ".json", ".npy", ".so")


def _dangerous_among(followed: Followed) -> bool:
    return any(one.is_computed is False and standing(*one) is Standing.DANGEROUS for one in followed.imports)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as fault:
        if fault.start < len(head) - 4:
            return False
        text = head[: fault.start].decode("utf-8")
    return not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text)


def _format(read: Callable[[Bytes], list[Finding]]) -> Callable[[_Looker, Bytes, str, int], None]:
    return lambda looker, data, part, depth: looker._add(part, read(data))


def _packing(make: Callable[[], Any]) -> Callable[[_Looker, Bytes, str, int], None]:
    return lambda looker, data, part, depth: looker._packed(data, part, depth, make)


def _refusing(standing: Standing, what: str) -> Callable[[_Looker, Bytes, str, int], None]:
    return lambda looker, data, part, depth: looker._add(part, [Finding(standing, what)])


def _unxz() -> Any:
    return lzma.LZMADecompressor(memlimit=MEMORY)  # the file says how much it takes


def _inflating() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip, as its head says


def _only_looks_packed(data: bytes) -> bool:
    """Whether numbers begin like a zlib stream by chance: no reader gets anything out of their first block."""
    if not data.startswith((b"\x1f\x8b", *_ZLIB)):
        return False
    try:
        _inflating().decompress(data)
    except zlib.error:
        return True
    return False


_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
_HEADS: dict[bytes, tuple[str, Callable[[_Looker, Bytes, str, int], None]]] = {
    b"PK\x03\x04": ("zip archive", _Looker._zip),
    b"PK\x05\x06": ("zip archive", _Looker._zip),
    b"\x93NUMPY": ("numpy array", _Looker._array),
    b"\x89HDF\r\n\x1a\n": ("HDF5", _format(hdf5)),
    b"GGUF": ("GGUF", _format(gguf)),
    b"BZh": ("packed by bzip2", _packing(bz2.BZ2Decompressor)),
    b"\xfd7zXZ\x00": ("packed by xz", _packing(_unxz)),
    b"\x5d\x00\x00": ("packed by lzma", _packing(_unxz)),
    **dict.fromkeys((b"\x1f\x8b", *_ZLIB), ("packed by zlib", _packing(_inflating))),
    **{
        start: (
            f"packed as {name}",
            _refusing(Standing.UNREADABLE, f"it is packed as {name}, which is not unpacked here"),
        )
        for start, name in PACKED.items()
    },
    **{
        start: (f"native code ({name})", _refusing(Standing.UNKNOWN, f"native code ({name})"))
        for start, name in NATIVE.items()
    },
}
