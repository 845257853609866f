"""SIGKILL or a failing write at any point: a dataset is there whole, or as it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cohortium.errors import InputError
from cohortium.node.datasets import FolderDatasets

CSV = "age,sex\n" + "".join(f"{20 + n},{'f' if n % 2 else 'm'}\n" for n in range(50))

PROGRAM = """
import os, signal, sys
from pathlib import Path
import pyarrow.csv, pyarrow.parquet, ruamel.yaml
from cohortium.node import folder

def mortal(module, name, countdown, after):
    real = getattr(module, name)
    def call(*args, **kwargs):
        countdown[0] -= 1
        if countdown[0] == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        made = real(*args, **kwargs)
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    setattr(module, name, call)

# One child a line, forked before Arrow starts threads: step, moment, then the call.
for line in sys.stdin:
    step, moment, method, *arguments = line.split()
    child = os.fork()
    if child == 0:
        # Die at the step-th call that changes the disk, before or after it is done.
        countdown = [int(step)]
        for name in ("rename", "replace", "unlink", "mkdir"):
            mortal(Path, name, countdown, moment == "after")
        for name in ("open", "fsync"):
            mortal(os, name, countdown, moment == "after")
        try:
            getattr(folder.FolderDatasets(Path(sys.argv[1])), method)("heart", *arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run_until_killed(root: Path, call: tuple[str, ...], check: Callable[[], None]) -> int:
    """Kill the call at its 1st, 2nd, ... change of the disk; returns how many there are."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        for moment in ("before", "after"):
            for step in range(1, 100):
                print(step, moment, *call, file=process.stdin, flush=True)
                status = int(process.stdout.readline())
                check()
                if status == 0:
                    break
                assert status == -signal.SIGKILL
            else:
                raise AssertionError("the call never came to its end")
        process.stdin.close()
    return step


def test_adding_is_all_or_nothing(tmp_path: Path) -> None:
    csv = tmp_path / "heart.csv"
    csv.write_text(CSV)
    root = tmp_path / "datasets"

    def check() -> None:
        datasets = FolderDatasets(root)
        assert datasets.published() == []
        if datasets.names():
            assert datasets.get("heart").n_rows == 50
            assert datasets.dictionary_path("heart").read_text().count("- name:") == 2
            datasets.remove("heart")

    assert run_until_killed(root, ("add", str(csv)), check) > 5
    datasets = FolderDatasets(root)
    datasets.add("heart", csv)
    assert [path.name for path in root.iterdir()] == ["heart"]


def test_confirming_is_all_or_nothing(tmp_path: Path) -> None:
    csv = tmp_path / "heart.csv"
    csv.write_text(CSV)
    root = tmp_path / "datasets"
    reference = FolderDatasets(tmp_path / "reference")
    reference.add("heart", csv)
    expected = reference.confirm("heart")
    FolderDatasets(root).add("heart", csv)

    def check() -> None:
        datasets = FolderDatasets(root)
        dataset = datasets.get("heart")
        if not dataset.confirmed:
            assert datasets.published() == []
            return
        assert dataset.digest == expected.digest
        table = datasets.table("heart", dataset.dictionary.by_name, {}, str(dataset.digest))
        assert table.n_rows == 50
        datasets.remove("heart")
        datasets.add("heart", csv)

    assert run_until_killed(root, ("confirm",), check) > 5
    datasets = FolderDatasets(root)
    datasets.confirm("heart")
    left = {path.name for path in (root / "heart").iterdir() if ".meta.json." not in path.name}
    assert left == {"data.parquet", "dictionary.yaml", "meta.json"}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = tmp_path / "heart.csv"
    csv.write_text(CSV)
    datasets = FolderDatasets(tmp_path / "datasets")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        datasets.add("heart", csv)
    monkeypatch.undo()
    assert list(datasets.root.iterdir()) == []
    datasets.add("heart", csv)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        datasets.confirm("heart")
    monkeypatch.undo()
    assert not datasets.get("heart").confirmed
    assert datasets.confirm("heart").confirmed


def test_a_source_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    csv = tmp_path / "heart.csv"
    csv.write_text(CSV + "1,f,extra\n")
    datasets = FolderDatasets(tmp_path / "datasets")
    with pytest.raises(InputError, match="line 52"):
        datasets.add("heart", csv)
    assert list(datasets.root.iterdir()) == []
