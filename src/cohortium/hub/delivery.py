"""Handing over what the hub owes to nodes, when they are connected."""

from __future__ import annotations

import asyncio
import logging

from cohortium.errors import CohortiumError, PeerError
from cohortium.hub.outbox import Owed
from cohortium.hub.store import HubStore
from cohortium.hub.tasks import is_task
from cohortium.hub.witnesses import in_thread
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect
from cohortium.link.ports import Peers

logger = logging.getLogger(__name__)

DELIVERY_TIMEOUT_S = 30.0


class Delivery:
    """One task a site at a time; an item goes when the node acknowledges it or refuses it."""

    def __init__(self, store: HubStore, peers: Peers) -> None:
        self._store = store
        self._peers = peers
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def wake(self, site: str) -> None:
        """Something may be due to `site`; called on the event loop."""
        if site in self._tasks:
            self._again.add(site)
            return
        task = asyncio.get_running_loop().create_task(self._deliver(site))
        self._tasks[site] = task
        task.add_done_callback(lambda _: self._ended(site))

    def wake_all(self) -> None:
        """Something may be due to anyone who is connected."""
        for site in self._store.outbox.sites() & self._peers.connected():
            self.wake(site)

    def _ended(self, site: str) -> None:
        self._tasks.pop(site, None)
        if site in self._again:
            self._again.discard(site)
            self.wake(site)

    async def _deliver(self, site: str) -> None:
        taken: list[Owed] = []
        try:
            for item in self._store.outbox.owed(site):
                if item.kind == "run-end" and self._waits(item.subject):
                    continue
                try:
                    message = self._message(item)
                    if message is not None:
                        expect(await self._peers.request(site, message, DELIVERY_TIMEOUT_S), "ack")
                except PeerError as error:
                    logger.info("%s is owed a %s: %s", site, item.kind, error.message)
                    return  # it will say hello again
                except CohortiumError as error:
                    logger.warning("%s does not take a %s: %s", site, item.kind, error.message)
                taken.append(item)
        finally:
            if taken:
                await in_thread(self._store.outbox.settle, taken)

    def _waits(self, run_id: str) -> bool:
        """Whether a run's outputs are not to be fetched before its end is final on the ledger."""
        run = self._store.runs.find(run_id)
        if run is None or run.info.status != "succeeded" or run.released:
            return False
        return is_task(run.info.computation)

    def _message(self, item: Owed) -> Message | None:
        message = Message()
        if item.kind == "run-end":
            run = self._store.runs.find(item.subject)
            if run is None:
                return None
            message.run_end.run_id = item.subject
            message.run_end.outcome = run.info.status
            message.run_end.error = str((run.info.error or {}).get("code", ""))
            return message
        studies = self._store.studies
        if item.kind == "statement":
            said = studies.statement(int(item.subject))
            if said is None:
                return None
            message.contract_statement.envelope = said.envelope
        elif item.kind == "draft":
            draft, *assignments = self._store.drafts.envelopes(item.subject)
            message.contract_draft.envelope = draft
            message.contract_draft.assignments.extend(assignments)
        elif item.kind == "proposal":
            message.contract_proposal.envelope = studies.about(item.subject)[0].envelope
        elif item.kind == "active":
            message.contract_active.contract_digest = item.subject
            signed = studies.signatures(item.subject)
            message.contract_active.envelopes.extend(said.envelope for said in signed)
        else:
            message.contract_ended.contract_digest = item.subject
            message.contract_ended.reason = studies.get(item.subject).reason or ""
        return message

    async def settled(self) -> None:
        """Wait until nothing is being handed over."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop; what is owed stays owed."""
        tasks = list(self._tasks.values())
        self._again.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
