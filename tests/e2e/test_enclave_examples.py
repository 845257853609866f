"""The examples of the enclave give the same files outside and in each executor of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support.source import ROOT

from cohortium.enclave import manifest
from cohortium.enclave.executor import executors

PROGRAMS = ROOT / "examples" / "enclave"
PACKAGES = Path(os.environ.get("COHORTIUM_EXAMPLE_PACKAGES", sys.prefix))
"""An environment with PaddlePaddle, PyTorch and XGBoost where the tests' own has none of them."""

PLACES = ("process", "landlock", "bubblewrap")


def _script(file: Path, *arguments: object) -> None:
    command = [PACKAGES / "bin" / "python", file, *arguments]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


@cache
def _need(package: str) -> None:
    code = f"import importlib.util as u; raise SystemExit(u.find_spec({package!r}) is None)"
    if subprocess.run([PACKAGES / "bin" / "python", "-c", code], check=False).returncode:
        pytest.skip(f"{package} is not in {PACKAGES} (COHORTIUM_EXAMPLE_PACKAGES names another)")


def _here() -> list[str]:
    return [name for name in PLACES if not executors()[name].missing()]


def _try(
    place: str,
    program: str,
    results: Path,
    inputs: Mapping[str, Path],
    arguments: Mapping[str, object],
) -> dict[str, bytes]:
    command = [sys.executable, "-m", "cohortium", "enclave", "try", str(PROGRAMS / program)]
    for option, given in (("--input", inputs), ("--argument", arguments)):
        for name, value in given.items():
            command += [option, f"{name}={value}"]
    command += ["--results", str(results), "--executor", place, "--packages", str(PACKAGES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return _files(results)


def _files(folder: Path) -> dict[str, bytes]:
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of two owners with three small made-up eyes each."""
    _need("PIL")
    folder = tmp_path_factory.mktemp("eyes")
    _script(PROGRAMS / "retina" / "fundus.py", folder, "--eyes", 3, "--side", 96)
    return folder


@pytest.mark.parametrize("program", ["retina", "credit", "predict"])
def test_a_task_s_manifest_is_one(program: str) -> None:
    task = manifest.read(PROGRAMS / program)
    assert set(task.inputs) | set(task.outputs) <= {
        name.strip("{}").partition(".")[2] for name in task.command
    }


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_a_network_learns_the_same_in_every_place(
    framework: str, eyes: Path, tmp_path: Path
) -> None:
    _need(framework)
    inputs = {name: eyes / name for name in ("owner_a", "owner_b")}
    arguments = {"epochs": 1, "patches": 320, "threads": 1, "width": 6, "held_out": 1}
    options: list[object] = [f"--{name.replace('_', '-')}={arguments[name]}" for name in arguments]
    options += [f"--{name.replace('_', '-')}={path}" for name, path in inputs.items()]
    options += [f"--{name}={tmp_path / 'bare' / name}" for name in ("model", "report", "pictures")]
    _script(PROGRAMS / "retina" / f"train_{framework}.py", *options)
    bare = _files(tmp_path / "bare")
    metrics = json.loads(bare["report/metrics.json"])
    assert metrics["trained_on"] == 4
    assert metrics["auc"] > 0.6
    for place in _here():
        given = {**arguments, "framework": framework}
        assert _try(place, "retina", tmp_path / place, inputs, given) == bare

    model, images, out = tmp_path / "bare" / "model", eyes / "owner_b", tmp_path / "vessels"
    script = PROGRAMS / "predict" / "predict.py"
    _script(script, "--model", model, "--images", images, "--vessels", out)
    judged = np.asarray(Image.open(tmp_path / "bare" / "pictures" / "predictions.png"))[192:, 96:]
    found = np.asarray(Image.open(out / "06_vessels.png"))
    assert (found != judged[..., 0]).mean() < 0.001


def test_a_hospital_gets_the_vessels_and_no_more(eyes: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    np.savez(model / "vessels.npz", allow_pickle=False, **_darker_than_usual())
    images = eyes / "owner_a"
    _script(
        *(PROGRAMS / "predict" / "predict.py", "--model", model, "--images", images),
        *("--vessels", tmp_path / "bare" / "vessels"),
    )
    bare = _files(tmp_path / "bare")
    assert list(bare) == [f"vessels/{number:02}_vessels.png" for number in (1, 2, 3)]
    found = np.asarray(Image.open(tmp_path / "bare" / "vessels" / "01_vessels.png")) > 0
    drawn = np.asarray(Image.open(images / "1st_manual" / "01_manual1.png")) > 0
    assert 2 * (found & drawn).sum() / (found.sum() + drawn.sum()) > 0.5
    for place in _here():
        lent = {"model": model, "images": images}
        assert _try(place, "predict", tmp_path / place, lent, {}) == bare


def _darker_than_usual() -> dict[str, NDArray[np.float32]]:
    """A network of width 1 that finds what is a standard deviation darker than around it."""
    out: dict[str, NDArray[np.float32]] = {}
    for name, taken, given in (
        *(("down1a", 1, 1), ("down1b", 1, 1), ("down2a", 1, 2), ("down2b", 2, 2)),
        *(("bottom_a", 2, 4), ("bottom_b", 4, 4), ("up2a", 6, 2), ("up2b", 2, 2)),
        *(("up1a", 3, 1), ("up1b", 1, 1), ("out", 1, 1)),
    ):
        side = 1 if name == "out" else 3
        weight = np.zeros((given, taken, side, side), np.float32)
        if name in ("down1a", "down1b", "up1a", "up1b", "out"):
            weight[0, -1, side // 2, side // 2] = -1 if name == "down1a" else 1
        out[f"{name}.weight"] = weight
        out[f"{name}.bias"] = np.full(given, -1 if name == "out" else 0, np.float32)
    return out


@pytest.mark.parametrize("trees", [0, 20])
def test_an_institution_gets_nothing_of_the_other_s_customers(trees: int, tmp_path: Path) -> None:
    _need("sklearn")
    if trees:
        _need("xgboost")
    _script(PROGRAMS / "credit" / "customers.py", tmp_path, "--customers", 1500)
    inputs = {name: tmp_path / f"{name}.csv" for name in ("bank", "bureau")}
    outputs = ("report", "for_bank", "for_bureau")
    options: list[object] = [f"--{name}={path}" for name, path in inputs.items()]
    options += [f"--{name.replace('_', '-')}={tmp_path / 'bare' / name}" for name in outputs]
    _script(PROGRAMS / "credit" / "train.py", *options, f"--trees={trees}")
    bare = _files(tmp_path / "bare")
    for place in _here():
        assert _try(place, "credit", tmp_path / place, inputs, {"trees": trees}) == bare

    report = json.loads(bare["report/metrics.json"])
    assert ("trees" in report) == bool(trees)
    assert report["customers"] == 1200
    assert report["scorecard"]["auc"] > report["scorecard_of_the_bank_alone"]["auc"] + 0.05
    assert set(bare) == {
        *("report/metrics.json", "for_bank/scorecard.csv", "for_bureau/scorecard.csv")
    }
    for owner, columns in (("bank", {"income", "age"}), ("bureau", {"debt", "late"})):
        card = pd.read_csv(tmp_path / "bare" / f"for_{owner}" / "scorecard.csv")
        assert set(card.column) == columns
        assert card.share.min() >= 0.05
