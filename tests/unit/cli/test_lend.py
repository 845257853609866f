"""``cohortium lend``, and what a steward sees of tasks before signing, on a node's real files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import CONSORTIUM
from tests.support.node_folder import Site
from tests.support.vault import vault_file
from typer.testing import CliRunner, Result

from cohortium.cli.main import app
from cohortium.contract.code import packed
from cohortium.contract.model import Contract, Draft, Enclave, Environment, Seat
from cohortium.contract.statements import Assignment
from cohortium.contract.task import Artefact, Code, InputSlot, OutputSlot, Task, code_digest
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.enclave.exchange import Made, TaskOutcome
from cohortium.enclave.output_archive import ArchivedOutputs
from cohortium.link._generated import link_pb2 as pb
from cohortium.node.lending import Lending
from cohortium.vault.keys import PrivateKey
from cohortium.vault.storage import StreamSink
from cohortium.vault.writer import VaultWriter

PROGRAM = {"main.py": b"print('trains')\n", "task.yaml": b"command: [x]\n"}
OTHERS = "sha256:" + "7" * 64
Run = Callable[..., Any]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path / "node")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "one.png").write_bytes(b"one" * 1000)
    (tmp_path / "weights").write_bytes(b"weights")
    return made


@pytest.fixture
def invoke(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
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


def _code(result: Result) -> str:
    assert result.exit_code != 0, result.output
    return str(json.loads(result.stderr.splitlines()[-1])["error"]["code"])


def _task(filled: dict[str, Artefact], **changes: Any) -> Task:
    inputs = (
        InputSlot(name="images", kind="dataset", owners=("Alpha",), artefact=filled.get("images")),
        InputSlot(
            name="start", kind="model", owners=("Alpha", "Beta"), artefact=filled.get("start")
        ),
    )
    values: dict[str, Any] = {
        "name": "train",
        "code": Code(name="trainer", content_digest=code_digest(PROGRAM), owner="Beta"),
        "inputs": inputs,
        "outputs": (OutputSlot(name="model", owners=("Beta",), recipients=("Beta", "Alpha")),),
        "log_recipients": ("Gamma",),
    }
    return Task.model_validate(values | changes)


def _terms(site: Site, task: Task, **environment: Any) -> dict[str, Any]:
    world = site.world
    key = SigningKey.from_seed(b"\xee" * 32).public
    named: dict[str, Any] = {"enclaves": (Enclave(name="Enclave One", key=key),)}
    return {
        "study": "vessels",
        "title": "Vessels",
        "purpose": "To test.",
        "variables": (),
        "computations": (),
        "tasks": (task,),
        "participants": tuple(Seat(name=n, key=world.keys[n].public) for n in world.sites),
        "environment": Environment(**(named | environment)),
        "min_sites": 2,
        "consortium": CONSORTIUM,
        "recipients": ({"name": "Dr. Li", "key": world.researcher.public},),
        "proposed_by": {"name": "Dr. Li", "key": world.researcher.public},
        "created_at": world.now - timedelta(days=1),
        "expires_at": world.now + timedelta(days=30),
    }


def _propose(site: Site, task: Task, **environment: Any) -> Contract:
    contract = Contract.model_validate(_terms(site, task, **environment))
    reply = site.service.answer(site.world.proposal(contract))
    assert reply.WhichOneof("body") == "ack", reply
    return contract


def test_a_steward_lends_lists_verifies_and_removes(
    site: Site, run: Run, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    assert "lends nothing" in invoke("lend", "list").stdout
    added = run("lend", "add", "pictures", "pictures", "--kind", "dataset")
    assert (added["files"], added["size_bytes"], added["kind"]) == (1, 3000, "dataset")
    assert added["stored_bytes"] > 3000
    (listed,) = run("lend", "list")
    assert listed == {**added, "studies": []}
    shown = run("lend", "show", "pictures", "--verify")
    assert [one["path"] for one in shown["contents"]] == ["one.png"]
    text = invoke("lend", "add", "weights", "weights", "--kind", "model").stdout
    assert "Fill a slot with it: cohortium study assign STUDY TASK/SLOT weights" in text
    assert _code(invoke("lend", "add", "pictures", "pictures")) == "already-exists"
    assert _code(invoke("lend", "show", "nothing")) == "not-found"
    assert run("node", "status")["lends"] == ["pictures", "weights"]
    assert "lends pictures, weights" in invoke("node", "status").stdout
    file = tmp_path / "node" / "lent" / "weights" / "data"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert _code(invoke("lend", "show", "weights", "--verify")) == "bad-digest"
    assert invoke("lend", "remove", "weights", answer="n\n").exit_code == 1
    assert run("lend", "remove", "weights", "--yes")["removed"] is True
    assert [one["name"] for one in run("lend", "list")] == ["pictures"]


def test_what_is_lent_fills_the_slots_of_a_draft(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    run("lend", "add", "pictures", "pictures")
    weights = run("lend", "add", "weights", "weights", "--kind", "model")
    draft = Draft.model_validate(_terms(site, _task({})))
    beta = site.world.keys["Beta"]
    joint = Artefact(name="theirs", content_digest=weights["digest"], owners=("Alpha", "Beta"))
    said = Assignment(
        study=draft.study,
        draft_digest=draft.digest,
        slot="train/start",
        artefact=joint,
        author="Beta",
        at=site.world.now,
    )
    message = pb.ContractDraft(
        envelope=draft.sign(site.world.researcher), assignments=[said.sign(beta)]
    )
    assert site.service.answer(pb.Message(contract_draft=message)).WhichOneof("body") == "ack"
    assert _code(invoke("study", "assign", "vessels", "train/images", "weights")) == "bad-input"
    assert _code(invoke("study", "assign", "vessels", "train/images", "nothing")) == "not-found"
    assert _code(invoke("study", "assign", "vessels", "train/other", "pictures")) == "not-found"
    run("study", "assign", "vessels", "train/images", "pictures")
    filled = run("study", "assign", "vessels", "train/start", "weights")
    assert [slot["waits_for"] for slot in filled["slots"]] == [[], []]
    contract = site.service.drafts.find("vessels").assemble()
    images, start = contract.tasks[0].inputs
    assert start.artefact == joint
    assert images.artefact is not None
    assert images.artefact.content_digest == run("lend", "show", "pictures")["digest"]
    entries = [e for e in run("node", "journal") if e["what"] == "assign"]
    assert [entry["lent"] for entry in entries] == ["pictures", "weights"]


def test_a_steward_reads_the_program_and_the_risks_before_signing(
    site: Site, run: Run, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    pictures = run("lend", "add", "pictures", "pictures")
    weights = run("lend", "add", "weights", "weights", "--kind", "model")
    images = Artefact(name="pictures", content_digest=pictures["digest"], owners=("Alpha",))
    start = Artefact(name="w", content_digest=weights["digest"], owners=("Alpha", "Beta"))
    _propose(site, _task({"images": images, "start": start}))
    assert _code(invoke("node", "code", "vessels", "train")) == "not-found"
    assert _code(invoke("node", "code", "vessels", "other")) == "not-found"
    reviewed = run("study", "review", "vessels")
    assert reviewed["problems"] == []
    enclave = SigningKey.from_seed(b"\xee" * 32).public
    assert {
        "name": "Enclave One",
        "role": "enclave",
        "fingerprint": fingerprint(enclave),
        "status": "new",
    } in reviewed["keys"]
    said = "\n".join(reviewed["warnings"])
    for part in (
        "The task train is at L1: its program is in no sandbox",
        "runs a program of others at L1, where no hardware keeps",
        "from the operator of Enclave One",
        "Outputs of the task train go to Beta.",
        "What the program of train prints goes to Gamma",
        "has not arrived here yet",
        "The number of runs of the task train is not limited.",
    ):
        assert part in said
    lending = Lending.of(site.folder, site.world.clock)
    lending.programs.put(code_digest(PROGRAM), packed(PROGRAM))
    assert (
        "Read it: cohortium node code vessels train" in invoke("study", "review", "vessels").stdout
    )
    shown = run("node", "code", "vessels", "train", "--to", "program")
    assert [one["path"] for one in shown["files"]] == sorted(PROGRAM)
    assert (tmp_path / "program" / "main.py").read_bytes() == PROGRAM["main.py"]
    assert run("study", "sign", "vessels", "--yes")["state"] == "signed"
    again = run("study", "review", "vessels")["keys"]
    assert [one["status"] for one in again if one["role"] == "enclave"] == ["known"]
    (listed, _) = run("lend", "list")
    assert listed["studies"] == ["vessels"]
    removed = invoke("lend", "remove", "pictures", "--yes")
    assert "cannot run without it: vessels" in removed.stderr


def test_what_this_node_cannot_lend_or_enforce_is_not_signed(
    site: Site, run: Run, invoke: Callable[..., Result]
) -> None:
    weights = run("lend", "add", "weights", "weights", "--kind", "model")
    gone = Artefact(name="pictures", content_digest=OTHERS, owners=("Alpha",))
    start = Artefact(name="w", content_digest=weights["digest"], owners=("Alpha", "Beta"))
    filled = {"images": gone, "start": start}
    _propose(
        site,
        _task(filled, security_level="L4"),
        measurements=({"kind": "snp-measurement", "value": "0" * 96},),
    )
    site.folder.policy.write_text("tasks: {allow: built-in}\n")
    found = {one["code"]: one["message"] for one in run("study", "review", "vessels")["problems"]}
    assert set(found) == {"not-found", "site-policy", "unenforceable"}
    assert "is not among what this site lends" in found["not-found"]
    assert "built-in programs only" in found["site-policy"]
    assert "sev-snp: policy.yaml names no product of AMD's" in found["unenforceable"]
    assert _code(invoke("study", "sign", "vessels", "--yes")) in found
    platforms = "amd_platforms: {Milan: {snp: 8, microcode: 115}}"
    site.folder.policy.write_text(f"tasks: {{{platforms}}}\n")
    assert [one["code"] for one in run("study", "review", "vessels")["problems"]] == ["not-found"]


def test_a_simulated_enclave_is_told_of(site: Site, run: Run) -> None:
    weights = run("lend", "add", "weights", "weights", "--kind", "model")
    start = Artefact(name="w", content_digest=weights["digest"], owners=("Alpha", "Beta"))
    images = Artefact(name="w", content_digest=OTHERS, owners=("Beta",))
    slots = (
        {"name": "images", "kind": "dataset", "owners": ("Beta",), "artefact": images},
        {"name": "start", "kind": "model", "owners": ("Alpha", "Beta"), "artefact": start},
    )
    _propose(
        site,
        _task({}, inputs=slots, security_level="L4"),
        allow_simulated=True,
        measurements=({"kind": "simulated", "value": "0" * 64},),
    )
    reviewed = run("study", "review", "vessels")
    assert reviewed["problems"] == []
    assert any("simulated enclave" in warning for warning in reviewed["warnings"])


def test_signing_makes_the_key_that_outputs_are_encrypted_for(site: Site, run: Run) -> None:
    theirs = Artefact(name="w", content_digest=OTHERS, owners=("Beta",))
    slot = {"name": "start", "kind": "model", "owners": ("Beta",), "artefact": theirs}
    _propose(site, _task({}, inputs=(slot,)))
    assert not site.folder.vault_key.exists()
    run("study", "sign", "vessels", "--yes")
    assert PrivateKey.load(site.folder.vault_key).public.to_text().startswith("vault1:")


def test_a_steward_opens_and_discards_what_a_task_gave(
    site: Site, run: Run, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    enclave = SigningKey.from_seed(b"\xee" * 32)
    lending = Lending.of(site.folder, site.world.clock)
    data = io.BytesIO()
    to = [lending.vault.private.public]
    sink = ArchivedOutputs(lambda _slot: VaultWriter(StreamSink(data), to, enclave))
    sink.begin("model", "weights.bin", 7)
    sink.write(b"weights")
    sink.end()
    sink.close()
    digest = digest_bytes(data.getvalue())
    made = Made(slot="model", size_bytes=len(data.getvalue()), content_digest=digest)
    outcome = TaskOutcome(
        run_id="0123456789abcdef" * 2,
        study="vessels",
        request_digest=OTHERS,
        contract_digest=OTHERS,
        task="train",
        enclave="Enclave One",
        enclave_key=enclave.public,
        executor="landlock",
        level="L2",
        end="succeeded",
        outputs=(made,),
        at=site.world.now,
    )
    place = site.folder.received / outcome.run_id / "model" / "data"
    lending.received.finish(outcome, outcome.sign(enclave), (made,))
    place.parent.mkdir()
    place.write_bytes(data.getvalue())
    (listed,) = run("lend", "received")
    assert (listed["task"], listed["end"], set(listed["outputs"])) == (
        "train",
        "succeeded",
        {"model"},
    )
    assert "vessels train" in invoke("lend", "received").stdout
    opened = run("lend", "open", "01234567", "model", "--to", "out")
    assert opened["files"] == [str(Path("out") / "weights.bin")]
    assert (tmp_path / "out" / "weights.bin").read_bytes() == b"weights"
    other = vault_file(b"x", to=(lending.vault.private,))
    place.write_bytes(other)
    assert _code(invoke("lend", "open", "01234567", "model", "--to", "in")) == "unknown-signer"
    assert invoke("lend", "discard", "0123", answer="n\n").exit_code == 1
    assert run("lend", "discard", "0123", "--yes")["removed"] is True
    assert run("lend", "received") == []


def test_nothing_was_received_yet(run: Run, invoke: Callable[..., Result]) -> None:
    assert run("lend", "received") == []
    assert "No task has given" in invoke("lend", "received").stdout
    assert _code(invoke("lend", "open", "0123", "model", "--to", "out")) == "not-found"
