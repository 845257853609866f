"""The secure sum's messages on the wire: what is put comes back, and nothing else does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.secagg import RUN, World

from cohortium.errors import ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.rounds import (
    get_key_shares,
    get_shares,
    get_signature,
    get_survivors,
    get_unmasking,
    pack_keys,
    put_key_shares,
    put_round,
    put_survivors,
    put_unmasking,
    unpack_keys,
)
from cohortium.secagg.messages import SurvivorList, SurvivorSignature, Unmasking

SITES = ["北京", "Aarhus", "Boston", "Zürich", "a b"]
WORLD = World(SITES, min_sites=3)
PARTIES = WORLD.parties()
KEYS = {site: WORLD.party(site).share_keys(3) for site in SITES}


def refused(step: Callable[[], Any]) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        step()
    assert caught.value.code == "malformed-message"
    return caught.value


def test_keys_for_a_round_come_back() -> None:
    keys = KEYS["Boston"]
    reply = put_key_shares(keys, RUN, PARTIES)
    again = pb.ShareReply.FromString(reply.SerializeToString())
    assert (again.run_id, again.round) == (RUN, 3)
    assert get_key_shares(again, "Boston", PARTIES) == keys


def test_keys_that_the_hub_stores_come_back() -> None:
    for sites in (SITES, SITES[:2], []):
        keys = {site: KEYS[site] for site in sites}
        assert unpack_keys(pack_keys(keys, RUN, PARTIES), PARTIES) == keys


@pytest.mark.parametrize("length", [0, 81, 83])
def test_sealed_shares_have_their_length(length: int) -> None:
    keys = KEYS["Boston"]
    sealed = {**keys.sealed, "Aarhus": bytes(length)}
    reply = put_key_shares(replace(keys, sealed=sealed), RUN, PARTIES)
    error = refused(lambda: get_key_shares(reply, "Boston", PARTIES))
    assert error.details == {"site": "Boston"}


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_mask_key_has_32_bytes(length: int) -> None:
    reply = put_key_shares(replace(KEYS["Boston"], mask_key=bytes(length)), RUN, PARTIES)
    error = refused(lambda: get_key_shares(reply, "Boston", PARTIES))
    assert error.details == {"site": "Boston"}


def test_keys_are_for_exactly_the_neighbours() -> None:
    keys = KEYS["Boston"]
    without = {site: blob for site, blob in keys.sealed.items() if site != "Aarhus"}
    for sealed in ({}, without, {**keys.sealed, "Boston": b"for itself"}):
        reply = put_key_shares(replace(keys, sealed=sealed), RUN, PARTIES)
        error = refused(partial(get_key_shares, reply, "Boston", PARTIES))
        assert error.details == {"site": "Boston"}


def test_what_neighbours_share_comes_back_with_who_takes_part() -> None:
    active = frozenset(SITES) - {"Zürich"}
    shares = {peer: KEYS[peer].to("Boston") for peer in sorted(active - {"Boston"})}
    request = pb.RoundRequest()
    put_round(request, active, shares, PARTIES)
    again = pb.RoundRequest.FromString(request.SerializeToString())
    assert PARTIES.named(again.active) == active
    assert get_shares(again, PARTIES) == shares


def test_a_request_without_parties_means_all_of_them() -> None:
    assert PARTIES.named(pb.RoundRequest().active) == frozenset(SITES)
    assert get_shares(pb.RoundRequest(), PARTIES) == {}


@pytest.mark.parametrize("signed", [False, True])
def test_a_list_of_survivors_comes_back(signed: bool) -> None:
    survivors = frozenset(SITES[1:])
    signatures = {site: site.encode() * 8 for site in survivors} if signed else {}
    message = SurvivorList(7, survivors, signatures)
    wire = put_survivors(message, RUN, PARTIES)
    assert wire.run_id == RUN
    assert get_survivors(pb.SurvivorList.FromString(wire.SerializeToString()), PARTIES) == message


@pytest.mark.parametrize("bits", [b"", b"\x20", b"\xff", b"\x0f\x00"])
def test_a_list_that_does_not_fit_the_roster_is_refused(bits: bytes) -> None:
    """No bits at all mean everybody in a request for a round, and nothing in a list."""
    refused(lambda: get_survivors(pb.SurvivorList(survivors=bits), PARTIES))


def test_signature_and_shares_come_back_with_the_sender_that_the_link_knows() -> None:
    signature = pb.SurvivorSignature(run_id=RUN, round=2, signature=b"s" * 64)
    assert get_signature(signature, "Boston") == SurvivorSignature("Boston", 2, b"s" * 64)
    unmasking = Unmasking("Boston", 2, {site: site.encode() for site in SITES})
    wire = put_unmasking(unmasking, RUN, PARTIES)
    again = pb.Unmasking.FromString(wire.SerializeToString())
    assert again.run_id == RUN
    assert get_unmasking(again, "Boston", PARTIES) == unmasking


def readers() -> dict[str, Callable[[list[int]], Any]]:
    """Each message that names parties by their place, with those places."""

    def items(places: list[int]) -> list[pb.OfParty]:
        return [pb.OfParty(party=place, data=b"x") for place in places]

    return {
        "keys": lambda places: get_key_shares(
            pb.ShareReply(mask_key=bytes(32), sealed=items(places)), "Boston", PARTIES
        ),
        "shares": lambda places: get_shares(
            pb.RoundRequest(shares=[pb.KeyShare(party=place) for place in places]), PARTIES
        ),
        "signatures": lambda places: get_survivors(
            pb.SurvivorList(survivors=b"\x1f", signatures=items(places)), PARTIES
        ),
        "unmasking": lambda places: get_unmasking(
            pb.Unmasking(shares=items(places)), "Boston", PARTIES
        ),
    }


@pytest.mark.parametrize("what", readers())
@pytest.mark.parametrize("places", [[5], [2**32 - 1], [0, 0], [1, 2, 1]])
def test_a_party_that_is_not_there_or_there_twice_is_refused(what: str, places: list[int]) -> None:
    refused(lambda: readers()[what](places))


places = st.integers(0, 6)
items = st.lists(
    st.builds(pb.OfParty, party=places, data=st.just(bytes(82)) | st.binary(max_size=4)), max_size=6
)
key_shares = st.lists(
    st.builds(pb.KeyShare, party=places, mask_key=st.binary(max_size=34)), max_size=6
)


@given(items, key_shares, st.binary(max_size=3), st.binary(min_size=30, max_size=34))
def test_any_message_is_read_as_it_stands_or_refused(
    of: list[pb.OfParty], shares: list[pb.KeyShare], bits: bytes, mask_key: bytes
) -> None:
    by_place = {item.party: item.data for item in of}
    with contextlib.suppress(ProtocolError):
        keys = get_key_shares(
            pb.ShareReply(round=1, mask_key=mask_key, sealed=of), "Boston", PARTIES
        )
        assert (keys.mask_key, len(keys.mask_key)) == (mask_key, 32)
        assert {PARTIES.point(site) - 1: data for site, data in keys.sealed.items()} == by_place
        assert sorted(by_place) == [0, 2, 3, 4]
    with contextlib.suppress(ProtocolError):
        read = get_shares(pb.RoundRequest(shares=shares), PARTIES)
        assert len(read) == len(shares)
    with contextlib.suppress(ProtocolError):
        survivors = get_survivors(pb.SurvivorList(survivors=bits, signatures=of), PARTIES)
        assert PARTIES.to_bits(survivors.survivors) == bits
        assert len(survivors.signatures) == len(of)
    with contextlib.suppress(ProtocolError):
        assert len(get_unmasking(pb.Unmasking(shares=of), "Boston", PARTIES).shares) == len(of)
