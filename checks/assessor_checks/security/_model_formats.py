"""Model formats that are no pickles: what in them could run code, or reach where it should not.

ONNX: `onnx.proto` of onnx 1.16 (field numbers), its specification of external data. Safetensors: its README, "Format".
GGUF: the specification in ggml's docs/gguf.md. Keras: CVE-2024-3660 (Lambda layers) and CVE-2025-1550 (modules named in
config.json). Chat templates: CVE-2024-34359.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from assessor_checks.security._known_imports import Standing, standing
from assessor_checks.security._pickle_machine import Bytes

HEADER = 100_000_000  # bytes a safetensors header may have; what its own reader takes
CHUNK = 1 << 24  # bytes that are searched at once
CONFIGURATION = 1 << 22  # bytes of a configuration that are read
CONFIGURATIONS = 1000  # JSON objects in one HDF5 file that are read
BROKEN = 1 << 21  # characters in it that are read as JSON in vain
MESSAGES = 20_000_000  # parts of one ONNX file that are read


class Finding(NamedTuple):
    """Something in a file that a person should know of: an import, a path, a part that could not be read."""

    standing: Standing
    what: str


class FormatError(Exception):
    """A file is not what it looks like; the message says in what way."""


# --- ONNX ------------------------------------------------------------------------------------------------------------

_ONNX = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "entry"},
    "entry": {},
}
_TEXTS = {
    "node": {4: "operator", 7: "domain"},
    "function": {1: "operator", 10: "domain"},
    "entry": {1: "key", 2: "value"},
}
_DOMAINS = {
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.training",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
}


def onnx(data: Bytes) -> list[Finding]:
    """Operators that come from elsewhere, and paths of external data that leave the folder.

    Raises:
        FormatError: It is no ONNX model.
    """
    operators: set[tuple[str, str]] = set()
    own: set[tuple[str, str]] = set()
    paths: set[str] = set()
    todo, read, graphs = [("model", 0, len(data))], 0, 0
    while todo:
        kind, start, end = todo.pop()
        texts: dict[str, str] = {}
        graphs += kind == "graph"
        for number, wire, begin, stop in _fields(data, start, end):
            read += 1
            if wire == 2 and number in _ONNX[kind]:
                todo.append((_ONNX[kind][number], begin, stop))
            elif wire == 2 and number in _TEXTS.get(kind, {}):
                texts[_TEXTS[kind][number]] = data[begin : min(stop, begin + 4096)].decode("utf-8", "backslashreplace")
        if kind in {"node", "function"}:
            (operators if kind == "node" else own).add((texts.get("domain", ""), texts.get("operator", "")))
        if texts.get("key") == "location":
            paths.add(texts.get("value", ""))
        if read > MESSAGES:
            raise FormatError(f"it has more than {MESSAGES} parts")
    if not graphs:
        raise FormatError("it has no graph")
    return [*_operators(operators - own), *_paths(paths)]


def _operators(operators: set[tuple[str, str]]) -> Iterator[Finding]:
    for domain, operator in sorted(operators):
        if operator.startswith(("PythonOp", "PyOp")):
            yield Finding(Standing.DANGEROUS, f"operator {domain}::{operator}, which calls Python")
        elif domain not in _DOMAINS:
            yield Finding(Standing.UNKNOWN, f"operator {domain}::{operator}, which needs code from elsewhere")


def _paths(paths: set[str]) -> Iterator[Finding]:
    for path in sorted(paths):
        parts = re.split(r"[/\\]", path)
        if parts[0] == "" or ".." in parts or ":" in parts[0]:
            yield Finding(Standing.DANGEROUS, f"external data at {path}, outside the model's folder")


def _fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a protobuf message: number, wire type, where the value begins and ends."""
    while start < end:
        tag, start = _varint(data, start, end)
        number, wire = tag >> 3, tag & 7
        begin = start
        if wire == 0:
            _, start = _varint(data, start, end)
        elif wire == 2:
            length, begin = _varint(data, start, end)
            start = begin + length
        elif wire in {1, 5}:
            start += 8 if wire == 1 else 4
        else:
            raise FormatError(f"byte {start} belongs to no protobuf message")
        if start > end or number == 0:
            raise FormatError(f"byte {begin} belongs to no protobuf message")
        yield number, wire, begin, start


def _varint(data: Bytes, start: int, end: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[start : min(start + 10, end)]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, start + index + 1
    raise FormatError(f"byte {start} belongs to no protobuf message")


# --- tensors ---------------------------------------------------------------------------------------------------------

_WIDTHS = {  # bits
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


def like_safetensors(data: Bytes) -> bool:
    """Whether a file begins as safetensors do: the length of a header, and a brace."""
    return len(data) >= 10 and data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= HEADER


def safetensors(data: Bytes) -> list[Finding]:
    """Nothing, when header and data agree.

    Raises:
        FormatError: They do not: a reader could be led to other bytes.
    """
    size = int.from_bytes(data[:8], "little")
    if 8 + size > len(data):
        raise FormatError("its header is longer than the file")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_once)
    except (ValueError, RecursionError) as fault:
        raise FormatError(f"its header is no JSON with names that differ: {fault}") from fault
    if not isinstance(header, dict):
        raise FormatError("its header is no JSON object")
    ends = sorted(_span(name, entry) for name, entry in header.items() if name != "__metadata__")
    position = 0
    for begin, end in ends:
        if begin != position:
            raise FormatError(f"its tensors overlap or leave a hole at byte {position}")
        position = end
    if 8 + size + position != len(data):
        raise FormatError(f"its tensors have {position} bytes, and {len(data) - 8 - size} are there")
    return []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Begin and end of a tensor, once its size is known to be right."""
    try:
        (begin, end), shape, bits = entry["data_offsets"], entry["shape"], _WIDTHS.get(entry["dtype"])
        whole = all(isinstance(n, int) and n >= 0 for n in (begin, end, *shape))
        right = whole and begin <= end and (bits is None or 8 * (end - begin) == bits * math.prod(shape))
    except (KeyError, TypeError, ValueError) as fault:
        raise FormatError(f"its tensor {name} has no readable place") from fault
    if not right:
        raise FormatError(f"its tensor {name} has a place that does not go with its shape")
    return begin, end


_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_TEXT, _GGUF_ARRAY = 8, 9
_TEMPLATE = re.compile(
    rb"__(class|base|bases|mro|subclasses|init|globals|builtins|import|getattribute)__|\|\s*attr\s*\("
)


def gguf(data: Bytes) -> list[Finding]:
    """A chat template that reaches into Python.

    Raises:
        FormatError: The header is not that of a GGUF file of version 2 or 3, or points outside the file.
    """
    reader = _Reader(data, 4)
    if (version := reader.number(4)) not in {2, 3}:
        raise FormatError(f"it is GGUF of version {version}, which is not known here")
    tensors, keys = reader.number(8), reader.number(8)
    found = []
    for _ in range(keys):
        name = reader.text()
        value = reader.value(reader.number(4))
        if b"chat_template" in name and _TEMPLATE.search(value):
            found.append(Finding(Standing.DANGEROUS, "a chat template that reaches into Python"))
    for _ in range(tensors):
        name = reader.text()
        reader.skip(8 * reader.number(4) + 4)
        if reader.number(8) > len(data):
            raise FormatError(f"its tensor {name[:80].decode('utf-8', 'backslashreplace')} lies outside the file")
    return found


class _Reader:
    """Reads a GGUF header; the file's end ends it."""

    def __init__(self, data: Bytes, position: int) -> None:
        self._data, self._position = data, position

    def skip(self, size: int) -> int:
        """Go on; gives where it stood."""
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise FormatError("its header is longer than the file")
        return start

    def number(self, size: int) -> int:
        """An unsigned number of so many bytes."""
        start = self.skip(size)
        return int.from_bytes(self._data[start : start + size], "little")

    def text(self) -> bytes:
        """A string."""
        size = self.number(8)
        start = self.skip(size)
        return self._data[start : start + size]

    def value(self, kind: int, depth: int = 0) -> bytes:
        """A value; its bytes where it is a string."""
        if kind == _GGUF_TEXT:
            return self.text()
        if kind in _GGUF_SIZES:
            self.skip(_GGUF_SIZES[kind])
            return b""
        if kind != _GGUF_ARRAY or depth > 4:
            raise FormatError(f"it has a value of a kind that is not known here ({kind})")
        inner, count = self.number(4), self.number(8)
        if inner in _GGUF_SIZES:
            self.skip(count * _GGUF_SIZES[inner])
        elif count > len(self._data):
            raise FormatError("its header is longer than the file")
        else:
            for _ in range(count):
                self.value(inner, depth + 1)
        return b""


# --- configurations --------------------------------------------------------------------------------------------------

_KERAS = ("keras", "tf_keras", "tensorflow.python.keras", "tensorflow.keras")
_LAMBDA = re.compile(r'"class_name"\s*:\s*"(Lambda|__lambda__|TFOpLambda)"')
_OBJECT = re.compile(rb'\{\s*"(?:class_name|module|config|name|registered_name)"\s*:')


def configuration(text: bytes) -> list[Finding]:
    """Classes and functions that a JSON text of Keras' or skops' names, but for those known as harmless.

    Raises:
        FormatError: It is no JSON.
    """
    try:
        return named_in(json.loads(text))
    except (ValueError, RecursionError) as fault:
        raise FormatError(f"it is no JSON: {fault}") from fault


def named_in(value: Any) -> list[Finding]:
    """Classes and functions that decoded JSON names, but for those known as harmless."""
    found: dict[Finding, None] = {}
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo += one.values()
            found |= dict.fromkeys(_named(one))
        elif isinstance(one, list):
            todo += one
        elif isinstance(one, str) and one[:1] == "{" and '"class_name"' in one:  # Keras keeps JSON inside JSON
            try:
                todo.append(json.loads(one))
            except (ValueError, RecursionError):
                found[Finding(Standing.UNREADABLE, "a configuration inside the configuration is no JSON")] = None
    return list(found)


def _named(one: Mapping[str, Any]) -> Iterator[Finding]:
    name, module = one.get("class_name"), one.get("module")
    if name in {"Lambda", "__lambda__", "TFOpLambda"}:
        yield Finding(Standing.DANGEROUS, f"Keras {name}: Python code in the file")
        return
    if name == "function" and isinstance(one.get("config"), str):
        name = one["config"]
    if not isinstance(module, str) or not isinstance(name, str):
        module, name = one.get("__module__"), one.get("__class__")
    if not isinstance(module, str) or not isinstance(name, str):
        return
    known = standing(module, name)
    if known is Standing.UNKNOWN and any(module == root or module.startswith(f"{root}.") for root in _KERAS):
        return
    if known is not Standing.KNOWN:
        yield Finding(known, f"{module}.{name}")


def hdf5(data: Bytes) -> list[Finding]:
    """What the configurations in an HDF5 file of Keras' name. They are found by their text, not by the file's tree."""
    found: dict[Finding, None] = {}
    decoder, end, broken = json.JSONDecoder(), -1, 0
    for count, (start, _) in enumerate(_matches(data, _OBJECT)):
        if start < end:  # inside the one before
            continue
        if count > CONFIGURATIONS or broken > BROKEN:
            found[
                Finding(Standing.UNREADABLE, f"it has more than {CONFIGURATIONS} configurations, or too many broken")
            ] = None
            break
        text = data[start : start + CONFIGURATION].decode("latin-1")
        try:
            value, length = decoder.raw_decode(text)
            end = start + length
        except (ValueError, RecursionError) as fault:
            broken += getattr(fault, "pos", 0)
            value = {"class_name": "Lambda"} if _LAMBDA.search(text) else {}
        found |= dict.fromkeys(named_in(value))
    return list(found)


def _matches(data: Bytes, pattern: re.Pattern[bytes], overlap: int = 256) -> Iterator[tuple[int, bytes]]:
    """Where a pattern no longer than the overlap occurs, and as what, chunk by chunk."""
    for start in range(0, len(data), CHUNK):
        for match in pattern.finditer(data[start : start + CHUNK + overlap]):
            if match.start() < CHUNK:
                yield start + match.start(), match[0]


# --- code that is not Python's ----------------------------------------------------------------------------------------

_TENSORFLOW = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "LoadLibrary"}
_TORCHSCRIPT = re.compile(rb"\btorch\.(?:from_file|save|load)\b|\bops\.(?!prim\b|aten\b|quantized\b)\w+\.\w+")


def tensorflow(data: Bytes) -> list[Finding]:
    """Operations of a TensorFlow graph that read or write files or call Python."""
    names = "|".join(sorted(_TENSORFLOW, key=len, reverse=True)).encode()
    operation = re.compile(rb"\x12[\x01-\x20](?:" + names + rb")(?=[\x0a\x12\x1a\x22\x2a\x32])")  # NodeDef.op, a field
    found = {text[2:].decode("ascii") for _, text in _matches(data, operation) if text[1] == len(text) - 2}
    return [Finding(Standing.DANGEROUS, f"TensorFlow operation {name}") for name in sorted(found)]


def torchscript(text: bytes) -> list[Finding]:
    """Operations in the code of a TorchScript archive that touch files, or come from elsewhere."""
    found = {match[0].decode("ascii", "replace") for match in _TORCHSCRIPT.finditer(text)}
    return [
        Finding(Standing.DANGEROUS if name.startswith("torch.") else Standing.UNKNOWN, f"TorchScript {name}")
        for name in sorted(found)
    ]
