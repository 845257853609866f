"""A contract that all nodes signed, and the valid messages of a run that tests then spoil."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from tests.support.secagg import aggregate
from tests.support.versions import versioned

from cohortium.analysis.interface import AnyAnalysis, Continue, Done, DropOuts, Params, Scope
from cohortium.contract.model import Computation, Contract, Participant, Researcher, RunRequest
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.signed import Envelope, pae
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import put_state, raise_if_error
from cohortium.node import consent, journal
from cohortium.node.datasets import MemoryDatasets
from cohortium.node.guard import Find
from cohortium.node.identity import Identity
from cohortium.node.policy import Policy
from cohortium.node.service import NodeService
from cohortium.node.store import NodeStore
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.roster import Roster

CONSORTIUM = "sha256:" + "c" * 64
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SITES = ("Alpha", "Beta", "Gamma")
FIVE = (*SITES, "Kappa", "Sigma")
"""In the order of a roster; with `min_sites` 3 or 4, one of five may be missing."""
SEVEN = (*FIVE, "Tau", "Theta")
RUN_ID = "0123456789abcdef" * 2


class SumParams(Params):
    """Which variable, and in how many rounds."""

    variable: str
    rounds: int = 3


class RoundSums:
    """Sums of one variable, as many rounds as asked, each with the number of the round added."""

    name: ClassVar[str] = "test.sum"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 3
    params_type: type[SumParams] = SumParams

    def variables(self, params: SumParams) -> frozenset[str]:
        return frozenset({params.variable})

    def start(self, params: SumParams, scope: Scope) -> State:
        return State({"round": 1})

    def layout(self, state: State, params: SumParams, scope: Scope) -> Layout:
        return {"n": FieldSpec((), "count"), "sum": FieldSpec((2,), "real")}

    def local(self, table: Table, state: State, params: SumParams, scope: Scope) -> Contribution:
        column = table.columns[params.variable]
        enough = len(column) >= scope.disclosure.min_cell
        total = float(np.nansum(column)) if enough else 0.0
        return {
            "n": np.array(len(column) if enough else 0),
            "sum": np.array([total, total + float(state.values["round"])]),
        }

    def finish(
        self, total: Total, state: State, params: SumParams, scope: Scope
    ) -> Continue | Done:
        raise NotImplementedError


class SeparateSums(RoundSums):
    """The same, but each round is summed over those who are there."""

    name: ClassVar[str] = "test.separate"
    drop_outs: ClassVar[DropOuts] = "continue"


def expected(
    among: Collection[str], number: int = 1, sites: tuple[str, ...] = FIVE
) -> dict[str, Any]:
    """The sum of round `number` over those among `sites`, as a result has it."""
    total = float(sum(sum(range(12)) + 120 * (sites.index(site) + 1) for site in among))
    return {"n": 12 * len(among), "sum": [total, total + number * len(among)]}


def find(name: str) -> AnyAnalysis:
    for analysis in (RoundSums, SeparateSums):
        if name == analysis.name:
            return analysis()
    raise InputError("not-found", f"There is no analysis {name!r} here.")


@dataclass
class Node:
    """One institution's node and what its steward and clock say; `drawn` are its runs' secrets."""

    service: NodeService
    policy: list[Policy]
    drawn: list[bytes] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return self.service.identity.name

    @property
    def store(self) -> NodeStore:
        return self.service.store

    def ask(self, message: pb.Message) -> pb.Message:
        """The reply, or the node's error raised."""
        reply = self.service.answer(message)
        raise_if_error(reply)
        return reply

    def decisions(self, **match: object) -> list[dict[str, Any]]:
        """Journal entries with these values."""
        found = [entry.body for entry in journal.entries(self.store)]
        return [body for body in found if match.items() <= body.items()]


@dataclass
class World:
    """Some sites, one researcher, one contract; `now` moves as a test says."""

    now: datetime = NOW
    sites: tuple[str, ...] = SITES
    min_sites: int = 2
    keys: dict[str, SigningKey] = field(default_factory=dict)
    researcher: SigningKey = field(default_factory=lambda: _key(251))
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys |= {name: _key(number) for number, name in enumerate(self.sites, 1)}

    def clock(self) -> datetime:
        return self.now

    def node(
        self,
        name: str,
        *,
        store: NodeStore | None = None,
        policy: Policy | None = None,
        find_analysis: Find = find,
    ) -> Node:
        """A node with twelve persons, on its own store."""
        policies = [policy or Policy()]
        seed = self.sites.index(name) + 1
        drawn: list[bytes] = []

        def random(size: int) -> bytes:
            drawn.append(bytes([seed, len(drawn) + 1]) * (size // 2))
            return drawn[-1]

        service = NodeService(
            identity=Identity(name, CONSORTIUM, self.keys[name]),
            store=store or NodeStore(":memory:", clock=self.clock),
            datasets=datasets(seed),
            policy=lambda: policies[0],
            clock=self.clock,
            random=random,
            find=find_analysis,
        )
        self.nodes[name] = Node(service, policies, drawn)
        return self.nodes[name]

    def contract(self, **changes: Any) -> Contract:
        """The contract, with fields changed."""
        values: dict[str, Any] = {
            "study": "lung",
            "title": "Lung cancer",
            "purpose": "To test.",
            "variables": (
                Variable(name="age", type=VariableType.INTEGER),
                Variable(name="weight", type=VariableType.REAL),
            ),
            "computations": (Computation(name="test.*", variables=("age",), max_runs=3),),
            "min_sites": self.min_sites,
            "disclosure": Disclosure(min_cell=5),
            "expires_at": NOW + timedelta(days=100),
            "consortium": CONSORTIUM,
            "participants": tuple(
                Participant(
                    name=name,
                    key=self.keys[name].public,
                    dataset="patients",
                    dataset_digest=datasets(number).published()[0].content_digest,
                    dictionary_digest=datasets(number).published()[0].dictionary.digest,
                    variables=("age", "weight"),
                )
                for number, name in enumerate(self.sites, 1)
            ),
            "recipients": (Researcher(name="Dr. Li", key=self.researcher.public),),
            "proposed_by": Researcher(name="Dr. Li", key=self.researcher.public),
            "created_at": NOW - timedelta(days=1),
        }
        values |= changes
        return Contract(**{**values, "computations": versioned(values["computations"])})

    def signed(self, contract: Contract) -> list[bytes]:
        """Every participant's envelope."""
        return [contract.sign(self.keys[p.name]) for p in contract.participants]

    def propose(self, node: Node, contract: Contract) -> None:
        node.ask(self.proposal(contract))

    def proposal(self, contract: Contract) -> pb.Message:
        """What the hub sends of a contract that the researcher proposed."""
        envelope = contract.sign(self.researcher)
        return pb.Message(contract_proposal=pb.ContractProposal(envelope=envelope))

    def agree(self, node: Node, contract: Contract) -> None:
        """The node receives the contract, signs it and sees all signatures."""
        self.propose(node, contract)
        stored = consent.find_contract(node.store, contract.digest)
        consent.sign(node.service, consent.review(node.service, stored))
        node.ask(active(contract.digest, self.signed(contract)))

    def ready(self, contract: Contract | None = None, **policies: Policy) -> Contract:
        """All nodes, with the contract active at each."""
        agreed = contract or self.contract()
        for participant in agreed.participants:
            node = self.node(participant.name, policy=policies.get(participant.name))
            self.agree(node, agreed)
        return agreed

    def request(self, contract: Contract, **changes: Any) -> RunRequest:
        """A valid run request, with fields changed."""
        values: dict[str, Any] = {
            "run_id": RUN_ID,
            "study": contract.study,
            "contract_digest": contract.digest,
            "computation": "test.sum",
            "params": {"variable": "age"},
            "researcher": self.researcher.public,
            "issued_at": self.now,
            "valid_until": self.now + timedelta(hours=1),
        }
        return RunRequest(**{**values, **changes})

    def prepare(self, request: RunRequest, key: SigningKey | None = None) -> pb.Message:
        envelope = request.sign(key or self.researcher)
        return pb.Message(run_prepare=pb.RunPrepare(request_envelope=envelope))

    def adverts(self, request: RunRequest, sites: tuple[str, ...] = ()) -> list[bytes]:
        """Round 0 at these sites, or at all."""
        message = self.prepare(request)
        asked = sites or self.sites
        return [self.nodes[site].ask(message).run_advert.envelope for site in asked]

    def total(
        self, request: RunRequest, contract: Contract, roster: list[bytes], number: int = 1
    ) -> Total:
        """One whole round over the sites of the roster."""
        state = State({"round": number})
        parties = Roster.verify(
            roster,
            contract_keys={p.name: p.key for p in contract.participants},
            run_id=request.run_id,
            contract_digest=contract.digest,
            request_digest=request.digest,
            min_sites=2,
        )
        masked = {
            site: self.nodes[site].ask(round_request(request, roster, number)).round_reply.masked
            for site in parties.sites
        }
        binding = RoundBinding(
            request.run_id, number, contract.digest, request.digest, state.digest
        )
        layout = RoundSums().layout(state, SumParams(variable="age"), no_scope())
        return aggregate(masked, parties, binding, layout)


def _key(number: int) -> SigningKey:
    return SigningKey.from_seed(bytes([number]) * 32)


def no_scope() -> Scope:
    return Scope({}, Disclosure(), 2)


@cache
def datasets(seed: int) -> MemoryDatasets:
    """Twelve persons; the ages of site `seed` are seed * 10 + 0..11."""
    frame = pd.DataFrame(
        {
            "age": np.arange(12) + 10 * seed,
            "weight": np.arange(12) * 1.5 + seed,
        }
    )
    return MemoryDatasets.from_frame("patients", frame)


def enveloped(payload: bytes, key: SigningKey) -> bytes:
    """Any bytes, signed as if they were a contract."""
    kind = Contract.payload_type
    signature = key.sign(pae(kind, payload))
    return Envelope.from_json(
        {
            "payload": b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [{"keyid": key.public, "sig": b64encode(signature).decode()}],
        }
    ).to_bytes()


def active(digest: str, envelopes: list[bytes]) -> pb.Message:
    return pb.Message(
        contract_active=pb.ContractActive(contract_digest=digest, envelopes=envelopes)
    )


def round_request(
    request: RunRequest,
    roster: list[bytes],
    number: int = 1,
    values: Mapping[str, Any] | None = None,
) -> pb.Message:
    """A round's request; by default with the state of `RoundSums`."""
    message = pb.RoundRequest(run_id=request.run_id, round=number, roster=roster)
    put_state(State({"round": number} if values is None else values), message)
    return pb.Message(round_request=message)


def a_vote() -> bytes:
    """Alpha's signature on a contract."""
    world = World()
    return world.contract().sign(world.keys["Alpha"])


def run_end(request: RunRequest, outcome: str) -> pb.Message:
    return pb.Message(run_end=pb.RunEnd(run_id=request.run_id, outcome=outcome))
