"""The node's gate: nothing is computed that this site did not sign.

The hub is not trusted. Every fact that a decision rests on is signed by someone who counts under a
contract that this site signed, or is this node's own record. The guard only reads; `service`
records what it let through, in one transaction with the guard's last look.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cohortium.analysis.interface import AnyAnalysis
from cohortium.analysis.screen import Screen
from cohortium.contract.check import check_run
from cohortium.contract.model import Contract, RunRequest
from cohortium.core.canonical import canonical
from cohortium.core.clock import Clock, to_rfc3339
from cohortium.core.rounds import State
from cohortium.crypto.keys import fingerprint
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import PolicyRefusal, ProtocolError, VerificationError
from cohortium.node.agreement import Agreements, open_request, own_participant
from cohortium.node.alarms import require_none
from cohortium.node.checked import CheckedRun
from cohortium.node.identity import Identity
from cohortium.node.policy import DAY, PolicySource
from cohortium.node.screening import NewSets, Screening
from cohortium.node.store import NodeStore
from cohortium.node.witness import require_following
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.messages import KeyShare, SurvivorList
from cohortium.secagg.noise import require_sampler
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.roster import Roster

Find = Callable[[str], AnyAnalysis]
About = dict[str, object]
"""What the journal will say a decision was about; filled in as facts become certain."""


@dataclass(frozen=True)
class Question:
    """What the hub asks of a site in a round.

    Attributes:
        roster: The parties' signed round keys; may be empty after the first round.
        active: Bitmap of those who take part; empty: all.
    """

    run_id: str
    round: int
    state: State
    roster: tuple[bytes, ...]
    active: bytes

    @property
    def state_digest(self) -> str:
        """What the masks of the round are bound to."""
        return self.state.digest


@dataclass(frozen=True)
class CheckedRound:
    """A round that may be answered.

    Attributes:
        party: Masks for the verified roster.
        active: The parties that take part in the round.
        starts: Whether this is the run's first round, which fixes the roster.
        answered: Tag of the reply that was given before to the same question, or None.
        release: Sets of persons that it tells of for the first time here.
    """

    run: CheckedRun
    round: int
    party: Party
    active: frozenset[str]
    binding: RoundBinding
    starts: bool
    answered: str | None
    release: NewSets | None


@dataclass(frozen=True)
class CheckedSurvivors:
    """A list of survivors that may be looked at.

    Attributes:
        state: What was stored with the masked input.
        first: Whether it is the first round that this site answered in the run.
    """

    run: CheckedRun
    party: Party
    state: PartyRound
    first: bool


class Guard:
    """Checks what the hub asks for.

    Args:
        identity: Who this node is.
        store: Its memory.
        policy: Reads the site's policy at this moment.
        find: The registry of analyses.
        clock: The time that windows are checked against.
        screening: Compares a run's persons with those of earlier results.
    """

    def __init__(
        self,
        identity: Identity,
        store: NodeStore,
        policy: PolicySource,
        find: Find,
        clock: Clock,
        *,
        screening: Screening,
    ) -> None:
        self._identity = identity
        self._store = store
        self.agreements = Agreements(identity, store, clock)
        self._policy = policy
        self._find = find
        self._clock = clock
        self._screening = screening
        self._runs: dict[str, CheckedRun] = {}
        self._parties: dict[str, Party] = {}
        self._made: dict[str, tuple[tuple[bytes, ...], Party]] = {}

    def forget(self, run_id: str) -> None:
        """Drop what is kept in memory of a run."""
        self._runs.pop(run_id, None)
        self._parties.pop(run_id, None)
        self._made.pop(run_id, None)

    def forget_ended(self) -> None:
        """Drop what is kept in memory of runs whose secret is gone."""
        for run_id in {*self._runs, *self._parties, *self._made}:
            stored = self._store.run(run_id)
            if stored is None or stored.secret is None:
                self.forget(run_id)

    def _require_ledger(self) -> None:
        require_none(self._store)
        require_following(self._store, self._clock())

    # Runs

    def check_prepare(self, envelope: bytes, about: About) -> CheckedRun:
        """Decide whether this site takes part in a run.

        Raises:
            CohortiumError: The reason why not.
        """
        # 1. The site computes at all; not while there is an alarm about the ledger. 2. The
        # researcher's signature. 3. Not a replay: a known run may be asked for again only by the
        # same request, while it is under way. 4. The contract. 5. What the hub checks too (see
        # `contract.check`). 6. This site gives the variables. 7. The site's policy. 8. The
        # contract's number of runs. 9. Its privacy budget.
        self._require_ledger()  # 1
        policy = self._policy()
        policy.require_running()  # 1
        request, signer = open_request(envelope)  # 2
        about |= {
            "run_id": request.run_id,
            "contract": request.contract_digest,
            "study": request.study,
            "computation": request.computation,
            "researcher": fingerprint(signer),
        }
        known = self._store.run(request.run_id)
        if known is not None:  # 3
            if known.request_digest != request.digest or known.secret is None:
                raise VerificationError(
                    "replayed", "This run was asked for before; submit a new one."
                )
            return self.check_continues(request.run_id)
        checked = self._check_request(request, signer)  # 4, 5, 6, 7
        self._require_runs_left(checked)  # 8
        self.require_budget(checked)  # 9
        return checked

    def check_continues(self, run_id: str, about: About | None = None) -> CheckedRun:
        """An admitted run, looked at again with what is true now.

        Raises:
            CohortiumError: The reason why it may not go on.
        """
        # 1. The site computes at all; not while there is an alarm about the ledger. 2. Admitted
        # here and not over. 3. Everything that could have changed since: contract, expiry,
        # revocation, policy. 4. The limits are still the same: other limits would give another
        # contribution under the same mask.
        self._require_ledger()  # 1
        self._policy().require_running()  # 1
        stored = self._store.run(run_id)
        if stored is None or stored.secret is None:  # 2
            raise ProtocolError("wrong-round", "This run is not under way at this site.")
        before = self._runs.get(run_id)
        request = before.request if before else open_request(stored.envelope)[0]
        if about is not None:
            about |= {
                "contract": request.contract_digest,
                "study": request.study,
                "computation": request.computation,
                "researcher": fingerprint(request.researcher),
            }
        if before is None:  # 3
            checked = self._check_request(request, request.researcher, accepted_before=True)
        else:
            self._check_still(before.contract, request)
            checked = before
        limits = self._policy().disclosure(checked.contract)
        if limits != Disclosure.from_bytes(stored.disclosure.encode()):  # 4
            raise PolicyRefusal(
                "site-policy", "This site's limits changed during the run; submit a new one."
            )
        checked = replace(checked, stored=stored, scope=replace(checked.scope, disclosure=limits))
        self._runs[run_id] = checked
        return self._screening.resumed(checked)

    def _check_still(self, contract: Contract, request: RunRequest) -> None:
        """What may change while a run is under way."""
        self.agreements.active_contract(request.contract_digest, request.computation)
        if request.researcher in self._store.revoked():
            raise PolicyRefusal("not-authorised", "The researcher's key was removed.")
        researcher = contract.recipient(request.researcher)
        if researcher is None:
            raise PolicyRefusal("not-authorised", "The researcher is not in the contract.")
        policy = self._policy()
        policy.require_allowed(request.computation, researcher)
        policy.require_met(contract)

    def _check_request(
        self, request: RunRequest, signer: str, *, accepted_before: bool = False
    ) -> CheckedRun:
        contract = self.agreements.active_contract(
            request.contract_digest, request.computation
        )  # 4
        admitted = check_run(
            contract,
            request,
            signer,
            signatures_ok=True,  # by active_contract
            find_analysis=self._find,
            now=self._clock(),
            revoked=self._store.revoked(),
            accepted_before=accepted_before,
        )  # 5
        participant = own_participant(contract, self._identity)
        run = CheckedRun(
            contract=contract,
            participant=participant,
            request=request,
            inner=admitted.analysis,
            params=admitted.params,
            scope=admitted.scope,
            common=admitted.scope,
            population=admitted.population,
            noise=admitted.noise,
        )
        absent = run.reads - set(participant.variables)
        if absent:  # 6
            raise PolicyRefusal(
                "not-permitted",
                f"This site does not give {', '.join(sorted(absent))} to the study.",
                variables=sorted(absent),
            )
        self._check_still(contract, request)  # 7
        limits = self._policy().disclosure(contract)
        place = contract.participants.index(participant)
        return replace(run, scope=replace(run.scope, disclosure=limits, site=place))

    def _require_runs_left(self, run: CheckedRun) -> None:
        entry = run.contract.computation(run.request.computation)
        if entry is None:
            raise PolicyRefusal("not-permitted", "The contract does not permit this computation.")
        used = self._store.runs_used(run.request.contract_digest, entry.covers)
        if entry.max_runs is not None and used >= entry.max_runs:
            raise PolicyRefusal(
                "run-limit", f"The {entry.max_runs} runs of {entry.name} are used up at this site."
            )
        require_runs_today(self._store, self._policy().max_runs_per_day, self._clock())

    def require_budget(self, run: CheckedRun) -> int:
        """The sums with noise that were paid for; the next one can be.

        Raises:
            PolicyRefusal: ``privacy-budget``.
            InputError: ``missing-extra``: noise and budget must both be possible here.
        """
        entry = run.contract.computation(run.request.computation)
        if run.noise is None or entry is None:
            return 0
        require_sampler()
        used = self._store.noisy_sums(run.request.contract_digest, entry.covers)
        run.noise.require_left(used)
        return used

    # Rounds

    def check_keys(self, run_id: str, number: int, roster: Sequence[bytes], about: About) -> Party:
        """Decide whether this site shares its keys for a round (step 1 of the secure sum).

        Raises:
            CohortiumError: The reason why not.
        """
        # 1. The run may go on. 2. The parties. 3. There is something to share. 4. The round is one
        # that the hub may have lost the answer of (the keys are the same again), or one to come.
        about |= {"run_id": run_id[:64], "round": number}
        run = self.check_continues(run_id, about)  # 1
        party = self._party(run, roster)  # 2
        if not party.parties.recoverable:  # 3
            raise ProtocolError("unexpected-message", "Every party must be there in this run.")
        last = self._store.highest_round(run_id)
        self._require_number(run, number, last)  # 4
        return party

    def check_round(
        self,
        question: Question,
        about: About,
    ) -> CheckedRound:
        """Decide whether this site answers a round.

        Args:
            question: What the hub asks.
            about: Filled in for the journal.

        Raises:
            CohortiumError: The reason why not.
        """
        # 1. The run may go on. 2. The parties: each signed by a participant, this site with its own
        # key, enough of them even if some drop out, and the same roster through the whole run.
        # 3. The round is the next
        # one, within the analysis's number. 4. One that was answered, or failed here, is asked the
        # same: whether a sum overflows would tell of this site alone, and a second contribution
        # under one mask would show their difference. 5. No sum over one contribution and two sets
        # of parties, in this run or an earlier one, and a run is left.
        # 6. The first states are not for the hub to choose: they follow from the signed parameters
        # and from what the persons were compared with.
        run_id, number = question.run_id, question.round
        about |= {"run_id": run_id[:64], "round": number}
        run = self.check_continues(run_id, about)  # 1
        if number == 1:
            run = replace(run, screen=Screen.from_state(question.state))
        starts = run.stored is None or run.stored.roster is None
        party = self._party(run, question.roster)  # 2
        self._require_own_minimum(party.parties.fewest)
        members = party.parties.named(question.active)
        sites = sorted(members)
        about["parties"] = sites
        last = self._store.highest_round(run_id)
        self._require_number(run, number, last)  # 3
        before = self._store.round(run_id, number)
        if before is None and number <= last:
            raise ProtocolError("wrong-round", f"This site was away in round {number}.", last=last)
        if before is not None and before.state_digest != question.state_digest:  # 4
            raise ProtocolError("wrong-round", "This round was computed for another state.")
        if self._store.failed_round(run_id) not in {0, number}:
            raise ProtocolError("wrong-round", "This site failed in another round of the run.")
        answered = self.party_round(run_id, number, party)
        if answered is not None and answered.active != members:
            raise ProtocolError("wrong-round", "This round was answered for other parties.")
        if starts:  # 5
            self._require_same_parties(run, sites)
            self._require_runs_left(run)
        elif answered is None:
            self._require_steady(run, question, members, party)
        if before is None or not before.reply_tag:
            self._require_same_sum(run, question.state_digest, sites)
        run = run.among(len(sites))
        release = self._screening.check(run, number, question.state)  # 6
        request = run.request
        return CheckedRound(
            run=run,
            round=number,
            party=party,
            active=members,
            binding=RoundBinding(
                run_id, number, request.contract_digest, request.digest, question.state_digest
            ),
            starts=starts,
            answered=None if before is None else before.reply_tag or None,
            release=release,
        )

    def check_survivors(
        self, run_id: str, message: SurvivorList, party: Party, about: About
    ) -> CheckedSurvivors:
        """Decide whether this site signs, or unmasks for, a list of survivors.

        `Party` decides whether the list fits the round.

        Raises:
            CohortiumError: The reason why not.
        """
        # 1. The run may go on. 2. The round is the last one that was answered, or the list is the
        # one that an earlier round was answered for. 3. This site's own minimum. 4. One set of
        # parties for one contribution: an exact statistic may lose parties in its first round only,
        # and not where the same was computed before with others.
        survivors = sorted(message.survivors)
        about |= {"run_id": run_id[:64], "round": message.round, "survivors": survivors}
        run = self.check_continues(run_id, about)  # 1
        last = self._store.highest_round(run_id)
        state = self.party_round(run_id, message.round, party)
        if state is None or (message.round != last and message.survivors != state.agreed):  # 2
            raise ProtocolError("wrong-round", "This site did not answer that round last.")
        self._require_own_minimum(len(survivors))  # 3
        first = self._store.first_round(run_id) == message.round
        if first:  # 4
            self._require_same_parties(run, survivors)
        elif run.analysis.drop_outs == "wait" and message.survivors != state.active:
            raise _other_parties()
        answered = self._store.round(run_id, message.round)
        if answered is not None:
            self._require_same_sum(run, answered.state_digest, survivors)
        return CheckedSurvivors(run, party, state, first)

    def _require_own_minimum(self, sites: int) -> None:
        fewest = self._policy().min_sites
        if sites < fewest:
            raise PolicyRefusal(
                "too-few-sites",
                f"The sum may be over {sites} sites; this site's policy asks for {fewest}. Ask for "
                f"a contract with min_sites: {fewest}.",
                sites=sites,
                min_sites=fewest,
            )

    def party(self, run_id: str) -> Party:
        """The party of a run that has begun here.

        Raises:
            CohortiumError: It has not, or may not go on.
        """
        run = self.check_continues(run_id)
        if run.stored is None or run.stored.roster is None:
            raise ProtocolError("wrong-round", "This run has not begun at this site.")
        return self._party(run, ())

    def party_round(self, run_id: str, number: int, party: Party) -> PartyRound | None:
        """What was stored with this site's masked input; None where nothing can be recovered."""
        stored = self._store.party_round(run_id, number)
        return None if stored is None else PartyRound.from_json(stored, party.parties)

    def require_same_keys(self, checked: CheckedRound, received: Mapping[str, KeyShare]) -> None:
        """Refuse a round that was answered when others' keys are handed on with it.

        Raises:
            ProtocolError: ``wrong-round``.
        """
        before = self.party_round(checked.run.request.run_id, checked.round, checked.party)
        if before is not None and before.received != received:
            raise ProtocolError("wrong-round", "This round was answered for other keys.")

    @staticmethod
    def _require_number(run: CheckedRun, number: int, last: int) -> None:
        """A site that was away misses rounds only where each round stands alone."""
        most = run.analysis.max_rounds
        highest = most if run.analysis.drop_outs == "continue" else min(last + 1, most)
        if not 1 <= number <= highest:
            raise ProtocolError(
                "wrong-round", f"Round {number} cannot follow round {last} here.", last=last
            )

    def _require_steady(
        self,
        run: CheckedRun,
        question: Question,
        active: frozenset[str],
        party: Party,
    ) -> None:
        run_id, last = question.run_id, self._store.highest_round(question.run_id)
        if not party.parties.recoverable:
            return
        if run.analysis.drop_outs == "continue":
            if self._store.asked_before(run_id, question.state_digest, question.round):
                raise _other_parties()
            return
        before = self.party_round(run_id, last, party)
        if before is None:  # the first round failed here
            self._require_same_parties(run, sorted(active))
        elif before.agreed is None and active < before.active and last == 1:
            self._require_same_parties(run, sorted(active))  # the hub says who was left
        elif active != (before.agreed or before.active):
            raise _other_parties()

    def _party(self, run: CheckedRun, envelopes: Sequence[bytes]) -> Party:
        stored = run.stored
        if stored is None or stored.secret is None:
            raise ProtocolError("wrong-round", "This run is not under way at this site.")
        run_id = run.request.run_id
        fixed = None if stored.roster is None else unframe(stored.roster)
        party = self._parties.get(run_id)
        if party is None and fixed is not None:
            party = self._make_party(run, stored.secret, fixed)
        if party is None or (envelopes and (fixed is None or list(envelopes) != fixed)):
            given = self._make_party(run, stored.secret, envelopes)
            if (
                party is not None
                and fixed is not None
                and given.roster.digest != party.roster.digest
            ):
                raise ProtocolError(
                    "roster-mismatch", "The parties of a run cannot change; submit a new run."
                )
            party = given
        if fixed is not None:
            self._parties[run_id] = party
        return party

    def _make_party(self, run: CheckedRun, secret: bytes, envelopes: Sequence[bytes]) -> Party:
        contract, request = run.contract, run.request
        min_sites = max(contract.min_sites, self._policy().min_sites)
        asked = (*envelopes, str(min_sites).encode(), contract.digest.encode(), secret)
        made = self._made.get(request.run_id)
        if made is not None and made[0] == asked:
            return made[1]
        roster = Roster.verify(
            envelopes,
            contract_keys={p.name: p.key for p in contract.participants},
            run_id=request.run_id,
            contract_digest=request.contract_digest,
            request_digest=request.digest,
            min_sites=min_sites,
        )
        party = Party(self._identity.name, secret, Parties(roster, contract.min_sites))
        self._made[request.run_id] = asked, party
        return party

    def _require_same_parties(self, run: CheckedRun, sites: list[str]) -> None:
        request = run.request
        earlier = self._store.sums_before(
            request.contract_digest, request.computation, run.params_digest, request.run_id
        )
        if {parties for parties, _ in earlier} - {party_list(sites)}:
            raise _done_before()
        if {limits for _, limits in earlier} - {run.scope.disclosure.to_bytes().decode()}:
            raise PolicyRefusal(
                "differencing",
                "This computation was done before under other limits of this site: the difference "
                "of both results would show this site. The earlier result stands.",
            )

    def _require_same_sum(self, run: CheckedRun, state_digest: str, sites: list[str]) -> None:
        """Where each round stands alone, another run may have come to the same state before."""
        if run.analysis.drop_outs == "wait":  # all rounds of all runs have the first ones' parties
            return
        request = run.request
        earlier = self._store.summed_before(
            request.contract_digest,
            request.computation,
            run.params_digest,
            state_digest,
            request.run_id,
        )
        if earlier - {party_list(sites)}:
            raise _done_before()


def _done_before() -> PolicyRefusal:
    return PolicyRefusal(
        "differencing",
        "This computation was done before with other sites: the difference of both results would "
        "show single sites. Run it when the same sites are connected.",
    )


def _other_parties() -> PolicyRefusal:
    return PolicyRefusal(
        "differencing",
        "The sums of this run were over other parties: the difference would show single sites. "
        "Resume the run when the same sites are connected.",
    )


def require_runs_today(store: NodeStore, limit: int | None, now: datetime) -> None:
    """Refuse one run more than the site's policy lets begin in 24 hours.

    Raises:
        PolicyRefusal: ``site-policy``.
    """
    if limit is not None and store.runs_since(to_rfc3339(now - DAY)) >= limit:
        raise PolicyRefusal("site-policy", f"This site takes part in {limit} runs a day.")


def party_list(sites: Collection[str]) -> str:
    """The parties in one canonical text."""
    return canonical(sorted(sites)).decode()


def frame(envelopes: Sequence[bytes]) -> bytes:
    """Envelopes one after the other, each behind its length."""
    return b"".join(len(item).to_bytes(4, "big") + item for item in envelopes)


def unframe(data: bytes) -> list[bytes]:
    """The inverse of `frame`."""
    items, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        items.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return items
