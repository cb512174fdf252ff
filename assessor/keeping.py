"""Parts of long measurements that are kept, so that a killed run goes on where it stopped.

They lie in `.assessor/kept/`, which is no part of the assessment: deleting it costs time and nothing else.
A file is the digest of its value on one line and the value as JSON on the next, so that a spoiled one is no value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import JsonValue

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Lent
from assessor.files import write_whole


def lent_by(folder: Path, scope: JsonValue, progress: Callable[[str, int, int], None], *, fresh: bool = False) -> Lent:
    """What a measurement is lent: a display, and a store in a folder.

    Args:
        folder: Where values are kept, one file each; need not exist.
        scope: What every key of this measurement depends on: check, code, model, data.
        progress: The display.
        fresh: Whether to find nothing that an earlier run has kept.

    Returns:
        Both.
    """
    made: set[Path] = set()

    def path_of(key: JsonValue) -> Path:
        return folder / f"{sha256_hex(canonical_json([scope, key]))}.json"

    def find(key: JsonValue) -> JsonValue:
        path = path_of(key)
        if fresh and path not in made:
            return None
        try:
            digest, _, text = path.read_bytes().partition(b"\n")
        except OSError:  # not there
            return None
        if sha256_hex(text).encode() != digest:  # spoiled: it is computed again
            return None
        found: JsonValue = json.loads(text)
        return found

    def keep(key: JsonValue, value: JsonValue) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(value).encode()  # not canonical JSON, in which 1.0 is 1 and comes back as another type
        write_whole(path_of(key), sha256_hex(text).encode() + b"\n" + text)
        made.add(path_of(key))

    return Lent(progress=progress, find=find, keep=keep)
