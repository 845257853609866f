"""A node that witnesses a hub's ledger, and what it says to updates."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.builders import RUN_ID, Node, World, round_request
from tests.support.ledger_hub import HubLog, as_message

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.signed import Envelope
from cohortium.errors import CohortiumError
from cohortium.ledger.checkpoint import cosigners, open_checkpoint
from cohortium.ledger.entry import RunDecided, RunEnded, RunSubmitted, SiteDecision
from cohortium.ledger.note import Note
from cohortium.ledger.witness import Update
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import alarms
from cohortium.node.alarms import Alarm


def welcome(hub: HubLog) -> pb.Message:
    return pb.Message(
        welcome=pb.Welcome(
            consortium=hub.consortium,
            ledger_key=hub.key.text,
            ledger_checkpoint=hub.checkpoint(),
        )
    )


@dataclass
class Witnessing:
    """Alpha's node, two others of a world, and a ledger on which all three are members."""

    world: World = field(default_factory=World)
    hub: HubLog = field(default_factory=HubLog)
    contract: Contract = field(init=False)

    def __post_init__(self) -> None:
        self.contract = self.world.ready()
        if self.hub.size == 1:
            self.hub.approve(**self.world.keys)
        self.node.service.welcome(welcome(self.hub))

    @property
    def node(self) -> Node:
        return self.world.nodes["Alpha"]

    @property
    def size(self) -> int:
        return self.node.service.witness.replica.size

    def pass_time(self, **span: float) -> None:
        self.hub.pass_time(**span)
        self.world.now = self.hub.now

    def tell(self, update: Update | None = None) -> pb.Cosignature:
        """The node's answer to an update; by default to all that it has not."""
        shown = self.hub.update(self.size) if update is None else update
        reply = self.node.ask(as_message(shown))
        assert reply.WhichOneof("body") == "cosignature"
        return reply.cosignature

    def cosigned(self, update: Update | None = None) -> int:
        """The node's answer, whose cosignature verifies: its time."""
        shown = self.hub.update(self.size) if update is None else update
        reply = self.tell(shown)
        note = Note.parse(shown.checkpoint + reply.line)
        keys = {"Alpha": self.world.keys["Alpha"].public}
        assert reply.size == open_checkpoint(shown.checkpoint, self.hub.key)[0].size
        return cosigners(note, self.hub.origin, keys)["Alpha"]

    def alarm(self, update: Update | None = None) -> Alarm:
        """The alarm that an update raises: kept with both checkpoints, nothing taken in."""
        shown = self.hub.update(self.size) if update is None else update
        before, size = alarms.alarms(self.node.store), self.size
        replica = self.node.service.witness.replica
        seen = replica.checkpoint("seen")
        for _ in range(2):  # and again
            try:
                reply = self.node.ask(as_message(shown))
            except CohortiumError as error:
                code = error.code
            else:
                raise AssertionError(f"it answered {reply}")
        raised = alarms.alarms(self.node.store)[len(before) :]
        assert [alarm.code for alarm in raised] == [code]
        assert raised[0].seen == (seen.note if seen else b"")
        assert raised[0].received in {shown.checkpoint, shown.final}
        assert self.size == size
        assert replica.checkpoint("seen") == seen
        return raised[0]

    # A run

    def request(self) -> RunRequest:
        return self.world.request(self.contract)

    def submitted(self, request: RunRequest) -> RunSubmitted:
        envelope = request.sign(self.world.researcher)
        return RunSubmitted(
            run_id=request.run_id,
            study=request.study,
            contract=request.contract_digest,
            computation=request.computation,
            researcher=request.researcher,
            request=digest_bytes(envelope),
        )

    def decided(self, adverts: dict[str, bytes], **others: SiteDecision) -> RunDecided:
        sites = {
            site: SiteDecision(decision="accepted", statement=digest_bytes(advert))
            for site, advert in adverts.items()
        }
        return RunDecided(run_id=RUN_ID, sites={**sites, **others})

    def run(self, rounds: int = 2) -> tuple[RunRequest, dict[str, bytes]]:
        """All sites take part in a run, and answer its first rounds; signed round keys by site."""
        request = self.request()
        adverts = self.world.adverts(request)
        for number in range(1, rounds + 1):
            for site in self.world.sites:
                self.world.nodes[site].ask(round_request(request, adverts, number))
        return request, dict(zip(self.world.sites, adverts, strict=True))

    def ended(self, **changes: object) -> RunEnded:
        fact = RunEnded(run_id=RUN_ID, status="succeeded", result="sha256:" + "0" * 64)
        return RunEnded.model_validate({**fact.model_dump(), **changes})


def signer_of(envelope: bytes) -> str:
    return Envelope.from_bytes(envelope).signer
