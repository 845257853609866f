"""A hub and two lenders, played by the test, around a real enclave worker."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import textwrap
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.support.vault import vault_file

from cohortium.contract.code import files_below, pack
from cohortium.contract.model import Contract, Enclave, Environment, Researcher, RunRequest, Seat
from cohortium.contract.task import (
    MIB,
    Argument,
    Artefact,
    Code,
    InputSlot,
    Limits,
    OutputSlot,
    Task,
    code_digest,
)
from cohortium.core.canonical import digest_bytes, parse_json
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.attestation.appraise import Endorsements, appraise
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.exchange import Handed, Keys, LentFile, LentFiles, Release, TaskOutcome
from cohortium.enclave.key_release import Releasing, Shown
from cohortium.enclave.output_archive import members
from cohortium.errors import CohortiumError, PolicyRefusal, ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.memory import MemoryUplink
from cohortium.vault.card import VaultCard
from cohortium.vault.grants import Grants
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.vault.reader import Expected, VaultReader
from cohortium.vault.storage import StreamSource
from cohortium.worker.folder import EnclaveConfig, EnclaveDir, Identity
from cohortium.worker.service import WorkerService
from cohortium.worker.store import RunStore

CONSORTIUM = "sha256:" + "c" * 64
MARKER = b"PLAINTEXT-MARKER-7f3a"
PROGRAM = """
    import pathlib, sys
    left, right, out, word = sys.argv[1:]
    both = b"".join(
        file.read_bytes()
        for top in (pathlib.Path(left), pathlib.Path(right))
        for file in (sorted(top.rglob("*")) if top.is_dir() else [top])
        if file.is_file()
    )
    print("read", len(both), word)
    (pathlib.Path(out) / "joined.bin").write_bytes(both)
    (pathlib.Path(out).parent / "unasked" / "more.bin").write_bytes(both)
"""
MANIFEST = """
    command: ["{python}", "{code}/main.py", "{inputs.left}", "{inputs.right}", "{outputs.result}",
              "{arguments.word}"]
    inputs: {left: dataset, right: model}
    outputs: [result, unasked]
    arguments: {word: null}
    limits: {memory_bytes: 268435456, cpu_s: 20, time_s: 20, disk_bytes: 8388608, processes: 16}
"""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Lender:
    """An institution's node, as far as it hands out keys and ciphertext.

    Attributes:
        signs_with: Its key in releases; another one in a test that lies.
        names: What its release says that it is about, where it lies.
        handed: Changes what it hands out.
        fetched: How often it was asked for ciphertext.
    """

    name: str
    slot: str
    files: dict[str, bytes]
    key: SigningKey = field(default_factory=SigningKey.generate)
    vault: PrivateKey = field(default_factory=PrivateKey.generate)
    signs_with: SigningKey | None = None
    names: dict[str, str] | None = None
    handed: Callable[[Keys], Keys] = lambda keys: keys
    shown: list[Shown] = field(default_factory=list)
    fetched: list[tuple[str, int]] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, Releasing] = field(default_factory=dict)
    evidence: Callable[[Shown], None] = lambda _shown: None

    def __post_init__(self) -> None:
        self.ciphertext = {
            path: vault_file(plain, to=(self.vault,), by=self.vault)
            for path, plain in sorted(self.files.items())
        }

    @property
    def lent(self) -> LentFiles:
        return LentFiles(
            files=tuple(
                LentFile(path=path, size_bytes=len(data), content_digest=digest_bytes(data))
                for path, data in self.ciphertext.items()
            )
        )

    def channel(self, message: pb.TaskChannel, contract: Contract) -> pb.TaskChannel:
        if message.session not in self.sessions:
            request, _ = RunRequest.open(message.request_envelope)
            self.sessions[message.session] = Releasing(
                name=self.name,
                clock=_now,
                contract=contract.digest,
                random=secrets.token_bytes,
                release=lambda shown: self._release(shown, request, contract),
            )
        return pb.TaskChannel(data=self.sessions[message.session].answer(message.data))

    def _release(self, shown: Shown, request: RunRequest, contract: Contract) -> Keys:
        self.evidence(shown)
        self.shown.append(shown)
        release = Release(
            run_id=request.run_id,
            request_digest=request.digest,
            contract_digest=contract.digest,
            task=shown.offer.task,
            site=self.name,
            artefacts=self.names or {self.slot: self.lent.digest},
            enclave=shown.offer.enclave,
            recipient=f"sha256:{shown.recipient.key_id.hex()}",
            offer=digest_bytes(shown.offer_envelope),
            evidence=None if shown.evidence is None else digest_bytes(shown.evidence),
            at=_now(),
        ).sign(self.signs_with or self.key)
        grants = {}
        for path, data in self.ciphertext.items():
            with VaultReader(StreamSource(BytesIO(data)), Keyring([self.vault])) as reader:
                data_key = self.vault.open(
                    reader.header.recipients[0].sealed, reader.header.fixed()
                )
                made = Grants(reader.header.digest).add(data_key, [shown.recipient])
            grants[path] = b64encode(made.to_bytes()).decode()
        handed = Handed(files=self.lent, grants=grants, writer=self.vault.public.signer)
        keys = self.handed(Keys(release=b64encode(release).decode(), inputs={self.slot: handed}))
        files = [file for one in keys.inputs.values() for file in one.files.files]
        self.places = {file.content_digest: file.path for file in files}
        return keys


def judge(
    contract: Contract, platforms: tuple[str, ...] | None = None, task: Any = None
) -> Callable[[Shown], None]:
    """Appraise evidence as a lender's node does."""
    policy = AppraisalPolicy.from_environment(
        contract.environment or Environment(), level=contract.security_level, platforms=platforms
    )

    def of(shown: Shown) -> None:
        if shown.evidence is None:
            raise PolicyRefusal("not-permitted", "There is no evidence.")
        endorsements = Endorsements(collateral=lambda _kind, _fmspc: 1 / 0)  # type: ignore[arg-type,return-value]
        appraise(
            Record.from_cbor(shown.evidence),
            endorsements,
            policy,
            report_data=shown.report_data,
            now=_now(),
            task=task,
        )

    return of


@dataclass
class World:
    """A contract with a task on what two lend, its people, and what the hub hears.

    Attributes:
        terms: Changes of the task; `environment` and `level` are the contract's.
        on: By the name of a message's body: what the hub answers instead, or before it does.
    """

    folder: Path
    program: str = PROGRAM
    manifest: str = MANIFEST
    extra_files: Mapping[str, bytes] = field(default_factory=dict)
    terms: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    level: str = "L2"
    executors: tuple[str, ...] = ("landlock", "simulated")
    settings: dict[str, Any] = field(default_factory=dict)
    on: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    reports: list[pb.TaskReport] = field(default_factory=list)
    outputs: dict[str, bytearray] = field(default_factory=dict)
    chunk: int = 4 * MIB
    right_kind: str = "model"
    right: bytes = MARKER + b" right"
    left: Mapping[str, bytes] = field(
        default_factory=lambda: {"a.txt": MARKER + b" left", "deep/b.txt": b"b" * 9000}
    )

    def __post_init__(self) -> None:
        self.ada, self.ada_vault = SigningKey.generate(), PrivateKey.generate()
        self.alpha = Lender("Alpha", "left", dict(self.left))
        self.beta = Lender("Beta", "right", {"": self.right})
        self.lenders = {one.name: one for one in (self.alpha, self.beta)}
        self.identity = Identity("Island", CONSORTIUM, SigningKey.generate())
        code = self.folder / "program"
        code.mkdir(parents=True)
        (code / "main.py").write_text(textwrap.dedent(self.program))
        (code / "task.yaml").write_text(textwrap.dedent(self.manifest))
        for name, content in self.extra_files.items():
            (code / name).write_bytes(content)
        self.archive, self.code_digest = pack(code), code_digest(files_below(code))
        self.directory = EnclaveDir(self.folder / "enclave")
        self.directory.path.mkdir()
        self.contract = self._contract()
        self.beta_card = self.card("Beta", self.beta.key, self.beta.vault)
        self.service: WorkerService

    def _contract(self) -> Contract:
        ada = Researcher(name="Ada", key=self.ada.public)
        task = {
            "name": "join",
            "code": Code(name="join", content_digest=self.code_digest, owner="Ada"),
            "arguments": (Argument(name="word"),),
            "inputs": (
                self._slot(self.alpha, "dataset"),
                self._slot(self.beta, self.right_kind),
            ),
            "outputs": (OutputSlot(name="result", owners=("Ada",), recipients=("Ada", "Beta")),),
            "log_recipients": ("Ada",),
        }
        enclaves = (Enclave(name=self.identity.name, key=self.identity.key.public),)
        environment = {"enclaves": enclaves} | self.environment
        return Contract(
            study="joint",
            title="A joint task",
            purpose="To try.",
            tasks=(Task(**{**task, **self.terms}),),
            security_level=self.level,
            environment=Environment(**environment),
            expires_at=_now() + timedelta(days=30),
            consortium=CONSORTIUM,
            participants=tuple(
                Seat(name=one.name, key=one.key.public) for one in self.lenders.values()
            ),
            min_sites=2,
            recipients=(ada,),
            proposed_by=ada,
            created_at=_now() - timedelta(hours=1),
        )

    @staticmethod
    def _slot(lender: Lender, kind: Any) -> InputSlot:
        owners = (lender.name,)
        artefact = Artefact(name=lender.slot, content_digest=lender.lent.digest, owners=owners)
        return InputSlot(name=lender.slot, kind=kind, owners=owners, artefact=artefact)

    def request(self, **changes: Any) -> RunRequest:
        fields: dict[str, Any] = {
            "run_id": secrets.token_hex(16),
            "study": self.contract.study,
            "contract_digest": self.contract.digest,
            "computation": "task.join",
            "params": {"word": "hello"},
            "researcher": self.ada.public,
            "issued_at": _now(),
            "valid_until": _now() + timedelta(hours=1),
        }
        return RunRequest(**(fields | changes))

    def prepare(self, request: RunRequest | None = None, **changes: Any) -> pb.TaskPrepare:
        keys = [self.ada, self.alpha.key, self.beta.key]
        fields: dict[str, Any] = {
            "request_envelope": (request or self.request()).sign(self.ada),
            "contract_envelopes": [self.contract.sign(key) for key in keys],
            "code": self.archive,
            "cards": [
                self.card("Ada", self.ada, self.ada_vault),
                self.card("Beta", self.beta.key, self.beta.vault),
            ],
        }
        return pb.TaskPrepare(**(fields | changes))

    @staticmethod
    def card(name: str, key: SigningKey, vault: PrivateKey) -> bytes:
        return VaultCard(name=name, vault=vault.public.to_text(), at=_now()).sign(key)

    # -- the hub

    async def handle(self, message: pb.Message) -> pb.Message:
        body = str(message.WhichOneof("body"))
        if body in self.on:
            self.on[body](getattr(message, body))
        if body == "task_report":
            self.reports.append(message.task_report)
        elif body == "task_channel":
            lender = self.lenders[message.task_channel.site]
            answer = await asyncio.to_thread(lender.channel, message.task_channel, self.contract)
            return pb.Message(task_channel=answer)
        elif body == "task_fetch":
            return pb.Message(task_piece=self._piece(message.task_fetch))
        elif body == "task_output":
            self._keep(message.task_output)
        else:
            raise ProtocolError("unexpected-message", body)
        return pb.Message(ack=pb.Ack())

    def _piece(self, asked: pb.TaskFetch) -> pb.TaskPiece:
        lender = self.lenders[asked.site]
        lender.fetched.append((lender.places[asked.path], asked.offset))
        data = lender.ciphertext[lender.places[asked.path]]
        return pb.TaskPiece(data=data[asked.offset : asked.offset + self.chunk], size=len(data))

    def _keep(self, piece: pb.TaskOutput) -> None:
        if piece.offset == 0:
            self.outputs[piece.slot] = bytearray()
        kept = self.outputs[piece.slot]
        assert (len(kept), piece.path) == (piece.offset, "")
        kept += piece.data

    # -- the enclave

    @contextlib.asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[WorkerService]:
        """A worker on the enclave's folder; a second one is the process after a restart."""
        config = EnclaveConfig(
            name=self.identity.name,
            consortium="Test",
            consortium_fingerprint=CONSORTIUM,
            hub_url="https://hub.example",
            link_address="hub.example:1",
            executors=self.executors,
            **self.settings,
        )
        store = RunStore(self.directory.store)
        service = WorkerService(self.directory, config, self.identity, store, **changes)
        service.recover()
        service.attach(MemoryUplink(self))
        self.service = service
        try:
            yield service
        finally:
            await service.close()
            store.close()

    async def send(self, **body: Any) -> pb.Message:
        """The worker's answer to a request of the hub."""
        from cohortium.link.codec import raise_if_error
        from cohortium.link.memory import MemoryUplink

        reply = await MemoryUplink(self.service).request(pb.Message(**body), 30)
        raise_if_error(reply)
        return reply

    async def ended(self, timeout_s: float = 30) -> pb.TaskReport:
        """The last report of a run."""
        async with asyncio.timeout(timeout_s):
            while not (self.reports and self.reports[-1].stage == "ended"):
                await asyncio.sleep(0.01)
            while not (self.reports[-1].outcome or self.reports[-1].error):
                await asyncio.sleep(0.01)
        return self.reports[-1]

    async def run(self, asked: pb.TaskPrepare | None = None) -> pb.TaskReport:
        """A run from its order to its end."""
        async with self.serving():
            await self.send(task_prepare=asked or self.prepare())
            return await self.ended()

    def outcome(self) -> TaskOutcome:
        """What the enclave signed."""
        found, signer = TaskOutcome.open(self.reports[-1].outcome)
        assert signer == found.enclave_key == self.identity.key.public
        return found

    def error(self) -> CohortiumError:
        """What ended the run before there was an outcome."""
        return CohortiumError.from_wire(parse_json(self.reports[-1].error))

    def opened(self, slot: str, key: PrivateKey) -> dict[str, bytes]:
        """An output's files, as a recipient opens them."""
        data = bytes(self.outputs[slot])
        made = {one.slot: one for one in self.outcome().outputs}[slot]
        assert (made.size_bytes, made.content_digest) == (
            len(data),
            f"sha256:{sha256(data).hexdigest()}",
        )
        reader = VaultReader(
            StreamSource(BytesIO(data)),
            Keyring([key]),
            expected=Expected(writers=(self.outcome().enclave_key,)),
        )
        with reader:
            return {name: content.read() for name, content in members(reader)}

    def on_disk(self) -> bytes:
        """All that is in the enclave's folder."""
        files = [path for path in self.directory.path.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files)


SMALL = Limits(memory_bytes=128 * MIB, cpu_s=10, time_s=10, disk_bytes=1 * MIB, processes=8)
