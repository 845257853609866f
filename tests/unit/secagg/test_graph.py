from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import pytest
from scipy import stats

from cohortium.secagg.graph import (
    CORRECTNESS_BITS,
    FAILURE_BITS,
    GRINDING_BITS,
    Degree,
    Neighbours,
    degree,
    log_tail,
    permutation,
    tolerated,
    topology,
)

SEED = bytes(range(32))
DECISION = Path(__file__).parents[3] / "docs" / "adr" / "0013-neighbour-graph.md"


def exact_tail(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """P(X >= at_least) of the hypergeometric distribution, in rational arithmetic."""
    favourable = sum(
        math.comb(marked, x) * math.comb(population - marked, drawn - x)
        for x in range(max(0, at_least), min(marked, drawn) + 1)
    )
    return Fraction(favourable, math.comb(population, drawn))


# Tails


@pytest.mark.parametrize("population", [1, 2, 7, 12])
def test_a_tail_is_the_rational_one_in_every_small_case(population: int) -> None:
    for marked, drawn in product(range(population + 1), repeat=2):
        for at_least in range(-1, drawn + 2):
            exact = exact_tail(population, marked, drawn, at_least)
            found = math.exp(log_tail(population, marked, drawn, at_least))
            assert found == pytest.approx(float(exact), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("population", "marked", "drawn", "at_least"),
    [(800, 80, 93, 47), (800, 80, 187, 47), (2000, 200, 112, 3), (10_000, 1000, 128, 63)],
)
def test_a_tail_is_the_rational_one_far_out(
    population: int, marked: int, drawn: int, at_least: int
) -> None:
    exact = exact_tail(population, marked, drawn, at_least)
    log_exact = math.log(exact.numerator) - math.log(exact.denominator)
    assert log_tail(population, marked, drawn, at_least) == pytest.approx(
        log_exact, rel=1e-10, abs=1e-9
    )


def test_a_tail_is_that_of_scipy_in_a_large_population() -> None:
    for at_least in (5, 100, 150, 200):
        reference = stats.hypergeom.logsf(at_least - 1, 10**6, 10**5, 1000)
        assert log_tail(10**6, 10**5, 1000, at_least) == pytest.approx(
            reference, rel=1e-6, abs=1e-9
        )


# The published parameters


def published_finder(n: int, corrupt: float, dropped: float, *, malicious: bool) -> Degree | None:
    """The conditions of Bell et al. as their authors implemented them: 2^-40 and 2^-20.

    google-parfait/federated-compute, fcp/secagg/server/graph_parameter_finder.cc. Drop-outs are at
    random, colluders do not try keys, and holders do not include the party itself.
    """
    n_corrupt, n_dropped = (math.floor((rate + 1e-14) * n) for rate in (corrupt, dropped))
    n_bad = n_corrupt + n_dropped
    secure, correct = -41 * math.log(2), -20 * math.log(2)
    most_corrupt, too_many_dropped = 0, 1
    for k in range(2, n - 1, 2):
        log_pairs_of_gaps = math.log(n * (n - k - 1) / 2)
        if log_pairs_of_gaps + log_tail(n, n_bad, k, k) >= secure:
            continue
        while log_tail(n, n_corrupt, k, most_corrupt + 1) > secure - math.log(n):
            most_corrupt += 1
        while log_tail(n, n_dropped, k, too_many_dropped) > correct - math.log(n):
            too_many_dropped += 1
        lowest = math.ceil((most_corrupt + k - 1.25) / 2) if malicious else most_corrupt
        if lowest < k - too_many_dropped + 1:
            return Degree(k, max(lowest + 1, 2))
    return None


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped", "malicious", "k", "threshold"),
    [
        (100, 0.45, 0.45, False, 92, 46),
        (1000, 0.45, 0.45, False, 822, 417),
        (10, 0.33, 0.33, False, 8, 4),
        (1000, 0.33, 0.33, False, 286, 150),
        (1_000_000, 0.33, 0.33, False, 518, 270),
        (100, 0.3, 0.3, True, 92, 62),
        (1000, 0.3, 0.3, True, 872, 584),
        (100, 0.05, 0.33, False, 28, 6),
        (10_000, 0.05, 0.33, False, 86, 29),
        (1000, 0.05, 0.33, True, 398, 223),
        (10_000, 0.05, 0.33, True, 746, 420),
        (10_000, 0.33, 0.05, False, 92, 70),
        (1000, 0.33, 0.05, True, 132, 109),
        (1_000_000, 0.33, 0.05, True, 212, 173),
        (100, 0.05, 0.05, False, 12, 6),
        (1000, 0.05, 0.05, False, 30, 17),
        (1_000_000, 0.05, 0.05, False, 38, 22),
        (100, 0.05, 0.05, True, 16, 11),
        (1000, 0.05, 0.05, True, 52, 37),
        (10_000, 0.05, 0.05, True, 62, 44),
        (1_000_000, 0.05, 0.05, True, 74, 52),
        (1000, 0.33, 0.0, True, 38, 37),
        (10_000, 0.0, 0.33, True, 326, 164),
    ],
)
def test_our_tails_under_the_papers_conditions_give_the_published_parameters(
    n: int, corrupt: float, dropped: float, malicious: bool, k: int, threshold: int
) -> None:
    """The table of graph_parameter_finder_test.cc, by the paper's authors."""
    assert published_finder(n, corrupt, dropped, malicious=malicious) == (k, threshold)


@pytest.mark.parametrize("n", [1000, 10_000, 100_000])
def test_drop_outs_of_the_hubs_choice_cost_a_few_neighbours_more_than_random_ones(n: int) -> None:
    published = published_finder(n, 0.05, 0.05, malicious=True)
    ours = degree(
        n, corrupt=n // 20, dropped=n // 20, failure_bits=40, grinding_bits=0, correctness_bits=20
    )
    assert published is not None
    assert published.k < ours.k < 1.2 * published.k


def test_the_papers_ten_thousand_clients_talk_to_less_than_three_in_a_hundred() -> None:
    """Abstract of Bell et al.: 10^4 clients, 5% corrupt, 5% drop out: 3% of the clients."""
    ours = degree(
        10_000, corrupt=500, dropped=500, failure_bits=40, grinding_bits=0, correctness_bits=30
    )
    assert ours.k <= 300
    assert degree(10_000, corrupt=500, dropped=500).k <= 300


# Our own parameters


def holds(n: int, corrupt: int, dropped: int, k: int, threshold: int) -> bool:
    """Whether (k, threshold) keeps both bounds, in rational arithmetic."""
    pairs = Fraction(n * (n - k + 1), 2)
    colluding = pairs * exact_tail(n, corrupt, k, 2 * (threshold - k // 2 - 1))
    missing = n * exact_tail(n, dropped, k + 1, k + 2 - threshold)
    return colluding <= Fraction(1, 2 ** (FAILURE_BITS + GRINDING_BITS)) and missing <= Fraction(
        1, 2**CORRECTNESS_BITS
    )


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped"), [(90, 9, 9), (120, 21, 21), (200, 10, 20), (300, 30, 10)]
)
def test_the_degree_is_the_smallest_that_keeps_both_bounds(
    n: int, corrupt: int, dropped: int
) -> None:
    k, threshold = degree(n, corrupt=corrupt, dropped=dropped)
    assert holds(n, corrupt, dropped, k, threshold)
    assert not holds(n, corrupt, dropped, k, threshold - 1)
    assert not any(holds(n, corrupt, dropped, k - 2, t) for t in range(1, k))


def most_in_two_runs(n: int, half: int, marked: Collection[int]) -> int:
    """The most of the marked that two separate runs of `half` places on a ring of `n` hold."""
    runs = [{(first + i) % n for i in range(half)} for first in range(n)]
    return max(len((a | b) & set(marked)) for a, b in combinations(runs, 2) if not a & b)


def test_the_union_bound_covers_the_exact_probability_over_all_orders() -> None:
    """n = 12, 4 colluding: the chance that two separate runs of 2 places hold all of them."""
    n, corrupt, k = 12, 4, 4
    bad = sum(most_in_two_runs(n, k // 2, c) >= 4 for c in combinations(range(n), corrupt))
    probability = bad / math.comb(n, corrupt)
    bound = n * (n - k + 1) / 2 * math.exp(log_tail(n, corrupt, k, 4))
    assert 0.5 * bound < probability <= bound


def test_more_failure_bits_more_colluders_or_more_drop_outs_need_more_neighbours() -> None:
    k = degree(1000, corrupt=50, dropped=50).k
    assert degree(1000, corrupt=50, dropped=50, failure_bits=60).k > k
    assert degree(1000, corrupt=50, dropped=50, grinding_bits=60).k > k
    assert degree(1000, corrupt=50, dropped=50, correctness_bits=50).k > k
    assert degree(1000, corrupt=80, dropped=50).k > k
    assert degree(1000, corrupt=50, dropped=80).k > k


def test_where_no_smaller_graph_will_do_everyone_is_a_neighbour() -> None:
    assert degree(30, corrupt=7, dropped=9) != (29, 21)
    assert degree(30, corrupt=11, dropped=9) == (29, 21)
    assert degree(30, corrupt=9, dropped=10) == (29, 20)  # at most those who are left
    assert degree(30, corrupt=18, dropped=5) == (29, 25)  # more than half of 30 + 18
    with pytest.raises(RuntimeError, match="no graph of 30 withstands"):
        degree(30, corrupt=18, dropped=6)


def test_a_larger_network_never_withstands_fewer_colluding_sites() -> None:
    counts = [tolerated(n) for n in range(2, 3000)]
    assert counts == sorted(counts)
    assert [tolerated(n) for n in (2, 3, 4, 64, 65, 219, 220, 800)] == [0, 0, 1, 21, 21, 21, 22, 80]


@pytest.mark.parametrize("n", range(2, 90))
def test_a_full_graph_withstands_what_it_promises(n: int) -> None:
    graph = topology(n, 2, SEED)
    if graph.neighbours.k == n - 1:
        assert 2 * graph.threshold > n + tolerated(n)
        assert n - tolerated(n) >= graph.threshold


def test_the_table_of_the_decision_is_what_is_computed() -> None:
    rows = [
        [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+", line)]
        for line in DECISION.read_text().splitlines()
        if re.match(r"\| *[\d,]+ \| *[\d,]+ \| *[\d,]+ \| *[\d,]+ \|$", line)
    ]
    assert [row[0] for row in rows] == [64, 65, 100, 200, 400, 800, 2000, 10_000]
    for n, withstood, k, threshold in rows:
        graph = topology(n, 2, SEED)
        assert (withstood, k, threshold) == (tolerated(n), graph.neighbours.k, graph.threshold)


# What a lying hub can open


def learns_a_part(n: int, k: int, threshold: int, corrupt: Collection[int]) -> bool:
    """Whether a hub that chooses who drops out and who hears of it opens more than one sum.

    Tried are all ways in which honest parties are (0) not in the active set A, (1) in A, not in the
    list L, (2) in both, answering for A, (3) in both, answering for L. Colluders answer for both.
    A sum is open where all self-masks of a connected component of those parties are open whose mask
    keys are closed.
    """
    graph = Neighbours(tuple(range(n)), k)
    near = [sum(1 << j for j in graph[i]) for i in range(n)]
    colluding = sum(1 << i for i in corrupt)
    honest = [i for i in range(n) if i not in corrupt]
    for ways in product(range(4), repeat=len(honest)):
        members: list[int] = [0, 0, 0, 0]
        for party, way in zip(honest, ways, strict=True):
            members[way] |= 1 << party
        active, listed = members[1] | members[2] | members[3], members[2] | members[3]
        for_active, for_listed = members[1] | members[2] | colluding, members[3] | colluding
        live = ready = 0
        for i in honest:
            holders = near[i] | 1 << i
            seed = for_active | (for_listed if listed >> i & 1 else 0)
            seed_open = (holders & seed).bit_count() >= threshold
            key = colluding if listed >> i & 1 else for_listed
            key_open = (holders & key).bit_count() >= threshold
            if not active >> i & 1:
                continue
            if seed_open and key_open:
                return True
            live |= 0 if key_open else 1 << i
            ready |= 1 << i if seed_open else 0
        rest = live
        while rest:
            component = grown = rest & -rest
            while grown:
                i = grown.bit_length() - 1
                fresh = near[i] & live & ~component
                component |= fresh
                grown = (grown | fresh) & ~(1 << i)
            if component & ~ready == 0 and (component != live or listed & ~live):
                return True
            rest &= ~component
    return False


@pytest.mark.parametrize(
    ("n", "k", "corrupt"),
    [(8, 4, []), (8, 4, [4, 7]), (9, 4, [2]), (11, 6, [5, 9]), (11, 6, [5, 6])],
)
def test_within_the_bound_no_choice_of_drop_outs_opens_a_part_of_the_sum(
    n: int, k: int, corrupt: list[int]
) -> None:
    threshold = k // 2 + 2 + most_in_two_runs(n, k // 2, corrupt) // 2
    assert not learns_a_part(n, k, threshold, corrupt)


def test_one_share_fewer_and_the_hub_cuts_the_ring() -> None:
    assert learns_a_part(8, 4, 3, [])
    assert learns_a_part(8, 4, 4, [4, 7])
    assert learns_a_part(11, 6, 5, [5, 9])


# The graph


def test_the_order_is_uniform_and_a_word_that_would_favour_some_is_drawn_again() -> None:
    orders = Counter(permutation(4, iter(words)) for words in product(range(4), range(3), range(2)))
    assert len(orders) == 24
    assert set(orders.values()) == {1}
    limit = 2**64 // 3 * 3
    assert permutation(3, iter([2**64 - 1, limit, 4, 1])) == permutation(3, iter([4, 1]))


def test_the_order_is_the_same_everywhere_and_another_for_another_seed() -> None:
    graph = topology(800, 3, SEED)
    assert graph == topology(800, 3, SEED)
    text = ",".join(map(str, graph.neighbours.order))
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "9b040c4d73c7a673524ac5057983748f7cbab936469182d653f6fc916446c487"
    )
    other = topology(800, 3, bytes(32))
    assert other.neighbours.order != graph.neighbours.order
    assert other.committee != graph.committee
    assert sorted(other.neighbours.order) == list(range(800))


@pytest.mark.parametrize("n", [66, 101, 800])
def test_each_party_is_joined_to_the_same_number_on_either_side_of_the_ring(n: int) -> None:
    graph = topology(n, 2, SEED)
    order, k = graph.neighbours.order, graph.neighbours.k
    assert k < n - 1
    for place, party in enumerate(order):
        expected = {order[(place + d) % n] for d in range(-k // 2, k // 2 + 1)} - {party}
        assert graph.neighbours[party] == expected
        assert len(expected) == k
    assert len(list(graph.neighbours)) == len(graph.neighbours) == n
    assert graph.committee == set(order[: k + 1])
    assert (
        graph.quorum == graph.threshold == degree(n, corrupt=tolerated(n), dropped=tolerated(n))[1]
    )


@pytest.mark.parametrize(
    ("n", "min_sites", "survivors"),
    [(2, 2, 2), (3, 2, 3), (4, 2, 3), (5, 2, 4), (5, 5, 5), (64, 2, 43)],
)
def test_up_to_64_parties_all_are_neighbours_and_sign(
    n: int, min_sites: int, survivors: int
) -> None:
    graph = topology(n, min_sites, SEED)
    everyone = frozenset(range(n))
    assert all(graph.neighbours[i] == everyone - {i} for i in range(n))
    assert graph.committee == everyone
    assert graph.threshold == graph.quorum == graph.survivors == survivors
    assert graph.recoverable == (survivors < n)


def test_a_contract_can_ask_for_more_survivors_in_a_large_network() -> None:
    graph = topology(800, 700, SEED)
    assert (graph.survivors, graph.threshold) == (700, topology(800, 2, SEED).threshold)
    assert topology(800, 2, SEED).survivors == 534
    assert graph.recoverable
    assert not topology(800, 800, SEED).recoverable


@pytest.mark.parametrize(
    ("n", "min_sites", "seed"), [(1, 1, SEED), (4, 5, SEED), (4, -1, SEED), (4, 2, SEED[:31])]
)
def test_a_wrong_call_is_a_programming_error(n: int, min_sites: int, seed: bytes) -> None:
    with pytest.raises(RuntimeError):
        topology(n, min_sites, seed)


def test_a_degree_for_no_network_is_a_programming_error() -> None:
    for n, corrupt, dropped in ((1, 0, 0), (10, -1, 0), (10, 0, -1)):
        with pytest.raises(RuntimeError):
            degree(n, corrupt=corrupt, dropped=dropped)
