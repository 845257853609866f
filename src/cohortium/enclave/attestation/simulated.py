"""Evidence of no hardware at all, for development: it says so, and is refused unless allowed.

Anybody can make it. A contract that allows it protects nothing; it lets a study be tried where
there is no TEE.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from cohortium.core.canonical import digest_bytes
from cohortium.core.model import Document
from cohortium.enclave.attestation.policy import AppraisalPolicy, judge_binding
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import ProtocolError


class SimulatedEvidence(Document):
    """What a simulated TEE shows; unsigned, since no signature would mean anything."""

    schema_id: Literal["cohortium/simulated-evidence/1"] = "cohortium/simulated-evidence/1"
    warning: Literal["simulated: no hardware"] = "simulated: no hardware"
    measurement: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    report_data: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


def verify_simulated(
    evidence: bytes, policy: AppraisalPolicy, *, report_data: bytes, now: datetime
) -> Verdict:
    """Appraise the evidence of a simulated TEE.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``: ``simulated`` unless the
            contract allows it.
    """
    try:
        found = SimulatedEvidence.from_bytes(evidence)
    except ProtocolError as error:
        raise refuse(Reason.MALFORMED, "Not evidence of a simulated TEE.") from error
    if not policy.allow_simulated:
        raise refuse(
            Reason.SIMULATED, "The evidence is simulated, and the contract does not allow that."
        )
    measurements = {"simulated": found.measurement}
    policy.judge_measurements("simulated", measurements)
    judge_binding(bytes.fromhex(found.report_data), report_data)
    return Verdict(
        kind="simulated",
        measurements=measurements,
        report_data=found.report_data,
        signed_digest=digest_bytes(evidence),
        policy_digest=policy.digest,
        checked_at=now,
    )
