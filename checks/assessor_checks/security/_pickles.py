"""What pickles import, read from their opcodes; nothing is ever unpickled."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from assessor_checks.security._pickle_machine import Bytes, Machine
from assessor_checks.security._pickle_values import Import

PICKLES = 10_000  # pickles in one stream that are followed
_START = re.compile(rb"\x80[\x02-\x05]")
_NAME = re.compile(r"[A-Za-z_][\w.]*")


@dataclass
class Followed:
    """What a stream of pickles holds.

    Attributes:
        imports: Every import once, in their order.
        otherwise: Further imports, if arrays in a file of joblib's are not arrays and it is loaded with pickle.
        nested: Bytes inside that look like pickles or archives themselves.
        faults: Why a part could not be followed; what comes before it is run all the same.
        pickles: How many end properly.
        end: Position behind the last of them.
    """

    imports: dict[Import, None] = field(default_factory=dict)
    otherwise: dict[Import, None] = field(default_factory=dict)
    nested: list[bytes] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    pickles: int = 0
    end: int = 0


def follow(data: Bytes, start: int = 0) -> Followed:
    """Follow the pickles that stand one after another from a position on.

    What comes after the last one may be anything, an array of numbers for instance. There an import counts only if its
    parts could be names, and a fault does not count.

    Args:
        data: The file.
        start: Where the first pickle begins.

    Returns:
        Imports, faults and where it ends.
    """
    found = Followed(end=start)
    while found.pickles < PICKLES and found.end < len(data):
        machine = Machine(data, found.end, arrays=True).run()
        likely = not found.pickles or machine.stopped or starts_like_pickle(data[found.end : found.end + 2])
        found.imports |= machine.imports if likely else _names_among(machine.imports)
        found.nested += machine.blobs if likely else []
        if not found.pickles or (machine.stopped and machine.imports):
            found.faults += machine.faults
        if machine.arrays:
            found.otherwise |= _names_among(Machine(data, found.end, arrays=False).run().imports)
        if not machine.stopped:
            break
        found.pickles, found.end = found.pickles + 1, machine.position
    found.otherwise = {one: None for one in found.otherwise if one not in found.imports}
    return found


def starts_like_pickle(head: bytes) -> bool:
    r"""Whether a file that begins so announces itself as a pickle; protocols 0 and 1 do not.

    >>> starts_like_pickle(b"\x80\x04"), starts_like_pickle(b"PK")
    (True, False)
    """
    return bool(_START.match(head))


def _names_among(imports: dict[Import, None]) -> dict[Import, None]:
    """Those whose parts could be names: among bytes that are no pickle others come up by chance."""
    return {one: None for one in imports if all(map(_NAME.fullmatch, one))}
