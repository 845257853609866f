"""Our trees and inclusion proofs against pymerkle, a verifier that others wrote.

Its consistency proofs are of another shape than RFC 9162's; the published probes and the naive
tree of the property tests cover those.
"""

from __future__ import annotations

import hashlib

import pytest
from pymerkle import InmemoryTree, InvalidProof, verify_inclusion
from pymerkle.proof import InclusionProof

from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.tree import tree_of

SIZES = [*range(1, 70), 127, 128, 129, 255, 256, 257, 300, 511, 512, 513]
ENTRIES = [hashlib.sha256(b"entry %d" % number).digest() for number in range(max(SIZES))]
OURS = tree_of({}, 0).extended([leaf_hash(entry) for entry in ENTRIES])[0]


@pytest.fixture(scope="module")
def theirs() -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    tree.append_entries(ENTRIES)
    return tree


@pytest.mark.parametrize("size", SIZES)
def test_our_roots_are_theirs(size: int, theirs: InmemoryTree) -> None:
    assert OURS.root(size) == theirs.get_root(size)


@pytest.mark.parametrize("size", SIZES)
def test_they_make_the_same_inclusion_proofs_and_verify_ours(
    size: int, theirs: InmemoryTree
) -> None:
    for index in {0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)):
        ours = OURS.inclusion_proof(index, size)
        made = theirs.prove_inclusion(index + 1, size)
        assert [leaf_hash(ENTRIES[index]), *ours] == made.path
        mine = InclusionProof("sha256", True, size, index + 1, made.rule, made.path[:1] + ours)
        verify_inclusion(leaf_hash(ENTRIES[index]), OURS.root(size), mine, index=index + 1)


def test_they_refuse_our_proof_of_another_entry(theirs: InmemoryTree) -> None:
    made = theirs.prove_inclusion(5, 300)
    altered = [made.path[0], *OURS.inclusion_proof(5, 300)]
    proof = InclusionProof("sha256", True, 300, 5, made.rule, altered)
    with pytest.raises(InvalidProof):
        verify_inclusion(leaf_hash(ENTRIES[4]), OURS.root(300), proof)
