"""The hub: every operation behind REST and the link. `Hub` lives on one event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cohortium.analysis.interface import AnyAnalysis
from cohortium.contract.check import check_run
from cohortium.contract.lifecycle import Version, permits
from cohortium.contract.model import Contract, Draft, RunRequest
from cohortium.contract.statements import Assignment
from cohortium.core.canonical import parse_json
from cohortium.core.clock import Clock, system_clock
from cohortium.core.rest import (
    FINAL,
    ConsortiumInfo,
    DraftInfo,
    MemberInfo,
    RunInfo,
    RunResult,
    StudyInfo,
    UserInfo,
)
from cohortium.crypto.authority import Authority
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.signed import Envelope
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    IntegrityFailure,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.hub.audit import AuditExport
from cohortium.hub.config import HubConfig
from cohortium.hub.delivery import Delivery
from cohortium.hub.drafts import Drafts
from cohortium.hub.enclave_handler import EnclaveHandler
from cohortium.hub.endings import resumable
from cohortium.hub.events import Event, RunEvents
from cohortium.hub.ledger import Ledger
from cohortium.hub.ledger_store import Log
from cohortium.hub.limits import RateLimit
from cohortium.hub.member_store import User
from cohortium.hub.members import Membership
from cohortium.hub.recovery import Recovery
from cohortium.hub.run_store import StoredRun
from cohortium.hub.runner import Runner
from cohortium.hub.runs import RunDriver
from cohortium.hub.secure_sum import Patience
from cohortium.hub.site_handler import SiteHandler
from cohortium.hub.store import HubStore
from cohortium.hub.studies import Studies
from cohortium.hub.task_needs import sites_about
from cohortium.hub.tasks import Reader, Tasks, is_task
from cohortium.hub.watch import MembershipWatch
from cohortium.link.ports import Handler, Peers

SENT_BYTES = 64 * 1024
"""A result up to this size is sent with the word that its run is over."""
FORGET_S = 0.5
"""How long after a run that succeeded its sites are told so, of all that succeeded meanwhile."""


def find_builtin(name: str) -> AnyAnalysis:
    """The registry, imported with the first run."""
    from cohortium.analysis.builtin import find

    return find(name)


class Hub:
    """Composes membership, studies and runs over one store.

    Args:
        consortium: What newcomers are told; its fingerprint names the consortium.
        peers: The connected nodes. The link needs `handler_for`, so it may be set after
            construction, before `start`.
        runner: Executes runs.
        ledger_key: Signs the ledger; None only for a hub in memory, which begins a new one.
        earlier_keys: Verifier keys of hubs that this one took over from, oldest first.
        folder: For programs and outputs of tasks; None only for a hub in memory.
    """

    def __init__(
        self,
        store: HubStore,
        *,
        consortium: ConsortiumInfo,
        runner: Runner,
        authority: Authority | None = None,
        config: HubConfig | None = None,
        clock: Clock = system_clock,
        random: Callable[[int], bytes] = os.urandom,
        find_analysis: Callable[[str], AnyAnalysis] = find_builtin,
        ledger_key: SigningKey | None = None,
        earlier_keys: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        self.store = store
        key = ledger_key or SigningKey.generate()
        self.log = Log(consortium.name, consortium.fingerprint, key, tuple(earlier_keys))
        self.consortium = consortium.model_copy(update={"ledger_key": self.log.verifier.text})
        self.config = config or HubConfig()
        self.clock = clock
        self.members = Membership(
            store.members,
            name=consortium.name,
            fingerprint=consortium.fingerprint,
            authority=authority,
            clock=clock,
            random=random,
        )
        self.studies = Studies(
            store.studies, store.members, fingerprint=consortium.fingerprint, clock=clock
        )
        self.drafts = Drafts(store.drafts, self.studies, store.members, clock)
        self.tasks = Tasks(store, folder=folder, clock=clock, connected=self.connected)
        self._runner = runner
        self._find_analysis = find_analysis
        self._denials = RateLimit(self.config.requests_per_minute)
        self._entries = RateLimit(self.config.entries_per_minute)
        self._events = RunEvents()
        self._peers: Peers | None = None
        self._driver: RunDriver | None = None
        self._delivery: Delivery | None = None
        self._watch: MembershipWatch | None = None
        self._recovery: Recovery | None = None
        self.ledger = Ledger(
            store.ledger,
            self.log,
            clock=clock,
            participants=self._participant_keys,
            released=self._released,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._telling: asyncio.TimerHandle | None = None

    # Life

    async def start(self, peers: Peers, *, watch: bool = True) -> None:
        """Serve on the running loop over `peers`; runs that were open go on.

        Args:
            watch: Look for changes that the operator's commands make in the database.
        """
        loop = asyncio.get_running_loop()
        self._loop, self._peers = loop, peers
        self._events.bind(loop)
        self._delivery = Delivery(self.store, peers)
        executing = self.tasks.over(
            peers, self.config, spend=self._entries.take, changed=self._events.changed
        )
        self._driver = RunDriver(
            self.store,
            peers,
            self._events,
            clock=self.clock,
            find_analysis=self._find_analysis,
            gather_timeout_s=self.config.gather_timeout_s,
            patience=Patience(self.config.round_timeout_s, self.config.straggler_s),
            tasks=executing,
            finished=self._run_finished,
        )
        self._driver.bind(loop)
        open_runs = [(run.info.id, run.attempt) for run in self.store.runs.open()]
        await asyncio.to_thread(self._runner.launch, self._driver.execute)
        await asyncio.to_thread(self._runner.recover, open_runs)
        self._delivery.wake_all()
        self.store.on_noted(self.ledger.sequence, self.ledger.noted)
        await self.ledger.start(peers, watch=watch)
        self._recovery = Recovery(self.store.recovery, peers, self._approved)
        for site in peers.connected() - self._enclave_names():
            self._recovery.on_connect(site)
        self._watch = MembershipWatch(self.store.members, peers, self._stop_revoked)
        if watch:
            self._watch.start()

    async def stop(self) -> None:
        """Stop serving; open runs go on after the next start."""
        if self._telling is not None:
            self._telling.cancel()
        if self._watch is not None:
            await self._watch.close()
        if self._delivery is not None:
            await self._delivery.close()
        if self._recovery is not None:
            await self._recovery.close()
        await self.tasks.close()
        await self.ledger.close()

    def _enclave_names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.store.members.enclaves())

    async def delivered(self) -> None:
        """Wait until connected nodes have what they are owed."""
        _, _, delivery = self._started()
        if self._telling is not None:
            self._telling.cancel()
            self._tell()
        await delivery.settled()

    def _started(self) -> tuple[Peers, RunDriver, Delivery]:
        if self._peers is None or self._driver is None or self._delivery is None:
            raise RuntimeError("the hub has not been started")
        return self._peers, self._driver, self._delivery

    def connected(self) -> frozenset[str]:
        """Institutions with a live link."""
        return frozenset() if self._peers is None else self._peers.connected()

    def _approved(self) -> frozenset[str]:
        members = self.store.members.members()
        return frozenset(member.name for member in members if member.status == "approved")

    def announce_revocations(self) -> None:
        """Tell connected nodes the keys of removed researchers; others hear it with Welcome."""
        if self._watch is None:
            raise RuntimeError("the hub has not been started")
        self._watch.announce_revocations()

    # Researchers

    def audit(self, study: str, user: User, *, whole: bool) -> bytes:
        """The audit bundle of a study whose results `user` may read, or that `user` proposed.

        It holds every version: it is for who is in each.

        Raises:
            InputError: ``not-found``.
            ConflictError: ``wrong-state``; see `AuditExport.bundle`.
        """
        life = self.store.studies.life(study)
        contract = life.current.contract
        readers = {contract.proposed_by.key, *(one.key for one in contract.recipients)}
        in_all = all(user.key in one.contract.parties.values() for one in life.versions)
        if user.key not in readers or not in_all:
            raise InputError(
                "not-found", f"There is no study {study!r} whose results you may read."
            )
        return AuditExport(self.store, self.log).bundle(study, user.key, whole=whole)

    def user(self, key: str) -> User:
        """The active researcher with that key.

        Raises:
            PolicyRefusal: ``not-authorised``.
        """
        user = self.store.members.user_by_key(key)
        if user is None or user.status != "active":
            raise PolicyRefusal(
                "not-authorised", "This key is not that of a registered researcher here."
            )
        return user

    def directory(self) -> list[MemberInfo]:
        """The members in good standing, with what they publish."""
        published, connected = self.store.members.datasets(), self.connected()
        return [
            MemberInfo(
                name=member.name,
                key=member.key,
                datasets=tuple(published.get(member.name, ())),
                status=member.status,
                connected=member.name in connected,
            )
            for member in self.store.members.members()
            if member.status in {"approved", "suspended"}
        ]

    def users(self) -> list[UserInfo]:
        """The registered researchers."""
        return [
            UserInfo(name=user.name, key=user.key)
            for user in self.store.members.users()
            if user.status == "active"
        ]

    def propose(self, envelope: bytes, user: User) -> StudyInfo:
        """See `Studies.propose`; connected participants get it at once."""
        _, _, delivery = self._started()
        self._entries.take(user.key)
        contract, _ = Contract.open(envelope, key=user.key)
        self.tasks.require_programs(contract)
        info = self.studies.propose(envelope, user)
        self.tasks.keep_programs(contract)
        self._stop_runs(info.id)
        delivery.wake_all()
        return info

    def draft(self, envelope: bytes, user: User) -> DraftInfo:
        """See `Drafts.add`; connected owners of its slots get it at once."""
        _, _, delivery = self._started()
        self._entries.take(user.key)
        draft, _ = Draft.open(envelope, key=user.key)
        self.tasks.require_programs(draft)
        info = self.drafts.add(envelope, user)
        self.tasks.keep_programs(draft)
        delivery.wake_all()
        return info

    def hear(self, site: str, envelope: bytes) -> None:
        """A member's signature, transition or assignment."""
        self._entries.take(site)
        if Envelope.from_bytes(envelope).payloadType != Assignment.payload_type:
            self.say(site, envelope)
            return
        self.drafts.assign(site, envelope)
        if self._delivery is not None:
            self._delivery.wake_all()

    def state(self, study: str, envelope: bytes, user: User) -> StudyInfo:
        """A researcher's signed statement on a contract: withdraw, close, suspend, resume.

        Raises:
            CohortiumError: See `Studies.say`; ``not-found`` for a contract of another study.
        """
        self.studies.one(study, user, text=False)
        self._entries.take(user.key)
        version = self.say(user.name, envelope, study)
        return self.studies.one(study, user, version.digest, text=False)

    def say(self, author: str, envelope: bytes, study: str | None = None) -> Version:
        """A party's statement; what it changes reaches the others, and runs that it ends."""
        version = self.studies.say(author, envelope, study)
        self._stop_runs(version.contract.study)
        if self._delivery is not None:
            self._delivery.wake_all()
        return version

    def _stop_runs(self, study: str) -> None:
        """End the runs under way that the study's contracts no longer permit."""
        if self._driver is None:
            return
        for run in self.store.runs.open():
            if run.info.study != study:
                continue
            try:
                version = self.store.studies.get(run.info.contract_digest)
                permits(version, run.info.computation, self.clock())
            except PolicyRefusal as refusal:
                self._driver.interrupt(run.info.id, refusal)

    def _stop_revoked(self) -> None:
        """End the tasks under way that were ordered by researchers who are no longer here.

        What is summed ends at the sites, each of which hears of it.
        """
        if self._driver is None:
            return
        revoked = self.store.members.revoked_keys()
        for run in self.store.runs.open():
            if is_task(run.info.computation) and run.info.researcher in revoked:
                refusal = PolicyRefusal("not-authorised", "The researcher's key was removed.")
                self._driver.interrupt(run.info.id, refusal)

    def spend(self, key: str) -> None:
        """Count what somebody leaves at the hub; raises ``too-many-requests``."""
        self._entries.take(key)

    # Runs

    def submit(self, envelope: bytes, user: User) -> RunInfo:
        """Admit, store and start a run; the same envelope again returns the run as it is.

        Raises:
            CohortiumError: See `check_run`; ``replayed`` for a used run id; ``too-many-requests``.
        """
        try:
            request, signer = RunRequest.open(envelope, key=user.key)
        except VerificationError as refusal:
            self._deny_foreign(envelope, refusal, user)
            raise
        known = self.store.runs.find(request.run_id)
        if known is not None and known.envelope == envelope:
            if known.info.status == "queued":  # perhaps it was stored and not begun
                self._runner.recover([(known.info.id, known.attempt)])
            return self._shown(known)
        try:
            self._admit(request, signer)
        except CohortiumError as refusal:
            self._deny(request, envelope, refusal, user)
            raise
        self._entries.take(user.key)
        try:
            if self.store.runs.submit(request, envelope, self.clock()):
                self._runner.start(request.run_id, 1)
        except CohortiumError as refusal:
            self._deny(request, envelope, refusal, user)
            raise
        return self._shown(self.store.runs.get(request.run_id))

    def _admit(self, request: RunRequest, signer: str) -> None:
        version = self.store.studies.get(request.contract_digest)
        if signer in version.contract.parties.values():
            permits(version, request.computation, self.clock())
        elif signer == request.researcher:  # who learns nothing of its state
            raise PolicyRefusal("not-authorised", "You are not in a contract with that digest.")
        if is_task(request.computation):
            self.tasks.admit(version, request, signer)
            return
        admitted = check_run(
            version.contract,
            request,
            signer,
            signatures_ok=True,
            find_analysis=self._find_analysis,
            now=self.clock(),
            revoked=self.store.members.revoked_keys(),
        )
        # What does not fit the variables fails here, not at the sites.
        admitted.analysis.start(admitted.params, admitted.scope)

    def _deny(
        self, request: RunRequest, envelope: bytes, refusal: CohortiumError, sender: User
    ) -> None:
        """Record a refusal for good, at every member: nobody may cause any number of them.

        Raises:
            PolicyRefusal: ``too-many-requests``; nothing is recorded then.
        """
        self._denials.take(sender.key)
        self.store.runs.deny(request, envelope, refusal.code)

    def _deny_foreign(self, envelope: bytes, refusal: CohortiumError, sender: User) -> None:
        """Record a request that another registered researcher signed than the one who sends it."""
        with suppress(VerificationError, ProtocolError, PolicyRefusal):
            request, signer = RunRequest.open(envelope)
            if request.researcher == self.user(signer).key:
                self._deny(request, envelope, refusal, sender)

    def _visible(self, run_id: str, user: User) -> StoredRun:
        run = self.store.runs.get(run_id)
        contract = self.store.studies.contract(run.info.contract_digest)
        if contract.recipient(user.key, run.info.computation) is None:
            raise InputError("not-found", "There is no such run.")
        return run

    def _shown(self, run: StoredRun) -> RunInfo:
        live = None if self._driver is None else self._driver.show(run.info.id)
        if live is not None and run.info.status not in FINAL:
            return live
        if run.info.status != "succeeded":
            return run.info
        if is_task(run.info.computation):
            return self._witnessing(run)
        contract = self.store.studies.contract(run.info.contract_digest)
        names = (participant.name for participant in contract.participants)
        absent = tuple(name for name in names if name not in run.info.participants)
        return self._witnessing(run).model_copy(update={"absent": absent})

    def _witnessing(self, run: StoredRun) -> RunInfo:
        """A run that has succeeded is not over before its end is final on the ledger."""
        release = None if run.released else self.store.ledger.release(run.info.id)
        if release is None or release.size is not None:
            return run.info
        message = self.ledger.waits_for(release)
        return run.info.model_copy(update={"status": "witnessing", "message": message})

    def _participant_keys(self, run_id: str) -> dict[str, str]:
        contract = self.store.studies.contract(self.store.runs.contract_of(run_id))
        return {participant.name: participant.key for participant in contract.participants}

    def _look(self, run_id: str) -> RunInfo:
        """`_shown`, without the database while the run is under way."""
        live = None if self._driver is None else self._driver.show(run_id)
        return live or self._witnessing(self.store.runs.get(run_id))

    def run(self, run_id: str, user: User) -> RunInfo:
        """A run of a study whose results `user` may read."""
        return self._shown(self._visible(run_id, user))

    def runs(self, study: str | None, user: User) -> list[RunInfo]:
        """Such runs, newest first."""
        seen: dict[tuple[str, str], bool] = {}
        shown = []
        for run in self.store.runs.list(study):
            about = (run.info.contract_digest, run.info.computation)
            if about not in seen:
                contract = self.store.studies.contract(about[0])
                seen[about] = contract.recipient(user.key, about[1]) is not None
            if seen[about]:
                shown.append(self._shown(run))
        return shown

    def result(self, run_id: str, user: User) -> RunResult:
        """A finished run and its result.

        Raises:
            ConflictError: ``run-failed``, ``run-cancelled``, or ``wrong-state`` while it runs or
                waits for its witnesses.
        """
        info = self.run(run_id, user)
        if info.status == "cancelled":
            raise ConflictError("run-cancelled", "The run was cancelled.")
        if info.status == "failed":
            reason = (info.error or {}).get("message", "")
            raise ConflictError("run-failed", f"The run failed: {reason}", error=info.error)
        if info.status != "succeeded":
            waits = info.message if info.status == "witnessing" else ""
            raise ConflictError("wrong-state", waits or "The run is not finished yet.")
        document, release = self.store.runs.result(run_id), self.store.ledger.release(run_id)
        if document is None:
            raise IntegrityFailure("broken-store", "The run's result is missing.")
        result = RunResult(run=info, result=parse_json(document))
        if release is None or release.position is None or release.size is None:
            return result  # of a run that ended before there was a ledger
        receipt = self.store.ledger.receipt(release.position, release.size)
        return result.model_copy(update={"nonce": release.nonce.hex(), "receipt": receipt})

    def small_result(self, run_id: str, user: User) -> RunResult | None:
        """What goes with the word that a run is over, so that nobody need ask for it."""
        document = self.store.runs.result(run_id)
        if document is None or len(document) > SENT_BYTES:
            return None
        try:
            return self.result(run_id, user)
        except CohortiumError:
            return None  # who asks for it hears why

    def outcome(self, run_id: str, user: User) -> bytes:
        """A task's signed outcome, for who may see its run or read an output of it."""
        run, reader = self.store.runs.get(run_id), Reader(user.name, user.key)
        if not self.tasks.is_reader(run, reader):
            self._visible(run_id, user)
        return self.tasks.outcome(run)

    def document(self, run_id: str, digest: str, user: User) -> bytes:
        """A signed document of a task's run: a lender's release, an enclave's offer."""
        run, reader = self.store.runs.get(run_id), Reader(user.name, user.key)
        if not self.tasks.is_reader(run, reader):
            self._visible(run_id, user)
        return self.tasks.document(run, digest)

    def output(self, run_id: str, slot: str, user: User) -> Path:
        """Where the ciphertext of a task's output is, for who may read it."""
        run, reader = self.store.runs.get(run_id), Reader(user.name, user.key)
        if not self.tasks.is_reader(run, reader):
            self._visible(run_id, user)
        return self.tasks.output(run, slot, reader)

    def _sites(self, run: StoredRun) -> list[str]:
        """Who is to hear that a run is over."""
        contract = self.store.studies.contract(run.info.contract_digest)
        task = contract.task_of(run.info.computation)
        if task is not None:
            return list(sites_about(self.store, contract, task))
        return [participant.name for participant in contract.participants]

    def follow(self, run_id: str, user: User, after: int) -> AsyncIterator[Event]:
        """The run's events."""
        self._visible(run_id, user)
        return self._events.follow(run_id, lambda: self._look(run_id), after=after)

    def cancel(self, run_id: str, user: User) -> RunInfo:
        """Stop a run, or give up one that could be resumed; the sites forget its keys."""
        _, driver, delivery = self._started()
        run = self._visible(run_id, user)
        self.store.runs.cancel(run_id, self.clock(), self._sites(run), driver.sums(run_id))
        driver.interrupt(run_id)
        if is_task(run.info.computation):
            self.tasks.cancelled(run_id)
        self._events.changed(run_id)
        delivery.wake_all()
        return self.run(run_id, user)

    async def resume(self, run_id: str, user: User) -> RunInfo:
        """Go on with a run that failed because sites were away, from its last recorded round.

        Raises:
            ConflictError: ``wrong-state`` where it did not fail, failed for good, or a site of its
                roster is no longer a member.
        """
        run = self._visible(run_id, user)
        if run.info.status != "failed" or run.info.error is None:
            raise ConflictError("wrong-state", f"The run is {run.info.status}, not failed.")
        if not resumable(CohortiumError.from_wire(run.info.error)):
            raise ConflictError(
                "wrong-state",
                "Asking again would not change the reason for which the run failed; "
                "submit a new run.",
                error=run.info.error,
            )
        for site in run.info.participants:
            member = self.store.members.find_member(site)
            if member is None or member.status != "approved":
                raise ConflictError(
                    "wrong-state",
                    f"{site} takes part in this run and is no longer a member in good standing; "
                    "submit a new run.",
                    site=site,
                )
        self._entries.take(user.key)
        attempt = self.store.runs.reopen(run_id)
        await asyncio.to_thread(self._runner.start, run_id, attempt)
        return self.run(run_id, user)

    def _run_finished(self, run_id: str) -> None:
        """In the run's thread."""
        run = self.store.runs.get(run_id)
        if run.info.status in {"succeeded", "cancelled"}:
            self._runner.forget(run_id)
        loop, delivery = self._loop, self._delivery
        if loop is None or delivery is None or loop.is_closed():
            return
        # Someone waits for the witnesses of a result; nobody for the sites to forget their keys.
        succeeded = run.info.status == "succeeded"
        with suppress(RuntimeError):  # the loop closed meanwhile
            loop.call_soon_threadsafe(self._tell_soon if succeeded else delivery.wake_all)

    def _released(self, run_id: str) -> None:
        """A run's result may be given out, or more is known of its wait; on the event loop."""
        self._events.changed(run_id)
        if self._delivery is not None and self.store.tasks.assigned(run_id) is not None:
            self._delivery.wake_all()

    def _tell_soon(self) -> None:
        if self._telling is None and self._loop is not None:
            self._telling = self._loop.call_later(FORGET_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        if self._delivery is not None:
            self._delivery.wake_all()

    # The link

    def handler_for(self, site: str) -> Handler:
        """What answers a member's requests, or an enclave's."""
        member = self.store.members.find_member(site)
        if member is not None and member.kind == "enclave":
            return EnclaveHandler(
                site,
                fingerprint=self.consortium.fingerprint,
                ledger_key=self.log.verifier.text,
                newest=self.ledger.newest,
                members=self.members,
                relay=self.tasks.relay,
            )
        return SiteHandler(
            site,
            fingerprint=self.consortium.fingerprint,
            ledger_key=self.log.verifier.text,
            newest=self.ledger.newest,
            members=self.members,
            studies=self.store.studies,
            drafts=self.store.drafts,
            tasks=self.tasks,
            say=self.hear,
            spend=self._entries.take,
        )

    def on_connect(self, site: str) -> None:
        """A member's link is up: hand over what it missed."""
        if site in self._enclave_names():
            self.tasks.board.reconnected(site)
            return
        if self._delivery is not None:
            self._delivery.wake(site)
        if self._recovery is not None:
            self._recovery.on_connect(site)
        self.ledger.on_connect(site)
