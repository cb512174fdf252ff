"""Parts of long measurements that are kept, so that a killed run goes on where it stopped.

They lie in `.assessor/kept/`, which is no part of the assessment: deleting it costs time and nothing else.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import JsonValue

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Lent


def lent_by(folder: Path, scope: JsonValue, progress: Callable[[str, int, int], None]) -> Lent:
    """What a measurement is lent: a display, and a store in a folder.

    Args:
        folder: Where values are kept, one file each; need not exist.
        scope: What every key of this measurement depends on: check, code, model, data.
        progress: The display.

    Returns:
        Both.
    """

    def path_of(key: JsonValue) -> Path:
        return folder / f"{sha256_hex(canonical_json([scope, key]))}.json"

    def find(key: JsonValue) -> JsonValue:
        try:
            found: JsonValue = json.loads(path_of(key).read_bytes())
        except (OSError, ValueError):  # not there, or spoiled: it is computed again
            return None
        return found

    def keep(key: JsonValue, value: JsonValue) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as stream:
            stream.write(canonical_json(value))
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path_of(key))

    return Lent(progress=progress, find=find, keep=keep)
