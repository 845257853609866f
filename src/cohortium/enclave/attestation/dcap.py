"""What SGX and TDX have in common: a DCAP quote, verified by `dcap_qvl` and judged here.

`dcap_qvl` checks certificates, signatures and the quoting enclave; it accepts a
platform that is out of date, so that the state is judged by the policy. Outside header and report a
quote can be changed and still verifies: its identity is the digest of those two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cohortium.core.canonical import digest_bytes
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.policy import AppraisalPolicy, judge_binding
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import EvidenceKind, Verdict
from cohortium.errors import InputError

MAX_QUOTE_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = 48
INTEL_ROOT: Final = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"
"""SHA-256 of the public key of "Intel SGX Root CA"."""

_SAID: Final[tuple[tuple[str, Reason, str], ...]] = (
    ("CertRevoked", Reason.REVOKED, "a certificate in its chain is revoked"),
    ("CrlExpired", Reason.COLLATERAL_EXPIRED, "a revocation list of the collateral is over"),
    ("TCBInfo expired", Reason.COLLATERAL_EXPIRED, "the TCB info is over"),
    ("QE Identity expired", Reason.COLLATERAL_EXPIRED, "the QE identity is over"),
    ("issue date is in the future", Reason.COLLATERAL_FUTURE, "the collateral is of the future"),
    ("Signature is invalid for tcb_info", Reason.COLLATERAL_SIGNATURE, "TCB info is not Intel's"),
    ("Signature is invalid for qe_identity", Reason.COLLATERAL_SIGNATURE, "QE identity is not"),
    ("Fmspc mismatch", Reason.COLLATERAL_MISMATCH, "the collateral is of other platforms"),
    ("in the collateral", Reason.COLLATERAL_MISMATCH, "the collateral is of another technology"),
    ("Unsupported QE Identity", Reason.COLLATERAL_MISMATCH, "the QE identity is of another kind"),
    ("enclave report signature", Reason.SIGNATURE, "the report's signature does not verify"),
    ("Signature is invalid for qe_report", Reason.SIGNATURE, "the QE's signature does not verify"),
    ("QE report hash mismatch", Reason.SIGNATURE, "the attestation key is not the QE's"),
    ("QE report validation", Reason.QUOTING_ENCLAVE, "the quoting enclave is in debug mode"),
    ("TDX module", Reason.QUOTING_ENCLAVE, "the TDX module is none of Intel's"),
    ("QE ", Reason.QUOTING_ENCLAVE, "the quoting enclave is none of Intel's"),
    ("No matching TCB level", Reason.TCB_UNKNOWN, "the platform is older than all known states"),
    ("TCB status is invalid", Reason.TCB_STATUS, "the platform's state is revoked"),
    ("Debug mode is enabled", Reason.DEBUG, "it is in debug mode"),
    ("SEPT_VE_DISABLE", Reason.ATTRIBUTES, "SEPT_VE_DISABLE is off"),
    ("Reserved bits in TD", Reason.ATTRIBUTES, "reserved attributes are set"),
    ("TD attributes", Reason.ATTRIBUTES, "its attributes are not allowed"),
    ("TD migration", Reason.MIGRATION, "it can be moved to another machine"),
    ("MR service TD", Reason.MIGRATION, "a service TD is bound to it"),
    ("UnknownRevocationStatus", Reason.CERTIFICATE, "the revocation of a certificate is unknown"),
    (" CRL", Reason.CERTIFICATE, "a revocation list of the collateral cannot be read"),
    ("Certificate chain", Reason.CERTIFICATE, "its certificate chain is too short"),
    ("certificate", Reason.CERTIFICATE, "its certificate cannot be read"),
    ("CaUsedAsEndEntity", Reason.CERTIFICATE, "an authority stands in the place of a signer"),
)
"""A part of what `dcap_qvl` says, the reason and our words; the first that fits."""


@dataclass(frozen=True)
class Quote:
    """A quote whose signatures hold, and what Intel says of its platform.

    Attributes:
        report: `dcap_qvl`'s fields of the report, as hex text and numbers.
    """

    report: Mapping[str, Any]
    tcb_status: str
    advisories: tuple[str, ...]
    ppid: str
    tcb_evaluation: int
    signed: bytes


def verify_quote(
    quote: bytes,
    collateral: Collateral,
    *,
    kind: EvidenceKind,
    now: datetime,
    max_age_s: int,
    root_ca: bytes | None = None,
) -> Quote:
    """Form, time and signatures of a quote; who it is is for the caller to judge.

    Args:
        root_ca: DER of a root in place of Intel's; for tests.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; never anything else but
            `InputError` (``missing-extra``).
    """
    # 1. Form and kind. 2. The collateral's platform and time; root, time and revocation of all
    # certificates. 3. Their signatures and those of report, quoting enclave and collateral.
    qvl = _library()
    signed = _signed_part(quote, kind)  # 1
    own_chain = _call(qvl.parse_quote, quote, otherwise=Reason.MALFORMED).cert_chain_pem_bytes()
    if collateral.tee != kind:  # 2
        raise refuse(Reason.COLLATERAL_MISMATCH, f"The collateral is not of {kind} platforms.")
    collateral.judge_time(now, max_age_s)
    _judge_chains([own_chain or b"", *collateral.chains], collateral, now, root_ca)
    parsed = _call(
        qvl.QuoteCollateralV3.from_json,
        json.dumps(dict(collateral.fields)),
        otherwise=Reason.COLLATERAL_MALFORMED,
    )
    seconds = int(now.timestamp())
    verifier = qvl.QuoteVerifier(root_ca) if root_ca else qvl.QuoteVerifier()
    policy = qvl.QuotePolicy.claims_only(seconds)
    claims = json.loads(
        _call(verifier.verify_with_policy, quote, parsed, seconds, policy).to_json()  # 3
    )
    if len(claims["report"]) != 1:
        raise refuse(Reason.MALFORMED, "The quote has no report, or several.")
    (report,) = claims["report"].values()
    return Quote(
        report=report,
        tcb_status=claims["tcb"]["status"],
        advisories=tuple(claims["tcb"]["advisory_ids"]),
        ppid=bytes(claims["platform"]["pck"]["ppid"]).hex(),
        tcb_evaluation=min(claims["tcb"]["eval_data_number"], claims["qe"]["tcb_eval_data_number"]),
        signed=signed,
    )


def judge_quote(
    found: Quote,
    collateral: Collateral,
    policy: AppraisalPolicy,
    *,
    kind: EvidenceKind,
    measurements: Mapping[str, str],
    report_data: bytes,
    now: datetime,
    product: int | None = None,
    svn: int | None = None,
) -> Verdict:
    """Everything that both kinds are judged by, and the verdict.

    Raises:
        VerificationError: ``evidence-refused``.
    """
    policy.judge_measurements(kind, measurements, product=product, svn=svn)
    if found.tcb_evaluation < policy.min_tcb_evaluation:
        raise refuse(
            Reason.TCB_EVALUATION,
            "The collateral's rules are older than the policy accepts; import a newer one.",
            found=found.tcb_evaluation,
        )
    policy.judge_tcb(found.tcb_status, found.advisories)
    policy.judge_platform(found.ppid)
    judge_binding(bytes.fromhex(found.report["report_data"]), report_data)
    return Verdict(
        kind=kind,
        measurements=dict(measurements),
        platform=found.ppid,
        product=product,
        security_version=svn,
        tcb_status=found.tcb_status,
        advisories=found.advisories,
        report_data=report_data.hex(),
        signed_digest=digest_bytes(found.signed),
        collateral_digest=collateral.digest,
        policy_digest=policy.digest,
        checked_at=now,
        expires_at=collateral.expires_at,
    )


def platform_of(quote: bytes) -> tuple[EvidenceKind, str]:
    """Kind and FMSPC that an unverified quote names: which collateral it needs.

    Raises:
        VerificationError: ``bad-evidence`` (``malformed``).
    """
    parsed = _call(_library().parse_quote, quote[:MAX_QUOTE_BYTES], otherwise=Reason.MALFORMED)
    fmspc = _call(parsed.fmspc, otherwise=Reason.MALFORMED)
    return ("tdx" if parsed.is_tdx() else "sgx"), str(fmspc).lower()


def _judge_chains(
    chains: Iterable[bytes], collateral: Collateral, now: datetime, root_ca: bytes | None
) -> None:
    """Say of the certificates what `dcap_qvl` refuses without a word: root, time, revocation.

    Their signatures, and those of the revocation lists, are verified by it afterwards.
    """
    try:
        wanted = (
            INTEL_ROOT if root_ca is None else _key_digest(x509.load_der_x509_certificate(root_ca))
        )
        revoked = {
            (crl.issuer, entry.serial_number)
            for crl in map(x509.load_der_x509_crl, collateral.revocation_lists)
            for entry in crl
        }
        for chain in chains:
            certificates = x509.load_pem_x509_certificates(chain.rstrip(b"\0")) if chain else []
            if certificates and _key_digest(certificates[-1]) != wanted:
                raise refuse(Reason.WRONG_ROOT, "The certificates do not lead to Intel's root.")
            for one in certificates:
                if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
                    raise refuse(
                        Reason.CERTIFICATE_EXPIRED, "A certificate of the platform is over."
                    )
                if (one.issuer, one.serial_number) in revoked:
                    raise refuse(Reason.REVOKED, "A certificate of the platform is revoked.")
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise refuse(Reason.CERTIFICATE, "A certificate of the platform cannot be read.") from error


def _key_digest(certificate: x509.Certificate) -> str:
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(key).hexdigest()


def _signed_part(quote: bytes, kind: EvidenceKind) -> bytes:
    version, tee = int.from_bytes(quote[:2], "little"), int.from_bytes(quote[4:8], "little")
    if not HEADER_BYTES < len(quote) <= MAX_QUOTE_BYTES:
        raise refuse(Reason.MALFORMED, "Not a quote: too short or too long.")
    if tee not in {0, 0x81}:
        raise refuse(Reason.MALFORMED, "Not a quote of SGX or TDX.")
    if (kind == "tdx") != (tee == 0x81):
        raise refuse(Reason.WRONG_KIND, f"The quote is not of {kind}.")
    if kind == "sgx":
        n_bytes = HEADER_BYTES + 384
    elif version == 4:
        n_bytes = HEADER_BYTES + 584
    else:
        n_bytes = HEADER_BYTES + 6 + int.from_bytes(quote[50:54], "little")
    if len(quote) <= n_bytes:
        raise refuse(Reason.MALFORMED, "The quote is cut off.")
    return quote[:n_bytes]


def _call(function: Callable[..., Any], *given: Any, otherwise: Reason | None = None) -> Any:
    try:
        return function(*given)
    except (ValueError, OverflowError, TypeError) as error:
        text = str(error)
        if otherwise is None:
            for part, reason, words in _SAID:
                if part in text:
                    raise refuse(reason, f"The quote is refused: {words}.") from error
        raise refuse(
            otherwise or Reason.MALFORMED, "The evidence is refused: it cannot be read."
        ) from error


def _library() -> Any:
    try:
        import dcap_qvl
    except ImportError as error:
        raise InputError(
            "missing-extra",
            "Quotes of SGX and TDX need a library: pip install 'cohortium[attestation]'.",
        ) from error
    return dcap_qvl
