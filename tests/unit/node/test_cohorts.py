"""A node keeps to the cohort that its contract and the signed request say."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import RUN_ID, World
from tests.unit.node.test_guard import refused

from cohortium.contract.model import Contract
from cohortium.errors import InputError
from cohortium.node import consent


@pytest.fixture
def world() -> World:
    return World()


def _cohort(include: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"include": include, **fields}


def _agreed(world: World, **changes: Any) -> Contract:
    contract = world.contract(**changes)
    for name in world.sites:
        world.agree(world.node(name), contract)
    return contract


@pytest.mark.parametrize(
    ("asked", "youngest", "below"),
    [(None, 0, 40), (_cohort(("age >= 12",), exclude=("weight IS NULL",)), 12, 40)],
)
def test_criteria_of_contract_and_request_choose_the_persons(
    world: World, asked: dict[str, Any] | None, youngest: int, below: int
) -> None:
    ages = [10 * number + person for number in (1, 2, 3) for person in range(12)]
    contract = _agreed(world, cohort=_cohort(("age < 40",), adjustable=("age", "weight")))
    request = world.request(contract, cohort=asked)
    total = world.total(request, contract, world.adverts(request))
    assert int(total["n"]) == sum(youngest <= age < below for age in ages)


def test_a_criterion_over_what_is_not_adjustable_is_refused(world: World) -> None:
    contract = _agreed(world, cohort=_cohort(adjustable=("age",)))
    request = world.request(contract, cohort=_cohort(("weight > 3",)))
    error = refused(world, world.prepare(request), "not-permitted")
    assert "read weight; it lets them read age" in error.message


def test_a_site_that_does_not_give_a_criterions_variable_refuses(world: World) -> None:
    full = world.contract(cohort=_cohort(("weight > 0",)))
    first = full.participants[0].model_copy(update={"variables": ("age",)})
    contract = full.model_copy(update={"participants": (first, *full.participants[1:])})
    for name in world.sites:
        world.agree(world.node(name), contract)
    error = refused(world, world.prepare(world.request(contract)), "not-permitted")
    assert error.message == "This site does not give weight to the study."


@pytest.mark.parametrize("criterion", ["agee > 1", "age > 'x'", "age > 1; --", "(SELECT 1) = age"])
def test_a_criterion_that_is_not_understood_is_refused(world: World, criterion: str) -> None:
    contract = _agreed(world, cohort=_cohort(adjustable=("age",)))
    request = world.request(contract, cohort=_cohort((criterion,)))
    error = refused(world, world.prepare(request), "bad-criterion")
    assert isinstance(error, InputError)


def test_a_cohort_is_signed_with_the_request(world: World) -> None:
    contract = _agreed(world, cohort=_cohort(adjustable=("age",)))
    wide, narrow = (world.request(contract, cohort=_cohort((f"age > {n}",))) for n in (1, 15))
    world.adverts(wide)
    assert (wide.run_id, wide.digest == narrow.digest) == (RUN_ID, False)
    refused(world, world.prepare(narrow), "replayed")


@pytest.mark.parametrize(
    "changes",
    [
        {"cohort": {"include": ("height > 1",)}},
        {"cohort": {"exclude": ("age > 'x'",)}},
        {"derived": ({"name": "old", "expression": "age > "},)},
        {"derived": ({"name": "old", "expression": "old + 1"},)},
    ],
)
def test_a_contract_whose_criteria_are_not_understood_is_not_signed(
    world: World, changes: dict[str, Any]
) -> None:
    node, contract = world.node("Alpha"), world.contract(**changes)
    world.propose(node, contract)
    review = consent.review(node.service, consent.find_contract(node.store, contract.digest))
    assert [problem.code for problem in review.problems] == ["bad-criterion"]
    with pytest.raises(InputError):
        consent.sign(node.service, review)
