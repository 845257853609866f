"""A made-up AMD: root, signing key, chip key and reports that verify."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from tests.support.dcap import NOW

CHIP = bytes(range(64))
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Amd:
    """Genoa by default; `versions`: bootloader, tee, snp, microcode of the certificate."""

    product: str = "Genoa"
    versions: tuple[int, int, int, int] = (2, 0, 5, 0x44)
    chip: bytes = CHIP
    ca: bool = True
    root_key: rsa.RSAPrivateKey = field(default_factory=_rsa)
    signer_key: rsa.RSAPrivateKey = field(default_factory=_rsa)
    chip_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )

    def _certificate(
        self, subject: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, issuer: str
    ) -> x509.Certificate:
        by_root = issuer.startswith("ARK")
        builder = (
            x509.CertificateBuilder(_name(issuer), _name(subject), key, 7 if by_root else 9)
            .not_valid_before(NOW - timedelta(days=100))
            .not_valid_after(NOW + timedelta(days=100))
        )
        if by_root:
            constraints = x509.BasicConstraints(ca=self.ca, path_length=None)
            builder = builder.add_extension(constraints, critical=True)
        else:
            for oid, value in self._extensions().items():
                one = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
                builder = builder.add_extension(one, critical=False)
        signing = self.root_key if by_root else self.signer_key
        return builder.sign(signing, hashes.SHA384(), rsa_padding=PSS)

    def _extensions(self) -> dict[str, bytes]:
        base = "1.3.6.1.4.1.3704.1."
        product = f"{self.product}-B0".encode()
        found = {base + "2": b"\x16" + bytes([len(product)]) + product}
        for part, value in zip(("3.1", "3.2", "3.3", "3.8"), self.versions, strict=True):
            found[base + part] = b"\x02\x01" + bytes([value])
        if self.chip:
            found[base + "4"] = self.chip
        return found

    def __post_init__(self) -> None:
        ark, ask = f"ARK-{self.product}", f"SEV-{self.product}"
        self.root = self._certificate(ark, self.root_key.public_key(), ark)
        self.signer = self._certificate(ask, self.signer_key.public_key(), ark)
        leaf = self._certificate("SEV-VCEK", self.chip_key.public_key(), ask)
        self.leaf = leaf.public_bytes(Encoding.DER)

    @property
    def chain(self) -> bytes:
        return self.signer.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)

    @property
    def roots(self) -> dict[str, str]:
        key = self.root_key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return {self.product: sha256(key).hexdigest()}

    def revocation_list(self, *revoked: int, days: int = 10) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(f"ARK-{self.product}"))
            .last_update(NOW - timedelta(days=20))
            .next_update(NOW + timedelta(days=days))
        )
        for serial in revoked:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
            builder = builder.add_revoked_certificate(one.build())
        crl = builder.sign(self.root_key, hashes.SHA384(), rsa_padding=PSS)
        return crl.public_bytes(Encoding.DER)

    def report(
        self,
        *,
        version: int = 5,
        policy: int = 0x2020000,
        info: int = 0b111000,
        vmpl: int = 0,
        algorithm: int = 1,
        signer: int = 0,
        measurement: bytes = b"\x11" * 48,
        host_data: bytes = b"\x22" * 32,
        report_data: bytes = bytes(64),
        tcb: bytes = bytes([2, 0, 0, 0, 0, 0, 5, 0x44]),
        committed: bytes | None = None,
        launch: bytes | None = None,
        chip: bytes = CHIP,
    ) -> bytes:
        data = bytearray(0x4A0)
        struct.pack_into("<IIQ", data, 0, version, 3, policy)
        struct.pack_into("<II", data, 0x30, vmpl, algorithm)
        struct.pack_into("<QI", data, 0x40, info, signer << 2)
        for place, value in (
            (0x50, report_data),
            (0x90, measurement),
            (0xC0, host_data),
            (0x180, tcb),
            (0x1A0, chip),
            (0x1E0, tcb if committed is None else committed),
            (0x1F0, tcb if launch is None else launch),
        ):
            data[place : place + len(value)] = value
        der = self.chip_key.sign(bytes(data[:0x2A0]), ec.ECDSA(hashes.SHA384()))
        for place, number in zip((0x2A0, 0x2A0 + 72), decode_dss_signature(der), strict=True):
            data[place : place + 72] = number.to_bytes(72, "little")
        return bytes(data)
