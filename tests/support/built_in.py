"""Calls of built-in tasks in this process, and through an executor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.support.tasks import Done, run

from cohortium.contract.task import Scalar
from cohortium.enclave import builtin
from cohortium.enclave.executor import Executor
from cohortium.enclave.tasks.call import Call
from cohortium.enclave.tasks.command import MODULES
from cohortium.enclave.tasks.tables import Joined, join, of_ids


def two_tables(n: int = 300, seed: int = 3) -> dict[str, pd.DataFrame]:
    """Two owners' tables in different orders; `n` ids are in both, and some in one only."""
    chance = np.random.default_rng(seed)
    ids = [f"{number:05d}" for number in range(n + 40)]
    age = chance.normal(60, 10, n + 40).round(2)
    income = chance.gamma(4, 500, n + 40).round(2)
    eta = 0.08 * (age - 60) - 0.001 * (income - 2000) - 0.4
    stroke = (chance.random(n + 40) < 1 / (1 + np.exp(-eta))).astype(int)
    region = chance.choice(["north", "south", "west"], n + 40, p=[0.5, 0.4, 0.1])
    left = pd.DataFrame({"customer": ids, "age": age, "stroke": stroke, "region": region})
    right = pd.DataFrame({"income": income, "visits": chance.poisson(3, n + 40), "customer": ids})
    return {
        "left": left.iloc[: n + 20].sample(frac=1, random_state=1),
        "right": pd.concat([right.iloc[:n], right.iloc[n + 20 :]]).sample(frac=1, random_state=2),
    }


def plain_join(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The same join by pandas."""
    left, right = (
        one.set_index("customer").add_prefix(f"{slot}.").reset_index()
        for slot, one in tables.items()
    )
    return left.merge(right, on="customer").sort_values("customer").set_index("customer")


def of(tables: Mapping[str, pd.DataFrame], **changed: str) -> Joined:
    """The tables as a task joins them."""
    how = {"repeated": "refuse", "missing": "refuse"} | changed
    return join(
        {
            slot: of_ids(slot, frame, "customer", how["repeated"], how["missing"])
            for slot, frame in tables.items()
        }
    )


def files(tables: Mapping[str, pd.DataFrame], folder: Path) -> dict[str, Path]:
    """Each table as a CSV file."""
    for slot, frame in tables.items():
        frame.to_csv(folder / f"{slot}.csv", index=False)
    return {slot: folder / f"{slot}.csv" for slot in tables}


def called(
    name: str, folder: Path, inputs: Mapping[str, Path], **arguments: Scalar
) -> dict[str, Path]:
    """Run a task in this process; its outputs by slot."""
    task = builtin.find(name)
    values = {**task.arguments, "id": "customer", **arguments}
    outputs = {slot: folder / name / slot for slot in task.outputs}
    for place in outputs.values():
        place.mkdir(parents=True, exist_ok=True)
    tables = {slot: path for slot, path in inputs.items() if slot != "model"}
    texts = {key: str(value) for key, value in values.items()}
    call = Call(tables, outputs, texts, inputs.get("model"))
    import_module(f"cohortium.enclave.tasks.{MODULES[name]}").run(call)
    return outputs


def executed(
    name: str, place: Executor, folder: Path, inputs: Mapping[str, Path], **arguments: Scalar
) -> Done:
    """Run a task where an executor runs it."""
    manifest = builtin.find(name).manifest(inputs)
    made = manifest.job(builtin.FOLDER, inputs, {"id": "customer", **arguments})
    folder.mkdir()
    return run(place, made, folder)


def document(file: Path) -> Any:
    """A JSON file."""
    return json.loads(file.read_text())
