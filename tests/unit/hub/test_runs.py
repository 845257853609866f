from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.fake_sites import (
    NOW,
    SITES,
    World,
    expected_sum,
    key,
    make_hub,
    make_request,
    start_world,
)

from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.hub.config import HubConfig
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated.link_pb2 import Message

ADA = key("Ada")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = HubStore("sqlite://")
    config = HubConfig(gather_timeout_s=0.5, round_timeout_s=0.5)
    runner = ThreadRunner()
    made = await start_world(make_hub(store, runner, config=config))
    yield made
    await made.hub.stop()
    await asyncio.to_thread(runner.close)
    store.close()


def submit(world: World, number: int = 1, **changes: object) -> str:
    request = make_request(world.contract, number, **changes)
    return world.hub.submit(request.sign(ADA), world.hub.user(ADA.public)).id


async def delivered(world: World) -> None:
    await asyncio.sleep(0.1)
    await world.hub.delivered()


async def test_a_run_adds_up_over_all_sites(world: World) -> None:
    world.sites["Beta"].value = 10.0
    run_id = submit(world)
    assert await world.settled(run_id) == "succeeded", world.hub.store.runs.get(run_id).info.error
    outcome = world.hub.result(run_id, world.hub.user(ADA.public))
    assert outcome.result == {
        "sum": expected_sum(values=(1.0, 10.0, 1.0)),
        "n": 3,
        "rounds": 3,
    }
    assert outcome.run.participants == SITES
    assert outcome.run.rounds == 3
    # A check word, a count and two reals of four words each, in each of three rounds.
    assert outcome.run.bytes == dict.fromkeys(SITES, 3 * 8 * (1 + 1 + 2 * 4))
    assert outcome.run.progress == 1.0
    for site in SITES:
        await world.heard(site, "run_end-succeeded")
    await delivered(world)
    assert world.sites["Alpha"].seen[-5:] == [
        "run_prepare",
        "round_request-1",
        "round_request-2",
        "round_request-3",
        "run_end-succeeded",
    ]
    assert world.hub.store.outbox.sites() == frozenset()


async def test_the_same_envelope_twice_is_one_run_and_another_is_a_replay(world: World) -> None:
    run_id = submit(world)
    assert submit(world) == run_id
    await world.settled(run_id)
    with pytest.raises(VerificationError) as caught:
        submit(world, params={"rounds": 2})
    assert caught.value.code == "replayed"
    assert len(world.hub.store.runs.list()) == 1


async def test_a_site_that_refuses_fails_the_run_with_its_name(world: World) -> None:
    async def refuse(message: Message) -> Message | None:
        if message.WhichOneof("body") == "round_request":
            raise PolicyRefusal("too-few-persons", "Only 3 persons.")
        return None

    world.sites["Gamma"].hook = refuse
    run_id = submit(world)
    assert await world.settled(run_id) == "failed"
    error = world.hub.run(run_id, world.hub.user(ADA.public)).error
    assert error is not None
    assert (error["code"], error["details"]["site"]) == ("too-few-persons", "Gamma")
    assert "Gamma" in error["message"]
    with pytest.raises(ConflictError, match="submit a new run"):
        await world.hub.resume(run_id, world.hub.user(ADA.public))
    with pytest.raises(ConflictError) as caught:
        world.hub.result(run_id, world.hub.user(ADA.public))
    assert caught.value.code == "run-failed"
    await world.heard("Alpha", "run_end-failed")
    assert world.sites["Alpha"].seen[-1] == "run_end-failed"


async def test_a_silent_site_fails_the_run_which_goes_on_where_it_was(world: World) -> None:
    silent = True

    async def hook(message: Message) -> Message | None:
        if silent and message.round_request.round == 2:
            await asyncio.sleep(60)
        return None

    world.sites["Beta"].hook = hook
    run_id = submit(world)
    assert await world.settled(run_id) == "failed"
    user = world.hub.user(ADA.public)
    info = world.hub.run(run_id, user)
    assert info.error is not None
    assert (info.error["code"], info.error["details"]["site"]) == ("peer-timeout", "Beta")
    assert info.rounds == 1
    await delivered(world)
    assert not any(kind.startswith("run_end") for kind in world.sites["Alpha"].seen)

    silent = False
    await world.hub.resume(run_id, user)
    assert await world.settled(run_id) == "succeeded"
    assert world.hub.result(run_id, user).result["sum"] == expected_sum()
    assert world.sites["Beta"].seen.count("round_request-1") == 1
    assert world.sites["Beta"].seen.count("run_prepare") == 1
    assert world.hub.run(run_id, user).rounds == 3
    with pytest.raises(ConflictError):
        await world.hub.resume(run_id, user)


async def test_a_run_is_not_resumed_without_a_site_of_its_roster(world: World) -> None:
    async def away(message: Message) -> Message | None:
        if message.WhichOneof("body") == "round_request":
            await asyncio.sleep(60)
        return None

    world.sites["Beta"].hook = away
    run_id = submit(world)
    assert await world.settled(run_id) == "failed"
    world.hub.members.remove("Beta")
    with pytest.raises(ConflictError, match="Beta"):
        await world.hub.resume(run_id, world.hub.user(ADA.public))


async def test_absent_sites_are_left_out_down_to_the_minimum(world: World) -> None:
    world.link.leave("Gamma")
    run_id = submit(world)
    await world.reaches(run_id, "witnessing")
    world.join("Gamma")
    assert await world.settled(run_id) == "succeeded"
    outcome = world.hub.result(run_id, world.hub.user(ADA.public))
    assert outcome.run.participants == ("Alpha", "Beta")
    assert outcome.run.absent == ("Gamma",)
    assert outcome.result["n"] == 2
    world.link.leave("Gamma")
    world.link.leave("Beta")
    run_id = submit(world, 2)
    assert await world.settled(run_id) == "failed"
    error = world.hub.run(run_id, world.hub.user(ADA.public)).error
    assert error is not None
    assert error["code"] == "too-few-sites"
    assert error["details"]["absent"] == ["Beta", "Gamma"]


async def test_cancel_stops_the_wait_at_once_and_tells_the_sites(world: World) -> None:
    async def slow(message: Message) -> Message | None:
        if message.WhichOneof("body") == "round_request":
            await asyncio.sleep(60)
        return None

    world.sites["Alpha"].hook = slow
    run_id = submit(world)
    await delivered(world)
    began = time.monotonic()
    user = world.hub.user(ADA.public)
    assert world.hub.cancel(run_id, user).status == "cancelled"
    assert await world.settled(run_id) == "cancelled"
    assert time.monotonic() - began < 0.4
    with pytest.raises(ConflictError) as caught:
        world.hub.result(run_id, user)
    assert caught.value.code == "run-cancelled"
    with pytest.raises(ConflictError):
        world.hub.cancel(run_id, user)
    await delivered(world)
    assert world.sites["Gamma"].seen[-1] == "run_end-cancelled"
    assert world.hub.store.runs.get(run_id).info.status == "cancelled"


async def _garbage(message: Message) -> Message:
    reply = Message()
    reply.round_reply.run_id = message.round_request.run_id
    reply.round_reply.round = message.round_request.round
    reply.round_reply.masked = b"\x00" * 80
    return reply


async def _short(message: Message) -> Message:
    reply = await _garbage(message)
    reply.round_reply.masked = b"short"
    return reply


async def _other_round(message: Message) -> Message:
    reply = await _garbage(message)
    reply.round_reply.round += 1
    return reply


async def _other_kind(message: Message) -> Message:
    reply = Message()
    reply.ack.SetInParent()
    return reply


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_garbage, "masks-do-not-cancel"),
        (_short, "wrong-length"),
        (_other_round, "wrong-round"),
        (_other_kind, "unexpected-message"),
    ],
)
async def test_what_a_hostile_site_sends_fails_the_run(
    world: World, answer: object, code: str
) -> None:
    async def hook(message: Message) -> Message | None:
        if message.WhichOneof("body") != "round_request":
            return None
        made: Message = await answer(message)  # type: ignore[operator]
        return made

    world.sites["Beta"].hook = hook
    run_id = submit(world)
    assert await world.settled(run_id) == "failed"
    error = world.hub.run(run_id, world.hub.user(ADA.public)).error
    assert error is not None
    assert error["code"] == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"computation": "glm"}, "not-permitted"),
        ({"computation": "test.other"}, "not-found"),
        ({"params": {"rounds": "many"}}, "bad-input"),
        ({"contract_digest": "sha256:" + "0" * 64}, "not-found"),
        ({"study": "other"}, "bad-digest"),
        ({"issued_at": NOW - timedelta(hours=3), "valid_until": NOW - timedelta(hours=2)},
         "stale-request"),
        ({"researcher": key("Eve").public}, "unknown-signer"),
    ],
)  # fmt: skip
async def test_a_request_outside_the_contract_is_refused_before_any_site_hears_of_it(
    world: World, changes: dict[str, Any], code: str
) -> None:
    await delivered(world)
    before = list(world.sites["Alpha"].seen)
    with pytest.raises(CohortiumError) as caught:
        submit(world, **changes)
    assert caught.value.code == code
    assert world.hub.store.runs.list() == []
    assert world.sites["Alpha"].seen == before


async def test_a_removed_researcher_submits_nothing(world: World) -> None:
    user = world.hub.user(ADA.public)
    world.hub.members.remove_user("Ada")
    with pytest.raises(PolicyRefusal) as caught:
        world.hub.submit(make_request(world.contract).sign(ADA), user)
    assert caught.value.code == "not-authorised"
    with pytest.raises(PolicyRefusal):
        world.hub.user(ADA.public)


async def test_who_is_not_a_recipient_sees_no_run(world: World) -> None:
    run_id = submit(world)
    await world.settled(run_id)
    world.hub.members.add_user("Eve", key("Eve").public)
    eve = world.hub.user(key("Eve").public)
    assert world.hub.runs(None, eve) == []
    with pytest.raises(InputError) as caught:
        world.hub.result(run_id, eve)
    assert caught.value.code == "not-found"
    assert [run.id for run in world.hub.runs("lung", world.hub.user(ADA.public))] == [run_id]


async def test_events_are_numbered_by_round(world: World) -> None:
    run_id = submit(world)
    events = [e async for e in world.hub.follow(run_id, world.hub.user(ADA.public), 0)]
    assert [e.number for e in events] == sorted(e.number for e in events)
    computing = [e.number for e in events if e.info is not None and e.info.status == "running"]
    assert computing == sorted(set(computing))
    assert events[-1].kind == "done"
    assert events[-1].number == 4
    again = [e async for e in world.hub.follow(run_id, world.hub.user(ADA.public), 3)]
    assert [e.kind for e in again] == ["done"]
