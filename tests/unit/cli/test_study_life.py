"""``cohortium study suspend``, ``revoke``, ``assign``, ...: a steward on a node's real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import active
from tests.support.life import transition
from tests.support.node_folder import Site
from typer.testing import CliRunner, Result

from cohortium.cli.main import app
from cohortium.contract.model import Contract, Draft
from cohortium.contract.statements import Assignment, Transition
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import outbox

Invoke = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "node")


@pytest.fixture
def invoke(site: Site, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.setenv("COHORTIUM_NODE_DIR", str(site.folder.path))

    def run(*arguments: str, json: bool = False) -> Result:
        monkeypatch.setenv("COHORTIUM_JSON_ERRORS", "1" if json else "")
        return CliRunner().invoke(app, [*arguments, *(["--json"] if json else [])])

    return run


def data_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def error_of(result: Result) -> dict[str, Any]:
    assert result.stderr, (result.stdout, repr(result.exception))
    return dict(json.loads(result.stderr.splitlines()[-1])["error"])


def in_force(site: Site, invoke: Invoke) -> Contract:
    """A contract that all have signed; what is owed is sent."""
    contract = site.propose()
    assert invoke("study", "sign", "lung", "--yes").exit_code == 0
    reply = site.service.answer(active(contract.digest, site.world.signed(contract)))
    assert reply.WhichOneof("body") == "ack", reply
    for owed in site.service.store.owed():
        site.service.store.settle(owed.id, "ok")
    return contract


def stated(site: Site) -> list[Transition]:
    owed = [outbox.message_of(one) for one in site.service.store.owed()]
    return [Transition.open(message.statement.envelope)[0] for message in owed]


def test_suspend_and_resume_count_here_at_once_and_are_owed(site: Site, invoke: Invoke) -> None:
    contract = in_force(site, invoke)
    text = invoke("study", "suspend", "lung", "--reason", "A doubt.")
    assert text.exit_code == 0, text.output
    assert "from this moment" in text.stdout
    assert "cohortium study resume lung" in text.stdout
    stored = site.service.store.contract(contract.digest)
    assert stored is not None
    assert stored.state == "suspended"
    resumed = data_of(invoke("study", "resume", "lung", "--reason", "Settled.", json=True))
    assert (resumed["state"], resumed["digest"]) == ("active", contract.digest)
    only = ("--only", "test.sum", "--only", "test.separate")
    again = invoke("study", "suspend", "lung", "--reason", "These.", *only, json=True)
    assert data_of(again)["state"] == "suspended"
    assert [(one.action, one.reason) for one in stated(site)] == [
        ("suspend", "A doubt."),
        ("resume", "Settled."),
        ("suspend", "These."),
    ]
    assert stated(site)[-1].computations == ("test.sum", "test.separate")
    status = data_of(invoke("node", "status", json=True))
    assert status["contracts_list"][0]["state"] == "suspended"


def test_revoke_is_for_good_and_refuse_says_so(site: Site, invoke: Invoke) -> None:
    in_force(site, invoke)
    refused = invoke("study", "refuse", "lung", "--reason", "A doubt.", json=True)
    assert (refused.exit_code, error_of(refused)["code"]) == (7, "wrong-state")
    assert "revoke it instead" in error_of(refused)["message"]
    revoked = data_of(invoke("study", "revoke", "lung", "--reason", "A doubt.", json=True))
    assert revoked["state"] == "revoked"
    resumed = invoke("study", "resume", "lung", "--reason", "No doubt.", json=True)
    assert (resumed.exit_code, error_of(resumed)["code"]) == (7, "wrong-state")
    assert "the latest is revoked" in error_of(resumed)["message"]


@pytest.mark.parametrize("command", ["suspend", "resume", "revoke"])
def test_what_has_not_arrived_is_not_found(invoke: Invoke, command: str) -> None:
    result = invoke("study", command, "lung", "--reason", "A doubt.", json=True)
    assert (result.exit_code, error_of(result)["code"]) == (2, "not-found")
    assert "cohortium node status" in error_of(result)["message"]


def test_an_unknown_computation_is_not_suspended(site: Site, invoke: Invoke) -> None:
    in_force(site, invoke)
    result = invoke("study", "suspend", "lung", "--reason", "A doubt.", "--only", "glm", json=True)
    assert (result.exit_code, error_of(result)["code"]) == (2, "bad-input")
    assert "test.*" in error_of(result)["message"]
    assert stated(site) == []


def test_what_the_hub_refused_is_shown(site: Site, invoke: Invoke) -> None:
    in_force(site, invoke)
    assert "REFUSED" not in invoke("node", "status").stdout
    invoke("study", "suspend", "lung", "--reason", "A doubt.")
    (owed,) = site.service.store.owed()
    site.service.store.settle(owed.id, '{"code":"stale-request","message":"Compare the clocks."}')
    status = data_of(invoke("node", "status", json=True))
    assert "stale-request" in status["refused_by_hub"][0]["answer"]
    assert "Compare the clocks." in invoke("node", "status").stdout


def test_the_history_here_has_every_verified_statement(site: Site, invoke: Invoke) -> None:
    contract = in_force(site, invoke)
    said = transition(contract, "suspend", "Beta", at=site.world.now, reason="A doubt.")
    envelope = said.sign(site.world.keys["Beta"])
    message = pb.ContractStatement(envelope=envelope)
    reply = site.service.answer(pb.Message(contract_statement=message))
    assert reply.WhichOneof("body") == "ack", reply
    rows = data_of(invoke("study", "history", "lung", json=True))
    assert [(row["author"], row["action"]) for row in rows] == [
        ("Dr. Li", "propose"),
        ("Alpha", "sign"),
        ("Beta", "sign"),
        ("Gamma", "sign"),
        ("Beta", "suspend"),
    ]
    assert (rows[-1]["state"], rows[-1]["reason"]) == ("suspended", "A doubt.")
    assert "A doubt." in invoke("study", "history", "lung").stdout


def drafted(site: Site) -> Draft:
    """A draft in which Alpha and Beta have still to say what they give."""
    contract = site.world.contract(
        created_at=site.world.now, expires_at=site.world.now + timedelta(days=9)
    )
    fields = contract.to_json() | {"schema_id": "cohortium/draft/1"}
    for participant in fields["participants"][:2]:
        for name in ("dataset", "dataset_digest", "dictionary_digest"):
            del participant[name]
    draft = Draft.from_json(fields)
    message = pb.ContractDraft(envelope=draft.sign(site.world.researcher))
    reply = site.service.answer(pb.Message(contract_draft=message))
    assert reply.WhichOneof("body") == "ack", reply
    return draft


def test_a_slot_is_filled_once_with_a_confirmed_dataset(site: Site, invoke: Invoke) -> None:
    draft = drafted(site)
    assert "waits for us lung  dataset/Alpha" in invoke("node", "status").stdout
    listed = data_of(invoke("study", "assign", "lung", json=True))
    assert [(row["slot"], row["waits_for"]) for row in listed["slots"]] == [
        ("dataset/Alpha", ["Alpha"]),
        ("dataset/Beta", ["Beta"]),
    ]
    for slot, dataset, code in (
        ("dataset/Beta", "patients", "not-authorised"),
        ("dataset/Omega", "patients", "not-found"),
        ("dataset/Alpha", "unknown", "not-found"),
    ):
        result = invoke("study", "assign", "lung", slot, dataset, json=True)
        assert error_of(result)["code"] == code
    assert error_of(invoke("study", "assign", "lung", "dataset/Alpha", json=True))["code"] == (
        "bad-input"
    )
    assert site.service.store.owed() == []
    assert invoke("study", "assign", "lung", "dataset/Alpha", "patients").exit_code == 0
    (owed,) = site.service.store.owed()
    said, signer = Assignment.open(outbox.message_of(owed).statement.envelope)
    assert (said.draft_digest, said.artefact.content_digest) == (draft.digest, site.digest)
    assert signer == site.world.keys["Alpha"].public
    assert invoke("study", "assign", "lung", "dataset/Alpha", "patients").exit_code == 0
    assert len(site.service.store.owed()) == 1
    assert error_of(invoke("study", "assign", "unknown", json=True))["code"] == "not-found"
    listed = data_of(invoke("study", "assign", "lung", json=True))
    assert listed["slots"][0]["filled"] == ["patients"]


def test_a_steward_reads_a_draft_before_filling_it(site: Site, invoke: Invoke) -> None:
    draft = drafted(site)
    text = invoke("study", "review", "lung", "--draft").stdout
    assert text.startswith("Draft of a contract, under which nothing may run: Lung cancer (lung)\n")
    assert "  - slot dataset/Alpha waits for Alpha\n" in text
    chinese = invoke("study", "review", "lung", "--draft", "--lang", "zh").stdout
    assert "  - dataset/Alpha 尚待 Alpha 填入\n" in chinese
    data = data_of(invoke("study", "review", "lung", "--draft", json=True))
    assert Draft.from_json(data["draft"]).digest == data["digest"] == draft.digest


def test_a_draft_that_its_proposer_did_not_sign_is_refused(site: Site) -> None:
    draft = drafted(site)
    other = draft.model_copy(update={"title": "Other"})
    for envelope, code in (
        (other.sign(site.world.keys["Beta"]), "unknown-signer"),
        (b"\x00", "malformed-message"),
    ):
        message = pb.Message(contract_draft=pb.ContractDraft(envelope=envelope))
        reply = site.service.answer(message)
        assert json.loads(reply.error.json)["code"] == code
    foreign = draft.model_copy(update={"consortium": "sha256:" + "0" * 64})
    message = pb.Message(
        contract_draft=pb.ContractDraft(envelope=foreign.sign(site.world.researcher))
    )
    assert json.loads(site.service.answer(message).error.json)["code"] == "bad-digest"
