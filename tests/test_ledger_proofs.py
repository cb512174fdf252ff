"""Proofs on the ledger: made here, checked by who holds no more than a tree head."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from assessor.canonical import canonical_json
from assessor.cli import main
from assessor.errors import IntegrityError, UsageError
from assessor.findings import Finding
from assessor.ledger import append, tree_head
from assessor.ledger_proofs import Consistency, Inclusion, Tree, check_proof, is_proof, prove_line, prove_since
from assessor.project import Project
from assessor.verify import verify

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MOST = 40
Json = dict[str, Any]


def chain(count: int, actor: str = "Ada") -> list[bytes]:
    """Lines with their line feeds."""
    lines, line = [], b""
    for number in range(count):
        line, _ = append(line, actor=actor, action=f"step {number}", because="as agreed", files={}, now=NOW)
        lines.append(line)
    return lines


LINES = chain(MOST)


def mth(entries: list[bytes]) -> bytes:
    """The tree's hash by the definition, RFC 6962 section 2.1."""
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


TREES = {size: Tree(size=size, root=mth([line[:-1] for line in LINES[:size]]).hex()) for size in range(1, MOST + 1)}


def statuses(proof: Inclusion | Consistency | Json, held: Tree | None = None) -> list[str]:
    return [finding.status for finding in findings(proof, held)]


def findings(proof: Inclusion | Consistency | Json, held: Tree | None = None) -> list[Finding]:
    plain = proof if isinstance(proof, dict) else proof.model_dump(mode="json")
    return check_proof(json.dumps(plain).encode(), held)


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_every_line_of_every_ledger_is_proved_against_the_tree_of_the_definition(size: int) -> None:
    ledger = b"".join(LINES)
    for line in range(1, size + 1):
        proof = prove_line(ledger, line, size)
        assert statuses(proof, TREES[size]) == ["ok", "ok", "ok"]
        assert statuses(proof) == ["ok", "ok", "unknown"]
        assert proof.entry.encode() == LINES[line - 1][:-1]
        other = TREES[size % MOST + 1]
        assert statuses(proof, other)[2] == ("failed" if other != TREES[size] else "ok")


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_every_ledger_goes_on_from_every_earlier_one(size: int) -> None:
    ledger = b"".join(LINES)
    for first in range(1, size + 1):
        proof = prove_since(ledger, str(first), size)
        assert (proof.earlier, proof.ledger) == (TREES[first], TREES[size])
        assert statuses(proof, TREES[first]) == ["ok", "ok", "unknown"]
        assert proof == prove_since(ledger, tree_head(b"".join(LINES[:first])).head, size)
        if first < size:
            assert statuses(proof, TREES[size]) == ["ok", "unknown", "ok"]
            forged = Tree(size=first, root=mth([line[:-1] for line in chain(first, "Eve")]).hex())
            assert statuses(proof, forged) == ["ok", "failed", "unknown"]
            assert statuses(proof.model_copy(update={"earlier": forged}), forged)[0] == "failed"


def spoiled(proof: Json, names: tuple[str, ...]) -> list[Json]:
    """The proof with each hash and each stated value exchanged, left out, or put in twice."""
    hashes, zero = proof["hashes"], "0" * 64
    found = [{**proof, "hashes": [*hashes, zero]}, {**proof, "hashes": [zero, *hashes]}]
    for at in range(len(hashes)):
        found += [
            {**proof, "hashes": [*hashes[:at], *put, *hashes[at + 1 :]]} for put in ([], [zero], [hashes[at]] * 2)
        ]
    for name in names:
        found += [{**proof, name: {**proof[name], "root": zero}}]
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 32, 33, 40])
def test_a_spoiled_inclusion_proof_is_refused(size: int) -> None:
    for line in {1, (size + 1) // 2, size}:
        proof = prove_line(b"".join(LINES), line, size).model_dump(mode="json")
        wrong = [
            *spoiled(proof, ("ledger",)),
            *({**proof, "line": other} for other in (line + 1, size + 1) if other <= MOST),
        ]
        wrong += [{**proof, "entry": LINES[line % MOST][:-1].decode()}, {**proof, "entry": proof["entry"] + " "}]
        for one in wrong:
            assert statuses(one)[0] == "failed", one


@pytest.mark.parametrize("size", [2, 3, 7, 8, 13, 32, 33, 40])
def test_a_spoiled_consistency_proof_is_refused(size: int) -> None:
    for first in {1, (size + 1) // 2, size - 1}:
        proof = prove_since(b"".join(LINES), str(first), size).model_dump(mode="json")
        wrong = spoiled(proof, ("earlier", "ledger"))
        wrong += [{**proof, "earlier": {**proof["earlier"], "size": size + 1}}]
        for one in wrong:
            assert statuses(one)[0] == "failed", one


def test_an_entry_that_no_tool_of_ours_wrote_is_refused_though_it_is_in_the_tree() -> None:
    entries = [b'{"action": "x"}', *(line[:-1] for line in LINES[:3])]
    hashes = [sha256(b"\0" + entries[1]).digest(), mth(entries[2:])]
    tree = Tree(size=4, root=mth(entries).hex())
    proof = Inclusion(line=1, entry=entries[0].decode(), ledger=tree, hashes=[one.hex() for one in hashes])
    assert statuses(proof, tree) == ["ok", "failed", "ok"]
    moved = Inclusion(line=2, entry=entries[1].decode(), ledger=tree, hashes=[
        sha256(b"\0" + entries[0]).hexdigest(), hashes[1].hex()])  # fmt: skip
    found = findings(moved, tree)
    assert found[1] == Finding("line", "failed", "It says of itself that it is line 1.")


@pytest.mark.parametrize("content", [b"{}", b'{"type": "ai-assessor/ledger-other/v1"}', b"{" + b"[" * 100_000])
def test_what_is_no_proof_fails_in_words(content: bytes) -> None:
    (found,) = check_proof(content)
    assert (found.name, found.status) == ("proof", "failed")
    assert "not of a form that this version knows" in found.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"line": 0},
        {"line": "x"},
        {"entry": "\ud800"},
        {"ledger": {"size": 1, "root": "x"}},
        {"ledger": {"size": 2**53, "root": "0" * 64}},
        {"hashes": ["x"]},
        {"more": 1},
    ],
)
def test_a_proof_with_values_that_are_none_fails_in_words(change: Json) -> None:
    (found,) = findings({**prove_line(b"".join(LINES), 1).model_dump(mode="json"), **change})
    assert (found.name, found.status) == ("proof", "failed")


def test_a_long_proof_on_a_huge_ledger_is_refused() -> None:
    tree = {"size": 2**53 - 1, "root": "0" * 64}
    proof = {"type": "ai-assessor/ledger-consistency/v1", "earlier": {**tree, "size": 2**52 + 1}, "ledger": tree}
    assert statuses({**proof, "hashes": ["0" * 64] * 50_000})[0] == "failed"


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(make_folder: Callable[..., Any]) -> Project:
    made: Project = make_folder()
    for number in range(4):
        made.commit({f"answers/{number}.yaml": b""}, actor="Ada", action=f"answer {number}", because="as agreed")
    return made


@pytest.fixture
def run(project: Project, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return int(str(end.value.code)), *capfd.readouterr()

    return run


def test_a_stranger_checks_a_proof_with_a_noted_head_and_nothing_else(
    project: Project, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    where = ("--project", str(project.folder))
    noted, proof, since = (tmp_path / name for name in ("head.json", "proof.json", "since.json"))
    noted.write_text(run("ledger", "head", "--size", "3", "--json", *where)[1])
    proof.write_text(run("ledger", "prove", "2", "--size", "3", "--json", *where)[1])
    since.write_text(run("ledger", "prove", "--since", "3", "--json", *where)[1])
    for one in (proof, since):
        assert is_proof(one.read_bytes())
        code, out, _ = run("verify", str(one), "--file", str(noted))
        assert code == 0
        assert "Size 3 and root are those of --file." in out
    out = run("verify", str(proof), "--file", str(noted))[1]
    assert "Ada: answer 0; as agreed." in out
    assert "valid" in out
    assert "root" in run("verify", str(proof))[1]
    proof.write_text(proof.read_text().replace("answer 0", "answer 1"))
    assert run("verify", str(proof), "--file", str(noted))[0] == 4
    code, out, _ = run("ledger", "prove", "2", *where)
    assert code == 0
    assert out.startswith("type  ai-assessor/ledger-inclusion/v1\nline  2\nentry  {")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "wanted the number of a line, or --since"),
        (("1", "--since", "1"), "wanted the number of a line, or --since"),
        (("0",), "line: found 0, wanted one of 1 to 5, as  assessor ledger show  numbers them"),
        (("3", "--size", "2"), "line: found 3, wanted one of 1 to 2"),
        (("1", "--size", "6"), "--size: found 6, the ledger has 5 lines"),
        (("--since", "0"), "--since: found 0, wanted a number of lines from 1 to 5"),
        (("--since", "6"), "--since: found 6, wanted a number of lines from 1 to 5"),
        (("--since", "f" * 64), "wanted a number of lines or the hash of a line (head) of this ledger"),
    ],
)
def test_what_cannot_be_proved_is_told(
    project: Project, run: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = run("ledger", "prove", *arguments, "--project", str(project.folder))
    assert (code, out) == (2, "")
    assert words in err


def test_of_a_broken_chain_nothing_is_proved(project: Project) -> None:
    broken = project.ledger_bytes().replace(b"Ada", b"Eve")
    with pytest.raises(IntegrityError):
        prove_line(broken, 1)
    with pytest.raises(IntegrityError):
        prove_since(broken, "1")


def test_a_folder_is_compared_with_a_head_held_elsewhere(project: Project, tmp_path: Path) -> None:
    head = tree_head(project.ledger_bytes())._asdict()
    noted = tmp_path / "noted.json"
    for content in (head, {"ledger": head}):
        noted.write_bytes(canonical_json(content))
        project.commit({"x": str(content).encode()}, actor="t", action="x")
        found = verify(project.folder, file=noted)[-1]
        assert found == (
            "ledger in the report",
            "ok",
            "The folder's ledger goes on from the 5 lines that the report states.",
        )
    noted.write_bytes(canonical_json({**head, "root": "0" * 64}))
    assert verify(project.folder, file=noted)[-1].status == "failed"


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"no JSON", b"[" * 100_000, b"%PDF-1.7\n"])
def test_what_states_no_ledger_is_told_with_its_name(project: Project, tmp_path: Path, content: bytes) -> None:
    noted, proof = tmp_path / "noted.json", tmp_path / "proof.json"
    noted.write_bytes(content)
    proof.write_text(prove_line(project.ledger_bytes(), 1).model_dump_json())
    with pytest.raises(UsageError, match=r"noted\.json: states no "):
        verify(proof, file=noted)
    with pytest.raises(UsageError, match=r"absent: cannot read it"):
        verify(proof, file=tmp_path / "absent")
