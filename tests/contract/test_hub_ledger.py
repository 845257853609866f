"""The hub's ledger keeps its promises on SQLite in memory, on a file, and on PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from tests.support.fake_sites import DATASET, NOW, SITES, key, make_contract, make_request

from cohortium.core.canonical import canonical, digest_bytes
from cohortium.errors import CohortiumError, InputError, PeerError, PolicyRefusal
from cohortium.hub.database import NOTED
from cohortium.hub.ledger_notes import latest, note
from cohortium.hub.ledger_store import BATCH, Log
from cohortium.hub.store import HubStore
from cohortium.hub.tables import contracts, counters, ledger_pending
from cohortium.ledger.checkpoint import add_cosignatures, cosign, open_checkpoint
from cohortium.ledger.entry import (
    Fact,
    Founded,
    MemberChanged,
    PolicyChanged,
    Rounds,
    RunDecided,
    RunEnded,
    commitment,
    parse_entry,
)
from cohortium.ledger.members import Members, require_final
from cohortium.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from cohortium.ledger.note import Note

LOG = Log("Test", "sha256:" + "c" * 64, key("ledger"))
CONTRACT = make_contract(LOG.fingerprint)
REQUEST = make_request(CONTRACT)
ENVELOPE = REQUEST.sign(key("Ada"))


def policy(number: int, member: str = "Alpha") -> PolicyChanged:
    return PolicyChanged(member=member, policy=digest_bytes(str(number).encode()))


def add(store: HubStore, *facts: Fact) -> None:
    with store._database.write() as c:
        for fact in facts:
            note(c, fact)


def join(store: HubStore, *names: str) -> None:
    for number, name in enumerate(names):
        store.members.add_member(
            name=name, key=key(name).public, node_id=f"{name}{number}", now=NOW
        )


def facts(store: HubStore) -> list[Fact]:
    entries = store.ledger.entries(0, 10**6)
    return [parse_entry(data).fact for data in entries]


def cosigned(store: HubStore, size: int, *names: str) -> bytes:
    stored = store.ledger.checkpoint(size).note
    lines = [
        cosign(Note.parse(stored), LOG.origin, name, key(name), int(NOW.timestamp()))
        for name in names
    ]
    return add_cosignatures(stored, lines)


def finish(store: HubStore, result: bytes | None = b'{"n":1}') -> None:
    store.runs.finish(
        REQUEST.run_id,
        "failed" if result is None else "succeeded",
        sites=SITES,
        now=NOW,
        rounds=3,
        seconds=0.5,
        payload_bytes={},
        result=result,
        error=None if result else PolicyRefusal("too-few-sites", "Only two."),
        sums=(Rounds(first=1, last=3, sites=SITES),),
        suppressed=2 if result else 0,
    )


def submit(store: HubStore) -> None:
    # The contract itself is another store's affair.
    with store._database.write() as c:
        c.execute(
            contracts.insert().values(
                digest=CONTRACT.digest,
                study=CONTRACT.study,
                document=CONTRACT.to_bytes(),
                created_at="2026-11-22T09:00:00Z",
            )
        )
    store.runs.submit(REQUEST, ENVELOPE, NOW)


def test_the_log_begins_with_its_founding_and_goes_on_in_order(store: HubStore) -> None:
    assert store.ledger.append(LOG, NOW) is None
    assert store.ledger.newest() is None
    add(store, policy(1), policy(2))
    made = store.ledger.append(LOG, NOW)
    assert made is not None
    assert (made.start, made.size) == (0, 3)
    add(store, policy(3))
    assert store.ledger.append(LOG, NOW) is not None
    assert store.ledger.append(LOG, NOW) is None
    founded = Founded(name="Test", fingerprint=LOG.fingerprint)
    assert facts(store) == [founded, policy(1), policy(2), policy(3)]


def test_a_checkpoint_is_over_all_entries_and_names_the_members(store: HubStore) -> None:
    join(store, "Alpha", "Beta")
    store.ledger.append(LOG, NOW)
    store.members.change_status("Beta", allowed=frozenset({"approved"}), to="suspended")
    join(store, "Gamma")
    store.ledger.append(LOG, NOW)
    before, after = store.ledger.checkpoint(3), store.ledger.newest()
    assert after is not None
    for stored, names in ((before, ["Alpha", "Beta"]), (after, ["Alpha", "Gamma"])):
        checkpoint, _ = open_checkpoint(stored.note, LOG.verifier)
        keys = {name: key(name).public for name in names}
        assert checkpoint.members == Members(keys).digest
        assert store.ledger.members_at(stored.size) == keys
        assert checkpoint.root == store.ledger.tree(stored.size).root()
        for position in range(checkpoint.size):
            entry, proof = store.ledger.inclusion(position, checkpoint.size)
            leaf = leaf_hash(entry)
            verify_inclusion(position, checkpoint.size, leaf, proof, checkpoint.root)
    old, _ = open_checkpoint(before.note, LOG.verifier)
    new, _ = open_checkpoint(after.note, LOG.verifier)
    proof = store.ledger.tree().consistency_proof(old.size)
    verify_consistency(old.size, old.root, new.size, new.root, proof)


def test_a_clock_that_goes_back_dates_nothing_before_what_is_there(store: HubStore) -> None:
    for moment in (NOW, NOW - timedelta(days=1), NOW + timedelta(minutes=1)):
        add(store, policy(1))
        store.ledger.append(LOG, moment)
    dates = [parse_entry(data).at for data in store.ledger.entries(0, 10)]
    assert dates == [NOW, NOW, NOW, NOW + timedelta(minutes=1)]


def test_a_fact_of_a_transaction_that_fails_is_not_on_the_ledger(store: HubStore) -> None:
    heard: list[bool] = []
    store.on_noted(lambda _c: None, lambda urgent, _made: heard.append(urgent))

    def fail() -> None:
        with store._database.write() as c:
            note(c, policy(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert heard == []
    assert not store.ledger.pending()
    with store._database.write() as c:
        assert NOTED not in c.info
    assert heard == []
    add(store, policy(2))
    add(store, RunEnded(run_id=REQUEST.run_id, status="cancelled"))
    assert heard == [False, True]
    assert store.ledger.append(LOG, NOW) is not None
    assert len(facts(store)) == 3


def test_a_fact_that_is_too_long_is_refused_with_its_change(store: HubStore) -> None:
    names = tuple(f"{number:0200d}" for number in range(400))
    rounds = (Rounds(first=1, last=1, sites=names),)
    with pytest.raises(InputError) as caught:
        add(store, policy(1), RunEnded(run_id=REQUEST.run_id, status="failed", rounds=rounds))
    assert caught.value.code == "too-large"
    assert not store.ledger.pending()


def test_a_run_whose_rounds_do_not_fit_has_an_end_all_the_same(store: HubStore) -> None:
    submit(store)
    sums = tuple(
        Rounds(first=number, last=number, sites=tuple(f"{site:0100d}" for site in range(200)))
        for number in range(1, 10)
    )

    def end(status: str, result: bytes | None) -> bool:
        return store.runs.finish(
            REQUEST.run_id, status, sites=SITES, now=NOW, rounds=9, seconds=1.0, payload_bytes={},
            result=result, sums=sums,
        )  # fmt: skip

    with pytest.raises(InputError, match="sets of sites") as caught:
        end("succeeded", b"{}")
    assert caught.value.code == "too-large"
    assert store.runs.get(REQUEST.run_id).info.status == "queued"
    assert end("failed", None)
    store.runs.cancel(REQUEST.run_id, NOW, (), sums)
    store.ledger.append(LOG, NOW)
    ends = [fact for fact in facts(store) if isinstance(fact, RunEnded)]
    assert [(fact.status, fact.rounds) for fact in ends] == [("failed", ()), ("cancelled", ())]


def test_many_sequencers_and_writers_lose_nothing_and_repeat_nothing(url: str) -> None:
    stores = [HubStore(url) for _ in range(1 if url == "sqlite://" else 3)]

    def write(number: int) -> None:
        add(stores[number % len(stores)], policy(number))

    def sequence(number: int) -> None:
        for _ in range(10):
            stores[number % len(stores)].ledger.append(LOG, NOW)
            time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        for work in [pool.submit(write, n) for n in range(60)] + [
            pool.submit(sequence, n) for n in range(6)
        ]:
            work.result()
    while stores[0].ledger.append(LOG, NOW):
        pass
    found = facts(stores[0])[1:]
    assert sorted(fact.to_bytes() for fact in found) == sorted(
        policy(number).to_bytes() for number in range(60)
    )
    checkpoint, _ = open_checkpoint(stores[0].ledger.checkpoint(61).note, LOG.verifier)
    assert checkpoint.root == stores[-1].ledger.tree().root()
    for one in stores:
        one.close()


def test_a_checkpoint_becomes_final_and_earlier_ones_that_never_were_go(store: HubStore) -> None:
    join(store, *SITES)
    store.ledger.append(LOG, NOW)
    add(store, policy(1))
    store.ledger.append(LOG, NOW)
    assert store.ledger.newest_final() is None
    note_ = cosigned(store, 5, *SITES)
    store.ledger.witnessed(5, note_, final=True)
    final = store.ledger.newest_final()
    assert final is not None
    assert final.size == 5
    require_final(final.note, LOG.verifier, store.ledger.members_at(5))
    with pytest.raises(InputError):
        store.ledger.checkpoint(4)
    # Who catches up may still be shown it.
    checkpoint, _ = open_checkpoint(store.ledger.checkpoint_at(LOG, 4), LOG.verifier)
    assert checkpoint.root == store.ledger.tree(4).root()
    with pytest.raises(InputError):
        store.ledger.checkpoint_at(LOG, 6)


def test_a_run_leaves_its_request_decisions_end_and_commitment(store: HubStore) -> None:
    submit(store)
    away = PeerError("peer-timeout", "late")
    answers: dict[str, bytes | CohortiumError] = {
        "Alpha": b"signed by Alpha",
        "Beta": away,
        "Gamma": PolicyRefusal("not-permitted", "no"),
    }
    store.runs.decided(REQUEST.run_id, answers)
    store.runs.decided(REQUEST.run_id, answers)  # the run was interrupted
    assert store.runs.accepted(REQUEST.run_id) == {digest_bytes(b"signed by Alpha")}
    finish(store)
    assert not store.runs.get(REQUEST.run_id).released
    store.ledger.append(LOG, NOW)
    _, submitted, decided, ended = facts(store)
    assert submitted.to_json() == {
        "kind": "run.submitted",
        "run_id": REQUEST.run_id,
        "study": "lung",
        "contract": CONTRACT.digest,
        "computation": REQUEST.computation,
        "researcher": key("Ada").public,
        "request": digest_bytes(ENVELOPE),
    }
    assert isinstance(decided, RunDecided)
    assert {site: one.decision for site, one in decided.sites.items()} == {
        "Alpha": "accepted",
        "Beta": "absent",
        "Gamma": "refused",
    }
    assert (decided.sites["Beta"].code, decided.sites["Gamma"].code) == (
        "peer-timeout",
        "not-permitted",
    )
    assert isinstance(ended, RunEnded)
    assert ended.rounds == (Rounds(first=1, last=3, sites=SITES),)
    assert ended.suppressed == 2
    release = store.ledger.release(REQUEST.run_id)
    assert release is not None
    assert (release.position, release.size, len(release.nonce)) == (3, None, 32)
    assert ended.result == commitment(release.nonce, b'{"n":1}')
    assert set(store.ledger.documents(REQUEST.run_id)) == {ENVELOPE, b"signed by Alpha"}
    assert [position for position, _ in store.ledger.about("run.ended", REQUEST.run_id)] == [3]


def test_a_result_is_released_with_its_final_checkpoint_and_has_a_receipt(
    store: HubStore,
) -> None:
    join(store, *SITES)
    submit(store)
    finish(store)
    assert [one.position for one in store.ledger.waiting()] == [None]
    store.ledger.append(LOG, NOW)
    (waits,) = store.ledger.waiting()
    assert (waits.run_id, waits.position) == (REQUEST.run_id, 5)
    size = store.ledger.size()
    note_ = cosigned(store, size, *SITES)
    store.ledger.witnessed(size, note_, final=True, released=[REQUEST.run_id])
    assert store.ledger.waiting() == []
    assert store.runs.get(REQUEST.run_id).released
    receipt = store.ledger.receipt(5, size)
    checkpoint = require_final(receipt.checkpoint.encode(), LOG.verifier, receipt.members)
    leaf = leaf_hash(receipt.entry.encode())
    proof = [bytes.fromhex(node) for node in receipt.proof]
    verify_inclusion(5, checkpoint.size, leaf, proof, checkpoint.root)


def test_a_failed_run_that_goes_on_ends_twice_and_commits_once(store: HubStore) -> None:
    submit(store)
    finish(store, None)
    store.ledger.append(LOG, NOW)
    assert store.ledger.waiting() == []
    store.runs.reopen(REQUEST.run_id)
    finish(store)
    store.ledger.append(LOG, NOW)
    ends = [fact for fact in facts(store) if isinstance(fact, RunEnded)]
    assert [(end.status, end.code) for end in ends] == [
        ("failed", "too-few-sites"),
        ("succeeded", None),
    ]
    (waits,) = store.ledger.waiting()
    assert waits.position == 3


def test_a_denied_request_is_recorded_once(store: HubStore) -> None:
    for _ in range(2):
        store.runs.deny(REQUEST, ENVELOPE, "not-permitted")
    store.runs.deny(REQUEST, ENVELOPE, "contract-expired")
    store.ledger.append(LOG, NOW)
    denied = facts(store)[1:]
    assert [fact.to_json()["code"] for fact in denied] == ["not-permitted", "contract-expired"]
    assert store.ledger.documents(REQUEST.run_id) == [ENVELOPE]
    assert store.runs.list() == []


def test_changes_of_members_researchers_datasets_and_policies_are_noted(store: HubStore) -> None:
    join(store, "Alpha")
    store.members.add_certificate("Alpha", fingerprint=LOG.fingerprint, pem="pem", now=NOW)
    store.members.change_status("Alpha", allowed=frozenset({"approved"}), to="suspended")
    store.members.change_status("Alpha", allowed=frozenset({"suspended"}), to="approved")
    store.members.add_user(name="Ada", key=key("Ada").public, now=NOW)
    store.members.remove_user("Ada")
    other = DATASET.model_copy(update={"content_digest": "sha256:" + "e" * 64})
    for dataset in (DATASET, DATASET, other):
        store.members.publish("Alpha", dataset)
    for _ in range(2):
        store.members.withdraw("Alpha", "lung")
    for number in (1, 1, 2, 1):
        store.members.policy(policy(number))
    store.ledger.append(LOG, NOW)
    told = [fact.to_json() for fact in facts(store)[1:]]
    assert [(fact["kind"], fact.get("status"), fact.get("certificate")) for fact in told[:6]] == [
        ("member", "approved", None),
        ("member", "approved", LOG.fingerprint),
        ("member", "suspended", None),
        ("member", "approved", LOG.fingerprint),
        ("researcher", "active", None),
        ("researcher", "removed", None),
    ]
    assert [fact.get("content") for fact in told[6:9]] == [
        DATASET.content_digest,
        other.content_digest,
        None,
    ]
    assert told[6]["dictionary"] == DATASET.dictionary.digest
    assert [fact["policy"] for fact in told[9:]] == [policy(n).policy for n in (1, 2, 1)]


def test_the_last_fact_about_a_subject_is_found_before_and_after_it_has_its_place(
    store: HubStore,
) -> None:
    for _ in range(2):
        for number in (1, 2):
            add(store, policy(number), policy(9, "Beta"))
        with store._database.read() as c:
            assert latest(c, "policy", "Alpha") == policy(2).to_bytes()
            assert latest(c, "policy", "Gamma") is None
        store.ledger.append(LOG, NOW)
        with store._database.read() as c:
            assert latest(c, "policy", "Alpha") == policy(2).to_bytes()


def test_a_database_that_is_older_than_the_ledger_begins_with_who_is_there(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("memory forgets")
    first = HubStore(url)
    join(first, "Alpha", "Beta")
    first.members.change_status("Beta", allowed=frozenset({"approved"}), to="removed")
    first.members.add_user(name="Ada", key=key("Ada").public, now=NOW)
    first.members.publish("Alpha", DATASET)
    with first._database.write() as c:
        c.execute(ledger_pending.delete())
        c.execute(counters.delete().where(counters.c.name == "ledger"))
    first.close()
    for _ in range(2):
        HubStore(url).close()
    store = HubStore(url)
    store.ledger.append(LOG, NOW)
    told = facts(store)
    assert [fact.kind for fact in told] == [
        *("consortium.founded", "member", "member", "researcher", "dataset")
    ]
    assert isinstance(told[2], MemberChanged)
    assert told[2].status == "removed"
    store.close()


def test_entries_come_in_parts_that_fit(store: HubStore) -> None:
    add(store, *map(policy, range(20)))
    store.ledger.append(LOG, NOW)
    whole = store.ledger.entries(0, 100)
    assert len(whole) == 21
    assert store.ledger.entries(3, 4) == whole[3:7]
    assert store.ledger.entries(1, 100, 3 * len(whole[1])) == whole[1:4]
    assert store.ledger.entries(1, 100, 1) == whole[1:2]
    assert store.ledger.entries(21, 100) == []
    with pytest.raises(InputError):
        store.ledger.entry(21)


def test_more_than_a_batch_takes_several_transactions(store: HubStore) -> None:
    add(store, *map(policy, range(BATCH + 10)))
    sizes = []
    while made := store.ledger.append(LOG, NOW):
        sizes.append(made.size)
    assert sizes == [BATCH + 1, BATCH + 11]
    assert canonical(parse_entry(store.ledger.entry(BATCH + 10)).fact.to_json()) == (
        policy(BATCH + 9).to_bytes()
    )


def test_a_thousand_entries_take_less_than_a_second_of_the_processor(url: str) -> None:
    """With batching; a twentieth of that on an idle machine. Others may keep this one busy."""
    store = HubStore(url)
    n = 4 * BATCH
    for start in range(0, n, BATCH):
        add(store, *map(policy, range(start, start + BATCH)))
    began = time.process_time()
    while store.ledger.append(LOG, datetime.now(NOW.tzinfo)):
        pass
    seconds = time.process_time() - began
    assert store.ledger.size() == n + 1
    assert n / seconds > 1000
    store.close()
