"""A made-up Intel: root, certificates, revocation lists, collateral and quotes that verify.

Recorded quotes cannot be signed again: what a genuine quote in debug mode, or of a revoked
platform, looks like is shown with these.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PPID = "d04ec06d4e6d92dc90d0ad3cf5ee2ddf"
FMSPC = "00906ea10000"
VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_SIGNER = bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff")
_SGX_EXTENSION = bytes.fromhex(
    "308201C1301E060A2A864886F84D010D01010410D04EC06D4E6D92DC90D0AD3CF5EE2DDF30820164060A2A864886"
    "F84D010D0102308201543010060B2A864886F84D010D01020102010B3010060B2A864886F84D010D01020202010B"
    "3010060B2A864886F84D010D0102030201023010060B2A864886F84D010D0102040201023011060B2A864886F84D"
    "010D010205020200FF3010060B2A864886F84D010D0102060201013010060B2A864886F84D010D01020702010030"
    "10060B2A864886F84D010D0102080201003010060B2A864886F84D010D0102090201003010060B2A864886F84D01"
    "0D01020A0201003010060B2A864886F84D010D01020B0201003010060B2A864886F84D010D01020C020100301006"
    "0B2A864886F84D010D01020D0201003010060B2A864886F84D010D01020E0201003010060B2A864886F84D010D01"
    "020F0201003010060B2A864886F84D010D0102100201003010060B2A864886F84D010D01021102010D301F060B2A"
    "864886F84D010D01021204100B0B0202FF01000000000000000000003010060A2A864886F84D010D010304020000"
    "3014060A2A864886F84D010D0104040600906EA10000300F060A2A864886F84D010D01050A0100"
)
"""Intel's extension of a PCK certificate: PPID, versions, FMSPC."""

_CPU_SVN = [11, 11, 2, 2, 255, 1, *[0] * 10]


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
    extension: bytes | None = None,
) -> x509.Certificate:
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usage |= {"digital_signature": True, "key_cert_sign": ca, "crl_sign": ca}
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1000))
        .not_valid_after(NOW + timedelta(days=1000))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )
    if extension is not None:
        oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extension), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass
class Intel:
    """Root, intermediate and signer, made anew; `tcb` and `identity` may be changed by a test."""

    tee: str = "SGX"
    root_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    signer_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    pck_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    attestation_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    def __post_init__(self) -> None:
        self.root = certificate("Root", self.root_key, "Root", self.root_key, ca=True)
        self.ca = certificate("CA", self.ca_key, "Root", self.root_key, ca=True)
        self.signer = certificate("Signer", self.signer_key, "CA", self.ca_key, ca=False)
        self.pck = certificate(
            "PCK", self.pck_key, "CA", self.ca_key, ca=False, extension=_SGX_EXTENSION
        )
        dates = {"issueDate": _time(NOW), "nextUpdate": _time(NOW + timedelta(days=30))}
        level: dict[str, Any] = {
            "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in _CPU_SVN], "pcesvn": 13},
            "tcbDate": _time(NOW),
            "tcbStatus": "UpToDate",
            "advisoryIDs": [],
        }
        self.tcb: dict[str, Any] = {
            "id": self.tee,
            "version": 3,
            **dates,
            "fmspc": FMSPC.upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": 17,
            "tcbLevels": [level],
        }
        if self.tee == "TDX":
            level["tcb"]["tdxtcbcomponents"] = [{"svn": 0}] * 16
            self.tcb["tdxModule"] = {
                "mrsigner": "00" * 48,
                "attributes": "00" * 8,
                "attributesMask": "FF" * 8,
            }
            self.tcb["tdxModuleIdentities"] = []
        self.identity: dict[str, Any] = {
            "id": "QE" if self.tee == "SGX" else "TD_QE",
            "version": 2,
            **dates,
            "tcbEvaluationDataNumber": 17,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 1,
            "tcbLevels": [
                {"tcb": {"isvsvn": 8}, "tcbDate": _time(NOW), "tcbStatus": "UpToDate"},
            ],
        }
        self.revoked: list[x509.Certificate] = []

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)

    @property
    def level(self) -> dict[str, Any]:
        """The platform's TCB level, to be changed."""
        found: dict[str, Any] = self.tcb["tcbLevels"][0]
        return found

    def _crl(self, issuer: str, key: ec.EllipticCurvePrivateKey) -> str:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(issuer))
            .last_update(NOW - timedelta(days=1))
            .next_update(NOW + timedelta(days=30))
            .add_extension(identifier, critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for one in self.revoked:
            if one.issuer == _name(issuer):
                revoked = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
                builder = builder.add_revoked_certificate(
                    revoked.revocation_date(NOW - timedelta(days=2)).build()
                )
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER).hex()

    def collateral(self) -> bytes:
        tcb, identity = json.dumps(self.tcb), json.dumps(self.identity)
        chain = _pem(self.signer, self.ca, self.root)
        fields = {
            "pck_crl_issuer_chain": _pem(self.ca, self.root),
            "root_ca_crl": self._crl("Root", self.root_key),
            "pck_crl": self._crl("CA", self.ca_key),
            "tcb_info_issuer_chain": chain,
            "tcb_info": tcb,
            "tcb_info_signature": raw_signature(self.signer_key, tcb.encode()).hex(),
            "qe_identity_issuer_chain": chain,
            "qe_identity": identity,
            "qe_identity_signature": raw_signature(self.signer_key, identity.encode()).hex(),
        }
        return json.dumps(fields).encode()

    def _header(self) -> bytes:
        version, tee = (3, 0) if self.tee == "SGX" else (4, 0x81)
        return struct.pack("<HHIHH", version, 2, tee, 8, 13) + VENDOR + bytes(20)

    def quote(self, report: bytes, *, qe_attributes: int = 0x11) -> bytes:
        """A quote of a report, signed by key, quoting enclave and PCK certificate."""
        signed = self._header() + report
        public = self.attestation_key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )[1:]
        auth = bytes(range(32))
        qe = sgx_report(
            attributes=qe_attributes,
            mrsigner=QE_SIGNER,
            product=1,
            svn=8,
            report_data=sha256(public + auth).digest() + bytes(32),
        )
        chain = _pem(self.pck, self.ca, self.root).encode()
        inner = (
            qe
            + raw_signature(self.pck_key, qe)
            + struct.pack("<H", len(auth))
            + auth
            + struct.pack("<HI", 5, len(chain))
            + chain
        )
        if self.tee == "TDX":
            inner = struct.pack("<HI", 6, len(inner)) + inner
        body = raw_signature(self.attestation_key, signed) + public + inner
        return signed + struct.pack("<I", len(body)) + body


def sgx_report(
    *,
    attributes: int = 0x5,
    mrenclave: bytes = b"\x11" * 32,
    mrsigner: bytes = b"\x22" * 32,
    product: int = 7,
    svn: int = 3,
    report_data: bytes = bytes(64),
) -> bytes:
    return (
        bytes([11, 11, 2, 2, 255, 1]).ljust(16, b"\0")
        + bytes(32)
        + struct.pack("<QQ", attributes, 0xE7)
        + mrenclave
        + bytes(32)
        + mrsigner
        + bytes(96)
        + struct.pack("<HH", product, svn)
        + bytes(60)
        + report_data
    )


def tdx_report(
    *, attributes: int = 1 << 28, mrtd: bytes = b"\x33" * 48, report_data: bytes = bytes(64)
) -> bytes:
    return (
        bytes(16)
        + bytes(96)
        + bytes(8)
        + struct.pack("<QQ", attributes, 0xE7)
        + mrtd
        + bytes(144)
        + b"".join(bytes([0x40 + index]) * 48 for index in range(4))
        + report_data
    )
