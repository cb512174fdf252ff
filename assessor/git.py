"""Asking the `git` program, without network and without starting any program of the repository's choosing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

GIT_SECONDS = 10.0
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
"""Variables that a git hook sets: with them git would look at the hook's repository instead of the named one."""
SETTINGS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never", "log.showSignature=false")


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, takes too long, or is missing."""
    printed = git_bytes(folder, *arguments)
    return None if printed is None else printed.decode("utf-8", "replace").strip()


def git_bytes(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, byte by byte; None where it fails, takes too long, or is missing."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C.UTF-8",
    }
    settings = [part for setting in SETTINGS for part in ("-c", setting)]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "--no-pager", "-C", str(folder), *settings, *arguments],  # noqa: S607 - the person's own git
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
