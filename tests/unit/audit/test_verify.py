"""Bundles with one false fact each are refused in the step that has to see it."""

from __future__ import annotations

import copy
from functools import cache

import pytest
from tests.support.audit import Honest, honest
from tests.support.audit_faults import FAULTS, Fault, released, with_key

from cohortium.audit.steps import STEPS
from cohortium.audit.verify import verify
from cohortium.core.canonical import canonical
from cohortium.errors import ProtocolError, VerificationError


@cache
def _honest() -> Honest:
    return honest()


@pytest.fixture
def story() -> Honest:
    """The honest story, to be spoiled."""
    return copy.deepcopy(_honest())


@pytest.mark.parametrize("coverage", ["study", "log"])
def test_an_honest_bundle_holds_in_every_step(story: Honest, coverage: str) -> None:
    report = verify(canonical(story.story.seal(coverage)), results=released(story))
    assert report.study == "lung"
    assert report.complete is (coverage == "log")
    assert report.size == len(story.story.log)
    assert report.results == tuple(sorted(released(story)))
    assert {name for name, facts in report.checked.items() if facts == 0} == set()
    assert set(report.checked) == set(STEPS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.step}: {fault.name}")
def test_a_false_fact_is_found_in_its_step(story: Honest, fault: Fault) -> None:
    data = fault.data(story)
    with pytest.raises((VerificationError, ProtocolError)) as caught:
        verify(data, trust=fault.trust, results=fault.results(story))
    error = caught.value
    assert error.details["step"] == fault.step, error.message
    assert error.code == ("malformed-message" if fault.step == "format" else "bad-bundle")
    assert error.message.startswith(f"Step {STEPS[fault.step].number} ({fault.step})")
    assert STEPS[fault.step].means in error.message
    assert error.details.get("cause") != "internal"


def test_every_step_has_its_faults() -> None:
    assert {fault.step for fault in FAULTS} == set(STEPS)
    assert len({(fault.step, fault.name) for fault in FAULTS}) == len(FAULTS) >= 30


def test_evidence_is_appraised_against_the_contract(story: Honest) -> None:
    seen = []
    data = canonical(with_key(story))
    verify(data, appraise=lambda evidence, contract: seen.append((evidence, contract.digest)))
    assert seen == [(b"quote", story.second.digest)]
