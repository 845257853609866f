"""Arithmetic that cannot pick persons, and numbers that a few persons dominate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.cohort.population import Population
from cohortium.cohort.singling import (
    apart,
    dominated,
    numbers_made,
    parts_made,
    require_gentle,
)
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.selection import Derived, Selection
from cohortium.core.table import Table
from cohortium.errors import InputError

NUMBERS = ("age", "weight", "height", "chol", "creatinine")
VARIABLES = {
    **{name: Variable(name=name, type=VariableType.REAL) for name in NUMBERS},
    "born": Variable(name="born", type=VariableType.DATE),
    "admitted": Variable(name="admitted", type=VariableType.DATE),
}


def check(*expressions: str, contract: str | None = None) -> None:
    """Read ``y0``, ``y1``, ... of a request, of which the last is computed on."""
    base = Selection(
        derived=() if contract is None else (Derived(name="signed", expression=contract),)
    )
    asked = Selection(
        derived=tuple(Derived(name=f"y{n}", expression=e) for n, e in enumerate(expressions))
    )
    population = Population.of(base, asked, VARIABLES)
    require_gentle(asked, population, {f"y{len(expressions) - 1}"})


GENTLE = (
    "weight / (height * height)",
    "weight / POWER(height / 100, 2)",
    "(chol - 193.5) / 38.7",
    "-chol + 2 * weight - age / 10",
    "chol * 0.02586",
    "LN(chol)",
    "LN(chol + 1)",
    "LN(0.5 + 2 * chol) * age",
    "LOG10(weight / height)",
    "SQRT(weight * height / 3600)",
    "SQRT(chol + 0.375)",
    "POWER(age - 50, 2)",
    "(age - 50) * (age - 50) * (weight - 80)",
    "175 * POWER(creatinine, -1.154) * POWER(age, -0.203)",
    "186 / (creatinine * age)",
    "(140 - age) * weight / (72 * creatinine)",
    "DATEDIFF(admitted, born) / 365.25",
    "DATEDIFF(admitted, DATE '2020-01-01')",
    "weight / DATEDIFF(admitted, born)",
    "YEAR(admitted) - YEAR(born)",
    "-(-age)",
)


@pytest.mark.parametrize("expression", GENTLE)
def test_what_people_derive_is_gentle(expression: str) -> None:
    check(expression)


SHARP = (
    "chol / (age - 99)",
    "chol / (weight + height)",
    "chol / LN(age)",
    "chol / SQRT(age + 1)",
    "chol / POWER(age - 99, 2)",
    "POWER(age - 99, -1)",
    "POWER(age - 99, 0.5)",
    "POWER(age - 99, 5)",
    "POWER(age, 4) * chol",
    "POWER(age, 3) * POWER(chol, -2)",
    "EXP(age)",
    "LN(99 - age)",
    "LN(age - 98)",
    "LN(-1 * (age + 1))",
    "LN((age + 1) / -2)",
    "LN(0 - age)",
    "LN(age + weight)",
    "LN(DATEDIFF(admitted, DATE '2020-01-01'))",
    "chol / DATEDIFF(admitted, DATE '2020-01-01')",
    "SQRT(98.5 - age)",
    "SQRT(age * age - 9800)",
    "ABS(age - 98)",
    "FLOOR(age / 99)",
    "CEIL(age / 99)",
    "GREATEST(age - 98, 0)",
    "LEAST(age, 98)",
)


@pytest.mark.parametrize("expression", SHARP)
def test_what_could_pick_a_person_is_refused_with_its_place(expression: str) -> None:
    with pytest.raises(InputError) as caught:
        check(f"weight + {expression}")
    assert caught.value.code == "bad-criterion"
    assert caught.value.details["position"] >= len("weight + ")
    assert "derived:" in caught.value.message


@pytest.mark.parametrize(
    "expressions",
    [
        ("age - 99", "chol / y0"),
        ("age - 99", "y0 * y0", "y1 * y1 * chol"),
        ("age * age", "y0 * y0", "y1 * chol"),
        ("chol / (age - 99)", "y0 + 1"),
        ("LN(age)", "1 / y0"),
    ],
)
def test_a_chain_of_definitions_is_one_definition(expressions: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        check(*expressions)


def test_what_the_contract_derives_is_free_and_counts_as_a_variable() -> None:
    check("1 / signed", contract="GREATEST(age - 98, 0) / (age - 99)")
    check("POWER(signed, 4)", contract="EXP(age)")


def test_what_only_criteria_read_is_free() -> None:
    asked = Selection(
        include=("sharp > 3",),
        derived=(
            Derived(name="sharp", expression="1 / (age - 99)"),
            Derived(name="gentle", expression="age + 1"),
            Derived(name="young", expression="1 / (age - 99) < 0"),
        ),
    )
    population = Population.of(Selection(), asked, VARIABLES)
    require_gentle(asked, population, {"gentle", "young", "chol"})
    assert numbers_made(population, {"gentle", "young", "chol"}) == ("gentle",)
    require_gentle(None, population, {"chol"})


# Dominated numbers


def test_a_selector_is_dominated_and_a_measurement_is_not() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(200, 30, 100)
    assert not dominated(values, 5)
    selector = np.zeros(100)
    selector[3] = 333.3
    assert dominated(selector, 5)
    assert dominated(selector * 1e300, 5)
    assert dominated(selector + 1e6, 5)
    selector[3:7] = 333.3  # four persons are fewer than five
    assert dominated(selector, 5)
    selector[7] = 333.3
    assert not dominated(selector, 5)


@pytest.mark.parametrize("n", [5, 6, 9, 10])
def test_a_small_site_is_looked_at_too(n: int) -> None:
    values = np.zeros(n)
    values[0] = 1.0
    assert dominated(values, 5)
    values[: n - 4] = np.arange(1, n - 3) / n + 1
    values[n - 4 :] = np.arange(4) / n
    assert not dominated(values, 5)


def test_nobody_one_value_and_missing_ones_are_not_dominated() -> None:
    for values in ([], [1.0] * 20, [np.nan] * 20, [0.0] * 20, [1.0] * 4, [np.nan] * 20 + [5.0]):
        assert not dominated(np.array(values), 5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=5, max_size=60),
    st.sampled_from([1.0, -2.0, 2.0**40, 2.0**-40]),
)
def test_neither_units_nor_order_matter(values: list[int], unit: float) -> None:
    array = np.array(values, dtype=np.float64)
    told = dominated(array, 5)
    assert dominated(array * unit, 5) == told
    assert dominated(np.append(array[::-1], np.nan), 5) == told


def test_the_terms_of_a_sum_and_who_is_apart_are_looked_at() -> None:
    age = np.arange(40.0)
    few = np.zeros(40)
    few[3:6] = [900.0, 950.0, 800.0]
    table = Table(
        {name: VARIABLES[name] for name in ("age", "chol")}, {"age": age, "chol": few + 0.1 * age}
    )
    asked = Selection(
        derived=(
            Derived(name="sum", expression="1000000 * age + chol"),
            Derived(name="of_sum", expression="sum - 3"),
            Derived(name="other", expression="2 * age"),
        )
    )
    population = Population.of(Selection(), asked, VARIABLES)
    table = population.derive(table)
    for name, expected in (("sum", True), ("of_sum", True), ("other", False)):
        assert not dominated(table.columns[name], 5)
        assert any(dominated(part, 5) for part in parts_made(population, name, table)) is expected


def test_who_is_apart_is_a_minority() -> None:
    values = np.array([1.0] * 30 + [7.0, np.nan, 0.0])
    assert apart(values)[-3:].tolist() == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert not apart(values)[:30].any()
    assert not apart(np.arange(30.0)).any()
    assert not apart(np.array([1.0] * 15 + [2.0] * 15)).any()
    assert not apart(np.array([])).any()
    assert not apart(np.full(9, 0.1 + 0.2)).any()
