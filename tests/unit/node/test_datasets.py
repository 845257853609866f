"""Datasets in a folder and in memory: register, confirm, read, remove."""

from __future__ import annotations

import datetime as dt
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    IntegrityFailure,
    VerificationError,
)
from cohortium.node.datasets import FolderDatasets, MemoryDatasets

NOW = dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.UTC)
CSV = """age,sex,smoker,bmi,dead,seen,"weight.kg ",note
61,f,yes,24.5,0,2020-01-31,70,alpha
47,m,no,,1,2020-02-29,81,beta
70,m,no,31.25,0,,66,gamma
,f,yes,22.0,1,2021-12-01,90,delta
"""


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "heart.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def datasets(tmp_path: Path) -> FolderDatasets:
    return FolderDatasets(tmp_path / "datasets", lambda: NOW)


def confirmed(datasets: FolderDatasets, csv: Path) -> str:
    datasets.add("heart", csv)
    digest = datasets.confirm("heart").digest
    assert digest is not None
    return digest


def test_add_infers_types_names_and_missing(datasets: FolderDatasets, csv: Path) -> None:
    dataset = datasets.add("heart", csv)
    assert not dataset.confirmed
    assert dataset.digest is None
    assert dataset.n_rows == 4
    found = {
        v.name: (v.type.value, v.missing, v.decimals, v.levels)
        for v in dataset.dictionary.variables
    }
    assert found == {
        "age": ("integer", 1, None, None),
        "sex": ("category", 0, None, ("f", "m")),
        "smoker": ("boolean", 0, None, None),
        "bmi": ("real", 1, 2, None),
        "dead": ("integer", 0, None, None),
        "seen": ("date", 1, None, None),
        "weight_kg": ("integer", 0, None, None),
        "note": ("text", 0, None, None),
    }
    assert dataset.dictionary.by_name["weight_kg"].source == "weight.kg "


def test_drafts_are_not_published_and_have_no_table(datasets: FolderDatasets, csv: Path) -> None:
    datasets.add("heart", csv)
    assert datasets.names() == ["heart"]
    assert datasets.published() == []
    with pytest.raises(ConflictError, match="not confirmed"):
        datasets.table("heart", {}, {}, "sha256:" + "0" * 64)


def test_published_dictionary_hides_source_columns(datasets: FolderDatasets, csv: Path) -> None:
    digest = confirmed(datasets, csv)
    (published,) = datasets.published()
    assert published.name == "heart"
    assert published.content_digest == digest
    assert all(variable.source is None for variable in published.dictionary.variables)
    assert b"alpha" not in published.to_bytes()


def test_table_has_the_study_types(datasets: FolderDatasets, csv: Path) -> None:
    digest = confirmed(datasets, csv)
    want = {
        "age": Variable(name="age", type=VariableType.REAL),
        "gender": Variable(name="gender", type=VariableType.CATEGORY, levels=("m", "f")),
        "smoker": Variable(name="smoker", type=VariableType.BOOLEAN),
        "dead": Variable(name="dead", type=VariableType.CATEGORY, levels=("0", "1")),
        "seen": Variable(name="seen", type=VariableType.DATE),
        "note": Variable(name="note", type=VariableType.TEXT),
    }
    table = datasets.table("heart", want, {"gender": "sex"}, digest)
    assert list(table.columns) == list(want)
    np.testing.assert_array_equal(table.columns["age"], [61.0, 47.0, 70.0, np.nan])
    assert table.columns["age"].dtype == np.float64
    np.testing.assert_array_equal(table.columns["gender"], [1, 0, 0, 1])
    assert table.columns["gender"].dtype == np.int32
    np.testing.assert_array_equal(table.columns["smoker"], [1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(table.columns["dead"], [0, 1, 0, 1])
    days = (dt.date(2020, 1, 31) - dt.date(1970, 1, 1)).days
    assert table.columns["seen"][0] == days
    assert np.isnan(table.columns["seen"][2])
    assert list(table.columns["note"]) == ["alpha", "beta", "gamma", "delta"]
    assert not table.columns["age"].flags.writeable


def test_table_comes_from_the_cache_the_second_time(datasets: FolderDatasets, csv: Path) -> None:
    digest = confirmed(datasets, csv)
    want = {"age": Variable(name="age", type=VariableType.INTEGER)}
    first = datasets.table("heart", want, {}, digest)
    assert datasets.table("heart", want, {}, digest).columns["age"] is first.columns["age"]
    tiny = FolderDatasets(datasets.root, cache_bytes=8)
    assert tiny.table("heart", want, {}, digest).n_rows == 4
    assert (
        tiny.table("heart", want, {}, digest).columns["age"]
        is not tiny.table("heart", want, {}, digest).columns["age"]
    )


@pytest.mark.parametrize(
    ("own", "want", "code"),
    [
        ("sex", Variable(name="x", type=VariableType.REAL), "bad-data"),
        ("sex", Variable(name="x", type=VariableType.CATEGORY, levels=("f",)), "bad-data"),
        ("age", Variable(name="x", type=VariableType.BOOLEAN), "bad-data"),
        ("bmi", Variable(name="x", type=VariableType.INTEGER), "bad-data"),
        ("bmi", Variable(name="x", type=VariableType.CATEGORY, levels=("24.5",)), "bad-data"),
        ("seen", Variable(name="x", type=VariableType.INTEGER), "bad-data"),
        ("age", Variable(name="x", type=VariableType.DATE), "bad-data"),
        ("note", Variable(name="x", type=VariableType.CATEGORY, levels=("alpha",)), "bad-data"),
        ("age", Variable(name="x", type=VariableType.TEXT), "bad-data"),
        ("nothing", Variable(name="x", type=VariableType.REAL), "not-found"),
    ],
)
def test_a_column_that_cannot_serve_is_refused(
    datasets: FolderDatasets, csv: Path, own: str, want: Variable, code: str
) -> None:
    digest = confirmed(datasets, csv)
    with pytest.raises(InputError) as caught:
        datasets.table("heart", {"x": want}, {"x": own}, digest)
    assert caught.value.code == code
    for value in ("24.5", "alpha", "31.25"):
        assert value not in caught.value.message


def test_dates_and_datetimes_become_one_another() -> None:
    moments = pa.array([dt.date(2020, 1, 2), None]).cast(pa.timestamp("us"))
    later = pa.array(["2020-01-02T12:00:00", None]).cast(pa.timestamp("us"))
    datasets = MemoryDatasets.from_frame("visits", pa.table({"day": moments, "noon": later}))
    dataset = datasets.get("visits")
    assert [v.type.value for v in dataset.dictionary.variables] == ["date", "datetime"]
    digest = str(dataset.digest)
    as_time = {"day": Variable(name="day", type=VariableType.DATETIME)}
    seconds = datasets.table("visits", as_time, {}, digest).columns["day"]
    assert seconds[0] == dt.datetime(2020, 1, 2, tzinfo=dt.UTC).timestamp()
    assert np.isnan(seconds[1])
    with pytest.raises(InputError, match="cannot serve"):
        datasets.table(
            "visits", {"noon": Variable(name="noon", type=VariableType.DATE)}, {}, digest
        )


def test_a_category_of_numbers_serves_as_a_number() -> None:
    frame = pd.DataFrame({"stage": pd.Categorical(["2", "1", None], categories=["1", "2", "3"])})
    datasets = MemoryDatasets.from_frame("s", frame)
    dataset = datasets.get("s")
    assert dataset.dictionary.by_name["stage"].levels == ("1", "2", "3")
    want = {"stage": Variable(name="stage", type=VariableType.INTEGER)}
    column = datasets.table("s", want, {}, str(dataset.digest)).columns["stage"]
    np.testing.assert_array_equal(column, [2.0, 1.0, np.nan])


def test_another_digest_is_refused(datasets: FolderDatasets, csv: Path) -> None:
    confirmed(datasets, csv)
    with pytest.raises(VerificationError) as caught:
        datasets.table("heart", {}, {}, "sha256:" + "0" * 64)
    assert caught.value.code == "bad-digest"


def test_altered_stored_content_is_refused(datasets: FolderDatasets, csv: Path) -> None:
    digest = confirmed(datasets, csv)
    path = datasets.root / "heart" / "data.parquet"
    stored = pq.read_table(path)
    altered = stored.set_column(0, "age", pa.array([62, 47, 70, None], pa.int64()))
    pq.write_table(altered, path)
    want = {
        "age": Variable(name="age", type=VariableType.INTEGER),
        "dead": Variable(name="dead", type=VariableType.INTEGER),
    }
    with pytest.raises(VerificationError) as caught:
        FolderDatasets(datasets.root).table("heart", want, {}, digest)
    assert caught.value.code == "bad-digest"
    path.write_bytes(b"not parquet")
    with pytest.raises(IntegrityFailure):
        FolderDatasets(datasets.root).table("heart", want, {}, digest)


def test_damaged_meta_is_an_integrity_failure(datasets: FolderDatasets, csv: Path) -> None:
    datasets.add("heart", csv)
    (datasets.root / "heart" / "meta.json").write_text("{")
    with pytest.raises(IntegrityFailure):
        datasets.get("heart")


def test_a_name_is_taken_once_until_removed(datasets: FolderDatasets, csv: Path) -> None:
    digest = confirmed(datasets, csv)
    with pytest.raises(ConflictError):
        datasets.add("heart", csv)
    datasets.remove("heart")
    assert datasets.names() == []
    assert list(datasets.root.iterdir()) == []
    with pytest.raises(InputError):
        datasets.get("heart")
    assert confirmed(datasets, csv) == digest


@pytest.mark.parametrize("name", ["", "../x", "a/b", "1a", "a b", ".hidden", "a" * 65, "a\n"])
def test_names_that_are_not_names(datasets: FolderDatasets, csv: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        datasets.add(name, csv)
    assert caught.value.code == "bad-input"
    with pytest.raises(InputError):
        datasets.remove(name)


def test_files_are_private(datasets: FolderDatasets, csv: Path) -> None:
    confirmed(datasets, csv)
    folder = datasets.root / "heart"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [
        "data.parquet",
        "dictionary.yaml",
        "meta.json",
    ]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_changes_by_another_process_are_seen(datasets: FolderDatasets, csv: Path) -> None:
    other = FolderDatasets(datasets.root)
    datasets.add("heart", csv)
    assert not other.get("heart").confirmed
    datasets.confirm("heart")
    assert other.get("heart").confirmed
    datasets.remove("heart")
    assert other.published() == []


def edit(datasets: FolderDatasets, old: str, new: str) -> None:
    path = datasets.dictionary_path("heart")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_steward_may_change_types_levels_and_drop_columns(
    datasets: FolderDatasets, csv: Path
) -> None:
    datasets.add("heart", csv)
    edit(datasets, "name: dead\n  type: integer", "name: dead\n  type: boolean")
    edit(datasets, "name: age\n  type: integer", "name: years\n  source: age\n  type: real")
    edit(datasets, "levels: [f, m]", "levels: [male, f]\n  recode: {m: male}")
    text = datasets.dictionary_path("heart").read_text()
    datasets.dictionary_path("heart").write_text(text[: text.index("# Text cannot")])
    dataset = datasets.confirm("heart")
    by_name = dataset.dictionary.by_name
    assert "note" not in by_name
    assert by_name["dead"].type is VariableType.BOOLEAN
    assert by_name["years"].type is VariableType.REAL
    assert by_name["sex"].levels == ("male", "f")
    table = datasets.table("heart", by_name, {}, str(dataset.digest))
    np.testing.assert_array_equal(table.columns["sex"], [1, 0, 0, 1])
    stored = pq.read_table(datasets.root / "heart" / "data.parquet")
    assert "note" not in stored.column_names


def test_an_integer_becomes_a_category_with_the_values_found(
    datasets: FolderDatasets, csv: Path
) -> None:
    datasets.add("heart", csv)
    edit(datasets, "name: dead\n  type: integer", "name: dead\n  type: category")
    assert datasets.confirm("heart").dictionary.by_name["dead"].levels == ("0", "1")


def test_recode_makes_values_missing(datasets: FolderDatasets, csv: Path) -> None:
    datasets.add("heart", csv)
    edit(datasets, "name: age\n", "name: age\n  recode: {70: null}\n")
    dataset = datasets.confirm("heart")
    assert dataset.dictionary.by_name["age"].missing == 2


def test_a_level_that_is_not_declared_is_refused(datasets: FolderDatasets, csv: Path) -> None:
    datasets.add("heart", csv)
    edit(datasets, "levels: [f, m]", "levels: [f]")
    with pytest.raises(InputError, match="row 2") as caught:
        datasets.confirm("heart")
    assert caught.value.details == {"column": "sex", "row": 2}
    assert not datasets.get("heart").confirmed
    assert sorted(path.name for path in (datasets.root / "heart").iterdir()) == [
        "dictionary.yaml",
        "draft.parquet",
        "meta.json",
    ]
    edit(datasets, "levels: [f]", "levels: [f, m]")
    assert datasets.confirm("heart").confirmed


@pytest.mark.parametrize(
    ("column", "kind"), [("note", "integer"), ("bmi", "integer"), ("sex", "date"), ("seen", "real")]
)
def test_values_that_do_not_fit_the_declared_type(
    datasets: FolderDatasets, csv: Path, column: str, kind: str
) -> None:
    datasets.add("heart", csv)
    text = datasets.dictionary_path("heart").read_text()
    start = text.index(f"- name: {column}\n")
    entry = text[start:].split("\n\n")[0]
    datasets.dictionary_path("heart").write_text(
        text.replace(entry, f"- name: {column}\n  type: {kind}")
    )
    with pytest.raises(InputError, match="row 1") as caught:
        datasets.confirm("heart")
    for value in ("alpha", "24.5", "2020"):
        assert value not in caught.value.message


def test_a_removed_missing_count_stays_private(datasets: FolderDatasets, csv: Path) -> None:
    datasets.add("heart", csv)
    edit(datasets, "  missing: 1\n", "")
    dataset = datasets.confirm("heart")
    assert dataset.dictionary.by_name["age"].missing is None
    assert dataset.dictionary.by_name["bmi"].missing == 1


def test_descriptions_may_change_after_confirmation_but_not_content(
    datasets: FolderDatasets, csv: Path
) -> None:
    digest = confirmed(datasets, csv)
    edit(datasets, "  unit:\n", "  unit: years\n")
    again = datasets.confirm("heart")
    assert again.digest == digest
    assert again.dictionary.by_name["age"].unit == "years"
    edit(datasets, "levels: [f, m]", "levels: [m, f]")
    with pytest.raises(ConflictError):
        datasets.confirm("heart")


def test_the_digest_follows_the_values(tmp_path: Path) -> None:
    def digest(text: str) -> str | None:
        path = tmp_path / "x.csv"
        path.write_text(text)
        datasets = FolderDatasets(tmp_path / "d")
        datasets.add("x", path)
        made = datasets.confirm("x").digest
        datasets.remove("x")
        return made

    base = "a,b\n1,x\n2,x\n3,y\n4,y\n"
    variants = [
        base,
        base.replace("4", "5"),
        base.replace("a,b", "c,b"),
        base.replace("1,x", ",x"),
        "a,b\n1,x\n2,x\n4,y\n3,y\n",
        base.replace("y", "z"),
        base.replace("4,y", "4.5,y"),
    ]
    assert len({digest(text) for text in variants}) == len(variants)
    assert digest(base) == digest(base.replace("\n", "\r\n")) == digest(base.replace("1,", "1.0,"))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_of_every_library_are_the_same_dataset(make: type[object]) -> None:
    columns = {
        "age": [61, 47, None],
        "sex": ["f", "m", "f"],
        "ok": [True, False, True],
        "x": [0.5, None, 2.25],
    }
    factory: object = make
    frame = factory(columns)  # type: ignore[operator]
    datasets = MemoryDatasets.from_frame("site", frame)
    dataset = datasets.get("site")
    kinds = {v.name: v.type.value for v in dataset.dictionary.variables}
    assert kinds == {"age": "integer", "sex": "text", "ok": "boolean", "x": "real"}
    reference = MemoryDatasets.from_frame("site", pa.table(columns)).get("site").digest
    assert dataset.digest == reference


def test_memory_datasets_are_confirmed_and_distinct() -> None:
    datasets = MemoryDatasets.from_frame("a", pd.DataFrame({"x": [1, 2]}))
    datasets.add_frame("b", pd.DataFrame({"x": [1.5, None]}))
    assert datasets.names() == ["a", "b"]
    assert [published.name for published in datasets.published()] == ["a", "b"]
    with pytest.raises(ConflictError):
        datasets.add_frame("a", pd.DataFrame({"x": [1]}))
    with pytest.raises(InputError):
        datasets.get("c")


def test_memory_datasets_take_a_dictionary() -> None:
    declared = Dictionary(
        variables=(Variable(name="x", type=VariableType.CATEGORY, levels=("1", "2", "3")),)
    )
    datasets = MemoryDatasets()
    dataset = datasets.add_frame("a", pd.DataFrame({"x": [1, 2, 2]}), declared)
    assert dataset.dictionary == declared


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"x": []}),
        pd.DataFrame([[1, 2]], columns=["x", "x"]),
        pd.DataFrame({"x": [1.0, np.inf]}),
        pa.table({"x": [[1], [2]]}),
        {"x": [1]},
    ],
)
def test_frames_that_are_refused(frame: object) -> None:
    with pytest.raises(InputError) as caught:
        MemoryDatasets.from_frame("a", frame)
    assert caught.value.code == "bad-data"


def test_reading_a_table_imports_neither_pandas_nor_the_parsers(
    datasets: FolderDatasets, csv: Path
) -> None:
    confirmed(datasets, csv)
    program = """
import sys
from pathlib import Path
from cohortium.node.datasets import FolderDatasets
datasets = FolderDatasets(Path(sys.argv[1]))
dataset = datasets.get("heart")
datasets.table("heart", dataset.dictionary.by_name, {}, dataset.digest)
heavy = {"pandas", "polars", "ibis", "duckdb", "ruamel.yaml", "charset_normalizer", "scipy"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(datasets.root)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


def test_every_error_is_ours(datasets: FolderDatasets, tmp_path: Path) -> None:
    for content in (b"", b"\n", b"a\n", b"\x00\x01\x02", b"a,b\n1\n", b'a\n"x\n', b"\xff\xfe"):
        path = tmp_path / "bad.csv"
        path.write_bytes(content)
        with pytest.raises(CohortiumError):
            datasets.add("bad", path)
    assert datasets.names() == []
    assert list(datasets.root.iterdir()) == []
