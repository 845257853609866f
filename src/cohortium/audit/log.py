"""Steps 2, 3, 4, 8 and 12: the ledger that a bundle speaks of, and who witnessed it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cohortium.audit.bundle import Bundle
from cohortium.audit.steps import Facts, require
from cohortium.core.canonical import digest
from cohortium.errors import VerificationError
from cohortium.ledger.checkpoint import Checkpoint, open_checkpoint, origin
from cohortium.ledger.entry import Entry, Fact, Founded, MemberChanged, TakenOver
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import leaf_hash, verify_inclusion
from cohortium.ledger.note import ED25519, Note, VerifierKey, parse_verifier_key
from cohortium.ledger.tree import tree_of

YEARS = range(2020, 2200)
"""An entry is dated in one of these, so that sums of dates cannot overflow."""


@dataclass(frozen=True)
class Logged:
    """An entry and its place."""

    index: int
    entry: Entry

    @property
    def fact(self) -> Fact:
        """What it says."""
        return self.entry.fact


class LogKeys:
    """The keys that sign the log's checkpoints, by size."""

    def __init__(self, bundle: Bundle) -> None:
        self._keys: list[tuple[int, VerifierKey]] = []
        for key in bundle.log.keys:
            parsed = parse_verifier_key(key.key)
            require(parsed.name == bundle.log.origin, "A key of the log is named after another.")
            require(parsed.kind == ED25519, "A key of the log is not an Ed25519 key.")
            last = self._keys[-1][0] if self._keys else -1
            require(key.size > last, "The keys of the log are not in order.")
            self._keys.append((key.size, parsed))

    @property
    def texts(self) -> dict[int, str]:
        """Each key by the size after which it signs."""
        return {size: key.text for size, key in self._keys}

    def open(self, note: bytes) -> tuple[Checkpoint, Note]:
        """A checkpoint, verified with the key of its size.

        Raises:
            VerificationError: ``bad-checkpoint``.
        """
        return open_checkpoint(note, self.of(note))

    def of(self, note: bytes) -> VerifierKey:
        """The key that has to have signed a checkpoint."""
        size = Checkpoint.parse(Note.parse(note).text).size
        found = next((key for since, key in reversed(self._keys) if since < size), None)
        if found is None:
            raise VerificationError("bad-checkpoint", "Nobody knows who signed the log then.")
        return found


def check_log(
    bundle: Bundle, entries: Sequence[Logged], pinned: str | None, facts: Facts
) -> LogKeys:
    """Step 2: the log is that of the consortium whose founding is its first entry.

    Args:
        pinned: The verifier key that the auditor has from elsewhere.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    with facts.of("log", entries[0].index):
        founded = founding(entries)
        require(
            bundle.log.origin == origin(founded.fingerprint),
            "The log's name is not that of the consortium.",
        )
    with facts.of("log"):
        keys = LogKeys(bundle)
        newest = list(keys.texts.values())[-1]
        require(pinned in {None, newest}, "The log's key is not the one that you gave.")
    taken: dict[int, str] = {}
    for logged in entries[1:]:
        if isinstance(logged.fact, TakenOver):
            with facts.of("log", logged.index):
                fact = logged.fact
                require(fact.size <= logged.index, "A hub took over more than there was.")
                taken[fact.size] = fact.key
                require(keys.texts.get(fact.size) == fact.key, "The new hub's key is not there.")
        require_not_founded(logged, facts)
    with facts.of("log"):
        foreign = [size for size in keys.texts if size and size not in taken]
        require(not foreign, "A key of the log is not that of a hub that took over.")
    return keys


def founding(entries: Sequence[Logged]) -> Founded:
    """The first entry.

    Raises:
        VerificationError: ``bad-bundle`` where it is not there.
    """
    first = entries[0]
    if first.index != 0 or not isinstance(first.fact, Founded):
        raise VerificationError("bad-bundle", "The ledger's first entry is not there.")
    return first.fact


def require_not_founded(logged: Logged, facts: Facts) -> None:
    """A consortium is founded once."""
    if isinstance(logged.fact, Founded):
        with facts.of("log", logged.index):
            raise VerificationError("bad-bundle", "The consortium is founded a second time.")


def check_checkpoint(bundle: Bundle, keys: LogKeys, facts: Facts) -> Checkpoint:
    """Step 3: the log signed the checkpoint, which names the members.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    with facts.of("checkpoint"):
        checkpoint, _ = keys.open(bundle.checkpoint.encode())
        require(
            checkpoint.members == digest(dict(bundle.members)),
            "The members are not those that the checkpoint names.",
        )
    return checkpoint


def check_entries(
    bundle: Bundle, entries: Sequence[Logged], checkpoint: Checkpoint, facts: Facts
) -> None:
    """Step 4: each entry stands in the log, in order, and about membership they agree.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    texts = [logged.entry.encode() for logged in bundle.entries]
    if bundle.coverage == "log":
        with facts.of("entries"):
            require(len(texts) == checkpoint.size, "These are not all entries of the log.")
            tree, _ = tree_of({}, 0).extended([leaf_hash(text) for text in texts])
            require(tree.root() == checkpoint.root, "The entries are not those of the checkpoint.")
            require(not any(logged.proof for logged in bundle.entries), "A proof is superfluous.")
    before: Entry | None = None
    for logged, held, text in zip(entries, bundle.entries, texts, strict=True):
        with facts.of("entries", logged.index):
            if bundle.coverage == "study":
                proof = [bytes.fromhex(node) for node in held.proof]
                leaf = leaf_hash(text)
                verify_inclusion(held.index, checkpoint.size, leaf, proof, checkpoint.root)
            at = logged.entry.at
            require(at.year in YEARS, "The entry is from another century.")
            require(before is None or at >= before.at, "The entry is older than one before it.")
            about = getattr(logged.fact, "study", bundle.study)
            foreign = bundle.coverage == "study" and about != bundle.study
            require(not foreign, "The entry is about another study.")
            before = logged.entry
    with facts.of("entries"):
        _check_members(bundle, entries)


def _check_members(bundle: Bundle, entries: Iterable[Logged]) -> None:
    changed = [logged.fact for logged in entries if isinstance(logged.fact, MemberChanged)]
    known = Members().after_all(changed).members
    for name in {fact.name for fact in changed}:
        require(
            known.get(name) == bundle.members.get(name),
            f"The entries do not say what the checkpoint says of the member {name}.",
        )
    if bundle.coverage == "log":
        require(dict(known) == bundle.members, "A member never joined.")
