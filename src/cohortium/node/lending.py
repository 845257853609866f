"""All that a node has for tasks: its vault key, what it lends, programs, outputs, endorsements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohortium.core.clock import Clock
from cohortium.node.config import NodeDir
from cohortium.node.identity import Identity
from cohortium.node.lent import LentFolder
from cohortium.node.programs import Programs
from cohortium.node.received import ReceivedFolder
from cohortium.node.replica import Replica
from cohortium.node.vault_key import VaultKey

if TYPE_CHECKING:
    from cohortium.enclave.attestation.appraise import Endorsements
    from cohortium.node.task_evidence import Appraiser

AMD_REVOKED = "amd.crl"
"""AMD's revocation list (DER), in the folder of collateral."""


@dataclass(frozen=True)
class Lending:
    """The folders of a node that tasks are about.

    Attributes:
        collateral: Where collateral of platforms is.
        endorsements: In place of what is there; for tests.
    """

    vault: VaultKey
    lent: LentFolder
    programs: Programs
    received: ReceivedFolder
    collateral: Path
    endorsements: Endorsements | None = None

    @classmethod
    def of(cls, folder: NodeDir, clock: Clock) -> Lending:
        """Those of a node's folder; nothing is made before it is needed."""
        vault = VaultKey(folder.vault_key)
        return cls(
            vault=vault,
            lent=LentFolder(folder.lent, vault, clock),
            programs=Programs(folder.code),
            received=ReceivedFolder(folder.received, vault),
            collateral=folder.collateral,
        )

    def appraiser(self, identity: Identity, replica: Replica) -> Appraiser:
        """What judges evidence; what it takes is imported with the first."""
        from cohortium.enclave.attestation.appraise import Endorsements
        from cohortium.enclave.attestation.collateral import CollateralStore
        from cohortium.node.task_evidence import Appraiser

        held = self.endorsements
        if held is None:
            revoked = self.collateral / AMD_REVOKED
            held = Endorsements(
                collateral=CollateralStore(self.collateral).find,
                amd_revocation_list=revoked.read_bytes() if revoked.is_file() else None,
            )
        return Appraiser(identity, replica, held)
