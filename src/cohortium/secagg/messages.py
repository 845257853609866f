"""The messages of the protocol, named by the steps of the papers.

    step                        from a site         to the sites
    0 AdvertiseKeys             RoundKey            the roster
    1 ShareKeys                 KeyShares           those addressed to each, with step 2's request
    2 MaskedInputCollection     MaskedInput
    3 ConsistencyCheck          SurvivorSignature   SurvivorList without signatures
    4 Unmasking                 Unmasking           SurvivorList with the signatures

Step 1 of the next round travels with step 2, and step 3 is left out where nobody dropped, so that a
round costs a site two messages. Where every party must be there nothing can be recovered, and one
message remains: the masked input.

References: Bonawitz et al., CCS 2017, figure 4; Bell et al., CCS 2020, algorithms 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeyShare:
    """What one party sent another in step 1.

    Attributes:
        mask_key: The sender's public mask key for the round (X25519, 32 bytes).
        sealed: Its shares for the recipient, encrypted: share of the mask key's secret, share of
            the self-mask seed.
    """

    mask_key: bytes
    sealed: bytes


@dataclass(frozen=True)
class KeyShares:
    """Step 1, ShareKeys: a site's fresh keys for a round.

    Attributes:
        mask_key: Public mask key (X25519, 32 bytes).
        sealed: Encrypted shares by recipient: all neighbours.
    """

    sender: str
    round: int
    mask_key: bytes
    sealed: Mapping[str, bytes]

    def to(self, recipient: str) -> KeyShare:
        """The part that `recipient` gets."""
        return KeyShare(self.mask_key, self.sealed[recipient])


@dataclass(frozen=True)
class MaskedInput:
    """Step 2, MaskedInputCollection.

    Attributes:
        vector: Masked words; see `Frame`.
        next: The site's keys for the round after; None where nothing can be recovered.
        agreed: The list of survivors that the site has answered for, where it is asked again.
        signature: Of a committee member, where not all are neighbours: over the round's parties as
            the list of survivors, so that they can be unmasked for if nobody drops.
    """

    sender: str
    round: int
    vector: bytes | bytearray
    next: KeyShares | None = None
    signature: bytes | None = None
    agreed: frozenset[str] | None = None


@dataclass(frozen=True)
class SurvivorList:
    """Steps 3 and 4: whose inputs arrived.

    Attributes:
        signatures: By signer; empty in step 3, and in step 4 where nobody dropped and all are
            neighbours.
    """

    round: int
    survivors: frozenset[str]
    signatures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class SurvivorSignature:
    """Step 3, ConsistencyCheck: a committee member's signature over the list."""

    sender: str
    round: int
    signature: bytes


@dataclass(frozen=True)
class Unmasking:
    """Step 4: shares of survivors' self-mask seeds and of dropped parties' mask keys.

    Attributes:
        shares: By the party whose secret it is a share of.
    """

    sender: str
    round: int
    shares: Mapping[str, bytes]
