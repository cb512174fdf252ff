"""Follows the opcodes of one pickle with a stack and a memo of what is known, without making anything.

Strings, numbers, tuples, dictionaries with text keys and imports are followed; any other value is opaque. Arguments are
taken by their length alone: what `pickletools` cannot decode, an unpickler may run.

Opcodes: `pickletools` in the standard library, PEP 307, PEP 3154, PEP 574; what they do: `pickle._Unpickler`. Arrays
between opcodes: joblib, `numpy_pickle.NumpyArrayWrapper.read_array`.
"""

from __future__ import annotations

import codecs
import pickletools
import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Protocol

from assessor_checks.security._pickle_values import (
    COMPUTED,
    OPAQUE,
    TEXT,
    Import,
    Made,
    decoded,
    holds_objects,
    item_size,
)

OPERATIONS = 50_000_000  # opcodes of one pickle that are followed
BLOB = 1 << 26  # bytes objects up to this size are kept, if they look like pickles
ITEMS = 64  # items of a tuple that is kept; no shape or state of an array is longer
LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_HEAD = re.compile(rb"\x80[\x02-\x05]|PK|\x1f\x8b|BZ|\xfd7|x[\x01\x5e\x9c\xda]")
_WRITTEN = (b"\xc2", b"\xc3", b"P", b"B", b"x", b"\x1f")  # first bytes of such a text, in UTF-8
UNDERFLOW = "it takes more from its stack than is there"


class Bytes(Protocol):
    """What can be sliced into bytes and searched: bytes or a memory map."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> bytes: ...

    def find(self, sub: bytes, start: int, /) -> int: ...


class _EndError(Exception):
    """The pickle cannot be followed any further."""


class Machine:
    """Follows one pickle.

    Attributes:
        position: Where it stands; after `run` behind the pickle.
        imports: Every import once, in their order.
        blobs: Bytes and old strings inside that look like pickles or archives themselves.
        faults: Why it could not be followed, or what an unpickler would refuse.
        arrays: How many arrays between the opcodes were stepped over.
        stopped: Whether the pickle ends properly.
    """

    def __init__(self, data: Bytes, position: int, *, arrays: bool) -> None:
        """Make it ready.

        Args:
            data: The file.
            position: Where the pickle begins.
            arrays: Whether to step over arrays as joblib does; pickle does not.
        """
        self.position = position
        self.imports: dict[Import, None] = {}
        self.blobs: list[bytes] = []
        self.faults: list[str] = []
        self.arrays = 0
        self.stopped = False
        self._data = data
        self._steps_over = arrays
        self._stack: list[object] = []
        self._below: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> Machine:
        """Follow the pickle to its end or to the first fault."""
        table, data = _table(), self._data
        try:
            for _ in range(OPERATIONS):
                code = data[self.position : self.position + 1]
                if not code:
                    raise _EndError("it ends without its last opcode")
                if code not in table:
                    raise _EndError(f"byte {self.position} is no opcode")
                size, act = table[code]
                self.position += 1
                act(self, self._argument(size))
                if self.stopped:
                    return self
            raise _EndError(f"it has more than {OPERATIONS} opcodes")
        except _EndError as fault:
            self._complain(str(fault))
        return self

    # reading

    def _argument(self, size: int) -> bytes:
        """The bytes of an opcode's argument, without a length in front."""
        if size == 0:
            return b""
        if size == pickletools.UP_TO_NEWLINE:
            return self._line()
        if size < 0:
            size = int.from_bytes(self._take(LENGTHS[size]), "little")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        start, self.position = self.position, self.position + size
        if self.position > len(self._data):
            raise _EndError("it ends in the middle of an argument")
        return self._data[start : self.position]

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self.position)
        if end < 0:
            raise _EndError("it ends in the middle of a line")
        start, self.position = self.position, end + 1
        return self._data[start:end]

    # stack and memo

    def _complain(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def pop(self) -> object:
        """Take the topmost value."""
        if self._stack:
            return self._stack.pop()
        self._complain(UNDERFLOW)
        return OPAQUE

    def replace(self, _: object) -> None:
        """Put an opaque value where others were taken."""
        self.push(OPAQUE)

    def top(self) -> object:
        """The topmost value."""
        return self._stack[-1] if self._stack else OPAQUE

    def mark(self) -> None:
        """Begin a new stack above this one."""
        self._below.append(self._stack)
        self._stack = []

    def pop_mark(self) -> list[object]:
        """Take all that lies above the last mark."""
        items = self._stack
        if not self._below:
            self._complain(UNDERFLOW)
        self._stack = self._below.pop() if self._below else []
        return items

    def pop_any(self) -> None:
        """Take the topmost value, or the mark where it is one."""
        if self._stack:
            self._stack.pop()
        else:
            self.pop_mark()

    def put(self, index: int | None) -> None:
        """Keep the topmost value in the memo, by default under the next number."""
        self._memo[len(self._memo) if index is None else index] = self.top()

    def get(self, index: int | None) -> None:
        """Put a kept value on the stack."""
        if index not in self._memo:
            self._complain("it takes from its memo what was never put there")
        self.push(OPAQUE if index is None else self._memo.get(index, OPAQUE))

    def stop(self) -> None:
        """End, with the topmost value as the result."""
        if not self._stack:
            raise _EndError("it ends with nothing made")
        self.stopped = True

    # values

    def text(self, argument: bytes) -> None:
        """A string; protocols before 3 write bytes as text that is encoded again on loading."""
        if argument[:1] in _WRITTEN:
            blob = argument.decode("utf-8", "replace").encode("latin-1", "replace")
            self.blobs += [blob] if may_hold_pickle(blob) else []
        self.push(decoded(argument) if len(argument) <= TEXT else OPAQUE)

    def quoted(self, argument: bytes) -> None:
        """A string in quotes, with escapes."""
        try:
            with warnings.catch_warnings(action="ignore"):  # about escapes that are none, which stay as they are
                unquoted: bytes = codecs.escape_decode(argument[1:-1])[0]
        except ValueError:
            unquoted = argument
        self.old_string(unquoted)

    def old_string(self, argument: bytes) -> None:
        """A string of Python 2, which may be text or bytes."""
        self.blobs += [argument] if may_hold_pickle(argument) else []
        self.text(argument)

    def blob(self, argument: bytes) -> None:
        """Bytes."""
        self.blobs += [argument] if may_hold_pickle(argument) else []
        self.push(OPAQUE)

    def tuple(self, items: list[object]) -> None:
        """A tuple of these, the last of them pushed last."""
        self.push(tuple(items) if len(items) <= ITEMS else OPAQUE)

    def set_items(self, items: list[object]) -> None:
        """Keys and values in turn, into the topmost dictionary."""
        into = self.top()
        if isinstance(into, dict):
            into |= {key: value for key, value in zip(items[::2], items[1::2], strict=False) if isinstance(key, str)}

    def dictionary(self) -> None:
        """A dictionary of what lies above the mark."""
        items = self.pop_mark()
        self.push({})
        self.set_items(items)

    # imports and what is made with them

    def imported(self, module: object, name: object) -> Import:
        """Note an import; gives it."""
        found = Import(
            module if isinstance(module, str) else COMPUTED,
            name if isinstance(name, str) else COMPUTED,
        )
        self.imports[found] = None
        return found

    def named(self, argument: bytes) -> Import:
        """The import whose module is the argument and whose name is the next line."""
        return self.imported(decoded(argument), decoded(self._line()))

    def from_stack(self) -> None:
        """The import whose module and name lie on the stack."""
        name, module = self.pop(), self.pop()
        self.push(self.imported(module, name))

    def call(self, keywords: object = None) -> None:
        """Call what lies under the arguments; keywords do not matter."""
        arguments, called = self.pop(), self.pop()
        self.push(Made(called, arguments))

    def call_first(self) -> None:
        """Call the first value above the mark with the others."""
        called, *arguments = self.pop_mark() or [OPAQUE]
        self.push(Made(called, tuple(arguments)))

    def build(self) -> None:
        """Give the state on the stack to the value under it; joblib reads an array here."""
        state, made = self.pop(), self.top()
        if isinstance(made, Made):
            made.state = state
            if self._steps_over and made.is_array_wrapper:
                self.arrays += 1
                self._step_over_array(state)

    def _step_over_array(self, state: object) -> None:
        """Step over an array that joblib wrote here.

        Raises:
            _EndError: Its size is not known, or the file ends before.
        """
        known = state if isinstance(state, dict) else {}
        shape, kind = known.get("shape"), known.get("dtype")
        if holds_objects(kind):
            self._follow_objects()
            return
        size = item_size(kind)
        if size is None or not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise _EndError("an array inside has no readable size")
        for length in shape:
            size *= length
        if known.get("numpy_array_alignment_bytes") is not None:
            self._take(int.from_bytes(self._take(1), "little"))
        self.position += size
        if self.position > len(self._data):
            raise _EndError("it ends in the middle of an array")

    def _follow_objects(self) -> None:
        """An array of objects is a pickle of its own, which joblib reads as pickle does."""
        inner = Machine(self._data, self.position, arrays=False).run()
        self.imports |= inner.imports
        self.blobs += inner.blobs
        self.faults += inner.faults
        self.position = inner.position
        if not inner.stopped:
            raise _EndError("an array of objects inside cannot be followed")


def may_hold_pickle(blob: bytes) -> bool:
    """Whether bytes look like a pickle or an archive."""
    return 4 < len(blob) <= BLOB and bool(_HEAD.match(blob))


# --- opcodes ---------------------------------------------------------------------------------------------------------

Action = Callable[[Machine, bytes], object]


def _unsigned(argument: bytes) -> int:
    return int.from_bytes(argument, "little")


def _signed(argument: bytes) -> object:
    return int.from_bytes(argument, "little", signed=True) if len(argument) <= 8 else OPAQUE


def _digits(argument: bytes) -> int | None:
    """A number in digits, as protocol 0 writes it."""
    return int(argument.strip().rstrip(b"L")) if re.fullmatch(rb"\s*-?\d{1,20}L?\s*", argument) else None


def _popped(machine: Machine, count: int) -> list[object]:
    return [machine.pop() for _ in range(count)][::-1]


_GROUPS: dict[str, Action] = {
    "PROTO FRAME READONLY_BUFFER": lambda machine, _: None,
    "FLOAT BINFLOAT EMPTY_LIST EMPTY_SET PERSID NEXT_BUFFER": lambda machine, _: machine.push(OPAQUE),
    "LIST FROZENSET": lambda machine, _: machine.replace(machine.pop_mark()),
    "BINPERSID": lambda machine, _: machine.replace(machine.pop()),
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8": Machine.blob,
    "BINSTRING SHORT_BINSTRING": Machine.old_string,
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8": Machine.text,
    "STRING": Machine.quoted,
    "UNICODE": lambda machine, text: machine.text(
        text.decode("raw-unicode-escape", "replace").encode("utf-8", "replace")
    ),
    "BININT1 BININT2": lambda machine, number: machine.push(_unsigned(number)),
    "BININT LONG1 LONG4": lambda machine, number: machine.push(_signed(number)),
    "INT LONG": lambda machine, number: machine.push(_digits(number)),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.tuple(_popped(machine, 1)),
    "TUPLE2": lambda machine, _: machine.tuple(_popped(machine, 2)),
    "TUPLE3": lambda machine, _: machine.tuple(_popped(machine, 3)),
    "TUPLE": lambda machine, _: machine.tuple(machine.pop_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.dictionary(),
    "SETITEM": lambda machine, _: machine.set_items(_popped(machine, 2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "APPEND": lambda machine, _: machine.pop(),
    "APPENDS ADDITEMS POP_MARK": lambda machine, _: machine.pop_mark(),
    "POP": lambda machine, _: machine.pop_any(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    "MARK": lambda machine, _: machine.mark(),
    "PUT": lambda machine, index: machine.put(_digits(index) or 0),
    "BINPUT LONG_BINPUT": lambda machine, index: machine.put(_unsigned(index)),
    "MEMOIZE": lambda machine, _: machine.put(None),
    "GET": lambda machine, index: machine.get(_digits(index)),
    "BINGET LONG_BINGET": lambda machine, index: machine.get(_unsigned(index)),
    "GLOBAL": lambda machine, module: machine.push(machine.named(module)),
    "STACK_GLOBAL": lambda machine, _: machine.from_stack(),
    "EXT1 EXT2 EXT4": lambda machine, code: machine.push(machine.imported("copyreg extension", str(_unsigned(code)))),
    "INST": lambda machine, module: machine.push(Made(machine.named(module), tuple(machine.pop_mark()))),
    "OBJ": lambda machine, _: machine.call_first(),
    "REDUCE NEWOBJ": lambda machine, _: machine.call(),
    "NEWOBJ_EX": lambda machine, _: machine.call(keywords=machine.pop()),
    "BUILD": lambda machine, _: machine.build(),
    "STOP": lambda machine, _: machine.stop(),
}


@cache
def _table() -> dict[bytes, tuple[int, Action]]:
    """By opcode: length of its argument as `pickletools` writes it, and what it does."""
    actions = {name: action for names, action in _GROUPS.items() for name in names.split()}
    return {
        one.code.encode("latin-1"): (0 if one.arg is None else one.arg.n, actions[one.name])
        for one in pickletools.opcodes
    }
