"""Interoperable RA-TLS: a certificate that carries the quote of the enclave that holds its key.

The format is the Confidential Computing Consortium's, which Gramine, rats-tls and Intel's SDK
write: extension 2.23.133.5.4.9 with CBOR ``60000([quote, claims])``, claims ``pubkey-hash`` and
``nonce``, and the claims' SHA-256 in the quote's report data. Such a certificate says that the key
was made inside; that the session ends there too is `cohortium.enclave.attestation.session`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from cohortium.enclave.attestation.cbor import decode, encode, tag_of, tagged
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.dcap import MAX_QUOTE_BYTES, platform_of
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.sgx import verify_sgx
from cohortium.enclave.attestation.tdx import verify_tdx
from cohortium.enclave.attestation.verdict import EvidenceKind, Verdict

EVIDENCE_OID: Final = x509.ObjectIdentifier("2.23.133.5.4.9")
INTEL_QUOTE_TAG: Final = 60000
MAX_CERTIFICATE_BYTES: Final = 128 * 1024
_MAX_CLAIMS_BYTES: Final = 4096
# IANA "Named Information Hash Algorithm Registry".
_HASHES: Final[dict[int, Callable[[bytes], Any]]] = {
    1: hashlib.sha256,
    7: hashlib.sha384,
    8: hashlib.sha512,
}


@dataclass(frozen=True)
class Attested:
    """What an RA-TLS certificate carries; its quote is not yet verified.

    Attributes:
        report_data: What the quote has to be bound to: the digest of the claims.
    """

    kind: EvidenceKind
    fmspc: str
    quote: bytes
    nonce: bytes | None
    report_data: bytes


def make_claims(public_key: ec.EllipticCurvePublicKey, nonce: bytes | None = None) -> bytes:
    """The claims of a key; its quote is made for `bound_to` of them."""
    entry = encode([1, hashlib.sha256(_spki(public_key)).digest()])
    claims = {"pubkey-hash": entry}
    if nonce is not None:
        claims["nonce"] = nonce
    return encode(claims)


def bound_to(claims: bytes) -> bytes:
    """The 64 bytes of report data that bind a quote to claims."""
    return hashlib.sha256(claims).digest() + bytes(32)


def make_certificate(
    key: ec.EllipticCurvePrivateKey,
    quote: bytes,
    claims: bytes,
    *,
    name: str,
    now: datetime,
    lifetime: timedelta,
) -> bytes:
    """A self-signed certificate, DER, with an SGX or TDX quote for the claims."""
    evidence = encode(tagged(INTEL_QUOTE_TAG, [quote, claims]))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Not critical: TLS libraries refuse critical extensions that they do not know.
        .add_extension(x509.UnrecognizedExtension(EVIDENCE_OID, evidence), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def open_certificate(
    certificate: bytes,
    *,
    now: datetime,
    nonce: bytes | None = None,
    issuer: x509.Certificate | None = None,
) -> Attested:
    """Read and check a certificate, up to the quote.

    Args:
        nonce: The verifier's, where it gave one; the claims must then name it.
        issuer: Who signed it, verified already; None: its own key did.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; never anything else.
    """
    # 1. The certificate, its time, its signature. 2. One extension, one tag. 3. The claims:
    # this key, this nonce. 4. The quote's kind.
    parsed = _parse(certificate, now, issuer)  # 1
    quote, claims = _evidence(parsed)  # 2
    found = _claims(claims)  # 3
    _judge_key(found.get("pubkey-hash"), parsed)
    given = found.get("nonce")
    if nonce is not None and not hmac.compare_digest(given or b"", nonce):
        raise refuse(Reason.NONCE, "The certificate was made for another nonce, or for none.")
    kind, fmspc = platform_of(quote)  # 4
    return Attested(kind, fmspc, quote, given, bound_to(claims))


def verify_certificate(
    certificate: bytes,
    collateral: Callable[[str, str], Collateral],
    policy: AppraisalPolicy,
    *,
    now: datetime,
    nonce: bytes | None = None,
    issuer: x509.Certificate | None = None,
    root_ca: bytes | None = None,
) -> Verdict:
    """Appraise an RA-TLS certificate, the quote in it included.

    Args:
        collateral: From kind and FMSPC, as `CollateralStore.find`.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; ``details["reason"]`` says why.
    """
    found = open_certificate(certificate, now=now, nonce=nonce, issuer=issuer)
    verify = verify_sgx if found.kind == "sgx" else verify_tdx
    return verify(
        found.quote,
        collateral(found.kind, found.fmspc),
        policy,
        report_data=found.report_data,
        now=now,
        root_ca=root_ca,
    )


def _parse(certificate: bytes, now: datetime, issuer: x509.Certificate | None) -> x509.Certificate:
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise refuse(Reason.MALFORMED, "The certificate has more bytes than are accepted.")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        if not parsed.not_valid_before_utc <= now <= parsed.not_valid_after_utc:
            raise refuse(Reason.CERTIFICATE_EXPIRED, "The certificate is over, or not yet valid.")
        parsed.verify_directly_issued_by(issuer or parsed)
    except InvalidSignature as error:
        raise refuse(
            Reason.SIGNATURE, "The certificate is not signed by its own key or its issuer."
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise refuse(Reason.MALFORMED, "The certificate cannot be read.") from error
    return parsed


def _evidence(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    try:
        extension = certificate.extensions.get_extension_for_oid(EVIDENCE_OID).value
    except x509.DuplicateExtension as error:
        raise refuse(
            Reason.DUPLICATE_EXTENSION, "The certificate has an extension twice."
        ) from error
    except x509.ExtensionNotFound as error:
        raise refuse(Reason.NO_EXTENSION, "The certificate carries no evidence.") from error
    except (ValueError, TypeError, x509.UnsupportedGeneralNameType) as error:
        raise refuse(Reason.MALFORMED, "The certificate's extensions cannot be read.") from error
    raw = extension.value if isinstance(extension, x509.UnrecognizedExtension) else b""
    found = tag_of(decode(raw, "The certificate's evidence"))
    if found is None or found[0] != INTEL_QUOTE_TAG:
        raise refuse(Reason.UNKNOWN_TAG, "The certificate's evidence is of a kind not known here.")
    parts = found[1]
    pair = isinstance(parts, list | tuple) and len(parts) == 2
    if not pair or not all(type(part) is bytes for part in parts):
        raise refuse(Reason.MALFORMED, "The certificate's evidence is not a quote and claims.")
    quote, claims = parts
    if len(quote) > MAX_QUOTE_BYTES or len(claims) > _MAX_CLAIMS_BYTES:
        raise refuse(Reason.MALFORMED, "The certificate's evidence has too many bytes.")
    return quote, claims


def _claims(data: bytes) -> dict[str, bytes]:
    # Others than the two that are known are bound by the quote as well, and say nothing here.
    claims = decode(data, "The claims of a certificate")
    if not isinstance(claims, dict) or not all(
        isinstance(name, str) and isinstance(value, bytes) for name, value in claims.items()
    ):
        raise refuse(Reason.MALFORMED, "The claims are not names with byte strings.")
    return claims


def _judge_key(entry: bytes | None, certificate: x509.Certificate) -> None:
    parts = decode(entry or b"", "The claim pubkey-hash")
    if not isinstance(parts, list) or len(parts) != 2 or type(parts[0]) is not int:
        raise refuse(Reason.MALFORMED, "The claim pubkey-hash is not an algorithm and a digest.")
    algorithm, value = _HASHES.get(parts[0]), parts[1]
    if algorithm is None or not isinstance(value, bytes):
        raise refuse(Reason.MALFORMED, "The claim pubkey-hash has an unknown algorithm.")
    if not hmac.compare_digest(algorithm(_spki(certificate.public_key())).digest(), value):
        raise refuse(Reason.SWAPPED_KEY, "The evidence is of another key than the certificate's.")


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
