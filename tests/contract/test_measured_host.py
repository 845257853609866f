"""Tasks on a measured host: a software TPM (swtpm) that booted what a recorded machine booted."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.support.dcap import NOW
from tests.support.measured_host import LOG, boot, host_in, measured_host, without
from tests.support.swtpm import running
from tests.support.tasks import job, run

from cohortium.contract.model import Measurement
from cohortium.enclave import tpm_exchange, tpm_host
from cohortium.enclave.attestation.appraise import Endorsements, appraise
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.collateral import Collateral
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.tpm import TpmEvidence
from cohortium.enclave.attestation.tpm_events import parse, replay
from cohortium.enclave.attestation.tpm_structures import PublicArea
from cohortium.enclave.executors.tpm import MeasuredHost
from cohortium.enclave.job import Job
from cohortium.enclave.supervised import FolderSink
from cohortium.enclave.task_record import contract_record, task_record
from cohortium.enclave.tpm import Tpm
from cohortium.enclave.tpm_host import EVENT_LOG, TpmHost
from cohortium.errors import PolicyRefusal, VerificationError

pytestmark = pytest.mark.skipif(bool(without()), reason=without())
BOOT = replay(parse(LOG.read_bytes()))
BOOTED = (0, 2, 4, 7, 8, 9)
PROGRAM = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"


@pytest.fixture
def host() -> Iterator[TpmHost]:
    with measured_host() as made:
        yield made


@pytest.fixture
def executor(host: TpmHost) -> MeasuredHost:
    found = MeasuredHost(host)
    if found.missing():
        pytest.skip("; ".join(found.missing()))
    return found


def _no_collateral(kind: str, fmspc: str) -> Collateral:
    raise AssertionError(f"{kind} {fmspc}")


def _policy(host: TpmHost, **changed: Any) -> AppraisalPolicy:
    """A site that enrolled the host, and a contract that names what it booted."""
    wanted = [Measurement(kind=f"pcr{index}", value=BOOT[index].hex()) for index in BOOTED]
    return AppraisalPolicy(
        **{"measurements": tuple(wanted), "platforms": (host.key().name,)} | changed
    )


def _reason(
    policy: AppraisalPolicy,
    record: Record,
    task: tuple[bytes, ...],
    report_data: bytes,
) -> Reason | None:
    """Why the evidence is refused; None where it is accepted."""
    try:
        appraise(
            record,
            Endorsements(_no_collateral),
            policy,
            report_data=report_data,
            now=NOW,
            task=task,
        )
    except VerificationError as error:
        return reason_of(error)
    return None


def _job(folder: Path, content: str = "lent") -> Job:
    (folder / "data.txt").write_text(content)
    return job(folder, PROGRAM, {"data": folder / "data.txt"})


def test_a_task_is_measured_before_it_starts_and_its_evidence_is_accepted(
    host: TpmHost, executor: MeasuredHost, tmp_path: Path
) -> None:
    made, first, again = _job(tmp_path), secrets.token_bytes(64), secrets.token_bytes(64)
    task, policy = task_record(made), _policy(host)
    prepared = executor.prepare(made)
    assert prepared.attest is not None
    assert _reason(policy, prepared.attest(first), task, first) is None
    running = executor.start(prepared)
    evidence = running.evidence(again)
    assert evidence is not None
    outcome = running.wait()
    running.collect(FolderSink(tmp_path / "results"))
    assert outcome.log == b"lent\n"
    record = Record.evidence("tpm", evidence)
    assert _reason(policy, record, task, again) is None
    assert _reason(policy, record, task, first) is Reason.NONCE
    assert TpmEvidence.from_cbor(evidence).tasks == task * 2


def test_another_program_other_arguments_and_other_inputs_are_another_measurement(
    host: TpmHost, executor: MeasuredHost, tmp_path: Path
) -> None:
    made, asked = _job(tmp_path), secrets.token_bytes(64)
    task = task_record(made)
    others = [replace(made, argv=(*made.argv, "--more"))]
    for name, changed in (("program", "print(1)"), ("input", "put in its place")):
        folder = tmp_path / name
        folder.mkdir()
        other = _job(folder, changed if name == "input" else "lent")
        if name == "program":
            (other.code / "main.py").write_text(changed)
        others.append(replace(other, argv=made.argv))
    for other in others:
        attest = executor.prepare(other).attest
        assert attest is not None
        record = attest(asked)
        assert _reason(_policy(host), record, task_record(other), asked) is None
        assert _reason(_policy(host), record, task, asked) is Reason.EVENT


def test_evidence_that_was_changed_or_is_of_another_host_is_refused(
    host: TpmHost, executor: MeasuredHost, tmp_path: Path
) -> None:
    made, asked = _job(tmp_path), secrets.token_bytes(64)
    task = task_record(made)
    attest = executor.prepare(made).attest
    assert attest is not None
    record = attest(asked)
    evidence = TpmEvidence.from_cbor(record.value)

    def judged(changed: TpmEvidence, **policy: Any) -> Reason | None:
        sent = Record.evidence("tpm", changed.to_cbor())
        return _reason(_policy(host, **policy), sent, task, asked)

    assert judged(evidence) is None
    named = _policy(host).measurements
    other = Measurement(kind="pcr4", value="00" * 32)
    changed = tuple(other if one.kind == "pcr4" else one for one in named)
    assert judged(evidence, measurements=changed) is Reason.MEASUREMENT
    assert judged(evidence, measurements=named[1:]) is Reason.NO_REFERENCE
    assert judged(evidence, platforms=("000b" + "00" * 32,)) is Reason.ATTESTATION_KEY
    assert judged(evidence, platforms=None) is Reason.NO_REFERENCE
    forged = evidence.pcrs | {4: bytes(32)}
    assert judged(replace(evidence, pcrs=forged)) is Reason.PCR_DIGEST
    # A log that says that this task was measured after another one, which was not so.
    assert judged(replace(evidence, tasks=(bytes(32), *task))) is Reason.EVENT_LOG
    assert judged(replace(evidence, tasks=())) is Reason.EVENT_LOG
    assert judged(replace(evidence, event_log=b"")) is Reason.EVENT_LOG


def test_a_log_of_what_was_measured_earlier_is_no_log_of_now(host: TpmHost, tmp_path: Path) -> None:
    task, other = task_record(_job(tmp_path)), (sha256(b"another").digest(),)
    asked = secrets.token_bytes(64)
    earlier = host.evidence(task, bytes(64))
    now = host.evidence(other, asked)
    replayed = replace(now, tasks=earlier.tasks)
    record = Record.evidence("tpm", replayed.to_cbor())
    assert _reason(_policy(host), record, task, asked) is Reason.EVENT_LOG


def test_two_tasks_at_one_time_are_each_measured_last_when_they_are_asked(host: TpmHost) -> None:
    one, two = (sha256(b"one").digest(),), (sha256(b"two").digest(),)
    for record in (one, two):
        host.measure(record)
    for record in (one, one, two):
        asked = secrets.token_bytes(64)
        sent = Record.evidence("tpm", host.evidence(record, asked).to_cbor())
        assert _reason(_policy(host), sent, record, asked) is None
    assert host.evidence(two, bytes(64)).tasks == (*one, *two, *one, *two)


def test_many_at_once_take_turns(host: TpmHost) -> None:
    records = [(sha256(bytes([index])).digest(),) * (index + 1) for index in range(6)]
    asked = secrets.token_bytes(64)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda record: host.evidence(record, asked), records))
    for record, evidence in zip(records, found, strict=True):
        sent = Record.evidence("tpm", evidence.to_cbor())
        assert _reason(_policy(host), sent, record, asked) is None
    assert max(len(one.tasks) for one in found) == sum(map(len, records))


def test_a_contracts_task_is_measured_by_what_the_contract_names(
    host: TpmHost, executor: MeasuredHost, tmp_path: Path
) -> None:
    code, lent = "sha256:" + "a" * 64, {"data": "sha256:" + "b" * 64}
    record = contract_record(code, {"epochs": 3, "name": "x"}, lent)
    made = replace(_job(tmp_path), record=record)
    assert run(executor, made, tmp_path).log == "lent"
    evidence = host.evidence(record, bytes(64))
    assert evidence.tasks == record
    assert contract_record(code, {"epochs": "3", "name": "x"}, lent) != record
    assert contract_record(code, {"name": "x", "epochs": 3}, lent) == record


def test_a_program_that_was_changed_since_its_evidence_is_not_started(
    executor: MeasuredHost, tmp_path: Path
) -> None:
    by_content = _job(tmp_path)
    for made in (by_content, replace(by_content, record=task_record(by_content))):
        prepared = executor.prepare(made)
        code = made.code / "main.py"
        code.write_text(code.read_text() + "\nprint('other')")
        with pytest.raises(PolicyRefusal, match="changed since") as caught:
            executor.start(prepared)
        assert caught.value.code == "executor-unavailable"


def test_what_an_interruption_left_in_the_log_is_dropped(host: TpmHost) -> None:
    one, two = (sha256(b"one").digest(),), (sha256(b"two").digest(),)
    host.measure(one)
    with (host.folder / "tasks.log").open("ab") as file:
        file.write(secrets.token_hex(32).encode() + b"\nhalf a li")
    host.measure(two)
    assert host.evidence(two, bytes(64)).tasks == (*one, *two)


def test_a_damaged_log_lasts_until_the_next_start() -> None:
    one, two = (sha256(b"one").digest(),), (sha256(b"two").digest(),)
    with tempfile.TemporaryDirectory() as folder:
        host = host_in(Path(folder))
        with running(Path(folder)):
            boot(host)
            host.make_key()
            host.measure(one)
            (host.folder / "tasks.log").write_bytes(b"\0" * 200)
            with pytest.raises(PolicyRefusal, match="its log was lost"):
                host.measure(two)
        with running(Path(folder)):
            boot(host)
            assert host.evidence(two, bytes(64)).tasks == two


def test_a_host_measures_no_more_than_evidence_can_tell(
    host: TpmHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpm_host, "MOST_TASKS", 3)
    host.measure((bytes(32),) * 2)
    with pytest.raises(PolicyRefusal, match="more than 3 measurements"):
        host.measure((bytes(32),) * 2)
    assert len(host.evidence((bytes(32),), bytes(64)).tasks) == 2


def test_a_task_is_not_started_where_something_else_was_measured(
    host: TpmHost, executor: MeasuredHost, tmp_path: Path
) -> None:
    host.measure((sha256(b"one").digest(),))
    with Tpm(host.tcti) as connection:
        connection.extend(14, bytes(32))
    with pytest.raises(PolicyRefusal, match="something else was measured"):
        executor.start(executor.prepare(_job(tmp_path)))


def test_after_a_restart_the_key_is_the_same_and_the_log_begins_anew() -> None:
    one, two = (sha256(b"one").digest(),), (sha256(b"two").digest(),)
    with tempfile.TemporaryDirectory() as folder:
        host = host_in(Path(folder))
        with running(Path(folder)):
            boot(host)
            name = host.make_key().name
            host.measure(one)
        with running(Path(folder)):
            boot(host)
            evidence = host.evidence(two, bytes(64))
            assert evidence.tasks == two
            assert PublicArea.parse(evidence.attestation_key).name.hex() == name
        for left in Path(folder).glob("tpm2-*.permall"):
            left.unlink()
        with running(Path(folder)):  # whose seeds are new ones, as after TPM2_Clear
            boot(host)
            with pytest.raises(PolicyRefusal, match="was cleared"):
                host.evidence(two, bytes(64))
            with pytest.raises(PolicyRefusal, match="was cleared"):
                tpm_exchange.request(host)


def test_it_says_what_is_missing(host: TpmHost, tmp_path: Path) -> None:
    assert host.missing() == ()
    missing = TpmHost(tmp_path / "nothing", root=tmp_path).missing()
    assert [line.split(" ")[0] for line in missing] == ["/dev/tpmrm0", f"/{EVENT_LOG}", "There"]
    none = MeasuredHost(TpmHost(tmp_path / "nothing", root=tmp_path))
    prepared = none.prepare(_job(tmp_path))
    with pytest.raises(PolicyRefusal, match="/dev/tpmrm0 is not there"):
        none.start(prepared)
    with pytest.raises(PolicyRefusal, match="cannot be reached"), Tpm(f"swtpm:path={tmp_path}/no"):
        pass
