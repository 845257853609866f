"""Rules of contracts that the hub keeps; see tests/unit/contract/test_rules.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.fake_sites import (
    World,
    key,
    make_contract,
    make_hub,
    make_request,
    start_world,
)

from cohortium.contract.model import Researcher
from cohortium.errors import CohortiumError, InputError, PolicyRefusal
from cohortium.hub.store import HubStore
from cohortium.ledger.entry import RunDenied, parse_entry


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = HubStore("sqlite://")
    made = await start_world(make_hub(store))
    yield made
    await made.hub.stop()
    store.close()


async def test_rule_02_who_is_not_in_a_contract_does_not_see_it(world: World) -> None:
    world.hub.members.add_user("Eve", key("Eve").public)
    ada, eve = (world.hub.user(key(name).public) for name in ("Ada", "Eve"))
    assert [study.id for study in world.hub.studies.all(ada)] == ["lung"]
    assert world.hub.studies.all(eve) == []
    with pytest.raises(InputError) as caught:
        world.hub.studies.one("lung", eve)
    assert caught.value.code == "not-found"


async def denied(world: World, run_id: str, count: int) -> list[RunDenied]:
    """The denials of a run on the ledger, when there are `count`."""
    async with asyncio.timeout(5):
        while len(found := world.hub.store.ledger.about("run.denied", run_id)) < count:
            await asyncio.sleep(0.02)
    facts = [parse_entry(entry).fact for _, entry in found]
    return [fact for fact in facts if isinstance(fact, RunDenied)]


async def test_rule_20_a_denied_request_is_on_the_ledger_once(world: World) -> None:
    ada = world.hub.user(key("Ada").public)
    asked = make_request(world.contract, computation="glm")
    for _ in range(2):
        with pytest.raises(PolicyRefusal):
            world.hub.submit(asked.sign(key("Ada")), ada)
    (fact,) = await denied(world, asked.run_id, 1)
    assert (fact.code, fact.computation, fact.study) == ("not-permitted", "glm", "lung")
    assert fact.researcher == ada.key
    assert world.hub.store.runs.list() == []


async def test_rule_08_a_request_by_who_is_not_a_recipient_is_denied_and_recorded(
    world: World,
) -> None:
    world.hub.members.add_user("Eve", key("Eve").public)
    asked = make_request(world.contract, researcher=key("Eve").public)
    with pytest.raises(CohortiumError) as caught:
        world.hub.submit(asked.sign(key("Eve")), world.hub.user(key("Eve").public))
    assert caught.value.code == "not-authorised"
    (fact,) = await denied(world, asked.run_id, 1)
    assert fact.researcher == key("Eve").public


async def test_rule_08_results_are_for_the_computations_recipients() -> None:
    store = HubStore("sqlite://")
    hub = make_hub(store)
    bob = Researcher(name="Bob", key=key("Bob").public)
    hub.members.add_user("Bob", bob.key)
    made = make_contract(hub.consortium.fingerprint)
    only_ada = {"name": "test.*", "recipients": ("Ada",)}
    contract = make_contract(
        hub.consortium.fingerprint,
        recipients=(*made.recipients, bob),
        computations=(only_ada,),
    )
    world = await start_world(hub, contract)
    ada = hub.user(key("Ada").public)
    asked = make_request(contract)
    run_id = hub.submit(asked.sign(key("Ada")), ada).id
    assert await world.settled(run_id) == "succeeded"
    assert [run.id for run in hub.runs(None, ada)] == [run_id]
    assert hub.runs(None, hub.user(bob.key)) == []
    with pytest.raises(InputError):
        hub.result(run_id, hub.user(bob.key))
    await hub.stop()
    store.close()
