"""The consortium's CA: what it issues, what it refuses, how it is stored."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from cohortium.crypto.authority import (
    Authority,
    certificate_fingerprint,
    check_issued,
    make_tls_key_and_csr,
    read_certificate,
)
from cohortium.errors import InputError, VerificationError

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("北京心血管病联盟", NOW)


def _csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def test_node_certificate_is_for_clients_and_says_what_the_authority_says(
    authority: Authority,
) -> None:
    key_pem, csr_pem = make_tls_key_and_csr("I claim to be the hub")
    pem = authority.issue_node(csr_pem, "Site A", "node-1", NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    facts = read_certificate(pem)
    assert facts.common_name == "node-1"
    assert facts.not_before < NOW < facts.not_after <= NOW + timedelta(days=398)
    assert facts.fingerprint == certificate_fingerprint(pem)
    check_issued(pem, key_pem, authority.certificate_pem, NOW)


def test_hub_certificate_names_hosts_and_addresses(authority: Authority) -> None:
    identity = authority.issue_hub(["hub.example.org", "127.0.0.1", "::1", "münchen.example"], NOW)
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.example.org", "xn--mnchen-3ya.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    check_issued(identity.certificate_pem, identity.key_pem, authority.certificate_pem, NOW)
    assert "PRIVATE" not in repr(identity)


def test_hub_without_hosts_is_refused(authority: Authority) -> None:
    with pytest.raises(InputError, match="at least one host"):
        authority.issue_hub([], NOW)
    with pytest.raises(InputError, match="Not a host name"):
        authority.issue_hub(["a" * 300], NOW)


def test_long_institution_name_fits(authority: Authority) -> None:
    _, csr_pem = make_tls_key_and_csr("医" * 100)
    pem = authority.issue_node(csr_pem, "医院" * 100, "node-2", NOW)
    assert read_certificate(pem).common_name == "node-2"


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["rsa", "ed25519", "p384"],
)
def test_only_p256_requests(
    authority: Authority,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    with pytest.raises(VerificationError, match="P-256"):
        authority.issue_node(_csr(key), "Site", "node", NOW)


def test_request_that_does_not_prove_possession(authority: Authority) -> None:
    request = x509.load_pem_x509_csr(make_tls_key_and_csr("x")[1])
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    altered = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(VerificationError) as caught:
        authority.issue_node(altered, "Site", "node", NOW)
    assert caught.value.code == "bad-certificate"


@given(st.binary(max_size=200))
def test_parsers_raise_nothing_else(data: bytes) -> None:
    for pem in (
        data,
        b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n",
    ):
        with pytest.raises(VerificationError):
            read_certificate(pem)
        with pytest.raises(VerificationError):
            certificate_fingerprint(pem)


def test_issued_certificate_is_checked(authority: Authority) -> None:
    key_pem, csr_pem = make_tls_key_and_csr("x")
    pem = authority.issue_node(csr_pem, "Site", "node", NOW)
    other = Authority.create("Other", NOW)
    with pytest.raises(VerificationError, match="not of this consortium"):
        check_issued(pem, key_pem, other.certificate_pem, NOW)
    with pytest.raises(VerificationError, match="another key"):
        check_issued(pem, make_tls_key_and_csr("y")[0], authority.certificate_pem, NOW)
    for moment in (NOW - timedelta(hours=1), NOW + timedelta(days=399)):
        with pytest.raises(VerificationError, match="at this time"):
            check_issued(pem, key_pem, authority.certificate_pem, moment)


def test_same_name_does_not_make_the_same_authority(authority: Authority) -> None:
    impostor = Authority.create("北京心血管病联盟", NOW)
    key_pem, csr_pem = make_tls_key_and_csr("x")
    with pytest.raises(VerificationError):
        check_issued(
            impostor.issue_node(csr_pem, "S", "n", NOW), key_pem, authority.certificate_pem, NOW
        )


def test_save_and_load(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600
    again = Authority.load(tmp_path)
    assert (
        again.fingerprint
        == authority.fingerprint
        == certificate_fingerprint((tmp_path / "ca.pem").read_bytes())
    )
    identity = again.issue_hub(["localhost"], NOW)
    check_issued(identity.certificate_pem, identity.key_pem, authority.certificate_pem, NOW)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    assert context.cert_store_stats()["x509_ca"] == 1


def test_damaged_store_is_refused(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Authority.load(tmp_path)
    assert caught.value.code == "not-found"
    authority.save(tmp_path)
    (tmp_path / "ca.pem").write_bytes(Authority.create("Other", NOW).certificate_pem)
    with pytest.raises(InputError, match="do not match"):
        Authority.load(tmp_path)
    (tmp_path / "ca.pem").write_bytes(b"junk")
    with pytest.raises(InputError, match="damaged"):
        Authority.load(tmp_path)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(InputError, match="Cannot read"):
        Authority.load(tmp_path)
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Authority.load(tmp_path)
