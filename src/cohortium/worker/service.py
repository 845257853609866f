"""The hub's requests, answered, and the runs that come of them."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from cohortium.contract import code
from cohortium.contract.model import RunRequest
from cohortium.core.canonical import parse_json
from cohortium.core.clock import Clock, system_clock
from cohortium.enclave.executor import Executor
from cohortium.errors import CohortiumError, PeerError, ProtocolError, VerificationError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import expect
from cohortium.link.ports import Uplink
from cohortium.link.session import PROTOCOL
from cohortium.version import __version__
from cohortium.worker import place as places
from cohortium.worker.admission import admit
from cohortium.worker.cache import CiphertextCache
from cohortium.worker.capacity import Capacity
from cohortium.worker.folder import EnclaveConfig, EnclaveDir, Identity
from cohortium.worker.hub_calls import AWAY, HubCalls
from cohortium.worker.inputs import LentInput
from cohortium.worker.packages import PackageSets
from cohortium.worker.run import Ended, Progress, TaskRun, failed
from cohortium.worker.store import RunStore, StoredRun

log = logging.getLogger(__name__)

REPORT_TIMEOUT_S: Final = 15.0
REPORT_GAP_S: Final = 0.2
REPORT_EVERY_S: Final = 10.0
AGAIN_AFTER_S: Final = 2.0
CLOSES_WITHIN_S: Final = 5.0
CODE: Final = "code"


class WorkerService:
    """An enclave that serves a hub; see `cohortium.link.ports.Handler`.

    Args:
        known: All executors by name; absent: those of this machine.
    """

    def __init__(
        self,
        folder: EnclaveDir,
        config: EnclaveConfig,
        identity: Identity,
        store: RunStore,
        *,
        clock: Clock = system_clock,
        known: Mapping[str, Executor] | None = None,
    ) -> None:
        self.identity = identity
        self.store = store
        self._folder = folder
        self._config = config
        self._clock = clock
        self._known = known
        self._cache = CiphertextCache(folder.cache, config.max_cache_bytes)
        self._capacity = Capacity(config.max_tasks, config.memory_bytes)
        self._packages = PackageSets(folder.packages, clock)
        self._uplink: Uplink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._revoked: frozenset[str] = frozenset()
        self._admitting = asyncio.Lock()
        self._runs: dict[str, TaskRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def attach(self, uplink: Uplink) -> None:
        """Use this way to the hub, and send over it what is owed; in the link's event loop."""
        self._uplink, self._loop = uplink, asyncio.get_running_loop()
        for run in self.store.owed():
            self._deliver_soon(run.run_id)

    def recover(self) -> None:
        """After a crash: what was under way is lost, since its keys were in memory only."""
        shutil.rmtree(self._folder.runs, ignore_errors=True)
        for run in self.store.under_way():
            self._end(run.run_id, failed(_lost()))

    def hello(self) -> pb.Message:
        """The first message of each connect."""
        return pb.Message(hello=pb.Hello(protocol=PROTOCOL, software=f"cohortium {__version__}"))

    def welcome(self, message: pb.Message) -> None:
        """Take the hub's word on removed researchers; it can only add to them."""
        self._revoke(message.welcome.revoked_keys)

    @property
    def progress(self) -> dict[str, Progress]:
        """Where each run is that is under way."""
        return {run_id: run.progress for run_id, run in self._runs.items()}

    async def handle(self, message: pb.Message) -> pb.Message:
        """See `Handler`."""
        body = message.WhichOneof("body")
        if body == "task_prepare":
            await self._prepare(message.task_prepare)
        elif body == "task_stop":
            run = self._runs.get(message.task_stop.run_id)
            if run is not None:
                await asyncio.to_thread(run.stop, message.task_stop.reason)
        elif body == "revocation":
            self._revoke(message.revocation.revoked_keys)
        else:
            raise ProtocolError("unexpected-message", f"An enclave answers no {body}.")
        return pb.Message(ack=pb.Ack())

    async def close(self) -> None:
        """Stop all runs, and tell the hub where it listens; else it hears at the next start."""
        for run in list(self._runs.values()):
            await asyncio.to_thread(run.stop, "the enclave is shutting down")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSES_WITHIN_S):
                while self._tasks and (self._runs or (self._uplink and self._uplink.connected)):
                    await asyncio.wait(
                        list(self._tasks.values()), return_when=asyncio.FIRST_COMPLETED
                    )
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _revoke(self, keys: Any) -> None:
        self._revoked |= frozenset(keys)
        for run in list(self._runs.values()):
            if run.order.request.researcher in self._revoked:
                run.stop("the researcher was removed")

    async def _prepare(self, asked: pb.TaskPrepare) -> None:
        # 1. A run is known by its request, and begun once. 2. All that has to hold does. 3. It is
        # written down before it begins.
        async with self._admitting:
            request, _ = RunRequest.open(bytes(asked.request_envelope))
            stored = self.store.find(request.run_id)
            if stored is not None:  # 1
                self._answer_again(request, stored)
                return
            try:
                run = await asyncio.to_thread(self._admitted, asked)  # 2
            except BaseException:
                self._tidy(request.run_id)
                raise
            self.store.begin(  # 3
                run.order.run_id,
                request.digest,
                request.study,
                run.order.admitted.task.name,
                run.executor,
            )
            log.info("run %s: begun in %s", request.run_id[:8], run.executor)
            self._runs[request.run_id] = run
            self._start(f"run {request.run_id}", self._follow(run))

    def _answer_again(self, request: RunRequest, stored: StoredRun) -> None:
        if stored.request != request.digest:
            raise VerificationError("replayed", "There was another request of that run id.")
        if stored.how is None and request.run_id not in self._runs:
            self._end(request.run_id, failed(_lost()))
            stored = self.store.find(request.run_id) or stored
        if stored.how is not None:
            self._deliver_soon(request.run_id)
        if stored.error is not None:
            raise CohortiumError.from_wire(parse_json(stored.error))

    def _admitted(self, asked: pb.TaskPrepare) -> TaskRun:
        order = admit(asked, self.identity, now=self._clock(), revoked=self._revoked)
        place = places.choose(order, self._config.executors, self._known)
        readable = self._packages.of_program(order.files)
        folder = self._folder.runs / order.run_id / CODE
        if order.files:
            code.unpack(bytes(asked.code), folder, order.admitted.task.code.content_digest)
        found, folder = places.program(order, folder)
        calls = self._calls()
        inputs = {
            slot.name: LentInput(calls.require_going)
            for slot in order.admitted.task.inputs
            if slot.artefact is not None
        }
        job = places.job(order, found, folder, inputs, readable)
        self._capacity.require_room(job.limits.memory_bytes)
        return TaskRun(
            order,
            place,
            job,
            inputs,
            identity=self.identity,
            calls=calls,
            cache=self._cache,
            capacity=self._capacity,
            clock=self._clock,
        )

    def _calls(self) -> HubCalls:
        if self._uplink is None or self._loop is None:
            raise RuntimeError("an enclave serves once it has a link")
        return HubCalls(self._uplink, self._loop)

    async def _follow(self, run: TaskRun) -> None:
        """Run it, tell the hub where it is, and at last how it ended."""
        loop, run_id = asyncio.get_running_loop(), run.order.run_id
        ended: asyncio.Future[Ended] = loop.create_future()

        def tell(how: Ended) -> None:
            if not ended.done():
                ended.set_result(how)

        def work() -> None:
            how = run.run()
            with suppress(RuntimeError):  # the process is ending
                loop.call_soon_threadsafe(tell, how)

        threading.Thread(target=work, name=f"run-{run_id[:8]}", daemon=True).start()
        await self._report(run, ended)
        self._end(run_id, ended.result())
        del self._runs[run_id]
        self._tidy(run_id)
        self._deliver_soon(run_id)

    async def _report(self, run: TaskRun, ended: asyncio.Future[Ended]) -> None:
        loop = asyncio.get_running_loop()
        said, at = None, 0.0
        while not ended.done():
            now = run.progress
            if now != said or loop.time() - at >= REPORT_EVERY_S:
                said, at = now, loop.time()
                await self._tell(run, now)
            await asyncio.wait({ended}, timeout=REPORT_GAP_S)

    async def _tell(self, run: TaskRun, now: Progress) -> None:
        report = pb.TaskReport(
            run_id=run.order.run_id,
            stage=now.stage,
            done_bytes=now.done_bytes,
            total_bytes=now.total_bytes,
        )
        try:
            await self._request(pb.Message(task_report=report))
        except PeerError:
            return  # the task goes on while the hub is away
        except CohortiumError as error:
            await asyncio.to_thread(run.stop, f"{error.code}: {error.message}")

    def _deliver_soon(self, run_id: str) -> None:
        name = f"deliver {run_id}"
        if name not in self._tasks:
            self._start(name, self._deliver(run_id))

    async def _deliver(self, run_id: str) -> None:
        """Tell the hub how a run ended, until it knows."""
        run = self.store.find(run_id)
        if run is None:
            return
        report = pb.TaskReport(
            run_id=run_id, stage="ended", outcome=run.outcome or b"", error=run.error or b""
        )
        while True:
            try:
                await self._request(pb.Message(task_report=report))
            except CohortiumError as error:
                if isinstance(error, PeerError) and error.code in AWAY:
                    await asyncio.sleep(AGAIN_AFTER_S)
                    continue
                log.info("run %s: the hub takes no outcome (%s)", run_id[:8], error.code)
            self.store.sent(run_id)
            return

    async def _request(self, message: pb.Message) -> None:
        if self._uplink is None:
            raise PeerError("peer-unreachable", "There is no link to the hub yet.")
        expect(await self._uplink.request(message, REPORT_TIMEOUT_S), "ack")

    def _start(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks[name] = task

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.pop(name, None)
            if not ended.cancelled() and (error := ended.exception()) is not None:
                log.error("%s failed: %s", name, type(error).__name__)

        task.add_done_callback(done)

    def _end(self, run_id: str, ended: Ended) -> None:
        self.store.end(run_id, ended.how, outcome=ended.outcome, error=ended.error)

    def _tidy(self, run_id: str) -> None:
        shutil.rmtree(self._folder.runs / run_id, ignore_errors=True)


def _lost() -> PeerError:
    return PeerError(
        "enclave-lost",
        "The enclave ended while it ran the task, and the keys with it; submit a new run.",
    )
