"""Stored contracts and the sites' votes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, insert, select, update

from cohortium.contract.model import Contract
from cohortium.core.clock import parse_rfc3339, to_rfc3339
from cohortium.errors import ConflictError, InputError
from cohortium.hub.database import Database
from cohortium.hub.outbox import owe
from cohortium.hub.tables import contracts, votes


@dataclass(frozen=True)
class Vote:
    """A site's signed answer; `reason` is set where it refused."""

    site: str
    envelope: bytes
    reason: str | None
    at: datetime


@dataclass(frozen=True)
class StoredContract:
    """A contract, how far it is, and its votes. `status` is proposed, active or refused."""

    contract: Contract
    digest: str
    proposal: bytes
    status: str
    votes: tuple[Vote, ...]

    @property
    def signatures(self) -> list[bytes]:
        """The envelopes of the sites that signed."""
        return [vote.envelope for vote in self.votes if vote.reason is None]


@lru_cache(maxsize=256)
def _parsed(document: bytes) -> Contract:
    """A contract's canonical form takes milliseconds, and each request asks for it."""
    return Contract.from_bytes(document)


class StudyStore:
    """Contracts by digest; a study is the newest contract under its id."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def propose(self, contract: Contract, envelope: bytes, now: datetime) -> None:
        """Store a proposal and owe it to its participants; the same one again changes nothing.

        Raises:
            ConflictError: ``already-exists`` where the study has another contract in force.
        """
        digest = contract.digest
        with self._db.write() as c:
            rows = c.execute(select(contracts).where(contracts.c.study == contract.study)).all()
            if any(row.digest == digest for row in rows):
                return
            for row in rows:
                expires = _parsed(row.document).expires_at
                if row.status != "refused" and now < expires:
                    raise ConflictError(
                        "already-exists",
                        f"The study {contract.study} has a contract already: choose another id.",
                    )
            c.execute(
                insert(contracts).values(
                    digest=digest,
                    study=contract.study,
                    document=contract.to_bytes(),
                    proposal=envelope,
                    status="proposed",
                    created_at=to_rfc3339(now),
                )
            )
            for participant in contract.participants:
                owe(c, participant.name, "proposal", digest)

    def vote(
        self, digest: str, *, site: str, envelope: bytes, reason: str | None, now: datetime
    ) -> str:
        """Record a verified vote; the last one counts until the contract is active.

        When the last signature arrives the contract becomes active, which is then owed to all.

        Returns:
            The contract's status after the vote.

        Raises:
            ConflictError: ``wrong-state`` for a refusal of an active contract.
        """
        with self._db.write() as c:
            stored = self._get(c, digest)
            if stored.status == "active":
                if reason is not None:
                    raise ConflictError("wrong-state", "The contract is active already.")
                owe(c, site, "active", digest)  # a node that lost its store signs again
                return stored.status
            c.execute(votes.delete().where(votes.c.contract == digest, votes.c.site == site))
            c.execute(
                insert(votes).values(
                    contract=digest, site=site, envelope=envelope, reason=reason, at=to_rfc3339(now)
                )
            )
            return self._settle(c, self._get(c, digest))

    def _settle(self, c: Connection, stored: StoredContract) -> str:
        names = {participant.name for participant in stored.contract.participants}
        signed = {vote.site for vote in stored.votes if vote.reason is None}
        status = "proposed"
        if any(vote.reason is not None for vote in stored.votes):
            status = "refused"
        elif signed >= names:
            status = "active"
            for name in names:
                owe(c, name, "active", stored.digest)
        if status != stored.status:
            c.execute(
                update(contracts).where(contracts.c.digest == stored.digest).values(status=status)
            )
        return status

    def _get(self, c: Connection, digest: str) -> StoredContract:
        row = c.execute(select(contracts).where(contracts.c.digest == digest)).one_or_none()
        if row is None:
            raise InputError("not-found", "The hub has no contract with that digest.")
        ballots = c.execute(
            select(votes).where(votes.c.contract == digest).order_by(votes.c.at, votes.c.site)
        ).all()
        return StoredContract(
            contract=_parsed(row.document),
            digest=row.digest,
            proposal=row.proposal,
            status=row.status,
            votes=tuple(
                Vote(ballot.site, ballot.envelope, ballot.reason, parse_rfc3339(ballot.at))
                for ballot in ballots
            ),
        )

    def get(self, digest: str) -> StoredContract:
        """The contract of that digest, or InputError ``not-found``."""
        with self._db.read() as c:
            return self._get(c, digest)

    def contract(self, digest: str) -> Contract:
        """The contract of that digest without its votes, or InputError ``not-found``."""
        with self._db.read() as c:
            document = c.execute(
                select(contracts.c.document).where(contracts.c.digest == digest)
            ).scalar()
        if document is None:
            raise InputError("not-found", "The hub has no contract with that digest.")
        return _parsed(document)

    def newest(self, study: str) -> StoredContract:
        """The newest contract of a study, or InputError ``not-found``."""
        with self._db.read() as c:
            digest = c.execute(
                select(contracts.c.digest)
                .where(contracts.c.study == study)
                .order_by(contracts.c.seq.desc())
                .limit(1)
            ).scalar()
            if digest is None:
                raise InputError(
                    "not-found", f"There is no study {study!r}; `cohortium study list` shows all."
                )
            return self._get(c, digest)

    def all(self) -> list[StoredContract]:
        """Every contract, newest first."""
        with self._db.read() as c:
            digests = c.execute(
                select(contracts.c.digest).order_by(contracts.c.seq.desc())
            ).scalars()
            return [self._get(c, digest) for digest in list(digests)]

    def owe_unknown(self, site: str, known: Iterable[str]) -> None:
        """Owe a site the contracts that it takes part in and does not list."""
        held = set(known)
        missing = [
            stored
            for stored in self.all()
            if stored.digest not in held
            and stored.status != "refused"
            and stored.contract.participant(site) is not None
        ]
        if not missing:
            return
        with self._db.write() as c:
            for stored in missing:
                owe(c, site, "proposal", stored.digest)
                if stored.status == "active":
                    owe(c, site, "active", stored.digest)
