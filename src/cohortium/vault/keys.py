"""Keys of the vault: one seed gives a key that opens files and a key that signs them.

Data keys are wrapped by HPKE (RFC 9180, base mode) with the hybrid KEM MLKEM768-X25519 of
draft-ietf-hpke-pq (0x647a, which is X-Wing), HKDF-SHA-256 and AES-256-GCM: whoever breaks one of
ML-KEM and X25519 alone, now or with a quantum computer later, opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256, shake_256
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from cohortium.crypto.files import read_private, write_atomically, write_private
from cohortium.crypto.keys import PREFIX, SigningKey, b64url, fingerprint, unb64url
from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.vault.header import SEALED_BYTES, Sealed, refuse

SEED_BYTES = 32
DATA_KEY_BYTES = 32
PUBLIC_PREFIX = "vault1:"
PRIVATE_PREFIX = "vault-private1:"

_MLKEM_BYTES = 1184
_KEM_BYTES = _MLKEM_BYTES + 32
_PUBLIC_BYTES = _KEM_BYTES + 32
_SEAL_INFO = b"cohortium vault data key 1\0"
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True)
class PublicKey:
    """What a recipient gives to others: a KEM key to wrap for, a key that signs what they write."""

    kem: bytes
    signing: bytes

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """Parse ``vault1:...``.

        Raises:
            InputError: ``bad-input``.
        """
        text = text.strip()
        try:
            raw = unb64url(text.removeprefix(PUBLIC_PREFIX))
            if not text.startswith(PUBLIC_PREFIX) or len(raw) != _PUBLIC_BYTES:
                raise ValueError("prefix or length")
            key = cls(raw[:_KEM_BYTES], raw[_KEM_BYTES:])
            key.hpke  # noqa: B018 - ML-KEM checks the encoding (FIPS 203 7.2)
        except (ValueError, VerificationError) as error:
            raise InputError(
                "bad-input", "Not a vault's public key: it is one line, vault1: and 1664 letters."
            ) from error
        return key

    @classmethod
    def named(cls, value: str) -> PublicKey:
        """The key that is written out, or in a ``.pub`` file of that path.

        Raises:
            InputError: ``bad-input`` or ``not-found``.
        """
        if not value.startswith(PUBLIC_PREFIX):
            try:
                value = Path(value).read_text(encoding="ascii", errors="replace")
            except OSError as error:
                raise InputError("not-found", f"Cannot read the public key {value}.") from error
        return cls.from_text(value)

    def to_text(self) -> str:
        """``vault1:`` and base64url: one line of 1671 letters."""
        return PUBLIC_PREFIX + b64url(self.kem + self.signing)

    @cached_property
    def key_id(self) -> bytes:
        """SHA-256 of the key: how a file names its recipients."""
        return sha256(self.kem + self.signing).digest()

    @property
    def signer(self) -> str:
        """The signing key as text: ``ed25519:...``."""
        return PREFIX + b64url(self.signing)

    @property
    def fingerprint(self) -> str:
        """Eight groups of four hex digits, to read out by telephone."""
        return fingerprint(self.kem + self.signing)

    @cached_property
    def hpke(self) -> hpke.MLKEM768X25519PublicKey:
        """The key object."""
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.kem[:_MLKEM_BYTES]),
            X25519PublicKey.from_public_bytes(self.kem[_MLKEM_BYTES:]),
        )


def kem_private(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """The two keys of a 32-byte seed (draft-ietf-hpke-pq, DeriveKeyPair; X-Wing 5.2)."""
    expanded = shake_256(seed).digest(96)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


class PrivateKey:
    """What opens the files wrapped for it and signs those that it writes; never printed."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise RuntimeError("a vault key has a seed of 32 bytes")
        mlkem, x25519 = kem_private(_expand(seed, b"cohortium vault kem 1"))
        self._hpke = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.signing = SigningKey.from_seed(_expand(seed, b"cohortium vault signing 1"))
        self._seed = bytes(seed)
        self.public = PublicKey(
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw(),
            self.signing.private.public_key().public_bytes_raw(),
        )

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not copied into other processes; give its file's path")

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key from the operating system's randomness."""
        return cls(secrets.token_bytes(SEED_BYTES))

    @classmethod
    def load(cls, path: Path) -> PrivateKey:
        """Read a key file that nobody else can read.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        text = read_private(path).decode("ascii", "replace").strip()
        try:
            seed = unb64url(text.removeprefix(PRIVATE_PREFIX))
        except VerificationError:
            seed = b""
        if not text.startswith(PRIVATE_PREFIX) or len(seed) != SEED_BYTES:
            raise InputError("bad-config", f"{path} is not a vault's private key.")
        return cls(seed)

    def save(self, path: Path) -> Path:
        """Write the key (mode 0600) and beside it the public one, ``.pub``, whose path it returns.

        Raises:
            ConflictError: ``already-exists``: a key is never overwritten.
        """
        public = path.with_suffix(".pub")
        if path.exists() or public.exists():
            raise ConflictError(
                "already-exists", f"There is a key at {path}; choose another name for the new one."
            )
        write_private(path, f"{PRIVATE_PREFIX}{b64url(self._seed)}\n".encode())
        write_atomically(public, f"{self.public.to_text()}\n".encode())
        return public

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The data key that was wrapped for this key.

        Raises:
            VerificationError: ``bad-vault-file``; never anything else.
        """
        try:
            data_key = _SUITE.decrypt(sealed, self._hpke, _SEAL_INFO + info)
        except (InvalidTag, ValueError) as error:
            raise refuse("the data key that it has for this recipient was altered") from error
        if len(data_key) != DATA_KEY_BYTES:
            raise refuse("its data key has a wrong length")
        return data_key


def _expand(seed: bytes, label: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), 32, label).derive(seed)


def seal(public: PublicKey, data_key: bytes, info: bytes) -> Sealed:
    """Wrap a data key for a recipient; `info` says what it is the key of."""
    try:
        sealed = _SUITE.encrypt(data_key, public.hpke, _SEAL_INFO + info)
    except ValueError as error:  # X25519 with a point of small order (RFC 7748 6.1)
        raise InputError("bad-input", "The public key of a recipient is not valid.") from error
    if len(sealed) != SEALED_BYTES:
        raise RuntimeError("HPKE gave another length than the format has")
    return Sealed(public.key_id, sealed)


def content_key(data_key: bytes, header_digest: bytes) -> bytearray:
    """The key of a version's chunks: it hangs on every byte of the header.

    A buffer, so that who uses it can overwrite it.
    """
    key = bytearray(32)
    HKDF(hashes.SHA256(), 32, header_digest, b"cohortium vault chunks 1").derive_into(data_key, key)
    return key


class Keyring:
    """One's own private keys: a file is opened with whichever it was wrapped for."""

    def __init__(self, keys: Iterable[PrivateKey]) -> None:
        self._keys = {key.public.key_id: key for key in keys}

    def __repr__(self) -> str:
        return f"Keyring({', '.join(key.public.fingerprint for key in self)})"

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[PrivateKey]:
        return iter(self._keys.values())

    @classmethod
    def load(cls, path: Path) -> Keyring:
        """Read a ``.key`` file, or all of a folder, in the order of their names.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        files = sorted(path.glob("*.key")) if path.is_dir() else [path]
        if not files or not files[0].exists():
            raise InputError(
                "not-found", f"There is no key at {path}; make one with: cohortium vault keygen"
            )
        return cls(PrivateKey.load(file) for file in files)

    @property
    def first(self) -> PrivateKey:
        """The key that signs what is written.

        Raises:
            InputError: ``not-found``.
        """
        if not self._keys:
            raise InputError("not-found", "There is no key to write with; make or name one.")
        return next(iter(self))

    def find(self, recipients: Iterable[Sealed]) -> tuple[PrivateKey, Sealed] | None:
        """A key of the ring and what is wrapped for it."""
        for entry in recipients:
            key = self._keys.get(entry.key_id)
            if key is not None:
                return key, entry
        return None
