"""What a node makes of statements: each contract's state at this site.

The states are those of `cohortium.contract.lifecycle`, which decides here as it does at the hub;
``signed`` is this site's own: it has signed, and has not seen that all others have. A site sees
only the versions of a study that it is in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife, Version, VersionState
from cohortium.contract.model import Contract
from cohortium.contract.statements import Transition
from cohortium.core.canonical import digest_bytes
from cohortium.errors import CohortiumError, IntegrityFailure, PolicyRefusal, VerificationError
from cohortium.node import statements
from cohortium.node.store import NodeStore, StoredContract


def open_contract(stored: StoredContract) -> Contract:
    """The stored contract, which must still be what its digest names."""
    if digest_bytes(stored.body) != stored.digest:
        raise IntegrityFailure("broken-store", "A stored contract was altered.")
    return Contract.from_bytes(stored.body)


SIGNING = frozenset({"propose", "sign"})
ENDED = frozenset({"refused", "superseded", "revoked", "withdrawn", "closed"})


def how_ended(stored: StoredContract) -> str:
    """For people."""
    return f"The contract was {stored.state} by {stored.ended_by}: {stored.reason}"


def version_of(stored: StoredContract, contract: Contract, signed: Iterable[str]) -> Version:
    """A contract as the life cycle sees it.

    Args:
        signed: Who is known to have signed; others may have.
    """
    state: VersionState = "proposed" if stored.state == "signed" else stored.state
    suspensions = {
        name: None if only is None else frozenset(only)
        for name, only in json.loads(stored.suspensions).items()
    }
    ended_by, reason = stored.ended_by, stored.reason
    refused = {ended_by or "": reason or ""} if state == "refused" else {}
    return Version(
        contract=contract,
        digest=stored.digest,
        state=state,
        signed=frozenset(signed) & contract.signatories.keys(),
        refused=MappingProxyType(refused),
        suspensions=MappingProxyType(suspensions),
        ended_by=ended_by,
        reason=reason,
    )


def life_of(store: NodeStore, study: str) -> StudyLife:
    """The versions of a study that this site is in."""
    versions, said = [], set()
    for stored in store.contracts(study):
        about = statements.about(store, stored.digest)
        signed = {one.author for one in about if one.action in SIGNING}
        versions.append(version_of(stored, open_contract(stored), signed))
        for statement in about:
            if statement.applied and statement.action not in SIGNING:
                said.add(Transition.open(statement.envelope)[0])
    return StudyLife(study, tuple(versions), frozenset(said))


def write(store: NodeStore, before: StudyLife, after: StudyLife) -> None:
    """Store what changed. Belongs in a transaction."""
    known = {version.digest: version for version in before.versions}
    for version in after.versions:
        old = known.get(version.digest)
        if old is not None and _standing(old) == _standing(version):
            continue
        stored = store.contract(version.digest)
        if stored is None:
            raise IntegrityFailure("broken-store", "A contract has gone from the store.")
        only = {
            name: None if what is None else sorted(what)
            for name, what in version.suspensions.items()
        }
        store.set_contract_state(
            version.digest,
            stored.state if version.state == "proposed" else version.state,
            reason=version.reason,
            ended_by=version.ended_by,
            suspensions=json.dumps(only),
        )


def _standing(version: Version) -> tuple[object, ...]:
    return version.state, dict(version.suspensions), version.ended_by, version.reason


def hear(store: NodeStore, envelope: bytes, now: datetime, about: dict[str, object]) -> bool:
    """Take in a transition that a party of a contract signed. Belongs in a transaction.

    What comes before this site has seen all signatures waits for them: a node that lost its memory
    gets everything again, and signs again.

    Args:
        about: Filled in for the journal.

    Returns:
        Whether it was not here before.

    Raises:
        PolicyRefusal: ``contract-unknown``; what the life cycle refuses.
        VerificationError: ``unknown-signer``, ``bad-signature``, ``stale-request``.
        ConflictError: ``wrong-state``.
    """
    # 1. A contract that is here. 2. Signed by its author with the key in the contract. 3. New.
    # 4. The contract is still open. 5. The life cycle takes it, or it waits.
    said, signer = Transition.open(envelope)
    about |= {"contract": said.contract_digest, "study": said.study, "author": said.author}
    about |= {"action": said.action, "reason": said.reason[:500]}
    stored = store.contract(said.contract_digest)
    if stored is None:  # 1
        raise PolicyRefusal("contract-unknown", "This site has no contract with that digest.")
    contract = open_contract(stored)
    if contract.parties.get(said.author) != signer:  # 2
        raise VerificationError(
            "unknown-signer", f"The statement is not signed by {said.author} of the contract."
        )
    if statements.find(store, digest_bytes(envelope)) is not None:  # 3
        return False
    applied = True
    life = life_of(store, stored.study)
    if life.version(stored.digest).open:  # 4
        try:
            write(store, life, lifecycle.apply(life, said, signer, now))  # 5
        except PolicyRefusal as refusal:
            if refusal.code != "contract-not-active":
                raise
            applied = False
    statements.keep(
        store,
        envelope,
        contract=stored.digest,
        action=said.action,
        author=said.author,
        key=signer,
        applied=applied,
    )
    return True


def activate(store: NodeStore, contract: Contract, own_key: str, now: datetime) -> None:
    """All signatures are here and verified: the contract comes into force, and replaces others.

    Raises:
        PolicyRefusal: ``contract-expired``, ``contract-ended``.
        ConflictError: ``stale-version``.
    """
    digest = contract.digest
    life = life_of(store, contract.study)
    others = frozenset(name for name, key in contract.signatories.items() if key != own_key)
    almost = life.with_(replace(life.version(digest), signed=others))
    write(store, life, lifecycle.sign(almost, digest, own_key, now))
    waiting = [one for one in statements.about(store, digest) if not one.applied]
    opened = [(one, *Transition.open(one.envelope)) for one in waiting]
    for statement, said, signer in sorted(opened, key=lambda one: one[1].at):
        life = life_of(store, contract.study)
        try:
            write(store, life, lifecycle.apply(life, said, signer, now))
        except CohortiumError:
            continue  # such as the end of a suspension that this site has not heard of
        statements.set_applied(store, statement.seq)


def end(store: NodeStore, stored: StoredContract, reason: str) -> bool:
    """The hub says that a version without this site replaced this one; it can only end it."""
    if stored.state in ENDED:
        return False
    store.set_contract_state(
        stored.digest, "superseded", reason=f"The hub says: {reason}"[:2000], ended_by="the hub"
    )
    return True
