"""Verifying a whole copy of the ledger, entries included, and what stands on it in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cohortium.ledger.checkpoint import open_checkpoint, origin
from cohortium.ledger.entry import (
    ContractChanged,
    EnclaveChanged,
    Entry,
    Founded,
    MemberChanged,
    ResearcherChanged,
    TakenOver,
    parse_entry,
)
from cohortium.ledger.members import Members, require_final
from cohortium.ledger.note import VerifierKey, refused
from cohortium.ledger.tiles import CHECKPOINT, Read, verified_entries


@dataclass
class Standing:
    """What a log says in the end; facts are taken in one after the other.

    Attributes:
        size: Entries so far.
        founded: The first entry's fact.
        last_at: Date of the last entry.
        log_key: The log's key since a hub took over; None where none ever did.
        institutions: The last fact about each one, by name.
        enclaves: As of institutions.
        researchers: The last fact about each key.
        statements: What was stated about contracts and drafts, in order.
    """

    size: int = 0
    founded: Founded | None = None
    last_at: datetime | None = None
    log_key: str | None = None
    institutions: dict[str, MemberChanged] = field(default_factory=dict)
    enclaves: dict[str, EnclaveChanged] = field(default_factory=dict)
    researchers: dict[str, ResearcherChanged] = field(default_factory=dict)
    statements: list[ContractChanged] = field(default_factory=list)

    @property
    def members(self) -> Mapping[str, str]:
        """The approved members' names and keys."""
        return Members().after_all(self.institutions.values()).members

    def take(self, entry: Entry) -> None:
        """The next entry.

        Raises:
            VerificationError: ``bad-checkpoint`` where it cannot stand at this place.
        """
        fact = entry.fact
        if isinstance(fact, Founded) != (self.size == 0):
            raise refused("The ledger does not begin with the founding, and only there.")
        if self.last_at is not None and entry.at < self.last_at:
            raise refused(f"Entry {self.size} of the ledger is older than the one before it.")
        match fact:
            case Founded():
                self.founded = fact
            case TakenOver():
                if fact.size != self.size:
                    raise refused("A hub says that it took over another number of entries.")
                self.log_key = fact.key
            case MemberChanged():
                self.institutions[fact.name] = fact
            case EnclaveChanged():
                self.enclaves[fact.name] = fact
            case ResearcherChanged():
                self.researchers[fact.key] = fact
            case ContractChanged():
                self.statements.append(fact)
            case _:
                pass
        self.last_at = entry.at
        self.size += 1


@dataclass(frozen=True)
class Replica:
    """A copy that was verified.

    Attributes:
        note: Its final checkpoint.
        founded: Which consortium's log it is.
    """

    note: bytes
    founded: Founded
    standing: Standing


def verify_replica(
    read: Read, key: VerifierKey, receive: Callable[[Sequence[Entry]], None] | None = None
) -> Replica:
    """Verify a copy of the log: all hashes, all entries, and that its checkpoint is final.

    Args:
        key: The log's key, known from elsewhere than from the copy.
        receive: Gets the entries in order, up to 256 at a time. What it made of them counts only
            when this function has returned.

    Raises:
        VerificationError: ``bad-checkpoint``, ``bad-proof``, ``not-final``.
        ProtocolError: ``malformed-message``.
    """
    # 1. The log's signature. 2. Every hash. 3. Every entry. 4. It is this key's log, from the
    # founding on, and since the last take-over. 5. Enough of the members that it names cosigned.
    note = read(CHECKPOINT)
    if note is None:
        raise refused("The ledger's copy has no checkpoint.")
    checkpoint, _ = open_checkpoint(note, key)  # 1
    standing = Standing()
    for part in verified_entries(read, checkpoint):  # 2
        entries = [parse_entry(data) for data in part]  # 3
        for entry in entries:
            standing.take(entry)
        if receive is not None:
            receive(entries)
    founded = standing.founded
    if founded is None or origin(founded.fingerprint) != checkpoint.origin:  # 4
        raise refused("The ledger's copy is that of another consortium.")
    if standing.log_key not in {None, key.text}:
        raise refused("Another hub has taken over since: its ledger has another key.")
    require_final(note, key, standing.members)  # 5
    return Replica(note, founded, standing)
