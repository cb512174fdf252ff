"""Data that are not held: the same numbers as of data that are, in memory that does not grow with the rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from assessor.contract import Need, Subject
from assessor.model import TargetSpec
from assessor.registry import load_checks
from assessor.subjects import load_subject
from assessor.subjects.spool import Spool, in_slices, is_mapped, taken

NET = """
import torch
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
def line():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 1))
"""
ROWS = 9_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 3)).astype(np.float32)
    np.savez(folder / "d.npz", X=X, y=X.argmax(axis=1), v=X.sum(axis=1))
    (folder / "system.py").write_text(NET)
    return folder


def loaded(folder: Path, task: str = "multiclass") -> Subject:
    model, label = ("system:model", "y") if task == "multiclass" else ("system:line", "v")
    given = {
        "task": task,
        "model": {"load": model},
        "data": {name: {"file": "d.npz", "label": label} for name in ("train", "test")},
        "device": "cpu",
    }
    return load_subject(TargetSpec.model_validate(given), folder)[0]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multiclass", "regression"])
@pytest.mark.parametrize("check", ["generalization.relative_flatness", "reliability.performance", "generalization.gap"])
def test_checks_say_the_same_of_rows_in_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, check: str, task: str
) -> None:
    checks = load_checks()
    if check not in checks or not checks[check].info.needs <= {Need.TEST, Need.TRAIN, Need.GRADIENTS, Need.QUERY}:
        pytest.skip("no such check here")
    measure, params = checks[check].measure, checks[check].params()
    held = loaded(folder, task)
    for module in ("spool", "arrays"):
        monkeypatch.setattr(f"assessor.subjects.{module}.HELD", 1000)
    kept = loaded(folder, task)
    assert [is_mapped(one.splits["train"].features) for one in (held, kept)] == [False, True]  # type: ignore[arg-type]
    assert kept.splits["train"].sha256 == held.splits["train"].sha256
    assert measure(kept, params, 0) == measure(held, params, 0)


def test_a_stream_never_asks_for_all_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("spool", "arrays"):
        monkeypatch.setattr(f"assessor.subjects.{module}.HELD", 1000)
    subject = loaded(folder)

    def refused(*_: object) -> None:
        raise AssertionError("all rows were read at once")

    monkeypatch.setattr(type(subject), "tensors", refused)
    check = load_checks()["generalization.relative_flatness"]
    assert check.measure(subject, check.params(), 0).metrics[0].n == ROWS


def test_rows_of_a_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).random((10_000, 2, 3))
    for held in (1, 10**9):
        monkeypatch.setattr("assessor.subjects.spool.HELD", held)
        monkeypatch.setattr("assessor.subjects.spool.SLICE", 48 * 4500)
        spool = Spool("rows")
        for start in range(0, 10_000, 999):
            spool.add(rows[start : start + 999])
        found = spool.array()
        assert is_mapped(found) == (held == 1)
        assert (found == rows).all()
        slices = list(in_slices(found))
        assert [one.start for one in slices] == ([0, 4096, 8192] if held == 1 else [0])
        assert (np.concatenate([found[one] for one in slices]) == rows).all()
        some = np.array([9999, 0, 5, 5, 77, 4321])
        assert (taken(found, some) == rows[some]).all()
        assert (taken(found, slice(5, 9)) == rows[5:9]).all()


@pytest.mark.slow
def test_a_million_rows_need_no_more_memory_than_a_hundred_thousand(tmp_path: Path) -> None:
    """Through the command line: a row may cost what is kept of it (label, loss, class, two values: 40 bytes)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is measured as on Linux")
    bench = benchmark()
    memory = {}
    for rows in (100_000, 1_000_000):
        (tmp_path / str(rows)).mkdir()
        bench.write_parquet(tmp_path / str(rows) / "d.parquet", rows)
        memory[rows] = bench.run(tmp_path / str(rows) / "d.parquet", bench.CHECK)[1]
    assert memory[1_000_000] - memory[100_000] < 150  # MiB; the features alone are 244 MiB, as a tensor 122 more


def benchmark() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "bench_flatness_rows.py"
    spec = importlib.util.spec_from_file_location("bench_flatness_rows", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
