"""Steps 5 to 7: the contract's life as it was signed, and who its parties were."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cohortium.audit.bundle import Bundle
from cohortium.audit.history import History
from cohortium.audit.log import Logged
from cohortium.audit.steps import Facts, require
from cohortium.audit.tasks import offers
from cohortium.contract.model import Contract
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    Fact,
    KeyReleased,
    MemberChanged,
    ResearcherChanged,
    RunDecided,
    RunDenied,
    RunSubmitted,
)


def check_statements(
    bundle: Bundle, entries: Sequence[Logged], history: History, facts: Facts
) -> None:
    """Step 5: each document that an entry names is there, and no other.

    What an entry names that proves nothing need not be.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    ordered = [one.fact for one in entries if isinstance(one.fact, RunSubmitted)]
    runs = {fact.run_id for fact in ordered if fact.study == bundle.study}
    needed = {release.outcome for release in bundle.releases if release.outcome is not None}
    for digest in sorted(needed):
        with facts.of("statements"):
            require(digest in bundle.statements, f"The document {digest} is not there.")
    for logged in entries:
        named = list(_named(logged.fact, bundle.study, runs))
        for digest in (*named, *offers(bundle.statements, named).values()):
            needed.add(digest)
            if digest not in bundle.statements and history.excuses(logged):
                continue
            with facts.of("statements", logged.index):
                require(digest in bundle.statements, f"The document {digest} is not there.")
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
    elif isinstance(fact, KeyReleased) and fact.run_id in runs:
        yield fact.evidence


def check_contract(history: History, facts: Facts) -> None:
    """Step 6: the state that each entry tells follows from the signed statements until then.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    for place in sorted([*(index for index, _ in history.lives), *history.drafts, *history.faults]):
        with facts.of("contract", place):
            if place in history.faults:
                raise history.faults[place]


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
    for site in contract.givers:
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
