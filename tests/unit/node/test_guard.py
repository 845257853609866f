"""Everything that a dishonest hub, researcher or site may try against a node; one test for each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import (
    NOW,
    RUN_ID,
    SITES,
    RoundSums,
    World,
    active,
    enveloped,
    round_request,
    run_end,
)

from cohortium.contract.model import Computation, Contract, Participant, Researcher
from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PeerError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent, steward
from cohortium.node.policy import Policy
from cohortium.secagg.party import Party

STRANGER = SigningKey.from_seed(b"\x77" * 32)


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, message: pb.Message, code: str, site: str = "Alpha") -> CohortiumError:
    """The node refuses with `code`, and its journal says so."""
    node = world.nodes[site]
    before = len(node.decisions())
    with pytest.raises(CohortiumError) as caught:
        node.ask(message)
    assert caught.value.code == code, caught.value.message
    written = node.decisions()[before:]
    assert [(entry["allowed"], entry["code"]) for entry in written] == [(False, code)]
    assert written[0]["why"] == caught.value.message
    return caught.value


def test_a_valid_run_sums_exactly_and_is_recorded_once(world: World) -> None:
    contract = world.ready()
    request = world.request(contract)
    roster = world.adverts(request)
    total = world.total(request, contract, roster)
    ages = sum(sum(range(12)) + 120 * seed for seed in (1, 2, 3))
    assert int(total["n"]) == 36
    assert total["sum"].tolist() == [ages, ages + 3]
    entries = world.nodes["Alpha"].decisions(run_id=RUN_ID)
    assert [entry["what"] for entry in entries] == ["run", "round"]
    about = {
        "contract": contract.digest,
        "study": "lung",
        "computation": "test.sum",
        "researcher": fingerprint(world.researcher.public),
        "allowed": True,
        "code": "ok",
    }
    assert all(about.items() <= entry.items() for entry in entries)
    assert entries[1]["round"] == 1
    assert entries[1]["parties"] == list(SITES)


# Contracts


def test_a_contract_altered_by_one_byte_is_unknown(world: World) -> None:
    contract = world.ready()
    altered = contract.model_copy(update={"purpose": "To tesu."})
    refused(world, world.prepare(world.request(altered)), "contract-unknown")


def test_an_altered_copy_is_not_activated_by_the_old_signatures(world: World) -> None:
    contract = world.contract()
    altered = world.contract(purpose="To tesu.")
    node = world.node("Alpha")
    world.propose(node, altered)
    consent.sign(node.service, _review(world, altered))
    refused(world, active(altered.digest, world.signed(contract)), "bad-digest")


def test_a_proposal_that_is_not_canonical_is_refused(world: World) -> None:
    node = world.node("Alpha")
    body = world.contract().to_bytes() + b" "
    assert node.name == "Alpha"
    proposal = pb.ContractProposal(envelope=enveloped(body, world.researcher))
    refused(world, pb.Message(contract_proposal=proposal), "bad-digest")


def test_a_contract_of_another_consortium_is_refused(world: World) -> None:
    world.node("Alpha")
    contract = world.contract(consortium="sha256:" + "d" * 64)
    refused(world, world.proposal(contract), "bad-digest")


def test_a_signature_of_a_non_participant_does_not_count(world: World) -> None:
    contract = world.contract()
    node = world.node("Alpha")
    world.propose(node, contract)
    consent.sign(node.service, _review(world, contract))
    envelopes = [*world.signed(contract)[:2], contract.sign(STRANGER)]
    refused(world, active(contract.digest, envelopes), "unknown-signer")
    assert consent.find_contract(node.store, "lung").state == "signed"


def test_a_contract_is_active_only_with_all_signatures(world: World) -> None:
    contract = world.contract()
    node = world.node("Alpha")
    world.propose(node, contract)
    consent.sign(node.service, _review(world, contract))
    error = refused(
        world, active(contract.digest, world.signed(contract)[:2]), "contract-not-active"
    )
    assert error.details["missing"] == ["Gamma"]
    refused(world, world.prepare(world.request(contract)), "contract-not-active")


def test_nothing_runs_under_a_contract_that_this_site_did_not_sign(world: World) -> None:
    contract = world.contract()
    node = world.node("Alpha")
    world.propose(node, contract)
    refused(world, active(contract.digest, world.signed(contract)), "contract-unknown")
    refused(world, world.prepare(world.request(contract)), "contract-unknown")


def test_a_contract_that_was_revoked_runs_no_more_and_cannot_be_refused(world: World) -> None:
    contract = world.ready()
    node = world.nodes["Alpha"]
    stored = consent.find_contract(node.store, "lung")
    with pytest.raises(ConflictError, match="revoke it instead"):
        steward.refuse(node.service, stored, "A doubt.")
    steward.state(node.service, stored, "revoke", "A doubt.")
    refused(world, world.prepare(world.request(contract)), "contract-ended")


def test_a_signature_altered_in_the_store_is_noticed(world: World) -> None:
    contract = world.contract()
    node = world.node("Alpha")
    world.agree(node, contract)
    other = world.contract(purpose="Another.").sign(world.keys["Beta"])
    node.store.execute(
        "UPDATE statements SET envelope = ? WHERE author = 'Beta' AND action = 'sign'", other
    )
    restarted = world.node("Alpha", store=node.store)
    assert restarted.store is node.store
    refused(world, world.prepare(world.request(contract)), "bad-digest")


def test_a_swapped_key_of_a_known_site_is_refused_until_accepted(world: World) -> None:
    first = world.ready()
    world.keys["Beta"] = SigningKey.from_seed(b"\x66" * 32)
    second = world.contract(study="second")
    node = world.nodes["Alpha"]
    world.propose(node, second)
    with pytest.raises(VerificationError) as caught:
        consent.sign(node.service, _review(world, second))
    assert caught.value.code == "key-mismatch"
    assert node.decisions(what="sign", code="key-mismatch", allowed=False)
    consent.accept_peer(node.store, "Beta", fingerprint(world.keys["Beta"].public))
    consent.sign(node.service, _review(world, second))
    refused(world, world.prepare(world.request(first)), "key-mismatch")


# Requests


def _expired(world: World, contract: Contract) -> pb.Message:
    world.now = contract.expires_at
    return world.prepare(world.request(contract))


def _request(**changes: Any) -> Any:
    return lambda world, contract: world.prepare(world.request(contract, **changes))


def _other_signer(world: World, contract: Contract) -> pb.Message:
    return world.prepare(world.request(contract), STRANGER)


def _other_researcher(world: World, contract: Contract) -> pb.Message:
    return world.prepare(world.request(contract, researcher=STRANGER.public), STRANGER)


def _broken_signature(world: World, contract: Contract) -> pb.Message:
    message = world.prepare(world.request(contract))
    good = message.run_prepare.request_envelope
    at = good.index(b'"sig":"') + len(b'"sig":"')
    flipped = b"A" if good[at : at + 1] != b"A" else b"B"
    message.run_prepare.request_envelope = good[:at] + flipped + good[at + 1 :]
    return message


def _removed_researcher(world: World, contract: Contract) -> pb.Message:
    revocation = pb.Revocation(revoked_keys=[world.researcher.public])
    world.nodes["Alpha"].ask(pb.Message(revocation=revocation))
    return world.prepare(world.request(contract))


def _paused(world: World, contract: Contract) -> pb.Message:
    world.nodes["Alpha"].policy[0] = Policy(paused=True)
    return world.prepare(world.request(contract))


def _denied_computation(world: World, contract: Contract) -> pb.Message:
    world.nodes["Alpha"].policy[0] = Policy(deny_computations=("test.*",))
    return world.prepare(world.request(contract))


def _denied_researcher(world: World, contract: Contract) -> pb.Message:
    key = fingerprint(world.researcher.public)
    world.nodes["Alpha"].policy[0] = Policy(deny_researchers=(key,))
    return world.prepare(world.request(contract))


def _no_runs_today(world: World, contract: Contract) -> pb.Message:
    world.nodes["Alpha"].policy[0] = Policy(max_runs_per_day=0)
    return world.prepare(world.request(contract))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_request(params={"variable": "weight"}), "not-permitted"),
        (_request(params={"variable": "secret"}), "not-permitted"),
        (_request(params={"variable": "age", "extra": 1}), "bad-input"),
        (_request(computation="glm"), "not-permitted"),
        (_request(computation="test.other"), "not-found"),
        (_request(study="other"), "bad-digest"),
        (_expired, "contract-expired"),
        (_request(valid_until=NOW - timedelta(hours=1)), "stale-request"),
        (
            _request(issued_at=NOW - timedelta(hours=2), valid_until=NOW - timedelta(minutes=6)),
            "stale-request",
        ),
        (
            _request(issued_at=NOW + timedelta(minutes=6), valid_until=NOW + timedelta(hours=1)),
            "stale-request",
        ),
        (_request(valid_until=NOW + timedelta(days=2)), "stale-request"),
        (_other_signer, "unknown-signer"),
        (_other_researcher, "not-authorised"),
        (_broken_signature, "bad-signature"),
        (_removed_researcher, "not-authorised"),
        (_paused, "site-policy"),
        (_denied_computation, "site-policy"),
        (_denied_researcher, "site-policy"),
        (_no_runs_today, "site-policy"),
    ],
)
def test_a_request_outside_the_contract_or_policy(world: World, spoil: Any, code: str) -> None:
    contract = world.ready()
    refused(world, spoil(world, contract), code)
    assert world.nodes["Alpha"].store.run(RUN_ID) is None


def test_clocks_may_differ_by_a_few_minutes(world: World) -> None:
    contract = world.ready()
    early = NOW + timedelta(minutes=4)
    world.adverts(world.request(contract, issued_at=early))


def test_a_variable_that_this_site_does_not_give(world: World) -> None:
    parties = list(world.contract().participants)
    parties[0] = parties[0].model_copy(update={"variables": ("weight",)})
    contract = world.contract(participants=tuple(parties))
    world.ready(contract)
    refused(world, world.prepare(world.request(contract)), "not-permitted")


def test_the_same_run_id_with_another_request_is_a_replay(world: World) -> None:
    contract = world.ready()
    world.adverts(world.request(contract))
    other = world.request(contract, params={"variable": "age", "rounds": 2})
    refused(world, world.prepare(other), "replayed")


def test_a_run_that_is_over_is_not_prepared_again(world: World) -> None:
    contract = world.ready()
    request = world.request(contract)
    world.adverts(request)
    world.nodes["Alpha"].ask(run_end(request, "succeeded"))
    refused(world, world.prepare(request), "replayed")


def test_the_same_request_gets_the_same_answer_and_one_entry(world: World) -> None:
    contract = world.ready()
    request = world.request(contract)
    first = world.adverts(request)
    world.now += timedelta(hours=30)
    assert world.adverts(request) == first
    assert len(world.nodes["Alpha"].decisions(run_id=RUN_ID)) == 1


def test_the_run_limit_counts_runs_that_had_a_round(world: World) -> None:
    contract = world.ready()
    for number in range(3):
        request = world.request(contract, run_id=f"{number:032x}")
        world.total(request, contract, world.adverts(request))
    refused(world, world.prepare(world.request(contract, run_id="f" * 32)), "run-limit")


def test_runs_prepared_in_advance_do_not_get_around_the_limit(world: World) -> None:
    contract = world.ready()
    requests = [world.request(contract, run_id=f"{number:032x}") for number in range(4)]
    rosters = [world.adverts(request) for request in requests]
    for request, roster in list(zip(requests, rosters, strict=True))[:3]:
        world.total(request, contract, roster)
    refused(world, round_request(requests[3], rosters[3]), "run-limit")


# Rounds


def _started(world: World) -> tuple[Contract, Any, list[bytes]]:
    contract = world.ready()
    request = world.request(contract)
    return contract, request, world.adverts(request)


def test_a_round_of_an_unknown_run(world: World) -> None:
    contract, _, roster = _started(world)
    other = world.request(contract, run_id="f" * 32)
    refused(world, round_request(other, roster), "wrong-round")


@pytest.mark.parametrize("number", [0, 2, 3, 4, 2**32 - 1])
def test_rounds_come_in_order(world: World, number: int) -> None:
    _, request, roster = _started(world)
    refused(world, round_request(request, roster, number), "wrong-round")


def test_rounds_end_with_the_analysis(world: World) -> None:
    contract, request, roster = _started(world)
    for number in (1, 2, 3):
        world.total(request, contract, roster, number)
    refused(world, round_request(request, roster, 4), "wrong-round")


def test_a_round_is_answered_for_one_state_only(world: World) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    refused(world, round_request(request, roster, 1, {"round": 7}), "wrong-round")


def test_a_hub_cannot_search_for_a_site_s_own_sum_by_what_overflows(world: World) -> None:
    """Whether a sum fits the ring is about one site, unmasked: one state a round, also then."""
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    message = round_request(request, roster, 2, {"round": 2.0**130})
    refused(world, message, "overflow")
    for guess in (2.0**129, 2.0**128, 2):
        refused(world, round_request(request, roster, 2, {"round": guess}), "wrong-round")
    refused(world, round_request(request, roster, 3), "wrong-round")
    refused(world, message, "overflow")
    assert world.nodes["Alpha"].store.highest_round(RUN_ID) == 1


def test_a_run_that_fails_on_the_data_is_a_run_that_was_used(world: World) -> None:
    """Else a formula that fails for some persons only could be asked for without end."""

    class Fails(RoundSums):
        def local(self, *_: Any) -> Any:
            raise InputError("bad-input", "A transformation is not finite.")

    contract = world.ready()
    world.node("Alpha", store=world.nodes["Alpha"].store, find_analysis=lambda _: Fails())
    for number in range(3):
        request = world.request(contract, run_id=f"{number:032x}")
        refused(world, round_request(request, world.adverts(request)), "bad-input")
    refused(world, world.prepare(world.request(contract, run_id="f" * 32)), "run-limit")


def test_a_round_that_failed_for_want_of_memory_is_answered_when_asked_again(world: World) -> None:
    failures = iter([True, False])

    class Fails(RoundSums):
        def local(self, *given: Any) -> Any:
            if next(failures):
                raise MemoryError
            return super().local(*given)

    contract = world.ready()
    world.node("Alpha", store=world.nodes["Alpha"].store, find_analysis=lambda _: Fails())
    request = world.request(contract)
    message = round_request(request, world.adverts(request))
    with pytest.raises(PeerError):
        world.nodes["Alpha"].ask(message)
    assert world.nodes["Alpha"].ask(message).round_reply.masked


def test_the_first_state_is_not_for_the_hub_to_choose(world: World) -> None:
    _, request, roster = _started(world)
    refused(world, round_request(request, roster, 1, {"round": 7}), "wrong-round")


def test_a_repeated_round_has_the_same_bytes_and_one_entry(world: World) -> None:
    _, request, roster = _started(world)
    node = world.nodes["Alpha"]
    message = round_request(request, roster)
    first = node.ask(message).round_reply.masked
    assert node.ask(message).round_reply.masked == first
    restarted = world.node("Alpha", store=node.store)
    assert restarted.ask(message).round_reply.masked == first
    assert restarted.ask(round_request(request, [])).round_reply.masked == first
    assert len(restarted.decisions(what="round")) == 1


def test_the_parties_cannot_change_within_a_run(world: World) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    refused(world, round_request(request, roster[:2], 2), "roster-mismatch")
    world.node("Alpha", store=world.nodes["Alpha"].store)
    refused(world, round_request(request, roster[:2], 2), "roster-mismatch")


def test_a_site_without_itself_in_the_list(world: World) -> None:
    _, request, roster = _started(world)
    refused(world, round_request(request, roster[1:]), "roster-mismatch")


def test_too_few_parties(world: World) -> None:
    _, request, roster = _started(world)
    refused(world, round_request(request, roster[:1]), "too-few-sites")
    refused(world, round_request(request, []), "too-few-sites")


def test_the_policys_minimum_of_sites(world: World) -> None:
    contract = world.ready(Alpha=Policy(min_sites=3))
    request = world.request(contract)
    roster = world.adverts(request)
    refused(world, round_request(request, roster[:2]), "too-few-sites")


def _forged_key(world: World, request: Any, key: SigningKey, site: str = "Beta") -> bytes:
    _, envelope = Party.prepare(
        site=site,
        run_id=request.run_id,
        contract_digest=request.contract_digest,
        request_digest=request.digest,
        signing_key=key,
    )
    return envelope


def test_a_round_key_that_the_hub_made_up(world: World) -> None:
    _, request, roster = _started(world)
    forged = _forged_key(world, request, STRANGER)
    refused(world, round_request(request, [roster[0], forged, roster[2]]), "unknown-signer")


def test_our_own_key_swapped_for_another_of_ours(world: World) -> None:
    _, request, roster = _started(world)
    forged = _forged_key(world, request, world.keys["Alpha"], "Alpha")
    refused(world, round_request(request, [forged, *roster[1:]]), "roster-mismatch")


def test_a_round_key_of_another_run(world: World) -> None:
    contract, request, roster = _started(world)
    other = world.adverts(world.request(contract, run_id="f" * 32))
    refused(world, round_request(request, [roster[0], other[1], roster[2]]), "wrong-round")


def test_different_lists_at_different_sites_do_not_cancel(world: World) -> None:
    contract, request, roster = _started(world)
    world.nodes["Alpha"].ask(round_request(request, roster[:2]))
    with pytest.raises(ProtocolError) as caught:
        world.total(request, contract, roster)
    assert caught.value.code == "roster-mismatch"


def test_the_same_computation_over_other_parties_is_refused(world: World) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    again = world.request(contract, run_id="f" * 32)
    fewer = world.adverts(again, SITES[:2])
    refused(world, round_request(again, fewer), "differencing")
    # The same parameters, written otherwise, are the same computation.
    spelled = world.request(contract, run_id="e" * 32, params={"variable": "age", "rounds": 3})
    refused(world, round_request(spelled, world.adverts(spelled, SITES[:2])), "differencing")
    world.total(again, contract, world.adverts(again))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_paused, "site-policy"),
        (_removed_researcher, "not-authorised"),
        (_denied_computation, "site-policy"),
        (_expired, "contract-expired"),
    ],
)
def test_what_happens_during_a_run_counts_at_once(world: World, spoil: Any, code: str) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    spoil(world, contract)
    refused(world, round_request(request, roster, 2), code)
    refused(world, round_request(request, roster, 1), code)


def test_a_contract_that_lacks_the_sites_limits_runs_nothing(world: World) -> None:
    contract = world.ready()
    policy = world.nodes["Alpha"].policy
    policy[0] = Policy(rounding=5, min_cohort=30)
    error = refused(world, world.prepare(world.request(contract)), "site-policy")
    assert "min_cohort: 30, rounding: 5" in error.message
    policy[0] = Policy()
    world.nodes["Alpha"].ask(world.prepare(world.request(contract)))


def test_limits_that_change_during_a_run_stop_it(world: World) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    world.nodes["Alpha"].policy[0] = Policy(min_cell=20)
    refused(world, round_request(request, roster, 1), "site-policy")


def test_the_same_computation_under_other_limits_is_refused(world: World) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    world.nodes["Alpha"].policy[0] = Policy(min_cell=20)
    again = world.request(contract, run_id="f" * 32)
    refused(world, round_request(again, world.adverts(again)), "differencing")
    world.nodes["Alpha"].policy[0] = Policy()
    once_more = world.request(contract, run_id="e" * 32)
    world.total(once_more, contract, world.adverts(once_more))


def test_data_that_change_during_a_run_stop_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    node = world.nodes["Alpha"]
    table = node.service.datasets.table

    def halved(*args: Any) -> Any:
        whole = table(*args)
        return whole.take(whole.columns["age"] > 15)

    monkeypatch.setattr(node.service.datasets, "table", halved)
    with pytest.raises(PeerError) as caught:
        node.ask(round_request(request, roster, 1))
    assert caught.value.code == "peer-failed"
    assert node.decisions(what="round", code="broken-store", allowed=False)


def test_a_finished_run_answers_no_more_and_forgets_its_secret(world: World) -> None:
    contract, request, roster = _started(world)
    world.total(request, contract, roster)
    node = world.nodes["Alpha"]
    node.ask(run_end(request, "succeeded"))
    stored = node.store.run(RUN_ID)
    assert stored is not None
    assert stored.secret is None
    refused(world, round_request(request, roster, 2), "wrong-round")
    node.ask(run_end(request, "succeeded"))
    assert len(node.decisions(what="end")) == 1


def test_a_failed_run_may_be_resumed(world: World) -> None:
    contract, request, roster = _started(world)
    first = world.nodes["Alpha"].ask(round_request(request, roster)).round_reply.masked
    world.nodes["Alpha"].ask(run_end(request, "failed"))
    world.now += timedelta(hours=2)
    assert world.adverts(request) == roster
    assert world.nodes["Alpha"].ask(round_request(request, roster)).round_reply.masked == first
    world.total(request, contract, roster, 1)


def test_stricter_limits_of_one_site_count_for_its_part(world: World) -> None:
    contract = world.ready(Gamma=Policy(min_cell=13))
    request = world.request(contract)
    total = world.total(request, contract, world.adverts(request))
    assert int(total["n"]) == 24


# Messages


@pytest.mark.parametrize(
    "message",
    [
        pb.Message(),
        pb.Message(ack=pb.Ack()),
        pb.Message(hello=pb.Hello()),
        pb.Message(run_prepare=pb.RunPrepare(request_envelope=b"\xff")),
        pb.Message(run_prepare=pb.RunPrepare()),
        pb.Message(contract_proposal=pb.ContractProposal(envelope=b"{}")),
        pb.Message(contract_active=pb.ContractActive(contract_digest="x")),
        pb.Message(round_request=pb.RoundRequest(run_id="\U0001f600" * 100, state_json=b"[")),
        pb.Message(round_request=pb.RoundRequest(state_json=b"[]")),
        pb.Message(run_end=pb.RunEnd(run_id="x", outcome="odd")),
    ],
    ids=range(10),
)
def test_garbage_is_refused_with_an_error_of_ours(world: World, message: pb.Message) -> None:
    world.ready()
    with pytest.raises((PolicyRefusal, ProtocolError, VerificationError)):
        world.nodes["Alpha"].ask(message)


def test_an_unexpected_failure_says_nothing_and_is_recorded(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, request, roster = _started(world)
    node = world.nodes["Alpha"]

    def leak(*_args: Any) -> Any:
        raise ValueError("Mrs. Smith, 63")

    monkeypatch.setattr(node.service.datasets, "table", leak)
    with pytest.raises(CohortiumError) as caught:
        node.ask(round_request(request, roster))
    assert caught.value.code == "peer-failed"
    assert "Smith" not in caught.value.message + caplog.text
    assert node.decisions(what="round", code="internal", allowed=False)


def _review(world: World, contract: Contract) -> consent.Review:
    node = world.nodes["Alpha"]
    return consent.review(node.service, consent.find_contract(node.store, contract.digest))


# Consent


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"security_level": "L2"}, "unenforceable"),
        ({"dataset_digest": "sha256:" + "0" * 64}, "bad-digest"),
        ({"dataset": "others"}, "not-found"),
        ({"sources": {"age": "height"}}, "not-found"),
        ({"expires_at": NOW}, "contract-expired"),
        ({"computations": (Computation(name="denied"),)}, "site-policy"),
        ({"recipients": (Researcher(name="Dr. No", key=STRANGER.public),)}, "site-policy"),
    ],
)
def test_a_contract_that_this_site_cannot_keep_is_not_signed(
    world: World, changes: dict[str, Any], code: str
) -> None:
    of_site = {"dataset_digest", "dataset", "sources"}
    parties = list(world.contract().participants)
    own = {**parties[0].to_json(), **{k: v for k, v in changes.items() if k in of_site}}
    parties[0] = Participant.model_validate(own)
    rest = {k: v for k, v in changes.items() if k not in of_site}
    contract = world.contract(participants=tuple(parties), **rest)
    policy = Policy(deny_computations=("denied",), deny_researchers=("Dr. No",))
    node = world.node("Alpha", policy=policy)
    world.propose(node, contract)
    reviewed = _review(world, contract)
    assert code in [problem.code for problem in reviewed.problems]
    with pytest.raises(CohortiumError):
        consent.sign(node.service, reviewed)
    assert node.store.owed() == []
    assert node.decisions(what="sign", allowed=False)


def test_another_key_under_our_name_is_refused_on_arrival(world: World) -> None:
    world.node("Alpha")
    contract = world.contract()
    parties = list(contract.participants)
    parties[0] = parties[0].model_copy(update={"key": STRANGER.public})
    swapped = world.contract(participants=tuple(parties))
    refused(world, world.proposal(swapped), "key-mismatch")


def test_a_contract_slipped_in_after_the_review_is_not_signed_for_the_reviewed_one(
    world: World,
) -> None:
    node = world.node("Alpha")
    contract = world.contract()
    world.propose(node, contract)
    prefix = contract.digest.removeprefix("sha256:")[:10]
    for name in (contract.study, prefix):
        assert consent.find_contract(node.store, name).digest == contract.digest
    world.propose(node, world.contract(disclosure={"min_cell": 1}))
    world.propose(node, world.contract(study=prefix))
    for name in (contract.study, prefix):
        with pytest.raises(InputError) as caught:
            consent.find_contract(node.store, name)
        assert contract.digest in caught.value.details["contracts"]
    assert consent.find_contract(node.store, contract.digest).digest == contract.digest


@pytest.mark.parametrize(("own", "by_contract", "said"), [(2, 2, 1), (3, 2, 0), (2, 3, 0)])
def test_a_steward_is_told_that_sites_may_be_left_out(
    world: World, own: int, by_contract: int, said: int
) -> None:
    contract = world.contract(min_sites=by_contract)
    world.propose(world.node("Alpha", policy=Policy(min_sites=own)), contract)
    told = [line for line in _review(world, contract).warnings if "`min_sites: 3`" in line]
    assert len(told) == said


def test_signing_pins_the_others_and_owes_one_vote(world: World) -> None:
    node = world.node("Alpha")
    contract = world.contract()
    world.propose(node, contract)
    reviewed = _review(world, contract)
    assert {known.status for known in reviewed.keys} == {"this site", "new"}
    assert any("2 contributing sites" in warning for warning in reviewed.warnings)
    envelope = consent.sign(node.service, reviewed)
    assert consent.sign(node.service, reviewed) == envelope
    assert [owed.body for owed in node.store.owed()] == [envelope]
    assert node.store.peers() == {n: world.keys[n].public for n in ("Beta", "Gamma")}
    assert len(node.decisions(what="sign")) == 1
