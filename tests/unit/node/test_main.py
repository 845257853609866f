"""The serving node in this process, against a link server over real mutual TLS."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.support.builders import a_vote
from tests.support.consortium import Consortium

from cohortium.crypto import tls_keys as tls
from cohortium.crypto.authority import read_certificate
from cohortium.crypto.enrolment import rotation_bytes
from cohortium.crypto.files import held_alone
from cohortium.crypto.keys import SigningKey, verify
from cohortium.errors import ConflictError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.server import LinkServer
from cohortium.node import journal, outbox
from cohortium.node.config import NodeConfig, NodeDir
from cohortium.node.main import Node, serve
from cohortium.node.policy import TEMPLATE
from cohortium.node.store import NodeStore
from cohortium.node.vault_key import VaultKey
from cohortium.vault.card import VaultCard

KEY = SigningKey.from_seed(b"\x05" * 32)


class Hub:
    """A hub that takes everything in and issues certificates."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self.seen: list[pb.Message] = []
        self.certificates: list[str] = []

    def authorise(self, certificate_pem: bytes) -> str | None:
        self.certificates.append(read_certificate(certificate_pem).fingerprint)
        return "Alpha"

    async def handle(self, message: pb.Message) -> pb.Message:
        self.seen.append(message)
        body = message.WhichOneof("body")
        if body == "hello":
            fingerprint = self.consortium.authority.fingerprint
            return pb.Message(welcome=pb.Welcome(consortium=fingerprint, revoked_keys=["gone"]))
        if body == "rotate_certificate":
            rotation = message.rotate_certificate
            verify(KEY.public, rotation.signature, rotation_bytes(rotation.csr_pem))
            pem = self.consortium.authority.issue_node(
                rotation.csr_pem, "Alpha", "n1", datetime.now(UTC)
            )
            return pb.Message(certificate=pb.Certificate(pem=pem))
        return pb.Message(ack=pb.Ack())

    def received(self, body: str) -> list[pb.Message]:
        return [message for message in self.seen if message.WhichOneof("body") == body]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[tuple[Hub, LinkServer, int]]:
    hub = Hub(Consortium.create(tmp_path / "consortium"))
    server = LinkServer(authorise=hub.authorise, handler_for=lambda _site: hub)
    port = await server.start("127.0.0.1", 0, hub.consortium.hub())
    yield hub, server, port
    await server.stop()


@pytest.fixture
def folder(hub: tuple[Hub, LinkServer, int], tmp_path: Path) -> NodeDir:
    consortium, port = hub[0].consortium, hub[2]
    made = NodeDir(tmp_path / "node")
    made.path.mkdir(mode=0o700)
    KEY.save(made.contract_key)
    made.ca.write_bytes(consortium.authority.certificate_pem)
    made.policy.write_text(TEMPLATE)
    csr = tls.begin(made.tls, "Alpha")
    pem = consortium.authority.issue_node(csr, "Alpha", "n1", datetime.now(UTC))
    tls.finish(made.tls, pem, consortium.authority.certificate_pem, lambda: datetime.now(UTC))
    made.save_config(
        NodeConfig(
            name="Alpha",
            consortium="Test consortium",
            consortium_fingerprint=consortium.authority.fingerprint,
            hub_url="https://localhost:1",
            link_address=f"localhost:{port}",
        )
    )
    return made


@pytest.fixture
async def serving(folder: NodeDir) -> AsyncIterator[NodeStore]:
    stop = asyncio.Event()
    task = asyncio.create_task(Node(folder).run(stop))
    store = NodeStore(folder.store)
    yield store
    stop.set()
    await asyncio.wait_for(task, 20)
    assert not folder.address.exists()
    store.close()


async def _until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.02)


def test_one_process_serves_a_node(tmp_path: Path) -> None:
    folder = NodeDir(tmp_path)
    folder.save_config(
        NodeConfig(
            name="Alpha",
            consortium="Test",
            consortium_fingerprint="sha256:" + "a" * 64,
            hub_url="https://127.0.0.1:1",
            link_address="127.0.0.1:1",
        )
    )
    with held_alone(folder.lock, "It"), pytest.raises(ConflictError, match="served already"):
        serve(tmp_path)


async def test_the_node_connects_and_sends_what_another_process_queued(
    hub: tuple[Hub, LinkServer, int], folder: NodeDir, serving: NodeStore
) -> None:
    await _until(lambda: "Alpha" in hub[1].connected())
    await _until(lambda: serving.revoked() == {"gone"})
    with serving.transaction():
        outbox.owe_vote(serving, "x", a_vote())
    await _until(lambda: bool(hub[0].received("statement")))
    await _until(lambda: serving.owed() == [])
    address = json.loads(folder.address.read_text())
    assert address["pid"] == os.getpid()
    async with httpx.AsyncClient(base_url=address["status"]) as client:
        answer = (await client.get("/status")).json()
        assert answer["link"]["connected"] is True
        assert answer["owed"] == 0
        evil = await client.get("/status", headers={"host": "evil.example"})
        assert evil.status_code == 403


async def test_a_vault_key_is_told_to_the_hub_once_it_is_needed_and_after_each_reconnect(
    hub: tuple[Hub, LinkServer, int], folder: NodeDir, serving: NodeStore
) -> None:
    await _until(lambda: "Alpha" in hub[1].connected())
    vault = VaultKey(folder.vault_key)
    public = vault.private.public
    await _until(lambda: bool(hub[0].received("publish_card")))
    hub[1].cut("Alpha")
    await _until(lambda: len(hub[0].received("publish_card")) >= 2)
    for message in hub[0].received("publish_card"):
        card, signer = VaultCard.open(message.publish_card.envelope)
        assert (card.name, card.public, signer) == ("Alpha", public, KEY.public)
    await _until(lambda: serving.last_answer("vault-key") == "ok")


async def test_a_rotation_reconnects_with_the_new_certificate(
    hub: tuple[Hub, LinkServer, int], folder: NodeDir, serving: NodeStore
) -> None:
    await _until(lambda: "Alpha" in hub[1].connected())
    csr = tls.begin(folder.tls, "Alpha")
    with serving.transaction():
        outbox.owe_rotation(serving, csr, KEY.sign(rotation_bytes(csr)))
    await _until(lambda: len(set(hub[0].certificates)) == 2)
    assert tls.current(folder.tls).name == "2"
    done = [entry.body["what"] for entry in journal.entries(serving)]
    assert sorted(done) == ["policy", "revoke", "rotate"]
    await _until(lambda: len(hub[0].received("hello")) == 2)


async def test_a_dropped_link_comes_back(
    hub: tuple[Hub, LinkServer, int], serving: NodeStore
) -> None:
    await _until(lambda: "Alpha" in hub[1].connected())
    hub[1].cut("Alpha")
    await _until(lambda: len(hub[0].received("hello")) >= 2)
    await _until(lambda: serving.last_answer("policy") is not None and not serving.owed())


def test_serving_imports_nothing_large() -> None:
    code = (
        "import sys, cohortium.cli.node, cohortium.node.main, cohortium.node.status; "
        "large = {'pandas', 'scipy', 'formulaic', 'altair', 'sqlalchemy', 'dbos', 'fastapi', "
        "'httpx', 'polars', 'sqlglot', 'ibis'} & set(sys.modules); print(sorted(large)); "
        "print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith('RssAnon:')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    large, private_kib = done.stdout.splitlines()
    assert large == "[]"
    # Not what is mapped from files: that depends on what the machine has in its cache.
    assert int(private_kib) <= 80 * 1024
