from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.support.secagg import BINDING, Play, World, aggregate, halves, seed, words

from cohortium.core.canonical import digest
from cohortium.core.rounds import FieldSpec, Layout
from cohortium.crypto.keys import b64url, verify
from cohortium.errors import CohortiumError, ConflictError, InputError, PolicyRefusal, ProtocolError
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import BLOCK_BYTES
from cohortium.secagg.keys import Channel, RoundSecrets, agree, public_key
from cohortium.secagg.messages import KeyShare, MaskedInput, SurvivorList, Unmasking
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.roster import Roster
from cohortium.secagg.shamir import SHARE_BYTES, combine
from cohortium.secagg.survivors import statement

SITES = ["a", "b", "c"]
LAYOUT: Layout = {
    "n": FieldSpec((), "count"),
    "gram": FieldSpec((2, 2), "real"),
    "update": FieldSpec((3,), "vector"),
}
ONE = {
    "n": np.array(7),
    "gram": np.array([[1.5, -2.25], [0.1, 1e20]]),
    "update": np.array([0.5, -0.25, 3.0], dtype=np.float32),
}
ALL = dict.fromkeys(SITES, ONE)

FIVE = ["a", "b", "c", "d", "e"]
FIVE_ALL = dict.fromkeys(FIVE, ONE)


def refused(code: str, step: Callable[[], Any]) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        step()
    assert caught.value.code == code
    return caught.value


def swapped(roster: Roster, **keys: bytes) -> Roster:
    return replace(roster, keys={**roster.keys, **keys})


# --- where every party must be there: one message a round -----------------------------------------


def test_the_sum_comes_out() -> None:
    total = World(SITES).sum(LAYOUT, ALL)
    assert set(total) == set(LAYOUT)
    assert total["n"].dtype == np.int64
    assert total["n"] == 21
    np.testing.assert_array_equal(total["gram"], [[4.5, -6.75], [0.1 * 3, 3e20]])
    np.testing.assert_array_equal(total["update"], [1.5, -0.75, 9.0])


def test_a_field_longer_than_a_block_is_masked_through_all_blocks() -> None:
    n = 2 * (BLOCK_BYTES // 8) + 5
    layout: Layout = {"v": FieldSpec((n,), "count"), "w": FieldSpec((n // 2, 1), "real")}
    one = {"v": np.arange(n), "w": np.arange(n // 2, dtype=np.float64)[:, None] / 8}
    world = World(SITES)
    total = world.sum(layout, dict.fromkeys(SITES, one))
    np.testing.assert_array_equal(total["v"], 3 * np.arange(n))
    np.testing.assert_array_equal(total["w"], 3 * one["w"])
    masked = words(world.mask("a", layout, one))
    assert len(np.unique(masked)) == len(masked)  # no block's mask is used again


def test_a_site_that_is_asked_again_answers_with_the_same_bytes() -> None:
    first = World(SITES).mask("b", LAYOUT, ONE)
    assert first == World(SITES).mask("b", dict(reversed(list(LAYOUT.items()))), ONE)


@pytest.mark.parametrize(
    "other",
    [replace(BINDING, round=2), replace(BINDING, state_digest=digest("another state"))],
)
def test_no_word_of_a_mask_comes_again_in_another_round(other: RoundBinding) -> None:
    world = World(SITES)
    first = words(world.mask("a", LAYOUT, ONE))
    second = words(world.mask("a", LAYOUT, ONE, other))
    assert not np.isin(first, second).any()


def test_a_round_of_another_run_is_refused() -> None:
    world = World(SITES)
    for other in (
        replace(BINDING, run_id="f" * 32),
        replace(BINDING, contract_digest=digest(1)),
        replace(BINDING, request_digest=digest(1)),
    ):
        with pytest.raises(ProtocolError) as caught:
            world.mask("a", LAYOUT, ONE, other)
        assert caught.value.code == "wrong-round"


def test_sites_that_were_told_different_things_do_not_cancel() -> None:
    world = World(SITES)
    roster = world.roster()
    other_roster = replace(roster, keys={k: v for k, v in roster.keys.items() if k != "c"})
    other_layout: Layout = {**LAYOUT, "gram": FieldSpec((4,), "real")}
    other_bound: Layout = {**LAYOUT, "update": FieldSpec((3,), "vector", bound=32.0)}
    honest = world.mask_all(LAYOUT, ALL)
    flat = {**ONE, "gram": ONE["gram"].reshape(4)}
    for masked in (
        world.mask("a", LAYOUT, ONE, roster=other_roster),
        world.mask("a", LAYOUT, ONE, roster=swapped(roster, b=seed("hub's own key"))),
        world.mask("a", LAYOUT, ONE, replace(BINDING, state_digest=digest("lie"))),
        world.mask("a", LAYOUT, ONE, replace(BINDING, round=2)),
        world.mask("a", other_layout, flat),
        world.mask("a", other_bound, ONE),
    ):
        with pytest.raises(ProtocolError) as caught:
            aggregate({**honest, "a": masked}, roster, BINDING, LAYOUT)
        assert caught.value.code == "masks-do-not-cancel"


def test_a_party_needs_its_own_key_on_the_roster() -> None:
    world = World(SITES)
    roster = world.roster()
    without = replace(roster, keys={k: v for k, v in roster.keys.items() if k != "a"})
    for other in (without, swapped(roster, a=seed("swapped"))):
        refused("roster-mismatch", partial(world.party, "a", other))


@pytest.mark.parametrize("point", [bytes(32), bytes([1]) + bytes(31)])
@pytest.mark.parametrize("sites", [SITES, FIVE])
def test_a_key_of_small_order_is_refused(point: bytes, sites: list[str]) -> None:
    world = World(sites)
    party = world.party("a", swapped(world.roster(), b=point))
    step: Callable[[], Any] = partial(party.masked_input, BINDING, LAYOUT, ONE)
    if party.parties.recoverable:
        step = partial(party.share_keys, 1)
    assert refused("roster-mismatch", step).details == {"site": "b"}


def test_overflow_names_the_component_before_anything_is_masked() -> None:
    n = 3 * (BLOCK_BYTES // 8)
    layout: Layout = {"x": FieldSpec((n,), "real")}
    column = np.zeros(n)
    column[n - 2] = np.nan
    with pytest.raises(InputError) as caught:
        World(SITES).mask("a", layout, {"x": column})
    assert caught.value.code == "overflow"
    assert caught.value.details == {"field": "x", "index": n - 2}
    assert "nan" not in caught.value.message


@pytest.mark.parametrize(
    "contribution",
    [
        {**ONE, "n": np.array([7])},
        {**ONE, "extra": np.zeros(2)},
        {"n": ONE["n"]},
    ],
)
def test_a_contribution_that_does_not_fit_the_layout_is_a_programming_error(
    contribution: dict[str, np.ndarray],
) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        World(SITES).mask("a", LAYOUT, contribution)


def test_an_empty_layout_still_shows_that_the_masks_cancel() -> None:
    assert World(SITES).sum({}, {site: {} for site in SITES}) == {}


def test_secrets_come_from_the_source_that_is_passed_in() -> None:
    world = World(["a", "b"])
    secret, envelope = Party.prepare(
        site="a",
        run_id=BINDING.run_id,
        contract_digest=BINDING.contract_digest,
        request_digest=BINDING.request_digest,
        signing_key=world.signing["a"],
    )
    assert len(secret) == 32
    assert secret != world.secrets["a"]
    roster: Roster = world.roster([envelope, world.envelopes["b"]])
    assert b64url(roster.keys["a"]).encode() not in envelope  # it lies inside the signed payload
    assert Party("a", secret, Parties(roster, 2)).site == "a"


def test_where_nothing_can_be_recovered_a_site_takes_no_other_step() -> None:
    party = World(SITES).party("a")
    step = partial(party.masked_input, BINDING, LAYOUT, ONE)
    refused("roster-mismatch", partial(step, {"a", "b"}))
    refused("roster-mismatch", partial(step, SITES, {"b": KeyShare(bytes(32), bytes(82))}))
    memory, message = party.masked_input(BINDING, LAYOUT, ONE, SITES)
    assert message.next is None
    everyone = SurvivorList(1, frozenset(SITES))
    refused("unexpected-message", lambda: party.unmask(memory, everyone))
    refused("unexpected-message", lambda: party.consistency_check(memory, everyone, lambda _: b""))


# --- step 1, ShareKeys ----------------------------------------------------------------------------


def test_any_four_of_five_shares_open_a_sites_secrets_and_three_do_not() -> None:
    play = Play(World(FIVE), LAYOUT)
    secrets = RoundSecrets(play.world.secrets["b"], play.parties.roster.digest, 1)
    assert play.keys["b"].mask_key == public_key(secrets.mask_secret)
    for kind, secret in enumerate((secrets.mask_secret, secrets.seed)):
        shares = {play.parties.point(s): halves(play, "b", s)[kind] for s in FIVE}
        for missing in shares:
            some = {point: share for point, share in shares.items() if point != missing}
            assert combine(some, 4) == secret
            some.popitem()
            assert combine_or_none(some, 3) != secret


def combine_or_none(shares: dict[int, bytes], threshold: int) -> bytes | None:
    try:
        return combine(shares, threshold)
    except ProtocolError:
        return None


def test_keys_are_fresh_each_round_and_the_same_after_a_restart() -> None:
    world = World(FIVE)
    first, again = world.party("a").share_keys(1), world.party("a").share_keys(1)
    assert first == again
    second = world.party("a").share_keys(2)
    assert first.mask_key != second.mask_key
    blobs = [blob for keys in (first, second) for blob in keys.sealed.values()]
    assert len(set(blobs)) == 8
    assert first.sealed.keys() == set(FIVE) - {"a"}


def test_keys_of_another_run_have_nothing_in_common() -> None:
    one, other = (World(FIVE, label=label).party("a").share_keys(1) for label in ("", "other"))
    assert one.mask_key != other.mask_key
    assert set(one.sealed.values()).isdisjoint(other.sealed.values())


def test_the_keys_of_the_next_round_come_with_the_masked_input() -> None:
    play = Play(World(FIVE), LAYOUT)
    message = play.input("a", ONE, FIVE)
    assert message.next == play.party("a").share_keys(2)


# --- step 2, MaskedInputCollection ----------------------------------------------------------------


def masked(play: Play, active: set[str], received: dict[str, KeyShare]) -> PartyRound:
    memory, _ = play.party("a").masked_input(play.binding(), LAYOUT, ONE, active, received)
    return memory


def test_a_site_takes_part_only_with_enough_parties_of_the_run_itself_among_them() -> None:
    play = Play(World(FIVE), LAYOUT)
    good = play.received("a", FIVE)
    refused("roster-mismatch", lambda: masked(play, set("bcde"), good))
    refused("roster-mismatch", lambda: masked(play, {*FIVE, "Eve"}, good))
    error = refused("too-few-sites", lambda: masked(play, set("abc"), play.received("a", "bc")))
    assert isinstance(error, PolicyRefusal)
    assert error.details == {"sites": 3, "min_sites": 4}
    assert masked(play, set("abcd"), play.received("a", "bcd")).active == set("abcd")


def test_a_site_wants_the_shares_of_its_neighbours_in_the_round_and_no_others() -> None:
    play = Play(World(FIVE), LAYOUT)
    good = play.received("a", FIVE)
    without = {site: share for site, share in good.items() if site != "e"}
    refused("roster-mismatch", lambda: masked(play, set(FIVE), without))
    refused("roster-mismatch", lambda: masked(play, set(FIVE), {}))
    refused("roster-mismatch", lambda: masked(play, set("abcd"), good))
    own = {**without, "a": good["e"]}
    refused("roster-mismatch", lambda: masked(play, set(FIVE), own))


def bad_shares(play: Play) -> dict[str, KeyShare]:
    """What a hub may hand on instead of the shares of b for a."""
    share = play.keys["b"].to("a")
    flipped = bytes([share.sealed[0] ^ 1]) + share.sealed[1:]
    tag = share.sealed[:-1] + bytes([share.sealed[-1] ^ 0x80])
    return {
        "of another round": play.party("b").share_keys(2).to("a"),
        "for another site": play.keys["b"].to("c"),
        "of another site": play.keys["c"].to("a"),
        "its own": KeyShare(share.mask_key, play.keys["a"].sealed["b"]),
        "another mask key": KeyShare(public_key(seed("the hub's")), share.sealed),
        "the mask key of another round": KeyShare(
            play.party("b").share_keys(2).mask_key, share.sealed
        ),
        "a bit flipped": KeyShare(share.mask_key, flipped),
        "a bit of the tag flipped": KeyShare(share.mask_key, tag),
        "a byte short": KeyShare(share.mask_key, share.sealed[:-1]),
        "a byte long": KeyShare(share.mask_key, share.sealed + b"\0"),
        "nothing": KeyShare(share.mask_key, b""),
        "a byte moved": KeyShare(share.mask_key[:-1], share.mask_key[-1:] + share.sealed),
    }


@pytest.mark.parametrize("what", bad_shares(Play(World(FIVE), LAYOUT)))
def test_shares_that_are_not_the_senders_for_this_site_and_round_are_refused(what: str) -> None:
    play = Play(World(FIVE), LAYOUT)
    received = {**play.received("a", FIVE), "b": bad_shares(play)[what]}
    error = refused("bad-share", lambda: masked(play, set(FIVE), received))
    assert error.details == {"site": "b"}


def test_the_masked_input_is_another_for_other_parties_and_the_same_after_a_restart() -> None:
    play = Play(World(FIVE), LAYOUT)
    whole = play.input("a", ONE, FIVE).vector
    without = play.input("a", ONE, "abcd").vector
    assert not np.isin(words(whole), words(without)).any()
    assert Play(World(FIVE), LAYOUT, restarts=True).input("a", ONE, FIVE).vector == whole


# --- steps 3 and 4: one list of survivors in a round ----------------------------------------------


def begun(restarts: bool = False, sites: list[str] = FIVE) -> Play:
    """A round whose inputs arrived."""
    play = Play(World(sites, min_sites=3), LAYOUT, restarts=restarts)
    for site in sites:
        play.input(site, ONE, sites)
    return play


def signed(survivors: str) -> SurvivorList:
    """A list as the hub sends it in step 4 after a drop-out."""
    play = begun()
    message = SurvivorList(1, frozenset(survivors))
    return replace(
        message, signatures={site: play.sign(site, message).signature for site in survivors}
    )


def opens(play: Play, answer: Unmasking) -> dict[str, str]:
    """Which of an owner's two secrets each share in the answer is of."""
    kinds = {}
    for owner, share in answer.shares.items():
        mask_secret, self_seed = halves(play, owner, answer.sender)
        kinds[owner] = {mask_secret: "mask key", self_seed: "seed"}[share]
    return kinds


def test_without_drop_outs_the_shares_of_all_seeds_and_of_no_mask_key_are_opened() -> None:
    play = begun()
    answer = play.unmask("a", SurvivorList(1, frozenset(FIVE)))
    assert opens(play, answer) == dict.fromkeys(FIVE, "seed")


def test_after_a_drop_out_its_mask_key_and_the_survivors_seeds_are_opened() -> None:
    play = begun()
    answer = play.unmask("a", signed("abcd"))
    assert opens(play, answer) == {**dict.fromkeys("abcd", "seed"), "e": "mask key"}


def test_nothing_is_opened_of_a_party_that_was_not_in_the_round() -> None:
    play = Play(World(FIVE), LAYOUT)
    for site in "abcd":
        play.input(site, ONE, "abcd")
    answer = play.unmask("a", SurvivorList(1, frozenset("abcd")))
    assert opens(play, answer) == dict.fromkeys("abcd", "seed")


def lists() -> dict[str, tuple[Callable[[], SurvivorList], str]]:
    def with_signatures(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Any:
        def make() -> SurvivorList:
            message = signed("abcd")
            return replace(message, signatures=change(dict(message.signatures)))

        return make

    def of_all(signatures: dict[str, bytes]) -> dict[str, bytes]:
        everyone = SurvivorList(1, frozenset(FIVE))
        return {**signatures, "b": begun().sign("b", everyone).signature}

    def flipped(signatures: dict[str, bytes]) -> dict[str, bytes]:
        first, rest = signatures["c"][0], signatures["c"][1:]
        return {**signatures, "c": bytes([first ^ 1]) + rest}

    def without(*gone: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
        return lambda signatures: {s: v for s, v in signatures.items() if s not in gone}

    return {
        "of another round": (lambda: replace(signed("abcd"), round=2), "wrong-round"),
        "without the site itself": (
            lambda: SurvivorList(1, frozenset("bcde")),
            "roster-mismatch",
        ),
        "with one who is no party": (
            lambda: SurvivorList(1, frozenset([*FIVE, "Eve"])),
            "roster-mismatch",
        ),
        "empty": (lambda: SurvivorList(1, frozenset()), "roster-mismatch"),
        "too few": (lambda: SurvivorList(1, frozenset("abc")), "too-few-sites"),
        "without signatures": (with_signatures(lambda _: {}), "too-few-sites"),
        "a signature too few": (with_signatures(without("c")), "too-few-sites"),
        "signed for another list": (
            lambda: replace(signed("abcd"), survivors=frozenset("abce")),
            "unexpected-message",
        ),
        "a signature for another list": (with_signatures(of_all), "bad-signature"),
        "a bit flipped in a signature": (with_signatures(flipped), "bad-signature"),
        "signed by one who dropped": (
            with_signatures(lambda s: {**s, "e": s["a"]}),
            "unexpected-message",
        ),
        "signed by one who is no party": (
            with_signatures(lambda s: {**s, "Eve": s["a"]}),
            "unexpected-message",
        ),
        "one signature for two": (
            with_signatures(lambda s: {**s, "b": s["a"]}),
            "bad-signature",
        ),
    }


@pytest.mark.parametrize("what", lists())
def test_nothing_is_opened_for_a_list_that_is_not_the_quorums(what: str) -> None:
    make, code = lists()[what]
    play = begun()
    message = make()
    before = play.memory("a")
    refused(code, lambda: play.unmask("a", message))
    assert play.memory("a") == before


def test_a_list_is_signed_only_by_the_committee_and_under_the_same_conditions() -> None:
    play = begun()
    for what, message in {
        "wrong-round": SurvivorList(2, frozenset("abcd")),
        "roster-mismatch": SurvivorList(1, frozenset("bcde")),
        "too-few-sites": SurvivorList(1, frozenset("abc")),
    }.items():
        refused(what, partial(play.sign, "a", message))
    assert play.memory("a").agreed is None


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("first", ["sign", "unmask"])
def test_a_site_answers_for_one_list_in_a_round(restarts: bool, first: str) -> None:
    play = begun(restarts)
    one, other = signed("abcd"), signed("abde")
    everyone = SurvivorList(1, frozenset(FIVE))
    if first == "sign":
        play.sign("a", one)
    else:
        play.unmask("a", one)
    for step in (play.sign, play.unmask):
        for message in (other, everyone):
            error = refused("other-survivors", partial(step, "a", message))
            assert isinstance(error, ConflictError)
            assert error.details == {"site": "a", "survivors": list("abcd")}
    assert play.sign("a", one).signature == one.signatures["a"]
    assert opens(play, play.unmask("a", one))["c"] == "seed"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_site_that_answered_for_all_signs_no_drop_out(restarts: bool) -> None:
    play = begun(restarts)
    everyone = SurvivorList(1, frozenset(FIVE))
    answer = play.unmask("a", everyone)
    for step in (play.sign, play.unmask):
        refused("other-survivors", partial(step, "a", signed("abcd")))
    assert play.unmask("a", everyone) == answer


def test_what_a_site_remembers_is_json_and_comes_back() -> None:
    play = begun()
    play.sign("a", SurvivorList(1, frozenset("abcd")))
    memory = play.memory("a")
    assert memory.agreed == frozenset("abcd")
    assert memory.received == play.received("a", FIVE)
    text = json.dumps(memory.to_json(play.parties))
    assert PartyRound.from_json(json.loads(text), play.parties) == memory
    for secret in (play.world.secrets["a"], *halves(play, "b", "a")):
        assert b64url(secret) not in text
        assert secret.hex() not in text


def test_a_tag_tells_vectors_apart() -> None:
    party, other = World(FIVE).party("a"), World(FIVE).party("b")
    assert party.tag(b"x" * 100) == party.tag(bytearray(b"x" * 100))
    assert party.tag(b"x" * 100) != party.tag(b"x" * 99 + b"y")
    assert party.tag(b"x" * 100) != other.tag(b"x" * 100)


# --- where not all are neighbours -----------------------------------------------------------------


class Ring:
    """A site among 200 parties on the ring, in the committee or not."""

    def __init__(self, min_sites: int = 3, *, committee: bool = True) -> None:
        self.world = World([f"s{number:03}" for number in range(200)], min_sites=min_sites)
        self.parties = self.world.parties()
        some = self.parties.committee if committee else self.parties.all - self.parties.committee
        self.site = min(some)
        self.party = self.world.party(self.site)
        self.neighbours = sorted(self.parties.neighbours(self.site))

    def memory(self, active: frozenset[str]) -> PartyRound:
        """What a site remembers; the neighbours' shares are left out."""
        name = BINDING.digest({}, self.parties.roster.digest, self.parties.text(active))
        return PartyRound(1, name, active)

    def share(self, peer: str) -> KeyShare:
        """A neighbour's key, with shares that nobody will open."""
        shared = agree(self.world.secrets[peer], self.parties.roster.keys[self.site], self.site)
        channel = Channel(shared, self.parties.roster.digest, peer, self.site)
        mask_key = public_key(seed(peer))
        return KeyShare(mask_key, channel.seal(1, mask_key, bytes(2 * SHARE_BYTES)))

    def input(self) -> MaskedInput:
        received = {peer: self.share(peer) for peer in self.neighbours}
        everyone, sign = self.parties.all, self.world.signing[self.site].sign
        return self.party.masked_input(BINDING, {}, {}, everyone, received, sign=sign)[1]

    def sign(self, active: frozenset[str], survivors: frozenset[str]) -> Any:
        message = SurvivorList(1, survivors)
        return self.party.consistency_check(self.memory(active), message, lambda _: b"")

    def unmask(self, active: frozenset[str], survivors: frozenset[str], signers: int) -> Any:
        text = statement(self.memory(active).digest, survivors, self.parties)
        members = sorted(self.parties.committee & survivors)[:signers]
        signatures = {site: self.world.signing[site].sign(text) for site in members}
        message = SurvivorList(1, survivors, signatures)
        return self.party.unmask(self.memory(active), message)


def test_outside_the_committee_no_list_is_signed() -> None:
    ring = Ring(committee=False)
    everyone = ring.parties.all
    refused("unexpected-message", lambda: ring.sign(everyone, everyone))
    assert ring.input().signature is None


def test_the_committee_signs_the_rounds_parties_with_its_input() -> None:
    ring = Ring()
    signature = ring.input().signature
    assert signature is not None
    everyone = ring.parties.all
    text = statement(ring.memory(everyone).digest, everyone, ring.parties)
    verify(ring.world.contract_keys[ring.site], signature, text)


def test_where_all_are_neighbours_no_input_is_signed() -> None:
    play = Play(World(FIVE), LAYOUT)
    assert play.input("a", ONE, FIVE).signature is None


@pytest.mark.parametrize("drops", [False, True])
def test_on_the_ring_nothing_is_opened_without_a_quorum_also_when_nobody_drops(drops: bool) -> None:
    ring = Ring(committee=False)
    everyone = ring.parties.all
    survivors = everyone - {min(everyone - {ring.site})} if drops else everyone
    quorum = ring.parties.quorum
    refused("too-few-sites", lambda: ring.unmask(everyone, survivors, 0))
    refused("too-few-sites", lambda: ring.unmask(everyone, survivors, quorum - 1))
    _, answer = ring.unmask(everyone, survivors, quorum)
    assert answer.shares.keys() == {ring.site}


def test_on_the_ring_a_site_wants_enough_of_its_own_neighbours() -> None:
    ring = Ring()
    everyone, quorum = ring.parties.all, ring.parties.quorum
    spare = len(ring.neighbours) + 1 - ring.parties.threshold
    enough, few = (everyone - set(ring.neighbours[:gone]) for gone in (spare, spare + 1))
    ring.party.check_active(enough, dict.fromkeys(ring.neighbours[spare:], KeyShare(b"", b"")))
    ring.sign(everyone, enough)
    for step in (
        partial(ring.party.check_active, few, {}),
        partial(ring.sign, everyone, few),
        partial(ring.unmask, everyone, few, quorum),
    ):
        error = refused("too-few-sites", step)
        assert error.details["min_sites"] == ring.parties.threshold


def test_on_the_ring_the_contracts_minimum_holds() -> None:
    ring = Ring(min_sites=198)
    everyone = ring.parties.all
    others = sorted(everyone - ring.parties.holders(ring.site))
    enough, few = (everyone - set(others[:gone]) for gone in (2, 3))
    shares = dict.fromkeys(ring.neighbours, KeyShare(b"", b""))
    ring.party.check_active(enough, shares)
    ring.sign(everyone, enough)
    for step in (
        partial(ring.party.check_active, few, shares),
        partial(ring.sign, everyone, few),
    ):
        error = refused("too-few-sites", step)
        assert error.details == {"sites": 197, "min_sites": 198}
