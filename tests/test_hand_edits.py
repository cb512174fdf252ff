"""Hand edits: found, refused where nobody may edit or where they have faults, and recorded in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assessor import ledger
from assessor.canonical import sha256_hex
from assessor.errors import AssessorError, ConfigurationError, IntegrityError, UsageError
from assessor.hand_edits import Difference, breaks, hand_edits, record
from assessor.model import CheckRun
from assessor.project import Project

Make = Callable[..., Any]
ANSWER = "S-P: {value: fulfilled, because: seen, by: Ada, at: 2026-11-21T10:00:00Z}\n"


@pytest.fixture
def project(make_folder: Make, make_run: Callable[..., CheckRun]) -> Project:
    """An assessment with a result and two recorded files that people may edit."""
    made: Project = make_folder()
    made.save_run(make_run())
    return made


def recorded(project: Project) -> dict[str, str | None]:
    return ledger.history(project.ledger_bytes()).files


def edit(project: Project, name: str = "assessor.yaml", text: str = "# edited\n") -> None:
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.is_file() else "") + text)


def test_nothing_edited(project: Project) -> None:
    before = project.ledger_bytes()
    assert (hand_edits(project, recorded(project)), breaks(project, recorded(project))) == ([], [])
    assert record(project, by="Ada", because="try") == []
    assert project.ledger_bytes() == before


def test_edits_are_recorded_in_one_line_with_digests_before_and_after(project: Project) -> None:
    known = recorded(project)
    edit(project)
    edit(project, "answers/S-P.yaml", ANSWER)
    (project.folder / "p.csv").unlink()
    (project.folder / "notes.txt").write_text("what the assessment does not read is nobody's matter")
    configured = sha256_hex((project.folder / "assessor.yaml").read_bytes())
    edits = [
        Difference("answers/S-P.yaml", None, sha256_hex(ANSWER.encode())),
        Difference("assessor.yaml", known["assessor.yaml"], configured),
        Difference("p.csv", known["p.csv"], None),
    ]
    assert hand_edits(project, known) == edits
    assert record(project, by="Ada", because="as agreed") == edits
    entry = list(ledger.entries(project.ledger_bytes()))[-1]
    assert (entry.actor, entry.action, entry.because) == ("Ada", "edit by hand", "as agreed")
    assert entry.files == {name: ledger.Change(before=was, after=now) for name, was, now in edits}
    assert hand_edits(project, recorded(project)) == []
    assert ledger.history(project.ledger_bytes()).edits == []
    assert list((project.folder / ".assessor" / "pending").iterdir()) == []


def test_a_removed_file_can_come_back(project: Project) -> None:
    content = (project.folder / "p.csv").read_bytes()
    (project.folder / "p.csv").unlink()
    record(project, by="Ada", because="away")
    (project.folder / "p.csv").write_bytes(content)
    assert [(item.name, item.recorded) for item in record(project, by="Ada", because="back")] == [("p.csv", None)]
    assert hand_edits(project, recorded(project)) == []


def test_the_next_change_by_the_tool_goes_on_from_what_was_recorded(project: Project) -> None:
    edit(project)
    record(project, by="Ada", because="try")
    project.commit({"assessor.yaml": b"by the tool"}, actor="t", action="x")
    assert ledger.history(project.ledger_bytes()).edits == []


def test_an_edit_that_nobody_recorded_stays_visible(project: Project) -> None:
    edit(project)
    project.commit({"assessor.yaml": b"by the tool"}, actor="t", action="x")
    assert ledger.history(project.ledger_bytes()).edits == [ledger.Edit(3, "assessor.yaml")]


def refused(project: Project, error: type[AssessorError], told: str, **words: str) -> None:
    """Recording is refused with these words and leaves everything as it is."""
    before = project.ledger_bytes()
    with pytest.raises(error, match=told):
        record(project, **{"by": "Ada", "because": "try", **words})
    assert project.ledger_bytes() == before
    assert Project(project.folder).ledger_bytes() == before


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("assessor.yaml", "nonsense: 1\n", r"assessor\.yaml:\d+ nonsense"),
        ("assessor.yaml", "a: [\n", r"assessor\.yaml:\d+"),
        ("answers/S-P.yaml", "S-P: {value: perhaps}\n", r"answers/S-P\.yaml:1"),
        ("answers/S-P.yaml", ANSWER.replace("S-P", "S-X"), "no requirement 'S-X'"),
        ("audit/S-P.yaml", "S-P: {value: fulfilled}\n", r"audit/S-P\.yaml:1"),
        ("audit/summary.yaml", "x: 1\n", r"audit/summary\.yaml:1"),
        ("prefill.yaml", "x: 1\n", r"prefill\.yaml:1"),
        ("evidence.yaml", "x: 1\n", r"evidence\.yaml:1"),
    ],
)
def test_what_could_not_be_read_is_not_recorded(project: Project, name: str, text: str, told: str) -> None:
    edit(project, name, text)
    refused(project, ConfigurationError, told)


@pytest.mark.parametrize("words", [{"by": ""}, {"by": " "}, {"because": ""}, {"because": "\n"}])
def test_nobody_and_nothing_are_no_record(project: Project, words: dict[str, str]) -> None:
    edit(project)
    refused(project, UsageError, "wanted  --by NAME --because TEXT", **words)


def result_of(project: Project) -> Path:
    return next((project.folder / "results" / "trial.share").glob("*.json"))


BREAKS: dict[str, Callable[[Project], object]] = {
    "changed": lambda project: result_of(project).write_bytes(result_of(project).read_bytes() + b" "),
    "gone": lambda project: result_of(project).unlink(),
    "strange": lambda project: result_of(project).with_name("other.json").write_bytes(b"{}"),
    "index": lambda project: (project.folder / "results" / "index.json").write_bytes(b"{}"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_changed_result_is_never_recorded(project: Project, name: str) -> None:
    BREAKS[name](project)
    edit(project)
    refused(project, IntegrityError, "never edited by hand")
    assert [item.name for item in hand_edits(project, recorded(project))] == ["assessor.yaml"]


def test_evidence_and_recorded_reports_are_never_recorded_either(project: Project) -> None:
    files = {f"evidence/{'a' * 64}/x.md": b"x", "reports/r.pdf": b"x"}
    project.commit(files, actor="t", action="x")
    for name in files:
        (project.folder / name).write_bytes(b"y")
        refused(project, IntegrityError, name)
        (project.folder / name).write_bytes(b"x")
    assert record(project, by="Ada", because="try") == []


def test_a_broken_chain_records_nothing(project: Project) -> None:
    path = project.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"tester", b"another", 1))
    edit(project)
    refused(project, IntegrityError, r"ledger\.jsonl:1: this line was changed")


@pytest.mark.slow
def test_death_at_every_step_of_recording(tmp_path: Path) -> None:
    """See killing.py."""
    killing = Path(__file__).with_name("killing.py")
    command = [sys.executable, str(killing), str(tmp_path), "record"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deaths" in done.stdout
