"""From an invitation to a certificate, against a hub played by the test."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.joining_hub import NAME
from tests.support.joining_hub import JoiningHub as Hub

from cohortium.crypto import tls_keys as tls
from cohortium.crypto.authority import Authority, make_tls_key_and_csr
from cohortium.crypto.keys import fingerprint
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PeerError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.node.config import NodeDir
from cohortium.node.join import Joined, join, open_http
from cohortium.node.policy import Policy, PolicyFile


@pytest.fixture
def hub() -> Hub:
    return Hub()


def _join(hub: Hub, folder: Path, **changes: Any) -> Joined:
    values: dict[str, Any] = {"wait": False, "http": hub.client}
    return join(hub.invitation.to_text(), folder, **{**values, **changes})


def test_a_node_joins_waits_and_gets_its_certificate(hub: Hub, tmp_path: Path) -> None:
    told: list[Joined] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        hub.approved = len(slept) == 2

    directory = tmp_path / "node"
    joined = _join(hub, directory, wait=True, on_progress=told.append, sleep=sleep, proxy="p:3128")
    assert [state.status for state in told] == ["pending"]
    assert slept == [0.1, 0.2]
    assert joined.status == "approved"
    assert joined.key_fingerprint == fingerprint(hub.enrolments[0].key)
    assert joined.ca_fingerprint == hub.authority.fingerprint
    folder = NodeDir(directory)
    config = folder.load_config()
    assert (config.name, config.link_address, config.proxy) == (NAME, "hub.example:9443", "p:3128")
    assert folder.load_identity(config).key.public == joined.key
    assert PolicyFile(folder.policy)() == Policy()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for secret in (folder.contract_key, tls.current(folder.tls) / tls.KEY, folder.pending):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    kept = b"".join(f.read_bytes() for f in directory.rglob("*") if f.is_file())
    assert hub.invitation.secret.encode() not in kept


def test_joining_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    first = _join(hub, tmp_path / "node")
    assert first.status == "pending"
    again = _join(hub, tmp_path / "node")
    assert again == first
    hub.approved = True
    approved = _join(hub, tmp_path / "node", wait=True)
    assert (approved.status, approved.key) == ("approved", first.key)
    assert len(hub.enrolments) == 1
    assert _join(hub, tmp_path / "node", wait=True) == approved


def test_keys_are_kept_when_the_hub_fails_before_it_enrolled(hub: Hub, tmp_path: Path) -> None:
    def failing(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/enrol"):
            raise httpx.ConnectError("refused")
        return hub.answer(request)

    hub.broken = failing
    with pytest.raises(PeerError) as caught:
        _join(hub, tmp_path / "node")
    assert caught.value.code == "peer-unreachable"
    key = (tmp_path / "node" / "contract.key").read_bytes()
    hub.broken = None
    _join(hub, tmp_path / "node")
    assert (tmp_path / "node" / "contract.key").read_bytes() == key


def _invited_again(hub: Hub) -> None:
    """The operator has revoked the certificate and invites anew."""
    hub.enrolments.clear()
    hub.approved = False
    hub.invitation = hub.invitation.model_copy(
        update={"secret": "t" * 43, "hub": "https://elsewhere.example:8443"}
    )


def test_a_node_joins_again_with_a_new_invitation_and_keeps_what_it_has(
    hub: Hub, tmp_path: Path
) -> None:
    hub.approved = True
    folder = NodeDir(tmp_path / "node")
    first = _join(hub, folder.path, wait=True)
    old = tls.current(folder.tls)
    before = (old / tls.KEY).read_bytes()
    tls.begin(folder.tls, NAME)  # a rotation was under way, and its key may be known, too
    under_way = (folder.tls / tls.NEXT / tls.KEY).read_bytes()
    folder.policy.write_text("paused: true\n")
    folder.store.write_bytes(b"memory")
    _invited_again(hub)
    waiting = _join(hub, folder.path)
    assert (waiting.status, waiting.key) == ("pending", first.key)
    assert _join(hub, folder.path) == waiting
    hub.approved = True
    joined = _join(hub, folder.path, wait=True)
    assert (joined.status, joined.key) == ("approved", first.key)
    assert len(hub.enrolments) == 1
    assert tls.latest(folder.tls) == int(old.name) + 1
    assert (tls.current(folder.tls) / tls.KEY).read_bytes() not in {before, under_way}
    assert folder.policy.read_text() == "paused: true\n"
    assert folder.store.read_bytes() == b"memory"
    assert folder.load_config().hub_url == "https://elsewhere.example:8443"
    assert _join(hub, folder.path, wait=True) == joined


def test_a_node_joins_again_with_nothing_but_its_key(hub: Hub, tmp_path: Path) -> None:
    first = _join(hub, tmp_path / "node")
    _invited_again(hub)
    folder = NodeDir(tmp_path / "new")
    folder.path.mkdir()
    folder.contract_key.write_bytes((tmp_path / "node" / "contract.key").read_bytes())
    folder.contract_key.chmod(0o600)
    hub.approved = True
    joined = _join(hub, folder.path, wait=True)
    assert (joined.status, joined.key) == ("approved", first.key)
    assert folder.load_config().name == NAME
    assert PolicyFile(folder.policy)() == Policy()


def test_a_folder_of_another_name_or_without_its_key_joins_no_more(
    hub: Hub, tmp_path: Path
) -> None:
    _join(hub, tmp_path / "node")
    _invited_again(hub)
    hub.invitation = hub.invitation.model_copy(update={"name": "Beta Hospital"})
    with pytest.raises(ConflictError, match="is Alpha Hospital's"):
        _join(hub, tmp_path / "node")
    hub.invitation = hub.invitation.model_copy(update={"name": NAME})
    (tmp_path / "node" / "contract.key").unlink()
    with pytest.raises(ConflictError, match="not empty"):
        _join(hub, tmp_path / "node")


def test_a_used_invitation_is_refused(hub: Hub, tmp_path: Path) -> None:
    _join(hub, tmp_path / "first")
    with pytest.raises(VerificationError) as caught:
        _join(hub, tmp_path / "second")
    assert caught.value.code == "bad-invitation"


def test_an_expired_or_foreign_invitation_is_refused(hub: Hub, tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(VerificationError):
        _join(hub, tmp_path / "node", clock=lambda: later)
    hub.invitation = hub.invitation.model_copy(update={"kind": "researcher"})
    with pytest.raises(InputError):
        _join(hub, tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_a_hub_with_another_ca_is_refused_before_anything_is_sent(hub: Hub, tmp_path: Path) -> None:
    hub.ca_pem = Authority.create("Evil", datetime.now(UTC)).certificate_pem.decode()
    with pytest.raises(VerificationError) as caught:
        _join(hub, tmp_path / "node")
    assert caught.value.code == "bad-certificate"
    assert hub.enrolments == []
    assert not (tmp_path / "node").exists()


def test_a_ca_appended_to_the_real_one_is_not_trusted(hub: Hub, tmp_path: Path) -> None:
    real = hub.ca_pem
    hub.ca_pem = real + Authority.create("Other", datetime.now(UTC)).certificate_pem.decode()
    trusted: list[str | None] = []

    def client(url: str, ca_pem: str | None) -> httpx.Client:
        trusted.append(ca_pem)
        return httpx.Client(base_url=f"{url}/api/v1", transport=httpx.MockTransport(hub.answer))

    _join(hub, tmp_path / "node", http=client)
    assert trusted == [None, real]
    assert NodeDir(tmp_path / "node").ca.read_text() == real


def test_a_folder_of_something_else_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConflictError):
        _join(hub, tmp_path)
    _join(hub, tmp_path / "node")
    other = Hub()
    with pytest.raises(ConflictError):
        _join(other, tmp_path / "node")


def test_a_certificate_for_another_key_is_refused(hub: Hub, tmp_path: Path) -> None:
    _join(hub, tmp_path / "node")
    _, foreign = make_tls_key_and_csr(NAME)
    hub.enrolments[0] = hub.enrolments[0].model_copy(update={"csr_pem": foreign.decode()})
    hub.approved = True
    with pytest.raises(VerificationError) as caught:
        _join(hub, tmp_path / "node")
    assert caught.value.code == "bad-certificate"
    assert not tls.has_certificate(tmp_path / "node" / "tls")


@pytest.mark.parametrize("status", ["suspended", "removed"])
def test_a_node_that_was_turned_away_is_told(hub: Hub, tmp_path: Path, status: str) -> None:
    hub.status = status
    with pytest.raises(PolicyRefusal):
        _join(hub, tmp_path / "node", wait=True)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json={"odd": 1}),
        httpx.Response(500, json={"detail": "x"}),
        httpx.Response(502, content=b"Bad gateway"),
    ],
)
def test_an_unreadable_hub_is_a_protocol_error(
    hub: Hub, tmp_path: Path, response: httpx.Response
) -> None:
    hub.broken = lambda _request: response
    with pytest.raises(ProtocolError):
        _join(hub, tmp_path / "node")


def test_the_real_client_accepts_only_the_consortiums_ca(hub: Hub) -> None:
    with open_http("https://127.0.0.1:1", hub.ca_pem) as client:
        assert str(client.base_url) == "https://127.0.0.1:1/api/v1/"
        with pytest.raises(httpx.ConnectError):
            client.get("/consortium")


def test_a_wrong_configuration_is_explained(tmp_path: Path) -> None:
    folder = NodeDir(tmp_path)
    with pytest.raises(InputError) as caught:
        folder.load_config()
    assert caught.value.code == "not-found"
    for text in ("name = ", 'name = "x"', "\x00"):
        folder.config.write_text(text)
        with pytest.raises(CohortiumError) as wrong:
            folder.load_config()
        assert wrong.value.code == "bad-config"


def test_the_environment_goes_before_the_file(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _join(hub, tmp_path / "node")
    monkeypatch.setenv("COHORTIUM_NODE_LINK_ADDRESS", "other.example:1")
    assert NodeDir(tmp_path / "node").load_config().link_address == "other.example:1"
    assert json.loads(NodeDir(tmp_path / "node").pending.read_bytes())["enrolled"] is True
