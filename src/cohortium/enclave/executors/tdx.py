"""The sandbox in an Intel TDX virtual machine (L4, L5); its evidence is a TDX quote."""

from __future__ import annotations

from typing import ClassVar

from cohortium.enclave.attestation.verdict import EvidenceKind
from cohortium.enclave.executors.confidential import ConfidentialMachine


class Tdx(ConfidentialMachine):
    """Runs a task inside a trust domain."""

    name: ClassVar[str] = "tdx"
    provider: ClassVar[str] = "tdx_guest"
    device: ClassVar[str] = "dev/tdx_guest"
    kind: ClassVar[EvidenceKind] = "tdx"
