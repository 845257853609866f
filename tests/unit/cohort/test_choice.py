from __future__ import annotations

import pytest
from tests.support.cohorts import VARIABLES, table

from cohortium.cohort.choice import picking, with_choices
from cohortium.cohort.population import Population
from cohortium.core.selection import Derived, Selection


def population(asked: dict[str, str], base: dict[str, str] | None = None) -> Population:
    def selection(definitions: dict[str, str]) -> Selection:
        derived = tuple(Derived(name=n, expression=e) for n, e in definitions.items())
        return Selection(derived=derived)

    return Population.of(selection(base or {}), selection(asked), VARIABLES)


@pytest.mark.parametrize(
    "expression",
    [
        "CASE WHEN died THEN age ELSE 0 END",
        "age * CASE WHEN died THEN 1 ELSE 0 END",
        "COALESCE(weight, 0)",
        "GREATEST(born, CASE WHEN died THEN born ELSE admitted END)",
    ],
)
def test_a_number_made_with_a_condition_picks_persons(expression: str) -> None:
    made = population({"x": expression, "y": f"ABS({'YEAR(x)' if 'born' in expression else 'x'})"})
    assert picking(made, ["age", "x"]) == "x"
    assert picking(made, ["y"]) == "y"
    assert picking(made, ["age"]) is None


def test_categories_and_what_the_contract_derives_do_not_count() -> None:
    contract = {"score": "CASE WHEN died THEN 1 ELSE 0 END"}
    made = population({"double": "score * 2", "group": "cut(score, [0, 1, 2])"}, contract)
    assert picking(made, ["score", "double", "group"]) is None
    flag = population({"flag": "COALESCE(died, FALSE)"})
    assert picking(flag, ["flag"]) is None


def test_groups_are_categories_and_the_gaps_of_numbers() -> None:
    made, groups = with_choices(
        population({"bmi": "weight / height", "fat": "bmi > 30", "other": "age + 1"}),
        ["bmi", "fat", "age"],
    )
    assert groups == ("bmi_gap", "fat")
    assert made.gaps == {"bmi_gap", "fat_gap"}
    assert made.persons_key == population({}).persons_key
    unchanged = population({}, {"old": "age > 70"})
    assert with_choices(unchanged, ["age", "old"]) == (unchanged, ())


def test_a_gap_is_where_everything_is_there_but_the_value() -> None:
    made, _ = with_choices(
        population({"bmi": "weight / height", "half": "bmi / 2", "grp": "cut(half, [0, 20])"}),
        ["half", "grp"],
    )
    whole = made.derive(
        table(weight=[80.0, 80.0, None, 80.0, 80.0], height=[2.0, 0.0, 2.0, None, 1.0])
    )
    assert whole.columns["half_gap"].tolist() == [0, 1, 0, 0, 0]
    assert whole.columns["grp_gap"].tolist() == [1, 1, 0, 0, 1]


def test_a_gap_has_a_name_that_is_free() -> None:
    base = {"x_gap": "age > 1", "X_GAP_": "age > 2"}
    made, groups = with_choices(population({"x": "age + 1"}, base), ["x"])
    assert groups == ("x_gap__",)
    assert made.variables["x_gap"].description == "age > 1"
