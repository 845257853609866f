"""Genuine quotes of a made-up Intel, each wrong in one respect: each refused for its own reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.dcap import FMSPC, NOW, PPID, Intel, sgx_report, tdx_report

from cohortium.contract.model import Environment, Measurement
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.dcap import platform_of
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.sgx import verify_sgx
from cohortium.enclave.attestation.tdx import verify_tdx
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import InputError, PolicyRefusal, VerificationError

SIGNER = Measurement(kind="mrsigner", value="22" * 32, product=7, min_svn=3)
ENCLAVE = Measurement(kind="mrenclave", value="11" * 32)
TD = tuple(
    Measurement(kind=kind, value=value * 48)
    for kind, value in (("mrtd", "33"), ("rtmr1", "41"), ("rtmr2", "42"), ("rtmr0", "40"))
)


def verify(
    intel: Intel,
    report: bytes,
    *,
    now: datetime = NOW,
    report_data: bytes = bytes(64),
    root: bytes | None = None,
    quote: bytes | None = None,
    qe_attributes: int = 0x11,
    **policy: Any,
) -> Verdict:
    policy.setdefault("measurements", (ENCLAVE, SIGNER, *TD))
    verifier = verify_sgx if intel.tee == "SGX" else verify_tdx
    return verifier(
        quote or intel.quote(report, qe_attributes=qe_attributes),
        Collateral.parse(intel.collateral()),
        AppraisalPolicy(**policy),
        report_data=report_data,
        now=now,
        root_ca=root or intel.root_der,
    )


def refused(run: Callable[[], Any]) -> tuple[str, Reason | None]:
    with pytest.raises(VerificationError) as caught:
        run()
    return caught.value.code, reason_of(caught.value)


@pytest.fixture(scope="module")
def sgx() -> Intel:
    return Intel("SGX")


@pytest.fixture(scope="module")
def tdx() -> Intel:
    return Intel("TDX")


def test_a_verdict_says_what_was_seen_and_by_what_it_was_judged(sgx: Intel, tdx: Intel) -> None:
    verdict = verify(sgx, sgx_report(report_data=b"\x07" * 64), report_data=b"\x07" * 64)
    assert verdict.kind == "sgx"
    assert verdict.measurements == {"mrenclave": "11" * 32, "mrsigner": "22" * 32}
    assert (verdict.product, verdict.security_version, verdict.platform) == (7, 3, PPID)
    assert (verdict.tcb_status, verdict.advisories) == ("UpToDate", ())
    assert verdict.report_data == "07" * 64
    assert verdict.expires_at == NOW + timedelta(days=30)
    assert not verdict.simulated
    other = verify(tdx, tdx_report())
    assert other.measurements["rtmr3"] == "43" * 48
    assert other.product is None


@pytest.mark.parametrize(
    ("report", "policy", "reason"),
    [
        ({"attributes": 0x7}, {}, Reason.DEBUG),
        ({"attributes": 0x4}, {}, Reason.ATTRIBUTES),
        ({"attributes": 0x15}, {}, Reason.ATTRIBUTES),
        ({"attributes": 0x25}, {}, Reason.ATTRIBUTES),
        ({"mrenclave": bytes(32)}, {}, Reason.MEASUREMENT),
        ({"mrsigner": bytes(32)}, {}, Reason.SIGNER),
        ({"product": 8}, {}, Reason.PRODUCT),
        ({"svn": 2}, {}, Reason.SVN),
        ({"report_data": b"\x01" + bytes(63)}, {}, Reason.BINDING),
        ({}, {"platforms": ("00" * 16,)}, Reason.PLATFORM),
        ({}, {"min_tcb_evaluation": 18}, Reason.TCB_EVALUATION),
        ({}, {"measurements": TD}, Reason.NO_REFERENCE),
        ({}, {"measurements": ()}, Reason.NO_REFERENCE),
    ],
)
def test_a_genuine_enclave_that_is_not_the_one_asked_for_is_refused(
    sgx: Intel, report: dict[str, Any], policy: dict[str, Any], reason: Reason
) -> None:
    code, found = refused(lambda: verify(sgx, sgx_report(**report), **policy))
    assert (code, found) == ("evidence-refused", reason)


@pytest.mark.parametrize(
    ("report", "policy", "reason"),
    [
        ({"attributes": 1 << 28 | 1}, {}, Reason.DEBUG),
        ({"attributes": 0}, {}, Reason.ATTRIBUTES),
        ({"attributes": 1 << 28 | 1 << 29}, {}, Reason.MIGRATION),
        ({"mrtd": bytes(48)}, {}, Reason.MEASUREMENT),
        ({"report_data": b"\x01" * 64}, {}, Reason.BINDING),
        ({}, {"measurements": TD[:1]}, Reason.NO_REFERENCE),
        ({}, {"measurements": TD[:3]}, Reason.NO_REFERENCE),
        # The host's ACPI tables are in RTMR 0.
        (
            {},
            {"measurements": (*TD[:3], Measurement(kind="rtmr0", value="00" * 48))},
            Reason.MEASUREMENT,
        ),
        (
            {},
            {"measurements": (*TD, Measurement(kind="rtmr3", value="00" * 48))},
            Reason.MEASUREMENT,
        ),
        ({}, {"platforms": ("00" * 16,)}, Reason.PLATFORM),
    ],
)
def test_a_genuine_virtual_machine_that_is_not_the_one_asked_for_is_refused(
    tdx: Intel, report: dict[str, Any], policy: dict[str, Any], reason: Reason
) -> None:
    code, found = refused(lambda: verify(tdx, tdx_report(**report), **policy))
    assert (code, found) == ("evidence-refused", reason)


def test_the_platforms_state_is_judged_and_revoked_never_accepted() -> None:
    intel = Intel("SGX")
    for state in ("SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate"):
        intel.level["tcbStatus"] = state
        assert refused(lambda: verify(intel, sgx_report()))[1] is Reason.TCB_STATUS
        accepted = verify(intel, sgx_report(), tcb_states=("UpToDate", state))
        assert accepted.tcb_status == state
    intel.level["tcbStatus"] = "Revoked"
    for states in (("UpToDate",), ("UpToDate", "Revoked")):
        found = refused(lambda s=states: verify(intel, sgx_report(), tcb_states=s))  # type: ignore[misc]
        assert found == ("evidence-refused", Reason.TCB_STATUS)


def test_an_open_advisory_is_refused_unless_it_is_accepted_by_name() -> None:
    intel = Intel("SGX")
    intel.level["advisoryIDs"] = ["INTEL-SA-00615", "INTEL-SA-00289"]
    one: dict[str, Any] = {"advisories": ("INTEL-SA-00615",)}
    assert refused(lambda: verify(intel, sgx_report()))[1] is Reason.ADVISORY
    assert refused(lambda: verify(intel, sgx_report(), **one))[1] is Reason.ADVISORY
    both = ("INTEL-SA-00615", "INTEL-SA-00289")
    assert set(verify(intel, sgx_report(), advisories=both).advisories) == set(both)


def test_a_platform_older_than_every_known_state_is_refused() -> None:
    intel = Intel("SGX")
    intel.level["tcb"]["pcesvn"] = 14
    assert refused(lambda: verify(intel, sgx_report()))[1] is Reason.TCB_UNKNOWN


def test_collateral_counts_in_its_time_only(sgx: Intel) -> None:
    def at(days: float, **policy: Any) -> Reason | None:
        return refused(lambda: verify(sgx, sgx_report(), now=NOW + timedelta(days=days), **policy))[
            1
        ]

    assert at(-0.5) is Reason.COLLATERAL_FUTURE
    assert at(31) is Reason.COLLATERAL_EXPIRED
    assert at(8, max_collateral_age_s=7 * 86_400) is Reason.COLLATERAL_STALE
    late = NOW + timedelta(days=7)
    assert verify(sgx, sgx_report(), now=late, max_collateral_age_s=7 * 86_400).kind == "sgx"


def test_a_revoked_platform_and_a_revoked_authority_are_refused() -> None:
    for name in ("pck", "ca", "signer", "root"):
        intel = Intel("SGX")
        intel.revoked = [getattr(intel, name)]
        code, reason = refused(lambda i=intel: verify(i, sgx_report()))  # type: ignore[misc]
        assert (code, reason) == ("evidence-refused", Reason.REVOKED)


def test_another_root_is_refused(sgx: Intel) -> None:
    other = Intel("SGX").root_der
    found = refused(lambda: verify(sgx, sgx_report(), root=other))
    assert found == ("bad-evidence", Reason.WRONG_ROOT)


def test_collateral_of_other_platforms_is_refused(sgx: Intel, tdx: Intel) -> None:
    intel = Intel("SGX")
    intel.tcb["fmspc"] = "00" * 6
    assert refused(lambda: verify(intel, sgx_report()))[1] is Reason.COLLATERAL_MISMATCH
    policy = AppraisalPolicy(measurements=(ENCLAVE,))
    wrong = Collateral.parse(tdx.collateral())
    found = refused(
        lambda: verify_sgx(sgx.quote(sgx_report()), wrong, policy, report_data=bytes(64), now=NOW)
    )
    assert found[1] is Reason.COLLATERAL_MISMATCH
    intel = Intel("SGX")
    intel.identity["id"] = "TD_QE"
    assert refused(lambda: verify(intel, sgx_report()))[1] is Reason.COLLATERAL_MISMATCH


def test_a_quoting_enclave_that_is_not_intels_is_refused() -> None:
    intel = Intel("SGX")
    intel.identity["mrsigner"] = "00" * 32
    found = refused(lambda: verify(intel, sgx_report()))
    assert found == ("bad-evidence", Reason.QUOTING_ENCLAVE)
    intel = Intel("SGX")
    found = refused(lambda: verify(intel, sgx_report(), qe_attributes=0x13))
    assert found == ("bad-evidence", Reason.QUOTING_ENCLAVE)


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_collateral_that_intel_did_not_sign_is_refused(sgx: Intel, name: str) -> None:
    fields = json.loads(sgx.collateral())
    fields[name] = fields[name].replace('"tcbStatus": "UpToDate"', '"tcbStatus": "OutOfDate"')
    found = refused(
        lambda: verify_sgx(
            sgx.quote(sgx_report()),
            Collateral.parse(json.dumps(fields).encode()),
            AppraisalPolicy(measurements=(ENCLAVE,)),
            report_data=bytes(64),
            now=NOW,
            root_ca=sgx.root_der,
        )
    )
    assert found == ("bad-evidence", Reason.COLLATERAL_SIGNATURE)


def test_a_quote_of_the_other_technology_is_refused(sgx: Intel, tdx: Intel) -> None:
    for intel, other in ((sgx, tdx), (tdx, sgx)):
        report = sgx_report() if other.tee == "SGX" else tdx_report()
        found = refused(lambda i=intel, o=other, r=report: verify(i, b"", quote=o.quote(r)))  # type: ignore[misc]
        assert found == ("evidence-refused", Reason.WRONG_KIND)


def test_a_quote_is_known_by_its_signed_part(sgx: Intel) -> None:
    quote = sgx.quote(sgx_report())
    longer = verify(sgx, b"", quote=quote + b"anything")
    assert longer.signed_digest == verify(sgx, b"", quote=quote).signed_digest
    assert longer.signed_digest != verify(sgx, sgx_report(svn=4)).signed_digest


def test_a_quote_names_the_collateral_that_it_needs(sgx: Intel, tdx: Intel) -> None:
    assert platform_of(sgx.quote(sgx_report())) == ("sgx", FMSPC)
    assert platform_of(tdx.quote(tdx_report())) == ("tdx", FMSPC)
    assert refused(lambda: platform_of(b"no quote"))[1] is Reason.MALFORMED


def test_a_policy_comes_from_the_contracts_environment() -> None:
    environment = Environment(measurements=(SIGNER,), tcb_states=("SWHardeningNeeded",))
    policy = AppraisalPolicy.from_environment(environment, level="L4", platforms=[PPID])
    assert policy.measurements == (SIGNER,)
    assert (policy.tcb_states, policy.platforms) == (("SWHardeningNeeded",), (PPID,))
    assert not policy.allow_simulated
    assert AppraisalPolicy.from_environment(Environment(), level="L4").tcb_states == ("UpToDate",)


@pytest.mark.parametrize(
    ("environment", "platforms"),
    [
        (Environment(measurements=(ENCLAVE,)), None),
        (Environment(measurements=(ENCLAVE,), tcb_states=("UpToDate", "OutOfDate")), [PPID]),
        (Environment(measurements=(ENCLAVE,), allow_simulated=True), [PPID]),
    ],
)
def test_the_highest_level_takes_no_weaker_environment(
    environment: Environment, platforms: list[str] | None
) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        AppraisalPolicy.from_environment(
            environment, level="L5", platforms=platforms, min_tcb_evaluation=17
        )
    assert caught.value.code == "unenforceable"
    good = Environment(measurements=(ENCLAVE,))
    with pytest.raises(PolicyRefusal, match="min_tcb_evaluation"):
        AppraisalPolicy.from_environment(good, level="L5", platforms=[PPID])
    policy = AppraisalPolicy.from_environment(
        good, level="L5", platforms=[PPID], min_tcb_evaluation=17, max_collateral_age_s=60
    )
    assert (policy.platforms, policy.strict) == ((PPID,), True)
    assert (policy.min_tcb_evaluation, policy.max_collateral_age_s) == (17, 60)


def test_the_highest_level_takes_no_signer_in_place_of_a_program(sgx: Intel) -> None:
    assert verify(sgx, sgx_report(), measurements=(SIGNER,)).kind == "sgx"
    found = refused(lambda: verify(sgx, sgx_report(), measurements=(SIGNER,), strict=True))
    assert found == ("evidence-refused", Reason.NO_REFERENCE)
    both = (SIGNER, ENCLAVE)
    assert verify(sgx, sgx_report(), measurements=both, strict=True).kind == "sgx"


@pytest.mark.parametrize(
    "measurement",
    [
        Measurement(kind="mrunknown", value="11" * 32),
        Measurement(kind="mrenclave", value="11" * 48),
        Measurement(kind="mrtd", value="11" * 32),
        Measurement(kind="mrsigner", value="11" * 32),
        Measurement(kind="mrsigner", value="11" * 32, product=1),
        Measurement(kind="mrenclave", value="11" * 32, product=1, min_svn=1),
        Measurement(kind="pcr16", value="11" * 32),
        Measurement(kind="pcr23", value="11" * 32),
    ],
)
def test_a_register_that_cannot_be_judged_is_refused(measurement: Measurement) -> None:
    with pytest.raises(InputError) as caught:
        AppraisalPolicy.from_environment(Environment(measurements=(measurement,)), level="L4")
    assert caught.value.code == "bad-input"
