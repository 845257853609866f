"""What the hub remembers of tasks, on each database; a database of before there were enclaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from tests.support.fake_sites import NOW, key, make_contract, make_request
from tests.support.life import record_proposal

from cohortium.core.canonical import digest_bytes
from cohortium.hub.ledger_store import Log
from cohortium.hub.store import HubStore
from cohortium.hub.task_store import Handed
from cohortium.ledger.entry import KeyReleased, RunDecided, parse_entry

CONTRACT = make_contract("sha256:" + "c" * 64)
KEY = "sha256:" + "e" * 64
LOG = Log("Test", "sha256:" + "c" * 64, key("ledger"), ())


@pytest.fixture
def run_id(store: HubStore) -> str:
    record_proposal(store, CONTRACT, key("Ada"))
    request = make_request(CONTRACT)
    store.runs.submit(request, request.sign(key("Ada")), NOW)
    return request.run_id


def handed(site: str) -> Handed:
    return Handed(site, KEY, f"release {site}".encode(), f"offer {site}".encode(), b"evidence")


def facts(store: HubStore) -> list[RunDecided | KeyReleased]:
    while store.ledger.append(LOG, NOW):
        pass
    noted = [parse_entry(entry).fact for entry in store.ledger.entries(0, 100)]
    return [fact for fact in noted if isinstance(fact, RunDecided | KeyReleased)]


def test_a_run_has_one_enclave_and_one_outcome(store: HubStore, run_id: str) -> None:
    tasks = store.tasks
    assert (tasks.assigned(run_id), tasks.outcome(run_id)) == (None, None)
    tasks.assign(run_id, "One", key("One").public)
    tasks.assign(run_id, "Two", key("Two").public)
    tasks.take_outcome(run_id, b"first")
    tasks.take_outcome(run_id, b"second")
    assigned = tasks.assigned(run_id)
    assert assigned is not None
    assert (assigned.enclave, assigned.key, assigned.outcome) == (
        "Two",
        key("Two").public,
        digest_bytes(b"first"),
    )
    assert tasks.outcome(run_id) == b"first"
    assert store.runs.get(run_id).info.enclave == "Two"


def test_lenders_that_decide_at_once_all_stand_on_the_ledger(store: HubStore, run_id: str) -> None:
    sites = [f"Site {number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda site: store.tasks.released(run_id, handed(site)), sites))
    store.tasks.released(run_id, handed("Site 0"))  # the answer was lost
    store.tasks.refused(run_id, "Site 0", "site-policy")  # after it released: no news
    store.tasks.refused(run_id, "Site 9", "site-policy")
    decided = store.tasks.decisions(run_id)
    assert {site: one.decision for site, one in decided.items()} == {
        **dict.fromkeys(sites, "accepted"),
        "Site 9": "refused",
    }
    assert set(store.tasks.statements(run_id)) == set(sites)
    told = facts(store)
    for place, fact in enumerate(told):
        if isinstance(fact, KeyReleased):  # its holder's decision stands right before it
            before = told[place - 1]
            assert isinstance(before, RunDecided)
            assert before.sites[fact.holder].statement == fact.evidence
    assert len(told) == 2 * len(sites) + 1
    documents = store.runs.documents(run_id)
    for site in sites:
        for document in (f"release {site}", f"offer {site}", "evidence"):
            assert documents[digest_bytes(document.encode())] == document.encode()
    assert store.tasks.document("f" * 32, digest_bytes(b"evidence")) is None


def test_the_newest_card_of_an_author_counts(store: HubStore) -> None:
    ada = key("Ada").public
    for at, envelope in ((NOW, b"1"), (NOW + timedelta(1), b"2"), (NOW, b"3")):
        store.tasks.put_card(ada, "Ada", at, envelope)
    assert store.tasks.cards([ada, key("Bob").public]) == {ada: b"2"}


def test_a_database_from_before_there_were_enclaves_is_brought_up_to_date(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("memory forgets")
    store = HubStore(url)
    store.members.add_member(name="Alpha", key=key("Alpha").public, node_id="0" * 32, now=NOW)
    with store.members._db.write() as c:
        for table in ("task_runs", "cards"):
            c.execute(text(f"DROP TABLE {table}"))
        c.execute(text("ALTER TABLE members DROP COLUMN kind"))
    store.close()
    again = HubStore(url)
    assert [(one.name, one.kind) for one in again.members.members()] == [("Alpha", "site")]
    again.members.add_member(
        name="Vault", key=key("Vault").public, node_id="1" * 32, now=NOW, kind="enclave"
    )
    assert [one.name for one in again.members.enclaves()] == ["Vault"]
    again.close()
