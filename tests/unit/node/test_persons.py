from __future__ import annotations

from typing import Any

import pytest
from tests.support.contracts import contract

from cohortium.cohort.population import Population
from cohortium.contract.model import Contract, Participant
from cohortium.contract.population import asked_population
from cohortium.core.dictionary import Variable
from cohortium.core.selection import Derived, Selection
from cohortium.core.table import Table
from cohortium.node.datasets import MemoryDatasets
from cohortium.node.persons import Persons

COLUMNS = {"age": [17, 20, 70, 80], "sex": ["1", "2", "1", "2"], "weightloss": [1.5, 2.0, 0.0, 4.5]}


class Counting(MemoryDatasets):
    """Counts how often the data are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    def table(self, name: str, contract_variables: Any, sources: Any, digest: str) -> Table:
        self.asked.append(sorted(contract_variables))
        return super().table(name, contract_variables, sources, digest)


@pytest.fixture
def datasets() -> Counting:
    import pandas as pd

    made = Counting()
    made.add_frame("lung", pd.DataFrame(COLUMNS))
    return made


@pytest.fixture
def signed(datasets: Counting) -> Contract:
    made = contract(
        variables=(
            *(v for v in contract().variables if v.name == "age"),
            Variable(name="sex", type="category", levels=("2", "1")),
            *(v for v in contract().variables if v.name == "wt_loss"),
        ),
        derived=({"name": "old", "expression": "age > 60"},),
        cohort={"include": ("age >= 18",), "adjustable": ("age", "sex", "wt_loss")},
    )
    given = made.participants[0].model_copy(
        update={
            "dataset_digest": datasets.get("lung").digest,
            "sources": {"wt_loss": "weightloss"},
        }
    )
    return made.model_copy(update={"participants": (given, *made.participants[1:])})


def given(signed: Contract) -> Participant:
    return signed.givers[0]


def asked(signed: Contract, *include: str, **derived: str) -> Population:
    made = tuple(Derived(name=name, expression=text) for name, text in derived.items())
    return asked_population(signed, Selection(include=include, derived=made))


def test_a_table_has_the_persons_and_the_variables_of_the_run(
    datasets: Counting, signed: Contract
) -> None:
    persons = Persons(datasets)
    one = asked(signed, "sex = '2' OR twice = 0", twice="wt_loss * 2")
    table = persons.table(signed, given(signed), one, {"wt_loss", "old", "twice"})
    assert {name: column.tolist() for name, column in table.columns.items()} == {
        "old": [0.0, 1.0, 1.0],
        "twice": [4.0, 0.0, 9.0],
        "wt_loss": [2.0, 0.0, 4.5],
    }
    assert persons.rows(signed, given(signed), one).tolist() == [False, True, True, True]
    assert persons.n_rows(given(signed)) == 4


def test_later_rounds_and_other_variables_of_a_cohort_do_not_filter_again(
    datasets: Counting, signed: Contract
) -> None:
    persons = Persons(datasets)
    first = persons.table(signed, given(signed), asked(signed, "sex = '2'"), {"age"})
    assert datasets.asked == [["age"], ["age", "sex"]]
    again = persons.table(signed, given(signed), asked(signed, "'2' = sex"), {"age"})
    assert again is first
    persons.table(signed, given(signed), asked(signed, "sex = '2'"), {"wt_loss"})
    assert datasets.asked[2:] == [["wt_loss"]]


def test_another_content_or_another_column_is_another_table(
    datasets: Counting, signed: Contract
) -> None:
    persons = Persons(datasets)
    one = asked(signed, "wt_loss > 1")
    assert persons.rows(signed, given(signed), one).sum() == 2
    renamed = given(signed).model_copy(update={"sources": {"wt_loss": "age"}})
    assert persons.rows(signed, renamed, one).sum() == 3


def test_what_was_derived_before_under_a_name_is_not_taken_for_what_it_is_now(
    datasets: Counting, signed: Contract
) -> None:
    persons = Persons(datasets)
    for factor in (2, 3):
        one = asked(signed, x=f"age * {factor}")
        table = persons.table(signed, given(signed), one, {"x"})
        assert table.columns["x"].tolist() == [20 * factor, 70 * factor, 80 * factor]


def test_without_criteria_the_columns_are_those_of_the_dataset(
    datasets: Counting, signed: Contract
) -> None:
    persons = Persons(datasets)
    everybody = Population.of(Selection(), None, {v.name: v for v in signed.variables})
    table = persons.table(signed, given(signed), everybody, {"sex"})
    assert table.columns["sex"].tolist() == [1, 0, 1, 0]
    assert (
        persons.table(signed, given(signed), everybody, {"sex"}).columns["sex"]
        is (table.columns["sex"])
    )
