"""The verifier's side and a TPM that others wrote (swtpm): quotes, and activate-credential."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.dcap import NOW
from tests.support.swtpm import SoftwareTpm, software_tpm

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation import tpm_events
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.tpm import TpmEvidence, verify_tpm
from cohortium.enclave.attestation.tpm_enrolment import judge_answer, make_challenge
from cohortium.enclave.attestation.tpm_structures import PublicArea
from cohortium.errors import VerificationError

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
PCRS = (0, 2, 4, 7, 8, 9, 14)
TASK = tpm_events.task_digests("sha256:" + "a" * 64, ["--epochs", "3"], {"images": "sha256:b"})


@pytest.fixture(scope="module")
def tpm() -> Iterator[SoftwareTpm]:
    # A socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory() as folder, software_tpm(Path(folder)) as running:
        yield running


def endorsement_key(tpm: SoftwareTpm) -> rsa.RSAPublicKey:
    key = PublicArea.parse(tpm.endorsement_public).key
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def test_a_measured_start_is_quoted_and_verified(tpm: SoftwareTpm) -> None:
    challenge = make_challenge(endorsement_key(tpm), tpm.public, secrets.token_bytes)
    secret = tpm.activate(challenge.credential_blob, challenge.encrypted_secret)
    enrolled = judge_answer(challenge, secret)
    for digest in TASK:
        tpm.extend(tpm_events.TASK_PCR, digest)
    nonce = secrets.token_bytes(32)
    quote, signature = tpm.quote(PCRS, nonce)
    evidence = TpmEvidence(quote, signature, tpm.public, dict(tpm.read(PCRS)), b"", TASK)
    boot = [Measurement(kind=f"pcr{i}", value=evidence.pcrs[i].hex()) for i in (0, 2, 4, 7)]
    policy = AppraisalPolicy(measurements=tuple(boot), platforms=(enrolled,))
    verdict = verify_tpm(evidence, policy, nonce=nonce, now=NOW, task=TASK)
    expected = tpm_events.replay((), TASK)[tpm_events.TASK_PCR]
    assert verdict.measurements["pcr14"] == expected.hex()
    with pytest.raises(VerificationError) as caught:
        verify_tpm(evidence, policy, nonce=bytes(32), now=NOW, task=TASK)
    assert reason_of(caught.value) is Reason.NONCE


def test_a_secret_for_another_key_is_not_opened(tpm: SoftwareTpm) -> None:
    challenge = make_challenge(endorsement_key(tpm), tpm.public, secrets.token_bytes)
    blob = bytearray(challenge.credential_blob)
    blob[-1] ^= 1
    # TPM_RC_INTEGRITY, of the first parameter.
    with pytest.raises(RuntimeError, match="0x1df to 0x147"):
        tpm.activate(bytes(blob), challenge.encrypted_secret)
