"""The conversation in which an enclave proves what it is, and a lender hands out its keys.

    asking = Asking(...)          the enclave's end
    releasing = Releasing(...)    the lender's end
    data = asking.begin()
    while data: data = asking.answer(releasing.answer(data))

Neither end relies on who carries the bytes: the offer, the evidence and the release are bound to
this TLS session, which a carrier that poses as the other end does not share.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, RootModel

from cohortium.core.clock import Clock
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.session import Challenges, Session
from cohortium.enclave.channel import Channel
from cohortium.enclave.exchange import Challenge, Keys, Offer, Opening, Proof
from cohortium.errors import ProtocolError
from cohortium.vault.keys import PublicKey

_MOST_OFFER_BYTES: Final = 64 * 1024
_MOST_ASKED_BYTES: Final = 8 * 1024 * 1024
"""Of what a lender reads before it knows who asks: an offer, and evidence."""


@dataclass(frozen=True)
class Shown:
    """What an enclave showed in a session; whether it suffices is the lender's to decide.

    Attributes:
        signer: The key that signed the offer, by its own word.
        offer_envelope: As it was signed.
        evidence: A CMW record in CBOR, or nothing.
        report_data: What evidence must be bound to; the offer is.
        nonce: Of this session.
        certificate: DER of the certificate that it showed.
    """

    offer: Offer
    signer: str
    offer_envelope: bytes
    evidence: bytes | None
    report_data: bytes
    nonce: bytes
    certificate: bytes

    @property
    def recipient(self) -> PublicKey:
        """The key that data keys are to be sealed for."""
        return PublicKey.from_text(self.offer.recipient)


class Asking:
    """The enclave's end of a session with one lender.

    Args:
        recipient: This run's key; its private part stays in memory.
        offer: The offer for a session's 64 bytes, hex.
        attest: Evidence over 64 bytes; None where the level asks for none.
        certificate: DER and key, where the enclave shows a certificate with evidence.
    """

    def __init__(
        self,
        *,
        name: str,
        now: datetime,
        contract: str,
        recipient: PublicKey,
        key: SigningKey,
        offer: Callable[[str], Offer],
        attest: Callable[[bytes], Record | None],
        certificate: tuple[bytes, ec.EllipticCurvePrivateKey] | None = None,
    ) -> None:
        self._channel = Channel(server=False, name=name, now=now, certificate=certificate)
        self._contract = contract
        self._recipient = recipient
        self._key = key
        self._offer = offer
        self._attest = attest
        self._opened = False
        self.keys: Keys | None = None

    def begin(self) -> bytes:
        """The first bytes for the lender."""
        return self._channel.pending()

    def answer(self, data: bytes) -> bytes:
        """What the lender gets for its bytes; nothing once `keys` are there.

        Raises:
            VerificationError: ``bad-evidence``.
            ProtocolError: ``malformed-message``.
        """
        channel = self._channel
        channel.feed(data)
        out = channel.pending()
        if channel.is_open and not self._opened:
            self._opened = True
            return out + channel.send(Opening(recipient=self._recipient.to_text()))
        message = channel.receive()
        if message is None:
            return out
        said = _parse(message)
        if isinstance(said, Challenge):
            return out + channel.send(self._prove(bytes.fromhex(said.nonce)))
        if not isinstance(said, Keys):
            raise ProtocolError("unexpected-message", "The lender speaks out of turn.")
        self.keys = said
        return b""

    def _prove(self, nonce: bytes) -> Proof:
        channel = self._channel
        session = Session(
            attester=channel.own_certificate,
            verifier=channel.peer_certificate,
            exporter=channel.exporter,
            contract=self._contract,
            recipient=self._recipient.key_id,
        )
        report_data = session.report_data(nonce)
        record = self._attest(report_data)
        offer = self._offer(report_data.hex()).sign(self._key)
        return Proof(
            offer=base64.b64encode(offer).decode(),
            evidence=None if record is None else base64.b64encode(record.to_cbor()).decode(),
        )


class Releasing:
    """The lender's end.

    Args:
        contract: Digest of the contract under which it would release.
        random: As `secrets.token_bytes`.
        release: Decides; what it raises ends the session.
    """

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        contract: str,
        random: Callable[[int], bytes],
        release: Callable[[Shown], Keys],
    ) -> None:
        self._channel = Channel(server=True, name=name, now=clock(), most_bytes=_MOST_ASKED_BYTES)
        self._clock = clock
        self._contract = contract
        self._challenges = Challenges(random)
        self._release = release
        self._recipient: PublicKey | None = None
        self._nonce = b""
        self.shown: Shown | None = None
        self.keys: Keys | None = None

    def answer(self, data: bytes) -> bytes:
        """What the enclave gets for its bytes.

        Raises:
            VerificationError: ``bad-evidence``, ``evidence-refused``, and what `release` says.
            ProtocolError: ``malformed-message``, ``unexpected-message``.
        """
        # 1. The enclave says which key it has, 2. is given a nonce, 3. once; 4. its proof is for
        # this nonce, in time, and 5. for that key; 6. the offer says so too.
        channel = self._channel
        channel.feed(data)
        out = channel.pending()
        message = channel.receive()
        if message is None:
            return out
        said = _parse(message)
        if isinstance(said, Opening) and self._recipient is None:  # 1, 3
            self._recipient = PublicKey.from_text(said.recipient)
            self._nonce = self._challenges.issue(self._clock())  # 2
            return out + channel.send(Challenge(nonce=self._nonce.hex()))
        if not isinstance(said, Proof) or self._recipient is None or self.shown is not None:
            raise ProtocolError("unexpected-message", "The enclave speaks out of turn.")
        self.shown = self._judge(said, self._recipient)
        self.keys = self._release(self.shown)
        return out + channel.send(self.keys)

    def _judge(self, proof: Proof, recipient: PublicKey) -> Shown:
        channel = self._channel
        nonce = self._challenges.redeem(self._nonce, self._clock())  # 4
        session = Session(
            attester=channel.peer_certificate,
            verifier=channel.own_certificate,
            exporter=channel.exporter,
            contract=self._contract,
            recipient=recipient.key_id,
        )
        report_data = session.report_data(nonce)
        envelope = _bytes(proof.offer)
        if len(envelope) > _MOST_OFFER_BYTES:
            raise ProtocolError("malformed-message", "The offer is too long.")
        offer, signer = Offer.open(envelope)
        if not hmac.compare_digest(offer.session, report_data.hex()):  # 6
            raise refuse(Reason.BINDING, "The offer was made for another session.")
        if not hmac.compare_digest(offer.recipient, recipient.to_text()):  # 5
            raise refuse(Reason.SWAPPED_KEY, "The offer names another key than the session.")
        evidence = None if proof.evidence is None else _bytes(proof.evidence)
        return Shown(
            offer, signer, envelope, evidence, report_data, nonce, channel.peer_certificate
        )


class _Message(RootModel[Opening | Challenge | Proof | Keys]):
    root: Opening | Challenge | Proof | Keys = Field(discriminator="kind")


def _parse(message: bytes) -> Opening | Challenge | Proof | Keys:
    try:
        return _Message.model_validate_json(message).root
    except ValueError as error:
        raise ProtocolError(
            "malformed-message", "What came in the session between enclave and node is no message."
        ) from error


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProtocolError("malformed-message", "Not valid base64.") from error
