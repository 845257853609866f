"""Recorded quotes of real machines, and mutations of them; see attestation/README.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.ratls import open_certificate
from cohortium.enclave.attestation.reasons import NOT_GENUINE, Reason, reason_of
from cohortium.enclave.attestation.sgx import verify_sgx
from cohortium.enclave.attestation.tdx import verify_tdx
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import VerificationError

FOLDER = Path(__file__).parent / "attestation"
NOW = datetime(2025, 6, 20, 12, tzinfo=UTC)
SGX = (FOLDER / "sgx_quote.bin").read_bytes()
TDX = (FOLDER / "tdx_quote.bin").read_bytes()
SGX_DATA = b"Hello, world!".ljust(64, b"\0")
TDX_DATA = bytes.fromhex(
    "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
    "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
)
MRENCLAVE = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
MRTD = (
    "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407"
    "de03ae6dc5f87f27428b2538873118b7"
)
RTMR0 = (
    "44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c"
    "48aca29b220b80b6a540cf994b9bc9c0"
)
RTMR1 = (
    "0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7"
    "aea8c323c173019b3093d54e579e9378"
)
RTMR2 = (
    "d833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3"
    "ba80b70870d7330733642e01d48c3132"
)
TD = tuple(
    Measurement(kind=kind, value=value)
    for kind, value in (("mrtd", MRTD), ("rtmr0", RTMR0), ("rtmr1", RTMR1), ("rtmr2", RTMR2))
)


def collateral(name: str) -> bytes:
    return (FOLDER / f"{name}_collateral.json").read_bytes()


def sgx(quote: bytes = SGX, /, *, at: datetime = NOW, **policy: Any) -> Verdict:
    policy = {
        "measurements": (Measurement(kind="mrenclave", value=MRENCLAVE),),
        "tcb_states": ("ConfigurationAndSWHardeningNeeded",),
        "advisories": ("INTEL-SA-00289", "INTEL-SA-00615"),
        **policy,
    }
    return verify_sgx(
        quote,
        Collateral.parse(collateral("sgx")),
        AppraisalPolicy(**policy),
        report_data=SGX_DATA,
        now=at,
    )


def tdx(quote: bytes = TDX, /, *, at: datetime = NOW, **policy: Any) -> Verdict:
    policy = {"measurements": TD, **policy}
    return verify_tdx(
        quote,
        Collateral.parse(collateral("tdx")),
        AppraisalPolicy(**policy),
        report_data=TDX_DATA,
        now=at,
    )


def reason(run: Any, *given: Any, **options: Any) -> Reason | None:
    with pytest.raises(VerificationError) as caught:
        run(*given, **options)
    return reason_of(caught.value)


def test_recorded_quotes_verify_up_to_intels_root() -> None:
    verdict = sgx()
    assert verdict.platform == "d04ec06d4e6d92dc90d0ad3cf5ee2ddf"
    assert verdict.measurements["mrenclave"] == MRENCLAVE
    assert verdict.tcb_status == "ConfigurationAndSWHardeningNeeded"
    assert verdict.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    other = tdx()
    assert (other.tcb_status, other.platform) == ("UpToDate", "811dca2a26b952e85bb6448b097ba4fd")
    assert other.expires_at == datetime(2025, 7, 19, 10, 0, 35, tzinfo=UTC)


def test_a_recorded_platform_in_a_poor_state_is_refused_by_default() -> None:
    assert reason(sgx, tcb_states=("UpToDate",)) is Reason.TCB_STATUS
    assert reason(sgx, advisories=("INTEL-SA-00289",)) is Reason.ADVISORY


def test_the_recorded_quote_of_an_outdated_platform_is_refused() -> None:
    quote = (FOLDER / "tdx_outdated_quote.bin").read_bytes()
    found = reason(
        verify_tdx,
        quote,
        Collateral.parse(collateral("tdx_outdated")),
        AppraisalPolicy(measurements=TD),
        report_data=TDX_DATA,
        now=datetime(2026, 2, 19, tzinfo=UTC),
    )
    assert found is Reason.TCB_UNKNOWN


def test_the_clock_decides_over_recorded_collateral() -> None:
    assert reason(sgx, at=NOW + timedelta(days=40)) is Reason.COLLATERAL_EXPIRED
    assert reason(tdx, at=NOW + timedelta(days=40)) is Reason.COLLATERAL_EXPIRED
    assert reason(tdx, at=NOW - timedelta(days=5)) is Reason.COLLATERAL_FUTURE
    assert reason(tdx, max_collateral_age_s=3600) is Reason.COLLATERAL_STALE


def test_a_debug_bit_set_in_a_recorded_quote_breaks_its_signature() -> None:
    for run, quote, place in ((sgx, SGX, 48 + 48), (tdx, TDX, 48 + 120)):
        changed = bytearray(quote)
        changed[place] |= 2 if run is sgx else 1
        assert reason(run, bytes(changed)) is Reason.SIGNATURE


def test_another_measurement_is_refused() -> None:
    other = Measurement(kind="mrenclave", value="00" * 32)
    assert reason(sgx, measurements=(other,)) is Reason.MEASUREMENT
    changed = (Measurement(kind="mrtd", value="00" * 48), *TD[1:])
    assert reason(tdx, measurements=changed) is Reason.MEASUREMENT


def test_a_quote_that_is_cut_off_anywhere_is_refused() -> None:
    for run, quote, last in ((sgx, SGX, 4500), (tdx, TDX, 4900)):
        for length in [*range(0, 1200, 61), *range(1200, last, 401)]:
            assert reason(run, quote[:length]) in NOT_GENUINE


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 431), st.integers(0, 7))
def test_any_bit_of_the_signed_part_counts_in_sgx(place: int, bit: int) -> None:
    changed = bytearray(SGX)
    changed[place] ^= 1 << bit
    assert reason(sgx, bytes(changed)) in NOT_GENUINE | {Reason.WRONG_KIND}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 631), st.integers(0, 7))
def test_any_bit_of_the_signed_part_counts_in_tdx(place: int, bit: int) -> None:
    changed = bytearray(TDX)
    changed[place] ^= 1 << bit
    assert reason(tdx, bytes(changed)) in NOT_GENUINE | {Reason.WRONG_KIND}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(TDX) - 1), st.binary(max_size=40))
def test_bytes_written_anywhere_are_refused_or_change_nothing_that_is_said(
    place: int, data: bytes
) -> None:
    changed = TDX[:place] + data + TDX[place + len(data) :]
    said: Reason | bool | None
    try:
        verdict = tdx(changed)
    except VerificationError as error:
        said = reason_of(error)
    else:
        said = verdict == tdx()
    assert said


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600))
def test_nothing_but_refusals_comes_of_random_bytes(data: bytes) -> None:
    for run in (sgx, tdx):
        assert reason(run, data) in NOT_GENUINE | {Reason.WRONG_KIND}
    assert reason(Collateral.parse, data) is Reason.COLLATERAL_MALFORMED


@pytest.mark.parametrize("name", ["sgxsdk", "ratstls"])
def test_certificates_of_other_programs_are_read(name: str) -> None:
    pem = (FOLDER / f"ratls_{name}.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    at = datetime(2024, 2, 1, tzinfo=UTC)
    found = open_certificate(der, now=at)
    assert (found.kind, found.nonce) == ("sgx", None)
    assert found.quote[48 + 320 :][:64] == found.report_data


@pytest.mark.parametrize(
    "change",
    [
        {"tcb_info": "{}"},
        {"tcb_info": "[]"},
        {"tcb_info": 3},
        {"pck_crl": "zz"},
        {"pck_crl": "3000"},
        {"surplus": ""},
        {"pck_certificate_chain": 1},
        {"qe_identity": '{"id": "QE"}'},
    ],
)
def test_collateral_of_another_form_is_refused(change: dict[str, Any]) -> None:
    fields = {**json.loads(collateral("tdx")), **change}
    data = json.dumps(fields).encode()
    assert reason(Collateral.parse, data) is Reason.COLLATERAL_MALFORMED
