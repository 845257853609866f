"""Correlations: what is asked wrongly, what is withheld, what leaves a site."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import table_of

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.correlation_state import Sums
from cohortium.analysis.distribution import Distribution
from cohortium.analysis.interface import NamesColumns, Scope
from cohortium.analysis.rank_bins import bins_of
from cohortium.analysis.spearman import Spearman, SpearmanParams
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

NUMBERS = ("x", "y", "twice", "one", "ill", "other", "rare")
VARIABLES = (
    *(Variable(name=name, type=VariableType.REAL, decimals=3) for name in NUMBERS),
    Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b")),
    Variable(name="day", type=VariableType.DATE),
)
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
METHODS = ("correlation", "spearman")


def people(n: int, seed: int, rare: int = 2, **columns: Any) -> Table:
    random = np.random.default_rng(seed)
    x = np.round(random.normal(size=n), 3)
    ill = (np.arange(n) % 2).tolist()
    values: dict[str, Any] = {
        "x": x.tolist(),
        "y": np.round(x / 2 + random.normal(size=n), 3).tolist(),
        "twice": (2 * x + 1).tolist(),
        "one": [1] * n,
        "ill": [7.5 if one else -2.0 for one in ill],
        "other": [1 if at < n // 2 else 2 for at in range(n)],
        "rare": [3 if at < rare else 4 for at in range(n)],
        "arm": ["a"] * n,
        "day": [1] * n,
    }
    return table_of(VARIABLES, values | columns)


GOOD = [people(40, 1), people(50, 2), people(60, 3, rare=0)]


def run(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find(f"stats.{name}"), params, tables, limits).result)


def code(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> str:
    with pytest.raises(CohortiumError) as caught:
        run(name, tables, limits, **params)
    assert isinstance(caught.value, InputError | PolicyRefusal)
    return caught.value.code


@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_number_or_no_pair_is_refused(name: str) -> None:
    for variables in (["x"], ["x", "x"], ["x", "arm"]):
        assert code(name, GOOD, variables=variables) == "bad-input"
    assert code(name, GOOD, variables=["x", "nobody"]) == "not-found"


@pytest.mark.parametrize("name", [*METHODS, "pca"])
def test_correlations_are_refused_where_counts_are_rounded(name: str) -> None:
    assert code(name, GOOD, Disclosure(rounding=5), variables=["x", "y"]) == "not-permitted"


def test_what_is_held_constant_needs_complete_persons() -> None:
    params: dict[str, Any] = {"variables": ["x", "y"], "given": ["ill"]}
    assert code("correlation", GOOD, missing="pairwise", **params) == "bad-input"
    assert code("correlation", GOOD, variables=["x", "y"], given=["x"]) == "bad-input"
    assert code("correlation", GOOD, variables=["x", "day"]) == "bad-input"


@both
@pytest.mark.parametrize("name", METHODS)
def test_too_few_persons_or_sites_are_refused(name: str, limits: Disclosure) -> None:
    variables = ["x", "y"]
    assert code(name, [people(2, 1), people(2, 2)], limits, variables=variables) in {
        "too-few-persons",
        "too-few-sites",
        "too-many-parameters",
    }
    assert code(name, [people(40, 1), people(0, 2)], limits, variables=variables) == "too-few-sites"
    few = [people(9, 1), people(9, 2)]
    assert code(name, few, limits, variables=variables) == "too-many-parameters"


@pytest.mark.parametrize("name", METHODS)
def test_a_rare_value_of_two_is_withheld_whatever_the_values(name: str) -> None:
    result = run(name, GOOD, variables=["x", "y", "rare"])
    assert result["correlation"][0][1] is not None
    assert result["correlation"][0][2] is None
    assert any(why.startswith("x and rare: it would give away") for why in result["suppressed"])
    assert code(name, GOOD, variables=["x", "rare"]) == "too-few-persons"


def with_small_cell() -> list[Table]:
    """Of 40 who are ill 2 have the value 1 of `other`, of 40 who are not 20."""
    tables = [people(40, 1), people(40, 2)]
    for table in tables:
        ill, other = table.columns["ill"] > 0, table.columns["other"]
        other[:] = 2
        other[np.flatnonzero(ill)[:1]] = other[np.flatnonzero(~ill)[:10]] = 1
    return tables


def test_a_small_cell_is_found_where_the_dictionary_knows_no_decimals() -> None:
    free = {n: Variable(name=n, type=VariableType.REAL) for n in ("ill", "other")}
    tables = [Table(free, {name: t.columns[name] for name in free}) for t in with_small_cell()]
    assert code("spearman", tables, variables=["ill", "other"]) == "too-few-persons"


@pytest.mark.parametrize("name", METHODS)
def test_a_small_cell_of_two_variables_of_two_values_is_withheld(name: str) -> None:
    tables = [people(40, 1), people(40, 2)]
    assert run(name, tables, variables=["ill", "other"])["correlation"][0][1] is not None
    assert code(name, with_small_cell(), variables=["ill", "other"]) == "too-few-persons"


@pytest.mark.parametrize("name", METHODS)
def test_a_variable_that_follows_from_another_is_withheld(name: str) -> None:
    result = run(name, GOOD, variables=["x", "y", "twice"])
    assert result["correlation"][0][2] is None
    assert "x and twice: one follows from the other" in result["suppressed"]


@pytest.mark.parametrize("name", METHODS)
def test_a_constant_has_no_correlation(name: str) -> None:
    result = run(name, GOOD, variables=["x", "y", "one"])
    assert result["correlation"][2] == [None, None, None]
    assert result["p_value"][0][2] is None


def test_nothing_is_held_constant_that_is_withheld_or_equal() -> None:
    variables = ["x", "y"]
    assert code("correlation", GOOD, variables=variables, given=["rare"]) == "too-few-persons"
    assert code("correlation", GOOD, variables=variables, given=["one"]) == "no-convergence"
    sums = [
        Table(t.variables, {**t.columns, "twice": t.columns["x"] + t.columns["y"]}) for t in GOOD
    ]
    assert code("correlation", sums, variables=variables, given=["twice"]) == "no-convergence"


@both
def test_pairs_whose_persons_differ_by_few_are_withheld(limits: Disclosure) -> None:
    y = [None, None, *range(38)]
    tables = [people(40, 1, y=y), people(40, 2), people(40, 4)]
    params: dict[str, Any] = {"variables": ["x", "y", "ill"], "missing": "pairwise"}
    result = run("correlation", tables, limits, **params)
    assert result["correlation"][0][1] is None
    assert result["correlation"][0][2] is not None
    assert any("differ" in why for why in result["suppressed"])
    fewer = [people(40, 1, y=[None] * 10 + list(range(30))), people(40, 2), people(40, 4)]
    assert run("correlation", fewer, limits, **params)["n_pairs"][0][1] == 110


def test_a_site_below_its_floor_sends_zeros_in_every_round() -> None:
    analysis = find("stats.correlation")
    params = {"variables": ["x", "y"]}
    seen: list[tuple[State, Total]] = []
    run_pooled_sum(analysis, params, GOOD, SITE, seen=seen)
    for state, _ in seen:
        parsed = parse_params(analysis, params)
        sent = analysis.local(people(4, 9), state, parsed, Scope(GOOD[0].variables, SITE, 3))
        assert not any(np.any(array) for array in sent.values())


def spoil(state: State, name: str, value: Any) -> State:
    return replace(state, arrays={**state.arrays, name: value})


def test_states_of_correlations_that_cannot_be_are_refused() -> None:
    state = Sums.nothing(3, "counts").to_state()
    Sums.from_state(state, 3)
    bad = [
        replace(state, values={}),
        spoil(state, "centre", np.full(3, np.nan)),
        spoil(state, "spread", np.zeros(3)),
        spoil(state, "status", np.zeros((2, 2), dtype=np.int64)),
        spoil(state, "persons", np.zeros((3, 3))),
    ]
    for one in bad:
        with pytest.raises(ProtocolError):
            Sums.from_state(one, 3)


def test_states_of_ranks_that_cannot_be_are_refused() -> None:
    seen: list[tuple[State, Total]] = []
    params = SpearmanParams(variables=("x", "y"))
    run_pooled_sum(Spearman(), params.model_dump(mode="json"), GOOD, SITE, seen=seen)
    state = seen[-1][0]
    scope = Scope(GOOD[0].variables, SITE, 3)
    Spearman().layout(state, params, scope)
    persons, edges = state.arrays["persons_0"], state.arrays["edges_0"]
    bad = [
        spoil(state, "persons_0", persons + 1),
        spoil(state, "persons_0", np.where(np.arange(len(persons)) == 0, -1, persons)),
        spoil(state, "persons_0", np.empty(0, dtype=np.int64)),
        spoil(state, "edges_0", edges[::-1].copy()),
        spoil(state, "edges_0", edges[1:]),
        spoil(state, "scale", np.array([1e6, 1e6])),
        spoil(state, "tied_1", np.empty(0, dtype=np.int64)),
    ]
    for one in bad:
        with pytest.raises(ProtocolError):
            Spearman().local(GOOD[0], one, params, scope)


def test_an_edge_is_the_roundest_number_between_two_values() -> None:
    cells = np.array([-7, 3, 1000, 1030, 1031])
    persons = np.full((5, 1), 5)
    edges = bins_of(Distribution(cells, persons, 1.0, True), 5).edges
    assert edges.tolist() == [0, 512, 1024, 1031]


@pytest.mark.parametrize("name", METHODS)
def test_an_overflow_names_the_variable_or_the_pair(name: str) -> None:
    analysis = find(f"stats.{name}")
    assert isinstance(analysis, NamesColumns)
    params = parse_params(analysis, {"variables": ["x", "y"]})
    scope = Scope(GOOD[0].variables, SITE, 3)
    assert analysis.column("products", 1, params, scope) == "x and y"
    assert analysis.column("products", 3, params, scope) == "y"
    fields = {"correlation": "powers", "spearman": "sums"}
    assert [analysis.column(fields[name], at, params, scope) for at in (0, 3)] == ["x", "y"]


def test_every_pair_of_the_matrix_is_there_once() -> None:
    result = run("correlation", GOOD, variables=["x", "y", "ill"])
    r = np.array(result["correlation"], dtype=float)
    assert np.array_equal(r, r.T)
    for i, j in itertools.combinations(range(3), 2):
        assert result["low"][i][j] < r[i, j] < result["high"][i][j]
