"""Evidence of every kind, in one session, through one door; the door of no other kind."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from tests.support.amd import Amd
from tests.support.dcap import NOW, Intel, sgx_report, tdx_report
from tests.support.tpm import Tpm

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation.appraise import Endorsements, appraise, snp_evidence
from cohortium.enclave.attestation.cmw import EVIDENCE_TYPES, Record
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.policy import ANY_AMD, AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.session import Session
from cohortium.enclave.attestation.simulated import SimulatedEvidence
from cohortium.enclave.attestation.tpm import TpmEvidence
from cohortium.enclave.attestation.tpm_events import TASK_PCR, replay
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import PolicyRefusal, VerificationError

INTEL = Intel("SGX")
AMD, TPM = Amd(), Tpm()
SESSION = Session(b"enclave", b"node", bytes(32), "sha256:" + "a" * 64, bytes(32))
NONCE = bytes(range(32))
DATA = SESSION.report_data(NONCE)
VALUES = (
    ("mrenclave", "11" * 32),
    ("mrtd", "33" * 48),
    ("rtmr0", "40" * 48),
    ("rtmr1", "41" * 48),
    ("rtmr2", "42" * 48),
    ("snp-measurement", "11" * 48),
    *((f"pcr{index}", f"{index:02}" * 32) for index in (0, 2, 4, 7)),
    ("simulated", "55" * 32),
)
POLICY = AppraisalPolicy(
    measurements=tuple(Measurement(kind=kind, value=value) for kind, value in VALUES),
    platforms=(TPM.name.hex(), bytes(range(64)).hex(), "d04ec06d4e6d92dc90d0ad3cf5ee2ddf"),
    amd_platforms=ANY_AMD,
    allow_simulated=True,
)
TASK = (bytes(range(32)),)
TDX_INTEL = Intel("TDX", INTEL.root_key, INTEL.ca_key, INTEL.signer_key)
COLLATERAL = {
    "sgx": Collateral.parse(INTEL.collateral()),
    "tdx": Collateral.parse(TDX_INTEL.collateral()),
}


def records(data: bytes = DATA) -> dict[str, Record]:
    pcrs = {index: bytes.fromhex(f"{index:02}" * 32) for index in (0, 2, 4, 7)}
    pcrs |= {8: bytes(32), 9: bytes(32), TASK_PCR: replay((), TASK)[TASK_PCR]}
    quote = TPM.quote(pcrs, sha256(data).digest())
    tpm = TpmEvidence(quote, TPM.sign(quote), TPM.public, pcrs, b"", TASK)
    simulated = SimulatedEvidence(measurement="55" * 32, report_data=data.hex())
    return {
        "sgx": Record.evidence("sgx", INTEL.quote(sgx_report(report_data=data))),
        "tdx": Record.evidence("tdx", TDX_INTEL.quote(tdx_report(report_data=data))),
        "sev-snp": snp_evidence(AMD.report(report_data=data), AMD.leaf, AMD.chain),
        "tpm": Record.evidence("tpm", tpm.to_cbor()),
        "simulated": Record.evidence("simulated", simulated.to_bytes()),
    }


def judge(record: Record, task: Any = TASK, **policy: Any) -> Verdict:
    endorsements = Endorsements(
        lambda tee, _fmspc: COLLATERAL[tee], intel_root=INTEL.root_der, amd_roots=AMD.roots
    )
    chosen = POLICY.model_copy(update=policy)
    return appraise(record, endorsements, chosen, report_data=DATA, now=NOW, task=task)


def reason(run: Callable[[], Any]) -> Reason | None:
    with pytest.raises(VerificationError) as caught:
        run()
    return reason_of(caught.value)


@pytest.mark.parametrize("kind", EVIDENCE_TYPES)
def test_evidence_goes_to_the_verifier_of_its_kind(kind: str) -> None:
    sent = Record.from_cbor(records()[kind].to_cbor())
    assert judge(sent).kind == kind


@pytest.mark.parametrize("kind", EVIDENCE_TYPES)
def test_evidence_of_another_session_is_refused_whatever_its_kind(kind: str) -> None:
    other = records(SESSION.report_data(bytes(32)))[kind]
    found = reason(lambda: judge(other))
    assert found is (Reason.NONCE if kind == "tpm" else Reason.BINDING)


@pytest.mark.parametrize("kind", EVIDENCE_TYPES)
def test_evidence_under_another_name_is_refused(kind: str) -> None:
    value = records()[kind].value
    for other, media_type in EVIDENCE_TYPES.items():
        if other != kind:
            found = reason(lambda m=media_type: judge(Record(m, value)))  # type: ignore[misc]
            assert found in {Reason.MALFORMED, Reason.WRONG_KIND}


@pytest.mark.parametrize("kind", EVIDENCE_TYPES)
def test_a_contract_without_values_for_a_kind_does_not_accept_it(kind: str) -> None:
    assert reason(lambda: judge(records()[kind], measurements=())) is Reason.NO_REFERENCE


def test_evidence_of_a_tpm_is_of_a_task_or_of_nothing() -> None:
    for task in (None, ()):
        with pytest.raises((PolicyRefusal, VerificationError)) as caught:
            judge(records()["tpm"], task)
        assert caught.value.code == ("unenforceable" if task is None else "evidence-refused")
    assert reason(lambda: judge(records()["tpm"], (bytes(32),))) is Reason.EVENT
    assert judge(records()["sev-snp"], None).kind == "sev-snp"


@pytest.mark.parametrize("parts", [[b"r", b"l"], [b"r", b"l", "c"], {}, [b"r", b"l", b"c", b"d"]])
def test_snp_evidence_of_another_form_is_refused(parts: Any) -> None:
    record = Record.evidence("sev-snp", cbor2.dumps(parts))
    assert reason(lambda: judge(record)) is Reason.MALFORMED
