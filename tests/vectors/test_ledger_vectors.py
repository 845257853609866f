"""The published vectors of Merkle trees, signed notes, checkpoints and tiles, replayed."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cohortium.crypto.keys import SigningKey
from cohortium.errors import ProtocolError, VerificationError
from cohortium.ledger.checkpoint import Checkpoint, cosigned_at, open_checkpoint
from cohortium.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from cohortium.ledger.note import (
    COSIGNATURE,
    ED25519,
    Note,
    NoteSignature,
    parse_verifier_key,
    verify_note,
)
from cohortium.ledger.tiles import Resource, parse_path, resources
from cohortium.ledger.tree import tree_of

Json = dict[str, Any]

MERKLE: Json = json.loads(Path(__file__).with_name("ledger_merkle.json").read_text("utf-8"))
NOTES: Json = json.loads(Path(__file__).with_name("ledger_notes.json").read_text("utf-8"))
TREE = tree_of({}, 0).extended([leaf_hash(bytes.fromhex(leaf)) for leaf in MERKLE["leaves"]])[0]
TILES: Json = NOTES["tiles"]

NOT_HASHES = "consistency/additional/sizes-are-equal-one-and-proof-is-empty"
"""Its roots are equal texts of 12 bytes; ours must be hashes."""


def named(cases: Sequence[Json]) -> list[Any]:
    return [pytest.param(case, id=case["what"]) for case in cases]


def unhex(texts: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_reference_tree(size: int) -> None:
    assert TREE.root(size).hex() == MERKLE["roots"][size]


def test_inclusion_proofs_of_the_reference_tree() -> None:
    for case in MERKLE["inclusion_proofs"]:
        proof = TREE.inclusion_proof(case["index"], case["size"])
        assert [value.hex() for value in proof] == case["proof"]
        leaf = leaf_hash(bytes.fromhex(MERKLE["leaves"][case["index"]]))
        root = bytes.fromhex(MERKLE["roots"][case["size"]])
        verify_inclusion(case["index"], case["size"], leaf, proof, root)


def test_consistency_proofs_of_the_reference_tree() -> None:
    for case in MERKLE["consistency_proofs"]:
        old, new = case["old_size"], case["new_size"]
        proof = TREE.consistency_proof(old, new)
        assert [value.hex() for value in proof] == case["proof"]
        roots = unhex(MERKLE["roots"])
        verify_consistency(old, roots[old], new, roots[new], proof)


@pytest.mark.parametrize("case", named(MERKLE["inclusion_probes"]))
def test_inclusion_probes_good_and_malicious(case: Json) -> None:
    arguments = (
        case["index"],
        case["size"],
        bytes.fromhex(case["leaf"]),
        unhex(case["proof"]),
        bytes.fromhex(case["root"]),
    )
    if case["good"]:
        verify_inclusion(*arguments)
        return
    with pytest.raises(VerificationError) as refusal:
        verify_inclusion(*arguments)
    assert refusal.value.code == "bad-proof"


@pytest.mark.parametrize("case", named(MERKLE["consistency_probes"]))
def test_consistency_probes_good_and_malicious(case: Json) -> None:
    arguments = (
        case["old_size"],
        bytes.fromhex(case["old_root"]),
        case["new_size"],
        bytes.fromhex(case["new_root"]),
        unhex(case["proof"]),
    )
    if case["good"] and case["what"] != NOT_HASHES:
        verify_consistency(*arguments)
        return
    with pytest.raises(VerificationError) as refusal:
        verify_consistency(*arguments)
    assert refusal.value.code == "bad-proof"


@pytest.mark.parametrize("case", named(NOTES["notes"]))
def test_published_notes_verify_or_are_refused(case: Json) -> None:
    keys = [parse_verifier_key(text) for text in case["keys"]]
    note = Note.parse(case["note"].encode())
    if case["signers"] is not None:
        assert [key.name for key in keys if verify_note(note, key)] == case["signers"]
        assert note.to_bytes() == case["note"].encode()
        return
    with pytest.raises(VerificationError) as refusal:
        verify_note(note, keys[0])
    assert refusal.value.code == "bad-checkpoint"


@pytest.mark.parametrize("case", named(NOTES["parsed_notes"]))
def test_published_examples_without_a_key_are_parsed_and_written_back(case: Json) -> None:
    note = Note.parse(case["note"].encode())
    assert [signature.name for signature in note.signatures] == case["signers"]
    assert note.to_bytes() == case["note"].encode()


@pytest.mark.parametrize("case", named(NOTES["malformed_notes"]))
def test_malformed_notes_are_refused(case: Json) -> None:
    data = case["note"].encode() if "note" in case else case["note_latin1"].encode("latin-1")
    with pytest.raises(VerificationError) as refusal:
        Note.parse(data)
    assert refusal.value.code == "bad-checkpoint"


def test_our_signature_is_the_published_one() -> None:
    case = NOTES["signing"]
    seed = base64.b64decode(case["seed_base64"])
    assert seed[0] == ED25519
    key = parse_verifier_key(case["key"])
    signature = SigningKey.from_seed(seed[1:]).sign(case["text"].encode())
    note = Note(case["text"], (NoteSignature(key.name, key.id, signature),))
    assert note.to_bytes() == case["note"].encode()


@pytest.mark.parametrize("case", NOTES["keys"], ids=lambda case: case["key"])
def test_published_keys_are_parsed_and_written_back(case: Json) -> None:
    key = parse_verifier_key(case["key"])
    assert key.kind == case["kind"]
    assert key.text == case["key"]


@pytest.mark.parametrize("text", NOTES["malformed_keys"])
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        parse_verifier_key(text)


def test_no_part_and_no_mangling_of_a_key_is_a_key() -> None:
    key = NOTES["signing"]["key"]
    parts = {key[i:j] for i in range(len(key)) for j in range(i, len(key) + 1)} - {key}
    mangled = {key[:i] + chr(ord(key[i]) + 1) + key[i + 1 :] for i in range(len(key))}
    for text in parts | mangled:
        with pytest.raises(VerificationError):
            parse_verifier_key(text)


@pytest.mark.parametrize("case", named(NOTES["checkpoints"]))
def test_published_checkpoints_are_parsed_and_written_back(case: Json) -> None:
    checkpoint = Checkpoint.parse(case["text"])
    assert checkpoint.origin == case["origin"]
    assert checkpoint.size == case["size"]
    assert list(checkpoint.extensions) == case["extensions"]
    assert checkpoint.body == case["text"]


@pytest.mark.parametrize("case", named(NOTES["malformed_checkpoints"]))
def test_malformed_checkpoints_are_refused(case: Json) -> None:
    with pytest.raises(VerificationError) as refusal:
        Checkpoint.parse(case["text"])
    assert refusal.value.code == "bad-checkpoint"


def test_a_public_logs_checkpoint_and_its_cosignatures_verify() -> None:
    case = NOTES["cosigned"]
    checkpoint, note = open_checkpoint(case["note"].encode(), parse_verifier_key(case["log"]))
    assert checkpoint.size == case["size"]
    for text in case["witnesses"]:
        witness = parse_verifier_key(text)
        assert witness.kind == COSIGNATURE
        assert cosigned_at(note, witness) == case["time_s"]


def test_a_public_logs_checkpoint_with_another_size_is_refused() -> None:
    case = NOTES["cosigned"]
    altered = case["note"].replace(str(case["size"]), "42")
    with pytest.raises(VerificationError):
        open_checkpoint(altered.encode(), parse_verifier_key(case["log"]))
    for text in case["witnesses"]:
        with pytest.raises(VerificationError):
            cosigned_at(Note.parse(altered.encode()), parse_verifier_key(text))


@pytest.mark.parametrize("case", TILES["paths"], ids=lambda case: case["path"])
def test_paths_of_the_specification(case: Json) -> None:
    resource = Resource(case["level"], case["index"], case["width"])
    assert resource.path == case["path"]
    assert parse_path(case["path"]) == resource


@pytest.mark.parametrize("path", TILES["malformed_paths"])
def test_paths_that_are_written_otherwise_are_refused(path: str) -> None:
    with pytest.raises(ProtocolError):
        parse_path(path)


@pytest.mark.parametrize("case", TILES["sizes"], ids=lambda case: str(case["size"]))
def test_tiles_of_a_log_are_those_of_the_specification(case: Json) -> None:
    full: dict[str, int] = {}
    partial: dict[str, int] = {}
    for resource in resources(case["size"]):
        if resource.level is None:
            continue
        if resource.width == 256:
            full[str(resource.level)] = full.get(str(resource.level), 0) + 1
        else:
            assert str(resource.level) not in partial
            partial[str(resource.level)] = resource.width
    assert full == case["full"]
    assert partial == case["partial"]
