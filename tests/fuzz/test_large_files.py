"""No file of a stranger's of up to 1 MB takes more than 2 seconds or 300 MB, or anything but a value or words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.large import LARGE, SIZE

SECONDS, MEGABYTES = (
    10,
    300,
)  # a second or two usually, on a machine that others use too; hours where a step is quadratic
PACE = 0.13  # what `large.pace` gives on an idle core; where it takes longer, so may everything

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def taken() -> dict[tuple[str, str], dict[str, Any]]:
    """What each file took."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.fuzz.large"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {(one["name"], one["what"]): one for one in found}


@pytest.mark.parametrize(("name", "what"), LARGE, ids=map(" of ".join, LARGE))
def test_a_large_file_takes_little(taken: dict[tuple[str, str], dict[str, Any]], name: str, what: str) -> None:
    found = taken[name, what]
    assert found["size"] < 1.1 * SIZE
    assert not found["found"].startswith("fault"), found
    assert found["seconds"] < SECONDS * max(1, found["pace"] / PACE), found
    assert found["megabytes"] < MEGABYTES, found
