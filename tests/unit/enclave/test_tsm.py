"""Evidence of confidential virtual machines, read from the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tasks import job, run
from tests.support.tsm import FakeTsm

from cohortium.enclave import tsm
from cohortium.enclave.executors.confidential import ConfidentialMachine
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.executors.sev_snp import SevSnp
from cohortium.enclave.executors.tdx import Tdx
from cohortium.errors import PolicyRefusal

ASKED = bytes(range(64))
REPORT = Path(__file__).parents[2] / "vectors" / "attestation" / "snp_report.bin"


def _machine(root: Path, of: type[ConfidentialMachine]) -> ConfidentialMachine:
    (root / "dev").mkdir(exist_ok=True)
    (root / of.device).touch()
    return of(root)


def test_a_report_is_asked_for_in_an_entry_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = REPORT.read_bytes()
    fake = FakeTsm(tmp_path, monkeypatch, "sev_guest", lambda _: recorded, auxblob=b"table")
    found = tsm.report(ASKED, provider="sev_guest", root=tmp_path)
    assert found == tsm.Report("sev_guest", recorded, b"table", 1)
    assert fake.asked == [ASKED]
    assert list(fake.folder.iterdir()) == []


def test_another_platform_s_report_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTsm(tmp_path, monkeypatch, "sev_guest", bytes)
    with pytest.raises(PolicyRefusal, match="of 'sev_guest', not of tdx_guest"):
        tsm.report(ASKED, provider="tdx_guest", root=tmp_path)
    assert fake.asked == []
    assert list(fake.folder.iterdir()) == []


def test_an_entry_that_somebody_else_wrote_to_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTsm(tmp_path, monkeypatch, "tdx_guest", lambda _: b"quote")
    fake.writes = 2
    with pytest.raises(PolicyRefusal, match="something else asked"):
        tsm.report(ASKED, provider="tdx_guest", root=tmp_path)


def test_an_empty_report_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTsm(tmp_path, monkeypatch, "tdx_guest", lambda _: b"")
    with pytest.raises(PolicyRefusal, match="empty"):
        tsm.report(ASKED, provider="tdx_guest", root=tmp_path)


def test_without_the_kernel_s_folder_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefusal, match="gives no report"):
        tsm.report(ASKED, provider="tdx_guest", root=tmp_path)
    assert "Linux 6.7" in tsm.missing(tmp_path)[0]


@pytest.mark.parametrize("data", [b"", bytes(63), bytes(65)])
def test_it_is_over_64_bytes(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        tsm.report(data, provider="tdx_guest", root=tmp_path)


@pytest.mark.parametrize("of", [Tdx, SevSnp])
def test_a_machine_without_the_hardware_says_so(
    tmp_path: Path, of: type[ConfidentialMachine]
) -> None:
    place = of(tmp_path)
    why = "; ".join(place.missing())
    assert f"/{of.device} is not there" in why
    assert "configfs" in why
    with pytest.raises(PolicyRefusal, match=of.device):
        place.start(place.prepare(job(tmp_path, "print(1)")))


@pytest.mark.parametrize("of", [Tdx, SevSnp])
def test_a_task_runs_in_the_sandbox_with_the_machine_s_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: type[ConfidentialMachine]
) -> None:
    if Landlock().missing():
        pytest.skip("; ".join(Landlock().missing()))
    FakeTsm(tmp_path, monkeypatch, of.provider, lambda asked: b"quote over " + asked)
    place = _machine(tmp_path, of)
    assert place.missing() == ()
    running = place.start(place.prepare(job(tmp_path, "print('inside')")))
    assert running.evidence(ASKED) == b"quote over " + ASKED
    assert running.wait().log == b"inside\n"
    running.collect(None)
    assert run(place, job(tmp_path, "import socket; socket.socket()"), tmp_path).outcome.end == (
        "failed"
    )
