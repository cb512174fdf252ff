"""Values that are followed while a pickle is read: imports, what is made with them, numpy's types among those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

TEXT = 4096  # bytes of a string that is kept; no module or attribute is longer
COMPUTED = "(a name made while loading)"


class Import(NamedTuple):
    """A module and an attribute of it that a pickle names."""

    module: str
    name: str

    @property
    def is_computed(self) -> bool:
        """Whether the name is made while loading, and cannot be known without."""
        return COMPUTED in self

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """A value that is not followed."""


OPAQUE = Opaque()


@dataclass(eq=False)
class Made:
    """What calling something gives.

    Attributes:
        of: What was called.
        arguments: With which arguments.
        state: What it was given afterwards.
    """

    of: object
    arguments: object
    state: object = None

    @property
    def first(self) -> object:
        """First argument, if they are known and there is one."""
        return self.arguments[0] if isinstance(self.arguments, tuple) and self.arguments else None

    @property
    def is_array_wrapper(self) -> bool:
        """Whether joblib writes an array behind it."""
        called = self.first if isinstance(self.of, Import) and self.of.name == "_reconstructor" else self.of
        return (
            isinstance(called, Import) and called.name == "NumpyArrayWrapper" and "joblib" in called.module.split(".")
        )


def holds_objects(kind: object) -> bool:
    """Whether a numpy dtype, as pickled, is of Python objects or has fields that are."""
    todo, seen = [kind], set()
    while todo:
        one = todo.pop()
        if not isinstance(one, Made) or id(one) in seen:
            continue
        seen.add(id(one))
        if str(one.first).lstrip("|<>=").startswith("O"):
            return True
        state = one.state if isinstance(one.state, tuple) else ()
        fields = [entry for part in state if isinstance(part, dict) for entry in part.values()]
        todo += [entry[0] for entry in fields if isinstance(entry, tuple) and entry]
    return False


def item_size(kind: object) -> int | None:
    """Bytes of one item of a numpy dtype as pickled: its code is a letter and a number of bytes or, for U, letters."""
    match = re.fullmatch(r"[|<>=]?([a-zA-Z])(\d{1,9})", str(kind.first)) if isinstance(kind, Made) else None
    return int(match[2]) * (4 if match[1] == "U" else 1) if match else None


def decoded(argument: bytes) -> str:
    """Text as an unpickler reads it; what is no UTF-8 as escapes."""
    return argument[:TEXT].decode("utf-8", "backslashreplace")
