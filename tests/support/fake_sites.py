"""A hub with sites that are a few lines each: they answer rounds with real masks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tests.support.versions import versioned
from tests.support.witness import FakeWitness

from cohortium.analysis.interface import AnyAnalysis, Continue, Done, DropOuts, Params, Scope
from cohortium.contract.model import Computation, Contract, Participant, Researcher, RunRequest
from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.core.directory import PublishedDataset
from cohortium.core.rest import ConsortiumInfo, RunInfo
from cohortium.core.rounds import Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.crypto.authority import Authority
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError, InputError
from cohortium.hub.config import HubConfig
from cohortium.hub.runner import Runner
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import error_message, get_state
from cohortium.link.memory import MemoryLink
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party
from cohortium.secagg.roster import Roster

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SITES = ("Alpha", "Beta", "Gamma")
AGE = Variable(name="age", type=VariableType.INTEGER, unit="years")
DATASET = PublishedDataset(
    name="lung",
    content_digest="sha256:" + "d" * 64,
    dictionary=Dictionary(variables=(AGE,)),
)
Hook = Callable[[Message], Awaitable[Message | None]]


def key(name: str) -> SigningKey:
    """The signing key of a made-up person or site."""
    return SigningKey.from_seed(name.encode().ljust(32, b"."))


class AddUpParams(Params):
    """How many rounds, and how many components a round."""

    rounds: int = 3
    components: int = 2


class AddUp:
    """Adds the sites' numbers in each round; the result is the sum over rounds of all sums."""

    name: ClassVar[str] = "test.add_up"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 50
    params_type: type[AddUpParams] = AddUpParams

    def variables(self, params: AddUpParams) -> frozenset[str]:
        return frozenset({"age"})

    def start(self, params: AddUpParams, scope: Scope) -> State:
        return State({"round": 1, "sum": 0.0, "n_sites": scope.n_sites})

    def layout(self, state: State, params: AddUpParams, scope: Scope) -> Layout:
        return {"sum": FieldSpec((params.components,), "real"), "n": FieldSpec((), "count")}

    def local(self, table: Table, state: State, params: AddUpParams, scope: Scope) -> Contribution:
        raise NotImplementedError

    def finish(
        self, total: Total, state: State, params: AddUpParams, scope: Scope
    ) -> Continue | Done:
        number = int(state.values["round"])
        total_sum = float(state.values["sum"]) + float(total["sum"].sum())
        if number == params.rounds:
            return Done({"sum": total_sum, "n": int(total["n"]), "rounds": number})
        state = State({**state.values, "round": number + 1, "sum": total_sum})
        return Continue(state, number / params.rounds, f"round {number}")


def find(name: str) -> AnyAnalysis:
    """Only `AddUp`."""
    if name != AddUp.name:
        raise InputError("not-found", f"There is no analysis {name}.")
    return AddUp()


@dataclass
class FakeSite:
    """A node without checks: it masks `value` + the round's number in each component.

    Attributes:
        hook: Sees each message first; what it returns is the answer.
        seen: Kinds of messages, in order, with the round where there is one.
        lookup: A run's request envelope, for a site that was restarted with the hub.
        witness: Its copy of the ledger; these messages are not in `seen`, and no hook sees them.
    """

    name: str
    contract: Contract
    value: float = 1.0
    hook: Hook | None = None
    seen: list[str] = field(default_factory=list)
    requests: dict[str, tuple[RunRequest, bytes, bytes]] = field(default_factory=dict)
    lookup: Callable[[str], bytes] | None = None

    def __post_init__(self) -> None:
        self.witness = FakeWitness(self.name, key(self.name))

    async def handle(self, message: Message) -> Message:
        body = str(message.WhichOneof("body"))
        if body == "ledger_update":
            return self.witness.answer(message.ledger_update)
        detail = f"-{message.round_request.round}" if body == "round_request" else ""
        if body == "run_end":
            detail = f"-{message.run_end.outcome}"
        self.seen.append(body + detail)
        try:
            answer = None if self.hook is None else await self.hook(message)
            return self._answer(body, message) if answer is None else answer
        except CohortiumError as error:
            return error_message(error)

    def _answer(self, body: str, message: Message) -> Message:
        reply = Message()
        if body == "run_prepare":
            reply.run_advert.envelope = self._prepare(message.run_prepare.request_envelope)
        elif body == "round_request":
            reply.round_reply.run_id = message.round_request.run_id
            reply.round_reply.round = message.round_request.round
            reply.round_reply.masked = self._mask(message)
        else:
            reply.ack.SetInParent()
        return reply

    def _prepare(self, envelope: bytes) -> bytes:
        request, _ = RunRequest.open(envelope)
        if request.run_id not in self.requests:
            # From the name, so that a site in another process answers the same.
            secret, advert = Party.prepare(
                site=self.name,
                run_id=request.run_id,
                contract_digest=request.contract_digest,
                request_digest=request.digest,
                signing_key=key(self.name),
                random=lambda n: self.name.encode().ljust(n, b"s"),
            )
            self.requests[request.run_id] = request, secret, advert
        return self.requests[request.run_id][2]

    def _mask(self, message: Message) -> bytes:
        order = message.round_request
        if order.run_id not in self.requests and self.lookup is not None:
            self._prepare(self.lookup(order.run_id))
        request, secret, _ = self.requests[order.run_id]
        roster = Roster.verify(
            list(order.roster),
            contract_keys={p.name: p.key for p in self.contract.participants},
            run_id=order.run_id,
            contract_digest=self.contract.digest,
            request_digest=request.digest,
            min_sites=2,
        )
        state = get_state(order)
        params = AddUpParams.from_json(request.params)
        scope = Scope({"age": AGE}, self.contract.disclosure, len(roster.sites))
        binding = RoundBinding(
            order.run_id, order.round, self.contract.digest, request.digest, state.digest
        )
        contribution = {
            "sum": np.full(params.components, self.value + order.round),
            "n": np.array(1),
        }
        layout = AddUp().layout(state, params, scope)
        parties = Parties(roster, self.contract.min_sites)
        _, masked = Party(self.name, secret, parties).masked_input(binding, layout, contribution)
        return bytes(masked.vector)


def expected_sum(
    rounds: int = 3, components: int = 2, values: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> float:
    """What a run over sites with these values gives."""
    return components * sum(value + number for value in values for number in range(1, rounds + 1))


def make_contract(fingerprint: str, **changes: Any) -> Contract:
    """A contract of the three sites and one researcher, Ada."""
    fields: dict[str, Any] = {
        "study": "lung",
        "title": "Lung",
        "purpose": "Survival.",
        "variables": (AGE,),
        "computations": (Computation(name="test.*"),),
        "min_sites": 2,
        "expires_at": NOW + timedelta(days=365),
        "consortium": fingerprint,
        "participants": tuple(
            Participant(
                name=name,
                key=key(name).public,
                dataset="lung",
                dataset_digest=DATASET.content_digest,
                dictionary_digest=DATASET.dictionary.digest,
                variables=("age",),
            )
            for name in SITES
        ),
        "recipients": (Researcher(name="Ada", key=key("Ada").public),),
        "proposed_by": Researcher(name="Ada", key=key("Ada").public),
        "created_at": NOW,
    }
    fields |= changes
    return Contract(**{**fields, "computations": versioned(fields["computations"])})


def make_request(contract: Contract, number: int = 1, **changes: Any) -> RunRequest:
    """Ada's request for run `number`."""
    fields: dict[str, Any] = {
        "run_id": f"{number:032x}",
        "study": contract.study,
        "contract_digest": contract.digest,
        "computation": AddUp.name,
        "params": {"rounds": 3},
        "researcher": key("Ada").public,
        "issued_at": NOW,
        "valid_until": NOW + timedelta(hours=1),
    }
    return RunRequest(**(fields | changes))


@dataclass
class World:
    """A started hub, its link and its fake sites."""

    hub: Hub
    link: MemoryLink
    contract: Contract
    sites: dict[str, FakeSite]

    def join(self, site: str) -> None:
        """A site is back."""
        self.link.join(site, self.sites[site])
        self.hub.on_connect(site)

    async def reaches(self, run_id: str, status: str, timeout_s: float = 20.0) -> RunInfo:
        """A run's record when it has this status."""
        async with asyncio.timeout(timeout_s):
            while True:
                info = self.hub.run(run_id, self.hub.user(key("Ada").public))
                if info.status == status:
                    return info
                await asyncio.sleep(0.01)

    async def settled(self, run_id: str, timeout_s: float = 20.0) -> str:
        """The final status of a run."""
        async with asyncio.timeout(timeout_s):
            user = self.hub.user(key("Ada").public)
            async for event in self.hub.follow(run_id, user, 0):
                if event.kind == "done" and event.info is not None:
                    return event.info.status
        raise RuntimeError("the events ended without an end")

    async def heard(self, site: str, what: str, timeout_s: float = 10.0) -> None:
        """Wait until a site was sent something; sites hear of a run's end after its result."""
        async with asyncio.timeout(timeout_s):
            while what not in self.sites[site].seen:
                await asyncio.sleep(0.01)


def make_hub(
    store: HubStore,
    runner: Runner | None = None,
    *,
    config: HubConfig | None = None,
    authority: Authority | None = None,
    folder: Path | None = None,
) -> Hub:
    """A hub of the consortium ``Test``, not started."""
    fingerprint = "sha256:" + "c" * 64 if authority is None else authority.fingerprint
    return Hub(
        store,
        consortium=ConsortiumInfo(
            name="Test", fingerprint=fingerprint, ca_pem="", link_address="127.0.0.1:1"
        ),
        runner=runner or ThreadRunner(),
        authority=authority,
        config=config or HubConfig(gather_timeout_s=0.5, round_timeout_s=5.0),
        clock=lambda: NOW,
        find_analysis=find,
        ledger_key=key("ledger"),
        folder=folder,
    )


def enrol_everyone(hub: Hub) -> None:
    """The three sites with their dataset, and Ada."""
    for name in SITES:
        hub.members.add(name, key(name).public)
        hub.store.members.publish(name, DATASET)
    hub.members.add_user("Ada", key("Ada").public)


async def start_world(hub: Hub, contract: Contract | None = None) -> World:
    """Start `hub` with all sites connected and the contract signed by all."""
    contract = contract or make_contract(hub.consortium.fingerprint)
    link = MemoryLink(hub.handler_for)
    sites = {name: FakeSite(name, contract) for name in SITES}
    for name, site in sites.items():
        link.join(name, site)
    if not hub.store.members.members():
        enrol_everyone(hub)
    await hub.start(link, watch=False)
    if not hub.studies.store.studies():
        hub.propose(contract.sign(key("Ada")), hub.user(key("Ada").public))
        for name in SITES:
            hub.say(name, contract.sign(key(name)))
    return World(hub, link, contract, sites)


def store_url(folder: Path) -> str:
    """A database file."""
    return f"sqlite:///{folder / 'hub.db'}"
