"""Contingency tables: what is released, what is withheld, what leaves a site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from tests.support.federation import run_pooled_sum
from tests.support.tables import category, halves, persons

from cohortium.analysis.builtin import find
from cohortium.analysis.contingency import fisher, odds_ratio
from cohortium.analysis.crosstab import Crosstab, CrosstabParams
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

SEX, ARM = category("sex", "f", "m"), category("arm", "a", "b", "c")
ILL = Variable(name="ill", type=VariableType.BOOLEAN)
AGE = Variable(name="age", type=VariableType.REAL)
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("disclosure", [SITE, TOTAL], ids=["site", "total"])


def crosstab(tables: list[Table], disclosure: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find("stats.crosstab"), params, tables, disclosure).result)


def p_of(result: dict[str, Any], test: str) -> float:
    return float(next(one["p_value"] for one in result["tests"] if one["test"] == test))


@both
def test_a_2x2_table_by_hand(disclosure: Disclosure) -> None:
    tables = [persons([[20, 10], [10, 20]], [SEX, ILL], missing=3) for _ in range(2)]
    result = crosstab(tables, disclosure, row="sex", column="ill")
    assert result["counts"] == [[40, 20], [20, 40]]
    assert (result["row_totals"], result["column_totals"]) == ([60, 60], [60, 60])
    assert (result["n"], result["n_missing"], result["n_sites"]) == (120, 6, 2)
    assert result["expected"] == [[30.0, 30.0], [30.0, 30.0]]
    assert result["levels"] == [["f", "m"], ["false", "true"]]
    assert result["statistic"] == pytest.approx(4 * 100 / 30)
    assert result["estimate"]["value"] == pytest.approx(4.0)
    risk, difference, v, corrected = (one["value"] for one in result["effects"])
    assert (risk, difference) == (pytest.approx(2.0), pytest.approx(1 / 3))
    assert (v, corrected < v) == (pytest.approx(1 / 3), True)
    assert result["contrast"] == {"outcome": "true", "level": "m", "against": "f"}
    assert result["residuals"][0] == pytest.approx([13.3333333**0.5, -(13.3333333**0.5)])
    assert result["suppressed"] == []


@both
def test_frequencies_of_one_variable_have_no_test(disclosure: Disclosure) -> None:
    result = crosstab(halves([30, 40, 0], [ARM]), disclosure, row="arm")
    assert result["counts"] == [[30], [40], [0]]
    assert (result["n"], result["by"], result["levels"]) == (70, None, [["a", "b", "c"]])
    assert "p_value" not in result


def test_a_small_cell_of_one_variable_takes_another() -> None:
    result = crosstab(halves([4, 40, 50], [ARM]), row="arm")
    assert result["counts"] == [[None], [None], [50]]
    assert (result["row_totals"], result["column_totals"]) == ([None, None, 50], [94])
    assert len(result["suppressed"]) == 2


@both
def test_with_a_small_cell_the_tests_are_withheld_too(disclosure: Disclosure) -> None:
    result = crosstab(halves([[4, 40], [60, 70]], [SEX, ILL]), disclosure, row="sex", column="ill")
    assert result["counts"] == [[None, None], [None, None]]
    assert (result["row_totals"], result["column_totals"]) == ([44, 130], [64, 110])
    assert result["p_value"] is None
    assert not {"tests", "estimate", "effects", "expected", "residuals"} & set(result)
    assert any("tests and measures" in line for line in result["suppressed"])


def test_which_cell_is_the_small_one_is_not_said() -> None:
    """The small cell may be any of the four."""
    kinds = set()
    for at in range(4):
        counts = np.full(4, 40)
        counts[at] = 2
        result = crosstab(halves(counts.reshape(2, 2), [SEX, ILL]), row="sex", column="ill")
        result["row_totals"] = result["column_totals"] = None
        kinds.add(str(result))
    assert len(kinds) == 1


def test_a_margin_of_few_persons_is_withheld() -> None:
    result = crosstab(halves([[2, 2], [40, 60]], [SEX, ILL]), TOTAL, row="sex", column="ill")
    assert result["row_totals"] == [None, None]
    assert result["n"] == 104
    assert any(line.startswith("margins") for line in result["suppressed"])


@both
def test_a_cell_of_one_institution_is_withheld(disclosure: Disclosure) -> None:
    tables = [persons([[30, 20], [20, 0]], [SEX, ILL]), persons([[30, 20], [20, 20]], [SEX, ILL])]
    result = crosstab(tables, disclosure, row="sex", column="ill")
    assert result["counts"] == [[None, None], [None, None]]
    assert any("one institution" in line for line in result["suppressed"])


@both
def test_an_empty_cell_is_released_and_so_are_the_tests(disclosure: Disclosure) -> None:
    result = crosstab(halves([[0, 20], [40, 60]], [SEX, ILL]), disclosure, row="sex", column="ill")
    assert result["counts"][0] == [0, 20]
    assert result["estimate"]["value"] == 0.0
    assert result["estimate"]["low"] is None
    assert result["p_value"] < 0.01


def test_levels_that_nobody_has_are_left_out_of_the_tests() -> None:
    result = crosstab(halves([[20, 30], [0, 0], [40, 20]], [ARM, ILL]), row="arm", column="ill")
    assert result["df"] == 1
    assert result["contrast"] == {"outcome": "true", "level": "c", "against": "a"}
    assert result["residuals"][1] == [None, None]
    assert "left out of the tests" in result["notes"][0]


def test_a_table_of_one_level_has_nothing_to_test() -> None:
    result = crosstab(halves([[20, 30], [0, 0]], [SEX, ILL]), row="sex", column="ill")
    assert result["p_value"] is None
    assert "nothing to test" in result["notes"][-1]


def test_low_expected_counts_are_said() -> None:
    few = Disclosure(min_cell=1)
    tables = [persons([[2, 3], [3, 9]], [SEX, ILL])] * 2
    assert "below 5" in str(crosstab(tables, few, row="sex", column="ill")["notes"])


def test_a_site_below_its_floor_counts_nowhere() -> None:
    tables = [
        persons([[30, 20], [20, 30]], [SEX, ILL]),
        persons([[30, 20], [20, 30]], [SEX, ILL], missing=7),
        persons([[1, 1], [1, 1]], [SEX, ILL], missing=2),
    ]
    alone = crosstab(tables, SITE, row="sex", column="ill")
    assert (alone["n"], alone["n_missing"], alone["n_sites"]) == (200, 7, 2)
    together = crosstab(tables, TOTAL, row="sex", column="ill")
    assert (together["n"], together["n_missing"], together["n_sites"]) == (204, 9, 3)


@pytest.mark.parametrize("limits", [Disclosure(rounding=5), Disclosure()])
def test_rounded_numbers_come_without_tests(limits: Disclosure) -> None:
    tables = halves([[21, 38], [42, 59]], [SEX, ILL])
    rounding = None if limits.rounding else 5
    result = crosstab(tables, limits, row="sex", column="ill", rounding=rounding)
    assert result["counts"] == [[20, 40], [40, 60]]
    assert (result["row_totals"], result["column_totals"]) == ([60, 100], [65, 95])
    assert (result["n"], result["rounding"], result["p_value"]) == (160, 5, None)
    assert result["suppressed"] == ["tests and measures: the numbers are rounded"]


def test_a_small_cell_is_withheld_from_a_rounded_table_too() -> None:
    result = crosstab(halves([[3, 38], [42, 59]], [SEX, ILL]), row="sex", column="ill", rounding=10)
    assert result["counts"] == [[None, None], [None, None]]


@pytest.mark.parametrize(
    ("tables", "limits"),
    [
        (halves([[1, 1], [1, 1]], [SEX, ILL]), TOTAL),
        ([persons([[30, 30], [30, 30]], [SEX, ILL]), persons([[0, 0], [0, 0]], [SEX, ILL])], SITE),
        (halves([[20, 20], [20, 20]], [SEX, ILL]), Disclosure(min_cohort=100)),
    ],
    ids=["few persons", "one site", "below the minimum cohort"],
)
def test_a_table_of_few_persons_is_refused(tables: list[Table], limits: Disclosure) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        crosstab(tables, limits, row="sex", column="ill")
    assert caught.value.code == "too-few-persons"


def test_a_category_of_more_levels_than_allowed_is_refused() -> None:
    tables = halves([30, 40, 50], [ARM])
    with pytest.raises(PolicyRefusal) as caught:
        crosstab(tables, Disclosure(max_levels=2), row="arm")
    assert caught.value.code == "too-many-levels"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"row": "sex", "column": "sex"}, "bad-input"),
        ({"row": "age"}, "bad-input"),
        ({"row": "sex", "column": "age"}, "bad-input"),
        ({"row": "nothing"}, "not-found"),
        ({"row": "many", "column": "arm"}, "bad-input"),
        ({"row": "sex", "rounding": 1}, "bad-input"),
        ({"row": "sex", "confidence": 1.0}, "bad-input"),
    ],
)
def test_what_cannot_be_tabulated_is_an_input_error(params: dict[str, Any], code: str) -> None:
    many = category("many", *map(str, range(500)))
    variables = {v.name: v for v in (SEX, ARM, ILL, AGE, many)}
    table = persons([[30, 30], [30, 30]], [SEX, ILL])
    with pytest.raises(InputError) as caught:
        run_pooled_sum(find("stats.crosstab"), params, [table, table], variables=variables)
    assert caught.value.code == code


def test_a_state_of_another_phase_is_refused_at_the_site() -> None:
    table = persons([[30, 30], [30, 30]], [SEX, ILL])
    scope = Scope(table.variables, SITE, 2)
    for state in (State(), State(values={"phase": "persons"}), State(values={"phase": 1})):
        with pytest.raises(ProtocolError):
            Crosstab().local(table, state, CrosstabParams(row="sex", column="ill"), scope)


def test_what_leaves_a_site_are_counts_of_its_cells() -> None:
    table = persons([[30, 0], [20, 10]], [SEX, ILL], missing=4)
    scope, params = Scope(table.variables, SITE, 2), CrosstabParams(row="sex", column="ill")
    analysis = Crosstab()
    sent = analysis.local(table, analysis.start(params, scope), params, scope)
    assert {name: array.tolist() for name, array in sent.items()} == {
        "cells": [[30, 0], [20, 10]],
        "sites": [[1, 0, 1], [1, 1, 1], [1, 1, 1]],
        "missing": [4],
    }


def test_its_cells_are_the_parts_of_the_cohort() -> None:
    scope = Scope({v.name: v for v in (SEX, ILL)}, SITE, 2)
    analysis, params = Crosstab(), CrosstabParams(row="sex", column="ill", rounding=5)
    assert analysis.partition(params, scope) == ("sex", "ill")
    assert analysis.rounding(params) == 5
    assert analysis.variables(params) == {"sex", "ill"}
    assert analysis.partition(CrosstabParams(row="sex"), scope) == ("sex",)


def test_fishers_test_of_millions_is_quick_and_right() -> None:
    """Only counts near the mean and near the table are looked at."""
    counts = np.array([[1_000_000, 1_000_000], [1_002_000, 998_500]])
    line = fisher(counts, 0.95)
    assert line["p_value"] == pytest.approx(scipy.stats.fisher_exact(counts).pvalue, rel=1e-6)
    woolf = odds_ratio(counts, 0.95)
    for ours, theirs in (("odds_ratio", "value"), ("low", "low"), ("high", "high")):
        assert line[ours] == pytest.approx(woolf[theirs], rel=1e-5)
    assert fisher(np.array([[10**6, 100], [100, 10**6]]), 0.95)["p_value"] == 0.0


def test_describe_in_groups_withholds_what_the_table_withholds() -> None:
    """With the levels of everybody, which are released too, a small one would follow."""
    tables = halves([[100, 50, 30], [60, 3, 40]], [SEX, ARM])
    table = crosstab(tables, row="sex", column="arm")
    params = {"variables": ["arm"], "by": "sex"}
    result = run_pooled_sum(find("stats.describe"), params, tables, SITE).result
    levels = [
        [level["count"] for level in group["variables"]["arm"]["levels"]]
        for group in result["groups"]
    ]
    assert levels == table["counts"]
    assert [row.count(None) for row in levels] == [2, 2]
