"""A small masked-sum world with fixed keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cohortium.core.canonical import digest
from cohortium.core.rounds import Contribution, Layout, Total
from cohortium.crypto.keys import SigningKey
from cohortium.secagg.aggregator import TIME_IS_UP, Aggregator, Outgoing, Step
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.messages import (
    KeyShare,
    KeyShares,
    MaskedInput,
    SurvivorList,
    SurvivorSignature,
    Unmasking,
)
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.roster import Roster

RUN = "0123456789abcdef0123456789abcdef"
CONTRACT = digest("contract")
REQUEST = digest("request")
STATE = digest("state")
BINDING = RoundBinding(RUN, 1, CONTRACT, REQUEST, STATE)


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

    def parties(self, roster: Roster | None = None) -> Parties:
        return Parties(self.roster() if roster is None else roster, self.min_sites)

    def party(self, site: str, roster: Roster | None = None) -> Party:
        return Party(site, self.secrets[site], self.parties(roster))

    def mask(
        self,
        site: str,
        layout: Layout,
        contribution: Contribution,
        binding: RoundBinding = BINDING,
        roster: Roster | None = None,
    ) -> bytes:
        """A masked vector where every party must be there."""
        _, message = self.party(site, roster).masked_input(binding, layout, contribution)
        return bytes(message.vector)

    def mask_all(
        self,
        layout: Layout,
        contributions: Mapping[str, Contribution],
        binding: RoundBinding = BINDING,
    ) -> dict[str, bytes]:
        roster = self.roster()
        return {
            site: self.mask(site, layout, contributions[site], binding, roster)
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


def aggregate(
    masked: Mapping[str, bytes], roster: Roster, binding: RoundBinding, layout: Layout
) -> Total:
    """The sum of one masked vector of each party, where every party must be there."""
    aggregator = Aggregator(Parties(roster, len(roster.sites)), binding, layout)
    state = aggregator.start()
    for site, vector in masked.items():
        state, _ = aggregator.receive(state, MaskedInput(site, binding.round, vector))
    if state.step != "done":
        state, _ = aggregator.receive(state, TIME_IS_UP)
    return aggregator.result(state)


@dataclass
class Play:
    """The parties and the hub of a run in which sites may drop, and all that the hub hears."""

    world: World
    layout: Layout
    number: int = 1
    keys: dict[str, KeyShares] = field(default_factory=dict)
    heard: list[MaskedInput | SurvivorSignature | Unmasking] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parties = self.world.parties()
        self.party = {site: self.world.party(site) for site in self.world.sites}
        if self.parties.recoverable and not self.keys:
            self.keys = {site: party.share_keys(1) for site, party in self.party.items()}

    def binding(self) -> RoundBinding:
        return replace(BINDING, round=self.number)

    def received(self, site: str, active: Collection[str]) -> dict[str, KeyShare]:
        """What a site is handed of its neighbours' keys."""
        if not self.parties.recoverable:
            return {}
        neighbours = self.parties.neighbours(site) & set(active)
        return {peer: self.keys[peer].to(site) for peer in sorted(neighbours)}

    def aggregator(self, active: Collection[str]) -> Aggregator:
        masks = {site: self.keys[site].mask_key for site in active if site in self.keys}
        return Aggregator(self.parties, self.binding(), self.layout, active=active, mask_keys=masks)

    def round(
        self,
        contributions: Mapping[str, Contribution],
        *,
        without_keys: Collection[str] = (),
        without_input: Collection[str] = (),
        without_signature: Collection[str] = (),
        without_shares: Collection[str] = (),
    ) -> tuple[frozenset[str], Total]:
        """One round in which those sites drop before they share keys, send their input, sign,
        unmask; returns the survivors and the sum. A dropped site is back in the next round.
        """
        active = frozenset(self.world.sites) - set(without_keys)
        aggregator = self.aggregator(active)
        state = aggregator.start()
        memory: dict[str, PartyRound] = {}
        following: dict[str, KeyShares] = {}
        outgoing: list[Outgoing] = []
        for site in sorted(active - set(without_input)):
            memory[site], message = self.party[site].masked_input(
                self.binding(),
                self.layout,
                contributions[site],
                active,
                self.received(site, active),
            )
            self.heard.append(message)
            if message.next is not None:
                following[site] = message.next
            state, outgoing = aggregator.receive(state, message)
        gone = {*without_keys, *without_input}
        while state.step != "done":
            step = state.step
            gone |= set(without_signature if step == "ConsistencyCheck" else ())
            gone |= set(without_shares if step == "Unmasking" else ())
            pending = [(site, text) for site, text in outgoing if site not in gone]
            for site, text in pending:
                if state.step != step:
                    break
                memory[site], answer = self._answer(step, site, memory[site], text)
                self.heard.append(answer)
                state, outgoing = aggregator.receive(state, answer)
            if state.step == step:
                state, outgoing = aggregator.receive(state, TIME_IS_UP)
        self.number += 1
        if self.parties.recoverable:
            self.keys = {
                site: following.get(site) or party.share_keys(self.number)
                for site, party in self.party.items()
            }
        return state.survivors, aggregator.result(state)

    def _answer(
        self, step: Step, site: str, memory: PartyRound, text: SurvivorList
    ) -> tuple[PartyRound, SurvivorSignature | Unmasking]:
        if step == "ConsistencyCheck":
            sign = self.world.signing[site].sign
            return self.party[site].consistency_check(memory, text, sign)
        return self.party[site].unmask(memory, text)


def words(data: bytes | bytearray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The 64-bit words of a masked vector."""
    return np.frombuffer(data, dtype=np.uint64)
