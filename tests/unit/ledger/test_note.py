"""Signed notes and verifier keys: what is refused beyond the published vectors."""

from __future__ import annotations

import pytest
from tests.support.logs import key

from cohortium.errors import VerificationError
from cohortium.ledger.checkpoint import log_key, witness_key
from cohortium.ledger.note import (
    MAX_NOTE_BYTES,
    Note,
    NoteSignature,
    VerifierKey,
    parse_verifier_key,
    verify_note,
)

KEY = log_key("example.org/log", key(1).public)
LINE = NoteSignature(KEY.name, KEY.id, key(1).sign(b"text\n")).line


def refused(data: bytes) -> str:
    with pytest.raises(VerificationError) as refusal:
        Note.parse(data)
    assert refusal.value.code == "bad-checkpoint"
    return refusal.value.message


def test_a_note_verifies_under_its_key_and_no_other() -> None:
    note = Note.parse(b"text\n\n" + LINE)
    assert verify_note(note, KEY)
    assert not verify_note(note, log_key("example.org/log", key(2).public))
    assert not verify_note(note, log_key("example.org/other", key(1).public))


def test_a_signature_with_the_keys_name_and_id_must_verify() -> None:
    note = Note.parse(b"text!\n\n" + LINE)
    with pytest.raises(VerificationError) as refusal:
        verify_note(note, KEY)
    assert refusal.value.code == "bad-checkpoint"


def test_a_witness_key_does_not_sign_notes() -> None:
    with pytest.raises(VerificationError):
        verify_note(Note.parse(b"text\n\n" + LINE), witness_key("o", "site", key(1).public))


def test_the_same_key_has_another_id_for_another_use() -> None:
    same = VerifierKey(KEY.name, 4, KEY.public)
    assert same.id != KEY.id
    assert parse_verifier_key(same.text) == same
    assert parse_verifier_key(KEY.text) == KEY


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no signatures"),
        (b"\n\n", "no signatures"),
        (b"text\n\n\xe2\x80\x94 name AAAAAAA=", "newline"),
        (b"text\n\n\xe2\x80\x94 name AAAAAAA=\n\n", "no signatures"),
        (b"text\n\n\xe2\x80\x94 name AAAAAA==\n", "no signature"),
        (b"text\n\n\xe2\x80\x94 name AAAAAAB=\n", "canonical"),
        (b"text\n\n\xe2\x80\x94 name AAAAAAA\n", "base64"),
        (b"text\n\n\xe2\x80\x94 name\n", "no signature"),
        (b"text\n\n\xe2\x80\x94  AAAAAAA=\n", "name"),
        (b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n", "name"),
        ("text\n\n\u2014 a\u2003b AAAAAAA=\n".encode(), "name"),
        (b"text\n\n- name AAAAAAA=\n", "dash"),
        (b"te\txt\n\n" + LINE, "control"),
        (b"text\r\n\n" + LINE, "control"),
        (b"text\n\n" + LINE + b"\xff", "UTF-8"),
    ],
)
def test_malformed_notes_are_refused(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def test_a_note_that_is_too_long_is_refused() -> None:
    assert "too long" in refused(b"x" * MAX_NOTE_BYTES + b"\n\n" + LINE)


def test_sixteen_signatures_and_more_are_accepted() -> None:
    signatures = [NoteSignature(f"site{n}", bytes([0, 0, 0, n]), b"signature") for n in range(200)]
    data = b"text\n\n" + b"".join(signature.line for signature in signatures)
    assert Note.parse(data).signatures == tuple(signatures)


def test_empty_lines_belong_to_the_text() -> None:
    note = Note.parse(b"a\n\nb\n\n\n" + LINE)
    assert note.text == "a\n\nb\n\n"
    assert note.to_bytes() == b"a\n\nb\n\n\n" + LINE


def test_the_first_signature_of_a_key_stays() -> None:
    first, second = (NoteSignature("n", b"\0\0\0\1", data) for data in (b"1", b"2"))
    other = NoteSignature("n", b"\0\0\0\2", b"3")
    note = Note("text\n", (first,)).with_signatures([second, other])
    assert note.signatures == (first, other)


@pytest.mark.parametrize("text", ["", "name", "name+00000000", "\ud800+00000000+AQ" + "A" * 42])
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(VerificationError) as refusal:
        parse_verifier_key(text)
    assert refusal.value.code == "bad-checkpoint"
