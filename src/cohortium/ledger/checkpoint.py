"""Checkpoints of the ledger and their cosignatures (C2SP tlog-checkpoint, tlog-cosignature)."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cohortium.crypto.keys import PREFIX, SigningKey, unb64url
from cohortium.errors import VerificationError
from cohortium.ledger.merkle import HASH_BYTES
from cohortium.ledger.note import (
    COSIGNATURE,
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    decode_base64,
    parse_signature,
    refused,
    verify_note,
    verify_signature,
)

MEMBERS: Final = "members "
"""The extension line that names who may make this checkpoint final."""

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_TIME: Final = struct.Struct(">Q")
_MAX_TIME_S: Final = 2**63 - 1


def origin(fingerprint: str) -> str:
    """The log's name: it follows from the consortium's certificate authority alone.

    Args:
        fingerprint: ``sha256:...`` of the consortium.
    """
    return "cohortium/" + fingerprint.removeprefix("sha256:")[:32]


def witness_name(origin: str, site: str) -> str:
    """A site's name in a signature line."""
    try:
        return f"{origin}/{quote(site, safe='')}"
    except UnicodeError as error:
        raise refused("A site's name is not Unicode text.") from error


def _raw(key: str) -> bytes:
    raw = unb64url(key.removeprefix(PREFIX)) if key.startswith(PREFIX) else b""
    if len(raw) != 32:
        raise VerificationError("bad-signature", "Not an Ed25519 public key.")
    return raw


def log_key(origin: str, key: str) -> VerifierKey:
    """The verifier key of the log; `key` is ``ed25519:...``."""
    return VerifierKey(origin, ED25519, _raw(key))


def witness_key(origin: str, site: str, key: str) -> VerifierKey:
    """The verifier key of a site; `key` is its contract key, ``ed25519:...``."""
    return VerifierKey(witness_name(origin, site), COSIGNATURE, _raw(key))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log was at a size.

    Attributes:
        origin: Which log.
        size: Entries.
        root: RFC 9162 Merkle tree hash over them.
        extensions: Further lines.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def body(self) -> str:
        """The note's text."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode())
        return "".join(f"{line}\n" for line in (*lines, *self.extensions))

    @property
    def members(self) -> str | None:
        """The digest of the members that may make it final; None where it does not say."""
        found = [line for line in self.extensions if line.startswith(MEMBERS)]
        return found[0].removeprefix(MEMBERS) if len(found) == 1 else None

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """A checkpoint from a note's text.

        Raises:
            VerificationError: ``bad-checkpoint``.
        """
        if not text.endswith("\n"):
            raise refused("The checkpoint does not end with a newline.")
        lines = text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise refused("The checkpoint has fewer than three lines, or an empty one.")
        if not _SIZE.fullmatch(lines[1]):
            raise refused("The checkpoint's size is not a number.")
        root = decode_base64(lines[2])
        if len(root) != HASH_BYTES:
            raise refused("The checkpoint's root does not have 32 bytes.")
        return cls(lines[0], int(lines[1]), root, tuple(lines[3:]))


def members_line(digest: str) -> str:
    """The extension line for the members with this digest."""
    return MEMBERS + digest


def sign(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """The log's signed note over a checkpoint."""
    signer = log_key(checkpoint.origin, key.public)
    signature = key.sign(checkpoint.body.encode())
    return Note(checkpoint.body, (NoteSignature(signer.name, signer.id, signature),)).to_bytes()


def open_checkpoint(note: bytes, log_key: VerifierKey) -> tuple[Checkpoint, Note]:
    """Verify the log's own signature; who else signed is for `cosigners` to say.

    Raises:
        VerificationError: ``bad-checkpoint``.
    """
    parsed = Note.parse(note)
    checkpoint = Checkpoint.parse(parsed.text)
    if checkpoint.origin != log_key.name:
        raise refused("The checkpoint is of another log.")
    if not verify_note(parsed, log_key):
        raise refused("The checkpoint is not signed by the log's key.")
    return checkpoint, parsed


def _cosigned(time_s: int, text: str) -> bytes:
    """C2SP tlog-cosignature, "Ed25519 signed message"."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def cosign(note: Note, origin: str, site: str, key: SigningKey, time_s: int) -> bytes:
    """A site's signature line: at `time_s` (POSIX) this was the newest checkpoint it had seen."""
    witness = witness_key(origin, site, key.public)
    signature = _TIME.pack(time_s) + key.sign(_cosigned(time_s, note.text))
    return NoteSignature(witness.name, witness.id, signature).line


def parse_cosignature(line: bytes) -> NoteSignature:
    """One signature line with its newline, as `cosign` makes it; nothing is verified.

    Raises:
        VerificationError: ``bad-checkpoint``.
    """
    try:
        text = line.decode()
    except UnicodeError as error:
        raise refused("The cosignature is not UTF-8.") from error
    if not text.endswith("\n") or "\n" in text[:-1]:
        raise refused("A cosignature is one line.")
    return parse_signature(text[:-1])


def add_cosignatures(note: bytes, lines: Sequence[bytes]) -> bytes:
    """The note with more signature lines; they are not verified, see `cosigners`."""
    return Note.parse(note).with_signatures(map(parse_cosignature, lines)).to_bytes()


def _time_of(witness: VerifierKey, signature: NoteSignature, text: str) -> int:
    if len(signature.signature) != _TIME.size + 64:
        raise refused(f"The cosignature of {witness.name} has the wrong length.")
    time_s = int(_TIME.unpack_from(signature.signature)[0])
    if time_s > _MAX_TIME_S:
        raise refused(f"The cosignature of {witness.name} has no valid time.")
    verify_signature(witness, signature.signature[_TIME.size :], _cosigned(time_s, text))
    return time_s


def cosigned_at(note: Note, witness: VerifierKey) -> int | None:
    """When a witness cosigned (POSIX seconds), the latest time; None where it did not.

    Raises:
        VerificationError: ``bad-checkpoint`` where a cosignature by this key does not verify.
    """
    if witness.kind != COSIGNATURE:
        raise refused(f"{witness.name} is not a witness's key.")
    times = [_time_of(witness, signature, note.text) for signature in note.by(witness)]
    return max(times, default=None)


def cosigners(note: Note, origin: str, keys: Mapping[str, str]) -> dict[str, int]:
    """Which of these sites cosigned, and when (POSIX seconds); signatures of others are ignored.

    Args:
        keys: Site to its contract key.

    Raises:
        VerificationError: ``bad-checkpoint`` where a cosignature by one of `keys` does not verify.
    """
    times = {site: cosigned_at(note, witness_key(origin, site, key)) for site, key in keys.items()}
    return {site: time_s for site, time_s in times.items() if time_s is not None}
