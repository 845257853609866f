"""Whether what an enclave shows is what the contract asks for, before a key is handed to it.

The verifier of RFC 9334 is the lender's own node, with the site's own collateral and policy; what
it found, for or against, is an attestation result that it signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cohortium.contract.task import SecurityLevel
from cohortium.core.canonical import digest_bytes
from cohortium.enclave.attestation import ear
from cohortium.enclave.attestation.appraise import Endorsements, appraise
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import EvidenceKind, Verdict
from cohortium.enclave.exchange import Offer
from cohortium.enclave.key_release import Shown
from cohortium.enclave.task_record import contract_record
from cohortium.errors import PolicyRefusal, VerificationError
from cohortium.ledger.entry import EnclaveChanged
from cohortium.node.guard import About
from cohortium.node.identity import Identity
from cohortium.node.replica import Replica
from cohortium.node.task_guard import CheckedTask
from cohortium.node.task_rules import TaskRules

_TEE: Final[frozenset[EvidenceKind]] = frozenset({"sgx", "tdx", "sev-snp"})
KINDS: Final[Mapping[SecurityLevel, frozenset[EvidenceKind]]] = {
    "L1": frozenset(),
    "L2": frozenset(),
    "L3": frozenset({"tpm"}),
    "L4": _TEE,
    "L5": _TEE,
}
"""Evidence that a level asks for; below L3 the signed offer of a named enclave is all there is."""


@dataclass(frozen=True)
class Grounds:
    """What a release relies on.

    Attributes:
        evidence: As it was shown; empty where the level asks for none.
        result: EAR token over it.
    """

    evidence: bytes = b""
    result: str | None = None

    @property
    def evidence_digest(self) -> str | None:
        """What a release names."""
        return digest_bytes(self.evidence) if self.evidence else None


class Appraiser:
    """Judges what enclaves show.

    Args:
        identity: Who this node is; its contract key signs attestation results.
        replica: The ledger, which says who is no enclave any more.
        endorsements: What the site holds about platforms.
    """

    def __init__(self, identity: Identity, replica: Replica, endorsements: Endorsements) -> None:
        self._identity = identity
        self._replica = replica
        self._endorsements = endorsements

    def judge(
        self, checked: CheckedTask, shown: Shown, rules: TaskRules, now: datetime, about: About
    ) -> Grounds:
        """Decide whether keys may go to what was shown.

        Args:
            about: Filled in for the journal, with the attestation result in any case.

        Raises:
            VerificationError: ``bad-digest``, ``unknown-signer``, ``evidence-refused``,
                ``bad-evidence``.
            PolicyRefusal: ``not-permitted``, ``not-authorised``, ``unenforceable``.
        """
        # 1. The offer is for this run, contract and program. 2. Of an enclave that counts, 3. at
        # the level and in the executor that the contract asks for. 4. Evidence proves it, where
        # the level asks for that.
        offer = shown.offer
        about |= {"enclave": offer.enclave, "executor": offer.executor, "level": offer.level}
        _require_same(checked, offer)  # 1
        self._require_enclave(checked, shown)  # 2
        _require_executor(checked, offer)  # 3
        if not KINDS[checked.level]:
            _require_level(checked, offer)  # 3
            return Grounds()
        policy = rules.appraisal(checked.environment, checked.level)
        shown_bytes = shown.evidence or b""
        try:
            verdict: Verdict | VerificationError = self._appraise(checked, shown, policy, now)  # 4
        except VerificationError as error:
            verdict = error
        token = ear.issue(
            self._identity.key.private,
            verdict,
            evidence=shown_bytes,
            policy_digest=policy.digest,
            nonce=shown.nonce,
            developer=self._identity.name,
            now=now,
        )
        about["attestation_result"] = token
        if isinstance(verdict, VerificationError):
            raise verdict
        if not verdict.simulated:  # one that may stand in for a real one reaches no level itself
            _require_level(checked, offer)  # 3
        return Grounds(shown_bytes, token)

    def _require_enclave(self, checked: CheckedTask, shown: Shown) -> None:
        named = checked.environment.enclaves
        here = (shown.offer.enclave, shown.signer)
        if (named or checked.level < "L4") and here not in {(one.name, one.key) for one in named}:
            raise VerificationError(
                "unknown-signer",
                f"{shown.offer.enclave} with this key is none of the enclaves that the contract "
                "names.",
            )
        facts = self._replica.facts("enclave", shown.offer.enclave)
        last = next((fact for fact in reversed(facts) if isinstance(fact, EnclaveChanged)), None)
        if last is not None and (last.key, last.status) != (shown.signer, "approved"):
            raise PolicyRefusal(
                "not-authorised",
                f"The ledger says that the enclave {last.name} is {last.status}, or has another "
                "key.",
            )

    def _appraise(
        self, checked: CheckedTask, shown: Shown, policy: AppraisalPolicy, now: datetime
    ) -> Verdict:
        kinds = KINDS[checked.level]
        if shown.evidence is None:
            raise refuse(
                Reason.WRONG_KIND,
                f"{checked.level} asks for evidence ({', '.join(sorted(kinds))}), and the enclave "
                "shows none.",
            )
        evidence = Record.from_cbor(shown.evidence)
        if evidence.kind not in {*kinds, "simulated"}:  # that one, the policy judges
            raise refuse(
                Reason.WRONG_KIND,
                f"{checked.level} asks for evidence of {', '.join(sorted(kinds))}; this is of "
                f"{evidence.kind}.",
            )
        digest = checked.task.code.content_digest
        return appraise(
            evidence,
            self._endorsements,
            policy,
            report_data=shown.report_data,
            now=now,
            task=contract_record(digest, checked.arguments, checked.inputs),
        )


def _require_same(checked: CheckedTask, offer: Offer) -> None:
    request, task = checked.request, checked.task
    for what, asked, offered in (
        ("run", request.run_id, offer.run_id),
        ("order", request.digest, offer.request_digest),
        ("contract", request.contract_digest, offer.contract_digest),
        ("task", task.name, offer.task),
        ("program", task.code.content_digest, offer.code),
    ):
        if asked != offered:
            raise VerificationError("bad-digest", f"The enclave offers to run another {what}.")


def _require_executor(checked: CheckedTask, offer: Offer) -> None:
    wanted = checked.task.executor or checked.environment.executor
    if wanted is not None and offer.executor != wanted:
        raise PolicyRefusal(
            "not-permitted", f"The contract asks for {wanted}; the enclave offers {offer.executor}."
        )


def _require_level(checked: CheckedTask, offer: Offer) -> None:
    if offer.level < checked.level:
        raise PolicyRefusal(
            "not-permitted",
            f"The contract asks for {checked.level}; the enclave offers {offer.level}.",
        )
