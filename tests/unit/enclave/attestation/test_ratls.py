"""RA-TLS certificates: made and read; each part that is wrong is refused for its own reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.dcap import NOW, Intel, sgx_report, tdx_report

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.ratls import (
    EVIDENCE_OID,
    bound_to,
    make_certificate,
    make_claims,
    open_certificate,
    verify_certificate,
)
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.errors import VerificationError

KEY = ec.generate_private_key(ec.SECP256R1())
NONCE = bytes(range(32))
INTEL = Intel("SGX")
COLLATERAL = Collateral.parse(INTEL.collateral())
POLICY = AppraisalPolicy(measurements=(Measurement(kind="mrenclave", value="11" * 32),))
DAY = timedelta(days=1)


def certificate(key: ec.EllipticCurvePrivateKey = KEY, claims: bytes | None = None) -> bytes:
    claims = make_claims(KEY.public_key(), NONCE) if claims is None else claims
    quote = INTEL.quote(sgx_report(report_data=bound_to(claims)))
    return make_certificate(key, quote, claims, name="enclave", now=NOW, lifetime=DAY)


def verify(der: bytes, **options: Any) -> Any:
    options = {"now": NOW, "nonce": NONCE, "root_ca": INTEL.root_der, **options}
    return verify_certificate(der, lambda _tee, _fmspc: COLLATERAL, POLICY, **options)


def reason(run: Callable[[], Any]) -> Reason | None:
    with pytest.raises(VerificationError) as caught:
        run()
    return reason_of(caught.value)


def with_evidence(value: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.UnrecognizedExtension(EVIDENCE_OID, value), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_carries_the_quote_of_its_key() -> None:
    verdict = verify(certificate())
    assert verdict.measurements["mrenclave"] == "11" * 32
    assert verdict.report_data == bound_to(make_claims(KEY.public_key(), NONCE)).hex()
    found = open_certificate(certificate(), now=NOW)
    assert (found.kind, found.fmspc, found.nonce) == ("sgx", "00906ea10000", NONCE)
    without = certificate(claims=make_claims(KEY.public_key()))
    assert open_certificate(without, now=NOW).nonce is None


def test_a_certificate_of_a_virtual_machine_is_one_too() -> None:
    tdx = Intel("TDX")
    claims = make_claims(KEY.public_key())
    quote = tdx.quote(tdx_report(report_data=bound_to(claims)))
    der = make_certificate(KEY, quote, claims, name="vm", now=NOW, lifetime=DAY)
    values = (("mrtd", "33"), ("rtmr0", "40"), ("rtmr1", "41"), ("rtmr2", "42"))
    policy = AppraisalPolicy(
        measurements=tuple(Measurement(kind=k, value=v * 48) for k, v in values)
    )
    collateral = Collateral.parse(tdx.collateral())
    found = verify_certificate(der, lambda *_: collateral, policy, now=NOW, root_ca=tdx.root_der)
    assert found.kind == "tdx"


def test_another_key_with_somebody_elses_evidence_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert reason(lambda: verify(certificate(other))) is Reason.SWAPPED_KEY


def test_claims_that_the_quote_does_not_bind_are_refused() -> None:
    claims = make_claims(KEY.public_key(), NONCE)
    quote = INTEL.quote(sgx_report(report_data=bound_to(make_claims(KEY.public_key()))))
    der = make_certificate(KEY, quote, claims, name="enclave", now=NOW, lifetime=DAY)
    assert reason(lambda: verify(der)) is Reason.BINDING


def test_another_nonce_and_none_are_refused() -> None:
    assert reason(lambda: verify(certificate(), nonce=bytes(32))) is Reason.NONCE
    without = certificate(claims=make_claims(KEY.public_key()))
    assert reason(lambda: verify(without)) is Reason.NONCE


def test_a_certificate_counts_in_its_time_only() -> None:
    for late in (2 * DAY, -DAY):
        found = reason(lambda d=late: verify(certificate(), now=NOW + d))  # type: ignore[misc]
        assert found is Reason.CERTIFICATE_EXPIRED


def test_a_certificate_that_another_signed_counts_with_that_issuer_only() -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca, name = x509.Name([]), x509.Name([])
    root = x509.CertificateBuilder(ca, ca, ca_key.public_key(), 1)
    root = root.not_valid_before(NOW).not_valid_after(NOW + DAY)
    issuer = root.sign(ca_key, hashes.SHA256())
    own = x509.load_der_x509_certificate(certificate())
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 2)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + DAY)
    evidence = own.extensions.get_extension_for_oid(EVIDENCE_OID).value
    builder = builder.add_extension(evidence, critical=False)
    der = builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert verify(der, issuer=issuer).kind == "sgx"
    assert reason(lambda: verify(der)) is Reason.SIGNATURE


def test_an_extension_that_is_there_twice_is_refused() -> None:
    other = x509.ObjectIdentifier("2.23.133.5.4.8")
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + DAY)
    for oid in (EVIDENCE_OID, other):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\xf6"), critical=False)
    signed = builder.sign(KEY, hashes.SHA256())
    tbs = signed.tbs_certificate_bytes
    twice = tbs.replace(bytes.fromhex("678105050408"), bytes.fromhex("678105050409"))
    signature = KEY.sign(twice, ec.ECDSA(hashes.SHA256()))
    rest = bytes.fromhex("300a06082a8648ce3d040302") + b"\x03" + bytes([len(signature) + 1, 0])
    body = twice + rest + signature
    der = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    assert reason(lambda: verify(der)) is Reason.DUPLICATE_EXTENSION


def test_a_certificate_without_evidence_is_refused() -> None:
    der = certificate()
    plain = der.replace(bytes.fromhex("0606678105050409"), bytes.fromhex("0606678105050407"))
    parsed = x509.load_der_x509_certificate(plain)
    signature = KEY.sign(parsed.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    assert signature
    assert reason(lambda: verify(plain)) is Reason.SIGNATURE
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1)
    bare = builder.not_valid_before(NOW).not_valid_after(NOW + DAY).sign(KEY, hashes.SHA256())
    assert reason(lambda: verify(bare.public_bytes(Encoding.DER))) is Reason.NO_EXTENSION


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (cbor2.dumps(cbor2.CBORTag(60001, [b"q", b"c"])), Reason.UNKNOWN_TAG),
        (cbor2.dumps([b"q", b"c"]), Reason.UNKNOWN_TAG),
        (cbor2.dumps(cbor2.CBORTag(60000, [b"q"])), Reason.MALFORMED),
        (cbor2.dumps(cbor2.CBORTag(60000, [b"q", "c"])), Reason.MALFORMED),
        (cbor2.dumps(cbor2.CBORTag(60000, [b"q", b"c"])) + b"\0", Reason.MALFORMED),
        (b"\xd9\xea\x60\x9f\x41q\x41c\xff", Reason.MALFORMED),
        (b"", Reason.MALFORMED),
    ],
)
def test_evidence_of_another_form_is_refused(value: bytes, expected: Reason) -> None:
    assert reason(lambda: verify(with_evidence(value))) is expected


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"pubkey-hash": cbor2.dumps([2, bytes(32)])},
        {"pubkey-hash": cbor2.dumps([1])},
        {"pubkey-hash": "text"},
        {1: b""},
        [],
    ],
)
def test_claims_of_another_form_are_refused(claims: Any) -> None:
    assert reason(lambda: verify(certificate(claims=cbor2.dumps(claims)))) is Reason.MALFORMED


def test_a_claim_given_twice_is_refused() -> None:
    entry = cbor2.dumps([1, bytes(32)])
    twice = b"\xa2" + 2 * (cbor2.dumps("pubkey-hash") + cbor2.dumps(entry))
    assert reason(lambda: verify(certificate(claims=twice))) is Reason.MALFORMED


def test_longer_digests_of_the_key_are_understood() -> None:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for number, algorithm in ((7, "sha384"), (8, "sha512")):
        import hashlib

        entry = cbor2.dumps([number, hashlib.new(algorithm, spki).digest()])
        claims = cbor2.dumps({"pubkey-hash": entry, "nonce": NONCE})
        assert verify(certificate(claims=claims)).kind == "sgx"


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_certificate_is_refused_with_a_reason(data: st.DataObject) -> None:
    der = bytearray(CERTIFICATE)
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] ^= data.draw(st.integers(1, 255))
    assert reason(lambda: verify(bytes(der))) is not None


CERTIFICATE = certificate()
