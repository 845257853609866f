from __future__ import annotations

import numpy as np
import pytest
from tests.support.secagg import World

from cohortium.crypto.keys import unb64url
from cohortium.errors import CohortiumError, ProtocolError
from cohortium.secagg.graph import FULL_GRAPH_PARTIES

NAMES = ["北京", "Aarhus", "Boston", "Zürich", "a b"]
IN_ORDER = ["Aarhus", "Boston", "Zürich", "a b", "北京"]


def many(n: int, label: str = "") -> World:
    return World([f"s{number:03}" for number in range(n)], label=label)


def test_parties_have_their_order_and_points_by_name() -> None:
    parties = World(NAMES).parties()
    assert list(parties.sites) == IN_ORDER
    assert [parties.point(site) for site in IN_ORDER] == [1, 2, 3, 4, 5]
    assert parties.all == frozenset(NAMES)


@pytest.mark.parametrize(
    ("n", "min_sites", "threshold", "recoverable"),
    [
        (2, 2, 2, False),
        (3, 2, 3, False),
        (4, 2, 3, True),
        (4, 4, 4, False),
        (5, 3, 4, True),
        (5, 5, 5, False),
        (6, 2, 5, True),
        (7, 2, 5, True),
        (7, 6, 6, True),
        (10, 3, 7, True),
        (64, 3, 43, True),
    ],
)
def test_the_threshold_is_two_thirds_or_the_contracts_minimum(
    n: int, min_sites: int, threshold: int, recoverable: bool
) -> None:
    world = many(n)
    world.min_sites = min_sites
    parties = world.parties()
    assert (parties.threshold, parties.quorum, parties.fewest) == (threshold,) * 3
    assert parties.recoverable is recoverable
    assert parties.complete


def test_of_a_few_parties_all_are_neighbours_and_all_are_in_the_committee() -> None:
    parties = World(NAMES).parties()
    for site in NAMES:
        assert parties.neighbours(site) == parties.all - {site}
        assert parties.holders(site) == parties.all
    assert parties.committee == parties.all


def test_of_many_parties_each_has_its_neighbours_on_the_ring() -> None:
    parties = many(200).parties()
    assert FULL_GRAPH_PARTIES < 200
    assert not parties.complete
    degrees = {len(parties.neighbours(site)) for site in parties.sites}
    assert len(degrees) == 1
    (k,) = degrees
    assert k < 199
    assert len(parties.committee) == k + 1
    for site in parties.sites:
        assert site not in parties.neighbours(site)
        assert parties.holders(site) == parties.neighbours(site) | {site}
        for peer in parties.neighbours(site):
            assert site in parties.neighbours(peer)
        assert len(parties.holders(site)) >= parties.threshold


def test_the_graph_follows_from_all_keys() -> None:
    one, same, other = many(200).parties(), many(200).parties(), many(200, "other").parties()
    neighbours = [{s: p.neighbours(s) for s in p.sites} for p in (one, same, other)]
    assert neighbours[0] == neighbours[1]
    assert neighbours[0] != neighbours[2]
    assert one.committee == same.committee != other.committee


def test_a_set_of_parties_is_a_bitmap_over_their_order() -> None:
    parties = World(NAMES).parties()
    assert parties.to_bits([]) == b"\0"
    assert parties.to_bits(["Aarhus"]) == b"\x01"
    assert parties.to_bits(["北京", "Boston"]) == b"\x12"
    assert parties.to_bits(NAMES) == b"\x1f"
    assert parties.named(b"") == parties.all
    assert parties.named(b"\x12") == {"北京", "Boston"}
    assert many(9).parties().to_bits(["s008"]) == b"\0\x01"


@pytest.mark.parametrize("n", [2, 7, 8, 9, 64, 65, 200])
def test_a_bitmap_comes_back_as_the_set(n: int) -> None:
    parties = many(n).parties()
    random = np.random.default_rng(n)
    for _ in range(20):
        sites = frozenset(site for site in parties.sites if random.integers(2))
        bits = parties.to_bits(sites)
        assert len(bits) == -(-n // 8)
        assert parties.from_bits(bits) == sites
        assert unb64url(parties.text(sites)) == bits


@pytest.mark.parametrize("bits", [b"", b"\x20", b"\xff", b"\x01\x00", b"\x00\x01"])
def test_a_bitmap_that_does_not_fit_is_refused(bits: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        World(NAMES).parties().from_bits(bits)
    assert caught.value.code == "malformed-message"


def test_every_bitmap_is_a_set_of_parties_or_refused() -> None:
    parties = World(NAMES).parties()
    found = set()
    for bits in range(256):
        try:
            found.add(parties.from_bits(bytes([bits])))
        except CohortiumError:
            assert bits >= 32
    assert len(found) == 32
