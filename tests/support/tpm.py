"""A made-up TPM: keys, quotes, and its side of activate-credential."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from cohortium.enclave.attestation.tpm_enrolment import kdf_a

ATTESTS = 0x00050472


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Tpm:
    """`key` attests, RSA or P-256; `endorsement` opens credentials."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(default_factory=_rsa)
    endorsement: rsa.RSAPrivateKey = field(default_factory=_rsa)
    attributes: int = ATTESTS

    @property
    def public(self) -> bytes:
        """TPMT_PUBLIC of the attestation key."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            modulus = self.key.public_key().public_numbers().n.to_bytes(256, "big")
            head = struct.pack(">HHIH", 1, 0x0B, self.attributes, 0)
            return head + struct.pack(">HHHHI", 0x10, 0x14, 0x0B, 2048, 0) + sized(modulus)
        numbers = self.key.public_key().public_numbers()
        head = struct.pack(">HHIH", 0x23, 0x0B, self.attributes, 0)
        points = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
        return head + struct.pack(">HHHHH", 0x10, 0x18, 0x0B, 3, 0x10) + points

    @property
    def name(self) -> bytes:
        return b"\x00\x0b" + sha256(self.public).digest()

    def quote(
        self,
        pcrs: Mapping[int, bytes],
        nonce: bytes,
        *,
        magic: int = 0xFF544347,
        kind: int = 0x8018,
        bank: int = 0x0B,
        digest: bytes | None = None,
    ) -> bytes:
        """TPMS_ATTEST."""
        bits = bytearray(3)
        for index in pcrs:
            bits[index // 8] |= 1 << index % 8
        values = sha256(b"".join(pcrs[index] for index in sorted(pcrs))).digest()
        return (
            struct.pack(">IH", magic, kind)
            + sized(self.name)
            + sized(nonce)
            + struct.pack(">QIIBQ", 1, 2, 3, 1, 4)
            + struct.pack(">IHB", 1, bank, 3)
            + bytes(bits)
            + sized(values if digest is None else digest)
        )

    def sign(self, data: bytes) -> bytes:
        """TPMT_SIGNATURE."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            value = self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
            return struct.pack(">HH", 0x14, 0x0B) + sized(value)
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return (
            struct.pack(">HH", 0x18, 0x0B)
            + sized(r.to_bytes(32, "big"))
            + sized(s.to_bytes(32, "big"))
        )

    def activate(self, blob: bytes, encrypted: bytes) -> bytes | None:
        """TPM2_ActivateCredential: the secret, or None where it is not for these keys."""
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
        try:
            seed = self.endorsement.decrypt(encrypted[2:], oaep)
        except ValueError:
            return None
        body = blob[2:]
        integrity, identity = body[2:34], body[34:]
        mac = hmac.digest(kdf_a(seed, b"INTEGRITY", b"", 256), identity + self.name, "sha256")
        if not hmac.compare_digest(mac, integrity):
            return None
        cipher = Cipher(algorithms.AES(kdf_a(seed, b"STORAGE", self.name, 128)), CFB(bytes(16)))
        decryptor = cipher.decryptor()
        return (decryptor.update(identity) + decryptor.finalize())[2:]
