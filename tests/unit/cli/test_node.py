"""The steward's commands, on a node's real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import active
from tests.support.life import amended
from tests.support.node_folder import Site
from typer.testing import CliRunner, Result

from cohortium.cli.main import app
from cohortium.contract.model import Computation, Contract
from cohortium.crypto import tls_keys as tls
from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.disclosure.limits import Disclosure
from cohortium.node import journal, outbox

Run = Callable[..., Any]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "node")


@pytest.fixture
def invoke(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COHORTIUM_NODE_DIR", str(site.folder.path))
    monkeypatch.setenv("COHORTIUM_JSON_ERRORS", "1")

    def run(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=answer)

    return run


@pytest.fixture
def run(invoke: Callable[..., Result]) -> Run:
    def run(*arguments: str) -> Any:
        result = invoke(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def _error(result: Result) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
    return error


def test_review_shows_every_fingerprint_and_sign_votes_once(site: Site, run: Run) -> None:
    contract = site.propose()
    reviewed = run("study", "review", "lung")
    assert reviewed["problems"] == []
    assert {known["fingerprint"] for known in reviewed["keys"]} == {
        *(fingerprint(p.key) for p in contract.participants),
        fingerprint(site.world.researcher.public),
    }
    assert run("study", "sign", "lung", "--yes")["state"] == "signed"
    assert run("study", "sign", contract.digest, "--yes")["state"] == "signed"
    (owed,) = site.service.store.owed()
    signed, signer = Contract.open(outbox.message_of(owed).statement.envelope)
    assert (signed.digest, signer) == (contract.digest, site.world.keys["Alpha"].public)
    peers = run("node", "peers", "list")
    assert [peer["name"] for peer in peers] == ["Beta", "Gamma"]
    status = run("node", "status")
    assert status["owed_topics"] == [f"vote:{contract.digest}"]
    assert status["link"] is None
    assert status["contracts_list"][0]["state"] == "signed"


def test_what_an_amendment_changes_is_shown_first_and_in_chinese(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    first = site.propose()
    run("study", "sign", "lung", "--yes")
    site.service.answer(active(first.digest, site.world.signed(first)))
    second = amended(first, disclosure=Disclosure(min_cell=4))
    site.service.answer(site.world.proposal(second))
    english = invoke("study", "review", second.digest).stdout
    assert english.startswith("What differs: version 1\n")
    assert "[LOOSENS PROTECTION] The minimum cell size (persons) was 5 and becomes 4\n" in english
    chinese = invoke("study", "review", second.digest, "--lang", "zh").stdout
    assert "【放宽保护】 最小单元格人数：原为 5，变更为 4\n" in chinese
    data = run("study", "review", second.digest)
    assert {
        "path": ["disclosure", "min_cell"],
        "kind": "changed",
        "before": 5,
        "after": 4,
        "effect": "looser",
    } in data["changes"]
    assert invoke("study", "review", "lung", "--lang", "tlh").exit_code == 2


def test_signing_asks_first(site: Site, invoke: Callable[..., Result]) -> None:
    site.propose()
    refused = invoke("study", "sign", "lung", answer="n\n")
    assert refused.exit_code == 1
    assert "Fingerprints to compare by telephone" in refused.stderr
    assert site.service.store.owed() == []
    assert invoke("study", "sign", "lung", answer="y\n").exit_code == 0
    assert len(site.service.store.owed()) == 1


def test_a_contract_with_problems_is_not_signed(site: Site, invoke: Callable[..., Result]) -> None:
    site.propose(security_level="L4")
    text = invoke("study", "review", "lung").stdout
    assert "PROBLEM" in text
    assert "security level L4" in text
    result = invoke("study", "sign", "lung", "--yes")
    assert (result.exit_code, _error(result)["code"]) == (3, "unenforceable")
    assert site.service.store.owed() == []


def test_refusing_says_why(site: Site, run: Run, invoke: Callable[..., Result]) -> None:
    contract = site.propose()
    assert _error(invoke("study", "refuse", "lung", "--reason", " "))["code"] == "bad-input"
    refused = run("study", "refuse", "lung", "--reason", "The purpose is not clear.")
    assert refused["state"] == "refused"
    (entry,) = [e for e in run("node", "journal") if e["what"] == "refuse"]
    assert (entry["contract"], entry["why"]) == (contract.digest, "The purpose is not clear.")
    assert _error(invoke("study", "sign", "lung", "--yes"))["code"] == "contract-ended"
    assert _error(invoke("study", "sign", "unknown", "--yes"))["code"] == "not-found"


def test_a_changed_key_waits_for_the_telephone(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    site.propose()
    run("study", "sign", "lung", "--yes")
    site.world.keys["Beta"] = SigningKey.from_seed(b"\x66" * 32)
    site.propose(study="second")
    changed = fingerprint(site.world.keys["Beta"].public)
    reviewed = run("study", "review", "second")
    assert [k["fingerprint"] for k in reviewed["keys"] if k["status"] == "changed"] == [changed]
    assert _error(invoke("study", "sign", "second", "--yes"))["code"] == "key-mismatch"
    wrong = invoke("node", "peers", "accept", "Beta", "0000 1111")
    assert _error(wrong)["code"] == "not-found"
    run("node", "peers", "accept", "Beta", changed.lower())
    assert run("study", "sign", "second", "--yes")["state"] == "signed"


def test_the_journal_is_listed_and_verified(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    site.propose(computations=(Computation(name="glm"),))
    run("study", "sign", "lung", "--yes")
    assert [entry["what"] for entry in run("node", "journal")] == ["proposal", "sign"]
    assert len(run("node", "journal", "--last", "1")) == 1
    lines = invoke("node", "journal").stdout.splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["allowed", "proposal", "lung"],
        ["allowed", "sign", "lung"],
    ]
    assert run("node", "journal", "--verify")["entries"] == 2
    site.service.store.execute("DROP TRIGGER journal_stays")
    site.service.store.execute("DELETE FROM journal WHERE seq = 1")
    result = invoke("node", "journal", "--verify")
    assert (result.exit_code, _error(result)["code"]) == (8, "broken-journal")


def test_a_refusal_stands_in_the_journal_with_its_reason(
    site: Site, invoke: Callable[..., Result]
) -> None:
    about: dict[str, object] = {"study": "lung", "computation": "stats.describe"}
    about |= {"run_id": "0" * 32, "round": 2}
    why = {"why": "All runs are used."}
    journal.append(site.service.store, "round", about | why, allowed=False, code="run-limit")
    first, second = invoke("node", "journal").stdout.splitlines()
    assert first.endswith("Z  REFUSED  round 2   lung describe  run 00000000")
    assert len(first) <= 80
    assert second == "  run-limit: All runs are used."


def test_removing_a_dataset_names_the_studies_signed_with_it(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    site.propose(computations=(Computation(name="glm"),))
    assert "cannot run" not in invoke("data", "remove", "patients").stderr
    run("study", "sign", "lung", "--yes")
    assert "cannot run without it: lung" in invoke("data", "remove", "patients").stderr
    assert run("data", "remove", "patients", "--yes")["studies"] == ["lung"]


def test_pause_and_resume(site: Site, run: Run, invoke: Callable[..., Result]) -> None:
    assert run("node", "pause") == {"paused": True}
    assert run("node", "policy", "show")["paused"] is True
    assert "paused     yes" in invoke("node", "status").stdout
    assert run("node", "resume") == {"paused": False}
    site.folder.policy.write_text("odd: 1\n")
    assert "policy.yaml is wrong" in invoke("node", "status").stdout
    assert _error(invoke("node", "policy", "show"))["code"] == "bad-config"


def test_rotation_is_owed_until_the_node_serves(site: Site, run: Run) -> None:
    run("node", "rotate")
    run("node", "rotate")
    (owed,) = site.service.store.owed()
    message = outbox.message_of(owed).rotate_certificate
    assert b"BEGIN CERTIFICATE REQUEST" in message.csr_pem
    assert tls.current(site.folder.tls).name == "1"


def test_a_folder_that_is_no_node(
    tmp_path: Path, invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHORTIUM_NODE_DIR", str(tmp_path / "other"))
    result = invoke("node", "status")
    assert (result.exit_code, _error(result)["code"]) == (2, "not-found")
    joined = invoke("node", "join", "nonsense", "--dir", str(tmp_path / "x"))
    assert _error(joined)["code"] == "bad-invitation"


@pytest.mark.usefixtures("site")
def test_uses_of_the_data_fit_into_eighty_columns(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    use = {
        "at": "2026-11-22T16:30:01.123456Z",
        "run_id": "ab12cd34" * 4,
        "study": "lung-2026",
        "computation": "survival.cumulative_incidence",
        "researcher": "Dr. Maria Researcher",
        "sites": ["North", "South", "West"],
        "status": "refused",
        "refused": "too-few-persons",
    }
    ended = {**use, "status": "succeeded", "suppressed": 2, "researcher": None, "sites": []}
    del ended["refused"]
    monkeypatch.setattr("cohortium.node.uses.uses", lambda *_: [use, ended])
    shown = invoke("node", "runs").stdout
    assert max(map(len, shown.splitlines())) <= 80
    for text in (
        "2026-11-22",
        "16:30:01",
        "survival.cumulative_incidence",
        "lung-2026, Dr. Maria Researcher, 3",
        "too-few-persons",
        "withheld: 2",
    ):
        assert text in shown
