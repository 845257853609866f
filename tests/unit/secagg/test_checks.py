"""Checks of the secure sum that only an attack of its own shows; see tests/mutants."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.support.secagg import BINDING, CONTRACT, REQUEST, RUN, World, aggregate, seed

from cohortium.core.rounds import FieldSpec, Layout
from cohortium.crypto.keys import b64url
from cohortium.crypto.signed import pae
from cohortium.errors import CohortiumError, InputError, ProtocolError
from cohortium.secagg.aggregator import TIME_IS_UP, Aggregator, AggregatorRound
from cohortium.secagg.frame import Frame
from cohortium.secagg.keys import Channel, RoundSecrets, agree, public_key, self_mask
from cohortium.secagg.messages import KeyShare, MaskedInput, SurvivorList, Unmasking
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.ring import REAL, Ring, ring_for
from cohortium.secagg.round_key import RoundKey
from cohortium.secagg.shamir import SHARE_BYTES, split
from cohortium.secagg.survivors import check_signatures, statement
from cohortium.secagg.vector import MaskKey, add, apply_masks, check_word, decode

LAYOUT: Layout = {"n": FieldSpec((), "count")}
ONE = {"n": np.array(7)}
SEVEN = list("abcdefg")
RING_OF_100 = [f"s{number:03}" for number in range(100)]
SHARE = KeyShare(bytes(32), b"")


def code_of(error: pytest.ExceptionInfo[CohortiumError]) -> str:
    return error.value.code


# What the hub sees


def test_no_share_travels_in_the_clear() -> None:
    world = World("abcde")
    keys = world.party("b").share_keys(1)
    parties = world.parties()
    secrets = RoundSecrets(world.secrets["b"], parties.roster.digest, 1)
    random = secrets.stream()
    points = [parties.point(site) for site in "acde"]
    for secret in (secrets.mask_secret, secrets.seed):
        for share in split(secret, parties.threshold, points, random).values():
            assert not any(share in sealed for sealed in keys.sealed.values())
    # Nor can who holds them all tell which two are for the same site in two rounds.
    texts = [*keys.sealed.values(), *world.party("b").share_keys(2).sealed.values()]
    assert len({text[:16] for text in texts}) == len(texts)


def test_all_seeds_together_open_the_sum_and_no_single_input() -> None:
    world = World("abcde")
    keys = {site: world.party(site).share_keys(1) for site in "abcde"}
    digest = world.parties().roster.digest
    frame = Frame(LAYOUT, 5)
    total = bytearray(frame.n_bytes)
    for site in "abcde":
        received = {peer: keys[peer].to(site) for peer in set("abcde") - {site}}
        memory, message = world.party(site).masked_input(BINDING, LAYOUT, ONE, "abcde", received)
        vector = bytearray(message.vector)
        seed_of_site = RoundSecrets(world.secrets[site], digest, 1).seed
        own = MaskKey(self_mask(seed_of_site, memory.digest), negate=True)
        apply_masks(frame, vector, [own])
        assert check_word(frame, vector) != 1
        assert int(decode(frame, vector)["n"]) != 7
        add(frame, total, vector)
    assert check_word(frame, total) == 5
    assert int(decode(frame, total)["n"]) == 35


def test_no_two_texts_are_sealed_under_one_key_and_nonce() -> None:
    """Who sees two could add them up: AES-GCM's keystream would be the same."""
    shared, text = seed("shared"), bytes(66)
    sealed = [
        Channel(shared, digest, sender, recipient).seal(number, bytes(32), text)[:66]
        for digest in ("sha256:1", "sha256:2")
        for sender, recipient in ("ab", "ba", "ac")
        for number in (1, 2)
    ]
    assert len(set(sealed)) == len(sealed)


# Who is told what of the parties


def test_sites_that_were_told_of_other_parties_leave_no_sum_also_where_all_pairs_agree() -> None:
    """Each of four is told of the two next to it on a circle: each mask finds its opposite."""
    world = World("abcd")
    told = {"a": "abd", "b": "abc", "c": "bcd", "d": "acd"}
    masked = {
        site: world.mask(
            site, LAYOUT, ONE, roster=world.roster([world.envelopes[s] for s in parties])
        )
        for site, parties in told.items()
    }
    with pytest.raises(ProtocolError) as caught:
        aggregate(masked, world.roster(), BINDING, LAYOUT)
    assert code_of(caught) == "masks-do-not-cancel"


def test_sites_that_were_told_of_another_round_leave_no_sum_also_where_all_pairs_agree() -> None:
    """Each of seven is told that the two next to it on a circle are gone."""
    world = World(SEVEN)
    parties = world.parties()
    keys = {site: world.party(site).share_keys(1) for site in SEVEN}

    def left(told: Mapping[str, Collection[str]]) -> int:
        """The check word of the sum without the self-masks."""
        frame = Frame(LAYOUT, 7)
        total = bytearray(frame.n_bytes)
        for site, active in told.items():
            received = {peer: keys[peer].to(site) for peer in set(active) - {site}}
            memory, message = world.party(site).masked_input(BINDING, LAYOUT, ONE, active, received)
            secrets = RoundSecrets(world.secrets[site], parties.roster.digest, 1)
            own = MaskKey(self_mask(secrets.seed, memory.digest), negate=True)
            add(frame, total, message.vector)
            apply_masks(frame, total, [own])
        return check_word(frame, total)

    assert left(dict.fromkeys(SEVEN, SEVEN)) == 7
    circle = {
        site: {*SEVEN} - {SEVEN[place - 1], SEVEN[(place + 1) % 7]}
        for place, site in enumerate(SEVEN)
    }
    assert left(circle) != 7


def test_a_site_comes_once_also_with_two_keys() -> None:
    """Else some could be paired with the one key of a lying site, and others with the other."""
    world = World("abc")
    second = RoundKey(
        run_id=RUN,
        contract_digest=CONTRACT,
        request_digest=REQUEST,
        site="b",
        x25519=b64url(seed("second")),
    ).sign(world.signing["b"])
    with pytest.raises(ProtocolError) as caught:
        world.roster([world.envelopes["a"], world.envelopes["b"], second])
    assert code_of(caught) == "roster-mismatch"


def test_a_round_key_has_one_text() -> None:
    """Else a hub could hand on the same statement under as many digests as it likes."""
    world = World("ab")
    statement_of_b, _ = RoundKey.open(world.envelopes["b"])
    payload = statement_of_b.to_bytes().replace(b",", b", ", 1)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": RoundKey.payload_type,
        "signatures": [
            {
                "keyid": world.signing["b"].public,
                "sig": base64.b64encode(
                    world.signing["b"].sign(pae(RoundKey.payload_type, payload))
                ).decode(),
            }
        ],
    }
    with pytest.raises(CohortiumError) as caught:
        world.roster([world.envelopes["a"], json.dumps(envelope).encode()])
    assert code_of(caught) == "bad-digest"


# Signatures and lists


@pytest.mark.parametrize("liar", "abcd")
def test_no_signature_of_a_quorum_is_taken_unseen(liar: str) -> None:
    world = World("abcde")
    parties = world.parties()
    signed = statement("sha256:1", "abcd", parties)
    signatures = {site: world.signing[site].sign(signed) for site in "abcd"}
    check_signatures(signatures, "sha256:1", "abcd", parties)
    with pytest.raises(CohortiumError) as caught:
        check_signatures({**signatures, liar: bytes(64)}, "sha256:1", "abcd", parties)
    assert code_of(caught) == "bad-signature"


@pytest.mark.parametrize("number", [1, 3])
def test_a_list_is_for_its_own_round_and_no_earlier_or_later_one(number: int) -> None:
    party = World("abcde").party("a")
    memory = PartyRound(2, "sha256:2", party.parties.all)
    with pytest.raises(ProtocolError) as caught:
        party.unmask(memory, SurvivorList(number, party.parties.all))
    assert code_of(caught) == "wrong-round"


def test_where_not_all_are_neighbours_even_a_list_of_all_needs_its_signatures() -> None:
    party = World(RING_OF_100).party("s000")
    memory = PartyRound(1, "sha256:1", party.parties.all)
    with pytest.raises(CohortiumError) as caught:
        party.unmask(memory, SurvivorList(1, party.parties.all))
    assert code_of(caught) == "too-few-sites"


# Enough in all, and enough next to each


def test_a_site_counts_all_parties_and_not_only_its_neighbours() -> None:
    world = World(RING_OF_100, min_sites=90)
    party = world.party("s000")
    neighbours, holders = party.parties.neighbours("s000"), party.parties.holders("s000")
    some = holders | set(sorted(party.parties.all - holders)[:24])
    with pytest.raises(CohortiumError) as caught:
        party.check_active(some, dict.fromkeys(neighbours, SHARE))
    assert code_of(caught) == "too-few-sites"
    assert caught.value.details == {"sites": 89, "min_sites": 90}
    party.check_active(party.parties.all, dict.fromkeys(neighbours, SHARE))


def test_a_site_wants_enough_of_its_own_neighbours() -> None:
    party = World(RING_OF_100).party("s000")
    gone = set(sorted(party.parties.neighbours("s000"))[:22])
    present = party.parties.neighbours("s000") - gone
    with pytest.raises(CohortiumError) as caught:
        party.check_active(party.parties.all - gone, dict.fromkeys(present, SHARE))
    assert code_of(caught) == "too-few-sites"
    assert caught.value.details == {"sites": 43, "min_sites": 44}


def hub(world: World) -> Aggregator:
    return Aggregator(world.parties(), BINDING, {})


def closed(aggregator: Aggregator, absent: Collection[str]) -> AggregatorRound:
    """Inputs of all but those, and then no more."""
    state = aggregator.start()
    for site in sorted(aggregator.active - set(absent)):
        state, _ = aggregator.receive(state, MaskedInput(site, 1, bytes(8)))
    return aggregator.receive(state, TIME_IS_UP)[0]


def test_the_hub_counts_all_parties_and_not_only_neighbours() -> None:
    aggregator = hub(World(RING_OF_100, min_sites=90))
    assert closed(aggregator, RING_OF_100[:10]).step == "ConsistencyCheck"
    with pytest.raises(CohortiumError) as caught:
        closed(aggregator, RING_OF_100[:11])
    assert code_of(caught) == "too-few-sites"


def test_the_hub_closes_no_round_in_which_one_party_has_too_few_holders() -> None:
    aggregator = hub(World(RING_OF_100))
    neighbours = sorted(aggregator.parties.neighbours("s000"))
    assert closed(aggregator, neighbours[:20]).step == "ConsistencyCheck"
    with pytest.raises(CohortiumError) as caught:
        closed(aggregator, neighbours[:22])
    assert code_of(caught) == "too-few-sites"


def test_the_hub_waits_until_the_secrets_of_every_party_can_be_opened() -> None:
    """As many answers as the threshold are enough for some parties of the ring and not for all."""
    aggregator = hub(World(RING_OF_100))
    parties = aggregator.parties
    state = AggregatorRound("Unmasking", inputs=parties.all, survivors=parties.all)
    answered: set[str] = set()
    # Around the first party first: its secrets can be opened long before those of others.
    order = [*sorted(parties.holders("s000")), *sorted(parties.all - parties.holders("s000"))]
    for site in order:
        shares = dict.fromkeys(parties.holders(site), bytes(SHARE_BYTES))
        state, _ = aggregator.receive(state, Unmasking(site, 1, shares))
        answered.add(site)
        if state.step == "done":
            break
        assert any(len(parties.holders(s) & answered) < parties.threshold for s in parties.all)
    assert all(len(parties.holders(s) & answered) >= parties.threshold for s in parties.all)
    assert parties.threshold < len(answered) < 100


# What is kept from one round for the next


def test_what_a_site_keeps_of_a_round_is_not_used_in_another() -> None:
    world = World("abcde")
    party = world.party("a")

    def vector(party: Party, number: int, *, lying: bool) -> bytes:
        received = {s: world.party(s).share_keys(number).to("a") for s in "bcde"}
        if lying:  # the same party with a fresh secret for the hub, which helps it
            shared = agree(world.secrets["b"], party.roster.keys["a"], "a")
            channel = Channel(shared, party.roster.digest, "b", "a")
            other = public_key(seed("another mask key"))
            received["b"] = KeyShare(other, channel.seal(number, other, bytes(2 * SHARE_BYTES)))
        binding = replace(BINDING, round=number)
        return bytes(party.masked_input(binding, LAYOUT, ONE, "abcde", received)[1].vector)

    asked = [(1, False), (2, False), (2, True), (2, False), (1, False)]
    again = [vector(party, number, lying=lying) for number, lying in asked]
    fresh = [vector(world.party("a"), number, lying=lying) for number, lying in asked]
    assert again == fresh
    assert len(set(fresh)) == 3


@pytest.mark.parametrize(
    ("active", "claimed"),
    [("abcd", "abce"), ("abcd", "abcde"), ("abcde", "bcde"), ("abcde", "abc"), ("abcde", "")],
)
def test_a_site_that_says_it_answered_for_what_it_cannot_have_is_named(
    active: str, claimed: str
) -> None:
    aggregator = Aggregator(World("abcde").parties(), BINDING, {}, active=active, repeated=True)
    message = MaskedInput("a", 1, bytes(8), agreed=frozenset(claimed))
    with pytest.raises(ProtocolError) as caught:
        aggregator.receive(aggregator.start(), message)
    assert code_of(caught) == "unexpected-message"
    assert caught.value.details == {"site": "a"}


# What a neighbour may do that is a party itself


def test_a_neighbour_that_seals_too_little_is_named_before_anything_is_masked() -> None:
    """Its text is authentic; what is too short would be this site's fault in step 4."""
    world = World("abcde")
    parties = world.parties()
    keys = {site: world.party(site).share_keys(1) for site in "bcde"}
    received = {site: keys[site].to("a") for site in "bcde"}
    shared = agree(world.secrets["b"], parties.roster.keys["a"], "a")
    channel = Channel(shared, parties.roster.digest, "b", "a")
    assert channel.seal(1, bytes(32), bytes(66)) != channel.seal(2, bytes(32), bytes(66))
    mask_key = received["b"].mask_key
    for text in (b"", bytes(SHARE_BYTES), bytes(2 * SHARE_BYTES + 1)):
        bad = KeyShare(mask_key, channel.seal(1, mask_key, text))
        with pytest.raises(ProtocolError) as caught:
            world.party("a").masked_input(BINDING, LAYOUT, ONE, "abcde", {**received, "b": bad})
        assert code_of(caught) == "bad-share"
        assert caught.value.details == {"site": "b"}


# Encoding


@pytest.mark.parametrize("ring", [REAL, ring_for(FieldSpec((1,), "vector"), 3)])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, 2.0**127, -(2.0**127)])
def test_what_does_not_fit_is_refused_without_a_nan_beside_it(ring: Ring, bad: float) -> None:
    with pytest.raises(InputError) as caught:
        ring.encode(np.array([0.0, bad]), 3)
    assert caught.value.details == {"index": 1}


def test_every_site_may_contribute_as_much_as_the_bound() -> None:
    spec: Layout = {"x": FieldSpec((2,), "vector", bound=0.75)}
    one = {"x": np.array([0.75, -0.75], dtype=np.float32)}
    total = World(SEVEN[:3]).sum(spec, dict.fromkeys("abc", one))
    assert total["x"].tolist() == [2.25, -2.25]


# Random rounding


def rounded(n_rounds: int) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """In units of the ring: the sums of three sites that each contribute 1000 times one half."""
    spec = FieldSpec((1000,), "vector")
    unit = 2.0 ** -ring_for(spec, 3).fraction_bits
    world = World("abc")
    one = {"x": np.full(1000, unit / 2)}
    totals = [
        world.sum({"x": spec}, dict.fromkeys("abc", one), replace(BINDING, round=number))
        for number in range(1, n_rounds + 1)
    ]
    return [total["x"].astype(np.float64) / unit for total in totals]


def test_each_site_rounds_by_itself() -> None:
    """Else the hub could take the rounding off: it would know who went up where."""
    (total,) = rounded(1)
    assert set(total) == {0.0, 1.0, 2.0, 3.0}
    counts = [int(np.sum(total == ups)) for ups in range(4)]
    assert all(abs(c - e) < 90 for c, e in zip(counts, [125, 375, 375, 125], strict=True))


def test_each_round_is_rounded_by_itself() -> None:
    """Else rounds over the same contribution would all go up or down together."""
    first, second = rounded(2)
    assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.2


def test_a_site_that_was_restarted_rounds_alike() -> None:
    spec: Layout = {"x": FieldSpec((100,), "vector")}
    one = {"x": np.full(100, 0.1)}
    world = World("abc")
    first = Party("a", world.secrets["a"], world.parties()).masked_input(BINDING, spec, one)
    again = Party("a", world.secrets["a"], world.parties()).masked_input(BINDING, spec, one)
    assert first[1].vector == again[1].vector


def test_the_rounding_has_its_room_in_the_worst_case() -> None:
    """1000 sites at the bound, which all round up: without that room their sum would wrap."""
    bound = 2147483.5 * 2.0**-20
    ring = ring_for(FieldSpec((1,), "vector", bound), 1000)
    up = np.full(1, 2**32 - 1, dtype=np.uint32)
    (encoded,) = ring.encode(np.array([bound]), 1000, up).view(np.int32).tolist()
    assert 2**29 < 1000 * encoded <= 2**31 - 1
