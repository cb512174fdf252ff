"""The pre-commit hooks: what they call tells faults, decides, and measures nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Run
from typer.main import get_command

from assessor.cli import app

ROOT = Path(__file__).parents[1]
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))}
TARGETS = {"reliability.performance": {"interval": [0.99, None], "because": "by hand it is 0.9"}}


@pytest.fixture
def folder(make_folder: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path: Path = make_folder(targets=TARGETS).folder
    return path.relative_to(tmp_path)


def test_the_hooks_have_what_pre_commit_asks_for() -> None:
    assert set(HOOKS) == {"assessor-validate", "assessor-gate"}
    for hook in HOOKS.values():
        assert {"id", "name", "entry", "language"} <= set(hook)
        assert set(hook) <= {"id", "name", "description", "entry", "language", "types", "files", "require_serial"}
        program, *command = hook["entry"].split()
        assert program == "assessor"
        found: Any = get_command(app)
        for word in command:
            found = found.commands[word]


def test_which_files_the_gate_hook_looks_at() -> None:
    wanted = re.compile(HOOKS["assessor-gate"]["files"])
    for name in ("assessor.yaml", "a/assessor.yaml", "a/answers/FN-R-FN.yaml", "results/trial.share/1.json"):
        assert wanted.search(name), name
    for name in ("a/my-assessor.yaml", "answers.yaml", "src/results.json"):
        assert not wanted.search(name), name


def test_valid_files_pass_without_a_word(run: Run, folder: Path, tiny: Path) -> None:
    (tiny.parent / "other.yaml").write_text("a: 1")
    done = run("hook", "validate", folder / "assessor.yaml", folder / "answers" / "FN-R-FN.yaml", "other.yaml",
               tiny.relative_to(tiny.parent) / "FN" / "FN-P.yaml")  # fmt: skip
    assert done == (0, "", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("assessor.yaml", "format: 1", "format: 2", "assessor.yaml:1 format"),
        ("assessor.yaml", "reliability.performance", "reliability.performanc", "no check 'reliability.performanc'"),
        ("assessor.yaml", "targets:", "checks: {reliability.performance: {bins: 3}}\ntargets:", "bins"),
    ],
)
def test_faults_are_told_with_folder_and_line(run: Run, folder: Path, name: str, old: str, new: str, told: str) -> None:
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = run("hook", "validate", path)
    assert done.code == 2
    assert done.err.startswith(f"assessor: {folder}: assessor.yaml:")
    assert told in done.err


def test_all_faults_of_all_folders_are_told(run: Run, folder: Path, tiny: Path) -> None:
    shutil.copytree(folder, "second")
    for path in (folder / "assessor.yaml", Path("second/assessor.yaml")):
        path.write_text("nonsense: 1\n")
    area = tiny / "FN" / "FN-P.yaml"
    area.write_text(area.read_text().replace("kinds: [Do]", "kinds: [Dont]"))
    done = run("hook", "validate", folder / "assessor.yaml", "second/assessor.yaml", area)
    assert done.code == 2
    for start in (f"{folder}: assessor.yaml", "second: assessor.yaml", "tiny: "):
        assert start in done.err


def test_the_gate_hook_measures_nothing(run: Run, folder: Path) -> None:
    undecided = run("hook", "gate", folder / "assessor.yaml")
    assert undecided.code == 3
    assert "cannot judge" in undecided.out
    assert not (folder / "results").exists()

    run("check", "run", "reliability.performance", "--project", folder)
    closed = run("hook", "gate", folder / "assessor.yaml", folder / "results" / "index.json")
    assert closed.code == 1
    assert closed.out.count("gate closed") == 1

    text = (folder / "assessor.yaml").read_text().replace("0.99", "0.1")
    (folder / "assessor.yaml").write_text(text)
    run("check", "run", "reliability.performance", "--project", folder)
    assert run("hook", "gate", folder / "assessor.yaml") == (0, "", "")
    assert run("hook", "gate", "somewhere/else.yaml").code == 0
