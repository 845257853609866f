"""Steps 5 to 7: the contract's life as it was signed, and who its parties were."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cohortium.audit.bundle import Bundle
from cohortium.audit.log import Logged
from cohortium.audit.steps import Facts, require
from cohortium.contract.lifecycle import StudyLife, hear
from cohortium.contract.model import Contract, Draft
from cohortium.contract.statements import Assignment, Statement, Transition, open_statement
from cohortium.errors import VerificationError
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    Fact,
    Founded,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    RunDecided,
    RunDenied,
    RunSubmitted,
    TakenOver,
)


@dataclass
class History:
    """A study's contracts over the ledger.

    Attributes:
        founded: The consortium.
        lives: The life with each entry that changed it, by the entry's place.
        in_force: The contract in force at the end, or the last one that was.
        proposals: Contracts by the place where they were proposed.
        reasons: What somebody said, by the digest of the statement.
    """

    study: str
    founded: Founded
    lives: list[tuple[int, StudyLife]] = field(default_factory=list)
    in_force: Contract | None = None
    proposals: dict[int, Contract] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

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

    @property
    def witnesses(self) -> dict[str, str] | None:
        """Those of whom more than two thirds must have seen the ledger: name to key."""
        contract = self.in_force
        if contract is None and self.life is not None:
            contract = self.life.newest.contract
        return None if contract is None else {p.name: p.key for p in contract.participants}

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
            )
            for one in people
        }

    @cached_property
    def names(self) -> dict[str, str]:
        """Names by key."""
        return {key: name for _, name, key in self.parties}

    @cached_property
    def datasets(self) -> set[tuple[str, str]]:
        """Institution and name of the contracts' data."""
        contracts = self.proposals.values()
        return {(site.name, site.dataset) for one in contracts for site in one.participants}

    def is_about(self, fact: Fact) -> bool:
        """Whether a fact that is not about a run concerns this study."""
        match fact:
            case Founded() | TakenOver():
                return True
            case MemberChanged() | ResearcherChanged():
                return fact.name in self.names.values()
            case PolicyChanged():
                return fact.member in self.names.values()
            case DatasetChanged():
                return (fact.member, fact.name) in self.datasets
            case ContractChanged() | RunSubmitted() | RunDenied():
                return fact.study == self.study
            case _:
                return False


def check_statements(bundle: Bundle, entries: Sequence[Logged], facts: Facts) -> None:
    """Step 5: each document that an entry names is there, and no other.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    ordered = [one.fact for one in entries if isinstance(one.fact, RunSubmitted)]
    runs = {fact.run_id for fact in ordered if fact.study == bundle.study}
    needed: set[str] = set()
    for logged in entries:
        for digest in _named(logged.fact, bundle.study, runs):
            with facts.of("statements", logged.index):
                require(digest in bundle.statements, f"The document {digest} is not there.")
            needed.add(digest)
    with facts.of("statements"):
        superfluous = sorted(set(bundle.statements) - needed)
        require(not superfluous, f"No entry names the document {''.join(superfluous[:1])}.")


def _named(fact: Fact, study: str, runs: Collection[str]) -> Iterator[str]:
    """The documents that a fact names; `runs` are those of the study."""
    if isinstance(fact, ContractChanged) and fact.study == study:
        yield fact.statement
    elif isinstance(fact, RunSubmitted | RunDenied) and fact.study == study:
        yield fact.request
    elif isinstance(fact, RunDecided) and fact.run_id in runs:
        yield from (one.statement for one in fact.sites.values() if one.statement is not None)


def check_contract(bundle: Bundle, entries: Sequence[Logged], facts: Facts) -> History:
    """Step 6: the state that each entry tells follows from the signed statements until then.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    founded = entries[0].fact
    if not isinstance(founded, Founded):
        raise VerificationError("bad-bundle", "The ledger's first entry is not there.")
    history = History(bundle.study, founded)
    for logged in entries:
        fact = logged.fact
        if not isinstance(fact, ContractChanged) or fact.study != bundle.study:
            continue
        with facts.of("contract", logged.index):
            envelope = bundle.statements[fact.statement].encode()
            document, signer = open_statement(envelope)
            require(signer == fact.key, "The statement is signed with another key.")
            _check_said(document, fact)
            if isinstance(document, Contract | Draft):
                home = document.consortium == founded.fingerprint
                require(home, "The contract is of another consortium.")
            if isinstance(document, Draft | Assignment):
                require(fact.state == "draft", "A draft is not in force.")
                continue
            life = hear(history.life, envelope, logged.entry.at)
            history.lives.append((logged.index, life))
            version = life.version(fact.contract)
            said = (version.state, version.contract.version)
            require(
                said == (fact.state, fact.version),
                f"By what was signed it was version {said[1]} and {said[0]}; the entry says "
                f"version {fact.version} and {fact.state}.",
            )
            if fact.action == "propose":
                history.proposals[logged.index] = version.contract
            if life.in_force is not None:
                history.in_force = life.in_force.contract
            if isinstance(document, Transition):
                history.reasons[fact.statement] = document.reason
    return history


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


def check_parties(
    bundle: Bundle,
    entries: Sequence[Logged],
    history: History,
    pinned: Mapping[str, frozenset[str]],
    facts: Facts,
) -> None:
    """Step 7: when a contract was proposed its parties were admitted and its data registered.

    Args:
        pinned: Keys that the auditor knows from elsewhere, by name.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    members: dict[str, str] = {}
    researchers: set[tuple[str, str]] = set()
    datasets: dict[tuple[str, str], DatasetChanged] = {}
    for logged in entries:
        fact = logged.fact
        match fact:
            case MemberChanged():
                members.pop(fact.name, None)
                if fact.status == "approved":
                    members[fact.name] = fact.key
            case ResearcherChanged():
                one = (fact.name, fact.key)
                (researchers.add if fact.status == "active" else researchers.discard)(one)
            case DatasetChanged():
                datasets[fact.member, fact.name] = fact
            case _:
                contract = history.proposals.get(logged.index)
                if contract is not None:
                    with facts.of("parties", logged.index):
                        _check_admitted(contract, members, researchers, datasets)
    named = {(name, key) for _, name, key in history.parties}
    for name, key in sorted(named | set(bundle.members.items())):
        with facts.of("parties"):
            known = pinned.get(name)
            require(known is None or key in known, f"The key of {name} is not the one you gave.")


def _check_admitted(
    contract: Contract,
    members: Mapping[str, str],
    researchers: set[tuple[str, str]],
    datasets: Mapping[tuple[str, str], DatasetChanged],
) -> None:
    for site in contract.participants:
        require(members.get(site.name) == site.key, f"{site.name} was no member with that key.")
        registered = datasets.get((site.name, site.dataset))
        same = registered is not None and (registered.content, registered.dictionary) == (
            site.dataset_digest,
            site.dictionary_digest,
        )
        require(same, f"{site.name} had not registered that version of {site.dataset}.")
    for person in contract.recipients:
        known = (person.name, person.key) in researchers
        require(known, f"{person.name} was no researcher with that key.")
    for one in (contract.proposed_by, *contract.owners):
        known = (one.name, one.key) in researchers or members.get(one.name) == one.key
        require(known, f"Nobody named {one.name} had been admitted with that key.")
