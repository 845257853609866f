"""The roster with its neighbour graph: who masks with whom, who holds whose shares, how many."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from cohortium.crypto.keys import b64url
from cohortium.errors import ProtocolError
from cohortium.secagg.graph import topology
from cohortium.secagg.roster import Roster


class Parties:
    """The parties of a run by name. Hub and sites derive the same from the signed round keys.

    Args:
        roster: Verified.
        min_sites: The contract's; a site's stricter policy is checked beside it.

    Attributes:
        threshold: Shares that open a secret (t of the papers).
        quorum: Signatures that make a list of survivors valid.
        fewest: Survivors that a round needs.
        committee: Those who sign lists of survivors.
    """

    def __init__(self, roster: Roster, min_sites: int) -> None:
        seed = bytes.fromhex(roster.digest.removeprefix("sha256:"))
        self.roster = roster
        self.sites = roster.sites
        self._graph = topology(len(self.sites), min_sites, seed)
        self._index = {site: index for index, site in enumerate(self.sites)}
        self._neighbours: dict[str, frozenset[str]] = {}
        self.threshold = self._graph.threshold
        self.quorum = self._graph.quorum
        self.fewest = self._graph.survivors
        self.committee = frozenset(self.sites[index] for index in self._graph.committee)

    @property
    def recoverable(self) -> bool:
        """Whether a round can end without one of the parties."""
        return self._graph.recoverable

    @property
    def complete(self) -> bool:
        """Whether all are neighbours of all."""
        return len(self._graph.committee) == len(self.sites)

    @cached_property
    def all(self) -> frozenset[str]:
        """Every party."""
        return frozenset(self.sites)

    def point(self, site: str) -> int:
        """Where a site's shares are evaluated: 1, 2, ... in roster order."""
        return self._index[site] + 1

    def neighbours(self, site: str) -> frozenset[str]:
        """The parties that `site` shares masks with."""
        if site not in self._neighbours:
            places = self._graph.neighbours[self._index[site]]
            self._neighbours[site] = frozenset(self.sites[place] for place in places)
        return self._neighbours[site]

    def holders(self, site: str) -> frozenset[str]:
        """The parties that hold a share of the secrets of `site`: its neighbours and itself."""
        return self.neighbours(site) | {site}

    def named(self, bits: bytes) -> frozenset[str]:
        """`from_bits`, where no bits at all mean every party."""
        return self.from_bits(bits) if bits else self.all

    def text(self, sites: Collection[str]) -> str:
        """A set of parties as one text, for digests and signatures."""
        return b64url(self.to_bits(sites))

    def to_bits(self, sites: Collection[str]) -> bytes:
        """A set of parties as a bitmap over the roster's order, the first party in bit 0."""
        bits = 0
        for site in sites:
            bits |= 1 << self._index[site]
        return bits.to_bytes((len(self.sites) + 7) // 8, "little")

    def from_bits(self, bits: bytes) -> frozenset[str]:
        """The inverse of `to_bits`.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        number = int.from_bytes(bits, "little")
        if len(bits) != (len(self.sites) + 7) // 8 or number >> len(self.sites):
            raise ProtocolError("malformed-message", "A list of parties does not fit the roster.")
        return frozenset(site for site, index in self._index.items() if number >> index & 1)
