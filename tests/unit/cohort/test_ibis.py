"""The same rows from a table in memory and from databases."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from tests.support.cohorts import VARIABLES, criteria, numbers, random_table
from tests.support.postgres import PostgresServer, postgres_server

from cohortium.cohort.check import check, check_criterion
from cohortium.cohort.evaluate import Evaluation
from cohortium.cohort.ibis import Translation, derive, persons
from cohortium.cohort.population import Population
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.selection import Derived, Selection
from cohortium.errors import InputError

__all__ = ["postgres_server"]
# Ibis 12 asks DuckDB 2 in a way that goes on working and is called old.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")
TABLE = random_table(3, 80)
_SQL = {
    VariableType.INTEGER: "BIGINT",
    VariableType.REAL: "DOUBLE PRECISION",
    VariableType.BOOLEAN: "BOOLEAN",
    VariableType.CATEGORY: "TEXT",
    VariableType.DATE: "DATE",
    VariableType.DATETIME: "TIMESTAMP",
}


def _value(variable: Variable, value: float) -> Any:
    if np.isnan(value) or (variable.levels is not None and value < 0):
        return None
    match variable.type:
        case VariableType.CATEGORY:
            return (variable.levels or ())[int(value)]
        case VariableType.DATE:
            return date(1970, 1, 1) + timedelta(days=int(value))
        case VariableType.DATETIME:
            return datetime.fromtimestamp(value, UTC).replace(tzinfo=None)
        case VariableType.BOOLEAN:
            return bool(value)
        case VariableType.INTEGER:
            return int(value)
    return float(value)


def _statements(mark: str) -> tuple[str, str, list[tuple[Any, ...]]]:
    """To create the table, to insert a row, and the rows."""
    columns = ", ".join(f"{v.name} {_SQL[v.type]}" for v in VARIABLES.values())
    values = [[_value(v, x) for x in TABLE.columns[v.name]] for v in VARIABLES.values()]
    marks = ", ".join(mark for _ in range(len(values) + 1))
    rows = list(zip(range(TABLE.n_rows), *values, strict=True))
    return (
        f"CREATE TABLE persons (row_number BIGINT, {columns})",
        (f"INSERT INTO persons VALUES ({marks})"),
        rows,
    )


def _duckdb(_: Any) -> Any:
    import ibis

    backend = ibis.duckdb.connect()
    create, insert, rows = _statements("?")
    backend.con.execute(create)
    backend.con.executemany(insert, rows)
    return backend


def _sqlite(_: Any) -> Any:
    import ibis

    backend = ibis.sqlite.connect()
    create, insert, rows = _statements("?")
    backend.con.execute(create)
    texts = [[str(v) if isinstance(v, date) else v for v in row] for row in rows]
    backend.con.executemany(insert, texts)
    return backend


def _postgres(request: pytest.FixtureRequest) -> Any:
    import ibis

    server: PostgresServer = request.getfixturevalue("postgres_server")
    backend = ibis.connect(server.url(server.create_database(), "postgres"))
    create, insert, rows = _statements("%s")
    with backend.con.cursor() as cursor:
        cursor.execute(create)
        cursor.executemany(insert, rows)
    backend.con.commit()
    return backend


@pytest.fixture(
    scope="module",
    params=[_duckdb, _sqlite, pytest.param(_postgres, marks=pytest.mark.postgres)],
    ids=["duckdb", "sqlite", "postgres"],
)
def stored(request: pytest.FixtureRequest) -> Iterator[Any]:
    backend = request.param(request)
    try:
        yield backend.table("persons")
    finally:
        backend.disconnect()


def _rows(filtered: Any) -> list[int]:
    return sorted(
        int(row) for row in filtered.select("row_number").to_pyarrow().column(0).to_pylist()
    )


@settings(max_examples=int(os.environ.get("COHORTIUM_EXAMPLES", "10")), deadline=None)
@given(criterion=criteria)
def test_a_criterion_selects_the_same_rows(stored: Any, criterion: str) -> None:
    expr = check_criterion(criterion, VARIABLES)
    expected = np.flatnonzero(Evaluation(TABLE).true(expr)).tolist()
    assert _rows(stored.filter(Translation(stored).true(expr))) == expected


@settings(max_examples=int(os.environ.get("COHORTIUM_EXAMPLES", "10")), deadline=None)
@given(text=numbers)
def test_a_number_has_the_same_value(stored: Any, text: str) -> None:
    expr = check(text, VARIABLES)
    expected = Evaluation(TABLE).column(expr)
    shown = stored.select("row_number", value=Translation(stored).value(expr))
    found = shown.order_by("row_number").to_pyarrow().column("value").to_pylist()
    values = np.array([np.nan if v is None else float(v) for v in found])
    # The last bit of a logarithm is each library's own.
    np.testing.assert_allclose(values, expected, rtol=1e-9)


@pytest.mark.parametrize("text", ["cut(weight, [-5, 0.5, 7])", "COALESCE(stage, 'unknown')"])
def test_a_category_has_the_same_level(stored: Any, text: str) -> None:
    expr = check(text, VARIABLES)
    codes = Evaluation(TABLE).column(expr)
    expected = [None if code < 0 else (expr.type.levels or ())[code] for code in codes]
    shown = stored.select("row_number", value=Translation(stored).value(expr))
    found = shown.order_by("row_number").to_pyarrow().column("value").to_pylist()
    assert found == expected


def test_a_population_is_derived_and_filtered(stored: Any) -> None:
    derived = (
        Derived(name="ratio", expression="weight / time"),
        Derived(name="positive", expression="ratio > 0"),
        Derived(name="late", expression="COALESCE(admitted, '2020-01-01')"),
        Derived(name="years", expression="YEAR(admitted) - YEAR(born)"),
    )
    asked = Selection(
        include=("positive IS NOT NULL", "years BETWEEN 10 AND 60"),
        exclude=("positive AND sex = 'f'", "late > '2015-06-30'"),
    )
    population = Population.of(Selection(derived=derived), asked, VARIABLES)
    expected = np.flatnonzero(population.rows(population.derive(TABLE))).tolist()
    assert 0 < len(expected) < TABLE.n_rows
    whole = derive(population, stored)
    assert whole.years.type().is_integer()
    assert _rows(persons(population, whole)) == expected
    everybody = Population.of(Selection(), None, VARIABLES)
    assert len(_rows(persons(everybody, stored))) == TABLE.n_rows


def test_without_ibis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ibis", None)
    with pytest.raises(InputError) as caught:
        Translation(None)
    assert caught.value.code == "missing-extra"
