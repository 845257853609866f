r"""The header of a vault file: bytes in, checked values out; no keys, no I/O.

Integers are big-endian.

    offset  bytes  what
    0       8      "CVAULT\r\n"
    8       2      format, 1
    10      1      suite, 1: chunks AES-256-GCM under a key by HKDF-SHA-256; data key by HPKE with
                   MLKEM768-X25519, HKDF-SHA-256, AES-256-GCM; signature Ed25519
    11      1      binary logarithm of the chunk size, 12 to 24
    12      4      length of the header
    16      16     the file's identity: random, kept from version to version
    32      8      the file's version, from 1 on
    40      32     the writer's Ed25519 public key
    72      2      number of recipients, n, 1 to 64
    74      1200 n recipients: SHA-256 of the public key (32), sealed data key (1168)
    ...     64     Ed25519 signature of `SIGNED` and all before it
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256

from cohortium.crypto.keys import PREFIX, SigningKey, b64url, verify
from cohortium.errors import VerificationError

MAGIC = b"CVAULT\r\n"
FORMAT = 1
SUITE = 1
SIGNED = b"cohortium vault header 1\0"
KEY_ID_BYTES = 32
SEALED_BYTES = 1168
SIGNATURE_BYTES = 64
FILE_ID_BYTES = 16
MAX_RECIPIENTS = 64
MAX_VERSION = 2**63 - 1
MIN_CHUNK_BITS, MAX_CHUNK_BITS = 12, 24

_FIXED = struct.Struct(">8sHBBI16sQ32sH")
FIXED_BYTES = _FIXED.size
ENTRY_BYTES = KEY_ID_BYTES + SEALED_BYTES
MAX_BYTES = FIXED_BYTES + MAX_RECIPIENTS * ENTRY_BYTES + SIGNATURE_BYTES


def refuse(why: str) -> VerificationError:
    """The error of every fault in a vault file's bytes."""
    return VerificationError("bad-vault-file", f"Not an intact vault file: {why}.")


@dataclass(frozen=True, slots=True)
class Sealed:
    """A data key that the holder of one private key can open."""

    key_id: bytes
    sealed: bytes


@dataclass(frozen=True)
class Header:
    """What a vault file says of itself, in the clear and signed."""

    chunk_bits: int
    file_id: bytes
    version: int
    writer: bytes
    recipients: tuple[Sealed, ...]
    signature: bytes = b""

    @property
    def chunk_bytes(self) -> int:
        """Plaintext bytes of every chunk but the last."""
        return 1 << self.chunk_bits

    @property
    def n_bytes(self) -> int:
        """Where the first chunk begins."""
        return header_bytes(len(self.recipients))

    @property
    def writer_key(self) -> str:
        """The writer's key as text, as everywhere else: ``ed25519:...``."""
        return PREFIX + b64url(self.writer)

    def fixed(self, n_recipients: int | None = None) -> bytes:
        """The part before the recipients; each sealed data key is bound to it."""
        n = len(self.recipients) if n_recipients is None else n_recipients
        return _FIXED.pack(
            MAGIC,
            FORMAT,
            SUITE,
            self.chunk_bits,
            header_bytes(n),
            self.file_id,
            self.version,
            self.writer,
            n,
        )

    @cached_property
    def unsigned(self) -> bytes:
        """Everything before the signature."""
        return self.fixed() + b"".join(entry.key_id + entry.sealed for entry in self.recipients)

    def to_bytes(self) -> bytes:
        """As it stands in the file."""
        return self.unsigned + self.signature

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the header: the name of this version; the chunks' key hangs on it."""
        return sha256(self.to_bytes()).digest()

    def sign(self, key: SigningKey) -> Header:
        """The same with a signature; `key` is the writer's."""
        if PREFIX + b64url(self.writer) != key.public:
            raise RuntimeError("a header is signed by the writer that it names")
        signature = key.sign(SIGNED + self.unsigned)
        return Header(
            self.chunk_bits, self.file_id, self.version, self.writer, self.recipients, signature
        )


def header_bytes(n_recipients: int) -> int:
    """The length of a header."""
    return FIXED_BYTES + n_recipients * ENTRY_BYTES + SIGNATURE_BYTES


def announced_bytes(start: bytes) -> int:
    """The length of the header that begins so; reads the first 74 bytes, trusts none of them.

    Raises:
        VerificationError: ``bad-vault-file``; never anything else.
    """
    return header_bytes(_parse_fixed(start)[-1])


def announced_plain_bytes(start: bytes, size: int) -> int:
    """The content's length in a file of `size` bytes that begins so; nothing is verified.

    Raises:
        VerificationError: ``bad-vault-file``; never anything else.
    """
    fields = _parse_fixed(start)
    return plain_bytes(size - header_bytes(fields[-1]), 1 << fields[0])


def plain_bytes(body: int, chunk_bytes: int) -> int:
    """Plaintext bytes in `body` bytes of chunks.

    Raises:
        VerificationError: ``bad-vault-file``: no whole chunks have this length.
    """
    stored = chunk_bytes + TAG_BYTES
    n_chunks = -(-body // stored)
    last = body - (n_chunks - 1) * stored
    if n_chunks < 1 or last < TAG_BYTES or (n_chunks > 1 and last == TAG_BYTES):
        raise refuse("it is cut off or has bytes too many")
    if n_chunks > MAX_CHUNKS:
        raise refuse("it is longer than this format allows")
    return body - n_chunks * TAG_BYTES


TAG_BYTES = 16
MAX_CHUNKS = 2**32


def _parse_fixed(data: bytes) -> tuple[int, bytes, int, bytes, int]:
    if len(data) < FIXED_BYTES:
        raise refuse("it ends within the header")
    magic, form, suite, bits, length, file_id, version, writer, n = _FIXED.unpack(
        data[:FIXED_BYTES]
    )
    if magic != MAGIC:
        raise refuse("it does not begin as one")
    if (form, suite) != (FORMAT, SUITE):
        raise refuse(f"it has format {form}, suite {suite}, which this version does not know")
    if not MIN_CHUNK_BITS <= bits <= MAX_CHUNK_BITS:
        raise refuse("its chunks have a size that is not allowed")
    if not 1 <= n <= MAX_RECIPIENTS or length != header_bytes(n):
        raise refuse("its list of recipients has a length that is not allowed")
    if not 1 <= version <= MAX_VERSION:
        raise refuse("its version is not allowed")
    return bits, file_id, version, writer, n


@lru_cache(maxsize=32)
def parse_header(data: bytes) -> Header:
    """Read and verify a header, all of it; whether the writer counts, the caller decides.

    Raises:
        VerificationError: ``bad-vault-file`` or ``bad-signature``; never anything else.
    """
    # 1. The fixed part. 2. The length. 3. Recipients, each once. 4. The writer's signature.
    bits, file_id, version, writer, n = _parse_fixed(data)  # 1
    if len(data) != header_bytes(n):  # 2
        raise refuse("it ends within the header")
    entries = [data[at : at + ENTRY_BYTES] for at in _places(n)]
    recipients = tuple(Sealed(entry[:KEY_ID_BYTES], entry[KEY_ID_BYTES:]) for entry in entries)
    require_distinct(recipients)  # 3
    signature = data[-SIGNATURE_BYTES:]
    verify(PREFIX + b64url(writer), signature, SIGNED + data[:-SIGNATURE_BYTES])  # 4
    return Header(bits, file_id, version, writer, recipients, signature)


def _places(n: int) -> range:
    return range(FIXED_BYTES, FIXED_BYTES + n * ENTRY_BYTES, ENTRY_BYTES)


def require_distinct(recipients: Sequence[Sealed]) -> None:
    """Each recipient once.

    Raises:
        VerificationError: ``bad-vault-file``.
    """
    if len({entry.key_id for entry in recipients}) != len(recipients):
        raise refuse("it names a recipient twice")
