"""The hash chain over everything that changed an assessment: one canonical JSON line a change.

Each line carries the hash of the line before and its own, the SHA-256 of the line without its `hash` member.
The chain shows that no line in the middle was changed or taken out. Alone it does not show that its author did not
write it anew, nor that lines are missing at its end: for that its head must be held by somebody else, as every
signed report does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, ValidationError

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Frozen
from assessor.errors import IntegrityError
from assessor.model import Sha256

START = "0" * 64
CUT_OFF = "ledger.jsonl: the last line is cut off; see  assessor verify"
_OWN_HASH = re.compile(rb'"hash":"([0-9a-f]{64})",')


def _inside(name: str) -> str:
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise ValueError(f"found '{name}', wanted a path inside the folder")
    return name


RelativePath = Annotated[str, AfterValidator(_inside)]


class Change(Frozen):
    """Digest of one file before and after; None where there was or is no file."""

    before: Sha256 | None
    after: Sha256 | None


class Entry(Frozen):
    """One line of the ledger."""

    seq: int
    time: datetime
    actor: str
    action: str
    because: str
    files: Mapping[RelativePath, Change]
    previous: Sha256
    hash: Sha256


def append(
    ledger: bytes, *, actor: str, action: str, because: str, files: Mapping[str, Change], now: datetime | None = None
) -> tuple[bytes, Entry]:
    """The next line.

    Args:
        ledger: All lines so far; only the last one is read.
        actor: Who makes the change.
        action: What is done, such as "check run".
        because: Reason, may be empty.
        files: Changed files by path relative to the folder.
        now: Time of the change; default the clock's.

    Returns:
        The line with its line feed, and its entry.

    Raises:
        IntegrityError: The last line is not readable.
    """
    seq, previous = 0, START
    if ledger and not ledger.endswith(b"\n"):
        raise IntegrityError(CUT_OFF)
    if ledger:
        last = _entry(ledger.rstrip(b"\n").rsplit(b"\n", 1)[-1], "last line")
        seq, previous = last.seq + 1, last.hash
    body = {
        "seq": seq,
        "time": (now or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "actor": actor,
        "action": action,
        "because": because,
        "files": {name: change.model_dump() for name, change in files.items()},
        "previous": previous,
    }
    line = canonical_json({**body, "hash": sha256_hex(canonical_json(body))})
    return line + b"\n", _entry(line, "new line")


def entries(ledger: bytes) -> Iterator[Entry]:
    """Every line, checked against its hash and the line before.

    Args:
        ledger: Content of ledger.jsonl.

    Yields:
        The entries in order.

    Raises:
        IntegrityError: A line is not readable, was changed, or does not follow the one before.
    """
    previous = START
    for number, line in enumerate(ledger.split(b"\n")[:-1]):
        where = f"ledger.jsonl:{number + 1}"
        entry = _entry(line, where)
        if sha256_hex(_OWN_HASH.sub(b"", line, count=1)) != entry.hash:
            raise IntegrityError(f"{where}: this line was changed: its content does not have the hash it states")
        if entry.previous != previous or entry.seq != number:
            raise IntegrityError(f"{where}: this line does not follow the one before: lines were removed or reordered")
        previous = entry.hash
        yield entry
    if not ledger.endswith(b"\n") and ledger:
        raise IntegrityError(CUT_OFF)


def head(ledger: bytes) -> str:
    """Hash of the last line; zeros for an empty ledger."""
    if not ledger:
        return START
    return _entry(ledger.rstrip(b"\n").rsplit(b"\n", 1)[-1], "last line").hash


def expected_files(ledger: bytes) -> dict[str, str | None]:
    """Digest every recorded file should have now; None for files that were removed.

    Raises:
        IntegrityError: The chain does not hold.
    """
    digests: dict[str, str | None] = {}
    for entry in entries(ledger):
        for name, change in entry.files.items():
            digests[name] = change.after
    return digests


def _entry(line: bytes, where: str) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValidationError as fault:
        raise IntegrityError(f"{where}: not readable as a ledger line: {fault.errors()[0]['msg']}") from fault
