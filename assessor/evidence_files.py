"""People's files as evidence: only what is a plain file of a fit name and size, read once and never unpacked."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from assessor.errors import UsageError
from assessor.messages import _

LARGEST = 50_000_000
"""Bytes of a file that is copied into the folder: an assessment is meant to live in a git repository."""
LONGEST_NAME = 200  # bytes; file systems take 255, and temporary names are longer than the name itself
PART = 1 << 20
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories of what a screen cannot show or would obey."""


class Measured(NamedTuple):
    """What is known of a file without keeping its content."""

    sha256: str
    size: int


def read_plain(path: Path, shown: str) -> bytes:
    """Content of a file that is to be kept.

    Args:
        path: The file.
        shown: How messages call it.

    Returns:
        Its bytes.

    Raises:
        UsageError: It cannot be read, is no plain file, is too large, or its name is not fit to be kept.
    """
    refuse_name(path, shown)
    with _opened(path, shown) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(LARGEST + 1) if size <= LARGEST else b""
    if size > LARGEST or len(content) > LARGEST:
        raise UsageError(
            _(
                "{shown}: found {n} MB, wanted at most {most} MB; leave it where it is and add it by its address: "
                "--reference URI",
                shown=shown,
                n=max(size, LARGEST + 1) // 1_000_000,
                most=LARGEST // 1_000_000,
            )
        )
    return content


def measured(path: Path, shown: str) -> Measured:
    """Digest and size of a file of any size, read in parts.

    Args:
        path: The file.
        shown: How messages call it.

    Returns:
        Both.

    Raises:
        UsageError: It cannot be read or is no plain file.
    """
    digest, size = hashlib.sha256(), 0
    with _opened(path, shown) as stream:
        while part := stream.read(PART):
            digest.update(part)
            size += len(part)
    return Measured(digest.hexdigest(), size)


def refuse_name(path: Path, shown: str) -> None:
    """Refuse a name that would hide the file, lead elsewhere or play with a screen.

    Args:
        path: The file.
        shown: How messages call it.

    Raises:
        UsageError: The name is not fit to be kept.
    """
    name = path.name
    if name.startswith("."):
        fault = _("found a name that begins with a dot")
    elif name != name.strip() or "\\" in name or any(unicodedata.category(sign) in UNSEEN for sign in name):
        fault = _("found a name with signs that cannot be seen or stand for folders")
    elif len(os.fsencode(name)) > LONGEST_NAME:
        fault = _("found a name of more than {n} bytes", n=LONGEST_NAME)
    else:
        return
    raise UsageError(_("{shown}: {fault}; rename the file", shown=repr(shown)[1:-1], fault=fault))


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[BinaryIO]:
    """The file itself: no link is followed, and nothing is waited for, as at the end of a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        if fault.errno == errno.ELOOP:
            raise UsageError(_("{shown}: found a link, wanted the file it leads to", shown=shown)) from fault
        raise UsageError(_("{shown}: cannot read it: {fault}", shown=shown, fault=fault.strerror)) from fault
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(_("{shown}: found a folder, device or pipe, wanted a file", shown=shown))
    with os.fdopen(handle, "rb") as stream:
        yield stream
