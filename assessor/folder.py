"""A folder whose every change is whole: written atomically under a lock, with a ledger line, recovered after a kill.

A change goes in three steps: new contents to `.assessor/pending/<sha256>`, one ledger line, renames into place.
Killed before the line the change never was; killed after it the next opening finishes it.

The lock is the system's own on `.assessor/lock`: it ends with the process that holds it, so a file left there locks
nothing. A file system that does not know such locks is refused, or where the library for locks can do it, locked by the
mere existence of that file, which the next process takes away when the one that made it is gone.
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
from assessor.files import write_whole

LEDGER = "ledger.jsonl"
LOCK_SECONDS = 30
RECORDING = "recording"  # in place of pending contents, where files are in place already
POINTERS = ("results/index.json", "answers/", "evidence.yaml")  # files that name others; they go into place last


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
            changes = {
                name: ledger.Change(before=self.digest(name), after=sha256_hex(content))
                for name, content in files.items()
            }
            line, entry = self._next_line(changes, actor=actor, action=action, because=because)
            _make_folder(self._pending)
            for content in files.values():
                _write_through(self._pending / sha256_hex(content), content)
            self._append(line)
            self._apply(entry)

    def record(self, changes: Mapping[str, ledger.Change], *, actor: str, action: str, because: str) -> None:
        """Write the ledger line of changes that are in place already.

        Args:
            changes: Digests by relative path.
            actor: Who.
            action: What.
            because: Why.
        """
        with self.lock():
            line, _ = self._next_line(changes, actor=actor, action=action, because=because)
            _make_folder(self._pending)
            _write_through(self._pending / RECORDING, b"")
            self._append(line)
            (self._pending / RECORDING).unlink()

    def _next_line(
        self, changes: Mapping[str, ledger.Change], *, actor: str, action: str, because: str
    ) -> tuple[bytes, ledger.Entry]:
        return ledger.append(self.ledger_bytes(), actor=actor, action=action, because=because, files=changes)

    def _append(self, line: bytes) -> None:
        """Write a line to the end of the ledger; it is on the disk when this returns."""
        with (self.folder / LEDGER).open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(self.folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing; nested use is free. Finishes first what a killed process left.

        Raises:
            UsageError: Another process keeps it for too long, or nothing can be locked here.
        """
        try:
            _make_folder(self._lock_folder)
            self._lock.acquire()
        except Timeout as fault:
            raise UsageError(
                f"{self.folder}: another assessor process has been writing for {LOCK_SECONDS} s; wait for it or "
                f"end it, or where none is running remove {self._lock.lock_file}"
            ) from fault
        except (OSError, NotImplementedError) as fault:
            raise UsageError(
                f"{self.folder}: cannot lock the folder for writing: {fault}; keep it where you may write, on a file "
                "system that has locks, such as a disk of this machine"
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
        if entry := ledger.last(content):
            self._apply(entry)
        for path in self._pending.glob("*"):
            path.unlink()

    def _apply(self, entry: ledger.Entry) -> None:
        """Move pending contents to where the ledger line says; files with one content share it.

        What points at other files goes last, so that a reader never finds a pointer to nothing.
        """
        for name, change in sorted(entry.files.items(), key=lambda item: item[0].startswith(POINTERS)):
            source = self._pending / str(change.after)
            target = self.folder / name
            if not source.is_file() or self.digest(name) == change.after:
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

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file as it is now; None where there is none."""
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
    write_whole(path, content)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
