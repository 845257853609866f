"""A verifier of all kinds (RFC 9334): evidence in its wrapper goes to the verifier of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from cohortium.enclave.attestation.cbor import decode, encode
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.dcap import platform_of
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.sev_snp import AMD_ROOTS, verify_sev_snp
from cohortium.enclave.attestation.sgx import verify_sgx
from cohortium.enclave.attestation.simulated import verify_simulated
from cohortium.enclave.attestation.tdx import verify_tdx
from cohortium.enclave.attestation.tpm import TpmEvidence, verify_tpm
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import PolicyRefusal


@dataclass(frozen=True)
class Endorsements:
    """What the site holds about platforms; nothing of it is fetched.

    Attributes:
        collateral: From kind and FMSPC, as `CollateralStore.find`.
        amd_revocation_list: DER, where it was imported.
        intel_root: DER of a root in place of Intel's; for tests.
        amd_roots: In place of AMD's; for tests.
    """

    collateral: Callable[[str, str], Collateral]
    amd_revocation_list: bytes | None = None
    intel_root: bytes | None = None
    amd_roots: Mapping[str, str] = field(default_factory=lambda: AMD_ROOTS)


def appraise(
    record: Record,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
    *,
    report_data: bytes,
    now: datetime,
    task: Sequence[bytes] | None,
) -> Verdict:
    """Appraise evidence of any kind.

    Args:
        report_data: The 64 bytes that it must be bound to; a TPM's is bound to their SHA-256.
        task: What a measured host must have measured last; None where no TPM's is taken.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; ``details["reason"]`` says why.
        PolicyRefusal: ``unenforceable``: evidence of a TPM, and no task to compare it with.
    """
    kind, value = record.kind, record.value
    if kind == "simulated":
        return verify_simulated(value, policy, report_data=report_data, now=now)
    if kind == "sev-snp":
        return verify_sev_snp(
            *_snp_parts(value),
            policy,
            report_data=report_data,
            now=now,
            revocation_list=endorsements.amd_revocation_list,
            roots=endorsements.amd_roots,
        )
    if kind == "tpm":
        if task is None:
            raise PolicyRefusal(
                "unenforceable",
                "Evidence of a TPM says nothing of a task that is not named; name what the host "
                "must have measured last.",
            )
        nonce = sha256(report_data).digest()
        return verify_tpm(TpmEvidence.from_cbor(value), policy, nonce=nonce, now=now, task=task)
    found, fmspc = platform_of(value)
    if found != kind:
        raise refuse(Reason.WRONG_KIND, f"The evidence is of {found}, and says {kind}.")
    verify = verify_sgx if kind == "sgx" else verify_tdx
    return verify(
        value,
        endorsements.collateral(kind, fmspc),
        policy,
        report_data=report_data,
        now=now,
        root_ca=endorsements.intel_root,
    )


def snp_evidence(report: bytes, leaf: bytes, chain: bytes) -> Record:
    """SEV-SNP evidence as it travels: the report and its certificates (DER; PEM)."""
    return Record.evidence("sev-snp", encode([report, leaf, chain]))


def _snp_parts(value: bytes) -> tuple[bytes, bytes, bytes]:
    parts = decode(value, "SEV-SNP evidence")
    if not isinstance(parts, list) or len(parts) != 3:
        raise refuse(Reason.MALFORMED, "SEV-SNP evidence is a report and two certificates.")
    report, leaf, chain = parts
    if not all(isinstance(part, bytes) for part in parts):
        raise refuse(Reason.MALFORMED, "SEV-SNP evidence is a report and two certificates.")
    return report, leaf, chain
