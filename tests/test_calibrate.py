"""`assessor calibrate`: its table and sentence, going on after a kill, and what it wants of assessor.yaml."""

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from commands import Run

from assessor.cli import terminal

CHECK = "generalization.flatness_calibration"
CONFIGURATION = f"""\
format: 1
catalog: {{version: 1.1.0}}
system: {{name: x, version: "1"}}
target:
  task: multiclass
  model: {{load: "system:load_model", build: "system:build", outputs: logits}}
  data: {{train: {{load: "system:train"}}, test: {{load: "system:test"}}}}
  device: cpu
checks:
  {CHECK}: {{models: 8, max_epochs: 200, learning_rates: [0.01, 0.02], batch_sizes: [8], loss_target: 0.1}}
"""
SYSTEM = """\
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))


def load_model():
    torch.manual_seed(50)
    net, (x, y) = build(), train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net


def rows(n, seed):
    y = torch.arange(n) % 3
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    x[torch.arange(n), y] += 3
    return x, y


def train():
    return rows(36, 0)


def test():
    return rows(60, 1)
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors on shared cores: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command where no check but this one is installed."""
    point = EntryPoint("builtin", f"assessor_checks.{CHECK}:CHECK", "assessor.checks")
    monkeypatch.setattr("assessor.registry.entry_points", lambda group: [point])
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An assessment of a small network that says how it is built."""
    (tmp_path / "assessor.yaml").write_text(CONFIGURATION)
    (tmp_path / "system.py").write_text(SYSTEM)
    return tmp_path


@pytest.mark.slow
def test_table_remarks_and_sentence_and_nothing_is_trained_twice(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    first = run("calibrate", "--project", folder)
    assert first.code == 0
    lines = first.out.splitlines()
    assert lines[0].strip() == "Reference models"
    assert " ".join(lines[1].split()) == (
        "status random seed batch size learning rate label noise training passes training loss relative flatness "
        "measured gap"
    )
    assert sum("target reached" in line for line in lines) == 8
    assert f"\n{CHECK}  measured  predicted_gap" in first.out
    assert "- 8 of 8 reference models reached a training loss of 0.1 within 200 passes" in first.out
    assert f"[0/1] {CHECK}: training reference model" not in first.err
    assert f"[3/8] {CHECK}: training reference model" in first.err
    again = run("calibrate", "--project", folder)
    assert again.out == first.out
    assert "training reference model" not in again.err
    assert f"[3/8] {CHECK}: training reference model" in run("calibrate", "--project", folder, "--fresh").err


@pytest.mark.slow
def test_json_is_the_run_that_check_run_gives(run: Run, folder: Path) -> None:
    (run_,) = json.loads(run("check", "run", CHECK, "--project", folder, "--seed", 3, "--json").out)
    ours = json.loads(run("calibrate", "--project", folder, "--seed", 3, "--json").out)
    assert ours == run_
    assert ours["seed"] == 3
    assert ours["tables"][0]["name"] == "reference_models"


@pytest.mark.slow
def test_german_words_around_what_is_stored(run: Run, folder: Path) -> None:
    assert run("calibrate", "--project", folder, "--lang", "de").code == 0


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "assessor.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_without_build_it_says_what_to_add(run: Run, folder: Path) -> None:
    change(folder, ', build: "system:build"', "")
    done = run("calibrate", "--project", folder)
    assert done.code == 2
    assert "assessor.yaml: no target.model.build" in done.err
    assert "build: module:function" in done.err
    (run_,) = json.loads(run("check", "run", "--project", folder, "--json").out)  # as one of all it is left out
    assert run_["outcome"]["status"] == "not_applicable"
    assert "a way to build the untrained model (target.model.build)" in run_["outcome"]["sentence"]


def test_what_cannot_be_calibrated_is_said(run: Run, folder: Path) -> None:
    change(folder, "max_epochs: 200", "max_epochs: 1")
    done = run("calibrate", "--project", folder)
    assert done.code == 0
    assert f"{CHECK}  not_applicable  only 0 of 8 reference models reached a training loss of 0.1" in done.out
    change(folder, "system:build", "system:train")
    done = run("calibrate", "--project", folder)
    assert done.code == 2
    assert "target.model.build: gave a tuple, wanted a torch.nn.Module" in done.err


def test_params_are_told_with_their_place(run: Run, folder: Path) -> None:
    change(folder, "models: 8", "models: 4")
    done = run("calibrate", "--project", folder)
    assert done.code == 2
    assert f"assessor.yaml:10 checks.{CHECK}.models" in done.err


def test_a_folder_without_a_target(run: Run, folder: Path) -> None:
    text = (folder / "assessor.yaml").read_text()
    (folder / "assessor.yaml").write_text(text[: text.index("target:")])
    done = run("calibrate", "--project", folder)
    assert done.code == 2
    assert "no target: say what is to be measured" in done.err


def test_parts_are_told_now_and_then_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, expected in ((1000.0, 1), (0.0, 3)):
        monkeypatch.setattr(terminal, "QUIET_SECONDS", seconds)
        with terminal.progress() as step:
            step("a.check", 0, 1)
            step("a.check", 1, 9, part="training")
            step("a.check", 2, 9, part="training")
        told = capsys.readouterr().err.splitlines()
        assert len(told) == expected
        assert told[0] == "[0/1] a.check"
    assert told[2] == "[2/9] a.check: training"
