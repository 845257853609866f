"""Which security levels a machine can offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cohortium.contract.task import SecurityLevel
from cohortium.enclave.executor import executors
from cohortium.enclave.levels import LEVELS, MEANING, Offer, offers, reaches


class _Place:
    def __init__(self, name: str, level: SecurityLevel, *missing: str) -> None:
        self.name = name
        upto = LEVELS[: LEVELS.index(level) + 1]
        self.levels = tuple(one for one in upto if one != "L3" or level == "L3")
        self._missing = missing

    def missing(self) -> tuple[str, ...]:
        return self._missing


def _offers(root: Path, *places: Any) -> dict[str, Offer]:
    return {one.level: one for one in offers(places, root)}


def test_a_level_is_offered_by_executors_that_reach_it_and_can_run(tmp_path: Path) -> None:
    found = _offers(
        tmp_path, _Place("process", "L1"), _Place("landlock", "L2"), _Place("gvisor", "L2", "no")
    )
    assert found["L1"].executors == ("process", "landlock")
    assert found["L2"].executors == ("landlock",)
    assert [level for level in LEVELS if found[level].offered] == ["L1", "L2"]


def test_why_a_level_is_not_offered_names_the_executors(tmp_path: Path) -> None:
    found = _offers(tmp_path, _Place("gvisor", "L2", "runsc is not installed"))["L2"]
    assert not found.offered
    needed = [line for line in found.requirements if line.needed]
    assert [(line.text, line.missing) for line in needed] == [("gvisor", "runsc is not installed")]


def test_whether_memory_is_bounded_by_a_control_group_is_told_and_not_asked_for(
    tmp_path: Path,
) -> None:
    found = _offers(tmp_path, _Place("landlock", "L2"))["L2"]
    (line,) = (one for one in found.requirements if not one.needed)
    assert found.offered
    assert "control group" in line.text
    assert "cannot be written to" in line.missing
    for controller in ("memory", "pids"):
        (tmp_path / "sys/fs/cgroup" / controller).mkdir(parents=True)
    (line,) = (one for one in _offers(tmp_path)["L2"].requirements if not one.needed)
    assert line.holds


def test_why_l5_is_not_offered_is_not_told_twice(tmp_path: Path) -> None:
    found = _offers(
        tmp_path, _Place("tdx", "L5", "no device"), _Place("sev-snp", "L5", "no device")
    )
    assert [line.text for line in found["L4"].requirements[:2]] == ["tdx", "sev-snp"]
    assert found["L5"].requirements[0].missing == "as for L4"
    assert found["L3"].requirements[0].missing == "no executor for it is installed"


@pytest.mark.parametrize(
    ("device", "evidence"),
    [
        ("sgx_enclave", "dev/sgx_provision"),
        ("tdx_guest", "sys/kernel/config/tsm/report"),
        ("sev-guest", "sys/kernel/config/tsm/report"),
    ],
)
def test_hardware_and_its_evidence_are_looked_for(
    tmp_path: Path, device: str, evidence: str
) -> None:
    place = _Place("hardware", "L5")
    without = _offers(tmp_path, place)
    assert not without["L4"].offered
    assert not without["L5"].offered
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / device).touch()
    lines = {line.text: line.missing for line in _offers(tmp_path, place)["L4"].requirements}
    assert lines["its evidence"] == f"/{evidence} is not there"
    (tmp_path / evidence).mkdir(parents=True)
    found = _offers(tmp_path, place)
    assert found["L4"].offered
    assert found["L5"].offered
    assert not found["L3"].offered  # there is no TPM


def test_a_contract_s_sandbox_is_not_an_enclave_without_one() -> None:
    """SGX keeps the host out, not the program in."""
    known = executors()
    for name in ("gramine", "occlum", "scone"):
        assert [level for level in LEVELS if reaches(known[name], level)] == ["L4", "L5"]
    for name in ("tdx", "sev-snp"):
        assert [level for level in LEVELS if reaches(known[name], level)] == [
            "L1",
            "L2",
            "L4",
            "L5",
        ]
    assert [level for level in LEVELS if reaches(known["tpm"], level)] == ["L1", "L2", "L3"]
    assert not reaches(known["process"], "L2")
    assert not reaches(known["simulated"], "L3")


def test_a_measured_host_has_a_tpm_its_log_and_its_library(tmp_path: Path) -> None:
    lines = _offers(tmp_path, _Place("tpm", "L3"))["L3"].requirements
    assert [line.text for line in lines if not line.holds][:2] == [
        "a TPM 2.0",
        "an event log of the measured boot",
    ]
    for path in ("dev/tpmrm0", "sys/kernel/security/tpm0/binary_bios_measurements"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    lines = _offers(tmp_path, _Place("tpm", "L3"))["L3"].requirements
    assert {line.text for line in lines if not line.holds} <= {"the TPM's library"}


def test_every_level_says_what_it_means() -> None:
    assert set(MEANING) == set(LEVELS)
