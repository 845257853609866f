"""Statements about contracts, as their authors make them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife
from cohortium.contract.model import Contract
from cohortium.contract.statements import Action, Transition
from cohortium.crypto.keys import SigningKey
from cohortium.hub.store import HubStore
from cohortium.hub.study_store import Said

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def transition(
    contract: Contract, action: Action, author: str, *, at: datetime = NOW, **fields: Any
) -> Transition:
    """What `author` states about a contract."""
    return Transition(
        study=contract.study,
        contract_digest=contract.digest,
        action=action,
        author=author,
        at=at,
        reason=fields.pop("reason", "Because."),
        **fields,
    )


def amended(contract: Contract, **changes: Any) -> Contract:
    """The next version of a contract."""
    fields = {"version": contract.version + 1, "amends": contract.digest}
    return Contract.from_json({**contract.model_copy(update={**fields, **changes}).to_json()})


def record_proposal(
    store: HubStore, contract: Contract, key: SigningKey, now: datetime = NOW
) -> None:
    """Store a proposal without the hub's checks."""

    def proposed(life: StudyLife | None) -> StudyLife:
        return lifecycle.propose(life, contract, key.public, now)

    name = contract.proposed_by.name
    said = Said(contract.study, contract.digest, "propose", name, key.public, contract.sign(key))
    store.studies.record(said, proposed, now)


def record_signature(
    store: HubStore, contract: Contract, site: str, key: SigningKey, now: datetime = NOW
) -> str:
    """Store a signature; returns the contract's state with it."""

    def signed(life: StudyLife | None) -> StudyLife:
        if life is None:
            raise RuntimeError("sign what was proposed")
        return lifecycle.sign(life, contract.digest, key.public, now)

    said = Said(contract.study, contract.digest, "sign", site, key.public, contract.sign(key))
    return store.studies.record(said, signed, now).state
