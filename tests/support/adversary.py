"""A whole federation in one process, real hub and real nodes, both of which can be made to lie.

What the hub sends and what the sites answer passes through `Federation`: a test sets `hub_lies` or
`site_lies` and sees what the honest side does. `heard` is everything that the hub ever received.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.support.builders import (
    CONSORTIUM,
    Node,
    RoundSums,
    SeparateSums,
    SumParams,
    World,
    datasets,
    no_scope,
)
from tests.support.by_hand import HubByHand
from tests.support.decoding import Decoding, Heard, Sum
from tests.support.no_alarms import require_no_alarms

from cohortium.analysis.interface import AnyAnalysis, Continue, Done, DropOuts, Scope
from cohortium.contract.model import Contract, RunRequest
from cohortium.core.rest import ConsortiumInfo
from cohortium.core.rounds import State, Total
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError, InputError, PeerError
from cohortium.hub.config import HubConfig
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import raise_if_error
from cohortium.link.memory import MemoryLink, MemoryUplink
from cohortium.node import consent, outbox
from cohortium.node.alarms import alarms
from cohortium.node.guard import Find
from cohortium.node.witness import accept

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


class Separate(Sums):
    """The same, but each round is summed over those who are there; ends with all rounds' sums."""

    name: ClassVar[str] = SeparateSums.name
    drop_outs: ClassVar[DropOuts] = "continue"

    def finish(
        self, total: Total, state: State, params: SumParams, scope: Scope
    ) -> Continue | Done:
        number = int(state.values["round"])
        this = {"n": int(total["n"]), "sum": total["sum"].tolist()}
        rounds = [*state.values.get("rounds", ()), this]
        if number == params.rounds:
            return Done({"rounds": rounds})
        return Continue(State({"round": number + 1, "rounds": rounds}), number / params.rounds)


def find(name: str) -> AnyAnalysis:
    for analysis in (Sums, Separate):
        if name == analysis.name:
            return analysis()
    raise InputError("not-found", f"There is no analysis {name!r} here.")


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
        if federation.away is not None and federation.away(self.site, asked):
            raise PeerError("peer-unreachable", f"{self.site} is away.", peer=self.site)
        if self.site in federation.silent:
            await asyncio.sleep(2 * federation.settings["round_timeout_s"])
        return await asyncio.to_thread(federation.answer, self.site, asked)


@dataclass
class Federation:
    """Some sites, a hub and a researcher; nobody lies yet.

    Attributes:
        away: (site, message): whether the site is not there to get it.
        wronged: Sites whose ledger may tell of what they did not do.
    """

    world: World
    hub: Hub
    link: MemoryLink
    runner: ThreadRunner
    settings: dict[str, Any]
    uplinks: dict[str, MemoryUplink] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list, repr=False)
    hub_lies: HubLies | None = None
    site_lies: SiteLies | None = None
    away: Callable[[str, pb.Message], bool] | None = None
    silent: set[str] = field(default_factory=set)
    wronged: set[str] = field(default_factory=set)
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

    async def accept_alarm(self, site: str) -> None:
        """A site finds what the ledger says of it false; its steward lets that pass."""
        self.wronged.add(site)
        store = self.node(site).store
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := alarms(store, only_open=True)):
                await asyncio.sleep(0.01)
        accept(store, found[0].id)

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

    async def resume(self, request: RunRequest) -> str:
        """Go on with a run that failed; returns how it ended."""
        await self.hub.resume(request.run_id, self.hub.user(self.world.researcher.public))
        return await self.settled(request)

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
        sites = self.world.sites
        return {s: (await self.ask(s, message)).run_advert.envelope for s in sites}

    async def by_hand(
        self, contract: Contract, number: int = 1, *, share: bool = True, **changes: Any
    ) -> HubByHand:
        """Run `number`, which such a hub drives one message at a time; keys are shared."""
        request = self.request(contract, number, **changes)
        hub = HubByHand(
            self.ask_now, contract, request, list((await self.adverts(request)).values())
        )
        if share:
            hub.share()
        return hub

    def ask_now(self, site: str, message: pb.Message) -> pb.Message:
        """As `ask`, in the calling thread."""
        reply = self.answer(site, message)
        raise_if_error(reply)
        return reply

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

    def decodable(
        self, request: RunRequest, contract: Contract, colluding: Collection[str] = ()
    ) -> list[Sum]:
        """Every sum over some sites, one vector of each, that the hub can decode in a run."""
        return [found for found in self.decoding(contract, colluding).sums(request) if found.plain]

    def decoding(self, contract: Contract, colluding: Collection[str] = ()) -> Decoding:
        """What the hub can make of all it heard, and of all that colluding sites know."""
        return Decoding(
            self.heard,
            contract,
            Sums().layout(State(), SumParams(variable="age"), no_scope()),
            {site: self.node(site).drawn for site in colluding},
        )

    async def restart_hub(self) -> None:
        """Another hub on the same store and journals, with the same sites connected."""
        await self.hub.stop()
        wires = {site: handler for site, (handler, _) in self.link._nodes.items()}
        journals = self.runner._journals
        self.runner = type(self.runner)()
        self.runner._journals = journals
        self.hub = make_hub(self.world, self.hub.store, self.runner, **self.settings)
        self.link = MemoryLink(self.hub.handler_for)
        self.uplinks |= {site: self.link.join(site, wire) for site, wire in wires.items()}
        await self.hub.start(self.link, watch=False)


def make_hub(world: World, store: HubStore, runner: ThreadRunner, **settings: Any) -> Hub:
    """A hub of the consortium ``Test``, not started."""
    find_analysis = settings.pop("find_analysis", find)
    return Hub(
        store,
        consortium=ConsortiumInfo(
            name="Test", fingerprint=CONSORTIUM, ca_pem="", link_address="memory:0"
        ),
        runner=runner,
        config=HubConfig(**settings),
        clock=world.clock,
        find_analysis=find_analysis,
        ledger_key=SigningKey.from_seed(b"ledger".ljust(32, b".")),
    )


@asynccontextmanager
async def federation(
    finders: Mapping[str, Find] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    find_analysis: Find = find,
    world: World | None = None,
    straggler_s: float = TIMEOUT_S,
    runner: ThreadRunner | None = None,
) -> AsyncIterator[Federation]:
    """A started federation without a contract.

    Args:
        finders: Registries of sites that run another program than the honest one.
        timeout_s: How long the hub waits for a site.
        find_analysis: The registry of all others.
        world: Its sites and keys; three sites by default.
        straggler_s: How long the hub waits for the others once enough sites have answered.
        runner: Runs what the hub runs.
    """
    world = world or World()
    store = HubStore("sqlite://")
    settings = {
        "gather_timeout_s": timeout_s,
        "round_timeout_s": timeout_s,
        "straggler_s": straggler_s,
        "find_analysis": find_analysis,
    }
    runner = runner or ThreadRunner()
    hub = make_hub(world, store, runner, **settings)
    made = Federation(world, hub, MemoryLink(hub.handler_for), runner, settings)
    hub.members.add_user("Dr. Li", world.researcher.public)
    for number, site in enumerate(world.sites, 1):
        node = world.node(site, find_analysis=(finders or {}).get(site, find_analysis))
        hub.members.add(site, node.service.identity.key.public)
        made.uplinks[site] = uplink = made.link.join(site, _Wire(made, site))
        node.service.welcome(await uplink.request(node.service.hello(), TIMEOUT_S))
        outbox.owe_datasets(node.store, datasets(number).published())
        await outbox.flush(node.store, functools.partial(uplink.request, timeout_s=TIMEOUT_S))
    await hub.start(made.link, watch=False)
    try:
        yield made
    finally:
        await made.hub.stop()
        await asyncio.to_thread(made.runner.close)
        store.close()
        try:
            require_no_alarms(world.nodes[s].store for s in world.sites if s not in made.wronged)
        finally:
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
