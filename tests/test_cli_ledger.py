"""`assessor ledger`, and what status, verify and the report say of the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from assessor import ledger
from assessor.assessment import Assessment
from assessor.canonical import canonical_json
from assessor.model import CheckRun
from assessor.project import Project
from assessor.report import report_html
from assessor.verify import verify

Make = Callable[..., Any]
RECORD = "assessor ledger record --by NAME --because TEXT"
HOSTILE = "Eve\x1b[2J\x1b]0;owned\x07\x9b31m\u202elive\r[bold]x"
SHOWN = "Eve\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202elive\\r[bold]x"


@pytest.fixture
def project(make_folder: Make) -> Project:
    """An assessment of two ledger lines."""
    made: Project = make_folder()
    made.commit({"answers/S-P.yaml": b""}, actor="Ada", action="answer S-P", because="as agreed")
    return made


@pytest.fixture
def run(project: Project, run: Run) -> Run:
    """Run a command on the assessment."""
    return lambda *arguments: run(*arguments, "--project", project.folder)


def edit(project: Project) -> None:
    path = project.folder / "assessor.yaml"
    path.write_text(path.read_text() + "# edited\n")


# --- show and head ---------------------------------------------------------------------------------------------------


def test_the_history_is_a_table(project: Project, run: Run) -> None:
    edit(project)
    many = {f"evidence/{'a' * 64}/{number}.md": b"x" for number in range(6)}
    project.commit({"assessor.yaml": b"x", **many}, actor="Bob", action="change", because="why\nnot")
    done = run("ledger", "show")
    rows = [re.split(r"  +", line.rstrip()) for line in done.out.splitlines()]
    assert rows[0] == ["line", "time (UTC)", "by", "action", "because", "files"]
    minute = next(ledger.entries(project.ledger_bytes())).time.strftime("%Y-%m-%d %H:%M")
    assert rows[1] == ["1", minute, "tester", "init", "assessor.yaml (new)"]
    assert rows[3][2:] == ["Ada", "answer S-P", "as agreed", "answers/S-P.yaml (new)"]
    assert rows[4][2:] == ["Bob", "change", "why", "assessor.yaml (edited by hand before, without a record)"]
    assert (rows[5][1], rows[-1][1:]) == ("not", ["and 4 more"])
    assert len(rows) == 8


@pytest.mark.slow
def test_the_history_as_json_is_what_the_file_says(project: Project, run: Run) -> None:
    lines = [json.loads(line) for line in project.ledger_bytes().splitlines()]
    wanted = [{"id": line["seq"], **line} for line in lines]
    assert json.loads(run("ledger", "show", "--json").out) == wanted
    assert json.loads(run("ledger", "show", "--json", "--last", "1").out) == wanted[-1:]
    assert json.loads(run("ledger", "show", "--json", "--last", "9").out) == wanted
    assert run("ledger", "show", "--last", "1").out.count("\n") == 2
    assert run("ledger", "show", "--last", "0").code == 2


def test_a_broken_chain_is_told_and_not_shown(project: Project, run: Run) -> None:
    path = project.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Ada", b"Eve"))
    for command in ("show", "head"):
        done = run("ledger", command)
        assert (done.code, done.out) == (4, "")
        assert "ledger.jsonl:2: this line was changed" in done.err


def test_the_head_is_printed_to_be_noted(project: Project, run: Run) -> None:
    tree = ledger.tree_head(project.ledger_bytes())
    assert run("ledger", "head").out == f"size  2\nroot  {tree.root}\nhead  {tree.head}\n"
    assert json.loads(run("ledger", "head", "--json").out) == tree._asdict()
    project.commit({"x": b"x"}, actor="t", action="x")
    assert json.loads(run("ledger", "head", "--json", "--size", "2").out) == tree._asdict()
    assert json.loads(run("ledger", "head", "--json").out)["size"] == 3
    done = run("ledger", "head", "--size", "4")
    assert (done.code, done.err) == (2, "assessor: --size: found 4, the ledger has 3 lines\n")


def test_what_a_terminal_would_obey_is_written_out(project: Project, run: Run) -> None:
    project.commit({f"{HOSTILE}.md": b"x"}, actor=HOSTILE, action=HOSTILE, because=HOSTILE)
    project.commit({f"{HOSTILE}.md": b"y"}, actor="t", action="x")
    shown = run("ledger", "show")
    assert SHOWN[:9] in shown.out
    (project.folder / f"{HOSTILE}.md").write_bytes(b"edited")
    texts = [shown, run("ledger", "show", "--json"), run("status"), run("status", "--json")]
    texts += [run("ledger", "record", "--by", HOSTILE, "--because", HOSTILE)]
    for done in texts:
        assert done.code == 0
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", done.out + done.err)
    assert SHOWN in texts[2].out
    assert json.loads(texts[1].out)[2]["because"] == HOSTILE


# --- record ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hand_edits_are_shown_by_status_and_verify_until_they_are_recorded(project: Project, run: Run) -> None:
    assert "edited by hand" not in run("status").out
    edit(project)
    assert f"edited by hand  assessor.yaml; record it with  {RECORD}\n" in run("status").out
    assert json.loads(run("status", "--json").out)["hand_edits"] == ["assessor.yaml"]
    (found,) = [item for item in verify(project.folder) if item.name == "assessor.yaml"]
    assert (found.status, found.sentence) == ("unknown", f"assessor.yaml was edited by hand; record it with  {RECORD}")
    done = run("ledger", "record", "--by", "Ada", "--because", "as agreed")
    assert (done.code, done.out) == (0, "assessor.yaml\n1 hand edit recorded\n")
    assert "edited by hand" not in run("status").out
    assert {item.status for item in verify(project.folder)} == {"ok"}
    done = run("ledger", "record", "--by", "Ada", "--because", "again")
    assert (done.code, done.out) == (0, "nothing to record: every file is as the ledger has it\n")


def test_what_was_recorded_as_json(project: Project, run: Run) -> None:
    edit(project)
    before = ledger.expected_files(project.ledger_bytes())["assessor.yaml"]
    done = run("ledger", "record", "--by", "Ada", "--because", "x", "--json")
    assert json.loads(done.out) == [{"id": "assessor.yaml", "before": before, "after": project.digest("assessor.yaml")}]
    assert json.loads(run("ledger", "record", "--by", "Ada", "--because", "x", "--json").out) == []


def test_made_and_removed_files_are_told_as_such(project: Project, run: Run) -> None:
    (project.folder / "answers" / "S-P.yaml").unlink()
    (project.folder / "prefill.yaml").write_text("{}\n")
    sentences = {item.name: item.sentence for item in verify(project.folder) if item.status == "unknown"}
    assert sentences == {
        "answers/S-P.yaml": f"answers/S-P.yaml was removed by hand; record it with  {RECORD}",
        "prefill.yaml": f"prefill.yaml was made by hand; record it with  {RECORD}",
    }
    done = run("ledger", "record", "--by", "Ada", "--because", "x")
    assert done.out == "answers/S-P.yaml (removed)\nprefill.yaml (new)\n2 hand edits recorded\n"


def test_refusals_end_as_documented(project: Project, run: Run, make_run: Make) -> None:
    arguments = ("ledger", "record", "--by", "Ada", "--because", "x")
    assert run("ledger", "record", "--by", "Ada").code == 2
    (project.folder / "assessor.yaml").write_text("format: 1\nnonsense: 1\n")
    done = run(*arguments)
    assert (done.code, "assessor.yaml:2 nonsense" in done.err) == (2, True)
    project.commit({"results/x/1.json": b"{}"}, actor="t", action="x")
    (project.folder / "results" / "x" / "1.json").write_bytes(b"[]")
    done = run(*arguments)
    assert done.code == 4
    assert "results/x/1.json: other than recorded, and never edited by hand" in done.err


# --- verify ----------------------------------------------------------------------------------------------------------


def test_earlier_hand_edits_are_told_and_those_of_results_fail(
    project: Project, make_run: Callable[..., CheckRun]
) -> None:
    edit(project)
    project.commit({"assessor.yaml": (project.folder / "assessor.yaml").read_bytes()}, actor="t", action="x")
    findings = {item.name: item for item in verify(project.folder)}
    told = "The ledger tells of hand edits that nobody gave a reason for, of assessor.yaml."
    assert findings["earlier hand edits"].sentence == told
    assert {item.status for item in findings.values()} == {"ok"}
    project.save_run(make_run())
    (project.folder / "results" / "index.json").write_bytes(b"{}")
    project.save_run(make_run("trial.other"))
    (failed,) = [item for item in verify(project.folder) if item.status == "failed"]
    words = "results/index.json was changed by hand before line 5 of the ledger; nobody may edit it."
    assert (failed.name, failed.sentence) == ("results/index.json", words)


def with_report(project: Project, **changes: object) -> Project:
    """The folder with a report that states its ledger, some of it replaced; None takes a member out."""
    import pypdf

    record = Assessment.read(project).record()
    stated = {**record["ledger"], **changes}
    record["ledger"] = {key: value for key, value in stated.items() if value is not None}
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_attachment("assessment.json", canonical_json(record))
    (project.folder / "reports").mkdir(exist_ok=True)
    with (project.folder / "reports" / "r.pdf").open("wb") as stream:
        writer.write(stream)
    return project


def of_report(project: Project) -> tuple[str, str]:
    (found,) = [item for item in verify(project.folder) if item.name == "reports/r.pdf ledger in the report"]
    return found.status, found.sentence


GOES_ON = ("ok", "The folder's ledger goes on from the 2 lines that the report states.")
REWRITTEN = ("failed", "The report's ledger is not the beginning of this folder's: it was rewritten.")
UNKNOWN = ("failed", "The report does not state a ledger in a form that this version knows.")


def rewritten(project: Project) -> None:
    """Another history of the same length, a chain again."""
    path, lines = project.folder / "ledger.jsonl", b""
    for entry in list(ledger.entries(project.ledger_bytes())):
        lines += ledger.append(lines, actor="Eve", action=entry.action, because="", files=entry.files, now=entry.time)[
            0
        ]
    path.write_bytes(lines)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"root": None}])
def test_the_ledger_goes_on_from_what_a_report_states(project: Project, changes: dict[str, object]) -> None:
    with_report(project, **changes)
    assert of_report(project) == GOES_ON
    project.commit({"x": b"x"}, actor="t", action="x")
    assert of_report(project) == GOES_ON
    path = project.folder / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]))
    assert of_report(project) == REWRITTEN
    path.write_bytes(whole)
    rewritten(project)
    assert of_report(project) == REWRITTEN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"root": "0" * 64}, REWRITTEN),
        ({"head": "0" * 64}, REWRITTEN),
        ({"size": 1}, REWRITTEN),
        ({"size": -1}, REWRITTEN),
        ({"size": 2**53 - 1}, REWRITTEN),
        ({"head": None}, REWRITTEN),
        ({"size": None}, UNKNOWN),
        ({"size": []}, UNKNOWN),
        ({"size": "x"}, UNKNOWN),
    ],
)
def test_a_report_that_states_another_ledger(
    project: Project, changes: dict[str, object], told: tuple[str, str]
) -> None:
    assert of_report(with_report(project, **changes)) == told


def test_a_line_changed_under_a_report_without_a_root_is_found(project: Project) -> None:
    with_report(project, root=None)
    path = project.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"tester", b"tamper"))
    status, sentence = of_report(project)
    assert (status, "ledger.jsonl:1: this line was changed" in sentence) == ("failed", True)


def test_the_report_states_size_head_and_root(project: Project) -> None:
    found = Assessment.read(project)
    tree = ledger.tree_head(project.ledger_bytes())
    assert found.record()["ledger"] == tree._asdict()
    page = report_html(found, {})
    said = (
        rf"2 changes recorded, last line <span[^>]*>{tree.head}</span>, tree root \(RFC 6962\) <span[^>]*>{tree.root}"
    )
    assert re.search(said, page)


def test_old_folders_are_read(tmp_path: Path) -> None:
    """A folder without a ledger has an empty one."""
    (tmp_path / "assessor.yaml").write_text("format: 1\ncatalog: {version: 1.1.0}\nsystem: {name: x, version: '1'}\n")
    assert Assessment.read(Project(tmp_path)).record()["ledger"] == ledger.tree_head(b"")._asdict()
