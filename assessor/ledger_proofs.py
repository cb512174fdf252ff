"""Proofs for who holds a tree head and not the ledger: a line is in it, or it goes on from an earlier one.

A proof is JSON with the hashes of RFC 6962, section 2.1.1 or 2.1.2; whoever checks it needs nothing else but a tree
head from elsewhere, such as the one a report states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from assessor.contract import Frozen
from assessor.errors import IntegrityError, UsageError
from assessor.findings import Finding
from assessor.ledger import START, beginning, entries, history, read_line, tree_head
from assessor.merkle import consistency_proof, goes_on, includes, inclusion_proof
from assessor.model import Sha256

MARK = b"ai-assessor/ledger-"
"""In the type of every proof, by which a file is known as one."""


class Tree(Frozen):
    """Number of lines, and root of the tree over them."""

    size: Annotated[int, Field(ge=1, le=2**53 - 1)]
    root: Sha256


class Inclusion(Frozen):
    """A line is in the ledger."""

    type: Literal["ai-assessor/ledger-inclusion/v1"] = "ai-assessor/ledger-inclusion/v1"
    line: Annotated[int, Field(ge=1)]
    """Its number, from 1."""
    entry: str
    """The line itself, as it is in the file."""
    ledger: Tree
    hashes: Sequence[Sha256]


class Consistency(Frozen):
    """A ledger goes on from an earlier one."""

    type: Literal["ai-assessor/ledger-consistency/v1"] = "ai-assessor/ledger-consistency/v1"
    earlier: Tree
    ledger: Tree
    hashes: Sequence[Sha256]


Proof = Inclusion | Consistency
_READER: TypeAdapter[Proof] = TypeAdapter(Annotated[Proof, Field(discriminator="type")])


def prove_line(ledger: bytes, line: int, size: int | None = None) -> Inclusion:
    """That a line is in the ledger.

    Args:
        ledger: Content of ledger.jsonl.
        line: Its number, from 1.
        size: Of the ledger as somebody noted its head; default all lines.

    Returns:
        The proof.

    Raises:
        IntegrityError: The chain does not hold.
        UsageError: There is no such line, or there are fewer lines.
    """
    begun = _begun(ledger, size)
    lines = begun.split(b"\n")[:-1]
    if not 1 <= line <= len(lines):
        raise UsageError(f"line: found {line}, wanted one of 1 to {len(lines)}, as  assessor ledger show  numbers them")
    hashes = inclusion_proof(lines, line - 1)
    return Inclusion(line=line, entry=lines[line - 1].decode(), ledger=_tree(begun), hashes=_texts(hashes))


def prove_since(ledger: bytes, since: str, size: int | None = None) -> Consistency:
    """That the ledger goes on from what it was.

    Args:
        ledger: Content of ledger.jsonl.
        since: What it was: number of lines, or hash of the last of them.
        size: Number of lines of the later one; default all.

    Returns:
        The proof.

    Raises:
        IntegrityError: The chain does not hold.
        UsageError: It never was so.
    """
    begun = _begun(ledger, size)
    lines = begun.split(b"\n")[:-1]
    first = _size_at(begun, since) if len(since) == len(START) or not since.isdecimal() else int(since)
    earlier = beginning(begun, first)
    if not first or earlier is None:
        raise UsageError(f"--since: found {since}, wanted a number of lines from 1 to {len(lines)}")
    hashes = consistency_proof(lines, first)
    return Consistency(earlier=_tree(earlier), ledger=_tree(begun), hashes=_texts(hashes))


def _size_at(ledger: bytes, head: str) -> int:
    for entry in entries(ledger):
        if entry.hash == head.lower():
            return entry.seq + 1
    raise UsageError(f"--since: found {head}, wanted a number of lines or the hash of a line (head) of this ledger")


def _begun(ledger: bytes, size: int | None) -> bytes:
    lines = history(ledger).size  # of a broken chain nothing is proved
    begun = beginning(ledger, lines if size is None else size)
    if begun is None:
        raise UsageError(f"--size: found {size}, the ledger has {lines} lines")
    return begun


def _tree(ledger: bytes) -> Tree:
    size, root, _ = tree_head(ledger)
    return Tree(size=size, root=root)


def _texts(hashes: Sequence[bytes]) -> list[str]:
    return [one.hex() for one in hashes]


def is_proof(content: bytes) -> bool:
    """Whether a file claims to be a proof."""
    return content.lstrip()[:1] == b"{" and MARK in content


def check_proof(content: bytes, held: Tree | None = None) -> list[Finding]:
    """Whether a proof holds, from it alone, and whether its tree heads are the one that the reader holds.

    Args:
        content: The proof, JSON.
        held: From elsewhere; None if the reader compares by eye.

    Returns:
        Findings.
    """
    try:
        proof = _READER.validate_json(content)
    except ValidationError as fault:
        told = fault.errors()[0]
        where = ".".join(map(str, told["loc"])) or "file"
        return [
            Finding("proof", "failed", f"The proof is not of a form that this version knows: {where}: {told['msg']}.")
        ]
    if isinstance(proof, Inclusion):
        return [_included(proof), _entry(proof), _compared("tree head", proof.ledger, held)]
    return [_goes_on(proof), *_both_compared(proof, held)]


def _included(proof: Inclusion) -> Finding:
    hashes, size, root = _bytes(proof.hashes), proof.ledger.size, bytes.fromhex(proof.ledger.root)
    if not includes(proof.entry.encode(), proof.line - 1, size, hashes, root):
        return Finding("proof", "failed", f"The hashes do not lead from the line to the root of {size} lines.")
    return Finding("proof", "ok", f"This is line {proof.line} of the ledger of {size} lines with that root.")


def _entry(proof: Inclusion) -> Finding:
    """What the line says; read by the same rules as in the file, but for the line before it."""
    try:
        entry = read_line(proof.entry.encode(), f"line {proof.line}")
    except IntegrityError as fault:
        return Finding("line", "failed", f"{fault}.")
    if entry.seq != proof.line - 1:
        return Finding("line", "failed", f"It says of itself that it is line {entry.seq + 1}.")
    told = f"{entry.time:%Y-%m-%d} at {entry.time:%H:%M} UTC, {entry.actor}: {entry.action}"
    return Finding("line", "ok", f"{told}; {entry.because}." if entry.because else f"{told}.")


def _goes_on(proof: Consistency) -> Finding:
    was, now = proof.earlier, proof.ledger
    roots = bytes.fromhex(was.root), bytes.fromhex(now.root)
    if not goes_on(was.size, roots[0], now.size, roots[1], _bytes(proof.hashes)):
        return Finding(
            "proof", "failed", f"The ledger of {now.size} lines does not begin with that of {was.size} lines."
        )
    return Finding("proof", "ok", f"The ledger of {now.size} lines begins with that of {was.size} lines.")


def _bytes(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in hashes]


def _both_compared(proof: Consistency, held: Tree | None) -> list[Finding]:
    """One held head is that of the earlier or of the later ledger; of the other nothing is known then."""
    is_later = held is not None and held.size == proof.ledger.size != proof.earlier.size
    return [
        _compared("earlier tree head", proof.earlier, None if is_later else held),
        _compared("tree head", proof.ledger, held if is_later else None),
    ]


def _compared(name: str, stated: Tree, held: Tree | None) -> Finding:
    if held is None:
        sentence = f"Compare with what you hold, or name it with --file: size {stated.size}, root {stated.root}"
        return Finding(name, "unknown", sentence)
    if (held.size, held.root) != (stated.size, stated.root):
        sentence = (
            f"The proof is on {stated.size} lines with root {stated.root[:16]}…, --file states {held.size} lines with "
            f"root {held.root[:16]}…"
        )
        return Finding(name, "failed", sentence)
    return Finding(name, "ok", f"Size {stated.size} and root are those of --file.")
