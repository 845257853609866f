"""Logs for tests: entries, a tree in memory, a mirror as a dictionary, a naive Merkle tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from cohortium.ledger.note import Note, VerifierKey
from cohortium.ledger.tiles import Mirror
from cohortium.ledger.tree import Tree, tree_of

FINGERPRINT = "sha256:" + "5a" * 32
ORIGIN = origin(FINGERPRINT)


def key(number: int) -> SigningKey:
    """A key that is the same in every run."""
    return SigningKey.from_seed(bytes([number]) * 32)


def naive_root(entries: Sequence[bytes]) -> bytes:
    """RFC 9162 2.1.1, as it is written there."""
    if not entries:
        return EMPTY_ROOT
    if len(entries) == 1:
        return leaf_hash(entries[0])
    k = split(len(entries))
    return node_hash(naive_root(entries[:k]), naive_root(entries[k:]))


def naive_path(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """RFC 9162 2.1.3.1, PATH."""
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*naive_path(m, entries[:k]), naive_root(entries[k:])]
    return [*naive_path(m - k, entries[k:]), naive_root(entries[:k])]


def naive_subproof(m: int, entries: Sequence[bytes], complete: bool) -> list[bytes]:
    """RFC 9162 2.1.4.1, SUBPROOF."""
    n = len(entries)
    if m == n:
        return [] if complete else [naive_root(entries)]
    k = split(n)
    if m <= k:
        return [*naive_subproof(m, entries[:k], complete), naive_root(entries[k:])]
    return [*naive_subproof(m - k, entries[k:], False), naive_root(entries[:k])]


def split(n: int) -> int:
    """The largest power of two smaller than `n`."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


@dataclass
class Log:
    """A log in memory with its own key and witnesses."""

    entries: list[bytes] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    own: SigningKey = field(default_factory=lambda: key(1))
    witnesses: Mapping[str, SigningKey] = field(
        default_factory=lambda: {f"Site {n}": key(10 + n) for n in range(4)}
    )

    @property
    def tree(self) -> Tree:
        return tree_of(self.tiles, len(self.entries))

    @property
    def key(self) -> VerifierKey:
        return log_key(ORIGIN, self.own.public)

    @property
    def members(self) -> dict[str, str]:
        return {site: witness.public for site, witness in self.witnesses.items()}

    def append(self, *entries: bytes) -> None:
        """More entries."""
        _, changed = self.tree.extended([leaf_hash(entry) for entry in entries])
        self.tiles.update(changed)
        self.entries.extend(entries)

    def checkpoint(self, size: int | None = None) -> bytes:
        """Signed by the log."""
        wanted = len(self.entries) if size is None else size
        extensions = (members_line(Members(self.members).digest),)
        return sign(Checkpoint(ORIGIN, wanted, self.tree.root(wanted), extensions), self.own)

    def cosigned(self, *sites: str, size: int | None = None, time_s: int = 1_800_000_000) -> bytes:
        """Signed by the log and by these sites; by all without an argument."""
        note = self.checkpoint(size)
        parsed = Note.parse(note)
        return add_cosignatures(
            note,
            [
                cosign(parsed, ORIGIN, site, self.witnesses[site], time_s)
                for site in sites or self.witnesses
            ],
        )

    def mirror(self) -> dict[str, bytes]:
        """All files of the static copy."""
        mirror = Mirror(self.tree, lambda start, end: self.entries[start:end], self.cosigned())
        return {path: mirror.get(path) for path in mirror.paths()}


def log_of(size: int) -> Log:
    """A log of small distinct entries."""
    log = Log()
    log.append(*(b"entry %d" % number for number in range(size)))
    return log
