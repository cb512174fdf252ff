"""A process of its own that opens a stranger's model and answers questions, with no network, files or programs.

It gets one order, then arrays of rows, on standard input, and gives arrays of outputs on standard output.
`assessor.subjects.child` is the other side.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from assessor.confinement import confine, is_without_network
from assessor.frames import receive, send

FAULT = 2000  # characters of a message


def main() -> None:
    """Open what is ordered, confined before anything else is loaded, and answer until nobody asks."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = sys.prefix  # one that is there; none can be written to
    order = _order(questions)
    in_force = confine([Path(name) for name in order.pop("readable")], memory=order.pop("memory"))
    if not is_without_network(in_force) and not order.pop("lenient"):
        send(answers, {"unconfined": True})
        return
    try:
        from assessor.opened import OPENERS

        opened = OPENERS[order["format"]](Path(order["path"]), order["options"])
    except Exception as fault:  # noqa: BLE001 - libraries raise anything on a stranger's file
        send(answers, {"fault": _told(fault)})
        return
    send(answers, {"confinement": in_force, **opened.about})
    while True:
        try:
            _head, rows = receive(questions)
        except EOFError:
            return
        assert rows is not None
        try:
            send(answers, {}, opened.ask(rows))
        except Exception as fault:  # noqa: BLE001 - told to whoever asked
            send(answers, {"fault": _told(fault)})


def _order(questions: IO[bytes]) -> dict[str, Any]:
    head, _rows = receive(questions)
    return head


def _told(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"[:FAULT]


if __name__ == "__main__":
    main()
