"""Logs of Inspect as `.eval`: zip archives whose `header.json` is a log without its samples.

Nothing but that part is unpacked, and no more of it than a file of JSON may have. It is packed by deflate or, in newer
logs, by Zstandard, for which pyarrow is needed.
"""

from __future__ import annotations

import io
import struct
import zlib
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from assessor.errors import MissingExtra, UsageError
from assessor.evidence_formats import inspect_log
from assessor.evidence_formats.reading import Reading
from assessor.messages import _
from assessor.prefill.json_text import json_object

HEADER = "header.json"
BEGUN = "_journal/start.json"  # all that a log has whose evaluation was never finished
ZSTANDARD = 93
MOST_PARTS = 50_000
LOCAL_HEAD = 30  # bytes in front of a part's name


def read(content: bytes, name: str, largest: int) -> Reading | None:
    """What a log says.

    Args:
        content: The file.
        name: How messages call it.
        largest: Bytes of its header when unpacked.

    Returns:
        Its scores; None for an archive, or another file, that is no log.

    Raises:
        UsageError: It is a log that is damaged, too large, or packed in a way that cannot be unpacked here.
    """
    if content.count(b"PK\x01\x02") > MOST_PARTS:  # before Python's reader makes an object of each
        raise UsageError(_("{name}: found more than {n} parts in the archive", name=name, n=MOST_PARTS))
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            parts = {part.filename: part for part in archive.infolist()}
    except (BadZipFile, NotImplementedError, ValueError, OSError, struct.error):
        return None
    part = parts.get(HEADER) or parts.get(BEGUN)
    if part is None:
        return None
    document = {"status": "started", **json_object(_unpacked(content, part, name, largest), f"{name}/{part.filename}")}
    return inspect_log.FORMAT.read(document, name) if inspect_log.FORMAT.recognises(document) else None


def _unpacked(content: bytes, part: ZipInfo, name: str, largest: int) -> bytes:
    """One part, checked against its checksum."""
    shown = f"{name}/{part.filename}"
    if part.file_size > largest:
        sizes = {"n": part.file_size // 1_000_000, "most": largest // 1_000_000}
        raise UsageError(_("{shown}: found {n} MB when unpacked, wanted at most {most} MB", shown=shown, **sizes))
    head = content[part.header_offset : part.header_offset + LOCAL_HEAD].ljust(LOCAL_HEAD, b"\0")
    start = part.header_offset + LOCAL_HEAD + sum(struct.unpack("<HH", head[26:]))
    try:
        found = _plain(content[start : start + part.compress_size], part, name)
    except (zlib.error, OSError) as fault:
        raise UsageError(_("{shown}: cannot be unpacked: {fault}", shown=shown, fault=fault)) from fault
    if zlib.crc32(found) != part.CRC:
        raise UsageError(_("{shown}: does not have the checksum that the archive gives", shown=shown))
    return found


def _plain(packed: bytes, part: ZipInfo, name: str) -> bytes:
    """What is packed, and no more of it than the archive says."""
    method = part.compress_type
    if method == ZIP_STORED:
        return packed
    if method == ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, max(part.file_size, 1))  # 0 would be no limit
    if method != ZSTANDARD:
        raise UsageError(_("{name}: found packing method {n}, wanted deflate or Zstandard", name=name, n=method))
    try:
        import pyarrow
    except ImportError as fault:
        raise MissingExtra(_("{name} is packed with Zstandard", name=name), "parquet") from fault
    with pyarrow.input_stream(pyarrow.BufferReader(packed), compression="zstd") as stream:
        return bytes(stream.read(part.file_size))
