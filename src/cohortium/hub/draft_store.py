"""Stored drafts: they lie among the statements, and a study's newest is the one that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select

from cohortium.contract import draft as drafting
from cohortium.contract.draft import DraftLife
from cohortium.contract.model import Draft
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import parse_rfc3339
from cohortium.errors import CohortiumError, InputError
from cohortium.hub.database import Database
from cohortium.hub.outbox import owe
from cohortium.hub.study_store import Said, append
from cohortium.hub.tables import contracts, statements


class DraftStore:
    """Drafts by study."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def record(
        self,
        said: Said,
        change: Callable[[DraftLife | None], DraftLife],
        now: datetime,
        *,
        sites: Iterable[str],
    ) -> DraftLife:
        """Apply a draft or an assignment, note it for the ledger and owe it to `sites`.

        Raises:
            CohortiumError: What `change` says.
        """
        with self._db.write() as c:
            before = self._life(c, said.study)
            after = change(before)
            if before is not None and (before.digest, before.assigned) == (
                after.digest,
                after.assigned,
            ):
                return after
            seq = append(c, said, version=after.draft.version, state="draft", now=now)
            for site in sites:
                if said.action == "draft":
                    owe(c, site, "draft", after.digest)
                elif site != said.author:
                    owe(c, site, "statement", str(seq))
        return after

    def _life(self, c: Connection, study: str) -> DraftLife | None:
        digest = c.execute(
            select(statements.c.contract)
            .where(statements.c.study == study, statements.c.action == "draft")
            .order_by(statements.c.seq.desc())
            .limit(1)
        ).scalar()
        if digest is None:
            return None
        said = self._about(c, digest)
        life = drafting.replay((envelope, at) for envelope, at in said)
        try:
            contract = life.assemble().digest
        except CohortiumError:  # slots are unfilled, or what fills them does not fit
            return life
        proposed = c.execute(select(contracts.c.seq).where(contracts.c.digest == contract)).scalar()
        return replace(life, ended=proposed is not None)

    def _about(self, c: Connection, digest: str) -> list[tuple[bytes, datetime]]:
        rows = c.execute(
            select(statements.c.envelope, statements.c.at)
            .where(statements.c.contract == digest)
            .order_by(statements.c.seq)
        ).all()
        return [(row.envelope, parse_rfc3339(row.at)) for row in rows]

    def life(self, study: str) -> DraftLife:
        """The study's draft, or InputError ``not-found``."""
        with self._db.read() as c:
            life = self._life(c, study)
        if life is None:
            raise InputError("not-found", f"There is no draft of {study!r}.")
        return life

    def studies(self) -> list[str]:
        """The studies that have a draft, newest first."""
        query = (
            select(statements.c.study)
            .where(statements.c.action == "draft")
            .order_by(statements.c.seq.desc())
        )
        with self._db.read() as c:
            return list(dict.fromkeys(c.execute(query).scalars()))

    def envelopes(self, digest: str) -> list[bytes]:
        """The signed draft, then its assignments."""
        with self._db.read() as c:
            return [envelope for envelope, _ in self._about(c, digest)]

    def owe_unknown(self, site: str, heard: set[str]) -> None:
        """Owe a site the drafts with a slot for it of which it does not list every statement."""
        for study in self.studies():
            life = self.life(study)
            if site not in sites_of(life.draft) or life.ended:
                continue
            with self._db.write() as c:
                if any(digest_bytes(said) not in heard for said, _ in self._about(c, life.digest)):
                    owe(c, site, "draft", life.digest)


def sites_of(draft: Draft) -> frozenset[str]:
    """The institutions that a draft is shown to."""
    people = {researcher.name for researcher in draft.recipients} | {draft.proposed_by.name}
    return frozenset(draft.parties.keys() - people)
