"""``cohortium demo`` as a newcomer runs it: processes, a study, its evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cohortium.enclave.executors.landlock import Landlock

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


def test_the_demonstration_ends_with_verified_evidence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cohortium", "demo", "--dir", str(tmp_path / "demo"), "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert Path(json.loads(done.stdout)["plot"]).stat().st_size > 1000
    assert "witnessed the checkpoint that all of this is proven by" in done.stderr
    assert "2 results are those that were released" in done.stderr
    bundle = json.loads((tmp_path / "demo" / "evidence.json").read_bytes())
    assert len(list((tmp_path / "demo" / "results").glob("*.json"))) == 2
    assert bundle["study"] == "lung-one-year"


@pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine")
def test_the_demonstration_of_the_enclave_gives_the_pooled_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cohortium", "demo", "enclave", "--dir", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    shown = json.loads(done.stdout)
    assert shown["largest_relative_difference"] < 1e-8
    assert shown["scanned_bytes"] > 100_000
    assert "Refused (contract-suspended)" in done.stderr
    assert "to the enclave Enclave 1 (" in done.stderr
