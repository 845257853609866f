"""The hub's end of the link: one stream per node, over mutual TLS."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from cohortium.errors import CohortiumError, InputError, PeerError, ProtocolError
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.buffers import Buffers
from cohortium.link.codec import error_message
from cohortium.link.frames import MAX_MESSAGE_BYTES
from cohortium.link.ports import Addressed, Handler, Peers, Request
from cohortium.link.session import (
    PROTOCOL,
    Disconnected,
    Inbox,
    Route,
    Session,
    answer,
    cancel,
    encode,
    new_ids,
)
from cohortium.link.tls import (
    METHOD,
    SERVICE,
    Keepalive,
    TlsFiles,
    server_credentials,
    server_options,
)

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0


class _Connection:
    """One node's stream and the wish to end it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ended = asyncio.Event()
        self.reason: CohortiumError | None = None

    def end(self, reason: CohortiumError | None) -> None:
        self.reason = reason
        self.ended.set()


class LinkServer(Peers):
    """Accepts the nodes' links. All methods belong to the event loop that called `start`.

    Args:
        authorise: The institution of a client certificate (PEM) that the CA signed, or None to
            refuse it (unknown, revoked, suspended). Asked twice on each connect, before and after
            the hello.
        handler_for: Answers the requests of an institution's node, the ``Hello`` among them.
        on_connect: Told after a node's ``Hello`` was answered.
        on_disconnect: Told when its link is over and no newer one took its place.
        max_message_bytes: The largest message that a node may send.
    """

    def __init__(
        self,
        *,
        authorise: Callable[[bytes], str | None],
        handler_for: Callable[[str], Handler],
        on_connect: Callable[[str], None] = lambda _site: None,
        on_disconnect: Callable[[str], None] = lambda _site: None,
        keepalive: Keepalive | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._authorise = authorise
        self._handler_for = handler_for
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._keepalive = keepalive or Keepalive()
        self._max_message_bytes = max_message_bytes
        self._ids = new_ids()
        self._routes: defaultdict[str, Route] = _Routes(self._ids)
        self._connections: dict[str, _Connection] = {}
        self._encoded = _Encoded()
        self._buffers = Buffers()
        self._server: Any = None

    async def start(self, host: str, port: int, tls: TlsFiles) -> int:
        """Listen; returns the port (a free one where `port` is 0).

        Raises:
            InputError: ``bad-config`` or ``not-found``.
        """
        credentials = server_credentials(tls)
        server = grpc.aio.server(options=server_options(self._keepalive))
        # Without serialisers gRPC hands over the frames' bytes.
        method = grpc.stream_stream_rpc_method_handler(self._connect)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),)
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = int(server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise InputError("bad-config", f"Cannot listen on {address}: is it taken?") from error
        await server.start()
        self._server = server
        return bound

    async def stop(self) -> None:
        """End all links and stop listening."""
        for connection in list(self._connections.values()):
            connection.end(None)
        if self._server is not None:
            await self._server.stop(grace=1.0)
            self._server = None
        self._buffers.release()

    def connected(self) -> frozenset[str]:
        """Institutions with a live link."""
        return frozenset(self._connections)

    def cut(self, site: str) -> None:
        """End a member's link at once; requests to it fail. `authorise` keeps it away."""
        connection = self._connections.get(site)
        if connection is not None:
            connection.end(
                PeerError("peer-unreachable", f"The link of {site} was cut by the hub.", peer=site)
            )

    async def request(self, site: str, message: Request, timeout_s: float) -> Message:
        """See `Peers.request`; one message to several sites at a time is encoded once."""
        # Protobuf merges fields of one message that come in two parts.
        head = encode(message.own) if isinstance(message, Addressed) else b""
        common = message.common if isinstance(message, Addressed) else message
        with self._encoded.body_of(common) as body:
            return await self._routes[site].request(body, timeout_s, head)

    async def _connect(self, _frames: object, context: Any) -> None:
        """One node's stream, from the certificate to the end."""
        # 1. The certificate. 2. Hello and welcome. 3. The certificate again: the member may have
        # been suspended meanwhile, when there was no link to cut. 4. Registered: requests flow.
        # 5. The end.
        pem = context.auth_context().get("x509_pem_cert", [b""])[0]
        site = self._authorise(pem)  # 1
        if site is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a member in good standing")
            return
        session = Session(
            context.read,
            _writer(context),
            ids=self._ids,
            buffers=self._buffers,
            max_message_bytes=self._max_message_bytes,
        )
        handler = self._handler_for(site)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                welcomed = await self._welcome(session, handler)  # 2
        except (Disconnected, ProtocolError, TimeoutError):
            welcomed = False
        if not welcomed:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no hello of this protocol")
            return
        if self._authorise(pem) != site:  # 3
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a member in good standing")
            return
        connection = self._register(site, session)  # 4
        try:
            await self._serve(connection, Inbox(handler), site)
        finally:  # 5
            await self._unregister(site, connection)
        if connection.reason is not None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, connection.reason.message)

    async def _welcome(self, session: Session, handler: Handler) -> bool:
        hello = await session.receive()
        if hello.WhichOneof("body") != "hello" or hello.hello.protocol != PROTOCOL:
            refusal = ProtocolError("unexpected-message", f"This hub speaks {PROTOCOL}; update.")
            await session.reply(error_message(refusal), hello.id)
            return False
        reply = await answer(handler, hello)
        await session.reply(reply, hello.id)
        return isinstance(reply, Message) and reply.WhichOneof("body") == "welcome"

    def _register(self, site: str, session: Session) -> _Connection:
        connection = _Connection(session)
        older = self._connections.get(site)
        self._connections[site] = connection
        self._routes[site].open(session)
        if older is not None:  # it may be half dead; the newest link counts
            older.end(None)
        self._on_connect(site)
        return connection

    async def _serve(self, connection: _Connection, inbox: Inbox, site: str) -> None:
        serving = asyncio.create_task(connection.session.serve(inbox))
        ended = asyncio.create_task(_wait(connection.ended))
        try:
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not serving.cancelled():
                error = serving.exception()
                if isinstance(error, ProtocolError):
                    log.warning("%s broke the protocol: %s", site, error.message)
                    connection.reason = error
        finally:
            await cancel([serving, ended])
            await inbox.close()

    async def _unregister(self, site: str, connection: _Connection) -> None:
        self._routes[site].shut(connection.session)
        if self._connections.get(site) is connection:
            del self._connections[site]
            self._on_disconnect(site)
        await connection.session.close(connection.reason)


class _Routes(defaultdict[str, Route]):
    """The routes by institution, made when first asked for."""

    def __init__(self, ids: Any) -> None:
        super().__init__()
        self._ids = ids

    def __missing__(self, site: str) -> Route:
        self[site] = Route(site, self._ids)
        return self[site]


class _Encoded:
    """The bytes of the messages under way; a state of 40 MB goes to all sites as one copy."""

    def __init__(self) -> None:
        self._by_identity: dict[int, tuple[Message, bytes]] = {}
        self._users: Counter[int] = Counter()

    @contextmanager
    def body_of(self, message: Message) -> Iterator[bytes]:
        """The encoded message, which must not change meanwhile."""
        key = id(message)
        if key not in self._by_identity:
            self._by_identity[key] = message, encode(message)
        self._users[key] += 1
        try:
            yield self._by_identity[key][1]
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._by_identity[key]


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _writer(context: Any) -> Callable[[bytes], Any]:
    async def write(frame: bytes) -> None:
        try:
            await context.write(frame)
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError) as error:
            raise Disconnected from error

    return write
