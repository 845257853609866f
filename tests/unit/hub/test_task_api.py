"""REST of tasks: programs, vault cards, enclaves, outputs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import httpx
import pytest
from tests.support.fake_sites import NOW, key
from tests.support.task_hub import FILES, OUTPUTS, PROGRAM, TaskWorld, card, closed, task_world
from tests.unit.hub.test_api import Rest, error_of

from cohortium.contract.code import files_of, packed
from cohortium.contract.task import code_digest
from cohortium.enclave.exchange import TaskOutcome
from cohortium.hub import blobs
from cohortium.hub.api import build_app
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.vault.card import VaultCard

BOB = key("Bob")


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    store, runner = HubStore("sqlite://"), ThreadRunner()
    world = await task_world(store, runner)
    world.hub.members.add_user("Bob", BOB.public)
    transport = httpx.ASGITransport(build_app(world.hub))
    async with httpx.AsyncClient(transport=transport, base_url="https://hub") as http:
        yield Rest(http, world)
    await closed(world, runner)


def program(files: Mapping[str, bytes]) -> tuple[str, bytes]:
    return code_digest(files), packed(files)


async def test_a_program_is_put_and_read_by_its_digest(rest: Rest) -> None:
    digest, archive = program({"main.py": b"print(2)"})
    assert (await rest.send("PUT", f"/code/{digest}", archive)).json() == {"digest": digest}
    assert (await rest.send("PUT", f"/code/{digest}", archive, BOB)).status_code == 200
    # No contract names it, so nobody reads it.
    assert error_of(await rest.send("GET", f"/code/{digest}"), 404)["code"] == "not-found"
    held = await rest.send("GET", f"/code/{PROGRAM}")
    assert files_of(held.content, PROGRAM) == FILES
    assert error_of(await rest.send("GET", f"/code/{PROGRAM}", signer=BOB), 404)
    for path, body, code, status in (
        (f"/code/{PROGRAM}", archive, "bad-digest", 401),
        ("/code/trainer", archive, "bad-input", 400),
        (f"/code/{digest}", archive + b"x", "malformed-message", 400),
    ):
        assert error_of(await rest.send("PUT", path, body), status)["code"] == code


async def test_a_large_body_is_read_from_researchers_alone(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    async def body(_request: object, limit: int) -> bytes:
        read.append(limit)
        return b""

    monkeypatch.setattr("cohortium.hub.api.read_body", body)
    sent = await rest.send("PUT", f"/code/{PROGRAM}", b"x", key("Eve"))
    assert error_of(sent, 403)["code"] == "not-authorised"
    bare = await rest.http.put(f"/api/v1/code/{PROGRAM}", content=b"x")
    assert error_of(bare, 401)["code"] == "bad-token"
    assert read == []
    sent = await rest.send("PUT", f"/code/{PROGRAM}", b"x")
    assert error_of(sent, 401)["code"] == "bad-token"  # the body is another than its token says
    assert len(read) == 1


async def test_programs_that_no_contract_names_do_not_fill_the_disk(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "UNNAMED_BYTES", 150)
    first, second = program({"a.py": b"1"}), program({"b.py": b"2"})
    assert (await rest.send("PUT", f"/code/{first[0]}", first[1])).status_code == 200
    assert (await rest.send("PUT", f"/code/{first[0]}", first[1])).status_code == 200
    sent = await rest.send("PUT", f"/code/{second[0]}", second[1])
    assert error_of(sent, 429)["code"] == "too-many-requests"
    monkeypatch.setattr(blobs, "UNNAMED_S", -1.0)
    assert (await rest.send("PUT", f"/code/{second[0]}", second[1])).status_code == 200
    programs = rest.world.hub.tasks.programs
    assert (programs.has(first[0]), programs.has(PROGRAM)) == (False, True)


async def test_a_card_is_its_authors_and_the_newest_counts(rest: Rest) -> None:
    ada, tasks = key("Ada"), rest.world.hub.store.tasks
    held = VaultCard.open(tasks.cards([ada.public])[ada.public])[0]
    newer = held.model_copy(update={"at": NOW + timedelta(minutes=1)})
    older = held.model_copy(update={"at": NOW - timedelta(minutes=1)})
    for one in (newer, older):
        assert (await rest.send("PUT", "/card", one.sign(ada))).json() == {"name": "Ada"}
    assert VaultCard.open(tasks.cards([ada.public])[ada.public])[0] == newer
    late = held.model_copy(update={"at": NOW + timedelta(days=1)})
    for envelope, code in (
        (card("Bob"), "unknown-signer"),
        (held.model_copy(update={"name": "Bob"}).sign(ada), "unknown-signer"),
        (late.sign(ada), "stale-request"),
    ):
        assert error_of(await rest.send("PUT", "/card", envelope), 401)["code"] == code


async def test_enclaves_are_listed_apart_from_the_members(rest: Rest) -> None:
    listed = (await rest.send("GET", "/enclaves")).json()
    assert [(one["name"], one["status"], one["connected"]) for one in listed] == [
        ("Vault One", "approved", True),
        ("Vault Two", "approved", False),
    ]
    members = (await rest.send("GET", "/members")).json()
    assert [one["name"] for one in members] == ["Alpha", "Beta", "Gamma"]


async def test_outputs_come_as_ciphertext_to_their_readers(rest: Rest) -> None:
    world = rest.world
    assert isinstance(world, TaskWorld)
    run_id = world.submit()
    await world.settled(run_id)
    given = await rest.send("GET", f"/runs/{run_id}/outputs/model?path=")
    assert given.content == OUTPUTS["model"]
    signed = await rest.send("GET", f"/runs/{run_id}/outcome")
    assert TaskOutcome.open(signed.content, key=key("Vault One").public)[0].run_id == run_id
    result = (await rest.send("GET", f"/runs/{run_id}/result")).json()
    assert result["run"]["enclave"] == "Vault One"
    for path, status, code in (
        ("outputs/report", 403, "not-authorised"),
        ("outputs/..%2Fmodel", 404, "not-found"),
        ("outputs/model?path=a", 404, "not-found"),
    ):
        error = error_of(await rest.send("GET", f"/runs/{run_id}/{path}"), status)
        assert error["code"] == code
    for path in ("outcome", "outputs/model"):
        sent = await rest.send("GET", f"/runs/{run_id}/{path}", signer=BOB)
        assert error_of(sent, 404)["code"] == "not-found"
