"""A hub that took over gets the lost contracts back from whoever holds their statements."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select
from tests.support.fake_sites import NOW, SITES, key, make_contract
from tests.support.life import amended, record_proposal, record_signature, transition

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife
from cohortium.contract.model import Contract
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, PeerError
from cohortium.hub.ledger_notes import note
from cohortium.hub.ledger_store import Log
from cohortium.hub.recovery import Recovery, RecoveryStore
from cohortium.hub.store import HubStore
from cohortium.hub.study_store import Said
from cohortium.hub.tables import recovered
from cohortium.ledger.entry import ContractChanged, parse_entry
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.ports import Request

FINGERPRINT = "sha256:" + "5a" * 32
CONTRACT = make_contract(FINGERPRINT)
OLD, NEW = (
    Log("Test", FINGERPRINT, SigningKey.from_seed(bytes([number]) * 32)) for number in (1, 2)
)


def proposer(contract: Contract) -> SigningKey:
    return key(contract.proposed_by.name)


def say(store: HubStore, contract: Contract, action: str, site: str) -> None:
    document = transition(contract, action, site, at=NOW)  # type: ignore[arg-type]

    def stated(life: StudyLife | None) -> StudyLife:
        assert life is not None
        return lifecycle.apply(life, document, key(site).public, NOW)

    said = Said(
        contract.study, contract.digest, document.action, site, key(site).public,
        document.sign(key(site)), document.reason,
    )  # fmt: skip
    store.studies.record(said, stated, NOW)


@pytest.fixture
def old() -> Iterator[HubStore]:
    """Two versions of a study, all signed, and one suspension."""
    store = HubStore("sqlite://")
    second = amended(CONTRACT, title="Amended")
    for contract in (CONTRACT, second):
        record_proposal(store, contract, proposer(contract), NOW)
        for site in SITES:
            record_signature(store, contract, site, key(site), NOW)
    say(store, second, "suspend", SITES[0])
    while store.ledger.append(OLD, NOW):
        pass
    yield store
    store.close()


@pytest.fixture
def new(old: HubStore) -> Iterator[HubStore]:
    store = HubStore("sqlite://")
    with store.ledger.adopting(NEW) as take:
        take([parse_entry(data) for data in old.ledger.entries(0, old.ledger.size())])
    while store.ledger.append(NEW, NOW + timedelta(days=1)):
        pass
    yield store
    store.close()


def envelopes(old: HubStore) -> list[bytes]:
    return [said.envelope for said in old.studies.statements(CONTRACT.study)]


def test_a_study_is_as_it_was_when_all_its_statements_are_back(
    old: HubStore, new: HubStore
) -> None:
    everything = envelopes(old)
    assert new.recovery.missing() == [digest_bytes(envelope) for envelope in everything]
    assert new.studies.studies() == []
    assert new.recovery.take(everything[::-1]) == [CONTRACT.study]
    assert new.recovery.missing() == []
    assert new.studies.life(CONTRACT.study) == old.studies.life(CONTRACT.study)
    assert [v.state for v in new.studies.life(CONTRACT.study).versions] == [
        "superseded", "suspended",
    ]  # fmt: skip
    assert new.studies.contract(CONTRACT.digest) == CONTRACT
    assert new.studies.statements(CONTRACT.study) == old.studies.statements(CONTRACT.study)
    # Nothing new is said of it on the ledger.
    assert not new.ledger.pending()


def test_statements_may_come_from_several_nodes(old: HubStore, new: HubStore) -> None:
    everything = envelopes(old)
    assert new.recovery.take(everything[:3]) == []
    assert new.recovery.missing() == [digest_bytes(envelope) for envelope in everything[3:]]
    assert new.studies.studies() == []
    assert new.recovery.take(everything[1:]) == [CONTRACT.study]
    assert new.recovery.take(everything) == []


def test_what_the_ledger_does_not_name_is_left(old: HubStore, new: HubStore) -> None:
    other = amended(CONTRACT, title="Never said").sign(proposer(CONTRACT))
    forged = [envelope[:-5] + b"AAAA}" for envelope in envelopes(old)]
    before = new.recovery.missing()
    assert new.recovery.take([other, b"", b"{}", *forged]) == []
    assert new.recovery.missing() == before
    with new._database.read() as c:
        assert c.execute(select(recovered)).all() == []


def test_a_hub_that_never_took_over_misses_nothing(old: HubStore) -> None:
    assert old.recovery.missing() == []
    assert old.recovery.take(envelopes(old)) == []


def test_a_study_said_after_the_take_over_is_not_asked_for(old: HubStore, new: HubStore) -> None:
    fresh = CONTRACT.model_copy(update={"study": "fresh-study"})
    record_proposal(new, fresh, proposer(fresh), NOW + timedelta(days=2))
    while new.ledger.append(NEW, NOW + timedelta(days=2)):
        pass
    assert len(new.recovery.missing()) == len(envelopes(old))
    assert new.recovery.take(envelopes(old)) == [CONTRACT.study]
    assert set(new.studies.studies()) == {CONTRACT.study, "fresh-study"}


def test_statements_that_make_no_study_stay_away(
    old: HubStore, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [parse_entry(data) for data in old.ledger.entries(0, old.ledger.size())]
    signed_only = [
        entry
        for entry in entries
        if not (isinstance(entry.fact, ContractChanged) and entry.fact.action == "propose")
    ]
    store = HubStore("sqlite://")
    with store.ledger.adopting(NEW) as take:
        take(signed_only)
    while store.ledger.append(NEW, NOW):
        pass
    assert store.recovery.take(envelopes(old)) == []
    assert store.studies.studies() == []
    assert "are not a study's" in caplog.text
    store.close()


def test_a_lost_study_is_not_proposed_anew_under_its_name(new: HubStore) -> None:
    with pytest.raises(ConflictError) as refusal:
        record_proposal(new, CONTRACT, proposer(CONTRACT), NOW)
    assert refusal.value.code == "wrong-state"
    assert not new.ledger.pending()


class Nodes:
    """Nodes of which each holds some of the statements."""

    def __init__(self, held: dict[str, list[bytes]]) -> None:
        self.held = held
        self.asked: list[tuple[str, int]] = []

    def connected(self) -> frozenset[str]:
        return frozenset(self.held)

    def cut(self, site: str) -> None:
        raise NotImplementedError

    async def request(self, site: str, message: Request, timeout_s: float) -> Message:
        assert isinstance(message, Message)
        wanted = set(message.statements_request.digests)
        self.asked.append((site, len(wanted)))
        if site == "away":
            raise PeerError("link-lost", "away")
        reply = Message()
        if site == "older":
            reply.ack.SetInParent()
            return reply
        reply.statements.envelopes.extend(
            envelope for envelope in self.held[site] if digest_bytes(envelope) in wanted
        )
        return reply


async def settled(recovery: Recovery) -> None:
    while recovery._tasks:
        await asyncio.gather(*recovery._tasks)


async def test_nodes_are_asked_as_they_connect_until_nothing_is_missing(
    old: HubStore, new: HubStore
) -> None:
    everything = envelopes(old)
    nodes = Nodes({"A": everything[:4], "B": everything[2:], "away": [], "older": []})
    recovery = Recovery(RecoveryStore(new._database), nodes)
    for site in ("away", "older", "A"):
        recovery.on_connect(site)
        await settled(recovery)
    assert new.studies.studies() == []
    recovery.on_connect("B")
    await settled(recovery)
    assert new.studies.studies() == [CONTRACT.study]
    recovery.on_connect("A")
    await settled(recovery)
    count = len(everything)
    assert nodes.asked == [("away", count), ("older", count), ("A", count), ("B", count - 4)]
    await recovery.close()


def with_bogus(old: HubStore, by: str) -> HubStore:
    """The hub that took over from one that told of a statement that nobody made."""
    fact = ContractChanged(
        study=CONTRACT.study,
        contract=CONTRACT.digest,
        version=1,
        action="close",
        author=by,
        key=key(by).public,
        statement="sha256:" + "9" * 64,
        state="closed",
    )
    with old._database.write() as c:
        note(c, fact)
    while old.ledger.append(OLD, NOW):
        pass
    store = HubStore("sqlite://")
    with store.ledger.adopting(NEW) as take:
        take([parse_entry(data) for data in old.ledger.entries(0, old.ledger.size())])
    while store.ledger.append(NEW, NOW):
        pass
    return store


async def test_what_a_stranger_never_said_keeps_no_study_away(
    old: HubStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = with_bogus(old, "Mallory")
    nodes = Nodes({"A": envelopes(old), "B": []})
    recovery = Recovery(RecoveryStore(store._database), nodes, lambda: {"A", "B"})
    recovery.on_connect("A")
    await settled(recovery)
    assert store.studies.studies() == []  # B may have it
    recovery.on_connect("B")
    await settled(recovery)
    assert store.studies.life(CONTRACT.study) == old.studies.life(CONTRACT.study)
    assert "what nobody in it has signed" in caplog.text
    assert store.recovery.missing() == []
    await recovery.close()
    store.close()


def test_what_a_party_is_said_to_have_stated_is_not_left_out(
    old: HubStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = with_bogus(old, CONTRACT.proposed_by.name)
    assert store.recovery.take(envelopes(old), everybody=True) == []
    assert store.studies.studies() == []
    assert "is not there" in caplog.text
    store.close()
