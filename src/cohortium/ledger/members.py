"""Who the members are, as the ledger tells it, and when a checkpoint is final."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cohortium.core.canonical import digest
from cohortium.errors import VerificationError
from cohortium.ledger.checkpoint import Checkpoint, cosigners, open_checkpoint
from cohortium.ledger.entry import Fact, MemberChanged
from cohortium.ledger.note import VerifierKey


@dataclass(frozen=True, slots=True)
class Members:
    """The approved members after some entries: each one's name and contract key."""

    members: Mapping[str, str] = field(default_factory=dict)

    def after(self, fact: Fact) -> Members:
        """The members once this fact stands on the ledger."""
        if not isinstance(fact, MemberChanged):
            return self
        others = {name: key for name, key in self.members.items() if name != fact.name}
        return Members({**others, fact.name: fact.key} if fact.status == "approved" else others)

    def after_all(self, facts: Iterable[Fact]) -> Members:
        """The members once all these facts stand on the ledger."""
        out = self
        for fact in facts:
            out = out.after(fact)
        return out

    @property
    def digest(self) -> str:
        """``sha256:...`` of the canonical JSON of names and keys."""
        return digest(dict(self.members))


def quorum(members: int) -> int:
    """How many of so many make a checkpoint final: more than two thirds."""
    return members * 2 // 3 + 1


def require_final(
    note: bytes,
    log_key: VerifierKey,
    members: Mapping[str, str],
    participants: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Check that a checkpoint is final.

    The log's key alone proves nothing, and neither do members that the hub has invented: where it
    is about a study, more than two thirds of its contract's participants must have cosigned too.

    Args:
        note: The cosigned checkpoint.
        members: Site to contract key of all that were approved when it was made; the checkpoint
            itself names their digest.
        participants: Site to contract key of the contract's participants, from the contract; None
            only where the checkpoint is not asked about a study.

    Raises:
        VerificationError: ``not-final``; ``bad-checkpoint`` where a signature does not verify.
    """
    # 1. The log's signature. 2. The members are those that it names. 3. The quorums.
    checkpoint, parsed = open_checkpoint(note, log_key)  # 1
    if checkpoint.members != Members(members).digest:  # 2
        raise VerificationError("not-final", "The checkpoint names other members than these.")
    for who, keys in (("members", members), ("participants", participants)):  # 3
        if keys is None:
            continue
        signed = cosigners(parsed, checkpoint.origin, keys)
        if len(signed) < quorum(len(keys)):
            missing = sorted(keys.keys() - signed.keys())
            raise VerificationError(
                "not-final",
                f"{len(signed)} of {len(keys)} {who} have witnessed the ledger's checkpoint; "
                f"{quorum(len(keys))} must.",
                missing=missing,
            )
    return checkpoint
