"""The life of a study's contracts, as it follows from signed statements alone.

    propose ──> proposed ──all signed──> active <──suspend/resume──> suspended
                   │                        └───────────┬───────────────┘
                   ├─refuse──> refused                  ├─revoke──> revoked
                   ├─withdraw> withdrawn                ├─close───> closed
                   └───────────────superseded <─────────┘ (another version became active)

Pure: no clock, no storage. Hub, nodes and audit fold the same statements into the same life, so
that none of them has to believe another; what was accepted once is accepted at any later time. Who
may end a contract may also amend it: an amendment ends its predecessor. Expiry is no statement; it
follows from the contract and a clock (`permits`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from cohortium.contract.model import Contract, Draft
from cohortium.contract.statements import Assignment, Transition, open_statement
from cohortium.contract.version import (
    Version,
    VersionState,
    changed,
    how_ended,
    may_suspend,
    permits,
    proposer,
    require_unexpired,
    suspended,
)
from cohortium.errors import (
    ConflictError,
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)

CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class StudyLife:
    """A study's contracts in the order in which they were proposed.

    Attributes:
        said: The transitions that were accepted.
    """

    study: str
    versions: tuple[Version, ...]
    said: frozenset[Transition] = frozenset()

    @property
    def in_force(self) -> Version | None:
        """The version that is active or suspended; there is one at most."""
        return next((version for version in self.versions if version.in_force), None)

    @property
    def newest(self) -> Version:
        """The one proposed last."""
        return self.versions[-1]

    @property
    def current(self) -> Version:
        """The one in force, else the one proposed last."""
        return self.in_force or self.newest

    def version(self, digest: str) -> Version:
        """The version of that digest, or InputError ``not-found``."""
        found = next((version for version in self.versions if version.digest == digest), None)
        if found is None:
            raise InputError(
                "not-found", f"The study {self.study} has no contract with that digest."
            )
        return found

    def amendments(self, digest: str) -> tuple[Version, ...]:
        """The versions that amend the one of that digest."""
        return tuple(v for v in self.versions if v.contract.amends == digest)

    def with_(self, *changed: Version) -> StudyLife:
        """With these versions as they are now."""
        by_digest = {version.digest: version for version in changed}
        return replace(self, versions=tuple(by_digest.get(v.digest, v) for v in self.versions))


def propose(life: StudyLife | None, contract: Contract, signer: str, now: datetime) -> StudyLife:
    """A contract signed by its proposer, whose signature counts where it is needed.

    Raises:
        VerificationError: ``unknown-signer``; ``bad-digest`` for another study; ``stale-request``
            for a contract from the future.
        PolicyRefusal: ``contract-expired``; ``not-authorised`` for an amendment by a stranger.
        ConflictError: ``already-exists`` where the study has a contract that an amendment could
            replace; ``stale-version`` for an amendment of another version than the one in force.
    """
    after = _propose(life, contract, signer, now)
    if after is not life:
        require_unexpired(contract, now)
    return after


def _propose(life: StudyLife | None, contract: Contract, signer: str, now: datetime) -> StudyLife:
    # 1. The proposer signed. 2. Seen before. 3. Not from the future. 4. A first version where no
    # other is open. 5. An amendment of the version in force, 6. by one who could end that, too.
    if signer != contract.proposed_by.key:  # 1
        raise VerificationError("unknown-signer", "The contract names another proposer.")
    if life is not None and life.study != contract.study:
        raise VerificationError("bad-digest", "The contract is about another study.")
    digest = contract.digest
    if life is not None and any(version.digest == digest for version in life.versions):  # 2
        return life
    if contract.created_at > now + CLOCK_SKEW:  # 3
        raise VerificationError(
            "stale-request", "The contract is from the future; compare the machines' clocks."
        )
    if contract.amends is not None:
        _require_amendable(life, contract)  # 5, 6
    elif life is not None:
        _require_nothing_open(life, contract)  # 4
    name = contract.proposed_by.name
    signed = frozenset({name}) & contract.signatories.keys()
    version = Version(contract, digest, signed=signed)
    earlier = life or StudyLife(contract.study, ())
    return _activated(replace(earlier, versions=(*earlier.versions, version)), digest)


def _require_nothing_open(life: StudyLife, contract: Contract) -> None:
    for version in life.versions:
        if version.open and contract.created_at < version.contract.expires_at:
            raise ConflictError(
                "already-exists",
                f"The study {life.study} has a contract that is {version.state}: amend or withdraw "
                "it, or choose another id.",
                current=version.digest,
            )


def _require_amendable(life: StudyLife | None, contract: Contract) -> None:
    before = None if life is None else life.in_force
    if before is None:
        raise ConflictError(
            "stale-version", f"No contract of the study {contract.study} is in force to be amended."
        )
    if (contract.amends, contract.version) != (before.digest, before.contract.version + 1):  # 5
        raise ConflictError(
            "stale-version",
            f"In force is version {before.contract.version} with digest {before.digest}: amend "
            "that one.",
            current=before.digest,
        )
    may_end = {**before.contract.signatories, proposer(before): before.contract.proposed_by.key}
    if contract.proposed_by.key not in may_end.values():  # 6
        raise PolicyRefusal(
            "not-authorised", "Only its proposer or a signatory may amend this contract."
        )


def sign(life: StudyLife, digest: str, signer: str, now: datetime) -> StudyLife:
    """A signatory's signature over exactly this version; the last one makes it active.

    Raises:
        InputError: ``not-found``.
        VerificationError: ``unknown-signer``.
        ConflictError: ``stale-version``, naming the current one.
        PolicyRefusal: ``contract-ended``, ``contract-expired``.
    """
    after = _sign(life, digest, signer)
    if after is not life:
        require_unexpired(life.version(digest).contract, now)
    return after


def _sign(life: StudyLife, digest: str, signer: str) -> StudyLife:
    version = life.version(digest)
    name = _name_of(version, signer)
    if name in version.signed:
        return life
    require_open(life, version)
    signed = replace(version, signed=version.signed | {name})
    return _activated(life.with_(signed), digest)


def _activated(life: StudyLife, digest: str) -> StudyLife:
    """Where everybody has signed, the version is in force, and no other is or can come to be.

    Suspensions outlive an amendment: only who suspended may lift that.
    """
    version = life.version(digest)
    if version.missing:
        return life
    why = f"Version {version.contract.version} with digest {digest} came into force."
    by = proposer(version)
    others = [
        replace(other, state="superseded", ended_by=by, reason=why)
        for other in life.versions
        if other.open and other.digest != digest
    ]
    # A site that joins with this version has not seen the one before.
    before = next(
        (other for other in life.versions if other.digest == version.contract.amends), None
    )
    held = {} if before is None else before.suspensions
    may = may_suspend(version)
    kept = {name: what for name, what in held.items() if name in may}
    return life.with_(suspended(replace(version, state="active"), kept), *others)


def apply(life: StudyLife, said: Transition, signer: str, now: datetime) -> StudyLife:
    """A transition signed with `signer`; the same one again changes nothing.

    Raises:
        InputError: ``not-found``; ``bad-input`` for computations that the contract does not have.
        VerificationError: ``unknown-signer``; ``bad-digest`` for another study; ``stale-request``
            where it is not later than what its author said before, or from the future.
        PolicyRefusal: ``not-authorised`` where the author may not do this; ``contract-ended``;
            ``contract-not-active``.
        ConflictError: ``stale-version``, naming the current one; ``wrong-state``.
    """
    # 1. About a version of this study. 2. By the author. 3. Seen before. 4. The author's newest.
    # 5. The version has not ended. 6. The author may do this, now.
    if said.study != life.study:  # 1
        raise VerificationError("bad-digest", "The statement is about another study.")
    version = life.version(said.contract_digest)
    if version.contract.parties.get(said.author) != signer:  # 2
        raise VerificationError(
            "unknown-signer", f"The statement is not signed by {said.author} of the contract."
        )
    if said in life.said:  # 3
        return life
    earliest = next_instant(life, said.author, said.at)
    if said.at < earliest or said.at > now + CLOCK_SKEW:  # 4
        raise VerificationError(
            "stale-request",
            f"A statement of {said.author} must be later than the one before it, and not from the "
            "future; compare the machines' clocks.",
        )
    require_open(life, version)  # 5
    after = changed(version, said)  # 6
    life = replace(life.with_(after), said=life.said | {said})
    if version.in_force and not after.open:
        life = life.with_(
            *(
                replace(other, state=after.state, ended_by=after.ended_by, reason=after.reason)
                for other in life.amendments(version.digest)
                if other.open
            )
        )
    return life


def next_instant(life: StudyLife, author: str, now: datetime) -> datetime:
    """The time to put on the author's next transition: now, but later than on the one before."""
    earlier = [said.at for said in life.said if said.author == author]
    return max([now, *(at + timedelta(seconds=1) for at in earlier)])


def _name_of(version: Version, signer: str) -> str:
    for name, key in version.contract.signatories.items():
        if key == signer:
            return name
    raise VerificationError(
        "unknown-signer", "Only a signatory signs, with the key that the contract names."
    )


def require_open(life: StudyLife, version: Version) -> None:
    """An ended version takes no more statements; where another is open, that is named.

    Raises:
        ConflictError: ``stale-version``.
        PolicyRefusal: ``contract-ended``.
    """
    if version.open:
        return
    current = life.current
    if current.open:
        raise ConflictError(
            "stale-version",
            f"This contract is {version.state}; current is version {current.contract.version} "
            f"({current.state}) with digest {current.digest}.",
            current=current.digest,
        )
    raise PolicyRefusal("contract-ended", how_ended(version))


def hear(life: StudyLife | None, envelope: bytes, now: datetime) -> StudyLife:
    """The life with one more signed statement, also one that arrives after the contract's expiry.

    Raises:
        CohortiumError: What `open_statement`, `propose`, `sign` and `apply` say.
        ProtocolError: ``unexpected-message`` for a draft or an assignment.
    """
    document, signer = open_statement(envelope)
    if isinstance(document, Draft | Assignment):
        raise ProtocolError("unexpected-message", "A draft is no contract yet.")
    if isinstance(document, Contract):
        digest = document.digest
        known = life is not None and any(v.digest == digest for v in life.versions)
        if life is None or not known or signer == document.proposed_by.key:
            return _propose(life, document, signer, now)
        return _sign(life, digest, signer)
    if life is None:
        raise InputError("not-found", f"The study {document.study} has no contract yet.")
    return apply(life, document, signer, now)


def replay(
    statements: Iterable[tuple[bytes, datetime]], life: StudyLife | None = None
) -> StudyLife:
    """The life that follows from statements, each with the time at which it was accepted.

    Raises:
        CohortiumError: What `hear` says of the first that does not fit.
        InputError: ``not-found`` where there are none.
    """
    for envelope, accepted in statements:
        life = hear(life, envelope, accepted)
    if life is None:
        raise InputError("not-found", "There are no statements.")
    return life


__all__ = [
    "CLOCK_SKEW",
    "StudyLife",
    "Version",
    "VersionState",
    "apply",
    "hear",
    "next_instant",
    "permits",
    "propose",
    "replay",
    "require_open",
    "sign",
]
