"""Secret sharing and the neighbour graph, for any number of parties."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.errors import ProtocolError
from cohortium.secagg.graph import tolerated, topology
from cohortium.secagg.shamir import PRIME, SHARE_BYTES, combine, split

SECRETS = st.binary(min_size=32, max_size=32)


@given(secret=SECRETS, data=st.data(), seed=st.integers(0, 2**32))
def test_any_threshold_shares_open_the_secret_and_fewer_are_refused(
    secret: bytes, data: st.DataObject, seed: int
) -> None:
    points = data.draw(st.lists(st.integers(1, 10_000), min_size=1, max_size=40, unique=True))
    threshold = data.draw(st.integers(1, len(points)))
    shares = split(secret, threshold, points, random.Random(seed).randbytes)
    kept = data.draw(st.permutations(points))
    assert combine({point: shares[point] for point in kept[:threshold]}, threshold) == secret
    with pytest.raises(ProtocolError):
        combine({point: shares[point] for point in kept[: threshold - 1]}, threshold)


@given(
    shares=st.dictionaries(
        st.integers(-1, 5) | st.integers(PRIME - 2, PRIME + 2),
        st.binary(max_size=40) | st.binary(min_size=SHARE_BYTES, max_size=SHARE_BYTES),
        max_size=6,
    ),
    threshold=st.integers(1, 5),
)
def test_whatever_comes_as_shares_opens_32_bytes_or_is_refused(
    shares: dict[int, bytes], threshold: int
) -> None:
    try:
        secret = combine(shares, threshold)
    except ProtocolError:
        return
    assert len(secret) == 32


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 400), data=st.data(), seed=SECRETS)
def test_every_graph_is_regular_and_mutual_and_withstands_what_it_promises(
    n: int, data: st.DataObject, seed: bytes
) -> None:
    min_sites = data.draw(st.integers(0, n))
    graph = topology(n, min_sites, seed)
    k = graph.neighbours.k
    neighbours = list(graph.neighbours)
    for party, near in enumerate(neighbours):
        assert len(near) == k
        assert party not in near
        assert all(party in neighbours[other] for other in near)
    assert len(graph.committee) == k + 1
    assert 1 <= graph.threshold <= k + 1
    assert 2 * graph.threshold > k + 1
    assert max(min_sites, 2 * n // 3 + 1) == graph.survivors <= n
    assert graph.recoverable == (graph.survivors < n)
    if n <= 64:
        assert n - graph.survivors <= tolerated(n) < 2 * graph.threshold - n
