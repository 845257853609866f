"""Which runs the enclave began, and how they ended: one SQLite file, durable at each step.

Keys are in memory only, so that a run which was begun and not ended when the process died cannot
go on; no run is begun twice.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cohortium.core.clock import Clock, system_clock, to_rfc3339
from cohortium.errors import IntegrityFailure

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, request TEXT NOT NULL, study TEXT NOT NULL, task TEXT NOT NULL,
    executor TEXT NOT NULL, begun_at TEXT NOT NULL, ended_at TEXT, how TEXT,
    outcome BLOB, error BLOB, sent INTEGER NOT NULL DEFAULT 0
) STRICT;
"""
_COLUMNS: Final = (
    "run_id, request, study, task, executor, begun_at, ended_at, how, outcome, error, sent"
)


@dataclass(frozen=True)
class StoredRun:
    """A run that this enclave began.

    Attributes:
        request: Digest of the researcher's request.
        how: Its end, or the code of the error that ended it; None while it runs.
        outcome: Envelope of its `TaskOutcome`.
        error: The error on the wire, where it has no outcome.
        sent: Whether the hub has acknowledged how it ended.
    """

    run_id: str
    request: str
    study: str
    task: str
    executor: str
    begun_at: str
    ended_at: str | None
    how: str | None
    outcome: bytes | None
    error: bytes | None
    sent: bool


class RunStore:
    """The runs of an enclave.

    Args:
        path: The database file, or ``:memory:``.
    """

    def __init__(self, path: Path | str, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        try:
            if str(path) != ":memory:":
                Path(path).touch(mode=0o600)
            self._db = sqlite3.connect(
                str(path), isolation_level=None, check_same_thread=False, timeout=10
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise IntegrityFailure(
                "broken-store", f"The enclave's database {path} cannot be used: {error}."
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def begin(self, run_id: str, request: str, study: str, task: str, executor: str) -> None:
        """Write down that a run begins, before anything of it does."""
        self._run(
            "INSERT INTO runs (run_id, request, study, task, executor, begun_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(run_id, request, study, task, executor, self._now()),
        )

    def end(
        self, run_id: str, how: str, *, outcome: bytes | None = None, error: bytes | None = None
    ) -> None:
        """Write down how it ended, before the hub hears of it."""
        self._run(
            "UPDATE runs SET ended_at = ?, how = ?, outcome = ?, error = ? "
            "WHERE run_id = ? AND how IS NULL",
            *(self._now(), how, outcome, error, run_id),
        )

    def sent(self, run_id: str) -> None:
        """The hub knows how it ended."""
        self._run("UPDATE runs SET sent = 1 WHERE run_id = ?", run_id)

    def find(self, run_id: str) -> StoredRun | None:
        """The run of that id."""
        rows = self._run(f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?", run_id)  # noqa: S608
        return _stored(rows[0]) if rows else None

    def under_way(self) -> list[StoredRun]:
        """Runs that were begun and did not end."""
        return self._select("WHERE how IS NULL")

    def owed(self) -> list[StoredRun]:
        """Runs of which the hub does not know yet how they ended."""
        return self._select("WHERE how IS NOT NULL AND sent = 0")

    def latest(self, most: int = 20) -> list[StoredRun]:
        """The newest, newest first."""
        return self._select("ORDER BY begun_at DESC, rowid DESC LIMIT ?", most)

    def _select(self, condition: str, *values: Any) -> list[StoredRun]:
        rows = self._run(f"SELECT {_COLUMNS} FROM runs {condition}", *values)  # noqa: S608
        return [_stored(row) for row in rows]

    def _now(self) -> str:
        return to_rfc3339(self._clock())

    def _run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def _stored(row: tuple[Any, ...]) -> StoredRun:
    return replace(StoredRun(*row), sent=bool(row[-1]))
