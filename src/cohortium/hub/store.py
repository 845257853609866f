"""Everything the hub remembers, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import OperationalError, ProgrammingError

from cohortium.hub.database import Database
from cohortium.hub.draft_store import DraftStore
from cohortium.hub.ledger_store import LedgerStore
from cohortium.hub.member_store import MemberStore
from cohortium.hub.outbox import Outbox
from cohortium.hub.recovery import RecoveryStore
from cohortium.hub.run_store import RunStore
from cohortium.hub.study_store import StudyStore
from cohortium.hub.tables import members, metadata
from cohortium.hub.task_store import TaskStore

T = TypeVar("T")


class HubStore:
    """Opens (and where new, creates) the hub's database.

    Durability: what a method wrote survives a crash of process and machine once it has returned.
    Large journal objects are not here; see `cohortium.hub.objects`.

    Args:
        url: ``sqlite://`` (memory), ``sqlite:///FILE`` or ``postgresql+psycopg://...``.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        metadata.create_all(self._database.engine)
        _add_columns(self._database)
        self.ledger = LedgerStore(self._database)
        self.members = MemberStore(self._database)
        self.studies = StudyStore(self._database)
        self.drafts = DraftStore(self._database)
        self.runs = RunStore(self._database)
        self.tasks = TaskStore(self._database)
        self.outbox = Outbox(self._database)
        self.recovery = RecoveryStore(self._database)

        self.members.note_all()

    def on_noted(
        self, sequence: Callable[[Connection], T | None], tell: Callable[[bool, T | None], None]
    ) -> None:
        """Have urgent facts put on the ledger by the transaction that notes them.

        Args:
            sequence: Called in it, at its end.
            tell: Called in the writing thread after each transaction that noted facts, with whether
                one was urgent, and what `sequence` returned.
        """
        self._database.sequence = sequence
        self._database.on_noted = tell

    def close(self) -> None:
        """Close all connections."""
        self._database.close()


def _add_columns(database: Database) -> None:
    """Give a database of an earlier release the columns that came since, with their defaults."""
    for table in (members,):
        held = {column["name"] for column in inspect(database.engine).get_columns(table.name)}
        for column in table.columns:
            if column.name in held:
                continue
            with suppress(OperationalError, ProgrammingError), database.write() as c:  # another was
                kind = column.type.compile(database.engine.dialect)  # first
                default = getattr(column.server_default, "arg", None)
                c.exec_driver_sql(
                    f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind} "
                    f"NOT NULL DEFAULT '{default}'"
                )
