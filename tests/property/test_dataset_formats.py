"""The same rows have the same digest, whatever file or database they come from."""

from __future__ import annotations

import datetime as dt
import sqlite3
import tempfile
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohortium.core.dictionary import Dictionary
from cohortium.node.datasets import FolderDatasets, MemoryDatasets

LEVELS = ("mild", "moderate", "严重", "très grave", 'a "b", c')
BLANK = st.none()
DAYS = st.dates(dt.date(1901, 1, 1), dt.date(2099, 12, 31))
SECONDS = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2099, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0, second=7)
)
REALS = st.decimals(-9999, 9999, places=3).map(float)

ROWS = st.lists(
    st.tuples(
        # Never missing: a row without any value is no row in a workbook.
        st.integers(-(10**12), 10**12),
        REALS | BLANK,
        st.sampled_from(LEVELS) | BLANK,
        DAYS | BLANK,
        SECONDS | BLANK,
    ),
    min_size=1,
    max_size=30,
)
HEADERS = ("n", "x y", "级别", "day", "at")


def as_table(rows: list[tuple[object, ...]]) -> pa.Table:
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.date32(), pa.timestamp("us")]
    columns = [
        pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)
    ]
    return pa.Table.from_arrays(columns, names=list(HEADERS))


def write_all(table: pa.Table, folder: Path) -> dict[str, dict[str, str]]:
    """The table in each format: location to the options that `add` needs."""
    pa.csv.write_csv(table, folder / "a.csv")
    text = (folder / "a.csv").read_text("utf-8")
    (folder / "gb.csv").write_text(text, "gb18030")
    (folder / "utf16.csv").write_text(text, "utf-16")
    pq.write_table(table, folder / "a.parquet", row_group_size=7)
    pq.write_table(table, folder / "b.parquet", compression="none", use_dictionary=False)
    frame = table.to_pandas(date_as_object=True)
    frame.to_excel(folder / "a.xlsx", index=False)
    strings = [None if v is None else v.isoformat(" ") for v in table.column("at").to_pylist()]
    with sqlite3.connect(folder / "a.db") as connection:
        connection.execute('create table t (n integer, "x y" real, "级别" text, day date, at text)')
        rows = zip(
            table.column("n").to_pylist(),
            table.column("x y").to_pylist(),
            table.column("级别").to_pylist(),
            [None if v is None else v.isoformat() for v in table.column("day").to_pylist()],
            strings,
            strict=True,
        )
        connection.executemany("insert into t values (?, ?, ?, ?, ?)", rows)
    connection.close()
    with duckdb.connect(str(folder / "a.duckdb")) as database:
        database.register("given", table)
        database.execute("create table t as select * from given")
    return {
        str(folder / "a.csv"): {},
        str(folder / "gb.csv"): {"encoding": "gb18030"},
        str(folder / "utf16.csv"): {},
        str(folder / "a.parquet"): {},
        str(folder / "b.parquet"): {},
        str(folder / "a.xlsx"): {},
        f"sqlite:///{folder}/a.db": {"table": "t"},
        f"duckdb:///{folder}/a.duckdb": {"query": "from t"},
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_the_digest_is_independent_of_the_format(rows: list[tuple[object, ...]]) -> None:
    table = as_table(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        datasets = FolderDatasets(folder / "datasets")
        seen: dict[str, tuple[str | None, Dictionary]] = {}
        for location, options in write_all(table, folder).items():
            datasets.add("x", location, **options)  # type: ignore[arg-type]
            dataset = datasets.confirm("x")
            seen[location] = (dataset.digest, dataset.dictionary)
            datasets.remove("x")
        for frame in (table, pl.from_arrow(table), table.to_pandas(date_as_object=True)):
            dataset = MemoryDatasets.from_frame("x", frame).get("x")
            seen[type(frame).__module__] = (dataset.digest, dataset.dictionary)
    first = next(iter(seen.values()))
    assert seen == dict.fromkeys(seen, first)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_one_changed_value_changes_the_digest(
    rows: list[tuple[object, ...]], chooser: object
) -> None:
    table = as_table(rows)
    place = chooser.randrange(len(rows))  # type: ignore[attr-defined]
    values = table.column("n").to_pylist()
    values[place] += 1
    changed = table.set_column(0, "n", pa.array(values, pa.int64()))
    before = MemoryDatasets.from_frame("x", table).get("x").digest
    assert MemoryDatasets.from_frame("x", changed).get("x").digest != before
    chunked = pa.Table.from_batches(table.to_batches(max_chunksize=3))
    assert MemoryDatasets.from_frame("x", chunked).get("x").digest == before
