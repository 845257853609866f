"""SEV-SNP reports of a made-up AMD and a recorded one: each fault is refused for its own reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.amd import CHIP, Amd
from tests.support.dcap import NOW

from cohortium.contract.model import Environment, Measurement
from cohortium.enclave.attestation.policy import AmdPlatform, AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.sev_snp import AMD_ROOTS, REPORT_BYTES, verify_sev_snp
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import InputError, VerificationError

VECTORS = Path(__file__).parents[3] / "vectors/attestation"
AMD = Amd()
WANTED = (Measurement(kind="snp-measurement", value="11" * 48),)
FLOOR = AmdPlatform(bootloader=2, snp=5, microcode=0x44)
FLOORS = {"Genoa": FLOOR, "Turin": FLOOR}
RECORDED = (VECTORS / "snp_report.bin").read_bytes()
RECORDED_AT = datetime(2023, 6, 1, tzinfo=UTC)


def verify(
    report: bytes | None = None,
    *,
    amd: Amd = AMD,
    now: datetime = NOW,
    report_data: bytes = bytes(64),
    revocation_list: bytes | None = None,
    roots: dict[str, str] | None = None,
    chain: bytes | None = None,
    **policy: Any,
) -> Verdict:
    policy = {"measurements": WANTED, "amd_platforms": FLOORS, **policy}
    return verify_sev_snp(
        amd.report() if report is None else report,
        amd.leaf,
        amd.chain if chain is None else chain,
        AppraisalPolicy(**policy),
        report_data=report_data,
        now=now,
        revocation_list=revocation_list,
        roots=amd.roots if roots is None else roots,
    )


def recorded(report: bytes = RECORDED, roots: Mapping[str, str] = AMD_ROOTS) -> Verdict:
    measurement = Measurement(kind="snp-measurement", value=RECORDED[0x90:0xC0].hex())
    return verify_sev_snp(
        report,
        (VECTORS / "snp_vcek.der").read_bytes(),
        (VECTORS / "snp_milan_chain.pem").read_bytes(),
        AppraisalPolicy(measurements=(measurement,), amd_platforms={"Milan": FLOOR}),
        report_data=bytes([1, 2, 3, 4, 5]).ljust(64, b"\0"),
        now=RECORDED_AT,
        roots=roots,
    )


def reason(run: Callable[[], Any]) -> Reason | None:
    with pytest.raises(VerificationError) as caught:
        run()
    return reason_of(caught.value)


def test_a_recorded_report_verifies_up_to_amds_root_and_its_debug_policy_is_refused() -> None:
    """The recorded machine allowed debugging; that is judged after all signatures."""
    assert reason(recorded) is Reason.DEBUG


def test_the_roots_are_those_of_amds_products() -> None:
    assert set(AMD_ROOTS) == {"Milan", "Genoa", "Turin"}
    wrong = {**AMD_ROOTS, "Milan": AMD_ROOTS["Genoa"]}
    assert reason(lambda: recorded(roots=wrong)) is Reason.WRONG_ROOT


def test_a_platform_below_the_floor_is_refused() -> None:
    newer = FLOOR.model_copy(update={"microcode": 0x45})
    assert reason(lambda: verify(amd_platforms={"Genoa": newer})) is Reason.TCB_STATUS
    assert verify(amd_platforms={"Genoa": FLOOR, "Turin": newer}).kind == "sev-snp"
    older = bytes([2, 0, 0, 0, 0, 0, 5, 0x43])
    for changed in ({"committed": older}, {"launch": older}):
        found = reason(lambda c=changed: verify(AMD.report(**c)))  # type: ignore[misc]
        assert found is Reason.TCB_STATUS


def test_a_product_that_the_site_does_not_name_is_refused() -> None:
    milan = Amd(product="Milan")
    assert reason(lambda: verify(amd=milan)) is Reason.AMD_PRODUCT
    assert verify(amd=milan, amd_platforms={"Milan": FLOOR}).kind == "sev-snp"
    assert reason(lambda: verify(amd_platforms={"Turin": FLOOR})) is Reason.AMD_PRODUCT
    assert reason(lambda: verify(amd_platforms={})) is Reason.NO_REFERENCE


@pytest.mark.parametrize(
    "floor", [{}, {"bootloader": 9, "tee": 1}, {"snp": 5}, {"microcode": 5}, {"accept": ["root"]}]
)
def test_a_floor_that_lets_everything_pass_is_none(floor: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be enforced"):
        AppraisalPolicy.from_environment(
            Environment(measurements=WANTED),
            level="L4",
            amd_platforms={"Genoa": floor},  # type: ignore[dict-item]
        )
    with pytest.raises(ValueError, match="amd_platforms"):
        AppraisalPolicy(measurements=WANTED, amd_platforms={"Rome": FLOOR})


@pytest.mark.parametrize(
    ("report", "weakness", "expected"),
    [
        ({"info": 0b111001}, "smt", Reason.PLATFORM_INFO),
        ({"info": 0b110000}, "rapl", Reason.PLATFORM_INFO),
        ({"info": 0b101000}, "visible-ciphertext", Reason.PLATFORM_INFO),
        ({"info": 0b011000}, None, Reason.PLATFORM_INFO),  # BadRAM
        ({"info": 0b111001, "version": 2}, "smt", Reason.PLATFORM_INFO),
        ({"policy": 0x20000}, "page-swap", Reason.GUEST_POLICY),
        ({"policy": 0x2220000}, "cxl", Reason.GUEST_POLICY),
        ({"policy": 0x2000000}, None, Reason.GUEST_POLICY),
    ],
)
def test_a_weakness_of_the_platform_is_accepted_by_name_only(
    report: dict[str, Any], weakness: str | None, expected: Reason
) -> None:
    given = AMD.report(**report)
    assert reason(lambda: verify(given)) is expected
    every = ("smt", "page-swap", "rapl", "visible-ciphertext", "cxl")
    others = FLOOR.model_copy(update={"accept": tuple(one for one in every if one != weakness)})
    assert reason(lambda: verify(given, amd_platforms={"Genoa": others})) is expected
    if weakness is not None:
        named = FLOOR.model_copy(update={"accept": (weakness,)})
        assert verify(given, amd_platforms={"Genoa": named}).kind == "sev-snp"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 0x2A0 + 143), st.integers(0, 7))
def test_any_bit_of_a_recorded_report_counts(place: int, bit: int) -> None:
    changed = bytearray(RECORDED)
    changed[place] ^= 1 << bit
    assert reason(lambda: recorded(bytes(changed))) in {Reason.SIGNATURE, Reason.MALFORMED}


@pytest.mark.parametrize(
    ("report", "policy", "expected"),
    [
        ({"policy": 0x2020000 | 1 << 19}, {}, Reason.DEBUG),
        ({"policy": 0x2020000 | 1 << 18}, {}, Reason.MIGRATION),
        ({"vmpl": 1}, {}, Reason.VMPL),
        ({"measurement": bytes(48)}, {}, Reason.MEASUREMENT),
        ({"report_data": b"\x01" * 64}, {}, Reason.BINDING),
        ({"tcb": bytes([3, 0, 0, 0, 0, 0, 5, 0x44])}, {}, Reason.TCB_MISMATCH),
        ({"tcb": bytes([2, 0, 0, 0, 0, 0, 5, 0x43])}, {}, Reason.TCB_MISMATCH),
        ({"chip": bytes(64)}, {}, Reason.TCB_MISMATCH),
        ({"version": 6}, {}, Reason.MALFORMED),
        ({"algorithm": 2}, {}, Reason.SIGNATURE),
        ({"signer": 7}, {}, Reason.SIGNATURE),
        (
            {},
            {"amd_platforms": {"Genoa": AmdPlatform(tee=1, snp=5, microcode=1)}},
            Reason.TCB_STATUS,
        ),
        ({}, {"platforms": ("00" * 64,)}, Reason.PLATFORM),
        ({}, {"measurements": ()}, Reason.NO_REFERENCE),
        (
            {},
            {"measurements": (*WANTED, Measurement(kind="snp-host-data", value="00" * 32))},
            Reason.MEASUREMENT,
        ),
    ],
)
def test_a_signed_report_that_is_not_the_one_asked_for_is_refused(
    report: dict[str, Any], policy: dict[str, Any], expected: Reason
) -> None:
    assert verify(platforms=(CHIP.hex(),)).security_version == 3
    assert reason(lambda: verify(AMD.report(**report), **policy)) is expected


def test_later_products_have_their_versions_in_other_places() -> None:
    turin = Amd(product="Turin", chip=CHIP[:8])
    report = turin.report(
        version=3, tcb=bytes([9, 2, 0, 5, 0, 0, 0, 0x44]), chip=CHIP[:8].ljust(64, b"\0")
    )
    assert verify(report, amd=turin).kind == "sev-snp"
    assert reason(lambda: verify(turin.report(), amd=turin)) is Reason.TCB_MISMATCH


def test_a_clouds_key_signs_for_any_of_its_chips() -> None:
    cloud = Amd(chip=b"")
    report = cloud.report(signer=1, chip=bytes(64))
    assert verify(report, amd=cloud).platform == "00" * 64
    for listed in (CHIP.hex(), "00" * 64):  # zeros name no machine
        found = reason(lambda p=listed: verify(report, amd=cloud, platforms=(p,)))  # type: ignore[misc]
        assert found is Reason.PLATFORM
    assert reason(lambda: verify(cloud.report(), amd=cloud)) is Reason.TCB_MISMATCH


def test_another_root_and_another_chain_are_refused() -> None:
    other = Amd()
    assert reason(lambda: verify(roots=other.roots)) is Reason.WRONG_ROOT
    assert reason(lambda: verify(chain=other.chain, roots=other.roots)) is Reason.CERTIFICATE
    assert reason(lambda: verify(other.report())) is Reason.SIGNATURE
    assert reason(lambda: verify(chain=b"none")) is Reason.CERTIFICATE
    half = AMD.chain[: len(AMD.chain) // 2]
    assert reason(lambda: verify(chain=half)) is Reason.CERTIFICATE
    no_authority = Amd(ca=False)
    assert reason(lambda: verify(amd=no_authority)) is Reason.CERTIFICATE


def test_certificates_count_in_their_time_only() -> None:
    for days in (-101, 101):
        at = NOW + timedelta(days=days)
        found = reason(lambda t=at: verify(now=t))  # type: ignore[misc]
        assert found is Reason.CERTIFICATE_EXPIRED


def test_amds_revocation_list_counts_where_it_was_imported() -> None:
    assert verify(revocation_list=AMD.revocation_list(99)).kind == "sev-snp"
    revoked = AMD.revocation_list(7)
    assert reason(lambda: verify(revocation_list=revoked)) is Reason.REVOKED
    over = AMD.revocation_list(days=-1)
    assert reason(lambda: verify(revocation_list=over)) is Reason.COLLATERAL_EXPIRED
    foreign = Amd().revocation_list()
    assert reason(lambda: verify(revocation_list=foreign)) is Reason.COLLATERAL_SIGNATURE
    assert reason(lambda: verify(revocation_list=b"none")) is Reason.CERTIFICATE
    assert reason(lambda: verify(strict=True)) is Reason.COLLATERAL_MISSING
    assert verify(revocation_list=AMD.revocation_list(99), strict=True).kind == "sev-snp"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=REPORT_BYTES + 1))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert reason(lambda: verify(data)) is Reason.MALFORMED
    filled = data[:REPORT_BYTES].ljust(REPORT_BYTES, b"\0")
    assert reason(lambda: verify(filled)) is not None
