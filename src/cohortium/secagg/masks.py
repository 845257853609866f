"""Mask streams: AES-256-CTR keystream from counter 0.

A key makes exactly one stream, so that a fixed counter start is sound (SP 800-38A 6.5).
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from cohortium.secagg.frame import BLOCK_BYTES

_AES_BLOCK: Final = 16
_ZEROS: Final = memoryview(bytes(BLOCK_BYTES))


class MaskStream:
    """The bytes of one mask, from byte `offset_bytes` on.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes, offset_bytes: int = 0) -> None:
        counter, skip = divmod(offset_bytes, _AES_BLOCK)
        self._stream = Cipher(AES(key), CTR(counter.to_bytes(_AES_BLOCK, "big"))).encryptor()
        if skip:
            self._stream.update(bytes(skip))

    def next(self, n_bytes: int, buffer: bytearray) -> None:
        """Write the next bytes into `buffer` (see `new_buffer`); at most `BLOCK_BYTES`."""
        self._stream.update_into(_ZEROS[:n_bytes], buffer)


def new_buffer(n_bytes: int = BLOCK_BYTES) -> bytearray:
    """A buffer for `n_bytes` of a mask; `update_into` asks for 15 more."""
    return bytearray(n_bytes + _AES_BLOCK - 1)
