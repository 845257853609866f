"""Appraising, years later, the evidence on which a lender released its keys.

The clock is that of the release: collateral has to be of that time. What the contract leaves to the
lender (its list of platforms, the advisories that it accepts) an auditor does not know; evidence
that hangs on it is not judged, which is another thing than accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cohortium.audit.keys import Appraise, Shown
from cohortium.contract.model import Environment
from cohortium.contract.task import SecurityLevel
from cohortium.enclave.attestation.reasons import Reason, reason_of, refuse
from cohortium.enclave.task_record import contract_record
from cohortium.errors import InputError, PolicyRefusal, VerificationError

if TYPE_CHECKING:
    from cohortium.enclave.attestation.appraise import Endorsements

AMD_REVOKED: Final = "amd.crl"
"""AMD's revocation list (DER), in a folder of collateral."""

_TEE: Final = frozenset({"sgx", "tdx", "sev-snp"})
_KINDS: Final[Mapping[SecurityLevel, frozenset[str]]] = {
    "L1": _TEE | {"tpm"},
    "L2": _TEE | {"tpm"},
    "L3": frozenset({"tpm"}),
    "L4": _TEE,
    "L5": _TEE,
}
_NOT_JUDGED: Final = frozenset(
    {
        Reason.COLLATERAL_MISSING,
        Reason.COLLATERAL_EXPIRED,
        Reason.COLLATERAL_FUTURE,
        Reason.COLLATERAL_STALE,
        Reason.COLLATERAL_MALFORMED,
        Reason.COLLATERAL_MISMATCH,
        Reason.COLLATERAL_SIGNATURE,
        Reason.ADVISORY,
        Reason.PLATFORM,
        Reason.TCB_EVALUATION,
    }
)
"""Reasons that lie with the auditor's collateral, or with what the lender alone decides."""


def appraiser(
    collateral: Path | None = None,
    *,
    platforms: Sequence[str] | None = None,
    advisories: Sequence[str] = (),
    endorsements: Endorsements | None = None,
) -> Appraise:
    """What judges evidence by a contract, with the extra ``attestation``.

    Args:
        collateral: A folder as nodes have it; SGX and TDX cannot be judged without.
        platforms: The machines that the auditor takes; L5 cannot be judged without.
        advisories: Security advisories that may be open on a platform.
        endorsements: In place of the folder; for tests.
    """

    def appraise(shown: Shown) -> None:
        from cohortium.enclave.attestation import appraise as all_kinds
        from cohortium.enclave.attestation.cmw import Record
        from cohortium.enclave.attestation.policy import ANY_AMD, AppraisalPolicy

        record = Record.from_cbor(shown.evidence)
        if record.kind not in {*_KINDS[shown.level], "simulated"}:
            raise refuse(Reason.WRONG_KIND, f"{shown.level} is not shown by {record.kind}.")
        place = shown.contract.environment or Environment()
        try:
            policy = AppraisalPolicy.from_environment(
                place,
                level=shown.level,
                platforms=platforms,
                advisories=advisories,
                min_tcb_evaluation=1,
                amd_platforms=ANY_AMD,
            )
        except PolicyRefusal as error:
            raise InputError("not-found", error.message) from error
        try:
            all_kinds.appraise(
                record,
                endorsements or _endorsements(collateral),
                policy,
                report_data=shown.report_data,
                now=shown.at,
                task=contract_record(shown.task.code.content_digest, shown.arguments, shown.inputs),
            )
        except VerificationError as error:
            if reason_of(error) in _NOT_JUDGED:
                raise InputError("not-found", error.message) from error
            raise

    return appraise


def _endorsements(folder: Path | None) -> Endorsements:
    from cohortium.enclave.attestation.appraise import Endorsements
    from cohortium.enclave.attestation.collateral import Collateral, CollateralStore

    def none(tee: str, fmspc: str) -> Collateral:
        raise InputError("not-found", f"no collateral of {tee} platforms {fmspc} was given.")

    if folder is None:
        return Endorsements(collateral=none)
    revoked = folder / AMD_REVOKED
    return Endorsements(
        collateral=CollateralStore(folder).find,
        amd_revocation_list=revoked.read_bytes() if revoked.is_file() else None,
    )
