"""The serving process: alone in its folder, on one link, with a certificate that it renews."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cohortium.crypto import tls_keys
from cohortium.crypto.authority import Authority, read_certificate
from cohortium.crypto.enrolment import rotation_bytes
from cohortium.crypto.files import held_alone, write_atomically
from cohortium.crypto.keys import SigningKey, verify
from cohortium.errors import ConflictError
from cohortium.link._generated import link_pb2 as pb
from cohortium.worker import main
from cohortium.worker.folder import EnclaveConfig, EnclaveDir
from cohortium.worker.main import Enclave, said_of_itself
from cohortium.worker.store import RunStore


@pytest.fixture
def authority() -> Authority:
    return Authority.create("Test", datetime.now(UTC))


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> EnclaveDir:
    made = EnclaveDir(tmp_path)
    made.save_config(
        EnclaveConfig(
            name="Island",
            consortium="Test",
            consortium_fingerprint=authority.fingerprint,
            hub_url="https://hub.example",
            link_address="127.0.0.1:1",
        )
    )
    SigningKey.generate().save(made.contract_key)
    write_atomically(made.ca, authority.certificate_pem)
    csr = tls_keys.begin(made.tls, "Island")
    pem = authority.issue_node(csr, "Island", "e1", datetime.now(UTC), days=30)
    tls_keys.finish(made.tls, pem, authority.certificate_pem, lambda: datetime.now(UTC))
    return made


def test_one_process_serves_from_a_folder(
    folder: EnclaveDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "keep_memory_private", lambda: None)
    with held_alone(folder.lock, "It"), pytest.raises(ConflictError, match="served already"):
        main.serve(folder.path)
    with held_alone(folder.lock, "It"):  # nobody holds it any more
        pass


async def test_it_says_how_it_is_and_what_was_lost_before(folder: EnclaveDir) -> None:
    store = RunStore(folder.store)
    store.begin("0" * 32, "sha256:" + "1" * 64, "joint", "join", "landlock")
    store.close()
    (folder.runs / ("0" * 32) / "code").mkdir(parents=True)
    stop = asyncio.Event()
    serving = asyncio.create_task(Enclave(folder).run(stop))
    async with asyncio.timeout(10):
        while (said := said_of_itself(folder)) is None:
            await asyncio.sleep(0.01)
        assert (said["pid"], said["connected"], said["runs"]) == (os.getpid(), False, {})
        stop.set()
        await serving
    assert said_of_itself(folder) is None
    assert not folder.runs.exists()
    store = RunStore(folder.store)
    assert [(one.how, one.sent) for one in store.latest()] == [("enclave-lost", False)]
    store.close()


async def test_a_certificate_that_ends_soon_is_renewed_for_a_new_key(
    folder: EnclaveDir, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    enclave = Enclave(folder)
    asked: list[pb.RotateCertificate] = []

    async def request(message: pb.Message, _timeout_s: float) -> pb.Message:
        rotation = message.rotate_certificate
        asked.append(rotation)
        pem = authority.issue_node(rotation.csr_pem, "Island", "e1", datetime.now(UTC))
        return pb.Message(certificate=pb.Certificate(pem=pem))

    monkeypatch.setattr(enclave._link, "request", request)
    key = folder.load_identity(folder.load_config()).key.public
    before = (tls_keys.current(folder.tls) / tls_keys.KEY).read_bytes()
    old = enclave._link._link
    keeping = asyncio.create_task(enclave._keep_certificate())
    linked = asyncio.create_task(enclave._link.run())
    async with asyncio.timeout(10):
        while enclave._link._link is old:
            await asyncio.sleep(0.01)
    for task in (keeping, linked):
        task.cancel()
    await asyncio.gather(keeping, linked, return_exceptions=True)
    verify(key, asked[0].signature, rotation_bytes(asked[0].csr_pem))
    pair = tls_keys.current(folder.tls)
    assert (pair / tls_keys.KEY).read_bytes() != before
    facts = read_certificate((pair / tls_keys.CERTIFICATE).read_bytes())
    assert facts.not_after - datetime.now(UTC) > timedelta(days=300)
    assert len(asked) == 1


def test_serving_keeps_its_memory_to_itself_until_it_is_told_to_stop(
    folder: EnclaveDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    async def run(self: Enclave, stop: asyncio.Event) -> None:
        os.kill(os.getpid(), 15)
        await asyncio.wait_for(stop.wait(), 5)
        done.append(self)

    monkeypatch.setattr(main, "keep_memory_private", lambda: done.append("private"))
    monkeypatch.setattr(Enclave, "run", run)
    main.serve(folder.path)
    assert done[0] == "private"
    assert len(done) == 2
