"""Tests of ranks: what is asked wrongly, what is withheld, what leaves a site."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import table_of

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.distribution import Distribution, Known
from cohortium.analysis.distribution_plan import MAX_ATTEMPTS, MAX_WORDS, choose
from cohortium.analysis.interface import Continue, Scope
from cohortium.analysis.ks import asymptotic_p
from cohortium.analysis.mann_whitney import MannWhitneyParams
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

stats = pytest.importorskip("scipy.stats")

K = Variable(name="k", type=VariableType.INTEGER)
X = Variable(name="x", type=VariableType.REAL)
DAY = Variable(name="day", type=VariableType.DATE)
ONE = Variable(name="one", type=VariableType.INTEGER)
TEXT = Variable(name="text", type=VariableType.TEXT)
SEX = Variable(name="sex", type=VariableType.BOOLEAN)
ARM = Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b", "c"))
VARIABLES = (K, X, DAY, ONE, SEX, ARM)
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
TESTS = ("mann_whitney", "kruskal", "ks")


def arms(*counts: int, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    levels = [level for level, n in zip("abc", counts, strict=True) for _ in range(n)]
    n = len(levels)
    return table_of(
        VARIABLES,
        {
            "k": random.integers(0, 20, n).tolist(),
            "x": random.normal(size=n).tolist(),
            "day": random.integers(15_000, 16_000, n).tolist(),
            "one": [1] * n,
            "sex": [at % 2 for at in range(n)],
            "arm": levels,
        },
    )


GOOD = [arms(20, 20, 20), arms(25, 25, 25, seed=3), arms(30, 30, 30, seed=5)]


def run(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find(f"stats.{name}"), params, tables, limits).result)


def code(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> str:
    with pytest.raises(CohortiumError) as caught:
        run(name, tables, limits, **params)
    assert isinstance(caught.value, InputError | PolicyRefusal)
    return caught.value.code


@pytest.mark.parametrize("name", TESTS)
def test_what_has_no_order_or_no_groups_is_refused(name: str) -> None:
    assert code(name, GOOD, variable="arm", by="sex") == "bad-input"
    assert code(name, GOOD, variable="k", by="x") == "bad-input"
    assert code(name, GOOD, variable="nobody", by="sex") == "not-found"


@pytest.mark.parametrize("name", TESTS)
def test_exact_tests_of_ranks_are_refused_where_counts_are_rounded(name: str) -> None:
    limits = Disclosure(floor="total", rounding=5)
    assert code(name, GOOD, limits, variable="k", by="sex") == "not-permitted"


@pytest.mark.parametrize("name", ["mann_whitney", "ks"])
def test_two_of_three_levels_must_be_named(name: str) -> None:
    assert code(name, GOOD, variable="k", by="arm") == "bad-input"
    assert code(name, GOOD, variable="k", by="arm", levels=["a", "d"]) == "bad-input"
    assert code(name, GOOD, variable="k", by="arm", levels=["a", "a"]) == "bad-input"
    groups = run(name, GOOD, variable="k", by="arm", levels=["c", "a"])["groups"]
    assert [group["level"] for group in groups] == ["c", "a"]


@both
@pytest.mark.parametrize("name", ["mann_whitney", "ks"])
def test_a_group_of_too_few_persons_is_refused(name: str, limits: Disclosure) -> None:
    tables = [arms(20, 20, 2), arms(20, 20, 2)]
    params = {"variable": "k", "by": "arm", "levels": ["a", "c"]}
    assert code(name, tables, limits, **params) == "too-few-persons"


def test_a_small_group_among_several_is_refused_where_the_total_shows_it() -> None:
    tables = [arms(20, 20, 2), arms(20, 20, 2)]
    assert code("kruskal", tables, TOTAL, variable="k", by="arm") == "too-few-persons"
    groups = run("kruskal", tables, SITE, variable="k", by="arm")["groups"]
    assert [group["level"] for group in groups] == ["a", "b"]


@both
def test_a_group_of_one_institution_is_refused(limits: Disclosure) -> None:
    tables = [arms(20, 20, 0), arms(20, 20, 9)]
    assert code("kruskal", tables, limits, variable="k", by="arm") == "too-few-sites"


def test_a_level_of_nobody_is_left_out_and_named() -> None:
    result = run("kruskal", [arms(20, 20, 0), arms(20, 20, 0)], variable="k", by="arm")
    assert result["df"] == 1
    assert result["suppressed"] == ["arm = c: nobody, or too few persons at each institution"]


@pytest.mark.parametrize("name", TESTS)
def test_a_variable_of_two_values_tells_of_no_small_cell(name: str) -> None:
    def with_rare(rare: int) -> list[Table]:
        tables = [arms(30, 30, 0), arms(30, 30, 0)]
        for table in tables:
            table.columns["k"][:] = 0
            table.columns["k"][:rare] = table.columns["k"][30:36] = 1
        return tables

    params: dict[str, Any] = {"variable": "k", "by": "arm"}
    if name != "kruskal":
        params["levels"] = ["a", "b"]
    assert code(name, with_rare(2), **params) == "too-few-persons"
    assert run(name, with_rare(3), **params)["n"] == 120
    assert run(name, with_rare(0), **params)["n"] == 120


def test_equal_values_have_no_rank_test() -> None:
    assert code("mann_whitney", GOOD, variable="one", by="sex") == "no-convergence"
    assert code("kruskal", GOOD, variable="one", by="sex") == "no-convergence"
    result = run("ks", GOOD, variable="one", by="sex")
    assert (result["statistic"], result["p_value"]) == (0.0, 1.0)


def test_quartiles_of_dates_are_dates() -> None:
    group = run("mann_whitney", GOOD, variable="day", by="sex")["groups"][0]
    assert group["q1"] < group["median"] < group["q3"]
    assert group["median"].startswith("201")


def test_a_tail_of_too_few_persons_has_no_quartile() -> None:
    group = run("mann_whitney", GOOD, Disclosure(quantile_tail=40), variable="k", by="sex")
    assert group["groups"][0]["q1"] is None
    assert group["groups"][0]["median"] is not None


def test_groups_that_do_not_overlap_have_no_interval() -> None:
    table = arms(20, 20, 0)
    apart = Table(table.variables, {**table.columns, "k": table.columns["arm"].astype(float)})
    result = run("mann_whitney", [apart, apart], variable="k", by="arm", levels=["b", "a"])
    assert result["estimate"]["value"] == 1.0
    assert result["estimate"]["low"] is None


def test_values_closer_than_the_grid_give_limits() -> None:
    table = arms(30, 30, 0)
    x = table.columns["x"].copy()
    x[0], x[1:21], x[30:50] = 1e4, np.arange(20.0), np.arange(20.0) + 1e-4
    close = Table(table.variables, {**table.columns, "x": x})
    pair = np.concatenate([x[:30], x[:30]]), np.concatenate([x[30:], x[30:]])
    for name, exact in (
        ("mann_whitney", stats.mannwhitneyu(*pair).statistic),
        ("ks", stats.ks_2samp(*pair).statistic),
    ):
        result = run(name, [close, close], variable="x", by="arm", levels=["a", "b"])
        limits = result["resolution"]
        assert limits["low"] <= exact <= limits["high"]
        assert limits["low"] < limits["high"] or name == "ks"
    result = run("kruskal", [close, close], variable="x", by="arm")
    exact = stats.kruskal(*pair).statistic
    assert result["resolution"]["low"] <= exact <= result["resolution"]["high"]


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_large_groups_have_the_asymptotic_p(alternative: Any) -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=10_001), random.normal(0.03, 1, size=300)
    expected = stats.ks_2samp(x, y, alternative=alternative, method="asymp")
    p = asymptotic_p(float(expected.statistic), 10_001, 300, alternative)
    assert p == pytest.approx(float(expected.pvalue), rel=1e-12)


@pytest.mark.parametrize("n", [1, 5, 100, 300_000, 3_000_000])
@pytest.mark.parametrize("decimals", [None, 0, 2, 9])
def test_cells_hold_every_value_that_can_be(n: int, decimals: int | None) -> None:
    variable = Variable(name="v", type=VariableType.REAL, decimals=decimals)
    for mean, sd in ((0.0, 1.0), (1e7, 3.0), (-5.0, 1e-6), (120.0, 0.0)):
        cells = choose(variable, n, n * mean, n * (mean**2 + sd**2), 2)
        assert cells.words(2) <= MAX_WORDS
        farthest = math.sqrt(n - 1) * sd  # Samuelson: one away from n - 1 equal ones
        for value in (mean - farthest, mean, mean + farthest):
            place = round(value * cells.scale) - cells.lower
            assert 0 <= place < cells.width
        cells.check(variable, 2, n)


def test_few_persons_outside_a_core_make_it_short() -> None:
    variable = Variable(name="v", type=VariableType.REAL, decimals=4)
    cells = choose(variable, 300_000, 0.0, 300_000.0, 2)
    assert 0 < cells.core_width < cells.width
    assert 0 < cells.outside < 300_000 / 4
    whole = Variable(name="v", type=VariableType.INTEGER)
    assert choose(whole, 300_000, 0.0, 300_000.0, 2).words(2) < 1000


@pytest.mark.parametrize("decimals", [None, 12])
def test_no_cell_is_narrower_than_a_millionth_of_the_spread(decimals: int | None) -> None:
    variable = Variable(name="v", type=VariableType.REAL, decimals=decimals)
    for sd in (1.0, 1e-3, 5e4):
        assert 1 / choose(variable, 100, 0.0, 100 * sd**2, 2).scale >= sd * 2.0**-20


@pytest.mark.parametrize(
    ("total", "squares"), [(1e38, 0.0), (-1e38, -1e38), (0.0, -1.0), (1e38, 1e38), (1e-300, 0.0)]
)
def test_sums_of_a_site_that_lies_give_some_cells(total: float, squares: float) -> None:
    cells = choose(K, 60, total, squares, 2)
    cells.check(K, 2, 60)


def scope_of(tables: list[Table], limits: Disclosure = SITE) -> Scope:
    return Scope(tables[0].variables, limits, len(tables))


def cells_round(tables: list[Table], variable: str = "x") -> tuple[State, Total]:
    """State and total of the round of the cells."""
    seen: list[tuple[State, Total]] = []
    params = {"variable": variable, "by": "sex"}
    run_pooled_sum(find("stats.mann_whitney"), params, tables, SITE, seen=seen)
    return seen[-1]


def test_a_sketch_that_does_not_come_out_is_asked_for_again_with_another_salt() -> None:
    analysis = find("stats.mann_whitney")
    params = parse_params(analysis, {"variable": "x", "by": "sex"})
    state, total = cells_round(GOOD)
    spoilt = {**total, "outside_0": total["outside_0"] + 1}
    for attempt in range(1, MAX_ATTEMPTS):
        outcome = analysis.finish(spoilt, state, params, scope_of(GOOD))
        assert isinstance(outcome, Continue)
        state = outcome.state
        assert state.arrays["cells"][0, 5] == attempt
        shape = analysis.layout(state, params, scope_of(GOOD))["outside_0"].shape
        spoilt = {"outside_0": np.ones(shape, dtype=np.int64)}
    with pytest.raises(ProtocolError):
        analysis.finish(spoilt, state, params, scope_of(GOOD))


def test_counts_of_other_persons_than_before_are_refused() -> None:
    analysis = find("stats.mann_whitney")
    params = parse_params(analysis, {"variable": "k", "by": "sex"})
    state, total = cells_round(GOOD, "k")
    core = np.array(total["core_0"])
    core[0, 3] += 1
    with pytest.raises(ProtocolError):
        analysis.finish({**total, "core_0": core}, state, params, scope_of(GOOD))


def test_a_site_below_its_floor_sends_zeros_in_every_round() -> None:
    seen: list[tuple[State, Total]] = []
    analysis = find("stats.mann_whitney")
    params = {"variable": "k", "by": "arm", "levels": ["a", "b"]}
    run_pooled_sum(analysis, params, GOOD, SITE, seen=seen)
    small = arms(4, 30, 9)
    for state, _ in seen:
        parsed = parse_params(analysis, params)
        sent = analysis.local(small, state, parsed, scope_of(GOOD))
        for name in ("persons", "sums"):
            if name in sent:
                assert not np.any(sent[name][0])
        if "core_0" in sent:
            assert sent["core_0"][0].sum() == 0
            assert sent["core_0"][1].sum() == 30


def test_the_hub_sees_who_has_which_value_of_all_sites_together() -> None:
    question = MannWhitneyParams(variable="k", by="sex").question(scope_of(GOOD))
    state, total = cells_round(GOOD, "k")
    found = Known.from_state(state, question).advance(total, question, scope_of(GOOD))
    assert not isinstance(found, Known)
    (of,) = found
    for sex in (0, 1):
        values = np.concatenate([t.columns["k"][t.columns["sex"] == sex] for t in GOOD])
        seen = np.repeat(of.cells, of.counts[:, sex]) / of.scale
        assert np.array_equal(np.sort(values), seen)


def test_a_site_is_told_sizes_and_ends_and_nothing_of_the_values_between() -> None:
    state, _ = cells_round(GOOD)
    # Other people with the same numbers, sums and sums of squares: every site is told the same.
    others = []
    for table in GOOD:
        x = table.columns["x"].copy()
        x[:60:2] = np.concatenate([_turned(three) for three in x[:60:2].reshape(-1, 3)])
        others.append(Table(table.variables, {**table.columns, "x": x}))
    other, _ = cells_round(others)
    assert other.values == state.values
    assert set(other.arrays) == set(state.arrays)
    for name, array in state.arrays.items():
        assert np.array_equal(array, other.arrays[name]), name


def _turned(three: Any) -> Any:
    """Three other values with the same sum and sum of squares, to rounding."""
    mean = three.mean()
    away = three - mean
    axis = np.ones(3) / math.sqrt(3)
    return mean + 0.6 * away + 0.8 * np.cross(axis, away)


def spoil(state: State, name: str, value: Any) -> State:
    return replace(state, arrays={**state.arrays, name: value})


def test_states_that_cannot_be_are_refused() -> None:
    question = MannWhitneyParams(variable="x", by="sex").question(scope_of(GOOD))
    state, _ = cells_round(GOOD)
    Known.from_state(state, question)
    cells, scale = state.arrays["cells"], state.arrays["scale"]
    bad = [
        spoil(state, "held", np.array([0, 2])),
        spoil(state, "held", np.array([0, 0])),
        spoil(state, "held", np.empty(0, dtype=np.int64)),
        spoil(state, "scale", -scale),
        spoil(state, "scale", scale * np.nan),
        spoil(state, "persons", state.arrays["persons"] - 10_000),
        spoil(state, "persons", state.arrays["persons"] * 2**30),
        spoil(state, "cells", cells[:, :5]),
        *(spoil(state, "cells", cells * 0 - 1 + (np.arange(6) == at)) for at in range(6)),
        *(
            spoil(state, "cells", np.where(np.arange(6) == at, 2**55, cells))
            for at in (0, 1, 2, 3, 4, 5)
        ),
        spoil(state, "cells", np.array([[0, 2**40, 0, 2**30, 0, 0]])),
        replace(state, values={"phase": "other"}),
    ]
    for one in bad:
        with pytest.raises(ProtocolError):
            Known.from_state(one, question)


def test_a_site_counts_on_no_finer_grid_than_the_recorded_one() -> None:
    question = MannWhitneyParams(variable="k", by="sex").question(scope_of(GOOD))
    state, _ = cells_round(GOOD, "k")
    with pytest.raises(ProtocolError):
        Known.from_state(spoil(state, "scale", np.array([10.0])), question)


def test_an_overflow_names_the_variable() -> None:
    analysis = find("stats.kruskal")
    params = parse_params(analysis, {"variable": "k", "by": "arm"})
    assert analysis.column("sums", 3, params, scope_of(GOOD)) == "k"  # type: ignore[attr-defined]


def test_a_distribution_is_what_a_result_rests_on_and_is_not_in_it() -> None:
    result = run("mann_whitney", GOOD, variable="x", by="sex")
    assert not any(isinstance(value, np.ndarray | Distribution) for value in result.values())
    assert set(result["groups"][0]) == {"level", "n", "q1", "median", "q3", "mean_rank"}
