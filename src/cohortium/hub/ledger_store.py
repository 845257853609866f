"""The stored ledger: facts are put in their place, signed, and read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from cohortium.core.canonical import parse_json
from cohortium.core.clock import to_rfc3339
from cohortium.core.rest import Receipt
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, InputError
from cohortium.hub.database import Database
from cohortium.hub.ledger_notes import note as note  # noqa: PLC0414 - for who notes facts
from cohortium.hub.ledger_notes import subject_of
from cohortium.hub.tables import (
    documents,
    ledger_checkpoints,
    ledger_entries,
    ledger_pending,
    ledger_tiles,
    releases,
)
from cohortium.ledger.checkpoint import Checkpoint, log_key, members_line, origin, sign
from cohortium.ledger.entry import Entry, Founded, RunEnded, TakenOver, parse_entry
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.note import VerifierKey
from cohortium.ledger.tree import Tiles, Tree

BATCH: Final = 500
"""Entries that one transaction appends."""
TAKEN_OVER: Final = "consortium.taken-over"

# Statements that every run needs are built once: that takes longer than SQLite does.
_AT: Final = (
    ledger_tiles.c.level == bindparam("at_level"),
    ledger_tiles.c.number == bindparam("at_number"),
)
_TILE: Final = select(ledger_tiles.c.hashes).where(*_AT)
_DROP_TILE: Final = delete(ledger_tiles).where(*_AT)
_PENDING: Final = select(ledger_pending).order_by(ledger_pending.c.seq).limit(BATCH)
_TAKEN: Final = delete(ledger_pending).where(
    ledger_pending.c.seq.in_(bindparam("taken", expanding=True))
)
_LAST: Final = select(func.max(ledger_entries.c.position))
_ENTRY: Final = select(ledger_entries.c.entry).where(ledger_entries.c.position == bindparam("at"))
_LAST_MEMBER: Final = (
    select(ledger_entries.c.position)
    .where(ledger_entries.c.kind == "member", ledger_entries.c.position < bindparam("before"))
    .order_by(ledger_entries.c.position.desc())
    .limit(1)
)
_PLACE: Final = (
    update(releases)
    .where(releases.c.run == bindparam("of_run"))
    .values(position=bindparam("at_position"))
)
_WAITING: Final = select(releases).where(releases.c.size.is_(None))
_RELEASE: Final = select(releases).where(releases.c.run == bindparam("of_run"))
_CHECKPOINT: Final = select(ledger_checkpoints).where(
    ledger_checkpoints.c.size == bindparam("at_size")
)
_SIGNED: Final = (
    update(ledger_checkpoints)
    .where(ledger_checkpoints.c.size == bindparam("at_size"))
    .values(note=bindparam("cosigned"), final=bindparam("is_final"))
)
_NEVER_FINAL: Final = delete(ledger_checkpoints).where(
    ledger_checkpoints.c.size < bindparam("at_size"), ledger_checkpoints.c.final.is_(False)
)
_RELEASED: Final = (
    update(releases)
    .where(
        releases.c.run.in_(bindparam("runs", expanding=True)),
        releases.c.size.is_(None),
    )
    .values(size=bindparam("at_size"))
)


@dataclass(frozen=True)
class Log:
    """Which log this is, and what signs it.

    Attributes:
        name: The consortium's.
        fingerprint: The consortium's.
        key: Signs checkpoints; each node pins it at its first Welcome.
        earlier: Verifier keys of hubs that were lost, oldest first.
    """

    name: str
    fingerprint: str
    key: SigningKey
    earlier: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The log's name in checkpoints."""
        return origin(self.fingerprint)

    @property
    def verifier(self) -> VerifierKey:
        """The key that checks the log's signatures."""
        return log_key(self.origin, self.key.public)


@dataclass(frozen=True)
class StoredCheckpoint:
    """A signed checkpoint with the cosignatures that are stored beside it."""

    size: int
    note: bytes
    final: bool


@dataclass(frozen=True)
class Appended:
    """What one transaction appended.

    Attributes:
        start: The place of the first of `entries`.
        note: The signed checkpoint over everything up to the last of them.
        members: Name to contract key of the approved members then.
    """

    start: int
    entries: list[bytes]
    note: bytes
    members: Mapping[str, str]

    @property
    def size(self) -> int:
        """Entries of the log."""
        return self.start + len(self.entries)

    @property
    def n_bytes(self) -> int:
        """Of the entries."""
        return sum(map(len, self.entries))


@dataclass(frozen=True)
class Release:
    """A result that waits for its witnesses, or had them.

    Attributes:
        nonce: Opens the commitment on the ledger.
        position: Of the run's end on the ledger; None while it is on its way there.
        size: Of the final checkpoint with which the result was released.
    """

    run_id: str
    nonce: bytes
    position: int | None
    size: int | None


class LedgerStore:
    """An append-only log.

    Durability: what `append` put in a place stays there, and a fact that was noted is appended
    once, however many processes sequence and whenever they are killed.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._members: dict[int, Members] = {}

    # Appending

    def pending(self) -> bool:
        """Whether facts wait for their place."""
        with self._db.read() as c:
            return c.execute(select(ledger_pending.c.seq).limit(1)).first() is not None

    def append(self, log: Log, now: datetime) -> Appended | None:
        """Give the facts that wait their place, at most `BATCH`, and sign a checkpoint over all.

        Returns:
            What was appended; None where nothing waits.
        """
        with self._db.write() as c:
            return self.append_in(c, log, now)

    def append_in(self, c: Connection, log: Log, now: datetime) -> Appended | None:
        """`append` in a transaction of its caller."""
        _lock(c)
        size = _size(c)
        rows = c.execute(_PENDING).all()
        if not rows:
            return None
        last = None if size == 0 else parse_entry(_entry(c, size - 1)).at
        at = to_rfc3339(now if last is None else max(now, last))
        facts = [row.fact for row in rows]
        if size == 0:
            facts.insert(0, Founded(name=log.name, fingerprint=log.fingerprint).to_bytes())
        entries = [_dated(fact, at) for fact in facts]
        encoded = [entry.to_bytes() for entry in entries]
        root = self._insert(c, size, entries, encoded)
        c.execute(_TAKEN, {"taken": [row.seq for row in rows]})
        members = self._members_at(c, size).after_all(entry.fact for entry in entries)
        end = size + len(entries)
        signed = _signed(log, end, root, members)
        c.execute(insert(ledger_checkpoints), {"size": end, "note": signed, "final": False})
        return Appended(size, encoded, signed, members.members)

    def _insert(
        self, c: Connection, size: int, entries: Sequence[Entry], encoded: Sequence[bytes]
    ) -> bytes:
        """Store entries and their tiles; the new root."""
        tree, tiles = _tree(c, size).extended([leaf_hash(data) for data in encoded])
        _put_tiles(c, tiles)
        c.execute(
            insert(ledger_entries),
            [
                {
                    "position": size + offset,
                    "kind": entry.fact.kind,
                    "subject": subject_of(entry.fact),
                    "entry": data,
                }
                for offset, (entry, data) in enumerate(zip(entries, encoded, strict=True))
            ],
        )
        for offset, entry in enumerate(entries):
            if isinstance(entry.fact, RunEnded) and entry.fact.status == "succeeded":
                about = {"of_run": entry.fact.run_id, "at_position": size + offset}
                c.execute(_PLACE, about)
        return tree.root()

    @contextmanager
    def adopting(self, log: Log) -> Iterator[Callable[[Sequence[Entry]], None]]:
        """Take over another hub's entries, all of them or none, and note that this was done.

        Args:
            log: With this hub's own key.

        Yields:
            What takes the next entries, in order; they were verified.

        Raises:
            ConflictError: ``already-exists`` where the database holds a ledger.
        """
        with self._db.write() as c:
            _lock(c)
            if _size(c) or c.execute(select(ledger_pending.c.seq).limit(1)).first() is not None:
                raise ConflictError("already-exists", "The database holds a ledger already.")

            def take(entries: Sequence[Entry]) -> None:
                self._insert(c, _size(c), entries, [entry.to_bytes() for entry in entries])

            yield take
            note(c, TakenOver(size=_size(c), key=log.verifier.text))

    def log_keys(self, log: Log) -> dict[int, str]:
        """Verifier keys of the log, each by the size after which it signs.

        Raises:
            InputError: ``not-found`` where nobody kept the key of the first hub.
        """
        with self._db.read() as c:
            query = select(ledger_entries.c.entry).where(ledger_entries.c.kind == TAKEN_OVER)
            rows = c.execute(query.order_by(ledger_entries.c.position)).scalars()
            facts = [parse_entry(data).fact for data in rows]
        taken = {fact.size: fact.key for fact in facts if isinstance(fact, TakenOver)}
        known = [*log.earlier, log.verifier.text]
        if len(known) != len(taken) + 1 or known[1:] != list(taken.values()):
            raise InputError("not-found", "The key of the hub that began the ledger is not known.")
        return {0: known[0], **taken}

    def checkpoint_at(self, log: Log, size: int) -> bytes:
        """A signed checkpoint of an earlier size, for who catches up in steps."""
        with self._db.read() as c:
            stored = c.execute(
                select(ledger_checkpoints.c.note).where(ledger_checkpoints.c.size == size)
            ).scalar()
            if stored is not None:
                return bytes(stored)
            if size > _size(c):
                raise InputError("not-found", f"The ledger does not have {size} entries yet.")
            return _signed(log, size, _tree(c, size).root(), self._members_at(c, size))

    # Finality

    def newest(self) -> StoredCheckpoint | None:
        """The checkpoint over all entries."""
        return self._newest()

    def newest_final(self) -> StoredCheckpoint | None:
        """The newest one that enough members cosigned."""
        return self._newest(final=True)

    def _newest(self, *, final: bool | None = None) -> StoredCheckpoint | None:
        query = select(ledger_checkpoints).order_by(ledger_checkpoints.c.size.desc()).limit(1)
        if final is not None:
            query = query.where(ledger_checkpoints.c.final.is_(final))
        with self._db.read() as c:
            row = c.execute(query).mappings().one_or_none()
        return None if row is None else StoredCheckpoint(**row)

    def checkpoint(self, size: int) -> StoredCheckpoint:
        """The stored checkpoint of that size, or InputError ``not-found``."""
        with self._db.read() as c:
            row = c.execute(_CHECKPOINT, {"at_size": size}).mappings().one_or_none()
        if row is None:
            raise InputError("not-found", f"No checkpoint of the ledger has {size} entries.")
        return StoredCheckpoint(**row)

    def witnessed(
        self, size: int, note: bytes, *, final: bool, released: Sequence[str] = ()
    ) -> None:
        """Store a checkpoint's cosignatures, whether it is final, and what may be released by it.

        Checkpoints that were never final go when a later one is.
        """
        with self._db.write() as c:
            c.execute(_SIGNED, {"at_size": size, "cosigned": note, "is_final": final})
            if not final:
                return
            c.execute(_NEVER_FINAL, {"at_size": size})
            if released:
                c.execute(_RELEASED, {"runs": list(released), "at_size": size})

    def waiting(self) -> list[Release]:
        """Results that are on the ledger or on their way, and not released."""
        with self._db.read() as c:
            rows = c.execute(_WAITING).all()
        return [Release(row.run, row.nonce, row.position, row.size) for row in rows]

    def release(self, run_id: str) -> Release | None:
        """How far the release of a run's result is; None where it has none."""
        with self._db.read() as c:
            row = c.execute(_RELEASE, {"of_run": run_id}).one_or_none()
        return None if row is None else Release(row.run, row.nonce, row.position, row.size)

    # Reading

    def size(self) -> int:
        """How many entries there are."""
        with self._db.read() as c:
            return _size(c)

    def entry(self, position: int) -> bytes:
        """One entry, or InputError ``not-found``."""
        with self._db.read() as c:
            return _entry(c, position)

    def entries(self, start: int, count: int, max_bytes: int | None = None) -> list[bytes]:
        """Up to `count` entries from `start`; of them as many as fit in `max_bytes`, or one."""
        query = (
            select(ledger_entries.c.entry)
            .where(ledger_entries.c.position >= start, ledger_entries.c.position < start + count)
            .order_by(ledger_entries.c.position)
        )
        out: list[bytes] = []
        left = max_bytes
        with self._db.read() as c:
            for data in c.execute(query).scalars():
                if left is not None and out and left < len(data):
                    break
                left = None if left is None else left - len(data)
                out.append(bytes(data))
        return out

    def about(self, kind: str, subject: str) -> list[tuple[int, bytes]]:
        """Places and entries of one kind about a subject, in order; see `subject_of`."""
        query = (
            select(ledger_entries.c.position, ledger_entries.c.entry)
            .where(ledger_entries.c.kind == kind, ledger_entries.c.subject == subject)
            .order_by(ledger_entries.c.position)
        )
        with self._db.read() as c:
            return [(row.position, bytes(row.entry)) for row in c.execute(query)]

    def documents(self, run_id: str) -> list[bytes]:
        """The signed documents that facts about a run name: requests, the sites' round keys."""
        with self._db.read() as c:
            query = select(documents.c.envelope).where(documents.c.run == run_id)
            return [bytes(envelope) for envelope in c.execute(query).scalars()]

    def of_kind(self, kind: str, holding: bytes = b"") -> list[tuple[int, bytes]]:
        """Places and entries of one kind that have these bytes in them, in order."""
        query = (
            select(ledger_entries.c.position, ledger_entries.c.entry)
            .where(ledger_entries.c.kind == kind)
            .order_by(ledger_entries.c.position)
        )
        with self._db.read() as c:
            rows = c.execute(query).yield_per(BATCH)
            return [(row.position, bytes(row.entry)) for row in rows if holding in row.entry]

    def finals(
        self, limit: int, *, above: int | None = None, upto: int | None = None
    ) -> list[StoredCheckpoint]:
        """Final checkpoints, newest first: the last of all, or of those of `upto` entries at most;
        or the first that cover the entry `above`, in order.
        """
        size = ledger_checkpoints.c.size
        query = select(ledger_checkpoints).where(ledger_checkpoints.c.final.is_(True)).limit(limit)
        if above is None:
            query = query if upto is None else query.where(size <= upto)
            query = query.order_by(size.desc())
        else:
            query = query.where(size > above).order_by(size)
        with self._db.read() as c:
            return [StoredCheckpoint(**row) for row in c.execute(query).mappings()]

    def tree(self, size: int | None = None) -> Tree:
        """The tree over the first `size` entries; all of them by default."""
        return Tree(self.size() if size is None else size, self.tile)

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile as far as they are there."""
        with self._db.read() as c:
            return _tile(c, level, number)

    def inclusion(self, position: int, size: int) -> tuple[bytes, list[bytes]]:
        """An entry and the proof that a checkpoint of `size` covers it."""
        with self._db.read() as c:
            if not 0 <= size <= _size(c):
                raise InputError("not-found", f"The ledger does not have {size} entries yet.")
            proof = _tree(c, size).inclusion_proof(position)
            return _entry(c, position), proof

    def receipt(self, position: int, size: int) -> Receipt:
        """That the stored checkpoint of `size` covers an entry.

        Raises:
            InputError: ``not-found``.
        """
        entry, proof = self.inclusion(position, size)
        return Receipt(
            index=position,
            entry=entry.decode(),
            proof=tuple(node.hex() for node in proof),
            checkpoint=self.checkpoint(size).note.decode(),
            members=dict(self.members_at(size)),
        )

    def members_at(self, size: int) -> Mapping[str, str]:
        """The approved members after `size` entries: name to contract key."""
        with self._db.read() as c:
            return self._members_at(c, size).members

    def _members_at(self, c: Connection, size: int) -> Members:
        last = c.execute(_LAST_MEMBER, {"before": size}).scalar()
        if last is None:
            return Members()
        known = self._members.get(last)
        if known is None:
            start = max((at for at in list(self._members) if at < last), default=-1)
            rows = c.execute(
                select(ledger_entries.c.entry)
                .where(
                    ledger_entries.c.kind == "member",
                    ledger_entries.c.position > start,
                    ledger_entries.c.position <= last,
                )
                .order_by(ledger_entries.c.position)
            ).scalars()
            facts = [parse_entry(data).fact for data in rows]
            known = self._members.get(start, Members()).after_all(facts)
            self._members = {**self._members, last: known}
        return known


def _signed(log: Log, size: int, root: bytes, members: Members) -> bytes:
    lines = (members_line(members.digest),)
    return sign(Checkpoint(log.origin, size, root, lines), log.key)


def _lock(c: Connection) -> None:
    """One sequencer at a time; SQLite's writing transactions are alone as they are."""
    if c.dialect.name == "postgresql":
        c.execute(text("LOCK TABLE ledger_entries IN SHARE ROW EXCLUSIVE MODE"))


def _size(c: Connection) -> int:
    last = c.execute(_LAST).scalar()
    return 0 if last is None else int(last) + 1


def _entry(c: Connection, position: int) -> bytes:
    data = c.execute(_ENTRY, {"at": position}).scalar()
    if data is None:
        raise InputError("not-found", f"The ledger has no entry {position}.")
    return bytes(data)


def _dated(fact: bytes, at: str) -> Entry:
    return Entry.from_json({"at": at, "fact": parse_json(fact)})


def _tile(c: Connection, level: int, number: int) -> bytes:
    data = c.execute(_TILE, {"at_level": level, "at_number": number}).scalar()
    return b"" if data is None else bytes(data)


def _tree(c: Connection, size: int) -> Tree:
    """It reads each tile once; for use inside one transaction."""
    return Tree(size, cache(partial(_tile, c)))


def _put_tiles(c: Connection, tiles: Tiles) -> None:
    for level, number in tiles:
        c.execute(_DROP_TILE, {"at_level": level, "at_number": number})
    c.execute(
        insert(ledger_tiles),
        [
            {"level": level, "number": number, "hashes": hashes}
            for (level, number), hashes in tiles.items()
        ],
    )
