"""``cohortium study amend``, ``close``, ``draft``, ...: a researcher at a hub in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import cohortium as co
from cohortium.cli.main import app
from cohortium.contract.proposal import read_proposal
from cohortium.inprocess.federation import LocalFederation

YAML = """\
study: {study}
title: {title}
purpose: To test.
participants: [{{name: North{dataset}}}, {{name: South{dataset}}}]
variables: [{{name: age, type: real, decimals: 1}}]
computations: [{{name: stats.*}}]
min_sites: 2
recipients: [You]
expires_at: "2099-01-01T00:00:00Z"
"""


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    frames = {
        site: pd.DataFrame({"age": [50.5 + n for n in range(20)]}) for site in ("North", "South")
    }
    with co.local(frames) as made:
        yield made


@pytest.fixture(autouse=True)
def connected(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[LocalFederation]:
        yield federation

    monkeypatch.setattr("cohortium.sdk.federation.connect", connect)
    monkeypatch.setattr("sys.argv", ["cohortium"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("COHORTIUM_NODE_DIR", raising=False)


@pytest.fixture
def yaml(tmp_path: Path) -> Any:
    def write(study: str, title: str = "A title", *, drafted: bool = False) -> str:
        file = tmp_path / "study.yaml"
        dataset = "" if drafted else ", dataset: local"
        file.write_text(YAML.format(study=study, title=title, dataset=dataset))
        return str(file)

    return write


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["study", *arguments], catch_exceptions=False)


def data_of(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_amend_says_what_it_replaces(yaml: Any) -> None:
    first = data_of("propose", yaml("amended"))
    again = run("propose", yaml("amended", "Else"))
    assert again.exit_code == 7
    assert "amend or withdraw it" in again.stderr
    text = run("amend", "amended", yaml("amended", "Better")).stdout
    assert "Proposed amended, version 2, to North, South." in text
    shown = data_of("show", "amended")
    assert shown["contract"]["amends"] == first["contract_digest"]
    assert [(v["version"], v["status"]) for v in shown["versions"]] == [
        (1, "superseded"),
        (2, "active"),
    ]
    missing = run("amend", "unknown", yaml("unknown"))
    assert missing.exit_code == 2
    other = run("amend", "amended", yaml("else"))
    assert "it amends amended, and is called else" in other.stderr


def test_the_list_shows_versions_that_wait_and_drafts(
    federation: LocalFederation, yaml: Any
) -> None:
    data_of("propose", yaml("listed"))
    read = read_proposal(Path(yaml("listed", "Better")).read_text())
    before = federation.study("listed")
    super(LocalFederation, federation).submit_proposal(read, amends=before.contract)
    drafted = data_of("draft", yaml("drafted", drafted=True))
    assert drafted["unfilled"] == {"dataset/North": ["North"], "dataset/South": ["South"]}
    rows = {row["id"]: row for row in data_of("list")}
    assert rows["listed"]["status"] == "active"
    assert rows["drafted"]["status"] == "draft"
    text = run("list").stdout
    assert "active (version 2 proposed)" in text
    assert "draft, 2 slots open" in text
    waiting = run("propose", "drafted")
    assert waiting.exit_code == 7
    assert "dataset/North (North)" in waiting.stderr
    withdrawn = data_of("withdraw", "listed", "--reason", "A mistake.")
    assert (withdrawn["state"], withdrawn["reason"]) == ("withdrawn", "A mistake.")
    assert federation.study("listed").digest == before.digest
    nothing = run("withdraw", "listed", "--reason", "Once more.")
    assert nothing.exit_code == 7
    assert "cohortium study close" in nothing.stderr


def test_suspend_resume_close_and_history(yaml: Any) -> None:
    data_of("propose", yaml("ended"))
    suspended = data_of("suspend", "ended", "--reason", "A doubt.", "--only", "stats.*")
    assert suspended["suspensions"] == [{"by": "You", "computations": ["stats.*"]}]
    assert "To lift it" in run("suspend", "ended", "--reason", "All of it.").stdout
    assert "ended is active" in run("resume", "ended", "--reason", "Settled.").stdout
    refused = run("resume", "ended", "--reason", "Settled.")
    assert refused.exit_code == 7
    assert "has not suspended it" in refused.stderr
    closed = data_of(
        "close", "ended", "--reason", "Done.", "--keeps", "Results.", "--keeps", "Code."
    )
    assert (closed["state"], closed["keeps"]) == ("closed", ["Results.", "Code."])
    rows = data_of("history", "ended")
    assert [row["action"] for row in rows] == [
        "propose",
        "sign",
        "sign",
        "suspend",
        "suspend",
        "resume",
        "close",
    ]
    assert (rows[-1]["author"], rows[-1]["reason"], rows[-1]["state"]) == ("You", "Done.", "closed")
    text = run("history", "ended").stdout
    assert "A doubt." in text
    assert run("close", "ended", "--reason", "Again.").exit_code == 3
