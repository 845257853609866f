"""The steward's view of the ledger: status, verify, export, alarms, accept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import CONSORTIUM, World
from tests.support.ledger_hub import HubLog, as_message
from tests.support.logs import key
from tests.support.witnessing import Witnessing, welcome
from typer.testing import CliRunner, Result

from cohortium.cli.main import app
from cohortium.crypto.keys import fingerprint
from cohortium.ledger.checkpoint import open_checkpoint
from cohortium.ledger.entry import ResearcherChanged
from cohortium.ledger.tiles import read_folder, verify_mirror
from cohortium.node import alarms, journal
from cohortium.node.config import NodeConfig, NodeDir
from cohortium.node.policy import TEMPLATE
from cohortium.node.store import NodeStore


def person(number: int) -> ResearcherChanged:
    return ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")


class Site(Witnessing):
    """Alpha's witness on a node's folder."""

    def at(self, path: Path) -> None:
        folder = NodeDir(path)
        path.mkdir(mode=0o700)
        self.world.keys["Alpha"].save(folder.contract_key)
        folder.policy.write_text(TEMPLATE)
        folder.save_config(
            NodeConfig(
                name="Alpha",
                consortium="Test",
                consortium_fingerprint=CONSORTIUM,
                hub_url="https://hub.example:1",
                link_address="hub.example:2",
            )
        )
        self.world.node("Alpha", store=NodeStore(folder.store, clock=self.world.clock))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(world=World(), hub=HubLog())
    made.at(tmp_path / "node")
    return made


@pytest.fixture
def joined(site: Site) -> Site:
    """A site that has a final ledger of ten entries."""
    site.node.service.welcome(welcome(site.hub))
    site.hub.add(*map(person, range(6)))
    site.cosigned()
    site.cosigned(site.hub.update(site.size, final=site.hub.final(site.world.keys)))
    return site


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COHORTIUM_NODE_DIR", str(tmp_path / "node"))
    monkeypatch.setenv("COHORTIUM_JSON_ERRORS", "1")
    return lambda *arguments: CliRunner().invoke(app, ["node", *arguments])


Run = Callable[..., Any]


@pytest.fixture
def run(invoke: Callable[..., Result]) -> Run:
    def run(*arguments: str) -> Any:
        result = invoke("ledger", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def test_before_the_first_connection_there_is_no_ledger(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    assert run("status")["size"] == 0
    assert "not known yet" in invoke("ledger", "status").stdout
    for command in (["verify"], ["export", "x"]):
        failed = invoke("ledger", *command)
        assert (failed.exit_code, "not-found" in failed.stderr) == (2, True)
    assert run("alarms") == []
    assert "never an alarm" in invoke("ledger", "alarms").stdout


def test_status_says_what_was_cosigned_and_what_is_final(
    joined: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    joined.hub.add(person(9))
    joined.cosigned()
    data = run("status")
    assert (data["size"], data["cosigned"]["size"], data["final"]["size"]) == (11, 11, 10)
    assert data["key"] == joined.hub.key.text
    text = invoke("ledger", "status").stdout
    assert joined.hub.key.text in text
    assert fingerprint(joined.hub.key.text) in text
    assert "11 entries, 2026-11-22 09:00:00 UTC" in text
    assert "11 entries, 10 final" in invoke("status").stdout


def test_verify_recomputes_the_copy(joined: Site, run: Run, invoke: Callable[..., Result]) -> None:
    root = joined.hub.tree.root().hex()
    assert run("verify") == {"entries": 10, "final": 10, "root": root}
    assert "The copy of 10 entries holds" in invoke("ledger", "verify").stdout
    store = joined.node.store
    with store.transaction():
        store.execute(
            "UPDATE ledger_entries SET body = ? WHERE position = 5", joined.hub.entries[6]
        )
    failed = invoke("ledger", "verify")
    assert (failed.exit_code, "broken-store" in failed.stderr) == (8, True)


def test_export_writes_files_that_anyone_can_verify(joined: Site, run: Run, tmp_path: Path) -> None:
    joined.hub.add(person(9))
    joined.cosigned()
    for options, size in (([], 10), (["--newest"], 11)):
        folder = tmp_path / f"ledger-{size}"
        written = run("export", str(folder), *options)
        assert written["files"] == sum(path.is_file() for path in folder.rglob("*"))
        checkpoint, _ = open_checkpoint((folder / "checkpoint").read_bytes(), joined.hub.key)
        assert checkpoint.size == size
        verify_mirror(read_folder(folder), checkpoint)


def test_an_alarm_is_shown_everywhere_until_it_is_accepted(
    joined: Site, run: Run, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    assert invoke("status").exit_code == 0
    fork = joined.hub.forked(8)
    fork.add(*map(person, range(20, 25)))
    alarm = joined.alarm(fork.update(10))
    status = invoke("status")
    assert status.exit_code == 8
    assert "ALARM 1    fork since 2026-11-22T09:00:00Z" in status.stdout
    as_json = invoke("status", "--json")
    assert as_json.exit_code == 8
    assert [a["id"] for a in json.loads(as_json.stdout)["ledger"]["alarms"]] == [1]
    (shown,) = run("alarms", "--proof", str(tmp_path / "proof"))
    assert (shown["id"], shown["kind"], shown["code"]) == (1, "fork", "ledger-fork")
    assert shown["accepted_at"] is None
    for name, note in (("seen", alarm.seen), ("received", alarm.received)):
        assert (tmp_path / "proof" / "alarm-1" / name).read_bytes() == note
        assert shown[name].encode() == note
        open_checkpoint(note, joined.hub.key)
    assert (tmp_path / "proof" / "alarm-1" / "proof").read_bytes() == alarm.proof
    assert "OPEN" in invoke("ledger", "alarms").stdout
    assert "ALARM 1" in invoke("ledger", "status").stdout
    assert run("accept", "1")["answer"] == "go-on"
    assert invoke("status").exit_code == 0
    assert len(run("alarms")) == 1
    last = journal.entries(joined.node.store)[-1].body
    assert (last["what"], last["alarm"], last["answer"]) == ("ledger-accept", 1, "go-on")
    again = invoke("ledger", "accept", "1")
    assert (again.exit_code, "wrong-state" in again.stderr) == (7, True)


def test_starting_over_keeps_the_copy_of_before(
    joined: Site, run: Run, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    missing = invoke("ledger", "accept", "1", "--start-over")
    assert missing.exit_code == 2
    assert not (tmp_path / "node" / "ledger-before-alarm-1").exists()
    old_root = joined.hub.tree.root()
    fork = joined.hub.forked(8)
    fork.add(*map(person, range(20, 25)))
    joined.alarm(fork.update(10))
    done = invoke("ledger", "accept", "1", "--start-over")
    assert done.exit_code == 0
    aside = tmp_path / "node" / "ledger-before-alarm-1"
    assert str(aside) in done.stdout
    checkpoint, _ = open_checkpoint((aside / "checkpoint").read_bytes(), joined.hub.key)
    assert checkpoint.root == old_root
    verify_mirror(read_folder(aside), checkpoint)
    assert run("status")["size"] == 0
    joined.hub = fork
    joined.cosigned()
    assert run("verify")["entries"] == 13


def test_a_new_key_of_the_ledger_is_accepted_by_its_fingerprint(
    joined: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    old = joined.hub.key.text
    joined.hub.own = key(91)
    joined.node.service.welcome(welcome(joined.hub))
    assert invoke("status").exit_code == 8
    for arguments in ([], ["--key", "0000 1111"]):
        refused = invoke("ledger", "accept", "1", *arguments)
        assert (refused.exit_code, "bad-input" in refused.stderr) == (2, True)
    assert run("status")["key"] == old
    accepted = run("accept", "1", "--key", fingerprint(joined.hub.key.text))
    assert accepted["answer"] == f"key {fingerprint(joined.hub.key.text)}"
    assert run("status")["key"] == joined.hub.key.text
    assert run("verify")["entries"] == 10  # still signed with the old key
    joined.hub.add(person(30))
    assert joined.node.ask(as_message(joined.hub.update(10))).cosignature.line
    assert run("verify")["entries"] == 11
    assert alarms.alarms(joined.node.store, only_open=True) == []
