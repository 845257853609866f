"""Vault files in memory, with keys that are the same in every run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import shake_256
from typing import Any

from cohortium.vault.header import Header, parse_header
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.vault.reader import VaultReader
from cohortium.vault.storage import StreamSink, StreamSource
from cohortium.vault.writer import VaultWriter

OWNER, FRIEND, STRANGER = (PrivateKey(bytes([i]) * 32) for i in (1, 2, 3))
CHUNK_BITS = 12
CHUNK = 1 << CHUNK_BITS
STORED = CHUNK + 16


def content(n: int, seed: bytes = b"content") -> bytes:
    """Bytes without a pattern, the same each time."""
    return shake_256(seed).digest(n)


def vault_file(
    plain: bytes,
    to: Sequence[PrivateKey] = (OWNER,),
    by: PrivateKey = OWNER,
    **options: Any,
) -> bytes:
    """A whole vault file."""
    out = io.BytesIO()
    options.setdefault("chunk_bits", CHUNK_BITS)
    with VaultWriter(StreamSink(out), [key.public for key in to], by.signing, **options) as file:
        file.write(plain)
    return out.getvalue()


def opened(data: bytes, *keys: PrivateKey, **options: Any) -> VaultReader:
    """A reader of a file in memory; the owner's where no key is given."""
    return VaultReader(StreamSource(io.BytesIO(data)), Keyring(keys or (OWNER,)), **options)


def header_of(data: bytes) -> Header:
    """The header of a whole file."""
    return parse_header(data[: int.from_bytes(data[12:16], "big")])


def parts(data: bytes) -> tuple[bytes, list[bytes]]:
    """Header and chunks."""
    begin = header_of(data).n_bytes
    body = data[begin:]
    return data[:begin], [body[at : at + STORED] for at in range(0, len(body), STORED)]


def verify_all(file: VaultReader) -> None:
    """Read every chunk."""
    if file.readinto(bytearray(file.size + 1)) != file.size:
        raise RuntimeError("not all was read")
