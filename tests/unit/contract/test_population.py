from __future__ import annotations

from typing import Any

import pytest
from tests.support.contracts import contract, request
from tests.unit.contract.test_check import check

from cohortium.contract.model import Contract
from cohortium.contract.population import (
    asked_population,
    contract_population,
    permitted_variables,
)
from cohortium.errors import InputError, PolicyRefusal

OLD = {"name": "old", "expression": "age > 70"}
LIGHT = {"name": "light", "expression": "wt_loss / age"}


def refusal(signed: Contract, **cohort: Any) -> PolicyRefusal:
    with pytest.raises(PolicyRefusal) as caught:
        check(signed, request(signed, cohort=cohort))
    assert caught.value.code == "not-permitted"
    return caught.value


def test_the_contracts_own_criteria_apply_to_every_run() -> None:
    signed = contract(cohort={"include": ("age >= 18",), "exclude": ("sex = '2'",)})
    population = check(signed, request(signed)).population
    assert population.reads == {"age", "sex"}
    assert not population.is_everybody
    assert check(contract(), request(contract())).population.is_everybody


def test_a_request_adds_criteria_over_adjustable_variables_only() -> None:
    signed = contract(cohort={"include": ("age >= 18",), "adjustable": ("sex",)})
    admitted = check(signed, request(signed, cohort={"include": ("sex = '1'",)}))
    assert len(admitted.population.include) == 2
    told = refusal(signed, include=("age < 70",), exclude=("wt_loss > 3",))
    assert told.details == {"variables": ["age", "wt_loss"]}
    assert "it lets them read sex" in told.message
    assert "adjustable: [age, sex, wt_loss]" in told.message


@pytest.mark.parametrize("cohort", [None, {}, {"include": ("age > 1",)}])
def test_without_adjustable_variables_a_request_changes_nothing(cohort: Any) -> None:
    signed = contract(cohort=cohort)
    assert "it lets none" in refusal(signed, include=("age >= 18",)).message
    assert "age" in refusal(signed, derived=(OLD,)).message


def test_what_is_derived_from_adjustable_variables_is_adjustable() -> None:
    signed = contract(derived=(OLD, LIGHT), cohort={"adjustable": ("age",)})
    assert check(signed, request(signed, cohort={"exclude": ("old",)})).population.reads == {"age"}
    assert refusal(signed, include=("light > 1",)).details == {"variables": ["wt_loss"]}
    named = contract(derived=(LIGHT,), cohort={"adjustable": ("light",)})
    light = check(named, request(named, cohort={"include": ("light > 1",)}))
    assert light.population.reads == {"age", "wt_loss"}
    assert refusal(named, include=("wt_loss > 1",)).details == {"variables": ["wt_loss"]}


def test_a_derived_variable_is_for_computations_that_may_touch_its_sources() -> None:
    signed = contract(derived=(OLD, LIGHT), cohort={"adjustable": ("age", "wt_loss")})
    population = asked_population(signed, None)
    assert {"old", "light"} <= set(permitted_variables(signed, "stats.describe", population))
    of_glm = permitted_variables(signed, "glm", population)
    assert set(of_glm) == {"age", "sex", "old"}
    glm = {"outcome": "sex", "terms": ["heavy"], "family": "binomial"}
    heavy = {"name": "heavy", "expression": "light > 1"}
    asked = request(signed, computation="glm", params=glm, cohort={"derived": (heavy,)})
    with pytest.raises(PolicyRefusal, match="touch heavy"):
        check(signed, asked)


def test_a_contract_may_name_a_derived_variable_for_a_computation_and_not_its_sources() -> None:
    signed = contract(
        derived=(OLD,), computations=({"name": "stats.*", "variables": ("old", "sex")},)
    )
    describe = {"variables": ["old"]}
    assert "old" in check(signed, request(signed, params=describe)).scope.variables
    with pytest.raises(PolicyRefusal, match="touch age"):
        check(signed, request(signed))


def test_criteria_that_are_not_understood_are_refused_with_their_place() -> None:
    signed = contract(cohort={"adjustable": ("age",)})
    with pytest.raises(InputError) as caught:
        check(signed, request(signed, cohort={"include": ("age >= 'x'",)}))
    assert (caught.value.code, caught.value.details["position"]) == ("bad-criterion", 7)
    with pytest.raises(InputError, match="There is a variable age already"):
        check(signed, request(signed, cohort={"derived": ({"name": "Age", "expression": "1"},)}))
    with pytest.raises(InputError, match="no variable 'zip'"):
        contract_population(contract(cohort={"include": ("zip = '2'",)}))
