"""What a node answers in the steps of the secure sum, and what it refuses; five sites, of which
four open a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import FIVE, RUN_ID, SITES, World, expected, run_end
from tests.support.by_hand import HubByHand

from cohortium.contract.model import Contract
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node.policy import Policy
from cohortium.secagg.keys import Channel, agree, public_key
from cohortium.secagg.messages import KeyShare
from cohortium.secagg.party import Party
from cohortium.secagg.shamir import SHARE_BYTES, combine

FOUR = FIVE[:4]
GONE = FIVE[4]
OTHER_FOUR = (*SITES, GONE)
EVERYONE = frozenset(FIVE)
SEPARATE = "test.separate"


@pytest.fixture
def world() -> World:
    return World(sites=FIVE, min_sites=3)


@pytest.fixture
def hub(world: World) -> HubByHand:
    """An exact statistic: all its sums are over one set of sites."""
    return HubByHand.begun(world, world.ready())


@pytest.fixture
def separate(world: World) -> HubByHand:
    """Each round stands alone."""
    return HubByHand.begun(world, world.ready(), computation=SEPARATE)


def memory(world: World, site: str) -> list[Any]:
    """Everything that a node keeps of runs."""
    tables = ("runs", "rounds", "party_rounds", "summed", "noise")
    store = world.nodes[site].store
    return [store.execute(f"SELECT * FROM {table}") for table in tables]


def refused(world: World, message: pb.Message, code: str, site: str = "Alpha") -> CohortiumError:
    """The node refuses with `code`, writes that down, and nothing else."""
    node = world.nodes[site]
    kept, before = memory(world, site), len(node.decisions())
    with pytest.raises(CohortiumError) as caught:
        node.ask(message)
    assert caught.value.code == code, caught.value.message
    written = node.decisions()[before:]
    assert [(entry["allowed"], entry["code"]) for entry in written] == [(False, code)]
    assert written[0]["why"] == caught.value.message
    assert "run_id" in written[0]
    assert memory(world, site) == kept
    return caught.value


def steps(world: World, site: str, run_id: str = RUN_ID) -> list[tuple[str, int]]:
    """(what, round) of what a node wrote down that it did in a run's rounds."""
    entries = world.nodes[site].decisions(run_id=run_id, allowed=True)
    return [(e["what"], e["round"]) for e in entries if "round" in e]


# A whole round


def test_five_sites_are_summed_and_each_wrote_down_what_it_opened(
    world: World, hub: HubByHand
) -> None:
    total = hub.round()
    assert {k: v.tolist() for k, v in total.items()} == expected(FIVE)
    for site in FIVE:
        assert steps(world, site) == [("round", 1), ("unmask", 1)]
        (entry,) = world.nodes[site].decisions(what="unmask")
        assert entry["survivors"] == sorted(FIVE)
        assert (entry["computation"], entry["run_id"]) == ("test.sum", RUN_ID)


def test_four_of_five_are_summed_and_each_wrote_down_for_whom(world: World, hub: HubByHand) -> None:
    hub.input(GONE)  # it arrives too late to count
    total = hub.round(survivors=FOUR)
    assert {k: v.tolist() for k, v in total.items()} == expected(FOUR)
    for site in FOUR:
        assert steps(world, site) == [("round", 1), ("survivors", 1), ("unmask", 1)]
        for what in ("survivors", "unmask"):
            (entry,) = world.nodes[site].decisions(what=what)
            assert entry["survivors"] == sorted(FOUR)
    assert steps(world, GONE) == [("round", 1)]


# Step 1, ShareKeys


def test_keys_are_shared_again_with_the_same_bytes_and_not_written_down(
    world: World, hub: HubByHand
) -> None:
    kept = memory(world, "Alpha")
    first = dict(hub.keys[1])
    hub.share()
    assert hub.keys[1] == first
    world.node("Alpha", store=world.nodes["Alpha"].store)
    hub.share()
    assert hub.keys[1] == first
    assert set(first["Alpha"].sealed) == EVERYONE - {"Alpha"}
    assert len({keys.mask_key for keys in first.values()}) == 5
    assert memory(world, "Alpha") == kept
    assert not world.nodes["Alpha"].decisions(what="share-keys")


def test_the_keys_that_come_with_a_masked_input_are_the_ones_that_can_be_asked_for(
    hub: HubByHand,
) -> None:
    hub.inputs()
    with_inputs = hub.keys.pop(2)
    hub.share(2)
    assert hub.keys[2] == with_inputs
    assert {k.mask_key for k in hub.keys[2].values()}.isdisjoint(
        k.mask_key for k in hub.keys[1].values()
    )


@pytest.mark.parametrize("number", [0, 2, 2**32 - 1])
def test_keys_for_a_round_that_cannot_come_next(world: World, hub: HubByHand, number: int) -> None:
    refused(world, hub.share_request(number), "wrong-round")


@pytest.mark.parametrize("number", [0, 4])
def test_a_site_that_was_away_shares_keys_for_any_round_of_the_analysis(
    world: World, separate: HubByHand, number: int
) -> None:
    separate.share(3, ["Alpha"])
    refused(world, separate.share_request(number), "wrong-round")


def test_keys_of_a_round_that_is_past(world: World, separate: HubByHand) -> None:
    first = world.nodes["Alpha"].ask(separate.share_request(1))
    separate.round()
    separate.round(2)
    again = world.nodes["Alpha"].ask(separate.share_request(1))
    assert again == first
    refused(world, separate.share_request(0), "wrong-round")


def test_keys_of_a_run_that_nobody_ordered(world: World, hub: HubByHand) -> None:
    message = hub.share_request()
    message.share_request.run_id = "f" * 32
    refused(world, message, "wrong-round")


def test_keys_for_other_parties(world: World, hub: HubByHand) -> None:
    without = hub.share_request()
    del without.share_request.roster[0]
    refused(world, without, "roster-mismatch")
    none = hub.share_request()
    del none.share_request.roster[:]
    refused(world, none, "too-few-sites")
    hub.input("Alpha")
    fewer = hub.share_request(2)
    del fewer.share_request.roster[4]
    refused(world, fewer, "roster-mismatch")
    # Once the parties are known, they need not be sent again.
    world.nodes["Alpha"].ask(pb.Message(share_request=pb.ShareRequest(run_id=RUN_ID, round=2)))


def test_no_keys_are_shared_where_every_party_must_be_there() -> None:
    world = World(sites=FIVE, min_sites=5)
    contract = world.ready()
    request = world.request(contract)
    hub = HubByHand(lambda _site, _message: pb.Message(), contract, request, world.adverts(request))
    assert not hub.parties.recoverable
    refused(world, hub.share_request(), "unexpected-message")


# Step 2, MaskedInputCollection


def test_a_masked_input_is_given_again_with_the_same_bytes_and_one_entry(
    world: World, hub: HubByHand
) -> None:
    first = hub.input("Alpha")
    assert hub.input("Alpha") == first
    world.node("Alpha", store=world.nodes["Alpha"].store)
    assert hub.input("Alpha") == first
    assert steps(world, "Alpha") == [("round", 1)]
    hub.round(survivors=FOUR)
    assert hub.input("Alpha") == first


def test_a_round_without_this_site(world: World, hub: HubByHand) -> None:
    others = FIVE[1:]
    refused(world, hub.question("Alpha", active=others, shares={}), "roster-mismatch")


def test_a_round_of_too_few(world: World, hub: HubByHand) -> None:
    refused(world, hub.question("Alpha", active=SITES), "too-few-sites")


@pytest.mark.parametrize("bits", [b"\x3f", b"\x1f\x00", b"\xff"])
def test_a_round_of_parties_that_are_not_there(world: World, hub: HubByHand, bits: bytes) -> None:
    message = hub.question("Alpha")
    message.round_request.active = bits
    refused(world, message, "malformed-message")


def _missing(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    del shares["Beta"]


def _none(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    shares.clear()


def _swapped(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    shares["Beta"], shares["Gamma"] = shares["Gamma"], shares["Beta"]


def _other_mask_key(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = KeyShare(public_key(bytes(range(32))), shares["Beta"].sealed)


def _mask_key_of_another(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = KeyShare(shares["Gamma"].mask_key, shares["Beta"].sealed)


def _altered(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    sealed = shares["Beta"].sealed
    shares["Beta"] = KeyShare(shares["Beta"].mask_key, bytes([sealed[0] ^ 1]) + sealed[1:])


def _short(shares: dict[str, KeyShare], _other: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = KeyShare(shares["Beta"].mask_key, shares["Beta"].sealed[:-1])


def _of_another_round(shares: dict[str, KeyShare], other: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = other["Beta"]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_missing, "roster-mismatch"),
        (_none, "roster-mismatch"),
        (_swapped, "bad-share"),
        (_other_mask_key, "bad-share"),
        (_mask_key_of_another, "bad-share"),
        (_altered, "bad-share"),
        (_short, "bad-share"),
        (_of_another_round, "bad-share"),
    ],
)
def test_shares_that_the_neighbours_did_not_seal_for_this_round(
    world: World, separate: HubByHand, spoil: Callable[..., None], code: str
) -> None:
    separate.share(2)
    shares = separate.shares_for("Alpha", 1, FIVE)
    spoil(shares, separate.shares_for("Alpha", 2, FIVE))
    error = refused(world, separate.question("Alpha", shares=shares), code)
    if code == "bad-share":
        assert error.details["site"] in {"Beta", "Gamma"}


def test_one_partys_shares_twice(world: World, hub: HubByHand) -> None:
    message = hub.question("Alpha")
    message.round_request.shares.append(message.round_request.shares[0])
    refused(world, message, "malformed-message")


def test_an_answered_round_for_other_parties(world: World, hub: HubByHand) -> None:
    hub.input("Alpha")
    refused(world, hub.question("Alpha", active=FOUR), "wrong-round")


def test_an_answered_round_for_other_keys_of_a_peer_that_lies(world: World, hub: HubByHand) -> None:
    """Beta seals two mask keys for one round; each by itself is good."""
    first = hub.input("Alpha")
    roster, secret = hub.parties.roster, world.nodes["Beta"].drawn[-1]
    channel = Channel(agree(secret, roster.keys["Alpha"], ""), roster.digest, "Beta", "Alpha")
    other = public_key(bytes(range(32)))
    lie = KeyShare(other, channel.seal(1, other, bytes(2 * SHARE_BYTES)))
    shares = hub.shares_for("Alpha", 1, FIVE)
    refused(world, hub.question("Alpha", shares={**shares, "Beta": lie}), "wrong-round")
    # The same key with other shares: what was sealed first stays.
    lie = KeyShare(shares["Beta"].mask_key, channel.seal(1, shares["Beta"].mask_key, bytes(66)))
    refused(world, hub.question("Alpha", shares={**shares, "Beta": lie}), "wrong-round")
    assert hub.input("Alpha") == first


# Steps 3 and 4, ConsistencyCheck and Unmasking


def test_a_list_is_signed_again_alike_and_written_down_once(world: World, hub: HubByHand) -> None:
    hub.inputs()
    signature = hub.sign("Alpha", FOUR)
    assert hub.sign("Alpha", FOUR) == signature
    world.node("Alpha", store=world.nodes["Alpha"].store)
    assert hub.sign("Alpha", FOUR) == signature
    assert steps(world, "Alpha") == [("round", 1), ("survivors", 1)]


def test_what_is_opened_are_seeds_of_survivors_and_the_mask_key_of_who_dropped(
    world: World, hub: HubByHand
) -> None:
    hub.inputs()
    signatures = hub.signed(FOUR)
    answers = {site: hub.unmask(site, FOUR, signatures=signatures) for site in FOUR}
    assert all(set(answer.shares) == EVERYONE for answer in answers.values())
    opened = {
        owner: combine({hub.parties.point(s): a.shares[owner] for s, a in answers.items()}, 4)
        for owner in FIVE
    }
    mask_keys = {site: keys.mask_key for site, keys in hub.keys[1].items()}
    assert public_key(opened[GONE]) == mask_keys[GONE]
    assert not {public_key(opened[site]) for site in FOUR} & set(mask_keys.values())
    # The same again, also after a restart; written down once.
    world.node("Alpha", store=world.nodes["Alpha"].store)
    assert hub.unmask("Alpha", FOUR, signatures=signatures) == answers["Alpha"]
    assert steps(world, "Alpha") == [("round", 1), ("survivors", 1), ("unmask", 1)]


def test_where_nobody_dropped_no_signatures_are_needed(world: World, hub: HubByHand) -> None:
    hub.inputs()
    assert hub.unmask("Alpha", FIVE) == hub.unmask("Alpha", FIVE)
    assert steps(world, "Alpha") == [("round", 1), ("unmask", 1)]


STEPS: tuple[Callable[..., pb.Message], ...] = (
    HubByHand.consistency_request,
    HubByHand.unmask_request,
)


@pytest.mark.parametrize("step", STEPS)
def test_a_list_before_the_masked_input(world: World, hub: HubByHand, step: Any) -> None:
    refused(world, step(hub, FIVE), "wrong-round")  # the parties are not even known yet
    hub.round()
    refused(world, step(hub, FIVE, 2), "wrong-round")
    refused(world, step(hub, FIVE, 0), "wrong-round")


@pytest.mark.parametrize("step", STEPS)
def test_a_list_of_an_older_round(world: World, separate: HubByHand, step: Any) -> None:
    separate.inputs()
    separate.inputs(number=2)
    refused(world, step(separate, FIVE, 1), "wrong-round")
    separate.round(2)
    refused(world, step(separate, FIVE, 1), "wrong-round")


@pytest.mark.parametrize("step", STEPS)
def test_a_list_of_a_run_that_nobody_ordered(world: World, hub: HubByHand, step: Any) -> None:
    hub.inputs()
    message = step(hub, FIVE)
    (message.consistency_request if step is STEPS[0] else message.unmask_request).run_id = "f" * 32
    refused(world, message, "wrong-round")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("survivors", "code"),
    [
        (FIVE[1:], "roster-mismatch"),  # without this site
        (SITES, "too-few-sites"),
        (("Alpha",), "too-few-sites"),
    ],
)
def test_a_list_that_no_round_may_end_with(
    world: World, hub: HubByHand, step: Any, survivors: tuple[str, ...], code: str
) -> None:
    hub.inputs()
    refused(world, step(hub, survivors), code)


@pytest.mark.parametrize("step", STEPS)
def test_a_list_with_a_party_that_was_not_in_the_round(
    world: World, hub: HubByHand, step: Any
) -> None:
    hub.inputs(FOUR, active=FOUR)
    refused(world, step(hub, FIVE), "roster-mismatch")
    refused(world, step(hub, OTHER_FOUR), "roster-mismatch")


@pytest.mark.parametrize("bits", [b"", b"\x3f", b"\x1f\x00"])
def test_a_list_that_does_not_fit_the_parties(world: World, hub: HubByHand, bits: bytes) -> None:
    hub.inputs()
    survivors = pb.SurvivorList(run_id=RUN_ID, round=1, survivors=bits)
    refused(world, pb.Message(consistency_request=survivors), "malformed-message")
    refused(world, pb.Message(unmask_request=survivors), "malformed-message")


def test_signatures_that_no_party_can_have_made(world: World, hub: HubByHand) -> None:
    hub.inputs()
    signatures = hub.signed(FOUR)
    for party in (0, 5, 2**32 - 1):  # there twice; not there
        message = hub.unmask_request(FOUR, signatures=signatures)
        message.unmask_request.signatures.add(party=party, data=bytes(64))
        refused(world, message, "malformed-message")


LISTS = [(FOUR, OTHER_FOUR), (FOUR, FIVE), (FIVE, FOUR)]


@pytest.mark.parametrize(("first", "second"), LISTS)
def test_a_site_signs_one_list_of_a_round(
    world: World, hub: HubByHand, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    hub.inputs()
    hub.sign("Alpha", first)
    for message in (hub.consistency_request(second), hub.unmask_request(second)):
        error = refused(world, message, "other-survivors")
        assert error.details["survivors"] == sorted(first)
    world.node("Alpha", store=world.nodes["Alpha"].store)
    refused(world, hub.consistency_request(second), "other-survivors")


def test_a_site_that_opened_one_list_neither_signs_nor_opens_another(
    world: World, hub: HubByHand
) -> None:
    hub.inputs()
    hub.unmask("Alpha", FIVE)
    signatures = hub.signed(FOUR, by=FOUR[1:])
    refused(world, hub.consistency_request(FOUR), "other-survivors")
    refused(world, hub.unmask_request(FOUR, signatures=signatures), "other-survivors")


def test_without_a_quorum_nothing_is_opened_for_fewer(world: World, hub: HubByHand) -> None:
    hub.inputs()
    refused(world, hub.unmask_request(FOUR), "too-few-sites")
    three = hub.signed(FOUR, by=FOUR[1:])
    refused(world, hub.unmask_request(FOUR, signatures=three), "too-few-sites")
    # It has agreed to nothing by that.
    hub.unmask("Alpha", FIVE)


def test_signatures_of_another_list_round_or_site(world: World, separate: HubByHand) -> None:
    separate.inputs()
    old = separate.signed(FOUR)
    separate.inputs(number=2)
    good = separate.signed(FOUR, 2, by=FOUR[1:])
    of_gone = separate.sign(GONE, OTHER_FOUR, 2)
    alpha = separate.sign("Alpha", FOUR, 2)
    refuse: list[tuple[Mapping[str, bytes], str]] = [
        ({**good, "Alpha": old["Alpha"]}, "bad-signature"),
        ({**good, "Alpha": of_gone}, "bad-signature"),
        ({**good, "Alpha": good["Beta"]}, "bad-signature"),
        ({**good, "Alpha": bytes(64)}, "bad-signature"),
        ({**good, "Alpha": b""}, "bad-signature"),
        ({**good, GONE: of_gone}, "unexpected-message"),
        ({**good, "Alpha": alpha, GONE: of_gone}, "unexpected-message"),
        (old, "bad-signature"),
    ]
    for signatures, code in refuse:
        refused(world, separate.unmask_request(FOUR, 2, signatures), code)
    separate.unmask("Alpha", FOUR, 2, {**good, "Alpha": alpha})


def test_the_sites_own_minimum_counts_when_masks_are_opened() -> None:
    world = World(sites=FIVE, min_sites=3)
    hub = HubByHand.begun(world, world.ready())
    hub.inputs()
    world.nodes["Alpha"].policy[0] = Policy(min_sites=5)
    refused(world, hub.consistency_request(FOUR), "too-few-sites")
    signatures = hub.signed(FOUR, by=FOUR[1:])
    refused(world, hub.unmask_request(FOUR, signatures=signatures), "too-few-sites")
    hub.unmask("Alpha", FIVE)


def test_a_site_takes_no_part_where_fewer_than_its_own_minimum_could_end_a_round() -> None:
    """The others could open the sum, with its contribution, without its help."""
    world = World(sites=FIVE, min_sites=3)
    hub = HubByHand.begun(world, world.ready(Alpha=Policy(min_sites=5)))
    refused(world, hub.question("Alpha"), "too-few-sites")
    hub.input("Beta")


def _paused(world: World, _contract: Contract) -> None:
    world.nodes["Alpha"].policy[0] = Policy(paused=True)


def _denied(world: World, _contract: Contract) -> None:
    world.nodes["Alpha"].policy[0] = Policy(deny_computations=("test.*",))


def _other_limits(world: World, _contract: Contract) -> None:
    world.nodes["Alpha"].policy[0] = Policy(min_cell=20)


def _expired(world: World, contract: Contract) -> None:
    world.now = contract.expires_at


def _removed(world: World, _contract: Contract) -> None:
    revocation = pb.Revocation(revoked_keys=[world.researcher.public])
    world.nodes["Alpha"].ask(pb.Message(revocation=revocation))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_paused, "site-policy"),
        (_denied, "site-policy"),
        (_other_limits, "site-policy"),
        (_expired, "contract-expired"),
        (_removed, "not-authorised"),
    ],
)
def test_what_happens_between_the_steps_counts_at_once(
    world: World, hub: HubByHand, spoil: Callable[..., None], code: str
) -> None:
    hub.inputs()
    signatures = hub.signed(FOUR)
    spoil(world, hub.contract)
    for message in (
        hub.share_request(2),
        hub.question("Alpha", 2),
        hub.consistency_request(FOUR),
        hub.unmask_request(FOUR, signatures=signatures),
    ):
        refused(world, message, code)


@pytest.mark.parametrize("outcome", ["succeeded", "cancelled"])
def test_a_run_that_is_over_opens_nothing(world: World, hub: HubByHand, outcome: str) -> None:
    hub.inputs()
    signatures = hub.signed(FOUR)
    world.nodes["Alpha"].ask(run_end(hub.request, outcome))
    for message in (
        hub.share_request(2),
        hub.question("Alpha"),
        hub.consistency_request(FOUR),
        hub.unmask_request(FOUR, signatures=signatures),
    ):
        refused(world, message, "wrong-round")
    # What it had to remember of its rounds is gone with its secret.
    assert world.nodes["Alpha"].store.party_round(RUN_ID, 1) is None


def test_a_run_that_failed_goes_on_with_the_same_answers(world: World, hub: HubByHand) -> None:
    hub.inputs()
    signatures = hub.signed(FOUR)
    world.nodes["Alpha"].ask(run_end(hub.request, "failed"))
    world.node("Alpha", store=world.nodes["Alpha"].store)
    assert hub.sign("Alpha", FOUR) == signatures["Alpha"]
    hub.round(survivors=FOUR)


# One set of parties: an exact statistic


def test_the_rounds_after_the_first_are_over_its_survivors(world: World, hub: HubByHand) -> None:
    hub.input(GONE)
    hub.round(survivors=FOUR)
    stored = world.nodes["Alpha"].store.run(RUN_ID)
    assert stored is not None
    assert stored.sites == '["Alpha","Beta","Gamma","Kappa"]'
    refused(world, hub.question("Alpha", 2), "differencing")
    hub.share(2, [GONE])
    refused(world, hub.question("Alpha", 2, active=OTHER_FOUR), "differencing")
    total = hub.round(2, active=FOUR)
    assert {k: v.tolist() for k, v in total.items()} == expected(FOUR, 2)


def test_after_the_first_round_nobody_is_left_out(world: World, hub: HubByHand) -> None:
    hub.round()
    refused(world, hub.question("Alpha", 2, active=FOUR), "differencing")
    hub.inputs(number=2)
    refused(world, hub.consistency_request(FOUR, 2), "differencing")
    refused(world, hub.unmask_request(FOUR, 2), "differencing")
    hub.round(2)
    refused(world, hub.question("Alpha", 3, active=FOUR), "differencing")


def test_a_survivor_that_did_not_hear_of_the_drop_out_learns_it_with_the_second_round(
    world: World, hub: HubByHand
) -> None:
    """Its mask was opened by the others; it has answered for no list, and so for no other."""
    world = World(sites=(*FIVE, "Tau", "Theta"), min_sites=3)
    hub = HubByHand.begun(world, world.ready())
    gone, silent = "Theta", "Alpha"
    left = frozenset(world.sites) - {gone}
    hub.inputs(left)
    signatures = hub.signed(left, by=left - {silent})
    for site in left - {silent}:
        hub.unmask(site, left, signatures=signatures)
    hub.input(silent, 2, active=left)
    stored = world.nodes[silent].store.run(RUN_ID)
    assert stored is not None
    assert gone not in str(stored.sites)
    refused(world, hub.question(silent, 3), "differencing", silent)


def test_the_second_round_shrinks_once(world: World, hub: HubByHand) -> None:
    hub.inputs()
    hub.input("Alpha", 2, active=FOUR)
    refused(world, hub.question("Alpha", 3), "differencing")
    refused(world, hub.question("Alpha", 3, active=OTHER_FOUR), "differencing")


def test_a_survivors_list_that_an_earlier_run_was_not_over(world: World, hub: HubByHand) -> None:
    hub.round()
    second = HubByHand.begun(world, hub.contract, run_id="e" * 32)
    second.inputs()
    refused(world, second.consistency_request(FOUR), "differencing")
    refused(world, second.unmask_request(FOUR), "differencing")
    third = HubByHand.begun(world, hub.contract, run_id="d" * 32)
    refused(world, third.question("Alpha", active=FOUR), "differencing")
    assert second.round()["n"] == 60


def test_after_a_drop_out_the_same_computation_is_done_with_the_same_survivors(
    world: World, hub: HubByHand
) -> None:
    hub.round(survivors=FOUR)
    second = HubByHand.begun(world, hub.contract, run_id="e" * 32)
    refused(world, second.question("Alpha"), "differencing")
    assert second.round(active=FOUR)["n"] == 48


# Separate rounds


def test_a_site_that_was_away_joins_the_next_round(world: World, separate: HubByHand) -> None:
    separate.round(survivors=FOUR)
    separate.share(2, [GONE])
    total = separate.round(2)
    assert {k: v.tolist() for k, v in total.items()} == expected(FIVE, 2)
    refused(world, separate.question(GONE), "wrong-round", GONE)
    assert steps(world, GONE) == [("round", 2), ("unmask", 2)]


def test_a_site_may_join_at_the_last_round(world: World, separate: HubByHand) -> None:
    separate.round(survivors=FOUR)
    separate.round(2, active=FOUR)
    separate.share(3, [GONE])
    assert separate.round(3)["n"] == 60


def test_a_state_is_answered_in_one_round(world: World, separate: HubByHand) -> None:
    """Else the sums with and without a site that seems to drop would show it."""
    separate.round()
    for active in (FIVE, FOUR):
        message = separate.question("Alpha", 2, active=active, values={"round": 1})
        refused(world, message, "differencing")
    separate.round(2)
    message = separate.question("Alpha", 3, values={"round": 2})
    refused(world, message, "differencing")
    separate.round(3, values={"round": 99})


def test_a_round_may_shrink_after_the_first(world: World, separate: HubByHand) -> None:
    separate.round()
    total = separate.round(2, survivors=OTHER_FOUR)
    assert {k: v.tolist() for k, v in total.items()} == expected(OTHER_FOUR, 2)


def test_the_first_round_of_separate_rounds_is_over_the_parties_of_an_earlier_run(
    world: World, separate: HubByHand
) -> None:
    separate.round()
    second = HubByHand.begun(world, separate.contract, run_id="e" * 32, computation=SEPARATE)
    refused(world, second.question("Alpha", active=FOUR), "differencing")
    second.inputs()
    refused(world, second.consistency_request(FOUR), "differencing")
    # Nor by beginning later.
    third = HubByHand.begun(world, separate.contract, run_id="d" * 32, computation=SEPARATE)
    third.share(2)
    message = third.question("Alpha", 2, active=FOUR, values={"round": 1})
    refused(world, message, "differencing")


def test_a_later_round_too_is_over_the_parties_of_an_earlier_run_in_the_same_state(
    world: World, separate: HubByHand
) -> None:
    separate.round()
    separate.round(2)
    second = HubByHand.begun(world, separate.contract, run_id="e" * 32, computation=SEPARATE)
    second.round()
    refused(world, second.question("Alpha", 2, active=FOUR), "differencing")
    second.inputs(number=2)
    refused(world, second.consistency_request(FOUR, 2), "differencing")
    refused(world, second.unmask_request(FOUR, 2), "differencing")
    second.round(2)
    # Another state is another contribution.
    second.round(3, survivors=FOUR)
    third = HubByHand.begun(world, separate.contract, run_id="d" * 32, computation=SEPARATE)
    third.share(3)
    refused(world, third.question("Alpha", 3), "differencing")
    third.share(2)
    refused(world, third.question("Alpha", 2, active=OTHER_FOUR), "differencing")
    third.inputs(FIVE)


# More than 64 sites: a site has some neighbours only


def test_where_not_all_are_neighbours_the_parties_of_a_round_stay_what_they_are() -> None:
    names = tuple(f"site-{number:02d}" for number in range(66))
    world = World(sites=names, min_sites=3)
    contract = world.contract()
    me, others = names[0], names[1:]
    world.agree(world.node(me), contract)
    request = world.request(contract)
    made = {
        site: Party.prepare(
            site=site,
            run_id=RUN_ID,
            contract_digest=contract.digest,
            request_digest=request.digest,
            signing_key=world.keys[site],
            random=lambda size, number=number: bytes([number]) * size,  # type: ignore[misc]
        )
        for number, site in enumerate(others, 100)
    }
    roster = [*world.adverts(request, (me,)), *(advert for _, advert in made.values())]
    hub = HubByHand(lambda site, message: world.nodes[site].ask(message), contract, request, roster)
    neighbours = hub.parties.neighbours(me)
    assert len(neighbours) < len(others)
    hub.keys[1] = {
        peer: Party(peer, made[peer][0], hub.parties).share_keys(1) for peer in sorted(neighbours)
    }
    first = hub.input(me)
    assert hub.input(me) == first
    # Without somebody whose shares it does not get anyway.
    stranger = min(set(others) - neighbours)
    fewer = frozenset(names) - {stranger}
    error = refused(world, hub.question(me, active=fewer), "wrong-round", me)
    assert "other parties" in error.message
    # Here a list needs signatures also where nobody dropped.
    refused(world, hub.unmask_request(names), "too-few-sites", me)


def test_time_passes_between_the_steps_of_a_run(world: World, hub: HubByHand) -> None:
    """A run outlives its request's validity, not its contract."""
    hub.inputs()
    world.now += timedelta(days=5)
    assert hub.round(survivors=FOUR)["n"] == 48
