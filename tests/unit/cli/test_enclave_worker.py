"""The commands of an enclave's operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.joining_hub import JoiningHub
from typer.testing import CliRunner, Result

from cohortium.cli.main import app
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.builtin import find
from cohortium.worker import join as joining
from cohortium.worker.folder import EnclaveConfig, EnclaveDir
from cohortium.worker.store import RunStore


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["enclave", *arguments])


def run(*arguments: str) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> EnclaveDir:
    made = EnclaveDir(tmp_path / "enclave")
    made.path.mkdir()
    made.save_config(
        EnclaveConfig(
            name="Island",
            consortium="Test",
            consortium_fingerprint="sha256:" + "c" * 64,
            hub_url="https://hub.example",
            link_address="hub.example:1",
        )
    )
    SigningKey.generate().save(made.contract_key)
    return made


def test_init_shows_what_to_compare_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = JoiningHub("enclave")
    plain = joining.join

    def join(*arguments: Any, **named: Any) -> Any:
        return plain(*arguments, **{**named, "http": hub.client})

    monkeypatch.setattr(joining, "join", join)
    place = str(tmp_path / "enclave")
    text = hub.invitation.to_text()
    waiting = invoke("init", text, "--dir", place, "--no-wait")
    assert waiting.exit_code == 0, waiting.output
    assert "Compare by telephone" in waiting.stderr
    assert "run the same command again" in waiting.stdout
    refused = invoke("serve", place)
    assert refused.exit_code == 2
    assert "no certificate yet" in refused.stderr
    hub.approved = True
    assert run("init", text, "--dir", place)["status"] == "approved"
    assert f"cohortium enclave serve {place}" in invoke("init", text, "--dir", place).stdout


def test_status_lists_runs_and_whether_it_serves(folder: EnclaveDir) -> None:
    store = RunStore(folder.store)
    store.begin("a" * 32, "sha256:" + "1" * 64, "joint", "join", "landlock")
    store.begin("b" * 32, "sha256:" + "2" * 64, "joint", "join", "landlock")
    store.end("a" * 32, "memory", outcome=b"x")
    store.close()
    found = run("status", str(folder.path))
    assert found["serving"] is None
    ends = {one["run_id"][0]: (one["end"], one["told_hub"]) for one in found["runs"]}
    assert ends == {"a": ("memory", False), "b": (None, False)}
    text = invoke("status", str(folder.path)).stdout
    assert "not serving" in text
    assert "joint join: memory  (the hub does not know yet)" in text
    assert "joint join: lost" in text
    assert invoke("status", str(folder.path / "none")).exit_code == 2


def test_measure_prints_what_a_contract_names(tmp_path: Path) -> None:
    digest = find("join").digest
    (one,) = run("measure", "builtin:join", "--executor", "simulated")
    assert one["content_digest"] == digest
    assert one["executors"][0]["measurements"] == [
        {"kind": "simulated", "value": digest.removeprefix("sha256:")}
    ]
    text = invoke("measure", "builtin:join").stdout
    assert "landlock: measures nothing: name the enclave and its key" in text
    assert "tdx: not on this machine" in text
    assert "gramine: MRENCLAVE" in text
    assert invoke("measure", str(tmp_path / "none")).exit_code == 2
    assert invoke("measure", str(tmp_path)).exit_code == 2


def test_packages_are_listed_and_missing_ones_said(folder: EnclaveDir, tmp_path: Path) -> None:
    place = str(folder.path)
    assert run("packages", "list", "--dir", place) == []
    assert invoke("packages", "list", "--dir", place).stdout == "None.\n"
    gone = invoke("packages", "remove", "sha256:ab", "--dir", place)
    assert gone.exit_code == 2
    (tmp_path / "empty.lock").write_text("")
    made = run("packages", "add", str(tmp_path / "empty.lock"), "--dir", place)
    assert (made["packages"], made["hashed"]) == ([], False)
    assert "without hashes" not in invoke("packages", "list", "--dir", place).stdout
    assert run("packages", "remove", made["digest"], "--dir", place)["digest"] == made["digest"]
