"""What the services need of a link; gRPC and the in-memory link both provide it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cohortium.link._generated.link_pb2 import Message


@dataclass(frozen=True)
class LargeReply:
    """A reply that is encoded already, so that its megabytes are not copied twice more.

    Attributes:
        head: The encoding up to the last field's bytes.
        tail: The last field's bytes.
    """

    head: bytes
    tail: bytes | bytearray

    def message(self) -> Message:
        """The reply as a message."""
        return Message.FromString(self.head + self.tail)


Reply = Message | LargeReply


@dataclass(frozen=True)
class Addressed:
    """A request of which a large part is the same for several peers, and encoded once.

    Attributes:
        common: The part for all.
        own: What this peer's request has besides; merged into it.
    """

    common: Message
    own: Message

    def message(self) -> Message:
        """The whole request."""
        whole = Message()
        whole.CopyFrom(self.common)
        whole.MergeFrom(self.own)
        return whole


Request = Message | Addressed


class Handler(Protocol):
    """Answers one peer's requests. Errors are answered as ``Message.error``, never raised."""

    async def handle(self, message: Message) -> Reply:
        """The reply to `message`; ids are the link's affair."""
        ...


class Peers(Protocol):
    """The hub's view of the connected nodes, by institution name."""

    def connected(self) -> frozenset[str]:
        """Institutions with a live link."""
        ...

    async def request(self, site: str, message: Request, timeout_s: float) -> Message:
        """Send a request and wait for its reply.

        Waits up to `timeout_s` for the site to connect where it is away; a request that was under
        way when the link broke is sent again after the reconnect (sites answer idempotently).

        Raises:
            PeerError: ``peer-timeout`` or ``peer-unreachable``.
            CohortiumError: What the site answered with ``Message.error``.
        """
        ...


class Uplink(Protocol):
    """A node's view of the hub."""

    @property
    def connected(self) -> bool:
        """Whether the link is up."""
        ...

    async def request(self, message: Message, timeout_s: float) -> Message:
        """Send a request and wait for its reply; as `Peers.request`."""
        ...
