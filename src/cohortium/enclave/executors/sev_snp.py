"""The sandbox in an AMD SEV-SNP virtual machine (L4, L5); its evidence is an attestation report."""

from __future__ import annotations

from typing import ClassVar

from cohortium.enclave import tsm
from cohortium.enclave.attestation.appraise import snp_evidence
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.verdict import EvidenceKind
from cohortium.enclave.executors.confidential import ConfidentialMachine
from cohortium.enclave.snp_certificates import certificates


class SevSnp(ConfidentialMachine):
    """Runs a task inside an SEV-SNP guest."""

    name: ClassVar[str] = "sev-snp"
    provider: ClassVar[str] = "sev_guest"
    device: ClassVar[str] = "dev/sev-guest"
    kind: ClassVar[EvidenceKind] = "sev-snp"

    def evidence(self, report_data: bytes) -> Record:
        """See `ConfidentialMachine`; with the certificates that the host gives to its guests.

        Raises:
            PolicyRefusal: ``executor-unavailable`` where it gives none.
        """
        found = tsm.report(report_data, provider=self.provider, root=self._root)
        return snp_evidence(found.outblob, *certificates(found.auxblob))
