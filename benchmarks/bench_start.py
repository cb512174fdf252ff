"""Starting commands: seconds of processor that each takes in a process of its own, beside Python with nothing to do.

Wanted: `--help` under 0.3 s, loading and validating the catalog about half a second each.

Run: python benchmarks/bench_start.py
"""

from __future__ import annotations

import resource
import subprocess
import sys

REPEATS = 7
COMMANDS = ("--help", "catalog validate", "catalog list", "check list")
MAIN = "import sys; from assessor.cli import main; sys.argv = ['assessor', *sys.argv[1:]]; main()"


def seconds(code: str, *arguments: str) -> float:
    """Processor time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Every program in turn, several times: the least counts."""
    programs = {
        "python": ("pass",),
        "import pytest": ("import pytest",),
        "import pytest, the plugin": ("import pytest, assessor.pytest_plugin",),
        **{f"assessor {command}": (MAIN, *command.split()) for command in COMMANDS},
    }
    least = dict.fromkeys(programs, float("inf"))
    for _ in range(REPEATS):
        for name, program in programs.items():
            least[name] = min(least[name], seconds(*program))
    for name, taken in least.items():
        print(f"{name:28} {taken:6.3f} s   {taken / least['python']:5.1f} x python")


if __name__ == "__main__":
    main()
