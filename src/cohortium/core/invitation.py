"""The one-time invitation: a line that an operator hands to an institution, person or enclave."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cohortium.core.canonical import parse_json
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label
from cohortium.core.model import Document
from cohortium.errors import CohortiumError, VerificationError

PREFIX = "cohortium-invite-1."
MAX_CHARACTERS = 4000


class Invitation(Document):
    """What the invited needs to reach the right hub and to be let in once.

    Attributes:
        consortium: The consortium's name.
        ca: Fingerprint of the consortium's CA certificate; the hub's certificate must chain to it.
        hub: REST address, ``https://host:port``.
        name: The institution, person or enclave that may use the invitation.
        secret: 32 random bytes in unpadded base64url; the hub keeps only its SHA-256.
    """

    v: Literal[1] = 1
    kind: Literal["site", "researcher", "enclave"]
    consortium: Label
    ca: Digest
    hub: Annotated[str, StringConstraints(pattern=r"^https://[^\s/]+$", max_length=300)]
    name: Label
    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")] = Field(repr=False)
    expires_at: Instant

    def to_text(self) -> str:
        """``cohortium-invite-1.`` and the base64url of the canonical JSON."""
        return PREFIX + base64.urlsafe_b64encode(self.to_bytes()).rstrip(b"=").decode()

    @property
    def secret_digest(self) -> str:
        """What the hub stores of the secret."""
        return secret_digest(self.secret)

    @classmethod
    def from_text(cls, text: str, *, now: datetime | None = None) -> Invitation:
        """Read an invitation; with `now`, refuse an expired one.

        Raises:
            VerificationError: ``bad-invitation``; never anything else.
        """
        text = text.strip()
        if not text.startswith(PREFIX) or len(text) > MAX_CHARACTERS:
            raise VerificationError(
                "bad-invitation", f"An invitation is one line that begins with {PREFIX}"
            )
        body = text.removeprefix(PREFIX)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            invitation = cls.from_json(parse_json(data))
        except (binascii.Error, ValueError, CohortiumError) as error:
            raise VerificationError(
                "bad-invitation", "The invitation is damaged: copy the whole line again."
            ) from error
        if now is not None and now >= invitation.expires_at:
            raise VerificationError(
                "bad-invitation", "The invitation has expired: ask the operator for a new one."
            )
        return invitation


def secret_digest(secret: str) -> str:
    """SHA-256 of an invitation's secret, in hex."""
    return sha256(secret.encode()).hexdigest()
