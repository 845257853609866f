"""What a committee signs in the consistency check."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from cohortium.core.canonical import canonical
from cohortium.crypto.keys import verify
from cohortium.crypto.signed import pae
from cohortium.errors import PolicyRefusal, ProtocolError, VerificationError
from cohortium.secagg.parties import Parties

PAYLOAD_TYPE: Final = "application/vnd.cohortium.survivors+json"


def statement(round_digest: str, survivors: Collection[str], parties: Parties) -> bytes:
    """The bytes that are signed: the round, with everything that its digest names, and the list."""
    payload = canonical({"round_digest": round_digest, "survivors": parties.text(survivors)})
    return pae(PAYLOAD_TYPE, payload)


def check_signatures(
    signatures: Mapping[str, bytes],
    round_digest: str,
    survivors: Collection[str],
    parties: Parties,
) -> None:
    """Refuse a list that a quorum of the committee did not sign.

    Raises:
        ProtocolError: ``unexpected-message`` for a signer that may not sign this list.
        VerificationError: ``bad-signature``, naming the site.
        PolicyRefusal: ``too-few-sites``.
    """
    if not set(signatures) <= parties.committee & set(survivors):
        raise ProtocolError(
            "unexpected-message", "A list of survivors is signed by one who may not sign it."
        )
    if len(signatures) < parties.quorum:
        raise PolicyRefusal(
            "too-few-sites",
            f"{len(signatures)} sites signed the list of survivors; {parties.quorum} must.",
            sites=len(signatures),
            min_sites=parties.quorum,
        )
    signed = statement(round_digest, survivors, parties)
    for site, signature in signatures.items():
        try:
            verify(parties.roster.contract_keys[site], signature, signed)
        except VerificationError as error:
            raise VerificationError(
                "bad-signature", f"{site} did not sign this list of survivors.", site=site
            ) from error
