"""The simulated TEE: refused unless a contract allows it, and never more than its sandbox."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.tasks import job

from cohortium.contract.model import Environment, Measurement
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.simulated import verify_simulated
from cohortium.enclave.executor import executors
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.executors.simulated import Simulated, measurement
from cohortium.enclave.levels import offers
from cohortium.errors import PolicyRefusal, VerificationError

ALLOWED = Environment(allow_simulated=True)
ASKED = bytes(range(64))
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize("environment", [None, Environment()])
def test_it_is_refused_unless_a_contract_allows_it(
    tmp_path: Path, environment: Environment | None
) -> None:
    place = Simulated(environment)
    assert "allow_simulated" in place.missing()[0]
    with pytest.raises(PolicyRefusal, match="allow_simulated"):
        place.start(place.prepare(job(tmp_path, "print(1)")))


def test_by_default_it_is_not_allowed() -> None:
    assert executors()["simulated"].missing()
    assert executors(ALLOWED)["simulated"].missing() == Landlock().missing()


def test_it_never_counts_as_hardware(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for device in ("sgx_enclave", "tpmrm0"):
        (tmp_path / "dev" / device).touch()
    found = {one.level: one for one in offers([Simulated(ALLOWED)], tmp_path)}
    for level in ("L3", "L4", "L5"):
        assert found[level].executors == ()
        assert not found[level].offered


def test_its_evidence_is_marked_and_bound(tmp_path: Path) -> None:
    place = Simulated(ALLOWED)
    if place.missing():
        pytest.skip("; ".join(place.missing()))
    made = job(tmp_path, "print('inside')")
    prepared = place.prepare(made)
    running = place.start(prepared)
    evidence = running.evidence(ASKED)
    assert running.wait().log == b"inside\n"
    running.collect(None)
    assert evidence is not None
    assert b"simulated: no hardware" in evidence
    expected = Measurement(kind="simulated", value=prepared.files["measurement"].decode())
    policy = AppraisalPolicy(measurements=(expected,), allow_simulated=True)
    assert verify_simulated(evidence, policy, report_data=ASKED, now=NOW).simulated
    with pytest.raises(VerificationError, match="does not allow"):
        verify_simulated(
            evidence, AppraisalPolicy(measurements=(expected,)), report_data=ASKED, now=NOW
        )


def test_another_program_has_another_measurement(tmp_path: Path) -> None:
    made = job(tmp_path, "print(1)")
    first = measurement(made)
    assert measurement(job(tmp_path, "print(1)")) == first
    assert measurement(replace(made, argv=("/bin/true",))) != first
    assert measurement(job(tmp_path, "print(2)")) != first
