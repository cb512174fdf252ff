"""A person at a terminal of 80 columns: a whole area answered, killed in the middle, and gone on with."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pexpect
import pytest

from assessor.applicability import Scope
from assessor.criteria import load_catalog
from assessor.project import Project
from assessor.questionnaire import due

ASSESSOR = [sys.executable, "-c", "from assessor.cli import main; main()"]
AREA = "TR-R-CD"
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
CONFIGURATION = """\
format: 1
catalog: {id: ai-assessment-catalog, version: 1.1.0}
system: {name: Mail sorter, version: '1'}
protection_needs: {transparency: {level: high, because: clerks follow it}}
"""
TYPED = {
    "text": ["An answer of some words"],
    "table": ["a cell | another", "a second row", ""],
    "several": ["1"],
    "number": ["12,5"],
    "interval": ["0..0.1"],
    "date": ["2026-11-21"],
    "person": ["Ada Lovelace, quality"],
    "file": ["notes.md"],
}


class Terminal:
    """`assessor answer AREA` under a terminal of 80 columns, and all it showed."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.shown = ""
        arguments = [*ASSESSOR[1:], "answer", AREA, "--by", "Ada", "--project", str(folder), *more]
        self.process = pexpect.spawn(
            ASSESSOR[0], arguments, cwd=str(folder), encoding="utf-8", dimensions=(40, 80), timeout=60, echo=False
        )

    def until_prompt(self) -> str:
        """Text since the last prompt; empty at the end."""
        found = self.process.expect([r"(?:^|\n)(> |… )$", pexpect.EOF])
        text = ANSI.sub("", str(self.process.before)).replace("\r", "")
        self.shown += text
        return text if found == 0 else ""

    def say(self, line: str) -> None:
        self.process.sendline(line)


def reply_to(text: str) -> list[str]:
    """What a patient person types, by what the screen asks."""
    if "So the requirement is" in text:
        return ["2"]
    if "Because" in text.splitlines()[-1] or "Enter keeps" in text:
        return [""]
    if "another file" in text:
        return [""]
    if "Evidence" in text:
        return ["+notes.md"] if "notes.md" not in text else [""]
    if "Which document is it?" in text:
        return ["1"]
    if "one row a line" in text:
        return TYPED["table"]
    if "an interval such as" in text:
        return TYPED["interval"]
    if "a number" in text:
        return TYPED["number"]
    if "a day such as" in text:
        return TYPED["date"]
    if re.search(r"^  1  ", text, re.MULTILINE):
        return ["1"]
    return TYPED["text"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Project.create(tmp_path, {"assessor.yaml": CONFIGURATION.encode()}, actor="t", action="init")
    (tmp_path / "notes.md").write_text("what was looked at")
    return tmp_path


def left(folder: Path) -> list[str]:
    project = Project(folder)
    catalog = load_catalog()
    return [item.id for item in due(Scope(catalog, project.configuration(), project.answers(catalog)), AREA)]


def answer_until(terminal: Terminal, stop: str | None = None) -> None:
    """Answer until a requirement comes up, or to the end."""
    while text := terminal.until_prompt():
        if stop and stop in text:
            return
        for line in reply_to(text):
            terminal.say(line)
            if line and line != reply_to(text)[-1]:
                terminal.until_prompt()


@pytest.mark.slow
def test_a_whole_area_killed_in_the_middle(folder: Path) -> None:
    everything = left(folder)
    assert len(everything) >= 5
    terminal = Terminal(folder)
    answer_until(terminal, stop=everything[2])
    for line in reply_to(terminal.shown.rpartition(everything[2])[2]):
        terminal.say(line)  # a first reply to the third requirement, which is not finished
    terminal.until_prompt()
    terminal.process.kill(signal.SIGKILL)
    terminal.process.wait()
    assert left(folder) == everything[2:]
    draft = json.loads((folder / ".assessor" / f"draft-{everything[2]}.json").read_text())
    assert draft["replies"] or draft["params"]

    again = Terminal(folder)
    answer_until(again)
    assert left(folder) == []
    assert "Enter keeps (said before)" in again.shown  # nobody is asked twice
    assert "Nothing is left here" in again.shown
    answers = Project(folder).answers(load_catalog())
    assert set(everything) <= set(answers)
    assert all(answers[name].by == "Ada" for name in everything)
    attached = [item for name in everything for item in answers[name].evidence]
    assert {item.name for item in attached} == {"notes.md"}

    for line in [*terminal.shown.splitlines(), *again.shown.splitlines()]:
        assert len(line) <= 80, line


@pytest.mark.slow
def test_help_back_skip_later_and_same_as(folder: Path) -> None:
    everything = left(folder)
    terminal = Terminal(folder)
    assert everything[0] in terminal.until_prompt()
    terminal.say("?")
    text = terminal.until_prompt()
    assert "What to do" in text
    assert "What often goes wrong" in text
    terminal.say("/l")
    assert everything[1] in terminal.until_prompt()
    terminal.say(f"={everything[0]}")
    assert "no answered requirement" in terminal.until_prompt()
    terminal.say("/s")
    assert "So the requirement is" not in terminal.until_prompt()  # skipped: the next thing is asked
    terminal.say("q")
    terminal.until_prompt()
    assert "Everything is kept" in terminal.shown
    assert left(folder) == everything

    project = Project(folder)
    answer_until(Terminal(folder), stop=everything[1])
    assert everything[0] in project.answers(load_catalog())
    terminal = Terminal(folder)
    assert everything[1] in terminal.until_prompt()
    terminal.say(f"={everything[0]}")
    terminal.until_prompt()
    terminal.say("q")
    same = project.answers(load_catalog())[everything[1]]
    assert same.same_as == everything[0]
    assert same.value == project.answers(load_catalog())[everything[0]].value
