"""Attestation results as tokens."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.dcap import NOW

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation.ear import PROFILE, issue, verify
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.simulated import SimulatedEvidence, verify_simulated
from cohortium.errors import VerificationError

ED = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ES = ec.generate_private_key(ec.SECP256R1())
NONCE = bytes(range(32))
POLICY = AppraisalPolicy(
    measurements=(Measurement(kind="simulated", value="55" * 32),), allow_simulated=True
)
EVIDENCE = SimulatedEvidence(measurement="55" * 32, report_data="00" * 64).to_bytes()
VERDICT = verify_simulated(EVIDENCE, POLICY, report_data=bytes(64), now=NOW)


def token(key: Any = ED, outcome: Any = VERDICT) -> str:
    return issue(
        key,
        outcome,
        evidence=EVIDENCE,
        policy_digest=POLICY.digest,
        nonce=NONCE,
        developer="Aarhus",
        now=NOW,
    )


def refused(text: str, key: Any = ED, **options: Any) -> bool:
    with pytest.raises(VerificationError) as caught:
        verify(text, key.public_key(), **{"now": NOW, **options})
    return caught.value.code == "bad-token"


@pytest.mark.parametrize("key", [ED, ES])
def test_a_verdict_is_read_as_it_was_signed(key: Any) -> None:
    result = verify(token(key), key.public_key(), now=NOW, nonce=NONCE)
    assert (result.status, result.verdict, result.reason) == ("affirming", VERDICT, None)
    assert (result.developer, result.nonce) == ("Aarhus", NONCE.hex())
    assert result.issued_at_s == int(NOW.timestamp())
    assert result.policy_digest == POLICY.digest


def test_a_refusal_is_a_result_too_and_says_why() -> None:
    text = token(outcome=refuse(Reason.DEBUG, "in debug mode"))
    result = verify(text, ED.public_key(), now=NOW)
    assert (result.status, result.verdict) == ("contraindicated", None)
    assert result.reason is Reason.DEBUG


def test_the_claims_are_those_of_the_standards() -> None:
    body = token().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["eat_profile"] == PROFILE
    assert claims["submods"]["enclave"]["ear.status"] == "affirming"
    assert claims["ear.verifier-id"] == {"build": "cohortium/attestation/1", "developer": "Aarhus"}


def test_another_key_nonce_time_and_algorithm_are_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    assert refused(token(), other)
    assert refused(token(), ES)
    assert refused(token(), nonce=bytes(32))
    assert refused(token(), now=NOW - timedelta(minutes=5))
    assert refused("")
    assert refused("a.b.c")
    unsigned = jwt.encode(
        {"eat_profile": PROFILE}, "", algorithm="none", headers={"typ": "eat+jwt"}
    )
    assert refused(unsigned)


@pytest.mark.parametrize(
    "change",
    [
        {"eat_profile": "other"},
        {"iat": "now"},
        {"eat_nonce": 1},
        {"submods": {}},
        {"submods": {"a": {}, "b": {}}},
        {"submods": {"enclave": {"ear.status": "affirming"}}},
        {"submods": []},
        {"ear.verifier-id": "x"},
    ],
)
def test_signed_claims_of_another_form_are_refused(change: dict[str, Any]) -> None:
    claims = jwt.decode(token(), ED.public_key(), ["EdDSA"], options={"verify_iat": False})
    text = jwt.encode({**claims, **change}, ED, algorithm="EdDSA", headers={"typ": "eat+jwt"})
    assert refused(text)


@pytest.mark.parametrize(
    "change",
    [
        {"ear.status": "contraindicated"},
        {"ear.status": "warning"},
        {"ear.appraisal-policy-id": "sha256:" + "0" * 64},
        {"cohortium.verdict": None},
        {"cohortium.verdict": {"kind": "sgx"}},
    ],
)
def test_a_status_that_does_not_fit_the_verdict_is_refused(change: dict[str, Any]) -> None:
    claims = jwt.decode(token(), ED.public_key(), ["EdDSA"], options={"verify_iat": False})
    claims["submods"]["enclave"].update(change)
    text = jwt.encode(claims, ED, algorithm="EdDSA", headers={"typ": "eat+jwt"})
    assert refused(text)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_character_of_a_token_can_be_changed(data: st.DataObject) -> None:
    text = TOKEN
    place = data.draw(st.integers(0, len(text) - 2))
    other = data.draw(st.sampled_from("AbC19_-."))
    changed = text[:place] + other + text[place + 1 :]
    assert changed == text or refused(changed)


TOKEN = token()
