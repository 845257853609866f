"""Enclaves and lenders that lie to the hub: nothing is kept, passed on, or put on the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.support.fake_sites import SITES, key
from tests.support.task_hub import (
    ENCLAVES,
    FakeEnclave,
    TaskWorld,
    card,
    closed,
    digest_of,
    order,
    task_world,
)

from cohortium.contract.model import RunRequest
from cohortium.core.canonical import digest_bytes
from cohortium.enclave.exchange import PIECE_BYTES
from cohortium.errors import CohortiumError
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated.link_pb2 import Message
from cohortium.vault.keys import PrivateKey

ADA, EVE = key("Ada"), key("Eve")
Lie = Callable[[FakeEnclave, RunRequest], Awaitable[object]]


@pytest.fixture
async def world() -> AsyncIterator[TaskWorld]:
    store, runner = HubStore("sqlite://"), ThreadRunner()
    made = await task_world(store, runner, connect=ENCLAVES)
    yield made
    await closed(made, runner)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(CohortiumError) as caught:
        await call
    return caught.value.code


async def at(world: TaskWorld, step: str, lie: Lie) -> list[Any]:
    """What comes of a lie at a step of a run in Vault One, which then goes on as it should."""
    heard: list[Any] = []

    async def tell(enclave: FakeEnclave, request: RunRequest) -> None:
        heard.append(await lie(enclave, request))

    world.enclaves["Vault One"].before[step] = tell
    run_id = world.submit()
    assert await world.settled(run_id) == "succeeded", world.hub.store.runs.get(run_id).info.error
    return heard


async def test_an_enclave_is_heard_about_its_own_runs_only(world: TaskWorld) -> None:
    other = world.enclaves["Vault Two"]

    async def lie(_: FakeEnclave, request: RunRequest) -> list[str]:
        asked = {"run_id": request.run_id, "site": "Alpha", "slot": "images"}
        report = {"run_id": request.run_id, "stage": "ended", "outcome": other.outcome(request, {})}
        return [
            await refused(other.channel(request, "Alpha")),
            await refused(other.ask(task_fetch=asked)),
            await refused(other.report(request, "running")),
            await refused(other.send(request, "model", 0, b"x")),
            await refused(other.ask(task_report=report)),
            await refused(other.report(order(world.contract, 99), "running")),
        ]

    assert await at(world, "outputs", lie) == [["not-found"] * 6]


async def test_only_lenders_are_asked_and_only_for_what_they_lend(world: TaskWorld) -> None:
    async def lie(enclave: FakeEnclave, request: RunRequest) -> list[str]:
        codes = [await refused(enclave.channel(request, site)) for site in ("Gamma", "Eve", "")]
        for site, slot in (("Gamma", "images"), ("Alpha", "labels"), ("Alpha", "model")):
            asked = {"run_id": request.run_id, "site": site, "slot": slot}
            codes.append(await refused(enclave.ask(task_fetch=asked)))
        return codes

    assert await at(world, "keys", lie) == [["not-permitted"] * 6]
    assert "task_channel" not in world.sites["Gamma"].seen


async def test_an_enclave_has_no_business_but_its_tasks(world: TaskWorld) -> None:
    enclave = world.enclaves["Vault One"]
    for body in (
        {"statement": {"envelope": b"x"}},
        {"publish_dataset": {"json": b"{}"}},
        {"publish_card": {"envelope": b"x"}},
        {"cosignature": {"size": 1}},
        {"policy_digest": {"digest": "x"}},
    ):
        assert await refused(enclave.ask(**body)) == "unexpected-message"


SPOILED: list[tuple[str, dict[str, Any], str]] = [
    ("another run's", {"run_id": "f" * 32}, "wrong-round"),
    ("another enclave's", {"enclave": "Vault Two"}, "wrong-round"),
    ("another contract's", {"contract_digest": "sha256:" + "0" * 64}, "wrong-round"),
    ("another site's", {"site": "Beta"}, "wrong-round"),
    ("of another's data", {"artefacts": {"labels": digest_of("labels")}}, "bad-digest"),
    ("of other data", {"artefacts": {"images": digest_of("others")}}, "bad-digest"),
    ("on another offer", {"offer": "sha256:" + "0" * 64}, "bad-digest"),
    ("on evidence that is not there", {"evidence": "sha256:" + "0" * 64}, "bad-digest"),
    ("to another key", {"recipient": "sha256:" + "0" * 64}, "bad-digest"),
]


async def test_a_release_that_is_not_for_this_run_is_neither_noted_nor_passed_on(
    world: TaskWorld,
) -> None:
    async def lie(enclave: FakeEnclave, request: RunRequest) -> dict[str, str]:
        heard = {}
        for what, changes, _ in SPOILED:
            world.lenders["Alpha"].changes = changes
            heard[what] = await refused(enclave.channel(request, "Alpha"))
        world.lenders["Alpha"].changes = {}
        assert world.hub.store.tasks.decisions(request.run_id) == {}
        return heard

    assert await at(world, "keys", lie) == [{what: code for what, _, code in SPOILED}]


async def test_a_release_is_signed_by_the_lender_and_its_offer_by_the_enclave(
    world: TaskWorld,
) -> None:
    async def lie(enclave: FakeEnclave, request: RunRequest) -> list[str]:
        codes = []
        for signer in (EVE, key("Beta")):
            world.lenders["Alpha"].signer = signer
            codes.append(await refused(enclave.channel(request, "Alpha")))
        world.lenders["Alpha"].signer = None

        async def shown(message: Message) -> Message | None:
            if message.WhichOneof("body") == "task_channel":
                message.task_channel.data = enclave.offer(request).sign(EVE)
            return None

        world.lenders["Alpha"].hook = shown
        codes.append(await refused(enclave.channel(request, "Alpha")))
        world.lenders["Alpha"].hook = None
        return codes

    assert await at(world, "keys", lie) == [["unknown-signer"] * 3]


async def test_a_runs_keys_go_to_one_key_once(world: TaskWorld) -> None:
    async def lie(enclave: FakeEnclave, request: RunRequest) -> list[str]:
        again = await enclave.channel(request, "Alpha")
        assert again.release == (await enclave.channel(request, "Alpha")).release
        honest = enclave.offer
        other = PrivateKey.generate().public.to_text()
        enclave.offer = lambda request, **_: honest(request, recipient=other)  # type: ignore[method-assign]
        codes = [await refused(enclave.channel(request, site)) for site in ("Alpha", "Beta")]
        enclave.offer = lambda request, **_: honest(request, session="1" * 128)  # type: ignore[method-assign]
        codes.append(await refused(enclave.channel(request, "Alpha")))
        enclave.offer = honest  # type: ignore[method-assign]
        return codes

    assert await at(world, "keys", lie) == [["bad-digest"] * 3]


async def test_outputs_are_the_tasks_and_within_its_limits(
    world: TaskWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohortium.hub.outputs._ARCHIVE_BYTES", 0)
    monkeypatch.setattr("cohortium.hub.outputs.HEADER_BYTES", 0)

    async def lie(enclave: FakeEnclave, request: RunRequest) -> list[str]:
        codes = [
            await refused(enclave.send(request, slot, 0, b"x"))
            for slot in ("images", "../model", "")
        ]
        codes.append(await refused(enclave.send(request, "model", 5, b"x")))
        codes.append(await refused(enclave.send(request, "model", 0, bytes(PIECE_BYTES + 1))))
        for part in range(5):
            await enclave.send(request, "report", part * 65536, bytes(65536))
        codes.append(await refused(enclave.send(request, "report", 5 * 65536, bytes(65536))))
        named = {"run_id": request.run_id, "slot": "model", "path": "a", "data": b"x"}
        codes.append(await refused(enclave.ask(task_output=named)))
        return codes

    assert await at(world, "outputs", lie) == [
        ["task-output"] * 3 + ["malformed-message"] * 2 + ["task-output", "malformed-message"]
    ]


async def ends(world: TaskWorld, number: int) -> str:
    """The code with which a run in Vault One fails."""
    run_id = world.submit(number)
    assert await world.settled(run_id) == "failed"
    run = world.hub.store.runs.get(run_id)
    assert run.info.error is not None
    assert world.hub.store.tasks.outcome(run_id) is None
    assert not world.hub.tasks.outputs.file(run_id, "model").exists()
    await world.enclaves["Vault One"].is_told("task_stop")
    return str(run.info.error["code"])


OUTCOMES: list[tuple[str, dict[str, Any], str]] = [
    ("outputs that were not sent", {"signs": {"model": b"other"}}, "bad-digest"),
    ("an output too many", {"also": {"images": b"x"}}, "bad-digest"),
    ("another run's", {"changes": {"run_id": "f" * 32}}, "wrong-round"),
    ("another study's", {"changes": {"study": "ears"}}, "wrong-round"),
    ("another level's", {"changes": {"level": "L1"}}, "evidence-refused"),
    ("another key's word", {"signer": EVE}, "unknown-signer"),
    ("another key in it", {"changes": {"enclave_key": EVE.public}}, "unknown-signer"),
    ("no release", {"changes": {"releases": {}}}, "bad-digest"),
    ("another release", {"changes": {"releases": {"Alpha": digest_bytes(b"")}}}, "bad-digest"),
    ("a success that failed", {"changes": {"end": "failed"}}, "bad-digest"),
]


async def test_an_outcome_that_lies_fails_the_run(world: TaskWorld) -> None:
    world.link.leave("Vault Two")
    heard = {}
    for number, (what, lies, _) in enumerate(OUTCOMES, 1):
        enclave = world.enclaves["Vault One"] = FakeEnclave("Vault One")
        world.connect("Vault One")
        for name, value in lies.items():
            setattr(enclave, name, value)
        heard[what] = await ends(world, number)
    assert heard == {what: code for what, _, code in OUTCOMES}


async def test_a_node_reads_what_is_for_it_and_publishes_its_own_card(world: TaskWorld) -> None:
    run_id = world.submit()
    await world.settled(run_id)
    links = {name: world.link.join(name, world.sites[name]) for name in SITES}
    asked = Message(task_fetch={"run_id": run_id, "slot": "report"})
    assert (await links["Gamma"].request(asked, 5)).task_piece.size == 20
    assert await refused(links["Alpha"].request(asked, 5)) == "not-found"
    model = Message(task_fetch={"run_id": run_id, "slot": "model"})
    assert await refused(links["Gamma"].request(model, 5)) == "not-authorised"
    assert (
        await refused(links["Alpha"].request(Message(publish_card={"envelope": card("Beta")}), 5))
        == "unknown-signer"
    )
    taken = await links["Alpha"].request(Message(publish_card={"envelope": card("Alpha")}), 5)
    assert taken.WhichOneof("body") == "ack"
