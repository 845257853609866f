"""Descriptive statistics: what is released, what is withheld, what leaves a site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import table_of

from cohortium.analysis.builtin import find
from cohortium.analysis.describe import Describe, DescribeParams
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

AGE = Variable(name="age", type=VariableType.INTEGER, unit="years")
DOSE = Variable(name="dose", type=VariableType.REAL, decimals=1)
LEVEL = Variable(name="level", type=VariableType.REAL)
ILL = Variable(name="ill", type=VariableType.BOOLEAN)
SEX = Variable(name="sex", type=VariableType.CATEGORY, levels=("f", "m", "x"))
SEEN = Variable(name="seen", type=VariableType.DATE)
AT = Variable(name="at", type=VariableType.DATETIME)
NOTE = Variable(name="note", type=VariableType.TEXT)

SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("disclosure", [SITE, TOTAL], ids=["site", "total"])


def describe(tables: list[Table], disclosure: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find("stats.describe"), params, tables, disclosure).result)


def ages(*values: float | None) -> Table:
    return table_of([AGE], {"age": values})


def only(result: dict[str, Any], variable: str) -> dict[str, Any]:
    (group,) = result["groups"]
    entry: dict[str, Any] = group["variables"][variable]
    return entry


@both
def test_a_small_example_by_hand(disclosure: Disclosure) -> None:
    tables = [ages(1, 1, 1, 1, 1, None), ages(3, 3, 3, 3, 3, 3), ages(5, 5, 5, 5, 5, 5)]
    result = describe(tables, disclosure, variables=["age"], quantiles=[0.5])
    entry = only(result, "age")
    assert (result["n_sites"], result["by"], result["suppressed"]) == (3, None, [])
    assert (result["groups"][0]["n"], result["groups"][0]["n_sites"]) == (18, 3)
    assert (entry["type"], entry["unit"], entry["n"], entry["missing"]) == (
        "integer",
        "years",
        17,
        1,
    )
    assert entry["mean"] == pytest.approx(53 / 17, rel=1e-15)
    assert entry["quantiles"] == [{"q": 0.5, "value": 3.0, "low": 3.0, "high": 3.0}]


def test_no_spread_has_no_shape_but_quantiles() -> None:
    entry = only(describe([ages(*[40] * 16), ages(*[40] * 17)], variables=["age"]), "age")
    assert (entry["mean"], entry["variance"], entry["skewness"], entry["kurtosis"]) == (
        40.0,
        0.0,
        None,
        None,
    )
    assert {q["value"] for q in entry["quantiles"]} == {40.0}


def test_a_constant_that_binary_fractions_miss_has_no_spread() -> None:
    table = table_of([LEVEL], {"level": [0.1] * 1000})
    entry = only(describe([table, table, table], variables=["level"]), "level")
    assert entry["variance"] == pytest.approx(0.0, abs=1e-30)
    assert entry["skewness"] is None


def test_a_site_below_its_own_floor_adds_nothing() -> None:
    big, small = ages(*range(20, 40)), ages(90, 91, 92, 93)
    sites = [big, small, big]
    assert only(describe(sites, variables=["age"]), "age")["n"] == 40
    assert describe(sites, variables=["age"])["groups"][0]["n_sites"] == 2
    assert only(describe(sites, TOTAL, variables=["age"]), "age")["n"] == 44


@both
def test_one_institutions_own_numbers_are_not_released(disclosure: Disclosure) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        describe([ages(*range(20, 40)), ages()], disclosure, variables=["age"])
    assert caught.value.code == "too-few-persons"
    result = describe(
        [grouped(10, 8, 0), grouped(12, 9, 20)], disclosure, variables=["age"], by="sex"
    )
    assert [group["n"] for group in result["groups"]] == [22, 17, None]
    assert result["suppressed"] == ["sex = x: one institution's persons alone"]


def test_a_site_with_few_values_adds_its_persons_but_not_the_variable() -> None:
    few = table_of([AGE, DOSE], {"age": range(20, 30), "dose": [1.0] * 4 + [None] * 6})
    many = table_of([AGE, DOSE], {"age": range(20, 30), "dose": [2.0] * 10})
    none = table_of([AGE, DOSE], {"age": range(20, 30), "dose": [None] * 10})
    result = describe([few, many, none], variables=["age", "dose"])
    assert result["groups"][0]["n"] == 30
    dose = only(result, "dose")
    assert (dose["n"], dose["missing"], dose["mean"]) == (10, 10, 2.0)


@both
def test_too_few_persons_are_refused(disclosure: Disclosure) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        describe([ages(1, 2), ages(3, 4)], disclosure, variables=["age"])
    assert caught.value.code == "too-few-persons"
    with pytest.raises(PolicyRefusal):
        describe([ages(), ages()], disclosure, variables=["age"])


@both
def test_a_site_without_rows_changes_nothing(disclosure: Disclosure) -> None:
    tables = [ages(*range(20, 40)), ages(*range(30, 50))]
    with_empty = describe([*tables, ages()], disclosure, variables=["age"])
    without = describe(tables, disclosure, variables=["age"])
    assert with_empty["groups"] == without["groups"]


def grouped(*counts: int) -> Table:
    sexes = [level for level, n in zip("fmx", counts, strict=True) for _ in range(n)]
    return table_of([AGE, SEX], {"age": range(20, 20 + len(sexes)), "sex": sexes})


def test_a_small_group_is_withheld_with_one_more() -> None:
    result = describe([grouped(10, 8, 1), grouped(12, 9, 2)], TOTAL, variables=["age"], by="sex")
    assert [group["n"] for group in result["groups"]] == [22, None, None]
    assert [group["level"] for group in result["groups"]] == ["f", "m", "x"]
    assert result["groups"][2]["variables"] == {}
    assert len(result["suppressed"]) == 2


def test_with_the_site_floor_a_group_is_what_large_enough_sites_gave() -> None:
    sites = [grouped(10, 8, 1), grouped(12, 2, 2), grouped(0, 7, 0)]
    result = describe(sites, SITE, variables=["age"], by="sex")
    assert [(g["n"], g["n_sites"]) for g in result["groups"]] == [(22, 2), (15, 2), (None, None)]


def test_persons_without_a_group_are_in_none() -> None:
    sexes = ["f"] * 10 + ["m"] * 10 + [None] * 10
    table = table_of([AGE, SEX], {"age": range(30), "sex": sexes})
    result = describe([table, table], TOTAL, variables=["age"], by="sex")
    assert [group["n"] for group in result["groups"]] == [20, 20, 0]
    assert result["groups"][2]["variables"]["age"]["mean"] is None


def test_a_boolean_may_group() -> None:
    table = table_of([AGE, ILL], {"age": range(20), "ill": [0, 1] * 10})
    result = describe([table, table], variables=["age"], by="ill")
    assert [(g["level"], g["n"]) for g in result["groups"]] == [("false", 20), ("true", 20)]


@both
def test_levels_of_few_persons_are_withheld_with_one_more(disclosure: Disclosure) -> None:
    result = describe([grouped(10, 8, 1), grouped(12, 9, 2)], disclosure, variables=["sex"])
    levels = only(result, "sex")["levels"]
    assert [level["count"] for level in levels] == [22, None, None]
    assert levels[0]["share"] == pytest.approx(22 / 42)
    assert result["suppressed"] == ["sex: levels of too few persons are withheld"]


def test_an_empty_level_is_said_to_be_empty() -> None:
    levels = only(describe([grouped(10, 8, 0)] * 2, variables=["sex"]), "sex")["levels"]
    assert [level["count"] for level in levels] == [20, 16, 0]


@pytest.mark.parametrize("variable", [ILL, AGE], ids=["boolean", "integer"])
@pytest.mark.parametrize("ones", [3, 37])
def test_a_mean_that_is_a_small_count_is_withheld(variable: Variable, ones: int) -> None:
    values = [1] * ones + [0] * (40 - ones)
    tables = [table_of([variable], {variable.name: values[at::2]}) for at in range(2)]
    result = describe(tables, variables=[variable.name])
    entry = only(result, variable.name)
    assert entry["n"] == 40
    assert entry["mean"] is entry["variance"] is entry["skewness"] is None
    assert all(quantile["value"] is None for quantile in entry["quantiles"])
    assert len(result["suppressed"]) == 1


def test_a_mean_that_is_a_large_count_is_released() -> None:
    table = table_of([ILL], {"ill": [1] * 8 + [0] * 12})
    assert only(describe([table, table], variables=["ill"]), "ill")["mean"] == pytest.approx(0.4)


def test_a_quantile_with_few_persons_on_one_side_is_withheld() -> None:
    result = describe([ages(*range(50))] * 2, variables=["age"], quantiles=[0.01, 0.5, 0.99])
    assert [q["value"] is None for q in only(result, "age")["quantiles"]] == [True, False, True]
    assert len(result["suppressed"]) == 1


def test_dates_have_quantiles_and_no_mean() -> None:
    day = 20_000  # 2024-10-04
    table = table_of([SEEN], {"seen": [day] * 10 + [day + 1] * 10 + [None]})
    entry = only(describe([table, table], variables=["seen"], quantiles=[0.25, 0.8]), "seen")
    assert (entry["n"], entry["missing"], "mean" in entry) == (40, 2, False)
    assert [q["value"] for q in entry["quantiles"]] == ["2024-10-04", "2024-10-05"]


def test_times_have_quantiles() -> None:
    table = table_of([AT], {"at": [1_700_000_000] * 20})
    entry = only(describe([table, table], variables=["at"], quantiles=[0.5]), "at")
    assert entry["quantiles"][0]["value"] == "2023-11-14T22:13:20"


def test_what_cannot_be_described_is_an_input_error() -> None:
    table = table_of([AGE, DOSE, SEX], {"age": range(9), "dose": range(9), "sex": ["f"] * 9})
    variables = {**table.variables, "note": NOTE}

    def code(**params: Any) -> str:
        with pytest.raises(InputError) as caught:
            run_pooled_sum(find("stats.describe"), params, [table], variables=variables)
        return caught.value.code

    assert code(variables=["nothing"]) == "not-found"
    assert code(variables=["note"]) == "bad-input"
    assert code(variables=["age"], by="dose") == "bad-input"
    assert code(variables=["age", "age"]) == "bad-input"
    assert code(variables=["age"], by="nothing") == "not-found"


def test_with_the_total_floor_only_counts_are_asked_for_first() -> None:
    seen: list[tuple[State, Total]] = []
    tables = [grouped(3, 9, 1), grouped(1, 9, 0)]
    params = {"variables": ["age", "sex"], "by": "sex"}
    run_pooled_sum(find("stats.describe"), params, tables, TOTAL, seen=seen)
    assert set(seen[0][1]) == {"persons", "sites", "present", "missing"}
    for _, total in seen[1:]:
        for name, values in total.items():
            if name in {"sum", "residual", "squares", "powers", "levels"}:
                assert not np.any(values[2]), "a withheld group is not asked for again"


def test_no_state_tells_the_sites_what_is_withheld() -> None:
    seen: list[tuple[State, Total]] = []
    tables = [grouped(20, 30, 1), grouped(20, 30, 2)]
    params = {"variables": ["age", "sex"], "by": "sex"}
    run_pooled_sum(find("stats.describe"), params, tables, TOTAL, seen=seen)
    for state, _ in seen[1:]:
        assert state.arrays["persons"].tolist() == [0, 60, 0]
        assert 3 not in state.arrays["levels"]


def test_few_rounds_are_needed() -> None:
    seen: list[tuple[State, Total]] = []
    random = np.random.default_rng(0)
    tables = [table_of([LEVEL], {"level": random.normal(size=1000).tolist()}) for _ in range(3)]
    run_pooled_sum(find("stats.describe"), {"variables": ["level"]}, tables, seen=seen)
    assert len(seen) <= 5


SCOPE = Scope(variables={"age": AGE}, disclosure=SITE, n_sites=2)
PARAMS = DescribeParams(variables=("age",))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": np.zeros((1, 2))},
        {"mean": np.zeros((1, 1), dtype=np.float32)},
        {"persons": np.zeros(1)},
        {"search": np.array([[0, 0, 0, 1]])},
        {"search": np.array([[1, 0, 0, 1, 256]])},
        {"search": np.array([[0, -1, 0, 1, 256]])},
        {"search": np.array([[0, 0, 0, 0, 256]])},
        {"search": np.array([[0, 0, 0, 1, 257]])},
        {"search": np.array([[0, 0, 2**60, 1, 2]])},
        {"search": np.zeros((20_000, 5), dtype=np.int64)},
        {"rank": np.array([[5, 0]])},
    ],
)
def test_a_state_that_cannot_be_is_a_protocol_error(change: dict[str, Any]) -> None:
    good = Describe().start(PARAMS, SCOPE)
    bad = State(values=good.values, arrays={**good.arrays, **change})
    with pytest.raises(ProtocolError) as caught:
        Describe().local(ages(*range(10)), bad, PARAMS, SCOPE)
    assert caught.value.code == "malformed-message"
    for missing in (State(values={"phase": "all"}, arrays=good.arrays), State()):
        with pytest.raises(ProtocolError):
            Describe().layout(missing, PARAMS, SCOPE)


@pytest.mark.parametrize("scale", [10.0, 0.0, -1.0, np.nan, np.inf])
def test_a_site_does_not_count_on_a_finer_grid_than_recorded(scale: float) -> None:
    start = Describe().start(PARAMS, SCOPE)
    arrays = {
        **start.arrays,
        "scale": np.array([[scale]]),
        "search": np.array([[0, 0, 0, 1, 256]]),
        "rank": np.array([[0, 3]]),
    }
    state = State(values={"phase": "search"}, arrays=arrays)
    with pytest.raises(ProtocolError):
        Describe().local(ages(*range(10)), state, PARAMS, SCOPE)


@pytest.mark.parametrize(("quantiles", "allowed"), [((), 0), ((0.5,), 2), ((0.25, 0.5), 4)])
def test_a_hub_cannot_count_more_bins_than_the_signed_quantiles_need(
    quantiles: tuple[float, ...], allowed: int
) -> None:
    params = DescribeParams(variables=("age",), quantiles=quantiles)
    start = Describe().start(params, SCOPE)

    def asked(n: int) -> State:
        searches = np.array([[0, 0, 256 * at, 1, 256] for at in range(n)], dtype=np.int64)
        arrays = {**start.arrays, "scale": np.ones((1, 1)), "search": searches.reshape(n, 5)}
        return State(values={"phase": "search"}, arrays=arrays)

    Describe().local(ages(*range(10)), asked(allowed), params, SCOPE)
    with pytest.raises(ProtocolError):
        Describe().local(ages(*range(10)), asked(allowed + 1), params, SCOPE)


@both
def test_a_sum_that_one_person_dominates_at_one_site_is_withheld(disclosure: Disclosure) -> None:
    level = [LEVEL, AGE]
    rich = table_of(level, {"level": [1000.0, *[1.0] * 9], "age": [40, 50] * 5})
    poor = table_of(level, {"level": [2.0] * 10, "age": [40, 50] * 5})
    rule = disclosure.model_copy(update={"dominance": Dominance(largest=1, percent=50.0)})
    result = describe([rich, poor], rule, variables=["level", "age"])
    assert (only(result, "level")["n"], only(result, "level").get("mean")) == (None, None)
    assert only(result, "age")["mean"] == 45.0
    assert result["suppressed"] == ["level: a few persons make up most of the sum"]
    assert only(describe([rich, poor], disclosure, variables=["level"]), "level")["n"] == 20


@both
def test_a_cohort_and_a_tail_may_need_more_persons_than_a_cell(disclosure: Disclosure) -> None:
    tables = [ages(*range(20))] * 2
    larger = disclosure.model_copy(update={"min_cohort": 41})
    with pytest.raises(PolicyRefusal, match="Fewer than 41 persons"):
        describe(tables, larger, variables=["age"])
    enough = disclosure.model_copy(update={"min_cohort": 40, "quantile_tail": 15})
    result = describe(tables, enough, variables=["age"], quantiles=[0.25, 0.5])
    assert [q["value"] is None for q in only(result, "age")["quantiles"]] == [True, False]


@both
def test_counts_are_rounded_where_the_contract_says_so(disclosure: Disclosure) -> None:
    variables = [AGE, ILL, SEX]
    ages_ = [*range(20), None, None, None]
    ill, sex = [True] * 8 + [False] * 15, ["f"] * 11 + ["m"] * 12
    table = table_of(variables, {"age": ages_, "ill": ill, "sex": sex})
    base = disclosure.model_copy(update={"rounding": 10})
    result = describe([table, table], base, variables=["age", "ill", "sex"])
    age, illness = only(result, "age"), only(result, "ill")
    assert result["groups"][0]["n"] == 50  # of 46
    assert (age["n"], age["missing"], age["mean"]) == (40, 10, 9.5)
    assert (illness["n"], illness["mean"], illness["sd"]) == (50, 0.4, None)  # 16 of 46: 20 of 50
    levels = only(result, "sex")["levels"]
    assert [(one["count"], one["share"]) for one in levels] == [(20, 0.4), (20, 0.4), (0, 0.0)]


def test_a_category_of_too_many_levels_is_not_tabulated() -> None:
    limits = Disclosure(max_levels=2)
    table = table_of([SEX, AGE], {"sex": ["f"] * 20, "age": range(20)})
    for params in ({"variables": ["sex"]}, {"variables": ["age"], "by": "sex"}):
        with pytest.raises(PolicyRefusal, match="sex has 3 levels; at most 2") as caught:
            describe([table, table], limits, **params)
        assert caught.value.code == "too-many-levels"
    assert describe([table, table], Disclosure(max_levels=3), variables=["sex"])["groups"]
