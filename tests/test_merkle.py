"""The Merkle tree: published test vectors, and the definitions of RFC 6962 followed word for word."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.merkle import EMPTY, consistency_proof, goes_on, includes, inclusion_proof, root

# Entries, roots, paths and proofs are those of the reference implementation, google/certificate-transparency,
# cpp/merkletree/merkle_tree_test.cc.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
FIRST, SECOND = ROOTS[1], "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
SECOND_PAIR = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
LAST_FOUR = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
FIFTH = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
LAST_PAIR = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
THIRD_PAIR = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
PATHS = [  # entry from 0, size, hashes
    (0, 1, []),
    (0, 8, [SECOND, SECOND_PAIR, LAST_FOUR]),
    (5, 8, [FIFTH, LAST_PAIR, ROOTS[4]]),
    (2, 3, [ROOTS[2]]),
    (1, 5, [FIRST, SECOND_PAIR, FIFTH]),
]
PROOFS = [  # shorter, longer, hashes
    (1, 1, []),
    (1, 8, [SECOND, SECOND_PAIR, LAST_FOUR]),
    (6, 8, [THIRD_PAIR, LAST_PAIR, ROOTS[4]]),
    (2, 5, [SECOND_PAIR, FIFTH]),
]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root(ENTRIES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "hashes"), PATHS)
def test_published_inclusion_proofs(index: int, size: int, hashes: list[str]) -> None:
    proof = inclusion_proof(ENTRIES[:size], index)
    assert [item.hex() for item in proof] == hashes
    assert includes(ENTRIES[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("first", "size", "hashes"), PROOFS)
def test_published_consistency_proofs(first: int, size: int, hashes: list[str]) -> None:
    proof = consistency_proof(ENTRIES[:size], first)
    assert [item.hex() for item in proof] == hashes
    assert goes_on(first, bytes.fromhex(ROOTS[first]), size, bytes.fromhex(ROOTS[size]), proof)


# --- the definitions of RFC 6962, word for word ----------------------------------------------------------------------


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(entries: list[bytes]) -> bytes:
    if len(entries) < 2:
        return sha256(b"\x00" + entries[0]).digest() if entries else sha256(b"").digest()
    k = split(len(entries))
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    n = len(entries)
    if n == 1:
        return []
    k = split(n)
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], b: bool) -> list[bytes]:
    n = len(entries)
    if m == n:
        return [] if b else [mth(entries)]
    k = split(n)
    if m <= k:
        return [*subproof(m, entries[:k], b), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


lists = st.lists(st.binary(max_size=3), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(entries=lists, data=st.data())
def test_proofs_are_those_of_the_definition(entries: list[bytes], data: st.DataObject) -> None:
    size = len(entries)
    index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert root(entries) == mth(entries)
    assert inclusion_proof(entries, index) == path(index, entries)
    assert consistency_proof(entries, first) == subproof(first, entries, True)
    assert includes(entries[index], index, size, path(index, entries), mth(entries))
    assert goes_on(first, mth(entries[:first]), size, mth(entries), subproof(first, entries, True))


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 33), data=st.data())
def test_an_inclusion_proof_shows_nothing_else(size: int, data: st.DataObject) -> None:
    entries = [str(number).encode() for number in range(size)]
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(-2, 70))
    proof, tree = inclusion_proof(entries, index), root(entries)
    assert includes(entries[index], other, size, proof, tree) == (other == index)
    assert not includes(b"another", index, size, proof, tree)
    assert not includes(entries[index], index, size, [*proof, EMPTY], tree)
    assert not includes(entries[index], index, size, proof[:-1] if proof else [EMPTY], tree)
    for place in range(len(proof)):
        spoiled = [*proof[:place], EMPTY, *proof[place + 1 :]]
        assert not includes(entries[index], index, size, spoiled, tree)


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 33), data=st.data())
def test_a_consistency_proof_shows_nothing_else(size: int, data: st.DataObject) -> None:
    entries = [str(number).encode() for number in range(size)]
    first = data.draw(st.integers(1, size))
    proof, before, tree = consistency_proof(entries, first), root(entries[:first]), root(entries)
    forked = root([*entries[: first - 1], b"another"])
    assert not goes_on(first, forked, size, tree, proof)
    assert not goes_on(first, before, size, forked, proof) or forked == tree
    assert not goes_on(first, before, size, tree, [*proof, EMPTY])
    for place in range(len(proof)):
        assert not goes_on(first, before, size, tree, proof[:place] + proof[place + 1 :])
        assert not goes_on(first, before, size, tree, [*proof[:place], EMPTY, *proof[place + 1 :]])


def test_a_node_is_no_leaf() -> None:
    """Without the two prefixes, two leaves' hashes as one entry would have the root of both."""
    pair = b"".join(sha256(b"\x00" + entry).digest() for entry in (b"a", b"b"))
    assert root([pair]) != root([b"a", b"b"])


def test_what_is_not_there_cannot_be_shown() -> None:
    with pytest.raises(ValueError, match="found entry 2, wanted one of 0 to 1"):
        inclusion_proof([b"a", b"b"], 2)
    with pytest.raises(ValueError, match="found length 0, wanted one of 1 to 2"):
        consistency_proof([b"a", b"b"], 0)
    assert not includes(b"a", 0, 0, [], EMPTY)
    assert not goes_on(0, EMPTY, 2, root([b"a", b"b"]), [])
    assert not goes_on(3, EMPTY, 2, root([b"a", b"b"]), [])
