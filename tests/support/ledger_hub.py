"""A hub's ledger for tests of its witnesses: honest, until a test makes it lie."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.logs import key

from cohortium.crypto.keys import SigningKey
from cohortium.ledger.checkpoint import (
    Checkpoint,
    add_cosignatures,
    cosign,
    log_key,
    members_line,
    origin,
    sign,
)
from cohortium.ledger.entry import Entry, Fact, Founded, MemberChanged, parse_entry
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.note import Note, VerifierKey
from cohortium.ledger.tree import Tree, tree_of
from cohortium.ledger.witness import Update
from cohortium.link._generated import link_pb2 as pb

CONSORTIUM = "sha256:" + "c" * 64
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


@dataclass
class HubLog:
    """A log whose entries, dates and checkpoints are as a test says; it begins with its founding.

    Attributes:
        members_lie: Names this digest in checkpoints instead of the members'.
    """

    consortium: str = CONSORTIUM
    own: SigningKey = field(default_factory=lambda: key(90))
    entries: list[bytes] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    now: datetime = NOW
    members_lie: str | None = None

    def __post_init__(self) -> None:
        self.add(Founded(name="Test", fingerprint=self.consortium))

    @property
    def origin(self) -> str:
        return origin(self.consortium)

    @property
    def key(self) -> VerifierKey:
        return log_key(self.origin, self.own.public)

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def tree(self) -> Tree:
        return tree_of(self.tiles, self.size)

    def add(self, *facts: Fact, at: datetime | None = None) -> None:
        """Put facts on the ledger."""
        self.add_bytes(*(Entry(at=at or self.now, fact=fact).to_bytes() for fact in facts))

    def add_bytes(self, *entries: bytes) -> None:
        _, changed = self.tree.extended([leaf_hash(entry) for entry in entries])
        self.tiles.update(changed)
        self.entries.extend(entries)

    def approve(self, **keys: SigningKey) -> None:
        """Members."""
        facts = [
            MemberChanged(name=name, key=own.public, status="approved")
            for name, own in keys.items()
        ]
        self.add(*facts)

    def members_at(self, size: int) -> Members:
        changes = [data for data in self.entries[:size] if b'"kind":"member"' in data]
        return Members().after_all(parse_entry(data).fact for data in changes)

    def checkpoint(self, size: int | None = None) -> bytes:
        size = self.size if size is None else size
        digest = self.members_lie or self.members_at(size).digest
        body = Checkpoint(self.origin, size, self.tree.root(size), (members_line(digest),))
        return sign(body, self.own)

    def final(self, witnesses: Mapping[str, SigningKey], size: int | None = None) -> bytes:
        """A checkpoint with cosignatures of now."""
        note = self.checkpoint(size)
        time_s = int(self.now.timestamp())
        lines = [
            cosign(Note.parse(note), self.origin, site, own, time_s)
            for site, own in witnesses.items()
        ]
        return add_cosignatures(note, lines)

    def update(
        self,
        start: int = 0,
        end: int | None = None,
        *,
        final: bytes = b"",
        more: bool = False,
        sent_at: int = 0,
    ) -> Update:
        """Entries from `start`, and the checkpoint over them."""
        end = self.size if end is None else end
        entries = tuple(self.entries[start:end])
        return Update(start, entries, self.checkpoint(end), final, more, sent_at)

    def message(
        self, start: int = 0, end: int | None = None, *, final: bytes = b"", more: bool = False
    ) -> pb.Message:
        return as_message(self.update(start, end, final=final, more=more))

    def forked(self, size: int) -> HubLog:
        """The same key with only the first `size` entries: other ones may follow."""
        other = HubLog(self.consortium, self.own, now=self.now)
        other.entries, other.tiles = [], {}
        other.add_bytes(*self.entries[:size])
        return other

    def copy(self) -> HubLog:
        return deepcopy(self)

    def pass_time(self, **span: float) -> None:
        self.now += timedelta(**span)


def as_message(update: Update) -> pb.Message:
    """As it comes over the link."""
    return pb.Message(
        ledger_update=pb.LedgerUpdate(
            start=update.start,
            entries=update.entries,
            checkpoint=update.checkpoint,
            final=update.final,
            more=update.more,
            sent_at=update.sent_at,
        )
    )
