"""A node's part as witness in a few lines: it computes the tree and cosigns what fits."""

from __future__ import annotations

from dataclasses import dataclass, field

from cohortium.crypto.keys import SigningKey
from cohortium.ledger.checkpoint import Checkpoint, cosign
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.note import Note
from cohortium.ledger.tree import Tiles, Tree, tree_of
from cohortium.link._generated.link_pb2 import LedgerUpdate, Message


@dataclass
class FakeWitness:
    """Cosigns every checkpoint whose root is that of the entries that it was given.

    Attributes:
        entries: All that it has.
        final: The newest final checkpoint that it was shown.
        signs: Whether it cosigns at all.
        shown: The size after each update, in order.
    """

    site: str
    key: SigningKey
    time_s: int = 1_795_000_000
    signs: bool = True
    entries: list[bytes] = field(default_factory=list)
    final: bytes = b""
    shown: list[int] = field(default_factory=list)
    _tiles: Tiles = field(default_factory=dict)

    def answer(self, update: LedgerUpdate) -> Message:
        """The reply to an update; a checkpoint that does not fit is an error of the test."""
        reply = Message()
        reply.cosignature.size = len(self.entries)
        if update.start != len(self.entries):
            return reply
        tree, changed = self._tree().extended([leaf_hash(entry) for entry in update.entries])
        note = Note.parse(update.checkpoint)
        checkpoint = Checkpoint.parse(note.text)
        if (checkpoint.size, checkpoint.root) != (tree.size, tree.root()):
            raise AssertionError(f"{self.site} was shown another history")
        self._tiles.update(changed)
        self.entries.extend(update.entries)
        self.final = update.final or self.final
        self.shown.append(tree.size)
        reply.cosignature.size = tree.size
        if self.signs and not update.more:
            reply.cosignature.line = cosign(
                note, checkpoint.origin, self.site, self.key, self.time_s
            )
        return reply

    def _tree(self) -> Tree:
        return tree_of(self._tiles, len(self.entries))
