"""What a study's statements make of its contracts over the ledger, and which entries are void."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from cohortium.audit.log import Logged
from cohortium.audit.steps import require
from cohortium.contract.lifecycle import StudyLife, hear
from cohortium.contract.model import Contract, Draft, Environment
from cohortium.contract.statements import Assignment, Statement, Transition, open_statement
from cohortium.crypto.signed import Envelope
from cohortium.errors import CohortiumError, VerificationError
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    EnclaveChanged,
    Fact,
    Founded,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    RunDenied,
    RunSubmitted,
    TakenOver,
)

DRAFTING = frozenset({"draft", "assign"})


@dataclass(frozen=True)
class Reign:
    """A contract that was in force.

    Attributes:
        since: Place of the entry with which it came into force.
        until: Of that with which it ended; None where it did not.
    """

    contract: Contract
    digest: str
    since: int
    until: int | None = None

    @property
    def witnesses(self) -> dict[str, str]:
        """Its participants, name to key."""
        return {site.name: site.key for site in self.contract.participants}


@dataclass
class History:
    """A study's contracts over the ledger.

    Attributes:
        founded: The consortium.
        lives: The life with each entry that changed it, by the entry's place.
        reigns: The contracts that were in force, in order.
        proposals: Contracts by the place where they were proposed.
        drafts: Places of what was drafted and assigned.
        transitions: What parties said of the contracts, in the order of the ledger.
        reasons: What somebody said, by the digest of the statement.
        faults: By place, why a party's entry does not follow from what was signed.
        unproven: By place, why an entry proves nothing: nobody of the study has signed it.
    """

    study: str
    founded: Founded
    lives: list[tuple[int, StudyLife]] = field(default_factory=list)
    reigns: list[Reign] = field(default_factory=list)
    proposals: dict[int, Contract] = field(default_factory=dict)
    drafts: list[int] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    faults: dict[int, CohortiumError] = field(default_factory=dict)
    unproven: dict[int, str] = field(default_factory=dict)

    @property
    def life(self) -> StudyLife | None:
        """At the end; None of a study that was only drafted."""
        return self.lives[-1][1] if self.lives else None

    def at(self, index: int) -> StudyLife:
        """The life when the entry at `index` was logged.

        Raises:
            VerificationError: ``bad-bundle`` where there was no contract yet.
        """
        found = bisect_left(self.lives, index, key=lambda item: item[0])
        if found == 0:
            raise VerificationError("bad-bundle", "The study had no contract at that time.")
        return self.lives[found - 1][1]

    def between(self, first: int, last: int) -> list[StudyLife]:
        """The lives that there were from the entry at `first` to the one at `last`.

        Raises:
            VerificationError: ``bad-bundle`` where there was no contract yet at the last.
        """
        changed = [life for place, life in self.lives if first <= place < last]
        before = [life for place, life in self.lives if place < first]
        return [*before[-1:], *changed] or [self.at(last)]

    def witnesses(self, size: int) -> dict[str, str] | None:
        """Those of whom more than two thirds must have seen so many entries: name to key."""
        reigns = [reign for reign in self.reigns if reign.since < size]
        if reigns:
            return reigns[-1].witnesses
        proposed = [contract for place, contract in self.proposals.items() if place < size]
        return {p.name: p.key for p in proposed[-1].participants} if proposed else None

    def replaced(self, size: int) -> list[Reign]:
        """The contracts that were in force and gave way to another, in the first `size` entries."""
        return [reign for reign in self.reigns if reign.since < size][:-1]

    @cached_property
    def parties(self) -> set[tuple[str, str, str]]:
        """Role, name and key of everybody in the contracts; asked for when all are known."""
        return {
            (role, one.name, one.key)
            for contract in self.proposals.values()
            for role, people in (
                ("institution", contract.participants),
                ("researcher", (*contract.recipients, contract.proposed_by)),
                ("owner", contract.owners),
                ("enclave", (contract.environment or Environment()).enclaves),
            )
            for one in people
            if one.key is not None
        }

    def is_party(self, key: str) -> bool:
        """Whether a key is that of somebody in the study's contracts."""
        return any(key in one.parties.values() for one in self.proposals.values())

    def excuses(self, logged: Logged) -> bool:
        """Whether an entry may name what is not there; it then proves nothing."""
        fact = logged.fact
        if isinstance(fact, RunDenied) and not self.is_party(fact.researcher):
            self.unproven.setdefault(logged.index, f"The document {fact.request} is not there.")
        return logged.index in self.unproven

    @cached_property
    def names(self) -> dict[str, str]:
        """Names by key."""
        return {key: name for _, name, key in self.parties}

    @cached_property
    def datasets(self) -> set[tuple[str, str]]:
        """Institution and name of the contracts' data."""
        contracts = self.proposals.values()
        return {(site.name, site.dataset) for one in contracts for site in one.givers}

    def is_about(self, fact: Fact) -> bool:
        """Whether a fact that is not about a run concerns this study."""
        match fact:
            case Founded() | TakenOver():
                return True
            case MemberChanged() | ResearcherChanged() | EnclaveChanged():
                return fact.name in self.names.values()
            case PolicyChanged():
                return fact.member in self.names.values()
            case DatasetChanged():
                return (fact.member, fact.name) in self.datasets
            case ContractChanged() | RunSubmitted() | RunDenied():
                return fact.study == self.study
            case _:
                return False


def told(
    study: str, founded: Founded, entries: Sequence[Logged], statements: Mapping[str, str]
) -> History:
    """The life that follows from the statements, and what of the ledger does not.

    A hub can log a statement that nobody made. Where the entry, and the document if it is there,
    name the key of nobody in the study's contracts, it cannot have changed any of these: it is left
    out, and so is a draft that is not there. Else it is a fault: what is withheld may have ended
    the contract.

    Args:
        statements: Envelopes by digest.
    """
    history = History(study, founded)
    keys: dict[int, frozenset[str]] = {}
    for logged in entries:
        fact = logged.fact
        if isinstance(fact, ContractChanged) and fact.study == study:
            text = statements.get(fact.statement)
            try:
                _take(history, logged, fact, text)
            except CohortiumError as error:
                history.faults[logged.index] = error
                keys[logged.index] = frozenset(_keys(fact, text))
    if history.lives or history.drafts:
        for place, those in keys.items():
            if not any(history.is_party(key) for key in those):
                history.unproven[place] = history.faults.pop(place).message
    return history


def _take(history: History, logged: Logged, fact: ContractChanged, text: str | None) -> None:
    """One more entry about the study's contracts."""
    if text is None:
        raise VerificationError("bad-bundle", f"The document {fact.statement} is not there.")
    envelope = text.encode()
    document, signer = open_statement(envelope)
    require(signer == fact.key, "The statement is signed with another key.")
    _check_said(document, fact)
    if isinstance(document, Contract | Draft):
        home = document.consortium == history.founded.fingerprint
        require(home, "The contract is of another consortium.")
    if isinstance(document, Draft | Assignment):
        require(fact.state == "draft", "A draft is not in force.")
        history.drafts.append(logged.index)
        return
    life = hear(history.life, envelope, logged.entry.at)
    version = life.version(fact.contract)
    said = (version.state, version.contract.version)
    require(
        said == (fact.state, fact.version),
        f"By what was signed it was version {said[1]} and {said[0]}; the entry says "
        f"version {fact.version} and {fact.state}.",
    )
    history.lives.append((logged.index, life))
    if fact.action == "propose":
        history.proposals[logged.index] = version.contract
    _reign(history, life, logged.index)
    if isinstance(document, Transition):
        history.reasons[fact.statement] = document.reason
        history.transitions.append(document)


def _reign(history: History, life: StudyLife, place: int) -> None:
    """Whether a contract has ended, or come into force."""
    last = history.reigns[-1] if history.reigns else None
    if last is not None and last.until is None and not life.version(last.digest).in_force:
        history.reigns[-1] = replace(last, until=place)
    now = life.in_force
    if now is not None and (last is None or last.digest != now.digest):
        history.reigns.append(Reign(now.contract, now.digest, place))


def _keys(fact: ContractChanged, text: str | None) -> Iterator[str]:
    """Those whose word an entry that does not hold may be, or may hide."""
    if text is None:
        if fact.action not in DRAFTING:
            yield fact.key
        return
    yield fact.key
    with suppress(CohortiumError):  # unverified: a later release may know what we cannot open
        yield from (one.keyid for one in Envelope.from_bytes(text.encode()).signatures)


def _check_said(document: Statement, fact: ContractChanged) -> None:
    """The statement is the one that the entry speaks of."""
    match document:
        case Contract():
            author, about, actions = _signer(document, fact), document.digest, {"propose", "sign"}
        case Draft():
            author, about, actions = document.proposed_by.name, document.digest, {"draft"}
        case Transition():
            author, about, actions = document.author, document.contract_digest, {document.action}
        case Assignment():
            author, about, actions = document.author, document.draft_digest, {"assign"}
    require(document.study == fact.study, "The statement is about another study.")
    require(about == fact.contract, "The statement is about another contract.")
    require(fact.action in actions, "The statement says something else.")
    require(author == fact.author, "The statement is by somebody else.")


def _signer(contract: Contract, fact: ContractChanged) -> str | None:
    """Whose name goes with the key that signed a contract, in this part of it."""
    people = (
        {contract.proposed_by.name: contract.proposed_by.key}
        if fact.action == "propose"
        else contract.signatories
    )
    return next((name for name, key in people.items() if key == fact.key), None)
