"""Installed checks, found through the entry point group `assessor.checks`; ours and a stranger's alike."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from assessor.contract import Check
from assessor.errors import UsageError, nearest

GROUP = "assessor.checks"


def load_checks(*, points: Iterable[EntryPoint] | None = None) -> dict[str, Check]:
    """All installed checks by id, sorted.

    Args:
        points: Where to look; default every installed entry point of the group.

    Returns:
        The checks.

    Raises:
        UsageError: An entry point cannot be loaded, offers no checks, or repeats an id: a lost check would be a
            false pass, so none is skipped.
    """
    found: dict[str, Check] = {}
    owner: dict[str, str] = {}
    offers = entry_points(group=GROUP) if points is None else points
    for point in sorted(offers, key=lambda point: point.name):
        for check in _offered(point):
            if check.id in found:
                raise UsageError(f"check '{check.id}' comes from both {owner[check.id]} and {_origin(point)}")
            found[check.id], owner[check.id] = check, _origin(point)
    return dict(sorted(found.items()))


def find_check(name: str, checks: dict[str, Check]) -> Check:
    """The check of that id.

    Args:
        name: Check id.
        checks: Installed checks.

    Returns:
        The check.

    Raises:
        UsageError: There is none.
    """
    if name not in checks:
        raise UsageError(f"no check '{name}'{nearest(name, checks)}; see  assessor check list")
    return checks[name]


def _offered(point: EntryPoint) -> tuple[Check, ...]:
    try:
        value = point.load()
    except (Exception, SystemExit) as fault:  # a plug-in may raise anything when imported
        raise UsageError(f"cannot load the checks of {_origin(point)}: {type(fault).__name__}: {fault}") from fault
    offered = (value,) if isinstance(value, Check) else tuple(value) if isinstance(value, Iterable) else ()
    if not offered or not all(isinstance(check, Check) for check in offered):
        raise UsageError(f"{_origin(point)} offers no checks: {GROUP} wants a Check or several, found {value!r}")
    return offered


def _origin(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "an unknown package"
    return f"{package} (entry point {point.name} = {point.value})"
