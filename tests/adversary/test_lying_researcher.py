"""A registered researcher against studies of others, with the real hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.support.fake_sites import (
    NOW,
    World,
    key,
    make_contract,
    make_hub,
    make_request,
    start_world,
)
from tests.support.life import amended, transition

from cohortium.audit.bundle import parse_bundle
from cohortium.contract.model import Computation, Contract, Draft, Researcher
from cohortium.errors import CohortiumError, PolicyRefusal, ProtocolError
from cohortium.hub.config import HubConfig
from cohortium.hub.limits import RateLimit
from cohortium.hub.store import HubStore
from cohortium.link._generated.link_pb2 import Message, PolicyDigest

ADA, EVE = key("Ada"), key("Eve")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = HubStore("sqlite://")
    made = await start_world(make_hub(store, config=HubConfig(requests_per_minute=5)))
    made.hub._entries = RateLimit(20, monotonic=lambda: 0.0)
    made.hub.members.add_user("Eve", EVE.public)
    yield made
    await made.hub.stop()
    store.close()


def of_eve(world: World, **changes: Any) -> Contract:
    eve = Researcher(name="Eve", key=EVE.public)
    return make_contract(
        world.contract.consortium, proposed_by=eve, recipients=(eve,), title="Eve's", **changes
    )


def draft_of(contract: Contract) -> Draft:
    return Draft.from_json(contract.to_json() | {"schema_id": "cohortium/draft/1"})


async def witnessed(world: World) -> None:
    ledger = world.hub.store.ledger
    async with asyncio.timeout(20):
        while ledger.pending() or (ledger.newest_final() or ledger).size != ledger.size():
            await asyncio.sleep(0.02)


async def test_the_name_of_another_s_study_gives_none_of_its_evidence(world: World) -> None:
    ada, eve = (world.hub.user(one.public) for one in (ADA, EVE))
    world.hub.state("lung", transition(world.contract, "close", "Ada").sign(ADA), ada)
    with pytest.raises(CohortiumError) as caught:
        world.hub.propose(of_eve(world).sign(EVE), eve)
    assert caught.value.code == "already-exists"
    await witnessed(world)
    with pytest.raises(CohortiumError) as caught:
        world.hub.audit("lung", eve, whole=True)
    assert caught.value.code == "not-found"
    assert world.hub.audit("lung", ada, whole=False)


async def test_evidence_of_all_versions_is_for_who_is_in_all(world: World) -> None:
    ada, eve = (world.hub.user(one.public) for one in (ADA, EVE))
    both = (*world.contract.recipients, Researcher(name="Eve", key=EVE.public))
    later = amended(world.contract, recipients=both)
    world.hub.propose(later.sign(ADA), ada)
    for site in world.sites:
        world.hub.say(site, later.sign(key(site)))
    await witnessed(world)
    assert world.hub.studies.one("lung", eve).contract_digest == later.digest
    with pytest.raises(CohortiumError) as caught:
        world.hub.audit("lung", eve, whole=False)
    assert caught.value.code == "not-found"
    assert world.hub.audit("lung", ada, whole=False)


async def test_what_opens_a_result_is_for_who_may_read_it(world: World) -> None:
    """With the nonce of a result one can find out what it is by trying."""
    ada, eve = (world.hub.user(one.public) for one in (ADA, EVE))
    people = (*world.contract.recipients, Researcher(name="Eve", key=EVE.public))
    contract = make_contract(
        world.contract.consortium,
        study="joint",
        recipients=people,
        computations=(Computation(name="test.*", recipients=("Ada",)),),
    )
    world.hub.propose(contract.sign(ADA), ada)
    for site in world.sites:
        world.hub.say(site, contract.sign(key(site)))
        world.sites[site].contract = contract
    run = world.hub.submit(make_request(contract).sign(ADA), ada)
    assert await world.settled(run.id) == "succeeded"
    await witnessed(world)
    for user, nonces in ((ada, 1), (eve, 0)):
        releases = parse_bundle(world.hub.audit("joint", user, whole=False)).releases
        assert [release.nonce is not None for release in releases].count(True) == nonces
        assert len(releases) == 1


async def test_nobody_drafts_in_another_s_study(world: World) -> None:
    with pytest.raises(CohortiumError) as caught:
        world.hub.draft(draft_of(of_eve(world)).sign(EVE), world.hub.user(EVE.public))
    assert caught.value.code == "already-exists"
    mine = draft_of(amended(world.contract))
    assert world.hub.draft(mine.sign(ADA), world.hub.user(ADA.public)).id == "lung"


@pytest.mark.parametrize("named", [EVE, ADA])
async def test_an_order_tells_a_stranger_nothing_of_a_contract(world: World, named: Any) -> None:
    """Its digest is on the ledger, for everybody to order under."""
    why = "Dr. Ada was dismissed."
    said = transition(world.contract, "revoke", "Alpha", reason=why).sign(key("Alpha"))
    world.hub.say("Alpha", said)
    asked = make_request(world.contract, researcher=named.public)
    with pytest.raises(CohortiumError) as caught:
        world.hub.submit(asked.sign(EVE), world.hub.user(EVE.public))
    assert caught.value.code in {"not-authorised", "unknown-signer"}
    assert "dismissed" not in caught.value.message


async def test_a_name_that_does_not_fit_on_the_ledger_orders_nothing(world: World) -> None:
    asked = make_request(world.contract).model_copy(update={"computation": "a" * 66_000})
    with pytest.raises(ProtocolError):
        world.hub.submit(asked.sign(ADA), world.hub.user(ADA.public))


async def test_refused_orders_fill_the_ledger_so_fast_only(world: World) -> None:
    codes = []
    for number in range(8):
        asked = make_request(world.contract, number, researcher=EVE.public)
        with pytest.raises(PolicyRefusal) as caught:
            world.hub.submit(asked.sign(EVE), world.hub.user(EVE.public))
        codes.append(caught.value.code)
    assert codes == ["not-authorised"] * 5 + ["too-many-requests"] * 3
    await witnessed(world)
    assert len(world.hub.store.ledger.of_kind("run.denied")) == 5


def refusals(attempts: int, act: Callable[[int], object]) -> list[str]:
    """The codes of what was refused, in order."""
    codes = []
    for number in range(attempts):
        try:
            act(number)
        except CohortiumError as error:
            codes.append(error.code)
    return codes


@pytest.mark.parametrize("what", ["orders", "proposals", "drafts", "statements"])
async def test_nothing_else_fills_the_ledger_faster(world: World, what: str) -> None:
    ada = world.hub.user(ADA.public)

    def named(number: int) -> Contract:
        return world.contract.model_copy(update={"study": f"study-{number}"})

    def state(number: int) -> None:
        action = "resume" if number % 2 else "suspend"
        at = NOW + timedelta(seconds=number)
        said = transition(world.contract, action, "Ada", at=at)  # type: ignore[arg-type]
        world.hub.state("lung", said.sign(ADA), ada)

    acts: dict[str, Callable[[int], object]] = {
        "orders": lambda n: world.hub.submit(make_request(world.contract, n).sign(ADA), ada),
        "proposals": lambda n: world.hub.propose(named(n).sign(ADA), ada),
        "drafts": lambda n: world.hub.draft(draft_of(named(n)).sign(ADA), ada),
        "statements": state,
    }
    assert refusals(25, acts[what]) == ["too-many-requests"] * 5
    denied = world.hub.store.ledger.of_kind("run.denied")
    assert not denied  # what is not taken is not recorded either
    for run in world.hub.store.runs.open():
        await world.settled(run.info.id)


async def test_a_site_fills_the_ledger_no_faster(world: World) -> None:
    handler = world.hub.handler_for("Alpha")
    for number in range(25):
        changed = PolicyDigest(digest=f"sha256:{number:064x}")
        reply = await handler.handle(Message(policy_digest=changed))
        assert isinstance(reply, Message)
        assert reply.WhichOneof("body") == ("ack" if number < 20 else "error")
    said = transition(world.contract, "suspend", "Alpha").sign(key("Alpha"))
    with pytest.raises(PolicyRefusal, match="Too many"):
        world.hub.hear("Alpha", said)
    world.hub.hear("Beta", transition(world.contract, "suspend", "Beta").sign(key("Beta")))
