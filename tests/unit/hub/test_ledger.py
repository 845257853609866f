"""The hub's ledger with made-up witnesses: finality, who is missing, who was away, who says no."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.fake_sites import (
    SITES,
    World,
    enrol_everyone,
    key,
    make_hub,
    make_request,
    start_world,
    store_url,
)

from cohortium.core.canonical import canonical, digest_bytes
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    IntegrityFailure,
    PeerError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.hub import ledger as ledger_module
from cohortium.hub import witnesses as witnesses_module
from cohortium.hub.events import Event
from cohortium.hub.ledger_notes import note
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.ledger.entry import (
    Founded,
    PolicyChanged,
    RunDecided,
    RunDenied,
    RunEnded,
    commitment,
    parse_entry,
)
from cohortium.ledger.members import require_final
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import error_message
from cohortium.sdk.receipt import verify_result

ADA = key("Ada")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for less."""
    monkeypatch.setattr(ledger_module, "LINGER_S", 0.02)
    monkeypatch.setattr(ledger_module, "ANNOUNCE_S", 0.02)
    monkeypatch.setattr(ledger_module, "ASK_AGAIN_S", 0.1)
    monkeypatch.setattr(ledger_module, "RETRY_S", 0.05)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store, runner = HubStore("sqlite://"), ThreadRunner()
    made = await start_world(make_hub(store, runner))
    yield made
    await made.hub.stop()
    await asyncio.to_thread(runner.close)
    store.close()


def submit(world: World, number: int = 1, **changes: object) -> str:
    request = make_request(world.contract, number, **changes)
    return world.hub.submit(request.sign(ADA), world.hub.user(ADA.public)).id


def policy(number: int, member: str = "Alpha") -> PolicyChanged:
    return PolicyChanged(member=member, policy=digest_bytes(str(number).encode()))


def say(world: World, *numbers: int) -> None:
    for number in numbers:
        world.hub.store.members.policy(policy(number))


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def final_size(world: World) -> int:
    final = world.hub.store.ledger.newest_final()
    return 0 if final is None else final.size


async def all_final(world: World) -> int:
    """Wait until everything is final; the size."""
    ledger = world.hub.store.ledger
    await until(lambda: not ledger.pending() and ledger.size() == final_size(world) > 0)
    return ledger.size()


async def test_every_witness_has_every_entry_and_the_final_checkpoint(world: World) -> None:
    say(world, 1)
    size = await all_final(world)
    await until(lambda: all(site.witness.final for site in world.sites.values()))
    ledger = world.hub.store.ledger
    entries = ledger.entries(0, 1000)
    for site in world.sites.values():
        assert site.witness.entries == entries
    first = parse_entry(entries[0]).fact
    assert first == Founded(name="Test", fingerprint=world.hub.consortium.fingerprint)
    final = ledger.checkpoint(size)
    keys = {name: key(name).public for name in SITES}
    require_final(final.note, world.hub.log.verifier, ledger.members_at(size), keys)


async def test_a_run_is_witnessed_before_its_result_is_given(world: World) -> None:
    run_id = submit(world)
    assert await world.settled(run_id) == "succeeded"
    answer = world.hub.result(run_id, world.hub.user(ADA.public)).to_json()
    receipt = verify_result(
        answer,
        run_id=run_id,
        contract=world.contract,
        ledger_key=world.hub.consortium.ledger_key,
    )
    fact = parse_entry(receipt.entry.encode()).fact
    assert isinstance(fact, RunEnded)
    assert fact.result == commitment(bytes.fromhex(answer["nonce"]), canonical(answer["result"]))
    (rounds,) = fact.rounds
    assert (rounds.first, rounds.last, set(rounds.sites)) == (1, 3, set(SITES))
    ((_, decided),) = world.hub.store.ledger.about("run.decided", run_id)
    sites = parse_entry(decided).fact
    assert isinstance(sites, RunDecided)
    advert = world.sites["Beta"].requests[run_id][2]
    assert sites.sites["Beta"].statement == digest_bytes(advert)


async def test_without_enough_witnesses_a_run_says_whom_it_waits_for(world: World) -> None:
    user = world.hub.user(ADA.public)
    for name in ("Beta", "Gamma"):
        world.sites[name].witness.signs = False
    run_id = submit(world)
    await world.reaches(run_id, "witnessing")
    await until(lambda: "Witnessed by Alpha; missing: Beta, Gamma" in message(world, run_id))
    with pytest.raises(ConflictError, match="missing: Beta, Gamma") as caught:
        world.hub.result(run_id, user)
    assert caught.value.code == "wrong-state"
    assert [run.status for run in world.hub.runs(None, user)] == ["witnessing"]
    with pytest.raises(ConflictError):
        world.hub.cancel(run_id, user)
    # Two of three are not more than two thirds.
    world.sites["Beta"].witness.signs = True
    world.hub.on_connect("Beta")
    await until(lambda: "Witnessed by Alpha, Beta; missing: Gamma" in message(world, run_id))
    world.sites["Gamma"].witness.signs = True
    assert await world.settled(run_id) == "succeeded"  # who is connected is asked again
    assert world.hub.result(run_id, user).receipt is not None


def message(world: World, run_id: str) -> str:
    return world.hub.run(run_id, world.hub.user(ADA.public)).message


async def test_followers_hear_of_the_wait_and_of_its_end(world: World) -> None:
    world.sites["Gamma"].witness.signs = False
    run_id = submit(world)
    seen: list[Event] = []
    async for event in world.hub.follow(run_id, world.hub.user(ADA.public), 0):
        seen.append(event)
        if event.info is not None and "missing: Gamma." in event.info.message:
            world.sites["Gamma"].witness.signs = True
    statuses = [event.info.status for event in seen if event.info is not None]
    assert statuses[-1] == "succeeded"
    assert statuses[-2] == "witnessing"
    assert [event.kind for event in seen[-2:]] == ["progress", "done"]


async def test_failed_and_cancelled_runs_need_not_wait(world: World) -> None:
    for site in world.sites.values():
        site.witness.signs = False

    async def no(message: Message) -> Message | None:
        if message.WhichOneof("body") != "round_request":
            return None
        return error_message(PolicyRefusal("not-permitted", "No."))

    world.sites["Beta"].hook = no
    assert await world.settled(submit(world)) == "failed"
    world.sites["Beta"].hook = None

    async def slow(message: Message) -> Message | None:
        if message.WhichOneof("body") == "round_request":
            await asyncio.sleep(60)
        return None

    world.sites["Alpha"].hook = slow
    world.sites["Alpha"].seen.clear()
    run_id = submit(world, 2)
    await until(lambda: "round_request-1" in world.sites["Alpha"].seen)
    world.hub.cancel(run_id, world.hub.user(ADA.public))
    assert await world.settled(run_id) == "cancelled"
    ledger = world.hub.store.ledger
    await until(lambda: ledger.about("run.ended", run_id))
    ends = [parse_entry(ledger.about("run.ended", f"{n:032x}")[0][1]).fact for n in (1, 2)]
    told = [(end.status, end.code) for end in ends if isinstance(end, RunEnded)]
    assert told == [("failed", "not-permitted"), ("cancelled", None)]


async def test_the_participants_of_the_contract_must_have_witnessed_too(world: World) -> None:
    """Members that the operator invents gain nothing."""
    for number in range(6):
        name = f"Invented {number}"
        world.hub.members.add(name, key(name).public)
        site = type(world.sites["Alpha"])(name, world.contract)
        world.sites[name] = site
        world.join(name)
    world.sites["Gamma"].witness.signs = False
    run_id = submit(world)
    await world.reaches(run_id, "witnessing")
    await until(lambda: final_size(world) == world.hub.store.ledger.size())
    await until(lambda: "3 of 3 participants" in message(world, run_id))
    with pytest.raises(ConflictError, match="missing: Gamma"):
        world.hub.result(run_id, world.hub.user(ADA.public))
    world.sites["Gamma"].witness.signs = True
    world.hub.on_connect("Gamma")
    assert await world.settled(run_id) == "succeeded"


async def test_a_member_that_was_away_gets_all_it_missed_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await all_final(world)
    world.link.leave("Gamma")
    ledger = world.hub.store.ledger
    for numbers in (range(49), range(49, 50)):
        say(world, *numbers)
        await until(lambda: not ledger.pending())
    monkeypatch.setattr(witnesses_module, "MAX_ENTRIES", 20)
    gamma = world.sites["Gamma"].witness
    begun = len(gamma.entries)
    gamma.shown.clear()
    world.join("Gamma")
    await all_final(world)
    assert gamma.entries == ledger.entries(0, 1000)
    on_the_way = [size for size in gamma.shown if size < ledger.size()]
    assert on_the_way == [begun + 20, begun + 40]


async def test_a_member_that_lost_its_copy_gets_it_all_again(world: World) -> None:
    await all_final(world)
    beta = world.sites["Beta"].witness
    beta.entries.clear()
    beta._tiles.clear()
    world.hub.on_connect("Beta")
    say(world, 1)
    size = await all_final(world)
    await until(lambda: len(beta.entries) == size)


async def test_a_suspended_member_is_not_asked_and_not_counted(world: World) -> None:
    await all_final(world)
    world.hub.members.suspend("Gamma")
    world.sites["Gamma"].witness.signs = False
    size = await all_final(world)
    assert set(world.hub.store.ledger.members_at(size)) == {"Alpha", "Beta"}


@pytest.mark.parametrize(
    "answer",
    [
        lambda site, reply: error_message(VerificationError("ledger-fork", "Two ledgers.")),
        lambda site, reply: error_message(PeerError("peer-failed", "Broken.")),
        lambda site, reply: _line(reply, b"garbage"),
        lambda site, reply: _line(reply, b"\xff\n"),
        lambda site, reply: _line(reply, _foreign(reply.cosignature.line)),
        lambda site, reply: _sized(reply, 10**6),
        lambda site, reply: Message(),
    ],
    ids=["alarm", "failure", "garbage", "no text", "another's signature", "ahead", "nothing"],
)
async def test_a_member_that_does_not_cosign_keeps_only_its_own_signature(
    world: World, answer: Callable[..., Message], caplog: pytest.LogCaptureFixture
) -> None:
    await all_final(world)
    gamma = world.sites["Gamma"]
    honest = gamma.witness.answer
    gamma.witness.answer = lambda update: answer(gamma, honest(update))  # type: ignore[method-assign]
    before = final_size(world)
    with caplog.at_level(logging.WARNING):
        say(world, 1)
        await until(lambda: "Gamma has not witnessed" in caplog.text)
    assert final_size(world) == before
    gamma.witness.answer = honest  # type: ignore[method-assign]
    gamma.witness.entries.clear()
    gamma.witness._tiles.clear()
    world.hub.on_connect("Gamma")
    assert await all_final(world) > before


def _line(reply: Message, line: bytes) -> Message:
    reply.cosignature.line = line
    return reply


def _foreign(line: bytes) -> bytes:
    return line.replace(b"Gamma", b"Alpha")


def _sized(reply: Message, size: int) -> Message:
    reply.cosignature.size = size
    reply.cosignature.line = b""
    return reply


async def test_a_slow_member_that_is_not_needed_holds_nobody_up(world: World) -> None:
    for name in ("Delta", "Sigma"):
        world.hub.members.add(name, key(name).public)
        world.sites[name] = type(world.sites["Alpha"])(name, world.contract)
        world.join(name)
    await all_final(world)

    async def never(message: Message) -> Message:
        await asyncio.sleep(60)
        raise RuntimeError

    world.sites["Sigma"].handle = never  # type: ignore[method-assign]
    for number in (1, 2):
        run_id = submit(world, number)
        assert await world.settled(run_id, 5.0) == "succeeded"


async def test_a_database_that_is_away_for_a_moment_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await all_final(world)
    store = world.hub.store.ledger
    append, failures = store.append_in, [OSError("disk full"), OSError("disk full")]

    def broken(*args: Any) -> object:
        if failures:
            raise failures.pop()
        return append(*args)

    monkeypatch.setattr(store, "append_in", broken)
    with caplog.at_level(logging.ERROR):
        run_id = submit(world)
        assert await world.settled(run_id) == "succeeded"
    assert "cannot put facts on the ledger" in caplog.text
    assert not failures


async def test_facts_of_another_process_are_noticed(tmp_path: Path) -> None:
    first = HubStore(store_url(tmp_path))
    hub = make_hub(first)
    enrol_everyone(hub)
    world = await start_world(hub)
    await hub.ledger.close()
    await hub.ledger.start(world.link, watch=True)
    await all_final(world)
    operator = HubStore(store_url(tmp_path))
    with operator._database.write() as c:
        note(c, policy(7))
    assert operator.ledger.pending()
    await until(lambda: not operator.ledger.pending())
    await all_final(world)
    assert parse_entry(operator.ledger.entries(0, 1000)[-1]).fact == policy(7)
    operator.close()
    await hub.stop()
    first.close()


async def test_a_hub_that_starts_again_has_the_rest_witnessed(tmp_path: Path) -> None:
    store, runner = HubStore(store_url(tmp_path)), ThreadRunner()
    world = await start_world(make_hub(store, runner))
    world.sites["Gamma"].witness.signs = False
    run_id = submit(world)
    await world.reaches(run_id, "witnessing")
    await world.hub.stop()
    world.sites["Gamma"].witness.signs = True
    again = make_hub(store, runner)
    await again.start(world.link, watch=False)
    world.hub = again
    assert await world.settled(run_id) == "succeeded"
    await again.stop()
    await asyncio.to_thread(runner.close)
    store.close()


async def test_a_ledger_that_another_key_signed_is_not_gone_on_with(tmp_path: Path) -> None:
    store = HubStore(store_url(tmp_path))
    world = await start_world(make_hub(store))
    await all_final(world)
    await world.hub.stop()
    other = type(world.hub)(store, consortium=world.hub.consortium, runner=ThreadRunner())
    with pytest.raises(IntegrityFailure) as caught:
        await other.start(world.link, watch=False)
    assert caught.value.code == "broken-store"
    await other.stop()
    store.close()


async def test_a_denied_call_is_on_the_ledger(world: World) -> None:
    cases: list[tuple[int, dict[str, object], str]] = [
        (1, {"computation": "glm"}, "not-permitted"),
        (2, {"contract_digest": "sha256:" + "0" * 64}, "not-found"),
        (3, {"params": {"rounds": "many"}}, "bad-input"),
    ]
    ledger = world.hub.store.ledger
    for number, changes, code in cases:
        with pytest.raises(CohortiumError):
            submit(world, number, **changes)
        run_id = f"{number:032x}"
        await until(functools.partial(ledger.about, "run.denied", run_id))
        ((_, entry),) = ledger.about("run.denied", run_id)
        fact = parse_entry(entry).fact
        assert isinstance(fact, RunDenied)
        assert fact.code == code
        (envelope,) = ledger.documents(run_id)
        assert fact.request == digest_bytes(envelope)


async def test_a_request_that_another_researcher_signed_is_denied_in_that_name(
    world: World,
) -> None:
    world.hub.members.add_user("Bob", key("Bob").public)
    ada = world.hub.user(ADA.public)
    bobs = make_request(world.contract, 1, researcher=key("Bob").public)
    strangers = make_request(world.contract, 2, researcher=key("Eve").public)
    for request, signer in ((bobs, "Bob"), (strangers, "Eve")):
        with pytest.raises(VerificationError):
            world.hub.submit(request.sign(key(signer)), ada)
    with pytest.raises(CohortiumError):
        world.hub.submit(b"garbage", ada)
    ledger = world.hub.store.ledger
    await until(lambda: ledger.about("run.denied", bobs.run_id))
    fact = parse_entry(ledger.about("run.denied", bobs.run_id)[0][1]).fact
    assert isinstance(fact, RunDenied)
    assert (fact.researcher, fact.code) == (key("Bob").public, "unknown-signer")
    assert ledger.about("run.denied", strangers.run_id) == []
