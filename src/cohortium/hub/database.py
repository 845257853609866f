"""One SQLAlchemy engine for SQLite (a file or in memory) and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

from cohortium.errors import InputError

BUSY_TIMEOUT_MS = 30_000
NOTED = "cohortium ledger"
"""Key in a connection's `info`: facts were noted in its transaction; True where one is urgent."""


def _sqlite_engine(url: str) -> Engine:
    """An engine in WAL mode whose writing transactions take the write lock at once.

    A deferred transaction that reads first can fail when it turns into a writer; an immediate one
    waits.
    """
    in_memory = make_url(url).database in {None, "", ":memory:"}
    options: dict[str, Any] = {"poolclass": StaticPool} if in_memory else {}
    engine = create_engine(url, connect_args={"check_same_thread": False}, **options)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            "journal_mode=WAL",
            "synchronous=FULL",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("reads", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Database:
    """Short transactions; safe from several threads and processes.

    Args:
        url: ``sqlite://`` (memory), ``sqlite:///FILE`` or ``postgresql+psycopg://...``.

    Attributes:
        sequence: Called in a transaction that noted an urgent fact, before its commit; what it
            returns goes to `on_noted`.
        on_noted: Called in the writing thread after a commit that noted facts for the ledger:
            whether one of them is urgent, and what `sequence` returned.
    """

    def __init__(self, url: str) -> None:
        self.sequence: Callable[[Connection], Any] = lambda _connection: None
        self.on_noted: Callable[[bool, Any], None] = lambda _urgent, _sequenced: None
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise InputError("bad-config", "database_url is not a database URL.") from error
        self._guard: AbstractContextManager[Any] = nullcontext()
        self._one_writer: AbstractContextManager[Any] = nullcontext()
        if parsed.get_backend_name() == "sqlite":
            self.engine = _sqlite_engine(url)
            if isinstance(self.engine.pool, StaticPool):
                # One connection for all threads: transactions must not interleave.
                self._guard = threading.RLock()
            else:
                # SQLite makes a writer that finds the file locked sleep for milliseconds; threads
                # of this process take turns without.
                self._one_writer = threading.Lock()
        else:
            try:
                self.engine = create_engine(url, pool_pre_ping=True)
            except ImportError as error:
                raise InputError(
                    "missing-extra", "PostgreSQL needs: pip install 'cohortium[postgres]'"
                ) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed and durable when the block ends without an error."""
        with self._guard, self._one_writer, self.engine.begin() as connection:
            connection.info.pop(NOTED, None)  # of a transaction that failed
            yield connection
            urgent = connection.info.pop(NOTED, None)
            sequenced = self.sequence(connection) if urgent else None
        if urgent is not None:
            self.on_noted(urgent, sequenced)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Reads; each statement sees what is committed then."""
        with self._guard, self.engine.connect().execution_options(reads=True) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        with self._guard:
            self.engine.dispose()
