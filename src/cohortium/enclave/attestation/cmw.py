"""The wrapper in which evidence and its verdict travel: CMW records (RFC 9999 3.1).

A record is an array of media type, value and indicator, in JSON or in CBOR. Here the indicator is
never left out, a media type names exactly one kind of message, and a collection is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

from cohortium.core.canonical import parse_json
from cohortium.crypto.keys import b64url, unb64url
from cohortium.enclave.attestation.cbor import decode, encode
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import EvidenceKind
from cohortium.errors import ProtocolError, VerificationError

MAX_BYTES: Final = 4 * 1024 * 1024


class Indicator(IntFlag):
    """What a message is (RFC 9999 3.1, ``cm-type``)."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8


EVIDENCE_TYPES: Final[Mapping[EvidenceKind, str]] = {
    "sgx": "application/vnd.cohortium.sgx-quote",
    "tdx": "application/vnd.cohortium.tdx-quote",
    "sev-snp": "application/vnd.cohortium.sev-snp+cbor",
    "tpm": "application/vnd.cohortium.tpm-quote+cbor",
    "simulated": "application/vnd.cohortium.simulated+json",
}
RESULT_TYPE: Final = "application/eat+jwt"
_INDICATORS: Final = {
    **dict.fromkeys(EVIDENCE_TYPES.values(), Indicator.EVIDENCE),
    RESULT_TYPE: Indicator.ATTESTATION_RESULTS,
}
_KINDS: Final = {media_type: kind for kind, media_type in EVIDENCE_TYPES.items()}


@dataclass(frozen=True)
class Record:
    """One message and its media type."""

    media_type: str
    value: bytes

    @classmethod
    def evidence(cls, kind: EvidenceKind, value: bytes) -> Record:
        """Evidence of a kind."""
        return cls(EVIDENCE_TYPES[kind], value)

    @property
    def kind(self) -> EvidenceKind:
        """Which evidence it is.

        Raises:
            VerificationError: ``evidence-refused`` (``wrong-kind``): it is none.
        """
        kind = _KINDS.get(self.media_type)
        if kind is None:
            raise refuse(Reason.WRONG_KIND, "The message holds no evidence.")
        return kind

    @property
    def indicator(self) -> Indicator:
        """What the media type stands for."""
        return _INDICATORS[self.media_type]

    def to_json(self) -> bytes:
        """The JSON form."""
        return json.dumps([self.media_type, b64url(self.value), int(self.indicator)]).encode()

    def to_cbor(self) -> bytes:
        """The CBOR form."""
        return encode([self.media_type, self.value, int(self.indicator)])

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Read untrusted bytes.

        Raises:
            VerificationError: ``bad-evidence`` (``malformed``); never anything else.
        """
        try:
            parts = parse_json(_bounded(data))
            if isinstance(parts, list) and len(parts) == 3 and isinstance(parts[1], str):
                parts[1] = unb64url(parts[1])
        except (ProtocolError, VerificationError) as error:
            raise refuse(Reason.MALFORMED, "The wrapper is not JSON of its form.") from error
        return cls._checked(parts)

    @classmethod
    def from_cbor(cls, data: bytes) -> Record:
        """Read untrusted bytes.

        Raises:
            VerificationError: ``bad-evidence`` (``malformed``); never anything else.
        """
        return cls._checked(decode(_bounded(data), "The wrapper"))

    @classmethod
    def _checked(cls, parts: Any) -> Record:
        if not isinstance(parts, list) or len(parts) != 3:
            raise refuse(Reason.MALFORMED, "The wrapper is no record of three parts.")
        media_type, value, indicator = parts
        if not isinstance(media_type, str) or not isinstance(value, bytes):
            raise refuse(Reason.MALFORMED, "The wrapper has no media type, or no value.")
        if media_type not in _INDICATORS:
            raise refuse(Reason.MALFORMED, "The wrapper's media type is not known here.")
        if type(indicator) is not int or indicator != _INDICATORS[media_type]:
            raise refuse(Reason.MALFORMED, "The wrapper's indicator is not that of its type.")
        return cls(media_type, value)


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise refuse(Reason.MALFORMED, "The wrapper has more bytes than are accepted.")
    return data
