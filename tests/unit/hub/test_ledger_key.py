"""The ledger's key: made once, kept private, and never replaced behind the nodes' backs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.fake_sites import NOW, key

from cohortium.errors import InputError
from cohortium.hub.config import HubConfig
from cohortium.hub.folder import HubFolder, create
from cohortium.hub.ledger_store import Log
from cohortium.hub.store import HubStore


@pytest.fixture
def folder(tmp_path: Path) -> HubFolder:
    return create(tmp_path / "hub", HubConfig(name="Test"))


def test_a_new_consortium_has_a_key_that_nobody_else_reads(folder: HubFolder) -> None:
    assert folder.ledger_file.stat().st_mode & 0o777 == 0o600
    store = folder.store()
    first = folder.ledger_key(store).public
    assert folder.ledger_key(store).public == first
    store.close()


def test_a_folder_that_is_older_than_the_ledger_gets_a_key(folder: HubFolder) -> None:
    folder.ledger_file.unlink()
    store = folder.store()
    made = folder.ledger_key(store).public
    assert folder.ledger_key(store).public == made
    store.close()


def _with_entries(folder: HubFolder) -> HubStore:
    store = folder.store()
    store.members.add_member(name="Alpha", key=key("Alpha").public, node_id="1", now=NOW)
    store.ledger.append(Log("Test", "sha256:" + "c" * 64, folder.ledger_key(store)), NOW)
    return store


def test_a_lost_key_is_not_replaced(folder: HubFolder) -> None:
    store = _with_entries(folder)
    folder.ledger_file.unlink()
    with pytest.raises(InputError, match="backup") as caught:
        folder.ledger_key(store)
    assert caught.value.code == "not-found"
    assert not folder.ledger_file.exists()
    store.close()


def test_a_key_that_others_can_read_is_refused(folder: HubFolder) -> None:
    store = _with_entries(folder)
    folder.ledger_file.chmod(0o644)
    with pytest.raises(InputError):
        folder.ledger_key(store)
    store.close()
