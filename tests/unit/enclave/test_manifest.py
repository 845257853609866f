"""How a program says how it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohortium.enclave import manifest
from cohortium.enclave.manifest import Manifest
from cohortium.errors import CohortiumError, InputError

TEXT = """\
command: ["{python}", "{code}/main.py", "--rate={arguments.rate}", "{inputs.images}"]
inputs: {images: dataset, start: model}
outputs: [model]
arguments: {rate: 0.1, epochs: null}
limits: {time_s: 60}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.yaml").write_text(TEXT)
    (tmp_path / "main.py").write_text("print(1)\n")
    return tmp_path


def test_a_job_has_the_paths_and_arguments_of_its_run(folder: Path) -> None:
    given = {"images": folder, "start": folder}
    job = manifest.read(folder).job(folder, given, {"epochs": 3, "rate": "{x}"})
    assert job.command("/task", "/usr/bin/python3") == [
        "/usr/bin/python3",
        "/task/code/main.py",
        "--rate={x}",
        "/task/inputs/images",
    ]
    assert (job.outputs, job.limits.time_s) == (("model",), 60)


def test_the_value_of_an_argument_is_no_template(folder: Path) -> None:
    given = {"images": folder, "start": folder}
    job = manifest.read(folder).job(folder, given, {"epochs": 3, "rate": "{arguments.epochs}"})
    assert job.command("/task", "python")[2] == "--rate={arguments.epochs}"


@pytest.mark.parametrize(
    ("inputs", "arguments", "said"),
    [
        (["images"], {"epochs": 1}, "needs start"),
        (["images", "start"], {}, "needs epochs"),
        (["images", "start", "more"], {"epochs": 1}, "no input 'more'; it has images, start"),
        (["images", "start"], {"epochs": 1, "other": 2}, "no argument 'other'"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, inputs: list[str], arguments: dict[str, int], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        manifest.read(folder).job(folder, dict.fromkeys(inputs, folder), arguments)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "command: [x]", "command: [x]\noutputs: [a]\nmore: 1", "command: [", "\0"],
)
def test_a_manifest_that_is_none_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        manifest.read(tmp_path)
    assert caught.value.code == "bad-config"


def test_a_folder_without_one_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no task\.yaml"):
        manifest.read(tmp_path)


def test_the_digest_is_of_every_file_and_of_nothing_else(folder: Path) -> None:
    before = manifest.digest(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.pyc").write_bytes(b"x")
    assert manifest.digest(folder) == before
    (folder / "task.yaml").write_text(TEXT.replace("0.1", "0.2"))
    changed = manifest.digest(folder)
    (folder / "lib").mkdir()
    (folder / "lib" / "more.py").touch()
    assert len({before, changed, manifest.digest(folder)}) == 3


def test_a_link_in_a_program_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(CohortiumError, match="link is neither a file nor a folder"):
        manifest.digest(folder)


def test_a_manifest_survives_json() -> None:
    made = Manifest(command=("x",), outputs=("y",))
    assert Manifest.model_validate(made.model_dump(mode="json")) == made
