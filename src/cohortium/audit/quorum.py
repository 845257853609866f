"""Steps 8 and 12: who witnessed, of each contract while it was in force."""

from __future__ import annotations

from collections.abc import Mapping

from cohortium.audit.bundle import Bundle, Handover, Release
from cohortium.audit.history import History, Reign
from cohortium.audit.log import LogKeys
from cohortium.audit.steps import Facts, require
from cohortium.ledger.checkpoint import Checkpoint, cosigners
from cohortium.ledger.members import quorum, require_final
from cohortium.ledger.merkle import verify_consistency
from cohortium.ledger.note import Note


def check_quorum(
    bundle: Bundle, keys: LogKeys, checkpoint: Checkpoint, history: History, facts: Facts
) -> dict[str, int]:
    """Step 8: enough members witnessed the checkpoint, and enough of each contract's participants.

    Those of the contract that is or was last in force witnessed the checkpoint; those of an earlier
    one witnessed that it ended, on this or an earlier checkpoint. Else whoever proposes a contract
    could put institutions of his own in the place of those who saw what happened under the others.

    Returns:
        When each institution cosigned the bundle's checkpoint, in POSIX seconds.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    note = bundle.checkpoint.encode()
    participants = history.witnesses(checkpoint.size)
    with facts.of("quorum"):
        require_final(note, keys.of(note), bundle.members, participants)
        everyone = {**bundle.members, **(participants or {})}
        witnesses = cosigners(Note.parse(note), checkpoint.origin, everyone)
    given = {one.contract: one for one in bundle.handovers or ()}
    for reign in history.replaced(checkpoint.size):
        with facts.of("quorum", reign.until):
            _check_handover(bundle, reign, given.pop(reign.digest, None), keys, checkpoint)
    with facts.of("quorum"):
        require(not given, "A checkpoint is about a contract that nothing has replaced.")
    return witnesses


def _check_handover(
    bundle: Bundle,
    reign: Reign,
    handover: Handover | None,
    keys: LogKeys,
    checkpoint: Checkpoint,
) -> None:
    """The participants of a contract have witnessed that it ended."""
    sites, version = reign.witnesses, reign.contract.version
    if handover is not None:
        before = _earlier(bundle, handover, keys, sites, checkpoint)
        covers = reign.until is not None and before.size > reign.until
        require(covers, f"They witnessed nothing after the end of version {version}.")
        return
    own = Note.parse(bundle.checkpoint.encode())
    signed = cosigners(own, checkpoint.origin, sites)
    require(
        len(signed) >= quorum(len(sites)),
        f"{len(signed)} of the {len(sites)} participants of version {version} of the contract have "
        f"witnessed what came after it; {quorum(len(sites))} must",
    )


def check_release(
    bundle: Bundle,
    release: Release,
    *,
    ended: int,
    keys: LogKeys,
    participants: Mapping[str, str],
    checkpoint: Checkpoint,
) -> None:
    """Step 12: the receipt of a result is final, covers the run's end, and is of this same log.

    Args:
        ended: The place of the entry that holds the result's commitment.
        participants: Of the run's own contract.
        checkpoint: The bundle's.

    Raises:
        VerificationError: ``bad-checkpoint``, ``not-final``, ``bad-proof``, ``bad-bundle``.
    """
    before = _earlier(bundle, release, keys, participants, checkpoint)
    require(before.size > ended, "The receipt is of a checkpoint that does not cover the result.")


def _earlier(
    bundle: Bundle,
    held: Release | Handover,
    keys: LogKeys,
    participants: Mapping[str, str],
    checkpoint: Checkpoint,
) -> Checkpoint:
    """A final checkpoint that the bundle's continues."""
    note = held.checkpoint.encode()
    members = bundle.members if held.members is None else held.members
    before = require_final(note, keys.of(note), members, participants)
    verify_consistency(
        before.size,
        before.root,
        checkpoint.size,
        checkpoint.root,
        [bytes.fromhex(node) for node in held.consistency],
    )
    return before
