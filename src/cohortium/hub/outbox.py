"""What the hub owes to nodes: kept until the node acknowledges, however often either restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, insert, select

from cohortium.hub.database import Database
from cohortium.hub.tables import outbox

Kind = Literal["proposal", "active", "statement", "ended", "draft", "run-end"]


@dataclass(frozen=True)
class Owed:
    """A message to a site.

    Attributes:
        subject: A contract's or draft's digest, a statement's number, or a run id.
    """

    seq: int
    site: str
    kind: Kind
    subject: str


def owe(c: Connection, site: str, kind: Kind, subject: str) -> None:
    """Note a message in the transaction that makes it due; once is enough."""
    held = select(outbox.c.seq).where(
        outbox.c.site == site, outbox.c.kind == kind, outbox.c.subject == subject
    )
    if c.execute(held).first() is None:
        c.execute(insert(outbox).values(site=site, kind=kind, subject=subject))


def owe_all(c: Connection, sites: Sequence[str], kind: Kind, subject: str) -> None:
    """`owe` it to several sites."""
    held = select(outbox.c.site).where(
        outbox.c.site.in_(sites), outbox.c.kind == kind, outbox.c.subject == subject
    )
    have = set(c.execute(held).scalars())
    new = [{"site": s, "kind": kind, "subject": subject} for s in sites if s not in have]
    if new:
        c.execute(insert(outbox), new)


def owe_anew(c: Connection, site: str, kind: Kind, subject: str) -> None:
    """Owe it after what is owed already, also where it was owed before that."""
    c.execute(
        delete(outbox).where(
            outbox.c.site == site, outbox.c.kind == kind, outbox.c.subject == subject
        )
    )
    owe(c, site, kind, subject)


class Outbox:
    """Reading and settling what is owed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def owed(self, site: str) -> list[Owed]:
        """In the order in which it became due."""
        with self._db.read() as c:
            query = select(outbox).where(outbox.c.site == site).order_by(outbox.c.seq)
            rows = c.execute(query).mappings().all()
        return [Owed(**row) for row in rows]

    def sites(self) -> frozenset[str]:
        """Sites that are owed something."""
        with self._db.read() as c:
            return frozenset(c.execute(select(outbox.c.site).distinct()).scalars())

    def settle(self, items: Sequence[Owed]) -> None:
        """The sites have them."""
        with self._db.write() as c:
            c.execute(delete(outbox).where(outbox.c.seq.in_([item.seq for item in items])))
