"""What a newcomer signs to prove that it holds the key under which it wants to be known."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label
from cohortium.crypto.signed import KeyText, Signable, pae

Secret = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
Pem = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class SiteEnrolment(Signable):
    """Body of ``POST /enrol``, signed by the node's contract key.

    Attributes:
        ca: Fingerprint of the consortium that the invitation names; the hub refuses another's.
        csr_pem: Certificate request of the node's TLS key.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.site-enrolment+json"

    schema_id: Literal["cohortium/site-enrolment/1"] = "cohortium/site-enrolment/1"
    ca: Digest
    secret: Secret
    name: Label
    key: KeyText
    csr_pem: Pem


class SiteStatusRequest(Signable):
    """Body of ``POST /enrol/status``, signed by the node's contract key."""

    payload_type: ClassVar[str] = "application/vnd.cohortium.site-status-request+json"

    schema_id: Literal["cohortium/site-status-request/1"] = "cohortium/site-status-request/1"
    ca: Digest
    name: Label
    at: Instant


class UserEnrolment(Signable):
    """Body of ``POST /users``, signed by the researcher's key."""

    payload_type: ClassVar[str] = "application/vnd.cohortium.user-enrolment+json"

    schema_id: Literal["cohortium/user-enrolment/1"] = "cohortium/user-enrolment/1"
    ca: Digest
    secret: Secret
    name: Label
    key: KeyText


def rotation_bytes(csr_pem: bytes) -> bytes:
    """What the contract key signs in ``RotateCertificate``."""
    return pae("application/vnd.cohortium.csr+pem", csr_pem)
