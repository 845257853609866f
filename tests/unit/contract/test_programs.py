"""Studies whose tasks run in enclaves: programs, enclaves and what is lent, by name in the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.contracts import ADA, CONSORTIUM, NOW, contract, directory, key
from tests.support.slots import artefact, assign, begun, draft, filled, task, task_contract

from cohortium.contract.code import files_of, pack
from cohortium.contract.model import Contract, Enclave, Environment, Seat
from cohortium.contract.proposal import StudyFile, read_proposal, read_study, resolve
from cohortium.contract.task import code_digest
from cohortium.core.canonical import digest
from cohortium.errors import InputError, ProtocolError

TEXT = """\
study: vessels
title: Vessels
purpose: To segment.
participants: [Aarhus, Boston]
tasks:
  - name: train
    code: {folder: vessel-unet}
    arguments: [{name: epochs}]
    inputs:
      - name: images
        kind: dataset
        owners: [Aarhus]
        artefact: {name: scans, content_digest: "sha256:%s", owners: [Aarhus]}
    outputs: [{name: model, owners: [Ada], recipients: [Ada]}]
    log_recipients: [Boston]
  - name: join
    code: builtin:join
    outputs: [{name: table, owners: [Boston], recipients: [Boston]}]
security_level: L2
environment: {enclaves: [Kiel, {name: Lund}]}
recipients: [Ada]
expires_at: 2027-11-22
""" % ("1" * 64)

ENCLAVES = {"Kiel": key("Kiel").public, "Lund": key("Lund").public}
JOIN = digest({"builtin": "join", "version": 1})


def builtin(name: str) -> str:
    if name != "builtin:join":
        raise InputError("not-found", f"There is no {name}.")
    return JOIN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "vessel-unet"
    program.mkdir()
    (program / "task.yaml").write_text("command: ['{python}', '{code}/main.py']\noutputs: [model]")
    (program / "main.py").write_text("print()")
    return program


def read(folder: Path, text: str = TEXT) -> StudyFile:
    return read_study(text, folder.parent, builtin, "Ada")


def bound(folder: Path, text: str = TEXT, **changes: Any) -> Contract:
    around: dict[str, Any] = {
        "consortium": CONSORTIUM,
        "researcher": ADA,
        "users": {"Ada": ADA.key},
        "versions": {},
        "now": NOW,
        "enclaves": ENCLAVES,
    }
    return resolve(read(folder, text).proposal, directory(), **(around | changes))


def refused(folder: Path, text: str, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        bound(folder, text, **changes)
    assert caught.value.code == "bad-proposal"
    return caught.value.message


def test_a_fault_ends_with_one_full_stop(folder: Path) -> None:
    said = refused(folder, TEXT.replace("vessel-unet", "nofolder"))
    assert said.endswith("nofolder.")
    assert not said.endswith("..")


def test_a_study_of_tasks_alone_binds_programs_institutions_and_enclaves(folder: Path) -> None:
    made = bound(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    train, join = (one.code for one in made.tasks)
    assert (train.name, train.owner, train.public) == ("vessel_unet", "Ada", False)
    assert train.content_digest == code_digest(files)
    assert (join.name, join.owner, join.public) == ("builtin:join", "Ada", True)
    assert join.content_digest == JOIN
    assert [(type(one), one.variables) for one in made.participants] == [(Seat, ()), (Seat, ())]
    assert made.givers == ()
    assert made.environment is not None
    assert {one.name: one.key for one in made.environment.enclaves} == ENCLAVES
    assert made.min_sites == 2


def test_the_archives_for_the_hub_are_of_the_programs_that_were_read(folder: Path) -> None:
    archives = read(folder).archives
    assert list(archives) == [code_digest(files_of(pack(folder)))]
    assert list(archives.values()) == [pack(folder)]


def test_a_wheel_is_a_program_of_the_files_in_it(folder: Path) -> None:
    (folder.parent / "vessel_unet-1.0-py3-none-any.whl").write_bytes(pack(folder))
    text = TEXT.replace("folder: vessel-unet", "wheel: vessel_unet-1.0-py3-none-any.whl")
    assert bound(folder, text).tasks == bound(folder).tasks


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("vessel-unet}", "elsewhere}", "line 7: There is no folder"),
        ("folder: vessel-unet", "wheel: none.whl", "line 7: .*none.whl cannot be read"),
        ("folder: vessel-unet", "folder: vessel-unet, wheel: x.whl", "one folder or one wheel"),
        ("folder: vessel-unet", "folder: 3", "one folder or one wheel"),
        ("vessel-unet}", f"vessel-unet, content_digest: '{JOIN}'}}", "another program"),
        ("builtin:join", "builtin:other", "line 17: There is no builtin:other"),
        ("builtin:join", f"{{name: 'builtin:join', content_digest: '{CONSORTIUM}'}}", "version"),
        ("[Kiel, {name: Lund}]", "[Kiel, Malmo]", "no enclave is called 'Malmo'; there are Kiel"),
        ("{name: Lund}", f"{{name: Lund, key: '{ADA.key}'}}", "Lund has another key"),
        ("{name: Lund}", "Kiel", "two enclaves have the same name"),
        ("[Aarhus, Boston]", "[Aarhus, {name: Boston, dataset: lung}]", "what is lent"),
        (
            "code: builtin:join\n",
            "code: builtin:join\n    inputs: [{name: x, kind: model, owners: [Ada]}]\n",
            "input x of join belongs to Ada, who .* has no node that could lend it",
        ),
        ("[Boston]\n  - name: join", "[Vigo]\n  - name: join", "nor a member 'Vigo'"),
        ("- name: join", "- name: dataset", "cannot be called dataset"),
    ],
)
def test_what_does_not_fit_is_said(folder: Path, old: str, new: str, said: str) -> None:
    assert TEXT.count(old) == 1
    message = refused(folder, TEXT.replace(old, new))
    assert re.search(said, message), message


def test_a_program_without_a_manifest_is_refused(folder: Path) -> None:
    (folder / "task.yaml").unlink()
    assert "has no task.yaml" in refused(folder, TEXT)


def test_a_text_alone_names_programs_by_digest() -> None:
    with pytest.raises(InputError, match=r"line 7: .*give its digest"):
        read_proposal(TEXT)
    text = TEXT.replace("{folder: vessel-unet}", f"{{name: unet, content_digest: '{JOIN}'}}")
    with pytest.raises(InputError, match=r"tasks.0.code.owner"):
        read_proposal(text)


def test_an_enclave_may_be_given_with_its_key_before_it_has_joined(folder: Path) -> None:
    text = TEXT.replace("{name: Lund}", f"{{name: Vigo, key: '{key('Vigo').public}'}}")
    environment = bound(folder, text).environment
    assert environment is not None
    assert environment.enclaves[1] == Enclave(name="Vigo", key=key("Vigo").public)


def test_an_enclave_with_the_key_of_a_party_is_refused() -> None:
    named = Environment(enclaves=(Enclave(name="Kiel", key=key("Aarhus").public),))
    with pytest.raises(ValueError, match="has the key of somebody who is named"):
        contract(environment=named)
    with pytest.raises(ValueError, match="an enclave has no key"):
        contract(environment=Environment(enclaves=(Enclave(name="Kiel"),)))


def test_who_may_read_the_log_has_a_key_in_the_contract() -> None:
    logged = filled(task(log_recipients=("Vigo",)), images=artefact("Aarhus"))
    with pytest.raises(ValueError, match="people who have no key here"):
        task_contract(logged)


def test_what_is_lent_to_a_task_needs_no_dictionary() -> None:
    lent = artefact("Aarhus", dictionary_digest=None)
    life = assign(begun(), "train/images", "Aarhus", lent)
    assert "train/images" not in life.unfilled
    with pytest.raises(InputError, match="without a dictionary"):
        assign(life, "dataset/Boston", "Boston", artefact("Boston", dictionary_digest=None))


def test_a_draft_of_tasks_alone_waits_for_what_is_lent() -> None:
    seats = tuple(Seat(name=name, key=key(name).public) for name in ("Aarhus", "Boston"))
    life = begun(draft(participants=seats, computations=(), variables=()))
    assert set(life.unfilled) == {"train/images"}
    made = assign(life, "train/images", "Aarhus", artefact("Aarhus")).assemble()
    assert made.tasks_only
    assert made.task_of("task.train") is not None
    with pytest.raises(ProtocolError):
        Contract.from_json({**made.to_json(), "computations": [{"name": "glm"}]})
