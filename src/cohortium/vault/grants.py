r"""A data key for further recipients, in a small file beside one that stays as it is.

    offset  bytes  what
    0       8      "CVGRANT\n"
    8       2      format, 1
    10      32     SHA-256 of the header of the file that it belongs to
    42      2      number of recipients, n
    44      1200 n recipients, as in a header

It needs no signature: what it says can only fit or not fit the file, whose header and chunks it
cannot change. Grants of another file, or of an older version, are of no effect.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cohortium.errors import InputError
from cohortium.vault.header import (
    ENTRY_BYTES,
    KEY_ID_BYTES,
    MAX_RECIPIENTS,
    Sealed,
    refuse,
    require_distinct,
)
from cohortium.vault.keys import PublicKey, seal

MAGIC = b"CVGRANT\n"
SUFFIX = ".grants"
_FIXED = struct.Struct(">8sH32sH")
MAX_BYTES = _FIXED.size + MAX_RECIPIENTS * ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class Grants:
    """Who else may open one version of one file."""

    header_digest: bytes
    recipients: tuple[Sealed, ...] = ()

    @property
    def info(self) -> bytes:
        """What each sealed data key is bound to."""
        return MAGIC + self.header_digest

    def add(self, data_key: bytes, to: Iterable[PublicKey]) -> Grants:
        """With further recipients.

        Raises:
            InputError: ``too-large``.
        """
        known = {entry.key_id for entry in self.recipients}
        new = {key.key_id: key for key in to if key.key_id not in known}
        if len(known) + len(new) > MAX_RECIPIENTS:
            raise InputError(
                "too-large", f"A file can be shared with {MAX_RECIPIENTS} further recipients."
            )
        made = tuple(seal(key, data_key, self.info) for key in new.values())
        return Grants(self.header_digest, self.recipients + made)

    def to_bytes(self) -> bytes:
        """As it stands in the file."""
        fixed = _FIXED.pack(MAGIC, 1, self.header_digest, len(self.recipients))
        return fixed + b"".join(entry.key_id + entry.sealed for entry in self.recipients)


def parse_grants(data: bytes) -> Grants:
    """Read what stands beside a file.

    Raises:
        VerificationError: ``bad-vault-file``; never anything else.
    """
    if len(data) < _FIXED.size:
        raise refuse("the grants beside it end too early")
    magic, form, header_digest, n = _FIXED.unpack(data[: _FIXED.size])
    if (magic, form) != (MAGIC, 1):
        raise refuse("what stands beside it are no grants of a known format")
    if n > MAX_RECIPIENTS or len(data) != _FIXED.size + n * ENTRY_BYTES:
        raise refuse("the grants beside it have a wrong length")
    entries = [data[at : at + ENTRY_BYTES] for at in range(_FIXED.size, len(data), ENTRY_BYTES)]
    recipients = tuple(Sealed(entry[:KEY_ID_BYTES], entry[KEY_ID_BYTES:]) for entry in entries)
    require_distinct(recipients)
    return Grants(header_digest, recipients)
