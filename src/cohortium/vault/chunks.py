"""The content of a vault file: chunks under AES-256-GCM, each bound to its place and to the end.

STREAM of Hoang, Reyhanitabar, Rogaway and Vizar ("Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance", CRYPTO 2015) with a counter as in age and Tink's streaming AEAD:
the nonce of chunk i is i in 11 bytes and one byte that is 1 for the last chunk alone. The key is of
one version of one file, and hangs on the whole header, so that no nonce comes twice and a chunk
fits nowhere else. Only an empty file has an empty chunk.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cohortium.vault.header import MAX_CHUNKS, TAG_BYTES, Header, plain_bytes, refuse
from cohortium.vault.keys import content_key


def nonce(index: int, last: bool) -> bytes:
    """The nonce of a chunk."""
    if not 0 <= index < MAX_CHUNKS:
        raise RuntimeError("a vault file has at most 2^32 chunks")
    return index.to_bytes(11, "big") + bytes([last])


class Places:
    """Where the chunks of a file are; sizes in bytes."""

    def __init__(self, header: Header, stored_bytes: int) -> None:
        self.begin = header.n_bytes
        self.chunk_bytes = header.chunk_bytes
        self.plain_bytes = plain_bytes(stored_bytes - self.begin, self.chunk_bytes)
        self.n_chunks = max(1, -(-self.plain_bytes // self.chunk_bytes))

    def stored(self, index: int) -> int:
        """Where a chunk begins in the file."""
        return self.begin + index * (self.chunk_bytes + TAG_BYTES)

    def plain(self, index: int) -> int:
        """Plaintext bytes of a chunk."""
        return min(self.chunk_bytes, self.plain_bytes - index * self.chunk_bytes)


class ChunkCipher:
    """Encrypts and decrypts chunks of one version of one file."""

    def __init__(self, data_key: bytes, header: Header) -> None:
        key = content_key(data_key, header.digest)
        self._aead = AESGCM(key)
        self._key = key

    def close(self) -> None:
        """Overwrite our copy of the key; the library's own goes with its object."""
        self._key[:] = bytes(len(self._key))
        del self._aead

    def encrypt(self, index: int, last: bool, plain: memoryview, into: memoryview) -> None:
        """Encrypt a chunk; `into` is 16 bytes longer than `plain`."""
        self._aead.encrypt_into(nonce(index, last), plain, None, into)

    def decrypt(self, index: int, last: bool, stored: memoryview, into: memoryview) -> None:
        """Verify and decrypt a chunk; where it does not verify, `into` is left empty (zeros).

        Raises:
            VerificationError: ``bad-vault-file``; never anything else.
        """
        try:
            self._aead.decrypt_into(nonce(index, last), stored, None, into)
        except InvalidTag as error:
            # The library has written there what nobody vouches for.
            into[:] = bytes(len(into))
            raise refuse(f"chunk {index} was altered, moved, or is of another version") from error
