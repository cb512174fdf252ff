"""Measuring again: what holds, what does not, what cannot be told; and what a stranger's report may not reach."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ended
from hypothesis import given
from hypothesis import strategies as st
from verapdf import verdicts

from assessor.assessment import Assessment, measure
from assessor.auditing import Judgement, raise_assurance, save_settings
from assessor.canonical import canonical_json, sha256_hex
from assessor.claims import Claims, read_claims
from assessor.contract import Better, Metric
from assessor.errors import IntegrityError, UsageError
from assessor.model import Assurance, CheckRun, Status
from assessor.project import Project
from assessor.report import report_pdf
from assessor.rerun import Agreement, Replacement, agreement, redone, rerun, target_of
from assessor.rerun_report import rerun_content, rerun_html, rerun_pdf

Make = Callable[..., Any]
CHECKS = ["fairness.group_metrics", "reliability.performance"]
OTHER = "y,p,s,sex\n" + "".join(f"{i % 2},{i % 3 == 0:d},0.5,{'fm'[i % 2]}\n" for i in range(20))


@pytest.fixture
def project(make_folder: Make) -> Project:
    made: Project = make_folder(
        targets={"reliability.performance": {"interval": [0.1, None], "because": "a trial"}},
        checks={"fairness.group_metrics": {"minimum_group": 2}},
    )
    measure(made, CHECKS)
    return made


def metric(value: float, low: float | None = None, high: float | None = None) -> Metric:
    return Metric(name="share", value=value, low=low, high=high, n=9, better=Better.HIGHER, method="made up")


# --- agreement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "again", "wanted"),
    [
        (metric(0.5, 0.4, 0.6), metric(0.5, 0.4, 0.6), Agreement.IDENTICAL),
        (metric(0.5), metric(0.5), Agreement.IDENTICAL),
        (metric(0.5, 0.4, 0.6), metric(0.55, 0.45, 0.65), Agreement.AGREES),
        (metric(0.5, 0.4, 0.6), metric(0.55, 0.51, 0.65), Agreement.DIFFERS),  # the claimed value is outside
        (metric(0.5, 0.4, 0.6), metric(0.7, 0.4, 0.9), Agreement.DIFFERS),
        (metric(0.5, 0.4, 0.6), metric(0.55), Agreement.DIFFERS),
        (metric(0.5), metric(0.5 + 1e-8), Agreement.AGREES),
        (metric(0.5), metric(0.501), Agreement.DIFFERS),
        (metric(0.5, 0.5, 0.5), metric(0.5 + 1e-9, 0.5, 0.6), Agreement.AGREES),
        (metric(0.0), metric(1e-15), Agreement.AGREES),
        (metric(0.5), None, Agreement.MISSING),
    ],
)
def test_when_numbers_agree(claimed: Metric, again: Metric | None, wanted: Agreement) -> None:
    assert agreement(claimed, again) is wanted


@given(st.tuples(*[st.floats(-9, 9)] * 3), st.tuples(*[st.floats(-9, 9)] * 3))
def test_agreement_has_no_direction(one: tuple[float, ...], two: tuple[float, ...]) -> None:
    (low, value, high), (down, other, up) = sorted(one), sorted(two)
    first, second = metric(value, low, high), metric(other, down, up)
    assert agreement(first, second) is agreement(second, first)


def test_whatever_differs_is_said(make_run: Make) -> None:
    claimed: CheckRun = make_run()
    assert redone(claimed, claimed).held is True
    subject = claimed.subject.model_copy(update={"model_sha256": "1" * 64})
    other = claimed.model_copy(update={"subject": subject, "metrics": (metric(0.9, 0.8, 1.0),)})
    found = redone(claimed, other)
    assert (found.held, found.because) == (
        False,
        (
            "The model is not the one of the report: its digest differs.",
            "These numbers differ by more than their intervals allow: share.",
        ),
    )
    assert redone(claimed, other, repeatable=False).because == found.because[:1]
    gone = redone(claimed, make_run(status="not_applicable"))
    assert gone.because == (
        "These numbers were not measured: share.",
        "The verdict is not_applicable, claimed was pass.",
    )
    crashed = redone(claimed, make_run(status="error", sentence="no memory"))
    assert (crashed.held, crashed.because) == (None, ("It could not be measured: no memory",))
    newer = redone(claimed, claimed.model_copy(update={"check_version": "2"}))
    assert (newer.held, newer.differences) == (True, ("version 2 of the check, claimed with 1",))


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_a_folder_a_record_and_a_report_hold(project: Project, tmp_path: Path) -> None:
    found = Assessment.read(project)
    (tmp_path / "record.json").write_bytes(canonical_json(found.record()))
    (tmp_path / "report.pdf").write_bytes(report_pdf(found, {}))
    for name, told in (("assessment", "folder"), ("record.json", "record"), ("report.pdf", "without a signature")):
        claims = read_claims(tmp_path / name)
        assert told in claims.integrity
        again = rerun(claims, project.folder, tmp_path / f"again {name}")
        assert again.held
        assert [item.check for item in again.checks] == CHECKS
        assert {number.agreement for item in again.checks for number in item.numbers} == {Agreement.IDENTICAL}
        assert [item.again for item in again.checks] == [Status.MEASURED, Status.PASS]


def test_other_data_do_not_hold(project: Project, tmp_path: Path) -> None:
    claims = read_claims(project.folder)
    table = tmp_path / "other.csv"
    table.write_text(OTHER)
    found = rerun(claims, project.folder, tmp_path / "again", replacement=Replacement(str(table)))
    assert not found.held
    assert found.replaced == (f"model: {table}",)
    assert all("The data are not those of the report: the digest differs for test." in c.because for c in found.checks)
    page = rerun_html(found)
    assert "0 of 2 checks hold" in page
    assert "differs" in page
    assert rerun_content(found)["counts"] == {"held": 0, "total": 2}


@pytest.mark.slow
def test_the_report_is_for_the_archive_and_for_everybody(project: Project, tmp_path: Path) -> None:
    found = rerun(read_claims(project.folder), project.folder, tmp_path / "again")
    (tmp_path / "rerun.pdf").write_bytes(rerun_pdf(found))
    assert verdicts(tmp_path / "rerun.pdf", "3a", "ua1") == {"3a": "PASS", "ua1": "PASS"}


def test_a_stopped_run_goes_on(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims, output = read_claims(project.folder), tmp_path / "again"
    rerun(claims, project.folder, output, CHECKS[:1])
    kept = {path: path.stat().st_mtime_ns for path in (output / "results").iterdir()}
    assert len(kept) == 1
    found = rerun(claims, project.folder, output)
    assert found.held
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list((output / "results").iterdir())) == 2
    rerun(claims, project.folder, output, CHECKS[:1], fresh=True)
    assert {path: path.stat().st_mtime_ns for path in kept} != kept


@pytest.mark.slow
def test_the_command(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended("rerun", project.folder, "--output", "again") == 0
    assert "2 of 2 checks hold" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"results", "rerun.json", "rerun.pdf"}
    assert ended("rerun", "again/rerun.pdf") == 2
    assert "claims nothing itself" in capsys.readouterr().err
    assert ended("verify", "again/rerun.pdf", "--json") == 4  # not signed
    found = {item["name"]: item for item in json.loads(capsys.readouterr().out)["checks"]}
    assert {name for name, item in found.items() if item["status"] == "failed"} == {"signature"}
    assert found["printed digest"]["status"] == "ok"
    assert found["rerun"]["sentence"].startswith("Says that 2 of 2 checks of report AR-")
    (project.folder / "p.csv").write_text(OTHER)
    assert ended("rerun", project.folder, "--output", "other", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "other" / "rerun.json").read_bytes())
    assert [check["held"] for check in said["checks"]] == [False, False]
    assert ended("rerun", project.folder, "fairness.intersectional") == 2
    assert "the report claims nothing of this check" in capsys.readouterr().err
    assert ended("rerun", project.folder, "--data", "nowhere=x.csv") == 2
    assert ended("rerun", project.folder, "--record", project.folder) == 2
    assert ended("rerun", tmp_path / "none.pdf") == 2


def test_a_check_that_is_not_here_cannot_be_measured_again(project: Project, tmp_path: Path) -> None:
    record = Assessment.read(project).record()
    item = record["results"].pop(CHECKS[0])
    for name, changes in (("strange.check", {"check": "strange.check"}), (CHECKS[0], {"params": {"no": "such"}})):
        result = {**item["result"], **changes}
        record["results"][name] = {**item, "result": result, "sha256": sha256_hex(canonical_json(result))}
    (tmp_path / "record.json").write_bytes(canonical_json(record))
    found = {item.check: item for item in rerun(read_claims(tmp_path / "record.json"), project.folder, tmp_path).checks}
    assert found["strange.check"].because == ("This check is not installed here.",)
    assert found[CHECKS[0]].held is None
    assert "parameters are those of version" in found[CHECKS[0]].because[0]
    assert found[CHECKS[1]].held is True


def test_assurance_is_raised_where_all_results_held(project: Project) -> None:
    requirement = Assessment.read(project).runs[CHECKS[1]].requirements[0]
    save_settings(project, [f"{requirement}=fulfilled"], Judgement(because="seen"), by="auditor")
    digests = {name: sha256_hex(canonical_json(run)) for name, run in project.runs().items()}
    assert raise_assurance(project, {CHECKS[1]: "0" * 64}, by="second") == []
    assert raise_assurance(project, {CHECKS[0]: digests[CHECKS[0]]}, by="second") == []
    assert raise_assurance(project, digests, by="second") == [requirement]
    audit = Assessment.read(project).audits[requirement]
    assert (audit.assurance, audit.by, audit.because) == (Assurance.RE_PERFORMED, "auditor", "seen")
    assert audit.comment.startswith("measured again by second on ")
    assert raise_assurance(project, digests, by="second") == []


# --- a stranger's report ---------------------------------------------------------------------------------------------


def changed(project: Project, tmp_path: Path, *path: str, value: object) -> Claims:
    record = Assessment.read(project).record()
    inner = record["configuration"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / "record.json").write_bytes(canonical_json(record))
    return read_claims(tmp_path / "record.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("target", "model", "predictions"), "/etc/hostname"),
        (("target", "model", "predictions"), "../assessment/p.csv"),
        (("target", "model", "predictions"), "missing.csv"),
        (("target", "model"), {"load": "os:getcwd"}),
        (("target", "model"), {"load": "json.tool:main"}),
        (("target", "model", "files"), ["/etc/passwd"]),
        (("target", "dependencies"), ["../../secret"]),
        (("target", "data", "test", "file"), "/etc/hostname"),
        (("target", "data", "train"), {"load": "subprocess:getoutput"}),
        (("target", "data", "train"), {"images": "/usr/share/icons"}),
        (("target", "data", "train"), {"dataset": "../other"}),
        (("target", "baseline"), {"load": "shutil:rmtree"}),
        (("target", "baseline"), {"state_dict": "/tmp/w.pt", "build": "system:build"}),
        (("target", "model"), {"onnx": "../m.onnx"}),
        (("target", "model"), {"transformers": "/usr"}),
        (("target", "model"), {"safetensors": "p.csv", "build": "shutil:rmtree"}),
    ],
)
def test_a_report_reaches_nothing_outside_the_folder(
    project: Project, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    claims = changed(project, tmp_path, *path, value=value)
    with pytest.raises(UsageError, match=r"the report names '.*', which is not in"):
        target_of(claims, project.folder, Replacement())


def test_a_reports_query_is_not_asked(project: Project, tmp_path: Path) -> None:
    query = {"sql": {"url_env": "DATABASE_URL", "query": "SELECT * FROM t ORDER BY id"}, "label": "y"}
    claims = changed(project, tmp_path, "target", "data", "test", value=query)
    with pytest.raises(UsageError, match="the report names a query, and what a report names is not asked"):
        target_of(claims, project.folder, Replacement())
    spec = target_of(claims, project.folder, Replacement(data={"test": str(project.folder / "p.csv")})).data.test
    assert (spec.sql, spec.label) == (None, "y")


def test_a_link_out_of_the_folder_is_outside(project: Project, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(OTHER)
    (project.folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    claims = changed(project, tmp_path, "target", "model", "predictions", value="link.csv")
    with pytest.raises(UsageError, match=r"link\.csv"):
        target_of(claims, project.folder, Replacement())
    assert target_of(claims, project.folder, Replacement(str(tmp_path / "secret.csv"))).model.predictions


def test_a_folder_with_a_link_out_of_it_is_outside(project: Project, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"s")
    (project.folder / "net").mkdir()
    claims = changed(project, tmp_path, "target", "model", value={"transformers": "net"})
    assert target_of(claims, project.folder, Replacement()).model.transformers == "net"
    (project.folder / "net" / "model.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(UsageError, match="the report names 'net', which is not in"):
        target_of(claims, project.folder, Replacement())


def test_an_address_in_a_report_is_not_asked(project: Project, tmp_path: Path) -> None:
    claims = changed(project, tmp_path, "target", "model", value={"endpoint": "https://inside.example/admin"})
    with pytest.raises(UsageError, match=r"names the address https://inside\.example/admin, and what a report"):
        target_of(claims, project.folder, Replacement())
    mine = target_of(claims, project.folder, Replacement("https://mine.example/m")).model.endpoint
    assert mine is not None
    assert mine.url == "https://mine.example/m"
    assert target_of(claims, project.folder, Replacement(str(project.folder / "p.csv"))).model.endpoint is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no json", "is neither a PDF report nor the record of one"),
        (b"[" * 100_000, "is neither a PDF report nor the record of one"),
        (b"[]", "is no record of an assessment"),
        (b"{}", "is no record of an assessment: no 'format'"),
        (b'{"format": 2}', "a record of format 2, wanted 1"),
        (b'{"format": 1, "configuration": {}, "results": {}}', "is no record of an assessment"),
    ],
)
def test_what_is_no_record(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        read_claims(tmp_path / "r.json")


def test_a_changed_record_and_a_changed_report_are_refused(project: Project, tmp_path: Path) -> None:
    record = Assessment.read(project).record()
    record["results"][CHECKS[0]]["result"]["seed"] = 7
    (tmp_path / "r.json").write_bytes(canonical_json(record))
    with pytest.raises(IntegrityError, match="do not have the digest stated beside them: fairness"):
        read_claims(tmp_path / "r.json")
    nothing = {**record, "results": {}}
    (tmp_path / "r.json").write_bytes(canonical_json(nothing))
    with pytest.raises(UsageError, match="nothing was measured there"):
        rerun(read_claims(tmp_path / "r.json"), project.folder, tmp_path / "out")
