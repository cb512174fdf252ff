"""Run by tests in a process of its own: dies at every step of a change and looks at what is left.

    python killing.py FOLDER create|commit|recover|record

Each step of a change to the disk counts (a write as two halves). For every k a child process dies at step k; then the
folder must open, hold everything from before or everything from after, and take the next change.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assessor import ledger
from assessor.canonical import sha256_hex
from assessor.errors import UsageError
from assessor.hand_edits import hand_edits, record
from assessor.project import Project

DEAD = 9
BEFORE = {"assessor.yaml": b"before\n", "answers/FN-P.yaml": b"before\n", ".gitignore": b".assessor/\n"}
AFTER = {
    "answers/FN-P.yaml": b"after\n",
    "answers/FN-S.yaml": b"new\n",
    "evidence/x/one.txt": b"shared\n",
    "evidence/x/two.txt": b"shared\n",
    "results/index.json": b"{}\n",
    "results/robustness.x/1.json": b"what the index points at\n",
}
CONFIGURATION = b"format: 1\ncatalog: {version: 1.1.0}\nsystem: {name: x, version: '1'}\n"
EDITED = ["answers/S-P.yaml", "assessor.yaml", "prefill.yaml"]
STEPS = ("fsync", "replace", "rename", "unlink", "truncate", "mkdir")


def die_at(k: int) -> None:
    """From now on this process dies at its k-th step."""
    left = [k]

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(DEAD)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            step()
            value = function(*arguments, **named)
            step()
            return value

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    opened = pathlib.Path.open

    def open_(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        stream = opened(path, mode, *arguments, **named)
        if set(mode) & set("wax"):
            return Halves(stream, step)
        return stream

    pathlib.Path.open = open_  # type: ignore[method-assign, assignment]


class Halves:
    """A stream that writes in two halves, with a step before, between and after."""

    def __init__(self, stream: Any, step: Callable[[], None]) -> None:
        self.stream, self.step = stream, step

    def __enter__(self) -> Halves:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, content: bytes) -> None:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            self.step()
            self.stream.write(part)
            self.stream.flush()
        self.step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def in_a_child(work: Callable[[], object]) -> bool:
    """Whether some work came to its end in a process of its own."""
    child = os.fork()
    if not child:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - told below by the exit code
            sys.stderr.write(f"{fault!r}\n")
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, DEAD}, f"the child ended with {code}"
    return code == 0


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the ledger and our own room."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in named.items() if not name.startswith((".assessor/", "ledger"))}


def look(folder: Path) -> str:
    """Open what is left: "before" or "after", and nothing else; a pointer never comes before what it points at."""
    assert not (folder / "results/index.json").exists() or (folder / "results/robustness.x/1.json").exists()
    project = Project(folder)
    size = len(list(ledger.entries(project.ledger_bytes())))
    states = {"before": (BEFORE, 1), "after": ({**BEFORE, **AFTER}, 2)}
    found = [name for name, state in states.items() if state == (contents(folder), size)]
    assert found, f"{size} lines and {contents(folder)}"
    assert not list((folder / ".assessor" / "pending").glob("*"))
    assert ledger.expected_files(project.ledger_bytes()) == {
        name: sha256_hex(content) for name, content in contents(folder).items()
    }
    project.commit({"next": b"x"}, actor="t", action="next")
    assert len(list(ledger.entries(project.ledger_bytes()))) == size + 1
    assert (folder / "next").read_bytes() == b"x"
    return found[0]


def commit(folder: Path) -> None:
    Project(folder).commit(AFTER, actor="t", action="change")


def create(folder: Path) -> None:
    Project.create(folder, BEFORE, actor="t", action="init")


def begin_edited(folder: Path) -> None:
    """An assessment with one file edited, one removed and one made by hand."""
    files = {"assessor.yaml": CONFIGURATION, "prefill.yaml": b"{}\n"}
    Project.create(folder, files, actor="t", action="init")
    (folder / "assessor.yaml").write_bytes(CONFIGURATION + b"# edited\n")
    (folder / "prefill.yaml").unlink()
    (folder / "answers").mkdir()
    (folder / "answers" / "S-P.yaml").write_bytes(b"")


def record_edits(folder: Path) -> None:
    record(Project(folder), by="t", because="try")


def look_recorded(folder: Path) -> str:
    """What is left of recording: the edits as they were, recorded or not, and nothing between."""
    project = Project(folder)
    told = ledger.history(project.ledger_bytes())
    assert (folder / "assessor.yaml").read_bytes().endswith(b"# edited\n")
    assert not (folder / "prefill.yaml").exists()
    assert not list((folder / ".assessor" / "pending").glob("*"))
    edits = [item.name for item in hand_edits(project, told.files)]
    assert (told.size, edits) in ((1, EDITED), (2, []))
    record_edits(folder)
    assert ledger.history(project.ledger_bytes()).size == 2
    return "before" if edits else "after"


def killed(k: int, work: Callable[[Path], object], folder: Path) -> bool:
    def die_working() -> None:
        die_at(k)
        work(folder)

    return in_a_child(die_working)


def main(room: Path, what: str) -> None:
    os.fsync = lambda handle: None  # what a process wrote outlives it without; tried is a kill, not a power cut
    (begin_edited if what == "record" else create)(room / "start")
    works = {"create": create, "record": record_edits}
    looks = {"create": look_created, "record": look_recorded}
    seen: list[str] = []
    for k in range(0, 1000, 4 if what == "recover" else 1):
        folder = room / f"{what}{k}"
        if what != "create":
            shutil.copytree(room / "start", folder)
        done = killed(k, works.get(what, commit), folder)
        if what == "recover":
            for j in range(k % 3, 1000, 3):  # the one that finishes the change is killed in its turn
                if killed(j, Project, folder):
                    break
        seen.append(looks.get(what, look)(folder))
        if done:
            break
    assert seen == sorted(seen, key=("nothing", "before", "after").index), seen
    assert len(set(seen)) == 2, seen
    print(f"{len(seen)} deaths: {[(name, seen.count(name)) for name in dict.fromkeys(seen)]}")


def look_created(folder: Path) -> str:
    """What is left of a new folder: nothing, so that it can be begun anew, or an assessment, which is refused."""
    try:
        create(folder)
    except UsageError:
        assert look(folder) == "before"
        return "before"
    assert look(folder) == "before"
    return "nothing"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
