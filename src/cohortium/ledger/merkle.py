"""Merkle trees over a log: hashes and the two proofs (RFC 9162 2.1, the same as RFC 6962 2.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cohortium.errors import VerificationError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""RFC 9162 2.1.1: MTH({})."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """RFC 9162 2.1.1: MTH({d[0]})."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162 2.1.1: the hash of an inner node."""
    return hashlib.sha256(_NODE + left + right).digest()


def perfect_root(hashes: bytes) -> bytes:
    """The root over 2^k hashes of one level.

    Args:
        hashes: Them, one after the other; 32 * 2^k bytes.
    """
    sha256 = hashlib.sha256
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([sha256(_NODE + hashes[i : i + 64]).digest() for i in pairs])
    return hashes


def _bad(message: str) -> VerificationError:
    return VerificationError("bad-proof", message)


def _check_lengths(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise _bad("A hash in the proof does not have 32 bytes.")


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a log holds an entry at a place (RFC 9162 2.1.3.2).

    Args:
        index: The entry's place, from 0.
        size: Entries of the log that has this `root`.
        leaf: The entry's `leaf_hash`.
        proof: Hashes from the leaf upwards.

    Raises:
        VerificationError: ``bad-proof``.
    """
    _check_lengths(leaf, root, *proof)
    if not 0 <= index < size:  # 1
        raise _bad(f"The ledger of {size} entries has none at {index}.")
    fn, sn, r = index, size - 1, leaf  # 2, 3
    for p in proof:  # 4
        if sn == 0:
            raise _bad("The inclusion proof is too long.")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or r != root:  # 5
        raise _bad(f"Entry {index} is not in the ledger of {size} entries.")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that a log only grew (RFC 9162 2.1.4.2).

    An empty log is the beginning of every log; its proof has no hashes.

    Raises:
        VerificationError: ``bad-proof``.
    """
    _check_lengths(old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise _bad(f"A ledger of {new_size} entries does not continue one of {old_size}.")
    refused = _bad(
        f"The ledger of {new_size} entries is not a continuation of the one of {old_size}."
    )
    if old_size in {0, new_size}:
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if proof or old_root != expected or (new_size == 0 and new_root != EMPTY_ROOT):
            raise refused
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # 2
        path.insert(0, old_root)
    if not path:  # 1
        raise refused
    fn, sn = old_size - 1, new_size - 1  # 3
    while fn & 1:  # 4
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # 5
    for c in path[1:]:  # 6
        if sn == 0:
            raise _bad("The consistency proof is too long.")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or fr != old_root or sr != new_root:  # 7
        raise refused
