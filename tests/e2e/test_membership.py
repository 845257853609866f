"""Who may connect: suspension, rotation, foreign certificates, spent invitations, proxies."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from proxy import Proxy
from tests.support.sites import SITES, STUDY, proposal, propose_and_sign

import cohortium as co
from cohortium.demo.consortium import Consortium, free_port
from cohortium.errors import CohortiumError, VerificationError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


def _until(what: Callable[[], bool], timeout_s: float = 30.0) -> float:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < timeout_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - began


def _connected(consortium: Consortium, site: str) -> bool:
    return any(m["name"] == site and m["connected"] for m in consortium.cli("hub", "members"))


def test_a_suspended_member_is_cut_and_comes_back(
    consortium: Consortium, federation: co.Federation
) -> None:
    site = SITES[0]

    def connected() -> bool:
        return next(m.connected for m in federation.members if m.name == site)

    consortium.cli("hub", "suspend", site)
    assert _until(lambda: not connected()) < 2.0
    consortium.cli("hub", "reinstate", site)
    _until(connected)


def test_a_rotated_certificate_replaces_the_old_one(consortium: Consortium) -> None:
    site = SITES[1]
    folder = consortium.node_dir(site)
    before = sorted(path.read_bytes() for path in folder.rglob("*.pem"))
    consortium.cli("node", "rotate", "--dir", str(folder))
    _until(lambda: sorted(path.read_bytes() for path in folder.rglob("*.pem")) != before)
    _until(lambda: _connected(consortium, site))


def test_an_invitation_works_once_and_only_unaltered(
    consortium: Consortium, tmp_path: Path
) -> None:
    invitation = consortium.cli("hub", "invite", "Delta Hospital")["invitation"]
    first = str(tmp_path / "first")
    consortium.cli("node", "join", invitation, "--dir", first, "--no-wait")
    with pytest.raises(VerificationError) as again:
        consortium.cli("node", "join", invitation, "--dir", str(tmp_path / "second"), "--no-wait")
    assert again.value.code == "bad-invitation"
    with pytest.raises(CohortiumError):
        consortium.cli("node", "join", invitation[:-3] + "abc", "--dir", str(tmp_path / "third"))
    consortium.cli("hub", "remove", "Delta Hospital")


def test_a_node_of_another_consortium_is_refused(consortium: Consortium, tmp_path: Path) -> None:
    with Consortium(tmp_path / "other", name="Another consortium") as other:
        other.start_hub()
        other.add_site(SITES[0])
        other.wait_connected([SITES[0]])
        other.services[f"node/{SITES[0]}"].end()
        stranger = tmp_path / "stranger"
        shutil.copytree(other.node_dir(SITES[0]), stranger)
    ours = json.loads((consortium.hub_dir / "address.json").read_text())
    theirs = json.loads((other.hub_dir / "address.json").read_text())
    for file in stranger.glob("*.toml"):
        text = file.read_text()
        for port in ("rest_port", "link_port"):
            text = text.replace(f":{theirs[port]}", f":{ours[port]}")
        file.write_text(text)
    consortium.services[f"node/{SITES[0]}"].end()
    consortium.services["node/stranger"] = type(consortium.services["hub"])(
        consortium.command("node", "serve", str(stranger)),
        tmp_path / "stranger.log",
        consortium.env(),
    )
    try:
        consortium.services["node/stranger"].start()
        time.sleep(3)
        assert not _connected(consortium, SITES[0])
    finally:
        consortium.services.pop("node/stranger").end()
        consortium.restart(f"node/{SITES[0]}")
    consortium.wait_connected(SITES)


def test_a_removed_researcher_is_refused(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invitation = consortium.cli("hub", "invite", "Dr. Gone", "--researcher")["invitation"]
    profile = tmp_path / "gone.json"
    gone = Consortium(
        consortium.root, extra_env={**consortium.extra_env, "COHORTIUM_PROFILE": str(profile)}
    )
    gone.cli("user", "create", invitation)
    propose_and_sign(gone, proposal("gone-study", researcher="Dr. Gone"), "gone-study")
    gone.cli("run", "gone-study", "describe", "age")
    consortium.cli("hub", "remove-user", "Dr. Gone")
    with pytest.raises(CohortiumError) as caught:
        gone.cli("run", "gone-study", "describe", "age")
    assert caught.value.code in {"not-authorised", "unknown-signer", "bad-token"}


def test_a_node_works_through_an_http_proxy(consortium: Consortium, study: co.Study) -> None:
    site = SITES[2]
    folder = consortium.node_dir(site)
    config = folder / "node.toml"
    original = config.read_text()
    port = free_port()
    with Proxy(["--hostname", "127.0.0.1", "--port", str(port), "--num-workers", "1"]):
        consortium.services[f"node/{site}"].end()
        config.write_text(f'{original}\nproxy = "http://127.0.0.1:{port}"\n')
        try:
            consortium.restart(f"node/{site}")
            consortium.wait_connected(SITES)
            result = study.describe(["age"])
            assert set(result.run.participants) == set(SITES)
        finally:
            consortium.services[f"node/{site}"].end()
            config.write_text(original)
            consortium.restart(f"node/{site}")
    consortium.wait_connected(SITES)


def test_the_run_limit_holds_at_the_sites(
    consortium: Consortium, federation: co.Federation
) -> None:
    propose_and_sign(consortium, proposal("short-study", glm_runs=1), "short-study")
    short = federation.study("short-study")
    short.glm("score ~ age", family="gaussian")
    with pytest.raises(co.PolicyRefusal) as caught:
        short.glm("score ~ sex", family="gaussian")
    assert caught.value.code == "run-limit"
    journal = consortium.cli("node", "journal", "--dir", str(consortium.node_dir(SITES[0])))
    assert any(entry["code"] == "run-limit" and not entry["allowed"] for entry in journal)
    assert STUDY in {s.id for s in federation.studies}
