"""The link inside one process."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.consortium import Answers, own_part, round_request

from cohortium.errors import PeerError, PolicyRefusal
from cohortium.link._generated.link_pb2 import Message, RunEnd
from cohortium.link.codec import error_message
from cohortium.link.memory import MemoryLink
from cohortium.link.ports import Addressed


async def test_both_directions_and_leaving() -> None:
    hub, node = Answers(), Answers()
    link = MemoryLink(lambda _site: hub)
    uplink = link.join("A", node)
    assert link.connected() == {"A"}
    assert uplink.connected
    reply = await link.request("A", round_request(run_id="a" * 32), 1)
    assert reply.round_reply.run_id == "a" * 32
    await uplink.request(Message(run_end=RunEnd()), 1)
    assert (node.seen, hub.seen) == (["round_request"], ["run_end"])
    link.leave("A")
    assert link.connected() == frozenset()
    with pytest.raises(PeerError, match="not connected"):
        await link.request("A", round_request(), 1)
    with pytest.raises(PeerError, match="away"):
        await uplink.request(Message(run_end=RunEnd()), 1)


async def test_handler_gets_its_own_copy() -> None:
    async def change(message: Message) -> Message:
        message.round_request.run_id = "changed"
        return Message(run_end=RunEnd())

    link = MemoryLink(lambda _site: Answers())
    link.join("A", Answers(change))
    request = round_request(run_id="a" * 32)
    await link.request("A", request, 1)
    assert request.round_request.run_id == "a" * 32


async def test_errors_and_timeouts() -> None:
    async def respond(message: Message) -> Message:
        if message.WhichOneof("body") == "run_end":
            await asyncio.sleep(10)
        return error_message(PolicyRefusal("run-limit", "Used up."))

    link = MemoryLink(lambda _site: Answers())
    link.join("A", Answers(respond))
    with pytest.raises(PolicyRefusal):
        await link.request("A", round_request(), 1)
    with pytest.raises(PeerError) as caught:
        await link.request("A", Message(run_end=RunEnd()), 0.05)
    assert caught.value.code == "peer-timeout"


async def test_a_site_gets_its_own_part_of_a_request() -> None:
    asked: list[Message] = []

    async def keep(message: Message) -> Message:
        asked.append(message)
        return Message(run_end=RunEnd())

    link = MemoryLink(lambda _site: Answers())
    link.join("A", Answers(keep))
    common = round_request(run_id="a" * 32)
    for part in (b"\x01", b"\x02"):
        await link.request("A", Addressed(common, own_part(part)), 1)
    assert [m.round_request.run_id for m in asked] == ["a" * 32] * 2
    assert [m.round_request.active for m in asked] == [b"\x01", b"\x02"]
    assert not common.round_request.active
