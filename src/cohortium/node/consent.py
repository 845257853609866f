"""The site's decision on a contract: what the steward reads, what is checked, yes or no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cohortium.contract import lifecycle
from cohortium.contract.check import unenforceable
from cohortium.contract.diff import Change, diff
from cohortium.contract.model import Contract
from cohortium.contract.population import contract_population
from cohortium.contract.render import render_diff, render_version
from cohortium.crypto.keys import fingerprint
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.node import journal, statements, task_review
from cohortium.node.agreement import own_seat, require_known_peers
from cohortium.node.datasets import Datasets
from cohortium.node.identity import Identity
from cohortium.node.life import life_of, open_contract
from cohortium.node.outbox import owe_vote
from cohortium.node.policy import Policy
from cohortium.node.service import NodeService
from cohortium.node.store import NodeStore, StoredContract

AGREED = frozenset({"signed", "active", "suspended"})
"""States of a contract that this site has said yes to, and that has not ended."""


@dataclass(frozen=True)
class Known:
    """An institution, researcher or enclave of the contract, to compare by telephone.

    Attributes:
        status: ``this site``, ``known``, ``new`` or ``changed``.
    """

    name: str
    role: str
    fingerprint: str
    status: str


@dataclass(frozen=True)
class Review:
    """What a steward needs to decide.

    Attributes:
        text: The contract in words; of a version that amends another, after what differs.
        changes: From the version that it amends, where this site has that.
        problems: Why this node cannot sign; empty where it can.
        warnings: What to think about first.
    """

    stored: StoredContract
    contract: Contract
    text: str
    changes: tuple[Change, ...]
    keys: tuple[Known, ...]
    problems: tuple[CohortiumError, ...]
    warnings: tuple[str, ...]


def find_contract(store: NodeStore, name: str) -> StoredContract:
    """A contract by digest, the beginning of one, or study name.

    Of a study's versions it is the one that waits for this site, else for the others, else the one
    in force, else the latest.

    A hub may send another contract under the same name between review and signature, so that two
    that wait for a decision are told apart by their digest only.

    Raises:
        InputError: ``not-found``; ``bad-input`` where several wait for a decision.
    """
    matching = [
        contract
        for contract in store.contracts()
        if name in {contract.study, contract.digest}
        or (len(name) >= 8 and contract.digest.removeprefix("sha256:").startswith(name))
    ]
    if not matching:
        raise InputError(
            "not-found",
            f"No contract {name!r} has arrived here. See: cohortium node status",
        )
    undecided = [contract.digest for contract in matching if contract.state == "proposed"]
    if len(undecided) > 1 and name not in undecided:
        raise InputError(
            "bad-input",
            f"{len(undecided)} contracts called {name!r} wait for a decision. Ask who proposed "
            "them, and name one by its digest.",
            contracts=undecided,
        )
    for states in ({"proposed"}, {"signed"}, {"active", "suspended"}):
        found = [contract for contract in matching if contract.state in states]
        if found:
            return found[-1]
    return matching[-1]


def review(node: NodeService, stored: StoredContract, language: str = "en") -> Review:
    """Read a contract as this site sees it; changes nothing.

    Raises:
        InputError: ``bad-input`` for a language that there is not.
    """
    contract = open_contract(stored)
    version = life_of(node.store, stored.study).version(stored.digest)
    text = render_version(version, language, node.clock())
    amended = node.store.contract(contract.amends or "")
    before = None if amended is None else open_contract(amended)
    if before is not None:
        text = f"{render_diff(before, contract, language)}\n{text}"
    return Review(
        stored=stored,
        contract=contract,
        text=text,
        changes=() if before is None else diff(before, contract),
        keys=_keys(contract, node.identity, node.store),
        problems=tuple(_problems(node, contract)),
        warnings=(
            *_warnings(contract, node.policy(), node.store),
            *task_review.warnings(contract, node.identity.name, node.lending),
        ),
    )


def _keys(contract: Contract, identity: Identity, store: NodeStore) -> tuple[Known, ...]:
    peers = store.peers()
    trusted = {
        researcher.key
        for earlier in store.contracts()
        if earlier.state in AGREED
        for researcher in open_contract(earlier).recipients
    }
    sites = [
        Known(
            p.name,
            "participant",
            fingerprint(p.key),
            "this site"
            if p.name == identity.name
            else "new"
            if p.name not in peers
            else "known"
            if peers[p.name] == p.key
            else "changed",
        )
        for p in contract.participants
    ]
    people = [
        Known(r.name, "researcher", fingerprint(r.key), "known" if r.key in trusted else "new")
        for r in contract.recipients
    ]
    return (*sites, *people, *_enclaves(contract, store))


def _enclaves(contract: Contract, store: NodeStore) -> list[Known]:
    """Below L4 keys go to whoever holds the key of an enclave that the contract names."""
    agreed = [open_contract(one) for one in store.contracts() if one.state in AGREED]
    known = {
        one.name: one.key
        for earlier in agreed
        if earlier.environment is not None
        for one in earlier.environment.enclaves
    }
    named = contract.environment.enclaves if contract.environment is not None else ()
    return [
        Known(
            one.name,
            "enclave",
            fingerprint(one.key or ""),
            "new"
            if one.name not in known
            else "known"
            if known[one.name] == one.key
            else "changed",
        )
        for one in named
    ]


def _problems(node: NodeService, contract: Contract) -> list[CohortiumError]:
    """Every reason why this site cannot sign."""
    # 1. Our own name, key and consortium. 2. The others' keys. 3. Not expired. 4. No more than this
    # node can enforce, and criteria that it understands. 5. The site's policy. 6. The dataset, its
    # digests and its variables. 7. Not ended; what it amends is in force. 8. Its tasks.

    def own_entry() -> None:  # 1
        own_seat(contract, node.identity)

    def peers() -> None:  # 2
        require_known_peers(contract, node.identity.name, node.store.peers())

    def time() -> None:  # 3
        if node.clock() >= contract.expires_at:
            raise PolicyRefusal("contract-expired", "The contract is past its expiry.")

    def own_policy() -> None:  # 5
        policy = node.policy()
        names = [one.name for one in contract.computations]
        names += [t.computation for t in contract.tasks if node.identity.name in t.lenders]
        for name in names:
            for researcher in contract.recipients:
                policy.require_allowed(name, researcher)

    def cohort() -> None:  # 4
        contract_population(contract)

    def data() -> None:  # 6
        _check_data(contract, node.identity, node.datasets)

    def standing() -> None:  # 7
        _check_standing(node, contract)

    found: list[CohortiumError] = [*unenforceable(contract)]  # 4
    for check in (own_entry, peers, time, cohort, own_policy, data, standing):
        try:
            check()
        except CohortiumError as error:
            found.append(error)
    try:
        policy = node.policy()
    except CohortiumError:
        return found  # by own_policy
    return [
        *found,
        *task_review.problems(contract, node.identity.name, policy, node.lending),  # 8
    ]


def _check_standing(node: NodeService, contract: Contract) -> None:
    life = life_of(node.store, contract.study)
    lifecycle.require_open(life, life.version(contract.digest))
    before = node.store.contract(contract.amends or "")
    if before is not None and life.version(before.digest).state != "proposed":
        lifecycle.require_open(life, life.version(before.digest))


def _check_data(contract: Contract, identity: Identity, datasets: Datasets) -> None:
    participant = contract.giver(identity.name)
    if participant is None:  # it gives none, or this was reported by the first check
        return
    dataset = datasets.get(participant.dataset)
    if not dataset.confirmed:
        raise ConflictError(
            "wrong-state", f"Confirm the dictionary first: cohortium data confirm {dataset.name}"
        )
    if dataset.digest != participant.dataset_digest:
        raise VerificationError(
            "bad-digest", f"The contract is about another version of dataset {dataset.name}."
        )
    published = {one.name: one.dictionary.digest for one in datasets.published()}
    if published.get(dataset.name) != participant.dictionary_digest:
        raise VerificationError(
            "bad-digest", f"The contract is about another dictionary of dataset {dataset.name}."
        )
    by_name = {variable.name: variable for variable in contract.variables}
    datasets.table(
        participant.dataset,
        {name: by_name[name] for name in participant.variables},
        dict(participant.sources),
        participant.dataset_digest,
    )


def _warnings(contract: Contract, policy: Policy, store: NodeStore) -> list[str]:
    warnings = [] if contract.tasks_only else list(_of_sums(contract, policy))
    if contract.amends is not None and store.contract(contract.amends) is None:
        warnings.append("It replaces a contract of this study that this site was not in.")
    if policy.paused:
        warnings.append("This node is paused and computes nothing: cohortium node resume")
    return warnings


def _of_sums(contract: Contract, policy: Policy) -> Iterator[str]:
    """What is to be thought of where institutions contribute to sums."""
    if contract.min_sites == 2:
        yield ("With 2 contributing sites each learns the other's totals by taking away its own.")
    if max(contract.min_sites, policy.min_sites) < len(contract.participants):
        yield (
            "A run may leave sites out. A lying hub that leaves one out of some runs, or of some "
            "rounds of a training, learns its numbers by subtraction; a contract with `min_sites: "
            f"{len(contract.participants)}` rules that out."
        )
    if policy.min_sites > contract.min_sites:
        yield (
            f"Your policy asks for {policy.min_sites} sites; this node refuses runs that could end "
            "with fewer."
        )
    limits, agreed = policy.disclosure(contract), contract.disclosure
    if policy.unmet(contract):
        yield (
            f"Your policy asks for {', '.join(policy.unmet(contract))}, which the contract lacks; "
            "this node refuses every run under it."
        )
    if (limits.min_cell, limits.floor) != (agreed.min_cell, agreed.floor):
        yield (
            f"Your policy is stricter: fewer than {limits.min_cell} persons, counted per "
            f"{'site' if limits.floor == 'site' else 'total'}, give nothing."
        )
    if contract.disclosure.floor == "total" and limits.floor == "total":
        yield "Small cells of this site are protected by the sum over all sites only."


def sign(node: NodeService, reviewed: Review) -> bytes:
    """Say yes; the vote is durable and owed to the hub on return. Returns the envelope.

    The other institutions' keys are pinned: from now on each is known by the key in this contract.

    Raises:
        CohortiumError: The first problem of the review.
        ConflictError: ``wrong-state`` where the contract was refused.
    """
    identity, store = node.identity, node.store
    digest = reviewed.stored.digest
    about = {"contract": digest, "study": reviewed.contract.study}
    for problem in reviewed.problems:
        refused = {**about, "why": problem.message}
        journal.append(store, "sign", refused, allowed=False, code=problem.code)
        raise problem
    if node.lending is not None and task_review.concerned(reviewed.contract, identity.name):
        _ = node.lending.vault.private  # from now on others encrypt for it
    with store.transaction():
        stored = store.contract(digest)
        if stored is None or stored.state == "refused":
            raise ConflictError("wrong-state", "The contract was refused.")
        require_known_peers(reviewed.contract, identity.name, store.peers())
        envelope = reviewed.contract.sign(identity.key)
        if stored.state == "proposed":
            for participant in reviewed.contract.participants:
                if participant.name != identity.name:
                    store.pin_peer(participant.name, participant.key)
            statements.keep(
                store,
                envelope,
                contract=digest,
                action="sign",
                author=identity.name,
                key=identity.key.public,
            )
            store.set_contract_state(digest, "signed")
            owe_vote(store, digest, envelope)
            journal.append(store, "sign", about)
    return envelope


def accept_peer(store: NodeStore, name: str, given_fingerprint: str) -> str:
    """Know an institution by a new key from now on; returns the key.

    Raises:
        InputError: ``not-found`` where no contract here names that key for that institution.
    """
    wanted = given_fingerprint.replace(" ", "").upper()
    for stored in reversed(store.contracts()):
        participant = open_contract(stored).participant(name)
        if participant and fingerprint(participant.key).replace(" ", "") == wanted:
            with store.transaction():
                store.pin_peer(name, participant.key)
                journal.append(
                    store, "peer", {"institution": name, "key": fingerprint(participant.key)}
                )
            return participant.key
    raise InputError(
        "not-found", f"No contract here names a key with that fingerprint for {name!r}."
    )
