"""A TPM 2.0, as far as a measured host needs it, through TCG's own software stack (tpm2-pytss).

Reference: TPM 2.0 Library, Parts 1 to 3; TCG EK Credential Profile 2.5, 2.2 (the endorsement key's
template L-1 and where its certificate lies); TCG TSS 2.0 ESAPI.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

from cohortium.errors import InputError, PolicyRefusal

DEVICE: Final = "device:/dev/tpmrm0"
"""The kernel's resource manager, as the software stack names it (TCTI)."""
UNIQUE_BYTES: Final = 32
_ENDORSEMENT_CERTIFICATE: Final = 0x01C00002
_NV_PART_BYTES: Final = 512
_LARGEST_CERTIFICATE_BYTES: Final = 8192
_PCRS_AT_ONCE: Final = 8
_TRIES: Final = 5
# PolicySecret(TPM_RH_ENDORSEMENT): the hierarchy's own authorization opens the endorsement key.
_POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
# fixedTPM, fixedParent, sensitiveDataOrigin; restricted.
_KEPT: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16
# TPMT_PUBLIC up to `unique`: ECC, SHA-256, userWithAuth, noDA and sign, no policy; no symmetric
# algorithm, ECDSA with SHA-256, NIST P-256, no key derivation.
_ATTESTATION_KEY: Final = struct.pack(
    ">HHIHHHHHH", 0x23, 0x0B, _KEPT | 1 << 6 | 1 << 10 | 1 << 18, 0, 0x10, 0x18, 0x0B, 3, 0x10
)
# Template L-1: RSA, SHA-256, adminWithPolicy and decrypt; AES-128-CFB, no scheme, 2048 bits.
_ENDORSEMENT_KEY: Final = (
    struct.pack(">HHIH", 1, 0x0B, _KEPT | 1 << 7 | 1 << 17, len(_POLICY))
    + _POLICY
    + struct.pack(">HHHHHIH", 6, 128, 0x43, 0x10, 2048, 0, 256)
    + bytes(256)
)


@dataclass(frozen=True)
class Quote:
    """What a TPM signed.

    Attributes:
        quoted: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        public: TPMT_PUBLIC of the key that signed.
        pcrs: The values that were quoted, of the SHA-256 bank.
    """

    quoted: bytes
    signature: bytes
    public: bytes
    pcrs: dict[int, bytes]


def missing() -> tuple[str, ...]:
    """Why the software stack cannot be used."""
    try:
        importlib.import_module("tpm2_pytss")
    except (ImportError, OSError) as error:
        # OSError or ImportError: the package is there, and the libraries under it are not.
        said = "the TPM's library cannot be used: pip install 'cohortium[tpm]'"
        return (f"{said}, with Debian's libtss2-dev there ({type(error).__name__})",)
    return ()


class Tpm:
    """A connection; close it soon, since others may be kept waiting.

    The attestation key is a primary key of the owner's hierarchy (ECDSA, P-256, restricted): made
    anew from the TPM's seed and `unique` each time, it is the same key until the TPM is cleared,
    and is kept nowhere. The hierarchies' authorizations must be empty.

    Args:
        tcti: Which TPM, in the words of the software stack: ``device:/dev/tpmrm0``.

    Raises:
        InputError: ``missing-extra``.
        PolicyRefusal: ``executor-unavailable``: it cannot be reached, or it refused.
    """

    def __init__(self, tcti: str = DEVICE) -> None:
        if why := missing():
            raise InputError("missing-extra", f"{why[0]}.")
        self._tss: Final = importlib.import_module("tpm2_pytss")
        with self._asking("cannot be reached"):
            self._esapi: Final = self._tss.ESAPI(tcti)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._esapi.close()

    def read(self, pcrs: Sequence[int]) -> dict[int, bytes]:
        """Values of the SHA-256 bank (TPM2_PCR_Read)."""
        out: dict[int, bytes] = {}
        wanted = sorted(set(pcrs))
        with self._asking("does not give its PCRs"):
            for start in range(0, len(wanted), _PCRS_AT_ONCE):
                some = wanted[start : start + _PCRS_AT_ONCE]
                _, _, values = self._esapi.pcr_read(_selection(some))
                out |= zip(some, map(bytes, values), strict=False)
        if set(out) != set(wanted):
            raise _unavailable("has no SHA-256 bank; turn it on in the firmware's settings")
        return out

    def extend(self, pcr: int, digest: bytes) -> None:
        """Measure a SHA-256 digest into a PCR (TPM2_PCR_Extend)."""
        tss = self._tss
        value = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=digest))
        with self._asking("does not measure"):
            self._esapi.pcr_extend(tss.ESYS_TR(pcr), tss.TPML_DIGEST_VALUES([value]))

    def attestation_public(self, unique: bytes) -> bytes:
        """The TPMT_PUBLIC of an attestation key."""
        with self._attestation_key(unique) as (_, public):
            return public

    def quote(self, unique: bytes, pcrs: Sequence[int], nonce: bytes) -> Quote:
        """PCRs of the SHA-256 bank, signed by an attestation key (TPM2_Quote).

        Raises:
            PolicyRefusal: ``executor-unavailable``: too, where the PCRs change all the time.
        """
        with self._attestation_key(unique) as (key, public):
            for _ in range(_TRIES):
                with self._asking("does not quote"):
                    quoted, signature = self._esapi.quote(key, _selection(pcrs), nonce)
                values = self.read(pcrs)
                digest = sha256(b"".join(values[index] for index in sorted(values))).digest()
                if bytes(quoted.attestationData).endswith(digest):
                    data = bytes(quoted.attestationData)
                    return Quote(data, bytes(signature.marshal()), public, values)
        raise _unavailable("changes its PCRs all the time; quote fewer of them")

    def endorsement(self) -> tuple[bytes, bytes | None]:
        """The TPMT_PUBLIC of its RSA endorsement key, and the maker's certificate (DER).

        Making the key takes a real TPM some seconds. None: the maker put no certificate there.
        """
        with self._endorsement_key() as (_, public):
            return public, self._certificate()

    def activate(self, unique: bytes, blob: bytes, secret: bytes) -> bytes:
        """What a verifier wrapped for the two keys of this TPM (TPM2_ActivateCredential).

        Args:
            blob: TPM2B_ID_OBJECT.
            secret: TPM2B_ENCRYPTED_SECRET.
        """
        tss = self._tss
        with self._asking("does not open the challenge, which is for another one"):
            wrapped, _ = tss.TPM2B_ID_OBJECT.unmarshal(blob)
            encrypted, _ = tss.TPM2B_ENCRYPTED_SECRET.unmarshal(secret)
        with (
            self._attestation_key(unique) as (key, _),
            self._endorsement_key() as (endorsement, _),
            self._policy() as session,
            self._asking("does not open the challenge, which is for another one"),
        ):
            given = self._esapi.activate_credential(
                key, endorsement, wrapped, encrypted, tss.ESYS_TR.PASSWORD, session
            )
            return bytes(given)

    def _certificate(self) -> bytes | None:
        tss, place = self._tss, _ENDORSEMENT_CERTIFICATE
        out = b""
        with self._asking("does not give its certificate"):
            _, known = self._esapi.get_capability(tss.TPM2_CAP.HANDLES, place)
            if place not in [int(handle) for handle in known.data.handles]:
                return None
            index = self._esapi.tr_from_tpmpublic(tss.TPM2_HANDLE(place))
            found, _ = self._esapi.nv_read_public(index)
            size = min(int(found.nvPublic.dataSize), _LARGEST_CERTIFICATE_BYTES)
            while len(out) < size:
                part = min(_NV_PART_BYTES, size - len(out))
                out += bytes(self._esapi.nv_read(index, part, len(out)))
        return _whole_der(out)

    def _attestation_key(self, unique: bytes) -> AbstractContextManager[tuple[Any, bytes]]:
        point = _sized(unique) * 2
        return self._primary(self._tss.ESYS_TR.OWNER, _ATTESTATION_KEY + point)

    def _endorsement_key(self) -> AbstractContextManager[tuple[Any, bytes]]:
        return self._primary(self._tss.ESYS_TR.ENDORSEMENT, _ENDORSEMENT_KEY)

    @contextmanager
    def _primary(self, hierarchy: Any, template: bytes) -> Iterator[tuple[Any, bytes]]:
        tss = self._tss
        with self._asking("does not make its keys; its hierarchies' passwords must be empty"):
            sensitive = tss.TPM2B_SENSITIVE_CREATE()
            area, _ = tss.TPMT_PUBLIC.unmarshal(template)
            public = tss.TPM2B_PUBLIC(publicArea=area)
            handle, public, *_ = self._esapi.create_primary(sensitive, public, hierarchy)
        with self._flushed(handle):
            yield handle, bytes(public.publicArea.marshal())

    @contextmanager
    def _policy(self) -> Iterator[Any]:
        tss = self._tss
        with self._asking("gives no authorization of its endorsement hierarchy"):
            session = self._esapi.start_auth_session(
                tss.ESYS_TR.NONE,
                tss.ESYS_TR.NONE,
                tss.TPM2_SE.POLICY,
                tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL),
                tss.TPM2_ALG.SHA256,
            )
        with self._flushed(session):
            with self._asking("gives no authorization of its endorsement hierarchy"):
                self._esapi.policy_secret(tss.ESYS_TR.ENDORSEMENT, session)
            yield session

    @contextmanager
    def _flushed(self, handle: Any) -> Iterator[None]:
        try:
            yield
        finally:
            # A session that a command has used up is gone already.
            with suppress(self._tss.TSS2_Exception):
                self._esapi.flush_context(handle)

    @contextmanager
    def _asking(self, why: str) -> Iterator[None]:
        try:
            yield
        except (self._tss.TSS2_Exception, ValueError, TypeError) as error:
            raise _unavailable(f"{why} ({error})") from error


def _selection(pcrs: Sequence[int]) -> str:
    return "sha256:" + ",".join(str(index) for index in sorted(set(pcrs)))


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _whole_der(data: bytes) -> bytes | None:
    """A certificate without what fills up the place that it lies in."""
    if len(data) < 4 or data[0] != 0x30:
        return None
    octets = data[1] - 0x80
    if not 1 <= octets <= 2:
        return None
    end = 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
    return data[:end] if end <= len(data) else None


def _unavailable(why: str) -> PolicyRefusal:
    return PolicyRefusal("executor-unavailable", f"The TPM {why}.")
