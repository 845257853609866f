"""What may stand on the ledger, and what is no entry."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime
from typing import get_args

import pytest

from cohortium.contract.version import VersionState
from cohortium.core.canonical import canonical
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ProtocolError
from cohortium.hub.ledger_notes import DATE_BYTES
from cohortium.ledger.entry import (
    MAX_ENTRY_BYTES,
    ContractChanged,
    ContractState,
    Entry,
    RunDecided,
    SiteDecision,
    parse_entry,
    room_for_decisions,
)

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


def most(name: Callable[[int], str]) -> int:
    """The most sites with such names whose decisions are sure to fit."""
    names = [name(i) for i in range(700)]
    full = bisect_left(range(700), True, key=lambda n: not room_for_decisions(names[:n]))
    return full - 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (lambda i: f"Hospital number {i:04d}", 484),
        (lambda i: f"{i:070d}", 353),
        (lambda i: f'"{i:04d}"' + "\u6cb3" * 20, 357),
    ],
)
def test_the_decisions_of_as_many_sites_as_there_is_room_for_fit(
    name: Callable[[int], str], expected: int
) -> None:
    count = most(name)
    assert count == pytest.approx(expected, abs=5)
    accepted = SiteDecision(decision="accepted", statement=DIGEST)
    refused = SiteDecision(decision="refused", code="x" * 63)
    for decision in (accepted, refused):
        decided = RunDecided(run_id="0" * 32, sites={name(i): decision for i in range(count)})
        assert len(Entry(at=AT, fact=decided).to_bytes()) + DATE_BYTES <= MAX_ENTRY_BYTES
    wasted = MAX_ENTRY_BYTES - len(
        Entry(
            at=AT, fact=RunDecided(run_id="0" * 32, sites={name(i): accepted for i in range(count)})
        ).to_bytes()
    )
    assert wasted < 2_000
