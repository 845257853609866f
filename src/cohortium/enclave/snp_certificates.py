"""The host's table of certificates for an SEV-SNP guest's reports.

Reference: AMD 56421, "Guest-Host Communication Block Standardization", 4.1.8 (MSG_REPORT_REQ with
certificates): entries of a GUID, an offset and a length, a zero one last; certificates are DER.
"""

from __future__ import annotations

import struct
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cohortium.errors import PolicyRefusal

VCEK: Final = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
_ENTRY: Final = struct.Struct("<16sII")
_MOST_ENTRIES: Final = 64


def certificates(table: bytes) -> tuple[bytes, bytes]:
    """The chip's or the cloud's certificate (DER), and those above it (PEM).

    Raises:
        PolicyRefusal: ``executor-unavailable``: the host gives none, or what is none.
    """
    found = _entries(table)
    leaf = found.get(VCEK) or found.get(VLEK)
    above = [found[kind] for kind in (ASK, ARK) if kind in found]
    if leaf is None or len(above) != 2:
        raise _unavailable(
            "the host gives its guests no certificates (VCEK or VLEK, ASK, ARK); have its operator "
            "load them (AMD: snphost import)"
        )
    try:
        chain = [x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in above]
    except ValueError as error:
        raise _unavailable("the host's certificates cannot be read") from error
    return leaf, b"".join(chain)


def _entries(table: bytes) -> dict[UUID, bytes]:
    found: dict[UUID, bytes] = {}
    for index in range(_MOST_ENTRIES):
        entry = table[index * _ENTRY.size : (index + 1) * _ENTRY.size]
        if len(entry) < _ENTRY.size:
            return found
        name, offset, length = _ENTRY.unpack(entry)
        if not any(name):
            return found
        content = table[offset : offset + length]
        if len(content) != length:
            raise _unavailable("the host's table of certificates is cut off")
        # Hosts' tools write GUIDs in either byte order; a wrong certificate would prove nothing.
        found[UUID(bytes=name)] = found[UUID(bytes_le=name)] = content
    raise _unavailable("the host's table of certificates has no end")


def _unavailable(why: str) -> PolicyRefusal:
    return PolicyRefusal("executor-unavailable", f"No evidence: {why}.")
