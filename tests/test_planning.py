"""What a run would do, said before it is begun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from executing import SYSTEM, TARGET

from assessor.contract import Params
from assessor.planning import Plan, Planned, State
from assessor.registry import load_checks

Make = Callable[..., Any]
IDS = ("reliability.performance", "robustness.noise_accuracy", "data.quality", "fairness.group_metrics")


@pytest.fixture
def planned(make_folder: Make, run: Any) -> Callable[..., Any]:
    project = make_folder(target=TARGET)
    (project.folder / "system.py").write_text(SYSTEM)

    def call(*options: object, ids: tuple[str, ...] = IDS) -> Any:
        done = run("check", "run", *ids, *options, "--project", project.folder)
        assert done.code == 0, done
        if not {"--plan", "--json"} <= set(options):
            return done
        return {item["check"]: item for item in json.loads(done.out)["checks"]}

    return call


def test_a_plan_says_what_is_there_what_is_refused_and_what_is_not_known(planned: Callable[..., Any]) -> None:
    first = planned("--plan", "--json")
    assert {name: item["state"] for name, item in first.items()} == dict.fromkeys(IDS, "due") | {
        "fairness.group_metrics": "not applicable"
    }
    assert first["robustness.noise_accuracy"]["by"] == "model calls"
    assert first["robustness.noise_accuracy"]["seconds"] > 0
    assert (first["data.quality"]["seconds"], first["data.quality"]["by"]) == (None, "")
    assert (first["data.quality"]["memory_bytes"], first["data.quality"]["memory_by"]) == (None, "")
    assert first["robustness.noise_accuracy"]["memory_by"] == "model and data"
    assert 10 * 2**20 < first["robustness.noise_accuracy"]["memory_bytes"] < 100 * 2**30
    planned(ids=IDS[:1])
    second = planned("--plan", "--json")
    assert (second[IDS[0]]["state"], second[IDS[0]]["seconds"]) == ("measured", 0)
    again = planned("--plan", "--json", "--fresh")
    assert (again[IDS[0]]["state"], again[IDS[0]]["by"]) == ("due", "last run")
    assert (again[IDS[0]]["memory_bytes"] > 10 * 2**20, again[IDS[0]]["memory_by"]) == (True, "last run")


def test_a_plan_stores_nothing(planned: Callable[..., Any], tmp_path: Path) -> None:
    before = (tmp_path / "assessment" / "ledger.jsonl").read_bytes()
    told = planned("--plan", "--jobs", 2).out
    assert "workers: 2, device: cpu" in told
    assert "3 checks to measure; 2 of them take about 0 s" in told
    assert (tmp_path / "assessment" / "ledger.jsonl").read_bytes() == before
    assert not (tmp_path / "assessment" / "results").exists()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has one entry for each time that model and data were loaded."""
    import assessor.subjects

    made: list[int] = []
    load = assessor.subjects.load_subject

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(1)
        return load(*arguments, **options)

    monkeypatch.setattr(assessor.subjects, "load_subject", counted)
    return made


def test_a_long_run_says_before_what_it_comes_to(
    planned: Callable[..., Any], loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "to measure" not in planned(ids=IDS[:1]).err  # it is short
    monkeypatch.setattr("assessor.cli.check.LONG_SECONDS", 0.0)
    loads.clear()
    (said,) = (line for line in planned().err.splitlines() if "to measure" in line)
    assert len(loads) == 1
    assert "checks to measure: 2, measured already: 1; expected time: about 0 min; of unknown length: 1; mem" in said
    assert said.endswith("MiB; each by itself:  assessor check run --plan")
    assert "to measure" not in planned("--json", "--fresh").err


def test_a_model_that_raises_is_no_reason_not_to_run(make_folder: Make, run: Any) -> None:
    """The checks say what it raised; the plan knows no time."""
    project = make_folder(target={**TARGET, "model": {"load": "system:Raises"}})
    broken = "class Raises(Own):\n    def forward(self, x): return super().forward(x if len(x) == 60 else x[:, :1])\n"
    (project.folder / "system.py").write_text(SYSTEM + broken)
    done = run("check", "run", "robustness.noise_accuracy", "--plan", "--json", "--project", project.folder)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert (found["batch_rows"], found["unknown"]) == (0, 1)


def test_what_it_comes_to() -> None:
    def due(seconds: float | None, memory: int | None) -> Planned:
        return Planned(check="a.b", state=State.DUE, seconds=seconds, memory_bytes=memory)

    checks = (due(10, 5), due(2, 7), due(None, None), Planned(check="a.c", state=State.MEASURED, seconds=0))
    alone = Plan(device="cpu", workers=1, batch_rows=0, batch_seconds=0, checks=checks)
    assert (alone.seconds, alone.unknown, alone.memory_bytes) == (12, 1, 7)
    assert alone.memory_is_least
    ran = Planned(check="a.b", state=State.DUE, seconds=1, memory_bytes=5, memory_by="last run")
    assert not alone.model_copy(update={"checks": (ran, checks[-1])}).memory_is_least
    two = alone.model_copy(update={"workers": 2})
    assert (two.seconds, two.memory_bytes) == (10, 12)  # the longest check cannot be shared
    assert Plan(device="cpu", workers=None, batch_rows=0, batch_seconds=0, checks=()).seconds == 0


def test_more_rows_drawn_or_steps_cost_more() -> None:
    from types import SimpleNamespace

    subject = SimpleNamespace(splits={"test": SimpleNamespace(n=10)}, classes=("a", "b", "c"))
    checks = load_checks()

    def rows(name: str, **params: Any) -> int:
        given: Params = checks[name].params(**params)
        found = checks[name].rows
        assert found is not None
        return found(subject, given)  # type: ignore[arg-type]

    assert rows("robustness.noise_accuracy", levels=(0.1, 0.2), draws=3) == 10 * (1 + 2 * 3)
    assert rows("robustness.noise_accuracy", levels=(0.1, 0.2), draws=3, max_samples=4) == 4 * 7
    assert rows("robustness.autoattack", steps=2, queries=5) == 10 * (3 * 2 * 5 + 5)
    assert rows("robustness.pgd_accuracy", steps=2, restarts=1, curve=()) == 10 * (3 * 2 * 2 + 300)


def test_what_is_added_to_what_is_held() -> None:
    """The largest split that is in memory, and a gradient of the weights where there are gradients."""
    from types import SimpleNamespace

    import numpy as np
    import torch

    from assessor.contract import Need, Split
    from assessor.planning import _added

    def split(features: np.ndarray | None) -> Split:
        return Split("test", np.zeros(5), "0", features=features)

    splits = {
        "test": split(np.zeros((5, 4), np.float32)),
        "train": split(np.zeros((50, 4), np.float32)),
        "ood": split(None),
    }
    module = SimpleNamespace(splits=splits, offers={Need.GRADIENTS}, module=torch.nn.Linear(4, 3))
    assert _added(module) == 50 * 4 * 4 + (4 * 3 + 3) * 4  # type: ignore[arg-type]
    assert _added(SimpleNamespace(splits=splits, offers=set())) == 50 * 4 * 4  # type: ignore[arg-type]
