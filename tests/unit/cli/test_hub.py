from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cohortium.cli.hub import app
from cohortium.core.invitation import Invitation
from cohortium.crypto.authority import make_tls_key_and_csr
from cohortium.crypto.enrolment import SiteEnrolment, UserEnrolment
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, InputError
from cohortium.hub.config import HubConfig
from cohortium.hub.folder import HubFolder

KEY = SigningKey.from_seed(b"\x05" * 32)
OTHER = SigningKey.from_seed(b"v" * 32)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    made = run("init", str(folder), "--name", 'Lung "A" 北京', "--rest-port", "8443")
    assert made["fingerprint"].startswith("sha256:")
    return folder


def run(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else None


def test_init_writes_private_files_and_refuses_a_used_folder(hub: Path) -> None:
    assert stat.S_IMODE(hub.stat().st_mode) == 0o700
    for secret in ("hub.toml", "ca/ca.key", "tls/hub.key"):
        assert stat.S_IMODE((hub / secret).stat().st_mode) == 0o600
    config = HubConfig.load(hub)
    assert (config.name, config.rest_port) == ('Lung "A" 北京', 8443)
    run("init", str(hub), code=ConflictError.exit_code)
    run("members", "--dir", str(hub / "nothing"), code=InputError.exit_code)
    run("init", str(hub.parent / "other"), "--rest-port", "70000", code=InputError.exit_code)


def test_the_operators_commands(hub: Path) -> None:
    there = ("--dir", str(hub))
    made = Invitation.from_text(run("invite", "Alpha", *there)["invitation"])
    assert (made.hub, made.kind) == ("https://127.0.0.1:8443", "site")
    folder = HubFolder(hub)
    store = folder.store()
    membership = folder.membership(store)
    membership.enrol(
        SiteEnrolment(
            ca=made.ca,
            secret=made.secret,
            name="Alpha",
            key=KEY.public,
            csr_pem=make_tls_key_and_csr("node")[1].decode(),
        ).sign(KEY)
    )
    (row,) = run("members", *there)
    assert (row["name"], row["status"], row["connected"]) == ("Alpha", "pending", False)
    assert run("approve", "Alpha", *there)["status"] == "approved"
    run("approve", "Alpha", *there, code=ConflictError.exit_code)
    assert run("suspend", "Alpha", *there)["status"] == "suspended"
    assert run("reinstate", "Alpha", *there)["status"] == "approved"
    assert run("revoke", "Alpha", *there)["revoked"] == 1
    assert run("remove", "Alpha", *there)["status"] == "removed"
    person = Invitation.from_text(run("invite", "Ada", "--researcher", *there)["invitation"])
    membership.enrol_user(
        UserEnrolment(ca=made.ca, secret=person.secret, name="Ada", key=KEY.public).sign(KEY)
    )
    assert [user["status"] for user in run("users", *there)] == ["active"]
    assert run("remove-user", "Ada", *there)["status"] == "removed"
    run("remove-user", "Ada", *there, code=InputError.exit_code)
    vault = Invitation.from_text(run("invite", "Vault", "--enclave", *there)["invitation"])
    assert vault.kind == "enclave"
    run("invite", "Vault", "--enclave", "--researcher", *there, code=InputError.exit_code)
    membership.add("Vault", OTHER.public, "enclave")
    (row,) = run("enclaves", *there)
    assert (row["name"], row["status"], row["connected"]) == ("Vault", "approved", False)
    assert [row["name"] for row in run("members", *there)] == ["Alpha"]
    assert run("suspend", "Vault", *there)["status"] == "suspended"
    store.close()


def test_an_invitation_needs_an_address(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    run("init", str(folder))
    run("invite", "Alpha", "--dir", str(folder), code=ConflictError.exit_code)
    HubFolder(folder).write_address(1234, 1235)
    text = run("invite", "Alpha", "--dir", str(folder))["invitation"]
    assert Invitation.from_text(text).hub == "https://127.0.0.1:1234"


def test_one_process_serves_and_tells_who_is_connected(hub: Path) -> None:
    folder = HubFolder(hub)
    assert folder.connected() == frozenset()
    with folder.serving():
        folder.write_connected(["Alpha"])
        assert folder.connected() == {"Alpha"}
        with pytest.raises(ConflictError), HubFolder(hub).serving():
            pass
    assert folder.connected() == frozenset()


def test_the_file_is_checked_and_the_environment_comes_first(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHORTIUM_HUB_ROUND_TIMEOUT_S", "7")
    assert HubConfig.load(hub).round_timeout_s == 7
    monkeypatch.delenv("COHORTIUM_HUB_ROUND_TIMEOUT_S")
    path = hub / "hub.toml"
    good = path.read_text()
    for bad in ("typo = 1\n", "rest_port = 0\n", "round_timeout_s =\n"):
        path.write_text(good + bad)
        with pytest.raises(InputError) as caught:
            HubConfig.load(hub)
        assert caught.value.code == "bad-config"
