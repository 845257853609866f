"""Built-in tasks where an executor runs them, and how they are named and started."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests.support.built_in import called, executed, files, plain_join, two_tables
from tests.support.shared_data import shared_data

from cohortium.contract.task import Scalar
from cohortium.enclave import builtin
from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.tasks.command import MODULES, main
from cohortium.errors import InputError

FEATURES = "left.age,right.income,right.visits"
ASKED: dict[str, dict[str, Scalar]] = {
    "intersection": {"release": True},
    "join": {"columns": "all", "format": "parquet"},
    "join-compute": {"value": "right.income", "group": "left.region"},
    "statistics": {"describe": FEATURES, "crosstab": "left.region,left.stroke"},
    "logistic-train": {"target": "left.stroke", "features": FEATURES, "holdout": 0.3},
    "trees-train": {"target": "left.stroke", "features": FEATURES, "trees": 10},
    "pca": {"features": FEATURES},
    "kmeans": {"features": FEATURES},
}


@pytest.fixture
def landlock() -> Executor:
    found = executors()["landlock"]
    if found.missing():
        pytest.skip(f"landlock: {'; '.join(found.missing())}")
    return found


@pytest.mark.parametrize("name", ASKED)
def test_in_the_sandbox_it_gives_the_same_bytes(
    landlock: Executor, tmp_path: Path, name: str
) -> None:
    given = files(two_tables(), tmp_path)
    done = executed(name, landlock, tmp_path / "run", given, **ASKED[name])
    assert (done.outcome.end, done.log) == ("succeeded", "")
    expected = {
        f"{slot}/{file.name}": file.read_bytes()
        for slot, folder in called(name, tmp_path, given, **ASKED[name]).items()
        for file in folder.iterdir()
    }
    assert done.outputs == expected
    assert expected


def test_a_model_predicts_in_the_sandbox(landlock: Executor, tmp_path: Path) -> None:
    given = files(two_tables(), tmp_path)
    model = called("trees-train", tmp_path, given, **ASKED["trees-train"])["model"]
    done = executed("predict", landlock, tmp_path / "run", {**given, "model": model})
    found = pd.read_csv(io.BytesIO(done.outputs["predictions/predictions.csv"]), dtype={"id": str})
    assert found["id"].tolist() == plain_join(two_tables()).index.tolist()
    assert found["probability"].between(0, 1).all()


def test_what_is_refused_is_said_and_gives_no_outputs(landlock: Executor, tmp_path: Path) -> None:
    tables = two_tables()
    tables["left"] = pd.concat([tables["left"], tables["left"].iloc[:1]])
    given = files(tables, tmp_path)
    done = executed("join", landlock, tmp_path / "run", given, columns="all")
    assert done.outcome.end == "failed"
    assert done.log == "Refused: left has 2 rows with an id of another (repeated=drop)."
    assert done.outputs == {}


def test_an_unforeseen_error_prints_no_data(tmp_path: Path) -> None:
    from cohortium.enclave.tasks.main import told

    try:
        int("a patient's name")
    except ValueError as error:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", printed := io.StringIO())
            told(type(error), error, error.__traceback__)
    assert printed.getvalue().startswith("The task failed: ValueError in test_builtin.py, line ")
    assert "patient" not in printed.getvalue()


def test_a_refusal_is_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.csv").write_text("id,x\n1,2\n")
    table = f"one={tmp_path / 'one.csv'}"
    assert main(["join", "--table", table, "id=id"]) == 2
    assert capsys.readouterr().out == "Refused: There must be 2 tables or more.\n"


def test_each_has_a_manifest_a_module_and_a_digest_of_its_own() -> None:
    assert set(builtin.BUILTIN) == set(MODULES)
    assert len({one.digest for one in builtin.BUILTIN.values()}) == len(MODULES)
    for one in builtin.BUILTIN.values():
        made = one.manifest(["a", "b", *(["model"] if one.model else [])])
        assert made.inputs == {"a": "dataset", "b": "dataset"} | (
            {"model": "model"} if one.model else {}
        )
        assert made.outputs == one.outputs
        assert (builtin.FOLDER / f"{MODULES[one.name]}.py").is_file()


def test_what_is_missing_is_said() -> None:
    with pytest.raises(InputError, match="there are intersection, join, join-compute"):
        builtin.find("builtin:joint")
    with pytest.raises(InputError, match="builtin:join needs 2 or more tables of any names"):
        builtin.find("join").manifest(["left"])
    with pytest.raises(InputError, match="1 or more tables of any names, and model"):
        builtin.find("predict").manifest(["left"])
    given: dict[str, Any] = {"left": Path("a"), "right": Path("b")}
    made = builtin.find("join").manifest(given)
    with pytest.raises(InputError, match="The task needs id"):
        made.job(builtin.FOLDER, given, {})


def test_they_import_only_what_a_sandbox_shows() -> None:
    known = {*sys.stdlib_module_names, "numpy", "pandas", "sklearn"}
    for file in builtin.FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= known, file.name
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert str(node.module).split(".")[0] in known, file.name


def test_credit_scoring_over_two_institutions_columns(landlock: Executor, tmp_path: Path) -> None:
    folder = shared_data("credit-default")
    given = {
        "bank": folder / "default_credit_hetero_guest.csv",
        "shop": folder / "default_credit_hetero_host.csv",
    }
    asked: dict[str, Scalar] = {"id": "id", "target": "bank.y", "holdout": 0.3, "trees": 30}
    done = executed("trees-train", landlock, tmp_path / "run", given, **asked)
    told = json.loads(done.outputs["report/report.json"])
    assert told["training"]["n"] + told["holdout"]["n"] == 30_000
    assert 0.76 < told["holdout"]["auc"] < 0.80
    assert 0.40 < told["holdout"]["ks"] < 0.46
    model = tmp_path / "run" / "results" / "model"
    out = called("predict", tmp_path, {**given, "model": model}, id="id")
    found = pd.read_csv(out["predictions"] / "predictions.csv", index_col="id")["probability"]
    y = pd.read_csv(given["bank"], index_col="id")["y"].loc[found.index]
    assert roc_auc_score(y, found) > 0.79
