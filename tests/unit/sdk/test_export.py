"""Tables for a paper: each format is opened again by its library, and labels do no harm."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from docx import Document
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from tests.support.pooled_study import result_of

from cohortium.errors import InputError
from cohortium.sdk.export import (
    WRITERS,
    as_csv,
    as_html,
    as_latex,
    as_xlsx,
    export,
    frame_csv,
    tex,
)
from cohortium.sdk.plots import save
from cohortium.sdk.publication import PrintedTable, Row, from_frame, wide

HOSTILE = "<script>alert(1)</script>"
FORMULA = "=HYPERLINK(A1)"
TABLE = PrintedTable(
    "Characteristics of 年龄",
    ("Variable", "n", "mean", "95% CI"),
    (
        Row(("age & height", 120, -1.25, "-1.5 to -1.0")),
        Row(("sex", None, None, "")),
        Row((HOSTILE, 60, 0.5, ""), indent=1),
        Row((FORMULA, 60, 0.5, "a\nb\x00"), indent=1),
    ),
    ("Method 50%_x.", f"Run 1; contract sha256:{'c' * 64}."),
)


class Reader(HTMLParser):
    """Tags and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("ending", WRITERS)
def test_the_ending_says_the_format(tmp_path: Path, ending: str) -> None:
    path = export([TABLE, TABLE], tmp_path / f"table{ending.upper()}")
    assert path.stat().st_size > 100


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv, \.xlsx, \.docx, \.tex, \.html"):
        export([TABLE], tmp_path / "table.odt")


def test_a_folder_that_there_is_not_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no such"
    with pytest.raises(InputError, match=r"no folder .*no such; make it") as caught:
        export([TABLE], missing / "table.csv")
    assert caught.value.code == "bad-input"
    chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_point()
    for wrong in (missing / "a.png", missing / "a.json"):
        with pytest.raises(InputError, match="no such"):
            save(chart, wrong)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        export([TABLE], tmp_path / "folder.csv")


def test_csv_is_read_by_pandas() -> None:
    frame = pd.read_csv(io.BytesIO(as_csv([TABLE])), comment="#")
    assert list(frame.columns) == list(TABLE.columns)
    assert frame["mean"][0] == -1.25
    assert frame["Variable"].tolist()[2:] == [f"  {HOSTILE}", f"'  {FORMULA}"]
    assert frame["95% CI"][0] == "-1.5 to -1.0"
    text = as_csv([TABLE]).decode()
    assert text.startswith("# Characteristics of 年龄\n")
    assert "# Method 50%_x." in text


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "' =1+1"),
        ("-1.20 (3.40)", "-1.20 (3.40)"),
        ("-0.5 to 2", "-0.5 to 2"),
        ("-1.5e-05", "-1.5e-05"),
        ("a # b", "a # b"),
    ],
)
def test_a_label_is_no_formula_in_csv(label: str, shown: str) -> None:
    table = PrintedTable("t", ("a", "b"), (Row(("x", label)),))
    lines = [line for line in as_csv([table]).decode().splitlines() if not line.startswith("#")]
    assert list(csv.reader(lines))[1] == ["x", shown]
    assert pd.read_csv(io.BytesIO(as_csv([table])), comment="#")["b"][0] is not None


def test_xlsx_has_numbers_and_texts_but_no_formula(tmp_path: Path) -> None:
    sheet = load_workbook(export([TABLE], tmp_path / "t.xlsx")).worksheets[0]
    assert sheet["A1"].value == TABLE.title
    assert [cell.value for cell in sheet[3]] == list(TABLE.columns)
    assert [sheet["B4"].value, sheet["C4"].value] == [120, -1.25]
    assert (sheet["A7"].value, sheet["A7"].data_type) == (FORMULA, "s")
    assert sheet["D7"].value == "a b\ufffd"
    assert sheet["A6"].alignment.indent > sheet["A5"].alignment.indent
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"n", "s"}
    assert str(sheet["A9"].value).startswith("Method")


def test_a_long_title_and_a_number_without_end_can_be_written(tmp_path: Path) -> None:
    table = PrintedTable("t" * 300, ("a", "b"), (Row(("x", float("inf"))),))
    assert load_workbook(export([table], tmp_path / "t.xlsx")).worksheets[0]["B4"].value == "inf"
    assert Document(str(export([table], tmp_path / "t.docx"))).paragraphs[0].text == table.title


def test_docx_has_the_table_with_title_and_notes(tmp_path: Path) -> None:
    document = Document(str(export([TABLE], tmp_path / "t.docx", "zh")))
    (table,) = document.tables
    assert [cell.text for cell in table.rows[0].cells] == list(TABLE.columns)
    assert table.rows[3].cells[0].text == HOSTILE
    assert table.rows[1].cells[2].text == "-1.25"
    texts = [paragraph.text for paragraph in document.paragraphs]
    assert texts[0] == TABLE.title
    assert list(TABLE.notes) == texts[1:3]
    assert document.core_properties.language == "zh-CN"


def test_latex_escapes_what_latex_reads() -> None:
    text = as_latex([TABLE]).decode()
    assert r"age \& height & 120 & -1.25 & -1.5 to -1.0 \\" in text
    assert r"Method 50\%\_x." in text
    assert r"\quad \textless{}script" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert tex(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert "ctex" in as_latex([TABLE], "zh").decode()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_no_label_is_active_in_latex(label: str) -> None:
    rest = tex(label)
    for command in re.findall(r"\\text[a-z]+\{\}|\\[{}$&#%_]|\{[\[\]]\}|\$[^$]*\$", rest):
        rest = rest.replace(command, "")
    assert not set(rest) & set("\\{}$&#%_^~")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_no_label_opens_a_tag(label: str) -> None:
    plain = as_html([PrintedTable("t", ("a",), (Row(("x",)),))]).decode()
    page = as_html([PrintedTable("t", ("a",), (Row((label,)),))]).decode()
    assert Reader(page).tags == Reader(plain).tags


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=30))
def test_any_label_can_be_written(label: str) -> None:
    table = PrintedTable(label, (label, "b"), (Row((label, label), indent=1),), (label,))
    load_workbook(io.BytesIO(as_xlsx([table])))
    for writer in (as_csv, as_latex, as_html):
        assert writer([table])


def test_html_may_run_and_load_nothing() -> None:
    page = as_html([TABLE], "zh").decode()
    read = Reader(page)
    assert "script" not in read.tags
    assert HOSTILE in read.texts
    assert 'lang="zh-CN"' in page
    assert "default-src 'none'; style-src 'sha256-" in page
    assert " style=" not in page
    assert not re.search("https?://", page)


@pytest.mark.parametrize(("ending", "module"), [(".xlsx", "openpyxl"), (".docx", "docx")])
def test_an_absent_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, module: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    with pytest.raises(InputError, match=r"cohortium\[report\]") as caught:
        export([TABLE], tmp_path / f"t{ending}")
    assert caught.value.code == "missing-extra"


def test_a_result_is_exported_in_one_call(tmp_path: Path) -> None:
    result = result_of("other.thing", {"answer": 42})
    path = result.export(tmp_path / "t.html")
    assert "other.thing" in path.read_text()


def test_the_text_of_a_table_is_aligned_with_chinese() -> None:
    lines = TABLE.text().splitlines()
    assert lines[0] == TABLE.title
    assert lines[6].startswith(f"  {HOSTILE}")
    table = PrintedTable("t", ("变量", "n"), (Row(("年龄段", 1)), Row(("x", 22))))
    assert len({wide(line) for line in table.text().splitlines()[4:6]}) == 1


def test_levels_of_a_frame_become_indented_rows() -> None:
    frame = pd.DataFrame(
        {"variable": ["sex", "sex"], "level": [None, "f"], "n": [5, 3], "empty": [None, None]}
    )
    table = from_frame("t", frame, levels="level")
    assert table.columns == ("variable", "n")
    assert [(row.cells, row.indent) for row in table.rows] == [(("sex", 5), 0), (("f", 3), 1)]


def test_a_frame_as_csv_holds_no_formula_and_all_digits() -> None:
    frame = pd.DataFrame({"level": ["=1+1", "-2", "f"], "@n": [1 / 3, 2.0, 3.0]})
    text = frame_csv(frame).decode()
    assert text.splitlines()[:2] == ["level,'@n", "'=1+1,0.3333333333333333"]
    assert text.splitlines()[2] == "-2,2.0"
