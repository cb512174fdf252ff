"""The pytest plugin: a test item a check, outcomes as tests end, the fixture, and no cost for anybody else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from assessor.model import Configuration, JudgedTarget, Policy, Rule, Waiver
from assessor.pytest_plugin import ending

ROOT = Path(__file__).parents[1]
TODAY = date(2026, 11, 21)
PLUGIN = ("-p", "assessor.pytest_plugin")  # by name, and no others: the same whatever is installed
TARGET = JudgedTarget(metric=None, interval=(0, 1), because="so", source="assessor.yaml:9")
WAIVER = Waiver(id="trial.share", because="known", by="Ada", until=TODAY)
ONLY = {"reliability.performance", "fairness.group_metrics", "robustness.pgd_accuracy", "uncertainty.calibration"}


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another pytest, in a folder of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfEsxX", *PLUGIN, *arguments]
    environment = {**os.environ, "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def counted(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many items ended how."""
    found = re.findall(r"(\d+) (passed|failed|skipped|xfailed|deselected|errors?)", done.stdout.splitlines()[-1])
    return {word: int(n) for n, word in found}


@pytest.fixture
def folder(make_folder: Callable[..., Any]) -> Path:
    """Four checks: one meets its target, one does not, one has none, one does not apply."""
    from assessor.registry import load_checks

    table = "y,p,s,sex\n" + "".join(f"{i % 2},{i % 2},{0.1 + 0.8 * (i % 2)},{'fm'[i % 3 == 0]}\n" for i in range(300))
    project = make_folder(
        table=table,
        targets={
            "reliability.performance": {"interval": [0.9, None], "because": "by hand it is 0.9"},
            "uncertainty.calibration": {"interval": [None, 0.01], "because": "clerks rely on it"},
        },
        checks={name: False for name in load_checks() if name not in ONLY},
    )
    path: Path = project.folder
    return path


@pytest.mark.slow
def test_an_item_a_check(folder: Path) -> None:
    (folder / "test_more.py").write_text("def test_more(): pass\n")
    done = pytest_in(folder, "--assessor", "-v", f"--junit-xml={folder / 'junit.xml'}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert counted(done) == {"failed": 1, "passed": 2, "skipped": 2}, done.stdout
    assert "assessor::reliability.performance PASSED" in done.stdout
    assert "assessor::uncertainty.calibration FAILED" in done.stdout
    assert "lies outside the target of at most 0.01 (clerks rely on it; assessor.yaml:" in done.stdout
    assert re.search(r"assessor::fairness.group_metrics SKIPPED \(.*no target was set", done.stdout)
    assert "Traceback" not in done.stdout
    assert "pytest_plugin.py" not in done.stdout.partition("short test summary")[0]
    cases = ElementTree.parse(folder / "junit.xml").getroot().iter("testcase")
    assert {case.get("name") for case in cases} >= ONLY
    assert (folder / "results" / "index.json").is_file()

    before = sorted(folder.rglob("results/*/*.json"))
    chosen = pytest_in(folder, "--assessor", "-m", "assessor", "-k", "reliability")
    assert (chosen.returncode, counted(chosen)) == (0, {"passed": 1, "deselected": 4}), chosen.stdout
    assert sorted(folder.rglob("results/*/*.json")) == before, "nothing is measured twice"


@pytest.mark.slow
def test_with_other_processes(folder: Path) -> None:
    done = pytest_in(folder, "--assessor", "-p", "xdist", "--numprocesses=2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert counted(done) == {"failed": 1, "passed": 1, "skipped": 2}, done.stdout
    assert len(list(folder.rglob("results/*/*.json"))) == 4


@pytest.mark.slow
def test_wrong_use(folder: Path, tmp_path: Path) -> None:
    nowhere = pytest_in(tmp_path, "--assessor")
    assert nowhere.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no assessor.yaml here" in nowhere.stderr

    (folder / "p.csv").unlink()
    lost = pytest_in(tmp_path, f"--assessor={folder}")
    assert lost.returncode == 1
    assert counted(lost) == {"failed": 4}, lost.stdout
    assert "p.csv" in lost.stdout
    assert "Traceback" not in lost.stdout


FIXTURE = """
import numpy as np

def right(rows):
    return (rows[:, 0] > 0) * 0.8 + 0.1

def data():
    x = np.random.default_rng(0).normal(size=(100, 1))
    return x, (x[:, 0] > 0).astype(int)

def test_one(assessor):
    run = assessor.check("reliability.performance", right, data(), target=(0.8, None))
    assert run.passed

def test_several(assessor):
    assert assessor.assess(right, data(), checks=["reliability.performance"]).counts == {"measured": 1}

def test_wrong(assessor):
    run = assessor.check("reliability.performance", lambda rows: 1 - right(rows), data(), target=(0.8, None))
    assert run.passed
"""


@pytest.mark.slow
def test_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_model.py").write_text(FIXTURE)
    done = pytest_in(tmp_path)
    assert counted(done) == {"failed": 1, "passed": 2}, done.stdout + done.stderr
    assert "reliability.performance: fail: accuracy 0 " in done.stdout


@pytest.mark.parametrize(
    ("status", "target", "policy", "expected"),
    [
        ("pass", TARGET, Policy(), "passed"),
        ("fail", TARGET, Policy(), "failed"),
        ("fail", TARGET, Policy(fail_on=()), "xfailed"),
        ("fail", TARGET, Policy(waivers=(WAIVER,)), "xfailed"),
        ("fail", TARGET, Policy(waivers=(WAIVER.model_copy(update={"until": date(2026, 11, 20)}),)), "failed"),
        ("fail", TARGET, Policy(waivers=(WAIVER.model_copy(update={"id": "trial.other"}),)), "failed"),
        ("inconclusive", TARGET, Policy(), "xfailed"),
        ("inconclusive", TARGET, Policy(fail_on=("inconclusive",)), "failed"),
        ("not_applicable", TARGET, Policy(), "failed"),
        ("not_applicable", TARGET, Policy(waivers=(WAIVER,)), "xfailed"),
        ("not_applicable", None, Policy(), "skipped"),
        ("measured", None, Policy(), "skipped"),
        ("error", TARGET, Policy(fail_on=(), incomplete="ignore", waivers=(WAIVER,)), "failed"),
        ("error", None, Policy(), "failed"),
    ],
)
def test_how_an_outcome_ends(
    make_run: Callable[..., Any], status: str, target: JudgedTarget | None, policy: Policy, expected: str
) -> None:
    assert ending(make_run(status=status, target=target), configured(policy), TODAY) == expected


def configured(policy: Policy) -> Configuration:
    head = {"format": 1, "catalog": {"version": "1.1.0"}, "system": {"name": "s", "version": "1"}}
    return Configuration.model_validate({**head, "policy": policy.model_dump()})


def test_the_rule_of_a_dimension_counts_here_too(make_run: Callable[..., Any]) -> None:
    run = make_run(status="inconclusive", target=TARGET).model_copy(update={"requirements": ("FN-R-FN-ME-05",)})
    strict = {"fairness": Rule(fail_on=("inconclusive",))}
    assert ending(run, configured(Policy(dimensions=strict)), TODAY) == "failed"
    assert ending(run, configured(Policy(dimensions={"reliability": strict["fairness"]})), TODAY) == "xfailed"


def test_loading_costs_next_to_nothing() -> None:
    script = (
        "import sys, pytest, assessor.pytest_plugin;"
        "print([name for name in sys.modules if name.startswith('assessor')]);"
        "assert not {'numpy', 'pydantic', 'rich', 'yaml', 'typer'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['assessor', 'assessor.pytest_plugin']\n"


def test_pytest_finds_the_plugin() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["pytest11"]
    assert points == {"assessor": "assessor.pytest_plugin"}
