from __future__ import annotations

from typing import Any

import pytest
from tests.support.cohorts import VARIABLES, random_table, table

from cohortium.cohort.population import Population
from cohortium.core.selection import Derived, Selection
from cohortium.errors import InputError

BMI = Derived(name="bmi", expression="weight / (height * height)")
GROUP = Derived(name="age_group", expression="cut(age, [18, 45, 65])")
HEAVY = Derived(name="heavy", expression="bmi > 30")


def population(base: Selection = Selection(), **asked: Any) -> Population:  # noqa: B008
    return Population.of(base, Selection(**asked), VARIABLES)


def test_who_is_included_and_not_excluded_is_in() -> None:
    persons = table(age=[17, 18, 40, None, 50], time=[50, 50, 10, 50, None])
    found = population(include=("age >= 18",), exclude=("time < 30",)).rows(persons)
    # NULL of a criterion to include: out. NULL of one to exclude: in.
    assert found.tolist() == [False, True, False, False, True]


def test_contract_and_request_both_apply() -> None:
    base = Selection(include=("age >= 20",), derived=(GROUP,))
    one = population(base, include=("age_group = '[18, 45)'",))
    assert one.rows(one.derive(table(age=[17, 18, 20, 45]))).tolist() == [False, False, True, False]


def test_everybody_is_in_without_criteria() -> None:
    assert population().is_everybody
    assert population(derived=(BMI,)).is_everybody
    assert population().rows(random_table(1, 4)).all()
    assert not population(include=("TRUE",)).is_everybody


def test_derived_variables_may_use_earlier_ones() -> None:
    one = population(derived=(BMI, HEAVY), include=("heavy",))
    assert one.reads == {"weight", "height"}
    assert one.reads_for(["heavy", "age"]) == {"weight", "height", "age"}
    whole = one.derive(table(weight=[100.0, 60.0, None], height=[1.6, 1.6, 1.6]))
    assert whole.columns["bmi"][0] == pytest.approx(39.0625)
    assert one.rows(whole).tolist() == [True, False, False]
    assert one.variables["heavy"].type == "boolean"
    assert set(one.derive(table(age=[1])).variables) == {"age"}


@pytest.mark.parametrize(
    ("derived", "says"),
    [
        ((HEAVY, BMI), "no variable 'bmi'"),
        ((Derived(name="a1", expression="a1 + 1"),), "no variable 'a1'"),
        ((Derived(name="SEX", expression="age"),), "There is a variable sex already"),
        ((Derived(name="x", expression="NULL"),), "NULL for everybody"),
    ],
)
def test_derived_variables_have_no_cycles_and_no_names_twice(
    derived: tuple[Derived, ...], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        population(derived=derived)
    assert caught.value.code == "bad-criterion"


@pytest.mark.parametrize(
    "same",
    [
        {"include": ("sex = 'f'", "age >= 18"), "exclude": ("time < 30", "died")},
        {"include": ("18 <= age  and\n'f' = sex",), "exclude": ("died or (time < 30.0)",)},
        {"include": ("age >= 18 AND (sex = 'f' AND age >= 18)",), "exclude": ("died", "30 > time")},
    ],
)
def test_the_key_does_not_depend_on_the_way_of_writing(same: dict[str, Any]) -> None:
    first = population(include=("age >= 18", "sex IN ('f')"), exclude=("time < 30", "died"))
    assert population(**same).key == first.key
    split = Selection(include=same["include"])
    moved = Population.of(split, Selection(exclude=same["exclude"]), VARIABLES)
    assert moved.key == first.key


def test_another_criterion_or_derivation_is_another_key() -> None:
    keys = [
        population().key,
        population(include=("age >= 18",)).key,
        population(exclude=("age >= 18",)).key,
        population(include=("age > 18",)).key,
        population(include=("age >= 18", "died")).key,
        population(include=("age >= 18 OR died",)).key,
        population(include=("time - age > 1",)).key,
        population(include=("age - time > 1",)).key,
        population(derived=(BMI,)).key,
    ]
    assert len(set(keys)) == len(keys)


def test_a_renamed_derived_variable_selects_the_same_persons() -> None:
    fat = Derived(name="fat", expression="bmi > 30")
    one = population(derived=(BMI, HEAVY), include=("heavy",))
    other = population(derived=(BMI, fat), include=("fat",))
    assert one.persons_key == other.persons_key
    assert one.key != other.key
    assert one.persons_key == population(derived=(BMI, GROUP), include=("bmi > 30",)).persons_key


def test_derivations_that_double_do_not_grow_the_key_without_bound() -> None:
    derived = tuple(
        Derived(name=f"d{n}", expression=f"d{n - 1} + d{n - 1}" if n else "age") for n in range(60)
    )
    assert population(derived=derived, include=("d59 > 1",)).key.startswith("sha256:")
