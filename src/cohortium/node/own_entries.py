"""What the ledger says about this site, held against what this site did.

Each check is against a record that was durable before the hub could know of it, so that an entry
cannot come too early. Where the hub may honestly not know better (an answer that was lost, a sum
that another site dropped out of), what it says is let through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cohortium.contract.statements import open_statement
from cohortium.contract.task import is_task
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import parse_rfc3339
from cohortium.core.directory import PublishedDataset
from cohortium.errors import CATALOGUE
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    Entry,
    Fact,
    KeyReleased,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    RunDecided,
    RunEnded,
    RunSubmitted,
    SiteDecision,
)
from cohortium.ledger.witness import SKEW
from cohortium.node import statements
from cohortium.node.identity import Identity
from cohortium.node.life import open_contract
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore

SITE_SAYS_NO = frozenset({"InputError", "PolicyRefusal", "ConflictError"})
"""Families of refusals that only the site itself gives; others may arise on the way."""


def dataset_key(name: str, content: str | None, dictionary: str | None) -> str:
    """A version of a dataset, as `NodeStore.said` keeps it."""
    return f"{name} {content or '-'} {dictionary or '-'}"


def say_dataset(store: NodeStore, dataset: PublishedDataset) -> None:
    """Remember that the hub is told of a version. Belongs in a transaction."""
    digest = dataset.dictionary.digest
    store.say("dataset", dataset_key(dataset.name, dataset.content_digest, digest))


class OwnEntries:
    """Finds entries about this site that are not so.

    Args:
        identity: Who this site is.
        store: What it did.
    """

    def __init__(self, identity: Identity, store: NodeStore) -> None:
        self._identity = identity
        self._store = store
        self._replica = Replica(store)

    def find_false(self, entries: Sequence[Entry]) -> str | None:
        """Why the first false one of these new entries is false; None where there is none.

        What stands before this site's membership with its present key, and is older than this
        node's first connection, is about an earlier node of the institution.
        """
        member = self.listed()
        text = self._replica.recall("since")
        since = None if text is None else parse_rfc3339(text) + SKEW
        people: list[Fact] = []
        ordered: dict[str, RunSubmitted] = {}
        for entry in entries:
            member = member or self._is_own_approval(entry.fact)
            member = member or (since is not None and entry.at > since)
            if isinstance(entry.fact, ResearcherChanged):
                people.append(entry.fact)
            elif isinstance(entry.fact, RunSubmitted):
                ordered[entry.fact.run_id] = entry.fact
            elif isinstance(entry.fact, RunEnded) and member:
                why = self._false_success(entry.fact, ordered)
                if why:
                    return why
            if member and (why := self._why_false(entry.fact, people)):
                return why
        return None

    def listed(self) -> bool:
        """Whether the ledger has, or had, this site as a member with its present key."""
        facts = self._replica.facts("member", self._identity.name)
        return any(map(self._is_own_approval, facts))

    def _is_own_approval(self, fact: Fact) -> bool:
        own = (self._identity.name, self._identity.key.public, "approved")
        return isinstance(fact, MemberChanged) and (fact.name, fact.key, fact.status) == own

    def _why_false(self, fact: Fact, people: Sequence[Fact]) -> str | None:
        own, key, said = self._identity.name, self._identity.key.public, self._store.has_said
        match fact:
            case MemberChanged():
                if (fact.name == own) != (fact.key == key):
                    return f"the key of {fact.name} is not that one"
            case DatasetChanged(content=content) if fact.member == own and content is not None:
                version = dataset_key(fact.name, content, fact.dictionary)
                if not said("dataset", version):
                    return f"this site never published that version of dataset {fact.name}"
            case PolicyChanged() if fact.member == own and not said("policy_digest", fact.policy):
                return "this site never had that policy"
            case ContractChanged():
                return self._false_statement(fact, people)
            case RunDecided() if own in fact.sites:
                return self._false_decision(fact.run_id, fact.sites[own])
            case RunEnded():
                return self._false_rounds(fact)
            case KeyReleased() if fact.holder == own:
                return self._false_release(fact)
            case _:
                pass
        return None

    def _false_release(self, fact: KeyReleased) -> str | None:
        rows = self._store.execute(
            "SELECT recipient, release FROM task_releases WHERE run_id = ?", fact.run_id
        )
        made = [(recipient, digest_bytes(release)) for recipient, release in rows]
        if made == [(fact.recipient, fact.evidence)]:
            return None
        return f"this site released no such data key to run {fact.run_id}"

    def _false_success(self, fact: RunEnded, new: Mapping[str, RunSubmitted]) -> str | None:
        """A task cannot have succeeded without what this site lends to it."""
        orders = [*self._replica.facts("run.submitted", fact.run_id), new.get(fact.run_id)]
        order = next((one for one in orders if isinstance(one, RunSubmitted)), None)
        if fact.status != "succeeded" or order is None or not is_task(order.computation):
            return None
        stored = self._store.contract(order.contract)
        task = None if stored is None else open_contract(stored).task_of(order.computation)
        if task is None or self._identity.name not in task.lenders:
            return None
        if self._store.execute("SELECT 1 FROM task_releases WHERE run_id = ?", fact.run_id):
            return None
        return f"run {fact.run_id} did not get what this site lends to {task.name}"

    def _false_statement(self, fact: ContractChanged, people: Sequence[Fact]) -> str | None:
        found = statements.find(self._store, fact.statement)
        if found is not None and found.key != fact.key:
            return f"a statement of {found.author} about study {fact.study} is called another's"
        if fact.key == self._identity.key.public:
            made = self._store.has_said("statement", fact.statement)
            if not made and found is None:
                return f"this site made no such statement about study {fact.study}"
            if found is not None:
                study = open_statement(found.envelope)[0].study
                said = (study, found.contract, found.action)
                if said != (fact.study, fact.contract, fact.action):
                    return f"this site stated something else about study {study}"
        elif fact.author == self._identity.name:  # or it is a researcher who is called the same
            known = [*self._replica.facts("researcher", fact.author), *people]
            if (fact.author, fact.key) not in map(_person, known):
                return f"a statement about study {fact.study} is not signed with this site's key"
        return None

    def _false_decision(self, run_id: str, decision: SiteDecision) -> str | None:
        run = self._store.run(run_id)
        if decision.decision == "accepted":
            if run is None:
                return f"this site did not accept run {run_id}"
            if decision.statement != digest_bytes(run.advert):
                return f"this site accepted run {run_id} with another statement"
        elif decision.decision == "refused" and run is not None:
            # It may have said no when it was asked again: to a run that goes on after a failure.
            error = CATALOGUE.get(decision.code or "")
            own_word = error is None or error.family in SITE_SAYS_NO
            if own_word and not self._store.has_said("refused", digest_bytes(run.envelope)):
                return f"this site did not refuse run {run_id}"
        return None

    def _false_rounds(self, fact: RunEnded) -> str | None:
        for rounds in fact.rounds:
            if self._identity.name not in rounds.sites:
                continue  # an answer of this site may have come too late
            named = set(rounds.sites)
            summed = self._store.summed(fact.run_id, rounds.first, rounds.last)
            if len(summed) != rounds.last - rounds.first + 1:
                return f"this site did not take part in all those rounds of run {fact.run_id}"
            for number, text in summed.items():
                known = set(json.loads(text))
                agreed = self._store.has_said("summed", f"{fact.run_id} {number}")
                if not named <= known or (agreed and named != known):
                    return f"round {number} of run {fact.run_id} was not over these sites"
        return None


def _person(fact: Fact) -> tuple[str, str] | None:
    return (fact.name, fact.key) if isinstance(fact, ResearcherChanged) else None
