"""Verifier of TPM 2.0 quotes: what a host booted, and the task that it measured before its start.

That the attestation key lives in a genuine TPM is shown once, when the site enrols the host
(`cohortium.enclave.attestation.tpm_enrolment`); from then on its Name stands in the policy's
``platforms``.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from cohortium.core.canonical import digest_bytes
from cohortium.enclave.attestation import tpm_events
from cohortium.enclave.attestation.cbor import decode, encode
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.tpm_structures import (
    SHA256,
    PublicArea,
    Quoted,
    malformed,
    verify_signature,
)
from cohortium.enclave.attestation.verdict import Verdict

_IF_MEASURED: Final = (8, 9, 12, 13)
"""PCRs of kernel, command line, initrd and extensions, where a boot loader measures them apart."""
MOST_TASKS: Final = 10_000
"""Measurements of tasks in one piece of evidence."""


@dataclass(frozen=True)
class TpmEvidence:
    """A quote, and what it takes to understand it.

    Attributes:
        quote: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        attestation_key: TPMT_PUBLIC.
        pcrs: Values of the SHA-256 bank.
        event_log: Of the firmware.
        tasks: Digests measured into PCR 14 after it, in order.
    """

    quote: bytes
    signature: bytes
    attestation_key: bytes
    pcrs: dict[int, bytes]
    event_log: bytes = b""
    tasks: tuple[bytes, ...] = ()

    def to_cbor(self) -> bytes:
        """As it travels, in a `cohortium.enclave.attestation.cmw.Record`."""
        return encode(
            [
                self.quote,
                self.signature,
                self.attestation_key,
                [[index, self.pcrs[index]] for index in sorted(self.pcrs)],
                self.event_log,
                list(self.tasks),
            ]
        )

    @classmethod
    def from_cbor(cls, data: bytes) -> TpmEvidence:
        """Read untrusted bytes.

        Raises:
            VerificationError: ``bad-evidence`` (``malformed``); never anything else.
        """
        parts = decode(data, "TPM evidence")
        if not isinstance(parts, list) or len(parts) != 6:
            raise malformed("it has other parts")
        quote, signature, key, pcrs, log, tasks = parts
        if not all(isinstance(part, bytes) for part in (quote, signature, key, log)):
            raise malformed("its parts are not bytes")
        if not isinstance(pcrs, list) or not all(map(_is_pcr, pcrs)):
            raise malformed("its PCRs are none")
        if (
            not isinstance(tasks, list)
            or len(tasks) > MOST_TASKS
            or not all(map(_is_digest, tasks))
        ):
            raise malformed("its measurements of tasks are none")
        values = dict(pcrs)
        if len(values) != len(pcrs):
            raise malformed("it has a PCR twice")
        return cls(quote, signature, key, values, log, tuple(tasks))


def _is_digest(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def _is_pcr(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and type(value[0]) is int
        and 0 <= value[0] <= 23
        and _is_digest(value[1])
    )


def verify_tpm(
    evidence: TpmEvidence,
    policy: AppraisalPolicy,
    *,
    nonce: bytes,
    now: datetime,
    task: Sequence[bytes],
) -> Verdict:
    """Appraise the quote of a measured host.

    Args:
        nonce: What it must be bound to: `Session.tpm_nonce`.
        task: `tpm_events.task_digests` of the task that must have been measured last.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; ``details["reason"]`` says why.
    """
    # 1. An enrolled key that signs only what its TPM made. 2. Its signature. 3. The nonce. 4. The
    # PCRs that were quoted are those given. 5. The log leads to them. 6. Values. 7. The task.
    key = PublicArea.parse(evidence.attestation_key)  # 1
    _judge_key(key, policy)
    verify_signature(key, evidence.signature, evidence.quote)  # 2
    quoted = Quoted.parse(evidence.quote)
    if not hmac.compare_digest(quoted.extra_data, nonce):  # 3
        raise refuse(Reason.NONCE, "The quote was made for another nonce.")
    named = {int(register.removeprefix("pcr")) for register in policy.references("tpm")}
    needed = {*named, *_IF_MEASURED[:2], tpm_events.TASK_PCR}
    pcrs = _quoted_values(quoted, evidence.pcrs, needed)  # 4
    _judge_log(evidence, pcrs)  # 5
    measurements = {f"pcr{index}": value.hex() for index, value in pcrs.items()}
    policy.judge_measurements("tpm", measurements)  # 6
    _judge_unnamed(pcrs, named)
    if not task or evidence.tasks[-len(task) :] != tuple(task):  # 7
        raise refuse(Reason.EVENT, "The host measured another task, or other inputs, last.")
    return Verdict(
        kind="tpm",
        measurements=measurements,
        platform=key.name.hex(),
        report_data=nonce.hex(),
        signed_digest=digest_bytes(evidence.quote),
        policy_digest=policy.digest,
        checked_at=now,
    )


def _judge_key(key: PublicArea, policy: AppraisalPolicy) -> None:
    if policy.platforms is None:
        raise refuse(
            Reason.NO_REFERENCE,
            "The site has enrolled no TPM; anybody's key would be taken for one. Enrol the host.",
        )
    if key.name.hex() not in policy.platforms:
        raise refuse(
            Reason.ATTESTATION_KEY,
            "The attestation key is not that of an enrolled host.",
            found=key.name.hex(),
        )
    if not key.attests:
        raise refuse(Reason.ATTESTATION_KEY, "The key could sign what its TPM did not make.")


def _quoted_values(quoted: Quoted, given: dict[int, bytes], needed: set[int]) -> dict[int, bytes]:
    banks = [bank for bank, _ in quoted.selections]
    if banks != [SHA256]:
        raise refuse(Reason.PCR_SELECTION, "The quote is not of the SHA-256 bank, and that alone.")
    chosen = quoted.selections[0][1]
    if not needed <= set(chosen) or set(chosen) != set(given):
        raise refuse(
            Reason.PCR_SELECTION, "The quote is not of the PCRs that are given and asked for."
        )
    digest = sha256(b"".join(given[index] for index in chosen)).digest()
    if not hmac.compare_digest(digest, quoted.pcr_digest):
        raise refuse(Reason.PCR_DIGEST, "The PCR values are not those that were quoted.")
    return {index: given[index] for index in chosen}


def _judge_unnamed(pcrs: dict[int, bytes], named: set[int]) -> None:
    for index in _IF_MEASURED:
        if index in pcrs and index not in named and any(pcrs[index]):
            raise refuse(
                Reason.NO_REFERENCE,
                f"The host measured of its kernel or command line into PCR {index}, which the "
                "contract does not name.",
            )


def _judge_log(evidence: TpmEvidence, pcrs: dict[int, bytes]) -> None:
    replayed = tpm_events.replay(tpm_events.parse(evidence.event_log), evidence.tasks)
    wrong = sorted(i for i, value in replayed.items() if i in pcrs and pcrs[i] != value)
    if wrong:
        raise refuse(
            Reason.EVENT_LOG,
            f"The event log does not lead to the values of PCR {', '.join(map(str, wrong))}.",
            pcrs=wrong,
        )
