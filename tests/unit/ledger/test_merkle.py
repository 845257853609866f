"""Proofs that must not verify, and the edges of RFC 9162's algorithms."""

from __future__ import annotations

import pytest
from tests.support.logs import log_of

from cohortium.errors import VerificationError
from cohortium.ledger.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    node_hash,
    perfect_root,
    verify_consistency,
    verify_inclusion,
)

LOG = log_of(13)
TREE = LOG.tree
ROOT = TREE.root()
LEAF = leaf_hash(LOG.entries[5])


def refused(*arguments: object) -> str:
    verify = verify_inclusion if isinstance(arguments[2], bytes) else verify_consistency
    with pytest.raises(VerificationError) as refusal:
        verify(*arguments)  # type: ignore[arg-type]
    assert refusal.value.code == "bad-proof"
    return refusal.value.message


def test_an_entry_of_a_log_of_one_needs_no_proof() -> None:
    leaf = leaf_hash(b"only")
    verify_inclusion(0, 1, leaf, [], leaf)
    assert "is not in the ledger" in refused(0, 1, leaf, [], ROOT)


@pytest.mark.parametrize("index", [-1, 13, 14])
def test_a_place_outside_of_the_log_is_refused(index: int) -> None:
    assert "has none at" in refused(index, 13, LEAF, TREE.inclusion_proof(5), ROOT)


def test_a_proof_with_a_hash_more_or_fewer_is_refused() -> None:
    proof = TREE.inclusion_proof(5)
    assert "too long" in refused(5, 13, LEAF, [*proof, ROOT], ROOT)
    refused(5, 13, LEAF, proof[:-1], ROOT)
    refused(5, 13, LEAF, [], ROOT)


def test_an_inner_node_is_not_an_entry() -> None:
    children = leaf_hash(LOG.entries[4]) + LEAF
    shorter = TREE.inclusion_proof(5)[1:]
    verify_inclusion(2, 7, node_hash(children[:32], children[32:]), shorter, ROOT)
    refused(2, 7, leaf_hash(children), shorter, ROOT)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hashes_of_another_length_are_refused(length: int) -> None:
    short = bytes(length)
    proof = TREE.inclusion_proof(5)
    for arguments in (
        (5, 13, short, proof, ROOT),
        (5, 13, LEAF, proof, short),
        (5, 13, LEAF, [short, *proof[1:]], ROOT),
    ):
        assert "32 bytes" in refused(*arguments)
    with pytest.raises(VerificationError, match="32 bytes"):
        verify_consistency(13, short, 13, short, [])


def test_an_empty_log_is_the_beginning_of_every_log() -> None:
    verify_consistency(0, EMPTY_ROOT, 13, ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    for arguments in (
        (0, ROOT, 13, ROOT, []),
        (0, EMPTY_ROOT, 13, ROOT, [ROOT]),
        (0, EMPTY_ROOT, 0, ROOT, []),
    ):
        with pytest.raises(VerificationError):
            verify_consistency(*arguments)


def test_a_log_of_the_same_size_has_the_same_root() -> None:
    verify_consistency(13, ROOT, 13, ROOT, [])
    for new_root, proof in ((LEAF, []), (ROOT, [ROOT])):
        with pytest.raises(VerificationError):
            verify_consistency(13, ROOT, 13, new_root, proof)


@pytest.mark.parametrize("old", [1, 4, 5, 8, 12])
def test_a_proof_of_growth_holds_for_these_sizes_and_roots_only(old: int) -> None:
    proof = TREE.consistency_proof(old)
    old_root = TREE.root(old)
    verify_consistency(old, old_root, 13, ROOT, proof)
    bad = [
        (old, LEAF, 13, ROOT, proof),
        (old, old_root, 13, LEAF, proof),
        (old, old_root, 13, ROOT, proof[:-1]),
        (old, old_root, 13, ROOT, [*proof, ROOT]),
        (old, old_root, 13, ROOT, []),
        (13, ROOT, old, old_root, proof),
        (-1, old_root, 13, ROOT, proof),
        (old + 1, old_root, 13, ROOT, proof),
    ]
    for arguments in bad:
        with pytest.raises(VerificationError):
            verify_consistency(*arguments)


def test_root_of_a_full_subtree_is_the_trees() -> None:
    hashes = [leaf_hash(entry) for entry in LOG.entries[:8]]
    assert perfect_root(b"".join(hashes)) == TREE.root(8)
    assert perfect_root(hashes[0]) == hashes[0]
