"""Attestation results as tokens that others verify: EAR in a JWT (RFC 9711, draft-ietf-rats-ear).

A verifier signs what it found, affirming or contraindicated, with its own key. Whoever knows that
key (a ledger's reader, an auditor) can see years later what was checked, by what policy, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cohortium.core.canonical import digest_bytes
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import ProtocolError, VerificationError

PROFILE: Final = "tag:github.com,2023:veraison/ear"
BUILD: Final = "cohortium/attestation/1"
MAX_CHARACTERS: Final = 64 * 1024
SKEW_S: Final = 60
_REQUIRED: Final = ("eat_profile", "iat", "eat_nonce", "ear.verifier-id", "submods")

Status = Literal["affirming", "contraindicated"]
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Result:
    """An attestation result whose signature holds.

    Attributes:
        verdict: Absent where the evidence was refused.
        reason: Why it was refused.
        evidence_digest: Of the bytes that were shown; those of a quote are not its identity, which
            is the verdict's ``signed_digest``.
    """

    status: Status
    issued_at_s: int
    nonce: str
    developer: str
    verdict: Verdict | None
    reason: Reason | None
    evidence_digest: str
    policy_digest: str


def issue(
    key: PrivateKey,
    outcome: Verdict | VerificationError,
    *,
    evidence: bytes,
    policy_digest: str,
    nonce: bytes,
    developer: str,
    now: datetime,
) -> str:
    """The token of a verdict, or of a refusal.

    Args:
        key: The verifier's, Ed25519 or P-256.
        developer: Who verifies, as the consortium knows it.
    """
    refused = isinstance(outcome, VerificationError)
    reason = reason_of(outcome) if isinstance(outcome, VerificationError) else None
    appraisal: dict[str, Any] = {
        "ear.status": "contraindicated" if refused else "affirming",
        "ear.appraisal-policy-id": policy_digest,
        "cohortium.evidence-digest": digest_bytes(evidence),
    }
    if isinstance(outcome, Verdict):
        appraisal["cohortium.verdict"] = outcome.to_json()
    else:
        appraisal["cohortium.reason"] = reason.value if reason else outcome.code
    claims = {
        "eat_profile": PROFILE,
        "iat": int(now.timestamp()),
        "eat_nonce": nonce.hex(),
        "ear.verifier-id": {"build": BUILD, "developer": developer},
        "submods": {"enclave": appraisal},
    }
    return jwt.encode(claims, key, algorithm=_algorithm(key), headers={"typ": "eat+jwt"})


def verify(token: str, key: PublicKey, *, now: datetime, nonce: bytes | None = None) -> Result:
    """Check a token against the verifier's key and read it.

    Args:
        nonce: Where the reader knows for which it must be.

    Raises:
        VerificationError: ``bad-token``; never anything else.
    """
    # 1. Signature, by the key's own algorithm. 2. Profile and time. 3. One appraisal, and what it
    # says fits its status.
    try:
        if len(token) > MAX_CHARACTERS:
            raise ValueError("too long")
        if jwt.get_unverified_header(token).get("typ") != "eat+jwt":
            raise ValueError("another type")
        claims = jwt.decode(  # 1
            token,
            key,
            algorithms=[_algorithm(key)],
            # Time is judged below, by the caller's clock.
            options={
                "require": list(_REQUIRED),
                "verify_iat": False,
                "verify_exp": False,
                "verify_nbf": False,
            },
        )
        if claims["eat_profile"] != PROFILE:  # 2
            raise ValueError("another profile")
        issued = claims["iat"]
        if type(issued) is not int or issued > now.timestamp() + SKEW_S:
            raise ValueError("of the future")
        given = claims["eat_nonce"]
        if not isinstance(given, str) or (nonce is not None and given != nonce.hex()):
            raise ValueError("for another nonce")
        developer = str(claims["ear.verifier-id"]["developer"])
        (appraisal,) = claims["submods"].values()  # 3
        return _result(appraisal, issued, given, developer)
    except (
        jwt.PyJWTError,
        ProtocolError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
    ) as error:
        raise VerificationError(
            "bad-token", "The attestation result is not this verifier's, or was altered."
        ) from error


def _result(appraisal: Mapping[str, Any], issued: int, nonce: str, developer: str) -> Result:
    status = appraisal["ear.status"]
    said = appraisal.get("cohortium.verdict")
    verdict = None if said is None else Verdict.from_json(said)
    policy = str(appraisal["ear.appraisal-policy-id"])
    if status not in {"affirming", "contraindicated"}:
        raise ValueError("no status")
    if (status == "affirming") != (verdict is not None):
        raise ValueError("status and verdict contradict each other")
    if verdict is not None and verdict.policy_digest != policy:
        raise ValueError("two policies")
    why = appraisal.get("cohortium.reason")
    return Result(
        status=status,
        issued_at_s=issued,
        nonce=nonce,
        developer=developer,
        verdict=verdict,
        reason=Reason(why) if why in set(Reason) else None,
        evidence_digest=str(appraisal["cohortium.evidence-digest"]),
        policy_digest=policy,
    )


def _algorithm(key: PrivateKey | PublicKey) -> str:
    if isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        return "EdDSA"
    if not isinstance(key.curve, ec.SECP256R1):
        raise RuntimeError("a verifier's key is Ed25519 or P-256")
    return "ES256"
