"""Changes of membership by the operator, whose commands work on the database in other processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cohortium.errors import CohortiumError
from cohortium.hub.member_store import MemberStore
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.ports import Peers

logger = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.2
REVOCATION_TIMEOUT_S = 30.0


class MembershipWatch:
    """Lets the connected nodes feel a change within a second; lives on one event loop.

    Args:
        on_change: Called after each change of who belongs to the consortium.
    """

    def __init__(
        self,
        members: MemberStore,
        peers: Peers,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._members = members
        self._peers = peers
        self._on_change = on_change
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Look for changes from now on."""
        self._spawn(self._watch(self._members.version(), self._members.revoked_keys()))

    async def close(self) -> None:
        """Stop looking and telling."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, version: int, revoked: frozenset[str]) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            try:
                latest = self._members.version()
                if latest == version:
                    continue
                self.cut_links()
                self._on_change()
                now_revoked = self._members.revoked_keys()
                if now_revoked != revoked:
                    self.announce_revocations()
                version, revoked = latest, now_revoked  # a change that failed is taken up again
            except Exception:
                # The watch must outlive a database that is away for a moment.
                logger.exception("cannot look for changes of membership")

    def cut_links(self) -> None:
        """Cut the links of members that are no longer in good standing."""
        cut = getattr(self._peers, "cut", None)
        if cut is None:
            return
        for site in self._peers.connected() - self._members.admissible():
            logger.info("cutting the link of %s", site)
            cut(site)

    def announce_revocations(self) -> None:
        """Tell connected nodes the keys of removed researchers; others hear it with Welcome."""
        message = Message()
        message.revocation.revoked_keys.extend(sorted(self._members.revoked_keys()))
        enclaves = {one.name for one in self._members.enclaves()}
        for site in self._peers.connected() - enclaves:  # they hear which tasks to stop
            self._spawn(self._tell(site, message))

    async def _tell(self, site: str, message: Message) -> None:
        try:
            await self._peers.request(site, message, REVOCATION_TIMEOUT_S)
        except CohortiumError as error:
            logger.warning("%s was not told of removed researchers: %s", site, error.message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
