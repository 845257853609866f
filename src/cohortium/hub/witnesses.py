"""Showing the ledger to the members' nodes, and their cosignatures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cohortium.core.clock import Clock
from cohortium.errors import CohortiumError, ProtocolError, VerificationError
from cohortium.hub.ledger_store import LedgerStore, Log, StoredCheckpoint
from cohortium.ledger.checkpoint import add_cosignatures, cosigners
from cohortium.ledger.members import quorum
from cohortium.ledger.note import Note
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect
from cohortium.link.ports import Peers

logger = logging.getLogger(__name__)
T = TypeVar("T")

TIMEOUT_S: Final = 30.0
MAX_ENTRIES: Final = 5_000
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of entries, in one message."""


@dataclass
class Round:
    """A checkpoint on its way to the witnesses.

    Attributes:
        log_note: As the log signed it.
        keys: The members that may witness it.
        signed: Cosignature lines of those that have.
        stored: How many of these cosignatures are in the database.
        start, entries: What was appended with it.
        asked: The sites that are being asked.
        covered: The runs whose results waited for this checkpoint when it was last settled.
        satisfied: It is final, and nothing waits for it any more.
        settled: Set when nobody waits for this checkpoint any more, or nobody is being asked.
        announced: Word of its finality is on its way.
        superseded: There is a newer one; who has not been asked yet is asked for that.
    """

    size: int
    log_note: bytes
    keys: Mapping[str, str]
    start: int
    entries: list[bytes]
    signed: dict[str, bytes] = field(default_factory=dict)
    stored: int = 0
    final: bool = False
    satisfied: bool = False
    announced: bool = False
    superseded: bool = False
    asked: set[str] = field(default_factory=set)
    covered: list[str] = field(default_factory=list)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def note_of(self, signed: Mapping[str, bytes]) -> bytes:
        """The checkpoint with these cosignatures."""
        return add_cosignatures(self.log_note, list(signed.values()))

    def enough(self, keys: Mapping[str, str], signed: Mapping[str, bytes] | None = None) -> bool:
        """Whether more than two thirds of these sites, with these keys, have cosigned."""
        sites = self.signed if signed is None else signed
        return sum(keys.get(site) == self.keys[site] for site in sites) >= quorum(len(keys))

    def add(self, origin: str, site: str, line: bytes) -> None:
        """Take in a cosignature.

        Raises:
            VerificationError: ``bad-checkpoint``.
        """
        note = Note.parse(self.note_of({site: line}))
        if site not in cosigners(note, origin, {site: self.keys[site]}):
            raise VerificationError("bad-checkpoint", f"{site} cosigned with another key.")
        self.signed.setdefault(site, line)


class Witnesses:
    """What each node has of the ledger; one exchange with a node at a time."""

    def __init__(self, store: LedgerStore, log: Log, peers: Peers, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._peers = peers
        self._clock = clock
        self._sizes: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._busy: dict[str, asyncio.Lock] = {}

    def connected(self) -> frozenset[str]:
        """Who can be asked."""
        return self._peers.connected()

    def _alone(self, site: str) -> asyncio.Lock:
        return self._busy.setdefault(site, asyncio.Lock())

    async def ask(self, site: str, checkpoint: Round, final: StoredCheckpoint | None) -> bool:
        """Bring a node up to a checkpoint and ask for its cosignature; whether it gave one.

        Raises:
            CohortiumError: The node's refusal, or it cannot be reached.
        """
        async with self._alone(site):
            if site in checkpoint.signed or site not in checkpoint.keys:
                return False
            have, went_back = self._sizes.get(site, checkpoint.start), False
            while not checkpoint.superseded:
                start = min(have, checkpoint.size)
                end, size, line = await self._show(site, start, checkpoint, final)
                have = self._sizes[site] = size
                if line and end == checkpoint.size:
                    checkpoint.add(self._log.origin, site, line)
                    return True
                if size > checkpoint.size:
                    raise ProtocolError(
                        "unexpected-message",
                        f"{site} has {size} entries of the ledger, the hub {checkpoint.size}.",
                    )
                if size == checkpoint.size:
                    return False  # it does not sign
                if size < end:
                    # Once it may have less than we thought. Then it comes forward by all that it is
                    # shown, or is left alone: else its answers could keep us busy for ever.
                    if went_back or size >= start:
                        return False
                    went_back = True
            return False

    async def tell(self, site: str, checkpoint: Round, final: StoredCheckpoint) -> None:
        """Show a node the newest final checkpoint, unless it has been shown.

        Raises:
            CohortiumError: The node's refusal, or it cannot be reached.
        """
        async with self._alone(site):
            up_to_date = self._sizes.get(site) == checkpoint.size
            if up_to_date and self._told.get(site, 0) < final.size:
                await self._show(site, checkpoint.size, checkpoint, final)

    async def _show(
        self, site: str, start: int, checkpoint: Round, final: StoredCheckpoint | None
    ) -> tuple[int, int, bytes]:
        """One message; its end, and the node's size and cosignature."""
        entries = await self._entries(start, checkpoint)
        end = start + len(entries)
        message = Message()
        update = message.ledger_update
        update.start = start
        update.entries.extend(entries)
        update.sent_at = int(self._clock().timestamp())
        update.more = end < checkpoint.size
        if not update.more:
            update.checkpoint = checkpoint.log_note
        else:
            update.checkpoint = await in_thread(self._store.checkpoint_at, self._log, end)
        news = final is not None and self._told.get(site, 0) < final.size <= end
        if final is not None and news:
            update.final = final.note
        reply = expect(await self._peers.request(site, message, TIMEOUT_S), "cosignature")
        if final is not None and news and reply.cosignature.size >= end:
            self._told[site] = final.size
        return end, reply.cosignature.size, reply.cosignature.line

    async def _entries(self, start: int, checkpoint: Round) -> list[bytes]:
        if start == checkpoint.size:
            return []
        if start == checkpoint.start and checkpoint.entries:
            return checkpoint.entries
        count = min(checkpoint.size - start, MAX_ENTRIES)
        return await in_thread(self._store.entries, start, count, MAX_BYTES)

    def forget(self, site: str) -> None:
        """A node is there anew; what it has is asked again."""
        self._sizes.pop(site, None)
        self._told.pop(site, None)


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """`work` beside the event loop; in it while Python exits, when threads cannot be started."""
    try:
        future: Awaitable[T] = asyncio.get_running_loop().run_in_executor(None, work, *args)
    except RuntimeError:
        return work(*args)
    return await future


def log_refusal(site: str, error: CohortiumError) -> None:
    """A node that does not sign."""
    logger.warning("%s has not witnessed the ledger: %s", site, error.message)
