"""What is owed to the hub, the TLS keys, and the status page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.support.builders import CONSORTIUM, World, a_vote
from tests.support.fake_sites import key, make_contract
from tests.support.life import transition

from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.core.directory import PublishedDataset
from cohortium.core.publication import Publication
from cohortium.crypto import tls_keys as tls
from cohortium.crypto.authority import Authority, make_tls_key_and_csr
from cohortium.crypto.keys import fingerprint
from cohortium.errors import (
    CohortiumError,
    InputError,
    IntegrityFailure,
    PeerError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import error_message
from cohortium.node import outbox
from cohortium.node.status import build_app
from cohortium.node.store import NodeStore, Owed

ACK = pb.Message(ack=pb.Ack())


@pytest.fixture
def store() -> NodeStore:
    return NodeStore(":memory:")


def _dataset(name: str, digit: str = "0") -> PublishedDataset:
    dictionary = Dictionary(variables=(Variable(name="age", type=VariableType.INTEGER),))
    return PublishedDataset(name=name, content_digest="sha256:" + digit * 64, dictionary=dictionary)


async def test_what_is_owed_is_sent_until_the_hub_has_it(store: NodeStore) -> None:
    outbox.owe_vote(store, "x", a_vote())
    outbox.owe_rotation(store, b"csr", b"signature")
    sent: list[pb.Message] = []

    async def away(_message: pb.Message) -> pb.Message:
        raise PeerError("peer-unreachable", "The hub is away.")

    async def there(message: pb.Message) -> pb.Message:
        sent.append(message)
        return ACK

    with pytest.raises(PeerError):
        await outbox.flush(store, away)
    assert len(store.owed()) == 2
    assert await outbox.flush(store, there) == 2
    assert [message.WhichOneof("body") for message in sent] == [
        "statement",
        "rotate_certificate",
    ]
    assert sent[1].rotate_certificate.csr_pem == b"csr"
    assert await outbox.flush(store, there) == 0


async def test_a_refusal_settles_a_message_and_is_kept(store: NodeStore) -> None:
    outbox.owe_vote(store, "x", a_vote())

    async def refuse(_message: pb.Message) -> pb.Message:
        return error_message(PolicyRefusal("contract-expired", "Too late."))

    assert await outbox.flush(store, refuse) == 0
    assert store.owed() == []
    assert "contract-expired" in (store.last_answer("vote:x") or "")


class Hub:
    """Answers with these errors, then takes everything; what it was sent is kept."""

    def __init__(self, *errors: CohortiumError) -> None:
        self.errors = list(errors)
        self.got: list[bytes] = []

    async def request(self, message: pb.Message) -> pb.Message:
        self.got.append(message.statement.envelope)
        return error_message(self.errors.pop(0)) if self.errors else ACK


@pytest.mark.parametrize(
    "error",
    [
        PolicyRefusal("too-many-requests", "Too many requests; wait a minute."),
        InputError("not-found", "The hub has no contract with that digest."),
    ],
    ids=lambda error: error.code,
)
async def test_what_the_hub_refuses_for_now_is_sent_again(
    store: NodeStore, error: CohortiumError
) -> None:
    now = [0.0]
    later = outbox.Later(monotonic=lambda: now[0])
    contract = make_contract("sha256:" + "c" * 64)
    first, second = (
        transition(contract, action, "Alpha").sign(key("Alpha")) for action in ("suspend", "resume")
    )
    other = transition(make_contract("sha256:" + "c" * 64, study="stroke"), "revoke", "Alpha")
    elsewhere = other.sign(key("Alpha"))
    for envelope in (first, second, elsewhere):
        outbox.owe_statement(store, envelope)
    hub = Hub(error)
    assert await outbox.flush(store, hub.request, later=later) == 1
    # The second waits for the first; of another study it is not asked for.
    assert hub.got == [first, elsewhere]
    assert await outbox.flush(store, hub.request, later=later) == 0
    now[0] = outbox.FIRST_S
    assert await outbox.flush(store, hub.request, later=later) == 2
    assert hub.got == [first, elsewhere, first, second]
    assert store.owed() == []
    assert store.refused_statements() == []


def test_the_hub_is_asked_again_less_and_less_often() -> None:
    now = [0.0]
    later, owed = outbox.Later(monotonic=lambda: now[0]), Owed(1, "x", "statement", b"")
    waits = []
    for _ in range(9):
        later.postpone(owed)
        began = now[0]
        while not later.is_due(owed):
            now[0] += 1.0
        waits.append(now[0] - began)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


async def test_an_unknown_kind_in_the_store_is_noticed(store: NodeStore) -> None:
    store.owe("odd", "odd", b"")
    with pytest.raises(IntegrityFailure):
        outbox.message_of(store.owed()[0])


def _publications(store: NodeStore) -> dict[str, Publication]:
    owed = store.owed()
    for message in owed:
        store.settle(message.id, "ok")
    return {message.topic: Publication.from_bytes(message.body) for message in owed}


def test_only_changed_datasets_are_published(store: NodeStore) -> None:
    outbox.owe_datasets(store, [_dataset("a"), _dataset("b")])
    assert set(_publications(store)) == {"dataset:a", "dataset:b"}
    outbox.owe_datasets(store, [_dataset("a"), _dataset("b")])
    assert _publications(store) == {}
    outbox.owe_datasets(store, [_dataset("b", "1")])
    changed = _publications(store)
    assert changed["dataset:a"].removed == "a"
    assert changed["dataset:b"].dataset == _dataset("b", "1")
    outbox.owe_datasets(store, [_dataset("b", "1")], again=True)
    assert set(_publications(store)) == {"dataset:a", "dataset:b"}


# TLS keys


@pytest.fixture
def authority() -> Authority:
    return Authority.create("Test", datetime.now(UTC))


def _now() -> datetime:
    return datetime.now(UTC)


def test_a_rotation_replaces_key_and_certificate_together(
    authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    with pytest.raises(InputError):
        tls.current(folder)
    keys = []
    for number in (1, 2, 3):
        csr = tls.begin(folder, "Alpha")
        assert tls.begin(folder, "Alpha") == csr
        pem = authority.issue_node(csr, "Alpha", "n1", _now())
        assert tls.finish(folder, pem, authority.certificate_pem, _now).name == str(number)
        keys.append((tls.current(folder) / tls.KEY).read_bytes())
    assert len(set(keys)) == 3
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_a_certificate_that_is_not_ours_changes_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    first = authority.issue_node(tls.begin(folder, "Alpha"), "Alpha", "n1", _now())
    tls.finish(folder, first, authority.certificate_pem, _now)
    csr = tls.begin(folder, "Alpha")
    stranger = Authority.create("Other", _now()).issue_node(csr, "Alpha", "n1", _now())
    other_key = authority.issue_node(make_tls_key_and_csr("Alpha")[1], "Alpha", "n1", _now())
    for wrong in (stranger, other_key, first, b"junk"):
        with pytest.raises(VerificationError):
            tls.finish(folder, wrong, authority.certificate_pem, _now)
        assert tls.current(folder).name == "1"


# The service's first words


def test_hello_names_the_known_contracts_and_welcome_is_checked() -> None:
    world = World()
    contract = world.ready()
    service = world.nodes["Alpha"].service
    assert list(service.hello().hello.contracts) == [contract.digest]
    revoked = [world.researcher.public]
    service.welcome(pb.Message(welcome=pb.Welcome(consortium=CONSORTIUM, revoked_keys=revoked)))
    service.welcome(pb.Message(welcome=pb.Welcome(consortium=CONSORTIUM)))
    assert service.store.revoked() == {world.researcher.public}
    with pytest.raises(VerificationError):
        service.welcome(pb.Message(welcome=pb.Welcome(consortium="sha256:" + "0" * 64)))


# Status


async def _get(path: str, host: str) -> httpx.Response:
    world = World()
    world.ready()
    app = build_app(world.nodes["Alpha"].service, lambda: {"connected": False})
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
        return await client.get(path, headers={"host": host})


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:7", "[::1]"])
async def test_the_status_says_what_a_steward_needs(host: str) -> None:
    assert (await _get("/health", host)).json() == {"status": "ok"}
    answer = await _get("/status", host)
    assert answer.status_code == 200
    assert answer.json() == {
        "name": "Alpha",
        "key_fingerprint": fingerprint(World().keys["Alpha"].public),
        "consortium": CONSORTIUM,
        "version": answer.json()["version"],
        "owed": 1,
        "datasets": [{"name": "patients", "confirmed": True}],
        "lends": [],
        "received": 0,
        "contracts": {"active": 1},
        "paused": False,
        "ledger": {
            "size": 0,
            "key": None,
            "key_fingerprint": None,
            "seen": None,
            "cosigned": None,
            "final": None,
            "alarms": [],
        },
        "link": {"connected": False},
    }


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil:1"]
)
async def test_a_page_of_another_name_reads_nothing(host: str) -> None:
    for path in ("/health", "/status", "/other"):
        answer = await _get(path, host)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "not-authorised"
