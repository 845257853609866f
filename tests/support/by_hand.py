"""A hub of a test's own making that drives a run's secure sum one message at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.support.builders import RoundSums, SumParams, World, no_scope, round_request

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.rounds import State, Total
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.rounds import (
    get_key_shares,
    get_unmasking,
    put_round,
    put_survivors,
)
from cohortium.secagg.aggregator import TIME_IS_UP, Aggregator
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
from cohortium.secagg.roster import Roster

Ask = Callable[[str, pb.Message], pb.Message]


@dataclass
class HubByHand:
    """The steps of one run, each as a test likes; where it says nothing, as they should be.

    Attributes:
        ask: (site, message) -> the site's reply; raises the site's error.
        roster: The signed round keys.
        keys: What each site shared for each round.
    """

    ask: Ask
    contract: Contract
    request: RunRequest
    roster: list[bytes]
    keys: dict[int, dict[str, KeyShares]] = field(default_factory=dict)

    @classmethod
    def begun(cls, world: World, contract: Contract, **changes: Any) -> HubByHand:
        """The run is prepared at all nodes of `world`, and the keys of round 1 are shared."""
        request = world.request(contract, **changes)
        hub = cls(
            lambda site, message: world.nodes[site].ask(message),
            contract,
            request,
            world.adverts(request),
        )
        hub.share()
        return hub

    @cached_property
    def parties(self) -> Parties:
        roster = Roster.verify(
            self.roster,
            contract_keys={p.name: p.key for p in self.contract.participants},
            run_id=self.request.run_id,
            contract_digest=self.contract.digest,
            request_digest=self.request.digest,
            min_sites=2,
        )
        return Parties(roster, self.contract.min_sites)

    def digest(
        self,
        number: int = 1,
        active: Collection[str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> str:
        """What the masks of a round are bound to."""
        state = State({"round": number} if values is None else values)
        members = self.parties.all if active is None else active
        layout = RoundSums().layout(state, SumParams(variable="age"), no_scope())
        text = self.parties.text(members)
        return self._binding(number, state).digest(layout, self.parties.roster.digest, text)

    def _binding(self, number: int, state: State) -> RoundBinding:
        run_id, contract, request = self.request.run_id, self.contract.digest, self.request.digest
        return RoundBinding(run_id, number, contract, request, state.digest)

    # Step 1

    def share_request(self, number: int = 1) -> pb.Message:
        return pb.Message(
            share_request=pb.ShareRequest(
                run_id=self.request.run_id, round=number, roster=self.roster
            )
        )

    def share(self, number: int = 1, sites: Collection[str] = ()) -> None:
        """Ask these sites, or all, for their keys."""
        for site in sites or self.parties.sites:
            reply = self.ask(site, self.share_request(number)).share_reply
            self._keep(site, reply)

    def _keep(self, site: str, reply: pb.ShareReply) -> None:
        keys = get_key_shares(reply, site, self.parties)
        self.keys.setdefault(keys.round, {})[site] = keys

    # Step 2

    def shares_for(self, site: str, number: int, active: Collection[str]) -> dict[str, KeyShare]:
        """What the others sealed for a site, as far as it was asked for."""
        keys = self.keys.get(number, {})
        peers = sorted(self.parties.neighbours(site) & set(active) & set(keys))
        return {peer: keys[peer].to(site) for peer in peers}

    def question(
        self,
        site: str,
        number: int = 1,
        *,
        active: Collection[str] | None = None,
        values: Mapping[str, Any] | None = None,
        shares: Mapping[str, KeyShare] | None = None,
    ) -> pb.Message:
        """A round's request for one site."""
        members = self.parties.all if active is None else frozenset(active)
        message = round_request(self.request, self.roster, number, values)
        given = self.shares_for(site, number, members) if shares is None else shares
        put_round(message.round_request, members, given, self.parties)
        return message

    def input(self, site: str, number: int = 1, **changes: Any) -> bytes:
        """A site's masked input; its keys for the next round are kept."""
        reply = self.ask(site, self.question(site, number, **changes)).round_reply
        self._keep(site, reply.next)
        return reply.masked

    def inputs(self, sites: Collection[str] = (), number: int = 1, **changes: Any) -> None:
        """The masked inputs of these sites, or all."""
        for site in sites or self.parties.sites:
            self.input(site, number, **changes)

    # Steps 3 and 4

    def list_for(
        self,
        survivors: Collection[str],
        number: int = 1,
        signatures: Mapping[str, bytes] | None = None,
    ) -> pb.SurvivorList:
        text = SurvivorList(number, frozenset(survivors), signatures or {})
        return put_survivors(text, self.request.run_id, self.parties)

    def consistency_request(self, survivors: Collection[str], number: int = 1) -> pb.Message:
        return pb.Message(consistency_request=self.list_for(survivors, number))

    def unmask_request(
        self,
        survivors: Collection[str],
        number: int = 1,
        signatures: Mapping[str, bytes] | None = None,
    ) -> pb.Message:
        return pb.Message(unmask_request=self.list_for(survivors, number, signatures))

    def sign(self, site: str, survivors: Collection[str], number: int = 1) -> bytes:
        reply = self.ask(site, self.consistency_request(survivors, number))
        return reply.survivor_signature.signature

    def signed(
        self, survivors: Collection[str], number: int = 1, by: Collection[str] = ()
    ) -> dict[str, bytes]:
        """The signatures of the survivors, or of some of them."""
        return {site: self.sign(site, survivors, number) for site in sorted(by or survivors)}

    def unmask(
        self,
        site: str,
        survivors: Collection[str],
        number: int = 1,
        signatures: Mapping[str, bytes] | None = None,
    ) -> Unmasking:
        reply = self.ask(site, self.unmask_request(survivors, number, signatures))
        return get_unmasking(reply.unmasking, site, self.parties)

    # A whole round

    def round(
        self,
        number: int = 1,
        *,
        survivors: Collection[str] | None = None,
        active: Collection[str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Total:
        """One round, honestly; those of `active` who are no survivors are not asked."""
        members = self.parties.all if active is None else frozenset(active)
        left = members if survivors is None else frozenset(survivors)
        state = State({"round": number} if values is None else values)
        aggregator = Aggregator(
            self.parties,
            self._binding(number, state),
            RoundSums().layout(state, SumParams(variable="age"), no_scope()),
            active=members,
            mask_keys={site: self.keys[number][site].mask_key for site in members},
        )
        progress = aggregator.start()
        for site in sorted(left):
            vector = self.input(site, number, active=members, values=values)
            progress, _ = aggregator.receive(progress, MaskedInput(site, number, vector))
        if progress.step == "MaskedInputCollection":
            progress, _ = aggregator.receive(progress, TIME_IS_UP)
        signatures = self.signed(left, number) if progress.step == "ConsistencyCheck" else {}
        for site, signature in signatures.items():
            if progress.step == "ConsistencyCheck":
                answer = SurvivorSignature(site, number, signature)
                progress, _ = aggregator.receive(progress, answer)
        for site in sorted(left):
            shares = self.unmask(site, left, number, signatures)
            if progress.step == "Unmasking":
                progress, _ = aggregator.receive(progress, shares)
        return aggregator.result(progress)
