"""Two institutions that lend to a task, and an enclave that asks them for keys."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.builders import CONSORTIUM, NOW, Node, World

from cohortium.contract.model import Contract, Enclave, Environment, RunRequest, Seat
from cohortium.contract.task import (
    Artefact,
    Code,
    InputSlot,
    OutputSlot,
    SlotKind,
    Task,
    code_digest,
)
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.simulated import SimulatedEvidence
from cohortium.enclave.exchange import Keys, Offer
from cohortium.enclave.key_release import Asking
from cohortium.ledger.entry import Entry, Fact
from cohortium.link._generated import link_pb2 as pb
from cohortium.node.config import NodeDir
from cohortium.node.identity import Identity
from cohortium.node.lending import Lending
from cohortium.node.policy import Policy
from cohortium.node.replica import subject_of
from cohortium.node.service import NodeService
from cohortium.node.store import NodeStore
from cohortium.vault.keys import PrivateKey

ENCLAVE = "Enclave One"
TASK = "train"
MEASURED = "5" * 64
PROGRAM = {"main.py": b"print('trains')", "task.yaml": b"command: [x]\n"}
SESSION = "a" * 32
LENT: tuple[tuple[str, str, SlotKind], ...] = (
    ("Alpha", "pictures", "dataset"),
    ("Beta", "weights", "model"),
)


@cache
def run_key(number: int = 1) -> PrivateKey:
    """The vault key of one run of an enclave."""
    return PrivateKey(bytes([number]) * 32)


@cache
def _lent_once() -> Path:
    """The institutions' folders with what they lend: encrypted once, copied for each test."""
    root = Path(tempfile.mkdtemp(prefix="cohortium-lent-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / "pictures" / "deep").mkdir(parents=True)
    (root / "pictures" / "one.png").write_bytes(b"one" * 1000)
    (root / "pictures" / "deep" / "two.png").write_bytes(b"two" * 1000)
    (root / "weights").write_bytes(b"weights" * 1000)
    for name, what, kind in LENT:
        folder = NodeDir(root / name)
        folder.path.mkdir()
        Lending.of(folder, lambda: NOW).lent.add(what, kind, root / what)
    return root


@dataclass
class LendingWorld(World):
    """Alpha lends pictures, Beta a model; Gamma is there and lends nothing."""

    root: Path = Path()
    enclave: SigningKey = field(default_factory=lambda: SigningKey.from_seed(b"\xee" * 32))
    lending: dict[str, Lending] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.root / "Alpha").exists():
            shutil.copytree(_lent_once(), self.root, dirs_exist_ok=True)
        for name in self.sites:
            folder = NodeDir(self.root / name)
            folder.path.mkdir(exist_ok=True)
            self.lending[name] = Lending.of(folder, self.clock)

    def lender(
        self, name: str, *, store: NodeStore | None = None, policy: Policy | None = None
    ) -> Node:
        """A node that lends."""
        policies = [policy or Policy()]
        service = NodeService(
            identity=Identity(name, CONSORTIUM, self.keys[name]),
            store=store or NodeStore(":memory:", clock=self.clock),
            datasets=_no_datasets(),
            policy=lambda: policies[0],
            clock=self.clock,
            lending=self.lending[name],
        )
        self.nodes[name] = Node(service, policies)
        return self.nodes[name]

    def artefact(self, name: str, what: str, *owners: str) -> Artefact:
        digest = self.lending[name].lent.get(what).artefact
        return Artefact(name=what, content_digest=digest, owners=owners or (name,))

    def task(self, **changes: Any) -> Task:
        """Training on Alpha's pictures from Beta's weights; Gamma reads the model."""
        values: dict[str, Any] = {
            "name": TASK,
            "code": Code(
                name="trainer", content_digest=code_digest(PROGRAM), owner="Beta", public=True
            ),
            "arguments": ({"name": "epochs", "value": 3}, {"name": "rate"}),
            "inputs": (
                InputSlot(
                    name="images",
                    kind="dataset",
                    owners=("Alpha",),
                    artefact=self.artefact("Alpha", "pictures"),
                ),
                InputSlot(
                    name="start",
                    kind="model",
                    owners=("Beta",),
                    artefact=self.artefact("Beta", "weights"),
                ),
            ),
            "outputs": (
                OutputSlot(name="model", owners=("Alpha",), recipients=("Gamma", "Alpha")),
            ),
            "max_runs": 2,
            "security_level": "L2",
        }
        return Task.model_validate(values | changes)

    def task_contract(self, *tasks: Task, **changes: Any) -> Contract:
        """A contract with tasks alone, in which the enclave is named."""
        named = Enclave(name=ENCLAVE, key=self.enclave.public)
        values: dict[str, Any] = {
            "study": "vessels",
            "variables": (),
            "computations": (),
            "tasks": tasks or (self.task(),),
            "participants": tuple(Seat(name=n, key=self.keys[n].public) for n in self.sites),
            "environment": Environment(enclaves=(named,)),
        }
        return self.contract(**(values | changes))

    def agreed(self, contract: Contract | None = None, *names: str, **policies: Policy) -> Contract:
        """These nodes, or Alpha, with the contract active."""
        made = contract or self.task_contract()
        for name in names or ("Alpha",):
            node = self.nodes.get(name) or self.lender(name, policy=policies.get(name))
            self.agree(node, made)
        return made

    def signed(self, contract: Contract) -> list[bytes]:
        """Every signatory's envelope: who proposes a task approves it."""
        people = {**self.keys, "Dr. Li": self.researcher}
        return [contract.sign(people[name]) for name in contract.signatories]

    def order(self, contract: Contract, **changes: Any) -> RunRequest:
        """A researcher's request of the task."""
        values: dict[str, Any] = {"computation": f"task.{TASK}", "params": {"rate": 0.1}}
        return self.request(contract, **(values | changes))


@cache
def _no_datasets() -> Any:
    from cohortium.node.datasets import MemoryDatasets

    return MemoryDatasets()


@dataclass
class Asked:
    """What came of a session."""

    keys: Keys
    last: pb.TaskChannel


@dataclass
class AskingEnclave:
    """An enclave that asks a node for keys; a test spoils what it says."""

    world: LendingWorld
    contract: Contract
    request: RunRequest
    recipient: PrivateKey = field(default_factory=run_key)
    signer: SigningKey | None = None
    evidence: Callable[[bytes], Record | None] = lambda _data: None
    offers: dict[str, Any] = field(default_factory=dict)
    session: str = SESSION
    forget_order: bool = False
    last: tuple[Node, pb.TaskChannel] | None = None

    def offer(self, session: str) -> Offer:
        task = self.contract.tasks[0]
        values: dict[str, Any] = {
            "run_id": self.request.run_id,
            "request_digest": self.request.digest,
            "contract_digest": self.contract.digest,
            "task": task.name,
            "code": task.code.content_digest,
            "enclave": ENCLAVE,
            "executor": "landlock",
            "level": "L2",
            "recipient": self.recipient.public.to_text(),
            "session": session,
            "at": self.world.now,
        }
        return Offer.model_validate(values | self.offers)

    def asking(self) -> Asking:
        return Asking(
            name=ENCLAVE,
            now=self.world.now,
            contract=self.contract.digest,
            recipient=self.recipient.public,
            key=self.signer or self.world.enclave,
            offer=self.offer,
            attest=self.evidence,
        )

    def ask(self, node: Node) -> Asked:
        """A whole session; the node's refusal is raised."""
        asking = self.asking()
        data, first = asking.begin(), not self.forget_order
        while True:
            message = pb.TaskChannel(
                run_id=self.request.run_id, site=node.name, session=self.session, data=data
            )
            if first:
                message.request_envelope = self.request.sign(self.world.researcher)
                first = False
            self.last = node, message
            reply = node.ask(pb.Message(task_channel=message)).task_channel
            data = asking.answer(reply.data)
            if asking.keys is not None:
                return Asked(asking.keys, reply)


def simulated(measured: str = MEASURED) -> Callable[[bytes], Record]:
    """Evidence of no hardware."""

    def attest(report_data: bytes) -> Record:
        made = SimulatedEvidence(measurement=measured, report_data=report_data.hex())
        return Record.evidence("simulated", made.to_bytes())

    return attest


def fetch(node: Node, run_id: str, slot: str, path: str, offset: int = 0) -> pb.TaskPiece:
    """A piece of ciphertext, or the node's refusal; a path that is lent stands for its digest."""
    lending = node.service.lending
    lent = [] if lending is None else [lending.lent.get(name) for name in lending.lent.names()]
    digests = {one.path: one.content_digest for held in lent for one in held.files.files}
    asked = pb.TaskFetch(
        run_id=run_id, site=node.name, slot=slot, path=digests.get(path, path), offset=offset
    )
    return node.ask(pb.Message(task_fetch=asked)).task_piece


def whole(node: Node, run_id: str, slot: str, path: str) -> bytes:
    """A whole file, piece by piece."""
    out = b""
    while True:
        piece = fetch(node, run_id, slot, path, len(out))
        out += piece.data
        if len(out) == piece.size:
            return out


def on_ledger(node: Node, *facts: Fact) -> None:
    """Put facts into a node's copy of the ledger, as if it had followed it."""
    replica = node.service.witness.replica
    with node.store.transaction():
        for fact in facts:
            entry = Entry(at=NOW, fact=fact)
            node.store.execute(
                "INSERT INTO ledger_entries VALUES (?, ?, ?, ?)",
                replica.size,
                fact.kind,
                subject_of(fact),
                entry.to_bytes(),
            )
