"""Fresh evidence in a session: relay, reflection and old answers are refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.dcap import NOW, Intel, sgx_report

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.session import Challenges, Session
from cohortium.enclave.attestation.sgx import verify_sgx
from cohortium.enclave.attestation.simulated import SimulatedEvidence, verify_simulated
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import VerificationError

SESSION = Session(
    b"enclave's certificate",
    b"node's certificate",
    b"\x01" * 32,
    "sha256:" + "a" * 64,
    b"\x02" * 32,
)
INTEL = Intel("SGX")
COLLATERAL = Collateral.parse(INTEL.collateral())
ENCLAVE = Measurement(kind="mrenclave", value="11" * 32)


def challenges() -> Challenges:
    counter = itertools.count(1)
    return Challenges(lambda n: next(counter).to_bytes(n, "big"))


def answer(session: Session, nonce: bytes) -> bytes:
    """The quote that an enclave makes in a session, as it sees it."""
    return INTEL.quote(sgx_report(report_data=session.report_data(nonce)))


def judge(session: Session, nonce: bytes, quote: bytes) -> Verdict:
    """The verifier, in a session as it sees it."""
    return verify_sgx(
        quote,
        COLLATERAL,
        AppraisalPolicy(measurements=(ENCLAVE,)),
        report_data=session.report_data(nonce),
        now=NOW,
        root_ca=INTEL.root_der,
    )


def reason(run: Callable[[], Any]) -> Reason | None:
    with pytest.raises(VerificationError) as caught:
        run()
    assert caught.value.code == "evidence-refused"
    return reason_of(caught.value)


def test_both_ends_of_a_session_come_to_the_same_binding() -> None:
    nonce = challenges().issue(NOW)
    assert judge(SESSION, nonce, answer(SESSION, nonce)).kind == "sgx"
    assert len(SESSION.report_data(nonce)) == 64
    assert len(SESSION.tpm_nonce(nonce)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"attester": b"the relay's certificate"},
        {"verifier": b"the relay's certificate"},
        {"exporter": b"\x02" * 32},
        {"contract": "sha256:" + "b" * 64},
    ],
)
def test_evidence_of_another_session_is_refused(change: dict[str, Any]) -> None:
    """A relay stands between: the enclave answers in its session, not in the verifier's."""
    nonce = challenges().issue(NOW)
    relayed = answer(replace(SESSION, **change), nonce)
    assert reason(lambda: judge(SESSION, nonce, relayed)) is Reason.BINDING


def test_our_own_evidence_shown_to_us_is_refused() -> None:
    nonce = challenges().issue(NOW)
    ours = replace(SESSION, attester=SESSION.verifier, verifier=SESSION.attester)
    assert reason(lambda: judge(SESSION, nonce, answer(ours, nonce))) is Reason.BINDING
    mirror = replace(SESSION, attester=SESSION.verifier)
    assert reason(lambda: mirror.report_data(nonce)) is Reason.REFLECTED


def test_a_nonce_counts_once_and_for_a_minute() -> None:
    given = challenges()
    nonce = given.issue(NOW)
    assert given.redeem(nonce, NOW + timedelta(seconds=60)) == nonce
    assert reason(lambda: given.redeem(nonce, NOW)) is Reason.NONCE
    assert reason(lambda: given.redeem(bytes(32), NOW)) is Reason.NONCE
    late = given.issue(NOW)
    assert reason(lambda: given.redeem(late, NOW + timedelta(seconds=61))) is Reason.STALE
    early = given.issue(NOW)
    assert reason(lambda: given.redeem(early, NOW - timedelta(seconds=1))) is Reason.STALE


def test_an_old_answer_does_not_fit_a_new_nonce() -> None:
    given = challenges()
    old, new = given.issue(NOW), given.issue(NOW)
    assert reason(lambda: judge(SESSION, new, answer(SESSION, old))) is Reason.BINDING
    assert reason(lambda: SESSION.report_data(b"short")) is Reason.NONCE


def test_a_verifier_remembers_a_bounded_number_of_nonces() -> None:
    given = challenges()
    first = given.issue(NOW)
    for _ in range(10_000):
        last = given.issue(NOW)
    assert reason(lambda: given.redeem(first, NOW)) is Reason.NONCE
    assert given.redeem(last, NOW) == last


def test_parts_cannot_be_shifted_into_one_another() -> None:
    nonce = bytes(32)
    one = replace(SESSION, contract="sha256:" + "a" * 63)
    two = replace(SESSION, contract="sha256:" + "a" * 62)
    digests = {session.report_data(nonce) for session in (SESSION, one, two)}
    assert len(digests) == 3


def test_simulated_evidence_is_refused_unless_the_contract_allows_it() -> None:
    data = SESSION.report_data(bytes(32))
    evidence = SimulatedEvidence(measurement="55" * 32, report_data=data.hex()).to_bytes()
    wanted = (Measurement(kind="simulated", value="55" * 32),)

    def verify(evidence: bytes = evidence, data: bytes = data, **policy: Any) -> Verdict:
        policy = {"measurements": wanted, "allow_simulated": True, **policy}
        return verify_simulated(evidence, AppraisalPolicy(**policy), report_data=data, now=NOW)

    assert verify().simulated
    assert reason(lambda: verify(allow_simulated=False)) is Reason.SIMULATED
    assert reason(lambda: verify(data=bytes(64))) is Reason.BINDING
    assert reason(lambda: verify(measurements=())) is Reason.NO_REFERENCE
    other = (Measurement(kind="simulated", value="66" * 32),)
    assert reason(lambda: verify(measurements=other)) is Reason.MEASUREMENT
    with pytest.raises(VerificationError) as caught:
        verify(evidence=b'{"measurement": "55"}')
    assert reason_of(caught.value) is Reason.MALFORMED
