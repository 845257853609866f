"""What a serving node fetches by itself, from a hub that may send anything."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import RUN_ID, Node
from tests.support.lending import (
    ENCLAVE,
    MEASURED,
    PROGRAM,
    AskingEnclave,
    LendingWorld,
    on_ledger,
)

from cohortium.contract.code import packed
from cohortium.contract.model import Contract, Environment, Measurement
from cohortium.contract.task import code_digest
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.exchange import Made, Offer, Release, TaskOutcome
from cohortium.enclave.output_archive import ArchivedOutputs
from cohortium.errors import CohortiumError, InputError, PeerError
from cohortium.ledger.entry import EnclaveChanged, RunEnded, RunSubmitted
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import error_message
from cohortium.node import taken_in
from cohortium.node.collecting import Collector
from cohortium.vault.keys import PrivateKey
from cohortium.vault.storage import StreamSink
from cohortium.vault.writer import VaultWriter

DIGEST = code_digest(PROGRAM)
CONTENT = {"log": b"it trains\n", "model": b"weights"}
Key = tuple[str, str, str]


class Hub:
    """Files by run, slot and path, sent in small pieces; `asked` is what was fetched."""

    def __init__(self) -> None:
        self.files: dict[Key, bytes] = {("", "code", DIGEST): packed(PROGRAM)}
        self.asked: list[Key] = []
        self.spoil: Callable[[pb.TaskPiece], None] = lambda _piece: None
        self.away = False

    async def request(self, message: pb.Message) -> pb.Message:
        if self.away:
            raise PeerError("peer-unreachable", "The hub is away.")
        asked = message.task_fetch
        key = (asked.run_id, asked.slot, asked.path)
        self.asked.append(key)
        data = self.files.get(key)
        if data is None:
            return error_message(InputError("not-found", "There is nothing."))
        step = max(1, len(data) // 2)
        piece = pb.TaskPiece(data=data[asked.offset : asked.offset + step], size=len(data))
        self.spoil(piece)
        return pb.Message(task_piece=piece)


class Collecting:
    """A node, a hub and a clock; Alpha lends and reads, Gamma reads."""

    def __init__(self, root: Path, name: str = "Alpha") -> None:
        self.world = LendingWorld(root=root)
        self.now_s = 0.0
        self.hub = Hub()
        task = self.world.task(log_recipients=("Alpha",))
        self.contract: Contract = self.world.agreed(self.world.task_contract(task), name)
        self.node: Node = self.world.nodes[name]
        self.lending = self.world.lending[name]
        self.order = self.world.order(self.contract)
        self.collector = self.restarted()

    def restarted(self) -> Collector:
        service = self.node.service
        return Collector(service, self.lending, self.hub.request, lambda: self.now_s)

    async def collect(self) -> None:
        """All that is due, a while later."""
        self.now_s += 1000.0
        await self.collector.collect()

    def ended(self, **changes: Any) -> RunEnded:
        """The ledger tells that the run was ordered and how it ended."""
        order = self.order
        submitted = RunSubmitted(
            run_id=order.run_id,
            study=order.study,
            contract=order.contract_digest,
            computation=order.computation,
            researcher=order.researcher,
            request=digest_bytes(order.sign(self.world.researcher)),
        )
        end = RunEnded.model_validate({"run_id": RUN_ID, "status": "succeeded", **changes})
        on_ledger(self.node, submitted, end)
        return end

    def give(
        self,
        signer: SigningKey | None = None,
        slots: tuple[str, ...] = ("log", "model"),
        **changes: Any,
    ) -> None:
        """The hub has an outcome with these outputs of the enclave."""
        key, outputs = signer or self.world.enclave, []
        releases = {}
        if row := self.node.store.execute("SELECT release FROM task_releases"):
            releases["Alpha"] = digest_bytes(row[0][0])
        for slot in slots:
            data = self._encrypted(slot, CONTENT[slot], key)
            self.hub.files[RUN_ID, slot, ""] = data
            digest = digest_bytes(data)
            outputs.append(Made(slot=slot, size_bytes=len(data), content_digest=digest))
        values: dict[str, Any] = {
            "run_id": RUN_ID,
            "study": self.contract.study,
            "request_digest": self.order.digest,
            "contract_digest": self.contract.digest,
            "task": "train",
            "enclave": ENCLAVE,
            "enclave_key": key.public,
            "executor": "landlock",
            "level": "L2",
            "end": "succeeded",
            "outputs": tuple(outputs),
            "releases": releases,
            "at": self.world.now,
        }
        outcome = TaskOutcome.model_validate(values | changes)
        self.hub.files[RUN_ID, "", ""] = outcome.sign(key)

    def _encrypted(self, slot: str, content: bytes, key: SigningKey) -> bytes:
        out = io.BytesIO()
        to = [self.lending.vault.private.public]
        sink = ArchivedOutputs(lambda _slot: VaultWriter(StreamSink(out), to, key))
        sink.begin(slot, f"{slot}.txt", len(content))
        sink.write(content)
        sink.end()
        sink.close()
        return out.getvalue()

    @property
    def received(self) -> list[tuple[str, ...]]:
        return [tuple(made.slot for made in one.outputs) for one in self.lending.received.all()]


@pytest.fixture
def site(tmp_path: Path) -> Collecting:
    return Collecting(tmp_path)


async def test_a_program_is_fetched_to_be_read_and_is_what_the_contract_names(
    site: Collecting, tmp_path: Path
) -> None:
    await site.collect()
    assert site.lending.programs.files(DIGEST) == PROGRAM
    assert site.node.decisions(what="program", program=DIGEST)
    site.hub.asked.clear()
    await site.collect()
    await site.restarted().collect()
    assert site.hub.asked == []
    assert site.lending.programs.copy(DIGEST, tmp_path / "out") == sorted(PROGRAM)
    with pytest.raises(InputError):
        site.lending.programs.copy(DIGEST, tmp_path / "out")
    file = next((tmp_path / "Alpha" / "code").rglob("main.py"))
    file.write_bytes(b"steal()")
    with pytest.raises(CohortiumError) as caught:
        site.lending.programs.files(DIGEST)
    assert caught.value.code == "bad-digest"


@pytest.mark.parametrize("archive", [b"no archive", packed({"main.py": b"steal()"}), b""])
async def test_another_program_is_not_taken(
    site: Collecting, archive: bytes, tmp_path: Path
) -> None:
    site.hub.files["", "code", DIGEST] = archive
    await site.collect()
    assert not site.lending.programs.has(DIGEST)
    assert not list((tmp_path / "Alpha").glob("code/*"))
    site.hub.asked.clear()
    site.now_s += 1
    await site.collector.collect()
    assert site.hub.asked == []  # not again at once
    site.hub.files["", "code", DIGEST] = packed(PROGRAM)
    await site.collect()
    assert site.lending.programs.has(DIGEST)


async def test_outputs_for_this_institution_are_fetched_when_the_ledger_tells_of_the_end(
    site: Collecting, tmp_path: Path
) -> None:
    AskingEnclave(site.world, site.contract, site.order).ask(site.node)
    site.give()
    await site.collect()
    assert site.received == []
    site.ended()
    await site.collect()
    assert site.received == [("log", "model")]
    (entry,) = site.node.decisions(what="received")
    assert set(entry["outputs"]) == {"log", "model"}
    folder = site.lending.received
    (made,) = folder.open(RUN_ID[:8], "model", tmp_path / "out")
    assert made.read_bytes() == b"weights"
    with pytest.raises(CohortiumError) as caught:
        folder.open(RUN_ID, "model", tmp_path / "out")
    assert caught.value.code == "already-exists"
    for run, slot in ((RUN_ID, "other"), ("ffff", "model"), ("", "model")):
        with pytest.raises(InputError):
            folder.open(run, slot, tmp_path / "other")
    folder.remove(RUN_ID)
    assert folder.all() == []
    assert not list((tmp_path / "Alpha" / "received" / RUN_ID).rglob("data"))
    site.hub.asked.clear()
    await site.collect()
    await site.restarted().collect()
    assert site.hub.asked == []


async def test_who_lent_nothing_reads_what_is_for_it_and_no_more(tmp_path: Path) -> None:
    site = Collecting(tmp_path, "Gamma")
    site.give()
    site.ended()
    await site.collect()
    assert site.received == [("model",)]
    assert (RUN_ID, "log", "") not in site.hub.asked


async def test_the_log_of_a_task_that_failed_is_fetched_too(site: Collecting) -> None:
    AskingEnclave(site.world, site.contract, site.order).ask(site.node)
    site.give(slots=("log",), end="memory")
    site.ended(status="failed", code="task-failed")
    await site.collect()
    assert site.received == [("log",)]


@pytest.mark.parametrize(
    "end",
    [
        {"status": "failed", "code": "enclave-lost"},
        {"status": "cancelled"},
        {"run_id": "f" * 32},
    ],
)
async def test_a_run_without_an_outcome_is_not_asked_for(
    site: Collecting, end: dict[str, Any]
) -> None:
    site.give()
    site.ended(**end)
    await site.collect()
    assert {key[0] for key in site.hub.asked} == {""}


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": "f" * 32},
        {"task": "other"},
        {"contract_digest": "sha256:" + "0" * 64},
        {"request_digest": "sha256:" + "0" * 64},
        {"enclave": "Enclave Two"},
        {"enclave_key": SigningKey.from_seed(b"\x77" * 32).public},
        {"signer": SigningKey.from_seed(b"\x77" * 32)},
        {"releases": {}},
        {"releases": {"Alpha": "sha256:" + "0" * 64}},
    ],
)
async def test_an_outcome_of_another_run_or_enclave_is_not_taken(
    site: Collecting, change: dict[str, Any]
) -> None:
    AskingEnclave(site.world, site.contract, site.order).ask(site.node)
    site.give(**change)
    site.ended()
    await site.collect()
    assert site.received == []
    site.give()
    await site.collect()
    assert site.received == [("log", "model")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda piece: setattr(piece, "data", bytes(len(piece.data))),
        lambda piece: setattr(piece, "data", piece.data + b"x"),
        lambda piece: setattr(piece, "data", b""),
        lambda piece: setattr(piece, "size", piece.size + 1),
        lambda piece: setattr(piece, "size", 2**40),
    ],
)
async def test_other_bytes_than_the_enclave_signed_are_not_kept(
    site: Collecting, tmp_path: Path, spoil: Callable[[pb.TaskPiece], None]
) -> None:
    AskingEnclave(site.world, site.contract, site.order).ask(site.node)
    await site.collect()
    site.give()
    site.ended()
    site.hub.spoil = spoil
    await site.collect()
    assert site.received == []
    assert not [p for p in (tmp_path / "Alpha").glob("received/.*/**/*") if p.is_file()]
    site.hub.spoil = lambda _piece: None
    await site.collect()
    assert site.received == [("log", "model")]


def lent_to(site: Collecting, signer: SigningKey) -> dict[str, str]:
    """The hub keeps releases of Alpha and Beta to that enclave; their digests."""

    def keep(envelope: bytes) -> str:
        site.hub.files[RUN_ID, "", digest_bytes(envelope)] = envelope
        return digest_bytes(envelope)

    order, found = site.order, {}
    bound: dict[str, Any] = {
        "run_id": order.run_id,
        "request_digest": order.digest,
        "contract_digest": order.contract_digest,
        "task": "train",
        "enclave": ENCLAVE,
        "at": site.world.now,
    }
    vault = PrivateKey.generate().public
    for name, slot in (("Alpha", "images"), ("Beta", "start")):
        offer = Offer(
            **bound,
            code=DIGEST,
            executor="simulated",
            level="L4",
            recipient=vault.to_text(),
            session="00" * 64,
        )
        release = Release(
            **bound,
            site=name,
            artefacts={slot: DIGEST},
            recipient=f"sha256:{vault.key_id.hex()}",
            offer=keep(offer.sign(signer)),
        )
        found[name] = keep(release.sign(site.world.keys[name]))
    return found


async def test_where_no_enclave_is_named_ledger_and_lenders_say_who_it_was(tmp_path: Path) -> None:
    site = Collecting(tmp_path)
    proven = Environment(
        allow_simulated=True, measurements=(Measurement(kind="simulated", value=MEASURED),)
    )
    site.contract = site.world.task_contract(
        site.world.task(security_level="L4"), study="proven", environment=proven
    )
    gamma = site.world.lender("Gamma")
    site.world.agree(gamma, site.contract)
    site.node, site.lending = gamma, site.world.lending["Gamma"]
    site.collector = site.restarted()
    site.order = site.world.order(site.contract)
    site.ended()
    site.give(releases=lent_to(site, site.world.enclave))
    await site.collect()
    assert site.received == []  # the ledger knows no such enclave
    fact = EnclaveChanged(name=ENCLAVE, key=site.world.enclave.public, status="approved")
    on_ledger(gamma, fact)
    site.give(releases={})
    await site.collect()
    site.give(releases=lent_to(site, SigningKey.generate()))
    await site.collect()
    assert site.received == []  # the lenders' keys went to nobody, or to another one
    site.give(releases=lent_to(site, site.world.enclave))
    await site.collect()
    assert site.received == [("model",)]


async def test_a_hub_that_is_away_is_waited_for(site: Collecting) -> None:
    site.hub.away = True
    with pytest.raises(PeerError):
        await site.collect()
    site.hub.away = False
    await site.collector.collect()
    assert site.lending.programs.has(DIGEST)


async def test_what_would_fill_the_disk_is_not_fetched(
    site: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    AskingEnclave(site.world, site.contract, site.order).ask(site.node)
    vast = Made(slot="model", size_bytes=1 << 50, content_digest=digest_bytes(b"vast"))
    site.give(outputs=(vast,))
    site.ended()
    await site.collect()
    assert (RUN_ID, "model", "") not in site.hub.asked
    assert site.received == []
    monkeypatch.setattr(taken_in, "LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(InputError) as caught:
        site.lending.programs.put(DIGEST, packed(PROGRAM))
    assert caught.value.code == "too-large"
