"""The secrets of a run and how each follows from one that a site stores.

    run secret        32 bytes from the operating system; everything below is derived from it, so
                      that a restarted site answers with the same bytes
    round-0 key       X25519 with the run secret itself: seals shares; masks, if none may drop
    mask key          X25519, fresh each round: opened after a drop-out, it tells of no other round
    self-mask seed    32 bytes, fresh each round
    pair mask         HKDF(X25519(mask keys of two parties)), bound to the round's digest
    self mask         HKDF(self-mask seed), bound to the round's digest

A mask's key makes one AES-256-CTR stream (`masks`); a channel's key one AES-256-GCM message a
round, whose text follows from the round. `PREFIX` changes with whatever else the text follows from:
the neighbour graph and the threshold.
References: RFC 7748, RFC 5869, SP 800-38A, SP 800-38D; Bonawitz et al., CCS 2017, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cohortium.core.canonical import canonical
from cohortium.errors import ProtocolError
from cohortium.secagg.shamir import SHARE_BYTES

PREFIX: Final = "cohortium/secagg/2/"
SEALED_BYTES: Final = 2 * SHARE_BYTES + 16


def derive(key: bytes, purpose: str, *facts: Any) -> bytes:
    """HKDF-SHA256 to 32 bytes; `facts` are JSON values."""
    info = canonical([PREFIX + purpose, *facts])
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key)


def private_key(secret: bytes) -> X25519PrivateKey:
    """The X25519 key of a secret (32 bytes)."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_key(secret: bytes) -> bytes:
    """The X25519 public key (32 bytes) of a secret."""
    return private_key(secret).public_key().public_bytes_raw()


def agree(secret: bytes | X25519PrivateKey, public: bytes, owner: str) -> bytes:
    """The X25519 shared secret with the key of `owner`; a secret for many is best a key object.

    Raises:
        ProtocolError: ``roster-mismatch`` for a public key of small order.
    """
    private = private_key(secret) if isinstance(secret, bytes) else secret
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise ProtocolError(
            "roster-mismatch", f"The key of {owner} is not usable.", site=owner
        ) from error


def pair_mask(shared: bytes, round_digest: str, one: str, other: str) -> bytes:
    """The key of the mask that two parties have in common in one round."""
    return derive(shared, "pair-mask", round_digest, *sorted((one, other)))


def self_mask(seed: bytes, round_digest: str) -> bytes:
    """The key of a party's own mask in one round."""
    return derive(seed, "self-mask", round_digest)


class RoundSecrets:
    """A site's fresh secrets for one round.

    Attributes:
        mask_secret: X25519 secret, 32 bytes.
        seed: Self-mask seed, 32 bytes.
    """

    def __init__(self, run_secret: bytes, roster_digest: str, number: int) -> None:
        self.mask_secret = derive(run_secret, "mask-key", roster_digest, number)
        self.seed = derive(run_secret, "self-mask-seed", roster_digest, number)
        self._stream_key = derive(run_secret, "share-polynomials", roster_digest, number)

    def stream(self) -> Callable[[int], bytes]:
        """Randomness for the polynomials of the shares; the same at each call."""
        cipher = Cipher(AES(self._stream_key), CTR(bytes(16))).encryptor()
        return lambda n_bytes: cipher.update(bytes(n_bytes))


class Channel:
    """Encryption from one site to another for one run.

    One message a round: the round's number is the nonce. Who seals again seals the same text.
    """

    def __init__(self, shared: bytes, roster_digest: str, sender: str, recipient: str) -> None:
        self._sender = sender
        facts = [roster_digest, sender, recipient]
        self._cipher = AESGCM(derive(shared, "channel", *facts))
        self._about_all = canonical([PREFIX + "share", *facts])[:-1]

    def seal(self, number: int, mask_key: bytes, text: bytes) -> bytes:
        """Encrypt `text` and authenticate `mask_key` with it."""
        return self._cipher.encrypt(number.to_bytes(12, "big"), text, self._about(number, mask_key))

    def open(self, number: int, mask_key: bytes, sealed: bytes) -> bytes:
        """The inverse of `seal`.

        Raises:
            ProtocolError: ``bad-share``.
        """
        try:
            about = self._about(number, mask_key)
            return self._cipher.decrypt(number.to_bytes(12, "big"), sealed, about)
        except InvalidTag as error:
            raise ProtocolError(
                "bad-share",
                f"The shares of {self._sender} for round {number} were altered or are not for this "
                "site.",
                site=self._sender,
            ) from error

    def _about(self, number: int, mask_key: bytes) -> bytes:
        return b"%b,%d]%b" % (self._about_all, number, mask_key)  # canonical JSON, and the key
