"""Signed documents: DSSE v1 envelopes (github.com/secure-systems-lab/dsse) with Ed25519."""

from __future__ import annotations

import base64
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints

from cohortium.core.canonical import digest_bytes
from cohortium.core.model import Document
from cohortium.crypto.keys import SigningKey, verify
from cohortium.errors import InputError, ProtocolError, VerificationError

KeyText = Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9_-]{43}$")]
"""A raw Ed25519 public key in unpadded base64url."""

_Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding (DSSE protocol, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


class _Signature(Document):
    keyid: KeyText
    sig: _Base64


class Envelope(Document):
    """A DSSE envelope as JSON; exactly one signature."""

    payload: _Base64
    payloadType: str  # noqa: N815 - the name is the specification's
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=1)]

    @property
    def signer(self) -> str:
        """The key that claims to have signed; unverified."""
        return self.signatures[0].keyid


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise VerificationError("bad-signature", "The envelope is not valid base64.") from error
    if base64.b64encode(data).decode() != text:
        raise VerificationError("bad-signature", "The envelope is not canonical base64.")
    return data


class Signable(Document):
    """A document with a DSSE payload type."""

    payload_type: ClassVar[str]

    def sign(self, key: SigningKey) -> bytes:
        """The envelope's bytes: canonical JSON of payload, type and one signature."""
        payload = self.to_bytes()
        signature = key.sign(pae(self.payload_type, payload))
        return Envelope(
            payload=base64.b64encode(payload).decode(),
            payloadType=self.payload_type,
            signatures=(_Signature(keyid=key.public, sig=base64.b64encode(signature).decode()),),
        ).to_bytes()

    @classmethod
    def open(cls, envelope: bytes, *, key: str | None = None) -> tuple[Self, str]:
        """Verify an envelope and parse its payload; returns (document, signer's key).

        The caller decides whether the signer counts; with `key` only that one does.

        Raises:
            VerificationError: ``bad-signature``, ``unknown-signer`` or ``bad-digest`` (the payload
                is not in canonical form, so that its digest would not name it).
            ProtocolError: ``malformed-message``.
        """
        # 1. Parse the envelope. 2. Its type. 3. The signer. 4. The signature. 5. The payload.
        parsed = Envelope.from_bytes(envelope)  # 1
        if parsed.payloadType != cls.payload_type:  # 2
            raise VerificationError(
                "bad-signature", f"The envelope does not hold a {cls.__name__}."
            )
        if key is not None and parsed.signer != key:  # 3
            raise VerificationError(
                "unknown-signer", f"The {cls.__name__} is signed by another key."
            )
        payload = _decode(parsed.payload)
        verify(
            parsed.signer, _decode(parsed.signatures[0].sig), pae(cls.payload_type, payload)
        )  # 4
        document = cls.from_bytes(payload)  # 5
        try:
            named = document.digest
        except InputError as error:
            raise ProtocolError(
                "malformed-message", f"The {cls.__name__} has no canonical form."
            ) from error
        if named != digest_bytes(payload):
            raise VerificationError("bad-digest", f"The {cls.__name__} is not in canonical form.")
        return document, parsed.signer
