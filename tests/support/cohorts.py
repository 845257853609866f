"""A small dictionary and tables for criteria, and random criteria over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table

SEX = ("f", "m")
STAGES = ("I", "II", "IIIA", "IIIB")

VARIABLES: dict[str, Variable] = {
    variable.name: variable
    for variable in (
        Variable(name="age", type=VariableType.INTEGER, unit="years"),
        Variable(name="time", type=VariableType.INTEGER, unit="days"),
        Variable(name="weight", type=VariableType.REAL, unit="kg", decimals=1),
        Variable(name="height", type=VariableType.REAL, unit="m"),
        Variable(name="died", type=VariableType.BOOLEAN),
        Variable(name="smoker", type=VariableType.BOOLEAN),
        Variable(name="sex", type=VariableType.CATEGORY, levels=SEX),
        Variable(name="stage", type=VariableType.CATEGORY, levels=STAGES),
        Variable(name="born", type=VariableType.DATE),
        Variable(name="admitted", type=VariableType.DATE),
        Variable(name="seen", type=VariableType.DATETIME),
    )
}


def table(**columns: list[Any]) -> Table:
    """A table of these columns; None is missing, a category's values are its levels."""
    return Table(
        {name: VARIABLES[name] for name in columns},
        {name: _column(VARIABLES[name], values) for name, values in columns.items()},
    )


def _column(variable: Variable, values: list[Any]) -> Any:
    if variable.levels is not None:
        places = [-1 if v is None else variable.levels.index(v) for v in values]
        return np.array(places, dtype=np.int32)
    if variable.type in {VariableType.DATE, VariableType.DATETIME}:
        unit = "D" if variable.type is VariableType.DATE else "s"
        values = [
            None if v is None else np.array(v, f"datetime64[{unit}]").astype(np.int64)
            for v in values
        ]
    return np.array([np.nan if v is None else float(v) for v in values])


def random_table(seed: int, n_rows: int) -> Table:
    """Every variable, with a fifth of the values missing."""
    draw = np.random.default_rng(seed)
    values: Mapping[str, Any] = {
        "age": draw.integers(0, 100, n_rows),
        "time": draw.integers(0, 5, n_rows),
        "weight": draw.integers(-20, 20, n_rows) / 2,
        "height": draw.integers(-4, 5, n_rows) / 4,
        "died": draw.integers(0, 2, n_rows),
        "smoker": draw.integers(0, 2, n_rows),
        "sex": draw.integers(0, 2, n_rows),
        "stage": draw.integers(0, 4, n_rows),
        "born": draw.integers(-20_000, 10_000, n_rows),
        "admitted": draw.integers(10_000, 20_000, n_rows),
        "seen": draw.integers(0, 2**31, n_rows),
    }
    columns = {}
    for name, column in values.items():
        missing = draw.random(n_rows) < 0.2
        if VARIABLES[name].levels is not None:
            columns[name] = np.where(missing, -1, column).astype(np.int32)
        else:
            columns[name] = np.where(missing, np.nan, column.astype(np.float64))
    return Table(VARIABLES, columns)


# --- random expressions ---------------------------------------------------------------------------


def _join(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


def _a(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


_INTEGERS = _a("age", "time", "0", "1", "-2", "3", "18", "65")
_NUMBERS = st.one_of(_INTEGERS, _a("weight", "height", "0.5", "-1.25", "2e1"))
_DATES = _a("born", "admitted", "DATE '1990-02-28'", "DATE '2000-12-31'")
_COMPARED = _a(" = ", " <> ", " < ", " <= ", " > ", " >= ")


def _more_numbers(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def call(name: str, *args: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        joined = [args[0], *(part for arg in args[1:] for part in (st.just(", "), arg))]
        return _join(st.just(f"{name}("), *joined, st.just(")"))

    return st.one_of(
        _join(st.just("("), numbers, _a(" + ", " - ", " * ", " / "), numbers, st.just(")")),
        _join(st.just("(- "), numbers, st.just(")")),
        *(call(name, numbers) for name in ("ABS", "FLOOR", "CEIL", "SQRT", "LN", "EXP")),
        call("POWER", numbers, _a("2", "0.5", "-1", "3")),
        call("COALESCE", numbers, numbers),
        call("LEAST", numbers, numbers),
        call("GREATEST", numbers, numbers),
        call("DATEDIFF", _DATES, _DATES),
        call("YEAR", _DATES),
        _join(
            st.just("CASE WHEN "),
            _a("died", "sex = 'f'", "age > 50"),
            st.just(" THEN "),
            numbers,
            st.just(" ELSE "),
            st.one_of(numbers, st.just("NULL")),
            st.just(" END"),
        ),
    )


numbers = st.recursive(_NUMBERS, _more_numbers, max_leaves=4)
categories = _a(
    "sex",
    "stage",
    "COALESCE(stage, 'unknown')",
    "CASE WHEN age > 50 THEN 'old' WHEN age > 30 THEN sex ELSE NULL END",
    "cut(age, [18, 45, 65])",
    "cut(weight, [-5, 0.5, 7])",
)
_conditions = st.one_of(
    _join(numbers, _COMPARED, numbers),
    _join(numbers, _a(" BETWEEN ", " NOT BETWEEN "), numbers, st.just(" AND "), numbers),
    _join(numbers, _a(" IN ", " NOT IN "), _a("(1, 18, 3)", "(0.5, -2)")),
    _join(_DATES, _COMPARED, _DATES),
    _a("died", "smoker", "died = smoker", "died <> smoker", "TRUE", "seen > '2001-01-01 12:00'"),
    _a("sex = 'f'", "'m' <> sex", "stage IN ('I', 'IIIB')", "stage NOT IN ('II')"),
    _a("stage LIKE 'III%'", "stage NOT LIKE '_'", "born >= '1980-06-01'", "admitted = born"),
    _a(
        "cut(age, [18, 45, 65]) = '[18, 45)'",
        "COALESCE(sex, 'u') = 'u'",
        "CASE sex WHEN 'f' THEN died ELSE smoker END",
        "COALESCE(died, smoker)",
        "sex = COALESCE(sex, stage)",
    ),
    _join(st.one_of(numbers, categories, _DATES, _a("died")), _a(" IS NULL", " IS NOT NULL")),
    _join(_a("died", "smoker"), _a(" IS TRUE", " IS NOT TRUE", " IS FALSE", " IS NOT FALSE")),
)
criteria = st.recursive(
    _conditions,
    lambda inner: st.one_of(
        _join(st.just("("), inner, _a(" AND ", " OR "), inner, st.just(")")),
        _join(st.just("NOT ("), inner, st.just(")")),
        _join(st.just("("), inner, st.just(")"), _a(" IS NULL", " IS NOT TRUE", " IS FALSE")),
    ),
    max_leaves=4,
)
