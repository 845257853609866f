"""Getting back the contracts that a lost hub held, from the nodes that hold them.

The ledger that was taken over names each statement by digest, and says what it was and when it was
taken; so it does not matter which node gives it back. A study is there again when all its
statements are. What was still being drafted is lost, and so is a contract whose statements no node
gives back: it is drafted or proposed anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select

from cohortium.contract import lifecycle
from cohortium.contract.model import Contract
from cohortium.contract.statements import Transition, open_statement
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import to_rfc3339
from cohortium.errors import CohortiumError, PeerError
from cohortium.hub.database import Database
from cohortium.hub.ledger_store import TAKEN_OVER
from cohortium.hub.study_store import DRAFTING
from cohortium.hub.tables import contracts, ledger_entries, recovered, statements
from cohortium.ledger.entry import ContractChanged, parse_entry
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect
from cohortium.link.ports import Peers

logger = logging.getLogger(__name__)

ASKED_AT_ONCE: Final = 200
ASK_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class _Lost:
    """A statement that stands on the ledger; `at` is when."""

    at: datetime
    fact: ContractChanged


class RecoveryStore:
    """Which statements are on the ledger and not in the database, and those on their way back."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def _lost(self, c: Connection) -> dict[str, list[_Lost]]:
        """By study, all its statements in order, of studies that the database does not have."""
        taken_over = select(ledger_entries.c.position).where(ledger_entries.c.kind == TAKEN_OVER)
        last = c.execute(taken_over.order_by(ledger_entries.c.position.desc()).limit(1)).scalar()
        if last is None:
            return {}
        rows = c.execute(
            select(ledger_entries.c.entry)
            .where(ledger_entries.c.kind == "contract", ledger_entries.c.position < last)
            .order_by(ledger_entries.c.position)
        ).scalars()
        held = set(c.execute(select(contracts.c.study).distinct()).scalars())
        out: dict[str, list[_Lost]] = {}
        for data in rows:
            entry = parse_entry(data)
            fact = entry.fact
            if isinstance(fact, ContractChanged) and fact.action not in DRAFTING:
                out.setdefault(fact.study, []).append(_Lost(entry.at, fact))
        return {study: lost for study, lost in out.items() if study not in held}

    def missing(self) -> list[str]:
        """Digests of the statements that are to be asked for."""
        with self._db.read() as c:
            wanted = [lost.fact.statement for all_ in self._lost(c).values() for lost in all_]
            have = set(c.execute(select(recovered.c.digest)).scalars())
        return [digest for digest in dict.fromkeys(wanted) if digest not in have]

    def take(self, envelopes: Iterable[bytes]) -> list[str]:
        """Keep what the ledger names, and put back the studies that are complete; which.

        Anything else is left.
        """
        found = {digest_bytes(envelope): envelope for envelope in envelopes}
        back = []
        with self._db.write() as c:
            lost = self._lost(c)
            have = {row.digest: bytes(row.envelope) for row in c.execute(select(recovered)).all()}
            wanted = {one.fact.statement for all_ in lost.values() for one in all_}
            for digest in (found.keys() & wanted) - have.keys():
                c.execute(insert(recovered).values(digest=digest, envelope=found[digest]))
                have[digest] = found[digest]
            for study, all_ in lost.items():
                if all(one.fact.statement in have for one in all_) and _put_back(c, all_, have):
                    back.append(study)
        return back


def _put_back(c: Connection, lost: Sequence[_Lost], envelopes: dict[str, bytes]) -> bool:
    """Store a study's statements as they were; False where they do not make a study's life."""
    said = [(one, envelopes[one.fact.statement]) for one in lost]
    study = lost[0].fact.study
    try:
        lifecycle.replay((envelope, one.at) for one, envelope in said)
        rows = [_row(one, envelope) for one, envelope in said]
    except CohortiumError as error:
        logger.error("the statements on study %s are not a study's: %s", study, error.message)
        return False
    for one, envelope in said:
        if one.fact.action == "propose":
            contract, _ = Contract.open(envelope)
            c.execute(
                insert(contracts).values(
                    digest=contract.digest,
                    study=study,
                    document=contract.to_bytes(),
                    created_at=to_rfc3339(one.at),
                )
            )
    c.execute(insert(statements), rows)
    return True


def _row(one: _Lost, envelope: bytes) -> dict[str, object]:
    fact = one.fact
    document, _ = open_statement(envelope)
    return {
        "study": fact.study,
        "contract": fact.contract,
        "action": fact.action,
        "author": fact.author,
        "key": fact.key,
        "digest": fact.statement,
        "envelope": envelope,
        "at": to_rfc3339(one.at),
        "reason": document.reason if isinstance(document, Transition) else None,
        "state": fact.state,
    }


class Recovery:
    """Asks each node that connects, as long as something is missing. Lives on the event loop."""

    def __init__(self, store: RecoveryStore, peers: Peers) -> None:
        self._store = store
        self._peers = peers
        self._missing = store.missing()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_connect(self, site: str) -> None:
        """A node is there."""
        if self._missing:
            task = asyncio.get_running_loop().create_task(self._ask(site))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, site: str) -> None:
        wanted = list(self._missing)
        try:
            for start in range(0, len(wanted), ASKED_AT_ONCE):
                message = Message()
                message.statements_request.digests.extend(wanted[start : start + ASKED_AT_ONCE])
                reply = await self._peers.request(site, message, ASK_TIMEOUT_S)
                envelopes = expect(reply, "statements").statements.envelopes
                for study in await asyncio.to_thread(self._store.take, list(envelopes)):
                    logger.info("study %s is there again", study)
            self._missing = await asyncio.to_thread(self._store.missing)
        except PeerError as error:
            logger.info("%s was asked for lost contracts: %s", site, error.message)
        except CohortiumError as error:
            logger.warning("%s does not give back contracts: %s", site, error.message)
        except Exception:
            logger.exception("cannot take back contracts from %s", site)

    async def close(self) -> None:
        """Stop; what came back stays."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
