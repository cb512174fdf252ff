"""The chain: what is changed, taken out, reordered or cut off shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import IntegrityError
from assessor.ledger import START, Change, append, entries, expected_files, head

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
