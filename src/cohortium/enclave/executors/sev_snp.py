"""The sandbox in an AMD SEV-SNP virtual machine (L4, L5); its evidence is an attestation report."""

from __future__ import annotations

from typing import ClassVar

from cohortium.enclave.executors.confidential import ConfidentialMachine


class SevSnp(ConfidentialMachine):
    """Runs a task inside an SEV-SNP guest."""

    name: ClassVar[str] = "sev-snp"
    provider: ClassVar[str] = "sev_guest"
    device: ClassVar[str] = "dev/sev-guest"
