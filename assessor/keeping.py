"""Parts of long measurements that are kept, so that a killed run goes on where it stopped.

They lie in `.assessor/kept/`, which is no part of the assessment: deleting it costs time and nothing else.
A file is the digest of its value on one line and the value as JSON on the next, so that a spoiled one is no value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Lent
from assessor.files import write_whole


class Store(Protocol):
    """Where parts lie, by name."""

    def read(self, name: str) -> bytes | None:
        """Its content, or None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Keep a content; what was there under this name is gone."""
        ...


@dataclass(frozen=True)
class Folder:
    """Parts as files of a folder, which need not exist."""

    path: Path

    def read(self, name: str) -> bytes | None:
        """Content of a file."""
        try:
            return (self.path / name).read_bytes()
        except OSError:  # not there
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / name, content)


def lent_by(folder: Path, scope: JsonValue, progress: Callable[[str, int, int], None], *, fresh: bool = False) -> Lent:
    """What a measurement is lent: a display, and a store in a folder; see `lent_from`."""
    return lent_from(Folder(folder), scope, progress, fresh=fresh)


def lent_from(
    store: Store, scope: JsonValue, progress: Callable[[str, int, int], None], *, fresh: bool = False
) -> Lent:
    """What a measurement is lent: a display, and a store.

    Args:
        store: Where values are kept, one a name.
        scope: What every key of this measurement depends on: check, code, model, data.
        progress: The display.
        fresh: Whether to find nothing that an earlier run has kept.

    Returns:
        Both.
    """
    made: set[str] = set()

    def name_of(key: JsonValue) -> str:
        return f"{sha256_hex(canonical_json([scope, key]))}.json"

    def find(key: JsonValue) -> JsonValue:
        name = name_of(key)
        content = None if fresh and name not in made else store.read(name)
        if content is None:
            return None
        digest, _, text = content.partition(b"\n")
        if sha256_hex(text).encode() != digest:  # spoiled: it is computed again
            return None
        found: JsonValue = json.loads(text)
        return found

    def keep(key: JsonValue, value: JsonValue) -> None:
        text = json.dumps(value).encode()  # not canonical JSON, in which 1.0 is 1 and comes back as another type
        store.write(name_of(key), sha256_hex(text).encode() + b"\n" + text)
        made.add(name_of(key))

    return Lent(progress=progress, find=find, keep=keep)
