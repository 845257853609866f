"""A small masked-sum world with fixed keys."""

from __future__ import annotations

import json
import math
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
from cohortium.secagg.shamir import PRIME, SHARE_BYTES

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
class Heard:
    """All that the hub hears in one round."""

    binding: RoundBinding
    active: frozenset[str]
    keys: Mapping[str, KeyShares]
    inputs: dict[str, bytes] = field(default_factory=dict)
    signatures: dict[str, bytes] = field(default_factory=dict)
    unmaskings: dict[str, Unmasking] = field(default_factory=dict)
    survivors: frozenset[str] = frozenset()

    def note(self, answer: MaskedInput | SurvivorSignature | Unmasking) -> None:
        if isinstance(answer, MaskedInput):
            self.inputs[answer.sender] = bytes(answer.vector)
        elif isinstance(answer, SurvivorSignature):
            self.signatures[answer.sender] = answer.signature
        else:
            self.unmaskings[answer.sender] = answer


@dataclass
class Play:
    """The parties and the hub of a run in which sites may drop, and all that the hub hears.

    Args:
        restarts: Whether each site forgets what it has not stored, after each answer.
        told: Sites to whom the hub says that the round and its parties are others.
        order: The order in which sites are asked and their answers arrive.
    """

    world: World
    layout: Layout
    number: int = 1
    restarts: bool = False
    told: Mapping[str, tuple[RoundBinding, Collection[str]]] = field(default_factory=dict)
    order: Callable[[Collection[str]], Sequence[str]] = sorted
    rounds: list[Heard] = field(default_factory=list)
    keys: dict[str, KeyShares] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.parties = self.world.parties()
        self._parties = {site: self._party(site) for site in self.world.sites}
        self._memory: dict[str, str] = {}
        self._following: dict[str, KeyShares] = {}
        if self.parties.recoverable:
            self.keys = {site: self.party(site).share_keys(1) for site in self.world.sites}

    def _party(self, site: str) -> Party:
        return Party(site, self.world.secrets[site], self.parties)

    def party(self, site: str) -> Party:
        """The state machine of a site."""
        if self.restarts:
            self._parties[site] = self._party(site)
        return self._parties[site]

    def memory(self, site: str) -> PartyRound:
        """What the site stored of the round."""
        return PartyRound.from_json(json.loads(self._memory[site]), self.parties)

    def agreed(self) -> frozenset[str] | None:
        """The list of survivors that a site has signed or answered in the present round."""
        for site in sorted(self._memory):
            memory = self.memory(site)
            if memory.round == self.number and memory.agreed is not None:
                return memory.agreed
        return None

    def _store(self, site: str, memory: PartyRound) -> None:
        self._memory[site] = json.dumps(memory.to_json(self.parties))

    def binding(self) -> RoundBinding:
        """Of the present round."""
        return replace(BINDING, round=self.number, state_digest=digest(["state", self.number]))

    def received(self, site: str, active: Collection[str]) -> dict[str, KeyShare]:
        """What a site is handed of its neighbours' keys."""
        if not self.parties.recoverable:
            return {}
        neighbours = self.parties.neighbours(site) & set(active)
        return {peer: self.keys[peer].to(site) for peer in self.order(neighbours)}

    def aggregator(
        self, active: Collection[str], asked: Collection[str] | None = None
    ) -> Aggregator:
        """The hub for the present round, which it may have asked before."""
        masks = {site: self.keys[site].mask_key for site in active if site in self.keys}
        return Aggregator(
            self.parties,
            self.binding(),
            self.layout,
            active=active,
            asked=asked,
            repeated=any(heard.binding == self.binding() for heard in self.rounds),
            mask_keys=masks,
        )

    def input(self, site: str, contribution: Contribution, active: Collection[str]) -> MaskedInput:
        """A site's step 2; asked again, it remembers what it agreed to."""
        binding, active = self.told.get(site, (self.binding(), active))
        memory, message = self.party(site).masked_input(
            binding,
            self.layout,
            contribution,
            active,
            self.received(site, active),
            sign=self.world.signing[site].sign,
        )
        if site not in self._memory or self.memory(site).digest != memory.digest:
            self._store(site, memory)
        message = replace(message, agreed=self.memory(site).agreed)
        if message.next is not None:
            self._following[site] = message.next
        return message

    def sign(self, site: str, message: SurvivorList) -> SurvivorSignature:
        """A site's step 3."""
        sign = self.world.signing[site].sign
        memory, answer = self.party(site).consistency_check(self.memory(site), message, sign)
        self._store(site, memory)
        return answer

    def unmask(self, site: str, message: SurvivorList) -> Unmasking:
        """A site's step 4."""
        memory, answer = self.party(site).unmask(self.memory(site), message)
        self._store(site, memory)
        return answer

    def round(
        self,
        contributions: Mapping[str, Contribution],
        *,
        without_keys: Collection[str] = (),
        without_input: Collection[str] = (),
        without_signature: Collection[str] = (),
        without_shares: Collection[str] = (),
        asked: Collection[str] | None = None,
    ) -> tuple[frozenset[str], Total]:
        """One round in which those sites drop before they share keys, send their input, sign,
        unmask; returns the survivors and the sum. A dropped site is back in the next round.

        Where it raises, the same round can be tried again, with the same `without_keys`.

        Args:
            contributions: By site.
            without_keys: Absent from step 1 on.
            without_input: Absent from step 2 on.
            without_signature: Absent from step 3 on.
            without_shares: Absent from step 4 on.
            asked: See `Aggregator`.
        """
        active = frozenset(self.world.sites) - set(without_keys)
        aggregator = self.aggregator(active, asked)
        heard = Heard(self.binding(), active, dict(self.keys))
        self.rounds.append(heard)
        state = aggregator.start()
        outgoing: list[Outgoing] = []
        gone = {*without_keys, *without_input}
        for site in self.order(aggregator.awaited(state) - gone):
            message = self.input(site, contributions[site], active)
            heard.note(message)
            state, outgoing = aggregator.receive(state, message)
        while state.step != "done":
            step = state.step
            gone |= set(without_signature if step == "ConsistencyCheck" else ())
            gone |= set(without_shares if step == "Unmasking" else ())
            texts = dict(outgoing)
            for site in self.order(set(texts) - gone):
                if state.step != step:
                    break
                answer = self._answer(step, site, texts[site])
                heard.note(answer)
                state, outgoing = aggregator.receive(state, answer)
            if state.step == step:
                state, outgoing = aggregator.receive(state, TIME_IS_UP)
        heard.survivors = state.survivors
        total = aggregator.result(state)
        self._next()
        return state.survivors, total

    def _next(self) -> None:
        self.number += 1
        for site in self.world.sites if self.parties.recoverable else ():
            following = self._following.get(site)
            if following is None or following.round != self.number:
                following = self.party(site).share_keys(self.number)
            self.keys[site] = following

    def _answer(self, step: Step, site: str, text: SurvivorList) -> SurvivorSignature | Unmasking:
        if step == "ConsistencyCheck":
            return self.sign(site, text)
        return self.unmask(site, text)


def halves(play: Play, owner: str, holder: str) -> tuple[bytes, bytes]:
    """The shares of the owner's mask secret and of its seed that a holder has in this round."""
    if owner != holder:
        share = play.keys[owner].to(holder)
        channel = play.party(holder)._channel(owner, holder)
        both = channel.open(play.number, share.mask_key, share.sealed)
        return both[:SHARE_BYTES], both[SHARE_BYTES:]
    peers = sorted(play.parties.neighbours(owner))[: play.parties.threshold]
    points = [play.parties.point(peer) for peer in peers]
    found = [halves(play, owner, peer) for peer in peers]
    mask_share, seed_share = (
        interpolate(
            points, [int.from_bytes(pair[kind]) for pair in found], play.parties.point(owner)
        )
        for kind in (0, 1)
    )
    return mask_share.to_bytes(SHARE_BYTES), seed_share.to_bytes(SHARE_BYTES)


def interpolate(points: Sequence[int], values: Sequence[int], at: int) -> int:
    """The polynomial through those points (Lagrange), modulo the prime of the shares."""
    total = 0
    for x, y in zip(points, values, strict=True):
        others = [other for other in points if other != x]
        above = math.prod(at - other for other in others)
        below = math.prod(x - other for other in others)
        total += y * above * pow(below, -1, PRIME)
    return total % PRIME


def words(data: bytes | bytearray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The 64-bit words of a masked vector."""
    return np.frombuffer(data, dtype=np.uint64)
