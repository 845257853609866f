"""What may stand on the ledger, and what is no entry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import pytest

from cohortium.contract.version import VersionState
from cohortium.core.canonical import canonical
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ProtocolError
from cohortium.ledger.entry import ContractChanged, ContractState, Entry, parse_entry

DIGEST = "sha256:" + "0" * 64
CHANGED = ContractChanged(
    study="lung",
    contract=DIGEST,
    version=1,
    action="revoke",
    author="Boston",
    key=SigningKey.from_seed(bytes(32)).public,
    statement=DIGEST,
    state="revoked",
)
AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def told(**changes: object) -> bytes:
    entry = Entry(at=AT, fact=CHANGED).to_json()
    return canonical({**entry, "fact": {**entry["fact"], **changes}})


def test_the_states_of_a_contract_are_a_closed_list() -> None:
    assert {*get_args(VersionState), "draft"} == set(get_args(ContractState))
    for state in get_args(ContractState):
        assert parse_entry(told(state=state)).fact == CHANGED.model_copy(update={"state": state})


@pytest.mark.parametrize("state", ["", "Active", "in force; the data are John Smith's", None, 1])
def test_another_state_is_no_entry(state: object) -> None:
    with pytest.raises(ProtocolError) as refusal:
        parse_entry(told(state=state))
    assert refusal.value.code == "malformed-message"
