"""Tasks from the SDK: what is ordered, what is verified, and what is opened."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.fake_hub import FINGERPRINT, KEY, NOW, FakeHub
from tests.support.fake_sites import key

from cohortium.contract.model import Contract, Enclave, Environment, Researcher, Seat
from cohortium.contract.task import LOG_SLOT, Argument, Artefact, Code, InputSlot, OutputSlot, Task
from cohortium.core.canonical import digest_bytes, parse_json
from cohortium.core.rest import StudyInfo
from cohortium.enclave.exchange import Made, TaskOutcome
from cohortium.enclave.output_archive import ArchivedOutputs
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.sdk.client import Client
from cohortium.sdk.federation import Federation
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.study import Study
from cohortium.sdk.tasks import TaskResult
from cohortium.sdk.vault_key import own_key, vault_file
from cohortium.vault.card import VaultCard
from cohortium.vault.keys import PrivateKey, PublicKey
from cohortium.vault.writer import VaultWriter

RUN_ID = "ab" * 16
ENCLAVE = key("Enclave")
TASK = Task(
    name="segment",
    code=Code(name="retina", content_digest="sha256:" + "c" * 64, owner="Ada", public=True),
    arguments=(Argument(name="epochs"), Argument(name="width", value=12)),
    inputs=(
        InputSlot(
            name="images",
            kind="dataset",
            owners=("Alpha",),
            artefact=Artefact(name="drive", content_digest="sha256:" + "d" * 64, owners=("Alpha",)),
        ),
    ),
    outputs=(
        OutputSlot(name="report", owners=("Ada",), recipients=("Ada",)),
        OutputSlot(name="model", owners=("Alpha",), recipients=("Alpha",)),
    ),
    log_recipients=("Ada",),
)


def contract(**changes: Any) -> Contract:
    fields: dict[str, Any] = {
        "study": "eyes",
        "title": "Vessels of the retina",
        "purpose": "Find them.",
        "tasks": (TASK,),
        "security_level": "L2",
        "environment": Environment(enclaves=(Enclave(name="Enclave", key=ENCLAVE.public),)),
        "expires_at": "2027-01-01T00:00:00Z",
        "consortium": FINGERPRINT,
        "participants": tuple(Seat(name=n, key=key(n).public) for n in ("Alpha", "Beta")),
        "min_sites": 2,
        "recipients": (Researcher(name="Ada", key=KEY.public),),
        "proposed_by": Researcher(name="Ada", key=KEY.public),
        "created_at": NOW,
    }
    return Contract(**(fields | changes))


CONTRACT = contract()


def encrypted(content: bytes, to: PublicKey, folder: Path) -> bytes:
    place = folder / sha256(content).hexdigest()
    with VaultWriter.open(place, [to], PrivateKey.generate().signing) as writer:
        writer.write(content)
    return place.read_bytes()


def archive(files: dict[str, bytes]) -> bytes:
    made = BytesIO()

    class Kept(BytesIO):
        def close(self) -> None:
            made.write(self.getvalue())

    sink = ArchivedOutputs(lambda _: Kept())
    for name, data in files.items():
        sink.begin("slot", name, len(data))
        sink.write(data)
        sink.end()
    sink.close()
    return made.getvalue()


class Hub:
    """A hub that keeps ciphertext, and what an enclave signed."""

    def __init__(self, folder: Path) -> None:
        self.file = vault_file(folder / "ada.key")
        own = own_key(self.file, make=True).public
        other = PrivateKey.generate().public
        report = {"report.json": b'{"dice": 0.742}', "roc/curve.csv": b"x,y\n"}
        self.outputs = {
            "report": encrypted(archive(report), own, folder),
            "model": encrypted(archive({"model": b"weights"}), other, folder),
            LOG_SLOT: encrypted(archive({"log.txt": "épreuve 1\n".encode()}), own, folder),
        }
        self.signer = ENCLAVE
        self.changes: dict[str, Any] = {}

    def client(self) -> Client:
        answers: dict[str, Any] = {
            f"GET /runs/{RUN_ID}/outputs/{slot}": lambda _, slot=slot: httpx.Response(
                200, content=self.outputs[slot]
            )
            for slot in self.outputs
        }
        client = FakeHub(answers).client()
        client.vault_file = self.file
        return client

    def outcome(self) -> TaskOutcome:
        fields: dict[str, Any] = {
            "run_id": RUN_ID,
            "study": "eyes",
            "request_digest": "sha256:" + "e" * 64,
            "contract_digest": CONTRACT.digest,
            "task": "segment",
            "enclave": "Enclave",
            "enclave_key": ENCLAVE.public,
            "executor": "landlock",
            "level": "L2",
            "end": "succeeded",
            "seconds": 1.5,
            "outputs": tuple(
                Made(slot=slot, size_bytes=len(data), content_digest=digest_bytes(data))
                for slot, data in self.outputs.items()
            ),
            "at": NOW,
        }
        return TaskOutcome(**(fields | self.changes))

    def data(self) -> dict[str, Any]:
        outcome = self.outcome()
        envelope = base64.b64encode(outcome.sign(self.signer)).decode()
        return {"outcome": outcome.to_json(), "envelope": envelope}

    def result(self, data: dict[str, Any] | None = None, **info: Any) -> TaskResult:
        fields = {
            "id": RUN_ID,
            "study": "eyes",
            "contract_digest": CONTRACT.digest,
            "computation": "task.segment",
            "params": {},
            "status": "succeeded",
            "researcher": KEY.public,
            "submitted_at": "2026-11-22T00:00:00Z",
        }
        run = RunInfo.from_json(fields | info)
        return TaskResult(run, data or self.data(), self.client(), CONTRACT)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def test_what_is_for_the_researcher_is_decrypted_into_a_new_folder(
    hub: Hub, tmp_path: Path
) -> None:
    result = hub.result()
    assert result.readable == ("report",)
    seen: list[tuple[str, int, int]] = []
    written = result.download(tmp_path / "out", on_bytes=lambda *told: seen.append(told))
    assert set(written) == {"report"}
    assert (tmp_path / "out/report/report.json").read_bytes() == b'{"dice": 0.742}'
    assert (tmp_path / "out/report/roc/curve.csv").read_bytes() == b"x,y\n"
    assert not list((tmp_path / "out").glob(".cohortium-*"))
    assert seen[-1][1] == seen[-1][2] > 0
    assert result.log == "épreuve 1\n"
    assert result.read("report", "roc/curve.csv") == b"x,y\n"
    assert result.files("report") == {"report.json": 15, "roc/curve.csv": 4}
    with pytest.raises(ConflictError) as caught:
        result.download(tmp_path / "out")
    assert caught.value.code == "already-exists"
    frame = result.to_frame()
    assert set(frame["output"]) == {"report", "model"}
    assert frame.loc[frame["output"] == "model", "for_you"].tolist() == [False]
    assert "2 outputs, 1 of them for you" in str(result.summary())
    assert "1项可由您读取" in result.interpret("zh")


def test_a_simulated_enclave_is_not_told_with_a_level(hub: Hub) -> None:
    assert "in Enclave (landlock, L2)" in hub.result().interpret()
    hub.changes = {"executor": "simulated", "level": "L4"}
    assert "in Enclave (simulated: NO PROTECTION)" in hub.result().interpret()
    assert "（模拟环境，不提供任何保护）" in hub.result().interpret("zh")


def test_what_is_for_others_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        hub.result().download(tmp_path / "out", ["model"])
    assert caught.value.code == "not-authorised"
    with pytest.raises(PolicyRefusal):
        hub.result().read("model")
    with pytest.raises(InputError) as missing:
        hub.result().read("nothing")
    assert missing.value.code == "not-found"
    with pytest.raises(InputError) as several:
        hub.result().read("report")
    assert "roc/curve.csv" in several.value.message


@pytest.mark.parametrize("how", ["altered", "longer", "shorter", "another"])
def test_a_hub_that_gives_another_file_is_found_out(hub: Hub, tmp_path: Path, how: str) -> None:
    result = hub.result()
    good = hub.outputs["report"]
    hub.outputs["report"] = {
        "altered": good[:-1] + bytes([good[-1] ^ 1]),
        "longer": good + b"x",
        "shorter": good[:-1],
        "another": hub.outputs[LOG_SLOT],
    }[how]
    with pytest.raises(VerificationError) as caught:
        result.download(tmp_path / "out")
    assert caught.value.code == "bad-digest"
    assert not list((tmp_path / "out").iterdir())


def swapped_end(hub: Hub) -> dict[str, Any]:
    data = hub.data()
    return {**data, "outcome": {**data["outcome"], "cpu_s": 5.0}}


def other_signer(hub: Hub) -> dict[str, Any]:
    hub.signer = key("Mallory")
    return hub.data()


def unnamed_enclave(hub: Hub) -> dict[str, Any]:
    hub.signer = key("Mallory")
    hub.changes = {"enclave_key": hub.signer.public}
    return hub.data()


def other_run(hub: Hub) -> dict[str, Any]:
    hub.changes = {"run_id": "cd" * 16}
    return hub.data()


def other_task(hub: Hub) -> dict[str, Any]:
    hub.changes = {"task": "other"}
    return hub.data()


def other_contract(hub: Hub) -> dict[str, Any]:
    hub.changes = {"contract_digest": "sha256:" + "0" * 64}
    return hub.data()


def lower_level(hub: Hub) -> dict[str, Any]:
    hub.changes = {"level": "L1"}
    return hub.data()


@pytest.mark.parametrize(
    "lie",
    [
        *(swapped_end, other_signer, unnamed_enclave, other_run, other_task, other_contract),
        lower_level,
    ],
)
def test_an_outcome_that_the_contracts_enclave_did_not_sign_for_this_run_is_refused(
    hub: Hub, lie: Callable[[Hub], dict[str, Any]]
) -> None:
    with pytest.raises(VerificationError) as caught:
        hub.result(lie(hub))
    assert caught.value.code in {"bad-digest", "unknown-signer", "evidence-refused"}


def test_another_order_of_the_same_run_id_is_not_taken_for_the_own(hub: Hub) -> None:
    run, own = hub.result().run, "sha256:" + "e" * 64
    assert TaskResult(run, hub.data(), hub.client(), CONTRACT, own).outcome.end == "succeeded"
    with pytest.raises(VerificationError) as caught:
        TaskResult(run, hub.data(), hub.client(), CONTRACT, "sha256:" + "f" * 64)
    assert caught.value.code == "bad-digest"


@pytest.mark.parametrize("data", [{}, {"envelope": "%", "outcome": {}}, {"envelope": "AA=="}])
def test_what_is_no_outcome_is_a_protocol_error(hub: Hub, data: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        hub.result(data or {"x": 1})
    assert caught.value.code == "malformed-message"


def test_without_the_vault_key_one_is_told_where_it_lies(hub: Hub) -> None:
    result = hub.result()
    hub.file.unlink()
    with pytest.raises(InputError) as caught:
        result.read("report", "report.json")
    assert caught.value.code == "vault-key-missing"


def study(fake: FakeHub, file: Path | None) -> Study:
    client = fake.client()
    client.vault_file = file
    info = {
        "id": "eyes",
        "contract_digest": CONTRACT.digest,
        "status": "active",
        "contract": CONTRACT.to_json(),
    }
    return Study(client, StudyInfo.from_json(info))


def test_a_task_is_ordered_as_a_signed_run_and_the_card_goes_first(tmp_path: Path) -> None:
    fake = FakeHub({"PUT /card": {}})

    def submitted(request: httpx.Request) -> Any:
        payload = base64.b64decode(parse_json(request.content)["payload"])
        asked = parse_json(payload)
        assert (asked["computation"], asked["params"]) == ("task.segment", {"epochs": 3})
        return {
            "run": {
                **{name: asked[name] for name in ("study", "contract_digest", "computation")},
                "id": asked["run_id"],
                "params": asked["params"],
                "status": "queued",
                "researcher": KEY.public,
                "submitted_at": "2026-11-22T00:00:00Z",
            }
        }

    fake.answers["POST /runs"] = submitted
    file = vault_file(tmp_path / "ada.key")
    eyes = study(fake, file)
    assert repr(eyes.task("segment")) == "<Task segment at L2: images -> report, model>"
    run = eyes.task("segment").submit(epochs=3)
    assert run.status == "queued"
    card, _ = VaultCard.open(fake.requests[0].content, key=KEY.public)
    assert (card.name, card.vault) == ("Ada", own_key(file).public.to_text())
    assert BytesIO(file.read_bytes()).read(15) == b"vault-private1:"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "bad-input"),
        ({"epochs": 1, "depth": 2}, "bad-input"),
        ({"epochs": 1, "width": 13}, "not-permitted"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    arguments: dict[str, int], code: str
) -> None:
    fake = FakeHub({})
    with pytest.raises(CohortiumError) as caught:
        study(fake, None).task("segment").submit(**arguments)
    assert caught.value.code == code
    assert not fake.requests


def test_a_task_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError) as caught:
        study(FakeHub({}), None).task("segmnt")
    assert "segment" in caught.value.message


def test_a_program_that_does_not_fit_its_task_is_refused_before_anybody_signs(
    tmp_path: Path,
) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "task.yaml").write_text(
        "command: ['{python}']\ninputs: {images: dataset}\noutputs: [report]\n"
    )
    file = tmp_path / "study.yaml"
    file.write_text(
        """
study: eyes
title: Eyes
purpose: Vessels.
participants: [Alpha, Beta]
security_level: L2
tasks:
  - name: segment
    code: {folder: program}
    inputs: [{name: images, kind: dataset, owners: [Alpha]}]
    outputs: [{name: reports, owners: [Ada], recipients: [Ada]}]
recipients: [Ada]
expires_at: 2099-01-01
"""
    )
    fake = FakeHub({"GET /users": [{"name": "Ada", "key": KEY.public}]})
    for put in ("propose", "draft"):
        with pytest.raises(InputError) as caught:
            getattr(Federation(fake.client(), "Test"), put)(file)
        assert caught.value.code == "bad-proposal"
        assert "no output reports (it has report)" in caught.value.message
    assert {request.method for request in fake.requests} == {"GET"}
