"""The hash chain over everything that changed an assessment: one canonical JSON line a change.

Each line carries the hash of the line before and its own, the SHA-256 of the line without its `hash` member.
The chain shows that no line in the middle was changed or taken out. Alone it does not show that its author did not
write it anew, nor that lines are missing at its end: for that its head must be held by somebody else, as every
signed report does. `docs/trust.md` says it at length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, PlainSerializer, ValidationError

from assessor import merkle
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Frozen
from assessor.errors import IntegrityError, UsageError
from assessor.model import Sha256

START = "0" * 64
CUT_OFF = "ledger.jsonl: the last line is cut off; see  assessor verify"
_OWN_HASH = re.compile(rb'"hash":"([0-9a-f]{64})",')


def _inside(name: str) -> str:
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise ValueError(f"found '{name}', wanted a path inside the folder")
    return name


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


RelativePath = Annotated[str, AfterValidator(_inside)]


class Change(Frozen):
    """Digest of one file before and after; None where there was or is no file."""

    after: Sha256 | None
    before: Sha256 | None


class Entry(Frozen):
    """One line of the ledger; members stand in the order they are written in, that of the alphabet."""

    action: str
    actor: str
    because: str
    files: Mapping[RelativePath, Change]
    hash: Sha256
    previous: Sha256
    seq: int
    time: Annotated[datetime, PlainSerializer(_stamp, when_used="json")]


class TreeHead(NamedTuple):
    """What stands for a whole ledger: whoever holds it elsewhere sees every later change to these lines.

    Attributes:
        size: Number of lines.
        root: Root of the Merkle tree of RFC 6962 over the lines, without their line feeds.
        head: Hash of the last line, zeros where there is none.
    """

    size: int
    root: str
    head: str


class Line(NamedTuple):
    """An entry with the files that were edited by hand before it and not recorded: it found them other than left."""

    entry: Entry
    edited: tuple[str, ...]


class Edit(NamedTuple):
    """A hand edit of a file that was not recorded before the tool wrote a line about the file."""

    line: int
    name: str


class History(NamedTuple):
    """What a ledger says of the files.

    Attributes:
        size: Number of lines.
        files: Digest every recorded file should have now; None for files that were removed.
        edits: Hand edits that nobody recorded.
    """

    size: int
    files: dict[str, str | None]
    edits: list[Edit]


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
        IntegrityError: The last line is cut off or not readable.
        UsageError: A text or a file's name has bytes that are no UTF-8.
    """
    for text in (actor, action, because, *files):
        _refuse_bytes(text)
    newest = last(ledger)
    body = {
        "seq": newest.seq + 1 if newest else 0,
        "time": _stamp(now or datetime.now(UTC)),
        "actor": actor,
        "action": action,
        "because": because,
        "files": {name: change.model_dump() for name, change in files.items()},
        "previous": newest.hash if newest else START,
    }
    line = canonical_json({**body, "hash": sha256_hex(canonical_json(body))})
    return line + b"\n", _entry(line, "new line")


def _refuse_bytes(text: str) -> None:
    """What Python reads from the command line or a folder may hold bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise UsageError(f"{text!r}: found bytes that are no UTF-8, wanted text") from fault


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
        entry = read_line(line, where)
        if entry.previous != previous or entry.seq != number:
            raise IntegrityError(f"{where}: this line does not follow the one before: lines were removed or reordered")
        previous = entry.hash
        yield entry
    if not ledger.endswith(b"\n") and ledger:
        raise IntegrityError(CUT_OFF)


def read_line(line: bytes, where: str) -> Entry:
    """One line, checked against its own hash.

    Args:
        line: Without its line feed.
        where: For the message.

    Returns:
        What it says.

    Raises:
        IntegrityError: It is not readable, not in canonical form, or was changed.
    """
    entry = _entry(line, where)
    if not _is_as_written(line, entry):
        raise IntegrityError(f"{where}: this line is not canonical JSON: it was changed by hand or by another tool")
    if sha256_hex(_OWN_HASH.sub(b"", line, count=1)) != entry.hash:
        raise IntegrityError(f"{where}: this line was changed: its content does not have the hash it states")
    return entry


def last(ledger: bytes) -> Entry | None:
    """The last line; None where there is none.

    Raises:
        IntegrityError: It is cut off or not readable.
    """
    if not ledger:
        return None
    if not ledger.endswith(b"\n"):
        raise IntegrityError(CUT_OFF)
    return _entry(ledger[ledger.rfind(b"\n", 0, -1) + 1 : -1], "last line")


def head(ledger: bytes) -> str:
    """Hash of the last line; zeros for an empty ledger.

    Raises:
        IntegrityError: The last line is cut off or not readable.
    """
    newest = last(ledger)
    return newest.hash if newest else START


def tree_head(ledger: bytes) -> TreeHead:
    """What stands for these lines; it does not check that they form a chain.

    Raises:
        IntegrityError: The last line is cut off or not readable.
    """
    leaves = ledger.split(b"\n")[:-1]
    return TreeHead(len(leaves), merkle.root(leaves).hex(), head(ledger))


def beginning(ledger: bytes, size: int) -> bytes | None:
    """The first `size` lines; None where there are fewer."""
    if not 0 <= size <= ledger.count(b"\n"):
        return None
    return ledger[: len(ledger) - len(ledger.split(b"\n", size)[-1])]


def lines(ledger: bytes, files: dict[str, str | None] | None = None) -> Iterator[Line]:
    """Every line, checked as `entries` does, with the hand edits that it tells of.

    Args:
        ledger: Content of ledger.jsonl.
        files: Filled with the digest of every file after the line.

    Yields:
        The lines in order.
    """
    now: dict[str, str | None] = {} if files is None else files
    for entry in entries(ledger):
        edited = tuple(name for name, change in entry.files.items() if _is_edited(now.get(name), change))
        now |= {name: change.after for name, change in entry.files.items()}
        yield Line(entry, edited)


def history(ledger: bytes) -> History:
    """What the ledger says of the files, after checking the chain.

    Raises:
        IntegrityError: The chain does not hold.
    """
    files: dict[str, str | None] = {}
    size, edits = 0, []
    for size, line in enumerate(lines(ledger, files), start=1):
        edits += [Edit(size, name) for name in line.edited]
    return History(size, files, edits)


def _is_edited(recorded: str | None, change: Change) -> bool:
    """Whether a line found a file other than left; one that was gone and is now as it was, was not edited."""
    return recorded != change.before and not (change.before is None and change.after == recorded)


def expected_files(ledger: bytes) -> dict[str, str | None]:
    """Digest every recorded file should have now; None for files that were removed.

    Raises:
        IntegrityError: The chain does not hold.
    """
    return history(ledger).files


def _is_as_written(line: bytes, entry: Entry) -> bool:
    """Whether a line is the only one (RFC 8785) that says what it says; faster than `canonical_json`."""
    names = [name.encode("utf-16-be") for name in entry.files]
    return names == sorted(names) and entry.model_dump_json().encode() == line


def _entry(line: bytes, where: str) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValidationError as fault:
        raise IntegrityError(f"{where}: not readable as a ledger line: {fault.errors()[0]['msg']}") from fault
