"""The consortium's certificate authority (RFC 5280), and the TLS keys of hub and nodes.

All keys are ECDSA P-256: the link offers no TLS 1.2 cipher suite that such a certificate can
serve, which leaves TLS 1.3 (see `cohortium.link.tls`). A node's certificate is for clients only,
so that no member can pose as the hub. The authority decides what a certificate says; of a signing
request only the key counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cohortium.core.canonical import digest_bytes
from cohortium.crypto.files import read_private, write_atomically, write_private
from cohortium.errors import InputError, VerificationError

CERTIFICATE_FILE = "ca.pem"
KEY_FILE = "ca.key"
CA_DAYS = 20 * 365
LEAF_DAYS = 398
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A private key and its certificate, both PEM."""

    key_pem: bytes
    certificate_pem: bytes

    def __repr__(self) -> str:
        return f"TlsIdentity({certificate_fingerprint(self.certificate_pem)})"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says; its signature is not looked at.

    Attributes:
        fingerprint: ``sha256:...`` of the DER bytes.
        common_name: A node's id, or ``hub``.
    """

    fingerprint: str
    common_name: str
    not_before: datetime
    not_after: datetime


def _pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _short(text: str) -> str:
    """At most 64 bytes of UTF-8 (RFC 5280 appendix A.1, upper bounds)."""
    return text.encode()[:64].decode(errors="ignore")


def _parse(certificate_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise VerificationError("bad-certificate", "Not a PEM certificate.") from error


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VerificationError("bad-certificate", "The key is not an ECDSA P-256 key.")
    return key


def certificate_fingerprint(certificate_pem: bytes) -> str:
    """``sha256:`` and 64 hex digits over the certificate's DER bytes.

    Raises:
        VerificationError: ``bad-certificate``.
    """
    return digest_bytes(_parse(certificate_pem).public_bytes(serialization.Encoding.DER))


def pinned_certificate(received_pem: str, fingerprint: str) -> str:
    """The one certificate (PEM) that `fingerprint` names; whatever came with it is dropped.

    TLS libraries trust every certificate of the text that they are given, so that one appended to
    the right one would count as much.

    Raises:
        VerificationError: ``bad-certificate`` where the first certificate is another.
    """
    certificate = _parse(received_pem.encode())
    received = digest_bytes(certificate.public_bytes(serialization.Encoding.DER))
    if received != fingerprint:
        raise VerificationError(
            "bad-certificate",
            "The hub presents another consortium's CA than the one expected. Do not go on: compare "
            "the fingerprints by telephone with the operator who sent the invitation.",
            expected=fingerprint,
            received=received,
        )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def read_certificate(certificate_pem: bytes) -> CertificateFacts:
    """What an untrusted certificate says.

    Raises:
        VerificationError: ``bad-certificate``; never anything else.
    """
    certificate = _parse(certificate_pem)
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise VerificationError("bad-certificate", "The certificate's subject is wrong.") from error
    return CertificateFacts(
        fingerprint=certificate_fingerprint(certificate_pem),
        common_name=str(names[0].value) if names else "",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def make_tls_key_and_csr(common_name: str) -> tuple[bytes, bytes]:
    """A new P-256 key and a PKCS #10 request for it: (key_pem, csr_pem)."""
    private = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _short(common_name))]))
        .sign(private, hashes.SHA256())
    )
    return _pem(private), request.public_bytes(serialization.Encoding.PEM)


def check_issued(certificate_pem: bytes, key_pem: bytes, ca_pem: bytes, now: datetime) -> None:
    """Check a certificate that the hub handed over: from this authority, for this key, in time.

    Raises:
        VerificationError: ``bad-certificate``.
    """
    certificate, authority = _parse(certificate_pem), _parse(ca_pem)
    try:
        certificate.verify_directly_issued_by(authority)
        private = serialization.load_pem_private_key(key_pem, password=None)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise VerificationError(
            "bad-certificate", "The certificate is not of this consortium."
        ) from error
    if private.public_key() != certificate.public_key():
        raise VerificationError("bad-certificate", "The certificate is for another key.")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise VerificationError("bad-certificate", "The certificate is not valid at this time.")


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode("ascii"))
    except UnicodeError as error:
        raise InputError("bad-config", f"Not a host name or IP address: {host!r}") from error


class Authority:
    """A self-signed CA that issues the hub's and the nodes' certificates."""

    def __init__(self, private: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._private = private
        self._certificate = certificate
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.fingerprint = certificate_fingerprint(self.certificate_pem)

    def __repr__(self) -> str:
        return f"Authority({self.fingerprint})"

    @classmethod
    def create(cls, name: str, now: datetime) -> Authority:
        """A new authority for the consortium `name`, valid for 20 years."""
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, _short(name)),
                x509.NameAttribute(NameOID.COMMON_NAME, "Cohortium consortium CA"),
            ]
        )
        public = private.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(private, hashes.SHA256())
        )
        return cls(private, certificate)

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Read what `save` wrote.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        try:
            private = serialization.load_pem_private_key(
                read_private(directory / KEY_FILE), password=None
            )
            certificate = x509.load_pem_x509_certificate(
                (directory / CERTIFICATE_FILE).read_bytes()
            )
        except OSError as error:
            raise InputError("not-found", f"Cannot read {directory / CERTIFICATE_FILE}.") from error
        except (ValueError, TypeError) as error:
            raise InputError("bad-config", f"The authority in {directory} is damaged.") from error
        if (
            not isinstance(private, ec.EllipticCurvePrivateKey)
            or private.public_key() != certificate.public_key()
        ):
            raise InputError("bad-config", f"Key and certificate in {directory} do not match.")
        return cls(private, certificate)

    def save(self, directory: Path) -> None:
        """Write ``ca.key`` (0600) and ``ca.pem``."""
        write_private(directory / KEY_FILE, _pem(self._private))
        write_atomically(directory / CERTIFICATE_FILE, self.certificate_pem)

    def issue_hub(self, hosts: Sequence[str], now: datetime, days: int = LEAF_DAYS) -> TlsIdentity:
        """A key and server certificate for the hub under all its host names and addresses."""
        if not hosts:
            raise InputError("bad-config", "The hub needs at least one host name or address.")
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
        names = x509.SubjectAlternativeName([_alternative_name(host) for host in hosts])
        builder = (
            self._leaf(subject, private.public_key(), now, days)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        return TlsIdentity(_pem(private), self._sign(builder))

    def issue_node(
        self, csr_pem: bytes, site_name: str, node_id: str, now: datetime, days: int = LEAF_DAYS
    ) -> bytes:
        """A client certificate (PEM) for the key of a signing request.

        The request is untrusted and must prove possession of a P-256 key. The common name is
        `node_id`; `site_name` is there for people.

        Raises:
            VerificationError: ``bad-certificate``.
        """
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            public = _p256(request.public_key())
            valid = request.is_signature_valid
        except (ValueError, TypeError, InvalidSignature) as error:
            raise VerificationError(
                "bad-certificate", "Not a PEM certificate signing request."
            ) from error
        if not valid:
            raise VerificationError(
                "bad-certificate", "The signing request is not signed by its own key."
            )
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, _short(site_name)),
                x509.NameAttribute(NameOID.COMMON_NAME, node_id),
            ]
        )
        builder = self._leaf(subject, public, now, days).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        return self._sign(builder)

    def _leaf(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, days: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + timedelta(days=days), self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        certificate = builder.sign(self._private, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
