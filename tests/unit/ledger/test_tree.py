"""The tree over tiles: what it asks for, what it refuses."""

from __future__ import annotations

import pytest
from tests.support.logs import Log, log_of, naive_root

from cohortium.errors import InputError, IntegrityFailure
from cohortium.ledger.merkle import EMPTY_ROOT, leaf_hash
from cohortium.ledger.tree import TILE_BYTES, Tree, tile_width, tree_of


@pytest.mark.parametrize("step", [1, 7, 255, 256, 257, 600])
def test_a_log_has_the_same_tiles_however_it_grew(step: int) -> None:
    grown = Log()
    entries = [b"entry %d" % number for number in range(600)]
    for start in range(0, 600, step):
        grown.append(*entries[start : start + step])
    assert grown.tiles == log_of(600).tiles
    assert grown.tree.root() == naive_root(entries)


def test_only_what_changed_is_given_back() -> None:
    log = log_of(256 * 3 + 10)
    after, changed = log.tree.extended([leaf_hash(b"one more")])
    assert list(changed) == [(0, 3)]
    assert after.size == 256 * 3 + 11
    assert log.tree.size == 256 * 3 + 10
    _, none = log.tree.extended([])
    assert none == {}


def test_a_tile_that_becomes_full_changes_the_one_above() -> None:
    log = log_of(256 * 3 - 1)
    _, changed = log.tree.extended([leaf_hash(b"a"), leaf_hash(b"b")])
    assert list(changed) == [(0, 2), (0, 3), (1, 0)]
    assert [len(tile) // 32 for tile in changed.values()] == [256, 1, 3]


def test_the_grown_tree_answers_before_its_tiles_are_stored() -> None:
    log = log_of(300)
    entries = [b"new %d" % number for number in range(400)]
    first, _ = log.tree.extended([leaf_hash(entry) for entry in entries[:100]])
    second, _ = first.extended([leaf_hash(entry) for entry in entries[100:]])
    assert second.root() == naive_root([*log.entries, *entries])
    assert second.root(300) == log.tree.root()


def test_a_stored_tile_may_have_grown_further() -> None:
    log = log_of(600)
    assert tree_of(log.tiles, 300).root() == log.tree.root(300)
    assert tree_of(log.tiles, 300).inclusion_proof(299) == log.tree.inclusion_proof(299, 300)


def test_an_empty_log_reads_nothing() -> None:
    def read(level: int, index: int) -> bytes:
        raise RuntimeError(f"tile {index} of level {level} was read")

    tree = Tree(0, read)
    assert tree.root() == EMPTY_ROOT
    assert tree.consistency_proof(0) == []
    grown, changed = tree.extended([leaf_hash(b"first")])
    assert changed == {(0, 0): leaf_hash(b"first")}
    assert grown.root() == leaf_hash(b"first")


def test_only_tiles_that_exist_are_read() -> None:
    log = log_of(256 * 256 + 3)
    asked = []

    def read(level: int, index: int) -> bytes:
        asked.append((level, index))
        return log.tiles[level, index]

    tree = Tree(256 * 256 + 3, read)
    tree.inclusion_proof(70)
    tree.consistency_proof(65_536 - 2)
    tree.root()
    assert all(tile_width(level, index, tree.size) for level, index in asked)


def test_an_inclusion_proof_reads_few_tiles() -> None:
    log = log_of(256 * 256 + 3)
    asked = set()

    def read(level: int, index: int) -> bytes:
        asked.add((level, index))
        return log.tiles[level, index]

    Tree(256 * 256 + 3, read).inclusion_proof(70)
    assert len(asked) <= 5


@pytest.mark.parametrize("level", [0, 1])
def test_a_tile_that_is_too_short_stops(level: int) -> None:
    log = log_of(600)
    last = max(index for found, index in log.tiles if found == level)
    log.tiles[level, last] = log.tiles[level, last][:-1]
    with pytest.raises(IntegrityFailure) as failure:
        log.tree.root()
    assert failure.value.code == "broken-store"


def test_places_and_sizes_that_the_log_does_not_have_are_not_found() -> None:
    tree = log_of(10).tree
    for ask in (
        lambda: tree.root(11),
        lambda: tree.root(-1),
        lambda: tree.inclusion_proof(10),
        lambda: tree.inclusion_proof(-1),
        lambda: tree.inclusion_proof(5, 5),
        lambda: tree.inclusion_proof(0, 0),
        lambda: tree.consistency_proof(11),
        lambda: tree.consistency_proof(6, 5),
        lambda: tree.consistency_proof(-1),
    ):
        with pytest.raises(InputError) as refusal:
            ask()
        assert refusal.value.code == "not-found"


def test_widths_of_tiles() -> None:
    assert tile_width(0, 0, 0) == 0
    assert tile_width(0, 1, 257) == 1
    assert tile_width(0, 0, 257) == 256
    assert tile_width(1, 0, 255) == 0
    assert tile_width(1, 0, 256) == 1
    assert tile_width(0, 2, 257) == 0
    assert TILE_BYTES == 8192
