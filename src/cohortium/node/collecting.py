"""What a serving node fetches from the hub by itself: programs to review, and its own outputs.

That a run has ended it learns from its copy of the ledger. Whatever comes is kept only where it is
what a contract, or an enclave's signed outcome, names by digest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final

from cohortium.contract.code import MAX_ARCHIVE_BYTES
from cohortium.enclave.exchange import Made, TaskOutcome
from cohortium.errors import CohortiumError, PeerError, ProtocolError
from cohortium.ledger.entry import RunEnded, parse_entry
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import expect
from cohortium.node import journal
from cohortium.node.lending import Lending
from cohortium.node.life import open_contract
from cohortium.node.outbox import FIRST_S, LONGEST_S, Request
from cohortium.node.programs import custom
from cohortium.node.replica import Replica
from cohortium.node.service import NodeService
from cohortium.node.task_outcome import EndedTask, check_outcome, ended_task

log = logging.getLogger(__name__)

CODE_SLOT: Final = "code"
MOST_OUTCOME_BYTES: Final = 64 * 1024 * 1024
LOOKED_AT: Final = "ends looked at"
_REVIEWED: Final = frozenset({"proposed", "signed", "active", "suspended"})


class Collector:
    """Fetches what is for this node.

    Args:
        request: Sends a message to the hub.
        monotonic: Seconds.
    """

    def __init__(
        self,
        service: NodeService,
        lending: Lending,
        request: Request,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._store = service.store
        self._replica = Replica(service.store)
        self._lending = lending
        self._request = request
        self._monotonic = monotonic
        self._programs: dict[str, frozenset[str]] = {}
        self._ended: dict[int, EndedTask] = {}
        self._next: int | None = None
        self._waits: dict[str, tuple[float, float]] = {}

    async def collect(self) -> None:
        """Fetch what there is and not here yet; what fails is tried again later.

        Raises:
            PeerError: The hub is away.
        """
        for digest in await asyncio.to_thread(self.missing_programs):
            await self._try(digest, partial(self._fetch_program, digest))
        for place, ended in (await asyncio.to_thread(self.missing_outputs)).items():
            await self._try(ended.run_id, partial(self._fetch_outputs, ended))
            if self._lending.received.has(ended.run_id):
                del self._ended[place]

    async def _try(self, name: str, fetch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        wait_s, due = self._waits.get(name, (FIRST_S / 2, 0.0))
        if due > self._monotonic():
            return
        try:
            await fetch()
            self._waits.pop(name, None)
        except PeerError:
            raise
        except (CohortiumError, OSError) as error:
            said = error.message if isinstance(error, CohortiumError) else type(error).__name__
            log.warning("cannot fetch %s yet: %s", name[:19], said)
            wait_s = min(2 * wait_s, LONGEST_S)
            self._waits[name] = (wait_s, self._monotonic() + wait_s)

    # Programs

    def missing_programs(self) -> list[str]:
        """Digests of programs that a contract names and that are not here."""
        wanted: dict[str, None] = {}
        for contract, state in self._store.execute("SELECT digest, state FROM contracts"):
            if state in _REVIEWED:
                wanted |= dict.fromkeys(sorted(self._programs_of(contract)))
        return [digest for digest in wanted if not self._lending.programs.has(digest)]

    def _programs_of(self, contract: str) -> frozenset[str]:
        if contract not in self._programs:
            stored = self._store.contract(contract)
            self._programs[contract] = custom(open_contract(stored)) if stored else frozenset()
        return self._programs[contract]

    async def _fetch_program(self, digest: str) -> None:
        asked = pb.TaskFetch(slot=CODE_SLOT, path=digest)
        archive = b"".join([part async for part in self._pieces(asked, MAX_ARCHIVE_BYTES)])
        await asyncio.to_thread(self._lending.programs.put, digest, archive)
        journal.append(self._store, "program", {"program": digest})

    # Outputs

    def missing_outputs(self) -> dict[int, EndedTask]:
        """Runs that have ended and may have given something, by their place on the ledger."""
        if self._next is None:
            self._next = int(self._replica.recall(LOOKED_AT) or 0)
        if self._next > self._replica.size:  # the steward let the copy begin anew
            self._next = 0
        rows = self._store.execute(
            "SELECT position, body FROM ledger_entries WHERE kind = 'run.ended' AND position >= ? "
            "ORDER BY position",
            self._next,
        )
        for position, body in rows:
            fact = parse_entry(body).fact
            self._next = position + 1
            if not isinstance(fact, RunEnded) or self._lending.received.has(fact.run_id):
                continue
            ended = ended_task(self._store, self._replica, fact)
            if ended is not None and ended.readable(self._service.identity.name):
                self._ended[position] = ended
        done = min(self._ended, default=self._next)
        if rows or str(done) != (self._replica.recall(LOOKED_AT) or "0"):
            with self._store.transaction():
                self._replica.remember(LOOKED_AT, str(done))
        return dict(self._ended)

    async def _fetch_outputs(self, ended: EndedTask) -> None:
        asked = pb.TaskFetch(run_id=ended.run_id)
        envelope = b"".join([part async for part in self._pieces(asked, MOST_OUTCOME_BYTES)])
        own = self._service.identity.name
        loop = asyncio.get_running_loop()

        def document(digest: str) -> bytes:
            return asyncio.run_coroutine_threadsafe(self._document(ended, digest), loop).result()

        outcome, outputs = await asyncio.to_thread(
            lambda: check_outcome(
                self._store, self._replica, ended, own=own, envelope=envelope, document=document
            )
        )
        received = self._lending.received
        for made in await asyncio.to_thread(received.missing, ended.run_id, outputs):
            asked = pb.TaskFetch(run_id=ended.run_id, slot=made.slot)
            await received.put(ended.run_id, made, self._pieces(asked, made.size_bytes))
        await asyncio.to_thread(self._finish, ended, outcome, envelope, outputs)

    async def _document(self, ended: EndedTask, digest: str) -> bytes:
        asked = pb.TaskFetch(run_id=ended.run_id, path=digest)
        return b"".join([part async for part in self._pieces(asked, MOST_OUTCOME_BYTES)])

    def _finish(
        self,
        ended: EndedTask,
        outcome: TaskOutcome,
        envelope: bytes,
        outputs: tuple[Made, ...],
    ) -> None:
        self._lending.received.finish(outcome, envelope, outputs)
        about = {
            "run_id": ended.run_id,
            "contract": ended.contract.digest,
            "study": ended.contract.study,
            "computation": ended.task.computation,
            "enclave": outcome.enclave,
            "outputs": {one.slot: one.content_digest for one in outputs},
        }
        journal.append(self._store, "received", about)

    # Pieces

    async def _pieces(self, asked: pb.TaskFetch, most: int) -> AsyncIterator[bytes]:
        """A file from the hub, piece by piece.

        Raises:
            ProtocolError: ``malformed-message``: the pieces are not those of one file.
        """
        done, size = 0, None
        while size is None or done < size:
            message = pb.TaskFetch()
            message.CopyFrom(asked)
            message.offset = done
            reply = expect(await self._request(pb.Message(task_fetch=message)), "task_piece")
            piece = reply.task_piece
            size = piece.size if size is None else size
            done += len(piece.data)
            if not piece.data or piece.size != size or not 0 < done <= size <= most:
                raise ProtocolError(
                    "malformed-message", "The hub sends other bytes than one file has."
                )
            yield piece.data
