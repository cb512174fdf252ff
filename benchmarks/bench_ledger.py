"""The ledger of 100 000 changes: checked whole, its tree, a proof, one more line. Prints seconds and megabytes.

1. Every line against its hash and the line before, and what every file should be (wanted: under 2 s).
2. Root of the Merkle tree over the lines; an inclusion proof made and checked.
3. The line of one more change.

One core. Run: python benchmarks/bench_ledger.py
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from assessor.canonical import sha256_hex
from assessor.ledger import Change, append, history, tree_head
from assessor.merkle import includes, inclusion_proof

LINES, CHECKS, REPEATS = 100_000, 70, 3
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
DIGESTS = [sha256_hex(str(number).encode()) for number in range(1000)]

Found = TypeVar("Found")


def made() -> bytes:
    """A ledger as runs of checks make it: a new result and the index in each line."""
    lines, line = [], b""
    for number in range(LINES):
        check, digest = f"robustness.check{number % CHECKS}", DIGESTS[number % len(DIGESTS)]
        files = {
            f"results/{check}/{number:06}.json": Change(before=None, after=digest),
            "results/index.json": Change(before=DIGESTS[(number - 1) % len(DIGESTS)] if number else None, after=digest),
        }
        line, _ = append(line, actor="Ada", action=f"check run {check}", because="as agreed", files=files, now=NOW)
        lines.append(line)
    return b"".join(lines)


def timed(what: str, function: Callable[[], Found]) -> Found:
    """Prints the least seconds of a few calls."""
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        found = function()
        taken.append(time.perf_counter() - begin)
    print(f"{what:45} {min(taken):7.3f} s")
    return found


def main() -> None:
    """Make a ledger and time what is done with it."""
    ledger = made()
    print(f"{LINES} lines, {len(ledger) / 1e6:.0f} MB")
    found = timed("chain checked, files told", lambda: history(ledger))
    assert (found.size, found.edits) == (LINES, [])
    tree = timed("tree root", lambda: tree_head(ledger))
    lines = ledger.splitlines()
    proof = timed("inclusion proof made", lambda: inclusion_proof(lines, LINES // 2))
    root = bytes.fromhex(tree.root)
    assert timed("inclusion proof checked", lambda: includes(lines[LINES // 2], LINES // 2, LINES, proof, root))
    timed("one more line", lambda: append(ledger, actor="Ada", action="answer", because="", files={}, now=NOW))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
