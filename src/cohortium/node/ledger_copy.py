"""The node's copy of the ledger: recomputed from its bytes, and written as static files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohortium.core.clock import to_rfc3339
from cohortium.crypto.keys import fingerprint
from cohortium.errors import ConflictError, InputError, IntegrityFailure, VerificationError
from cohortium.ledger.checkpoint import Checkpoint, open_checkpoint
from cohortium.ledger.entry import parse_entry
from cohortium.ledger.members import Members, require_final
from cohortium.ledger.tiles import CHECKPOINT, Mirror, verified_entries
from cohortium.node.replica import CheckpointKind, Replica


@dataclass(frozen=True)
class Verified:
    """What was recomputed.

    Attributes:
        entries: In the copy.
        final: Of them under a checkpoint that more than two thirds of the members cosigned.
        root: In hex.
    """

    entries: int
    final: int
    root: str


def verify(replica: Replica) -> Verified:
    """Recompute the whole copy from its entries.

    Raises:
        IntegrityFailure: ``broken-store``: the copy is not what its checkpoints say.
        VerificationError: ``bad-checkpoint``, ``not-final``: a checkpoint is not signed as it was.
        InputError: ``not-found`` where there is no ledger yet.
    """
    # 1. The newest checkpoint has the log's signature. 2. All entries and tiles are under its root.
    # 3. Each entry is one, not before the one in front of it. 4. The checkpoints name the members
    # that the entries make. 5. The final one has its quorum, and is of this log.
    mirror, newest = replica.mirror(newest=True), replica.checkpoint("seen")
    if newest is None:
        raise _broken("it has no checkpoint")
    checkpoint, _ = open_checkpoint(mirror.checkpoint, newest.key)  # 1
    if checkpoint.size != replica.size:
        raise _broken(f"it has {replica.size} entries, its checkpoint {checkpoint.size}")
    final = replica.checkpoint("final")
    size = 0 if final is None else final.size
    members, then = _members(mirror, checkpoint, size)  # 2, 3
    if checkpoint.members != members.digest:  # 4
        raise _broken("its checkpoint names other members")
    if final is not None:  # 5
        opened = require_final(final.note, final.key, then.members)
        if mirror.tree.root(size) != opened.root:
            raise _broken("its final checkpoint has another root")
    return Verified(checkpoint.size, size, checkpoint.root.hex())


def _members(mirror: Mirror, checkpoint: Checkpoint, size: int) -> tuple[Members, Members]:
    """The members after all entries and after the first `size` of them."""
    members, then, position, last = Members(), Members(), 0, None
    try:
        for bundle in verified_entries(mirror.get, checkpoint):
            for data in bundle:
                entry = parse_entry(data)
                if last is not None and entry.at < last:
                    raise _broken(f"entry {position} is older than the one before it")
                last, position = entry.at, position + 1
                members = members.after(entry.fact)
                then = members if position == size else then
    except (VerificationError, InputError) as error:
        raise _broken(error.message) from error
    return members, then


def _broken(why: str) -> IntegrityFailure:
    return IntegrityFailure(
        "broken-store", f"This node's copy of the ledger was altered or is damaged: {why}."
    )


def export(
    replica: Replica,
    folder: Path,
    *,
    newest: bool = False,
) -> int:
    """Write the copy as static files (C2SP tlog-tiles); returns how many.

    Raises:
        InputError: ``not-found`` where there is no ledger yet.
        ConflictError: ``already-exists`` where the folder has something else in it.
    """
    mirror = replica.mirror(newest=newest)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / CHECKPOINT).is_file():
        raise ConflictError("already-exists", f"{folder} is not empty: name a new folder.")
    written = 0
    for path in mirror.paths():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(mirror.get(path))
        written += 1
    return written


def summary(replica: Replica) -> dict[str, Any]:
    """Sizes and times, for people and programs."""
    key = replica.recall("key")
    found: dict[str, Any] = {
        "size": replica.size,
        "key": key,
        "key_fingerprint": None if key is None else fingerprint(key),
    }
    kinds: tuple[CheckpointKind, ...] = ("seen", "cosigned", "final")
    for kind in kinds:
        stored = replica.checkpoint(kind)
        at = None if stored is None else to_rfc3339(stored.at)
        found[kind] = None if stored is None else {"size": stored.size, "at": at}
    return found
