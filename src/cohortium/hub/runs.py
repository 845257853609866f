"""The execution of a run: key agreement, masked rounds, result.

`RunDriver.execute` blocks in a runner's thread; sites are asked on the event loop, and what they
answer is added up in the thread as it comes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cohortium.analysis.interface import AnyAnalysis
from cohortium.analysis.screen import Screen, screened
from cohortium.contract.check import Admitted, check_run
from cohortium.contract.lifecycle import permits
from cohortium.contract.model import Computation, Contract, RunRequest
from cohortium.contract.noise_plan import plan
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.core.clock import Clock
from cohortium.core.rest import FINAL, RunInfo
from cohortium.core.rounds import State, Total
from cohortium.crypto.keys import b64url, unb64url
from cohortium.disclosure.differencing import refusal
from cohortium.errors import (
    CohortiumError,
    IntegrityFailure,
    PeerError,
    PolicyRefusal,
    ProtocolError,
)
from cohortium.hub.endings import resumable
from cohortium.hub.events import RunEvents
from cohortium.hub.exchange import Exchange, named
from cohortium.hub.live import Live, MeasuredJournal, Memory
from cohortium.hub.run_store import StoredRun
from cohortium.hub.screening import Comparison, Turn, Turns
from cohortium.hub.secure_sum import Patience, SecureSum
from cohortium.hub.store import HubStore
from cohortium.hub.task_runs import TaskRuns
from cohortium.hub.tasks import is_task
from cohortium.ledger.entry import Rounds
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect, raise_if_error
from cohortium.link.ports import Peers, Request
from cohortium.runs.journal import Journal
from cohortium.runs.loop import drive
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.parties import Parties
from cohortium.secagg.roster import Roster
from cohortium.secagg.round_key import RoundKey

logger = logging.getLogger(__name__)
T = TypeVar("T")
Answers = dict[str, bytes | CohortiumError]
"""Each participant's signed round key, or why there is none."""

WITNESSED_S = 0.1
"""Members that are there have witnessed a run's end by then, and nobody need hear of waiting."""


def _beside(work: Callable[[], None]) -> concurrent.futures.Future[None]:
    """`work` in a thread of its own that ends with it."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            work()
            done.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="decisions", daemon=True).start()
    return done


class RunDriver:
    """Executes runs that `Hub` has admitted and stored.

    Args:
        tasks: Executes runs of tasks.
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
        patience: Patience,
        tasks: TaskRuns,
        finished: Callable[[str], None],
    ) -> None:
        self._store = store
        self._peers = peers
        self._events = events
        self._clock = clock
        self._find_analysis = find_analysis
        self._gather_timeout_s = gather_timeout_s
        self._patience = patience
        self._tasks = tasks
        self._finished = finished
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: dict[str, Live] = {}
        self._turns = Turns()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reach the peers on this loop."""
        self._loop = loop

    def show(self, run_id: str) -> RunInfo | None:
        """A run's record while it is under way."""
        live = self._live.get(run_id)
        return None if live is None or live.cancelled.is_set() else live.show()

    def sums(self, run_id: str) -> tuple[Rounds, ...]:
        """Over whom the rounds of a run under way were so far."""
        live = self._live.get(run_id)
        return () if live is None else tuple(live.sums)

    def interrupt(self, run_id: str, reason: CohortiumError | None = None) -> None:
        """Stop waiting for the sites of a run that was cancelled, or ends with `reason`."""
        live = self._live.get(run_id)
        if live is not None:
            live.stopped = reason
            live.cancelled.set()
            waiting, wake = live.waiting, live.wake  # the run's thread may clear them meanwhile
            if waiting is not None:
                waiting.cancel()
            if wake is not None:
                wake()

    # In the runner's thread

    def execute(self, run_id: str, journal: Journal) -> None:
        """Run to the end and record how it ended; never raises for what a run may meet."""
        run = self._store.runs.find(run_id)
        if run is None or run.info.status in FINAL:
            return
        live = self._live.setdefault(run_id, Live(run.info))
        unless_s = 0.0
        try:
            self._end(run_id, live, result=self._compute(run, journal, live))
            unless_s = WITNESSED_S
        except CohortiumError as refusal:
            self._end(run_id, live, error=refusal)
        except Exception:
            logger.exception("run %s failed unexpectedly", run_id)
            failure = IntegrityFailure("internal", "The hub failed on this run; see its log.")
            self._end(run_id, live, error=failure)
        finally:
            self._live.pop(run_id, None)
            self._events.changed(run_id, unless_s=unless_s)
            self._finished(run_id)

    def _compute(self, run: StoredRun, journal: Journal, live: Live) -> bytes:
        if is_task(run.info.computation):
            return self._tasks.execute(run, journal, live, self.on_loop)
        version = self._store.studies.get(run.info.contract_digest)
        permits(version, run.request.computation, self._clock())
        admitted = check_run(
            version.contract,
            run.request,
            run.request.researcher,
            signatures_ok=True,
            find_analysis=self._find_analysis,
            now=self._clock(),
            revoked=self._store.members.revoked_keys(),
            accepted_before=True,
        )
        measured = MeasuredJournal(journal, live)
        execution = _Execution(self, run, admitted, measured, live)
        try:
            execution.agree_keys()
            done = drive(
                execution.analysis,
                admitted.params,
                admitted.scope,
                journal=execution,
                sum_round=execution.sum_round,
                sites=execution,
                on_progress=execution.on_progress,
            )
        except PolicyRefusal as refused:
            raise self._with_alternatives(refused, execution, admitted.contract) from refused
        finally:
            execution.turn.end()
        result = dict(done.result)
        suppressed = result.get("suppressed")
        live.suppressed = len(suppressed) if isinstance(suppressed, list) else 0
        if done.arrays:
            result["arrays"] = {name: array.tolist() for name, array in done.arrays.items()}
        if live.stopped is not None:  # since the last sum
            raise live.stopped
        return canonical(result)

    def _with_alternatives(
        self, refused: PolicyRefusal, execution: _Execution, contract: Contract
    ) -> PolicyRefusal:
        """Where the persons were too close to earlier ones: also what can be had with noise."""
        screen = execution.screen
        if screen is None or refused.message != refusal(screen.min_cell).message:
            return refused
        return refusal(screen.min_cell, self._with_noise(contract))

    def _with_noise(self, contract: Contract) -> tuple[str, ...]:
        """What the contract permits with noise, and how many sums of it are left."""
        runs = self._store.runs.list(contract.study)
        mine = [run for run in runs if run.info.contract_digest == contract.digest]
        left = [
            (entry, entry.noise.sums - sum(r.info.rounds for r in mine if _of(entry, r)))
            for entry in contract.computations
            if entry.noise is not None
        ]
        return tuple(
            f"{entry.name} with noise, of which {sums} sums are left"
            for entry, sums in left
            if sums > 0
        )

    def _end(
        self,
        run_id: str,
        live: Live,
        *,
        result: bytes | None = None,
        error: CohortiumError | None = None,
    ) -> None:
        keep_keys = error is not None and resumable(error)
        self._require_recorded(live, needed=result is not None)
        self._store.runs.finish(
            run_id,
            "failed" if result is None else "succeeded",
            sites=live.sites,
            now=self._clock(),
            rounds=live.rounds,
            seconds=round(live.seconds, 6),
            payload_bytes=live.bytes,
            result=result,
            error=error,
            end_sites=() if keep_keys else live.roster or live.asked,
            sums=live.sums,
            suppressed=live.suppressed if error is None else 0,
        )

    def _require_recorded(self, live: Live, *, needed: bool) -> None:
        """The participants' decisions stand before the run's end; before a result they must."""
        if live.recording is None:
            return
        failure = live.recording.exception()
        if failure is not None:
            logger.error("the decisions on run %s are not recorded", live.info.id, exc_info=failure)
            if needed:
                raise failure

    def on_loop(self, live: Live, work: Coroutine[Any, Any, T]) -> T:
        """Wait in this thread for `work` on the event loop; a cancelled run stops waiting."""
        future = asyncio.run_coroutine_threadsafe(work, self._bound())
        live.waiting = future
        try:
            if live.cancelled.is_set():
                future.cancel()
            return future.result()
        except concurrent.futures.CancelledError as error:
            # Or else the loop has ended, and the hub with it: to the run that is a crash.
            live.cancelled.wait()
            raise live.ending from error
        finally:
            live.waiting = None

    def _bound(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the driver is not bound to an event loop")
        return self._loop

    def secure_sum(
        self, run_id: str, parties: Parties, envelopes: Sequence[bytes], live: Live, continues: bool
    ) -> SecureSum:
        """The secure sums of a run."""

        async def ask(site: str, message: Request) -> Message:
            return await self.ask(site, message, self._patience.round_s)

        return SecureSum(
            parties,
            envelopes,
            run_id=run_id,
            patience=self._patience,
            open_exchange=lambda: Exchange(self._bound(), ask, live),
            connected=self._peers.connected,
            continues=continues,
        )

    def turn(self, study: str, live: Live) -> Turn:
        """See `Turns.take`."""
        return self._turns.take(study, live)

    # On the event loop

    async def ask(self, site: str, message: Request, timeout_s: float) -> Message:
        """One site's reply; an error names the site."""
        try:
            reply = await self._peers.request(site, message, timeout_s)
            raise_if_error(reply)
        except CohortiumError as error:
            raise named(error, site) from error
        return reply

    async def _adverts(
        self, keys: Mapping[str, str], message: Message, request: RunRequest, live: Live
    ) -> list[bytes | BaseException]:
        return await asyncio.gather(
            *(self._advert(site, key, message, request, live) for site, key in keys.items()),
            return_exceptions=True,
        )

    def gather(self, contract: Contract, run: StoredRun, live: Live) -> Answers:
        """What each participant answers in time: its signed round key, or why not."""
        message = Message()
        message.run_prepare.request_envelope = run.envelope
        approved = {m.name for m in self._store.members.members() if m.status == "approved"}
        asked = {site.name: site.key for site in contract.participants if site.name in approved}
        answers = self.on_loop(live, self._adverts(asked, message, run.request, live))
        away = PeerError("peer-unreachable", "Not a member in good standing.")
        given: Answers = {site.name: away for site in contract.participants}
        for name, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, CohortiumError):
                raise answer
            given[name] = answer
        return given

    def take_part(
        self, run_id: str, contract: Contract, answers: Answers, live: Live
    ) -> list[bytes]:
        """The signed round keys of the participants that are there; all decisions are recorded.

        Where the run goes on, it does so while its record is written; `_end` waits for that.

        Raises:
            PolicyRefusal: ``too-few-sites``, naming those that are absent; or a site's refusal.
        """
        live.recording = _beside(lambda: self._store.runs.decided(run_id, answers))
        envelopes: list[bytes] = []
        absent: list[str] = []
        for name, answer in answers.items():
            if isinstance(answer, bytes):
                envelopes.append(answer)
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

    def record_again(self, run_id: str, contract: Contract, envelopes: Sequence[bytes]) -> None:
        """The decisions of a run that was interrupted, where they were not recorded before."""
        if self._store.runs.accepted(run_id) == {digest_bytes(one) for one in envelopes}:
            return
        away = PeerError("peer-unreachable", "It did not take part.")
        answers: Answers = {site.name: away for site in contract.participants}
        for envelope in envelopes:
            answers[RoundKey.open(envelope)[0].site] = envelope
        self._store.runs.decided(run_id, answers)

    async def _advert(
        self, site: str, key: str, message: Message, request: RunRequest, live: Live
    ) -> bytes:
        """A site's round key; what it did not sign for this run is not its answer on the ledger."""
        reply = expect(await self.ask(site, message, self._gather_timeout_s), "run_advert")
        try:
            stated, _ = RoundKey.open(reply.run_advert.envelope, key=key)
            live.memories[site] = Memory.of(reply.run_advert)
        except CohortiumError as error:
            raise named(error, site) from error
        bound = (stated.site, stated.run_id, stated.contract_digest, stated.request_digest)
        if bound != (site, request.run_id, request.contract_digest, request.digest):
            raise ProtocolError(
                "wrong-round", f"The round key of {site} belongs to another run.", site=site
            )
        return reply.run_advert.envelope

    @property
    def gather_timeout_s(self) -> float:
        """How long a run waits for absent participants before its first round."""
        return self._gather_timeout_s

    def progressed(self, run_id: str) -> None:
        """Tell listeners."""
        self._events.changed(run_id)


def _of(entry: Computation, run: StoredRun) -> bool:
    return entry.covers(run.info.computation)


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
        self._sums: SecureSum | None = None
        self._bytes: dict[str, int] = {}
        self._number = 0
        self._comparison = Comparison(None, 0, known=True)
        self.turn = driver.turn(admitted.contract.study, live)

    @property
    def screen(self) -> Screen | None:
        """What the run is compared with."""
        return self._comparison.screen

    @property
    def analysis(self) -> AnyAnalysis:
        """The rounds of the run, the comparison with earlier results among them."""
        comparison = self._comparison
        return screened(self._admitted.analysis, comparison.screen, view=comparison.view)

    def agree_keys(self) -> None:
        """Round 0, and the keys of round 1. The roster is a journaled step: it stays for life."""
        contract = self._admitted.contract
        self._live.asked = tuple(participant.name for participant in contract.participants)

        def ask() -> bytes:
            answers = self._driver.gather(contract, self._run, self._live)
            gathered = self._driver.take_part(self._run.info.id, contract, answers, self._live)
            there = [site for site, answer in answers.items() if isinstance(answer, bytes)]
            memories = [self._live.memories[site] for site in there]
            self._compare(Comparison.of(self._admitted, memories))
            self._sums = sums = self._secure_sum(gathered)
            sums.active = sums.share_keys(1, sums.active, self._driver.gather_timeout_s)
            sums.require_enough()
            self._measured.note = sums.note()
            roster = [b64url(envelope) for envelope in gathered]
            body = {"roster": roster, "comparison": self._comparison.to_json()}
            return json.dumps(body).encode()

        recorded = json.loads(self._measured.step("roster", ask))
        self._compare(Comparison.from_json(recorded["comparison"]))
        if self._sums is None:  # recorded before a restart
            envelopes = [unb64url(text) for text in recorded["roster"]]
            self._driver.record_again(self._run.info.id, contract, envelopes)
            self._sums = self._secure_sum(envelopes)
            self._sums.restore(self._measured.note)
        self._live.sites = self._live.roster = self._sums.parties.sites

    def _compare(self, comparison: Comparison) -> None:
        self._comparison = comparison
        if comparison.known:  # no site will remember more than now
            self.turn.end()

    def _secure_sum(self, envelopes: Sequence[bytes]) -> SecureSum:
        contract = self._admitted.contract
        roster = Roster.verify(
            envelopes,
            contract_keys={site.name: site.key for site in contract.participants},
            run_id=self._run.info.id,
            contract_digest=self._run.info.contract_digest,
            request_digest=self._request_digest,
            min_sites=contract.min_sites,
        )
        parties = Parties(roster, contract.min_sites)
        continues = self.analysis.drop_outs == "continue"
        return self._driver.secure_sum(self._run.info.id, parties, envelopes, self._live, continues)

    # Who is in the last sum, and in the next: it stands beside each sum in the journal

    def step(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """See `Journal.step`."""
        self._live.require_room()
        computed = False

        def work() -> bytes:
            nonlocal computed
            computed = True
            return compute()

        data = self._measured.step(name, work)
        if not computed:  # recorded before a restart
            self._agreed.restore(self._measured.note)
        for site in self._agreed.summed:
            self._bytes[site] = self._bytes.get(site, 0) + self._measured.payload_bytes
        self._live.bytes = {s: self._bytes[s] for s in self._live.roster if s in self._bytes}
        self._live.sites = tuple(self._live.bytes)
        self._number += 1
        summed = self._agreed.summed
        if self._number > (self._comparison.screen is not None):  # these persons are told of
            self.turn.end()
        self._live.summed(self._number, tuple(s for s in self._live.roster if s in summed))
        return data

    @property
    def _agreed(self) -> SecureSum:
        if self._sums is None:
            raise RuntimeError("a round before the key agreement")
        return self._sums

    @property
    def active(self) -> int:
        """See `loop.Sites`."""
        return len(self._agreed.active)

    @property
    def summed(self) -> int:
        """See `loop.Sites`."""
        return len(self._agreed.summed)

    def sum_round(self, number: int, state: State) -> Total:
        """Ask every site for its masked contribution and add them up."""
        sums = self._agreed
        scope = replace(self._admitted.scope, n_sites=self.active)
        layout = self.analysis.layout(state, self._admitted.params, scope)
        if self._admitted.noise is not None:
            parties = sums.parties
            layout = plan(self._admitted.noise, layout, len(parties.sites), parties.fewest).layout
        total = sums.sum(
            number,
            state,
            layout,
            RoundBinding(
                run_id=self._run.info.id,
                round=number,
                contract_digest=self._run.info.contract_digest,
                request_digest=self._request_digest,
                state_digest=state.digest,
            ),
        )
        if number < self.analysis.max_rounds:
            sums.rejoin(number + 1)
        self._measured.payload_bytes = sums.payload_bytes
        self._measured.note = sums.note()
        return total

    def on_progress(self, number: int, share: float, message: str) -> None:
        """A round is done."""
        live = self._live
        live.rounds, live.progress, live.message = number, share, message
        self._driver.progressed(self._run.info.id)
