"""The Merkle tree of RFC 6962 section 2.1: one hash over a list of entries, and short proofs of what it covers.

An inclusion proof shows a stranger who holds the root that one entry is in the list, a consistency proof that a longer
list begins with a shorter one; both without the rest of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()


def root(entries: Sequence[bytes]) -> bytes:
    """The tree's hash, MTH of section 2.1.

    >>> root([b""]).hex()[:16], root([]) == EMPTY
    ('6e340b9cffb37a98', True)
    """
    return _root(_leaves(entries))


def inclusion_proof(entries: Sequence[bytes], index: int) -> list[bytes]:
    """Hashes that lead from one entry to the root, PATH of section 2.1.1.

    Args:
        entries: The whole list.
        index: Which entry, from 0.

    Returns:
        The hashes, from the leaf upwards.

    Raises:
        ValueError: There is no such entry.
    """
    if not 0 <= index < len(entries):
        raise ValueError(f"found entry {index}, wanted one of 0 to {len(entries) - 1}")
    return _path(index, _leaves(entries))


def includes(entry: bytes, index: int, size: int, proof: Sequence[bytes], tree: bytes) -> bool:
    """Whether a proof shows that an entry is at `index` of the list of `size` entries whose root is `tree`."""
    if not 0 <= index < size:
        return False
    return _root_above(_leaf(entry), index, size, proof) == tree


def consistency_proof(entries: Sequence[bytes], first: int) -> list[bytes]:
    """Hashes that show that the list goes on from its first entries, PROOF of section 2.1.2.

    Args:
        entries: The whole list.
        first: Length of the shorter list, at least 1.

    Returns:
        The hashes.

    Raises:
        ValueError: The list is not that long.
    """
    if not 0 < first <= len(entries):
        raise ValueError(f"found length {first}, wanted one of 1 to {len(entries)}")
    return _subproof(first, _leaves(entries), whole=True)


def goes_on(first: int, first_tree: bytes, size: int, tree: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the list of `size` entries with root `tree` begins with the one of `first` entries.

    Args:
        first: Length of the shorter list.
        first_tree: Its root.
        size: Length of the longer list.
        tree: Its root.
        proof: What `consistency_proof` gave.

    Returns:
        Whether it does.
    """
    if not 0 < first <= size:
        return False
    return _roots_above(first, size, proof, first_tree) == (first_tree, tree)


def _leaf(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _leaves(entries: Sequence[bytes]) -> list[bytes]:
    return [_leaf(entry) for entry in entries]


def _split(size: int) -> int:
    """The largest power of two below `size`: how many leaves are on the left."""
    return 1 << (size - 1).bit_length() - 1


def _root(hashes: list[bytes]) -> bytes:
    """Level by level; an odd one out goes up as it is, which is the tree that the definition splits."""
    if not hashes:
        return EMPTY
    while len(hashes) > 1:
        odd = hashes[len(hashes) // 2 * 2 :]
        hashes = [_node(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=False)] + odd
    return hashes[0]


def _path(index: int, hashes: list[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    split = _split(len(hashes))
    left, right = hashes[:split], hashes[split:]
    if index < split:
        return [*_path(index, left), _root(right)]
    return [*_path(index - split, right), _root(left)]


def _root_above(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that a proof leads to; None where it is too long or too short."""
    if size == 1 or not proof:
        return leaf if size == 1 and not proof else None
    split, (*rest, last) = _split(size), proof
    if index < split:
        below = _root_above(leaf, index, split, rest)
        return below and _node(below, last)
    below = _root_above(leaf, index - split, size - split, rest)
    return below and _node(last, below)


def _subproof(first: int, hashes: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.2; `whole` while its root is the shorter list's, which the verifier holds."""
    if first == len(hashes):
        return [] if whole else [_root(hashes)]
    split = _split(len(hashes))
    left, right = hashes[:split], hashes[split:]
    if first <= split:
        return [*_subproof(first, left, whole=whole), _root(right)]
    return [*_subproof(first - split, right, whole=False), _root(left)]


def _roots_above(first: int, size: int, proof: Sequence[bytes], known: bytes | None) -> tuple[bytes, bytes] | None:
    """The roots of the shorter and of the longer list that a proof leads to; None where its length is wrong."""
    if first == size:
        hashes = [*proof] if known is None else [known, *proof]
        return (hashes[0], hashes[0]) if len(hashes) == 1 else None
    if not proof:
        return None
    split, (*rest, last) = _split(size), proof
    if first <= split:
        roots = _roots_above(first, split, rest, known)
        return roots and (roots[0], _node(roots[1], last))
    roots = _roots_above(first - split, size - split, rest, None)
    return roots and (_node(last, roots[0]), _node(last, roots[1]))
