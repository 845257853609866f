"""What the node answers to the hub's messages.

Every decision is in the journal before its answer leaves. A message that was answered before gets
the same answer again and no second entry: the hub may ask again after any crash of either side.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from cohortium.analysis.interface import AnyAnalysis, Contribution, Layout, NamesColumns
from cohortium.analysis.screen import screened
from cohortium.contract.model import Contract
from cohortium.contract.noise_plan import clipped
from cohortium.contract.signatures import check_signatures
from cohortium.contract.statements import Assignment
from cohortium.contract.task import is_task
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import Clock, system_clock
from cohortium.core.rounds import State
from cohortium.crypto.signed import Envelope
from cohortium.errors import (
    CATALOGUE,
    CohortiumError,
    ConflictError,
    InputError,
    IntegrityFailure,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import error_message, get_state, round_reply
from cohortium.link.ports import LargeReply, Reply
from cohortium.link.rounds import (
    get_shares,
    get_survivors,
    put_key_shares,
    put_unmasking,
)
from cohortium.node import journal, statements
from cohortium.node.agreement import own_seat
from cohortium.node.checked import CheckedRun
from cohortium.node.datasets import Datasets
from cohortium.node.drafts import Drafts
from cohortium.node.guard import (
    About,
    CheckedRound,
    CheckedSurvivors,
    Find,
    Guard,
    Question,
    frame,
    party_list,
)
from cohortium.node.identity import Identity
from cohortium.node.lending import Lending
from cohortium.node.life import activate, end, hear
from cohortium.node.noise import RoundNoise, to_bytes
from cohortium.node.persons import Persons, require_no_small_gap
from cohortium.node.policy import PolicySource
from cohortium.node.released import ReleasedSets
from cohortium.node.screening import Screening, Telling
from cohortium.node.singling import Singling
from cohortium.node.store import NodeStore, RunStatus, StoredRound, StoredRun
from cohortium.node.task_service import TaskService
from cohortium.node.witness import Turn, Witness
from cohortium.secagg.messages import KeyShare, MaskedInput, SurvivorList
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.vector import Noise
from cohortium.version import __version__

log = logging.getLogger(__name__)

PROTOCOL = "cohortium-link/1"
MAX_WHY_CHARACTERS = 500
OUTCOMES: dict[str, RunStatus] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


def find_builtin(name: str) -> AnyAnalysis:
    """The registry, imported with the first run."""
    from cohortium.analysis.builtin import find

    return find(name)


class NodeService:
    """Handles the hub's messages (`cohortium.link.ports.Handler`).

    Args:
        identity: Who this node is.
        store: Its memory.
        datasets: Its data.
        policy: Reads the site's policy at this moment.
        clock: The time that windows are checked against.
        random: Source of the runs' secrets.
        find: The registry of analyses.
        lending: What it lends to tasks; None: nothing.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        store: NodeStore,
        datasets: Datasets,
        policy: PolicySource,
        clock: Clock = system_clock,
        random: Callable[[int], bytes] = os.urandom,
        find: Find = find_builtin,
        lending: Lending | None = None,
    ) -> None:
        self.identity = identity
        self.store = store
        self.datasets = datasets
        self.persons = Persons(datasets)
        self.policy = policy
        self.clock = clock
        self.lending = lending
        self.drafts = Drafts(identity, store, clock)
        self._random = random
        self.witness = Witness(identity, store, clock)
        released = ReleasedSets(store, datasets, os.urandom)
        self._screening = Screening(store, released, self.persons)
        self._singling = Singling(self.persons)
        self._guard = Guard(identity, store, policy, find, clock, screening=self._screening)
        self._noise = RoundNoise(store)
        self._tasks = TaskService(
            identity=identity,
            store=store,
            lending=lending,
            agreements=self._guard.agreements,
            policy=policy,
            clock=clock,
            refusals=self._refusals,
        )

    # The link

    def hello(self) -> pb.Message:
        """The node's first message on a connection."""
        self.witness.greets()
        known = [contract.digest for contract in self.store.contracts()]
        return pb.Message(
            hello=pb.Hello(
                protocol=PROTOCOL,
                software=__version__,
                contracts=known,
                statements=statements.digests(self.store),
            )
        )

    def welcome(self, message: pb.Message) -> None:
        """Take in the hub's answer to `hello`.

        Raises:
            VerificationError: ``bad-certificate`` where the hub speaks for another consortium;
                ``bad-checkpoint`` where it names another consortium's ledger, or shows another.
        """
        if message.welcome.consortium != self.identity.consortium:
            raise VerificationError("bad-certificate", "The hub belongs to another consortium.")
        self._add_revoked(list(message.welcome.revoked_keys))
        welcome = message.welcome
        self.witness.connected(welcome.ledger_key, welcome.ledger_checkpoint)

    async def handle(self, message: pb.Message) -> Reply:
        """The reply to one of the hub's requests; every failure is a reply too."""
        turn = self.witness.turn(message.id)  # threads may begin in another order
        return await asyncio.to_thread(self._answer, message, turn)

    def answer(self, message: pb.Message) -> pb.Message:
        """`handle`, in the calling thread."""
        reply = self._answer(message, self.witness.turn(message.id))
        return reply.message() if isinstance(reply, LargeReply) else reply

    def _answer(self, message: pb.Message, turn: Turn) -> Reply:
        kind = message.WhichOneof("body") or ""
        handlers: dict[str, Callable[[], Reply]] = {
            "contract_proposal": lambda: self._proposal(message.contract_proposal),
            "contract_active": lambda: self._active(message.contract_active),
            "contract_statement": lambda: self._statement(message.contract_statement),
            "contract_draft": lambda: self._draft(message.contract_draft),
            "contract_ended": lambda: self._ended(message.contract_ended),
            "revocation": lambda: self._revocation(message.revocation),
            "run_prepare": lambda: self._prepare(message.run_prepare),
            "share_request": lambda: self._share_keys(message.share_request),
            "round_request": lambda: self._round(message.round_request),
            "consistency_request": lambda: self._sign_survivors(message.consistency_request),
            "unmask_request": lambda: self._unmask(message.unmask_request),
            "run_end": lambda: self._end(message.run_end),
            "ledger_update": lambda: self.witness.update(message.ledger_update, turn),
            "statements_request": lambda: self._give_back(message.statements_request),
            "task_channel": lambda: self._tasks.channel(message.task_channel),
            "task_fetch": lambda: self._tasks.fetch(message.task_fetch),
        }
        try:
            if kind not in handlers:
                raise ProtocolError(
                    "unexpected-message", f"A node does not answer {kind or 'that'}."
                )
            return handlers[kind]()
        except CohortiumError as error:
            return error_message(error)
        except Exception as error:  # noqa: BLE001 - the text may quote data: log the place only
            trace = traceback.extract_tb(error.__traceback__)
            where = "; ".join(f"{place.filename}:{place.lineno}" for place in trace)
            log.error("unexpected %s while answering %s at %s", type(error).__name__, kind, where)
            return error_message(_internal())

    def _give_back(self, request: pb.StatementsRequest) -> pb.Message:
        envelopes = statements.give_back(self.store, request.digests)
        return pb.Message(statements=pb.Statements(envelopes=envelopes))

    @contextmanager
    def _refusals(self, what: str, about: About, asked: bytes = b"") -> Iterator[None]:
        """Write a refusal to the journal before it becomes the answer.

        Args:
            asked: What was refused, where the ledger will tell of it.
        """
        try:
            yield
        except CohortiumError as error:
            self._refused(what, about, error, asked)
            raise
        except Exception:
            self._refused(what, about, _internal(), asked)
            raise

    def _refused(self, what: str, about: About, error: CohortiumError, asked: bytes) -> None:
        why = error.message.encode("utf-8", "replace").decode()[:MAX_WHY_CHARACTERS]
        with self.store.transaction():
            if asked:
                self.store.say("refused", digest_bytes(asked))
            journal.append(self.store, what, {**about, "why": why}, allowed=False, code=error.code)

    # Contracts

    def _proposal(self, proposal: pb.ContractProposal) -> pb.Message:
        about: About = {}
        with self._refusals("proposal", about), self.store.transaction():
            contract, signer = Contract.open(proposal.envelope)
            about |= {"contract": contract.digest, "study": contract.study}
            if signer != contract.proposed_by.key:
                raise VerificationError(
                    "unknown-signer", "The contract is not signed by the proposer that it names."
                )
            own_seat(contract, self.identity)
            if self.store.add_proposal(contract.digest, contract.study, contract.to_bytes()):
                statements.keep(
                    self.store,
                    proposal.envelope,
                    contract=contract.digest,
                    action="propose",
                    author=contract.proposed_by.name,
                    key=signer,
                )
                journal.append(self.store, "proposal", about)
        return pb.Message(ack=pb.Ack())

    def _active(self, active: pb.ContractActive) -> pb.Message:
        about: About = {"contract": active.contract_digest[:80]}
        with self._refusals("activate", about), self.store.transaction():
            stored = self.store.contract(active.contract_digest)
            if stored is None or stored.state in {"proposed", "refused"}:
                raise PolicyRefusal(
                    "contract-unknown", "This site has not signed a contract with that digest."
                )
            about["study"] = stored.study
            if stored.state == "signed":
                contract = Contract.from_bytes(stored.body)
                envelopes = check_signatures(contract, active.envelopes)
                names = {key: name for name, key in contract.signatories.items()}
                for key, envelope in envelopes.items():
                    statements.keep(
                        self.store,
                        envelope,
                        contract=stored.digest,
                        action="sign",
                        author=names[key],
                        key=key,
                    )
                activate(self.store, contract, self.identity.key.public, self.clock())
                self._guard.agreements.require_agreed(stored.digest)
                journal.append(self.store, "activate", about)
        return pb.Message(ack=pb.Ack())

    def _statement(self, statement: pb.ContractStatement) -> pb.Message:
        """A statement of another party, or of this site where it lost its memory."""
        about: About = {}
        with self._refusals("statement", about), self.store.transaction():
            envelope = statement.envelope
            if Envelope.from_bytes(envelope).payloadType == Assignment.payload_type:
                news = self.drafts.hear(envelope, about)
            else:
                news = hear(self.store, envelope, self.clock(), about)
            if news:
                journal.append(self.store, "statement", about)
        return pb.Message(ack=pb.Ack())

    def _draft(self, draft: pb.ContractDraft) -> pb.Message:
        about: About = {}
        with self._refusals("draft", about), self.store.transaction():
            if self.drafts.receive(draft.envelope, draft.assignments, about):
                journal.append(self.store, "draft", about)
        return pb.Message(ack=pb.Ack())

    def _ended(self, ended: pb.ContractEnded) -> pb.Message:
        about: About = {"contract": ended.contract_digest[:80]}
        with self._refusals("ended", about), self.store.transaction():
            stored = self.store.contract(ended.contract_digest)
            if stored is None:
                raise PolicyRefusal(
                    "contract-unknown", "This site has no contract with that digest."
                )
            about["study"] = stored.study
            if end(self.store, stored, ended.reason):
                journal.append(self.store, "ended", about)
        return pb.Message(ack=pb.Ack())

    def _revocation(self, revocation: pb.Revocation) -> pb.Message:
        self._add_revoked(list(revocation.revoked_keys))
        return pb.Message(ack=pb.Ack())

    def _add_revoked(self, keys: list[str]) -> None:
        """Only ever adds: a hub that forgets a revocation changes nothing here."""
        with self.store.transaction():
            for key in sorted(set(keys) - self.store.revoked()):
                self.store.revoke(key[:80])
                journal.append(self.store, "revoke", {"key": key[:80]})

    # Runs

    def _prepare(self, prepare: pb.RunPrepare) -> pb.Message:
        about: About = {}
        envelope = prepare.request_envelope
        with self._refusals("run", about, envelope), self.store.transaction():
            run = self._guard.check_prepare(envelope, about)
            advert = run.stored.advert if run.stored else None
            if advert is None:
                request = run.request
                secret, advert = Party.prepare(
                    site=self.identity.name,
                    run_id=request.run_id,
                    contract_digest=request.contract_digest,
                    request_digest=request.digest,
                    signing_key=self.identity.key,
                    random=self._random,
                )
                self.store.add_run(
                    StoredRun(
                        run_id=request.run_id,
                        envelope=envelope,
                        request_digest=request.digest,
                        contract_digest=request.contract_digest,
                        computation=request.computation,
                        params_digest=run.params_digest,
                        disclosure=run.scope.disclosure.to_bytes().decode(),
                        secret=secret,
                        advert=advert,
                        admitted_at=self.store.now(),
                    )
                )
                self.witness.replica.expect_run(request.run_id)
                self.witness.replica.expect_end(request.run_id)
                journal.append(self.store, "run", about)
            reply = self._screening.advert(run, advert)
        return pb.Message(run_advert=reply)

    # The secure sum, by the steps of the papers

    def _share_keys(self, request: pb.ShareRequest) -> pb.Message:
        """Step 1. Nothing is recorded: the keys follow from the run's secret."""
        about: About = {}
        with self._refusals("share-keys", about):
            party = self._guard.check_keys(
                request.run_id, request.round, list(request.roster), about
            )
            shares = party.share_keys(request.round)
        return pb.Message(share_reply=put_key_shares(shares, request.run_id, party.parties))

    def _round(self, request: pb.RoundRequest) -> LargeReply:
        """Step 2."""
        about: About = {}
        with self._refusals("round", about):
            state = get_state(request)
            question = Question(
                request.run_id,
                request.round,
                state,
                tuple(request.roster),
                request.active,
            )
            checked = self._guard.check_round(question, about)
            shares = get_shares(request, checked.party.parties)
            checked.party.check_active(checked.active, shares)
            checked.party.check_shares(question.round, shares)
            with self._noise.turn(checked.run):
                if checked.run.noise is not None:  # another thread may have drawn it meanwhile
                    checked = self._guard.check_round(question, about)
                    if checked.answered is None:
                        self._guard.require_budget(checked.run)
                masked = self._compute(checked, question, state, shares, about)
        parties, following, agreed = checked.party.parties, None, None
        if masked.next is not None:
            following = put_key_shares(masked.next, request.run_id, parties)
            memory = self._guard.party_round(request.run_id, request.round, checked.party)
            if memory is not None and memory.agreed is not None:
                agreed = parties.to_bits(memory.agreed)
        return round_reply(
            request.run_id,
            request.round,
            masked.vector,
            following=following,
            signature=masked.signature,
            agreed=agreed,
        )

    def _compute(
        self,
        checked: CheckedRound,
        question: Question,
        state: State,
        shares: Mapping[str, KeyShare],
        about: About,
    ) -> MaskedInput:
        try:
            with np.errstate(over="ignore"):  # the encoder refuses what is not finite
                computed = self._contribute(checked, state, shares)
        except _NoContribution as failure:
            self._record_failure(question, about)
            raise failure.reason from None
        vector = computed.masked.vector
        answer = StoredRound(question.round, state.digest, checked.party.tag(vector))
        # The last look and the record are one transaction: of two different questions for one round
        # that are computed at the same time, one is answered.
        with self.store.transaction():
            checked = self._guard.check_round(question, about)
            self._guard.require_same_keys(checked, shares)
            about |= {"payload_bytes": len(vector), "state": state.digest}
            self._record(checked, answer, computed, question, about)
        return computed.masked

    def _record(
        self,
        checked: CheckedRound,
        answer: StoredRound,
        computed: _Computed,
        question: Question,
        about: About,
    ) -> None:
        if checked.answered is None:
            run_id, parties = question.run_id, checked.party.parties
            if checked.starts:
                self.store.begin_rounds(run_id, party_list(checked.active), frame(question.roster))
            elif checked.run.analysis.drop_outs == "wait" or not self.store.first_round(run_id):
                self.store.set_sites(run_id, party_list(checked.active))
            self.store.add_round(run_id, answer)
            self.store.set_summed(run_id, answer.round, party_list(checked.active))
            self._screening.record(checked.run, answer.round, question.state, computed.telling)
            self.witness.replica.expect_end(run_id, answer.round)
            if parties.recoverable:
                self.store.put_party_round(run_id, answer.round, computed.memory.to_json(parties))
            else:  # nobody can drop out
                self.store.say("summed", f"{run_id} {answer.round}")
            if checked.run.noise is not None:
                sums = self._guard.require_budget(checked.run) + 1
                self.store.put_noise(run_id, answer.round, to_bytes(computed.noise))
                about |= {"noisy_sums": sums, "epsilon": round(checked.run.noise.spent(sums), 6)}
            journal.append(self.store, "round", about)
        elif checked.answered != answer.reply_tag:
            # Two contributions under one mask would show their difference.
            raise IntegrityFailure(
                "broken-store", "The data or program changed during the run; submit a new one."
            )

    def _record_failure(self, question: Question, about: About) -> None:
        """A round that failed on the data is asked again only for the same state."""
        with self.store.transaction():
            checked = self._guard.check_round(question, about)
            if checked.starts:
                roster = frame(question.roster)
                self.store.begin_rounds(question.run_id, party_list(checked.active), roster)
            if checked.answered is None:
                failed = StoredRound(question.round, question.state_digest, "")
                self.store.add_round(question.run_id, failed)

    def _sign_survivors(self, request: pb.SurvivorList) -> pb.Message:
        """Step 3."""
        about: About = {"run_id": request.run_id[:64], "round": request.round}
        with self._refusals("survivors", about), self.store.transaction():
            party, message = self._survivors(request)
            checked = self._guard.check_survivors(request.run_id, message, party, about)
            memory, answer = party.consistency_check(checked.state, message, self.identity.key.sign)
            self._agree(checked, memory, "survivors", about)
        return pb.Message(
            survivor_signature=pb.SurvivorSignature(
                run_id=request.run_id, round=request.round, signature=answer.signature
            )
        )

    def _unmask(self, request: pb.SurvivorList) -> pb.Message:
        """Step 4."""
        about: About = {"run_id": request.run_id[:64], "round": request.round}
        with self._refusals("unmask", about), self.store.transaction():
            party, message = self._survivors(request)
            checked = self._guard.check_survivors(request.run_id, message, party, about)
            memory, answer = party.unmask(checked.state, message)
            self._agree(checked, memory, "unmask", about)
        return pb.Message(unmasking=put_unmasking(answer, request.run_id, party.parties))

    def _survivors(self, request: pb.SurvivorList) -> tuple[Party, SurvivorList]:
        party = self._guard.party(request.run_id)
        return party, get_survivors(request, party.parties)

    def _agree(
        self, checked: CheckedSurvivors, memory: PartyRound, what: str, about: About
    ) -> None:
        """Write down the one list that this site answers for in the round, once in each step."""
        run_id, body = checked.run.request.run_id, memory.to_json(checked.party.parties)
        stored = self.store.party_round(run_id, memory.round) or {}
        steps = stored.get("steps", [])
        if what not in steps:
            self.store.put_party_round(run_id, memory.round, {**body, "steps": [*steps, what]})
            agreed = party_list(memory.agreed or memory.active)
            self.store.set_summed(run_id, memory.round, agreed)
            self.store.say("summed", f"{run_id} {memory.round}")
            if checked.first:
                self.store.set_sites(run_id, agreed)
            journal.append(self.store, what, about)

    def _contribute(
        self, checked: CheckedRound, state: State, shares: Mapping[str, KeyShare]
    ) -> _Computed:
        run = checked.run
        table = self.persons.table(
            run.contract,
            run.participant,
            run.population,
            run.inner.variables(run.params) | run.population.gaps,
        )
        analysis = screened(run.inner, run.screen, own=self._screening.own(run))
        layout = run.analysis.layout(state, run.params, run.common)
        planned = self._noise.plan(checked, layout)
        try:
            require_no_small_gap(table, run)
            table = run.population.fill(table, run.scope.disclosure.min_cell)
            self._singling.require_none(table, run)
            contribution = analysis.local(table, state, run.params, run.scope)
            _require_layout(contribution, layout)
            if run.noise is not None:
                contribution = clipped(run.noise, contribution)
            drawn = self._noise.draw(checked, planned)
            memory, masked = checked.party.masked_input(
                checked.binding,
                planned.layout,
                contribution,
                checked.active,
                shares,
                noise=drawn,
                sign=self.identity.key.sign,
            )
            telling = None
            if checked.release is not None:
                telling = self._screening.telling(run, checked.release, table)
            return _Computed(memory, masked, drawn, telling)
        except (ProtocolError, ConflictError):  # about the request itself, whatever the data are
            raise
        except InputError as error:
            raise _NoContribution(_with_column(error, run)) from error
        except Exception as error:
            raise _NoContribution(error) from error

    def expire_runs(self, admitted_before: str) -> None:
        """Forget the secrets of runs that nobody ended, on disk and in memory."""
        with self.store.transaction():
            self.store.expire_runs(admitted_before)
        self._guard.forget_ended()

    def _end(self, end: pb.RunEnd) -> pb.Message:
        about: About = {"run_id": end.run_id[:64]}
        with self._refusals("end", about), self.store.transaction():
            outcome = OUTCOMES.get(end.outcome)
            if outcome is None:
                raise ProtocolError("malformed-message", "A run does not end that way.")
            run = self.store.run(end.run_id)
            if run is not None and is_task(run.computation):
                self._tasks.end(run, outcome, end.error)
            elif run is not None and run.secret is not None and run.status != outcome:
                about |= {"contract": run.contract_digest, "computation": run.computation}
                error = end.error if end.error in CATALOGUE else None
                self.store.end_run(end.run_id, outcome)
                journal.append(self.store, "end", {**about, "outcome": outcome, "error": error})
        self._tasks.forget(end.run_id)
        if outcome != "failed":
            self._guard.forget(end.run_id)
            self._noise.forget(end.run_id)
        return pb.Message(ack=pb.Ack())


class _Computed(NamedTuple):
    """A round's answer and what is kept of it."""

    memory: PartyRound
    masked: MaskedInput
    noise: Noise
    telling: Telling | None


class _NoContribution(Exception):
    """Something failed that may depend on this site's data."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


def _with_column(error: InputError, run: CheckedRun) -> InputError:
    """An overflow, saying which column of the data it is about."""
    if error.code != "overflow" or not isinstance(run.inner, NamesColumns):
        return error
    field, index = str(error.details["field"]), int(error.details["index"])
    column = run.inner.column(field, index, run.params, run.common)
    return InputError(
        "overflow",
        f"{column}: a sum of it ({field}) is too large or not finite; look for outliers or rescale "
        "the variable.",
        **error.details,
        column=column,
    )


def _internal() -> IntegrityFailure:
    return IntegrityFailure("internal", "The node failed; its log says where.")


def _require_layout(contribution: Contribution, layout: Layout) -> None:
    """Nothing leaves that the layout does not name."""
    if set(contribution) != set(layout) or any(
        contribution[name].shape != spec.shape for name, spec in layout.items()
    ):
        raise IntegrityFailure("internal", "The analysis gave other fields than its layout.")
