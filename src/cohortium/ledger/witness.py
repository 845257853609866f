"""What a site checks of the hub's ledger before it cosigns (after C2SP tlog-witness).

A C2SP witness sees checkpoints and consistency proofs. A site sees the entries too: it keeps them
all, and computes the root over what it had before and what is new. Nothing that the log's key has
not signed can be an alarm, so that only the hub can cause one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

from cohortium.core.canonical import parse_json
from cohortium.errors import ConflictError, ProtocolError
from cohortium.ledger.checkpoint import Checkpoint, open_checkpoint, origin
from cohortium.ledger.entry import Entry, Fact, Founded, TakenOver, parse_entry
from cohortium.ledger.members import Members, require_final
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.note import VerifierKey
from cohortium.ledger.tree import Tiles, Tree

SKEW: Final = timedelta(minutes=5)
"""How far the clocks of hub and site may be apart."""
STALE: Final = timedelta(minutes=4)
"""An older update is stored and not cosigned; less than `SKEW`, as the hub's clock is set too."""
MAX_ENTRIES: Final = 5_000
"""In one update."""

KINDS: Final = frozenset(fact.model_fields["kind"].default for fact in get_args(Fact))
SCHEMA: Final = Entry.model_fields["schema_id"].default

AlarmKind = Literal["fork", "truncated", "dates", "entry"]


@dataclass(frozen=True)
class Update:
    """The link's LedgerUpdate.

    Attributes:
        start: Place of the first of `entries`.
        checkpoint: Signed by the log; covers everything up to the last of `entries`.
        final: The newest checkpoint that enough members cosigned, or nothing.
        more: The log has more entries than these.
        sent_at: POSIX seconds; 0: unknown.
    """

    start: int
    entries: Sequence[bytes]
    checkpoint: bytes
    final: bytes = b""
    more: bool = False
    sent_at: int = 0


@dataclass(frozen=True)
class Seen:
    """What a witness knows of the log.

    Attributes:
        tree: Over the entries that it has.
        members_at: The members after that many of them.
        checkpoint: The newest one that it accepted; nothing before the first.
        final_size: Entries under the newest final checkpoint that it has.
        last_at: The date of its last entry.
        cosigned_at: When, by its own clock, it last cosigned.
        taken_over: Key of the last hub that took over, as the log says; nothing where none did.
    """

    tree: Tree
    members_at: Callable[[int], Members] = lambda _size: Members()
    checkpoint: bytes = b""
    final_size: int = 0
    last_at: datetime | None = None
    cosigned_at: datetime | None = None
    taken_over: str | None = None


@dataclass(frozen=True)
class Accepted:
    """A continuation of what was seen.

    Attributes:
        entries: The new ones, as bytes and parsed; the first one's place is `start`.
        tree: Over all entries.
        tiles: Of the tree, those that changed.
        final: The update's final checkpoint with its size, where it is newer than the one before.
        cosign: Whether the hub may have a cosignature: this is the log's newest checkpoint.
    """

    start: int
    entries: Sequence[tuple[bytes, Entry]]
    tree: Tree
    tiles: Tiles
    checkpoint: Checkpoint
    final: tuple[int, bytes] | None
    cosign: bool


@dataclass(frozen=True)
class Behind:
    """The update begins after the entries that the witness has, or was overtaken by another."""

    size: int


@dataclass(frozen=True)
class Alarm:
    """The log's key has signed what it must not.

    Attributes:
        message: For the steward.
        seen: The signed checkpoint that the witness had; nothing before the first.
        received: The one that contradicts it.
        entries: What came with it.
    """

    kind: AlarmKind
    message: str
    seen: bytes
    received: bytes
    entries: Sequence[bytes] = field(default=(), repr=False)


class _Found(Exception):
    """An alarm, on its way out."""

    def __init__(self, kind: AlarmKind, message: str) -> None:
        super().__init__()
        self.kind: AlarmKind = kind
        self.message = message


def witness(
    seen: Seen,
    update: Update,
    log: VerifierKey,
    now: datetime,
    *,
    late: bool = False,
    excused: bool = False,
) -> Accepted | Behind | Alarm:
    """Decide on an update. The same update again gets the same answer.

    Args:
        log: The pinned key of the log; its name is the log's origin.
        now: By the witness's clock.
        late: The hub sent another update after this one, which was answered before it.
        excused: The steward has accepted dates that do not fit this machine's clock.

    Raises:
        VerificationError: ``bad-checkpoint``: not signed by the log; ``not-final``.
        ProtocolError: ``malformed-message``: the update contradicts itself, or has entries that
            this version does not know.
        ConflictError: ``wrong-state``: this machine's clock went back.

    Errors whose cause is here, and not with the hub, have the detail ``here``.
    """
    # 1. The log's signature and origin. 2. This machine's clock. 3. Nothing that was seen may be
    # another, or gone. 4. The update fits. 5. The root over our own tree and the new entries.
    # 6. The entries, and their dates. 7. The members that the checkpoint names. 8. What is final.
    checkpoint, _ = open_checkpoint(update.checkpoint, log)  # 1
    if seen.cosigned_at is not None and now < seen.cosigned_at - SKEW:  # 2
        raise ConflictError(
            "wrong-state",
            "This machine's clock is behind its own last cosignature: correct it.",
            here=True,
        )
    received = update.checkpoint
    try:
        if checkpoint.size <= seen.tree.size:  # 3
            _require_root(seen.tree, checkpoint)
            _require_members(seen, (), checkpoint)
            if checkpoint.size < seen.tree.size:
                if late:
                    return Behind(seen.tree.size)
                raise _Found("truncated", _gone(checkpoint.size, seen.tree.size))
        if update.start > seen.tree.size:
            return Behind(seen.tree.size)
        new = _new_entries(seen, update, checkpoint)  # 4
        tree, tiles = seen.tree.extended([leaf_hash(data) for data in new])
        _require_root(tree, checkpoint)  # 5
        entries = [(data, _parsed(data)) for data in new]  # 6
        _require_facts(seen, [entry for _, entry in entries], log, more=update.more)
        _require_dates(seen, [entry.at for _, entry in entries], now, excused=excused)
        facts = [entry.fact for _, entry in entries]
        _require_members(seen, facts, checkpoint)  # 7
        received = update.final or received
        final = _final(seen, update.final, tree, facts, log)  # 8
    except _Found as found:
        return Alarm(found.kind, found.message, seen.checkpoint, received, tuple(update.entries))
    return Accepted(
        seen.tree.size,
        entries,
        tree,
        tiles,
        checkpoint,
        final,
        cosign=not (update.more or late) and _fresh(update.sent_at, now),
    )


def contradiction(
    tree: Tree, held: int, seen: bytes, newest: bytes, log: VerifierKey
) -> Alarm | None:
    """Whether the log's newest checkpoint, without its entries, cannot follow what was seen.

    Args:
        tree: Over what the witness has by now.
        held: The entries that it had when it asked.
        seen: The newest checkpoint that it accepted.

    Raises:
        VerificationError: ``bad-checkpoint``.
    """
    checkpoint, _ = open_checkpoint(newest, log)
    try:
        if checkpoint.size <= tree.size:
            _require_root(tree, checkpoint)
        if checkpoint.size < held:
            raise _Found("truncated", _gone(checkpoint.size, held))
    except _Found as found:
        return Alarm(found.kind, found.message, seen, newest)
    return None


def _gone(size: int, before: int) -> str:
    return f"The hub's ledger has {size} entries; it had {before}."


def _fresh(sent_at: int, now: datetime) -> bool:
    return not sent_at or abs(now.timestamp() - sent_at) <= STALE.total_seconds()


def _require_root(tree: Tree, checkpoint: Checkpoint) -> None:
    if tree.root(checkpoint.size) != checkpoint.root:
        raise _Found(
            "fork",
            f"The hub signed another ledger of {checkpoint.size} entries than the one that these "
            "entries and those seen before make.",
        )


def _new_entries(seen: Seen, update: Update, checkpoint: Checkpoint) -> Sequence[bytes]:
    if update.start + len(update.entries) != checkpoint.size or len(update.entries) > MAX_ENTRIES:
        raise ProtocolError("malformed-message", "The checkpoint is not over these entries.")
    return update.entries[seen.tree.size - update.start :]


def _parsed(data: bytes) -> Entry:
    try:
        return parse_entry(data)
    except ProtocolError as error:
        if _of_newer_version(data):
            raise ProtocolError(
                "malformed-message",
                "The ledger has an entry of a kind that this version does not know: update this "
                "node.",
                here=True,
            ) from error
        raise _Found("entry", "The hub's ledger has an entry that is not one.") from error


def _of_newer_version(data: bytes) -> bool:
    try:
        value = parse_json(data)
    except ProtocolError:
        return False
    if not isinstance(value, dict) or not isinstance(value.get("fact"), dict):
        return False
    schema, kind = value.get("schema_id"), value["fact"].get("kind")
    known = schema == SCHEMA and kind in KINDS
    return isinstance(schema, str) and isinstance(kind, str) and not known


def _require_facts(seen: Seen, entries: Sequence[Entry], log: VerifierKey, *, more: bool) -> None:
    """What only one place of the log can hold."""
    serving = seen.taken_over
    for position, entry in enumerate(entries, seen.tree.size):
        fact = entry.fact
        if isinstance(fact, Founded) != (position == 0):
            raise _Found("entry", "The ledger does not begin with the founding, and only there.")
        if isinstance(fact, Founded) and origin(fact.fingerprint) != log.name:
            raise _Found("entry", "The ledger is that of another consortium.")
        if isinstance(fact, TakenOver):
            serving = fact.key
            if fact.size != position:
                raise _Found("entry", "A hub says that it took over another number of entries.")
    if not more and serving not in {None, log.text}:
        raise _Found("entry", "The ledger says that another key signs it than the one that does.")


def _require_dates(seen: Seen, dates: Sequence[datetime], now: datetime, *, excused: bool) -> None:
    known = [] if seen.last_at is None else [seen.last_at]
    ordered = [*known, *dates]
    if ordered != sorted(ordered):
        raise _Found("dates", "An entry of the hub's ledger is older than the one before it.")
    if not dates or excused:
        return
    earliest, latest = seen.cosigned_at, now + SKEW
    if earliest is not None and dates[0] < earliest - SKEW:
        raise _Found(
            "dates",
            f"The hub's ledger has a new entry of {_text(dates[0])}; at {_text(earliest)} it was "
            "not there. If this machine's clock was wrong, correct it and accept.",
        )
    if dates[-1] > latest:
        raise _Found(
            "dates",
            f"The hub's ledger has an entry of {_text(dates[-1])}; by this machine's clock it is "
            f"{_text(now)}. If the clock is wrong, correct it and accept.",
        )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _members(seen: Seen, facts: Sequence[Fact], size: int) -> Members:
    """After `size` entries, of which `facts` are those that were not seen before."""
    known = seen.tree.size
    if size <= known:
        return seen.members_at(size)
    return seen.members_at(known).after_all(facts[: size - known])


def _require_members(seen: Seen, facts: Sequence[Fact], checkpoint: Checkpoint) -> None:
    if checkpoint.members != _members(seen, facts, checkpoint.size).digest:
        raise _Found("entry", "The hub's checkpoint names other members than its ledger.")


def _final(
    seen: Seen, note: bytes, tree: Tree, facts: Sequence[Fact], log: VerifierKey
) -> tuple[int, bytes] | None:
    """The final checkpoint where it is news; one of entries that are not here yet is left."""
    if not note:
        return None
    checkpoint, _ = open_checkpoint(note, log)
    if checkpoint.size > tree.size:
        return None
    _require_root(tree, checkpoint)
    if checkpoint.size <= seen.final_size:
        return None
    require_final(note, log, _members(seen, facts, checkpoint.size).members)
    return checkpoint.size, note
