"""Why evidence is refused: one reason for each check, and the error that carries it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from cohortium.errors import VerificationError


class Reason(StrEnum):
    """What did not hold; the value is stable and stands in an error's `details`."""

    MALFORMED = "malformed"
    WRONG_KIND = "wrong-kind"
    SIGNATURE = "signature"
    WRONG_ROOT = "wrong-root"
    CERTIFICATE = "certificate"
    CERTIFICATE_EXPIRED = "certificate-expired"
    REVOKED = "revoked"
    QUOTING_ENCLAVE = "quoting-enclave"
    COLLATERAL_MALFORMED = "collateral-malformed"
    COLLATERAL_MISSING = "collateral-missing"
    COLLATERAL_SIGNATURE = "collateral-signature"
    COLLATERAL_EXPIRED = "collateral-expired"
    COLLATERAL_FUTURE = "collateral-future"
    COLLATERAL_STALE = "collateral-stale"
    COLLATERAL_MISMATCH = "collateral-mismatch"
    SIMULATED = "simulated"
    NO_REFERENCE = "no-reference-values"
    MEASUREMENT = "measurement"
    SIGNER = "signer"
    PRODUCT = "product"
    SVN = "svn"
    DEBUG = "debug"
    ATTRIBUTES = "attributes"
    MIGRATION = "migration"
    VMPL = "vmpl"
    TCB_UNKNOWN = "tcb-unknown"
    TCB_STATUS = "tcb-status"
    TCB_EVALUATION = "tcb-evaluation"
    TCB_MISMATCH = "tcb-mismatch"
    ADVISORY = "advisory"
    PLATFORM = "platform"
    AMD_PRODUCT = "amd-product"
    PLATFORM_INFO = "platform-info"
    GUEST_POLICY = "guest-policy"
    BINDING = "binding"
    NONCE = "nonce"
    STALE = "stale"
    REFLECTED = "reflected"
    ATTESTATION_KEY = "attestation-key"
    PCR_SELECTION = "pcr-selection"
    PCR_DIGEST = "pcr-digest"
    EVENT_LOG = "event-log"
    EVENT = "event"
    NO_EXTENSION = "no-extension"
    DUPLICATE_EXTENSION = "duplicate-extension"
    UNKNOWN_TAG = "unknown-tag"
    SWAPPED_KEY = "swapped-key"


NOT_GENUINE: Final = frozenset(
    {
        Reason.MALFORMED,
        Reason.SIGNATURE,
        Reason.WRONG_ROOT,
        Reason.CERTIFICATE,
        Reason.QUOTING_ENCLAVE,
        Reason.COLLATERAL_MALFORMED,
        Reason.COLLATERAL_SIGNATURE,
        Reason.TCB_MISMATCH,
        Reason.PCR_DIGEST,
        Reason.EVENT_LOG,
        Reason.NO_EXTENSION,
        Reason.DUPLICATE_EXTENSION,
        Reason.UNKNOWN_TAG,
        Reason.SWAPPED_KEY,
    }
)
"""The evidence proves nothing; with every other reason it is genuine, and not what was asked."""


def refuse(reason: Reason, message: str, **details: Any) -> VerificationError:
    """The error of a refusal; its ``details["reason"]`` says which check did not hold."""
    code = "bad-evidence" if reason in NOT_GENUINE else "evidence-refused"
    return VerificationError(code, message, reason=reason.value, **details)


def reason_of(error: VerificationError) -> Reason | None:
    """The reason in a refusal; None where the error is about something else."""
    said = error.details.get("reason")
    return Reason(said) if said in set(Reason) else None
