"""TPM 2.0 structures, read from untrusted bytes (TPM 2.0 Library, Part 2)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.errors import VerificationError

SHA256: Final = 0x000B
MAX_BYTES: Final = 16 * 1024
_RSA, _ECC, _NULL = 0x0001, 0x0023, 0x0010
_RSASSA, _RSAPSS, _ECDSA = 0x0014, 0x0016, 0x0018
_GENERATED: Final = 0xFF544347
_QUOTE: Final = 0x8018
_CURVES: Final[dict[int, ec.EllipticCurve]] = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1()}
_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    SHA256: hashes.SHA256(),
    0x000C: hashes.SHA384(),
    0x000D: hashes.SHA512(),
}
# TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; not decrypt.
_MUST: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18
_MUST_NOT: Final = 1 << 17


def malformed(why: str) -> VerificationError:
    """The error of every fault in a structure's bytes."""
    return refuse(Reason.MALFORMED, f"Not a TPM structure: {why}.")


class Reader:
    """Big-endian fields, one after another; every read checks that the bytes are there."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise malformed("more bytes than are accepted")
        self._data, self._at = data, 0

    def take(self, n_bytes: int) -> bytes:
        """The next bytes."""
        end = self._at + n_bytes
        if end > len(self._data):
            raise malformed("it is cut off")
        out, self._at = self._data[self._at : end], end
        return out

    def number(self, n_bytes: int) -> int:
        """The next unsigned integer."""
        return int.from_bytes(self.take(n_bytes), "big")

    def sized(self) -> bytes:
        """The next TPM2B."""
        return self.take(self.number(2))

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise malformed("it is followed by other bytes")


@dataclass(frozen=True)
class PublicArea:
    """A TPMT_PUBLIC: a key and what its TPM lets it do.

    Attributes:
        name: Its Name (Part 1, 16): algorithm and digest of the whole area.
    """

    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    attributes: int
    name: bytes

    @property
    def attests(self) -> bool:
        """Whether it can sign only what its TPM made, and cannot leave it."""
        return self.attributes & _MUST == _MUST and not self.attributes & _MUST_NOT

    @classmethod
    def parse(cls, data: bytes) -> PublicArea:
        """Read untrusted bytes.

        Raises:
            VerificationError: ``bad-evidence`` (``malformed``); never anything else.
        """
        reader = Reader(data)
        kind, name_algorithm, attributes = reader.number(2), reader.number(2), reader.number(4)
        reader.sized()  # authPolicy
        if name_algorithm != SHA256:
            raise malformed("a key's name is not by SHA-256")
        if reader.number(2) != _NULL:  # symmetric: key bits, mode
            reader.take(4)
        if reader.number(2) != _NULL:  # scheme: hash
            reader.take(2)
        try:
            key = _rsa_key(reader) if kind == _RSA else _ecc_key(reader, kind)
        except ValueError as error:
            raise malformed("its key is none") from error
        reader.end()
        return cls(key, attributes, SHA256.to_bytes(2, "big") + sha256(data).digest())


def _rsa_key(reader: Reader) -> rsa.RSAPublicKey:
    bits, exponent = reader.number(2), reader.number(4) or 65537
    modulus = int.from_bytes(reader.sized(), "big")
    if bits < 2048 or modulus.bit_length() != bits:
        raise malformed("an RSA key of less than 2048 bits")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _ecc_key(reader: Reader, kind: int) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(reader.number(2))
    if kind != _ECC or curve is None:
        raise malformed("a key of a kind that is not known here")
    if reader.number(2) != _NULL:  # kdf: hash
        reader.take(2)
    x, y = (int.from_bytes(reader.sized(), "big") for _ in range(2))
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


def verify_signature(public: PublicArea, signature: bytes, data: bytes) -> None:
    """Check a TPMT_SIGNATURE.

    Raises:
        VerificationError: ``bad-evidence`` (``malformed``, ``signature``).
    """
    reader = Reader(signature)
    scheme, algorithm = reader.number(2), _HASHES.get(reader.number(2))
    if algorithm is None:
        raise refuse(Reason.SIGNATURE, "The quote is signed with a digest that is not accepted.")
    try:
        if scheme in {_RSASSA, _RSAPSS} and isinstance(public.key, rsa.RSAPublicKey):
            value = reader.sized()
            reader.end()
            pad = (
                padding.PKCS1v15()
                if scheme == _RSASSA
                else padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            )
            public.key.verify(value, data, pad, algorithm)
        elif scheme == _ECDSA and isinstance(public.key, ec.EllipticCurvePublicKey):
            r, s = (int.from_bytes(reader.sized(), "big") for _ in range(2))
            reader.end()
            public.key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
        else:
            raise refuse(Reason.SIGNATURE, "The signature's scheme is not that of its key.")
    except (InvalidSignature, ValueError) as error:
        raise refuse(Reason.SIGNATURE, "The quote's signature does not verify.") from error


@dataclass(frozen=True)
class Quoted:
    """A TPMS_ATTEST of a quote.

    Attributes:
        extra_data: The nonce.
        selections: Bank and PCRs, in the order of the digest.
    """

    extra_data: bytes
    selections: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> Quoted:
        """Read bytes that a TPM signed; another key could have signed anything.

        Raises:
            VerificationError: ``bad-evidence`` (``malformed``); never anything else.
        """
        reader = Reader(data)
        if reader.number(4) != _GENERATED:
            raise malformed("it was not made by a TPM")
        if reader.number(2) != _QUOTE:
            raise malformed("it is no quote")
        reader.sized()  # qualifiedSigner
        extra_data = reader.sized()
        reader.take(8 + 4 + 4 + 1 + 8)  # clock, resets, restarts, safe; firmware
        count = reader.number(4)
        if count > 16:
            raise malformed("too many banks")
        selections = []
        for _ in range(count):
            bank, bits = reader.number(2), reader.take(reader.number(1))
            chosen = (i for i in range(8 * len(bits)) if bits[i // 8] >> i % 8 & 1)
            selections.append((bank, tuple(chosen)))
        digest = reader.sized()
        reader.end()
        return cls(extra_data, tuple(selections), digest)
