"""Everything the hub remembers, on SQLite or PostgreSQL."""

from __future__ import annotations

from cohortium.hub.database import Database
from cohortium.hub.member_store import MemberStore
from cohortium.hub.outbox import Outbox
from cohortium.hub.run_store import RunStore
from cohortium.hub.study_store import StudyStore
from cohortium.hub.tables import metadata


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
        self.members = MemberStore(self._database)
        self.studies = StudyStore(self._database)
        self.runs = RunStore(self._database)
        self.outbox = Outbox(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
