"""The ledger against naive trees, and its parsers against damaged bytes."""

from __future__ import annotations

import contextlib
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.logs import (
    ORIGIN,
    Log,
    key,
    log_of,
    naive_path,
    naive_root,
    naive_subproof,
)

from cohortium.errors import ProtocolError, VerificationError
from cohortium.ledger.checkpoint import (
    Checkpoint,
    add_cosignatures,
    cosigners,
    open_checkpoint,
    parse_cosignature,
)
from cohortium.ledger.entry import (
    Entry,
    Fact,
    Founded,
    MemberChanged,
    Rounds,
    RunDecided,
    RunEnded,
    SiteDecision,
    parse_entry,
)
from cohortium.ledger.members import require_final
from cohortium.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from cohortium.ledger.note import Note, parse_verifier_key
from cohortium.ledger.tiles import (
    Mirror,
    pack_entries,
    parse_path,
    resources,
    unpack_entries,
    verified_entries,
    verify_mirror,
)
from cohortium.ledger.tree import TILE_WIDTH, tile_width, tree_of

REFUSED = (VerificationError, ProtocolError)

SMALL = log_of(600)
LARGE = log_of(256 * 256 + 3000)
FILES = SMALL.mirror()
CHECKPOINT, _ = open_checkpoint(FILES["checkpoint"], SMALL.key)


def sizes(largest: int) -> st.SearchStrategy[int]:
    """Sizes, more often those near to where a tile or a subtree is complete."""
    edges = [2**k for k in range(17)] + [256 * k for k in range(1, 260)]
    near = st.builds(lambda edge, by: min(max(edge + by, 0), largest), st.sampled_from(edges),
                     st.integers(-2, 2))  # fmt: skip
    return st.one_of(st.integers(0, largest), near)


@pytest.mark.parametrize("size", range(601))
def test_every_small_log_proves_what_a_naive_one_does(size: int) -> None:
    entries = SMALL.entries[:size]
    chosen = random.Random(size)
    tree = SMALL.tree
    root = naive_root(entries)
    assert tree.root(size) == root
    old = chosen.randrange(size + 1)
    growth = tree.consistency_proof(old, size)
    if old:
        assert growth == naive_subproof(old, entries, True)
    verify_consistency(old, naive_root(entries[:old]), size, root, growth)
    if size:
        index = chosen.randrange(size)
        proof = tree.inclusion_proof(index, size)
        assert proof == naive_path(index, entries)
        verify_inclusion(index, size, leaf_hash(entries[index]), proof, root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 32, 33, 100])
def test_every_proof_of_a_log_verifies_for_its_place_only(size: int) -> None:
    entries = SMALL.entries[:size]
    root = naive_root(entries)
    for index, entry in enumerate(entries):
        proof = SMALL.tree.inclusion_proof(index, size)
        verify_inclusion(index, size, leaf_hash(entry), proof, root)
        for other in {(index + 1) % size, index ^ 1, size - 1} - {index}:
            with pytest.raises(VerificationError):
                verify_inclusion(other, size, leaf_hash(entry), proof, root)
    for old in range(size + 1):
        proof = SMALL.tree.consistency_proof(old, size)
        verify_consistency(old, naive_root(entries[:old]), size, root, proof)
        if old < size:
            with pytest.raises(VerificationError):
                verify_consistency(old + 1, naive_root(entries[:old]), size, root, proof)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_of_large_logs_verify(data: st.DataObject) -> None:
    size = data.draw(sizes(len(LARGE.entries)))
    old = data.draw(sizes(size))
    tree = LARGE.tree
    root = tree.root(size)
    verify_consistency(old, tree.root(old), size, root, tree.consistency_proof(old, size))
    if size:
        index = data.draw(st.integers(0, size - 1))
        leaf = leaf_hash(LARGE.entries[index])
        verify_inclusion(index, size, leaf, tree.inclusion_proof(index, size), root)


@settings(max_examples=40, deadline=None)
@given(sizes(3000))
def test_roots_of_larger_logs_are_the_naive_ones(size: int) -> None:
    assert LARGE.tree.root(size) == naive_root(LARGE.entries[:size])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=8))
def test_stored_tiles_are_the_naive_ones(steps: list[int]) -> None:
    log = Log()
    for step in steps:
        start = len(log.entries)
        log.append(*(b"entry %d" % number for number in range(start, start + step)))
    size = len(log.entries)
    leaves = [leaf_hash(entry) for entry in log.entries]
    level = 0
    expected = {}
    while leaves:
        for start in range(0, len(leaves), TILE_WIDTH):
            tile = b"".join(leaves[start : start + TILE_WIDTH])
            expected[level, start // TILE_WIDTH] = tile
            assert len(tile) == 32 * tile_width(level, start // TILE_WIDTH, size)
        span = TILE_WIDTH ** (level + 1)
        leaves = [
            naive_root(log.entries[start : start + span])
            for start in range(0, size - span + 1, span)
        ]
        level += 1
    assert log.tiles == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_altered_proofs_are_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 600))
    index = data.draw(st.integers(0, size - 1))
    proof = SMALL.tree.inclusion_proof(index, size)
    place = data.draw(st.integers(0, len(proof) - 1))
    altered = list(proof)
    altered[place] = data.draw(st.binary(min_size=32, max_size=32))
    if altered == proof:
        return
    leaf = leaf_hash(SMALL.entries[index])
    with pytest.raises(VerificationError):
        verify_inclusion(index, size, leaf, altered, SMALL.tree.root(size))


hashes = st.one_of(st.binary(min_size=32, max_size=32), st.binary(max_size=40))
numbers = st.one_of(st.integers(-3, 20), st.integers(-(2**70), 2**70))


@given(numbers, numbers, hashes, st.lists(hashes, max_size=8), hashes)
def test_proofs_of_nothing_are_refused(
    first: int, second: int, leaf: bytes, proof: list[bytes], root: bytes
) -> None:
    if not (second == 1 and not proof and leaf == root):
        with pytest.raises(VerificationError):
            verify_inclusion(first, second, leaf, proof, root)
    if first not in {0, second} and leaf != root:
        with pytest.raises(VerificationError):
            verify_consistency(first, leaf, second, root, proof)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Valid bytes with a few of them changed, cut or added."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "change", "add", "repeat"])):
            case "cut":
                del data[position : position + draw(st.integers(1, 40))]
            case "change" if position < len(data):
                data[position] ^= draw(st.integers(1, 255))
            case "repeat":
                data[position:position] = data[: draw(st.integers(0, 90))]
            case _:
                data[position:position] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), damaged(SMALL.cosigned())))
def test_damaged_notes_are_refused_or_still_signed_by_enough(raw: bytes) -> None:
    with contextlib.suppress(*REFUSED):
        note = Note.parse(raw)
        assert note.to_bytes() == raw
        cosigners(note, ORIGIN, SMALL.members)
    with contextlib.suppress(*REFUSED):
        # What still opens is the log's checkpoint, for nothing else is signed.
        assert require_final(raw, SMALL.key, SMALL.members) == CHECKPOINT


@given(st.one_of(st.text(), damaged(CHECKPOINT.body.encode()).map(lambda b: b.decode("latin-1"))))
def test_a_checkpoint_is_written_in_one_way(text: str) -> None:
    with contextlib.suppress(VerificationError):
        assert Checkpoint.parse(text).body == text


@given(st.one_of(st.text(), damaged(SMALL.key.text.encode()).map(lambda b: b.decode("latin-1"))))
def test_a_verifier_key_is_written_in_one_way(text: str) -> None:
    with contextlib.suppress(VerificationError):
        assert parse_verifier_key(text).text == text


LINE = Note.parse(SMALL.cosigned()).signatures[2].line


@given(st.one_of(st.binary(max_size=200), damaged(LINE)))
def test_cosignature_lines_are_refused_or_stand_as_they_came(raw: bytes) -> None:
    with contextlib.suppress(VerificationError):
        assert parse_cosignature(raw).line == raw
        assert raw in add_cosignatures(SMALL.checkpoint(), [raw])


@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"tile/(entries|\d{1,2})/(x\d{3}/){0,3}\d{3}(\.p/\d{1,3})?", fullmatch=True),
    )
)
def test_a_path_is_written_in_one_way(path: str) -> None:
    with contextlib.suppress(ProtocolError):
        assert parse_path(path).path == path


@given(st.lists(st.binary(max_size=40), max_size=256), st.data())
def test_bundles_give_back_their_entries(entries: list[bytes], data: st.DataObject) -> None:
    bundle = pack_entries(entries)
    assert unpack_entries(bundle, len(entries)) == entries
    with contextlib.suppress(ProtocolError):
        found = unpack_entries(data.draw(damaged(bundle)), 0)
        assert found == []
    with contextlib.suppress(ProtocolError):
        raw = data.draw(st.binary(max_size=100))
        count = sum(1 for _ in iter_lengths(raw))
        assert pack_entries(unpack_entries(raw, count)) == raw


def iter_lengths(raw: bytes) -> list[int]:
    """The lengths that a bundle names, as far as they go."""
    out, position = [], 0
    while position + 2 <= len(raw):
        out.append(int.from_bytes(raw[position : position + 2], "big"))
        position += 2 + out[-1]
    return out


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(FILES) - {"checkpoint"})), st.data())
def test_a_copy_with_a_damaged_file_gives_good_entries_and_then_stops(
    path: str, data: st.DataObject
) -> None:
    files = {**FILES, path: data.draw(damaged(FILES[path]))}
    found: list[bytes] = []
    with contextlib.suppress(*REFUSED):
        for part in verified_entries(files.get, CHECKPOINT):
            found.extend(part)
        assert found == SMALL.entries
    assert found == SMALL.entries[: len(found)]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_copy_that_is_brought_up_to_date_in_steps_verifies(data: st.DataObject) -> None:
    copy: dict[str, bytes] = {}
    size = 0
    for _ in range(data.draw(st.integers(1, 4))):
        grown = data.draw(st.integers(size, len(LARGE.entries)))
        tree = tree_of(LARGE.tiles, grown)
        mirror = Mirror(tree, lambda start, end: LARGE.entries[start:end], b"")
        copy |= {resource.path: mirror.get(resource.path) for resource in resources(grown, size)}
        size = grown
    checkpoint = Checkpoint(ORIGIN, size, LARGE.tree.root(size))
    assert verify_mirror(copy.get, checkpoint) == sum(map(len, LARGE.entries[:size]))


FACTS: list[Fact] = [
    Founded(name="Heart failure consortium", fingerprint="sha256:" + "5a" * 32),
    MemberChanged(name="協和医院", key=key(1).public, status="approved"),
    RunDecided(
        run_id="0" * 32,
        sites={
            "A": SiteDecision(decision="accepted", statement="sha256:" + "0" * 64),
            "B": SiteDecision(decision="refused", code="run-limit"),
        },
    ),
    RunEnded(run_id="0" * 32, status="succeeded", rounds=(Rounds(first=1, last=3, sites=("A",)),)),
]
ENTRIES = [
    Entry(at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC), fact=fact).to_bytes() for fact in FACTS
]


@pytest.mark.parametrize("raw", ENTRIES)
def test_entries_are_written_in_one_way(raw: bytes) -> None:
    assert parse_entry(raw).to_bytes() == raw
    for other in (raw + b" ", raw.replace(b":", b": ", 1), raw.replace(b"Z", b"+00:00")):
        with pytest.raises(ProtocolError):
            parse_entry(other)


@given(st.data())
def test_damaged_entries_are_refused_or_stand_as_they_came(data: st.DataObject) -> None:
    raw = data.draw(st.one_of(st.binary(max_size=80), *map(damaged, ENTRIES)))
    with contextlib.suppress(ProtocolError):
        assert parse_entry(raw).to_bytes() == raw
