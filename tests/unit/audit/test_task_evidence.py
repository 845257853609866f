"""Evidence on which lenders relied, appraised once more by who verifies a bundle."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.audit_tasks import (
    CODE,
    LENDERS,
    MEASURED,
    SESSION,
    TaskStory,
    content,
    lending,
    run_at_l4,
    simulated_terms,
    train,
    vault,
)
from tests.support.dcap import NOW as INTEL_NOW
from tests.support.dcap import PPID, Intel, sgx_report
from tests.support.task_lies import Json, proven, told, with_, with_dict

from cohortium.audit.appraisal import appraiser
from cohortium.audit.keys import Shown
from cohortium.core.canonical import digest, digest_bytes
from cohortium.enclave.attestation.appraise import Endorsements
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.session import Session
from cohortium.errors import InputError, VerificationError


def test_evidence_that_nobody_judges_again_is_said_not_to_be_checked() -> None:
    report = told(proven())
    assert [(one.step, one.why) for one in report.unchecked] == [
        ("keys", "the evidence was not appraised again: no verifier was given")
    ] * 2
    assert all(one.index is not None for one in report.unchecked)
    assert report.to_json()["unchecked"][0]["step"] == "keys"


def test_evidence_is_judged_again_by_the_clock_of_its_release() -> None:
    story = TaskStory()
    contract = story.begin(lending(story, **simulated_terms()))
    run_at_l4(story, story.ask(contract))
    seen: list[Shown] = []
    report = told(story.seal(), appraise=seen.append)
    assert report.unchecked == ()
    aarhus, boston = seen
    assert (aarhus.level, aarhus.report_data.hex()) == ("L4", SESSION)
    assert aarhus.arguments == {"epochs": 3}
    assert aarhus.inputs == {slot: content(slot) for slot in LENDERS}
    assert boston.at - aarhus.at < timedelta(minutes=1)
    assert told(story.seal(), appraise=appraiser()).unchecked == ()


@pytest.mark.parametrize(
    "proof",
    [
        {"change": with_dict(measurement="00" * 32)},
        {"change": with_dict(measurement=digest_bytes(b"x").removeprefix("sha256:"))},
    ],
)
def test_evidence_that_is_not_as_the_contract_says_is_found(proof: Json) -> None:
    made = proven(**proof)
    assert len(told(made).unchecked) == 2
    with pytest.raises(VerificationError) as caught:
        told(made, appraise=appraiser())
    assert (caught.value.details["step"], caught.value.details["cause"]) == (
        "keys",
        "evidence-refused",
    )


def test_evidence_that_cannot_be_judged_here_is_not_called_false() -> None:
    def nothing_here(_shown: Shown) -> None:
        raise InputError("missing-extra", "Install cohortium[attestation].")

    report = told(proven(), appraise=nothing_here)
    assert report.unchecked[0].why.endswith("again: Install cohortium[attestation].")
    assert report.checked["keys"] == told(proven()).checked["keys"]


def sgx_run(intel: Intel, level: str = "L4", mrenclave: str = "11", days: int = 0) -> Json:
    """A run in an SGX enclave of a made-up Intel."""
    story = TaskStory()
    story.now = INTEL_NOW + timedelta(days=days)
    terms = simulated_terms(
        measurements=[{"kind": "mrenclave", "value": mrenclave * 32}], allow_simulated=False
    )
    code = {"name": "builtin:join", "content_digest": CODE, "owner": "Ada"}
    task = train(code=code, executor="gramine", security_level=level)
    request = story.ask(story.begin(lending(story, task, **terms)))
    place = with_(executor="gramine", level=level)
    sites: Json = {}
    for site in LENDERS.values():
        quote = intel.quote(sgx_report(report_data=bytes.fromhex(SESSION)))
        release = {"change": story.proven(site, quote=quote)}
        sites = story.lend(request, site, before=sites, change=place, released=release)
    story.finish(request, sites, place)
    return story.seal()


def test_a_quote_is_judged_again_with_collateral_of_its_time() -> None:
    intel = Intel("SGX")
    collateral = Collateral.parse(intel.collateral())
    held = Endorsements(collateral=lambda _tee, _fmspc: collateral, intel_root=intel.root_der)
    judge = appraiser(endorsements=held)
    made = sgx_run(intel)
    assert told(made, appraise=judge).unchecked == ()
    without_any, later = (
        told(made, appraise=appraiser()),
        told(sgx_run(intel, days=40), appraise=judge),
    )
    assert len(without_any.unchecked) == len(later.unchecked) == 2
    assert "no collateral of sgx platforms" in without_any.unchecked[0].why
    assert "valid until" in later.unchecked[0].why
    with pytest.raises(VerificationError, match=r"Step 13 \(keys\).*mrenclave is none"):
        told(sgx_run(intel, mrenclave="33"), appraise=judge)
    strict = sgx_run(intel, level="L5")
    assert "list the platforms" in told(strict, appraise=judge).unchecked[0].why
    mine = appraiser(endorsements=held, platforms=[PPID])
    assert told(strict, appraise=mine).unchecked == ()


def test_evidence_of_a_kind_that_the_level_does_not_take_is_refused() -> None:
    made = proven(simulated_terms(measurements=[{"kind": "simulated", "value": MEASURED}]))
    assert told(made, appraise=appraiser()).unchecked == ()
    with pytest.raises(VerificationError, match=r"L3 is not shown by sgx"):
        appraiser()(_shown_by_sgx())


def _shown_by_sgx() -> Shown:
    seen: list[Shown] = []
    told(sgx_run(Intel("SGX")), appraise=seen.append)
    return replace(seen[0], level="L3")


def test_the_session_is_what_evidence_is_bound_to() -> None:
    """The 64 bytes of an offer are those of a session."""
    session = Session(b"a", b"b", b"e" * 32, digest("c"), vault("run").public.key_id)
    assert len(session.report_data(b"n" * 32).hex()) == len(SESSION)
