"""Checks of the node in the secure sum that only an attack of its own shows; see tests/mutants."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.builders import FIVE, RUN_ID, World, run_end
from tests.support.by_hand import HubByHand

from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent
from cohortium.node.store import NodeStore, StoredRun

FOUR = FIVE[:4]


@pytest.fixture
def world() -> World:
    return World(sites=FIVE, min_sites=3)


@pytest.fixture
def hub(world: World) -> HubByHand:
    return HubByHand.begun(world, world.ready())


def refused(world: World, message: pb.Message, code: str) -> None:
    with pytest.raises(CohortiumError) as caught:
        world.nodes["Alpha"].ask(message)
    assert caught.value.code == code, caught.value.message


def test_a_contract_that_was_given_up_ends_its_runs(world: World, hub: HubByHand) -> None:
    hub.round()
    node = world.nodes["Alpha"]
    consent.refuse(node.service, consent.find_contract(node.store, "lung"), "A doubt.")
    refused(world, hub.question("Alpha", 2), "contract-unknown")
    refused(world, hub.unmask_request(FIVE), "contract-unknown")


def test_a_run_that_is_over_still_counts_against_differencing(world: World, hub: HubByHand) -> None:
    hub.round()
    for site in FIVE:
        world.nodes[site].ask(run_end(hub.request, "succeeded"))
    second = HubByHand.begun(world, hub.contract, run_id="e" * 32)
    refused(world, second.question("Alpha", active=FOUR), "differencing")
    assert second.round()["n"] == 60


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


def test_the_secret_of_a_run_is_not_left_on_the_disk(tmp_path: Path) -> None:
    secret = b"a secret that nobody may find..."
    run = StoredRun(
        run_id=RUN_ID,
        envelope=b"envelope",
        request_digest="request",
        contract_digest="contract",
        computation="test.sum",
        params_digest="params",
        disclosure="{}",
        secret=secret,
        advert=b"advert",
        admitted_at="2026-11-22T09:00:00Z",
    )
    store = NodeStore(tmp_path / "node.db")
    with store.transaction():
        store.add_run(run)
        store.put_party_round(RUN_ID, 1, {"received": secret.decode()})
    store.close()
    assert secret in (tmp_path / "node.db").read_bytes()
    store = NodeStore(tmp_path / "node.db")
    with store.transaction():
        store.end_run(RUN_ID, "succeeded")
    store.close()
    assert secret not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
