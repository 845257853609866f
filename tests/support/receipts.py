"""A small ledger with one run's end on it, cosigned, and what the hub says of the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cohortium.core.canonical import canonical
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
from cohortium.ledger.entry import Entry, Fact, Founded, RunEnded, commitment
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.note import Note
from cohortium.ledger.tree import tree_of

LOG = SigningKey.from_seed(b"log".ljust(32, b"."))
NONCE = b"\x07" * 32


@dataclass(frozen=True)
class SmallLedger:
    """A log whose members are all of `keys`; those in `signing` cosign."""

    fingerprint: str
    keys: Mapping[str, SigningKey]
    signing: Collection[str] | None = None
    log: SigningKey = LOG

    @property
    def verifier(self) -> str:
        """The log's verifier key."""
        return log_key(origin(self.fingerprint), self.log.public).text

    def result(self, run_id: str, result: Any, **changes: Any) -> dict[str, Any]:
        """``result``, ``nonce`` and ``receipt`` of a `RunResult`."""
        fields = {
            "run_id": run_id,
            "status": "succeeded",
            "result": commitment(NONCE, canonical(result)),
        }
        return {
            "result": result,
            "nonce": NONCE.hex(),
            "receipt": self.receipt(RunEnded.model_validate(fields | changes)),
        }

    def receipt(self, fact: Fact) -> dict[str, Any]:
        """The receipt of an entry between two others."""
        founded = Founded(name="Test", fingerprint=self.fingerprint)
        facts = [founded, fact, founded.model_copy(update={"name": "Later"})]
        at = datetime(2026, 11, 22, tzinfo=UTC)
        entries = [Entry(at=at, fact=one).to_bytes() for one in facts]
        tree, tiles = tree_of({}, 0).extended([leaf_hash(entry) for entry in entries])
        tree = tree_of(tiles, len(entries))
        members = Members({name: key.public for name, key in self.keys.items()})
        log = origin(self.fingerprint)
        note = sign(
            Checkpoint(log, tree.size, tree.root(), (members_line(members.digest),)), self.log
        )
        lines = [
            cosign(Note.parse(note), log, name, self.keys[name], 1_795_000_000)
            for name in (self.keys if self.signing is None else self.signing)
        ]
        return {
            "index": 1,
            "entry": entries[1].decode(),
            "proof": [node.hex() for node in tree.inclusion_proof(1)],
            "checkpoint": add_cosignatures(note, lines).decode(),
            "members": dict(members.members),
        }
