"""What enclaves may ask the hub to carry and to keep, each for the runs that it was given.

The hub carries ciphertext and the bytes of TLS sessions that end elsewhere. Before it passes on a
lender's release, that is on its way to the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cohortium.contract.lifecycle import permits
from cohortium.contract.task import LOG_SLOT, Task
from cohortium.core.clock import Clock
from cohortium.enclave.exchange import PIECE_BYTES, Release
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PeerError,
    PolicyRefusal,
    ProtocolError,
)
from cohortium.hub.endings import resumable
from cohortium.hub.exchange import named
from cohortium.hub.outputs import Outputs, room
from cohortium.hub.run_store import OPEN, StoredRun
from cohortium.hub.store import HubStore
from cohortium.hub.task_board import Board, reported_error
from cohortium.hub.task_checks import Ordered, check_outcome, check_release, require_same
from cohortium.hub.task_store import Handed
from cohortium.hub.witnesses import in_thread
from cohortium.link._generated.link_pb2 import Message, TaskChannel
from cohortium.link.codec import expect
from cohortium.link.ports import Peers

RELAY_TIMEOUT_S: Final = 60.0
MAX_EVIDENCE_BYTES: Final = 4 * 1024 * 1024
MAX_SIGNED_BYTES: Final = 1024 * 1024
"""Of a release, an offer, an outcome."""


class TaskRelay:
    """Answers enclaves; lives on the event loop.

    Args:
        most_bytes: Of ciphertext that a run whose contract sets no limit may leave.
        spend: Counts what an enclave, by lenders' refusals, puts on the ledger; raises
            ``too-many-requests``.
        changed: Told that a run's progress is another.
    """

    def __init__(
        self,
        store: HubStore,
        peers: Peers,
        board: Board,
        *,
        outputs: Outputs,
        most_bytes: int,
        clock: Clock,
        spend: Callable[[str], None],
        changed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._peers = peers
        self._board = board
        self._outputs = outputs
        self._most_bytes = most_bytes
        self._clock = clock
        self._spend = spend
        self._changed = changed
        self._noting = asyncio.Lock()

    async def answer(self, enclave: str, message: Message) -> Message:
        """The reply to an enclave.

        Raises:
            InputError: ``not-found`` for a run that it was not given.
            CohortiumError: Why it is not done; ``run-cancelled`` and the like end the task.
        """
        body = message.WhichOneof("body")
        if body == "task_channel":
            return await self._channel(enclave, message)
        if body == "task_fetch":
            return await self._fetch(enclave, message)
        if body == "task_report":
            await self._report(enclave, message)
        elif body == "task_output":
            await self._output(enclave, message)
        else:
            raise ProtocolError("unexpected-message", f"The hub does not expect {body} here.")
        reply = Message()
        reply.ack.SetInParent()
        return reply

    # Whose run

    async def _run(self, enclave: str, run_id: str) -> tuple[StoredRun, Ordered]:
        """An open run of this enclave, or one that could be resumed.

        Raises:
            InputError: ``not-found``.
            ConflictError: ``run-cancelled``, ``wrong-state``.
        """
        run, ordered = await self._given(enclave, run_id)
        if run.info.status == "cancelled":
            raise ConflictError("run-cancelled", "The run was cancelled.")
        error = None if run.info.error is None else CohortiumError.from_wire(run.info.error)
        waits = run.info.status == "failed" and error is not None and resumable(error)
        if run.info.status not in OPEN and not waits:
            raise ConflictError("wrong-state", "The run has ended.")
        return run, ordered

    async def _given(self, enclave: str, run_id: str) -> tuple[StoredRun, Ordered]:
        run = await in_thread(self._store.runs.find, run_id)
        assigned = await in_thread(self._store.tasks.assigned, run_id)
        if run is None or assigned is None or assigned.enclave != enclave:
            raise InputError("not-found", "This enclave has no run of that id.")
        contract = self._store.studies.contract(run.info.contract_digest)
        task = contract.task_of(run.info.computation)
        if task is None:
            raise InputError("not-found", "The contract has no such task.")
        return run, Ordered(contract, run.request, task, enclave, assigned.key)

    async def _permitted(self, enclave: str, run_id: str) -> tuple[StoredRun, Ordered]:
        """`_run`, which the contract permits at this moment."""
        run, ordered = await self._run(enclave, run_id)
        version = await in_thread(self._store.studies.get, run.info.contract_digest)
        permits(version, run.info.computation, self._clock())
        if run.info.researcher in await in_thread(self._store.members.revoked_keys):
            raise PolicyRefusal("not-authorised", "The researcher's key was removed.")
        return run, ordered

    # Between enclave and lender

    async def _channel(self, enclave: str, message: Message) -> Message:
        asked = message.task_channel
        run, ordered = await self._permitted(enclave, asked.run_id)
        _require_lender(ordered.task, asked.site)
        forward = Message()
        forward.task_channel.run_id = asked.run_id
        forward.task_channel.site = asked.site
        forward.task_channel.session = asked.session
        forward.task_channel.data = asked.data
        if asked.request_envelope:
            forward.task_channel.request_envelope = run.envelope
        try:
            with self._waiting(asked.run_id, asked.site):
                reply = await self._ask(asked.site, forward, "task_channel")
        except PeerError:
            raise
        except CohortiumError as refusal:
            self._spend(enclave)
            await in_thread(self._store.tasks.refused, asked.run_id, asked.site, refusal.code)
            raise
        given = reply.task_channel
        answer = Message()
        answer.task_channel.run_id = asked.run_id
        answer.task_channel.site = asked.site
        answer.task_channel.session = asked.session
        answer.task_channel.data = given.data
        if given.release:
            await self._note_release(ordered, asked.site, given)
            await self._run(enclave, asked.run_id)  # it may have ended meanwhile
            answer.task_channel.release = given.release
        return answer

    @contextmanager
    def _waiting(self, run_id: str, site: str) -> Iterator[None]:
        """Say for whom a run waits, where that is a lender that is not connected."""
        watched = self._board.get(run_id)
        if watched is None or site in self._peers.connected():
            yield
            return
        watched.absent(site)
        self._changed(run_id)
        try:
            yield
        finally:
            watched.absent(None)

    async def _note_release(self, ordered: Ordered, site: str, given: TaskChannel) -> None:
        """Put a lender's release on its way to the ledger; there is one a lender and run."""
        _require_short(given.evidence, MAX_EVIDENCE_BYTES)
        _require_short(given.release)
        _require_short(given.offer)
        release = check_release(ordered, site, given.release, given.offer, given.evidence)
        handed = Handed(site, release.recipient, given.release, given.offer, given.evidence)
        async with self._noting:
            require_same(site, release, await in_thread(self._releases, ordered))
            await in_thread(self._store.tasks.released, ordered.request.run_id, handed)

    async def _fetch(self, enclave: str, message: Message) -> Message:
        asked = message.task_fetch
        _, ordered = await self._permitted(enclave, asked.run_id)
        _require_lender(ordered.task, asked.site)
        owners = [slot.owners for slot in ordered.task.inputs if slot.name == asked.slot]
        if not any(asked.site in one for one in owners):
            raise PolicyRefusal("not-permitted", f"{asked.site} lends no {asked.slot} to the task.")
        forward = Message()
        forward.task_fetch.CopyFrom(asked)
        reply = await self._ask(asked.site, forward, "task_piece")
        if len(reply.task_piece.data) > PIECE_BYTES:
            raise ProtocolError("malformed-message", f"{asked.site} sent too long a piece.")
        answer = Message()
        answer.task_piece.CopyFrom(reply.task_piece)
        return answer

    async def _ask(self, site: str, message: Message, body: str) -> Message:
        try:
            return expect(await self._peers.request(site, message, RELAY_TIMEOUT_S), body)
        except CohortiumError as error:
            raise named(error, site) from error

    # From the enclave

    async def _output(self, enclave: str, message: Message) -> None:
        piece = message.task_output
        _, ordered = await self._run(enclave, piece.run_id)
        task = ordered.task
        slots = {slot.name for slot in task.outputs}
        if piece.slot not in slots and not (piece.slot == LOG_SLOT and task.log_recipients):
            raise PolicyRefusal("task-output", f"The task has no output {piece.slot!r}.")
        if await in_thread(self._store.tasks.outcome, piece.run_id) is not None:
            raise ConflictError("wrong-state", "The outcome of the run is here already.")
        if piece.path:
            raise ProtocolError("malformed-message", "An output is one archive; it has no path.")
        most = room(task, self._most_bytes)

        def write() -> None:
            self._outputs.write(piece.run_id, piece.slot, piece.offset, piece.data, most_bytes=most)

        await in_thread(write)

    async def _report(self, enclave: str, message: Message) -> None:
        report = message.task_report
        run, ordered = await self._given(enclave, report.run_id)
        known = await in_thread(self._store.tasks.outcome, report.run_id)
        if known is not None and known == report.outcome:
            return  # the answer was lost
        run, ordered = await self._run(enclave, report.run_id)
        watched = self._board.get(report.run_id)
        if report.outcome:
            _require_short(report.outcome)
            if known is not None:
                raise ConflictError("wrong-state", "The run has another outcome already.")
            try:
                await in_thread(self._take_outcome, run, ordered, report.outcome)
            except CohortiumError as error:
                if watched is not None:
                    watched.failed(named(error, enclave))
                raise
        if watched is None:
            return
        if report.error:
            failure = reported_error(report.error)
            watched.failed(failure if "site" in failure.details else named(failure, enclave))
        elif report.outcome:
            watched.changed.set()
        else:
            watched.reported(report)
            self._changed(report.run_id)

    def _take_outcome(self, run: StoredRun, ordered: Ordered, envelope: bytes) -> None:
        """In a thread: it reads all outputs once."""
        run_id = run.info.id
        outcome = check_outcome(ordered, envelope, self._store.tasks.statements(run_id))
        self._outputs.settle(run_id, outcome.outputs)
        self._store.tasks.take_outcome(run_id, envelope)

    def _releases(self, ordered: Ordered) -> dict[str, Release]:
        """The releases that are on the ledger, or on their way there, by lender."""
        run_id = ordered.request.run_id
        held = {
            site: self._store.tasks.document(run_id, digest)
            for site, digest in self._store.tasks.statements(run_id).items()
        }
        return {site: Release.open(data)[0] for site, data in held.items() if data is not None}


def _require_short(document: bytes, most_bytes: int = MAX_SIGNED_BYTES) -> None:
    if len(document) > most_bytes:
        raise ProtocolError("malformed-message", "A document of a task is too long.")


def _require_lender(task: Task, site: str) -> None:
    if site not in task.lenders:
        raise PolicyRefusal("not-permitted", f"{site!r} lends nothing to the task {task.name}.")
