"""Enrolment of a host's TPM: its endorsement certificate, and that its attestation key is inside.

The verifier's side of activate-credential (TPM 2.0 Library, Part 1, 24 and Annex B.10): a secret is
wrapped so that only the TPM with the endorsement key can open it, and only while the attestation
key with that Name is loaded in it. The host that gives the secret back has both in one TPM.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.tpm_structures import PublicArea

SECRET_BYTES: Final = 32
_SEED_BYTES: Final = 32


@dataclass(frozen=True)
class Challenge:
    """What goes to the host, and what must come back.

    Attributes:
        credential_blob: TPM2B_ID_OBJECT.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET.
        secret: The verifier's; it is compared with what the host gives back.
        name: Of the attestation key, for the site's list of platforms.
    """

    credential_blob: bytes
    encrypted_secret: bytes
    secret: bytes
    name: bytes


def verify_endorsement(
    certificate: bytes,
    intermediates: Sequence[bytes],
    roots: Sequence[bytes],
    *,
    now: datetime,
) -> rsa.RSAPublicKey:
    """The endorsement key of a TPM, from its maker's certificate (DER).

    Args:
        roots: The makers' roots that the site trusts, DER; nothing is fetched.

    Raises:
        VerificationError: ``bad-evidence`` (``certificate``, ``wrong-root``) or
            ``evidence-refused`` (``certificate-expired``).
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        others = [x509.load_der_x509_certificate(one) for one in intermediates]
        trusted = [x509.load_der_x509_certificate(one) for one in roots]
        current = leaf
        for _ in range(len(others) + 1):
            _judge_time(current, now)
            root = next((one for one in trusted if one.subject == current.issuer), None)
            if root is not None:
                _judge_time(root, now)
                current.verify_directly_issued_by(root)
                break
            following = next((one for one in others if one.subject == current.issuer), None)
            if following is None:
                raise refuse(Reason.WRONG_ROOT, "The TPM's maker is none that the site trusts.")
            if not following.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise refuse(Reason.CERTIFICATE, "The TPM's certificate is of no authority.")
            current.verify_directly_issued_by(following)
            current = following
        else:
            raise refuse(Reason.WRONG_ROOT, "The TPM's maker is none that the site trusts.")
        key = leaf.public_key()
    except (
        InvalidSignature,
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
    ) as error:
        raise refuse(Reason.CERTIFICATE, "The TPM's certificate does not verify.") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise refuse(Reason.CERTIFICATE, "The TPM's endorsement key is not RSA.")
    return key


def _judge_time(certificate: x509.Certificate, now: datetime) -> None:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise refuse(Reason.CERTIFICATE_EXPIRED, "A certificate of the TPM is over.")


def make_challenge(
    endorsement_key: rsa.RSAPublicKey, attestation_key: bytes, random: Callable[[int], bytes]
) -> Challenge:
    """Wrap a fresh secret for one TPM and one key in it (TPM2_MakeCredential).

    Args:
        attestation_key: TPMT_PUBLIC.
        random: As `secrets.token_bytes`.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused`` (``attestation-key``).
    """
    public = PublicArea.parse(attestation_key)
    if not public.attests:
        raise refuse(Reason.ATTESTATION_KEY, "The key could sign what its TPM did not make.")
    secret, seed = random(SECRET_BYTES), random(_SEED_BYTES)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
    encrypted = endorsement_key.encrypt(seed, oaep)
    return Challenge(
        _sized(wrap(seed, secret, public.name)), _sized(encrypted), secret, public.name
    )


def wrap(seed: bytes, secret: bytes, name: bytes) -> bytes:
    """The TPMS_ID_OBJECT of a seed (Part 1, 24.4 and 24.5)."""
    key = kdf_a(seed, b"STORAGE", name, 128)
    encryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity = hmac.digest(kdf_a(seed, b"INTEGRITY", b"", 256), identity + name, "sha256")
    return _sized(integrity) + identity


def judge_answer(challenge: Challenge, secret: bytes) -> str:
    """The Name to enrol, if the host opened the secret.

    Raises:
        VerificationError: ``evidence-refused`` (``attestation-key``).
    """
    if not hmac.compare_digest(challenge.secret, secret):
        raise refuse(Reason.ATTESTATION_KEY, "The host's TPM does not hold the attestation key.")
    return challenge.name.hex()


def kdf_a(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa with SHA-256 (Part 1, 11.4.10.2): SP 800-108 in counter mode."""
    out = b""
    counter = 1
    while 8 * len(out) < bits:
        block = counter.to_bytes(4, "big") + label + b"\0" + context + bits.to_bytes(4, "big")
        out += hmac.digest(key, block, hashlib.sha256)
        counter += 1
    return out[: bits // 8]


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
