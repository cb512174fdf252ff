"""`assessor check freeze`: from a found weakness to a regression check that the gate judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from assessor.freezing import packed
from assessor.project import Project
from assessor.yamlfile import parse

Make = Callable[..., Any]

SYSTEM = """
import numpy as np
import pandas as pd
from pathlib import Path

rng = np.random.default_rng(0)
ROWS = 600
X = np.column_stack([rng.normal(40, 10, ROWS), rng.normal(size=ROWS), rng.integers(0, 3, ROWS).astype(float)])
WEAK = (X[:, 0] > 45) & (X[:, 2] == 1)
Y = (X[:, 1] > 0).astype(int) ^ WEAK
MENDED = (Path(__file__).parent / "mended").exists()


def frame(columns, names=("age", "dose", "site")):
    return pd.DataFrame(columns, columns=list(names))


def test():
    table = frame(X)
    table["sex"], table["region"] = np.where(WEAK, "f", "m"), np.where(np.arange(ROWS) % 2, "north", "south")
    table["y"] = np.where(Y, "yes", "no")
    return table


def model():
    from sklearn.tree import DecisionTreeClassifier
    from sklearn.linear_model import LogisticRegression

    made = DecisionTreeClassifier(random_state=0) if MENDED else LogisticRegression(max_iter=1000)
    return made.fit(frame(X), np.where(Y, "yes", "no"))
"""
NETWORK = """

def network():
    import torch
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=1000).fit(X, Y)
    net = torch.nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.zero_(), net.bias.zero_()
        net.weight[1] = torch.tensor(fitted.coef_[0], dtype=torch.float32)
        net.bias[1] = float(fitted.intercept_[0])
    return net
"""
TARGET = {
    "task": "binary",
    "classes": ["no", "yes"],
    "model": {"load": "system:model"},
    "data": {
        "test": {
            "load": "system:test",
            "label": "y",
            "features": ["age", "dose", "site"],
            "sensitive": ["sex", "region"],
        }
    },
    "device": "cpu",
}


@pytest.fixture
def folder(make_folder: Make) -> Path:
    """An assessment of a model that is wrong for older people at one site."""
    folder: Path = make_folder(target=TARGET).folder
    (folder / "system.py").write_text(SYSTEM + NETWORK)
    return folder


def frozen(folder: Path) -> dict[str, Any]:
    data = parse((folder / "assessor.yaml").read_bytes(), "assessor.yaml").data
    cases: dict[str, Any] = data["checks"]["reliability.frozen_weakness"]["cases"]
    return cases


TOLD = ("--at-most", "0.2", "--because", "it hurt somebody", "--by", "Ada")


@pytest.mark.slow
def test_from_a_weak_group_to_the_gate_and_back(make_folder: Make, run: Run) -> None:
    searched = {"reliability.weak_slices": {"columns": ["age", "dose", "site"]}}
    folder: Path = make_folder(target=TARGET, checks=searched).folder
    (folder / "system.py").write_text(SYSTEM)
    assert run("check", "run", "reliability.weak_slices", "--project", folder).code == 0
    done = run("check", "freeze", "reliability.weak_slices", "--project", folder, "--name", "old_site", *TOLD)
    assert done.code == 0
    assert "frozen as old_site: " in done.out
    (case,) = frozen(folder).values()
    assert {condition["column"] for condition in case["where"]} == {"age", "site"}
    entries = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    said = next(item for item in entries if item["action"] == "check freeze reliability.weak_slices as old_site")
    assert (said["actor"], said["because"]) == ("Ada", "it hurt somebody")
    assert run("gate", "--project", folder).code == 3  # not measured yet
    run("check", "run", "reliability.frozen_weakness", "--project", folder)
    assert run("gate", "--project", folder).code == 1
    (folder / "mended").touch()
    (folder / "system.py").write_text(SYSTEM + "\n# another version\n")
    run("check", "run", "reliability.frozen_weakness", "--project", folder)
    assert run("gate", "--project", folder).code == 0
    refused = run("check", "freeze", "reliability.weak_slices", "--project", folder, *TOLD)
    assert (refused.code, "measure again" in refused.err) == (2, True)


SEARCHES: dict[str, dict[str, Any]] = {
    "reliability.performance": {},
    "robustness.noise_accuracy": {"levels": [0.5], "draws": 3},
    "robustness.decision_attack": {"queries": 50, "eps": 1.0, "max_samples": 20},
    "fairness.group_metrics": {"permutations": 99, "bootstrap": 100},
    "fairness.intersectional": {"permutations": 99, "rate": "accuracy"},
}


@pytest.mark.slow
@pytest.mark.parametrize("check", SEARCHES)
def test_what_checks_find_is_frozen_and_still_wrong(make_folder: Make, run: Run, check: str) -> None:
    folder: Path = make_folder(target=TARGET, checks={check: SEARCHES[check]}).folder
    (folder / "system.py").write_text(SYSTEM)
    assert run("check", "run", check, "--project", folder).code == 0
    before = (folder / "assessor.yaml").read_text()
    assert run("check", "freeze", check, "--project", folder, *TOLD).code == 0
    name = f"{check.partition('.')[2]}_1"
    case = frozen(folder)[name]
    done = run("check", "run", "reliability.frozen_weakness", "--project", folder, "--json")
    (result,) = json.loads(done.out)
    value = next(metric for metric in result["metrics"] if metric["name"] == f"case_{name}")
    if "inputs" in case:
        assert (value["value"], value["low"], value["high"]) == (1, 1, 1)
        assert (folder / "frozen" / f"{case['inputs']}.npz").is_file()
    else:
        assert value["low"] > 0
        assert case["compared"] in {"accuracy", "true_positive_rate", "false_positive_rate"}
    first = (folder / "assessor.yaml").read_text()
    (folder / "assessor.yaml").write_text(before)
    assert run("check", "freeze", check, "--project", folder, *TOLD).code == 0
    assert (folder / "assessor.yaml").read_text() == first  # found again, byte by byte
    assert "ok" in run("verify", folder).out


@pytest.mark.slow
def test_inputs_of_a_gradient_attack(make_folder: Make, run: Run) -> None:
    target = {**TARGET, "model": {"load": "system:network", "outputs": "logits"}}
    attack = {"robustness.pgd_accuracy": {"eps": 0.5, "steps": 5, "restarts": 1, "max_samples": 100, "curve": []}}
    folder: Path = make_folder(target=target, checks=attack).folder
    (folder / "system.py").write_text(SYSTEM + NETWORK)
    assert run("check", "run", "robustness.pgd_accuracy", "--project", folder).code == 0
    assert run("check", "freeze", "robustness.pgd_accuracy", "--project", folder, *TOLD).code == 0
    (result,) = json.loads(run("check", "run", "reliability.frozen_weakness", "--project", folder, "--json").out)
    metric = result["metrics"][0]
    assert metric["value"] == 1
    assert 0 < metric["n"] <= 50
    (path,) = (folder / "frozen").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = run("check", "run", "reliability.frozen_weakness", "--project", folder, "--fresh")
    assert done.code == 3
    assert "another digest" in done.out
    ignoring = folder.parent / "policy.yaml"
    ignoring.write_text("{incomplete: ignore, mode: observe, fail_on: []}")
    assert run("gate", "--project", folder, "--policy", ignoring).code == 3


@pytest.mark.slow
def test_what_is_refused(folder: Path, run: Run) -> None:
    def refused(*words: str) -> str:
        before = (folder / "assessor.yaml").read_bytes()
        done = run("check", "freeze", *words, "--project", folder)
        assert done.code == 2
        assert (folder / "assessor.yaml").read_bytes() == before
        return done.err

    assert "has no result" in refused("reliability.performance", *TOLD)
    run("check", "run", "reliability.performance", "reliability.determinism", "--project", folder)
    assert "--at-most: is missing" in refused("reliability.performance", "--because", "x")
    assert "--because: is missing" in refused("reliability.performance", "--at-most", "0.2")
    assert "finds no single weakness" in refused("reliability.determinism", *TOLD)
    assert "--name: found '../x'" in refused("reliability.performance", "--name", "../x", *TOLD)
    assert "did you mean" in refused("reliability.performanc", *TOLD)
    assert run("check", "freeze", "reliability.performance", "--project", folder, "--name", "one", *TOLD).code == 0
    assert "was frozen before" in refused("reliability.performance", "--name", "one", *TOLD)
    again = ("--because", "more of it", "--by", "Ada")  # the target is there already
    assert run("check", "freeze", "reliability.performance", "--project", folder, *again).code == 0
    assert list(frozen(folder)) == ["one", "performance_1"]


def test_comments_and_the_rest_of_the_file_stay(folder: Path, run: Run) -> None:
    path = folder / "assessor.yaml"
    text = path.read_text() + "# what is measured how\nchecks:\n  # keep me\n  reliability.latency: off\n"
    path.write_text(text)
    run("check", "run", "reliability.performance", "--project", folder)
    assert run("check", "freeze", "reliability.performance", "--project", folder, *TOLD).code == 0
    for line in text.splitlines():
        assert line in path.read_text()
    assert Project(folder).configuration().checks["reliability.latency"] is False


def test_a_table_of_predictions_has_groups_only(make_folder: Make, run: Run) -> None:
    folder: Path = make_folder().folder
    run("check", "run", "reliability.performance", "--project", folder)
    done = run("check", "freeze", "reliability.performance", "--project", folder, *TOLD)
    assert (done.code, "no inputs to keep" in done.err) == (2, True)


def test_equal_arrays_are_equal_bytes() -> None:
    import numpy as np

    made = [packed(np.arange(6.0).reshape(2, 3), np.array(["a", "b"])) for _ in range(2)]
    assert made[0] == made[1]
