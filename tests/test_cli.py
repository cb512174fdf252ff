"""The command line as people and scripts meet it: exit codes, JSON, bad input, kills."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Done, Run

from assessor.registry import load_checks

ASSESSOR = [sys.executable, "-c", "from assessor.cli import main; main()"]


CONFIGURATION = """\
format: 1
catalog: {id: ai-assessment-catalog, version: 1.1.0}
system: {name: Triage, version: "1", purpose: sorts letters}
protection_needs:
  fairness: {level: high, because: people are sorted}
  reliability: {level: medium, because: letters can be sorted again}
target:
  task: binary
  model: {predictions: p.csv}
  data: {test: {label: y, prediction: p, sensitive: [group]}}
targets:
  reliability.performance: {metric: accuracy, interval: [0.8, null], because: the clerks reach 0.8}
checks:
  fairness.group_metrics: off
"""


def table(right: float, n: int = 400) -> pd.DataFrame:
    """Labels, predictions right in the given share, a group."""
    y = np.arange(n) % 2
    p = np.where(np.arange(n) < right * n, y, 1 - y)
    return pd.DataFrame({"y": y, "p": p, "group": np.where(np.arange(n) % 4 < 2, "a", "b")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An assessment of predictions that are right in 95 of 100 cases."""
    table(0.95).to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "assessor.yaml").write_text(CONFIGURATION)
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "assessor.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- the good way ----------------------------------------------------------------------------------------------------


def test_a_project_from_init_to_report(run: Run, tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert run("init", new).code == 0
    assert run("init", new).code == 2
    status = run("status", "--project", new, "--json")
    assert status.code == 0
    assert json.loads(status.out)["system"]["name"] == "new"
    assert run("report", "--project", new, "--format", "json", "--output", "-").code == 0


def test_check_run_measures_judges_and_keeps(run: Run, folder: Path) -> None:
    first = run("check", "run", "reliability.performance", "--project", folder, "--json")
    (result,) = json.loads(first.out)
    assert first.code == 0
    assert result["outcome"]["status"] == "pass"
    assert result["outcome"]["sentence"].startswith("accuracy 0.95 [")
    assert result["outcome"]["sentence"].endswith("lies inside the target of at least 0.8")
    assert result["target"]["source"] == "assessor.yaml:12"
    again = json.loads(run("check", "run", "reliability.performance", "--project", folder, "--json").out)
    assert again == [result]


def test_two_fresh_runs_differ_in_time_and_memory_alone(run: Run, folder: Path) -> None:
    command = ("check", "run", "--fresh", "--project", folder, "--json")
    first, second = json.loads(run(*command).out), json.loads(run(*command).out)
    for result in (*first, *second):
        for name in ("started", "seconds", "peak_memory_bytes"):
            result.pop(name)
    assert first == second
    assert len(first) == len(load_checks()) - 1


def test_a_changed_target_is_judged_again_without_measuring(run: Run, folder: Path) -> None:
    command = ("check", "run", "reliability.performance", "--project", folder, "--json")
    (before,) = json.loads(run(*command).out)
    edit(folder, "[0.8, null]", "[0.99, null]")
    assert json.loads(run("status", "--project", folder, "--json").out)["outdated"] == ["reliability.performance"]
    assert run("gate", "--project", folder).code == 3
    (after,) = json.loads(run(*command).out)
    assert after["outcome"]["status"] == "fail"
    assert (after["metrics"], after["seconds"]) == (before["metrics"], before["seconds"])
    assert run("gate", "--project", folder).code == 1


def test_gate_exit_codes(run: Run, folder: Path) -> None:
    nothing = run("gate", "--project", folder)
    assert nothing.code == 3
    assert "nothing was measured" in nothing.out
    run("check", "run", "reliability.performance", "--project", folder)
    assert run("gate", "--project", folder).code == 0
    decision = json.loads(run("gate", "--project", folder, "--format", "json").out)
    assert decision["exit_code"] == 0
    assert decision["passed"] == ["reliability.performance"]


def test_answers_by_script(run: Run, folder: Path) -> None:
    evidence = folder / "protocol.md"
    evidence.write_text("tested on 400 letters")
    done = run(
        "answer", "--project", folder, "--set", "RE-R-SC-ME-05=fulfilled", "--set", "RE-R-SC-ME-05.q3=400 letters",
        "--because", "tested", "--by", "Ada", "--evidence", evidence,
    )  # fmt: skip
    assert done.code == 0
    text = (folder / "answers" / "RE-R-SC.yaml").read_text()
    assert "value: fulfilled" in text
    assert "q3: 400 letters" in text
    assert len(list((folder / "evidence").glob("*/protocol.md"))) == 1


def test_contradiction_comes_first(run: Run, folder: Path) -> None:
    table(0.5).to_csv(folder / "p.csv", index=False)
    run("answer", "--project", folder, "--set", "RE-R-SC-ME-05=fulfilled", "--because", "tested", "--by", "Ada")
    run("check", "run", "reliability.performance", "--project", folder)
    status = json.loads(run("status", "--project", folder, "--json").out)
    (contradiction,) = status["contradictions"]
    assert contradiction["requirement"] == "RE-R-SC-ME-05"
    assert contradiction["sentence"].startswith("Ada answered RE-R-SC-ME-05 “fulfilled”, but reliability.performance")
    reliability = next(state for state in status["dimensions"] if state["id"] == "RE")
    assert reliability["ceiling"] == "unacceptable"


def test_json_is_all_that_standard_output_holds(run: Run, folder: Path) -> None:
    for command in (("catalog", "list"), ("catalog", "show", "AT"), ("catalog", "validate"), ("check", "list"),
                    ("check", "show", "reliability.performance"), ("check", "run", "--project", folder),
                    ("status", "--project", folder), ("gate", "--project", folder),
                    ("verify", folder)):  # fmt: skip
        assert isinstance(json.loads(run(*command, "--json").out), dict | list)


def test_a_check_says_whether_several_workers_share_it(run: Run) -> None:
    assert "all of them take part in it" in run("check", "show", "robustness.robust_flatness").out
    assert "all of them take part in it" not in run("check", "show", "generalization.gap").out


def test_help_pulls_in_nothing_heavy() -> None:
    heavy = ["numpy", "pandas", "torch", "scipy", "sklearn", "matplotlib", "weasyprint", "pyhanko", "cryptography"]
    code = (
        "import sys\nfrom assessor.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


# --- bad input -------------------------------------------------------------------------------------------------------


def assert_refused(done: Done, *words: str) -> None:
    assert done.code == 2, done
    for word in words:
        assert word in done.err, done.err


def test_missing_file(run: Run, folder: Path) -> None:
    (folder / "p.csv").unlink()
    assert_refused(run("check", "run", "--project", folder), "target.data.test", "no file", "p.csv")


def test_bad_yaml(run: Run, folder: Path) -> None:
    edit(folder, "  task: binary", "  task: [binary")
    assert_refused(run("status", "--project", folder), "assessor.yaml:9", "not readable as YAML")


def test_unknown_key(run: Run, folder: Path) -> None:
    edit(folder, "sensitive:", "sensitiv:")
    assert_refused(
        run("status", "--project", folder), "assessor.yaml:10", "target.data.test.sensitiv", "did you mean 'sensitive'?"
    )


def test_wrong_type(run: Run, folder: Path) -> None:
    edit(folder, "[0.8, null]", "high")
    assert_refused(run("status", "--project", folder), "assessor.yaml:12", "interval", "found 'high'")


def test_unknown_check(run: Run, folder: Path) -> None:
    wanted = "did you mean 'reliability.performance'?"
    assert_refused(run("check", "run", "reliability.performanse", "--project", folder), wanted)
    edit(folder, "reliability.performance:", "reliability.performanse:")
    assert_refused(run("check", "run", "--project", folder), "assessor.yaml:12", wanted)


def test_unknown_check_in_a_waiver(run: Run, folder: Path) -> None:
    waiver = "policy: {waivers: [{id: reliability.performanc, because: x, by: Ada, until: 2027-01-01}]}\n"
    (folder / "assessor.yaml").write_text(CONFIGURATION + waiver)
    done = run("check", "run", "--project", folder)
    assert_refused(done, "assessor.yaml:15 policy.waivers.0.id", "did you mean 'reliability.performance'?")


def test_unknown_parameter(run: Run, folder: Path) -> None:
    edit(folder, "fairness.group_metrics: off", "fairness.group_metrics: {minimum_grop: 5}")
    assert_refused(
        run("check", "run", "--project", folder), "assessor.yaml:14", "minimum_grop", "did you mean 'minimum_group'?"
    )


def test_wrong_column(run: Run, folder: Path) -> None:
    edit(folder, "prediction: p,", "prediction: pp,")
    assert_refused(run("check", "run", "--project", folder), "no column 'pp'", "columns: y, p, group")


def test_nan_features_and_labels_out_of_range(run: Run, tmp_path: Path) -> None:
    (tmp_path / "assessor.yaml").write_text(TORCH)
    (tmp_path / "system.py").write_text(SYSTEM)
    assert_refused(run("check", "run", "--project", tmp_path), "1 of 40 rows", "row 3", "impute")
    (tmp_path / "system.py").write_text(SYSTEM.replace("x[3, 1] = float('nan')", "y[5] = 7"))
    assert_refused(run("check", "run", "--project", tmp_path), "1 labels are none of the classes", "row 5, '7'")


def test_model_that_raises(run: Run, tmp_path: Path) -> None:
    (tmp_path / "assessor.yaml").write_text(TORCH)
    (tmp_path / "system.py").write_text(SYSTEM.replace("nn.Linear(3, 2)", "1 / 0"))
    assert_refused(
        run("check", "run", "--project", tmp_path), "system:load_model raised ZeroDivisionError", "system.py line"
    )


def test_one_class_only_and_empty_group_are_outcomes(run: Run, folder: Path) -> None:
    frame = table(0.95)
    frame["y"], frame["p"], frame["group"] = 1, 1, "a"
    frame.loc[0, "y"] = 0
    frame.to_csv(folder / "p.csv", index=False)
    edit(folder, "  fairness.group_metrics: off", "  reliability.performance: {metric: roc_auc}")
    edit(folder, "{metric: accuracy, ", "{")
    results = {r["check"]: r["outcome"] for r in json.loads(run("check", "run", "--project", folder, "--json").out)}
    assert results["fairness.group_metrics"]["status"] == "not_applicable"
    assert results["reliability.performance"]["status"] == "not_applicable"
    assert all(outcome["sentence"] for outcome in results.values())


def test_pdf_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_text("not a PDF")
    assert_refused(run("verify", tmp_path / "report.pdf"), "report.pdf" if False else "PDF")
    assert_refused(run("verify", tmp_path / "absent.pdf"), "no such file")


def test_no_project_here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run("status"), "no assessor.yaml", "assessor init")


TORCH = """\
format: 1
catalog: {version: 1.1.0}
system: {name: x, version: "1"}
target:
  task: binary
  model: {load: "system:load_model"}
  data: {train: {load: "system:data"}, test: {load: "system:data"}}
"""

SYSTEM = """\
import torch
from torch import nn


def load_model():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def data():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    x[3, 1] = float('nan')
    return x, y
"""


# --- kills -----------------------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_check_run_resumes(run: Run, tmp_path: Path) -> None:
    """A model that gets slow after a while: the first results are kept, the second run makes the others."""
    slow = SYSTEM.replace("x[3, 1] = float('nan')", "pass").replace("return nn.Linear(3, 2)", "return Slow()") + (
        "\n\nimport os, time\n\nclass Slow(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(3, 2)\n\n    def forward(self, x):\n"
        "        if x.requires_grad and 'SLOW' in os.environ:\n            time.sleep(60)\n        return self.fc(x)\n"
    )
    (tmp_path / "assessor.yaml").write_text(TORCH)
    (tmp_path / "system.py").write_text(slow)
    command = [*ASSESSOR, "check", "run", "--project", str(tmp_path)]
    done = tmp_path / "results"
    with subprocess.Popen(command, env={**os.environ, "SLOW": "1"}, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(done.glob("*/*.json"))) >= 3)
        process.send_signal(signal.SIGKILL)
    before = {path: path.read_bytes() for path in done.glob("*/*.json")}
    assert run("verify", tmp_path).code == 0
    results = json.loads(run("check", "run", "--project", tmp_path, "--json").out)
    assert len(results) == len(load_checks())
    for path, content in before.items():
        assert path.read_bytes() == content
    assert len(list(done.glob("*/*.json"))) == len(load_checks())


def test_killed_answer_keeps_what_was_answered(run: Run, folder: Path) -> None:
    command = [*ASSESSOR, "answer", "PF", "--project", str(folder), "--by", "Ada"]
    catalog = json.loads(run("catalog", "list", "PF", "--json").out)
    draft = folder / ".assessor" / f"draft-{catalog[1]['id']}.json"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        for question in catalog[0]["questions"]:
            if question["role"] == "developer":
                process.stdin.write(
                    {"table": "in | form | clerk\n\n", "text": "a reply\n"}.get(question["type"], "1\n")
                )
        process.stdin.write("half a reply\n")
        process.stdin.flush()
        wait_for(draft.is_file)
        process.send_signal(signal.SIGKILL)
    status = json.loads(run("status", "--project", folder, "--json").out)
    profile = next(state for state in status["dimensions"] if state["id"] == "PF")
    assert profile["answered"] == 1
    assert json.loads(draft.read_text())["replies"] == {catalog[1]["questions"][0]["id"]: "half a reply"}
    assert run("verify", folder).code == 0


# --- the number this tool is known for -------------------------------------------------------------------------------


def test_relative_flatness_equals_the_full_hessian(run: Run, tmp_path: Path) -> None:
    """Trace form from the whole (dm x dm) Hessian by autograd, float64, against what the command prints."""
    import torch
    from torch import nn

    system = SYSTEM.replace("x[3, 1] = float('nan')", "x = x.double()").replace(
        "return nn.Linear(3, 2)", "return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()"
    )
    (tmp_path / "system.py").write_text(system)
    (tmp_path / "assessor.yaml").write_text(
        TORCH + "checks: {generalization.relative_flatness: {normalise: none, max_training_loss: 9}}\n"
    )
    done = run("check", "run", "generalization.relative_flatness", "--project", tmp_path, "--json")
    (result,) = json.loads(done.out)
    told = {metric["name"]: metric["value"] for metric in result["metrics"]}

    scope: dict[str, Callable[[], object]] = {}
    exec(system, scope)
    model, (x, y) = scope["load_model"](), scope["data"]()
    assert isinstance(model, nn.Sequential)
    features = model[:2](x).detach()

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(features @ weight.T + model[2].bias.detach(), y)

    weight = model[2].weight.detach()
    hessian = torch.autograd.functional.hessian(loss, weight)
    assert isinstance(hessian, torch.Tensor)
    traces = torch.einsum("sutu->st", hessian)
    trace = float((weight @ weight.T * traces).sum())
    maximum = sum(
        float(weight[s] @ weight[s] * torch.linalg.eigvalsh(hessian[s, :, s, :])[-1]) for s in range(len(weight))
    )
    assert told["relative_flatness"] == pytest.approx(trace, rel=1e-9)
    assert told["relative_flatness_max"] == pytest.approx(maximum, rel=1e-9)


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_new_folder_is_sound_and_says_the_same_in_every_language(run: Run, tmp_path: Path, language: str) -> None:
    import yaml

    assert run("init", tmp_path / language, "--lang", language).code == 0
    assert run("status", "--project", tmp_path / language, "--lang", language).code == 0
    english = Path(__file__).parents[1] / "templates" / "project" / "assessor.yaml"
    made = yaml.safe_load((tmp_path / language / "assessor.yaml").read_text())
    expected = yaml.safe_load(english.read_text().replace("{{ name }}", language))
    assert made == expected


def test_the_language_of_a_run_ends_with_it(run: Run, tmp_path: Path) -> None:
    from assessor.messages import language

    run("init", tmp_path / "a", "--lang", "de")
    assert language() == "en"


# --- files that should not be loaded ---------------------------------------------------------------------------------


def test_a_model_file_with_dangerous_code_is_not_loaded(run: Run, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, ("touch " + str(tmp_path / "ran"),)

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Payload()))
    (tmp_path / "system.py").write_text(
        SYSTEM.replace("x[3, 1] = float('nan')", "pass") + "\nfrom pathlib import Path\n"
        "(Path(__file__).parent / 'loaded').touch()\n"
    )
    files = TORCH.replace("model: {load: ", "model: {files: [model.pkl], load: ")
    assert files != TORCH
    (tmp_path / "assessor.yaml").write_text(files)
    told = run("check", "run", "reliability.performance", "--project", tmp_path)
    assert told.code == 2
    assert "security.model_file" in told.err
    assert "add --trust" in told.err
    assert not (tmp_path / "loaded").exists()
    (found,) = json.loads(run("check", "run", "security.model_file", "--project", tmp_path, "--json").out)
    assert found["metrics"][0]["name"] == "dangerous_imports"
    assert found["metrics"][0]["value"] == 1
    assert found["danger"]
    trusted = run("check", "run", "reliability.performance", "--project", tmp_path, "--trust", "--json")
    assert trusted.code == 0
    assert [result["check"] for result in json.loads(trusted.out)] == ["reliability.performance"]
    assert (tmp_path / "loaded").exists()
    assert not (tmp_path / "ran").exists()
