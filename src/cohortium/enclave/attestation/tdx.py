"""Verifier of Intel TDX quotes (DCAP, versions 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.dcap import judge_quote, verify_quote
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import Verdict

# Intel TDX module ABI, TD_ATTRIBUTES.
_UNDER_DEBUG: Final = 0xFF
_SEPT_VE_DISABLE: Final = 1 << 28
_MIGRATABLE: Final = 1 << 29

_REGISTERS: Final = {
    "mrtd": "mr_td",
    "rtmr0": "rt_mr0",
    "rtmr1": "rt_mr1",
    "rtmr2": "rt_mr2",
    "rtmr3": "rt_mr3",
    "mrconfigid": "mr_config_id",
    "mrowner": "mr_owner",
}


def verify_tdx(
    quote: bytes,
    collateral: Collateral,
    policy: AppraisalPolicy,
    *,
    report_data: bytes,
    now: datetime,
    root_ca: bytes | None = None,
) -> Verdict:
    """Appraise a quote of a TDX virtual machine.

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
        kind="tdx",
        now=now,
        max_age_s=policy.max_collateral_age_s,
        root_ca=root_ca,
    )
    report = _flat(found.report)
    flags = int.from_bytes(bytes.fromhex(report["td_attributes"]), "little")  # 2
    if flags & _UNDER_DEBUG:
        raise refuse(Reason.DEBUG, "The virtual machine can be debugged: its memory can be read.")
    if not flags & _SEPT_VE_DISABLE:
        raise refuse(Reason.ATTRIBUTES, "SEPT_VE_DISABLE is off: its host could raise exceptions.")
    if flags & _MIGRATABLE or int(report.get("mr_service_td", "0"), 16):
        raise refuse(Reason.MIGRATION, "The virtual machine can be moved to another machine.")
    return judge_quote(  # 3
        found,
        collateral,
        policy,
        kind="tdx",
        measurements={name: report[field] for name, field in _REGISTERS.items()},
        report_data=report_data,
        now=now,
    )


def _flat(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """A report of TDX 1.5 holds one of 1.0."""
    base = report.get("base")
    return {**_flat(base), **report} if isinstance(base, Mapping) else report
