"""The main job on real data: demo, verification, resumption, the gate, the same bytes twice."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from verapdf import verdicts

from assessor.charts import plot_svg
from assessor.cli import main
from assessor.model import CheckRun
from assessor.registry import load_checks

SYSTEMS = ["diabetes", pytest.param("digits", marks=pytest.mark.slow)]


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module", params=SYSTEMS)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "demo"
    assert run("demo", folder, "--system", request.param) == 0
    return folder


def test_report_verifies_and_one_byte_breaks_it(demo: Path, tmp_path: Path) -> None:
    (report,) = (demo / "reports").glob("*.pdf")
    assert run("verify", report, "--trust", demo / "keys" / "ca.pem") == 0
    assert run("verify", demo) == 0
    data = bytearray(report.read_bytes())
    data[len(data) // 3] ^= 0x01
    changed = tmp_path / "changed.pdf"
    changed.write_bytes(data)
    assert run("verify", changed) == 4


@pytest.mark.slow
def test_report_is_for_the_archive_and_for_everybody(demo: Path) -> None:
    (report,) = (demo / "reports").glob("*.pdf")  # signed: the fields of the signatures are in it
    assert verdicts(report, "3a", "ua1") == {"3a": "PASS", "ua1": "PASS"}


@pytest.mark.skipif(shutil.which("pdfsig") is None, reason="needs pdfsig (poppler-utils)")
def test_pdfsig_agrees(demo: Path) -> None:
    (report,) = (demo / "reports").glob("*.pdf")
    told = subprocess.run(["pdfsig", str(report)], capture_output=True, text=True, check=False).stdout
    assert "Signature is Valid" in told
    assert "Total document signed" in told


def test_every_check_ran_and_none_is_in_error(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("status", "--project", demo, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    outcomes = {check: outcome["status"] for check, outcome in status["checks"].items()}
    assert len(outcomes) == len(load_checks()) - demo.parent.name.startswith("digits")  # one is switched off
    assert "error" not in outcomes.values()
    assert outcomes["generalization.relative_flatness"] == "measured"
    assert (outcomes["fairness.group_metrics"] == "not_applicable") == (demo.parent.name.startswith("digits"))


def test_every_plot_is_drawn(demo: Path) -> None:
    checks, drawn = load_checks(), 0
    for path in (demo / "results").glob("*/*.json"):
        run = CheckRun.model_validate_json(path.read_bytes())
        if run.result is not None and checks[run.check].plot is not None:
            assert "<svg" in (plot_svg(checks[run.check], run.result) or ""), run.check
            drawn += 1
    assert drawn > 25


def test_second_run_measures_nothing_and_a_fresh_one_the_same(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((demo / "results").glob("*/*.json"))
    assert run("check", "run", "--project", demo) == 0
    assert sorted((demo / "results").glob("*/*.json")) == before
    capsys.readouterr()
    assert run("check", "run", "--project", demo, "--fresh", "--json") == 0
    runs = json.loads(capsys.readouterr().out)
    for again in (run for run in runs if run["check"] != "reliability.latency"):  # which measures time
        (path,) = [path for path in before if path.parent.name == again["check"]]
        first = json.loads(path.read_bytes())
        for name in ("started", "seconds", "peak_memory_bytes"):
            first.pop(name), again.pop(name)
        assert first == again


def test_gate_tells_the_failures(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = run("gate", "--project", demo, "--format", "json")
    decision = json.loads(capsys.readouterr().out)
    assert code == decision["exit_code"]
    assert code == (1 if decision["blocking"] else 3)


def test_demo_overwrites_nothing(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", demo) == 2
    assert "not empty" in capsys.readouterr().err
