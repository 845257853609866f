"""Frames of several sites under one dictionary."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import cohortium as co
from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError
from cohortium.inprocess.frames import DATASET, harmonise


def _variables(frames: dict[str, Any], **options: Any) -> dict[str, Variable]:
    _, variables = harmonise(frames, **options)
    return {variable.name: variable for variable in variables}


def _frame(**more: Any) -> pd.DataFrame:
    return pd.DataFrame({"age": [50, 60, 70, 80], "stage": ["b", "b", "a", "a"]} | more)


def test_levels_are_the_union_and_types_the_widest() -> None:
    second = _frame(age=[50.5, 60.25, 70, 80], stage=["c", "c", "a", "a"])
    variables = _variables({"A": _frame(), "B": second})
    assert variables["age"].type is VariableType.REAL
    assert variables["age"].decimals == 2
    assert variables["stage"].levels == ("a", "b", "c")


def test_a_category_s_own_order_is_kept() -> None:
    kind = pd.CategoricalDtype(["low", "mid", "high"], ordered=True)
    first = pd.DataFrame({"grade": pd.Series(["low", "high"], dtype=kind)})
    second = pd.DataFrame({"grade": pd.Series(["mid", "high"], dtype=kind)})
    assert _variables({"A": first, "B": second})["grade"].levels == ("low", "mid", "high")


def test_codes_become_categories_where_asked() -> None:
    frames = {"A": _frame(sex=[1, 2, 1, 2]), "B": _frame(sex=[2.0, 10.0, None, 1.0])}
    sex = _variables(frames, categories=["sex"])["sex"]
    assert (sex.type, sex.levels) == (VariableType.CATEGORY, ("1", "2", "10"))
    datasets, _ = harmonise(frames, ["sex"])
    digest = datasets["B"].get(DATASET).digest
    assert digest is not None
    table = datasets["B"].table(DATASET, {"sex": sex}, {}, digest)
    assert list(table.columns["sex"]) == [1, 2, -1, 0]


def test_a_site_without_any_value_of_a_column_fits() -> None:
    variables = _variables({"A": _frame(), "B": _frame(stage=[None] * 4)})
    assert variables["stage"].type is VariableType.CATEGORY


@pytest.mark.parametrize("convert", [lambda f: f, pl.from_pandas, pa.Table.from_pandas])
def test_pandas_polars_and_pyarrow_give_the_same(convert: Any) -> None:
    frames = {"A": convert(_frame()), "B": _frame()}
    assert _variables(frames) == _variables({"A": _frame(), "B": _frame()})


def test_names_are_made_legal_before_they_are_compared() -> None:
    frames = {"A": pd.DataFrame({"LAB_TSC ": [1.5]}), "B": pd.DataFrame({"LAB_TSC": [2.5]})}
    assert list(_variables(frames)) == ["LAB_TSC"]


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (_frame().rename(columns={"age": "years"}), "only A has age; only B has years"),
        (_frame(age=["x", "y", "z", "w"]), "Column age does not have the same type"),
        (_frame().head(0), "B: "),
        ([1, 2, 3], "B: "),
    ],
)
def test_what_does_not_fit_is_said(second: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        harmonise({"A": _frame(), "B": second})
    assert caught.value.code == "bad-data"


def test_an_unknown_category_is_said() -> None:
    with pytest.raises(InputError, match="no column sexe"):
        harmonise({"A": _frame(), "B": _frame()}, ["sexe"])


def test_headers_that_are_no_names_stay_as_descriptions_and_are_explained() -> None:
    frame = pd.DataFrame(
        {"年龄": range(30, 90), "BMI (kg/m2)": [25.5, 31.0] * 30, "sex": ["f", "m"] * 30}
    )
    with co.local({"A": frame, "B": frame}) as fed:
        study = fed.study()
        said = {name: one.description for name, one in study.variables.items()}
        assert said == {"column_1": "年龄", "BMI_kg_m2": "BMI (kg/m2)", "sex": None}
        for asked in (
            lambda: study.describe("年龄"),
            lambda: study.describe(["sex", "年龄"]),
            lambda: study.glm("年龄 ~ sex", "gaussian"),
            lambda: study.cohort(include="年龄 > 40"),
            lambda: study.derive("old = 年龄 > 60"),
        ):
            with pytest.raises(InputError, match="年龄 is called column_1 in this study") as caught:
                asked()
            assert caught.value.code == "not-found"
        with pytest.raises(InputError, match=r"BMI \(kg/m2\) is called BMI_kg_m2"):
            study.t_test("BMI (kg/m2)", by="sex")
        with pytest.raises(InputError, match="no variable 'nobody'"):
            study.describe("nobody")
        assert study.describe("column_1")["column_1"].n == 120


def test_a_site_without_rows_is_named() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    for empty in (frame.iloc[:0], pd.DataFrame({"x": []})):
        with pytest.raises(InputError, match="South: the frame has no rows"):
            co.local({"North": frame, "South": empty})
