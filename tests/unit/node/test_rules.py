"""Rules of contracts that each node keeps; see tests/unit/contract/test_rules.py."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import RUN_ID, RoundSums, World, round_request

from cohortium.contract.model import Computation
from cohortium.errors import CohortiumError, VerificationError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent, steward
from cohortium.node.policy import Policy


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, message: pb.Message, code: str) -> None:
    """Alpha refuses, and its journal says so."""
    node = world.nodes["Alpha"]
    before = len(node.decisions())
    with pytest.raises(CohortiumError) as caught:
        node.ask(message)
    assert caught.value.code == code
    (written,) = node.decisions()[before:]
    assert (written["allowed"], written["code"]) == (False, code)
    assert written["why"] == caught.value.message


def test_rule_16_a_run_limit_of_zero_means_never(world: World) -> None:
    never = (Computation(name="test.*", variables=("age",), max_runs=0),)
    contract = world.ready(world.contract(computations=never))
    refused(world, world.prepare(world.request(contract)), "run-limit")


def test_rule_16_run_n_plus_one_is_refused(world: World) -> None:
    once = (Computation(name="test.*", variables=("age",), max_runs=1),)
    contract = world.ready(world.contract(computations=once))
    first = world.request(contract)
    world.total(first, contract, world.adverts(first))
    refused(world, world.prepare(world.request(contract, run_id="f" * 32)), "run-limit")


def test_rule_19_altered_data_are_not_shown_to_the_computation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = world.ready()
    request = world.request(contract)
    roster = world.adverts(request)

    def altered(*_: Any) -> Any:
        raise VerificationError("bad-digest", "The dataset is not the one that was signed for.")

    def computed(*_: Any) -> Any:
        pytest.fail("the computation saw the data")

    monkeypatch.setattr(world.nodes["Alpha"].service.datasets, "table", altered)
    monkeypatch.setattr(RoundSums, "local", computed)
    refused(world, round_request(request, roster), "bad-digest")


def test_rule_20_a_denied_request_is_in_the_journal(world: World) -> None:
    contract = world.ready()
    refused(world, world.prepare(world.request(contract, computation="glm")), "not-permitted")
    (entry,) = world.nodes["Alpha"].decisions(run_id=RUN_ID)
    assert (entry["what"], entry["computation"]) == ("run", "glm")


def test_rule_21_disabling_a_computation_stops_new_and_approved_runs(world: World) -> None:
    contract = world.ready()
    request = world.request(contract)
    roster = world.adverts(request)
    world.nodes["Alpha"].policy[0] = Policy(deny_computations=("test.*",))
    refused(world, round_request(request, roster), "site-policy")
    refused(world, world.prepare(world.request(contract, run_id="f" * 32)), "site-policy")


def test_rule_21_suspending_a_computation_stops_new_and_approved_runs(world: World) -> None:
    contract = world.ready()
    request = world.request(contract)
    roster = world.adverts(request)
    node = world.nodes["Alpha"]
    stored = consent.find_contract(node.store, contract.digest)
    steward.state(node.service, stored, "suspend", "A doubt.", computations=("test.sum",))
    refused(world, round_request(request, roster), "contract-suspended")
    refused(world, world.prepare(world.request(contract, run_id="f" * 32)), "contract-suspended")
