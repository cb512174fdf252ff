"""UBJSON (ubjson.org, draft 12), as XGBoost writes it: data alone, if it is well formed to its last byte."""

from __future__ import annotations

from assessor_checks.security._model_formats import Finding, FormatError
from assessor_checks.security._pickle_machine import Bytes

WHOLE = {0x69: 1, 0x55: 1, 0x49: 2, 0x6C: 4, 0x4C: 8}  # i U I l L: bytes of a whole number
SIZES = {**WHOLE, 0x64: 4, 0x44: 8, 0x43: 1, 0x54: 0, 0x46: 0, 0x5A: 0, 0x4E: 0}  # and of d D C T F Z N
TEXTS = (0x53, 0x48)  # S H: a text, a number written as text
DEPTH = 64  # objects and lists in each other


def starts_like_ubjson(data: Bytes) -> bool:
    """Whether it begins with an object and the length of a name."""
    head = bytes(data[:3])
    return len(head) == 3 and head[:1] == b"{" and head[1] in WHOLE and head[2] == 0


def ubjson(data: Bytes) -> list[Finding]:
    """Nothing, when it is well formed: the format has no code and names none.

    Raises:
        FormatError: It is not.
    """
    end = _Reader(data).value(0, 0)
    if end != len(data):
        raise FormatError(f"{len(data) - end} bytes follow its end")
    return []


class _Reader:
    """Finds where values end."""

    def __init__(self, data: Bytes) -> None:
        self._data = data

    def value(self, place: int, depth: int) -> int:
        """Where the value that begins with its type ends."""
        return self._content(self._byte(place), place + 1, depth)

    def _content(self, kind: int, place: int, depth: int) -> int:
        if kind in SIZES:
            return self._within(place + SIZES[kind])
        if kind in TEXTS:
            return self._text(place)
        if kind not in b"{[":
            raise FormatError(f"it has a value of the unknown type {kind:#04x} at byte {place - 1}")
        if depth >= DEPTH:
            raise FormatError(f"it is deeper than {DEPTH}")
        return self._container(kind == 0x7B, place, depth + 1)

    def _container(self, named: bool, place: int, depth: int) -> int:
        kind = count = None
        if self._byte(place) == 0x24:  # $: all values have this type
            kind, place = self._byte(place + 1), place + 2
        if self._byte(place) == 0x23:  # #: so many values
            count, place = self._whole(place + 1)
        if kind is not None and count is None:
            raise FormatError(f"it has a typed list without a count at byte {place}")
        if kind in SIZES and count is not None and not named:
            return self._within(place + SIZES[kind] * count)
        done = 0
        while count is None or done < count:
            if count is None and self._byte(place) in b"}]":
                if (self._byte(place) == 0x7D) is not named:
                    break
                return place + 1
            place = self._text(place) if named else place
            place = self.value(place, depth) if kind is None else self._content(kind, place, depth)
            done += 1
        if count is None:
            raise FormatError(f"it closes what is not open at byte {place}")
        return place

    def _text(self, place: int) -> int:
        length, place = self._whole(place)
        return self._within(place + length)

    def _whole(self, place: int) -> tuple[int, int]:
        """A length, and where it ends."""
        kind = self._byte(place)
        if kind not in WHOLE:
            raise FormatError(f"it has no length at byte {place}")
        end = self._within(place + 1 + WHOLE[kind])
        length = int.from_bytes(self._data[place + 1 : end], "big", signed=kind != 0x55)
        if length < 0:
            raise FormatError(f"it has a length below 0 at byte {place}")
        return length, end

    def _byte(self, place: int) -> int:
        found = self._data[place : place + 1]
        if not found:
            raise FormatError("it ends too early")
        return int(found[0])

    def _within(self, end: int) -> int:
        if end > len(self._data):
            raise FormatError("it ends too early")
        return end
