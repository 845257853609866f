"""Checkpoints, cosignatures and when a checkpoint is final."""

from __future__ import annotations

import struct

import pytest
from tests.support.logs import FINGERPRINT, ORIGIN, Log, key, log_of

from cohortium.crypto.keys import SigningKey
from cohortium.errors import VerificationError
from cohortium.ledger.checkpoint import (
    Checkpoint,
    add_cosignatures,
    cosign,
    cosigned_at,
    cosigners,
    log_key,
    members_line,
    open_checkpoint,
    origin,
    sign,
    witness_key,
    witness_name,
)
from cohortium.ledger.entry import MemberChanged, ResearcherChanged
from cohortium.ledger.members import Members, quorum, require_final
from cohortium.ledger.note import Note, NoteSignature


def not_final(note: bytes, log: Log, *maps: dict[str, str]) -> str:
    with pytest.raises(VerificationError) as refusal:
        require_final(note, log.key, *maps)
    assert refusal.value.code == "not-final"
    return refusal.value.message


def test_the_origin_follows_from_the_authority() -> None:
    assert origin(FINGERPRINT) == "cohortium/" + "5a" * 16


def test_a_sites_name_is_percent_encoded() -> None:
    assert witness_name("o", "St. Mary's / 協和") == "o/St.%20Mary%27s%20%2F%20%E5%8D%94%E5%92%8C"
    with pytest.raises(VerificationError):
        witness_name("o", "\ud800")


def test_a_signed_checkpoint_is_opened_with_the_logs_key() -> None:
    log = log_of(5)
    checkpoint, note = open_checkpoint(log.checkpoint(), log.key)
    assert (checkpoint.size, checkpoint.root) == (5, log.tree.root())
    assert checkpoint.members == Members(log.members).digest
    assert [signature.name for signature in note.signatures] == [ORIGIN]


@pytest.mark.parametrize("other", [log_key(ORIGIN, key(2).public), log_key("o", key(1).public)])
def test_a_checkpoint_of_another_log_or_key_is_refused(other: object) -> None:
    with pytest.raises(VerificationError) as refusal:
        open_checkpoint(log_of(5).checkpoint(), other)  # type: ignore[arg-type]
    assert refusal.value.code == "bad-checkpoint"


def test_a_checkpoint_of_another_log_under_this_ones_name_is_refused() -> None:
    log = log_of(5)
    text = Checkpoint("another", 5, log.tree.root()).body
    signature = NoteSignature(ORIGIN, log.key.id, log.own.sign(text.encode()))
    with pytest.raises(VerificationError) as refusal:
        open_checkpoint(Note(text, (signature,)).to_bytes(), log.key)
    assert refusal.value.message == "The checkpoint is of another log."


def test_a_witness_key_does_not_open_a_checkpoint() -> None:
    log = log_of(5)
    witness = witness_key(ORIGIN, "Site 0", log.members["Site 0"])
    for other in (witness, type(witness)(ORIGIN, 4, log.key.public)):
        with pytest.raises(VerificationError):
            open_checkpoint(log.cosigned(), other)


@pytest.mark.parametrize("place", [0, 40, 60, 80, 120])
def test_an_altered_checkpoint_is_refused(place: int) -> None:
    log = log_of(5)
    data = bytearray(log.checkpoint())
    data[place] ^= 1
    with pytest.raises(VerificationError):
        open_checkpoint(bytes(data), log.key)


def test_a_key_that_is_not_one_is_refused() -> None:
    for text in ("", "ed25519:", "ed25519:AAAA", "rsa:" + "A" * 43):
        with pytest.raises(VerificationError):
            log_key(ORIGIN, text)


def test_cosignatures_say_who_and_when() -> None:
    log = log_of(5)
    note = Note.parse(log.cosigned("Site 0", "Site 2", time_s=1_700_000_000))
    assert cosigners(note, ORIGIN, log.members) == {
        "Site 0": 1_700_000_000,
        "Site 2": 1_700_000_000,
    }


def test_a_cosignature_under_another_sites_name_does_not_count() -> None:
    log = log_of(5)
    note = Note.parse(log.checkpoint())
    line = cosign(note, ORIGIN, "Site 1", log.witnesses["Site 0"], 1)
    cosigned = Note.parse(add_cosignatures(log.checkpoint(), [line]))
    assert cosigners(cosigned, ORIGIN, log.members) == {}


@pytest.mark.parametrize("alter", ["checkpoint", "time", "signature", "length", "far future"])
def test_a_members_cosignature_that_does_not_verify_is_refused(alter: str) -> None:
    log = log_of(5)
    whole = Note.parse(log.cosigned("Site 0"))
    good = whole.signatures[1]
    time, signature = good.signature[:8], good.signature[8:]
    text = whole.text
    match alter:
        case "checkpoint":
            text = Note.parse(log_of(6).checkpoint()).text
        case "time":
            time = bytes([time[0]]) + bytes([time[1] ^ 1]) + time[2:]
        case "signature":
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        case "length":
            signature = signature[:-1]
        case _:
            time = struct.pack(">Q", 2**63)
            message = f"cosignature/v1\ntime {2**63}\n{text}".encode()
            signature = log.witnesses["Site 0"].sign(message)
    altered = Note(text, (NoteSignature(good.name, good.key_id, time + signature),))
    with pytest.raises(VerificationError) as refusal:
        cosigners(altered, ORIGIN, log.members)
    assert refusal.value.code == "bad-checkpoint"


def test_the_logs_signature_is_not_a_cosignature() -> None:
    log = Log(witnesses={"Site 0": key(1)})
    log.append(b"entry")
    assert cosigners(Note.parse(log.checkpoint()), ORIGIN, log.members) == {}
    with pytest.raises(VerificationError):
        cosigned_at(Note.parse(log.checkpoint()), log.key)


def test_a_cosignature_is_one_line() -> None:
    log = log_of(5)
    line = cosign(Note.parse(log.checkpoint()), ORIGIN, "Site 0", log.witnesses["Site 0"], 1)
    for bad in (b"", line[:-1], line + line, line + b"\n", b"\xff" + line, b"text\n"):
        with pytest.raises(VerificationError) as refusal:
            add_cosignatures(log.checkpoint(), [bad])
        assert refusal.value.code == "bad-checkpoint"


def test_cosigning_again_changes_nothing() -> None:
    log = log_of(5)
    once = log.cosigned("Site 0", time_s=5)
    line = cosign(Note.parse(once), ORIGIN, "Site 0", log.witnesses["Site 0"], 6)
    assert add_cosignatures(once, [line]) == once


def test_a_line_in_the_logs_own_name_does_not_displace_its_signature() -> None:
    log = log_of(5)
    line = NoteSignature(ORIGIN, log.key.id, b"x" * 64).line
    assert add_cosignatures(log.checkpoint(), [line]) == log.checkpoint()


@pytest.mark.parametrize(
    ("members", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (100, 67)]
)
def test_the_quorum_is_more_than_two_thirds(members: int, needed: int) -> None:
    assert quorum(members) == needed
    assert needed * 3 > members * 2
    assert (needed - 1) * 3 <= members * 2


def test_no_members_are_never_enough() -> None:
    log = Log(witnesses={})
    log.append(b"entry")
    assert "0 of 0 members" in not_final(log.checkpoint(), log, {})


def test_final_with_the_quorum_and_not_before() -> None:
    log = log_of(5)
    message = not_final(log.cosigned("Site 0", "Site 1"), log, log.members)
    assert "2 of 4 members" in message
    checkpoint = require_final(log.cosigned("Site 0", "Site 1", "Site 3"), log.key, log.members)
    assert checkpoint.size == 5


def test_the_missing_members_are_named() -> None:
    log = log_of(5)
    with pytest.raises(VerificationError) as refusal:
        require_final(log.cosigned("Site 0"), log.key, log.members)
    assert refusal.value.details == {"missing": ["Site 1", "Site 2", "Site 3"]}


def test_members_that_the_hub_invented_are_not_enough_for_a_study() -> None:
    invented = Log(witnesses={f"Fake {n}": SigningKey.generate() for n in range(5)})
    invented.append(b"entry")
    note = invented.cosigned()
    require_final(note, invented.key, invented.members)
    participants = log_of(1).members
    assert "0 of 4 participants" in not_final(note, invented, invented.members, participants)


def test_participants_in_no_number_are_refused() -> None:
    log = log_of(5)
    assert "0 of 0 participants" in not_final(log.cosigned(), log, log.members, {})


def test_other_members_than_the_checkpoint_names_are_refused() -> None:
    log = log_of(5)
    fewer = {site: log.members[site] for site in ("Site 0", "Site 1")}
    assert "names other members" in not_final(log.cosigned(), log, fewer)


def test_a_checkpoint_that_names_no_members_is_refused() -> None:
    log = log_of(5)
    digest = members_line(Members(log.members).digest)
    for extensions in ((), (digest, digest)):
        note = sign(Checkpoint(ORIGIN, 5, log.tree.root(), extensions), log.own)
        lines = [cosign(Note.parse(note), ORIGIN, s, k, 1) for s, k in log.witnesses.items()]
        assert "names other" in not_final(add_cosignatures(note, lines), log, log.members)


def test_members_follow_the_facts() -> None:
    def changed(name: str, number: int, status: str) -> MemberChanged:
        return MemberChanged.from_json(
            {"kind": "member", "name": name, "key": key(number).public, "status": status}
        )

    none = Members()
    both = none.after_all([changed("A", 1, "approved"), changed("B", 2, "approved")])
    assert both.members == {"A": key(1).public, "B": key(2).public}
    assert both.after(changed("A", 3, "approved")).members["A"] == key(3).public
    assert list(both.after(changed("A", 1, "suspended")).members) == ["B"]
    assert list(both.after(changed("B", 2, "removed")).members) == ["A"]
    researcher = ResearcherChanged(name="R", key=key(4).public, status="active")
    assert both.after(researcher) is both
    other_order = none.after_all([changed("B", 2, "approved"), changed("A", 1, "approved")])
    assert other_order.digest == both.digest
    assert none.members == {}
