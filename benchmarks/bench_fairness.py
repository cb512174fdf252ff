"""Fairness on counts: parity test, bootstrap, streaming; distance correlation in less than all pairs. Prints times.

1. Parity test and critical value on counts against the same by shuffling rows, 100 000 rows, 8 groups.
2. 1000 bootstrap resamples of all group metrics from the counts (wanted: under 50 ms), and 50 by drawing rows.
3. Distance correlation of 100 000 rows with p-value, and of 4000 rows against all pairs.
4. The check on 10 million rows of a parquet and of a csv file through the command line, start, digest and checking of
   the table included (needs pyarrow): time, and memory beside that of 1 million.

All in one process but the last, each in a process of its own, one thread of numpy.
Run: python benchmarks/bench_fairness.py
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from assessor.criteria import load_catalog
from assessor_checks import _gaps, _groups, _rates
from assessor_checks.fairness import _dependence
from assessor_checks.fairness import _distance_covariance as dcov

ROWS, GROUPS, PERMUTATIONS, REPEATS = 100_000, 8, 2_000, 3
CONFIDENCE, RESAMPLES, BY_ROWS = 0.95, 1_000, 50
PAIRS, PART, MILLION = 4_000, 250_000, 1_000_000
CLI = """
import atexit, resource, sys
import assessor.footprint, pathlib
assessor.footprint.CLEAR = pathlib.Path("/dev/null")  # the peak of the whole process is wanted
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
from assessor.cli import main
main()
"""


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Median milliseconds of a few calls, and what the last gave."""
    taken, found = [], None
    for _ in range(REPEATS):
        begin = time.perf_counter()
        found = function()
        taken.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(taken), found


def case(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) group, label and prediction of each row; group 0 is chosen 1.5 points more often."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, GROUPS, rows)
    return codes, rng.integers(0, 2, rows), (rng.random(rows) < np.where(codes == 0, 0.315, 0.3)).astype(np.int64)


# --- parity test -----------------------------------------------------------------------------------------------------


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
    rate = _rates.Rate("selection_rate", hits, trials, trials, first, second)
    p_value = _gaps.permutation_p([rate], np.ones(GROUPS, dtype=bool), PERMUTATIONS, rng)
    return p_value or 0.0, _gaps.critical_value(cells[:, None] == cells, [rate], CONFIDENCE, rng)


def parity() -> None:
    """Both ways of the test side by side."""
    codes, _, said = case()
    chosen = said == 1
    ways = {"rows": by_rows, "counts": by_counts}
    print(f"{PERMUTATIONS} permutations: {'milliseconds':>15}{'p-value':>10}{'critical':>10}")
    taken = {}
    for name, way in ways.items():
        taken[name], found = timed(lambda way=way: way(codes, chosen, np.random.default_rng(0)))
        assert isinstance(found, tuple)
        print(f"{name:<20}{taken[name]:>15.1f}{found[0]:>10.4f}{found[1]:>10.3f}")
    print(f"ratio {taken['rows'] / taken['counts']:.0f}")


# --- bootstrap -------------------------------------------------------------------------------------------------------


def bootstrap() -> None:
    """All metrics in 1000 resamples from the counts, and in a few by drawing rows."""
    codes, labels, said = case()
    taken, groups = timed(lambda: _groups.find_groups(pd.DataFrame({"group": codes.astype(str)})))
    print(f"finding the groups of the rows, once: {taken:.1f} milliseconds")
    assert isinstance(groups, _groups.Groups)
    outcomes = _rates.count_outcomes(groups.cells, labels, said, positive=1)
    rates = _rates.rates_of(groups, outcomes, minimum=20)
    compared = {
        name: _gaps.compare(name, groups, rates, CONFIDENCE, 99, np.random.default_rng(0)) for name in _gaps.COMPONENTS
    }

    def from_counts() -> dict[str, np.ndarray]:
        drawn = _rates.resampled_rates(groups, outcomes, RESAMPLES, np.random.default_rng(1))
        return {name: _gaps.resampled_gaps(item, groups, drawn) for name, item in compared.items() if item}

    def from_rows() -> dict[str, np.ndarray]:
        rng, found = np.random.default_rng(1), {rate: np.empty((BY_ROWS, GROUPS)) for rate in _rates.RATES}
        for draw in range(BY_ROWS):
            rows = rng.integers(0, ROWS, ROWS)
            counts = _rates.count_outcomes(groups.cells[rows], labels[rows], said[rows], positive=1)
            for rate, values in _rates.rates_of(groups, counts, minimum=20).items():
                found[rate][draw] = values.hits / values.trials
        return {name: _gaps.resampled_gaps(item, groups, found) for name, item in compared.items() if item}

    counts, drawn = timed(from_counts)
    rows, others = timed(from_rows)
    assert isinstance(drawn, dict)
    assert isinstance(others, dict)
    print(f"{RESAMPLES} resamples of {len(drawn)} metrics from counts: {counts:.1f} milliseconds (wanted: under 50)")
    print(f"the same by drawing rows: {rows * RESAMPLES / BY_ROWS:.0f} milliseconds (from {BY_ROWS})")
    for name in drawn:
        print(f"  {name:<32} mean {drawn[name].mean():.4f} and {others[name].mean():.4f}")


# --- distance correlation --------------------------------------------------------------------------------------------


def distances() -> None:
    """Values against values and against groups, and all pairs for comparison."""
    rng = np.random.default_rng(0)
    scores, age, codes = rng.random(ROWS), rng.uniform(18, 80, ROWS), rng.integers(0, GROUPS, ROWS)
    taken, _ = timed(lambda: dcov.of_values(scores, age))
    print(f"distance correlation of {ROWS} scores and ages: {taken:.0f} milliseconds")
    taken, _ = timed(lambda: dcov.of_values_and_cells(scores, codes, 1.0 - np.eye(GROUPS)))
    print(f"of {ROWS} scores and {GROUPS} groups: {taken:.0f} milliseconds")
    output = _dependence.side(_dependence.Attributes([_dependence.Column("score", scores, is_number=True)]))
    sides = [
        _dependence.side(_dependence.Attributes([_dependence.Column("age", age, is_number=True)])),
        _dependence.side(_dependence.Attributes([_dependence.Column("group", codes, is_number=False)])),
    ]
    taken, _ = timed(lambda: _dependence.p_values([(output, sides)], 999, np.random.default_rng(0)))
    print(f"both p-values from 999 permutations: {taken:.0f} milliseconds")
    x, y = scores[:PAIRS], age[:PAIRS]
    blocks = [lambda some, v=v: np.abs(v[some, None] - v) for v in (x, y)]
    slow, exact = timed(lambda: dcov.of_blocks(blocks[0], blocks[1], PAIRS))
    fast, quick = timed(lambda: dcov.of_values(x, y))
    assert isinstance(exact, dcov.Dependence)
    assert isinstance(quick, dcov.Dependence)
    apart = abs(exact.both.unbiased - quick.both.unbiased) / exact.both.biased
    print(f"{PAIRS} rows: all pairs {slow:.0f}, sorted {fast:.0f} milliseconds, relative difference {apart:.0e}")


# --- streaming -------------------------------------------------------------------------------------------------------


def write(path: Path, rows: int) -> None:
    """A parquet file of that many rows, written in parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for part in range(rows // PART):
        codes, labels, said = case(PART, seed=part)
        names = {"sex": np.array(["f", "m"])[codes % 2], "age": np.array(["18-30", "31-60", "61+", "?"])[codes // 2]}
        found = pa.table({**names, "label": labels.astype(np.int8), "prediction": said.astype(np.int8)})
        writer = writer or pq.ParquetWriter(path, found.schema)
        writer.write_table(found)
    if writer:
        writer.close()


def as_csv(path: Path) -> Path:
    """The same rows as a csv file."""
    import pyarrow.csv as pc
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file, pc.CSVWriter(path.with_suffix(".csv"), file.schema_arrow) as writer:
        for batch in file.iter_batches():
            writer.write_batch(batch)
    return path.with_suffix(".csv")


def stream(path: Path, rows: int) -> None:
    """Run the check on a file through the command line; print time, memory and what it found."""
    (path.parent / "assessor.yaml").write_text(
        f"""
format: 1
catalog: {{id: ai-assessment-catalog, version: {load_catalog().head.version}, packs: []}}
system: {{name: streamed, version: "1", purpose: benchmark, context: none}}
target:
  task: binary
  model: {{predictions: {path.name}}}
  data: {{test: {{label: label, prediction: prediction, sensitive: [sex, age]}}}}
"""
    )
    command = [sys.executable, "-c", CLI, "check", "run", "fairness.group_metrics", "--fresh", "--json"]
    begin = time.perf_counter()
    said = subprocess.run([*command, "--project", str(path.parent)], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    run = json.loads(said.stdout)[0]
    gap = next(metric for metric in run["metrics"] if metric["name"] == "demographic_parity_difference")
    memory = int(said.stderr.rsplit(maxsplit=1)[-1]) / 1024
    print(
        f"{path.suffix:<9}{rows:>10} rows: {seconds:.1f} s, {memory:.0f} MiB at most; "
        f"selection rate differs by {gap['value']:.4f} [{gap['low']:.4f}, {gap['high']:.4f}]",
        flush=True,
    )


def main() -> None:
    """Run all."""
    print(f"numpy {np.__version__}, {ROWS:,} rows, {GROUPS} groups, median of {REPEATS}")
    parity()
    bootstrap()
    distances()
    if importlib.util.find_spec("pyarrow") is None:
        print("no pyarrow, so nothing is streamed")
        return
    with tempfile.TemporaryDirectory() as folder:
        for rows in (MILLION, 10 * MILLION):
            path = Path(folder) / f"{rows}.parquet"
            write(path, rows)
            stream(path, rows)
            stream(as_csv(path), rows)


if __name__ == "__main__":
    main()
