"""SIGKILL of the hub at durable writes of a task's run: it ends once, in the same enclave."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.source import ROOT

pytestmark = pytest.mark.slow

STAGES = ["released:after", "take_outcome:after"]
"""``assign``, ``step enclave``, ``finish`` and ``:before`` end the same; these tell most."""


def run_hub(folder: Path, stage: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.killed_task_hub", str(folder), stage],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_hub_goes_on_with_the_same_enclave(tmp_path: Path, stage: str) -> None:
    killed = run_hub(tmp_path, stage)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr[-3000:])
    done = run_hub(tmp_path, ":")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == "succeeded", told
    assert told["enclave"] == "Vault One"
    assert told["given"] in ([], ["Vault One"])  # nothing is asked once the outcome is here
    assert told["ledger"].count("run.submitted") == told["ledger"].count("run.ended") == 1
    assert told["ledger"].count("key.released") == 2
    assert told["outputs"] == ["log.vault", "model.vault", "report.vault"]
