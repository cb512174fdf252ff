"""Optional packages: a loader asks for its own before it imports it."""

from __future__ import annotations

from importlib.util import find_spec

from assessor.errors import MissingExtra


def require(package: str, extra: str, what: str) -> None:
    """Make sure that an optional package is there.

    Args:
        package: Its name for import.
        extra: The extra of ours that brings it.
        what: What is asked for, as the start of the message.

    Raises:
        MissingExtra: It is not installed.
    """
    if find_spec(package) is None:
        raise MissingExtra(what, extra)
