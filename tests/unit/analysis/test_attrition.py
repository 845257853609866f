"""How many remain after each criterion, and which of the numbers may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cohortium.analysis.attrition import MAX_COMBINED, Attrition, AttritionParams
from cohortium.analysis.attrition_result import MERGED, released_steps
from cohortium.analysis.interface import Done, Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

VARIABLES = {
    "age": Variable(name="age", type=VariableType.INTEGER),
    "ecog": Variable(name="ecog", type=VariableType.INTEGER),
}
SCOPE = Scope(VARIABLES, Disclosure(min_cell=5, floor="total"), 2, ("North", "South"))


def _table(age: Sequence[float], ecog: Sequence[float] | None = None) -> Table:
    columns = {
        "age": np.array(age, dtype=np.float64),
        "ecog": np.array(age if ecog is None else ecog, dtype=np.float64),
    }
    return Table(VARIABLES, columns)


def _params(*steps: str, **options: Any) -> AttritionParams:
    """``+ criterion`` includes, ``- criterion`` excludes."""
    kinds = {"+": "include", "-": "exclude"}
    return AttritionParams.from_json(
        {"steps": [{"kind": kinds[s[0]], "criterion": s[2:]} for s in steps], **options}
    )


def _count(
    sites: Sequence[Table], params: AttritionParams, scope: Scope = SCOPE
) -> Mapping[str, Any]:
    analysis = Attrition()
    state = analysis.start(params, scope)
    contributions = [
        analysis.local(table, state, params, replace(scope, site=place))
        for place, table in enumerate(sites)
    ]
    layout = analysis.layout(state, params, scope)
    assert all(set(one) == set(layout) for one in contributions)
    total = {name: np.sum([one[name] for one in contributions], axis=0) for name in layout}
    outcome = analysis.finish(total, state, params, scope)
    assert isinstance(outcome, Done)
    return outcome.result


AGES = (list(range(20, 60)), list(range(22, 62)))
SITES = [_table(ages) for ages in AGES]


def _left(*rules: Any) -> list[int]:
    pooled = [age for ages in AGES for age in ages]
    return [sum(all(rule(age) for rule in rules[:j]) for age in pooled) for j in range(4)]


def test_persons_are_counted_after_each_criterion_in_order() -> None:
    result = _count(SITES, _params("+ age >= 30", "- age > 50", "+ ecog < 40"))
    expected = _left(lambda a: a >= 30, lambda a: a <= 50, lambda a: a < 40)
    assert [result["start"], *(step["n"] for step in result["steps"])] == expected
    assert result["steps"][1] == {"kind": "exclude", "criterion": "age > 50", "n": expected[2]}
    assert result["suppressed"] == []


def test_a_criterion_that_is_null_neither_keeps_nor_removes() -> None:
    table = _table([40] * 20 + [np.nan] * 10)
    result = _count([table, table], _params("+ age > 30", "- age > 50"))
    assert [step["n"] for step in result["steps"]] == [40, 40]
    result = _count([table, table], _params("- age > 50", "+ age > 30"))
    assert [step["n"] for step in result["steps"]] == [60, 40]


def test_combinations_give_every_other_order() -> None:
    result = _count(SITES, _params("+ age >= 30", "- age > 50"))
    parts = result["combinations"]
    assert sum(parts) == 80
    assert parts[3] == _left(lambda a: a >= 30, lambda a: a <= 50)[2]
    assert parts[2] + parts[3] == _left(lambda a: a <= 50)[1]


@pytest.mark.parametrize(
    "sites",
    [
        [_table([20] * 3 + [40] * 20), _table([40] * 20)],
        [_table([20] * 10 + [40] * 20), _table([40] * 20)],
    ],
    ids=["three persons", "one institution's"],
)
def test_combinations_with_few_persons_or_of_one_site_are_not_released(sites: list[Table]) -> None:
    assert _count(sites, _params("+ age >= 30"))["combinations"] is None


def test_a_criterion_that_removes_few_is_merged_with_the_next() -> None:
    few = [_table([20] + [30] * 10 + [40] * 10), _table([20] + [30] * 10 + [40] * 10)]
    result = _count(few, _params("- age = 20", "- age = 30"))
    assert [result["start"], *(step["n"] for step in result["steps"])] == [42, None, 20]
    assert result["combinations"] is None
    assert result["suppressed"] == [f"age = 20: {MERGED}"]


@pytest.mark.parametrize(
    ("remaining", "shown"),
    [
        ([100, 90, 80], [0, 1, 2]),
        ([100, 100, 100], [0, 1, 2]),
        ([100, 98, 90], [0, 2]),
        ([100, 90, 88], [0, 2]),  # the last number is the cohort's size
        ([100, 97, 95], [0, 2]),
        ([100, 98, 97], [0]),
        ([100, 50, 3], [0, 1]),
        ([100, 50, 0], [0, 1, 2]),
        ([9, 4, 0], [0, 2]),
        ([100, 95, 91, 88], [0, 1, 3]),
        ([100, 95, 91, 90], [0, 1, 3]),
        ([100, 96, 92, 91], [0, 3]),
    ],
)
def test_between_any_two_numbers_are_none_or_enough(remaining: list[int], shown: list[int]) -> None:
    assert released_steps(remaining, 5) == shown
    numbers = [remaining[j] for j in released_steps(remaining, 5)]
    apart = {a - b for i, a in enumerate(numbers) for b in numbers[i:]}
    assert not apart & {1, 2, 3, 4}


def test_one_institutions_persons_are_not_shown() -> None:
    result = _count([_table([40] * 30), _table([20] * 30)], _params("+ age > 30"))
    assert result["steps"][0]["n"] is None
    assert "one institution" in result["suppressed"][0]


def test_a_site_with_the_floor_sends_nothing_of_few() -> None:
    scope = replace(SCOPE, disclosure=Disclosure(min_cell=5, floor="site"))
    analysis, params = Attrition(), _params("+ age > 30")
    state = analysis.start(params, scope)
    sent = analysis.local(_table([20] * 10 + [40] * 3), state, params, scope)
    assert sent["remaining"].tolist() == [13, 0]
    assert sent["parts"].tolist() == [10, 0]
    assert sent["short"] == 1


def test_rounded_counts_are_all_that_is_released() -> None:
    few = [_table([20] + [40] * 21), _table([40] * 20)]
    result = _count(few, _params("- age = 20", rounding=5))
    assert [result["start"], result["steps"][0]["n"]] == [40, 40]
    assert (result["combinations"], result["rounding"]) == (None, 5)
    assert Attrition().rounding(_params("- age = 20", rounding=5)) == 5


def test_the_contracts_rounding_applies_too() -> None:
    scope = replace(SCOPE, disclosure=Disclosure(min_cell=5, floor="total", rounding=10))
    result = _count(SITES, _params("+ age >= 30", rounding=5), scope)
    assert result["rounding"] == 10
    assert result["steps"][0]["n"] % 10 == 0


def test_each_institutions_numbers_are_rounded_and_only_where_the_contract_allows_it() -> None:
    params = _params("+ age >= 30", by_site=True)
    with pytest.raises(PolicyRefusal, match="by_site: true") as caught:
        _count(SITES, params)
    assert caught.value.code == "not-permitted"
    scope = replace(SCOPE, disclosure=replace_limits(by_site=True))
    result = _count(SITES, params, scope)
    assert result["by_site"] == {"North": [40, 30], "South": [40, 30]}
    few = [_table([20] * 30 + [40] * 4), _table([40] * 40)]
    assert _count(few, params, scope)["by_site"]["North"] == [35, 0]


def replace_limits(**changes: Any) -> Disclosure:
    return Disclosure(min_cell=5, floor="total", **changes)


def test_too_small_a_cohort_is_refused() -> None:
    with pytest.raises(PolicyRefusal) as caught:
        _count([_table([40] * 2), _table([40] * 2)], _params("+ age > 30"))
    assert caught.value.code == "too-few-persons"


def test_many_criteria_are_counted_in_order_only() -> None:
    steps = [f"- age = {20 + i}" for i in range(MAX_COMBINED + 2)]
    params = _params(*steps)
    result = _count(SITES, params)
    assert result["combinations"] is None
    gone = sum(age < 20 + MAX_COMBINED + 2 for ages in AGES for age in ages)
    assert result["steps"][-1]["n"] == 80 - gone
    assert len(Attrition().split(params, SCOPE).views) == 1


@pytest.mark.parametrize("n", [2, MAX_COMBINED + 1])
def test_the_sets_are_those_who_remain(n: int) -> None:
    params = _params(*(f"- age = {20 + i}" for i in range(n)))
    analysis, table = Attrition(), SITES[0]
    split, parts = analysis.split(params, SCOPE), analysis.parts(table, params, SCOPE)
    for j in range(n + 1):
        inside = split.sets[j][parts]
        expected = [not 20 <= age < 20 + j for age in AGES[0]]
        assert inside.tolist() == expected
    narrow = analysis.narrowed(params, 1) if n <= MAX_COMBINED else params
    assert len(analysis.split(narrow, SCOPE).sets) == n + 1


def test_the_key_is_that_of_what_is_asked_and_not_of_how_it_is_written() -> None:
    analysis = Attrition()

    def key(*steps: str, **options: Any) -> Any:
        return analysis.split_key(_params(*steps, **options), SCOPE)

    assert key("+ age >= 30") == key("+ (age>=30)")
    assert key("+ age >= 30") != key("- age >= 30")
    assert key("+ age >= 30", "+ ecog = 1") != key("+ ecog = 1", "+ age >= 30")
    assert key("+ age >= 30") != key("+ age >= 30", combinations=False)


def test_it_reads_the_variables_of_its_criteria() -> None:
    params = _params("+ age >= 30", "- ecog IN (1, 2)")
    assert Attrition().variables(params) == {"age", "ecog"}
    assert Attrition().criteria(params) == ("age >= 30", "ecog IN (1, 2)")


@pytest.mark.parametrize("criterion", ["age >", "name = 1", "age + 1", "1 = 1"])
def test_what_is_no_criterion_is_refused(criterion: str) -> None:
    with pytest.raises(InputError) as caught:
        Attrition().start(_params(f"+ {criterion}"), SCOPE)
    assert caught.value.code == "bad-criterion"


@pytest.mark.parametrize(
    "state", [State(), State({"phase": "sums"}), State({"phase": "counts"}, {"a": np.zeros(1)})]
)
def test_another_state_is_refused(state: State) -> None:
    with pytest.raises(ProtocolError):
        Attrition().local(SITES[0], state, _params("+ age > 30"), SCOPE)


def test_there_are_no_further_views() -> None:
    with pytest.raises(ProtocolError):
        Attrition().narrowed(_params("+ age > 30"), 2)
