"""Key agreement and mask streams.

    pair key    HKDF-SHA256(X25519(own secret, peer's key)), bound to run, roster and the two sites
    round key   HKDF-Expand(pair key), bound to everything in `RoundBinding.digest`
    mask        AES-256-CTR keystream under the round key, from counter 0

A round key makes exactly one stream, so that a fixed counter start is sound (SP 800-38A 6.5).
References: RFC 7748, RFC 5869; Bonawitz et al., CCS 2017, section 4.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from cohortium.core.canonical import canonical
from cohortium.errors import ProtocolError
from cohortium.secagg.ring import Words
from cohortium.secagg.roster import Roster

PAIR_LABEL: Final = "cohortium/secagg/pair/1"
ROUND_LABEL: Final = b"cohortium/secagg/round/1 "

BLOCK_WORDS: Final = 16 * 1024
"""128 KiB a block: keystream, zeros and target stay in the second-level cache."""

_ZEROS: Final = bytes(8 * BLOCK_WORDS)


def pair_key(secret: X25519PrivateKey, own: str, peer: str, roster: Roster) -> bytes:
    """The 32-byte key that `own` and `peer` share for this run and roster.

    Raises:
        ProtocolError: ``roster-mismatch`` for a public key of small order.
    """
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(roster.keys[peer]))
    except ValueError as error:
        raise ProtocolError(
            "roster-mismatch", f"The round key of {peer} is not usable.", site=peer
        ) from error
    first, second = sorted((own, peer))
    info = canonical([PAIR_LABEL, roster.digest, first, second])
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


class MaskStream:
    """The words of one pair's mask for one round."""

    def __init__(self, pair: bytes, round_digest: str) -> None:
        info = ROUND_LABEL + round_digest.encode()
        key = HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(pair)
        self._stream = Cipher(AES(key), CTR(bytes(16))).encryptor()

    def next(self, n_words: int, buffer: bytearray) -> Words:
        """The next words, written into `buffer` (see `new_buffer`); at most `BLOCK_WORDS`."""
        self._stream.update_into(memoryview(_ZEROS)[: 8 * n_words], buffer)
        return np.frombuffer(buffer, dtype="<u8", count=n_words)


def new_buffer() -> bytearray:
    """A buffer for one block of mask."""
    return bytearray(8 * BLOCK_WORDS + 15)
