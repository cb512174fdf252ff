"""The chain: what is changed, taken out, reordered or cut off shows."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import IntegrityError, UsageError
from assessor.ledger import (
    CUT_OFF,
    START,
    Change,
    Edit,
    History,
    TreeHead,
    append,
    beginning,
    entries,
    expected_files,
    head,
    history,
    last,
    tree_head,
)
from assessor.ledger import (
    lines as read_lines,
)
from assessor.project import Project

NOW = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
A, B = "a" * 64, "b" * 64


def chain(count: int) -> bytes:
    ledger = b""
    for number in range(count):
        files = {
            "assessor.yaml": Change(before=A if number else None, after=B),
            f"f{number}": Change(before=None, after=A),
        }
        because = 'because "hash":"' + A + '",'
        ledger += append(ledger, actor="Ada", action=f"step {number}", because=because, files=files, now=NOW)[0]
    return ledger


def fault_of(ledger: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        list(entries(ledger))
    return str(caught.value)


def test_one_line() -> None:
    line, entry = append(
        b"", actor="Ada", action="init", because="", files={"x": Change(before=None, after=A)}, now=NOW
    )
    assert json.loads(line) == {
        "seq": 0,
        "time": "2026-11-21T10:00:00.123Z",
        "actor": "Ada",
        "action": "init",
        "because": "",
        "files": {"x": {"before": None, "after": A}},
        "previous": START,
        "hash": entry.hash,
    }
    without = {key: value for key, value in json.loads(line).items() if key != "hash"}
    assert entry.hash == sha256_hex(canonical_json(without))
    assert line == canonical_json(json.loads(line)) + b"\n"


def test_a_whole_chain_holds() -> None:
    found = list(entries(chain(4)))
    assert [entry.seq for entry in found] == [0, 1, 2, 3]
    assert [entry.previous for entry in found] == [START, *(entry.hash for entry in found[:-1])]
    assert head(chain(4)) == found[-1].hash


def test_no_ledger_is_a_whole_one() -> None:
    assert (list(entries(b"")), head(b""), expected_files(b"")) == ([], START, {})


def test_expected_files_are_the_last_ones() -> None:
    removed, _ = append(
        chain(2), actor="x", action="y", because="", files={"f0": Change(before=A, after=None)}, now=NOW
    )
    assert expected_files(chain(2) + removed) == {"assessor.yaml": B, "f0": None, "f1": A}


def lines(ledger: bytes) -> list[bytes]:
    return ledger.splitlines(keepends=True)


BREAKS: dict[str, tuple[Callable[[list[bytes]], bytes], str]] = {
    "changed": (
        lambda rows: b"".join([rows[0], rows[1].replace(b"Ada", b"Eve"), *rows[2:]]),
        "ledger.jsonl:2: this line was changed: its content does not have the hash it states",
    ),
    "removed": (
        lambda rows: b"".join([rows[0], *rows[2:]]),
        "ledger.jsonl:2: this line does not follow the one before: lines were removed or reordered",
    ),
    "first removed": (
        lambda rows: b"".join(rows[1:]),
        "ledger.jsonl:1: this line does not follow the one before: lines were removed or reordered",
    ),
    "reordered": (
        lambda rows: b"".join([rows[0], rows[2], rows[1], rows[3]]),
        "ledger.jsonl:2: this line does not follow the one before: lines were removed or reordered",
    ),
    "twice": (
        lambda rows: b"".join([*rows, rows[3]]),
        "ledger.jsonl:5: this line does not follow the one before: lines were removed or reordered",
    ),
    "cut off": (lambda rows: b"".join(rows)[:-20], "ledger.jsonl: the last line is cut off"),
    "line feed lost": (lambda rows: b"".join(rows)[:-1], "ledger.jsonl: the last line is cut off"),
    "no JSON": (lambda rows: rows[0] + b"x\n", "ledger.jsonl:2: not readable as a ledger line: Invalid JSON"),
    "blank line": (lambda rows: rows[0] + b"\n" + rows[1], "ledger.jsonl:2: not readable as a ledger line"),
    "another member": (
        lambda rows: rows[0][:-2] + b',"z":1}\n',
        "ledger.jsonl:1: not readable as a ledger line: Extra inputs are not permitted",
    ),
    "not UTF-8": (lambda rows: rows[0].replace(b"Ada", b"\xff"), "ledger.jsonl:1: not readable as a ledger line"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_chain_is_told_with_its_line(name: str) -> None:
    change, told = BREAKS[name]
    assert fault_of(change(lines(chain(4)))).startswith(told)


def test_a_line_hashed_anew_does_not_fit_the_next_one() -> None:
    rows = lines(chain(3))
    data = {**json.loads(rows[1]), "actor": "Eve"}
    del data["hash"]
    rows[1] = canonical_json({**data, "hash": sha256_hex(canonical_json(data))}) + b"\n"
    assert fault_of(b"".join(rows)).startswith("ledger.jsonl:3: this line does not follow the one before")


def test_a_line_counts_its_place() -> None:
    rows = lines(chain(2))
    data = {**json.loads(rows[1]), "seq": 7}
    del data["hash"]
    rows[1] = canonical_json({**data, "hash": sha256_hex(canonical_json(data))}) + b"\n"
    assert fault_of(b"".join(rows)).startswith("ledger.jsonl:2: this line does not follow the one before")


def test_lines_missing_at_the_end_show_only_against_a_head_held_elsewhere() -> None:
    whole = chain(4)
    shorter = b"".join(lines(whole)[:3])
    assert len(list(entries(shorter))) == 3
    assert head(shorter) != head(whole)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\b"])
def test_a_path_outside_the_folder_is_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="wanted a path inside the folder"):
        append(b"", actor="x", action="y", because="", files={name: Change(before=None, after=A)})


def test_nothing_is_appended_to_what_cannot_be_read() -> None:
    with pytest.raises(IntegrityError, match="last line: not readable as a ledger line"):
        append(b"x\n", actor="x", action="y", because="", files={})


@pytest.mark.parametrize("function", [head, tree_head, last])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda ledger: ledger[:-1], CUT_OFF),
        (lambda ledger: ledger[:-9], CUT_OFF),
        (lambda ledger: ledger + b"\n", "last line: not readable"),
    ],
)
def test_nothing_is_told_of_a_last_line_that_is_not_whole(
    function: Callable[[bytes], object], spoil: Callable[[bytes], bytes], told: str
) -> None:
    with pytest.raises(IntegrityError, match=told):
        function(spoil(chain(2)))


@pytest.mark.parametrize("words", [{"actor": "\udcff"}, {"because": "\udcff"}, {"files": {"a\udcff": A}}])
def test_bytes_that_are_no_text_are_refused(words: dict[str, object]) -> None:
    fields: Any = {"actor": "x", "action": "y", "because": "", "files": {}, **words}
    fields["files"] = {name: Change(before=None, after=digest) for name, digest in fields["files"].items()}
    with pytest.raises(UsageError, match=r"'a?.udcff': found bytes that are no UTF-8, wanted text"):
        append(b"", **fields)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts, texts, texts.filter(lambda name: not set(name) & {"/", "\\", "."}))))
def test_any_text_makes_a_chain_and_comes_back(told: list[tuple[str, str, str, str]]) -> None:
    ledger = b""
    for actor, action, because, name in told:
        change = {name: Change(before=None, after=A)}
        ledger += append(ledger, actor=actor, action=action, because=because, files=change, now=NOW)[0]
    found = [(item.actor, item.action, item.because, *item.files) for item in entries(ledger)]
    assert found == told
    assert [canonical_json(json.loads(line)) for line in ledger.splitlines()] == ledger.splitlines()


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b":", b": ", 1),
        lambda line: line.replace(b"{", b"{ ", 1),
        lambda line: line + b" ",
        lambda line: line + b"\r",
        lambda line: line.replace(b"Ada", b"\\u0041da"),
        lambda line: b"{" + b",".join([b'"seq":0', line[1:].replace(b'"seq":0,', b"")]),
        lambda line: line.replace(b'"seq":0', b'"seq":0.0'),
        lambda line: line.replace(b'"seq":0', b'"seq":7,"seq":0'),
        lambda line: line.replace(b"10:00:00.123Z", b"10:00:00.123000Z"),
        lambda line: line.replace(b"10:00:00.123Z", b"11:00:00.123+01:00"),
        lambda line: json.dumps(json.loads(line), indent=None).encode(),
    ],
)
def test_a_line_written_another_way_is_refused_though_its_hash_fits_its_bytes(
    change: Callable[[bytes], bytes],
) -> None:
    """Where the hash were taken over what a line means, it could be written anew unnoticed, and the root changed."""
    line, entry = append(b"", actor="Ada", action="x", because="", files={}, now=NOW)
    changed = change(line[:-1])
    own = sha256_hex(changed.replace(b'"hash":"' + entry.hash.encode() + b'",', b"", 1))
    for ledger in (changed, changed.replace(entry.hash.encode(), own.encode())):
        assert ledger != line[:-1]
        assert re.match(r"ledger\.jsonl:1: (this line|not readable as)", fault_of(ledger + b"\n"))


def test_files_in_another_order_are_refused() -> None:
    files = {name: Change(before=None, after=A) for name in ("a", "b", "\uffee", "\U0001f600")}
    line, entry = append(b"", actor="Ada", action="x", because="", files=files, now=NOW)
    assert list(entry.files) == ["a", "b", "\U0001f600", "\uffee"]  # by UTF-16, RFC 8785 section 3.2.3
    assert list(entries(line))
    for one, other in (("a", "b"), ("\U0001f600", "\uffee")):
        swapped = line.decode().replace(one + '":', "?").replace(other + '":', one + '":').replace("?", other + '":')
        body = swapped.replace(f'"hash":"{entry.hash}",', "")
        assert "not canonical JSON" in fault_of(swapped.replace(entry.hash, sha256_hex(body[:-1].encode())).encode())


def test_any_changed_byte_is_found() -> None:
    ledger = chain(2)
    for place in range(len(ledger)):
        for bit in (0x01, 0x20, 0x80):
            changed = ledger[:place] + bytes([ledger[place] ^ bit]) + ledger[place + 1 :]
            with pytest.raises(IntegrityError):
                list(entries(changed))


# --- what stands for the whole ---------------------------------------------------------------------------------------


def test_the_tree_head_of_a_ledger() -> None:
    """By hand, for three lines: RFC 6962 splits them into two and one; a leaf has no line feed."""
    ledger = chain(3)
    first, second, third = (sha256(b"\0" + line).digest() for line in ledger.splitlines())
    pair = sha256(b"\1" + first + second).digest()
    assert tree_head(ledger) == TreeHead(3, sha256(b"\1" + pair + third).hexdigest(), head(ledger))
    assert tree_head(b"") == TreeHead(0, sha256_hex(b""), START)


def test_every_change_to_a_line_changes_the_root() -> None:
    ledger = chain(2)
    roots = {tree_head(ledger).root}
    for place in range(0, len(ledger.splitlines()[0]), 7):
        roots.add(tree_head(ledger[:place] + bytes([ledger[place] ^ 1]) + ledger[place + 1 :]).root)
    assert len(roots) == 1 + len(range(0, len(ledger.splitlines()[0]), 7))


def test_a_ledger_begins_with_its_first_lines() -> None:
    ledger = chain(3)
    parts = [beginning(ledger, size) for size in range(4)]
    assert parts == [b"".join(lines(ledger)[:size]) for size in range(4)]
    assert [tree_head(part).size for part in parts if part is not None] == [0, 1, 2, 3]
    assert [beginning(ledger, size) for size in (-1, 4, 10**30)] == [None, None, None]
    assert beginning(ledger[:-1], 3) is None


# --- hand edits that a line tells of ---------------------------------------------------------------------------------


def test_a_file_that_a_line_finds_other_than_left_was_edited_by_hand() -> None:
    ledger = chain(2)
    files = {"assessor.yaml": Change(before=A, after=B), "f1": Change(before=A, after=B)}  # left: B and A
    ledger += append(ledger, actor="x", action="y", because="", files=files, now=NOW)[0]
    found = {"new": Change(before=A, after=B), "f0": Change(before=None, after=B)}  # made, and removed, by hand
    ledger += append(ledger, actor="x", action="z", because="", files=found, now=NOW)[0]
    assert [line.edited for line in read_lines(ledger)] == [(), ("assessor.yaml",), ("assessor.yaml",), ("f0", "new")]
    last_ones = {"assessor.yaml": B, "f0": B, "f1": B, "new": B}
    edits = [Edit(2, "assessor.yaml"), Edit(3, "assessor.yaml"), Edit(4, "f0"), Edit(4, "new")]
    assert history(ledger) == History(4, last_ones, edits)


def test_a_file_that_was_gone_and_is_as_it_was_again_was_not_edited() -> None:
    """Such as evidence that is not handed on, shown again in a copy that did not have it."""
    ledger = chain(1)
    ledger += append(ledger, actor="x", action="y", because="", files={"f0": Change(before=None, after=A)}, now=NOW)[0]
    assert history(ledger) == History(2, {"assessor.yaml": B, "f0": A}, [])


# --- several writers -------------------------------------------------------------------------------------------------

APPENDING = """
import sys
from pathlib import Path
from assessor.project import Project
project, name, count = Project(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    files = {f"answers/{name}{number}.yaml": f"{name} {number}".encode(), "shared": f"{name} {number}".encode()}
    project.commit(files, actor=name, action=f"step {number}")
"""


@pytest.mark.slow
def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    count, names = 12, ("one", "two", "three", "four")
    project = Project.create(tmp_path / "p", {"assessor.yaml": b"x"}, actor="t", action="init")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDING, str(project.folder), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0] * len(names)
    found = list(entries(project.ledger_bytes()))
    assert len(found) == 1 + count * len(names)
    for name in names:
        assert [entry.action for entry in found if entry.actor == name] == [f"step {number}" for number in range(count)]
    told = history(project.ledger_bytes())
    assert told.edits == []  # nobody wrote over what another had written without seeing it
    assert {name: project.digest(name) for name in told.files} == told.files


HOLDING = """
import os, sys, time
from pathlib import Path
from assessor.project import Project
with Project(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", {"assessor.yaml": b"x"}, actor="t", action="init")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(project.folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            FileLock(project.folder / ".assessor" / "lock").acquire(timeout=0)
        holder.send_signal(signal.SIGKILL)
    assert (project.folder / ".assessor" / "lock").exists()
    project.commit({"next": b"x"}, actor="t", action="next")
    assert head(project.ledger_bytes()) == list(entries(project.ledger_bytes()))[-1].hash


WITHOUT_LOCKS = """
import errno, fcntl, os, sys
def flock(handle, operation):
    raise OSError(getattr(errno, sys.argv[2]), os.strerror(getattr(errno, sys.argv[2])))
fcntl.flock = flock
from assessor.cli import main
main(["ledger", "record", "--by", "Ada", "--because", "try", "--project", sys.argv[1]])
"""


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, error: str) -> None:
    project = Project.create(tmp_path / "p", {"assessor.yaml": b"x"}, actor="t", action="init")
    before = project.ledger_bytes()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, str(project.folder), error], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "cannot lock the folder for writing" in done.stderr
    assert "a file system that has locks, such as a disk of this machine" in done.stderr
    assert project.ledger_bytes() == before


MARKING = """
import errno, fcntl, os, sys, warnings
def flock(handle, operation):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
warnings.simplefilter("ignore")
from pathlib import Path
from assessor.project import Project
folder = Path(sys.argv[1])
if sys.argv[2] == "die":
    with Project.create(folder, {"assessor.yaml": b"x"}, actor="t", action="init").lock():
        os._exit(9)
Project(folder).commit({"next": b"x"}, actor="t", action="next")
"""


def test_a_mark_in_place_of_a_lock_ends_with_its_process_too(tmp_path: Path) -> None:
    """Where the system has no locks at all, the library marks the folder by a file."""
    for what, code in (("die", 9), ("go on", 0)):
        done = subprocess.run([sys.executable, "-c", MARKING, str(tmp_path), what], check=False)
        assert done.returncode == code
        assert (tmp_path / ".assessor" / "lock").exists() == (what == "die")
    assert len(list(entries(Project(tmp_path).ledger_bytes()))) == 2


def test_a_ledger_that_is_cut_off_is_not_mended_by_trying_to_write(tmp_path: Path) -> None:
    """Only what a killed process of ours left may be cut off; all else is for verify to tell."""
    project = Project.create(tmp_path / "p", {"assessor.yaml": b"x"}, actor="t", action="init")
    path = project.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    spoiled = path.read_bytes()
    with pytest.raises(IntegrityError, match="the last line is cut off"):
        project.commit({"next": b"x"}, actor="t", action="next")
    with pytest.raises(IntegrityError, match="the last line is cut off"):
        project.record({"next": Change(before=None, after=A)}, actor="t", action="next", because="")
    Project(project.folder)
    assert path.read_bytes() == spoiled


# --- docs/trust.md ---------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The check without this program, as the documentation prints it."""
    text = (Path(__file__).parents[1] / "docs" / "trust.md").read_text("utf-8")
    path = tmp_path / "check.py"
    path.write_text(text.split("```python\n")[1].split("```")[0])
    return path


def checked(script: Path, ledger: bytes) -> subprocess.CompletedProcess[str]:
    path = script.with_name("ledger.jsonl")
    path.write_bytes(ledger)
    command = [sys.executable, "-I", "-S", str(script), str(path)]  # neither our package nor any other
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_stranger_finds_the_same_without_this_program(script: Path) -> None:
    for size in (1, 2, 5):
        tree = tree_head(chain(size))
        assert checked(script, chain(size)).stdout == f"{tree.size} {tree.root} {tree.head}\n"
    rows = lines(chain(3))
    assert "line 2 was changed" in checked(script, rows[0] + rows[1].replace(b"Ada", b"Eve") + rows[2]).stderr
    assert "line 2 does not follow" in checked(script, rows[0] + rows[2]).stderr
