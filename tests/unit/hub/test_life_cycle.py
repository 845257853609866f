"""A study's contracts at the hub: amended, suspended, ended; who is told, and which runs end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.support.fake_sites import (
    NOW,
    SITES,
    World,
    key,
    make_contract,
    make_request,
)
from tests.support.life import amended, transition

from cohortium.contract.model import Computation, Contract, Researcher
from cohortium.contract.statements import Action
from cohortium.core.rest import StudyInfo
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.link._generated.link_pb2 import Message

ADA, BOB = key("Ada"), key("Bob")


def shown(world: World, contract: Contract | None = None) -> StudyInfo:
    digest = None if contract is None else contract.digest
    return world.hub.studies.one("lung", world.hub.user(ADA.public), digest)


def propose(world: World, contract: Contract) -> None:
    world.hub.propose(contract.sign(ADA), world.hub.user(ADA.public))


def sign(world: World, contract: Contract, *sites: str) -> None:
    for site in sites or SITES:
        world.hub.say(site, contract.sign(key(site)))
        world.sites[site].contract = contract


def state(
    world: World,
    action: Action,
    author: str,
    contract: Contract | None = None,
    seconds: int = 0,
    **fields: Any,
) -> str:
    """A transition by a site, or by Ada."""
    at = NOW + timedelta(seconds=seconds)
    said = transition(contract or world.contract, action, author, at=at, **fields)
    if author == "Ada":
        user = world.hub.user(ADA.public)
        return world.hub.state("lung", said.sign(ADA), user).status
    return world.hub.say(author, said.sign(key(author))).state


def submit(world: World, contract: Contract, number: int = 1) -> str:
    request = make_request(contract, number)
    return world.hub.submit(request.sign(ADA), world.hub.user(ADA.public)).id


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(CohortiumError) as caught:
        call(*arguments)
    return caught.value.code


async def seen(world: World, site: str = "Beta") -> list[str]:
    """What a site got since this was asked last."""
    await world.hub.delivered()
    found = list(world.sites[site].seen)
    world.sites[site].seen.clear()
    return found


async def test_the_old_version_is_in_force_until_all_have_signed_the_new_one(world: World) -> None:
    second = amended(world.contract, title="Lung, and more")
    propose(world, second)
    sign(world, second, "Alpha", "Beta")
    info = shown(world)
    assert info.contract_digest == world.contract.digest
    assert [(v.version, v.status) for v in info.versions] == [(1, "active"), (2, "proposed")]
    for site in world.sites.values():
        site.contract = world.contract
    run = submit(world, world.contract)
    assert await world.settled(run) == "succeeded"
    assert code_of(submit, world, second, 2) == "contract-not-active"
    await seen(world)
    sign(world, second)
    assert (await seen(world)).count("contract_active") == 1
    info = shown(world)
    assert (info.contract_digest, info.status) == (second.digest, "active")
    assert shown(world, world.contract).status == "superseded"
    assert second.digest in (shown(world, world.contract).reason or "")
    assert code_of(submit, world, world.contract, 3) == "contract-ended"
    assert await world.settled(submit(world, second, 4)) == "succeeded"


async def test_of_two_amendments_the_first_complete_one_wins_and_the_other_is_told(
    world: World,
) -> None:
    """Rules 22 and 24."""
    world.hub.members.add("Delta", key("Delta").public)
    world.hub.store.members.publish("Delta", world.hub.directory()[0].datasets[0])
    delta = world.contract.participants[0].model_copy(
        update={"name": "Delta", "key": key("Delta").public}
    )
    wider = amended(world.contract, participants=(*world.contract.participants, delta))
    longer = amended(world.contract, expires_at=NOW + timedelta(days=999))
    world.link.join("Delta", world.sites["Gamma"])
    propose(world, wider)
    propose(world, longer)
    sign(world, wider, "Alpha", "Beta", "Gamma")
    await seen(world, "Gamma")
    sign(world, longer)
    told = await seen(world, "Gamma")
    assert sorted(told) == ["contract_active", "contract_ended"]  # the second to Delta
    assert shown(world).contract_digest == longer.digest
    assert shown(world, wider).status == "superseded"
    with pytest.raises(ConflictError) as caught:
        world.hub.say("Delta", wider.sign(key("Delta")))
    assert caught.value.code == "stale-version"
    assert caught.value.details["current"] == longer.digest
    assert longer.digest in caught.value.message


async def test_an_accepted_contract_is_not_edited(world: World) -> None:
    """Rule 23."""
    edited = make_contract(world.contract.consortium, title="Edited")
    assert code_of(propose, world, edited) == "already-exists"
    second = amended(world.contract)
    propose(world, second)
    sign(world, second)
    assert code_of(propose, world, amended(world.contract, title="Late")) == "stale-version"
    assert shown(world).contract_digest == second.digest


async def test_a_suspension_ends_the_runs_under_way_and_is_lifted_by_its_author(
    world: World,
) -> None:
    waiting = asyncio.Event()

    async def hold(message: Message) -> Message | None:
        if message.round_request.round == 2:
            waiting.set()
            await asyncio.sleep(60)
        return None

    world.sites["Alpha"].hook = hold
    run = submit(world, world.contract)
    await asyncio.wait_for(waiting.wait(), 10)
    assert state(world, "suspend", "Beta", reason="A doubt.") == "suspended"
    assert await world.settled(run, 5) == "failed"
    error = world.hub.store.runs.get(run).info.error or {}
    assert error["code"] == "contract-suspended"
    assert "Beta" in error["message"]
    with pytest.raises(ConflictError, match="submit a new run"):
        await world.hub.resume(run, world.hub.user(ADA.public))
    world.sites["Alpha"].hook = None
    info = shown(world)
    assert (info.status, [one.by for one in info.suspensions]) == ("suspended", ["Beta"])
    assert code_of(submit, world, world.contract, 2) == "contract-suspended"
    assert code_of(state, world, "resume", "Alpha", None, 1) == "wrong-state"
    assert state(world, "resume", "Beta", seconds=1) == "active"
    assert await world.settled(submit(world, world.contract, 3)) == "succeeded"


@pytest.mark.parametrize("how", ["revoke", "close", "amend"])
async def test_a_run_under_way_ends_with_its_contract(world: World, how: str) -> None:
    waiting = asyncio.Event()

    async def hold(message: Message) -> Message | None:
        if message.WhichOneof("body") == "round_request":
            waiting.set()
            await asyncio.sleep(60)
        return None

    world.sites["Alpha"].hook = hold
    run = submit(world, world.contract)
    await asyncio.wait_for(waiting.wait(), 10)
    if how == "amend":
        second = amended(world.contract)
        propose(world, second)
        sign(world, second)
    else:
        state(world, "revoke" if how == "revoke" else "close", "Beta" if how == "revoke" else "Ada")
    assert await world.settled(run, 5) == "failed"
    error = world.hub.store.runs.get(run).info.error or {}
    assert error["code"] == "contract-ended"
    with pytest.raises(ConflictError):
        world.hub.result(run, world.hub.user(ADA.public))
    await world.heard("Gamma", "run_end-failed")
    await world.hub.delivered()
    assert world.sites["Gamma"].seen.count("run_end-failed") == 1


async def test_a_suspension_of_another_computation_lets_a_run_go_on(world: World) -> None:
    two = (*world.contract.computations, Computation(name="other.*", versions={"other.x": 1}))
    second = amended(world.contract, computations=two)
    propose(world, second)
    sign(world, second)
    assert state(world, "suspend", "Beta", second, computations=("other.*",)) == "suspended"
    assert await world.settled(submit(world, second)) == "succeeded"
    assert state(world, "suspend", "Beta", second, 1, computations=("test.*",)) == "suspended"
    assert code_of(submit, world, second, 2) == "contract-suspended"


@pytest.mark.parametrize(
    ("action", "author", "status"), [("revoke", "Gamma", "revoked"), ("close", "Ada", "closed")]
)
async def test_an_ended_contract_stays_ended(
    world: World, action: Action, author: str, status: str
) -> None:
    assert state(world, action, author, reason="It is enough.") == status
    info = shown(world)
    assert (info.status, info.ended_by, info.reason) == (status, author, "It is enough.")
    assert code_of(submit, world, world.contract) == "contract-ended"
    assert code_of(state, world, "resume", "Beta", None, 5) == "contract-ended"
    anew = make_contract(world.contract.consortium, title="A new start")
    propose(world, anew)
    assert shown(world).contract_digest == anew.digest


async def test_who_may_not_do_it_is_told_so(world: World) -> None:
    assert code_of(state, world, "close", "Beta") == "not-authorised"
    assert code_of(state, world, "revoke", "Ada") == "not-authorised"
    assert code_of(state, world, "withdraw", "Ada") == "wrong-state"
    assert code_of(state, world, "refuse", "Alpha") == "wrong-state"
    said = transition(world.contract, "suspend", "Beta")
    with pytest.raises(VerificationError):
        world.hub.say("Alpha", said.sign(key("Beta")))
    with pytest.raises(VerificationError):
        world.hub.say("Beta", said.sign(key("Alpha")))
    bob = world.hub.user(BOB.public)
    own = transition(world.contract, "suspend", "Bob")
    with pytest.raises(InputError) as caught:
        world.hub.state("lung", own.sign(BOB), bob)
    assert caught.value.code == "not-found"
    assert shown(world).status == "active"


async def test_a_statement_about_another_study_is_not_found(world: World) -> None:
    other = make_contract(world.contract.consortium, study="second")
    propose(world, other)
    said = transition(other, "withdraw", "Ada")
    with pytest.raises(InputError) as caught:
        world.hub.state("lung", said.sign(ADA), world.hub.user(ADA.public))
    assert caught.value.code == "not-found"


async def test_a_contract_is_shown_to_those_whom_it_names(world: World) -> None:
    """Rule 2; an amendment may name others than its predecessor."""
    bob = world.hub.user(BOB.public)
    assert world.hub.studies.all(bob) == []
    for look in (world.hub.studies.one, world.hub.studies.statements):
        with pytest.raises(InputError) as caught:
            look("lung", bob)
        assert caught.value.code == "not-found"
    both = (*world.contract.recipients, Researcher(name="Bob", key=BOB.public))
    second = amended(world.contract, recipients=both)
    propose(world, second)
    (info,) = world.hub.studies.all(bob)
    assert info.contract_digest == second.digest
    assert [v.version for v in info.versions] == [2]
    assert {said.version for said in world.hub.studies.statements("lung", bob)} == {2}
    with pytest.raises(InputError):
        world.hub.studies.one("lung", bob, world.contract.digest)
    world.hub.members.add_user("Eve", key("Eve").public)
    eve = Researcher(name="Eve", key=key("Eve").public)
    stranger = amended(world.contract, proposed_by=eve)
    with pytest.raises(InputError) as caught:
        world.hub.propose(stranger.sign(key("Eve")), world.hub.user(eve.key))
    assert caught.value.code == "not-found"


async def test_only_who_can_end_a_contract_amends_it(world: World) -> None:
    both = (*world.contract.recipients, Researcher(name="Bob", key=BOB.public))
    second = amended(world.contract, recipients=both)
    propose(world, second)
    sign(world, second)
    third = amended(second, proposed_by=Researcher(name="Bob", key=BOB.public))
    with pytest.raises(PolicyRefusal) as caught:
        world.hub.propose(third.sign(BOB), world.hub.user(BOB.public))
    assert caught.value.code == "not-authorised"


async def test_a_site_that_was_away_hears_what_was_stated_in_order(world: World) -> None:
    await seen(world)
    world.link.leave("Beta")
    state(world, "suspend", "Alpha")
    state(world, "resume", "Alpha", seconds=1)
    state(world, "suspend", "Gamma")
    await world.hub.delivered()
    heard: list[bytes] = []

    async def listen(message: Message) -> Message | None:
        heard.append(message.contract_statement.envelope)
        return None

    world.sites["Beta"].hook = listen
    world.link.join("Beta", world.sites["Beta"])
    world.hub.on_connect("Beta")
    assert await seen(world) == ["contract_statement"] * 3
    stated = world.hub.studies.statements("lung", world.hub.user(ADA.public))[-3:]
    assert [said.envelope.encode() for said in stated] == heard
    assert [(s.author, s.action, s.state) for s in stated] == [
        ("Alpha", "suspend", "suspended"),
        ("Alpha", "resume", "active"),
        ("Gamma", "suspend", "suspended"),
    ]


async def test_the_life_is_the_same_after_a_restart(world: World) -> None:
    second = amended(world.contract)
    propose(world, second)
    state(world, "suspend", "Beta")
    sign(world, second)
    before = world.hub.store.studies.life("lung")
    world.hub.store.studies._lives.clear()
    assert world.hub.store.studies.life("lung") == before
    assert shown(world).status == "suspended"  # a suspension outlives the amendment
