"""The node's copy of the ledger and its alarms on the loopback port."""

from __future__ import annotations

import httpx
import pytest
from tests.support.logs import key
from tests.support.witnessing import Witnessing

from cohortium.crypto.keys import fingerprint
from cohortium.ledger.checkpoint import open_checkpoint
from cohortium.ledger.entry import ResearcherChanged, commitment
from cohortium.ledger.tiles import verify_mirror
from cohortium.node import journal, outbox
from cohortium.node.policy import Policy
from cohortium.node.status import build_app
from cohortium.node.store import NodeStore


@pytest.fixture
def site() -> Witnessing:
    return Witnessing()


def client(site: Witnessing) -> httpx.AsyncClient:
    app = build_app(site.node.service, lambda: {"connected": False})
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000"
    )


def fill(site: Witnessing, entries: int) -> None:
    people = [
        ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")
        for number in range(entries)
    ]
    site.hub.add(*people)
    site.cosigned()
    site.cosigned(site.hub.update(site.size, final=site.hub.final(site.world.keys)))


async def test_the_copy_is_served_as_static_files_that_verify(site: Witnessing) -> None:
    fill(site, 600)
    async with client(site) as http:
        files: dict[str, bytes] = {}
        mirror = site.node.service.witness.replica.mirror()
        for path in mirror.paths():
            answer = await http.get(f"/ledger/{path}")
            assert answer.status_code == 200
            files[path] = answer.content
        note = await http.get("/ledger/checkpoint")
        assert note.headers["content-type"] == "text/plain; charset=utf-8"
        checkpoint, _ = open_checkpoint(note.content, site.hub.key)
        assert checkpoint.size == 604
        verify_mirror(files.get, checkpoint)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tile/0/001", 404),
        ("tile/0/000.p/5", 404),
        ("tile/entries/000.p/5", 404),
        ("tile/64/000", 400),
        ("tile/0/0", 400),
        ("", 400),
    ],
)
async def test_what_the_copy_does_not_have(site: Witnessing, path: str, status: int) -> None:
    fill(site, 0)
    async with client(site) as http:
        answer = await http.get(f"/ledger/{path}")
    assert answer.status_code == status


async def test_before_the_first_update_there_is_nothing_to_serve(site: Witnessing) -> None:
    async with client(site) as http:
        answer = await http.get("/ledger/checkpoint")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not-found")


async def test_the_copy_can_only_be_read(site: Witnessing) -> None:
    fill(site, 1)
    async with client(site) as http:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = await http.request(method, "/ledger/checkpoint", content=b"x")
            assert answer.status_code == 405


async def test_a_page_of_another_name_reads_no_ledger(site: Witnessing) -> None:
    fill(site, 1)
    async with client(site) as http:
        answer = await http.get("/ledger/checkpoint", headers={"host": "evil.example"})
    assert answer.status_code == 403


async def test_the_status_tells_of_the_ledger_and_of_alarms(site: Witnessing) -> None:
    fill(site, 2)
    async with client(site) as http:
        ledger = (await http.get("/status")).json()["ledger"]
        at = site.world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        there = {"size": 6, "at": at}
        assert ledger == {
            "size": 6,
            "key": site.hub.key.text,
            "key_fingerprint": fingerprint(site.hub.key.text),
            "seen": there,
            "cosigned": there,
            "final": there,
            "alarms": [],
        }
        alarm = site.alarm(site.hub.update(0, 3))
        (shown,) = (await http.get("/status")).json()["ledger"]["alarms"]
    assert shown == {"id": alarm.id, "kind": "truncated", "since": at, "why": alarm.message}


# The policy's digest


def test_another_policy_is_owed_to_the_hub_once() -> None:
    store = NodeStore(":memory:")
    one, other = ("sha256:" + digit * 64 for digit in "12")
    first = outbox.owe_policy(store, one)
    assert outbox.owe_policy(store, one) == first
    (owed,) = store.owed()
    message = outbox.message_of(owed)
    assert message.policy_digest.digest == first
    store.settle(owed.id, "ok")
    outbox.owe_policy(store, one)
    assert store.owed() == []
    assert outbox.owe_policy(store, one, again=True) == first
    second = outbox.owe_policy(store, other)
    assert [outbox.message_of(owed).policy_digest.digest for owed in store.owed()] == [second]
    assert all(store.has_said("policy_digest", digest) for digest in (first, second))


def test_what_the_others_see_of_a_policy_cannot_be_guessed_and_is_opened_by_the_journal() -> None:
    store = NodeStore(":memory:")
    digest = Policy(min_cell=9).digest
    told = [outbox.owe_policy(store, digest)]
    outbox.owe_policy(store, Policy().digest)
    told.append(outbox.owe_policy(store, digest))
    assert len({*told, digest}) == 3  # not even that it is the same as before
    kept = [entry.body for entry in journal.entries(store) if entry.body["what"] == "policy"]
    opened = [
        commitment(bytes.fromhex(str(about["nonce"])), digest.encode(), "policy")
        for about in kept
        if about["policy"] == digest
    ]
    assert opened == told
