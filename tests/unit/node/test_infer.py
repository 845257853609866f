"""The inferred dictionary: types, names, decimals and the notes for the steward."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cohortium.errors import InputError
from cohortium.node.columns import exact_decimals, normal_type, normalise
from cohortium.node.infer import ColumnProfile, InferredColumn, legal_names


def infer(values: list[object] | pa.Array, chunk: int = 3) -> InferredColumn:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    profile = ColumnProfile("x", normal_type("x", column.type))
    for start in range(0, len(column), chunk):
        profile.update(normalise("x", column.slice(start, chunk)))
    return profile.result("x")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "3"], "integer"),
        (["1.0", "2.", "+3", "-4", "1e3"], "integer"),
        (["0", "1", "0", "1"], "integer"),
        (["1", "2.5", ".7"], "real"),
        (["1e-3", "2E5", "-.5"], "real"),
        (["007", "008", "007", "008"], "category"),
        (["007", "008", "009", "010"], "text"),
        (["00.5", "1", "2"], "text"),
        (["inf", "1", "2"], "text"),
        (["true", "False", "TRUE"], "boolean"),
        (["yes", "no", "yes"], "boolean"),
        (["是", "否", "是"], "boolean"),
        (["2020-01-01", "2020/2/3", "2020-1-31"], "date"),
        (["2020-01-01", "2020-02-30", "2020-02-28"], "text"),
        (["2020-01-01T10:00:00", "2020-01-01 11:30", "2020-01-01T00:00:00.5"], "datetime"),
        (["2020-01-01T10:00:00Z", "2020-01-01T18:00:00+08:00"], "datetime"),
        (["2020-01-01 00:00:00", "2020-01-02T00:00"], "date"),
        (["a", "b", "a", "b"], "category"),
        (["a", "b", "c"], "text"),
        (["12345678901234567890", "1", "2"], "text"),
        (["9007199254740991", "1"], "integer"),
        (["9007199254740993", "1"], "text"),
        ([2**53, 1], "text"),
        ([2**53 - 1, 1], "integer"),
        ([None, "NA", "?", ""], "real"),
        ([1.0, 2.0, None], "integer"),
        ([1.5, 2.0], "real"),
        ([1e20, 2.0], "real"),
        ([2**60, 1], "text"),
        ([True, None], "boolean"),
    ],
)
def test_types(values: list[object], kind: str) -> None:
    assert infer(values).variable.type.value == kind
    assert infer(values, chunk=100).variable.type.value == kind


def test_missing_markers_and_blanks() -> None:
    column = infer([" 1 ", "NA", "n/a", "?", "NaN", "", ".", None, "NULL", "2"])
    assert column.variable.type.value == "text"  # n/a in lower case is not a marker
    column = infer([" 1 ", "NA", "?", "NaN", "", ".", None, "NULL", "2", "#N/A", "nan"])
    assert column.variable.type.value == "integer"
    assert column.variable.missing == 9


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([0.1, 0.25, 3.0], 2),
        ([1e-12, 0.5], 12),
        ([1e-13], None),
        ([1 / 3], None),
        ([123456.789, -0.001], 3),
        ([123456789012.1234], 4),
        ([1234567890123456.5], None),
        ([5.0], 0),
        ([1e300, -1e308], None),
    ],
)
def test_decimals(values: list[float], decimals: int | None) -> None:
    assert exact_decimals(np.array(values), 0) == decimals


def test_decimals_from_text_and_numbers_agree() -> None:
    assert infer(["1.50", "2.25", "3"]).variable.decimals == 2
    assert infer([1.5, 2.25, 3.0]).variable.decimals == 2
    assert infer(["1.5", "0.3333333333333333"]).variable.decimals is None


def test_names() -> None:
    headers = ["", "ph.ecog", "LAB_TSC ", "年龄", "1st", "a b", "a.b", "A_B", "_x_", "x" * 80]
    assert legal_names(headers) == [
        "index",
        "ph_ecog",
        "LAB_TSC",
        "column_4",
        "v_1st",
        "a_b",
        "a_b_2",
        "A_B_3",
        "x",
        "x" * 64,
    ]
    assert len(set(legal_names(["y" * 64, "y" * 65, "y" * 66]))) == 3
    assert all(len(name) <= 64 for name in legal_names(["y" * 64, "y" * 65]))
    with pytest.raises(InputError) as caught:
        legal_names(["a", "b", "a"])
    assert caught.value.details == {"columns": ["a"]}


def test_notes_for_the_steward() -> None:
    rare = infer(["a"] * 9 + ["b"] * 4)
    assert any("Fewer than 5 persons: b." in note for note in rare.notes)
    codes = infer(["0", "1", "1", "2.0", "2"] * 2)
    assert any("0 (2 persons), 1 (4 persons), 2 (4 persons)" in note for note in codes.notes)
    mixed = infer(["1", "2", "3", "unknown", "2", "unknown"])
    assert any("4 values are numbers, 2 are not" in note for note in mixed.notes)
    assert any("identifier" in note for note in infer([3, 5, 9]).notes)
    assert not any("identifier" in note for note in infer([3, 5, 5]).notes)
    assert not any("identifier" in note for note in infer([3, 5, None, 9, 4]).notes)
    assert any("Text cannot" in note for note in infer(["a", "b", "c"]).notes)
    assert any("No person" in note for note in infer([None, None]).notes)


def test_many_distinct_values_are_not_kept() -> None:
    profile = ColumnProfile("x", pa.string())
    profile.update(pa.array([f"name {n}" for n in range(5000)]))
    profile.update(pa.array([f"other {n}" for n in range(5000)]))
    assert profile.counts is None
    result = profile.result("x")
    assert result.variable.type.value == "text"
    assert "name" not in " ".join(result.notes)


def test_infinite_and_nested_values_are_refused() -> None:
    with pytest.raises(InputError, match="infinite"):
        infer([1.0, float("inf")])
    with pytest.raises(InputError, match="cannot be a variable"):
        infer(pa.array([b"x"]))
    with pytest.raises(InputError, match="does not fit"):
        normalise("x", pa.array([2**64 - 1], pa.uint64()))
