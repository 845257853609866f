"""A whole federation in one process, real hub and real nodes, both of which can be made to lie.

What the hub sends and what the sites answer passes through `Federation`: a test sets `hub_lies` or
`site_lies` and sees what the honest side does. `heard` is everything that the hub ever received.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.builders import (
    CONSORTIUM,
    SITES,
    Node,
    RoundSums,
    SumParams,
    World,
    datasets,
)
from tests.support.secagg import aggregate

from cohortium.analysis.interface import AnyAnalysis, Continue, Done, Scope
from cohortium.contract.model import Contract, RunRequest
from cohortium.core.rest import ConsortiumInfo
from cohortium.core.rounds import State, Total
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, ProtocolError
from cohortium.hub.config import HubConfig
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.memory import MemoryLink, MemoryUplink
from cohortium.node import consent, outbox
from cohortium.node.guard import Find
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.roster import Roster

TIMEOUT_S = 10.0

HubLies = Callable[[str, pb.Message], pb.Message]
"""(site, what the hub means to send) -> what that site receives."""
SiteLies = Callable[[str, pb.Message, pb.Message], pb.Message]
"""(site, what it was asked, its honest answer) -> what the hub receives."""


class Sums(RoundSums):
    """`RoundSums` with an end: the sums of the last round."""

    def finish(
        self, total: Total, state: State, params: SumParams, scope: Scope
    ) -> Continue | Done:
        number = int(state.values["round"])
        if number == params.rounds:
            return Done({"n": int(total["n"]), "sum": total["sum"].tolist()})
        return Continue(State({"round": number + 1}), number / params.rounds)


def find(name: str) -> AnyAnalysis:
    if name == Sums.name:
        return Sums()
    raise InputError("not-found", f"There is no analysis {name!r} here.")


@dataclass(frozen=True)
class Heard:
    """One exchange as the hub saw it."""

    site: str
    asked: pb.Message
    reply: pb.Message


@dataclass
class _Wire:
    """The link of one site, with the liars on it; a `Handler`."""

    federation: Federation
    site: str

    async def handle(self, message: pb.Message) -> pb.Message:
        federation = self.federation
        asked = pb.Message()
        asked.CopyFrom(message)
        if federation.hub_lies is not None:
            asked = federation.hub_lies(self.site, asked)
        if self.site in federation.silent:
            await asyncio.sleep(2 * TIMEOUT_S)
        return await asyncio.to_thread(federation.answer, self.site, asked)


@dataclass
class Federation:
    """Three sites, a hub and a researcher; nobody lies yet."""

    world: World
    hub: Hub
    link: MemoryLink
    uplinks: dict[str, MemoryUplink] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list, repr=False)
    hub_lies: HubLies | None = None
    site_lies: SiteLies | None = None
    silent: set[str] = field(default_factory=set)
    _answering: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def node(self, site: str) -> Node:
        return self.world.nodes[site]

    def answer(self, site: str, message: pb.Message) -> pb.Message:
        """What a site answers; a lying hub hears it also where the honest one no longer waits."""
        with self._lock:
            self._answering += 1
        try:
            reply = self.node(site).service.answer(message)
            if self.site_lies is not None:
                reply = self.site_lies(site, message, reply)
            self.heard.append(Heard(site, message, reply))
            return reply
        finally:
            with self._lock:
                self._answering -= 1

    # Contracts

    async def propose(self, contract: Contract) -> None:
        """The researcher proposes; the hub hands the contract to its participants."""
        user = self.hub.user(self.world.researcher.public)
        self.hub.propose(contract.sign(self.world.researcher), user)
        await self.hub.delivered()

    async def sign(self, site: str, name: str) -> None:
        """The steward of a site signs what has arrived there, and the hub hears of it."""
        node = self.node(site)
        stored = consent.find_contract(node.store, name)
        consent.sign(node.service, consent.review(node.service, stored))
        await outbox.flush(node.store, lambda m: self.uplinks[site].request(m, TIMEOUT_S))
        await self.hub.delivered()

    async def agree(self, **changes: Any) -> Contract:
        """A contract that all signed and that is active at every node."""
        contract = self.world.contract(**changes)
        await self.propose(contract)
        for participant in contract.participants:
            await self.sign(participant.name, contract.digest)
        return contract

    # Runs

    def request(self, contract: Contract, number: int = 1, **changes: Any) -> RunRequest:
        """The researcher's request for run `number`."""
        return self.world.request(contract, run_id=f"{number:032x}", **changes)

    async def run(self, request: RunRequest) -> str:
        """Submit to the hub and wait; returns the final status."""
        user = self.hub.user(self.world.researcher.public)
        self.hub.submit(request.sign(self.world.researcher), user)
        return await self.settled(request)

    async def settled(self, request: RunRequest) -> str:
        """The status of a run when it has ended and the sites know."""
        user = self.hub.user(self.world.researcher.public)
        async with asyncio.timeout(2 * TIMEOUT_S):
            async for event in self.hub.follow(request.run_id, user, 0):
                if event.kind == "done" and event.info is not None:
                    while self._answering or (
                        self.hub.store.outbox.sites() & self.link.connected()
                    ):
                        await asyncio.sleep(0.005)
                    return event.info.status
        raise RuntimeError("the events ended without an end")

    def error(self, request: RunRequest) -> Mapping[str, Any]:
        """Why a run failed."""
        error = self.hub.store.runs.get(request.run_id).info.error
        if error is None:
            raise RuntimeError("the run has no error")
        return error

    def result(self, request: RunRequest) -> Mapping[str, Any]:
        user = self.hub.user(self.world.researcher.public)
        result: Mapping[str, Any] = self.hub.result(request.run_id, user).result
        return result

    async def ask(self, site: str, message: pb.Message) -> pb.Message:
        """A hub of the attacker's own making asks a node over the link; its error is raised."""
        return await self.link.request(site, message, TIMEOUT_S)

    async def adverts(self, request: RunRequest) -> dict[str, bytes]:
        """Round 0 at every site, by such a hub."""
        message = self.world.prepare(request)
        return {s: (await self.ask(s, message)).run_advert.envelope for s in SITES}

    def adverts_of(self, request: RunRequest) -> dict[str, bytes]:
        """The round key that the hub heard from each site for a run."""
        return {
            heard.site: heard.reply.run_advert.envelope
            for heard in self.heard
            if heard.reply.WhichOneof("body") == "run_advert"
            and RunRequest.open(heard.asked.run_prepare.request_envelope)[0] == request
        }

    # What the nodes wrote down, and what the hub can make of what it heard

    def refusals(self, site: str) -> list[tuple[str, str]]:
        """(what, code) of each refusal in a node's journal."""
        return [(e["what"], e["code"]) for e in self.node(site).decisions(allowed=False)]

    def rounds(self, site: str, run_id: str) -> list[dict[str, Any]]:
        """The rounds that a node answered."""
        return self.node(site).decisions(what="round", run_id=run_id, allowed=True)

    def masked(self, request: RunRequest) -> list[Heard]:
        """All masked vectors of a run that the hub received."""
        return [
            heard
            for heard in self.heard
            if heard.reply.WhichOneof("body") == "round_reply"
            and heard.asked.round_request.run_id == request.run_id
        ]

    def decodable(self, request: RunRequest, contract: Contract) -> list[Total]:
        """Every total that the hub can decode from what it heard in a run.

        Tries all combinations of one vector of each of two or more sites.
        """
        heard = self.masked(request)
        adverts = self.adverts_of(request)
        binding = RoundBinding(request.run_id, 1, contract.digest, request.digest, State().digest)
        layout = Sums().layout(State(), SumParams(variable="age"), Scope({}, Disclosure(), 2))
        totals = []
        for size in range(2, len(SITES) + 1):
            for sites in itertools.combinations(SITES, size):
                roster = Roster.verify(
                    [adverts[site] for site in sites],
                    contract_keys={p.name: p.key for p in contract.participants},
                    run_id=request.run_id,
                    contract_digest=contract.digest,
                    request_digest=request.digest,
                    min_sites=2,
                )
                vectors = [
                    [h.reply.round_reply.masked for h in heard if h.site == s] for s in sites
                ]
                for chosen in itertools.product(*vectors):
                    masked = dict(zip(sites, chosen, strict=True))
                    try:
                        totals.append(aggregate(masked, roster, binding, layout))
                    except ProtocolError:
                        continue
        return totals


@asynccontextmanager
async def federation(
    finders: Mapping[str, Find] | None = None, *, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Federation]:
    """A started federation without a contract.

    Args:
        finders: Registries of sites that run another program than the honest one.
        timeout_s: How long the hub waits for a site.
    """
    world = World()
    store, runner = HubStore("sqlite://"), ThreadRunner()
    hub = Hub(
        store,
        consortium=ConsortiumInfo(
            name="Test", fingerprint=CONSORTIUM, ca_pem="", link_address="memory:0"
        ),
        runner=runner,
        config=HubConfig(gather_timeout_s=timeout_s, round_timeout_s=timeout_s),
        clock=world.clock,
        find_analysis=find,
    )
    made = Federation(world, hub, MemoryLink(hub.handler_for))
    hub.members.add_user("Dr. Li", world.researcher.public)
    for number, site in enumerate(SITES, 1):
        node = world.node(site, find_analysis=(finders or {}).get(site, find))
        hub.members.add(site, node.service.identity.key.public)
        store.members.publish(site, datasets(number).published()[0])
        made.uplinks[site] = made.link.join(site, _Wire(made, site))
    await hub.start(made.link, watch=False)
    try:
        yield made
    finally:
        await hub.stop()
        await asyncio.to_thread(runner.close)
        store.close()
        for node in world.nodes.values():
            node.store.close()


async def refused(made: Federation, site: str, message: pb.Message, code: str) -> CohortiumError:
    """A node refuses with `code`, in its answer and in its journal, and does nothing else."""
    before = made.refusals(site)
    allowed = len(made.node(site).decisions(allowed=True))
    try:
        reply = await made.ask(site, message)
    except CohortiumError as error:
        caught = error
    else:
        raise AssertionError(f"the node answered {reply.WhichOneof('body')}")
    if caught.code != code:
        raise AssertionError(f"{caught.code} instead of {code}: {caught.message}")
    added = made.refusals(site)[len(before) :]
    if [c for _, c in added] != [code]:
        raise AssertionError(f"the journal says {added}")
    if len(made.node(site).decisions(allowed=True)) != allowed:
        raise AssertionError("the node did something that it refused")
    return caught
