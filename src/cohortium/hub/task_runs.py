"""The execution of a run of a task: an enclave is chosen, told, waited for, and its outcome kept.

`TaskRuns.execute` blocks in a runner's thread; enclaves are asked on the event loop. What a killed
hub must know is journaled or in the database: which enclave has the run, and its signed outcome.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from cohortium.contract.check import AdmittedTask, check_task
from cohortium.contract.lifecycle import permits
from cohortium.contract.model import Contract, Enclave
from cohortium.contract.task import Task
from cohortium.core.canonical import canonical
from cohortium.core.clock import Clock
from cohortium.enclave.exchange import TaskOutcome
from cohortium.errors import CohortiumError, ConflictError, PeerError, PolicyRefusal
from cohortium.hub.blobs import Programs
from cohortium.hub.endings import LOST, resumable
from cohortium.hub.exchange import named
from cohortium.hub.live import Live
from cohortium.hub.member_store import Member
from cohortium.hub.outputs import Outputs
from cohortium.hub.run_store import StoredRun
from cohortium.hub.store import HubStore
from cohortium.hub.task_board import Board, Watched
from cohortium.hub.task_checks import accepts
from cohortium.hub.task_needs import require_cards, require_program, sites_about
from cohortium.hub.witnesses import in_thread
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect
from cohortium.link.ports import Peers
from cohortium.runs.journal import Journal

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_S: Final = 0.2
"""How often is looked whether an enclave's link is up."""
SILENT_S: Final = 60.0
"""An enclave that says nothing for so long is asked whether it has the run."""
STOP_TIMEOUT_S: Final = 10.0
_CANNOT: Final = frozenset({"executor-unavailable", "packages-missing"})
"""What an enclave lacks, and another may have."""


class OnLoop(Protocol):
    """See `RunDriver.on_loop`."""

    def __call__(self, live: Live, work: Coroutine[Any, Any, T]) -> T:
        """Wait for it."""
        ...


class TaskRuns:
    """Executes runs of tasks that `Hub` has admitted and stored.

    Args:
        gather_timeout_s: How long a run waits for an enclave to be given to.
        away_timeout_s: How long it waits for that enclave, when its link is down.
        changed: Told of a run's progress.
    """

    def __init__(
        self,
        store: HubStore,
        peers: Peers,
        board: Board,
        *,
        programs: Programs,
        outputs: Outputs,
        clock: Clock,
        gather_timeout_s: float,
        away_timeout_s: float,
    ) -> None:
        self._store = store
        self._peers = peers
        self._board = board
        self._programs = programs
        self._outputs = outputs
        self._clock = clock
        self._gather_timeout_s = gather_timeout_s
        self._away_timeout_s = away_timeout_s
        self._loop = asyncio.get_running_loop()
        self._stopping: set[asyncio.Task[None]] = set()

    # In the runner's thread

    def execute(self, run: StoredRun, journal: Journal, live: Live, on_loop: OnLoop) -> bytes:
        """The result document of a run whose task succeeded.

        Raises:
            CohortiumError: Why there is none; ``task-failed`` where the program failed.
        """
        # 1. It is permitted still. 2. An enclave has it; 3. which stays so. 4. Its outcome.
        version = self._store.studies.get(run.info.contract_digest)
        permits(version, run.info.computation, self._clock())  # 1
        admitted = check_task(
            version.contract,
            run.request,
            run.request.researcher,
            signatures_ok=True,
            now=self._clock(),
            revoked=self._store.members.revoked_keys(),
            accepted_before=True,
        )
        live.asked = sites_about(self._store, admitted.contract, admitted.task)
        order = _Order(self, run, admitted, live)
        try:
            chosen = journal.step("enclave", lambda: on_loop(live, order.choose()))  # 2, 3
            enclave = str(json.loads(chosen)["enclave"])
            live.info = live.info.model_copy(update={"enclave": enclave})
            envelope = journal.step("outcome", lambda: on_loop(live, order.wait(enclave)))  # 4
        except CohortiumError as error:
            if not resumable(error):
                self.stop(run.info.id, error)
                self._outputs.drop(run.info.id)
            raise
        finally:
            with suppress(RuntimeError):  # the loop closed meanwhile
                self._loop.call_soon_threadsafe(self._board.drop, run.info.id)
        if live.stopped is not None:
            raise live.stopped
        return _result(envelope, live)

    def stop(self, run_id: str, reason: CohortiumError) -> None:
        """Have the enclave of a run end it; one that is away hears it when it reports."""
        with suppress(RuntimeError):  # the loop closed meanwhile
            self._loop.call_soon_threadsafe(self._spawn_stop, run_id, reason.message)

    # On the event loop

    def _spawn_stop(self, run_id: str, reason: str) -> None:
        task = self._loop.create_task(self._stop(run_id, reason))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop(self, run_id: str, reason: str) -> None:
        assigned = await in_thread(self._store.tasks.assigned, run_id)
        if assigned is None or assigned.enclave not in self._peers.connected():
            return
        message = Message()
        message.task_stop.run_id = run_id
        message.task_stop.reason = reason
        try:
            await self._peers.request(assigned.enclave, message, STOP_TIMEOUT_S)
        except CohortiumError as error:
            logger.info("%s was not told to stop a task: %s", assigned.enclave, error.message)

    async def close(self) -> None:
        """Stop telling."""
        for task in list(self._stopping):
            task.cancel()
        await asyncio.gather(*self._stopping, return_exceptions=True)

    def standing(self, name: str) -> Member | None:
        """The enclave of that name, where it is in good standing."""
        held = self._store.members.find_member(name)
        fine = held is not None and held.kind == "enclave" and held.status == "approved"
        return held if fine else None

    def candidates(self, contract: Contract, task: Task) -> list[Member]:
        """The enclaves that are there and that a task may run in, the idle ones first."""
        connected = self._peers.connected()
        fit = [
            one
            for one in self._store.members.enclaves()
            if one.status == "approved"
            and one.name in connected
            and accepts(contract, Enclave(name=one.name, key=one.key), task)
        ]
        return sorted(fit, key=lambda one: (self._board.busy(one.name), one.name))

    def order(self, run: StoredRun, contract: Contract, task: Task) -> Message:
        """What an enclave is told; in a thread.

        Raises:
            InputError: ``not-found`` where the program is not here; ``vault-key-missing``.
        """
        message = Message()
        prepare = message.task_prepare
        prepare.request_envelope = run.envelope
        signed = self._store.studies.signatures(contract.digest)
        prepare.contract_envelopes.extend(said.envelope for said in signed)
        if not task.code.built_in:
            prepare.code = require_program(self._programs, task)
        prepare.cards.extend(require_cards(self._store, contract, task))
        return message

    async def tell(self, enclave: str, message: Message, timeout_s: float) -> None:
        """Have an enclave begin a run, or say that it has it; waits while its link is down.

        Raises:
            PeerError: ``peer-unreachable``, ``peer-timeout``, ``enclave-lost``.
            CohortiumError: What the enclave says.
        """
        until = time.monotonic() + timeout_s
        while enclave not in self._peers.connected():
            if await in_thread(self.standing, enclave) is None:
                raise PeerError(LOST, f"{enclave} was suspended or removed; submit a new run.")
            if time.monotonic() >= until:
                raise PeerError(
                    "peer-unreachable",
                    f"{enclave}, which runs the task, is away. Resume the run when it is back.",
                )
            await asyncio.sleep(LOOK_S)
        try:
            reply = await self._peers.request(enclave, message, timeout_s)
            expect(reply, "ack")
        except CohortiumError as error:
            raise named(error, enclave) from error

    @property
    def gather_timeout_s(self) -> float:
        """See the class."""
        return self._gather_timeout_s

    @property
    def away_timeout_s(self) -> float:
        """See the class."""
        return self._away_timeout_s

    @property
    def store(self) -> HubStore:
        """What the hub remembers."""
        return self._store

    @property
    def board(self) -> Board:
        """The tasks under way."""
        return self._board

    def connected(self, enclave: str) -> bool:
        """Whether its link is up."""
        return enclave in self._peers.connected()


class _Order:
    """One run on the event loop."""

    def __init__(self, runs: TaskRuns, run: StoredRun, admitted: AdmittedTask, live: Live) -> None:
        self._runs = runs
        self._run = run
        self._id = run.info.id
        self._contract, self._task = admitted.contract, admitted.task
        self._live = live
        self._message: Message | None = None

    async def _told(self, enclave: str, timeout_s: float) -> None:
        if self._message is None:
            runs = self._runs
            self._message = await in_thread(runs.order, self._run, self._contract, self._task)
        await self._runs.tell(enclave, self._message, timeout_s)

    async def choose(self) -> bytes:
        """Give the run to an enclave, which is told before this returns.

        Raises:
            PeerError: ``no-enclave``, ``peer-timeout``, ``enclave-lost``.
            CohortiumError: What the enclave, or the last of several, says.
        """
        # An enclave that got the run before a crash of the hub keeps it: it may have keys.
        runs, until = self._runs, time.monotonic() + self._runs.gather_timeout_s
        held = await in_thread(runs.store.tasks.assigned, self._id)
        if held is not None and await self._is_bound(held.enclave):
            return _chosen(held.enclave)
        unfit: dict[str, CohortiumError] = {}
        self._live.message = "waiting for an enclave"
        while True:
            found = await in_thread(runs.candidates, self._contract, self._task)
            if held is not None:
                found.sort(key=lambda one: one.name != held.enclave)
            for member in found:
                if member.name not in unfit and await self._give(member, unfit):
                    return _chosen(member.name)
            if time.monotonic() >= until or (unfit and len(unfit) == len(found)):
                raise next(reversed(unfit.values()), self._nobody())
            await asyncio.sleep(min(LOOK_S, self._runs.gather_timeout_s))

    async def _is_bound(self, enclave: str) -> bool:
        decisions = await in_thread(self._runs.store.tasks.decisions, self._id)
        stays = any(one.decision == "accepted" for one in decisions.values())
        return stays and await in_thread(self._runs.standing, enclave) is not None

    def _nobody(self) -> PeerError:
        return PeerError(
            "no-enclave",
            f"No enclave that the contract accepts for {self._task.name} is connected and in good "
            "standing (cohortium hub enclaves). When one is: cohortium run resume RUN",
        )

    async def _give(self, member: Member, unfit: dict[str, CohortiumError]) -> bool:
        runs = self._runs
        await in_thread(runs.store.tasks.assign, self._id, member.name, member.key)
        watched = runs.board.put(self._id, self._live, member.name)
        try:
            await self._told(member.name, runs.away_timeout_s)
        except PolicyRefusal as refusal:
            if refusal.code not in _CANNOT:
                raise
            unfit[member.name] = refusal
            return False
        except PeerError as error:
            if error.code == LOST:
                raise
            unfit[member.name] = error
            return False
        watched.prepared = True
        return True

    async def wait(self, enclave: str) -> bytes:
        """The envelope of the outcome.

        Raises:
            CohortiumError: Why there is none.
        """
        watched = self._runs.board.put(self._id, self._live, enclave)
        while True:
            watched.changed.clear()
            envelope = await in_thread(self._runs.store.tasks.outcome, self._id)
            if envelope is not None:
                return envelope
            if watched.error is not None:
                raise watched.error
            if not watched.prepared:
                await self._tell_again(watched)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(watched.changed.wait(), LOOK_S * 5)
            silent = time.monotonic() - watched.heard > SILENT_S
            if silent or not self._runs.connected(enclave):
                watched.prepared = False

    async def _tell_again(self, watched: Watched) -> None:
        """Ask an enclave that was away, or silent, whether it has the run."""
        watched.prepared = True
        watched.heard = time.monotonic()
        await self._told(watched.enclave, self._runs.away_timeout_s)


def _chosen(enclave: str) -> bytes:
    return json.dumps({"enclave": enclave}).encode()


def _result(envelope: bytes, live: Live) -> bytes:
    """What the ledger commits to; ConflictError ``task-failed`` where there is nothing."""
    outcome, _ = TaskOutcome.open(envelope)
    live.sites = tuple(outcome.releases)
    live.seconds = outcome.seconds
    if outcome.end != "succeeded":
        raise ConflictError("task-failed", _FAILED[outcome.end], end=outcome.end)
    signed = base64.b64encode(envelope).decode()
    return canonical({"outcome": outcome.to_json(), "envelope": signed})


_LIMITS: Final = (
    "allows, the lower of `limits` in the contract and in the program's task.yaml; both are "
    "changed by a new version of the contract."
)
_FAILED: Final = {
    "failed": "The task's program failed. Whom the contract lets read what it printed can see why: "
    "cohortium task logs RUN",
    "stopped": "The task was stopped.",
    "memory": f"The task needed more memory than memory_bytes {_LIMITS}",
    "cpu": f"The task needed more processor time than cpu_s {_LIMITS}",
    "time": f"The task took longer than time_s {_LIMITS}",
    "disk": f"The task wrote more than disk_bytes {_LIMITS}",
    "processes": f"The task started more processes than processes {_LIMITS}",
}
