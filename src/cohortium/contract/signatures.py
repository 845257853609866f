"""Whether all who have to sign a contract have signed it."""

from __future__ import annotations

from collections.abc import Collection

from cohortium.contract.model import Contract
from cohortium.errors import PolicyRefusal, VerificationError


def check_signatures(contract: Contract, envelopes: Collection[bytes]) -> dict[str, bytes]:
    """Require every signatory's signature over this very contract; returns envelopes by key.

    Raises:
        VerificationError: ``bad-signature``, ``unknown-signer`` or ``bad-digest``.
        PolicyRefusal: ``contract-not-active`` where a signature is missing.
    """
    keys = {key: name for name, key in contract.signatories.items()}
    if len(envelopes) > len(keys):
        raise VerificationError("unknown-signer", "There are more signatures than participants.")
    found: dict[str, bytes] = {}
    for envelope in envelopes:
        signed, signer = Contract.open(envelope)
        if signer not in keys:
            raise VerificationError("unknown-signer", "A signature is not of a participant.")
        if signed.digest != contract.digest:
            raise VerificationError("bad-digest", "A signature is over another contract.")
        found[signer] = envelope
    missing = sorted(name for key, name in keys.items() if key not in found)
    if missing:
        raise PolicyRefusal(
            "contract-not-active",
            f"Not signed yet by: {', '.join(missing)}.",
            missing=missing,
        )
    return found
