"""The hub's store keeps its promises on SQLite in memory, on a file, and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tests.support.fake_sites import DATASET, NOW, SITES, key, make_contract, make_request
from tests.support.life import record_proposal, record_signature, transition

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife
from cohortium.core.canonical import digest_bytes
from cohortium.core.invitation import Invitation
from cohortium.errors import CohortiumError, ConflictError, PeerError, VerificationError
from cohortium.hub.store import HubStore
from cohortium.hub.study_store import Said

CERTIFICATE = "sha256:" + "f" * 64
CONTRACT = make_contract("sha256:" + "c" * 64)


def invitation(kind: str = "site", secret: str = "A") -> Invitation:
    return Invitation.from_json(
        {
            "kind": kind,
            "consortium": "Test",
            "ca": "sha256:" + "c" * 64,
            "hub": "https://hub:1",
            "name": "Alpha 北京",
            "secret": secret * 43,
            "expires_at": "2026-12-01T00:00:00Z",
        }
    )


def enrol(store: HubStore, made: Invitation, node_id: str = "0" * 32) -> None:
    store.members.enrol(
        secret_digest=made.secret_digest,
        name=made.name,
        key=key("Alpha").public,
        node_id=node_id,
        csr_pem="csr",
        now=NOW,
    )


def test_an_invitation_is_used_once_even_by_many_at_once(store: HubStore) -> None:
    made = invitation()
    store.members.add_invitation(made)

    def attempt(number: int) -> bool:
        try:
            enrol(store, made, f"{number:032x}")
        except VerificationError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1
    assert store.members.member("Alpha 北京").status == "pending"


def test_membership_changes_raise_the_version(store: HubStore) -> None:
    seen = [store.members.version()]

    def changed() -> bool:
        seen.append(store.members.version())
        return seen[-1] > seen[-2]

    store.members.add_invitation(invitation())
    assert not changed()
    enrol(store, invitation())
    assert changed()
    name = "Alpha 北京"
    store.members.add_certificate(name, fingerprint=CERTIFICATE, pem="pem", now=NOW)
    assert changed()
    store.members.change_status(name, allowed=frozenset({"pending"}), to="approved")
    assert changed()
    assert store.members.admissible() == {name}
    assert store.members.use_certificate(CERTIFICATE, NOW) == name
    assert not changed()
    with pytest.raises(ConflictError):
        store.members.change_status(name, allowed=frozenset({"pending"}), to="approved")
    assert not changed()
    store.members.add_user(name="Ada", key=key("Ada").public, now=NOW)
    store.members.remove_user("Ada")
    assert changed()


def test_names_and_keys_are_unique(store: HubStore) -> None:
    store.members.add_member(name="A", key=key("A").public, node_id="1", now=NOW)
    store.members.add_user(name="Ada", key=key("Ada").public, now=NOW)
    for name, member_key, node_id in (("A", key("B").public, "2"), ("B", key("A").public, "3")):
        with pytest.raises(ConflictError):
            store.members.add_member(name=name, key=member_key, node_id=node_id, now=NOW)
    for name, user_key in (("Ada", key("Bob").public), ("Bob", key("Ada").public)):
        with pytest.raises(ConflictError):
            store.members.add_user(name=name, key=user_key, now=NOW)
    assert [member.name for member in store.members.members()] == ["A"]


def test_published_datasets_are_replaced_and_withdrawn(store: HubStore) -> None:
    store.members.add_member(name="A", key=key("A").public, node_id="1", now=NOW)
    other = DATASET.model_copy(update={"content_digest": "sha256:" + "e" * 64})
    store.members.publish("A", DATASET)
    store.members.publish("A", other)
    assert store.members.datasets() == {"A": [other]}
    store.members.withdraw("A", "lung")
    store.members.withdraw("A", "lung")
    assert store.members.datasets() == {}


def settle(store: HubStore, site: str) -> list[str]:
    """What a site was owed; it has it now."""
    owed = store.outbox.owed(site)
    for item in owed:
        store.outbox.settle([item])
    return [item.kind for item in owed]


def test_a_contract_becomes_active_with_the_last_signature_and_is_owed(store: HubStore) -> None:
    record_proposal(store, CONTRACT, key("Ada"))
    record_proposal(store, CONTRACT, key("Ada"))
    assert store.studies.studies() == ["lung"]
    digest = CONTRACT.digest
    for name in SITES:
        assert [item.kind for item in store.outbox.owed(name)] == ["proposal"]
    states = [record_signature(store, CONTRACT, name, key(name)) for name in SITES]
    assert states == ["proposed", "proposed", "active"]
    signed = store.studies.signatures(digest)
    assert [said.envelope for said in signed] == [CONTRACT.sign(key(name)) for name in SITES]
    assert store.studies.get(digest).contract == CONTRACT
    for name in SITES:
        assert settle(store, name) == ["proposal", "active"]
    assert store.outbox.sites() == frozenset()
    store.studies.owe_unknown("Alpha", [digest], [])
    assert store.outbox.owed("Alpha") == []
    store.studies.owe_unknown("Alpha", [], [])
    store.studies.owe_unknown("Alpha", [], [])
    assert settle(store, "Alpha") == ["proposal", "active"]
    assert record_signature(store, CONTRACT, "Alpha", key("Alpha")) == "active"
    assert settle(store, "Alpha") == ["active"]  # it lost its store and signed again
    assert len(store.studies.statements("lung")) == 4
    store.studies.owe_unknown("Nowhere", [], [])
    assert store.outbox.owed("Nowhere") == []


def test_a_study_has_one_contract_in_force(store: HubStore) -> None:
    record_proposal(store, CONTRACT, key("Ada"))
    other = make_contract("sha256:" + "c" * 64, title="Other")
    with pytest.raises(ConflictError):
        record_proposal(store, other, key("Ada"))
    later = CONTRACT.expires_at + timedelta(days=1)
    fields = {"created_at": later, "expires_at": later + timedelta(days=9)}
    other = make_contract("sha256:" + "c" * 64, title="Other", **fields)
    record_proposal(store, other, key("Ada"), later)
    assert store.studies.life("lung").newest.digest == other.digest
    assert len(store.studies.life("lung").versions) == 2


def test_a_statement_is_owed_to_the_others_and_to_who_lost_it(store: HubStore) -> None:
    record_proposal(store, CONTRACT, key("Ada"))
    for name in SITES:
        record_signature(store, CONTRACT, name, key(name))
    for name in SITES:
        settle(store, name)
    suspended = transition(CONTRACT, "suspend", "Beta")
    envelope = suspended.sign(key("Beta"))
    said = Said("lung", CONTRACT.digest, "suspend", "Beta", key("Beta").public, envelope)

    def change(life: StudyLife | None) -> StudyLife:
        assert life is not None
        return lifecycle.apply(life, suspended, key("Beta").public, NOW)

    assert store.studies.record(said, change, NOW).state == "suspended"
    assert store.studies.record(said, change, NOW).state == "suspended"
    store.studies.owe_unknown("Gamma", [], [])  # nothing is refused for coming too early
    assert [item.kind for item in store.outbox.owed("Gamma")] == ["proposal", "active", "statement"]
    assert [settle(store, name) for name in SITES[:2]] == [["statement"], []]
    settle(store, "Gamma")
    last = store.studies.statements("lung")[-1]
    assert (last.action, last.author, last.state) == ("suspend", "Beta", "suspended")
    assert store.studies.statement(last.seq) == last
    heard = digest_bytes(envelope)
    store.studies.owe_unknown("Alpha", [CONTRACT.digest], [heard])
    store.studies.owe_unknown("Beta", [CONTRACT.digest], [])
    store.studies.owe_unknown("Gamma", [], [])
    owed = [settle(store, name) for name in SITES]
    assert owed == [[], ["statement"], ["proposal", "active", "statement"]]


def test_a_run_is_stored_once_and_ends_once(store: HubStore) -> None:
    record_proposal(store, CONTRACT, key("Ada"))
    request = make_request(CONTRACT)
    envelope = request.sign(key("Ada"))
    with ThreadPoolExecutor(8) as pool:
        news = list(pool.map(lambda _: _submitted(store, envelope), range(8)))
    assert news.count(True) == 1
    with pytest.raises(VerificationError):
        store.runs.submit(request, envelope + b" ", NOW)
    assert [run.info.status for run in store.runs.open()] == ["queued"]

    def finish(status: str, result: bytes | None) -> bool:
        return store.runs.finish(
            request.run_id,
            status,
            sites=SITES,
            now=NOW,
            rounds=3,
            seconds=0.5,
            payload_bytes=dict.fromkeys(SITES, 10),
            result=result,
            error=None if result else PeerError("peer-timeout", "late", site="Beta"),
            end_sites=SITES if result else (),
        )

    assert finish("failed", None)
    failed = store.runs.get(request.run_id).info
    assert failed.error is not None
    assert failed.error["details"] == {"site": "Beta"}
    assert not finish("succeeded", b"{}")
    assert store.runs.result(request.run_id) is None
    assert store.runs.reopen(request.run_id) == 2
    with pytest.raises(ConflictError):
        store.runs.reopen(request.run_id)
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: finish("succeeded", b'{"a":1}'), range(4)))
    assert ends.count(True) == 1
    assert store.runs.result(request.run_id) == b'{"a":1}'
    with pytest.raises(ConflictError):
        store.runs.cancel(request.run_id, NOW, SITES)
    info = store.runs.get(request.run_id).info
    assert (info.status, info.rounds, info.participants) == ("succeeded", 3, SITES)
    assert info.bytes == dict.fromkeys(SITES, 10)
    assert [item.kind for item in store.outbox.owed("Alpha")] == ["proposal", "run-end"]


def _submitted(store: HubStore, envelope: bytes) -> bool:
    try:
        return store.runs.submit(make_request(CONTRACT), envelope, NOW)
    except CohortiumError:
        return False


def test_what_was_written_is_there_after_a_restart(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("memory forgets")
    first = HubStore(url)
    first.members.add_member(name="A", key=key("A").public, node_id="1", now=NOW)
    record_proposal(first, CONTRACT, key("Ada"))
    first.close()
    second = HubStore(url)
    assert second.members.member("A").key == key("A").public
    assert second.studies.life("lung").newest.contract == CONTRACT
    assert second.outbox.sites() == set(SITES)
    second.close()
