"""Every error that Cohortium raises, in one tree and one catalogue.

    CohortiumError
    ├── InputError          the caller asked for something that cannot be understood or found
    ├── PolicyRefusal       a contract, a site's policy or disclosure control says no
    ├── VerificationError   a signature, certificate, digest or other evidence does not hold
    ├── ProtocolError       a party sent something that its step of the protocol does not allow
    ├── PeerError           another process is unreachable, too slow or too few answered
    ├── ConflictError       the request does not fit the present state
    └── IntegrityFailure    our own state contradicts itself: stop

Each error carries a stable ``code`` from `CATALOGUE`, a message that says what to do next and never
holds patient data, and ``details`` that are safe to send to the caller. The HTTP status and the
exit code of the command line follow from the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the catalogue: the family, what it means, and the HTTP status."""

    family: str
    meaning: str
    http_status: int


class CohortiumError(Exception):
    """The root of all errors that this package raises on purpose.

    Args:
        code: A key of `CATALOGUE` that belongs to the raising family.
        message: What happened and what to do next; no patient data.
        details: JSON values that are safe to show to the caller.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, **details: Any) -> None:
        entry = CATALOGUE.get(code)
        if entry is None or entry.family != type(self).__name__:
            raise RuntimeError(
                f"error code {code!r} is not in the catalogue of {type(self).__name__}"
            )
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    @property
    def http_status(self) -> int:
        """The HTTP status that a service answers with."""
        return CATALOGUE[self.code].http_status

    def to_wire(self) -> dict[str, Any]:
        """The one JSON shape of an error, everywhere."""
        return {
            "family": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "details": self.details,
        }

    @staticmethod
    def from_wire(data: Mapping[str, Any]) -> CohortiumError:
        """Rebuild an error that a peer sent; an unknown one becomes a `ProtocolError`."""
        code, message, details = data.get("code"), data.get("message"), data.get("details")
        entry = CATALOGUE.get(code) if isinstance(code, str) else None
        if entry is None or not isinstance(message, str):
            return ProtocolError(
                "malformed-message", "The peer sent an error that is not known here."
            )
        safe = {str(k): v for k, v in details.items()} if isinstance(details, Mapping) else {}
        error: CohortiumError = FAMILIES[entry.family](str(code), message)
        error.details = safe
        return error


class InputError(CohortiumError):
    """The caller asked for something that cannot be understood or found."""

    exit_code = 2


class PolicyRefusal(CohortiumError):
    """A contract, a site's policy or disclosure control says no."""

    exit_code = 3


class VerificationError(CohortiumError):
    """A signature, certificate, digest or other evidence does not hold."""

    exit_code = 4


class ProtocolError(CohortiumError):
    """A party sent something that its step of the protocol does not allow."""

    exit_code = 5


class PeerError(CohortiumError):
    """Another process is unreachable, too slow, or too few answered."""

    exit_code = 6


class ConflictError(CohortiumError):
    """The request does not fit the present state."""

    exit_code = 7


class IntegrityFailure(CohortiumError):
    """Our own state contradicts itself: stop and look."""

    exit_code = 8


FAMILIES: dict[str, type[CohortiumError]] = {
    family.__name__: family
    for family in (
        InputError,
        PolicyRefusal,
        VerificationError,
        ProtocolError,
        PeerError,
        ConflictError,
        IntegrityFailure,
    )
}

CATALOGUE: dict[str, Entry] = {
    # InputError
    "bad-input": Entry("InputError", "A value has the wrong form.", 400),
    "bad-config": Entry("InputError", "A configuration file or setting is wrong.", 400),
    "bad-data": Entry(
        "InputError", "A data file cannot be read or does not fit its dictionary.", 400
    ),
    "bad-formula": Entry("InputError", "A model formula is not allowed or not understood.", 400),
    "bad-criterion": Entry(
        "InputError", "A criterion or a derived variable is not allowed or not understood.", 400
    ),
    "bad-proposal": Entry(
        "InputError", "A study proposal is not complete or contradicts itself.", 400
    ),
    "not-found": Entry(
        "InputError", "The thing named does not exist or is not visible to you.", 404
    ),
    "no-convergence": Entry(
        "InputError", "The model has no finite or unique solution on this data.", 422
    ),
    "overflow": Entry(
        "InputError", "A value is too large (or not finite) for the masked sum.", 422
    ),
    "too-large": Entry("InputError", "The request has more bytes than are accepted.", 413),
    "missing-extra": Entry("InputError", "An optional dependency is not installed.", 400),
    "vault-key-missing": Entry(
        "InputError", "Somebody whom an output is for has no vault key here.", 400
    ),
    # PolicyRefusal
    "not-authorised": Entry("PolicyRefusal", "The caller may not do this.", 403),
    "not-permitted": Entry("PolicyRefusal", "The contract does not permit this computation.", 403),
    "contract-expired": Entry("PolicyRefusal", "The contract is past its expiry.", 403),
    "contract-not-active": Entry(
        "PolicyRefusal", "Not every participant has signed the contract.", 403
    ),
    "contract-unknown": Entry(
        "PolicyRefusal", "This site has not signed a contract with that digest.", 403
    ),
    "contract-suspended": Entry("PolicyRefusal", "A participant has suspended the contract.", 403),
    "contract-ended": Entry(
        "PolicyRefusal", "The contract was replaced, revoked, withdrawn or closed.", 403
    ),
    "ledger-alarm": Entry(
        "PolicyRefusal",
        "This site has proof that the hub's ledger was altered, or cannot follow it.",
        403,
    ),
    "run-limit": Entry("PolicyRefusal", "The permitted number of runs or rounds is used up.", 403),
    "site-policy": Entry(
        "PolicyRefusal", "The site's own policy is stricter than the contract.", 403
    ),
    "unenforceable": Entry(
        "PolicyRefusal", "The contract asks for what this release cannot enforce.", 403
    ),
    "executor-unavailable": Entry(
        "PolicyRefusal", "A sandbox, or one of its guards, cannot be put in place here.", 403
    ),
    "packages-missing": Entry(
        "PolicyRefusal", "The packages that a program locks are not in the enclave.", 403
    ),
    "task-output": Entry(
        "PolicyRefusal", "A task's outputs are more, or other, than its contract allows.", 403
    ),
    "too-few-persons": Entry("PolicyRefusal", "Fewer persons than the minimum cell size.", 403),
    "too-few-sites": Entry("PolicyRefusal", "Fewer sites than the contract's minimum.", 403),
    "too-many-levels": Entry(
        "PolicyRefusal", "A category has more levels than may be tabulated.", 403
    ),
    "too-many-parameters": Entry(
        "PolicyRefusal", "The model has too many parameters for its persons, or is saturated.", 403
    ),
    "too-many-requests": Entry("PolicyRefusal", "Requests come faster than is accepted.", 429),
    "privacy-budget": Entry(
        "PolicyRefusal", "The differential-privacy budget of this computation is used up.", 403
    ),
    "differencing": Entry(
        "PolicyRefusal",
        "The result would differ from an earlier one by too few persons or sites.",
        403,
    ),
    # VerificationError
    "bad-signature": Entry("VerificationError", "A signature does not verify.", 401),
    "bad-digest": Entry("VerificationError", "The content does not match its digest.", 401),
    "bad-certificate": Entry("VerificationError", "A certificate is not valid here.", 401),
    "bad-invitation": Entry(
        "VerificationError", "The invitation is unknown, used, expired or altered.", 401
    ),
    "unknown-signer": Entry(
        "VerificationError", "The signer's key is not one that counts here.", 401
    ),
    "key-mismatch": Entry(
        "VerificationError", "A member's key differs from the one known before.", 401
    ),
    "replayed": Entry("VerificationError", "The request was seen before.", 409),
    "stale-request": Entry(
        "VerificationError", "The request's time window is over or not yet begun.", 401
    ),
    "bad-proof": Entry("VerificationError", "A Merkle proof of the ledger does not hold.", 422),
    "bad-checkpoint": Entry(
        "VerificationError", "A checkpoint of the ledger is not signed as it must be.", 422
    ),
    "ledger-fork": Entry(
        "VerificationError", "The hub's ledger is not a continuation of what was seen before.", 409
    ),
    "ledger-false-entry": Entry(
        "VerificationError", "The hub's ledger says of this site what is not so.", 409
    ),
    "ledger-omission": Entry(
        "VerificationError", "The hub's ledger leaves out what this site has done.", 409
    ),
    "ledger-key": Entry(
        "VerificationError", "The hub's ledger is signed with another key than before.", 409
    ),
    "not-final": Entry(
        "VerificationError", "Too few members have witnessed the ledger's checkpoint.", 409
    ),
    "bad-bundle": Entry(
        "VerificationError", "An audit bundle contradicts itself or leaves something out.", 422
    ),
    "bad-token": Entry("VerificationError", "The request's access token does not verify.", 401),
    "bad-vault-file": Entry(
        "VerificationError", "A vault file was cut off, altered or is none.", 422
    ),
    "vault-identity": Entry(
        "VerificationError", "Another vault file stands in the place of the one asked for.", 409
    ),
    "vault-rollback": Entry(
        "VerificationError", "An older version of a vault file was put back.", 409
    ),
    "bad-evidence": Entry(
        "VerificationError", "Evidence of an enclave or a measured host is not genuine.", 422
    ),
    "evidence-refused": Entry(
        "VerificationError", "Evidence is genuine, and not what the contract asks for.", 403
    ),
    # ProtocolError
    "malformed-message": Entry(
        "ProtocolError", "Received bytes are not a message of this protocol.", 400
    ),
    "wrong-length": Entry("ProtocolError", "A masked vector has the wrong length.", 502),
    "wrong-round": Entry("ProtocolError", "A message belongs to another run or round.", 502),
    "roster-mismatch": Entry(
        "ProtocolError", "The list of parties is not the one agreed for this run.", 502
    ),
    "masks-do-not-cancel": Entry(
        "ProtocolError", "The sites did not mask for the same round and parties.", 502
    ),
    "bad-share": Entry(
        "ProtocolError", "Shares of a secret were altered or are for another site or round.", 502
    ),
    "too-few-shares": Entry(
        "ProtocolError", "Fewer shares of a secret than are needed to open it.", 502
    ),
    "unexpected-message": Entry(
        "ProtocolError", "The peer answered with a message of another kind.", 502
    ),
    # PeerError
    "peer-unreachable": Entry("PeerError", "The other process cannot be reached.", 503),
    "peer-timeout": Entry("PeerError", "The other process did not answer in time.", 504),
    "link-lost": Entry("PeerError", "The connection broke before the answer came.", 503),
    "peer-failed": Entry("PeerError", "The other process failed on this request.", 502),
    "enclave-lost": Entry(
        "PeerError", "The enclave ended while it ran the task, and its keys with it.", 502
    ),
    "no-enclave": Entry("PeerError", "No enclave that the contract accepts is connected.", 504),
    # ConflictError
    "already-exists": Entry("ConflictError", "Something with this name exists already.", 409),
    "stale-version": Entry(
        "ConflictError", "The contract has another version by now; the error names it.", 409
    ),
    "wrong-state": Entry("ConflictError", "The present state does not allow this.", 409),
    "other-survivors": Entry(
        "ConflictError", "A site answered for another list of survivors of this round.", 409
    ),
    "round-burnt": Entry(
        "ConflictError", "A round of the secure sum can no longer be completed.", 409
    ),
    "run-failed": Entry("ConflictError", "The run failed; its record says why.", 409),
    "task-failed": Entry("ConflictError", "The task's program failed or exceeded a limit.", 409),
    "run-cancelled": Entry("ConflictError", "The run was cancelled.", 409),
    # IntegrityFailure
    "broken-journal": Entry(
        "IntegrityFailure", "The hash chain of the journal does not hold.", 500
    ),
    "broken-store": Entry("IntegrityFailure", "Stored data contradicts itself.", 500),
    "internal": Entry(
        "IntegrityFailure", "An unexpected failure; the server's log has the trace.", 500
    ),
}
