"""Ed25519 keys (RFC 8032): as text, as 0600 files, as fingerprints that people compare."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cohortium.crypto.files import read_private, write_private
from cohortium.errors import InputError, VerificationError

PREFIX = "ed25519:"


def b64url(data: bytes) -> str:
    """Unpadded base64url (RFC 4648 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """Decode unpadded base64url, strictly: one text for each value.

    Raises:
        VerificationError: ``bad-signature``.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, TypeError) as error:
        raise VerificationError("bad-signature", "Not base64url.") from error
    if b64url(data) != text:
        raise VerificationError("bad-signature", "Not canonical base64url.")
    return data


def verify(public: str, signature: bytes, data: bytes) -> None:
    """Check an Ed25519 signature.

    Raises:
        VerificationError: ``bad-signature``; never anything else.
    """
    raw = unb64url(public.removeprefix(PREFIX)) if public.startswith(PREFIX) else b""
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, data)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise VerificationError("bad-signature", "The signature does not verify.") from error


def fingerprint(public: str | bytes) -> str:
    """128 bits of SHA-256 in eight groups of four hex digits, to read out by telephone."""
    data = public.encode() if isinstance(public, str) else public
    text = hashlib.sha256(data).hexdigest()[:32].upper()
    return " ".join(text[i : i + 4] for i in range(0, 32, 4))


class SigningKey:
    """An Ed25519 private key; it is written to 0600 files only and never printed."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PREFIX + b64url(private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public!r})"

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key object, for libraries that sign themselves."""
        return self._private

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key of a 32-byte seed (RFC 8032 5.1.5)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PKCS #8 PEM file that nobody else can read."""
        try:
            key = serialization.load_pem_private_key(read_private(path), password=None)
        except (ValueError, TypeError) as error:
            raise InputError(
                "bad-config", f"{path} is not an unencrypted PEM private key."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError("bad-config", f"{path} is not an Ed25519 key.")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write a PKCS #8 PEM file with mode 0600."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(path, pem)

    def sign(self, data: bytes) -> bytes:
        """A 64-byte signature."""
        return self._private.sign(data)
