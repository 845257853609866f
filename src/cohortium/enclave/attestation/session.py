"""Fresh evidence inside a TLS session, bound to everything that this session is.

A certificate with evidence can be relayed: somebody who has an attested machine's key material, or
only its evidence, answers in its place. So the verifier asks again after the handshake, and the
64 bytes that the hardware signs are a digest of its nonce, both leaf certificates in their roles,
the session's exporter (RFC 8446 7.5), the contract and the key that data keys are sealed for.
Evidence of another session, of the other end, of another contract, for another key or an old one is
bound to something else; and who reads it years later sees for which key it was shown.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cohortium.enclave.attestation.reasons import Reason, refuse

NONCE_BYTES: Final = 32
EXPORTER_LABEL: Final = b"EXPORTER-cohortium-attestation-1"
EXPORTER_BYTES: Final = 32
LIFETIME: Final = timedelta(seconds=60)
MOST_CHALLENGES: Final = 10_000
_DOMAIN: Final = b"cohortium session evidence 1\0"


@dataclass(frozen=True)
class Session:
    """One TLS session between an attester and a verifier, as either of them sees it.

    Attributes:
        attester: DER of the leaf certificate of the end that shows evidence.
        verifier: DER of the leaf certificate of the end that asks.
        exporter: `EXPORTER_BYTES` of keying material for `EXPORTER_LABEL`, no context.
        contract: Digest of the contract, ``sha256:...``.
        recipient: SHA-256 of the public key that the attester wants data keys sealed for.
    """

    attester: bytes
    verifier: bytes
    exporter: bytes
    contract: str
    recipient: bytes

    def report_data(self, nonce: bytes) -> bytes:
        """The 64 bytes to which evidence in this session is bound.

        Raises:
            VerificationError: ``evidence-refused``: ``reflected`` where both ends are one, or
                ``nonce`` where it is too short.
        """
        if hmac.compare_digest(self.attester, self.verifier):
            raise refuse(Reason.REFLECTED, "The other end of the session shows our certificate.")
        if len(nonce) != NONCE_BYTES:
            raise refuse(Reason.NONCE, f"A nonce has {NONCE_BYTES} bytes.")
        if len(self.exporter) != EXPORTER_BYTES:
            raise RuntimeError("the exporter's length is ours to choose")
        digest = hashlib.sha512(_DOMAIN)
        for part in (
            nonce,
            hashlib.sha256(self.attester).digest(),
            hashlib.sha256(self.verifier).digest(),
            self.exporter,
            self.contract.encode(),
            self.recipient,
        ):
            digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()

    def tpm_nonce(self, nonce: bytes) -> bytes:
        """The same for a TPM, which signs 32 bytes of ours at most."""
        return hashlib.sha256(self.report_data(nonce)).digest()


class Challenges:
    """The nonces that a verifier gave out: each counts once, and for a minute.

    Args:
        random: As `secrets.token_bytes`.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._given: dict[bytes, datetime] = {}

    def issue(self, now: datetime) -> bytes:
        """A new nonce; the oldest are forgotten where there are too many."""
        nonce = self._random(NONCE_BYTES)
        self._given[nonce] = now
        while len(self._given) > MOST_CHALLENGES:
            del self._given[next(iter(self._given))]
        return nonce

    def redeem(self, nonce: bytes, now: datetime) -> bytes:
        """The nonce again, if it is ours, unused and recent; it is used up by this.

        Raises:
            VerificationError: ``evidence-refused`` (``nonce``, ``stale``).
        """
        given = self._given.pop(nonce, None)
        if given is None:
            raise refuse(Reason.NONCE, "The nonce is not ours, or was used before; ask again.")
        if not timedelta(0) <= now - given <= LIFETIME:
            raise refuse(Reason.STALE, "The evidence came too late for its nonce; ask again.")
        return nonce
