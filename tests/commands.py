"""The command line run in this process, as `main` would be in its own; conftest's `run` tells what it printed too."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from assessor.cli import main


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


def ended(*arguments: object) -> int:
    """Exit code of a command."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0
