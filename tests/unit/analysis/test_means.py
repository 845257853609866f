"""Tests of means: what is asked wrongly, what is withheld, what leaves a site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import table_of

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.interface import Scope
from cohortium.analysis.normality import merged
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

X = Variable(name="x", type=VariableType.INTEGER)
Y = Variable(name="y", type=VariableType.REAL, decimals=1)
ILL = Variable(name="ill", type=VariableType.BOOLEAN)
WELL = Variable(name="well", type=VariableType.BOOLEAN)
ARM = Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b", "c"))
ONE = Variable(name="one", type=VariableType.CATEGORY, levels=("only",))
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
ALL = ("stats.t_test", "stats.anova", "stats.levene", "stats.normality")


def arms(*counts: int, start: int = 0) -> Table:
    levels = [level for level, n in zip("abc", counts, strict=True) for _ in range(n)]
    n = len(levels)
    values = [(7 * at + start) % 31 for at in range(n)]
    return table_of(
        [X, Y, ILL, WELL, ARM, ONE],
        {
            "x": values,
            "y": [value / 2 + 0.1 * at for at, value in enumerate(values)],
            "ill": [at % 2 for at in range(n)],
            "well": [at % 3 == 0 for at in range(n)],
            "arm": levels,
            "one": ["only"] * n,
        },
    )


def run(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find(f"stats.{name}"), params, tables, limits).result)


def code(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> str:
    with pytest.raises(CohortiumError) as caught:
        run(name, tables, limits, **params)
    assert isinstance(caught.value, InputError | PolicyRefusal)
    return caught.value.code


GOOD = [arms(20, 20, 20), arms(25, 25, 25, start=3), arms(30, 30, 30, start=5)]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("t_test", {"variable": "arm", "by": "ill"}),
        ("t_test", {"variable": "x", "by": "y"}),
        ("t_test", {"variable": "x"}),
        ("t_test", {"variable": "x", "by": "arm"}),
        ("t_test", {"variable": "x", "by": "arm", "levels": ["a", "z"]}),
        ("t_test", {"variable": "x", "by": "arm", "levels": ["a", "a"]}),
        ("t_test", {"variable": "x", "kind": "one-sample", "levels": ["a", "b"]}),
        ("t_test", {"variable": "x", "kind": "one-sample", "by": "ill"}),
        ("t_test", {"variable": "x", "kind": "paired"}),
        ("t_test", {"variable": "x", "kind": "paired", "second": "x"}),
        ("t_test", {"variable": "x", "by": "ill", "second": "y"}),
        ("t_test", {"variable": "x", "kind": "paired", "second": "arm"}),
        ("anova", {"variable": "arm", "by": "ill"}),
        ("anova", {"variable": "x", "by": "one"}),
        ("levene", {"variable": "arm", "by": "ill"}),
        ("normality", {"variable": "arm"}),
    ],
)
def test_what_does_not_fit_is_bad_input(name: str, params: dict[str, Any]) -> None:
    assert code(name, GOOD, **params) == "bad-input"


@pytest.mark.parametrize("name", ["t_test", "anova", "levene", "normality"])
def test_unknown_variables_are_not_found(name: str) -> None:
    assert code(name, GOOD, variable="nothing", by="ill") == "not-found"
    assert code(name, GOOD, variable="x", by="nothing") == "not-found"


@both
@pytest.mark.parametrize("name", ["anova", "levene", "normality"])
def test_groups_of_few_persons_are_refused(name: str, limits: Disclosure) -> None:
    small = [arms(20, 20, 1), arms(20, 20, 2, start=1)]
    if limits is SITE:  # Nobody of the small group counts.
        result = run(name, small, limits, variable="x", by="arm")
        assert [group["level"] for group in result["groups"]] == ["a", "b"]
        assert result["n"] == 80
        why = "nobody, or too few persons at each institution"
        assert result["suppressed"] == [f"arm = c: {why}"]
        return
    assert code(name, small, limits, variable="x", by="arm") == "too-few-persons"


@both
def test_one_institution_alone_is_refused(limits: Disclosure) -> None:
    alone = [arms(20, 20, 20), arms(20, 0, 20)]
    for name in ("anova", "levene", "normality"):
        assert code(name, alone, limits, variable="x", by="arm") == "too-few-sites"
    levels = {"by": "arm", "levels": ["a", "b"]}
    assert code("t_test", alone, limits, variable="x", **levels) == "too-few-sites"
    single = [arms(20, 20, 20), arms(0, 0, 0)]
    assert code("t_test", single, limits, variable="x", kind="one-sample") == "too-few-sites"
    assert code("normality", single, limits, variable="x") == "too-few-sites"


def test_two_levels_do_not_tell_of_a_small_third() -> None:
    params = {"variable": "x", "by": "arm", "levels": ["a", "b"]}
    small = [arms(20, 25, 1), arms(20, 25, 2, start=1)]
    assert code("t_test", small, TOTAL, **params) == "too-few-persons"
    assert run("t_test", [arms(20, 25, 9)] * 2, TOTAL, **params)["n"] == 90


@pytest.mark.parametrize("ones", [3, 37])
@pytest.mark.parametrize("name", ["t_test", "anova", "levene", "normality"])
def test_a_mean_that_is_a_small_count_is_refused(name: str, ones: int) -> None:
    values = [1] * ones + [0] * (40 - ones)
    groups = [0, 1] * 20
    table = table_of([WELL, ILL], {"well": values * 2, "ill": groups + [0] * 40})
    halves = [table.take(np.arange(80) % 4 // 2 == at) for at in range(2)]
    params = {"variable": "well", "by": "ill"}
    assert code(name, halves, Disclosure(min_cell=4), **params) == "too-few-persons"


def test_pairs_that_differ_in_few_persons_are_refused() -> None:
    def pairs(plus: int, minus: int, same: int) -> list[Table]:
        ill = [1] * plus + [0] * (minus + same)
        well = [0] * plus + [1] * minus + [0] * same
        table = table_of([ILL, WELL], {"ill": ill, "well": well})
        return [table.take(np.arange(len(ill)) % 2 == at) for at in range(2)]

    params = {"variable": "ill", "second": "well", "kind": "paired"}
    for counts in ((10, 2, 20), (10, 10, 3), (2, 1, 30), (2, 0, 30)):
        assert code("t_test", pairs(*counts), TOTAL, **params) == "too-few-persons"
    assert run("t_test", pairs(10, 8, 20), TOTAL, **params)["statistic"] > 0


def test_pairs_that_all_differ_alike_are_refused() -> None:
    table = table_of([X, Y], {"x": range(20), "y": range(3, 23)})
    params: dict[str, Any] = {"variable": "x", "second": "y", "kind": "paired"}
    assert code("t_test", [table, table], **params) == "no-convergence"


@both
@pytest.mark.parametrize("name", ["t_test", "anova", "levene", "normality"])
def test_equal_values_are_not_given_away(name: str, limits: Disclosure) -> None:
    """Of one group, whose mean would be everybody's value."""
    n = 40
    table = table_of([X, ILL], {"x": [40] * n + list(range(n)), "ill": [0] * n + [1] * n})
    halves = [table.take(np.arange(2 * n) % 2 == at) for at in range(2)]
    with pytest.raises(InputError) as caught:
        run(name, halves, limits, variable="x", by="ill")
    assert caught.value.code == "no-convergence"
    assert "40" not in caught.value.message


def test_a_constant_that_binary_fractions_miss_is_a_constant() -> None:
    table = table_of([Y, ILL], {"y": [0.1] * 100, "ill": [0, 1] * 50})
    assert code("t_test", [table] * 3, variable="y", by="ill") == "no-convergence"


def test_a_dominated_sum_is_refused() -> None:
    limits = Disclosure(dominance=Dominance(largest=1, percent=50))
    rich = table_of([X], {"x": [1] * 20 + [10_000]})
    for name, params in (("t_test", {"kind": "one-sample"}), ("normality", {}), ("anova", {})):
        assert code(name, [rich] * 3, limits, variable="x", **params) == "too-few-persons"
        assert run(name, GOOD, limits, variable="x", **params)["n"] == 225


@pytest.mark.parametrize("name", ["t_test", "anova", "levene", "normality"])
def test_exact_tests_are_refused_where_counts_are_rounded(name: str) -> None:
    limits = Disclosure(rounding=5)
    assert code(name, GOOD, limits, variable="x", by="ill") == "not-permitted"


def test_a_small_cohort_is_refused() -> None:
    limits = Disclosure(min_cohort=300)
    for name, params in (("t_test", {"kind": "one-sample"}), ("normality", {}), ("anova", {})):
        assert code(name, GOOD, limits, variable="x", **params) == "too-few-persons"


def test_institutions_are_compared_from_three_on() -> None:
    assert code("anova", GOOD[:2], variable="x") == "too-few-sites"
    result = run("anova", GOOD, variable="x")
    assert (result["by"], result["df"], result["groups"]) == ("site", [2, 222], [])
    assert code("anova", [*GOOD[:2], arms(2, 2, 0)], variable="x") == "too-few-sites"
    flat = table_of([X], {"x": [7] * 20})
    assert code("anova", [*GOOD, flat], variable="x") == "no-convergence"


def test_few_persons_on_one_side_of_a_median_are_refused() -> None:
    few = [arms(4, 4, 4), arms(4, 4, 4, start=2)]
    by = {"variable": "x", "by": "arm"}
    assert code("levene", few, TOTAL, **by) == "too-few-persons"
    assert run("levene", few, TOTAL, centre="mean", **by)["n"] == 24


def test_a_median_that_many_have_is_exact() -> None:
    values = [value for value in (1, 2, 3, 5, 8) for _ in range(10)]
    table = table_of([X, ILL], {"x": values * 2, "ill": [0, 1] * 50})
    result = run("levene", [table, table], variable="x", by="ill")
    assert result["resolution"] is None
    assert [group["median"] for group in result["groups"]] == [3.0, 3.0]
    spread = table_of([Y, ILL], {"y": [at / 10 for at in range(200)], "ill": [0, 1] * 100})
    result = run("levene", [spread, spread], variable="y", by="ill")
    (one, _) = result["resolution"]["medians"]
    assert one["low"] <= 9.9 <= one["high"]


def test_normality_needs_eight_persons() -> None:
    limits = Disclosure(min_cell=3, floor="total")
    table = table_of([X], {"x": [1, 2, 5]})
    assert code("normality", [table, table], limits, variable="x") == "no-convergence"


def test_bins_of_a_picture_are_joined_until_they_are_large_enough() -> None:
    counts = np.zeros(26, dtype=np.int64)
    counts[[0, 5, 6, 12, 25]] = (3, 1, 1, 20, 4)
    assert merged(counts, 5) == [(None, -1.5, 5), (-1.5, None, 24)]
    assert merged(counts, 30) == []
    assert [n for _, _, n in merged(np.full(26, 5), 5)] == [5] * 26


@pytest.mark.parametrize(
    ("name", "params", "rounds"),
    [
        ("t_test", {"variable": "x", "by": "arm", "levels": ["a", "b"]}, 2),
        ("anova", {"variable": "x", "by": "arm"}, 2),
        ("anova", {"variable": "x"}, 2),
        ("anova", {"variable": "x", "kind": "welch"}, 3),
        ("levene", {"variable": "x", "by": "arm", "centre": "mean"}, 4),
        ("levene", {"variable": "x", "by": "arm"}, 5),
        ("normality", {"variable": "x", "by": "arm"}, 3),
    ],
)
def test_rounds_and_what_leaves_a_site(name: str, params: dict[str, Any], rounds: int) -> None:
    for limits, more in ((SITE, 0), (TOTAL, 1)):
        seen: list[tuple[State, Total]] = []
        run_pooled_sum(find(f"stats.{name}"), params, GOOD, limits, seen=seen)
        assert rounds + more <= len(seen) <= rounds + more + (name == "levene")
        if limits is TOTAL:
            assert set(seen[0][1]) == {"persons", "sites", "left_out"}
        for _, total in seen:
            if name == "t_test":
                sums = {"sum", "residual", "squares"} & set(total)
                assert not any(total[field][2] for field in sums), "another level is not asked for"


SCOPE = Scope(variables=GOOD[0].variables, disclosure=SITE, n_sites=2)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("stats.t_test", {"variable": "x", "by": "ill"}),
        ("stats.anova", {"variable": "x"}),
        ("stats.levene", {"variable": "x", "by": "ill"}),
        ("stats.normality", {"variable": "x"}),
    ],
)
def test_a_state_that_cannot_be_is_a_protocol_error(name: str, params: dict[str, Any]) -> None:
    analysis = find(name)
    parsed = parse_params(analysis, params)
    good = analysis.start(parsed, SCOPE)
    n = len(good.arrays["mean"])
    changes: list[dict[str, Any]] = [
        {"mean": np.zeros(n + 1)},
        {"mean": np.full(n, np.nan)},
        {"squares": np.full(n, np.inf)},
        {"persons": np.zeros(n)},
        {"status": np.zeros(n + 1, dtype=np.int64)},
    ]
    if name == "stats.levene":
        one = np.array([[0, 0, 0, 1, 256]])
        changes += [
            {"centre": np.full(n, np.nan)},
            {"search": one},  # on a grid of scale 0
            {"search": one, "scale": np.full(n, 10.0)},
            {"search": np.repeat(one, 3, axis=0), "scale": np.ones(n)},
            {"search": np.array([[2, 0, 0, 1, 256]]), "scale": np.ones(n)},
        ]
    if name == "stats.anova":
        changes.append({"institutions": np.full(2, np.nan)})
    bad = [State(good.values, {**good.arrays, **change}) for change in changes]
    bad += [State({"phase": "all"}, good.arrays), State()]
    for state in bad:
        with pytest.raises(ProtocolError):
            analysis.local(GOOD[0], state, parsed, SCOPE)


def test_an_overflow_names_the_variable() -> None:
    for name in ALL:
        analysis: Any = find(name)
        parsed = parse_params(analysis, {"variable": "x", "by": "ill"})
        assert analysis.column("sum", 0, parsed, SCOPE) == "x"
        assert analysis.partition(parsed, SCOPE) == ("ill",)
        assert analysis.variables(parsed) == {"x", "ill"}
