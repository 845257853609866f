"""The link inside one process: the same messages, written and parsed, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cohortium.errors import PeerError
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import raise_if_error
from cohortium.link.ports import Addressed, Handler, LargeReply, Peers, Request
from cohortium.link.session import answer, parse_message


async def _ask(handler: Handler, message: Message, peer: str, timeout_s: float) -> Message:
    try:
        async with asyncio.timeout(timeout_s):
            request = parse_message(message.SerializeToString())
            answered = await answer(handler, request)
            if isinstance(answered, LargeReply):
                answered = answered.message()
            reply = parse_message(answered.SerializeToString())
    except TimeoutError as error:
        raise PeerError(
            "peer-timeout", f"{peer} did not answer within {timeout_s:g} seconds.", peer=peer
        ) from error
    raise_if_error(reply)
    return reply


class MemoryUplink:
    """A node's way to the hub; an `Uplink`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connected = True

    async def request(self, message: Message, timeout_s: float) -> Message:
        """See `Uplink.request`."""
        if not self.connected:
            raise PeerError("peer-unreachable", "The hub is away.")
        return await _ask(self._handler, message, "The hub", timeout_s)


class MemoryLink(Peers):
    """Connects nodes' handlers to a hub's.

    Args:
        handler_for: The hub's handler for an institution's requests.
    """

    def __init__(self, handler_for: Callable[[str], Handler]) -> None:
        self._handler_for = handler_for
        self._nodes: dict[str, tuple[Handler, MemoryUplink]] = {}

    def join(self, site: str, handler: Handler) -> MemoryUplink:
        """Connect a node; returns its way to the hub."""
        uplink = MemoryUplink(self._handler_for(site))
        self._nodes[site] = handler, uplink
        return uplink

    def leave(self, site: str) -> None:
        """Disconnect a node."""
        _, uplink = self._nodes.pop(site)
        uplink.connected = False

    def connected(self) -> frozenset[str]:
        """Institutions with a live link."""
        return frozenset(self._nodes)

    async def request(self, site: str, message: Request, timeout_s: float) -> Message:
        """See `Peers.request`; here a site that is away is not waited for."""
        if isinstance(message, Addressed):
            message = message.message()
        if site not in self._nodes:
            raise PeerError("peer-unreachable", f"{site} is not connected.", peer=site)
        return await _ask(self._nodes[site][0], message, site, timeout_s)
