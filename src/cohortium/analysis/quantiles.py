"""Quantiles over sites by a shared search on a grid, without looking inside a small cell.

The grid is the data's own: multiples of ``1 / scale``. Mean and standard deviation bound every
quantile (one-sided Chebyshev), so no minimum or maximum is asked for. A search is an interval of
cells cut into at most `BINS` bins; each site counts its persons in each bin and below; the sum
tells in which bin an order statistic lies, and the next round cuts that bin. A bin of fewer than
`min_cell` persons is not cut: it is merged with its neighbours, pairwise along fixed edges (so the
edges tell nothing about a value), until at least `min_cell` persons are in, and the value is
interpolated within.

Reference: Hyndman & Fan 1996, type 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import Variable, VariableType

BINS = 256
MAX_LEVELS = 8
"""A search starts with at most 2**51 cells (`grid_scale`); each round takes 8 bits of them."""

_MAX_INDEX = 2.0**50
_RESOLUTION = 2.0**-20

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """An interval of cells and who looks for what in it.

    Attributes:
        group: Index of the group.
        variable: Index of the variable among the measured ones.
        lower: First cell.
        width: Cells per bin; a power of two.
        bins: How many; a power of two, at most `BINS`.
        ranks: 0-based order statistics that lie in the interval.
    """

    group: int
    variable: int
    lower: int
    width: int
    bins: int
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """Where an order statistic lies: in the cells `lower` to `upper` (inclusive).

    Attributes:
        fraction: Where in the interval, 0 to 1, if its persons are spread evenly.
    """

    group: int
    variable: int
    rank: int
    lower: int
    upper: int
    fraction: float


def reach(p: float) -> float:
    """How many standard deviations the `p` quantile can be from the mean; at least 2."""
    return max(math.sqrt(max(p / (1 - p), (1 - p) / p)), 2.0)


def recorded_scale(variable: Variable) -> float:
    """Cells per unit to which the values are recorded; infinite for a continuous variable."""
    if variable.type is not VariableType.REAL:
        return 1.0
    return 10.0**variable.decimals if variable.decimals is not None else math.inf


def grid_scale(variable: Variable, mean: float, sd: float, sds: float) -> float:
    """Cells per unit of the variable.

    A power of ten where the dictionary says how the values are recorded; for a continuous one the
    power of two next to ``2**20 / sd``, and likewise where the recorded grid has too many cells.
    """
    recorded = recorded_scale(variable)
    span = abs(mean) + sds * sd
    if recorded < math.inf and recorded * span < _MAX_INDEX:
        return recorded
    finest = sd * _RESOLUTION if sd > 0 else 0.0
    step = max(finest, span / _MAX_INDEX)
    return 2.0 ** -math.ceil(math.log2(step)) if step > 0 else 1.0


def needed_ranks(n: int, p: float, tail: int) -> tuple[int, ...]:
    """The order statistics of the type 7 quantile; none where a tail would be too small.

    At least `tail` persons must lie at or below the quantile and as many at or above it:
    a quantile further out is nearly a minimum or maximum.
    """
    position = (n - 1) * p
    low = math.floor(position)
    ranks = (low,) if position == low else (low, low + 1)
    if ranks[0] + 1 < tail or n - ranks[-1] < tail:
        return ()
    return ranks


def first_search(
    group: int,
    variable: int,
    ranks: Sequence[int],
    *,
    mean: float,
    sd: float,
    sds: float,
    scale: float,
) -> Search:
    """The interval within `sds` standard deviations of the mean."""
    lowest = math.floor((mean - sds * sd) * scale) - 1
    highest = math.ceil((mean + sds * sd) * scale) + 1
    width = 1
    while BINS * width < highest - lowest + 1 + width:
        width *= 2
    return Search(group, variable, lowest // width * width, width, BINS, tuple(sorted(set(ranks))))


def histogram(values: Floats, scale: float, lower: int, width: int, bins: int) -> Ints:
    """Persons below the interval (component 0) and in each bin; shape (BINS + 1,)."""
    places = np.floor((np.rint(values * scale) - lower) / width)
    inside = places[(places >= 0) & (places < bins)].astype(np.int64)
    counts = np.empty(BINS + 1, dtype=np.int64)
    counts[0] = np.count_nonzero(places < 0)
    counts[1:] = np.bincount(inside, minlength=BINS)
    return counts


def advance(search: Search, counts: Ints, min_cell: int) -> tuple[list[Search], list[Found]]:
    """What follows from a search's summed histogram: bins to cut further, and what is found."""
    edges = np.cumsum(counts[: search.bins + 1])
    narrower: dict[int, list[int]] = {}
    found = []
    for rank in search.ranks:
        place = int(np.searchsorted(edges, rank, side="right")) - 1
        if not 0 <= place < search.bins:
            continue  # Outside: the sites' data changed, or the moments were not exact.
        if counts[place + 1] >= min_cell and search.width > 1:
            narrower.setdefault(place, []).append(rank)
            continue
        step = 1
        while True:
            first = place // step * step
            persons = int(edges[first + step] - edges[first])
            if persons >= min_cell or step == search.bins:
                break
            step *= 2
        if persons >= min_cell:
            lower = search.lower + first * search.width
            upper = lower + step * search.width - 1
            fraction = (rank - int(edges[first]) + 0.5) / persons
            found.append(Found(search.group, search.variable, rank, lower, upper, fraction))
    bins = min(search.width, BINS)
    cut = [
        replace(
            search,
            lower=search.lower + place * search.width,
            width=search.width // bins,
            bins=bins,
            ranks=tuple(ranks),
        )
        for place, ranks in narrower.items()
    ]
    return cut, found


@dataclass(frozen=True)
class Quantile:
    """A released quantile; ``low <= the exact one <= high``, equal where it is exact."""

    value: float
    low: float
    high: float


def interpolate(p: float, n: int, found: Sequence[Found], scale: float, exact: bool) -> Quantile:
    """The type 7 quantile from its one or two order statistics.

    Args:
        p: Probability.
        n: Persons.
        found: In rank order, as `needed_ranks` asks.
        scale: Cells per unit.
        exact: Whether every value is on the grid; else a cell reaches half a step either way.
    """
    weight = (n - 1) * p - found[0].rank
    margin = 0.0 if exact else 0.5
    lows = [(statistic.lower - margin) / scale for statistic in found]
    highs = [(statistic.upper + margin) / scale for statistic in found]
    values = [_within(statistic, scale) for statistic in found]
    low, high = _between(lows, weight), _between(highs, weight)
    return Quantile(min(max(_between(values, weight), low), high), low, high)


def _within(statistic: Found, scale: float) -> float:
    if statistic.lower == statistic.upper:
        return statistic.lower / scale
    cells = statistic.upper - statistic.lower + 1
    return (statistic.lower - 0.5 + cells * statistic.fraction) / scale


def _between(ends: Sequence[float], weight: float) -> float:
    return ends[0] if ends[0] == ends[-1] else ends[0] + (ends[-1] - ends[0]) * weight
