"""Who masks with whom and who holds whose shares: everyone, or the neighbour graph of SecAgg+.

Up to 64 parties all are neighbours. Above, the parties are put on a ring in an order that is drawn
from a public seed, and each is joined to the k/2 next to it on either side (the Harary graph
H(n, k)). A party's secrets are shared among its *holders*, its neighbours and itself, m = k + 1.

The order must not follow the colluders' choice of keys, so that the seed is the digest of all round
keys, and each draw is as bad as 2^`grinding_bits` trials can make it. Given the graph, a lying hub
still chooses who drops out. Let g = `threshold` - k/2 - 1. Where no two separate runs of k/2 places
of the ring hold 2g colluders between them,

1. only one of a party's two secrets can be opened: 2 `threshold` > m + colluding holders;
2. only one active set, and one shorter list of survivors besides, can get `threshold` signatures of
   the committee (m consecutive parties);
3. the sum cannot be opened in parts: a part lies between two gaps of k/2 places or more that are
   out or collude, and next to one with fewer than g colluders a party has too few holders left.

Bell et al. bound the chance that drop-outs *at random* cut the graph; 3 leaves them to the hub. The
argument, and what it asks of the protocol, is in decision 0013.

References: Bell, Bonawitz, Gascón, Lepoint, Raykova, "Secure single-server aggregation with
(poly)logarithmic overhead", CCS 2020 (eprint 2020/704), algorithm 1 and section 4; F. Harary, "The
maximum connectivity of a graph", PNAS 48, 1962.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from typing import Final, NamedTuple

FULL_GRAPH_PARTIES: Final = 64
"""Up to so many parties, all are neighbours."""

FAILURE_BITS: Final = 40
"""A run whose graph withstands fewer colluding sites than stated has probability 2^-40 ..."""

GRINDING_BITS: Final = 40
"""... even if the colluders tried 2^40 sets of keys to find such a graph."""

CORRECTNESS_BITS: Final = 30
"""A round that the stated drop-outs, at random, leave unfinished has probability 2^-30."""

SEED_LABEL: Final = b"cohortium/secagg/graph/1"


class Degree(NamedTuple):
    """Neighbours of each party (k), and shares that open a secret among k + 1 holders."""

    k: int
    threshold: int


@dataclass(frozen=True)
class Neighbours:
    """The parties joined to each: `neighbours[i]`, made at each access, without i itself.

    Attributes:
        order: The parties along the ring.
        k: Even, or one less than the number of parties.
    """

    order: tuple[int, ...]
    k: int

    @cached_property
    def _places(self) -> tuple[int, ...]:
        places = [0] * len(self.order)
        for place, party in enumerate(self.order):
            places[party] = place
        return tuple(places)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, party: int) -> frozenset[int]:
        if self.k == len(self.order) - 1:
            return frozenset(self.order) - {party}
        place, half, order = self._places[party], self.k // 2, self.order
        first, end = place - half, place + half + 1
        if first < 0:
            window = order[first:] + order[:end]
        else:
            window = order[first:end] + order[: max(0, end - len(order))]
        return frozenset(window) - {party}

    def __iter__(self) -> Iterator[frozenset[int]]:
        return (self[party] for party in range(len(self)))


@dataclass(frozen=True)
class Topology:
    """The graph of a run. Parties are indices into the roster's order.

    Attributes:
        n: Parties.
        neighbours: Those that each party shares masks with, without itself.
        threshold: Shares that open a secret, among a party's neighbours and itself.
        committee: The parties that sign lists of survivors.
        quorum: Signatures that make a list valid.
        survivors: Fewest parties that a round may end with.
    """

    n: int
    neighbours: Neighbours
    threshold: int
    committee: frozenset[int]
    quorum: int
    survivors: int

    @property
    def recoverable(self) -> bool:
        """Whether a round can end without one of the parties."""
        return self.survivors < self.n


def topology(n: int, min_sites: int, seed: bytes) -> Topology:
    """The graph of `n` parties; the same for all who know the seed.

    Args:
        n: Parties, from 2.
        min_sites: Fewest parties whose sum may be opened, at most `n`.
        seed: 32 bytes that no party and no hub can choose alone.
    """
    if n < 2 or not 0 <= min_sites <= n or len(seed) != 32:
        raise RuntimeError("a graph has two parties at least, min_sites among them and a seed")
    survivors = max(2 * n // 3 + 1, min_sites)
    k = n - 1
    if n > FULL_GRAPH_PARTIES:
        k, threshold = degree(n, corrupt=tolerated(n), dropped=tolerated(n))
    if k == n - 1:
        order, threshold = tuple(range(n)), survivors
    else:
        order = permutation(n, _words(seed))
    return Topology(
        n=n,
        neighbours=Neighbours(order, k),
        threshold=threshold,
        committee=frozenset(order[: k + 1]),
        quorum=threshold,
        survivors=survivors,
    )


def tolerated(n: int) -> int:
    """Of `n` parties, how many may collude with the hub and how many others may drop out.

    Less than a third up to 64 parties; above a tenth, and never fewer than of 64.
    """
    if n <= FULL_GRAPH_PARTIES:
        return (n - 1) // 3
    return max(n // 10, tolerated(FULL_GRAPH_PARTIES))


@lru_cache(maxsize=256)
def degree(
    n: int,
    *,
    corrupt: int,
    dropped: int,
    failure_bits: int = FAILURE_BITS,
    grinding_bits: int = GRINDING_BITS,
    correctness_bits: int = CORRECTNESS_BITS,
) -> Degree:
    """The smallest k, and the threshold, for `corrupt` colluding and `dropped` missing parties.

    The condition of the module's docstring fails with probability at most
    2^-(failure_bits + grinding_bits), over the order. Parties that drop out at random leave fewer
    than `threshold` holders of any party with probability 2^-correctness_bits at most. Both are
    union bounds over places of the ring, with exact hypergeometric tails.

    Where no graph with fewer edges will do, all are neighbours.
    """
    if n < 2 or corrupt < 0 or dropped < 0:
        raise RuntimeError("a graph has two parties at least")
    insecure = -(failure_bits + grinding_bits) * math.log(2)
    unfinished = -correctness_bits * math.log(2) - math.log(n)
    excess = 0  # g of the module's docstring; it grows with k
    for k in range(2, n - 1, 2):
        log_pairs = math.log(n * (n - k + 1) / 2)
        while log_pairs + log_tail(n, corrupt, k, 2 * excess) > insecure:
            excess += 1
        threshold = k // 2 + 1 + excess
        if log_tail(n, dropped, k + 1, k + 2 - threshold) <= unfinished:
            return Degree(k, threshold)
    lowest, highest = (n + corrupt) // 2 + 1, n - dropped
    if lowest > highest:
        raise RuntimeError(f"no graph of {n} withstands {corrupt} colluding and {dropped} missing")
    return Degree(n - 1, min(max(2 * n // 3 + 1, lowest), highest))


def log_tail(population: int, marked: int, drawn: int, at_least: int) -> float:
    """Ln P(X >= at_least) of the marked among those drawn without replacement (hypergeometric)."""
    others = population - marked
    highest = min(marked, drawn)
    if at_least <= max(0, drawn - others):
        return 0.0
    if at_least > highest:
        return -math.inf
    log_first = (
        _log_choose(marked, at_least)
        + _log_choose(others, drawn - at_least)
        - _log_choose(population, drawn)
    )
    total = term = 1.0
    for x in range(at_least, highest):
        term *= (marked - x) * (drawn - x) / ((x + 1) * (others - drawn + x + 1))
        total += term
        if term < 1e-17 * total:  # the terms rise to the mode at most once, then fall
            break
    return min(0.0, log_first + math.log(total))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def permutation(n: int, words: Iterator[int]) -> tuple[int, ...]:
    """0 to n - 1 in an order drawn from uniform 64-bit words (Fisher-Yates, without bias)."""
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        limit = 2**64 // (last + 1) * (last + 1)
        word = next(words)
        while word >= limit:
            word = next(words)
        other = word % (last + 1)
        order[last], order[other] = order[other], order[last]
    return tuple(order)


def _words(seed: bytes) -> Iterator[int]:
    """64-bit words: SHA-256 of the seed and a counter."""
    for counter in count():
        block = hashlib.sha256(SEED_LABEL + seed + counter.to_bytes(8)).digest()
        yield from struct.unpack(">4Q", block)
