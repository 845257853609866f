"""Getting back the contracts that a lost hub held, from the nodes that hold them.

The ledger that was taken over names each statement by digest, and says what it was and when it was
taken; so it does not matter which node gives it back. A study is there again when all its
statements are, or when all members were asked and what is missing is only said of people who are
not in the study. What was still being drafted is lost, and so is a contract whose statements no
node gives back: it is drafted or proposed anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, insert, select

from cohortium.audit.history import told
from cohortium.audit.log import Logged
from cohortium.contract.statements import Transition, open_statement
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import to_rfc3339
from cohortium.errors import CohortiumError, IntegrityFailure, PeerError
from cohortium.hub.database import Database
from cohortium.hub.ledger_store import TAKEN_OVER
from cohortium.hub.study_store import DRAFTING
from cohortium.hub.tables import contracts, ledger_entries, recovered, statements
from cohortium.ledger.entry import ContractChanged, Founded, parse_entry
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect
from cohortium.link.ports import Peers

logger = logging.getLogger(__name__)

ASKED_AT_ONCE: Final = 200
ASK_TIMEOUT_S: Final = 60.0


class RecoveryStore:
    """Which statements are on the ledger and not in the database, and those on their way back."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def _lost(self, c: Connection) -> dict[str, list[Logged]]:
        """By study, all its statements in order, of studies that the database does not have."""
        taken_over = select(ledger_entries.c.position).where(ledger_entries.c.kind == TAKEN_OVER)
        last = c.execute(taken_over.order_by(ledger_entries.c.position.desc()).limit(1)).scalar()
        if last is None:
            return {}
        rows = c.execute(
            select(ledger_entries.c.position, ledger_entries.c.entry)
            .where(ledger_entries.c.kind == "contract", ledger_entries.c.position < last)
            .order_by(ledger_entries.c.position)
        ).all()
        held = set(c.execute(select(contracts.c.study).distinct()).scalars())
        out: dict[str, list[Logged]] = {}
        for place, data in rows:
            entry = parse_entry(data)
            fact = entry.fact
            if isinstance(fact, ContractChanged) and fact.action not in DRAFTING:
                out.setdefault(fact.study, []).append(Logged(place, entry))
        return {study: lost for study, lost in out.items() if study not in held}

    def missing(self) -> list[str]:
        """Digests of the statements that are to be asked for."""
        with self._db.read() as c:
            wanted = [_named(one) for all_ in self._lost(c).values() for one in all_]
            have = set(c.execute(select(recovered.c.digest)).scalars())
        return [digest for digest in dict.fromkeys(wanted) if digest not in have]

    def take(self, envelopes: Iterable[bytes], *, everybody: bool = False) -> list[str]:
        """Keep what the ledger names, and put back the studies that are complete; which.

        Anything else is left.

        Args:
            everybody: All members have been asked: what is still missing nobody has. Where it is
                said of people who are not in the study, the study comes back without it.
        """
        found = {digest_bytes(envelope): envelope for envelope in envelopes}
        back = []
        with self._db.write() as c:
            lost = self._lost(c)
            have = {row.digest: bytes(row.envelope) for row in c.execute(select(recovered)).all()}
            wanted = {_named(one) for all_ in lost.values() for one in all_}
            for digest in (found.keys() & wanted) - have.keys():
                c.execute(insert(recovered).values(digest=digest, envelope=found[digest]))
                have[digest] = found[digest]
            for study, all_ in lost.items():
                complete = all(_named(one) in have for one in all_)
                if (complete or everybody) and _put_back(c, study, all_, have):
                    back.append(study)
        return back


def _named(logged: Logged) -> str:
    """The statement that an entry of `RecoveryStore._lost` names."""
    return logged.fact.statement if isinstance(logged.fact, ContractChanged) else ""


def _founded(c: Connection) -> Founded:
    first = select(ledger_entries.c.entry).where(ledger_entries.c.position == 0)
    fact = parse_entry(bytes(c.execute(first).scalar_one())).fact
    if not isinstance(fact, Founded):
        raise IntegrityFailure("broken-store", "The ledger does not begin with the founding.")
    return fact


def _put_back(
    c: Connection, study: str, lost: Sequence[Logged], envelopes: Mapping[str, bytes]
) -> bool:
    """Store a study's statements as they were; False where they do not make a study's life.

    What nobody of the study has signed is left out, and reported.
    """
    texts = {digest: data.decode(errors="replace") for digest, data in envelopes.items()}
    history = told(study, _founded(c), lost, texts)
    for place, error in history.faults.items():
        logger.error(
            "the statements on study %s are not a study's: entry %d of the ledger: %s",
            study,
            place,
            error.message,
        )
    if history.faults or not history.lives:
        return False
    for place, why in history.unproven.items():
        logger.warning(
            "entry %d of the ledger tells of study %s what nobody in it has signed, and counts for "
            "nothing: %s",
            place,
            study,
            why,
        )
    for one in lost:
        if one.index in history.unproven or not isinstance(one.fact, ContractChanged):
            continue
        at, envelope = one.entry.at, envelopes[one.fact.statement]
        contract = history.proposals.get(one.index)
        if contract is not None:
            c.execute(
                insert(contracts).values(
                    digest=contract.digest,
                    study=study,
                    document=contract.to_bytes(),
                    created_at=to_rfc3339(at),
                )
            )
        c.execute(insert(statements), _row(one.fact, at, envelope))
    return True


def _row(fact: ContractChanged, at: datetime, envelope: bytes) -> dict[str, object]:
    document, _ = open_statement(envelope)
    return {
        "study": fact.study,
        "contract": fact.contract,
        "action": fact.action,
        "author": fact.author,
        "key": fact.key,
        "digest": fact.statement,
        "envelope": envelope,
        "at": to_rfc3339(at),
        "reason": document.reason if isinstance(document, Transition) else None,
        "state": fact.state,
    }


class Recovery:
    """Asks each node that connects, as long as something is missing. Lives on the event loop.

    Args:
        members: Who has to be asked before what is missing is known to be nowhere.
    """

    def __init__(
        self,
        store: RecoveryStore,
        peers: Peers,
        members: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._store = store
        self._peers = peers
        self._members = members
        self._asked: set[str] = set()
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
                await self._take(list(envelopes))
            self._asked.add(site)
            members = frozenset(self._members())
            if members and members <= self._asked:
                await self._take([], everybody=True)
            self._missing = await asyncio.to_thread(self._store.missing)
        except PeerError as error:
            logger.info("%s was asked for lost contracts: %s", site, error.message)
        except CohortiumError as error:
            logger.warning("%s does not give back contracts: %s", site, error.message)
        except Exception:
            logger.exception("cannot take back contracts from %s", site)

    async def _take(self, envelopes: list[bytes], *, everybody: bool = False) -> None:
        take = partial(self._store.take, envelopes, everybody=everybody)
        for study in await asyncio.to_thread(take):
            logger.info("study %s is there again", study)

    async def close(self) -> None:
        """Stop; what came back stays."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
