"""From an invitation to an enclave's certificate, against a hub played by the test."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.support.joining_hub import NAME, JoiningHub

from cohortium.crypto import tls_keys
from cohortium.errors import InputError
from cohortium.node import join as node_join
from cohortium.worker.folder import PREFERRED, EnclaveConfig, EnclaveDir
from cohortium.worker.join import join
from cohortium.worker.main import require_joined


def test_an_enclave_joins_as_a_node_does_and_keeps_its_settings(tmp_path: Path) -> None:
    hub, folder = JoiningHub("enclave"), EnclaveDir(tmp_path / "enclave")
    text = hub.invitation.to_text()
    waiting = join(text, folder.path, wait=False, http=hub.client, proxy="p:3128")
    assert waiting.status == "pending"
    with pytest.raises(InputError, match="cohortium enclave init"):
        require_joined(folder)
    hub.approved = True
    joined = join(text, folder.path, wait=True, http=hub.client)
    assert (joined.status, joined.key) == ("approved", waiting.key)
    config = folder.load_config()
    assert (config.name, config.link_address, config.proxy) == (NAME, "hub.example:9443", "p:3128")
    assert config.executors == PREFERRED
    assert "process" not in config.executors
    assert config.memory_bytes > 0
    assert folder.load_identity(config).key.public == joined.key
    assert tls_keys.has_certificate(folder.tls)
    require_joined(folder)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.contract_key.stat().st_mode) == 0o600


def test_an_enclave_joins_again_and_keeps_its_settings(tmp_path: Path) -> None:
    hub, folder = JoiningHub("enclave"), EnclaveDir(tmp_path / "enclave")
    hub.approved = True
    first = join(hub.invitation.to_text(), folder.path, wait=True, http=hub.client, proxy="p:3128")
    folder.save_config(folder.load_config().model_copy(update={"max_tasks": 4}))
    hub.enrolments.clear()
    hub.invitation = hub.invitation.model_copy(update={"secret": "t" * 43})
    again = join(hub.invitation.to_text(), folder.path, wait=True, http=hub.client)
    assert again == first
    config = folder.load_config()
    assert (config.max_tasks, config.proxy) == (4, "p:3128")
    assert tls_keys.latest(folder.tls) == 2


def test_each_invitation_is_for_its_own_command(tmp_path: Path) -> None:
    hub = JoiningHub("site")
    with pytest.raises(InputError, match="cohortium node join"):
        join(hub.invitation.to_text(), tmp_path / "a", wait=False, http=hub.client)
    hub = JoiningHub("researcher")
    with pytest.raises(InputError, match="cohortium user create"):
        join(hub.invitation.to_text(), tmp_path / "a", wait=False, http=hub.client)
    hub = JoiningHub("enclave")
    with pytest.raises(InputError, match="cohortium enclave init"):
        node_join.join(hub.invitation.to_text(), tmp_path / "a", wait=False, http=hub.client)
    assert not (tmp_path / "a").exists()


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = EnclaveDir(tmp_path)
    made = EnclaveConfig(
        name='An "island"',
        consortium="Test",
        consortium_fingerprint="sha256:" + "c" * 64,
        hub_url="https://hub.example",
        link_address="hub.example:1",
        executors=("tdx",),
        max_tasks=3,
        max_memory_bytes=1 << 30,
    )
    folder.save_config(made)
    assert folder.load_config() == made
    folder.config.write_text(folder.config.read_text() + "max_task = 4\n")
    with pytest.raises(InputError, match="max_task"):
        folder.load_config()
    with pytest.raises(InputError, match="cohortium enclave init"):
        EnclaveDir(tmp_path / "none").load_config()
