"""One value in place of all that a variable lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cohortium.cohort.filling import at_resolution, filled_numbers
from cohortium.cohort.population import Population
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.selection import Derived, Filled, Selection
from cohortium.core.table import Table
from cohortium.errors import InputError, PolicyRefusal

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="age", type=VariableType.INTEGER),
        Variable(name="lab", type=VariableType.REAL, decimals=1),
        Variable(name="sex", type=VariableType.CATEGORY, levels=("f", "m")),
        Variable(name="old", type=VariableType.BOOLEAN),
        Variable(name="seen", type=VariableType.DATE),
    )
}


def table(n: int = 30, missing: int = 6) -> Table:
    lab = np.arange(n, dtype=np.float64)
    sex = (np.arange(n) % 2).astype(np.int32)
    lab[:missing], sex[:missing] = np.nan, -1
    return Table(
        {name: VARIABLES[name] for name in ("lab", "sex", "old")},
        {"lab": lab, "sex": sex, "old": np.ones(n)},
    )


def population(*filled: Filled, derived: tuple[Derived, ...] = ()) -> Population:
    return Population.of(Selection(), Selection(filled=filled or None, derived=derived), VARIABLES)


def test_what_is_missing_has_the_value_and_nothing_else_changes() -> None:
    people = population(Filled(variable="lab", value=14.5), Filled(variable="sex", value="m"))
    before, after = table(), people.fill(table(), 5)
    assert after.columns["lab"][:6].tolist() == [14.5] * 6
    assert after.columns["sex"][:6].tolist() == [1] * 6
    assert after.columns["sex"].dtype == np.int32
    for name in ("lab", "sex", "old"):
        assert np.array_equal(after.columns[name][6:], before.columns[name][6:])
    assert filled_numbers(people.fills, after) == ("lab",)
    assert np.isnan(before.columns["lab"][0])


def test_a_site_where_few_lack_a_value_leaves_them_without() -> None:
    people = population(Filled(variable="lab", value=14.5))
    assert np.isnan(people.fill(table(missing=4), 5).columns["lab"][:4]).all()
    assert not np.isnan(people.fill(table(missing=5), 5).columns["lab"]).any()


@pytest.mark.parametrize("value", [1e9, -40.0, 60.0])
def test_a_value_that_marks_those_who_are_filled_is_refused(value: float) -> None:
    with pytest.raises(PolicyRefusal, match="would mark") as caught:
        population(Filled(variable="lab", value=value)).fill(table(), 5)
    assert caught.value.code == "not-permitted"


def test_a_site_that_has_no_value_at_all_takes_that_of_the_others() -> None:
    nobody = Table({"lab": VARIABLES["lab"]}, {"lab": np.full(9, np.nan)})
    filled = population(Filled(variable="lab", value=1.0)).fill(nobody, 5)
    assert filled.columns["lab"].tolist() == [1.0] * 9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 1.5),
        ("lab", 1.25),
        ("lab", "mean"),
        ("lab", True),
        ("sex", "x"),
        ("sex", 1.0),
        ("old", 1.0),
        ("seen", 1.0),
        ("nobody", 1.0),
    ],
)
def test_a_value_that_the_variable_cannot_have_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        population(Filled(variable=name, value=value))
    assert caught.value.code == "bad-criterion"


def test_selections_say_each_variable_once_and_travel_as_they_are() -> None:
    one = Filled(variable="lab", value=14.0)
    with pytest.raises(ValidationError):
        Selection(filled=(one, one))
    many = Selection(filled=(one, Filled(variable="old", value=True)))
    assert Selection.from_bytes(many.to_bytes()) == many
    assert Selection().to_bytes() == Selection(filled=None).to_bytes()
    assert b"filled" not in Selection().to_bytes()


def test_what_is_filled_is_part_of_the_key_and_does_not_change_who_is_asked_about() -> None:
    people = population(Filled(variable="lab", value=14.5))
    other = population(Filled(variable="lab", value=14.0))
    assert len({population().key, people.key, other.key}) == 3
    assert people.persons_key == population().persons_key


def test_criteria_and_derived_variables_read_what_the_data_have() -> None:
    derived = Derived(name="double", expression="2 * lab")
    people = Population.of(
        Selection(),
        Selection(
            include=("lab IS NOT NULL",),
            derived=(derived,),
            filled=(Filled(variable="lab", value=14.5),),
        ),
        VARIABLES,
    )
    whole = people.derive(table())
    assert np.isnan(whole.columns["double"][:6]).all()
    assert people.rows(whole).tolist() == [False] * 6 + [True] * 24


def test_numbers_have_the_resolution_of_their_variable() -> None:
    assert at_resolution(4.6, VARIABLES["age"]) == 5.0
    assert at_resolution(4.16, VARIABLES["lab"]) == 4.2
    assert at_resolution(4.16, Variable(name="x", type=VariableType.REAL)) == 4.16
