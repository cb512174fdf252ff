"""How much memory something takes: the most that this process, or the device, held since a moment."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CLEAR = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # proc(5): sets the peak resident size to the present one


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
                CLEAR.write_text(RESET_PEAK)
        return cls(device)

    @property
    def size(self) -> int:
        """Most bytes since then: allocated on a GPU, or held by this process, with what it held at the beginning."""
        torch = sys.modules.get("torch")
        if torch is not None and self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        with suppress(OSError, StopIteration):
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
