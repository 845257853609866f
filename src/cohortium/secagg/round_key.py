"""A site's round-0 statement."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from cohortium.core.dictionary import Digest, Label
from cohortium.crypto.signed import Signable


class RoundKey(Signable):
    """A site's key-agreement key for one run, signed by its contract key.

    Attributes:
        x25519: The public key (RFC 7748) in unpadded base64url.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.round-key+json"

    schema_id: Literal["cohortium/round-key/1"] = "cohortium/round-key/1"
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    contract_digest: Digest
    request_digest: Digest
    site: Label
    x25519: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
