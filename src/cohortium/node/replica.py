"""The node's copy of the hub's ledger, and what it knows of who signed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from cohortium.contract.statements import open_statement
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import parse_rfc3339, to_rfc3339
from cohortium.errors import InputError
from cohortium.ledger.entry import (
    ContractChanged,
    Entry,
    Fact,
    RunEnded,
    RunSubmitted,
    TakenOver,
    parse_entry,
)
from cohortium.ledger.members import Members
from cohortium.ledger.note import VerifierKey, parse_verifier_key
from cohortium.ledger.tiles import Mirror
from cohortium.ledger.tree import Tree
from cohortium.ledger.witness import Accepted, Seen
from cohortium.node import statements
from cohortium.node.agreement import open_request
from cohortium.node.store import NodeStore

CheckpointKind = Literal["seen", "cosigned", "final"]
TAKEN_OVER: Final = "consortium.taken-over"
END: Final = "end of run "


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint that was accepted.

    Attributes:
        at: By this node's clock.
        key: The log's key that signed it.
    """

    size: int
    note: bytes
    at: datetime
    key: VerifierKey


class Replica:
    """The ledger in the node's store. Writes belong in a `NodeStore.transaction`."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store
        self._members: dict[tuple[bytes, ...], Members] = {}

    # The log's key, and what else is remembered of it

    def key(self) -> VerifierKey | None:
        """The log's key, pinned at the first Welcome that named one."""
        text = self.recall("key")
        return None if text is None else parse_verifier_key(text)

    def recall(self, name: str) -> str | None:
        """What `remember` kept."""
        rows = self._store.execute("SELECT value FROM ledger_state WHERE name = ?", name)
        return rows[0][0] if rows else None

    def remember(self, name: str, value: str | None) -> None:
        """Keep a word, or forget it."""
        if value is None:
            self._store.execute("DELETE FROM ledger_state WHERE name = ?", name)
        else:
            self._store.execute("INSERT OR REPLACE INTO ledger_state VALUES (?, ?)", name, value)

    # Reading

    @property
    def size(self) -> int:
        """How many entries there are."""
        rows = self._store.execute("SELECT max(position) FROM ledger_entries")
        return 0 if rows[0][0] is None else int(rows[0][0]) + 1

    def tree(self, size: int | None = None) -> Tree:
        """The tree over the first `size` entries; all of them by default."""
        return Tree(self.size if size is None else size, self.tile)

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile as far as they are there."""
        rows = self._store.execute(
            "SELECT hashes FROM ledger_tiles WHERE level = ? AND number = ?", level, number
        )
        return rows[0][0] if rows else b""

    def entries(self, start: int, end: int) -> list[bytes]:
        """The entries [start, end)."""
        rows = self._store.execute(
            "SELECT body FROM ledger_entries WHERE position >= ? AND position < ? "
            "ORDER BY position",
            start,
            end,
        )
        return [body for (body,) in rows]

    def facts(self, kind: str, subject: str) -> list[Fact]:
        """Facts of one kind about one subject, in order; see `subject_of`."""
        rows = self._store.execute(
            "SELECT body FROM ledger_entries WHERE subject = ? AND kind = ? ORDER BY position",
            subject,
            kind,
        )
        return [parse_entry(body).fact for (body,) in rows]

    def members_at(self, size: int) -> Members:
        """The approved members after `size` entries."""
        rows = self._store.execute(
            "SELECT body FROM ledger_entries WHERE kind = 'member' AND position < ? "
            "ORDER BY position",
            size,
        )
        bodies = tuple(body for (body,) in rows)
        known = self._members.get(bodies)
        if known is None:
            known = Members().after_all(parse_entry(body).fact for body in bodies)
            self._members = {bodies: known, **dict(list(self._members.items())[:3])}
        return known

    def checkpoint(self, kind: CheckpointKind) -> StoredCheckpoint | None:
        """The newest one of a kind."""
        rows = self._store.execute(
            "SELECT size, note, at, key FROM ledger_checkpoints WHERE kind = ?", kind
        )
        if not rows:
            return None
        size, note, at, key = rows[0]
        return StoredCheckpoint(size, note, parse_rfc3339(at), parse_verifier_key(key))

    def seen(self) -> Seen:
        """What a witness has to remember."""
        size = self.size
        last = self.entries(size - 1, size) if size else []
        seen, cosigned = self.checkpoint("seen"), self.checkpoint("cosigned")
        final = self.checkpoint("final")
        taken = [f.key for f in self.facts(TAKEN_OVER, "") if isinstance(f, TakenOver)]
        return Seen(
            tree=self.tree(size),
            members_at=self.members_at,
            checkpoint=b"" if seen is None else seen.note,
            final_size=0 if final is None else final.size,
            last_at=parse_entry(last[0]).at if last else None,
            cosigned_at=None if cosigned is None else cosigned.at,
            taken_over=taken[-1] if taken else None,
        )

    def mirror(self, *, newest: bool = False) -> Mirror:
        """The replica as static files under its final checkpoint.

        Args:
            newest: All that was seen, under the newest checkpoint: it may not be final.

        Raises:
            InputError: ``not-found`` where there is none yet.
        """
        kinds: list[CheckpointKind] = ["seen"] if newest else ["final", "seen"]
        for kind in kinds:
            found = self.checkpoint(kind)
            if found is not None:
                return Mirror(self.tree(found.size), self.entries, found.note)
        raise InputError("not-found", "The hub has not sent its ledger yet.")

    # Writing

    def extend(self, accepted: Accepted, note: bytes, now: datetime) -> None:
        """Keep what a witness accepted."""
        for place, (data, entry) in enumerate(accepted.entries, accepted.start):
            self._store.execute(
                "INSERT INTO ledger_entries VALUES (?, ?, ?, ?)",
                place,
                entry.fact.kind,
                subject_of(entry.fact),
                data,
            )
        for (level, number), hashes in accepted.tiles.items():
            self._store.execute(
                "INSERT OR REPLACE INTO ledger_tiles VALUES (?, ?, ?)", level, number, hashes
            )
        self._put("seen", accepted.checkpoint.size, note, now)
        if accepted.cosign:
            self._put("cosigned", accepted.checkpoint.size, note, now)
        if accepted.final is not None:
            self._put("final", *accepted.final, now)

    def _put(self, kind: CheckpointKind, size: int, note: bytes, now: datetime) -> None:
        self._store.execute(
            "INSERT OR REPLACE INTO ledger_checkpoints VALUES (?, ?, ?, ?, ?)",
            kind,
            size,
            note,
            to_rfc3339(now),
            self.recall("key"),
        )

    def clear(self) -> None:
        """Begin again with an empty ledger; the log's key stays."""
        for table in ("ledger_entries", "ledger_tiles", "ledger_checkpoints"):
            self._store.execute(f"DELETE FROM {table}")  # noqa: S608 - the three names above

    # Runs that this site answered, and statements that it made, that the ledger does not have yet

    def expect_run(self, run_id: str) -> None:
        """The ledger owes what there is to say about this run."""
        if not self._tells_of(run_id):
            now = self._store.now()
            self._store.execute("INSERT OR IGNORE INTO ledger_due VALUES (?, ?)", run_id, now)

    def settle_runs(self, entries: Sequence[tuple[bytes, Entry]]) -> None:
        """What these entries tell as it was is owed no more: runs, and statements of this site."""
        facts = [entry.fact for _, entry in entries]
        stated = {fact.statement for fact in facts if isinstance(fact, ContractChanged)}
        told = {subject_of(fact) for fact in facts if fact.kind.startswith("run.")}
        over = {fact.run_id for fact in facts if isinstance(fact, RunEnded)}
        due = self._store.execute("SELECT run_id FROM ledger_due") if stated | told else []
        for (one,) in due:
            ended = one.startswith(END) and one.removeprefix(END) in over
            if ended or one in stated or (one in told and self._tells_of(one)):
                self.forget_run(one)

    def expect_end(self, run_id: str, number: int = 0, *, lasts: timedelta = timedelta(0)) -> None:
        """Round `number` of a run was just answered here: the ledger owes how the run ends.

        A run that failed may go on, and then ends once more; the round in which it failed may just
        have been answered too late.

        Args:
            lasts: How long it may go on without asking this site again.
        """
        ends = [fact for fact in self.facts("run.ended", run_id) if isinstance(fact, RunEnded)]
        if ends:
            last = ends[-1].rounds[-1].last if ends[-1].rounds else 0
            if ends[-1].status != "failed" or number <= last + 1:
                return
        since = to_rfc3339(parse_rfc3339(self._store.now()) + lasts)
        self._store.execute("INSERT OR REPLACE INTO ledger_due VALUES (?, ?)", END + run_id, since)

    def expect_statement(self, envelope: bytes) -> None:
        """The hub has taken a statement of this site, and owes its entry."""
        digest = digest_bytes(envelope)
        if statements.find(self._store, digest) is None:
            return  # this site does not know that it made it
        facts = self.facts("contract", open_statement(envelope)[0].study)
        if not any(isinstance(f, ContractChanged) and f.statement == digest for f in facts):
            now = self._store.now()
            self._store.execute("INSERT OR IGNORE INTO ledger_due VALUES (?, ?)", digest, now)

    def _tells_of(self, run_id: str) -> bool:
        """Whether the ledger has the very order that this site answered, and what became of it.

        That a run was denied, or ordered under another contract, is said of another run than the
        one that this site took part in.
        """
        submitted = self.facts("run.submitted", run_id)
        run = self._store.run(run_id) if submitted else None
        if run is None or _ordered(run.envelope) not in submitted:
            return False
        return bool(self.facts("run.decided", run_id) or self.facts("run.ended", run_id))

    def forget_runs(self) -> None:
        """Nothing is owed any more: what was under way is lost with the hub."""
        self._store.execute("DELETE FROM ledger_due")

    def forget_run(self, run_id: str) -> None:
        """Nothing is owed about this run, or statement, any more."""
        self._store.execute("DELETE FROM ledger_due WHERE run_id = ?", run_id)

    def overdue(self, before: datetime, *, ends: bool = False) -> list[str]:
        """Runs that this site answered before that time and that are not on the ledger; so with
        statements, by their digest. With `ends`: ends of runs, each after `END`.
        """
        rows = self._store.execute(
            "SELECT run_id FROM ledger_due WHERE since < ? AND (run_id LIKE ?) = ? ORDER BY since",
            to_rfc3339(before),
            END + "%",
            int(ends),
        )
        return [run_id for (run_id,) in rows]


@lru_cache(maxsize=64)
def _ordered(envelope: bytes) -> RunSubmitted:
    """What the ledger says of a signed request."""
    request, signer = open_request(envelope)
    return RunSubmitted(
        run_id=request.run_id,
        study=request.study,
        contract=request.contract_digest,
        computation=request.computation,
        researcher=signer,
        request=digest_bytes(envelope),
    )


def subject_of(fact: Fact) -> str:
    """What an entry is found by: a run, a study or a name."""
    for field in ("run_id", "study", "member", "name"):
        value = getattr(fact, field, None)
        if value is not None:
            return str(value)
    return ""
