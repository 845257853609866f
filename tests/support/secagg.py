"""A small masked-sum world with fixed keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cohortium.core.canonical import digest
from cohortium.core.rounds import Contribution, Layout, Total
from cohortium.crypto.keys import SigningKey
from cohortium.secagg.aggregator import aggregate
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.party import Party
from cohortium.secagg.roster import Roster

RUN = "0123456789abcdef0123456789abcdef"
CONTRACT = digest("contract")
REQUEST = digest("request")
STATE = digest("state")
BINDING = RoundBinding(RUN, 0, CONTRACT, REQUEST, STATE)


def seed(*parts: object) -> bytes:
    """32 bytes that depend on the parts."""
    return bytes.fromhex(digest([str(part) for part in parts]).removeprefix("sha256:"))


@dataclass
class World:
    """Sites with signing keys, secrets and round keys for one run."""

    sites: Sequence[str]
    label: str = ""
    min_sites: int = 2
    signing: dict[str, SigningKey] = field(init=False)
    secrets: dict[str, bytes] = field(init=False)
    envelopes: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.signing = {site: SigningKey.from_seed(seed("sign", site)) for site in self.sites}
        self.secrets, self.envelopes = {}, {}
        for site in self.sites:
            self.secrets[site], self.envelopes[site] = Party.prepare(
                site=site,
                run_id=RUN,
                contract_digest=CONTRACT,
                request_digest=REQUEST,
                signing_key=self.signing[site],
                random=self._random(site),
            )

    def _random(self, site: str) -> Callable[[int], bytes]:
        return lambda n: seed("x25519", self.label, site)[:n]

    @property
    def contract_keys(self) -> dict[str, str]:
        return {site: key.public for site, key in self.signing.items()}

    def roster(self, envelopes: Sequence[bytes] | None = None) -> Roster:
        return Roster.verify(
            list(self.envelopes.values()) if envelopes is None else envelopes,
            contract_keys=self.contract_keys,
            run_id=RUN,
            contract_digest=CONTRACT,
            request_digest=REQUEST,
            min_sites=self.min_sites,
        )

    def party(self, site: str, roster: Roster | None = None) -> Party:
        return Party(site, self.secrets[site], self.roster() if roster is None else roster)

    def mask_all(
        self,
        layout: Layout,
        contributions: Mapping[str, Contribution],
        binding: RoundBinding = BINDING,
    ) -> dict[str, bytes]:
        roster = self.roster()
        return {
            site: bytes(self.party(site, roster).mask(binding, layout, contributions[site]))
            for site in self.sites
        }

    def sum(
        self,
        layout: Layout,
        contributions: Mapping[str, Contribution],
        binding: RoundBinding = BINDING,
    ) -> Total:
        masked = self.mask_all(layout, contributions, binding)
        return aggregate(masked, self.roster(), binding, layout)


def words(data: bytes | bytearray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The 64-bit words of a masked vector."""
    return np.frombuffer(data, dtype=np.uint64)
