"""The parties of a run and their key-agreement keys, verified against the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cohortium.core.canonical import digest
from cohortium.crypto.keys import b64url, unb64url
from cohortium.errors import PolicyRefusal, ProtocolError, VerificationError
from cohortium.secagg.round_key import RoundKey


@dataclass(frozen=True)
class Roster:
    """Who takes part in a run. Sites build it with `verify`, from signed statements only.

    Attributes:
        keys: X25519 public key (32 bytes) by site.
        contract_keys: Ed25519 key by site, as the contract that `contract_digest` names has it.
    """

    run_id: str
    contract_digest: str
    request_digest: str
    keys: Mapping[str, bytes]
    contract_keys: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The parties in their one order (by code point): the earlier of a pair adds the mask."""
        return tuple(sorted(self.keys))

    @cached_property
    def digest(self) -> str:
        """Names run, contract, request, parties and keys."""
        return digest(
            {
                "run_id": self.run_id,
                "contract_digest": self.contract_digest,
                "request_digest": self.request_digest,
                "keys": {site: b64url(key) for site, key in self.keys.items()},
            }
        )

    @classmethod
    def verify(
        cls,
        envelopes: Sequence[bytes],
        *,
        contract_keys: Mapping[str, str],
        run_id: str,
        contract_digest: str,
        request_digest: str,
        min_sites: int,
    ) -> Roster:
        """Build the roster from the sites' signed round keys, as any relay may have handed them on.

        Args:
            envelopes: DSSE envelopes of `RoundKey`, in any order.
            contract_keys: Ed25519 key by site, from the contract that this site signed.
            min_sites: The contract's minimum (or the site policy's, where stricter).

        Raises:
            VerificationError: ``bad-signature``, ``unknown-signer`` or ``bad-digest``.
            ProtocolError: ``malformed-message``, ``wrong-round``, ``roster-mismatch``.
            PolicyRefusal: ``too-few-sites``.
        """
        if len(envelopes) > len(contract_keys):
            raise ProtocolError("roster-mismatch", "There are more parties than participants.")
        keys: dict[str, bytes] = {}
        for envelope in envelopes:
            # 1. Signed, 2. by the contract key of the site that it names, 3. for this run,
            # 4. once for each site and each key.
            statement, signer = RoundKey.open(envelope)  # 1
            if contract_keys.get(statement.site) != signer:  # 2
                raise VerificationError(
                    "unknown-signer",
                    "A round key is not signed by the contract key of the site that it names.",
                )
            stated = (statement.run_id, statement.contract_digest, statement.request_digest)
            if stated != (run_id, contract_digest, request_digest):  # 3
                raise ProtocolError(
                    "wrong-round",
                    f"The round key of {statement.site} belongs to another run.",
                    site=statement.site,
                )
            key = unb64url(statement.x25519)
            if statement.site in keys or key in keys.values():  # 4
                raise ProtocolError(
                    "roster-mismatch",
                    f"The party {statement.site} or its key is there twice.",
                    site=statement.site,
                )
            keys[statement.site] = key
        if len(keys) < max(2, min_sites):
            raise PolicyRefusal(
                "too-few-sites",
                f"{len(keys)} sites take part; at least {max(2, min_sites)} must.",
                sites=len(keys),
                min_sites=max(2, min_sites),
            )
        signers = {site: contract_keys[site] for site in keys}
        return cls(run_id, contract_digest, request_digest, keys, signers)
