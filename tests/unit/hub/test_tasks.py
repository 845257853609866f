"""Runs of tasks: an enclave and the lenders are in-memory handlers that sign like real ones."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.support.fake_sites import SITES, key
from tests.support.life import transition
from tests.support.task_hub import (
    OUTPUTS,
    FakeEnclave,
    TaskWorld,
    closed,
    order,
    refusal,
    task,
    task_world,
)

from cohortium.contract.model import Enclave, Environment, RunRequest
from cohortium.contract.task import Artefact, InputSlot
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.enclave.exchange import TaskOutcome
from cohortium.errors import CohortiumError, ConflictError, InputError, PolicyRefusal
from cohortium.hub.store import HubStore
from cohortium.hub.tasks import Reader
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.ledger.entry import KeyReleased, RunDecided, RunEnded, parse_entry
from cohortium.link._generated.link_pb2 import Message, TaskFetch

ADA = key("Ada")
Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    begun: list[tuple[TaskWorld, ThreadRunner]] = []

    async def made(**options: Any) -> TaskWorld:
        store, runner = HubStore("sqlite://"), ThreadRunner()
        world = await task_world(store, runner, **options)
        begun.append((world, runner))
        return world

    yield made
    for world, runner in begun:
        await closed(world, runner)


def reader(name: str) -> Reader:
    return Reader(name, key(name).public)


def facts(world: TaskWorld, run_id: str) -> list[Any]:
    """What the ledger says of a run, in order."""
    entries = world.hub.store.ledger.entries(0, 1000)
    found = [parse_entry(entry).fact for entry in entries]
    return [fact for fact in found if getattr(fact, "run_id", None) == run_id]


async def failed(world: TaskWorld, run_id: str) -> dict[str, Any]:
    assert await world.settled(run_id) == "failed"
    error = world.hub.store.runs.get(run_id).info.error
    assert error is not None
    return error


async def test_a_task_runs_in_an_enclave_and_gives_what_it_signed(start: Start) -> None:
    world = await start()
    run_id = world.submit()
    assert await world.settled(run_id) == "succeeded", world.hub.store.runs.get(run_id).info.error
    result = world.hub.result(run_id, world.hub.user(ADA.public))
    envelope = base64.b64decode(result.result["envelope"])
    outcome, _ = TaskOutcome.open(envelope, key=key("Vault One").public)
    assert outcome.to_json() == result.result["outcome"]
    info = result.run
    assert (info.enclave, info.participants, info.absent) == ("Vault One", ("Alpha", "Beta"), ())
    assert (info.rounds, info.bytes, info.seconds) == (0, {}, 1.5)
    assert result.receipt is not None

    prepared = world.enclaves["Vault One"].prepared[0].task_prepare
    assert RunRequest.open(prepared.request_envelope)[0].run_id == run_id
    assert len(prepared.contract_envelopes) == len(world.contract.signatories)
    assert len(prepared.cards) == 3
    assert digest_bytes(prepared.code) != digest_bytes(b"")

    told = facts(world, run_id)
    decided = [fact for fact in told if isinstance(fact, RunDecided)]
    released = [fact for fact in told if isinstance(fact, KeyReleased)]
    assert [sorted(fact.sites) for fact in decided] == [["Alpha"], ["Alpha", "Beta"]]
    assert [fact.holder for fact in released] == ["Alpha", "Beta"]
    for fact in released:
        assert decided[-1].sites[fact.holder].statement == fact.evidence
        assert outcome.releases[fact.holder] == fact.evidence
        assert fact.evidence in world.hub.store.runs.documents(run_id)
    ended = told[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.rounds) == ("succeeded", ())
    assert digest_bytes(envelope) in world.hub.store.runs.documents(run_id)
    await world.heard("Gamma", "run_end-succeeded")


async def test_each_output_is_for_its_recipients_and_nobody_else(start: Start) -> None:
    world = await start()
    run_id = world.submit()
    await world.settled(run_id)
    run = world.hub.store.runs.get(run_id)
    tasks = world.hub.tasks
    for slot, name in (("model", "Ada"), ("log", "Ada"), ("report", "Beta"), ("report", "Gamma")):
        assert tasks.output(run, slot, reader(name)).read_bytes() == OUTPUTS[slot]
    for slot, name in (("model", "Beta"), ("log", "Gamma"), ("report", "Ada"), ("other", "Ada")):
        with pytest.raises(PolicyRefusal, match="does not give you"):
            tasks.output(run, slot, reader(name))
    with pytest.raises(PolicyRefusal):
        tasks.output(run, "report", Reader("Beta", key("Eve").public))

    whole = tasks.piece(reader("Gamma"), TaskFetch(run_id=run_id, slot="report")).task_piece
    assert (whole.data, whole.size) == (OUTPUTS["report"], 20)
    rest = tasks.piece(reader("Gamma"), TaskFetch(run_id=run_id, slot="report", offset=15))
    assert rest.task_piece.data == OUTPUTS["report"][15:]
    signed = tasks.piece(reader("Beta"), TaskFetch(run_id=run_id)).task_piece.data
    assert TaskOutcome.open(signed, key=key("Vault One").public)[0].run_id == run_id
    with pytest.raises(InputError, match="no such run"):
        tasks.piece(reader("Alpha"), TaskFetch(run_id=run_id))


async def test_a_program_is_shown_to_those_whose_contract_names_it(start: Start) -> None:
    world = await start()
    digest = task().code.content_digest
    asked = TaskFetch(slot="code", path=digest)
    piece = world.hub.tasks.piece(reader("Gamma"), asked).task_piece
    assert piece.size == len(piece.data) > 100
    for who in (Reader("Gamma", key("Eve").public), reader("Delta")):
        with pytest.raises(InputError, match="no program"):
            world.hub.tasks.piece(who, asked)
    with pytest.raises(InputError, match="no program"):
        world.hub.tasks.piece(reader("Gamma"), TaskFetch(slot="code", path="sha256:" + "0" * 64))


async def test_without_a_program_or_a_vault_key_nothing_is_ordered(start: Start) -> None:
    world = await start()
    other = task(code=task().code.model_copy(update={"content_digest": "sha256:" + "0" * 64}))
    proposal = world.contract.model_copy(update={"study": "ears", "tasks": (other,)})
    with pytest.raises(InputError, match="does not have the program trainer") as caught:
        world.hub.propose(proposal.sign(ADA), world.hub.user(ADA.public))
    assert caught.value.code == "not-found"
    assert world.hub.store.studies.studies() == ["eyes"]
    gamma = world.contract.model_copy(
        update={"study": "noses", "tasks": (task(log_recipients=("Alpha", "Ada")),)}
    )
    world.hub.propose(gamma.sign(ADA), world.hub.user(ADA.public))
    for name in SITES:
        world.hub.say(name, gamma.sign(key(name)))
    with pytest.raises(InputError, match="for Alpha, who has no vault key") as caught:
        world.submit(2, study="noses", contract_digest=gamma.digest)
    assert caught.value.code == "vault-key-missing"


async def test_a_contract_names_enclaves_and_lenders_that_are_there(start: Start) -> None:
    world = await start()
    stranger = Enclave(name="Vault Three", key=key("Vault Three").public)
    forged = Enclave(name="Vault One", key=key("Eve").public)
    lent = Artefact(name="images", content_digest="sha256:" + "0" * 64, owners=("Ada",))
    slot = InputSlot(name="images", kind="dataset", owners=("Ada",), artefact=lent)
    for changes, code in (
        ({"environment": Environment(enclaves=(stranger,))}, "not-found"),
        ({"environment": Environment(enclaves=(forged,))}, "key-mismatch"),
        ({"tasks": (task(inputs=(slot,)),)}, "not-found"),
    ):
        proposal = world.contract.model_copy(update={"study": "ears", **changes})
        with pytest.raises(CohortiumError) as caught:
            world.hub.propose(proposal.sign(ADA), world.hub.user(ADA.public))
        assert caught.value.code == code


async def test_a_run_waits_for_an_enclave_and_can_be_resumed(start: Start) -> None:
    world = await start(connect=())
    run_id = world.submit()
    assert (await failed(world, run_id))["code"] == "no-enclave"
    world.connect("Vault Two")
    await world.hub.resume(run_id, world.hub.user(ADA.public))
    assert await world.settled(run_id) == "succeeded"
    assert world.hub.run(run_id, world.hub.user(ADA.public)).enclave == "Vault Two"


async def test_only_an_enclave_that_the_contract_names_gets_the_run(start: Start) -> None:
    named = Enclave(name="Vault Two", key=key("Vault Two").public)
    world = await start(environment=Environment(enclaves=(named,)))
    run_id = world.submit()
    assert (await failed(world, run_id))["code"] == "no-enclave"
    assert world.enclaves["Vault One"].seen == []


async def test_what_one_enclave_lacks_another_may_have(start: Start) -> None:
    world = await start(connect=("Vault One", "Vault Two"))
    lacks = PolicyRefusal("packages-missing", "No torch here.")
    world.enclaves["Vault One"].prepare = lambda _: refusal(lacks)
    run_id = world.submit()
    assert await world.settled(run_id) == "succeeded"
    assert world.hub.run(run_id, world.hub.user(ADA.public)).enclave == "Vault Two"
    world.enclaves["Vault Two"].prepare = lambda _: refusal(lacks)
    error = await failed(world, world.submit(2))
    assert error["code"] == "packages-missing"
    assert "Vault" in error["message"]


async def test_a_lenders_refusal_is_on_the_ledger_and_ends_the_run(start: Start) -> None:
    world = await start()

    async def refuse(message: Message) -> Message | None:
        if message.WhichOneof("body") == "task_channel":
            raise PolicyRefusal("site-policy", "We lend to nobody.")
        return None

    world.lenders["Beta"].hook = refuse

    async def give_up(enclave: FakeEnclave, request: RunRequest) -> None:
        await enclave.channel(request, "Alpha")
        with pytest.raises(PolicyRefusal) as caught:
            await enclave.channel(request, "Beta")
        wire = canonical(caught.value.to_wire())
        report = {"run_id": request.run_id, "stage": "ended", "error": wire}
        await enclave.ask(task_report=report)
        await asyncio.sleep(60)

    world.enclaves["Vault One"].before["keys"] = give_up
    run_id = world.submit()
    error = await failed(world, run_id)
    assert (error["code"], error["details"]["site"]) == ("site-policy", "Beta")
    decided = [fact for fact in facts(world, run_id) if isinstance(fact, RunDecided)][-1].sites
    assert decided["Alpha"].decision == "accepted"
    assert (decided["Beta"].decision, decided["Beta"].code) == ("refused", "site-policy")
    assert [f.holder for f in facts(world, run_id) if isinstance(f, KeyReleased)] == ["Alpha"]


async def test_a_program_that_fails_leaves_its_log_and_nothing_else(start: Start) -> None:
    world = await start()
    enclave = world.enclaves["Vault One"]
    enclave.changes = {"end": "memory"}
    enclave.outputs = {"log": b"Killed"}
    run_id = world.submit()
    error = await failed(world, run_id)
    assert (error["code"], error["details"]) == ("task-failed", {"end": "memory"})
    run = world.hub.store.runs.get(run_id)
    assert world.hub.tasks.output(run, "log", reader("Ada")).read_bytes() == b"Killed"
    with pytest.raises(InputError):
        world.hub.tasks.output(run, "model", reader("Ada"))
    with pytest.raises(ConflictError, match="more memory"):
        world.hub.result(run_id, world.hub.user(ADA.public))
    assert [f.code for f in facts(world, run_id) if isinstance(f, RunEnded)] == ["task-failed"]


async def test_the_stages_are_told_as_they_come(start: Start) -> None:
    world = await start()
    go_on = asyncio.Event()

    async def wait(enclave: FakeEnclave, request: RunRequest) -> None:
        await go_on.wait()

    world.enclaves["Vault One"].before["outputs"] = wait
    run_id = world.submit()
    said = []
    async for event in world.hub.follow(run_id, world.hub.user(ADA.public), 0):
        if event.info is not None:
            said.append((event.info.status, event.info.message))
            if "running" in event.info.message:
                assert event.info.enclave == "Vault One"
                assert event.info.progress == pytest.approx(0.45)
                go_on.set()
    assert ("running", "running in Vault One: 1.0 MB of 4.0 MB") in said
    assert said[-1][0] == "succeeded"


async def paused(world: TaskWorld) -> str:
    """A run whose program is running."""
    reached = asyncio.Event()

    async def wait(enclave: FakeEnclave, request: RunRequest) -> None:
        reached.set()
        await asyncio.sleep(60)

    world.enclaves["Vault One"].before["outputs"] = wait
    run_id = world.submit()
    await asyncio.wait_for(reached.wait(), 10)
    return run_id


async def stopped(world: TaskWorld, why: str) -> None:
    """The enclave is told to stop."""
    assert why in await world.enclaves["Vault One"].is_told("task_stop")


async def test_a_cancelled_run_stops_in_the_enclave(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await start()
    run_id = await paused(world)
    monkeypatch.setattr("cohortium.hub.tasks.MOST_OPEN", 1)
    with pytest.raises(PolicyRefusal, match="under way"):
        world.submit(2)
    world.hub.cancel(run_id, world.hub.user(ADA.public))
    await stopped(world, "cancelled")
    assert world.hub.run(run_id, world.hub.user(ADA.public)).status == "cancelled"
    with pytest.raises(ConflictError) as caught:
        await world.enclaves["Vault One"].report(order(world.contract), "running")
    assert caught.value.code == "run-cancelled"


async def test_a_run_stops_when_its_contract_does_not_permit_it_any_more(start: Start) -> None:
    world = await start()
    run_id = await paused(world)
    revoked = transition(world.contract, "revoke", "Alpha", reason="No more.")
    world.hub.say("Alpha", revoked.sign(key("Alpha")))
    assert (await failed(world, run_id))["code"] == "contract-ended"
    await stopped(world, "revoked")


async def test_a_removed_researchers_run_stops(start: Start) -> None:
    world = await start()
    run_id = await paused(world)
    world.hub.members.remove_user("Ada")
    world.hub._stop_revoked()
    async with asyncio.timeout(10):
        while world.hub.store.runs.get(run_id).info.status != "failed":
            await asyncio.sleep(0.01)
    await stopped(world, "removed")
    with pytest.raises(ConflictError):
        await world.enclaves["Vault One"].channel(order(world.contract), "Alpha")


async def test_an_enclave_that_comes_back_in_time_goes_on(start: Start) -> None:
    world = await start()
    again = asyncio.Event()

    async def away(enclave: FakeEnclave, request: RunRequest) -> None:
        world.link.leave(enclave.name)
        await asyncio.sleep(0.3)
        world.connect(enclave.name)
        again.set()

    world.enclaves["Vault One"].before["outputs"] = away
    run_id = world.submit()
    assert await world.settled(run_id) == "succeeded", world.hub.store.runs.get(run_id).info.error
    assert again.is_set()


async def test_a_run_is_resumed_in_its_enclave_after_a_longer_time(start: Start) -> None:
    world = await start(connect=("Vault One", "Vault Two"))
    back = asyncio.Event()

    async def away(enclave: FakeEnclave, request: RunRequest) -> None:
        world.link.leave(enclave.name)
        await back.wait()

    world.enclaves["Vault One"].before["outputs"] = away
    run_id = world.submit()
    assert (await failed(world, run_id))["code"] == "peer-unreachable"
    world.connect("Vault One")
    back.set()
    await world.hub.resume(run_id, world.hub.user(ADA.public))
    assert await world.settled(run_id) == "succeeded", world.hub.store.runs.get(run_id).info.error
    assert world.enclaves["Vault Two"].seen == []


async def test_a_lost_run_is_not_resumed(start: Start) -> None:
    world = await start()

    async def away(enclave: FakeEnclave, request: RunRequest) -> None:
        world.link.leave(enclave.name)
        lost = CohortiumError.from_wire(
            {"code": "enclave-lost", "message": "It ended; submit a new run.", "details": {}}
        )
        enclave.prepare = lambda _: refusal(lost)
        world.connect(enclave.name)
        await asyncio.sleep(60)

    world.enclaves["Vault One"].before["outputs"] = away
    run_id = world.submit()
    assert (await failed(world, run_id))["code"] == "enclave-lost"
    with pytest.raises(ConflictError, match="submit a new run"):
        await world.hub.resume(run_id, world.hub.user(ADA.public))


async def test_a_suspended_enclaves_run_is_lost(start: Start) -> None:
    world = await start()
    run_id = await paused(world)
    world.hub.members.suspend("Vault One")
    world.link.leave("Vault One")
    assert (await failed(world, run_id))["code"] == "enclave-lost"


async def test_a_hub_that_starts_again_goes_on_with_the_same_enclave(start: Start) -> None:
    """The journal in memory is gone, as after a crash before the first step was recorded."""
    world = await start(connect=("Vault One", "Vault Two"))
    go_on = asyncio.Event()

    async def wait(enclave: FakeEnclave, request: RunRequest) -> None:
        await go_on.wait()

    for enclave in world.enclaves.values():
        enclave.before["outputs"] = wait
    run_id = world.submit()
    async with asyncio.timeout(10):
        while len(world.hub.store.tasks.decisions(run_id)) < 2:
            await asyncio.sleep(0.01)
    journal = ThreadRunner()
    driver = world.hub._driver
    assert driver is not None
    driver._live.clear()  # the waiting thread belongs to the hub that is gone
    journal.launch(driver.execute)
    journal.start(run_id, 1)
    await asyncio.sleep(0.2)
    go_on.set()
    assert await world.settled(run_id) == "succeeded"
    assert len(world.enclaves["Vault One"].prepared) == 2
    assert world.enclaves["Vault Two"].seen == []
    await asyncio.to_thread(journal.close)


async def test_a_hub_that_stops_leaves_the_run_open(start: Start) -> None:
    """The event loop ends under the run's thread, which must not take that for its end."""
    world = await start()
    run_id = await paused(world)
    driver = world.hub._driver
    assert driver is not None
    live = driver._live[run_id]
    assert live.waiting is not None
    live.waiting.cancel()
    await asyncio.sleep(0.2)
    assert world.hub.store.runs.get(run_id).info.status == "queued"
    assert not world.enclaves["Vault One"].seen[-1].startswith("task_stop")
    world.hub.cancel(run_id, world.hub.user(ADA.public))
    await stopped(world, "cancelled")
