"""Relative flatness of a million rows from a file through the command line: memory must not grow with the rows.

A small network on 32 features, as parquet and as npz; 10 000, 100 000 and 1 million rows, each run in a process of its
own, one thread. Prints time, the most memory that the process held, and the value with its interval.

Run: python benchmarks/bench_flatness_rows.py (needs pyarrow)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from assessor.criteria import load_catalog

ROWS = (10_000, 100_000, 1_000_000)
FEATURES, PART = 32, 10_000
CHECK = "generalization.relative_flatness"
CLI = """
import atexit, resource, sys
import assessor.footprint, pathlib
assessor.footprint.CLEAR = pathlib.Path("/dev/null")  # the peak of the whole process is wanted
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
from assessor.cli import main
main()
"""
SYSTEM = f"""
import torch
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear({FEATURES}, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
"""


def rows_of(part: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32) features and (n,) labels of a part."""
    rng = np.random.default_rng(part)
    features = rng.normal(size=(PART, FEATURES)).astype(np.float32)
    return features, features[:, :10].argmax(axis=1)


def write_parquet(path: Path, rows: int) -> None:
    """The rows as columns of a parquet file, written in parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for part in range(rows // PART):
        features, labels = rows_of(part)
        found = pa.table({f"x{place}": features[:, place] for place in range(FEATURES)} | {"y": labels})
        writer = writer or pq.ParquetWriter(path, found.schema)
        writer.write_table(found)
    if writer:
        writer.close()


def write_npz(path: Path, rows: int) -> None:
    """The rows as arrays X and y."""
    parts = [rows_of(part) for part in range(rows // PART)]
    np.savez(path, X=np.concatenate([x for x, _ in parts]), y=np.concatenate([y for _, y in parts]))


def run(path: Path, check: str) -> tuple[float, float, str]:
    """Seconds, most MiB held, and the primary value, of one run of a check through the command line."""
    (path.parent / "system.py").write_text(SYSTEM)
    (path.parent / "assessor.yaml").write_text(
        f"""
format: 1
catalog: {{id: ai-assessment-catalog, version: {load_catalog().head.version}, packs: []}}
system: {{name: many rows, version: "1", purpose: benchmark, context: none}}
target:
  task: multiclass
  model: {{load: "system:model"}}
  data:
    train: {{file: {path.name}, label: y}}
    test: {{file: {path.name}, label: y, sample: {{n: 1000}}}}
  device: cpu
"""
    )
    command = [sys.executable, "-c", CLI, "check", "run", check, "--fresh", "--json", "--project", str(path.parent)]
    begin = time.perf_counter()
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    found = json.loads(said.stdout)[0]["metrics"][0]
    told = f"{found['value']:.5f} [{found['low']:.5f}, {found['high']:.5f}], n = {found['n']}"
    return seconds, int(said.stderr.split()[-1]) / 1024, told


def main() -> None:
    """Run all."""
    for kind, write in (("parquet", write_parquet), ("npz", write_npz)):
        for rows in ROWS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"rows.{kind}"
                write(path, rows)
                seconds, memory, told = run(path, CHECK)
            print(f"{kind:<8}{rows:>10,} rows: {seconds:>6.1f} s, {memory:>6.0f} MiB at most; {told}", flush=True)


if __name__ == "__main__":
    main()
