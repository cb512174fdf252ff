"""Parity test and critical value on counts against the same by shuffling rows; prints medians, ratios and p-values.

Both in one process, in turn, one thread of numpy. The counts are timed from the rows on, counting included.
Run: python benchmarks/bench_fairness.py
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pandas as pd

from assessor_checks import _gaps, _groups

ROWS, GROUPS, PERMUTATIONS, REPEATS = 100_000, 8, 2_000, 3
CONFIDENCE = 0.95


def case() -> tuple[np.ndarray, np.ndarray]:
    """(n,) group of each row and (n,) whether it was chosen; group 0 is chosen 1.5 points more often."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, GROUPS, ROWS)
    return codes, rng.random(ROWS) < np.where(codes == 0, 0.315, 0.3)


def largest_t(hits: np.ndarray, trials: np.ndarray, pooled: float) -> np.ndarray:
    """(R,) largest |z| with pooled variance over pairs, for hits (R, G)."""
    first, second = np.triu_indices(len(trials), k=1)
    share = hits / trials
    error = np.sqrt(pooled * (1 - pooled) * (1 / trials[first] + 1 / trials[second]))
    return np.asarray((np.abs(share[:, first] - share[:, second]) / error).max(axis=1))


def by_rows(codes: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """P-value and critical value, each permutation a shuffle of all rows."""
    trials, pooled = np.bincount(codes, minlength=GROUPS), float(chosen.mean())
    hits = np.stack([np.bincount(codes[rng.permutation(chosen)], minlength=GROUPS) for _ in range(PERMUTATIONS)])
    drawn = largest_t(hits, trials, pooled)
    observed = largest_t(np.bincount(codes[chosen], minlength=GROUPS)[None], trials, pooled)[0]
    p_value = float((1 + (drawn >= observed - 1e-9).sum()) / (1 + PERMUTATIONS))
    return p_value, float(np.quantile(drawn, CONFIDENCE))


def by_counts(codes: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The same as the check does it; the critical value comes from 10,000 normal draws."""
    cells = np.arange(GROUPS)
    hits, trials = np.bincount(codes[chosen], minlength=GROUPS), np.bincount(codes, minlength=GROUPS)
    first, second = np.triu_indices(GROUPS, k=1)
    rate = _groups.Rate("selection_rate", hits, trials, trials, first, second)
    p_value = _gaps.permutation_p([rate], np.ones(GROUPS, dtype=bool), PERMUTATIONS, rng)
    return p_value or 0.0, _gaps.critical_value(cells[:, None] == cells, [rate], CONFIDENCE, rng)


def main() -> None:
    """Print one line a way, then the ratio and what grouping the rows costs once."""
    codes, chosen = case()
    taken: dict[str, list[float]] = {"rows": [], "counts": []}
    found: dict[str, tuple[float, float]] = {}
    for repeat in range(REPEATS):
        for name, way in (("rows", by_rows), ("counts", by_counts)):
            begin = time.perf_counter()
            found[name] = way(codes, chosen, np.random.default_rng(repeat))
            taken[name].append(time.perf_counter() - begin)
    print(f"numpy {np.__version__}, {ROWS:,} rows, {GROUPS} groups, {PERMUTATIONS} permutations, median of {REPEATS}")
    print(f"{'':<8}{'milliseconds':>13}{'p-value':>10}{'critical':>10}")
    for name, (p_value, critical) in found.items():
        print(f"{name:<8}{1e3 * statistics.median(taken[name]):>13.1f}{p_value:>10.4f}{critical:>10.3f}")
    print(f"ratio {statistics.median(taken['rows']) / statistics.median(taken['counts']):.0f}")
    begin = time.perf_counter()
    _groups.find_groups(pd.DataFrame({"group": codes.astype(str)}))
    print(f"finding the groups of the rows, once: {1e3 * (time.perf_counter() - begin):.1f} milliseconds")


if __name__ == "__main__":
    main()
