"""Criteria: whatever the text, an answer or one error; the same persons however they are asked."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cohorts import VARIABLES, categories, criteria, numbers, random_table

from cohortium.cohort.check import check, check_criterion
from cohortium.cohort.evaluate import Evaluation
from cohortium.cohort.parser import parse
from cohortium.cohort.population import Population
from cohortium.core.selection import Selection
from cohortium.errors import InputError

TABLE = random_table(7, 60)

_PIECES = st.sampled_from(
    [
        *(
            "age",
            "sex",
            "stage",
            "born",
            "died",
            "nothing",
            '"order"',
            "'f'",
            "'x",
            "1",
            "2.5",
            "1e9",
        ),
        *(
            "AND",
            "or",
            "NOT",
            "IN",
            "BETWEEN",
            "LIKE",
            "IS",
            "NULL",
            "TRUE",
            "CASE",
            "WHEN",
            "THEN",
        ),
        *(
            "ELSE",
            "END",
            "DATE",
            "'2020-01-31'",
            "SELECT",
            "FROM",
            "ABS(",
            "COALESCE(",
            "cut(",
            "LN(",
        ),
        *("(", ")", "[", "]", ",", "=", "<", ">=", "<>", "+", "-", "*", "/", ";", "--", "/*", "*/"),
        *(
            "%",
            ".",
            "::",
            "->",
            "{{",
            "?",
            "$1",
            "@",
            "\n",
            "\t",
            "\x00",
            "病",
            "𝒂",
            "\u202e",
            "INTERVAL",
        ),
        *("AT TIME ZONE", "OVER", "IGNORE NULLS", "DISTINCT", "ESCAPE", "IF(", "CAST(", "EXISTS("),
    ]
)


def _outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except InputError as error:
        return error


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=20).map(" ".join)))
def test_no_text_leads_to_anything_but_an_expression_or_the_one_error(text: str) -> None:
    found = _outcome(lambda: check_criterion(text, VARIABLES))
    if isinstance(found, InputError):
        assert found.code == "bad-criterion"
        assert 0 <= found.details["position"] <= len(text)
    else:
        assert Evaluation(TABLE).true(found).shape == (TABLE.n_rows,)


@settings(max_examples=100)
@given(criteria)
def test_a_condition_is_true_or_false_or_null_of_each_person(text: str) -> None:
    def true(criterion: str) -> Any:
        return Evaluation(TABLE).true(check_criterion(criterion, VARIABLES))

    yes, no, unknown = true(text), true(f"NOT ({text})"), true(f"({text}) IS NULL")
    assert np.all(yes.astype(int) + no + unknown == 1)
    assert np.array_equal(true(f"({text}) IS NOT TRUE"), ~yes)
    assert np.array_equal(true(f"NOT (NOT ({text}))"), yes)


@settings(max_examples=50)
@given(criteria, criteria, st.integers(0, 2**60))
def test_de_morgan_and_the_order_of_criteria(one: str, other: str, cut: int) -> None:
    def persons(**selection: Any) -> Any:
        return Population.of(Selection(), Selection(**selection), VARIABLES)

    a = persons(include=(one, other))
    b = persons(include=(f"({other}) AND ({one})",))
    assert np.array_equal(a.rows(TABLE), b.rows(TABLE))
    assert a.key == b.key
    both = persons(exclude=(f"NOT (({one}) AND ({other}))",)).rows(TABLE)
    either = persons(exclude=(f"NOT ({one}) OR NOT ({other})",)).rows(TABLE)
    assert np.array_equal(both, either)
    rows = np.arange(TABLE.n_rows) < cut % TABLE.n_rows  # persons are judged one by one
    assert np.array_equal(a.rows(TABLE.take(rows)), a.rows(TABLE)[rows])


@settings(max_examples=100)
@given(st.one_of(numbers, categories))
def test_a_value_is_finite_or_missing_and_fits_its_type(text: str) -> None:
    expr = check(text, VARIABLES)
    column = Evaluation(TABLE).column(expr)
    if expr.type.levels is not None:
        assert column.min() >= -1
        assert column.max() < len(expr.type.levels)
    else:
        assert not np.isinf(column).any()
        if expr.type.kind == "integer":
            present = column[~np.isnan(column)]
            assert np.array_equal(present, np.floor(present))


DEEPEST = [
    "(" * 12 + "a" + ")" * 12,
    "f(" * 12 + "a" + ")" * 12,
    "CASE WHEN a THEN " * 12 + "1" + " END" * 12,
    "NOT " * 12 + "a",
    "a IN (" * 12 + "1" + ")" * 12,
    "a BETWEEN (" * 12 + "1" + ") AND 2" * 12,
    "f([" * 6 + "a" + "])" * 6,
    "CASE (" * 6 + "a" + ") WHEN 1 THEN 2 END" * 6,
    "a = (b + " * 11 + "1" + ")" * 12,
]


@pytest.mark.parametrize("text", DEEPEST)
def test_the_depth_that_is_allowed_needs_little_of_the_stack(text: str) -> None:
    """Else a site that calls from deeper down would refuse what another accepts."""
    parse.cache_clear()
    shallow = _outcome(lambda: parse(text))
    parse.cache_clear()

    def fill(frames: int) -> Any:
        return parse(text) if frames == 0 else fill(frames - 1)

    room = sys.getrecursionlimit() - len(inspect.stack()) - 400
    deep = _outcome(lambda: fill(room))
    assert str(deep) == str(shallow)
