"""Drafts and statements over REST: who fills a slot, who is told, who sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.support.fake_sites import (
    NOW,
    World,
    key,
    make_contract,
    make_hub,
    start_world,
)
from tests.support.life import transition

from cohortium.contract.model import Contract, Draft, Researcher
from cohortium.contract.statements import Assignment
from cohortium.contract.task import Artefact
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.token import make_token
from cohortium.errors import CohortiumError
from cohortium.hub.api import build_app
from cohortium.hub.store import HubStore
from cohortium.link._generated.link_pb2 import Message

ADA = key("Ada")
FREE = ("dataset", "dataset_digest", "dictionary_digest")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = HubStore("sqlite://")
    made = await start_world(make_hub(store))
    made.hub.members.add_user("Eve", key("Eve").public)
    yield made
    await made.hub.stop()
    store.close()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_app(world.hub))
    async with httpx.AsyncClient(transport=transport, base_url="https://hub") as client:
        yield client


async def send(
    http: httpx.AsyncClient,
    world: World,
    method: str,
    path: str,
    body: bytes = b"",
    signer: SigningKey = ADA,
) -> httpx.Response:
    token = make_token(
        signer,
        audience=world.hub.consortium.fingerprint,
        method=method,
        path=f"/api/v1{path}",
        body=body,
        now=NOW,
    )
    headers = {"authorization": f"Bearer {token}"}
    return await http.request(method, f"/api/v1{path}", content=body, headers=headers)


def draft_of(contract: Contract, *sites: str) -> Draft:
    fields = contract.to_json() | {"schema_id": "cohortium/draft/1"}
    for participant in fields["participants"]:
        if participant["name"] in sites:
            for name in FREE:
                del participant[name]
    return Draft.from_json(fields)


def assignment(draft: Draft, contract: Contract, site: str, **changes: Any) -> Assignment:
    own = next(p for p in contract.givers if p.name == site)
    artefact = Artefact(
        name=own.dataset,
        content_digest=own.dataset_digest,
        owners=(site,),
        dictionary_digest=own.dictionary_digest,
    )
    fields = {
        "study": draft.study,
        "draft_digest": draft.digest,
        "slot": f"dataset/{site}",
        "artefact": artefact,
        "author": site,
        "at": NOW,
    }
    return Assignment(**(fields | changes))


def refused(world: World, site: str, said: Assignment, code: str) -> None:
    with pytest.raises(CohortiumError) as caught:
        world.hub.hear(site, said.sign(key(site)))
    assert caught.value.code == code


async def test_owners_fill_the_slots_and_the_contract_is_proposed(
    world: World, http: httpx.AsyncClient
) -> None:
    contract = make_contract(world.contract.consortium, study="second")
    draft = draft_of(contract, "Alpha", "Beta")
    answer = (await send(http, world, "POST", "/drafts", draft.sign(ADA))).json()
    assert answer["unfilled"] == ["dataset/Alpha", "dataset/Beta"]
    await world.hub.delivered()
    assert [world.sites[s].seen.count("contract_draft") for s in world.sites] == [1, 1, 1]
    world.hub.hear("Alpha", assignment(draft, contract, "Alpha").sign(key("Alpha")))
    await world.hub.delivered()
    assert world.sites["Beta"].seen[-1] == "contract_statement"
    assert "contract_statement" not in world.sites["Alpha"].seen
    (listed,) = (await send(http, world, "GET", "/drafts")).json()
    assert [(one["slot"], one["author"]) for one in listed["assignments"]] == [
        ("dataset/Alpha", "Alpha")
    ]
    world.hub.hear("Beta", assignment(draft, contract, "Beta").sign(key("Beta")))
    shown = (await send(http, world, "GET", "/drafts/second")).json()
    assert shown.get("unfilled", []) == []
    assert len(shown["envelopes"]) == 3
    proposed = await send(http, world, "POST", "/studies", contract.sign(ADA))
    assert proposed.json()["status"] == "proposed"
    assert (await send(http, world, "GET", "/drafts")).json() == []
    refused(
        world, "Alpha", assignment(draft, contract, "Alpha", slot="dataset/Beta"), "wrong-state"
    )
    kinds = [said.action for said in world.hub.store.studies.about(draft.digest)]
    assert kinds == ["draft", "assign", "assign"]


async def test_a_slot_is_filled_by_its_owner_alone(world: World) -> None:
    contract = make_contract(world.contract.consortium, study="second")
    draft = draft_of(contract, "Alpha", "Beta")
    world.hub.draft(draft.sign(ADA), world.hub.user(ADA.public))
    alphas = assignment(draft, contract, "Alpha")
    with pytest.raises(CohortiumError) as caught:
        world.hub.hear("Beta", alphas.sign(key("Beta")))
    assert caught.value.code == "unknown-signer"
    refused(
        world, "Beta", assignment(draft, contract, "Beta", slot="dataset/Alpha"), "not-authorised"
    )
    refused(world, "Beta", assignment(draft, contract, "Beta", slot="dataset/X"), "not-found")
    refused(world, "Beta", assignment(draft, contract, "Beta", study="third"), "not-found")
    other = draft.model_copy(update={"title": "Newer"})
    world.hub.draft(other.sign(ADA), world.hub.user(ADA.public))
    refused(world, "Alpha", alphas, "stale-version")


async def test_a_draft_is_seen_by_those_whom_it_names(
    world: World, http: httpx.AsyncClient
) -> None:
    """Rule 2."""
    contract = make_contract(world.contract.consortium, study="second")
    draft = draft_of(contract, "Alpha")
    await send(http, world, "POST", "/drafts", draft.sign(ADA))
    eve = key("Eve")
    assert (await send(http, world, "GET", "/drafts", signer=eve)).json() == []
    hidden = await send(http, world, "GET", "/drafts/second", signer=eve)
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "not-found")
    others = draft.model_copy(update={"proposed_by": Researcher(name="Eve", key=eve.public)})
    taken = await send(http, world, "POST", "/drafts", others.sign(eve), signer=eve)
    assert taken.json()["error"]["code"] == "already-exists"
    forged = await send(http, world, "POST", "/drafts", draft.sign(eve))
    assert forged.json()["error"]["code"] == "unknown-signer"
    statements = await send(http, world, "GET", "/studies/lung/statements", signer=eve)
    assert (statements.status_code, statements.json()["error"]["code"]) == (404, "not-found")


async def test_a_site_that_lost_its_memory_gets_the_draft_again(world: World) -> None:
    contract = make_contract(world.contract.consortium, study="second")
    draft = draft_of(contract, "Alpha")
    envelope = draft.sign(ADA)
    world.hub.draft(envelope, world.hub.user(ADA.public))
    await world.hub.delivered()
    for known, owed in (([digest_bytes(envelope)], []), ([], ["draft"])):
        hello = Message()
        hello.hello.contracts.append(world.contract.digest)
        hello.hello.statements.extend(known)
        await world.hub.handler_for("Alpha").handle(hello)
        assert [item.kind for item in world.hub.store.outbox.owed("Alpha")] == owed


async def test_statements_over_rest(world: World, http: httpx.AsyncClient) -> None:
    said = transition(world.contract, "suspend", "Ada")
    answer = await send(http, world, "POST", "/studies/lung/statements", said.sign(ADA))
    assert answer.json()["status"] == "suspended"
    again = await send(http, world, "POST", "/studies/lung/statements", said.sign(ADA))
    assert again.json() == answer.json()
    listed = (await send(http, world, "GET", "/studies/lung/statements")).json()
    assert [one["action"] for one in listed] == ["propose", "sign", "sign", "sign", "suspend"]
    assert listed[-1]["envelope"].encode() == said.sign(ADA)
    digest = world.contract.digest
    shown = await send(http, world, "GET", f"/studies/lung?contract={digest}")
    assert shown.json()["suspensions"] == [{"by": "Ada"}]
    missing = "sha256:" + "0" * 64
    unknown = await send(http, world, "GET", f"/studies/lung?contract={missing}")
    assert unknown.status_code == 404
    garbage = await send(http, world, "POST", "/studies/lung/statements", b"{}")
    assert (garbage.status_code, garbage.json()["error"]["code"]) == (400, "malformed-message")
