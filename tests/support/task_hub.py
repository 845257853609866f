"""A hub with lenders and enclaves that are a few lines each: no TLS, no vault, real signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.support.fake_sites import NOW, SITES, World, key, make_hub, start_world

from cohortium.contract.code import packed
from cohortium.contract.model import Contract, Enclave, Environment, Researcher, RunRequest, Seat
from cohortium.contract.task import (
    Argument,
    Artefact,
    Code,
    InputSlot,
    Limits,
    OutputSlot,
    Task,
    code_digest,
)
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.exchange import Made, Offer, Release, TaskOutcome
from cohortium.errors import CohortiumError
from cohortium.hub.config import HubConfig
from cohortium.hub.runner import Runner
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import error_message
from cohortium.link.memory import MemoryUplink
from cohortium.vault.card import VaultCard
from cohortium.vault.keys import PrivateKey, PublicKey

ENCLAVES = ("Vault One", "Vault Two")
LENDERS = {"images": "Alpha", "labels": "Beta"}
FILES = {"task.yaml": b"command: [x]\noutputs: [model]\n", "main.py": b"print(1)\n"}
PROGRAM = code_digest(FILES)
VAULT = PrivateKey(b"v" * 32).public.to_text()
OUTPUTS = {"model": b"m" * 3000, "report": b"r" * 20, "log": b"l" * 10}


def digest_of(slot: str) -> str:
    """What the contract binds as an input."""
    return digest_bytes(f"the {slot}".encode())


def task(**changes: Any) -> Task:
    """Images of Alpha and labels of Beta give a model to Ada and a report to Beta and Gamma."""
    fields: dict[str, Any] = {
        "name": "train",
        "code": Code(name="trainer", content_digest=PROGRAM, owner="Ada"),
        "arguments": (Argument(name="epochs", required=False),),
        "inputs": tuple(
            InputSlot(
                name=slot,
                kind="dataset",
                owners=(owner,),
                artefact=Artefact(name=slot, content_digest=digest_of(slot), owners=(owner,)),
            )
            for slot, owner in LENDERS.items()
        ),
        "outputs": (
            OutputSlot(name="model", owners=("Alpha",), recipients=("Ada",)),
            OutputSlot(name="report", owners=("Beta",), recipients=("Beta", "Gamma")),
        ),
        "limits": Limits(disk_bytes=64 * 1024),
        "log_recipients": ("Ada",),
    }
    return Task(**(fields | changes))


def contract(fingerprint: str, **changes: Any) -> Contract:
    """A contract of tasks alone."""
    fields: dict[str, Any] = {
        "study": "eyes",
        "title": "Vessels",
        "purpose": "To find them.",
        "tasks": (task(),),
        "security_level": "L2",
        "environment": Environment(
            enclaves=tuple(Enclave(name=name, key=key(name).public) for name in ENCLAVES)
        ),
        "min_sites": 2,
        "expires_at": NOW + timedelta(days=365),
        "consortium": fingerprint,
        "participants": tuple(Seat(name=name, key=key(name).public) for name in SITES),
        "recipients": (Researcher(name="Ada", key=key("Ada").public),),
        "proposed_by": Researcher(name="Ada", key=key("Ada").public),
        "created_at": NOW,
    }
    return Contract(**(fields | changes))


def order(agreed: Contract, number: int = 1, **changes: Any) -> RunRequest:
    """Ada's order of the task."""
    fields: dict[str, Any] = {
        "run_id": f"{number:032x}",
        "study": agreed.study,
        "contract_digest": agreed.digest,
        "computation": "task.train",
        "params": {},
        "researcher": key("Ada").public,
        "issued_at": NOW,
        "valid_until": NOW + timedelta(hours=1),
    }
    return RunRequest(**(fields | changes))


def card(name: str) -> bytes:
    """A vault card."""
    return VaultCard(name=name, vault=VAULT, at=NOW).sign(key(name))


@dataclass
class Lender:
    """Signs releases for whatever offer it is shown, or does what `hook` says."""

    name: str
    hook: Callable[[Message], Awaitable[Message | None]] | None = None
    signer: SigningKey | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    async def answer(self, message: Message) -> Message | None:
        """See `FakeSite.hook`."""
        if self.hook is not None:
            answer = await self.hook(message)
            if answer is not None:
                return answer
        reply = Message()
        body = message.WhichOneof("body")
        if body == "task_channel":
            offer, _ = Offer.open(message.task_channel.data)
            release = self._release(offer, message.task_channel.data)
            reply.task_channel.data = b"sealed keys"
            reply.task_channel.release = release.sign(self.signer or key(self.name))
            reply.task_channel.offer = message.task_channel.data
            return reply
        if body == "task_fetch":
            reply.task_piece.data = f"the {message.task_fetch.slot}".encode()
            reply.task_piece.size = len(reply.task_piece.data)
            return reply
        return None

    def _release(self, offer: Offer, envelope: bytes) -> Release:
        fields: dict[str, Any] = {
            "run_id": offer.run_id,
            "request_digest": offer.request_digest,
            "contract_digest": offer.contract_digest,
            "task": offer.task,
            "site": self.name,
            "artefacts": {s: digest_of(s) for s, owner in LENDERS.items() if owner == self.name},
            "enclave": offer.enclave,
            "recipient": f"sha256:{PublicKey.from_text(offer.recipient).key_id.hex()}",
            "offer": digest_bytes(envelope),
            "at": NOW,
        }
        return Release(**(fields | self.changes))


Step = Callable[["FakeEnclave", RunRequest], Awaitable[None]]


@dataclass
class FakeEnclave:
    """Runs tasks: asks all lenders for keys, fetches, sends outputs and an outcome.

    Attributes:
        prepare: Sees each TaskPrepare before it is taken up; what it returns is the answer.
        before: Awaited at a step: ``keys``, ``inputs``, ``running``, ``outputs``, ``outcome``.
        outputs: What it sends by slot, and signs.
        signs: What it signs as an output's content, where that is another.
        also: More that it signs, and has not sent.
        changes: Of its outcome.
    """

    name: str
    uplink: MemoryUplink | None = None
    prepare: Callable[[Message], Message | None] = lambda _message: None
    before: dict[str, Step] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=lambda: dict(OUTPUTS))
    signs: dict[str, bytes] = field(default_factory=dict)
    also: dict[str, bytes] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    signer: SigningKey | None = None
    seen: list[str] = field(default_factory=list)
    prepared: list[Message] = field(default_factory=list)
    error: CohortiumError | None = None
    runs: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def handle(self, message: Message) -> Message:
        """The hub's requests."""
        body = str(message.WhichOneof("body"))
        self.seen.append(body)
        reply = Message()
        reply.ack.SetInParent()
        if body == "task_prepare":
            self.prepared.append(message)
            answer = self.prepare(message)
            if answer is not None:
                return answer
            request, _ = RunRequest.open(message.task_prepare.request_envelope)
            if request.run_id not in self.runs:
                self.runs[request.run_id] = asyncio.create_task(self._run(request))
        elif body == "task_stop":
            self.seen[-1] += f": {message.task_stop.reason}"
            running = self.runs.get(message.task_stop.run_id)
            if running is not None:
                running.cancel()
        return reply

    async def is_told(self, what: str) -> str:
        """Wait until the hub's last message is of a kind."""
        async with asyncio.timeout(10):
            while not self.seen[-1].startswith(what):
                await asyncio.sleep(0.01)
        return self.seen[-1]

    async def ask(self, **body: Any) -> Message:
        """Ask the hub; its error is raised."""
        assert self.uplink is not None
        return await self.uplink.request(Message(**body), 10.0)

    async def _run(self, request: RunRequest) -> None:
        try:
            await self._work(request)
        except CohortiumError as error:
            self.error = error

    async def _step(self, name: str, request: RunRequest) -> None:
        if name in self.before:
            await self.before[name](self, request)

    async def _work(self, request: RunRequest) -> None:
        releases = {}
        await self._step("keys", request)
        for site in LENDERS.values():
            releases[site] = digest_bytes((await self.channel(request, site)).release)
        await self._step("inputs", request)
        for slot, site in LENDERS.items():
            asked = {"run_id": request.run_id, "site": site, "slot": slot}
            piece = (await self.ask(task_fetch=asked)).task_piece
            assert digest_bytes(piece.data) == digest_of(slot)
        await self._step("running", request)
        await self.report(request, "running", 1, 4)
        await self._step("outputs", request)
        for slot, data in self.outputs.items():
            for start in range(0, len(data), 1024):
                await self.send(request, slot, start, data[start : start + 1024])
        await self._step("outcome", request)
        await self.tell(request, self.outcome(request, releases))

    async def channel(self, request: RunRequest, site: str) -> Any:
        """Ask a lender for its keys."""
        asked = {
            "run_id": request.run_id,
            "site": site,
            "session": "0" * 32,
            "data": self.offer(request).sign(key(self.name)),
            "request_envelope": b"not looked at",
        }
        return (await self.ask(task_channel=asked)).task_channel

    def offer(self, request: RunRequest, **changes: Any) -> Offer:
        """What it shows lenders."""
        fields: dict[str, Any] = {
            "run_id": request.run_id,
            "request_digest": request.digest,
            "contract_digest": request.contract_digest,
            "task": "train",
            "code": PROGRAM,
            "enclave": self.name,
            "executor": "bubblewrap",
            "level": "L2",
            "recipient": VAULT,
            "session": "0" * 128,
            "at": NOW,
        }
        return Offer(**(fields | changes))

    async def report(self, request: RunRequest, stage: str, done: int = 0, of: int = 0) -> None:
        """Where it is."""
        report = {
            "run_id": request.run_id,
            "stage": stage,
            "done_bytes": done * 1_000_000,
            "total_bytes": of * 1_000_000,
        }
        await self.ask(task_report=report)

    async def send(self, request: RunRequest, slot: str, offset: int, data: bytes) -> None:
        """A piece of an output."""
        piece = {"run_id": request.run_id, "slot": slot, "offset": offset, "data": data}
        await self.ask(task_output=piece)

    def outcome(self, request: RunRequest, releases: dict[str, str]) -> bytes:
        """Its signed word."""
        made = []
        for slot, sent in (self.outputs | self.also).items():
            data = self.signs.get(slot, sent)
            made.append(Made(slot=slot, size_bytes=len(data), content_digest=digest_bytes(data)))
        fields: dict[str, Any] = {
            "run_id": request.run_id,
            "study": request.study,
            "request_digest": request.digest,
            "contract_digest": request.contract_digest,
            "task": "train",
            "enclave": self.name,
            "enclave_key": key(self.name).public,
            "executor": "bubblewrap",
            "level": "L2",
            "end": "succeeded",
            "seconds": 1.5,
            "outputs": tuple(made),
            "releases": releases,
            "at": NOW,
        }
        return TaskOutcome(**(fields | self.changes)).sign(self.signer or key(self.name))

    async def tell(self, request: RunRequest, outcome: bytes) -> None:
        """Its last report."""
        report = {"run_id": request.run_id, "stage": "ended", "outcome": outcome}
        await self.ask(task_report=report)


@dataclass
class TaskWorld(World):
    """A hub, its sites, and enclaves by name; `lenders` answer for the sites."""

    lenders: dict[str, Lender] = field(default_factory=dict)
    enclaves: dict[str, FakeEnclave] = field(default_factory=dict)

    def connect(self, name: str) -> FakeEnclave:
        """An enclave's link is up."""
        enclave = self.enclaves[name]
        enclave.uplink = self.link.join(name, enclave)
        self.hub.on_connect(name)
        return enclave

    def submit(self, number: int = 1, **changes: Any) -> str:
        """Order the task as Ada."""
        envelope = order(self.contract, number, **changes).sign(key("Ada"))
        return self.hub.submit(envelope, self.hub.user(key("Ada").public)).id


async def task_world(
    store: HubStore,
    runner: Runner | None = None,
    *,
    connect: tuple[str, ...] = ENCLAVES[:1],
    **changes: Any,
) -> TaskWorld:
    """A started hub whose contract with a task is in force; Alpha and Beta lend to it."""
    config = HubConfig(gather_timeout_s=0.5, round_timeout_s=0.5)
    hub = make_hub(store, runner, config=config)
    hub.tasks.programs.put(PROGRAM, packed(FILES))
    known = {one.name for one in store.members.enclaves()}
    for name in ENCLAVES:
        if name not in known:
            hub.members.add(name, key(name).public, "enclave")
    agreed = contract(hub.consortium.fingerprint, **changes)
    started = await start_world(hub, agreed)
    world = TaskWorld(started.hub, started.link, started.contract, started.sites)
    for name in SITES:
        world.lenders[name] = Lender(name)
        world.sites[name].hook = world.lenders[name].answer
    for name in ENCLAVES:
        world.enclaves[name] = FakeEnclave(name)
    for name in ("Ada", "Beta", "Gamma"):
        store.tasks.put_card(key(name).public, name, NOW, card(name))
    for name in connect:
        world.connect(name)
    return world


def refusal(error: CohortiumError) -> Message:
    """An error as a reply."""
    return error_message(error)


async def closed(world: TaskWorld, runner: ThreadRunner) -> None:
    """End all: no thread of a run that still waits outlives its store."""
    for run in world.hub.store.runs.open():
        world.hub.cancel(run.info.id, world.hub.user(run.info.researcher))
    await world.hub.stop()
    await asyncio.to_thread(runner.close)
    world.hub.store.close()
