"""Whatever bytes a data file holds, adding it works or is refused, and nothing is half there."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.errors import InputError
from cohortium.node.datasets import FolderDatasets

FRAME = pd.DataFrame(
    {
        "age": [61, 47, 70, 55] * 5,
        "sex": ["男", "女"] * 10,
        "seen": pd.date_range("2020-01-31", periods=20),
        "bmi": [24.5, 31.25, None, 22.0] * 5,
    }
)


def _sqlite(path: Path) -> None:
    database = sqlite3.connect(path)
    FRAME.astype({"seen": str}).to_sql("patients", database, index=False)
    database.close()


WRITERS: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: FRAME.to_csv(path, index=False),
    "tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "parquet": FRAME.to_parquet,
    "xlsx": lambda path: FRAME.to_excel(path, index=False),
    "db": _sqlite,
}


@cache
def _valid(ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"patients.{ending}"
        WRITERS[ending](path)
        return path.read_bytes()


def _add(ending: str, content: bytes) -> str:
    """The code of the refusal, or "ok"; checks that nothing is left by halves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"patients.{ending}"
        path.write_bytes(content)
        datasets = FolderDatasets(Path(folder) / "datasets")
        try:
            if ending == "db":
                datasets.add("d", f"sqlite:///{path}", table="patients")
            else:
                datasets.add("d", path)
            datasets.confirm("d")
        except InputError as error:
            if "d" in datasets.names():
                datasets.remove("d")  # a draft that the steward would edit
            assert not list(datasets.root.glob("*"))
            return error.code
        dataset = datasets.get("d")
        table = datasets.table("d", dataset.dictionary.by_name, {}, dataset.digest or "")
        assert table.n_rows == dataset.n_rows
        return "ok"


@pytest.mark.parametrize("ending", sorted(WRITERS))
def test_the_files_are_good_before_they_are_spoilt(ending: str) -> None:
    assert _add(ending, _valid(ending)) == "ok"


@pytest.mark.parametrize("ending", sorted(WRITERS))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_spoilt_files(ending: str, data: st.DataObject) -> None:
    content = bytearray(_valid(ending))
    size = len(content)
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, size - 1)) :]
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, size - 1))
        content[at : at + 1] = data.draw(st.binary(max_size=4))
    assert _add(ending, bytes(content)) in {"ok", "bad-data"}


@pytest.mark.parametrize("ending", sorted(WRITERS))
@pytest.mark.parametrize("other", sorted(WRITERS))
def test_the_wrong_ending(ending: str, other: str) -> None:
    assert _add(ending, _valid(other)) in {"ok", "bad-data"}
