"""One run of a task, from its lenders' keys to its signed outcome; in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Final

from cohortium.contract.task import ExecutorName
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.core.clock import Clock
from cohortium.enclave.exchange import Handed, LentFile, Made, Stage, TaskOutcome
from cohortium.enclave.executor import Executor, Prepared, Running
from cohortium.enclave.job import Job, Outcome
from cohortium.errors import CohortiumError, PeerError, ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.worker.admission import TaskOrder
from cohortium.worker.cache import Ciphertext, CiphertextCache
from cohortium.worker.capacity import Capacity
from cohortium.worker.folder import Identity
from cohortium.worker.hub_calls import HubCalls, Stopped
from cohortium.worker.inputs import LentInput, files_of
from cohortium.worker.lending import Borrower, Lent
from cohortium.worker.outputs import EncryptedOutputs
from cohortium.worker.place import PROVEN_FROM, require_evidence

log = logging.getLogger(__name__)
_STOPPED: Final = Outcome("stopped")
_FETCHES: Final = 4
"""Files at a time."""


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        done_bytes: Of what the stage moves, and `total_bytes` of all; 0 where it moves nothing.
    """

    stage: Stage
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        how: Its end, or the code of the error.
        outcome: Envelope of its signed outcome; or else `error`, on the wire.
    """

    how: str
    outcome: bytes | None = None
    error: bytes | None = None


class TaskRun:
    """A run that was admitted.

    Args:
        inputs: The job's inputs by slot, which are filled here.
    """

    def __init__(
        self,
        order: TaskOrder,
        place: Executor,
        job: Job,
        inputs: Mapping[str, LentInput],
        *,
        identity: Identity,
        calls: HubCalls,
        cache: CiphertextCache,
        capacity: Capacity,
        clock: Clock,
    ) -> None:
        self.order = order
        self._place = place
        self._job = job
        self._inputs = inputs
        self._identity = identity
        self._calls = calls
        self._cache = cache
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._releases: dict[str, str] = {}
        self.progress = Progress("preparing")

    @property
    def executor(self) -> ExecutorName:
        """Where it runs."""
        return self._place.name

    def stop(self, reason: str) -> None:
        """End it: the task with all that it started, or what is waited for."""
        if self._calls.stopped:
            return
        log.info("run %s: stopped (%r)", self.order.run_id[:8], reason[:200])
        self._calls.stop()
        self._capacity.wake()
        with self._lock:
            if self._running is not None:
                self._running.stop()

    def run(self) -> Ended:
        """Do all of it; raises nothing."""
        try:
            try:
                envelope, how = self._do()
            except Stopped:
                envelope, how = self._outcome(_STOPPED), "stopped"
            return Ended(how, outcome=envelope)
        except CohortiumError as error:
            log.info("run %s: %s: %r", self.order.run_id[:8], error.code, error.message[:500])
            return failed(error)
        except Exception as error:  # noqa: BLE001 - the hub is told whatever happens here
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "run %s failed: %s at %s:%s",
                self.order.run_id[:8],
                type(error).__name__,
                where.filename,
                where.lineno,
            )
            return failed(
                PeerError("peer-failed", "The enclave failed on this run; its log says where.")
            )
        finally:
            for one in self._inputs.values():
                one.drop()

    def _do(self) -> tuple[bytes, str]:
        with self._capacity.taken(self._job.limits.memory_bytes, self._calls.require_going):
            key = PrivateKey.generate()
            prepared, lent = self._borrow(key)
            handed = {slot: one for from_site in lent for slot, one in from_site.inputs.items()}
            with self._fetched(handed, lent) as files:
                keyring = Keyring([key])
                for slot, one in self._inputs.items():
                    one.lend(handed[slot], files[slot], keyring)
                return self._compute(prepared)

    def _borrow(self, key: PrivateKey) -> tuple[Prepared | None, list[Lent]]:
        self._at("keys")
        level, prepared = self.order.admitted.level, None
        if level >= PROVEN_FROM:
            prepared = self._place.prepare(self._job)
        attest = None if prepared is None else prepared.attest
        require_evidence(self._place, attest is not None, level)
        borrower = Borrower(
            self.order,
            self._identity,
            executor=self._place.name,
            recipient=key.public,
            attest=attest,
            calls=self._calls,
            clock=self._clock,
        )
        lent = []
        for site in self.order.admitted.task.lenders:
            lent.append(borrower.borrow(site))
            self._releases[site] = digest_bytes(lent[-1].release)
        return prepared, lent

    @contextlib.contextmanager
    def _fetched(
        self, handed: Mapping[str, Handed], lent: list[Lent]
    ) -> Iterator[dict[str, dict[str, Ciphertext]]]:
        """The ciphertext of all inputs, for as long as the block lasts."""
        wanted = files_of(handed)
        owner = {slot: one.site for one in lent for slot in one.inputs}
        self._at("inputs", sum(one.size_bytes for one in wanted))
        self._cache.reserve(wanted)
        given_up = threading.Event()
        try:
            with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as pool:
                coming = {
                    (slot, file.path): pool.submit(self._fetch, owner[slot], slot, file, given_up)
                    for slot, one in handed.items()
                    for file in one.files.files
                }
                try:
                    for one in as_completed(coming.values()):
                        one.result()
                finally:
                    given_up.set()
                    pool.shutdown(wait=False, cancel_futures=True)
            found: dict[str, dict[str, Ciphertext]] = {slot: {} for slot in handed}
            for (slot, path), one in coming.items():
                found[slot][path] = one.result()
            yield found
        finally:
            self._cache.release(wanted)

    def _fetch(self, site: str, slot: str, file: LentFile, given_up: threading.Event) -> Ciphertext:
        def fetch(offset: int) -> tuple[bytes, int]:
            if given_up.is_set():
                raise Stopped
            asked = pb.TaskFetch(
                run_id=self.order.run_id,
                site=site,
                slot=slot,
                path=file.content_digest,
                offset=offset,
            )
            reply = self._calls.patiently(
                lambda: self._calls.ask(pb.Message(task_fetch=asked), "task_piece")
            )
            return bytes(reply.task_piece.data), reply.task_piece.size

        return self._cache.file(file, fetch, self._moved)

    def _compute(self, prepared: Prepared | None) -> tuple[bytes, str]:
        self._at("running")
        begun = time.monotonic()
        running = self._place.start(prepared or self._place.prepare(self._job))
        try:
            with self._lock:
                self._running = running
            if self._calls.stopped:
                running.stop()
            outcome = running.wait()
            seconds = time.monotonic() - begun
            made = self._collected(running, outcome)
        except BaseException:
            _finish(running)
            raise
        finally:
            with self._lock:
                self._running = None
        return self._outcome(outcome, seconds, made), outcome.end

    def _collected(self, running: Running, outcome: Outcome) -> tuple[Made, ...]:
        if outcome.end == "stopped":
            running.collect(None)
            return ()
        self._at("outputs")
        sink = EncryptedOutputs(self.order, self._identity.key, self._calls, self._moved)
        try:
            running.collect(sink)
            return sink.close(outcome.log, succeeded=outcome.end == "succeeded")
        finally:
            sink.discard()

    def _outcome(
        self,
        outcome: Outcome,
        seconds: float = 0.0,
        made: tuple[Made, ...] = (),
    ) -> bytes:
        order = self.order
        self._at("ended")
        log.info("run %s: %s after %.1f s", order.run_id[:8], outcome.end, seconds)
        return TaskOutcome(
            run_id=order.run_id,
            study=order.contract.study,
            request_digest=order.request.digest,
            contract_digest=order.contract.digest,
            task=order.admitted.task.name,
            enclave=self._identity.name,
            enclave_key=self._identity.key.public,
            executor=self._place.name,
            level=order.admitted.level,
            end=outcome.end,
            log_truncated=outcome.log_truncated,
            # A program could tell the hub something in what it uses, to the last digit.
            cpu_s=_about(outcome.cpu_s),
            largest_process_bytes=int(_about(outcome.largest_process_bytes)),
            seconds=_about(seconds),
            outputs=made,
            releases=self._releases,
            at=self._clock(),
        ).sign(self._identity.key)

    def _at(self, stage: Stage, total_bytes: int = 0) -> None:
        if stage != "ended":
            self._calls.require_going()
            log.info("run %s: %s", self.order.run_id[:8], stage)
        self.progress = Progress(stage, 0, total_bytes)

    def _moved(self, size: int) -> None:
        with self._lock:
            now = self.progress
            self.progress = Progress(now.stage, now.done_bytes + size, now.total_bytes)


def _about(value: float) -> float:
    """Two digits of it."""
    return float(f"{value:.2g}")


def failed(error: CohortiumError) -> Ended:
    """A run that an error ended."""
    return Ended(error.code, error=canonical(error.to_wire()))


def _finish(running: Running) -> None:
    """Nothing of the sandbox stays, whatever ended the run."""
    with contextlib.suppress(ProtocolError, CohortiumError):
        running.stop()
        running.wait()
    with contextlib.suppress(RuntimeError, CohortiumError):
        running.collect(None)
