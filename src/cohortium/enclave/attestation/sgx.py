"""Verifier of Intel SGX quotes (DCAP, version 3)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.dcap import judge_quote, verify_quote
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import Verdict

# Intel SDM volume 3D, 37.7.1 ATTRIBUTES.
_INIT: Final = 1
_DEBUG: Final = 1 << 1
_PROVISION_KEY: Final = 1 << 4
_EINITTOKEN_KEY: Final = 1 << 5


def verify_sgx(
    quote: bytes,
    collateral: Collateral,
    policy: AppraisalPolicy,
    *,
    report_data: bytes,
    now: datetime,
    root_ca: bytes | None = None,
) -> Verdict:
    """Appraise a quote of an SGX enclave.

    Args:
        report_data: The 64 bytes that it must be bound to.
        root_ca: DER of a root in place of Intel's; for tests.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; ``details["reason"]`` says why.
    """
    # 1. Signatures up to Intel's root, at this time. 2. Attributes. 3. Measurements, platform's
    # state and identity, binding.
    found = verify_quote(  # 1
        quote,
        collateral,
        kind="sgx",
        now=now,
        max_age_s=policy.max_collateral_age_s,
        root_ca=root_ca,
    )
    report = found.report
    flags = int.from_bytes(bytes.fromhex(report["attributes"])[:8], "little")  # 2
    if flags & _DEBUG:
        raise refuse(Reason.DEBUG, "The enclave is in debug mode: its memory can be read.")
    if not flags & _INIT or flags & (_PROVISION_KEY | _EINITTOKEN_KEY):
        raise refuse(Reason.ATTRIBUTES, "The enclave has attributes that no task needs.")
    return judge_quote(  # 3
        found,
        collateral,
        policy,
        kind="sgx",
        measurements={"mrenclave": report["mr_enclave"], "mrsigner": report["mr_signer"]},
        product=report["isv_prod_id"],
        svn=report["isv_svn"],
        report_data=report_data,
        now=now,
    )
