"""Stored runs and their results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from cohortium.contract.model import RunRequest
from cohortium.core.canonical import canonical
from cohortium.core.clock import parse_rfc3339, to_rfc3339
from cohortium.core.rest import FINAL, RunInfo
from cohortium.errors import CohortiumError, ConflictError, InputError, PeerError, VerificationError
from cohortium.hub.database import Database
from cohortium.hub.ledger_notes import fits, keep, latest, note, note_change
from cohortium.hub.outbox import owe_all
from cohortium.hub.tables import documents, releases, results, runs, task_runs
from cohortium.ledger.entry import (
    Code,
    Rounds,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    SiteDecision,
    commitment,
)

OPEN = ("queued", "running")


@dataclass(frozen=True)
class StoredRun:
    """A run's record and the researcher's signed request.

    Attributes:
        attempt: 1, and one more with each resume.
        released: Whether nothing holds back its result; False while witnesses are missing.
    """

    info: RunInfo
    request: RunRequest
    envelope: bytes
    attempt: int
    released: bool = True


@lru_cache(maxsize=64)
def _request(envelope: bytes) -> RunRequest:
    """The request, verified when it was submitted and again when first read."""
    return RunRequest.open(envelope)[0]


def _stored(row: Row[Any]) -> StoredRun:
    request = _request(row.request)
    info = RunInfo(
        id=row.id,
        study=row.study,
        contract_digest=row.contract,
        computation=request.computation,
        params=request.params,
        cohort=request.cohort,
        status=row.status,
        researcher=request.researcher,
        participants=tuple(json.loads(row.participants)),
        rounds=row.rounds,
        seconds=row.seconds,
        bytes=json.loads(row.payload_bytes),
        enclave=row.enclave,
        error=None if row.error is None else json.loads(row.error),
        submitted_at=parse_rfc3339(row.submitted_at),
        finished_at=None if row.finished_at is None else parse_rfc3339(row.finished_at),
        progress=1.0 if row.status == "succeeded" else 0.0,
    )
    released = row.nonce is None or row.final_size is not None
    return StoredRun(info, request, row.request, row.attempt, released)


def _runs() -> Select[Any]:
    return (
        select(runs, releases.c.nonce, releases.c.size.label("final_size"), task_runs.c.enclave)
        .join(releases, releases.c.run == runs.c.id, isouter=True)
        .join(task_runs, task_runs.c.run == runs.c.id, isouter=True)
    )


_BY_ID = _runs().where(runs.c.id == bindparam("of_run"))
_END = update(runs).where(runs.c.id == bindparam("of_run"), runs.c.status.in_(OPEN))
_CONTRACT = select(runs.c.contract).where(runs.c.id == bindparam("of_run"))


class RunStore:
    """A run ends once: every change to a final state is conditional on the run being open.

    What happens to a run is noted for the ledger in the transaction that makes it so.
    """

    def __init__(self, database: Database, random: Callable[[int], bytes] = os.urandom) -> None:
        self._db = database
        self._random = random

    def submit(self, request: RunRequest, envelope: bytes, now: datetime) -> bool:
        """Store a new run; False where the same envelope is stored already.

        Raises:
            VerificationError: ``replayed`` where the run id belongs to another request.
        """
        try:
            return self._submit(request, envelope, now)
        except IntegrityError:  # another connection was first; now its row is there
            return self._submit(request, envelope, now)

    def _submit(self, request: RunRequest, envelope: bytes, now: datetime) -> bool:
        with self._db.write() as c:
            known = c.execute(select(runs.c.request).where(runs.c.id == request.run_id)).scalar()
            if known is not None:
                if known != envelope:
                    raise VerificationError("replayed", "The run id was used before.")
                return False
            c.execute(
                insert(runs).values(
                    id=request.run_id,
                    study=request.study,
                    contract=request.contract_digest,
                    request=envelope,
                    status="queued",
                    attempt=1,
                    participants=b"[]",
                    rounds=0,
                    seconds=0.0,
                    payload_bytes=b"{}",
                    submitted_at=to_rfc3339(now),
                )
            )
            note(c, RunSubmitted(**_ordered(request), request=keep(c, request.run_id, envelope)))
        return True

    def deny(self, request: RunRequest, envelope: bytes, code: Code) -> None:
        """Record a signed request that was refused; the same one again is no news."""
        with self._db.write() as c:
            digest = keep(c, request.run_id, envelope)
            note_change(c, RunDenied(**_ordered(request), request=digest, code=code))

    def decided(self, run_id: str, answers: Mapping[str, bytes | CohortiumError]) -> None:
        """Record each participant's answer to a request: its signed round key, or why not."""
        with self._db.write() as c:
            sites = {site: _decision(c, run_id, answer) for site, answer in answers.items()}
            note_change(c, RunDecided(run_id=run_id, sites=sites))

    def find(self, run_id: str) -> StoredRun | None:
        """The run of that id."""
        with self._db.read() as c:
            row = c.execute(_BY_ID, {"of_run": run_id}).one_or_none()
        return None if row is None else _stored(row)

    def get(self, run_id: str) -> StoredRun:
        """The run, or InputError ``not-found``."""
        found = self.find(run_id)
        if found is None:
            raise InputError("not-found", "There is no such run.")
        return found

    def contract_of(self, run_id: str) -> str:
        """The digest of a run's contract, or InputError ``not-found``."""
        with self._db.read() as c:
            digest = c.execute(_CONTRACT, {"of_run": run_id}).scalar()
        if digest is None:
            raise InputError("not-found", "There is no such run.")
        return str(digest)

    def list(self, study: str | None = None, limit: int = 1000) -> Sequence[StoredRun]:
        """Newest first."""
        query = _runs().order_by(runs.c.seq.desc()).limit(limit)
        if study is not None:
            query = query.where(runs.c.study == study)
        with self._db.read() as c:
            return [_stored(row) for row in c.execute(query).all()]

    def open(self) -> Sequence[StoredRun]:
        """Runs that are queued or running."""
        query = _runs().where(runs.c.status.in_(OPEN)).order_by(runs.c.seq)
        with self._db.read() as c:
            return [_stored(row) for row in c.execute(query).all()]

    def accepted(self, run_id: str) -> frozenset[str]:
        """Digests of the sites' round keys after the last decisions on a run."""
        with self._db.read() as c:
            data = latest(c, "run.decided", run_id)
        sites = {} if data is None else RunDecided.from_bytes(data).sites
        return frozenset(one.statement for one in sites.values() if one.statement is not None)

    def finish(
        self,
        run_id: str,
        status: str,
        *,
        sites: Sequence[str],
        now: datetime,
        rounds: int,
        seconds: float,
        payload_bytes: Mapping[str, int],
        result: bytes | None = None,
        error: CohortiumError | None = None,
        end_sites: Sequence[str] = (),
        sums: Sequence[Rounds] = (),
        suppressed: int = 0,
    ) -> bool:
        """End an open run, with its result in the same transaction; False where it has ended.

        Args:
            end_sites: Sites that are owed word that the run is over.
            sums: Over whom its rounds were.
            suppressed: Numbers that disclosure control left out of the result.
        """
        if status not in FINAL or (status == "succeeded") != (result is not None):
            raise RuntimeError("a run that succeeded, and only that, has a result")
        with self._db.write() as c:
            values = {
                "of_run": run_id,
                "status": status,
                "participants": canonical(list(sites)),
                "rounds": rounds,
                "seconds": seconds,
                "payload_bytes": canonical(dict(payload_bytes)),
                "error": None if error is None else json.dumps(error.to_wire()).encode(),
                "finished_at": to_rfc3339(now),
            }
            ended = c.execute(_END, values)
            if ended.rowcount != 1:
                return False
            committed = None
            if result is not None:
                nonce = self._random(32)
                committed = commitment(nonce, result)
                c.execute(insert(results), {"run": run_id, "document": result})
                c.execute(insert(releases), {"run": run_id, "nonce": nonce})
            fact = {
                "run_id": run_id,
                "status": status,
                "rounds": tuple(sums),
                "result": committed,
                "suppressed": suppressed,
                "code": None if error is None else error.code,
            }
            _note_end(c, RunEnded.model_validate(fact))
            owe_all(c, end_sites, "run-end", run_id)
        return True

    def cancel(
        self,
        run_id: str,
        now: datetime,
        end_sites: Sequence[str],
        sums: Sequence[Rounds] = (),
    ) -> None:
        """Cancel an open or failed run.

        Raises:
            ConflictError: ``wrong-state``.
        """
        with self._db.write() as c:
            done = c.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.status.in_((*OPEN, "failed")))
                .values(status="cancelled", finished_at=to_rfc3339(now))
            )
            if done.rowcount != 1:
                raise ConflictError("wrong-state", "The run has ended already.")
            _note_end(c, RunEnded(run_id=run_id, status="cancelled", rounds=tuple(sums)))
            owe_all(c, end_sites, "run-end", run_id)

    def reopen(self, run_id: str) -> int:
        """Queue a failed run again; returns the number of the new attempt.

        Raises:
            ConflictError: ``wrong-state``.
        """
        with self._db.write() as c:
            done = c.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.status == "failed")
                .values(status="queued", error=None, finished_at=None, attempt=runs.c.attempt + 1)
            )
            if done.rowcount != 1:
                raise ConflictError("wrong-state", "Only a failed run can be resumed.")
            return int(c.execute(select(runs.c.attempt).where(runs.c.id == run_id)).scalar_one())

    def documents(self, run_id: str) -> dict[str, bytes]:
        """The signed documents that entries about a run name, by digest."""
        query = select(documents.c.digest, documents.c.envelope).where(documents.c.run == run_id)
        with self._db.read() as c:
            return {row.digest: bytes(row.envelope) for row in c.execute(query)}

    def result(self, run_id: str) -> bytes | None:
        """The result's JSON bytes."""
        with self._db.read() as c:
            return c.execute(select(results.c.document).where(results.c.run == run_id)).scalar()


def _note_end(c: Connection, fact: RunEnded) -> None:
    """Note how a run ended; without its rounds where they do not fit and no result rests on them.

    Raises:
        InputError: ``too-large`` of a run that succeeded.
    """
    if fits(fact):
        note(c, fact)
    elif fact.status == "succeeded":
        raise InputError(
            "too-large",
            "The rounds of this run were over so many different sets of sites that they do not fit "
            "into an entry of the ledger; order fewer rounds, or order it when fewer sites are "
            "likely to drop out.",
        )
    else:
        note(c, fact.model_copy(update={"rounds": ()}))


def _ordered(request: RunRequest) -> dict[str, str]:
    """What the ledger holds of a request."""
    return {
        "run_id": request.run_id,
        "study": request.study,
        "contract": request.contract_digest,
        "computation": request.computation,
        "researcher": request.researcher,
    }


def _decision(c: Connection, run_id: str, answer: bytes | CohortiumError) -> SiteDecision:
    if isinstance(answer, bytes):
        return SiteDecision(decision="accepted", statement=keep(c, run_id, answer))
    absent = isinstance(answer, PeerError) and answer.code != "peer-failed"
    return SiteDecision(decision="absent" if absent else "refused", code=answer.code)
