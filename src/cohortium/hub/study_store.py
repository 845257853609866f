"""Stored statements on contracts: a study's life is their replay.

The statements of a contract's parties, in the order in which the hub took them, are all that is
kept of a contract's state; see `cohortium.contract.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife, Version
from cohortium.contract.model import Contract
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import parse_rfc3339, to_rfc3339
from cohortium.errors import ConflictError, InputError, IntegrityFailure
from cohortium.hub.database import Database
from cohortium.hub.ledger_notes import note
from cohortium.hub.outbox import Kind, owe, owe_anew
from cohortium.hub.tables import contracts, ledger_entries, statements
from cohortium.ledger.entry import ContractAction, ContractChanged, ContractState, parse_entry

MAX_LIVES: Final = 256
"""Studies whose lives are kept in memory."""
DRAFTING: Final[tuple[ContractAction, ...]] = ("draft", "assign")


@dataclass(frozen=True)
class Said:
    """A verified statement that is to be recorded; `contract` is a contract's or draft's digest."""

    study: str
    contract: str
    action: ContractAction
    author: str
    key: str
    envelope: bytes
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Statement(Said):
    """A recorded statement, and the state that its contract has with it."""

    seq: int
    at: datetime
    state: str


@lru_cache(maxsize=256)
def _parsed(document: bytes) -> Contract:
    """A contract's canonical form takes milliseconds, and each request asks for it."""
    return Contract.from_bytes(document)


_DOCUMENT = select(contracts.c.document).where(contracts.c.digest == bindparam("of_digest"))


def sites_of(contract: Contract) -> frozenset[str]:
    """The institutions that are told of a contract: who gives data, and who owns what it uses."""
    people = {researcher.name for researcher in contract.recipients}
    people.add(contract.proposed_by.name)
    named = {participant.name for participant in contract.participants}
    return frozenset(named | (set(contract.signatories) - people))


class StudyStore:
    """Contracts by digest, and what was stated about each study."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lives: dict[str, tuple[int, StudyLife]] = {}

    def record(
        self, said: Said, change: Callable[[StudyLife | None], StudyLife], now: datetime
    ) -> Version:
        """Apply a statement to the study's life; it is stored where it changes that.

        In one transaction with it: its fact for the ledger, and word to the sites that it is about.

        Args:
            change: The life with the statement, from the life without it.

        Returns:
            The version that the statement is about, with it.

        Raises:
            CohortiumError: What `change` says.
        """
        with self._db.write() as c:
            before = self._life(c, said.study)
            after = change(before)
            version = after.version(said.contract)
            if before is not None and _known(before) == _known(after):
                if said.action == "sign" and version.in_force:
                    # A node that lost its store signs again.
                    owe(c, said.author, "active", said.contract)
                return version
            if said.action == "propose":
                if before is None:
                    _require_not_lost(c, said.study)
                c.execute(
                    insert(contracts).values(
                        digest=said.contract,
                        study=said.study,
                        document=version.contract.to_bytes(),
                        created_at=to_rfc3339(now),
                    )
                )
            seq = append(c, said, state=version.state, now=now, version=version.contract.version)
            _owe_sites(c, seq, said, before, after)
        return version

    def _life(self, c: Connection, study: str) -> StudyLife | None:
        seen, life = self._lives.get(study, (0, None))
        rows = c.execute(
            select(statements.c.seq, statements.c.envelope, statements.c.at)
            .where(statements.c.study == study, statements.c.seq > seen)
            .where(statements.c.action.not_in(DRAFTING))
            .order_by(statements.c.seq)
        ).all()
        if rows:
            said = [(row.envelope, parse_rfc3339(row.at)) for row in rows]
            life = lifecycle.replay(said, life)
            if len(self._lives) >= MAX_LIVES:
                self._lives.clear()
            self._lives[study] = (rows[-1].seq, life)
        return life

    def life(self, study: str) -> StudyLife:
        """The study's contracts and their states, or InputError ``not-found``."""
        with self._db.read() as c:
            life = self._life(c, study)
        if life is None:
            raise InputError(
                "not-found", f"There is no study {study!r}; `cohortium study list` shows all."
            )
        return life

    def get(self, digest: str) -> Version:
        """The contract of that digest with its state, or InputError ``not-found``."""
        return self.life(self.contract(digest).study).version(digest)

    def contract(self, digest: str) -> Contract:
        """The contract of that digest without its state, or InputError ``not-found``."""
        with self._db.read() as c:
            document = c.execute(_DOCUMENT, {"of_digest": digest}).scalar()
        if document is None:
            raise InputError("not-found", "The hub has no contract with that digest.")
        return _parsed(document)

    def studies(self) -> list[str]:
        """The studies that have a contract, the one with the newest contract first."""
        with self._db.read() as c:
            query = select(contracts.c.study).order_by(contracts.c.seq.desc())
            return list(dict.fromkeys(c.execute(query).scalars()))

    def statements(self, study: str) -> list[Statement]:
        """What was stated about a study's contracts, oldest first."""
        return self._statements(statements.c.study == study, statements.c.action.not_in(DRAFTING))

    def said(self, study: str) -> list[Statement]:
        """What was stated about a study, drafts included, oldest first."""
        return self._statements(statements.c.study == study)

    def _statements(self, *conditions: ColumnElement[bool]) -> list[Statement]:
        query = select(statements).where(*conditions).order_by(statements.c.seq)
        with self._db.read() as c:
            rows = c.execute(query).mappings().all()
        return [
            Statement(
                **{key: row[key] for key in row if key not in {"at", "digest"}},
                at=parse_rfc3339(row["at"]),
            )
            for row in rows
        ]

    def statement(self, seq: int) -> Statement | None:
        """The statement of that number."""
        found = self._statements(statements.c.seq == seq)
        return found[0] if found else None

    def about(self, digest: str) -> list[Statement]:
        """The statements about one contract or draft, oldest first."""
        return self._statements(statements.c.contract == digest)

    def times(self, digest: str) -> dict[tuple[str, str], datetime]:
        """When each author last stated an action about a contract, oldest first."""
        query = (
            select(statements.c.author, statements.c.action, statements.c.at)
            .where(statements.c.contract == digest)
            .order_by(statements.c.seq)
        )
        with self._db.read() as c:
            rows = c.execute(query).all()
        return {(row.author, row.action): parse_rfc3339(row.at) for row in rows}

    def signatures(self, digest: str) -> list[Statement]:
        """The newest signature of each party that has signed."""
        signed = self.get(digest).signed
        said = [one for one in self.about(digest) if one.action in {"propose", "sign"}]
        return list({one.author: one for one in said if one.author in signed}.values())

    def owe_unknown(self, site: str, known: Iterable[str], heard: Iterable[str]) -> None:
        """Owe a site what it does not list of the contracts and drafts that it takes part in.

        Args:
            known: Digests of contracts.
            heard: Digests of the envelopes of transitions, drafts and assignments.
        """
        held, said = set(known), set(heard)
        missing: list[tuple[Kind, str]] = []
        for study in reversed(self.studies()):
            for version in self.life(study).versions:
                if site not in sites_of(version.contract):
                    continue
                if version.digest not in held:
                    if not version.open:
                        continue
                    missing.append(("proposal", version.digest))
                    if version.in_force:
                        missing.append(("active", version.digest))
                missing += [("statement", str(n)) for n in self._transitions(version.digest, said)]
        if missing:
            with self._db.write() as c:
                for kind, subject in missing:
                    owe_anew(c, site, kind, subject)

    def _transitions(self, contract: str, heard: Collection[str]) -> list[int]:
        query = (
            select(statements.c.seq, statements.c.digest)
            .where(statements.c.contract == contract)
            .where(statements.c.action.not_in((*DRAFTING, "propose", "sign")))
            .order_by(statements.c.seq)
        )
        with self._db.read() as c:
            return [row.seq for row in c.execute(query).all() if row.digest not in heard]


def _require_not_lost(c: Connection, study: str) -> None:
    """Refuse a study that is on the ledger and not here; see `cohortium.hub.recovery`."""
    query = select(ledger_entries.c.entry).where(
        ledger_entries.c.kind == "contract", ledger_entries.c.subject == study
    )
    facts = [parse_entry(data).fact for data in c.execute(query).scalars()]
    if any(isinstance(fact, ContractChanged) and fact.action == "propose" for fact in facts):
        raise ConflictError(
            "wrong-state",
            f"This hub took over from a lost one, and the contracts of {study} have not come back "
            "from the nodes yet. Wait for its participants to connect, or choose another name.",
        )


def append(c: Connection, said: Said, *, version: int, state: ContractState, now: datetime) -> int:
    """Store a statement and note it for the ledger; returns its number."""
    digest = digest_bytes(said.envelope)
    seq = c.execute(
        insert(statements).values(
            study=said.study,
            contract=said.contract,
            action=said.action,
            author=said.author,
            key=said.key,
            digest=digest,
            envelope=said.envelope,
            at=to_rfc3339(now),
            reason=said.reason,
            state=state,
        )
    ).inserted_primary_key
    note(
        c,
        ContractChanged(
            study=said.study,
            contract=said.contract,
            version=version,
            action=said.action,
            author=said.author,
            key=said.key,
            statement=digest,
            state=state,
        ),
    )
    if seq is None:
        raise IntegrityFailure("broken-store", "A statement was stored without a number.")
    return int(seq[0])


def _known(life: StudyLife) -> tuple[object, ...]:
    """What a statement adds to: a second suspension like the first is one all the same."""
    return life.said, _standing(life)


def _standing(life: StudyLife) -> list[tuple[object, ...]]:
    return [
        (v.digest, v.state, v.signed, dict(v.refused), dict(v.suspensions), v.ended_by)
        for v in life.versions
    ]


def _owe_sites(
    c: Connection, seq: int, said: Said, before: StudyLife | None, after: StudyLife
) -> None:
    """Word to the sites whose contracts a statement changed."""
    version = after.version(said.contract)
    sites = sites_of(version.contract)
    if said.action == "propose":
        for site in sites:
            owe(c, site, "proposal", said.contract)
    elif said.action != "sign":
        for site in sites - {said.author}:
            owe(c, site, "statement", str(seq))
    elif version.in_force:
        for site in sites:
            owe(c, site, "active", said.contract)
        were_open = {v.digest for v in before.versions if v.open} if before else set()
        for other in after.versions:
            if other.state == "superseded" and other.digest in were_open:
                # The others see it from the signatures of the new version.
                for site in sites_of(other.contract) - sites:
                    owe(c, site, "ended", other.digest)
