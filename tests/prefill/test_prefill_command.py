"""`assessor prefill`, and the drafts that follow from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from commands import Run

from assessor import yamlfile
from assessor.assessment import Assessment
from assessor.cli.prefill import key_titles
from assessor.prefill import KEYS
from assessor.project import Project
from assessor.questionnaire import drafts

CARD = """\
---
license: apache-2.0
base_model: example/tiny-encoder
---
# Uses

Letters reach the right desk earlier.

# Limitations

- handwriting
- letters with tables

# Training Data

[More Information Needed]
"""
BOM = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [
        {
            "type": "machine-learning-model",
            "name": "router",
            "version": "2.0",
            "description": "routes letters",
            "supplier": {"name": "Example Ltd"},
            "modelCard": {"modelParameters": {"inputs": [{"format": "text"}], "outputs": [{"format": "label"}]}},
        }
    ],
}


@pytest.fixture
def project(make_folder: Callable[..., Project]) -> Project:
    """An assessment with a model card and a bill of materials in its folder."""
    opened = make_folder()
    (opened.folder / "README.md").write_text(CARD)
    (opened.folder / "bom.json").write_text(json.dumps(BOM))
    return opened


def offered(project: Project, requirement: str, name: str) -> list[tuple[Any, str]]:
    found = Assessment.read(project)
    asked = found.catalog.by_id[requirement].question(name)
    assert asked is not None
    return [(draft.value, draft.origin) for draft in drafts(asked, found.scope, found.runs, found.known)]


def test_what_is_found_becomes_drafts(project: Project, run: Run) -> None:
    assert offered(project, "PF-T-FA-01", "q1") == []
    done = run("prefill", "--project", project.folder, "--by", "Ada")
    assert done.code == 0
    assert "model card README.md, section Uses" in done.out
    assert "Nothing is answered yet: a draft only counts once a person has confirmed it." in done.out
    assert offered(project, "PF-T-FA-01", "q1")[0] == (
        "Letters reach the right desk earlier.",
        "model card README.md, section Uses",
    )
    assert offered(project, "PF-T-ST-01", "external") == [
        ("yes", "model card README.md, front matter, base_model: example/tiny-encoder")
    ]
    component = {
        "component": "router 2.0",
        "function": "routes letters",
        "AI or conventional": "AI",
        "made by": "Example Ltd",
    }
    assert offered(project, "PF-T-ST-01", "q1") == [(({**component, "runs where": ""},), "bill of materials bom.json")]
    rows, origin = offered(project, "RE-R-RO-RI-01", "q1")[0]
    assert [row["disturbance"] for row in rows] == ["handwriting", "letters with tables"]
    assert origin == "model card README.md, section Limitations"
    assert offered(project, "RE-R-SC-ME-01", "q1") == []  # the section holds its place only
    assert project.answers(Assessment.read(project).catalog) == {}


def test_the_ledger_tells_who_looked_where(project: Project, run: Run) -> None:
    run("prefill", "--project", project.folder, "--by", "Ada")
    entry = json.loads(project.ledger_bytes().splitlines()[-1])
    assert (entry["actor"], entry["action"], entry["because"]) == ("Ada", "prefill", "README.md, bom.json")
    assert list(entry["files"]) == ["prefill.yaml"]


def test_json_counts_the_questions_with_a_draft(project: Project, run: Run) -> None:
    first = json.loads(run("prefill", "--project", project.folder, "--json").out)
    assert first["sources"] == ["README.md", "bom.json"]
    assert first["found"]["licence"] == [
        {"value": "apache-2.0", "origin": "model card README.md, front matter, license"}
    ]
    assert first["open"]["drafted_before"] == 0
    assert 10 < first["open"]["drafted"] < first["open"]["questions"]
    again = json.loads(run("prefill", "--project", project.folder, "--json").out)
    assert again["open"]["drafted_before"] == again["open"]["drafted"] == first["open"]["drafted"]


def test_named_files_replace_what_was_found_before(project: Project, run: Run) -> None:
    run("prefill", "--project", project.folder)
    assert run("prefill", "--project", project.folder, project.folder / "bom.json").code == 0
    assert list(project.known()) == ["purpose", "inputs_outputs", "components", "contact", "release"]
    assert (
        run("prefill", "--project", project.folder, project.folder / "bom.json", project.folder / "README.md").code == 0
    )
    assert project.known()["purpose"][0].value == "routes letters"


def test_a_repository_around_the_assessment_is_read(project: Project, run: Run) -> None:
    folder = project.folder.parent
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    found = json.loads(run("prefill", "--project", project.folder, "--json").out)
    assert found["sources"] == ["README.md", "bom.json"]
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True, cwd=folder)
    found = json.loads(run("prefill", "--project", project.folder, "--json").out)
    assert found["sources"] == [*("assessment/README.md", "assessment/bom.json"), f"git repository {folder.name}"]
    assert found["found"]["change_history"][0]["value"].startswith("- 1 commit, 1 committer")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("README.md", "---\nlicense: [\n---\n", "README.md:3 not readable as YAML"),
        ("x.cdx.json", "{", "x.cdx.json:1 not readable as JSON"),
        ("README.md", "---\nlicense:\n---\n", "found no statement in README.md; prefill.yaml stays as it is"),
    ],
)
def test_faults_end_in_exit_code_2_and_change_nothing(
    make_folder: Callable[..., Project], run: Run, name: str, content: str, told: str
) -> None:
    project = make_folder()
    (project.folder / name).write_text(content)
    done = run("prefill", "--project", project.folder)
    assert done.code == 2
    assert told in done.err
    assert not (project.folder / "prefill.yaml").exists()


def test_nothing_to_read_is_told(make_folder: Callable[..., Project], run: Run) -> None:
    project = make_folder()
    done = run("prefill", "--project", project.folder)
    assert done.code == 2
    assert "found no model card, bill of materials or git repository; name the files" in " ".join(done.err.split())


def test_markup_in_files_is_shown_as_it_is(make_folder: Callable[..., Project], run: Run) -> None:
    project = make_folder()
    (project.folder / "card.md").write_text("# Uses\n\n[bold]x[/bold] [/] \x1b[31m\n")
    done = run("prefill", "--project", project.folder, project.folder / "card.md")
    assert done.code == 0
    assert "[bold]x[/bold] [/] [31m" in done.out
    assert "\x1b[31m" not in done.out
    assert "\x1b" not in yamlfile.read(project.folder / "prefill.yaml").data["purpose"][0]["value"]


def test_every_key_has_a_title() -> None:
    assert tuple(key_titles()) == KEYS


def test_starting_needs_nothing_heavy(project: Project) -> None:
    code = (
        f"import sys; from assessor.cli import main\n"
        f"try: main(['prefill', '--project', {str(project.folder)!r}])\n"
        f"except SystemExit: pass\n"
        f"assert not {{'torch', 'sklearn', 'weasyprint'}} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
