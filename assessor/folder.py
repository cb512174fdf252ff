"""A folder whose every change is whole: written atomically under a lock, with a ledger line, recovered after a kill.

A change goes in three steps: new contents to `.assessor/pending/<sha256>`, one ledger line, renames into place.
Killed before the line the change never was; killed after it the next opening finishes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from assessor import ledger
from assessor.canonical import sha256_hex
from assessor.errors import UsageError

LEDGER = "ledger.jsonl"
LOCK_SECONDS = 30
POINTERS = ("results/index.json", "answers/")  # files that name others; they go into place last


class Folder:
    """Reads and writes bytes by relative path; knows nothing of what they mean."""

    def __init__(self, folder: Path) -> None:
        """Finish what a killed process left.

        Args:
            folder: The folder; need not exist yet.
        """
        self.folder = folder
        self._lock = FileLock(folder / ".assessor" / "lock", timeout=LOCK_SECONDS)
        if any(self._pending.glob("*")):
            with self.lock():
                pass

    def ledger_bytes(self) -> bytes:
        """Content of the ledger; empty when there is none yet."""
        path = self.folder / LEDGER
        return path.read_bytes() if path.is_file() else b""

    def commit(self, files: Mapping[str, bytes], *, actor: str, action: str, because: str = "") -> None:
        """Write files and their ledger line, all or nothing.

        Args:
            files: New contents by relative path.
            actor: Who.
            action: What.
            because: Why.
        """
        with self.lock():
            before = {name: self._digest(name) for name in files}
            changes = {
                name: ledger.Change(before=before[name], after=sha256_hex(content)) for name, content in files.items()
            }
            _make_folder(self._pending)
            for content in files.values():
                _write_through(self._pending / sha256_hex(content), content)
            line, entry = ledger.append(self.ledger_bytes(), actor=actor, action=action, because=because, files=changes)
            with (self.folder / LEDGER).open("ab") as stream:
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            _sync_folder(self.folder)
            self._apply(entry)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing; nested use is free. Finishes first what a killed process left.

        Raises:
            UsageError: Another process keeps it for too long.
        """
        _make_folder(self._lock_folder)
        try:
            self._lock.acquire()
        except Timeout as fault:
            raise UsageError(
                f"{self.folder}: another assessor process has been writing for {LOCK_SECONDS} s"
            ) from fault
        try:
            if self._lock.lock_counter == 1:
                self._recover()
            yield
        finally:
            self._lock.release()

    @property
    def _lock_folder(self) -> Path:
        return self.folder / ".assessor"

    @property
    def _pending(self) -> Path:
        return self.folder / ".assessor" / "pending"

    def _recover(self) -> None:
        """Cut off a half-written ledger line, finish the last change, throw away what never became one.

        Without pending contents no change was under way: a ledger that is cut off all the same was tampered with, and
        is left for verify to tell.
        """
        if not any(self._pending.glob("*")):
            return
        content = self.ledger_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(self.folder / LEDGER, content.rfind(b"\n") + 1)
            content = self.ledger_bytes()
        if content:
            self._apply(ledger.Entry.model_validate_json(content.rstrip(b"\n").rsplit(b"\n", 1)[-1]))
        for path in self._pending.glob("*"):
            path.unlink()

    def _apply(self, entry: ledger.Entry) -> None:
        """Move pending contents to where the ledger line says; files with one content share it.

        What points at other files goes last, so that a reader never finds a pointer to nothing.
        """
        for name, change in sorted(entry.files.items(), key=lambda item: item[0].startswith(POINTERS)):
            source = self._pending / str(change.after)
            target = self.folder / name
            if not source.is_file() or self._digest(name) == change.after:
                continue
            _make_folder(target.parent)
            shared = sum(other.after == change.after for other in entry.files.values()) > 1
            if shared:
                temporary = source.with_name(source.name + ".copy")
                _write_through(temporary, source.read_bytes())
                source = temporary
            source.replace(target)
            _sync_folder(target.parent)
        for change in entry.files.values():
            (self._pending / str(change.after)).unlink(missing_ok=True)

    def _digest(self, name: str) -> str | None:
        path = self.folder / name
        return sha256_hex(path.read_bytes()) if path.is_file() else None


def _make_folder(folder: Path) -> None:
    """The folder with its parents, on the disk when this returns."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _write_through(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or not there, and on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
