"""What the hub remembers of tasks: where each runs, who handed out keys, how it ended; vault cards.

Facts are noted for the ledger in the transaction that stores the documents that they name.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import parse_rfc3339, to_rfc3339
from cohortium.errors import IntegrityFailure
from cohortium.hub.database import Database
from cohortium.hub.ledger_notes import keep, latest, note, note_change
from cohortium.hub.tables import cards, documents, task_runs
from cohortium.ledger.entry import KeyReleased, RunDecided, SiteDecision


@dataclass(frozen=True)
class Assigned:
    """Where a run is.

    Attributes:
        key: The enclave's, as it was when the run was given to it.
        outcome: Digest of its signed outcome, once that is here.
    """

    run_id: str
    enclave: str
    key: str
    outcome: str | None = None


@dataclass(frozen=True)
class Handed:
    """A lender's release with what it rests on, as signed.

    Attributes:
        recipient: Digest of the key that data keys were sealed for.
        evidence: Nothing where the level asks for none.
    """

    site: str
    recipient: str
    release: bytes
    offer: bytes
    evidence: bytes


class TaskStore:
    """A run's enclave, its lenders' decisions and its outcome."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._deciding = threading.Lock()

    def assign(self, run_id: str, enclave: str, key: str) -> None:
        """The run is that enclave's now, and no other's."""
        values = {"enclave": enclave, "enclave_key": key}
        with self._db.write() as c:
            done = c.execute(update(task_runs).where(task_runs.c.run == run_id).values(**values))
            if done.rowcount != 1:
                c.execute(insert(task_runs).values(run=run_id, **values))

    def assigned(self, run_id: str) -> Assigned | None:
        """Where a run is, if anywhere yet."""
        with self._db.read() as c:
            row = c.execute(select(task_runs).where(task_runs.c.run == run_id)).one_or_none()
        if row is None:
            return None
        return Assigned(row.run, row.enclave, row.enclave_key, row.outcome)

    # What lenders say

    def released(self, run_id: str, handed: Handed) -> None:
        """A lender handed out its keys: its decision and the release, for the ledger."""
        with self._deciding, self._db.write() as c:
            statement = keep(c, run_id, handed.release)
            keep(c, run_id, handed.offer)
            if handed.evidence:
                keep(c, run_id, handed.evidence)
            decision = SiteDecision(decision="accepted", statement=statement)
            if not self._decide(c, run_id, handed.site, decision):
                return
            note(
                c,
                KeyReleased(
                    run_id=run_id,
                    holder=handed.site,
                    recipient=handed.recipient,
                    evidence=statement,
                ),
            )

    def refused(self, run_id: str, site: str, code: str) -> None:
        """A lender does not hand out its keys; after it did, that changes nothing."""
        with self._deciding, self._db.write() as c:
            held = self._decisions(c, run_id).get(site)
            if held is None or held.decision != "accepted":
                self._decide(c, run_id, site, SiteDecision(decision="refused", code=code))

    def _decide(self, c: Connection, run_id: str, site: str, decision: SiteDecision) -> bool:
        sites = {**self._decisions(c, run_id), site: decision}
        return note_change(c, RunDecided(run_id=run_id, sites=sites))

    def _decisions(self, c: Connection, run_id: str) -> dict[str, SiteDecision]:
        data = latest(c, "run.decided", run_id)
        return {} if data is None else dict(RunDecided.from_bytes(data).sites)

    def decisions(self, run_id: str) -> dict[str, SiteDecision]:
        """What each lender that was asked has answered."""
        with self._db.read() as c:
            return self._decisions(c, run_id)

    def statements(self, run_id: str) -> dict[str, str]:
        """Digests of the signed releases of a run, by lender."""
        decisions = self.decisions(run_id).items()
        return {site: one.statement for site, one in decisions if one.statement is not None}

    def document(self, run_id: str, digest: str) -> bytes | None:
        """A document of a run."""
        query = select(documents.c.envelope).where(
            documents.c.digest == digest, documents.c.run == run_id
        )
        with self._db.read() as c:
            found = c.execute(query).scalar()
        return None if found is None else bytes(found)

    # How it ended

    def take_outcome(self, run_id: str, envelope: bytes) -> None:
        """Keep an enclave's signed outcome; the first one counts."""
        with self._db.write() as c:
            digest = keep(c, run_id, envelope)
            c.execute(
                update(task_runs)
                .where(task_runs.c.run == run_id, task_runs.c.outcome.is_(None))
                .values(outcome=digest)
            )

    def outcome(self, run_id: str) -> bytes | None:
        """The envelope of a run's outcome, once it is here."""
        assigned = self.assigned(run_id)
        if assigned is None or assigned.outcome is None:
            return None
        found = self.document(run_id, assigned.outcome)
        if found is None or digest_bytes(found) != assigned.outcome:
            raise IntegrityFailure("broken-store", "A task's outcome is missing.")
        return found

    # Vault cards

    def put_card(self, key: str, name: str, at: datetime, envelope: bytes) -> None:
        """Keep an author's card; an older one than is here changes nothing."""
        values = {"name": name, "at": to_rfc3339(at), "envelope": envelope}
        with self._db.write() as c:
            held = c.execute(select(cards.c.at).where(cards.c.key == key)).scalar()
            if held is None:
                c.execute(insert(cards).values(key=key, **values))
            elif parse_rfc3339(held) < at:
                c.execute(update(cards).where(cards.c.key == key).values(**values))

    def cards(self, keys: Collection[str]) -> dict[str, bytes]:
        """The signed cards of these authors, by key; of whom there is none is left out."""
        query = select(cards.c.key, cards.c.envelope).where(cards.c.key.in_(list(keys)))
        with self._db.read() as c:
            return {row.key: bytes(row.envelope) for row in c.execute(query).all()}
