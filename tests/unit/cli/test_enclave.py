"""``cohortium enclave`` as the writer of a program, or an operator, uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cohortium.cli.enclave import app
from cohortium.enclave.executor import executors
from cohortium.enclave.unprivileged import mounts_refused

TASK = """\
command: ["{python}", "-S", "{code}/main.py", "{inputs.data}", "{outputs.out}", "{arguments.add}"]
inputs: {data: dataset}
outputs: [out]
arguments: {add: null}
"""
MAIN = """\
import pathlib, sys
data, out, add = sys.argv[1:]
total = sum(map(int, pathlib.Path(data).read_text().split())) + int(add)
pathlib.Path(out, "sum.txt").write_text(str(total))
print("added")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("program").mkdir()
    Path("program/task.yaml").write_text(TASK)
    Path("program/main.py").write_text(MAIN)
    Path("data.txt").write_text("1 2 3")
    return tmp_path


def call(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def tried(*more: str, status: int = 0) -> str:
    return call("try", "program", "--executor", "process", *more, status=status)


def test_doctor_says_what_there_is_and_what_is_missing() -> None:
    text = call("doctor")
    assert text.startswith("L1  a separate process")
    found: list[dict[str, Any]] = json.loads(call("doctor", "--json"))
    assert [one["level"] for one in found] == ["L1", "L2", "L3", "L4", "L5"]
    assert found[0]["offered"]
    for one in found:
        reasons = [line["missing"] for line in one["requirements"] if not line["holds"]]
        assert one["offered"] == (not reasons)
        assert all(reason in text for reason in reasons)


def test_a_program_is_tried_and_gives_its_outputs() -> None:
    text = tried("--input", "data=data.txt", "--argument", "add=10", "--results", "results")
    assert text.startswith("added\nIt succeeded: ")
    assert Path("results/out/sum.txt").read_text() == "16"


def test_in_the_sandbox_it_is_the_same(folder: Path) -> None:
    if executors()["landlock"].missing():
        pytest.skip("no sandbox here")
    asked = ("--input", "data=data.txt", "--argument", "add=1", "--results", "results", "--json")
    found = json.loads(call("try", "program", *asked))
    assert (found["end"], found["log"]) == ("succeeded", "added\n")
    assert found["code_digest"].startswith("sha256:")
    assert (folder / "results/out/sum.txt").read_text() == "7"


def test_a_program_that_fails_says_so_with_a_status() -> None:
    text = tried("--input", "data=data.txt", "--argument", "add=x", status=7)
    assert "ValueError" in text
    assert text.splitlines()[-1].startswith("It failed: ")


def test_a_limit_is_named() -> None:
    limits = "limits: {time_s: 0.3}\n"
    Path("program/task.yaml").write_text(TASK + limits)
    Path("program/main.py").write_text("import time; time.sleep(9)")
    text = tried("--input", "data=data.txt", "--argument", "add=1", status=7)
    assert "beyond its limit (time; see `limits` in task.yaml)" in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--input", "data=nowhere.txt", "--argument", "add=1"], "There is no nowhere.txt"),
        (["--input", "data", "--argument", "add=1"], "--input is NAME=VALUE"),
        (["--argument", "add=1"], "The task needs data"),
        (["--input", "data=data.txt", "--argument", "more=1"], "no argument 'more'"),
    ],
)
def test_what_is_missing_is_said(asked: list[str], said: str) -> None:
    assert said in tried(*asked, status=2)


def test_a_built_in_task_is_tried_by_its_name() -> None:
    Path("left.csv").write_text("customer,x\n" + "".join(f"{n},1\n" for n in range(30)))
    Path("right.csv").write_text("customer,y\n" + "".join(f"{n},2\n" for n in range(10, 40)))
    given = ("--input", "left=left.csv", "--input", "right=right.csv", "--executor", "process")
    asked = ("--argument", "id=customer", "--results", "results", "--json")
    found = json.loads(call("try", "builtin:join", *given, *asked))
    assert found["end"] == "succeeded"
    assert found["code_digest"].startswith("sha256:")
    assert json.loads(Path("results/counts/counts.json").read_text())["matched"] == 20


@pytest.mark.parametrize(
    ("named", "said"),
    [("builtin:joint", "no built-in task 'builtin:joint'"), ("nowhere", "There is no folder")],
)
def test_a_program_that_is_not_there_is_said(named: str, said: str) -> None:
    assert said in call("try", named, status=2)


def test_results_that_are_there_are_not_overwritten() -> None:
    Path("results").mkdir()
    asked = ("--input", "data=data.txt", "--argument", "add=1", "--results", "results")
    assert "is there already" in tried(*asked, status=7)


def test_an_unknown_executor_names_those_that_there_are() -> None:
    asked = ("--input", "data=data.txt", "--argument", "add=1")
    text = call("try", "program", "--executor", "nowhere", *asked, status=2)
    assert "there are process, bubblewrap, landlock" in text


def test_inputs_and_results_of_a_vault(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from cohortium.vault.filesystem import VaultFileSystem
    from cohortium.vault.keys import Keyring, PrivateKey

    key = PrivateKey.generate()
    key.save(folder / "me")
    monkeypatch.setenv("COHORTIUM_VAULT_KEYS", str(folder / "me"))
    vault = VaultFileSystem(Keyring([key]))
    with vault.open(str(folder / "data.v"), "wb") as file:
        file.write(b"5 6")
    data, results = f"vault://{folder}/data.v", f"vault://{folder}/results"
    tried("--input", f"data={data}", "--argument", "add=0", "--results", results)
    assert vault.cat_file(str(folder / "results/out/sum.txt")) == b"11"
    assert "--inputs-by" in call("try", "program", "--inputs-by", "post", status=2)
    mounted = ("--input", f"data={data}", "--argument", "add=0", "--inputs-by", "mount")
    assert "mounts no inputs" in tried(*mounted, status=2)
    if mounts_refused() is None and not executors()["landlock"].missing():
        assert "added" in call("try", "program", *mounted)
    asked = ("--argument", "add=0", "--results", results)
    assert "is there already" in tried("--input", f"data={data}", *asked, status=7)
    nowhere = f"data=vault://{folder}/nowhere"
    assert "nothing at" in tried("--input", nowhere, "--argument", "add=0", status=2)
