"""What a site is told of the ranks of everybody: bins of persons, none of them a small cell."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Distribution

MAX_BINS = 2**14

_OFFSET = 2**60

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RankBins:
    """Bins of one variable, ascending.

    Attributes:
        edges: First cell of each bin but the first.
        persons: Of all sites, in each bin.
        tied: Whether all persons of the bin have the same value.
        scale: Cells per unit.
        exact: Whether two persons in a cell have the same value.
    """

    edges: Ints
    persons: Ints
    tied: Ints
    scale: float
    exact: bool

    def ranks(self, values: Floats) -> tuple[Floats, Floats]:
        """The mid-ranks of a site's persons, and how far off each may be at most.

        In a bin of c persons, m of them here, the j-th of those here has a rank from j to
        c - m + j; it is taken to lie as far in the bin as among those here.
        """
        places = np.rint(values * self.scale).astype(np.int64)
        at = np.searchsorted(self.edges, places, side="right")
        here = np.bincount(at, minlength=len(self.persons))
        before = np.cumsum(self.persons) - self.persons
        own = _midranks(places if self.exact else values) - (np.cumsum(here) - here)[at]
        c, m = self.persons[at].astype(np.float64), here[at]
        tied = self.tied[at] == 1
        inside = np.where(tied, (c + 1) / 2, 0.5 + c * (own - 0.5) / np.maximum(m, 1))
        above = inside - own
        doubt = np.where(tied, 0.0, np.maximum(np.maximum(above, c - m - above), 0.0))
        return np.asarray(before[at] + inside, dtype=np.float64), np.asarray(doubt)


def bins_of(of: Distribution, min_cell: int) -> RankBins:
    """As many bins as may be told, each of `min_cell` persons or more.

    A value that enough persons have is a bin of its own, unless beside it there are persons too few
    to be one.
    """
    persons = of.counts.sum(axis=1)
    n = int(persons.sum())
    enough = max(min_cell, -(-2 * n // MAX_BINS))
    last = _last_cells(persons, enough, min_cell)
    first = np.concatenate([[0], last[:-1] + 1]).astype(np.int64)
    sizes = np.add.reduceat(persons, first)
    tied = (first == last) & of.exact
    return RankBins(
        edges=roundest(of.cells[last[:-1]], of.cells[first[1:]]),
        persons=np.asarray(sizes, dtype=np.int64),
        tied=np.asarray(tied, dtype=np.int64),
        scale=of.scale,
        exact=of.exact,
    )


def _last_cells(persons: Ints, enough: int, min_cell: int) -> Ints:
    """The index of each bin's last cell."""
    reached = np.cumsum(persons).tolist()
    heavy = np.flatnonzero(persons >= enough).tolist()
    last: list[int] = []
    begin = 0
    for stop in [*heavy, len(persons)]:
        # The cells before the heavy one, from `begin`.
        while begin < stop:
            done = reached[begin - 1] if begin else 0
            end = bisect_left(reached, done + enough, begin, stop)
            if end < stop:
                last.append(end)
            elif reached[stop - 1] - done >= min_cell:
                last.append(stop - 1)
            elif last:
                last[-1] = stop - 1  # Too few for a bin: with the one before.
            else:
                break  # With the heavy one that follows.
            begin = min(end + 1, stop)
        if stop < len(persons):
            last.append(stop)
            begin = stop + 1
    return np.array(last, dtype=np.int64)


def roundest(below: Ints, above: Ints) -> Ints:
    """The roundest number above `below` and not above `above`: it tells least of either."""
    low, high = below + _OFFSET, above + _OFFSET
    apart = low ^ high
    for shift in (1, 2, 4, 8, 16, 32):
        apart |= apart >> shift
    return np.asarray((high & ~(apart >> 1)) - _OFFSET, dtype=np.int64)


def _midranks(values: npt.NDArray[np.int64] | Floats) -> Floats:
    """Average ranks, from 1."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[place])
