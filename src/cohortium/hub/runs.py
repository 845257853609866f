"""The execution of a run: key agreement, masked rounds, result.

`RunDriver.execute` blocks in a runner's thread and crosses to the event loop once for the key
agreement and once a round; sums are added up in the thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cohortium.analysis.interface import AnyAnalysis
from cohortium.contract.check import Admitted, check_run
from cohortium.contract.model import Contract
from cohortium.core.canonical import canonical
from cohortium.core.clock import Clock
from cohortium.core.rest import FINAL, RunInfo
from cohortium.core.rounds import State, Total
from cohortium.crypto.keys import b64url, unb64url
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    IntegrityFailure,
    PeerError,
    PolicyRefusal,
    ProtocolError,
)
from cohortium.hub.events import RunEvents
from cohortium.hub.live import Live, MeasuredJournal
from cohortium.hub.run_store import StoredRun
from cohortium.hub.store import HubStore
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect, put_state
from cohortium.link.ports import Peers
from cohortium.runs.journal import Journal
from cohortium.runs.loop import drive
from cohortium.secagg.aggregator import aggregate
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.roster import Roster

logger = logging.getLogger(__name__)
T = TypeVar("T")

RESUMABLE_CODES = frozenset({"too-few-sites", "masks-do-not-cancel"})


def resumable(error: CohortiumError) -> bool:
    """Whether asking the sites again can succeed; they keep the run's keys until then."""
    return isinstance(error, PeerError) or error.code in RESUMABLE_CODES


class RunDriver:
    """Executes runs that `Hub` has admitted and stored.

    Args:
        finished: Called in the run's thread when a run has ended, for better or worse.
    """

    def __init__(
        self,
        store: HubStore,
        peers: Peers,
        events: RunEvents,
        *,
        clock: Clock,
        find_analysis: Callable[[str], AnyAnalysis],
        gather_timeout_s: float,
        round_timeout_s: float,
        finished: Callable[[str], None],
    ) -> None:
        self._store = store
        self._peers = peers
        self._events = events
        self._clock = clock
        self._find_analysis = find_analysis
        self._gather_timeout_s = gather_timeout_s
        self._round_timeout_s = round_timeout_s
        self._finished = finished
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: dict[str, Live] = {}

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reach the peers on this loop."""
        self._loop = loop

    def show(self, run_id: str) -> RunInfo | None:
        """A run's record while it is under way."""
        live = self._live.get(run_id)
        return None if live is None or live.cancelled.is_set() else live.show()

    def interrupt(self, run_id: str) -> None:
        """Stop waiting for the sites of a run that was cancelled."""
        live = self._live.get(run_id)
        if live is not None:
            live.cancelled.set()
            if live.waiting is not None:
                live.waiting.cancel()

    # In the runner's thread

    def execute(self, run_id: str, journal: Journal) -> None:
        """Run to the end and record how it ended; never raises for what a run may meet."""
        run = self._store.runs.find(run_id)
        if run is None or run.info.status in FINAL:
            return
        live = self._live.setdefault(run_id, Live(run.info))
        try:
            self._end(run_id, live, result=self._compute(run, journal, live))
        except CohortiumError as refusal:
            self._end(run_id, live, error=refusal)
        except Exception:
            logger.exception("run %s failed unexpectedly", run_id)
            failure = IntegrityFailure("internal", "The hub failed on this run; see its log.")
            self._end(run_id, live, error=failure)
        finally:
            self._live.pop(run_id, None)
            self._events.changed(run_id)
            self._finished(run_id)

    def _compute(self, run: StoredRun, journal: Journal, live: Live) -> bytes:
        stored = self._store.studies.get(run.info.contract_digest)
        admitted = check_run(
            stored.contract,
            run.request,
            run.request.researcher,
            signatures_ok=stored.status == "active",
            find_analysis=self._find_analysis,
            now=self._clock(),
            revoked=self._store.members.revoked_keys(),
            accepted_before=True,
        )
        measured = MeasuredJournal(journal, live)
        execution = _Execution(self, run, admitted, measured, live)
        roster = execution.agree_keys()
        done = drive(
            admitted.analysis,
            admitted.params,
            replace(admitted.scope, n_sites=len(roster.sites)),
            journal=measured,
            sum_round=execution.sum_round,
            on_progress=execution.on_progress,
        )
        result = dict(done.result)
        if done.arrays:
            result["arrays"] = {name: array.tolist() for name, array in done.arrays.items()}
        return canonical(result)

    def _end(
        self,
        run_id: str,
        live: Live,
        *,
        result: bytes | None = None,
        error: CohortiumError | None = None,
    ) -> None:
        keep_keys = error is not None and resumable(error)
        self._store.runs.finish(
            run_id,
            "failed" if result is None else "succeeded",
            sites=live.sites,
            now=self._clock(),
            rounds=live.rounds,
            seconds=round(live.seconds, 6),
            payload_bytes=live.bytes_by_site(),
            result=result,
            error=error,
            end_sites=() if keep_keys else live.sites or live.asked,
        )

    def on_loop(
        self,
        live: Live,
        work: Coroutine[Any, Any, T],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> T:
        """Wait in this thread for `work` on the event loop; a cancelled run stops waiting.

        Args:
            live: The run.
            work: What to wait for.
            meanwhile: Done in this thread before it waits.
        """
        if self._loop is None:
            work.close()
            raise RuntimeError("the driver is not bound to an event loop")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        live.waiting = future
        try:
            if live.cancelled.is_set():
                future.cancel()
            meanwhile()
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise ConflictError("run-cancelled", "The run was cancelled.") from error
        finally:
            live.waiting = None

    # On the event loop

    async def ask(self, site: str, message: Message, body: str, timeout_s: float) -> Message:
        """One site's reply; an error names the site."""
        try:
            return expect(await self._peers.request(site, message, timeout_s), body)
        except CohortiumError as error:
            raise named(error, site) from error

    async def ask_all(
        self, sites: Sequence[str], message: Message, take: Callable[[str, Message], None]
    ) -> None:
        """Ask every site for a round and `take` each reply as it comes; the first error ends it."""

        async def ask(site: str) -> None:
            take(site, await self.ask(site, message, "round_reply", self._round_timeout_s))

        tasks = [asyncio.ensure_future(ask(site)) for site in sites]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def gather(self, contract: Contract, envelope: bytes) -> list[bytes]:
        """The signed round keys of all participants that can be reached in time.

        Raises:
            PolicyRefusal: ``too-few-sites``, naming those that are absent; or a site's refusal.
        """
        message = Message()
        message.run_prepare.request_envelope = envelope
        approved = {m.name for m in self._store.members.members() if m.status == "approved"}
        parties = [participant.name for participant in contract.participants]
        names = [name for name in parties if name in approved]
        timeout_s = self._gather_timeout_s
        answers = await asyncio.gather(
            *(self.ask(name, message, "run_advert", timeout_s) for name in names),
            return_exceptions=True,
        )
        envelopes: list[bytes] = []
        absent = [name for name in parties if name not in approved]
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Message):
                envelopes.append(answer.run_advert.envelope)
            elif isinstance(answer, PeerError) and answer.code != "peer-failed":
                absent.append(name)
            else:
                raise answer
        if len(envelopes) < contract.min_sites:
            raise PolicyRefusal(
                "too-few-sites",
                f"{len(envelopes)} sites are there; the contract asks for {contract.min_sites}. "
                f"Absent: {', '.join(absent)}. Resume the run when they are back.",
                absent=absent,
            )
        return envelopes

    def progressed(self, run_id: str) -> None:
        """Tell listeners."""
        self._events.changed(run_id)


class _Execution:
    """The steps of one run in its thread."""

    def __init__(
        self,
        driver: RunDriver,
        run: StoredRun,
        admitted: Admitted,
        measured: MeasuredJournal,
        live: Live,
    ) -> None:
        self._driver = driver
        self._run = run
        self._admitted = admitted
        self._measured = measured
        self._live = live
        self._request_digest = run.request.digest
        self._envelopes: list[bytes] = []
        self._roster: Roster | None = None

    def agree_keys(self) -> Roster:
        """Round 0. The roster is a journaled step: a run keeps its parties for life."""
        contract = self._admitted.contract
        self._live.asked = tuple(participant.name for participant in contract.participants)

        def ask() -> bytes:
            gathered = self._driver.on_loop(
                self._live, self._driver.gather(contract, self._run.envelope)
            )
            self._roster = self._verify(gathered)
            return json.dumps([b64url(envelope) for envelope in gathered]).encode()

        recorded = self._measured.step("roster", ask)
        self._envelopes = [unb64url(text) for text in json.loads(recorded)]
        if self._roster is None:  # recorded before a restart
            self._roster = self._verify(self._envelopes)
        self._live.sites = self._roster.sites
        return self._roster

    def _verify(self, envelopes: Sequence[bytes]) -> Roster:
        contract = self._admitted.contract
        return Roster.verify(
            envelopes,
            contract_keys={site.name: site.key for site in contract.participants},
            run_id=self._run.info.id,
            contract_digest=self._run.info.contract_digest,
            request_digest=self._request_digest,
            min_sites=contract.min_sites,
        )

    def sum_round(self, number: int, state: State) -> Total:
        """Ask every site for its masked contribution and add them up."""
        roster = self._roster
        if roster is None:
            raise RuntimeError("a round before the key agreement")
        run_id = self._run.info.id
        message = Message()
        message.round_request.run_id = run_id
        message.round_request.round = number
        put_state(state, message.round_request)
        message.round_request.roster.extend(self._envelopes)
        scope = replace(self._admitted.scope, n_sites=len(roster.sites))
        layout = self._admitted.analysis.layout(state, self._admitted.params, scope)
        masked: dict[str, bytes] = {}

        def take(site: str, reply: Message) -> None:
            answer = reply.round_reply
            if (answer.run_id, answer.round) != (run_id, number):
                raise ProtocolError("wrong-round", f"{site} answered for another round.", site=site)
            masked[site] = answer.masked

        self._driver.on_loop(
            self._live,
            self._driver.ask_all(roster.sites, message, take),
            meanwhile=lambda: state.digest,
        )
        binding = RoundBinding(
            run_id=run_id,
            round=number,
            contract_digest=self._run.info.contract_digest,
            request_digest=self._request_digest,
            state_digest=state.digest,
        )
        self._measured.payload_bytes = max(len(vector) for vector in masked.values())
        return aggregate(masked, roster, binding, layout)

    def on_progress(self, number: int, share: float, message: str) -> None:
        """A round is done."""
        live = self._live
        live.rounds, live.progress, live.message = number, share, message
        self._driver.progressed(self._run.info.id)


def named(error: CohortiumError, site: str) -> CohortiumError:
    """The same error, saying which site it is about."""
    if error.details.get("site") == site:
        return error
    told = type(error)(error.code, f"{site}: {error.message}")
    told.details = {**error.details, "site": site}  # a site may name its details as it likes
    return told
