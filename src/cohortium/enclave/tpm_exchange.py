"""Enrolment of a host's TPM in files that people carry: the host's side, and the site's.

    host   request    its attestation key, its endorsement key and its maker's certificate
    site   challenge  a secret that only that TPM opens, while it holds that attestation key
    host   answer     the secret
    site   accept     the attestation key's Name, for the site's list of platforms

None of the files but the site's own is secret once the answer is there.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import StringConstraints

from cohortium.core.canonical import digest_bytes
from cohortium.core.dictionary import Digest
from cohortium.core.model import Document
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.tpm_enrolment import (
    Challenge,
    judge_answer,
    make_challenge,
    verify_endorsement,
)
from cohortium.enclave.attestation.tpm_structures import PublicArea
from cohortium.enclave.tpm import Tpm
from cohortium.enclave.tpm_host import TpmHost
from cohortium.errors import InputError, ProtocolError

_Bytes = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}(==|[A-Za-z0-9+/]=))?$")
]
_Name = Annotated[str, StringConstraints(pattern=r"^000b[0-9a-f]{64}$")]


class Request(Document):
    """What a host shows of its TPM.

    Attributes:
        attestation_key: TPMT_PUBLIC, base64.
        endorsement_key: TPMT_PUBLIC, base64.
        certificate: The maker's, of the endorsement key (DER, base64); absent where the TPM has
            none.
    """

    schema_id: Literal["cohortium/tpm-request/1"] = "cohortium/tpm-request/1"
    attestation_key: _Bytes
    endorsement_key: _Bytes
    certificate: _Bytes | None = None

    @property
    def fingerprint(self) -> Digest:
        """Of the endorsement key, to compare by another way where there is no certificate."""
        return digest_bytes(_unbase64(self.endorsement_key))


class Question(Document):
    """What the site sends to the host.

    Attributes:
        credential: TPM2B_ID_OBJECT, base64.
        secret: TPM2B_ENCRYPTED_SECRET, base64.
    """

    schema_id: Literal["cohortium/tpm-challenge/1"] = "cohortium/tpm-challenge/1"
    credential: _Bytes
    secret: _Bytes


class Answer(Document):
    """What the host's TPM opened."""

    schema_id: Literal["cohortium/tpm-answer/1"] = "cohortium/tpm-answer/1"
    secret: _Bytes


class Kept(Document):
    """What the site keeps for itself meanwhile.

    Attributes:
        secret: Whoever knows it can enrol the key without the TPM.
    """

    schema_id: Literal["cohortium/tpm-kept/1"] = "cohortium/tpm-kept/1"
    name: _Name
    secret: _Bytes


def request(host: TpmHost) -> Request:
    """The host's first step; its key has been made.

    Raises:
        InputError: ``not-found``: it has not.
        PolicyRefusal: ``executor-unavailable``: the TPM refuses, or was cleared since.
    """
    key = host.key()
    with Tpm(host.tcti) as connection:
        public = connection.attestation_public(bytes.fromhex(key.unique))
        endorsement, certificate = connection.endorsement()
    if PublicArea.parse(public).name.hex() != key.name:
        raise host.cleared()
    return Request(
        attestation_key=_base64(public),
        endorsement_key=_base64(endorsement),
        certificate=None if certificate is None else _base64(certificate),
    )


def challenge(
    asked: Request,
    *,
    roots: Sequence[bytes],
    intermediates: Sequence[bytes],
    fingerprint: str | None,
    now: datetime,
    random: Callable[[int], bytes],
) -> tuple[Question, Kept]:
    """The site's first step.

    Args:
        roots: Of TPM makers, DER.
        intermediates: Between the roots and the TPM's certificate, DER.
        fingerprint: Of the endorsement key, where the site knows it otherwise and does without a
            certificate.

    Raises:
        InputError: ``bad-input``: neither roots nor fingerprint.
        VerificationError: ``bad-evidence``, ``evidence-refused``.
    """
    shown = PublicArea.parse(_unbase64(asked.endorsement_key)).key
    if fingerprint is not None:
        if asked.fingerprint != fingerprint:
            raise refuse(
                Reason.CERTIFICATE,
                "The TPM's endorsement key is not the one named.",
                found=asked.fingerprint,
            )
    elif not roots:
        raise InputError(
            "bad-input", "Name the TPM maker's root certificate, or the endorsement key's digest."
        )
    elif asked.certificate is None:
        raise refuse(
            Reason.CERTIFICATE,
            "The TPM has no certificate of its maker. If you know its endorsement key by another "
            "way, name its digest.",
        )
    else:
        certified = verify_endorsement(_unbase64(asked.certificate), intermediates, roots, now=now)
        if not isinstance(shown, rsa.RSAPublicKey) or _differ(certified, shown):
            raise refuse(Reason.CERTIFICATE, "The TPM's certificate is of another key.")
    if not isinstance(shown, rsa.RSAPublicKey):
        raise refuse(Reason.CERTIFICATE, "The TPM's endorsement key is not RSA.")
    made = make_challenge(shown, _unbase64(asked.attestation_key), random)
    question = Question(
        credential=_base64(made.credential_blob), secret=_base64(made.encrypted_secret)
    )
    return question, Kept(name=made.name.hex(), secret=_base64(made.secret))


def answer(host: TpmHost, question: Question) -> Answer:
    """The host's second step.

    Raises:
        PolicyRefusal: ``executor-unavailable``: its TPM does not open it.
    """
    key = host.key()
    with Tpm(host.tcti) as connection:
        opened = connection.activate(
            bytes.fromhex(key.unique), _unbase64(question.credential), _unbase64(question.secret)
        )
    return Answer(secret=_base64(opened))


def accept(kept: Kept, given: Answer) -> str:
    """The Name for the site's list of platforms.

    Raises:
        VerificationError: ``evidence-refused`` (``attestation-key``): it is the wrong answer.
    """
    made = Challenge(b"", b"", _unbase64(kept.secret), bytes.fromhex(kept.name))
    return judge_answer(made, _unbase64(given.secret))


def certificates(data: bytes) -> list[bytes]:
    """The certificates of a file, PEM or DER, as DER.

    Raises:
        InputError: ``bad-input``.
    """
    try:
        if b"-----BEGIN" in data:
            found = x509.load_pem_x509_certificates(data)
        else:
            found = [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise InputError("bad-input", f"Not a certificate, in PEM or DER: {error}") from error
    return [one.public_bytes(Encoding.DER) for one in found]


def _differ(one: rsa.RSAPublicKey, other: rsa.RSAPublicKey) -> bool:
    return one.public_numbers() != other.public_numbers()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProtocolError("malformed-message", "Not valid base64.") from error
