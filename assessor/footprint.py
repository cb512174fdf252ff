"""How much memory something takes: the most that this process and its children, or the device, held since a moment."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

PROCESSES = Path("/proc")
RESET_PEAK = b"5"  # proc(5): sets the peak resident size to the present one

_children: dict[int, FileIO | None] = {}
"""Processes that count as well, and what forgets their peaks: opened at once, for a confined process takes it away."""


def count_child(pid: int) -> None:
    """Count a child from now on, as soon as it is started and before it confines itself."""
    _children[pid] = None
    with suppress(OSError):
        _children[pid] = FileIO(PROCESSES / str(pid) / "clear_refs", "w")


def forget_child(pid: int) -> None:
    """Count it no more, before its number can be another's."""
    stream = _children.pop(pid, None)
    if stream is not None:
        with suppress(OSError):
            stream.close()


@dataclass(frozen=True)
class Peak:
    """A moment from which on the most is counted; on CPU where the system can forget an earlier peak, as Linux can.

    Attributes:
        device: Torch's name of the device.
    """

    device: str

    @classmethod
    def begun(cls, device: str) -> Peak:
        """Now."""
        torch = sys.modules.get("torch")
        if torch is not None and device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                (PROCESSES / "self" / "clear_refs").write_bytes(RESET_PEAK)
            for stream in filter(None, _children.values()):
                with suppress(OSError):
                    stream.write(RESET_PEAK)
        return cls(device)

    @property
    def size(self) -> int:
        """Most bytes since then: allocated on a GPU, or held by this process and its children, with what was there.

        Each process's own peak counts, even if these were at different moments.
        """
        torch = sys.modules.get("torch")
        if torch is not None and self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        own = _most("self")
        if own is None:
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return own + sum(_most(str(pid)) or 0 for pid in _children)


def _most(process: str) -> int | None:
    """The peak resident size of a process in bytes; None where the system does not tell."""
    try:
        lines = (PROCESSES / process / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    except (OSError, StopIteration):
        return None
