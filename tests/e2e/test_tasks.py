"""Tasks of a study, as their people run them: lenders, an enclave, a researcher; real processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.sites import RESEARCHER, SITES

import cohortium as co
from cohortium.demo.consortium import Consortium, together
from cohortium.enclave.executors.landlock import Landlock
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    PeerError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.sdk.tasks import TaskResult

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("e2e"),
    pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine"),
]

STUDY = "lent-numbers"
ENCLAVE, ROGUE = "Enclave North", "Enclave Rogue"
LENDERS = SITES[:2]
MARKER = "planted-4711-marker"

NAMED = f"security_level: L2\nenvironment: {{enclaves: [{{name: {ENCLAVE}}}]}}"

PROGRAM = {
    "task.yaml": """\
command: ["{python}", "-I", "{code}/add.py", "{inputs.first}", "{inputs.second}",
          "{outputs.sum}", "{outputs.share}", "{arguments.seconds}"]
inputs: {first: dataset, second: dataset}
outputs: [sum, share]
arguments: {seconds: 0}
limits: {memory_bytes: 268435456, time_s: 60, disk_bytes: 1048576}
""",
    "add.py": """\
import sys, time
from pathlib import Path

first, second, total, share, seconds = sys.argv[1:]
numbers = []
for path in (first, second):
    for file in sorted(p for p in [Path(path), *Path(path).rglob("*")] if p.is_file()):
        numbers += [int(line) for line in file.read_text().split() if line.isdigit()]
print("read", len(numbers), flush=True)
time.sleep(float(seconds))
if float(seconds) < 0:
    raise SystemExit(3)
Path(total, "sum.txt").write_text(str(sum(numbers)))
Path(share, "count.txt").write_text(str(len(numbers)))
""",
}


def proposal(code: Path, study: str = STUDY, where: str = NAMED) -> str:
    first, second = LENDERS
    return f"""\
study: {study}
title: The sum of lent numbers
purpose: To see that nobody but the program reads them.
participants: [{{name: {first}}}, {{name: {second}}}]
{where}
tasks:
  - name: add
    code: {{folder: {code}}}
    arguments: [{{name: seconds, required: false}}]
    inputs:
      - {{name: first, kind: dataset, owners: [{first}]}}
      - {{name: second, kind: dataset, owners: [{second}]}}
    outputs:
      - {{name: sum, owners: [{RESEARCHER}], recipients: [{RESEARCHER}]}}
      - {{name: share, owners: [{second}], recipients: [{second}]}}
    log_recipients: [{RESEARCHER}]
    max_runs: 40
recipients: [{RESEARCHER}]
expires_at: "2099-12-31T00:00:00Z"
"""


def agree(consortium: Consortium, study: str, text: str) -> None:
    fills = zip(("add/first", "add/second"), LENDERS, strict=True)
    consortium.agree_on_tasks(study, text, {slot: (site, "numbers") for slot, site in fills})


@pytest.fixture(scope="module")
def lent(consortium: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """An active study with one task; its enclave, and another that it does not name."""
    folder = tmp_path_factory.mktemp("lent")
    code = folder / "program"
    code.mkdir()
    for name, text in PROGRAM.items():
        (code / name).write_text(text)
    together(consortium.add_enclave, (ENCLAVE, ROGUE))
    for number, site in enumerate(LENDERS):
        data = folder / f"data{number}"
        (data / "sub").mkdir(parents=True)
        (data / "a.txt").write_text(f"{MARKER} 1 2 3")
        (data / "sub" / "b.txt").write_text(str(10 * (number + 1)))
        consortium.lend(site, "numbers", data)
    agree(consortium, STUDY, proposal(code))
    yield consortium
    for name in (ENCLAVE, ROGUE):
        consortium.services[f"enclave/{name}"].end()


@pytest.fixture
def study(lent: Consortium, federation: co.Federation) -> co.Study:
    return federation.study(STUDY)


def files_of(consortium: Consortium) -> Iterator[Path]:
    for top in (consortium.hub_dir, consortium.root / "enclaves"):
        yield from (one for one in top.rglob("*") if one.is_file())


def wait_for_stage(run: Any, word: str) -> None:
    deadline = time.monotonic() + 60
    while word not in run.refresh().message:
        assert not run.info.finished, run.info
        assert time.monotonic() < deadline, run.info
        time.sleep(0.05)


def test_the_outputs_reach_their_recipients_and_nobody_else(
    lent: Consortium, study: co.Study, tmp_path: Path
) -> None:
    done = lent.cli("task", "run", STUDY, "add", "-a", "seconds=0", "--to", str(tmp_path / "out"))
    assert (tmp_path / "out" / "sum" / "sum.txt").read_text() == "42"
    assert done["readable"] == ["sum"]
    assert done["outcome"]["executor"] in {"landlock", "bubblewrap"}
    log = lent.cli("task", "logs", done["run"]["id"])
    assert log["log"] == "read 8\n"
    result = study.task("add").run()
    assert isinstance(result, TaskResult)
    assert result.read("sum") == b"42"
    with pytest.raises(PolicyRefusal):
        result.read("share")
    node = str(lent.node_dir(LENDERS[1]))

    def received() -> bool:
        there = lent.cli("lend", "received", "--dir", node)
        return result.run.id in {one["run_id"] for one in there}

    lent._wait_for("the lender's own output", received)
    place = tmp_path / "share"
    lent.cli("lend", "open", result.run.id, "share", "--to", str(place), "--dir", node)
    assert [one.read_text() for one in place.rglob("*.txt")] == ["8"]


def test_no_word_of_what_was_lent_stands_at_hub_or_enclave(lent: Consortium) -> None:
    scanned = list(files_of(lent))
    assert sum(one.stat().st_size for one in scanned) > 10_000
    assert not [one for one in scanned if MARKER.encode() in one.read_bytes()]


def test_each_lender_sees_what_it_released_and_why(lent: Consortium, study: co.Study) -> None:
    run = study.task("add").submit().wait()
    for site in LENDERS:
        entries = lent.cli("node", "journal", "--dir", str(lent.node_dir(site)))
        mine = [one for one in entries if one.get("run_id") == run.id]
        assert mine
        assert all(one["allowed"] for one in mine), mine
    bundle = lent.root / "tasks-evidence.json"
    lent.cli("audit", "export", STUDY, "--whole", "--output", str(bundle))
    told = lent.cli("audit", "verify", str(bundle))
    events = [one for one in told["timeline"] if run.id[:8] in one["what"]]
    released = [one for one in events if f"to the enclave {ENCLAVE} (" in one["what"]]
    assert {one["who"] for one in released} == set(LENDERS)


def test_a_program_that_fails_says_so_and_gives_nothing(study: co.Study) -> None:
    with pytest.raises(ConflictError) as caught:
        study.task("add").run(seconds=-1)
    assert caught.value.code == "task-failed"


def test_what_the_contract_does_not_have_is_refused(lent: Consortium) -> None:
    for arguments, code in (
        (["add", "-a", "depth=3"], "bad-input"),
        (["subtract"], "not-found"),
        (["add", "-a", "seconds"], "bad-input"),
    ):
        with pytest.raises(CohortiumError) as caught:
            lent.cli("task", "run", STUDY, *arguments)
        assert caught.value.code == code


@pytest.mark.parametrize("measured", [True, False])
def test_keys_go_to_the_approved_measurement_only(
    lent: Consortium, federation: co.Federation, tmp_path: Path, measured: bool
) -> None:
    code = tmp_path / "program"
    code.mkdir()
    for name, text in PROGRAM.items():
        (code / name).write_text(text)
    (told,) = lent.cli("enclave", "measure", str(code), "--executor", "simulated")
    value = told["executors"][0]["measurements"][0]["value"] if measured else "ab" * 32
    study = "measured" if measured else "mismeasured"
    where = (
        "security_level: L4\nenvironment: {allow_simulated: true, executor: simulated, "
        f"measurements: [{{kind: simulated, value: {value}}}]}}"
    )
    agree(lent, study, proposal(code, study, where))
    task = federation.study(study).task("add")
    if measured:
        assert task.run().read("sum") == b"42"
        return
    with pytest.raises(VerificationError) as caught:
        task.run()
    assert caught.value.code == "evidence-refused"
    assert caught.value.details["reason"] == "measurement"


def kill_hub(lent: Consortium) -> None:
    lent.kill("hub")
    lent.restart("hub")


def kill_lender(lent: Consortium) -> None:
    lent.kill(f"node/{LENDERS[0]}")
    lent.restart(f"node/{LENDERS[0]}")


@pytest.mark.parametrize("kill", [kill_hub, kill_lender])
def test_a_task_goes_on_when_hub_or_lender_is_killed(
    lent: Consortium, study: co.Study, kill: Callable[[Consortium], None]
) -> None:
    run = study.task("add").submit(seconds=2)
    wait_for_stage(run, "running")
    kill(lent)
    result = run.wait(timeout_s=90).result()
    assert isinstance(result, TaskResult)
    assert result.read("sum") == b"42"
    lent.wait_connected(SITES)


def test_a_killed_enclave_takes_its_keys_with_it_and_the_next_run_works(
    lent: Consortium, study: co.Study
) -> None:
    run = study.task("add").submit(seconds=30)
    wait_for_stage(run, "running")
    lent.services[f"enclave/{ENCLAVE}"].end(signal.SIGKILL)
    lent.restart(f"enclave/{ENCLAVE}")
    with pytest.raises(PeerError) as caught:
        run.wait(timeout_s=60).result()
    assert caught.value.code == "enclave-lost"
    assert study.task("add").run().read("sum") == b"42"


def test_a_cancelled_task_is_stopped(lent: Consortium, study: co.Study) -> None:
    run = study.task("add").submit(seconds=50)
    wait_for_stage(run, "running")
    run.cancel()
    assert run.refresh().status == "cancelled"
    began = time.monotonic()
    assert study.task("add").run().read("sum") == b"42"
    assert time.monotonic() - began < 30


def test_after_a_revocation_no_key_is_given(lent: Consortium, study: co.Study) -> None:
    node = str(lent.node_dir(LENDERS[0]))
    lent.cli("study", "suspend", STUDY, "--reason", "A question.", "--dir", node)
    lent.wait_status(STUDY, "suspended")
    with pytest.raises(PolicyRefusal) as caught:
        study.task("add").run()
    assert caught.value.code == "contract-suspended"
    lent.cli("study", "resume", STUDY, "--reason", "Answered.", "--dir", node)
    lent.wait_status(STUDY, "active")
    assert study.task("add").run().read("sum") == b"42"
    lent.cli("study", "revoke", STUDY, "--reason", "No more.", "--dir", node)
    lent.wait_status(STUDY, "revoked")
    with pytest.raises(PolicyRefusal) as ended:
        study.task("add").run()
    assert ended.value.code == "contract-ended"
