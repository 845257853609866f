from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.support.secagg import BINDING, Play, World, aggregate, seed

from cohortium.core.rounds import FieldSpec, Layout
from cohortium.errors import CohortiumError, ConflictError, PolicyRefusal, ProtocolError
from cohortium.secagg.aggregator import TIME_IS_UP, Aggregator, AggregatorRound, Incoming
from cohortium.secagg.keys import public_key
from cohortium.secagg.messages import MaskedInput, SurvivorList, SurvivorSignature, Unmasking
from cohortium.secagg.shamir import PRIME, SHARE_BYTES
from cohortium.secagg.survivors import statement

LAYOUT: Layout = {"n": FieldSpec((2,), "count"), "x": FieldSpec((3,), "real")}
THREE, FIVE = "abc", "abcde"
VALUES: Mapping[str, Any] = {
    site: {"n": np.array([10**number, -number]), "x": np.array([0.1, -1e9, number])}
    for number, site in enumerate(FIVE)
}


def refused(code: str, step: Callable[[], Any]) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        step()
    assert caught.value.code == code
    return caught.value


def counts(sites: str) -> list[int]:
    return [int(sum(VALUES[site]["n"][place] for site in sites)) for place in (0, 1)]


class Round:
    """A round of five sites, message by message; `hub` may be tried without being changed."""

    def __init__(self, *, drop: bool = True, sites: str = FIVE, min_sites: int = 3) -> None:
        self.play = Play(World(list(sites), min_sites=min_sites), LAYOUT)
        self.sites = sites
        self.hub = self.play.aggregator(sites)
        self.hub.drop = drop and self.play.parties.recoverable
        self.state = self.hub.start()
        self.sent: dict[str, SurvivorList] = {}

    def tell(self, message: Incoming) -> None:
        # The hub changes its total in place, also in a step that then fails.
        state = replace(self.state, total=bytearray(self.state.total))
        self.state, outgoing = self.hub.receive(state, message)
        self.sent = dict(outgoing) or self.sent

    def refuse(self, code: str, message: Incoming) -> CohortiumError:
        before = self.state
        error = refused(code, lambda: self.tell(message))
        assert self.state is before
        return error

    def input(self, site: str) -> MaskedInput:
        return self.play.input(site, VALUES[site], self.sites)

    def collect(self, sites: str) -> Round:
        for site in sites:
            self.tell(self.input(site))
        return self

    def drop(self) -> Round:
        self.tell(TIME_IS_UP)
        return self

    def sign(self, sites: str) -> Round:
        for site in sites:
            self.tell(self.play.sign(site, self.sent[site]))
        return self

    def answer(self, site: str) -> Unmasking:
        return self.play.unmask(site, self.sent[site])

    def unmask(self, sites: str) -> Round:
        for site in sites:
            self.tell(self.answer(site))
        return self

    def total(self) -> list[int]:
        assert self.state.step == "done"
        state = replace(self.state, total=bytearray(self.state.total))
        return [int(n) for n in self.hub.result(state)["n"]]


# --- where every party must be there --------------------------------------------------------------


def three() -> tuple[World, dict[str, bytes]]:
    world = World(list(THREE))
    return world, world.mask_all(LAYOUT, VALUES)


def test_one_vector_of_each_party_is_the_sum() -> None:
    world, masked = three()
    total = aggregate(masked, world.roster(), BINDING, LAYOUT)
    assert total["n"].tolist() == counts(THREE)


def test_the_order_of_the_vectors_does_not_matter() -> None:
    world, masked = three()
    results = [
        aggregate({k: masked[k] for k in order}, world.roster(), BINDING, LAYOUT)["x"].tobytes()
        for order in itertools.permutations(THREE)
    ]
    assert len(set(results)) == 1


def test_a_vector_of_each_party_is_needed_and_of_nobody_else() -> None:
    world, masked = three()
    roster = world.roster()
    error = refused(
        "too-few-sites",
        lambda: aggregate({k: masked[k] for k in "ab"}, roster, BINDING, LAYOUT),
    )
    assert error.details == {"absent": ["c"]}
    extra = {**masked, "d": masked["a"]}
    refused("unexpected-message", lambda: aggregate(extra, roster, BINDING, LAYOUT))


def test_a_vector_has_the_length_of_the_layout() -> None:
    world, masked = three()
    for vector in (b"", masked["a"][:-1], masked["a"] + bytes(8), bytes(3)):
        vectors = {**masked, "a": vector}
        error = refused(
            "wrong-length", partial(aggregate, vectors, world.roster(), BINDING, LAYOUT)
        )
        assert error.details == {"site": "a"}


def test_a_vector_that_was_not_masked_for_this_round_is_noticed() -> None:
    world, masked = three()
    for vector in (bytes(len(masked["a"])), masked["b"]):
        vectors = {**masked, "a": vector}
        refused("masks-do-not-cancel", partial(aggregate, vectors, world.roster(), BINDING, LAYOUT))


def test_a_round_of_another_run_has_no_aggregator() -> None:
    world, masked = three()
    other = replace(BINDING, run_id="f" * 32)
    refused("wrong-round", lambda: aggregate(masked, world.roster(), other, LAYOUT))


# --- a round that may lose sites ------------------------------------------------------------------


def test_when_nobody_drops_there_are_two_messages_a_site() -> None:
    play = Round().collect(FIVE)
    assert play.state.step == "Unmasking"
    assert play.sent == dict.fromkeys(FIVE, SurvivorList(1, frozenset(FIVE)))
    assert play.unmask("abcd").total() == counts(FIVE)  # four are enough


def test_the_total_is_hidden_until_it_is_unmasked() -> None:
    play = Round().collect(FIVE)
    play.state = replace(play.state, step="done")
    with pytest.raises(ProtocolError):
        play.total()


def test_a_result_before_the_end_is_a_programming_error() -> None:
    play = Round().collect(FIVE)
    with pytest.raises(RuntimeError, match="not finished"):
        play.hub.result(play.state)


@pytest.mark.parametrize("gone", FIVE)
def test_one_of_five_may_drop_before_its_input(gone: str) -> None:
    left = FIVE.replace(gone, "")
    play = Round().collect(left).drop()
    assert play.sent == dict.fromkeys(left, SurvivorList(1, frozenset(left)))
    play.sign(left)
    assert play.sent[left[0]].signatures == play.state.signatures
    assert play.unmask(left).total() == counts(left)


@pytest.mark.parametrize("gone", FIVE)
def test_one_of_five_may_drop_after_its_input(gone: str) -> None:
    play = Round().collect(FIVE)
    assert play.unmask(FIVE.replace(gone, "")).total() == counts(FIVE)


def test_the_order_of_inputs_signatures_and_shares_does_not_matter() -> None:
    totals = [
        Round().collect(order).drop().sign(order[::-1]).unmask(order).total()
        for order in map("".join, itertools.permutations("abde"))
    ]
    assert totals == [counts("abde")] * 24


def test_too_few_inputs_end_the_round_and_can_be_asked_for_again() -> None:
    play = Round().collect("abc")
    error = play.refuse("too-few-sites", TIME_IS_UP)
    assert isinstance(error, PolicyRefusal)
    assert error.details == {"absent": ["d", "e"]}
    assert "Absent: d, e" in error.message
    play.collect("de")
    assert play.unmask("abcd").total() == counts(FIVE)


def test_where_a_run_may_lose_nobody_a_missing_site_ends_the_round() -> None:
    play = Round(drop=False).collect("abcd")
    assert play.refuse("too-few-sites", TIME_IS_UP).details == {"absent": ["e"]}


@pytest.mark.parametrize(("signatures", "shares"), [("abc", ""), ("abcd", "abc")])
def test_a_round_that_too_few_can_finish_is_burnt(signatures: str, shares: str) -> None:
    play = Round().collect("abcd").drop().sign(signatures)
    if shares:
        play.unmask(shares)
    error = play.refuse("round-burnt", TIME_IS_UP)
    assert isinstance(error, ConflictError)
    assert error.details == {"absent": ["d"]}
    assert play.state.step in error.message


def test_a_message_counts_once_and_only_in_its_step() -> None:
    play = Round()
    unmasking = Unmasking("a", 1, {})
    signature = SurvivorSignature("a", 1, bytes(64))
    for message in (unmasking, signature):
        play.refuse("unexpected-message", message)
    play.collect("abcd")
    play.refuse("unexpected-message", play.input("a"))  # a second time
    play.drop()
    play.refuse("unexpected-message", play.input("e"))  # too late
    play.refuse("unexpected-message", play.input("a"))
    play.refuse("unexpected-message", unmasking)
    play.refuse("unexpected-message", SurvivorSignature("e", 1, bytes(64)))  # it dropped
    play.sign("a")
    play.refuse("unexpected-message", signature)
    play.sign("bcd")
    play.refuse("unexpected-message", signature)
    play.refuse("unexpected-message", Unmasking("e", 1, {}))
    answer = play.answer("a")
    play.tell(answer)
    play.refuse("unexpected-message", answer)
    play.unmask("bcd")
    play.refuse("unexpected-message", answer)
    assert play.total() == counts("abcd")


def test_messages_of_another_round_or_party_are_refused() -> None:
    play = Round()
    play.refuse("wrong-round", replace(play.input("a"), round=2))
    error = play.refuse("unexpected-message", replace(play.input("a"), sender="Eve"))
    assert error.details == {"site": "Eve"}
    play.collect("abcd").drop()
    signature = play.play.sign("a", play.sent["a"])
    play.refuse("wrong-round", replace(signature, round=0))
    play.sign("abcd")
    play.refuse("wrong-round", replace(play.answer("a"), round=2))


def test_an_input_of_the_wrong_length_leaves_the_total_as_it_was() -> None:
    play = Round().collect("ab")
    message = play.input("c")
    for vector in (b"", message.vector[:-8], bytes(message.vector) + bytes(8)):
        error = play.refuse("wrong-length", replace(message, vector=vector))
        assert error.details == {"site": "c"}
    play.collect("cde")
    assert play.unmask("abcd").total() == counts(FIVE)


def test_a_party_that_is_not_in_the_round_has_no_place_in_it() -> None:
    play = Round()
    hub = play.play.aggregator("abcd")
    refused("unexpected-message", lambda: hub.receive(hub.start(), play.input("e")))


@pytest.mark.parametrize(
    "signature",
    [bytes(64), b"", b"short"],
)
def test_a_list_goes_to_nobody_with_a_signature_that_does_not_verify(signature: bytes) -> None:
    play = Round().collect("abcd").drop().sign("abc")
    error = play.refuse("bad-signature", SurvivorSignature("d", 1, signature))
    assert error.details == {"site": "d"}


def bad_shares(good: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    return {
        "none": {},
        "one missing": {site: share for site, share in good.items() if site != "b"},
        "its own missing": {site: share for site, share in good.items() if site != "a"},
        "one too many": {**good, "Eve": good["b"]},
        "one of a byte less": {**good, "b": good["b"][:-1]},
        "both of one peer": {**good, "b": good["b"] + good["b"]},
        "an empty one": {**good, "e": b""},
        "one that is no element of the field": {**good, "b": PRIME.to_bytes(SHARE_BYTES)},
    }


@pytest.mark.parametrize("what", bad_shares(dict.fromkeys("abcde", b"")))
def test_a_site_answers_with_one_share_of_each_that_it_holds(what: str) -> None:
    play = Round().collect("abcd").drop().sign("abcd")
    answer = play.answer("a")
    error = play.refuse(
        "malformed-message", replace(answer, shares=bad_shares(answer.shares)[what])
    )
    assert error.details == {"site": "a"}
    assert play.unmask("abcd").total() == counts("abcd")


def altered(share: bytes) -> bytes:
    return ((int.from_bytes(share) + 1) % PRIME).to_bytes(SHARE_BYTES)


@pytest.mark.parametrize("owner", ["a", "b", "e"])
def test_an_altered_share_of_a_seed_or_mask_key_never_gives_a_sum(owner: str) -> None:
    play = Round().collect("abcd").drop().sign("abcd")
    answer = play.answer("a")
    play.tell(replace(answer, shares={**answer.shares, owner: altered(answer.shares[owner])}))
    play.unmask("bcd")
    error = refused("masks-do-not-cancel", play.total)
    assert error.details == {"round": 1}


def test_an_input_that_was_altered_on_the_way_never_gives_a_sum() -> None:
    for byte, bit in ((0, 1), (7, 0x80)):  # of the check word
        play = Round().collect("abcd")
        message = play.input("e")
        vector = bytearray(message.vector)
        vector[byte] ^= bit
        play.tell(replace(message, vector=vector))
        play.unmask("abcd")
        refused("masks-do-not-cancel", play.total)


def test_a_mask_key_that_the_dropped_site_did_not_send_is_noticed() -> None:
    play = Round()
    keys = {site: shared.mask_key for site, shared in play.play.keys.items()}
    play.hub = Aggregator(
        play.play.parties,
        play.play.binding(),
        LAYOUT,
        mask_keys={**keys, "e": public_key(seed("another"))},
    )
    play.collect("abcd").drop().sign("abcd").unmask("abcd")
    refused("masks-do-not-cancel", play.total)


def test_sites_that_masked_for_different_parties_give_no_sum() -> None:
    play = Round().collect("abcd")
    other = play.play.input("e", VALUES["e"], "abce")
    play.tell(other)
    play.unmask("abcd")
    refused("masks-do-not-cancel", play.total)


def restarted(play: Round, sites: str | None = None) -> Round:
    """The hub comes back without its memory, and asks again."""
    play.hub = play.play.aggregator(play.sites, asked=sites)
    play.hub._repeated = True
    play.state = play.hub.start()
    return play


def test_asked_again_sites_say_for_whom_they_have_answered() -> None:
    play = restarted(Round().collect("abcd").drop().sign("a"))
    play.collect("abcd")
    error = play.refuse("other-survivors", play.input("e"))
    assert error.details == {"survivors": list("abcd")}
    restarted(play, "abcd")
    play.refuse("unexpected-message", play.input("e"))
    play.collect("abcd")
    assert play.state.step == "ConsistencyCheck"
    assert play.sign("abcd").unmask("abcd").total() == counts("abcd")


def test_those_for_whom_sites_have_answered_must_be_there() -> None:
    play = restarted(Round().collect(FIVE).unmask("ab"))
    play.collect("abcd")
    error = play.refuse("too-few-sites", TIME_IS_UP)
    assert error.details == {"absent": ["e"]}
    play.collect("e")
    assert play.unmask("abcd").total() == counts(FIVE)


def test_the_list_counts_that_most_sites_have_answered_for() -> None:
    play = restarted(Round())
    claims = {"a": "abcd", "b": "abce", "c": "abce"}
    for site in "abcd":
        agreed = frozenset(claims[site]) if site in claims else None
        play.tell(replace(play.input(site), agreed=agreed))
    error = play.refuse("other-survivors", play.input("e"))
    assert error.details == {"survivors": list("abce")}


def test_nobody_has_answered_in_a_round_that_was_not_asked_before() -> None:
    play = Round()
    message = replace(play.input("a"), agreed=frozenset("abcd"))
    assert play.refuse("unexpected-message", message).details == {"site": "a"}
    restarted(play)
    stranger = replace(message, agreed=frozenset(["a", "b", "c", "Eve"]))
    play.refuse("unexpected-message", stranger)
    play.tell(message)


def test_a_run_with_fewer_sites_than_the_threshold_can_spare_loses_nobody() -> None:
    play = Round(sites=FIVE, min_sites=5)
    assert not play.hub.drop
    play.collect("abcd")
    play.refuse("too-few-sites", TIME_IS_UP)
    play.collect("e")
    assert play.total() == counts(FIVE)


def test_the_state_is_not_printed_with_what_it_holds() -> None:
    play = Round().collect(FIVE).unmask("a")
    assert isinstance(play.state, AggregatorRound)
    assert "total" not in repr(play.state)
    assert "shares" not in repr(play.state)


# --- where not all are neighbours -----------------------------------------------------------------


class Ring:
    """200 parties on the ring. The hub does not see what is in their inputs."""

    def __init__(self, min_sites: int = 3) -> None:
        self.world = World([f"s{number:03}" for number in range(200)], min_sites=min_sites)
        self.parties = self.world.parties()
        self.hub = Aggregator(self.parties, BINDING, {})
        self.digest = BINDING.digest(
            {}, self.parties.roster.digest, self.parties.text(self.parties.all)
        )

    def sign(self, site: str, survivors: frozenset[str] | None = None) -> bytes | None:
        if site not in self.parties.committee:
            return None
        text = statement(self.digest, survivors or self.parties.all, self.parties)
        return self.world.signing[site].sign(text)

    def end(self, present: frozenset[str], **signatures: bytes | None) -> AggregatorRound:
        state = self.hub.start()
        for site in sorted(present):
            signature = signatures[site] if site in signatures else self.sign(site)
            message = MaskedInput(site, 1, bytes(8), signature=signature)
            state, _ = self.hub.receive(state, message)
        if present != self.parties.all:
            state, _ = self.hub.receive(state, TIME_IS_UP)
        return state


def test_on_the_ring_nothing_is_opened_without_the_committees_signatures_on_its_parties() -> None:
    ring = Ring()
    everyone = ring.parties.all
    state = ring.end(everyone)
    assert state.step == "Unmasking"
    assert state.signatures.keys() == ring.parties.committee
    error = refused("too-few-sites", lambda: ring.end(everyone, **dict.fromkeys(everyone)))
    assert error.details["sites"] == 0
    member = min(ring.parties.committee)
    other = ring.sign(member, everyone - {max(everyone)})
    for signature in (other, bytes(64)):
        error = refused("bad-signature", partial(ring.end, everyone, **{member: signature}))
        assert error.details == {"site": member}


def test_on_the_ring_who_is_outside_the_committee_signs_in_vain() -> None:
    ring = Ring()
    outsider = min(ring.parties.all - ring.parties.committee)
    state = ring.end(ring.parties.all, **{outsider: bytes(64)})
    assert outsider not in state.signatures


def test_signatures_on_all_parties_do_not_count_for_the_survivors() -> None:
    ring = Ring()
    state = ring.end(ring.parties.all - {min(ring.parties.all)})
    assert state.step == "ConsistencyCheck"
    assert not state.signatures


def test_on_the_ring_each_party_needs_holders_that_are_left() -> None:
    ring = Ring()
    site = min(ring.parties.all)
    spare = len(ring.parties.holders(site)) - ring.parties.threshold
    gone = sorted(ring.parties.neighbours(site))
    assert ring.end(ring.parties.all - set(gone[:spare])).step == "ConsistencyCheck"
    refused("too-few-sites", lambda: ring.end(ring.parties.all - set(gone[: spare + 1])))


def test_on_the_ring_the_contracts_minimum_holds() -> None:
    ring = Ring(min_sites=198)
    gone = sorted(ring.parties.all)[:3]
    assert ring.end(ring.parties.all - set(gone[:2])).step == "ConsistencyCheck"
    refused("too-few-sites", lambda: ring.end(ring.parties.all - set(gone)))
