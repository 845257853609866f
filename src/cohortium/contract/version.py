"""One contract and its state: what a transition makes of it, and what it permits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from cohortium.contract.model import Contract, covers
from cohortium.contract.statements import Action, Transition
from cohortium.core.clock import to_rfc3339
from cohortium.errors import ConflictError, InputError, PolicyRefusal

VersionState = Literal[
    "proposed", "active", "refused", "withdrawn", "superseded", "suspended", "revoked", "closed"
]
IN_FORCE: Final = frozenset({"active", "suspended"})
OPEN: Final = IN_FORCE | {"proposed"}
"""What is not open has ended, for good."""


@dataclass(frozen=True)
class Version:
    """One contract and its state.

    Attributes:
        signed: Signatories that have signed it.
        refused: Reason of the one that refused it, by name.
        suspensions: By whom, and which computations (None: everything).
        ended_by: Whose statement ended it; of a superseded one: who proposed the other.
        reason: What that party said.
        keeps: What is kept of a closed one.
    """

    contract: Contract
    digest: str
    state: VersionState = "proposed"
    signed: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    suspensions: Mapping[str, frozenset[str] | None] = field(
        default_factory=lambda: MappingProxyType({})
    )
    ended_by: str | None = None
    reason: str | None = None
    keeps: tuple[str, ...] = ()

    @property
    def in_force(self) -> bool:
        """Whether it is active or suspended; it may have expired."""
        return self.state in IN_FORCE

    @property
    def open(self) -> bool:
        """Whether its state can still change."""
        return self.state in OPEN

    @property
    def missing(self) -> tuple[str, ...]:
        """Signatories that have not signed."""
        return tuple(name for name in self.contract.signatories if name not in self.signed)


def permits(version: Version, computation: str, now: datetime) -> None:
    """Require that a version lets a computation run now; `check_run` asks for the rest.

    Raises:
        PolicyRefusal: ``contract-not-active``, ``contract-ended``, ``contract-expired``,
            ``contract-suspended``.
    """
    if version.state == "proposed":
        raise PolicyRefusal(
            "contract-not-active",
            f"Not signed yet by: {', '.join(version.missing)}.",
            missing=list(version.missing),
        )
    if not version.open:
        raise PolicyRefusal("contract-ended", how_ended(version))
    require_unexpired(version.contract, now)
    for name, what in version.suspensions.items():
        if what is None or any(covers(entry, computation) for entry in what):
            raise PolicyRefusal(
                "contract-suspended",
                f"{name} has suspended {computation} under this contract; why: cohortium study "
                f"history {version.contract.study}",
            )


def changed(version: Version, said: Transition) -> Version:
    """The version after a transition of a party that is its author, and may do this, now.

    Raises:
        PolicyRefusal: ``not-authorised``; ``contract-not-active``.
        ConflictError: ``wrong-state``.
        InputError: ``bad-input`` for computations that the contract does not have.
    """
    return _STEPS[said.action](version, said)


def _refuse(version: Version, said: Transition) -> Version:
    _require(said.author in version.contract.signatories, "A signatory refuses a contract")
    _require_state(version, {"proposed"}, "It is in force; revoke it instead.")
    ended = _ended(version, said, "refused")
    return replace(ended, refused=MappingProxyType({said.author: said.reason}))


def _withdraw(version: Version, said: Transition) -> Version:
    _require(said.author == proposer(version), "Its proposer withdraws a contract")
    _require_state(version, {"proposed"}, "It is in force; close it instead.")
    return _ended(version, said, "withdrawn")


def _suspend(version: Version, said: Transition) -> Version:
    _require(said.author in may_suspend(version), "A signatory or the proposer suspends")
    _require_in_force(version)
    contract = version.contract
    known = [entry.name for entry in contract.computations]
    known += [task.computation for task in contract.tasks]
    for name in said.computations or ():
        if not any(covers(entry, name) or covers(name, entry) for entry in known):
            raise InputError("bad-input", f"The contract permits no {name}: {', '.join(known)}.")
    what = None if said.computations is None else frozenset(said.computations)
    return suspended(version, {**version.suspensions, said.author: what})


def _resume(version: Version, said: Transition) -> Version:
    _require(said.author in may_suspend(version), "A signatory or the proposer resumes")
    _require_in_force(version)
    if said.author not in version.suspensions:
        held = ", ".join(version.suspensions) or "nobody"
        raise ConflictError(
            "wrong-state",
            f"{said.author} has not suspended it; only who suspended it resumes it: {held}.",
        )
    left = {name: what for name, what in version.suspensions.items() if name != said.author}
    return suspended(version, left)


def _revoke(version: Version, said: Transition) -> Version:
    _require(said.author in version.contract.signatories, "A signatory revokes a contract")
    _require_in_force(version)
    return _ended(version, said, "revoked")


def _close(version: Version, said: Transition) -> Version:
    _require(said.author == proposer(version), "Its proposer closes a contract")
    _require_in_force(version)
    return replace(_ended(version, said, "closed"), keeps=said.keeps)


_STEPS: Final[Mapping[Action, Callable[[Version, Transition], Version]]] = {
    "refuse": _refuse,
    "withdraw": _withdraw,
    "suspend": _suspend,
    "resume": _resume,
    "revoke": _revoke,
    "close": _close,
}


def suspended(version: Version, by: Mapping[str, frozenset[str] | None]) -> Version:
    """In force with these suspensions, or none."""
    return replace(
        version, state="suspended" if by else "active", suspensions=MappingProxyType(dict(by))
    )


def _ended(version: Version, said: Transition, state: VersionState) -> Version:
    return replace(version, state=state, ended_by=said.author, reason=said.reason)


def proposer(version: Version) -> str:
    """The proposer's name."""
    return version.contract.proposed_by.name


def may_suspend(version: Version) -> frozenset[str]:
    """Who may suspend it."""
    return frozenset({*version.contract.signatories, proposer(version)})


def _require(allowed: bool, rule: str) -> None:
    if not allowed:
        raise PolicyRefusal("not-authorised", f"{rule}, and nobody else.")


def _require_state(version: Version, states: set[VersionState], otherwise: str) -> None:
    if version.state not in states:
        raise ConflictError("wrong-state", f"The contract is {version.state}. {otherwise}")


def _require_in_force(version: Version) -> None:
    if not version.in_force:
        raise PolicyRefusal(
            "contract-not-active",
            f"Not signed yet by: {', '.join(version.missing)}. Refuse or withdraw it instead.",
        )


def require_unexpired(contract: Contract, now: datetime) -> None:
    """Raises PolicyRefusal ``contract-expired``."""
    if now >= contract.expires_at:
        raise PolicyRefusal(
            "contract-expired", f"The contract expired at {to_rfc3339(contract.expires_at)}."
        )


def how_ended(version: Version) -> str:
    """By whom and why, for people."""
    return f"The contract was {version.state} by {version.ended_by}: {version.reason}"
