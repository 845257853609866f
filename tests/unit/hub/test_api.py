from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.support.fake_sites import (
    NOW,
    SITES,
    World,
    expected_sum,
    key,
    make_contract,
    make_hub,
    make_request,
    start_world,
)

from cohortium.core.rest import RunInfo, RunResult, StudyInfo
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.token import make_token
from cohortium.errors import CATALOGUE
from cohortium.hub import service
from cohortium.hub.api import build_app
from cohortium.hub.config import HubConfig
from cohortium.hub.store import HubStore

ADA = key("Ada")


@dataclass
class Rest:
    """Requests with Ada's tokens, or those of another key."""

    http: httpx.AsyncClient
    world: World

    async def send(
        self, method: str, path: str, body: bytes = b"", signer: SigningKey = ADA
    ) -> httpx.Response:
        token = make_token(
            signer,
            audience=self.world.hub.consortium.fingerprint,
            method=method,
            path=f"/api/v1{path}",
            body=body,
            now=NOW,
        )
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.request(method, f"/api/v1{path}", content=body, headers=headers)


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    store = HubStore("sqlite://")
    config = HubConfig(requests_per_minute=30)
    world = await start_world(make_hub(store, config=config))
    transport = httpx.ASGITransport(build_app(world.hub))
    async with httpx.AsyncClient(transport=transport, base_url="https://hub") as http:
        yield Rest(http, world)
    await world.hub.stop()
    store.close()


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error, whose shape is the one of every error."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"family", "code", "message", "details"}
    assert CATALOGUE[error["code"]].family == error["family"]
    return dict(error)


async def test_a_run_from_submission_to_result(rest: Rest) -> None:
    envelope = make_request(rest.world.contract).sign(ADA)
    response = await rest.send("POST", "/runs", envelope)
    run = RunInfo.from_json(response.json()["run"])
    assert run.status in {"queued", "running"}
    stream = await rest.send("GET", f"/runs/{run.id}/events?after=0")
    assert stream.headers["content-type"].startswith("text/event-stream")
    sent, last = (text.split("\n") for text in stream.text.strip().split("\n\n")[-2:])
    assert last[:2] == ["id: 4", "event: done"]
    assert RunInfo.from_json(json.loads(last[2].removeprefix("data: "))).status == "succeeded"
    result = (await rest.send("GET", f"/runs/{run.id}/result")).json()
    assert result["result"]["sum"] == expected_sum()
    assert result["run"]["participants"] == list(SITES)
    assert sent[0] == "event: result"
    given, asked = (
        RunResult.from_json(one) for one in (json.loads(sent[1].removeprefix("data: ")), result)
    )
    assert given == asked
    assert [r["id"] for r in (await rest.send("GET", "/runs?study=lung")).json()] == [run.id]
    assert (await rest.send("GET", "/runs?study=other")).json() == []
    assert (await rest.send("GET", f"/runs/{run.id}")).json()["rounds"] == 3
    error = error_of(await rest.send("POST", f"/runs/{run.id}/cancel"), 409)
    assert error["code"] == "wrong-state"


async def test_a_large_result_is_not_sent_unasked(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SENT_BYTES", 10)
    run = (await rest.send("POST", "/runs", make_request(rest.world.contract).sign(ADA))).json()
    stream = await rest.send("GET", f"/runs/{run['run']['id']}/events?after=0")
    assert "event: done" in stream.text
    assert "event: result" not in stream.text


async def test_directory_and_studies(rest: Rest) -> None:
    members = (await rest.send("GET", "/members")).json()
    assert [member["name"] for member in members] == list(SITES)
    assert members[0]["connected"] is True
    assert members[0]["datasets"][0]["name"] == "lung"
    assert (await rest.send("GET", "/users")).json() == [{"name": "Ada", "key": ADA.public}]
    (study,) = (await rest.send("GET", "/studies")).json()
    info = StudyInfo.from_json((await rest.send("GET", "/studies/lung")).json())
    assert info.status == "active"
    assert info.contract_digest == study["contract_digest"] == rest.world.contract.digest
    assert info.contract == rest.world.contract.to_json()
    assert {signature.site for signature in info.signatures} == set(SITES)
    assert info.rendered is not None
    assert "Survival" in info.rendered


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("DELETE", "/runs", 405, "bad-input"),
        ("GET", "/runs/xyz", 404, "not-found"),
        ("GET", "/runs/xyz/events?after=-1", 422, "bad-input"),
        ("GET", "/studies/none", 404, "not-found"),
    ],
)
async def test_every_error_has_the_one_shape(
    rest: Rest, method: str, path: str, status: int, code: str
) -> None:
    assert error_of(await rest.send(method, path), status)["code"] == code


async def test_an_unexpected_failure_tells_nothing_of_itself(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[object]:
        raise ValueError("secret detail")

    monkeypatch.setattr(rest.world.hub, "users", broken)
    transport = httpx.ASGITransport(build_app(rest.world.hub), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://hub") as http:
        response = await Rest(http, rest.world).send("GET", "/users")
    assert error_of(response, 500)["code"] == "internal"
    assert "secret" not in response.text


async def test_requests_need_the_token_of_a_registered_researcher(rest: Rest) -> None:
    assert error_of(await rest.http.get("/api/v1/members"), 401)["code"] == "bad-token"
    basic = await rest.http.get("/api/v1/members", headers={"authorization": "Basic eA=="})
    assert error_of(basic, 401)["code"] == "bad-token"
    stranger = await rest.send("GET", "/members", signer=key("Eve"))
    assert error_of(stranger, 403)["code"] == "not-authorised"
    rest.world.hub.members.remove_user("Ada")
    removed = await rest.send("GET", "/members")
    assert error_of(removed, 403)["code"] == "not-authorised"


async def test_a_token_works_once(rest: Rest) -> None:
    token = make_token(
        ADA,
        audience=rest.world.hub.consortium.fingerprint,
        method="GET",
        path="/api/v1/users",
        body=b"",
        now=NOW,
    )
    headers = {"authorization": f"Bearer {token}"}
    assert (await rest.http.get("/api/v1/users", headers=headers)).status_code == 200
    replay = await rest.http.get("/api/v1/users", headers=headers)
    assert error_of(replay, 409)["code"] == "replayed"
    other = await rest.http.get("/api/v1/members", headers=headers)
    assert error_of(other, 401)["code"] == "bad-token"


@pytest.mark.parametrize(
    ("path", "limit"), [("/runs", 256 * 1024), ("/studies", 1024 * 1024), ("/enrol", 32 * 1024)]
)
async def test_bodies_are_bounded(rest: Rest, path: str, limit: int) -> None:
    response = await rest.send("POST", path, b"x" * (limit + 1))
    assert error_of(response, 413)["code"] == "too-large"

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(limit // 1024 + 1):
            yield b"x" * 1024

    streamed = await rest.http.post(f"/api/v1{path}", content=chunks())
    assert error_of(streamed, 413)["code"] == "too-large"


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"payload":"","payloadType":"x"}'])
@pytest.mark.parametrize("path", ["/runs", "/studies", "/enrol", "/enrol/status", "/users"])
async def test_garbage_is_a_bad_request(rest: Rest, path: str, body: bytes) -> None:
    assert error_of(await rest.send("POST", path, body), 400)["code"] == "malformed-message"


async def test_open_endpoints_are_limited(rest: Rest) -> None:
    answers = [await rest.http.get("/api/v1/consortium") for _ in range(31)]
    assert answers[0].json()["fingerprint"] == rest.world.hub.consortium.fingerprint
    assert error_of(answers[-1], 429)["code"] == "too-many-requests"


async def test_a_proposal_arrives_and_the_same_again_changes_nothing(rest: Rest) -> None:
    contract = make_contract(rest.world.contract.consortium, study="second")
    first = await rest.send("POST", "/studies", contract.sign(ADA))
    assert first.json()["status"] == "proposed"
    assert (await rest.send("POST", "/studies", contract.sign(ADA))).json() == first.json()
    changed = make_contract(rest.world.contract.consortium, study="second", title="Other")
    error = error_of(await rest.send("POST", "/studies", changed.sign(ADA)), 409)
    assert error["code"] == "already-exists"
    await rest.world.hub.delivered()
    assert rest.world.sites["Beta"].seen.count("contract_proposal") == 2


def _participants(**changes: Any) -> tuple[Any, ...]:
    contract = make_contract("sha256:" + "c" * 64)
    first, *others = contract.participants
    return (first.model_copy(update=changes), *others)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"consortium": "sha256:" + "0" * 64}, "bad-digest"),
        ({"expires_at": NOW, "created_at": NOW - timedelta(days=1)}, "contract-expired"),
        ({"proposed_by": {"name": "Eve", "key": key("Eve").public}}, "unknown-signer"),
        ({"recipients": ({"name": "Eve", "key": key("Eve").public},)}, "not-authorised"),
        ({"participants": _participants(key=key("Eve").public)}, "key-mismatch"),
        ({"participants": _participants(name="Nowhere")}, "not-found"),
        ({"participants": _participants(dataset="other")}, "not-found"),
        ({"participants": _participants(dataset_digest="sha256:" + "e" * 64)}, "bad-digest"),
        ({"participants": _participants(dictionary_digest="sha256:" + "e" * 64)}, "bad-digest"),
        ({"security_level": "L4"}, "unenforceable"),
        ({"cohort": {"include": ("height > 1",)}}, "bad-criterion"),
        ({"derived": ({"name": "old", "expression": "age > 'x'"},)}, "bad-criterion"),
        ({"participants": _participants(sources={"age": "years"})}, "bad-proposal"),
        ({"variables": ({"name": "age", "type": "boolean"},)}, "bad-proposal"),
    ],
)
async def test_a_proposal_that_does_not_fit_the_directory_is_refused(
    rest: Rest, changes: dict[str, Any], code: str
) -> None:
    fields = {"study": "second", **changes}
    contract = make_contract(rest.world.contract.consortium, **fields)
    response = await rest.send("POST", "/studies", contract.sign(ADA))
    assert error_of(response, CATALOGUE[code].http_status)["code"] == code


async def test_a_proposal_that_another_signed_is_refused(rest: Rest) -> None:
    envelope = make_contract(rest.world.contract.consortium, study="x").sign(key("Eve"))
    error = error_of(await rest.send("POST", "/studies", envelope), 401)
    assert error["code"] == "unknown-signer"


async def test_openapi_describes_every_route(rest: Rest) -> None:
    document = (await rest.http.get("/api/v1/openapi.json")).json()
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["description"]
    assert "/api/v1/runs/{run_id}/result" in document["paths"]
