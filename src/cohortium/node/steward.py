"""What a steward states about a contract after reading it: refuse, suspend, resume, revoke.

It counts here when the command returns, whether or not the hub can be reached; the hub is owed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from cohortium.contract import lifecycle
from cohortium.contract.statements import Action, Transition
from cohortium.core.model import explain
from cohortium.errors import ConflictError, InputError
from cohortium.node import journal, life, statements
from cohortium.node.consent import find_contract
from cohortium.node.outbox import owe_statement, owe_vote
from cohortium.node.service import NodeService
from cohortium.node.store import NodeStore, StoredContract

IN_FORCE = frozenset({"active", "suspended"})


def find_in_force(store: NodeStore, name: str) -> StoredContract:
    """The contract of a study that is in force here, or the one of that digest.

    Raises:
        InputError: ``not-found``.
        ConflictError: ``wrong-state`` where none is in force.
    """
    found = find_contract(store, name)
    versions = [found] if name != found.study else store.contracts(found.study)
    for stored in reversed(versions):
        if stored.state in IN_FORCE:
            return stored
    if found.state == "refused" and name == found.digest:
        return found
    raise ConflictError(
        "wrong-state",
        f"No contract of {found.study} is in force here; the latest is {found.state}. "
        "See: cohortium node status",
    )


def state(
    node: NodeService,
    stored: StoredContract,
    action: Action,
    reason: str,
    computations: Sequence[str] | None = None,
) -> bytes:
    """Sign a transition, apply it here and owe it to the hub; durable on return.

    Args:
        computations: Suspend only these.

    Returns:
        The envelope.

    Raises:
        InputError: ``bad-input`` without a reason, or for computations not in the contract.
        PolicyRefusal, ConflictError: The contract's state does not allow it.
    """
    if not reason.strip():
        raise InputError("bad-input", "Say why: --reason '...'")
    identity, store = node.identity, node.store
    with store.transaction():
        before = life.life_of(store, stored.study)
        version = before.version(stored.digest)
        lost = action == "revoke" and version.state == "refused"
        if lost and identity.name in version.signed:
            # This site signed, then refused, and the others had made it active before they heard.
            before = before.with_(replace(version, state="active"))
        lifecycle.require_open(before, before.version(stored.digest))
        now = node.clock()
        try:
            said = Transition(
                study=stored.study,
                contract_digest=stored.digest,
                action=action,
                author=identity.name,
                at=lifecycle.next_instant(before, identity.name, now),
                reason=reason.strip()[:2000],
                computations=tuple(computations) if computations else None,
            )
        except ValidationError as error:
            raise InputError("bad-input", f"Not a statement: {explain(error)}") from error
        envelope = said.sign(identity.key)
        life.write(store, before, lifecycle.apply(before, said, identity.key.public, now))
        statements.keep(
            store,
            envelope,
            contract=stored.digest,
            action=action,
            author=identity.name,
            key=identity.key.public,
        )
        if action == "refuse":
            owe_vote(store, stored.digest, envelope)
        else:
            owe_statement(store, envelope)
        about = {"contract": stored.digest, "study": stored.study, "why": said.reason[:500]}
        journal.append(store, action, about)
    return envelope


def refuse(node: NodeService, stored: StoredContract, reason: str) -> None:
    """Say no, also to a contract that was signed and is not active yet; once is enough.

    Raises:
        InputError: ``bad-input`` for an empty reason.
        ConflictError: ``wrong-state`` where it is in force: it can be revoked.
    """
    if stored.state != "refused" or not reason.strip():
        state(node, stored, "refuse", reason)
