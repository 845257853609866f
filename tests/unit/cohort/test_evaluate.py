from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.support.cohorts import VARIABLES, random_table, table

from cohortium.cohort.check import check
from cohortium.cohort.evaluate import Evaluation
from cohortium.core.dictionary import VariableType

T, F, N = True, False, None


def truth(text: str, **columns: list[Any]) -> list[bool | None]:
    values = Evaluation(table(**columns)).column(check(text, VARIABLES))
    return [None if np.isnan(v) else bool(v) for v in values]


def values(text: str, **columns: list[Any]) -> list[Any]:
    expr = check(text, VARIABLES)
    found = Evaluation(table(**columns)).column(expr)
    if expr.type.kind is VariableType.CATEGORY:
        assert found.dtype == np.int32
        return [None if code < 0 else (expr.type.levels or ())[code] for code in found]
    assert found.dtype == np.float64
    return [None if math.isnan(v) else v for v in found]


ALL_PAIRS = {"died": [T, T, T, F, F, F, N, N, N], "smoker": [T, F, N, T, F, N, T, F, N]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("died AND smoker", [T, F, N, F, F, F, N, F, N]),
        ("died OR smoker", [T, T, T, T, F, N, T, N, N]),
        ("died = smoker", [T, F, N, F, T, N, N, N, N]),
        ("died <> smoker", [F, T, N, T, F, N, N, N, N]),
        ("NOT died", [F, F, F, T, T, T, N, N, N]),
        ("died IS TRUE", [T, T, T, F, F, F, F, F, F]),
        ("died IS NOT FALSE", [T, T, T, F, F, F, T, T, T]),
        ("(died AND smoker) IS NULL", [F, F, T, F, F, F, T, F, T]),
        ("COALESCE(died, smoker)", [T, T, T, F, F, F, T, F, N]),
        ("CASE WHEN died THEN smoker END", [T, F, N, N, N, N, N, N, N]),
        ("died AND NULL", [N, N, N, F, F, F, N, N, N]),
    ],
)
def test_the_logic_has_three_values(text: str, expected: list[bool | None]) -> None:
    assert truth(text, **ALL_PAIRS) == expected


@pytest.mark.parametrize("symbol", ["=", "<>", "<", "<=", ">", ">="])
def test_a_comparison_with_what_is_missing_is_null(symbol: str) -> None:
    assert truth(f"age {symbol} weight", age=[1, N, N], weight=[N, 1, N]) == [N, N, N]
    assert truth(f"NOT age {symbol} 3", age=[N]) == [N]


def test_membership() -> None:
    assert truth("age IN (1, 3)", age=[1, 2, 3, N]) == [T, F, T, N]
    assert truth("age NOT IN (1, 3)", age=[1, 2, 3, N]) == [F, T, F, N]
    assert truth("age BETWEEN 2 AND 3", age=[1, 2, 3, 4, N]) == [F, T, T, F, N]
    assert truth("age NOT BETWEEN weight AND 3", age=[1, 9], weight=[N, N]) == [N, T]
    stages = {"stage": ["I", "II", "IIIA", N]}
    assert truth("stage LIKE 'III%'", **stages) == [F, F, T, N]
    assert truth("stage NOT LIKE 'III%'", **stages) == [T, T, F, N]
    assert truth("stage <> 'I'", **stages) == [F, T, T, N]
    assert truth("stage IS NULL", **stages) == [F, F, F, T]


def test_categories_are_compared_by_level_and_not_by_code() -> None:
    text = "COALESCE(stage, 'f') = sex"
    columns = {"stage": [N, N, "I", N], "sex": ["f", "m", "f", N]}
    assert truth(text, **columns) == [T, F, F, N]
    assert truth(f"NOT ({text})", **columns) == [F, T, T, N]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weight / height", [2.0, None, None, None]),
        ("1 / (height - height)", [None] * 4),
        ("weight * 1e308 * 100", [None, 0.0, None, None]),
        ("LN(weight)", [math.log(3.0), None, None, None]),
        ("SQRT(weight)", [math.sqrt(3.0), 0.0, None, None]),
        ("EXP(weight * 1000)", [None, 1.0, 0.0, None]),
        ("POWER(weight, 2)", [9.0, 0.0, 4.0, None]),
        ("POWER(weight, -1)", [1 / 3, None, -0.5, None]),
        ("POWER(weight, 0.5)", [math.sqrt(3.0), 0.0, None, None]),
        ("FLOOR(height)", [1.0, 0.0, None, -2.0]),
        ("CEIL(height)", [2.0, 0.0, None, -1.0]),
        ("LEAST(weight, height)", [1.5, 0.0, None, None]),
        ("GREATEST(weight, height)", [3.0, 0.0, None, None]),
        ("COALESCE(weight, height, 9)", [3.0, 0.0, -2.0, -1.5]),
        ("CASE WHEN weight > 1 THEN 1 WHEN weight >= 0 THEN 2 END", [1.0, 2.0, None, None]),
        ("CASE weight WHEN 3 THEN 1 ELSE height END", [1.0, 0.0, None, -1.5]),
    ],
)
def test_numbers_and_what_has_no_value(text: str, expected: list[float | None]) -> None:
    found = values(text, weight=[3.0, 0.0, -2.0, N], height=[1.5, 0.0, N, -1.5])
    assert found == pytest.approx(expected)


def test_intervals_are_closed_on_the_left() -> None:
    found = values("cut(age, [18, 45, 65, 120])", age=[17, 18, 44, 45, 119, 120, N])
    assert found == [None, "[18, 45)", "[18, 45)", "[45, 65)", "[65, 120)", None, None]


def test_text_becomes_a_category() -> None:
    text = "CASE WHEN age > 65 THEN 'old' WHEN sex = 'f' THEN 'young woman' ELSE sex END"
    found = values(text, age=[70, 30, 30, N, N], sex=["f", "f", "m", "f", N])
    assert found == ["old", "young woman", "m", "young woman", None]


def test_dates() -> None:
    columns: dict[str, list[Any]] = {
        "born": ["1960-02-29", "1969-12-31", N],
        "admitted": ["2000-03-01", "1970-01-01", "2000-01-01"],
    }
    assert values("DATEDIFF(admitted, born)", **columns) == [14611.0, 1.0, None]
    assert values("YEAR(born)", **columns) == [1960.0, 1969.0, None]
    assert truth("born < '1960-03-01'", **columns) == [T, F, N]
    assert truth("'1960-03-01' < born", **columns) == [F, T, N]
    assert truth("DATEDIFF('2000-01-01', admitted) >= 0", **columns) == [F, T, T]
    assert truth("admitted IN ('2000-01-01', DATE '2000-03-01')", **columns) == [T, F, T]
    seen = ["2020-01-31T11:59:59", "2020-01-31T12:00:00", N]
    assert truth("seen >= '2020-01-31 12:00'", seen=seen) == [F, T, N]


def test_constants_are_of_everybody() -> None:
    assert truth("1 < 2", age=[1, 2]) == [T, T]
    assert values("'x' IS NULL", age=[1, 2]) == [0.0, 0.0]
    assert Evaluation(random_table(0, 0)).true(check("age > 1", VARIABLES)).shape == (0,)
