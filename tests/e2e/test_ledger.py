"""The ledger over real processes: copies that agree, and a hub whose past is taken away."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.support import sites

import cohortium as co
from cohortium.demo.consortium import Consortium
from cohortium.errors import CohortiumError
from cohortium.ledger.checkpoint import open_checkpoint
from cohortium.ledger.note import parse_verifier_key
from cohortium.ledger.tiles import read_folder, verify_mirror

pytestmark = pytest.mark.slow
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A consortium of its own: its hub will lose its memory."""
    running = sites.start(tmp_path_factory.mktemp("ledger"), n_rows=100)
    yield running
    running.stop()


@pytest.fixture
def study(own: Consortium, monkeypatch: pytest.MonkeyPatch) -> Iterator[co.Study]:
    monkeypatch.setenv("COHORTIUM_PROFILE", str(own.profile))
    with co.connect() as federation:
        yield federation.study(sites.STUDY)


def ledger(own: Consortium, site: str, *arguments: str) -> Any:
    """``cohortium node ledger ...`` at a site."""
    return own.cli("node", "ledger", *arguments, "--dir", str(own.node_dir(site)))


def status(own: Consortium, site: str) -> tuple[int, Any]:
    """Exit code and output of ``cohortium node status``."""
    command = own.command("node", "status", "--dir", str(own.node_dir(site)), "--json")
    done = subprocess.run(command, capture_output=True, env=own.env(), check=False)
    return done.returncode, json.loads(done.stdout)


def served_status(own: Consortium, site: str) -> Any:
    """The ledger's part of what the running node says on its loopback port."""
    where = json.loads((own.node_dir(site) / "address.json").read_text())["status"]
    with urlopen(f"{where}/status", timeout=10) as answer:
        return json.loads(answer.read())["ledger"]


def until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not ready():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def test_every_node_has_the_same_final_ledger_and_serves_it(
    own: Consortium, study: co.Study, tmp_path: Path
) -> None:
    study.describe(["age"])
    found: list[Any] = []

    def settled() -> bool:
        found[:] = [ledger(own, site, "verify") for site in sites.SITES]
        same = found.count(found[0]) == len(sites.SITES)
        return same and found[0]["final"] == found[0]["entries"]

    until(settled, "one ledger at all sites, final to its end")
    assert found[0]["entries"] > 8  # members, datasets, the contract, a run
    key = parse_verifier_key(ledger(own, sites.SITES[0], "status")["key"])
    written = ledger(own, sites.SITES[0], "export", str(tmp_path / "copy"))
    assert written["files"] > 2
    note = (tmp_path / "copy" / "checkpoint").read_bytes()
    checkpoint, _ = open_checkpoint(note, key)
    verify_mirror(read_folder(tmp_path / "copy"), checkpoint)
    where = json.loads((own.node_dir(sites.SITES[1]) / "address.json").read_text())["status"]

    def served(path: str) -> bytes | None:
        with urlopen(f"{where}/ledger/{path}", timeout=10) as answer:
            data: bytes = answer.read()
            return data

    assert open_checkpoint(served("checkpoint") or b"", key)[0] == checkpoint
    verify_mirror(served, checkpoint)


def test_a_hub_that_was_set_back_is_found_out_and_the_stewards_decide(
    own: Consortium, study: co.Study, tmp_path: Path
) -> None:
    study.describe(["age"])
    own.services["hub"].end()
    shutil.copytree(own.hub_dir, tmp_path / "backup")
    own.start_hub()
    own.wait_connected(sites.SITES)
    study.describe(["score"])
    before = {site: ledger(own, site, "verify")["entries"] for site in sites.SITES}
    own.services["hub"].end()
    shutil.rmtree(own.hub_dir)
    shutil.copytree(tmp_path / "backup", own.hub_dir)
    own.start_hub()
    own.wait_connected(sites.SITES)
    study.submit("stats.describe", {"variables": ["age"]})  # the ledger goes on from its old end
    until(lambda: all(served_status(own, s)["alarms"] for s in sites.SITES), "every node's alarm")
    for site in sites.SITES:
        code, shown = status(own, site)
        assert code == 8
        (alarm,) = shown["ledger"]["alarms"]
        assert alarm["kind"] in {"truncated", "fork"}
        log = own.services[f"node/{site}"].log.read_text()
        assert "LEDGER ALARM" in log
        (kept,) = ledger(own, site, "alarms", "--proof", str(tmp_path / site))
        key = parse_verifier_key(ledger(own, site, "status")["key"])
        sizes = [open_checkpoint(kept[part].encode(), key)[0].size for part in ("seen", "received")]
        assert sizes[0] == before[site]
    with pytest.raises(CohortiumError) as refused:
        study.describe(["age"])
    assert "ledger-alarm" in str(refused.value.details) or refused.value.code == "ledger-alarm"
    for site in sites.SITES:
        ledger(own, site, "accept", "1", "--start-over")
        assert (own.node_dir(site) / "ledger-before-alarm-1" / "checkpoint").is_file()
    assert status(own, sites.SITES[0])[0] == 0
    study.describe(["score"])
    assert all(ledger(own, site, "verify")["entries"] > 0 for site in sites.SITES)
