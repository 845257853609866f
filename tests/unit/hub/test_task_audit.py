"""What the hub exports of a study of tasks verifies, and a hub that lies is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from tests.support.fake_sites import key
from tests.support.life import transition
from tests.support.task_hub import FakeEnclave, TaskWorld, closed, task_world

from cohortium.audit.verify import Report, verify
from cohortium.contract.model import RunRequest
from cohortium.core.canonical import canonical
from cohortium.errors import PolicyRefusal, VerificationError
from cohortium.hub.audit import AuditExport
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated.link_pb2 import Message

ADA = key("Ada")


@pytest.fixture
async def world() -> AsyncIterator[TaskWorld]:
    store, runner = HubStore("sqlite://"), ThreadRunner()
    made = await task_world(store, runner)
    yield made
    await closed(made, runner)


async def bundle(world: TaskWorld, *, whole: bool = False, reader: str = "Ada") -> bytes:
    ledger = world.hub.store.ledger
    async with asyncio.timeout(20):
        while True:
            final = ledger.newest_final()
            if not ledger.pending() and final is not None and final.size == ledger.size():
                return world.hub.audit("eyes", world.hub.user(key(reader).public), whole=whole)
            await asyncio.sleep(0.02)


def told(report: Report) -> str:
    return "\n".join(f"{event.who} {event.what}" for event in report.events)


async def test_the_evidence_of_runs_of_tasks_verifies(world: TaskWorld) -> None:
    run_id = world.submit()
    assert await world.settled(run_id) == "succeeded"
    result = world.hub.result(run_id, world.hub.user(ADA.public)).result
    for whole in (False, True):
        data = await bundle(world, whole=whole)
        report = verify(data, results={run_id: canonical(result)})
        assert report.unchecked == ()
        assert report.complete is whole
        assert report.checked["outcomes"] == 2
    text = told(report)
    assert "Alpha released its keys of images" in text
    assert "to the enclave Vault One (bubblewrap, L2)" in text
    assert "Vault One enclave approved" in text
    assert "Vault One (bubblewrap, L2) gave model, report, log after 1.5 s" in text
    made = json.loads(data)
    made["statements"] = {
        digest: envelope
        for digest, envelope in made["statements"].items()
        if "key-release" not in envelope
    }
    with pytest.raises(VerificationError, match=r"Step 5"):
        verify(canonical(made))


async def test_failed_and_refused_runs_of_tasks_are_in_the_evidence(world: TaskWorld) -> None:
    enclave = world.enclaves["Vault One"]
    enclave.changes, enclave.outputs = {"end": "memory"}, {}
    assert await world.settled(world.submit(1)) == "failed"

    async def refuse(message: Message) -> Message | None:
        if message.WhichOneof("body") == "task_channel":
            raise PolicyRefusal("site-policy", "We lend to nobody.")
        return None

    async def give_up(enclave: FakeEnclave, request: RunRequest) -> None:
        await enclave.channel(request, "Alpha")
        with pytest.raises(PolicyRefusal) as caught:
            await enclave.channel(request, "Beta")
        wire = canonical(caught.value.to_wire())
        await enclave.ask(task_report={"run_id": request.run_id, "stage": "ended", "error": wire})
        await asyncio.sleep(60)

    world.lenders["Beta"].hook, enclave.before["keys"] = refuse, give_up
    assert await world.settled(world.submit(2)) == "failed"
    text = told(verify(await bundle(world)))
    assert "failed (task-failed)" in text
    assert "lend: Alpha; refuse: Beta (site-policy)" in text


async def test_a_contract_that_is_revoked_while_a_task_runs(world: TaskWorld) -> None:
    begun = asyncio.Event()

    async def wait(_enclave: FakeEnclave, _request: RunRequest) -> None:
        begun.set()
        await asyncio.Event().wait()

    world.enclaves["Vault One"].before["running"] = wait
    run_id = world.submit()
    await asyncio.wait_for(begun.wait(), 10)
    world.hub.say("Beta", transition(world.contract, "revoke", "Beta").sign(key("Beta")))
    assert await world.settled(run_id) == "failed"
    text = told(verify(await bundle(world)))
    assert "Beta revoked version 1" in text
    assert "Beta released its keys of labels" in text


async def test_whoever_may_not_read_a_result_gets_no_outcome_of_it(world: TaskWorld) -> None:
    assert await world.settled(world.submit()) == "succeeded"
    await bundle(world)
    exported = AuditExport(world.hub.store, world.hub.log).bundle("eyes", key("Alpha").public)
    (left,) = verify(exported).unchecked
    assert left.step == "outcomes"
