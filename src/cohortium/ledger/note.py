"""Signed notes and verifier keys (C2SP signed-note)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cohortium.crypto.keys import PREFIX, b64url, verify
from cohortium.errors import VerificationError

ED25519: Final = 0x01
"""Signature type: Ed25519 over the note's text."""
COSIGNATURE: Final = 0x04
"""Signature type: timestamped Ed25519 checkpoint cosignature (C2SP tlog-cosignature)."""

MAX_NOTE_BYTES: Final = 1 << 20
KEY_ID_BYTES: Final = 4

_DASH: Final = "\u2014 "
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


def refused(message: str) -> VerificationError:
    """The one error of notes and checkpoints."""
    return VerificationError("bad-checkpoint", message)


def decode_base64(text: str) -> bytes:
    """Standard base64 (RFC 4648 4), strictly: one text for each value."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise refused("The note does not hold valid base64.") from error
    if base64.b64encode(data).decode() != text:
        raise refused("The note does not hold canonical base64.")
    return data


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() for c in name) or _CONTROL.search(name):
        raise refused("A key's name in a note is empty or has a space or a plus sign.")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key that signs notes.

    Attributes:
        kind: Signature type, the first byte of the encoded key.
        public: The public key's bytes (32 for Ed25519).
    """

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that a signature names its key with."""
        data = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(data).digest()[:KEY_ID_BYTES]

    @property
    def text(self) -> str:
        """``<name>+<id in hex>+<base64 of type and public key>``."""
        encoded = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"


def parse_verifier_key(text: str) -> VerifierKey:
    """A verifier key from its text: Ed25519 or cosignature; its id must follow from the key.

    Raises:
        VerificationError: ``bad-checkpoint``.
    """
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise refused("Not a verifier key: it has three parts with plus signs between them.")
    name, key_id, encoded = parts
    _check_name(name)
    data = decode_base64(encoded)
    if len(data) != 33 or data[0] not in {ED25519, COSIGNATURE}:
        raise refused("The verifier key is of another type, or has the wrong length.")
    try:
        key = VerifierKey(name, data[0], data[1:])
        found = key.id.hex()
    except UnicodeError as error:
        raise refused("The verifier key's name is not Unicode text.") from error
    if found != key_id:
        raise refused("The verifier key's id does not belong to the key.")
    return key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line; what it proves is for the key's type to say."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> bytes:
        """With its newline."""
        encoded = base64.b64encode(self.key_id + self.signature).decode()
        return f"{_DASH}{self.name} {encoded}\n".encode()


def parse_signature(line: str) -> NoteSignature:
    """A signature from its line, without the newline.

    Raises:
        VerificationError: ``bad-checkpoint``.
    """
    if not line.startswith(_DASH):
        raise refused("A signature line of the note does not begin with a dash.")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    _check_name(name)
    data = decode_base64(encoded)
    if not space or len(data) <= KEY_ID_BYTES:
        raise refused("A signature line of the note holds no signature.")
    return NoteSignature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Note:
    """A text and who claims to have signed it; nothing is verified here."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """A note from untrusted bytes.

        Raises:
            VerificationError: ``bad-checkpoint``.
        """
        if len(data) > MAX_NOTE_BYTES:
            raise refused("The note is too long.")
        try:
            whole = data.decode()
        except UnicodeError as error:
            raise refused("The note is not UTF-8.") from error
        if _CONTROL.search(whole):
            raise refused("The note holds control characters.")
        text, separator, signatures = whole.rpartition("\n\n")
        if not separator or not signatures.endswith("\n"):
            raise refused("The note has no signatures, or does not end with a newline.")
        lines = signatures[:-1].split("\n")
        return cls(text + "\n", tuple(parse_signature(line) for line in lines))

    def to_bytes(self) -> bytes:
        """The text, an empty line, the signature lines."""
        return self.text.encode() + b"\n" + b"".join(s.line for s in self.signatures)

    def by(self, key: VerifierKey) -> list[NoteSignature]:
        """The signatures that claim to be by this key."""
        key_id = key.id
        return [s for s in self.signatures if s.name == key.name and s.key_id == key_id]

    def with_signatures(self, more: Iterable[NoteSignature]) -> Note:
        """With more signatures; of each key the first one stays."""
        known = {(s.name, s.key_id): s for s in self.signatures}
        for signature in more:
            known.setdefault((signature.name, signature.key_id), signature)
        return Note(self.text, tuple(known.values()))


def verify_signature(key: VerifierKey, signature: bytes, data: bytes) -> None:
    """Check an Ed25519 signature of a note's key.

    Raises:
        VerificationError: ``bad-checkpoint``.
    """
    try:
        verify(PREFIX + b64url(key.public), signature, data)
    except VerificationError as error:
        raise refused(f"The signature of {key.name} on the note does not verify.") from error


def verify_note(note: Note, key: VerifierKey) -> bool:
    """True where this Ed25519 key (type 0x01) signed the note; False where it did not try to.

    Raises:
        VerificationError: ``bad-checkpoint`` where a signature of this key does not verify.
    """
    if key.kind != ED25519:
        raise refused(f"The key {key.name} is not one that signs notes.")
    signatures = note.by(key)
    for signature in signatures:
        verify_signature(key, signature.signature, note.text.encode())
    return bool(signatures)
