"""Requests and replies in both directions over one connection, and over the next one after it.

    Session   one connection: frames in and out, replies matched to requests
    Inbox     the peer's requests that are being answered; at a node it outlives the connection,
              so that a request sent again after a reconnect gets the answer already under way
    Route     the way to one peer, up or down: requests wait for it and are sent again

Nothing here knows gRPC: a session is given a `read` and a `write` of bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import traceback
from collections.abc import Awaitable, Callable, Iterator

from google.protobuf.message import DecodeError

from cohortium.errors import CohortiumError, PeerError, ProtocolError
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.buffers import Buffers
from cohortium.link.codec import error_message, raise_if_error
from cohortium.link.frames import MAX_MESSAGE_BYTES, Joiner, cut
from cohortium.link.ports import Handler, LargeReply, Reply

log = logging.getLogger(__name__)

PROTOCOL = "cohortium-link/1"
MAX_REQUESTS = 256
KEPT_REPLIES = 4


class Disconnected(Exception):
    """The connection ended; a `Route` waits for the next one."""


def parse_message(data: bytes | memoryview) -> Message:
    """Parse untrusted bytes.

    Raises:
        ProtocolError: ``malformed-message``; never anything else.
    """
    try:
        return Message.FromString(bytes(data))
    except DecodeError as error:
        raise ProtocolError(
            "malformed-message", "The bytes are not a message of this protocol."
        ) from error


def encode(message: Message) -> bytes:
    """The bytes of a message without its ids, which are the link's affair."""
    if message.id or message.in_reply_to:
        raise RuntimeError("the ids of a message are set by the link")
    return message.SerializeToString()


def new_ids() -> Iterator[int]:
    """Ascending ids from a random start: a restarted process does not use the same again."""
    return itertools.count(int.from_bytes(os.urandom(6), "big") + 1)


async def answer(handler: Handler, message: Message) -> Reply:
    """The handler's reply; a failure becomes an error message.

    An unexpected exception is logged by type and place only: its text may hold a person's data.
    """
    try:
        return await handler.handle(message)
    except CohortiumError as error:
        return error_message(error)
    except Exception as error:  # noqa: BLE001 - the peer gets an answer whatever happens here
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.error(
            "%s failed: %s at %s:%s",
            message.WhichOneof("body"),
            type(error).__name__,
            where.filename,
            where.lineno,
        )
        return error_message(
            PeerError("peer-failed", "The other process failed on this request; see its log.")
        )


class Inbox:
    """The requests of one peer that are being answered or whose answers are not delivered."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._answers: dict[int, asyncio.Task[Reply]] = {}

    def answer(self, message: Message) -> asyncio.Task[Reply]:
        """The answer to a request; a request that was asked before is not handled twice."""
        task = self._answers.get(message.id)
        if task is None:
            undelivered = [number for number, old in self._answers.items() if old.done()]
            for number in undelivered[: -(KEPT_REPLIES - 1)]:
                del self._answers[number]
            if len(self._answers) >= MAX_REQUESTS:
                raise ProtocolError("unexpected-message", "The peer sent too many requests.")
            task = asyncio.create_task(answer(self._handler, message))
            self._answers[message.id] = task
        return task

    def delivered(self, number: int) -> None:
        """Forget a request whose reply was sent."""
        self._answers.pop(number, None)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._answers.values())
        self._answers.clear()
        await cancel(tasks)


async def cancel(tasks: list[asyncio.Task[Reply]] | list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Session:
    """One connection.

    Args:
        read: The next frame, or something that is not bytes at the end.
        write: Sends a frame; waits while the peer's window is full.
        ids: Message ids of this side.
        buffers: Told about the size of each message.
        max_message_bytes: Most bytes held for the peer's unfinished messages.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[object]],
        write: Callable[[bytes], Awaitable[None]],
        *,
        ids: Iterator[int],
        buffers: Buffers,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._read = read
        self._write = write
        self._ids = ids
        self._buffers = buffers
        self._joiner = Joiner(max_message_bytes)
        self._turn = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False

    async def receive(self) -> Message:
        """The next whole message.

        Raises:
            Disconnected: At the end.
            ProtocolError: ``malformed-message``; the connection cannot go on.
        """
        while True:
            raw = await self._read()
            if not isinstance(raw, bytes):
                raise Disconnected
            whole = self._joiner.feed(raw)
            if whole is not None:
                self._buffers.seen(len(whole))
                message = parse_message(whole)
                if not message.id:
                    raise ProtocolError("malformed-message", "The peer sent a message without id.")
                return message

    async def send(
        self, body: bytes | bytearray, *, head: bytes = b"", number: int = 0, in_reply_to: int = 0
    ) -> None:
        """Send an encoded message; frames of messages that are sent at one time take turns.

        Args:
            body: See `encode`.
            head: What the encoding begins with, where `body` is only the rest of it.
            number: Its id; 0: the next free one.
            in_reply_to: The id of the request that it answers.
        """
        number = number or next(self._ids)
        self._buffers.seen(len(body))
        # Protobuf messages concatenate: the ids are added without copying or changing the body.
        prefix = Message(id=number, in_reply_to=in_reply_to).SerializeToString()
        for frame in cut(number, prefix + head, body):
            async with self._turn:
                await self._write(frame)

    async def reply(self, reply: Reply, number: int) -> None:
        """Send the reply to the request `number`."""
        if isinstance(reply, LargeReply):
            await self.send(reply.tail, head=reply.head, in_reply_to=number)
        else:
            await self.send(encode(reply), in_reply_to=number)

    async def serve(self, inbox: Inbox) -> None:
        """Deliver replies and answer requests until the connection ends.

        Raises:
            Disconnected: At the end.
            ProtocolError: The peer does not keep to the protocol.
        """
        while True:
            message = await self.receive()
            if message.in_reply_to:
                waiting = self._waiting.pop(message.in_reply_to, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            else:
                self._spawn(self._reply(inbox.answer(message), inbox, message.id))

    async def request(self, body: bytes, number: int, head: bytes = b"") -> Message:
        """Send the encoded request ``head + body`` under the id `number`, wait for its reply.

        Raises:
            Disconnected: The connection ended first.
        """
        if self.closed:
            raise Disconnected
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            # In a task of its own: cancelling a write in the middle would break the connection.
            self._spawn(self._send_request(body, number, head, waiting))
            reply: Message = await waiting
        finally:
            self._waiting.pop(number, None)
        return reply

    async def close(self, error: CohortiumError | None = None) -> None:
        """End the waiting requests, with `error` or as disconnected, and all sending."""
        self.closed = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error or Disconnected())
        await cancel(list(self._tasks))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_request(
        self, body: bytes, number: int, head: bytes, waiting: asyncio.Future[Message]
    ) -> None:
        try:
            await self.send(body, head=head, number=number)
        except (Disconnected, CohortiumError) as error:
            if not waiting.done():
                waiting.set_exception(error)

    async def _reply(self, task: asyncio.Task[Reply], inbox: Inbox, number: int) -> None:
        reply = await asyncio.shield(task)
        try:
            await self.reply(reply, number)
        except Disconnected:
            return  # asked again after the reconnect
        except ProtocolError as error:
            await self.reply(error_message(error), number)
        inbox.delivered(number)


class Route:
    """The way to one peer."""

    def __init__(self, peer: str, ids: Iterator[int] | None = None) -> None:
        self._peer = peer
        self.ids = ids or new_ids()
        self._session: Session | None = None
        self._arrived = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._session is not None

    def open(self, session: Session) -> None:
        """Requests go this way from now on."""
        self._session = session
        self._arrived.set()

    def shut(self, session: Session) -> None:
        """`session` is over; nothing happens where another one took its place."""
        if self._session is session:
            self._session = None
            self._arrived.clear()

    async def request(self, body: bytes, timeout_s: float, head: bytes = b"") -> Message:
        """Wait for the peer, send ``head + body``, wait for the reply; again after a reconnect.

        Raises:
            PeerError: ``peer-unreachable`` or ``peer-timeout``.
            CohortiumError: What the peer answered with ``Message.error``.
        """
        number = next(self.ids)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._arrived.wait()
                    session = self._session
                    if session is None or session.closed:
                        await asyncio.sleep(0.01)
                        continue
                    try:
                        reply = await session.request(body, number, head)
                    except Disconnected:
                        continue
                    break
        except TimeoutError as error:
            code = "peer-timeout" if self.up else "peer-unreachable"
            raise PeerError(
                code, f"{self._peer} did not answer within {timeout_s:g} seconds.", peer=self._peer
            ) from error
        raise_if_error(reply)
        return reply
