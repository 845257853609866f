"""Verifier of AMD SEV-SNP attestation reports (AMD 56860, "SEV Secure Nested Paging Firmware ABI").

The report is signed by the chip's key (VCEK) or the cloud's (VLEK); the key's certificate is of
AMD's signing key (ASK, ASVK), that one of AMD's root (ARK), whose public keys stand here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from cohortium.core.canonical import digest_bytes
from cohortium.enclave.attestation.policy import (
    UP_TO_DATE,
    AmdPlatform,
    AmdWeakness,
    AppraisalPolicy,
    SnpTcb,
    judge_binding,
)
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import Verdict

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
VERSIONS: Final = range(2, 6)
AMD_ROOTS: Final[Mapping[str, str]] = {
    "Milan": "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
    "Genoa": "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
    "Turin": "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
}
"""SHA-256 of the public key of ``ARK-Milan`` and its successors, by product."""

_MAX_CERTIFICATE_BYTES: Final = 64 * 1024
_ECDSA_P384_SHA384: Final = 1
_INTEGER_BYTES: Final = 72
# Guest policy, table 10.
_RESERVED_ONE: Final = 1 << 17
_MIGRATE_MA: Final = 1 << 18
_DEBUG: Final = 1 << 19
_CXL_ALLOW: Final = 1 << 21
_PAGE_SWAP_DISABLE: Final = 1 << 25
# PLATFORM_INFO.
_SMT_EN: Final = 1
_RAPL_DIS: Final = 1 << 3
_CIPHERTEXT_HIDING: Final = 1 << 4
_ALIAS_CHECK_COMPLETE: Final = 1 << 5
# Extensions of a VCEK certificate, AMD 57230 table 8.
_OID: Final = "1.3.6.1.4.1.3704.1."
_PRODUCT, _HWID = _OID + "2", _OID + "4"
_PARTS: Final = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8"}


@dataclass(frozen=True)
class Report:
    """The fields of a report that are judged; not yet verified."""

    version: int
    guest_svn: int
    policy: int
    vmpl: int
    algorithm: int
    platform_info: int
    signed_by_cloud: bool
    report_data: bytes
    measurement: bytes
    host_data: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    chip_id: bytes
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Read untrusted bytes.

        Raises:
            VerificationError: ``bad-evidence`` (``malformed``); never anything else.
        """
        if len(data) != REPORT_BYTES:
            raise refuse(Reason.MALFORMED, f"Not an SEV-SNP report of {REPORT_BYTES} bytes.")

        def number(start: int, size: int = 4) -> int:
            return int.from_bytes(data[start : start + size], "little")

        if number(0) not in VERSIONS:
            raise refuse(Reason.MALFORMED, "The SEV-SNP report's version is not known here.")
        signer = number(0x48) >> 2 & 7
        if signer not in {0, 1}:
            raise refuse(Reason.SIGNATURE, "The SEV-SNP report is not signed.")
        return cls(
            version=number(0),
            guest_svn=number(4),
            policy=number(8, 8),
            vmpl=number(0x30),
            algorithm=number(0x34),
            platform_info=number(0x40, 8),
            signed_by_cloud=signer == 1,
            report_data=data[0x50:0x90],
            measurement=data[0x90:0xC0],
            host_data=data[0xC0:0xE0],
            reported_tcb=data[0x180:0x188],
            committed_tcb=data[0x1E0:0x1E8],
            launch_tcb=data[0x1F0:0x1F8],
            chip_id=data[0x1A0:0x1E0],
            signed=data[:SIGNED_BYTES],
            signature=data[SIGNED_BYTES:],
        )

    @property
    def weaknesses(self) -> dict[AmdWeakness, Reason]:
        """Which of those that a site can accept the machine has, or may have."""
        info, policy = self.platform_info, self.policy
        found: dict[AmdWeakness, tuple[Reason, bool]] = {
            "smt": (Reason.PLATFORM_INFO, bool(info & _SMT_EN)),
            "rapl": (Reason.PLATFORM_INFO, not info & _RAPL_DIS),
            "visible-ciphertext": (Reason.PLATFORM_INFO, not info & _CIPHERTEXT_HIDING),
            "page-swap": (Reason.GUEST_POLICY, not policy & _PAGE_SWAP_DISABLE),
            "cxl": (Reason.GUEST_POLICY, bool(policy & _CXL_ALLOW)),
        }
        return {name: reason for name, (reason, has) in found.items() if has}


def _tcb(raw: bytes, product: str) -> SnpTcb:
    """A platform's versions; Turin has them in other places."""
    first = 1 if product == "Turin" else 0
    snp = 3 if product == "Turin" else 6
    return SnpTcb(bootloader=raw[first], tee=raw[first + 1], snp=raw[snp], microcode=raw[7])


def verify_sev_snp(
    report: bytes,
    leaf: bytes,
    chain: bytes,
    policy: AppraisalPolicy,
    *,
    report_data: bytes,
    now: datetime,
    revocation_list: bytes | None = None,
    roots: Mapping[str, str] = AMD_ROOTS,
) -> Verdict:
    """Appraise the report of an SEV-SNP virtual machine.

    Args:
        leaf: VCEK or VLEK certificate, DER.
        chain: ASK (or ASVK) and ARK, PEM, as AMD gives them.
        report_data: The 64 bytes that it must be bound to.
        revocation_list: AMD's, DER; absent: none was imported, and none is asked unless the policy
            is strict.
        roots: SHA-256 of the root's key, by product; for tests.

    Raises:
        VerificationError: ``bad-evidence`` or ``evidence-refused``; ``details["reason"]`` says why.
    """
    # 1. Form. 2. Certificates up to AMD's root, at this time. 3. The report's signature. 4. The
    # certificate is of this chip in this state. 5. Guest policy, product and platform. 6. State,
    # measurements, binding.
    found = Report.parse(report)  # 1
    if policy.strict and revocation_list is None:
        raise refuse(
            Reason.COLLATERAL_MISSING, "AMD's revocation list was not imported; L5 asks for it."
        )
    certificate, product = _chain(leaf, chain, now, revocation_list, roots)  # 2
    _verify_signature(found, certificate)  # 3
    extensions = _extensions(certificate)  # 4
    tcb = _tcb(found.reported_tcb, product)
    if any(_integer(extensions, part) != getattr(tcb, name) for name, part in _PARTS.items()):
        raise refuse(Reason.TCB_MISMATCH, "The report's versions are not those of its certificate.")
    hardware = extensions.get(_HWID, b"")
    if not found.signed_by_cloud and (not hardware or not found.chip_id.startswith(hardware)):
        raise refuse(Reason.TCB_MISMATCH, "The report is of another chip than its certificate.")
    _judge_guest(found)  # 5
    accepted = _accepted(product, policy)
    _judge_platform(found, accepted)
    measurements = {  # 6
        "snp-measurement": found.measurement.hex(),
        "snp-host-data": found.host_data.hex(),
    }
    policy.judge_measurements("sev-snp", measurements)
    # Firmware can be set back to what is committed, and what was launched under older one may have
    # been read then.
    for one in (tcb, _tcb(found.committed_tcb, product), _tcb(found.launch_tcb, product)):
        _judge_tcb(one, accepted)
    policy.judge_platform(found.chip_id.hex())
    judge_binding(found.report_data, report_data)
    return Verdict(
        kind="sev-snp",
        measurements=measurements,
        platform=found.chip_id.hex(),
        security_version=found.guest_svn,
        tcb_status=UP_TO_DATE,
        report_data=report_data.hex(),
        signed_digest=digest_bytes(found.signed),
        policy_digest=policy.digest,
        checked_at=now,
        expires_at=certificate.not_valid_after_utc,
    )


def _chain(
    leaf: bytes,
    chain: bytes,
    now: datetime,
    revocation_list: bytes | None,
    roots: Mapping[str, str],
) -> tuple[x509.Certificate, str]:
    """The leaf and its product, with certificates up to the product's root verified."""
    if max(len(leaf), len(chain)) > _MAX_CERTIFICATE_BYTES:
        raise refuse(Reason.MALFORMED, "The certificates have more bytes than are accepted.")
    try:
        with warnings.catch_warnings():
            # AMD numbers every VCEK certificate 0.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(leaf)
            signers = x509.load_pem_x509_certificates(chain)
        if len(signers) != 2:
            raise refuse(Reason.CERTIFICATE, "The chain is not AMD's signing key and root.")
        signer, root = signers
        product = _product(certificate)
        if sha256(_key(root)).hexdigest() != roots.get(product):
            raise refuse(Reason.WRONG_ROOT, "The certificates do not lead to AMD's root.")
        for one, issuer in ((root, root), (signer, root), (certificate, signer)):
            one.verify_directly_issued_by(issuer)
        if not signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise refuse(Reason.CERTIFICATE, "The certificate's issuer is no authority.")
        for one in (root, signer, certificate):
            if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
                raise refuse(Reason.CERTIFICATE_EXPIRED, "A certificate of the platform is over.")
        if revocation_list is not None:
            _judge_revocation(revocation_list, root, (signer, certificate), now)
    except InvalidSignature as error:
        raise refuse(Reason.CERTIFICATE, "A certificate's signature does not verify.") from error
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
    ) as error:
        raise refuse(Reason.CERTIFICATE, "A certificate cannot be read.") from error
    return certificate, product


def _judge_revocation(
    data: bytes, root: x509.Certificate, given: tuple[x509.Certificate, ...], now: datetime
) -> None:
    crl = x509.load_der_x509_crl(data)
    key = root.public_key()
    if crl.issuer != root.subject or not crl.is_signature_valid(key):  # type: ignore[arg-type]
        raise refuse(Reason.COLLATERAL_SIGNATURE, "The revocation list is not AMD's.")
    if crl.next_update_utc is None or now > crl.next_update_utc:
        raise refuse(Reason.COLLATERAL_EXPIRED, "The revocation list is over; import a newer one.")
    for one in given:
        if (
            one.issuer == crl.issuer
            and crl.get_revoked_certificate_by_serial_number(one.serial_number) is not None
        ):
            raise refuse(Reason.REVOKED, "AMD revoked a certificate of the platform.")


def _verify_signature(report: Report, certificate: x509.Certificate) -> None:
    if report.algorithm != _ECDSA_P384_SHA384:
        raise refuse(Reason.SIGNATURE, "The report's signature algorithm is not known here.")
    r, s = (
        int.from_bytes(report.signature[start : start + _INTEGER_BYTES], "little")
        for start in (0, _INTEGER_BYTES)
    )
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise refuse(Reason.CERTIFICATE, "The certificate is not of a key on P-384.")
    if any(report.signature[2 * _INTEGER_BYTES :]):
        raise refuse(Reason.MALFORMED, "The report ends in bytes that mean nothing.")
    try:
        key.verify(encode_dss_signature(r, s), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise refuse(Reason.SIGNATURE, "The report's signature does not verify.") from error


def _judge_guest(report: Report) -> None:
    if report.policy & _DEBUG:
        raise refuse(Reason.DEBUG, "The virtual machine can be debugged: its memory can be read.")
    if report.policy & _MIGRATE_MA:
        raise refuse(Reason.MIGRATION, "The virtual machine can be moved to another machine.")
    if not report.policy & _RESERVED_ONE:
        raise refuse(Reason.GUEST_POLICY, "The guest policy is none that AMD's firmware takes.")
    if report.vmpl != 0:
        raise refuse(Reason.VMPL, "The report is not of the virtual machine's own level.")


def _accepted(product: str, policy: AppraisalPolicy) -> AmdPlatform:
    """What the site accepts of a product."""
    if not policy.amd_platforms:
        raise refuse(
            Reason.NO_REFERENCE,
            "The site's policy names no product of AMD with a floor for its versions; set "
            "amd_platforms.",
        )
    for name, accepted in policy.amd_platforms.items():
        if name == product:
            return accepted
    raise refuse(
        Reason.AMD_PRODUCT,
        f"The site accepts no {product}; it accepts {', '.join(policy.amd_platforms)}.",
        found=product,
    )


def _judge_platform(report: Report, accepted: AmdPlatform) -> None:
    if not report.platform_info & _ALIAS_CHECK_COMPLETE:
        raise refuse(
            Reason.PLATFORM_INFO,
            "The platform did not check that no memory has two addresses (BadRAM), or its firmware "
            "is too old to say so.",
        )
    for weakness, reason in report.weaknesses.items():
        if weakness not in accepted.accept:
            raise refuse(
                reason,
                f"The platform has a weakness that the site does not accept: {weakness}.",
                found=weakness,
            )


def _judge_tcb(tcb: SnpTcb, floor: AmdPlatform) -> None:
    low = [name for name in _PARTS if getattr(tcb, name) < getattr(floor, name)]
    if low:
        raise refuse(
            Reason.TCB_STATUS,
            f"The platform is older than is accepted: {', '.join(low)}.",
            found=tcb.to_json(),
        )


def _extensions(certificate: x509.Certificate) -> dict[str, bytes]:
    try:
        return {
            one.oid.dotted_string: one.value.value
            for one in certificate.extensions
            if isinstance(one.value, x509.UnrecognizedExtension)
        }
    except (ValueError, TypeError, x509.DuplicateExtension) as error:
        raise refuse(Reason.CERTIFICATE, "The certificate's extensions cannot be read.") from error


def _integer(extensions: Mapping[str, bytes], part: str) -> int:
    """A DER INTEGER of at most 255."""
    raw = extensions.get(_OID + part, b"")
    if len(raw) < 3 or raw[0] != 2 or raw[1] != len(raw) - 2:
        raise refuse(Reason.CERTIFICATE, "The certificate does not say the platform's versions.")
    return int.from_bytes(raw[2:], "big", signed=True)


def _product(certificate: x509.Certificate) -> str:
    """``Milan`` of ``Milan-B0``; a DER IA5String."""
    raw = _extensions(certificate).get(_PRODUCT, b"")
    if len(raw) < 2 or raw[0] != 0x16 or raw[1] != len(raw) - 2:
        raise refuse(Reason.CERTIFICATE, "The certificate does not say of which product it is.")
    return raw[2:].decode("ascii", "replace").partition("-")[0]


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
