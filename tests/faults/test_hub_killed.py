"""SIGKILL of the hub at each durable write and each message of a run: the run ends the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.fake_sites import SITES, expected_sum

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STAGES = [
    "submit:before",
    "submit:after",
    "start:before",
    "start:after",
    "at run_prepare:",
    "step roster:before",
    "step roster:after",
    "at round_request-1:",
    "step round-1:after",
    "at round_request-2:",
    "step round-2:after",
    "at round_request-3:",
    "step round-3:after",
    "finish:before",
    "finish:after",
    "at run_end-succeeded:",
]


def run_hub(
    folder: Path, url: str, stage: str, *options: str, **params: Any
) -> subprocess.CompletedProcess[str]:
    params = {"rounds": 3, **params}
    return subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.killed_hub"),
            *(*options, str(folder), url, stage, json.dumps(params)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check(done: subprocess.CompletedProcess[str], components: int = 2) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr[-3000:]
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert outcome["status"] == "succeeded", outcome
    assert outcome["result"]["sum"] == expected_sum(components=components)
    assert (outcome["runs"], outcome["results"]) == (1, 1)
    assert outcome["owed"] == []
    run = outcome["run"]
    assert run["rounds"] == 3
    assert run["participants"] == list(SITES)
    assert run["bytes"] == dict.fromkeys(SITES, 3 * 8 * (2 + 4 * components))
    return outcome


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_hub_finishes_its_run_once(tmp_path: Path, stage: str) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    killed = run_hub(tmp_path, url, stage)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr[-3000:])
    outcome = check(run_hub(tmp_path, url, "never:"))
    if stage == "step round-2:after":
        # What was recorded is not asked for again.
        assert [kind for kind in outcome["seen"] if "round" in kind] == ["round_request-3"]
        assert "run_prepare" not in outcome["seen"]


def test_killed_twice_with_sums_in_object_files(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    options = ("--small-objects",)
    for stage in ("step round-1:after", "at round_request-3:"):
        killed = run_hub(tmp_path, url, stage, *options, components=40)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
        assert any((tmp_path / "objects").rglob("*"))
    outcome = check(run_hub(tmp_path, url, "never:", *options, components=40), components=40)
    assert outcome["objects"] == []


@pytest.mark.postgres
@pytest.mark.parametrize("stage", ["start:after", "step round-2:after", "finish:after"])
def test_on_postgresql_too(tmp_path: Path, postgres_url: str, stage: str) -> None:
    killed = run_hub(tmp_path, postgres_url, stage)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr[-3000:])
    check(run_hub(tmp_path, postgres_url, "never:"))
