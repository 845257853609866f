"""From a result on a researcher's disk to an auditor without a network, over real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.sites import SITES, STUDY
from tests.support.source import ROOT

import cohortium as co
from cohortium.demo.consortium import Consortium

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


def audited(consortium: Consortium, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``cohortium audit verify`` by somebody who has nothing but files."""
    return subprocess.run(
        consortium.command("audit", "verify", *arguments, "--json"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={k: v for k, v in consortium.env().items() if not k.startswith("COHORTIUM")},
    )


def test_an_auditor_checks_what_was_released(
    consortium: Consortium, study: co.Study, tmp_path: Path
) -> None:
    results, copy = tmp_path / "results", tmp_path / "ledger"
    results.mkdir()
    saved = [results / "describe.json", results / "fit.json"]
    consortium.cli("run", STUDY, "describe", "age", "--by", "sex", "--output", str(saved[0]))
    consortium.cli("run", STUDY, "glm", "event ~ age", "--output", str(saved[1]))
    bundle = tmp_path / "bundle.json"
    exported = consortium.cli("audit", "export", STUDY, "--output", str(bundle))
    assert exported["bytes"] == bundle.stat().st_size
    site = SITES[0]
    consortium.cli("node", "ledger", "export", str(copy), "--dir", str(consortium.node_dir(site)))
    key = next(p.key for p in study.contract.participants if p.name == site)

    known = (*("--results", str(results)), *("--ledger", str(copy)), *("--key", f"{site}={key}"))
    done = audited(consortium, str(bundle), *known)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["complete"] is True
    assert set(found["results"]) == {json.loads(one.read_text())["run"]["id"] for one in saved}
    assert [one["name"] for one in found["parties"] if one["pinned"]] == [site]
    told = "\n".join(event["what"] for event in found["timeline"])
    assert "ordered glm" in told
    assert f"take part: {', '.join(sorted(SITES))}" in told

    short = ROOT / "examples" / "verify_bundle" / "verify_bundle.py"
    second = subprocess.run(
        [sys.executable, str(short), str(bundle), *map(str, saved)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (second.returncode, second.stderr) == (0, "")

    altered = json.loads(saved[1].read_text())
    altered["result"]["params"][0] += 1e-12
    saved[1].write_text(json.dumps(altered))
    done = audited(consortium, str(bundle), *known)
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["details"]["step"]) == (4, "results")
    shutil.rmtree(copy / "tile" / "entries")
    done = audited(consortium, str(bundle), "--ledger", str(copy))
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["details"]["step"]) == (4, "entries")
