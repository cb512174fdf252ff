"""What verification says: one thing that was looked at, and what was found, in a sentence."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "failed", "unknown", "withheld"]
"""`unknown` is what cannot be checked here, `withheld` what the checked file names and does not hold."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: Status
    sentence: str
