"""Messages between a process and its child: a head in JSON and an array's bytes. Nothing in them can run code."""

from __future__ import annotations

import json
import struct
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HEAD, BODY = 1 << 20, 1 << 28  # most bytes of a message's head and of its array
_LENGTHS = struct.Struct(">QQ")


def send(stream: IO[bytes], head: dict[str, Any], array: np.ndarray | None = None) -> None:
    """Write a message.

    Args:
        stream: Where to.
        head: Plain data.
        array: Numbers that go with it, or None.
    """
    body = b""
    if array is not None:
        import numpy as np

        array = np.ascontiguousarray(array)
        head = {**head, "dtype": array.dtype.str, "shape": list(array.shape)}
        body = array.tobytes()
    text = json.dumps(head).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], np.ndarray | None]:
    """Read a message.

    Args:
        stream: Where from.

    Returns:
        Its head and its array; None without one.

    Raises:
        EOFError: The other side has ended.
        ValueError: It is no such message.
    """
    text_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if text_length > HEAD or body_length > BODY:
        raise ValueError("the message is too long")
    head, body = json.loads(_exactly(stream, text_length)), _exactly(stream, body_length)
    if not isinstance(head, dict):
        raise ValueError("the message has no head")
    return head, _array(head, body) if "dtype" in head else None


def _array(head: dict[str, Any], body: bytes) -> np.ndarray:
    import numpy as np

    dtype, shape = np.dtype(str(head.pop("dtype"))), tuple(map(int, head.pop("shape")))
    if dtype.kind not in "biuf":
        raise ValueError(f"the message has an array of {dtype}, wanted numbers")
    return np.frombuffer(body, dtype).reshape(shape)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    found = stream.read(length)
    if len(found) < length:
        raise EOFError
    return found
