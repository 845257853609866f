"""Files and databases as they come: encodings, separators, damage."""

from __future__ import annotations

import datetime as dt
import sqlite3
import sys
from pathlib import Path

import duckdb
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.postgres import PostgresServer

from cohortium.errors import InputError
from cohortium.node.databases import without_password
from cohortium.node.datasets import Dataset, FolderDatasets
from cohortium.node.sources import open_source


def add(tmp_path: Path, location: Path | str, **options: str) -> Dataset:
    datasets = FolderDatasets(tmp_path / "datasets")
    datasets.add("x", location, **options)  # type: ignore[arg-type]
    return datasets.confirm("x")


def rejected(tmp_path: Path, location: Path | str, **options: str) -> InputError:
    datasets = FolderDatasets(tmp_path / "datasets")
    with pytest.raises(InputError) as caught:
        datasets.add("x", location, **options)  # type: ignore[arg-type]
    assert datasets.names() == []
    assert not datasets.root.exists() or list(datasets.root.iterdir()) == []
    return caught.value


CHINESE = "编号,性别,诊断\n" + "".join(
    f"{n},{'男' if n % 2 else '女'},{'慢性阻塞性肺疾病' if n % 3 else '糖尿病'}\n"
    for n in range(1, 21)
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16"])
def test_chinese_text_is_detected(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(CHINESE.encode(encoding))
    variables = add(tmp_path, path).dictionary.variables
    assert [v.name for v in variables] == ["column_1", "column_2", "column_3"]
    assert [v.source for v in variables] == ["编号", "性别", "诊断"]
    assert variables[1].levels == ("女", "男")
    assert variables[2].levels == ("慢性阻塞性肺疾病", "糖尿病")


def test_western_text_is_not_taken_for_chinese(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    towns = ["Besançon", "Düsseldorf", "Málaga", "Zürich"]
    lines = "".join(f"{towns[n % 4]},{n}\n" for n in range(40))
    path.write_bytes(("ville,numéro\n" + lines).encode("cp1252"))
    assert add(tmp_path, path).dictionary.variables[0].levels == tuple(towns)


def test_a_few_chinese_words_are_no_korean(tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_bytes(("age,性别\n" + "61,男\n52,女\n" * 50).encode("gb18030"))
    dataset = add(tmp_path, path)
    assert str(dataset.source).endswith("few.csv (gb18030)")
    _, sex = dataset.dictionary.variables
    assert sex.levels is not None
    assert set(sex.levels) == {"男", "女"}


@pytest.mark.parametrize("word", ["Größe", "féminin", "Ärztin"])
def test_western_words_are_not_chinese(tmp_path: Path, word: str) -> None:
    path = tmp_path / "western.csv"
    path.write_bytes(("x,y\n" + f"1,{word}\n2,b\n" * 50).encode("cp1252"))
    assert set(add(tmp_path, path).dictionary.variables[1].levels or ()) == {word, "b"}


def test_an_encoding_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("a\né\né\n".encode("latin-1"))
    assert add(tmp_path, path, encoding="latin-1").dictionary.variables[0].levels == ("é",)


def test_wrong_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("a\né\n".encode("latin-1"))
    assert "utf-8" in rejected(tmp_path, path, encoding="utf-8").message
    assert "no encoding" in rejected(tmp_path, path, encoding="klingon").message
    path.write_bytes(b"\xff\xfe\x41")  # half a UTF-16 character
    assert rejected(tmp_path, path).code == "bad-data"
    path.write_bytes(bytes(range(256)) * 4)
    assert "not text" in rejected(tmp_path, path).message


@pytest.mark.parametrize(
    ("name", "separator"), [("x.tsv", "\t"), ("x.csv", ";"), ("x.csv", "\t"), ("x.txt", "|")]
)
def test_separators(tmp_path: Path, name: str, separator: str) -> None:
    path = tmp_path / name
    path.write_text('a,b\n1,"x, y"\n2,"x, y"\n'.replace('"x, y"', "xy").replace(",", separator))
    assert [v.name for v in add(tmp_path, path).dictionary.variables] == ["a", "b"]


def test_quoted_newlines_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,"two\nlines, ""quoted"""\n2,z\n')
    dataset = add(tmp_path, path)
    assert dataset.n_rows == 2


def test_a_row_of_another_length_is_named_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\nsecret-name,4,5\n")
    error = rejected(tmp_path, path)
    assert "line 3: 3 fields where the header has 2" in error.message
    assert error.details == {"line": 3}
    assert "secret" not in repr(error)
    assert error.__cause__ is None


def test_an_open_quotation_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,"2\n3,4\n5,6\n')
    assert "quotation mark" in rejected(tmp_path, path).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "twice"),
        ("a" * 201 + "\n1\n", "longer than 200"),
    ],
)
def test_files_without_a_table(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    assert words in rejected(tmp_path, path).message


def test_unknown_files(tmp_path: Path) -> None:
    assert rejected(tmp_path, tmp_path / "absent.csv").code == "not-found"
    path = tmp_path / "x.sav"
    path.write_bytes(b"$FL2")
    assert "not a kind of file" in rejected(tmp_path, path).message
    csv = tmp_path / "x.csv"
    csv.write_text("a\n1\n")
    assert "database URL" in rejected(tmp_path, csv, table="t").message


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n")
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    assert "may not read" in rejected(tmp_path, path).message


def test_parquet_with_many_row_groups_and_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "small": pa.array([1, None, 3, 4] * 10, pa.int8()),
            "price": pa.array([1, 2, None, 4] * 10, pa.decimal128(9, 2)),
            "when": pa.array(
                [dt.datetime(2020, 1, 1, 8, tzinfo=dt.UTC)] * 40,
                pa.timestamp("ns", "Asia/Shanghai"),
            ),
            "sex": pa.array(["f", "m"] * 20).dictionary_encode(),
            "name": pa.array([f"n{n}" for n in range(40)], pa.large_string()),
            "half": pa.array([0.5, 1.5] * 20, pa.float16()),
        }
    )
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, row_group_size=7)
    first = add(tmp_path, path)
    kinds = [v.type.value for v in first.dictionary.variables]
    assert kinds == ["integer", "integer", "datetime", "category", "text", "real"]
    other = tmp_path / "y.parquet"
    pq.write_table(table, other, row_group_size=40, compression="none")
    assert add(tmp_path / "b", other).digest == first.digest


def test_unreadable_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    assert "not a readable Parquet" in rejected(tmp_path, path).message
    pq.write_table(pa.table({"x": [[1]]}), path)
    assert "nested" in rejected(tmp_path, path).message
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), path)
    assert "no rows" in rejected(tmp_path, path).message
    pq.write_table(pa.table({"x": list(range(5000))}), path, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:20] = b"\xff" * 16
    path.write_bytes(data)
    assert rejected(tmp_path, path).code == "bad-data"


def test_excel_sheets_types_and_mixed_cells(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    frame = pd.DataFrame(
        {
            "n": [1, 2, None],
            "x": [0.5, 1.25, 2.0],
            "day": [dt.date(2020, 1, 1), dt.date(2020, 1, 2), None],
            "ok": [True, False, True],
            "mixed": [1, "a", 2.5],
            "sex": ["f", "m", "f"],
        }
    )
    with pd.ExcelWriter(path) as writer:
        pd.DataFrame({"other": [1]}).to_excel(writer, sheet_name="first", index=False)
        frame.to_excel(writer, sheet_name="data", index=False)
    assert [v.name for v in add(tmp_path, path).dictionary.variables] == ["other"]
    dataset = add(tmp_path / "b", path, sheet="data")
    assert dataset.n_rows == 3
    kinds = {v.name: v.type.value for v in dataset.dictionary.variables}
    assert kinds == {
        "n": "integer",
        "x": "real",
        "day": "date",
        "ok": "boolean",
        "mixed": "text",
        "sex": "text",
    }
    error = rejected(tmp_path / "c", path, sheet="absent")
    assert error.code == "not-found"
    assert error.details == {"sheets": ["first", "data"]}


def test_unreadable_excel(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    path.write_bytes(b"PK\x03\x04 not really")
    assert "not a readable workbook" in rejected(tmp_path, path).message
    pd.DataFrame().to_excel(path, index=False)
    assert "empty" in rejected(tmp_path, path).message
    pd.DataFrame({"a": []}).to_excel(path, index=False)
    assert "no rows" in rejected(tmp_path, path).message


def make_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table p (id integer, x real, sex text, day date)")
        connection.executemany(
            "insert into p values (?, ?, ?, ?)",
            [(1, 0.5, "f", "2020-01-01"), (2, None, "m", "2020-01-02"), (3, 2.5, "f", None)] * 4,
        )
    connection.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_sqlite_and_duckdb_tables_and_queries(tmp_path: Path) -> None:
    make_sqlite(tmp_path / "p.db")
    with duckdb.connect(str(tmp_path / "p.duckdb")) as connection:
        connection.execute(
            "create table p as select * from (values (1, 0.5::double, 'f', date '2020-01-01'), "
            "(2, null, 'm', date '2020-01-02'), (3, 2.5, 'f', null)) v(id, x, sex, day), range(4)"
        )
        connection.execute("alter table p drop column range")
    lite = add(tmp_path / "a", f"sqlite:///{tmp_path}/p.db", table="p")
    assert [v.type.value for v in lite.dictionary.variables] == [
        "integer",
        "real",
        "category",
        "date",
    ]
    assert lite.source == f"sqlite:///{tmp_path}/p.db (p)"
    query = "select * from p order by id, x"
    duck = add(tmp_path / "b", f"duckdb:///{tmp_path}/p.duckdb", query=query)
    assert duck.digest == add(tmp_path / "c", f"sqlite:///{tmp_path}/p.db", query=query).digest


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("url", "options", "code"),
    [
        ("mysql://h/d", {"table": "p"}, "bad-data"),
        ("sqlite:///{tmp}/p.db", {}, "bad-data"),
        ("sqlite:///{tmp}/p.db", {"table": "p", "query": "select 1"}, "bad-data"),
        ("sqlite:///{tmp}/p.db", {"table": "q"}, "bad-data"),
        ("sqlite:///{tmp}/p.db", {"query": "selec 1"}, "bad-data"),
        ("sqlite:///{tmp}/absent.db", {"table": "p"}, "not-found"),
        ("duckdb:///{tmp}/p.db", {"table": "absent"}, "bad-data"),
        ("postgres://me:secret@127.0.0.1:1/d", {"table": "p"}, "bad-data"),
    ],
)
def test_wrong_database_addresses(
    tmp_path: Path, url: str, options: dict[str, str], code: str
) -> None:
    make_sqlite(tmp_path / "p.db")
    error = rejected(tmp_path, url.format(tmp=tmp_path), **options)
    assert error.code == code
    assert "secret" not in error.message
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_postgresql(tmp_path: Path, postgres_server: PostgresServer) -> None:
    database = postgres_server.create_database()
    with psycopg.connect(postgres_server.url(database, "postgresql")) as connection:
        connection.execute("create table p (id int, x numeric(6,2), sex text, at timestamptz)")
        connection.execute(
            "insert into p select n, n / 4.0, case when n % 2 = 0 then 'f' else 'm' end, "
            "timestamptz '2020-01-01 08:00+08' + n * interval '1 hour' "
            "from generate_series(1, 20) n"
        )
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        url = postgres_server.url(database, scheme)
        dataset = add(tmp_path / scheme, url, query="select * from p where id > 4 order by id")
        assert dataset.n_rows == 16
        kinds = [(v.type.value, v.decimals) for v in dataset.dictionary.variables]
        assert kinds == [("integer", None), ("real", 2), ("category", None), ("datetime", None)]
        assert postgres_server.password not in dataset.source


def test_passwords_are_not_shown() -> None:
    assert without_password("postgres://a:b%40c@h:1/d?x=1") == "postgres://a:***@h:1/d?x=1"
    assert without_password("postgres://a@h/d") == "postgres://a@h/d"
    assert without_password("duckdb:///d.db?x=1") == "duckdb:///d.db?x=1"
    shown = without_password("postgres://h/d?user=a&password=s3cret&sslPassword=s3cret&x=1")
    assert shown == "postgres://h/d?user=a&password=***&sslPassword=***&x=1"
    for end in "/?#":  # a mistake in the URL must not show what was meant as the password
        assert without_password(f"postgres://a:s3{end}cret@h:1/d") == "postgres://a:***@h:1/d"


def test_a_database_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ibis", None)
    make_sqlite(tmp_path / "p.db")
    with pytest.raises(InputError) as caught:
        open_source(f"sqlite:///{tmp_path}/p.db", table="p")
    assert caught.value.code == "missing-extra"


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n" + "1\n" * 1000)
    seen: list[tuple[int, float | None]] = []
    datasets = FolderDatasets(tmp_path / "d")
    datasets.add("x", path, on_progress=lambda rows, fraction: seen.append((rows, fraction)))
    datasets.confirm("x", on_progress=lambda rows, fraction: seen.append((rows, fraction)))
    assert seen[0][0] == 1000
    assert seen[-1] == (1000, 1.0)
