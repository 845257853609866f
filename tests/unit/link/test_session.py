"""Requests and replies over a connection made of two queues."""

from __future__ import annotations

import asyncio
import itertools
import os

import numpy as np
import pytest
from tests.support.consortium import Answers, round_request

from cohortium.core.rounds import State
from cohortium.errors import PeerError, ProtocolError
from cohortium.link import session as session_module
from cohortium.link._generated.link_pb2 import Message, RunEnd
from cohortium.link.buffers import Buffers
from cohortium.link.codec import round_reply
from cohortium.link.frames import cut
from cohortium.link.ports import Reply
from cohortium.link.session import (
    Disconnected,
    Inbox,
    Route,
    Session,
    answer,
    encode,
    new_ids,
    parse_message,
)


class Pair:
    """Two sessions, each other's peer."""

    def __init__(self, left: Answers, right: Answers) -> None:
        queues: list[asyncio.Queue[object]] = [asyncio.Queue(), asyncio.Queue()]
        self.queues = queues
        self.frames: list[bytes] = []

        async def to_right(frame: bytes) -> None:
            self.frames.append(frame)
            await queues[0].put(frame)
            await asyncio.sleep(0)

        async def to_left(frame: bytes) -> None:
            await queues[1].put(frame)

        self.left = Session(queues[1].get, to_right, ids=itertools.count(1), buffers=Buffers())
        self.right = Session(queues[0].get, to_left, ids=itertools.count(1), buffers=Buffers())
        self.inboxes = [Inbox(left), Inbox(right)]
        self.serving = [
            asyncio.create_task(self.left.serve(self.inboxes[0])),
            asyncio.create_task(self.right.serve(self.inboxes[1])),
        ]

    async def close(self) -> None:
        for queue in self.queues:
            await queue.put(None)
        await asyncio.gather(*self.serving, return_exceptions=True)
        for session, inbox in zip((self.left, self.right), self.inboxes, strict=True):
            await session.close()
            await inbox.close()


async def test_large_and_small_messages_take_turns() -> None:
    pair = Pair(Answers(), Answers())
    data = os.urandom(8_000_000)
    large = round_request(State({}, {"w": np.frombuffer(data, dtype="<f8")}))
    small = round_request()
    replies = await asyncio.gather(
        pair.left.request(encode(large), 1), pair.left.request(encode(small), 2)
    )
    assert replies[0].round_reply.masked == data
    sizes = [len(frame) for frame in pair.frames]
    assert min(sizes) == sizes[1]  # after the first frame of the large one, not after its last
    await pair.close()


async def test_end_of_the_connection_ends_what_waits() -> None:
    async def never(_message: Message) -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    pair = Pair(Answers(), Answers(never))
    waiting = asyncio.create_task(pair.left.request(encode(round_request()), 1))
    await asyncio.sleep(0.01)
    await pair.close()
    with pytest.raises(Disconnected):
        await waiting
    with pytest.raises(Disconnected):
        await pair.left.request(encode(round_request()), 2)
    assert isinstance(pair.serving[0].exception(), Disconnected)


async def test_late_reply_is_ignored() -> None:
    pair = Pair(Answers(), Answers())
    await pair.right.send(encode(Message(run_end=RunEnd())), in_reply_to=999)
    assert (await pair.left.request(encode(round_request()), 1)).in_reply_to == 1
    await pair.close()


async def test_message_without_id_ends_the_session() -> None:
    pair = Pair(Answers(), Answers())
    for frame in cut(1, b"", encode(Message(run_end=RunEnd(run_id="x")))):
        await pair.queues[0].put(frame)
    with pytest.raises(ProtocolError, match="without id"):
        await pair.serving[1]
    await pair.close()


async def test_too_many_requests_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_REQUESTS", 3)

    async def never(_message: Message) -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    pair = Pair(Answers(), Answers(never))
    for number in range(1, 5):
        await pair.left.send(encode(round_request()), number=number)
    with pytest.raises(ProtocolError, match="too many requests"):
        await pair.serving[1]
    await pair.close()


async def test_reply_that_is_too_large_becomes_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(_message: Message) -> Reply:
        return round_reply("", 1, bytes(2000))

    pair = Pair(Answers(), Answers(large))
    monkeypatch.setattr("cohortium.link.frames.MAX_MESSAGE_BYTES", 1000)
    reply = await pair.left.request(encode(round_request()), 1)
    assert b"larger than 2 GiB" in reply.error.json
    await pair.close()


async def test_request_that_is_too_large_fails_at_the_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair(Answers(), Answers())
    monkeypatch.setattr("cohortium.link.frames.MAX_MESSAGE_BYTES", 10)
    with pytest.raises(ProtocolError, match="larger than 2 GiB"):
        await pair.left.request(encode(round_request()), 1)
    await pair.close()


async def test_inbox_answers_a_repeated_request_once_until_delivered() -> None:
    handler = Answers()
    inbox = Inbox(handler)
    request = round_request()
    request.id = 5
    first, again = inbox.answer(request), inbox.answer(request)
    assert first is again
    await first
    assert inbox.answer(request) is first
    inbox.delivered(5)
    await inbox.answer(request)
    assert handler.seen == ["round_request"] * 2


async def test_inbox_keeps_few_undelivered_replies() -> None:
    inbox = Inbox(Answers())
    for number in range(1, 50):
        request = round_request()
        request.id = number
        await inbox.answer(request)
    assert len(inbox._answers) <= session_module.KEPT_REPLIES


async def test_unexpected_failure_is_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_message: Message) -> Message:
        raise ValueError("patient 4711")

    reply = await answer(Answers(fail), round_request())
    assert isinstance(reply, Message)
    assert b"peer-failed" in reply.error.json
    assert "ValueError" in caplog.text
    assert "4711" not in caplog.text + reply.error.json.decode()


async def test_route_waits_and_gives_up() -> None:
    route = Route("Site A")
    with pytest.raises(PeerError, match="Site A did not answer"):
        await route.request(encode(round_request()), 0.02)
    assert not route.up
    pair = Pair(Answers(), Answers())
    pair.left.closed = True
    route.open(pair.left)
    with pytest.raises(PeerError) as caught:
        await route.request(encode(round_request()), 0.05)
    assert caught.value.code == "peer-timeout"
    other = Session(pair.queues[1].get, pair.left._write, ids=new_ids(), buffers=Buffers())
    route.open(other)
    states = []
    for session in (pair.left, other):
        route.shut(session)
        states.append(route.up)
    assert states == [True, False]
    await pair.close()


def test_ids_belong_to_the_link() -> None:
    with pytest.raises(RuntimeError, match="set by the link"):
        encode(Message(id=1))
    assert next(new_ids()) != next(new_ids())


def test_bytes_that_are_no_message() -> None:
    with pytest.raises(ProtocolError):
        parse_message(b"\xff\xff\xff")


async def test_buffers_are_given_back_when_idle() -> None:
    buffers = Buffers(idle_s=0.01)
    waiting = []
    for size_bytes in (10, 10_000_000, 10_000_000):
        buffers.seen(size_bytes)
        waiting.append(buffers._timer is not None)
    await asyncio.sleep(0.05)
    waiting.append(buffers._timer is not None)
    buffers.release()
    assert waiting == [False, True, True, False]
