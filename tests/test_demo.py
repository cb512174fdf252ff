"""The main job on real data: demo, verification, resumption, the gate, the same bytes twice."""

import json
import shutil
import subprocess
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path

import pytest
from commands import Run, ended
from test_translations import ALIKE
from verapdf import verdicts

from assessor import yamlfile
from assessor.assessment import Assessment
from assessor.canonical import sha256_hex
from assessor.charts import plot_svg
from assessor.claims import read_claims
from assessor.messages import _, is_retold, speaking
from assessor.model import CheckRun
from assessor.project import Project
from assessor.registry import load_checks

pytestmark = pytest.mark.slow  # make demo runs it in make test's stead
SYSTEMS = ["diabetes", "digits"]


@pytest.fixture(scope="module", params=SYSTEMS)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "demo"
    assert ended("demo", folder, "--system", request.param) == 0
    return folder


def test_report_verifies_and_one_byte_breaks_it(demo: Path, tmp_path: Path) -> None:
    (report,) = (demo / "reports").glob("*.pdf")
    assert ended("verify", report, "--trust", demo / "keys" / "ca.pem") == 0
    assert ended("verify", demo) == 0
    data = bytearray(report.read_bytes())
    data[len(data) // 3] ^= 0x01
    changed = tmp_path / "changed.pdf"
    changed.write_bytes(data)
    assert ended("verify", changed) == 4


GROUPS = {"age group", "sex", "fast", "slow"}  # the system's own words, which stay


def test_every_metric_and_column_has_a_german_name(demo: Path) -> None:
    assessment = Assessment.read(Project(demo))
    names = {metric.name for run in assessment.runs.values() for metric in run.metrics}
    for run in assessment.runs.values():
        for table in (table for table in run.tables if "\\" not in table.columns[0]):
            joined = {f"{name}{end}" for name in table.columns for end in ("_low", "_high", " low", " high")}
            names |= {name for name in table.columns if name not in joined and not name.isdigit()}
    words = {name.replace("_", " ") for name in names} - GROUPS
    with speaking("de"):
        assert sorted(word for word in words if not is_retold(word) and _(word) == word and word not in ALIKE) == []


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
    assert ended("status", "--project", demo, "--json") == 0
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
    assert ended("check", "run", "--project", demo) == 0
    assert sorted((demo / "results").glob("*/*.json")) == before
    capsys.readouterr()
    assert ended("check", "run", "--project", demo, "--fresh", "--json") == 0
    runs = json.loads(capsys.readouterr().out)
    for again in (run for run in runs if run["check"] != "reliability.latency"):  # which measures time
        (path,) = [path for path in before if path.parent.name == again["check"]]
        first = json.loads(path.read_bytes())
        for name in ("started", "seconds", "peak_memory_bytes"):
            first.pop(name), again.pop(name)
        assert first == again


def test_gate_tells_the_failures(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = ended("gate", "--project", demo, "--format", "json")
    decision = json.loads(capsys.readouterr().out)
    assert code == decision["exit_code"]
    assert code == (1 if decision["blocking"] else 3)


def test_demo_overwrites_nothing(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("demo", demo) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_register_is_one_of_a_real_team(demo: Path, run: Run) -> None:
    register = {item["name"]: item for item in json.loads(run("evidence", "list", "--project", demo, "--json").out)}
    assert {item["classification"] for item in register.values()} == {"public", "internal", "confidential"}
    assert all(item["owner"] and item["title"] and item["requirements"] for item in register.values())
    assert {item["type"] for item in register.values()} >= {"document", "test_report", "data"}
    assert sum(len(item["requirements"]) > 1 for item in register.values()) >= 3
    (withheld,) = [item for item in register.values() if item["withheld"]]
    assert withheld["classification"] == "confidential"
    assert f"/evidence/{withheld['id']}/\n" in (demo / ".gitignore").read_text()
    (referenced,) = [item for item in register.values() if item["uri"]]
    package, inside = referenced["uri"].removeprefix("pkg:pypi/").split("#")
    assert package == f"scikit-learn=={version('scikit-learn')}".replace("==", "@")
    content = Path(str(distribution("scikit-learn").locate_file(inside))).read_bytes()
    assert (sha256_hex(content), len(content)) == (referenced["id"], referenced["size"])
    assert not (demo / "evidence" / referenced["id"]).exists()
    card = register["model_card.md"]["provenance"]
    assert (card["format"], card["source"]) == ("model card", register["model_card.md"]["id"])
    assert "accuracy by hand" in card["findings"][0]["name"]
    (report,) = (demo / "reports").glob("*.pdf")
    assert read_claims(report).record["evidence"].keys() == {item["id"] for item in register.values()}


def test_a_copy_without_what_is_withheld_verifies(demo: Path, run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(demo, tmp_path / "copy", ignore=shutil.ignore_patterns(".assessor"))
    (withheld,) = [path.strip("/") for path in (copy / ".gitignore").read_text().splitlines() if "evidence" in path]
    shutil.rmtree(copy / withheld)
    assert run("verify", copy).code == 0
    assert run("evidence", "check", "--project", copy).code == 0


@pytest.mark.parametrize("system", ["diabetes", "digits"])
def test_the_evidence_is_the_same_in_every_language(system: str) -> None:
    folder = Path(str(files("assessor.templates"))) / "demo" / system
    english, german = (yamlfile.read(folder / "evidence" / name).data for name in ("evidence.yaml", "evidence.de.yaml"))
    texts = {"title", "owner", "withheld"}
    assert english.keys() == german.keys()
    for name, said in english.items():
        assert {key: said[key] for key in said.keys() - texts} == {
            key: german[name][key] for key in german[name].keys() - texts
        }
        assert said.keys() == german[name].keys()
        there = [(folder / "evidence" / file).is_file() for file in (name, f"{Path(name).stem}.de{Path(name).suffix}")]
        assert there == [not said.get("installed")] * 2
    named = {name for one in yamlfile.read(folder / "answers.yaml").data.values() for name in one.get("evidence", [])}
    assert named <= english.keys()
