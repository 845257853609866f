"""What a node makes of statements on its contracts, whoever brings them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import World, active, round_request
from tests.support.life import NOW, amended, transition

from cohortium.contract.model import Contract
from cohortium.contract.statements import Action, Transition
from cohortium.errors import CohortiumError, ConflictError, InputError, PolicyRefusal
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent, outbox, statements, steward


@pytest.fixture
def world() -> World:
    return World()


def said(
    world: World, contract: Contract, action: Action, author: str, seconds: int = 0, **fields: Any
) -> pb.Message:
    """What the hub hands on of a party's statement."""
    key = world.researcher if author == "Dr. Li" else world.keys[author]
    stated = transition(contract, action, author, at=NOW + timedelta(seconds=seconds), **fields)
    return pb.Message(contract_statement=pb.ContractStatement(envelope=stated.sign(key)))


def state_of(world: World, contract: Contract, site: str = "Alpha") -> str:
    stored = world.nodes[site].store.contract(contract.digest)
    assert stored is not None
    return stored.state


def refused(world: World, message: pb.Message, code: str) -> None:
    with pytest.raises(CohortiumError) as caught:
        world.nodes["Alpha"].ask(message)
    assert caught.value.code == code, caught.value.message


def prepared(world: World, contract: Contract) -> pb.Message:
    return world.prepare(world.request(contract))


def test_a_suspension_by_another_site_counts_until_that_site_lifts_it(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    node.ask(said(world, contract, "suspend", "Beta"))
    assert state_of(world, contract) == "suspended"
    refused(world, prepared(world, contract), "contract-suspended")
    refused(world, said(world, contract, "resume", "Gamma"), "wrong-state")
    node.ask(said(world, contract, "suspend", "Gamma"))
    node.ask(said(world, contract, "resume", "Beta", 1))
    assert state_of(world, contract) == "suspended"
    node.ask(said(world, contract, "resume", "Gamma", 1))
    assert state_of(world, contract) == "active"
    node.ask(prepared(world, contract))


def test_the_same_statement_twice_is_one_and_an_old_one_changes_nothing(world: World) -> None:
    """A hub that brings an old resume again lifts no new suspension."""
    contract = world.ready()
    node = world.nodes["Alpha"]
    first = said(world, contract, "suspend", "Beta")
    resumed = said(world, contract, "resume", "Beta", 1)
    again = said(world, contract, "suspend", "Beta", 2)
    for message in (first, first, resumed, again, resumed, first, again):
        node.ask(message)
    assert state_of(world, contract) == "suspended"
    assert [entry["what"] for entry in node.decisions(what="statement")] == ["statement"] * 3
    # One that this site never had, and that is older than what it has heard of that author.
    refused(world, said(world, contract, "resume", "Beta", 1, reason="Else."), "stale-request")
    assert state_of(world, contract) == "suspended"


def test_a_suspension_of_one_computation_leaves_the_others(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    node.ask(said(world, contract, "suspend", "Beta", computations=("test.sum",)))
    refused(world, prepared(world, contract), "contract-suspended")
    other = world.request(contract, run_id="b" * 32, computation="test.separate")
    node.ask(world.prepare(other))


def test_a_run_under_way_ends_in_its_next_round(world: World) -> None:
    contract = world.ready()
    request = world.request(contract)
    roster = world.adverts(request)
    node = world.nodes["Alpha"]
    node.ask(round_request(request, roster, 1))
    stored = steward.find_in_force(node.store, "lung")
    steward.state(node.service, stored, "suspend", "A doubt.")
    refused(world, round_request(request, roster, 2), "contract-suspended")
    steward.state(node.service, stored, "resume", "Settled.")
    node.ask(round_request(request, roster, 2))
    node.ask(said(world, contract, "revoke", "Gamma"))
    refused(world, round_request(request, roster, 3), "contract-ended")


def test_what_this_site_states_counts_at_once_and_is_owed_in_order(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    for owed in node.store.owed():
        node.store.settle(owed.id, "ok")
    stored = steward.find_in_force(node.store, contract.digest)
    steward.state(node.service, stored, "suspend", "A doubt.", ["test.sum"])
    steward.state(node.service, stored, "resume", "Settled.")
    steward.state(node.service, stored, "suspend", "A doubt.")
    assert state_of(world, contract) == "suspended"
    envelopes = [outbox.message_of(owed).statement.envelope for owed in node.store.owed()]
    opened = [Transition.open(envelope)[0] for envelope in envelopes]
    assert [(one.action, one.computations) for one in opened] == [
        ("suspend", ("test.sum",)),
        ("resume", None),
        ("suspend", None),
    ]
    assert opened[0].at < opened[1].at < opened[2].at  # within one second of the clock
    kept = statements.about(node.store, contract.digest)
    assert [one.envelope for one in kept][-3:] == envelopes
    assert [e["why"] for e in node.decisions(what="suspend")] == ["A doubt.", "A doubt."]


@pytest.mark.parametrize("action", ["suspend", "resume", "revoke"])
def test_a_statement_needs_a_reason_and_a_contract_in_force(world: World, action: Action) -> None:
    contract = world.contract()
    node = world.node("Alpha")
    with pytest.raises(InputError) as unknown:
        steward.find_in_force(node.store, "lung")
    assert unknown.value.code == "not-found"
    world.propose(node, contract)
    with pytest.raises(ConflictError, match="the latest is proposed"):
        steward.find_in_force(node.store, "lung")
    stored = consent.find_contract(node.store, "lung")
    with pytest.raises(InputError, match="Say why"):
        steward.state(node.service, stored, action, "  ")
    with pytest.raises(PolicyRefusal) as early:
        steward.state(node.service, stored, action, "A doubt.")
    assert early.value.code == "contract-not-active"
    assert node.store.owed() == []


@pytest.mark.parametrize(
    ("action", "author", "state"),
    [("revoke", "Gamma", "revoked"), ("close", "Dr. Li", "closed")],
)
def test_an_end_is_final(world: World, action: Action, author: str, state: str) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    node.ask(said(world, contract, action, author, reason="It is enough."))
    assert state_of(world, contract) == state
    refused(world, prepared(world, contract), "contract-ended")
    node.ask(active(contract.digest, world.signed(contract)))
    assert state_of(world, contract) == state
    node.ask(said(world, contract, "resume", "Beta", 9))  # kept, and without effect
    assert state_of(world, contract) == state
    with pytest.raises(ConflictError):
        steward.find_in_force(node.store, "lung")


def test_a_proposal_that_was_withdrawn_or_refused_is_not_signed(world: World) -> None:
    node = world.node("Alpha")
    for study, action, author in (("one", "withdraw", "Dr. Li"), ("two", "refuse", "Beta")):
        contract = world.contract(study=study)
        world.propose(node, contract)
        node.ask(said(world, contract, action, author))  # type: ignore[arg-type]
        reviewed = consent.review(node.service, consent.find_contract(node.store, study))
        assert [problem.code for problem in reviewed.problems] == ["contract-ended"]
        with pytest.raises(PolicyRefusal, match=author):
            consent.sign(node.service, reviewed)


def test_the_signatures_of_a_new_version_replace_the_old_one_in_one_step(world: World) -> None:
    contract = world.ready()
    second = amended(contract, title="More")
    node = world.nodes["Alpha"]
    world.propose(node, second)
    reviewed = consent.review(node.service, consent.find_contract(node.store, "lung"))
    assert reviewed.contract == second
    consent.sign(node.service, reviewed)
    node.ask(prepared(world, contract))
    refused(world, world.prepare(world.request(second, run_id="b" * 32)), "contract-not-active")
    node.ask(active(second.digest, world.signed(second)))
    assert (state_of(world, contract), state_of(world, second)) == ("superseded", "active")
    refused(world, world.prepare(world.request(contract, run_id="c" * 32)), "contract-ended")
    node.ask(world.prepare(world.request(second, run_id="d" * 32)))
    # The first version does not come back.
    node.ask(active(contract.digest, world.signed(contract)))
    assert (state_of(world, contract), state_of(world, second)) == ("superseded", "active")


def test_a_suspension_outlives_an_amendment(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    stored = steward.find_in_force(node.store, "lung")
    steward.state(node.service, stored, "suspend", "A doubt.", ["test.sum"])
    second = amended(contract)
    world.agree(node, second)
    assert (state_of(world, contract), state_of(world, second)) == ("superseded", "suspended")
    current = steward.find_in_force(node.store, "lung")
    assert json.loads(current.suspensions) == {"Alpha": ["test.sum"]}
    steward.state(node.service, current, "resume", "Settled.")
    assert state_of(world, second) == "active"


def test_a_site_joins_with_the_second_version(world: World) -> None:
    first = world.contract()
    node = world.node("Alpha")
    second = amended(first)
    world.propose(node, second)
    reviewed = consent.review(node.service, consent.find_contract(node.store, "lung"))
    assert any("was not in" in warning for warning in reviewed.warnings)
    world.agree(node, second)
    assert state_of(world, second) == "active"


def test_of_two_amendments_the_one_that_is_complete_ends_the_other(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    one, other = amended(contract, title="One"), amended(contract, title="Other")
    for version in (one, other):
        world.propose(node, version)
        stored = consent.find_contract(node.store, version.digest)
        consent.sign(node.service, consent.review(node.service, stored))
    node.ask(active(other.digest, world.signed(other)))
    assert [state_of(world, c) for c in (contract, one, other)] == [
        "superseded",
        "superseded",
        "active",
    ]
    node.ask(active(one.digest, world.signed(one)))
    assert state_of(world, one) == "superseded"
    stored = consent.find_contract(node.store, one.digest)
    with pytest.raises(ConflictError) as caught:
        consent.sign(node.service, consent.review(node.service, stored))
    assert caught.value.code == "stale-version"
    assert other.digest in caught.value.message


def test_what_comes_before_the_signatures_waits_for_them(world: World) -> None:
    """A node that lost its memory gets everything again, and its steward signs again."""
    contract = world.contract()
    node = world.node("Alpha")
    world.propose(node, contract)
    refused(world, active(contract.digest, world.signed(contract)), "contract-unknown")
    own = said(world, contract, "suspend", "Alpha", 5, computations=("test.separate",))
    node.ask(own)
    node.ask(said(world, contract, "suspend", "Beta", 3))
    assert state_of(world, contract) == "proposed"
    world.agree(node, contract)
    assert state_of(world, contract) == "suspended"
    stored = steward.find_in_force(node.store, "lung")
    assert json.loads(stored.suspensions) == {"Alpha": ["test.separate"], "Beta": None}
    node.ask(said(world, contract, "resume", "Beta", 6))
    node.ask(prepared(world, contract))
    assert set(node.service.hello().hello.statements) == {
        one.digest
        for one in statements.about(node.store, contract.digest)
        if one.action not in {"propose", "sign"}
    }


def test_a_statement_counts_only_with_the_key_that_the_contract_names(world: World) -> None:
    contract = world.ready()
    stated = transition(contract, "suspend", "Beta")
    for key in (world.keys["Gamma"], world.researcher):
        message = pb.ContractStatement(envelope=stated.sign(key))
        refused(world, pb.Message(contract_statement=message), "unknown-signer")
    genuine = stated.sign(world.keys["Beta"])
    garbled = pb.ContractStatement(envelope=genuine.replace(b'"sig":"', b'"sig":"AAAA'))
    refused(world, pb.Message(contract_statement=garbled), "bad-signature")
    elsewhere = transition(world.contract(study="other"), "suspend", "Beta")
    unknown = pb.ContractStatement(envelope=elsewhere.sign(world.keys["Beta"]))
    refused(world, pb.Message(contract_statement=unknown), "contract-unknown")
    refused(world, said(world, contract, "close", "Beta"), "not-authorised")
    refused(world, said(world, contract, "revoke", "Dr. Li"), "not-authorised")
    assert state_of(world, contract) == "active"


def test_the_hubs_word_only_ends(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    ended = pb.ContractEnded(contract_digest=contract.digest, reason="Replaced.")
    node.ask(pb.Message(contract_ended=ended))
    node.ask(pb.Message(contract_ended=ended))
    assert state_of(world, contract) == "superseded"
    assert len(node.decisions(what="ended")) == 1
    refused(world, prepared(world, contract), "contract-ended")
    unknown = pb.ContractEnded(contract_digest="sha256:" + "0" * 64)
    refused(world, pb.Message(contract_ended=unknown), "contract-unknown")


def test_a_site_that_refused_too_late_can_still_revoke(world: World) -> None:
    """The others saw all signatures before this site's refusal reached the hub."""
    contract = world.contract()
    node = world.node("Alpha")
    world.propose(node, contract)
    stored = consent.find_contract(node.store, "lung")
    consent.sign(node.service, consent.review(node.service, stored))
    steward.refuse(node.service, consent.find_contract(node.store, "lung"), "A doubt.")
    steward.refuse(node.service, consent.find_contract(node.store, "lung"), "A doubt.")
    assert len(node.store.owed()) == 1
    stored = steward.find_in_force(node.store, contract.digest)
    steward.state(node.service, stored, "revoke", "A doubt.")
    assert state_of(world, contract) == "revoked"
    assert len(node.store.owed()) == 2
