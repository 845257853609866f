"""The hub's machine is lost: a new hub goes on from a member's copy of the ledger."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import sites
from tests.support.sites import SITES, STUDY

import cohortium as co
from cohortium.demo.consortium import Consortium
from cohortium.errors import VerificationError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-takeover")]


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    running = sites.start(tmp_path / "consortium")
    yield running
    running.stop()


def until(what: Callable[[], bool], timeout_s: float = 60.0) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < timeout_s, "it did not happen in time"
        time.sleep(0.1)


def ledger(consortium: Consortium, site: str, *arguments: str) -> Any:
    """``cohortium node ledger`` at a site."""
    folder = str(consortium.node_dir(site))
    return consortium.cli("node", "ledger", *arguments, "--dir", folder)


def alarms(consortium: Consortium, site: str) -> list[dict[str, Any]]:
    """The site's open alarms, once there are any."""
    until(lambda: bool(ledger(consortium, site, "status")["alarms"]))
    found: list[dict[str, Any]] = ledger(consortium, site, "status")["alarms"]
    return found


def final_size(consortium: Consortium, site: str) -> int:
    final = ledger(consortium, site, "status")["final"]
    return 0 if final is None else int(final["size"])


def everywhere_final(consortium: Consortium, at_least: int = 1) -> bool:
    sizes = {final_size(consortium, site) for site in SITES}
    entries = {ledger(consortium, site, "status")["size"] for site in SITES}
    return len(sizes) == 1 and sizes == entries and min(sizes) >= at_least


def lose_hub(consortium: Consortium, copy: Path, backup: Path) -> Any:
    """The hub's machine is gone, and a new one has its address; what ``hub init`` said."""
    hub = consortium.hub_dir
    address = json.loads((hub / "address.json").read_text())
    shutil.copytree(hub / "ca", backup)
    consortium.kill("hub")
    shutil.rmtree(hub)
    made = consortium.cli(
        "hub", "init", str(hub), "--ledger", str(copy), "--authority", str(backup),
        "--rest-port", str(address["rest_port"]), "--link-port", str(address["link_port"]),
    )  # fmt: skip
    consortium.restart("hub")
    return made


def accept_key(consortium: Consortium, site: str, fingerprint: str) -> None:
    """The steward has heard the new key's fingerprint from the operator."""
    (alarm,) = alarms(consortium, site)
    assert alarm["kind"] == "key"
    ledger(consortium, site, "accept", str(alarm["id"]), "--key", fingerprint)


def accept_as_researcher(consortium: Consortium, fingerprint: str) -> None:
    """The researcher has heard it, too; until then nothing is taken from the new hub."""
    with pytest.raises(VerificationError) as refusal:
        co.connect()
    assert refusal.value.code == "ledger-key"
    profile = str(consortium.profile)
    consortium.cli("user", "ledger-key", "--accept", fingerprint, "--profile", profile)


def test_a_new_hub_goes_on_where_the_lost_one_ended(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHORTIUM_PROFILE", str(consortium.profile))
    copy = tmp_path / "copy"
    with co.connect() as federation:
        before = federation.study(STUDY).describe(["age", "score"]).to_frame()
    until(lambda: everywhere_final(consortium))
    size = final_size(consortium, SITES[0])
    ledger(consortium, SITES[1], "export", str(copy))

    made = lose_hub(consortium, copy, tmp_path / "backup")
    assert (made["name"], made["size"]) == ("Test consortium", size)
    assert made["members"] == sorted(SITES)
    assert made["studies"] == [STUDY]

    # Each node sees another ledger key, stops, and goes on by its steward's word only.
    for site in SITES:
        accept_key(consortium, site, made["ledger_key_fingerprint"])
    accept_as_researcher(consortium, made["ledger_key_fingerprint"])
    until(lambda: everywhere_final(consortium, size + 1))
    for site in SITES:
        assert ledger(consortium, site, "verify")["final"] > size

    # The contract came back from the nodes, and the researcher goes on with it.
    consortium.wait_active(STUDY)
    consortium.wait_published(SITES)
    with co.connect() as federation:
        after = federation.study(STUDY).describe(["age", "score"])
        assert set(after.run.participants) == set(SITES)
        assert after.to_frame().equals(before)
    assert [user["status"] for user in consortium.cli("hub", "users")] == ["active"]
    until(lambda: everywhere_final(consortium, size + 4))

    # And once more, from a copy that is older than what the nodes have seen.
    shutil.rmtree(copy)
    ledger(consortium, SITES[0], "export", str(copy))
    old_size = final_size(consortium, SITES[0])
    with co.connect() as federation:
        federation.study(STUDY).describe(["age"])
    until(lambda: everywhere_final(consortium, old_size + 3))
    made = lose_hub(consortium, copy, tmp_path / "backup2")
    assert made["size"] == old_size
    for site in SITES:
        accept_key(consortium, site, made["ledger_key_fingerprint"])
    accept_as_researcher(consortium, made["ledger_key_fingerprint"])
    for site in SITES:
        (alarm,) = alarms(consortium, site)
        assert alarm["kind"] in {"fork", "truncated"}
        ledger(consortium, site, "accept", str(alarm["id"]), "--start-over")
    until(lambda: everywhere_final(consortium, old_size + 1))
    consortium.wait_active(STUDY)
    with co.connect() as federation:
        again = federation.study(STUDY).describe(["age", "score"])
        assert again.to_frame().equals(before)
