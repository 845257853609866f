"""Adopting a ledger keeps its promises on SQLite in memory, on a file, and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.fake_sites import NOW, SITES, key, make_contract
from tests.support.life import record_proposal, record_signature

from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError
from cohortium.hub.ledger_store import Log
from cohortium.hub.store import HubStore
from cohortium.ledger.entry import Entry, TakenOver, parse_entry
from cohortium.ledger.replica import Standing

FINGERPRINT = "sha256:" + "5a" * 32
CONTRACT = make_contract(FINGERPRINT)
OLD = Log("Test", FINGERPRINT, SigningKey.from_seed(b"1" * 32))
NEW = Log("Test", FINGERPRINT, SigningKey.from_seed(b"2" * 32), (OLD.verifier.text,))


@pytest.fixture(
    params=["memory", "file", pytest.param("postgres", marks=pytest.mark.postgres)],
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubStore]:
    urls = {"memory": "sqlite://", "file": f"sqlite:///{tmp_path / 'hub.db'}"}
    made = HubStore(urls.get(request.param) or str(request.getfixturevalue("postgres_url")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def lost() -> Iterator[HubStore]:
    """A ledger of 700 entries, an active study among them."""
    old = HubStore("sqlite://")
    for number in range(600):
        old.members.add_user(name=f"Person {number}", key=person(number), now=NOW)
    for site in SITES:
        old.members.add_member(name=site, key=key(site).public, node_id=site, now=NOW)
    record_proposal(old, CONTRACT, key(CONTRACT.proposed_by.name), NOW)
    for site in SITES:
        record_signature(old, CONTRACT, site, key(site), NOW)
    while old.ledger.append(OLD, NOW):
        pass
    yield old
    old.close()


def person(number: int) -> str:
    return SigningKey.from_seed(number.to_bytes(32, "big")).public


def entries(lost: HubStore) -> list[Entry]:
    return [parse_entry(data) for data in lost.ledger.entries(0, lost.ledger.size())]


def test_all_of_a_ledger_is_adopted_and_it_goes_on(store: HubStore, lost: HubStore) -> None:
    size = lost.ledger.size()
    everything = entries(lost)
    with store.ledger.adopting(NEW) as take:
        for start in range(0, size, 256):
            take(everything[start : start + 256])
    assert store.ledger.append(NEW, NOW + timedelta(days=1))
    assert store.ledger.entries(0, size) == lost.ledger.entries(0, size)
    assert store.ledger.tree(size).root() == lost.ledger.tree().root()
    last = parse_entry(store.ledger.entry(size)).fact
    assert last == TakenOver(size=size, key=NEW.verifier.text)
    assert store.ledger.members_at(size) == lost.ledger.members_at(size)
    assert store.ledger.log_keys(NEW) == {0: OLD.verifier.text, size: NEW.verifier.text}
    with pytest.raises(ConflictError), store.ledger.adopting(NEW):
        raise RuntimeError("it was let in")


def test_nothing_of_a_ledger_is_adopted_that_fails_in_the_end(
    store: HubStore, lost: HubStore
) -> None:
    def adopt() -> None:
        with store.ledger.adopting(NEW) as take:
            take(entries(lost))
            raise KeyError("it does not verify")

    with pytest.raises(KeyError):
        adopt()
    assert store.ledger.size() == 0
    assert not store.ledger.pending()
    assert store.ledger.tile(0, 0) == b""


def test_members_researchers_and_contracts_are_there_again(store: HubStore, lost: HubStore) -> None:
    standing = Standing()
    with store.ledger.adopting(NEW) as take:
        take(entries(lost))
    for entry in entries(lost):
        standing.take(entry)
    store.members.adopt(standing.institutions.values(), standing.researchers.values(), NOW)
    assert [(m.name, m.key) for m in store.members.members()] == [
        (m.name, m.key) for m in lost.members.members()
    ]
    assert len(store.members.users()) == len(lost.members.users())
    while store.ledger.append(NEW, NOW):
        pass
    statements = [said.envelope for said in lost.studies.statements(CONTRACT.study)]
    assert len(store.recovery.missing()) == len(statements)
    assert store.recovery.take(statements) == [CONTRACT.study]
    assert store.studies.life(CONTRACT.study) == lost.studies.life(CONTRACT.study)
