"""The join family of built-in tasks beside pandas on the plain join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.built_in import called, document, files, of, plain_join, two_tables

from cohortium.enclave.tasks.call import Refused
from cohortium.enclave.tasks.join import table
from cohortium.enclave.tasks.join_compute import by_group
from cohortium.enclave.tasks.tables import counts, id_columns


def test_the_joined_table_is_that_of_pandas() -> None:
    tables = two_tables()
    found, expected = of(tables).frame, plain_join(tables)
    assert list(found.index) == list(expected.index)
    pd.testing.assert_frame_equal(found[list(expected.columns)], expected, check_names=False)


def test_the_order_of_the_owners_rows_and_tables_changes_nothing() -> None:
    tables = two_tables()
    turned = {slot: tables[slot].iloc[::-1] for slot in ("right", "left")}
    found = of(turned).frame
    pd.testing.assert_frame_equal(found[list(of(tables).frame.columns)], of(tables).frame)


def test_three_tables_have_the_ids_that_all_have(tmp_path: Path) -> None:
    tables = two_tables()
    third = pd.DataFrame({"customer": [f"{number:05d}" for number in range(0, 300, 2)], "z": 1})
    given = files({**tables, "third": third}, tmp_path)
    found = document(called("intersection", tmp_path, given)["counts"] / "counts.json")
    assert found["matched"] == 150
    assert found["tables"]["left"] == {"rows": 320, "without_id": 0, "repeated": 0, "ids": 320}


def test_ids_are_compared_as_text_exactly(tmp_path: Path) -> None:
    (tmp_path / "left.csv").write_text(
        "customer,a\n007,1\n8,1\n NA,1\nNA,1\n1e3,1\n9007199254740993,1\n"
    )
    (tmp_path / "right.csv").write_text(
        '\ufeffcustomer,b\n7,1\n8 ,1\n"NA",1\n1000,1\n9007199254740993,1\n', encoding="utf-8"
    )
    given = {"left": tmp_path / "left.csv", "right": tmp_path / "right.csv"}
    out = called("intersection", tmp_path, given, min_cell=1, release=True)
    assert (out["ids"] / "ids.csv").read_text().split() == ["id", "9007199254740993", "NA"]


def test_parquet_and_csv_are_the_same_in_a_folder_and_without_an_ending(tmp_path: Path) -> None:
    tables = two_tables()
    given = files(tables, tmp_path)
    (tmp_path / "folder").mkdir()
    tables["right"].set_index("customer").to_parquet(tmp_path / "folder" / "right")
    mixed = {"left": given["left"], "right": tmp_path / "folder"}
    one = called("join", tmp_path, given, columns="all")["table"] / "table.csv"
    first = one.read_bytes()
    two = called("join", tmp_path, mixed, columns="all")["table"] / "table.csv"
    assert two.read_bytes() == first


def test_ids_that_are_whole_numbers_of_a_parquet_file_are_their_digits(tmp_path: Path) -> None:
    frame = pd.DataFrame({"customer": [1, 2, 10], "x": [1.0, 2.0, 3.0]})
    frame.to_parquet(tmp_path / "left")
    (tmp_path / "right").write_text("client,y\n10,a\n2,b\n")
    given = {"left": tmp_path / "left", "right": tmp_path / "right"}
    ids = "left:customer,right:client"
    out = called("intersection", tmp_path, given, id=ids, min_cell=1, release=True)
    assert (out["ids"] / "ids.csv").read_text().split() == ["id", "10", "2"]


def test_repeated_and_missing_ids_are_refused_or_left_out_and_counted() -> None:
    tables = two_tables(50)
    left = tables["left"]
    without = left.iloc[2:5].assign(customer=np.array(["", None, np.nan], dtype=object))
    again = pd.concat([left, left.iloc[:2], without])
    with pytest.raises(Refused, match=r"left has 3 rows without an id \(missing=drop\)"):
        of({**tables, "left": again})
    with pytest.raises(Refused, match=r"left has 4 rows with an id of another \(repeated=drop\)"):
        of({**tables, "left": again}, missing="drop")
    found = of({**tables, "left": again}, missing="drop", repeated="drop")
    expected = plain_join({**tables, "left": left.iloc[2:]})
    assert list(found.frame.index) == list(expected.index)
    told = counts(found, 1)["tables"]["left"]
    assert told == {"rows": 75, "without_id": 3, "repeated": 4, "ids": 68}


@pytest.mark.parametrize(
    ("common", "only_left", "told"),
    [(9, 50, None), (10, 50, 10), (0, 50, 0), (50, 9, None), (50, 0, 50)],
)
def test_matches_are_withheld_where_they_or_the_others_are_few(
    common: int, only_left: int, told: int | None
) -> None:
    left = pd.DataFrame({"customer": [f"a{n}" for n in range(common + only_left)], "x": 1})
    right = pd.DataFrame(
        {"customer": [f"a{n}" for n in range(common)] + [f"b{n}" for n in range(99)]}
    )
    found = counts(of({"left": left, "right": right.assign(y=1)}), 10)
    assert (found["matched"], found["matched_withheld"]) == (told, told is None)


def test_a_released_table_has_the_columns_that_were_asked_for_and_no_order_of_ids() -> None:
    tables = two_tables()
    expected = plain_join(tables)
    with_ids = table(of(tables), ("id", "left.age"), 10)
    assert with_ids["id"].tolist() == expected.index.tolist()
    assert with_ids["left.age"].tolist() == expected["left.age"].tolist()
    without = table(of(tables), ("left.age", "right.visits"), 10)
    assert without["left.age"].is_monotonic_increasing
    assert sorted(zip(*map(without.get, without), strict=True)) == sorted(
        zip(expected["left.age"], expected["right.visits"], strict=True)
    )
    with pytest.raises(Refused, match="fewer than 301 joined rows"):
        table(of(tables), ("id",), 301)
    with pytest.raises(Refused, match=r"no column 'left.name'; there are id, left.age"):
        table(of(tables), ("left.name",), 10)


def test_nothing_is_released_unless_it_is_asked_for(tmp_path: Path) -> None:
    given = files(two_tables(), tmp_path)
    for name, slot in (("join", "table"), ("intersection", "ids")):
        assert list(called(name, tmp_path, given)[slot].iterdir()) == []
    with pytest.raises(Refused, match="fewer than 400 joined rows"):
        called("intersection", tmp_path, given, release=True, min_cell=400)
    assert list((tmp_path / "intersection" / "ids").iterdir()) == []


def test_sums_by_group_are_those_of_pandas_and_small_groups_are_withheld() -> None:
    tables = two_tables()
    tables["right"].loc[tables["right"].index[:30], "income"] = np.nan
    plain = plain_join(tables)
    expected = plain.groupby("left.region")["right.income"].agg(["count", "sum", "mean"])
    small = int(expected["count"].min())
    found = by_group(of(tables).frame, "right.income", "left.region", small)
    assert [one["group"] for one in found["groups"]] == ["north", "south", "west"]
    for one in found["groups"]:
        row = expected.loc[one["group"]]
        assert one["count"] == row["count"]
        assert [one["sum"], one["mean"]] == pytest.approx([row["sum"], row["mean"]], rel=1e-12)
    found = by_group(of(tables).frame, "right.income", "left.region", small + 1)
    assert [one["group"] for one in found["groups"]] == ["north", "south"]
    assert found["groups_withheld"] == 1
    assert "matched" not in found


def test_without_a_group_everybody_is_one() -> None:
    tables = two_tables()
    (found,) = by_group(of(tables).frame, "right.income", "", 10)["groups"]
    expected = plain_join(tables)["right.income"]
    assert (found["group"], found["count"]) == ("all", 300)
    assert found["mean"] == pytest.approx(expected.mean(), rel=1e-12)
    assert by_group(of(tables).frame, "right.income", "", 301)["groups"] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "left cannot be read as CSV (UTF-8) or Parquet: EmptyDataError"),
        (b"customer,a\n1,2,3\n", "left cannot be read as CSV (UTF-8) or Parquet: ParserWarning"),
        (b"customer,a\n1,2\n3,4,5\n", "left cannot be read as CSV (UTF-8) or Parquet"),
        (b"customer,a\n\xff\xfe,2\n", "left cannot be read as CSV (UTF-8) or Parquet: Unicode"),
        (b"PAR1 and no more", "left cannot be read as CSV (UTF-8) or Parquet: Arrow"),
        (b"customer,a,a\n1,2,3\n", "left has two columns of one name"),
        (b"client,a\n1,2\n", "left has no column 'customer', which the argument id names"),
    ],
)
def test_a_bad_table_is_refused_without_its_content(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "left.csv").write_bytes(content)
    (tmp_path / "right.csv").write_text("customer,b\n1,1\n")
    given = {"left": tmp_path / "left.csv", "right": tmp_path / "right.csv"}
    with pytest.raises(Refused) as refusal:
        called("intersection", tmp_path, given)
    assert str(refusal.value).startswith(said)


@pytest.mark.parametrize("ids", [[1.0, 2.0], [True, False], [b"1", b"2"]])
def test_ids_that_are_no_text_are_refused(tmp_path: Path, ids: list[object]) -> None:
    pd.DataFrame({"customer": ids, "a": 1}).to_parquet(tmp_path / "left")
    (tmp_path / "right").write_text("customer,b\n1,1\n")
    with pytest.raises(Refused, match="they must be text"):
        called("intersection", tmp_path, {"left": tmp_path / "left", "right": tmp_path / "right"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"min_cell": 0}, "min_cell is a whole number from 1 to 1000000, not '0'"),
        ({"min_cell": "ten"}, "min_cell is a whole number"),
        ({"repeated": "first"}, "repeated is refuse or drop, not 'first'"),
        ({"release": "yes"}, "release is true or false"),
        ({"id": ""}, "id is the name of the column"),
        ({"id": "left:customer"}, "id names a column for each of left, right"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    given = files(two_tables(20), tmp_path)
    with pytest.raises(Refused, match=said):
        called("intersection", tmp_path, given, **changed)


def test_a_folder_with_two_files_is_refused(tmp_path: Path) -> None:
    given = files(two_tables(20), tmp_path)
    with pytest.raises(Refused, match="left is a folder with 2 files"):
        called("intersection", tmp_path, {**given, "left": tmp_path})


def test_each_table_may_have_an_id_column_of_its_own() -> None:
    assert id_columns("a", ("x", "y")) == {"x": "a", "y": "a"}
    assert id_columns("x:a, y:b", ("x", "y")) == {"x": "a", "y": "b"}
