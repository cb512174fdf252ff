"""`assessor report` of both demos with every check measured: pages, seconds and memory from the command to its end.

Wanted: about 90 pages in under 15 s and 500 MiB. The demos are made first (two minutes) unless folders are named.
Two cores: plots are drawn beside. Run: python benchmarks/bench_report.py [FOLDER ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pypdf

REPEATS = 5
ASSESSOR = Path(sys.executable).with_name("assessor")


def measured(folder: Path, report: Path) -> tuple[float, int]:
    """Wall-clock seconds, and the most memory that the process itself held, in bytes."""
    begin = time.perf_counter()
    child = subprocess.Popen([ASSESSOR, "report", "--project", folder, "--output", report], stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"assessor report failed in {folder}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def main() -> None:
    """Make reports and time that."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(name) for name in sys.argv[1:]]
        for system in () if folders else ("digits", "diabetes"):
            folders.append(Path(temporary) / system)
            subprocess.run([ASSESSOR, "demo", folders[-1], "--system", system], stdout=subprocess.DEVNULL, check=True)
        for folder in folders:
            report = Path(temporary) / "report.pdf"
            runs = [measured(folder, report) for _ in range(REPEATS)]
            pages = len(pypdf.PdfReader(report).pages)
            seconds, memory = sorted(wall for wall, _ in runs), max(held for _, held in runs) / 2**20
            print(
                f"{folder.name:10} {pages:4} pages  least {seconds[0]:5.1f} s, median {seconds[len(runs) // 2]:5.1f} s "
                f"({90 * seconds[0] / pages:4.1f} and {90 * seconds[len(runs) // 2] / pages:4.1f} s a 90 pages)  "
                f"{memory:4.0f} MiB"
            )


if __name__ == "__main__":
    main()
