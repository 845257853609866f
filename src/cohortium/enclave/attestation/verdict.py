"""What a verifier says of evidence that holds (RFC 9334 attestation result)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest
from cohortium.core.model import Document

EvidenceKind = Literal["sgx", "tdx", "sev-snp", "tpm", "simulated"]
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})*$", max_length=4096)]


class Verdict(Document):
    """Evidence was verified and found to be what the policy asks for.

    Attributes:
        measurements: Register to value, all that the evidence has.
        platform: The machine's identity: PPID, chip id, or the attestation key's name.
        tcb_status: Of SGX and TDX as Intel says it; SEV-SNP: ``UpToDate`` where not below the
            policy's floor.
        report_data: What the evidence is bound to: 64 bytes, of a TPM quote 32.
        signed_digest: Of the part that the hardware signed. Never of the whole: the rest of a
            quote can be changed and it still verifies.
        collateral_digest: Of what its platform was judged by.
        policy_digest: Of the appraisal policy.
        expires_at: When the collateral has to be newer.
        security_version: ISV SVN of an SGX enclave.
    """

    kind: EvidenceKind
    measurements: dict[str, Hex]
    platform: Hex | None = None
    product: Annotated[int, Field(ge=0)] | None = None
    security_version: Annotated[int, Field(ge=0)] | None = None
    tcb_status: str | None = None
    advisories: tuple[str, ...] = ()
    report_data: Hex
    signed_digest: Digest
    collateral_digest: Digest | None = None
    policy_digest: Digest
    checked_at: Instant
    expires_at: Instant | None = None

    @property
    def simulated(self) -> bool:
        """Whether no hardware stands behind it."""
        return self.kind == "simulated"
