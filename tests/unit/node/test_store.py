"""The node's memory and its journal."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from cohortium.errors import IntegrityFailure
from cohortium.node import journal
from cohortium.node.store import NodeStore


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore(tmp_path / "node.db")


def _rewrite(store: NodeStore, sql: str, *values: object) -> None:
    """As someone with the file and a database tool would."""
    store.execute("DROP TRIGGER journal_keeps")
    store.execute("DROP TRIGGER journal_stays")
    store.execute(sql, *values)


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.db")
    journal.append(store, "pause")
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_file_that_is_no_database_is_an_integrity_failure(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"not a database, but long enough to look like one" * 50)
    with pytest.raises(IntegrityFailure) as caught:
        NodeStore(tmp_path / "node.db")
    assert caught.value.code == "broken-store"


def test_a_transaction_is_whole_or_nothing(store: NodeStore) -> None:
    def half() -> None:
        with store.transaction():
            store.owe("a", "statement", b"1")
            with store.transaction():
                store.owe("b", "statement", b"2")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        half()
    assert store.owed() == []


def test_the_journal_cannot_be_changed_through_sql(store: NodeStore) -> None:
    journal.append(store, "pause")
    for sql in ("UPDATE journal SET body = x''", "DELETE FROM journal"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE journal SET body = CAST(replace(body, 'me', 'it') AS BLOB) WHERE seq = 2",
        "UPDATE journal SET body = x'ff' WHERE seq = 2",
        "UPDATE journal SET hash = 'sha256:00' WHERE seq = 2",
        "DELETE FROM journal WHERE seq = 2",
        "DELETE FROM journal WHERE seq = 1",
        "UPDATE journal SET seq = 9 WHERE seq = 3",
        "INSERT INTO journal SELECT 4, body, hash FROM journal WHERE seq = 3",
    ],
)
def test_every_change_of_the_journal_breaks_its_chain(store: NodeStore, sql: str) -> None:
    for what in ("pause", "resume", "rotate"):
        journal.append(store, what)
    assert journal.check_chain(store) == journal.head(store)
    _rewrite(store, sql)
    with pytest.raises(IntegrityFailure) as caught:
        journal.check_chain(store)
    assert caught.value.code == "broken-journal"


def test_entries_say_what_they_are_about(store: NodeStore) -> None:
    journal.append(store, "round", {"round": 3, "study": None}, allowed=False, code="run-limit")
    (entry,) = journal.entries(store)
    assert entry.body == {
        "seq": 1,
        "at": entry.body["at"],
        "what": "round",
        "allowed": False,
        "code": "run-limit",
        "round": 3,
    }
    assert journal.entries(store, last=0) == []


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "node.db"

    def write() -> None:
        own = NodeStore(path)
        for _ in range(25):
            journal.append(own, "pause")
        own.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.check_chain(NodeStore(path))[0] == 100


def test_a_newer_message_takes_the_place_of_an_unsent_one(store: NodeStore) -> None:
    store.owe("vote:x", "statement", b"yes")
    store.owe("vote:x", "statement", b"no")
    store.owe("vote:y", "statement", b"yes")
    assert [(owed.topic, owed.body) for owed in store.owed()] == [
        ("vote:x", b"no"),
        ("vote:y", b"yes"),
    ]
    store.settle(store.owed()[0].id, "ok")
    assert [owed.topic for owed in store.owed()] == ["vote:y"]
    assert (store.last_answer("vote:x"), store.last_answer("vote:y")) == ("ok", None)
    assert store.last_answer("vote:z") is None


def test_secrets_of_runs_that_nobody_ended_are_forgotten(store: NodeStore) -> None:
    from cohortium.node.store import StoredRun

    for run_id, admitted_at in (("a", "2026-01-01T00:00:00Z"), ("b", "2026-02-01T00:00:00Z")):
        store.add_run(
            StoredRun(run_id, b"", "", "c", "glm", "p", "{}", b"s" * 32, b"", admitted_at)
        )
    store.expire_runs("2026-01-15T00:00:00Z")
    first, second = store.run("a"), store.run("b")
    assert first is not None
    assert second is not None
    assert (first.secret, first.status) == (None, "cancelled")
    assert (second.secret, second.status) == (b"s" * 32, "open")


def test_a_revocation_is_never_taken_back(store: NodeStore) -> None:
    assert store.revoke("k")
    assert not store.revoke("k")
    assert store.revoked() == {"k"}
