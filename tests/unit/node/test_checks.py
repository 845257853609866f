"""Checks of the node in the secure sum that only an attack of its own shows; see tests/mutants."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.builders import (
    FIVE,
    RUN_ID,
    RoundSums,
    SeparateSums,
    SumParams,
    World,
    run_end,
)
from tests.support.by_hand import HubByHand

from cohortium.analysis.interface import Scope
from cohortium.contract.model import Contract
from cohortium.core.rounds import Contribution, State
from cohortium.core.table import Table
from cohortium.errors import CohortiumError, InputError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import steward
from cohortium.node.store import NodeStore, StoredRun
from cohortium.secagg.messages import KeyShare

FOUR = FIVE[:4]


class Fails(RoundSums):
    """Its computation fails on the data as long as there are failures left."""

    def __init__(self, failures: int) -> None:
        self._left = failures

    def local(self, table: Table, state: State, params: SumParams, scope: Scope) -> Contribution:
        if self._left:
            self._left -= 1
            raise InputError("bad-input", "A transformation is not finite.")
        return super().local(table, state, params, scope)


@pytest.fixture
def world() -> World:
    return World(sites=FIVE, min_sites=3)


@pytest.fixture
def hub(world: World) -> HubByHand:
    return HubByHand.begun(world, world.ready())


class FailsSeparately(Fails, SeparateSums):
    """The same, and each round stands alone."""


def failing(
    world: World, contract: Contract, failures: int, analysis: type[Fails] = FailsSeparately
) -> HubByHand:
    """A second run, in which Alpha's computation fails at first."""
    store, made = world.nodes["Alpha"].store, analysis(failures)
    world.node("Alpha", store=store, find_analysis=lambda _: made)
    return HubByHand.begun(world, contract, run_id="e" * 32, computation=analysis.name)


def refused(world: World, message: pb.Message, code: str) -> None:
    with pytest.raises(CohortiumError) as caught:
        world.nodes["Alpha"].ask(message)
    assert caught.value.code == code, caught.value.message


def test_a_contract_that_was_given_up_ends_its_runs(world: World, hub: HubByHand) -> None:
    hub.round()
    node = world.nodes["Alpha"]
    in_force = steward.find_in_force(node.store, "lung")
    steward.state(node.service, in_force, "revoke", "A doubt.")
    refused(world, hub.question("Alpha", 2), "contract-ended")
    refused(world, hub.unmask_request(FIVE), "contract-ended")


def test_a_run_that_is_over_still_counts_against_differencing(world: World, hub: HubByHand) -> None:
    hub.round()
    for site in FIVE:
        world.nodes[site].ask(run_end(hub.request, "succeeded"))
    second = HubByHand.begun(world, hub.contract, run_id="e" * 32)
    refused(world, second.question("Alpha", active=FOUR), "differencing")
    assert second.round()["n"] == 60


def test_a_second_round_over_fewer_is_refused_where_an_earlier_run_was_over_all(
    world: World, hub: HubByHand
) -> None:
    """Nobody told this site who survived the first round: the hub only says that one did not."""
    hub.round()
    second = HubByHand.begun(world, hub.contract, run_id="e" * 32)
    second.inputs()
    refused(world, second.question("Alpha", 2, active=FOUR), "differencing")


def test_after_a_failure_no_other_round_is_answered(world: World) -> None:
    """Whether a computation fails may tell of this site alone: one state is tried, and no more."""
    hub = failing(world, world.ready(), 2)
    refused(world, hub.question("Alpha"), "bad-input")
    hub.share(2)
    refused(world, hub.question("Alpha", 2), "wrong-round")
    refused(world, hub.question("Alpha"), "bad-input")
    assert hub.round()["n"] == 60


@pytest.mark.parametrize("analysis", [Fails, FailsSeparately])
def test_a_first_round_that_failed_is_not_begun_again_over_other_parties_than_an_earlier_run(
    world: World, analysis: type[Fails]
) -> None:
    contract = world.ready()
    HubByHand.begun(world, contract, computation=analysis.name).round()
    hub = failing(world, contract, 1, analysis)
    refused(world, hub.question("Alpha"), "bad-input")
    refused(world, hub.question("Alpha", active=FOUR), "differencing")
    assert hub.round()["n"] == 60


def test_shares_that_cannot_be_opened_do_not_tell_whether_the_computation_succeeds(
    world: World,
) -> None:
    """Else a hub that hands on rubbish would learn it, and nothing would be written down."""
    hub = failing(world, world.ready(), 1)
    shares = hub.shares_for("Alpha", 1, FIVE)
    sealed = bytes(len(shares["Beta"].sealed))
    spoilt = {**shares, "Beta": KeyShare(shares["Beta"].mask_key, sealed)}
    refused(world, hub.question("Alpha", shares=spoilt), "bad-share")
    refused(world, hub.question("Alpha"), "bad-input")


def test_what_is_kept_in_memory_of_a_run_goes_with_it(world: World, hub: HubByHand) -> None:
    hub.round()
    node = world.nodes["Alpha"]
    node.ask(hub.unmask_request(FIVE))
    guard = node.service._guard
    assert RUN_ID in guard._parties
    assert RUN_ID in guard._runs
    node.ask(run_end(hub.request, "cancelled"))
    assert RUN_ID not in guard._parties
    assert RUN_ID not in guard._runs


SECRET = b"a secret that nobody may find..."


def stored_run() -> StoredRun:
    return StoredRun(
        run_id=RUN_ID,
        envelope=b"envelope",
        request_digest="request",
        contract_digest="contract",
        computation="test.sum",
        params_digest="params",
        disclosure="{}",
        secret=SECRET,
        advert=b"advert",
        admitted_at="2026-11-22T09:00:00Z",
    )


def test_the_secret_of_a_run_is_not_printed() -> None:
    assert SECRET.decode() not in repr(stored_run())


def test_the_secret_of_a_run_is_not_left_on_the_disk(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.db")
    with store.transaction():
        store.add_run(stored_run())
        store.put_party_round(RUN_ID, 1, {"received": SECRET.decode()})
    store.close()
    assert SECRET in (tmp_path / "node.db").read_bytes()
    store = NodeStore(tmp_path / "node.db")
    with store.transaction():
        store.end_run(RUN_ID, "succeeded")
    store.close()
    assert SECRET not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
