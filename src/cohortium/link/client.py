"""A node's end of the link: it dials, and dials again."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from cohortium.errors import CohortiumError, ProtocolError
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.buffers import Buffers
from cohortium.link.codec import expect
from cohortium.link.frames import MAX_MESSAGE_BYTES
from cohortium.link.ports import Handler, Uplink
from cohortium.link.session import Disconnected, Inbox, Route, Session, encode
from cohortium.link.tls import (
    METHOD,
    SERVICE,
    Keepalive,
    TlsFiles,
    channel_credentials,
    channel_options,
)

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 20.0
STATUS_TIMEOUT_S = 1.0
STEADY_S = 5.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter (Brooker 2015): a delay between 0 and the ceiling."""

    base_s: float = 0.25
    cap_s: float = 15.0
    random: Callable[[], float] = secrets.SystemRandom().random

    def delay_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row (1 or more)."""
        return self.random() * min(self.cap_s, self.base_s * 2.0 ** min(failures, 30))


async def _nothing(_welcome: Message) -> None:
    return


class LinkClient(Uplink):
    """Keeps the link to the hub.

    Args:
        target: ``host:port`` of the hub's link.
        proxy: An HTTP CONNECT proxy, ``host:port`` or ``user:password@host:port``.
        handler: Answers the hub's requests. One that is sent again after a reconnect, while its
            answer is under way, is not handled twice.
        hello: Makes the ``Hello`` of each connect; `cohortium.link.session.PROTOCOL` is its
            protocol.
        on_welcome: Awaited with the hub's ``Welcome`` before any request of the hub is handled.
    """

    def __init__(
        self,
        *,
        target: str,
        tls: TlsFiles,
        handler: Handler,
        hello: Callable[[], Message],
        on_welcome: Callable[[Message], Awaitable[None]] = _nothing,
        proxy: str | None = None,
        keepalive: Keepalive | None = None,
        backoff: Backoff | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._target = target
        self._tls = tls
        self._hello = hello
        self._on_welcome = on_welcome
        self._options = channel_options(keepalive or Keepalive(), proxy)
        self._backoff = backoff or Backoff()
        self._max_message_bytes = max_message_bytes
        self._inbox = Inbox(handler)
        self._route = Route("The hub")
        self._buffers = Buffers()
        self._running: asyncio.Task[None] | None = None
        self.last_error: str | None = None

    @property
    def connected(self) -> bool:
        """Whether the hub has welcomed this node on a live link."""
        return self._route.up

    async def run(self) -> None:
        """Dial for ever, until `close`."""
        self._running = asyncio.current_task()
        loop = asyncio.get_running_loop()
        failures = 0
        try:
            while True:
                begun = loop.time()
                steady = await self._dial() and loop.time() - begun >= STEADY_S
                failures = 1 if steady else failures + 1
                delay_s = self._backoff.delay_s(failures)
                log.info("link down (%s); next dial in %.1f s", self.last_error, delay_s)
                await asyncio.sleep(delay_s)
        finally:
            self._running = None
            await self._inbox.close()
            self._buffers.release()

    async def request(self, message: Message, timeout_s: float) -> Message:
        """Ask the hub; waits for the link and sends again after a reconnect.

        Raises:
            PeerError: ``peer-unreachable`` or ``peer-timeout``.
            CohortiumError: What the hub answered with ``Message.error``.
        """
        return await self._route.request(encode(message), timeout_s)

    async def close(self) -> None:
        """End the link; `run` returns."""
        running = self._running
        if running is not None:
            running.cancel()
            await asyncio.wait({running})

    async def _dial(self) -> bool:
        """One connection, from the dial to its end; whether the hub welcomed us."""
        welcomed = False
        channel: Any = None
        try:
            channel = grpc.aio.secure_channel(
                self._target, channel_credentials(self._tls), options=self._options
            )
            call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
            session = Session(
                call.read,
                _writer(call),
                ids=self._route.ids,
                buffers=self._buffers,
                max_message_bytes=self._max_message_bytes,
            )
            try:
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    await self._greet(session)
                welcomed = True
                self.last_error = None
                self._route.open(session)
                await session.serve(self._inbox)
            except Disconnected:
                self.last_error = await _why(call)
            finally:
                self._route.shut(session)
                await session.close()
                call.cancel()
        except TimeoutError:
            self.last_error = "the hub did not answer the dial"
        except CohortiumError as error:
            self.last_error = error.message
        except grpc.RpcError as error:
            self.last_error = _status_text(error)
        finally:
            if channel is not None:
                await channel.close()
        return welcomed

    async def _greet(self, session: Session) -> None:
        hello_id = next(self._route.ids)
        await session.send(encode(self._hello()), number=hello_id)
        reply = await session.receive()
        if reply.in_reply_to != hello_id:
            raise ProtocolError("unexpected-message", "The hub spoke before it answered the hello.")
        await self._on_welcome(expect(reply, "welcome"))


async def _why(call: Any) -> str:
    """The status with which the hub ended the stream, where it comes soon."""
    try:
        async with asyncio.timeout(STATUS_TIMEOUT_S):
            code, details = await call.code(), await call.details()
    except TimeoutError:
        return "the hub ended the link"
    if code is grpc.StatusCode.OK:
        return "the hub ended the link"
    return _text(code, details)


def _status_text(error: Any) -> str:
    return _text(error.code(), error.details())


def _text(code: grpc.StatusCode, details: object) -> str:
    return f"{code.name.lower().replace('_', ' ')}: {str(details)[:500]}"


def _writer(call: Any) -> Callable[[bytes], Awaitable[None]]:
    async def write(frame: bytes) -> None:
        try:
            await call.write(frame)
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise Disconnected from error

    return write
